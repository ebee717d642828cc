"""The provider as the real client meets it: a world's fake provider behind its own HTTP interface.

What is made and billed is counted by the fake; what goes wrong on the line is scripted here, one
mishap for each request of a route.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, Literal

import httpx

from retouch.errors import AccountRefused, OutcomeUnknown, ProviderRefused, TryLater
from retouch.provider.answers import PROVIDER_ZONE, TaskAnswer
from retouch.provider.client import DashScope, connection_pool
from retouch.provider.requests import Request
from tests.fakes import PHOTO, Effects, FakeClock, FakeProvider, World

BASE: Final = "https://dashscope.aliyuncs.com/api/v1"
Route = Literal["create", "sync", "query", "list", "cancel", "result"]
Answer = Callable[[], httpx.Response]
Mishap = Callable[[Answer], httpx.Response]
"""Answers a request in its own way; the argument handles it, and gives the right answer."""


class WiredProvider(FakeProvider):
    """The fake, spoken to by the real client."""

    def __init__(self, clock: FakeClock, effects: Effects):
        super().__init__(clock, effects)
        self.mishaps: defaultdict[Route, deque[Mishap]] = defaultdict(deque)
        self.always: dict[Route, Mishap] = {}
        """For every request of a route, once its script is through."""
        self.spoiled: defaultdict[str, deque[Mishap]] = defaultdict(deque)
        """For requests of a task's results, by its id."""
        self.requests: list[tuple[Route, httpx.Request]] = []
        self.allow()

    def allow(self, *hosts: str) -> None:
        """Use a client that also takes results from these hosts."""
        self.client = DashScope(
            BASE,
            lambda: "sk-test",
            http=connection_pool(httpx.MockTransport(self.answer)),
            result_hosts=hosts,
            sleep=lambda _: None,
        )

    def __call__(self, region: str) -> Any:
        """See `retouch.ports.App.provider`."""
        self.region = region
        return self.client

    def sent(self, route: Route) -> list[httpx.Request]:
        """The requests of a route."""
        return [request for name, request in self.requests if name == route]

    def answer(self, request: httpx.Request) -> httpx.Response:
        """As the provider does, unless something is to go wrong."""
        route, handle = self._routed(request)
        self.requests.append((route, request))
        script = self.mishaps[route]
        if route == "result":
            script = self.spoiled[request.url.path.split("/")[1]]
        mishap = script.popleft() if script else self.always.get(route)
        return mishap(handle) if mishap is not None else handle()

    def _routed(self, request: httpx.Request) -> tuple[Route, Answer]:
        url = request.url
        path = url.path.removeprefix("/api/v1/")
        if not str(url).startswith(BASE):
            return "result", lambda: httpx.Response(200, content=b"".join(self._whole(str(url))))
        if request.method == "POST" and path.endswith("/cancel"):
            return "cancel", lambda: self._cancelled(path.split("/")[1])
        if request.method == "POST":
            said = json.loads(request.content)
            headers = {
                name: request.headers[name]
                for name in ("X-DashScope-Async",)
                if name in request.headers
            }
            made = Request(path=path, headers=headers, body=said)
            if headers:
                return "create", lambda: self._created(made)
            return "sync", lambda: self._generated(made)
        if path.rstrip("/") == "tasks":
            return "list", lambda: self._listed(dict(url.params))
        return "query", lambda: _state(path.split("/")[1], FakeProvider.query(self, path[6:]))

    def _whole(self, url: str) -> Iterator[bytes]:
        self.fetched.append(url)
        for chunk in self.files.get(url, (PHOTO,)):
            assert isinstance(chunk, bytes)
            yield chunk

    def _created(self, request: Request) -> httpx.Response:
        try:
            task_id, request_id = FakeProvider.create(self, request)
        except (ProviderRefused, AccountRefused, TryLater, OutcomeUnknown) as error:
            raise AssertionError("script the wire, not the fake") from error
        output = {"task_id": task_id, "task_status": "PENDING"}
        return httpx.Response(200, json={"output": output, "request_id": request_id})

    def _generated(self, request: Request) -> httpx.Response:
        return httpx.Response(200, text=FakeProvider.generate(self, request))

    def _cancelled(self, task_id: str) -> httpx.Response:
        if FakeProvider.cancel(self, task_id):
            return httpx.Response(200, json={"request_id": "request-cancel"})
        said = "Failed to cancel the task, please confirm if the task is in PENDING status."
        return error(400, "UnsupportedOperation", said)()

    def _listed(self, asked: dict[str, str]) -> httpx.Response:
        start, end = (
            datetime.strptime(asked[name], "%Y%m%d%H%M%S").replace(tzinfo=PROVIDER_ZONE).timestamp()
            for name in ("start_time", "end_time")
        )
        found = list(FakeProvider.tasks(self, start=start, end=end, model=asked["model_name"]))
        rows = [
            {
                "task_id": task.task_id,
                "status": task.status,
                "model_name": task.model,
                "request_id": task.request_id,
                "gmt_create": int((task.created_at or 0) * 1000),
            }
            for task in found
        ]
        page = rows if asked["page_no"] == "1" else []
        said = {"total": len(rows), "total_page": 1, "page_no": 1, "page_size": 100, "data": page}
        return httpx.Response(200, json=said)


def _state(task_id: str, answer: TaskAnswer) -> httpx.Response:
    output: dict[str, Any] = {"task_id": task_id, "task_status": answer.status}
    if answer.failure is not None:
        output |= {"code": answer.failure.code, "message": answer.failure.message}
    if answer.images or answer.image_failures:
        output["results"] = [
            *({"url": url} for url in answer.images),
            *({"code": f.code, "message": f.message} for f in answer.image_failures),
        ]
    said = {"request_id": answer.request_id, "output": output, "usage": answer.usage or {}}
    return httpx.Response(200, json=said)


def wired(**changes: Any) -> tuple[World, WiredProvider]:
    """A world whose steps speak to its provider by the real client."""
    world = World(**changes)
    provider = WiredProvider(world.clock, world.effects)
    world.provider = provider
    return world, provider


# --- mishaps ----------------------------------------


def error(status: int, code: str, message: str = "no") -> Answer:
    """The provider's own error."""
    body = {"code": code, "message": message, "request_id": "request-error"}
    return lambda: httpx.Response(status, json=body)


def html(status: int) -> Answer:
    """A gateway's page in place of an answer."""
    page = "<html><head><title>Bad Gateway</title></head><body>nginx</body></html>"
    return lambda: httpx.Response(status, text=page, headers={"Content-Type": "text/html"})


def instead(answer: Answer) -> Mishap:
    """The request is not handled."""
    return lambda _: answer()


def after_all(answer: Answer) -> Mishap:
    """The request is handled, and answered wrongly."""

    def mishap(handle: Answer) -> httpx.Response:
        handle()
        return answer()

    return mishap


def broken(error: type[httpx.RequestError]) -> Answer:
    """No answer at all."""

    def raise_() -> httpx.Response:
        raise error("the line is broken")

    return raise_


def cut_off(keep: int) -> Mishap:
    """The request is handled, and its answer ends in the middle."""

    def mishap(handle: Answer) -> httpx.Response:
        whole = handle()
        return httpx.Response(
            whole.status_code, content=_breaks_off(whole.content[:keep]), headers=whole.headers
        )

    return mishap


def _breaks_off(data: bytes) -> Iterator[bytes]:
    yield data
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def changed(change: Callable[[dict[str, Any]], object]) -> Mishap:
    """The request is handled, and something of its JSON answer is not as it was ever seen."""

    def mishap(handle: Answer) -> httpx.Response:
        whole = handle()
        said = whole.json()
        change(said)
        return httpx.Response(whole.status_code, json=said)

    return mishap
