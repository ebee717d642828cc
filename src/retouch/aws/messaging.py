"""Kicks and uploads in SQS, executions in Step Functions, events in EventBridge, messages in SNS."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from retouch.errors import TryLater
from retouch.events import STEP_DUE
from retouch.ports import SETTLE_SECONDS, Errand
from retouch.records import EVENT_SOURCE
from retouch.registry import Json

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef
    from mypy_boto3_stepfunctions import SFNClient


_AT_ONCE: Final = 10
"""So many messages does SQS take in one call."""


class SqsKicks:
    """`retouch.ports.Kicks` on one FIFO queue; the message group is the lane."""

    def __init__(self, client: SQSClient, queue_url: str):
        self._client = client
        self._queue_url = queue_url

    def kick(self, lane: str) -> None:
        """See `retouch.ports.Kicks.kick`."""
        self._client.send_message(
            QueueUrl=self._queue_url,
            MessageBody=json.dumps({"lane": lane}),
            MessageGroupId=lane,
            # Always a new one: a kick that is dropped as a duplicate of one already worked off
            # would leave its job lying until reconcile comes round.
            MessageDeduplicationId=uuid.uuid4().hex,
        )


class SqsUploads:
    """`retouch.ports.Uploads` on the queue that S3's events go to."""

    def __init__(self, client: SQSClient, queue_url: str, bucket: str):
        self._client = client
        self._queue_url = queue_url
        self._bucket = bucket

    def announce(self, *errands: Errand) -> None:
        """See `retouch.ports.Uploads.announce`."""
        for at in range(0, len(errands), _AT_ONCE):
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {
                    "Id": str(number),
                    "MessageBody": json.dumps(self._event(errand), ensure_ascii=False),
                    "DelaySeconds": SETTLE_SECONDS if errand.settled else 0,
                }
                for number, errand in enumerate(errands[at : at + _AT_ONCE])
            ]
            answer = self._client.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
            if failed := answer.get("Failed"):
                codes = ", ".join(sorted({entry["Code"] for entry in failed}))
                raise TryLater(f"the uploads queue did not take a message: {codes}")

    def _event(self, errand: Errand) -> dict[str, Json]:
        """An object's is as S3's own, as far as `submit` reads it."""
        if errand.job_id is not None:
            return {
                "source": EVENT_SOURCE,
                "detail-type": STEP_DUE,
                "detail": {"job_id": errand.job_id},
            }
        return {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {
                "bucket": {"name": self._bucket},
                "object": {"key": errand.key},
                "settled": errand.settled,
            },
        }


class StepFunctionsExecutions:
    """`retouch.ports.Executions` on one state machine."""

    def __init__(self, client: SFNClient, state_machine_arn: str):
        self._client = client
        self._arn = state_machine_arn

    def start(self, name: str, payload: Mapping[str, Json]) -> None:
        """See `retouch.ports.Executions.start`."""
        try:
            self._client.start_execution(
                stateMachineArn=self._arn, name=name, input=json.dumps(payload)
            )
        except self._client.exceptions.ExecutionAlreadyExists:
            return

    def alive(self, name: str) -> bool:
        """See `retouch.ports.Executions.alive`."""
        arn = f"{self._arn.replace(':stateMachine:', ':execution:')}:{name}"
        try:
            answer = self._client.describe_execution(executionArn=arn)
        except self._client.exceptions.ExecutionDoesNotExist:
            return False
        return answer["status"] in ("RUNNING", "PENDING_REDRIVE")


class AwsNotices:
    """`retouch.ports.Notices` on one event bus and one topic."""

    def __init__(self, events: EventBridgeClient, sns: SNSClient, *, bus: str, topic_arn: str):
        self._events = events
        self._sns = sns
        self._bus = bus
        self._topic_arn = topic_arn

    def tell(self, detail_type: str, details: Sequence[Mapping[str, Json]]) -> None:
        """See `retouch.ports.Notices.tell`.

        Raises:
            TryLater: the bus did not take one of them.
        """
        answer = self._events.put_events(
            Entries=[
                {
                    "Source": EVENT_SOURCE,
                    "DetailType": detail_type,
                    "Detail": json.dumps(detail, ensure_ascii=False),
                    "EventBusName": self._bus,
                }
                for detail in details
            ]
        )
        if answer["FailedEntryCount"]:
            codes = {entry["ErrorCode"] for entry in answer["Entries"] if "ErrorCode" in entry}
            raise TryLater(f"the event bus did not take an event: {', '.join(sorted(codes))}")

    def notify(
        self, subject: str, message: Mapping[str, Json], attributes: Mapping[str, str]
    ) -> None:
        """See `retouch.ports.Notices.notify`."""
        self._sns.publish(
            TopicArn=self._topic_arn,
            Subject=subject,
            Message=json.dumps(message, ensure_ascii=False),
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value}
                for name, value in attributes.items()
            },
        )
