"""Jobs that are played to their end, each time with a process that dies at another effect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from retouch.jobs import Status
from retouch.steps.submit import submit
from tests.fakes import WANX, Moment, World
from tests.faults.rules import all_jobs, check_rules, play
from tests.faults.support import put


def dropped(model: str = WANX, *names: str) -> World:
    """A world with these drops in its inbox, and none of their events delivered."""
    world = World()
    for name in names or ("red",):
        put(world, name, model)
    return world


def queued(model: str, *names: str) -> World:
    """A world with these jobs in their lane's backlog, their kick delivered by nobody yet."""
    world = dropped(model, *names)
    for name in names or ("red",):
        submit(world, f"{name}.png.json")
        world.clock.advance(0.01)  # so that they queue in this order
    world.kicks.sent.clear()
    return world


def all_ended_well(world: World) -> None:
    """Every job has succeeded, and each was made once."""
    jobs = all_jobs(world)
    assert {job.status for job in jobs} == {Status.SUCCEEDED}, [job.status for job in jobs]
    assert sorted(world.provider.billed) == sorted(job.prompt or "" for job in jobs)


@dataclass
class Death:
    """What was known when a process died: at which effect, and how far the job had come."""

    world: World
    name: str
    moment: Moment
    status: Status
    calls: int
    """Calls that had reached the provider."""
    executions: int


def deaths(model: str, *names: str) -> Iterator[Death]:
    """Plays jobs from the backlog to the end, each time with a death at another effect.

    The process that dies is whichever has that effect; its queue or its state machine tries again.
    """
    for moment in Moment:
        for number in itertools.count(1):
            world = queued(model, *names)
            world.kicks.kick(world.lane_of(model))
            target = len(world.effects.log) + number
            seen: list[Death] = []

            def plan(
                at: int,
                name: str,
                world: World = world,
                target: int = target,
                seen: list[Death] = seen,
                moment: Moment = moment,
            ) -> Moment | None:
                if at != target:
                    return None
                first = all_jobs(world)[0]
                calls, started = len(world.provider.calls), len(world.executions.started)
                seen.append(Death(world, name, moment, first.status, calls, started))
                return moment

            world.effects.plan = plan
            play(world)
            if not seen:
                break
            check_rules(world, told_again=True)
            yield seen[0]
