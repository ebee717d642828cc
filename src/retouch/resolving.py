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

from retouch import fitting, imaging, keys, sidecar
from retouch.catalogue import Catalogue
from retouch.fitting import CannotFit, Fitted
from retouch.imaging import ImageFacts, UnreadableImage
from retouch.jobs import Mended, Source
from retouch.ports import Inbox, Stored
from retouch.registry import MODELS, Json
from retouch.runaway import LARGEST_RECORD, is_record
from retouch.sidecar import Draft, Order, Problem


@dataclass(frozen=True)
class Plan:
    """A sidecar that was read, and the images it means: names as in the sidecar, keys in the inbox.

    `order` is None where `problems` say why it is refused; its images are examined all the same, so
    that everything is said at once.
    """

    order: Order | None
    draft: Draft
    names: tuple[str | None, ...]
    """None stands for a name that is refused, so that the others keep their places."""
    wanted: tuple[str, ...]
    """Inbox keys of the images and the mask."""
    fields: Mapping[str, str]
    """The field that names each of them."""
    problems: tuple[Problem, ...] = ()
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


@dataclass(frozen=True)
class OurRecord:
    """No sidecar, but a record that retouch wrote into an outbox; it is ignored."""

    key: str

    @property
    def problem(self) -> Problem:
        """In words."""
        return Problem("", "this is a record of retouch from an outbox, no sidecar; it is ignored")


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
) -> Plan | list[Problem] | Outranked | OurRecord:
    """What a version of a sidecar asks for, or why it will not do; `regions` as in `sidecar.check`."""
    if dropped.size > LARGEST_RECORD:
        said = f"a sidecar has at most {sidecar.MAX_BYTES} bytes, this one has {dropped.size}"
        return [Problem("", said)]
    data = inbox.read(dropped.key, dropped.version_id)
    if data is None:
        return [Problem("", "the sidecar was deleted before it could be read")]
    if is_record(data):
        return OurRecord(dropped.key)
    raw = sidecar.read(data)
    if isinstance(raw, Problem):
        return [raw]
    judged, draft = sidecar.judge(raw, models=models, regions=regions)
    problems = judged if isinstance(judged, list) else []
    if draft is None:
        return problems
    names: tuple[str | None, ...]
    if draft.images is not None:
        names = draft.images
        places = {n: f"images[{index}]" for index, n in enumerate(names) if n is not None}
    else:
        found = _named_after(inbox, dropped.key)
        if isinstance(found, Outranked):
            return found
        if isinstance(found, list):
            return [*problems, *found]
        names = found
        places = dict.fromkeys(found, "images")
    if draft.mask is not None:
        places.setdefault(draft.mask, "mask")
    fields = {
        keys.resolve(dropped.key, name): place
        for name, place in places.items()
        if not sidecar.is_url(name)
    }
    return Plan(
        order=None if isinstance(judged, list) else judged,
        draft=draft,
        names=names,
        wanted=tuple(fields),
        fields=fields,
        problems=tuple(problems),
        unnamed=f"{keys.image_prefix(dropped.key)}*"
        if draft.images is None and not names
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


def look_for(
    inbox: Inbox, key: str, planned: Plan, folder: str, *, partly: bool = False
) -> Resolution:
    """Find and examine the images of the sidecar of that key, whose results go to `folder`.

    Where one is missing the others are not looked at, unless `partly` asks for what can be told.
    """
    there = {want: stored for want in planned.wanted if (stored := inbox.head(want)) is not None}
    missing = tuple(want for want in planned.wanted if want not in there)
    if planned.unnamed is not None:
        missing = missing or (planned.unnamed,)
    if missing and not partly:
        return Resolution(missing=missing)
    found = _Examination(inbox, key, planned, folder, there).run()
    found.missing = missing
    return found


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
        draft = self.planned.draft
        directed = draft.function is not None and draft.function.placed
        placed = draft.mask is not None or bool(draft.boxes) or directed
        seen: list[_Seen | None] = []
        for index, name in enumerate(self.planned.names):
            if name is None:
                seen.append(None)
                continue
            if sidecar.is_url(name):
                self.found.images.append(Source(key=name))
                seen.append(None)
                continue
            field_ = f"images[{index}]" if draft.images is not None else "images"
            image = self._read(name, field_)
            if image is not None:
                image = self._as_sent(image, field_, f"image-{index + 1}", placed)
                self.found.images.append(image.source)
            seen.append(image)
        facts = [None if image is None else image.facts for image in seen]
        self.found.problems += imaging.check_boxes(draft.boxes, facts, draft.model)
        passed = self.planned.order is not None and not self.found.problems
        if isinstance(draft.boxes, list) and passed:
            self._move_boxes(draft.boxes, seen)
        if draft.mask is not None:
            self._mask(draft.mask, seen[0] if seen else None)
        return self.found

    def _as_sent(self, image: _Seen, field_: str, sent_as: str, placed: bool) -> _Seen:
        """An image, mended where that was asked for; what is wrong with it is noted."""
        rules, fit = self.planned.draft.model.images, self.planned.draft.fit
        fitted: Fitted | None = None
        if fit:
            try:
                fitted = fitting.fit_image(image.data, image.facts, rules)
            except (UnreadableImage, CannotFit) as error:
                self._refuse(field_, image.source.key, error)
                return image
        facts = image.facts if fitted is None else fitted.facts
        problems, notes = imaging.check_image(
            facts, rules, field_, image.source.key, placed=placed, hint=not fit
        )
        self.found.problems += problems
        self.found.warnings += notes
        return image if fitted is None or problems else self._mended(image, fitted, sent_as)

    def _mask(self, name: str, base: _Seen | None) -> None:
        if sidecar.is_url(name):
            self.found.mask = Source(key=name)
            return
        mask = self._read(name, "mask")
        if mask is None:
            return
        rules, fit = self.planned.draft.model.images, self.planned.draft.fit
        key = mask.source.key
        if not fit or base is None:
            problems, notes = imaging.check_image(
                mask.facts, rules, "mask", key, placed=True, hint=not fit
            )
            if not problems:
                facts = base.facts if base is not None else None
                problems = imaging.check_mask(mask.data, key, facts, hint=not fit)
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
        stored = self.there.get(keys.resolve(self.key, name))
        if stored is None:
            return None
        rules, fit = self.planned.draft.model.images, self.planned.draft.fit
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
