"""The models, as data. Everything that differs between models stands here and nowhere else.

Validation, the JSON Schema, request bodies, polling, pacing and the documentation follow from these
tables; a new model is a new entry, never a new branch. Numbers are the provider contract's, section
in the comment; where its sources contradict each other (contract 8) the adopted reading is used.

Lengths are characters, sides are pixels, sizes are bytes, durations are seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Final, TypeAlias

from pydantic import JsonValue

Json: TypeAlias = JsonValue
"""Any value that JSON can hold."""

MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """Why a value is refused: what is allowed, and the nearest value that would do, if there is one."""

    allowed: str
    nearest: Json = None


# --- kinds of parameter ------------------------------------------------------------------------


@dataclass(frozen=True)
class Integer:
    """A whole number within bounds, both included."""

    low: int
    high: int

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed."""
        allowed = f"a whole number within {self.low}–{self.high}"
        if isinstance(value, bool) or not isinstance(value, int):
            return Fault(allowed)
        if not self.low <= value <= self.high:
            return Fault(allowed, min(max(value, self.low), self.high))
        return None

    def schema(self) -> dict[str, Json]:
        """As JSON Schema."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Number:
    """A number within bounds, both included."""

    low: float
    high: float

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed."""
        allowed = f"a number within {self.low}–{self.high}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return Fault(allowed)
        if not self.low <= value <= self.high:
            if value != value:  # NaN, which no library should have let through
                return Fault(allowed)
            return Fault(allowed, self.low if value < self.low else self.high)
        return None

    def schema(self) -> dict[str, Json]:
        """As JSON Schema."""
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Flag:
    """true or false."""

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed."""
        return None if isinstance(value, bool) else Fault("true or false")

    def schema(self) -> dict[str, Json]:
        """As JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Size:
    """`"W*H"` within bounds of side, area or ratio, or one of the named tiers."""

    tiers: tuple[str, ...] = ()
    sides: tuple[int, int] | None = None
    area: tuple[int, int] | None = None
    ratio: float | None = None
    """Longest to shortest side at the most."""

    _PATTERN: ClassVar[re.Pattern[str]] = re.compile(r"([1-9][0-9]{1,4})\*([1-9][0-9]{1,4})")

    def _allowed(self) -> str:
        parts = [" or ".join(f'"{tier}"' for tier in self.tiers)] if self.tiers else []
        form = '"W*H"'
        if self.sides:
            form += f" with each side {self.sides[0]}–{self.sides[1]}"
        if self.area:
            form += f" with W×H within {self.area[0]}–{self.area[1]}"
        if self.ratio:
            form += f" and a ratio of 1:{self.ratio:g} to {self.ratio:g}:1"
        return " or ".join([*parts, form])

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed."""
        if isinstance(value, str):
            if value in self.tiers:
                return None
            if value.upper() in self.tiers:
                return Fault(self._allowed(), value.upper())
            match = self._PATTERN.fullmatch(value)
            if match is None:
                as_star = re.sub(r" ?[xX×,] ?", "*", value[:20])
                near = as_star if as_star != value and self.check(as_star) is None else None
                return Fault(self._allowed(), near)
            width, height = int(match[1]), int(match[2])
            if self.sides and not all(self.sides[0] <= s <= self.sides[1] for s in (width, height)):
                low, high = self.sides
                near = f"{min(max(width, low), high)}*{min(max(height, low), high)}"
                return Fault(self._allowed(), near)
            if self.ratio and max(width, height) > self.ratio * min(width, height):
                return Fault(self._allowed())
            if self.area and not self.area[0] <= width * height <= self.area[1]:
                small = width * height < self.area[0]
                scale = math.sqrt(self.area[0 if small else 1] / (width * height))
                # A hair's breadth against sides that come out whole but for the last bit.
                whole = (lambda s: math.ceil(s - 1e-6)) if small else (lambda s: int(s + 1e-6))
                near = f"{whole(width * scale)}*{whole(height * scale)}"
                return Fault(self._allowed(), near if self.check(near) is None else None)
            return None
        return Fault(self._allowed())

    def schema(self) -> dict[str, Json]:
        """As JSON Schema; bounds of area and ratio are said in the description only."""
        form: dict[str, Json] = {"type": "string", "pattern": "^[1-9][0-9]{1,4}\\*[1-9][0-9]{1,4}$"}
        if not self.tiers:
            return {**form, "description": self._allowed()}
        return {
            "anyOf": [{"enum": list(self.tiers)}, form],
            "description": self._allowed(),
        }


@dataclass(frozen=True)
class Boxes:
    """Per image a list of at most two boxes `[x1, y1, x2, y2]` in pixels of the original image."""

    most: int = 2

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed; that there is one list per image is checked with the images."""
        allowed = (
            f"one list per image, each with at most {self.most} boxes [x1, y1, x2, y2] of whole "
            "pixels with x1 < x2 and y1 < y2"
        )
        if not isinstance(value, list):
            return Fault(allowed)
        for boxes in value:
            if not isinstance(boxes, list) or len(boxes) > self.most:
                return Fault(allowed)
            for box in boxes:
                if not isinstance(box, list) or len(box) != 4:
                    return Fault(allowed)
                corners = [
                    c for c in box if isinstance(c, int) and not isinstance(c, bool) and c >= 0
                ]
                if len(corners) != 4 or corners[0] >= corners[2] or corners[1] >= corners[3]:
                    return Fault(allowed)
        return None

    def schema(self) -> dict[str, Json]:
        """As JSON Schema."""
        corner: dict[str, Json] = {"type": "integer", "minimum": 0}
        box: dict[str, Json] = {"type": "array", "items": corner, "minItems": 4, "maxItems": 4}
        return {
            "type": "array",
            "items": {"type": "array", "items": box, "maxItems": self.most},
        }


@dataclass(frozen=True)
class Palette:
    """Three to ten `{"hex": "#RRGGBB", "ratio": "25.00%"}` whose ratios add up to 100.00%."""

    _HEX: ClassVar[re.Pattern[str]] = re.compile(r"#[0-9A-Fa-f]{6}")
    _RATIO: ClassVar[re.Pattern[str]] = re.compile(r"([0-9]{1,3})\.([0-9]{2})%")

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed."""
        allowed = (
            '3–10 objects {"hex": "#RRGGBB", "ratio": "25.00%"} whose ratios, with two decimals, '
            "add up to 100.00%"
        )
        if not isinstance(value, list) or not 3 <= len(value) <= 10:
            return Fault(allowed)
        hundredths = 0
        for colour in value:
            if not isinstance(colour, dict) or set(colour) != {"hex", "ratio"}:
                return Fault(allowed)
            hex_, ratio = colour["hex"], colour["ratio"]
            if not isinstance(hex_, str) or not self._HEX.fullmatch(hex_):
                return Fault(allowed)
            match = self._RATIO.fullmatch(ratio) if isinstance(ratio, str) else None
            if match is None:
                return Fault(allowed)
            hundredths += int(match[1]) * 100 + int(match[2])
        return None if hundredths == 10_000 else Fault(allowed)

    def schema(self) -> dict[str, Json]:
        """As JSON Schema."""
        return {
            "type": "array",
            "minItems": 3,
            "maxItems": 10,
            "items": {
                "type": "object",
                "required": ["hex", "ratio"],
                "additionalProperties": False,
                "properties": {
                    "hex": {"type": "string", "pattern": "^#[0-9A-Fa-f]{6}$"},
                    "ratio": {"type": "string", "pattern": "^[0-9]{1,3}\\.[0-9]{2}%$"},
                },
            },
        }


Kind: TypeAlias = "Integer | Number | Flag | Size | Boxes | Palette"


@dataclass(frozen=True)
class When:
    """A condition on the other parameters of the same job, and on whether it has images.

    Each field that is set must hold. `sequential` looks at `enable_sequential`, default false.
    """

    sequential: bool | None = None
    images: bool | None = None

    def holds(self, parameters: Mapping[str, Json], has_images: bool) -> bool:
        """Whether a job with these parameters and images meets the condition."""
        sequential = parameters.get("enable_sequential") is True
        return (self.sequential in (None, sequential)) and (self.images in (None, has_images))

    def __str__(self) -> str:
        """In words, for a message."""
        said = []
        if self.sequential is not None:
            said.append(f"enable_sequential is {'true' if self.sequential else 'false'}")
        if self.images is not None:
            said.append("there are images" if self.images else "there is no image")
        return " and ".join(said) or "always"


@dataclass(frozen=True)
class Variant:
    """Another range that holds when a condition does, in place of the parameter's own."""

    when: When
    kind: Kind


@dataclass(frozen=True)
class Parameter:
    """One of the provider's own parameters."""

    name: str
    kind: Kind
    says: str
    """What it does, in one sentence, for the schema and the reference."""
    functions: tuple[str, ...] | None = None
    """The functions that have it; None means all."""
    variants: tuple[Variant, ...] = ()
    only: When | None = None
    """Refused elsewhere."""
    effective: When | None = None
    """Accepted elsewhere with a warning that it has no effect there."""
    default: Json = None
    """The provider's documented default; None where none is documented or it is random."""

    def kind_for(self, parameters: Mapping[str, Json], has_images: bool) -> Kind:
        """The range that holds for a job."""
        for variant in self.variants:
            if variant.when.holds(parameters, has_images):
                return variant.kind
        return self.kind


# --- models --------------------------------------------------------------------------------------


class Mode(StrEnum):
    """How a task is made: created and polled, or one long call."""

    ASYNC = "async"
    SYNC = "sync"


class Body(StrEnum):
    """The request body's protocol (contract 1.4)."""

    FLAT_2_1 = "flat-2.1"
    FLAT_2_5 = "flat-2.5"
    MESSAGES = "messages"


@dataclass(frozen=True)
class Images:
    """What a model takes in."""

    least: int
    most: int
    formats: tuple[str, ...]
    max_bytes: int
    sides: tuple[int, int] | None = None
    advised_sides: tuple[int, int] | None = None
    """Outside these the provider works, but slower or worse: a warning, not a refusal."""
    ratio: float | None = None
    alpha: bool = True
    ascii_urls: bool = False
    """Whether URLs must be free of characters outside ASCII (contract 3.2)."""


@dataclass(frozen=True)
class Function:
    """A named function of a model that has several."""

    name: str
    says: str
    mask: bool = False
    """Whether a mask is required; elsewhere none is taken."""


_DELAY_TOLERANCE_SECONDS: Final = 0.1
"""By so much the creates of one full window may bunch up between us and the provider."""


@dataclass(frozen=True)
class Quota:
    """Limits of one main account for one model (contract 3.1)."""

    creates: int
    per_seconds: float
    running: int | None
    """Tasks that run at once; None where the provider names no number (synchronous models)."""

    @property
    def interval(self) -> float:
        """Seconds between two creates: the rate, and room for unequal delays on their way."""
        return (self.per_seconds + _DELAY_TOLERANCE_SECONDS) / self.creates


@dataclass(frozen=True)
class Polling:
    """When to ask: first after `first` seconds, then every `interval` (contract 2.7)."""

    first: int
    interval: int


@dataclass(frozen=True)
class Model:
    """Everything retouch knows about one model."""

    name: str
    says: str
    mode: Mode
    path: str
    """Under the base URL (contract 1.4)."""
    body: Body
    regions: tuple[str, ...]
    images: Images
    prompt_chars: int
    quota: Quota
    parameters: tuple[Parameter, ...]
    polling: Polling | None = None
    functions: tuple[Function, ...] = ()
    negative_prompt_chars: int | None = None
    """None where the model has no negative prompt."""
    exact_count: When = When()
    """Where `n` images are promised; elsewhere `n` is the most that may come."""
    by_name: Mapping[str, Parameter] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {p.name: p for p in self.parameters})

    def function(self, name: str | None) -> Function | None:
        """The function of that name, if the model has it."""
        return next((f for f in self.functions if f.name == name), None)


MODEL_LIST_DOC: Final = "docs/reference/sidecar.md"

_SEED = Parameter("seed", Integer(0, 2147483647), "Like results for like seeds; random if absent.")
_WATERMARK = Parameter("watermark", Flag(), "Puts the provider's mark bottom right.", default=False)
_PROMPT_EXTEND = Parameter(
    "prompt_extend", Flag(), "Lets the provider rewrite the prompt.", default=True
)
_PHOTO: Final = ("JPEG", "PNG", "BMP", "WEBP")
_AREA_768: Final = 768 * 768

_WANX_21 = Model(  # contract 3.2
    name="wanx2.1-imageedit",
    says="Ten named edits of one image.",
    mode=Mode.ASYNC,
    path="services/aigc/image2image/image-synthesis",
    body=Body.FLAT_2_1,
    regions=("beijing",),
    images=Images(1, 1, (*_PHOTO, "TIFF"), 10 * MIB, sides=(512, 4096), ascii_urls=True),
    prompt_chars=800,
    quota=Quota(2, 1.0, 2),
    polling=Polling(first=3, interval=3),
    functions=(
        Function("stylization_all", "Restyles the whole image."),
        Function("stylization_local", "Restyles one object."),
        Function("description_edit", "Edits as the prompt says, no region given."),
        Function("description_edit_with_mask", "Edits the white area of the mask.", mask=True),
        Function("remove_watermark", "Removes Chinese or English text marks."),
        Function("expand", "Outpaints by a factor for each direction."),
        Function("super_resolution", "Sharpens and enlarges."),
        Function("colorization", "Colours a grey image."),
        Function("doodle", "Makes an image from line art."),
        Function("control_cartoon_feature", "A new scene with the input's cartoon character."),
    ),
    parameters=(
        Parameter("n", Integer(1, 4), "Images to make; each is billed.", default=1),
        _SEED,
        _WATERMARK,
        Parameter(
            "strength",
            Number(0.0, 1.0),
            "How far to go from the original; 0 stays close.",
            functions=("stylization_all", "description_edit"),
            default=0.5,
        ),
        *(
            Parameter(
                f"{side}_scale",
                Number(1.0, 2.0),
                f"How far to extend at the {side}.",
                functions=("expand",),
                default=1.0,
            )
            for side in ("top", "bottom", "left", "right")
        ),
        Parameter(
            "upscale_factor",
            Integer(1, 4),
            "How much larger; 1 only enhances.",
            functions=("super_resolution",),
            default=1,
        ),
        Parameter(
            "is_sketch",
            Flag(),
            "Whether the input already is line art.",
            functions=("doodle",),
            default=False,
        ),
    ),
)

_QWEN_EDIT_PLUS = Model(  # contract 3.3
    name="qwen-image-edit-plus",
    says="Edits or combines one to three images, one synchronous call.",
    mode=Mode.SYNC,
    path="services/aigc/multimodal-generation/generation",
    body=Body.MESSAGES,
    regions=("beijing", "singapore"),
    images=Images(1, 3, (*_PHOTO, "TIFF", "GIF"), 10 * MIB, advised_sides=(384, 3072)),
    prompt_chars=800,
    negative_prompt_chars=500,
    quota=Quota(2, 1.0, None),
    parameters=(
        Parameter("n", Integer(1, 6), "Images to make; each is billed.", default=1),
        Parameter(
            "size",
            Size(sides=(512, 2048)),
            "Size of the result; else about one megapixel with the last image's ratio.",
        ),
        _PROMPT_EXTEND,
        _WATERMARK,
        _SEED,
    ),
)

_WAN_27 = Model(  # contract 3.6
    name="wan2.7-image",
    says="Makes, edits or combines; consistent sets of images.",
    mode=Mode.ASYNC,
    path="services/aigc/image-generation/generation",
    body=Body.MESSAGES,
    regions=("beijing", "singapore"),
    images=Images(0, 9, _PHOTO, 20 * MIB, sides=(240, 8000), ratio=8.0, alpha=False),
    prompt_chars=5000,
    quota=Quota(5, 1.0, 5),
    polling=Polling(first=5, interval=5),
    exact_count=When(sequential=False),
    parameters=(
        Parameter(
            "size",
            Size(tiers=("1K", "2K"), area=(_AREA_768, 2048 * 2048), ratio=8.0),
            "Size of the result; a tier keeps the last image's ratio.",
            default="2K",
        ),
        Parameter(
            "n",
            Integer(1, 4),
            "Images to make; each is billed. With enable_sequential the most to make.",
            variants=(Variant(When(sequential=True), Integer(1, 12)),),
            default=1,
        ),
        Parameter("enable_sequential", Flag(), "Makes a consistent set.", default=False),
        Parameter(
            "thinking_mode",
            Flag(),
            "Slower and better, for text to image.",
            effective=When(sequential=False, images=False),
            default=True,
        ),
        Parameter("color_palette", Palette(), "Colours to work with.", only=When(sequential=False)),
        Parameter("bbox_list", Boxes(), "Where to work, for each image.", only=When(images=True)),
        _WATERMARK,
        _SEED,
    ),
)

MODELS: Final[Mapping[str, Model]] = {m.name: m for m in (_WANX_21, _QWEN_EDIT_PLUS, _WAN_27)}
REGIONS: Final = ("beijing", "singapore")

RESULT_HOSTS: Final = (  # contract 6.3: exact names, nothing else by default
    "dashscope-result-bj.oss-cn-beijing.aliyuncs.com",
    "dashscope-result-hz.oss-cn-hangzhou.aliyuncs.com",
    "dashscope-result-sh.oss-cn-shanghai.aliyuncs.com",
    "dashscope-result-wlcb.oss-cn-wulanchabu.aliyuncs.com",
    "dashscope-result-zjk.oss-cn-zhangjiakou.aliyuncs.com",
    "dashscope-result-sz.oss-cn-shenzhen.aliyuncs.com",
    "dashscope-result-hy.oss-cn-heyuan.aliyuncs.com",
    "dashscope-result-cd.oss-cn-chengdu.aliyuncs.com",
    "dashscope-result-gz.oss-cn-guangzhou.aliyuncs.com",
    "dashscope-result-wlcb-acdr-1.oss-cn-wulanchabu-acdr-1.aliyuncs.com",
)

DATA_URL_MAX_BYTES: Final = 7 * 1000 * 1000
"""The original may be this large to travel inside a request (contract 6.1)."""
TASK_DEADLINE_SECONDS: Final = 3 * 3600 + 600
"""A task without a result by then is given up (contract 2.4)."""
UNKNOWN_GRACE_SECONDS: Final = 60
"""UNKNOWN of a task younger than this means ask again (contract 2.2)."""
