"""`retouch watch` as somebody types it: two folders, and no money spent twice however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.support import SETTLED, picture, until
from tests.e2e.test_stacks import CLI, processes_with, run

NAME = "späte +%# 图😀"


class Provider:
    """A simulator that outlives whatever the watch and its engine come to."""

    def __init__(self, process: subprocess.Popen[str]):
        assert process.stdout is not None
        self.url = str(json.loads(process.stdout.readline())["base_url"])

    def creates(self) -> list[str]:
        """The prompts of all billed calls."""
        origin = self.url.removesuffix("/api/v1")
        told = httpx.get(f"{origin}/_simulator/requests", timeout=10).json()
        bodies = [r["body"] for r in told["requests"] if r["route"] in ("create", "sync")]
        return sorted(body["input"]["messages"][0]["content"][-1]["text"] for body in bodies)


@pytest.fixture
def provider() -> Iterator[Provider]:
    process = subprocess.Popen(
        [sys.executable, "-m", "retouch.simulator", "--quiet", "--time-scale", "0.3"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Provider(process)
    finally:
        process.terminate()
        process.communicate(timeout=20)


class Desk:
    """Two folders, and a home for what is between them."""

    def __init__(self, tmp: Path, provider: str) -> None:
        self.inbox, self.outbox, self.home = tmp / "in", tmp / "out", tmp / "home"
        self.inbox.mkdir()
        self.arguments = ["watch", str(self.inbox), str(self.outbox), "--provider", provider]

    def drop(self, key: str, data: bytes | dict[str, Any]) -> None:
        path = self.inbox / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())

    def pair(self, name: str, prompt: str) -> None:
        self.drop(f"{name}.jpg", picture())
        self.drop(f"{name}.jpg.json", {"model": "wan2.7-image", "prompt": prompt})

    def status(self, folder: str) -> str | None:
        path = self.outbox / folder / "job.json"
        return json.loads(path.read_bytes())["status"] if path.is_file() else None

    def settled(self, *folders: str, seconds: float = 90) -> None:
        def look() -> bool | None:
            return True if {self.status(one) for one in folders} <= SETTLED else None

        until(look, f"{folders} settled; now {[self.status(one) for one in folders]}", seconds)

    def start(self) -> subprocess.Popen[str]:
        # A shell that runs the tests in the background may have them ignore Ctrl-C, which is inherited.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return subprocess.Popen(
            [*CLI, *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "RETOUCH_HOME": str(self.home)},
        )

    def once(self, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        env = {"RETOUCH_HOME": str(self.home)}
        return run(*self.arguments, "--once", "--json", env=env, timeout=timeout)

    def nothing_is_left(self) -> None:
        until(
            lambda: True if not processes_with(str(self.home)) else None,
            "the end of all processes",
            20,
        )
        assert list(self.outbox.rglob("*retouch-part")) == []


@pytest.fixture
def desk(tmp_path: Path, provider: Provider) -> Desk:
    return Desk(tmp_path, provider.url)


def test_ctrl_c_and_a_start_again_cost_nothing_and_lose_nothing(
    desk: Desk, provider: Provider
) -> None:
    desk.pair(f"{NAME}/{NAME}", "one")
    desk.drop("late.jpg", picture())
    first = desk.start()
    desk.settled(f"{NAME}/{NAME}")
    desk.drop(
        "late.jpg.json", {"model": "wan2.7-image", "prompt": "two"}
    )  # it waits for nothing now
    until(lambda: True if desk.status("late") == "RUNNING" else None, "the second job runs")
    second = run(*desk.arguments, env={"RETOUCH_HOME": str(desk.home)})
    assert second.returncode == 3
    assert f"is being watched already (process {first.pid})" in second.stderr
    (desk.inbox / NAME).rename(desk.inbox / "done")  # finished originals are tidied away
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "stopping: no new files are taken" in said
    assert "the same command goes on" in said
    desk.nothing_is_left()
    kept = next(desk.home.glob("watch-*.kept/s3/*/watch-*-outbox")) / NAME / NAME
    for name in ("index.html", "index.html.meta.json"):  # as if the end had come before the page
        (kept / name).unlink(missing_ok=True)

    done = desk.once()
    assert (kept / "index.html").is_file()
    assert done.returncode == 0, done.stderr
    assert [job["sidecar"] for job in json.loads(done.stdout)["jobs"]] == ["late.jpg.json"]
    assert (desk.outbox / NAME / NAME / f"{NAME}-1.png").is_file()
    assert (desk.outbox / "late/late-1.png").is_file()
    assert (desk.outbox / "late/index.html").is_file()
    again = desk.once()
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["jobs"] == []
    assert provider.creates() == ["one", "two"]
    desk.nothing_is_left()


def test_ctrl_c_waits_for_a_call_that_cannot_be_looked_up_afterwards(
    desk: Desk, provider: Provider
) -> None:
    desk.drop("a.jpg", picture())
    note = {"model": "wan2.7-image", "call": "sync", "prompt": "sync"}
    desk.drop("a.jpg.json", note)
    watching = desk.start()
    until(lambda: True if provider.creates() else None, "the call is under way")
    watching.send_signal(signal.SIGINT)
    said, _ = watching.communicate(timeout=120)
    assert watching.returncode == 130, said
    assert desk.status("a") in ("FINALIZING", "SUCCEEDED"), said
    desk.nothing_is_left()
    assert desk.once().returncode == 0
    assert desk.status("a") == "SUCCEEDED"
    assert provider.creates() == ["sync"]


def test_what_is_done_with_is_freed_and_nothing_is_paid_again(
    desk: Desk, provider: Provider
) -> None:
    desk.pair("a", "one")
    desk.pair("b", "two")
    desk.drop("c.jpg.json", {"model": "wan2.7-image", "prompt": "three", "images": ["a.jpg"]})
    desk.drop("d.jpg.json", {"model": "wan2.7-image", "prompt": "waits"})
    assert desk.once().returncode == 1
    assert desk.status("d") == "WAITING"
    (desk.inbox / "b.jpg").unlink()
    (desk.inbox / "b.jpg.json").unlink()
    assert desk.once().returncode == 1
    kept = next(desk.home.glob("watch-*.kept")) / "s3"
    (desk.outbox / "b/b-1.png").unlink()  # taken away: it must not come again

    def copies() -> set[str]:
        found = {one.name for one in kept.rglob("*") if one.is_file()}
        return {name for name in found if not name.endswith(".meta.json") and "." in name}

    assert {"a-1.png", "a.jpg", "b-1.png", "b.jpg"} <= copies()
    env = {"RETOUCH_HOME": str(desk.home)}
    done = run(*desk.arguments, "--free", env=env)
    assert done.returncode == 0, done.stderr
    assert "MB freed" in done.stdout
    left = copies()
    assert not left & {"a-1.png", "b-1.png", "b.jpg", "b.jpg.json", "index.html", "job.json"}
    assert {"a.jpg", "a.jpg.json", "d.jpg.json"} <= left

    desk.drop("d.jpg", picture())
    desk.drop("e.json", {"model": "wan2.7-image", "prompt": "four", "images": ["a.jpg"]})
    assert desk.once().returncode == 0
    assert {desk.status("d"), desk.status("e")} == {"SUCCEEDED"}
    assert (desk.outbox / "a/a-1.png").is_file()
    assert not (desk.outbox / "b/b-1.png").exists()
    assert provider.creates() == ["four", "one", "three", "two", "waits"]
    desk.nothing_is_left()


def test_nothing_is_freed_while_a_job_is_under_way(desk: Desk, provider: Provider) -> None:
    desk.pair("a", "one")
    watching = desk.start()
    until(lambda: True if desk.status("a") == "RUNNING" else None, "the job runs")
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=60)
    assert desk.status("a") == "RUNNING"
    done = run(*desk.arguments, "--free", env={"RETOUCH_HOME": str(desk.home)})
    assert done.returncode == 1
    assert "nothing is freed: 1 job is not done, a.jpg.json (" in done.stdout
    assert desk.once().returncode == 0
    assert desk.status("a") == "SUCCEEDED"
    assert provider.creates() == ["one"]


@pytest.mark.parametrize("moment", ["QUEUED", "RUNNING"])
def test_everything_killed_at_once_costs_nothing_and_loses_nothing(
    desk: Desk, provider: Provider, moment: str
) -> None:
    names = ["a", "b", "c"]  # more than the provider's two at once
    for name in names:
        desk.pair(name, name)
    first = desk.start()

    def reached() -> bool | None:
        return True if moment in {desk.status(name) for name in names} else None

    until(reached, f"a job is {moment}")
    killed = 0
    for process in [first.pid, *_pids_with(str(desk.home))]:
        try:
            os.kill(process, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            continue
    assert killed > 2
    first.communicate(timeout=20)
    desk.nothing_is_left()

    done = desk.once(timeout=280)
    assert done.returncode == 0, done.stderr
    assert {desk.status(name) for name in names} == {"SUCCEEDED"}
    assert provider.creates() == names
    for name in names:
        assert (desk.outbox / name / f"{name}-1.png").is_file()
        assert (desk.outbox / name / "index.html").is_file()


def _pids_with(text: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parts = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if text.encode() in parts:
            found.append(int(folder.name))
    return found


def test_wrong_folders_and_mistakes_are_said_in_words(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "simulated")
    for inbox, outbox, says in (
        (desk.inbox, desk.inbox, "is the same folder as INBOX"),
        (desk.inbox, desk.inbox / "out", "lies inside INBOX"),
        (desk.inbox, tmp_path, "holds INBOX"),
        (tmp_path / "nowhere", desk.outbox, "is not there; a folder is needed"),
    ):
        done = run("watch", str(inbox), str(outbox), env={"RETOUCH_HOME": str(desk.home)})
        assert done.returncode == 2
        assert says in done.stderr
    desk.drop("bad.jpg", picture())
    desk.drop("bad.jpg.json", {"model": "wan2.7-imge", "prompt": "x"})
    desk.drop("notes.txt", b"milk")
    done = run(
        *desk.arguments, "--once", "--time-scale", "0.1", env={"RETOUCH_HOME": str(desk.home)}
    )
    assert done.returncode == 2
    assert (
        "notes.txt: is neither a sidecar (.json) nor an image: not a readable image" in done.stdout
    )
    [line] = [line for line in done.stdout.splitlines() if "REJECTED" in line]
    assert 'did you mean "wan2.7-image"?' in line
    assert desk.status("bad") == "REJECTED"
