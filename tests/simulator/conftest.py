"""Simulators that tests share: a quick one without limits, and a strict one of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from retouch.simulator import SimulatorConfig
from retouch.simulator.testing import running_simulator

from .support import Api

StartApi = Callable[..., Api]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """As fast as it can draw, and without rate or concurrency limits."""
    with running_simulator(SimulatorConfig(time_scale=0, limits=False, seed=1)) as simulator:
        caller = Api(simulator)
        with caller.http:
            yield caller


@pytest.fixture
def start() -> Iterator[StartApi]:
    """Starts simulators with the configuration given, until the test ends."""
    with ExitStack() as stack:

        def starting(key: str | None = "sk-test", **config: Any) -> Api:
            simulator = stack.enter_context(running_simulator(SimulatorConfig(**config)))
            caller = Api(simulator, key)
            stack.enter_context(caller.http)
            return caller

        yield starting
