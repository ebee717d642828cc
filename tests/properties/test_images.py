"""Any bytes are an image with facts, or no image for a stated reason; never another exception.

Whatever facts are found, every model's rules give two lists about them, and a mask is judged with
problems alone: the bytes come from strangers, and a decoder's surprise must not stop a drop.
"""

from __future__ import annotations

import io
import zlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from retouch import imaging
from retouch.fitting import Thumbnail, thumbnail
from retouch.imaging import ImageFacts, UnreadableImage
from retouch.registry import MODELS
from retouch.sidecar import Problem
from tests.properties.strategies import MEGABYTE, affordable, is_utf8, peak_of, weighted

_FORMATS = {"JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"}
_MOST_PIXELS = 1_000_000
"""Headers may be mutated to say anything; beyond this, masks are decoded only within their limits."""


# --- real images, small --------------------------------------------------------------------------


def _picture(mode: str, size: tuple[int, int] = (24, 16)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def _saved(kind: str, mode: str = "RGB", frames: int = 1, **options: object) -> bytes:
    out = io.BytesIO()
    if frames > 1:
        options |= {"save_all": True, "append_images": [_picture(mode)] * (frames - 1)}
    _picture(mode).save(out, kind, **options)
    return out.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    exif[0x010E] = "a door"
    return exif


def _black_and_white() -> bytes:
    """A mask as it should be, of the smallest sides that a mask may have."""
    out = io.BytesIO()
    mask = Image.new("1", (512, 512))
    mask.paste(1, (100, 100, 300, 300))
    mask.save(out, "PNG")
    return out.getvalue()


_MASK = _black_and_white()
_REAL = (
    _saved("JPEG"),
    _saved("JPEG", exif=_exif()),
    _saved("JPEG", progressive=True, icc_profile=b"\x00" * 128),
    _saved("JPEG", "L"),
    _saved("JPEG", "CMYK"),
    _saved("MPO", frames=2),
    _saved("PNG"),
    _saved("PNG", "1"),
    _saved("PNG", "P", transparency=0),
    _saved("PNG", "LA", exif=_exif()),
    _saved("PNG", "RGBA", icc_profile=b"\x00" * 128, dpi=(72, 72)),
    _saved("PNG", "I;16"),
    _saved("PNG", frames=2),
    _saved("GIF"),
    _saved("GIF", "P", frames=3, comment=b"a door", loop=0),
    _saved("WEBP"),
    _saved("WEBP", "RGBA", lossless=True, exif=_exif()),
    _saved("WEBP", frames=2),
    _saved("BMP"),
    _saved("BMP", "1"),
    _saved("BMP", "P"),
    _saved("TIFF"),
    _saved("TIFF", "1", compression="group4"),
    _saved("TIFF", frames=2, compression="tiff_lzw"),
    _saved("TIFF", "RGBA", compression="tiff_deflate", exif=_exif()),
    _saved("TIFF", "F"),
    _MASK,
)
_MAGICS = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    b"\xff\xd8\xff\xe1\x00\x20Exif\x00\x00II*\x00\x08\x00\x00\x00",
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    b"GIF89a",
    b"BM",
    b"II*\x00\x08\x00\x00\x00",
    b"MM\x00*\x00\x00\x00\x08",
    b"II+\x00\x08\x00\x00\x00",
    b"RIFF\xff\x00\x00\x00WEBPVP8 ",
    b"RIFF\xff\x00\x00\x00WEBPVP8X",
    b"8BPS",
    b"%!PS-Adobe-3.0 EPSF-3.0",
    b"%PDF-1.4",
    b"<svg",
)
_PATCHES = (
    b"\x00",
    b"\xff",
    b"\x80",
    b"\x00\x00",
    b"\xff\xff",
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\x00\x01\x00\x00",
    b"\x02\x00\x00\x02",
)

_places = st.one_of(st.integers(0, 80), st.integers(0, 4000))
_patches = st.lists(
    st.tuples(_places, st.sampled_from(_PATCHES) | st.binary(min_size=1, max_size=4)),
    min_size=1,
    max_size=5,
)
_pictures = st.sampled_from(_REAL)


def _patched(data: bytes, patches: list[tuple[int, bytes]]) -> bytes:
    changed = bytearray(data)
    for place, patch in patches:
        start = place % len(changed)
        changed[start : start + len(patch)] = patch
    return bytes(changed)


def _spliced(first: bytes, second: bytes, end: int, start: int) -> bytes:
    return first[: end % (len(first) + 1)] + second[start % (len(second) + 1) :]


_truncated = st.builds(lambda data, end: data[: end % (len(data) + 1)], _pictures, _places)
_mutated = st.builds(_patched, _pictures, _patches)
_files = weighted(
    (1, st.binary(max_size=80)),
    (
        1,
        st.builds(
            lambda magic, rest: magic + rest, st.sampled_from(_MAGICS), st.binary(max_size=80)
        ),
    ),
    (1, _truncated),
    (4, _mutated),
    (1, st.builds(_spliced, _pictures, _pictures, _places, _places)),
    (1, st.builds(lambda data, rest: data + rest, _mutated, st.binary(max_size=40))),
)


# --- the promise ---------------------------------------------------------------------------------


def _hold_problems(problems: list[Problem]) -> None:
    assert isinstance(problems, list)
    for problem in problems:
        assert isinstance(problem, Problem)
        assert problem.message
        assert is_utf8(str(problem))


def _seen(data: bytes) -> ImageFacts | str:
    """The facts, or why there are none."""
    try:
        return imaging.look(data)
    except UnreadableImage as error:
        return str(error)


def _small(data: bytes) -> Thumbnail | str:
    """A thumbnail, or why there is none."""
    try:
        return thumbnail(data, 10)
    except UnreadableImage as error:
        return str(error)


def _judge(data: bytes) -> ImageFacts | None:
    facts = _seen(data)
    if isinstance(facts, str):
        assert facts, "unreadable without a reason"
        assert is_utf8(facts)
        refused = imaging.check_mask(data, "mask.png", None)
        assert refused, "an unreadable mask is a problem"
        _hold_problems(refused)
        return None
    assert facts.format in _FORMATS
    assert facts.mime.startswith("image/")
    assert facts.size == len(data)
    assert type(facts.width) is int
    assert type(facts.height) is int
    assert facts.width > 0
    assert facts.height > 0
    assert isinstance(facts.alpha, bool)
    within_limits = False
    for model in MODELS.values():
        problems, notes = imaging.check_image(facts, model.images, "images[0]", "a.png")
        _hold_problems(problems)
        _hold_problems(notes)
        if any(function.mask for function in model.functions):
            within_limits = not problems
    other = ImageFacts("PNG", facts.width + 1, facts.height, 100, False)
    refused = imaging.check_mask(data, "mask.png", other)
    assert refused, "a mask of another size is a problem"
    _hold_problems(refused)
    if within_limits or facts.width * facts.height <= _MOST_PIXELS:
        _hold_problems(imaging.check_mask(data, "mask.png", facts))
        _hold_problems(imaging.check_mask(data, "mask.png", None))
    return facts


@settings(
    max_examples=10_000,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@example(data=b"")
@example(data=b"\x00")
@example(data=b"BM")
@given(data=_files)
def test_any_bytes_are_an_image_or_not(data: bytes) -> None:
    _judge(data)


@settings(
    max_examples=1_000,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=_files)
def test_any_bytes_have_a_thumbnail_or_a_reason_why_not(data: bytes) -> None:
    facts = _seen(data)
    if isinstance(facts, ImageFacts) and facts.width * facts.height > _MOST_PIXELS:
        return
    made = _small(data)
    if isinstance(made, str):
        assert made
        assert is_utf8(made)
    else:
        assert 1 <= min(made.width, made.height) <= max(made.width, made.height) <= 10
        assert imaging.look(made.data).upright == (made.width, made.height)


@pytest.mark.parametrize("data", _REAL, ids=range(len(_REAL)))
def test_real_images_have_thumbnails_but_for_those_that_nothing_shows(data: bytes) -> None:
    made = _small(data)

    if isinstance(made, str):
        assert "32 bits per channel" in made
    else:
        assert max(made.width, made.height) == 10


@pytest.mark.parametrize("data", _REAL, ids=range(len(_REAL)))
def test_real_images_have_facts(data: bytes) -> None:
    facts = _judge(data)

    assert facts is not None
    assert (facts.width, facts.height) == ((512, 512) if data is _MASK else (24, 16))


@pytest.mark.parametrize("data", _REAL, ids=range(len(_REAL)))
def test_an_image_cut_anywhere_near_its_start_is_an_image_or_not(data: bytes) -> None:
    for end in range(min(len(data), 200)):
        facts = _judge(data[:end])
        assert facts is None or facts.size == end


@pytest.mark.parametrize("magic", _MAGICS, ids=range(len(_MAGICS)))
@pytest.mark.parametrize("filling", [b"\x00", b"\xff", b"\x01", b"{", b"II*\x00"])
def test_a_megabyte_behind_any_magic_is_an_image_or_not(magic: bytes, filling: bytes) -> None:
    data = magic + filling * (MEGABYTE // len(filling))

    facts = _judge(data)

    assert facts is None or facts.size == len(data)
    assert peak_of(lambda: _seen(data)) < affordable(len(data))


def _chunk(name: bytes, data: bytes) -> bytes:
    summed = zlib.crc32(name + data)
    return len(data).to_bytes(4, "big") + name + data + summed.to_bytes(4, "big")


def _png_with(chunks: bytes, width: int = 24, height: int = 16) -> bytes:
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + chunks + _chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        _png_with(b""),
        _png_with(_chunk(b"IDAT", b"")),
        _png_with(_chunk(b"IDAT", zlib.compress(b"\x00" * 100))),
        _png_with(_chunk(b"zTXt", b"a\x00\x00" + zlib.compress(b"x" * 2 * MEGABYTE))),
        _png_with(_chunk(b"zTXt", b"a\x00\x00" + zlib.compress(b"x" * 1_000_000)) * 200),
        _png_with(_chunk(b"iTXt", b"a\x00\x01\x00\x00\x00" + zlib.compress(b"x" * 2 * MEGABYTE))),
        _png_with(_chunk(b"iCCP", b"a\x00\x00" + zlib.compress(b"x" * 2 * MEGABYTE))),
        _png_with(_chunk(b"tRNS", b"") * 1000),
        _png_with(_chunk(b"IDAT", zlib.compress(b"\x00")), 2**31 - 1, 2**31 - 1),
        _png_with(_chunk(b"IDAT", zlib.compress(b"\x00")), 0, 16),
        _png_with(_chunk(b"IDAT", zlib.compress(b"\x00")), 4096, 4096),
    ],
    ids=range(11),
)
def test_strange_pngs_are_images_or_not(data: bytes) -> None:
    facts = _judge(data)

    assert facts is None or facts.format == "PNG"
    assert peak_of(lambda: _seen(data)) < affordable(len(data))
