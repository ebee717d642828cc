"""reconcile: whatever was interrupted is found and led on, and nothing is ever bought by it."""

from __future__ import annotations

import pytest

from retouch import jobs
from retouch.errors import Conflict
from retouch.jobs import (
    ADMITTED_LEASE_SECONDS,
    GENERATE_SECONDS,
    RUNNING_LEASE_SECONDS,
    SYNC_LEASE_SECONDS,
    Job,
    PutLane,
    Slot,
    Status,
)
from retouch.settings import Endpoint
from retouch.steps.common import pace_of
from retouch.steps.poll import poll
from retouch.steps.reconcile import STALE_SECONDS, execution_ended
from tests.fakes import QWEN, WAN, WANX, Crash, Moment, World


def now(world: World, job: Job) -> Job:
    return world.store.the_job(job.job_id)


def slots(world: World, model: str = WANX) -> dict[str, Slot]:
    return world.store.lane(world.lane_of(model)).slots


def stop_all(world: World) -> None:
    """Every execution fails or is stopped by hand."""
    for execution in world.executions.started.values():
        execution.running = False


def died_at(world: World, effect: str, moment: Moment, model: str = WANX) -> None:
    """Dispatch dies at the first effect of that name."""
    world.effects.plan = lambda _, name: moment if name == effect else None
    with pytest.raises(Crash):
        world.dispatch(model)
    world.effects.heal()


# --- expired leases ----------------------------------------


def test_an_admission_that_was_never_used_goes_back_to_its_place() -> None:
    # Fault 20: died after admitting, before the POST.
    world = World()
    job = world.enter()
    died_at(world, "commit", Moment.AFTER)
    assert now(world, job).status is Status.ADMITTED
    world.clock.advance(ADMITTED_LEASE_SECONDS - 1)
    world.reconcile()
    assert now(world, job).status is Status.ADMITTED  # its lease holds
    world.clock.advance(2)
    world.kicks.sent.clear()

    done = world.reconcile()

    assert done["requeued"] == 1
    assert now(world, job).status is Status.QUEUED
    assert slots(world) == {}
    assert set(world.kicks.sent) == {job.lane}
    world.dispatch()
    assert (now(world, job).status, now(world, job).fence) == (Status.RUNNING, 2)
    assert len(world.provider.billed) == 1


def test_a_create_that_nobody_saw_the_answer_of_is_looked_for_and_adopted() -> None:
    # Fault 21.
    world = World()
    job = world.enter()
    died_at(world, "create", Moment.AFTER)
    assert now(world, job).status is Status.CREATING
    world.clock.advance(ADMITTED_LEASE_SECONDS + 1)

    done = world.reconcile()

    assert done["looked for"] == 1
    lost = now(world, job)
    assert lost.status is Status.RESOLVING
    assert lost.doubt is not None
    assert job.job_id in slots(world)
    assert world.outbox.record("shoes/red")["doubt"] == lost.doubt
    assert world.notices.notifications == []
    world.run(60)
    ended = now(world, job)
    assert (ended.status, ended.task_id) == (Status.SUCCEEDED, "task-0001")
    assert ended.adopted
    assert ended.doubt is None
    assert slots(world) == {}
    assert len(world.provider.calls) == 1


def test_a_running_task_whose_execution_lives_keeps_its_slot() -> None:
    world = World()
    job = world.running_job()
    world.clock.advance(RUNNING_LEASE_SECONDS + 1)

    done = world.reconcile()

    assert done["extended"] == 1
    assert slots(world)[job.job_id].lease_until == world.clock.now() + RUNNING_LEASE_SECONDS
    assert now(world, job) == job
    assert len(world.executions.started) == 1


def test_a_running_task_whose_execution_is_gone_gets_another() -> None:
    # Faults 42 and 43 with their event lost.
    world = World()
    job = world.running_job()
    stop_all(world)
    world.clock.advance(RUNNING_LEASE_SECONDS + 1)

    done = world.reconcile()

    assert done["restarted"] == 1
    assert [e.name for e in world.executions.running()] == [f"{job.job_id}-1-1"]
    assert slots(world)[job.job_id].lease_until > world.clock.now()
    assert poll(world, job.job_id, job.fence)["next"] == "finalize"
    assert len(world.provider.billed) == 1


def test_a_synchronous_admission_whose_execution_never_started_goes_back() -> None:
    world = World()
    job = world.enter(model=QWEN)
    died_at(world, "start", Moment.BEFORE, QWEN)
    world.clock.advance(SYNC_LEASE_SECONDS + 1)

    assert world.reconcile()["requeued"] == 1

    assert now(world, job).status is Status.QUEUED
    assert slots(world, QWEN) == {}


def test_a_synchronous_call_that_is_still_under_way_is_left_alone() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.effects.plan = lambda _, name: Moment.AFTER if name == "generate" else None
    with pytest.raises(Crash):
        world.generate(job.job_id, job.fence)
    world.effects.heal()
    world.clock.advance(SYNC_LEASE_SECONDS + 1)

    assert world.reconcile()["extended"] == 1  # its execution lives, and will try again
    assert now(world, job).status is Status.CREATING

    stop_all(world)
    world.clock.advance(RUNNING_LEASE_SECONDS + 1)
    assert world.reconcile()["held"] == 1
    assert now(world, job).status is Status.UNRESOLVED


def test_a_slot_that_no_job_holds_is_freed() -> None:
    world = World()
    lane = world.store.lane(world.lane_of(WANX))
    orphan = Slot(fence=1, lease_until=world.clock.now())
    update = {"version": 1, "fence": 1, "slots": {"a" * 16: orphan}}
    world.store.commit((PutLane(lane.model_copy(update=update)),))

    assert world.reconcile()["freed"] == 1

    assert slots(world) == {}
    assert world.kicks.sent == [world.lane_of(WANX)]


def test_a_slot_of_a_job_that_has_ended_is_freed() -> None:
    world = World()
    job = world.finalizing_job()
    world.finalize(job.job_id, job.fence)
    lane = world.store.lane(world.lane_of(WANX))
    leaked = {job.job_id: Slot(fence=job.fence, lease_until=world.clock.now())}
    version = lane.version + 1
    world.store.commit((PutLane(lane.model_copy(update={"version": version, "slots": leaked})),))

    assert world.reconcile()["freed"] == 1

    assert slots(world) == {}
    assert now(world, job).status is Status.SUCCEEDED


def test_a_late_worker_with_an_older_fence_cannot_free_a_newer_slot() -> None:
    # Rule 5: the first admission's writer wakes up after the job was admitted again.
    world = World()
    job = world.enter()
    died_at(world, "commit", Moment.AFTER)
    late = now(world, job)
    world.clock.advance(ADMITTED_LEASE_SECONDS + 1)
    world.reconcile()
    world.dispatch()
    held = slots(world)[job.job_id]
    assert held.fence == 2

    lane = world.store.lane(world.lane_of(WANX))
    for _, writes in (
        jobs.requeue(late, lane, world.clock.now()),
        jobs.unresolved(late, lane, world.clock.now(), "late"),
        jobs.ended(late, lane, world.clock.now(), provider_status="SUCCEEDED"),
        jobs.created(late, lane, "task-late", None, pace_of(world, lane.lane), world.clock.now()),
    ):
        with pytest.raises(Conflict):
            world.store.commit(writes)
        for write in writes:
            if isinstance(write, PutLane) and len(writes) > 1:
                assert job.job_id in write.lane.slots  # not even in what it wanted to write

    assert poll(world, job.job_id, late.fence)["next"] == "stop"
    assert world.finalize(job.job_id, late.fence)["status"] is None
    assert slots(world)[job.job_id] == held
    assert now(world, job).status is Status.RUNNING


# --- finalizing ----------------------------------------


def test_a_finalize_that_nobody_works_on_is_started_again() -> None:
    world = World()
    job = world.finalizing_job()
    stop_all(world)
    world.clock.advance(STALE_SECONDS)
    assert world.reconcile()["restarted"] == 0
    world.clock.advance(1)

    assert world.reconcile()["restarted"] == 1

    (execution,) = world.executions.running()
    assert execution.payload["wait_seconds"] == 0
    assert poll(world, job.job_id, job.fence)["next"] == "finalize"


def test_a_finalize_whose_execution_lives_is_left_alone() -> None:
    world = World()
    world.finalizing_job()
    world.clock.advance(10 * STALE_SECONDS)

    assert world.reconcile()["restarted"] == 0
    assert len(world.executions.started) == 1


# --- publishing and kicks ----------------------------------------


def test_what_was_not_published_is_published() -> None:
    # Fault 40.
    world = World()
    job = world.finalizing_job()
    world.effects.plan = lambda _, name: Moment.BEFORE if name == "notify" else None
    with pytest.raises(Crash):
        world.finalize(job.job_id, job.fence)
    world.effects.heal()
    assert world.notices.notifications == []
    world.clock.advance(STALE_SECONDS + 1)

    assert world.reconcile()["published"] == 1

    assert len(world.notices.notifications) == 1
    assert world.outbox.record("shoes/red")["status"] == "SUCCEEDED"
    assert world.reconcile()["published"] == 0
    assert len(world.notices.notifications) == 1


def test_what_changed_just_now_is_left_to_whoever_changed_it() -> None:
    world = World()
    world.enter()
    world.store.unpublished_since["x" * 16, 1] = world.clock.now() - 1

    assert world.reconcile()["published"] == 0


def test_every_lane_with_a_backlog_is_kicked_and_no_other() -> None:
    # Fault 17.
    world = World()
    world.enter("a", WANX)
    world.enter("b", QWEN)
    world.kicks.sent.clear()

    assert world.reconcile()["kicked"] == 2

    assert sorted(world.kicks.sent) == sorted([world.lane_of(WANX), world.lane_of(QWEN)])


def test_a_stack_in_another_region_looks_after_that_region_s_lanes() -> None:
    world = World(providers={"singapore": Endpoint("https://dashscope-intl.aliyuncs.com/api/v1")})
    job = world.enter("b", WAN)
    world.kicks.sent.clear()

    world.reconcile()

    assert world.kicks.sent == [job.lane] == ["singapore:wan2.7-image"]


def test_a_quiet_stack_is_left_as_it_is() -> None:
    world = World()
    job = world.finalizing_job()
    world.finalize(job.job_id, job.fence)
    stop_all(world)
    world.clock.advance(10_000)
    while world.reconcile()["swept"]:
        world.clock.advance(10)
    before = len(world.effects.log)

    assert world.reconcile() == {}

    assert len(world.effects.log) == before


def test_reconcile_never_calls_the_provider() -> None:
    world = World()
    for number in range(5):
        world.enter(f"job{number}")
    world.dispatch()
    stop_all(world)
    calls = len(world.provider.calls)
    for _ in range(30):
        world.clock.advance(100)
        world.reconcile()

    assert len(world.provider.calls) == calls
    assert world.provider.queries == []


# --- one that cannot be mended ----------------------------------------


def test_a_job_that_cannot_be_published_does_not_keep_the_others_from_being_healed() -> None:
    # Fault 39: the outbox refuses one job's record for good. Everybody else must go on.
    world = World()
    stuck = world.enter("stuck", QWEN)
    fine = world.enter("fine", WANX)
    died_at(world, "commit", Moment.AFTER)
    version = now(world, stuck).version
    world.store.unpublished_since[stuck.job_id, version] = world.clock.now()
    world.store.published_versions.pop(stuck.job_id)
    world.outbox.refused.add("stuck/job.json")
    world.kicks.sent.clear()

    for _ in range(3):
        world.clock.advance(ADMITTED_LEASE_SECONDS + 1)
        try_again(world)

    assert world.lane_of(WANX) in world.kicks.sent
    assert world.lane_of(QWEN) in world.kicks.sent
    assert world.outbox.record("fine")["status"] == str(now(world, fine).status) == "QUEUED"


def try_again(world: World) -> None:
    """As the schedule does: a round that failed says so, and is followed by the next."""
    with pytest.raises(ExceptionGroup):
        world.reconcile()


def test_a_job_that_moves_on_while_it_is_looked_at_does_not_break_the_round() -> None:
    world = World()
    job = world.finalizing_job()
    world.enter("next")
    stop_all(world)
    world.clock.advance(STALE_SECONDS + 1)
    world.kicks.sent.clear()
    world.store.before_commit.append(lambda: world.finalize(job.job_id, job.fence))

    world.reconcile()

    assert now(world, job).status is Status.SUCCEEDED
    assert world.kicks.sent == [job.lane]


def test_a_task_that_is_recorded_while_its_lease_is_judged_is_not_held() -> None:
    # A slow writer records its task between reconcile's look and its commit.
    world = World()
    job = world.enter()
    died_at(world, "create", Moment.AFTER)
    world.clock.advance(ADMITTED_LEASE_SECONDS + 1)

    def record() -> None:
        late = now(world, job)
        lane = world.store.lane(world.lane_of(WANX))
        pace = pace_of(world, lane.lane)
        _, writes = jobs.created(late, lane, "task-0001", None, pace, world.clock.now())
        world.store.commit(writes)

    world.store.before_commit.append(record)

    world.reconcile()

    assert now(world, job).status is Status.RUNNING
    assert now(world, job).task_id == "task-0001"


# --- executions that ended early ----------------------------------------


def test_a_running_job_whose_execution_failed_gets_another_at_once() -> None:
    # Faults 42 and 43.
    world = World()
    job = world.running_job()
    stop_all(world)

    assert execution_ended(world, job.job_id, job.fence) == "restarted"

    assert [e.name for e in world.executions.running()] == [f"{job.job_id}-1-1"]


def test_a_finalizing_job_whose_execution_failed_gets_another_at_once() -> None:
    world = World()
    job = world.finalizing_job()
    stop_all(world)

    assert execution_ended(world, job.job_id, job.fence) == "restarted"

    assert [e.name for e in world.executions.running()] == [f"{job.job_id}-1-1"]


@pytest.mark.parametrize("state", ["running", "finalizing"])
def test_an_end_that_is_reported_twice_starts_one_execution(state: str) -> None:
    # Rule 4, fault 1.
    world = World()
    job = world.running_job() if state == "running" else world.finalizing_job()
    stop_all(world)

    execution_ended(world, job.job_id, job.fence)
    execution_ended(world, job.job_id, job.fence)

    assert [e.name for e in world.executions.running()] == [f"{job.job_id}-1-1"]


def test_a_synchronous_call_whose_execution_died_in_it_is_held() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.effects.plan = lambda _, name: Moment.AFTER if name == "generate" else None
    with pytest.raises(Crash):
        world.generate(job.job_id, job.fence)
    world.effects.heal()
    stop_all(world)

    # Its worker may still be in the call, and come back with what was paid for.
    assert execution_ended(world, job.job_id, job.fence) is None
    assert now(world, job).status is Status.CREATING
    world.clock.advance(GENERATE_SECONDS + 1)
    assert world.reconcile()["held"] == 1
    assert now(world, job).status is Status.UNRESOLVED


def test_a_synchronous_job_whose_execution_died_before_the_call_goes_back() -> None:
    world = World()
    job = world.admitted_sync_job()
    stop_all(world)

    assert execution_ended(world, job.job_id, job.fence) == "requeued"
    assert now(world, job).status is Status.QUEUED
    assert slots(world, QWEN) == {}


def test_executions_that_keep_failing_are_left_to_the_sweep() -> None:
    world = World()
    world.provider.seconds = 10**6
    job = world.running_job()
    remedies = []
    for _ in range(6):
        stop_all(world)
        remedies.append(execution_ended(world, job.job_id, job.fence))

    assert remedies == ["restarted"] * 3 + [None] * 3

    world.clock.advance(RUNNING_LEASE_SECONDS + 1)
    assert world.reconcile()["restarted"] == 1


def test_the_end_of_an_execution_that_is_no_longer_the_job_s_changes_nothing() -> None:
    world = World()
    job = world.running_job()
    done = world.running_job("done")
    world.clock.advance(20)
    poll(world, done.job_id, done.fence)
    world.finalize(done.job_id, done.fence)
    before = dict(world.store.jobs)
    started = len(world.executions.started)

    assert execution_ended(world, job.job_id, job.fence + 1) is None
    assert execution_ended(world, "a" * 16, 1) is None
    assert execution_ended(world, done.job_id, done.fence) is None

    assert world.store.jobs == before
    assert len(world.executions.started) == started
