"""One run: from the first drop until nothing moves any more."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Final

from tests.fakes import START
from tests.simulation.aws import ROUND_SECONDS, Chances, Stack
from tests.simulation.workload import Order, Person, drop, enter, orders, settings_of_a_stack

_QUIET_ROUNDS: Final = 3
_STUCK_SECONDS: Final = 6 * 3600.0
"""Nothing that waits for anything but a person waits for so long without a write."""
_ARREARS_FROM: Final = 4000.0
_ARREARS_SECONDS: Final = 400.0
"""Once in a run, in the region that most jobs go to, the account is refused for so long."""


@dataclass
class Run:
    """A run and what is left of it.

    With `submitted` every object is dropped and every event delivered; without, the jobs are entered
    into the backlogs as `submit` enters them.
    """

    jobs: int
    chances: Chances
    seed: int
    submitted: bool
    times: int = 1
    """How many times the usual quotas the accounts have."""
    stuck: bool = False
    wall_seconds: float = 0.0
    began_at: float = START
    ended_at: float = 0.0
    """When the last job was written; virtual."""

    def __post_init__(self) -> None:
        self.stack = Stack(settings_of_a_stack(self.times), str(self.seed), self.chances)
        self.orders: list[Order] = orders(self.jobs, str(self.seed))
        self.person = Person(self.stack)
        self._quiet = 0

    def play(self) -> None:
        """Run it to rest."""
        began = time.perf_counter()
        stack, state = self.stack, random.getstate()
        random.seed(self.seed)  # `poll` spreads its questions by chance
        try:
            if self.submitted:
                drop(stack, self.orders)
            else:
                enter(stack, self.orders)
            if self.chances.faults:
                account = stack.accounts["beijing"]
                account.refused = (START + _ARREARS_FROM, START + _ARREARS_FROM + _ARREARS_SECONDS)
            if self.chances.crashes or self.chances.faults:
                self.person.cancel_some(self.orders, within=self.jobs * 2.0)
                stack.engine.after(3600.0, self.person.visit)
            stack.engine.after(ROUND_SECONDS, self._round)
            stack.engine.run()
        finally:
            random.setstate(state)
        self.ended_at = stack.watch.last_progress
        self.wall_seconds = time.perf_counter() - began

    def _round(self) -> None:
        """The schedule's minute, unless everything has come to rest."""
        stack = self.stack
        self._quiet = self._quiet + 1 if self._at_rest() else 0
        self.stuck = stack.engine.now - stack.watch.last_progress > _STUCK_SECONDS
        if self._quiet > _QUIET_ROUNDS or self.stuck:
            self.person.at_work = False
            return
        stack.engine.after(ROUND_SECONDS, self._round)
        stack.reconcile()

    def _at_rest(self) -> bool:
        latest = self.stack.store.latest
        if self.person.waiting or not self.stack.at_rest():
            return False
        return all(order.sidecar in latest for order in self.orders)
