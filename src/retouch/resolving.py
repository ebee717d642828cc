"""Resolving a sidecar against what lies beside it: which images it means, and whether they will do.

Three steps, so that the caller can note what it waits for in between: `read_drop` reads the sidecar
under its presets and unfolds the jobs that it asks for; `plan` names the objects that one of them
needs; `look_for` finds them and examines them on the versions that are there now, and mends them where
that is asked for. The inbox may be a bucket or a local folder, so `retouch validate` says what the
stack would say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from retouch import fitting, imaging, keys, sidecar
from retouch import presets as presets_
from retouch.budget import Budget, Scopes
from retouch.catalogue import Catalogue
from retouch.fitting import CannotFit, Fitted
from retouch.imaging import ImageFacts, UnreadableImage
from retouch.jobs import Mended, Output, Preset, Source
from retouch.parts import Part, check_step, unfold, without_effect
from retouch.ports import Inbox, Outbox, Stored
from retouch.presets import Layer, Merged, budget_of, merge, origin
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
    scopes: Scopes = ()
    """The budgets of the presets that it comes under, by folder."""
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


@dataclass(frozen=True)
class Reading:
    """A sidecar and the presets above it, read and put together.

    `problems` say why it is refused as a whole; then there are no `parts`.
    """

    key: str
    """Of the sidecar; of an image alone, the one that its sidecar would have."""
    parts: tuple[Part, ...]
    merged: Merged
    presets: tuple[Preset, ...]
    problems: tuple[Problem, ...] = ()
    scopes: Scopes = ()
    """The presets' budgets, by folder."""
    warnings: tuple[Problem, ...] = ()
    """What somebody said that has no effect in any part."""

    @property
    def whole(self) -> bool:
        """Whether nothing that every job needs is left to somebody else: an image alone is a job."""
        fields = ("model", "prompt")
        return bool(self.parts) and all(
            part.raw.get(name) is not None for part in self.parts for name in fields
        )

    def source_of(self, part: Part, path: str) -> str | None:
        """The file that a field of a part came from; None if nobody gave it."""
        entries = self.merged.raw.get(part.path.partition("[")[0])
        entry = entries[part.number] if isinstance(entries, list) else None
        name, _, inner = path.partition("[")[0].partition(".")
        given = entry.get(name) if isinstance(entry, dict) else None
        own = given is not None and (not inner or not isinstance(given, dict) or inner in given)
        return origin(part.path if own else path, self.merged.origins)

    def told(self, part: Part, problem: Problem) -> Problem:
        """A problem of a part as one of the drop: where it stands, and in which file."""
        source = self.source_of(part, problem.field)
        path = ".".join(filter(None, (part.path, problem.field)))
        if source in (None, self.key):
            return Problem(path, problem.message)
        return Problem(path, f"{problem.message} (it stands in {source})")


def read_drop(
    inbox: Inbox, key: str, dropped: Stored, pinned: Sequence[Preset] | None = None
) -> Reading | OurRecord:
    """A version of the sidecar of that key under the presets that apply to it.

    Those are the ones there now, or the `pinned` ones.
    """
    data: bytes | None = None
    if dropped.size <= LARGEST_RECORD:
        data = inbox.read(dropped.key, dropped.version_id)
    if data is not None and is_record(data):
        return OurRecord(key)
    return _read(inbox, key, _json(data, dropped.size, "sidecar"), pinned)


def read_alone(inbox: Inbox, key: str, pinned: Sequence[Preset] | None = None) -> Reading:
    """As `read_drop`, of an image that has no sidecar; `key` is the one that it would have."""
    return _read(inbox, key, None, pinned)


def _read(
    inbox: Inbox,
    key: str,
    own: dict[str, Json] | Problem | None,
    pinned: Sequence[Preset] | None,
) -> Reading:
    problems: list[Problem] = []
    scopes: list[tuple[str, Budget]] = []
    presets: list[Preset] = []
    layers: list[Layer] = []
    for preset, size in _presets(inbox, key, pinned):
        presets.append(preset)
        data = inbox.read(preset.key, preset.version_id) if size <= sidecar.MAX_BYTES else None
        raw = _json(data, size, "preset")
        wrong = [raw] if isinstance(raw, Problem) else presets_.check(raw)
        problems += [
            Problem(" ".join(filter(None, (preset.key, problem.field))), problem.message)
            for problem in wrong
        ]
        if not isinstance(raw, Problem):
            layers.append(Layer(preset.key, raw))
            if (budget := budget_of(raw)) is not None:
                scopes.append((keys.below(preset.key).rstrip("/"), budget))
    if isinstance(own, Problem):
        return Reading(key, (), Merged(), tuple(presets), (own, *problems))
    if own is not None:
        layers.append(Layer(key, own))
        for name in (presets_.LOCKED, presets_.BUDGET):
            if name in own:
                said = "is not a field of a sidecar; it belongs in a _preset.json"
                problems.append(Problem(name, said))
    merged = merge(layers)
    if own is not None and "$schema" in own:
        merged.raw["$schema"] = own["$schema"]
    problems += merged.problems
    parts = unfold(merged)
    found = [part for part in parts if isinstance(part, Part)]
    problems += [problem for problem in parts if isinstance(problem, Problem)]
    return Reading(
        key,
        tuple(found),
        merged,
        tuple(presets),
        tuple(problems),
        tuple(scopes),
        tuple(without_effect(layers, merged, found)) if found else (),
    )


def _presets(
    inbox: Inbox, key: str, pinned: Sequence[Preset] | None
) -> Iterator[tuple[Preset, int]]:
    if pinned is not None:
        yield from ((preset, 0) for preset in pinned)
        return
    for name in keys.presets_above(key):
        stored = inbox.head(name)
        if stored is not None:
            yield Preset(key=name, version_id=stored.version_id), stored.size


def _json(data: bytes | None, size: int, what: str) -> dict[str, Json] | Problem:
    """The JSON object in a file of that size, or what is wrong with it."""
    if size > sidecar.MAX_BYTES:
        said = f"a {what} has at most {sidecar.MAX_BYTES} bytes, this one has {size}"
        return Problem("", said)
    if data is None:
        return Problem("", f"the {what} was deleted before it could be read")
    return sidecar.read(data)


def plan(
    inbox: Inbox,
    reading: Reading,
    part: Part,
    models: Catalogue = MODELS,
    regions: Sequence[str] | None = None,
    *,
    alone: str | None = None,
) -> Plan | list[Problem] | Outranked:
    """What a part of a drop asks for, or why it will not do; `regions` as in `sidecar.check`.

    `alone` is the key of an image that has no sidecar.
    """
    judged, draft = sidecar.judge(part.raw, models=models, regions=regions)
    problems = judged if isinstance(judged, list) else check_step(part, judged.parameters)
    problems = [*reading.problems, *(reading.told(part, problem) for problem in problems)]
    if draft is None:
        return problems
    names: tuple[str | None, ...]
    if part.follows:
        names, places = (), {}
    elif draft.images is not None:
        names = draft.images
        places = {n: f"images[{index}]" for index, n in enumerate(names) if n is not None}
    else:
        found = (f"/{alone}",) if alone is not None else _named_after(inbox, reading.key)
        if isinstance(found, Outranked):
            return found
        if isinstance(found, list):
            return [*problems, *found]
        names = found
        places = dict.fromkeys(found, "images")
    if draft.mask is not None:
        places.setdefault(draft.mask, "mask")
    fields = {
        keys.resolve(reading.key, name): place
        for name, place in places.items()
        if not sidecar.is_url(name)
    }
    needs_image = draft.images is None and not part.follows
    order = None if problems or isinstance(judged, list) else judged
    if order is not None:
        order = replace(order, warnings=(*reading.warnings, *order.warnings))
    return Plan(
        order=order,
        draft=draft,
        names=names,
        wanted=tuple(fields),
        fields=fields,
        problems=tuple(problems),
        scopes=reading.scopes,
        unnamed=f"{keys.image_prefix(reading.key)}*" if needs_image and not names else None,
    )


def check_preset(
    inbox: Inbox, key: str, models: Catalogue = MODELS, regions: Sequence[str] | None = None
) -> list[Problem]:
    """What is wrong with a preset, together with those above it, as far as that can be told."""
    image = f"{keys.below(key)}image.jpg"
    reading = read_alone(inbox, f"{image}.json")
    if reading.problems or not reading.whole:
        return as_far_as_told(reading, models, regions)
    problems: list[Problem] = []
    for part in reading.parts:
        planned = plan(inbox, reading, part, models, regions, alone=image)
        if not isinstance(planned, Outranked):
            problems += planned if isinstance(planned, list) else planned.problems
    return list(dict.fromkeys(problems))


def as_far_as_told(
    reading: Reading, models: Catalogue = MODELS, regions: Sequence[str] | None = None
) -> list[Problem]:
    """What is wrong with presets that leave something to the sidecars, whatever these will say."""
    problems = list(reading.problems)
    for part in reading.parts if not problems else ():
        wrong = sidecar.never_right(part.raw, models=models, regions=regions)
        problems += (reading.told(part, problem) for problem in wrong)
    return list(dict.fromkeys(problems))


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
class Result:
    """What a step works on: an image that the job of the step before made."""

    output: Output
    job_id: str
    outbox: Outbox

    @property
    def stored(self) -> Stored:
        """As an object that a sidecar could name."""
        return Stored(self.output.key, self.output.version_id or "", self.output.size)


def look_at_result(
    inbox: Inbox, key: str, planned: Plan, folder: str, result: Result
) -> Resolution:
    """As `look_for`, of a step that works on a result; its mask, if it has one, lies in the inbox."""
    stored = result.stored
    of_step = replace(planned, names=(f"/{stored.key}",), wanted=(stored.key, *planned.wanted))
    found = look_for(_WithResult(inbox, result), key, of_step, folder)
    found.images = [
        image.model_copy(update={"made_by": result.job_id}) if image.key == stored.key else image
        for image in found.images
    ]
    return found


class _WithResult:
    """The inbox, with one image of the outbox among its objects."""

    def __init__(self, inbox: Inbox, result: Result):
        self._inbox = inbox
        self._result = result

    def head(self, key: str) -> Stored | None:
        """See `retouch.ports.Inbox.head`."""
        return self._result.stored if key == self._result.output.key else self._inbox.head(key)

    def read(self, key: str, version_id: str) -> bytes | None:
        """See `retouch.ports.Inbox.read`."""
        if key == self._result.output.key:
            return self._result.outbox.read(key, self._result.output.version_id)
        return self._inbox.read(key, version_id)

    def keys(self, prefix: str) -> Sequence[str]:
        """See `retouch.ports.Inbox.keys`."""
        return self._inbox.keys(prefix)

    def presign(self, key: str, version_id: str, content_type: str, seconds: int) -> str:
        """See `retouch.ports.Inbox.presign`."""
        return self._inbox.presign(key, version_id, content_type, seconds)


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
