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
S = TypeVar("S")


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


def deciding_on(
    clock: Clock,
    known: S | None,
    read: Callable[[], S],
    decide: Callable[[S], T],
    tries: int = _TRIES,
) -> T:
    """As `deciding`, on what is `known` at first, and from then on on what is `read`.

    What was committed a moment ago need not be read again; if it has changed, the commit says so.
    """

    def attempt() -> T:
        nonlocal known
        state, known = known, None
        return decide(state if state is not None else read())

    return deciding(clock, attempt, tries)
