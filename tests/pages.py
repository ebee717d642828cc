"""Records, pictures and pages for the tests of contact sheets, and a reader of pages."""

from __future__ import annotations

import copy
import io
import json
from html.parser import HTMLParser
from typing import Any

from PIL import Image, ImageDraw

from retouch import sheets
from retouch.fitting import thumbnail
from retouch.sheets import Record, Sheet

HOSTILE = """ "'><script>alert('x')</script><img src=x onerror=alert(1)> &amp; 🎨 木 \u202e"""
FOLDER = "a b/100% #1 + “x”/图🎨"

_BASE: dict[str, Any] = {
    "format": 1,
    "job_id": "k3v2aaaabbbbcccc",
    "status": "SUCCEEDED",
    "sidecar": {"key": "shoes/red.jpg.json", "version_id": "1"},
    "labels": {"sku": "A-113"},
    "region": "beijing",
    "model": "wan2.7-image",
    "request": {
        "call": "sync",
        "path": "/x",
        "function": None,
        "prompt": "make them blue",
        "negative_prompt": "no laces",
        "parameters": {"n": 2, "watermark": False, "seed": 7},
    },
    "seed": 7,
    "inputs": [
        {
            "key": "shoes/red.jpg", "version_id": "i1", "sha256": "x", "size": 2_000_000,
            "mime": "image/jpeg", "width": 800, "height": 600, "mended": None, "sent_as": None,
        }
    ],
    "mask": None,
    "times": {
        "created": "2026-01-31T10:00:21.345Z", "sent": "2026-01-31T10:00:22.000Z",
        "finished": "2026-01-31T10:00:55.345Z", "provider": {},
    },
    "task_id": "t-1",
    "outputs": [
        {
            "key": f"shoes/red/red-{number}.png", "version_id": f"o{number}", "sha256": "x",
            "size": 3000, "width": 1024, "height": 1024, "number": number,
        }
        for number in (1, 2)
    ],
    "text": None,
    "cost": {"images": 2, "price": "0.20", "amount": "0.40", "currency": "CNY"},
}  # fmt: skip


def said(**fields: Any) -> dict[str, Any]:
    """A `job.json` of a job that went well, but for `fields`."""
    return copy.deepcopy(_BASE) | fields


def record(**fields: Any) -> Record:
    """The same, read."""
    found = sheets.record_in(json.dumps(said(**fields)).encode())
    assert found is not None
    return found


def drawing(width: int = 640, height: int = 480, colour: str = "teal") -> bytes:
    """A picture with something to see in it."""
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).ellipse((20, 20, width - 20, height - 20), fill=colour)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sheet(
    folder: str = "shoes/red", text: list[tuple[str, bool]] | None = None, **fields: Any
) -> Sheet:
    """A job to be shown, each of its pictures with a thumbnail."""
    found = record(**fields)
    small = thumbnail(drawing(), 480)
    return Sheet(folder, found, dict.fromkeys(found.pictures, small), text or [])


class Page(HTMLParser):
    """What a page holds: elements with their attributes, and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._style = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._style = False
        if tag in ("p", "li", "dd", "dt", "h1", "h2", "h3", "figcaption", "blockquote"):
            self.text += "\n"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def links(self) -> list[str]:
        return [str(a["href"]) for a in self.all("a")]

    @property
    def alts(self) -> list[str]:
        return [str(image["alt"]) for image in self.all("img")]
