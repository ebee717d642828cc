"""Ten thousand jobs with crashes and provider faults, and twenty thousand without, keep all promises.

The bounds of utilisation follow from how the lanes work; what was measured stands beside them.

Without faults a lane of two has a third task waiting at the provider, so a place is idle only where
both tasks end before either end is noticed (half the time between two questions, one second) and made
up for (about another). Measured are 96 to 99 %.

With 1 % crashes and 5 % faults the main lane makes a create every 7 s. One in ninety is throttled or
does not reach the provider, so nearly always it has been less than half an hour since, for which the
lane does without its margin: a place is then idle until the end of each task is noticed and made up
for, 2 s after each 10 s, which leaves 83 %. Each dispatch that dies stops the lane for the 80 s until
its kick comes again, and each answer that is lost for 20 to 45 s, on purpose; together that is some
15 % of the time. Measured are 70 to 76 %, as chance will have it.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from retouch.jobs import Job
from retouch.ports import App
from retouch.registry import QUERIES_PER_SECOND
from retouch.steps import dispatch
from tests.simulation.aws import Chances
from tests.simulation.engine import Engine
from tests.simulation.report import Figures, figures, text
from tests.simulation.run import Run

MAIN = "beijing:wanx2.1-imageedit"


def played(
    jobs: int, chances: Chances, *, seed: int = 1, submitted: bool = True, times: int = 1
) -> Figures:
    run = Run(jobs, chances, seed, submitted=submitted, times=times)
    run.play()
    return figures(run)


@pytest.mark.timeout(1200)
def test_ten_thousand_jobs_survive_crashes_and_faults() -> None:
    seen = played(10_000, Chances(crashes=0.01, faults=0.05, messages=0.01))
    print(text(seen))

    assert seen.bad_duplicates == []
    assert seen.bad_losses == []
    assert seen.bad_slots == []
    assert seen.bad_limits == []
    assert seen.bad_ends == []
    assert seen.bad_errors == []
    assert seen.timed_out == {}
    assert seen.lanes[MAIN].utilisation > 0.6
    # It was no idle walk.
    assert sum(seen.crashed.values()) > 300
    assert sum(seen.injected.values()) > 2000
    assert seen.resolution.count > 30
    assert seen.recovery_by["dispatch"].most < 400
    assert seen.recovery_by["poll"].p99 < 60


@pytest.mark.timeout(1200)
def test_twenty_thousand_jobs_keep_every_lane_busy() -> None:
    seen = played(20_000, Chances(), submitted=False)
    print(text(seen))

    assert seen.violations == []
    assert seen.statuses == {"SUCCEEDED": 20_000}
    assert seen.billed == 20_000
    assert seen.errors == {}
    assert {lane.refused_for_pace for lane in seen.lanes.values()} == {0}
    assert min(lane.utilisation for lane in seen.lanes.values()) > 0.94


@pytest.mark.timeout(600)
def test_large_quotas_do_not_take_more_queries_than_there_are() -> None:
    seen = played(1_500, Chances(crashes=0.01, faults=0.05, messages=0.01), times=20)

    assert seen.violations == []
    assert max(seen.most_queries.values()) == QUERIES_PER_SECOND  # they are all used
    assert seen.lanes[MAIN].most_in_flight > 20


@pytest.mark.timeout(600)
def test_a_table_that_is_throttled_loses_nothing() -> None:
    seen = played(500, Chances(crashes=0.05, faults=0.1, messages=0.02, throttles=0.03), seed=3)

    assert seen.violations == []


def test_the_same_seed_gives_the_same_figures() -> None:
    chances = Chances(crashes=0.03, faults=0.1, messages=0.02)

    first, second = (played(150, chances, seed=5) for _ in range(2))
    other = played(150, chances, seed=6)

    assert replace(first, wall_seconds=0.0) == replace(second, wall_seconds=0.0)
    assert other.calls != first.calls


def test_it_notices_a_call_that_is_repeated_blindly(monkeypatch: pytest.MonkeyPatch) -> None:
    # Zeros say something only where they can be anything else.
    def send_again(app: App, job: Job, _: str, untold: tuple[Job, ...] = ()) -> bool:
        dispatch.requeue(app, job, untold=untold)
        return True

    monkeypatch.setattr(dispatch, "lose", send_again)

    seen = played(400, Chances(crashes=0.01, faults=0.2), seed=7)

    assert seen.bad_duplicates


def test_processes_interleave_where_they_take_time() -> None:
    engine = Engine(100.0)
    said: list[tuple[float, str]] = []

    def process(name: str, *pauses: float) -> None:
        for pause in pauses:
            said.append((engine.now, name))
            engine.sleep(pause)
        said.append((engine.now, name))

    engine.at(100.0, lambda: process("a", 2.0, 2.0))
    engine.at(101.0, lambda: process("b", 2.0))
    engine.after(3.5, lambda: process("c"))
    engine.run()

    assert said == [(100, "a"), (101, "b"), (102, "a"), (103, "b"), (103.5, "c"), (104, "a")]


def test_what_goes_wrong_in_a_process_ends_the_run() -> None:
    engine = Engine(0.0)

    def fail() -> None:
        engine.sleep(1.0)
        raise ValueError("broken")

    engine.at(0.0, lambda: engine.sleep(5.0))
    engine.at(0.5, fail)

    with pytest.raises(ValueError, match="broken"):
        engine.run()


def test_no_thread_outlives_a_run() -> None:
    before = threading.active_count()
    played(50, Chances())

    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.name.endswith("(_work)"):
            thread.join(timeout=10)
    assert threading.active_count() == before
