"""Faults that can be switched on: what the provider, or the way to it, does wrong, and when.

A plan is a list of faults. Each request takes the first fault that matches it and is due. A fault
can wait before and after the request is handled and has one effect:

=============== =================================================================================
`none`          nothing but the delays
`answer`        answer with `status`, `headers` and `body` instead of handling the request
`cut_before`    close the connection; the request is not handled
`cut_after`     handle the request (the task is made), then close the connection without an answer
`replace_body`  handle the request, then answer with `status` (200), `headers` and `body`
`truncate`      handle the request, promise the whole length, close after `keep_bytes`, or of a
                stream after `keep_events`
`drip`          handle the request, answer at `bytes_per_second`
`merge`         handle the request, merge the object `body` into the JSON answer, deeply; a null
                removes a key. `{"output": {"task_status": "SUSPENDED"}}` is a state never seen.
                Of a stream every event is changed
=============== =================================================================================

A stream is passed on as it comes by `none`, `truncate` and `drip`; the effects that handle the
request and then change the answer wait until the stream has ended.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Route = Literal["create", "sync", "query", "list", "cancel", "policy", "upload", "result", "other"]
Effect = Literal[
    "none", "answer", "cut_before", "cut_after", "replace_body", "truncate", "drip", "merge"
]


class Fault(BaseModel):
    """One fault: which requests it meets, when, and what it does to them.

    Args:
        route: The kind of request; `None` is any.
        method: The HTTP method; `None` is any.
        model: The model named in the request or by the task; `None` is any.
        skip: How many matching requests pass before the first one is met.
        times: How many requests are met; `None` is all.
        delay_before: Seconds of real time to wait before the request is handled.
        delay_after: Seconds of real time to wait before the answer is sent.
        body: What to answer: a JSON value, or a string that is sent as it is.
        keep_bytes: How much of the body `truncate` sends.
        keep_events: How many server-sent events `truncate` sends; if given, `keep_bytes` is not
            looked at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    effect: Effect = "none"
    route: Route | None = None
    method: str | None = None
    model: str | None = None
    skip: int = Field(default=0, ge=0)
    times: int | None = Field(default=1, ge=1)
    delay_before: float = Field(default=0.0, ge=0)
    delay_after: float = Field(default=0.0, ge=0)
    status: int = Field(default=200, ge=200, le=599)
    headers: Mapping[str, str] = {}
    body: Any = None
    keep_bytes: int = Field(default=0, ge=0)
    keep_events: int | None = Field(default=None, ge=0)
    bytes_per_second: float = Field(default=1.0, gt=0)

    def matches(self, route: Route, method: str, model: str | None) -> bool:
        """Whether a request of this kind is one the fault is about."""
        return (
            self.route in (None, route)
            and self.method in (None, method)
            and self.model in (None, model)
        )

    def encoded_body(self) -> tuple[bytes, str]:
        """The body to send and its content type."""
        if isinstance(self.body, str):
            html = self.body.lstrip().startswith("<")
            return self.body.encode(), "text/html" if html else "application/json"
        return json.dumps(self.body, ensure_ascii=False).encode(), "application/json"


_PLAN = TypeAdapter(tuple[Fault, ...])


def read_plan(text: str | bytes) -> tuple[Fault, ...]:
    """Read a JSON array of faults; raises pydantic's `ValidationError` naming what is wrong."""
    return _PLAN.validate_json(text)


def read_plan_file(path: Path) -> tuple[Fault, ...]:
    """Read a plan from a file; raises `OSError` or pydantic's `ValidationError`."""
    return read_plan(path.read_bytes())


class FaultPlan:
    """The faults in force; may be changed from any thread while requests come in."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._faults: list[_Counted] = []
        self.set(faults)

    def set(self, faults: Iterable[Fault]) -> None:
        """Replace the plan; counting begins anew."""
        with self._lock:
            self._faults = [_Counted(fault) for fault in faults]

    def add(self, *faults: Fault) -> None:
        """Put further faults behind those in force."""
        with self._lock:
            self._faults += [_Counted(fault) for fault in faults]

    def clear(self) -> None:
        """Switch all faults off."""
        self.set(())

    def describe(self) -> list[dict[str, Any]]:
        """The plan as JSON objects, each with the number of requests it has met."""
        with self._lock:
            return [counted.fault.model_dump() | {"met": counted.met} for counted in self._faults]

    def take(self, route: Route, method: str, model: str | None) -> Fault | None:
        """The fault that this request meets, if any."""
        with self._lock:
            for counted in self._faults:
                if counted.fault.matches(route, method, model) and counted.due():
                    return counted.fault
        return None


class _Counted:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.seen = 0
        self.met = 0

    def due(self) -> bool:
        self.seen += 1
        if self.seen <= self.fault.skip:
            return False
        if self.fault.times is not None and self.met >= self.fault.times:
            return False
        self.met += 1
        return True
