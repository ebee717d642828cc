"""Sidecars: from bytes to an order that the provider will accept, or to every problem at once.

`read` turns bytes into JSON and refuses what JSON libraries let pass (duplicate keys, NaN, absurd
depth). `check` holds the result against the registry. Both collect problems instead of raising, so
that the owner of a drop mends a file once. Neither touches an image; see `retouch.imaging`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn, cast
from urllib.parse import urlsplit

from retouch.registry import MODEL_LIST_DOC, MODELS, Function, Json, Model

MAX_BYTES: Final = 256 * 1024
"""A sidecar may be this large; the longest legal prompt in every escape is a tenth of it."""
MAX_DEPTH: Final = 32
PRIORITIES: Final = (0, 9)
DEFAULT_PRIORITY: Final = 5
_MOST_PROBLEMS: Final = 100
_HALF_PAIR: Final = "holds half of a surrogate pair, which is not a character"
SCHEMA_ID: Final = "https://json-schema.org/draft/2020-12/schema"

_FIELDS: Final = (
    "$schema",
    "model",
    "function",
    "prompt",
    "negative_prompt",
    "images",
    "mask",
    "parameters",
    "labels",
    "priority",
)


@dataclass(frozen=True)
class Problem:
    """One reason why a drop is refused, or a warning.

    `field` is the path inside the file (`parameters.n`, `images[1]`); empty for the file as a whole.
    """

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


@dataclass(frozen=True)
class Order:
    """A sidecar that passed: what to ask of the provider, with images still by name.

    `images` is None where the sidecar names none and means the image it is named after. `parameters`
    always holds `n`.
    """

    model: str
    function: str | None
    prompt: str
    negative_prompt: str | None
    images: tuple[str, ...] | None
    mask: str | None
    parameters: Mapping[str, Json]
    labels: Mapping[str, str]
    priority: int
    warnings: tuple[Problem, ...] = ()


@dataclass
class _Findings:
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def refuse(self, path: str, message: str) -> None:
        self.problems.append(Problem(_bounded(path, 120), _bounded(message, 1000)))

    def all(self) -> list[Problem]:
        """The problems, as many as anybody would read."""
        shown_, more = self.problems[:_MOST_PROBLEMS], len(self.problems) - _MOST_PROBLEMS
        return [*shown_, Problem("", f"and {more} more problems")] if more > 0 else shown_


def _bounded(text: str, most: int) -> str:
    """Text that can be written as UTF-8, cut to `most` characters."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return cut.encode("utf-8", "replace").decode("utf-8")


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: JSON may hold half of a surrogate pair."""
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in value)


def shown(value: Json, most: int = 60) -> str:
    """`value` as JSON, cut to `most` characters, for a message."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except ValueError:  # an integer too long to be written out
        text = "that number"
    return _bounded(text, most)


class _Refused(ValueError):
    pass


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise _Refused(f"the field {shown(key)} stands twice in one object; keep one of them")
        found[key] = value
    return found


def _depth(text: str) -> int:
    """The deepest nesting of brackets outside strings, without recursion."""
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def read(data: bytes) -> dict[str, Json] | Problem:
    """The JSON object in `data`, or why there is none."""
    if len(data) > MAX_BYTES:
        return Problem("", f"a sidecar has at most {MAX_BYTES} bytes, this one has {len(data)}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Problem(
            "",
            f"not UTF-8 text: byte 0x{data[error.start]:02x} at position {error.start}; "
            "save the file as UTF-8",
        )
    if (depth := _depth(text)) > MAX_DEPTH:
        return Problem("", f"nested {depth} levels deep; at most {MAX_DEPTH} are allowed")
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        return Problem("", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    except ValueError as error:  # _Refused, and integers too long to convert
        return Problem("", f"not usable JSON: {error}")
    if not isinstance(value, dict):
        return Problem("", f"a sidecar is a JSON object {{…}}; this file holds {shown(value, 30)}")
    return cast("dict[str, Json]", value)


def _closest(word: str, choices: Iterable[str]) -> str:
    found = difflib.get_close_matches(word[:100], list(choices), n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else ""


def _text(raw: Mapping[str, Json], name: str, limit: int | None, findings: _Findings) -> str | None:
    value = raw.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        findings.refuse(name, f"{shown(value)} is not allowed; a text in quotes is")
        return None
    if not _is_text(value):
        findings.refuse(name, _HALF_PAIR)
        return None
    if limit is not None and len(value) > limit:
        findings.refuse(
            name,
            f"{len(value)} characters; at most {limit} are allowed (the provider would cut the "
            "rest off silently)",
        )
    return value


def _check_images(
    raw: Mapping[str, Json], model: Model | None, findings: _Findings
) -> tuple[str, ...] | None:
    value = raw.get("images")
    if value is None:
        return None
    if not isinstance(value, list):
        findings.refuse("images", f'{shown(value)} is not allowed; a list of names is: ["a.jpg"]')
        return None
    names: list[str] = []
    for index, name in enumerate(value):
        path = f"images[{index}]"
        if not isinstance(name, str) or not name.strip():
            findings.refuse(path, f"{shown(name)} is not allowed; the name of an image is")
            continue
        if (reason := unusable_name(name)) is not None:
            findings.refuse(path, f"{shown(name)} {reason}")
            continue
        if not _url_will_do(name, model):
            findings.refuse(path, f"{shown(name)} {_NOT_ASCII}")
            continue
        names.append(name)
    if model is not None and not model.images.least <= len(value) <= model.images.most:
        findings.refuse("images", _count_message(model, len(value)))
    return tuple(names)


def _count_message(model: Model, count: int) -> str:
    least, most = model.images.least, model.images.most
    span = f"exactly {least}" if least == most else f"{least}–{most}"
    return f"{count} given; {model.name} takes {span}"


def unusable_name(name: str) -> str | None:
    """Why `name` cannot name an image in a sidecar, or None if it can."""
    if not _is_text(name):
        return _HALF_PAIR
    if "://" in name:
        try:
            public = is_url(name) and bool(urlsplit(name).hostname)
        except ValueError:
            public = False
        return (
            None if public else "is not allowed; a public https:// URL, or a name in the inbox, is"
        )
    pieces = name.removeprefix("/").split("/")
    if any(piece in ("", ".", "..") for piece in pieces):
        return (
            "is not allowed; a name in the sidecar's own folder (photo.jpg, sub/photo.jpg) or from "
            "the inbox root (/shoes/photo.jpg) is"
        )
    if len(name.encode("utf-8", "surrogatepass")) > 1024:
        return "is longer than the 1024 bytes that S3 allows"
    return None


_NOT_ASCII: Final = (
    "has characters outside ASCII, which this model's URLs must not; percent-encode them"
)


def _url_will_do(name: str, model: Model | None) -> bool:
    return model is None or not model.images.ascii_urls or not is_url(name) or name.isascii()


def is_url(name: str) -> bool:
    """Whether an image is named by URL, to be passed on and never fetched by us."""
    return name.startswith("https://")


def _check_mask_name(
    raw: Mapping[str, Json], model: Model | None, findings: _Findings
) -> str | None:
    value = raw.get("mask")
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        findings.refuse("mask", f"{shown(value)} is not allowed; the name of an image is")
        return None
    if (reason := unusable_name(value)) is not None:
        findings.refuse("mask", f"{shown(value)} {reason}")
        return None
    if not _url_will_do(value, model):
        findings.refuse("mask", f"{shown(value)} {_NOT_ASCII}")
        return None
    return value


def _check_function(raw: Mapping[str, Json], model: Model, findings: _Findings) -> Function | None:
    value = raw.get("function")
    names = [f.name for f in model.functions]
    if not names:
        if value is not None:
            findings.refuse("function", f"{model.name} has no functions; leave the field out")
        return None
    if value is None:
        findings.refuse("function", f"is missing; {model.name} needs one of {', '.join(names)}")
        return None
    found = model.function(value) if isinstance(value, str) else None
    if found is None:
        near = _closest(value, names) if isinstance(value, str) else ""
        findings.refuse(
            "function", f"{shown(value)} is not allowed; allowed: {', '.join(names)}{near}"
        )
    return found


def _check_parameters(
    raw: Mapping[str, Json],
    model: Model,
    function: Function | None,
    image_count: int,
    findings: _Findings,
) -> dict[str, Json]:
    value = raw.get("parameters")
    if value is None:
        value = {}
    if not isinstance(value, dict):
        findings.refuse("parameters", f'{shown(value)} is not allowed; an object is: {{"n": 1}}')
        value = {}
    has_images = image_count > 0
    for name, given in value.items():
        path = f"parameters.{name}"
        known = model.by_name.get(name)
        if known is None:
            findings.refuse(path, _unknown_parameter(name, model))
            continue
        if (
            known.functions is not None
            and function is not None
            and (function.name not in known.functions)
        ):
            findings.refuse(
                path,
                f"is not a parameter of the function {function.name}; "
                f"{' and '.join(known.functions)} {'has' if len(known.functions) == 1 else 'have'} it",
            )
            continue
        fault = known.kind_for(value, has_images).check(given)
        if fault is not None:
            near = f"; nearest {shown(fault.nearest)}" if fault.nearest is not None else ""
            findings.refuse(path, f"{shown(given)} is not {fault.allowed}{near}")
        if known.only is not None and not known.only.holds(value, has_images):
            findings.refuse(path, f"is allowed only where {known.only}")
        if known.effective is not None and not known.effective.holds(value, has_images):
            findings.warnings.append(Problem(path, f"has effect only where {known.effective}"))
    boxes = value.get("bbox_list")
    if isinstance(boxes, list) and has_images and len(boxes) != image_count:
        findings.refuse(
            "parameters.bbox_list", f"{len(boxes)} lists for {image_count} images; one for each"
        )
    return {"n": 1, **value}


def _unknown_parameter(name: str, model: Model) -> str:
    if name == "negative_prompt" and model.negative_prompt_chars is not None:
        return "stands at the top of the sidecar, not among the parameters"
    if name in ("prompt", "images", "mask", "function", "model"):
        return "stands at the top of the sidecar, not among the parameters"
    others = sorted(m.name for m in MODELS.values() if name in m.by_name)
    elsewhere = (
        f"; {' and '.join(others)} {'has' if len(others) == 1 else 'have'} it" if others else ""
    )
    near = "" if others else _closest(name, model.by_name)
    return (
        f"is not a parameter of {model.name}, which has {', '.join(sorted(model.by_name))}"
        f"{elsewhere}{near}"
    )


def _check_labels(raw: Mapping[str, Json], findings: _Findings) -> dict[str, str]:
    value = raw.get("labels")
    if value is None:
        return {}
    allowed = "at most 20 texts of at most 256 characters, by name"
    if not isinstance(value, dict) or len(value) > 20:
        findings.refuse("labels", f"{shown(value)} is not allowed; {allowed}")
        return {}
    labels: dict[str, str] = {}
    for name, text in value.items():
        fits = isinstance(text, str) and len(text) <= 256 and len(name) <= 256
        if not fits or not isinstance(text, str) or not _is_text(text + name):
            findings.refuse(f"labels.{name[:60]}", f"{shown(text)} is not allowed; {allowed}")
        else:
            labels[name] = text
    return labels


def _check_priority(raw: Mapping[str, Json], findings: _Findings) -> int:
    value = raw.get("priority")
    if value is None:
        return DEFAULT_PRIORITY
    low, high = PRIORITIES
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        findings.refuse(
            "priority", f"{shown(value)} is not a whole number within {low}–{high} (9 goes first)"
        )
        return DEFAULT_PRIORITY
    return value


def check(
    raw: Mapping[str, Json], *, region: str | None = None, named_after_image: bool = True
) -> Order | list[Problem]:
    """The order that a sidecar's JSON stands for, or every problem in it.

    `region` is the provider's region of the stack; None leaves regions unchecked. Where the sidecar
    names no images, `named_after_image` says whether its own name stands for one.
    """
    findings = _Findings()
    for unknown in raw:
        if unknown not in _FIELDS:
            near = _closest(unknown, _FIELDS)
            if not near and any(unknown in m.by_name for m in MODELS.values()):
                near = "; it belongs into parameters"
            findings.refuse(unknown[:60], f"is not a field of a sidecar{near}")
    schema = raw.get("$schema")
    if schema is not None and not isinstance(schema, str):
        findings.refuse("$schema", f"{shown(schema)} is not allowed; a text in quotes is")

    name = raw.get("model")
    model = MODELS.get(name) if isinstance(name, str) else None
    if name is None:
        findings.refuse("model", f"is missing; one of {', '.join(MODELS)}")
    elif model is None:
        near = _closest(name, MODELS) if isinstance(name, str) else ""
        findings.refuse(
            "model",
            f"{shown(name)} is not a model that retouch knows; allowed: {', '.join(MODELS)}{near}",
        )
    elif region is not None and region not in model.regions:
        findings.refuse(
            "model",
            f"{model.name} exists in the region {' and '.join(model.regions)} only; "
            f"this stack works in {region}",
        )

    prompt = _text(raw, "prompt", model.prompt_chars if model else None, findings)
    if prompt is None and not any(p.field == "prompt" for p in findings.problems):
        findings.refuse("prompt", "is missing; every edit needs one")
    elif prompt is not None and not prompt.strip():
        findings.refuse("prompt", "is empty; every edit needs one")
    negative = _text(
        raw, "negative_prompt", model.negative_prompt_chars if model else None, findings
    )
    if negative is not None and model is not None and model.negative_prompt_chars is None:
        having = [m.name for m in MODELS.values() if m.negative_prompt_chars is not None]
        findings.refuse(
            "negative_prompt",
            f"{model.name} has none; {' and '.join(having)} {'has' if len(having) == 1 else 'have'} it",
        )

    images = _check_images(raw, model, findings)
    mask = _check_mask_name(raw, model, findings)
    parameters: dict[str, Json] = {}
    function = None
    if model is not None:
        function = _check_function(raw, model, findings)
        if function is not None and function.mask and raw.get("mask") is None:
            findings.refuse("mask", f"is missing; {function.name} needs one")
        elif raw.get("mask") is not None and (
            not function.mask if function is not None else not model.functions
        ):
            having_mask = " and ".join(
                f"{m.name} with {f.name}" for m in MODELS.values() for f in m.functions if f.mask
            )
            findings.refuse("mask", f"is not taken here; {having_mask} takes one")
        named = raw.get("images")
        count = len(named) if isinstance(named, list) else int(named_after_image)
        if images is None and not model.images.least <= count <= model.images.most:
            findings.refuse("images", _count_message(model, count))
        parameters = _check_parameters(raw, model, function, count, findings)
    labels = _check_labels(raw, findings)
    priority = _check_priority(raw, findings)
    if findings.problems or model is None or prompt is None:
        return findings.all()
    return Order(
        model=model.name,
        function=function.name if function else None,
        prompt=prompt,
        negative_prompt=negative,
        images=images,
        mask=mask,
        parameters=parameters,
        labels=labels,
        priority=priority,
        warnings=tuple(findings.warnings),
    )


# --- the JSON Schema -----------------------------------------------------------------------------


def _model_schema(model: Model, function: Function | None) -> dict[str, Json]:
    parameters: dict[str, Json] = {}
    for parameter in model.parameters:
        if (
            function is not None
            and parameter.functions is not None
            and (function.name not in parameter.functions)
        ):
            continue
        kinds = [parameter.kind, *(variant.kind for variant in parameter.variants)]
        schemas: list[Json] = [kind.schema() for kind in kinds]
        shape: dict[str, Json] = kinds[0].schema() if len(kinds) == 1 else {"anyOf": schemas}
        says = parameter.says + (f" Only where {parameter.only}." if parameter.only else "")
        if isinstance(form := shape.get("description"), str):
            says = f"{says} {form}"
        shape["description"] = says
        if parameter.default is not None:
            shape["default"] = parameter.default
        parameters[parameter.name] = shape
    properties: dict[str, Json] = {
        "model": {"const": model.name, "description": model.says},
        "prompt": {"type": "string", "pattern": "\\S", "maxLength": model.prompt_chars},
        "images": {
            "type": ["array", "null"],
            "items": {"type": "string", "pattern": "\\S"},
            "minItems": model.images.least,
            "maxItems": model.images.most,
        },
        "parameters": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": parameters,
        },
    }
    required: list[Json] = ["model", "prompt"]
    forbidden: dict[str, Json] = {}
    if function is not None:
        properties["function"] = {"const": function.name, "description": function.says}
        required.append("function")
    else:
        forbidden["function"] = {"type": "null"}
    if function is not None and function.mask:
        properties["mask"] = {"type": "string", "pattern": "\\S"}
        required.append("mask")
    else:
        forbidden["mask"] = {"type": "null"}
    if model.negative_prompt_chars is None:
        forbidden["negative_prompt"] = {"type": "null"}
    else:
        properties["negative_prompt"] = {
            "type": ["string", "null"],
            "maxLength": model.negative_prompt_chars,
        }
    return {"properties": {**properties, **forbidden}, "required": required}


def schema() -> dict[str, Json]:
    """The JSON Schema (2020-12) of a sidecar, made from the registry."""
    low, high = PRIORITIES
    functions = sorted({f.name for m in MODELS.values() for f in m.functions})
    branches: list[Json] = []
    for model in MODELS.values():
        if model.functions:
            named: list[Json] = [f.name for f in model.functions]
            branches.append(
                {
                    "if": {"properties": {"model": {"const": model.name}}, "required": ["model"]},
                    "then": {
                        "properties": {"function": {"enum": named}},
                        "required": ["function"],
                    },
                }
            )
        for function in model.functions or (None,):
            discriminator: dict[str, Json] = {"model": {"const": model.name}}
            needed: list[Json] = ["model"]
            if function is not None:
                discriminator["function"] = {"const": function.name}
                needed.append("function")
            branches.append(
                {
                    "if": {"properties": discriminator, "required": needed},
                    "then": _model_schema(model, function),
                }
            )
    return {
        "$schema": SCHEMA_ID,
        "title": "retouch sidecar",
        "description": f"What to do with which image. Models: {MODEL_LIST_DOC}",
        "type": "object",
        "additionalProperties": False,
        "required": ["model", "prompt"],
        "properties": {
            "$schema": {"type": ["string", "null"]},
            "model": {"enum": list(MODELS), "description": "The provider's model."},
            "function": {
                "enum": [*functions, None],
                "description": "The edit to make, for models that have several.",
            },
            "prompt": {"type": "string", "description": "What to do, in Chinese or English."},
            "negative_prompt": {
                "type": ["string", "null"],
                "description": "What to keep out, for models that have it.",
            },
            "images": {
                "type": ["array", "null"],
                "items": {"type": "string"},
                "description": "Names relative to the sidecar, /… from the inbox root, or public "
                "https:// URLs. Default: the image that the sidecar is named after.",
            },
            "mask": {
                "type": ["string", "null"],
                "description": "A black and white image of the same size; white is edited.",
            },
            "parameters": {
                "type": ["object", "null"],
                "description": "The provider's own parameters, by their own names.",
            },
            "labels": {
                "type": ["object", "null"],
                "additionalProperties": {"type": "string", "maxLength": 256},
                "propertyNames": {"maxLength": 256},
                "maxProperties": 20,
                "description": "Your own texts; they come back in job.json and in every event.",
            },
            "priority": {
                "type": ["integer", "null"],
                "minimum": low,
                "maximum": high,
                "default": DEFAULT_PRIORITY,
                "description": "9 goes first, 0 last.",
            },
        },
        "allOf": branches,
    }
