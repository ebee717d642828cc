"""Kicks in SQS, executions in Step Functions, events in EventBridge, notifications in SNS."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from retouch.errors import TryLater
from retouch.records import EVENT_SOURCE
from retouch.registry import Json

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient


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

    def event(self, detail_type: str, detail: Mapping[str, Json]) -> None:
        """See `retouch.ports.Notices.event`.

        Raises:
            TryLater: the bus did not take it.
        """
        answer = self._events.put_events(
            Entries=[
                {
                    "Source": EVENT_SOURCE,
                    "DetailType": detail_type,
                    "Detail": json.dumps(detail, ensure_ascii=False),
                    "EventBusName": self._bus,
                }
            ]
        )
        if answer["FailedEntryCount"]:
            code = answer["Entries"][0].get("ErrorCode", "unknown")
            raise TryLater(f"the event bus did not take an event: {code}")

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
