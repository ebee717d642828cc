"""Text with images as Markdown that reads in order.

`finalize` writes it and the contact sheet reads it again. Both are here, so that what one writes the
other understands. Paragraphs are parted by an empty line; an image is a paragraph of its own, a
relative link whose target is percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from retouch import keys

_IMAGE: Final = re.compile(r"!\[Image [0-9]+\]\(([^()\s]+)\)")
_REMARK: Final = re.compile(r"> \*\*([^*]+)\*\* ?(.*)")


def written(
    parts: Iterable[str | int],
    images: Mapping[int, str],
    missing: Mapping[int, str],
    folder: str,
    broke_off: str | None = None,
) -> str:
    """The Markdown of an answer, to lie in `folder` of the outbox.

    Args:
        parts: Texts and the numbers of images, in reading order.
        images: The keys of the images that are there, by number.
        missing: Why an image is not, by number. Said at its place.
        broke_off: Why nothing more came; None where all did.
    """
    paragraphs: list[str] = []
    for part in parts:
        if isinstance(part, str):
            paragraphs.append(part.strip("\r\n"))
        elif part in images:
            paragraphs.append(f"![Image {part}]({keys.href(images[part], folder)})")
        else:
            paragraphs.append(_note(f"Image {part} is missing.", missing.get(part, "")))
    if broke_off is not None:
        paragraphs.append(_note("The answer broke off here.", broke_off))
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def _note(said: str, why: str) -> str:
    """A remark of ours, set off from the model's words."""
    return f"> **{said}** {' '.join(why.split())}".rstrip()


def remark_in(paragraph: str) -> tuple[str, str] | None:
    """A remark of `written`'s as what it says and why, or None for any other paragraph."""
    found = _REMARK.fullmatch(paragraph.strip())
    return None if found is None else (found[1], found[2])


def parts_of(markdown: str, folder: str, images: Iterable[str]) -> list[tuple[str, bool]]:
    """What `written` wrote, in order: texts, and the keys of images, for which the second is True.

    Of links only those to one of `images` count; whatever else the model wrote is its text.
    """
    known = {keys.href(key, folder): key for key in images}
    parts: list[tuple[str, bool]] = []
    for paragraph in markdown.split("\n\n"):
        found = _IMAGE.fullmatch(paragraph.strip())
        if found is not None and found[1] in known:
            parts.append((known[found[1]], True))
        elif parts and not parts[-1][1]:
            parts[-1] = (f"{parts[-1][0]}\n\n{paragraph}", False)
        elif paragraph.strip():
            parts.append((paragraph, False))
    return parts
