"""Server-sent events: every way to write and to split them, and the one answer they amount to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retouch.jobs import Failure
from retouch.provider.answers import task_answer
from retouch.provider.streams import Event, EventParser, Stream
from retouch.registry import Json

ONE = "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/1.png?Expires=1"
TWO = "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/2.png?Expires=1"


def parsed(*chunks: bytes) -> list[Event]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()


def data(*items: dict[str, Any], reason: str = "null", **more: object) -> str:
    choice = {"finish_reason": reason, "message": {"role": "assistant", "content": items}}
    return json.dumps({"output": {"choices": [choice]}, **more}, ensure_ascii=False)


def merged(*chunks: bytes) -> Stream:
    stream = Stream()
    for chunk in chunks:
        stream.feed(chunk)
    stream.finish()
    return stream


def content(stream: Stream) -> list[Any]:
    body: Any = stream.answer()
    (choice,) = body["output"]["choices"]
    found: list[Any] = choice["message"]["content"]
    return found


# --- events ----------------------------------------------------------------------------------------

SAMPLE = (
    "id:1\nevent:result\n:HTTP_STATUS/200\ndata:" + data({"text": "Erde – 土"}) + "\n\n"
    "id:2\nevent:result\n:HTTP_STATUS/200\ndata:" + data({"image": ONE}, reason="stop") + "\n\n"
)
EVENTS = [
    Event("result", 200, (data({"text": "Erde – 土"}),)),
    Event("result", 200, (data({"image": ONE}, reason="stop"),)),
]


def test_the_contracts_events_are_read() -> None:
    assert parsed(SAMPLE.encode()) == EVENTS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_may_end_in_three_ways_and_be_split_anywhere(end: str, size: int) -> None:
    raw = SAMPLE.replace("\n", end).encode()
    assert parsed(*[raw[i : i + size] for i in range(0, len(raw), size)]) == EVENTS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data:a\n\n", [Event(None, None, ("a",))]),
        ("data: a\n\n", [Event(None, None, ("a",))]),
        ("data:  a\n\n", [Event(None, None, (" a",))]),
        ("data\n\n", [Event(None, None, ("",))]),
        ("\ufeffdata:a\n\n", [Event(None, None, ("a",))]),
        ("data:a\ndata:b\n\n", [Event(None, None, ("a", "b"))]),
        ("event:x\n\ndata:a\n\n", [Event(None, None, ("a",))]),
        ("event: error \ndata:a\n\n", [Event("error", None, ("a",))]),
        (": HTTP_STATUS/429\ndata:a\n\n", [Event(None, 429, ("a",))]),
        (":HTTP_STATUS/429\n\ndata:a\n\ndata:b\n\n",
         [Event(None, 429, ("a",)), Event(None, None, ("b",))]),
        ("status:400\ndata:a\n\n", [Event(None, 400, ("a",))]),
        (":HTTP_STATUS/x\ndata:a\n\n", [Event(None, None, ("a",))]),
        (":heartbeat\n\n:\n\ndata:a\n\n", [Event(None, None, ("a",))]),
        ("retry:3\nfoo:bar\nfoo\ndata:a\n\n", [Event(None, None, ("a",))]),
        ("\n\n\n", []),
        ("", []),
        ("id:1\nevent:result", []),
        ("data:a", [Event(None, None, ("a",))]),
        ("data:a\n", [Event(None, None, ("a",))]),
        ("data:a\n\ndata:b", [Event(None, None, ("a",)), Event(None, None, ("b",))]),
    ],
)  # fmt: skip
def test_events_are_read_whatever_else_is_there(text: str, expected: list[Event]) -> None:
    assert parsed(text.encode()) == expected
    assert parsed(*[bytes([byte]) for byte in text.encode()]) == expected


def test_what_is_no_utf8_is_mended() -> None:
    assert parsed(b"data:\xff\n\n") == [Event(None, None, ("\ufffd",))]


def test_empty_chunks_change_nothing() -> None:
    assert parsed(b"data:a\r", b"", b"\n", b"", b"\r\n") == [Event(None, None, ("a",))]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (('{"a":1}',), [{"a": 1}]),
        (('{"a":', "1}"), [{"a": 1}]),
        (('{"a":1}', '{"b":2}'), [{"a": 1}, {"b": 2}]),
        (('{"a":1}', "[DONE]"), [{"a": 1}]),
        (("[DONE]",), []),
        (('{"a":NaN}',), []),
        (("[]",), []),
        (("",), []),
    ],
)
def test_only_objects_are_taken_from_the_data(
    lines: tuple[str, ...], expected: list[dict[str, Json]]
) -> None:
    assert Event(None, None, lines).objects() == expected


# --- the answer ------------------------------------------------------------------------------------


def sse(*bodies: str) -> bytes:
    return "".join(f"event:result\n:HTTP_STATUS/200\ndata:{body}\n\n" for body in bodies).encode()


def test_texts_are_joined_and_images_stay_whole_and_in_order() -> None:
    stream = merged(
        sse(
            data({"type": "text", "text": "a"}),
            data({"type": "text", "text": "b"}, {"type": "text", "text": "c"}),
            data({"type": "image", "image": ONE}),
            data({"type": "image", "image": TWO}),
            data({"type": "text", "text": "d"}),
            data({"type": "text", "text": ""}, reason="stop"),
        )
    )
    assert stream.over
    assert stream.images == 2
    assert content(stream) == [
        {"type": "text", "text": "abc"},
        {"type": "image", "image": ONE},
        {"type": "image", "image": TWO},
        {"type": "text", "text": "d"},
    ]


def test_the_last_events_content_counts_and_nothing_after_it() -> None:
    stream = merged(sse(data({"image": ONE}, reason="stop"), data({"image": TWO})))
    assert stream.over
    assert content(stream) == [{"type": "image", "image": ONE}]


def test_an_image_counts_whatever_its_type_and_its_choice() -> None:
    choices = [
        {"message": {"content": [{"type": "text", "image": ONE}]}},
        {"message": {"content": [{"image": TWO}]}},
    ]
    stream = merged(sse(json.dumps({"output": {"choices": choices}})))
    assert [item["image"] for item in content(stream)] == [ONE, TWO]


def test_finished_is_not_believed() -> None:
    stream = merged(sse('{"output":{"finished":true,"choices":[]}}', data({"image": ONE})))
    assert not stream.over
    assert stream.images == 1


@pytest.mark.parametrize(
    ("usages", "kept"),
    [
        ([{"image_count": 0}, {"image_count": 1}], {"image_count": 1}),
        ([{"image_count": 3, "size": "1*1"}, None], {"image_count": 3, "size": "1*1"}),
        ([{"image_count": 3}, {}], {"image_count": 3}),
        ([{"image_count": 0}], {"image_count": 1}),
        ([{"size": "1*1"}], {"size": "1*1"}),
        ([{"image_count": True}], {"image_count": True}),
        ([None], None),
    ],
)
def test_the_last_usage_is_kept_and_counts_no_fewer_images_than_came(
    usages: list[dict[str, object] | None], kept: dict[str, object] | None
) -> None:
    first, *rest = usages
    stream = merged(
        sse(data({"image": ONE}, usage=first), *[data({"text": "a"}, usage=u) for u in rest])
    )
    assert stream.answer().get("usage") == kept


def test_the_request_id_is_kept_though_the_last_event_lacks_it() -> None:
    stream = merged(sse(data({"image": ONE}, request_id="r"), data({"text": "a"}, reason="stop")))
    assert stream.answer()["request_id"] == "r"


def test_the_merged_answer_is_read_like_any_other() -> None:
    usage = {"image_count": 1, "size": "1280*1280"}
    stream = merged(sse(data({"text": "a"}, {"image": ONE}, usage=usage, request_id="r")))
    answer = task_answer(stream.answer(), synchronous=True)
    assert (answer.status, answer.request_id) == ("SUCCEEDED", "r")
    assert (answer.texts, answer.images) == (("a",), (ONE,))
    assert (answer.billed_images, answer.output_size) == (1, (1280, 1280))
    assert answer.failure is None


def test_why_it_broke_off_stands_at_the_top() -> None:
    stream = merged(sse(data({"image": ONE})))
    body = stream.answer(Failure(code="StreamInterrupted", message="ReadError"))
    assert (body["code"], body["message"]) == ("StreamInterrupted", "ReadError")
    answer = task_answer(body, synchronous=True)
    assert answer.status == "SUCCEEDED"
    assert answer.failure == Failure(code="StreamInterrupted", message="ReadError")


ERROR = '{"code":"Throttling","message":"m","request_id":"r"}'
THROTTLED = Failure(code="Throttling", message="m", request_id="r")


@pytest.mark.parametrize(
    ("raw", "failure", "status"),
    [
        (f"event:error\n:HTTP_STATUS/429\ndata:{ERROR}\n\n", THROTTLED, 429),
        (f":HTTP_STATUS/429\nevent:error\ndata:{ERROR}\n\n", THROTTLED, 429),
        (f"event:error\ndata:{ERROR}\n\n", THROTTLED, None),
        (f"data:{ERROR}\n\n", THROTTLED, None),
        (ERROR, THROTTLED, None),
        (f" \r\n\ufeff{ERROR}", None, None),
        (f"\ufeff{ERROR}", THROTTLED, None),
        ('event:error\ndata:{"message":"m"}\n\n',
         Failure(code="StreamError", message="an error without a code"), None),
        ("event:error\ndata:oops\n\n", None, None),
        ("event:error\n\n", None, None),
        ("<html>", None, None),
        ("", None, None),
    ],
)  # fmt: skip
def test_errors(raw: str, failure: Failure | None, status: int | None) -> None:
    stream = merged(raw.encode())
    assert (stream.failure, stream.failure_status) == (failure, status)
    assert stream.empty
    assert stream.over is (failure is not None)


def test_an_error_ends_the_stream_and_what_came_with_it_counts() -> None:
    stream = merged(sse(data({"image": ONE}, code="X", message="m"), data({"image": TWO})))
    assert stream.over
    assert stream.failure == Failure(code="X", message="m")
    assert content(stream) == [{"type": "image", "image": ONE}]


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_a_plain_body_is_the_only_event(size: int) -> None:
    raw = ("\n " + json.dumps(json.loads(data({"text": "土"}, {"image": ONE})), indent=1)).encode()
    stream = merged(*[raw[i : i + size] for i in range(0, len(raw), size)])
    assert content(stream) == [{"type": "text", "text": "土"}, {"type": "image", "image": ONE}]
    assert stream.size == len(raw)


def test_what_a_plain_body_lacks_is_not_made_up() -> None:
    assert merged(data({"image": ONE}).encode()[:-3]).empty


def test_more_than_any_model_makes_is_cut() -> None:
    many = [{"image": f"https://a/{n}"} for n in range(200)]
    assert merged(sse(data(*many))).images == 24
    long = merged(sse(*[data({"text": "x" * 15_000})] * 3))
    assert len(content(long)[0]["text"]) == 20_000
    mixed = [{"text": "t"}, {"image": "https://a/"}] * 200
    assert len(content(merged(sse(data(*mixed))))) <= 128


def test_what_utf8_cannot_hold_is_mended() -> None:
    raw = data({"text": "a"}, {"image": "https://a/b"}).replace("a", "a\\ud800")
    body = merged(sse(raw.replace("messa\\ud800ge", "message"))).answer()
    json.dumps(body, ensure_ascii=False).encode("utf-8")


@settings(max_examples=300, deadline=None)
@example(raw=[b"\xef\xbb\xbf", data({"image": ONE}).encode()], size=1)
@example(raw=[b"\xef\xbb\xbf", b" ", data({"image": ONE}).encode()], size=2)
@given(
    raw=st.lists(
        st.sampled_from(
            [b"data:", b"event:error", b"event:result", b":HTTP_STATUS/400", b"\n", b"\r\n", b"\r",
             b"\n\n", b"{", b"}", b'{"code":"X"}', b"\xff", b"\xef\xbb\xbf", b" ",
             data({"text": "a"}).encode(), data({"image": ONE}, reason="stop").encode()]
        ) | st.binary(max_size=5),
        max_size=30,
    ),
    size=st.integers(1, 20),
)  # fmt: skip
def test_any_bytes_in_any_pieces_amount_to_the_same_answer(raw: list[bytes], size: int) -> None:
    whole = b"".join(raw)
    one = merged(whole)
    many = merged(*[whole[i : i + size] for i in range(0, len(whole), size)])
    assert one.answer() == many.answer()
    assert (one.failure, one.images) == (many.failure, many.images)
    json.dumps(one.answer(), ensure_ascii=False).encode("utf-8")
    assert task_answer(one.answer(), synchronous=True).status in ("SUCCEEDED", "FAILED")
