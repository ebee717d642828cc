"""What a watch does to its stack's buckets: frees them, and finds the pages that are missing."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from retouch.aws.storage import S3Inbox
from retouch.cli.connection import Connection
from retouch.cli.watch_stack import copies, delete, needing_copies, without_page
from retouch.jobs import Job, Preset, PutJob, Status
from tests.integration.conftest import Stack


class Breaking:
    """S3, on which the process dies after so many deletions."""

    def __init__(self, s3: Any, deletions: int):
        self._s3 = s3
        self.left = deletions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)

    def delete_objects(self, **request: Any) -> Any:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self._s3.delete_objects(**request)


def put(stack: Stack, key: str, *bodies: str) -> None:
    for body in bodies:
        stack.s3.put_object(Bucket=stack.inbox, Key=key, Body=body.encode())


def seen(stack: Stack) -> dict[str, str]:
    """What the bucket shows: its current objects."""
    listed = stack.s3.list_objects_v2(Bucket=stack.inbox).get("Contents", [])
    return {
        one["Key"]: stack.s3.get_object(Bucket=stack.inbox, Key=one["Key"])["Body"].read().decode()
        for one in listed
    }


def kept(stack: Stack) -> int:
    listed = stack.s3.list_object_versions(Bucket=stack.inbox)
    return len([*listed.get("Versions", []), *listed.get("DeleteMarkers", [])])


def purge(s3: Any, bucket: str, *, current_too: bool, at_once: int = 1000) -> None:
    delete(s3, bucket, copies(s3, bucket, current_too=current_too), at_once)


@pytest.fixture
def some(stack: Stack) -> dict[str, str]:
    put(stack, "a.jpg", "a1", "a2", "a3")
    put(stack, "gone.jpg", "g1", "g2")
    stack.s3.delete_object(Bucket=stack.inbox, Key="gone.jpg")
    put(stack, "z.jpg", "z1")
    assert kept(stack) == 7
    return {"a.jpg": "a3", "z.jpg": "z1"}


def test_originals_that_are_in_the_folder_stay_and_all_else_goes(
    stack: Stack, some: dict[str, str]
) -> None:
    purge(stack.s3, stack.inbox, current_too=False)
    assert seen(stack) == some
    assert kept(stack) == 2


@pytest.mark.parametrize("current_too", [False, True])
@pytest.mark.parametrize("deletions", range(7))
def test_broken_off_at_any_deletion_no_older_version_has_come_back(
    stack: Stack, some: dict[str, str], deletions: int, current_too: bool
) -> None:
    breaking = Breaking(stack.s3, deletions)
    try:
        purge(breaking, stack.inbox, current_too=current_too, at_once=1)
    except KeyboardInterrupt:
        assert breaking.left == 0
    assert seen(stack).items() <= some.items()
    if not current_too:
        assert seen(stack) == some
    purge(stack.s3, stack.inbox, current_too=current_too)
    assert kept(stack) == (0 if current_too else 2)


def test_what_is_written_once_it_was_seen_what_can_go_stays(stack: Stack) -> None:
    put(stack, "a/job.json", "told")
    going = copies(stack.s3, stack.inbox, current_too=True)
    put(stack, "a/job.json", "told later")
    put(stack, "a/index.html", "made later")

    delete(stack.s3, stack.inbox, going)

    assert seen(stack) == {"a/job.json": "told later", "a/index.html": "made later"}
    assert kept(stack) == 2


# --- who may need them -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({}, False),
        ({"status": Status.FAILED}, False),
        ({"retry_of": "f" * 16}, True),
        ({"status": Status.HELD}, True),
        ({"status": Status.UNRESOLVED}, True),
    ],
)
def test_what_a_person_may_yet_send_needs_the_copies(
    connection: Connection, changes: dict[str, Any], needs: bool
) -> None:
    connection.store.commit((PutJob(waiting(**changes)),))
    assert bool(needing_copies(connection)) is needs


def test_what_waits_under_a_preset_that_was_changed_since_needs_the_copies(
    connection: Connection, stack: Stack
) -> None:
    put(stack, "_preset.json", "{}")
    there = S3Inbox(stack.s3, stack.inbox).head("_preset.json")
    assert there is not None
    job = waiting(presets=(Preset(key=there.key, version_id=there.version_id),))
    connection.store.commit((PutJob(job),))
    assert needing_copies(connection) == []

    put(stack, "_preset.json", "{ }")
    assert needing_copies(connection) == [job]
    stack.s3.delete_object(Bucket=stack.inbox, Key="_preset.json")
    assert needing_copies(connection) == [job]


def waiting(**changes: Any) -> Job:
    return Job(
        job_id="a" * 16,
        version=1,
        status=Status.WAITING,
        created_at=1.0,
        updated_at=1.0,
        sidecar="a.jpg.json",
        sidecar_version="v1",
        folder="a",
        missing=("a.jpg",),
    ).model_copy(update=changes)


# --- pages -----------------------------------------------------------------------------------------


def record(stack: Stack, folder: str, status: Status) -> None:
    told = json.dumps({"job_id": "j", "status": status})
    stack.s3.put_object(Bucket=stack.outbox, Key=f"{folder}/job.json", Body=told.encode())


def page(stack: Stack, folder: str) -> None:
    stack.s3.put_object(Bucket=stack.outbox, Key=f"{folder}/index.html", Body=b"<html>")


def test_the_pages_that_are_missing_or_older_than_their_record_are_found(stack: Stack) -> None:
    for status in Status:
        record(stack, f"none/{status}", status)
    record(stack, "fresh", Status.SUCCEEDED)
    page(stack, "fresh")
    page(stack, "stale")
    stack.s3.put_object(Bucket=stack.outbox, Key="odd/job.json", Body=b"no record")
    page(stack, "gallery")
    settled = {f"none/{status}" for status in Status if status.settled}
    assert set(without_page(stack.s3, stack.outbox)) == settled

    written = modified(stack, "stale/index.html")
    while True:  # S3 tells time by the second
        record(stack, "stale", Status.FAILED)
        if modified(stack, "stale/job.json") > written:
            break
    assert set(without_page(stack.s3, stack.outbox)) == settled | {"stale"}


def modified(stack: Stack, key: str) -> datetime:
    return stack.s3.head_object(Bucket=stack.outbox, Key=key)["LastModified"]
