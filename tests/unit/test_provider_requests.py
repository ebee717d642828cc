"""Request bodies against the samples of the contract, sections 3.2 to 3.6."""

from __future__ import annotations

from typing import Any

import pytest

from retouch.provider.requests import Request, build
from retouch.registry import MODELS, Json, Mode

from .helpers import (
    ELEVEN,
    QWEN,
    QWEN_BASE,
    QWEN_DECEMBER,
    QWEN_JANUARY,
    QWEN_MAX,
    QWEN_OCTOBER,
    WAN,
    WAN_25,
    WAN_26,
    WAN_PRO,
    accepted,
    interleave,
    names,
    qwen,
    sidecar,
    wan,
    wan26,
    wanx,
)

URL = "https://img.example.com/a.jpg"
SYNTHESIS = "services/aigc/image2image/image-synthesis"
GENERATION = "services/aigc/image-generation/generation"
MULTIMODAL = "services/aigc/multimodal-generation/generation"
ASYNC = {"X-DashScope-Async": "enable"}


def built(raw: dict[str, Json], images: list[str], mask: str | None = None) -> Request:
    """The request of a sidecar, as the steps make it: check, then build."""
    order = accepted(raw)
    return build(
        MODELS[order.model],
        order.call,
        function=order.function,
        prompt=order.prompt,
        negative_prompt=order.negative_prompt,
        images=images,
        mask=mask,
        parameters=order.parameters,
    )


def content(*items: Json) -> Json:
    """The input of a model that takes a message."""
    return {"messages": [{"role": "user", "content": list(items)}]}


# --- 3.2 wanx2.1-imageedit -------------------------------------------------------------------------


def test_wanx_minimal() -> None:
    raw = wanx("colorization", prompt="green meadow, pale blue sky")
    request = built(raw, ["https://img.example.com/old.jpg"])
    assert request.path == SYNTHESIS
    assert dict(request.headers) == ASYNC
    assert request.body == {
        "model": "wanx2.1-imageedit",
        "input": {
            "function": "colorization",
            "prompt": "green meadow, pale blue sky",
            "base_image_url": "https://img.example.com/old.jpg",
        },
        "parameters": {"n": 1},
    }


def test_wanx_maximal_with_a_mask() -> None:
    raw = wanx(
        "description_edit_with_mask",
        prompt="a glass vase with tulips on the shelf",
        parameters={"n": 4, "seed": 20260402, "watermark": False},
    )
    request = built(
        raw, ["https://img.example.com/shelf.png"], "https://img.example.com/shelf_mask.png"
    )
    assert request.body == {
        "model": "wanx2.1-imageedit",
        "input": {
            "function": "description_edit_with_mask",
            "prompt": "a glass vase with tulips on the shelf",
            "base_image_url": "https://img.example.com/shelf.png",
            "mask_image_url": "https://img.example.com/shelf_mask.png",
        },
        "parameters": {"n": 4, "seed": 20260402, "watermark": False},
    }


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (
            "expand",
            {
                "top_scale": 1.2,
                "bottom_scale": 1.0,
                "left_scale": 1.5,
                "right_scale": 1.5,
                "n": 2,
                "seed": 7,
                "watermark": True,
            },
        ),
        ("super_resolution", {"upscale_factor": 4, "n": 1}),
        ("doodle", {"is_sketch": True, "n": 1}),
        ("stylization_all", {"strength": 0.35, "n": 1}),
    ],
)
def test_wanx_maximal_parameters_of_the_other_functions(
    function: str, parameters: dict[str, Json]
) -> None:
    body = built(wanx(function, parameters=parameters), ["https://img.example.com/a.png"]).body
    assert body["parameters"] == parameters


# --- 3.3 the qwen-image-edit family ----------------------------------------------------------------


@pytest.mark.parametrize(
    "model", [QWEN_BASE, QWEN, QWEN_OCTOBER, QWEN_DECEMBER, QWEN_MAX, QWEN_JANUARY]
)
def test_qwen_minimal(model: str) -> None:
    raw = sidecar(model, prompt="paint the wall sage green")
    request = built(raw, ["https://img.example.com/room.jpg"])
    assert request.path == MULTIMODAL
    assert dict(request.headers) == {}
    assert request.stream is False
    assert request.body == {
        "model": model,
        "input": content(
            {"image": "https://img.example.com/room.jpg"}, {"text": "paint the wall sage green"}
        ),
        "parameters": {"n": 1},
    }


def test_qwen_maximal() -> None:
    prompt = "the person of image 1 wears the coat of image 2 in the pose of image 3"
    images = [
        "https://img.example.com/person.png",
        "data:image/jpeg;base64,/9j/4AAQ",
        "https://img.example.com/pose.webp",
    ]
    given: dict[str, Json] = {
        "n": 6,
        "size": "1024*1536",
        "prompt_extend": False,
        "watermark": False,
        "seed": 42,
    }
    raw = sidecar(
        QWEN_DECEMBER,
        prompt=prompt,
        negative_prompt="blurry, extra fingers",
        images=["person.png", "coat.jpg", "pose.webp"],
        parameters=given,
    )
    assert built(raw, images).body == {
        "model": "qwen-image-edit-plus-2025-12-15",
        "input": content(
            {"image": "https://img.example.com/person.png"},
            {"image": "data:image/jpeg;base64,/9j/4AAQ"},
            {"image": "https://img.example.com/pose.webp"},
            {"text": prompt},
        ),
        "parameters": {**given, "negative_prompt": "blurry, extra fingers"},
    }


# --- 3.4 wan2.5-i2i-preview ------------------------------------------------------------------------


def test_wan_2_5_minimal() -> None:
    request = built(sidecar(WAN_25, prompt="replace the mug with a teapot"), [URL])
    assert request.path == SYNTHESIS
    assert dict(request.headers) == ASYNC
    assert request.body == {
        "model": "wan2.5-i2i-preview",
        "input": {"prompt": "replace the mug with a teapot", "images": [URL]},
        "parameters": {"n": 1},
    }


def test_wan_2_5_maximal_has_the_negative_prompt_in_the_input() -> None:
    given: dict[str, Json] = {
        "size": "1280*960",
        "n": 4,
        "prompt_extend": True,
        "watermark": False,
        "seed": 12345,
    }
    images = [
        "https://img.example.com/lamp.png",
        "https://img.example.com/desk.jpg",
        "data:image/webp;base64,UklGRg==",
    ]
    raw = sidecar(
        WAN_25,
        prompt="put the lamp of image 1 on the desk of image 2, lit like image 3",
        negative_prompt="distorted perspective",
        images=names(3),
        parameters=given,
    )
    assert built(raw, images).body == {
        "model": "wan2.5-i2i-preview",
        "input": {
            "prompt": "put the lamp of image 1 on the desk of image 2, lit like image 3",
            "images": images,
            "negative_prompt": "distorted perspective",
        },
        "parameters": given,
    }


# --- 3.5 wan2.6-image ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "path", "headers"), [("async", GENERATION, ASYNC), ("sync", MULTIMODAL, {})]
)
def test_wan_2_6_minimal(call: str, path: str, headers: dict[str, str]) -> None:
    request = built(wan26(prompt="turn image 1 into a woodcut print", call=call), [URL])
    assert request.path == path
    assert dict(request.headers) == headers
    assert request.stream is False
    assert request.body == {
        "model": "wan2.6-image",
        "input": content({"image": URL}, {"text": "turn image 1 into a woodcut print"}),
        "parameters": {"n": 1},
    }


def test_wan_2_6_maximal_edit() -> None:
    prompt = (
        "combine the hat of image 1, the coat of image 2, the street of image 3 in the style of "
        "image 4"
    )
    images = [
        "https://img.example.com/1.png",
        "https://img.example.com/2.jpg",
        "https://img.example.com/3.webp",
        "data:image/bmp;base64,Qk0=",
    ]
    given: dict[str, Json] = {
        "enable_interleave": False,
        "size": "2K",
        "n": 4,
        "prompt_extend": True,
        "watermark": False,
        "seed": 99,
    }
    raw = wan26(prompt=prompt, negative_prompt="text, watermark", images=names(4), parameters=given)
    shown: list[Json] = [{"image": image} for image in images]
    assert built(raw, images).body == {
        "model": "wan2.6-image",
        "input": content(*shown, {"text": prompt}),
        "parameters": {**given, "negative_prompt": "text, watermark"},
    }


@pytest.mark.parametrize(
    ("call", "path", "headers", "stream"),
    [("sync", MULTIMODAL, {}, True), ("async", GENERATION, ASYNC, False)],
)
def test_wan_2_6_maximal_interleave(
    call: str, path: str, headers: dict[str, str], stream: bool
) -> None:
    prompt = "illustrated guide to repotting this plant, three steps"
    raw = interleave(max_images=3, n=1, size="1280*1280", watermark=False, seed=5) | {
        "prompt": prompt,
        "negative_prompt": "clutter",
        "call": call,
    }
    request = built(raw, [URL])
    assert (request.path, dict(request.headers), request.stream) == (path, headers, stream)
    parameters: dict[str, Json] = {
        "enable_interleave": True,
        "max_images": 3,
        "n": 1,
        "size": "1280*1280",
        "negative_prompt": "clutter",
        "watermark": False,
        "seed": 5,
    }
    assert request.body == {
        "model": "wan2.6-image",
        "input": content({"image": URL}, {"text": prompt}),
        "parameters": parameters | ({"stream": True} if stream else {}),
    }


def test_text_with_images_needs_no_image_and_says_what_it_may_cost() -> None:
    request = built(interleave() | {"images": []}, [])
    assert request.body["input"] == content({"text": "a red door"})
    assert request.body["parameters"] == {"enable_interleave": True, "n": 1, "max_images": 5}


# --- 3.6 wan2.7-image and wan2.7-image-pro ---------------------------------------------------------


@pytest.mark.parametrize("model", [WAN, WAN_PRO])
@pytest.mark.parametrize(
    ("call", "path", "headers"), [("async", GENERATION, ASYNC), ("sync", MULTIMODAL, {})]
)
def test_wan_2_7_minimal(model: str, call: str, path: str, headers: dict[str, str]) -> None:
    raw = sidecar(model, prompt="make the bicycle red", call=call)
    request = built(raw, ["https://img.example.com/bike.jpg"])
    assert request.path == path
    assert dict(request.headers) == headers
    assert request.body == {
        "model": model,
        "input": content(
            {"image": "https://img.example.com/bike.jpg"}, {"text": "make the bicycle red"}
        ),
        "parameters": {"n": 1},
    }


@pytest.mark.parametrize("model", [WAN, WAN_PRO])
def test_wan_2_7_maximal(model: str) -> None:
    prompt = "put the boxed clock of image 2 at the box of image 1, colours as in image 3"
    parameters: dict[str, Json] = {
        "size": "2K",
        "n": 4,
        "enable_sequential": False,
        "bbox_list": [[[620, 140, 780, 300]], [[0, 0, 512, 512]], []],
        "color_palette": [
            {"hex": "#C2D1E6", "ratio": "40.00%"},
            {"hex": "#636574", "ratio": "35.50%"},
            {"hex": "#F4E3B2", "ratio": "24.50%"},
        ],
        "watermark": False,
        "seed": 2147483647,
    }
    images = [
        "https://img.example.com/kitchen.jpg",
        "https://img.example.com/clock.png",
        "https://img.example.com/tone.webp",
    ]
    raw = sidecar(model, prompt=prompt, images=["k.jpg", "c.png", "t.webp"], parameters=parameters)
    assert built(raw, images).body == {
        "model": model,
        "input": content(
            {"image": "https://img.example.com/kitchen.jpg"},
            {"image": "https://img.example.com/clock.png"},
            {"image": "https://img.example.com/tone.webp"},
            {"text": prompt},
        ),
        "parameters": parameters,
    }


def test_text_to_image_has_a_text_and_no_image() -> None:
    parameters: dict[str, Json] = {"size": "4K", "n": 1, "thinking_mode": True}
    raw = sidecar(WAN_PRO, images=[], prompt="a lighthouse", parameters=parameters)
    body: Any = built(raw, []).body
    assert body["input"] == content({"text": "a lighthouse"})
    assert body["parameters"] == parameters


def test_a_sequence_is_asked_for_by_its_own_parameters() -> None:
    parameters: dict[str, Json] = {
        "enable_sequential": True,
        "n": 12,
        "size": "2K",
        "watermark": False,
        "seed": 1,
    }
    body = built(wan(images=[], parameters=parameters), []).body
    assert body["parameters"] == parameters


# --- every model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ELEVEN)
def test_n_is_always_sent(model: str) -> None:
    assert built(sidecar(model), [URL]).body["parameters"] == {"n": 1}


WAYS = [(model, call) for model in ELEVEN for call in MODELS[model].calls]


@pytest.mark.parametrize(("model", "call"), WAYS)
def test_the_async_header_goes_with_asynchronous_calls_only(model: str, call: Mode) -> None:
    headers = dict(built(sidecar(model, call=call), [URL]).headers)
    assert headers == (ASYNC if call is Mode.ASYNC else {})


@pytest.mark.parametrize(("model", "call"), WAYS)
def test_only_a_synchronous_call_for_text_with_images_streams(model: str, call: Mode) -> None:
    plain = built(sidecar(model, call=call), [URL])
    assert plain.stream is False
    assert isinstance(plain.body["parameters"], dict)
    assert "stream" not in plain.body["parameters"]
    if model == WAN_26:
        told = built(interleave() | {"call": call}, [URL])
        assert isinstance(told.body["parameters"], dict)
        assert told.stream is (call is Mode.SYNC)
        assert told.body["parameters"].get("stream", False) is told.stream


@pytest.mark.parametrize(("model", "call"), WAYS)
def test_images_in_the_providers_temporary_storage_need_their_header(
    model: str, call: Mode
) -> None:
    raw = sidecar(model, call=call)
    plain = built(raw, [URL])
    assert "X-DashScope-OssResourceResolve" not in plain.headers
    stored = built(raw, ["oss://dashscope-instant/a.png"])
    assert stored.headers["X-DashScope-OssResourceResolve"] == "enable"
    assert {**plain.headers, "X-DashScope-OssResourceResolve": "enable"} == dict(stored.headers)


def test_one_image_of_several_in_temporary_storage_is_enough_for_the_header() -> None:
    images = [URL, "data:image/png;base64,iVBORw0KGgo=", "oss://dashscope-instant/c.png"]
    request = built(qwen(images=names(3)), images)
    assert dict(request.headers) == {"X-DashScope-OssResourceResolve": "enable"}


def test_a_mask_in_temporary_storage_needs_the_header_too() -> None:
    raw = wanx("description_edit_with_mask")
    assert dict(built(raw, [URL], "https://img.example.com/m.png").headers) == ASYNC
    request = built(raw, [URL], "oss://dashscope-instant/m.png")
    assert dict(request.headers) == {**ASYNC, "X-DashScope-OssResourceResolve": "enable"}


def test_a_url_that_only_mentions_temporary_storage_needs_no_header() -> None:
    request = built(qwen(), ["https://img.example.com/?from=oss://a"])
    assert dict(request.headers) == {}


@pytest.mark.parametrize("raw", [qwen(negative_prompt="blur"), interleave() | {"call": "sync"}])
def test_building_leaves_the_orders_parameters_alone(raw: dict[str, Json]) -> None:
    order = accepted(raw)
    before = dict(order.parameters)
    request = built(raw, [URL])
    build(
        MODELS[order.model],
        order.call,
        function=None,
        prompt=order.prompt,
        negative_prompt=order.negative_prompt,
        images=[URL],
        mask=None,
        parameters=order.parameters,
    )
    assert dict(order.parameters) == before
    assert request.body["parameters"] != before
