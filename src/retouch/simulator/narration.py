"""The text of interleaved answers: one sentence for each picture, in pieces as a stream brings it."""

from __future__ import annotations


def step_pieces(number: int) -> tuple[str, ...]:
    """The sentence before picture `number`, counted from 1, in the pieces a stream sends."""
    return "Simulated ", "step ", f"{number}. "


def step_text(number: int) -> str:
    """The sentence before picture `number`, counted from 1."""
    return "".join(step_pieces(number))
