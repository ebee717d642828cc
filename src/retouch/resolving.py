"""Resolving a sidecar against what lies beside it: which images it means, and whether they will do.

Two steps, so that the caller can note what it waits for in between: `plan` reads the sidecar and names
the objects it needs; `look_for` finds them and examines them on the versions that are there now, and
mends them where the sidecar asks for it. The inbox may be a bucket or a local folder, so `retouch
validate` says what the stack would say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from retouch import fitting, imaging, keys, sidecar
from retouch.catalogue import Catalogue
from retouch.fitting import CannotFit, Fitted
from retouch.imaging import ImageFacts, UnreadableImage
from retouch.jobs import Mended, Source
from retouch.ports import Inbox, Stored
from retouch.registry import MODELS, Json, Model
from retouch.sidecar import Order, Problem

_DIRECTED: Final = ("expand",)
"""Functions whose parameters mean a side of the image."""


@dataclass(frozen=True)
class Plan:
    """A sidecar that passed, and the images it means: names as in the sidecar, keys in the inbox."""

    order: Order
    model: Model
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
    mended: dict[str, bytes] = field(default_factory=dict)
    """What is to be sent in place of images that were mended, by its key in the outbox."""
    parameters: dict[str, Json] = field(default_factory=dict)
    """Parameters that had to follow what was mended, in place of the sidecar's."""
    missing: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def plan(
    inbox: Inbox,
    dropped: Stored,
    models: Catalogue = MODELS,
    regions: Sequence[str] | None = None,
) -> Plan | list[Problem] | Outranked:
    """What a version of a sidecar asks for, or why it will not do; `regions` as in `sidecar.check`."""
    if dropped.size > sidecar.MAX_BYTES:
        said = f"a sidecar has at most {sidecar.MAX_BYTES} bytes, this one has {dropped.size}"
        return [Problem("", said)]
    data = inbox.read(dropped.key, dropped.version_id)
    if data is None:
        return [Problem("", "the sidecar was deleted before it could be read")]
    raw = sidecar.read(data)
    if isinstance(raw, Problem):
        return [raw]
    order = sidecar.check(raw, models=models, regions=regions)
    if isinstance(order, list):
        return order
    names = order.images if order.images is not None else _named_after(inbox, dropped.key)
    if not isinstance(names, tuple):
        return names
    needed = [name for name in (*names, order.mask) if name and not sidecar.is_url(name)]
    return Plan(
        order=order,
        model=models[order.model],
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


def look_for(inbox: Inbox, key: str, planned: Plan, folder: str) -> Resolution:
    """Find and examine the images of the sidecar of that key, whose results go to `folder`."""
    there = {want: stored for want in planned.wanted if (stored := inbox.head(want)) is not None}
    missing = tuple(want for want in planned.wanted if want not in there)
    if missing or planned.unnamed is not None:
        return Resolution(missing=missing or (planned.unnamed or "",))
    return _Examination(inbox, key, planned, folder, there).run()


@dataclass(frozen=True)
class _Seen:
    """An image that was read: what it is as dropped, and as mended where it had to be."""

    source: Source
    data: bytes
    facts: ImageFacts
    fitted: Fitted | None = None


@dataclass
class _Examination:
    """Every image of a plan held against its model's rules."""

    inbox: Inbox
    key: str
    planned: Plan
    folder: str
    there: Mapping[str, Stored]
    found: Resolution = field(default_factory=Resolution)

    def run(self) -> Resolution:
        order = self.planned.order
        boxes = order.parameters.get("bbox_list")
        placed = order.mask is not None or bool(boxes) or order.function in _DIRECTED
        seen: list[_Seen | None] = []
        for index, name in enumerate(self.planned.names):
            if sidecar.is_url(name):
                self.found.images.append(Source(key=name))
                seen.append(None)
                continue
            field_ = f"images[{index}]" if order.images is not None else "image"
            image = self._image(name, field_, f"image-{index + 1}", placed)
            seen.append(image)
            if image is not None:
                self.found.images.append(image.source)
        facts = [None if image is None else image.facts for image in seen]
        self.found.problems += imaging.check_boxes(boxes, facts, self.planned.model)
        if isinstance(boxes, list) and not self.found.problems:
            self._move_boxes(boxes, seen)
        if order.mask is not None:
            self._mask(order.mask, seen[0] if seen else None)
        return self.found

    def _image(self, name: str, field_: str, sent_as: str, placed: bool) -> _Seen | None:
        """An image, mended where that was asked for; None where it will not do."""
        image = self._read(name, field_)
        if image is None:
            return None
        rules = self.planned.model.images
        fitted: Fitted | None = None
        if self.planned.order.fit:
            try:
                fitted = fitting.fit_image(image.data, image.facts, rules)
            except (UnreadableImage, CannotFit) as error:
                self._refuse(field_, image.source.key, error)
                return None
        facts = image.facts if fitted is None else fitted.facts
        problems, notes = imaging.check_image(
            facts,
            rules,
            field_,
            image.source.key,
            placed=placed,
            hint=not self.planned.order.fit,
        )
        self.found.problems += problems
        self.found.warnings += notes
        if problems:
            return None
        return image if fitted is None else self._mended(image, fitted, sent_as)

    def _mask(self, name: str, base: _Seen | None) -> None:
        if sidecar.is_url(name):
            self.found.mask = Source(key=name)
            return
        mask = self._read(name, "mask")
        if mask is None:
            return
        rules = self.planned.model.images
        key = mask.source.key
        if not self.planned.order.fit or base is None:
            hint = not self.planned.order.fit
            problems, notes = imaging.check_image(
                mask.facts, rules, "mask", key, placed=True, hint=hint
            )
            if not problems:
                facts = base.facts if base is not None else None
                problems = imaging.check_mask(mask.data, key, facts, hint=hint)
            self.found.problems += problems
            self.found.warnings += notes
            self.found.mask = mask.source
            return
        try:
            fitted = fitting.fit_mask(mask.data, mask.facts, base.facts, base.fitted)
        except (UnreadableImage, CannotFit) as error:
            self._refuse("mask", key, error)
            return
        problems, notes = imaging.check_image(
            fitted.facts, rules, "mask", key, placed=True, hint=False
        )
        self.found.problems += problems
        self.found.warnings += notes
        mended = self._mended(mask, fitted, "mask") if fitted.changes else mask
        self.found.mask = mended.source

    def _mended(self, image: _Seen, fitted: Fitted, sent_as: str) -> _Seen:
        facts = fitted.facts
        suffix = ".jpg" if facts.format == "JPEG" else f".{facts.format.lower()}"
        key = keys.sent_key(self.folder, sent_as, suffix)
        self.found.mended[key] = fitted.data
        mended = Mended(
            key=key,
            version_id=None,
            sha256=hashlib.sha256(fitted.data).hexdigest(),
            size=len(fitted.data),
            mime=facts.mime,
            width=facts.width,
            height=facts.height,
            changes=fitted.changes,
        )
        source = image.source.model_copy(update={"mended": mended})
        return _Seen(source, image.data, image.facts, fitted)

    def _move_boxes(self, boxes: list[Json], seen: Sequence[_Seen | None]) -> None:
        """Boxes are meant in the image as it was dropped; those of a shrunk one shrink with it."""
        moved = [
            fitting.fit_boxes(of_image, image.fitted)
            if image is not None and image.fitted is not None
            else of_image
            for of_image, image in zip(boxes, seen, strict=True)
        ]
        if moved != boxes:
            self.found.parameters["bbox_list"] = moved
            said = "the boxes were moved with images that were mended; job.json has them as sent"
            self.found.warnings.append(Problem("parameters.bbox_list", said))

    def _read(self, name: str, field_: str) -> _Seen | None:
        stored = self.there[keys.resolve(self.key, name)]
        rules = self.planned.model.images
        fit = self.planned.order.fit
        most = max(rules.max_bytes, imaging.FIT_MAX_BYTES) if fit else rules.max_bytes
        if stored.size > most:
            said = (
                f'"{stored.key}" has {imaging.shown_size(stored.size)}; at most '
                f"{imaging.shown_size(most)} are allowed"
            )
            if not fit and stored.size <= imaging.FIT_MAX_BYTES:
                said += '; "fit": true would shrink it'
            self.found.problems.append(Problem(field_, said))
            return None
        data = self.inbox.read(stored.key, stored.version_id)
        if data is None:
            said = f'"{stored.key}" was deleted before it could be read'
            self.found.problems.append(Problem(field_, said))
            return None
        try:
            facts = imaging.look(data)
        except UnreadableImage as error:
            self._refuse(field_, stored.key, error)
            return None
        source = Source(
            key=stored.key,
            version_id=stored.version_id,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            mime=facts.mime,
            width=facts.width,
            height=facts.height,
        )
        return _Seen(source, data, facts)

    def _refuse(self, field_: str, key: str, error: UnreadableImage | CannotFit) -> None:
        said = f"is {error}" if isinstance(error, UnreadableImage) else str(error)
        self.found.problems.append(Problem(field_, f'"{key}" {said}'))
