"""The example subscribers: the receiver checks what it is sent, the queue hears what it asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import boto3
import pytest
from examples.subscribers import sns_queue
from examples.subscribers.webhook_receiver import Seen, handle, server, verified

from retouch.aws.messaging import AwsNotices
from retouch.ports import Reply
from retouch.webhook import HttpReceiver, keys_in, signature
from tests.core.test_schemas import failed, paused, succeeded, unresolved
from tests.fakes import World
from tests.integration.conftest import WEBHOOK_KEY, Stack

KEYS = keys_in(WEBHOOK_KEY)
NOW = 1_700_000_000
ID = "0123456789abcdef-9"
BODY = b'{"status": "SUCCEEDED"}'


# --- the receiver ----------------------------------------------------------------------------------


def headers(**changes: str) -> dict[str, str]:
    said = {
        "webhook-id": ID,
        "webhook-timestamp": str(NOW),
        "webhook-signature": signature(KEYS, ID, NOW, BODY),
    }
    return said | {name.replace("_", "-"): value for name, value in changes.items()}


@pytest.mark.parametrize("secret", [WEBHOOK_KEY, WEBHOOK_KEY.removeprefix("whsec_")])
def test_a_genuine_message_is_known(secret: str) -> None:
    assert verified(secret, headers(), BODY, NOW + 299) == (ID, "")


def test_a_message_signed_with_the_newer_key_too_is_known() -> None:
    both = signature((b"n" * 32, *KEYS), ID, NOW, BODY)

    assert verified(WEBHOOK_KEY, headers(webhook_signature=both), BODY, NOW) == (ID, "")


@pytest.mark.parametrize(
    ("given", "body", "now"),
    [
        (headers(), BODY + b" ", NOW),
        (headers(), BODY, NOW + 301),
        (headers(), BODY, NOW - 301),
        (headers(webhook_id="0123456789abcdef-8"), BODY, NOW),
        (headers(webhook_timestamp=str(NOW + 1)), BODY, NOW),
        (headers(webhook_timestamp="soon"), BODY, NOW),
        (headers(webhook_signature=""), BODY, NOW),
        (headers(webhook_signature=signature((b"n" * 32,), ID, NOW, BODY)), BODY, NOW),
        (
            headers(webhook_signature=headers()["webhook-signature"].replace("v1,", "v2,")),
            BODY,
            NOW,
        ),
        ({}, BODY, NOW),
    ],
)
def test_what_was_changed_is_old_or_is_not_signed_is_refused(
    given: dict[str, str], body: bytes, now: float
) -> None:
    ident, wrong = verified(WEBHOOK_KEY, given, body, now)

    assert ident is None
    assert wrong


def test_the_oldest_ids_are_forgotten_and_a_failure_is_not_remembered() -> None:
    seen = Seen(most=2)
    done: list[str] = []

    def fail() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        seen.once("a", fail)
    told = [seen.once(name, partial(done.append, name)) for name in ("a", "a", "b", "c", "a")]

    assert told == [True, False, True, True, True]
    assert done == ["a", "b", "c", "a"]


@contextmanager
def receiving() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The example's own server; its address, and what it has handled."""
    got: list[dict[str, Any]] = []
    with server(WEBHOOK_KEY, 0, got.append) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{receiver.server_port}/hook", got
        finally:
            receiver.shutdown()
            thread.join()


def test_the_receiver_takes_what_retouch_posts_once(capsys: pytest.CaptureFixture[str]) -> None:
    with receiving() as (url, got):
        sender = HttpReceiver(url)
        now = int(time.time())
        taken = [sender.post(ID, now, BODY, KEYS) for _ in range(2)]
        old = sender.post(ID, now - 400, BODY, KEYS)
        forged = sender.post(ID, now, BODY, (b"n" * 32,))

    assert taken == [Reply(204)] * 2
    assert (old, forged) == (Reply(401), Reply(401))
    assert got == [{"status": "SUCCEEDED"}]
    assert capsys.readouterr().err.count("refused") == 2


def test_the_receiver_says_each_kind_of_message_in_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for scene in (succeeded, paused):
        world = World()
        scene(world)
        for note in world.notices.notifications:
            handle(note.message)

    lines = capsys.readouterr().out.splitlines()
    assert "SUCCEEDED shoes/red.png.json: 1 images" in lines
    assert any(line.startswith("ALERT lane-paused: nothing is sent in the lane") for line in lines)


# --- the queue on the topic ------------------------------------------------------------------------


def test_the_queue_hears_of_trouble_and_of_nothing_else(stack: Stack) -> None:
    sns = boto3.client("sns")
    url = sns_queue.subscribe(stack.sqs, sns, stack.topic_arn, "trouble")
    again = sns_queue.subscribe(stack.sqs, sns, stack.topic_arn, "trouble")
    assert again == url
    notices = AwsNotices(boto3.client("events"), sns, bus=stack.bus, topic_arn=stack.topic_arn)
    for scene in (succeeded, failed, unresolved, paused):
        world = World()
        scene(world)
        for note in world.notices.notifications:
            notices.notify(note.subject, note.message, note.attributes)

    got = list(sns_queue.messages(stack.sqs, url, wait=0))

    assert sorted(message["status"] for message in got) == ["FAILED", "UNRESOLVED"]
    lines = sorted(sns_queue.line(message) for message in got)
    assert lines == [
        "FAILED shoes/red.png.json: DataInspectionFailed; see shoes/red/job.json",
        "UNRESOLVED shoes/red.png.json: in doubt; see shoes/red/job.json",
    ]
    assert list(sns_queue.messages(stack.sqs, url, wait=0)) == []


def test_a_success_in_doubt_is_heard_too(stack: Stack) -> None:
    sns = boto3.client("sns")
    url = sns_queue.subscribe(stack.sqs, sns, stack.topic_arn, "trouble")
    world = World()
    succeeded(world)
    note = world.notices.notifications[0]
    AwsNotices(boto3.client("events"), sns, bus=stack.bus, topic_arn=stack.topic_arn).notify(
        note.subject, {**note.message, "doubt": True}, {**note.attributes, "doubt": "true"}
    )

    (got,) = sns_queue.messages(stack.sqs, url, wait=0)

    assert sns_queue.line(got).startswith("SUCCEEDED shoes/red.png.json: in doubt")


def test_the_queue_goes_with_its_subscription(stack: Stack) -> None:
    sns = boto3.client("sns")
    sns_queue.subscribe(stack.sqs, sns, stack.topic_arn, "trouble")
    before = len(sns.list_subscriptions_by_topic(TopicArn=stack.topic_arn)["Subscriptions"])

    sns_queue.remove(stack.sqs, sns, stack.topic_arn, "trouble")

    after = len(sns.list_subscriptions_by_topic(TopicArn=stack.topic_arn)["Subscriptions"])
    assert after == before - 1
    assert "QueueUrls" not in stack.sqs.list_queues(QueueNamePrefix="trouble")
