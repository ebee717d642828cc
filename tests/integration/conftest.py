"""A stack in moto, its table, buckets and queues made from the definitions in `template.yaml`."""

from __future__ import annotations

import importlib.util
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from botocore.config import Config
from moto import mock_aws

from retouch.aws.messaging import AwsNotices, SqsKicks, SqsUploads, StepFunctionsExecutions
from retouch.aws.storage import S3Inbox, S3Outbox
from retouch.aws.store import DynamoStore
from retouch.cli.connection import Connection
from retouch.local.packaging import load_template, project_root
from retouch.provider.client import DashScope, connection_pool
from tests.integration.wire import BASE_URL as BASE_URL
from tests.integration.wire import Wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

REGION = "us-east-1"
STACK = "retouch-test"
KEY = "sk-test-0001"
HOOK = "https://hooks.example.com/in?token=s3cr3t"
WEBHOOK_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ROOT = project_root()
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 1})


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    """The project's own template."""
    return load_template(ROOT / "template.yaml")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that are worth nothing."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


@pytest.fixture(autouse=True)
def aws(nobody: None) -> Iterator[None]:
    """No test of this package can reach an account or the network."""
    with mock_aws():
        yield


@dataclass
class Stack:
    """The resources, and a client for each service."""

    table: str
    inbox: str
    outbox: str
    kicks_url: str
    uploads_url: str
    topic_arn: str
    bus: str
    secret: str
    state_machine_arn: str
    heard_url: str
    """A queue that hears the topic."""
    seen_url: str
    """A queue that sees every event on the bus."""
    webhook_url: str
    """The queue of messages to the webhook."""
    webhook_dlq_url: str
    webhook_secret: str

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        return boto3.client("dynamodb", config=_CONFIG)

    @cached_property
    def s3(self) -> S3Client:
        return boto3.client("s3", config=_CONFIG.merge(Config(signature_version="s3v4")))

    @cached_property
    def sqs(self) -> SQSClient:
        return boto3.client("sqs", config=_CONFIG)

    @cached_property
    def stepfunctions(self) -> SFNClient:
        return boto3.client("stepfunctions", config=_CONFIG)

    def received(self, url: str) -> list[dict[str, Any]]:
        """The bodies that wait in a queue, taken out of it."""
        bodies: list[dict[str, Any]] = []
        while True:
            answer = self.sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0
            )
            messages = answer.get("Messages", [])
            if not messages:
                return bodies
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def environment(self) -> dict[str, str]:
        """What `template.yaml` sets for a function."""
        return {
            "AWS_LAMBDA_FUNCTION_NAME": "retouch",
            "POWERTOOLS_SERVICE_NAME": "retouch",
            "POWERTOOLS_METRICS_NAMESPACE": "retouch",
            "RETOUCH_STACK": STACK,
            "RETOUCH_TABLE": self.table,
            "RETOUCH_INBOX": self.inbox,
            "RETOUCH_OUTBOX": self.outbox,
            "RETOUCH_KICKS_URL": self.kicks_url,
            "RETOUCH_UPLOADS_URL": self.uploads_url,
            "RETOUCH_TOPIC_ARN": self.topic_arn,
            "RETOUCH_EVENT_BUS": self.bus,
            "RETOUCH_API_KEY_SECRET": self.secret,
            "RETOUCH_PROVIDER_REGIONS": "beijing",
            "RETOUCH_PROVIDER_BASE_URLS": json.dumps({"beijing": BASE_URL}),
            "RETOUCH_PROVIDER_WORKSPACES": "{}",
            "RETOUCH_MODELS": "{}",
            "RETOUCH_RESULT_HOSTS": "",
            "RETOUCH_INPUT_DELIVERY": "presigned",
            "RETOUCH_WINDOW_MARGIN": "1",
            "RETOUCH_SYNC_WINDOW": "4",
            "RETOUCH_ACCOUNT_USE": "alone",
            "RETOUCH_PRICES": "{}",
            "RETOUCH_BUDGET": "{}",
            "RETOUCH_DROP_DEADLINE_MINUTES": "15",
            "RETOUCH_STATE_MACHINE_ARN": self.state_machine_arn,
            "RETOUCH_WEBHOOK_URL": HOOK,
            "RETOUCH_WEBHOOK_SECRET": self.webhook_secret,
            "RETOUCH_WEBHOOK_QUEUE_URL": self.webhook_url,
            "RETOUCH_WEBHOOK_DEAD_LETTERS_URL": self.webhook_dlq_url,
            "RETOUCH_WEBHOOK_ATTEMPTS": "3",
            "RETOUCH_WEBHOOK_BACKOFF": "5",
        }


def _queue(template: dict[str, Any], name: str, physical: str) -> str:
    properties = template["Resources"][name]["Properties"]
    attributes = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in properties.items()
        if key != "RedrivePolicy"
    }
    sqs = boto3.client("sqs")
    return sqs.create_queue(QueueName=physical, Attributes=attributes)["QueueUrl"]


def _hearing_queue(name: str) -> tuple[str, str]:
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, got["Attributes"]["QueueArn"]


@pytest.fixture
def stack(template: dict[str, Any], aws: None) -> Stack:
    """A fresh stack."""
    return build(template)


def build(template: dict[str, Any]) -> Stack:
    """Make what the template describes, as far as moto can be asked for it."""
    resources = template["Resources"]
    table = resources["Table"]["Properties"]
    boto3.client("dynamodb").create_table(
        TableName="table",
        **{
            name: table[name]
            for name in (
                "AttributeDefinitions",
                "KeySchema",
                "GlobalSecondaryIndexes",
                "BillingMode",
            )
        },
    )
    s3 = boto3.client("s3")
    for bucket, logical in (("the-inbox", "Inbox"), ("the-outbox", "Outbox")):
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(
            Bucket=bucket,
            VersioningConfiguration=resources[logical]["Properties"]["VersioningConfiguration"],
        )
    kicks_url = _queue(template, "Kicks", "kicks.fifo")
    uploads_url = _queue(template, "Uploads", "uploads")
    sns = boto3.client("sns")
    topic = sns.create_topic(Name="topic")["TopicArn"]
    heard_url, heard_arn = _hearing_queue("heard")
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=heard_arn)
    events = boto3.client("events")
    events.create_event_bus(Name=STACK)
    seen_url, seen_arn = _hearing_queue("seen")
    events.put_rule(
        Name="seen", EventBusName=STACK, EventPattern=json.dumps({"source": ["retouch"]})
    )
    events.put_targets(Rule="seen", EventBusName=STACK, Targets=[{"Id": "seen", "Arn": seen_arn}])
    name = f"key-{uuid.uuid4().hex}"  # Powertools caches secrets by their name
    secret = boto3.client("secretsmanager").create_secret(Name=name, SecretString=KEY)["ARN"]
    webhook_secret = boto3.client("secretsmanager").create_secret(
        Name=f"webhook-{uuid.uuid4().hex}", SecretString=WEBHOOK_KEY
    )["ARN"]
    machine = boto3.client("stepfunctions").create_state_machine(
        name="edit-job",
        definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
        roleArn="arn:aws:iam::123456789012:role/edit-job",
    )["stateMachineArn"]
    return Stack(
        table="table",
        inbox="the-inbox",
        outbox="the-outbox",
        kicks_url=kicks_url,
        uploads_url=uploads_url,
        topic_arn=topic,
        bus=STACK,
        secret=secret,
        state_machine_arn=machine,
        heard_url=heard_url,
        seen_url=seen_url,
        webhook_url=_queue(template, "Webhook", "webhook"),
        webhook_dlq_url=_queue(template, "WebhookDlq", "webhook-dlq"),
        webhook_secret=webhook_secret,
    )


@pytest.fixture
def store(stack: Stack) -> DynamoStore:
    return DynamoStore(stack.dynamodb, stack.table)


@pytest.fixture
def inbox(stack: Stack) -> S3Inbox:
    return S3Inbox(stack.s3, stack.inbox)


@pytest.fixture
def outbox(stack: Stack) -> S3Outbox:
    return S3Outbox(stack.s3, stack.outbox)


@pytest.fixture
def kicks(stack: Stack) -> SqsKicks:
    return SqsKicks(stack.sqs, stack.kicks_url)


@pytest.fixture
def uploads(stack: Stack) -> SqsUploads:
    return SqsUploads(stack.sqs, stack.uploads_url, stack.inbox)


@pytest.fixture
def executions(stack: Stack) -> StepFunctionsExecutions:
    return StepFunctionsExecutions(stack.stepfunctions, stack.state_machine_arn)


@pytest.fixture
def notices(stack: Stack) -> AwsNotices:
    return AwsNotices(
        boto3.client("events"), boto3.client("sns"), bus=stack.bus, topic_arn=stack.topic_arn
    )


Function = Callable[[str], ModuleType]


@pytest.fixture
def function(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Function:
    """Imports functions with their environment set."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    return imported


def imported(name: str) -> ModuleType:
    """A function's `app.py`, imported as the Lambda runtime does: by path."""
    path: Path = ROOT / "functions" / name / "app.py"
    spec = importlib.util.spec_from_file_location(f"app_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def provider_over(answer: Callable[[httpx.Request], httpx.Response]) -> DashScope:
    """The real client over a transport that answers in process."""
    return DashScope(BASE_URL, lambda: KEY, http=connection_pool(httpx.MockTransport(answer)))


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


@dataclass
class MovedClock:
    """The machine's time, which is moved on instead of being waited for.

    A test puts it in the place of a function's own, for the functions make theirs only when it is
    first asked for.
    """

    ahead: float = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def sleep(self, seconds: float) -> None:
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        self.ahead += seconds


@dataclass
class Context:
    """What the Lambda runtime hands to a handler."""

    function_name: str = "retouch"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:123456789012:function:retouch"
    aws_request_id: str = "00000000-0000-4000-8000-000000000001"
    milliseconds: int = 75_000

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@pytest.fixture
def connection(stack: Stack) -> Connection:
    """The command line's way to it."""
    outputs = {
        "InboxBucket": stack.inbox,
        "OutboxBucket": stack.outbox,
        "TableName": stack.table,
        "Models": "{}",
        "ProviderRegions": "beijing",
        "OperateFunctionName": "operate",
    }
    return Connection(boto3.Session(), outputs, name="retouch-test")
