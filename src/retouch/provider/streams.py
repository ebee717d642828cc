"""Server-sent events of a streamed synchronous call, merged into one answer (contract 4.6). Pure.

Images of a stream are billed as they are made, so whatever came before a stream broke off is kept: an
event whose blank line is missing counts as well, if its data is whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from retouch.jobs import Failure
from retouch.provider.answers import (
    MOST_IMAGES,
    TEXT_CHARS,
    clean,
    content_in,
    failure_in,
    image_in,
    parse,
    request_id_in,
    usage_in,
)
from retouch.registry import Json

INTERRUPTED: Final = "StreamInterrupted"
"""The code of an answer whose stream broke off after its first image."""

_END_OF_LINE: Final = re.compile(rb"\r\n|\n|\r")
_STATUS: Final = re.compile(r":? *(?:HTTP_STATUS/|status:) *([0-9]{3}) *")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Event:
    """One event: its name, the HTTP status that a comment gave it, and its lines of data."""

    name: str | None
    status: int | None
    data: tuple[str, ...]

    def objects(self) -> list[dict[str, Json]]:
        """The JSON objects in the data: one, or one a line where blank lines were left out."""
        whole = parse("\n".join(self.data))
        if whole is not None:
            return [whole]
        return [found for line in self.data if (found := parse(line)) is not None]


class EventParser:
    """Bytes in, events out. Lines may end in any of three ways and be split anywhere."""

    def __init__(self) -> None:
        self._line = b""
        self._after_return = False
        self._first = True
        self._name: str | None = None
        self._status: int | None = None
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in this chunk."""
        if not chunk:
            return []
        if self._after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_return = chunk.endswith(b"\r")
        # Only the new chunk is searched, so that a long line does not cost its length again.
        head, *rest = _END_OF_LINE.split(chunk)
        self._line += head
        events: list[Event] = []
        for following in rest:
            events += self._take(self._line)
            self._line = following
        return events

    def finish(self) -> list[Event]:
        """The event that the end of the stream, or of the connection, cut off."""
        line, self._line = self._line, b""
        return [*self._take(line), *self._take(b"")]

    def _take(self, raw: bytes) -> list[Event]:
        if self._first:
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
            self._first = False
        line = raw.decode("utf-8", "replace")
        if not line:
            return self._dispatch()
        if (found := _STATUS.fullmatch(line)) is not None:
            self._status = int(found[1])
        name, _, value = line.partition(":")
        if name == "event":
            self._name = value.strip()
        elif name == "data":
            self._data.append(value.removeprefix(" "))
        return []

    def _dispatch(self) -> list[Event]:
        name, self._name = self._name, None
        if not self._data:
            return []
        event = Event(name=name, status=self._status, data=tuple(self._data))
        self._status, self._data = None, []
        return [event]


class Stream:
    """A stream as it comes in, and the one answer that it amounts to.

    A plain JSON body in place of a stream is taken as its only event.
    """

    def __init__(self) -> None:
        self.failure: Failure | None = None
        """What an error event said."""
        self.failure_status: int | None = None
        """The HTTP status that came with it."""
        self.images = 0
        self.size = 0
        """Bytes so far."""
        self._stopped = False
        self._parser = EventParser()
        self._plain: bytearray | None = None
        self._begun = False
        self._held = b""
        self._items: list[dict[str, Json]] = []
        self._usage: dict[str, Json] | None = None
        self._request_id: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is to come: the last event was there, or an error."""
        return self._stopped or self.failure is not None

    @property
    def empty(self) -> bool:
        """Whether there was neither an image nor a text."""
        return not self._items

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self.size += len(chunk)
        if not self._begun:
            self._held += chunk
            start = self._held.removeprefix(_BYTE_ORDER_MARK).lstrip()
            if not start or _BYTE_ORDER_MARK.startswith(self._held):
                return
            if start.startswith(b"{"):  # no line of a stream begins so
                self._plain = bytearray()
            self._begun = True
            chunk = self._held
        if self._plain is not None:
            self._plain += chunk
            return
        self._take(self._parser.feed(chunk))

    def finish(self) -> None:
        """Take what the end of the bytes left over."""
        if self._plain is not None:
            text = self._plain.decode("utf-8-sig", "replace")
            self._take([Event(name=None, status=None, data=(text,))])
        else:
            self._take(self._parser.finish())

    def answer(self, broken: Failure | None = None) -> dict[str, Json]:
        """The ordinary envelope of a synchronous answer, as `answers.task_answer` reads it.

        `broken` is why the stream ended early; it is then the answer's `code` and `message`.
        """
        content: list[Json] = []
        for item in self._items:
            if (text := item.get("text")) is not None:
                content.append({"type": "text", "text": clean(text, TEXT_CHARS)})
            else:
                content.append({"type": "image", "image": item["image"]})
        choice: dict[str, Json] = {
            "finish_reason": "stop" if broken is None else "null",
            "message": {"role": "assistant", "content": content},
        }
        body: dict[str, Json] = {"output": {"choices": [choice]}}
        if self._usage is not None:
            body["usage"] = self._counted(self._usage)
        if self._request_id is not None:
            body["request_id"] = self._request_id
        if broken is not None:
            body["code"] = broken.code
            body["message"] = broken.message
        return body

    def _counted(self, usage: dict[str, Json]) -> dict[str, Json]:
        """The last event's usage, which counts no fewer images than were seen."""
        count = usage.get("image_count")
        if isinstance(count, int) and not isinstance(count, bool):
            return {**usage, "image_count": max(count, self.images)}
        return usage

    def _take(self, events: list[Event]) -> None:
        for event in events:
            for body in event.objects():
                if self.over:
                    return
                self._merge(event, body)

    def _merge(self, event: Event, body: dict[str, Json]) -> None:
        self._request_id = request_id_in(body) or self._request_id
        self._usage = usage_in(body) or self._usage
        items, self._stopped = content_in(body)
        for item in items:
            if (url := image_in(item)) is not None:
                self._add_image(url)
            elif isinstance(text := item.get("text"), str) and text:
                self._add_text(text)
        self.failure = failure_in(body)
        if self.failure is None and event.name == "error":
            self.failure = Failure(
                code="StreamError", message="an error without a code", request_id=self._request_id
            )
        if self.failure is not None:
            self.failure_status = event.status

    def _add_image(self, url: str) -> None:
        if self.images < MOST_IMAGES:
            self.images += 1
            self._items.append({"image": clean(url, len(url))})

    def _add_text(self, text: str) -> None:
        last = self._items[-1] if self._items else {}
        said = last.get("text")
        if isinstance(said, str):
            if len(said) < TEXT_CHARS:  # more is not kept anyway
                last["text"] = said + text
        elif len(self._items) < 2 * MOST_IMAGES:
            self._items.append({"text": text})
