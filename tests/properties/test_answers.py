"""Any answer of the provider is read; none is an exception half way through a paid job.

What is not the shape that it should be reads as absent. A task has ended in the four states that the
contract calls terminal and in no other, and what is billed is a count.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue as Json

from retouch.provider import answers
from tests.properties.strategies import MEGABYTE, dumped, is_utf8, literals, soup, values, weighted

_TERMINAL = {"SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"}

# --- the contract's own answers (section 4, 2.1, 2.5, 2.6), and some that are nearly those ---------

_URL = "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/a.png?Expires=1"


def _choice(*content: dict[str, Json]) -> dict[str, Json]:
    return {"finish_reason": "stop", "message": {"role": "assistant", "content": [*content]}}


def _task(status: str, **more: Json) -> dict[str, Json]:
    output: dict[str, Json] = {
        "task_id": "86ec",
        "task_status": status,
        "submit_time": "2026-02-21 17:56:31.786",
        "scheduled_time": "2026-02-21 17:56:31.821",
        "end_time": "2026-02-21 17:56:42.530",
    }
    return output | more


_ENVELOPES: tuple[dict[str, Json], ...] = (
    {"output": {"task_status": "PENDING", "task_id": "0b1e"}, "request_id": "7d0c"},
    {"output": _task("RUNNING"), "request_id": "7d0c"},
    {"output": _task("SUSPENDED"), "request_id": "7d0c"},
    {"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "fb53"},
    {"request_id": "e5d7", "output": {"task_id": "86ec", "task_status": "UNKNOWN"}},
    {"request_id": "e5d7", "output": _task("CANCELED")},
    {
        "request_id": "eeef",
        "output": _task(
            "SUCCEEDED",
            results=[{"url": _URL, "orig_prompt": "a door", "actual_prompt": "a red door"}],
            task_metrics={"TOTAL": 1, "SUCCEEDED": 1, "FAILED": 0},
        ),
        "usage": {"image_count": 1},
    },
    {
        "request_id": "85ea",
        "output": _task(
            "SUCCEEDED",
            results=[
                {"url": _URL},
                {"code": "InternalError.Timeout", "message": "An internal timeout error"},
            ],
            task_metrics={"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 1},
        ),
        "usage": {"image_count": 1},
    },
    {
        "request_id": "e5d7",
        "output": _task(
            "FAILED",
            code="InvalidParameter",
            message="wrong",
            task_metrics={"TOTAL": 4, "SUCCEEDED": 0, "FAILED": 4},
        ),
    },
    {"request_id": "a4d7", "code": "InvalidParameter", "message": "must be 1"},
    {
        "request_id": "bf37",
        "output": {"choices": [_choice({"image": _URL}, {"image": _URL})]},
        "usage": {"image_count": 2, "width": 1024, "height": 1536},
    },
    {
        "request_id": "43d9",
        "output": _task(
            "SUCCEEDED",
            finished=True,
            choices=[
                _choice({"type": "image", "image": _URL}),
                _choice({"type": "image", "image": _URL}),
            ],
        ),
        "usage": {"size": "1376*768", "image_count": 2, "input_tokens": 0, "total_tokens": 0},
    },
    {
        "request_id": "997a",
        "output": _task(
            "SUCCEEDED",
            finished=True,
            choices=[
                _choice(
                    {"type": "text", "text": "First"},
                    {"type": "image", "image": _URL},
                    {"type": "text", "text": "Then"},
                    {"type": "image", "image": _URL},
                )
            ],
        ),
        "usage": {"size": "1280*1280", "image_count": 2, "output_tokens": 477},
    },
    {"request_id": "997a"},
    {"total": 1, "data": [{"task_id": "3c77", "status": "SUCCEEDED"}], "request_id": "f675"},
)

_Path = tuple[str | int, ...]


def _paths(value: Json, here: _Path = ()) -> Iterator[_Path]:
    """The way to everything inside a value."""
    inside: list[tuple[str | int, Json]] = []
    if isinstance(value, dict):
        inside = [*value.items()]
    elif isinstance(value, list):
        inside = [*enumerate(value)]
    for key, inner in inside:
        yield (*here, key)
        yield from _paths(inner, (*here, key))


_PLACES = tuple(
    (envelope, path) for envelope in range(len(_ENVELOPES)) for path in _paths(_ENVELOPES[envelope])
)
_REMOVED = ""


def _replaced(value: Json, path: _Path, marker: str | None) -> Json:
    """`value` with `marker` at the end of `path`, or nothing there; as it is without the place."""
    if not path:
        return marker
    first, rest = path[0], path[1:]
    if isinstance(value, dict) and isinstance(first, str) and first in value:
        if not rest and marker is None:
            return {key: inner for key, inner in value.items() if key != first}
        return value | {first: _replaced(value[first], rest, marker)}
    if isinstance(value, list) and isinstance(first, int) and first < len(value):
        if not rest and marker is None:
            return [*value[:first], *value[first + 1 :]]
        return [*value[:first], _replaced(value[first], rest, marker), *value[first + 1 :]]
    return value


def _changed(place: tuple[int, _Path], more: list[tuple[int, _Path]], texts: list[str]) -> str:
    """An envelope as text, with other values, or none, in some of its places."""
    changed: Json = _ENVELOPES[place[0]]
    paths = [place[1], *(path for envelope, path in more if envelope == place[0])]
    for number, (path, text) in enumerate(zip(paths, texts, strict=False)):
        changed = _replaced(changed, path, None if text == _REMOVED else f"@{number}@")
    body = json.dumps(changed)
    for number, text in enumerate(texts):
        body = body.replace(f'"@{number}@"', text)
    return body


_STATES = ("SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN", "SUSPENDED", "succeeded", "FAILED ", "")
_TIMES = (
    "0001-01-01 00:00:00.000",
    "9999-12-31 23:59:59.999999",
    "2026-02-30 00:00:00.000",
    "２０２６-02-21 17:56:31",
    "2026-02-21 17:56:60",
)
_texts = st.lists(
    weighted(
        (4, literals),
        (1, st.just(_REMOVED)),
        (1, st.sampled_from((*_STATES, *_TIMES)).map(json.dumps)),
    ),
    min_size=4,
    max_size=4,
)
_near_misses = st.builds(
    _changed,
    st.sampled_from(_PLACES),
    st.lists(st.sampled_from(_PLACES), max_size=12),
    _texts,
)
_bodies = weighted(
    (12, _near_misses),
    (1, values.map(json.dumps)),
    (1, soup),
    (1, st.text(st.characters(), max_size=40)),
)


# --- the promise ---------------------------------------------------------------------------------


def _judge(text: str) -> list[answers.TaskAnswer]:
    body = answers.parse(text)
    if body is None:
        return []
    task = answers.created_task(body)
    assert task is None or task
    failure = answers.failure_in(body)
    assert failure is None or failure.code
    read = [
        answers.task_answer(body, synchronous=synchronous, refused=refused)
        for synchronous, refused in itertools.product((False, True), repeat=2)
    ]
    for answer in read:
        assert type(answer.status) is str
        assert answer.terminal == (answer.status in _TERMINAL)
        assert type(answer.billed_images) is int
        assert answer.billed_images >= 0
        assert all(answer.images)
        assert all(answer.texts)
        assert all(failed.code for failed in answer.image_failures)
        assert answer.usage is None or isinstance(answer.usage, dict)
        assert answer.failure == failure
        if not answer.usage:
            assert answer.billed_images == len(answer.images)
    output = body.get("output")
    stated = output.get("task_status") if isinstance(output, dict) else None
    if isinstance(stated, str) and stated.isascii() and 0 < len(stated) < 100:
        assert {answer.status for answer in read} == {stated}
    return read


_settings = settings(
    max_examples=5_000,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@_settings
@example("")
@example("null")
@example("{}")
@example("\ufeff{}")
@example("<html>502 Bad Gateway</html>")
@example('{"output": null, "usage": null, "code": null}')
@example('{"output": {"task_status": ["SUCCEEDED"]}}')
@example('{"output": {"choices": [[[]], null, {"message": {"content": {"image": 1}}}]}}')
@example('{"output": {"results": {"url": "x"}}, "usage": [1]}')
@example('{"usage": {"image_count": -1}}')
@example('{"usage": {"image_count": true}}')
@example('{"usage": {"image_count": 1e999}}')
@example('{"usage": {"image_count": NaN}}')
@example('{"usage": {"image_count": 2.0}}')
@example('{"usage": {"image_count": ' + "9" * 5000 + "}}")
@example('{"code": "\\ud800", "message": "\\ud800", "request_id": "\\ud800"}')
@example('{"output": {"results": [{"code": "\\ud800", "message": "\\udfff"}]}}')
@given(text=_bodies)
def test_any_answer_is_read(text: str) -> None:
    for answer in _judge(text):
        assert answer.terminal in (True, False)


@_settings
@example('{"output": {"choices": [{"message": {"content": [{"text": "a \\ud83d"}]}}]}}')
@example('{"output": {"task_status": "\\ud800", "task_id": "\\ud800"}}')
@example('{"usage": {"size": "\\ud800"}}')
@given(text=_bodies)
def test_what_an_answer_gives_can_be_written_down(text: str) -> None:
    """Texts go to the outbox and the rest into the job's record, all of it as UTF-8.

    Not so the images' URLs: they are fetched as they are, or refused there, and never written.
    """
    for answer in _judge(text):
        parts: dict[str, Json] = {
            "status": answer.status,
            "request_id": answer.request_id,
            "texts": [*answer.texts],
            "reading": [*answer.reading],
            "rewritten": [*answer.rewritten_prompts],
            "usage": answer.usage,
            "failures": [failure.model_dump() for failure in answer.image_failures],
            "failure": answer.failure.model_dump() if answer.failure else None,
        }
        assert is_utf8(dumped(parts))


# --- extremes ------------------------------------------------------------------------------------

_SIZE = MEGABYTE
_EXTREMES = {
    "spaces": " " * _SIZE,
    "no JSON": "x" * _SIZE,
    "HTML": "<p>" * (_SIZE // 3),
    "a text": '"' + "x" * _SIZE + '"',
    "lists, open": "[" * _SIZE,
    "lists": "[" * (_SIZE // 2) + "]" * (_SIZE // 2),
    "objects, open": '{"output":' * (_SIZE // 10),
    "objects": '{"output":' * 10_000 + "{}" + "}" * 10_000,
    "a message": '{"code":"a","message":"' + "x" * _SIZE + '"}',
    "a state": '{"output":{"task_status":"' + "x" * _SIZE + '"}}',
    "a count": '{"usage":{"image_count":' + "9" * _SIZE + "}}",
    "results": '{"output":{"results":[' + ",".join(['{"url":"x"}'] * (_SIZE // 12)) + "]}}",
    "empty results": '{"output":{"results":[' + ",".join(["0"] * (_SIZE // 2)) + "]}}",
    "choices": '{"output":{"choices":[' + ",".join(["{}"] * (_SIZE // 3)) + "]}}",
    "content": '{"output":{"choices":[{"message":{"content":['
    + ",".join(['{"image":"x"}'] * (_SIZE // 14))
    + "]}}]}}",
    "fields": "{" + ",".join(f'"k{number}":0' for number in range(100_000)) + "}",
}


@pytest.mark.parametrize("name", _EXTREMES)
def test_a_large_answer_is_read(name: str) -> None:
    for answer in _judge(_EXTREMES[name]):
        assert answer.billed_images == len(answer.images)


@pytest.mark.parametrize("depth", [100, 900, 1100, 10_000, 100_000])
@pytest.mark.parametrize(
    "head",
    [
        "",
        '{"output":',
        '{"usage":',
        '{"code":',
        '{"output":{"choices":',
        '{"output":{"choices":[{"message":{"content":',
        '{"output":{"results":',
    ],
)
def test_an_answer_of_any_depth_is_read(head: str, depth: int) -> None:
    closing = "".join("}" if char == "{" else "]" for char in reversed(head) if char in "[{")
    for text in (
        head + "[" * depth + "]" * depth + closing,
        head + '{"a":' * depth + "1" + "}" * depth + closing,
        head + "[" * depth,
    ):
        for answer in _judge(text):
            assert not answer.images
            assert not answer.texts
