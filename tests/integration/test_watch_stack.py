"""What a watch does to its stack's buckets: frees them, and finds the pages that are missing."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from retouch.cli.watch_stack import purge, without_page
from retouch.jobs import Status
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
        purge(breaking, stack.inbox, current_too=current_too, at_once=1)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        assert breaking.left == 0
    assert seen(stack).items() <= some.items()
    if not current_too:
        assert seen(stack) == some
    purge(stack.s3, stack.inbox, current_too=current_too)
    assert kept(stack) == (0 if current_too else 2)


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
