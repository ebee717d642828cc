"""Local files as an inbox, so that `validate` and `drop` say what the stack would say."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retouch import imaging, keys
from retouch.catalogue import Catalogue
from retouch.imaging import UnreadableImage
from retouch.ports import Stored
from retouch.registry import MODELS
from retouch.resolving import (
    OurRecord,
    Plan,
    Reading,
    check_preset,
    look_for,
    plan,
    read_alone,
    read_drop,
)
from retouch.sidecar import Problem

_LOCAL = "local"


class FolderInbox:
    """`retouch.ports.Inbox` on a folder; keys are paths below it, and versions do not exist."""

    def __init__(self, root: Path):
        self._root = root

    def head(self, key: str) -> Stored | None:
        """See `retouch.ports.Inbox.head`."""
        path = self._root / key
        return Stored(key, _LOCAL, path.stat().st_size) if path.is_file() else None

    def read(self, key: str, version_id: str) -> bytes | None:
        """See `retouch.ports.Inbox.read`."""
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None

    def keys(self, prefix: str) -> Sequence[str]:
        """See `retouch.ports.Inbox.keys`."""
        folder, slash, start = prefix.rpartition("/")
        entries = (self._root / folder).iterdir() if (self._root / folder).is_dir() else ()
        names = sorted(p.name for p in entries if p.is_file() and p.name.startswith(start))
        return [f"{folder}{slash}{name}" for name in names]

    def presign(self, key: str, version_id: str, content_type: str, seconds: int) -> str:
        """A folder signs nothing."""
        raise NotImplementedError("a local folder has no URLs")


@dataclass(frozen=True)
class Found:
    """A file to drop or to check: where it is, and its key below the inbox root."""

    path: Path
    root: Path
    key: str


@dataclass
class Verdict:
    """What is to be said about one file."""

    path: str
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    says: str = ""
    """What the file is, where it is fine."""
    uses: set[str] = field(default_factory=set)
    """Keys of the images that it names, of a sidecar."""


def collect(paths: Iterable[Path]) -> Iterator[Found | Verdict]:
    """The files that paths mean: files as they are, folders with all that is in them.

    Below a folder, keys are relative to it. Ignored names are left out; a path that cannot be read
    is a verdict.
    """
    for path in paths:
        if path.is_dir():
            if not any(inner.is_file() for inner in path.rglob("*")):
                yield Verdict(str(path), [Problem("", "holds no files")])
            for inner in sorted(path.rglob("*")):
                key = inner.relative_to(path).as_posix()
                if inner.is_file() and keys.classify(key) is not keys.Kind.IGNORED:
                    yield from _readable(Found(inner, path, key))
        elif path.is_file():
            yield from _readable(Found(path, path.parent, path.name))
        else:
            said = (
                "is neither a file nor a folder"
                if path.exists()
                else "there is no such file or folder"
            )
            yield Verdict(str(path), [Problem("", said)])


def _readable(found: Found) -> Iterator[Found | Verdict]:
    try:
        with found.path.open("rb"):
            yield found
    except OSError as error:
        said = f"cannot be read: {error.strerror or type(error).__name__}"
        yield Verdict(str(found.path), [Problem("", said)])


def check(
    found: Found,
    *,
    missing_is_wrong: bool,
    models: Catalogue = MODELS,
    regions: Sequence[str] | None = None,
) -> Verdict:
    """What is wrong with a file: a sidecar with its images, a preset, or an image."""
    verdict = Verdict(str(found.path))
    inbox = FolderInbox(found.root)
    match keys.classify(found.key):
        case keys.Kind.SIDECAR:
            dropped = inbox.head(found.key)
            if dropped is None:
                verdict.problems.append(Problem("", "there is no such file"))
            else:
                reading = read_drop(inbox, found.key, dropped)
                if isinstance(reading, OurRecord):
                    verdict.warnings.append(reading.problem)
                    return verdict
                _check_drop(found, inbox, reading, verdict, missing_is_wrong, models, regions)
        case keys.Kind.PRESET:
            verdict.problems += check_preset(inbox, found.key, models, regions)
            below = read_alone(inbox, f"{keys.below(found.key)}image.jpg.json")
            verdict.warnings += below.warnings
            verdict.says = (
                "a preset; an image alone below it is a job"
                if below.whole
                else "a preset; a sidecar has to say the rest"
            )
        case _:
            _check_image(found, inbox, verdict, models, regions)
    return verdict


def _check_image(
    found: Found,
    inbox: FolderInbox,
    verdict: Verdict,
    models: Catalogue,
    regions: Sequence[str] | None,
) -> None:
    try:
        facts = imaging.look(found.path.read_bytes())
        verdict.says = f"{facts.format}, {facts.width}×{facts.height}"
    except UnreadableImage as error:
        verdict.problems.append(Problem("", f"is neither a sidecar (.json) nor an image: {error}"))
        return
    if any(inbox.head(name) is not None for name in keys.sidecars_of(found.key)):
        return
    reading = read_alone(inbox, f"{found.key}.json")
    alone = reading.whole and not reading.problems and keys.is_image_name(found.key)
    if alone and not keys.is_mask_name(found.key):
        seen, says = found.key, verdict.says
        _check_drop(found, inbox, reading, verdict, True, models, regions, alone=seen)
        by = ", ".join(preset.key for preset in reading.presets)
        verdict.says = f"{says}; a job by {by}: {verdict.says}"


def _check_drop(
    found: Found,
    inbox: FolderInbox,
    reading: Reading,
    verdict: Verdict,
    missing_is_wrong: bool,
    models: Catalogue,
    regions: Sequence[str] | None,
    *,
    alone: str | None = None,
) -> None:
    says: list[str] = []
    verdict.problems += reading.problems
    for part in reading.parts:
        planned = plan(inbox, reading, part, models, regions, alone=alone)
        if not isinstance(planned, Plan):
            verdict.problems += planned if isinstance(planned, list) else [planned.problem]
            continue
        verdict.problems += planned.problems
        verdict.uses.update(planned.wanted if alone is None else ())
        name = part.variant or ("" if part.step is None else f"step {part.step}")
        says.append(f"{name}: " if name else "")
        if not part.follows:
            says[-1] += _check_images(found, inbox, reading, planned, verdict, missing_is_wrong)
        elif planned.order is not None:
            says[-1] += _summary(planned, 1)
    verdict.problems[:] = dict.fromkeys(verdict.problems)
    verdict.warnings[:] = dict.fromkeys(verdict.warnings)
    verdict.says = "; ".join(says)


def _check_images(
    found: Found,
    inbox: FolderInbox,
    reading: Reading,
    planned: Plan,
    verdict: Verdict,
    missing_is_wrong: bool,
) -> str:
    """Look at the images of a job; what it is, in short."""
    folder = keys.outbox_folder(reading.key)
    resolved = look_for(inbox, reading.key, planned, folder, partly=True)
    verdict.problems += resolved.problems
    verdict.warnings += resolved.warnings
    for key in resolved.missing:
        said = f'"{key}" is not there; looked below {found.root}'
        if planned.unnamed == key and planned.draft.model.images.counts[-1].least == 0:
            said += '; for none at all say "images": []'
        elif near := _near(inbox, key):
            said += f'; did you mean "{near}"?'
        problem = Problem(planned.fields.get(key, "images"), said)
        (verdict.problems if missing_is_wrong else verdict.warnings).append(problem)
    if planned.order is None:
        return ""
    verdict.warnings += planned.order.warnings
    says = _summary(planned, len(planned.names))
    for source in (*resolved.images, resolved.mask):
        if source is not None and source.mended is not None:
            says += f"; {source.key}: {', '.join(source.mended.changes)}"
    return says


def _summary(planned: Plan, images: int) -> str:
    order = planned.order
    if order is None:
        return ""
    function = f" {order.function}" if order.function else ""
    count = planned.draft.model.most_images(order.parameters, images > 0)
    return f"{order.model}{function}, {images} in, {count} out"


def _near(inbox: FolderInbox, key: str) -> str | None:
    """A file in the same folder whose name is nearly that one."""
    folder, slash, _ = key.rpartition("/")
    there = {name.lower(): name for name in inbox.keys(folder + slash) if keys.is_image_name(name)}
    found = difflib.get_close_matches(key.lower(), there, n=1, cutoff=0.7)
    return there[found[0]] if found else None
