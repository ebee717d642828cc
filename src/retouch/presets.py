"""Presets: `_preset.json` in a folder. Defaults for every sidecar below it, and the whole job for an
image without one. Pure.

What applies to a sidecar are layers: the presets of the folders above it, from the inbox root down, and
the sidecar itself last. A later layer goes before an earlier one, field by field; in `parameters` and
`labels`, name by name. `null` takes out what an earlier layer gave. What a preset names in `locked` no
later layer may change. Each value keeps the name of the file that it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from retouch import sidecar
from retouch.budget import Budget, parse
from retouch.keys import PRESET
from retouch.registry import Json
from retouch.sidecar import Problem, closest, shown

LOCKED: Final = "locked"
BUDGET: Final = "budget"
BY_NAME: Final = ("parameters", "labels")
"""Fields that are merged name by name."""
_OF_A_PRESET: Final = tuple(
    name for name in (*sidecar.FIELDS, sidecar.VARIANTS, sidecar.STEPS) if name != "images"
)
_NOT_INHERITED: Final = ("$schema", LOCKED, BUDGET)


@dataclass(frozen=True)
class Layer:
    """A file that was read: its key in the inbox, and its JSON."""

    source: str
    raw: Mapping[str, Json]


@dataclass
class Merged:
    """All layers together.

    Attributes:
        raw: The fields, as one sidecar would have them.
        origins: Which file each came from, by its path (`prompt`, `parameters.n`).
        problems: Locked fields that a later layer would change.
        locks: The file that locked each path.
    """

    raw: dict[str, Json] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    locks: dict[str, str] = field(default_factory=dict)

    def locks_against(self, name: str) -> dict[str, str]:
        """The locks that the entries of a field (`variants`, `steps`) are under: those of presets below
        the one that the field came from lock it, too.
        """
        source = self.origins.get(name, "")
        above = source.rpartition("/")[2] == PRESET
        return {
            path: holder
            for path, holder in self.locks.items()
            if not above or len(source) > len(holder)
        }


def check(raw: Mapping[str, Json]) -> list[Problem]:
    """What is wrong with a preset as such; whether its values will do shows only when it is merged."""
    problems: list[Problem] = []
    for name in raw:
        if name == "images":
            said = "does not belong in a preset; a sidecar names its images"
            problems.append(Problem(name, said))
        elif name not in (*_OF_A_PRESET, LOCKED, BUDGET):
            near = closest(name, (*_OF_A_PRESET, LOCKED, BUDGET))
            problems.append(Problem(name[:60], f"is not a field of a preset{near}"))
    mask = raw.get("mask")
    if isinstance(mask, str) and not mask.startswith(("/", "https://")):
        said = f'{shown(mask)} is not allowed in a preset; a name from the inbox root ("/…") is'
        problems.append(Problem("mask", said))
    budget = parse(raw[BUDGET]) if raw.get(BUDGET) is not None else None
    for wrong in budget if isinstance(budget, list) else ():
        problems.append(Problem(".".join(filter(None, (BUDGET, wrong.field))), wrong.message))
    return [*problems, *_check_locked(raw.get(LOCKED))]


def budget_of(raw: Mapping[str, Json]) -> Budget | None:
    """The limits that a preset sets for everything below it, if it sets any that can be read."""
    budget = parse(raw[BUDGET]) if raw.get(BUDGET) is not None else None
    return budget if isinstance(budget, Budget) else None


def _check_locked(locked: Json) -> Iterable[Problem]:
    if locked is None:
        return
    if not isinstance(locked, list):
        said = f'{shown(locked)} is not allowed; a list of fields is: ["model", "parameters.n"]'
        yield Problem(LOCKED, said)
        return
    for index, path in enumerate(locked):
        top, _, inner = path.partition(".") if isinstance(path, str) else ("", "", "")
        nested = isinstance(path, str) and "." in path
        if top not in _OF_A_PRESET or (nested and (top not in BY_NAME or not inner)):
            near = closest(path, _OF_A_PRESET) if isinstance(path, str) else ""
            said = f"{shown(path)} is not allowed; a field of a preset is, as parameters.n{near}"
            yield Problem(f"{LOCKED}[{index}]", said)


def merge(layers: Sequence[Layer], locks: Mapping[str, str] | None = None) -> Merged:
    """The layers as one, the first applied first; all but the first are under `locks`, if given."""
    merged = Merged()
    given_locks, locks = locks, merged.locks
    for layer in layers:
        for name, value in layer.raw.items():
            if name in _NOT_INHERITED:
                continue
            if name in BY_NAME and isinstance(value, dict):
                inherited = merged.raw.get(name)
                inner = dict(inherited) if isinstance(inherited, dict) else {}
                for key, given in value.items():
                    _put(merged, locks, layer, inner, key, given, f"{name}.{key}")
                merged.raw[name] = inner
            elif name in BY_NAME and (inside := _locks_inside(locks, name, value)):
                said = f"holds what is locked by {inside}; leave it out of {layer.source}"
                merged.problems.append(Problem(name, said))
            else:
                _put(merged, locks, layer, merged.raw, name, value, name)
        if given_locks is not None:
            locks.update(given_locks)
        locked = layer.raw.get(LOCKED)
        for path in locked if isinstance(locked, list) else ():
            if isinstance(path, str):
                locks.setdefault(path, layer.source)
    return merged


def _locks_inside(locks: Mapping[str, str], name: str, value: Json) -> str | None:
    """Who locked something inside a field that is about to be replaced as a whole."""
    held = (holder for path, holder in locks.items() if path.startswith(f"{name}."))
    return None if isinstance(value, dict) else next(held, None)


def _put(
    merged: Merged,
    locks: Mapping[str, str],
    layer: Layer,
    into: dict[str, Json],
    name: str,
    value: Json,
    path: str,
) -> None:
    holder = locks.get(path) or locks.get(path.partition(".")[0])
    if holder is not None and into.get(name) != value:
        said = f"is locked by {holder}; leave it out of {layer.source}"
        merged.problems.append(Problem(path, said))
        return
    if value is None and name in into:
        del into[name]
        merged.origins.pop(path, None)
        return
    into[name] = value
    merged.origins[path] = layer.source


def origin(path: str, origins: Mapping[str, str]) -> str | None:
    """The file that the value at a path of a problem came from: of `parameters.bbox_list[0]`, the one
    of `parameters.bbox_list`. None if nothing stands there.
    """
    plain = path.partition("[")[0]
    return origins.get(path) or origins.get(plain)
