"""Every rule of every model, with expectations written by hand from the provider's documents."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from .support import (
    GENERATION,
    MULTIMODAL,
    PHOTO_URL,
    SYNTHESIS,
    Api,
    Json,
    messages,
    refusal,
    wanx,
)

# A prompt that is accepted, and then draws nothing: acceptance is all that is tested here.
QUICK = "breakdown"

MASK = {"mask_image_url": PHOTO_URL}
SCALES = {"top_scale": 1.0, "bottom_scale": 2.0, "left_scale": 1.5, "right_scale": 1}
FUNCTIONS = [
    "stylization_all",
    "stylization_local",
    "description_edit",
    "remove_watermark",
    "expand",
    "super_resolution",
    "colorization",
    "doodle",
    "control_cartoon_feature",
]


def asked(answer: httpx.Response) -> str:
    """Whether a request was accepted, or the code and message of its refusal."""
    return "accepted" if answer.status_code == 200 else " ".join(map(str, refusal(answer)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_wanx_accepts_each_function_without_parameters(api: Api, function: str) -> None:
    body = wanx(function, prompt=QUICK)
    assert asked(api.post(SYNTHESIS, body)) == "accepted"
    del body["parameters"]
    assert asked(api.post(SYNTHESIS, body)) == "accepted"


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        *[(function, {"n": 4, "seed": 2147483647, "watermark": True}) for function in FUNCTIONS],
        *[(function, {"n": 1, "seed": 0, "watermark": False}) for function in FUNCTIONS],
        ("stylization_all", {"strength": 0.0}),
        ("stylization_all", {"strength": 1.0}),
        ("description_edit", {"strength": 1}),
        ("expand", SCALES),
        ("super_resolution", {"upscale_factor": 1}),
        ("super_resolution", {"upscale_factor": 4}),
        ("doodle", {"is_sketch": True}),
        ("doodle", {"is_sketch": None}),
    ],
)
def test_wanx_accepts_parameters(api: Api, function: str, parameters: Json) -> None:
    assert asked(api.post(SYNTHESIS, wanx(function, prompt=QUICK, **parameters))) == "accepted"


@pytest.mark.parametrize(
    ("function", "parameters", "message"),
    [
        ("colorization", {"n": 0}, "n must be between 1 and 4"),
        ("colorization", {"n": 5}, "n must be between 1 and 4"),
        ("colorization", {"n": "1"}, "n must be an integer"),
        ("colorization", {"n": 1.0}, "n must be an integer"),
        ("colorization", {"n": True}, "n must be an integer"),
        ("colorization", {"seed": -1}, "seed must be between 0 and 2147483647"),
        ("colorization", {"seed": 2147483648}, "seed must be between 0 and 2147483647"),
        ("colorization", {"seed": "12345"}, "seed must be an integer"),
        ("colorization", {"watermark": "false"}, "watermark must be a boolean"),
        ("stylization_all", {"strength": 1.01}, "strength must be between 0.0 and 1.0"),
        ("description_edit", {"strength": -0.1}, "strength must be between 0.0 and 1.0"),
        ("description_edit", {"strength": "0.5"}, "strength must be a number"),
        ("stylization_local", {"strength": 0.5}, "strength"),
        ("expand", {"top_scale": 0.99}, "top_scale must be between 1.0 and 2.0"),
        ("expand", {"bottom_scale": 2.01}, "bottom_scale must be between 1.0 and 2.0"),
        ("expand", {"left_scale": 3}, "left_scale must be between 1.0 and 2.0"),
        ("expand", {"right_scale": 0}, "right_scale must be between 1.0 and 2.0"),
        ("doodle", {"top_scale": 1.5}, "top_scale"),
        ("super_resolution", {"upscale_factor": 0}, "upscale_factor must be between 1 and 4"),
        ("super_resolution", {"upscale_factor": 5}, "upscale_factor must be between 1 and 4"),
        ("super_resolution", {"upscale_factor": 1.5}, "upscale_factor must be an integer"),
        ("expand", {"upscale_factor": 2}, "upscale_factor"),
        ("doodle", {"is_sketch": 1}, "is_sketch must be a boolean"),
        ("colorization", {"is_sketch": True}, "is_sketch"),
        ("colorization", {"size": "1024*1024"}, "size"),
        ("colorization", {"negative_prompt": "blur"}, "negative_prompt"),
        ("colorization", {"prompt_extend": True}, "prompt_extend"),
        ("colorization", {"is_async": True}, "is_async"),
    ],
)
def test_wanx_refuses_parameters(api: Api, function: str, parameters: Json, message: str) -> None:
    status, code, said = refusal(api.post(SYNTHESIS, wanx(function, **parameters)))
    assert (status, code) == (400, "InvalidParameter")
    assert message in said


@pytest.mark.parametrize(
    ("function", "change", "message"),
    [
        ("colorization", {"prompt": None}, "Field required: input.prompt"),
        ("remove_watermark", {"prompt": ""}, "Field required: input.prompt"),
        ("colorization", {"prompt": 7}, "input.prompt must be a string"),
        ("colorization", {"base_image_url": None}, "Field required: input.base_image_url"),
        ("colorization", {"function": None}, "Field required: input.function"),
        ("colorization", {"function": "remove_watermaker"}, "function"),
        ("colorization", {"function": ["doodle"]}, "function"),
        ("description_edit_with_mask", {}, "Field required: input.mask_image_url"),
        ("colorization", MASK, "mask_image_url is not supported by function colorization"),
        ("colorization", {"negative_prompt": "blur"}, "input.negative_prompt"),
        ("colorization", {"images": [PHOTO_URL]}, "input.images"),
    ],
)
def test_wanx_refuses_input(api: Api, function: str, change: Json, message: str) -> None:
    status, code, said = refusal(api.post(SYNTHESIS, wanx(function, input_=change)))
    assert (status, code) == (400, "InvalidParameter")
    assert message in said


def colours(*ratios: str) -> list[Json]:
    return [{"hex": f"#0{number}AbcD", "ratio": ratio} for number, ratio in enumerate(ratios)]


TEN = colours(*["10.00%"] * 10)
BOX = [0, 0, 512, 512]


@pytest.mark.parametrize(
    ("images", "parameters"),
    [
        (0, {}),
        (9, {}),
        (1, {"n": 1}),
        (1, {"n": 4}),
        (1, {"size": "1K"}),
        (1, {"size": "2K"}),
        (1, {"size": "768*768"}),
        (1, {"size": "2048*2048"}),
        (1, {"size": "2400*300"}),
        (0, {"thinking_mode": False}),
        (1, {"thinking_mode": True}),
        (1, {"enable_sequential": False}),
        (1, {"enable_sequential": True, "n": 1}),
        (1, {"enable_sequential": True, "n": 12}),
        (1, {"watermark": True, "seed": 2147483647}),
        (1, {"color_palette": colours("33.33%", "33.33%", "33.34%")}),
        (1, {"color_palette": TEN}),
        (1, {"bbox_list": [[]]}),
        (1, {"bbox_list": [[BOX, [10, 10, 11, 11]]]}),
        (3, {"bbox_list": [[BOX], [], [BOX]]}),
        (0, {"bbox_list": []}),
        # The official client sends these two.
        (1, {"is_async": True, "n": 2}),
        (1, {"n": 2, "seed": None}),
    ],
)
def test_wan27_accepts(api: Api, images: int, parameters: Json) -> None:
    body = messages("wan2.7-image", images=images, text=QUICK, **parameters)
    assert asked(api.post(GENERATION, body)) == "accepted"


@pytest.mark.parametrize(
    ("images", "parameters", "message"),
    [
        (10, {}, "0 to 9 images"),
        (1, {"n": 0}, "n must be between 1 and 4"),
        (1, {"n": 5}, "n must be between 1 and 4"),
        (1, {"enable_sequential": True, "n": 13}, "n must be between 1 and 12"),
        (1, {"enable_sequential": "true"}, "enable_sequential"),
        (1, {"enable_sequential": 1}, "enable_sequential"),
        (1, {"size": "4K"}, "size must be 1K, 2K, or W*H"),
        (0, {"size": "4K"}, "size must be 1K, 2K, or W*H"),
        (1, {"size": "3K"}, "size must be"),
        (1, {"size": "1024x1024"}, "size must be"),
        (1, {"size": "1024 * 1024"}, "size must be"),
        (1, {"size": 1024}, "size must be a string"),
        (1, {"size": "767*768"}, "width * height must be between 589824 and 4194304"),
        (1, {"size": "2049*2048"}, "width * height must be between 589824 and 4194304"),
        (1, {"size": "2400*266"}, "width / height must be between 0.125 and 8.0"),
        (1, {"size": "266*2400"}, "width / height must be between 0.125 and 8.0"),
        (1, {"thinking_mode": "fast"}, "thinking_mode must be a boolean"),
        (1, {"negative_prompt": "blur"}, "negative_prompt"),
        (1, {"prompt_extend": True}, "prompt_extend"),
        (1, {"enable_interleave": False}, "enable_interleave"),
        (1, {"max_images": 2}, "max_images"),
        (1, {"stream": True}, "stream"),
        (1, {"color_palette": colours("50.00%", "50.00%")}, "3 to 10 colours"),
        (1, {"color_palette": [*TEN, TEN[0]]}, "3 to 10 colours"),
        (1, {"color_palette": "red"}, "3 to 10 colours"),
        (1, {"color_palette": colours("33.33%", "33.33%", "33.33%")}, "sum to 100.00%"),
        (1, {"color_palette": colours("33.3%", "33.3%", "33.4%")}, "ratio must look like"),
        (1, {"color_palette": colours("33.33", "33.33", "33.34")}, "ratio must look like"),
        (
            1,
            {"color_palette": [*colours("25.00%", "25.00%"), {"hex": "red", "ratio": "50.00%"}]},
            "hex must look like #RRGGBB",
        ),
        (1, {"color_palette": [{"hex": "#000000"}] * 3}, "must hold hex and ratio"),
        (1, {"color_palette": TEN, "enable_sequential": True}, "color_palette"),
        (1, {"bbox_list": []}, "one list for each of the 1 images"),
        (2, {"bbox_list": [[BOX]]}, "one list for each of the 2 images"),
        (1, {"bbox_list": [[BOX, BOX, BOX]]}, "at most 2 boxes"),
        (1, {"bbox_list": [[[0, 0, 512]]]}, "four integers"),
        (1, {"bbox_list": [[[0, 0, 51.2, 512]]]}, "four integers"),
        (1, {"bbox_list": [[[100, 0, 100, 512]]]}, "x1 < x2"),
        (1, {"bbox_list": [[[-1, 0, 100, 512]]]}, "x1 < x2"),
        (1, {"bbox_list": [[[0, 0, 513, 512]]]}, "must lie within the image of 512*512"),
        (1, {"bbox_list": [BOX]}, "bbox_list[0]"),
    ],
)
def test_wan27_refuses(api: Api, images: int, parameters: Json, message: str) -> None:
    body = messages("wan2.7-image", images=images, **parameters)
    status, code, said = refusal(api.post(GENERATION, body))
    assert (status, code) == (400, "InvalidParameter")
    assert message in said


@pytest.mark.parametrize(
    ("images", "parameters", "outcome"),
    [
        (0, {"size": "4K"}, "accepted"),
        (0, {"size": "4096*4096"}, "accepted"),
        (1, {"size": "4K"}, "size must be 1K, 2K, or W*H"),
        (1, {"size": "4096*4096"}, "between 589824 and 4194304"),
        (0, {"size": "4K", "enable_sequential": True}, "size must be 1K, 2K, or W*H"),
    ],
)
def test_wan27_pro_offers_4k_for_text_to_image_only(
    api: Api, images: int, parameters: Json, outcome: str
) -> None:
    body = messages("wan2.7-image-pro", images=images, text=QUICK, **parameters)
    assert outcome in asked(api.post(GENERATION, body))


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("qwen-image-edit-plus", {}),
        ("qwen-image-edit-plus", {"n": 6, "size": "512*512"}),
        ("qwen-image-edit-plus", {"size": "2048*512"}),
        ("qwen-image-edit-plus", {"negative_prompt": "", "prompt_extend": False}),
        ("qwen-image-edit-plus-2025-12-15", {"watermark": True, "seed": 0}),
        ("qwen-image-edit-max", {"n": 2}),
        ("qwen-image-edit", {"n": 1, "negative_prompt": "x" * 600}),
        ("wan2.7-image", {"n": 1}),
        ("wan2.6-image", {"n": 1, "prompt_extend": True, "negative_prompt": "dark"}),
    ],
)
def test_synchronous_models_accept(api: Api, model: str, parameters: Json) -> None:
    status, code, _ = refusal(api.post(MULTIMODAL, messages(model, text=QUICK, **parameters)))
    assert (status, code) == (500, "InternalError")


@pytest.mark.parametrize(
    ("model", "images", "parameters", "message"),
    [
        ("qwen-image-edit-plus", 0, {}, "lack of image or text"),
        ("qwen-image-edit-plus", 4, {}, "1 to 3 images"),
        ("qwen-image-edit-plus", 1, {"n": 7}, "n must be between 1 and 6"),
        ("qwen-image-edit-plus", 1, {"n": 0}, "n must be between 1 and 6"),
        ("qwen-image-edit-plus", 1, {"size": "511*1024"}, "between 512 and 2048"),
        ("qwen-image-edit-plus", 1, {"size": "1024*2049"}, "between 512 and 2048"),
        ("qwen-image-edit-plus", 1, {"size": "1K"}, "size must be W*H"),
        ("qwen-image-edit-plus", 1, {"prompt_extend": "yes"}, "prompt_extend must be a boolean"),
        ("qwen-image-edit-plus", 1, {"negative_prompt": 1}, "negative_prompt must be a string"),
        ("qwen-image-edit-plus", 1, {"bbox_list": [[]]}, "bbox_list"),
        ("qwen-image-edit-plus", 1, {"strength": 0.5}, "strength"),
        ("qwen-image-edit-plus", 1, {"is_async": True}, "is_async"),
        ("qwen-image-edit", 1, {"n": 2}, "num_images_per_prompt must be 1"),
        ("qwen-image-edit", 1, {"size": "1024*1024"}, "size"),
        ("qwen-image-edit", 1, {"prompt_extend": True}, "prompt_extend"),
        ("wan2.6-image", 0, {}, "lack of image or text"),
        ("wan2.6-image", 5, {}, "1 to 4 images"),
        ("wan2.6-image", 1, {"size": "4K"}, "size must be 1K, 2K, or W*H"),
        ("wan2.6-image", 1, {"size": "4096*1023"}, "width / height"),
        ("wan2.6-image", 1, {"enable_interleave": True}, "streaming or asynchronous"),
    ],
)
def test_synchronous_models_refuse(
    api: Api, model: str, images: int, parameters: Json, message: str
) -> None:
    status, code, said = refusal(api.post(MULTIMODAL, messages(model, images=images, **parameters)))
    assert (status, code) == (400, "InvalidParameter")
    assert message in said


@pytest.mark.parametrize(
    ("images", "parameters", "outcome"),
    [
        (0, {"max_images": 5, "size": "1280*1280"}, "accepted"),
        (1, {"n": 1}, "accepted"),
        (2, {}, "0 to 1 images"),
        (1, {"n": 2}, "num_images_per_prompt must be 1"),
        (1, {"max_images": 6}, "max_images must be between 1 and 5"),
        (1, {"size": "1K"}, "size must be W*H"),
        (1, {"size": "2048*2048"}, "between 589824 and 1638400"),
    ],
)
def test_wan26_interleave(api: Api, images: int, parameters: Json, outcome: str) -> None:
    body = messages("wan2.6-image", images=images, text=QUICK, enable_interleave=True, **parameters)
    assert outcome in asked(api.post(GENERATION, body))


@pytest.mark.parametrize(
    ("change", "parameters", "outcome"),
    [
        ({}, {"n": 1}, "accepted"),
        ({"images": [PHOTO_URL] * 3, "negative_prompt": "dark"}, {"size": "1280*960"}, "accepted"),
        ({"images": None}, {}, "Field required: input.images"),
        ({"images": []}, {}, "array of 1 to 3 strings"),
        ({"images": [PHOTO_URL] * 4}, {}, "array of 1 to 3 strings"),
        ({"images": [1]}, {}, "non-empty strings"),
        ({"prompt": None}, {}, "Field required: input.prompt"),
        ({"function": "doodle"}, {}, "input.function"),
        ({"negative_prompt": 1}, {}, "input.negative_prompt must be a string"),
        ({}, {"negative_prompt": "dark"}, "negative_prompt"),
        ({}, {"n": 5}, "n must be between 1 and 4"),
        ({}, {"size": "1K"}, "size must be W*H"),
        ({}, {"size": "1281*1280"}, "between 589824 and 1638400"),
        ({}, {"size": "2000*499"}, "width / height"),
    ],
)
def test_wan25(api: Api, change: Json, parameters: Json, outcome: str) -> None:
    body = {
        "model": "wan2.5-i2i-preview",
        "input": {"prompt": QUICK, "images": [PHOTO_URL]} | change,
        "parameters": parameters,
    }
    assert outcome in asked(api.post(SYNTHESIS, body))


IMAGE = {"image": PHOTO_URL}
TEXT = {"text": "red"}


def one_message(*content: Any, role: str = "user") -> list[Json]:
    return [{"role": role, "content": list(content)}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "No messages found in input"),
        ([], "No messages found in input"),
        (one_message(IMAGE, TEXT) * 2, "messages length only supports 1"),
        ({"role": "user"}, "messages length only supports 1"),
        (["hello"], "input.messages[0] must be an object"),
        (one_message(IMAGE, TEXT, role="system"), "role must be user"),
        ([{"role": "user", "content": "red"}], "content must be an array"),
        (one_message(IMAGE), "lack of image or text"),
        (one_message(IMAGE, TEXT, TEXT), "exactly one text"),
        (one_message("red"), "content[0] must be an object"),
        (one_message(IMAGE | TEXT), "either image or text"),
        (one_message({}), "either image or text"),
        (one_message({"video": "x"}, TEXT), "video"),
        (one_message({"image": 1}, TEXT), "non-empty string"),
        (one_message(IMAGE, {"text": ""}), "non-empty string"),
        ([{"role": "user", "content": [IMAGE, TEXT], "name": "x"}], "name"),
    ],
)
def test_messages_are_one_user_message_with_one_text(api: Api, given: Any, message: str) -> None:
    body = {"model": "qwen-image-edit-plus", "input": {"messages": given}}
    status, code, said = refusal(api.post(MULTIMODAL, body))
    assert (status, code) == (400, "InvalidParameter")
    assert message in said


def test_text_and_images_may_stand_in_any_order(api: Api) -> None:
    body = messages("wan2.7-image")
    body["input"]["messages"] = one_message({"text": QUICK}, IMAGE)
    assert asked(api.post(GENERATION, body)) == "accepted"
