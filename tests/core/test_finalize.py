"""finalize: results are there, whole, under names that can be foretold; the job ends once."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from retouch.errors import ProviderRefused, ResultHostUnknown, TryLater
from retouch.jobs import Failure, Job, Status
from retouch.provider.answers import RewrittenPrompt, TaskAnswer
from retouch.settings import Prices
from retouch.steps.poll import poll
from tests.fakes import (
    PHOTO,
    QWEN,
    RESULT_HOST,
    WAN,
    WAN_26,
    WANX,
    Crash,
    FakeProvider,
    Moment,
    World,
    picture,
    sha256,
    sidecar_json,
)

GONE = ProviderRefused("ResultGone", "the result's URL answered HTTP 403")
BROKEN = TryLater("the download failed: ReadTimeout")


def finished(world: World, job: Job) -> Job:
    world.finalize(job.job_id, job.fence)
    return world.store.the_job(job.job_id)


def url(task_id: str, number: int) -> str:
    return FakeProvider.urls(task_id, number)[-1]


# --- results ----------------------------------------


def test_results_are_copied_under_names_that_can_be_foretold_with_their_digests() -> None:
    world = World()
    job = world.finalizing_job(parameters={"n": 2})
    second = picture(700, 600, kind="JPEG")
    world.provider.files[url("task-0001", 2)] = (second[:100], second[100:])

    after = finished(world, job)

    assert after.status is Status.SUCCEEDED
    assert world.outbox.results() == ["shoes/red/red-1.png", "shoes/red/red-2.jpg"]
    assert world.outbox.data("shoes/red/red-1.png") == PHOTO
    assert world.outbox.data("shoes/red/red-2.jpg") == second
    one, two = after.outputs
    assert (one.key, one.sha256, one.size) == ("shoes/red/red-1.png", sha256(PHOTO), len(PHOTO))
    assert one.version_id == world.outbox.objects[one.key][-1].version_id
    assert (two.sha256, two.width, two.height) == (sha256(second), 700, 600)
    assert world.outbox.objects[two.key][-1].content_type == "image/jpeg"


def test_the_record_of_a_finished_job_says_what_was_done_and_what_it_cost() -> None:
    world = World()
    job = world.finalizing_job(parameters={"n": 2, "seed": 7}, labels={"sku": "A-113"})

    finished(world, job)

    record = world.outbox.record("shoes/red")
    assert record["status"] == "SUCCEEDED"
    assert record["cost"] == {"images": 2, "price": "0.14", "amount": "0.28", "currency": "CNY"}
    assert (record["seed"], record["labels"]) == (7, {"sku": "A-113"})
    assert record["task_id"] == "task-0001"
    assert record["request_ids"] == {"create": "request-task-0001", "result": "result-task-0001"}
    assert [output["key"] for output in record["outputs"]] == [
        "shoes/red/red-1.png",
        "shoes/red/red-2.png",
    ]
    assert record["times"]["finished"] is not None
    assert "Signature" not in json.dumps(record)


def test_exactly_one_notification_tells_of_the_end() -> None:
    world = World()
    job = world.finalizing_job(labels={"sku": "A-113"})

    finished(world, job)

    (note,) = world.notices.notifications
    assert note.attributes == {
        "kind": "job",
        "status": "SUCCEEDED",
        "folder": "shoes",
        "model": WANX,
    }
    assert note.message["labels"] == {"sku": "A-113"}
    assert note.message["outbox"]["images"] == ["shoes/red/red-1.png"]
    assert "prompt" not in note.message


def test_the_provider_is_asked_again_for_urls_and_none_is_stored() -> None:
    world = World()
    job = world.finalizing_job()
    asked = len(world.provider.queries)

    finished(world, job)

    assert len(world.provider.queries) == asked + 1
    assert "Signature" not in repr(world.store.jobs)


def test_a_synchronous_answer_is_read_from_where_it_was_kept() -> None:
    world = World()
    job = world.admitted_sync_job(parameters={"n": 2})
    world.generate(job.job_id, job.fence)

    after = finished(world, job)

    assert after.status is Status.SUCCEEDED
    assert len(after.outputs) == 2
    assert after.result_request_id == "request-sync"
    assert world.provider.queries == []
    assert world.store.answer(job.job_id) is None


# --- text with images ----------------------------------------


def told(world: World, job: Job, *parts: str | int, **fields: Any) -> None:
    """Lets the job's task answer with texts, and its images by their numbers, in that order."""
    assert job.task_id is not None
    numbers = [part for part in parts if isinstance(part, int)]
    world.provider.answers[job.task_id] = TaskAnswer(
        status="SUCCEEDED",
        images=tuple(url(job.task_id, number) for number in numbers),
        texts=tuple(part for part in parts if isinstance(part, str)),
        reading=parts,
        usage={"image_count": len(numbers)},
        **fields,
    )


def test_text_and_images_stand_in_the_order_in_which_the_model_gave_them() -> None:
    world = World()
    job = world.finalizing_job()
    told(
        world, job, "First, loosen the soil …", 1, 2, "Then 浇水\n", 3,
        rewritten_prompts=("a redder sky",),
    )  # fmt: skip

    after = finished(world, job)

    text = """First, loosen the soil …

![Image 1](red-1.png)

![Image 2](red-2.png)

Then 浇水

![Image 3](red-3.png)
""".encode()
    assert world.outbox.data("shoes/red/red.md") == text
    assert after.text is not None
    assert (after.text.key, after.text.sha256) == ("shoes/red/red.md", sha256(text))
    assert world.outbox.record("shoes/red")["rewritten_prompts"] == ["a redder sky"]


def test_an_image_that_could_not_be_fetched_is_told_of_at_its_place() -> None:
    world = World()
    job = world.finalizing_job()
    told(world, job, "First", 1, "then", 2)
    world.provider.refused_urls[url("task-0001", 1)] = GONE

    after = finished(world, job)

    assert after.status is Status.PARTIAL
    assert world.outbox.data("shoes/red/red.md").decode() == (
        "First\n\n> **Image 1 is missing.** ResultGone: the result's URL answered HTTP 403\n\n"
        "then\n\n![Image 2](red-2.png)\n"
    )


def test_a_text_that_broke_off_says_so_at_its_end() -> None:
    world = World()
    job = world.finalizing_job()
    failure = Failure(code="StreamInterrupted", message="the stream\nbroke off")
    told(world, job, "First", 1, "then", failure=failure)

    finished(world, job)

    assert world.outbox.data("shoes/red/red.md").decode().splitlines()[-1] == (
        "> **The answer broke off here.** StreamInterrupted: the stream broke off"
    )


def test_images_that_were_copied_by_an_earlier_try_keep_their_places_in_the_text() -> None:
    world = World()
    job = world.finalizing_job()
    told(world, job, 1, "one", 2, "two")
    world.provider.files[url("task-0001", 2)] = (PHOTO[:50], BROKEN)
    with pytest.raises(TryLater):
        world.finalize(job.job_id, job.fence)
    del world.provider.files[url("task-0001", 2)]
    assert "shoes/red/red.md" not in world.outbox.objects

    finished(world, job)

    assert world.outbox.data("shoes/red/red.md").decode() == (
        "![Image 1](red-1.png)\n\none\n\n![Image 2](red-2.png)\n\ntwo\n"
    )
    assert world.provider.fetched.count(url("task-0001", 1)) == 1


def test_a_text_that_had_to_make_way_finds_the_images_that_did_not() -> None:
    world = World()
    job = world.finalizing_job()
    told(world, job, "one", 1, "two", 2)
    # A newer job takes the folder over once the images are there.
    takes_over = lambda: world.store.latest.update({"shoes/red/": "newer"})  # noqa: E731
    world.outbox.before_put.extend([lambda: None, takes_over])

    after = finished(world, job)

    assert [output.key for output in after.outputs] == [
        "shoes/red/red-1.png",
        "shoes/red/red-2.png",
    ]
    assert after.text is not None
    assert after.text.key == f"shoes/red/{job.job_id}/{job.job_id}.md"
    assert "![Image 1](../red-1.png)" in world.outbox.data(after.text.key).decode()


def test_the_cost_follows_the_provider_s_count_and_not_what_was_asked_for() -> None:
    world = World()
    job = world.finalizing_job(model=WAN, parameters={"enable_sequential": True, "n": 12})
    world.provider.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED",
        images=FakeProvider.urls("task-0001", 4),
        usage={"image_count": 4},
    )

    after = finished(world, job)

    assert after.status is Status.SUCCEEDED  # twelve were the most, not promised
    assert after.cost is not None
    assert (after.cost.images, after.cost.amount) == (4, "0.56")


def test_without_a_price_the_record_says_how_many_and_no_amount() -> None:
    world = World(prices=Prices({}))
    job = world.finalizing_job()

    cost = finished(world, job).cost

    assert cost is not None
    assert cost.model_dump() == {"images": 1, "price": None, "amount": None, "currency": None}


# --- less than everything ----------------------------------------


def test_images_that_failed_at_the_provider_make_the_job_partial() -> None:
    # Fault 29.
    world = World()
    job = world.finalizing_job(parameters={"n": 2})
    failure = Failure(code="DataInspectionFailed", message="Output data may ...")
    world.provider.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED",
        images=(url("task-0001", 1),),
        image_failures=(failure,),
        usage={"image_count": 1},
    )

    after = finished(world, job)

    assert after.status is Status.PARTIAL
    assert after.image_failures == (failure,)
    assert after.cost is not None
    assert after.cost.images == 1
    record = world.outbox.record("shoes/red")
    assert [f["code"] for f in record["image_failures"]] == ["DataInspectionFailed"]
    assert world.notices.notifications[0].message["failed_images"] == 1


def test_fewer_images_than_promised_make_the_job_partial() -> None:
    world = World()
    job = world.finalizing_job(parameters={"n": 3})
    world.provider.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED", images=FakeProvider.urls("task-0001", 2), usage={"image_count": 2}
    )

    assert finished(world, job).status is Status.PARTIAL


def test_an_image_that_is_refused_leaves_the_others() -> None:
    # Fault 38 for one of two.
    world = World()
    job = world.finalizing_job(parameters={"n": 2})
    world.provider.refused_urls[url("task-0001", 1)] = ProviderRefused(
        "ResultHostNotAllowed", "results may not come from evil.example.com"
    )

    after = finished(world, job)

    assert after.status is Status.PARTIAL
    assert [f.code for f in after.image_failures] == ["ResultHostNotAllowed"]
    assert len(after.outputs) == 1
    assert after.cost is not None
    assert after.cost.images == 2


@pytest.mark.parametrize(
    "chunks", [(b"<html>gone</html>",), (b"",), (), (picture(kind="BMP"),)], ids=str
)
def test_a_result_that_is_no_image_of_a_known_kind_is_that_image_s_failure(
    chunks: tuple[bytes, ...],
) -> None:
    # Fault 37: the wrong type.
    world = World()
    job = world.finalizing_job()
    world.provider.files[url("task-0001", 1)] = chunks

    after = finished(world, job)

    assert after.status is Status.FAILED
    assert [f.code for f in after.image_failures] == ["ResultNotAnImage"]
    assert world.outbox.results() == []
    assert after.doubt is not None  # it was billed, and there is nothing to show for it


def test_results_that_expired_before_they_were_copied_leave_the_doubt_on_the_job() -> None:
    # Fault 36, rule 6.
    world = World()
    job = world.finalizing_job()
    world.provider.refused_urls[url("task-0001", 1)] = GONE

    after = finished(world, job)

    assert after.status is Status.FAILED
    assert after.failure is not None
    assert after.failure.code == "ResultGone"
    assert after.doubt is not None
    (note,) = world.notices.notifications
    assert note.attributes["doubt"] == "true"


def test_a_success_whose_task_is_forgotten_before_finalize_leaves_the_doubt_on_the_job() -> None:
    # Faults 30 and 36: it succeeded and was billed; a day later the provider knows nothing of it.
    world = World()
    job = world.finalizing_job()
    world.clock.advance(25 * 3600)

    after = finished(world, job)

    assert after.status is Status.FAILED
    assert after.doubt is not None


def test_a_synchronous_success_whose_answer_has_expired_leaves_the_doubt_on_the_job() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.generate(job.job_id, job.fence)
    world.store.answers.clear()  # as the table does after its time

    after = finished(world, job)

    assert after.status is Status.FAILED
    assert after.doubt is not None


def test_a_success_without_an_image_fails_and_says_so() -> None:
    world = World()
    job = world.finalizing_job()
    world.provider.answers["task-0001"] = TaskAnswer(status="SUCCEEDED")

    after = finished(world, job)

    assert after.status is Status.FAILED
    assert after.failure is not None
    assert after.failure.code == "NoImages"
    assert after.doubt is not None


def test_a_failed_task_keeps_the_provider_s_words_and_costs_nothing() -> None:
    # Fault 28.
    world = World()
    job = world.running_job()
    failure = Failure(code="InternalError.Timeout", message="no result", request_id="r-5")
    world.provider.answers["task-0001"] = TaskAnswer(status="FAILED", failure=failure)
    poll(world, job.job_id, job.fence)

    after = finished(world, job)

    assert (after.status, after.failure) == (Status.FAILED, failure)
    assert after.cost is not None
    assert (after.cost.images, after.cost.amount) == (0, "0.00")
    assert after.doubt is None
    assert len(world.provider.queries) == 1


def test_a_task_that_became_unknown_fails_with_its_doubt() -> None:
    world = World()
    job = world.running_job()
    world.provider.answers["task-0001"] = TaskAnswer(status="UNKNOWN")
    world.clock.advance(61)
    poll(world, job.job_id, job.fence)

    after = finished(world, job)

    assert after.status is Status.FAILED
    assert after.failure is not None
    assert after.failure.code == "TaskUnknown"
    assert after.doubt is not None


@pytest.mark.parametrize("state", ["CANCELED", "FAILED"])
def test_a_task_that_did_not_succeed_is_not_said_to_have_succeeded(state: str) -> None:
    world = World()
    job = world.running_job()
    world.provider.answers["task-0001"] = TaskAnswer(status=state)
    poll(world, job.job_id, job.fence)

    after = finished(world, job)

    assert after.status in (Status.FAILED, Status.CANCELED)
    assert after.failure is None or "success" not in after.failure.message


# --- time will mend it ----------------------------------------


@pytest.mark.parametrize("chunks", [(BROKEN,), (PHOTO[:50], BROKEN), (PHOTO, BROKEN)], ids=len)
def test_a_download_that_broke_off_leaves_nothing_and_is_repeated(
    chunks: tuple[bytes | Exception, ...],
) -> None:
    # Fault 37.
    world = World()
    job = world.finalizing_job()
    world.provider.files[url("task-0001", 1)] = chunks

    with pytest.raises(TryLater):
        world.finalize(job.job_id, job.fence)

    assert world.outbox.results() == []
    assert world.store.the_job(job.job_id).status is Status.FINALIZING
    world.provider.files.clear()
    assert finished(world, job).status is Status.SUCCEEDED


def test_a_large_result_that_broke_off_after_its_head_leaves_nothing() -> None:
    world = World()
    job = world.finalizing_job()
    world.provider.files[url("task-0001", 1)] = (PHOTO + b"\0" * 70_000, b"more", BROKEN)

    with pytest.raises(TryLater):
        world.finalize(job.job_id, job.fence)

    assert world.outbox.results() == []


def test_a_question_that_failed_leaves_the_job_for_later() -> None:
    world = World()
    job = world.finalizing_job()
    world.provider.next_queries.append(TryLater("HTTP 503", code="ServiceUnavailable"))

    with pytest.raises(TryLater):
        world.finalize(job.job_id, job.fence)

    assert finished(world, job).status is Status.SUCCEEDED


def test_a_task_that_is_reported_running_again_is_left_for_later() -> None:
    world = World()
    job = world.finalizing_job()
    world.provider.answers["task-0001"] = TaskAnswer(status="RUNNING")

    with pytest.raises(TryLater):
        world.finalize(job.job_id, job.fence)

    assert world.store.the_job(job.job_id).status is Status.FINALIZING


def test_an_outbox_that_refuses_the_write_leaves_the_job_for_later() -> None:
    # Fault 39.
    world = World()
    job = world.finalizing_job()
    world.outbox.refused.add("shoes/red/red-1.png")
    with pytest.raises(TryLater):
        world.finalize(job.job_id, job.fence)
    world.outbox.refused.clear()

    assert finished(world, job).status is Status.SUCCEEDED


# --- repeats ----------------------------------------


def test_a_repeated_finalize_changes_nothing_and_notifies_nobody() -> None:
    world = World()
    job = world.finalizing_job()
    finished(world, job)
    before = (dict(world.store.jobs), len(world.notices.events), len(world.effects.log))

    answer = world.finalize(job.job_id, job.fence)

    assert answer == {"job_id": job.job_id, "fence": 1, "status": "SUCCEEDED", "next": "stop"}
    assert (dict(world.store.jobs), len(world.notices.events), len(world.effects.log)) == before
    assert len(world.notices.notifications) == 1
    assert len(world.outbox.objects["shoes/red/red-1.png"]) == 1


def test_two_finalizes_at_once_close_the_job_once() -> None:
    world = World()
    job = world.finalizing_job()
    world.store.before_commit.append(lambda: world.finalize(job.job_id, job.fence))

    finished(world, job)

    assert world.store.terminal_statuses(job.job_id) == [Status.SUCCEEDED]
    assert len(world.notices.notifications) == 1


def test_an_execution_of_an_older_admission_finishes_nothing() -> None:
    world = World()
    job = world.finalizing_job()

    assert world.finalize(job.job_id, job.fence + 1)["status"] is None
    assert world.finalize("a" * 16, 1)["status"] is None

    assert world.store.the_job(job.job_id) == job
    assert world.outbox.results() == []


def test_whichever_effect_it_dies_at_the_repetition_ends_the_job_once_with_its_results() -> None:
    # Fault 40 among them: it dies after writing, before notifying.
    for prepare in (_async_job, _sync_job):
        for moment in Moment:
            for number in itertools.count(1):
                world = World()
                job = prepare(world)
                world.effects.crash_at(number, moment)
                try:
                    world.finalize(job.job_id, job.fence)
                except Crash:
                    world.effects.heal()
                else:
                    break
                world.finalize(job.job_id, job.fence)
                where = (prepare.__name__, number, moment)
                after = world.store.the_job(job.job_id)
                assert world.store.terminal_statuses(job.job_id) == [Status.SUCCEEDED], where
                assert world.outbox.results() == ["shoes/red/red-1.png", "shoes/red/red-2.png"]
                for output in after.outputs:
                    assert sha256(world.outbox.data(output.key)) == output.sha256, where
                    versions = [v.version_id for v in world.outbox.objects[output.key]]
                    assert output.version_id in versions, where
                assert world.outbox.record("shoes/red")["status"] == "SUCCEEDED", where
                assert world.notices.notifications, where
                assert len(world.provider.billed) == 1, where
                assert world.store.answers == {}, where
            assert number > 6


def _async_job(world: World) -> Job:
    return world.finalizing_job(parameters={"n": 2})


def _sync_job(world: World) -> Job:
    job = world.admitted_sync_job(parameters={"n": 2})
    world.generate(job.job_id, job.fence)
    return job


def test_an_older_job_of_the_same_name_that_ends_later_overwrites_nothing_newer() -> None:
    # Fault 41, rule 5.
    world = World()
    old, new = _two_jobs_of_one_name(world)
    older, newer = picture(colour="red"), picture(colour="blue")
    world.provider.files[url("task-0001", 1)] = (older,)
    world.provider.files[url("task-0002", 1)] = (newer,)
    for job in (new, old):
        poll(world, job.job_id, job.fence)
        world.finalize(job.job_id, job.fence)

    assert world.outbox.data("red/red-1.png") == newer
    assert world.outbox.record("red")["job_id"] == new.job_id


def test_an_older_job_of_the_same_name_still_ends_and_tells_so() -> None:
    world = World()
    old, new = _two_jobs_of_one_name(world)
    for job in (new, old):
        poll(world, job.job_id, job.fence)
        world.finalize(job.job_id, job.fence)

    told = {
        note.message["job_id"]: note.attributes["status"] for note in world.notices.notifications
    }
    assert told == {old.job_id: "SUCCEEDED", new.job_id: "SUCCEEDED"}


def _two_jobs_of_one_name(world: World) -> tuple[Job, Job]:
    """Two versions of one sidecar, both at the provider, both done there."""
    world.inbox.put("red.png", PHOTO)
    made: list[str] = []
    for prompt in ("old", "new"):
        world.clock.advance(1)
        made += world.drop("red.png.json", sidecar_json(prompt=prompt))
        world.dispatch()
    world.clock.advance(30)
    old, new = map(world.store.the_job, made)
    assert (old.task_id, new.task_id) == ("task-0001", "task-0002")
    return old, new


def test_a_finalize_that_keeps_failing_is_tried_again_ever_more_slowly_and_not_forgotten() -> None:
    world = World()
    job = world.finalizing_job(model=WANX)
    for execution in world.executions.started.values():
        execution.running = False
    starts = []
    for minute in range(24 * 60):
        world.clock.advance(60)
        before = len(world.executions.started)
        world.reconcile()
        if len(world.executions.started) > before:
            starts.append(minute)
        for execution in world.executions.running():
            execution.running = False  # and fails once more

    assert 10 < len(starts) < 200
    assert starts[-1] > 23 * 60
    assert finished(world, job).status in (Status.FAILED, Status.SUCCEEDED)


@pytest.mark.parametrize("model", [WANX, WAN, QWEN])
def test_a_job_without_doubt_has_none_on_record(model: str) -> None:
    world = World()
    if model == QWEN:
        job = world.admitted_sync_job()
        world.generate(job.job_id, job.fence)
    else:
        job = world.finalizing_job(model=model)

    assert finished(world, job).doubt is None
    assert "doubt" not in world.notices.notifications[0].attributes


def test_a_result_keeps_its_number_where_one_before_it_cannot_be_fetched() -> None:
    world = World()
    job = world.finalizing_job(parameters={"n": 2})
    world.provider.refused_urls[url("task-0001", 1)] = GONE

    world.finalize(job.job_id, job.fence)

    done = world.store.the_job(job.job_id)
    assert done.status is Status.PARTIAL
    assert [output.key for output in done.outputs] == ["shoes/red/red-2.png"]
    assert done.doubt is not None


def test_an_answer_that_broke_off_leaves_its_images_and_a_doubt() -> None:
    world = World()
    job = world.admitted_sync_job(parameters={"n": 2})
    body = {
        "output": {"choices": [{"message": {"content": [{"image": f"{RESULT_HOST}/1.png"}]}}]},
        "usage": {"image_count": 1},
        "code": "StreamInterrupted",
        "message": "the stream broke off",
    }
    world.provider.next_bodies.append(json.dumps(body))
    world.generate(job.job_id, job.fence)

    world.finalize(job.job_id, job.fence)

    record = world.outbox.record("shoes/red")
    assert record["status"] == "PARTIAL"
    assert record["failure"]["code"] == "StreamInterrupted"
    assert "broke off" in record["doubt"]
    assert len(record["outputs"]) == 1
    assert record["cost"]["images"] == 1


def test_text_without_images_is_enough_where_images_are_only_the_most_that_may_come() -> None:
    world = World()
    world.clock.advance(0.01)
    (job_id,) = world.drop(
        "guide.json", sidecar_json(WAN_26, images=[], parameters={"enable_interleave": True})
    )
    world.dispatch(WAN_26)
    job = world.store.the_job(job_id)
    assert job.task_id is not None
    world.provider.answers[job.task_id] = TaskAnswer(
        status="SUCCEEDED", texts=("Only words.",), reading=("Only words.",)
    )
    poll(world, job_id, job.fence)

    world.finalize(job_id, job.fence)

    record = world.outbox.record("guide")
    assert record["status"] == "SUCCEEDED"
    assert record["outputs"] == []
    assert world.outbox.data("guide/guide.md") == b"Only words.\n"


def test_prompts_and_times_of_the_provider_are_on_record() -> None:
    world = World()
    job = world.running_job()
    assert job.task_id is not None
    prompts = (RewrittenPrompt("make the sky red", "Make the evening sky deep red"),)
    world.provider.answers[job.task_id] = TaskAnswer(
        status="SUCCEEDED",
        images=(f"{RESULT_HOST}/1.png",),
        prompts=prompts,
        rewritten_prompts=("Make the evening sky deep red",),
        submitted_at=1_700_000_000.5,
        ended_at=1_700_000_010.0,
        usage={"image_count": 1},
    )
    poll(world, job.job_id, job.fence)

    world.finalize(job.job_id, job.fence)

    record = world.outbox.record("shoes/red")
    assert record["original_prompts"] == ["make the sky red"]
    assert record["rewritten_prompts"] == ["Make the evening sky deep red"]
    assert record["times"]["provider"] == {
        "submitted": "2023-11-14T22:13:20.500Z",
        "ended": "2023-11-14T22:13:30.000Z",
    }


def test_prompts_beyond_what_a_record_holds_are_left_out_and_the_job_still_ends() -> None:
    world = World()
    job = world.running_job()
    assert job.task_id is not None
    world.provider.answers[job.task_id] = TaskAnswer(
        status="SUCCEEDED",
        images=(f"{RESULT_HOST}/1.png",),
        rewritten_prompts=("大" * 15_000,) * 24,
        usage={"image_count": 1},
    )
    poll(world, job.job_id, job.fence)

    world.finalize(job.job_id, job.fence)

    record = world.outbox.record("shoes/red")
    assert record["status"] == "SUCCEEDED"
    assert len(record["rewritten_prompts"]) == 1


ELSEWHERE = ResultHostUnknown("results may not come from elsewhere.example.com")


def test_a_result_on_a_host_that_is_not_listed_waits_for_an_operator_and_says_so_once() -> None:
    # Fault 38: it was paid for, and lies there for a day.
    world = World()
    job = world.finalizing_job()
    assert job.task_id is not None
    world.provider.refused_urls[url(job.task_id, 1)] = ELSEWHERE

    for _ in range(3):
        with pytest.raises(ResultHostUnknown):
            world.finalize(job.job_id, job.fence)
        world.clock.advance(600)

    record = world.outbox.record("shoes/red")
    assert record["status"] == "FINALIZING"
    assert record["refusal"]["code"] == "ResultHostNotAllowed"
    assert "elsewhere.example.com" in record["refusal"]["message"]
    assert world.store.the_job(job.job_id).blocked
    assert world.notices.statuses(job.job_id).count("FINALIZING") == 2

    world.provider.refused_urls.clear()  # the operator has added the host
    done = finished(world, world.store.the_job(job.job_id))
    assert (done.status, done.blocked) == (Status.SUCCEEDED, False)


def test_a_result_that_nobody_may_fetch_for_a_day_ends_with_a_doubt() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.generate(job.job_id, job.fence)
    job = world.store.the_job(job.job_id)
    for address in world.provider.urls("task-0001", 1):
        world.provider.refused_urls[address] = ELSEWHERE
    world.clock.advance(24 * 3600)

    done = finished(world, job)

    assert done.status is Status.FAILED
    assert done.failure is not None
    assert done.failure.code == "ResultHostNotAllowed"
    assert done.doubt is not None


def test_images_that_are_counted_and_did_not_come_are_a_doubt() -> None:
    # Contract 4.5: the count is what is billed.
    world = World()
    job = world.running_job(model=WAN, parameters={"enable_sequential": True, "n": 12})
    assert job.task_id is not None
    world.provider.answers[job.task_id] = TaskAnswer(
        status="SUCCEEDED", images=(f"{RESULT_HOST}/1.png",), usage={"image_count": 12}
    )
    poll(world, job.job_id, job.fence)

    done = finished(world, world.store.the_job(job.job_id))

    assert done.status is Status.SUCCEEDED
    assert done.cost is not None
    assert done.cost.images == 12
    assert done.doubt is not None


def test_a_model_that_was_taken_out_of_the_settings_does_not_keep_its_results() -> None:
    world = World()
    job = world.finalizing_job(model=WAN)
    world.settings = replace(world.settings, models={})

    assert finished(world, job).status is Status.SUCCEEDED
