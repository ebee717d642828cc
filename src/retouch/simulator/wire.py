"""The outermost layer of the app: logs every request, and does the faults that are in force.

It stands between the server and the routes, so that a fault can happen before a request is seen,
or after it was handled and before its answer is known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
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
        noting = self._noting(seen, send)
        if fault.effect == "truncate":
            await _truncated(answer, fault.keep_bytes, scope, receive, noting)
        elif fault.effect == "drip":
            await _dripped(answer, fault.bytes_per_second, receive, noting)
        else:
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
    merged = JSONResponse(_merge(json.loads(bytes(answer.body)), patch), answer.status_code)
    headers = MutableHeaders(raw=answer.raw_headers)
    if "x-request-id" in headers:
        merged.headers["x-request-id"] = headers["x-request-id"]
    return merged


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


async def _truncated(
    answer: Response, keep: int, scope: Scope, receive: Receive, send: Send
) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": answer.status_code,
            "headers": answer.raw_headers,
        }
    )
    body = bytes(answer.body)[:keep]
    await send({"type": "http.response.body", "body": body, "more_body": True})
    _connection(scope).close()
    await _gone(receive)


async def _dripped(answer: Response, per_second: float, receive: Receive, send: Send) -> None:
    async def drip() -> None:
        await send(
            {
                "type": "http.response.start",
                "status": answer.status_code,
                "headers": answer.raw_headers,
            }
        )
        body = bytes(answer.body)
        step = max(int(per_second / 10), 1)
        for start in range(0, len(body), step):
            chunk = body[start : start + step]
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(len(chunk) / per_second)
        await send({"type": "http.response.body", "body": b""})

    dripping = asyncio.create_task(drip())
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((dripping, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in (dripping, leaving):
            one.cancel()
        await asyncio.gather(dripping, leaving, return_exceptions=True)
