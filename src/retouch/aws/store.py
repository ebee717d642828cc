"""The table, in DynamoDB.

One item a record, the record itself as JSON in `doc`; what conditions and the index need stands
beside it as attributes:

    pk              sk          attributes
    JOB#<id>        JOB         version, status, created_at, published, doc
    JOB#<id>        ANSWER      doc, expires_at (TTL)
    JOB#<id>        COPIED#<n>  doc, expires_at (TTL)
    TASK#<task>     TASK        job_id, expires_at (TTL)
    LANES           <lane>
    LANE#<lane>     LANE        version, doc
    USED#<scope>    <day>       images, cost_CNY, … (millionths), expires_at (TTL)
    TALLY#<name>    <day>       times, expires_at (TTL)
    HELD            <queue>
    MADE#<sha256>   MADE        job_id, expires_at (TTL)
    QUEUE#<lane>    <queue key> job_id
    TURN#<what>     TURN        next_at
    AWAIT#<image>   <sidecar>
    SIDECAR#<key>   LATEST      job_id
    LONE            <image>     since
    RECORDED        <image>     job_id
    SWEEP           SWEEP       since, started_at, after
    UNPUBLISHED     <job>#<ver> since
    DUE             <job>       since
    ALERTS          <alert>     since, doc

`commit` is one transaction with a condition on each record's version, so it stores all or nothing and
never over somebody else's write.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from retouch.budget import Sums
from retouch.errors import Conflict, TryLater
from retouch.jobs import (
    TASK_KEPT_SECONDS,
    Alert,
    Answer,
    Charge,
    ClaimTask,
    Copied,
    Dequeue,
    DropAnswer,
    Enqueue,
    Job,
    Lane,
    NoteLatest,
    Output,
    PutAlert,
    PutAnswer,
    PutJob,
    PutLane,
    Status,
    Tally,
    Write,
    Writes,
    follows,
    iso,
    step_due,
)
from retouch.ports import Sweep

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
_CLAIM_SECONDS: Final = 4 * TASK_KEPT_SECONDS
"""A claim outlives its task at the provider by far."""
_COUNTED_SECONDS: Final = 8 * TASK_KEPT_SECONDS
"""A day's sums are kept for a week after it; by then its jobs have ended."""
_COST: Final = "cost_"
_TURN_TRIES: Final = 20
_MOST_READ: Final = 100
"""DynamoDB gives so many items at once."""
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

    def jobs_of(self, job_ids: Sequence[str]) -> Iterator[Job]:
        """Those of the jobs that there are, in any order, for somebody who looks at many, repeatedly.

        What the table has no time for now is left out.
        """
        for start in range(0, len(job_ids), _MOST_READ):
            ids = job_ids[start : start + _MOST_READ]
            answer = self._client.batch_get_item(
                RequestItems={
                    self._table: {
                        "Keys": [{"pk": _s(f"JOB#{job_id}"), "sk": _s("JOB")} for job_id in ids],
                        "ConsistentRead": True,
                    }
                }
            )
            for item in answer["Responses"].get(self._table, []):
                yield Job.model_validate_json(_string(item, "doc"))

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
        self, pk: str, limit: int | None = None, *, begins: str | None = None
    ) -> list[dict[str, AttributeValueTypeDef]]:
        """The items of a partition, in order; all of them, or the first `limit`.

        With `begins`, those whose sort key begins so.
        """
        values = {":pk": _s(pk)}
        if begins is not None:
            values[":begins"] = _s(begins)
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk"
            + ("" if begins is None else " AND begins_with(sk, :begins)"),
            ExpressionAttributeValues=values,
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

    def latest_job_of(self, name: str) -> str | None:
        """See `retouch.ports.Store.latest_job_of`."""
        item = self._get(f"SIDECAR#{name}", "LATEST")
        return None if item is None else _string(item, "job_id")

    def published(self, job_id: str) -> int:
        """See `retouch.ports.Store.published`."""
        item = self._get(f"JOB#{job_id}", "JOB")
        return int(item["published"]["N"]) if item is not None and "published" in item else 0

    def lanes(self) -> Sequence[str]:
        """See `retouch.ports.Store.lanes`."""
        return [_string(item, "sk") for item in self._partition("LANES")]

    def used_up(self, scope: str, day: str) -> Sums:
        """See `retouch.ports.Store.used_up`."""
        item = self._get(f"USED#{scope}", day) or {}
        costs = {name: int(value["N"]) for name, value in item.items() if name.startswith(_COST)}
        return Sums(
            images=int(item["images"]["N"]) if "images" in item else 0,
            cost={name.removeprefix(_COST): cost for name, cost in costs.items()},
        )

    def counted(self, name: str, day: str) -> int:
        """See `retouch.ports.Store.counted`."""
        item = self._get(f"TALLY#{name}", day)
        return 0 if item is None else int(item["times"]["N"])

    def held_queues(self) -> Sequence[str]:
        """See `retouch.ports.Store.held_queues`."""
        return [_string(item, "sk") for item in self._partition("HELD")]

    def made_by(self, sha256: str) -> str | None:
        """See `retouch.ports.Store.made_by`."""
        item = self._get(f"MADE#{sha256}", "MADE")
        return None if item is None else _string(item, "job_id")

    def owner_of(self, task_id: str) -> str | None:
        """See `retouch.ports.Store.owner_of`."""
        item = self._get(f"TASK#{task_id}", "TASK")
        return None if item is None else _string(item, "job_id")

    def copied(self, job_id: str) -> Sequence[Output]:
        """See `retouch.ports.Store.copied`."""
        found = self._partition(f"JOB#{job_id}", begins="COPIED#")
        return [Copied.model_validate_json(_string(item, "doc")).output for item in found]

    def alerts(self, before: float) -> Sequence[Alert]:
        """See `retouch.ports.Store.alerts`."""
        return [
            Alert.model_validate_json(_string(item, "doc"))
            for item in self._partition("ALERTS")
            if float(item["since"]["N"]) < before
        ]

    def lone(self, before: float, limit: int) -> Sequence[str]:
        """See `retouch.ports.Store.lone`."""
        found = [
            _string(item, "sk")
            for item in self._partition("LONE")
            if float(item["since"]["N"]) < before
        ]
        return found[:limit]

    def steps_due(self, before: float) -> Sequence[str]:
        """See `retouch.ports.Store.steps_due`."""
        return [
            _string(item, "sk")
            for item in self._partition("DUE")
            if float(item["since"]["N"]) < before
        ]

    def lone_below(self, prefix: str) -> Sequence[str]:
        """See `retouch.ports.Store.lone_below`."""
        begins = prefix or None
        return [
            _string(item, "sk")
            for partition in ("LONE", "RECORDED")
            for item in self._partition(partition, begins=begins)
        ]

    def record_of_lone(self, key: str) -> str | None:
        """See `retouch.ports.Store.record_of_lone`."""
        item = self._get("RECORDED", key)
        return None if item is None else _string(item, "job_id")

    def sweep(self) -> Sweep:
        """See `retouch.ports.Store.sweep`."""
        item = self._get("SWEEP", "SWEEP")
        if item is None:
            return Sweep()
        return Sweep(
            since=float(item["since"]["N"]),
            started_at=float(item["started_at"]["N"]),
            after=_string(item, "after") if "after" in item else None,
        )

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
                items = [
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
                if (due := step_due(job)) is not None:
                    items.append(self._put("DUE", due, {"since": _n(job.updated_at)}))
                if follows(job) and job.status is not Status.WAITING:
                    key = {"pk": _s("DUE"), "sk": _s(job.job_id)}
                    items.append({"Delete": {"TableName": self._table, "Key": key}})
                return items
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
            case ClaimTask(task_id, job_id):
                claim = self._put(
                    f"TASK#{task_id}",
                    "TASK",
                    {"job_id": _s(job_id), "expires_at": _n(int(time.time() + _CLAIM_SECONDS))},
                )
                claim["Put"]["ConditionExpression"] = "attribute_not_exists(pk) OR job_id = :job"
                claim["Put"]["ExpressionAttributeValues"] = {":job": _s(job_id)}
                return [claim]
            case NoteLatest(name, job_id, over):
                note = self._put(f"SIDECAR#{name}", "LATEST", {"job_id": _s(job_id)})
                note["Put"]["ConditionExpression"] = "attribute_not_exists(pk)"
                if over is not None:
                    note["Put"]["ConditionExpression"] = "job_id = :over"
                    note["Put"]["ExpressionAttributeValues"] = {":over": _s(over)}
                return [note]
            case PutAlert(alert):
                doc = alert.model_dump_json()
                return [
                    self._put("ALERTS", alert.alert_id, {"doc": _s(doc), "since": _n(alert.at)})
                ]
            case Charge(scope, day, images, cost, currency, most_images, most_cost):
                added = {"images": images, **({} if currency is None else {_COST + currency: cost})}
                most = {"images": most_images, _COST + (currency or ""): most_cost}
                return [self._counted_up(f"USED#{scope}", day, added, most)]
            case Tally(name, day, at_most):
                before = None if at_most is None else at_most - 1
                return [self._counted_up(f"TALLY#{name}", day, {"times": 1}, {"times": before})]
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

    def _counted_up(
        self, pk: str, day: str, added: dict[str, int], most: dict[str, int | None]
    ) -> TransactWriteItemTypeDef:
        """Add numbers to an item of a day, where none of them is more than `most` before."""
        ends = datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()
        names = {f"#{at}": name for at, name in enumerate(added)}
        values = {f":{at}": _n(number) for at, number in enumerate(added.values())}
        limits = {at: limit for at, name in names.items() if (limit := most.get(name)) is not None}
        conditions = [f"(attribute_not_exists({at}) OR {at} <= :most{at[1:]})" for at in limits]
        update: TransactWriteItemTypeDef = {
            "Update": {
                "TableName": self._table,
                "Key": {"pk": _s(pk), "sk": _s(day)},
                "UpdateExpression": "SET expires_at = :expires ADD "
                + ", ".join(f"{at} :{at[1:]}" for at in names),
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": {
                    **values,
                    **{f":most{at[1:]}": _n(limit) for at, limit in limits.items()},
                    ":expires": _n(int(ends + _COUNTED_SECONDS)),
                },
            }
        }
        if conditions:
            update["Update"]["ConditionExpression"] = " AND ".join(conditions)
        return update

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

    def mark_published(self, job_id: str, *versions: int) -> None:
        """See `retouch.ports.Store.mark_published`."""
        # Where the job has moved on, whoever moved it tells of that.
        with contextlib.suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._client.update_item(
                TableName=self._table,
                Key={"pk": _s(f"JOB#{job_id}"), "sk": _s("JOB")},
                UpdateExpression="SET published = :version",
                ConditionExpression="#version = :version",
                ExpressionAttributeNames={"#version": "version"},
                ExpressionAttributeValues={":version": _n(versions[-1])},
            )
        notes = [f"{job_id}#{version}" for version in versions]
        if len(notes) == 1:
            self._delete("UNPUBLISHED", notes[0])
            return
        keys = [{"pk": _s("UNPUBLISHED"), "sk": _s(note)} for note in notes]
        answer = self._client.batch_write_item(
            RequestItems={self._table: [{"DeleteRequest": {"Key": key}} for key in keys]}
        )
        # What the table did not take now is told once more, and then taken.
        if answer.get("UnprocessedItems"):
            raise TryLater("the table did not take a write", code="TableThrottled")

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

    def note_lane(self, lane: str) -> None:
        """See `retouch.ports.Store.note_lane`."""
        self._client.put_item(TableName=self._table, Item={"pk": _s("LANES"), "sk": _s(lane)})

    def note_held_queue(self, name: str) -> None:
        """See `retouch.ports.Store.note_held_queue`."""
        self._client.put_item(TableName=self._table, Item={"pk": _s("HELD"), "sk": _s(name)})

    def note_made(self, sha256: str, job_id: str, expires_at: int) -> None:
        """See `retouch.ports.Store.note_made`."""
        self._client.update_item(
            TableName=self._table,
            Key={"pk": _s(f"MADE#{sha256}"), "sk": _s("MADE")},
            UpdateExpression="SET job_id = if_not_exists(job_id, :job), expires_at = :expires",
            ExpressionAttributeValues={":job": _s(job_id), ":expires": _n(expires_at)},
        )

    def note_copied(self, copied: Copied) -> None:
        """See `retouch.ports.Store.note_copied`."""
        self._client.put_item(
            TableName=self._table,
            Item={
                "pk": _s(f"JOB#{copied.job_id}"),
                "sk": _s(f"COPIED#{copied.output.number or 0:04d}"),
                "doc": _s(copied.model_dump_json()),
                "expires_at": _n(copied.expires_at),
            },
        )

    def reserve(self, name: str, now: float, interval: float, patience: float) -> float | None:
        """See `retouch.ports.Store.reserve`: one conditional update, on what was read last."""
        key = {"pk": _s(f"TURN#{name}"), "sk": _s("TURN")}
        free = 0.0
        for _ in range(_TURN_TRIES):
            at = max(now, free)
            if at > now + patience:
                return None
            try:
                self._client.update_item(
                    TableName=self._table,
                    Key=key,
                    UpdateExpression="SET next_at = :after",
                    ConditionExpression="attribute_not_exists(next_at) OR next_at <= :at",
                    ExpressionAttributeValues={":after": _n(at + interval), ":at": _n(at)},
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except self._client.exceptions.ConditionalCheckFailedException as error:
                there: Any = error.response.get("Item")
                free = float(there["next_at"]["N"]) if there else at + interval
            except ClientError as error:
                raise _conflict(error) from error
            else:
                return at
        return None

    def forget_step(self, job_id: str) -> None:
        """See `retouch.ports.Store.forget_step`."""
        self._delete("DUE", job_id)

    def drop_alert(self, alert_id: str) -> None:
        """See `retouch.ports.Store.drop_alert`."""
        self._client.delete_item(
            TableName=self._table, Key={"pk": _s("ALERTS"), "sk": _s(alert_id)}
        )

    def note_lone(self, key: str, now: float, job_id: str | None = None) -> None:
        """See `retouch.ports.Store.note_lone`."""
        if job_id is not None:
            item = {"pk": _s("RECORDED"), "sk": _s(key), "job_id": _s(job_id)}
            self._client.put_item(TableName=self._table, Item=item)
            self._delete("LONE", key)
            return
        self._client.update_item(
            TableName=self._table,
            Key={"pk": _s("LONE"), "sk": _s(key)},
            UpdateExpression="SET since = if_not_exists(since, :since)",
            ExpressionAttributeValues={":since": _n(now)},
        )

    def forget_lone(self, key: str) -> None:
        """See `retouch.ports.Store.forget_lone`."""
        self._delete("LONE", key)
        self._delete("RECORDED", key)

    def _delete(self, pk: str, sk: str) -> None:
        self._client.delete_item(TableName=self._table, Key={"pk": _s(pk), "sk": _s(sk)})

    def note_sweep(self, sweep: Sweep) -> None:
        """See `retouch.ports.Store.note_sweep`."""
        item = {
            "pk": _s("SWEEP"),
            "sk": _s("SWEEP"),
            "since": _n(sweep.since),
            "started_at": _n(sweep.started_at),
        }
        if sweep.after is not None:
            item["after"] = _s(sweep.after)
        self._client.put_item(TableName=self._table, Item=item)
