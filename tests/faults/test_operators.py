"""Faults that people make, clocks that are off, and more than anybody thought of."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from retouch.errors import TryLater
from retouch.jobs import Answer, Job, Lane, PutAnswer, PutJob, PutLane, Status
from retouch.registry import MODELS
from retouch.steps.reconcile import execution_ended
from tests.fakes import (
    PHOTO,
    QWEN,
    WAN,
    WANX,
    FakeClock,
    FakeExecution,
    FakeTask,
    Lost,
    World,
    settings,
    sidecar_json,
)
from tests.faults.dying import all_ended_well, dropped, queued
from tests.faults.rules import Machinery, all_jobs, check_pace, check_rules, play, play_for
from tests.faults.support import STAGES, Interruption, at_stage, now, only_job, put

EXECUTION_SECONDS: Final = 14_400.0
"""As in edit-job.asl.json."""


# --- executions ----------------------------------------


class Stopping(Machinery):
    """Stops executions from outside: each one when `due` says so, of its turns so far."""

    def __init__(self, world: World, due: Callable[[int], bool], *, told: bool, once: bool = True):
        super().__init__(world)
        self._due = due
        self._told = told
        self._once = once
        self._turns: dict[str, int] = {}
        self.stopped: dict[str, FakeExecution] = {}
        """The last one that was stopped of each job."""

    def _turn(self, execution: FakeExecution) -> None:
        if execution.due > self.world.clock.now():
            return
        turns = self._turns.get(execution.name, 0)
        self._turns[execution.name] = turns + 1
        job_id, fence = execution.payload["job_id"], execution.payload["fence"]
        if (self._once and job_id in self.stopped) or not self._due(turns):
            super()._turn(execution)
            return
        self.stopped[job_id] = execution
        execution.running = False
        if self._told:
            with suppress(TryLater):
                execution_ended(self.world, job_id, fence)

    def run(self) -> None:
        """Play to the end."""
        ends = self.world.clock.now() + 12 * 3600
        while not self.at_rest():
            assert self.world.clock.now() < ends, "no rest"
            self.step()


TOLD = pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])


@pytest.mark.fault(42)
@TOLD
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_42_an_execution_is_stopped_by_hand_before_any_of_its_turns(
    model: str, told: bool
) -> None:
    for turn in itertools.count():
        world = queued(model, "red", "blue")
        world.kicks.kick(world.lane_of(model))
        stopping = Stopping(world, turn.__eq__, told=told)

        stopping.run()

        if not stopping.stopped:
            break
        all_ended_well(world)
        assert {job.doubt for job in all_jobs(world)} == {None}
        check_rules(world)
    assert turn >= 2


@pytest.mark.fault(42)
@TOLD
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_42_an_execution_is_stopped_while_its_function_is_at_work(
    model: str, told: bool
) -> None:
    # The function goes on: stopping an execution does not stop what it has invoked.
    for number in itertools.count(1):
        world = queued(model, "red")
        world.dispatch(model)
        (execution,) = world.executions.running()
        world.clock.advance(30)

        def stop(world: World = world, execution: FakeExecution = execution) -> None:
            execution.running = False
            if told:
                with suppress(TryLater):
                    execution_ended(world, execution.payload["job_id"], execution.payload["fence"])

        interruption = Interruption(world, number, stop)
        while execution.running and execution.due < world.clock.now() + 3600:
            world.clock.advance(max(0.0, execution.due - world.clock.now()))
            world.turn(execution)
        if not interruption.happened:
            break
        play(world)

        all_ended_well(world)
        assert only_job(world).doubt is None
        check_rules(world, told_again=True)
    assert number > 4


@pytest.mark.fault(42)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_42_every_execution_is_stopped_for_minutes(model: str) -> None:
    world = queued(model, *"abc")
    world.provider.seconds = 60.0
    world.kicks.kick(world.lane_of(model))
    ends = world.clock.now() + 300
    stopping = Stopping(world, lambda _: world.clock.now() < ends, told=True, once=False)

    stopping.run()

    assert len(world.executions.started) > 10
    all_ended_well(world)
    assert len(world.provider.calls) == 3
    check_rules(world)


class TimingOut(Machinery):
    """Ends each execution after its four hours, as Step Functions does."""

    def __init__(self, world: World, *, told: bool):
        super().__init__(world)
        self._told = told
        self._begun: dict[str, float] = {}
        self.timed_out = 0

    def step(self, until: float | None = None) -> None:
        world = self.world
        for execution in world.executions.running():
            begun = self._begun.setdefault(execution.name, world.clock.now())
            if world.clock.now() - begun >= EXECUTION_SECONDS:
                self.timed_out += 1
                execution.running = False
                if self._told:
                    payload = execution.payload
                    execution_ended(world, payload["job_id"], payload["fence"])
        super().step(until)


@pytest.mark.fault(43)
@TOLD
def test_fault_43_an_execution_times_out_while_its_task_cannot_be_asked_after(told: bool) -> None:
    world = queued(WANX, "red", "blue")
    world.kicks.kick(world.lane_of(WANX))
    machinery = TimingOut(world, told=told)
    silent_until = world.clock.now() + 9 * 3600
    world.provider.answers["task-0001"] = TryLater("no answer", code="ProviderNotReached")

    while not machinery.at_rest():
        if world.clock.now() >= silent_until:
            world.provider.answers.clear()
        assert world.clock.now() < silent_until + 3600
        machinery.step(until=silent_until if world.clock.now() < silent_until else None)

    assert machinery.timed_out >= 2
    all_ended_well(world)
    assert {job.doubt for job in all_jobs(world)} == {None}
    check_rules(world)


@pytest.mark.fault(43)
@TOLD
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_43_an_execution_times_out_while_its_results_cannot_be_written(
    model: str, told: bool
) -> None:
    world = queued(model, "red", "blue")
    world.kicks.kick(world.lane_of(model))
    machinery = TimingOut(world, told=told)
    world.outbox.refused.add("red/red-1.png")
    closed_until = world.clock.now() + 9 * 3600

    while not machinery.at_rest():
        if world.clock.now() >= closed_until:
            world.outbox.refused.clear()
        assert world.clock.now() < closed_until + 2 * 3600
        machinery.step(until=closed_until if world.clock.now() < closed_until else None)

    all_ended_well(world)
    assert {job.doubt for job in all_jobs(world)} == {None}
    check_rules(world)


@pytest.mark.fault(44)
@pytest.mark.parametrize("model", [WANX, QWEN])
@pytest.mark.parametrize("wait", [0.0, 3.0, 30.0, 100.0, 3600.0])
def test_fault_44_an_execution_that_was_stopped_is_redriven_beside_its_successor(
    model: str, wait: float
) -> None:
    for turn in itertools.count():
        world = queued(model, "red", "blue")
        world.kicks.kick(world.lane_of(model))
        stopping = Stopping(world, turn.__eq__, told=True)
        redriven: set[str] = set()
        while not stopping.at_rest() or redriven < stopping.stopped.keys():
            assert world.clock.now() < 1_700_000_000 + 12 * 3600
            waiting = {k: e for k, e in stopping.stopped.items() if k not in redriven}
            due = {job_id: execution.due + wait for job_id, execution in waiting.items()}
            stopping.step(until=min(due.values(), default=None))
            for job_id, execution in waiting.items():
                if world.clock.now() >= due[job_id]:
                    execution.running = True  # where it was, with the same input
                    execution.due = world.clock.now()
                    redriven.add(job_id)
        if not stopping.stopped:
            break

        all_ended_well(world)
        assert {job.doubt for job in all_jobs(world)} == {None}
        check_rules(world, told_again=True)
    assert turn >= 2


@pytest.mark.fault(44)
@pytest.mark.parametrize("model", [WANX, QWEN])
@pytest.mark.parametrize("stage", STAGES[1:])
def test_fault_44_an_execution_is_run_again_by_hand_at_whatever_stage_its_job_is(
    model: str, stage: str
) -> None:
    world = World()
    for each in STAGES[: STAGES.index(stage) + 1]:
        at_stage(world, each, model)
    job = only_job(world)
    for fence in (0, job.fence, job.fence + 1):
        payload = {
            "job_id": job.job_id,
            "fence": fence,
            "mode": "sync" if model == QWEN else "async",
            "wait_seconds": 0,
        }
        for number in (1, 2):
            world.executions.start(f"by-hand-{fence}-{number}", payload)  # type: ignore[arg-type]

    play(world)

    all_ended_well(world)
    check_rules(world, told_again=True)


@pytest.mark.fault(44)
def test_fault_44_an_execution_of_an_earlier_admission_does_nothing_when_it_is_redriven() -> None:
    world = queued(QWEN, "red")
    world.dispatch(QWEN)
    (first,) = world.executions.running()
    first.running = False
    play_for(world, 300)  # taken for dead, and admitted again
    job = only_job(world)
    assert job.fence > 1

    first.running = True
    first.due = world.clock.now()
    play(world)

    all_ended_well(world)
    check_rules(world)


# --- cancelling ----------------------------------------


def cancelled(world: World, job: Job) -> Job:
    """The job once it has come to rest after somebody asked to cancel it, twice."""
    world.operate("cancel", job.job_id)
    world.operate("cancel", job.job_id)
    play(world)
    return now(world, job)


@pytest.mark.fault(45)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_45_a_queued_job_is_cancelled_and_never_sent(model: str) -> None:
    world = queued(model, "red", "blue")
    red, blue = all_jobs(world)

    answer = world.operate("cancel", red.job_id)

    assert (answer["status"], answer["could_not"]) == ("CANCELED", "")
    play(world)
    assert now(world, red).status is Status.CANCELED
    assert now(world, blue).status is Status.SUCCEEDED
    assert world.provider.billed == ["edit blue"]
    assert world.outbox.record("red")["status"] == "CANCELED"
    check_rules(world)


@pytest.mark.fault(45)
def test_fault_45_a_waiting_job_is_cancelled_and_its_image_does_not_revive_it() -> None:
    world = World()
    world.drop("red.png.json", sidecar_json(prompt="edit red"))
    job = only_job(world)

    assert cancelled(world, job).status is Status.CANCELED
    world.drop("red.png", PHOTO)
    play(world)

    assert now(world, job).status is Status.CANCELED
    assert world.provider.calls == []
    check_rules(world)


@pytest.mark.fault(45)
def test_fault_45_an_admitted_synchronous_job_is_cancelled_and_its_slot_is_free() -> None:
    world = queued(QWEN, "red")
    world.dispatch(QWEN)

    job = cancelled(world, only_job(world))

    assert job.status is Status.CANCELED
    assert world.provider.calls == []
    check_rules(world)


@pytest.mark.fault(45)
@pytest.mark.parametrize("taken", [True, False])
def test_fault_45_a_task_is_cancelled_if_the_provider_still_gives_it_up(taken: bool) -> None:
    world = queued(WANX, "red", "blue")
    world.dispatch()
    world.provider.takes_cancels = taken

    job = cancelled(world, all_jobs(world)[0])

    assert world.provider.cancels == ["task-0001"]
    record = world.outbox.record("red")
    assert record["cancel"]["answer"]
    if taken:
        assert (job.status, job.outputs, job.doubt) == (Status.CANCELED, (), None)
        assert record["cost"]["images"] == 0
    else:
        assert (job.status, len(job.outputs)) == (Status.SUCCEEDED, 1)
        assert record["cost"]["images"] == 1
    assert all_jobs(world)[1].status is Status.SUCCEEDED
    check_rules(world)


@pytest.mark.fault(45)
@pytest.mark.parametrize("model", [WANX, QWEN])
@pytest.mark.parametrize("stage", ["finalizing", "ended"])
def test_fault_45_what_the_provider_has_made_is_delivered_in_spite_of_a_cancel(
    model: str, stage: str
) -> None:
    world = World()
    for each in STAGES[: STAGES.index(stage) + 1]:
        at_stage(world, each, model)

    answer = world.operate("cancel", only_job(world).job_id)

    assert answer["did"] == ""
    assert answer["could_not"]
    play(world)
    all_ended_well(world)
    check_rules(world)


@pytest.mark.fault(45, 23)
@pytest.mark.parametrize("made", [True, False])
def test_fault_45_a_job_whose_call_has_no_known_outcome_is_cancelled(made: bool) -> None:
    world = queued(WANX, "red")
    world.provider.next_calls.append(Lost(made))
    world.provider.takes_cancels = True
    world.dispatch()
    assert only_job(world).status is Status.RESOLVING

    job = cancelled(world, only_job(world))

    assert (job.status, job.doubt) == (Status.CANCELED, None)
    assert len(world.provider.calls) == 1  # it is not sent again
    assert len(world.provider.cancels) == (1 if made else 0)
    check_rules(world)


@pytest.mark.fault(45, 24)
def test_fault_45_a_job_that_was_sent_again_keeps_its_doubt_when_it_is_cancelled() -> None:
    world = queued(WANX, "red")
    world.provider.next_calls += [Lost(made=True), Lost(made=False)]
    world.provider.shows_after = 10_000.0  # the first task is never seen in time
    world.kicks.kick(world.lane_of(WANX))
    while only_job(world).sent_again == 0 or only_job(world).status is not Status.RESOLVING:
        play_for(world, 5)

    job = cancelled(world, only_job(world))

    assert (job.status, job.sent_again) == (Status.CANCELED, 1)
    assert world.provider.billed == ["edit red"]
    assert job.doubt
    check_rules(world)


@pytest.mark.fault(45)
@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_45_a_cancel_comes_at_any_point_of_a_job_s_life(model: str, taken: bool) -> None:
    ends = set()
    for number in itertools.count(1):
        world = dropped(model, "red")
        world.provider.takes_cancels = taken
        asked: list[dict[str, Any]] = []

        def cancel(world: World = world, asked: list[dict[str, Any]] = asked) -> None:
            for job in all_jobs(world):
                asked.append(world.operate("cancel", job.job_id))

        interruption = Interruption(world, number, cancel)
        play(world, "red.png", "red.png.json")
        if not interruption.happened:
            break

        if not asked:  # there was no job yet
            all_ended_well(world)
            continue
        job = only_job(world)
        ends.add(job.status)
        assert job.status in (Status.CANCELED, Status.SUCCEEDED), asked
        assert len(world.provider.billed) <= 1
        if job.status is Status.CANCELED and job.task_id is None:
            assert world.provider.billed == []
        check_rules(world, told_again=True)
    assert ends == {Status.CANCELED, Status.SUCCEEDED}


# --- updates ----------------------------------------

STORED: Final[dict[str, dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "data" / "stored_by_54a071f.json").read_text("utf-8")
)
"""What the code of that commit stored of a job at each stage, its dispatch or call dead if it had to
be. The job's prompt is "edit red"; its files are red.png and red.png.json.
"""


def taken_over(name: str) -> World:
    """A world whose stored state is that of the code before."""
    found = STORED[name]
    model, state = name.split()
    world = World()
    world.clock.time = found["at"]
    if state != "WAITING":
        world.inbox.put("red.png", PHOTO)
    world.inbox.put("red.png.json", sidecar_json(model, prompt="edit red"))
    store: Any = world.store
    for doc in found["jobs"].values():
        job = Job.model_validate_json(json.dumps(doc))
        store._apply(PutJob(job))
        store.published_versions[job.job_id] = job.version
    store.unpublished_since.clear()
    for doc in found["lanes"].values():
        store._apply(PutLane(Lane.model_validate_json(json.dumps(doc))))
    for doc in found["answers"].values():
        store._apply(PutAnswer(Answer.model_validate_json(json.dumps(doc))))
    store.queues = {lane: sorted(queue.items()) for lane, queue in found["queues"].items()}
    store.latest = dict(found["latest"])
    store.waiting = {key: set(names) for key, names in found["waiting"].items()}
    for task in found["tasks"]:
        made = FakeTask(**task, model=model, listed=model == WANX)
        world.provider.tasks_made[made.task_id] = made
        world.provider.billed.append(made.prompt)
    for execution in found["executions"]:
        payload, due = execution["payload"], world.clock.now()
        world.executions.started[execution["name"]] = FakeExecution(
            execution["name"], payload, due + payload["wait_seconds"]
        )
    return world


@pytest.mark.fault(46)
@pytest.mark.parametrize("name", STORED)
def test_fault_46_a_job_that_the_code_before_left_at_any_stage_is_carried_on(name: str) -> None:
    world = taken_over(name)
    model, state = name.split()
    if state == "WAITING":
        world.drop("red.png", PHOTO)

    play(world)

    job = only_job(world)
    if state == "UNRESOLVED" or name == f"{QWEN} CREATING":
        # A person is asked, as before; and can answer.
        assert job.status is Status.UNRESOLVED
        how = ("adopt", "task-0001") if model == WANX else ("fail", None)
        answer = world.operate(how[0], job.job_id, how[1])
        assert answer["could_not"] == ""
        play(world)
    after = only_job(world)
    given_up = job.status is Status.UNRESOLVED and model == QWEN
    assert after.status is (Status.FAILED if given_up else Status.SUCCEEDED)
    assert world.provider.billed == ["edit red"]
    check_rules(world)


@pytest.mark.fault(46)
def test_fault_46_a_model_that_an_update_takes_out_keeps_its_jobs_until_it_is_back() -> None:
    world = queued(WAN, *"abcdefgh")
    world.dispatch(WAN)
    assert len(world.provider.billed) == 6  # some run, some wait
    without = {name: model for name, model in MODELS.items() if name != WAN}

    world.settings = settings(models=without)
    play_for(world, 3600)

    assert Status.FAILED not in {job.status for job in all_jobs(world)}
    alerts = [n for n in world.notices.notifications if n.attributes.get("kind") == "alert"]
    assert [alert.attributes["alert"] for alert in alerts] == ["lane-paused"]
    assert WAN in alerts[0].message["text"]
    assert len(world.provider.billed) == 6

    world.settings = settings()
    play(world)
    all_ended_well(world)
    check_rules(world)


@pytest.mark.fault(46)
@pytest.mark.parametrize("running", [1, 2, 10])
def test_fault_46_a_quota_that_an_update_changes_holds_from_then_on(running: int) -> None:
    world = queued(WANX, *"abcdefgh")
    world.kicks.kick(world.lane_of(WANX))
    play_for(world, 5)
    assert len(world.provider.billed) == 3
    model = MODELS[WANX]
    quota = replace(model.quota, running=running, creates=1)
    world.settings = settings(models={**MODELS, WANX: replace(model, quota=quota)})
    before = len(world.provider.calls)
    changed_at = world.clock.now()

    while not Machinery(world).at_rest():
        play_for(world, 2)
        slots = world.store.lane(world.lane_of(WANX)).slots
        started = [t for t in world.provider.tasks_made.values() if t.created_at > changed_at]
        open_ = [t for t in started if t.ends_at > world.clock.now()]
        assert len(open_) <= running + 1
        assert len(slots) <= max(3, running + 1)

    all_ended_well(world)
    sent = [call.at for call in world.provider.calls[before:]]
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert all(gap >= quota.interval - 0.001 for gap in gaps)


# --- clocks ----------------------------------------


class OffClock(FakeClock):
    """A clock that is read by machines whose own is off; time itself passes as ever."""

    off = 0.0

    def now(self) -> float:
        """See `retouch.ports.Clock`."""
        return self.time + self.off


class TrueClock(FakeClock):
    """What the clock of a world would say if it were right."""

    def __init__(self, clock: OffClock):
        super().__init__()
        self._clock = clock

    def now(self) -> float:
        """See `retouch.ports.Clock`."""
        return self._clock.time

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._clock.time += seconds


class Skewed(Machinery):
    """Each invocation of a function runs on a machine whose clock is off by up to 5 s."""

    def __init__(self, world: World, offset: Callable[[str], float]):
        clock = OffClock(world.clock.time)
        true = TrueClock(clock)
        world.clock = clock
        provider: Any = world.provider
        provider._clock = true
        executions: Any = world.executions
        executions._clock = true
        super().__init__(world)
        self._clock = clock
        self._offset = offset

    def _deliver_uploads(self) -> None:
        self._off("submit", super()._deliver_uploads)

    def _serve_kicks(self) -> None:
        self._off("dispatch", super()._serve_kicks)

    def _turn(self, execution: FakeExecution) -> None:
        if execution.due <= self._clock.time:
            due = execution.due
            execution.due = self._clock.time - 10.0  # due by whatever clock
            turned = self._clock.time
            self._off("turn", lambda: super(Skewed, self)._turn(execution))
            if execution.due == turned - 10.0:
                execution.due = due
            elif execution.running:
                wait = execution.payload["wait_seconds"] if not execution.finalizing else 0
                execution.due = self._clock.time + wait + (2.0**execution.failures - 1)

    def _sweep(self) -> None:
        self._off("reconcile", super()._sweep)

    def _off(self, function: str, run: Callable[[], None]) -> None:
        self._clock.off = self._offset(function)
        try:
            run()
        finally:
            self._clock.off = 0.0


FIXED = {"dispatch": 0.0, "turn": 5.0, "reconcile": 0.0, "submit": 5.0}
# No two clocks are further apart than 5 s: what ours say by the function, and the provider's.
CLOCKS: Final[dict[str, tuple[Callable[[str], float], float]]] = {
    "ours ahead": (lambda _: 5.0, 0.0),
    "ours behind": (lambda _: -5.0, 0.0),
    "the provider's ahead": (lambda _: 0.0, 5.0),
    "the provider's behind": (lambda _: 0.0, -5.0),
    "pollers ahead of dispatchers": (lambda name: FIXED[name], 0.0),
    "pollers ahead, with the provider": (lambda name: FIXED[name], 5.0),
    "pollers behind dispatchers": (lambda name: -FIXED[name], 0.0),
    "pollers behind, with the provider": (lambda name: -FIXED[name], -5.0),
}


CHANCES: Final = tuple(f"each invocation by chance, {seed}" for seed in range(6))


def clocks(name: str) -> tuple[Callable[[str], float], float]:
    """How far each clock is off: ours by the function or the invocation, and the provider's."""
    if name in CLOCKS:
        return CLOCKS[name]
    chance = random.Random(name)
    return lambda _: chance.choice([-2.5, 0.0, 2.5]), chance.choice([-2.5, 2.5])


OFF = pytest.mark.parametrize("off", [*CLOCKS, *CHANCES])


@pytest.mark.fault(47)
@OFF
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_47_clocks_that_are_off_send_nothing_twice_and_end_no_lease_early(
    model: str, off: str
) -> None:
    world = World()
    names = [f"job{number}" for number in range(12)]
    for name in names:
        put(world, name, model)
    ours, world.provider.skew = clocks(off)
    skewed = Skewed(world, ours)
    begun = world.clock.time
    skewed.uploads = [(begun + 0.1 * n, f"{name}.png.json") for n, name in enumerate(names)]

    while not skewed.at_rest():
        assert world.clock.time < begun + 3600
        skewed.step()

    all_ended_well(world)
    assert {job.fence for job in all_jobs(world)} == set(range(1, 13)), "a lease ended early"
    assert {job.doubt for job in all_jobs(world)} == {None}
    check_rules(world, pace=False)


@pytest.mark.fault(47)
@pytest.mark.parametrize("off", CLOCKS)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_47_clocks_that_are_off_keep_the_pace_and_the_window(model: str, off: str) -> None:
    # Of the functions as a whole. Where every single invocation has another time, no stored one says
    # when the next call may be sent, and the provider's own limit is what is left (fault 25).
    world = World()
    names = [f"job{number}" for number in range(12)]
    for name in names:
        put(world, name, model)
    ours, world.provider.skew = clocks(off)
    skewed = Skewed(world, ours)
    begun = world.clock.time
    skewed.uploads = [(begun + 0.1 * n, f"{name}.png.json") for n, name in enumerate(names)]

    while not skewed.at_rest():
        assert world.clock.time < begun + 3600
        skewed.step()

    check_pace(world)


@pytest.mark.fault(47, 23)
@OFF
@pytest.mark.parametrize("made", [True, False])
def test_fault_47_a_task_whose_answer_was_lost_is_told_from_others_by_clocks_that_are_off(
    made: bool, off: str
) -> None:
    world = World()
    names = [f"job{number}" for number in range(8)]
    for name in names:
        put(world, name)
    ours, world.provider.skew = clocks(off)
    skewed = Skewed(world, ours)
    scripted: list[Any] = [Lost(made)]
    begun = world.clock.time
    skewed.uploads = [(begun + 0.1 * n, f"{name}.png.json") for n, name in enumerate(names)]

    while not skewed.at_rest():
        assert world.clock.time < begun + 3600
        if len(world.provider.calls) == 3 and scripted:
            world.provider.next_calls.append(scripted.pop())  # in the middle of others
        skewed.step()

    all_ended_well(world)
    for job in all_jobs(world):
        assert world.provider.tasks_made[job.task_id or ""].prompt == job.prompt
    assert sum(job.adopted for job in all_jobs(world)) == made
    assert sum(job.sent_again for job in all_jobs(world)) == (not made)
    check_rules(world, pace=False)


# --- very many ----------------------------------------


@pytest.mark.fault(48)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_48_very_many_images_are_dropped_at_once(model: str) -> None:
    # 10,000 are simulated elsewhere.
    count = 300
    world = World()
    world.provider.seconds = 5.0
    chance = random.Random(48)

    for number in range(count):
        put(world, f"{chance.randrange(10**6):06d}-{number:03d}", model)
    events = list(world.inbox.objects)
    chance.shuffle(events)
    machinery = Machinery(world)
    begun = world.clock.now()
    machinery.uploads = [(begun + 0.01 * n, key) for n, key in enumerate(events)]
    lane = world.lane_of(model)

    while not machinery.at_rest():
        assert world.clock.now() < begun + 3600
        machinery.step()
        assert len(world.store.lane(lane).slots) <= (4 if model == QWEN else 3)

    all_ended_well(world)
    assert len(all_jobs(world)) == count
    by_prompt = {job.prompt: job for job in all_jobs(world)}
    sent = [by_prompt[call.prompt].created_at for call in world.provider.calls]
    # Synchronous calls that are open at the same time may begin in another order.
    near = 4 if model == QWEN else 0
    assert all(abs(at - there) <= near for there, at in enumerate(_ranks(sent)))
    assert len(world.outbox.results()) == count
    assert world.executions.running() == []
    check_rules(world)


def _ranks(values: list[float]) -> list[int]:
    """Where each value stands among all."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0] * len(values)
    for rank, index in enumerate(order):
        ranks[index] = rank
    return ranks
