"""Deciding again: a decision that was made on stale state is made once more on fresh state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from retouch.errors import TryLater
from retouch.ports import Clock

_TRIES: Final = 12
RECORDING_TRIES: Final = 40
"""For what must not be lost, because it was paid for: some eighteen seconds."""

T = TypeVar("T")


def deciding(clock: Clock, decide: Callable[[], T], tries: int = _TRIES) -> T:
    """Run a read-decide-commit again until nobody else wrote meanwhile and the table took it.

    Raises:
        TryLater: that went on for all `tries`, some five seconds for twelve; a `Conflict` among others.
    """
    for round_ in range(tries):
        try:
            return decide()
        except TryLater:
            if round_ == tries - 1:
                raise
            clock.sleep(min(0.02 * 2**round_, 0.5))
    raise AssertionError("unreachable")
