"""Request bodies against the samples of the contract, sections 3.2 to 3.6."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from retouch.provider.requests import Request, build
from retouch.registry import MODELS, Body, Json

from .helpers import QWEN, WAN, WANX, accepted, qwen, wan, wanx


def built(raw: dict[str, Json], images: list[str], mask: str | None = None) -> Request:
    """The request of a sidecar, as the steps make it: check, then build."""
    order = accepted(raw)
    return build(
        MODELS[order.model],
        function=order.function,
        prompt=order.prompt,
        negative_prompt=order.negative_prompt,
        images=images,
        mask=mask,
        parameters=order.parameters,
    )


def test_wanx_minimal() -> None:
    raw = wanx("colorization", prompt="green meadow, pale blue sky")
    request = built(raw, ["https://img.example.com/old.jpg"])
    assert request.path == "services/aigc/image2image/image-synthesis"
    assert dict(request.headers) == {"X-DashScope-Async": "enable"}
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


def test_qwen_minimal() -> None:
    request = built(qwen(prompt="paint the wall sage green"), ["https://img.example.com/room.jpg"])
    assert request.path == "services/aigc/multimodal-generation/generation"
    assert request.body == {
        "model": "qwen-image-edit-plus",
        "input": {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"image": "https://img.example.com/room.jpg"},
                        {"text": "paint the wall sage green"},
                    ],
                }
            ]
        },
        "parameters": {"n": 1},
    }


def test_qwen_maximal() -> None:
    prompt = "the person of image 1 wears the coat of image 2 in the pose of image 3"
    images = [
        "https://img.example.com/person.png",
        "data:image/jpeg;base64,/9j/4AAQ",
        "https://img.example.com/pose.webp",
    ]
    raw = qwen(
        prompt=prompt,
        negative_prompt="blurry, extra fingers",
        images=["person.png", "coat.jpg", "pose.webp"],
        parameters={
            "n": 6,
            "size": "1024*1536",
            "prompt_extend": False,
            "watermark": False,
            "seed": 42,
        },
    )
    assert built(raw, images).body == {
        "model": "qwen-image-edit-plus",
        "input": {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"image": "https://img.example.com/person.png"},
                        {"image": "data:image/jpeg;base64,/9j/4AAQ"},
                        {"image": "https://img.example.com/pose.webp"},
                        {"text": prompt},
                    ],
                }
            ]
        },
        "parameters": {
            "n": 6,
            "size": "1024*1536",
            "negative_prompt": "blurry, extra fingers",
            "prompt_extend": False,
            "watermark": False,
            "seed": 42,
        },
    }


def test_wan_minimal() -> None:
    request = built(wan(prompt="make the bicycle red"), ["https://img.example.com/bike.jpg"])
    assert request.path == "services/aigc/image-generation/generation"
    assert dict(request.headers) == {"X-DashScope-Async": "enable"}
    assert request.body == {
        "model": "wan2.7-image",
        "input": {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"image": "https://img.example.com/bike.jpg"},
                        {"text": "make the bicycle red"},
                    ],
                }
            ]
        },
        "parameters": {"n": 1},
    }


def test_wan_maximal() -> None:
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
    raw = wan(prompt=prompt, images=["k.jpg", "c.png", "t.webp"], parameters=parameters)
    assert built(raw, images).body == {
        "model": "wan2.7-image",
        "input": {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"image": "https://img.example.com/kitchen.jpg"},
                        {"image": "https://img.example.com/clock.png"},
                        {"image": "https://img.example.com/tone.webp"},
                        {"text": prompt},
                    ],
                }
            ]
        },
        "parameters": parameters,
    }


def test_text_to_image_has_a_text_and_no_image() -> None:
    body: Any = built(wan(images=[], prompt="a lighthouse"), []).body
    assert body["input"] == {"messages": [{"role": "user", "content": [{"text": "a lighthouse"}]}]}


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


@pytest.mark.parametrize("raw", [wanx(), qwen(), wan()], ids=[WANX, QWEN, WAN])
def test_n_is_always_sent(raw: dict[str, Json]) -> None:
    assert built(raw, ["https://img.example.com/a.jpg"]).body["parameters"] == {"n": 1}


def test_the_async_header_goes_to_asynchronous_models_only() -> None:
    url = ["https://img.example.com/a.jpg"]
    assert "X-DashScope-Async" not in built(qwen(), url).headers
    assert built(wanx(), url).headers["X-DashScope-Async"] == "enable"
    assert built(wan(), url).headers["X-DashScope-Async"] == "enable"


def test_building_leaves_the_orders_parameters_alone() -> None:
    order = accepted(qwen(negative_prompt="blur"))
    before = dict(order.parameters)
    request = build(
        MODELS[QWEN],
        function=None,
        prompt=order.prompt,
        negative_prompt=order.negative_prompt,
        images=["https://img.example.com/a.jpg"],
        mask=None,
        parameters=order.parameters,
    )
    assert request.body["parameters"] == {"n": 1, "negative_prompt": "blur"}
    assert dict(order.parameters) == before


def test_the_flat_body_of_wan_2_5_has_the_negative_prompt_in_the_input() -> None:
    model = dataclasses.replace(
        MODELS[WAN],
        name="wan2.5-i2i-preview",
        path="services/aigc/image2image/image-synthesis",
        body=Body.FLAT_2_5,
    )
    request = build(
        model,
        function=None,
        prompt="replace the mug with a teapot",
        negative_prompt="distorted perspective",
        images=["https://img.example.com/lamp.png", "https://img.example.com/desk.jpg"],
        mask=None,
        parameters={"n": 4, "size": "1280*960", "seed": 12345},
    )
    assert request.body == {
        "model": "wan2.5-i2i-preview",
        "input": {
            "prompt": "replace the mug with a teapot",
            "images": ["https://img.example.com/lamp.png", "https://img.example.com/desk.jpg"],
            "negative_prompt": "distorted perspective",
        },
        "parameters": {"n": 4, "size": "1280*960", "seed": 12345},
    }
