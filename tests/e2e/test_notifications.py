"""What the world hears of a whole stack: events, messages, the webhook; and the example subscribers."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from examples.subscribers import sns_queue
from examples.subscribers.webhook_receiver import server

from retouch.local.packaging import load_template, project_root
from retouch.local.stack import Blueprint, temporary
from retouch.records import EVENT_TYPE
from tests.e2e.support import User, picture, until
from tests.schemas import check_event, check_message, check_record

MODEL = "wan2.7-image"
RULE = project_root() / "examples" / "subscribers" / "eventbridge_rule.yaml"


class Receiver:
    """What to do with a message, by the name of its drop."""

    def __init__(self) -> None:
        self.tries: Counter[str] = Counter()
        self.taken: list[dict[str, Any]] = []

    def __call__(self, message: dict[str, Any]) -> None:
        key = message["inbox"]["key"]
        self.tries[key] += 1
        if key.startswith("never") or (key.startswith("late") and self.tries[key] < 3):
            raise ConnectionAbortedError("this one does not take it")
        self.taken.append(message)

    def keys(self) -> list[str]:
        return [message["inbox"]["key"] for message in self.taken]


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def user(home: Path, port: int) -> Iterator[User]:
    """Somebody with a stack of their own that has a webhook."""
    parameters = {
        "WebhookUrl": f"http://127.0.0.1:{port}/hook?token=s3cr3t",
        "WebhookAttempts": "3",
        "WebhookBackoff": "1",
    }
    with temporary(Blueprint(name="news", time_scale=0.1, parameters=parameters)) as stack:
        yield User(stack)


@pytest.fixture(scope="module")
def receiver(user: User, port: int) -> Iterator[Receiver]:
    """The example's server with the key from the stack's secret."""
    arn = user.stack.outputs["WebhookSecretArn"]
    secret = user.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    receiver = Receiver()
    with server(secret, port, receiver) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            http.shutdown()
            thread.join()


def dead_letters(user: User) -> Callable[[], list[dict[str, Any]] | None]:
    sqs, url = user.client("sqs"), user.stack.outputs["WebhookDlqUrl"]

    def look() -> list[dict[str, Any]] | None:
        got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in got] or None

    return look


def test_a_message_comes_again_until_it_is_taken_and_ends_as_a_dead_letter_if_it_never_is(
    user: User, receiver: Receiver
) -> None:
    for name in ("once", "late", "never"):
        user.put(f"{name}/红 a+b.json", b"{oops")

    dead = until(dead_letters(user), "a dead letter")
    until(lambda: len(receiver.taken) >= 2 or None, "the two that are taken")

    assert receiver.tries == {
        "once/红 a+b.json": 1, "late/红 a+b.json": 3, "never/红 a+b.json": 3,
    }  # fmt: skip
    assert sorted(receiver.keys()) == ["late/红 a+b.json", "once/红 a+b.json"]
    assert [message["inbox"]["key"] for message in dead] == ["never/红 a+b.json"]
    for message in (*receiver.taken, *dead):
        assert message["status"] == "REJECTED"
        check_message(message)


def test_what_a_stack_tells_keeps_to_the_published_schemas(user: User, receiver: Receiver) -> None:
    read = user.inbox_of_news()
    image = picture()
    user.put("told/good.jpg", image)
    user.put("told/good.jpg.json", {"model": MODEL, "prompt": "x", "labels": {"sku": "A-113"}})
    user.put("told/no.jpg", image)
    user.put("told/no.jpg.json", {"model": MODEL, "prompt": "forbidden"})
    user.put("told/bad.jpg.json", {"model": "wan2.7-imge", "prompt": "x"})
    user.put("told/wait.json", {"model": MODEL, "prompt": "x", "images": ["late.jpg"]})
    ends = {"told/good": "SUCCEEDED", "told/no": "FAILED", "told/bad": "REJECTED"}

    for folder, status in ends.items():
        assert user.settled(folder)["status"] == status

    def complete() -> list[dict[str, Any]] | None:
        heard = read()
        events = {entry["detail"]["status"] for entry in heard if "detail" in entry}
        messages = [entry for entry in heard if "detail" not in entry]
        enough = events >= {*ends.values(), "WAITING", "RUNNING"} and len(messages) >= len(ends)
        return heard if enough else None

    heard = until(complete, "every event and message")
    events = [entry for entry in heard if "detail" in entry]
    bodies = [json.loads(entry["Message"]) for entry in heard if "detail" not in entry]
    for entry in events:
        assert entry["source"] == "retouch"
        check_event(entry["detail-type"], entry["detail"])
    for body in bodies:
        check_message(body)
    seen = Counter(entry["detail"]["status"] for entry in events)
    assert set(seen) >= {"QUEUED", "ADMITTED", "CREATING", "FINALIZING"}
    assert {entry["detail-type"] for entry in events} == {EVENT_TYPE}
    for folder in (*ends, "told/wait"):
        data = user.read(f"{folder}/job.json")
        assert data is not None
        check_record(data)
    # The webhook gets the very messages of the topic.
    told = until(
        lambda: (
            found
            if len(found := [m for m in receiver.taken if m["inbox"]["key"].startswith("told/")])
            >= len(bodies)
            else None
        ),
        "the same at the webhook",
    )
    assert sorted(told, key=json.dumps) == sorted(bodies, key=json.dumps)


def test_the_example_rule_logs_what_ends(user: User) -> None:
    cloudformation = user.client("cloudformation")
    cloudformation.create_stack(
        StackName="log",
        TemplateBody=json.dumps(load_template(RULE)),
        Parameters=[
            {"ParameterKey": "EventBusName", "ParameterValue": user.stack.outputs["EventBusName"]}
        ],
        Capabilities=["CAPABILITY_IAM"],
    )

    def up() -> str | None:
        stack = cloudformation.describe_stacks(StackName="log")["Stacks"][0]
        assert not stack["StackStatus"].startswith("ROLLBACK"), stack
        done = stack["StackStatus"] == "CREATE_COMPLETE"
        return str(stack["Outputs"][0]["OutputValue"]) if done else None

    group = until(up, "the example's stack")
    user.put("logged/waits.json", {"model": MODEL, "prompt": "x", "images": ["late.jpg"]})
    user.put("logged/bad.json", b"{oops")
    job = user.settled("logged/bad")["job_id"]
    logs = user.client("logs")

    def line() -> dict[str, Any] | None:
        events = logs.filter_log_events(logGroupName=group)["events"]
        found = [json.loads(e["message"]) for e in events if job in e["message"]]
        return found[0] if found else None

    assert until(line, "a line in the log") == {
        "what": "REJECTED", "about": job, "images": [], "cost": None,
    }  # fmt: skip
    events = logs.filter_log_events(logGroupName=group)["events"]
    assert not any("WAITING" in event["message"] for event in events)


def test_the_example_queue_hears_of_trouble_alone(user: User) -> None:
    sqs, topic = user.client("sqs"), user.stack.outputs["TopicArn"]
    url = sns_queue.subscribe(sqs, user.client("sns"), topic, "trouble")
    user.put("trouble/bad.json", b"{oops")
    user.put("trouble/no.jpg", picture())
    user.put("trouble/no.jpg.json", {"model": MODEL, "prompt": "forbidden"})
    assert user.settled("trouble/bad")["status"] == "REJECTED"
    assert user.settled("trouble/no")["status"] == "FAILED"

    heard = until(lambda: list(sns_queue.messages(sqs, url, wait=0)) or None, "the message")

    assert [message["inbox"]["key"] for message in heard] == ["trouble/no.jpg.json"]
    sns_queue.remove(sqs, user.client("sns"), topic, "trouble")


def test_the_webhook_s_function_knows_nothing_of_the_rest(user: User) -> None:
    functions = user.client("lambda").list_functions()["Functions"]
    (webhook,) = [one for one in functions if "WebhookFunction" in one["FunctionName"]]
    variables = {name for name in webhook["Environment"]["Variables"] if "RETOUCH" in name}

    assert variables
    assert all(name.startswith("RETOUCH_WEBHOOK_") for name in variables)


def test_a_stack_without_a_webhook_has_nothing_of_it(stack: Any) -> None:
    assert not [name for name in stack.outputs if "Webhook" in name]
    queues = User(stack).client("sqs").list_queues()["QueueUrls"]
    assert queues
    assert not [url for url in queues if "Webhook" in url]
