"""Input images: how they are fetched, and what each model accepts."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from PIL import Image

from .conftest import StartApi
from .support import (
    GENERATION,
    MULTIMODAL,
    PHOTO,
    PHOTO_URL,
    SYNTHESIS,
    Api,
    Json,
    data_url,
    encoded,
    image_host,
    photograph,
    refusal,
    wanx,
)

QUICK = "breakdown"
BAD_SIZE = "the size of input image is too small or too large"
BAD_FILE = "Invalid image format or corrupted file"
BAD_FORMAT = "Image format error"
BAD_URL = "The provided URL does not appear to be valid"
OTHERS = {"wan2.7-image": GENERATION, "qwen-image-edit-plus": MULTIMODAL}


def sent(api: Api, image: str, model: str = "wanx2.1-imageedit", **headers: str) -> tuple[Any, str]:
    """The refusal's status and message; 200 if the image was accepted."""
    if model == "wanx2.1-imageedit":
        body = wanx(prompt=QUICK, input_={"base_image_url": image})
        answer = api.post(SYNTHESIS, body, **headers)
    elif model == "wan2.5-i2i-preview":
        given = {"prompt": QUICK, "images": [image]}
        answer = api.post(SYNTHESIS, {"model": model, "input": given}, **headers)
    else:
        content: list[Json] = [{"image": image}, {"text": QUICK}]
        asked = {"messages": [{"role": "user", "content": content}]}
        answer = api.post(OTHERS[model], {"model": model, "input": asked}, **headers)
    if answer.status_code == 200 or "internal error" in answer.text:
        return 200, ""
    status, _, message = refusal(answer)
    return status, message


def drawn(width: int, height: int) -> str:
    return data_url(encoded(Image.new("RGB", (width, height), "teal")))


@pytest.mark.parametrize(
    ("model", "width", "height", "accepted"),
    [
        ("wanx2.1-imageedit", 512, 512, True),
        ("wanx2.1-imageedit", 511, 512, False),
        ("wanx2.1-imageedit", 512, 511, False),
        ("wanx2.1-imageedit", 4096, 512, True),
        ("wanx2.1-imageedit", 4097, 512, False),
        ("wan2.7-image", 240, 240, True),
        ("wan2.7-image", 239, 240, False),
        ("wan2.7-image", 8000, 1000, True),
        ("wan2.7-image", 8001, 1100, False),
        ("wan2.7-image", 240, 1920, True),
        ("wan2.5-i2i-preview", 384, 1536, True),
        ("wan2.5-i2i-preview", 383, 384, False),
        ("wan2.5-i2i-preview", 5001, 2000, False),
        ("qwen-image-edit-plus", 100, 100, True),
        ("qwen-image-edit-plus", 4000, 100, True),
    ],
)
def test_sides(api: Api, model: str, width: int, height: int, accepted: bool) -> None:
    expected = (200, "") if accepted else (400, BAD_SIZE)
    assert sent(api, drawn(width, height), model) == expected


@pytest.mark.parametrize(
    ("model", "width", "height"),
    [("wan2.7-image", 240, 1921), ("wan2.7-image", 1921, 240), ("wan2.5-i2i-preview", 384, 1537)],
)
def test_aspect_ratio(api: Api, model: str, width: int, height: int) -> None:
    status, message = sent(api, drawn(width, height), model)
    assert status == 400
    assert "aspect ratio" in message


@pytest.mark.parametrize(
    ("model", "kind", "mime", "expected"),
    [
        *[
            (model, kind, mime, (200, ""))
            for model in ("wanx2.1-imageedit", "wan2.7-image", "qwen-image-edit-plus")
            for kind, mime in (
                ("JPEG", "image/jpeg"),
                ("PNG", "image/png"),
                ("BMP", "image/bmp"),
                ("WEBP", "image/webp"),
            )
        ],
        ("wanx2.1-imageedit", "TIFF", "image/tiff", (200, "")),
        ("wan2.7-image", "TIFF", "image/tiff", (400, BAD_FORMAT)),
        ("qwen-image-edit-plus", "TIFF", "image/tiff", (400, BAD_FORMAT)),
        ("wanx2.1-imageedit", "GIF", "image/gif", (400, BAD_FORMAT)),
        ("wanx2.1-imageedit", "JPEG", "image/jpg", (400, BAD_FORMAT)),
        ("wanx2.1-imageedit", "JPEG", "image/png", (400, BAD_FILE)),
        ("wan2.7-image", "PNG", "image/webp", (400, BAD_FILE)),
    ],
)
def test_data_urls_by_type(
    api: Api, model: str, kind: str, mime: str, expected: tuple[int, str]
) -> None:
    assert sent(api, data_url(encoded(photograph(), kind), mime), model) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("data:image/png;base64,", BAD_FILE),
        ("data:image/png;base64,####", BAD_FILE),
        ("data:image/png;base64,aGVsbG8=", BAD_FILE),
        ("data:image/png,hello", BAD_URL),
        (data_url(PHOTO[: len(PHOTO) // 2]), BAD_FILE),
        ("file:///etc/hostname", BAD_URL),
        ("ftp://example.com/a.png", BAD_URL),
        ("photo.png", BAD_URL),
        ("https://", BAD_URL),
        ("http://127.0.0.1:9/图.png", BAD_URL),
        ("oss://dashscope-instant/none/a.png", BAD_URL),
        ("http://127.0.0.1:9/closed.png", "Image download failed"),
    ],
)
def test_values_that_give_no_image(api: Api, value: str, message: str) -> None:
    status, said = sent(api, value)
    assert status == 400
    assert said.startswith(message)


def test_a_data_url_holds_at_most_ten_mebibytes_as_written(api: Api) -> None:
    head = "data:image/png;base64,"
    status, message = sent(api, head + "A" * (10_485_760 - len(head)))
    assert (status, message) == (400, BAD_FILE)
    status, message = sent(api, head + "A" * (10_485_761 - len(head)))
    assert status == 400
    assert message == "Exceeded limit on max bytes per data-uri item : 10485760"


@pytest.mark.parametrize(
    ("model", "mode", "accepted"),
    [
        ("wanx2.1-imageedit", "RGBA", True),
        ("qwen-image-edit-plus", "RGBA", True),
        ("wan2.7-image", "RGBA", False),
        ("wan2.7-image", "LA", False),
        ("wan2.7-image", "L", True),
        ("wan2.7-image", "P", True),
        ("wan2.5-i2i-preview", "RGBA", False),
    ],
)
def test_png_alpha(api: Api, model: str, mode: str, accepted: bool) -> None:
    status, message = sent(api, data_url(encoded(photograph(mode=mode))), model)
    assert status == (200 if accepted else 400)
    assert accepted or "alpha" in message


MASK = "description_edit_with_mask"


def masked(api: Api, mask: Image.Image, kind: str = "PNG") -> tuple[Any, str]:
    url = data_url(encoded(mask, kind), f"image/{kind.lower()}")
    body = wanx(MASK, prompt=QUICK, input_={"mask_image_url": url})
    answer = api.post(SYNTHESIS, body)
    return (200, "") if answer.status_code == 200 else refusal(answer)[::2]


def test_a_mask_is_pure_black_and_white_and_as_large_as_its_base(api: Api) -> None:
    mask = Image.new("RGB", (512, 512))
    assert masked(api, mask) == (200, "")
    mask.paste((255, 255, 255), (100, 100, 200, 200))
    assert masked(api, mask) == (200, "")
    assert masked(api, mask.convert("1")) == (200, "")
    mask.putpixel((0, 0), (254, 255, 255))
    status, message = masked(api, mask)
    assert status == 400
    assert "pure white" in message
    status, message = masked(api, Image.new("L", (512, 513)))
    assert status == 400
    assert "512*513 is not 512*512" in message


def answer_with(
    data: bytes = PHOTO, *, status: int = 200, kind: str | None = "image/png", length: bool = True
) -> Any:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if kind is not None:
            handler.send_header("Content-Type", kind)
        if length:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answer_with(), (200, "")),
        (answer_with(kind="image/jpeg"), (200, "")),
        (answer_with(status=404), (400, "Image download failed")),
        (answer_with(status=403), (400, "Image download failed")),
        (answer_with(kind="text/html"), (400, "Wrong Content-Type of multimodal url")),
        (answer_with(kind="binary/octet-stream"), (400, "Wrong Content-Type of multimodal url")),
        (answer_with(kind=None), (400, "Wrong Content-Type of multimodal url")),
        (answer_with(length=False), (500, "Missing Content-Length of multimodal url.")),
        (answer_with(b"<html>", kind="image/png"), (400, BAD_FILE)),
        (answer_with(b"0" * 10_485_761), (400, "Multimodal file size is too large")),
        (answer_with(encoded(photograph(), "GIF"), kind="image/gif"), (400, BAD_FORMAT)),
    ],
)
def test_urls_are_fetched(api: Api, answer: Any, expected: tuple[int, str]) -> None:
    with image_host(answer) as url:
        assert sent(api, url) == expected


def test_qwen_takes_the_first_frame_of_a_gif(api: Api) -> None:
    with image_host(answer_with(encoded(photograph(), "GIF"), kind="image/gif")) as url:
        assert sent(api, url, "qwen-image-edit-plus") == (200, "")
        assert sent(api, url, "wan2.7-image") == (400, BAD_FORMAT)


def test_wan27_takes_twenty_mebibytes_by_url(api: Api) -> None:
    large = encoded(photograph(), "BMP").ljust(15_000_000, b"\0")
    with image_host(answer_with(large, kind="image/bmp")) as url:
        assert sent(api, url, "wan2.7-image") == (200, "")
        assert sent(api, url, "wanx2.1-imageedit") == (400, "Multimodal file size is too large")
    with image_host(answer_with(large.ljust(20_971_521, b"\0"), kind="image/bmp")) as url:
        assert sent(api, url, "wan2.7-image") == (400, "Multimodal file size is too large")


def test_the_fetcher_says_who_it_is_and_sends_no_key(api: Api) -> None:
    seen: dict[str, str | None] = {}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen["agent"] = handler.headers["User-Agent"]
        seen["key"] = handler.headers["Authorization"]
        answer_with()(handler)

    with image_host(answer) as url:
        assert sent(api, url) == (200, "")
    assert "DashScopeUserBot" in str(seen["agent"])
    assert seen["key"] is None


def test_a_slow_host_is_given_up(start: StartApi) -> None:
    api = start(fetch_seconds=0.2)
    ended = threading.Event()

    def answer(_: BaseHTTPRequestHandler) -> None:
        ended.wait(10)

    with image_host(answer) as url:
        status, message = sent(api, url)
        ended.set()
    assert status == 400
    assert "timed out" in message


def test_images_can_be_checked_when_the_task_runs(start: StartApi) -> None:
    api = start(time_scale=0, image_checks="run")
    body = wanx(input_={"base_image_url": drawn(100, 100)})
    output = api.finished(api.create(body))["output"]
    assert output["task_status"] == "FAILED"
    assert (output["code"], output["message"]) == ("InvalidParameter", BAD_SIZE)


def test_a_bomb_is_refused_unread(api: Api) -> None:
    bomb = Image.new("1", (30_000, 30_000))
    status, message = sent(api, data_url(encoded(bomb)), "qwen-image-edit-plus")
    assert status == 400
    assert message in (BAD_FILE, "The image size is not supported for the data inspection.")


def test_photo_url_is_what_the_other_tests_take_it_for(api: Api) -> None:
    assert sent(api, PHOTO_URL) == (200, "")
