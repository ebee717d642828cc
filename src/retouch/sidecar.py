"""Sidecars: from bytes to an order that the provider will accept, or to every problem at once.

`read` turns bytes into JSON and refuses what JSON libraries let pass (duplicate keys, NaN, absurd
depth). `check` holds the result against the registry. Both collect problems instead of raising, so
that the owner of a drop mends a file once. Neither touches an image; see `retouch.imaging`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias, cast
from urllib.parse import quote, urlsplit

from retouch import examples
from retouch.catalogue import Catalogue
from retouch.registry import (
    ALWAYS,
    MODEL_LIST_DOC,
    MODELS,
    REGIONS,
    Count,
    Function,
    Json,
    Kind,
    Mode,
    Model,
    Parameter,
    When,
    faults,
)

MAX_BYTES: Final = 256 * 1024
"""A sidecar may be this large; the longest legal prompt in every escape is a tenth of it."""
MAX_DEPTH: Final = 32
PRIORITIES: Final = (0, 9)
DEFAULT_PRIORITY: Final = 5
_MOST_PROBLEMS: Final = 100
_HALF_PAIR: Final = "holds half of a surrogate pair, which is not a character"
SCHEMA_ID: Final = "https://json-schema.org/draft/2020-12/schema"

VARIANTS: Final = "variants"
STEPS: Final = "steps"
FIELDS: Final = (
    "$schema",
    "model",
    "function",
    "prompt",
    "negative_prompt",
    "images",
    "mask",
    "fit",
    "parameters",
    "region",
    "call",
    "labels",
    "priority",
)
"""Of what makes one job. A sidecar may also have `variants` or `steps` (see `retouch.parts`)."""


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
    region: str | None
    """None where it was checked without knowing the stack's regions and none was asked for."""
    call: Mode
    prompt: str
    negative_prompt: str | None
    images: tuple[str, ...] | None
    mask: str | None
    fit: bool
    """Whether images that do not meet the model's rules are to be mended."""
    parameters: Mapping[str, Json]
    labels: Mapping[str, str]
    priority: int
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Draft:
    """What can be told of a sidecar's images whether or not it passed, so that all is said at once."""

    model: Model
    function: Function | None
    images: tuple[str | None, ...] | None
    """None stands for a name that is refused."""
    mask: str | None
    fit: bool
    boxes: Json


@dataclass
class _Findings:
    """What was found; no more problems are kept than anybody would read."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    more: int = 0
    """Problems beyond those kept."""

    @property
    def full(self) -> bool:
        """Whether another problem would only be counted."""
        return len(self.problems) >= _MOST_PROBLEMS

    def refuse(self, path: str, message: str) -> None:
        if self.full:
            self.more += 1
        else:
            self.problems.append(Problem(_bounded(path, 120), _bounded(message, 1000)))

    def warn(self, path: str, message: str) -> None:
        self.warnings.append(Problem(_bounded(path, 120), _bounded(message, 1000)))

    def all(self) -> list[Problem]:
        """The problems, as many as anybody would read."""
        if not self.more:
            return self.problems
        return [*self.problems, Problem("", f"and {self.more} more problems")]


def as_many_as_are_read(problems: Sequence[Problem]) -> list[Problem]:
    """Problems, no more and none longer than anybody would read, so that a record can hold them."""
    kept = [
        Problem(_bounded(problem.field, 120), _bounded(problem.message, 1000))
        for problem in problems[:_MOST_PROBLEMS]
    ]
    more = len(problems) - len(kept)
    return [*kept, Problem("", f"and {more} more problems")] if more > 0 else kept


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
    except RecursionError:
        text = "that"
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
        return Problem(
            "", f"not JSON, at line {error.lineno}, column {error.colno}: {_syntax(error)}"
        )
    except ValueError as error:  # _Refused, and integers too long to convert
        return Problem("", f"not usable JSON: {error}")
    if not isinstance(value, dict):
        return Problem("", f"a sidecar is a JSON object {{…}}; this file holds {shown(value, 30)}")
    return cast("dict[str, Json]", value)


_CURLY: Final = "\u201c\u201d\u2018\u2019"


def _syntax(error: json.JSONDecodeError) -> str:
    """What is wrong with JSON, for somebody who does not know its grammar by heart."""
    at = error.doc[error.pos : error.pos + 1]
    before = error.doc[: error.pos].rstrip()[-1:]
    if not error.doc.strip():
        return "the file is empty; a sidecar is an object {…}"
    odd = at if at in ("'", *_CURLY) else next((char for char in error.doc if char in _CURLY), "")
    if odd:
        return f'{odd} is not a quotation mark in JSON; use "'
    if "trailing comma" in error.msg or (at in ("}", "]") and before == ","):
        return "a comma stands before the closing bracket; take it out"
    said = f"{error.msg[0].lower()}{error.msg[1:]}".removesuffix(" at")
    cut = at == "" or error.msg.startswith("Unterminated")
    return f"{said}; the file may be cut off" if cut else said


def closest(word: str, choices: Iterable[str]) -> str:
    """The choice that was perhaps meant, as the end of a message; empty if none is near."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word[:100]).lower()
    found = difflib.get_close_matches(snake, list(choices), n=1, cutoff=0.6)
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


def _check_images(raw: Mapping[str, Json], findings: _Findings) -> tuple[str | None, ...] | None:
    value = raw.get("images")
    if value is None:
        return None
    if not isinstance(value, list):
        named = isinstance(value, str) and 0 < len(value.strip()) <= 50
        usable = named and isinstance(value, str) and unusable_name(value) is None
        near = f"; nearest {shown([value])}" if usable else ""
        findings.refuse("images", f"{shown(value)} is not allowed; a list of names is{near}")
        return None
    names: list[str | None] = []
    for index, name in enumerate(value):
        path = f"images[{index}]"
        if findings.full:
            findings.more += len(value) - index
            break
        if not isinstance(name, str) or not name.strip():
            findings.refuse(path, f"{shown(name)} is not allowed; the name of an image is")
            names.append(None)
            continue
        if (reason := unusable_name(name)) is not None:
            findings.refuse(path, f"{shown(name)} {reason}")
            names.append(None)
            continue
        names.append(name)
    return tuple(names)


def _check_count(model: Model, parameters: Json, count: int, findings: _Findings) -> None:
    given = parameters if isinstance(parameters, dict) else {}
    limits = model.images.count_for(given)
    if limits.least <= count <= limits.most:
        return
    span = (
        f"exactly {limits.least}"
        if limits.least == limits.most
        else f"{limits.least}–{limits.most}"
    )
    where = "" if limits.when == ALWAYS else f" where {limits.when}"
    findings.refuse("images", f"{count} given; {model.name} takes {span}{where}")


def unusable_name(name: str) -> str | None:
    """Why `name` cannot name an image in a sidecar, or None if it can."""
    if not _is_text(name):
        return _HALF_PAIR
    if name[:5].lower() == "data:":
        return "is not allowed; drop the image beside the sidecar and give its name"
    if "://" in name or name[:5].lower() == "http:" or name[:6].lower() == "https:":
        if not _is_public(name):
            return _NOT_PUBLIC
        return None if name.isascii() else _NOT_ASCII + _near_url(name)
    pieces = name.removeprefix("/").split("/")
    if any(piece in ("", ".", "..") for piece in pieces):
        return (
            "is not allowed; a name in the sidecar's own folder (photo.jpg, sub/photo.jpg) or from "
            "the inbox root (/shoes/photo.jpg) is"
        )
    if len(name.removeprefix("/").encode("utf-8", "surrogatepass")) > 1024:
        return "is longer than the 1024 bytes that S3 allows"
    return None


_NOT_PUBLIC: Final = (
    "is not allowed; a public https:// URL (no spaces, no credentials), or a name in the inbox, is"
)


_LONGEST_NEAR: Final = 600
_NOT_ASCII: Final = "has characters that a URL must not; they must be percent-encoded"


def quoted(url: str) -> str:
    """A URL with whatever is not ASCII percent-encoded."""
    return "".join(char if char.isascii() else quote(char) for char in url)


def _near_url(url: str) -> str:
    encoded = quoted(url)
    # A host's name is not encoded like that.
    plain = (urlsplit(url).hostname or "").isascii() and len(encoded) <= _LONGEST_NEAR
    return f"; nearest {shown(encoded, _LONGEST_NEAR + 2)}" if plain else ""


def _is_public(name: str) -> bool:
    """Whether it is a URL that somebody else can be told to fetch."""
    if not is_url(name) or any(char.isspace() or not char.isprintable() for char in name):
        return False
    try:
        parts = urlsplit(name)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and parts.username is None and parts.password is None


def is_url(name: str) -> bool:
    """Whether an image is named by URL, to be passed on and never fetched by us."""
    return name.startswith("https://")


def _check_mask_name(raw: Mapping[str, Json], findings: _Findings) -> str | None:
    value = raw.get("mask")
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        findings.refuse("mask", f"{shown(value)} is not allowed; the name of an image is")
        return None
    if (reason := unusable_name(value)) is not None:
        findings.refuse("mask", f"{shown(value)} {reason}")
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
        near = closest(value, names) if isinstance(value, str) else ""
        findings.refuse(
            "function", f"{shown(value)} is not allowed; allowed: {', '.join(names)}{near}"
        )
    return found


def _check_parameters(
    raw: Mapping[str, Json],
    model: Model,
    function: Function | None,
    image_count: int,
    models: Catalogue,
    findings: _Findings,
) -> dict[str, Json]:
    value = raw.get("parameters")
    if value is None:
        value = {}
    if not isinstance(value, dict):
        _refuse_parameters(value, findings)
        value = {}
    has_images = image_count > 0
    for name, given in value.items():
        path = f"parameters.{name}"
        known = model.by_name.get(name)
        if known is None and findings.full:
            findings.more += 1  # without looking for what may have been meant
            continue
        if known is None:
            findings.refuse(path, _unknown_parameter(name, model, function, models))
            continue
        if _refuse_where_lacking(path, known, function, findings):
            continue
        in_force = known.variant_for(value, has_images)
        found = faults(known.kind_for(value, has_images), given)
        for fault in found:
            where = f" where {in_force.when}" if in_force is not None else ""
            near = f"; nearest {shown(fault.nearest)}" if fault.nearest is not None else ""
            wrong = shown(fault.given if fault.at else given)
            findings.refuse(
                path + fault.at,
                f"{wrong} is not {fault.allowed}{where}{near}"
                + (_allowed_elsewhere(known, given, model, models) if len(found) == 1 else ""),
            )
        if known.only is not None and not known.only.holds(value, has_images):
            findings.refuse(path, f"is allowed only where {known.only}")
        if known.effective is not None and not known.effective.holds(value, has_images):
            findings.warn(path, f"has effect only where {known.effective}")
        if known.wants is not None and given is True and known.wants not in value:
            findings.warn(path, f"does little without {known.wants}, which is 1 unless it is given")
    boxes = value.get("bbox_list")
    if isinstance(boxes, list) and has_images and len(boxes) != image_count:
        lists, images = _counted(len(boxes), "list"), _counted(image_count, "image")
        findings.refuse("parameters.bbox_list", f"{lists} for {images}; one for each")
    return model.completed(value, has_images, function.name if function else None)


def _refuse_parameters(value: Json, findings: _Findings) -> None:
    findings.refuse("parameters", f'{shown(value)} is not allowed; an object is: {{"n": 1}}')


def _refuse_where_lacking(
    path: str, known: Parameter, function: Function | None, findings: _Findings
) -> bool:
    """Whether the function has not that parameter, which is then refused."""
    if known.functions is None or function is None or function.name in known.functions:
        return False
    said = f"is not a parameter of the function {function.name}; {_have(known.functions)} it"
    findings.refuse(path, said)
    return True


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _allowed_elsewhere(known: Parameter, given: Json, model: Model, models: Catalogue) -> str:
    """Where a value that is refused here would be right: in another mode, or with another model."""
    places = known.places_for(given)
    if places:
        return f"; allowed where {' or where '.join(str(when) for when in places)}"
    others = []
    for other in models.values():
        theirs = other.by_name.get(known.name)
        if theirs is None or other.snapshot_of is not None or other.name == model.name:
            continue
        if not faults(theirs.kind, given):
            others.append(other.name)
        elif when := theirs.places_for(given):
            others.append(f"{other.name} where {when[0]}")
    # The first few: a number that is merely large would be right for nearly all.
    return f"; allowed with {' or '.join(others)}" if 0 < len(others) <= _FEW else ""


_FEW: Final = 2


def _have(names: Iterable[str]) -> str:
    """`a has`, or `a, b and c have`."""
    *rest, last = names
    return f"{', '.join(rest)} and {last} have" if rest else f"{last} has"


def _undated(models: Catalogue, fits: Callable[[Model], bool]) -> list[str]:
    """Names of the models that fit, without those that are snapshots of another."""
    return [m.name for m in models.values() if m.snapshot_of is None and fits(m)]


_SET_BY_US: Final = ("stream", "is_async", "incremental_output")
"""Matters of transport, which follow from the call."""


def _unknown_parameter(
    name: str, model: Model, function: Function | None, models: Catalogue
) -> str:
    if name == "negative_prompt" and model.negative_prompt_chars is not None:
        return "stands at the top of the sidecar, not among the parameters"
    if name == "negative_prompt":
        having = _undated(models, lambda m: m.negative_prompt_chars is not None)
        return f"is not a parameter of {model.name}; {_have(having)} it, at the top of the sidecar"
    if name in FIELDS:
        return "stands at the top of the sidecar, not among the parameters"
    if name in _SET_BY_US:
        return 'is set by retouch where a call needs it; "call" at the top of the sidecar decides'
    others = _undated(models, lambda m: name in m.by_name)
    elsewhere = f"; {_have(others)} it" if others else ""
    # Without a function that is known, any of the model's may be the one that was meant.
    candidates = model.having(function.name) if function is not None else model.parameters
    mine = sorted(p.name for p in candidates)
    every = {p for m in models.values() for p in m.by_name} - model.by_name.keys()
    near = "" if others else closest(name, mine) or closest(name, [*every, *FIELDS])
    whose = model.name if function is None else f"{model.name} with {function.name}"
    return f"is not a parameter of {whose}, which has {', '.join(mine)}{elsewhere}{near}"


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
            plain = type(text) in (int, float) and abs(cast("float", text)) < 10**15
            near = f'; nearest "{text}"' if plain else ""
            findings.refuse(f"labels.{name[:60]}", f"{shown(text)} is not allowed; {allowed}{near}")
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


def _check_model(raw: Mapping[str, Json], models: Catalogue, findings: _Findings) -> Model | None:
    name = raw.get("model")
    model = models.get(name) if isinstance(name, str) else None
    if name is None:
        findings.refuse("model", f"is missing; one of {', '.join(models)}")
    elif model is None:
        near = closest(name, models) if isinstance(name, str) else ""
        findings.refuse(
            "model",
            f"{shown(name)} is not a model that retouch knows; allowed: {', '.join(models)}{near}",
        )
    return model


def _check_route(
    raw: Mapping[str, Json], model: Model, regions: Sequence[str] | None, findings: _Findings
) -> tuple[str | None, Mode]:
    """The region that a job goes to, None where the stack's are not known, and how it is called.

    Without a wish it is the first of the stack's regions that has the model.
    """
    call = _choice(raw, "call", list(Mode), findings)
    wanted_call = Mode(call) if call is not None else None
    if wanted_call is not None and wanted_call not in model.calls:
        findings.refuse(
            "call", f'"{call}" is not allowed; {model.name} is called {model.call} only'
        )
        wanted_call = None
    region = _choice(raw, "region", list(REGIONS), findings)
    if region is not None and region not in model.regions:
        findings.refuse(
            "region", f'"{region}" is not allowed; {model.name} exists in {_either(model.regions)}'
        )
        region = None
    elif region is not None and regions is not None and region not in regions:
        findings.refuse(
            "region", f'"{region}" is not allowed; this stack has a key for {_either(regions)}'
        )
    elif region is not None and wanted_call not in (None, *model.calls_in(region)):
        findings.refuse("call", f'"{call}" is not allowed; {_only(model, [region])}')
    if region is None and regions is not None and raw.get("region") is None:
        having = [r for r in regions if model.calls_in(r)]
        offering = [r for r in having if wanted_call in (None, *model.calls_in(r))]
        if offering:
            region = offering[0]
        elif having:
            findings.refuse("call", f'"{call}" is not allowed; {_only(model, having)}')
        else:
            findings.refuse(
                "model",
                f"{model.name} exists in the region {_either(model.regions)} only; this stack has a "
                f"key for {_either(regions)}",
            )
    offered = model.calls_in(region) if region is not None else ()
    return region, wanted_call or (offered[0] if offered else model.call)


def _only(model: Model, regions: Sequence[str]) -> str:
    ways = dict.fromkeys(call for region in regions for call in model.calls_in(region))
    return f"{_either(regions)} has {model.name} {_either(list(ways))} only; leave call out"


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)


def _choice(
    raw: Mapping[str, Json], name: str, choices: Sequence[str], findings: _Findings
) -> str | None:
    value = raw.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or value not in choices:
        near = closest(value, choices) if isinstance(value, str) else ""
        findings.refuse(name, f"{shown(value)} is not allowed; allowed: {', '.join(choices)}{near}")
        return None
    return value


def _check_flag(raw: Mapping[str, Json], name: str, findings: _Findings) -> bool:
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        findings.refuse(name, f"{shown(value)} is not allowed; true or false is")
    return value is True


def check(
    raw: Mapping[str, Json],
    *,
    models: Catalogue = MODELS,
    regions: Sequence[str] | None = None,
    named_after_image: bool = True,
) -> Order | list[Problem]:
    """The order that a sidecar's JSON stands for, or every problem in it.

    `regions` are the provider's regions that the stack has a key for, the preferred one first; None
    leaves them unchecked. Where the sidecar names no images, `named_after_image` says whether its own
    name stands for one.
    """
    return judge(raw, models=models, regions=regions, named_after_image=named_after_image)[0]


def judge(
    raw: Mapping[str, Json],
    *,
    models: Catalogue = MODELS,
    regions: Sequence[str] | None = None,
    named_after_image: bool = True,
) -> tuple[Order | list[Problem], Draft | None]:
    """As `check`, and what can be told of its images; None where not even the model is known."""
    findings = _Findings()
    for unknown in raw:
        if unknown not in FIELDS and findings.full:
            findings.more += 1
        elif unknown not in FIELDS:
            near = closest(unknown, (*FIELDS, VARIANTS, STEPS))
            if unknown in ("locked", "budget"):
                near = "; it belongs in a _preset.json"
            if not near and any(unknown in m.by_name for m in models.values()):
                near = "; it belongs in parameters"
            findings.refuse(unknown[:60], f"is not a field of a sidecar{near}")
    schema = raw.get("$schema")
    if schema is not None and not isinstance(schema, str):
        findings.refuse("$schema", f"{shown(schema)} is not allowed; a text in quotes is")
    model = _check_model(raw, models, findings)
    prompt = _check_prompt(raw, model, findings)
    negative = _check_negative_prompt(raw, model, models, findings)
    images = _check_images(raw, findings)
    mask = _check_mask_name(raw, findings)
    fit = _check_flag(raw, "fit", findings)
    labels = _check_labels(raw, findings)
    priority = _check_priority(raw, findings)
    if model is None:
        return findings.all(), None
    region, call = _check_route(raw, model, regions, findings)
    function = _check_function(raw, model, findings)
    _check_mask_wanted(raw, model, function, models, findings)
    named = raw.get("images")
    count = len(named) if isinstance(named, list) else int(named_after_image)
    if named is None or isinstance(named, list):
        _check_count(model, raw.get("parameters"), count, findings)
    parameters = _check_parameters(raw, model, function, count, models, findings)
    draft = Draft(model, function, images, mask, fit, parameters.get("bbox_list"))
    if findings.problems or prompt is None:
        return findings.all(), draft
    order = Order(
        model=model.name,
        function=function.name if function else None,
        region=region,
        call=call,
        prompt=prompt,
        negative_prompt=negative,
        images=None if images is None else tuple(n for n in images if n is not None),
        mask=mask,
        fit=fit,
        parameters=parameters,
        labels=labels,
        priority=priority,
        warnings=tuple(findings.warnings),
    )
    return order, draft


def never_right(
    raw: Mapping[str, Json],
    *,
    models: Catalogue = MODELS,
    regions: Sequence[str] | None = None,
) -> list[Problem]:
    """What is wrong with fields that are not all there yet, whatever the others will be.

    Nothing is missing, and a value is refused only where neither the model, if it is given, nor any
    other if it is not, takes it in any mode. `regions` as in `check`.
    """
    findings = _Findings()
    given = {name: value for name, value in raw.items() if value is not None}
    model = _check_model(given, models, findings) if "model" in given else None
    if "prompt" in given:
        _check_prompt(given, model, findings)
    _check_negative_prompt(given, model, models, findings)
    _check_images(given, findings)
    _check_mask_name(given, findings)
    _check_flag(given, "fit", findings)
    _check_labels(given, findings)
    _check_priority(given, findings)
    function = None
    if model is not None:
        _check_route(given, model, regions, findings)
        function = _check_function(given, model, findings) if "function" in given else None
        if "mask" in given:
            _check_mask_wanted(given, model, function, models, findings)
    else:
        _choice(given, "call", list(Mode), findings)
        _choice(given, "region", list(REGIONS if regions is None else regions), findings)
        functions = dict.fromkeys(f.name for m in models.values() for f in m.functions)
        _choice(given, "function", list(functions), findings)
    parameters = given.get("parameters", {})
    if not isinstance(parameters, dict):
        _refuse_parameters(parameters, findings)
        return findings.all()
    for name, value in parameters.items():
        if value is not None:
            _check_alone(name, value, model, function, models, findings)
    return findings.all()


def _check_alone(
    name: str,
    given: Json,
    model: Model | None,
    function: Function | None,
    models: Catalogue,
    findings: _Findings,
) -> None:
    """A parameter whose mode, and perhaps model, is not known yet."""
    path = f"parameters.{name}"
    candidates = list(models.values()) if model is None else [model]
    having = [m.by_name[name] for m in candidates if name in m.by_name]
    if not having and model is not None:
        findings.refuse(path, _unknown_parameter(name, model, function, models))
        return
    if not having:
        known = {p for m in candidates for p in m.by_name}
        findings.refuse(path, f"is not a parameter of any model{closest(name, sorted(known))}")
        return
    if model is not None and _refuse_where_lacking(path, having[0], function, findings):
        return
    found = [faults(kind, given) for known in having for kind in known.kinds]
    if not all(found):
        return
    for fault in found[0]:
        wrong = shown(fault.given if fault.at else given)
        allowed = list(dict.fromkeys(f.allowed for one in found for f in one if f.at == fault.at))
        near = f"; nearest {shown(fault.nearest)}" if fault.nearest is not None else ""
        findings.refuse(path + fault.at, f"{wrong} is not {_either(allowed)}{near}")


def _check_prompt(raw: Mapping[str, Json], model: Model | None, findings: _Findings) -> str | None:
    prompt = _text(raw, "prompt", model.prompt_chars if model else None, findings)
    if prompt is None and not any(p.field == "prompt" for p in findings.problems):
        findings.refuse("prompt", "is missing; every edit needs one")
    elif prompt is not None and not prompt.strip():
        findings.refuse("prompt", "is empty; every edit needs one")
    return prompt


def _check_negative_prompt(
    raw: Mapping[str, Json], model: Model | None, models: Catalogue, findings: _Findings
) -> str | None:
    limit = model.negative_prompt_chars if model else None
    negative = _text(raw, "negative_prompt", limit, findings)
    if negative is not None and model is not None and limit is None:
        having = _undated(models, lambda m: m.negative_prompt_chars is not None)
        findings.refuse(
            "negative_prompt", f"is not a parameter of {model.name}; {_have(having)} it"
        )
    return negative


def _check_mask_wanted(
    raw: Mapping[str, Json],
    model: Model,
    function: Function | None,
    models: Catalogue,
    findings: _Findings,
) -> None:
    given = raw.get("mask") is not None
    if function is not None and function.mask and not given:
        findings.refuse("mask", f"is missing; {function.name} needs one")
    elif given and (not function.mask if function is not None else not model.functions):
        having = " and ".join(
            f"{m.name} with {f.name}" for m in models.values() for f in m.functions if f.mask
        )
        findings.refuse("mask", f"is not taken here; {having} takes one")


# --- the JSON Schema -----------------------------------------------------------------------------

Schema: TypeAlias = dict[str, Json]


def _given(name: str, value: Json) -> Schema:
    """Holds where the parameter has that value."""
    return _in_parameters({"properties": {name: {"const": value}}, "required": [name]})


def _in_parameters(schema: Schema) -> Schema:
    return {
        "properties": {"parameters": {"type": "object", **schema}},
        "required": ["parameters"],
    }


def _condition(when: When) -> Schema:
    """A condition on other fields. A sidecar that names no images is named after one."""
    parts: list[Json] = []
    if when.switch is not None:
        is_on = _given(when.switch, True)
        parts.append(is_on if when.on else {"not": is_on})
    if when.images is not None:
        none: Schema = {
            "properties": {"images": {"type": "array", "maxItems": 0}},
            "required": ["images"],
        }
        parts.append({"not": none} if when.images else none)
    return {"allOf": parts}


def _unless(conditions: list[Json], then: Schema) -> Json:
    return {"if": {"not": {"anyOf": conditions}}, "then": then}


def _parameter_schema(parameter: Parameter) -> tuple[Schema, list[Json]]:
    """A parameter's own schema, and rules of the whole sidecar that hold it to a condition."""

    def shaped(kind: Kind) -> Schema:
        return {"properties": {"parameters": {"properties": {parameter.name: kind.schema()}}}}

    rules: list[Json] = []
    shape: Schema = {}
    says = parameter.says
    if parameter.variants:
        conditions: list[Json] = [_condition(variant.when) for variant in parameter.variants]
        rules += [
            {"if": condition, "then": shaped(variant.kind)}
            for condition, variant in zip(conditions, parameter.variants, strict=True)
        ]
        rules.append(_unless(conditions, shaped(parameter.kind)))
    else:
        shape = parameter.kind.schema()
    if isinstance(form := parameter.kind.schema().get("description"), str):
        says = f"{says} {form[0].upper()}{form[1:]}."
    if parameter.only is not None:
        says += f" Only where {parameter.only}."
        refused: Schema = {"properties": {"parameters": {"properties": {parameter.name: False}}}}
        rules.append(_unless([_condition(parameter.only)], refused))
    if parameter.effective is not None:
        says += f" Has effect only where {parameter.effective}."
    shape["description"] = says
    if parameter.examples:
        shape["examples"] = list(parameter.examples)
    if parameter.sent is not None:
        shape["default"] = parameter.sent
    elif parameter.default is not None:
        shape["default"] = parameter.default
    return shape, rules


def _model_schema(model: Model, function: Function | None) -> Schema:
    parameters: Schema = {}
    rules: list[Json] = []
    for parameter in model.having(function.name if function else None):
        parameters[parameter.name], held = _parameter_schema(parameter)
        rules += held
    *conditional, always = model.images.counts
    conditions: list[Json] = []
    for count in conditional:
        condition = _condition(count.when)
        rules.append({"if": condition, "then": {"properties": {"images": _image_count(count)}}})
        conditions.append(condition)
    of_images: Json = {"properties": {"images": _image_count(always)}}
    rules.append(
        {"if": {"not": {"anyOf": conditions}}, "then": of_images} if conditions else of_images
    )
    properties: Schema = {
        "model": {"const": model.name, "description": model.says},
        "prompt": {"type": "string", "pattern": "\\S", "maxLength": model.prompt_chars},
        "parameters": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": parameters,
        },
        "region": {"enum": [*model.regions, None]},
        "call": {"enum": [*model.calls, None], "default": model.call},
    }
    required: list[Json] = ["model", "prompt"]
    nothing: Json = {"type": "null"}
    if function is not None:
        does = function.says
        if function.examples:
            does += f" Known to the provider: {', '.join(function.examples)}."
        properties["function"] = {"const": function.name, "description": does}
        required.append("function")
    else:
        properties["function"] = nothing
    if function is not None and function.mask:
        properties["mask"] = {"type": "string", "pattern": "\\S"}
        required.append("mask")
    else:
        properties["mask"] = nothing
    properties["negative_prompt"] = (
        nothing
        if model.negative_prompt_chars is None
        else {"type": ["string", "null"], "maxLength": model.negative_prompt_chars}
    )
    found = examples.of(model, function)
    schema: Schema = {"properties": properties, "required": required, "allOf": rules}
    return {**schema, "examples": list(found)} if found else schema


_ALONE: Final[Schema] = {
    "not": {
        "anyOf": [
            {"required": [name], "properties": {name: {"type": "array"}}}
            for name in (VARIANTS, STEPS)
        ]
    }
}
"""Holds for a sidecar that makes one job; the fields of others stand in several places."""


def _image_count(count: Count) -> Json:
    return {"minItems": count.least, "maxItems": count.most}


def schema(models: Catalogue = MODELS) -> Schema:
    """The JSON Schema (2020-12) of a sidecar, made from the registry.

    It says what an editor can show. What it cannot say, such as the area of a size, the sum of a
    palette or one list of boxes for each image, is left to `check`.
    """
    low, high = PRIORITIES
    functions = dict.fromkeys(f.name for m in models.values() for f in m.functions)
    branches: list[Json] = []
    for model in models.values():
        chosen: Schema = {
            "properties": {"model": {"const": model.name}},
            "required": ["model"],
            **_ALONE,
        }
        if not model.functions:
            branches.append({"if": chosen, "then": _model_schema(model, None)})
            continue
        branches.append(
            {
                "if": chosen,
                "then": {
                    "properties": {"function": {"enum": [f.name for f in model.functions]}},
                    "required": ["function"],
                },
            }
        )
        for function in model.functions:
            discriminator: Json = {
                "properties": {
                    "model": {"const": model.name},
                    "function": {"const": function.name},
                },
                "required": ["model", "function"],
                **_ALONE,
            }
            branches.append({"if": discriminator, "then": _model_schema(model, function)})
    return {
        "$schema": SCHEMA_ID,
        "title": "retouch sidecar",
        "description": f"What to do with which image. A page for each model: {MODEL_LIST_DOC}",
        "type": "object",
        "additionalProperties": False,
        "anyOf": [
            {"required": ["model", "prompt"]},
            {"required": [VARIANTS], "properties": {VARIANTS: {"type": "array"}}},
            {"required": [STEPS], "properties": {STEPS: {"type": "array"}}},
        ],
        "properties": {
            "$schema": {
                "type": ["string", "null"],
                "description": "Where this schema lies, for your editor; retouch passes over it.",
            },
            "model": {"enum": list(models), "description": "The provider's model."},
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
                "items": {"type": "string", "pattern": "\\S"},
                "description": "Names relative to the sidecar, /… from the inbox root, or public "
                "https:// URLs, in the order that the prompt counts them. Default: the image that the "
                "sidecar is named after; [] for none.",
                "examples": [["red.jpg"], ["shoe.png", "/backgrounds/wall.jpg"], []],
            },
            "mask": {
                "type": ["string", "null"],
                "description": "A black and white image of the same size; white is edited.",
                "examples": ["photo.mask.png"],
            },
            "fit": {
                "type": ["boolean", "null"],
                "default": False,
                "description": "Whether retouch mends images that the model would not take: flattens "
                "transparency onto white, turns upright, shrinks, converts, makes a mask black and "
                "white. What was done stands in job.json.",
            },
            "parameters": {
                "type": ["object", "null"],
                "description": "The provider's own parameters, by their own names.",
            },
            "region": {
                "enum": [*REGIONS, None],
                "description": "The provider's region. Default: the first of the stack's that has the "
                "model.",
            },
            "call": {
                "enum": [*Mode, None],
                "description": "async makes a task and asks after it; sync is one long call. Default: "
                "async where the model has it.",
            },
            "labels": {
                "type": ["object", "null"],
                "additionalProperties": {"type": "string", "maxLength": 256},
                "propertyNames": {"maxLength": 256},
                "maxProperties": 20,
                "description": "Your own texts; they come back in job.json and in every event.",
                "examples": [{"sku": "A-113"}],
            },
            VARIANTS: {
                "type": ["array", "null"],
                "minItems": 1,
                "items": {"type": "object", "properties": {"name": {"type": "string"}}},
                "description": "Several jobs on the same images. Each has its own fields over the "
                "rest of the sidecar, and a name for its folder.",
                "examples": [[{"name": "blue", "prompt": "paint it blue"}, {"name": "red"}]],
            },
            STEPS: {
                "type": ["array", "null"],
                "minItems": 1,
                "items": {"type": "object"},
                "description": "Jobs one after the other, each on the result of the one before. Each "
                "has its own fields over the rest of the sidecar.",
                "examples": [[{"function": "remove_watermark"}, {"function": "super_resolution"}]],
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
