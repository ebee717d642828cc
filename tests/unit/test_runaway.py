"""What is recognised as ours, and which jobs are the very same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from retouch.examples import load
from retouch.jobs import Job, Source, Status
from retouch.records import record
from retouch.runaway import LARGEST_RECORD, is_record, outbox_in_inbox, sameness

JOB = Job(
    job_id="k3v2" * 4,
    status=Status.SUCCEEDED,
    created_at=1.0,
    updated_at=2.0,
    sidecar="鞋/red.jpg.json",
    sidecar_version="v1",
    folder="鞋/red",
    model="wan2.7-image",
    prompt="红色 🎨",
    parameters={"n": 1},
    images=(Source(key="鞋/red.jpg", version_id="v2", sha256="1" * 64),),
)


def written(**changes: Any) -> dict[str, Any]:
    return record(JOB.model_copy(update=changes))


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("indent", [None, 2])
def test_every_record_is_recognised(status: Status, indent: int | None) -> None:
    said = written(status=status)
    for text in (json.dumps(said, indent=indent), json.dumps(said, ensure_ascii=False)):
        assert is_record(text.encode("utf-8"))


def test_the_record_of_an_image_without_a_sidecar_is_recognised() -> None:
    assert is_record(json.dumps(written(sidecar_version=None, prompt=None)).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"job_id": "short"},
        {"job_id": 7},
        {"status": "DONE"},
        {"sidecar": "red.jpg.json"},
        {"format": "1"},
    ],
)
def test_what_only_looks_like_one_is_not(changes: dict[str, Any]) -> None:
    assert not is_record(json.dumps(written() | changes).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'"job_id" "request_ids"',
        b'["job_id", "request_ids"]',
        b'{"job_id": 1, "request_ids": ' + b"[" * 200_000,
        b"\xff\xfe" + b'"job_id" "request_ids"',
        json.dumps(written()).encode() + b" " * LARGEST_RECORD,
    ],
)
def test_bytes_of_any_kind_are_no_record_and_no_error(data: bytes) -> None:
    assert not is_record(data)


def test_no_example_of_a_sidecar_is_taken_for_one() -> None:
    assert load()
    for example in load():
        assert not is_record(json.dumps(example.sidecar).encode())


SAME = sameness(JOB)


@pytest.mark.parametrize(
    "changes",
    [
        {"job_id": "a" * 16, "sidecar": "b.json", "folder": "b", "created_at": 9.0},
        {"labels": {"sku": "1"}, "priority": 9},
        {"images": (Source(key="other.jpg", version_id="v9", sha256="1" * 64),)},
    ],
)
def test_where_it_lies_and_when_it_came_makes_no_other_job(changes: dict[str, Any]) -> None:
    assert sameness(JOB.model_copy(update=changes)) == SAME


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "wan2.7-image-pro"},
        {"function": "expand"},
        {"prompt": "blue"},
        {"negative_prompt": "blue"},
        {"parameters": {"n": 2}},
        {"parameters": {"n": 1, "seed": 1}},
        {"images": (Source(key="鞋/red.jpg", version_id="v2", sha256="2" * 64),)},
        {"images": (*JOB.images, *JOB.images)},
        {"images": ()},
        {"images": (Source(key="https://example.com/a.jpg"),)},
        {"mask": JOB.images[0]},
    ],
)
def test_what_is_asked_for_and_of_which_bytes_does(changes: dict[str, Any]) -> None:
    assert sameness(JOB.model_copy(update=changes)) != SAME


def test_the_alert_is_the_same_all_day() -> None:
    first, second = (outbox_in_inbox(key, "2026-01-31", 1.0) for key in ("a.json", "b.json"))
    assert first.alert_id == second.alert_id == "outbox-in-inbox:2026-01-31"
    assert "a.json" in first.text
