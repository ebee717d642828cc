"""What several of these tests need: events as AWS sends them, and a job at each of its stages."""

from __future__ import annotations

import json
from typing import Any

from retouch.aws.store import DynamoStore
from retouch.events import STEP_DUE
from retouch.jobs import Job, Status
from retouch.records import EVENT_SOURCE, EVENT_TYPE, announcement
from tests.fakes import PHOTO, QWEN, WANX, sidecar_json
from tests.integration.conftest import REGION, STACK, Context, Function, Stack
from tests.integration.wire import Wire

LANE = f"beijing:{WANX}"


# --- events, as AWS documents them ----------------------------------------


def object_created(key: str) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "123456789012",
        "time": "2026-11-12T00:00:00Z",
        "region": REGION,
        "resources": ["arn:aws:s3:::the-inbox"],
        "detail": {
            "version": "0",
            "bucket": {"name": "the-inbox"},
            "object": {
                "key": key,
                "size": 5,
                "etag": "b1946ac92492d2347c6235b4d2611184",
                "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                "sequencer": "617f08299329d189",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
    }


def sqs(*bodies: str, group: str | None = None) -> dict[str, Any]:
    attributes = {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1545082649183",
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": "1545082649185",
    }
    if group is not None:
        attributes |= {"MessageGroupId": group, "SequenceNumber": "18849496460467696128"}
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
                "body": body,
                "attributes": attributes,
                "messageAttributes": {},
                "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:queue",
                "awsRegion": REGION,
            }
            for number, body in enumerate(bodies)
        ]
    }


def uploads(*keys: str) -> dict[str, Any]:
    return sqs(*(json.dumps(object_created(key), ensure_ascii=False) for key in keys))


def step_due(job_id: str) -> dict[str, Any]:
    """The message that the step before a job has ended."""
    event = {"source": EVENT_SOURCE, "detail-type": STEP_DUE, "detail": {"job_id": job_id}}
    return sqs(json.dumps(event))


def kicks_of(*lanes: str) -> dict[str, Any]:
    return sqs(*(json.dumps({"lane": lane}) for lane in lanes), group=lanes[0])


def execution_ended(job_id: str, fence: int, status: str = "FAILED") -> dict[str, Any]:
    name = f"{job_id}-{fence}-0"
    return {
        "version": "0",
        "id": "315c1398-40ff-a850-213b-158f73e60175",
        "detail-type": "Step Functions Execution Status Change",
        "source": "aws.states",
        "account": "123456789012",
        "time": "2026-11-12T00:00:00Z",
        "region": REGION,
        "resources": [f"arn:aws:states:{REGION}:123456789012:execution:edit-job:{name}"],
        "detail": {
            "executionArn": f"arn:aws:states:{REGION}:123456789012:execution:edit-job:{name}",
            "stateMachineArn": f"arn:aws:states:{REGION}:123456789012:stateMachine:edit-job",
            "name": name,
            "status": status,
            "startDate": 1551225146847,
            "stopDate": 1551225151881,
            "input": json.dumps(
                {"job_id": job_id, "fence": fence, "mode": "async", "wait_seconds": 3}
            ),
            "inputDetails": {"included": True},
            "output": None,
            "outputDetails": None,
        },
    }


def job_event(job: Job) -> dict[str, Any]:
    """What the queue of contact sheets holds: an event of ours, as EventBridge delivers it."""
    return sqs(
        json.dumps(
            {
                "version": "0",
                "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
                "detail-type": EVENT_TYPE,
                "source": EVENT_SOURCE,
                "account": "123456789012",
                "time": "2026-11-12T00:00:00Z",
                "region": REGION,
                "resources": [],
                "detail": announcement(job, stack=STACK, inbox="the-inbox", outbox="the-outbox"),
            },
            ensure_ascii=False,
        )
    )


SCHEDULED = {
    "version": "0",
    "id": "89d1a02d-5ec7-412e-82f5-13505f849b41",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2026-11-12T00:00:00Z",
    "region": REGION,
    "resources": [f"arn:aws:events:{REGION}:123456789012:rule/every-minute"],
    "detail": {},
}


# --- jobs ----------------------------------------


def drop(stack: Stack, key: str, data: bytes) -> None:
    stack.s3.put_object(Bucket=stack.inbox, Key=key, Body=data)


def entered(
    stack: Stack, store: DynamoStore, load: Function, model: str = WANX, **fields: Any
) -> Job:
    drop(stack, "shoes/red.png", PHOTO)
    drop(stack, "shoes/red.png.json", sidecar_json(model, prompt="a secret wish", **fields))
    load("submit").handler(uploads("shoes/red.png", "shoes/red.png.json"), Context())
    (job,) = store.jobs_in(Status.QUEUED)
    return job


def running(stack: Stack, store: DynamoStore, load: Function, **fields: Any) -> Job:
    entered(stack, store, load, **fields)
    assert load("dispatch").handler(kicks_of(LANE), Context()) == {"batchItemFailures": []}
    (job,) = store.jobs_in(Status.RUNNING)
    return job


def turn(job: Job) -> dict[str, Any]:
    return {"job_id": job.job_id, "fence": job.fence, "mode": "async", "wait_seconds": 0}


def record(stack: Stack, key: str = "shoes/red/job.json") -> dict[str, Any]:
    body = stack.s3.get_object(Bucket=stack.outbox, Key=key)["Body"].read()
    loaded = json.loads(body)
    assert isinstance(loaded, dict)
    return loaded


def command(name: str, job_id: str, task_id: str | None = None) -> dict[str, Any]:
    """As the command line says it."""
    return {"command": name, "job_id": job_id, "task_id": task_id}


def refused(stack: Stack, store: DynamoStore, load: Function, wire: Wire) -> Job:
    """A job that the provider refused for good."""
    entered(stack, store, load)
    wire.refused = {"code": "DataInspectionFailed", "message": "Input data may be inappropriate."}
    load("dispatch").handler(kicks_of(LANE), Context())
    wire.refused = None
    (job,) = store.jobs_in(Status.FAILED)
    return job


def held(stack: Stack, store: DynamoStore, load: Function, wire: Wire) -> Job:
    """A job whose synchronous call was lost, so that nobody knows whether it was billed."""
    entered(stack, store, load, QWEN)
    load("dispatch").handler(kicks_of(f"beijing:{QWEN}"), Context())
    (job,) = store.jobs_in(Status.ADMITTED)
    wire.lost = "multimodal-generation/generation"
    answer = load("generate").handler({**turn(job), "mode": "sync"}, Context(milliseconds=600_000))
    wire.lost = "no such path"
    assert answer["next"] == "stop"
    (unresolved,) = store.jobs_in(Status.UNRESOLVED)
    return unresolved


def waiting_for_webhook(stack: Stack, *bodies: str, attempt: int = 1) -> dict[str, Any]:
    """Messages that lie in the webhook's queue, as Lambda hands them over in that attempt."""
    for body in bodies:
        stack.sqs.send_message(QueueUrl=stack.webhook_url, MessageBody=body)
    got = stack.sqs.receive_message(QueueUrl=stack.webhook_url, MaxNumberOfMessages=10)
    event = sqs(*(message["Body"] for message in got["Messages"]))
    for record_, message in zip(event["Records"], got["Messages"], strict=True):
        record_["receiptHandle"] = message["ReceiptHandle"]
        record_["attributes"] = record_["attributes"] | {"ApproximateReceiveCount": str(attempt)}
    return event


def quiet(stack: Stack) -> None:
    """Take away all that was told and kicked so far."""
    for url in (stack.heard_url, stack.seen_url, stack.kicks_url):
        stack.received(url)
