"""The six handlers on the events that AWS sends, over moto and the provider's wire format."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
from pydantic import ValidationError

from retouch.aws.store import DynamoStore
from retouch.errors import ResultHostUnknown, SettingsError
from retouch.jobs import Job, PutLane, Status
from retouch.provider.client import connection_pool
from tests.fakes import PHOTO, QWEN, RESULT_HOST, WAN, WANX, sha256, sidecar_json
from tests.integration.conftest import (
    BASE_URL,
    KEY,
    REGION,
    Context,
    Function,
    Stack,
    provider_over,
)

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


# --- the provider's side of the wire ----------------------------------------


class Wire:
    """Answers like DashScope: contract 2.1, 2.2, 3.3 and 6.3."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.state = "RUNNING"
        self.broken = "no such path"

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        url = str(request.url)
        if self.broken in url:
            raise RuntimeError("a fault that nobody thought of")
        if url.startswith(RESULT_HOST):
            return httpx.Response(200, content=PHOTO)
        if url.startswith(f"{BASE_URL}/tasks/"):
            output: dict[str, Any] = {"task_id": "task-1", "task_status": self.state}
            if self.state == "SUCCEEDED":
                output["results"] = [{"url": f"{RESULT_HOST}/1.png?Signature=signed"}]
            answer = {"request_id": "r-query", "output": output, "usage": {"image_count": 1}}
            return httpx.Response(200, json=answer)
        if url.endswith("multimodal-generation/generation"):
            content = [{"image": f"{RESULT_HOST}/1.png?Signature=signed"}]
            choices = [{"finish_reason": "stop", "message": {"content": content}}]
            answer = {
                "output": {"choices": choices},
                "usage": {"image_count": 1, "width": 512, "height": 512},
                "request_id": "r-sync",
            }
            return httpx.Response(200, json=answer)
        output = {"task_status": "PENDING", "task_id": "task-1"}
        return httpx.Response(200, json={"output": output, "request_id": "r-create"})

    def sent(self, method: str) -> list[httpx.Request]:
        return [request for request in self.requests if request.method == method]


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def load(function: Function, wire: Wire) -> Function:
    provider = provider_over(wire)

    def with_provider(name: str) -> ModuleType:
        module = function(name)
        module.runtime.provider = lambda region: provider
        return module

    return with_provider


def drop(stack: Stack, key: str, data: bytes) -> None:
    stack.s3.put_object(Bucket=stack.inbox, Key=key, Body=data)


def entered(stack: Stack, store: DynamoStore, load: Function, model: str = WANX) -> Job:
    drop(stack, "shoes/red.png", PHOTO)
    drop(stack, "shoes/red.png.json", sidecar_json(model, prompt="a secret wish"))
    load("submit").handler(uploads("shoes/red.png", "shoes/red.png.json"), Context())
    (job,) = store.jobs_in(Status.QUEUED)
    return job


def running(stack: Stack, store: DynamoStore, load: Function) -> Job:
    entered(stack, store, load)
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


# --- submit ----------------------------------------


def test_uploads_in_one_batch_enter_one_job_and_kick_its_lane(
    stack: Stack, store: DynamoStore, load: Function
) -> None:
    job = entered(stack, store, load)

    assert job.lane == LANE
    assert job.images[0].sha256 == sha256(PHOTO)
    assert {kick["lane"] for kick in stack.received(stack.kicks_url)} == {LANE}
    assert record(stack)["status"] == "QUEUED"
    (event,) = stack.received(stack.seen_url)
    assert event["detail"]["job_id"] == job.job_id


@pytest.mark.parametrize(
    "bad", ["not json", "{}", json.dumps({"source": "aws.s3", "detail": {"object": {"key": ""}}})]
)
def test_one_bad_event_in_a_batch_comes_again_alone(
    stack: Stack, store: DynamoStore, load: Function, bad: str
) -> None:
    # Fault 5.
    drop(stack, "a.png", PHOTO)
    drop(stack, "a.png.json", sidecar_json())
    event = uploads("a.png", "a.png.json")
    event["Records"].insert(1, {**event["Records"][0], "messageId": "bad", "body": bad})

    answer = load("submit").handler(event, Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
    assert len(list(store.jobs_in(Status.QUEUED))) == 1


@pytest.mark.parametrize("key", ["red shoes/a+b%20c#d.png", "图片/红色 🎨.png"])
def test_a_key_arrives_as_it_is_and_not_url_encoded(
    stack: Stack, store: DynamoStore, load: Function, key: str
) -> None:
    # Fault 8.
    drop(stack, key, PHOTO)
    drop(stack, f"{key}.json", sidecar_json())

    load("submit").handler(uploads(f"{key}.json"), Context())

    (job,) = store.jobs_in(Status.QUEUED)
    assert job.images[0].key == key


def test_a_rejected_drop_has_a_record_and_a_notification(
    stack: Stack, store: DynamoStore, load: Function
) -> None:
    drop(stack, "a.png.json", b"{oops")

    load("submit").handler(uploads("a.png.json"), Context())

    assert record(stack, "a/job.json")["status"] == "REJECTED"
    (note,) = stack.received(stack.heard_url)
    assert note["MessageAttributes"]["status"]["Value"] == "REJECTED"


# --- dispatch ----------------------------------------


def test_a_kick_makes_the_task_and_starts_its_execution(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = running(stack, store, load)

    (create,) = wire.sent("POST")
    assert create.headers["Authorization"] == f"Bearer {KEY}"
    assert create.headers["X-DashScope-Async"] == "enable"
    sent = json.loads(create.content)
    url = sent["input"]["base_image_url"]
    query = parse_qs(urlsplit(url).query)
    assert query["versionId"] == [job.images[0].version_id]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert int(query["X-Amz-Expires"][0]) >= 3 * 3600 + 600
    assert (job.task_id, job.create_request_id) == ("task-1", "r-create")
    listed = stack.stepfunctions.list_executions(stateMachineArn=stack.state_machine_arn)
    assert [execution["name"] for execution in listed["executions"]] == [f"{job.job_id}-1-0"]


def test_the_url_that_the_provider_gets_gives_the_very_version(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    entered(stack, store, load)
    drop(stack, "shoes/red.png", b"overwritten since")
    load("dispatch").handler(kicks_of(LANE), Context())

    (create,) = wire.sent("POST")
    url = json.loads(create.content)["input"]["base_image_url"]
    query = parse_qs(urlsplit(url).query)
    stored = stack.s3.get_object(
        Bucket=stack.inbox, Key="shoes/red.png", VersionId=query["versionId"][0]
    )
    assert stored["Body"].read() == PHOTO


def test_many_kicks_of_a_lane_serve_it_once(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    entered(stack, store, load)

    answer = load("dispatch").handler(kicks_of(LANE, LANE, LANE), Context())

    assert answer == {"batchItemFailures": []}
    assert len(wire.sent("POST")) == 1


def test_a_lane_that_fails_comes_again_and_the_others_are_served(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    entered(stack, store, load)
    drop(stack, "b.png", PHOTO)
    drop(stack, "b.png.json", sidecar_json(WAN))
    load("submit").handler(uploads("b.png.json"), Context())
    wire.broken = "image-generation/generation"

    answer = load("dispatch").handler(kicks_of(f"beijing:{WAN}", LANE), Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    (job,) = store.jobs_in(Status.RUNNING)
    assert job.lane == LANE


def test_one_bad_kick_in_a_batch_comes_again_alone(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    # Fault 5.
    entered(stack, store, load)
    event = kicks_of(LANE)
    event["Records"].append({**event["Records"][0], "messageId": "bad", "body": "not json"})

    answer = load("dispatch").handler(event, Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
    assert len(wire.sent("POST")) == 1


def test_a_function_with_too_little_time_leaves_the_work_to_a_kick(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    entered(stack, store, load)
    stack.received(stack.kicks_url)

    load("dispatch").handler(kicks_of(LANE), Context(milliseconds=20_000))

    assert wire.requests == []
    assert stack.received(stack.kicks_url) == [{"lane": LANE}]


# --- the state machine's turns ----------------------------------------


def test_a_job_goes_from_poll_to_finalize_and_ends_with_its_results(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = running(stack, store, load)
    poll = load("poll")
    stack.received(stack.kicks_url)

    waiting = poll.handler(turn(job), Context())
    assert waiting["next"] == "wait"
    assert json.loads(json.dumps(waiting)) == waiting  # it goes back into the state machine
    wire.state = "SUCCEEDED"
    ended = poll.handler(waiting, Context())
    assert ended["next"] == "finalize"
    assert stack.received(stack.kicks_url) == [{"lane": LANE}]
    done = load("finalize").handler(ended, Context())

    assert done == {"job_id": job.job_id, "status": "SUCCEEDED"}
    stored = stack.s3.get_object(Bucket=stack.outbox, Key="shoes/red/red-1.png")
    assert stored["Body"].read() == PHOTO
    (output,) = record(stack)["outputs"]
    assert (output["version_id"], output["sha256"]) == (stored["VersionId"], sha256(PHOTO))
    (note,) = stack.received(stack.heard_url)
    message = json.loads(note["Message"])
    assert (message["status"], message["outbox"]["images"]) == (
        "SUCCEEDED",
        ["shoes/red/red-1.png"],
    )
    statuses = [event["detail"]["status"] for event in stack.received(stack.seen_url)]
    assert statuses == ["QUEUED", "ADMITTED", "CREATING", "RUNNING", "FINALIZING", "SUCCEEDED"]
    download = wire.requests[-1]
    assert str(download.url).startswith(RESULT_HOST)
    assert "Authorization" not in download.headers  # the key goes to the provider alone


def test_a_synchronous_job_goes_through_generate_and_finalize(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    entered(stack, store, load, QWEN)
    load("dispatch").handler(kicks_of(f"beijing:{QWEN}"), Context())
    (job,) = store.jobs_in(Status.ADMITTED)
    assert wire.requests == []

    answer = load("generate").handler({**turn(job), "mode": "sync"}, Context(milliseconds=600_000))
    assert answer["next"] == "finalize"
    load("finalize").handler(answer, Context())

    (call,) = wire.sent("POST")
    assert "X-DashScope-Async" not in call.headers
    assert record(stack)["status"] == "SUCCEEDED"
    assert store.answer(job.job_id) is None


@pytest.mark.parametrize("name", ["poll", "generate", "finalize"])
@pytest.mark.parametrize(
    "event", [{}, {"job_id": "a" * 16}, {"job_id": "../../etc", "fence": 1}, {"fence": 1}]
)
def test_a_turn_that_is_none_is_refused_at_the_edge(
    load: Function, wire: Wire, name: str, event: dict[str, Any]
) -> None:
    handler = load(name).handler

    with pytest.raises(ValidationError):
        handler(event, Context())
    assert wire.requests == []


@pytest.mark.parametrize("name", ["poll", "generate"])
def test_a_turn_of_a_job_that_is_not_there_stops(load: Function, name: str) -> None:
    answer = load(name).handler({"job_id": "a" * 16, "fence": 1}, Context())

    assert answer["next"] == "stop"


# --- reconcile ----------------------------------------


def test_the_schedule_kicks_lanes_with_work(
    stack: Stack, store: DynamoStore, load: Function
) -> None:
    entered(stack, store, load)
    stack.received(stack.kicks_url)  # lost

    assert load("reconcile").handler(SCHEDULED, Context()) == {"kicked": 1}

    assert stack.received(stack.kicks_url) == [{"lane": LANE}]


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
def test_an_execution_that_ended_early_is_followed_by_another(
    stack: Stack, store: DynamoStore, load: Function, status: str
) -> None:
    # Faults 42 and 43.
    job = running(stack, store, load)
    arn = stack.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{job.job_id}-1-0"
    stack.stepfunctions.stop_execution(executionArn=arn)

    answer = load("reconcile").handler(execution_ended(job.job_id, 1, status), Context())

    assert answer == {"job_id": job.job_id, "remedy": "restarted"}
    listed = stack.stepfunctions.list_executions(
        stateMachineArn=stack.state_machine_arn, statusFilter="RUNNING"
    )
    assert [execution["name"] for execution in listed["executions"]] == [f"{job.job_id}-1-1"]


def test_the_end_of_an_unknown_execution_changes_nothing(load: Function) -> None:
    answer = load("reconcile").handler(execution_ended("a" * 16, 1), Context())

    assert answer == {"job_id": "a" * 16, "remedy": None}


def test_a_lease_that_ran_out_is_healed_over_the_real_table(
    stack: Stack, store: DynamoStore, load: Function
) -> None:
    job = running(stack, store, load)
    arn = stack.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{job.job_id}-1-0"
    stack.stepfunctions.stop_execution(executionArn=arn)
    lane = store.lane(LANE)
    stale = {
        name: slot.model_copy(update={"lease_until": 1.0}) for name, slot in lane.slots.items()
    }
    version = lane.version + 1
    store.commit((PutLane(lane.model_copy(update={"version": version, "slots": stale})),))

    done = load("reconcile").handler(SCHEDULED, Context())

    assert done["restarted"] == 1
    assert store.lane(LANE).slots[job.job_id].lease_until > 1.0


# --- what every handler keeps ----------------------------------------


def test_no_key_signed_url_or_prompt_is_logged_sent_or_handed_to_the_state_machine(
    stack: Stack,
    store: DynamoStore,
    load: Function,
    wire: Wire,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Rule 7.
    job = running(stack, store, load)
    wire.state = "SUCCEEDED"
    answers = [load("poll").handler(turn(job), Context())]
    answers.append(load("finalize").handler(turn(job), Context()))
    load("reconcile").handler(SCHEDULED, Context())

    printed = capsys.readouterr()
    arn = stack.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{job.job_id}-1-0"
    history = stack.stepfunctions.describe_execution(executionArn=arn)["input"]
    told = stack.received(stack.heard_url) + stack.received(stack.seen_url)
    said = printed.out + printed.err + json.dumps(answers) + history + json.dumps(told)
    assert job.job_id in said
    for secret in (KEY, "signed", "X-Amz-Signature", "a secret wish"):
        assert secret not in said, secret


def test_the_key_is_read_from_the_secret_and_an_empty_one_is_named(
    stack: Stack, store: DynamoStore, function: Function
) -> None:
    drop(stack, "a.png", PHOTO)
    drop(stack, "a.png.json", sidecar_json())
    function("submit").handler(uploads("a.png.json"), Context())
    boto3.client("secretsmanager").put_secret_value(SecretId=stack.secret, SecretString=" ")
    dispatch = function("dispatch")  # with the provider of production

    answer = dispatch.handler(kicks_of(LANE), Context())

    assert answer == {"batchItemFailures": []}  # the kick is worked off: the lane pauses
    paused_by = store.lane(LANE).paused_by
    assert paused_by is not None
    assert paused_by.code == "SettingsError"
    assert "secret is empty" in paused_by.message
    with pytest.raises(SettingsError, match="secret is empty"):
        dispatch.runtime.provider("beijing").query("task-1")


@pytest.mark.parametrize("how", ["empty", "gone"])
def test_a_key_that_cannot_be_had_leaves_the_job_out_of_doubt(
    stack: Stack, store: DynamoStore, function: Function, how: str
) -> None:
    # Fault 33: nothing was sent, so nothing can have been billed.
    drop(stack, "a.png", PHOTO)
    drop(stack, "a.png.json", sidecar_json())
    function("submit").handler(uploads("a.png.json"), Context())
    secrets = boto3.client("secretsmanager")
    if how == "empty":
        secrets.put_secret_value(SecretId=stack.secret, SecretString=" ")
    else:
        secrets.delete_secret(SecretId=stack.secret, ForceDeleteWithoutRecovery=True)
    dispatch = function("dispatch")
    dispatch.handler(kicks_of(LANE), Context())

    job_id = stack.received(stack.seen_url)[0]["detail"]["job_id"]
    job = store.job(job_id)
    assert job is not None
    assert job.status is not Status.CREATING  # which reconcile would hold as billed in doubt


def test_a_missing_setting_is_named(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETOUCH_TABLE")
    module = function("poll")  # importing calls nothing

    with pytest.raises(SettingsError, match="RETOUCH_TABLE"):
        module.handler({"job_id": "a" * 16, "fence": 1}, Context())


def test_a_region_that_was_taken_away_is_named(function: Function) -> None:
    with pytest.raises(SettingsError, match="no longer has singapore"):
        function("poll").runtime.provider("singapore")


def test_each_region_has_its_own_address_key_workspace_and_result_hosts(
    stack: Stack, function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETOUCH_PROVIDER_REGIONS", "beijing,singapore")
    monkeypatch.setenv("RETOUCH_PROVIDER_BASE_URLS", "{}")
    monkeypatch.setenv("RETOUCH_PROVIDER_WORKSPACES", '{"singapore": "llm-1"}')
    keys = json.dumps({"beijing": "sk-b", "singapore": "sk-s"})
    boto3.client("secretsmanager").put_secret_value(SecretId=stack.secret, SecretString=keys)
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"output": {"task_status": "RUNNING"}})

    runtime = function("poll").runtime
    elsewhere = "https://dashscope-result-sgp.oss-ap-southeast-1.aliyuncs.com/1.png"
    with connection_pool(httpx.MockTransport(answer)) as pool:
        runtime._pool = pool
        for region in ("beijing", "singapore"):
            runtime.provider(region).query("task-1")
        with runtime.provider("singapore").fetch(elsewhere) as chunks:
            assert b"".join(chunks)
        with pytest.raises(ResultHostUnknown), runtime.provider("beijing").fetch(elsewhere):
            pass

    asked = [
        (r.url.host, r.headers.get("Authorization"), r.headers.get("X-DashScope-WorkSpace"))
        for r in seen
    ]
    assert asked == [
        ("dashscope.aliyuncs.com", "Bearer sk-b", None),
        ("dashscope-intl.aliyuncs.com", "Bearer sk-s", "llm-1"),
        ("dashscope-result-sgp.oss-ap-southeast-1.aliyuncs.com", None, None),
    ]
