"""Mending images, masks and boxes where a sidecar says `"fit": true`.

Pure functions over bytes: the same bytes and rules give the same bytes. Nothing is decoded unless it
must be mended. What cannot be mended is CannotFit, whose text completes a sentence that begins with
the file's name. `retouch.imaging` holds the rules; an image from here breaks none of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageCms

from retouch import imaging
from retouch.imaging import (
    ImageFacts,
    UnreadableImage,
    open_image,
    reading,
    shown_size,
    shrunk_to,
)
from retouch.registry import MIB, Images, Json

_QUALITIES: Final = (95, 90, 85)
"""JPEG qualities tried in turn; below, blocks begin to show, and a smaller image does better."""
_STEP: Final = 0.8
"""By so much the longer side shrinks from one try to the next."""
_THRESHOLD: Final = 128
"""The least luminance, of 0 to 255, that becomes white in a mask."""
_PROFILE_MAX_BYTES: Final = MIB
"""A larger colour profile than any that RGB or grey images have; it is dropped."""
_PROFILE_SHOWN_BYTES: Final = 4096
"""A larger one is dropped from a thumbnail, which is small itself."""
_DEEP_SCALE: Final = 1 / 257
"""From 0–65535 to 0–255."""
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of that EXIF orientation upright."""


class CannotFit(Exception):
    """An image that `fit` cannot mend; the message completes a sentence that its name begins."""


@dataclass(frozen=True)
class Fitted:
    """An image as mended, and what was done to it."""

    data: bytes
    facts: ImageFacts
    changes: tuple[str, ...]
    """In the past tense, in the order in which they were made."""
    scale: float
    """Its width by the original's upright width; 1 where it was not shrunk."""
    turned: int
    """The EXIF orientation, 2 to 8, that it was turned upright from; 1 where it was not turned."""
    origin: tuple[int, int]
    """Width and height of the original in pixels, as a person saw it: where boxes are measured."""


def fit_image(data: bytes, facts: ImageFacts, rules: Images) -> Fitted | None:
    """The image mended to the rules, or None where it needs nothing and goes as it is.

    Raises:
        CannotFit: it breaks a rule that mending does not help.
        UnreadableImage: its pixels are damaged.
    """
    if not imaging.needs_fit(facts, rules):
        return None
    if reasons := imaging.beyond_fit(facts, rules):
        raise CannotFit("; and it ".join(reasons))
    target = imaging.format_after_fit(facts, rules)
    if target is None:
        raise CannotFit(f"cannot be saved as any of {', '.join(rules.formats)}")
    size = facts.upright if rules.sides is None else shrunk_to(facts.upright, rules.sides[1])
    with reading():
        picture = _Picture(data, facts, aim=size)
        if picture.transparent and not rules.alpha:
            picture.flatten()
        picture.resize(size)
        return _saved(picture, facts, rules, target)


@dataclass(frozen=True)
class Thumbnail:
    """A small WebP of an image, upright, to be shown: its bytes, and its sides in pixels."""

    data: bytes
    width: int
    height: int


def thumbnail(data: bytes, longest: int) -> Thumbnail:
    """An image as a person sees it, with at most `longest` pixels a side.

    Raises:
        UnreadableImage: it is none, is damaged, has more pixels than are ever decoded, or such as
            cannot be shown; the message completes "is …".
    """
    facts = imaging.look(data)
    if imaging.too_many_pixels(facts) is not None:
        raise UnreadableImage(f"too large to be unpacked, with {facts.width}×{facts.height} pixels")
    size = shrunk_to(facts.upright, longest)
    try:
        with reading():
            picture = _Picture(data, facts, aim=size)
            picture.resize(size)
            return Thumbnail(picture.as_webp(), *size)
    except CannotFit as error:
        raise UnreadableImage(f"of a kind that cannot be shown; it {error}") from error


class _Picture:
    """A decoded, upright image in one of the modes L, LA, RGB and RGBA, and what was done to it.

    It holds one copy of the pixels, so that each step may free the one before.
    """

    def __init__(self, data: bytes, facts: ImageFacts, aim: tuple[int, int]) -> None:
        """Decode. `aim` is the upright size wanted, which may save decoding all of a JPEG."""
        self.changes: list[str] = []
        with open_image(data, facts.format) as source:
            drafted = None
            if aim != facts.upright:
                across = aim if facts.orientation < 5 else aim[::-1]
                # Twice the size wanted, so that the last step down is a good one. JPEG only.
                drafted = source.draft(None, (2 * across[0], 2 * across[1]))
            source.load()
        profile = source.info.get("icc_profile")
        self.profile = profile if isinstance(profile, bytes) else b""
        self.image: Image.Image = source
        del source
        if facts.frames > 1:
            self.changes.append("took the first of several frames")
        if facts.orientation != 1:
            if facts.format != "TIFF":  # Pillow has turned that one while decoding
                self.turn(facts.orientation)
            self.changes.append(f"turned upright (EXIF orientation {facts.orientation})")
        if drafted is None and self.image.size != facts.upright:
            raise UnreadableImage("a damaged image: its sides contradict each other")
        self._plain()

    @property
    def transparent(self) -> bool:
        """Whether it has an alpha channel."""
        return self.image.mode in ("LA", "RGBA")

    def turn(self, orientation: int) -> None:
        """Turn upright what is stored in that EXIF orientation."""
        self.image = self._keeping(self.image.transpose(_TURNS[orientation]))

    def _keeping(self, image: Image.Image) -> Image.Image:
        """Carry over the one entry of the old image's metadata that says what its pixels are."""
        if "transparency" in self.image.info:
            image.info["transparency"] = self.image.info["transparency"]
        return image

    def _plain(self) -> None:
        """Bring it into one of the four modes that the rest knows."""
        mode = self.image.mode
        see_through = "transparency" in self.image.info
        if mode.startswith("I;16") and not see_through:
            deep = self.image.convert("I")
            self.image = deep.point(lambda grey: grey * _DEEP_SCALE).convert("L")
            self.changes.append("reduced from 16 to 8 bits per channel")
        elif mode.startswith(("I", "F")):
            raise CannotFit(
                "has 32 bits per channel, or 16 and a transparent colour; save it with 8"
            )
        elif mode == "CMYK":
            self.image = self._rgb_of_cmyk()
            self.profile = b""  # it described the four inks
            self.changes.append("converted from CMYK to RGB")
        elif mode in ("1", "L", "La", "LA"):
            plain = "LA" if see_through or mode in ("La", "LA") else "L"
            self.image = self.image if mode == plain else self.image.convert(plain)
        else:
            plain = "RGBA" if see_through or mode in imaging.ALPHA_MODES else "RGB"
            self.image = self.image if mode == plain else self.image.convert(plain)
            if mode == "LAB":
                self.profile = b""  # Pillow converts into the colours of sRGB

    def _rgb_of_cmyk(self) -> Image.Image:
        """By its colour profile, without which the colours come out garish."""
        if self.profile:
            try:
                inks = ImageCms.ImageCmsProfile(io.BytesIO(self.profile))
                srgb = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(self.image, inks, srgb, outputMode="RGB")
                if converted is not None:
                    return converted
            except (ImageCms.PyCMSError, OSError):
                pass  # a profile of something else, or damaged
        return self.image.convert("RGB")

    def flatten(self) -> None:
        """Lay it onto white."""
        size = self.image.size
        if self.image.mode == "LA":
            ground = Image.new("L", size, 255)
            ground.paste(self.image.getchannel("L"), mask=self.image.getchannel("A"))
        else:
            ground = Image.new("RGB", size, (255, 255, 255))
            ground.paste(self.image, mask=self.image)
        self.image = ground
        self.changes.append("flattened transparency onto white")

    def resize(self, size: tuple[int, int]) -> None:
        """Shrink to that size in pixels."""
        if size != self.image.size:
            self.image = self.image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)

    def saved(self, form: str, quality: int, limit: int) -> bytes | None:
        """The file, or None if it had more than `limit` bytes."""
        file = _Limited(limit)
        profile = self.profile if len(self.profile) <= _PROFILE_MAX_BYTES else b""
        bare = self.image
        bare.info = {}  # Pillow would write metadata from it, such as a transparent colour
        try:
            if form == "PNG":
                bare.save(file, "PNG", icc_profile=profile or None)
            else:
                # Full colour resolution at the first quality; below, the usual half is right.
                sampling = 0 if quality == _QUALITIES[0] else 2
                bare.save(
                    file, "JPEG", quality=quality, subsampling=sampling, icc_profile=profile or None
                )
        except _TooLarge:
            return None
        return file.getvalue()

    def as_webp(self) -> bytes:
        """A file to be looked at: small, colour profile included where that is small too."""
        file = io.BytesIO()
        profile = self.profile if len(self.profile) <= _PROFILE_SHOWN_BYTES else b""
        self.image.info = {}
        mode = "RGBA" if self.transparent else "RGB"
        self.image.convert(mode).save(file, "WEBP", quality=80, icc_profile=profile)
        return file.getvalue()


class _TooLarge(Exception):
    """A file in the making has exceeded its limit."""


class _Limited(io.BytesIO):
    """A file that ends its making as soon as it grows too large."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._limit:
            raise _TooLarge
        return super().write(data)


def _saved(picture: _Picture, facts: ImageFacts, rules: Images, target: str) -> Fitted:
    """The picture as a file within the limit: first as it is, then coarser, then smaller."""
    tries = _tries(target, rules)
    full = picture.image
    for number, (form, quality, share) in enumerate(tries):
        size = full.size if share == 1 else shrunk_to(full.size, int(max(full.size) * share))
        if share < 1 and min(size) < (rules.sides[0] if rules.sides else 1):
            break
        if form == "JPEG" and picture.transparent:
            picture.flatten()
            full = picture.image
        picture.image = full
        picture.resize(size)
        data = picture.saved(form, quality, rules.max_bytes)
        if data is not None:
            return _told(picture, data, facts, rules, quality if form == "JPEG" else 0, number)
    raise CannotFit(
        f"has {shown_size(facts.size)}; at most {shown_size(rules.max_bytes)} are allowed, and it "
        "does not fit into that at its smallest sides either"
    )


def _tries(target: str, rules: Images) -> Iterator[tuple[str, int, float]]:
    """Format, JPEG quality and share of the sides, from best to smallest."""
    if target == "PNG":
        yield "PNG", 0, 1.0
    last = ("JPEG", _QUALITIES[-1]) if "JPEG" in rules.formats else (target, 0)
    if "JPEG" in rules.formats:
        yield from (("JPEG", quality, 1.0) for quality in _QUALITIES)
    share = _STEP
    while share > 0.01:
        yield *last, share
        share *= _STEP


def _told(
    picture: _Picture, data: bytes, facts: ImageFacts, rules: Images, quality: int, number: int
) -> Fitted:
    """The mended file with its changes."""
    seen = imaging.look(data)
    size, origin = (seen.width, seen.height), facts.upright
    changes = picture.changes
    if size != origin:
        changes.append(f"shrunk from {origin[0]}×{origin[1]} to {size[0]}×{size[1]}")
    if seen.format != facts.format:
        changes.append(f"converted from {facts.format} to {seen.format}")
    if number or (facts.size > rules.max_bytes and size == origin):
        how = f"JPEG quality {quality}" if quality else seen.format
        changes.append(f"re-encoded as {how} to fit {shown_size(rules.max_bytes)}")
    return Fitted(
        data=data,
        facts=seen,
        changes=tuple(changes),
        scale=seen.width / origin[0],
        turned=facts.orientation,
        origin=origin,
    )


def fit_mask(
    data: bytes, facts: ImageFacts, base: ImageFacts, fitted_base: Fitted | None
) -> Fitted:
    """The mask, made to lie on its image as mended, in pure black and white.

    It must have its image's size: either as a person sees it, or as it is stored. Where both are the
    same, it is taken to be drawn on what a person sees. A mask that needs nothing keeps its bytes;
    any other becomes a PNG in RGB.

    Raises:
        CannotFit: it has another size, or transparent areas.
        UnreadableImage: its pixels are damaged.
    """
    stored = (facts.width, facts.height)
    if (too_many := imaging.too_many_pixels(facts)) is not None:
        raise CannotFit(too_many)
    as_seen = facts.upright == base.upright
    if not as_seen and (facts.orientation != 1 or stored != (base.width, base.height)):
        raise CannotFit(imaging.wrong_mask_size(facts.upright, base.upright))
    turn = 1 if as_seen else base.orientation
    size = base.upright
    if fitted_base is not None:
        size = (fitted_base.facts.width, fitted_base.facts.height)
    with reading():
        pure = _is_pure(data, facts)
        upright_picture = facts.orientation == turn == facts.frames == 1
        if pure and upright_picture and facts.format == "PNG" and facts.upright == size:
            return Fitted(data, facts, (), 1.0, 1, base.upright)
        picture = _Picture(data, facts, aim=facts.upright)
        changes = picture.changes
        grey = picture.image.convert("RGB").convert("L")
        picture.image = grey.point(lambda value: 255 if value >= _THRESHOLD else 0)
        if not pure:
            changes.append("thresholded to black and white")
        if turn != 1:
            picture.turn(turn)
            changes.append(f"turned with its image (EXIF orientation {turn})")
        if picture.image.size != size:
            picture.image = picture.image.resize(size, Image.Resampling.NEAREST)
            changes.append(f"shrunk with its image to {size[0]}×{size[1]}")
        if facts.format != "PNG":
            changes.append(f"converted from {facts.format} to PNG")
        picture.image = picture.image.convert("RGB")
        picture.profile = b""
        file = picture.saved("PNG", 0, imaging.FIT_MAX_BYTES)
    if file is None:
        raise CannotFit(f"has more than {shown_size(imaging.FIT_MAX_BYTES)} as a PNG")
    return Fitted(
        data=file,
        facts=imaging.look(file),
        changes=tuple(changes),
        scale=size[0] / base.upright[0],
        turned=turn if turn != 1 else facts.orientation,
        origin=base.upright,
    )


def _is_pure(data: bytes, facts: ImageFacts) -> bool:
    """Whether a mask is black and white already; CannotFit if it is not opaque.

    A function of its own, so that its pixels are freed before they are decoded again to be changed.
    """
    with open_image(data, facts.format) as image:
        if not imaging.is_opaque(image):
            raise CannotFit(imaging.UNSURE_MASK)
        return imaging.is_black_and_white(image)


def fit_boxes(boxes: Json, fitted: Fitted) -> Json:
    """The boxes of one image, `[x1, y1, x2, y2]` in pixels of `origin`, in pixels of the mended one.

    Rounded outward and kept inside, each at least one pixel wide and high. What is no box stays.
    """
    if not isinstance(boxes, list):
        return boxes
    return [_fit_box(box, fitted) for box in boxes]


def _fit_box(box: Json, fitted: Fitted) -> Json:
    if not isinstance(box, list):
        return box
    corners = [c for c in box if isinstance(c, int) and not isinstance(c, bool)]
    if len(corners) != 4 or len(box) != 4:
        return box
    left, top, right, bottom = corners
    x1, x2 = _fit_span(left, right, fitted.origin[0], fitted.facts.width)
    y1, y2 = _fit_span(top, bottom, fitted.origin[1], fitted.facts.height)
    return [x1, y1, x2, y2]


def _fit_span(start: int, end: int, before: int, after: int) -> tuple[int, int]:
    first = min(max(start * after // before, 0), after - 1)
    last = min(max(-(-end * after // before), first + 1), after)
    return first, last
