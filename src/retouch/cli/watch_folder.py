"""A local folder as it is now: what is in it, what stands still, what has changed since.

Looking is a plain walk: it works on every file system, network shares among them, and a folder of
10,000 files takes some hundredths of a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from retouch import keys

STILL_SECONDS: Final = 2.0
"""A file that has not changed for so long is not being written any more; one that has been away for so
long is gone."""
_LONGEST_KEY: Final = 1024


class FolderAway(OSError):
    """The folder cannot be read now; that does not mean that it is empty."""


class Stamp(NamedTuple):
    """What tells that a file was written, without reading it."""

    size: int
    mtime_ns: int


@dataclass
class Look:
    """What one walk through the folder found."""

    files: dict[str, Stamp] = field(default_factory=dict)
    """By key: the path below the folder, with `/`. Ignored names are left out."""
    blind: dict[str, str] = field(default_factory=dict)
    """Prefixes of folders that could not be read, and why. Of what is in them nothing is known."""
    odd: set[str] = field(default_factory=set)
    """Names that no key can have."""

    def sees(self, key: str) -> bool:
        """Whether the file of that key would have been found, were it there."""
        return not any(key.startswith(prefix) for prefix in self.blind)


def look(root: Path) -> Look:
    """Walk through a folder. Files may be symbolic links; folders that are links are not entered.

    Raises:
        FolderAway: the folder itself cannot be read.
    """
    found = Look()
    try:
        with os.scandir(root) as entries:
            top = list(entries)
    except OSError as error:
        raise FolderAway(
            f"{root} cannot be read: {error.strerror or type(error).__name__}"
        ) from error
    for entry in top:
        _note(entry, "", found)
    return found


def _note(entry: os.DirEntry[str], prefix: str, found: Look) -> None:
    """A file or folder, and all that is in it."""
    todo = [(entry, prefix)]
    while todo:
        current, above = todo.pop()
        key = above + current.name
        try:
            if current.is_dir(follow_symlinks=False):
                if keys.classify(f"{key}/photo.jpg") is keys.Kind.IGNORED:
                    continue
                with os.scandir(current.path) as inner:
                    todo += [(one, f"{key}/") for one in inner]
            elif keys.classify(key) is not keys.Kind.IGNORED and current.is_file():
                if _possible(key):
                    stat = current.stat()
                    found.files[key] = Stamp(stat.st_size, stat.st_mtime_ns)
                else:
                    found.odd.add(key)
        except FileNotFoundError:
            continue  # it went away this moment
        except OSError as error:
            prefix = f"{key}/" if current.is_dir(follow_symlinks=False) else key
            found.blind[prefix] = error.strerror or type(error).__name__


def _possible(key: str) -> bool:
    try:
        return len(key.encode("utf-8")) <= _LONGEST_KEY
    except UnicodeEncodeError:  # a name of bytes that are no text
        return False


class Patience:
    """Which changes have stood still for long enough."""

    def __init__(self, now: Callable[[], float], seconds: float = STILL_SECONDS):
        self._now = now
        self._seconds = seconds
        self._since: dict[str, tuple[Stamp | None, float]] = {}

    def settle(self, changed: Mapping[str, Stamp | None]) -> Iterator[str]:
        """Of all files that differ from what is known, those that have done so, and in the same way,
        for long enough; None stands for a file that is gone."""
        now = self._now()
        before, self._since = self._since, {}
        for key, stamp in changed.items():
            was = before.get(key)
            since = was[1] if was is not None and was[0] == stamp else now
            self._since[key] = (stamp, since)
            if now - since >= self._seconds:
                yield key

    def unsettled(self) -> int:
        """How many changes are being watched."""
        return len(self._since)


def overlap(inbox: Path, outbox: Path) -> str | None:
    """Why two folders cannot be an inbox and its outbox; None if they can."""
    inner, outer = inbox.resolve(), outbox.resolve()
    if inner == outer:
        return "is the same folder as INBOX; results would be dropped again. Choose one beside it"
    if outer.is_relative_to(inner):
        return f"lies inside INBOX ({inbox}); results would be dropped again. Choose a folder beside it"
    if inner.is_relative_to(outer):
        return f"holds INBOX ({inbox}); choose a folder beside it"
    return None
