"""The buckets: exact versions in; whole objects, or none, out."""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote_plus, unquote, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ClientError

from retouch.aws.storage import S3Inbox, S3Outbox
from retouch.errors import Conflict, ProviderRefused, RetouchError, TryLater
from retouch.ports import Listed, Stored
from tests.integration.conftest import Stack

MIB = 1024 * 1024


class Died(BaseException):
    """What ends a process is no `Exception`."""


def put(stack: Stack, key: str, data: bytes) -> str:
    return stack.s3.put_object(Bucket=stack.inbox, Key=key, Body=data)["VersionId"]


def versions(stack: Stack, key: str) -> list[str]:
    """Every version of an object in the outbox, the latest first."""
    listed = stack.s3.list_object_versions(Bucket=stack.outbox, Prefix=key)
    return [version["VersionId"] for version in listed.get("Versions", [])]


def content(stack: Stack, key: str) -> bytes:
    return stack.s3.get_object(Bucket=stack.outbox, Key=key)["Body"].read()


def assert_no_parts(stack: Stack) -> None:
    assert "Uploads" not in stack.s3.list_multipart_uploads(Bucket=stack.outbox)


@dataclass(frozen=True)
class Asked:
    """A request to S3."""

    key: str
    part: int | None
    headers: dict[str, str]
    body: bytes

    @property
    def condition(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name.startswith("If-")}


@dataclass(frozen=True)
class Said:
    """An answer of S3, or the code of an error."""

    status: int
    code: str = ""
    body: dict[str, str] = field(default_factory=dict)


def answered(stack: Stack, operation: str, answer: Callable[[Asked], Said | None]) -> None:
    """Let `answer` stand for S3 in one operation; where it gives None, moto answers."""

    def call(params: dict[str, Any], **_: object) -> tuple[AWSResponse, dict[str, Any]] | None:
        key = unquote(params["url_path"]).removeprefix(f"/{stack.outbox}").lstrip("/")
        part = params["query_string"].get("partNumber")
        said = answer(Asked(key, part, dict(params["headers"]), params["body"]))
        if said is None:
            return None
        http = AWSResponse(params["url"], said.status, HTTPHeaders(), None)
        if said.code:
            return http, {"Error": {"Code": said.code, "Message": "No."}}
        return http, dict(said.body)

    listener: Callable[..., Any] = call
    stack.s3.meta.events.register(f"before-call.s3.{operation}", listener)


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

    version = outbox.put_stream("a/a-1.png", iter(chunks), "image/png", over=None)

    stored = stack.s3.get_object(Bucket=stack.outbox, Key="a/a-1.png")
    assert hashlib.sha256(stored["Body"].read()).digest() == hashlib.sha256(whole).digest()
    assert stored["ContentType"] == "image/png"
    assert version is not None
    assert stored["VersionId"] == version
    if len(whole) > 8 * MIB:
        assert "-" in stored["ETag"]  # it went in parts


def test_each_write_gives_its_own_version(outbox: S3Outbox, stack: Stack) -> None:
    small = outbox.put_stream("a.png", iter([b"one"]), "image/png", over=None)
    over = outbox.current("a.png")
    large = outbox.put_stream("a.png", iter([b"x" * 9 * MIB]), "image/png", over=over)
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
        Died("the process is told to end"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_stream_that_breaks_leaves_no_object_and_no_parts(
    outbox: S3Outbox, stack: Stack, size: int, error: RetouchError | Died
) -> None:
    # Fault 37.
    def chunks() -> Iterator[bytes]:
        for _ in range(size // MIB):
            yield b"x" * MIB
        yield b"x" * (size % MIB)
        raise error

    with pytest.raises(type(error)) as caught:
        outbox.put_stream("a/a-1.png", chunks(), "image/png", over=None)

    assert caught.value is error
    assert versions(stack, "a/a-1.png") == []
    assert_no_parts(stack)


def test_a_stream_that_breaks_leaves_the_former_object(outbox: S3Outbox, stack: Stack) -> None:
    outbox.put("a.png", b"former", "image/png")

    def chunks() -> Iterator[bytes]:
        yield b"x" * 9 * MIB
        raise TryLater("the download failed")

    with pytest.raises(TryLater):
        outbox.put_stream("a.png", chunks(), "image/png", over=outbox.current("a.png"))

    stored = stack.s3.get_object(Bucket=stack.outbox, Key="a.png")
    assert stored["Body"].read() == b"former"


def test_a_write_after_a_broken_one_gives_its_own_version(outbox: S3Outbox, stack: Stack) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise TryLater("no")

    with pytest.raises(TryLater):
        outbox.put_stream("a.png", broken(), "image/png", over=None)

    version = outbox.put_stream("a.png", iter([b"fine"]), "image/png", over=None)

    assert stack.s3.head_object(Bucket=stack.outbox, Key="a.png")["VersionId"] == version


# --- over what lies there ----------------------------------------

SMALL = [b"mine"]
LARGE = [b"m" * MIB] * 9
SIZES = pytest.mark.parametrize("chunks", [SMALL, LARGE], ids=["small", "in parts"])


@pytest.fixture
def strict(stack: Stack) -> None:
    """Completion looks at If-Match, as S3 does and ministack too; moto takes it and forgets it."""

    def look(asked: Asked) -> Said | None:
        expected = asked.condition.get("If-Match")
        if expected is None:
            return None
        there = S3Outbox(stack.s3, stack.outbox).current(asked.key)
        if there is None:
            return Said(404, "NoSuchKey")
        return None if there == expected else Said(412, "PreconditionFailed")

    answered(stack, "CompleteMultipartUpload", look)


def test_nothing_is_current_where_nothing_is_or_it_was_deleted(
    outbox: S3Outbox, stack: Stack
) -> None:
    assert outbox.current("a.png") is None
    outbox.put("a.png", b"x", "image/png")
    assert outbox.current("a.png") is not None
    stack.s3.delete_object(Bucket=stack.outbox, Key="a.png")
    assert outbox.current("a.png") is None


def test_what_is_current_is_named_as_s3_names_it(outbox: S3Outbox) -> None:
    outbox.put("图 1.png", b"one", "image/png")
    one = outbox.current("图 1.png")
    assert one == f'"{hashlib.md5(b"one").hexdigest()}"'
    outbox.put_stream("图 1.png", iter(LARGE), "image/png", over=one)
    two = outbox.current("图 1.png")
    assert two is not None
    assert two.endswith('-2"')
    outbox.put("图 1.png", b"one", "image/png")
    assert outbox.current("图 1.png") == one


@SIZES
@pytest.mark.usefixtures("strict")
def test_a_stream_is_written_over_what_was_seen_there(
    outbox: S3Outbox, stack: Stack, chunks: list[bytes]
) -> None:
    for _ in range(3):
        seen = outbox.current("a.png")
        version = outbox.put_stream("a.png", iter(chunks), "image/png", over=seen)
        assert versions(stack, "a.png")[0] == version
        stack.s3.put_object(Bucket=stack.outbox, Key="a.png", Body=b"of somebody else")
    assert len(versions(stack, "a.png")) == 6


@SIZES
@pytest.mark.usefixtures("strict")
def test_a_stream_is_written_where_something_was_deleted(
    outbox: S3Outbox, stack: Stack, chunks: list[bytes]
) -> None:
    outbox.put("a.png", b"former", "image/png")
    stack.s3.delete_object(Bucket=stack.outbox, Key="a.png")

    version = outbox.put_stream("a.png", iter(chunks), "image/png", over=None)

    assert versions(stack, "a.png")[0] == version
    assert content(stack, "a.png") == b"".join(chunks)


@SIZES
@pytest.mark.parametrize("former", [None, b"former"], ids=["over nothing", "over something"])
@pytest.mark.usefixtures("strict")
def test_what_somebody_else_wrote_meanwhile_is_not_written_over(
    outbox: S3Outbox, stack: Stack, chunks: list[bytes], former: bytes | None
) -> None:
    if former is not None:
        outbox.put("a.png", former, "image/png")
    seen = outbox.current("a.png")

    def slowly() -> Iterator[bytes]:
        yield from chunks
        outbox.put("a.png", b"newer", "image/png")

    with pytest.raises(Conflict):
        outbox.put_stream("a.png", slowly(), "image/png", over=seen)

    assert content(stack, "a.png") == b"newer"
    assert len(versions(stack, "a.png")) == (1 if former is None else 2)
    assert_no_parts(stack)


@SIZES
@pytest.mark.usefixtures("strict")
def test_nothing_is_written_where_somebody_deleted_it_meanwhile(
    outbox: S3Outbox, stack: Stack, chunks: list[bytes]
) -> None:
    outbox.put("a.png", b"former", "image/png")
    seen = outbox.current("a.png")

    def slowly() -> Iterator[bytes]:
        yield from chunks
        stack.s3.delete_object(Bucket=stack.outbox, Key="a.png")

    with pytest.raises(Conflict):
        outbox.put_stream("a.png", slowly(), "image/png", over=seen)

    assert outbox.current("a.png") is None
    assert len(versions(stack, "a.png")) == 1
    assert_no_parts(stack)


@SIZES
def test_the_condition_goes_with_the_request_that_writes(
    outbox: S3Outbox, stack: Stack, chunks: list[bytes]
) -> None:
    said: list[dict[str, str]] = []
    for operation in ("PutObject", "CompleteMultipartUpload"):
        answered(stack, operation, lambda asked: said.append(asked.condition))

    outbox.put_stream("a.png", iter(chunks), "image/png", over=None)
    seen = outbox.current("a.png")
    outbox.put_stream("a.png", iter(chunks), "image/png", over=seen)

    assert said == [{"If-None-Match": "*"}, {"If-Match": seen}]


FAILED = pytest.mark.parametrize(
    ("chunks", "operation"),
    [(SMALL, "PutObject"), (LARGE, "CompleteMultipartUpload")],
    ids=["small", "in parts"],
)


@FAILED
@pytest.mark.parametrize(
    ("status", "code"),
    [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict"), (404, "NoSuchKey")],
)
def test_each_way_of_s3_to_say_that_the_condition_failed_is_a_conflict(
    outbox: S3Outbox,
    stack: Stack,
    chunks: list[bytes],
    operation: str,
    status: int,
    code: str,
) -> None:
    answered(stack, operation, lambda _: Said(status, code))

    with pytest.raises(Conflict, match=r"a\.png"):
        outbox.put_stream("a.png", iter(chunks), "image/png", over='"e"')

    assert versions(stack, "a.png") == []
    assert_no_parts(stack)


@FAILED
@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (503, "SlowDown"), (500, "InternalError"), (404, "NoSuchBucket")],
)
def test_a_write_that_failed_otherwise_is_no_conflict(
    outbox: S3Outbox, stack: Stack, chunks: list[bytes], operation: str, status: int, code: str
) -> None:
    answered(stack, operation, lambda _: Said(status, code))

    with pytest.raises(ClientError, match=code):
        outbox.put_stream("a.png", iter(chunks), "image/png", over=None)

    assert versions(stack, "a.png") == []
    assert_no_parts(stack)


def test_a_part_that_failed_leaves_no_parts(outbox: S3Outbox, stack: Stack) -> None:
    answered(
        stack,
        "UploadPart",
        lambda asked: Said(503, "SlowDown") if asked.part == 2 else None,
    )

    with pytest.raises(ClientError, match="SlowDown"):
        outbox.put_stream("a.png", iter(LARGE), "image/png", over=None)

    assert versions(stack, "a.png") == []
    assert_no_parts(stack)


def test_the_first_error_is_told_where_the_abort_fails_too(outbox: S3Outbox, stack: Stack) -> None:
    answered(stack, "CompleteMultipartUpload", lambda _: Said(412, "PreconditionFailed"))
    answered(stack, "AbortMultipartUpload", lambda _: Said(500, "InternalError"))

    with pytest.raises(Conflict):
        outbox.put_stream("a.png", iter(LARGE), "image/png", over=None)


def test_the_parts_are_named_with_their_checksums_without_which_s3_takes_none(
    outbox: S3Outbox, stack: Stack
) -> None:
    begun: list[str] = []
    ended: list[bytes] = []

    def note(asked: Asked) -> Said:
        ended.append(asked.body)
        return Said(200)

    answered(
        stack,
        "CreateMultipartUpload",
        lambda asked: begun.append(asked.headers["x-amz-checksum-algorithm"]),
    )
    part = Said(200, body={"ETag": '"e"', "ChecksumCRC32": "AAAAAA=="})
    answered(stack, "UploadPart", lambda _: part)
    answered(stack, "CompleteMultipartUpload", note)

    outbox.put_stream("a.png", iter(LARGE), "image/png", over=None)

    assert begun == ["CRC32"]
    (body,) = ended
    assert body.count(b"<ChecksumCRC32>AAAAAA==</ChecksumCRC32>") == 2
    assert [body.count(b"<PartNumber>%d<" % number) for number in (1, 2)] == [1, 1]


def test_parts_are_sent_as_they_come_and_not_kept(outbox: S3Outbox, stack: Stack) -> None:
    drawn = 0
    ahead: list[int] = []

    def chunks() -> Iterator[bytes]:
        nonlocal drawn
        for _ in range(100):
            drawn += 1
            yield b"x" * MIB

    def look(_: Asked) -> Said:
        ahead.append(drawn - 8 * len(ahead))
        return Said(200, body={"ETag": '"e"'})

    answered(stack, "CreateMultipartUpload", lambda _: Said(200, body={"UploadId": "u"}))
    answered(stack, "UploadPart", look)
    answered(stack, "CompleteMultipartUpload", lambda _: Said(200, body={"VersionId": "v"}))
    stack.s3.head_bucket(Bucket=stack.outbox)  # loads what every client's first request loads

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        version = outbox.put_stream("a.png", chunks(), "image/png", over=None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert version == "v"
    assert ahead == [9] * 12 + [4]
    assert peak - before < 3 * 8 * MIB


# --- what was sent ----------------------------------------


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


# --- all of the inbox ----------------------------------------


@dataclass
class Listing:
    """S3's list of versions over what lies in moto: pages of `most`, and S3's own markers.

    S3 lists what comes after a marker. moto takes a marker for a key that is there, and leaves the
    first object out where it is not.
    """

    stack: Stack
    most: int
    asked: list[str] = field(default_factory=list)
    """The markers of the requests, in order."""

    def __post_init__(self) -> None:
        self._moto = boto3.client("s3")
        listener: Callable[..., Any] = self._answer
        self.stack.s3.meta.events.register("before-call.s3.ListObjectVersions", listener)

    def _all(self) -> list[dict[str, Any]]:
        pages = self._moto.get_paginator("list_object_versions").paginate(Bucket=self.stack.inbox)
        found: list[dict[str, Any]] = []
        for page in pages:
            found += [dict(version) | {"is": "Versions"} for version in page.get("Versions", [])]
            found += [
                dict(marker) | {"is": "DeleteMarkers"} for marker in page.get("DeleteMarkers", [])
            ]
        return sorted(
            found,
            key=lambda v: (v["Key"].encode(), not v["IsLatest"], -v["LastModified"].timestamp()),
        )

    def _answer(
        self, params: dict[str, Any], context: dict[str, Any], **_: object
    ) -> tuple[AWSResponse, dict[str, Any]]:
        query = params["query_string"]
        assert set(query) <= {"key-marker", "max-keys", "encoding-type"}
        assert int(query["max-keys"]) <= 1000  # S3 gives no more, whatever is asked for
        marker = query.get("key-marker", "")
        self.asked.append(marker)
        behind = [v for v in self._all() if v["Key"].encode() > marker.encode()]
        page: dict[str, Any] = {"IsTruncated": len(behind) > self.most, "EncodingType": "url"}
        for version in behind[: self.most]:
            kind = version.pop("is")
            page.setdefault(kind, []).append(
                version | {"Key": quote_plus(version["Key"], safe="/")}
            )
        if page["IsTruncated"]:
            page["NextKeyMarker"] = quote_plus(behind[self.most - 1]["Key"], safe="/")
        assert context.get("encoding_type_auto_set")
        return AWSResponse(params["url"], 200, HTTPHeaders(), None), page


def put_later(stack: Stack, key: str, data: bytes = b"x") -> str:
    """Put an object in a millisecond of its own, which is how moto tells versions apart."""
    before = int(time.time() * 1000)
    while int(time.time() * 1000) <= before:
        pass
    return put(stack, key, data)


def deleted(stack: Stack, key: str) -> None:
    before = int(time.time() * 1000)
    while int(time.time() * 1000) <= before:
        pass
    stack.s3.delete_object(Bucket=stack.inbox, Key=key)


def everything(inbox: S3Inbox) -> list[list[Listed]]:
    """The listing page by page, as a sweep goes through it."""
    pages: list[list[Listed]] = []
    after: str | None = ""
    while True:
        page = list(inbox.listing(after))
        if not page:
            return pages
        pages.append(page)
        assert len(pages) < 100, "it does not come to an end"
        after = page[-1].key


def test_an_empty_inbox_lists_nothing(inbox: S3Inbox, stack: Stack) -> None:
    Listing(stack, 1000)

    assert inbox.listing(None) == []
    assert inbox.listing("") == []
    assert inbox.listing("a.png") == []


def test_objects_are_listed_with_their_current_versions_and_times(
    inbox: S3Inbox, stack: Stack
) -> None:
    Listing(stack, 1000)
    begin = time.time()
    put_later(stack, "b.png", b"old")
    current = {"b.png": put_later(stack, "b.png", b"new"), "a.png": put_later(stack, "a.png")}

    found = inbox.listing(None)

    assert [(listed.key, listed.version_id) for listed in found] == sorted(current.items())
    for listed in found:
        stored = inbox.head(listed.key)
        assert stored is not None
        assert stored.version_id == listed.version_id
        # S3 gives whole seconds.
        assert begin - 1 <= listed.modified_at <= time.time() + 1


def test_what_was_deleted_is_not_listed_and_what_came_back_is(inbox: S3Inbox, stack: Stack) -> None:
    Listing(stack, 1000)
    put_later(stack, "gone.png")
    deleted(stack, "gone.png")
    put_later(stack, "back.png")
    deleted(stack, "back.png")
    back = put_later(stack, "back.png", b"again")
    stack.s3.delete_object(Bucket=stack.inbox, Key="never.png")

    assert [(listed.key, listed.version_id) for listed in inbox.listing(None)] == [
        ("back.png", back)
    ]


KEYS = (
    "A.png",
    "a b.png",
    "a%20b.png",
    "a+b.png",
    "a#b?c&d=e.png",
    "a.png",
    "a.png.json",
    "a/b.png",
    "é.png",
    "图片/红色.png",
    "～.png",
    "🎨.png",
)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 1000])
def test_every_key_is_listed_once_and_in_order_whatever_is_in_it(
    inbox: S3Inbox, stack: Stack, most: int
) -> None:
    # Fault 8.
    Listing(stack, most)
    for key in KEYS:
        put(stack, key, b"x")

    pages = everything(inbox)

    assert [listed.key for page in pages for listed in page] == sorted(KEYS, key=str.encode)
    assert all(len(page) <= most for page in pages)


def test_a_listing_goes_on_behind_any_key(inbox: S3Inbox, stack: Stack) -> None:
    Listing(stack, 1000)
    for key in KEYS:
        put(stack, key, b"x")
    order = sorted(KEYS, key=str.encode)

    for number, after in enumerate(order, 1):
        assert [listed.key for listed in inbox.listing(after)] == order[number:], after


def test_a_listing_goes_on_behind_a_key_that_was_deleted_meanwhile(
    inbox: S3Inbox, stack: Stack
) -> None:
    Listing(stack, 2)
    for key in ("a.png", "b.png", "c.png", "d.png"):
        put_later(stack, key)
    first = inbox.listing(None)
    deleted(stack, "b.png")

    assert [listed.key for listed in first] == ["a.png", "b.png"]
    assert [listed.key for listed in inbox.listing(first[-1].key)] == ["c.png", "d.png"]
    # A key that never was is as good.
    assert [listed.key for listed in inbox.listing("bb.png")] == ["c.png", "d.png"]


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_pages_of_nothing_but_old_versions_and_delete_markers_are_passed_over(
    inbox: S3Inbox, stack: Stack, most: int
) -> None:
    # An empty page would say that there are no more, and what lies behind would never be looked at.
    Listing(stack, most)
    put_later(stack, "a.png")
    for _ in range(3):
        put_later(stack, "gone.png")
        deleted(stack, "gone.png")
    put_later(stack, "gone too.png")
    deleted(stack, "gone too.png")
    for _ in range(4):
        put_later(stack, "many.png")
    put_later(stack, "z.png")

    found = [listed.key for page in everything(inbox) for listed in page]

    assert found == ["a.png", "many.png", "z.png"]


def test_an_inbox_of_nothing_but_delete_markers_comes_to_an_end(
    inbox: S3Inbox, stack: Stack
) -> None:
    listing = Listing(stack, 2)
    for number in range(5):
        put_later(stack, f"{number}.png")
        deleted(stack, f"{number}.png")

    assert inbox.listing(None) == []
    assert listing.asked[0] == ""
    assert listing.asked == sorted(set(listing.asked))  # it never asks the same again


def test_a_thousand_are_asked_for_at_once(inbox: S3Inbox, stack: Stack) -> None:
    asked: list[str] = []

    def look(params: dict[str, Any], **_: object) -> None:
        asked.append(str(params["query_string"]["max-keys"]))

    stack.s3.meta.events.register("before-call.s3.ListObjectVersions", look)
    inbox.listing(None)

    assert asked == ["1000"]


def test_an_inbox_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    inbox: S3Inbox, stack: Stack
) -> None:
    def refuse(params: dict[str, Any], **_: object) -> tuple[AWSResponse, dict[str, Any]]:
        http = AWSResponse(params["url"], 403, HTTPHeaders(), None)
        return http, {"Error": {"Code": "AccessDenied", "Message": "No."}}

    listener: Callable[..., Any] = refuse
    stack.s3.meta.events.register("before-call.s3.ListObjectVersions", listener)

    with pytest.raises(ClientError, match="AccessDenied"):
        inbox.listing(None)
