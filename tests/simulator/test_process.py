"""`python -m retouch.simulator` as a process: its one line, its options, its end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from .support import KEY

COMMAND = [sys.executable, "-W", "error", "-m", "retouch.simulator"]


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A simulator process and the base URL that it printed."""
    process = subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["base_url"]
        finally:
            process.kill()


def listed(base_url: str, key: str = KEY) -> httpx.Response:
    return httpx.get(f"{base_url}/tasks", headers={"Authorization": f"Bearer {key}"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_as_soon_as_it_says_so_and_ends_when_told(number: signal.Signals) -> None:
    with running("--port", "0", "--seed", "1") as (process, base_url):
        assert base_url.startswith("http://127.0.0.1:")
        assert base_url.endswith("/api/v1")
        assert listed(base_url).status_code == 200
        process.send_signal(number)
        rest, log = process.communicate(timeout=10)
    assert process.returncode == 0
    assert rest == ""
    assert "Traceback" not in log


def test_it_ends_with_the_process_it_was_told_to_follow() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen(sleeper) as followed,
        running("--parent-pid", str(followed.pid)) as (process, base_url),
    ):
        assert listed(base_url).status_code == 200
        followed.kill()
        followed.wait()
        assert process.wait(timeout=10) == 0


def test_faults_and_accounts_from_the_start(tmp_path: Path) -> None:
    plan = tmp_path / "faults.json"
    plan.write_text('[{"route": "list", "effect": "answer", "status": 503}]')
    with running("--faults", str(plan), "--account", "sk-one=first") as (_, base_url):
        assert listed(base_url, "sk-one").status_code == 503
        assert listed(base_url, "sk-one").status_code == 200
        assert listed(base_url, "sk-two").status_code == 401


def test_region_and_workspaces_from_the_start() -> None:
    with running("--region", "singapore", "--workspace", "llm-a", "--workspace", "llm-b") as (
        _,
        base_url,
    ):
        headers = {"Authorization": f"Bearer {KEY}"}

        def policy(model: str, workspace: str) -> int:
            asked = {"action": "getPolicy", "model": model}
            named = headers | {"X-DashScope-WorkSpace": workspace}
            return httpx.get(f"{base_url}/uploads", params=asked, headers=named).status_code

        assert [policy("wan2.7-image", one) for one in ("llm-a", "llm-b", "llm-c")] == [
            200, 200, 401,
        ]  # fmt: skip
        assert policy("wanx2.1-imageedit", "llm-a") == 400


def test_help_shows_the_options() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    for option in ("--region {beijing,singapore,virginia,frankfurt}", "--workspace ID", "--port"):
        assert option in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--faults", "no-such-file.json"],
        ["--time-scale", "-1"],
        ["--account", "sk-one"],
        ["--port", "x"],
        ["--region", "hongkong"],
    ],
)
def test_wrong_usage(options: list[str]) -> None:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_port_in_use() -> None:
    with running() as (_, base_url):
        port = str(httpx.URL(base_url).port)
        done = subprocess.run(
            [*COMMAND, "--port", port], capture_output=True, text=True, timeout=30
        )
    assert done.returncode == 2
    assert port in done.stderr
    assert "Traceback" not in done.stderr
