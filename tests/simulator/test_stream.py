"""Interleaved answers of wan2.6-image as server-sent events: their shape, their time, their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from retouch.simulator.faults import Fault

from .conftest import StartApi
from .support import (
    GENERATION,
    MULTIMODAL,
    Api,
    Event,
    Json,
    events_of,
    eventually,
    messages,
    picture_of,
    refusal,
    until_cut,
)

MODEL = "wan2.6-image"
SSE = {"X-DashScope-Sse": "enable"}


def interleave(*, text: str = "red", images: int = 1, **parameters: Any) -> Json:
    given = {"enable_interleave": True, "max_images": 2, "size": "768*768"}
    return messages(MODEL, images=images, text=text, **(given | parameters))


@contextmanager
def opened(api: Api, body: Json, **headers: str) -> Iterator[httpx.Response]:
    with api.http.stream("POST", MULTIMODAL, json=body, headers=SSE | headers) as answer:
        yield answer


def streamed(api: Api, body: Json) -> list[Event]:
    """All events, the last of which must be the end."""
    with opened(api, body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(events_of(answer))


def texts(events: list[Event]) -> list[str]:
    return [event.item["text"] for event in events if "text" in event.item]


def pictures(events: list[Event]) -> list[str]:
    return [event.item["image"] for event in events if "image" in event.item]


@pytest.fixture(autouse=True)
def _faults_end_with_the_test(api: Api) -> Iterator[None]:
    yield
    api.simulator.faults.clear()
    # Work goes on after its client has gone; the next test counts images.
    eventually(lambda: not any(api.simulator.stats["running"].values()))


def billed(api: Api) -> int:
    return int(api.simulator.stats["images"].get(MODEL, 0))


def test_the_events(api: Api) -> None:
    before = billed(api)
    events = streamed(api, interleave(stream=True))
    assert [event.id for event in events] == [str(n) for n in range(1, len(events) + 1)]
    assert {(event.kind, event.status) for event in events} == {("result", 200)}
    for event in events:
        assert set(event.data) == {"output", "usage", "request_id"}
        assert set(event.data["output"]) == {"choices", "finished"}
        assert event.item["type"] in event.item
    assert [event.reason for event in events] == ["null"] * (len(events) - 1) + ["stop"]
    finished = [event.data["output"]["finished"] for event in events]
    assert finished == [False] * (len(events) - 1) + [True]
    # Text comes in pieces, an image whole, the last of them with the end.
    assert [event.item["type"] for event in events] == (["text"] * 3 + ["image"]) * 2
    assert "".join(texts(events)) == "Simulated step 1. Simulated step 2. "
    for url in pictures(events):
        assert picture_of(httpx.get(url)).size == (768, 768)
    (seen,) = [one for one in api.simulator.requests if one["route"] == "sync"][-1:]
    assert {event.data["request_id"] for event in events} == {seen["request_id"]}
    assert (seen["status"], seen["code"]) == (200, None)
    assert billed(api) == before + 2


def test_usage_grows(api: Api) -> None:
    usages = [event.data["usage"] for event in streamed(api, interleave(text="twelve signs"))]
    assert [usage["image_count"] for usage in usages] == [0, 0, 0, 1, 1, 1, 1, 2]
    assert [usage["size"] for usage in usages] == ["0*0"] * 3 + ["768*768"] * 5
    assert {usage["input_tokens"] for usage in usages} == {12}
    produced = [usage["output_tokens"] for usage in usages]
    assert produced == sorted(produced)
    assert 0 < produced[0] < produced[-1]
    assert all(one["total_tokens"] == 12 + one["output_tokens"] for one in usages)


def test_a_stream_tells_what_a_task_tells_at_once(api: Api) -> None:
    task = api.finished(api.create(interleave(seed=1), GENERATION))
    events = streamed(api, interleave(seed=1))
    (choice,) = task["output"]["choices"]
    told = [item["text"] for item in choice["message"]["content"] if "text" in item]
    assert "".join(texts(events)) == "".join(told)
    assert task["usage"] == events[-1].data["usage"]
    drawn = [item["image"] for item in choice["message"]["content"] if "image" in item]
    for one, other in zip(drawn, pictures(events), strict=True):
        assert httpx.get(one).content == httpx.get(other).content


def test_without_an_image(api: Api) -> None:
    events = streamed(api, interleave(images=0, max_images=1))
    assert [event.item["type"] for event in events] == ["text"] * 3 + ["image"]


@pytest.mark.parametrize("name", ["X-DashScope-Sse", "X-DashScope-SSE", "x-dashscope-sse"])
@pytest.mark.parametrize("parameters", [{}, {"stream": True}])
def test_the_header_alone_is_enough(api: Api, name: str, parameters: Json) -> None:
    body = interleave(max_images=1, **parameters)
    answer = api.http.post(MULTIMODAL, json=body, headers={name: "enable"})
    assert [event.reason for event in events_of(answer)][-1] == "stop"


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [({}, {}), ({}, {"stream": True}), ({"X-DashScope-Sse": "no"}, {}), (SSE, {"stream": False})],
)
def test_a_synchronous_call_must_stream(api: Api, headers: Json, parameters: Json) -> None:
    status, code, message = refusal(api.post(MULTIMODAL, interleave(**parameters), **headers))
    assert (status, code) == (400, "InvalidParameter")
    assert "streaming or asynchronous" in message


def test_the_header_means_nothing_elsewhere(api: Api) -> None:
    edit = messages(MODEL, n=1, size="768*768")
    assert api.post(MULTIMODAL, edit, **SSE).json()["output"]["finished"] is True
    created = api.post(GENERATION, interleave(text="breakdown", stream=True), **SSE)
    assert created.json()["output"]["task_status"] == "PENDING"
    refused = api.post(MULTIMODAL, messages(MODEL, stream=True), **SSE)
    assert "stream is not supported" in refusal(refused)[2]


def passing(api: Api, holds: Callable[[], bool]) -> None:
    """Let simulated time pass until something holds, but not as much as would end the call."""
    limit = api.simulator.clock.now() + 150

    def holds_by_now() -> bool:
        if not holds() and api.simulator.clock.now() < limit:
            api.simulator.clock.advance(1)
        return holds()

    eventually(holds_by_now)


def test_images_come_as_they_are_drawn(start: StartApi) -> None:
    """Two images in 60 to 127 s, here passed on the simulator's clock."""
    api = start(seed=1)
    with opened(api, interleave()) as answer:
        events = events_of(answer)
        assert next(events).item == {"type": "text", "text": "Simulated "}
        assert api.simulator.stats["running"] == {MODEL: 1}
        assert billed(api) == 0
        passing(api, lambda: billed(api) == 1)
        assert [next(events).item["type"] for _ in range(3)] == ["text", "text", "image"]
        assert next(events).item == {"type": "text", "text": "Simulated "}
        assert billed(api) == 1
        passing(api, lambda: billed(api) == 2)
        assert [event.reason for event in events] == ["null", "null", "stop"]
    eventually(lambda: api.simulator.stats["running"] == {MODEL: 0})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (interleave(text="forbidden"), "DataInspectionFailed"),
        (interleave(text="counterfeit"), "IPInfringementSuspect"),
        (interleave(n=2), "InvalidParameter"),
        (interleave(images=2), "InvalidParameter"),
    ],
)
def test_what_is_wrong_from_the_start_is_a_plain_refusal(api: Api, body: Json, code: str) -> None:
    with opened(api, body) as answer:
        answer.read()
        assert answer.headers["content-type"] == "application/json"
        assert refusal(answer)[:2] == (400, code)


def test_rates_hold_for_streams_too(start: StartApi) -> None:
    api = start(time_scale=0)

    def sixth_is_refused() -> bool:
        api.simulator.clock.advance(1)
        body = interleave(text="breakdown")
        answers = [api.post(MULTIMODAL, body, **SSE) for _ in range(6)]
        return [answer.status_code for answer in answers] == [200] * 5 + [429]

    # A machine that takes more than a second for the six gets another try.
    eventually(sixth_is_refused)


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ("unsafe-output", 400, "DataInspectionFailed"),
        ("breakdown", 500, "InternalError"),
        ("one-unsafe", 400, "DataInspectionFailed"),
        ("one-timeout", 500, "InternalError.Timeout"),
    ],
)
def test_an_error_after_the_beginning_is_an_event(
    api: Api, word: str, status: int, code: str
) -> None:
    before, refused = billed(api), api.simulator.stats["refused"].get(code, 0)
    *told, last = streamed(api, interleave(text=word, max_images=1))
    assert texts(told) == ["Simulated ", "step "]
    assert (last.kind, last.status, last.id) == ("error", status, str(len(told) + 1))
    assert set(last.data) == {"code", "message", "request_id"}
    assert last.data["code"] == code
    assert last.data["request_id"] == told[0].data["request_id"]
    seen = api.simulator.requests[-1]
    assert (seen["status"], seen["code"]) == (200, code)
    assert api.simulator.stats["refused"][code] == refused + 1
    assert billed(api) == before


@pytest.mark.parametrize("word", ["one-unsafe", "one-timeout"])
def test_one_image_of_several_is_missing(api: Api, word: str) -> None:
    before = billed(api)
    events = streamed(api, interleave(text=word, max_images=3))
    assert len(pictures(events)) == 2
    assert events[-1].reason == "stop"
    assert events[-1].item == {"type": "text", "text": "3. "}
    assert events[-1].data["usage"]["image_count"] == 2
    assert billed(api) == before + 2
    task = api.finished(api.create(interleave(text=word, max_images=3), GENERATION))
    (choice,) = task["output"]["choices"]
    kinds = [item["type"] for item in choice["message"]["content"]]
    assert kinds == ["text", "image", "text", "image", "text"]
    assert task["usage"] == events[-1].data["usage"]


def test_a_stream_is_cut_after_300_seconds(start: StartApi) -> None:
    api = start(seed=1, time_scale=1000)
    with opened(api, interleave()) as answer:
        events = events_of(answer)
        assert next(events).reason == "null"
        api.simulator.clock.advance(300)
        last = next(events)
        assert (last.kind, last.status, last.data["code"]) == ("error", 500, "RequestTimeOut")
        assert list(events) == []


def test_waiting_too_long_for_a_place_is_a_plain_refusal(start: StartApi) -> None:
    api = start(seed=1, time_scale=1000)
    for _ in range(5):
        api.create(messages(MODEL, size="768*768"), GENERATION)
    api.simulator.clock.advance(60)
    eventually(lambda: api.simulator.stats["running"] == {MODEL: 5})
    with ThreadPoolExecutor(1) as thread:
        calling = thread.submit(api.post, MULTIMODAL, interleave(), **SSE)
        eventually(lambda: api.simulator.stats["creates"] == {MODEL: 6})

        def given_up() -> bool:
            api.simulator.clock.advance(300)
            return calling.done()

        eventually(given_up)
        assert refusal(calling.result())[:2] == (500, "RequestTimeOut")
    assert billed(api) == 0


# --- faults ------------------------------------------------------------------------------------


def inject(api: Api, **fault: Any) -> None:
    api.simulator.faults.add(Fault(route="sync", model=MODEL, **fault))


@pytest.mark.parametrize("count", [0, 1, 4, 8])
def test_a_connection_lost_after_some_events(api: Api, count: int) -> None:
    """All images are made and billed, whatever the client has got of them."""
    inject(api, effect="truncate", keep_events=count)
    before = billed(api)
    with opened(api, interleave()) as answer:
        received = until_cut(answer)
    assert received.count(b"data:") == received.count(b"\n\n") == count
    assert received == b"" or received.endswith(b"}\n\n")
    eventually(lambda: billed(api) == before + 2)
    assert streamed(api, interleave())[-1].reason == "stop"


def test_a_connection_lost_within_an_event(api: Api) -> None:
    inject(api, effect="truncate", keep_bytes=500)
    with opened(api, interleave()) as answer:
        received = until_cut(answer)
    assert len(received) == 500
    assert received.startswith(b"id:1\nevent:result\n:HTTP_STATUS/200\ndata:{")
    assert not received.endswith(b"\n\n")


def test_a_cut_stream_is_passed_on_as_it_comes(start: StartApi) -> None:
    api = start(seed=1)
    inject(api, effect="truncate", keep_events=3)
    with opened(api, interleave()) as answer:
        events = events_of(answer)
        assert next(events).item["text"] == "Simulated "
        assert billed(api) == 0
        passing(api, lambda: billed(api) == 1)
        assert [next(events).item["text"] for _ in range(2)] == ["step ", "1. "]
        with pytest.raises(httpx.RemoteProtocolError):
            next(events)
    # The work goes on without a listener.
    assert api.simulator.stats["running"] == {MODEL: 1}
    passing(api, lambda: billed(api) == 2)


def test_a_stream_without_an_answer(api: Api) -> None:
    inject(api, effect="cut_after")
    before = billed(api)
    with pytest.raises(httpx.TransportError), opened(api, interleave()):
        pass
    assert billed(api) == before + 2
    inject(api, effect="cut_before")
    with pytest.raises(httpx.TransportError), opened(api, interleave()):
        pass
    assert billed(api) == before + 2


def test_a_slow_stream(api: Api) -> None:
    inject(api, effect="drip", bytes_per_second=50_000.0)
    assert streamed(api, interleave())[-1].reason == "stop"
    inject(api, effect="drip", bytes_per_second=10.0)
    with opened(api, interleave()) as answer:
        assert next(answer.iter_raw()) == b"i"


def test_a_late_stream(api: Api) -> None:
    inject(api, effect="none", delay_before=0.1, delay_after=0.1)
    assert streamed(api, interleave())[-1].reason == "stop"
    seen = [one for one in api.simulator.requests if one["route"] == "sync"][-1]
    assert seen["fault"] == "none"


def test_another_answer_instead_of_a_stream(api: Api) -> None:
    before = billed(api)
    broken = {"code": "InternalError", "message": "x", "request_id": "r"}
    inject(api, effect="replace_body", status=502, body="<html>bad</html>")
    inject(api, effect="answer", status=500, body=broken)
    with opened(api, interleave()) as answer:
        assert (answer.status_code, answer.read()) == (502, b"<html>bad</html>")
    assert billed(api) == before + 2
    with opened(api, interleave()) as answer:
        answer.read()
        assert refusal(answer) == (500, "InternalError", "x")
    assert billed(api) == before + 2


def test_a_stream_of_ones_own_invention(api: Api) -> None:
    words = "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{}\n\n"
    inject(api, effect="answer", headers={"Content-Type": "text/event-stream"}, body=words)
    assert [event.data for event in streamed(api, interleave())] == [{}]


def test_every_event_can_be_changed(api: Api) -> None:
    """As in the other documented sample, where `finished` is true from the start."""
    inject(api, effect="merge", body={"output": {"finished": True}, "usage": None})
    events = streamed(api, interleave())
    assert {event.data["output"]["finished"] for event in events} == {True}
    assert all("usage" not in event.data for event in events)
    assert [event.reason for event in events][-2:] == ["null", "stop"]
    assert len(pictures(events)) == 2
