"""What a job tells the world: all in job.json, little in notifications, no secrets in either."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from retouch.jobs import (
    Cost,
    Failure,
    Finding,
    Job,
    Output,
    Source,
    Status,
    Way,
    retried,
    settle,
)
from retouch.ports import App
from retouch.records import EVENT_SOURCE, EVENT_TYPE, announcement, cost_of, publish, record
from retouch.registry import MODELS, Json, Mode
from retouch.settings import Price

from .helpers import utf8

SHA = "0" * 64
SECRETS = ("Signature", "s3cr3t", "X-Amz", "Expires")
PROMPT = "a ceramic rabbit holding a ceramic flower"

DONE = Job(
    job_id="0123456789abcdef",
    message_version=9,
    version=9,
    status=Status.PARTIAL,
    created_at=1775124000.0,
    updated_at=1775124060.5,
    sidecar="shoes/red 红.jpg.json",
    sidecar_version="v1",
    folder="shoes/red 红",
    model="wanx2.1-imageedit",
    function="description_edit_with_mask",
    call=Mode.ASYNC,
    path="services/aigc/image2image/image-synthesis",
    prompt=PROMPT,
    parameters={"n": 2, "seed": 7},
    images=(
        Source(
            key="shoes/red 红.jpg",
            version_id="v2",
            sha256=SHA,
            size=1234,
            mime="image/jpeg",
            width=800,
            height=600,
        ),
        Source(key="https://img.example.com/a.jpg?X-Amz-Signature=s3cr3t&Expires=1"),
    ),
    mask=Source(key="https://img.example.com/m.png?Signature=s3cr3t", way=Way.PUBLIC),
    labels={"sku": "A-113"},
    priority=7,
    warnings=(Finding(field="images[0]", message="is small"),),
    lane="beijing:wanx2.1-imageedit",
    fence=3,
    admitted_at=1775124001.0,
    intent_at=1775124002.0,
    lost_at=1775124002.5,
    running_at=1775124003.0,
    ended_at=1775124050.0,
    finished_at=1775124060.0,
    task_id="task-1",
    create_request_id="req-1",
    result_request_id="req-2",
    provider_status="SUCCEEDED",
    usage={"image_count": 1},
    outputs=(
        Output(
            key="shoes/red 红/red 红-1.png",
            version_id="v3",
            sha256=SHA,
            size=99,
            width=800,
            height=600,
            number=1,
        ),
    ),
    image_failures=(Failure(code="InternalError.Timeout", message="too slow"),),
    rewritten_prompts=("A ceramic rabbit, holding …",),
    provider_times={"ended": 1775124049.0},
    cost=Cost(images=1, price="0.14", amount="0.14", currency="CNY"),
)


def told(job: Job) -> dict[str, Json]:
    return announcement(job, stack="retouch", inbox="the-inbox", outbox="the-outbox")


# --- job.json --------------------------------------------------------------------------------------


def test_a_record_holds_what_architecture_6_promises() -> None:
    made: Any = record(DONE)
    assert made["job_id"] == "0123456789abcdef"
    assert made["status"] == "PARTIAL"
    assert made["sidecar"] == {"key": "shoes/red 红.jpg.json", "version_id": "v1"}
    assert made["model"] == "wanx2.1-imageedit"
    assert made["request"] == {
        "call": "async",
        "path": "services/aigc/image2image/image-synthesis",
        "function": "description_edit_with_mask",
        "prompt": PROMPT,
        "negative_prompt": None,
        "parameters": {"n": 2, "seed": 7},
    }
    assert made["seed"] == 7
    assert made["task_id"] == "task-1"
    assert made["request_ids"] == {"create": "req-1", "result": "req-2"}
    assert made["inputs"][0] == {
        "made_by": None,
        "key": "shoes/red 红.jpg",
        "version_id": "v2",
        "sha256": SHA,
        "size": 1234,
        "mime": "image/jpeg",
        "width": 800,
        "height": 600,
        "mended": None,
        "sent_as": None,
    }
    assert made["outputs"] == [
        {
            "key": "shoes/red 红/red 红-1.png",
            "version_id": "v3",
            "sha256": SHA,
            "size": 99,
            "width": 800,
            "height": 600,
            "number": 1,
        }
    ]
    assert made["cost"] == {"images": 1, "price": "0.14", "amount": "0.14", "currency": "CNY"}
    assert [failure["code"] for failure in made["image_failures"]] == ["InternalError.Timeout"]
    assert made["rewritten_prompts"] == ["A ceramic rabbit, holding …"]
    assert made["labels"] == {"sku": "A-113"}
    assert made["warnings"] == [{"field": "images[0]", "message": "is small"}]


def test_times_are_said_in_utc() -> None:
    times: Any = record(DONE)["times"]
    assert times["created"].startswith("2026-04-02T10:00:00")
    assert times["finished"].startswith("2026-04-02T10:01:00")
    assert times.pop("provider") == {"ended": "2026-04-02T10:00:49.000Z"}
    assert all(time.endswith(("Z", "+00:00")) for time in times.values())


def test_urls_lose_their_query_in_a_record() -> None:
    made: Any = record(DONE)
    assert made["inputs"][1] == {"url": "https://img.example.com/a.jpg", "sent_as": None}
    assert made["mask"] == {"url": "https://img.example.com/m.png", "sent_as": "public-url"}
    text = utf8(made).decode()
    assert all(secret not in text for secret in SECRETS)


def test_a_rejected_drop_has_a_record_with_every_problem() -> None:
    job = Job(
        job_id="0123456789abcdef",
        version=1,
        status=Status.REJECTED,
        created_at=1775124000.0,
        updated_at=1775124000.0,
        sidecar="a.json",
        sidecar_version=None,
        folder="a",
        problems=(
            Finding(field="model", message="is missing"),
            Finding(field="", message="bad"),
        ),
    )
    made: Any = record(job)
    assert made["status"] == "REJECTED"
    assert made["problems"] == [
        {"field": "model", "message": "is missing"},
        {"field": "", "message": "bad"},
    ]
    assert made["request"] is None
    assert made["outputs"] == []
    assert made["times"]["finished"] is None
    assert json.loads(utf8(made)) == made


def test_a_record_says_what_went_wrong_and_what_is_in_doubt() -> None:
    failure = Failure(code="DataInspectionFailed", message="no", request_id="r")
    made: Any = record(DONE.model_copy(update={"failure": failure, "doubt": "two tasks fit"}))
    assert made["failure"] == {"code": "DataInspectionFailed", "message": "no", "request_id": "r"}
    assert made["doubt"] == "two tasks fit"


@pytest.mark.parametrize(
    ("images", "price", "expected"),
    [
        (
            3,
            Price(Decimal("0.14"), "CNY"),
            Cost(images=3, price="0.14", amount="0.42", currency="CNY"),
        ),
        (
            3,
            Price(Decimal("0.020070"), "USD"),
            Cost(images=3, price="0.020070", amount="0.060210", currency="USD"),
        ),
        (
            0,
            Price(Decimal("0.20"), "CNY"),
            Cost(images=0, price="0.20", amount="0.00", currency="CNY"),
        ),
        (2, None, Cost(images=2, price=None, amount=None, currency=None)),
    ],
)
def test_a_cost_is_images_times_price_and_exact(
    images: int, price: Price | None, expected: Cost
) -> None:
    assert cost_of(images, price) == expected


# --- announcements ---------------------------------------------------------------------------------


def test_an_announcement_says_which_job_where_and_how_it_went() -> None:
    made: Any = told(DONE)
    assert made["job_id"] == "0123456789abcdef"
    assert made["status"] == "PARTIAL"
    assert made["revision"] == 9
    assert made["stack"] == "retouch"
    assert made["inbox"] == {
        "bucket": "the-inbox",
        "key": "shoes/red 红.jpg.json",
        "version_id": "v1",
    }
    assert made["outbox"] == {
        "bucket": "the-outbox",
        "folder": "shoes/red 红",
        "record": "shoes/red 红/job.json",
        "images": ["shoes/red 红/red 红-1.png"],
    }
    assert (made["images"], made["failed_images"], made["problems"]) == (1, 1, 0)
    assert made["labels"] == {"sku": "A-113"}
    assert made["doubt"] is False


def test_an_announcement_holds_no_prompt_and_no_url() -> None:
    job = DONE.model_copy(
        update={
            "negative_prompt": "blurry fingers",
            "failure": Failure(
                code="InvalidURL", message="https://img.example.com/a.jpg?Signature=s3cr3t"
            ),
        }
    )
    text = utf8(told(job)).decode()
    for unwanted in (*SECRETS, PROMPT, "blurry fingers", "ceramic", "https://", "http://"):
        assert unwanted not in text


def test_an_announcement_is_small_enough_for_a_message() -> None:
    outputs = tuple(
        Output(key="k" * 1000 + f"-{n}.png", version_id="v", sha256=SHA, size=1) for n in range(12)
    )
    labels = {f"label {n}" + "x" * 240: "红" * 256 for n in range(20)}
    job = DONE.model_copy(update={"outputs": outputs, "labels": labels, "prompt": "x" * 5000})
    assert len(utf8(told(job))) < 200 * 1024  # SNS and EventBridge take 256 KB


# --- publish ---------------------------------------------------------------------------------------


@dataclass
class Store:
    """A job that may move on while it is being published: each look sees the next of `jobs`."""

    jobs: list[Job]
    marked: list[int] = field(default_factory=list)

    def job(self, job_id: str) -> Job | None:
        assert job_id == DONE.job_id
        return self.jobs.pop(0) if len(self.jobs) > 1 else self.jobs[0]

    def latest_job_of(self, sidecar: str) -> str | None:
        return self.jobs[0].job_id

    def mark_published(self, job_id: str, *versions: int) -> None:
        assert job_id == DONE.job_id
        self.marked += versions


@dataclass
class Outbox:
    written: list[tuple[str, Any, str]] = field(default_factory=list)

    def put(self, key: str, data: bytes, content_type: str) -> str | None:
        self.written.append((key, json.loads(data.decode("utf-8")), content_type))
        return "v"


@dataclass
class Notices:
    events: list[tuple[str, Mapping[str, Json]]] = field(default_factory=list)
    notified: list[tuple[str, Mapping[str, Json], Mapping[str, str]]] = field(default_factory=list)

    def tell(self, detail_type: str, details: Sequence[Mapping[str, Json]]) -> None:
        self.events += [(detail_type, detail) for detail in details]

    def notify(
        self, subject: str, message: Mapping[str, Json], attributes: Mapping[str, str]
    ) -> None:
        self.notified.append((subject, message, attributes))


@dataclass
class Clock:
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class World:
    """The four ports that publishing touches."""

    def __init__(self, *jobs: Job):
        self.store = Store(list(jobs))
        self.outbox = Outbox()
        self.notices = Notices()
        self.clock = Clock()
        self.settings = SimpleNamespace(
            stack="retouch", inbox="the-inbox", outbox="the-outbox", models=MODELS
        )

    def publish(self, *changes: Job) -> None:
        publish(cast("App", self), *changes)

    @property
    def notification(self) -> tuple[str, Mapping[str, Json], Mapping[str, str]]:
        assert len(self.notices.notified) == 1
        return self.notices.notified[0]


RUNNING = DONE.model_copy(update={"status": Status.RUNNING, "version": 5, "message_version": None})


def test_a_finished_job_is_written_announced_and_notified() -> None:
    world = World(DONE)
    world.publish(DONE)
    assert world.outbox.written == [
        ("shoes/red 红/job.json", record(DONE), "application/json; charset=utf-8")
    ]
    assert world.notices.events == [("Retouch Job State Change", told(DONE))]
    assert world.notification[1] == told(DONE)
    assert world.store.marked == [9]
    assert (EVENT_SOURCE, EVENT_TYPE) == ("retouch", "Retouch Job State Change")


def test_a_job_still_running_is_written_and_announced_but_nobody_is_notified() -> None:
    world = World(RUNNING)
    world.publish(RUNNING)
    assert len(world.outbox.written) == 1
    assert len(world.notices.events) == 1
    assert world.notices.notified == []


@pytest.mark.parametrize("status", list(Status))
def test_messages_are_for_ends_and_for_doubts_that_need_a_person(status: Status) -> None:
    before = RUNNING.model_copy(update={"status": Status.CREATING})
    job, _ = settle(before, 1775124060.0, status)
    world = World(job)
    world.publish(job)
    assert (len(world.notices.notified) == 1) is status.settled


def test_a_later_note_on_a_job_that_has_ended_is_no_second_message() -> None:
    noted, _ = retried(DONE, "b" * 16, 1775124060.0)
    world = World(noted)
    world.publish(noted)
    assert len(world.notices.events) == 1
    assert world.notices.notified == []


def test_several_changes_make_one_record_and_an_event_each() -> None:
    world = World(DONE)
    world.publish(RUNNING, DONE)
    assert len(world.outbox.written) == 1
    assert [detail["status"] for _, detail in world.notices.events] == ["RUNNING", "PARTIAL"]
    assert len(world.notices.notified) == 1
    assert world.store.marked == [5, 9]


def test_a_late_publisher_tells_its_own_change_but_writes_the_latest_record() -> None:
    world = World(DONE)
    world.publish(RUNNING)
    assert [body["status"] for _, body, _ in world.outbox.written] == ["PARTIAL"]
    assert [detail["status"] for _, detail in world.notices.events] == ["RUNNING"]
    assert world.notices.notified == []
    assert world.store.marked == [5]


def test_a_job_that_moves_on_while_it_is_written_ends_with_its_latest_record() -> None:
    world = World(RUNNING, DONE)
    world.publish(RUNNING)
    assert [body["status"] for _, body, _ in world.outbox.written] == ["RUNNING", "PARTIAL"]


@pytest.mark.parametrize(
    "sidecar",
    [
        "a.json",
        "shoes/red 红🐇.jpg.json",
        "x" * 1019 + ".json",
        "红" * 300 + ".json",
        "line\nend\r\t\x07\x7f.json",
        "é\u2028\u0085.json",
    ],
)
def test_subjects_are_what_sns_takes(sidecar: str) -> None:
    job = DONE.model_copy(update={"sidecar": sidecar})
    world = World(job)
    world.publish(job)
    subject, _, _ = world.notification
    assert 0 < len(subject) <= 100
    assert subject.isascii()
    assert subject.isprintable()
    assert subject[0].isalnum()
    assert "PARTIAL" in subject


def test_a_subject_names_the_sidecar() -> None:
    job = DONE.model_copy(update={"sidecar": "shoes/red.json"})
    world = World(job)
    world.publish(job)
    assert world.notification[0] == "retouch PARTIAL: shoes/red.json"


@pytest.mark.parametrize(
    ("changes", "attributes"),
    [
        pytest.param(
            {},
            {"status": "PARTIAL", "folder": "shoes", "model": "wanx2.1-imageedit"},
            id="in a folder",
        ),
        pytest.param(
            {"folder": "red"},
            {"status": "PARTIAL", "folder": "/", "model": "wanx2.1-imageedit"},
            id="at the root",
        ),
        pytest.param(
            {"model": None, "status": Status.REJECTED},
            {"status": "REJECTED", "folder": "shoes"},
            id="no model",
        ),
        pytest.param(
            {"status": Status.UNRESOLVED},
            {
                "status": "UNRESOLVED",
                "folder": "shoes",
                "model": "wanx2.1-imageedit",
                "doubt": "true",
            },
            id="unresolved",
        ),
        pytest.param(
            {"doubt": "two tasks fit"},
            {
                "status": "PARTIAL",
                "folder": "shoes",
                "model": "wanx2.1-imageedit",
                "doubt": "true",
            },
            id="in doubt",
        ),
    ],
)
def test_subscriptions_can_filter_on_attributes(
    changes: dict[str, Any], attributes: dict[str, str]
) -> None:
    job = DONE.model_copy(update=changes)
    world = World(job)
    world.publish(job)
    assert world.notification[2] == {"kind": "job", **attributes}
    assert all(world.notification[2].values())
