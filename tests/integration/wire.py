"""The provider's side of the wire, in process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx

from tests.fakes import PHOTO, RESULT_HOST

BASE_URL = "https://dashscope.aliyuncs.com/api/v1"


class Wire:
    """Answers like DashScope: contract 2.1, 2.2, 3.3 and 6.3."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.tasks = 0
        """How many were made; their ids are task-1, task-2 …"""
        self.state = "RUNNING"
        self.images = 1
        self.broken = "no such path"
        self.lost = "no such path"
        self.refused: dict[str, str] | None = None
        """What every call that bills is answered with."""
        self.result = PHOTO
        self.breaks_off = False
        """Whether a download ends half way."""
        self.listed: tuple[str, ...] = ()
        """The account's tasks, by their ids; when they were made is not said."""
        self.during_download: Callable[[], object] = lambda: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        url = str(request.url)
        if self.broken in url:
            raise RuntimeError("a fault that nobody thought of")
        if self.lost in url:
            raise httpx.ReadTimeout("nothing came")
        if url.startswith(RESULT_HOST):
            self.during_download()
            return httpx.Response(200, content=self._result())
        if request.method == "GET" and request.url.path.endswith("/tasks"):
            rows = [{"task_id": task_id} for task_id in self.listed]
            page = {"data": rows, "total_page": 1, "page_no": 1, "page_size": 100}
            return httpx.Response(200, json={"request_id": "r-list", **page})
        if url.startswith(f"{BASE_URL}/tasks/"):
            task_id = request.url.path.split("/tasks/")[1].partition("/")[0]
            output: dict[str, Any] = {"task_id": task_id, "task_status": self.state}
            if self.state == "SUCCEEDED":
                output["results"] = [
                    {"url": f"{RESULT_HOST}/{number}.png?Signature=signed"}
                    for number in range(1, self.images + 1)
                ]
            usage = {"image_count": self.images}
            answer = {"request_id": "r-query", "output": output, "usage": usage}
            return httpx.Response(200, json=answer)
        if self.refused is not None:
            return httpx.Response(400, json={"request_id": "r-refused", **self.refused})
        if url.endswith("multimodal-generation/generation"):
            content = [{"image": f"{RESULT_HOST}/1.png?Signature=signed"}]
            choices = [{"finish_reason": "stop", "message": {"content": content}}]
            answer = {
                "output": {"choices": choices},
                "usage": {"image_count": 1, "width": 512, "height": 512},
                "request_id": "r-sync",
            }
            return httpx.Response(200, json=answer)
        self.tasks += 1
        output = {"task_status": "PENDING", "task_id": f"task-{self.tasks}"}
        return httpx.Response(200, json={"output": output, "request_id": "r-create"})

    def _result(self) -> Iterator[bytes]:
        yield self.result
        if self.breaks_off:
            raise httpx.ReadError("the connection broke")

    def sent(self, method: str) -> list[httpx.Request]:
        return [request for request in self.requests if request.method == method]

    def downloads(self) -> list[str]:
        urls = [str(request.url) for request in self.requests]
        return [url.partition("?")[0] for url in urls if url.startswith(RESULT_HOST)]
