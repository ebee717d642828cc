"""The structure of an image file, walked without trust in any number that it claims.

Pillow believes what a header says, and reads headers only as far as it needs them. So each format has
a walker here that runs first: it says whether the file is whole, whether it holds several pictures and
how it is to be turned, in time and memory in proportion to the file's size, and refuses what would
cost Pillow more. It decodes no pixel.
"""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple


class UnreadableImage(ValueError):
    """The bytes are no image of a format that any model takes; the message says what they seem.

    It completes a sentence that begins with the file's name and "is".
    """


def cut_off(why: str) -> UnreadableImage:
    """The error for a file that ends too early."""
    return UnreadableImage(f"cut off: {why}")


def damaged(why: str) -> UnreadableImage:
    """The error for a file that contradicts itself or asks for too much."""
    return UnreadableImage(f"a damaged image: {why}")


_MOST_PARTS: Final = 4096
"""Segments, metadata chunks or tags of one image; real ones have dozens."""
_MOST_EXIF_PARTS: Final = 16
"""Pillow joins the EXIF parts of a JPEG one by one, each time copying all before it."""
_MOST_SCANS: Final = 100
"""Each scan of a progressive JPEG goes over all of its pixels; real ones have about ten."""
_MOST_JUNK: Final = 65_536
"""Bytes between the segments of a JPEG, which decoders skip one at a time."""
_MOST_CHANNELS: Final = 64
_MOST_VALUES: Final = 262_144
"""Values of one TIFF tag; 64 megapixels in tiles of 16×16 have 250,000 offsets."""
_MOST_PAGES: Final = 16
"""Directories of a TIFF looked at for a second page; more than that are several in any case."""

_XMP_ORIENTATION: Final = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_MARKER: Final = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


class Outline(NamedTuple):
    """What the structure says; None where Pillow says it better."""

    frames: int = 1
    orientation: int = 1
    size: tuple[int, int] | None = None
    alpha: bool | None = None


def _png(data: bytes, whole: bool) -> Outline:
    at, others, profiles, ended = 8, 0, 0, False
    animation, first_is_frame, image_seen = 0, False, False
    exif = xmp = b""
    while at + 8 <= len(data) and not ended:
        length, kind = struct.unpack_from(">I4s", data, at)
        body, at = at + 8, at + 12 + length
        if at > len(data):
            break
        if kind == b"IDAT":
            image_seen = True
        elif kind == b"acTL" and length >= 8 and not image_seen:
            (animation,) = struct.unpack_from(">I", data, body)
        elif kind == b"fcTL":
            first_is_frame = first_is_frame or not image_seen
        elif kind == b"eXIf":
            exif = exif or data[body : body + length]
        elif kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0", body):
            xmp = xmp or data[body : body + length]
        profiles += kind == b"iCCP"  # each is unpacked
        others += kind not in (b"IDAT", b"fdAT", b"fcTL")
        if others > _MOST_PARTS or profiles > 1:
            raise damaged("the PNG has too much beside its picture")
        ended = kind == b"IEND"
    if whole and not ended:
        raise cut_off("the PNG ends before its last chunk does")
    # A picture outside of its animation is one more: some programs show it, some the animation.
    frames = animation + (0 if first_is_frame or not animation else 1)
    return Outline(min(max(frames, 1), 2), _orientation(exif, xmp))


def _jpeg(data: bytes, whole: bool) -> Outline:
    at, parts, junk = 2, 0, 0
    exif: list[bytes] = []
    xmp = b""
    while True:
        marker = data.find(b"\xff", at)
        code_at = marker + 1
        while code_at < len(data) and data[code_at] == 0xFF and junk <= _MOST_JUNK:
            code_at, junk = code_at + 1, junk + 1  # padding
        if marker < 0 or code_at >= len(data):
            raise cut_off("the JPEG ends before its picture")
        junk += marker - at
        parts += 1
        if junk > _MOST_JUNK or parts > _MOST_PARTS:
            raise damaged("the JPEG has too much before its picture")
        code, at = data[code_at], code_at + 1
        if code == 0xD9:
            raise damaged("the JPEG has no picture")
        if code <= 0x01 or 0xD0 <= code <= 0xD8:
            continue  # markers that stand alone
        start, at = at + 2, _segment_end(data, at)
        if code == 0xE1 and data.startswith(b"Exif\0\0", start):
            exif.append(data[start + 6 : at])
            if len(exif) > _MOST_EXIF_PARTS:
                raise damaged(f"the JPEG has more than {_MOST_EXIF_PARTS} EXIF parts")
        elif code == 0xE1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0", start):
            xmp = data[start:at]
        elif code == 0xDA:
            break
    if whole:
        _walk_scans(data, at)
    return Outline(1, _orientation(b"".join(exif), xmp))


def _segment_end(data: bytes, at: int) -> int:
    """Where the JPEG segment ends whose length stands at `at`."""
    if at + 2 > len(data):
        raise cut_off("the JPEG ends before its picture does")
    (length,) = struct.unpack_from(">H", data, at)
    if length < 2:
        raise damaged("a part of the JPEG has no length")
    if at + length > len(data):
        raise cut_off("the JPEG ends before its picture does")
    return at + int(length)


def _walk_scans(data: bytes, at: int) -> None:
    """Go from the first scan's data to the end marker.

    Tables between scans may hold the marker's two bytes by chance, so they are skipped as wholes.
    """
    scans, parts = 1, 0
    while True:
        found = _MARKER.search(data, at)
        if found is None:
            raise cut_off("the JPEG ends before its picture does")
        code, at = found[1][0], found.end()
        if code == 0xD9:
            return
        parts += 1
        scans += code == 0xDA
        if scans > _MOST_SCANS or parts > _MOST_PARTS:
            raise damaged("the JPEG has too many scans")
        if code >= 0xC0 and not 0xF0 <= code <= 0xFD:
            at = _segment_end(data, at)


def _webp(data: bytes, whole: bool) -> Outline:
    if len(data) < 30:
        raise cut_off("the WEBP ends within its header")
    (length,) = struct.unpack_from("<I", data, 4)
    if whole and length + 8 > len(data):
        raise cut_off(f"the WEBP says that it has {length + 8} bytes, here are {len(data)}")
    form = data[12:16]
    if form == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        return Outline(size=(width, height), alpha=False)
    if form == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        return Outline(size=size, alpha=bool(bits >> 28 & 1))
    if form != b"VP8X":
        raise damaged("the WEBP has no picture")
    flags = data[20]
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    at, limit, frames, still = 12, min(len(data), length + 8), 0, False
    exif = xmp = b""
    while at + 8 <= limit:
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            frames += 1
        elif kind in (b"VP8 ", b"VP8L"):
            still = True
        elif kind == b"EXIF" and flags & 8:
            exif = exif or data[at + 8 : at + 8 + length]
        elif kind == b"XMP " and flags & 4:
            xmp = xmp or data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)
    if whole and not frames and not still:
        raise damaged("the WEBP has no picture")
    frames = min(frames, 2) if flags & 2 and frames else 1
    return Outline(frames, _orientation(exif, xmp), (width, height), bool(flags & 16))


def _gif(data: bytes, whole: bool) -> Outline:
    """Up to the second frame. What follows the first one may be missing: nobody looks at it."""
    if len(data) < 13:
        raise cut_off("the GIF ends within its header")
    at = 13 + _palette_bytes(data[10])
    frames, others = 0, 0
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x21:
            at, blocks = _after_blocks(data, at + 2)
            others += blocks + 1
        elif data[at] == 0x2C:
            frames += 1
            if frames == 2:
                return Outline(2)
            if at + 10 > len(data):
                raise cut_off("the GIF ends before its picture")
            at, _ = _after_blocks(data, at + 11 + _palette_bytes(data[at + 9]))
        else:
            at, others = at + 1, others + 1  # decoders skip what stands between the blocks
        if others > _MOST_VALUES:
            raise damaged("the GIF has too much beside its picture")
        if at > len(data) and whole and frames < 2:
            raise cut_off("the GIF ends before its picture does")
    if not frames:
        raise cut_off("the GIF ends before its picture")
    return Outline(1)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> tuple[int, int]:
    """Where the sub-blocks end that begin there, beyond the data if cut off, and their number."""
    blocks = 0
    while at < len(data) and data[at]:
        at, blocks = at + 1 + data[at], blocks + 1
    return at + 1, blocks


# --- TIFF, and EXIF, which is a TIFF without a picture -------------------------------------------

_UNITS: Final = {
    **{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4},
    **{16: 8, 17: 8, 18: 8},
}
"""Bytes of one value, by the type of a tag."""
_NUMBERS: Final = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}
"""Those that Pillow reads as whole numbers: it turns a TIFF upright by its own reading."""
_BYTE_TYPES: Final = (1, 2, 6, 7)
_WIDTH, _HEIGHT, _ORIENTATION, _XMP = 256, 257, 274, 700
_SUBFILE, _REDUCED_OR_MASK = 254, 5
_PER_CHANNEL: Final = (258, 338, 339)
_PIECES: Final = ((273, 279), (324, 325))
"""Offsets and byte counts of strips and of tiles."""


class _Tag(NamedTuple):
    type: int
    values: int
    at: int
    """Where its values begin."""


class _Tiff:
    """The directories of a TIFF or of EXIF data, read with no trust in any number in them."""

    def __init__(self, data: bytes) -> None:
        """Read the header; struct.error if it is too short."""
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = struct.unpack_from(f"{self.order}H", data, 2)[0] == 43
        (self.first,) = struct.unpack_from(
            f"{self.order}{'Q' if self.big else 'I'}", data, 8 if self.big else 4
        )

    def directory(self, at: int) -> tuple[dict[int, _Tag], int]:
        """The tags of the directory there, and where the next one is; struct.error if cut off."""
        word, inline = ("Q", 8) if self.big else ("I", 4)
        head = struct.Struct(f"{self.order}HH{word}")
        count_form = f"{self.order}{'Q' if self.big else 'H'}"
        if at >= len(self.data):  # struct takes no offset beyond what an index can be
            raise struct.error
        (count,) = struct.unpack_from(count_form, self.data, at)
        if count > _MOST_PARTS:
            raise damaged(f"it has {count} tags")
        at += struct.calcsize(count_form)
        tags: dict[int, _Tag] = {}
        for _ in range(count):
            tag, kind, values = head.unpack_from(self.data, at)
            at += head.size
            place = at
            if _UNITS.get(kind, 0) * values > inline:
                (place,) = struct.unpack_from(f"{self.order}{word}", self.data, at)
            at += inline
            if kind in _UNITS:
                tags.setdefault(tag, _Tag(kind, values, place))
        return tags, struct.unpack_from(f"{self.order}{word}", self.data, at)[0]

    def ends(self, tag: _Tag) -> int:
        """Where the values of the tag end."""
        return tag.at + _UNITS[tag.type] * tag.values

    def numbers(self, tag: _Tag | None) -> tuple[int, ...]:
        """The tag's whole numbers; none if it has others, or lies outside the data."""
        if tag is None or tag.type not in _NUMBERS or tag.values > _MOST_VALUES:
            return ()
        if self.ends(tag) > len(self.data):
            return ()
        form = f"{self.order}{tag.values}{_NUMBERS[tag.type]}"
        return struct.unpack_from(form, self.data, tag.at)

    def number(self, tag: _Tag | None) -> int | None:
        """The tag's number if it is one."""
        found = self.numbers(tag)
        return found[0] if len(found) == 1 else None

    def orientation(self, tags: dict[int, _Tag]) -> int | None:
        """The orientation that the tags name, 1 to 8; 1 for one out of bounds, None for none."""
        if _ORIENTATION not in tags:
            return None
        found = self.number(tags[_ORIENTATION])
        return found if found is not None and 1 <= found <= 8 else 1


def _tiff(data: bytes, whole: bool) -> Outline:
    try:
        tiff = _Tiff(data)
        tags, following = tiff.directory(tiff.first)
    except struct.error:
        raise cut_off("the TIFF ends before its directory does") from None
    for number, tag in tags.items():
        most = _MOST_CHANNELS if number in _PER_CHANNEL else _MOST_VALUES
        if tag.values > most and (number in _PER_CHANNEL or tag.type not in _BYTE_TYPES):
            raise damaged(f"the TIFF's tag {number} has {tag.values} values")
        if whole and tiff.ends(tag) > len(data):
            raise cut_off(f"the TIFF ends before the values of its tag {number} do")
    width, height = tiff.number(tags.get(_WIDTH)), tiff.number(tags.get(_HEIGHT))
    if not width or not height:
        raise damaged("the TIFF does not say its sides")
    orientation = tiff.orientation(tags)
    if orientation is None:
        xmp = tags.get(_XMP)
        place = slice(xmp.at, tiff.ends(xmp)) if xmp else slice(0)
        orientation = _orientation(b"", data[place])
    if whole:
        for offsets, counts in _PIECES:
            pairs = zip(
                tiff.numbers(tags.get(offsets)), tiff.numbers(tags.get(counts)), strict=False
            )
            if max((offset + count for offset, count in pairs), default=0) > len(data):
                raise cut_off("the TIFF ends before its picture does")
    frames = 2 if _has_second_page(tiff, following, whole) else 1
    return Outline(frames, orientation, (width, height))


def _has_second_page(tiff: _Tiff, following: int, whole: bool) -> bool:
    """Whether a directory after the first one is a page of its own, not a preview or a mask."""
    seen = {tiff.first}
    while following and following not in seen:
        if len(seen) > _MOST_PAGES:
            return True
        seen.add(following)
        try:
            tags, following = tiff.directory(following)
        except struct.error:
            if whole:
                raise cut_off("the TIFF ends before its second page") from None
            return True
        if not (tiff.number(tags.get(_SUBFILE)) or 0) & _REDUCED_OR_MASK:
            return True
    return False


def _orientation(exif: bytes, xmp: bytes) -> int:
    """The orientation, 1 to 8, that EXIF data or else XMP data name; 1 where neither does."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    if exif[:2] in (b"II", b"MM"):
        try:
            tiff = _Tiff(exif)
            found = tiff.orientation(tiff.directory(tiff.first)[0])
        except (struct.error, UnreadableImage):
            found = 1  # damaged metadata, which nobody turns an image by
        if found is not None:
            return found
    said = _XMP_ORIENTATION.search(xmp)
    return int(said[1]) if said and b"1" <= said[1] <= b"8" else 1


OUTLINES: Final = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "GIF": _gif, "TIFF": _tiff}
"""The walker of each format: takes the bytes, and whether they are all there are."""
