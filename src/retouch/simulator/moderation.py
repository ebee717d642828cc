"""Words in a prompt that make the simulated provider refuse or fail, so that it can be tried.

Each stands for something that the provider does by its own judgement. A word counts wherever it
stands as a whole word, in any case, within the part of the prompt that the model reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from retouch.simulator import errors
from retouch.simulator.errors import ProviderError

INPUT_REFUSED = "forbidden"
INFRINGEMENT = "counterfeit"
OUTPUT_REFUSED = "unsafe-output"
ONE_IMAGE_REFUSED = "one-unsafe"
ONE_IMAGE_TIMED_OUT = "one-timeout"
BREAKDOWN = "breakdown"


@dataclass(frozen=True)
class Verdict:
    """What will happen while the images are made: `all_images` fail, or the last one does."""

    all_images: ProviderError | None = None
    last_image: ProviderError | None = None


def inspect_input(prompt: str) -> None:
    """Refuse the request if the prompt says so.

    Raises:
        ProviderError: `DataInspectionFailed` or `IPInfringementSuspect`.
    """
    if _says(prompt, INPUT_REFUSED):
        raise errors.input_refused()
    if _says(prompt, INFRINGEMENT):
        raise errors.infringement()


def inspect_output(prompt: str) -> Verdict:
    """What becomes of the images made from the prompt."""
    if _says(prompt, OUTPUT_REFUSED):
        return Verdict(all_images=errors.output_refused())
    if _says(prompt, BREAKDOWN):
        return Verdict(all_images=errors.internal_error())
    if _says(prompt, ONE_IMAGE_REFUSED):
        return Verdict(last_image=errors.output_refused())
    if _says(prompt, ONE_IMAGE_TIMED_OUT):
        return Verdict(last_image=errors.internal_timeout())
    return Verdict()


def _says(prompt: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){word}(?![\w-])", prompt, re.IGNORECASE) is not None
