"""The judge: the official `dashscope` package, unmodified, pointed at the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import dashscope
import httpx
import pytest
import requests
from dashscope.aigc import image_generation
from dashscope.common.error import UploadFileException

from retouch.simulator.faults import Fault

from .conftest import StartApi
from .support import MODELS, TERMINAL, Api, photograph, picture_of

WANX = "wanx2.1-imageedit"
WAN25 = "wan2.5-i2i-preview"
WAN26 = "wan2.6-image"
SYNTHESIS_MODELS = [WANX, WAN25]
GENERATION_MODELS = [WAN26, "wan2.7-image", "wan2.7-image-pro"]
CONVERSATION_MODELS = [model for model in MODELS if model.startswith("qwen")]
FUNCTIONS = {
    "stylization_all": {"strength": 0.4},
    "stylization_local": {},
    "description_edit": {"strength": 0.6},
    "description_edit_with_mask": {},
    "remove_watermark": {},
    "expand": {"top_scale": 1.2, "left_scale": 1.5},
    "super_resolution": {"upscale_factor": 2},
    "colorization": {},
    "doodle": {"is_sketch": True},
    "control_cartoon_feature": {},
}
SMALL = "768*768"
# The package's annotations do not know of its own inherited methods, nor of which answers stream.
ImageSynthesis: Any = dashscope.ImageSynthesis
ImageGeneration: Any = image_generation.ImageGeneration
MultiModalConversation: Any = dashscope.MultiModalConversation


@pytest.fixture(autouse=True)
def _sdk_session() -> Iterator[None]:
    """The package keeps one pool of connections for the process; end it with the test."""
    from dashscope.api_entities.http_request import close_shared_sync_session

    yield
    close_shared_sync_session()


@pytest.fixture
def sdk(start: StartApi, monkeypatch: pytest.MonkeyPatch) -> Api:
    api = start(time_scale=0, seed=1)
    monkeypatch.setattr(dashscope, "base_http_api_url", api.simulator.base_url)
    monkeypatch.setattr(dashscope, "api_key", "sk-judge")
    return api


@pytest.fixture
def shared(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The quick simulator that the module shares."""
    monkeypatch.setattr(dashscope, "base_http_api_url", api.simulator.base_url)
    monkeypatch.setattr(dashscope, "api_key", "sk-judge")
    return api


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    photograph().save(path)
    return f"file://{path}"


def content(*images: str, text: str = "make it red") -> list[Any]:
    items = [{"image": image} for image in images]
    return [{"role": "user", "content": [*items, {"text": text}]}]


def edit(photo: str, function: str = "colorization", **more: Any) -> Any:
    return ImageSynthesis.async_call(
        model=WANX, prompt="green", function=function, base_image_url=photo, **more
    )


def create(model: str, photo: str, **more: Any) -> tuple[Any, Any]:
    """The class that the model belongs to, and its answer to a create."""
    if model == WANX:
        return ImageSynthesis, edit(photo, **more)
    if model == WAN25:
        created = ImageSynthesis.async_call(
            model=model, prompt="green", images=[photo], n=1, size=SMALL, **more
        )
        return ImageSynthesis, created
    created = ImageGeneration.async_call(
        model=model, messages=content(photo), n=1, size=SMALL, **more
    )
    return ImageGeneration, created


def completed(api: Api, client: Any, created: Any) -> Any:
    """The answer of `wait`; fetches and lists the task too, and finds it too late to cancel."""
    assert created.status_code == HTTPStatus.OK
    assert created.output.task_status == "PENDING"
    task_id = created.output.task_id
    # The package polls, then sleeps for a second.
    api.until(task_id, TERMINAL)
    done = client.wait(created)
    assert done.status_code == HTTPStatus.OK
    assert done.output.task_status == "SUCCEEDED"
    assert client.fetch(task_id).output == done.output
    listed = client.list(status="SUCCEEDED", region="cn-beijing", page_size=100)
    assert task_id in [row["task_id"] for row in listed.output["data"]]
    refused = client.cancel(task_id)
    assert (refused.status_code, refused.code) == (400, "UnsupportedOperation")
    return done


def items_of(answer: Any) -> list[Any]:
    return [item for choice in answer.output.choices for item in choice.message.content]


def test_every_model_is_judged() -> None:
    judged = {*SYNTHESIS_MODELS, *GENERATION_MODELS, *CONVERSATION_MODELS}
    assert judged == set(MODELS)


@pytest.mark.parametrize(("function", "parameters"), FUNCTIONS.items())
def test_each_function_of_wanx(
    shared: Api, photo: str, tmp_path: Path, function: str, parameters: dict[str, Any]
) -> None:
    mask = {}
    if function == "description_edit_with_mask":
        photograph(mode="1").save(tmp_path / "mask.png")
        mask = {"mask_image_url": f"file://{tmp_path}/mask.png"}
    created = edit(photo, function, n=1, seed=7, **parameters, **mask)
    done = completed(shared, ImageSynthesis, created)
    (result,) = done.output.results
    picture_of(httpx.get(result.url))
    assert done.usage.image_count == 1


def test_wan25_with_three_local_files(shared: Api, tmp_path: Path) -> None:
    files = []
    for number in range(3):
        photograph(400 + number, 400).save(tmp_path / f"{number}.png")
        files.append(f"file://{tmp_path}/{number}.png")
    created = ImageSynthesis.async_call(
        model=WAN25,
        prompt="green",
        negative_prompt="blur",
        images=files,
        n=2,
        size=SMALL,
        prompt_extend=True,
        watermark=False,
        seed=7,
    )
    done = completed(shared, ImageSynthesis, created)
    assert [result["orig_prompt"] for result in done.output.results] == ["green"] * 2
    assert picture_of(httpx.get(done.output.results[0].url)).size == (768, 768)
    sent = [seen for seen in shared.simulator.requests if seen["route"] == "create"][-1]
    assert sent["body"]["input"]["negative_prompt"] == "blur"
    assert [value[:6] for value in sent["body"]["input"]["images"]] == ["oss://"] * 3


@pytest.mark.parametrize("model", GENERATION_MODELS)
def test_wan26_and_wan27_asynchronously(shared: Api, photo: str, model: str) -> None:
    created = ImageGeneration.async_call(
        model=model, messages=content(photo), n=2, size=SMALL, watermark=False
    )
    done = completed(shared, ImageGeneration, created)
    images = [item["image"] for item in items_of(done)]
    assert [picture_of(httpx.get(url)).size for url in images] == [(768, 768)] * 2
    assert done.usage.image_count == 2
    sent = [seen for seen in shared.simulator.requests if seen["route"] == "create"][-1]
    assert sent["body"]["parameters"]["is_async"] is True


@pytest.mark.parametrize("model", GENERATION_MODELS)
def test_wan26_and_wan27_synchronously(shared: Api, photo: str, model: str) -> None:
    done = ImageGeneration.call(model=model, messages=content(photo), n=1, size=SMALL, seed=None)
    assert done.status_code == HTTPStatus.OK
    (item,) = items_of(done)
    assert picture_of(httpx.get(item["image"])).size == (768, 768)
    assert (done.usage.image_count, done.usage["size"]) == (1, SMALL)


@pytest.mark.parametrize("model", CONVERSATION_MODELS)
def test_the_qwen_family(shared: Api, photo: str, model: str) -> None:
    more = {} if model == "qwen-image-edit" else {"size": "512*512", "prompt_extend": False}
    done = MultiModalConversation.call(
        model=model, messages=content(photo), n=1, negative_prompt="blur", watermark=False, **more
    )
    assert done.status_code == HTTPStatus.OK
    (item,) = items_of(done)
    picture_of(httpx.get(item["image"]))
    assert done.usage["image_count"] == 1


@pytest.mark.parametrize(("size", "side"), [("1K", 1024), ("4K", 4096)])
def test_text_to_image_on_wan27_pro(shared: Api, size: str, side: int) -> None:
    done = ImageGeneration.call(
        model="wan2.7-image-pro", messages=content(), n=1, size=size, thinking_mode=False
    )
    assert done.status_code == HTTPStatus.OK
    assert picture_of(httpx.get(items_of(done)[0]["image"])).size == (side, side)


@pytest.mark.parametrize("model", [*SYNTHESIS_MODELS, *GENERATION_MODELS])
def test_a_pending_task_is_cancelled(
    start: StartApi, monkeypatch: pytest.MonkeyPatch, shared: Api, photo: str, model: str
) -> None:
    # A task stays PENDING for 19 s of simulated time at least.
    slow = start(time_scale=1000, seed=1)
    monkeypatch.setattr(dashscope, "base_http_api_url", slow.simulator.base_url)
    client, created = create(model, photo)
    cancelled = client.cancel(created)
    assert cancelled.status_code == HTTPStatus.OK
    assert not cancelled.output
    assert client.wait(created).output.task_status == "CANCELED"
    listed = client.list(model_name=model, status="CANCELED")
    assert [row["task_id"] for row in listed.output["data"]] == [created.output.task_id]
    assert slow.simulator.stats["images"] == {}


# --- interleaved answers -----------------------------------------------------------------------


def interleaved(photo: str, text: str = "two steps", **more: Any) -> Any:
    return ImageGeneration.call(
        model=WAN26,
        messages=content(photo, text=text),
        stream=True,
        enable_interleave=True,
        max_images=2,
        n=1,
        size=SMALL,
        **more,
    )


def test_interleave_asynchronously(shared: Api, photo: str) -> None:
    created = ImageGeneration.async_call(
        model=WAN26, messages=content(photo), enable_interleave=True, max_images=2, size=SMALL
    )
    done = completed(shared, ImageGeneration, created)
    assert [item["type"] for item in items_of(done)] == ["text", "image", "text", "image"]


def test_interleave_as_a_stream(shared: Api, photo: str) -> None:
    answers = list(interleaved(photo))
    assert {answer.status_code for answer in answers} == {HTTPStatus.OK}
    reasons = [answer.output.choices[0].finish_reason for answer in answers]
    assert reasons == ["null"] * (len(answers) - 1) + ["stop"]
    items = [item for answer in answers for item in items_of(answer)]
    text = "".join(item["text"] for item in items if item["type"] == "text")
    assert text == "Simulated step 1. Simulated step 2. "
    images = [item["image"] for item in items if item["type"] == "image"]
    assert [picture_of(httpx.get(url)).size for url in images] == [(768, 768)] * 2
    # The last event carries an image, and is the end too.
    assert items[-1]["image"] == images[-1]
    assert [answer.usage.image_count for answer in answers][-1] == 2
    assert answers[0].usage["size"] == "0*0"
    sent = [seen for seen in shared.simulator.requests if seen["route"] == "sync"][-1]
    assert sent["headers"]["x-dashscope-sse"] == "enable"
    assert "stream" not in sent["body"]["parameters"]


def test_a_stream_refused_from_the_start(shared: Api, photo: str) -> None:
    (refused,) = interleaved(photo, "forbidden")
    assert (refused.status_code, refused.code) == (400, "DataInspectionFailed")


def test_a_stream_that_ends_with_an_error(shared: Api, photo: str) -> None:
    *told, last = interleaved(photo, "breakdown")
    assert {answer.status_code for answer in told} == {HTTPStatus.OK}
    assert len(told) > 0
    # The package does not read the status of the comment line, but it reads the rest.
    assert (last.status_code, last.code) == (HTTPStatus.BAD_REQUEST, "InternalError")
    assert last.request_id == told[0].request_id


def test_a_stream_lost_half_way(shared: Api, photo: str) -> None:
    shared.simulator.faults.add(Fault(route="sync", effect="truncate", keep_events=4))
    stream = interleaved(photo)
    told = [next(stream) for _ in range(4)]
    assert [items_of(answer)[0]["type"] for answer in told] == ["text"] * 3 + ["image"]
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        next(stream)


# --- the rest ----------------------------------------------------------------------------------


def test_two_local_files_of_one_name_are_one_key(shared: Api, photo: str, tmp_path: Path) -> None:
    """The package gives both the same key, and object storage overwrites nothing."""
    (tmp_path / "other").mkdir()
    photograph(600, 600).save(tmp_path / "other" / "photo.png")
    with pytest.raises(UploadFileException, match="FileAlreadyExists"):
        MultiModalConversation.call(
            model="qwen-image-edit-plus",
            messages=content(photo, f"file://{tmp_path}/other/photo.png"),
        )


@pytest.mark.parametrize("model", [*SYNTHESIS_MODELS, *GENERATION_MODELS])
def test_a_workspace_goes_with_every_call(shared: Api, photo: str, model: str) -> None:
    client, created = create(model, photo, workspace="llm-judge")
    since = shared.simulator.requests[-1]["number"] - 1
    client.fetch(created, workspace="llm-judge")
    client.list(workspace="llm-judge")
    client.cancel(created, workspace="llm-judge")
    seen = [one for one in shared.simulator.requests if one["number"] > since]
    assert [one["route"] for one in seen] == ["create", "query", "list", "cancel"]
    assert {one["workspace"] for one in seen} == {"llm-judge"}


def test_another_region(
    start: StartApi, monkeypatch: pytest.MonkeyPatch, shared: Api, photo: str
) -> None:
    there = start(time_scale=0, region="singapore", accounts={"sk-there": "one"})
    monkeypatch.setattr(dashscope, "base_http_api_url", there.simulator.base_url)
    refused = ImageSynthesis.fetch("some-task")
    assert (refused.status_code, refused.code) == (401, "InvalidApiKey")
    monkeypatch.setattr(dashscope, "api_key", "sk-there")
    with pytest.raises(UploadFileException, match="Model not exist"):
        edit(photo)
    refused = edit("https://127.0.0.1/photo.png")
    assert (refused.code, refused.message) == ("InvalidParameter", "Model not exist.")
    client, created = create(WAN25, photo)
    listed = client.list(region="ap-southeast-1")
    assert [row["region"] for row in listed.output["data"]] == ["ap-southeast-1"]
    assert listed.output["data"][0]["task_id"] == created.output.task_id


def test_wanx_create_wait_fetch_and_list(sdk: Api, photo: str) -> None:
    created = edit(photo, n=2)
    assert created.status_code == HTTPStatus.OK
    assert created.output.task_status == "PENDING"
    done = ImageSynthesis.wait(created)
    assert done.output.task_status == "SUCCEEDED"
    assert done.usage.image_count == 2
    for result in done.output.results:
        picture_of(httpx.get(result.url))
    fetched = ImageSynthesis.fetch(created.output.task_id)
    assert fetched.output.task_status == "SUCCEEDED"
    listed = ImageSynthesis.list(model_name=WANX, status="SUCCEEDED")
    assert listed.status_code == HTTPStatus.OK
    assert [row["task_id"] for row in listed.output["data"]] == [created.output.task_id]
    assert sdk.simulator.stats["images"] == {WANX: 2}


def test_wanx_with_a_mask_of_another_name(sdk: Api, photo: str, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    photograph(mode="1").save(mask)
    done = ImageSynthesis.call(
        model=WANX,
        prompt="a vase",
        function="description_edit_with_mask",
        base_image_url=photo,
        mask_image_url=f"file://{mask}",
    )
    assert done.output.task_status == "SUCCEEDED"


def test_wanx_cancel(sdk: Api, photo: str, start: StartApi) -> None:
    slow = start(seed=1)
    dashscope.base_http_api_url = slow.simulator.base_url
    for _ in range(2):
        slow.until(edit(photo).output.task_id, {"RUNNING"})
    slow.simulator.clock.advance(1)
    waiting = edit(photo)
    assert ImageSynthesis.cancel(waiting).status_code == HTTPStatus.OK
    fetched = ImageSynthesis.fetch(waiting)
    assert fetched.output.task_status == "CANCELED"
    refused = ImageSynthesis.cancel(waiting)
    assert (refused.status_code, refused.code) == (400, "UnsupportedOperation")
    assert ImageSynthesis.wait(waiting).output.task_status == "CANCELED"


def test_wanx_failure_stands_in_output(sdk: Api, photo: str) -> None:
    created = ImageSynthesis.async_call(
        model=WANX, prompt="unsafe-output", function="doodle", base_image_url=photo
    )
    done = ImageSynthesis.wait(created)
    assert done.status_code == HTTPStatus.OK
    assert done.output.task_status == "FAILED"
    assert done.output.code == "DataInspectionFailed"


def test_refusals_reach_the_caller(sdk: Api, photo: str) -> None:
    refused = edit(photo, n=5)
    assert (refused.status_code, refused.code) == (400, "InvalidParameter")
    assert "n must be between 1 and 4" in refused.message
    unknown = ImageSynthesis.fetch("no-such-task")
    assert unknown.output.task_status == "UNKNOWN"


def test_wan27_synchronously(sdk: Api, photo: str) -> None:
    done = ImageGeneration.call(
        model="wan2.7-image",
        messages=content(photo),
        n=3,
        size="1K",
        enable_sequential=True,
        bbox_list=[[[0, 0, 100, 100]]],
    )
    assert done.status_code == HTTPStatus.OK
    assert len(done.output.choices[0].message.content) == 3


def test_wan27_without_images_and_with_nulls(sdk: Api) -> None:
    created = ImageGeneration.async_call(
        model="wan2.7-image", messages=content(), n=1, size="1K", seed=None
    )
    assert ImageGeneration.wait(created).output.task_status == "SUCCEEDED"


def test_qwen_with_two_local_files(sdk: Api, photo: str, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    photograph(600, 800).save(other)
    done = MultiModalConversation.call(
        model="qwen-image-edit-plus",
        messages=content(photo, f"file://{other}"),
        n=2,
        watermark=True,
        negative_prompt="blur",
    )
    assert done.status_code == HTTPStatus.OK
    items = done.output.choices[0].message.content
    assert [set(item) for item in items] == [{"image"}, {"image"}]
    assert done.usage["image_count"] == 2
    routes = [seen["route"] for seen in sdk.simulator.requests]
    assert routes == ["policy", "upload", "upload", "sync"]
    picture_of(httpx.get(items[0]["image"]))


def test_a_wrong_key(sdk: Api, photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashscope, "api_key", "wrong")
    refused = ImageSynthesis.fetch("some-task")
    assert (refused.status_code, refused.code) == (401, "InvalidApiKey")


def test_wan27_through_the_wrong_class_goes_to_the_wrong_endpoint(sdk: Api) -> None:
    refused = ImageSynthesis.async_call(model="wan2.7-image", prompt="a cat")
    assert (refused.code, refused.message) == (
        "InvalidParameter",
        "url error, please check url!",
    )
