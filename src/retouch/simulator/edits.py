"""Draws the simulated edits: a real and visibly different picture for each function.

Nothing here is clever; it is meant to be told apart by eye. Every picture is stamped "SIMULATED"
with the model, the function and the seed, and says so in its PNG text chunks too. The same order,
pictures and seed give the same bytes. A masked edit changes the white area and nothing else: even
the stamp lies inside it.

Drawing is pure computation in Pillow. It is bounded: no output has more than `MAX_OUTPUT_AREA`
pixels, whatever factor was asked for.
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, sin, sqrt, tau
from typing import Any

from PIL import (
    Image,
    ImageChops,
    ImageColor,
    ImageDraw,
    ImageEnhance,
    ImageFilter,
    ImageFont,
    ImageOps,
    ImageStat,
)
from PIL.PngImagePlugin import PngInfo

from retouch.simulator.checks import Order, output_size
from retouch.simulator.images import Picture, decode
from retouch.simulator.rules import Size

MAX_OUTPUT_AREA = 4096 * 4096
# zlib's Z_RLE: photographs become as small as by default, in three quarters of the time.
_RUN_LENGTH = 3

Colour = tuple[int, int, int]

_COLOUR_WORDS: Mapping[str, str] = {
    "red": "#d62828", "红": "#d62828",
    "orange": "#f3722c", "橙": "#f3722c",
    "yellow": "#f9c74f", "黄": "#f9c74f",
    "gold": "#d4af37", "golden": "#d4af37", "金": "#d4af37",
    "green": "#2a9d4a", "绿": "#2a9d4a",
    "teal": "#1b998b", "cyan": "#22b8cf", "青": "#1b998b",
    "blue": "#2563eb", "蓝": "#2563eb",
    "purple": "#7b2cbf", "violet": "#7b2cbf", "紫": "#7b2cbf",
    "pink": "#f06595", "粉": "#f06595",
    "brown": "#8d5524", "棕": "#8d5524",
    "black": "#222222", "黑": "#222222",
    "white": "#f5f5f5", "白": "#f5f5f5",
    "grey": "#868e96", "gray": "#868e96", "灰": "#868e96",
}  # fmt: skip
_GREYS = ("#222222", "#f5f5f5", "#868e96")
# "Turn the grey wall red": of several colours, those that are seen best.
_HUE_WORDS = {word: colour for word, colour in _COLOUR_WORDS.items() if colour not in _GREYS}
_HARDLY_COLOURED = 12.0
_MATERIALS: Mapping[str, str] = {
    "ice": "#b8e6ff", "cloud": "#eef3f8", "lantern": "#e03131", "wood": "#a8713a",
    "wooden": "#a8713a", "porcelain": "#3b5bdb", "fluffy": "#ffd8a8", "weaving": "#b08968",
    "balloon": "#f783ac",
}  # fmt: skip
_FREE_COLOURS = ("#e4572e", "#17bebb", "#8338ec", "#ffbe0b", "#2e86ab", "#6a994e", "#d81159")


@dataclass(frozen=True)
class _Sheet:
    """What an edit draws from: decoded pictures, and the choices that the seed makes."""

    order: Order
    pictures: tuple[Image.Image, ...]
    originals: tuple[tuple[int, int], ...]
    mask: Image.Image | None
    rng: random.Random
    index: int

    @property
    def base(self) -> Image.Image:
        return self.pictures[-1]

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self.order.parameters

    def colour(self, words: Mapping[str, str] = _COLOUR_WORDS) -> Colour:
        """The colour that the prompt names first, otherwise one that the seed chooses."""
        named = _first_named(self.order.prompt, words)
        return _rgb(named or self.rng.choice(_FREE_COLOURS))


def draw(
    order: Order, pictures: tuple[Picture, ...], mask: Picture | None, seed: int, index: int
) -> tuple[bytes, tuple[int, int]]:
    """Draw image number `index` of the order.

    Args:
        order: What to make.
        pictures: The input images in their order.
        mask: The mask, for the function that has one.
        seed: The seed of the order; the image's own is `seed + index`.
        index: Which of the order's images this is, from 0.

    Returns:
        The PNG file, and its width and height in pixels.
    """
    own_seed = seed + index
    sheet = _Sheet(
        order=order,
        pictures=tuple(decode(picture) for picture in pictures),
        originals=tuple(picture.size for picture in pictures),
        mask=None if mask is None else decode(mask).convert("L"),
        rng=random.Random(own_seed),  # noqa: S311
        index=index,
    )
    drawn = _EDITS[order.mode.edit](sheet)
    _stamp(drawn, sheet, f"{order.model} · {order.mode_name} · seed {own_seed}")
    if sheet.mask is not None:
        drawn = Image.composite(drawn, sheet.base, sheet.mask)
    if order.parameters.get("watermark"):
        _write(drawn, order.rules.mark, at="bottom right")
    about = PngInfo()
    about.add_text("Software", "retouch provider simulator")
    about.add_text("Comment", f"SIMULATED {order.model} {order.mode_name} seed {own_seed}")
    file = io.BytesIO()
    drawn.save(file, "PNG", compress_level=2, compress_type=_RUN_LENGTH, pnginfo=about)
    return file.getvalue(), drawn.size


# --- the ten functions of wanx2.1 --------------------------------------------------------------


def _stylization_all(sheet: _Sheet) -> Image.Image:
    smooth = sheet.base.filter(ImageFilter.BoxBlur(3))
    if _first_named(sheet.order.prompt, {"gold": "", "foil": "", "金箔": ""}) is not None:
        styled = ImageOps.colorize(
            ImageOps.posterize(ImageOps.autocontrast(smooth.convert("L")), 3),
            "#1a1203", "#fff1b8", mid="#c8951e",
        )  # fmt: skip
    else:
        flat = ImageOps.posterize(ImageEnhance.Color(smooth).enhance(2.2), 2)
        styled = Image.blend(flat, Image.new("RGB", flat.size, sheet.colour()), 0.18)
    inked = ImageChops.multiply(styled, _lines(sheet.base, 20).convert("RGB"))
    return Image.blend(sheet.base, inked, 0.25 + 0.75 * float(sheet.parameters["strength"]))


def _stylization_local(sheet: _Sheet) -> Image.Image:
    base = sheet.base
    width, height = base.size
    material = sheet.colour({**_MATERIALS, **_COLOUR_WORDS})
    surface = ImageOps.colorize(
        ImageOps.autocontrast(base.convert("L")), "#101010", "#ffffff", mid=material
    )
    surface = Image.blend(surface, Image.new("RGB", base.size, material), 0.5)
    pen = ImageDraw.Draw(surface)
    for y in range(0, height, max(height // 40, 4)):
        pen.line((0, y, width, y), fill=_mixed(material, (0, 0, 0), 0.3), width=2)
    shift = sheet.rng.uniform(-0.05, 0.05)
    where = Image.new("L", base.size, 0)
    ImageDraw.Draw(where).ellipse(
        (width * (0.25 + shift), height * 0.2, width * (0.75 + shift), height * 0.85), fill=255
    )
    return Image.composite(surface, base, where.filter(ImageFilter.BoxBlur(max(width // 100, 2))))


def _description_edit(sheet: _Sheet) -> Image.Image:
    strength = 0.25 + 0.75 * float(sheet.parameters["strength"])
    return Image.blend(sheet.base, _recoloured(sheet, sheet.base), strength)


def _description_edit_with_mask(sheet: _Sheet) -> Image.Image:
    base = sheet.base
    step = max(min(base.size) // 24, 8)
    colour = sheet.colour()
    pattern = Image.new("RGB", base.size, colour)
    pen = ImageDraw.Draw(pattern)
    lighter = _mixed(colour, (255, 255, 255), 0.35)
    for offset in range(-base.height, base.width, 2 * step):
        pen.line((offset, base.height, offset + base.height, 0), fill=lighter, width=step // 2)
    return Image.blend(base, pattern, 0.8)


def _remove_watermark(sheet: _Sheet) -> Image.Image:
    base = sheet.base
    corner = (int(base.width * 0.55), int(base.height * 0.8), base.width, base.height)
    blurred = base.crop(corner).filter(ImageFilter.BoxBlur(max(base.width // 30, 8) + sheet.index))
    cleaned = base.copy()
    cleaned.paste(blurred, corner[:2])
    return cleaned


def _expand(sheet: _Sheet) -> Image.Image:
    base = sheet.base
    left, right, top, bottom = (
        float(sheet.parameters[f"{side}_scale"]) - 1.0
        for side in ("left", "right", "top", "bottom")
    )
    area = base.width * base.height * (1 + left + right) * (1 + top + bottom)
    fit = min(1.0, sqrt(MAX_OUTPUT_AREA / area))
    if fit < 1.0:
        base = base.resize((int(base.width * fit), int(base.height * fit)))
    width, height = base.size
    x, y = round(width * left), round(height * top)
    size = (x + width + round(width * right), y + height + round(height * bottom))
    grown = Image.new("RGB", size)
    sideways, upside = ImageOps.mirror(base), ImageOps.flip(base)
    both = ImageOps.mirror(upside)
    for column in (-1, 0, 1):
        for row in (-1, 0, 1):
            tile = ((base, upside), (sideways, both))[abs(column)][abs(row)]
            grown.paste(tile, (x + column * width, y + row * height))
    grown = grown.filter(ImageFilter.BoxBlur(10))
    grown = ImageEnhance.Brightness(grown).enhance(sheet.rng.uniform(0.75, 0.95))
    grown.paste(base, (x, y))
    return grown


def _super_resolution(sheet: _Sheet) -> Image.Image:
    base = sheet.base
    factor = int(sheet.parameters["upscale_factor"])
    fit = min(1.0, sqrt(MAX_OUTPUT_AREA / (base.width * base.height * factor * factor)))
    amount = 120 + sheet.rng.randrange(60)
    sharp = base.filter(ImageFilter.UnsharpMask(radius=2, percent=amount, threshold=2))
    return sharp.resize(
        (int(base.width * factor * fit), int(base.height * factor * fit)), Image.Resampling.BICUBIC
    )


def _colorization(sheet: _Sheet) -> Image.Image:
    grey = ImageOps.autocontrast(sheet.base.convert("L"), cutoff=1)
    tone = ImageOps.colorize(grey, "#14213d", "#fff3d6", mid=sheet.colour())
    sky = Image.linear_gradient("L").resize(grey.size)
    cool = ImageOps.colorize(grey, "#1b2a49", "#eaf6ff", mid="#6fa8dc")
    return Image.composite(tone, cool, sky)


def _doodle(sheet: _Sheet) -> Image.Image:
    base = sheet.base
    if sheet.parameters["is_sketch"]:
        lines = ImageOps.autocontrast(base.convert("L"))
    else:
        lines = _lines(base, 16)
    wash = base.resize((24, 24)).resize(base.size, Image.Resampling.BICUBIC)
    vivid = ImageEnhance.Color(wash).enhance(1.8)
    pale = Image.blend(vivid, Image.new("RGB", base.size, "white"), 0.35)
    wash = Image.blend(pale, Image.new("RGB", base.size, sheet.colour()), 0.2)
    return ImageChops.multiply(wash, lines.convert("RGB"))


def _control_cartoon_feature(sheet: _Sheet) -> Image.Image:
    base = sheet.base
    width, height = base.size
    colour = sheet.colour()
    scene = Image.new("RGB", base.size, _mixed(colour, (255, 255, 255), 0.5))
    pen = ImageDraw.Draw(scene)
    centre = (width / 2, height / 2)
    reach = width + height
    for ray in range(0, 360, 20):
        pen.pieslice(
            (centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach),
            ray, ray + 10, fill=colour,
        )  # fmt: skip
    smooth = base.filter(ImageFilter.BoxBlur(4))
    flat = ImageOps.posterize(ImageEnhance.Color(smooth).enhance(1.6), 3)
    ink = _lines(base, 30).filter(ImageFilter.MinFilter(3))
    figure = ImageChops.multiply(flat, ink.convert("RGB"))
    side = min(width, height)
    disc = Image.new("L", base.size, 0)
    rim = side * 0.40
    circle = (centre[0] - rim, centre[1] - rim, centre[0] + rim, centre[1] + rim)
    ImageDraw.Draw(disc).ellipse(circle, fill=255)
    scene.paste(figure, mask=disc)
    pen.ellipse(circle, outline="black", width=max(side // 100, 3))
    return scene


# --- models that compose from several images ---------------------------------------------------


def _compose(sheet: _Sheet) -> Image.Image:
    size = _asked_size(sheet)
    if not sheet.pictures:
        return _from_text(sheet, size)
    canvas = _recoloured(sheet, ImageOps.fit(sheet.base, size))
    boxes = sheet.parameters.get("bbox_list") or [[] for _ in sheet.pictures]
    _outline(canvas, sheet.originals[-1], boxes[-1])
    _inset_others(canvas, sheet, boxes)
    palette = sheet.parameters.get("color_palette")
    return _in_palette(canvas, palette) if palette else canvas


def _sequence(sheet: _Sheet) -> Image.Image:
    """One of a set: the same scene, each time nearer, with its place in the set."""
    size = _asked_size(sheet)
    scene = ImageOps.fit(sheet.base, size) if sheet.pictures else _from_text(sheet, size)
    nearer = 0.05 * sheet.index
    inner = (
        int(size[0] * nearer / 2), int(size[1] * nearer / 2),
        int(size[0] * (1 - nearer / 2)), int(size[1] * (1 - nearer / 2)),
    )  # fmt: skip
    frame = _recoloured(sheet, scene.crop(inner).resize(size))
    if sheet.pictures:
        boxes = sheet.parameters.get("bbox_list") or [[] for _ in sheet.pictures]
        _inset_others(frame, sheet, boxes)
    _write(frame, f"{sheet.index + 1} / {sheet.order.count}", at="bottom left", scale=2.0)
    return frame


def _inset_others(
    canvas: Image.Image, sheet: _Sheet, boxes: list[list[tuple[int, int, int, int]]]
) -> None:
    others = sheet.pictures[:-1]
    if not others:
        return
    width, height = canvas.size
    gap = max(min(canvas.size) // 60, 4)
    cell = min(width // max(len(others), 4), height // 3) - gap
    for number, picture in enumerate(others):
        inset = picture.copy()
        inset.thumbnail((cell - 2 * gap, cell - 2 * gap))
        _outline(inset, sheet.originals[number], boxes[number])
        framed = ImageOps.expand(inset, border=gap // 2 or 1, fill="white")
        canvas.paste(framed, (gap + number * (cell + gap), height - framed.height - 3 * gap))


def _outline(
    canvas: Image.Image, original: tuple[int, int], boxes: list[tuple[int, int, int, int]]
) -> None:
    pen = ImageDraw.Draw(canvas)
    scale = max(canvas.width / original[0], canvas.height / original[1])
    x0 = (canvas.width - original[0] * scale) / 2
    y0 = (canvas.height - original[1] * scale) / 2
    for x1, y1, x2, y2 in boxes:
        pen.rectangle(
            (x0 + x1 * scale, y0 + y1 * scale, x0 + x2 * scale, y0 + y2 * scale),
            outline="#ff2d55",
            width=max(min(canvas.size) // 150, 2),
        )


def _in_palette(image: Image.Image, palette: list[tuple[str, float]]) -> Image.Image:
    """The picture in the palette's colours, each over the share of tones that its ratio asks."""
    by_brightness = sorted((sum(_rgb(colour)), _rgb(colour), share) for colour, share in palette)
    grey = ImageOps.equalize(image.convert("L"))
    bands: list[list[int]] = [[], [], []]
    edge = 0.0
    for _, colour, share in by_brightness:
        edge += share
        upto = min(round(edge / 100 * 256), 256)
        for band, value in zip(bands, colour, strict=True):
            band.extend([value] * (upto - len(band)))
    for band in bands:
        band.extend([band[-1]] * (256 - len(band)))
    toned = Image.merge("RGB", [grey.point(band) for band in bands])
    return Image.blend(image, toned, 0.8)


def _from_text(sheet: _Sheet, size: tuple[int, int]) -> Image.Image:
    """A picture for a prompt without images: a coloured ground, shapes, and the prompt's words."""
    ground = ImageOps.colorize(Image.linear_gradient("L").resize(size), sheet.colour(), "#fdf6e3")
    pen = ImageDraw.Draw(ground)
    for _ in range(12):
        x, y = sheet.rng.uniform(0, size[0]), sheet.rng.uniform(0, size[1])
        reach = sheet.rng.uniform(0.03, 0.16) * min(size)
        fill = _rgb(sheet.rng.choice(_FREE_COLOURS))
        shape = pen.ellipse if sheet.rng.random() < 0.5 else pen.rectangle
        shape((x - reach, y - reach, x + reach, y + reach), fill=fill)
    _write(ground, sheet.order.prompt[:40], at="centre", scale=1.5)
    return ground


# --- means ----------------------------------------------------------------------------------------


def _asked_size(sheet: _Sheet) -> tuple[int, int]:
    rule = sheet.order.mode.parameters.get("size")
    last = sheet.originals[-1] if sheet.originals else None
    if not isinstance(rule, Size):
        rule = Size(default_area=1024 * 1024)
    return output_size(rule, sheet.parameters.get("size"), last)


def _recoloured(sheet: _Sheet, image: Image.Image) -> Image.Image:
    """Tinted in the prompt's colour; without one, its hues turned by what the seed chooses.

    A grey picture has no hues to turn, so it is tinted in any case.
    """
    named = _first_named(sheet.order.prompt, _HUE_WORDS) or _first_named(
        sheet.order.prompt, _COLOUR_WORDS
    )
    if named is None and _is_grey(image):
        named = sheet.rng.choice(_FREE_COLOURS)
    if named is not None:
        contrast = sheet.rng.uniform(0.45, 0.6)
        tone = ImageOps.colorize(image.convert("L"), "#0b0b0b", "#ffffff", mid=_rgb(named))
        return Image.blend(image, tone, contrast)
    return image.convert("RGB", _hue_rotation(sheet.rng.uniform(0.2, 0.8) * tau))


def _is_grey(image: Image.Image) -> bool:
    _, saturation, _ = image.resize((64, 64)).convert("HSV").split()
    return ImageStat.Stat(saturation).mean[0] < _HARDLY_COLOURED


def _hue_rotation(angle: float) -> tuple[float, ...]:
    """A colour matrix that turns hues by `angle` radians about the grey axis, keeping greys."""
    straight = (1 + 2 * cos(angle)) / 3
    ahead = (1 - cos(angle)) / 3 - sin(angle) / sqrt(3)
    behind = (1 - cos(angle)) / 3 + sin(angle) / sqrt(3)
    return (
        straight, ahead, behind, 0,
        behind, straight, ahead, 0,
        ahead, behind, straight, 0,
    )  # fmt: skip


def _lines(image: Image.Image, threshold: int) -> Image.Image:
    """Black lines on white where the picture has edges."""
    edges = image.convert("L").filter(ImageFilter.BoxBlur(1)).filter(ImageFilter.FIND_EDGES)
    lines = edges.point([255 if level < threshold else 0 for level in range(256)])
    # FIND_EDGES leaves the outermost pixels as they were.
    ImageDraw.Draw(lines).rectangle((0, 0, image.width - 1, image.height - 1), outline=255, width=2)
    return lines


def _stamp(image: Image.Image, sheet: _Sheet, text: str) -> None:
    area = (0, 0, *image.size)
    if sheet.mask is not None:
        area = sheet.mask.getbbox() or area
    _write(image, f"SIMULATED\n{text}", at="top left", area=area)


def _write(
    image: Image.Image,
    text: str,
    *,
    at: str,
    scale: float = 1.0,
    area: tuple[int, int, int, int] | None = None,
) -> None:
    """A translucent label in a corner of `area`, made to fit its width."""
    left, top, right, bottom = area or (0, 0, *image.size)
    pixels = max(sqrt((right - left) * (bottom - top)) / 42 * scale, 9.0)
    measure = ImageDraw.Draw(image)
    font = ImageFont.load_default(pixels)
    box = measure.multiline_textbbox((0, 0), text, font=font)
    room = (right - left) * 0.9
    if box[2] > room:
        font = ImageFont.load_default(max(pixels * room / box[2], 6.0))
        box = measure.multiline_textbbox((0, 0), text, font=font)
    pad = int(pixels / 2)
    size = (int(box[2]) + 2 * pad, int(box[3]) + 2 * pad)
    label = Image.new("RGBA", size, (0, 0, 0, 150))
    ImageDraw.Draw(label).multiline_text((pad, pad), text, font=font, fill=(255, 255, 255, 255))
    x = left + pad
    y = top + pad
    if "right" in at:
        x = right - size[0] - pad
    if "bottom" in at:
        y = bottom - size[1] - pad
    if at == "centre":
        x, y = (left + right - size[0]) // 2, (top + bottom - size[1]) // 2
    image.paste(label, (x, y), label)


def _first_named(text: str, words: Mapping[str, str]) -> str | None:
    lowered = text.lower()
    found = [
        (match.start(), value)
        for word, value in words.items()
        if (match := re.search(rf"\b{word}\b" if word.isascii() else word, lowered))
    ]
    return min(found)[1] if found else None


def _rgb(colour: str) -> Colour:
    red, green, blue = ImageColor.getrgb(colour)[:3]
    return red, green, blue


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


_EDITS: Mapping[str, Callable[[_Sheet], Image.Image]] = {
    "stylization_all": _stylization_all,
    "stylization_local": _stylization_local,
    "description_edit": _description_edit,
    "description_edit_with_mask": _description_edit_with_mask,
    "remove_watermark": _remove_watermark,
    "expand": _expand,
    "super_resolution": _super_resolution,
    "colorization": _colorization,
    "doodle": _doodle,
    "control_cartoon_feature": _control_cartoon_feature,
    "edit": _compose,
    "sequence": _sequence,
}
