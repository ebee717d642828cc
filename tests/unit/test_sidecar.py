"""Sidecars: bytes become an order that the provider will accept, or every problem at once."""

from __future__ import annotations

import dataclasses
import importlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retouch.registry import REGIONS, Json
from retouch.sidecar import (
    MAX_BYTES,
    Order,
    Problem,
    check,
    is_url,
    read,
    schema,
    shown,
)

from .helpers import (
    QWEN,
    WAN,
    WANX,
    accepted,
    fields,
    problems,
    qwen,
    the_problem,
    utf8,
    wan,
    wanx,
)

FUNCTIONS = (
    "stylization_all",
    "stylization_local",
    "description_edit",
    "description_edit_with_mask",
    "remove_watermark",
    "expand",
    "super_resolution",
    "colorization",
    "doodle",
    "control_cartoon_feature",
)
EXTRA: dict[str, tuple[Json, set[str]]] = {  # contract 3.2: parameter, a good value, who has it
    "strength": (0.5, {"stylization_all", "description_edit"}),
    "top_scale": (1.5, {"expand"}),
    "bottom_scale": (1.5, {"expand"}),
    "left_scale": (1.5, {"expand"}),
    "right_scale": (1.5, {"expand"}),
    "upscale_factor": (2, {"super_resolution"}),
    "is_sketch": (True, {"doodle"}),
}
SPANS = {"strength": "stylization_all", "upscale_factor": "super_resolution"}
ITEM_BYTES = 400 * 1024
"""DynamoDB takes no larger item, and a rejected job holds its problems."""


def parsed(data: bytes) -> dict[str, Json]:
    value = read(data)
    assert not isinstance(value, Problem), str(value)
    return value


def refused(data: bytes) -> str:
    value = read(data)
    assert isinstance(value, Problem)
    assert value.field == ""
    return value.message


# --- read: from bytes to JSON ----------------------------------------------------------------------


def test_a_json_object_is_read() -> None:
    data = '{"model": "m", "prompt": "红🐇", "parameters": {"n": 1, "s": 0.5, "b": [true, null]}}'
    assert parsed(data.encode()) == {
        "model": "m",
        "prompt": "红🐇",
        "parameters": {"n": 1, "s": 0.5, "b": [True, None]},
    }


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parsed(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_an_empty_object_is_json_all_the_same() -> None:
    assert parsed(b" {} \r\n") == {}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"\xff\xfe{\x00}\x00", "UTF-8", id="UTF-16"),
        pytest.param('{"prompt": "café"}'.encode("latin-1"), "UTF-8", id="Latin-1"),
        pytest.param('{"prompt": "红"}'.encode("gb18030"), "UTF-8", id="GB 18030"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', "UTF-8", id="a surrogate in UTF-8"),
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b" \n\t ", "not JSON", id="white space"),
        pytest.param(b"\xef\xbb\xbf", "not JSON", id="a byte order mark and nothing else"),
        pytest.param(b"\x00" * 100, "not JSON", id="zeros"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, "UTF-8", id="an image"),
        pytest.param(b'{"a": 1', "not JSON", id="cut off"),
        pytest.param(b'{"a": 1,}', "not JSON", id="a comma too many"),
        pytest.param(b"{'a': 1}", "not JSON", id="single quotes"),
        pytest.param(b'{"a": 1} // x', "not JSON", id="a comment"),
        pytest.param(b'{"a": 1}{"b": 2}', "not JSON", id="two objects"),
        pytest.param(b'{"a": "b\nc"}', "not JSON", id="a line end inside a text"),
        pytest.param(b"[]", "JSON object", id="a list"),
        pytest.param(b'"model"', "JSON object", id="a text"),
        pytest.param(b"null", "JSON object", id="null"),
        pytest.param(b"7", "JSON object", id="a number"),
        pytest.param(b'{"n": NaN}', "NaN", id="NaN"),
        pytest.param(b'{"n": Infinity}', "Infinity", id="Infinity"),
        pytest.param(b'{"n": -Infinity}', "-Infinity", id="-Infinity"),
        pytest.param(b'{"a": 1, "a": 1}', '"a" stands twice', id="a field twice"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', '"a" stands twice', id="twice, once escaped"),
        pytest.param(b'{"p": {"n": 1, "n": 4}}', '"n" stands twice', id="twice further down"),
        pytest.param(b'{"a": [{"b": 1, "b": 1}]}', '"b" stands twice', id="twice in a list"),
        pytest.param(b"[" * 10_000 + b"]" * 10_000, "10000 levels", id="10,000 levels of lists"),
        pytest.param(
            b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "10000 levels", id="10,000 levels of objects"
        ),
        pytest.param(b"[" * 200_000, "200000 levels", id="brackets that are never closed"),
        pytest.param(b'{"seed": 1' + b"0" * 5000 + b"}", "not usable JSON", id="a huge number"),
        pytest.param(b'{"seed": -1' + b"0" * 200_000 + b"}", "not usable JSON", id="an endless one"),
    ],
)  # fmt: skip
@pytest.mark.timeout(10)
def test_what_is_no_json_object_is_refused_with_the_reason(data: bytes, said: str) -> None:
    assert said in refused(data)


def test_where_json_breaks_is_said() -> None:
    assert "line 2, column 11" in refused(b'{"model": 1,\n "prompt" 2}')


def test_the_byte_that_is_no_utf8_is_said() -> None:
    message = refused(b'{"a": "\xe9"}')
    assert "0xe9" in message
    assert "position 7" in message


def test_brackets_inside_texts_are_no_levels() -> None:
    prompt = "[" * 1000 + '\\"{' * 1000 + "\\\\"
    assert parsed(b'{"prompt": "' + prompt.encode() + b'"}')["prompt"] == (
        "[" * 1000 + '"{' * 1000 + "\\"
    )


def test_the_same_field_in_different_objects_is_no_duplicate() -> None:
    assert parsed(b'{"a": {"n": 1}, "b": {"n": 2}}') == {"a": {"n": 1}, "b": {"n": 2}}


def test_a_sidecar_at_the_size_limit_is_read_and_one_byte_more_is_not() -> None:
    full = b'{"prompt": "' + b"x" * (MAX_BYTES - 14) + b'"}'
    assert len(full) == MAX_BYTES
    assert len(str(parsed(full)["prompt"])) == MAX_BYTES - 14
    message = refused(full + b" ")
    assert str(MAX_BYTES) in message
    assert str(MAX_BYTES + 1) in message


def test_a_sidecar_far_too_large_is_refused_without_being_parsed() -> None:
    assert "at most" in refused(b"[" * (20 * 1024 * 1024))


def test_a_legal_prompt_of_the_greatest_length_fits_however_it_is_written() -> None:
    prompt = "".join("\\ud83d\\udc07" for _ in range(5000))
    raw = parsed(b'{"model": "wan2.7-image", "prompt": "' + prompt.encode() + b'"}')
    assert accepted(raw).prompt == "🐇" * 5000


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_give_an_object_or_a_reason(data: bytes) -> None:
    value = read(data)
    assert isinstance(value, dict) or value.message


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet='{}[]":,\\ \n0123456789.eE+-truefalsnINy\ufeffud8红', max_size=300))
@example('{"a":"\\ud800"}')
@example("\ufeff\ufeff{}")
@example('{"a":1e999}')
def test_any_text_that_looks_like_json_gives_an_object_or_a_reason(text: str) -> None:
    value = read(text.encode())
    assert isinstance(value, dict) or value.message


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=4), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=5,
    ),
    st.booleans(),
)
def test_reading_gives_back_what_was_written(value: dict[str, Json], ascii_only: bool) -> None:
    assert parsed(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


# --- half a surrogate pair: legal JSON, but no text that could be stored or sent -------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(rb'["\ud800"]', id="in a list instead of an object"),
        pytest.param(rb'{"\ud800": 1, "\ud800": 2}', id="in a field that stands twice"),
        pytest.param(rb'{"\ud800": 1}', id="in an unknown field"),
        pytest.param(rb'{"model": "\ud800", "prompt": "x"}', id="in the model"),
        pytest.param(
            rb'{"model": "wanx2.1-imageedit", "function": "\udfff", "prompt": "x"}',
            id="in the function",
        ),
        pytest.param(rb'{"model": "wan2.7-image", "prompt": "a\ud83d"}', id="in the prompt"),
        pytest.param(
            rb'{"model": "wan2.7-image", "prompt": "x", "images": ["\ud800.jpg"]}',
            id="in an image",
        ),
        pytest.param(
            rb'{"model": "wan2.7-image", "prompt": "x", "images": ["../\ud800.jpg"]}',
            id="in an image that is refused",
        ),
        pytest.param(
            rb'{"model": "wanx2.1-imageedit", "function": "description_edit_with_mask",'
            rb' "prompt": "x", "mask": "\ud800.png"}',
            id="in the mask",
        ),
        pytest.param(
            rb'{"model": "wan2.7-image", "prompt": "x", "labels": {"sku": "\ud800"}}',
            id="in a label",
        ),
        pytest.param(
            rb'{"model": "wan2.7-image", "prompt": "x", "labels": {"\ud800": "x"}}',
            id="in a label's name",
        ),
        pytest.param(
            rb'{"model": "wan2.7-image", "prompt": "x", "parameters": {"size": "\ud800"}}',
            id="in a parameter",
        ),
        pytest.param(
            rb'{"model": "wan2.7-image", "prompt": "x", "parameters": {"\ud800": 1}}',
            id="in a parameter's name",
        ),
        pytest.param(
            rb'{"model": "wan2.7-image", "prompt": "x", "priority": "\ud800"}',
            id="in the priority",
        ),
    ],
)
def test_whatever_becomes_of_half_a_surrogate_pair_can_be_written_to_job_json(data: bytes) -> None:
    value = read(data)
    result: Order | list[Problem] = [value] if isinstance(value, Problem) else check(value)
    said: object
    if isinstance(result, Order):
        said = [
            result.prompt,
            result.images,
            result.mask,
            dict(result.labels),
            dict(result.parameters),
        ]
    else:
        assert result
        said = [dataclasses.astuple(problem) for problem in result]
    assert utf8(said)


# --- check: what an accepted sidecar stands for ----------------------------------------------------


def test_the_example_of_the_architecture_is_accepted_as_it_stands() -> None:
    raw: dict[str, Json] = {
        "$schema": "./sidecar.schema.json",
        "model": "wanx2.1-imageedit",
        "function": "description_edit_with_mask",
        "prompt": "a ceramic rabbit holding a ceramic flower",
        "negative_prompt": None,
        "images": ["photo.jpg"],
        "mask": "photo.mask.png",
        "parameters": {"n": 1, "seed": 7},
        "labels": {"sku": "A-113"},
        "priority": 5,
    }
    assert accepted(raw, region="beijing") == Order(
        model="wanx2.1-imageedit",
        function="description_edit_with_mask",
        prompt="a ceramic rabbit holding a ceramic flower",
        negative_prompt=None,
        images=("photo.jpg",),
        mask="photo.mask.png",
        parameters={"n": 1, "seed": 7},
        labels={"sku": "A-113"},
        priority=5,
        warnings=(),
    )


def test_the_shortest_sidecar_asks_for_one_image_of_the_file_it_is_named_after() -> None:
    order = accepted({"model": QWEN, "prompt": "x"})
    assert order.images is None
    assert dict(order.parameters) == {"n": 1}
    assert (order.function, order.mask, order.negative_prompt) == (None, None, None)
    assert (dict(order.labels), order.priority, order.warnings) == ({}, 5, ())


def test_parameters_go_through_as_they_were_given() -> None:
    order = accepted(
        wan(
            parameters={"n": 2, "size": "2K", "seed": 0, "watermark": False, "thinking_mode": False}
        )
    )
    assert dict(order.parameters) == {
        "n": 2,
        "size": "2K",
        "seed": 0,
        "watermark": False,
        "thinking_mode": False,
    }


@pytest.mark.parametrize(
    "name", ["$schema", "negative_prompt", "images", "mask", "parameters", "labels", "priority"]
)
def test_null_is_the_same_as_leaving_a_field_out(name: str) -> None:
    assert accepted(qwen(**{name: None})) == accepted(qwen())


# --- models, functions, regions --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        pytest.param("wanx2.1-imagedit", WANX, id="a letter missing"),
        pytest.param("wanx21-imageedit", WANX, id="a dot missing"),
        pytest.param("qwen-image-edit", QWEN, id="the base model"),
        pytest.param("Wan2.7-Image", WAN, id="capitals"),
    ],
)
def test_an_unknown_model_is_refused_with_the_nearest_name(name: str, near: str) -> None:
    message = the_problem({"model": name, "prompt": "x"}, "model")
    assert f'did you mean "{near}"?' in message
    assert all(model in message for model in (WANX, QWEN, WAN))


@pytest.mark.parametrize("name", ["", "gpt-image", 7, True, [], {}])
def test_a_model_that_resembles_none_is_refused_without_a_guess(name: Json) -> None:
    message = the_problem({"model": name, "prompt": "x"}, "model")
    assert "did you mean" not in message


def test_a_missing_model_is_said() -> None:
    for raw in ({"prompt": "x"}, {"prompt": "x", "model": None}):
        assert "missing" in the_problem(raw, "model")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_of_the_ten_functions_is_accepted(function: str) -> None:
    assert accepted(wanx(function)).function == function


def test_a_missing_function_is_said_with_all_ten() -> None:
    raw: dict[str, Json] = {"model": WANX, "prompt": "x"}
    for given_ in (raw, raw | {"function": None}):
        message = the_problem(given_, "function")
        assert "missing" in message
        assert all(function in message for function in FUNCTIONS)


def test_an_unknown_function_is_refused_with_the_nearest_name() -> None:
    message = the_problem(wanx("remove_watermaker"), "function")
    assert 'did you mean "remove_watermark"?' in message


@pytest.mark.parametrize("value", [7, True, [], {}, "", "Expand"])
def test_what_is_no_function_is_refused(value: Json) -> None:
    assert fields({"model": WANX, "prompt": "x", "function": value}) == ["function"]


@pytest.mark.parametrize("raw", [qwen(function="expand"), wan(function="expand")])
def test_a_superfluous_function_is_refused(raw: dict[str, Json]) -> None:
    assert "no functions" in the_problem(raw, "function")


def test_wanx_works_in_beijing_only() -> None:
    assert accepted(wanx(), region="beijing").model == WANX
    found = problems(wanx(), region="singapore")
    assert [p.field for p in found] == ["model"]
    assert "beijing" in found[0].message
    assert "singapore" in found[0].message


@pytest.mark.parametrize("region", ["beijing", "singapore"])
@pytest.mark.parametrize("raw", [qwen(), wan()], ids=[QWEN, WAN])
def test_the_other_models_work_in_both_regions(raw: dict[str, Json], region: str) -> None:
    assert accepted(raw, region=region).model == raw["model"]


def test_without_a_stack_no_region_is_checked() -> None:
    assert accepted(wanx()).model == WANX
    assert set(REGIONS) == {"beijing", "singapore"}


# --- parameters ------------------------------------------------------------------------------------


def with_parameter(base: dict[str, Json], name: str, value: Json) -> dict[str, Json]:
    return base | {"parameters": {name: value}}


def sequence(n: Json) -> dict[str, Json]:
    return wan(parameters={"enable_sequential": True, "n": n})


SEED_ENDS: list[Json] = [0, 2147483647]


@pytest.mark.parametrize(
    ("base", "name", "values"),
    [
        pytest.param(wanx(), "n", [1, 2, 4], id="wanx n"),
        pytest.param(wanx(), "seed", SEED_ENDS, id="wanx seed"),
        pytest.param(wanx(), "watermark", [True, False], id="wanx watermark"),
        pytest.param(
            wanx("stylization_all"), "strength", [0, 0.0, 0.35, 1, 1.0], id="strength of a style"
        ),
        pytest.param(
            wanx("description_edit"), "strength", [0, 0.0, 0.5, 1, 1.0], id="strength of an edit"
        ),
        pytest.param(wanx("expand"), "top_scale", [1, 1.0, 1.2, 2, 2.0], id="top_scale"),
        pytest.param(wanx("expand"), "bottom_scale", [1.0, 2.0], id="bottom_scale"),
        pytest.param(wanx("expand"), "left_scale", [1.0, 2.0], id="left_scale"),
        pytest.param(wanx("expand"), "right_scale", [1.0, 2.0], id="right_scale"),
        pytest.param(wanx("super_resolution"), "upscale_factor", [1, 4], id="upscale_factor"),
        pytest.param(wanx("doodle"), "is_sketch", [True, False], id="is_sketch"),
        pytest.param(qwen(), "n", [1, 6], id="qwen n"),
        pytest.param(qwen(), "seed", SEED_ENDS, id="qwen seed"),
        pytest.param(qwen(), "watermark", [True, False], id="qwen watermark"),
        pytest.param(qwen(), "prompt_extend", [True, False], id="qwen prompt_extend"),
        pytest.param(
            qwen(),
            "size",
            [
                "512*512", "2048*2048", "512*2048", "2048*512",
                # the sizes that contract 3.3 recommends
                "1024*1024", "1536*1536", "768*1152", "1024*1536", "1152*768", "1536*1024",
                "960*1280", "1080*1440", "1280*960", "1440*1080", "720*1280", "1080*1920",
                "1280*720", "1920*1080", "1344*576", "2048*872",
            ],
            id="qwen size",
        ),
        pytest.param(wan(), "n", [1, 4], id="wan n"),
        pytest.param(wan(), "seed", SEED_ENDS, id="wan seed"),
        pytest.param(wan(), "watermark", [True, False], id="wan watermark"),
        pytest.param(wan(), "enable_sequential", [True, False], id="wan enable_sequential"),
        pytest.param(wan(), "thinking_mode", [True, False], id="wan thinking_mode"),
        pytest.param(
            wan(),
            "size",
            ["1K", "2K", "768*768", "2048*2048", "2176*272", "272*2176", "512*1152"],
            id="wan size",
        ),
    ],
)  # fmt: skip
def test_both_ends_of_each_range_are_accepted(
    base: dict[str, Json], name: str, values: list[Json]
) -> None:
    for value in values:
        assert accepted(with_parameter(base, name, value)).parameters[name] == value


@pytest.mark.parametrize(
    ("base", "name", "value", "nearest"),
    [
        pytest.param(wanx(), "n", 0, "1", id="wanx n below"),
        pytest.param(wanx(), "n", 5, "4", id="wanx n above"),
        pytest.param(wanx(), "n", -(10**30), "1", id="wanx n far below"),
        pytest.param(wanx(), "seed", -1, "0", id="wanx seed below"),
        pytest.param(wanx(), "seed", 2147483648, "2147483647", id="wanx seed above"),
        pytest.param(wanx(), "strength", -0.01, "0.0", id="strength below"),
        pytest.param(wanx(), "strength", 1.01, "1.0", id="strength above"),
        pytest.param(wanx(), "strength", 10**400, "1.0", id="strength beyond any float"),
        pytest.param(wanx(), "strength", float("inf"), "1.0", id="strength 1e999"),
        pytest.param(wanx("stylization_all"), "strength", 2, "1.0", id="strength of a style above"),
        pytest.param(wanx("expand"), "top_scale", 0.99, "1.0", id="top_scale below"),
        pytest.param(wanx("expand"), "top_scale", 2.01, "2.0", id="top_scale above"),
        pytest.param(wanx("expand"), "bottom_scale", 0.5, "1.0", id="bottom_scale below"),
        pytest.param(wanx("expand"), "bottom_scale", 3, "2.0", id="bottom_scale above"),
        pytest.param(wanx("expand"), "left_scale", 0, "1.0", id="left_scale below"),
        pytest.param(wanx("expand"), "left_scale", 2.001, "2.0", id="left_scale above"),
        pytest.param(wanx("expand"), "right_scale", -2, "1.0", id="right_scale below"),
        pytest.param(wanx("expand"), "right_scale", 10, "2.0", id="right_scale above"),
        pytest.param(wanx("super_resolution"), "upscale_factor", 0, "1", id="upscale below"),
        pytest.param(wanx("super_resolution"), "upscale_factor", 5, "4", id="upscale above"),
        pytest.param(qwen(), "n", 0, "1", id="qwen n below"),
        pytest.param(qwen(), "n", 7, "6", id="qwen n above"),
        pytest.param(qwen(), "seed", -1, "0", id="qwen seed below"),
        pytest.param(qwen(), "seed", 2147483648, "2147483647", id="qwen seed above"),
        pytest.param(qwen(), "size", "511*512", '"512*512"', id="qwen side below"),
        pytest.param(qwen(), "size", "2049*1024", '"2048*1024"', id="qwen side above"),
        pytest.param(qwen(), "size", "1024x1536", '"1024*1536"', id="qwen x for *"),
        pytest.param(wan(), "n", 0, "1", id="wan n below"),
        pytest.param(wan(), "n", 5, "4", id="wan n above, no sequence"),
        pytest.param(wan(), "seed", -1, "0", id="wan seed below"),
        pytest.param(wan(), "seed", 2147483648, "2147483647", id="wan seed above"),
        pytest.param(wan(), "size", "2k", '"2K"', id="wan tier in small letters"),
        pytest.param(wan(), "size", "4096*4096", '"2048*2048"', id="wan area above"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_the_nearest_one(
    base: dict[str, Json], name: str, value: Json, nearest: str
) -> None:
    message = the_problem(with_parameter(base, name, value), f"parameters.{name}")
    assert message.endswith(f"nearest {nearest}")


@pytest.mark.parametrize(
    ("base", "name", "value"),
    [
        pytest.param(qwen(), "size", "2049*2049x", id="qwen size with a letter"),
        pytest.param(qwen(), "size", "1K", id="qwen has no tiers"),
        pytest.param(wan(), "size", "4K", id="4K is for another model"),
        pytest.param(wan(), "size", "767*768", id="one row below the area"),
        pytest.param(wan(), "size", "2048*2049", id="one row above the area"),
        pytest.param(wan(), "size", "2177*272", id="just wider than 8:1"),
        pytest.param(wan(), "size", "272*2177", id="just taller than 1:8"),
    ],
)
def test_a_size_that_does_not_exist_is_refused(
    base: dict[str, Json], name: str, value: Json
) -> None:
    assert fields(with_parameter(base, name, value)) == [f"parameters.{name}"]


INTEGERS = [
    (wanx(), "n"),
    (wanx(), "seed"),
    (wanx("super_resolution"), "upscale_factor"),
    (qwen(), "n"),
    (qwen(), "seed"),
    (wan(), "n"),
    (wan(), "seed"),
]
NUMBERS = [
    (wanx(), "strength"),
    *((wanx("expand"), f"{side}_scale") for side in ("top", "bottom", "left", "right")),
]
FLAGS = [
    (wanx(), "watermark"),
    (wanx("doodle"), "is_sketch"),
    (qwen(), "watermark"),
    (qwen(), "prompt_extend"),
    (wan(), "watermark"),
    (wan(), "enable_sequential"),
    (wan(), "thinking_mode"),
]
SIZES = [(qwen(), "size"), (wan(), "size")]


@pytest.mark.parametrize(
    ("base", "name", "value"),
    [
        pytest.param(base, name, value, id=f"{base['model']} {name} {value!r}")
        for places, values in (
            (INTEGERS, [True, False, "1", 1.0, 1.5, None, [1], {}]),
            (NUMBERS, [True, False, "1.0", None, [1.0], {}]),
            (FLAGS, [0, 1, "true", "false", None, [], {}]),
            (SIZES, [1024, True, None, "", "big", ["1024*1024"], {"w": 1024}, "1024", "0*0"]),
        )
        for base, name in places
        for value in values
    ],
)
def test_a_value_of_another_type_is_refused(base: dict[str, Json], name: str, value: Json) -> None:
    raw = with_parameter(base, name, value)
    found = [problem for problem in problems(raw) if problem.field == f"parameters.{name}"]
    assert len(found) == 1
    assert shown(value) in found[0].message
    assert len(problems(raw)) == 1


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", EXTRA)
def test_a_functions_own_parameters_are_taken_there_and_nowhere_else(
    function: str, name: str
) -> None:
    value, having = EXTRA[name]
    raw = with_parameter(wanx(function), name, value)
    if function in having:
        assert accepted(raw).parameters[name] == value
    else:
        message = the_problem(raw, f"parameters.{name}")
        assert all(owner in message for owner in having)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_n_seed_and_watermark_are_taken_by_every_function(function: str) -> None:
    given_: dict[str, Json] = {"n": 4, "seed": 1, "watermark": True}
    assert dict(accepted(wanx(function, parameters=given_)).parameters) == given_


@pytest.mark.parametrize(
    ("base", "name", "value"),
    [
        pytest.param(wanx(), "size", "1024*1024", id="wanx has no size"),
        pytest.param(wanx(), "prompt_extend", True, id="wanx does not extend"),
        pytest.param(wanx(), "negative_prompt", "x", id="wanx has no negative prompt"),
        pytest.param(wanx(), "thinking_mode", True, id="wanx does not think"),
        pytest.param(qwen(), "strength", 0.5, id="qwen has no strength"),
        pytest.param(qwen(), "enable_sequential", True, id="qwen makes no sequences"),
        pytest.param(qwen(), "thinking_mode", True, id="qwen does not think"),
        pytest.param(qwen(), "bbox_list", [[]], id="qwen has no boxes"),
        pytest.param(qwen(), "negative_prompt", "x", id="qwen's negative prompt is at the top"),
        pytest.param(qwen(), "stream", False, id="qwen does not stream"),
        pytest.param(wan(), "negative_prompt", "x", id="wan2.7 has no negative prompt"),
        pytest.param(wan(), "prompt_extend", True, id="wan2.7 does not extend"),
        pytest.param(wan(), "enable_interleave", True, id="wan2.7 does not interleave"),
        pytest.param(wan(), "max_images", 3, id="wan2.7 has no max_images"),
        pytest.param(wan(), "strength", 0.5, id="wan2.7 has no strength"),
        pytest.param(wan(), "is_async", True, id="what the SDK leaks"),
        pytest.param(wan(), "N", 1, id="capitals"),
        pytest.param(wan(), "", 1, id="no name"),
    ],
)
def test_a_parameter_the_model_lacks_is_refused(
    base: dict[str, Json], name: str, value: Json
) -> None:
    assert fields(with_parameter(base, name, value)) == [f"parameters.{name}"]


def test_who_has_a_parameter_is_said() -> None:
    assert WANX in the_problem(with_parameter(qwen(), "strength", 0.5), "parameters.strength")
    assert QWEN in the_problem(
        with_parameter(wan(), "prompt_extend", True), "parameters.prompt_extend"
    )


def test_a_misspelt_parameter_is_refused_with_the_nearest_name() -> None:
    message = the_problem(with_parameter(wan(), "colour_palette", []), "parameters.colour_palette")
    assert 'did you mean "color_palette"?' in message


@pytest.mark.parametrize("value", [[], "n=1", 1, True])
def test_parameters_that_are_no_object_are_refused(value: Json) -> None:
    assert fields(wan(parameters=value)) == ["parameters"]


@pytest.mark.parametrize("n", [1, 5, 12])
def test_a_sequence_may_have_up_to_twelve_images(n: int) -> None:
    assert accepted(sequence(n)).parameters["n"] == n


@pytest.mark.parametrize(("n", "nearest"), [(0, 1), (13, 12)])
def test_a_sequence_has_its_own_bounds(n: int, nearest: int) -> None:
    assert the_problem(sequence(n), "parameters.n").endswith(f"nearest {nearest}")


def test_more_than_four_images_without_a_sequence_are_refused() -> None:
    assert fields(wan(parameters={"enable_sequential": False, "n": 5})) == ["parameters.n"]


def test_thinking_has_effect_for_text_to_image_only_and_a_warning_elsewhere() -> None:
    def warned(raw: dict[str, Json]) -> list[str]:
        return [warning.field for warning in accepted(raw).warnings]

    thinking: Json = {"thinking_mode": True}
    assert warned(wan(images=[], parameters=thinking)) == []
    assert warned(wan(images=["a.jpg"], parameters=thinking)) == ["parameters.thinking_mode"]
    assert warned(wan(parameters=thinking)) == ["parameters.thinking_mode"]
    both: Json = {"thinking_mode": True, "enable_sequential": True}
    assert warned(wan(images=[], parameters=both)) == ["parameters.thinking_mode"]


def palette(*ratios: str, colour: str = "#C2D1E6") -> Json:
    return [{"hex": colour, "ratio": ratio} for ratio in ratios]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(palette("40.00%", "35.50%", "24.50%"), id="the contract's"),
        pytest.param(palette("33.33%", "33.33%", "33.34%"), id="thirds"),
        pytest.param(palette(*["10.00%"] * 10), id="ten colours"),
        pytest.param(palette("99.98%", "0.01%", "0.01%"), id="traces"),
        pytest.param(palette("50.00%", "25.00%", "25.00%", colour="#abcdef"), id="small letters"),
    ],
)
def test_palettes_of_three_to_ten_colours_that_add_up_are_accepted(value: Json) -> None:
    assert accepted(wan(parameters={"color_palette": value})).parameters["color_palette"] == value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(palette("33.33%", "33.33%", "33.33%"), id="adds up to 99.99"),
        pytest.param(palette("33.34%", "33.33%", "33.34%"), id="adds up to 100.01"),
        pytest.param(palette("50.00%", "50.00%"), id="two colours"),
        pytest.param(palette(*["10.00%"] * 9, "5.00%", "5.00%"), id="eleven colours"),
        pytest.param([], id="none"),
        pytest.param(palette("50%", "25%", "25%"), id="no decimals"),
        pytest.param(palette("50.0%", "25.0%", "25.0%"), id="one decimal"),
        pytest.param(palette("50.00", "25.00", "25.00"), id="no percent sign"),
        pytest.param(palette("-50.00%", "75.00%", "75.00%"), id="below zero"),
        pytest.param(palette("50.00%", "25.00%", "25.00%", colour="#C2D1E"), id="five digits"),
        pytest.param(palette("50.00%", "25.00%", "25.00%", colour="C2D1E6"), id="no hash"),
        pytest.param(palette("50.00%", "25.00%", "25.00%", colour="#C2D1EG"), id="no digit"),
        pytest.param(palette("50.00%", "25.00%", "25.00%", colour="#C2D1E6\n"), id="a line end"),
        pytest.param([{"hex": "#C2D1E6", "ratio": 50}] * 2, id="numbers"),
        pytest.param(
            [{"hex": "#C2D1E6", "ratio": "25.00%", "name": "x"}] * 4, id="a field too many"
        ),
        pytest.param([{"hex": "#C2D1E6"}] * 4, id="a field missing"),
        pytest.param(["#C2D1E6"] * 4, id="texts"),
        pytest.param("#C2D1E6", id="one text"),
        pytest.param({"#C2D1E6": "100.00%"}, id="an object"),
        pytest.param(None, id="null"),
    ],
)
def test_other_palettes_are_refused(value: Json) -> None:
    assert fields(wan(parameters={"color_palette": value})) == ["parameters.color_palette"]


def test_a_palette_is_not_for_sequences() -> None:
    given_: Json = {
        "enable_sequential": True,
        "color_palette": palette("50.00%", "25.00%", "25.00%"),
    }
    assert fields(wan(parameters=given_)) == ["parameters.color_palette"]


def boxes(images: list[Json], value: Json) -> dict[str, Json]:
    return wan(images=images, parameters={"bbox_list": value})


@pytest.mark.parametrize(
    ("images", "value"),
    [
        pytest.param(
            ["a", "b", "c"], [[[620, 140, 780, 300]], [[0, 0, 512, 512]], []], id="the contract's"
        ),
        pytest.param(["a"], [[[0, 0, 1, 1], [5, 5, 9, 9]]], id="two boxes"),
        pytest.param(["a"], [[]], id="none for this image"),
    ],
)
def test_boxes_for_each_image_are_accepted(images: list[Json], value: Json) -> None:
    assert accepted(boxes(images, value)).parameters["bbox_list"] == value


def test_boxes_for_the_image_a_sidecar_is_named_after_are_accepted() -> None:
    order = accepted(wan(parameters={"bbox_list": [[[0, 0, 9, 9]]]}))
    assert order.parameters["bbox_list"] == [[[0, 0, 9, 9]]]


@pytest.mark.parametrize(
    ("images", "value"),
    [
        pytest.param(["a", "b"], [[]], id="a list too few"),
        pytest.param(["a"], [[], []], id="a list too many"),
        pytest.param(["a"], [], id="no list"),
        pytest.param(["a"], [[[0, 0, 1, 1]] * 3], id="three boxes"),
        pytest.param(["a"], [[[0, 0, 1]]], id="three corners"),
        pytest.param(["a"], [[[0, 0, 1, 1, 1]]], id="five corners"),
        pytest.param(["a"], [[[5, 0, 5, 9]]], id="no width"),
        pytest.param(["a"], [[[0, 9, 5, 9]]], id="no height"),
        pytest.param(["a"], [[[9, 0, 5, 9]]], id="the wrong way round"),
        pytest.param(["a"], [[[-1, 0, 5, 9]]], id="below zero"),
        pytest.param(["a"], [[[0, 0, 5.0, 9]]], id="a fraction"),
        pytest.param(["a"], [[[False, False, True, True]]], id="flags"),
        pytest.param(["a"], [[["0", "0", "5", "9"]]], id="texts"),
        pytest.param(["a"], [[0, 0, 5, 9]], id="a level too few"),
        pytest.param(["a"], [None], id="null for an image"),
        pytest.param(["a"], None, id="null"),
        pytest.param(["a"], "[]", id="a text"),
        pytest.param(["a"], {"0": []}, id="an object"),
        pytest.param([], [[[0, 0, 5, 9]]], id="a box without an image"),
        pytest.param([], [], id="no image"),
    ],
)
def test_other_boxes_are_refused(images: list[Json], value: Json) -> None:
    assert set(fields(boxes(images, value))) == {"parameters.bbox_list"}


# --- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "limit"),
    [
        pytest.param(wanx(), 800, id=WANX),
        pytest.param(qwen(), 800, id=QWEN),
        pytest.param(wan(), 5000, id=WAN),
    ],
)
@pytest.mark.parametrize("character", ["a", "猫", "é", "🐇", "，"])
def test_prompts_are_counted_in_characters_and_refused_not_cut(
    base: dict[str, Json], limit: int, character: str
) -> None:
    assert accepted(base | {"prompt": character * limit}).prompt == character * limit
    message = the_problem(base | {"prompt": character * (limit + 1)}, "prompt")
    assert str(limit) in message
    assert str(limit + 1) in message


@pytest.mark.parametrize("base", [wanx(), qwen(), wan()], ids=[WANX, QWEN, WAN])
@pytest.mark.parametrize("prompt", [None, "", " \n\t", "\u3000", 7, True, ["x"], {"text": "x"}])
def test_every_edit_needs_a_prompt(base: dict[str, Json], prompt: Json) -> None:
    assert fields(base | {"prompt": prompt}) == ["prompt"]


def test_a_prompt_that_is_left_out_is_said_to_be_missing() -> None:
    assert "missing" in the_problem({"model": WAN}, "prompt")


@pytest.mark.parametrize("character", ["a", "猫", "🐇"])
def test_negative_prompts_of_qwen_have_500_characters(character: str) -> None:
    order = accepted(qwen(negative_prompt=character * 500))
    assert order.negative_prompt == character * 500
    assert fields(qwen(negative_prompt=character * 501)) == ["negative_prompt"]


@pytest.mark.parametrize("base", [wanx(), wan()], ids=[WANX, WAN])
def test_a_superfluous_negative_prompt_is_refused_and_who_has_one_is_said(
    base: dict[str, Json],
) -> None:
    assert QWEN in the_problem(base | {"negative_prompt": "blur"}, "negative_prompt")


@pytest.mark.parametrize("value", [7, False, ["blur"], {}])
def test_a_negative_prompt_that_is_no_text_is_refused(value: Json) -> None:
    assert fields(qwen(negative_prompt=value)) == ["negative_prompt"]


def test_a_negative_prompt_among_the_parameters_is_sent_to_the_top() -> None:
    message = the_problem(qwen(parameters={"negative_prompt": "x"}), "parameters.negative_prompt")
    assert "top" in message


# --- images ----------------------------------------------------------------------------------------


def names(count: int) -> list[Json]:
    return [f"{number}.jpg" for number in range(count)]


@pytest.mark.parametrize(
    ("base", "count"),
    [(wanx(), 1), (qwen(), 1), (qwen(), 3), (wan(), 0), (wan(), 1), (wan(), 9)],
)
def test_as_many_images_as_a_model_takes_are_accepted(base: dict[str, Json], count: int) -> None:
    images = accepted(base | {"images": names(count)}).images
    assert images is not None
    assert len(images) == count


@pytest.mark.parametrize(
    ("base", "count", "span"),
    [
        pytest.param(wanx(), 0, "exactly 1", id="wanx none"),
        pytest.param(wanx(), 2, "exactly 1", id="wanx two"),
        pytest.param(qwen(), 0, "1–3", id="qwen none"),
        pytest.param(qwen(), 4, "1–3", id="qwen four"),
        pytest.param(wan(), 10, "0–9", id="wan ten"),
    ],
)
def test_other_numbers_of_images_are_refused(base: dict[str, Json], count: int, span: str) -> None:
    assert span in the_problem(base | {"images": names(count)}, "images")


def test_the_order_of_images_is_the_prompts_numbering() -> None:
    assert accepted(qwen(images=["b.jpg", "a.jpg", "b.jpg"])).images == ("b.jpg", "a.jpg", "b.jpg")


def test_a_sidecar_named_after_no_image_must_name_those_its_model_needs() -> None:
    assert accepted(wan(), named_after_image=False).images is None
    for raw in (wanx(), qwen()):
        found = problems(raw, named_after_image=False)
        assert [problem.field for problem in found] == ["images"]
    assert accepted(wan(parameters={"thinking_mode": True}), named_after_image=False).warnings == ()


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "sub/a.jpg",
        "/shoes/a.jpg",
        "/a.jpg",
        "red shoe +%20#1.jpg",
        "照片🐇.jpg",
        "..a.jpg",
        "a..b.jpg",
        "x" * 1020 + ".jpg",
        "https://img.example.com/a.jpg",
        "https://img.example.com:8443/a.jpg?v=1&w=2#x",
        "https://img.example.com/%E7%85%A7.jpg",
    ],
)
def test_names_beside_the_sidecar_from_the_root_and_https_urls_are_accepted(name: str) -> None:
    assert accepted(wanx(images=[name])).images == (name,)
    assert accepted(wanx("description_edit_with_mask", mask=name)).mask == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        ".",
        "..",
        "../a.jpg",
        "a/../b.jpg",
        "a/..",
        "./a.jpg",
        "/../a.jpg",
        "a//b.jpg",
        "//img.example.com/a.jpg",
        "/",
        "a/",
        "x" * 1021 + ".jpg",
        "照" * 341 + ".jpg",
        "http://img.example.com/a.jpg",
        "HTTP://img.example.com/a.jpg",
        "ftp://img.example.com/a.jpg",
        "file:///etc/passwd",
        "s3://bucket/a.jpg",
        "oss://bucket/a.jpg",
        "javascript://img.example.com/a.jpg",
        "https://",
        "https:///a.jpg",
        "https://?a.jpg",
        "https://[",
        "https://[::1",
        "https://exa\u2100mple.com/a.jpg",
        "https://user@:443/a.jpg",
        None,
        7,
        True,
        ["a.jpg"],
        {"url": "a.jpg"},
    ],
)
def test_other_names_are_refused_by_their_place_in_the_list(name: Json) -> None:
    assert fields(qwen(images=["good.jpg", name])) == ["images[1]"]
    if name is not None:  # null is the same as no mask
        assert fields(wanx("description_edit_with_mask", mask=name)) == ["mask"]


@pytest.mark.parametrize(
    "name",
    [
        "HTTPS://img.example.com/a.jpg",
        "Https://img.example.com/a.jpg",
        " https://img.example.com/a.jpg",
        "ht\ntps://img.example.com/a.jpg",
    ],
)
def test_an_odd_spelling_of_a_url_never_becomes_a_name_to_wait_for(name: str) -> None:
    result = check(qwen(images=[name]))
    if isinstance(result, Order):
        assert result.images is not None
        assert [is_url(image) for image in result.images] == [True]
    else:
        assert [problem.field for problem in result] == ["images[0]"]


def test_an_https_url_is_passed_on_and_a_name_is_not() -> None:
    assert is_url("https://img.example.com/a.jpg")
    assert not is_url("https.jpg")
    assert not is_url("/https/a.jpg")


@pytest.mark.parametrize(
    "url", ["https://img.example.com/照片.jpg", "https://图.example.com/a.jpg"]
)
def test_urls_for_wanx_are_free_of_characters_outside_ascii(url: str) -> None:
    assert fields(wanx(images=[url])) == ["images[0]"]
    assert fields(wanx("description_edit_with_mask", mask=url)) == ["mask"]


def test_names_in_the_inbox_may_be_chinese_for_wanx_too() -> None:
    assert accepted(wanx(images=["照片.jpg"])).images == ("照片.jpg",)


@pytest.mark.parametrize("value", ["a.jpg", 7, True, {"0": "a.jpg"}])
def test_images_that_are_no_list_are_refused(value: Json) -> None:
    assert fields(qwen(images=value)) == ["images"]


def test_one_bad_name_causes_one_problem_and_no_others() -> None:
    raw = boxes(["../a.jpg"], [[[0, 0, 5, 9]]])
    assert fields(raw) == ["images[0]"]
    assert fields(boxes(["a.jpg", "../b.jpg"], [[], []])) == ["images[1]"]


# --- masks, labels, priority, unknown fields -------------------------------------------------------


def test_the_function_with_a_mask_needs_one() -> None:
    assert "missing" in the_problem(wanx("description_edit_with_mask", mask=None), "mask")


@pytest.mark.parametrize(
    "raw",
    [
        *(
            pytest.param(wanx(function, mask="m.png"), id=function)
            for function in FUNCTIONS
            if function != "description_edit_with_mask"
        ),
        pytest.param(qwen(mask="m.png"), id=QWEN),
        pytest.param(wan(mask="m.png"), id=WAN),
    ],
)
def test_a_superfluous_mask_is_refused(raw: dict[str, Json]) -> None:
    assert "description_edit_with_mask" in the_problem(raw, "mask")


def test_labels_come_through() -> None:
    labels: dict[str, Json] = {f"k{number}": "红" * 256 for number in range(20)}
    assert dict(accepted(qwen(labels=labels)).labels) == labels
    assert dict(accepted(qwen(labels={})).labels) == {}


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        pytest.param({f"k{n}": "x" for n in range(21)}, "labels", id="21 labels"),
        pytest.param({"sku": "x" * 257}, "labels.sku", id="257 characters"),
        pytest.param({"sku": 7}, "labels.sku", id="a number"),
        pytest.param({"sku": None}, "labels.sku", id="null"),
        pytest.param({"sku": ["a"]}, "labels.sku", id="a list"),
        pytest.param(["sku"], "labels", id="a list of labels"),
        pytest.param("sku", "labels", id="a text"),
    ],
)
def test_other_labels_are_refused(labels: Json, field: str) -> None:
    assert fields(qwen(labels=labels)) == [field]


@pytest.mark.parametrize("priority", range(10))
def test_priorities_are_0_to_9(priority: int) -> None:
    assert accepted(qwen(priority=priority)).priority == priority


@pytest.mark.parametrize("priority", [-1, 10, 10**30, 5.0, "5", True, [5]])
def test_other_priorities_are_refused(priority: Json) -> None:
    assert "0–9" in the_problem(qwen(priority=priority), "priority")


def test_a_misspelt_field_is_refused_with_the_nearest_name() -> None:
    assert 'did you mean "labels"?' in the_problem(qwen(lables={}), "lables")


def test_a_parameter_at_the_top_is_sent_to_the_parameters() -> None:
    assert "parameters" in the_problem(qwen(seed=7), "seed")


@pytest.mark.parametrize("value", [7, True, [], {}])
def test_a_schema_that_is_no_text_is_refused(value: Json) -> None:
    assert fields(qwen(**{"$schema": value})) == ["$schema"]


# --- all problems at once --------------------------------------------------------------------------


def test_five_mistakes_give_five_problems_each_with_its_field() -> None:
    raw = qwen(
        images=["a.jpg", "../b.jpg"],
        parameters={"n": 9, "strength": 0.5},
        lables={"sku": "CUP-02"},
        priority=12,
    )
    assert fields(raw) == ["images[1]", "lables", "parameters.n", "parameters.strength", "priority"]


def test_mistakes_in_every_field_are_all_said() -> None:
    raw: dict[str, Json] = {
        "$schema": 1,
        "model": WANX,
        "function": "expnd",
        "prompt": "x" * 801,
        "negative_prompt": "y",
        "images": ["http://x/a.jpg", "b.jpg"],
        "mask": "../m.png",
        "parameters": {"n": 0, "seed": -1, "watermark": "no", "size": "1K"},
        "labels": {"a": 1},
        "priority": -1,
        "extra": None,
    }
    assert fields(raw, region="singapore") == [
        "$schema",
        "extra",
        "function",
        "images",
        "images[0]",
        "labels.a",
        "mask",
        "model",
        "negative_prompt",
        "parameters.n",
        "parameters.seed",
        "parameters.size",
        "parameters.watermark",
        "priority",
        "prompt",
    ]


def test_with_an_unknown_model_the_other_fields_are_checked_all_the_same() -> None:
    raw: dict[str, Json] = {
        "model": "dall-e",
        "prompt": "",
        "images": [".."],
        "labels": 7,
        "priority": 99,
    }
    assert fields(raw) == ["images[0]", "labels", "model", "priority", "prompt"]


def test_an_empty_sidecar_lacks_a_model_and_a_prompt() -> None:
    assert fields({}) == ["model", "prompt"]


def test_a_problem_reads_as_field_and_message() -> None:
    assert str(Problem("parameters.n", "is too large")) == "parameters.n: is too large"
    assert str(Problem("", "not JSON")) == "not JSON"


def test_values_in_messages_are_cut() -> None:
    assert shown("a" * 10) == '"aaaaaaaaaa"'
    assert len(shown("a" * 1000)) == 60
    assert len(the_problem(qwen(priority="x" * 100_000), "priority")) < 300


# --- anything at all -------------------------------------------------------------------------------

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63, float("inf"), -float("inf"), 0.0, 1.5])
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "..", "https://[", "https://a.example/x", "a.jpg", "1K", "768*768", "1x1", WANX, QWEN]
    ),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
PARAMETER_NAMES = [
    "n", "seed", "watermark", "strength", "top_scale", "bottom_scale", "left_scale", "right_scale",
    "upscale_factor", "is_sketch", "size", "prompt_extend", "enable_sequential", "thinking_mode",
    "color_palette", "bbox_list", "negative_prompt", "prompt",
]  # fmt: skip
SIDECARS = st.fixed_dictionaries(
    {},
    optional={
        "$schema": JSON_VALUES,
        "model": st.sampled_from([WANX, QWEN, WAN]) | JSON_VALUES,
        "function": st.sampled_from(FUNCTIONS) | JSON_VALUES,
        "prompt": st.text(max_size=9) | JSON_VALUES,
        "negative_prompt": JSON_VALUES,
        "images": st.lists(JSON_VALUES, max_size=4) | JSON_VALUES,
        "mask": JSON_VALUES,
        "parameters": st.dictionaries(st.sampled_from(PARAMETER_NAMES), JSON_VALUES, max_size=5)
        | JSON_VALUES,
        "labels": JSON_VALUES,
        "priority": JSON_VALUES,
        "other": JSON_VALUES,
    },
)


@settings(max_examples=500, deadline=None)
@given(
    raw=SIDECARS | st.dictionaries(st.text(max_size=9), JSON_VALUES, max_size=6),
    region=st.sampled_from([None, "beijing", "singapore"]),
    named_after_image=st.booleans(),
)
@example(raw=wanx(images=["https://["]), region=None, named_after_image=True)
@example(raw=wanx(parameters={"strength": 10**400}), region=None, named_after_image=True)
def test_any_json_gives_an_order_or_at_least_one_problem(
    raw: dict[str, Json], region: str | None, named_after_image: bool
) -> None:
    result = check(raw, region=region, named_after_image=named_after_image)
    if isinstance(result, Order):
        assert result.prompt.strip()
        assert "n" in result.parameters
    else:
        assert result
        assert all(problem.message for problem in result)


def lengthy(entries: int) -> list[Any]:
    many: dict[str, Json] = {f"a{number:05x}": 0 for number in range(entries)}
    dots: list[Json] = [".."] * (entries * 2)
    return [
        pytest.param(qwen(**many), id="unknown fields"),
        pytest.param(qwen(parameters=many), id="unknown parameters"),
        pytest.param(qwen(images=dots), id="bad names"),
        pytest.param(qwen(labels=many), id="labels"),
        pytest.param(qwen(parameters={"x" * 250_000: 0}), id="one endless parameter"),
        pytest.param(qwen(**{"x" * 250_000: 0}), id="one endless field"),
        pytest.param(qwen(model="x" * 250_000), id="an endless model"),
    ]


@pytest.mark.parametrize("raw", lengthy(20_000))
@pytest.mark.timeout(20)
def test_the_problems_of_the_largest_sidecar_can_be_stored(raw: dict[str, Json]) -> None:
    assert len(json.dumps(raw)) <= MAX_BYTES
    said = [dataclasses.astuple(problem) for problem in problems(raw)]
    assert len(utf8(said)) < ITEM_BYTES


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(qwen(parameters={"size": " " * 200_000}), id="a size of spaces"),
        pytest.param(wan(parameters={"size": "x" * 200_000}), id="a size of x"),
        pytest.param(wan(parameters={"size": "1" * 200_000 + "*1"}), id="a size of digits"),
        pytest.param(qwen(images=["https://" + "a" * 200_000]), id="a long URL"),
        pytest.param(qwen(images=["/" * 200_000]), id="a name of slashes"),
        pytest.param(wan(parameters={"bbox_list": [[]] * 60_000}), id="many lists of boxes"),
    ],
)
@pytest.mark.timeout(10)
def test_judging_a_sidecar_takes_bounded_time(raw: dict[str, Json]) -> None:
    assert len(json.dumps(raw)) <= MAX_BYTES
    assert check(raw)


# --- the JSON Schema -------------------------------------------------------------------------------

jsonschema: Any = importlib.import_module("jsonschema")


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft202012Validator(schema())


def test_the_schema_is_a_valid_one_of_2020_12() -> None:
    made = schema()
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(made)
    assert json.loads(json.dumps(made)) == made


AGREED: list[Any] = [
    pytest.param(qwen(), True, id="the shortest"),
    *(pytest.param(wanx(function), True, id=f"wanx {function}") for function in FUNCTIONS),
    pytest.param(wan(images=[]), True, id="text to image"),
    pytest.param(wan(images=names(9)), True, id="nine images"),
    pytest.param(wan(images=names(10)), False, id="ten images"),
    pytest.param(wanx(images=names(2)), False, id="two images for wanx"),
    pytest.param(qwen(images=[]), False, id="no image for qwen"),
    pytest.param(qwen(images=[""]), False, id="an image without a name"),
    pytest.param(qwen(images="a.jpg"), False, id="images as a text"),
    pytest.param({"prompt": "x"}, False, id="no model"),
    pytest.param({"model": QWEN}, False, id="no prompt"),
    pytest.param({"model": WANX, "prompt": "x"}, False, id="no function"),
    pytest.param(qwen(model="qwen-image-edit"), False, id="another model"),
    pytest.param(wanx("cut_out"), False, id="another function"),
    pytest.param(qwen(function="expand"), False, id="a superfluous function"),
    pytest.param(qwen(function=None), True, id="a function of null"),
    pytest.param(qwen(prompt=""), False, id="an empty prompt"),
    pytest.param(qwen(prompt="  "), False, id="a prompt of spaces"),
    pytest.param(qwen(prompt="猫" * 800), True, id="800 Chinese characters"),
    pytest.param(qwen(prompt="猫" * 801), False, id="801 Chinese characters"),
    pytest.param(qwen(prompt=7), False, id="a prompt that is a number"),
    pytest.param(qwen(negative_prompt="x" * 500), True, id="a negative prompt"),
    pytest.param(qwen(negative_prompt="x" * 501), False, id="a negative prompt too long"),
    pytest.param(wan(negative_prompt="x"), False, id="a superfluous negative prompt"),
    pytest.param(wan(negative_prompt=None), True, id="a negative prompt of null"),
    pytest.param(wanx("description_edit_with_mask", mask=None), False, id="a mask of null"),
    pytest.param(wanx("description_edit_with_mask", mask=""), False, id="a mask without a name"),
    pytest.param(wanx("expand", mask="m.png"), False, id="a superfluous mask"),
    pytest.param(wan(mask="m.png"), False, id="a superfluous mask for wan"),
    pytest.param(wan(mask=None), True, id="a superfluous mask of null"),
    pytest.param(wanx(parameters={"n": 4}), True, id="wanx n 4"),
    pytest.param(wanx(parameters={"n": 5}), False, id="wanx n 5"),
    pytest.param(qwen(parameters={"n": 6}), True, id="qwen n 6"),
    pytest.param(qwen(parameters={"n": 7}), False, id="qwen n 7"),
    pytest.param(sequence(12), True, id="a sequence of 12"),
    pytest.param(sequence(13), False, id="a sequence of 13"),
    pytest.param(qwen(parameters={"n": True}), False, id="n true"),
    pytest.param(qwen(parameters={"n": "1"}), False, id="n as a text"),
    pytest.param(qwen(parameters={"n": None}), False, id="n null"),
    pytest.param(qwen(parameters={"seed": 2147483648}), False, id="a seed too large"),
    pytest.param(wanx(parameters={"strength": 1}), True, id="strength"),
    pytest.param(wanx(parameters={"strength": 1.1}), False, id="strength too large"),
    pytest.param(wanx("expand", parameters={"strength": 1}), False, id="strength to expand"),
    pytest.param(wanx("expand", parameters={"top_scale": 2.0}), True, id="a scale"),
    pytest.param(wanx("doodle", parameters={"is_sketch": 1}), False, id="a flag as a number"),
    pytest.param(qwen(parameters={"strength": 1}), False, id="strength for qwen"),
    pytest.param(qwen(parameters={"size": "1024*768"}), True, id="a size"),
    pytest.param(qwen(parameters={"size": "1K"}), False, id="a tier for qwen"),
    pytest.param(wan(parameters={"size": "1K"}), True, id="a tier for wan"),
    pytest.param(wan(parameters={"size": "4K"}), False, id="a tier that wan lacks"),
    pytest.param(wan(parameters={"size": "1024x768"}), False, id="a size with x"),
    pytest.param(boxes(["a"], [[[0, 0, 1, 1]]]), True, id="boxes"),
    pytest.param(boxes(["a"], [[[0, 0, 1]]]), False, id="a box of three"),
    pytest.param(boxes(["a"], [[[0, 0, 1, 1]] * 3]), False, id="three boxes"),
    pytest.param(
        wan(parameters={"color_palette": palette("40.00%", "35.50%", "24.50%")}), True, id="palette"
    ),
    pytest.param(
        wan(parameters={"color_palette": palette("50.00%", "50.00%")}), False, id="two colours"
    ),
    pytest.param(
        wan(parameters={"color_palette": palette("50%", "25%", "25%")}), False, id="no decimals"
    ),
    pytest.param(wan(parameters={"prompt_extend": True}), False, id="an unsupported parameter"),
    pytest.param(wan(parameters=[]), False, id="parameters as a list"),
    pytest.param(qwen(labels={"sku": "x" * 256}), True, id="a label"),
    pytest.param(qwen(labels={"sku": "x" * 257}), False, id="a label too long"),
    pytest.param(qwen(labels={"x" * 257: "x"}), False, id="a label's name too long"),
    pytest.param(qwen(labels={"sku": 1}), False, id="a label that is a number"),
    pytest.param(qwen(labels={f"k{n}": "" for n in range(21)}), False, id="21 labels"),
    pytest.param(qwen(priority=9), True, id="priority 9"),
    pytest.param(qwen(priority=10), False, id="priority 10"),
    pytest.param(qwen(priority="5"), False, id="priority as a text"),
    pytest.param(qwen(lables={}), False, id="an unknown field"),
    pytest.param(qwen(**{"$schema": "./sidecar.schema.json"}), True, id="a $schema"),
    pytest.param(qwen(**{"$schema": 1}), False, id="a $schema that is a number"),
    pytest.param(qwen(images=None), True, id="images of null"),
    pytest.param(qwen(parameters=None), True, id="parameters of null"),
    pytest.param(qwen(labels=None), True, id="labels of null"),
    pytest.param(qwen(priority=None), True, id="priority of null"),
    pytest.param(qwen(**{"$schema": None}), True, id="$schema of null"),
]


@pytest.mark.parametrize(("raw", "good"), AGREED)
def test_the_schema_and_the_check_agree(raw: dict[str, Json], good: bool, validator: Any) -> None:
    assert isinstance(check(raw), Order) is good
    assert validator.is_valid(raw) is good


@settings(max_examples=300, deadline=None)
@given(raw=SIDECARS)
def test_the_schema_refuses_nothing_that_the_check_accepts(raw: dict[str, Json]) -> None:
    if isinstance(check(raw), Order):
        assert jsonschema.Draft202012Validator(schema()).is_valid(raw)
