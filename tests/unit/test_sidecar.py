"""Sidecars: bytes become an order that the provider will accept, or every problem at once."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retouch.registry import MODELS, REGIONS, Json, Mode
from retouch.sidecar import (
    MAX_BYTES,
    Draft,
    Order,
    Problem,
    check,
    is_url,
    judge,
    quoted,
    read,
    shown,
)

from .helpers import (
    ELEVEN,
    EXTRA,
    FUNCTIONS,
    JSON_VALUES,
    PARAMETERS,
    QWEN,
    QWEN_BASE,
    QWEN_MAX,
    QWEN_OCTOBER,
    SIDECARS,
    WAN,
    WAN_25,
    WAN_26,
    WAN_PRO,
    WANX,
    accepted,
    boxes,
    fields,
    interleave,
    names,
    palette,
    problems,
    qwen,
    sequence,
    sidecar,
    the_problem,
    utf8,
    wan,
    wan26,
    wanx,
)
from .table import field_of, nearest_in

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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "", "line 1, column 1: the file is empty; a sidecar is an object {…}", id="empty"
        ),
        pytest.param(
            "\ufeff \n", "the file is empty; a sidecar is an object {…}", id="white space"
        ),
        pytest.param(
            "{“model”: 1}",
            'line 1, column 2: “ is not a quotation mark in JSON; use "',
            id="curly quotes",
        ),
        pytest.param(
            '{"model": “x”}',
            'line 1, column 11: “ is not a quotation mark in JSON; use "',
            id="curly quotes around a value",
        ),
        pytest.param(
            '{"a": 1,\n ”b”: 2}',
            'line 2, column 2: ” is not a quotation mark in JSON; use "',
            id="a closing quote that opens",
        ),
        pytest.param("{‘a’: 1}", '‘ is not a quotation mark in JSON; use "', id="single curly"),
        pytest.param('{"a”: 1}', "is not a quotation mark in JSON", id="curly at one end"),
        pytest.param("{'a': 1}", "' is not a quotation mark in JSON; use \"", id="single quotes"),
        # Python 3.13 has words of its own for it.
        pytest.param('{"a": 1,}', "comma", id="a comma too many"),
        pytest.param('{"a": 1,\n}\n', "comma", id="a comma too many, and a line end"),
        pytest.param('{"a": [1, 2, ]}', "comma", id="a comma too many in a list"),
        pytest.param(
            '{"a": 1', "expecting ',' delimiter; the file may be cut off", id="cut off in an object"
        ),
        pytest.param('{"a"', "the file may be cut off", id="cut off after a name"),
        pytest.param('{"a": [1,', "the file may be cut off", id="cut off in a list"),
        pytest.param('{"a": "x', "the file may be cut off", id="cut off in a text"),
        pytest.param('{"a": "x\\', "the file may be cut off", id="cut off in an escape"),
    ],
)
def test_what_is_wrong_with_json_is_said_in_plain_words(text: str, said: str) -> None:
    message = refused(text.encode())
    assert message.startswith("not JSON, at line ")
    assert said in message


@pytest.mark.parametrize("text", ['{"a": 1} // x', '{"a" 1}', '{"a": 1}}', "{,}", '{"a":,}'])
def test_json_that_is_whole_is_not_said_to_be_cut_off(text: str) -> None:
    message = refused(text.encode())
    assert "cut off" not in message
    assert "closing bracket" not in message


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
    assert accepted(raw, regions=["beijing"]) == Order(
        model="wanx2.1-imageedit",
        function="description_edit_with_mask",
        region="beijing",
        call=Mode.ASYNC,
        prompt="a ceramic rabbit holding a ceramic flower",
        negative_prompt=None,
        images=("photo.jpg",),
        mask="photo.mask.png",
        fit=False,
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
    assert (order.region, order.call, order.fit) == (None, Mode.SYNC, False)


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
    "name",
    [
        "$schema", "function", "negative_prompt", "images", "mask", "fit", "parameters", "region",
        "call", "labels", "priority",
    ],
)  # fmt: skip
def test_null_is_the_same_as_leaving_a_field_out(name: str) -> None:
    assert accepted(qwen(**{name: None})) == accepted(qwen())


# --- models and functions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        pytest.param("wanx2.1-imagedit", WANX, id="a letter missing"),
        pytest.param("wanx21-imageedit", WANX, id="a dot missing"),
        pytest.param("qwen-image-edit-pluss", QWEN, id="a letter too many"),
        pytest.param("qwen-image-edit-plus-2025-10-31", QWEN_OCTOBER, id="a day too late"),
        pytest.param("wan2.6-images", WAN_26, id="plural"),
        pytest.param("Wan2.7-Image", WAN, id="capitals"),
        pytest.param("QWEN-IMAGE-EDIT", QWEN_BASE, id="capitals throughout"),
    ],
)
def test_an_unknown_model_is_refused_with_the_nearest_name(name: str, near: str) -> None:
    message = the_problem({"model": name, "prompt": "x"}, "model")
    assert f'did you mean "{near}"?' in message
    assert all(model in message for model in ELEVEN)


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


@pytest.mark.parametrize("function", ["remove_watermaker", "removeWatermark", "Remove_Watermark"])
def test_an_unknown_function_is_refused_with_the_nearest_name(function: str) -> None:
    message = the_problem(wanx(function), "function")
    assert 'did you mean "remove_watermark"?' in message


@pytest.mark.parametrize("value", [7, True, [], {}, "", "Expand"])
def test_what_is_no_function_is_refused(value: Json) -> None:
    assert fields({"model": WANX, "prompt": "x", "function": value}) == ["function"]


@pytest.mark.parametrize("model", [name for name in ELEVEN if name != WANX])
def test_a_superfluous_function_is_refused(model: str) -> None:
    assert "no functions" in the_problem(sidecar(model, function="expand"), "function")


# --- regions and calls -----------------------------------------------------------------------------


def test_wanx_works_in_beijing_only() -> None:
    assert accepted(wanx(), regions=["beijing"]).region == "beijing"
    assert the_problem(wanx(), "model", regions=["singapore"]) == (
        "wanx2.1-imageedit exists in the region beijing only; this stack has a key for singapore"
    )


@pytest.mark.parametrize("region", ["beijing", "singapore"])
@pytest.mark.parametrize("model", [name for name in ELEVEN if name != WANX])
def test_the_other_models_work_in_both_regions(model: str, region: str) -> None:
    order = accepted(sidecar(model), regions=[region])
    assert (order.model, order.region) == (model, region)


@pytest.mark.parametrize("region", ["virginia", "frankfurt"])
@pytest.mark.parametrize("model", ELEVEN)
def test_only_wan26_works_overseas(model: str, region: str) -> None:
    if model == WAN_26:
        assert accepted(sidecar(model), regions=[region]).region == region
    else:
        assert region in the_problem(sidecar(model), "model", regions=[region])


def test_without_a_stack_no_region_is_checked_against_its_keys() -> None:
    assert accepted(wanx()).region is None
    assert accepted(wan26(region="frankfurt")).region == "frankfurt"
    assert set(REGIONS) == {"beijing", "singapore", "virginia", "frankfurt"}


@pytest.mark.parametrize(
    ("raw", "regions", "region"),
    [
        pytest.param(wan(), ["beijing", "singapore"], "beijing", id="the preferred one"),
        pytest.param(wan(), ["singapore", "beijing"], "singapore", id="the preferred one, too"),
        pytest.param(wanx(), ["singapore", "beijing"], "beijing", id="the first that has it"),
        pytest.param(wan(region="beijing"), ["singapore", "beijing"], "beijing", id="as wished"),
        pytest.param(
            wan26(call="sync"), ["frankfurt", "virginia"], "virginia", id="the first with that call"
        ),
        pytest.param(wan26(), ["frankfurt", "virginia"], "frankfurt", id="with any call"),
    ],
)
def test_a_job_goes_to_the_first_region_that_can_do_it(
    raw: dict[str, Json], regions: list[str], region: str
) -> None:
    assert accepted(raw, regions=regions).region == region


@pytest.mark.parametrize(
    ("raw", "call"),
    [
        pytest.param(wanx(), Mode.ASYNC, id=WANX),
        pytest.param(qwen(), Mode.SYNC, id=QWEN),
        pytest.param(sidecar(WAN_25), Mode.ASYNC, id=WAN_25),
        pytest.param(wan26(), Mode.ASYNC, id=WAN_26),
        pytest.param(interleave(), Mode.ASYNC, id="text with images"),
        pytest.param(wan(), Mode.ASYNC, id=WAN),
        pytest.param(sidecar(WAN_PRO), Mode.ASYNC, id=WAN_PRO),
        pytest.param(wan(call="sync"), Mode.SYNC, id="wan2.7 as wished"),
        pytest.param(wan26(call="sync"), Mode.SYNC, id="wan2.6 as wished"),
        pytest.param(interleave() | {"call": "sync"}, Mode.SYNC, id="text with images as wished"),
        pytest.param(wan(call="async"), Mode.ASYNC, id="wan2.7 by name"),
        pytest.param(qwen(call="sync"), Mode.SYNC, id="qwen by name"),
    ],
)
def test_a_job_is_called_as_wished_and_else_as_a_task(raw: dict[str, Json], call: Mode) -> None:
    assert accepted(raw).call is call
    assert accepted(raw, regions=["beijing", "singapore"]).call is call


@pytest.mark.parametrize(
    ("raw", "regions", "field", "said"),
    [
        pytest.param(
            wanx(call="sync"),
            None,
            "call",
            '"sync" is not allowed; wanx2.1-imageedit is called async only',
            id="wanx has no sync",
        ),
        pytest.param(
            qwen(call="async"),
            ["beijing"],
            "call",
            '"async" is not allowed; qwen-image-edit-plus is called sync only',
            id="qwen has no async",
        ),
        pytest.param(
            sidecar(WAN_25, call="sync"),
            ["beijing"],
            "call",
            '"sync" is not allowed; wan2.5-i2i-preview is called async only',
            id="wan2.5 has no sync",
        ),
        pytest.param(
            wan(region="virginia"),
            None,
            "region",
            '"virginia" is not allowed; wan2.7-image exists in beijing or singapore',
            id="a region without the model",
        ),
        pytest.param(
            wan(region="virginia"),
            ["virginia", "beijing"],
            "region",
            '"virginia" is not allowed; wan2.7-image exists in beijing or singapore',
            id="a region of the stack's without the model",
        ),
        pytest.param(
            wan(region="singapore"),
            ["beijing"],
            "region",
            '"singapore" is not allowed; this stack has a key for beijing',
            id="a region without a key",
        ),
        pytest.param(
            wan26(region="singapore"),
            ["beijing", "virginia"],
            "region",
            '"singapore" is not allowed; this stack has a key for beijing or virginia',
            id="a region without a key of two",
        ),
        pytest.param(
            wan26(region="frankfurt", call="sync"),
            None,
            "call",
            '"sync" is not allowed; frankfurt has wan2.6-image async only; leave call out',
            id="a region without the call",
        ),
        pytest.param(
            wan26(region="frankfurt", call="sync"),
            ["beijing", "frankfurt"],
            "call",
            '"sync" is not allowed; frankfurt has wan2.6-image async only; leave call out',
            id="a region of the stack's without the call",
        ),
        pytest.param(
            wan26(call="sync"),
            ["frankfurt"],
            "call",
            '"sync" is not allowed; frankfurt has wan2.6-image async only; leave call out',
            id="no region with the call",
        ),
        pytest.param(
            wan26(region="hongkong"),
            None,
            "region",
            '"hongkong" is not allowed; allowed: beijing, singapore, virginia, frankfurt',
            id="no region",
        ),
        pytest.param(
            wan(region="bejing"),
            ["beijing"],
            "region",
            '"bejing" is not allowed; allowed: beijing, singapore, virginia, frankfurt; '
            'did you mean "beijing"?',
            id="a misspelt region",
        ),
        pytest.param(
            wan(call="asynchronous"),
            None,
            "call",
            '"asynchronous" is not allowed; allowed: async, sync',
            id="no call",
        ),
        pytest.param(
            wan(call="synch"),
            None,
            "call",
            '"synch" is not allowed; allowed: async, sync; did you mean "sync"?',
            id="a misspelt call",
        ),
    ],
)
def test_where_and_how_a_job_cannot_go_is_said(
    raw: dict[str, Json], regions: list[str] | None, field: str, said: str
) -> None:
    assert the_problem(raw, field, regions=regions) == said


@pytest.mark.parametrize("value", [7, True, [], {}, "", "Beijing", ["beijing"]])
@pytest.mark.parametrize("name", ["region", "call"])
def test_what_is_no_region_or_call_is_refused(name: str, value: Json) -> None:
    for regions in (None, ["beijing"]):
        assert fields(wan(**{name: value}), regions=regions) == [name]


def test_a_region_and_a_call_that_are_both_wrong_are_both_said() -> None:
    raw = qwen(region="frankfurt", call="async")
    assert fields(raw, regions=["beijing"]) == ["call", "region"]
    assert fields(wanx(call="sync"), regions=["singapore"]) == ["call", "model"]


# --- fit -------------------------------------------------------------------------------------------


def test_images_are_mended_only_where_that_is_asked_for() -> None:
    assert accepted(wan(fit=True)).fit is True
    assert accepted(wan(fit=False)).fit is False
    assert accepted(wan()).fit is False


@pytest.mark.parametrize("value", [1, 0, "true", [], {}, "shrink"])
def test_a_fit_that_is_no_flag_is_refused(value: Json) -> None:
    assert the_problem(wan(fit=value), "fit") == f"{shown(value)} is not allowed; true or false is"


# --- parameters ------------------------------------------------------------------------------------


def with_parameter(base: dict[str, Json], name: str, value: Json) -> dict[str, Json]:
    given = base.get("parameters", {})
    assert isinstance(given, dict)
    return base | {"parameters": {**given, name: value}}


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
        pytest.param(sidecar(QWEN_BASE), "n", [1], id="qwen base n"),
        pytest.param(sidecar(QWEN_MAX), "n", [1, 6], id="qwen max n"),
        pytest.param(sidecar(WAN_25), "n", [1, 4], id="wan2.5 n"),
        pytest.param(
            sidecar(WAN_25),
            "size",
            # the sizes that contract 3.4 recommends
            ["1280*1280", "1024*1024", "800*1200", "1200*800", "960*1280", "1280*960", "720*1280",
             "1280*720", "1344*576"],
            id="wan2.5 size",
        ),
        pytest.param(wan26(), "n", [1, 4], id="wan2.6 n"),
        pytest.param(wan26(), "enable_interleave", [True, False], id="wan2.6 enable_interleave"),
        pytest.param(
            wan26(), "size", ["1K", "2K", "768*768", "2048*2048", "4096*1024"], id="wan2.6 size"
        ),
        pytest.param(interleave(), "n", [1], id="text with images n"),
        pytest.param(interleave(), "max_images", [1, 5], id="text with images max_images"),
        pytest.param(
            interleave(), "size", ["768*768", "1280*1280", "2560*640"], id="text with images size"
        ),
        pytest.param(
            sidecar(WAN_PRO, images=[]),
            "size",
            ["1K", "2K", "4K", "4096*4096", "768*768"],
            id="wan2.7 pro size",
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
        pytest.param(wanx("super_resolution"), "upscale_factor", 8, "4", id="upscale far above"),
        pytest.param(wan(), "size", "4K", '"2K"', id="wan a tier of the pro model"),
        pytest.param(wan(), "size", "1024x768", '"1024*768"', id="wan x for *"),
        pytest.param(wan(), "size", "5000*500", '"4000*500"', id="wan ratio above"),
        pytest.param(wan(), "size", "512*512", '"768*768"', id="wan area below"),
        pytest.param(qwen(), "size", "1K", '"1024*1024"', id="qwen a tier of wan"),
        pytest.param(qwen(), "size", "2K", '"2048*2048"', id="qwen the largest tier"),
        pytest.param(sidecar(QWEN_BASE), "n", 2, "1", id="qwen base n above"),
        pytest.param(sidecar(QWEN_MAX), "n", 7, "6", id="qwen max n above"),
        pytest.param(sidecar(WAN_25), "n", 5, "4", id="wan2.5 n above"),
        pytest.param(sidecar(WAN_25), "size", "1K", '"1024*1024"', id="wan2.5 a tier of wan2.6"),
        pytest.param(sidecar(WAN_25), "size", "1601*400", '"1600*400"', id="wan2.5 ratio above"),
        pytest.param(sidecar(WAN_25), "size", "2048*2048", '"1280*1280"', id="wan2.5 area above"),
        pytest.param(wan26(), "n", 5, "4", id="wan2.6 n above"),
        pytest.param(wan26(), "size", "4K", '"2K"', id="wan2.6 a tier of wan2.7"),
        pytest.param(wan26(), "size", "5000*1000", '"4000*1000"', id="wan2.6 ratio above"),
        pytest.param(interleave(), "n", 2, "1", id="text with images n above"),
        pytest.param(interleave(), "max_images", 0, "1", id="text with images max_images below"),
        pytest.param(interleave(), "max_images", 6, "5", id="text with images max_images above"),
        pytest.param(interleave(), "size", "1K", '"1280*1280"', id="text with images a tier"),
        pytest.param(
            interleave(), "size", "2048*2048", '"1280*1280"', id="text with images area above"
        ),
        pytest.param(sidecar(WAN_PRO), "size", "4K", '"2K"', id="wan2.7 pro 4K beside an image"),
        pytest.param(
            sidecar(WAN_PRO, images=[]), "size", "8K", '"4K"', id="wan2.7 pro more than 4K"
        ),
    ],
)
def test_a_value_outside_its_range_is_refused_with_the_nearest_one(
    base: dict[str, Json], name: str, value: Json, nearest: str
) -> None:
    message = the_problem(with_parameter(base, name, value), f"parameters.{name}")
    assert nearest_in(message) == nearest


@pytest.mark.parametrize(
    ("base", "name", "value", "said"),
    [
        pytest.param(
            wan(),
            "n",
            5,
            "5 is not a whole number within 1–4; nearest 4; allowed where enable_sequential is true",
            id="in a set",
        ),
        pytest.param(
            sequence(1),
            "n",
            13,
            "13 is not a whole number within 1–12 where enable_sequential is true; nearest 12",
            id="not even in a set",
        ),
        pytest.param(
            interleave(),
            "n",
            2,
            "2 is not 1, the only value here where enable_interleave is true; nearest 1; allowed "
            "where enable_interleave is false",
            id="without texts",
        ),
        pytest.param(
            wan26(),
            "n",
            5,
            "5 is not a whole number within 1–4; nearest 4",
            id="with too many others to name them",
        ),
        pytest.param(
            qwen(),
            "n",
            7,
            "7 is not a whole number within 1–6; nearest 6; allowed with wan2.7-image where "
            "enable_sequential is true or wan2.7-image-pro where enable_sequential is true",
            id="with two others in a set",
        ),
        pytest.param(
            wan(),
            "size",
            "4K",
            '"4K" is not "1K" or "2K" or "W*H" with W×H within 589824–4194304 and a ratio of 1:8 to '
            '8:1; nearest "2K"; allowed with wan2.7-image-pro where enable_sequential is false and '
            "there is no image",
            id="with the pro model",
        ),
        pytest.param(
            sidecar(WAN_PRO),
            "size",
            "4K",
            '"4K" is not "1K" or "2K" or "W*H" with W×H within 589824–4194304 and a ratio of 1:8 to '
            '8:1; nearest "2K"; allowed where enable_sequential is false and there is no image',
            id="without an image",
        ),
        pytest.param(
            interleave(),
            "size",
            "2K",
            '"2K" is not "W*H" with W×H within 589824–1638400 and a ratio of 1:4 to 4:1 where '
            "enable_interleave is true; allowed where enable_interleave is false",
            id="a tier without texts",
        ),
        pytest.param(
            wanx("super_resolution"),
            "upscale_factor",
            8,
            "8 is not a whole number within 1–4; nearest 4",
            id="nowhere",
        ),
    ],
)
def test_where_a_range_holds_and_where_a_value_would_be_right_is_said(
    base: dict[str, Json], name: str, value: Json, said: str
) -> None:
    assert the_problem(with_parameter(base, name, value), f"parameters.{name}") == said


@pytest.mark.parametrize(
    ("base", "name", "value", "nearest"),
    [
        pytest.param(wan(), "n", "3", "3", id="digits"),
        pytest.param(wan(), "n", 3.0, "3", id="a whole number with a point"),
        pytest.param(wan(), "n", "9", "4", id="digits beyond the range"),
        pytest.param(wan(), "seed", 7.0, "7", id="a seed with a point"),
        pytest.param(wan(), "n", "three", None, id="a word"),
        pytest.param(wan(), "n", 2.5, None, id="a fraction"),
        pytest.param(wan(), "watermark", "true", "true", id="true as a text"),
        pytest.param(wan(), "watermark", "no", "false", id="no"),
        pytest.param(wan(), "watermark", "No", "false", id="no with a capital"),
        pytest.param(wan(), "watermark", "maybe", None, id="neither"),
        pytest.param(wan(), "watermark", 1, None, id="one"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_may_be_meant(
    base: dict[str, Json], name: str, value: Json, nearest: str | None
) -> None:
    message = the_problem(with_parameter(base, name, value), f"parameters.{name}")
    assert nearest_in(message) == nearest
    assert message.startswith(f"{shown(value)} is not ")


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
        pytest.param(interleave(), "size", "2K", id="2K beside texts"),
        pytest.param(sidecar(WAN_25), "size", "2K", id="a tier beyond wan2.5"),
        pytest.param(sidecar(WAN_25), "size", "399*1600", id="just taller than 1:4"),
        pytest.param(wan26(), "size", "1537*384", id="just wider than 4:1"),
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
    (sidecar(WAN_25), "n"),
    (wan26(), "n"),
    (interleave(), "max_images"),
    (sidecar(WAN_PRO), "seed"),
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
    (sidecar(WAN_25), "prompt_extend"),
    (wan26(), "enable_interleave"),
    (wan26(), "prompt_extend"),
]
SIZES = [(sidecar(name), "size") for name in (QWEN, WAN_25, WAN_26, WAN, WAN_PRO)]


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


def test_which_functions_have_a_parameter_reads_well() -> None:
    assert the_problem(with_parameter(wanx("doodle"), "strength", 1), "parameters.strength") == (
        "is not a parameter of the function doodle; stylization_all and description_edit have it"
    )
    assert the_problem(with_parameter(wanx("doodle"), "top_scale", 1), "parameters.top_scale") == (
        "is not a parameter of the function doodle; expand has it"
    )


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


def test_who_has_a_parameter_is_said_without_dated_snapshots() -> None:
    assert the_problem(with_parameter(qwen(), "strength", 0.5), "parameters.strength") == (
        "is not a parameter of qwen-image-edit-plus, which has n, prompt_extend, seed, size, "
        "watermark; wanx2.1-imageedit has it"
    )
    assert the_problem(with_parameter(wan(), "max_images", 2), "parameters.max_images").endswith(
        "; wan2.6-image has it"
    )
    assert the_problem(
        with_parameter(wan(), "prompt_extend", 1), "parameters.prompt_extend"
    ).endswith(
        "; qwen-image-edit-plus, qwen-image-edit-max, wan2.5-i2i-preview and wan2.6-image have it"
    )


@pytest.mark.parametrize("model", ELEVEN)
@pytest.mark.parametrize(
    "name", sorted({name for having in PARAMETERS.values() for name in having})
)
def test_every_parameter_that_another_model_has_is_refused_with_who_has_it(
    model: str, name: str
) -> None:
    if name in PARAMETERS[model]:
        assert name in MODELS[model].by_name
    else:
        message = the_problem(with_parameter(sidecar(model), name, 1), f"parameters.{name}")
        dated = [n for n in ELEVEN if n.count("-20")]
        said = message.rpartition(";")[2]
        for other in set(ELEVEN) - set(dated):
            named = other in said.replace(",", "").split()
            assert named is (name in PARAMETERS[other])


@pytest.mark.parametrize("model", ELEVEN)
@pytest.mark.parametrize("name", ["stream", "is_async", "incremental_output"])
def test_what_follows_from_the_call_is_not_for_the_sidecar(model: str, name: str) -> None:
    message = the_problem(with_parameter(sidecar(model), name, True), f"parameters.{name}")
    assert message == (
        'is set by retouch where a call needs it; "call" at the top of the sidecar decides'
    )


@pytest.mark.parametrize(
    "name", ["prompt", "images", "mask", "function", "model", "region", "call", "fit"]
)
def test_a_field_of_the_sidecar_among_the_parameters_is_sent_to_the_top(name: str) -> None:
    message = the_problem(with_parameter(wan(), name, "x"), f"parameters.{name}")
    assert message == "stands at the top of the sidecar, not among the parameters"


@pytest.mark.parametrize(
    ("base", "name", "meant"),
    [
        (wan(), "colour_palette", "color_palette"),
        (wan(), "enableSequential", "enable_sequential"),
        (wan(), "EnableSequential", "enable_sequential"),
        (wan(), "N", "n"),
        (wan(), "Size", "size"),
        (wan(), "SEED", "seed"),
        (qwen(), "promptExtend", "prompt_extend"),
        (wanx("expand"), "topScale", "top_scale"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_nearest_name(
    base: dict[str, Json], name: str, meant: str
) -> None:
    message = the_problem(with_parameter(base, name, []), f"parameters.{name}")
    assert message.endswith(f'; did you mean "{meant}"?')


def test_an_unknown_parameter_is_refused_with_those_of_the_function_at_hand() -> None:
    raw = with_parameter(wanx("expand"), "foo", 1)
    assert the_problem(raw, "parameters.foo") == (
        "is not a parameter of wanx2.1-imageedit with expand, which has bottom_scale, left_scale, n, "
        "right_scale, seed, top_scale, watermark"
    )
    raw = with_parameter(wanx("colorization"), "size", "1K")
    assert the_problem(raw, "parameters.size") == (
        "is not a parameter of wanx2.1-imageedit with colorization, which has n, seed, watermark; "
        "qwen-image-edit-plus, qwen-image-edit-max, wan2.5-i2i-preview, wan2.6-image, wan2.7-image "
        "and wan2.7-image-pro have it"
    )
    # What another function has is not what may be meant here.
    raw = with_parameter(wanx("colorization"), "strenght", 1)
    assert "did you mean" not in the_problem(raw, "parameters.strenght")


@pytest.mark.parametrize("value", [[], "n=1", 1, True])
def test_parameters_that_are_no_object_are_refused(value: Json) -> None:
    assert fields(wan(parameters=value)) == ["parameters"]


@pytest.mark.parametrize("n", [1, 5, 12])
def test_a_sequence_may_have_up_to_twelve_images(n: int) -> None:
    assert accepted(sequence(n)).parameters["n"] == n


@pytest.mark.parametrize(("n", "nearest"), [(0, 1), (13, 12)])
def test_a_sequence_has_its_own_bounds(n: int, nearest: int) -> None:
    message = the_problem(sequence(n), "parameters.n")
    assert "where enable_sequential is true" in message
    assert nearest_in(message) == str(nearest)


def test_more_than_four_images_without_a_sequence_are_refused() -> None:
    assert fields(wan(parameters={"enable_sequential": False, "n": 5})) == ["parameters.n"]


def test_thinking_has_effect_for_text_to_image_only_and_a_warning_elsewhere() -> None:
    def warned(raw: dict[str, Json]) -> list[str]:
        return [warning.field for warning in accepted(raw).warnings]

    thinking: Json = {"thinking_mode": True}
    assert warned(wan(images=[], parameters=thinking)) == []
    assert warned(wan(images=["a.jpg"], parameters=thinking)) == ["parameters.thinking_mode"]
    assert warned(wan(parameters=thinking)) == ["parameters.thinking_mode"]
    both: Json = {"thinking_mode": True, "enable_sequential": True, "n": 3}
    assert warned(wan(images=[], parameters=both)) == ["parameters.thinking_mode"]


def test_what_has_no_effect_in_a_mode_is_a_warning() -> None:
    def warned(raw: dict[str, Json]) -> list[str]:
        return [str(warning) for warning in accepted(raw).warnings]

    assert warned(interleave(max_images=3)) == []
    assert warned(interleave(prompt_extend=True)) == [
        "parameters.prompt_extend: has effect only where enable_interleave is false"
    ]
    assert warned(wan26(parameters={"max_images": 3, "prompt_extend": True})) == [
        "parameters.max_images: has effect only where enable_interleave is true"
    ]


@pytest.mark.parametrize("model", [WAN, WAN_PRO])
def test_a_set_without_n_is_a_warning(model: str) -> None:
    def warned(parameters: Json) -> list[str]:
        return [str(w) for w in accepted(sidecar(model, parameters=parameters)).warnings]

    assert warned({"enable_sequential": True}) == [
        "parameters.enable_sequential: does little without n, which is 1 unless it is given"
    ]
    assert warned({"enable_sequential": True, "n": 1}) == []
    assert warned({"enable_sequential": True, "n": 12}) == []
    assert warned({"enable_sequential": False}) == []
    assert warned({}) == []


def test_what_costs_money_is_sent_though_the_sidecar_is_silent() -> None:
    assert dict(accepted(interleave()).parameters) == {
        "enable_interleave": True, "n": 1, "max_images": 5,
    }  # fmt: skip
    assert dict(accepted(wan26()).parameters) == {"n": 1}
    assert dict(accepted(sidecar(WAN_25)).parameters) == {"n": 1}


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
    found = fields(wan(parameters={"color_palette": value}))
    assert set(map(field_of, found)) == {"parameters.color_palette"}


def test_every_fault_of_a_palette_is_said_at_its_place() -> None:
    value: list[Json] = [
        {"hex": "AABBCC", "ratio": 40},
        {"hex": "red", "ratio": "25.00%"},
        {"hex": "#112233", "ratio": "35%"},
        {"hex": "#112233", "share": "1.00%"},
    ]
    share = 'is not a share with two decimals and a percent sign, as "25.00%"; nearest'
    assert list(map(str, problems(wan(parameters={"color_palette": value})))) == [
        'parameters.color_palette[0].hex: "AABBCC" is not a colour "#RRGGBB"; nearest "#AABBCC"',
        f'parameters.color_palette[0].ratio: 40 {share} "40.00%"',
        'parameters.color_palette[1].hex: "red" is not a colour "#RRGGBB"',
        f'parameters.color_palette[2].ratio: "35%" {share} "35.00%"',
        'parameters.color_palette[3]: {"hex": "#112233", "share": "1.00%"} is not an object '
        '{"hex": "#RRGGBB", "ratio": "25.00%"} and nothing else',
    ]


@pytest.mark.parametrize(
    ("ratios", "made"), [(["33.33%"] * 3, "99.99%"), (["50.00%", "50.00%", "50.00%"], "150.00%")]
)
def test_what_a_palettes_ratios_make_is_said(ratios: list[str], made: str) -> None:
    raw = wan(parameters={"color_palette": palette(*ratios)})
    assert the_problem(raw, "parameters.color_palette").endswith(
        f"is not ratios that add up to 100.00%; these make {made}"
    )


def test_a_palette_is_not_for_sequences() -> None:
    given_: Json = {
        "enable_sequential": True,
        "color_palette": palette("50.00%", "25.00%", "25.00%"),
    }
    assert fields(wan(parameters=given_)) == ["parameters.color_palette"]


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
    assert set(map(field_of, fields(boxes(images, value)))) == {"parameters.bbox_list"}


def test_every_fault_of_boxes_is_said_at_its_place() -> None:
    value: list[Json] = [[[0, 0, 5, 9], [9, 9, 0, 0]], None, [[5, 0, 5, 9]]]
    a_box = "is not a box [x1, y1, x2, y2] of whole pixels with x1 < x2 and y1 < y2"
    assert list(map(str, problems(boxes(names(3), value)))) == [
        f"parameters.bbox_list[0][1]: [9, 9, 0, 0] {a_box}; nearest [0, 0, 9, 9]",
        "parameters.bbox_list[1]: null is not a list of at most 2 boxes [x1, y1, x2, y2]",
        f"parameters.bbox_list[2][0]: [5, 0, 5, 9] {a_box}",
    ]


@pytest.mark.parametrize(
    ("lists", "images", "said"),
    [
        (1, 2, "1 list for 2 images; one for each"),
        (2, 1, "2 lists for 1 image; one for each"),
        (0, 3, "0 lists for 3 images; one for each"),
    ],
)
def test_another_number_of_lists_than_images_is_said(lists: int, images: int, said: str) -> None:
    assert the_problem(boxes(names(images), [[]] * lists), "parameters.bbox_list") == said


# --- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "limit"),
    [
        pytest.param(wanx(), 800, id=WANX),
        pytest.param(sidecar(QWEN_BASE), 800, id=QWEN_BASE),
        pytest.param(qwen(), 800, id=QWEN),
        pytest.param(sidecar(QWEN_MAX), 800, id=QWEN_MAX),
        pytest.param(sidecar(WAN_25), 2000, id=WAN_25),
        pytest.param(wan26(), 2000, id=WAN_26),
        pytest.param(interleave(), 2000, id="text with images"),
        pytest.param(wan(), 5000, id=WAN),
        pytest.param(sidecar(WAN_PRO), 5000, id=WAN_PRO),
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


@pytest.mark.parametrize("base", [sidecar(name) for name in ELEVEN], ids=ELEVEN)
@pytest.mark.parametrize("prompt", [None, "", " \n\t", "\u3000", 7, True, ["x"], {"text": "x"}])
def test_every_edit_needs_a_prompt(base: dict[str, Json], prompt: Json) -> None:
    assert fields(base | {"prompt": prompt}) == ["prompt"]


def test_a_prompt_that_is_left_out_is_said_to_be_missing() -> None:
    assert "missing" in the_problem({"model": WAN}, "prompt")


WITH_NEGATIVE = (QWEN_BASE, QWEN, QWEN_OCTOBER, QWEN_MAX, WAN_25, WAN_26)


@pytest.mark.parametrize("model", WITH_NEGATIVE)
@pytest.mark.parametrize("character", ["a", "猫", "🐇"])
def test_negative_prompts_have_500_characters(model: str, character: str) -> None:
    order = accepted(sidecar(model, negative_prompt=character * 500))
    assert order.negative_prompt == character * 500
    message = the_problem(sidecar(model, negative_prompt=character * 501), "negative_prompt")
    assert message.startswith("501 characters; at most 500 are allowed")


@pytest.mark.parametrize("model", [WANX, WAN, WAN_PRO])
def test_a_superfluous_negative_prompt_is_refused_and_who_has_one_is_said(model: str) -> None:
    having = (
        "qwen-image-edit, qwen-image-edit-plus, qwen-image-edit-max, wan2.5-i2i-preview and "
        "wan2.6-image have it"
    )
    raw = sidecar(model, negative_prompt="blur")
    said = the_problem(raw, "negative_prompt")
    assert said == f"is not a parameter of {model}; {having}"
    raw = with_parameter(sidecar(model), "negative_prompt", "blur")
    said = the_problem(raw, "parameters.negative_prompt")
    assert said == f"is not a parameter of {model}; {having}, at the top of the sidecar"


@pytest.mark.parametrize("value", [7, False, ["blur"], {}])
def test_a_negative_prompt_that_is_no_text_is_refused(value: Json) -> None:
    assert fields(qwen(negative_prompt=value)) == ["negative_prompt"]


@pytest.mark.parametrize("model", WITH_NEGATIVE)
def test_a_negative_prompt_among_the_parameters_is_sent_to_the_top(model: str) -> None:
    raw = with_parameter(sidecar(model), "negative_prompt", "x")
    assert the_problem(raw, "parameters.negative_prompt") == (
        "stands at the top of the sidecar, not among the parameters"
    )


# --- images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "count"),
    [
        (wanx(), 1),
        (qwen(), 1),
        (qwen(), 3),
        (sidecar(WAN_25), 1),
        (sidecar(WAN_25), 3),
        (wan26(), 1),
        (wan26(), 4),
        (interleave(), 0),
        (interleave(), 1),
        (wan(), 0),
        (wan(), 1),
        (wan(), 9),
        (sequence(3), 0),
        (sequence(3), 9),
    ],
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
        pytest.param(sidecar(WAN_25), 0, "1–3", id="wan2.5 none"),
        pytest.param(sidecar(WAN_25), 4, "1–3", id="wan2.5 four"),
        pytest.param(wan26(), 0, "1–4", id="wan2.6 none"),
        pytest.param(wan26(), 5, "1–4", id="wan2.6 five"),
        pytest.param(
            interleave(), 2, "0–1 where enable_interleave is true", id="text with images two"
        ),
    ],
)
def test_other_numbers_of_images_are_refused(base: dict[str, Json], count: int, span: str) -> None:
    assert span in the_problem(base | {"images": names(count)}, "images")


def test_the_order_of_images_is_the_prompts_numbering() -> None:
    assert accepted(qwen(images=["b.jpg", "a.jpg", "b.jpg"])).images == ("b.jpg", "a.jpg", "b.jpg")


def test_a_sidecar_named_after_no_image_must_name_those_its_model_needs() -> None:
    assert accepted(wan(), named_after_image=False).images is None
    assert accepted(interleave(), named_after_image=False).images is None
    for raw in (wanx(), qwen(), sidecar(WAN_25), wan26()):
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
        "https://user@img.example.com/a.jpg",
        "https://user:password@img.example.com/a.jpg",
        "https://:password@img.example.com/a.jpg",
        "https://img.example.com:0/a.jpg",
        "https://img.example.com:65536/a.jpg",
        "https://img.example.com:port/a.jpg",
        "https://img.example.com:-1/a.jpg",
        "https://img.example.com/a b.jpg",
        "https://img.example.com/a.jpg ",
        "https://img.example.com/a\tb.jpg",
        "https://img.example.com/a\nb.jpg",
        "https://img.example.com/a\u3000b.jpg",
        "https://img.example.com/a\u200bb.jpg",
        "https://img.example.com/a\x00.jpg",
        "data:image/png;base64,iVBORw0KGgo=",
        "DATA:image/png,x",
        "data:",
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
    ("name", "said"),
    [
        (
            "http://img.example.com/a.jpg",
            "is not allowed; a public https:// URL (no spaces, no credentials), or a name in the "
            "inbox, is",
        ),
        (
            "https://user:password@img.example.com/a.jpg",
            "is not allowed; a public https:// URL (no spaces, no credentials), or a name in the "
            "inbox, is",
        ),
        (
            "https://img.example.com:99999/a.jpg",
            "is not allowed; a public https:// URL (no spaces, no credentials), or a name in the "
            "inbox, is",
        ),
        (
            "data:image/png;base64,iVBORw0KGgo=",
            "is not allowed; drop the image beside the sidecar and give its name",
        ),
        (
            "../a.jpg",
            "is not allowed; a name in the sidecar's own folder (photo.jpg, sub/photo.jpg) or from "
            "the inbox root (/shoes/photo.jpg) is",
        ),
        ("x" * 1025, "is longer than the 1024 bytes that S3 allows"),
    ],
)
def test_why_a_name_is_refused_is_said(name: str, said: str) -> None:
    assert the_problem(qwen(images=[name]), "images[0]") == f"{shown(name)} {said}"
    assert the_problem(wanx("description_edit_with_mask", mask=name), "mask") == (
        f"{shown(name)} {said}"
    )


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


@pytest.mark.parametrize("model", ELEVEN)
@pytest.mark.parametrize(
    "url",
    [
        "https://img.example.com/照片.jpg",
        "https://img.example.com/a.jpg?v=é",
        "https://图.example.com/a.jpg",
    ],
)
def test_urls_are_free_of_characters_outside_ascii_for_every_model(url: str, model: str) -> None:
    assert fields(sidecar(model, images=[url])) == ["images[0]"]
    assert fields(wanx("description_edit_with_mask", mask=url)) == ["mask"]


@pytest.mark.parametrize(
    ("url", "nearest"),
    [
        ("https://img.example.com/照.jpg", "https://img.example.com/%E7%85%A7.jpg"),
        ("https://img.example.com/%20é?v=ü#ß", "https://img.example.com/%20%C3%A9?v=%C3%BC#%C3%9F"),
    ],
)
def test_such_a_url_is_refused_with_the_percent_encoded_one(url: str, nearest: str) -> None:
    said = "has characters that a URL must not; they must be percent-encoded"
    for message in (
        the_problem(qwen(images=[url]), "images[0]"),
        the_problem(wanx("description_edit_with_mask", mask=url), "mask"),
    ):
        assert message == f'{shown(url)} {said}; nearest "{nearest}"'
    assert accepted(qwen(images=[nearest])).images == (nearest,)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@example("https://img.example.com/a%20b?c=d&e=f#g")
def test_quoting_a_url_leaves_ascii_as_it_is(text: str) -> None:
    assert quoted(text).isascii()
    assert quoted(quoted(text)) == quoted(text)
    assert (quoted(text) == text) is text.isascii()


def test_names_in_the_inbox_may_be_chinese_for_wanx_too() -> None:
    assert accepted(wanx(images=["照片.jpg"])).images == ("照片.jpg",)


@pytest.mark.parametrize("value", ["a.jpg", 7, True, {"0": "a.jpg"}])
def test_images_that_are_no_list_are_refused(value: Json) -> None:
    assert fields(qwen(images=value)) == ["images"]


def test_one_name_in_place_of_a_list_is_refused_with_the_list() -> None:
    message = the_problem(qwen(images="a.jpg"), "images")
    assert message == '"a.jpg" is not allowed; a list of names is; nearest ["a.jpg"]'
    assert nearest_in(the_problem(qwen(images=7), "images")) is None


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
        *(pytest.param(sidecar(name, mask="m.png"), id=name) for name in ELEVEN if name != WANX),
    ],
)
def test_a_superfluous_mask_is_refused(raw: dict[str, Json]) -> None:
    assert the_problem(raw, "mask") == (
        "is not taken here; wanx2.1-imageedit with description_edit_with_mask takes one"
    )


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


@pytest.mark.parametrize(
    ("value", "nearest"), [(7, '"7"'), (1.5, '"1.5"'), (None, None), ([7], None)]
)
def test_a_label_that_is_a_number_is_refused_with_its_text(
    value: Json, nearest: str | None
) -> None:
    message = the_problem(qwen(labels={"sku": value}), "labels.sku")
    assert nearest_in(message) == nearest


@pytest.mark.parametrize("priority", range(10))
def test_priorities_are_0_to_9(priority: int) -> None:
    assert accepted(qwen(priority=priority)).priority == priority


@pytest.mark.parametrize("priority", [-1, 10, 10**30, 5.0, "5", True, [5]])
def test_other_priorities_are_refused(priority: Json) -> None:
    assert "0–9" in the_problem(qwen(priority=priority), "priority")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lables", "labels"),
        ("negativePrompt", "negative_prompt"),
        ("NegativePrompt", "negative_prompt"),
        ("Prompt", "prompt"),
        ("IMAGES", "images"),
    ],
)
def test_a_misspelt_field_is_refused_with_the_nearest_name(name: str, meant: str) -> None:
    said = f'is not a field of a sidecar; did you mean "{meant}"?'
    assert the_problem(qwen(**{name: "x"}), name) == said


def test_a_parameter_at_the_top_is_sent_to_the_parameters() -> None:
    said = "is not a field of a sidecar; it belongs in parameters"
    assert the_problem(qwen(seed=7), "seed") == said


@pytest.mark.parametrize("value", [7, True, [], {}])
def test_a_schema_that_is_no_text_is_refused(value: Json) -> None:
    assert fields(qwen(**{"$schema": value})) == ["$schema"]


# --- judge: what can be told of the images of a sidecar that is refused ------------------------------


def test_an_order_comes_with_its_draft() -> None:
    value: list[Json] = [[[0, 0, 5, 9]]]
    raw = boxes(["a.jpg"], value) | {"fit": True}
    order, draft = judge(raw)
    assert order == accepted(raw)
    assert draft == Draft(MODELS[WAN], None, ("a.jpg",), None, True, value)


def test_of_an_image_that_the_sidecar_is_named_after_a_draft_tells_no_name() -> None:
    assert judge(wan())[1] == Draft(MODELS[WAN], None, None, None, False, None)


def test_a_refused_sidecar_has_a_draft_all_the_same() -> None:
    raw = wanx(
        "description_edit_with_mask",
        images=["a.jpg"],
        mask="m.png",
        parameters={"n": 9},
        priority=99,
        lables={},
    )
    found, draft = judge(raw, regions=["singapore"])
    assert isinstance(found, list)
    assert found == problems(raw, regions=["singapore"])
    function = MODELS[WANX].function("description_edit_with_mask")
    assert function is not None
    assert draft == Draft(MODELS[WANX], function, ("a.jpg",), "m.png", False, None)


@pytest.mark.parametrize("prompt", [None, "", 7])
def test_a_sidecar_without_a_prompt_has_a_draft_too(prompt: Json) -> None:
    assert judge(wan(prompt=prompt, images=["a.jpg"]))[1] == (
        Draft(MODELS[WAN], None, ("a.jpg",), None, False, None)
    )


@pytest.mark.parametrize("function", [None, "cut_out", 7])
def test_where_the_function_is_not_known_the_model_is(function: Json) -> None:
    raw: dict[str, Json] = {"model": WANX, "prompt": "x", "images": ["a.jpg"], "function": function}
    assert judge(raw)[1] == Draft(MODELS[WANX], None, ("a.jpg",), None, False, None)


@pytest.mark.parametrize("model", [None, "dall-e", 7, []])
def test_only_where_the_model_is_not_known_there_is_no_draft(model: Json) -> None:
    found, draft = judge({"model": model, "prompt": "x", "images": ["a.jpg"]})
    assert isinstance(found, list)
    assert [problem.field for problem in found] == ["model"]
    assert draft is None


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
        "fit": "yes",
        "call": "sync",
        "parameters": {"n": 0, "seed": -1, "watermark": "no", "size": "1K"},
        "labels": {"a": 1},
        "priority": -1,
        "extra": None,
    }
    assert fields(raw, regions=["singapore"]) == [
        "$schema",
        "call",
        "extra",
        "fit",
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


@settings(max_examples=500, deadline=None)
@given(
    raw=SIDECARS | st.dictionaries(st.text(max_size=9), JSON_VALUES, max_size=6),
    regions=st.none() | st.lists(st.sampled_from(sorted(REGIONS)), min_size=1, unique=True),
    named_after_image=st.booleans(),
)
@example(raw=wanx(images=["https://["]), regions=None, named_after_image=True)
@example(raw=wanx(parameters={"strength": 10**400}), regions=None, named_after_image=True)
def test_any_json_gives_an_order_or_at_least_one_problem(
    raw: dict[str, Json], regions: list[str] | None, named_after_image: bool
) -> None:
    result = check(raw, regions=regions, named_after_image=named_after_image)
    judged, draft = judge(raw, regions=regions, named_after_image=named_after_image)
    assert judged == result
    name = raw.get("model")
    assert (draft is not None) is (isinstance(name, str) and name in MODELS)
    if isinstance(result, Order):
        assert draft is not None
        assert (draft.images, draft.mask, draft.fit) == (result.images, result.mask, result.fit)
        assert result.prompt.strip()
        assert "n" in result.parameters
        assert result.call in MODELS[result.model].calls
        assert (result.region is None) <= (regions is None)
        assert regions is None or result.region in regions
        if result.region is not None:
            assert result.call in MODELS[result.model].calls_in(result.region)
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
