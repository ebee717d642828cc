"""Taking files in: which of a folder's files are dropped, and which are not.

The rules. A file is dropped once it stands still. The same bytes under the same name are never
dropped twice, unless the file was taken away and put there anew. A file that was moved or renamed is
not dropped again once a job was made from it; one from which none was made yet is dropped under its
new name. What is deleted is deleted in the inbox bucket, so that nothing waits for it any longer.

Each step is noted in the journal before it is taken and after, so it may end at any moment: what was
about to be uploaded is looked up in the bucket first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from retouch import imaging, keys
from retouch.cli.watch_folder import Look, Patience, Stamp, look
from retouch.cli.watch_journal import Entry, Journal, State
from retouch.imaging import FIT_MAX_BYTES, UnreadableImage
from retouch.resolving import OurRecord
from retouch.runaway import is_record

LARGEST_BYTES: Final = FIT_MAX_BYTES
"""No image above this is taken by the stack, whatever the model."""


class Bucket(Protocol):
    """The inbox bucket, and what became of what was dropped into it."""

    def put(self, key: str, data: bytes, sha256: str) -> str:
        """Upload; the version."""
        ...

    def version_of(self, key: str, sha256: str) -> str | None:
        """The current version of a key, if it has these bytes."""
        ...

    def remove(self, key: str) -> None:
        """Delete the current version of a key."""
        ...

    def known_since(self, key: str, since: float) -> str | None:
        """The version that a job was made from at that time (Unix seconds) or later, if one was."""
        ...

    def release(self, key: str, version: str | None) -> bool | None:
        """Take a drop back: whether it is certain that no job will come of it. None: not yet known."""
        ...


@dataclass
class Taken:
    """What came of one round."""

    dropped: int = 0
    pending: int = 0
    """Files that are still to be judged, or are being written."""
    sidecars: list[tuple[str, str]] = field(default_factory=list)
    """Keys and versions of the sidecars among what was dropped: the latest of each key makes a job."""
    looked_seconds: float = 0.0
    """How long it took to look through the folder."""


class Intake:
    """The files of one folder on their way into the stack."""

    def __init__(
        self,
        root: Path,
        journal: Journal,
        bucket: Bucket,
        say: Callable[[str], None],
        *,
        has_results: Callable[[str], bool],
        now: Callable[[], float] = time.monotonic,
    ):
        """`has_results` tells whether the outbox folder holds the record of a file's job already; it is
        asked once, before the first file is taken."""
        self._root = root
        self._journal = journal
        self._bucket = bucket
        self._say = say
        self._has_results = has_results
        self._now = now
        self._patience = Patience(now)
        self._left: dict[str, Stamp] = {}
        """Files that are not taken, as they were then."""
        self._told: set[str] = set()
        self._wanted: set[str] = set()

    def recover(self) -> None:
        """Find out what became of uploads that were under way when a watch ended."""
        for entry in list(self._journal.entries.values()):
            if entry.state is not State.INTENT:
                continue
            version = self._bucket.version_of(entry.key, entry.sha256)
            if version is None:
                version = self._bucket.known_since(entry.key, entry.at)
            if version is None:
                self._journal.forget(entry.key)
            else:
                self._journal.uploaded(entry, version)

    def want(self, key: str) -> None:
        """A job waits for this file: if it is held here, it goes up after all."""
        entry = self._journal.entries.get(key)
        if entry is not None and entry.state is State.HELD and not entry.gone:
            self._wanted.add(key)

    def round(self, go_on: Callable[[], bool]) -> Taken:
        """Look at the folder once, and take what is due, for as long as `go_on` says.

        Raises:
            FolderAway: the folder cannot be read now.
        """
        began = self._now()
        seen = look(self._root)
        looked = self._now() - began
        if not self._journal.knows_before:
            self._journal.begin(key for key in seen.files if self._has_results(key))
        for key in sorted(seen.odd):
            self._tell(key, f"{key!r}: the name is not UTF-8 or longer than 1,024 bytes; not taken")
        for prefix in sorted(seen.blind):
            self._tell(
                prefix,
                f"{prefix}: cannot be read: {seen.blind[prefix]}; it is left alone until it can be",
            )
        due = sorted(self._patience.settle(self._changed(seen)), key=_order)
        taken = Taken(pending=self._patience.unsettled(), looked_seconds=looked)
        kept: list[str] = []
        for key in due:
            if not go_on():
                break
            stamp = seen.files.get(key)
            taken.pending -= (
                self._gone(key) if stamp is None else self._take(key, stamp, seen, taken, kept)
            )
        if kept:
            more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
            each = "each" if more else "it"
            self._say(
                f"{kept[0]}{more}: not dropped again, because a job was made from "
                f"{each} before; to run it anew, change the file, or take it away and put a new "
                "copy there"
            )
        for key in sorted(self._wanted & seen.files.keys()):
            self._wanted.discard(key)
            held = self._journal.entries[key]
            data = self._read(key, seen.files[key])
            if data is not None and held.stamp == seen.files[key]:
                self._drop(key, held.stamp, data, held.sha256, taken, used=True)
        return taken

    def _changed(self, seen: Look) -> dict[str, Stamp | None]:
        """The files that are not as the journal has them."""
        changed: dict[str, Stamp | None] = {}
        for key, stamp in seen.files.items():
            entry = self._journal.entries.get(key)
            known = entry is not None and not entry.gone and entry.stamp == stamp
            if not known and self._left.get(key) != stamp:
                changed[key] = stamp
        for key, entry in self._journal.entries.items():
            if not entry.gone and key not in seen.files and seen.sees(key):
                changed[key] = None
        return changed

    def _gone(self, key: str) -> int:
        entry = self._journal.entries.get(key)
        if entry is not None:
            if entry.state is State.UP:
                self._bucket.remove(key)
            self._journal.put(replace(entry, gone=True))
        return 1

    def _take(self, key: str, stamp: Stamp, seen: Look, taken: Taken, kept: list[str]) -> int:
        """Judge a file that stands still; 1 if that is done, 0 if it is to be tried again."""
        if stamp.size > LARGEST_BYTES:
            return self._leave(
                key, stamp, f"has {stamp.size:,} bytes; {LARGEST_BYTES:,} are allowed"
            )
        data = self._read(key, stamp)
        if data is None:
            return 0
        if (why := _refusal(key, data)) is not None:
            return self._leave(key, stamp, why)
        sha256 = hashlib.sha256(data).hexdigest()
        entry = self._journal.entries.get(key)
        if entry is not None and not entry.gone and entry.sha256 == sha256:
            self._journal.put(replace(entry, stamp=stamp))  # the same, only touched
            return 1
        before = self._before(stamp, sha256, seen)
        if before is not None:
            free = not before.used and self._bucket.release(before.key, before.version)
            if free is None:
                return 0
            if not free:
                held = replace(
                    before, key=key, state=State.HELD, version=None, used=True, gone=False
                )
                if before.state is State.UP and not before.gone:
                    self._bucket.remove(before.key)
                self._journal.moved(before.key, held)
                kept.append(key)
                return 1
            if before.key != key:
                self._say(
                    f"{key}: was {before.key}; no job was made from it yet, so it is dropped anew"
                )
                self._journal.forget(before.key)
        elif entry is None and self._journal.was_before(key):
            self._journal.put(
                Entry(key, stamp, sha256, State.HELD, at=time.time(), version=None, used=True)
            )
            kept.append(key)
            return 1
        self._drop(key, stamp, data, sha256, taken)
        return 1

    def _before(self, stamp: Stamp, sha256: str, seen: Look) -> Entry | None:
        """The file that this one was, under another name or this one, until it was taken away."""
        for entry in self._journal.of_bytes(sha256):
            away = entry.gone or (entry.key not in seen.files and seen.sees(entry.key))
            if away and entry.stamp == stamp:
                return entry
        return None

    def _drop(
        self,
        key: str,
        stamp: Stamp,
        data: bytes,
        sha256: str,
        taken: Taken,
        *,
        used: bool = False,
    ) -> None:
        entry = replace(self._journal.intend(key, stamp, sha256), used=used)
        version = self._bucket.put(key, data, sha256)
        self._journal.uploaded(entry, version)
        taken.dropped += 1
        if keys.classify(key) is keys.Kind.SIDECAR:
            if is_record(data):
                self._say(f"{key}: {OurRecord(key).problem.message}")
            else:
                taken.sidecars.append((key, version))

    def _read(self, key: str, stamp: Stamp) -> bytes | None:
        """The bytes of a file, if it is still as it was seen."""
        path = self._root / key
        try:
            data = path.read_bytes()
            now = path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            why = error.strerror or type(error).__name__
            self._tell(key, f"{key}: cannot be read: {why}; taken when it can be")
            return None
        self._told.discard(key)
        return data if Stamp(now.st_size, now.st_mtime_ns) == stamp else None

    def _leave(self, key: str, stamp: Stamp, why: str) -> int:
        self._left[key] = stamp
        self._say(f"{key}: {why}; not taken")
        return 1

    def _tell(self, key: str, text: str) -> None:
        """Say something once."""
        if key not in self._told:
            self._told.add(key)
            self._say(text)


def _order(key: str) -> tuple[int, str]:
    """Presets first, sidecars last: so that what a sidecar needs is there when it comes."""
    if key.rpartition("/")[2] == keys.PRESET:
        return 0, key
    return (2 if keys.classify(key) is keys.Kind.SIDECAR else 1), key


def _refusal(key: str, data: bytes) -> str | None:
    """Why a file is none of ours. A broken sidecar or image goes up: its record says what is wrong."""
    if key.rpartition("/")[2] == keys.PRESET or keys.classify(key) is keys.Kind.SIDECAR:
        return None
    if keys.is_image_name(key):
        return None
    try:
        imaging.look(data)
    except UnreadableImage as error:
        return f"is neither a sidecar (.json) nor an image: {error}"
    return None
