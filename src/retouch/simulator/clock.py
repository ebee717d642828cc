"""The simulator's time: real time that can be moved forward.

Everything that lasts (tasks, rate windows, the 24 h of results, the 300 s of an upload policy) is
measured on one `Clock`, so a test or an operator can pass a day in a moment with `advance`, and
every sleeper wakes that is then due.
"""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import datetime, timedelta, timezone

PROVIDER_ZONE = timezone(timedelta(hours=8))


class Clock:
    """Seconds since the epoch, never going back; safe to `advance` from any thread."""

    def __init__(self, start: float | None = None) -> None:
        self._epoch = time.time() if start is None else start
        self._origin = time.monotonic()
        self._moved = 0.0
        self._lock = threading.Lock()
        self._sleepers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def now(self) -> float:
        """The time in seconds since the epoch."""
        return self._epoch + (time.monotonic() - self._origin) + self._moved

    def advance(self, seconds: float) -> None:
        """Move the time forward by `seconds`; raises `ValueError` if that is negative."""
        if seconds < 0:
            raise ValueError("time does not go back")
        with self._lock:
            self._moved += seconds
            sleepers = list(self._sleepers)
        for loop, moved in sleepers:
            loop.call_soon_threadsafe(moved.set)

    async def sleep(self, seconds: float) -> None:
        """Wait until this clock is `seconds` further."""
        until = self.now() + seconds
        moved = asyncio.Event()
        sleeper = (asyncio.get_running_loop(), moved)
        with self._lock:
            self._sleepers.add(sleeper)
        try:
            while (left := until - self.now()) > 0:
                moved.clear()
                try:
                    await asyncio.wait_for(moved.wait(), left)
                except TimeoutError:
                    continue
        finally:
            with self._lock:
                self._sleepers.discard(sleeper)


def provider_timestamp(moment: float) -> str:
    """`moment` as the provider prints it: UTC+8, milliseconds, no zone marker."""
    return datetime.fromtimestamp(moment, PROVIDER_ZONE).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
