"""Events as AWS sends them, held against the models at the handlers' edge."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from pydantic import ValidationError

from retouch.events import Command, ExecutionEnded, Kick, KickBatch, ObjectCreated, Turn

OBJECT_CREATED: dict[str, Any] = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2026-04-02T10:00:00Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:s3:::inbox"],
    "detail": {
        "version": "0",
        "bucket": {"name": "inbox"},
        "object": {
            "key": "shoes/red photo+1%20#2 红🐇.jpg",
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

EXECUTION_ENDED: dict[str, Any] = {
    "version": "0",
    "id": "315c1398-40ff-a850-213b-158f73e60175",
    "detail-type": "Step Functions Execution Status Change",
    "source": "aws.states",
    "account": "111122223333",
    "time": "2026-04-02T10:05:00Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:states:eu-central-1:111122223333:execution:edit-job:abc"],
    "detail": {
        "executionArn": "arn:aws:states:eu-central-1:111122223333:execution:edit-job:abc",
        "stateMachineArn": "arn:aws:states:eu-central-1:111122223333:stateMachine:edit-job",
        "name": "abc",
        "status": "TIMED_OUT",
        "startDate": 1775124000000,
        "stopDate": 1775124300000,
        "input": '{"job_id": "0123456789abcdef", "fence": 3, "wait": 5}',
        "inputDetails": {"included": True},
        "output": None,
        "outputDetails": None,
    },
}


def kick_record(message_id: str, body: str) -> dict[str, Any]:
    return {
        "messageId": message_id,
        "receiptHandle": "handle",
        "body": body,
        "attributes": {"MessageGroupId": "beijing:wan2.7-image"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:111122223333:kicks.fifo",
        "awsRegion": "eu-central-1",
    }


def test_the_key_of_a_new_object_is_taken_as_it_stands() -> None:
    event = ObjectCreated.model_validate(OBJECT_CREATED)
    assert event.detail.object.key == "shoes/red photo+1%20#2 红🐇.jpg"


def test_an_object_event_without_a_version_is_taken_too() -> None:
    event = copy.deepcopy(OBJECT_CREATED)
    del event["detail"]["object"]["version-id"]
    assert ObjectCreated.model_validate(event).detail.object.key


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"source": "aws.ec2"}, id="another source"),
        pytest.param({"detail": {}}, id="no object"),
        pytest.param({"detail": {"object": {}}}, id="no key"),
        pytest.param({"detail": {"object": {"key": ""}}}, id="an empty key"),
        pytest.param({"detail": {"object": {"key": None}}}, id="a null key"),
    ],
)
def test_what_is_no_object_event_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ObjectCreated.model_validate(OBJECT_CREATED | broken)


def test_a_lane_is_served_once_however_many_kicks_it_got() -> None:
    batch = KickBatch.model_validate(
        {
            "Records": [
                kick_record("m1", '{"lane": "beijing:wan2.7-image"}'),
                kick_record("m2", '{"lane": "beijing:wanx2.1-imageedit"}'),
                kick_record("m3", '{"lane": "beijing:wan2.7-image"}'),
            ]
        }
    )
    assert batch.by_lane() == {
        "beijing:wan2.7-image": ["m1", "m3"],
        "beijing:wanx2.1-imageedit": ["m2"],
    }


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="empty"),
        pytest.param("not json", id="not JSON"),
        pytest.param("[]", id="not an object"),
        pytest.param("{}", id="no lane"),
        pytest.param('{"lane": ""}', id="an empty lane"),
        pytest.param('{"lane": "wan2.7-image"}', id="no region"),
        pytest.param('{"lane": "beijing:"}', id="no model"),
        pytest.param('{"lane": "beijing:a b"}', id="a space"),
        pytest.param('{"lane": "beijing:wan2.7-image\\n"}', id="a line end"),
        pytest.param('{"lane": 7}', id="a number"),
    ],
)
def test_what_is_no_kick_is_named_and_holds_no_other_up(body: str) -> None:
    good = kick_record("m2", '{"lane": "beijing:wan2.7-image"}')
    batch = KickBatch.model_validate({"Records": [kick_record("m1", body), good]})
    assert batch.unreadable() == ["m1"]
    assert batch.by_lane() == {"beijing:wan2.7-image": ["m2"]}


def test_a_kick_names_its_lane() -> None:
    assert Kick(lane="singapore:qwen-image-edit-plus").lane == "singapore:qwen-image-edit-plus"


def test_the_turn_of_an_ended_execution_is_read_from_its_input() -> None:
    assert ExecutionEnded.turn_in(EXECUTION_ENDED) == Turn(job_id="0123456789abcdef", fence=3)


def test_the_schedule_is_no_turn() -> None:
    scheduled: dict[str, Any] = {
        "source": "aws.events",
        "detail-type": "Scheduled Event",
        "detail": {},
    }
    assert ExecutionEnded.turn_in(scheduled) is None
    assert ExecutionEnded.turn_in({}) is None


@pytest.mark.parametrize(
    "carried",
    [
        pytest.param({"fence": 3}, id="no job"),
        pytest.param({"job_id": "0123456789abcdef"}, id="no fence"),
        pytest.param({"job_id": "0123456789abcdef", "fence": 0}, id="fence 0"),
        pytest.param({"job_id": "0123456789ABCDEF", "fence": 1}, id="capitals"),
        pytest.param({"job_id": "0123456789abcde", "fence": 1}, id="too short"),
        pytest.param({"job_id": "../../etc/passwd0", "fence": 1}, id="a path"),
    ],
)
def test_an_execution_of_something_else_is_refused(carried: dict[str, Any]) -> None:
    event = copy.deepcopy(EXECUTION_ENDED)
    event["detail"]["input"] = json.dumps(carried)
    with pytest.raises(ValidationError):
        ExecutionEnded.turn_in(event)


# --- a person's commands ----------------------------------------


@pytest.mark.parametrize("command", ["cancel", "retry", "adopt", "again", "fail"])
def test_a_command_names_its_job(command: str) -> None:
    said = Command.model_validate({"command": command, "job_id": "0123456789abcdef"})
    assert (said.command, said.job_id, said.task_id) == (command, "0123456789abcdef", None)


def test_a_command_may_name_a_task() -> None:
    said = {"command": "adopt", "job_id": "0123456789abcdef", "task_id": "86ecf553-d340-4e21"}
    assert Command.model_validate(said).task_id == "86ecf553-d340-4e21"
    assert Command.model_validate(said | {"task_id": None}).task_id is None


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"command": "delete"}, id="no such command"),
        pytest.param({"command": "Cancel"}, id="a capital"),
        pytest.param({"command": ""}, id="an empty command"),
        pytest.param({"command": None}, id="a null command"),
        pytest.param({"command": ["cancel"]}, id="a list"),
        pytest.param({"job_id": ""}, id="an empty job"),
        pytest.param({"job_id": "0123456789ABCDEF"}, id="capitals"),
        pytest.param({"job_id": "0123456789abcde"}, id="too short"),
        pytest.param({"job_id": "0123456789abcdef0"}, id="too long"),
        pytest.param({"job_id": "0123456789abcdef\n"}, id="a line end"),
        pytest.param({"job_id": "../../etc/passwd0"}, id="a path"),
        pytest.param({"job_id": "shoes/red.png.json"}, id="a sidecar's key"),
        pytest.param({"job_id": None}, id="a null job"),
        pytest.param({"task_id": ""}, id="an empty task"),
        pytest.param({"task_id": "x" * 201}, id="an endless task"),
        pytest.param({"task_id": 7}, id="a number for a task"),
    ],
)
def test_what_is_no_command_is_refused(broken: dict[str, Any]) -> None:
    right = {"command": "adopt", "job_id": "0123456789abcdef", "task_id": "86ecf553-d340-4e21"}
    with pytest.raises(ValidationError):
        Command.model_validate(right | broken)


@pytest.mark.parametrize("missing", ["command", "job_id"])
def test_a_command_without_its_parts_is_refused(missing: str) -> None:
    right = {"command": "cancel", "job_id": "0123456789abcdef"}
    del right[missing]
    with pytest.raises(ValidationError):
        Command.model_validate(right)


@pytest.mark.parametrize("key", ["a+b c%20#d.png", "图片/红色 🎨.png", "a/b.png"])
def test_an_object_told_of_once_more_reads_as_one_of_s3_s_own(key: str) -> None:
    # What `SqsUploads.announce` sends has no version, no size and no time.
    told = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "inbox"}, "object": {"key": key}},
    }
    read = ObjectCreated.model_validate_json(json.dumps(told, ensure_ascii=False))
    assert read.detail.object.key == key
