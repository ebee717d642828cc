"""A table of sidecars made from the registry: every model at both ends of each rule and outside.

Walks the registry and says of each sidecar what `sidecar.check` must find in it. That alone would only
hold the check against the registry, so `test_models_table.py` holds the same cases against rows written
by hand from the contract, and against the simulator, which was written apart from both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import ceil, isqrt
from typing import Final

from retouch.registry import (
    MODELS,
    REGIONS,
    Boxes,
    Flag,
    Function,
    Integer,
    Json,
    Kind,
    Mode,
    Model,
    Number,
    Palette,
    Parameter,
    Size,
)
from retouch.sidecar import Order, check

PROMPT: Final = "a red door"
_TIERS: Final = ("1K", "2K", "3K", "4K")
_NEVER: Final[Mapping[str, Json]] = {"stream": True, "is_async": True, "N": 1, "": 1}
"""Names that are a parameter of no model's sidecar."""
ADVICE: Final = "parameters.enable_sequential"
"""Warned of where a set is asked for without n: retouch's own advice, of which no contract speaks. So
neither the generated cases nor the rows by hand know of it, and it is tested by itself."""
_NEAREST: Final = re.compile(r"; nearest (.+?)(?=; |$)")


@dataclass(frozen=True)
class Case:
    """A sidecar and what must be found in it: the fields that are refused, or else warned of."""

    model: str
    says: str
    sidecar: Mapping[str, Json]
    refused: frozenset[str] = frozenset()
    warned: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.model}, {self.says}: {key_of(self.sidecar)[:300]}"


@dataclass(frozen=True)
class Verdict:
    """What the check finds: the paths that are refused with their messages, or else warned of."""

    refused: Mapping[str, str]
    """By path, which may lead into a parameter's value: `parameters.bbox_list[0][1]`."""
    warned: frozenset[str]
    order: Order | None

    @property
    def fields(self) -> frozenset[str]:
        """What is refused, by field."""
        return frozenset(map(field_of, self.refused))

    @property
    def warned_by_contract(self) -> frozenset[str]:
        """What is warned of but for our own advice."""
        return self.warned - {ADVICE}

    @property
    def nearest(self) -> dict[str, Json]:
        """The values that are said to be the nearest, by path."""
        found = {path: nearest_in(message) for path, message in self.refused.items()}
        return {path: json.loads(value) for path, value in found.items() if value is not None}


def field_of(path: str) -> str:
    """A refused path without what leads into a parameter's value; `images[1]` stays as it is."""
    return path.partition("[")[0] if path.startswith("parameters.") else path


def nearest_in(message: str) -> str | None:
    """The nearest value that a message names, as JSON; where else a value is right may follow."""
    match = _NEAREST.search(message)
    return None if match is None else match[1]


def judged(raw: Mapping[str, Json]) -> Verdict:
    """The check's verdict on a sidecar, by field."""
    found = check(raw)
    if isinstance(found, Order):
        return Verdict({}, frozenset(w.field for w in found.warnings), found)
    return Verdict({p.field: p.message for p in found}, frozenset(), None)


def key_of(raw: Mapping[str, Json]) -> str:
    """A sidecar in one spelling: nothing that is null or empty at the top, fields in order."""
    return json.dumps(
        {name: value for name, value in raw.items() if value is not None and value != {}},
        sort_keys=True,
        ensure_ascii=False,
    )


# --- the ways of using a model ---------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One way of using a model: a function, what its switches are set to, how many images."""

    model: Model
    images: int
    function: Function | None = None
    switches: Mapping[str, Json] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [self.function.name] if self.function else []
        parts += [f"{name} {json.dumps(value)}" for name, value in self.switches.items()]
        return " ".join([*parts, f"{self.images} images"])

    @property
    def having(self) -> tuple[Parameter, ...]:
        """The parameters that there are here."""
        return self.model.having(self.function.name if self.function else None)

    def sidecar(
        self, parameters: Mapping[str, Json] | None = None, images: int | None = None, **top: Json
    ) -> dict[str, Json]:
        """A sidecar that is right but for what is given."""
        raw: dict[str, Json] = {
            "model": self.model.name,
            "prompt": PROMPT,
            "images": names(self.images if images is None else images),
            "parameters": {**self.switches, **(parameters or {})},
        }
        if self.function is not None:
            raw["function"] = self.function.name
            if self.function.mask:
                raw["mask"] = "mask.png"
        return raw | top

    def case(
        self,
        says: str,
        raw: Mapping[str, Json],
        *refused: str,
        warned: frozenset[str] = frozenset(),
    ) -> Case:
        """A case of this setting."""
        return Case(self.model.name, f"{self}: {says}", raw, frozenset(refused), warned)


def names(count: int) -> list[Json]:
    """Names of so many images."""
    return [f"a{number}.png" for number in range(1, count + 1)]


def switches_of(model: Model) -> list[str]:
    """The boolean parameters on which other rules of the model hang."""
    conditions = [count.when for count in model.images.counts]
    conditions += [model.exact_count, *([model.streams] if model.streams else [])]
    for parameter in model.parameters:
        conditions += [variant.when for variant in parameter.variants]
        conditions += [when for when in (parameter.only, parameter.effective) if when is not None]
    return sorted({when.switch for when in conditions if when.switch is not None})


def settings_of(model: Model) -> Iterator[Setting]:
    """All ways of using a model, with and without images where both are possible."""
    states: list[dict[str, Json]] = [{}]
    states += [{name: value} for name in switches_of(model) for value in (False, True)]
    for function in model.functions or (None,):
        for switches in states:
            least = model.images.count_for(switches).least
            for images in sorted({least, max(least, 1)}):
                yield Setting(model, images, function, switches)


# --- values of each kind of parameter --------------------------------------------------------------


def _integers(kind: Integer) -> Iterator[tuple[str, Json, bool]]:
    yield "the low end", kind.low, True
    if kind.low < kind.high:
        yield "the high end", kind.high, True
    yield "just below", kind.low - 1, False
    yield "just above", kind.high + 1, False
    yield "far above", 10**30, False
    yield "a fraction", kind.low + 0.5, False
    yield "a whole number as a fraction", float(kind.low), False
    yield "true", True, False
    yield "a text", str(kind.low), False
    yield "null", None, False
    yield "a list", [kind.low], False


def _numbers(kind: Number) -> Iterator[tuple[str, Json, bool]]:
    yield "the low end", kind.low, True
    yield "the high end", kind.high, True
    yield "the low end as a whole number", int(kind.low), True
    yield "the high end as a whole number", int(kind.high), True
    yield "between", (kind.low + kind.high) / 2, True
    yield "just below", round(kind.low - 0.01, 2), False
    yield "just above", round(kind.high + 0.01, 2), False
    yield "far below", -(10**30), False
    yield "true", True, False
    yield "a text", str(kind.low), False
    yield "null", None, False
    yield "a list", [kind.low], False


def _flags() -> Iterator[tuple[str, Json, bool]]:
    yield "true", True, True
    yield "false", False, True
    yield "one", 1, False
    yield "zero", 0, False
    yield "a text", "true", False
    yield "null", None, False
    yield "a list", [], False


def _sizes(kind: Size) -> Iterator[tuple[str, Json, bool]]:
    for tier in _TIERS:
        yield f"tier {tier}", tier, tier in kind.tiers
    if kind.sides is not None:
        low, high = kind.sides
        for width, height in ((low, low), (high, high), (low, high), (high, low)):
            yield "sides at their ends", f"{width}*{height}", True
        for width, height in ((low - 1, low), (low, low - 1), (high + 1, high), (high, high + 1)):
            yield "a side outside", f"{width}*{height}", False
    if kind.area is not None:
        least, most = (isqrt(area) for area in kind.area)  # squares, in all pages
        assert (least * least, most * most) == kind.area
        yield "the least area", f"{least}*{least}", True
        yield "the greatest area", f"{most}*{most}", True
        yield "one pixel less than the least area", f"{least - 1}*{least + 1}", False
        yield "one pixel less than the greatest area", f"{most - 1}*{most + 1}", True
        yield "just more than the greatest area", f"{most + 1}*{most}", False
        if kind.ratio is not None:
            times = int(kind.ratio)
            narrow = ceil((kind.area[0] / times) ** 0.5)
            wide = int((kind.area[1] / times) ** 0.5)
            for short in (narrow, wide):
                yield "as wide as can be", f"{times * short}*{short}", True
                yield "as tall as can be", f"{short}*{times * short}", True
            yield "wider than that", f"{times * narrow + 1}*{narrow}", False
            yield "taller than that", f"{narrow}*{times * narrow + 1}", False
    yield "an x", "1024x1024", False
    yield "a tier in small letters", "2k", False
    yield "one side", "1024", False
    yield "three sides", "1024*1024*1", False
    yield "a zero in front", "01024*1024", False
    yield "a space", "1024*1024 ", False
    yield "an empty text", "", False
    yield "a number", 1024, False
    yield "true", True, False
    yield "null", None, False
    yield "a list", [1024, 1024], False


def _boxes(kind: Boxes, images: int) -> Iterator[tuple[str, Json, bool]]:
    def first(*boxes: Json) -> list[Json]:
        rest: list[Json] = [[] for _ in range(images - 1)]
        return [list(boxes), *rest]

    box: Json = [0, 0, 9, 9]
    yield "no box for an image", [[] for _ in range(images)], True
    yield "a box", first(box), True
    yield "the smallest box", first([0, 0, 1, 1]), True
    yield "as many boxes as can be", first(*[box] * kind.most), True
    yield "a box too many", first(*[box] * (kind.most + 1)), False
    yield "a list too many", [*first(), []], False
    yield "a list too few", first()[1:], False
    yield "corners the wrong way round", first([9, 9, 0, 0]), False
    yield "no width", first([5, 0, 5, 9]), False
    yield "no height", first([0, 5, 9, 5]), False
    yield "below zero", first([-1, 0, 9, 9]), False
    yield "three corners", first([0, 0, 9]), False
    yield "five corners", first([0, 0, 9, 9, 9]), False
    yield "a fraction", first([0, 0, 9.5, 9]), False
    yield "texts", first(["0", "0", "9", "9"]), False
    yield "flags", first([False, False, True, True]), False
    yield "a level too few", [box], False
    yield "a text", "0,0,9,9", False
    yield "null", None, False
    yield "an object", {"0": []}, False


def palette(*ratios: str) -> list[Json]:
    """A palette of as many colours as ratios."""
    return [{"hex": f"#{index:02X}80C0", "ratio": ratio} for index, ratio in enumerate(ratios)]


def _palettes() -> Iterator[tuple[str, Json, bool]]:
    yield "three colours", palette("33.34%", "33.33%", "33.33%"), True
    yield "ten colours", palette(*["10.00%"] * 10), True
    yield "two colours", palette("50.00%", "50.00%"), False
    yield "eleven colours", palette(*["9.00%"] * 10, "10.00%"), False
    yield "no colours", [], False
    yield "99.99 %", palette("33.33%", "33.33%", "33.33%"), False
    yield "100.01 %", palette("33.34%", "33.34%", "33.33%"), False
    yield "no decimals", palette("50%", "25%", "25%"), False
    yield "no percent sign", palette("50.00", "25.00%", "25.00%"), False
    two = palette("50.00%", "25.00%")
    yield "a number", [*two, {"hex": "#C2D1E6", "ratio": 25.0}], False
    yield "no hash", [*two, {"hex": "C2D1E6", "ratio": "25.00%"}], False
    yield "five digits", [*two, {"hex": "#C2D1E", "ratio": "25.00%"}], False
    yield "no ratio", [*palette("50.00%", "50.00%"), {"hex": "#C2D1E6"}], False
    yield "a field too many", [*two, {"hex": "#C2D1E6", "ratio": "25.00%", "name": "x"}], False
    yield "texts", ["#112233", "#445566", "#778899"], False
    yield "a text", "#112233", False
    yield "null", None, False
    yield "an object", {"hex": "#112233", "ratio": "100.00%"}, False


def values(kind: Kind, images: int) -> Iterator[tuple[str, Json, bool]]:
    """Values of a kind, each with its name and whether it is right; the first one is."""
    match kind:
        case Integer():
            return _integers(kind)
        case Number():
            return _numbers(kind)
        case Flag():
            return _flags()
        case Size():
            return _sizes(kind)
        case Boxes():
            return _boxes(kind, images)
        case Palette():
            return _palettes()


# --- the cases -------------------------------------------------------------------------------------


def _of_parameters(setting: Setting) -> Iterator[Case]:
    has_images = setting.images > 0
    switches = switches_of(setting.model)
    for parameter in setting.having:
        if parameter.name in switches and setting.switches:
            continue  # set already; its other values are settings of their own
        path = f"parameters.{parameter.name}"
        possible = parameter.only is None or parameter.only.holds(setting.switches, has_images)
        works = parameter.effective is None or parameter.effective.holds(
            setting.switches, has_images
        )
        kind = parameter.kind_for(setting.switches, has_images)
        for says, value, right in values(kind, setting.images):
            if parameter.name in switches and right:
                continue
            raw = setting.sidecar({parameter.name: value})
            if right and possible:
                warned = frozenset() if works else frozenset({path})
                yield setting.case(f"{parameter.name}, {says}", raw, warned=warned)
            else:
                yield setting.case(f"{parameter.name}, {says}", raw, path)


def _of_what_it_lacks(setting: Setting) -> Iterator[Case]:
    has = {parameter.name for parameter in setting.having}
    strangers = dict(_NEVER)
    for model in MODELS.values():
        for parameter in model.parameters:
            _, value, _ = next(values(parameter.kind, max(setting.images, 1)))
            strangers.setdefault(parameter.name, value)
    strangers["negative_prompt"] = "blurry"
    for name, value in strangers.items():
        if name not in has:
            raw = setting.sidecar({name: value})
            yield setting.case(f"{name}, which it lacks", raw, f"parameters.{name}")


def _of_images(setting: Setting) -> Iterator[Case]:
    count = setting.model.images.count_for(setting.switches)
    for images in sorted({count.least, count.most}):
        yield setting.case(f"{images} images", setting.sidecar(images=images))
    outside = [count.most + 1, *([count.least - 1] if count.least > 0 else [])]
    for images in outside:
        yield setting.case(f"{images} images", setting.sidecar(images=images), "images")


def _of_texts(setting: Setting) -> Iterator[Case]:
    most = setting.model.prompt_chars
    for char in "x红":
        yield setting.case(f"a prompt of {most} {char}", setting.sidecar(prompt=char * most))
        longer = setting.sidecar(prompt=char * (most + 1))
        yield setting.case(f"a prompt of {most + 1} {char}", longer, "prompt")
    wrong: tuple[Json, ...] = ("", " \n", None, 7, ["a red door"])
    for prompt in wrong:
        raw = setting.sidecar(prompt=prompt)
        yield setting.case(f"the prompt {json.dumps(prompt)}", raw, "prompt")
    field_ = "negative_prompt"
    most_negative = setting.model.negative_prompt_chars
    if most_negative is None:
        yield setting.case(
            "a negative prompt, which it lacks", setting.sidecar(negative_prompt="blurry"), field_
        )
        return
    for char in "x红":
        text = char * most_negative
        yield setting.case(
            f"a negative prompt of {len(text)} {char}", setting.sidecar(negative_prompt=text)
        )
        yield setting.case(
            f"a negative prompt of {len(text) + 1} {char}",
            setting.sidecar(negative_prompt=text + char),
            field_,
        )
    yield setting.case("a negative prompt of 7", setting.sidecar(negative_prompt=7), field_)


def _of_functions(setting: Setting) -> Iterator[Case]:
    if setting.function is None:
        yield setting.case("a function", setting.sidecar(function="expand"), "function")
        yield setting.case("a mask", setting.sidecar(mask="mask.png"), "mask")
        return
    if setting.function.mask:
        yield setting.case("no mask", setting.sidecar(mask=None), "mask")
    else:
        yield setting.case("a mask", setting.sidecar(mask="mask.png"), "mask")
    if not setting.function.mask:  # else the mask, too, would be in question
        wrong: tuple[Json, ...] = (None, "", "remove_watermaker", setting.function.name.upper(), 7)
        for function in wrong:
            raw = setting.sidecar(function=function)
            yield setting.case(f"the function {json.dumps(function)}", raw, "function")


def _of_routes(setting: Setting) -> Iterator[Case]:
    model = setting.model
    regions: tuple[str | None, ...] = (None, *REGIONS)
    calls: tuple[Mode | None, ...] = (None, *Mode)
    for region in regions:
        for call in calls:
            raw = setting.sidecar(region=region, call=call)
            refused = []
            if call is not None and call not in model.calls:
                refused.append("call")
            if region is not None and region not in model.regions:
                refused.append("region")
            elif not refused and region and call and call not in model.calls_in(region):
                refused.append("call")
            yield setting.case(f"region {region}, call {call}", raw, *refused)
    nowhere: tuple[Json, ...] = ("hongkong", "Beijing", "", 1)
    for place in nowhere:
        raw = setting.sidecar(region=place)
        yield setting.case(f"region {json.dumps(place)}", raw, "region")
    nohow: tuple[Json, ...] = ("batch", "SYNC", "", True)
    for way in nohow:
        yield setting.case(f"call {json.dumps(way)}", setting.sidecar(call=way), "call")


def cases_of(model: Model) -> Iterator[Case]:
    """Every case of one model."""
    for setting in settings_of(model):
        yield setting.case("nothing else", setting.sidecar())
        yield from _of_parameters(setting)
        yield from _of_what_it_lacks(setting)
        yield from _of_images(setting)
        yield from _of_texts(setting)
        yield from _of_functions(setting)
        yield from _of_routes(setting)


@cache
def cases() -> Mapping[str, tuple[Case, ...]]:
    """By model, each sidecar once."""
    found: dict[str, tuple[Case, ...]] = {}
    for name, model in MODELS.items():
        once = {key_of(case.sidecar): case for case in cases_of(model)}
        found[name] = tuple(once.values())
    return found


def summary(by_hand: int) -> str:
    """The counts in a line."""
    made = {name: len(found) for name, found in cases().items()}
    each = ", ".join(f"{name} {count}" for name, count in made.items())
    return (
        f"table of models: {sum(made.values())} generated cases ({each}), "
        f"{by_hand} expectations by hand"
    )
