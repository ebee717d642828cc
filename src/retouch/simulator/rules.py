"""What each model accepts, costs in time and answers, as data.

This is the simulator's own reading of the provider's documents, written apart from the client's so
that the two are independent witnesses: nothing here is imported by, or from, the rest of `retouch`.
A model is one entry of `MODELS`; a model that differs only in numbers needs no new code. Where the
documents are silent the choice made is marked "undocumented".

Units: sides in pixels, areas in square pixels, sizes in bytes, durations in seconds before the
configured time scale, prompt lengths in characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

SEED_MAX = 2_147_483_647
MIB = 1024 * 1024
DATA_URL_MAX_BYTES = 10_485_760

IMAGE_SYNTHESIS = "services/aigc/image2image/image-synthesis"
IMAGE_GENERATION = "services/aigc/image-generation/generation"
MULTIMODAL_GENERATION = "services/aigc/multimodal-generation/generation"
ENDPOINTS = (IMAGE_SYNTHESIS, IMAGE_GENERATION, MULTIMODAL_GENERATION)


@dataclass(frozen=True)
class Whole:
    """An integer parameter, both ends of its range included."""

    low: int
    high: int
    default: int | None = None


@dataclass(frozen=True)
class Number:
    """A float parameter, both ends of its range included; integers are accepted too."""

    low: float
    high: float
    default: float


@dataclass(frozen=True)
class Flag:
    """A boolean parameter."""

    default: bool = False


@dataclass(frozen=True)
class Text:
    """A string parameter; what exceeds `max_chars` is silently cut off."""

    max_chars: int


@dataclass(frozen=True)
class Size:
    """The `size` parameter: named tiers, `W*H`, or both.

    `tiers` maps a name to its area. `area`, `ratio` and `sides` bound the `W*H` form. Without the
    parameter the output has `default_area` (or the input's own size if that is smaller and
    `keep_smaller_input`) and the last image's ratio. `multiple` is what sides are rounded to.
    `text_to_image` replaces the rule when the request holds no image.
    """

    default_area: int
    tiers: Mapping[str, int] = field(default_factory=dict)
    area: tuple[int, int] | None = None
    ratio: tuple[float, float] | None = None
    sides: tuple[int, int] | None = None
    multiple: int = 1
    keep_smaller_input: bool = False
    text_to_image: Size | None = None


@dataclass(frozen=True)
class Palette:
    """`color_palette`: `{"hex", "ratio"}` objects whose ratios sum to exactly 100.00%."""

    low: int = 3
    high: int = 10


@dataclass(frozen=True)
class Boxes:
    """`bbox_list`: one list of `[x1, y1, x2, y2]` boxes for each image."""

    per_image: int = 2


Parameter = Whole | Number | Flag | Text | Size | Palette | Boxes


@dataclass(frozen=True)
class ImageRules:
    """What an input image must be. `None` means that the documents state no such rule."""

    formats: frozenset[str]
    mimes: frozenset[str]
    max_bytes: int
    sides: tuple[int, int] | None = None
    ratio: tuple[float, float] | None = None
    png_alpha: bool = True
    ascii_urls: bool = False


AnswerShape = Literal["results", "one_choice", "choice_each", "interleaved"]
UsageLayout = Literal["count", "sides", "size_tokens", "size_no_tokens", "size_text_tokens"]
BodyProtocol = Literal["function", "images", "messages"]


@dataclass(frozen=True)
class Mode:
    """One way of using a model: a function of wanx2.1, or what a switch parameter selects."""

    parameters: Mapping[str, Parameter]
    images: tuple[int, int]
    answer: AnswerShape
    usage: UsageLayout
    seconds: tuple[float, float]
    edit: str
    mask: bool = False
    sync_needs_sse: bool = False
    count_parameter: str = "n"


@dataclass(frozen=True)
class Rate:
    """At most `count` requests in any `seconds`."""

    count: int
    seconds: float


@dataclass(frozen=True)
class Model:
    """A model: where it is called, with what, how often, and how it answers.

    `switch` names the request field whose value selects the mode, `default_mode` the value if the
    field is absent (`None`: the field is required). `tolerated` are parameters that are accepted
    and ignored though undocumented: the official client sends them.
    """

    body: BodyProtocol
    images: ImageRules
    prompt_chars: int
    modes: Mapping[str | bool, Mode]
    rate: Rate
    mark: str
    sync_endpoint: str | None = None
    async_endpoint: str | None = None
    switch: tuple[Literal["input", "parameters"], str] | None = None
    default_mode: str | bool | None = ""
    negative_prompt_in_input: Text | None = None
    concurrency: int | None = None
    typed_content: bool = True
    prompt_in_results: bool = False
    tolerated: frozenset[str] = frozenset()


QUERY_RATE = Rate(20, 1.0)
POLICY_RATE = Rate(100, 1.0)

_SEED = Whole(0, SEED_MAX)
# At the provider the mark reads "AI生成"; Pillow's built-in font has no Chinese glyphs.
_WAN_MARK = "AI generated"
_BASIC_MIMES = frozenset({"image/jpeg", "image/png", "image/bmp", "image/webp"})
_WAN_FORMATS = frozenset({"JPEG", "PNG", "BMP", "WEBP"})

# --- wanx2.1-imageedit: ten functions, each with its own extra parameters ----------------------

_WANX_COMMON: dict[str, Parameter] = {"n": Whole(1, 4, 1), "seed": _SEED, "watermark": Flag()}
_SCALE = Number(1.0, 2.0, 1.0)
_WANX_EXTRA: dict[str, dict[str, Parameter]] = {
    "stylization_all": {"strength": Number(0.0, 1.0, 0.5)},
    "stylization_local": {},
    "description_edit": {"strength": Number(0.0, 1.0, 0.5)},
    "description_edit_with_mask": {},
    "remove_watermark": {},
    "expand": {f"{side}_scale": _SCALE for side in ("top", "bottom", "left", "right")},
    "super_resolution": {"upscale_factor": Whole(1, 4, 1)},
    "colorization": {},
    "doodle": {"is_sketch": Flag()},
    "control_cartoon_feature": {},
}

_WANX = Model(
    body="function",
    async_endpoint=IMAGE_SYNTHESIS,
    images=ImageRules(
        formats=frozenset({"JPEG", "PNG", "BMP", "TIFF", "WEBP"}),
        mimes=_BASIC_MIMES | {"image/tiff"},
        max_bytes=10 * MIB,
        sides=(512, 4096),
        ascii_urls=True,
    ),
    prompt_chars=800,
    switch=("input", "function"),
    default_mode=None,
    modes={
        function: Mode(
            parameters=_WANX_COMMON | extra,
            images=(1, 1),
            mask=function == "description_edit_with_mask",
            answer="results",
            usage="count",
            seconds=(5.0, 15.0),
            edit=function,
        )
        for function, extra in _WANX_EXTRA.items()
    },
    rate=Rate(2, 1.0),
    concurrency=2,
    mark=_WAN_MARK,
)

# --- qwen-image-edit family: synchronous, one choice with several items ------------------------

_QWEN_IMAGES = ImageRules(
    formats=frozenset({"JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"}),
    mimes=_BASIC_MIMES,
    max_bytes=10 * MIB,
)
_QWEN_BASE_PARAMETERS: dict[str, Parameter] = {
    "n": Whole(1, 1, 1),
    "negative_prompt": Text(500),
    "watermark": Flag(),
    "seed": _SEED,
}
_QWEN_SIZE = Size(default_area=1024 * 1024, sides=(512, 2048), multiple=16)
_QWEN_PLUS_PARAMETERS = _QWEN_BASE_PARAMETERS | {
    "n": Whole(1, 6, 1),
    "size": _QWEN_SIZE,
    "prompt_extend": Flag(True),
}
# The durations of this family are undocumented.
_QWEN_PLUS_MODE = Mode(
    parameters=_QWEN_PLUS_PARAMETERS,
    images=(1, 3),
    answer="one_choice",
    usage="sides",
    seconds=(5.0, 20.0),
    edit="edit",
)
_QWEN_PLUS = Model(
    body="messages",
    sync_endpoint=MULTIMODAL_GENERATION,
    images=_QWEN_IMAGES,
    prompt_chars=800,
    modes={"": _QWEN_PLUS_MODE},
    rate=Rate(2, 1.0),
    mark="Qwen-Image",
    typed_content=False,
)
_QWEN_BASE = replace(
    _QWEN_PLUS, modes={"": replace(_QWEN_PLUS_MODE, parameters=_QWEN_BASE_PARAMETERS)}
)
_QWEN_MAX = replace(_QWEN_PLUS, rate=Rate(2, 60.0))

# --- wan2.5-i2i-preview: flat body like wanx2.1, but a list of images and no function ----------

_WAN25 = Model(
    body="images",
    async_endpoint=IMAGE_SYNTHESIS,
    images=ImageRules(
        formats=_WAN_FORMATS,
        mimes=_BASIC_MIMES,
        max_bytes=10 * MIB,
        sides=(384, 5000),
        ratio=(1 / 4, 4.0),
        png_alpha=False,
    ),
    prompt_chars=2000,
    negative_prompt_in_input=Text(500),
    modes={
        "": Mode(
            parameters={
                "size": Size(
                    default_area=1280 * 1280, area=(768 * 768, 1280 * 1280), ratio=(1 / 4, 4.0)
                ),
                "n": Whole(1, 4, 4),
                "prompt_extend": Flag(True),
                "watermark": Flag(),
                "seed": _SEED,
            },
            images=(1, 3),
            answer="results",
            usage="count",
            seconds=(30.0, 75.0),
            edit="edit",
        )
    },
    rate=Rate(5, 1.0),
    concurrency=5,
    mark=_WAN_MARK,
    prompt_in_results=True,
)

# --- wan2.6-image: edit and interleave ---------------------------------------------------------

_WAN_IMAGES = ImageRules(
    formats=_WAN_FORMATS,
    mimes=_BASIC_MIMES,
    max_bytes=10 * MIB,
    sides=(240, 8000),
    png_alpha=False,
)
_WAN26_COMMON: dict[str, Parameter] = {
    "enable_interleave": Flag(),
    "negative_prompt": Text(500),
    "prompt_extend": Flag(True),
    "max_images": Whole(1, 5, 5),
    "watermark": Flag(),
    "seed": _SEED,
}
_WAN26 = Model(
    body="messages",
    sync_endpoint=MULTIMODAL_GENERATION,
    async_endpoint=IMAGE_GENERATION,
    images=_WAN_IMAGES,
    prompt_chars=2000,
    switch=("parameters", "enable_interleave"),
    default_mode=False,
    modes={
        False: Mode(
            parameters=_WAN26_COMMON
            | {
                "n": Whole(1, 4, 4),
                "size": Size(
                    default_area=1280 * 1280,
                    tiers={"1K": 1280 * 1280, "2K": 2048 * 2048},
                    area=(768 * 768, 2048 * 2048),
                    ratio=(1 / 4, 4.0),
                    multiple=16,
                ),
            },
            images=(1, 4),
            answer="choice_each",
            usage="size_no_tokens",
            seconds=(19.0, 21.0),
            edit="edit",
        ),
        True: Mode(
            parameters=_WAN26_COMMON
            | {
                "n": Whole(1, 1, 1),
                # Needed in a raw synchronous call, but the official client leaves it out.
                "stream": Flag(True),
                "size": Size(
                    default_area=1280 * 1280,
                    area=(768 * 768, 1280 * 1280),
                    ratio=(1 / 4, 4.0),
                    multiple=16,
                    keep_smaller_input=True,
                ),
            },
            images=(0, 1),
            answer="interleaved",
            usage="size_text_tokens",
            seconds=(60.0, 127.0),
            edit="sequence",
            sync_needs_sse=True,
            count_parameter="max_images",
        ),
    },
    rate=Rate(5, 1.0),
    concurrency=5,
    mark=_WAN_MARK,
    tolerated=frozenset({"is_async"}),
)

# --- wan2.7-image and -pro: exact counts, or a sequential set ----------------------------------

_WAN27_TIERS = {"1K": 1024 * 1024, "2K": 2048 * 2048}
_WAN27_SIZE = Size(
    default_area=2048 * 2048,
    tiers=_WAN27_TIERS,
    area=(768 * 768, 2048 * 2048),
    ratio=(1 / 8, 8.0),
)
_WAN27_COMMON: dict[str, Parameter] = {
    "enable_sequential": Flag(),
    "thinking_mode": Flag(True),
    "bbox_list": Boxes(2),
    "size": _WAN27_SIZE,
    "watermark": Flag(),
    "seed": _SEED,
}
# How several images of a non-sequential call are split into choices is undocumented; this follows
# wan2.6, so that a client meets both splits.
_WAN27_EDIT = Mode(
    parameters=_WAN27_COMMON | {"n": Whole(1, 4, 1), "color_palette": Palette(3, 10)},
    images=(0, 9),
    answer="choice_each",
    usage="size_tokens",
    seconds=(12.0, 21.0),
    edit="edit",
)
_WAN27_SEQUENCE = Mode(
    parameters=_WAN27_COMMON | {"n": Whole(1, 12, 12)},
    images=(0, 9),
    answer="one_choice",
    usage="size_tokens",
    seconds=(20.0, 30.0),
    edit="sequence",
)
_WAN27 = Model(
    body="messages",
    sync_endpoint=MULTIMODAL_GENERATION,
    async_endpoint=IMAGE_GENERATION,
    images=replace(_WAN_IMAGES, max_bytes=20 * MIB, ratio=(1 / 8, 8.0)),
    prompt_chars=5000,
    switch=("parameters", "enable_sequential"),
    default_mode=False,
    modes={False: _WAN27_EDIT, True: _WAN27_SEQUENCE},
    rate=Rate(5, 1.0),
    concurrency=5,
    mark=_WAN_MARK,
    tolerated=frozenset({"is_async"}),
)
_WAN27_PRO_SIZE = replace(
    _WAN27_SIZE,
    text_to_image=replace(
        _WAN27_SIZE,
        tiers=_WAN27_TIERS | {"4K": 4096 * 4096},
        area=(768 * 768, 4096 * 4096),
    ),
)
_WAN27_PRO = replace(
    _WAN27,
    modes={
        False: replace(
            _WAN27_EDIT, parameters=dict(_WAN27_EDIT.parameters) | {"size": _WAN27_PRO_SIZE}
        ),
        True: _WAN27_SEQUENCE,
    },
)

MODELS: Mapping[str, Model] = {
    "wanx2.1-imageedit": _WANX,
    "qwen-image-edit": _QWEN_BASE,
    "qwen-image-edit-plus": _QWEN_PLUS,
    "qwen-image-edit-plus-2025-10-30": _QWEN_PLUS,
    "qwen-image-edit-plus-2025-12-15": _QWEN_PLUS,
    "qwen-image-edit-max": _QWEN_MAX,
    "qwen-image-edit-max-2026-01-16": _QWEN_MAX,
    "wan2.5-i2i-preview": _WAN25,
    "wan2.6-image": _WAN26,
    "wan2.7-image": _WAN27,
    "wan2.7-image-pro": _WAN27_PRO,
}


@dataclass(frozen=True)
class Region:
    """A region: its name in the task list, its models, and whether it takes no synchronous calls."""

    name: str
    models: frozenset[str]
    async_only: bool = False


RegionId = Literal["beijing", "singapore", "virginia", "frankfurt"]

REGIONS: Mapping[RegionId, Region] = {
    "beijing": Region("cn-beijing", frozenset(MODELS)),
    "singapore": Region("ap-southeast-1", frozenset(MODELS) - {"wanx2.1-imageedit"}),
    "virginia": Region("us-east-1", frozenset({"wan2.6-image"})),
    "frankfurt": Region("eu-central-1", frozenset({"wan2.6-image"}), async_only=True),
}
