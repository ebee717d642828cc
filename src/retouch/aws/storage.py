"""The two buckets, in S3."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Final, cast

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from retouch.ports import Stored

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_GONE: Final = frozenset(
    {"404", "NoSuchKey", "NoSuchVersion", "NotFound", "405", "MethodNotAllowed"}
)
_PART_BYTES: Final = 8 * 1024 * 1024
_IN_ORDER: Final = TransferConfig(multipart_chunksize=_PART_BYTES, use_threads=False)
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

    def presign(self, key: str, version_id: str, content_type: str, seconds: int) -> str:
        """See `retouch.ports.Inbox.presign`."""
        return _presign(self._client, self._bucket, key, version_id, content_type, seconds)


class _Reader(io.RawIOBase):
    """Chunks as a file, for an upload that reads as it goes."""

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = _PART_BYTES if size is None or size < 0 else size
        gathered = bytearray(self._rest)
        while len(gathered) < wanted:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            gathered += chunk
        self._rest = bytes(gathered[wanted:])
        return bytes(gathered[:wanted])


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

    def put_stream(self, key: str, chunks: Iterator[bytes], content_type: str) -> str | None:
        """See `retouch.ports.Outbox.put_stream`: parts of 8 MiB, aborted as a whole on any error."""
        versions: list[str | None] = []

        def note(parsed: dict[str, object], **_: object) -> None:
            version = parsed.get("VersionId")
            versions.append(version if isinstance(version, str) else None)

        events = self._client.meta.events
        names = ("after-call.s3.PutObject", "after-call.s3.CompleteMultipartUpload")
        for name in names:
            events.register(name, note)
        try:
            self._client.upload_fileobj(
                cast("IO[bytes]", _Reader(chunks)),
                self._bucket,
                key,
                ExtraArgs={"ContentType": content_type},
                Config=_IN_ORDER,
            )
        finally:
            for name in names:
                events.unregister(name, note)
        return versions[-1] if versions else None
