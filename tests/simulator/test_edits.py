"""What is drawn: that every function changes the picture, each in its own way, and is stamped."""

from __future__ import annotations

import io
from itertools import combinations
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops, ImageStat

from .support import (
    GENERATION,
    MULTIMODAL,
    SYNTHESIS,
    Api,
    Json,
    data_url,
    encoded,
    messages,
    photograph,
    picture_of,
    wanx,
)

BASE = photograph(640, 512)
BASE_URL = data_url(encoded(BASE))
FUNCTIONS = [
    "stylization_all",
    "stylization_local",
    "description_edit",
    "remove_watermark",
    "colorization",
    "doodle",
    "control_cartoon_feature",
]


def results(api: Api, body: Json, endpoint: str = SYNTHESIS) -> list[Image.Image]:
    """The pictures that a request gives, downloaded."""
    if endpoint == MULTIMODAL:
        output = api.post(endpoint, body).json()["output"]
    else:
        output = api.finished(api.create(body, endpoint))["output"]
    urls = [result["url"] for result in output.get("results", [])]
    for choice in output.get("choices", []):
        urls += [item["image"] for item in choice["message"]["content"]]
    return [picture_of(httpx.get(url)) for url in urls]


def edited(api: Api, function: str, **more: Any) -> Image.Image:
    input_ = {"base_image_url": BASE_URL} | more.pop("input_", {})
    (picture,) = results(api, wanx(function, input_=input_, seed=7, **more))
    return picture


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures' channels, 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def test_every_function_changes_the_picture_in_its_own_way(api: Api) -> None:
    drawn = {function: edited(api, function, prompt="a garden") for function in FUNCTIONS}
    for function, picture in drawn.items():
        assert picture.size == BASE.size
        assert difference(picture, BASE) > 1, function
    for one, other in combinations(drawn, 2):
        assert difference(drawn[one], drawn[other]) > 1, (one, other)


def test_every_picture_says_that_it_is_simulated(api: Api) -> None:
    picture = edited(api, "super_resolution")
    assert isinstance(picture.text, dict)  # type: ignore[attr-defined]
    comment = picture.text["Comment"]  # type: ignore[attr-defined]
    assert comment == "SIMULATED wanx2.1-imageedit super_resolution seed 7"
    corner = (0, 0, 200, 40)
    assert difference(picture.crop(corner), BASE.crop(corner)) > 20


def test_a_masked_edit_changes_the_white_area_only(api: Api) -> None:
    mask = Image.new("L", BASE.size)
    mask.paste(255, (200, 120, 500, 400))
    mask.paste(0, (300, 200, 350, 250))
    picture = edited(
        api, "description_edit_with_mask", input_={"mask_image_url": data_url(encoded(mask))}
    )
    changed = ImageChops.difference(picture, BASE)
    black = Image.new("RGB", BASE.size)
    assert Image.composite(black, changed, mask).getbbox() is None
    assert sum(ImageStat.Stat(changed, mask).mean) / 3 > 20


@pytest.mark.parametrize("colour", ["black", "white"])
def test_a_mask_of_one_colour(api: Api, colour: str) -> None:
    mask = Image.new("L", BASE.size, colour)
    picture = edited(
        api, "description_edit_with_mask", input_={"mask_image_url": data_url(encoded(mask))}
    )
    assert (difference(picture, BASE) == 0) == (colour == "black")


def test_expand_enlarges_by_the_scales_and_keeps_the_middle(api: Api) -> None:
    picture = edited(
        api, "expand", top_scale=1.25, bottom_scale=1.5, left_scale=1.5, right_scale=1.0
    )
    assert picture.size == (960, 896)
    middle = picture.crop((320, 128, 960, 640))
    # Only the stamp may reach into the old picture.
    assert difference(middle.crop((200, 100, 640, 512)), BASE.crop((200, 100, 640, 512))) == 0


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_super_resolution_enlarges_by_the_factor(api: Api, factor: int) -> None:
    picture = edited(api, "super_resolution", upscale_factor=factor)
    assert picture.size == (640 * factor, 512 * factor)


def test_no_output_is_larger_than_4096_squared(api: Api) -> None:
    large = data_url(encoded(Image.new("RGB", (2048, 2048), "teal")))
    picture = edited(api, "super_resolution", upscale_factor=4, input_={"base_image_url": large})
    assert picture.size == (4096, 4096)


def test_remove_watermark_works_in_the_lower_right(api: Api) -> None:
    noisy = Image.effect_noise((640, 512), 120).convert("RGB")
    picture = edited(api, "remove_watermark", input_={"base_image_url": data_url(encoded(noisy))})
    changed = ImageChops.difference(picture, noisy).crop((0, 60, 640, 512)).getbbox()
    assert changed is not None
    assert changed[0] >= 350
    assert changed[1] + 60 >= 400
    corner = picture.crop((400, 430, 630, 500)).convert("L")
    assert ImageStat.Stat(corner).stddev[0] < 40


def test_colorization_gives_a_grey_picture_colour(api: Api) -> None:
    grey = data_url(encoded(photograph(640, 512, "L")))
    picture = edited(api, "colorization", prompt="green meadow", input_={"base_image_url": grey})
    assert ImageStat.Stat(picture.convert("HSV").getchannel("S")).mean[0] > 30


def test_a_description_edit_takes_the_colour_of_the_prompt(api: Api) -> None:
    means = {
        word: ImageStat.Stat(edited(api, "description_edit", prompt=f"make it {word}")).mean
        for word in ("red", "green", "blue")
    }
    assert max(means, key=lambda word: means[word][0]) == "red"
    assert max(means, key=lambda word: means[word][1]) == "green"
    assert max(means, key=lambda word: means[word][2]) == "blue"


@pytest.mark.parametrize("prompt", ["turn the grey bricks into red ones", "make it nicer"])
def test_a_grey_picture_is_seen_to_be_edited(api: Api, prompt: str) -> None:
    grey = data_url(encoded(photograph(640, 512, "L")))
    picture = edited(api, "description_edit", prompt=prompt, input_={"base_image_url": grey})
    assert ImageStat.Stat(picture.convert("HSV").getchannel("S")).mean[0] > 30


def test_strength_is_felt(api: Api) -> None:
    for function in ("stylization_all", "description_edit"):
        weak, strong = (edited(api, function, strength=strength) for strength in (0.0, 1.0))
        assert difference(strong, BASE) > difference(weak, BASE)


def test_the_watermark_is_in_the_lower_right(api: Api) -> None:
    plain, marked = (edited(api, "colorization", watermark=mark) for mark in (False, True))
    box = ImageChops.difference(plain, marked).getbbox()
    assert box is not None
    assert box[0] > 320
    assert box[1] > 400


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        (wanx(n=4, seed=1), SYNTHESIS),
        (wanx("super_resolution", n=2, seed=1), SYNTHESIS),
        (messages("wan2.7-image", n=4, size="768*768", seed=1), GENERATION),
        (messages("wan2.7-image", n=4, size="768*768", enable_sequential=True), GENERATION),
        (messages("wan2.7-image", images=0, n=3, size="768*768"), MULTIMODAL),
        (messages("qwen-image-edit-plus", n=6, size="512*512"), MULTIMODAL),
    ],
)
def test_images_of_one_order_differ(api: Api, body: Json, endpoint: str) -> None:
    pictures = results(api, body, endpoint)
    assert len(pictures) == body["parameters"]["n"]
    for one, other in combinations(pictures, 2):
        assert ImageChops.difference(one, other).getbbox() is not None


def test_the_same_seed_gives_the_same_picture_and_the_next_the_next(api: Api) -> None:
    one, two = results(api, wanx(n=2, seed=10))
    (again,) = results(api, wanx(n=1, seed=11))
    assert difference(two, again) == 0
    assert difference(one, again) > 0


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        ("wan2.7-image", None, (2896, 1448)),
        ("wan2.7-image", "1K", (1448, 724)),
        ("wan2.7-image", "2K", (2896, 1448)),
        ("wan2.7-image", "1000*800", (1000, 800)),
        ("wan2.6-image", "1K", (1808, 912)),
        ("qwen-image-edit-plus", None, (1456, 720)),
        ("qwen-image-edit-plus", "1033*1032", (1040, 1024)),
    ],
)
def test_output_size_follows_the_last_image(
    api: Api, model: str, size: str | None, expected: tuple[int, int]
) -> None:
    wide = data_url(encoded(photograph(1000, 500)))
    body = messages(model, images=2, n=1, size=size)
    body["input"]["messages"][0]["content"][1]["image"] = wide
    answer = api.post(MULTIMODAL, body).json()
    (picture,) = results(api, body, MULTIMODAL)
    assert picture.size == expected
    usage = answer["usage"]
    told = usage.get("size") or f"{usage['width']}*{usage['height']}"
    assert told == f"{expected[0]}*{expected[1]}"


def test_text_to_image_is_square(api: Api) -> None:
    (picture,) = results(api, messages("wan2.7-image", images=0, n=1), MULTIMODAL)
    assert picture.size == (2048, 2048)


def test_several_images_are_composed(api: Api) -> None:
    loud = data_url(encoded(Image.new("RGB", (600, 600), (0, 255, 0))))
    body = messages("wan2.7-image", images=3, text="blue", n=1, size="1K", seed=3)
    (before,) = results(api, body, MULTIMODAL)
    body["input"]["messages"][0]["content"][0]["image"] = loud
    (after,) = results(api, body, MULTIMODAL)
    box = ImageChops.difference(before, after).getbbox()
    assert box is not None
    assert box[2] - box[0] < 400
    assert box[1] > 512


def test_boxes_and_palette_are_seen(api: Api) -> None:
    plain = messages("wan2.7-image", n=1, size="1K", seed=3)
    boxed = messages("wan2.7-image", n=1, size="1K", seed=3, bbox_list=[[[128, 256, 256, 384]]])
    palette = [
        {"hex": "#000080", "ratio": "50.00%"},
        {"hex": "#0000ff", "ratio": "25.50%"},
        {"hex": "#8080ff", "ratio": "24.50%"},
    ]
    toned = messages("wan2.7-image", n=1, size="1K", seed=3, color_palette=palette)
    first, with_box, with_palette = (
        results(api, body, MULTIMODAL)[0] for body in (plain, boxed, toned)
    )
    assert ImageChops.difference(first, with_box).getbbox() == (256, 512, 513, 769)
    red, _, blue = ImageStat.Stat(with_palette).mean
    assert blue > red + 60


def test_a_picture_of_an_animation_and_of_transparency(api: Api) -> None:
    clear = io.BytesIO()
    Image.new("RGBA", (512, 512), (0, 0, 0, 0)).save(clear, "PNG")
    picture = edited(api, "super_resolution", input_={"base_image_url": data_url(clear.getvalue())})
    assert picture.getpixel((400, 400)) == (255, 255, 255)
