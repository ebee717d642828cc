"""Images as the provider will see them, checked before money is spent.

`look` reads the header of an image by its content, never by its name; `check_image` and `check_mask`
hold what was found against a model's rules. Only a mask is decoded, because its colours matter.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Final

from PIL import Image, UnidentifiedImageError

from retouch.registry import MIB, Images, Json, Model
from retouch.sidecar import Problem

# Sides are checked from the header before anything is decoded, so Pillow's own guard, which warns
# by pixel count alone, would only refuse images that a model takes.
Image.MAX_IMAGE_PIXELS = None

_FORMATS: Final = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
_ALIAS: Final = {"MPO": "JPEG"}
"""Pillow's name for a JPEG that holds further pictures, as many phones write."""
_MIME: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
    "GIF": "image/gif",
}
_DAMAGED: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    IndexError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise for damaged files."""
_DEEP_BLACK_AND_WHITE: Final = {0, 65_535}
_BLACK_AND_WHITE: Final = {(0, 0, 0), (255, 255, 255)}


@dataclass(frozen=True)
class ImageFacts:
    """What an image is: format by content, sides in pixels, size in bytes, whether it has alpha."""

    format: str
    width: int
    height: int
    size: int
    alpha: bool

    @property
    def mime(self) -> str:
        """The MIME type of the bytes."""
        return _MIME[self.format]


class UnreadableImage(ValueError):
    """The bytes are no image of a format that any model takes; the message says what they seem."""


def look(data: bytes) -> ImageFacts:
    """The facts of the image in `data`, from its header.

    Raises:
        UnreadableImage: no image, a format that no model takes, or a damaged header.
    """
    if not data:
        raise UnreadableImage("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which no model reads
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                name = image.format or ""
                alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (
                    "transparency" in image.info
                )
                width, height = image.size
    except UnidentifiedImageError:
        raise UnreadableImage(f"not a readable image; it begins with {shown_bytes(data)}") from None
    except _DAMAGED as error:
        # Pillow's decoders raise any of these for damaged headers.
        raise UnreadableImage(f"a damaged image: {error}") from error
    return ImageFacts(_ALIAS.get(name, name), width, height, len(data), alpha)


def shown_bytes(data: bytes) -> str:
    """The first bytes, readable, for a message."""
    return repr(data[:12])[1:]


def _megabytes(size: int) -> str:
    return f"{size / MIB:.1f} MB"


def check_image(
    facts: ImageFacts, rules: Images, field: str, name: str
) -> tuple[list[Problem], list[Problem]]:
    """The problems and the warnings of one image under a model's rules."""
    problems: list[Problem] = []
    notes: list[Problem] = []

    def refuse(message: str) -> None:
        problems.append(Problem(field, f'"{name}" {message}'))

    sides = f"{facts.width}×{facts.height}"
    if facts.format not in rules.formats:
        refuse(f"is {facts.format} by its content; allowed: {', '.join(rules.formats)}")
    if facts.size > rules.max_bytes:
        refuse(f"has {_megabytes(facts.size)}; at most {_megabytes(rules.max_bytes)} are allowed")
    if rules.sides and not (
        rules.sides[0] <= min(facts.width, facts.height)
        and max(facts.width, facts.height) <= rules.sides[1]
    ):
        refuse(f"is {sides} pixels; each side must be {rules.sides[0]}–{rules.sides[1]}")
    if rules.ratio and max(facts.width, facts.height) > rules.ratio * min(
        facts.width, facts.height
    ):
        refuse(f"is {sides} pixels; the ratio must be 1:{rules.ratio:g} to {rules.ratio:g}:1")
    if facts.alpha and not rules.alpha:
        refuse("has transparency, which the model does not take; flatten it onto a background")
    advised = rules.advised_sides
    if advised and not (
        advised[0] <= min(facts.width, facts.height)
        and max(facts.width, facts.height) <= advised[1]
    ):
        notes.append(
            Problem(
                field,
                f'"{name}" is {sides} pixels; the provider advises {advised[0]}–{advised[1]} a side',
            )
        )
    return problems, notes


def check_mask(data: bytes, name: str, base: ImageFacts | None) -> list[Problem]:
    """The problems of a mask that is within its model's limits: its size, and its two colours.

    `base` is None where the image is passed on by URL; then only the colours can be checked.
    """
    try:
        facts = look(data)
        size = (facts.width, facts.height)
        if base is not None and size != (base.width, base.height):
            said = (
                f'"{name}" is {size[0]}×{size[1]} pixels; it must have its image\'s size, '
                f"{base.width}×{base.height}"
            )
            return [Problem("mask", said)]  # colours are read of masks within limits only
        pure = _is_black_and_white(data)
    except UnreadableImage as error:
        return [Problem("mask", f'"{name}" is {error}')]
    except _DAMAGED as error:
        return [Problem("mask", f'"{name}" is a damaged image: {error}')]
    if not pure:
        said = (
            f'"{name}" has other colours than pure black (keep) and pure white (edit); save it '
            "without smoothing, as PNG"
        )
        return [Problem("mask", said)]
    return []


def _is_black_and_white(data: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, which no model reads
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.mode.startswith("I"):  # deeper greys, which a conversion to RGB would clip
                greys = image.convert("I").getcolors(maxcolors=2)
                return greys is not None and {grey for _, grey in greys} <= _DEEP_BLACK_AND_WHITE
            colours = image.convert("RGB").getcolors(maxcolors=2)
            return colours is not None and {rgb for _, rgb in colours} <= _BLACK_AND_WHITE


def check_boxes(boxes: Json, sizes: list[ImageFacts | None], model: Model) -> list[Problem]:
    """Boxes that reach outside their images. `sizes` holds None for images passed on by URL."""
    if "bbox_list" not in model.by_name or not isinstance(boxes, list):
        return []
    problems = []
    for index, (of_image, facts) in enumerate(zip(boxes, sizes, strict=False)):
        if facts is None or not isinstance(of_image, list):
            continue
        for box in of_image:
            if not isinstance(box, list):
                continue
            corners = [corner for corner in box if isinstance(corner, int)]
            if len(corners) == 4 and (corners[2] > facts.width or corners[3] > facts.height):
                problems.append(
                    Problem(
                        f"parameters.bbox_list[{index}]",
                        f"{corners} reaches outside its image of {facts.width}×{facts.height} pixels",
                    )
                )
    return problems
