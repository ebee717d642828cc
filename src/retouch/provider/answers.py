"""Answers of both result protocols, flattened (contract 4). Pure, and never surprised.

Missing fields are missing, unknown fields are passed over, and anything that is not the shape it
should be reads as absent: an answer decides about money, so a strange one must not become an
exception half way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from retouch.jobs import Failure
from retouch.registry import Json

TERMINAL: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"})


@dataclass(frozen=True)
class TaskAnswer:
    """What the provider says about a task.

    `images` are signed URLs; they must not be logged or stored beyond the job's own answer.
    """

    status: str
    request_id: str | None = None
    images: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    image_failures: tuple[Failure, ...] = ()
    rewritten_prompts: tuple[str, ...] = ()
    failure: Failure | None = None
    usage: dict[str, Json] | None = None

    @property
    def terminal(self) -> bool:
        """Whether the task has ended; states never seen before have not."""
        return self.status in TERMINAL

    @property
    def billed_images(self) -> int:
        """Images the provider counts, or those it gave where it does not count (contract 4.5)."""
        counted = (self.usage or {}).get("image_count")
        if isinstance(counted, int) and not isinstance(counted, bool) and counted >= 0:
            return counted
        return len(self.images)


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def parse(body: str) -> dict[str, Json] | None:
    """The JSON object in a body, or None for anything else (HTML, cut off, too deep)."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def failure_in(body: dict[str, Json]) -> Failure | None:
    """The error in an answer: inside `output` first, then at the top (contract 4.4)."""
    for place in (_object(body.get("output")), body):
        if (code := _text(place.get("code"))) is not None:
            return Failure(
                code=code,
                message=_text(place.get("message")) or "",
                request_id=_text(body.get("request_id")),
            )
    return None


def created_task(body: dict[str, Json]) -> str | None:
    """The id of the task that a create made."""
    return _text(_object(body.get("output")).get("task_id"))


def task_answer(
    body: dict[str, Json], *, synchronous: bool = False, refused: bool = False
) -> TaskAnswer:
    """The state and results in the body of a query, or of a synchronous call that succeeded.

    `refused` says that the query's HTTP status was a permanent 4xx: then an error at the top of an
    answer without a state is the task's. With any other status it says nothing about the task.
    """
    output = _object(body.get("output"))
    images: list[str] = []
    texts: list[str] = []
    failures: list[Failure] = []
    rewritten: list[str] = []
    for choice in _list(output.get("choices")):
        message = _object(_object(choice).get("message"))
        for item in _list(message.get("content")):
            entry = _object(item)
            if (url := _text(entry.get("image"))) is not None:
                images.append(url)
            elif (text := _text(entry.get("text"))) is not None:
                texts.append(text)
    for result in _list(output.get("results")):
        entry = _object(result)
        if (url := _text(entry.get("url"))) is not None:
            images.append(url)
            if (prompt := _text(entry.get("actual_prompt"))) is not None:
                rewritten.append(prompt)
        elif (code := _text(entry.get("code"))) is not None:
            failures.append(Failure(code=code, message=_text(entry.get("message")) or ""))
    failure = failure_in(body)
    status = _text(output.get("task_status"))
    if status is None:
        if synchronous and (images or texts):
            status = "SUCCEEDED"
        else:
            status = "FAILED" if synchronous or (refused and failure is not None) else "MISSING"
    return TaskAnswer(
        status=status,
        request_id=_text(body.get("request_id")),
        images=tuple(images),
        texts=tuple(texts),
        image_failures=tuple(failures),
        rewritten_prompts=tuple(rewritten),
        failure=failure,
        usage=_object(body.get("usage")) or None,
    )
