"""Bringing results into a local folder: each file appears whole under its name, or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from retouch import keys
from retouch.cli.watch_journal import Journal

_PART: Final = ".retouch-part"
_NO_NAME: Final = "is no name that a file can have here; it stays in the stack's outbox"


class NotWritten(OSError):
    """A result cannot be written into the folder: its disk is full, or it may not be written to."""


class Source(Protocol):
    """The outbox bucket."""

    def open_result(self, key: str) -> tuple[Any, str] | None:
        """What an object holds, as something to read from, and its ETag; None if it is gone."""
        ...

    def results_with_tags(self) -> Iterator[tuple[str, str]]:
        """Every object with its ETag."""
        ...


class Mirror:
    """The outbox bucket in a folder. What a person takes away from it stays away."""

    def __init__(
        self, root: Path, journal: Journal, source: Source, say: Callable[[str], None]
    ) -> None:
        self._root = root
        self._journal = journal
        self._source = source
        self._say = say

    def compare(self) -> Iterator[dict[str, Any]]:
        """Fetch everything that changed meanwhile; the records among it."""
        for key, tag in self._source.results_with_tags():
            if not self._journal.has_result(key, tag):
                yield from self.fetch(key)

    def left_behind(self) -> str | None:
        """An object that was not brought out as it is, if there is one."""
        every = self._source.results_with_tags()
        return next((key for key, tag in every if not self._journal.has_result(key, tag)), None)

    def fetch(self, key: str) -> Iterator[dict[str, Any]]:
        """Fetch one object; what it says if it is a job's record.

        Raises:
            NotWritten: the folder does not take it.
        """
        path = self._path(key)
        if path is None:
            self._say(f"{key}: {_NO_NAME}")
            return
        found = self._source.open_result(key)
        if found is None:
            return
        body, tag = found
        if self._journal.has_result(key, tag):
            body.close()
            return
        try:
            _write(body, path)
        except (ConnectionError, TimeoutError):
            raise  # the download broke off
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                self._say(f"{key}: {_NO_NAME}")
                return
            raise NotWritten(f"{path} cannot be written: {error.strerror}") from error
        self._journal.fetched(key, tag)
        if key.endswith("/job.json"):
            record = json.loads(path.read_bytes())
            self._use(record)
            yield record

    def _path(self, key: str) -> Path | None:
        pieces = key.split("/")
        if any(piece in ("", ".", "..") or "\0" in piece for piece in pieces):
            return None
        path = self._root.joinpath(*pieces)
        return None if path.is_dir() else path

    def _use(self, record: dict[str, Any]) -> None:
        """Note which files a job was made from. One that waits or was refused was made from none."""
        if record["status"] in ("WAITING", "REJECTED"):
            return
        if record["status"] == "CANCELED" and record["lane"] is None:
            return
        sources = [
            record["sidecar"],
            *record["inputs"],
            *([record["mask"]] if record["mask"] else []),
        ]
        for source in sources:
            if source.get("key") is not None and source.get("made_by") is None:
                self._journal.use(source["key"], source["version_id"])

    def has_results(self, key: str) -> bool:
        """Whether the folder holds the record of a job that this file stands for."""
        sidecar = key if keys.classify(key) is keys.Kind.SIDECAR else f"{key}.json"
        path = self._path(keys.record_key(keys.outbox_folder(sidecar)))
        return path is not None and path.is_file()


def _write(body: Any, path: Path) -> None:
    part = path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:12]}{_PART}")
    with body:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                shutil.copyfileobj(body, file, 1024 * 1024)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
