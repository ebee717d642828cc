"""The two buckets, in S3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypedDict

from botocore.exceptions import BotoCoreError, ClientError

from retouch.errors import Conflict
from retouch.ports import Listed, Stored

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

_GONE: Final = frozenset(
    {"404", "NoSuchKey", "NoSuchVersion", "NotFound", "405", "MethodNotAllowed"}
)
_CONDITION_FAILED: Final = frozenset(
    {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}
)
"""How S3 says that something else lies there: 412; 409 where it came meanwhile; 404 where it went."""
_PART_BYTES: Final = 8 * 1024 * 1024
_LISTED_AT_ONCE: Final = 1000
_NO_VERSION: Final = "null"
"""What S3 calls the version of an object in a bucket without versioning."""


def _is_gone(error: ClientError) -> bool:
    return error.response["Error"]["Code"] in _GONE


def _read(client: S3Client, bucket: str, key: str, version_id: str | None) -> bytes | None:
    try:
        answer = (
            client.get_object(Bucket=bucket, Key=key)
            if version_id is None
            else client.get_object(Bucket=bucket, Key=key, VersionId=version_id)
        )
        with answer["Body"] as body:
            return body.read()
    except ClientError as error:
        if _is_gone(error):
            return None
        raise


def _presign(
    client: S3Client, bucket: str, key: str, version_id: str | None, content_type: str, seconds: int
) -> str:
    wanted = {"Bucket": bucket, "Key": key, "ResponseContentType": content_type}
    if version_id is not None:
        wanted["VersionId"] = version_id
    return client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=seconds)


class S3Inbox:
    """`retouch.ports.Inbox` on one bucket."""

    def __init__(self, client: S3Client, bucket: str):
        self._client = client
        self._bucket = bucket

    def head(self, key: str) -> Stored | None:
        """See `retouch.ports.Inbox.head`."""
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if _is_gone(error):
                return None
            raise
        return Stored(key, answer.get("VersionId", _NO_VERSION), answer["ContentLength"])

    def read(self, key: str, version_id: str) -> bytes | None:
        """See `retouch.ports.Inbox.read`."""
        return _read(self._client, self._bucket, key, version_id)

    def keys(self, prefix: str) -> Sequence[str]:
        """See `retouch.ports.Inbox.keys`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def listing(self, after: str | None) -> Sequence[Listed]:
        """See `retouch.ports.ListedInbox.listing`."""
        marker = after
        while True:
            answer = (
                self._client.list_object_versions(
                    Bucket=self._bucket, KeyMarker=marker, MaxKeys=_LISTED_AT_ONCE
                )
                if marker
                else self._client.list_object_versions(Bucket=self._bucket, MaxKeys=_LISTED_AT_ONCE)
            )
            versions = answer.get("Versions", [])
            found = [
                Listed(v["Key"], v.get("VersionId", _NO_VERSION), v["LastModified"].timestamp())
                for v in versions
                if v["IsLatest"]
            ]
            # A page may hold nothing but older versions and delete markers.
            if found or not answer["IsTruncated"]:
                return found
            marker = answer["NextKeyMarker"]

    def presign(self, key: str, version_id: str, content_type: str, seconds: int) -> str:
        """See `retouch.ports.Inbox.presign`."""
        return _presign(self._client, self._bucket, key, version_id, content_type, seconds)


class _Condition(TypedDict, total=False):
    IfMatch: str
    IfNoneMatch: str


def _only_over(etag: str | None) -> _Condition:
    return {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}


@contextmanager
def _conditionally(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in _CONDITION_FAILED:
            raise Conflict(f"somebody else wrote {key} first") from error
        raise


class _Parts:
    """Chunks, to be had in parts of 8 MiB; of what came, at most one part and one chunk wait."""

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks = chunks
        self._gathered = bytearray()

    def one_is_left(self) -> bool:
        """Whether the next part is the last; it may be shorter than the others, or empty."""
        while len(self._gathered) <= _PART_BYTES:
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._gathered += chunk
        return False

    def take(self) -> bytes:
        """The next part, once it is known whether it is the last."""
        with memoryview(self._gathered) as view:
            part = bytes(view[:_PART_BYTES])
        del self._gathered[:_PART_BYTES]
        return part


class S3Outbox:
    """`retouch.ports.Outbox` on one bucket."""

    def __init__(self, client: S3Client, bucket: str):
        self._client = client
        self._bucket = bucket

    def put(self, key: str, data: bytes, content_type: str) -> str | None:
        """See `retouch.ports.Outbox.put`."""
        answer = self._client.put_object(
            Bucket=self._bucket, Key=key, Body=data, ContentType=content_type
        )
        return answer.get("VersionId")

    def read(self, key: str, version_id: str | None) -> bytes | None:
        """See `retouch.ports.Outbox.read`."""
        return _read(self._client, self._bucket, key, version_id)

    def presign(self, key: str, version_id: str | None, content_type: str, seconds: int) -> str:
        """See `retouch.ports.Outbox.presign`."""
        return _presign(self._client, self._bucket, key, version_id, content_type, seconds)

    def current(self, key: str) -> str | None:
        """See `retouch.ports.Outbox.current`."""
        try:
            return self._client.head_object(Bucket=self._bucket, Key=key)["ETag"]
        except ClientError as error:
            if _is_gone(error):
                return None
            raise

    def put_stream(
        self, key: str, chunks: Iterator[bytes], content_type: str, *, over: str | None
    ) -> str | None:
        """See `retouch.ports.Outbox.put_stream`: what is larger than 8 MiB goes in such parts."""
        parts = _Parts(chunks)
        if not parts.one_is_left():
            return self._put_parts(key, parts, content_type, over)
        with _conditionally(key):
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=parts.take(),
                ContentType=content_type,
                **_only_over(over),
            )
        return answer.get("VersionId")

    def _put_parts(
        self, key: str, parts: _Parts, content_type: str, over: str | None
    ) -> str | None:
        """Write an object in parts, of which one at a time is in memory; aborted on any error."""
        upload = self._client.create_multipart_upload(
            Bucket=self._bucket, Key=key, ContentType=content_type, ChecksumAlgorithm="CRC32"
        )["UploadId"]
        try:
            sent: list[CompletedPartTypeDef] = []
            last = False
            while not last:
                last = parts.one_is_left()
                sent.append(self._put_part(key, upload, len(sent) + 1, parts.take()))
            with _conditionally(key):
                answer = self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=upload,
                    MultipartUpload={"Parts": sent},
                    **_only_over(over),
                )
        except BaseException:
            # If this fails too, the first error is the one to know of: the bucket's rule for
            # unfinished uploads takes the parts away in a day.
            with suppress(ClientError, BotoCoreError):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
            raise
        return answer.get("VersionId")

    def _put_part(self, key: str, upload: str, number: int, part: bytes) -> CompletedPartTypeDef:
        answer = self._client.upload_part(
            Bucket=self._bucket,
            Key=key,
            UploadId=upload,
            PartNumber=number,
            Body=part,
            ChecksumAlgorithm="CRC32",
        )
        done: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
        if "ChecksumCRC32" in answer:  # S3 wants it again; not every engine gives it
            done["ChecksumCRC32"] = answer["ChecksumCRC32"]
        return done
