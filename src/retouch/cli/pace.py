"""How long what is left will take, by how fast jobs have ended of late. Told, never relied on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

_OVER: Final = 100
_LEAST: Final = 5
"""Fewer ends than that say nothing about the next."""


class Pace:
    """The pace of the latest ends."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ends: deque[float] = deque(maxlen=_OVER)

    def ended(self) -> None:
        """Note that a job has just ended."""
        self._ends.append(self._now())

    def seconds_left(self, jobs: int) -> float | None:
        """How long so many jobs will take; None where that cannot be told yet."""
        if not jobs:
            return 0.0
        if len(self._ends) < _LEAST:
            return None
        # To now and not to the last end, so that a standstill shows.
        span = self._now() - self._ends[0]
        return jobs * span / (len(self._ends) - 1)

    def words(self, jobs: int) -> str:
        """`about 5 min left`; empty where nothing is left, or nothing can be told."""
        left = self.seconds_left(jobs)
        return f"about {for_people(left)} left" if left else ""


def for_people(seconds: float) -> str:
    """A duration, no finer than it is known."""
    if seconds < 90:
        return f"{max(1, round(seconds / 5)) * 5} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
