"""The handlers on the events that AWS sends, over moto and the provider's wire format."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from pydantic import ValidationError

from retouch.aws.store import DynamoStore
from retouch.errors import ResultHostUnknown, SettingsError
from retouch.jobs import Job, PutLane, Status
from retouch.provider.client import connection_pool
from retouch.webhook import HttpReceiver, keys_in, signature
from tests.fakes import PHOTO, QWEN, RESULT_HOST, WAN, sha256, sidecar_json
from tests.integration.conftest import (
    HOOK,
    KEY,
    WEBHOOK_KEY,
    Context,
    Function,
    MovedClock,
    Stack,
)
from tests.integration.machine import Machine
from tests.integration.support import (
    LANE,
    SCHEDULED,
    command,
    drop,
    entered,
    execution_ended,
    held,
    job_event,
    kicks_of,
    quiet,
    record,
    refused,
    running,
    sqs,
    turn,
    uploads,
    waiting_for_webhook,
)
from tests.integration.wire import Wire

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
    done = load("finalize").handler(ended, Context(milliseconds=300_000))

    assert done == {"job_id": job.job_id, "fence": 1, "status": "SUCCEEDED", "next": "stop"}
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
    load("finalize").handler(answer, Context(milliseconds=300_000))

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


# --- results that take more than one turn ----------------------------------------


@pytest.mark.filterwarnings("ignore:No application metrics:UserWarning")
def test_results_that_take_long_are_copied_in_as_many_turns_as_they_need(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    # Rule 3, and the state machine's way round.
    wire.images = 3
    job = running(stack, store, load, parameters={"n": 3})
    wire.state = "SUCCEEDED"
    finalize = load("finalize")
    clock = finalize.runtime.clock = MovedClock()
    wire.during_download = lambda: clock.advance(170.0)
    answers: list[dict[str, Any]] = []

    def one_turn(payload: dict[str, Any]) -> dict[str, Any]:
        answers.append(finalize.handler(payload, Context(milliseconds=300_000)))
        return answers[-1]

    poll = load("poll")
    machine = Machine(
        {"Poll": lambda payload: poll.handler(payload, Context()), "Finalize": one_turn},
        clock.advance,
    )
    went = machine.run({**turn(job), "wait_seconds": 5})

    assert went == [
        *("Wait", "Mode", "Poll", "Ended"),
        *("Finalize", "Finalized", "Finalize", "Finalized", "Finalize", "Finalized"),
        "Stopped",
    ]
    assert [(answer["status"], answer["next"]) for answer in answers] == [
        ("FINALIZING", "finalize"),
        ("FINALIZING", "finalize"),
        ("SUCCEEDED", "stop"),
    ]
    assert all(answer.keys() == {"job_id", "fence", "status", "next"} for answer in answers)
    # Each is downloaded and written once, and nothing is told of before all of them are there.
    assert wire.downloads() == [f"{RESULT_HOST}/{number}.png" for number in (1, 2, 3)]
    keys = [f"shoes/red/red-{number}.png" for number in (1, 2, 3)]
    versions = stack.s3.list_object_versions(Bucket=stack.outbox, Prefix="shoes/red/red-")
    assert sorted(version["Key"] for version in versions["Versions"]) == keys
    assert [output["key"] for output in record(stack)["outputs"]] == keys
    (note,) = stack.received(stack.heard_url)
    assert json.loads(note["Message"])["status"] == "SUCCEEDED"
    assert "signed" not in "".join(machine.carried)


@pytest.mark.filterwarnings("ignore:No application metrics:UserWarning")
def test_a_function_with_too_little_time_begins_no_download(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = running(stack, store, load)
    wire.state = "SUCCEEDED"
    load("poll").handler(turn(job), Context())

    answer = load("finalize").handler(turn(job), Context(milliseconds=100_000))

    assert (answer["status"], answer["next"]) == ("FINALIZING", "finalize")
    assert wire.downloads() == []
    assert record(stack)["status"] == "FINALIZING"
    assert stack.received(stack.heard_url) == []


def test_a_turn_that_is_not_the_last_is_no_trouble_in_the_log(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = running(stack, store, load)
    wire.state = "SUCCEEDED"
    load("poll").handler(turn(job), Context())

    load("finalize").handler(turn(job), Context(milliseconds=100_000))  # warnings are errors here


def test_a_second_finalize_changes_nothing_and_tells_nobody(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    # Rule 4.
    job = running(stack, store, load)
    wire.state = "SUCCEEDED"
    load("poll").handler(turn(job), Context())
    first = load("finalize").handler(turn(job), Context(milliseconds=300_000))
    stack.received(stack.heard_url)
    stack.received(stack.seen_url)
    closed = store.job(job.job_id)

    assert load("finalize").handler(turn(job), Context(milliseconds=300_000)) == first

    assert store.job(job.job_id) == closed
    assert stack.received(stack.heard_url) == []
    assert stack.received(stack.seen_url) == []
    assert len(wire.downloads()) == 1


@pytest.mark.parametrize("fence", [2, 7])
def test_a_finalize_of_another_admission_stops(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire, fence: int
) -> None:
    # Rule 5.
    job = running(stack, store, load)
    wire.state = "SUCCEEDED"
    load("poll").handler(turn(job), Context())

    answer = load("finalize").handler({**turn(job), "fence": fence}, Context(milliseconds=300_000))

    assert answer == {"job_id": job.job_id, "fence": fence, "status": None, "next": "stop"}
    assert wire.downloads() == []


# --- reconcile ----------------------------------------


def test_the_schedule_kicks_lanes_with_work(
    stack: Stack, store: DynamoStore, load: Function
) -> None:
    entered(stack, store, load)
    stack.received(stack.kicks_url)  # lost

    assert load("reconcile").handler(SCHEDULED, Context()) == {"kicked": 1, "swept": 1}

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

    reconcile = load("reconcile")
    reconcile.runtime.clock = MovedClock(120.0)  # its end is certain by then
    done = reconcile.handler(SCHEDULED, Context())

    assert done["restarted"] == 1
    assert store.lane(LANE).slots[job.job_id].lease_until > 1.0


def test_a_round_that_has_no_time_leaves_everything_to_the_next(
    stack: Stack, store: DynamoStore, load: Function
) -> None:
    entered(stack, store, load)
    stack.received(stack.kicks_url)
    reconcile = load("reconcile")

    # It keeps back what one remedy may take.
    assert reconcile.handler(SCHEDULED, Context(milliseconds=20_000)) == {
        "left to the next round": 1
    }
    assert stack.received(stack.kicks_url) == []
    assert store.sweep().started_at == 0.0

    assert reconcile.handler(SCHEDULED, Context(milliseconds=60_000))["kicked"] == 1
    assert stack.received(stack.kicks_url) == [{"lane": LANE}]


def test_a_round_that_runs_out_of_time_does_the_most_urgent_first(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = running(stack, store, load)
    wire.state = "SUCCEEDED"
    load("poll").handler(turn(job), Context())
    arn = stack.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{job.job_id}-1-0"
    stack.stepfunctions.stop_execution(executionArn=arn)
    drop(stack, ".first.png", PHOTO)  # moto leaves out the first where the marker is empty
    drop(stack, "never told of.png", PHOTO)
    reconcile = load("reconcile")
    clock = reconcile.runtime.clock = MovedClock(1800.0)
    start = reconcile.runtime.executions.start

    def slowly(name: str, payload: dict[str, Any]) -> None:
        start(name, payload)
        clock.advance(60.0)

    reconcile.runtime.executions.start = slowly

    done = reconcile.handler(SCHEDULED, Context(milliseconds=60_000))

    assert done["restarted"] == 1
    assert done["left to the next round"] == 1
    assert stack.received(stack.uploads_url) == []
    reconcile.runtime.executions.start = start
    later = reconcile.handler(SCHEDULED, Context(milliseconds=60_000))
    assert later["swept"] == 1
    (told,) = stack.received(stack.uploads_url)
    assert told["detail"]["object"]["key"] == "never told of.png"


@pytest.mark.parametrize("name", ["a.png", "red shoes/图 a+b%20c#d 🎨.png"])
def test_a_drop_whose_events_never_came_is_found_and_becomes_a_job(
    stack: Stack, store: DynamoStore, load: Function, name: str
) -> None:
    # Fault 4.
    drop(stack, name, PHOTO)
    drop(stack, f"{name}.json", sidecar_json())
    drop(stack, ".hidden/x.png", PHOTO)  # and moto leaves out the first of all
    reconcile = load("reconcile")
    clock = reconcile.runtime.clock = MovedClock()

    assert reconcile.handler(SCHEDULED, Context())["swept"] == 1
    assert stack.received(stack.uploads_url) == []  # its events may still be under way
    clock.advance(901.0)
    assert reconcile.handler(SCHEDULED, Context())["swept"] == 1

    told = stack.received(stack.uploads_url)
    assert {event["detail"]["object"]["key"] for event in told} == {name, f"{name}.json"}
    answer = load("submit").handler(sqs(*(json.dumps(event) for event in told)), Context())
    assert answer == {"batchItemFailures": []}
    (job,) = store.jobs_in(Status.QUEUED)
    assert job.images[0].key == name
    clock.advance(901.0)
    assert reconcile.handler(SCHEDULED, Context())["swept"] == 1
    assert stack.received(stack.uploads_url) == []  # what was handled is not told of again


def test_an_image_whose_sidecar_never_comes_is_told_of_once_and_goes_on_when_it_comes(
    stack: Stack, store: DynamoStore, load: Function
) -> None:
    # Faults 9 and 11.
    drop(stack, "shoes/red.png", PHOTO)
    load("submit").handler(uploads("shoes/red.png"), Context())
    reconcile = load("reconcile")
    clock = reconcile.runtime.clock = MovedClock(800.0)

    assert "found alone" not in reconcile.handler(SCHEDULED, Context())
    clock.advance(200.0)
    assert reconcile.handler(SCHEDULED, Context())["found alone"] == 1

    waiting = record(stack)
    assert (waiting["status"], waiting["missing"]) == ("WAITING", ["shoes/red.png.json"])
    (note,) = stack.received(stack.heard_url)
    assert note["MessageAttributes"]["status"]["Value"] == "WAITING"
    clock.advance(60.0)
    assert "found alone" not in reconcile.handler(SCHEDULED, Context())
    assert stack.received(stack.heard_url) == []

    drop(stack, "shoes/red.png.json", sidecar_json())
    load("submit").handler(uploads("shoes/red.png.json"), Context())

    assert record(stack)["status"] == "QUEUED"
    stood_for = store.job(waiting["job_id"])
    assert stood_for is not None
    assert stood_for.status is Status.CANCELED


# --- operate ----------------------------------------


def test_a_queued_job_is_cancelled_at_once_and_is_never_sent(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = entered(stack, store, load)
    quiet(stack)

    answer = load("operate").handler(command("cancel", job.job_id), Context())

    assert answer == {
        "job_id": job.job_id,
        "status": "CANCELED",
        "did": "it is cancelled; nothing is billed",
        "could_not": "",
    }
    assert json.loads(json.dumps(answer)) == answer
    assert store.backlog(LANE, 10) == []
    assert record(stack)["status"] == "CANCELED"
    (note,) = stack.received(stack.heard_url)
    assert note["MessageAttributes"]["status"]["Value"] == "CANCELED"
    statuses = [event["detail"]["status"] for event in stack.received(stack.seen_url)]
    assert statuses == ["CANCELED"]
    assert stack.received(stack.kicks_url) == [{"lane": LANE}]
    load("dispatch").handler(kicks_of(LANE), Context())
    assert wire.requests == []

    again = load("operate").handler(command("cancel", job.job_id), Context())

    assert (again["status"], again["could_not"]) == ("CANCELED", "")
    assert "already" in again["did"]
    assert stack.received(stack.heard_url) == []


def test_a_cancel_while_the_provider_works_is_noted_and_says_what_comes_next(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = running(stack, store, load)

    answer = load("operate").handler(command("cancel", job.job_id), Context())

    assert answer["status"] == "RUNNING"
    assert answer["did"] == "the request is noted"
    assert "asked at the next look" in answer["could_not"]
    noted = store.job(job.job_id)
    assert noted is not None
    assert noted.cancel_asked_at is not None
    assert [request.url.path for request in wire.sent("POST")][1:] == []  # `poll` asks

    load("poll").handler(turn(job), Context())

    assert wire.sent("POST")[-1].url.path.endswith("/tasks/task-1/cancel")
    told = load("operate").handler(command("cancel", job.job_id), Context())
    assert told["could_not"] == "the provider took it"
    load("poll").handler(turn(job), Context())
    cancels = [request for request in wire.sent("POST") if request.url.path.endswith("/cancel")]
    assert len(cancels) == 1


def test_a_job_that_has_ended_cannot_be_cancelled(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = running(stack, store, load)
    wire.state = "SUCCEEDED"
    load("poll").handler(turn(job), Context())

    late = load("operate").handler(command("cancel", job.job_id), Context())
    load("finalize").handler(turn(job), Context(milliseconds=300_000))
    ended = load("operate").handler(command("cancel", job.job_id), Context())

    assert (late["status"], late["did"]) == ("FINALIZING", "")
    assert "too late" in late["could_not"]
    assert (ended["status"], ended["did"]) == ("SUCCEEDED", "")
    assert "ended already" in ended["could_not"]
    assert record(stack)["status"] == "SUCCEEDED"


def test_a_failed_job_is_tried_again_once_as_a_job_of_its_own(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = refused(stack, store, load, wire)
    quiet(stack)
    operate = load("operate")

    answer = operate.handler(command("retry", job.job_id), Context())

    assert answer["status"] == "QUEUED"
    assert answer["could_not"] == ""
    assert answer["job_id"] != job.job_id
    assert answer["job_id"] in answer["did"]
    (new,) = store.jobs_in(Status.QUEUED)
    assert new.job_id == answer["job_id"]
    assert (new.retry_of, new.images[0].version_id) == (job.job_id, job.images[0].version_id)
    old = store.job(job.job_id)
    assert old is not None
    assert (old.status, old.retried_as) == (Status.FAILED, new.job_id)
    assert stack.received(stack.kicks_url) == [{"lane": LANE}]
    assert record(stack)["job_id"] == new.job_id  # the place is the new one's
    told = [
        note["MessageAttributes"]["status"]["Value"] for note in stack.received(stack.heard_url)
    ]
    assert told == []  # nothing has ended

    twice = operate.handler(command("retry", job.job_id), Context())

    assert (twice["job_id"], twice["did"]) == (new.job_id, "")
    assert "tried again already" in twice["could_not"]
    assert len(list(store.jobs_in(Status.QUEUED))) == 1
    load("dispatch").handler(kicks_of(LANE), Context())
    (ran,) = store.jobs_in(Status.RUNNING)
    assert ran.job_id == new.job_id
    assert len(wire.sent("POST")) == 2


def test_a_refused_drop_is_judged_again_on_the_version_that_was_dropped(
    stack: Stack, store: DynamoStore, load: Function
) -> None:
    drop(stack, "a.png.json", sidecar_json(nonsense=1))
    drop(stack, "a.png", PHOTO)
    load("submit").handler(uploads("a.png.json"), Context())
    (job,) = store.jobs_in(Status.REJECTED)

    answer = load("operate").handler(command("retry", job.job_id), Context())

    assert (answer["status"], answer["did"]) == ("REJECTED", "it was judged again")
    assert "refused again" in answer["could_not"]
    assert record(stack, "a/job.json")["job_id"] == answer["job_id"]


def test_a_queued_job_has_its_paused_lane_tried_at_once(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    # Faults 33 and 34.
    job = entered(stack, store, load)
    wire.refused = {"code": "Arrearage", "message": "Access denied, overdue payment."}
    load("dispatch").handler(kicks_of(LANE), Context())
    wire.refused = None
    assert store.lane(LANE).paused_until is not None
    load("dispatch").handler(kicks_of(LANE), Context())
    assert len(wire.sent("POST")) == 1  # it waits
    quiet(stack)

    answer = load("operate").handler(command("retry", job.job_id), Context())

    assert answer["could_not"] == ""
    assert LANE in answer["did"]
    assert stack.received(stack.kicks_url) == [{"lane": LANE}]
    load("dispatch").handler(kicks_of(LANE), Context())
    assert [found.job_id for found in store.jobs_in(Status.RUNNING)] == [job.job_id]
    alerts = [note["MessageAttributes"]["alert"] for note in stack.received(stack.heard_url)]
    assert [alert["Value"] for alert in alerts] == ["lane-resumed"]


def test_a_held_job_is_given_up_and_its_doubt_stays_on_it(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = held(stack, store, load, wire)
    doubt = job.doubt
    assert doubt
    quiet(stack)
    operate = load("operate")

    answer = operate.handler(command("fail", job.job_id), Context())

    assert (answer["status"], answer["could_not"]) == ("FAILED", "")
    assert "closed as FAILED" in answer["did"]
    closed = record(stack)
    assert (closed["status"], closed["doubt"]) == ("FAILED", doubt)
    assert closed["outcome"]["resolution"] == "fail"
    (note,) = stack.received(stack.heard_url)
    assert note["MessageAttributes"]["status"]["Value"] == "FAILED"
    assert note["MessageAttributes"]["doubt"]["Value"] == "true"

    twice = operate.handler(command("fail", job.job_id), Context())
    other = operate.handler(command("again", job.job_id), Context())

    assert (twice["did"], twice["could_not"]) == (
        "it was resolved by --fail already; it is FAILED now",
        "",
    )
    assert (other["did"], other["could_not"]) == (
        "",
        "it was resolved by --fail already; it is FAILED now",
    )
    assert stack.received(stack.heard_url) == []
    assert len(wire.sent("POST")) == 1


def test_a_held_job_is_sent_again_where_a_person_takes_the_risk(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = held(stack, store, load, wire)
    quiet(stack)

    answer = load("operate").handler(command("again", job.job_id), Context())

    assert (answer["job_id"], answer["status"]) == (job.job_id, "QUEUED")
    assert "billed twice" in answer["did"]
    assert answer["could_not"] == ""
    assert stack.received(stack.kicks_url) == [{"lane": f"beijing:{QWEN}"}]
    load("dispatch").handler(kicks_of(f"beijing:{QWEN}"), Context())
    (admitted,) = store.jobs_in(Status.ADMITTED)
    generate = load("generate")
    generate.runtime.clock = MovedClock(10)  # the execution has waited for the lane's pace
    generate.handler({**turn(admitted), "mode": "sync"}, Context(milliseconds=600_000))
    load("finalize").handler(turn(admitted), Context(milliseconds=300_000))
    ended = record(stack)
    assert (ended["status"], ended["outcome"]["sent_again"]) == ("SUCCEEDED", 1)
    assert "two tasks may have been billed" in ended["doubt"] or "sent again" in ended["doubt"]
    assert len(wire.sent("POST")) == 2


def test_a_synchronous_call_leaves_no_task_to_adopt(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = held(stack, store, load, wire)

    answer = load("operate").handler(command("adopt", job.job_id, "task-1"), Context())

    assert (answer["status"], answer["did"]) == ("UNRESOLVED", "")
    assert "--again or --fail" in answer["could_not"]
    unchanged = store.job(job.job_id)
    assert unchanged == job


@pytest.mark.parametrize("name", ["cancel", "retry"])
def test_a_held_job_is_left_to_resolve(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire, name: str
) -> None:
    job = held(stack, store, load, wire)

    answer = load("operate").handler(command(name, job.job_id), Context())

    assert (answer["status"], answer["did"]) == ("UNRESOLVED", "")
    assert "retouch resolve" in answer["could_not"]
    assert store.job(job.job_id) == job


@pytest.mark.parametrize("name", ["cancel", "retry", "adopt", "again", "fail"])
def test_a_command_on_a_job_that_is_not_there_says_so_and_makes_none(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire, name: str
) -> None:
    answer = load("operate").handler(command(name, "a" * 16, "task-1"), Context())

    assert (answer["job_id"], answer["status"]) == ("a" * 16, None)
    assert answer["did"] == ""
    assert store.job("a" * 16) is None
    assert wire.requests == []
    assert stack.received(stack.seen_url) == []


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"command": "cancel"},
        {"job_id": "a" * 16},
        {"command": "delete", "job_id": "a" * 16},
        {"command": "cancel", "job_id": "../../etc/passwd"},
        {"command": "cancel", "job_id": "shoes/red.png.json"},
        {"command": "adopt", "job_id": "a" * 16, "task_id": ""},
        {"command": "adopt", "job_id": "a" * 16, "task_id": "x" * 500},
    ],
)
def test_a_command_that_is_none_is_refused_at_the_edge(
    load: Function, wire: Wire, event: dict[str, Any]
) -> None:
    handler = load("operate").handler

    with pytest.raises(ValidationError):
        handler(event, Context())
    assert wire.requests == []


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
    answers = [load("operate").handler(command("cancel", job.job_id), Context())]
    wire.state = "SUCCEEDED"
    answers.append(load("poll").handler(turn(job), Context()))
    answers.append(load("finalize").handler(turn(job), Context(milliseconds=300_000)))
    answers.append(load("sheet").handler(job_event(job), Context()))
    assert answers[-1]["page"] == "shoes/red/index.html"
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


# --- webhook ----------------------------------------

MESSAGE = json.dumps({"job_id": "0123456789abcdef", "revision": 9, "labels": {"sku": "红"}})


class Hook:
    """A receiver that answers with these statuses in turn, then 204."""

    def __init__(self, *statuses: int):
        self.statuses = [*statuses]
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        return httpx.Response(self.statuses.pop(0) if self.statuses else 204)

    def behind(self, function: Function) -> Any:
        """The function, whose webhook this is."""
        module = function("webhook")
        module.runtime.receiver = HttpReceiver(HOOK, httpx.MockTransport(self))
        return module


def test_a_message_is_posted_as_it_is_and_signed_with_the_stack_s_key(
    stack: Stack, function: Function
) -> None:
    hook = Hook()

    answer = hook.behind(function).handler(waiting_for_webhook(stack, MESSAGE), Context())

    assert answer == {"batchItemFailures": []}
    (request,) = hook.requests
    assert request.content == MESSAGE.encode("utf-8")
    timestamp = int(request.headers["webhook-timestamp"])
    assert abs(timestamp - time.time()) < 60
    assert request.headers["webhook-signature"] == signature(
        keys_in(WEBHOOK_KEY), "0123456789abcdef-9", timestamp, request.content
    )


def test_a_message_that_is_not_taken_stays_in_its_queue_alone(
    stack: Stack, function: Function
) -> None:
    hook = Hook(204, 503)
    other = MESSAGE.replace("9", "8", 1)
    event = waiting_for_webhook(stack, MESSAGE, other)

    answer = hook.behind(function).handler(event, Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    assert stack.received(stack.webhook_url) == []  # put off
    assert stack.received(stack.webhook_dlq_url) == []


def test_after_the_last_attempt_a_message_can_be_moved_at_once(
    stack: Stack, function: Function
) -> None:
    event = waiting_for_webhook(stack, MESSAGE, attempt=3)

    answer = Hook(503).behind(function).handler(event, Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert len(stack.received(stack.webhook_url)) == 1  # visible


def test_a_message_to_a_receiver_that_is_gone_is_dead_lettered_with_the_reason(
    stack: Stack, function: Function
) -> None:
    event = waiting_for_webhook(stack, MESSAGE)

    assert Hook(410).behind(function).handler(event, Context()) == {"batchItemFailures": []}

    got = stack.sqs.receive_message(
        QueueUrl=stack.webhook_dlq_url, MessageAttributeNames=["All"], MaxNumberOfMessages=10
    )
    (dead,) = got["Messages"]
    assert dead["Body"] == MESSAGE
    assert "410" in dead["MessageAttributes"]["why"]["StringValue"]


@pytest.mark.parametrize("secret", [None, " ", "not a key"])
def test_without_a_signing_key_nothing_is_sent(
    stack: Stack, function: Function, secret: str | None
) -> None:
    secrets = boto3.client("secretsmanager")
    if secret is None:
        secrets.delete_secret(SecretId=stack.webhook_secret, ForceDeleteWithoutRecovery=True)
    else:
        secrets.put_secret_value(SecretId=stack.webhook_secret, SecretString=secret)
    hook = Hook()

    answer = hook.behind(function).handler(waiting_for_webhook(stack, MESSAGE), Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert hook.requests == []


def test_the_webhook_s_log_names_no_address_and_no_key(
    stack: Stack, function: Function, caplog: pytest.LogCaptureFixture
) -> None:
    module = Hook(500, 410).behind(function)
    module.handler(waiting_for_webhook(stack, MESSAGE), Context())
    module.handler(waiting_for_webhook(stack, MESSAGE.replace("9", "8", 1)), Context())

    logged = " ".join(str(vars(line)) for line in caplog.records)
    assert "HTTP 500" in logged
    assert "0123456789abcdef-9" in logged
    for secret in ("s3cr3t", "hooks.example.com", WEBHOOK_KEY.removeprefix("whsec_"), "sku"):
        assert secret not in logged


# --- sheet ----------------------------------------


def ended(stack: Stack, store: DynamoStore, load: Function, wire: Wire) -> Job:
    job = running(stack, store, load)
    wire.state = "SUCCEEDED"
    load("poll").handler(turn(job), Context())
    assert load("finalize").handler(turn(job), Context(milliseconds=300_000))["next"] == "stop"
    (job,) = store.jobs_in(Status.SUCCEEDED)
    return job


def test_the_event_of_an_ended_job_makes_its_page(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    job = ended(stack, store, load, wire)
    # Dropped again meanwhile: the page shows the version that the job saw.
    drop(stack, "shoes/red.png", b"something else")

    answer = load("sheet").handler(job_event(job), Context())

    assert answer == {"job_id": job.job_id, "page": "shoes/red/index.html"}
    got = stack.s3.get_object(Bucket=stack.outbox, Key="shoes/red/index.html")
    page = got["Body"].read().decode()
    assert got["ContentType"] == "text/html; charset=utf-8"
    assert page.count("<img ") == 2
    assert "a secret wish" in page


def test_what_the_bus_really_says_of_an_ended_job_is_understood(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire
) -> None:
    ended(stack, store, load, wire)
    (event,) = [e for e in stack.received(stack.seen_url) if e["detail"]["status"] == "SUCCEEDED"]

    answer = load("sheet").handler(sqs(json.dumps(event)), Context())

    assert answer["page"] == "shoes/red/index.html"


@pytest.mark.parametrize("body", ["no json", "{}", '{"source": "aws.s3", "detail": {}}'])
def test_an_event_that_is_none_of_ours_comes_again_and_then_lies_with_the_dead(
    load: Function, body: str
) -> None:
    with pytest.raises(ValidationError):
        load("sheet").handler(sqs(body), Context())


def test_an_outbox_that_refuses_the_page_makes_the_event_come_again(
    stack: Stack, store: DynamoStore, load: Function, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ended(stack, store, load, wire)
    module = load("sheet")
    monkeypatch.setenv("RETOUCH_OUTBOX", "no-such-bucket")

    with pytest.raises(ClientError, match="NoSuchBucket"):
        module.handler(job_event(job), Context())
