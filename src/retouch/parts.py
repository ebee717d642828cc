"""What one sidecar asks for: one job, `variants` side by side, or `steps` one after the other. Pure.

Each entry of `variants` or `steps` stands over the rest of the sidecar as the sidecar stands over its
presets, and makes a job of its own. Variants work on the same images; a step after the first works on
the result of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Final

from retouch.presets import BY_NAME, Layer, Merged, merge
from retouch.registry import Json
from retouch.sidecar import FIELDS, STEPS, VARIANTS, Problem, closest, shown

MOST: Final = 20
"""So many jobs does one sidecar make at the most."""
_NAME: Final = "name"
_OF_AN_ENTRY: Final = tuple(name for name in FIELDS if name != "$schema")
_TAKEN: Final = ("sent",)
_LONGEST_NAME: Final = 60


@dataclass(frozen=True)
class Part:
    """One of the jobs that a sidecar makes.

    Attributes:
        number: Its place among them, from 0.
        of: How many they are.
        path: Where it stands in the sidecar: `variants[1]`, `steps[0]`; empty where it is the only one.
        raw: Its fields, as a sidecar of its own would have them.
        variant: The variant's name.
        step: Which step it is, from 1.
        steps: How many steps there are.
    """

    number: int
    of: int
    path: str
    raw: Mapping[str, Json]
    variant: str | None = None
    step: int | None = None
    steps: int | None = None

    @property
    def follows(self) -> bool:
        """Whether it works on the result of the part before."""
        return self.step is not None and self.step > 1

    @property
    def folder(self) -> str | None:
        """The name of its folder inside the drop's; None where that is its own."""
        return folder_name(self.variant, self.step, self.steps)


def folder_name(variant: str | None, step: int | None, steps: int | None) -> str | None:
    """The name of a part's folder inside its drop's; the last step has the drop's own: None."""
    if variant is not None:
        return variant
    return f"step-{step}" if step is not None and step != steps else None


def unfold(merged: Merged) -> list[Part] | list[Problem]:
    """The parts of a sidecar's merged fields, or what is wrong with its `variants` or `steps`."""
    raw = merged.raw
    variants, steps = raw.get(VARIANTS), raw.get(STEPS)
    rest = {name: value for name, value in raw.items() if name not in (VARIANTS, STEPS)}
    if variants is None and steps is None:
        return [Part(0, 1, "", rest)]
    if variants is not None and steps is not None:
        said = f"stands beside {VARIANTS}; one of the two is allowed, so make a sidecar for each"
        return [Problem(STEPS, said)]
    field = VARIANTS if steps is None else STEPS
    entries = variants if steps is None else steps
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST:
        count = f", {len(entries)} given" if isinstance(entries, list) else ""
        said = f"{shown(entries, 30)} is not allowed; a list of 1–{MOST} objects is{count}"
        return [Problem(field, said)]
    problems = [problem for at, entry in enumerate(entries) for problem in _check(field, at, entry)]
    if problems:
        return problems
    found = [entry for entry in entries if isinstance(entry, dict)]
    under = _Locked(field, rest, merged.locks_against(field), merged.origins.get(field, ""))
    parts = _variants(under, found) if steps is None else _steps(under, found)
    return under.problems or parts


def without_effect(layers: Sequence[Layer], merged: Merged, parts: Sequence[Part]) -> list[Problem]:
    """Warnings of what was said after `variants` or `steps`, and which every entry of them goes before.

    A sidecar's own entries are no surprise to who wrote it; those of a preset above it may be.
    """
    field = next((name for name in (VARIANTS, STEPS) if merged.raw.get(name) is not None), "")
    holder = merged.origins.get(field)
    sources = [layer.source for layer in layers]
    if holder is None:
        return []
    later = merge(layers[sources.index(holder) + 1 :])
    found = []
    for path, source in later.origins.items():
        name, _, inner = path.partition(".")
        if name in (VARIANTS, STEPS, *(BY_NAME if not inner else ())):
            continue
        given = _at(later.raw, name, inner)
        if any(_at(part.raw, name, inner) == given for part in parts):
            continue
        locked = merged.locks.get(field)
        todo = (
            f'"{field}": null in {source} takes them out'
            if locked is None
            else f"leave it out, for {field} is locked by {locked}"
        )
        said = f"of {source} has no effect: every entry of {field} in {holder} has its own; {todo}"
        found.append(Problem(path, said))
    return found


def _at(raw: Mapping[str, Json], name: str, inner: str) -> Json:
    value = raw.get(name)
    if not inner:
        return value
    return value.get(inner) if isinstance(value, dict) else None


def _check(field: str, at: int, entry: Json) -> list[Problem]:
    path = f"{field}[{at}]"
    if not isinstance(entry, dict):
        return [Problem(path, f"{shown(entry)} is not allowed; an object is: {{…}}")]
    allowed = (*_OF_AN_ENTRY, _NAME) if field == VARIANTS else _OF_AN_ENTRY
    problems = [
        Problem(f"{path}.{name[:60]}", f"is not allowed here{closest(name, allowed)}")
        for name in entry
        if name not in allowed
    ]
    if field == STEPS and at > 0 and entry.get("images") is not None:
        said = "is not allowed after the first step, which works on the result of the one before"
        problems.append(Problem(f"{path}.images", said))
    return problems


@dataclass
class _Locked:
    """What entries stand over, and the locks that they are under."""

    field: str
    rest: Mapping[str, Json]
    locks: Mapping[str, str]
    source: str
    problems: list[Problem] = dataclass_field(default_factory=list)

    def over(self, at: int, entry: Mapping[str, Json]) -> dict[str, Json]:
        """An entry over the rest; a locked field that it would change is a problem."""
        own = {name: value for name, value in entry.items() if name != _NAME}
        merged = merge((Layer("", self.rest), Layer(self.source, own)), self.locks)
        self.problems += [
            Problem(f"{self.field}[{at}].{problem.field}", problem.message)
            for problem in merged.problems
        ]
        return merged.raw


def _variants(under: _Locked, entries: Sequence[Mapping[str, Json]]) -> list[Part] | list[Problem]:
    parts: list[Part] = []
    problems: list[Problem] = []
    taken: dict[str, int] = {}
    for at, entry in enumerate(entries):
        path = f"{VARIANTS}[{at}]"
        name = entry.get(_NAME, f"variant-{at + 1}")
        if not isinstance(name, str) or (why := _unusable(name)) is not None:
            said = (
                f"{shown(name)} is not allowed; {why if isinstance(name, str) else _ALLOWED_NAME}"
            )
            problems.append(Problem(f"{path}.{_NAME}", said))
            continue
        if (other := taken.setdefault(name.lower(), at)) != at:
            said = f"{shown(name)} is the name of {VARIANTS}[{other}] already; it names a folder"
            problems.append(Problem(f"{path}.{_NAME}", said))
        parts.append(Part(at, len(entries), path, under.over(at, entry), variant=name))
    return problems or parts


_ALLOWED_NAME: Final = (
    f"a folder's name is: 1–{_LONGEST_NAME} characters without /, not beginning with . or ~"
)


def _unusable(name: str) -> str | None:
    fits = 1 <= len(name) <= _LONGEST_NAME and name == name.strip() and name.isprintable()
    if not fits or "/" in name or name.startswith((".", "~")):
        return _ALLOWED_NAME
    return "retouch uses that name itself" if name.lower() in _TAKEN else None


def _steps(under: _Locked, entries: Sequence[Mapping[str, Json]]) -> list[Part]:
    parts: list[Part] = []
    for at, entry in enumerate(entries):
        raw = under.over(at, entry)
        if at > 0:
            raw.pop("images", None)
        if at < len(entries) - 1:
            raw["parameters"] = _one_image(raw.get("parameters"), entry.get("parameters"))
        count = len(entries)
        parts.append(Part(at, count, f"{STEPS}[{at}]", raw, step=at + 1, steps=count))
    return parts


def _one_image(merged: Json, own: Json) -> Json:
    """A step before the last makes one image; an `n` for all steps means the last one's."""
    if not isinstance(merged, dict) or "n" not in merged:
        return merged
    if isinstance(own, dict) and "n" in own:
        return merged
    return {name: value for name, value in merged.items() if name != "n"}


def check_step(part: Part, parameters: Mapping[str, Json]) -> list[Problem]:
    """A step before the last must make one image, for the next works on one."""
    count = parameters.get("n")
    if part.step is None or part.step == part.steps or count in (None, 1):
        return []
    said = (
        f"{shown(count)} is not 1; a step before the last makes one image, which the next works on"
    )
    return [Problem("parameters.n", said)]
