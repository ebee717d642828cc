"""Resolving a sidecar against what lies beside it: which images it means, and whether they will do.

Two steps, so that the caller can note what it waits for in between: `plan` reads the sidecar and names
the objects it needs; `look_for` finds them and examines them on the versions that are there now. The
inbox may be a bucket or a local folder, so `retouch validate` says what the stack would say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from retouch import imaging, keys, sidecar
from retouch.imaging import ImageFacts, UnreadableImage
from retouch.jobs import Source
from retouch.ports import Inbox, Stored
from retouch.registry import DATA_URL_MAX_BYTES, MODELS
from retouch.settings import Delivery
from retouch.sidecar import Order, Problem


@dataclass(frozen=True)
class Plan:
    """A sidecar that passed, and the images it means: names as in the sidecar, keys in the inbox."""

    order: Order
    names: tuple[str, ...]
    wanted: tuple[str, ...]
    """Inbox keys of the images and the mask."""
    unnamed: str | None = None
    """Set where the sidecar is named after an image that is not there: `shoes/red.*`."""


@dataclass(frozen=True)
class Outranked:
    """A sidecar whose image is described by another one, which goes first."""

    image: str
    winner: str

    @property
    def problem(self) -> Problem:
        """In words."""
        return Problem("", f"{self.image} is described by {self.winner}, which goes first")


@dataclass
class Resolution:
    """What became of a plan: problems, or missing keys, or the sources of a complete job."""

    images: list[Source] = field(default_factory=list)
    mask: Source | None = None
    missing: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def plan(inbox: Inbox, dropped: Stored, region: str | None) -> Plan | list[Problem] | Outranked:
    """What a version of a sidecar asks for, or why it will not do."""
    if dropped.size > sidecar.MAX_BYTES:
        said = f"a sidecar has at most {sidecar.MAX_BYTES} bytes, this one has {dropped.size}"
        return [Problem("", said)]
    data = inbox.read(dropped.key, dropped.version_id)
    if data is None:
        return [Problem("", "the sidecar was deleted before it could be read")]
    raw = sidecar.read(data)
    if isinstance(raw, Problem):
        return [raw]
    order = sidecar.check(raw, region=region)
    if isinstance(order, list):
        return order
    names = order.images if order.images is not None else _named_after(inbox, dropped.key)
    if not isinstance(names, tuple):
        return names
    needed = [name for name in (*names, order.mask) if name and not sidecar.is_url(name)]
    return Plan(
        order=order,
        names=names,
        wanted=tuple(dict.fromkeys(keys.resolve(dropped.key, name) for name in needed)),
        unnamed=f"{keys.image_prefix(dropped.key)}*"
        if order.images is None and not names
        else None,
    )


def _named_after(inbox: Inbox, key: str) -> tuple[str, ...] | list[Problem] | Outranked:
    """The image that a sidecar is named after: one, none yet, or the problem with it."""
    named = keys.image_named_by(key)
    if named is not None:
        return (f"/{named}",)
    prefix = keys.image_prefix(key)
    found = [
        candidate
        for candidate in inbox.keys(prefix)
        if keys.is_image_name(candidate) and keys.stem(candidate) == prefix[:-1]
    ]
    if len(found) > 1:
        said = f"is missing, and the sidecar's name could mean {' or '.join(found)}; name one"
        return [Problem("images", said)]
    if found and (winner := inbox.head(f"{found[0]}.json")) is not None:
        return Outranked(found[0], winner.key)
    return tuple(f"/{candidate}" for candidate in found)


def look_for(inbox: Inbox, key: str, planned: Plan, delivery: Delivery) -> Resolution:
    """Find and examine the images of the sidecar of that key."""
    there = {want: stored for want in planned.wanted if (stored := inbox.head(want)) is not None}
    missing = tuple(want for want in planned.wanted if want not in there)
    if missing or planned.unnamed is not None:
        return Resolution(missing=missing or (planned.unnamed or "",))
    return _Examination(inbox, key, planned, delivery, there).run()


@dataclass
class _Examination:
    """Every image of a plan held against its model's rules."""

    inbox: Inbox
    key: str
    planned: Plan
    delivery: Delivery
    there: Mapping[str, Stored]
    found: Resolution = field(default_factory=Resolution)

    def run(self) -> Resolution:
        order = self.planned.order
        model = MODELS[order.model]
        facts: list[ImageFacts | None] = []
        for index, name in enumerate(self.planned.names):
            field_ = f"images[{index}]" if order.images is not None else "image"
            source, seen, _ = self._examine(name, field_)
            facts.append(seen)
            if source is not None:
                self.found.images.append(source)
        boxes = order.parameters.get("bbox_list")
        self.found.problems += imaging.check_boxes(boxes, facts, model)
        if order.mask is not None:
            source, _, data = self._examine(order.mask, "mask")
            self.found.mask = source
            base = facts[0] if facts else None
            if data is not None and source is not None:
                self.found.problems += imaging.check_mask(data, source.key, base)
        return self.found

    def _examine(
        self, name: str, field_: str
    ) -> tuple[Source | None, ImageFacts | None, bytes | None]:
        """An image as a source, its facts and its bytes; None for what is not to be had."""
        if sidecar.is_url(name):
            return Source(key=name), None, None
        stored = self.there[keys.resolve(self.key, name)]
        data = self._read(stored, field_)
        if data is None:
            return None, None, None
        try:
            seen = imaging.look(data)
        except UnreadableImage as error:
            self.found.problems.append(Problem(field_, f'"{stored.key}" is {error}'))
            return None, None, None
        rules = MODELS[self.planned.order.model].images
        problems, notes = imaging.check_image(seen, rules, field_, stored.key)
        self.found.problems += problems
        self.found.warnings += notes
        source = Source(
            key=stored.key,
            version_id=stored.version_id,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            mime=seen.mime,
            width=seen.width,
            height=seen.height,
        )
        return source, seen, data if not problems else None

    def _read(self, stored: Stored, field_: str) -> bytes | None:
        most = MODELS[self.planned.order.model].images.max_bytes
        if self.delivery is Delivery.INLINE:
            most = min(most, DATA_URL_MAX_BYTES)
        if stored.size > most:
            said = f'"{stored.key}" has {stored.size} bytes; at most {most} are allowed'
            self.found.problems.append(Problem(field_, said))
            return None
        data = self.inbox.read(stored.key, stored.version_id)
        if data is None:
            said = f'"{stored.key}" was deleted before it could be read'
            self.found.problems.append(Problem(field_, said))
        return data
