"""The buckets: exact versions in; whole objects, or none, out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from retouch.aws.storage import S3Inbox, S3Outbox
from retouch.errors import ProviderRefused, RetouchError, TryLater
from retouch.ports import Stored
from tests.integration.conftest import Stack

MIB = 1024 * 1024


def put(stack: Stack, key: str, data: bytes) -> str:
    return stack.s3.put_object(Bucket=stack.inbox, Key=key, Body=data)["VersionId"]


# --- inbox ----------------------------------------


def test_the_head_is_the_current_version(inbox: S3Inbox, stack: Stack) -> None:
    put(stack, "a.png", b"old")
    current = put(stack, "a.png", b"newer")

    assert inbox.head("a.png") == Stored("a.png", current, 5)


def test_a_version_is_read_though_it_was_overwritten_and_deleted_since(
    inbox: S3Inbox, stack: Stack
) -> None:
    # Faults 6 and 7.
    old = put(stack, "a.png", b"old")
    put(stack, "a.png", b"new")
    stack.s3.delete_object(Bucket=stack.inbox, Key="a.png")

    assert inbox.read("a.png", old) == b"old"
    assert inbox.head("a.png") is None


def test_a_version_that_was_purged_is_gone(inbox: S3Inbox, stack: Stack) -> None:
    version = put(stack, "a.png", b"x")
    stack.s3.delete_object(Bucket=stack.inbox, Key="a.png", VersionId=version)

    assert inbox.read("a.png", version) is None
    assert inbox.head("a.png") is None


def test_a_delete_marker_has_no_bytes(inbox: S3Inbox, stack: Stack) -> None:
    put(stack, "a.png", b"x")
    marker = stack.s3.delete_object(Bucket=stack.inbox, Key="a.png")["VersionId"]

    assert inbox.read("a.png", marker) is None


def test_what_was_never_dropped_is_not_there(inbox: S3Inbox) -> None:
    assert inbox.head("nothing.png") is None
    assert inbox.keys("nothing") == []


def test_keys_are_listed_by_prefix_without_what_was_deleted(inbox: S3Inbox, stack: Stack) -> None:
    for key in ("a.png", "a.jpg", "a b.png", "b.png", "a.gone.png"):
        put(stack, key, b"x")
    stack.s3.delete_object(Bucket=stack.inbox, Key="a.gone.png")

    assert inbox.keys("a.") == ["a.jpg", "a.png"]
    assert inbox.keys("a") == ["a b.png", "a.jpg", "a.png"]


def test_keys_are_listed_over_all_pages(inbox: S3Inbox, stack: Stack) -> None:
    names = [f"many.{number:04d}.png" for number in range(1010)]  # a page has a thousand
    for name in names:
        put(stack, name, b"x")

    assert inbox.keys("many.") == names


@pytest.mark.parametrize("key", ["a b+c%20#.png", "图片/红.png", "🎨.png", "x" * 1024])
def test_keys_of_every_spelling_are_found(inbox: S3Inbox, stack: Stack, key: str) -> None:
    # Fault 8.
    version = put(stack, key, b"data")

    assert inbox.head(key) == Stored(key, version, 4)
    assert inbox.read(key, version) == b"data"
    assert inbox.keys(key) == [key]


def test_a_presigned_url_names_the_version_the_type_and_its_end(
    inbox: S3Inbox, stack: Stack
) -> None:
    version = put(stack, "图 1.png", b"x")

    url = inbox.presign("图 1.png", version, "image/png", 3600)

    assert url.isascii()  # contract 3.2: no characters outside ASCII
    assert url.startswith("https://")
    query = parse_qs(urlsplit(url).query)
    assert query["versionId"] == [version]
    assert query["response-content-type"] == ["image/png"]
    assert query["X-Amz-Expires"] == ["3600"]


# --- outbox ----------------------------------------


def test_an_object_is_written_with_its_type_and_version(outbox: S3Outbox, stack: Stack) -> None:
    version = outbox.put("a/job.json", b"{}", "application/json")

    stored = stack.s3.get_object(Bucket=stack.outbox, Key="a/job.json")
    assert stored["Body"].read() == b"{}"
    assert (stored["ContentType"], stored["VersionId"]) == ("application/json", version)


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [1],
        [3 * MIB],
        [8 * MIB - 1, 1],
        [8 * MIB],
        [8 * MIB, 1],
        [1 * MIB] * 20,
        [5, 17 * MIB, 3],
    ],
    ids=lambda sizes: f"{sum(sizes)} bytes in {len(sizes)}",
)
def test_a_stream_is_written_whole_in_its_order(
    outbox: S3Outbox, stack: Stack, sizes: list[int]
) -> None:
    chunks = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    whole = b"".join(chunks)

    version = outbox.put_stream("a/a-1.png", iter(chunks), "image/png")

    stored = stack.s3.get_object(Bucket=stack.outbox, Key="a/a-1.png")
    assert hashlib.sha256(stored["Body"].read()).digest() == hashlib.sha256(whole).digest()
    assert stored["ContentType"] == "image/png"
    assert version is not None
    assert stored["VersionId"] == version
    if len(whole) > 8 * MIB:
        assert "-" in stored["ETag"]  # it went in parts


def test_each_write_gives_its_own_version(outbox: S3Outbox, stack: Stack) -> None:
    small = outbox.put_stream("a.png", iter([b"one"]), "image/png")
    large = outbox.put_stream("a.png", iter([b"x" * 9 * MIB]), "image/png")
    plain = outbox.put("a.png", b"three", "image/png")

    listed = stack.s3.list_object_versions(Bucket=stack.outbox, Prefix="a.png")["Versions"]
    assert {version["VersionId"] for version in listed} == {small, large, plain}
    latest = [version["VersionId"] for version in listed if version["IsLatest"]]
    assert latest == [plain]


@pytest.mark.parametrize("size", [0, 3, 9 * MIB, 20 * MIB])
@pytest.mark.parametrize(
    "error",
    [
        TryLater("the download ended after 1 of 2 bytes"),
        ProviderRefused("ResultTooLarge", "more than allowed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_stream_that_breaks_leaves_no_object_and_no_parts(
    outbox: S3Outbox, stack: Stack, size: int, error: RetouchError
) -> None:
    # Fault 37.
    def chunks() -> Iterator[bytes]:
        for _ in range(size // MIB):
            yield b"x" * MIB
        yield b"x" * (size % MIB)
        raise error

    with pytest.raises(type(error)) as caught:
        outbox.put_stream("a/a-1.png", chunks(), "image/png")

    assert caught.value is error
    assert "Contents" not in stack.s3.list_objects_v2(Bucket=stack.outbox)
    assert "Uploads" not in stack.s3.list_multipart_uploads(Bucket=stack.outbox)


def test_a_stream_that_breaks_leaves_the_former_object(outbox: S3Outbox, stack: Stack) -> None:
    outbox.put("a.png", b"former", "image/png")

    def chunks() -> Iterator[bytes]:
        yield b"x" * 9 * MIB
        raise TryLater("the download failed")

    with pytest.raises(TryLater):
        outbox.put_stream("a.png", chunks(), "image/png")

    stored = stack.s3.get_object(Bucket=stack.outbox, Key="a.png")
    assert stored["Body"].read() == b"former"


def test_a_write_after_a_broken_one_gives_its_own_version(outbox: S3Outbox, stack: Stack) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise TryLater("no")

    with pytest.raises(TryLater):
        outbox.put_stream("a.png", broken(), "image/png")

    version = outbox.put_stream("a.png", iter([b"fine"]), "image/png")

    assert stack.s3.head_object(Bucket=stack.outbox, Key="a.png")["VersionId"] == version


def test_what_was_sent_is_read_back_by_its_version(outbox: S3Outbox, stack: Stack) -> None:
    first = outbox.put("a/sent/image-1.png", b"first", "image/png")
    outbox.put("a/sent/image-1.png", b"second", "image/png")

    assert outbox.read("a/sent/image-1.png", first) == b"first"
    assert outbox.read("a/sent/image-1.png", None) == b"second"
    assert outbox.read("a/sent/image-2.png", None) is None
    stack.s3.delete_object(Bucket=stack.outbox, Key="a/sent/image-1.png", VersionId=str(first))
    assert outbox.read("a/sent/image-1.png", first) is None


def test_what_was_sent_is_presigned_by_its_version(outbox: S3Outbox) -> None:
    version = outbox.put("a/sent/image-1.png", b"x", "image/png")

    named = parse_qs(urlsplit(outbox.presign("a/sent/image-1.png", version, "image/png", 60)).query)
    latest = parse_qs(urlsplit(outbox.presign("a/sent/image-1.png", None, "image/png", 60)).query)

    assert named["versionId"] == [version]
    assert named["response-content-type"] == ["image/png"]
    assert "versionId" not in latest
