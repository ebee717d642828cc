"""Images made in memory, in each format and each kind of damage, judged by their contents."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from retouch.imaging import (
    FIT_MAX_BYTES,
    MAX_PIXELS,
    ImageFacts,
    UnreadableImage,
    check_boxes,
    check_image,
    check_mask,
    look,
    shown_bytes,
    shown_size,
    shrunk_to,
)
from retouch.registry import MODELS, Json

from .helpers import QWEN, WAN, WANX, encoded

MIB = 1_048_576
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
PHOTO = Image.new("RGB", (64, 48), (200, 30, 30))
GOOD = ImageFacts("JPEG", 1024, 1024, 500_000, False)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of RGB whose header promises that many pixels, with these chunks after it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", header), *chunks)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of some fifty bytes whose header promises that many pixels."""
    return png(width, height, (b"IDAT", zlib.compress(b"\0" * 10)), (b"IEND", b""))


def tiff(*tags: tuple[int, int, int, int], following: int = 0, after: bytes = b"") -> bytes:
    """A TIFF of one directory at 8: tag, type, count, value; `after` stands behind it."""
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", len(tags))
        + body
        + struct.pack("<I", following)
        + after
    )


TINY_TIFF = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1))
"""What a grey image of 8×8 must say of itself, but for where its pixels are."""


# --- look ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mime"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
    ],
)
def test_each_format_is_known_by_its_contents(kind: str, mime: str) -> None:
    data = encoded(PHOTO, kind)
    facts = look(data)
    assert facts == ImageFacts(kind, 64, 48, len(data), False)
    assert facts.mime == mime


def test_a_jpeg_with_further_pictures_as_phones_write_it_is_a_jpeg() -> None:
    data = encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO, PHOTO])
    facts = look(data)
    assert (facts.format, facts.width, facts.height, facts.mime) == ("JPEG", 64, 48, "image/jpeg")


@pytest.mark.parametrize(
    ("kind", "mode", "alpha"),
    [
        ("PNG", "RGBA", True),
        ("PNG", "LA", True),
        ("WEBP", "RGBA", True),
        ("TIFF", "RGBA", True),
        ("PNG", "RGB", False),
        ("PNG", "L", False),
        ("PNG", "1", False),
        ("PNG", "P", False),
        ("PNG", "I;16", False),
        ("JPEG", "L", False),
        ("JPEG", "CMYK", False),
        ("TIFF", "CMYK", False),
        ("BMP", "P", False),
    ],
)
def test_transparency_is_seen_in_every_form(kind: str, mode: str, alpha: bool) -> None:
    assert look(encoded(Image.new(mode, (16, 16)), kind)).alpha is alpha


def test_a_palette_with_a_transparent_colour_has_alpha() -> None:
    image = Image.new("P", (16, 16))
    assert look(encoded(image, "PNG", transparency=0)).alpha
    assert look(encoded(image, "PNG", transparency=b"\x00\xff")).alpha
    assert look(encoded(image, "GIF", transparency=0)).alpha


def test_a_true_colour_png_with_a_transparent_colour_has_alpha() -> None:
    assert look(encoded(PHOTO, "PNG", transparency=(1, 2, 3))).alpha


def test_an_empty_file_is_said_to_be_empty() -> None:
    with pytest.raises(UnreadableImage, match="empty"):
        look(b"")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"hello world", id="text"),
        pytest.param(b'{"model": "x"}', id="JSON"),
        pytest.param(b"\0" * 1000, id="zeros"),
        pytest.param(encoded(PHOTO, "ICO"), id="a format that no model takes"),
        pytest.param(encoded(PHOTO, "PPM"), id="another"),
        pytest.param(b"\0\0\0\x18ftypabcd\0\0\0\0abcd", id="a container of a kind not known"),
        pytest.param(b"<note>an <svg/> is meant</note>", id="XML"),
        pytest.param(b"BM and more text", id="text that begins as a BMP"),
        pytest.param(b"RIFF\x24\0\0\0WAVEfmt ", id="sound"),
    ],
)
def test_what_is_no_image_is_refused_with_its_first_bytes_and_what_is_read(data: bytes) -> None:
    with pytest.raises(UnreadableImage) as caught:
        look(data)
    assert str(caught.value) == (
        f"not a readable image; it begins with {shown_bytes(data)}; JPEG, PNG, BMP, TIFF, WEBP and "
        "GIF are read"
    )


def container(*brands: str) -> bytes:
    """The beginning of a file in the container that phones use: its brand, and those it is like."""
    listed = "".join(brands[1:]).encode()
    return struct.pack(">I4s4sI", 16 + len(listed), b"ftyp", brands[0].encode(), 0) + listed


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(container("heic", "mif1", "heic"), "HEIC", id="HEIC"),
        pytest.param(container("heix", "mif1"), "HEIC", id="HEIC of ten bits"),
        pytest.param(container("hevc", "msf1"), "HEIC", id="a sequence of HEIC"),
        pytest.param(container("mif1", "mif1", "heic"), "HEIC", id="HEIC that says HEIF first"),
        pytest.param(container("mif1", "miaf", "avif"), "AVIF", id="AVIF that says HEIF first"),
        pytest.param(container("msf1", "msf1"), "HEIF", id="HEIF of an open kind"),
        pytest.param(container("mif1") + b"\0\0\0\x08avif", "HEIF", id="a brand outside its list"),
        pytest.param(container("avif", "avif", "mif1"), "AVIF", id="AVIF"),
        pytest.param(container("avis", "avif"), "AVIF", id="a sequence of AVIF"),
        pytest.param(b"\xff\x0a\xfa\x1f", "JPEG XL", id="JPEG XL"),
        pytest.param(b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", id="JPEG XL in its container"),
        pytest.param(b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", id="JPEG 2000"),
        pytest.param(b"8BPS\0\1\0\0", "a Photoshop file", id="PSD"),
        pytest.param(b"%PDF-1.7\n", "PDF", id="PDF"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG", id="SVG"),
        pytest.param(
            b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<!DOCTYPE svg>\n<svg/>",
            "SVG",
            id="SVG with all that may precede it",
        ),
        pytest.param(container("crx ", "isom"), "a camera's raw file", id="CR3"),
        pytest.param(b"FUJIFILMCCD-RAW 0201", "a camera's raw file", id="RAF"),
        pytest.param(b"IIU\0\x18\0\0\0", "a camera's raw file", id="RW2"),
        pytest.param(b"IIRO\x08\0\0\0", "a camera's raw file", id="ORF"),
    ],
)
def test_pictures_that_no_model_takes_are_named(data: bytes, kind: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        look(data)
    assert str(caught.value) == f"{kind}, which no model takes; save it as JPEG or PNG"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(
            b"\n<!doctype html>\n<html><svg/>",
            "a web page, not an image; download the image itself",
            id="HTML",
        ),
        pytest.param(
            b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>",
            "a web page, not an image; download the image itself",
            id="XHTML",
        ),
        pytest.param(
            b"<HEAD><TITLE>Not found</TITLE>",
            "a web page, not an image; download the image itself",
            id="HTML that begins late",
        ),
        pytest.param(
            b"PK\3\4\x14\0\0\0",
            "a ZIP archive, not an image; unpack it and drop the images in it",
            id="ZIP",
        ),
        pytest.param(
            container("isom", "mp41"),
            "a video, not an image; save a picture from it as JPEG or PNG",
            id="MP4",
        ),
        pytest.param(
            container("qt  "),
            "a video, not an image; save a picture from it as JPEG or PNG",
            id="QuickTime",
        ),
        pytest.param(
            b"\x1a\x45\xdf\xa3\x01\0\0\0",
            "a video, not an image; save a picture from it as JPEG or PNG",
            id="WebM",
        ),
    ],
)
def test_files_that_are_no_pictures_are_named(data: bytes, says: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        look(data)
    assert str(caught.value) == says


@pytest.mark.timeout(10)
def test_a_kind_is_sought_in_the_first_bytes_only() -> None:
    with pytest.raises(UnreadableImage, match="not a readable image"):
        look(b"<!--" * 5_000_000 + b"<svg")
    with pytest.raises(UnreadableImage, match="not a readable image"):
        look(b"<!-- -->" * 2_000_000 + b"<")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (10 * MIB, "10.0 MB"),
        (10 * MIB + 1, "10.0 MB (10,485,761 bytes)"),
        (10 * MIB - 1, "10.0 MB (10,485,759 bytes)"),
        (21 * MIB // 2, "10.5 MB"),
        (23_456_789, "22.4 MB (23,456,789 bytes)"),
    ],
)
def test_a_size_shows_its_bytes_where_it_is_rounded(size: int, shown: str) -> None:
    assert shown_size(size) == shown


@given(one=st.integers(0, 100 * MIB), more=st.integers(1, MIB))
@example(one=10 * MIB, more=1)
@example(one=10 * MIB - 1, more=1)
def test_two_sizes_that_differ_are_never_shown_alike(one: int, more: int) -> None:
    assert shown_size(one) != shown_size(one + more)


def test_first_bytes_are_shown_readably() -> None:
    assert shown_bytes(b"GIF89a") == "'GIF89a'"
    assert shown_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50) == "'\\x89PNG\\r\\n\\x1a\\nxxxx'"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("length", [1, 2, 4, 8])
def test_a_header_cut_off_is_refused(kind: str, length: int) -> None:
    with pytest.raises(UnreadableImage):
        look(encoded(PHOTO, kind)[:length])


def test_a_name_says_nothing_about_the_contents() -> None:
    gif = look(encoded(PHOTO, "GIF"))
    problems, _ = check_image(
        dataclasses.replace(gif, width=1024, height=1024), MODELS[WAN].images, "images[0]", "a.jpg"
    )
    assert [problem.field for problem in problems] == ["images[0]"]
    assert "GIF" in problems[0].message
    assert '"a.jpg"' in problems[0].message


@pytest.mark.timeout(10)
def test_a_decompression_bomb_is_judged_by_its_header_alone() -> None:
    data = png_that_claims(60_000, 60_000)
    assert len(data) < 100
    facts = look(data)
    assert (facts.width, facts.height) == (60_000, 60_000)
    for name in (WANX, WAN):
        problems, _ = check_image(facts, MODELS[name].images, "images[0]", "bomb.png")
        assert len(problems) == 1
        assert "60000×60000" in problems[0].message
        assert f"{MAX_PIXELS:,}" in problems[0].message
        assert "fit" not in problems[0].message


@pytest.mark.timeout(10)
def test_a_bomb_as_a_mask_is_refused_by_its_size_and_never_unpacked() -> None:
    problems = check_mask(png_that_claims(60_000, 60_000), "bomb.png", GOOD)
    assert [problem.field for problem in problems] == ["mask"]
    assert "60000×60000" in problems[0].message


def test_an_image_without_pixels_is_refused() -> None:
    for width, height in ((0, 0), (0, 10), (10, 0)):
        with pytest.raises(UnreadableImage):
            look(png_that_claims(width, height))


def sensible(data: bytes) -> None:
    """Facts that make sense, or UnreadableImage; any other exception fails the test."""
    try:
        facts = look(data)
    except UnreadableImage:
        return
    assert facts.format in FORMATS
    assert facts.width > 0
    assert facts.height > 0
    assert facts.size == len(data)
    assert facts.mime.startswith("image/")
    assert facts.frames in (1, 2)
    assert 1 <= facts.orientation <= 8


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_give_facts_or_a_reason(data: bytes) -> None:
    sensible(data)


def turned(kind: str, orientation: int, image: Image.Image = PHOTO, **options: object) -> bytes:
    """An image with that EXIF orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(image, kind, exif=exif, **options)


def moving(kind: str, frames: int = 3, **options: object) -> bytes:
    """An animation, or a file of several pages; every frame differs."""
    pictures = [
        Image.new("RGB", (64, 48), (97 * n % 256, 255 - 50 * n % 256, 99)) for n in range(frames)
    ]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


SAMPLES = {
    **{kind: encoded(PHOTO, kind) for kind in FORMATS},
    **{f"turned {kind}": turned(kind, 6) for kind in ("JPEG", "PNG", "TIFF", "WEBP")},
    **{f"moving {kind}": moving(kind) for kind in ("GIF", "PNG", "TIFF", "WEBP")},
    "PNG with alpha": encoded(Image.new("RGBA", (9, 9)), "PNG"),
    "packed TIFF": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "lossless WEBP": encoded(Image.new("RGBA", (9, 9)), "WEBP", lossless=True),
    "progressive JPEG": encoded(PHOTO, "JPEG", progressive=True),
    "MPO": encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO]),
}


@settings(max_examples=1000, deadline=None)
@given(
    sample=st.sampled_from(sorted(SAMPLES)),
    damage=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=6),
    kept=st.integers(1, 100_000),
)
def test_damaged_images_give_facts_or_a_reason(
    sample: str, damage: list[tuple[int, int]], kept: int
) -> None:
    data = bytearray(SAMPLES[sample])
    for place, value in damage:
        data[place % len(data)] = value
    sensible(bytes(data[:kept]))


# --- frames and orientation --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_more_than_one_frame_is_seen(kind: str, frames: int) -> None:
    assert look(moving(kind, frames)).frames == min(frames, 2)


def test_an_animation_beside_a_picture_of_its_own_is_a_second_one() -> None:
    data = moving("PNG", 2, default_image=True)
    assert look(data).frames == 2


def test_a_tiff_whose_second_page_is_a_preview_has_one_frame() -> None:
    pixels = bytes(64)
    place = (273, 4, 1, 200)
    page = tiff((254, 4, 1, 1), *TINY_TIFF, place)[8:]  # 1: reduced
    first = tiff(*TINY_TIFF, place, (279, 4, 1, 64), following=300)
    assert look((first.ljust(200, b"\0") + pixels).ljust(300, b"\0") + page).frames == 1
    page = tiff((254, 4, 1, 2), *TINY_TIFF, place)[8:]  # 2: one page of several
    assert look((first.ljust(200, b"\0") + pixels).ljust(300, b"\0") + page).frames == 2


@pytest.mark.timeout(20)
def test_frames_beyond_the_second_are_not_counted() -> None:
    gif = encoded(Image.new("P", (9, 9)), "GIF")
    frame = gif[gif.rindex(b",\0\0\0\0\x09") : -1]
    data = gif[:-1] + frame * 300_000 + b";"
    assert len(data) > 5_000_000
    assert look(data).frames == 2


@pytest.mark.timeout(20)
def test_a_tiff_whose_directories_go_round_ends() -> None:
    place = ((273, 4, 1, 200), (279, 4, 1, 64))
    itself = tiff(*TINY_TIFF, *place, following=8, after=bytes(400))
    assert look(itself).frames == 1
    preview = tiff((254, 4, 1, 1), *TINY_TIFF, following=300)[8:]
    two = tiff(*TINY_TIFF, *place, following=300, after=bytes(400))
    assert look(two[:300] + preview).frames == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_seen_and_gives_the_upright_size(kind: str, orientation: int) -> None:
    facts = look(turned(kind, orientation))
    assert facts.orientation == orientation
    assert (facts.width, facts.height) == (64, 48)
    assert facts.upright == ((48, 64) if orientation >= 5 else (64, 48))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_is_upright(kind: str, orientation: int) -> None:
    assert look(turned(kind, orientation)).orientation == 1


def test_an_orientation_in_xmp_counts_where_exif_has_none() -> None:
    xmp = b'<rdf:Description tiff:Orientation="8"/>'
    chunk = PngInfo()
    chunk.add_itxt("XML:com.adobe.xmp", xmp.decode())
    files = {
        "JPEG": encoded(PHOTO, "JPEG", xmp=xmp),
        "WEBP": encoded(PHOTO, "WEBP", xmp=xmp),
        "PNG": encoded(PHOTO, "PNG", pnginfo=chunk),
        "TIFF": encoded(PHOTO, "TIFF", tiffinfo={700: xmp}),
    }
    assert {kind: look(data).orientation for kind, data in files.items()} == dict.fromkeys(files, 8)
    assert look(turned("JPEG", 3, xmp=xmp)).orientation == 3


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_sides_and_transparency_are_what_pillow_would_decode(name: str) -> None:
    with Image.open(io.BytesIO(SAMPLES[name])) as image:
        seen = ImageOps.exif_transpose(image)
    facts = look(SAMPLES[name])
    assert facts.upright == seen.size
    assert facts.alpha is (seen.mode in ("RGBA", "LA") or "transparency" in seen.info)


@pytest.mark.timeout(20)
def test_huge_metadata_is_read_or_refused_in_little_time() -> None:
    jpeg = encoded(PHOTO, "JPEG")
    part = b"\xff\xe1" + struct.pack(">H", 18) + b"Exif\0\0" + b"x" * 10
    with pytest.raises(UnreadableImage, match="EXIF"):
        look(jpeg[:2] + part * 500_000 + jpeg[2:])
    values = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 274, 3, 4_000_000, 26)
    big = png(8, 8, (b"eXIf", values + bytes(8_000_100)), (b"IDAT", b"x"), (b"IEND", b""))
    assert look(big).orientation == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            png(8, 8, *[(b"abCd", b"")] * 100_000, (b"IDAT", b"x"), (b"IEND", b"")), id="chunks"
        ),
        pytest.param(
            png(8, 8, *[(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**6)))] * 9, (b"IEND", b"")),
            id="profiles",
        ),
        pytest.param(b"\xff\xd8" + b"\xff" * 5_000_000, id="padding"),
        pytest.param(b"\xff\xd8\xff\xd0" + b"a" * 5_000_000 + b"\xff\xda", id="junk in a JPEG"),
        pytest.param(
            encoded(PHOTO, "JPEG")[:-2] + b"\xff\xda\0\x02" * 5000 + b"\xff\xd9", id="scans"
        ),
        pytest.param(encoded(PHOTO, "GIF")[:13] + b"!\xf9\0" * 1_000_000, id="extensions"),
        pytest.param(tiff(*TINY_TIFF, (273, 4, 10**6, 0), after=bytes(4 * 10**6)), id="strips"),
        pytest.param(tiff((258, 3, 10**6, 0), after=bytes(4 * 10**6)), id="channels"),
    ],
)
def test_what_claims_absurd_numbers_of_parts_is_damaged(data: bytes) -> None:
    with pytest.raises(UnreadableImage, match="damaged"):
        look(data)


# --- files that are cut off --------------------------------------------------------------------------

NOISE = Image.effect_noise((200, 150), 60).convert("RGB")
WHOLE = {
    **{kind: encoded(NOISE, kind) for kind in FORMATS},
    "progressive JPEG": encoded(NOISE, "JPEG", progressive=True),
    "packed TIFF": encoded(NOISE, "TIFF", compression="tiff_lzw"),
    "turned WEBP": turned("WEBP", 6, NOISE),
}


@pytest.mark.parametrize("name", sorted(WHOLE))
@pytest.mark.parametrize("twentieth", range(1, 20))
def test_a_file_that_is_cut_off_is_refused_and_says_so(name: str, twentieth: int) -> None:
    data = WHOLE[name]
    with pytest.raises(UnreadableImage, match="cut off"):
        look(data[: len(data) * twentieth // 20])


@pytest.mark.parametrize("name", sorted(set(WHOLE) - {"GIF"}))
def test_the_last_byte_is_missed(name: str) -> None:
    with pytest.raises(UnreadableImage, match="cut off"):
        look(WHOLE[name][:-1])


def test_a_gif_without_its_trailer_is_taken_as_every_program_does() -> None:
    assert look(WHOLE["GIF"][:-1]).frames == 1
    data = moving("GIF")
    assert look(data[: len(data) - 20]).frames == 2  # only the first frame is ever looked at


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_bytes_after_the_end_do_no_harm(name: str) -> None:
    facts = look(WHOLE[name] + b"more")
    assert (facts.width, facts.height) == (200, 150)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "progressive JPEG"])
def test_the_first_part_of_a_file_says_what_it_is(name: str) -> None:
    facts = look(WHOLE[name][:2000], whole=False)
    assert facts.format == name.removeprefix("progressive ")
    assert (facts.width, facts.height, facts.size) == (200, 150, 2000)


def test_an_end_marker_within_a_table_is_none() -> None:
    data = WHOLE["progressive JPEG"]
    scan = data.index(b"\xff\xda")
    comment = b"\xff\xfe\0\x04\xff\xd9"
    second = data.index(b"\xff\xc4", scan)
    cut = data[:second] + comment + data[second : second + 300]
    with pytest.raises(UnreadableImage, match="cut off"):
        look(cut)
    assert look(data[:second] + comment + data[second:]).format == "JPEG"


# --- check_image -----------------------------------------------------------------------------------


def judged(facts: ImageFacts, model: str) -> tuple[list[str], list[str]]:
    problems, warnings = check_image(facts, MODELS[model].images, "images[2]", "photo.jpg")
    assert {entry.field for entry in (*problems, *warnings)} <= {"images[2]"}
    return [p.message for p in problems], [w.message for w in warnings]


@pytest.mark.parametrize(
    ("model", "width", "height"),
    [
        pytest.param(WANX, 512, 512, id="wanx smallest"),
        pytest.param(WANX, 4096, 4096, id="wanx largest"),
        pytest.param(WANX, 4096, 512, id="wanx has no ratio of its own"),
        pytest.param(QWEN, 384, 384, id="qwen smallest advised"),
        pytest.param(QWEN, 3072, 3072, id="qwen largest advised"),
        pytest.param(WAN, 240, 240, id="wan smallest"),
        pytest.param(WAN, 8000, 8000, id="wan largest"),
        pytest.param(WAN, 8000, 1000, id="wan widest"),
        pytest.param(WAN, 240, 1920, id="wan tallest"),
    ],
)
def test_sides_at_both_ends_are_taken(model: str, width: int, height: int) -> None:
    assert judged(dataclasses.replace(GOOD, width=width, height=height), model) == ([], [])


@pytest.mark.parametrize(
    ("model", "width", "height", "said"),
    [
        pytest.param(WANX, 511, 512, "512–4096", id="wanx too narrow"),
        pytest.param(WANX, 512, 511, "512–4096", id="wanx too low"),
        pytest.param(WANX, 4097, 512, "512–4096", id="wanx too wide"),
        pytest.param(WANX, 512, 4097, "512–4096", id="wanx too high"),
        pytest.param(WAN, 239, 240, "240–8000", id="wan too narrow"),
        pytest.param(WAN, 8001, 7000, "240–8000", id="wan too wide"),
        pytest.param(WAN, 7000, 8001, "240–8000", id="wan too high"),
        pytest.param(WAN, 1921, 240, "1:8 to 8:1", id="wan wider than 8:1"),
        pytest.param(WAN, 240, 1921, "1:8 to 8:1", id="wan taller than 1:8"),
    ],
)
def test_sides_outside_are_refused(model: str, width: int, height: int, said: str) -> None:
    problems, _ = judged(dataclasses.replace(GOOD, width=width, height=height), model)
    assert len(problems) == 1
    assert said in problems[0]
    assert f"{width}×{height}" in problems[0]


@pytest.mark.parametrize(("width", "height"), [(383, 400), (400, 383), (3073, 400), (400, 3073)])
def test_sides_that_qwen_only_advises_against_are_a_warning(width: int, height: int) -> None:
    problems, warnings = judged(dataclasses.replace(GOOD, width=width, height=height), QWEN)
    assert problems == []
    assert len(warnings) == 1
    assert "384–3072" in warnings[0]


@pytest.mark.parametrize(("model", "limit"), [(WANX, 10 * MIB), (QWEN, 10 * MIB), (WAN, 20 * MIB)])
def test_bytes_at_the_limit_are_taken_and_one_more_is_refused(model: str, limit: int) -> None:
    assert judged(dataclasses.replace(GOOD, size=limit), model) == ([], [])
    problems, _ = judged(dataclasses.replace(GOOD, size=limit + 1), model)
    assert len(problems) == 1
    assert f"has {limit // MIB}.0 MB ({limit + 1:,} bytes)" in problems[0]
    assert f"at most {limit // MIB}.0 MB are allowed" in problems[0]


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        (WANX, {"JPEG", "PNG", "BMP", "TIFF", "WEBP"}),
        (QWEN, {"JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"}),
        (WAN, {"JPEG", "PNG", "BMP", "WEBP"}),
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_each_model_takes_its_formats(model: str, taken: set[str], kind: str) -> None:
    problems, _ = judged(dataclasses.replace(GOOD, format=kind), model)
    assert (problems == []) is (kind in taken)


@pytest.mark.parametrize(("model", "taken"), [(WANX, True), (QWEN, True), (WAN, False)])
def test_transparency_is_refused_where_the_model_does_not_take_it(model: str, taken: bool) -> None:
    problems, _ = judged(dataclasses.replace(GOOD, alpha=True), model)
    assert (problems == []) is taken


def test_all_problems_of_an_image_are_said_at_once() -> None:
    problems, _ = judged(ImageFacts("TIFF", 9000, 100, 21 * MIB, True), WAN)
    assert len(problems) == 5


def test_without_limits_nothing_is_refused() -> None:
    rules = dataclasses.replace(MODELS[QWEN].images, max_bytes=10**9, advised_sides=None)
    assert check_image(ImageFacts("JPEG", 1, 99_999, 1, True), rules, "x", "x") == ([], [])


def test_more_pixels_than_any_model_takes_are_the_only_problem() -> None:
    free = dataclasses.replace(MODELS[QWEN].images, advised_sides=None)
    at_the_cap = dataclasses.replace(GOOD, width=8000, height=8000)
    assert check_image(at_the_cap, free, "x", "x") == ([], [])
    above = dataclasses.replace(at_the_cap, width=8001, format="TIFF", alpha=True)
    problems, _ = check_image(above, free, "x", "x")
    assert [f"{MAX_PIXELS:,}" in problem.message for problem in problems] == [True]


@pytest.mark.parametrize(
    ("model", "changed", "promise"),
    [
        pytest.param(WAN, {"format": "GIF"}, "would convert it to PNG", id="format"),
        pytest.param(WAN, {"alpha": True}, "would flatten it onto white", id="alpha"),
        pytest.param(WANX, {"size": 11 * MIB}, "would re-encode it", id="bytes"),
        pytest.param(WANX, {"size": FIT_MAX_BYTES + 1}, "cannot help: it reads", id="giant"),
        pytest.param(WANX, {"width": 6000, "height": 4000}, "shrink it to 4096×2731", id="sides"),
        pytest.param(
            WANX,
            {"width": 6000, "height": 4000, "orientation": 6},
            "shrink it to 2731×4096",
            id="sides, as a person sees them",
        ),
        pytest.param(
            WANX, {"width": 6000, "height": 750}, "would shrink it", id="just wide enough"
        ),
        pytest.param(WANX, {"width": 6000, "height": 747}, "would have 510", id="too narrow then"),
        pytest.param(WANX, {"width": 500}, "cannot help: it does not enlarge", id="too small"),
        pytest.param(WAN, {"width": 7000, "height": 800}, "neither crops nor pads", id="ratio"),
        pytest.param(WAN, {"width": 9000, "height": 1000}, "ratio would stay", id="ratio, shrunk"),
        pytest.param(WAN, {"frames": 2}, "would take the first one", id="frames"),
    ],
)
def test_a_problem_says_what_fit_would_do_unless_told_not_to(
    model: str, changed: dict[str, int], promise: str
) -> None:
    facts = dataclasses.replace(GOOD, **changed)  # type: ignore[arg-type]
    problems, _ = judged(facts, model)
    assert any(promise in problem and '; "fit"' in problem for problem in problems), problems
    bare, _ = check_image(facts, MODELS[model].images, "x", "x", hint=False)
    assert len(bare) == len(problems)
    assert not any("fit" in problem.message for problem in bare)


def test_too_small_an_image_needs_a_larger_original() -> None:
    problems, _ = judged(dataclasses.replace(GOOD, width=511), WANX)
    assert "a larger original is needed" in problems[0]


@pytest.mark.parametrize(
    ("model", "form", "refused"),
    [(QWEN, "GIF", False), (QWEN, "PNG", True), (QWEN, "TIFF", True), (WAN, "WEBP", True)],
)
def test_several_frames_are_refused_unless_the_provider_takes_the_first(
    model: str, form: str, refused: bool
) -> None:
    problems, warnings = judged(dataclasses.replace(GOOD, format=form, frames=2), model)
    assert len(problems) == refused
    assert len(warnings) == (not refused)
    assert "frames" in (problems + warnings)[0]


def test_an_image_stored_turned_is_a_warning_and_with_places_a_problem() -> None:
    facts = dataclasses.replace(GOOD, orientation=6)
    rules = MODELS[WANX].images
    problems, warnings = check_image(facts, rules, "image", "a.jpg")
    assert problems == []
    assert [w.message.count("EXIF orientation 6") for w in warnings] == [1]
    assert '"fit": true would turn it upright' in warnings[0].message
    problems, warnings = check_image(facts, rules, "image", "a.jpg", placed=True)
    assert [p.message.count("EXIF orientation 6") for p in problems] == [1]
    assert '"fit": true would turn it upright' in problems[0].message
    assert warnings == []
    _, warnings = check_image(facts, rules, "image", "a.jpg", hint=False)
    assert "fit" not in warnings[0].message
    upright = dataclasses.replace(GOOD, orientation=1)
    assert check_image(upright, rules, "image", "a.jpg", placed=True) == ([], [])


@given(
    width=st.integers(1, 20_000),
    height=st.integers(1, 20_000),
    most=st.integers(1, 9000),
)
def test_shrinking_keeps_the_proportion_and_never_rounds_a_side_away(
    width: int, height: int, most: int
) -> None:
    new = shrunk_to((width, height), most)
    if max(width, height) <= most:
        assert new == (width, height)
        return
    assert max(new) == most
    assert min(new) >= 1
    exact = min(width, height) * most / max(width, height)
    assert exact - 1e-6 <= min(new) < exact + 1
    assert (new[0] >= new[1]) if width > height else (new[1] >= new[0])


# --- masks -----------------------------------------------------------------------------------------

SIZE = (512, 520)
BASE = ImageFacts("JPEG", 512, 520, 90_000, False)


def drawn(mode: str = "L", edit: int | tuple[int, ...] = 255) -> Image.Image:
    """Black, with an area to edit."""
    image = Image.new("L" if isinstance(edit, int) else "RGB", SIZE, 0)
    image.paste(edit, (100, 100, 200, 200))
    return image.convert(mode)


def sixteen_bits(value: int) -> Image.Image:
    """Black, with one row of that value out of 65535."""
    white, black = struct.pack("<H", value) * 512, bytes(2 * 512 * 519)
    return Image.frombytes("I;16", SIZE, white + black)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA"])
def test_black_and_white_is_a_mask_in_every_png_mode(mode: str) -> None:
    assert check_mask(encoded(drawn(mode)), "m.png", BASE) == []


@pytest.mark.parametrize(("kind", "mode"), [("BMP", "RGB"), ("BMP", "1"), ("TIFF", "L")])
def test_black_and_white_is_a_mask_in_other_formats(kind: str, mode: str) -> None:
    assert check_mask(encoded(drawn(mode), kind), "m", BASE) == []


def test_lossless_webp_is_a_mask() -> None:
    assert check_mask(encoded(drawn("RGB"), "WEBP", lossless=True), "m.webp", BASE) == []


def test_sixteen_bits_of_black_and_white_are_a_mask() -> None:
    assert check_mask(encoded(sixteen_bits(65_535)), "m.png", BASE) == []


@pytest.mark.parametrize("colour", [0, 255], ids=["all black", "all white"])
def test_one_colour_is_a_mask_too(colour: int) -> None:
    assert check_mask(encoded(Image.new("L", SIZE, colour)), "m.png", BASE) == []


def test_a_palette_with_transparent_colours_is_judged_without_a_warning() -> None:
    image = drawn("P")
    assert check_mask(encoded(image, transparency=b"\xff\xff"), "m.png", BASE) == []
    assert len(check_mask(encoded(image, transparency=b"\x00\xff"), "m.png", BASE)) == 1


def with_a_transparent_pixel(mode: str) -> bytes:
    image = drawn("L").convert(mode)
    opacity = Image.new("L", SIZE, 255)
    opacity.putpixel((511, 519), 254)
    image.putalpha(opacity)
    return encoded(image)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(with_a_transparent_pixel("RGBA"), id="RGBA"),
        pytest.param(with_a_transparent_pixel("LA"), id="grey with alpha"),
        pytest.param(encoded(drawn("RGB"), transparency=(255, 255, 255)), id="a colour"),
        pytest.param(encoded(drawn("L"), transparency=0), id="a grey"),
        pytest.param(encoded(sixteen_bits(65_535), transparency=65_535), id="a deep grey"),
    ],
)
def test_a_mask_with_any_transparency_could_mean_either(data: bytes) -> None:
    problems = check_mask(data, "m.png", BASE)
    assert [problem.field for problem in problems] == ["mask"]
    assert "fill them with black (keep) or white (edit)" in problems[0].message
    assert "fit" not in problems[0].message


def test_other_colours_get_the_hint_and_another_size_gets_none() -> None:
    grey = encoded(drawn("L", 128))
    assert '"fit": true would make every pixel' in check_mask(grey, "m.png", BASE)[0].message
    assert "fit" not in check_mask(grey, "m.png", BASE, hint=False)[0].message
    other = encoded(Image.new("L", (512, 519)))
    assert "fit" not in check_mask(other, "m.png", BASE)[0].message


@pytest.mark.timeout(10)
def test_a_bomb_of_a_mask_for_an_image_passed_on_by_url_is_not_unpacked() -> None:
    problems = check_mask(png_that_claims(8001, 8000), "m.png", None)
    assert [problem.field for problem in problems] == ["mask"]
    assert f"{MAX_PIXELS:,}" in problems[0].message


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(drawn("L", 128), id="grey"),
        pytest.param(drawn("L", 254), id="almost white"),
        pytest.param(drawn("RGB", (255, 0, 0)), id="red"),
        pytest.param(drawn("P", (0, 255, 0)), id="green in a palette"),
        pytest.param(Image.linear_gradient("L").resize(SIZE), id="a gradient"),
        pytest.param(sixteen_bits(32_768), id="grey in sixteen bits"),
        pytest.param(sixteen_bits(256), id="almost black in sixteen bits"),
    ],
)
def test_other_colours_are_no_mask(image: Image.Image) -> None:
    problems = check_mask(encoded(image), "m.png", BASE)
    assert [problem.field for problem in problems] == ["mask"]
    assert "black" in problems[0].message
    assert '"m.png"' in problems[0].message


def test_a_single_grey_pixel_is_enough() -> None:
    image = drawn("L")
    image.putpixel((511, 519), 7)
    assert len(check_mask(encoded(image), "m.png", BASE)) == 1


def test_jpeg_blurs_a_mask() -> None:
    assert len(check_mask(encoded(drawn("L"), "JPEG"), "m.jpg", BASE)) == 1


@pytest.mark.parametrize("size", [(512, 519), (513, 520), (520, 512), (1024, 1040)])
def test_a_mask_of_another_size_is_refused_with_both_sizes(size: tuple[int, int]) -> None:
    problems = check_mask(encoded(Image.new("L", size)), "m.png", BASE)
    assert [problem.field for problem in problems] == ["mask"]
    assert f"{size[0]}×{size[1]}" in problems[0].message
    assert "512×520" in problems[0].message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not an image", id="text"),
        pytest.param(encoded(drawn("L"))[:200], id="cut off in the middle"),
        pytest.param(encoded(drawn("L"), "BMP")[:2000], id="a BMP cut off"),
        pytest.param(encoded(drawn("L"), "TIFF")[:-1000], id="a TIFF cut off"),
        pytest.param(png_that_claims(512, 520), id="too few pixels"),
    ],
)
def test_a_damaged_mask_is_a_problem_and_no_exception(data: bytes) -> None:
    problems = check_mask(data, "m.png", BASE)
    assert [problem.field for problem in problems] == ["mask"]
    assert '"m.png"' in problems[0].message


MASKS = {
    kind: encoded(drawn("L").crop((0, 0, 64, 48)), kind)
    for kind in ("PNG", "BMP", "TIFF", "GIF", "WEBP")
}


@settings(max_examples=300, deadline=None)
@given(
    sample=st.sampled_from(sorted(MASKS)),
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    kept=st.integers(1, 100_000),
)
@example(sample="TIFF", damage=[], kept=82)
def test_any_damage_to_a_mask_is_a_problem_or_none_and_no_exception(
    sample: str, damage: list[tuple[int, int]], kept: int
) -> None:
    data = bytearray(MASKS[sample])
    for place, value in damage:
        data[place % len(data)] = value
    problems = check_mask(bytes(data[:kept]), "m", ImageFacts("JPEG", 64, 48, 1, False))
    assert all(problem.field == "mask" and problem.message for problem in problems)


# --- boxes -----------------------------------------------------------------------------------------

LANDSCAPE = ImageFacts("JPEG", 800, 600, 1, False)


@pytest.mark.parametrize(
    ("boxes", "places"),
    [
        pytest.param([[[0, 0, 800, 600]]], [], id="the whole image"),
        pytest.param([[[0, 0, 801, 600]]], [0], id="one pixel too far right"),
        pytest.param([[[0, 0, 800, 601]]], [0], id="one pixel too far down"),
        pytest.param([[], [[0, 0, 900, 10]]], [1], id="in the second image"),
        pytest.param([[[0, 0, 900, 10], [0, 0, 10, 900]]], [0, 0], id="both boxes of an image"),
        pytest.param([[[0, 0, 900, 10]], [[0, 0, 10, 900]]], [0, 1], id="in both images"),
        pytest.param([], [], id="none"),
    ],
)
def test_boxes_outside_their_images_are_refused(boxes: Json, places: list[int]) -> None:
    problems = check_boxes(boxes, [LANDSCAPE, LANDSCAPE], MODELS[WAN])
    assert [problem.field for problem in problems] == [
        f"parameters.bbox_list[{place}]" for place in places
    ]
    assert all("800×600" in problem.message for problem in problems)


def test_boxes_are_measured_in_the_image_as_a_person_sees_it() -> None:
    upright = dataclasses.replace(LANDSCAPE, orientation=6)
    assert check_boxes([[[0, 0, 600, 800]]], [upright], MODELS[WAN]) == []
    problems = check_boxes([[[0, 0, 800, 600]]], [upright], MODELS[WAN])
    assert len(problems) == 1
    assert "600×800" in problems[0].message


def test_boxes_of_an_image_passed_on_by_url_are_not_checked() -> None:
    assert check_boxes([[[0, 0, 9999, 9999]], []], [None, LANDSCAPE], MODELS[WAN]) == []


@pytest.mark.parametrize("boxes", [None, "x", 7, {}, [None], [[None]], [[[1]]], [[["a"] * 4]]])
def test_boxes_of_another_shape_are_left_to_the_sidecars_check(boxes: Json) -> None:
    assert check_boxes(boxes, [LANDSCAPE], MODELS[WAN]) == []


def test_models_without_boxes_have_none_to_check() -> None:
    assert check_boxes([[[0, 0, 9999, 9999]]], [LANDSCAPE], MODELS[QWEN]) == []
