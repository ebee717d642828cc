"""Mended images, judged by their pixels: what was changed, what was kept, and what is said of it."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from retouch.fitting import CannotFit, Fitted, fit_boxes, fit_image, fit_mask, thumbnail
from retouch.imaging import (
    FIT_MAX_BYTES,
    MAX_PIXELS,
    ImageFacts,
    UnreadableImage,
    check_boxes,
    check_image,
    check_mask,
    look,
)
from retouch.registry import MIB, MODELS, Boxes, Images, Json

from .helpers import QWEN, WAN, WANX, encoded

RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 200, 30), (30, 30, 200), (255, 255, 255)
TIGHT = dataclasses.replace(
    MODELS[WAN].images, sides=(40, 400), ratio=4.0, max_bytes=MIB, advised_sides=None
)
"""wan's rules (no GIF, no TIFF, no alpha), with sides that are quickly drawn."""


def quarters(width: int = 300, height: int = 200, mode: str = "RGB") -> Image.Image:
    """Red and green above blue and white, so that every turn of it looks different."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(WHITE, (width // 2, height // 2, width, height))
    return image.convert(mode)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours of the four quarters, as they are read."""
    seen = image.convert("RGB")
    width, height = seen.size
    found = []
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            pixel = seen.getpixel((x, y))
            assert isinstance(pixel, tuple)
            found.append(pixel)
    return found


def alike(found: list[tuple[int, ...]], wanted: list[tuple[int, ...]], by: int = 6) -> bool:
    return all(
        abs(have - want) <= by
        for one, other in zip(found, wanted, strict=True)
        for have, want in zip(one, other, strict=True)
    )


UPRIGHT: list[tuple[int, ...]] = [RED, GREEN, BLUE, WHITE]


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def stored_as(orientation: int, image: Image.Image) -> Image.Image:
    """How a camera stores what is seen as `image` in that orientation: the turn undone."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return image if orientation == 1 else image.transpose(undo[orientation])


def photo(kind: str, orientation: int, image: Image.Image, **options: object) -> bytes:
    """A file of what is seen as `image`, stored in that orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(stored_as(orientation, image), kind, exif=exif, **options)


def mended(data: bytes, rules: Images = TIGHT) -> Fitted:
    """The image as mended, which must have changed, keep all rules and need nothing further."""
    facts = look(data)
    fitted = fit_image(data, facts, rules)
    assert fitted is not None
    assert fit_image(data, facts, rules) == fitted, "not the same twice"
    assert fitted.facts == look(fitted.data)
    assert check_image(fitted.facts, rules, "x", "x", placed=True, hint=False) == ([], [])
    assert fit_image(fitted.data, fitted.facts, rules) is None, "mended twice"
    assert fitted.changes
    assert fitted.origin == facts.upright
    assert fitted.turned == facts.orientation
    assert fitted.scale == pytest.approx(fitted.facts.width / fitted.origin[0])
    assert "transparency" not in opened(fitted.data).info or rules.alpha
    return fitted


# --- images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_what_needs_nothing_goes_as_it_is(kind: str) -> None:
    data = encoded(quarters(), kind)
    assert fit_image(data, look(data), TIGHT) is None


def test_an_image_that_needs_nothing_is_not_even_decoded() -> None:
    header = struct.pack(">IIBBBBB", 300, 200, 8, 2, 0, 0, 0)
    parts = b""
    for name, body in ((b"IHDR", header), (b"IDAT", b"no pixels"), (b"IEND", b"")):
        parts += struct.pack(">I", len(body)) + name + body
        parts += struct.pack(">I", zlib.crc32(name + body))
    data = b"\x89PNG\r\n\x1a\n" + parts
    assert fit_image(data, look(data), TIGHT) is None
    with pytest.raises(UnreadableImage):
        fit_image(data, look(data), dataclasses.replace(TIGHT, sides=(40, 299)))


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_a_format_that_the_model_does_not_take_becomes_png(kind: str) -> None:
    fitted = mended(encoded(quarters(), kind))
    assert fitted.facts.format == "PNG"
    assert fitted.changes == (f"converted from {kind} to PNG",)
    assert (fitted.scale, fitted.turned) == (1.0, 1)
    assert (
        opened(fitted.data).tobytes() == opened(encoded(quarters(), kind)).convert("RGB").tobytes()
    )


def test_a_format_becomes_jpeg_where_the_model_takes_no_png() -> None:
    rules = dataclasses.replace(TIGHT, formats=("JPEG",))
    fitted = mended(encoded(quarters(), "TIFF"), rules)
    assert fitted.changes == ("converted from TIFF to JPEG",)
    assert alike(corners(opened(fitted.data)), UPRIGHT)


def test_a_model_that_takes_neither_cannot_be_served() -> None:
    data = encoded(quarters(), "TIFF")
    with pytest.raises(CannotFit, match="TIFF"):
        fit_image(data, look(data), dataclasses.replace(TIGHT, formats=("WEBP",)))


def see_through(mode: str = "RGBA") -> Image.Image:
    """The left half opaque, the right one quite transparent, a row between half so."""
    image = quarters().convert(mode)
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (150, 0, 300, 200))
    alpha.paste(128, (0, 90, 150, 110))
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_flattened_onto_white(kind: str) -> None:
    fitted = mended(encoded(see_through(), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert fitted.changes[0] == "flattened transparency onto white"
    image = opened(fitted.data)
    assert image.mode == "RGB"
    assert corners(image) == [RED, WHITE, BLUE, WHITE]
    assert alike([image.getpixel((10, 95))], [(227, 142, 142)], by=1)  # type: ignore[list-item]


def test_grey_with_transparency_stays_grey() -> None:
    image = opened(mended(encoded(see_through("L"))).data)
    assert image.mode == "L"
    assert image.getpixel((250, 50)) == 255


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(quarters(mode="P"), "PNG", transparency=b"\x00" * 256), id="palette"),
        pytest.param(encoded(quarters(mode="L"), "PNG", transparency=81), id="a grey"),
        pytest.param(encoded(quarters(), "PNG", transparency=RED), id="a colour"),
        pytest.param(encoded(quarters(mode="1"), "PNG", transparency=0), id="black"),
    ],
)
def test_colours_that_stand_for_transparency_become_white(data: bytes) -> None:
    fitted = mended(data)
    assert fitted.changes == ("flattened transparency onto white",)
    assert corners(opened(fitted.data))[0] == WHITE


def test_transparency_stays_where_the_model_takes_it() -> None:
    data = encoded(see_through())
    rules = dataclasses.replace(MODELS[WANX].images, sides=(40, 150))
    assert fit_image(data, look(data), MODELS[QWEN].images) is None
    fitted = mended(data, rules)
    assert fitted.changes == ("shrunk from 300×200 to 150×100",)
    assert opened(fitted.data).mode == "RGBA"
    assert opened(fitted.data).getpixel((120, 20))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_image_is_turned_upright(kind: str, orientation: int) -> None:
    fitted = mended(photo(kind, orientation, quarters()))
    assert fitted.changes[0] == f"turned upright (EXIF orientation {orientation})"
    assert (fitted.facts.width, fitted.facts.height) == (300, 200)
    assert fitted.facts.orientation == 1
    assert fitted.turned == orientation
    assert alike(corners(opened(fitted.data)), UPRIGHT, by=20)
    assert 274 not in opened(fitted.data).getexif()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_the_first_of_several_frames_is_taken(kind: str) -> None:
    others = [Image.new("RGB", (300, 200), colour) for colour in (BLUE, WHITE)]
    fitted = mended(encoded(quarters(), kind, save_all=True, append_images=others))
    assert fitted.changes[0] == "took the first of several frames"
    assert fitted.facts.frames == 1
    assert alike(corners(opened(fitted.data)), UPRIGHT, by=40)  # lossy WEBP


def test_a_moving_gif_goes_as_it_is_where_the_provider_takes_its_first_frame() -> None:
    data = encoded(quarters(), "GIF", save_all=True, append_images=[Image.new("RGB", (300, 200))])
    assert fit_image(data, look(data), MODELS[QWEN].images) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize(
    ("size", "new"),
    [((401, 200), (400, 200)), ((200, 401), (200, 400)), ((1600, 1200), (400, 300))],
)
def test_sides_that_are_too_long_are_shrunk(
    kind: str, size: tuple[int, int], new: tuple[int, int]
) -> None:
    fitted = mended(encoded(quarters(*size), kind))
    assert (fitted.facts.width, fitted.facts.height) == new
    said = f"shrunk from {size[0]}×{size[1]} to {new[0]}×{new[1]}"
    assert said in fitted.changes
    assert fitted.scale == pytest.approx(new[0] / size[0])
    assert alike(corners(opened(fitted.data)), UPRIGHT, by=40)


def test_sides_at_the_limit_are_not_shrunk() -> None:
    data = encoded(quarters(400, 400))
    assert fit_image(data, look(data), TIGHT) is None


def test_a_turned_image_is_shrunk_along_its_upright_sides() -> None:
    fitted = mended(photo("JPEG", 6, quarters(1600, 800)))
    assert fitted.changes == (
        "turned upright (EXIF orientation 6)",
        "shrunk from 1600×800 to 400×200",
    )
    assert alike(corners(opened(fitted.data)), UPRIGHT, by=10)


def test_shrinking_averages_and_does_not_skip() -> None:
    stripes = Image.new("L", (1600, 400), 0)
    for x in range(0, 1600, 2):
        stripes.paste(255, (x, 0, x + 1, 400))
    image = opened(mended(encoded(stripes)).data)
    low, high = image.crop((10, 10, 390, 90)).getextrema()
    assert alike([(low, high)], [(128, 128)], by=10)  # type: ignore[list-item]


def test_the_longest_shape_that_still_meets_the_least_side() -> None:
    square = dataclasses.replace(TIGHT, ratio=None)
    fitted = mended(encoded(quarters(1000, 98)), square)
    assert (fitted.facts.width, fitted.facts.height) == (400, 40)
    data = encoded(quarters(1000, 97))
    with pytest.raises(CannotFit, match="would have 39"):
        fit_image(data, look(data), square)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((39, 100), "a larger original is needed"),
        ((400, 99), "neither crops nor pads"),
        ((1000, 200), "ratio would stay"),
    ],
)
def test_what_mending_does_not_help_is_said(size: tuple[int, int], reason: str) -> None:
    data = encoded(quarters(*size), "GIF")
    with pytest.raises(CannotFit, match=reason) as caught:
        fit_image(data, look(data), TIGHT)
    assert f"{size[0]}×{size[1]}" in str(caught.value)
    assert "convert" not in str(caught.value)


@pytest.mark.timeout(10)
def test_what_is_never_unpacked_is_not_unpacked_to_be_mended() -> None:
    facts = ImageFacts("PNG", 8001, 8000, 1000, False)
    with pytest.raises(CannotFit, match=f"{MAX_PIXELS:,}"):
        fit_image(b"not even read", facts, TIGHT)
    with pytest.raises(CannotFit, match=f"{MAX_PIXELS:,}"):
        fit_mask(b"not even read", facts, facts, None)
    giant = ImageFacts("PNG", 300, 200, FIT_MAX_BYTES + 1, False)
    with pytest.raises(CannotFit, match=r"64\.0 MB"):
        fit_image(b"not even read", giant, TIGHT)


NOISE = Image.effect_noise((400, 400), 90).convert("RGB")


@pytest.mark.parametrize(
    ("limit", "quality"), [(180_000, 95), (140_000, 90), (120_000, 85)], ids=["95", "90", "85"]
)
def test_too_many_bytes_become_jpeg_of_the_best_quality_that_fits(limit: int, quality: int) -> None:
    fitted = mended(encoded(NOISE), dataclasses.replace(TIGHT, max_bytes=limit))
    assert fitted.facts.size <= limit
    assert (fitted.facts.width, fitted.scale) == (400, 1.0)
    said = f"re-encoded as JPEG quality {quality} to fit {limit / MIB:.1f} MB ({limit:,} bytes)"
    assert fitted.changes == ("converted from PNG to JPEG", said)


def test_turning_a_jpeg_does_not_make_it_too_large() -> None:
    data = photo("JPEG", 6, NOISE, quality=85)
    fitted = mended(data, dataclasses.replace(TIGHT, max_bytes=len(data) + 1000))
    assert fitted.changes[0] == "turned upright (EXIF orientation 6)"
    assert fitted.changes[1].startswith("re-encoded as JPEG quality 85")


def test_a_limit_that_png_meets_keeps_every_pixel() -> None:
    bmp = encoded(quarters(), "BMP")
    fitted = mended(bmp, dataclasses.replace(TIGHT, max_bytes=100_000))
    assert fitted.changes == (
        "converted from BMP to PNG",
        "re-encoded as PNG to fit 0.1 MB (100,000 bytes)",
    )
    assert opened(fitted.data).tobytes() == quarters().tobytes()


def test_what_no_quality_brings_down_is_shrunk() -> None:
    fitted = mended(encoded(NOISE), dataclasses.replace(TIGHT, max_bytes=20_000))
    assert fitted.facts.width < 400
    assert fitted.facts.width == fitted.facts.height
    assert f"shrunk from 400×400 to {fitted.facts.width}×{fitted.facts.width}" in fitted.changes
    assert "re-encoded as JPEG quality 85 to fit 0.0 MB (20,000 bytes)" in fitted.changes


def test_shrinking_for_bytes_stops_at_the_least_side() -> None:
    data = encoded(NOISE)
    with pytest.raises(CannotFit, match="at most"):
        fit_image(data, look(data), dataclasses.replace(TIGHT, max_bytes=900))
    with pytest.raises(CannotFit, match="at most"):
        fit_image(data, look(data), dataclasses.replace(TIGHT, sides=(400, 400), max_bytes=20_000))


def test_a_side_that_is_only_advised_against_stops_nothing() -> None:
    data = photo("JPEG", 6, quarters(200, 100))
    fitted = fit_image(data, look(data), MODELS[QWEN].images)
    assert fitted is not None
    assert fitted.changes == ("turned upright (EXIF orientation 6)",)
    assert (fitted.facts.width, fitted.facts.height) == (200, 100)


def test_transparency_gives_way_to_bytes_and_is_said_to() -> None:
    image = NOISE.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    rules = dataclasses.replace(TIGHT, alpha=True, max_bytes=100_000)
    fitted = mended(encoded(image), rules)
    assert "flattened transparency onto white" in fitted.changes
    assert fitted.facts.format == "JPEG"


def test_all_that_is_wrong_is_mended_at_once_and_told_in_order() -> None:
    seen = quarters(900, 600)
    seen.putalpha(255)
    data = photo("TIFF", 8, seen, save_all=True, append_images=[Image.new("RGBA", (600, 900))])
    fitted = mended(data)
    assert fitted.changes == (
        "took the first of several frames",
        "turned upright (EXIF orientation 8)",
        "flattened transparency onto white",
        "shrunk from 900×600 to 400×267",
        "converted from TIFF to PNG",
    )
    assert alike(corners(opened(fitted.data)), UPRIGHT, by=1)


def test_the_colour_profile_stays_and_other_metadata_goes() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        fitted = mended(photo(kind, 3, quarters(), icc_profile=profile))
        image = opened(fitted.data)
        assert image.info["icc_profile"] == profile
        assert "exif" not in image.info


@pytest.mark.parametrize("profile", [b"", b"no profile at all" * 20])
def test_inks_become_colours(profile: bytes) -> None:
    data = encoded(quarters(mode="CMYK"), "TIFF", **({"icc_profile": profile} if profile else {}))
    fitted = mended(data)
    assert fitted.changes == ("converted from CMYK to RGB", "converted from TIFF to PNG")
    image = opened(fitted.data)
    assert image.mode == "RGB"
    assert "icc_profile" not in image.info
    assert alike(corners(image), UPRIGHT, by=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight_by_scale_and_not_by_clipping(kind: str) -> None:
    deep = Image.frombytes("I;16", (600, 100), struct.pack("<600H", *range(0, 60_000, 100)) * 100)
    image = opened(mended(encoded(deep, kind), dataclasses.replace(TIGHT, ratio=None)).data)
    assert image.mode == "L"
    assert alike([(image.getpixel((200, 30)),)], [(116,)], by=2)  # type: ignore[list-item]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_have_no_scale_to_go_by(mode: str) -> None:
    data = encoded(Image.new(mode, (300, 200)), "TIFF")
    with pytest.raises(CannotFit, match="32 bits"):
        fit_image(data, look(data), TIGHT)


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "LAB"])
def test_other_modes_keep_their_look(mode: str) -> None:
    source = quarters() if mode == "LAB" else quarters(mode=mode)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(source, srgb, lab, outputMode="LAB")
        assert converted is not None
        source = converted
    fitted = mended(encoded(source, "TIFF"))
    wanted = corners(quarters(mode=mode)) if mode in ("1", "L", "P") else UPRIGHT
    assert alike(corners(opened(fitted.data)), wanted, by=15)


# --- damaged images --------------------------------------------------------------------------------

SOUND = {
    **{kind: encoded(quarters(30, 20), kind) for kind in ("JPEG", "PNG", "BMP", "TIFF", "GIF")},
    "WEBP": encoded(quarters(30, 20), "WEBP", lossless=True),
    "packed TIFF": encoded(quarters(30, 20), "TIFF", compression="tiff_lzw"),
    "moving GIF": encoded(quarters(30, 20), "GIF", save_all=True, append_images=[quarters(30, 20)]),
    "turned TIFF": photo("TIFF", 6, quarters(30, 20)),
    "moving PNG": encoded(
        quarters(30, 20), save_all=True, append_images=[Image.new("RGB", (30, 20))]
    ),
    "turned PNG": photo("PNG", 5, quarters(30, 20)),
    "see-through": encoded(see_through().resize((30, 20))),
}
TINY = dataclasses.replace(TIGHT, sides=(2, 25), formats=("JPEG", "PNG"), ratio=None)


@settings(max_examples=600, deadline=None)
@given(
    sample=st.sampled_from(sorted(SOUND)),
    damage=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=5),
    kept=st.integers(1, 3000),
)
@example(sample="PNG", damage=[(60, 0)], kept=3000)
def test_any_damage_is_mended_or_refused_with_a_reason(
    sample: str, damage: list[tuple[int, int]], kept: int
) -> None:
    broken = bytearray(SOUND[sample])
    for place, value in damage:
        broken[place % len(broken)] = value
    data = bytes(broken[:kept])
    try:
        facts = look(data)
    except UnreadableImage:
        return
    if facts.width * facts.height > 10**6:
        return  # a claim that takes long to refute; the limits have tests of their own
    try:
        fitted = fit_image(data, facts, TINY)
    except (CannotFit, UnreadableImage):
        return
    result = facts if fitted is None else fitted.facts
    assert check_image(result, TINY, "x", "x", placed=True) == ([], [])


@pytest.mark.parametrize("name", sorted(SOUND))
def test_each_sound_sample_is_mended(name: str) -> None:
    assert mended(SOUND[name], TINY).facts.width == 25


# --- masks -----------------------------------------------------------------------------------------


def drawn(size: tuple[int, int] = (300, 200), white: int = 255) -> Image.Image:
    """Black, with the upper right quarter to edit."""
    image = Image.new("L", size, 0)
    image.paste(white, (size[0] // 2, 0, size[0], size[1] // 2))
    return image


def mask_of(data: bytes, base: ImageFacts, fitted: Fitted | None) -> Fitted:
    """The mask as mended, which must pass every check against its image as mended."""
    made = fit_mask(data, look(data), base, fitted)
    assert fit_mask(data, look(data), base, fitted) == made, "not the same twice"
    against = base if fitted is None else fitted.facts
    assert check_mask(made.data, "m.png", against) == []
    assert check_image(made.facts, TIGHT, "mask", "m.png", placed=True) == ([], [])
    again = fit_mask(made.data, made.facts, against, None)
    assert (again.data, again.changes) == (made.data, ())
    return made


BASE = look(encoded(quarters()))
EDITED = [(0, 0, 0), WHITE, (0, 0, 0), (0, 0, 0)]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_mask_that_needs_nothing_goes_as_it_is(mode: str) -> None:
    data = encoded(drawn().convert(mode))
    made = mask_of(data, BASE, None)
    assert (made.data, made.changes, made.scale, made.turned) == (data, (), 1.0, 1)


def test_a_mask_becomes_black_and_white_at_half_luminance() -> None:
    for value, bright in ((127, 0), (128, 255)):
        made = mask_of(encoded(drawn(white=value)), BASE, None)
        assert made.changes == ("thresholded to black and white",)
        assert opened(made.data).getpixel((225, 50)) == (bright,) * 3
        assert opened(made.data).mode == "RGB"


@pytest.mark.parametrize("colour", [(255, 255, 0), (0, 0, 255)])
def test_colours_of_a_mask_count_by_their_luminance(colour: tuple[int, int, int]) -> None:
    image = Image.new("RGB", (300, 200), colour)
    made = mask_of(encoded(image), BASE, None)
    assert corners(opened(made.data))[0] == (WHITE if colour[0] else (0, 0, 0))


def test_a_mask_as_jpeg_is_sharpened() -> None:
    made = mask_of(encoded(drawn(), "JPEG"), BASE, None)
    assert made.changes == ("thresholded to black and white", "converted from JPEG to PNG")
    assert corners(opened(made.data)) == EDITED


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "GIF"])
def test_a_mask_in_another_format_becomes_png(kind: str) -> None:
    made = mask_of(encoded(drawn(), kind), BASE, None)
    assert made.changes == (f"converted from {kind} to PNG",)
    assert corners(opened(made.data)) == EDITED


def test_a_deep_mask_is_thresholded_by_scale() -> None:
    deep = Image.frombytes(
        "I;16", (300, 200), struct.pack("<300H", *([30_000, 40_000] * 150)) * 200
    )
    made = mask_of(encoded(deep), BASE, None)
    assert opened(made.data).getpixel((0, 0)) == (0, 0, 0)
    assert opened(made.data).getpixel((1, 0)) == WHITE


def test_a_mask_is_shrunk_with_its_image_and_stays_sharp() -> None:
    base = encoded(quarters(900, 600))
    fitted = mended(base)
    made = mask_of(encoded(drawn((900, 600))), look(base), fitted)
    assert made.changes == ("shrunk with its image to 400×267",)
    assert made.scale == fitted.scale
    assert corners(opened(made.data)) == EDITED


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_drawn_on_what_a_person_sees_stays_upright(orientation: int) -> None:
    base = photo("JPEG", orientation, quarters())
    made = mask_of(encoded(drawn()), look(base), mended(base))
    assert made.changes == ()
    assert corners(opened(made.data)) == EDITED


@pytest.mark.parametrize("orientation", range(5, 9))
def test_a_mask_drawn_on_what_is_stored_is_turned_with_its_image(orientation: int) -> None:
    base = photo("JPEG", orientation, quarters())
    made = mask_of(encoded(stored_as(orientation, drawn())), look(base), mended(base))
    assert made.changes == (f"turned with its image (EXIF orientation {orientation})",)
    assert made.turned == orientation
    assert corners(opened(made.data)) == EDITED


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_mask_with_an_orientation_of_its_own_is_turned_by_it(kind: str) -> None:
    base = photo("JPEG", 6, quarters())
    made = mask_of(photo(kind, 6, drawn()), look(base), mended(base))
    assert made.changes[0] == "turned upright (EXIF orientation 6)"
    assert corners(opened(made.data)) == EDITED


def test_the_first_frame_of_a_moving_mask_is_taken() -> None:
    data = encoded(drawn(), "GIF", save_all=True, append_images=[Image.new("L", (300, 200), 255)])
    made = mask_of(data, BASE, None)
    assert made.changes[0] == "took the first of several frames"
    assert corners(opened(made.data)) == EDITED


@pytest.mark.parametrize("size", [(299, 200), (300, 201), (200, 300), (600, 400)])
def test_a_mask_of_another_size_cannot_be_mended(size: tuple[int, int]) -> None:
    data = encoded(drawn(size))
    with pytest.raises(CannotFit, match=r"300×200") as caught:
        fit_mask(data, look(data), BASE, None)
    assert f"{size[0]}×{size[1]}" in str(caught.value)


def test_a_mask_of_the_mended_size_is_not_one_of_the_original() -> None:
    base = encoded(quarters(900, 600))
    data = encoded(drawn((400, 267)))
    with pytest.raises(CannotFit, match="900×600"):
        fit_mask(data, look(data), look(base), mended(base))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_with_transparent_areas_is_refused_always(mode: str) -> None:
    image = drawn().convert(mode)
    opacity = Image.new("L", image.size, 255)
    opacity.putpixel((0, 0), 254)
    image.putalpha(opacity)
    data = encoded(image)
    with pytest.raises(CannotFit, match="could mean either"):
        fit_mask(data, look(data), BASE, None)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_that_could_be_transparent_and_is_not_will_do(mode: str) -> None:
    made = mask_of(encoded(drawn(white=200).convert(mode)), BASE, None)
    assert made.changes == ("thresholded to black and white",)
    assert not made.facts.alpha


def test_a_damaged_mask_is_unreadable() -> None:
    data = bytearray(encoded(drawn()))
    place = data.index(b"IDAT") + 4
    data[place : place + 20] = bytes(20)
    with pytest.raises(UnreadableImage):
        fit_mask(bytes(data), look(bytes(data)), BASE, None)


# --- boxes -----------------------------------------------------------------------------------------


def shrunken(origin: tuple[int, int], size: tuple[int, int]) -> Fitted:
    facts = ImageFacts("PNG", *size, 1000, False)
    return Fitted(b"", facts, ("shrunk",), size[0] / origin[0], 1, origin)


@pytest.mark.parametrize(
    ("box", "new"),
    [
        pytest.param([0, 0, 900, 600], [0, 0, 400, 267], id="all of it"),
        pytest.param([9, 6, 18, 12], [4, 2, 8, 6], id="rounded outward"),
        pytest.param([10, 10, 11, 11], [4, 4, 5, 5], id="a pixel stays one"),
        pytest.param([899, 599, 900, 600], [399, 266, 400, 267], id="the last pixel"),
        pytest.param([0, 0, 2000, 2000], [0, 0, 400, 267], id="kept inside"),
        pytest.param([950, 650, 960, 660], [399, 266, 400, 267], id="outside altogether"),
    ],
)
def test_boxes_shrink_with_their_image(box: list[Json], new: list[Json]) -> None:
    assert fit_boxes([box], shrunken((900, 600), (400, 267))) == [new]


def test_boxes_cover_in_the_mended_image_what_they_covered_in_the_original() -> None:
    seen = Image.new("RGB", (900, 600), WHITE)
    seen.paste(RED, (630, 120, 780, 300))
    data = photo("PNG", 6, seen)
    fitted = mended(data)
    boxes: Json = [[630, 120, 780, 300]]
    assert check_boxes([boxes], [look(data)], MODELS[WAN]) == []
    moved = fit_boxes(boxes, fitted)
    assert moved == [[280, 53, 347, 134]]
    image = opened(fitted.data)
    assert alike([image.getpixel((281, 54)), image.getpixel((345, 132))], [RED, RED], by=60)  # type: ignore[list-item]
    assert alike([image.getpixel((277, 54)), image.getpixel((350, 132))], [WHITE, WHITE], by=30)  # type: ignore[list-item]


@given(
    origin=st.tuples(st.integers(2, 9000), st.integers(2, 9000)),
    share=st.floats(0.02, 1.0),
    corners_=st.tuples(*[st.integers(0, 9000)] * 4),
)
def test_mended_boxes_are_boxes_inside_their_image(
    origin: tuple[int, int], share: float, corners_: tuple[int, int, int, int]
) -> None:
    size = (max(1, int(origin[0] * share)), max(1, int(origin[1] * share)))
    x1, y1, x2, y2 = corners_
    box: Json = [min(x1, x2), min(y1, y2), max(x1, x2) + 1, max(y1, y2) + 1]
    moved = fit_boxes([box], shrunken(origin, size))
    assert Boxes().check([moved]) is None
    assert check_boxes([moved], [ImageFacts("PNG", *size, 1, False)], MODELS[WAN]) == []


@pytest.mark.parametrize(
    "boxes", [None, "x", 7, [], [None], [[1, 2, 3]], [["a"] * 4], [[True] * 4]]
)
def test_what_is_no_box_stays_for_the_sidecars_check(boxes: Json) -> None:
    assert fit_boxes(boxes, shrunken((900, 600), (400, 267))) == boxes


# --- thumbnails ------------------------------------------------------------------------------------


def small(data: bytes, longest: int = 100) -> Image.Image:
    made = thumbnail(data, longest)
    image = Image.open(io.BytesIO(made.data))
    assert image.format == "WEBP"
    assert image.size == (made.width, made.height)
    return image


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_thumbnail_looks_like_its_image(kind: str) -> None:
    image = small(encoded(quarters(), kind))

    assert image.size == (100, 67)
    assert alike(corners(image), [RED, GREEN, BLUE, WHITE], by=12)


def test_a_small_image_is_not_enlarged() -> None:
    assert small(encoded(quarters(30, 20))).size == (30, 20)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_thumbnail_stands_as_a_person_sees_its_image(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    image = small(encoded(quarters(), kind, exif=exif))

    assert image.size == (67, 100)
    assert alike(corners(image), [BLUE, RED, WHITE, GREEN], by=12)


def test_a_thumbnail_keeps_what_is_transparent() -> None:
    image = quarters().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))

    alpha = small(encoded(image)).getchannel("A")

    counts = alpha.histogram()
    assert any(counts[:16])
    assert any(counts[-16:])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "CMYK"])
def test_a_thumbnail_is_made_of_every_mode(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"

    assert small(encoded(quarters(mode=mode) if mode != "I;16" else deep(), kind)).size == (100, 67)


def deep() -> Image.Image:
    return Image.new("I;16", (300, 200), 40_000)


def test_an_image_with_too_many_pixels_has_no_thumbnail_and_is_not_unpacked() -> None:
    data = encoded(Image.new("1", (8001, 8000)))

    with pytest.raises(UnreadableImage, match="too large to be unpacked, with 8001×8000 pixels"):
        thumbnail(data, 100)


def test_an_image_of_32_bits_has_no_thumbnail() -> None:
    with pytest.raises(UnreadableImage, match="cannot be shown; it has 32 bits"):
        thumbnail(encoded(Image.new("F", (30, 20)), "TIFF"), 100)


def test_a_large_colour_profile_is_left_out_of_a_thumbnail() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kept = small(encoded(quarters(), icc_profile=profile))
    dropped = small(encoded(quarters(), icc_profile=profile + bytes(5000)))

    assert kept.info.get("icc_profile") == profile
    assert "icc_profile" not in dropped.info
