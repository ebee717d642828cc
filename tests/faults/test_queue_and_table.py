"""Faults of the queues, the table and the state machine, and of processes that die between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from retouch.errors import Conflict, TryLater
from retouch.jobs import Job, Status, Writes
from retouch.registry import Json
from retouch.steps.poll import poll
from retouch.steps.submit import submit
from tests.fakes import QWEN, WAN, WANX, Crash, FakeTask, Moment, World
from tests.faults.dying import all_ended_well, deaths, dropped, queued
from tests.faults.rules import Machinery, all_jobs, check_rules, play, play_for
from tests.faults.support import STORED, Interruption, at_stage, now, only_job

EVENTS = ("red.png", "red.png.json")


# --- deliveries at the same time ----------------------------------------


@pytest.mark.fault(16)
@pytest.mark.parametrize("again", EVENTS)
def test_fault_16_an_upload_is_delivered_again_at_any_point_of_its_first_delivery(
    again: str,
) -> None:
    for number in itertools.count(1):
        world = dropped()

        def redelivered(world: World = world) -> None:
            with suppress(TryLater):
                submit(world, again)

        interruption = Interruption(world, number, redelivered)
        with suppress(TryLater):
            submit(world, "red.png.json")
        if not interruption.happened:
            break
        play(world, *EVENTS)

        all_ended_well(world)
        assert len(world.store.jobs) == 1
        check_rules(world, told_again=True)
    assert number > 5  # the loop went through the effects there are


@pytest.mark.fault(16)
def test_fault_16_a_bad_drop_is_delivered_again_at_any_point_of_its_first_delivery() -> None:
    for number in itertools.count(1):
        world = World()
        world.inbox.put("red.png.json", b"{")

        def redelivered(world: World = world) -> None:
            with suppress(TryLater):
                submit(world, "red.png.json")

        interruption = Interruption(world, number, redelivered)
        with suppress(TryLater):
            submit(world, "red.png.json")
        if not interruption.happened:
            break
        play(world, "red.png.json")

        assert only_job(world).status is Status.REJECTED
        check_rules(world)
    assert number > 4


@pytest.mark.fault(16)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_16_a_kick_is_delivered_again_at_any_point_of_its_first_delivery(model: str) -> None:
    for number in itertools.count(1):
        world = queued(model, "one", "two")

        def redelivered(world: World = world) -> None:
            with suppress(TryLater):
                world.dispatch(model)

        interruption = Interruption(world, number, redelivered)
        with suppress(TryLater):
            world.dispatch(model)
        if not interruption.happened:
            break
        play(world)

        all_ended_well(world)
        check_rules(world, told_again=True)
    assert number > 5


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    ("model", "stage"),
    [(WANX, "running"), (WANX, "finalizing"), (QWEN, "running"), (QWEN, "finalizing")],
)
@pytest.mark.parametrize("to_the_end", [False, True], ids=["one turn", "to the end"])
def test_fault_16_a_state_runs_again_while_its_first_run_still_goes_on(
    model: str, stage: str, to_the_end: bool
) -> None:
    for number in itertools.count(1):
        world = World()
        for each in ("dropped", "queued", "running", "finalizing")[: 3 + (stage == "finalizing")]:
            at_stage(world, each, model)
        job = only_job(world)
        world.clock.advance(60)

        def run(world: World = world, job: Job = job) -> None:
            with suppress(TryLater):
                if stage == "finalizing":
                    world.finalize(job.job_id, job.fence)
                elif model == QWEN:
                    world.generate(job.job_id, job.fence)
                else:
                    poll(world, job.job_id, job.fence)

        def again(world: World = world, run: Callable[[], None] = run) -> None:
            run()
            if to_the_end:  # so that the first run wakes up in another world
                play_for(world, 60)

        interruption = Interruption(world, number, again)
        run()
        if not interruption.happened:
            break
        play(world)

        all_ended_well(world)
        check_rules(world, told_again=True)
    assert number > 4


# --- kicks ----------------------------------------


class Lossy(Machinery):
    """Loses the kicks that `reconcile` did not send, or one of them."""

    def __init__(self, world: World, lost: int | None = None):
        super().__init__(world)
        self.lost = lost
        self.seen = 0
        self.swept = False

    def _sweep(self) -> None:
        self._lose()
        super()._sweep()
        self.swept = True

    def _serve_kicks(self) -> None:
        if not self.swept:
            self._lose()
        self.swept = False
        super()._serve_kicks()

    def _lose(self) -> None:
        kept = []
        for lane in self.world.kicks.sent:
            self.seen += 1
            if self.lost is not None and self.seen != self.lost:
                kept.append(lane)
        self.world.kicks.sent[:] = kept


@pytest.mark.fault(17)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_17_every_kick_is_lost_but_those_of_the_schedule(model: str) -> None:
    world = dropped(model, *"abcdefgh")
    for name in "abcdefgh":
        submit(world, f"{name}.png.json")
    machinery = Lossy(world)
    begun = world.clock.now()

    while not machinery.at_rest():
        assert world.clock.now() < begun + 3600
        machinery.step()

    all_ended_well(world)
    first = min(call.at for call in world.provider.calls)
    assert first - begun < 61
    check_rules(world)


@pytest.mark.fault(17)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_17_any_one_kick_is_lost(model: str) -> None:
    for lost in itertools.count(1):
        world = dropped(model, *"abcde")
        machinery = Lossy(world, lost)
        machinery.uploads = [(world.clock.now(), f"{name}.png.json") for name in "abcde"]
        begun = world.clock.now()

        while not machinery.at_rest():
            assert world.clock.now() < begun + 600
            machinery.step()

        all_ended_well(world)
        check_rules(world)
        if machinery.seen < lost:
            break
    assert lost > 5


# --- two writers ----------------------------------------


@pytest.mark.fault(18)
@pytest.mark.parametrize("stall", [0.0, 0.3, 40.0])
@pytest.mark.parametrize("model", [WANX, WAN, QWEN])
def test_fault_18_a_second_dispatcher_runs_at_any_point_of_the_first(
    model: str, stall: float
) -> None:
    for number in itertools.count(1):
        world = queued(model, *"abcdefg")

        def second(world: World = world) -> None:
            world.clock.advance(stall)
            with suppress(TryLater):
                world.dispatch(model, seconds=75)

        interruption = Interruption(world, number, second)
        with suppress(TryLater):
            world.dispatch(model, seconds=75)
        if not interruption.happened:
            break
        play(world)

        all_ended_well(world)
        check_rules(world)
    assert number > 10


@pytest.mark.fault(18)
def test_fault_18_a_writer_that_slept_through_everything_harms_nobody() -> None:
    # The first is stopped just before its call for so long that it is taken for dead; then it goes on.
    world = queued(WANX, "one", "two", "three")

    def long_sleep() -> None:
        play_for(world, 1000)

    creates = Interruption(world, 10**6, long_sleep)
    world.effects.plan = lambda _, name: (
        None if name != "create" or creates.happened else _then(creates, long_sleep)
    )
    with suppress(TryLater):
        world.dispatch()
    play(world)

    jobs = all_jobs(world)
    # Its call was made in spite of all, after the job had been sent again: the job must say so.
    for job in jobs:
        made = world.provider.billed.count(job.prompt or "")
        assert made == 1 or (made == 2 and job.doubt), (made, job.doubt)
        assert job.status is Status.SUCCEEDED
    check_rules(world)


def _then(interruption: Interruption, action: Callable[[], None]) -> None:
    interruption.happened = True
    action()


# --- the table ----------------------------------------


class Refusing:
    """Refuses the `number`th write to the table, and for `seconds` every other one."""

    def __init__(self, world: World, number: int, *, seconds: float = 0.0):
        self._world = world
        self._number = number
        self._seconds = seconds
        self._count = 0
        self._until: float | None = None
        self.refused = 0
        world.effects.throttle = self

    def __call__(self, name: str) -> bool:
        if name not in STORED:
            return False
        self._count += 1
        now_ = self._world.clock.now()
        if self._count == self._number:
            self._until = now_ + self._seconds
        refuse = self._until is not None and (self._count == self._number or now_ < self._until)
        self.refused += refuse
        return refuse


@pytest.mark.fault(19)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_19_the_table_throttles_any_one_write(model: str) -> None:
    for number in itertools.count(1):
        world = dropped(model, "red", "blue")
        refusing = Refusing(world, number)

        play(world, "red.png", "red.png.json", "blue.png", "blue.png.json")

        if not refusing.refused:
            break
        all_ended_well(world)
        check_rules(world, told_again=True)
    assert number > 20


@pytest.mark.fault(19)
@pytest.mark.parametrize("seconds", [3.0, 60.0, 600.0])
def test_fault_19_the_table_throttles_every_write_for_a_while_from_any_point_on(
    seconds: float,
) -> None:
    for number in itertools.count(1):
        world = dropped(WANX, "red", "blue")
        refusing = Refusing(world, number, seconds=seconds)

        play(world, "red.png", "red.png.json", "blue.png", "blue.png.json")

        if not refusing.refused:
            break
        # Also where a task had been made and could not be recorded: it is found in the list.
        all_ended_well(world)
        check_rules(world, told_again=True)
    assert number > 20


@pytest.mark.fault(19)
def test_fault_19_the_table_throttles_for_a_while_around_a_call_that_leaves_no_task() -> None:
    held = 0
    for number in itertools.count(1):
        world = dropped(QWEN, "red")
        refusing = Refusing(world, number, seconds=60.0)

        play(world, *EVENTS)

        if not refusing.refused:
            break
        job = only_job(world)
        assert world.provider.billed in (["edit red"], [])
        if job.status is not Status.SUCCEEDED:
            # Its answer could not be kept. Nobody can know more, so a person is asked.
            held += 1
            assert job.status is Status.UNRESOLVED
            assert job.doubt
            assert world.outbox.record("red")["doubt"] == job.doubt
        check_rules(world, told_again=True)
    assert number > 10
    assert held < number / 4


@pytest.mark.fault(19)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_19_a_transaction_conflicts_at_any_one_commit(model: str) -> None:
    def cancelled() -> None:
        raise Conflict("a write met another: TransactionConflict")

    for number in itertools.count():
        world = dropped(model, "red", "blue")
        world.store.before_commit.extend([lambda: None] * number)
        world.store.before_commit.append(cancelled)

        play(world, "red.png", "red.png.json", "blue.png", "blue.png.json")

        if world.store.before_commit:
            break
        all_ended_well(world)
        check_rules(world)
    assert number > 8


@pytest.mark.fault(19)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_19_any_one_commit_is_made_though_the_table_says_it_is_busy(model: str) -> None:
    for number in itertools.count(1):
        world = dropped(model, "red", "blue")
        count = itertools.count(1)
        commit = world.store.commit

        def said_to_fail(
            writes: Writes,
            commit: Callable[[Writes], None] = commit,
            count: Iterator[int] = count,
            number: int = number,
        ) -> None:
            commit(writes)
            if next(count) == number:
                raise TryLater("InternalServerError", code="TableThrottled")

        world.store.commit = said_to_fail  # type: ignore[method-assign]

        play(world, "red.png", "red.png.json", "blue.png", "blue.png.json")

        if next(count) <= number:
            break
        for job in all_jobs(world):
            made = world.provider.billed.count(job.prompt or "")
            if model == QWEN and job.status is Status.UNRESOLVED:
                # Its own intent looks like another's, and a call that leaves no task cannot be looked
                # for: a person is asked, and nothing was spent.
                assert (made, job.doubt is None) == (0, False)
            else:
                assert (job.status, made) == (Status.SUCCEEDED, 1)
        check_rules(world, told_again=True)
    assert number > 8


# --- processes that die ----------------------------------------


@pytest.mark.fault(20)
def test_fault_20_dispatch_dies_between_an_admission_and_its_call() -> None:
    states = set()
    for death in deaths(WANX, "red", "blue"):
        if (
            death.calls
            or death.executions
            or (death.name, death.moment) == ("create", Moment.AFTER)
        ):
            continue
        states.add((death.status, death.name, death.moment))
        all_ended_well(death.world)
        first = all_jobs(death.world)[0]
        # Without a recorded intent it simply goes back; with one, only when the list has shown nothing.
        assert first.fence >= 1
        assert (first.sent_again == 1) is (first.doubt is not None)
    assert (Status.QUEUED, "commit", Moment.AFTER) in states  # admitted, and then dead
    assert (Status.ADMITTED, "commit", Moment.AFTER) in states  # intent recorded, and then dead
    assert (Status.CREATING, "create", Moment.BEFORE) in states


@pytest.mark.fault(20)
def test_fault_20_dispatch_dies_before_it_starts_the_execution_of_a_synchronous_call() -> None:
    found = 0
    for death in deaths(QWEN, "red", "blue"):
        if death.calls or death.executions:
            continue
        found += 1
        all_ended_well(death.world)
    assert found > 1


@pytest.mark.fault(20)
def test_fault_20_an_admission_whose_dispatch_died_keeps_its_place_and_frees_its_slot() -> None:
    world = queued(WANX, "one", "two", "three", "four", "five")
    world.effects.plan = lambda _, name: Moment.AFTER if name == "commit" else None
    with pytest.raises(Crash):
        world.dispatch()
    world.effects.heal()
    first = all_jobs(world)[0]
    assert first.status is Status.ADMITTED
    assert world.provider.calls == []

    play(world)

    all_ended_well(world)
    assert now(world, first).doubt is None
    assert now(world, first).fence > 1
    check_rules(world)


@pytest.mark.fault(21)
def test_fault_21_dispatch_dies_between_the_call_and_recording_its_task() -> None:
    found = set()
    for death in deaths(WANX, "red", "blue"):
        # Of the first job: its call was made, and nothing of it is recorded yet.
        made = death.calls == 1 or (death.name, death.moment) == ("create", Moment.AFTER)
        recorded = (death.name, death.moment) == ("commit", Moment.AFTER)
        if death.status is not Status.CREATING or not made or recorded:
            continue
        found.add((death.name, death.moment))
        all_ended_well(death.world)
        first = all_jobs(death.world)[0]
        assert (first.adopted, first.sent_again, first.doubt) == (True, 0, None), death
        assert first.fence == 1
        assert death.world.provider.lists
    assert ("create", Moment.AFTER) in found
    assert ("commit", Moment.BEFORE) in found


@pytest.mark.fault(21)
def test_fault_21_a_synchronous_call_dies_before_its_answer_is_recorded() -> None:
    found = 0
    for death in deaths(QWEN, "red", "blue"):
        made = death.calls == 1 or (death.name, death.moment) == ("generate", Moment.AFTER)
        recorded = (death.name, death.moment) == ("commit", Moment.AFTER)
        if death.status is not Status.CREATING or not made or recorded:
            continue
        found += 1
        red, blue = all_jobs(death.world)
        assert (red.status, blue.status) == (Status.UNRESOLVED, Status.SUCCEEDED)
        assert death.world.outbox.record("red")["doubt"] == red.doubt
        assert sorted(death.world.provider.billed) == ["edit blue", "edit red"]
    assert found >= 2


@pytest.mark.fault(21)
def test_fault_21_the_lost_task_keeps_its_slot_while_it_is_looked_for() -> None:
    world = queued(WANX, *"abcdef")
    world.provider.seconds = 200.0
    world.effects.plan = lambda _, name: Moment.AFTER if name == "create" else None
    with pytest.raises(Crash):
        world.dispatch()
    world.effects.heal()
    lost = all_jobs(world)[0]
    lane = world.lane_of(WANX)

    for _ in range(30):
        play_for(world, 10)
        if now(world, lost).status in (Status.CREATING, Status.RESOLVING, Status.RUNNING):
            assert lost.job_id in world.store.lane(lane).slots
        assert len(world.store.lane(lane).slots) <= 3
    play(world)

    all_ended_well(world)
    assert now(world, lost).adopted
    check_rules(world)


@pytest.mark.fault(21)
def test_fault_21_two_deaths_in_a_row_leave_two_tasks_that_are_told_apart() -> None:
    world = queued(WANX, "one", "two", "three")
    dying = iter([True, True])
    world.effects.plan = lambda _, name: (
        Moment.AFTER if name == "create" and next(dying, False) else None
    )
    world.kicks.kick(world.lane_of(WANX))

    play(world)

    all_ended_well(world)
    for job in all_jobs(world):
        assert world.provider.tasks_made[job.task_id or ""].prompt == job.prompt
    assert sum(job.adopted for job in all_jobs(world)) == 2
    check_rules(world)


@pytest.mark.fault(21)
def test_fault_21_where_others_made_tasks_at_that_moment_a_person_is_asked() -> None:
    world = queued(WANX, "red", "blue")
    world.effects.plan = lambda _, name: Moment.AFTER if name == "create" else None
    with pytest.raises(Crash):
        world.dispatch()
    world.effects.heal()
    at = world.clock.now()
    world.provider.foreign.append(FakeTask("task-foreign", "theirs", at, at + 10, 1, WANX))

    play(world)

    red, blue = all_jobs(world)
    assert (red.status, blue.status) == (Status.UNRESOLVED, Status.SUCCEEDED)
    assert set(world.outbox.record("red")["outcome"]["candidates"]) == {"task-0001", "task-foreign"}
    (note,) = [n for n in world.notices.notifications if n.message["job_id"] == red.job_id]
    assert (note.attributes["status"], note.attributes["doubt"]) == ("UNRESOLVED", "true")
    assert world.provider.billed == ["edit red", "edit blue"]
    check_rules(world)

    answer = world.operate("adopt", red.job_id, "task-0001")
    assert answer["could_not"] == ""
    play(world)
    all_ended_well(world)


# --- executions ----------------------------------------


@pytest.mark.fault(22)
@pytest.mark.parametrize("times", [1, 3, 12])
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_22_start_execution_fails(model: str, times: int) -> None:
    world = dropped(model, "red", "blue")
    world.executions.fail_starts = times

    play(world, "red.png.json", "blue.png.json")

    all_ended_well(world)
    assert world.executions.fail_starts == 0
    check_rules(world)


@pytest.mark.fault(22)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_22_an_execution_is_started_though_the_call_is_said_to_have_failed(
    model: str,
) -> None:
    for number in itertools.count(1):
        world = dropped(model, "red", "blue")
        count = itertools.count(1)
        start = world.executions.start

        def said_to_fail(
            name: str,
            payload: Any,
            start: Callable[[str, Any], None] = start,
            count: Iterator[int] = count,
            number: int = number,
        ) -> None:
            start(name, payload)
            if next(count) == number:
                raise TryLater("the state machine is throttled", code="ThrottlingException")

        world.executions.start = said_to_fail  # type: ignore[method-assign]
        play(world, "red.png.json", "blue.png.json")

        if next(count) <= number:
            break
        all_ended_well(world)
        check_rules(world)
    assert number > 2


@pytest.mark.fault(22)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_22_an_execution_of_that_name_exists_already(model: str) -> None:
    world = dropped(model, "red")
    submit(world, "red.png.json")
    job = only_job(world)
    payload: dict[str, Json] = {
        "job_id": job.job_id,
        "fence": 1,
        "mode": "sync" if model == QWEN else "async",
        "wait_seconds": 0,
    }
    world.executions.start(f"{job.job_id}-1-0", payload)

    play(world)

    all_ended_well(world)
    check_rules(world)


@pytest.mark.fault(22)
def test_fault_22_the_start_after_a_lost_answer_and_the_start_of_a_further_one_fail() -> None:
    world = queued(WANX, "red")
    world.effects.plan = lambda _, name: Moment.AFTER if name == "create" else None
    with pytest.raises(Crash):
        world.dispatch()
    world.effects.heal()
    world.executions.fail_starts = 4

    play(world)

    all_ended_well(world)
    assert only_job(world).adopted
    assert world.executions.fail_starts == 0
    check_rules(world)
