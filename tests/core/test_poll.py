"""poll: a question says something about the task only when it was answered."""

from __future__ import annotations

import itertools

import pytest

from retouch.errors import AccountRefused, TryLater
from retouch.jobs import RUNNING_LEASE_SECONDS, Failure, Job, Status
from retouch.provider.answers import TaskAnswer
from retouch.registry import TASK_DEADLINE_SECONDS
from retouch.steps.poll import poll
from tests.fakes import WANX, Crash, Moment, World


def lease_of(world: World, job: Job) -> float:
    return world.store.lane(world.lane_of(WANX)).slots[job.job_id].lease_until


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SUSPENDED", "SOMETHING-NEW", "MISSING"])
def test_a_task_that_has_not_ended_is_asked_again_after_about_the_interval(state: str) -> None:
    # Fault 34 among them: a state never seen before has not ended.
    world = World()
    job = world.running_job()
    world.provider.answers["task-0001"] = TaskAnswer(status=state)

    answers = [poll(world, job.job_id, job.fence) for _ in range(20)]

    assert {answer["next"] for answer in answers} == {"wait"}
    waits = {answer["wait_seconds"] for answer in answers}
    assert waits <= {1, 2}
    assert world.store.the_job(job.job_id) == job


def test_the_answer_to_the_state_machine_carries_ids_and_nothing_else() -> None:
    world = World()
    job = world.running_job()

    answer = poll(world, job.job_id, job.fence)

    assert set(answer) == {"job_id", "fence", "mode", "wait_seconds", "next"}


def test_the_lease_is_renewed_only_when_half_of_it_is_gone() -> None:
    world = World()
    world.provider.seconds = 10_000
    job = world.running_job()
    first = lease_of(world, job)
    assert first == world.clock.now() + RUNNING_LEASE_SECONDS

    world.clock.advance(RUNNING_LEASE_SECONDS / 2 - 1)
    poll(world, job.job_id, job.fence)
    assert lease_of(world, job) == first

    world.clock.advance(2)
    poll(world, job.job_id, job.fence)
    assert lease_of(world, job) == world.clock.now() + RUNNING_LEASE_SECONDS


def test_a_renewal_that_meets_another_write_is_left_to_the_next_round() -> None:
    world = World()
    world.provider.seconds = 10_000
    job = world.running_job()
    world.clock.advance(200)
    other = world.enter("other")
    world.store.before_commit.append(world.dispatch)

    assert poll(world, job.job_id, job.fence)["next"] == "wait"

    assert world.store.the_job(other.job_id).status is Status.RUNNING
    assert poll(world, job.job_id, job.fence)["next"] == "wait"
    assert lease_of(world, job) > world.clock.now() + 200


def test_unknown_right_after_the_create_is_asked_again_and_ends_the_task_after_a_minute() -> None:
    # Fault 30.
    world = World()
    job = world.running_job()
    world.provider.answers["task-0001"] = TaskAnswer(status="UNKNOWN")

    world.clock.advance(59)
    assert poll(world, job.job_id, job.fence)["next"] == "wait"
    world.clock.advance(1)
    assert poll(world, job.job_id, job.fence)["next"] == "finalize"

    assert world.store.the_job(job.job_id).provider_status == "UNKNOWN"


def test_a_task_that_never_ends_is_given_up_at_the_deadline() -> None:
    # Fault 31.
    world = World()
    world.provider.seconds = 10**9
    job = world.running_job()

    world.clock.advance(TASK_DEADLINE_SECONDS - 1)
    assert poll(world, job.job_id, job.fence)["next"] == "wait"
    world.clock.advance(1)
    assert poll(world, job.job_id, job.fence)["next"] == "finalize"
    world.finalize(job.job_id, job.fence)

    failed = world.store.the_job(job.job_id)
    assert failed.status is Status.FAILED
    assert failed.failure is not None
    assert failed.failure.code == "DeadlineExceeded"


def test_a_task_that_was_given_up_while_it_ran_leaves_its_doubt_on_the_job() -> None:
    # Rule 1: the task may yet succeed and be billed, and nobody will fetch its images.
    world = World()
    world.provider.seconds = 10**9
    job = world.running_job()
    world.clock.advance(TASK_DEADLINE_SECONDS)
    poll(world, job.job_id, job.fence)

    world.finalize(job.job_id, job.fence)

    assert world.store.the_job(job.job_id).doubt is not None


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELED"])
def test_a_task_that_has_ended_frees_its_slot_once_and_kicks_its_lane(state: str) -> None:
    world = World()
    job = world.running_job()
    world.kicks.sent.clear()
    failure = Failure(code="InternalError", message="no") if state == "FAILED" else None
    world.provider.answers["task-0001"] = TaskAnswer(status=state, failure=failure)

    assert poll(world, job.job_id, job.fence)["next"] == "finalize"

    after = world.store.the_job(job.job_id)
    assert (after.status, after.provider_status) == (Status.FINALIZING, state)
    assert after.failure == failure
    assert after.ended_at == world.clock.now()
    assert world.store.lane(world.lane_of(WANX)).slots == {}
    assert world.kicks.sent == [job.lane]
    assert world.notices.statuses(job.job_id)[-1] == "FINALIZING"


def test_a_repeated_poll_goes_on_to_finalize_without_asking_or_freeing_again() -> None:
    world = World()
    job = world.finalizing_job()
    lane = world.store.lane(world.lane_of(WANX))
    asked = len(world.provider.queries)

    assert poll(world, job.job_id, job.fence)["next"] == "finalize"

    assert len(world.provider.queries) == asked
    assert world.store.lane(world.lane_of(WANX)) == lane


def test_two_polls_at_once_free_the_slot_once_and_both_lead_on() -> None:
    world = World()
    job = world.running_job()
    world.clock.advance(20)
    world.store.before_commit.append(lambda: poll(world, job.job_id, job.fence))

    answer = poll(world, job.job_id, job.fence)

    assert answer["next"] == "finalize"  # whoever won, this execution leads to the end
    states = [j.status for j in world.store.history if j.job_id == job.job_id]
    assert states.count(Status.FINALIZING) == 1
    assert world.store.lane(world.lane_of(WANX)).slots == {}


def test_a_late_execution_of_an_older_admission_stops_and_touches_nothing() -> None:
    # Rule 5.
    world = World()
    job = world.running_job()
    jobs_before, lanes_before = dict(world.store.jobs), dict(world.store.lanes_stored)
    world.clock.advance(100)

    answer = poll(world, job.job_id, job.fence + 1)

    assert answer["next"] == "stop"
    assert (world.store.jobs, world.store.lanes_stored) == (jobs_before, lanes_before)
    assert world.provider.queries == []


def test_an_execution_of_a_job_that_is_not_there_stops() -> None:
    assert poll(World(), "a" * 16, 1)["next"] == "stop"


def test_an_execution_of_a_job_that_has_ended_stops() -> None:
    world = World()
    job = world.finalizing_job()
    world.finalize(job.job_id, job.fence)
    asked = len(world.provider.queries)

    assert poll(world, job.job_id, job.fence)["next"] == "stop"
    assert len(world.provider.queries) == asked


@pytest.mark.parametrize(
    "error",
    [
        TryLater("Requests rate limit exceeded", code="Throttling.RateQuota"),
        TryLater("the query failed: ReadTimeout"),
        AccountRefused("InvalidApiKey", "Invalid API-key provided."),
    ],
)
def test_a_question_that_failed_says_nothing_about_the_task(error: Exception) -> None:
    # Faults 27 and 33.
    world = World()
    job = world.running_job()
    world.clock.advance(200)
    world.provider.next_queries.append(error)

    answer = poll(world, job.job_id, job.fence)

    assert answer["next"] == "wait"
    wait = answer["wait_seconds"]
    assert isinstance(wait, int)
    assert 3 <= wait <= 60
    assert world.store.the_job(job.job_id).status is Status.RUNNING
    assert lease_of(world, job) == world.clock.now() + RUNNING_LEASE_SECONDS
    assert poll(world, job.job_id, job.fence)["next"] == "finalize"


def test_whichever_effect_it_dies_at_a_repeated_poll_leads_on() -> None:
    for moment in Moment:
        for number in itertools.count(1):
            world = World()
            job = world.running_job()
            world.clock.advance(20)
            world.kicks.sent.clear()
            world.effects.crash_at(number, moment)
            try:
                poll(world, job.job_id, job.fence)
            except Crash:
                world.effects.heal()
            else:
                break
            waiting = world.enter("next")
            assert poll(world, job.job_id, job.fence)["next"] == "finalize", (number, moment)
            assert world.store.lane(world.lane_of(WANX)).slots == {}, (number, moment)
            world.clock.advance(100)
            world.reconcile()
            world.dispatch()
            assert world.store.the_job(waiting.job_id).status is Status.RUNNING, (number, moment)
            shown = world.outbox.record("shoes/red")["status"]
            assert shown == "FINALIZING", (number, moment)
        assert number > 4


@pytest.mark.parametrize(
    "error",
    [TryLater("no answer"), AccountRefused("InvalidApiKey", "no")],
    ids=["no answer", "refused"],
)
def test_a_task_that_cannot_be_asked_after_for_a_day_ends_with_a_doubt(error: Exception) -> None:
    # The provider has forgotten it by then, and its slot is needed.
    world = World()
    job = world.running_job()
    world.provider.answers["task-0001"] = error
    world.clock.advance(24 * 3600 - 1)
    assert poll(world, job.job_id, job.fence)["next"] == "wait"
    world.clock.advance(2)

    assert poll(world, job.job_id, job.fence)["next"] == "finalize"

    world.finalize(job.job_id, job.fence)
    ended = world.store.the_job(job.job_id)
    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "DeadlineExceeded"
    assert ended.doubt is not None
    assert world.store.lane(world.lane_of(WANX)).slots == {}


def test_a_task_that_takes_long_is_asked_after_ever_more_slowly() -> None:
    world = World()
    job = world.running_job()
    world.provider.answers["task-0001"] = TaskAnswer(status="RUNNING")

    waits = []
    for _ in range(6):
        waits.append(poll(world, job.job_id, job.fence)["wait_seconds"])
        world.clock.advance(30)

    assert waits[0] in (1, 2)
    assert all(8 <= int(str(wait)) <= 24 for wait in waits[2:])


def test_all_tasks_of_a_region_share_the_account_s_limit_on_queries() -> None:
    # Rule 2: 15 a second, whoever asks.
    world = World()
    job = world.running_job()
    world.provider.answers["task-0001"] = TaskAnswer(status="RUNNING")

    answers = [poll(world, job.job_id, job.fence) for _ in range(60)]

    assert {answer["next"] for answer in answers} == {"wait"}
    times = [at for at, _ in world.provider.queries]
    assert all(b - a >= 1 / 15 - 1e-6 for a, b in itertools.pairwise(times))


def test_a_query_whose_turn_is_far_is_left_to_a_later_look() -> None:
    world = World()
    job = world.running_job()
    world.store.turns["queries:beijing"] = world.clock.now() + 60

    answer = poll(world, job.job_id, job.fence)

    assert answer["next"] == "wait"
    assert world.provider.queries == []
