"""The simulator as pytest fixtures: `pytest_plugins = ["retouch.simulator.fixtures"]`.

`dashscope_simulator` runs one for the length of a test. Override `simulator_config` to choose how it
behaves:

    @pytest.fixture
    def simulator_config() -> SimulatorConfig:
        return SimulatorConfig(time_scale=0, region="singapore")

    def test_something(dashscope_simulator: Simulator) -> None:
        client = Client(dashscope_simulator.base_url)
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from retouch.simulator.config import SimulatorConfig
from retouch.simulator.testing import Simulator, running_simulator


@pytest.fixture
def simulator_config() -> SimulatorConfig:
    """How the simulator behaves: as fast as it can draw, the rest as the provider."""
    return SimulatorConfig(time_scale=0)


@pytest.fixture
def dashscope_simulator(simulator_config: SimulatorConfig) -> Iterator[Simulator]:
    """A simulator of this test's own, on a free port of the loopback interface."""
    with running_simulator(simulator_config) as simulator:
        yield simulator
