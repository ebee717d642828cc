"""Fetches input images and checks them against a model's image rules.

An image may be an `http(s)` URL, a data URL, or an `oss://` key uploaded before. Fetching is
bounded in time and in bytes; decoding is bounded in pixels. Images are kept as encoded bytes, since
many tasks may wait, and decoded again when drawn.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from PIL import Image

from retouch.simulator import errors
from retouch.simulator.rules import DATA_URL_MAX_BYTES, ImageRules

# Models without documented sides still need a bound: above this a decoded image takes 200 MB.
MAX_PIXELS = 8000 * 8000
USER_AGENT = "Mozilla/5.0 (compatible; DashScopeUserBot/1.0; simulated)"

_DATA_URL = re.compile(r"data:([^;,]*);base64,", re.IGNORECASE)
_MIME_FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/bmp": "BMP",
    "image/webp": "WEBP",
    "image/tiff": "TIFF",
}
# What Pillow raises for broken, hostile or cut-off files.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class Picture:
    """An input image that passed its checks: its bytes and its sides in pixels."""

    data: bytes
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


async def read_image(
    value: str,
    rules: ImageRules,
    *,
    client: httpx.AsyncClient,
    seconds: float,
    read_upload: Callable[[str], bytes],
) -> Picture:
    """Fetch the image behind `value` within `seconds` and check it.

    Args:
        value: URL, data URL or `oss://` key.
        rules: What the model accepts.
        client: Makes the requests; it must not follow more than a few redirects.
        seconds: Time allowed for fetching, in seconds.
        read_upload: Gives the bytes of an `oss://` key, or raises `ProviderError`.

    Raises:
        ProviderError: The image cannot be fetched, or breaks a rule.
    """
    declared = None
    scheme = value.partition(":")[0].lower()
    if scheme == "data":
        data, declared = _read_data_url(value, rules)
    elif scheme == "oss":
        data = read_upload(value.removeprefix("oss://"))
    elif scheme in ("http", "https") and (value.isascii() or not rules.ascii_urls):
        try:
            async with asyncio.timeout(seconds):
                data = await _fetch(client, value, rules.max_bytes)
        except TimeoutError as error:
            raise errors.download_timeout() from error
    else:
        raise errors.bad_url()
    if len(data) > rules.max_bytes:
        raise errors.file_too_large()
    return await asyncio.to_thread(_inspect, data, declared, rules)


async def check_mask(mask: Picture, base: Picture) -> None:
    """Refuse a mask that has not the base image's sides, or has another colour than two.

    Raises:
        ProviderError: The mask breaks a rule.
    """
    if mask.size != base.size:
        raise errors.invalid(
            "the resolution of mask_image_url must be the same as that of base_image_url: "
            f"{mask.width}*{mask.height} is not {base.width}*{base.height}"
        )
    if not await asyncio.to_thread(_is_black_and_white, mask.data):
        raise errors.invalid(
            "mask_image_url must hold only pure white (255,255,255) and pure black (0,0,0)"
        )


def decode(picture: Picture) -> Image.Image:
    """The picture as RGB pixels; transparency becomes white, of an animation the first frame."""
    with Image.open(io.BytesIO(picture.data)) as opened:
        if not _has_alpha(opened):
            return opened.convert("RGB")
        layered = opened.convert("RGBA")
    flat = Image.new("RGB", layered.size, "white")
    flat.paste(layered, mask=layered.getchannel("A"))
    return flat


def _read_data_url(value: str, rules: ImageRules) -> tuple[bytes, str]:
    if len(value) > DATA_URL_MAX_BYTES:
        raise errors.data_url_too_long()
    head = _DATA_URL.match(value)
    if head is None:
        raise errors.bad_url()
    mime = head[1].lower()
    if mime not in rules.mimes:
        raise errors.bad_image_format()
    try:
        data = base64.b64decode(value[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise errors.bad_image() from error
    return data, _MIME_FORMATS[mime]


async def _fetch(client: httpx.AsyncClient, url: str, max_bytes: int) -> bytes:
    try:
        async with client.stream("GET", url, headers={"User-Agent": USER_AGENT}) as response:
            if response.status_code != 200:
                raise errors.download_failed()
            if not response.headers.get("content-type", "").lower().startswith("image/"):
                raise errors.wrong_content_type()
            if "content-length" not in response.headers:
                raise errors.missing_content_length()
            if int(response.headers["content-length"]) > max_bytes:
                raise errors.file_too_large()
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > max_bytes:
                    raise errors.file_too_large()
            return bytes(data)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise errors.bad_url() from error
    except httpx.TimeoutException as error:
        raise errors.download_timeout() from error
    except (httpx.HTTPError, ValueError) as error:
        raise errors.download_failed() from error


def _inspect(data: bytes, declared: str | None, rules: ImageRules) -> Picture:
    try:
        with Image.open(io.BytesIO(data)) as image:
            actual = "JPEG" if image.format == "MPO" else image.format
            if declared is not None and actual != declared:
                raise errors.bad_image()
            if actual not in rules.formats:
                raise errors.bad_image_format()
            picture = Picture(data, *image.size)
            _check_sides(picture, rules)
            if actual == "PNG" and not rules.png_alpha and _has_alpha(image):
                raise errors.invalid("Image format error: PNG with alpha channel is not supported")
            image.load()
    except _DECODE_ERRORS as error:
        raise errors.bad_image() from error
    return picture


def _check_sides(picture: Picture, rules: ImageRules) -> None:
    width, height = picture.size
    if rules.sides is not None and not all(
        rules.sides[0] <= side <= rules.sides[1] for side in picture.size
    ):
        raise errors.bad_image_size()
    if rules.ratio is not None and not rules.ratio[0] <= width / height <= rules.ratio[1]:
        raise errors.invalid(
            f"the aspect ratio of the input image must be between {rules.ratio[0]} "
            f"and {rules.ratio[1]}"
        )
    if width * height > MAX_PIXELS:
        raise errors.invalid("The image size is not supported for the data inspection.")


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _is_black_and_white(data: bytes) -> bool:
    with Image.open(io.BytesIO(data)) as image:
        colours = image.convert("RGB").getcolors(2)
    return colours is not None and {colour for _, colour in colours} <= {
        (0, 0, 0),
        (255, 255, 255),
    }
