"""The stack of a watch: a local one of its own, as `retouch watch` uses it."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from retouch import keys
from retouch.aws.messaging import SqsUploads
from retouch.aws.storage import S3Inbox, S3Outbox
from retouch.cli.connection import Connection
from retouch.errors import Conflict
from retouch.jobs import Job, Status
from retouch.local import stack as local
from retouch.ports import Errand
from retouch.steps.sheet import Buckets, read_record, write_page
from retouch.steps.submit import job_of

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import TargetTypeDef
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef
    from mypy_boto3_sqs import SQSClient

_SHA256: Final = "retouch-sha256"
_QUEUE: Final = "retouch-watch"
_RECORD: Final = "/job.json"
_DELETED_AT_ONCE: Final = 1000
_RECENT_SECONDS: Final = 1800.0
"""What was uploaded longer ago has been seen by the stack's own look through the inbox."""
UNDER_WAY: Final = (
    Status.ADMITTED,
    Status.CREATING,
    Status.RESOLVING,
    Status.RUNNING,
    Status.FINALIZING,
)
UNSENT: Final = tuple(one for one in Status if not one.settled and one not in UNDER_WAY)

STANDING: Final = frozenset({Status.WAITING, Status.HELD})
"""What does not go on by itself."""


@dataclass(frozen=True)
class Change:
    """A job's state has changed."""

    job_id: str
    revision: int
    status: Status


@dataclass(frozen=True)
class Result:
    """An object of the outbox has changed."""

    key: str


class OwnStack(Connection):
    """`retouch.cli.watch_intake.Bucket` on a local stack, and its news."""

    def __init__(self, stack: local.Running):
        super().__init__(
            stack.session(), stack.outputs, name=stack.name, endpoint_url=stack.endpoint_url
        )
        self._outputs = stack.outputs
        self._sqs: SQSClient = self.client("sqs")
        self._lambda = self.client("lambda")
        self._uploads = SqsUploads(self._sqs, stack.outputs["UploadsQueueUrl"], self.inbox)
        self._news = self._subscribe()

    # --- the inbox ---

    def put(self, key: str, data: bytes, sha256: str) -> str:
        """See `Bucket.put`."""
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        answer = self.s3.put_object(
            Bucket=self.inbox, Key=key, Body=data, ContentType=kind, Metadata={_SHA256: sha256}
        )
        return answer["VersionId"]

    def version_of(self, key: str, sha256: str) -> str | None:
        """See `Bucket.version_of`."""
        try:
            found = self.s3.head_object(Bucket=self.inbox, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return None
            raise
        return found["VersionId"] if found["Metadata"].get(_SHA256) == sha256 else None

    def remove(self, key: str) -> None:
        """See `Bucket.remove`."""
        self.s3.delete_object(Bucket=self.inbox, Key=key)

    def known_since(self, key: str, since: float) -> str | None:
        """See `Bucket.known_since`."""
        job_id = self.store.latest_job_of(key)
        job = None if job_id is None else self.store.job(job_id)
        return None if job is None or job.created_at < since - 1 else job.sidecar_version

    def release(self, key: str, version: str | None) -> bool | None:
        """See `Bucket.release`: first the object goes, so that nothing more can come of it."""
        self.remove(key)
        job = None if version is None else job_of(self.store, key, version)
        if job is None:
            if self.messages():
                return None  # its event may be on its way, or in work
            sidecars = keys.sidecars_of(key) if keys.classify(key) is keys.Kind.IMAGE else ()
            return all(self.store.latest_job_of(name) is None for name in sidecars)
        if job.status is Status.WAITING:
            report = self.operate("cancel", job)
            return report.status is not None and report.status == Status.CANCELED
        never_queued = job.status is Status.CANCELED and job.lane is None
        return job.status is Status.REJECTED or never_queued

    def messages(self) -> int:
        """How many uploads the stack has still to look at."""
        answer = self._sqs.get_queue_attributes(
            QueueUrl=self._outputs["UploadsQueueUrl"],
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            ],
        )
        return sum(int(count) for count in answer["Attributes"].values())

    # --- going on after a restart ---

    def resume(self, uploaded: list[tuple[str, float]]) -> None:
        """Make up for what went with the engine: events on their way, and waiting executions.

        `uploaded` are keys and when they were uploaded (Unix seconds).
        """
        newest = max((at for _, at in uploaded), default=0.0)
        for key, at in uploaded:
            if newest - at < _RECENT_SECONDS:
                self._uploads.announce(Errand(key=key))
        self._uploads.announce(
            *(Errand(job_id=job_id) for job_id in self.store.steps_due(time.time()))
        )
        self.heal()

    def heal(self) -> None:
        """Have the stack look after interrupted jobs now, and not only within a minute."""
        self._lambda.invoke(
            FunctionName=self._function("ReconcileFunction"), InvocationType="Event", Payload=b"{}"
        )

    def admit_no_more(self) -> None:
        """Let what is under way go on, and start nothing new, until the stack is started again."""
        dispatch = self._function("DispatchFunction")
        found = self._lambda.list_event_source_mappings(FunctionName=dispatch)
        for mapping in found["EventSourceMappings"]:
            self._lambda.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)

    def _function(self, logical_id: str) -> str:
        cloudformation: CloudFormationClient = self.client("cloudformation")
        described = cloudformation.describe_stack_resource(
            StackName=self.name, LogicalResourceId=logical_id
        )
        return described["StackResourceDetail"]["PhysicalResourceId"]

    # --- news ---

    def _subscribe(self) -> str:
        """A queue of our own that hears of every change of a job and every object of the outbox."""
        url = self._sqs.create_queue(QueueName=_QUEUE)["QueueUrl"]
        described = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        target: TargetTypeDef = {"Id": "watch", "Arn": described["Attributes"]["QueueArn"]}
        events: EventBridgeClient = self.client("events")
        created = {
            "source": ["aws.s3"],
            "detail-type": ["Object Created"],
            "detail": {"bucket": {"name": [self.outbox]}},
        }
        jobs = {"source": ["retouch"], "detail-type": ["Retouch Job State Change"]}
        for name, bus, pattern in (
            (f"{_QUEUE}-results", "default", created),
            (f"{_QUEUE}-jobs", self._outputs["EventBusName"], jobs),
        ):
            events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern))
            events.put_targets(Rule=name, EventBusName=bus, Targets=[target])
        return url

    def news(self, wait_seconds: int) -> list[Change | Result]:
        """What has happened; waits for a while if nothing has."""
        answer = self._sqs.receive_message(
            QueueUrl=self._news, MaxNumberOfMessages=10, WaitTimeSeconds=wait_seconds
        )
        messages = answer.get("Messages", [])
        if messages:
            self._sqs.delete_message_batch(
                QueueUrl=self._news,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(messages)
                ],
            )
        return [_news_of(json.loads(message["Body"])) for message in messages]

    def open_result(self, key: str) -> tuple[Any, str] | None:
        """An object of the outbox to read from, and its ETag; None if it is gone."""
        try:
            found = self.s3.get_object(Bucket=self.outbox, Key=key)
        except self.s3.exceptions.NoSuchKey:
            return None
        return found["Body"], found["ETag"]

    def results_with_tags(self) -> Iterator[tuple[str, str]]:
        """Every object of the outbox with its ETag."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.outbox)
        for page in pages:
            yield from ((entry["Key"], entry["ETag"]) for entry in page.get("Contents", []))

    def open_jobs(self) -> list[Job]:
        """Jobs that nothing has settled yet."""
        return self.jobs([*UNSENT, *UNDER_WAY])

    # --- pages ---

    def without_page(self) -> Iterator[str]:
        """See `without_page`."""
        return without_page(self.s3, self.outbox)

    def make_page(self, folder: str) -> None:
        """Make the page of the job whose folder it is, unless the stack is just making it."""
        with contextlib.suppress(Conflict):
            write_page(
                Buckets(S3Inbox(self.s3, self.inbox), S3Outbox(self.s3, self.outbox)), folder
            )

    # --- the copies ---

    def needing_copies(self) -> list[Job]:
        """See `needing_copies`."""
        return needing_copies(self)

    def copies(self) -> dict[str, list[ObjectIdentifierTypeDef]]:
        """Every result, and of originals every version that is not the current one, as of now."""
        return {
            self.outbox: copies(self.s3, self.outbox, current_too=True),
            self.inbox: copies(self.s3, self.inbox, current_too=False),
        }

    def delete(self, some: Mapping[str, Sequence[ObjectIdentifierTypeDef]]) -> None:
        """Delete these for good."""
        for bucket, going in some.items():
            delete(self.s3, bucket, going)

    def wait_while(self, statuses: Sequence[Status], seconds: float) -> int:
        """Wait until no job is in any of these states, for as long at the most; how many still are."""
        deadline = time.monotonic() + seconds
        while True:
            count = len(self.jobs(statuses))
            if not count or time.monotonic() >= deadline:
                return count
            time.sleep(0.3)


def without_page(s3: S3Client, outbox: str) -> Iterator[str]:
    """Folders of jobs that have ended whose page is missing, or older than their record.

    What tells a stack to make a page is lost where its engine ends first.
    """
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=outbox)
    written = {
        one["Key"]: one["LastModified"] for page in pages for one in page.get("Contents", [])
    }
    for key, at in written.items():
        folder = key.removesuffix(_RECORD)
        page_at = written.get(keys.page_key(folder))
        if folder == key or (page_at is not None and page_at >= at):
            continue
        record = read_record(S3Outbox(s3, outbox), folder)
        if record is not None and Status(record.status).settled:
            yield folder


def needing_copies(connection: Connection) -> list[Job]:
    """Jobs that may need a result, or an original or preset that is not the current one.

    One that waits for its files needs none: it will be entered with what lies in the folder then. But
    it stays under the presets that there were when it came, a step may wait for the results of the one
    before, and a retry goes on with the originals that the first try had. So does what a person has
    sent again that was UNRESOLVED.
    """
    inbox = S3Inbox(connection.s3, connection.inbox)

    def needs(job: Job) -> bool:
        if job.status is not Status.WAITING or job.part is not None or job.retry_of is not None:
            return True
        there = {preset: inbox.head(preset.key) for preset in job.presets}
        return any(now is None or now.version_id != p.version_id for p, now in there.items())

    return [job for job in connection.jobs([*UNSENT, *UNDER_WAY, Status.UNRESOLVED]) if needs(job)]


def copies(s3: S3Client, bucket: str, *, current_too: bool) -> list[ObjectIdentifierTypeDef]:
    """The older versions of all objects, and with `current_too` the current ones, to be deleted.

    The oldest first, and last what says that an object was deleted: so at no moment does a version come
    back that another, or its deletion, had covered.
    """
    versions: list[ObjectIdentifierTypeDef] = []
    markers: list[ObjectIdentifierTypeDef] = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        versions += [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for one in page.get("Versions", [])
            if current_too or not one["IsLatest"]
        ]
        markers += [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for one in page.get("DeleteMarkers", [])
        ]
    return [*reversed(versions), *reversed(markers)]  # the newest is listed first


def delete(
    s3: S3Client,
    bucket: str,
    going: Sequence[ObjectIdentifierTypeDef],
    at_once: int = _DELETED_AT_ONCE,
) -> None:
    """Delete these versions for good, in their order."""
    for start in range(0, len(going), at_once):
        some = list(going[start : start + at_once])
        s3.delete_objects(Bucket=bucket, Delete={"Objects": some, "Quiet": True})


def _news_of(event: dict[str, Any]) -> Change | Result:
    detail = event["detail"]
    if event["source"] == "aws.s3":
        return Result(detail["object"]["key"])
    return Change(detail["job_id"], detail["revision"], Status(detail["status"]))
