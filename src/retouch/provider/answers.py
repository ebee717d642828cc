"""Answers of both result protocols, flattened (contract 4). Pure, and never surprised.

Missing fields are missing, unknown fields are passed over, and anything that is not the shape it
should be reads as absent: an answer decides about money, so a strange one must not become an
exception half way. What is kept of an answer is bounded and can be written as UTF-8, so that it does
not become an exception later either, in the store.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from retouch.jobs import Failure
from retouch.registry import Json

TERMINAL: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"})

PROVIDER_ZONE: Final = timezone(timedelta(hours=8))
"""Of every time that the provider writes without a zone, whatever the region (contract 2.3, 2.5)."""

CODE_CHARS: Final = 200
"""Also of request ids, task ids, states and model names."""
MESSAGE_CHARS: Final = 1_000
TEXT_CHARS: Final = 20_000
"""Of a prompt or a text item."""
URL_CHARS: Final = 8_192
MOST_IMAGES: Final = 24
"""No model makes more than 12 (contract 3.6)."""

_USAGE_KEY_CHARS: Final = 100
_USAGE_ENTRIES: Final = 50
_USAGE_LARGEST: Final = 10**15
_USAGE_SMALLEST: Final = 1e-100
_TIME_CHARS: Final = 40
_SIZE: Final = re.compile(r"([0-9]{1,6})\*([0-9]{1,6})")
_QUERY: Final = re.compile(r"(https?://[^\s?#\"'<>]{1,2000})[?#][^\s\"'<>]*", re.IGNORECASE)
_LATEST_MS: Final = 10**14


@dataclass(frozen=True)
class RewrittenPrompt:
    """The prompts of one image: as it was sent, and as the provider rewrote it (contract 3.4)."""

    original: str | None
    actual: str | None


@dataclass(frozen=True)
class TaskAnswer:
    """What the provider says about a task.

    `images` are signed URLs; they must not be logged or stored beyond the job's own answer. Times are
    Unix seconds. `prompts` has an entry for each image that came with one, `rewritten_prompts` the
    rewritten ones of them. `usage` holds scalars only. `reading` is the order in which texts and images
    came: a text, or the number of an image, counted from 1.
    """

    status: str
    request_id: str | None = None
    images: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    image_failures: tuple[Failure, ...] = ()
    rewritten_prompts: tuple[str, ...] = ()
    failure: Failure | None = None
    usage: dict[str, Json] | None = None
    submitted_at: float | None = None
    scheduled_at: float | None = None
    ended_at: float | None = None
    prompts: tuple[RewrittenPrompt, ...] = ()
    reading: tuple[str | int, ...] = ()

    @property
    def terminal(self) -> bool:
        """Whether the task has ended; states never seen before have not."""
        return self.status in TERMINAL

    @property
    def billed_images(self) -> int:
        """Images the provider counts, or those it gave where it does not count (contract 4.5)."""
        counted = _whole((self.usage or {}).get("image_count"))
        return len(self.images) if counted is None else counted

    @property
    def output_size(self) -> tuple[int, int] | None:
        """Width and height in pixels as the provider reports them, in either layout (contract 4.5).

        One size stands for all images of an answer, and what it says is not always so (contract 8).
        """
        usage = self.usage or {}
        width, height = _whole(usage.get("width")), _whole(usage.get("height"))
        size = usage.get("size")
        if isinstance(size, str) and (found := _SIZE.fullmatch(size)):
            width, height = int(found[1]), int(found[2])
        return (width, height) if width and height else None


@dataclass(frozen=True)
class ListedTask:
    """A task in the provider's list (contract 2.5). Times are Unix seconds."""

    task_id: str
    status: str | None = None
    model: str | None = None
    request_id: str | None = None
    created_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True)
class TaskPage:
    """One page of the provider's list: its tasks, and what it says about itself.

    `rows` also counts the rows that name no task; `size` is the rows a full page has.
    """

    tasks: tuple[ListedTask, ...]
    rows: int
    size: int | None
    pages: int | None


def clean(value: Json, limit: int) -> str | None:
    """A string's first `limit` characters, with nothing that UTF-8 cannot hold; else None.

    An empty string is None too.
    """
    if not isinstance(value, str) or not value:
        return None
    return value[:limit].encode("utf-8", "replace").decode("utf-8")


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _whole(value: Json) -> int | None:
    """A whole number, zero or more."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _identifier(value: Json) -> str | None:
    """An id that can be used as it is. A mended one would name something else."""
    return value if isinstance(value, str) and clean(value, CODE_CHARS) == value else None


def _url(value: Json) -> str | None:
    """A URL as it is: one cut off or mended would lead nowhere."""
    return value if isinstance(value, str) and 0 < len(value) <= URL_CHARS else None


def _moment(value: Json) -> float | None:
    """Unix seconds of `YYYY-MM-DD HH:mm:ss.SSS`, a time in UTC+8 (contract 2.3)."""
    if not isinstance(value, str) or len(value) > _TIME_CHARS:
        return None
    for form in ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S"):
        try:
            return datetime.strptime(value, form).replace(tzinfo=PROVIDER_ZONE).timestamp()
        except ValueError:
            continue
    return None


def _from_milliseconds(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value / 1000 if 0 < value < _LATEST_MS else None


def usage_in(body: dict[str, Json]) -> dict[str, Json] | None:
    """The scalar entries of an answer's usage, as many and as large as a store can be given."""
    kept: dict[str, Json] = {}
    for key, value in _object(body.get("usage")).items():
        name = clean(key, _USAGE_KEY_CHARS)
        if name is None or len(key) > _USAGE_KEY_CHARS or not _storable(value):
            continue
        kept[name] = clean(value, CODE_CHARS) or "" if isinstance(value, str) else value
        if len(kept) == _USAGE_ENTRIES:
            break
    return kept or None


def _storable(value: Json) -> bool:
    if isinstance(value, bool):
        return True
    if isinstance(value, str):
        return len(value) <= CODE_CHARS
    if isinstance(value, int | float):  # of NaN no comparison holds
        return value == 0 or _USAGE_SMALLEST < abs(value) < _USAGE_LARGEST
    return False


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def parse(body: str) -> dict[str, Json] | None:
    """The JSON object in a body, or None for anything else (HTML, cut off, too deep, NaN)."""
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, dict) else None


def request_id_in(body: dict[str, Json]) -> str | None:
    """The id that the provider's support asks for."""
    return clean(body.get("request_id"), CODE_CHARS)


def failure_in(body: dict[str, Json]) -> Failure | None:
    """The error in an answer: inside `output` first, then at the top (contract 4.4)."""
    for place in (_object(body.get("output")), body):
        if (failure := _failure(place, request_id_in(body))) is not None:
            return failure
    return None


def _failure(place: dict[str, Json], request_id: str | None = None) -> Failure | None:
    code = clean(place.get("code"), CODE_CHARS)
    if code is None:
        return None
    message = clean(place.get("message"), MESSAGE_CHARS) or ""
    # A message may repeat the URL of an image, whose query signs it.
    unsigned = _QUERY.sub(r"\1", message)
    return Failure(code=code, message=unsigned, request_id=request_id)


def created_task(body: dict[str, Json]) -> str | None:
    """The id of the task that a create made (contract 2.1)."""
    return _identifier(_object(body.get("output")).get("task_id"))


def task_page(body: dict[str, Json]) -> TaskPage | None:
    """A page of the list call (contract 2.5), or None where there is no list in it."""
    data = body.get("data")
    if not isinstance(data, list):
        return None
    tasks = [task for row in data if (task := _listed(_object(row))) is not None]
    return TaskPage(
        tasks=tuple(tasks),
        rows=len(data),
        size=_whole(body.get("page_size")),
        pages=_whole(body.get("total_page")),
    )


def _listed(row: dict[str, Json]) -> ListedTask | None:
    task_id = _identifier(row.get("task_id"))
    if task_id is None:
        return None
    return ListedTask(
        task_id=task_id,
        status=clean(row.get("status"), CODE_CHARS),
        model=clean(row.get("model_name"), CODE_CHARS),
        request_id=request_id_in(row),
        created_at=_from_milliseconds(row.get("gmt_create")),
        started_at=_from_milliseconds(row.get("start_time")),
        ended_at=_from_milliseconds(row.get("end_time")),
    )


def content_in(body: dict[str, Json]) -> tuple[list[dict[str, Json]], bool]:
    """The content items of all choices, in order, and whether one of them says that it is the last."""
    items: list[dict[str, Json]] = []
    stopped = False
    for choice in _list(_object(body.get("output")).get("choices")):
        message = _object(_object(choice).get("message"))
        items += [_object(item) for item in _list(message.get("content"))]
        stopped = stopped or _object(choice).get("finish_reason") == "stop"
    return items, stopped


def image_in(item: dict[str, Json]) -> str | None:
    """The URL of a content item that is an image, whatever its `type` says (contract 4.1)."""
    return _url(item.get("image"))


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
    reading: list[str | int] = []
    failures: list[Failure] = []
    prompts: list[RewrittenPrompt] = []

    def add_image(url: str) -> None:
        images.append(url)
        if len(images) <= MOST_IMAGES:
            reading.append(len(images))

    for item in content_in(body)[0]:
        if (url := image_in(item)) is not None:
            add_image(url)
        elif (text := clean(item.get("text"), TEXT_CHARS)) is not None:
            texts.append(text)
            if len(texts) <= MOST_IMAGES:
                reading.append(text)
    for result in _list(output.get("results")):
        entry = _object(result)
        if (url := _url(entry.get("url"))) is not None:
            add_image(url)
            original = clean(entry.get("orig_prompt"), TEXT_CHARS)
            actual = clean(entry.get("actual_prompt"), TEXT_CHARS)
            if original is not None or actual is not None:
                prompts.append(RewrittenPrompt(original=original, actual=actual))
        elif (failed := _failure(entry)) is not None:
            failures.append(failed)
    prompts = prompts[:MOST_IMAGES]
    failure = failure_in(body)
    status = clean(output.get("task_status"), CODE_CHARS)
    if status is None:
        if synchronous and (images or texts):
            status = "SUCCEEDED"
        else:
            status = "FAILED" if synchronous or (refused and failure is not None) else "MISSING"
    return TaskAnswer(
        status=status,
        request_id=request_id_in(body),
        images=tuple(images[:MOST_IMAGES]),
        texts=tuple(texts[:MOST_IMAGES]),
        image_failures=tuple(failures[:MOST_IMAGES]),
        rewritten_prompts=tuple(p.actual for p in prompts if p.actual is not None),
        failure=failure,
        usage=usage_in(body),
        submitted_at=_moment(output.get("submit_time")),
        scheduled_at=_moment(output.get("scheduled_time")),
        ended_at=_moment(output.get("end_time")),
        prompts=tuple(prompts),
        reading=tuple(reading),
    )


def storable(body: str, most: int) -> str:
    """A successful answer's body as it is, or where it has more than `most` bytes, what is read of it.

    Texts are then cut, so that the images, which were paid for, are kept whatever else came.
    """
    if len(json.dumps(body)) <= most:  # as it is stored, every quotation mark escaped
        return body
    parsed = parse(body) or {}
    answer = task_answer(parsed, synchronous=True)
    content: list[Json] = [
        {"text": part[:1000]} if isinstance(part, str) else {"image": answer.images[part - 1]}
        for part in answer.reading
    ]
    failure = failure_in(parsed)
    kept: dict[str, Json] = {
        "output": {"choices": [{"message": {"content": content}}]},
        "usage": dict(answer.usage or {}),
        "request_id": answer.request_id,
    }
    if failure is not None:
        kept |= {"code": failure.code, "message": failure.message}
    # A URL may hold half of a surrogate pair, which cannot be stored.
    return json.dumps(kept, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")
