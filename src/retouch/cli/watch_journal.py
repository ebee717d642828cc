"""What `retouch watch` has done, on disk: every line is safe before the next step is taken.

It lies with the stack's kept state, not in either of the two folders: somebody who tidies up must not
cause everything to be paid again.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from retouch.cli.watch_folder import Stamp

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS files (
  key TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
  state TEXT NOT NULL, version TEXT, at REAL NOT NULL, used INTEGER NOT NULL, gone INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
  outbox TEXT NOT NULL, key TEXT NOT NULL, etag TEXT NOT NULL, PRIMARY KEY (outbox, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS before (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_LOOKED: Final = ""
"""Stands among the files from before once it is known which those are; no file has this key."""


class State(StrEnum):
    """Where a file is."""

    INTENT = "intent"
    """It is being uploaded; whether that came about is to be looked up."""
    UP = "up"
    """It is in the inbox bucket, as `version`."""
    HELD = "held"
    """It is known and stays here: a job was made from these bytes before."""


@dataclass(frozen=True)
class Entry:
    """One file of the inbox folder."""

    key: str
    stamp: Stamp
    sha256: str
    state: State
    at: float
    """When it was entered; Unix seconds."""
    version: str | None = None
    used: bool = False
    """Whether a job was made from it."""
    gone: bool = False
    """Whether it is no longer in the folder."""


class Journal:
    """The files of one inbox folder, and what was fetched into an outbox folder."""

    def __init__(self, path: Path, outbox: str):
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
        self._outbox = outbox
        self._entries: dict[str, Entry] = {}
        self._by_bytes: dict[str, set[str]] = defaultdict(set)
        for entry in self._read():
            self._remember(entry)
        self._results: dict[str, str] = dict(
            self._db.execute("SELECT key, etag FROM results WHERE outbox = ?", (outbox,))
        )
        self._before = {key for (key,) in self._db.execute("SELECT key FROM before")}

    @property
    def knows_before(self) -> bool:
        """Whether it is known which files had results before this journal was begun."""
        return _LOOKED in self._before

    def was_before(self, key: str) -> bool:
        """Whether a file had results before this journal was begun."""
        return key in self._before

    def begin(self, before: Iterable[str]) -> None:
        """Note which files had results before, all at once."""
        self._before = {_LOOKED, *before}
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "INSERT OR REPLACE INTO before VALUES (?)", [(k,) for k in self._before]
        )
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _read(self) -> Iterator[Entry]:
        for row in self._db.execute(
            "SELECT key, size, mtime_ns, sha256, state, version, at, used, gone FROM files"
        ):
            key, size, mtime_ns, sha256, state, version, at, used, gone = row
            yield Entry(
                key,
                Stamp(size, mtime_ns),
                sha256,
                State(state),
                at,
                version,
                bool(used),
                bool(gone),
            )

    def _remember(self, entry: Entry) -> None:
        self._drop(entry.key)
        self._entries[entry.key] = entry
        self._by_bytes[entry.sha256].add(entry.key)

    def _drop(self, key: str) -> None:
        before = self._entries.pop(key, None)
        if before is not None:
            self._by_bytes[before.sha256].discard(key)

    def of_bytes(self, sha256: str) -> list[Entry]:
        """Every file with these bytes."""
        return [self._entries[key] for key in sorted(self._by_bytes.get(sha256, ()))]

    @property
    def entries(self) -> dict[str, Entry]:
        """Every file by key, those that are gone among them. Not to be changed."""
        return self._entries

    def put(self, entry: Entry) -> None:
        """Note a file as it is now."""
        self._db.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.key, entry.stamp.size, entry.stamp.mtime_ns, entry.sha256, entry.state,
                entry.version, entry.at, entry.used, entry.gone,
            ),
        )  # fmt: skip
        self._remember(entry)

    def forget(self, key: str) -> None:
        """Forget a file, as if it had never been there."""
        self._db.execute("DELETE FROM files WHERE key = ?", (key,))
        self._drop(key)

    def moved(self, old: str, entry: Entry) -> None:
        """Note a file that stood under the key `old` before, at once."""
        self._db.execute("BEGIN IMMEDIATE")
        self.forget(old)
        self.put(entry)
        self._db.execute("COMMIT")

    def intend(self, key: str, stamp: Stamp, sha256: str) -> Entry:
        """Note that a file is about to be uploaded."""
        entry = Entry(key, stamp, sha256, State.INTENT, time.time())
        self.put(entry)
        return entry

    def uploaded(self, entry: Entry, version: str | None) -> None:
        """Note that a file was uploaded."""
        self.put(replace(entry, state=State.UP, version=version))

    def use(self, key: str, version: str | None) -> None:
        """Note that a job was made from a version of a file."""
        entry = self._entries.get(key)
        if entry is not None and not entry.used and entry.version in (None, version):
            self.put(replace(entry, used=True))

    def has_result(self, key: str, etag: str) -> bool:
        """Whether an object of the outbox was fetched as it is."""
        return self._results.get(key) == etag

    def fetched(self, key: str, etag: str) -> None:
        """Note that an object of the outbox was fetched."""
        self._db.execute(
            "INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (self._outbox, key, etag)
        )
        self._results[key] = etag
