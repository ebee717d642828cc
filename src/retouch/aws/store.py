"""The table, in DynamoDB.

One item a record, the record itself as JSON in `doc`; what conditions and the index need stands
beside it as attributes:

    pk              sk          attributes
    JOB#<id>        JOB         version, status, created_at, published, doc
    JOB#<id>        ANSWER      doc, expires_at (TTL)
    LANE#<lane>     LANE        version, doc
    QUEUE#<lane>    <queue key> job_id
    AWAIT#<image>   <sidecar>
    SIDECAR#<key>   LATEST      job_id
    UNPUBLISHED     <job>#<ver> since

`commit` is one transaction with a condition on each record's version, so it stores all or nothing and
never over somebody else's write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from retouch.errors import Conflict, TryLater
from retouch.jobs import (
    Answer,
    Dequeue,
    DropAnswer,
    Enqueue,
    Job,
    Lane,
    PutAnswer,
    PutJob,
    PutLane,
    Status,
    Write,
    Writes,
    iso,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        TransactWriteItemTypeDef,
    )

_BY_STATUS: Final = "by_status"
_BUSY: Final = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "TransactionInProgressException",
    }
)
_CONFLICTS: Final = frozenset({"ConditionalCheckFailed", "TransactionConflict"})
_THROTTLES: Final = frozenset({"ThrottlingError", "ProvisionedThroughputExceeded"})


def _s(value: str) -> AttributeValueTypeDef:
    return {"S": value}


def _n(value: float) -> AttributeValueTypeDef:
    return {"N": str(value)}


def _string(item: dict[str, AttributeValueTypeDef], name: str) -> str:
    return item[name]["S"]


def _conflict(error: ClientError) -> Exception:
    """What a failed transaction means: a conflict, a throttle, or the error itself."""
    code = error.response["Error"]["Code"]
    if code in _BUSY:
        return TryLater(f"the table did not take a write: {code}", code="TableThrottled")
    if code not in ("TransactionCanceledException", "TransactionConflictException"):
        return error
    reasons = error.response.get("CancellationReasons", [])
    codes = {reason.get("Code", "None") for reason in reasons} - {"None"}
    if codes - _CONFLICTS - _THROTTLES:
        return error  # one that can never hold: trying again would be for ever
    if codes & _THROTTLES:
        return TryLater("the table is throttled", code="TableThrottled")
    return Conflict(f"a write met another: {', '.join(sorted(codes)) or code}")


class DynamoStore:
    """`retouch.ports.Store` on one table."""

    def __init__(self, client: DynamoDBClient, table: str):
        self._client = client
        self._table = table

    # --- reading ---

    def _get(self, pk: str, sk: str) -> dict[str, AttributeValueTypeDef] | None:
        answer = self._client.get_item(
            TableName=self._table, Key={"pk": _s(pk), "sk": _s(sk)}, ConsistentRead=True
        )
        return answer.get("Item")

    def job(self, job_id: str) -> Job | None:
        """See `retouch.ports.Store.job`."""
        item = self._get(f"JOB#{job_id}", "JOB")
        return None if item is None else Job.model_validate_json(_string(item, "doc"))

    def lane(self, lane: str) -> Lane:
        """See `retouch.ports.Store.lane`."""
        item = self._get(f"LANE#{lane}", "LANE")
        return Lane(lane=lane) if item is None else Lane.model_validate_json(_string(item, "doc"))

    def answer(self, job_id: str) -> Answer | None:
        """See `retouch.ports.Store.answer`."""
        item = self._get(f"JOB#{job_id}", "ANSWER")
        return None if item is None else Answer.model_validate_json(_string(item, "doc"))

    def backlog(self, lane: str, limit: int) -> Sequence[Enqueue]:
        """See `retouch.ports.Store.backlog`."""
        items = self._partition(f"QUEUE#{lane}", limit)
        return [Enqueue(lane, _string(item, "sk"), _string(item, "job_id")) for item in items]

    def awaiting(self, key: str) -> Sequence[str]:
        """See `retouch.ports.Store.awaiting`."""
        return [_string(item, "sk") for item in self._partition(f"AWAIT#{key}")]

    def unpublished(self, before: float) -> Sequence[tuple[str, int]]:
        """See `retouch.ports.Store.unpublished`."""
        found = []
        for item in self._partition("UNPUBLISHED"):
            if float(item["since"]["N"]) < before:
                job_id, _, version = _string(item, "sk").partition("#")
                found.append((job_id, int(version)))
        return found

    def _partition(
        self, pk: str, limit: int | None = None
    ) -> list[dict[str, AttributeValueTypeDef]]:
        """The items of a partition, in order; all of them, or the first `limit`."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": _s(pk)},
            ConsistentRead=True,
            PaginationConfig={} if limit is None else {"MaxItems": limit, "PageSize": limit},
        )
        return [item for page in pages for item in page["Items"]]

    def jobs_in(self, status: Status) -> Iterator[Job]:
        """See `retouch.ports.Store.jobs_in`."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=_BY_STATUS,
            KeyConditionExpression="#status = :status",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":status": _s(status)},
        )
        for page in pages:
            for item in page["Items"]:
                yield Job.model_validate_json(_string(item, "doc"))

    def latest_job_of(self, sidecar: str) -> str | None:
        """See `retouch.ports.Store.latest_job_of`."""
        item = self._get(f"SIDECAR#{sidecar}", "LATEST")
        return None if item is None else _string(item, "job_id")

    def published(self, job_id: str) -> int:
        """See `retouch.ports.Store.published`."""
        item = self._get(f"JOB#{job_id}", "JOB")
        return int(item["published"]["N"]) if item is not None and "published" in item else 0

    # --- writing ---

    def commit(self, writes: Writes) -> None:
        """See `retouch.ports.Store.commit`."""
        if not writes:
            return
        items = [item for write in writes for item in self._items(write)]
        try:
            self._client.transact_write_items(TransactItems=items)
        except ClientError as error:
            raise _conflict(error) from error

    def _items(self, write: Write) -> list[TransactWriteItemTypeDef]:
        match write:
            case PutJob(job):
                return [
                    self._versioned(
                        f"JOB#{job.job_id}",
                        "JOB",
                        job.version,
                        job.model_dump_json(),
                        # `published` goes with the item; a new version is unpublished anyway.
                        {"status": _s(job.status), "created_at": _s(iso(job.created_at) or "")},
                    ),
                    self._put(
                        "UNPUBLISHED",
                        f"{job.job_id}#{job.version}",
                        {"since": _n(job.updated_at)},
                    ),
                ]
            case PutLane(lane):
                doc = lane.model_dump_json()
                return [self._versioned(f"LANE#{lane.lane}", "LANE", lane.version, doc, {})]
            case Enqueue(lane_id, queue_key, job_id):
                return [self._put(f"QUEUE#{lane_id}", queue_key, {"job_id": _s(job_id)})]
            case Dequeue(lane_id, queue_key):
                return [
                    {
                        "Delete": {
                            "TableName": self._table,
                            "Key": {"pk": _s(f"QUEUE#{lane_id}"), "sk": _s(queue_key)},
                            "ConditionExpression": "attribute_exists(pk)",
                        }
                    }
                ]
            case PutAnswer(answer):
                return [
                    self._put(
                        f"JOB#{answer.job_id}",
                        "ANSWER",
                        {
                            "doc": _s(answer.model_dump_json()),
                            "expires_at": _n(answer.expires_at),
                        },
                    )
                ]
            case DropAnswer(job_id):
                return [
                    {
                        "Delete": {
                            "TableName": self._table,
                            "Key": {"pk": _s(f"JOB#{job_id}"), "sk": _s("ANSWER")},
                        }
                    }
                ]

    def _put(
        self, pk: str, sk: str, attributes: dict[str, AttributeValueTypeDef]
    ) -> TransactWriteItemTypeDef:
        item = {"pk": _s(pk), "sk": _s(sk), **attributes}
        return {"Put": {"TableName": self._table, "Item": item}}

    def _versioned(
        self,
        pk: str,
        sk: str,
        version: int,
        doc: str,
        attributes: dict[str, AttributeValueTypeDef],
    ) -> TransactWriteItemTypeDef:
        item = {"pk": _s(pk), "sk": _s(sk), "version": _n(version), "doc": _s(doc), **attributes}
        if version == 1:
            return {
                "Put": {
                    "TableName": self._table,
                    "Item": item,
                    "ConditionExpression": "attribute_not_exists(pk)",
                }
            }
        return {
            "Put": {
                "TableName": self._table,
                "Item": item,
                "ConditionExpression": "#version = :before",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":before": _n(version - 1)},
            }
        }

    def mark_published(self, job_id: str, version: int) -> None:
        """See `retouch.ports.Store.mark_published`."""
        # Where the job has moved on, whoever moved it tells of that.
        with contextlib.suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._client.update_item(
                TableName=self._table,
                Key={"pk": _s(f"JOB#{job_id}"), "sk": _s("JOB")},
                UpdateExpression="SET published = :version",
                ConditionExpression="#version = :version",
                ExpressionAttributeNames={"#version": "version"},
                ExpressionAttributeValues={":version": _n(version)},
            )
        self._client.delete_item(
            TableName=self._table,
            Key={"pk": _s("UNPUBLISHED"), "sk": _s(f"{job_id}#{version}")},
        )

    def await_images(self, sidecar: str, keys: Iterable[str]) -> None:
        """See `retouch.ports.Store.await_images`."""
        for key in keys:
            self._client.put_item(
                TableName=self._table, Item={"pk": _s(f"AWAIT#{key}"), "sk": _s(sidecar)}
            )

    def forget_awaiting(self, sidecar: str, keys: Iterable[str]) -> None:
        """See `retouch.ports.Store.forget_awaiting`."""
        for key in keys:
            self._client.delete_item(
                TableName=self._table, Key={"pk": _s(f"AWAIT#{key}"), "sk": _s(sidecar)}
            )

    def note_latest_job_of(self, sidecar: str, job_id: str) -> None:
        """See `retouch.ports.Store.note_latest_job_of`."""
        self._client.put_item(
            TableName=self._table,
            Item={"pk": _s(f"SIDECAR#{sidecar}"), "sk": _s("LATEST"), "job_id": _s(job_id)},
        )
