"""Kicks, executions, events and notifications, as their receivers see them."""

from __future__ import annotations

import json

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from retouch.aws.messaging import AwsNotices, SqsKicks, SqsUploads, StepFunctionsExecutions
from retouch.errors import TryLater
from retouch.events import Kick, ObjectCreated
from retouch.ports import Errand
from retouch.registry import Json
from tests.integration.conftest import Stack

LANE = "beijing:wanx2.1-imageedit"


def test_a_kick_is_grouped_by_its_lane_and_none_is_dropped_as_a_repeat(
    kicks: SqsKicks, stack: Stack
) -> None:
    other = "beijing:wan2.7-image"
    for lane in (LANE, LANE, other):
        kicks.kick(lane)

    found: list[tuple[str, str]] = []
    while True:
        answer = stack.sqs.receive_message(
            QueueUrl=stack.kicks_url,
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["MessageGroupId"],
        )
        messages = answer.get("Messages", [])
        if not messages:
            break
        for message in messages:
            lane = Kick.model_validate_json(message["Body"]).lane
            found.append((message["Attributes"]["MessageGroupId"], lane))
            stack.sqs.delete_message(
                QueueUrl=stack.kicks_url, ReceiptHandle=message["ReceiptHandle"]
            )
    assert sorted(found) == sorted([(LANE, LANE), (LANE, LANE), (other, other)])


@pytest.mark.parametrize("key", ["a.png", "red shoes/a+b%20c#d.png", "图片/红色 🎨.png.json"])
def test_an_object_that_is_told_of_once_more_reads_as_s3_tells_it(
    uploads: SqsUploads, stack: Stack, key: str
) -> None:
    # Faults 4 and 8.
    uploads.announce(Errand(key=key))

    (told,) = stack.received(stack.uploads_url)
    assert ObjectCreated.model_validate(told).detail.object.key == key
    assert told["detail-type"] == "Object Created"
    assert told["detail"]["bucket"]["name"] == stack.inbox


def test_an_object_may_be_told_of_again_and_again(uploads: SqsUploads, stack: Stack) -> None:
    for _ in range(3):
        uploads.announce(Errand(key="a.png"))

    assert len(stack.received(stack.uploads_url)) == 3


def test_an_execution_is_started_once_however_often_it_is_asked_for(
    executions: StepFunctionsExecutions, stack: Stack
) -> None:
    # Fault 22.
    payload: dict[str, Json] = {"job_id": "a" * 16, "fence": 1, "mode": "async", "wait_seconds": 3}

    executions.start("a-1-0", payload)
    executions.start("a-1-0", payload)
    executions.start("a-1-0", {**payload, "wait_seconds": 5})

    listed = stack.stepfunctions.list_executions(stateMachineArn=stack.state_machine_arn)
    (execution,) = listed["executions"]
    described = stack.stepfunctions.describe_execution(executionArn=execution["executionArn"])
    assert described["name"] == "a-1-0"
    assert json.loads(described["input"]) == payload


def test_an_execution_lives_until_it_is_stopped(
    executions: StepFunctionsExecutions, stack: Stack
) -> None:
    assert executions.alive("a-1-0") is False
    executions.start("a-1-0", {"job_id": "a"})
    assert executions.alive("a-1-0") is True

    arn = stack.state_machine_arn.replace(":stateMachine:", ":execution:") + ":a-1-0"
    stack.stepfunctions.stop_execution(executionArn=arn)

    assert executions.alive("a-1-0") is False


def test_an_event_is_on_the_stack_s_bus_as_the_readme_promises(
    notices: AwsNotices, stack: Stack
) -> None:
    notices.tell("Retouch Job State Change", [{"job_id": "a", "status": "RUNNING", "名": "图"}])

    (event,) = stack.received(stack.seen_url)
    assert (event["source"], event["detail-type"]) == ("retouch", "Retouch Job State Change")
    assert event["detail"] == {"job_id": "a", "status": "RUNNING", "名": "图"}


def test_a_bus_that_is_not_there_is_no_silent_loss(stack: Stack) -> None:
    notices = AwsNotices(
        boto3.client("events"), boto3.client("sns"), bus="gone", topic_arn=stack.topic_arn
    )

    with pytest.raises((TryLater, ClientError)):
        notices.tell("x", [{"too": "late"}])


def test_events_that_are_told_together_come_in_their_order(
    notices: AwsNotices, stack: Stack
) -> None:
    details: list[dict[str, Json]] = [{"job_id": "a", "revision": number} for number in range(10)]

    notices.tell("Retouch Job State Change", details)

    heard = stack.received(stack.seen_url)
    assert [event["detail"] for event in heard] == details
    assert {event["detail-type"] for event in heard} == {"Retouch Job State Change"}


def test_one_event_that_the_bus_did_not_take_among_others_is_for_later(stack: Stack) -> None:
    events = boto3.client("events")
    stubber = Stubber(events)
    entries = [{"EventId": "1"}, {"ErrorCode": "InternalFailure"}, {"EventId": "3"}]
    stubber.add_response("put_events", {"FailedEntryCount": 1, "Entries": entries})
    stubber.activate()
    notices = AwsNotices(events, boto3.client("sns"), bus=stack.bus, topic_arn=stack.topic_arn)

    with pytest.raises(TryLater, match="InternalFailure"):
        notices.tell("x", [{"n": 1}, {"n": 2}, {"n": 3}])


def test_an_event_that_the_bus_did_not_take_is_for_later(stack: Stack) -> None:
    events = boto3.client("events")
    stubber = Stubber(events)
    failed = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}
    stubber.add_response("put_events", failed)
    stubber.activate()
    notices = AwsNotices(events, boto3.client("sns"), bus=stack.bus, topic_arn=stack.topic_arn)

    with pytest.raises(TryLater, match="ThrottlingException"):
        notices.tell("x", [{"job_id": "a"}])


def test_a_notification_carries_its_attributes_to_a_subscribed_queue(
    notices: AwsNotices, stack: Stack
) -> None:
    attributes = {"status": "PARTIAL", "folder": "shoes/春", "model": "wan2.7-image"}

    notices.notify("retouch PARTIAL: a.json", {"job_id": "a", "图": 1}, attributes)

    (envelope,) = stack.received(stack.heard_url)
    assert envelope["Subject"] == "retouch PARTIAL: a.json"
    assert json.loads(envelope["Message"]) == {"job_id": "a", "图": 1}
    assert {
        name: (value["Type"], value["Value"])
        for name, value in envelope["MessageAttributes"].items()
    } == {name: ("String", value) for name, value in attributes.items()}


def test_a_subscription_can_filter_on_the_attributes(notices: AwsNotices, stack: Stack) -> None:
    sns = boto3.client("sns")
    (subscription,) = sns.list_subscriptions_by_topic(TopicArn=stack.topic_arn)["Subscriptions"]
    sns.set_subscription_attributes(
        SubscriptionArn=subscription["SubscriptionArn"],
        AttributeName="FilterPolicy",
        AttributeValue=json.dumps({"status": ["FAILED"]}),
    )

    notices.notify("one", {"n": 1}, {"status": "SUCCEEDED"})
    notices.notify("two", {"n": 2}, {"status": "FAILED"})

    assert [envelope["Subject"] for envelope in stack.received(stack.heard_url)] == ["two"]
