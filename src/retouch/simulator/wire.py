"""The outermost layer of the app: logs every request, and does the faults that are in force.

It stands between the server and the routes, so that a fault can happen before a request is seen,
or after it was handled and before its answer is known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retouch.simulator.faults import Fault, Route
from retouch.simulator.journal import SeenRequest, shortened
from retouch.simulator.results import RESULTS_PATH
from retouch.simulator.rules import MULTIMODAL_GENERATION
from retouch.simulator.uploads import UPLOAD_PATH

if TYPE_CHECKING:
    from retouch.simulator.app import Provider

API_PATH = "/api/v1/"
CONTROL_PATH = "/_simulator/"
# Where the server leaves the connection for `cut_before` and its like; see `serving.py`.
TRANSPORT = "transport"
SEEN = "seen"

_EVENT_STREAM = "text/event-stream"
_EVENT_END = b"\n\n"
_SECRET_QUERY = frozenset({"Signature", "OSSAccessKeyId"})


class Wire:
    """ASGI middleware around the provider's routes; the control routes pass untouched."""

    def __init__(self, app: ASGIApp, provider: Provider) -> None:
        self._app = app
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PATH):
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        route = route_of(method, path)
        body = b""
        if route != "upload":
            read = await _read_body(receive, self._provider.config.max_body_bytes)
            if read is None:
                await Response(status_code=413)(scope, receive, send)
                return
            body = read
        seen = self._open(scope, route, body)
        scope.setdefault("state", {})[SEEN] = seen
        fault = self._provider.faults.take(route, method, seen.model)
        replayed = receive if route == "upload" else _replay(body, receive)
        if fault is None:
            await self._app(scope, replayed, self._noting(seen, send))
        else:
            seen.fault = fault.effect
            await self._with_fault(fault, seen, scope, replayed, receive, send)

    def _open(self, scope: Scope, route: Route, body: bytes) -> SeenRequest:
        headers = Headers(scope=scope)
        query = dict(parse_qsl(scope["query_string"].decode()))
        path = scope["path"]
        try:
            parsed = json.loads(body) if body else None
        except (ValueError, RecursionError):
            parsed = f"({len(body)} bytes that are not JSON)"
        model = parsed.get("model") if isinstance(parsed, dict) else query.get("model")
        task_id = None
        if route in ("query", "cancel"):
            task_id = path.removeprefix(f"{API_PATH}tasks/").partition("/")[0]
            model = self._provider.model_of(task_id)
        return self._provider.journal.open(
            time=self._provider.clock.now(),
            method=scope["method"],
            path=path,
            query={k: "…" if k in _SECRET_QUERY else v for k, v in query.items()},
            route=route,
            headers={k: v for k, v in headers.items() if k != "authorization"},
            with_key="authorization" in headers,
            workspace=headers.get("x-dashscope-workspace"),
            model=model if isinstance(model, str) else None,
            body=shortened(parsed),
            task_id=task_id,
        )

    def _noting(self, seen: SeenRequest, send: Send) -> Send:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._provider.journal.close(seen, message["status"])
            await send(message)

        return noting

    async def _with_fault(
        self,
        fault: Fault,
        seen: SeenRequest,
        scope: Scope,
        replayed: Receive,
        receive: Receive,
        send: Send,
    ) -> None:
        await asyncio.sleep(fault.delay_before)
        if fault.effect == "cut_before":
            await _cut(scope, receive)
            return
        noting = self._noting(seen, send)
        if fault.effect in ("none", "truncate", "drip"):
            # These shape the answer on its way, so that of a stream nothing is held back.
            shaping = _SHAPES[fault.effect](fault, scope, noting)
            await self._app(scope, replayed, shaping)
            if fault.effect == "truncate":
                # The server takes an answer that ends too early for a mistake of the app.
                await _gone(receive)
            return
        if fault.effect == "answer":
            answer = _answer_of(fault)
        else:
            answer = await _handled(self._app, scope, replayed)
            if fault.effect == "replace_body":
                answer = _answer_of(fault)
            elif fault.effect == "merge":
                answer = _merged(answer, fault.body)
        await asyncio.sleep(fault.delay_after)
        if fault.effect == "cut_after":
            await _cut(scope, receive)
            return
        if fault.effect in ("answer", "replace_body") and isinstance(fault.body, dict):
            seen.code = fault.body.get("code")
        await answer(scope, receive, noting)


def route_of(method: str, path: str) -> Route:
    """The kind of request, by which faults and counts are kept."""
    if path.startswith(RESULTS_PATH):
        return "result"
    if path.startswith(UPLOAD_PATH):
        return "upload"
    rest = path.removeprefix(API_PATH)
    if rest == MULTIMODAL_GENERATION:
        return "sync"
    if rest.startswith("services/"):
        return "create"
    if rest == "uploads":
        return "policy"
    if rest in ("tasks", "tasks/"):
        return "list"
    if rest.startswith("tasks/"):
        return "cancel" if method == "POST" else "query"
    return "other"


async def _read_body(receive: Receive, max_bytes: int) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > max_bytes:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _handled(app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    """Run the app and keep its answer."""
    status = 500
    headers: list[tuple[bytes, bytes]] = []
    body = bytearray()

    async def keep(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message.get("headers", []))
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))

    # A file answer would otherwise be handed to the server as a path, not as bytes.
    bare = dict(scope) | {"extensions": {}}
    await app(bare, receive, keep)
    answer = Response(bytes(body), status_code=status)
    answer.raw_headers = headers
    return answer


def _answer_of(fault: Fault) -> Response:
    body, content_type = fault.encoded_body()
    answer = Response(body, status_code=fault.status, media_type=content_type)
    for name, value in fault.headers.items():
        answer.headers[name] = value
    return answer


def _merged(answer: Response, patch: Any) -> Response:
    if answer.headers.get("content-type", "").startswith(_EVENT_STREAM):
        lines = [_merged_line(line, patch) for line in bytes(answer.body).split(b"\n")]
        return Response(b"\n".join(lines), answer.status_code, media_type=_EVENT_STREAM)
    merged = JSONResponse(_merge(json.loads(bytes(answer.body)), patch), answer.status_code)
    headers = MutableHeaders(raw=answer.raw_headers)
    if "x-request-id" in headers:
        merged.headers["x-request-id"] = headers["x-request-id"]
    return merged


def _merged_line(line: bytes, patch: Any) -> bytes:
    name, colon, data = line.partition(b":")
    if name != b"data":
        return line
    merged = json.dumps(_merge(json.loads(data), patch), ensure_ascii=False)
    return name + colon + merged.encode()


def _merge(value: Any, patch: Any) -> Any:
    if not isinstance(value, dict) or not isinstance(patch, Mapping):
        return patch
    merged = dict(value)
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), change)
    return merged


def _connection(scope: Scope) -> asyncio.Transport:
    transport = scope["state"].get(TRANSPORT)
    if transport is None:
        raise RuntimeError("faults that cut need the server of retouch.simulator.serving")
    return cast(asyncio.Transport, transport)


async def _cut(scope: Scope, receive: Receive) -> None:
    _connection(scope).abort()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _delayed(fault: Fault, scope: Scope, send: Send) -> Send:
    """Passes everything on, the beginning of it late."""

    async def delayed(message: Message) -> None:
        if message["type"] == "http.response.start":
            await asyncio.sleep(fault.delay_after)
        await send(message)

    return delayed


def _truncated(fault: Fault, scope: Scope, send: Send) -> Send:
    """Passes the beginning on, then closes the connection, though more was promised."""
    start = _delayed(fault, scope, send)
    events = fault.keep_events
    left = fault.keep_bytes if events is None else events
    cut = False

    async def truncated(message: Message) -> None:
        nonlocal left, cut
        if message["type"] != "http.response.body":
            await start(message)
            return
        if cut:
            return
        body = message.get("body", b"")
        kept = _first_events(body, left) if events is not None else body[:left]
        left -= kept.count(_EVENT_END) if events is not None else len(kept)
        cut = left <= 0 or not message.get("more_body")
        await send({"type": "http.response.body", "body": kept, "more_body": True})
        if cut:
            _connection(scope).close()

    return truncated


def _first_events(body: bytes, count: int) -> bytes:
    end = 0
    for _ in range(count):
        found = body.find(_EVENT_END, end)
        if found < 0:
            return body
        end = found + len(_EVENT_END)
    return body[:end]


def _dripped(fault: Fault, scope: Scope, send: Send) -> Send:
    """Passes the bytes on at a rate; stops waiting once the client has gone."""
    start = _delayed(fault, scope, send)
    step = max(int(fault.bytes_per_second / 10), 1)

    async def dripped(message: Message) -> None:
        if message["type"] != "http.response.body":
            await start(message)
            return
        body = message.get("body", b"")
        for position in range(0, len(body), step):
            if _connection(scope).is_closing():
                return
            chunk = body[position : position + step]
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(len(chunk) / fault.bytes_per_second)
        if not message.get("more_body"):
            await send({"type": "http.response.body", "body": b""})

    return dripped


_SHAPES: Mapping[str, Callable[[Fault, Scope, Send], Send]] = {
    "none": _delayed,
    "truncate": _truncated,
    "drip": _dripped,
}
