"""What each function does with AWS against what its role in `template.yaml` may do.

The real handlers go their ways over moto; every call that a function's own clients make, and every
URL that they sign, is noted as the actions that IAM asks for, and held against the function's policies.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import boto3
import botocore.handlers
import httpx
import pytest
from aws_lambda_powertools.utilities.parameters import clear_caches
from moto import mock_aws
from PIL import Image

from retouch.aws.store import DynamoStore
from retouch.errors import TryLater
from retouch.jobs import Job, PutJob, PutLane, Status
from retouch.provider.client import connection_pool
from retouch.records import record
from retouch.webhook import HttpReceiver
from tests.fakes import PHOTO, QWEN, WANX, picture, sidecar_json
from tests.integration.conftest import HOOK, REGION, Context, MovedClock, Stack, build, imported
from tests.integration.support import (
    LANE,
    SCHEDULED,
    command,
    drop,
    execution_ended,
    held,
    job_event,
    kicks_of,
    refused,
    running,
    step_due,
    turn,
    uploads,
    waiting_for_webhook,
)
from tests.integration.wire import Wire

ACCOUNT = "123456789012"
WIDE = picture(5000, 700)
"""Too wide for any model; `fit` mends it."""
HEAVY = picture(2100, 2100, kind="BMP")
"""Too many bytes for any model; `fit` mends it too."""

Need = tuple[str, str]
"""An action and the ARN it is done to."""


@cache
def noise() -> bytes:
    """A picture of more than 8 MiB, which goes up in parts."""
    side = 1800
    file = io.BytesIO()
    pixels = random.Random(1).randbytes(3 * side * side)
    Image.frombytes("RGB", (side, side), pixels).save(file, "PNG", compress_level=1)
    assert len(file.getvalue()) > 8 * 1024 * 1024
    return file.getvalue()


# --- what a call asks of IAM ----------------------------------------


def _arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}"


def _s3(operation: str, said: dict[str, Any]) -> Iterator[Need]:
    bucket = f"arn:aws:s3:::{said['Bucket']}"
    match operation:
        case "ListObjectsV2":
            yield "s3:ListBucket", bucket
        case "ListObjectVersions":
            yield "s3:ListBucketVersions", bucket
        case "HeadObject" | "GetObject":
            version = "Version" if "VersionId" in said else ""
            yield f"s3:GetObject{version}", f"{bucket}/{said['Key']}"
            # Without these S3 says 403 instead of 404 of what is not there.
            yield f"s3:ListBucket{version and 'Versions'}", bucket
            yield "s3:ListBucket", bucket
        case "AbortMultipartUpload":
            yield "s3:AbortMultipartUpload", f"{bucket}/{said['Key']}"
        case "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload":
            yield "s3:PutObject", f"{bucket}/{said['Key']}"
            if "IfMatch" in said:
                yield "s3:GetObject", f"{bucket}/{said['Key']}"
        case _:
            raise AssertionError(f"s3 {operation}: say what it asks of IAM")


def _dynamodb(operation: str, said: dict[str, Any]) -> Iterator[Need]:
    match operation:
        case "TransactWriteItems":
            names = {
                "Put": "PutItem", "Delete": "DeleteItem", "Update": "UpdateItem",
                "ConditionCheck": "ConditionCheckItem",
            }  # fmt: skip
            for item in said["TransactItems"]:
                for kind, write in item.items():
                    yield f"dynamodb:{names[kind]}", _arn("dynamodb", f"table/{write['TableName']}")
        case "BatchWriteItem":
            for table in said["RequestItems"]:
                yield "dynamodb:BatchWriteItem", _arn("dynamodb", f"table/{table}")
        case _:
            index = f"/index/{said['IndexName']}" if "IndexName" in said else ""
            table = f"table/{said['TableName']}{index}"
            yield f"dynamodb:{operation}", _arn("dynamodb", table)


def needs_of(service: str, operation: str, said: dict[str, Any]) -> Iterator[Need]:
    """The actions that a call needs, and what each is done to."""
    match service, operation:
        case "s3", _:
            yield from _s3(operation, said)
        case "dynamodb", _:
            yield from _dynamodb(operation, said)
        case "sqs", "ChangeMessageVisibility":
            queue = _arn("sqs", said["QueueUrl"].rpartition("/")[2])
            yield "sqs:ChangeMessageVisibility", queue
        case "sqs", "SendMessage" | "SendMessageBatch":
            yield "sqs:SendMessage", _arn("sqs", said["QueueUrl"].rpartition("/")[2])
        case "sns", "Publish":
            yield "sns:Publish", said["TopicArn"]
        case "eventbridge" | "events", "PutEvents":
            for entry in said["Entries"]:
                yield "events:PutEvents", _arn("events", f"event-bus/{entry['EventBusName']}")
        case "secrets-manager" | "secretsmanager", "GetSecretValue":
            yield "secretsmanager:GetSecretValue", said["SecretId"]
        case "sfn" | "stepfunctions", "StartExecution":
            yield "states:StartExecution", said["stateMachineArn"]
        case "sfn" | "stepfunctions", "DescribeExecution":
            yield "states:DescribeExecution", said["executionArn"]
        case _:
            raise AssertionError(f"{service} {operation}: say what it asks of IAM")


@dataclass
class Recorder:
    """Notes what the function that is at work just now asks of AWS."""

    acting: str | None = None
    needed: defaultdict[str, set[Need]] = field(default_factory=lambda: defaultdict(set))

    def __call__(self, params: dict[str, Any], model: Any, **_: object) -> None:
        if self.acting is not None:
            service = model.service_model.service_id.hyphenize()
            self.needed[self.acting].update(needs_of(service, model.name, params))

    @contextmanager
    def at_work(self, name: str) -> Iterator[None]:
        before, self.acting = self.acting, name
        try:
            yield
        finally:
            self.acting = before


# --- what a role may do ----------------------------------------


@dataclass(frozen=True)
class Grant:
    """One action on one pattern of resources."""

    action: str
    resource: str
    statement: str = ""
    """What the statement is about, as the template names it."""

    @property
    def named(self) -> str:
        """The action and what it is about. The table and its index are one thing here."""
        return f"{self.action} on {self.statement}"

    def allows(self, need: Need) -> bool:
        action, arn = need
        pattern = "".join(
            ".*" if part == "*" else "." if part == "?" else re.escape(part)
            for part in re.split(r"([*?])", self.resource)
        )
        return action == self.action and re.fullmatch(pattern, arn) is not None


def physical(value: Any, stack: Stack) -> str:
    """An intrinsic of the template as the ARN that it has here."""
    refs = {
        "Topic": stack.topic_arn,
        "ApiKey": stack.secret,
        "EditJob": stack.state_machine_arn,
        "WebhookSecret": stack.webhook_secret,
        "AWS::Partition": "aws",
        "AWS::Region": REGION,
        "AWS::AccountId": ACCOUNT,
    }
    attributes = {
        "Inbox.Arn": f"arn:aws:s3:::{stack.inbox}",
        "Outbox.Arn": f"arn:aws:s3:::{stack.outbox}",
        "Table.Arn": _arn("dynamodb", f"table/{stack.table}"),
        "Kicks.Arn": _arn("sqs", stack.kicks_url.rpartition("/")[2]),
        "Uploads.Arn": _arn("sqs", stack.uploads_url.rpartition("/")[2]),
        "Webhook.Arn": _arn("sqs", stack.webhook_url.rpartition("/")[2]),
        "WebhookDlq.Arn": _arn("sqs", stack.webhook_dlq_url.rpartition("/")[2]),
        "EventBus.Arn": _arn("events", f"event-bus/{stack.bus}"),
        "EditJob.Name": stack.state_machine_arn.rpartition(":")[2],
    }
    match value:
        case {"Ref": name}:
            return refs[name]
        case {"Fn::GetAtt": [*names]}:
            return attributes[".".join(names)]
        case {"Fn::Sub": str(text)}:
            known = refs | attributes
            return re.sub(r"\$\{([^}]+)\}", lambda found: known[found[1]], text)
    raise AssertionError(value)


def _about(resource: Any) -> str:
    """The resource of the template that an ARN is made of, and what follows it."""
    match resource:
        case {"Ref": name} | {"Fn::GetAtt": [name, _]}:
            return str(name)
        case {"Fn::Sub": str(text)}:
            named = re.search(r"\$\{(\w+)\.\w+\}(.*)", text)
            assert named is not None
            rest = "" if named[2].startswith("/index/") or named[2] == ":*" else named[2]
            return f"{named[1]}{rest}"
    raise AssertionError(resource)


def grants(template: dict[str, Any], stack: Stack, name: str) -> list[Grant]:
    """What a function may do; SAM adds reading its queue and writing its log."""

    def listed(value: Any) -> list[Any]:
        return value if isinstance(value, list) else [value]

    properties = template["Resources"][f"{name.title()}Function"]["Properties"]
    return [
        Grant(action, physical(resource, stack), _about(resource))
        for policy in properties["Policies"]
        for statement in policy["Statement"]
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if statement["Effect"] == "Allow" and "Condition" not in statement
    ]


# --- the functions' ways ----------------------------------------


@dataclass
class Walk:
    """What the ways of the functions have in common."""

    stack: Stack
    store: DynamoStore
    wire: Wire
    recorder: Recorder
    pool: httpx.Client
    monkeypatch: pytest.MonkeyPatch

    def load(self, name: str) -> ModuleType:
        """A function, whose every invocation is recorded."""
        module = imported(name)
        module.runtime._pool = self.pool
        handler = module.handler

        def noted(event: Any, context: Any) -> Any:
            clear_caches()  # type: ignore[no-untyped-call]  # each has a process of its own
            with self.recorder.at_work(name):
                return handler(event, context)

        vars(module)["handler"] = noted
        return module

    def call(
        self, name: str, event: dict[str, Any], *, ahead: float = 0.0, seconds: float = 300.0
    ) -> dict[str, Any]:
        module = self.load(name)
        module.runtime.clock = MovedClock(ahead)
        answer: dict[str, Any] = module.handler(event, Context(milliseconds=int(seconds * 1000)))
        return answer

    def drop(self, key: str, data: bytes) -> None:
        drop(self.stack, key, data)

    def submitted(self, name: str, data: bytes = PHOTO, **fields: Any) -> Job:
        self.drop(f"{name}.png", data)
        self.drop(f"{name}.png.json", sidecar_json(**fields))
        self.call("submit", uploads(f"{name}.png.json"))
        return self.latest(f"{name}.png.json")

    def latest(self, sidecar: str) -> Job:
        job_id = self.store.latest_job_of(sidecar)
        assert job_id is not None
        job = self.store.job(job_id)
        assert job is not None
        return job

    def job(self, job: Job) -> Job:
        found = self.store.job(job.job_id)
        assert found is not None
        return found

    def admitted(self, count: int) -> list[Job]:
        found = list(self.store.jobs_in(Status.ADMITTED))
        assert len(found) == count
        return found

    def stop(self, job: Job) -> None:
        base = self.stack.state_machine_arn.replace(":stateMachine:", ":execution:")
        arn = f"{base}:{job.job_id}-{job.fence}-{job.attempts}"
        self.stack.stepfunctions.stop_execution(executionArn=arn)

    def finalizing(self) -> Job:
        job = running(self.stack, self.store, self.load)
        self.wire.state = "SUCCEEDED"
        assert self.call("poll", turn(job))["next"] == "finalize"
        return self.job(job)


def submit_pairs(walk: Walk) -> None:
    walk.drop("alone.png", PHOTO)
    walk.call("submit", uploads("alone.png", "gone.png", "gone.png.json"))
    assert walk.submitted("a").status is Status.QUEUED
    walk.drop("alone.png.json", sidecar_json())
    walk.call("submit", uploads("alone.png.json"))
    assert walk.latest("alone.png.json").status is Status.QUEUED
    # A sidecar that is named like its image without the suffix has to look for it.
    walk.drop("b.png", PHOTO)
    walk.drop("b.json", sidecar_json())
    walk.call("submit", uploads("b.json"))
    assert walk.latest("b.json").status is Status.QUEUED


def submit_waits_and_replaces(walk: Walk) -> None:
    walk.drop("w.json", sidecar_json(images=["w1.png"]))
    walk.call("submit", uploads("w.json"))
    assert walk.latest("w.json").status is Status.WAITING
    walk.drop("w.json", sidecar_json(images=["w2.png"]))
    walk.call("submit", uploads("w.json"))
    walk.drop("w2.png", PHOTO)
    walk.call("submit", uploads("w2.png"))
    assert walk.latest("w.json").status is Status.QUEUED


def submit_refuses(walk: Walk) -> None:
    walk.drop("bad.png.json", b"{oops")
    walk.call("submit", uploads("bad.png.json"))
    assert walk.latest("bad.png.json").status is Status.REJECTED


def submit_mends(walk: Walk) -> None:
    job = walk.submitted("wide", WIDE, fit=True)
    assert job.status is Status.QUEUED, job.problems
    assert job.images[0].mended is not None


def submit_waits_for_a_sidecar(walk: Walk) -> None:
    """An image alone, under a preset that is there, and one that comes later."""
    walk.drop("shoes/_preset.json", sidecar_json())
    walk.drop("shoes/a.png", PHOTO)
    walk.call("submit", uploads("shoes/_preset.json", "shoes/a.png"))
    walk.drop("hats/b.png", PHOTO)
    walk.call("submit", uploads("hats/b.png"))
    walk.drop("hats/_preset.json", sidecar_json())
    walk.call("submit", uploads("hats/_preset.json"))
    walk.drop("_preset.json", b"{oops")
    walk.call("submit", uploads("_preset.json"))
    assert walk.latest("_preset.json").status is Status.REJECTED


def submit_holds(walk: Walk) -> None:
    walk.monkeypatch.setenv("RETOUCH_BUDGET", '{"images_per_day": 1}')
    assert walk.submitted("a").status is Status.QUEUED
    assert walk.submitted("b").status is Status.HELD
    # A newer version takes the place of one that is held, and a record of ours is ignored.
    assert walk.submitted("b").status is Status.HELD
    walk.drop("c.json", json.dumps(record(walk.latest("a.png.json"))).encode())
    walk.call("submit", uploads("c.json"))


def dispatch_by_url(walk: Walk) -> None:
    walk.submitted("a")
    walk.submitted("wide", WIDE, fit=True)
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    assert len(list(walk.store.jobs_in(Status.RUNNING))) == 2


def dispatch_by_push(walk: Walk) -> None:
    walk.monkeypatch.setenv("RETOUCH_INPUT_DELIVERY", "push")
    walk.submitted("a")
    walk.submitted("wide", WIDE, fit=True)
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    assert len(list(walk.store.jobs_in(Status.RUNNING))) == 2


def dispatch_without_a_good_account(walk: Walk) -> None:
    walk.submitted("a")
    walk.wire.refused = {"code": "Arrearage", "message": "overdue"}
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    assert walk.store.lane(LANE).paused_by is not None
    walk.wire.refused = None
    walk.call("dispatch", kicks_of(LANE), seconds=75, ahead=120)
    assert walk.store.lane(LANE).paused_by is None


def dispatch_in_trouble(walk: Walk) -> None:
    walk.submitted("a")
    walk.call("dispatch", kicks_of(LANE), seconds=10)  # leaves the work to a kick
    walk.wire.lost = "image-synthesis"
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    assert list(walk.store.jobs_in(Status.RESOLVING))


def dispatch_refused(walk: Walk) -> None:
    refused(walk.stack, walk.store, walk.load, walk.wire)


def poll_to_the_end(walk: Walk) -> None:
    job = running(walk.stack, walk.store, walk.load)
    assert walk.call("poll", turn(job), ahead=200)["next"] == "wait"  # renews the lease
    walk.call("operate", command("cancel", job.job_id))
    walk.call("poll", turn(job), ahead=210)
    walk.wire.state = "SUCCEEDED"
    assert walk.call("poll", turn(job), ahead=220)["next"] == "finalize"


def poll_asks_a_person(walk: Walk) -> None:
    walk.submitted("a")
    walk.wire.lost = "image-synthesis"
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    [job] = walk.store.jobs_in(Status.RESOLVING)
    walk.wire.lost = "no such path"
    # The wire lists two tasks that nobody knows.
    walk.wire.listed = ("task-8", "task-9")
    assert walk.call("poll", turn(job), ahead=20)["next"] == "stop"
    assert walk.job(job).status is Status.UNRESOLVED


def poll_gives_up(walk: Walk) -> None:
    walk.submitted("a")
    walk.wire.lost = "image-synthesis"
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    [job] = walk.store.jobs_in(Status.RESOLVING)
    walk.wire.lost = "no such path"
    assert walk.call("poll", turn(job), ahead=20)["next"] == "wait"
    assert walk.call("poll", turn(job), ahead=200)["next"] == "stop"
    assert walk.job(job).status is Status.QUEUED


def generate_and_finalize(walk: Walk) -> None:
    walk.monkeypatch.setenv("RETOUCH_INPUT_DELIVERY", "push")
    walk.submitted("a", model=QWEN)
    heavy = walk.submitted("heavy", HEAVY, model=QWEN, fit=True)
    assert heavy.images[0].mended is not None, heavy.problems
    walk.call("dispatch", kicks_of(f"beijing:{QWEN}"), seconds=75)
    for job in walk.admitted(2):
        answer = walk.call("generate", {**turn(job), "mode": "sync"}, seconds=600, ahead=60)
        assert answer["next"] == "finalize"
        assert walk.call("finalize", answer)["status"] == "SUCCEEDED"


def generate_by_url(walk: Walk) -> None:
    walk.submitted("a", model=QWEN)
    heavy = walk.submitted("heavy", HEAVY, model=QWEN, fit=True)
    assert heavy.images[0].mended is not None, heavy.problems
    walk.call("dispatch", kicks_of(f"beijing:{QWEN}"), seconds=75)
    for job in walk.admitted(2):
        answer = walk.call("generate", {**turn(job), "mode": "sync"}, seconds=600, ahead=60)
        assert answer["next"] == "finalize"


def generate_without_a_good_account(walk: Walk) -> None:
    walk.submitted("a", model=QWEN)
    walk.call("dispatch", kicks_of(f"beijing:{QWEN}"), seconds=75)
    [job] = walk.store.jobs_in(Status.ADMITTED)
    walk.wire.refused = {"code": "Arrearage", "message": "overdue"}
    assert walk.call("generate", {**turn(job), "mode": "sync"}, seconds=600)["next"] == "stop"
    assert walk.store.lane(f"beijing:{QWEN}").paused_by is not None


def generate_in_doubt(walk: Walk) -> None:
    held(walk.stack, walk.store, walk.load, walk.wire)


def finalize_over_older_results(walk: Walk) -> None:
    job = walk.finalizing()
    walk.call("finalize", turn(job))
    walk.wire.state = "RUNNING"
    walk.drop("shoes/red.png.json", sidecar_json(prompt="another"))
    walk.call("submit", uploads("shoes/red.png.json"))
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    [newer] = walk.store.jobs_in(Status.RUNNING)
    walk.wire.state = "SUCCEEDED"
    walk.call("poll", turn(newer))
    assert walk.call("finalize", turn(newer))["status"] == "SUCCEEDED"


def finalize_large_results(walk: Walk) -> None:
    walk.wire.result = noise()
    job = walk.finalizing()
    assert walk.call("finalize", turn(job))["status"] == "SUCCEEDED"


def finalize_broken_off(walk: Walk) -> None:
    walk.wire.result = noise()
    walk.wire.breaks_off = True
    job = walk.finalizing()
    with pytest.raises(TryLater):
        walk.call("finalize", turn(job))


def operate_cancels_and_retries(walk: Walk) -> None:
    first = walk.submitted("a")
    assert walk.call("operate", command("cancel", first.job_id))["status"] == "CANCELED"
    again = walk.call("operate", command("retry", first.job_id))
    assert again["status"] == "QUEUED"
    assert walk.call("operate", command("retry", again["job_id"]))["could_not"]


def operate_judges_again(walk: Walk) -> None:
    rejected = walk.submitted("wide", WIDE)
    assert rejected.status is Status.REJECTED
    walk.call("operate", command("retry", rejected.job_id))
    walk.drop("w.json", sidecar_json(images=["late.png"], fit=True))
    walk.call("submit", uploads("w.json"))
    waiting = walk.latest("w.json")
    assert walk.call("operate", command("cancel", waiting.job_id))["status"] == "CANCELED"
    walk.drop("late.png", WIDE)
    assert walk.call("operate", command("retry", waiting.job_id))["status"] == "QUEUED"
    assert walk.latest("w.json").images[0].mended is not None


def operate_copies_again(walk: Walk) -> None:
    job = walk.finalizing()
    assert walk.call("operate", command("retry", job.job_id))["could_not"]
    walk.stop(job)
    assert walk.call("operate", command("retry", job.job_id))["did"]


def operate_resolves(walk: Walk) -> None:
    poll_asks_a_person(walk)
    [job] = walk.store.jobs_in(Status.UNRESOLVED)
    walk.wire.state = "RUNNING"
    assert walk.call("operate", command("adopt", job.job_id, "task-8"))["status"] == "RUNNING"


def operate_gives_up(walk: Walk) -> None:
    job = held(walk.stack, walk.store, walk.load, walk.wire)
    assert walk.call("operate", command("again", job.job_id))["status"] == "QUEUED"


def operate_closes(walk: Walk) -> None:
    job = held(walk.stack, walk.store, walk.load, walk.wire)
    assert walk.call("operate", command("fail", job.job_id))["status"] == "FAILED"


def operate_releases(walk: Walk) -> None:
    walk.monkeypatch.setenv("RETOUCH_BUDGET", '{"images_per_day": 1}')
    walk.submitted("a")
    held_back, cancelled = walk.submitted("b"), walk.submitted("c")
    assert walk.call("operate", command("release", held_back.job_id))["status"] == "QUEUED"
    assert walk.call("operate", command("cancel", cancelled.job_id))["status"] == "CANCELED"
    assert walk.call("operate", command("retry", cancelled.job_id))["status"] == "HELD"


def reconcile_heals(walk: Walk) -> None:
    job = running(walk.stack, walk.store, walk.load)
    queued = walk.submitted("waits")
    walk.stop(job)
    ended = walk.call("reconcile", execution_ended(job.job_id, job.fence), ahead=60)
    assert ended["remedy"] == "restarted"
    walk.stop(walk.job(job))
    lane = walk.store.lane(LANE)
    stale = {
        name: slot.model_copy(update={"lease_until": 1.0}) for name, slot in lane.slots.items()
    }
    update = {"version": lane.version + 1, "slots": stale}
    walk.store.commit((PutLane(lane.model_copy(update=update)),))
    done = walk.call("reconcile", SCHEDULED, ahead=200)
    assert done["restarted"] >= 1
    assert walk.job(queued) is not None


def reconcile_tells(walk: Walk) -> None:
    job = walk.submitted("a")
    # One whose publisher died.
    untold = walk.job(job)
    newer = untold.model_copy(update={"version": untold.version + 1})
    walk.store.commit((PutJob(newer),))
    done = walk.call("reconcile", SCHEDULED, ahead=1000)
    assert done["published"] == 1
    assert done["kicked"] == 1


def reconcile_enters_what_was_held(walk: Walk) -> None:
    walk.monkeypatch.setenv("RETOUCH_BUDGET", '{"images_per_day": 1}')
    walk.submitted("a")
    assert walk.submitted("b").status is Status.HELD
    assert walk.call("reconcile", SCHEDULED, ahead=86_400)["entered"] == 1
    assert walk.latest("b.png.json").status is Status.QUEUED


def reconcile_alarms(walk: Walk) -> None:
    held(walk.stack, walk.store, walk.load, walk.wire)
    job = walk.finalizing()
    walk.stop(job)
    done = walk.call("reconcile", SCHEDULED, ahead=21 * 3600)
    assert done["alarmed"] >= 1
    assert walk.call("reconcile", SCHEDULED, ahead=22 * 3600)["restarted"] == 1


def reconcile_drops(walk: Walk) -> None:
    walk.drop(".first.png", PHOTO)
    walk.drop("alone.png", PHOTO)
    walk.call("submit", uploads("alone.png"))
    walk.drop("w.json", sidecar_json(images=["w1.png"]))
    walk.call("submit", uploads("w.json"))
    walk.drop("untold.png", PHOTO)
    walk.drop("untold.png.json", sidecar_json())
    done = walk.call("reconcile", SCHEDULED, ahead=1000)
    assert done["found alone"] == 1
    assert done["found overdue"] == 1
    assert done["swept"] == 1


# --- steps: who ends one, tells submit of it ---


def first_of_two(walk: Walk, model: str = WANX) -> Job:
    """A job whose result another one works on."""
    job = walk.submitted("two", model=model, steps=[{"prompt": "a"}, {"prompt": "b"}])
    assert job.status is Status.QUEUED, job.problems
    return job


def first_step_done(walk: Walk) -> Job:
    """The second of two steps, which is due."""
    first = first_of_two(walk)
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    [running_] = walk.store.jobs_in(Status.RUNNING)
    walk.wire.state = "SUCCEEDED"
    walk.call("poll", turn(running_))
    assert walk.call("finalize", turn(running_))["status"] == "SUCCEEDED"
    walk.wire.state = "RUNNING"
    part = walk.job(first).part
    assert part is not None
    second = walk.store.job(part.next or "")
    assert second is not None
    return second


def submit_goes_on_with_a_step(walk: Walk) -> None:
    second = first_step_done(walk)
    walk.call("submit", step_due(second.job_id))
    assert walk.job(second).status is Status.QUEUED


def dispatch_a_second_step(walk: Walk) -> None:
    submit_goes_on_with_a_step(walk)
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    assert list(walk.store.jobs_in(Status.RUNNING))


def dispatch_ends_a_step(walk: Walk) -> None:
    job = first_of_two(walk)
    walk.wire.refused = {"code": "InvalidParameter", "message": "not that"}
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    assert walk.job(job).status is Status.FAILED


def generate_ends_a_step(walk: Walk) -> None:
    first_of_two(walk, QWEN)
    walk.call("dispatch", kicks_of(f"beijing:{QWEN}"), seconds=75)
    [job] = walk.admitted(1)
    # A person asked for the end of it while the call was under way.
    asked = {"version": job.version + 1, "cancel_asked_at": job.updated_at}
    walk.store.commit((PutJob(job.model_copy(update=asked)),))
    walk.wire.refused = {"code": "Arrearage", "message": "overdue"}
    walk.call("generate", {**turn(job), "mode": "sync"}, seconds=600)
    assert walk.job(job).status is Status.CANCELED


def poll_ends_a_step(walk: Walk) -> None:
    first_of_two(walk)
    walk.wire.lost = "image-synthesis"
    walk.call("dispatch", kicks_of(LANE), seconds=75)
    [job] = walk.store.jobs_in(Status.RESOLVING)
    walk.wire.lost = "no such path"
    walk.call("operate", command("cancel", job.job_id))
    walk.call("poll", turn(job), ahead=20)
    walk.call("poll", turn(job), ahead=200)
    assert walk.job(job).status is Status.CANCELED


def operate_ends_a_step(walk: Walk) -> None:
    job = first_of_two(walk)
    assert walk.call("operate", command("cancel", job.job_id))["status"] == "CANCELED"


def reconcile_tells_of_a_step(walk: Walk) -> None:
    second = first_step_done(walk)
    assert second.part is not None
    first = walk.store.job(second.part.previous or "")
    assert first is not None
    walk.store.commit((PutJob(first.model_copy(update={"version": first.version + 1})),))
    assert walk.call("reconcile", SCHEDULED, ahead=1000)["published"] == 1


def webhook_delivers(walk: Walk) -> None:
    module = walk.load("webhook")
    statuses = [204, 500, 410]
    transport = httpx.MockTransport(lambda _: httpx.Response(statuses.pop(0)))
    module.runtime.receiver = HttpReceiver(HOOK, transport)
    bodies = [f'{{"job_id": "0123456789abcdef", "revision": {revision}}}' for revision in (1, 2, 3)]
    answer = module.handler(waiting_for_webhook(walk.stack, *bodies), Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    assert len(walk.stack.received(walk.stack.webhook_dlq_url)) == 1


def sheet_of_a_job(walk: Walk) -> None:
    walk.wire.result = noise()
    job = walk.finalizing()
    assert walk.call("finalize", turn(job))["status"] == "SUCCEEDED"
    event = job_event(walk.job(job))
    assert walk.call("sheet", event)["page"] == "shoes/red/index.html"
    assert walk.call("sheet", event)["page"] == "shoes/red/index.html"  # over the first


def sheet_of_a_refused_drop(walk: Walk) -> None:
    walk.drop("bad.png.json", b"{oops")
    walk.call("submit", uploads("bad.png.json"))
    assert walk.call("sheet", job_event(walk.latest("bad.png.json")))["page"] == "bad/index.html"


WAYS: dict[str, tuple[Callable[[Walk], object], ...]] = {
    "submit": (
        submit_pairs,
        submit_waits_and_replaces,
        submit_refuses,
        submit_mends,
        submit_holds,
        submit_waits_for_a_sidecar,
        submit_goes_on_with_a_step,
    ),
    "dispatch": (
        dispatch_by_url,
        dispatch_by_push,
        dispatch_without_a_good_account,
        dispatch_in_trouble,
        dispatch_refused,
        dispatch_a_second_step,
        dispatch_ends_a_step,
    ),
    "poll": (poll_to_the_end, poll_asks_a_person, poll_gives_up, poll_ends_a_step),
    "generate": (
        generate_and_finalize,
        generate_by_url,
        generate_without_a_good_account,
        generate_in_doubt,
        generate_ends_a_step,
    ),
    "finalize": (
        finalize_over_older_results,
        finalize_large_results,
        finalize_broken_off,
        first_step_done,
    ),
    "operate": (
        operate_cancels_and_retries,
        operate_judges_again,
        operate_copies_again,
        operate_resolves,
        operate_gives_up,
        operate_closes,
        operate_releases,
        operate_ends_a_step,
    ),
    "reconcile": (
        reconcile_heals,
        reconcile_tells,
        reconcile_enters_what_was_held,
        reconcile_alarms,
        reconcile_drops,
        reconcile_tells_of_a_step,
    ),
    "webhook": (webhook_delivers,),
    "sheet": (sheet_of_a_job, sheet_of_a_refused_drop),
}

_TABLE_SPARE = ("dynamodb:ConditionCheckItem on Table",)
"""What no function does."""
_OUTBOX_SPARE = ("s3:AbortMultipartUpload on Outbox/*",)
"""Only `finalize` writes in parts."""
_VERSIONED = ("s3:GetObject on Inbox/*", "s3:GetObject on Outbox/*")
"""What is sent is read by its version."""
UNUSED: dict[str, tuple[str, ...]] = {
    "submit": (
        *_TABLE_SPARE,
        "dynamodb:BatchWriteItem on Table",
        *_OUTBOX_SPARE,
        "s3:GetObject on Outbox/*",
    ),
    "dispatch": (*_TABLE_SPARE, *_OUTBOX_SPARE, *_VERSIONED),
    "poll": (
        *_TABLE_SPARE,
        "dynamodb:BatchWriteItem on Table",
        "dynamodb:Query on Table",
        *_OUTBOX_SPARE,
    ),
    "generate": (*_TABLE_SPARE, "dynamodb:Query on Table", *_OUTBOX_SPARE, *_VERSIONED),
    "finalize": (
        *_TABLE_SPARE,
        "dynamodb:BatchWriteItem on Table",
        "s3:ListBucketVersions on Outbox",
    ),
    "operate": (*_TABLE_SPARE, *_OUTBOX_SPARE),
    "reconcile": (
        *_TABLE_SPARE,
        "dynamodb:BatchWriteItem on Table",
        *_OUTBOX_SPARE,
        "s3:GetObjectVersion on Inbox/*",
    ),
    "webhook": (),
    # A page of more than 8 MiB goes up in parts; inputs are read by their versions.
    "sheet": ("s3:AbortMultipartUpload on Outbox/*/index.html", "s3:GetObject on Inbox/*"),
}
"""What the roles may do beyond that, because functions share the statements of the template. Whatever
comes on top of this needs a reason.
"""


@contextmanager
def recording(template: dict[str, Any]) -> Iterator[Walk]:
    """A fresh stack, and functions whose clients are all watched."""
    recorder = Recorder()
    wire = Wire()
    watched = [*botocore.handlers.BUILTIN_HANDLERS, ("provide-client-params", recorder)]
    with (
        mock_aws(),
        pytest.MonkeyPatch.context() as patch,
        connection_pool(httpx.MockTransport(wire)) as pool,
    ):
        stack = build(template)
        for name, value in stack.environment().items():
            patch.setenv(name, value)
        # Where botocore's own handlers are, so that every client of every session has it.
        patch.setattr(botocore.handlers, "BUILTIN_HANDLERS", watched)
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        clear_caches()  # type: ignore[no-untyped-call]
        try:
            yield Walk(stack, DynamoStore(stack.dynamodb, stack.table), wire, recorder, pool, patch)
        finally:
            clear_caches()  # type: ignore[no-untyped-call]


@pytest.fixture(autouse=True)
def aws(nobody: None) -> None:
    """Each way has an AWS of its own."""


@pytest.mark.filterwarnings("ignore:No application metrics:UserWarning")
@pytest.mark.parametrize("name", WAYS)
def test_a_function_may_do_all_that_it_does_and_no_more(
    template: dict[str, Any], name: str
) -> None:
    used: set[str] = set()
    for way in WAYS[name]:
        with recording(template) as walk:
            way(walk)
            roles = {who: grants(template, walk.stack, who) for who in walk.recorder.needed}
            for who, needed in walk.recorder.needed.items():
                refused = {need for need in needed if not any(g.allows(need) for g in roles[who])}
                assert not refused, f"{way.__name__}: {who} may not: {sorted(refused)}"
            assert walk.recorder.needed[name], f"{way.__name__} does not use {name}"
            used |= {
                grant.named
                for grant in roles[name]
                if any(grant.allows(need) for need in walk.recorder.needed[name])
            }
            given = {grant.named for grant in roles[name]}
    assert sorted(given - used) == sorted(UNUSED[name])


def test_the_recorder_sees_what_a_role_would_refuse(template: dict[str, Any]) -> None:
    # The test above is worth what its recorder sees.
    with recording(template) as walk:
        dispatch_by_url(walk)
        roles = grants(template, walk.stack, "dispatch")
        needed = walk.recorder.needed["dispatch"]
        seen = {action for action, _ in needed}
        assert {
            "s3:GetObjectVersion", "s3:PutObject", "dynamodb:PutItem", "dynamodb:Query",
            "events:PutEvents", "states:StartExecution", "secretsmanager:GetSecretValue",
        } <= seen  # fmt: skip
        for action in seen - {"s3:ListBucket", "s3:ListBucketVersions"}:
            less = [grant for grant in roles if grant.action != action]
            missing = [need for need in needed if not any(grant.allows(need) for grant in less)]
            assert missing, action
            assert {found for found, _ in missing} == {action}


@pytest.mark.parametrize(
    ("resource", "arn", "allowed"),
    [
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b/a/b.png", True),
        ("arn:aws:s3:::b/*", "arn:aws:s3:::bb/a.png", False),
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b", False),
        ("arn:aws:s3:::b/*/sent/*", "arn:aws:s3:::b/a/sent/image-1.png", True),
        ("arn:aws:s3:::b/*/sent/*", "arn:aws:s3:::b/a/a-1.png", False),
        ("arn:aws:s3:::b/[x]", "arn:aws:s3:::b/x", False),
    ],
)
def test_patterns_of_resources_match_as_iam_s_do(resource: str, arn: str, allowed: bool) -> None:
    assert Grant("s3:GetObject", resource).allows(("s3:GetObject", arn)) is allowed
    assert not Grant("s3:GetObject", resource).allows(("s3:GetObjectVersion", arn))
