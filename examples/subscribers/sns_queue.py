"""A queue that hears of what went wrong, and nothing else: a subscription with a filter.

    python sns_queue.py --topic-arn ARN

It makes the queue `retouch-trouble`, lets the stack's topic send to it, subscribes it, and prints one
line for each message until stopped. Queue and subscription stay, so that nothing is missed meanwhile;
`--remove` takes both away. Run twice, it changes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import boto3

FILTER = {"$or": [{"status": ["FAILED", "UNRESOLVED"]}, {"doubt": ["true"]}]}
"""No image for a job, a job that waits for a person, or money spent perhaps for nothing. More to filter
on: kind (job or alert), alert, folder, model.
"""


def subscribe(sqs: Any, sns: Any, topic_arn: str, name: str) -> str:
    """Make the queue and let it hear the topic; its URL."""
    url: str = sqs.create_queue(
        QueueName=name, Attributes={"MessageRetentionPeriod": str(14 * 24 * 3600)}
    )["QueueUrl"]
    arn = _arn(sqs, url)
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
            }
        ],
    }
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    sns.subscribe(
        TopicArn=topic_arn,
        Protocol="sqs",
        Endpoint=arn,
        Attributes={"FilterPolicy": json.dumps(FILTER), "RawMessageDelivery": "true"},
        ReturnSubscriptionArn=True,
    )
    return url


def messages(sqs: Any, url: str, *, wait: int = 20) -> Iterator[dict[str, Any]]:
    """What waits in the queue. Each is taken out once the next is asked for, so none is lost."""
    while found := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=wait
    ).get("Messages"):
        for message in found:
            yield json.loads(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def remove(sqs: Any, sns: Any, topic_arn: str, name: str) -> None:
    """Take the subscription and the queue away."""
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    arn = _arn(sqs, url)
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn)
    for page in pages:
        for subscription in page["Subscriptions"]:
            if subscription["Endpoint"] == arn:
                sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
    sqs.delete_queue(QueueUrl=url)


def _arn(sqs: Any, url: str) -> str:
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


def line(message: dict[str, Any]) -> str:
    """A message in one line."""
    why = message["failure"]["code"] if message["failure"] else "in doubt"
    return (
        f"{message['status']} {message['inbox']['key']}: {why}; see {message['outbox']['record']}"
    )


def main() -> None:
    """Subscribe and print until stopped, or remove."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--topic-arn", required=True, help="the stack's output TopicArn")
    parser.add_argument("--name", default="retouch-trouble", help="of the queue")
    parser.add_argument("--remove", action="store_true")
    options = parser.parse_args()
    sqs, sns = boto3.client("sqs"), boto3.client("sns")
    if options.remove:
        remove(sqs, sns, options.topic_arn, options.name)
        return
    url = subscribe(sqs, sns, options.topic_arn, options.name)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            for message in messages(sqs, url):
                print(line(message), flush=True)


if __name__ == "__main__":
    main()
