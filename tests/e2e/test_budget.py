"""Budgets and runaways on the embedded engine: held, said, released; from the command line and S3."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retouch.local.stack import Blueprint, temporary
from tests.e2e.support import User, picture, until
from tests.e2e.test_stacks import run

NAME = "budget"
LIMITS = {"images_per_day": 3, "images_per_job": 2, "cost_per_job": {"CNY": "5"}, "same_per_day": 1}


@pytest.fixture(scope="module")
def person(home: Path) -> Iterator[User]:
    """Somebody whose stack may make three images a day."""
    blueprint = Blueprint(name=NAME, time_scale=0.1, parameters={"Budget": json.dumps(LIMITS)})
    with temporary(blueprint) as stack:
        yield User(stack)


def retouch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, "--stack", NAME)


def at(person: User, folder: str, *statuses: str) -> dict[str, Any]:
    """The job's record once it is in one of these states."""

    def look() -> dict[str, Any] | None:
        record = person.record(folder)
        return record if record is not None and record["status"] in statuses else None

    return until(look, f"{folder} is {' or '.join(statuses)}; now {person.record(folder)}")


def test_a_day_s_budget_holds_says_so_and_a_person_releases(person: User, tmp_path: Path) -> None:
    for name, n in (("a", 2), ("b #%+ 红", 2), ("c", 9)):
        (tmp_path / f"{name}.jpg").write_bytes(picture())
        said = {"model": "wan2.7-image", "prompt": name, "parameters": {"n": n if n < 9 else 4}}
        (tmp_path / f"{name}.jpg.json").write_text(json.dumps(said))

    dropped = retouch("drop", str(tmp_path), "--wait", "--json")

    assert dropped.returncode == 1, dropped.stderr
    jobs = {job["folder"]: job for job in json.loads(dropped.stdout)["jobs"]}
    held = [job for job in jobs.values() if job["status"] == "HELD"]
    assert {job["status"] for job in jobs.values()} == {"SUCCEEDED", "HELD"}
    assert len(held) == 2
    assert all(job["reason"].startswith("held: it makes up to") for job in held)
    assert "images_per_job of the stack is 2" in jobs["c"]["reason"]
    listed = retouch("jobs", "--state", "held")
    assert "retouch release" in listed.stdout

    second = next(job for job in held if job["folder"] != "c")
    released = retouch("release", second["job_id"])
    assert released.returncode == 0, released.stderr
    assert "it counts as 2 images of" in released.stdout
    assert person.settled(second["folder"])["status"] == "SUCCEEDED"
    assert retouch("release", second["sidecar"]).returncode == 0
    assert len(person.creates(f'"{second["folder"]}"')) <= 1
    assert retouch("cancel", "c.jpg.json").returncode == 0
    record = at(person, second["folder"], "SUCCEEDED")
    assert [charged["images"] for charged in record["charged"]] == [2]
    assert record["estimate"]["images"] == 2
    assert record["released"] is not None


def test_a_record_in_the_inbox_is_ignored_and_told_of_once(person: User) -> None:
    hear = person.inbox_of_news()
    person.put("loop/x.jpg.json", {"model": "wan2.7-image", "prompt": "x", "n": 1})
    refused = person.settled("loop/x")
    assert refused["status"] == "REJECTED"

    def alerts() -> list[dict[str, Any]]:
        told = [news.get("detail", {}) for news in hear()]
        return [detail for detail in told if detail.get("alert") == "outbox-in-inbox"]

    person.put("loop/x/job.json", refused)
    person.put("loop/y/job.json", refused)
    # Whatever is dropped after them has ended, so they have been seen.
    person.put("loop/z.jpg.json", {"model": "wan2.7-image", "prompt": "z", "n": 1})
    assert person.settled("loop/z")["status"] == "REJECTED"
    [alert] = until(lambda: alerts() or None, "the alert is told")
    assert "/job.json in the inbox is a record that retouch wrote" in alert["text"]
    assert person.record("loop/x/job") is None
    assert person.record("loop/y/job") is None
