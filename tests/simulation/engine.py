"""Virtual time, and processes that interleave in it.

Events wait in one heap, ordered by time and then by when they were entered, and are run one after the
other. A process is ordinary synchronous code that an event runs. Where it takes time (`sleep`) it is
suspended in the middle, whatever its call stack, and everything that is due before goes first: other
processes see what it has written so far, and it sees what they have written when it goes on. So two
dispatchers, a poll and a reconcile really meet, as they do on AWS, at every effect that takes time.

For that each suspended process keeps a thread of its own, but only the holder of the one baton ever
runs: there is no parallelism, and the same seed gives the same run. Where nothing else is due before a
process goes on, which is nearly always so, its time is simply moved on, without a change of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from threading import Event, Lock, Thread
from typing import TypeAlias

from tests.fakes import Crash

Action: TypeAlias = Callable[[], object]


class NoRest(AssertionError):
    """The simulated world goes on for longer than it may."""


@dataclass
class Process:
    """One invocation of a function; it does not outlive `killed_at`."""

    kind: str
    killed_at: float
    effects: int = 0
    touched: str | None = None
    """The job that it wrote last."""
    subjects: list[str] = field(default_factory=list)
    """What it has still to work on: jobs, by id."""


class Engine:
    """The heap of what is due, and the one who runs it."""

    def __init__(self, start: float, limit: float = float("inf")):
        self.now = start
        self.process: Process | None = None
        """The one that runs at this moment; None for the machinery itself."""
        self.limit = limit
        self.switches = 0
        self._due: list[tuple[float, int, Action | Lock]] = []
        """What to run then, or the lock that a suspended process waits at."""
        self._numbers = count()
        self._idle: list[Lock] = []
        self._over = Event()
        self._error: BaseException | None = None

    def at(self, moment: float, action: Action) -> None:
        """Run `action` then."""
        heappush(self._due, (max(moment, self.now), next(self._numbers), action))

    def after(self, seconds: float, action: Action) -> None:
        """Run `action` so much later."""
        self.at(self.now + seconds, action)

    def sleep(self, seconds: float) -> None:
        """Let time pass for the process that runs; everything due before goes first.

        Raises:
            Crash: the process is not allowed to live that long.
        """
        if seconds <= 0:
            return
        until = self.now + seconds
        process = self.process
        if process is not None and until > process.killed_at:
            self._sleep_until(max(process.killed_at, self.now))
            raise Crash(f"{process.kind} timed out")
        self._sleep_until(until)

    def _sleep_until(self, until: float) -> None:
        if self._over.is_set():
            raise Crash("the run was given up")
        if not self._due or self._due[0][0] > until:
            self.now = until
            return
        process = self.process
        turn = Lock()
        turn.acquire()
        heappush(self._due, (until, next(self._numbers), turn))
        self.switches += 1
        if self._idle:
            self._idle.pop().release()
        else:
            Thread(target=self._work, daemon=True).start()
        turn.acquire()
        if self._over.is_set():
            raise Crash("the run was given up")
        self.process = process

    def run(self) -> None:
        """Run until nothing is due any more.

        Raises:
            NoRest: something is still due after the limit.
        """
        self._serve(None)
        self._over.wait()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        place = Lock()
        place.acquire()
        while True:
            self._serve(place)
            if self._over.is_set():
                return
            place.acquire()

    def _serve(self, place: Lock | None) -> None:
        """Run what is due until a suspended process has its turn, and hand it the baton.

        The thread then waits at its `place`, if it has one, until a process is suspended again.
        """
        try:
            while self._due and not self._over.is_set():
                self.now, _, what = heappop(self._due)
                if self.now > self.limit:
                    raise NoRest("there is still something due after the limit")
                if not callable(what):
                    if place is not None:
                        self._idle.append(place)
                    what.release()
                    return
                self.process = None
                what()
        except BaseException as error:  # noqa: BLE001  raised again where `run` was called
            if not self._over.is_set():
                self._error = error
        if not self._over.is_set():
            self._give_up()

    def _give_up(self) -> None:
        """Send every thread home; there are suspended processes only if something went wrong."""
        self._over.set()
        for place in self._idle:
            place.release()
        for _, _, what in self._due:
            if not callable(what):
                what.release()
