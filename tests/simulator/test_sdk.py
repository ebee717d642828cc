"""The judge: the official `dashscope` package, unmodified, pointed at the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import dashscope
import httpx
import pytest
from dashscope.aigc import image_generation

from .conftest import StartApi
from .support import Api, photograph, picture_of

WANX = "wanx2.1-imageedit"
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


def test_wan27_asynchronously(sdk: Api, photo: str) -> None:
    created = ImageGeneration.async_call(
        model="wan2.7-image", messages=content(photo), n=2, size="1K"
    )
    assert created.output.task_status == "PENDING"
    done = ImageGeneration.wait(created)
    assert done.output.task_status == "SUCCEEDED"
    urls = [item["image"] for choice in done.output.choices for item in choice.message.content]
    assert len(urls) == 2
    assert picture_of(httpx.get(urls[0])).size == (1024, 1024)
    assert done.usage.image_count == 2
    sent = [seen for seen in sdk.simulator.requests if seen["route"] == "create"]
    assert sent[0]["body"]["parameters"]["is_async"] is True


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
