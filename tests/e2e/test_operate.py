"""Cancel, retry and resolve, from the command line through the deployed function to the provider."""

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

NAME = "operate"
WANX = "wanx2.1-imageedit"
WAN27 = "wan2.7-image"


@pytest.fixture(scope="module")
def person(home: Path) -> Iterator[User]:
    """Somebody with a stack whose tasks take their time, so that there is something to stop."""
    with temporary(Blueprint(name=NAME, time_scale=1.0)) as stack:
        yield User(stack)


def retouch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, "--stack", NAME)


def drop(person: User, name: str, prompt: str, model: str = WANX, **fields: Any) -> str:
    """Drop an image and its sidecar; the sidecar's key."""
    said: dict[str, Any] = {"model": model, "prompt": prompt, **fields}
    if model == WANX:
        said["function"] = "colorization"
    person.put(f"{name}.jpg", picture())
    person.put(f"{name}.jpg.json", said)
    return f"{name}.jpg.json"


def at(person: User, folder: str, *statuses: str) -> dict[str, Any]:
    """The job's record once it is in one of these states."""

    def look() -> dict[str, Any] | None:
        record = person.record(folder)
        return record if record is not None and record["status"] in statuses else None

    return until(look, f"{folder} is {' or '.join(statuses)}; now {person.record(folder)}")


def test_of_many_jobs_one_that_waits_is_cancelled_and_never_sent(person: User) -> None:
    names = [f"many/{number}" for number in range(6)]
    for name in names:
        drop(person, name, f"wish {name}")
    # Behind all the others, of which two are worked on and one waits at the provider.
    sidecar = drop(person, "many/last", "a last wish", priority=0)
    until(lambda: len(person.creates("wish many")) >= 3 or None, "the window is full")
    at(person, "many/last", "QUEUED")

    done = retouch("cancel", sidecar)

    assert done.returncode == 0, done.stderr
    assert "it is cancelled; nothing is billed" in done.stdout
    record = person.settled("many/last")
    assert (record["status"], record["task_id"]) == ("CANCELED", None)
    assert record["cancel"]["asked"]
    twice = retouch("cancel", record["job_id"], "--json")
    assert twice.returncode == 0
    assert json.loads(twice.stdout) == {
        "job_id": record["job_id"],
        "sidecar": sidecar,
        "status": "CANCELED",
        "did": "it was cancelled already",
        "could_not": None,
    }
    others = [person.settled(name, 180) for name in names]
    assert {other["status"] for other in others} == {"SUCCEEDED"}
    assert person.creates("a last wish") == []
    assert len(person.creates("wish many")) == len(names)
    late = retouch("cancel", f"{names[0]}.jpg.json")
    assert late.returncode == 1
    assert late.stdout == ""
    assert "it has ended already as SUCCEEDED" in late.stderr


def test_a_job_that_is_worked_on_is_not_cancelled_and_its_results_come(person: User) -> None:
    sidecar = drop(person, "under way", "a slow wish", WAN27)
    at(person, "under way", "RUNNING")
    until(
        lambda: (
            any(task["status"] == "RUNNING" for task in person.simulator("tasks")["tasks"]) or None
        ),
        "it is worked on",
    )

    refused = retouch("cancel", sidecar)

    assert refused.returncode == 1, refused.stdout
    assert "the request is noted" in refused.stdout
    assert "the provider refused" in refused.stderr
    assert "its results come all the same" in refused.stderr
    record = person.settled("under way")
    assert (record["status"], len(record["outputs"])) == ("SUCCEEDED", 1)
    assert record["cancel"]["answer"].startswith("the provider refused")
    assert len(person.creates("a slow wish")) == 1


def test_a_failed_job_is_tried_again_once(person: User) -> None:
    sidecar = drop(person, "again/no", "a forbidden wish", WAN27)
    first = person.settled("again/no")
    assert (first["status"], first["failure"]["code"]) == ("FAILED", "DataInspectionFailed")

    done = retouch("retry", sidecar)

    assert done.returncode == 0, done.stderr
    second = until(
        lambda: r if (r := person.record("again/no")) and r["retry_of"] else None, "a second job"
    )
    assert second["job_id"] != first["job_id"]
    assert second["retry_of"] == first["job_id"]
    assert f"it is tried again as job {second['job_id']}" in done.stdout
    assert second["inputs"][0]["version_id"] == first["inputs"][0]["version_id"]
    twice = retouch("retry", first["job_id"])
    assert twice.returncode == 1
    assert twice.stdout == ""
    assert f"it was tried again already, as job {second['job_id']}" in twice.stderr
    assert person.settled("again/no")["status"] == "FAILED"
    shown = json.loads(retouch("show", first["job_id"], "--json").stdout)
    assert shown["retried_as"] == second["job_id"]
    assert len(person.creates("a forbidden wish")) == 2


def test_the_image_s_name_shows_retries_and_cancels_every_variant(person: User) -> None:
    variants = [{"name": "good"}, {"name": "bad", "prompt": "a forbidden variant"}]
    drop(person, "both", "a fine variant", WAN27, variants=variants)
    assert person.settled("both/good")["status"] == "SUCCEEDED"
    first = person.settled("both/bad")

    shown = json.loads(retouch("show", "both.jpg", "--json").stdout)
    done = retouch("retry", "both.jpg")

    assert shown["statuses"] == {"SUCCEEDED": 1, "FAILED": 1}
    assert [job["part"]["variant"] for job in shown["jobs"]] == ["good", "bad"]
    assert done.returncode == 0, done.stderr
    assert "both.jpg.json, good (job " in done.stdout
    second = until(
        lambda: r if (r := person.record("both/bad")) and r["retry_of"] else None, "a second job"
    )
    assert second["retry_of"] == first["job_id"]
    assert person.settled("both/bad")["status"] == "FAILED"
    assert len(person.creates("a fine variant")) == 1
    late = retouch("cancel", "both.jpg")
    assert (late.returncode, late.stderr) == (0, "")
    assert late.stdout.count("nothing to do") == 2


def test_a_chain_goes_on_at_the_step_that_failed(person: User) -> None:
    steps = [{"prompt": "a first step"}, {"prompt": "a forbidden step"}, {"prompt": "a last step"}]
    drop(person, "链 #+%/red", "", WAN27, steps=steps)
    last = person.settled("链 #+%/red")
    assert (last["status"], last["failure"]["code"]) == ("FAILED", "StepFailed")
    made = person.settled("链 #+%/red/step-1")
    failed = person.settled("链 #+%/red/step-2")
    assert (made["status"], failed["status"]) == ("SUCCEEDED", "FAILED")

    done = retouch("retry", "链 #+%/red.jpg")

    assert done.returncode == 0, done.stderr
    assert "from step 2 on" in done.stdout
    second = until(
        lambda: (
            r
            if (r := person.record("链 #+%/red/step-2"))
            and r["retry_of"] == failed["job_id"]
            and r["status"] == "FAILED"
            else None
        ),
        "the second step has ended once more",
    )
    assert second["inputs"][0]["sha256"] == made["outputs"][0]["sha256"]
    assert person.record("链 #+%/red/step-1") == made
    assert len(person.creates("a first step")) == 1
    assert len(person.creates("a forbidden step")) == 2
    assert not person.creates("a last step")


def test_a_job_that_is_not_held_is_not_resolved(person: User) -> None:
    sidecar = drop(person, "fine", "a good wish", WAN27)
    job_id = at(person, "fine", "RUNNING", "SUCCEEDED")["job_id"]
    for options in (("--adopt", "86ecf553-d340-4e21"), ("--again",), ("--fail",)):
        done = retouch("resolve", sidecar, *options)

        assert done.returncode == 1
        assert done.stdout == ""
        assert "not held for a decision" in done.stderr
        assert job_id in done.stderr
    assert person.settled("fine")["status"] == "SUCCEEDED"
    assert len(person.creates("a good wish")) == 1


@pytest.mark.parametrize("command", [("cancel",), ("retry",), ("resolve", "--fail")])
def test_a_job_that_is_not_there_is_wrong_input(person: User, command: tuple[str, ...]) -> None:
    done = retouch(command[0], "fedcba9876543210", *command[1:])

    assert done.returncode == 2
    assert done.stdout == ""
    assert 'there is no job "fedcba9876543210"' in done.stderr


def test_resolve_without_a_decision_is_wrong_usage(person: User) -> None:
    done = retouch("resolve", "fedcba9876543210")

    assert done.returncode == 2
    assert "exactly one of --adopt TASK, --again and --fail is needed" in done.stderr
