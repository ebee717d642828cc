"""A stack as the command line sees it: its buckets and its table, on either engine."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from retouch import records
from retouch.aws.store import DynamoStore
from retouch.catalogue import catalogue
from retouch.errors import OperatorError
from retouch.jobs import Job, Status
from retouch.local import stack as local

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 4},
    s3={"addressing_style": "path"},
)


_COMMAND_SECONDS: Final = 70
"""Longer than the function lives that carries a command out."""

_NEEDED: Final = frozenset(
    {
        "InboxBucket",
        "OutboxBucket",
        "TableName",
        "Models",
        "ProviderRegions",
        "OperateFunctionName",
    }
)


class NotReachable(OperatorError):
    """The stack cannot be reached; the message says what was tried and what to do."""


@dataclass(frozen=True)
class Where:
    """Which stack is meant: options of the command line."""

    stack: str | None = None
    profile: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Report:
    """What came of a command: see `retouch.steps.operate.Report`."""

    job_id: str
    status: str | None
    did: str
    could_not: str


class Connection:
    """A stack's buckets and table."""

    def __init__(
        self,
        session: boto3.Session,
        outputs: dict[str, str],
        *,
        name: str,
        endpoint_url: str | None = None,
    ):
        self.name = name
        self.inbox = outputs["InboxBucket"]
        self.outbox = outputs["OutboxBucket"]
        self.models = catalogue(outputs["Models"], source="the stack's parameter Models")
        self.regions = tuple(outputs["ProviderRegions"].split(","))
        self._operate = outputs["OperateFunctionName"]
        self._session = session
        self._endpoint_url = endpoint_url
        self.s3: S3Client = self.client("s3")
        self.store = DynamoStore(self.client("dynamodb"), outputs["TableName"])

    def client(self, service: Any) -> Any:
        """A boto3 client of the stack's account."""
        return self._session.client(service, endpoint_url=self._endpoint_url, config=_CONFIG)

    def upload(self, key: str, data: bytes) -> str:
        """Put an object into the inbox; its version id."""
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        answer = self.s3.put_object(Bucket=self.inbox, Key=key, Body=data, ContentType=kind)
        return answer["VersionId"]

    def results(self, folder: str) -> Iterator[str]:
        """The keys of everything in a folder of the outbox; the whole of it for the empty name."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.outbox, Prefix=f"{folder}/" if folder else ""
        )
        for page in pages:
            yield from (entry["Key"] for entry in page.get("Contents", []))

    def read_result(self, key: str) -> bytes:
        """An object of the outbox."""
        return self.s3.get_object(Bucket=self.outbox, Key=key)["Body"].read()

    def link(self, key: str, seconds: int = 3600) -> str:
        """A URL that opens an object of the outbox for so long."""
        return self.s3.generate_presigned_url(
            "get_object", Params={"Bucket": self.outbox, "Key": key}, ExpiresIn=seconds
        )

    def jobs(self, statuses: Sequence[Status]) -> list[Job]:
        """Jobs in any of these states, the newest first."""
        found = [job for status in statuses for job in self.store.jobs_in(status)]
        # The index lags: a job that moves between two queries shows in both, or in neither.
        latest: dict[str, Job] = {}
        for job in found:
            if job.job_id not in latest or latest[job.job_id].version < job.version:
                latest[job.job_id] = job
        return sorted(latest.values(), key=lambda job: (-job.created_at, job.sidecar))

    def operate(self, command: str, job: Job, task_id: str | None = None) -> Report:
        """Have the stack carry out a person's command on a job; what came of it.

        Raises:
            NotReachable: the function failed.
        """
        said = {"command": command, "job_id": job.job_id, "task_id": task_id}
        # Once: a command that is sent again while it is being carried out would meet itself.
        patient = _CONFIG.merge(
            Config(read_timeout=_COMMAND_SECONDS, retries={"total_max_attempts": 1})
        )
        client = self._session.client("lambda", endpoint_url=self._endpoint_url, config=patient)
        answer = client.invoke(FunctionName=self._operate, Payload=json.dumps(said).encode("utf-8"))
        payload = answer["Payload"].read()
        if "FunctionError" in answer:
            raise NotReachable(
                f'the stack "{self.name}" could not carry it out: {payload.decode("utf-8", "replace")}'
            )
        return Report(**json.loads(payload))

    def record(self, job: Job) -> dict[str, Any]:
        """What the job's `job.json` says."""
        return records.record(job)


def connect(where: Where) -> Connection:
    """The stack that is meant: a running local one, else one on AWS.

    Raises:
        NotReachable: there is none of that name, or AWS refuses.
    """
    if where.profile is None and where.region is None:
        stack = _local(where.stack)
        if stack is not None:
            return Connection(
                stack.session(), stack.outputs, name=stack.name, endpoint_url=stack.endpoint_url
            )
    if where.stack is None:
        raise NotReachable(
            "no local stack is running; start one with `retouch up`, or name one on AWS with "
            "--stack NAME"
        )
    try:
        session = boto3.Session(profile_name=where.profile, region_name=where.region)
        client = session.client("cloudformation", config=_CONFIG)
        described = client.describe_stacks(StackName=where.stack)["Stacks"][0]
    except (BotoCoreError, ClientError) as error:
        raise NotReachable(
            f'no local stack "{where.stack}" is running, and AWS says: {error}'
        ) from error
    outputs = {o["OutputKey"]: o["OutputValue"] for o in described.get("Outputs", [])}
    if missing := _NEEDED - outputs.keys():
        raise NotReachable(
            f'the stack "{where.stack}" on AWS is not a retouch stack: it has no output '
            f"{', '.join(sorted(missing))}"
        )
    return Connection(session, outputs, name=where.stack)


def _local(name: str | None) -> local.Running | None:
    if name is not None:
        return local.find(name)
    stacks = local.running()
    if len(stacks) > 1:
        names = ", ".join(stack.name for stack in stacks)
        raise NotReachable(f"several local stacks are running ({names}); choose one with --stack")
    return stacks[0] if stacks else None
