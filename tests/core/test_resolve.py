"""What becomes of a create call whose answer was lost: found, made again with a mark, or asked of."""

from __future__ import annotations

import json

import pytest

from retouch import jobs
from retouch.errors import AccountRefused, ProviderRefused, TryLater
from retouch.jobs import (
    CREATE_SECONDS,
    EMPTY_SECONDS,
    MOST_AGAIN,
    QUIET_SECONDS,
    SETTLE_SECONDS,
    SKEW_SECONDS,
    Candidate,
    Found,
    Job,
    LookAgain,
    NeverMade,
    Several,
    Status,
)
from retouch.provider.answers import RewrittenPrompt, TaskAnswer
from retouch.steps.poll import poll
from retouch.steps.reconcile import reconcile
from tests.fakes import START, WANX, Crash, FakeTask, Lost, Moment, World


def now(world: World, job: Job) -> Job:
    return world.store.the_job(job.job_id)


def lose(world: World, *, made: bool, name: str = "shoes/red") -> Job:
    """A job whose create call's answer was lost."""
    job = world.enter(name, prompt=name)
    world.provider.next_calls.append(Lost(made))
    world.dispatch()
    assert now(world, job).status is Status.RESOLVING
    return now(world, job)


def somebody_elses(world: World, *, after: float, prompt: str = "not ours") -> FakeTask:
    """A task that another program made with the same account."""
    at = world.clock.now() + after
    task = FakeTask(f"foreign-{len(world.provider.foreign)}", prompt, at, at + 10, 1, WANX)
    world.provider.foreign.append(task)
    return task


# --- the decision ----------------------------------------


def resolving(*, looks: int = 0) -> Job:
    return Job(
        job_id="a" * 16,
        status=Status.RESOLVING,
        created_at=START,
        updated_at=START,
        sidecar="a.json",
        sidecar_version="v",
        folder="a",
        intent_at=START,
        lost_at=START + 20,
        looks=looks,
    )


def task(after: float | None, name: str = "t") -> Candidate:
    return Candidate(name, None, None if after is None else START + after)


LOST_AT = START + 20


def test_before_the_list_has_settled_nothing_is_concluded() -> None:
    verdict = jobs.judge(resolving(), (task(1),), (), LOST_AT + SETTLE_SECONDS - 1)

    assert verdict == LookAgain(1.0)


@pytest.mark.parametrize("after", [-SKEW_SECONDS, 0.0, 5.0, 20 + SKEW_SECONDS, None])
def test_the_one_task_in_its_time_is_its_own(after: float | None) -> None:
    # Fault 47 among them: the provider's clock may be off by 5 s either way.
    one = task(after)

    assert jobs.judge(resolving(), (one,), (), LOST_AT + SETTLE_SECONDS) == Found(one)


@pytest.mark.parametrize("after", [-SKEW_SECONDS - 0.1, 20 + SKEW_SECONDS + 0.1])
def test_a_task_outside_its_time_is_not(after: float) -> None:
    verdict = jobs.judge(resolving(), (task(after),), (), LOST_AT + SETTLE_SECONDS)

    assert isinstance(verdict, LookAgain)


def test_several_tasks_in_its_time_are_for_a_person() -> None:
    both = (task(1, "one"), task(2, "two"))

    assert jobs.judge(resolving(), both, (), LOST_AT + SETTLE_SECONDS) == Several(both)


def test_a_task_that_could_be_another_job_s_is_for_a_person() -> None:
    one = task(10)
    rival = resolving().model_copy(update={"job_id": "b" * 16, "intent_at": START + 12})

    assert jobs.judge(resolving(), (one,), (rival,), LOST_AT + 60) == Several((one,))


def test_nothing_was_made_only_after_the_list_stayed_empty_for_long_and_was_seen_so_twice() -> None:
    late = LOST_AT + EMPTY_SECONDS

    assert isinstance(jobs.judge(resolving(looks=1), (), (), late - 1), LookAgain)
    assert isinstance(jobs.judge(resolving(looks=0), (), (), late), LookAgain)
    assert jobs.judge(resolving(looks=1), (), (), late) == NeverMade()


def test_a_writer_that_died_leaves_a_window_of_one_call() -> None:
    died = resolving().model_copy(update={"lost_at": START + 1000})

    begin, end = jobs.lost_window(died)

    assert (begin, end) == (START - SKEW_SECONDS, START + CREATE_SECONDS + SKEW_SECONDS)


# --- found ----------------------------------------


@pytest.mark.parametrize("skew", [-5.0, 0.0, 5.0])
def test_a_task_that_was_made_is_adopted_and_its_results_come(skew: float) -> None:
    # Faults 23, 26 and 47.
    world = World()
    world.provider.skew = skew
    lost = lose(world, made=True)

    world.run(SETTLE_SECONDS + 40)

    job = now(world, lost)
    assert (job.status, job.task_id, job.adopted) == (Status.SUCCEEDED, "task-0001", True)
    assert job.doubt is None
    assert job.sent_again == 0
    assert len(world.provider.calls) == 1
    assert world.store.owner_of("task-0001") == job.job_id
    record = world.outbox.record("shoes/red")
    assert record["outcome"]["adopted"] is True
    assert record["status"] == "SUCCEEDED"
    assert world.store.lane(world.lane_of(WANX)).slots == {}
    (note,) = world.notices.notifications
    assert note.attributes["status"] == "SUCCEEDED"


def test_tasks_that_are_known_to_be_other_jobs_are_not_looked_at() -> None:
    world = World()
    first = world.enter("first", prompt="first")
    world.dispatch()
    lost = lose(world, made=True)

    world.run(60)

    assert now(world, first).task_id == "task-0001"
    assert now(world, lost).task_id == "task-0002"
    assert now(world, lost).status is Status.SUCCEEDED


def test_what_is_sent_after_a_lost_call_cannot_be_taken_for_its_task() -> None:
    world = World()
    lost = lose(world, made=False)
    others = [world.enter(f"other{i}", prompt=f"other{i}") for i in range(4)]

    world.run(300)

    # The others went on meanwhile; none of their tasks was adopted, and the lost one was sent again.
    assert all(now(world, other).status is Status.SUCCEEDED for other in others)
    assert now(world, lost).status is Status.SUCCEEDED
    assert now(world, lost).sent_again == 1
    assert not now(world, lost).adopted
    assert [call.prompt for call in world.provider.calls].count("shoes/red") == 2
    assert world.provider.billed.count("shoes/red") == 1


def test_a_task_that_shows_late_is_still_found() -> None:
    world = World()
    world.provider.shows_after = 90.0
    lost = lose(world, made=True)

    world.run(200)

    assert now(world, lost).status is Status.SUCCEEDED
    assert world.provider.billed == ["shoes/red"]


def test_a_lane_goes_on_as_soon_as_the_lost_task_is_found() -> None:
    world = World()
    lose(world, made=True)
    world.enter("next", prompt="next")

    world.run(20)

    first, second = (call.at for call in world.provider.calls)
    assert SETTLE_SECONDS <= second - first < QUIET_SECONDS


def test_a_lane_goes_on_after_a_while_though_nothing_is_found() -> None:
    world = World()
    lose(world, made=False)
    world.enter("next", prompt="next")

    world.run(40)

    first, second = (call.at for call in world.provider.calls)
    assert QUIET_SECONDS <= second - first < QUIET_SECONDS + 8


def test_the_list_is_asked_a_few_times_and_not_in_a_hurry() -> None:
    world = World()
    lose(world, made=False)

    world.run(EMPTY_SECONDS + 30)

    times = [at for at, _ in world.provider.lists]
    assert 3 <= len(times) <= 8
    assert all(model == WANX for _, model in world.provider.lists)


# --- never made ----------------------------------------


def test_a_call_that_made_nothing_is_sent_again_at_its_place_with_a_mark() -> None:
    # Fault 24.
    world = World()
    lost = lose(world, made=False)
    world.run(EMPTY_SECONDS + 60)

    job = now(world, lost)
    assert job.status is Status.SUCCEEDED
    assert job.sent_again == 1
    assert job.doubt is not None
    assert "sent again" in job.doubt
    assert world.provider.billed == ["shoes/red"]
    assert world.outbox.record("shoes/red")["outcome"]["sent_again"] == 1
    (note,) = world.notices.notifications
    assert note.attributes["doubt"] == "true"


def test_it_goes_back_to_the_head_of_its_lane() -> None:
    world = World(window_margin=0)
    lost = lose(world, made=False)
    later = [world.enter(f"later{i}", prompt=f"later{i}") for i in range(30)]
    world.provider.seconds = 15.0
    world.run(EMPTY_SECONDS + 20)

    assert now(world, lost).sent_again == 1
    waiting = [job for job in later if now(world, job).status is Status.QUEUED]
    assert waiting, "there must be a backlog for this to say anything"
    (again,) = [c.at for c in world.provider.calls if c.prompt == "shoes/red"][1:]
    assert not [c for c in world.provider.calls if c.at > again and c.prompt == "later0"]
    assert now(world, lost).status is not Status.QUEUED


def test_a_call_whose_answers_keep_getting_lost_is_asked_about_in_the_end() -> None:
    world = World()
    lost = lose(world, made=False)
    world.provider.next_calls += [Lost(made=False)] * (MOST_AGAIN + 5)

    world.run((MOST_AGAIN + 2) * (EMPTY_SECONDS + 90))

    job = now(world, lost)
    assert job.status is Status.UNRESOLVED
    assert len(world.provider.calls) == MOST_AGAIN + 1
    assert world.provider.billed == []
    assert world.store.lane(world.lane_of(WANX)).slots == {}


# --- for a person ----------------------------------------


def test_two_tasks_in_its_time_hold_the_job_and_name_both() -> None:
    world = World()
    lost = lose(world, made=True)
    foreign = somebody_elses(world, after=1)

    world.run(30)

    job = now(world, lost)
    assert job.status is Status.UNRESOLVED
    assert set(job.candidates) == {"task-0001", foreign.task_id}
    assert job.doubt is not None
    assert all(name in job.doubt for name in job.candidates)
    assert world.outbox.record("shoes/red")["outcome"]["candidates"] == list(job.candidates)
    (note,) = world.notices.notifications
    assert (note.attributes["status"], note.attributes["doubt"]) == ("UNRESOLVED", "true")
    assert len(world.provider.calls) == 1


def test_with_a_shared_account_even_one_task_is_for_a_person() -> None:
    world = World(account_shared=True)
    lost = lose(world, made=True)

    world.run(30)

    job = now(world, lost)
    assert (job.status, job.candidates) == (Status.UNRESOLVED, ("task-0001",))
    assert world.operate("adopt", job.job_id, "task-0001")["status"] == "RUNNING"
    world.run(20)
    assert now(world, lost).status is Status.SUCCEEDED


def test_a_held_job_keeps_its_slot_while_its_task_may_be_running() -> None:
    world = World()
    lost = lose(world, made=True)
    somebody_elses(world, after=1)
    world.run(30)
    assert now(world, lost).status is Status.UNRESOLVED
    assert lost.job_id in world.store.lane(world.lane_of(WANX)).slots

    world.run(400)

    assert world.store.lane(world.lane_of(WANX)).slots == {}


def test_a_task_that_says_itself_that_it_is_another_s_is_given_back() -> None:
    world = World()
    lost = lose(world, made=False)
    foreign = somebody_elses(world, after=1)
    told = TaskAnswer(status="SUCCEEDED", prompts=(RewrittenPrompt("not ours", "Not ours."),))
    world.provider.answers[foreign.task_id] = told

    world.run(60)

    job = now(world, lost)
    assert job.status is Status.UNRESOLVED
    assert job.doubt is not None
    assert foreign.task_id in job.doubt
    assert job.outputs == ()


def test_a_list_that_cannot_be_had_says_nothing_until_a_day_is_over() -> None:
    world = World()
    lost = lose(world, made=False)
    world.provider.next_lists += [TryLater("HTTP 503", code="ServiceUnavailable")] * 3000

    world.clock.advance(23 * 3600)
    answer = poll(world, lost.job_id, lost.fence)
    assert answer["next"] == "wait"
    assert now(world, lost).status is Status.RESOLVING

    world.clock.advance(3600)
    answer = poll(world, lost.job_id, lost.fence)
    assert answer["next"] == "stop"
    assert now(world, lost).status is Status.UNRESOLVED


def test_an_account_that_is_refused_meanwhile_pauses_the_lane_and_is_told_of() -> None:
    # Fault 33.
    world = World()
    lost = lose(world, made=True)
    world.provider.next_lists.append(AccountRefused("InvalidApiKey", "no"))

    world.run(SETTLE_SECONDS + 2)

    assert now(world, lost).status is Status.RESOLVING
    assert world.store.lane(world.lane_of(WANX)).paused_by is not None
    (alert,) = world.notices.notifications
    assert alert.attributes == {"kind": "alert", "alert": "lane-paused"}
    world.run(90)
    assert now(world, lost).status is Status.SUCCEEDED


def test_a_provider_that_does_not_list_leaves_it_to_a_person() -> None:
    world = World()
    lost = lose(world, made=True)
    world.provider.next_lists.append(ProviderRefused("InvalidParameter", "no list"))

    world.run(SETTLE_SECONDS + 5)

    assert now(world, lost).status is Status.UNRESOLVED


# --- crashes and competition ----------------------------------------


def test_a_lost_answer_whose_execution_is_gone_is_looked_for_by_another() -> None:
    world = World()
    lost = lose(world, made=True)
    for execution in world.executions.running():
        execution.running = False
    world.clock.advance(31)

    reconcile(world, world.clock.now() + 35)

    assert [e.name for e in world.executions.running()] == [f"{lost.job_id}-1-1"]
    world.run(60)
    assert now(world, lost).status is Status.SUCCEEDED


def test_a_task_is_never_two_jobs_whoever_looks() -> None:
    world = World()
    lost = lose(world, made=True)
    world.clock.advance(SETTLE_SECONDS)
    world.store.before_commit.append(lambda: poll(world, lost.job_id, lost.fence))

    poll(world, lost.job_id, lost.fence)

    assert now(world, lost).status is Status.RUNNING
    assert world.store.claims == {"task-0001": lost.job_id}
    states = [job.status for job in world.store.history if job.job_id == lost.job_id]
    assert states.count(Status.RUNNING) == 1


def test_a_second_writer_sends_nothing_while_the_first_one_s_call_has_no_outcome() -> None:
    # Faults 18 and 21: the second dispatcher comes while the first is in its call, or dead.
    world = World()
    first = world.enter("first", prompt="first")
    second = world.enter("second", prompt="second")
    world.effects.plan = lambda _, name: Moment.AFTER if name == "create" else None
    with pytest.raises(Crash):
        world.dispatch()
    world.effects.heal()

    world.dispatch(seconds=75)

    assert [call.prompt for call in world.provider.calls] == ["first"]
    world.run(300)
    assert now(world, first).status is Status.SUCCEEDED
    assert now(world, second).status is Status.SUCCEEDED
    assert sorted(world.provider.billed) == ["first", "second"]


def test_an_answer_that_comes_after_all_is_no_second_task() -> None:
    # A writer so slow that its job was declared lost and adopted meanwhile.
    world = World()
    job = world.enter()

    def overtaken() -> None:
        world.clock.advance(jobs.ADMITTED_LEASE_SECONDS + 1)
        world.reconcile()

    world.provider.during_call.append(overtaken)
    world.dispatch()

    assert now(world, job).status is Status.RUNNING
    assert now(world, job).task_id == "task-0001"
    world.run(60)
    assert now(world, job).status is Status.SUCCEEDED
    assert len(world.provider.calls) == 1
    told = json.dumps(world.outbox.record("shoes/red"))
    assert '"doubt": null' in told
