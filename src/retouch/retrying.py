"""Deciding again: a decision that was made on stale state is made once more on fresh state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from retouch.errors import Conflict
from retouch.ports import Clock

_TRIES: Final = 12

T = TypeVar("T")


def deciding(clock: Clock, decide: Callable[[], T]) -> T:
    """Run a read-decide-commit again until nobody else wrote meanwhile.

    Raises:
        Conflict: that went on for twelve rounds.
    """
    for round_ in range(_TRIES):
        try:
            return decide()
        except Conflict:
            if round_ == _TRIES - 1:
                raise
            clock.sleep(min(0.02 * 2**round_, 0.5))
    raise AssertionError("unreachable")
