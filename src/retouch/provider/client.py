"""The provider over HTTP. The one module that knows httpx.

A call that bills is sent once and never repeated here; what is known about its outcome is in the
error's class. Calls that bill nothing are tried up to three times. The API key goes to the base URL
and nowhere else, never to a result's host or to the temporary storage.

Every call has an end. httpx limits only each read and each write, so a request's body is sent in
small pieces and an answer's is read as it comes, both against one deadline for the whole call.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from retouch import __version__
from retouch.errors import (
    NOT_REACHED,
    NOT_SENT,
    AccountRefused,
    InputNotFetched,
    OutcomeUnknown,
    ProviderRefused,
    ResultHostUnknown,
    SettingsError,
    TryLater,
)
from retouch.jobs import Failure
from retouch.provider.answers import (
    PROVIDER_ZONE,
    ListedTask,
    TaskAnswer,
    TaskPage,
    clean,
    created_task,
    failure_in,
    parse,
    request_id_in,
    task_answer,
    task_page,
)
from retouch.provider.refusals import refusal
from retouch.provider.requests import Request
from retouch.provider.streams import INTERRUPTED, Stream
from retouch.registry import RESULT_HOSTS, Json

JSON_MAX_BYTES: Final = 8 * 1024 * 1024
"""A larger answer of the interface is no answer."""
RESULT_MAX_BYTES: Final = 100 * 1024 * 1024
LIST_DAY_SECONDS: Final = 24 * 3600
"""The list's longest window, and how long tasks are known at all (contract 2.4, 2.5)."""
LIST_MAX_PAGES: Final = 1_000

# At INFO httpx logs every URL, and a result's URL is signed.
logging.getLogger("httpx").setLevel(logging.WARNING)
_LOOPBACK: Final = ("127.0.0.1", "localhost")
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""Of IPv6, all that the Internet is made of."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""What a network without IPv4 reaches IPv4 by; the address is in the last four bytes."""
_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)
_JSON: Final = "application/json; charset=utf-8"
_PAUSES: Final = ((0.3, 1.0), (0.6, 2.0))
"""Between the tries of a call that is safe to repeat, in seconds, drawn from within."""
_HOST: Final = re.compile(r"(?=.{1,253}$)([a-z0-9-]{1,63}\.)+[a-z][a-z0-9-]{0,62}", re.IGNORECASE)
_PIECE_BYTES: Final = 64 * 1024
_SHORTEST_SECONDS: Final = 0.05
"""A socket takes 0 for "do not wait at all"."""
_KEY: Final = re.compile(r"[!-~]+")
_WORKSPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")
_STORAGE_CODE: Final = re.compile(r"<Code>([A-Za-z0-9._-]{1,100})</Code>")


@dataclass(frozen=True)
class Limit:
    """Seconds: until an answer begins, and until the call is given up whatever has come."""

    first_byte: float
    total: float


@dataclass(frozen=True)
class Limits:
    """How long calls may take, in seconds. A call ends at its total and one `pause` at the latest.

    `connect` is for each step of connecting, of which there may be several; if they take more than
    twice as long, nothing is sent. `write` and `pause` are for the time without progress while
    sending, and while the rest of an answer comes. `ask` covers all tries of a call that bills
    nothing. Only an answer's head that comes in drops is not limited as a whole.
    """

    connect: float = 5.0
    write: float = 10.0
    pause: float = 5.0
    create: Limit = Limit(first_byte=20.0, total=22.0)
    generate: Limit = Limit(first_byte=310.0, total=315.0)
    """The provider cuts a synchronous call at 300 s (contract 3.3)."""
    ask: Limit = Limit(first_byte=15.0, total=15.0)
    upload: Limit = Limit(first_byte=20.0, total=40.0)
    fetch: Limit = Limit(first_byte=30.0, total=120.0)


def connection_pool(transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """The one pool of connections of a process, for every `DashScope` in it.

    It takes no proxy or credentials from the environment, follows no redirect and keeps no cookie, so
    that calls stand alone whatever a gateway answers. `transport` is the seam for tests.
    """
    limits = Limits()
    return httpx.Client(
        transport=transport,
        follow_redirects=False,
        trust_env=False,
        headers={"User-Agent": f"retouch/{__version__}", "Accept-Encoding": "gzip, deflate"},
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=())),
        timeout=httpx.Timeout(limits.ask.first_byte, connect=limits.connect),
        # A connection that was idle for long may have been dropped without a word, which a call that
        # bills would learn only after it was sent.
        limits=httpx.Limits(
            max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0
        ),
    )


@dataclass(frozen=True)
class _Reply:
    """What came back: the status and the JSON object of the body, if it was one, and its text."""

    status: int
    body: dict[str, Json] | None
    text: str


@dataclass(frozen=True)
class _Policy:
    """Where a file may be uploaded to, and what must go with it (contract 6.2)."""

    url: str
    folder: str
    fields: dict[str, str]
    max_bytes: float


class DashScope:
    """The provider's interface at one base URL, which ends in `/api/v1`.

    `key` is called for each request, so that a rotated key is used without a restart. `http` comes
    from `connection_pool` and may be shared. `workspace` is named in every call to the base URL
    (contract 1.3). `result_hosts` are hosts beside the documented ones that results may come from
    (contract 6.3). `sleep` and `jitter` make the pauses between the tries of a call that bills
    nothing.

    Raises:
        SettingsError: `workspace` is not an id.
    """

    def __init__(
        self,
        base_url: str,
        key: Callable[[], str],
        *,
        http: httpx.Client,
        workspace: str | None = None,
        result_hosts: tuple[str, ...] = (),
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
        limits: Limits = Limits(),
    ):
        if workspace and not _WORKSPACE.fullmatch(workspace):
            raise SettingsError("the workspace is not an id such as llm-…")
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._http = http
        self._workspace = workspace
        self._result_hosts = frozenset((*RESULT_HOSTS, *result_hosts))
        self._sleep = sleep
        self._jitter = jitter
        self._limits = limits

    # --- calls that bill ---------------------------------------------------------------------------

    def create(self, request: Request) -> tuple[str, str | None]:
        """Make an asynchronous task; its id and the request id (contract 2.1). Bills; sent once.

        Raises:
            ProviderRefused, AccountRefused, TryLater: nothing was made.
            InputNotFetched: likewise, because an image could not be downloaded.
            OutcomeUnknown: a task may have been made.
            SettingsError: the key cannot be sent.
        """
        reply = self._bill(request, self._limits.create)
        task_id = created_task(reply.body) if reply.body is not None else None
        if reply.body is None or task_id is None:
            raise OutcomeUnknown(f"HTTP {reply.status} without a task id")
        return task_id, request_id_in(reply.body)

    def generate(self, request: Request) -> str:
        """Make a synchronous call; the body of a successful answer (contract 3.3). Bills; sent once.

        A streamed answer is merged into one body of the ordinary shape (contract 4.6). Where it broke
        off after an image, that body has `code` and `message` at its top: what came before is billed.

        Raises:
            As `create`; OutcomeUnknown also for an answer without an image.
        """
        if request.stream:
            return self._streamed(request)
        reply = self._bill(request, self._limits.generate)
        if reply.body is None or not task_answer(reply.body, synchronous=True).images:
            raise OutcomeUnknown(f"HTTP {reply.status} without an image")
        return reply.text

    def _bill(self, request: Request, limit: Limit) -> _Reply:
        sent = self._posted(request, self._headers())
        with _billing():
            reply = self._exchange(sent, limit)
        if reply.status >= 400:
            raise _refused(reply, bills=True)
        return reply

    def _streamed(self, request: Request) -> str:
        headers = self._headers() | {
            "Accept": "text/event-stream",
            "X-Accel-Buffering": "no",  # as the SDK does: no gateway is to hold events back
            "X-DashScope-SSE": "enable",
        }
        sent = self._posted(request, headers)
        stream = Stream()
        status = 0
        broken: str | None = None
        try:
            with self._opened(sent, self._limits.generate) as (response, deadline):
                status = response.status_code
                # Between two images a stream is silent for long, which is why the time of one read
                # cannot be limited in place of the whole.
                _allow(response, deadline - time.monotonic())
                with _cut_off(response, deadline):
                    for chunk in response.iter_bytes():
                        stream.feed(chunk)
                        if stream.over:
                            break
                        if stream.size > JSON_MAX_BYTES:
                            broken = "it is too large"
                            break
        except _NOT_SENT as error:
            raise _not_reached(error) from error
        except httpx.WriteTimeout as error:
            raise _not_sent() from error
        except httpx.RequestError as error:
            broken = type(error).__name__
        stream.finish()
        return _stream_answer(stream, status, None if stream.over else broken)

    def _posted(self, request: Request, headers: dict[str, str]) -> httpx.Request:
        content = json.dumps(request.body, ensure_ascii=False).encode("utf-8", "replace")
        return self._http.build_request(
            "POST",
            f"{self._base_url}/{request.path}",
            content=content,
            headers={**headers, "Content-Type": _JSON, **request.headers},
        )

    # --- calls that are safe to repeat -------------------------------------------------------------

    def query(self, task_id: str) -> TaskAnswer:
        """The state of a task (contract 2.2).

        Raises:
            TryLater: the query failed three times, which says nothing about the task.
            AccountRefused: likewise, and an operator must act.
            SettingsError: the key cannot be sent, or the base URL is not the interface's.
        """
        reply = self._ask("GET", f"tasks/{_quoted(task_id)}")
        said = failure_in(reply.body or {})
        if reply.status >= 400 and (
            reply.status != 400 or (said is not None and "url error" in said.message)
        ):
            raise SettingsError(
                f"the provider's base URL {self._base_url} answers a query with HTTP {reply.status}; "
                "is it right?"
            )
        # The choices protocol may report a failed task as a permanent 4xx (contract 4.4).
        return task_answer(reply.body or {}, refused=reply.status >= 400)

    def tasks(
        self,
        *,
        start: float,
        end: float,
        model: str | None = None,
        status: str | None = None,
        page_size: int = 100,
    ) -> Iterator[ListedTask]:
        """The account's tasks made between two times, in Unix seconds, each once (contract 2.5).

        Of a window longer than a day the last day is listed. Rows without a task's id are passed
        over. Pages are asked for while the tasks are taken, and the list ends with an empty or
        repeated page or with a last one that is not full.

        Raises:
            TryLater: a page could not be had, or there is no end to them; the list is then incomplete.
            AccountRefused, SettingsError: as `query`.
            ProviderRefused: the provider refuses the question.
        """
        start = max(start, end - LIST_DAY_SECONDS)
        seen: set[str] = set()
        for number in range(1, LIST_MAX_PAGES + 1):
            params = {
                "page_no": str(number),
                "page_size": str(page_size),
                "start_time": _second(math.floor(start)),
                "end_time": _second(math.ceil(end)),
            }
            if model is not None:
                params["model_name"] = model
            if status is not None:
                params["status"] = status
            page = self._page(params)
            new = [task for task in page.tasks if task.task_id not in seen]
            for task in new:
                if task.task_id not in seen:
                    seen.add(task.task_id)
                    yield task
            # The number of pages is believed only where the page itself agrees that it is the last.
            full = page.rows >= (page.size or page_size)
            last = page.pages is not None and number >= page.pages and not full
            if last or not new:
                return
        raise TryLater(f"the list of tasks did not end after {LIST_MAX_PAGES} pages")

    def _page(self, params: Mapping[str, str]) -> TaskPage:
        reply = self._ask("GET", "tasks", params)
        if reply.status >= 400:
            raise _refused(reply, bills=False)
        page = task_page(reply.body or {})
        if page is None:  # to take it for an empty one would be to say that there are no tasks
            raise TryLater("the answer to the list call has no list")
        return page

    def cancel(self, task_id: str) -> bool:
        """Cancel a task that is still PENDING; whether the provider took it (contract 2.6).

        False is an ordinary outcome: tasks leave PENDING at once. It can also stand for a cancel that
        was taken but whose answer was lost, so only a query tells what became of the task.

        Raises:
            TryLater, AccountRefused, SettingsError: as `query`.
            ProviderRefused: the provider refuses for another reason.
        """
        reply = self._ask("POST", f"tasks/{_quoted(task_id)}/cancel")
        if reply.status < 400:
            return True
        error = _refused(reply, bills=False)
        if isinstance(error, ProviderRefused) and error.code == "UnsupportedOperation":
            return False
        raise error

    def upload(self, model: str, name: str, data: bytes, mime: str) -> str:
        """Put an image into the provider's temporary storage; its `oss://` URL (contract 6.2, 7.5).

        It is readable for 48 h, by the same account and for `model` only. `name` must be new each
        time; characters other than letters, digits, dot, dash and underscore are replaced. Nothing is
        billed.

        Raises:
            ProviderRefused: it is too large (`UploadTooLarge`), or the storage refuses it.
            TryLater: the policy or the upload could not be had.
            AccountRefused, SettingsError: as `query`.
        """
        safe = _NAME.sub("_", name)[-100:] or "image"
        for _ in range(2):
            policy = self._policy(model)
            if len(data) > policy.max_bytes:
                raise ProviderRefused(
                    "UploadTooLarge",
                    f"{len(data)} bytes are more than the {policy.max_bytes:.0f} that the provider's "
                    "temporary storage takes",
                )
            key = f"{policy.folder}/{safe}"
            if self._stored(policy, key, safe, data, mime):
                return f"oss://{key}"
        raise TryLater(
            "the upload's policy had expired, and so had a new one", code="PolicyExpired"
        )

    def _policy(self, model: str) -> _Policy:
        reply = self._ask("GET", "uploads", {"action": "getPolicy", "model": model})
        if reply.status >= 400:
            raise _refused(reply, bills=False)
        policy = _policy_in(reply.body or {})
        if policy is None:
            raise TryLater("the provider's upload policy cannot be used", code="StrangePolicy")
        return policy

    def _stored(self, policy: _Policy, key: str, name: str, data: bytes, mime: str) -> bool:
        """Post the form; False where the policy had expired."""
        fields = policy.fields
        try:
            sent = self._http.build_request(
                "POST",
                policy.url,
                headers={"Accept": "application/json"},
                data={  # in the order of the contract; the file is last
                    "OSSAccessKeyId": fields["oss_access_key_id"],
                    "Signature": fields["signature"],
                    "policy": fields["policy"],
                    "key": key,
                    "x-oss-object-acl": fields["x_oss_object_acl"],
                    "x-oss-forbid-overwrite": fields["x_oss_forbid_overwrite"],
                    "success_action_status": "200",
                    "x-oss-content-type": mime,
                },
                files={"file": (name, data, mime)},
            )
            reply = self._exchange(sent, self._limits.upload)
        except httpx.InvalidURL as error:
            raise TryLater(
                "the provider's upload policy cannot be used", code="StrangePolicy"
            ) from error
        except _NOT_SENT as error:
            raise _not_reached(error) from error
        except httpx.RequestError as error:
            raise TryLater(f"the upload failed: {type(error).__name__}", code=NOT_SENT) from error
        if reply.status == 200:
            return True
        if reply.status == 403 and "Policy expired" in reply.text:
            return False
        found = _STORAGE_CODE.search(reply.text)
        code = found[1] if found else f"HTTP{reply.status}"
        said = f"the temporary storage answered HTTP {reply.status}"
        if code == "EntityTooLarge" or reply.status == 413:
            raise ProviderRefused("UploadTooLarge", f"{said} {code}")
        # A policy is the provider's own and short-lived, and a name may be taken: the next try has
        # another policy and another folder.
        if reply.status < 400 or reply.status in (403, 408, 409, 429) or reply.status >= 500:
            raise TryLater(said, code=code)
        raise ProviderRefused(code, said)

    def _ask(self, method: str, path: str, params: Mapping[str, str] | None = None) -> _Reply:
        """Make a call that is safe to repeat, up to three times within one limit.

        The reply has a body; its status is below 300, or a permanent 4xx that is not the account's.
        """
        deadline = time.monotonic() + self._limits.ask.total
        for low, high in _PAUSES:
            try:
                return self._asked(method, path, params, deadline)
            except TryLater:
                pause = self._jitter(low, high)
                if time.monotonic() + pause >= deadline:
                    raise
                self._sleep(pause)
        return self._asked(method, path, params, deadline)

    def _asked(
        self, method: str, path: str, params: Mapping[str, str] | None, deadline: float
    ) -> _Reply:
        left = max(deadline - time.monotonic(), _SHORTEST_SECONDS)
        sent = self._http.build_request(
            method, f"{self._base_url}/{path}", params=params, headers=self._headers()
        )
        try:
            reply = self._exchange(sent, Limit(min(self._limits.ask.first_byte, left), left))
        except _NOT_SENT as error:
            raise _not_reached(error) from error
        except httpx.RequestError as error:
            raise TryLater(f"no answer from the provider: {type(error).__name__}") from error
        if reply.status >= 400:
            refused = _refused(reply, bills=False)
            # An input that was not fetched is a task's own failure, not the question's.
            if not isinstance(refused, ProviderRefused | InputNotFetched):
                raise refused
        if reply.body is None or 300 <= reply.status < 400:
            raise TryLater(f"the answer was not the provider's JSON (HTTP {reply.status})")
        return reply

    # --- results -----------------------------------------------------------------------------------

    @contextmanager
    def fetch(self, url: str) -> Iterator[Iterator[bytes]]:
        """Stream a result (contract 6.3), without the key and without the workspace.

        Only from public addresses, whatever the host's name leads to when it is connected to: nothing
        is asked of another one. The simulator's, on a listed host of loopback, is the exception.

        Raises:
            ResultHostUnknown: the host is not on the list, or its name leads to a private address.
            ProviderRefused: the URL is not one that results may come from, or it has expired, or
                there is more than `RESULT_MAX_BYTES` behind it.
            TryLater: the download failed or was too slow; it may be repeated.
        """
        checked = self._result_url(url)
        try:
            sent = self._http.build_request("GET", checked)
        except (httpx.InvalidURL, UnicodeError):
            raise ProviderRefused("ResultHostNotAllowed", "the result has no usable URL") from None
        limit = self._limits.fetch
        host = sent.url.host
        check = None if host in _LOOPBACK else partial(_check_public, host)
        try:
            with self._opened(sent, limit, check) as (response, deadline):
                if response.status_code in (403, 404):
                    raise ProviderRefused(
                        "ResultGone", f"the result's URL answered HTTP {response.status_code}"
                    )
                if response.is_redirect:
                    raise ProviderRefused(
                        "ResultHostNotAllowed", "the result's URL leads elsewhere by a redirect"
                    )
                if response.status_code != 200:
                    raise TryLater(f"the result's URL answered HTTP {response.status_code}")
                _allow(response, limit.first_byte)
                with closing(_capped(response, deadline)) as chunks:
                    yield chunks
        except httpx.RequestError as error:
            raise TryLater(f"the download failed: {type(error).__name__}") from error

    def _result_url(self, url: str) -> str:
        """The URL to fetch: an allowed host, https; http is only for a loopback host."""
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            named = f"{host}:{parts.port}" if parts.port is not None else host
        except ValueError:
            raise ProviderRefused("ResultHostNotAllowed", "the result has no usable URL") from None
        if parts.scheme not in ("http", "https"):
            raise ProviderRefused("ResultHostNotAllowed", "results come by https only")
        if host not in _LOOPBACK and not _HOST.fullmatch(host):
            # An address in any spelling among them, which no list can allow.
            said = f"{clean(host, 300) or 'that URL'} is no host name"
            raise ProviderRefused("ResultHostNotAllowed", said)
        if named not in self._result_hosts:
            raise ResultHostUnknown(
                f"results may not come from {clean(named, 300)}; an operator may add the host to "
                "ResultHosts, within 24 h of the job's end"
            )
        if host in _LOOPBACK:
            return url
        return urlunsplit(parts._replace(scheme="https"))

    # --- the wire ----------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        """What every call to the base URL carries."""
        key = self._key()
        if not _KEY.fullmatch(key):  # found further down, it would stand in the error
            raise SettingsError("the API key is empty or has characters that no key has")
        headers = {"Authorization": f"Bearer {key}", "Accept": _JSON}
        if self._workspace:
            headers["X-DashScope-WorkSpace"] = self._workspace
        return headers

    @contextmanager
    def _opened(
        self,
        request: httpx.Request,
        limit: Limit,
        check: Callable[[Any], None] | None = None,
    ) -> Iterator[tuple[httpx.Response, float]]:
        """Send a request; the response with its body unread, and when the call must end.

        What httpcore calls `trace` is told of each step, which is where one deadline can shorten the
        limits of the steps. If connecting took too long, the request is not sent at all. `check` sees
        the connection, what httpcore calls a network stream: a new one before anything is sent over
        it, and in any case before the body is read; what it raises ends the call.
        """
        begun = time.monotonic()
        deadline = begun + limit.total
        timeouts = {
            "connect": min(self._limits.connect, limit.total),
            "pool": min(self._limits.connect, limit.total),
            "write": min(self._limits.write, limit.total / 2),
            "read": limit.first_byte,
        }

        def follow(step: str, info: Mapping[str, Any]) -> None:
            now = time.monotonic()
            if check is not None and step.endswith("connect_tcp.complete"):
                try:
                    check(info["return_value"])
                except BaseException:
                    info["return_value"].close()  # which nobody else would
                    raise
            late = now - begun > 2 * self._limits.connect
            if late and step.endswith("send_request_headers.started"):
                raise httpx.ConnectTimeout("connecting took too long")
            if step.endswith("receive_response_headers.started"):
                left = min(limit.first_byte, deadline - now)
                timeouts["read"] = max(left, _SHORTEST_SECONDS)

        request.extensions = {**request.extensions, "timeout": timeouts, "trace": follow}
        assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101  built above
        request.stream = _Paced(request.stream, deadline - timeouts["write"])
        response = self._http.send(request, stream=True, auth=None, follow_redirects=False)
        try:
            network = response.extensions.get("network_stream")
            if check is not None and network is not None:
                check(network)  # it may be one that was opened for another call
            yield response, deadline
        finally:
            response.close()

    def _exchange(self, request: httpx.Request, limit: Limit) -> _Reply:
        """Send a request and read the answer.

        Raises:
            httpx.RequestError: there was none, or not all of it in time.
        """
        content = bytearray()
        broken: httpx.RequestError | None = None
        with self._opened(request, limit) as (response, deadline):
            _allow(response, min(self._limits.pause, deadline - time.monotonic()))
            try:
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > deadline:
                        broken = httpx.ReadTimeout("the answer took too long")
                        break
                    if len(content) > JSON_MAX_BYTES:
                        return _Reply(response.status_code, None, "")
            except httpx.RequestError as error:
                broken = error
        # UTF-8 whatever charset a gateway claims; damage shows as damaged JSON.
        text = content.decode("utf-8", "replace")
        body = parse(text)
        if broken is not None and body is None:  # an object that is whole lacks nothing
            raise broken
        return _Reply(response.status_code, body, text)


class _Paced(httpx.SyncByteStream):
    """A request's body in pieces small enough that sending it can be given up in time."""

    def __init__(self, whole: Iterable[bytes], until: float):
        self._whole = whole
        self._until = until

    def __iter__(self) -> Iterator[bytes]:
        for part in self._whole:
            for start in range(0, len(part), _PIECE_BYTES):
                if time.monotonic() > self._until:
                    raise httpx.WriteTimeout("sending the request took too long")
                yield part[start : start + _PIECE_BYTES]


def _allow(response: httpx.Response, seconds: float) -> None:
    """Limit each read of a body from here on; httpcore looks when the first is made."""
    response.request.extensions["timeout"]["read"] = max(seconds, _SHORTEST_SECONDS)


@contextmanager
def _cut_off(response: httpx.Response, deadline: float) -> Iterator[None]:
    """Shut the connection down at the deadline, which ends a read that waits."""
    network = response.extensions.get("network_stream")
    connection = network.get_extra_info("socket") if network is not None else None
    if not isinstance(connection, socket.socket):
        yield  # a transport without one
        return

    def shut() -> None:
        with suppress(OSError):  # closed already
            # Not the method of a TLS socket, which would take its state from under the reader.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(max(deadline - time.monotonic(), 0.0), shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check_public(host: str, network: Any) -> None:
    """Look at where a connection really leads, which is more than what a look-up of the name says.

    Raises:
        ResultHostUnknown: to an address that is not public.
        httpx.ReadError: it is broken already.
    """
    try:
        end = network.get_extra_info("server_addr")
    except OSError as error:
        raise httpx.ReadError("the connection broke") from error
    address = str(end[0]) if isinstance(end, tuple) and end else ""
    if not _is_public(address):
        raise ResultHostUnknown(
            f"results may not come from {clean(host, 300)}: its name leads to "
            f"{address or 'an unknown address'}, which is not public; an operator may mend that, "
            "within 24 h of the job's end"
        )


def _is_public(text: str) -> bool:
    """Whether that is an address of the Internet, not of the network that we are in."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is None:
            return address in _UNICAST and address.is_global
        address = inner
    return address.is_global and not address.is_multicast


def _capped(response: httpx.Response, deadline: float) -> Generator[bytes]:
    total = 0
    promised = response.headers.get("Content-Length")
    # A server can send for ever without a byte of the body, which no limit of a read or a chunk sees.
    with _cut_off(response, deadline):
        for chunk in response.iter_bytes():
            total += len(chunk)
            if time.monotonic() > deadline:
                raise TryLater("the download took too long")
            if total > RESULT_MAX_BYTES:
                raise ProviderRefused(
                    "ResultTooLarge", f"the result has more than {RESULT_MAX_BYTES} bytes"
                )
            yield chunk
    if time.monotonic() > deadline:  # where no length is promised, being cut off looks like the end
        raise TryLater("the download took too long")
    # Of a compressed body the length says nothing about what comes out of it.
    plain = response.headers.get("Content-Encoding", "identity") == "identity"
    if plain and promised is not None and promised.isdecimal() and total < int(promised):
        raise TryLater(f"the download ended after {total} of {promised} bytes")


def _not_sent() -> TryLater:
    """A part of the body never left, so nobody can have read a request in it."""
    return TryLater("the request could not be sent in time", code=NOT_SENT)


@contextmanager
def _billing() -> Iterator[None]:
    """What a broken exchange means for a call that bills."""
    try:
        yield
    except _NOT_SENT as error:
        raise _not_reached(error) from error
    except httpx.WriteTimeout as error:
        raise _not_sent() from error
    except httpx.RequestError as error:
        raise OutcomeUnknown(f"no answer to a call that bills: {type(error).__name__}") from error


def _not_reached(error: Exception) -> TryLater:
    return TryLater(f"the provider was not reached: {type(error).__name__}", code=NOT_REACHED)


def _refused(
    reply: _Reply, *, bills: bool
) -> ProviderRefused | AccountRefused | TryLater | OutcomeUnknown:
    found = failure_in(reply.body) if reply.body is not None else None
    return _refusal(reply.status, found, bills=bills)


def _refusal(
    status: int, found: Failure | None, *, bills: bool
) -> ProviderRefused | AccountRefused | TryLater | OutcomeUnknown:
    return refusal(
        status,
        found.code if found else f"HTTP{status}",
        found.message if found else "an answer that is not the provider's JSON",
        found.request_id if found else None,
        bills=bills,
    )


def _stream_answer(stream: Stream, status: int, broken: str | None) -> str:
    """What a stream that has ended amounts to; `broken` is why it ended early."""
    failure = stream.failure
    if stream.images:
        if failure is None and broken is not None:
            failure = Failure(code=INTERRUPTED, message=f"the stream broke off: {broken}")
        return json.dumps(stream.answer(failure), ensure_ascii=False)
    if failure is not None:
        at = max(stream.failure_status or 0, status)
        if at < 400:  # nobody says whether it was refused or failed half way
            raise OutcomeUnknown(f"HTTP {at} {failure.code}: {failure.message}", code=failure.code)
        raise _refusal(at, failure, bills=True)
    if broken is not None:
        raise OutcomeUnknown(f"the stream of a call that bills broke off: {broken}")
    if status >= 400:
        raise _refusal(status, None, bills=True)
    if stream.empty:
        raise OutcomeUnknown(f"HTTP {status} without an image")
    return json.dumps(stream.answer(), ensure_ascii=False)


def _policy_in(body: dict[str, Json]) -> _Policy | None:
    """The upload policy in an answer, whose wrapper has two names (contract 6.2)."""
    data = body.get("data") or body.get("output")
    if not isinstance(data, dict):
        return None
    names = (
        "oss_access_key_id",
        "signature",
        "policy",
        "upload_dir",
        "upload_host",
        "x_oss_object_acl",
        "x_oss_forbid_overwrite",
    )
    fields: dict[str, str] = {}
    for name in names:
        value = data.get(name)
        if isinstance(value, bool):
            value = str(value).lower()
        text = clean(value, 10_000)
        if text is None:
            return None
        fields[name] = text
    url = _upload_url(fields["upload_host"])
    largest = data.get("max_file_size_mb", math.inf)
    if isinstance(largest, bool) or not isinstance(largest, int | float) or not largest > 0:
        return None
    if url is None:
        return None
    return _Policy(url, fields["upload_dir"].strip("/"), fields, largest * 1024 * 1024)


def _upload_url(text: str) -> str | None:
    """Where a policy sends a file: https to a named host, or anything on loopback."""
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return None
    if "@" in parts.netloc or not host:
        return None
    if host in _LOOPBACK:
        return text if parts.scheme in ("http", "https") else None
    return text if parts.scheme == "https" and not _is_address(host) else None


def _quoted(task_id: str) -> str:
    return quote(task_id, safe="", errors="replace")


def _second(moment: int) -> str:
    """A time for the list call; its zone is not documented and taken for UTC+8 (contract 2.5)."""
    return datetime.fromtimestamp(moment, PROVIDER_ZONE).strftime("%Y%m%d%H%M%S")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
