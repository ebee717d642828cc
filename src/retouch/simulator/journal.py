"""What the simulator saw: the log of requests, and counts to check a client's promises against.

No key is kept. Data URLs are shortened, since they are the bulk of a request and of no interest.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

_DATA_URL = re.compile(r"(data:[^;,]{0,40};base64,.{0,16})(.*)", re.IGNORECASE | re.DOTALL)


@dataclass
class SeenRequest:
    """One request. `status` is `None` while it is handled and when no answer was sent.

    `code` is that of a refusal, or of the error that ended a stream after its status 200.
    """

    number: int
    time: float
    method: str
    path: str
    query: Mapping[str, str]
    route: str
    headers: Mapping[str, str]
    with_key: bool
    workspace: str | None = None
    model: str | None = None
    body: Any = None
    fault: str | None = None
    status: int | None = None
    task_id: str | None = None
    request_id: str | None = None
    code: str | None = None


@dataclass
class Stats:
    """Counts since the start.

    `creates` are the tasks made and sync calls accepted, `images` the images billed; the maxima
    are of tasks running at once and of creates in any one second, by model.
    """

    requests: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    creates: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    max_running: Counter[str] = field(default_factory=Counter)
    max_creates_in_a_second: Counter[str] = field(default_factory=Counter)
    max_queries_in_a_second: int = 0


class Journal:
    """Log and counts; written by the server's loop, read from any thread."""

    def __init__(self, keep: int = 20_000) -> None:
        self._lock = threading.Lock()
        self._requests: deque[SeenRequest] = deque(maxlen=keep)
        self._stats = Stats()
        self._creates: dict[str, deque[float]] = {}
        self._queries: deque[float] = deque()
        self._next = 1

    def open(self, **seen: Any) -> SeenRequest:
        """Enter a request, given the fields of `SeenRequest` but its number."""
        with self._lock:
            request = SeenRequest(number=self._next, **seen)
            self._next += 1
            self._requests.append(request)
            self._stats.requests[request.route] += 1
            if request.route == "query":
                self._stats.max_queries_in_a_second = max(
                    self._stats.max_queries_in_a_second,
                    _in_last_second(self._queries, request.time),
                )
            return request

    def close(self, request: SeenRequest, status: int) -> None:
        """Enter what was answered; `request.code` is the refusal's code, if it is one."""
        with self._lock:
            request.status = status
            if request.code is not None:
                self._stats.refused[request.code] += 1

    def broke(self, request: SeenRequest, code: str) -> None:
        """Enter the error that ended a stream whose status was already sent."""
        with self._lock:
            request.code = code
            self._stats.refused[code] += 1

    def created(self, model: str, moment: float) -> None:
        """Count a task made, or a sync call accepted."""
        with self._lock:
            self._stats.creates[model] += 1
            count = _in_last_second(self._creates.setdefault(model, deque()), moment)
            most = self._stats.max_creates_in_a_second
            most[model] = max(most[model], count)

    def started(self, model: str) -> None:
        """Count a task that begins to run."""
        with self._lock:
            running, most = self._stats.running, self._stats.max_running
            running[model] += 1
            most[model] = max(most[model], running[model])

    def stopped(self, model: str) -> None:
        """Count a task that no longer runs."""
        with self._lock:
            self._stats.running[model] -= 1

    def billed(self, model: str, images: int) -> None:
        """Count images made."""
        with self._lock:
            self._stats.images[model] += images

    def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """The requests numbered above `since`, oldest first, as JSON objects."""
        with self._lock:
            return [asdict(request) for request in self._requests if request.number > since]

    def stats(self) -> dict[str, Any]:
        """The counts as a JSON object."""
        with self._lock:
            return {
                name: dict(value) if isinstance(value, Counter) else value
                for name, value in vars(self._stats).items()
            }


def shortened(value: Any) -> Any:
    """A JSON value with every data URL in it cut to its beginning and length."""
    if isinstance(value, str):
        found = _DATA_URL.match(value)
        return f"{found[1]}… ({len(value)} characters)" if found else value
    if isinstance(value, dict):
        return {name: shortened(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shortened(inner) for inner in value]
    return value


def _in_last_second(moments: deque[float], now: float) -> int:
    moments.append(now)
    while moments[0] <= now - 1.0:
        moments.popleft()
    return len(moments)
