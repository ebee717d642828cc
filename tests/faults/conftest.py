"""What holds for every test of a fault."""

from __future__ import annotations

import random

import pytest


@pytest.fixture(autouse=True)
def same_chances() -> None:
    """Jitter is the same in every run."""
    random.seed(48)
