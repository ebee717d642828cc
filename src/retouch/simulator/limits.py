"""Request rates over a sliding window, one window for each key.

A window is exact: no interval of the given length ever holds more than the allowed count. Refused
requests do not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from retouch.simulator.clock import Clock
from retouch.simulator.errors import rate_limited
from retouch.simulator.rules import Rate


class RateLimiter:
    """Counts requests by key; `take` refuses the one that would exceed the rate."""

    def __init__(self, clock: Clock, *, enforced: bool) -> None:
        self._clock = clock
        self._enforced = enforced
        self._seen: dict[Hashable, deque[float]] = {}

    def take(self, key: Hashable, rate: Rate) -> None:
        """Count a request, or raise the provider's 429 `Throttling.RateQuota`."""
        if not self._enforced:
            return
        now = self._clock.now()
        seen = self._seen.setdefault(key, deque())
        while seen and seen[0] <= now - rate.seconds:
            seen.popleft()
        if len(seen) >= rate.count:
            raise rate_limited()
        seen.append(now)
