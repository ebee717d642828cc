"""The provider's client over a transport in memory: what is sent, where, how often, and what an
outcome is worth.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator

import httpx
import pytest

from retouch.errors import (
    NOT_REACHED,
    NOT_SENT,
    AccountRefused,
    InputNotFetched,
    OperatorError,
    OutcomeUnknown,
    ProviderRefused,
    ResultHostUnknown,
    SettingsError,
    TryLater,
)
from retouch.jobs import Failure
from retouch.provider import client as client_module
from retouch.provider.answers import ListedTask, parse, task_answer
from retouch.provider.client import DashScope, Limit, Limits, connection_pool
from retouch.provider.requests import Request
from retouch.registry import RESULT_HOSTS

BASE = "https://dashscope.example.com/api/v1"
KEY = "sk-very-secret"
HOST = "dashscope-result-bj.oss-cn-beijing.aliyuncs.com"
RESULT = f"https://{HOST}/1d/a.png?Expires=1&OSSAccessKeyId=x&Signature=y"
CREATED = {"output": {"task_status": "PENDING", "task_id": "task-1"}, "request_id": "req-1"}
ASYNC = Request(
    path="services/aigc/image-generation/generation",
    headers={"X-DashScope-Async": "enable"},
    body={"model": "wan2.7-image", "input": {"text": "红🐇"}, "parameters": {"n": 1}},
)
SYNC = Request(
    path="services/aigc/multimodal-generation/generation",
    headers={},
    body={"model": "qwen-image-edit-plus", "input": {}, "parameters": {"n": 1}},
)
IMAGE_ANSWER = {
    "output": {"choices": [{"message": {"content": [{"image": RESULT}]}}]},
    "usage": {"image_count": 1},
    "request_id": "req-2",
}
Handler = Callable[[httpx.Request], httpx.Response]
Answer = Handler | httpx.Response | Exception


class Wire:
    """What went over the wire: every request, answered by the next of `answers`, or by the last."""

    def __init__(self, *answers: Answer):
        self.requests: list[httpx.Request] = []
        self.timeouts: list[dict[str, float]] = []
        self._answers = answers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(request)
        self.timeouts.append(dict(request.extensions["timeout"]))
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return answer(request)

    @property
    def request(self) -> httpx.Request:
        assert len(self.requests) == 1
        return self.requests[0]


class Pauses:
    """Sleeps of no length, and the longest draw of each; what was asked for is remembered."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.drawn: list[tuple[float, float]] = []

    def draw(self, low: float, high: float) -> float:
        self.drawn.append((low, high))
        return high


def connected(
    wire: Wire,
    *,
    hosts: tuple[str, ...] = (),
    key: Callable[[], str] = lambda: KEY,
    workspace: str | None = None,
    pauses: Pauses | None = None,
) -> DashScope:
    pauses = pauses or Pauses()
    return DashScope(
        BASE + "/",
        key,
        http=connection_pool(httpx.MockTransport(wire)),
        workspace=workspace,
        result_hosts=hosts,
        sleep=pauses.slept.append,
        jitter=pauses.draw,
    )


class Chunks(httpx.SyncByteStream):
    """A body that arrives in pieces, and may break off."""

    def __init__(self, *chunks: bytes, error: Exception | None = None):
        self._chunks = chunks
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._error is not None:
            raise self._error


def fetched(provider: DashScope, url: str) -> bytes:
    with provider.fetch(url) as chunks:
        return b"".join(chunks)


# --- create ----------------------------------------------------------------------------------------


def test_a_create_posts_the_body_to_the_models_path_under_the_base_url() -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    assert connected(wire).create(ASYNC) == ("task-1", "req-1")
    assert wire.request.method == "POST"
    assert str(wire.request.url) == f"{BASE}/services/aigc/image-generation/generation"
    assert json.loads(wire.request.content) == dict(ASYNC.body)


def test_a_body_is_utf8_without_escapes() -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    connected(wire).create(ASYNC)
    assert "红🐇".encode() in wire.request.content


def test_a_create_carries_the_key_and_the_async_header() -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    connected(wire).create(ASYNC)
    headers = wire.request.headers
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"].startswith("application/json")
    assert headers["X-DashScope-Async"] == "enable"
    assert headers["User-Agent"].startswith("retouch/")


def test_a_synchronous_call_never_carries_the_async_header() -> None:
    wire = Wire(httpx.Response(200, json=IMAGE_ANSWER))
    connected(wire).generate(SYNC)
    assert "X-DashScope-Async" not in wire.request.headers
    assert wire.request.headers["Authorization"] == f"Bearer {KEY}"


def test_a_rotated_key_is_used_at_once() -> None:
    keys = iter(["sk-old", "sk-new"])
    wire = Wire(lambda _: httpx.Response(200, json=CREATED))
    provider = connected(wire, key=lambda: next(keys))
    provider.create(ASYNC)
    provider.create(ASYNC)
    sent = [request.headers["Authorization"] for request in wire.requests]
    assert sent == ["Bearer sk-old", "Bearer sk-new"]


def test_a_create_without_a_request_id_is_still_a_task() -> None:
    wire = Wire(httpx.Response(200, json={"output": {"task_id": "t"}}))
    assert connected(wire).create(ASYNC) == ("t", None)


UNREACHED = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("no route"),
    httpx.PoolTimeout("busy"),
]
STUCK = httpx.WriteTimeout("stuck")
LOST = [
    httpx.ReadTimeout("silence"),
    httpx.ReadError("reset"),
    httpx.WriteError("broken pipe"),
    httpx.RemoteProtocolError("server disconnected"),
    httpx.CloseError("gone"),
]


def calls(provider: DashScope) -> list[Callable[[], object]]:
    return [lambda: provider.create(ASYNC), lambda: provider.generate(SYNC)]


@pytest.mark.parametrize("error", UNREACHED, ids=lambda e: type(e).__name__)
def test_a_call_that_never_left_may_be_repeated_later(error: Exception) -> None:
    for number in range(2):
        wire = Wire(error)
        with pytest.raises(TryLater) as caught:
            calls(connected(wire))[number]()
        assert caught.value.code == NOT_REACHED
        assert len(wire.requests) == 1


def test_a_call_of_which_a_part_never_left_may_be_repeated_later_and_is_sent_once() -> None:
    for number in range(2):
        wire = Wire(STUCK)
        with pytest.raises(TryLater) as caught:
            calls(connected(wire))[number]()
        assert caught.value.code == NOT_SENT == "RequestNotSent"
        assert len(wire.requests) == 1


@pytest.mark.parametrize("error", LOST, ids=lambda e: type(e).__name__)
def test_a_call_whose_answer_was_lost_has_an_unknown_outcome_and_is_sent_once(
    error: Exception,
) -> None:
    for number in range(2):
        wire = Wire(error)
        with pytest.raises(OutcomeUnknown):
            calls(connected(wire))[number]()
        assert len(wire.requests) == 1


HTML = "<html><body>It works</body></html>"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: httpx.Response(500, json={"code": "InternalError"}), id="500"),
        pytest.param(lambda: httpx.Response(502, text=HTML), id="502 with HTML"),
        pytest.param(lambda: httpx.Response(503, json={"code": "ServiceUnavailable"}), id="503"),
        pytest.param(lambda: httpx.Response(504), id="504 without a body"),
        pytest.param(lambda: httpx.Response(200, text=HTML), id="200 with HTML"),
        pytest.param(lambda: httpx.Response(200, text=""), id="200 without a body"),
        pytest.param(lambda: httpx.Response(200, json=[]), id="200 with a list"),
        pytest.param(lambda: httpx.Response(200, json={"request_id": "r"}), id="200 of no use"),
        pytest.param(lambda: httpx.Response(200, text='{"output":{"task_id":'), id="cut off"),
        pytest.param(
            lambda: httpx.Response(
                200, stream=Chunks(b'{"output":', error=httpx.ReadError("reset"))
            ),
            id="reset in the middle",
        ),
        pytest.param(
            lambda: httpx.Response(
                200, headers={"Content-Encoding": "gzip"}, stream=Chunks(b"not gzip")
            ),
            id="a broken content encoding",
        ),
        pytest.param(
            lambda: httpx.Response(
                200,
                headers={"Content-Type": "application/json; charset=utf-16"},
                content=b'{"output":{}}x',
            ),
            id="a charset that the body is not in",
        ),
        pytest.param(
            lambda: httpx.Response(302, headers={"Location": "https://evil.example/"}),
            id="a redirect",
        ),
    ],
)
def test_an_answer_that_tells_nothing_leaves_the_outcome_unknown_and_is_not_asked_again(
    make: Callable[[], httpx.Response],
) -> None:
    for number in range(2):
        wire = Wire(make())
        with pytest.raises(OutcomeUnknown):
            calls(connected(wire))[number]()
        assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, "Throttling.RateQuota", TryLater),
        (401, "InvalidApiKey", AccountRefused),
        (403, "AccessDenied.Unpurchased", AccountRefused),
        (400, "Arrearage", AccountRefused),
        (400, "InvalidParameter", ProviderRefused),
        (400, "DataInspectionFailed", ProviderRefused),
    ],
)
def test_a_refusal_is_definite_and_keeps_what_support_asks_for(
    status: int, code: str, expected: type[Exception]
) -> None:
    for number in range(2):
        body = {"code": code, "message": "no", "request_id": "req-9"}
        wire = Wire(httpx.Response(status, json=body))
        with pytest.raises(expected) as caught:
            calls(connected(wire))[number]()
        error = caught.value
        assert isinstance(error, TryLater | AccountRefused | ProviderRefused)
        assert (error.code, error.message, error.request_id) == (code, "no", "req-9")
        assert len(wire.requests) == 1


def test_a_429_that_is_no_json_is_a_throttle_all_the_same() -> None:
    with pytest.raises(TryLater):
        connected(Wire(httpx.Response(429, text=HTML))).create(ASYNC)


def test_the_key_is_in_no_error() -> None:
    for answer in (
        httpx.Response(401, json={"code": "InvalidApiKey", "message": "Invalid."}),
        httpx.Response(500),
        httpx.ReadTimeout("silence"),
    ):
        with pytest.raises((AccountRefused, OutcomeUnknown)) as caught:
            connected(Wire(answer)).create(ASYNC)
        assert KEY not in str(caught.value)


def test_no_error_holds_the_prompt_or_a_signed_url() -> None:
    request = Request(path=SYNC.path, headers={}, body={"prompt": "private words", "image": RESULT})
    for answer in (httpx.Response(500), httpx.ReadTimeout("silence"), httpx.Response(429)):
        with pytest.raises((OutcomeUnknown, TryLater)) as caught:
            connected(Wire(answer)).generate(request)
        assert "private" not in str(caught.value)
        assert "Signature" not in str(caught.value)


@pytest.mark.parametrize("key", ["", " ", "sk-a\nb", "sk-ключ", "sk a", "sk-\x00", "sk-\x7f"])
def test_a_key_that_cannot_be_sent_is_for_the_operator_and_never_repeated(key: str) -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    with pytest.raises(SettingsError) as caught:
        connected(wire, key=lambda: key).create(ASYNC)
    assert wire.requests == []
    assert key.strip() == "" or key not in str(caught.value)


def test_an_image_that_was_not_downloaded_may_be_sent_in_another_way() -> None:
    body = {"code": "InvalidParameter", "message": "Image download failed", "request_id": "req-3"}
    for number in range(2):
        wire = Wire(httpx.Response(400, json=body))
        with pytest.raises(InputNotFetched) as caught:
            calls(connected(wire))[number]()
        assert (caught.value.code, caught.value.request_id) == ("InvalidParameter", "req-3")
        assert len(wire.requests) == 1


def test_an_endless_answer_is_no_answer() -> None:
    def endless(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Chunks(*[b" " * 1024 * 1024] * 9, b"{}"))

    for number in range(2):
        with pytest.raises(OutcomeUnknown):
            calls(connected(Wire(endless)))[number]()
    with pytest.raises(TryLater):
        connected(Wire(endless)).query("task-1")


def test_a_prompt_that_utf8_cannot_hold_is_mended() -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    connected(wire).create(Request(path="p", headers={}, body={"prompt": "a\ud800b"}))
    assert json.loads(wire.request.content) == {"prompt": "a?b"}


@pytest.mark.parametrize("task_id", ["", "x" * 201, "a\ud800"])
def test_a_task_id_that_cannot_be_used_leaves_the_outcome_unknown(task_id: str) -> None:
    body = json.dumps({"output": {"task_id": task_id}})
    with pytest.raises(OutcomeUnknown):
        connected(Wire(httpx.Response(200, text=body))).create(ASYNC)


@pytest.mark.parametrize("error", LOST, ids=lambda e: type(e).__name__)
def test_an_answer_that_came_whole_counts_though_the_connection_broke_there(
    error: Exception,
) -> None:
    created = httpx.Response(200, stream=Chunks(json.dumps(CREATED).encode(), error=error))
    assert connected(Wire(created)).create(ASYNC) == ("task-1", "req-1")
    made = httpx.Response(200, stream=Chunks(json.dumps(IMAGE_ANSWER).encode(), error=error))
    assert json.loads(connected(Wire(made)).generate(SYNC)) == IMAGE_ANSWER


# --- headers ---------------------------------------------------------------------------------------

COMMON = {
    "host": "dashscope.example.com",
    "accept": "application/json; charset=utf-8",
    "accept-encoding": "gzip, deflate",
    "connection": "keep-alive",
    "authorization": f"Bearer {KEY}",
}
JSON_BODY = {"content-type": "application/json; charset=utf-8"}
STREAM = Request(path=SYNC.path, headers={}, body=SYNC.body, stream=True)


def headers_of(request: httpx.Request) -> dict[str, str]:
    headers = dict(request.headers)
    assert headers.pop("user-agent").startswith("retouch/")
    if headers.pop("content-length", None) is None:
        assert request.method == "GET"
    return headers


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(
            lambda p: p.create(ASYNC),
            COMMON | JSON_BODY | {"x-dashscope-async": "enable"},
            id="create",
        ),
        pytest.param(lambda p: p.generate(SYNC), COMMON | JSON_BODY, id="generate"),
        pytest.param(
            lambda p: p.generate(STREAM),
            COMMON
            | JSON_BODY
            | {
                "accept": "text/event-stream",
                "x-accel-buffering": "no",
                "x-dashscope-sse": "enable",
            },
            id="stream",
        ),
        pytest.param(lambda p: p.query("t"), COMMON, id="query"),
        pytest.param(lambda p: list(p.tasks(start=0, end=60)), COMMON, id="tasks"),
        pytest.param(lambda p: p.cancel("t"), COMMON, id="cancel"),
    ],
)
def test_the_headers_are_the_sdks_but_for_its_name(
    call: Callable[[DashScope], object], expected: dict[str, str]
) -> None:
    body = {**IMAGE_ANSWER, "output": IMAGE_ANSWER["output"] | {"task_id": "t"}, "data": []}  # type: ignore[operator]
    wire = Wire(httpx.Response(200, json=body))
    call(connected(wire))
    assert headers_of(wire.request) == expected
    wire = Wire(httpx.Response(200, json=body))
    call(connected(wire, workspace="llm-7"))
    assert headers_of(wire.request) == expected | {"x-dashscope-workspace": "llm-7"}


@pytest.mark.parametrize("workspace", ["a b", "-a", "a\n", "a/b", "x" * 65, "ключ"])
def test_a_workspace_that_is_no_id_is_for_the_operator(workspace: str) -> None:
    with pytest.raises(SettingsError):
        connected(Wire(httpx.Response(200)), workspace=workspace)


def test_an_empty_workspace_is_none() -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    connected(wire, workspace="").query("t")
    assert "X-DashScope-WorkSpace" not in wire.request.headers


def test_several_regions_share_a_pool_and_each_has_its_own_key() -> None:
    wire = Wire(lambda _: httpx.Response(200, json=CREATED))
    pool = connection_pool(httpx.MockTransport(wire))
    one = DashScope("https://one.example.com/api/v1", lambda: "sk-1", http=pool)
    two = DashScope("https://two.example.com/api/v1", lambda: "sk-2", http=pool)
    one.query("t")
    two.query("t")
    sent = [(r.url.host, r.headers["Authorization"]) for r in wire.requests]
    assert sent == [("one.example.com", "Bearer sk-1"), ("two.example.com", "Bearer sk-2")]


def test_the_pool_keeps_no_cookie_and_follows_nothing() -> None:
    wire = Wire(
        httpx.Response(200, json=CREATED, headers={"Set-Cookie": "acw_tc=1; Path=/"}),
        httpx.Response(200, json=CREATED),
    )
    provider = connected(wire)
    provider.query("t")
    provider.query("t")
    assert "Cookie" not in wire.requests[1].headers
    pool = connection_pool()
    assert not pool.follow_redirects
    assert not pool.trust_env
    pool.close()


# --- generate --------------------------------------------------------------------------------------


def test_a_synchronous_call_gives_back_the_body_to_be_kept() -> None:
    wire = Wire(httpx.Response(200, json=IMAGE_ANSWER))
    assert json.loads(connected(wire).generate(SYNC)) == IMAGE_ANSWER
    assert str(wire.request.url) == f"{BASE}/services/aigc/multimodal-generation/generation"


def test_a_synchronous_call_waits_longer_than_the_provider_cuts_it_at_300_seconds() -> None:
    wire = Wire(httpx.Response(200, json=IMAGE_ANSWER))
    connected(wire).generate(SYNC)
    (timeout,) = wire.timeouts
    assert timeout["read"] >= 310
    assert 5 <= timeout["connect"] <= 10


def test_a_create_gives_up_before_its_short_function_does() -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    connected(wire).create(ASYNC)
    (timeout,) = wire.timeouts
    assert 5 <= timeout["read"] <= 30
    assert 5 <= timeout["connect"] <= 10


# --- query -----------------------------------------------------------------------------------------


def test_a_query_gets_the_task_with_the_key_and_nothing_else() -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    assert connected(wire).query("task-1").status == "PENDING"
    assert wire.request.method == "GET"
    assert str(wire.request.url) == f"{BASE}/tasks/task-1"
    assert wire.request.headers["Authorization"] == f"Bearer {KEY}"
    assert "X-DashScope-Async" not in wire.request.headers


def test_a_task_id_cannot_lead_elsewhere() -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    connected(wire).query("../../other?x=1#y")
    assert wire.request.url.raw_path == b"/api/v1/tasks/..%2F..%2Fother%3Fx%3D1%23y"


@pytest.mark.parametrize(
    "answer",
    [
        *(pytest.param(error, id=type(error).__name__) for error in (*UNREACHED, STUCK, *LOST)),
        pytest.param(httpx.Response(500, json={"code": "InternalError"}), id="500"),
        pytest.param(httpx.Response(502, text=HTML), id="502"),
        pytest.param(httpx.Response(503), id="503"),
        pytest.param(httpx.Response(429, json={"code": "Throttling.RateQuota"}), id="429"),
        pytest.param(httpx.Response(408), id="408"),
        pytest.param(httpx.Response(200, text=HTML), id="HTML"),
        pytest.param(httpx.Response(200, text='{"output":{"task_st'), id="cut off"),
        pytest.param(httpx.Response(404, text=HTML), id="404 with HTML"),
        pytest.param(
            lambda _: httpx.Response(
                200, headers={"Content-Encoding": "gzip"}, stream=Chunks(b"not gzip")
            ),
            id="a broken content encoding",
        ),
        pytest.param(
            httpx.Response(
                200,
                headers={"Content-Type": "application/json; charset=utf-16"},
                content=b'{"output":{}}x',
            ),
            id="a charset that the body is not in",
        ),
        pytest.param(
            httpx.Response(302, headers={"Location": "https://evil.example/"}, json=CREATED),
            id="a redirect",
        ),
    ],
)
def test_a_query_that_failed_is_tried_three_times_and_says_nothing_about_the_task(
    answer: Answer,
) -> None:
    wire, pauses = Wire(answer), Pauses()
    with pytest.raises(TryLater) as caught:
        connected(wire, pauses=pauses).query("task-1")
    assert not isinstance(caught.value, InputNotFetched)
    assert len(wire.requests) == 3
    assert pauses.drawn == [(0.3, 1.0), (0.6, 2.0)]
    assert pauses.slept == [1.0, 2.0]


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "InvalidApiKey"), (403, "Workspace.AccessDenied"), (400, "Arrearage")],
)
def test_a_query_refused_for_the_account_says_nothing_about_the_task(
    status: int, code: str
) -> None:
    with pytest.raises(AccountRefused):
        connected(Wire(httpx.Response(status, json={"code": code}))).query("task-1")


def test_a_400_with_a_code_is_the_tasks_own_failure() -> None:
    body = {
        "request_id": "a4d7",
        "code": "InvalidParameter",
        "message": "num_images_per_prompt must be 1",
    }
    answer = connected(Wire(httpx.Response(400, json=body))).query("task-1")
    assert answer.status == "FAILED"
    assert answer.failure == Failure(
        code="InvalidParameter", message="num_images_per_prompt must be 1", request_id="a4d7"
    )


def test_a_400_without_a_code_ends_nothing() -> None:
    answer = connected(Wire(httpx.Response(400, json={"message": "?"}))).query("task-1")
    assert not answer.terminal


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, {"code": "SomethingNew", "message": "no", "request_id": "r"})
          for status in (402, 404, 405, 406, 409, 410, 413, 415, 422, 451)),
        (404, {"code": "NotFound"}),
        (404, {"timestamp": 1, "path": "/tasks/task-1"}),
        (404, {"output": {"task_status": "FAILED", "code": "InvalidParameter"}}),
        (400, {"code": "InvalidParameter", "message": "url error, please check url!"}),
        (400, {"output": {"code": "InvalidParameter", "message": "url error"}}),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_base_url_is_for_the_operator_and_never_the_tasks_end(
    status: int, body: dict[str, object]
) -> None:
    wire = Wire(httpx.Response(status, json=body))
    with pytest.raises(SettingsError) as caught:
        connected(wire).query("task-1")
    assert f"{BASE} answers a query with HTTP {status}" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"code": "InvalidParameter", "message": "the curl erred"},
        {"code": "InvalidURL", "message": "The provided URL does not appear to be valid."},
        {"output": {"task_status": "FAILED", "code": "InvalidParameter"}},
    ],
    ids=str,
)
def test_other_words_about_urls_are_the_tasks_own_failure(body: dict[str, object]) -> None:
    answer = connected(Wire(httpx.Response(400, json=body))).query("task-1")
    assert answer.status == "FAILED"
    assert answer.failure is not None


def test_a_404_of_the_account_is_not_taken_for_a_wrong_base_url() -> None:
    body = {"code": "WorkSpaceNotFound", "message": "no such workspace"}
    with pytest.raises(AccountRefused):
        connected(Wire(httpx.Response(404, json=body))).query("task-1")


@pytest.mark.parametrize(
    "failed",
    [
        httpx.ReadTimeout("silence"),
        httpx.ConnectError("refused"),
        httpx.Response(429, json={"code": "Throttling.RateQuota"}),
        httpx.Response(500, json={"code": "InternalError"}),
        httpx.Response(200, text=HTML),
    ],
)
@pytest.mark.parametrize("failures", [1, 2])
def test_a_query_that_failed_once_or_twice_is_answered_all_the_same(
    failed: httpx.Response | Exception, failures: int
) -> None:
    wire = Wire(*[failed] * failures, httpx.Response(200, json=CREATED))
    pauses = Pauses()
    assert connected(wire, pauses=pauses).query("task-1").status == "PENDING"
    assert len(wire.requests) == failures + 1
    assert len(pauses.slept) == failures


def test_a_query_that_never_reached_the_provider_says_so() -> None:
    with pytest.raises(TryLater) as caught:
        connected(Wire(httpx.ConnectError("refused"))).query("task-1")
    assert caught.value.code == NOT_REACHED


def test_a_query_is_not_repeated_where_the_pause_would_take_the_rest_of_its_time() -> None:
    wire = Wire(httpx.Response(500))
    pool = connection_pool(httpx.MockTransport(wire))
    slept: list[float] = []
    provider = DashScope(
        BASE, lambda: KEY, http=pool, sleep=slept.append, jitter=lambda low, high: 1000.0
    )
    with pytest.raises(TryLater):
        provider.query("task-1")
    assert len(wire.requests) == 1
    assert slept == []


def test_a_refused_account_is_not_asked_again() -> None:
    wire = Wire(httpx.Response(401, json={"code": "InvalidApiKey"}))
    with pytest.raises(AccountRefused):
        connected(wire).query("task-1")
    assert len(wire.requests) == 1


def test_an_input_that_was_not_fetched_is_the_tasks_own_failure() -> None:
    body = {"code": "InvalidParameter", "message": "Image download failed", "request_id": "r"}
    wire = Wire(httpx.Response(400, json=body))
    answer = connected(wire).query("task-1")
    assert answer.status == "FAILED"
    assert answer.failure is not None
    assert answer.failure.message == "Image download failed"
    assert len(wire.requests) == 1


# --- tasks -----------------------------------------------------------------------------------------

NOON = 1_745_568_293.0  # 2025-04-25 16:04:53 in UTC+8


def row(number: int) -> dict[str, object]:
    return {"task_id": f"t{number}", "status": "SUCCEEDED", "model_name": "wan2.5-i2i-preview"}


def page(rows: list[object], **more: object) -> httpx.Response:
    return httpx.Response(200, json={"request_id": "f675", "data": rows, **more})


def listed(wire: Wire, page_size: int = 100) -> list[str]:
    tasks = connected(wire).tasks(start=NOON - 60, end=NOON, page_size=page_size)
    return [task.task_id for task in tasks]


def test_the_list_is_asked_for_in_utc8_and_read_in_unix_seconds() -> None:
    wire = Wire(
        page(
            [
                {
                    "task_id": "3c77",
                    "status": "SUCCEEDED",
                    "model_name": "wan2.5-i2i-preview",
                    "region": "cn-beijing",
                    "request_id": "f6bf",
                    "api_key_id": "15xxxx",
                    "gmt_create": 1745568293253,
                    "start_time": 1745568293273,
                    "end_time": 1745568302481,
                }
            ],
            total=1,
            total_page=1,
            page_no=1,
            page_size=100,
        )
    )
    found = connected(wire).tasks(
        start=NOON - 0.5, end=NOON + 0.5, model="wan2.5-i2i-preview", status="SUCCEEDED"
    )
    assert list(found) == [
        ListedTask(
            task_id="3c77",
            status="SUCCEEDED",
            model="wan2.5-i2i-preview",
            request_id="f6bf",
            created_at=1745568293.253,
            started_at=1745568293.273,
            ended_at=1745568302.481,
        )
    ]
    assert wire.request.method == "GET"
    assert wire.request.url.path == "/api/v1/tasks"
    assert dict(wire.request.url.params) == {
        "page_no": "1",
        "page_size": "100",
        "start_time": "20250425160452",
        "end_time": "20250425160454",
        "model_name": "wan2.5-i2i-preview",
        "status": "SUCCEEDED",
    }


def test_of_a_window_longer_than_a_day_the_last_day_is_listed() -> None:
    wire = Wire(page([]))
    assert list(connected(wire).tasks(start=0, end=NOON)) == []
    assert wire.request.url.params["start_time"] == "20250424160453"


def test_all_pages_are_listed() -> None:
    wire = Wire(
        page([row(1), row(2)], total_page=2, page_size=2), page([row(3)], total_page=2, page_size=2)
    )
    assert listed(wire, page_size=2) == ["t1", "t2", "t3"]
    assert [r.url.params["page_no"] for r in wire.requests] == ["1", "2"]


@pytest.mark.parametrize("said", [0, 1, 2, 99, -1, "2", None, True, 1e300])
def test_the_number_of_pages_may_lie(said: object) -> None:
    wire = Wire(
        page([row(1), row(2)], total_page=said, page_size=2),
        page([row(3), row(4)], total_page=said, page_size=2),
        page([], total_page=said, page_size=2),
    )
    assert listed(wire, page_size=2) == ["t1", "t2", "t3", "t4"]
    assert len(wire.requests) == 3


def test_a_provider_that_gives_smaller_pages_than_were_asked_for_is_listed_to_the_end() -> None:
    wire = Wire(
        page([row(1), row(2)], total_page=2, page_size=2), page([row(3)], total_page=2, page_size=2)
    )
    assert listed(wire) == ["t1", "t2", "t3"]


def test_pages_that_repeat_end_the_list() -> None:
    wire = Wire(lambda _: page([row(1), row(2)], total_page=99))
    assert listed(wire, page_size=2) == ["t1", "t2"]
    assert len(wire.requests) == 2


def test_tasks_that_move_to_the_next_page_meanwhile_are_listed_once() -> None:
    wire = Wire(page([row(1), row(2), row(1)]), page([row(2), row(3)]), page([]))
    assert listed(wire) == ["t1", "t2", "t3"]


def test_pages_without_end_are_an_error_for_the_list_would_be_incomplete() -> None:
    def more(request: httpx.Request) -> httpx.Response:
        return page([row(int(request.url.params["page_no"]))], total_page=10**9, page_size=1)

    wire = Wire(more)
    with pytest.raises(TryLater):
        listed(wire, page_size=1)
    assert len(wire.requests) == client_module.LIST_MAX_PAGES


def test_rows_of_no_use_are_passed_over() -> None:
    rows: list[object] = [None, 7, "t", [], {}, {"task_id": ""}, {"task_id": 7}, {"task_id": None}]
    odd = {"task_id": "t2", "status": 7, "model_name": [], "gmt_create": "x", "end_time": True}
    wire = Wire(page([*rows, row(1), odd], total_page=1))
    found = list(connected(wire).tasks(start=NOON - 60, end=NOON))
    assert [t.task_id for t in found] == ["t1", "t2"]
    assert found[1] == ListedTask("t2")


@pytest.mark.parametrize("value", [0, -1, 10**15, 10**400, "1745568293253", None, False, []])
def test_a_time_that_is_none_is_missing(value: object) -> None:
    wire = Wire(page([row(1) | {"gmt_create": value, "start_time": 1745568293273.0}]), page([]))
    (task,) = connected(wire).tasks(start=NOON - 60, end=NOON)
    assert (task.created_at, task.started_at) == (None, 1745568293.273)


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {}}, {"tasks": []}, {"total": 0}])
def test_an_answer_without_a_list_does_not_say_that_there_are_no_tasks(
    body: dict[str, object],
) -> None:
    with pytest.raises(TryLater):
        listed(Wire(httpx.Response(200, json=body)))


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "InvalidParameter", ProviderRefused),
        (401, "InvalidApiKey", AccountRefused),
        (429, "Throttling.RateQuota", TryLater),
        (503, "ServiceUnavailable", TryLater),
    ],
)
def test_a_list_call_that_was_refused(status: int, code: str, expected: type[Exception]) -> None:
    wire = Wire(httpx.Response(status, json={"code": code, "message": "no"}))
    with pytest.raises(expected):
        listed(wire)
    assert len(wire.requests) == (3 if expected is TryLater else 1)


def test_one_page_that_failed_once_does_not_end_the_list() -> None:
    wire = Wire(
        page([row(1)], total_page=2, page_size=1),
        httpx.Response(503),
        page([row(2)], total_page=2, page_size=1),
        page([]),
    )
    assert listed(wire, page_size=1) == ["t1", "t2"]


# --- cancel ----------------------------------------------------------------------------------------


def test_a_cancel_posts_nothing_to_the_task() -> None:
    wire = Wire(httpx.Response(200, json={"request_id": "r"}))
    assert connected(wire).cancel("../t") is True
    assert wire.request.method == "POST"
    assert wire.request.url.raw_path == b"/api/v1/tasks/..%2Ft/cancel"
    assert wire.request.content == b""
    assert wire.request.headers["Content-Length"] == "0"


def test_a_cancel_that_comes_too_late_is_an_ordinary_outcome() -> None:
    body = {"code": "UnsupportedOperation", "message": "Failed to cancel the task, please confirm"}
    wire = Wire(httpx.Response(400, json=body))
    assert connected(wire).cancel("t") is False
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("answer", "expected", "sent"),
    [
        (httpx.Response(400, json={"code": "InvalidParameter"}), ProviderRefused, 1),
        (httpx.Response(401, json={"code": "InvalidApiKey"}), AccountRefused, 1),
        (httpx.Response(429, json={"code": "Throttling.RateQuota"}), TryLater, 3),
        (httpx.Response(500, json={"code": "UnsupportedOperation"}), TryLater, 3),
        (httpx.Response(200, text=HTML), TryLater, 3),
        (httpx.ReadTimeout("silence"), TryLater, 3),
    ],
)
def test_a_cancel_that_failed_otherwise(
    answer: Answer, expected: type[Exception], sent: int
) -> None:
    wire = Wire(answer)
    with pytest.raises(expected):
        connected(wire).cancel("t")
    assert len(wire.requests) == sent


# --- upload ----------------------------------------------------------------------------------------

POLICY: dict[str, object] = {
    "policy": "eyJl",
    "signature": "g5K=",
    "upload_dir": "dashscope-instant/52af/2024-07-18/1fd3",
    "upload_host": "https://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com",
    "expire_in_seconds": 300,
    "max_file_size_mb": 1,
    "capacity_limit_mb": 999999999,
    "oss_access_key_id": "LTAI",
    "x_oss_object_acl": "private",
    "x_oss_forbid_overwrite": "true",
}
EXPIRED = (
    "<Error><Code>AccessDenied</Code><Message>Invalid according to Policy: Policy expired."
    "</Message></Error>"
)
STORED = httpx.Response(200)


def policy(other: dict[str, object] | None = None, wrapper: str = "data") -> httpx.Response:
    return httpx.Response(200, json={"request_id": "r", wrapper: POLICY | (other or {})})


def uploaded(wire: Wire, data: bytes = b"\x89PNG\r\n", name: str = "a-1.png") -> str:
    return connected(wire, workspace="llm-7").upload("qwen-image-edit", name, data, "image/png")


def form(request: httpx.Request) -> list[tuple[str, str, bytes]]:
    """The name, the other headers and the value of each part of a form, in order."""
    boundary = request.headers["Content-Type"].partition("boundary=")[2].encode()
    first, *parts, last = request.content.split(b"--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    found = []
    for part in parts:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        begin, _, more = head.decode().partition('name="')[2].partition('"')
        found.append((begin, more, value.removesuffix(b"\r\n")))
    return found


@pytest.mark.parametrize("wrapper", ["data", "output"])
def test_an_upload_asks_for_a_policy_and_posts_the_form(wrapper: str) -> None:
    wire = Wire(policy(wrapper=wrapper), STORED)
    key = "dashscope-instant/52af/2024-07-18/1fd3/a-1.png"
    assert uploaded(wire) == f"oss://{key}"
    asked, posted = wire.requests
    assert asked.method == "GET"
    assert str(asked.url) == f"{BASE}/uploads?action=getPolicy&model=qwen-image-edit"
    assert headers_of(asked) == COMMON | {"x-dashscope-workspace": "llm-7"}
    assert posted.method == "POST"
    assert str(posted.url) == POLICY["upload_host"]
    assert form(posted) == [
        ("OSSAccessKeyId", "", b"LTAI"),
        ("Signature", "", b"g5K="),
        ("policy", "", b"eyJl"),
        ("key", "", key.encode()),
        ("x-oss-object-acl", "", b"private"),
        ("x-oss-forbid-overwrite", "", b"true"),
        ("success_action_status", "", b"200"),
        ("x-oss-content-type", "", b"image/png"),
        ("file", '; filename="a-1.png"\r\nContent-Type: image/png', b"\x89PNG\r\n"),
    ]


def test_the_storage_is_told_neither_the_key_nor_the_workspace() -> None:
    wire = Wire(policy(), STORED)
    uploaded(wire)
    headers = headers_of(wire.requests[1])
    assert headers.pop("content-type").startswith("multipart/form-data; boundary=")
    assert headers == {
        "host": "dashscope-file-mgr.oss-cn-beijing.aliyuncs.com",
        "accept": "application/json",
        "accept-encoding": "gzip, deflate",
        "connection": "keep-alive",
    }
    assert KEY.encode() not in wire.requests[1].content


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("чашка/a b.png", "______a_b.png"),
        ("../../x.png", ".._.._x.png"),
        ('a"\r\n.png', "a___.png"),
        ("", "image"),
        ("x" * 200 + ".png", "x" * 96 + ".png"),
    ],
)
def test_a_name_is_made_safe(name: str, safe: str) -> None:
    wire = Wire(policy(), STORED)
    assert uploaded(wire, name=name).rpartition("1fd3/")[2] == safe


def test_a_file_larger_than_the_policy_allows_is_not_sent() -> None:
    wire = Wire(policy(), STORED)
    with pytest.raises(ProviderRefused) as caught:
        uploaded(wire, b"x" * (1024 * 1024 + 1))
    assert caught.value.code == "UploadTooLarge"
    assert len(wire.requests) == 1
    uploaded(Wire(policy(), STORED), b"x" * 1024 * 1024)


def test_a_policy_without_a_limit_has_none() -> None:
    body = {"data": {k: v for k, v in POLICY.items() if k != "max_file_size_mb"}}
    assert uploaded(Wire(httpx.Response(200, json=body), STORED), b"x" * 2**21)


def test_a_policy_that_expired_is_renewed_once() -> None:
    expired = httpx.Response(403, text=EXPIRED)
    wire = Wire(policy(), expired, policy({"upload_dir": "d2"}), STORED)
    assert uploaded(wire) == "oss://d2/a-1.png"
    wire = Wire(policy(), expired, policy(), expired)
    with pytest.raises(TryLater) as caught:
        uploaded(wire)
    assert caught.value.code == "PolicyExpired"
    assert len(wire.requests) == 4


@pytest.mark.parametrize(
    ("answer", "expected", "code"),
    [
        (
            httpx.Response(400, text="<Code>EntityTooLarge</Code>"),
            ProviderRefused,
            "UploadTooLarge",
        ),
        (httpx.Response(413), ProviderRefused, "UploadTooLarge"),
        (
            httpx.Response(400, text="<Code>InvalidArgument</Code>"),
            ProviderRefused,
            "InvalidArgument",
        ),
        (httpx.Response(400, text=HTML), ProviderRefused, "HTTP400"),
        (httpx.Response(403, text="<Code>AccessDenied</Code>"), TryLater, "AccessDenied"),
        (httpx.Response(409, text="<Code>FileAlreadyExists</Code>"), TryLater, "FileAlreadyExists"),
        (httpx.Response(429), TryLater, "HTTP429"),
        (httpx.Response(503), TryLater, "HTTP503"),
        (httpx.Response(204), TryLater, "HTTP204"),
        (
            httpx.Response(307, headers={"Location": "https://evil.example/"}),
            TryLater,
            "HTTP307",
        ),
        *((error, TryLater, NOT_REACHED) for error in UNREACHED),
        *((error, TryLater, NOT_SENT) for error in (STUCK, *LOST)),
    ],
)
def test_what_the_storage_refuses_was_not_billed(
    answer: httpx.Response | Exception, expected: type[TryLater | ProviderRefused], code: str
) -> None:
    wire = Wire(policy(), answer)
    with pytest.raises(expected) as caught:
        uploaded(wire)
    assert isinstance(caught.value, TryLater | ProviderRefused)
    assert caught.value.code == code
    assert len(wire.requests) == 2


def test_an_upload_may_take_40_seconds_and_waits_20_for_an_answer() -> None:
    wire = Wire(policy(), STORED)
    uploaded(wire)
    assert wire.timeouts[1] == {"connect": 5.0, "pool": 5.0, "write": 10.0, "read": 20.0}
    assert Limits().upload == Limit(first_byte=20.0, total=40.0)


@pytest.mark.parametrize(
    "other",
    [
        *({name: None} for name in POLICY if name not in ("expire_in_seconds", "capacity_limit_mb")
          and name != "max_file_size_mb"),
        {"max_file_size_mb": True}, {"max_file_size_mb": "1"}, {"max_file_size_mb": 0},
        {"signature": ["x"]}, {"upload_dir": {}},
        {"upload_host": "http://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com"},
        {"upload_host": "dashscope-file-mgr.oss-cn-beijing.aliyuncs.com"},
        {"upload_host": "https://user:pass@oss.example.com"}, {"upload_host": "https://10.0.0.5/"},
        {"upload_host": "https://[::1]/"}, {"upload_host": "https://["}, {"upload_host": "https://"},
        {"upload_host": "https://oss.example.com:99999"}, {"upload_host": "ftp://127.0.0.1/"},
        {"upload_host": "https://oss.example.com/\x01"}, {"upload_host": "file:///etc/passwd"},
    ],
    ids=str,
)  # fmt: skip
def test_a_strange_policy_is_not_used(other: dict[str, object]) -> None:
    wire = Wire(policy(other), STORED)
    with pytest.raises(TryLater) as caught:
        uploaded(wire)
    assert caught.value.code == "StrangePolicy"
    assert len(wire.requests) == 1


@pytest.mark.parametrize("body", [{}, {"data": []}, {"data": {}}, {"output": None}])
def test_an_answer_without_a_policy_is_not_used(body: dict[str, object]) -> None:
    with pytest.raises(TryLater):
        uploaded(Wire(httpx.Response(200, json=body)))


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:9000"])
def test_a_simulator_on_loopback_is_uploaded_to_by_http(host: str) -> None:
    wire = Wire(
        policy({"upload_host": f"http://{host}/oss", "x_oss_forbid_overwrite": True}), STORED
    )
    uploaded(wire)
    assert str(wire.requests[1].url) == f"http://{host}/oss"
    assert ("x-oss-forbid-overwrite", "", b"true") in form(wire.requests[1])


@pytest.mark.parametrize(
    ("answer", "expected", "sent"),
    [
        (httpx.Response(429, json={"code": "Throttling"}), TryLater, 3),
        (httpx.Response(500), TryLater, 3),
        (httpx.ConnectError("refused"), TryLater, 3),
        (httpx.Response(401, json={"code": "InvalidApiKey"}), AccountRefused, 1),
        (httpx.Response(400, json={"code": "InvalidParameter"}), ProviderRefused, 1),
    ],
)
def test_a_policy_that_was_not_given(answer: Answer, expected: type[Exception], sent: int) -> None:
    wire = Wire(answer)
    with pytest.raises(expected):
        uploaded(wire)
    assert len(wire.requests) == sent


def test_no_error_of_an_upload_holds_its_credentials() -> None:
    for answer in (httpx.Response(403, text=f"<a>{POLICY['signature']}</a>"), httpx.Response(500)):
        with pytest.raises(TryLater) as caught:
            uploaded(Wire(policy(), answer))
        assert "g5K" not in str(caught.value)
        assert "LTAI" not in str(caught.value)


# --- streamed answers ------------------------------------------------------------------------------

ONE = "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/1.png?Expires=1"
TWO = "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/2.png?Expires=1"


def event(
    *items: dict[str, str], reason: str = "null", name: str = "result", count: int | None = None
) -> bytes:
    body: dict[str, object] = {
        "output": {
            "choices": [
                {"finish_reason": reason, "message": {"role": "assistant", "content": list(items)}}
            ]
        },
        "request_id": "req-5",
    }
    if count is not None:
        body["usage"] = {"image_count": count, "size": "1280*1280"}
    return f"id:1\nevent:{name}\n:HTTP_STATUS/200\ndata:{json.dumps(body)}\n\n".encode()


def error_event(status: int | None = 400, code: str = "DataInspectionFailed") -> bytes:
    comment = f":HTTP_STATUS/{status}\n" if status is not None else ""
    body = {"code": code, "message": "no", "request_id": "req-6"}
    return f"event:error\n{comment}data:{json.dumps(body)}\n\n".encode()


def streamed(*chunks: bytes, error: Exception | None = None, status: int = 200) -> str:
    response = httpx.Response(
        status,
        headers={"Content-Type": "text/event-stream"},
        stream=Chunks(*chunks, error=error),
    )
    wire = Wire(response)
    body = connected(wire).generate(STREAM)
    assert len(wire.requests) == 1
    return body


def read_back(text: str) -> tuple[tuple[str, ...], tuple[str, ...], Failure | None]:
    body = parse(text)
    assert body is not None
    answer = task_answer(body, synchronous=True)
    assert answer.status == "SUCCEEDED"
    return answer.texts, answer.images, answer.failure


def test_a_stream_is_one_answer() -> None:
    text = streamed(
        event({"type": "text", "text": "First"}),
        event({"type": "text", "text": ", soil"}, count=0),
        event({"type": "image", "image": ONE}, count=1),
        event({"type": "text", "text": "Then"}),
        event({"type": "image", "image": TWO}, reason="stop", count=2),
    )
    assert json.loads(text) == {
        "output": {
            "choices": [
                {
                    "finish_reason": "stop",
                    "message": {
                        "role": "assistant",
                        "content": [
                            {"type": "text", "text": "First, soil"},
                            {"type": "image", "image": ONE},
                            {"type": "text", "text": "Then"},
                            {"type": "image", "image": TWO},
                        ],
                    },
                }
            ]
        },
        "usage": {"image_count": 2, "size": "1280*1280"},
        "request_id": "req-5",
    }
    assert read_back(text) == (("First, soil", "Then"), (ONE, TWO), None)


def test_a_stream_asks_for_one_and_sends_the_same_body() -> None:
    wire = Wire(httpx.Response(200, content=event({"image": ONE}, reason="stop")))
    connected(wire).generate(STREAM)
    assert json.loads(wire.request.content) == dict(STREAM.body)
    assert wire.request.headers["X-DashScope-SSE"] == "enable"
    assert wire.request.headers["Accept"] == "text/event-stream"


def test_a_plain_answer_to_a_call_for_a_stream_is_read_as_it_is() -> None:
    wire = Wire(httpx.Response(200, json=IMAGE_ANSWER))
    assert read_back(connected(wire).generate(STREAM))[1] == (RESULT,)


def test_nothing_after_the_last_event_is_awaited() -> None:
    text = streamed(event({"image": ONE}, reason="stop"), error=httpx.ReadError("reset"))
    assert read_back(text) == ((), (ONE,), None)


def test_a_stream_that_ends_without_a_last_event_has_ended() -> None:
    assert read_back(streamed(event({"image": ONE}))) == ((), (ONE,), None)


def test_text_alone_is_an_answer_only_if_the_stream_ended() -> None:
    assert read_back(streamed(event({"text": "a"}, reason="stop")))[0] == ("a",)
    assert read_back(streamed(event({"text": "a"})))[0] == ("a",)
    with pytest.raises(OutcomeUnknown):
        streamed(event({"text": "a"}), error=httpx.ReadError("reset"))


@pytest.mark.parametrize("error", LOST, ids=lambda e: type(e).__name__)
def test_images_of_a_stream_that_broke_off_are_billed_and_kept(error: Exception) -> None:
    text = streamed(event({"image": ONE}, count=1), b"data:{", error=error)
    texts, images, failure = read_back(text)
    assert (texts, images) == ((), (ONE,))
    assert failure is not None
    assert failure.code == "StreamInterrupted"


@pytest.mark.parametrize("ending", [b"", b"\n", b"\n\n"])
def test_an_event_that_came_whole_counts_though_the_connection_broke_there(ending: bytes) -> None:
    data = event({"image": ONE}).removesuffix(b"\n\n") + ending
    assert read_back(streamed(data, error=httpx.ReadError("reset")))[1] == (ONE,)


@pytest.mark.parametrize("error", LOST, ids=lambda e: type(e).__name__)
def test_a_stream_that_broke_off_before_an_image_has_an_unknown_outcome(error: Exception) -> None:
    for chunks in ((), (event({"text": "a"}),), (b"data:{",)):
        with pytest.raises(OutcomeUnknown):
            streamed(*chunks, error=error)


@pytest.mark.parametrize("error", UNREACHED, ids=lambda e: type(e).__name__)
def test_a_stream_that_was_never_asked_for_may_be_later(error: Exception) -> None:
    wire = Wire(error)
    with pytest.raises(TryLater) as caught:
        connected(wire).generate(STREAM)
    assert caught.value.code == NOT_REACHED
    assert len(wire.requests) == 1


def test_a_stream_whose_request_never_left_whole_may_be_asked_for_later() -> None:
    wire = Wire(STUCK)
    with pytest.raises(TryLater) as caught:
        connected(wire).generate(STREAM)
    assert caught.value.code == NOT_SENT
    assert len(wire.requests) == 1


@pytest.mark.parametrize("error", LOST, ids=lambda e: type(e).__name__)
def test_a_stream_that_never_began_has_an_unknown_outcome_and_is_asked_for_once(
    error: Exception,
) -> None:
    wire = Wire(error)
    with pytest.raises(OutcomeUnknown):
        connected(wire).generate(STREAM)
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "DataInspectionFailed", ProviderRefused),
        (400, "BadRequest.InputDownloadFailed", InputNotFetched),
        (401, "InvalidApiKey", AccountRefused),
        (429, "Throttling", TryLater),
        (500, "InternalError", OutcomeUnknown),
        (200, "InternalError", OutcomeUnknown),
        (None, "InternalError", OutcomeUnknown),
    ],
)
def test_an_error_event_before_an_image_is_a_refusal_by_its_status(
    status: int | None, code: str, expected: type[Exception]
) -> None:
    for before in ((), (event({"text": "a"}),)):
        with pytest.raises(expected) as caught:
            streamed(*before, error_event(status, code), event({"image": ONE}, reason="stop"))
        assert getattr(caught.value, "code", None) == code


def test_an_error_event_after_an_image_is_told_with_the_images() -> None:
    text = streamed(event({"image": ONE}, count=1), error_event(), event({"image": TWO}))
    assert read_back(text) == (
        (),
        (ONE,),
        Failure(code="DataInspectionFailed", message="no", request_id="req-6"),
    )


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, json.dumps({"code": "InvalidParameter", "message": "no"}), ProviderRefused),
        (400, error_event(None).decode(), ProviderRefused),
        (401, json.dumps({"code": "InvalidApiKey"}), AccountRefused),
        (429, HTML, TryLater),
        (503, json.dumps({"code": "ServiceUnavailable"}), OutcomeUnknown),
        (502, HTML, OutcomeUnknown),
        (200, json.dumps({"code": "InternalError"}), OutcomeUnknown),
        (200, HTML, OutcomeUnknown),
        (200, "", OutcomeUnknown),
        (200, "data: [DONE]\n\n", OutcomeUnknown),
        (302, "", OutcomeUnknown),
    ],
)
def test_an_answer_to_a_call_for_a_stream_that_is_none(
    status: int, body: str, expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        streamed(body.encode(), status=status)


def test_a_stream_without_end_is_given_up() -> None:
    noise = b": " + b"x" * 1024 * 1024 + b"\n"
    with pytest.raises(OutcomeUnknown):
        streamed(*[noise] * 9)
    failure = read_back(streamed(event({"image": ONE}), *[noise] * 9))[2]
    assert failure is not None
    assert failure.code == "StreamInterrupted"


def test_a_stream_waits_as_long_as_any_synchronous_call() -> None:
    wire = Wire(httpx.Response(200, content=event({"image": ONE}, reason="stop")))
    connected(wire).generate(STREAM)
    assert wire.timeouts[0]["read"] >= 310


# --- fetch -----------------------------------------------------------------------------------------


def test_a_result_is_streamed_without_the_key() -> None:
    wire = Wire(lambda _: httpx.Response(200, stream=Chunks(b"\x89PNG", b"123")))
    assert fetched(connected(wire, workspace="llm-7"), RESULT) == b"\x89PNG123"
    assert str(wire.request.url) == RESULT
    assert "X-DashScope-WorkSpace" not in wire.request.headers
    assert "Authorization" not in wire.request.headers
    assert KEY not in repr(wire.request.headers.raw)


@pytest.mark.parametrize("host", sorted(RESULT_HOSTS))
def test_every_documented_host_may_be_fetched_from(host: str) -> None:
    wire = Wire(httpx.Response(200, content=b"x"))
    assert fetched(connected(wire), f"https://{host}/a.png") == b"x"


def test_http_of_an_allowed_host_is_upgraded_to_https() -> None:
    wire = Wire(httpx.Response(200, content=b"x"))
    fetched(connected(wire), RESULT.replace("https://", "http://"))
    assert str(wire.request.url) == RESULT


def test_the_host_may_be_written_in_capitals() -> None:
    wire = Wire(httpx.Response(200, content=b"x"))
    fetched(connected(wire), f"https://{HOST.upper()}/a.png")
    assert wire.request.url.host == HOST


UNKNOWN_HOSTS = [
    pytest.param("https://evil.example/a.png", id="another host"),
    pytest.param("http://evil.example/a.png", id="another host by http"),
    pytest.param(f"https://{HOST}.evil.example/a.png", id="a host that begins like it"),
    pytest.param(f"https://evil-{HOST}/a.png", id="a host that ends like it"),
    pytest.param(f"https://x.{HOST}/a.png", id="a host below it"),
    pytest.param(f"https://{HOST}@evil.example/a.png", id="as a user"),
    pytest.param(f"https://evil.example/{HOST}/a.png", id="as a path"),
    pytest.param(f"https://evil.example?{HOST}", id="as a query"),
    pytest.param(f"https://evil.example#@{HOST}/", id="as a fragment"),
    pytest.param(f"https://evil.example\\@{HOST}@evil.example/", id="a backslash"),
    pytest.param(f"https://{HOST}:8443/a.png", id="another port"),
    pytest.param("https://127.0.0.1/a.png", id="loopback"),
    pytest.param("http://localhost:8000/a.png", id="localhost"),
]
UNUSABLE_URLS = [
    pytest.param(f"https://{HOST}./a.png", id="a dot at the end"),
    pytest.param("https://2130706433/a.png", id="loopback as a number"),
    pytest.param("https://0xa9fea9fe/a.png", id="an address in hexadecimal"),
    pytest.param("https://169.254.43518/a.png", id="an address in three parts"),
    pytest.param("https://169.254.169.254./a.png", id="an address and a dot"),
    pytest.param("ftp://evil.example/a.png", id="by another protocol"),
    pytest.param("https://evil example/a.png", id="a space in the host"),
    pytest.param("https://" + "a" * 60_000 + "/a.png", id="a host that is too long"),
    pytest.param(f"https://{HOST}:99999/a.png", id="an impossible port"),
    pytest.param(f"https://{HOST}:x/a.png", id="no port"),
    pytest.param(f"ftp://{HOST}/a.png", id="ftp"),
    pytest.param(f"//{HOST}/a.png", id="no scheme"),
    pytest.param("https://169.254.169.254/latest/meta-data/", id="instance metadata"),
    pytest.param("https://[::1]/a.png", id="loopback of IPv6"),
    pytest.param("https://10.0.0.5/a.png", id="a private network"),
    pytest.param("https://10.0.0.5:8000/a.png", id="a private network with a port"),
    pytest.param("https://8.8.8.8/a.png", id="a public address"),
    pytest.param("https://127.0.0.2/a.png", id="another address of loopback"),
    pytest.param("https://[::ffff:10.0.0.5]/a.png", id="an address in an address"),
    pytest.param("file:///etc/passwd", id="a file"),
    pytest.param("data:image/png;base64,AAAA", id="data"),
    pytest.param("", id="empty"),
    pytest.param("a.png", id="a name"),
    pytest.param("https://", id="no host"),
    pytest.param("https://:443/a.png", id="a port without a host"),
    pytest.param("https://user@/a.png", id="a user without a host"),
    pytest.param("https://[", id="broken"),
    pytest.param("https://exa\u2100mple.com/a.png", id="broken otherwise"),
    pytest.param(f"https://{HOST}/\x01a.png", id="a control character"),
    pytest.param(f"https://{HOST}/" + "a" * 70_000, id="endless"),
    pytest.param(f"https://{HOST}/\ud800.png", id="no UTF-8"),
    pytest.param("https://\ud800/a.png", id="a host that is no UTF-8"),
]


def signed(url: str) -> str:
    return url + ("&" if "?" in url else "?") + "OSSAccessKeyId=LTAI&Signature=s3cret"


@pytest.mark.parametrize("url", UNKNOWN_HOSTS)
def test_results_from_elsewhere_wait_for_the_operator_and_nothing_is_sent(url: str) -> None:
    wire = Wire(httpx.Response(200, content=b"x"))
    with pytest.raises(ResultHostUnknown) as caught:
        fetched(connected(wire), signed(url))
    assert wire.requests == []
    assert isinstance(caught.value, OperatorError)
    assert caught.value.code == "ResultHostNotAllowed"
    assert "s3cret" not in str(caught.value)
    assert "LTAI" not in str(caught.value)


@pytest.mark.parametrize("url", UNUSABLE_URLS)
def test_results_that_no_list_can_allow_are_refused_before_anything_is_sent(url: str) -> None:
    wire = Wire(httpx.Response(200, content=b"x"))
    with pytest.raises(ProviderRefused) as caught:
        fetched(connected(wire), signed(url))
    assert wire.requests == []
    assert caught.value.code == "ResultHostNotAllowed"
    assert "s3cret" not in str(caught.value)
    assert "LTAI" not in str(caught.value)
    assert str(caught.value).encode()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://evil.example/a?Signature=secret", "evil.example"),
        ("https://user:secret@EVIL.example:8443/a", "evil.example:8443"),
        (f"https://{HOST}:443/a?Signature=secret", f"{HOST}:443"),
    ],
)
def test_an_unknown_host_is_named_as_it_would_be_added(url: str, named: str) -> None:
    with pytest.raises(ResultHostUnknown) as caught:
        fetched(connected(Wire(httpx.Response(200))), url)
    assert "secret" not in str(caught.value)
    assert f" {named};" in str(caught.value)


def test_an_operator_may_add_hosts_exactly_as_they_are_written() -> None:
    wire = Wire(lambda _: httpx.Response(200, content=b"x"))
    provider = connected(wire, hosts=("results.example.com", "results.example.com:8443"))
    assert fetched(provider, "https://results.example.com/a.png") == b"x"
    assert fetched(provider, "https://results.example.com:8443/a.png") == b"x"
    assert fetched(provider, RESULT) == b"x"
    for url in ("https://a.results.example.com/a.png", "https://results.example.com:9443/a.png"):
        with pytest.raises(ResultHostUnknown):
            fetched(provider, url)
    assert len(wire.requests) == 3


def test_an_added_host_is_fetched_by_https_too() -> None:
    wire = Wire(httpx.Response(200, content=b"x"))
    fetched(connected(wire, hosts=("results.example.com",)), "http://results.example.com/a.png")
    assert wire.request.url.scheme == "https"


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:9000"])
def test_a_simulator_on_loopback_is_fetched_by_http_where_its_port_was_added(host: str) -> None:
    wire = Wire(lambda _: httpx.Response(200, content=b"x"))
    provider = connected(wire, hosts=(host,))
    assert fetched(provider, f"http://{host}/a.png") == b"x"
    assert str(wire.request.url) == f"http://{host}/a.png"
    for other in (host.replace("9000", "9001"), host.removesuffix(":9000")):
        with pytest.raises(ResultHostUnknown):
            fetched(provider, f"http://{other}/a.png")
    assert len(wire.requests) == 1


@pytest.mark.parametrize("host", ["10.0.0.5", "169.254.169.254", "192.168.1.1:8000", "::1"])
def test_addresses_are_refused_even_if_they_were_added(host: str) -> None:
    wire = Wire(httpx.Response(200, content=b"x"))
    url = "https://[::1]/a.png" if host == "::1" else f"https://{host}/a.png"
    with pytest.raises(ProviderRefused):
        fetched(connected(wire, hosts=(host,)), url)
    assert wire.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["http://169.254.169.254/", f"https://{HOST}/b.png"])
def test_redirects_are_never_followed(status: int, target: str) -> None:
    wire = Wire(httpx.Response(status, headers={"Location": target}))
    with pytest.raises(ProviderRefused) as caught:
        fetched(connected(wire), RESULT)
    assert caught.value.code == "ResultHostNotAllowed"
    assert "Signature" not in str(caught.value)
    assert len(wire.requests) == 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_result_that_is_gone_is_gone(status: int) -> None:
    with pytest.raises(ProviderRefused, match=str(status)):
        fetched(connected(Wire(httpx.Response(status))), RESULT)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 206])
def test_other_answers_are_tried_again_later(status: int) -> None:
    with pytest.raises(TryLater, match=str(status)):
        fetched(connected(Wire(httpx.Response(status, content=b"x"))), RESULT)


@pytest.mark.parametrize("error", [*UNREACHED, STUCK, *LOST], ids=lambda e: type(e).__name__)
def test_a_download_that_failed_is_tried_again_later(error: Exception) -> None:
    with pytest.raises(TryLater):
        fetched(connected(Wire(error)), RESULT)


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(
            httpx.Response(200, headers={"Content-Length": "10"}, stream=Chunks(b"12345")),
            id="shorter than promised",
        ),
        pytest.param(
            httpx.Response(200, headers={"Content-Length": "10"}, stream=Chunks()),
            id="nothing of what was promised",
        ),
        pytest.param(
            httpx.Response(200, stream=Chunks(b"12345", error=httpx.ReadError("reset"))),
            id="reset in the middle",
        ),
        pytest.param(
            httpx.Response(200, stream=Chunks(b"1", error=httpx.ReadTimeout("silence"))),
            id="silence in the middle",
        ),
        pytest.param(
            httpx.Response(
                200, headers={"Content-Encoding": "gzip"}, stream=Chunks(b"not gzip at all")
            ),
            id="a broken content encoding",
        ),
    ],
)
def test_a_download_cut_off_is_tried_again_later(response: httpx.Response) -> None:
    with pytest.raises(TryLater):
        fetched(connected(Wire(response)), RESULT)


def test_a_download_as_long_as_promised_is_whole() -> None:
    response = httpx.Response(200, headers={"Content-Length": "5"}, stream=Chunks(b"12", b"345"))
    assert fetched(connected(Wire(response)), RESULT) == b"12345"


def test_a_compressed_download_is_not_mistaken_for_one_cut_off() -> None:
    image = random.Random(7).randbytes(10_000)  # like a PNG, it only grows when compressed

    def answer(request: httpx.Request) -> httpx.Response:
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return httpx.Response(200, content=image)
        body = gzip.compress(image)
        assert len(body) > len(image)
        headers = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}
        return httpx.Response(200, headers=headers, stream=Chunks(body))

    assert fetched(connected(Wire(answer)), RESULT) == image


def test_a_download_larger_than_any_result_is_stopped() -> None:
    sent = 0

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            nonlocal sent
            while True:
                sent += 1
                yield b"\0" * 1024 * 1024

    with (
        pytest.raises(ProviderRefused),
        connected(Wire(httpx.Response(200, stream=Endless()))).fetch(RESULT) as chunks,
    ):
        for _ in chunks:
            pass
    assert sent <= client_module.RESULT_MAX_BYTES // (1024 * 1024) + 1
