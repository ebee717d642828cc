"""The examples that ship: each works as it stands, and there is one for everything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

import pytest

from retouch import examples
from retouch.examples import Example
from retouch.registry import MODELS, Json, Mode
from retouch.sidecar import Order, check, read

from .helpers import ELEVEN, FUNCTIONS, QWEN, QWEN_BASE, WAN, WAN_25, WAN_26, WAN_PRO, WANX

REGIONS: Final = ("beijing", "singapore")
EXAMPLES: Final = [pytest.param(e, id=f"{e.model} {e.name}") for e in examples.load()]


def order_of(example: Example) -> Order:
    """What it asks for, in a stack with both keys."""
    found = check(example.sidecar, regions=REGIONS, named_after_image=False)
    assert isinstance(found, Order), [str(problem) for problem in found]
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_accepted_without_a_warning(example: Example) -> None:
    order = order_of(example)
    assert order.model == example.model
    assert order.warnings == ()
    assert order.images is not None


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_can_be_dropped_as_the_file_it_is(example: Example) -> None:
    assert read(example.text.encode()) == example.sidecar
    assert example.text.endswith("}\n")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_names_what_lies_beside_it_so_that_it_can_be_tried(example: Example) -> None:
    order = order_of(example)
    assert order.images is not None
    for name in (*order.images, *filter(None, [order.mask])):
        assert "/" not in name
        assert name.rpartition(".")[2] in ("jpg", "png", "webp")


def test_no_two_examples_are_alike() -> None:
    found = examples.load()
    assert len({json.dumps(e.sidecar, sort_keys=True) for e in found}) == len(found)
    assert len({(e.model, e.name) for e in found}) == len(found)
    assert list(found) == sorted(found, key=lambda e: (e.model, e.name))


def test_there_is_an_example_for_each_model_and_for_no_other() -> None:
    assert {e.model for e in examples.load()} == set(ELEVEN)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_there_is_an_example_for_each_function(function: str) -> None:
    found = MODELS[WANX].function(function)
    assert found is not None
    (only,) = examples.of(MODELS[WANX], found)
    assert only["function"] == function


@pytest.mark.parametrize("model", [name for name in ELEVEN if name != WANX])
def test_the_examples_of_a_model_are_found(model: str) -> None:
    of_model = [e.sidecar for e in examples.load() if e.model == model]
    assert of_model
    assert list(examples.of(MODELS[model], None)) == of_model


def interleaves(order: Order) -> bool:
    return order.parameters.get("enable_interleave") is True


def is_a_set(order: Order) -> bool:
    return order.parameters.get("enable_sequential") is True


MODES: Final[Mapping[str, tuple[str, Callable[[Order], bool]]]] = {
    "wan2.6 as a task": (
        WAN_26, lambda o: o.call is Mode.ASYNC and not interleaves(o)
    ),
    "wan2.6 in one call": (
        WAN_26, lambda o: o.call is Mode.SYNC and not interleaves(o)
    ),
    "wan2.6, text with images as a task": (
        WAN_26, lambda o: o.call is Mode.ASYNC and interleaves(o) and bool(o.images)
    ),
    "wan2.6, text with images in one call": (
        WAN_26, lambda o: o.call is Mode.SYNC and interleaves(o)
    ),
    "wan2.6, text with images without one": (
        WAN_26, lambda o: interleaves(o) and not o.images
    ),
    "wan2.6, several images": (
        WAN_26, lambda o: len(o.images or ()) > 1
    ),
    "wan2.7 as a task": (
        WAN, lambda o: o.call is Mode.ASYNC and bool(o.images) and not is_a_set(o)
    ),
    "wan2.7 in one call": (
        WAN, lambda o: o.call is Mode.SYNC
    ),
    "wan2.7, a set": (WAN, is_a_set),
    "wan2.7, text to image": (WAN, lambda o: not o.images),
    "wan2.7, boxes": (WAN, lambda o: "bbox_list" in o.parameters),
    "wan2.7 pro, a set": (WAN_PRO, is_a_set),
    "wan2.7 pro, text to image in 4K": (
        WAN_PRO, lambda o: not o.images and o.parameters.get("size") == "4K"
    ),
    "wan2.7 pro, a palette": (WAN_PRO, lambda o: "color_palette" in o.parameters),
    "wan2.7 pro, boxes": (WAN_PRO, lambda o: "bbox_list" in o.parameters),
    "wan2.5, one image": (WAN_25, lambda o: len(o.images or ()) == 1),
    "wan2.5, several images": (WAN_25, lambda o: len(o.images or ()) > 1),
    "wanx2.1, a mask": (WANX, lambda o: o.mask is not None),
    "qwen plus, several images": (QWEN, lambda o: len(o.images or ()) > 1),
    "qwen plus, several results": (QWEN, lambda o: o.parameters["n"] != 1),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_there_is_an_example_for_each_mode(mode: str) -> None:
    model, shows = MODES[mode]
    assert [e.name for e in examples.load() if e.model == model and shows(order_of(e))]


def test_a_negative_prompt_is_shown_by_models_that_have_one_and_by_no_other() -> None:
    having = {e.model for e in examples.load() if order_of(e).negative_prompt is not None}
    assert having >= {QWEN_BASE, QWEN, WAN_25, WAN_26}
    assert having <= {n for n, m in MODELS.items() if m.negative_prompt_chars is not None}


def test_both_ways_of_calling_are_shown_for_some_model_that_has_both() -> None:
    calls: dict[str, set[Mode]] = {}
    for example in examples.load():
        calls.setdefault(example.model, set()).add(order_of(example).call)
    assert calls[WAN_26] == calls[WAN] == {Mode.ASYNC, Mode.SYNC}
    assert all(shown <= set(MODELS[model].calls) for model, shown in calls.items())


def test_every_parameter_is_shown_somewhere() -> None:
    shown: set[str] = set()
    for example in examples.load():
        parameters: Json = example.sidecar.get("parameters")
        shown |= set(parameters) if isinstance(parameters, dict) else set()
    assert shown >= {"n", "seed", "size", "watermark", "strength", "top_scale", "upscale_factor"}
    assert shown >= {"is_sketch", "prompt_extend", "enable_interleave", "max_images"}
    assert shown >= {"enable_sequential", "thinking_mode", "color_palette", "bbox_list"}
