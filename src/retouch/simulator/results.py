"""Result images: files on disk behind signed URLs, gone 24 h after they were made."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from retouch.simulator.clock import Clock

RETENTION_SECONDS = 24 * 3600.0
RESULTS_PATH = "/results/"
_ACCESS_KEY_ID = "LTAI5tSIMULATED"


@dataclass(frozen=True)
class _Stored:
    path: Path
    expires: float
    size: int


class ResultStore:
    """Keeps PNG files in `folder`, at most `max_bytes` of them; beyond it the oldest go early."""

    def __init__(self, folder: Path, clock: Clock, max_bytes: int) -> None:
        self._folder = folder
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0
        self._stored: OrderedDict[str, _Stored] = OrderedDict()
        self._secret = secrets.token_bytes(16)

    def put(self, png: bytes) -> str:
        """Keep an image; returns its signed path and query, to be put behind a host."""
        self._drop_expired()
        while self._stored and self._bytes + len(png) > self._max_bytes:
            self._drop(next(iter(self._stored)))
        name = f"{secrets.token_hex(2)}/{secrets.token_hex(16)}.png"
        path = self._folder / name.replace("/", "-")
        path.write_bytes(png)
        expires = self._clock.now() + RETENTION_SECONDS
        self._stored[name] = _Stored(path, expires, len(png))
        self._bytes += len(png)
        query = {
            "Expires": str(int(expires)),
            "OSSAccessKeyId": _ACCESS_KEY_ID,
            "Signature": self._signature(name, str(int(expires))),
        }
        return f"{RESULTS_PATH}{name}?{urlencode(query)}"

    def find(self, name: str) -> Path | None:
        """The file called `name`, or `None` when there is none any more."""
        self._drop_expired()
        stored = self._stored.get(name)
        return None if stored is None else stored.path

    def is_signed(self, name: str, query: Mapping[str, str]) -> bool:
        """Whether the query carries the signature that `put` gave out."""
        expected = self._signature(name, query.get("Expires", ""))
        return hmac.compare_digest(expected, query.get("Signature", ""))

    def _signature(self, name: str, expires: str) -> str:
        return hmac.new(self._secret, f"{name}\n{expires}".encode(), hashlib.sha256).hexdigest()

    def _drop_expired(self) -> None:
        now = self._clock.now()
        while self._stored:
            name, stored = next(iter(self._stored.items()))
            if stored.expires > now:
                return
            self._drop(name)

    def _drop(self, name: str) -> None:
        stored = self._stored.pop(name)
        self._bytes -= stored.size
        stored.path.unlink(missing_ok=True)
