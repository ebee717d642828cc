"""Deciding again: a decision that was made on stale state is made once more on fresh state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from retouch.errors import TryLater
from retouch.ports import Clock

_TRIES: Final = 12

T = TypeVar("T")


def deciding(clock: Clock, decide: Callable[[], T]) -> T:
    """Run a read-decide-commit again until nobody else wrote meanwhile and the table took it.

    Raises:
        TryLater: that went on for twelve rounds, some five seconds; a `Conflict` among others.
    """
    for round_ in range(_TRIES):
        try:
            return decide()
        except TryLater:
            if round_ == _TRIES - 1:
                raise
            clock.sleep(min(0.02 * 2**round_, 0.5))
    raise AssertionError("unreachable")
