"""JSON as strangers write it, for the property tests: as text, because most of the trouble is there.

Everything is kept small and cheap; the large inputs stand as explicit examples in the tests.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

from hypothesis import strategies as st
from pydantic import JsonValue as Json

MEGABYTE = 1024 * 1024

ODD_LITERALS = (
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1",
    "1.0",
    "4",
    "5",
    "0.1",
    "1e999",
    "-1e999",
    "1e-999",
    "2147483648",
    "9" * 30,
    "9" * 400,
    "1." + "9" * 400,
    '""',
    '" "',
    '"\\u0000"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"a\\udfff.png"',
    '"\\ud83d\\ude00"',
    '"\\ufeff"',
    '"\\u2028"',
    '"1"',
    '"true"',
    '"1024*1024"',
    '"' + "9" * 5000 + "*" + "9" * 5000 + '"',
    '"4K"',
    '"https://["',
    '"https://\\ud800/"',
    '"https://a.example/b.png"',
    '"oss://x"',
    '"../x"',
    '"' + "x" * 900 + '"',
    "[]",
    "[[]]",
    "[[[]]]",
    "[[[0, 0, 9, 9]]]",
    "[[[9, 9, 0, 0, 0]]]",
    '[[["\\ud800"]]]',
    "[null]",
    "[1, [2, [3]]]",
    '[{"hex": "#000000", "ratio": "33.33%"}, {"hex": "#GG"}, 7]',
    '[{"hex": null, "ratio": "NaN%"}, {"ratio": []}, {"\\ud800": 1}]',
    "{}",
    '{"\\ud800": "\\ud800"}',
    '{"": {"": {"": ""}}}',
    '{"n": 1, "seed": "x"}',
)
"""JSON values that somebody may have forgotten."""

NO_JSON = (
    "-" + "9" * 5000,
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "+1",
    ".5",
    "0x10",
    '"\n"',
    "[[[0, 0, 1e400, NaN]]]",
    '{"a": 1, "a": 2}',
)
"""What only looks like a JSON value, or what no reader should take for one."""

_Thing = TypeVar("_Thing")


def _same(thing: _Thing) -> _Thing:
    return thing


def weighted(*choices: tuple[int, st.SearchStrategy[_Thing]]) -> st.SearchStrategy[_Thing]:
    """One of these, as often as their weights say; `one_of` drops a strategy that it has already."""
    return st.one_of([choice.map(_same) for weight, choice in choices for _ in range(weight)])


_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=12),
)

values = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
"""Any JSON value, halves of surrogate pairs, NaN and the infinities included."""

literals = weighted(
    (14, st.sampled_from(ODD_LITERALS)),
    (4, _LEAVES.map(json.dumps)),
    (2, values.map(json.dumps)),
    (1, st.sampled_from(NO_JSON)),
)
"""The text of a JSON value; seldom of what only looks like one."""

_SOUP = (*'{}[]:,"\\ \n', "\ufeff", *NO_JSON, *ODD_LITERALS[:30], '"model"', '"output"', "/*", "//")
soup = st.lists(st.sampled_from(_SOUP), max_size=25).map("".join)
"""Tokens of JSON in no order."""


def written(fields: list[tuple[str, str]]) -> str:
    """An object of these names and texts of values, in this order, repeated names included."""
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields) + "}"


def nested(opening: str, depth: int, closing: str = "") -> str:
    """Brackets in brackets, closed or not."""
    return opening * depth + closing * depth


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that Python held at once for `work`, beyond what it held before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before


def affordable(size: int) -> int:
    """The bytes of memory that an input of `size` bytes may cost at most.

    The smallest JSON values are the dearest: Python makes some twenty bytes of one.
    """
    return 24 * size + 8 * MEGABYTE


def is_utf8(text: str) -> bool:
    """Whether `text` can be written to a file, a table or a message."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def dumped(value: Json) -> str:
    """`value` as JSON text, where its characters stand for themselves."""
    return json.dumps(value, ensure_ascii=False, default=str)
