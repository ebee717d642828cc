"""Turns a request body into an `Order`, or refuses it as the provider would.

The rules are data in `rules.py`; this module only knows how to apply each kind of rule. Images are
named here, not fetched: `images.py` does that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite, sqrt
from typing import Any

from retouch.simulator.errors import ProviderError, field_required, invalid
from retouch.simulator.rules import (
    Boxes,
    Flag,
    Mode,
    Model,
    Number,
    Palette,
    Parameter,
    Size,
    Text,
    Whole,
)

JsonObject = Mapping[str, Any]

_SIZE = re.compile(r"([1-9]\d{0,4})\*([1-9]\d{0,4})")
_HEX = re.compile(r"#[0-9A-Fa-f]{6}")
_RATIO = re.compile(r"\d{1,3}\.\d{2}%")


@dataclass(frozen=True)
class Order:
    """A request that passed every rule that needs no image: what to make, from what."""

    model: str
    rules: Model
    mode: Mode
    mode_name: str
    prompt: str
    negative_prompt: str | None
    images: tuple[str, ...]
    mask: str | None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many images are to be made."""
        return int(self.parameters[self.mode.count_parameter])


@dataclass(frozen=True)
class _Input:
    prompt: str
    images: tuple[str, ...]
    mask: str | None = None
    negative_prompt: str | None = None


def read_order(name: str, rules: Model, body: JsonObject) -> Order:
    """Check `body` against the rules of the model called `name`.

    Raises:
        ProviderError: The refusal, naming the field and what is allowed.
    """
    _only(body, {"model", "input", "parameters"}, "")
    given_input = body.get("input")
    if given_input is None:
        raise ProviderError(400, "BadRequest.EmptyInput", "Required input missing.")
    given_parameters = body.get("parameters")
    if given_parameters is None:
        given_parameters = {}
    if not isinstance(given_input, dict):
        raise invalid("Required parameter(input) missing or invalid")
    if not isinstance(given_parameters, dict):
        raise invalid("Required parameter(parameters) missing or invalid")
    # The official client sends null for every keyword that is None.
    given_parameters = {k: v for k, v in given_parameters.items() if v is not None}
    mode_value, mode = _mode(rules, given_input, given_parameters)
    content = _INPUT_READERS[rules.body](rules, mode, given_input)
    mode_name = str(mode_value) if rules.body == "function" else mode.edit
    parameters = _parameters(rules, mode, mode_name, given_parameters, len(content.images))
    negative = parameters.pop("negative_prompt", None) or content.negative_prompt
    return Order(
        model=name,
        rules=rules,
        mode=mode,
        mode_name=mode_name,
        prompt=content.prompt[: rules.prompt_chars],
        negative_prompt=negative,
        images=content.images,
        mask=content.mask,
        parameters=parameters,
    )


def output_size(
    rule: Size, asked: str | None, last_image: tuple[int, int] | None
) -> tuple[int, int]:
    """Width and height to draw for the `size` asked, given the last input image's sides."""
    if last_image is None and rule.text_to_image is not None:
        rule = rule.text_to_image
    exact = _SIZE.fullmatch(asked) if asked is not None else None
    if exact is not None:
        width, height = float(exact[1]), float(exact[2])
    else:
        area = rule.default_area if asked is None else rule.tiers[asked]
        width, height = last_image or (1, 1)
        if not (asked is None and rule.keep_smaller_input and 1 < width * height <= area):
            ratio = min(max(width / height, 1 / 8), 8.0)
            width, height = sqrt(area * ratio), sqrt(area / ratio)
    return _rounded(width, rule.multiple), _rounded(height, rule.multiple)


def _rounded(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)


def _only(given: JsonObject, known: set[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise invalid(f"Unknown field: {where}{name}. Allowed: {', '.join(sorted(known))}")


def _mode(rules: Model, given: JsonObject, parameters: JsonObject) -> tuple[str | bool, Mode]:
    if rules.switch is None:
        return "", rules.modes[""]
    place, name = rules.switch
    value = (given if place == "input" else parameters).get(name, rules.default_mode)
    if value is None:
        raise field_required(f"{place}.{name}")
    kind = bool if isinstance(rules.default_mode, bool) else str
    if not isinstance(value, kind) or value not in rules.modes:
        allowed = ", ".join(str(mode) for mode in rules.modes)
        raise invalid(f"Required parameter({name}) missing or invalid. Allowed: {allowed}")
    return value, rules.modes[value]


# --- input, one reader for each body protocol --------------------------------------------------


def _string(given: JsonObject, name: str, where: str) -> str:
    value = given.get(name)
    if value is None:
        raise field_required(f"{where}{name}")
    if not isinstance(value, str):
        raise invalid(f"{where}{name} must be a string")
    if not value:
        raise field_required(f"{where}{name}")
    return value


def _function_input(rules: Model, mode: Mode, given: JsonObject) -> _Input:
    _only(given, {"function", "prompt", "base_image_url", "mask_image_url"}, "input.")
    prompt = _string(given, "prompt", "input.")
    image = _string(given, "base_image_url", "input.")
    mask = None
    if mode.mask:
        mask = _string(given, "mask_image_url", "input.")
    elif given.get("mask_image_url") is not None:
        raise invalid(f"input.mask_image_url is not supported by function {given['function']}")
    return _Input(prompt, (image,), mask)


def _images_input(rules: Model, mode: Mode, given: JsonObject) -> _Input:
    _only(given, {"prompt", "images", "negative_prompt"}, "input.")
    prompt = _string(given, "prompt", "input.")
    images = given.get("images")
    if images is None:
        raise field_required("input.images")
    low, high = mode.images
    if not isinstance(images, list) or not low <= len(images) <= high:
        raise invalid(f"input.images must be an array of {low} to {high} strings")
    if not all(isinstance(image, str) and image for image in images):
        raise invalid("input.images must hold non-empty strings")
    negative = None
    if rules.negative_prompt_in_input is not None and given.get("negative_prompt") is not None:
        negative = _checked_text(
            "input.negative_prompt", rules.negative_prompt_in_input, given["negative_prompt"]
        )
    return _Input(prompt, tuple(images), negative_prompt=negative)


def _messages_input(rules: Model, mode: Mode, given: JsonObject) -> _Input:
    _only(given, {"messages"}, "input.")
    messages = given.get("messages")
    if not messages:
        raise invalid("No messages found in input")
    if not isinstance(messages, list) or len(messages) != 1:
        raise invalid("messages length only supports 1")
    message = messages[0]
    if not isinstance(message, dict):
        raise invalid("input.messages[0] must be an object")
    _only(message, {"role", "content"}, "input.messages[0].")
    if message.get("role") != "user":
        raise invalid("input.messages[0].role must be user")
    content = message.get("content")
    if not isinstance(content, list):
        raise invalid("input.messages[0].content must be an array")
    texts: list[str] = []
    images: list[str] = []
    for position, item in enumerate(content):
        where = f"input.messages[0].content[{position}]"
        if not isinstance(item, dict):
            raise invalid(f"{where} must be an object")
        _only(item, {"text", "image"}, f"{where}.")
        if len(item) != 1:
            raise invalid(f"{where} must hold either image or text")
        ((kind, value),) = item.items()
        if not isinstance(value, str) or not value:
            raise invalid(f"{where}.{kind} must be a non-empty string")
        (texts if kind == "text" else images).append(value)
    low, high = mode.images
    if not texts or (low > 0 and not images):
        raise invalid("lack of image or text")
    if len(texts) > 1:
        raise invalid("input.messages[0].content must hold exactly one text")
    if not low <= len(images) <= high:
        raise invalid(
            f"input.messages[0].content must hold {low} to {high} images, not {len(images)}"
        )
    return _Input(texts[0], tuple(images))


_INPUT_READERS: Mapping[str, Callable[[Model, Mode, JsonObject], _Input]] = {
    "function": _function_input,
    "images": _images_input,
    "messages": _messages_input,
}


# --- parameters, one check for each kind -------------------------------------------------------


def _parameters(
    rules: Model, mode: Mode, mode_name: str, given: JsonObject, image_count: int
) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name in rules.tolerated:
            continue
        parameter = mode.parameters.get(name)
        if parameter is None:
            allowed = ", ".join(sorted(mode.parameters))
            raise invalid(
                f"Parameter {name} is not supported by {mode_name or 'this model'}. "
                f"Allowed: {allowed}"
            )
        checked[name] = _checked(name, parameter, value, image_count)
    defaults = {
        name: parameter.default
        for name, parameter in mode.parameters.items()
        if isinstance(parameter, Whole | Number | Flag) and parameter.default is not None
    }
    return defaults | checked


def _checked(name: str, parameter: Parameter, value: object, image_count: int) -> Any:
    match parameter:
        case Whole():
            return _checked_whole(name, parameter, value)
        case Number():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise invalid(f"{name} must be a number")
            if not isfinite(value) or not parameter.low <= value <= parameter.high:
                raise invalid(f"{name} must be between {parameter.low} and {parameter.high}")
            return float(value)
        case Flag():
            if not isinstance(value, bool):
                raise invalid(f"{name} must be a boolean")
            return value
        case Text():
            return _checked_text(name, parameter, value)
        case Size():
            return _checked_size(name, parameter, value, image_count)
        case Palette():
            return _checked_palette(name, parameter, value)
        case Boxes():
            return _checked_boxes(name, parameter, value, image_count)


def _checked_whole(name: str, parameter: Whole, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(f"{name} must be an integer")
    if not parameter.low <= value <= parameter.high:
        if name == "n" and parameter.low == parameter.high == 1:
            raise invalid("num_images_per_prompt must be 1")
        raise invalid(f"{name} must be between {parameter.low} and {parameter.high}")
    return value


def _checked_text(name: str, parameter: Text, value: object) -> str:
    if not isinstance(value, str):
        raise invalid(f"{name} must be a string")
    return value[: parameter.max_chars]


def _checked_size(name: str, rule: Size, value: object, image_count: int) -> str:
    if image_count == 0 and rule.text_to_image is not None:
        rule = rule.text_to_image
    if not isinstance(value, str):
        raise invalid(f"{name} must be a string")
    if value in rule.tiers:
        return value
    exact = _SIZE.fullmatch(value)
    if exact is None:
        tiers = f"{', '.join(rule.tiers)}, or " if rule.tiers else ""
        raise invalid(f"{name} must be {tiers}W*H")
    width, height = int(exact[1]), int(exact[2])
    if rule.sides is not None and not all(
        rule.sides[0] <= side <= rule.sides[1] for side in (width, height)
    ):
        raise invalid(f"{name}: each side must be between {rule.sides[0]} and {rule.sides[1]}")
    if rule.area is not None and not rule.area[0] <= width * height <= rule.area[1]:
        raise invalid(f"{name}: width * height must be between {rule.area[0]} and {rule.area[1]}")
    if rule.ratio is not None and not rule.ratio[0] <= width / height <= rule.ratio[1]:
        raise invalid(f"{name}: width / height must be between {rule.ratio[0]} and {rule.ratio[1]}")
    return value


def _checked_palette(name: str, rule: Palette, value: object) -> list[tuple[str, float]]:
    if not isinstance(value, list) or not rule.low <= len(value) <= rule.high:
        raise invalid(f"{name} must be an array of {rule.low} to {rule.high} colours")
    colours: list[tuple[str, Decimal]] = []
    for position, item in enumerate(value):
        if not isinstance(item, dict) or set(item) != {"hex", "ratio"}:
            raise invalid(f"{name}[{position}] must hold hex and ratio")
        colour, ratio = item["hex"], item["ratio"]
        if not isinstance(colour, str) or _HEX.fullmatch(colour) is None:
            raise invalid(f"{name}[{position}].hex must look like #RRGGBB")
        if not isinstance(ratio, str) or _RATIO.fullmatch(ratio) is None:
            raise invalid(f"{name}[{position}].ratio must look like 25.00%")
        colours.append((colour, Decimal(ratio[:-1])))
    if sum((ratio for _, ratio in colours), Decimal(0)) != 100:
        raise invalid(f"{name}: the ratios must sum to 100.00%")
    return [(colour, float(ratio)) for colour, ratio in colours]


def _checked_boxes(
    name: str, rule: Boxes, value: object, image_count: int
) -> list[list[tuple[int, int, int, int]]]:
    if not isinstance(value, list) or len(value) != image_count:
        raise invalid(f"{name} must hold one list for each of the {image_count} images")
    checked: list[list[tuple[int, int, int, int]]] = []
    for position, boxes in enumerate(value):
        where = f"{name}[{position}]"
        if not isinstance(boxes, list) or len(boxes) > rule.per_image:
            raise invalid(f"{where} must be an array of at most {rule.per_image} boxes")
        checked.append([_checked_box(f"{where}[{i}]", box) for i, box in enumerate(boxes)])
    return checked


def _checked_box(where: str, box: object) -> tuple[int, int, int, int]:
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(edge, int) and not isinstance(edge, bool) for edge in box)
    ):
        raise invalid(f"{where} must be four integers")
    x1, y1, x2, y2 = box
    if not (0 <= x1 < x2 and 0 <= y1 < y2):
        raise invalid(f"{where} must be [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
    return x1, y1, x2, y2
