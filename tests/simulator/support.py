"""What the simulator's tests share: small pictures, request bodies, and a plain HTTP caller."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from PIL import Image

from retouch.simulator.testing import Simulator

KEY = "sk-test"
SYNTHESIS = "services/aigc/image2image/image-synthesis"
GENERATION = "services/aigc/image-generation/generation"
MULTIMODAL = "services/aigc/multimodal-generation/generation"
MODELS = (
    "wanx2.1-imageedit",
    "qwen-image-edit",
    "qwen-image-edit-plus",
    "qwen-image-edit-plus-2025-10-30",
    "qwen-image-edit-plus-2025-12-15",
    "qwen-image-edit-max",
    "qwen-image-edit-max-2026-01-16",
    "wan2.5-i2i-preview",
    "wan2.6-image",
    "wan2.7-image",
    "wan2.7-image-pro",
)
TERMINAL = {"SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"}
PATIENCE_SECONDS = 20.0

Json = dict[str, Any]


def photograph(width: int = 512, height: int = 512, mode: str = "RGB") -> Image.Image:
    """Something with colours, tones and edges."""
    picture = Image.merge(
        "RGB",
        (
            Image.linear_gradient("L").resize((width, height)),
            Image.radial_gradient("L").resize((width, height)),
            Image.linear_gradient("L").rotate(90).resize((width, height)),
        ),
    )
    picture.paste((240, 30, 30), (width // 4, height // 4, width // 2, height // 2))
    return picture.convert(mode)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


PHOTO = encoded(photograph())
PHOTO_URL = data_url(PHOTO)


def wanx(function: str = "description_edit", *, prompt: str = "red", **more: Any) -> Json:
    """A wanx2.1 body; `input_` adds to the input, everything else is a parameter."""
    given = {"function": function, "prompt": prompt, "base_image_url": PHOTO_URL}
    return {
        "model": "wanx2.1-imageedit",
        "input": given | more.pop("input_", {}),
        "parameters": more,
    }


def messages(model: str, *, images: int = 1, text: str = "red", **parameters: Any) -> Json:
    content: list[Json] = [{"image": PHOTO_URL} for _ in range(images)]
    return {
        "model": model,
        "input": {"messages": [{"role": "user", "content": [*content, {"text": text}]}]},
        "parameters": parameters,
    }


class Api:
    """Calls a simulator as a client would, without any client of the project."""

    def __init__(self, simulator: Simulator, key: str | None = KEY) -> None:
        self.simulator = simulator
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=simulator.base_url, headers=headers, timeout=30)

    def post(self, endpoint: str, body: object, **headers: str) -> httpx.Response:
        asked = {} if endpoint == MULTIMODAL else {"X-DashScope-Async": "enable"}
        return self.http.post(endpoint, json=body, headers=asked | headers)

    def create(self, body: Json, endpoint: str = SYNTHESIS) -> str:
        answer = self.post(endpoint, body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["output"]["task_id"])

    def query(self, task_id: str) -> Json:
        answer = self.http.get(f"tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def finished(self, task_id: str) -> Json:
        """The answer once the task is terminal."""
        self.until(task_id, TERMINAL)
        return self.query(task_id)

    def until(self, task_id: str, states: set[str]) -> None:
        """Wait for a state by looking into the simulator, so that no query is counted."""
        eventually(lambda: self.status(task_id) in states)

    def status(self, task_id: str) -> str:
        (status,) = [task.status for task in self.simulator.tasks if task.id == task_id]
        return status


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    id: str
    kind: str
    status: int
    data: Json

    @property
    def reason(self) -> str:
        (choice,) = self.data["output"]["choices"]
        return str(choice["finish_reason"])

    @property
    def item(self) -> Json:
        """The one content item that a result brings."""
        (choice,) = self.data["output"]["choices"]
        assert choice["message"]["role"] == "assistant"
        (item,) = choice["message"]["content"]
        return dict(item)


def events_of(answer: httpx.Response) -> Iterator[Event]:
    """The events as they arrive, read strictly in the provider's spelling."""
    block: list[str] = []
    for line in answer.iter_lines():
        if line:
            block.append(line)
            continue
        number, kind, status, data = block
        block = []
        yield Event(
            number.removeprefix("id:"),
            kind.removeprefix("event:"),
            int(status.removeprefix(":HTTP_STATUS/")),
            json.loads(data.removeprefix("data:")),
        )
    assert block == []


def until_cut(answer: httpx.Response) -> bytes:
    """What was received before the connection broke; fails if it did not."""
    received = bytearray()
    try:
        for chunk in answer.iter_raw():
            received += chunk
    except httpx.RemoteProtocolError:
        return bytes(received)
    raise AssertionError("the whole body arrived")


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message, of a body that holds nothing else but a request id."""
    body = answer.json()
    assert set(body) == {"code", "message", "request_id"}
    return answer.status_code, body["code"], body["message"]


def picture_of(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert int(answer.headers["content-length"]) == len(answer.content)
    picture = Image.open(io.BytesIO(answer.content))
    picture.load()
    return picture


@contextmanager
def image_host(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A web server that answers every GET with `answer`; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/photo.png"
        finally:
            server.shutdown()
            thread.join()
