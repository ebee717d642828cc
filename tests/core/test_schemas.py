"""The published schemas: each state is played and keeps to its own, and what breaks one is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest

from retouch import schemas
from retouch.budget import Budget
from retouch.errors import AccountRefused, ProviderRefused
from retouch.jobs import Status
from retouch.provider.answers import TaskAnswer
from tests.fakes import PHOTO, Lost, World, sidecar_json
from tests.schemas import jsonschema, validator, wrong

HOURS = 3600.0


def waiting(world: World) -> None:
    world.drop("w.json", sidecar_json(images=["late.png"]))
    world.inbox.put("alone.png", PHOTO)
    world.clock.advance(2000)
    world.reconcile()


def rejected(world: World) -> None:
    world.drop("bad.png.json", sidecar_json(parameters={"n": 99}, labels={"sku": "A-113"}))
    world.drop("unreadable.json", b"{oops")


def succeeded(world: World) -> None:
    world.enter(labels={"sku": "A-113"}, fit=True)
    world.enter("url", images=["https://img.example.com/a.png?token=secret"])
    world.run(60)


def partial(world: World) -> None:
    job = world.running_job(parameters={"n": 2})
    assert job.task_id is not None
    world.provider.answers[job.task_id] = TaskAnswer(
        status="SUCCEEDED",
        images=world.provider.urls(job.task_id, 1),
        usage={"image_count": 1},
        submitted_at=world.clock.now(),
    )
    world.run(60)


def failed(world: World) -> None:
    world.enter()
    world.provider.next_calls.append(ProviderRefused("DataInspectionFailed", "no", "r-1"))
    world.run(60)


def canceled(world: World) -> None:
    job = world.enter()
    world.operate("cancel", job.job_id)
    world.operate("retry", job.job_id)
    world.drop("w.json", sidecar_json(images=["first.png"]))
    world.drop("w.json", sidecar_json(images=["second.png"]))


def lost(world: World) -> None:
    world.enter()
    world.provider.next_calls.append(Lost(made=True))
    world.run(120)


def unresolved(world: World) -> None:
    job = world.admitted_sync_job()
    world.provider.next_calls.append(Lost(made=False))
    world.generate(job.job_id, job.fence)


def stuck(world: World) -> None:
    world.running_job()
    world.clock.advance(21 * HOURS)
    world.reconcile()


def paused(world: World) -> None:
    world.enter()
    world.provider.next_calls.append(AccountRefused("Arrearage", "overdue", "r-1"))
    world.run(200)


def held(world: World) -> None:
    """By the stack's budget; and somebody copies the outbox into the inbox."""
    world.settings = replace(world.settings, budget=Budget(images_per_job=1))
    world.inbox.put("red.png", PHOTO)
    world.drop("red.png.json", sidecar_json(parameters={"n": 2}))
    world.drop("red/job.json", world.outbox.data("red/job.json"))


SCENES = (
    waiting, rejected, succeeded, partial, failed, canceled, lost, unresolved, stuck, paused, held,
)  # fmt: skip


def play(*scenes: Callable[[World], None]) -> list[World]:
    worlds = []
    for scene in scenes:
        world = World()
        scene(world)
        worlds.append(world)
    return worlds


@pytest.fixture(scope="module")
def events() -> dict[str, dict[str, Any]]:
    """The first event of each state and of each alert."""
    found: dict[str, dict[str, Any]] = {}
    for world in play(*SCENES):
        for event in world.notices.events:
            detail = {name: value for name, value in event.items() if name != "detail-type"}
            found.setdefault(event.get("status") or event["alert"], detail)
    return found


# --- what is sent ----------------------------------------------------------------------------------


def test_every_state_and_every_alert_is_told_and_keeps_to_its_schema(
    events: dict[str, dict[str, Any]],
) -> None:
    assert events.keys() == {*schemas.STATES, *schemas.ALERTS}
    for status in schemas.STATES:
        if status in events:
            assert wrong(f"events/job.{status.lower()}", events[status]) == []
            assert wrong("events/job", events[status]) == []
    for alert in schemas.ALERTS:
        assert wrong("events/alert", events[alert]) == []


def test_every_state_of_the_code_has_a_schema() -> None:
    assert {str(status) for status in Status} == set(schemas.STATES)


@pytest.mark.parametrize("scene", SCENES)
def test_records_and_messages_keep_to_their_schemas(scene: Callable[[World], None]) -> None:
    (world,) = play(scene)

    written = [
        json.loads(version.data)
        for key, versions in world.outbox.objects.items()
        if key.endswith("/job.json")
        for version in versions
    ]
    assert written
    assert [wrong("job", record) for record in written] == [[]] * len(written)
    for note in world.notices.notifications:
        name = "events/alert" if note.attributes["kind"] == "alert" else "events/job"
        assert wrong(name, note.message) == []


# --- what the schemas refuse -----------------------------------------------------------------------


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(document)
    at = made
    *way, last = path.split(".")
    for step in way:
        at = at[step]
    at[last] = value
    return made


@pytest.mark.parametrize(
    ("state", "path", "value"),
    [
        ("SUCCEEDED", "cost", None),
        ("SUCCEEDED", "failed_images", 1),
        ("SUCCEEDED", "failure", {"code": "X"}),
        ("SUCCEEDED", "prompt", "a secret wish"),
        ("SUCCEEDED", "status", "DONE"),
        ("SUCCEEDED", "status", "QUEUED"),
        ("SUCCEEDED", "outbox.images", ["", ""]),
        ("SUCCEEDED", "outbox.url", "https://signed.example.com"),
        ("SUCCEEDED", "images", "1"),
        ("SUCCEEDED", "at", "2026-01-31 10:00:21"),
        ("SUCCEEDED", "cost.amount", "a lot"),
        ("SUCCEEDED", "labels.sku", 113),
        ("SUCCEEDED", "format", 2),
        ("PARTIAL", "images", 0),
        ("FAILED", "failure", None),
        ("FAILED", "failure", {"code": "X", "message": "with the prompt"}),
        ("FAILED", "images", 1),
        ("REJECTED", "problems", 0),
        ("REJECTED", "cost", {"images": 0, "price": None, "amount": None, "currency": None}),
        ("UNRESOLVED", "doubt", False),
        ("RESOLVING", "doubt", False),
        ("WAITING", "doubt", True),
        ("QUEUED", "lane", None),
        ("RUNNING", "model", None),
        ("CANCELED", "images", 1),
        ("lane-paused", "code", None),
        ("lane-paused", "about", "a job"),
        ("lane-resumed", "code", "Arrearage"),
        ("results-at-risk", "about", "beijing:wan2.7-image"),
        ("results-at-risk", "alert", "something-else"),
        ("results-at-risk", "secret", "x"),
    ],
)
def test_what_breaks_the_promise_of_a_state_is_refused(
    events: dict[str, dict[str, Any]], state: str, path: str, value: Any
) -> None:
    name = "events/job" if state in schemas.STATES else "events/alert"
    assert wrong(name, events[state]) == []

    assert wrong(name, changed(events[state], path, value))


def test_every_field_of_an_event_is_required(events: dict[str, dict[str, Any]]) -> None:
    for state, name in (("SUCCEEDED", "events/job"), ("lane-paused", "events/alert")):
        for field in events[state]:
            less = {key: value for key, value in events[state].items() if key != field}
            assert wrong(name, less), field


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("outputs", []),
        ("secret", "x"),
        ("status", "DONE"),
        ("times.updated", None),
        ("times.provider", {"invented": "2026-01-31T10:00:21.345Z"}),
        ("inputs", [{"url": "https://img.example.com/a.png?Signature=x", "sent_as": None}]),
        ("request", None),
        ("failure", {"code": "X"}),
    ],
)
def test_a_record_that_breaks_its_promise_is_refused(path: str, value: Any) -> None:
    (world,) = play(partial)
    record = world.outbox.record("shoes/red")
    assert record["status"] == "PARTIAL"
    assert wrong("job", record) == []

    assert wrong("job", changed(record, path, value))


# --- the files -------------------------------------------------------------------------------------


def test_each_file_is_a_valid_schema_that_says_what_it_is_of() -> None:
    shipped = resources.files("retouch").joinpath("data")
    for name, made in schemas.files().items():
        assert json.loads(shipped.joinpath(name).read_text("utf-8")) == made
        jsonschema.Draft202012Validator.check_schema(made)
        assert made["title"]
        assert made["description"]


def test_the_schema_for_all_states_is_as_strict_as_each_state_s_own(
    events: dict[str, dict[str, Any]],
) -> None:
    for status in schemas.STATES:
        for other, event in events.items():
            if other in schemas.STATES:
                as_status = {**event, "status": status}
                own = validator(f"events/job.{status.lower()}").is_valid(as_status)
                assert validator("events/job").is_valid(as_status) == own, (status, other)
