"""Images as the provider will see them, checked before money is spent.

`look` reads an image's header and structure by its content, never by its name, and decodes no pixel.
`check_image` holds what was found against a model's rules. Only a mask is decoded, because its
colours matter. What can be mended is mended by `retouch.fitting`.

Whatever the bytes, `look` takes time and memory in proportion to their number: every count that a
header may claim is held against a bound before Pillow, which believes it, opens the file.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from retouch.outlines import OUTLINES, cut_off, damaged
from retouch.outlines import UnreadableImage as UnreadableImage
from retouch.registry import MIB, Images, Json, Model
from retouch.sidecar import Problem

MAX_PIXELS: Final = 8000 * 8000
"""More pixels than any model takes; what claims more is never decoded."""
FIT_MAX_BYTES: Final = 64 * MIB
"""The largest file, in bytes, that `fit` reads in order to mend it."""

# Pixels are held against MAX_PIXELS before anything is decoded, so Pillow's own guard, which warns
# by pixel count alone, would only refuse images that a model takes.
Image.MAX_IMAGE_PIXELS = None

_OPENERS: Final[dict[str, type[ImageFile.ImageFile]]] = {
    # The class itself instead of Image.open: a JPEG that holds further pictures, as phones write it
    # (MPO), is opened as the JPEG that it is, and no other opener is tried on the same bytes.
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
}
_MAGIC: Final = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("WEBP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("BMP", re.compile(rb"BM")),
)
_PICTURE: Final = "{}, which no model takes; save it as JPEG or PNG"
_VIDEO: Final = "a video, not an image; save a picture from it as JPEG or PNG"
_WEB_PAGE: Final = "a web page, not an image; download the image itself"
_ZIP: Final = "a ZIP archive, not an image; unpack it and drop the images in it"
_RAW: Final = "a camera's raw file"
_PREAMBLE: Final = rb"(?:\xef\xbb\xbf)?(?>\s+|<\?xml[^>]*>|<!--.*?-->)*+"
"""What may precede the first element of SVG or HTML; it never backtracks."""
_OTHERS: Final = tuple(
    (said, re.compile(magic, re.DOTALL))
    for said, magic in (
        (_PICTURE.format("HEIC"), rb".{4}ftyphe(?:i[cxms]|v[cxms])"),
        (_PICTURE.format("AVIF"), rb".{4}ftypavi[fs]"),
        # A general brand, after which a list of further ones says which kind it is.
        (_PICTURE.format("AVIF"), rb".{4}ftypm[is]f1.{4}(?:.{4})*?avi[fs]"),
        (_PICTURE.format("HEIC"), rb".{4}ftypm[is]f1.{4}(?:.{4})*?he(?:i[cxms]|v[cxms])"),
        (_PICTURE.format("HEIF"), rb".{4}ftypm[is]f1"),
        (_PICTURE.format("JPEG XL"), rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
        (_PICTURE.format("JPEG 2000"), rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"),
        (_PICTURE.format("a Photoshop file"), rb"8BPS"),
        (_PICTURE.format("PDF"), rb"%PDF-"),
        (_PICTURE.format("SVG"), _PREAMBLE + rb"(?i:<(?:svg|!doctype\s+svg)\b)"),
        (_PICTURE.format(_RAW), rb".{4}ftypcrx |FUJIFILMCCD-RAW|II(?:U\0|RO|RS)|MMOR|FOVb|\0MRM"),
        (_VIDEO, rb".{4}ftyp(?:iso[m2-9]|mp4[12]|avc1|M4V |qt  |3g[p2]|MSNV|dash)"),
        (_VIDEO, rb"\x1a\x45\xdf\xa3|RIFF.{4}AVI "),
        (_WEB_PAGE, _PREAMBLE + rb"(?i:<(?:!doctype\s+html|html|head|body)\b)"),
        (_ZIP, rb"PK\x03\x04"),
    )
)
"""What is dropped in place of an image, by its first bytes: what to say of it."""
_MOST_OF_A_MAGIC: Final = 1024
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
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What Pillow raises for damaged files."""
_DEEP_BLACK_AND_WHITE: Final = {0, 65_535}
_BLACK_AND_WHITE: Final = {(0, 0, 0), (255, 255, 255)}
ALPHA_MODES: Final = ("RGBA", "LA", "PA", "RGBa", "La")
"""Pillow's modes that carry transparency in a channel of their own."""


@dataclass(frozen=True)
class ImageFacts:
    """What an image is: format by content, stored sides in pixels, size in bytes, and its traits."""

    format: str
    width: int
    height: int
    size: int
    alpha: bool
    """Whether it can carry transparency, used or not."""
    frames: int = 1
    """1, or 2 for an image of several frames or pages: what lies beyond the second is not counted.

    The further pictures that a phone keeps in a JPEG, and a TIFF's reduced ones, are none.
    """
    orientation: int = 1
    """EXIF orientation, 1 (upright) to 8."""

    @property
    def mime(self) -> str:
        """The MIME type of the bytes."""
        return _MIME[self.format]

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height in pixels as a person sees them, after the EXIF orientation."""
        if self.orientation >= 5:
            return self.height, self.width
        return self.width, self.height


@contextmanager
def reading() -> Iterator[None]:
    """Turns whatever Pillow raises for damaged files into UnreadableImage, and drops its warnings.

    Raises:
        UnreadableImage: Pillow could not read the image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which no model reads
            yield
    except UnreadableImage:
        raise
    except _DAMAGED as error:
        # The texts of other exceptions are Python's, and say nothing about the file.
        telling = isinstance(error, OSError | SyntaxError | ValueError) and str(error)
        raise damaged(str(error) if telling else "its parts contradict each other") from error


def open_image(data: bytes, form: str) -> ImageFile.ImageFile:
    """The image in `data`, opened as that format and not yet decoded. Call it within `reading`."""
    return _OPENERS[form](io.BytesIO(data))


# --- look --------------------------------------------------------------------------------------


def ends_whole(form: str, head: bytes, tail: bytes, size: int) -> bool:
    """Whether a file of that format, of which the first and the last bytes are given, has its end.

    Of a format whose end says nothing it is taken to have.
    """
    match form:
        case "PNG":
            return b"IEND\xaeB`\x82" in tail
        case "JPEG":
            return b"\xff\xd9" in tail  # it stands nowhere else among the last bytes
        case "WEBP":
            return size >= int.from_bytes(head[4:8], "little") + 8
        case _:
            return True


def look(data: bytes, *, whole: bool = True) -> ImageFacts:
    """The facts of the image in `data`, from its header and structure; no pixel is decoded.

    `whole=False` for the first bytes of a file that goes on: then nothing is said to be cut off that
    may lie beyond them, and frames or an orientation there are not seen.

    Raises:
        UnreadableImage: no image, a format that no model takes, a damaged header, or a file that
            is cut off.
    """
    if not data:
        raise UnreadableImage("empty")
    form = next((name for name, magic in _MAGIC if magic.match(data)), None)
    if form is None:
        raise _unknown(data)
    if form == "BMP":
        return _look_at_bmp(data, whole)
    with reading():
        outline = OUTLINES[form](data, whole)
        size, alpha = outline.size, outline.alpha
        if alpha is None or size is None:
            # Not for WEBP, whose opener makes room for all pixels.
            with open_image(data, form) as image:
                alpha = image.mode in ALPHA_MODES or "transparency" in image.info
                size = size or image.size
    width, height = size
    if not width or not height:
        raise damaged("it has no pixels")
    return ImageFacts(form, width, height, len(data), alpha, outline.frames, outline.orientation)


def _look_at_bmp(data: bytes, whole: bool) -> ImageFacts:
    """A BMP, whose two letters may also begin a text."""
    try:
        with reading(), open_image(data, "BMP") as image:
            width, height = image.size
            alpha = image.mode in ALPHA_MODES
            offset = image.tile[0].offset
            args = image.tile[0].args
    except UnreadableImage:
        if len(data) > 18 and data[15:18] == b"\0\0\0":  # the size of a header that BMP has
            raise
        raise _unknown(data) from None
    # The file size in the header is wrong in many a BMP that every program shows, so the pixels
    # count; where they are packed, their number of bytes is not known.
    if whole and isinstance(args, tuple) and len(args) == 3 and isinstance(args[1], int):
        needed = offset + args[1] * height
    else:
        needed = int.from_bytes(data[2:6], "little")
    if whole and needed > len(data):
        raise cut_off(f"the BMP needs {needed} bytes, here are {len(data)}")
    return ImageFacts("BMP", width, height, len(data), alpha)


def _unknown(data: bytes) -> UnreadableImage:
    """What to say of bytes that are none of the formats above."""
    head = data[:_MOST_OF_A_MAGIC]
    if head[4:8] == b"ftyp":  # a list of brands, as long as it says
        head = head[: int.from_bytes(head[:4], "big")]
    said = next((said for said, magic in _OTHERS if magic.match(head)), None)
    if said is not None:
        return UnreadableImage(said)
    *most, last = _OPENERS
    return UnreadableImage(
        f"not a readable image; it begins with {shown_bytes(data)}; {', '.join(most)} and {last} "
        "are read"
    )


def shown_bytes(data: bytes) -> str:
    """The first bytes, readable, for a message."""
    return repr(data[:12])[1:]


def shown_size(size: int) -> str:
    """A number of bytes, readable, for a message: rounded, with the bytes where that changes it.

    So two numbers that differ are never shown alike, as a file one byte over its limit.
    """
    rounded = f"{size / MIB:.1f} MB"
    return rounded if size * 10 % MIB == 0 else f"{rounded} ({size:,} bytes)"


# --- rules -------------------------------------------------------------------------------------


def shrunk_to(size: tuple[int, int], most: int) -> tuple[int, int]:
    """`size` in pixels, shrunk in proportion until its longer side has `most`.

    The shorter side is rounded up, so that neither a least side nor a ratio suffers by rounding.
    """
    width, height = size
    if max(size) <= most:
        return size
    if width >= height:
        return most, -(-height * most // width)
    return -(-width * most // height), most


def format_after_fit(facts: ImageFacts, rules: Images) -> str | None:
    """The format in which `fit` would save an image: JPEG stays JPEG, all else becomes PNG.

    None if the model takes neither.
    """
    wanted = ("JPEG", "PNG") if facts.format == "JPEG" else ("PNG", "JPEG")
    return next((form for form in wanted if form in rules.formats), None)


@dataclass(frozen=True)
class _Finding:
    """One rule that an image breaks, as the end of a sentence that begins with its name."""

    said: str
    mend: str | None = None
    """What `fit` would do about it; None if it cannot help."""
    why_not: str = ""
    """Why `fit` cannot help, where `said` leaves that open."""

    def sentence(self, hint: bool) -> str:
        if not hint or not (self.mend or self.why_not):
            return self.said
        if self.mend:
            return f'{self.said}; "fit": true would {self.mend}'
        return f'{self.said}; "fit" cannot help: {self.why_not}'


def too_many_pixels(facts: ImageFacts) -> str | None:
    """What to say of an image that is never decoded; None if it may be."""
    if facts.width * facts.height <= MAX_PIXELS:
        return None
    return (
        f"is {facts.width}×{facts.height} pixels, {facts.width * facts.height:,} in all; more than "
        f"{MAX_PIXELS:,} are never unpacked, for any model"
    )


def _findings(facts: ImageFacts, rules: Images, placed: bool) -> Iterator[_Finding]:
    """The rules that the image breaks."""
    if (too_many := too_many_pixels(facts)) is not None:
        yield _Finding(too_many)
        return
    if facts.format not in rules.formats:
        target = format_after_fit(facts, rules)
        yield _Finding(
            f"is {facts.format} by its content; allowed: {', '.join(rules.formats)}",
            f"convert it to {target}" if target else None,
        )
    if facts.size > rules.max_bytes:
        too_large = facts.size > FIT_MAX_BYTES
        yield _Finding(
            f"has {shown_size(facts.size)}; at most {shown_size(rules.max_bytes)} are allowed",
            None if too_large else "re-encode it, and shrink it if need be",
            f"it reads at most {shown_size(FIT_MAX_BYTES)}",
        )
    yield from _findings_of_sides(facts, rules)
    if facts.alpha and not rules.alpha:
        yield _Finding(
            "has transparency, which the model does not take; flatten it onto a background",
            "flatten it onto white",
        )
    if facts.frames > 1 and not _first_frame_is_taken(facts, rules):
        yield _Finding(
            "has several frames or pages; the model takes a single picture",
            "take the first one",
        )
    if facts.orientation != 1 and placed:
        yield _Finding(
            f"is stored turned (EXIF orientation {facts.orientation}), so that places in it can be "
            "read in two ways; save it upright",
            "turn it upright",
        )


def _findings_of_sides(facts: ImageFacts, rules: Images) -> Iterator[_Finding]:
    width, height = facts.width, facts.height
    short, long = sorted((width, height))
    sides = f"{width}×{height}"
    too_long_for_its_width = rules.ratio is not None and long > rules.ratio * short
    if rules.sides and not rules.sides[0] <= short <= long <= rules.sides[1]:
        low, high = rules.sides
        said = f"is {sides} pixels; each side must be {low}–{high}"
        after = min(shrunk_to((width, height), high))
        if long <= high:
            yield _Finding(f"{said}; a larger original is needed", None, "it does not enlarge")
        elif after < low:
            why = f"with {high} on the longer side the shorter one would have {after}"
            yield _Finding(said, None, why)
        elif too_long_for_its_width:
            yield _Finding(said, None, "its ratio would stay what it is")
        else:
            new = "×".join(str(side) for side in shrunk_to(facts.upright, high))
            yield _Finding(said, f"shrink it to {new}")
    if too_long_for_its_width:
        yield _Finding(
            f"is {sides} pixels; the ratio must be 1:{rules.ratio:g} to {rules.ratio:g}:1",
            None,
            "it neither crops nor pads",
        )


def _first_frame_is_taken(facts: ImageFacts, rules: Images) -> bool:
    """Models that take GIF use the first frame (contract 3.3)."""
    return facts.format == "GIF" and "GIF" in rules.formats


def needs_fit(facts: ImageFacts, rules: Images) -> bool:
    """Whether `fit` would change the image, or could not mend it."""
    return facts.orientation != 1 or any(_findings(facts, rules, placed=True))


def beyond_fit(facts: ImageFacts, rules: Images) -> list[str]:
    """What `fit` cannot mend in the image; each text completes a sentence that its name begins."""
    return [f.sentence(True) for f in _findings(facts, rules, placed=True) if not f.mend]


def check_image(
    facts: ImageFacts,
    rules: Images,
    field: str,
    name: str,
    *,
    placed: bool = False,
    hint: bool = True,
) -> tuple[list[Problem], list[Problem]]:
    """The problems and the warnings of one image under a model's rules.

    `placed`: the job has a mask, boxes or growth in some direction, so that places in the image
    matter. `hint`: say what `"fit": true` in the sidecar would do about it.
    """
    problems = [
        Problem(field, f'"{name}" {found.sentence(hint)}')
        for found in _findings(facts, rules, placed)
    ]
    notes: list[str] = []
    if facts.frames > 1 and _first_frame_is_taken(facts, rules):
        notes.append("has several frames; the provider uses the first one")
    if facts.orientation != 1 and not placed:
        turned = _Finding(
            f"is stored turned (EXIF orientation {facts.orientation}); whether the provider turns "
            "it upright is not documented",
            "turn it upright",
        )
        notes.append(turned.sentence(hint))
    advised = rules.advised_sides
    if advised and not (
        advised[0] <= min(facts.width, facts.height)
        and max(facts.width, facts.height) <= advised[1]
    ):
        sides = f"{facts.width}×{facts.height}"
        notes.append(f"is {sides} pixels; the provider advises {advised[0]}–{advised[1]} a side")
    return problems, [Problem(field, f'"{name}" {note}') for note in notes]


# --- masks and boxes ---------------------------------------------------------------------------

UNSURE_MASK: Final = (
    "has transparent areas, which could mean either; fill them with black (keep) or white (edit)"
)


def check_mask(
    data: bytes, name: str, base: ImageFacts | None, *, hint: bool = True
) -> list[Problem]:
    """The problems of a mask that is within its model's limits: its size, and its two colours.

    `base` is None where the image is passed on by URL; then only the colours can be checked. `hint`
    as for `check_image`. At most MAX_PIXELS are decoded, of a mask of its image's size only.
    """
    try:
        facts = look(data)
        if (too_many := too_many_pixels(facts)) is not None:
            return [Problem("mask", f'"{name}" {too_many}')]
        size = (facts.width, facts.height)
        if base is not None and size != (base.width, base.height):
            said = wrong_mask_size(size, (base.width, base.height))
            return [Problem("mask", f'"{name}" {said}')]
        with reading(), open_image(data, facts.format) as image:
            opaque = is_opaque(image)
            pure = opaque and is_black_and_white(image)
    except UnreadableImage as error:
        return [Problem("mask", f'"{name}" is {error}')]
    if not opaque:
        return [Problem("mask", f'"{name}" {UNSURE_MASK}')]
    if not pure:
        found = _Finding(
            "has other colours than pure black (keep) and pure white (edit); save it without "
            "smoothing, as PNG",
            "make every pixel black or white",
        )
        return [Problem("mask", f'"{name}" {found.sentence(hint)}')]
    return []


def wrong_mask_size(size: tuple[int, int], wanted: tuple[int, int]) -> str:
    """What to say of a mask of another size than its image, both in pixels."""
    return f"is {size[0]}×{size[1]} pixels; it must have its image's size, {wanted[0]}×{wanted[1]}"


def is_opaque(image: Image.Image) -> bool:
    """Whether no pixel is transparent. Decodes the image; call it within `reading`."""
    if image.mode not in ALPHA_MODES and "transparency" not in image.info:
        return True
    if image.mode.startswith("I"):
        # One grey of sixteen bits, which no alpha channel can be made of. With many it is no mask.
        greys = image.convert("I").getcolors(maxcolors=64)
        return greys is not None and image.info["transparency"] not in {grey for _, grey in greys}
    lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
    return lowest == 255


def is_black_and_white(image: Image.Image) -> bool:
    """Whether all pixels are pure black or pure white. Decodes; call it within `reading`."""
    if image.mode.startswith("I"):  # deeper greys, which a conversion to RGB would clip
        greys = image.convert("I").getcolors(maxcolors=2)
        return greys is not None and {grey for _, grey in greys} <= _DEEP_BLACK_AND_WHITE
    colours = image.convert("RGB").getcolors(maxcolors=2)
    return colours is not None and {rgb for _, rgb in colours} <= _BLACK_AND_WHITE


def check_boxes(boxes: Json, sizes: list[ImageFacts | None], model: Model) -> list[Problem]:
    """Boxes that reach outside their images, as a person sees them.

    `sizes` holds None for images passed on by URL.
    """
    if "bbox_list" not in model.by_name or not isinstance(boxes, list):
        return []
    problems = []
    for index, (of_image, facts) in enumerate(zip(boxes, sizes, strict=False)):
        if facts is None or not isinstance(of_image, list):
            continue
        width, height = facts.upright
        for box in of_image:
            if not isinstance(box, list):
                continue
            corners = [corner for corner in box if isinstance(corner, int)]
            if len(corners) == 4 and (corners[2] > width or corners[3] > height):
                problems.append(
                    Problem(
                        f"parameters.bbox_list[{index}]",
                        f"{corners} reaches outside its image of {width}×{height} pixels",
                    )
                )
    return problems
