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
from retouch.resolving import OurRecord, Plan, look_for, plan
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
    """What is wrong with a file: a sidecar with its images, or an image."""
    verdict = Verdict(str(found.path))
    if keys.classify(found.key) is keys.Kind.SIDECAR:
        _check_sidecar(found, verdict, missing_is_wrong, models, regions)
        return verdict
    try:
        facts = imaging.look(found.path.read_bytes())
        verdict.says = f"{facts.format}, {facts.width}×{facts.height}"
    except UnreadableImage as error:
        verdict.problems.append(Problem("", f"is neither a sidecar (.json) nor an image: {error}"))
    return verdict


def _check_sidecar(
    found: Found,
    verdict: Verdict,
    missing_is_wrong: bool,
    models: Catalogue,
    regions: Sequence[str] | None,
) -> None:
    inbox = FolderInbox(found.root)
    dropped = inbox.head(found.key)
    if dropped is None:
        verdict.problems.append(Problem("", "there is no such file"))
        return
    planned = plan(inbox, dropped, models, regions)
    if isinstance(planned, OurRecord):
        verdict.warnings.append(planned.problem)
        return
    if not isinstance(planned, Plan):
        verdict.problems += planned if isinstance(planned, list) else [planned.problem]
        return
    verdict.problems += planned.problems
    resolved = look_for(inbox, found.key, planned, keys.outbox_folder(found.key), partly=True)
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
    order = planned.order
    if order is None:
        return
    verdict.warnings += order.warnings
    function = f" {order.function}" if order.function else ""
    count = planned.draft.model.most_images(order.parameters, bool(planned.names))
    verdict.says = f"{order.model}{function}, {len(planned.names)} in, {count} out"
    for source in (*resolved.images, resolved.mask):
        if source is not None and source.mended is not None:
            verdict.says += f"; {source.key}: {', '.join(source.mended.changes)}"


def _near(inbox: FolderInbox, key: str) -> str | None:
    """A file in the same folder whose name is nearly that one."""
    folder, slash, _ = key.rpartition("/")
    there = {name.lower(): name for name in inbox.keys(folder + slash) if keys.is_image_name(name)}
    found = difflib.get_close_matches(key.lower(), there, n=1, cutoff=0.7)
    return there[found[0]] if found else None
