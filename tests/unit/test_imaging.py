"""Images made in memory, in each format and each kind of damage, judged by their contents."""

from __future__ import annotations

import dataclasses
import struct
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from retouch.imaging import (
    ImageFacts,
    UnreadableImage,
    check_boxes,
    check_image,
    check_mask,
    look,
    shown_bytes,
)
from retouch.registry import MODELS, Images, Json

from .helpers import QWEN, WAN, WANX, encoded

MIB = 1_048_576
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
PHOTO = Image.new("RGB", (64, 48), (200, 30, 30))
GOOD = ImageFacts("JPEG", 1024, 1024, 500_000, False)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of some fifty bytes whose header promises that many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 10)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


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
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="SVG"),
        pytest.param(b"%PDF-1.7\n", id="PDF"),
        pytest.param(encoded(PHOTO, "ICO"), id="a format that no model takes"),
        pytest.param(encoded(PHOTO, "PPM"), id="another"),
        pytest.param(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", id="HEIC"),
    ],
)
def test_what_is_no_image_is_refused_with_its_first_bytes(data: bytes) -> None:
    with pytest.raises(UnreadableImage) as caught:
        look(data)
    assert shown_bytes(data) in str(caught.value)


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


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_give_facts_or_a_reason(data: bytes) -> None:
    sensible(data)


SAMPLES = {
    **{kind: encoded(PHOTO, kind) for kind in FORMATS},
    "PNG with alpha": encoded(Image.new("RGBA", (9, 9)), "PNG"),
    "moving GIF": encoded(
        Image.new("P", (9, 9)), "GIF", save_all=True, append_images=[Image.new("P", (9, 9), 1)]
    ),
    "packed TIFF": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "MPO": encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO]),
}


@settings(max_examples=500, deadline=None)
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
        pytest.param(WAN, 8001, 8000, "240–8000", id="wan too wide"),
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
    assert f"{limit // MIB}.0 MB" in problems[0]


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
    rules = Images(1, 1, ("JPEG",), 10**9)
    assert check_image(ImageFacts("JPEG", 1, 99_999, 1, True), rules, "x", "x") == ([], [])


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
    assert check_mask(encoded(image, transparency=b"\x00\xff"), "m.png", BASE) == []


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


def test_boxes_of_an_image_passed_on_by_url_are_not_checked() -> None:
    assert check_boxes([[[0, 0, 9999, 9999]], []], [None, LANDSCAPE], MODELS[WAN]) == []


@pytest.mark.parametrize("boxes", [None, "x", 7, {}, [None], [[None]], [[[1]]], [[["a"] * 4]]])
def test_boxes_of_another_shape_are_left_to_the_sidecars_check(boxes: Json) -> None:
    assert check_boxes(boxes, [LANDSCAPE], MODELS[WAN]) == []


def test_models_without_boxes_have_none_to_check() -> None:
    assert check_boxes([[[0, 0, 9999, 9999]]], [LANDSCAPE], MODELS[QWEN]) == []
