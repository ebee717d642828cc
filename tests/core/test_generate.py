"""generate: one call at most for an admission, and its answer is never lost half way."""

from __future__ import annotations

import itertools
import json

import pytest

from retouch.errors import AccountRefused, Conflict, ProviderRefused, TryLater
from retouch.jobs import GENERATE_SECONDS, Job, Status
from retouch.provider.answers import task_answer
from retouch.registry import MODELS
from retouch.settings import Delivery
from retouch.steps.generate import ANSWER_KEPT_SECONDS
from tests.fakes import QWEN, RESULT_HOST, Crash, Lost, Moment, World


def now(world: World, job: Job) -> Job:
    return world.store.the_job(job.job_id)


def slots(world: World) -> set[str]:
    return set(world.store.lane(world.lane_of(QWEN)).slots)


def test_the_call_is_made_and_its_answer_kept_and_the_slot_freed_in_one_commit() -> None:
    world = World()
    job = world.admitted_sync_job(negative_prompt="blur", parameters={"n": 2})
    world.kicks.sent.clear()
    commits = world.effects.log.count("commit")

    answer = world.generate(job.job_id, job.fence)

    assert answer["next"] == "finalize"
    assert world.effects.log.count("commit") - commits == 2  # the intent, and then all the rest
    after = now(world, job)
    assert (after.status, after.provider_status) == (Status.FINALIZING, "SUCCEEDED")
    assert slots(world) == set()
    assert world.kicks.sent == [job.lane]
    kept = world.store.answer(job.job_id)
    assert kept is not None
    assert len(json.loads(kept.body)["output"]["choices"][0]["message"]["content"]) == 2
    assert kept.expires_at == int(world.clock.now()) + ANSWER_KEPT_SECONDS


def test_the_synchronous_request_has_no_async_header_and_text_last() -> None:
    world = World()
    job = world.admitted_sync_job(negative_prompt="blur", parameters={"n": 2})

    world.generate(job.job_id, job.fence)

    (call,) = world.provider.calls
    assert call.request.headers == {}
    version = job.images[0].version_id
    url = f"https://inbox.example.com/shoes/red.png?versionId={version}&Signature=secret"
    assert call.request.body == {
        "model": QWEN,
        "input": {
            "messages": [
                {"role": "user", "content": [{"image": url}, {"text": "make the sky red"}]}
            ]
        },
        "parameters": {"n": 2, "negative_prompt": "blur"},
    }


def test_the_answer_with_its_signed_urls_is_in_no_record_event_or_job() -> None:
    world = World()
    job = world.admitted_sync_job()

    world.generate(job.job_id, job.fence)
    world.finalize(job.job_id, job.fence)

    said = repr(world.store.jobs) + repr(world.notices.events) + repr(world.outbox.objects)
    assert "Signature" not in said
    assert world.store.answer(job.job_id) is None  # forgotten once the results were copied


def test_nothing_is_called_before_the_job_s_start_time() -> None:
    world = World()
    world.enter("first", QWEN)
    world.enter("second", QWEN)
    world.dispatch(QWEN)
    second = list(world.store.jobs_in(Status.ADMITTED))[1]
    assert second.start_at == pytest.approx(world.clock.now() + MODELS[QWEN].quota.interval)

    answer = world.generate(second.job_id, second.fence)

    assert (answer["next"], answer["wait_seconds"]) == ("wait", 1)
    assert world.provider.calls == []
    world.clock.advance(MODELS[QWEN].quota.interval)
    assert world.generate(second.job_id, second.fence)["next"] == "finalize"


def test_a_second_invocation_that_finds_the_intent_holds_the_job_and_never_calls() -> None:
    # Fault 21 for a synchronous call: the first invocation died in the middle of it.
    world = World()
    job = world.admitted_sync_job()
    world.effects.plan = lambda _, name: Moment.AFTER if name == "generate" else None
    with pytest.raises(Crash):
        world.generate(job.job_id, job.fence)
    world.effects.heal()
    world.kicks.sent.clear()

    answer = world.generate(job.job_id, job.fence)
    assert (answer["next"], answer["wait_seconds"]) == ("wait", 600)  # it may be alive after all
    world.clock.advance(600)
    assert world.generate(job.job_id, job.fence)["next"] == "stop"

    held = now(world, job)
    assert held.status is Status.UNRESOLVED
    assert held.doubt is not None
    assert len(world.provider.calls) == 1
    assert slots(world) == set()
    assert world.kicks.sent == [job.lane]
    assert world.generate(job.job_id, job.fence)["next"] == "stop"
    assert len(world.provider.calls) == 1


def test_two_invocations_at_once_make_one_call() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.store.before_commit.append(lambda: world.generate(job.job_id, job.fence))

    assert world.generate(job.job_id, job.fence)["next"] == "stop"

    assert len(world.provider.calls) == 1
    assert now(world, job).status is Status.FINALIZING


def test_a_repeated_invocation_after_the_answer_goes_on_to_finalize() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.generate(job.job_id, job.fence)

    assert world.generate(job.job_id, job.fence)["next"] == "finalize"
    assert len(world.provider.calls) == 1


def test_an_execution_of_an_older_admission_stops_and_calls_nothing() -> None:
    world = World()
    job = world.admitted_sync_job()

    assert world.generate(job.job_id, job.fence + 1)["next"] == "stop"
    assert world.generate("a" * 16, 1)["next"] == "stop"
    assert world.provider.calls == []
    assert now(world, job) == job


def test_a_refusal_for_pace_puts_the_job_back_and_slows_the_lane() -> None:
    # Fault 25.
    world = World()
    job = world.admitted_sync_job()
    world.kicks.sent.clear()
    world.provider.next_calls.append(TryLater("slow down", code="Throttling.RateQuota"))

    assert world.generate(job.job_id, job.fence)["next"] == "stop"

    assert now(world, job).status is Status.QUEUED
    lane = world.store.lane(world.lane_of(QWEN))
    assert (lane.throttles, lane.slots) == (1, {})
    assert lane.next_create_at >= world.clock.now() + 1
    assert world.kicks.sent == [job.lane]

    world.dispatch(QWEN)
    again = now(world, job)
    assert (again.status, again.fence) == (Status.ADMITTED, 2)
    assert world.generate(job.job_id, 1)["next"] == "stop"  # the old execution
    world.clock.advance(2)
    assert world.generate(job.job_id, 2)["next"] == "finalize"
    assert len(world.provider.billed) == 1


def test_calls_are_never_closer_than_the_pace_though_one_was_refused_and_others_are_late() -> None:
    # Rule 2. Start times are fixed ahead; a backoff must not give the same moment away again, and
    # executions that come late must not call all at once.
    world = World(sync_window=6)
    for number in range(9):
        world.enter(f"job{number}", QWEN)
    world.dispatch(QWEN)
    world.provider.next_calls.append(TryLater("slow down", code="Throttling.RateQuota"))

    for round_ in range(200):
        world.clock.advance(5.0 if round_ == 1 else 0.05)  # once, all of them are late
        for execution in world.executions.running():
            world.turn(execution)
        world.dispatch(QWEN)

    times = [call.at for call in world.provider.calls]
    assert len(times) == 10
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.5 - 1e-6


def test_an_account_refusal_puts_the_job_back_and_pauses_the_lane() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.provider.next_calls.append(AccountRefused("Arrearage", "Access denied.", "r-9"))

    assert world.generate(job.job_id, job.fence)["next"] == "stop"

    assert now(world, job).status is Status.QUEUED
    assert slots(world) == set()
    assert world.dispatch(QWEN) == 0
    world.clock.advance(61)
    assert world.dispatch(QWEN) == 1


def test_refused_content_ends_the_job_with_the_provider_s_words() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.provider.next_calls.append(
        ProviderRefused("DataInspectionFailed", "Input data may contain ...", "r-2")
    )

    assert world.generate(job.job_id, job.fence)["next"] == "finalize"
    assert slots(world) == set()
    world.finalize(job.job_id, job.fence)

    failed = now(world, job)
    assert failed.status is Status.FAILED
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.request_id) == ("DataInspectionFailed", "r-2")
    assert failed.doubt is None
    assert failed.cost is not None
    assert (failed.cost.images, failed.cost.amount) == (0, "0.00")


@pytest.mark.parametrize("made", [True, False])
def test_a_call_whose_answer_was_lost_is_held_and_never_repeated(made: bool) -> None:
    world = World()
    job = world.admitted_sync_job()
    world.kicks.sent.clear()
    world.provider.next_calls.append(Lost(made))

    assert world.generate(job.job_id, job.fence)["next"] == "stop"
    for _ in range(10):
        world.clock.advance(300)
        world.reconcile()
        world.dispatch(QWEN)

    assert now(world, job).status is Status.UNRESOLVED
    assert now(world, job).doubt
    assert len(world.provider.calls) == 1
    assert slots(world) == set()
    assert world.kicks.sent[0] == job.lane


def test_an_input_that_is_gone_ends_the_job_without_a_call() -> None:
    world = World(input_delivery=Delivery.PUSH)
    job = world.admitted_sync_job()
    world.inbox.purge("shoes/red.png")

    assert world.generate(job.job_id, job.fence)["next"] == "finalize"
    world.finalize(job.job_id, job.fence)

    assert world.provider.calls == []
    failure = now(world, job).failure
    assert failure is not None
    assert failure.code == "InputGone"


def test_the_answer_survives_other_writers_of_the_lane() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.enter("other", QWEN)
    # Another job is admitted between the answer and its commit.
    world.provider.during_call.append(
        lambda: world.store.before_commit.append(lambda: world.dispatch(QWEN))
    )

    assert world.generate(job.job_id, job.fence)["next"] == "finalize"

    assert world.store.answer(job.job_id) is not None
    assert len(slots(world)) == 1


def test_a_table_that_refuses_the_answer_leaves_the_doubt_on_the_job() -> None:
    # Fault 19 at the worst place: it was billed, and the answer cannot be stored.
    world = World()
    job = world.admitted_sync_job()
    world.effects.throttle = lambda name: name == "commit" and bool(world.provider.calls)
    with pytest.raises(TryLater):
        world.generate(job.job_id, job.fence)
    world.effects.heal()
    world.clock.advance(GENERATE_SECONDS)

    world.generate(job.job_id, job.fence)

    assert now(world, job).status is Status.UNRESOLVED
    assert len(world.provider.calls) == 1


def test_whichever_effect_it_dies_at_there_is_one_call_at_most_and_an_end() -> None:
    for moment in Moment:
        for number in itertools.count(1):
            world = World()
            job = world.admitted_sync_job()
            world.effects.crash_at(number, moment)
            try:
                world.generate(job.job_id, job.fence)
            except Crash:
                world.effects.heal()
            else:
                break
            where = (number, moment)
            answer = world.generate(job.job_id, job.fence)
            if answer["next"] == "wait":
                world.clock.advance(answer["wait_seconds"])
                answer = world.generate(job.job_id, job.fence)
            if answer["next"] == "finalize":
                world.finalize(job.job_id, job.fence)
            world.clock.advance(100)
            world.reconcile()
            after = now(world, job)
            assert after.status.settled, where
            assert len(world.provider.calls) <= 1, where
            assert (after.status is Status.UNRESOLVED) == bool(after.doubt), where
            assert slots(world) == set(), where
            assert world.outbox.record("shoes/red")["status"] == str(after.status), where
        assert number > 5


def test_a_conflict_that_does_not_end_is_raised_and_the_job_is_held_by_the_repetition() -> None:
    world = World()
    job = world.admitted_sync_job()
    lane = world.lane_of(QWEN)

    def meddle() -> None:
        stored = world.store.lane(lane)
        bumped = stored.model_copy(update={"version": stored.version + 1})
        world.store.lanes_stored[lane] = bumped
        if world.provider.calls:
            world.store.before_commit.append(meddle)

    world.provider.during_call.append(lambda: world.store.before_commit.append(meddle))
    with pytest.raises(Conflict):
        world.generate(job.job_id, job.fence)
    world.store.before_commit.clear()
    world.clock.advance(GENERATE_SECONDS)

    world.generate(job.job_id, job.fence)

    assert now(world, job).status is Status.UNRESOLVED
    assert len(world.provider.calls) == 1


def test_an_answer_larger_than_the_table_takes_is_kept_as_far_as_it_is_read() -> None:
    # What was paid for must not be lost because of what came with it.
    world = World()
    job = world.admitted_sync_job()
    urls = [f"{RESULT_HOST}/{number}.png" for number in range(3)]
    content = [{"text": "x" * 15_000} for _ in range(60)] + [{"image": url} for url in urls]
    world.provider.next_bodies.append(
        json.dumps(
            {
                "output": {"choices": [{"message": {"content": content}}]},
                "usage": {"image_count": 3, "details": ["y" * 1000] * 500},
                "request_id": "r-1",
            }
        )
    )

    world.generate(job.job_id, job.fence)

    kept = world.store.answer(job.job_id)
    assert kept is not None
    answer = task_answer(json.loads(kept.body), synchronous=True)
    assert list(answer.images) == urls
    assert answer.billed_images == 3
    assert answer.request_id == "r-1"


def test_an_answer_that_comes_while_a_second_invocation_waits_is_not_lost() -> None:
    # The state machine repeats a call whose answer it did not get; the first one is still at work.
    world = World()
    job = world.admitted_sync_job()
    seen: list[str] = []
    world.provider.during_call.append(
        lambda: seen.append(world.generate(job.job_id, job.fence)["next"])
    )

    assert world.generate(job.job_id, job.fence)["next"] == "finalize"

    assert seen == ["wait"]
    assert now(world, job).status is Status.FINALIZING
    assert world.store.answer(job.job_id) is not None
    assert len(world.provider.calls) == 1


def test_a_call_that_its_function_could_not_outlive_is_not_made() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.kicks.sent.clear()

    assert world.generate(job.job_id, job.fence, seconds=300)["next"] == "stop"

    back = now(world, job)
    assert (back.status, back.intent_at, back.stumbles) == (Status.QUEUED, None, 0)
    assert world.provider.calls == []
    assert world.kicks.sent == [job.lane]


def test_a_success_takes_the_lane_back_to_its_pace() -> None:
    world = World()
    world.admitted_sync_job("a")
    lane = world.lane_of(QWEN)
    for _ in range(3):
        world.provider.next_calls.append(TryLater("slow down", code="Throttling.RateQuota"))
        (job,) = world.store.jobs_in(Status.ADMITTED)
        world.generate(job.job_id, job.fence)
        world.clock.advance(60)
        world.dispatch(QWEN)
    assert world.store.lane(lane).throttles == 3
    (job,) = world.store.jobs_in(Status.ADMITTED)

    assert world.generate(job.job_id, job.fence)["next"] == "finalize"

    assert world.store.lane(lane).throttles == 0
