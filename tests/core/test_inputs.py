"""The ways in: how each image of a job gets to the provider, and what is on record of it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from retouch.errors import (
    NOT_REACHED,
    NOT_SENT,
    AccountRefused,
    InputNotFetched,
    ProviderRefused,
    TryLater,
)
from retouch.jobs import Failure, Job, Source, Status, Way
from retouch.provider.answers import TaskAnswer
from retouch.registry import DATA_URL_MAX_BYTES, MODELS
from retouch.settings import Delivery
from retouch.steps.inputs import UPLOAD_KEPT_SECONDS, ways
from retouch.steps.poll import poll
from tests.fakes import PHOTO, QWEN, WAN, WANX, Call, World, picture, sidecar_json

MEGABYTE = 1000 * 1000
URL = "https://img.example.com/a.png"
LARGE = PHOTO + b"\0" * (8 * MEGABYTE)
"""Too large for a data URL; nobody minds what follows the end of a PNG."""


def source(size: int = MEGABYTE, mime: str = "image/png") -> Source:
    return Source(key="a", version_id="1", sha256="0", size=size, mime=mime)


@pytest.mark.parametrize(
    ("model", "delivery", "sources", "expected"),
    [
        pytest.param(
            WAN, Delivery.PRESIGNED, [source(), source(20 * MEGABYTE)], [Way.PRESIGNED] * 2,
            id="a bucket that can be reached",
        ),
        pytest.param(
            WAN, Delivery.PRESIGNED, [Source(key=URL), source()], [Way.PUBLIC, Way.PRESIGNED],
            id="a public URL is passed on",
        ),
        pytest.param(
            WAN, Delivery.PUSH, [Source(key=URL), source()], [Way.PUBLIC, Way.DATA],
            id="also where images are pushed",
        ),
        pytest.param(
            WAN, Delivery.PUSH, [source(DATA_URL_MAX_BYTES)], [Way.DATA], id="just small enough"
        ),
        pytest.param(
            WAN, Delivery.PUSH, [source(DATA_URL_MAX_BYTES + 1)], [Way.UPLOAD], id="just too large"
        ),
        pytest.param(
            WAN, Delivery.PUSH, [source(4 * MEGABYTE), source(4 * MEGABYTE), source()],
            [Way.DATA, Way.UPLOAD, Way.DATA], id="together no larger than one may be",
        ),
        pytest.param(
            WANX, Delivery.PUSH, [source(mime="image/tiff")], [Way.DATA], id="TIFF with wanx2.1"
        ),
        pytest.param(
            QWEN, Delivery.PUSH, [source(mime="image/tiff")], [Way.UPLOAD], id="TIFF with qwen"
        ),
        pytest.param(
            QWEN, Delivery.PUSH, [source(mime="image/gif")], [Way.UPLOAD], id="GIF with qwen"
        ),
    ],
)  # fmt: skip
def test_the_way_follows_from_size_model_and_engine(
    model: str, delivery: Delivery, sources: list[Source], expected: list[Way]
) -> None:
    assert list(ways(sources, MODELS[model], delivery)) == expected


def entered(world: World, data: bytes, model: str = WANX, **fields: Any) -> Job:
    """A job with that image, in its lane's backlog."""
    world.inbox.put("a.png", data)
    (job_id,) = world.drop("a.png.json", sidecar_json(model, **fields))
    return world.store.the_job(job_id)


def sent_value(call: Call) -> str:
    """What stood for the image in a request to wanx2.1."""
    content: Any = call.request.body["input"]
    return str(content["base_image_url"])


def test_a_small_image_travels_inside_the_request_and_that_is_on_record() -> None:
    world = World(input_delivery=Delivery.PUSH)
    entered(world, PHOTO)

    world.dispatch()

    assert (
        sent_value(world.provider.calls[-1])
        == f"data:image/png;base64,{base64.b64encode(PHOTO).decode()}"
    )
    assert world.outbox.record("a")["inputs"][0]["sent_as"] == "data-url"
    assert world.provider.uploads == []


def test_a_large_image_goes_through_the_provider_s_temporary_storage() -> None:
    world = World(input_delivery=Delivery.PUSH)
    entered(world, LARGE)

    world.dispatch()

    (upload,) = world.provider.uploads
    assert (upload.region, upload.model, upload.mime) == ("beijing", WANX, "image/png")
    assert upload.data == LARGE
    assert sent_value(world.provider.calls[-1]) == f"oss://temporary/{upload.name}"
    headers = world.provider.calls[-1].request.headers
    assert headers["X-DashScope-OssResourceResolve"] == "enable"
    assert world.outbox.record("a")["inputs"][0]["sent_as"] == "upload"


def test_a_presigned_url_is_sent_from_buckets_that_can_be_reached() -> None:
    world = World()
    entered(world, LARGE)

    world.dispatch()

    assert sent_value(world.provider.calls[-1]).startswith("https://")
    assert "X-DashScope-OssResourceResolve" not in world.provider.calls[-1].request.headers
    assert world.outbox.record("a")["inputs"][0]["sent_as"] == "presigned-url"


def test_an_upload_is_used_again_after_a_refusal_for_pace() -> None:
    world = World(input_delivery=Delivery.PUSH)
    entered(world, LARGE)
    world.provider.next_calls.append(TryLater("slow down", code="Throttling.RateQuota"))

    world.dispatch()
    world.clock.advance(60)
    world.dispatch()

    assert len(world.provider.calls) == 2
    assert len(world.provider.uploads) == 1


def test_an_upload_too_old_to_be_there_when_the_task_runs_is_made_again() -> None:
    world = World(input_delivery=Delivery.PUSH)
    entered(world, LARGE)
    world.provider.next_calls.append(AccountRefused("Arrearage", "the account owes money"))

    world.dispatch()
    world.clock.advance(UPLOAD_KEPT_SECONDS + 1)
    world.dispatch()

    assert len(world.provider.calls) == 2
    assert len(world.provider.uploads) == 2
    assert sent_value(world.provider.calls[-1]).endswith(world.provider.uploads[1].name)


def test_an_upload_that_fails_puts_the_job_back_without_a_doubt() -> None:
    world = World(input_delivery=Delivery.PUSH)
    job = entered(world, LARGE)
    world.provider.next_uploads.extend([TryLater("the upload failed", code="HTTP503")] * 5)

    world.dispatch()

    back = world.store.the_job(job.job_id)
    assert (back.status, back.intent_at, back.doubt) == (Status.QUEUED, None, None)
    assert back.refusal is not None
    assert back.refusal.code == "HTTP503"
    assert world.provider.calls == []
    assert world.store.lane(world.lane_of(WANX)).slots == {}


def test_an_upload_refused_for_the_account_pauses_the_lane() -> None:
    world = World(input_delivery=Delivery.PUSH)
    job = entered(world, LARGE)
    world.provider.next_uploads.append(AccountRefused("InvalidApiKey", "Invalid API-key provided."))

    world.dispatch()

    assert world.store.the_job(job.job_id).blocked
    assert world.store.lane(world.lane_of(WANX)).paused_by is not None
    assert world.provider.calls == []


def test_an_image_too_large_even_to_upload_ends_its_job_alone() -> None:
    world = World(input_delivery=Delivery.PUSH)
    job = entered(world, LARGE)
    other = world.enter("other")
    world.provider.next_uploads.append(ProviderRefused("UploadTooLarge", "at most 100 MB"))

    world.dispatch()

    assert world.store.the_job(job.job_id).status is Status.FAILED
    assert world.store.the_job(other.job_id).status is Status.RUNNING


def test_uploads_that_take_too_long_for_one_visit_are_kept_for_the_next() -> None:
    world = World(input_delivery=Delivery.PUSH)
    world.inbox.put("a.png", LARGE)
    world.inbox.put("b.png", LARGE)
    raw = sidecar_json(WAN, images=["/a.png", "/b.png"])
    (job_id,) = world.drop("both.json", raw)
    world.provider.next_uploads.extend([45.0, 46.0])

    seen = []
    for _ in range(3):
        world.dispatch(WAN, seconds=75)
        job = world.store.the_job(job_id)
        seen.append((job.status, [bool(image.uploaded) for image in job.images]))

    assert seen == [
        (Status.QUEUED, [True, False]),
        (Status.QUEUED, [True, True]),
        (Status.RUNNING, [True, True]),
    ]
    assert len(world.provider.uploads) == 2
    assert world.store.the_job(job_id).stumbles == 0


FAILED_UPLOAD = TryLater("the temporary storage answered HTTP 503", code="HTTP503")


def test_an_upload_that_never_succeeds_ends_its_job_and_lets_the_lane_go_on() -> None:
    # Nothing was billed, and a lane must not stand for ever behind one picture.
    world = World(input_delivery=Delivery.PUSH)
    job = entered(world, LARGE)
    other = world.enter("other")
    world.provider.next_uploads.extend([FAILED_UPLOAD] * 5)

    waits = []
    for _ in range(6):
        before = world.clock.now()
        world.dispatch()
        waits.append(world.clock.now() - before)
        world.clock.advance(60)

    ended = world.store.the_job(job.job_id)
    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "HTTP503"
    assert world.store.the_job(other.job_id).status is Status.RUNNING
    assert len(world.provider.calls) == 1
    assert world.store.lane(world.lane_of(WANX)).throttles == 0


def test_an_earlier_upload_is_kept_when_a_later_one_fails() -> None:
    world = World(input_delivery=Delivery.PUSH)
    world.inbox.put("a.png", LARGE)
    world.inbox.put("b.png", LARGE)
    (job_id,) = world.drop("both.json", sidecar_json(WAN, images=["/a.png", "/b.png"]))
    world.provider.next_uploads.extend([0.0, FAILED_UPLOAD])

    world.dispatch(WAN)
    world.clock.advance(10)
    world.dispatch(WAN)

    assert world.store.the_job(job_id).status is Status.RUNNING
    assert [upload.data for upload in world.provider.uploads] == [LARGE, LARGE]


def test_a_storage_that_is_not_reached_is_waited_for() -> None:
    world = World(input_delivery=Delivery.PUSH)
    job = entered(world, LARGE)
    world.provider.next_uploads.extend([TryLater("not reached", code=NOT_REACHED)] * 100)
    for _ in range(8):
        world.dispatch()
        world.clock.advance(120)
    waiting = world.store.the_job(job.job_id)
    assert (waiting.status, waiting.blocked, waiting.stumbles) == (Status.QUEUED, True, 0)

    world.provider.next_uploads.clear()
    world.dispatch()

    assert world.store.the_job(job.job_id).status is Status.RUNNING


def test_a_request_that_could_not_be_sent_in_time_goes_by_upload() -> None:
    # A slow line: a part of the body never left, so nobody can have acted on it.
    world = World(input_delivery=Delivery.PUSH)
    job = entered(world, PHOTO)
    world.provider.next_calls.append(TryLater("not sent in time", code=NOT_SENT))

    world.dispatch()
    world.clock.advance(10)
    world.dispatch()

    assert world.store.the_job(job.job_id).status is Status.RUNNING
    assert world.outbox.record("a")["inputs"][0]["sent_as"] == "upload"
    assert len(world.provider.billed) == 1


def test_a_task_that_failed_for_want_of_an_image_has_a_second_chance_and_no_third() -> None:
    # Contract 8, 37: what one model says at the call, another says later.
    world = World()
    job = entered(world, PHOTO)
    said = Failure(code="InvalidParameter", message="Image download failed")

    for _ in range(2):
        world.clock.advance(10)
        world.dispatch()
        job = world.store.the_job(job.job_id)
        assert job.task_id is not None
        world.provider.answers[job.task_id] = TaskAnswer(status="FAILED", failure=said)
        poll(world, job.job_id, job.fence)

    assert [sent_value(call)[:5] for call in world.provider.calls] == ["https", "data:"]
    ended = world.store.the_job(job.job_id)
    assert ended.status is Status.FINALIZING
    assert ended.failure == said
    assert world.store.lane(world.lane_of(WANX)).slots == {}


NOT_FETCHED = InputNotFetched("Image download failed", code="InvalidParameter", request_id="r-1")


def test_an_image_that_the_provider_cannot_download_is_sent_to_it_once() -> None:
    world = World()
    job = entered(world, PHOTO)
    world.provider.next_calls.append(NOT_FETCHED)

    world.dispatch()

    assert world.store.the_job(job.job_id).status is Status.RUNNING
    first, second = (sent_value(call) for call in world.provider.calls)
    assert first.startswith("https://")
    assert second.startswith("data:image/png")
    assert world.outbox.record("a")["inputs"][0]["sent_as"] == "data-url"
    assert len(world.provider.billed) == 1


def test_an_image_that_cannot_be_had_in_any_way_ends_the_job() -> None:
    world = World()
    job = entered(world, PHOTO)
    world.provider.next_calls.extend([NOT_FETCHED, NOT_FETCHED])

    world.dispatch()

    ended = world.store.the_job(job.job_id)
    assert ended.status is Status.FAILED
    assert ended.failure is not None
    assert ended.failure.message == "Image download failed"
    assert ended.failure.request_id == "r-1"
    assert len(world.provider.calls) == 2
    assert world.provider.billed == []


def test_a_synchronous_call_too_has_a_second_chance_and_no_third() -> None:
    world = World()
    job = entered(world, PHOTO, QWEN)
    world.provider.next_calls.extend([NOT_FETCHED, NOT_FETCHED])

    for _ in range(2):
        world.dispatch(QWEN)
        job = world.store.the_job(job.job_id)
        world.clock.advance(5)
        world.generate(job.job_id, job.fence)

    ended = world.store.the_job(job.job_id)
    assert ended.status is Status.FINALIZING
    assert ended.failure is not None
    assert ended.failure.message == "Image download failed"
    assert len(world.provider.calls) == 2
    content: Any = world.provider.calls[1].request.body["input"]
    assert content["messages"][0]["content"][0]["image"].startswith("data:")


def test_a_failed_upload_puts_a_synchronous_job_back() -> None:
    world = World(input_delivery=Delivery.PUSH)
    job = entered(world, LARGE, QWEN)
    world.provider.next_uploads.append(TryLater("the upload failed", code="HTTP503"))
    world.dispatch(QWEN)
    job = world.store.the_job(job.job_id)

    world.generate(job.job_id, job.fence)

    back = world.store.the_job(job.job_id)
    assert (back.status, back.intent_at) == (Status.QUEUED, None)


def test_a_refused_account_at_an_upload_pauses_a_synchronous_lane() -> None:
    world = World(input_delivery=Delivery.PUSH)
    job = entered(world, LARGE, QWEN)
    world.provider.next_uploads.append(AccountRefused("InvalidApiKey", "no"))
    world.dispatch(QWEN)
    job = world.store.the_job(job.job_id)

    world.generate(job.job_id, job.fence)

    assert world.store.the_job(job.job_id).blocked
    assert world.store.lane(world.lane_of(QWEN)).paused_by is not None


# --- mended images ----------------------------------------


def test_a_mended_image_lies_in_the_outbox_and_is_what_is_sent() -> None:
    world = World(input_delivery=Delivery.PUSH)
    transparent = picture(mode="RGBA", colour="red")
    entered(world, transparent, WAN, fit=True)

    world.dispatch(WAN)

    (image,) = world.outbox.record("a")["inputs"]
    assert image["key"] == "a.png"
    assert image["mended"]["key"] == "a/sent/image-1.png"
    assert image["mended"]["changes"] == ["flattened transparency onto white"]
    mended = world.outbox.data("a/sent/image-1.png")
    content: Any = world.provider.calls[-1].request.body["input"]
    value = content["messages"][0]["content"][0]["image"]
    assert value == f"data:image/png;base64,{base64.b64encode(mended).decode()}"


def test_a_mended_image_is_presigned_from_the_outbox() -> None:
    world = World()
    entered(world, picture(mode="RGBA"), WAN, fit=True)

    world.dispatch(WAN)

    content: Any = world.provider.calls[-1].request.body["input"]
    value = content["messages"][0]["content"][0]["image"]
    assert value.startswith("https://outbox.example.com/a/sent/image-1.png?versionId=")


def test_an_image_that_needs_no_mending_is_sent_as_it_is() -> None:
    world = World()
    entered(world, PHOTO, fit=True)

    world.dispatch()

    (image,) = world.outbox.record("a")["inputs"]
    assert image["mended"] is None
    assert world.outbox.results() == []


def test_a_mended_copy_that_is_gone_ends_the_job_alone() -> None:
    world = World(input_delivery=Delivery.PUSH)
    job = entered(world, picture(mode="RGBA"), WAN, fit=True)
    del world.outbox.objects["a/sent/image-1.png"]

    world.dispatch(WAN)

    ended = world.store.the_job(job.job_id)
    assert ended.failure is not None
    assert ended.failure.code == "InputGone"
    assert world.provider.calls == []
