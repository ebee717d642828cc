"""The models, as data. Everything that differs between models stands here and nowhere else.

Validation, the JSON Schema, request bodies, polling, pacing and the documentation follow from these
tables; a new model is a new entry, never a new branch. Numbers are the provider contract's, section
in the comment; where its sources contradict each other (contract 8) the adopted reading is used and
named in the model's `readings`. `retouch.catalogue` puts an account's own limits and new snapshots on
top, from configuration.

Lengths are characters, sides are pixels, sizes are bytes, durations are seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, Final, TypeAlias

from pydantic import JsonValue

Json: TypeAlias = JsonValue
"""Any value that JSON can hold."""

MIB: Final = 1024 * 1024
_MOST_LOOKED_AT: Final = 100
"""Entries of a list in a parameter; no more would be read of."""


@dataclass(frozen=True)
class Fault:
    """Why a value is refused: what is allowed, and the nearest value that would do, if there is one.

    `at` is the path inside the value, `[1].ratio`, where only a part of it is wrong; then `given` is
    that part.
    """

    allowed: str
    nearest: Json = None
    at: str = ""
    given: Json = None


# --- kinds of parameter ------------------------------------------------------------------------


@dataclass(frozen=True)
class Integer:
    """A whole number within bounds, both included."""

    low: int
    high: int

    @property
    def allowed(self) -> str:
        """In words."""
        if self.low == self.high:
            return f"{self.low}, the only value here"
        return f"a whole number within {self.low}–{self.high}"

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed."""
        allowed = self.allowed
        if isinstance(value, bool) or not isinstance(value, int):
            return Fault(allowed, self._meant(value))
        if not self.low <= value <= self.high:
            return Fault(allowed, min(max(value, self.low), self.high))
        return None

    def _meant(self, value: Json) -> int | None:
        """What somebody who wrote `"4"` or `4.0` means."""
        if isinstance(value, float) and value.is_integer():
            return min(max(int(value), self.low), self.high)
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
            return min(max(int(value), self.low), self.high)
        return None

    def schema(self) -> dict[str, Json]:
        """As JSON Schema."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Number:
    """A number within bounds, both included."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        """In words."""
        return f"a number within {self.low}–{self.high}"

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed."""
        allowed = self.allowed
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

    @property
    def allowed(self) -> str:
        """In words."""
        return "true or false"

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed."""
        if isinstance(value, bool):
            return None
        word = value.lower() if isinstance(value, str) else value
        meant = {"true": True, "yes": True, "false": False, "no": False}
        return Fault(self.allowed, meant.get(word) if isinstance(word, str) else None)

    def schema(self) -> dict[str, Json]:
        """As JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Size:
    """`"W*H"` within bounds of side, area or ratio, or one of the named tiers."""

    tiers: Mapping[str, int] = field(default_factory=dict)
    """Names that are offered, and the side of a square of that area."""
    known: Mapping[str, int] = field(default_factory=dict)
    """What a name means that is not offered here."""
    sides: tuple[int, int] | None = None
    area: tuple[int, int] | None = None
    ratio: float | None = None
    """Longest to shortest side at the most."""

    _PATTERN: ClassVar[re.Pattern[str]] = re.compile(r"([1-9][0-9]{1,4})\*([1-9][0-9]{1,4})")

    @property
    def allowed(self) -> str:
        """In words."""
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
                return Fault(self.allowed, value.upper())
            match = self._PATTERN.fullmatch(value)
            if match is None:
                return Fault(self.allowed, self._meant(value))
            width, height = int(match[1]), int(match[2])
            if self.sides and not all(self.sides[0] <= s <= self.sides[1] for s in (width, height)):
                low, high = self.sides
                near = f"{min(max(width, low), high)}*{min(max(height, low), high)}"
                return Fault(self.allowed, near)
            wide = self.ratio and max(width, height) > self.ratio * min(width, height)
            if wide or (self.area and not self.area[0] <= width * height <= self.area[1]):
                return Fault(self.allowed, self._if_right(self._brought_within(width, height)))
            return None
        return Fault(self.allowed)

    def _brought_within(self, width: int, height: int) -> str:
        """Sides brought within the ratio, then within the area, in proportion."""
        if self.ratio:
            most = int(min(width, height) * self.ratio)
            width, height = min(width, most), min(height, most)
        if self.area and not self.area[0] <= width * height <= self.area[1]:
            small = width * height < self.area[0]
            scale = math.sqrt(self.area[0 if small else 1] / (width * height))
            # A hair's breadth against sides that come out whole but for the last bit.
            whole = (lambda s: math.ceil(s - 1e-6)) if small else (lambda s: int(s + 1e-6))
            width, height = whole(width * scale), whole(height * scale)
            if self.ratio and max(width, height) > self.ratio * min(width, height):
                # Rounding made it too long by a pixel's breadth.
                least = math.ceil(max(width, height) / self.ratio)
                width, height = max(width, least), max(height, least)
        return f"{width}*{height}"

    def _if_right(self, value: str) -> str | None:
        return value if self.check(value) is None else None

    def _meant(self, value: str) -> str | None:
        """What somebody who wrote `1024x768`, or a tier of another model, probably means."""
        if re.fullmatch(r"[1-9][kK]", value):
            if self.tiers:
                return [*self.tiers][-1]
            side = self.known.get(value.upper(), int(value[0]) * 1024)
            return self._if_right(f"{side}*{side}")
        as_star = re.sub(r" *[xX×,*] *", "*", value[:20])
        return self._if_right(as_star) if as_star != value else None

    def schema(self) -> dict[str, Json]:
        """As JSON Schema; bounds of area and ratio are said in the description only."""
        form: dict[str, Json] = {"type": "string", "pattern": "^[1-9][0-9]{1,4}\\*[1-9][0-9]{1,4}$"}
        if not self.tiers:
            return {**form, "description": self.allowed}
        return {
            "anyOf": [{"enum": list(self.tiers)}, form],
            "description": self.allowed,
        }


@dataclass(frozen=True)
class Boxes:
    """Per image a list of at most two boxes `[x1, y1, x2, y2]` in pixels of the original image."""

    most: int = 2
    furthest: int = 100_000
    """No image that is read at all has a longer side."""

    @property
    def allowed(self) -> str:
        """In words."""
        return (
            f"one list per image, each with at most {self.most} boxes [x1, y1, x2, y2] of whole "
            "pixels with x1 < x2 and y1 < y2"
        )

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed; that there is one list per image is checked with the images."""
        return next(iter(self.faults(value)), None)

    def faults(self, value: Json) -> list[Fault]:
        """Everything that is wrong with it."""
        if not isinstance(value, list):
            return [Fault(self.allowed)]
        found: list[Fault] = []
        for image, boxes in enumerate(value[:_MOST_LOOKED_AT]):
            if not isinstance(boxes, list) or len(boxes) > self.most:
                said = f"a list of at most {self.most} boxes [x1, y1, x2, y2]"
                found.append(Fault(said, at=f"[{image}]", given=boxes))
                continue
            for number, box in enumerate(boxes):
                if (fault := self._box(box, f"[{image}][{number}]")) is not None:
                    found.append(fault)
        return found

    def _box(self, box: Json, at: str) -> Fault | None:
        allowed = "a box [x1, y1, x2, y2] of whole pixels with x1 < x2 and y1 < y2"
        corners: list[int] = []
        for corner in box if isinstance(box, list) else ():
            if isinstance(corner, int) and not isinstance(corner, bool):
                corners.append(corner)
        if not isinstance(box, list) or len(box) != 4 or len(corners) != 4:
            return Fault(allowed, at=at, given=box)
        if any(not 0 <= corner <= self.furthest for corner in corners):
            return Fault(allowed, at=at, given=box)
        x1, y1, x2, y2 = corners
        if x1 < x2 and y1 < y2:
            return None
        turned: list[Json] = [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
        return Fault(allowed, turned if x1 != x2 and y1 != y2 else None, at=at, given=box)

    def schema(self) -> dict[str, Json]:
        """As JSON Schema."""
        corner: dict[str, Json] = {"type": "integer", "minimum": 0, "maximum": self.furthest}
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

    @property
    def allowed(self) -> str:
        """In words."""
        return (
            '3–10 objects {"hex": "#RRGGBB", "ratio": "25.00%"} whose ratios, with two decimals, '
            "add up to 100.00%"
        )

    def check(self, value: Json) -> Fault | None:
        """None if `value` is allowed."""
        return next(iter(self.faults(value)), None)

    def faults(self, value: Json) -> list[Fault]:
        """Everything that is wrong with it; their sum only where each colour is right."""
        if not isinstance(value, list):
            return [Fault(self.allowed)]
        found: list[Fault] = []
        if not 3 <= len(value) <= 10:
            found.append(Fault(f"3–10 colours; these are {len(value)}"))
        hundredths = 0
        for index, colour in enumerate(value[:_MOST_LOOKED_AT]):
            if not isinstance(colour, dict) or set(colour) != {"hex", "ratio"}:
                said = 'an object {"hex": "#RRGGBB", "ratio": "25.00%"} and nothing else'
                found.append(Fault(said, at=f"[{index}]", given=colour))
                continue
            hex_, ratio = colour["hex"], colour["ratio"]
            if not isinstance(hex_, str) or not self._HEX.fullmatch(hex_):
                near = f"#{hex_}" if isinstance(hex_, str) else ""
                meant = near if self._HEX.fullmatch(near) else None
                found.append(Fault('a colour "#RRGGBB"', meant, f"[{index}].hex", hex_))
            match = self._RATIO.fullmatch(ratio) if isinstance(ratio, str) else None
            if match is None:
                said = 'a share with two decimals and a percent sign, as "25.00%"'
                found.append(Fault(said, self._share(ratio), f"[{index}].ratio", ratio))
            else:
                hundredths += int(match[1]) * 100 + int(match[2])
        if not found and hundredths != 10_000:
            found.append(
                Fault(f"ratios that add up to 100.00%; these make {hundredths / 100:.2f}%")
            )
        return found

    @staticmethod
    def _share(ratio: Json) -> str | None:
        """What somebody who wrote `40`, `"40"` or `"40%"` means."""
        text = str(ratio).removesuffix("%").strip() if isinstance(ratio, str | int | float) else ""
        if isinstance(ratio, bool) or not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,2})?", text):
            return None
        share = float(text)
        # 0.4 may mean forty per cent or less than one.
        return f"{share:.2f}%" if 1 <= share <= 100 else None

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


def faults(kind: Kind, value: Json) -> list[Fault]:
    """Everything that is wrong with a value."""
    if isinstance(kind, Boxes | Palette):
        return kind.faults(value)
    fault = kind.check(value)
    return [] if fault is None else [fault]


Kind: TypeAlias = "Integer | Number | Flag | Size | Boxes | Palette"


@dataclass(frozen=True)
class When:
    """A condition on a job: one of its boolean parameters, and whether it has images.

    What is set must hold. `switch` names a parameter whose default is false, `on` the value it must
    have.
    """

    switch: str | None = None
    on: bool = True
    images: bool | None = None

    def holds(self, parameters: Mapping[str, Json], has_images: bool) -> bool:
        """Whether a job with these parameters and images meets the condition."""
        switched = self.switch is None or (parameters.get(self.switch) is True) is self.on
        return switched and self.images in (None, has_images)

    def __str__(self) -> str:
        """In words, for a message."""
        said = []
        if self.switch is not None:
            said.append(f"{self.switch} is {'true' if self.on else 'false'}")
        if self.images is not None:
            said.append("there are images" if self.images else "there is no image")
        return " and ".join(said) or "always"


ALWAYS: Final = When()


@dataclass(frozen=True)
class Variant:
    """Another range that holds when a condition does, in place of the parameter's own."""

    when: When
    kind: Kind
    default: Json = None
    """The provider's default there; None where none is documented."""


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
    sent: Json = None
    """What retouch sends where the sidecar is silent, because the provider's own default differs from
    page to page or costs more than was asked for (contract 8, 1 and 2). Where `effective` is set, only
    there."""
    counts: When | None = None
    """Where it says how many images are made at the most, and so billed."""
    wants: str | None = None
    """A switch that is of little use unless this other parameter is given too."""
    examples: tuple[Json, ...] = ()
    """Values that the provider recommends."""

    def variant_for(self, parameters: Mapping[str, Json], has_images: bool) -> Variant | None:
        """The variant that holds for a job; None where the parameter's own range does."""
        return next((v for v in self.variants if v.when.holds(parameters, has_images)), None)

    def kind_for(self, parameters: Mapping[str, Json], has_images: bool) -> Kind:
        """The range that holds for a job."""
        variant = self.variant_for(parameters, has_images)
        return self.kind if variant is None else variant.kind

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Its range, and those that hold in other modes."""
        return (self.kind, *(variant.kind for variant in self.variants))

    def places_for(self, value: Json) -> list[When]:
        """The conditions under which a value is allowed, as far as they can be said."""
        found = [v.when for v in self.variants if not faults(v.kind, value)]
        switches = {v.when.switch for v in self.variants if v.when.images is None}
        if not faults(self.kind, value) and len(switches) == 1 == len(self.variants):
            when = self.variants[0].when
            found.append(replace(when, on=not when.on))
        return found


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


class Results(StrEnum):
    """Where an answer holds its images (contract 4.1). Both are read alike; this is for the reader."""

    RESULTS = "output.results[]"
    CHOICES = "output.choices[]"


@dataclass(frozen=True)
class Region:
    """One of the provider's regions (contract 1.1). A key belongs to one."""

    name: str
    says: str
    base_url: str | None
    """The public one; None where every workspace has its own, which must then be configured."""
    calls: tuple[Mode, ...] = (Mode.ASYNC, Mode.SYNC)
    result_hosts: tuple[str, ...] = ()
    """Where results have been seen to come from beside the documented ten (contract 6.3)."""


@dataclass(frozen=True)
class Count:
    """How many images a job may name, where a condition holds."""

    when: When
    least: int
    most: int


@dataclass(frozen=True)
class Images:
    """What a model takes in."""

    counts: tuple[Count, ...]
    """The first whose condition holds; the last holds always."""
    formats: tuple[str, ...]
    max_bytes: int
    sides: tuple[int, int] | None = None
    advised_sides: tuple[int, int] | None = None
    """Outside these the provider works, but slower or worse: a warning, not a refusal."""
    ratio: float | None = None
    """Longest to shortest side at the most."""
    alpha: bool = True
    data_urls: tuple[str, ...] = ("JPEG", "PNG", "BMP", "WEBP")
    """Formats that may travel inside a request as a data URL (contract 3.1)."""

    def count_for(self, parameters: Mapping[str, Json]) -> Count:
        """The limits that hold for a job with these parameters."""
        return next(count for count in self.counts if count.when.holds(parameters, True))


@dataclass(frozen=True)
class Function:
    """A named function of a model that has several."""

    name: str
    says: str
    mask: bool = False
    """Whether a mask is required; elsewhere none is taken."""
    placed: bool = False
    """Whether its parameters mean a side of the image, so that it matters which way up it is."""
    examples: tuple[str, ...] = ()
    """Words that the provider promises to know in the prompt."""


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
    """When to ask: first after `first` seconds, then at least `interval` apart and ever more slowly
    (contract 2.7).
    """

    first: int
    interval: int


@dataclass(frozen=True)
class Reading:
    """Where the provider's pages contradict each other, the reading that is used (contract 8)."""

    row: int
    says: str


@dataclass(frozen=True)
class Model:
    """Everything retouch knows about one model."""

    name: str
    says: str
    calls: Mapping[Mode, str]
    """The path under the base URL for each way of calling it; the first is the default."""
    body: Body
    results: Results
    regions: tuple[str, ...]
    images: Images
    prompt_chars: int
    quota: Quota
    parameters: tuple[Parameter, ...]
    polling: Polling | None = None
    functions: tuple[Function, ...] = ()
    negative_prompt_chars: int | None = None
    """None where the model has no negative prompt."""
    exact_count: When = ALWAYS
    """Where `n` images are promised; elsewhere `n` is the most that may come."""
    streams: When | None = None
    """Where a synchronous call must stream (contract 3.5)."""
    output: str = "PNG."
    """What is known of the result's size."""
    takes: str = "not documented"
    """How long a task usually takes."""
    notes: tuple[str, ...] = ()
    """What else its owner should know."""
    readings: tuple[Reading, ...] = ()
    snapshot_of: str | None = None
    """The model of which this is a dated snapshot."""
    by_name: Mapping[str, Parameter] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {p.name: p for p in self.parameters})

    @property
    def call(self) -> Mode:
        """How it is called unless the sidecar says otherwise."""
        return next(iter(self.calls))

    def calls_in(self, region: str) -> tuple[Mode, ...]:
        """The ways of calling it that a region offers; none where the region has it not."""
        if region not in self.regions:
            return ()
        return tuple(call for call in self.calls if call in REGIONS[region].calls)

    def function(self, name: str | None) -> Function | None:
        """The function of that name, if the model has it."""
        return next((f for f in self.functions if f.name == name), None)

    def most_images(self, parameters: Mapping[str, Json], has_images: bool) -> int:
        """How many images a job with these completed parameters makes, and bills, at the most."""
        for parameter in self.parameters:
            if parameter.counts is not None and parameter.counts.holds(parameters, has_images):
                value = parameters.get(parameter.name)
                if isinstance(value, int) and not isinstance(value, bool):
                    return value
        return 1

    def having(self, function: str | None) -> tuple[Parameter, ...]:
        """The parameters that a function has; all of them where the model has no functions."""
        return tuple(p for p in self.parameters if p.functions is None or function in p.functions)

    def completed(
        self, parameters: Mapping[str, Json], has_images: bool, function: str | None = None
    ) -> dict[str, Json]:
        """The parameters with what retouch sends of itself."""
        added = {
            p.name: p.sent
            for p in self.having(function)
            if p.sent is not None
            and (p.effective is None or p.effective.holds(parameters, has_images))
        }
        return {**added, **parameters}


MODEL_LIST_DOC: Final = "docs/reference/models"

REGIONS: Final[Mapping[str, Region]] = {  # contract 1.1
    region.name: region
    for region in (
        Region("beijing", "China (Beijing)", "https://dashscope.aliyuncs.com/api/v1"),
        Region(
            "singapore",
            "Singapore",
            "https://dashscope-intl.aliyuncs.com/api/v1",
            result_hosts=(
                "dashscope-result-sgp.oss-ap-southeast-1.aliyuncs.com",
                "dashscope-result-intl.oss-cn-singapore.aliyuncs.com",
            ),
        ),
        Region("virginia", "US (Virginia)", "https://dashscope-us.aliyuncs.com/api/v1"),
        Region("frankfurt", "Germany (Frankfurt)", None, calls=(Mode.ASYNC,)),
    )
}

_SYNTHESIS: Final = "services/aigc/image2image/image-synthesis"
_GENERATION: Final = "services/aigc/image-generation/generation"
_MULTIMODAL: Final = "services/aigc/multimodal-generation/generation"

_SEED = Parameter("seed", Integer(0, 2147483647), "Like results for like seeds; random if absent.")
_WATERMARK = Parameter(
    "watermark", Flag(), 'Puts the mark "AI生成" (made by AI) bottom right.', default=False
)
_PROMPT_EXTEND = Parameter(
    "prompt_extend", Flag(), "Lets the provider rewrite the prompt.", default=True
)
_COUNT: Final = "Images to make; each is billed."
_PHOTO: Final = ("JPEG", "PNG", "BMP", "WEBP")
_AREA_768: Final = 768 * 768
_BOTH: Final = ("beijing", "singapore")
_N_IS_SENT: Final = (
    "n is always sent and is 1 unless the sidecar says otherwise; the provider's own default is {}."
)
_TRUNCATES: Final = Reading(
    23, "A prompt that is too long is refused here; the provider would cut it off silently."
)
_NO_ALPHA: Final = Reading(
    19,
    "Transparency is refused, as the pages say that it is not supported but not what becomes of it; "
    '"fit": true flattens it onto white.',
)


def _counts(least: int, most: int) -> tuple[Count, ...]:
    return (Count(ALWAYS, least, most),)


_WANX_21 = Model(  # contract 3.2
    name="wanx2.1-imageedit",
    says="Ten named edits of one image.",
    calls={Mode.ASYNC: _SYNTHESIS},
    body=Body.FLAT_2_1,
    results=Results.RESULTS,
    regions=("beijing",),
    images=Images(
        _counts(1, 1),
        (*_PHOTO, "TIFF"),
        10 * MIB,
        sides=(512, 4096),
        data_urls=(*_PHOTO, "TIFF"),
    ),
    prompt_chars=800,
    quota=Quota(2, 1.0, 2),
    polling=Polling(first=2, interval=1),
    output="PNG. Its size is not documented, but for the factors of expand and super_resolution.",
    takes="5–15 s",
    functions=(
        Function(
            "stylization_all",
            "Restyles the whole image.",
            examples=("French picture book", "gold-foil art"),
        ),
        Function(
            "stylization_local",
            "Restyles one object.",
            examples=(
                "ice",
                "cloud",
                "Chinese festive lantern",
                "wooden plank",
                "blue-and-white porcelain",
                "fluffy",
                "weaving",
                "balloon",
            ),
        ),
        Function("description_edit", "Edits as the prompt says, no region given."),
        Function("description_edit_with_mask", "Edits the white area of the mask.", mask=True),
        Function("remove_watermark", "Removes Chinese or English text marks."),
        Function("expand", "Outpaints by a factor for each direction.", placed=True),
        Function("super_resolution", "Sharpens and enlarges."),
        Function("colorization", "Colours a grey image."),
        Function("doodle", "Makes an image from line art."),
        Function("control_cartoon_feature", "A new scene with the input's cartoon character."),
    ),
    parameters=(
        Parameter("n", Integer(1, 4), _COUNT, default=1, sent=1, counts=ALWAYS),
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
    readings=(
        _TRUNCATES,
        Reading(
            25, "It has no size, negative_prompt or prompt_extend, though one sample sends them."
        ),
        Reading(27, "The function is remove_watermark; another spelling in the package is a slip."),
    ),
)

_QWEN_WATERMARK = replace(_WATERMARK, says='Puts the mark "Qwen-Image" bottom right.')
_QWEN_ROUNDS = Reading(5, "The result's sides may differ from `size` by up to 16 pixels.")
_QWEN_PLUS = Model(  # contract 3.3
    name="qwen-image-edit-plus",
    says="Edits or combines one to three images, up to six results.",
    calls={Mode.SYNC: _MULTIMODAL},
    body=Body.MESSAGES,
    results=Results.CHOICES,
    regions=_BOTH,
    images=Images(_counts(1, 3), (*_PHOTO, "TIFF", "GIF"), 10 * MIB, advised_sides=(384, 3072)),
    prompt_chars=800,
    negative_prompt_chars=500,
    quota=Quota(2, 1.0, None),
    output="PNG of about one megapixel with the last image's ratio, or of `size`, rounded to 16.",
    notes=("Today it is the same as qwen-image-edit-plus-2025-10-30.",),
    parameters=(
        Parameter("n", Integer(1, 6), _COUNT, default=1, sent=1, counts=ALWAYS),
        Parameter(
            "size",
            Size(sides=(512, 2048)),
            "Size of the result; else about one megapixel with the last image's ratio.",
            examples=(
                "1024*1024",
                "1536*1536",
                "768*1152",
                "1024*1536",
                "1152*768",
                "1536*1024",
                "960*1280",
                "1080*1440",
                "1280*960",
                "1440*1080",
                "720*1280",
                "1080*1920",
                "1280*720",
                "1920*1080",
                "1344*576",
                "2048*872",
            ),
        ),
        _PROMPT_EXTEND,
        _QWEN_WATERMARK,
        _SEED,
    ),
    readings=(
        _TRUNCATES,
        _QWEN_ROUNDS,
        Reading(9, "negative_prompt stands at the top of the sidecar; it goes into parameters."),
        Reading(21, "Sides of 384–3072 pixels are advice, so others are a warning."),
        Reading(22, "One to three images, though an old message speaks of one."),
        Reading(39, "It is never called asynchronously; the pages say that it cannot be."),
    ),
)
_QWEN_BASE = replace(
    _QWEN_PLUS,
    name="qwen-image-edit",
    says="Edits or combines one to three images, one result.",
    output="PNG of about one megapixel with the last image's ratio.",
    notes=(),
    readings=tuple(reading for reading in _QWEN_PLUS.readings if reading is not _QWEN_ROUNDS),
    parameters=(
        Parameter("n", Integer(1, 1), "Always 1.", default=1, sent=1, counts=ALWAYS),
        _QWEN_WATERMARK,
        _SEED,
    ),
)
_QWEN_MAX = replace(
    _QWEN_PLUS,
    name="qwen-image-edit-max",
    says="As qwen-image-edit-plus, better and slower: two calls a minute.",
    notes=("Today it is the same as qwen-image-edit-max-2026-01-16.",),
    quota=Quota(2, 60.0, None),
)

_WAN_SIZES: Final = (
    "1280*1280",
    "1024*1024",
    "800*1200",
    "1200*800",
    "960*1280",
    "1280*960",
    "720*1280",
    "1280*720",
    "1344*576",
)
_WAN_25 = Model(  # contract 3.4
    name="wan2.5-i2i-preview",
    says="Edits or combines one to three images.",
    calls={Mode.ASYNC: _SYNTHESIS},
    body=Body.FLAT_2_5,
    results=Results.RESULTS,
    regions=_BOTH,
    images=Images(_counts(1, 3), _PHOTO, 10 * MIB, sides=(384, 5000), ratio=4.0, alpha=False),
    prompt_chars=2000,
    negative_prompt_chars=500,
    quota=Quota(5, 1.0, 5),
    polling=Polling(first=10, interval=10),
    output="PNG of about 1280*1280 with the last image's ratio, or of `size`.",
    takes="one to two minutes",
    parameters=(
        Parameter(
            "size",
            Size(area=(_AREA_768, 1280 * 1280), ratio=4.0),
            "Size of the result; else about 1280*1280 with the last image's ratio.",
            examples=_WAN_SIZES,
        ),
        Parameter("n", Integer(1, 4), _COUNT, default=4, sent=1, counts=ALWAYS),
        _PROMPT_EXTEND,
        _WATERMARK,
        replace(_SEED, says=_SEED.says + " With n above 1 the images use seed, seed+1, …."),
    ),
    readings=(
        Reading(2, _N_IS_SENT.format("4")),
        Reading(9, "negative_prompt stands at the top of the sidecar; it goes into input."),
        Reading(16, "The rewritten prompt may be missing though rewriting was on."),
        Reading(17, "It takes minutes rather than seconds."),
        Reading(18, "The ratio of inputs is held to 1:4–4:1, as one of two pages says."),
        _NO_ALPHA,
        _TRUNCATES,
        Reading(26, "seed is a whole number, though one sample sends text."),
    ),
)

_INTERLEAVE: Final = When("enable_interleave")
_NO_INTERLEAVE: Final = When("enable_interleave", on=False)
_TIERS_26: Final[Mapping[str, int]] = {"1K": 1280, "2K": 2048}
_WAN_26 = Model(  # contract 3.5
    name="wan2.6-image",
    says="Edits or combines up to four images; or writes text with images.",
    calls={Mode.ASYNC: _GENERATION, Mode.SYNC: _MULTIMODAL},
    body=Body.MESSAGES,
    results=Results.CHOICES,
    regions=(*_BOTH, "virginia", "frankfurt"),
    images=Images(
        (Count(_INTERLEAVE, 0, 1), Count(ALWAYS, 1, 4)),
        _PHOTO,
        10 * MIB,
        sides=(240, 8000),
        alpha=False,
    ),
    prompt_chars=2000,
    negative_prompt_chars=500,
    quota=Quota(5, 1.0, 5),
    polling=Polling(first=10, interval=10),
    exact_count=_NO_INTERLEAVE,
    streams=_INTERLEAVE,
    output="PNG. A tier keeps the last image's ratio; sides are multiples of 16.",
    takes="about 20 s; text with images two to four minutes",
    parameters=(
        Parameter(
            "enable_interleave",
            Flag(),
            "Text with images in reading order, in place of an edit.",
            default=False,
        ),
        Parameter(
            "size",
            Size(tiers=_TIERS_26, area=(_AREA_768, 2048 * 2048), ratio=4.0),
            "Size of the result; 1K is about 1280*1280, 2K about 2048*2048. With enable_interleave, "
            "where it is absent: the input's own size up to an area of 1280*1280, else scaled to that.",
            variants=(
                Variant(
                    _INTERLEAVE,
                    Size(known=_TIERS_26, area=(_AREA_768, 1280 * 1280), ratio=4.0),
                ),
            ),
            default="1K",
            examples=("1K", "2K", *_WAN_SIZES),
        ),
        Parameter(
            "n",
            Integer(1, 4),
            _COUNT + " Always 1 with enable_interleave.",
            variants=(Variant(_INTERLEAVE, Integer(1, 1), default=1),),
            default=4,
            sent=1,
            counts=_NO_INTERLEAVE,
        ),
        Parameter(
            "max_images",
            Integer(1, 5),
            "The most images between the texts; each that is made is billed.",
            effective=_INTERLEAVE,
            default=5,
            sent=5,
            counts=_INTERLEAVE,
        ),
        replace(_PROMPT_EXTEND, effective=_NO_INTERLEAVE),
        _WATERMARK,
        _SEED,
    ),
    readings=(
        Reading(2, _N_IS_SENT.format("4") + " max_images is sent too: 5, the documented default."),
        Reading(3, "1K means about 1280*1280 with this model."),
        Reading(4, "Samples show smaller results than a tier promises, so no size is relied on."),
        Reading(5, "Sides are rounded to multiples of 16."),
        Reading(9, "negative_prompt stands at the top of the sidecar; it goes into parameters."),
        Reading(11, "Several images come as several choices, or as one; both are read."),
        Reading(14, "The end of a stream is told by finish_reason, never by `finished`."),
        Reading(15, "A streamed call sends both the header and parameters.stream."),
        _NO_ALPHA,
        _TRUNCATES,
        Reading(34, "Virginia and Frankfurt have it too, Frankfurt asynchronously only."),
    ),
)

_SEQUENTIAL: Final = When("enable_sequential")
_NOT_SEQUENTIAL: Final = When("enable_sequential", on=False)
_TEXT_ONLY: Final = When("enable_sequential", on=False, images=False)
_TIERS_27: Final[Mapping[str, int]] = {"1K": 1024, "2K": 2048}
_SIZE_27: Final = Size(tiers=_TIERS_27, area=(_AREA_768, 2048 * 2048), ratio=8.0)
_WAN_27 = Model(  # contract 3.6
    name="wan2.7-image",
    says="Makes, edits or combines up to nine images; consistent sets of images. The faster one.",
    calls={Mode.ASYNC: _GENERATION, Mode.SYNC: _MULTIMODAL},
    body=Body.MESSAGES,
    results=Results.CHOICES,
    regions=_BOTH,
    images=Images(_counts(0, 9), _PHOTO, 20 * MIB, sides=(240, 8000), ratio=8.0, alpha=False),
    prompt_chars=5000,
    quota=Quota(5, 1.0, 5),
    polling=Polling(first=5, interval=5),
    exact_count=_NOT_SEQUENTIAL,
    output="PNG. A tier keeps the last image's ratio, and is square without images.",
    takes="10–25 s",
    parameters=(
        Parameter(
            "size",
            _SIZE_27,
            "Size of the result; 1K is about 1024*1024, 2K about 2048*2048.",
            default="2K",
        ),
        Parameter(
            "n",
            Integer(1, 4),
            _COUNT + " With enable_sequential the most to make.",
            variants=(Variant(_SEQUENTIAL, Integer(1, 12), default=12),),
            default=1,
            sent=1,
            counts=ALWAYS,
        ),
        Parameter("enable_sequential", Flag(), "Makes a consistent set.", default=False, wants="n"),
        Parameter(
            "thinking_mode",
            Flag(),
            "Slower and better, for text to image.",
            effective=_TEXT_ONLY,
            default=True,
        ),
        Parameter(
            "color_palette",
            Palette(),
            "Colours to work with; eight are advised.",
            only=_NOT_SEQUENTIAL,
        ),
        Parameter(
            "bbox_list",
            Boxes(),
            "Where to work: for each image a list of boxes, in pixels of the original.",
            only=When(images=True),
        ),
        _WATERMARK,
        _SEED,
    ),
    readings=(
        Reading(1, _N_IS_SENT.format("1 on one page and 4 on others")),
        Reading(2, "With enable_sequential the provider's default of n is 12; here it is 1."),
        Reading(3, "1K means about 1024*1024 with this model."),
        Reading(4, "A sample shows a smaller result than its tier promises; no size is relied on."),
        Reading(5, "Sides need not be multiples of 16."),
        Reading(6, "thinking_mode is true or false; beside images or in a set it has no effect."),
        Reading(7, "color_palette is a list of objects."),
        Reading(8, "It has no negative prompt, though one guide lists it."),
        Reading(10, "A prompt is required."),
        Reading(11, "Several images come as several choices, or as one; both are read."),
        _NO_ALPHA,
        Reading(20, "20 MB by URL or upload; inside a request no more than 7 MB."),
        _TRUNCATES,
    ),
)
_WAN_27_PRO = replace(
    _WAN_27,
    name="wan2.7-image-pro",
    says="As wan2.7-image, better and dearer; 4K for text to image.",
    parameters=tuple(
        replace(
            parameter,
            says="Size of the result; 1K is about 1024*1024, 2K about 2048*2048. "
            "Text to image also 4K, about 4096*4096.",
            variants=(
                Variant(
                    _TEXT_ONLY,
                    Size(tiers={**_TIERS_27, "4K": 4096}, area=(_AREA_768, 4096 * 4096), ratio=8.0),
                    default="2K",
                ),
            ),
        )
        if parameter.name == "size"
        else parameter
        for parameter in _WAN_27.parameters
    ),
)


READINGS: Final = (
    Reading(12, "The kind of a piece of content is told by what it holds, not by its `type`."),
    Reading(13, "A task's error is looked for in `output` first, then on top."),
    Reading(
        24, '"HTTP supports asynchronous calls only" is taken for a slip where both are described.'
    ),
    Reading(28, "Whether a cancel took effect is asked for; its answer does not say."),
    Reading(29, "The task list's rows stand in `data`."),
    Reading(30, "CANCELED ends a task, though one page leaves it out."),
    Reading(31, "UNKNOWN ends a task, once it is a minute old."),
    Reading(32, "Results and tasks are gone after 24 hours, for every model."),
    Reading(33, "Results come from the documented hosts, and from those that are configured."),
    Reading(35, "A call with the wrong asynchronous header is never made, so its 429 never comes."),
    Reading(36, "Beyond the quota of running tasks one more is sent; where that is refused, none."),
    Reading(37, "A refusal at the call and a failure of the task are read alike."),
    Reading(38, "Counts of a task's images are used where they are there."),
    Reading(40, "Prices are configuration."),
    Reading(41, "Token counts are kept as they come and never used."),
    Reading(42, "Times without a zone are UTC+8, in every region."),
)
"""The readings that hold for all models."""


def snapshot(model: Model, name: str) -> Model:
    """A dated snapshot of a model: the same rules, a quota of its own, under its own name."""
    says = f"A dated snapshot of {model.name}."
    return replace(model, name=name, says=says, notes=(), snapshot_of=model.name)


MODELS: Final[Mapping[str, Model]] = {
    m.name: m
    for m in (
        _WANX_21,
        _QWEN_BASE,
        _QWEN_PLUS,
        snapshot(_QWEN_PLUS, "qwen-image-edit-plus-2025-10-30"),
        snapshot(_QWEN_PLUS, "qwen-image-edit-plus-2025-12-15"),
        _QWEN_MAX,
        snapshot(_QWEN_MAX, "qwen-image-edit-max-2026-01-16"),
        _WAN_25,
        _WAN_26,
        _WAN_27,
        _WAN_27_PRO,
    )
}

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
QUERIES_PER_SECOND: Final = 12
"""Status queries of one account: those on their way may bunch, and no more than 15 are to arrive in any
second, below the provider's limit of 20 (contract 2.7)."""
TASK_DEADLINE_SECONDS: Final = 3 * 3600 + 600
"""A task without a result by then is given up (contract 2.4)."""
UNKNOWN_GRACE_SECONDS: Final = 60
"""UNKNOWN of a task younger than this means ask again (contract 2.2)."""
