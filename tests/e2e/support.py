"""A user's hands: put objects, read the outbox, subscribe to news."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import ClientError
from PIL import Image, ImageDraw

from retouch.local.stack import Running

T = TypeVar("T")
SNAPSHOT = "wan2.7-image-2026-09-01"
"""A dated snapshot that only the configuration of the tests' stack knows."""
SETTLED = {"SUCCEEDED", "PARTIAL", "FAILED", "REJECTED", "CANCELED", "UNRESOLVED"}


def until(look: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """What `look` gives, once it gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def picture(width: int = 512, height: int = 512, format_: str = "JPEG") -> bytes:
    """An image with something to see in it."""
    image = Image.new("RGB", (width, height), (90, 120, 150))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=(200, 160, 60))
    buffer = io.BytesIO()
    image.save(buffer, format_)
    return buffer.getvalue()


def mask(width: int = 512, height: int = 512) -> bytes:
    """A mask whose left half is white."""
    image = Image.new("L", (width, height), 0)
    ImageDraw.Draw(image).rectangle((0, 0, width // 2 - 1, height), fill=255)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class User:
    """Somebody with S3 access to a stack, and nothing else."""

    stack: Running

    def __post_init__(self) -> None:
        self.s3 = self.client("s3")

    def client(self, service: Any) -> Any:
        session: boto3.Session = self.stack.session()
        config = Config(s3={"addressing_style": "path"}, retries={"mode": "standard"})
        return session.client(service, endpoint_url=self.stack.endpoint_url, config=config)

    def put(
        self,
        key: str,
        data: bytes | Mapping[str, Any],
        content_type: str = "binary/octet-stream",
    ) -> str:
        body = data if isinstance(data, bytes) else json.dumps(data).encode("utf-8")
        answer = self.s3.put_object(
            Bucket=self.stack.outputs["InboxBucket"], Key=key, Body=body, ContentType=content_type
        )
        return str(answer["VersionId"])

    def read(self, key: str) -> bytes | None:
        try:
            answer = self.s3.get_object(Bucket=self.stack.outputs["OutboxBucket"], Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        return bytes(answer["Body"].read())

    def record(self, folder: str) -> dict[str, Any] | None:
        data = self.read(f"{folder}/job.json")
        if data is None:
            return None
        loaded: dict[str, Any] = json.loads(data)
        return loaded

    def settled(self, folder: str, seconds: float = 60.0) -> dict[str, Any]:
        """The job's record once the job has ended."""

        def look() -> dict[str, Any] | None:
            record = self.record(folder)
            return record if record is not None and record["status"] in SETTLED else None

        return until(look, f"{folder}/job.json settled; now {self.record(folder)}", seconds)

    def result(self, record: Mapping[str, Any], number: int = 1) -> Image.Image:
        data = self.read(record["outputs"][number - 1]["key"])
        assert data is not None
        return Image.open(io.BytesIO(data))

    def simulator(self, path: str, region: str = "beijing") -> Any:
        """One of the simulator's own routes."""
        origin = self.stack.provider_urls[region].removesuffix("/api/v1")
        answer = httpx.get(f"{origin}/_simulator/{path}", timeout=10)
        answer.raise_for_status()
        return answer.json()

    def creates(self, word: str, region: str = "beijing") -> list[dict[str, Any]]:
        """The billed calls that the simulator saw with that word in the prompt."""
        return [
            request
            for request in self.simulator("requests", region)["requests"]
            if request["route"] in ("create", "sync") and word in json.dumps(request["body"])
        ]

    def inbox_of_news(self) -> Callable[[], list[dict[str, Any]]]:
        """Subscribe a queue to the topic and to the bus; gives back what reads it."""
        sqs = self.client("sqs")
        name = f"news-{time.monotonic_ns()}"
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        self.client("sns").subscribe(
            TopicArn=self.stack.outputs["TopicArn"], Protocol="sqs", Endpoint=arn
        )
        events = self.client("events")
        bus = self.stack.outputs["EventBusName"]
        pattern = json.dumps({"source": ["retouch"]})
        events.put_rule(Name=name, EventBusName=bus, EventPattern=pattern)
        events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "q", "Arn": arn}])
        heard: list[dict[str, Any]] = []

        def read() -> list[dict[str, Any]]:
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
            for message in answer.get("Messages", []):
                heard.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return heard

        return read
