"""Any file is an answer: an order, or the reasons why not, few and readable; never an exception.

An order that is given can be written down as it is. What a file costs in memory is bounded by its
size, however it is made.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue as Json

from retouch import sidecar
from retouch.sidecar import Order, Problem
from tests.properties.strategies import (
    MEGABYTE,
    affordable,
    dumped,
    is_utf8,
    literals,
    nested,
    peak_of,
    soup,
    values,
    weighted,
    written,
)
from tests.unit.expectations import EXPECTATIONS, sidecar_of

_MOST_PROBLEMS = 101
_LONGEST_MESSAGE = 1000


def _hold(verdict: Order | Problem | list[Problem]) -> None:
    """The promise about whatever a file is answered."""
    if isinstance(verdict, Order):
        facts = dataclasses.asdict(verdict)
        assert is_utf8(dumped(facts))
        problems = list(verdict.warnings)
    else:
        problems = [verdict] if isinstance(verdict, Problem) else verdict
        assert problems, "refused without a reason"
    assert len(problems) <= _MOST_PROBLEMS
    for problem in problems:
        assert isinstance(problem, Problem)
        assert 0 < len(problem.message) <= _LONGEST_MESSAGE
        assert len(problem.field) <= _LONGEST_MESSAGE
        assert is_utf8(str(problem))


def _judge(data: bytes) -> None:
    raw = sidecar.read(data)
    _hold(raw if isinstance(raw, Problem) else sidecar.check(raw))


# --- sidecars that are nearly right ---------------------------------------------------------------

_BASES = (
    *(sidecar_of(row) for row in EXPECTATIONS if not row.refused),
    *(sidecar_of(row) for row in EXPECTATIONS[::5] if row.refused),
)
_PARAMETERS = (
    "n",
    "seed",
    "watermark",
    "strength",
    "top_scale",
    "bottom_scale",
    "left_scale",
    "right_scale",
    "upscale_factor",
    "is_sketch",
    "size",
    "prompt_extend",
    "enable_interleave",
    "max_images",
    "enable_sequential",
    "thinking_mode",
    "color_palette",
    "bbox_list",
    "negative_prompt",
    "stream",
    "\ud800",
    "",
)
_FIELDS = (
    "$schema",
    "model",
    "function",
    "prompt",
    "negative_prompt",
    "images",
    "mask",
    "parameters",
    "labels",
    "priority",
    "region",
    "call",
    "fit",
    "modell",
    "locked",
    "\ud800",
    "",
)
_changes = st.lists(st.tuples(st.sampled_from(_FIELDS), literals), max_size=2)
_parameter_changes = st.lists(st.tuples(st.sampled_from(_PARAMETERS), literals), max_size=3)


def _object_of(raw: Json) -> dict[str, Json]:
    return raw if isinstance(raw, dict) else {}


def _changed(
    base: dict[str, Json],
    changes: list[tuple[str, str]],
    parameter_changes: list[tuple[str, str]],
    twice: bool,
) -> str:
    """A sidecar as text, with some of its values replaced, or given a second time."""
    parameters = {k: json.dumps(v) for k, v in _object_of(base.get("parameters")).items()}
    fields = {k: json.dumps(v) for k, v in base.items()}
    if twice:
        fields["parameters"] = written([*parameters.items(), *parameter_changes])
        return written([*fields.items(), *changes])
    fields["parameters"] = written(list((parameters | dict(parameter_changes)).items()))
    return written(list((fields | dict(changes)).items()))


_near_misses = st.builds(
    _changed,
    st.sampled_from(_BASES),
    _changes,
    _parameter_changes,
    st.sampled_from((False, False, False, False, True)),
)
_files = st.builds(
    lambda mark, text: mark + text.encode("utf-8", "surrogatepass"),
    st.sampled_from((*[b""] * 14, b"\xef\xbb\xbf", b"\xff\xfe")),
    weighted((10, _near_misses), (1, soup), (1, values.map(json.dumps))),
)


@settings(
    max_examples=10_000,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"\xef\xbb\xbf{}")
@example(b"\x00")
@example(b"{}")
@example(b'{"model": "\\ud800", "\\ud800": "\\ud800"}')
@example(b'{"model": "wan2.7-image", "prompt": "a\\ud800"}')
@example(b'{"model": "wan2.7-image", "prompt": "a", "images": ["\\ud800.png"]}')
@example(b'{"model": "wan2.7-image", "prompt": "a", "labels": {"\\ud800": "\\ud800"}}')
@example(b'{"model": "wan2.7-image", "prompt": "a", "$schema": "\\ud800"}')
@example(b'{"model": "wan2.7-image", "prompt": "a", "parameters": {"\\ud800": 1}}')
@example(b'{"model": "wan2.7-image", "prompt": "a", "parameters": {"seed": NaN}}')
@example(b'{"model": "wan2.7-image", "prompt": "a", "parameters": {"seed": 1e999}}')
@example(b'{"model": "wan2.7-image", "prompt": "a", "prompt": "b"}')
@example(b'{"model": "wan2.7-image", "prompt": "a", "priority": ' + b"9" * 4000 + b"}")
@example(b'{"model": "wan2.7-image", "prompt": "a", "parameters": {"n": -' + b"9" * 4000 + b"}}")
@given(data=weighted((1, st.binary(max_size=120)), (9, _files)))
def test_any_file_is_an_order_or_problems(data: bytes) -> None:
    _judge(data)


# --- extremes: of the largest file that is read, and of one that is larger -------------------------

_HEAD = '{"model": "wan2.7-image", "prompt": "a", '


def _filled(opening: str, piece: str, closing: str, size: int) -> str:
    """`piece` again and again, commas between, until there are `size` bytes."""
    room = size - len(opening) - len(closing)
    return opening + ",".join([piece] * (room // (len(piece) + 1))) + closing


def _numbered(opening: str, closing: str, size: int) -> str:
    """Different keys until there are `size` bytes."""
    count = (size - len(opening) - len(closing)) // len('"k100000":0,')
    return opening + ",".join(f'"k{number:06d}":0' for number in range(count)) + closing


_EXTREMES: dict[str, Callable[[int], str]] = {
    "spaces": lambda size: " " * size,
    "no JSON": lambda size: "x" * size,
    "a text": lambda size: '"' + "x" * (size - 2) + '"',
    "an open text": lambda size: '"' + "x" * (size - 1),
    "a text of escapes": lambda size: '"' + "\\u00e9" * (size // 6 - 1) + '"',
    "a text of halves": lambda size: '"' + "\\ud800" * (size // 6 - 1) + '"',
    "a text of brackets": lambda size: '{"prompt": "' + "[{" * (size // 2 - 10) + '"}',
    "a prompt": lambda size: f'{_HEAD}"negative_prompt": "{"红" * (size // 3 - 40)}"}}',
    "a field's name": lambda size: f'{_HEAD}"{"x" * (size - 60)}": 1}}',
    "a parameter's name": lambda size: f'{_HEAD}"parameters": {{"{"x" * (size - 80)}": 1}}}}',
    "a model's name": lambda size: f'{{"model": "{"x" * (size - 20)}"}}',
    "an image's name": lambda size: f'{_HEAD}"images": ["{"x/" * (size // 2 - 40)}x"]}}',
    "a label": lambda size: f'{_HEAD}"labels": {{"a": "{"x" * (size - 80)}"}}}}',
    "lists, open": lambda size: "[" * size,
    "lists": lambda size: nested("[", size // 2, "]"),
    "objects, open": lambda size: '{"a":' * (size // 5),
    "lists and objects": lambda size: '[{"a":' * (size // 8) + "}]" * (size // 8),
    "an integer": lambda size: f'{_HEAD}"priority": {"9" * (size - 60)}}}',
    "a fraction": lambda size: f'{_HEAD}"priority": 0.{"9" * (size - 60)}}}',
    "an exponent": lambda size: f'{_HEAD}"priority": 1e{"9" * (size - 60)}}}',
    "fields": lambda size: _numbered(_HEAD, "}", size),
    "one field": lambda size: _filled("{", '"a":0', "}", size),
    "parameters": lambda size: _numbered(_HEAD + '"parameters": {', "}}", size),
    "labels": lambda size: _numbered(_HEAD + '"labels": {', "}}", size),
    "images": lambda size: _filled(_HEAD + '"images": [', '"a"', "]}", size),
    "empty images": lambda size: _filled(_HEAD + '"images": [', "0", "]}", size),
    "colours": lambda size: _filled(_HEAD + '"parameters": {"color_palette": [', "0", "]}}", size),
    "boxes": lambda size: _filled(_HEAD + '"parameters": {"bbox_list": [', "[[]]", "]}}", size),
}


@pytest.mark.parametrize("size", [sidecar.MAX_BYTES, MEGABYTE], ids=["read", "too-large"])
@pytest.mark.parametrize("name", _EXTREMES)
def test_a_large_file_costs_memory_by_its_size(name: str, size: int) -> None:
    data = _EXTREMES[name](size).encode("utf-8")[:size]

    peak = peak_of(lambda: _judge(data))

    assert peak < affordable(len(data))


@pytest.mark.parametrize("depth", [33, 1000, 10_000, 100_000])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [("[", ""), ("[", "]"), ('{"a":', ""), ('{"a":[', "]}"), ('["[{",', "")],
)
def test_any_depth_is_a_problem(opening: str, closing: str, depth: int) -> None:
    text = opening * (depth // (opening.count('"a":[') + 1)) + closing * depth
    for data in (text.encode(), f'{{"model": {text}}}'.encode()):
        assert isinstance(sidecar.read(data), Problem)
        _judge(data)


def test_brackets_inside_a_text_are_no_depth() -> None:
    raw = sidecar.read(b'{"model": "wan2.7-image", "prompt": "' + b"[{" * 2000 + b'"}')

    assert isinstance(raw, dict)
    assert isinstance(sidecar.check(raw), Order)


def _million(name: str) -> dict[str, Json]:
    """A sidecar of a million characters or a hundred thousand entries, already read."""
    base: dict[str, Json] = {"model": "wan2.7-image", "prompt": "a"}
    many: list[Json] = [0] * 100_000
    keys: dict[str, Json] = {f"k{number}": 0 for number in range(100_000)}
    given: dict[str, dict[str, Json]] = {
        "prompt": {"prompt": "x" * 1_000_000},
        "halves": {"prompt": "\ud800" * 1_000_000},
        "size": {"parameters": {"size": "9" * 500_000 + "*" + "9" * 500_000}},
        "integer": {"parameters": {"n": 10**20_000, "seed": -(10**20_000)}},
        "integers": {"priority": 10**20_000, "model": 10**20_000, "images": [10**20_000]},
        "ratio": {
            "parameters": {
                "color_palette": [{"hex": "#000000", "ratio": "9" * 20_000 + ".00%"}] * 3
            }
        },
        "box": {"parameters": {"bbox_list": [[[0, 0, 10**4_000, 10**4_000]]]}},
        "images": {"images": many},
        "boxes": {"parameters": {"bbox_list": many}},
        "colours": {"parameters": {"color_palette": many}},
        "labels": {"labels": keys},
        "parameters": {"parameters": keys},
    }
    return base | given[name]


@pytest.mark.parametrize(
    "name",
    [
        "prompt",
        "halves",
        "size",
        "integer",
        "integers",
        "ratio",
        "box",
        "images",
        "boxes",
        "colours",
        "labels",
        "parameters",
    ],
)
def test_a_value_of_any_size_is_a_problem_or_an_order(name: str) -> None:
    raw = _million(name)

    peak = peak_of(lambda: _hold(sidecar.check(raw)))

    assert peak < affordable(1_000_000)
