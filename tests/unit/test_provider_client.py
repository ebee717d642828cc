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

from retouch.errors import AccountRefused, OutcomeUnknown, ProviderRefused, TryLater
from retouch.jobs import Failure
from retouch.provider import client as client_module
from retouch.provider.client import DashScope
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


class Wire:
    """What went over the wire: every request, answered by `answer`."""

    def __init__(self, answer: Handler | httpx.Response | Exception):
        self.requests: list[httpx.Request] = []
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        if isinstance(self._answer, Exception):
            raise self._answer
        if isinstance(self._answer, httpx.Response):
            return self._answer
        return self._answer(request)

    @property
    def request(self) -> httpx.Request:
        assert len(self.requests) == 1
        return self.requests[0]


def connected(
    wire: Wire, *, hosts: tuple[str, ...] = (), key: Callable[[], str] = lambda: KEY
) -> DashScope:
    return DashScope(BASE + "/", key, result_hosts=hosts, transport=httpx.MockTransport(wire))


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


NOT_SENT = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("no route"),
    httpx.PoolTimeout("busy"),
]
LOST = [
    httpx.ReadTimeout("silence"),
    httpx.WriteTimeout("stuck"),
    httpx.ReadError("reset"),
    httpx.WriteError("broken pipe"),
    httpx.RemoteProtocolError("server disconnected"),
    httpx.CloseError("gone"),
]


def calls(provider: DashScope) -> list[Callable[[], object]]:
    return [lambda: provider.create(ASYNC), lambda: provider.generate(SYNC)]


@pytest.mark.parametrize("error", NOT_SENT, ids=lambda e: type(e).__name__)
def test_a_call_that_never_left_may_be_repeated_later(error: Exception) -> None:
    for number in range(2):
        wire = Wire(error)
        with pytest.raises(TryLater):
            calls(connected(wire))[number]()
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


# --- generate --------------------------------------------------------------------------------------


def test_a_synchronous_call_gives_back_the_body_to_be_kept() -> None:
    wire = Wire(httpx.Response(200, json=IMAGE_ANSWER))
    assert json.loads(connected(wire).generate(SYNC)) == IMAGE_ANSWER
    assert str(wire.request.url) == f"{BASE}/services/aigc/multimodal-generation/generation"


def test_a_synchronous_call_waits_longer_than_the_provider_cuts_it_at_300_seconds() -> None:
    wire = Wire(httpx.Response(200, json=IMAGE_ANSWER))
    connected(wire).generate(SYNC)
    timeout = wire.request.extensions["timeout"]
    assert timeout["read"] >= 310
    assert 5 <= timeout["connect"] <= 10


def test_a_create_gives_up_before_its_short_function_does() -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    connected(wire).create(ASYNC)
    timeout = wire.request.extensions["timeout"]
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
        *(pytest.param(error, id=type(error).__name__) for error in (*NOT_SENT, *LOST)),
        pytest.param(httpx.Response(500, json={"code": "InternalError"}), id="500"),
        pytest.param(httpx.Response(502, text=HTML), id="502"),
        pytest.param(httpx.Response(503), id="503"),
        pytest.param(httpx.Response(429, json={"code": "Throttling.RateQuota"}), id="429"),
        pytest.param(httpx.Response(408), id="408"),
        pytest.param(httpx.Response(200, text=HTML), id="HTML"),
        pytest.param(httpx.Response(200, text='{"output":{"task_st'), id="cut off"),
        pytest.param(httpx.Response(404, text=HTML), id="404 with HTML"),
        pytest.param(
            httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Chunks(b"not gzip")),
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
    ],
)
def test_a_query_that_failed_says_nothing_about_the_task(
    answer: httpx.Response | Exception,
) -> None:
    wire = Wire(answer)
    with pytest.raises(TryLater):
        connected(wire).query("task-1")
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "InvalidApiKey"), (403, "Workspace.AccessDenied"), (400, "Arrearage")],
)
def test_a_query_refused_for_the_account_says_nothing_about_the_task(
    status: int, code: str
) -> None:
    with pytest.raises(AccountRefused):
        connected(Wire(httpx.Response(status, json={"code": code}))).query("task-1")


def test_a_permanent_4xx_with_a_code_is_the_tasks_own_failure() -> None:
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


def test_a_permanent_4xx_without_a_code_ends_nothing() -> None:
    try:
        answer = connected(Wire(httpx.Response(400, json={"message": "?"}))).query("task-1")
    except TryLater:
        return
    assert not answer.terminal


# --- fetch -----------------------------------------------------------------------------------------


def test_a_result_is_streamed_without_the_key() -> None:
    wire = Wire(lambda _: httpx.Response(200, stream=Chunks(b"\x89PNG", b"123")))
    assert fetched(connected(wire), RESULT) == b"\x89PNG123"
    assert str(wire.request.url) == RESULT
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


REFUSED_URLS = [
    pytest.param("https://evil.example/a.png", id="another host"),
    pytest.param(f"https://{HOST}.evil.example/a.png", id="a host that begins like it"),
    pytest.param(f"https://evil-{HOST}/a.png", id="a host that ends like it"),
    pytest.param(f"https://x.{HOST}/a.png", id="a host below it"),
    pytest.param(f"https://{HOST}./a.png", id="a dot at the end"),
    pytest.param(f"https://{HOST}@evil.example/a.png", id="as a user"),
    pytest.param(f"https://evil.example/{HOST}/a.png", id="as a path"),
    pytest.param(f"https://evil.example?{HOST}", id="as a query"),
    pytest.param(f"https://evil.example#@{HOST}/", id="as a fragment"),
    pytest.param(f"https://evil.example\\@{HOST}@evil.example/", id="a backslash"),
    pytest.param(f"https://{HOST}:8443/a.png", id="another port"),
    pytest.param(f"https://{HOST}:99999/a.png", id="an impossible port"),
    pytest.param(f"https://{HOST}:x/a.png", id="no port"),
    pytest.param(f"ftp://{HOST}/a.png", id="ftp"),
    pytest.param(f"//{HOST}/a.png", id="no scheme"),
    pytest.param("https://127.0.0.1/a.png", id="loopback"),
    pytest.param("http://localhost:8000/a.png", id="localhost"),
    pytest.param("https://169.254.169.254/latest/meta-data/", id="instance metadata"),
    pytest.param("https://[::1]/a.png", id="loopback of IPv6"),
    pytest.param("https://10.0.0.5/a.png", id="a private network"),
    pytest.param("https://2130706433/a.png", id="loopback as a number"),
    pytest.param("file:///etc/passwd", id="a file"),
    pytest.param("data:image/png;base64,AAAA", id="data"),
    pytest.param("", id="empty"),
    pytest.param("a.png", id="a name"),
    pytest.param("https://", id="no host"),
    pytest.param("https://[", id="broken"),
    pytest.param("https://exa\u2100mple.com/a.png", id="broken otherwise"),
    pytest.param(f"https://{HOST}/\x01a.png", id="a control character"),
    pytest.param(f"https://{HOST}/" + "a" * 70_000, id="endless"),
]


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_results_from_elsewhere_are_refused_before_anything_is_sent(url: str) -> None:
    wire = Wire(httpx.Response(200, content=b"x"))
    with pytest.raises(ProviderRefused):
        fetched(connected(wire), url)
    assert wire.requests == []


def test_a_refused_url_is_not_repeated_with_its_signature() -> None:
    with pytest.raises(ProviderRefused) as caught:
        fetched(connected(Wire(httpx.Response(200))), "https://evil.example/a?Signature=secret")
    assert "secret" not in str(caught.value)
    assert "evil.example" in str(caught.value)


def test_an_operator_may_add_hosts_exactly_as_they_are_written() -> None:
    wire = Wire(lambda _: httpx.Response(200, content=b"x"))
    provider = connected(wire, hosts=("results.example.com", "results.example.com:8443"))
    assert fetched(provider, "https://results.example.com/a.png") == b"x"
    assert fetched(provider, "https://results.example.com:8443/a.png") == b"x"
    assert fetched(provider, RESULT) == b"x"
    for url in ("https://a.results.example.com/a.png", "https://results.example.com:9443/a.png"):
        with pytest.raises(ProviderRefused):
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
        with pytest.raises(ProviderRefused):
            fetched(provider, f"http://{other}/a.png")


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
    with pytest.raises((ProviderRefused, TryLater)):
        fetched(connected(wire), RESULT)
    assert len(wire.requests) == 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_result_that_is_gone_is_gone(status: int) -> None:
    with pytest.raises(ProviderRefused, match=str(status)):
        fetched(connected(Wire(httpx.Response(status))), RESULT)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 206])
def test_other_answers_are_tried_again_later(status: int) -> None:
    with pytest.raises(TryLater, match=str(status)):
        fetched(connected(Wire(httpx.Response(status, content=b"x"))), RESULT)


@pytest.mark.parametrize("error", [*NOT_SENT, *LOST], ids=lambda e: type(e).__name__)
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


def test_a_closed_client_sends_nothing_more() -> None:
    wire = Wire(httpx.Response(200, json=CREATED))
    provider = connected(wire)
    provider.close()
    with pytest.raises(RuntimeError):
        provider.query("task-1")
    assert wire.requests == []
