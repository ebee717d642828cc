"""The fixtures that the simulator ships, in a test run of somebody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOMEBODYS_TESTS = """
import httpx
import pytest
from retouch.simulator import SimulatorConfig

pytest_plugins = ["retouch.simulator.fixtures"]


@pytest.fixture
def simulator_config():
    return SimulatorConfig(time_scale=0, region="virginia")


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_has_its_own(dashscope_simulator, number):
    assert dashscope_simulator.provider.config.region == "virginia"
    assert dashscope_simulator.requests == []
    key = {"Authorization": "Bearer sk-x"}
    answer = httpx.get(f"{dashscope_simulator.base_url}/tasks/none", headers=key)
    assert answer.json()["output"]["task_status"] == "UNKNOWN"
    assert len(dashscope_simulator.requests) == 1
"""


def test_a_stranger_s_tests_can_use_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SOMEBODYS_TESTS)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
