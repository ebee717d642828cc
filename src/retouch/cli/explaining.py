"""What a sidecar, or an image alone, comes to: each value and the file that it came from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from retouch import keys, sidecar
from retouch.catalogue import Catalogue
from retouch.cli.connection import Connection
from retouch.parts import Part
from retouch.ports import Inbox, Stored
from retouch.registry import Json
from retouch.resolving import (
    OurRecord,
    Outranked,
    Plan,
    Reading,
    as_far_as_told,
    check_preset,
    plan,
    read_alone,
    read_drop,
)
from retouch.sidecar import Order, Problem

DEFAULT: Final = "default"
"""Stands in place of a file where nobody said anything."""
_SHOWN: Final = (
    "model",
    "function",
    "region",
    "call",
    "prompt",
    "negative_prompt",
    "mask",
    "fit",
    "priority",
)


@dataclass(frozen=True)
class Value:
    """A field of a job: its path, its value, and the key of the file that it came from."""

    path: str
    value: Json
    source: str


@dataclass
class Explained:
    """One job: the variant or step that it is, its values, what is wrong with it, and what is odd."""

    name: str
    values: list[Value] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


@dataclass
class Explanation:
    """What a key comes to: its presets, and its jobs; none where it is none by itself."""

    key: str
    presets: list[str]
    jobs: list[Explained]
    problems: list[Problem]
    says: str = ""


def explain(
    inbox: Inbox, key: str, models: Catalogue, regions: Sequence[str] | None
) -> Explanation | None:
    """What lies under that key comes to; None if nothing does."""
    stored = inbox.head(key)
    if stored is None:
        return None
    kind = keys.classify(key)
    if kind is keys.Kind.SIDECAR:
        return _of_sidecar(inbox, key, stored, models, regions)
    if kind is keys.Kind.PRESET:
        said = "a preset: it is explained by what lies below it"
        wrong = check_preset(inbox, key, models, regions)
        return Explanation(key, [], [], wrong, said)
    if kind is keys.Kind.IGNORED:
        return Explanation(key, [], [], [], "ignored, by its name")
    for name in keys.sidecars_of(key):
        described = inbox.head(name)
        if described is not None:
            return _of_sidecar(inbox, name, described, models, regions)
    reading = read_alone(inbox, f"{key}.json")
    found = _explained(inbox, key, reading, models, regions, key)
    if not reading.whole or not keys.is_image_name(key) or keys.is_mask_name(key):
        found.says = "no job by itself: it waits for a sidecar"
        found.jobs, found.problems = [], list(reading.problems)
        if not reading.whole:
            found.problems = as_far_as_told(reading, models, regions)
    return found


class Remembered:
    """An inbox that is asked for each object once: for a drop of many files under the same presets."""

    def __init__(self, inbox: Inbox) -> None:
        self.head = cache(inbox.head)
        self.read = cache(inbox.read)
        self.keys = inbox.keys
        self.presign = inbox.presign


def is_job(connection: Connection, inbox: Inbox, key: str, going_up: Collection[str]) -> bool:
    """Whether an object makes a job by itself: a sidecar, or an image alone under presets.

    `going_up` are the keys that are dropped with it.
    """
    kind = keys.classify(key)
    if kind is keys.Kind.SIDECAR:
        return True
    sidecars = keys.sidecars_of(key)
    if kind is not keys.Kind.IMAGE or any(
        name in going_up or inbox.head(name) is not None for name in sidecars
    ):
        return False
    found = explain(inbox, key, connection.models, connection.regions)
    # Under presets with mistakes it waits, and has no job.
    wrong = found is None or found.problems or any(job.problems for job in found.jobs)
    return found is not None and bool(found.jobs) and not wrong


def is_alone(
    connection: Connection,
    inbox: Inbox,
    key: str,
    going_up: Collection[str],
    named: Collection[str],
) -> bool:
    """Whether an object that makes no job by itself is an image to edit that no sidecar describes.

    `going_up` are the keys that are dropped with it, `named` the images that sidecars among them name.
    """
    image = keys.classify(key) is keys.Kind.IMAGE and keys.is_image_name(key)
    if not image or keys.is_mask_name(key) or key in named or connection.store.awaiting(key):
        return False
    return not any(
        name in going_up or inbox.head(name) is not None for name in keys.sidecars_of(key)
    )


def _of_sidecar(
    inbox: Inbox,
    key: str,
    stored: Stored,
    models: Catalogue,
    regions: Sequence[str] | None,
) -> Explanation:
    reading = read_drop(inbox, key, stored)
    if isinstance(reading, OurRecord):
        return Explanation(key, [], [], [], reading.problem.message)
    return _explained(inbox, key, reading, models, regions, None)


def _explained(
    inbox: Inbox,
    key: str,
    reading: Reading,
    models: Catalogue,
    regions: Sequence[str] | None,
    alone: str | None,
) -> Explanation:
    jobs = []
    for part in reading.parts:
        planned = plan(inbox, reading, part, models, regions, alone=alone)
        name = part.variant or ("" if part.step is None else f"step {part.step} of {part.steps}")
        job = Explained(name)
        if isinstance(planned, Outranked):
            job.problems.append(planned.problem)
        else:
            job.problems += planned if isinstance(planned, list) else planned.problems
        order = planned.order if isinstance(planned, Plan) else None
        job.values += _values(reading, part, order)
        job.warnings += () if order is None else order.warnings
        if isinstance(planned, Plan):
            images: list[Json] = [name.removeprefix("/") for name in planned.names if name]
            if part.follows:
                images = [f"the result of step {(part.step or 1) - 1}"]
            if alone is None:
                job.warnings += _missing(inbox, planned)
            source = reading.source_of(part, "images") or "the name"
            job.values.append(Value("images", images, DEFAULT if part.follows else source))
        job.problems = [p for p in job.problems if p not in reading.problems]
        jobs.append(job)
    presets = [preset.key for preset in reading.presets]
    return Explanation(key, presets, jobs, list(reading.problems))


def _missing(inbox: Inbox, planned: Plan) -> Iterator[Problem]:
    """What a sidecar waits for."""
    for key in planned.wanted:
        if inbox.head(key) is None:
            yield Problem(planned.fields[key], f'"{key}" is not there; it waits for that')
    if planned.unnamed is not None:
        yield Problem("images", f'"{planned.unnamed}" is not there; it waits for that')


def _values(reading: Reading, part: Part, order: Order | None) -> Iterator[Value]:
    """Every field that has a value, those that retouch fills in among them."""
    final: dict[str, Any] = dict(part.raw)
    if order is not None:
        final |= {name: getattr(order, name) for name in _SHOWN}
        final["parameters"] = dict(order.parameters)
        final["labels"] = dict(order.labels)
    for name in _SHOWN:
        if final.get(name) is not None:
            yield Value(name, final[name], reading.source_of(part, name) or DEFAULT)
    for group in ("parameters", "labels"):
        inner = final.get(group)
        for name, value in inner.items() if isinstance(inner, dict) else ():
            path = f"{group}.{name}"
            yield Value(path, value, reading.source_of(part, path) or DEFAULT)


def shown(value: Json) -> str:
    """A value as a sidecar would have it, on one line."""
    return sidecar.shown(value, 200)
