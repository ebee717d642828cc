"""In-memory stand-ins for every port, and a clock that moves only when told to.

Every method that changes something is an effect, counted by `Effects`, which can let the process die
just before the effect or just after it. The store refuses what the DynamoDB one refuses.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any
from urllib.parse import quote

from PIL import Image

from retouch.errors import Conflict, OutcomeUnknown, TryLater
from retouch.jobs import (
    TERMINAL,
    Answer,
    Dequeue,
    DropAnswer,
    Enqueue,
    Job,
    Lane,
    PutAnswer,
    PutJob,
    PutLane,
    Status,
    Writes,
    lane_id,
)
from retouch.ports import Stored
from retouch.provider.answers import TaskAnswer
from retouch.provider.requests import Request
from retouch.registry import MODELS, Json
from retouch.settings import Delivery, Endpoint, Price, Prices, Settings
from retouch.steps.dispatch import dispatch
from retouch.steps.finalize import finalize
from retouch.steps.generate import generate
from retouch.steps.poll import poll
from retouch.steps.reconcile import execution_ended
from retouch.steps.submit import submit

WANX = "wanx2.1-imageedit"
QWEN = "qwen-image-edit-plus"
WAN = "wan2.7-image"
WAN_26 = "wan2.6-image"
START = 1_700_000_000.0
RESULT_HOST = "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com"
KEY_BYTES = 1024
"""S3 takes no longer key."""
ITEM_BYTES = 400 * 1024
"""DynamoDB takes no larger item."""


# --- pictures ------------------------------------------------------------------------------------


def picture(
    width: int = 512,
    height: int = 512,
    colour: str = "white",
    *,
    kind: str = "PNG",
    mode: str = "RGB",
) -> bytes:
    """A plain picture."""
    file = io.BytesIO()
    Image.new(mode, (width, height), colour).save(file, kind)
    return file.getvalue()


def mask_picture(width: int = 512, height: int = 512) -> bytes:
    """Black, with a white square."""
    image = Image.new("RGB", (width, height), "black")
    image.paste("white", (10, 10, 100, 100))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


PHOTO = picture()


def sha256(data: bytes) -> str:
    """As the records spell it."""
    return hashlib.sha256(data).hexdigest()


def sidecar_json(model: str = WANX, **fields: Any) -> bytes:
    """A sidecar that is right in every way but what `fields` makes wrong."""
    said: dict[str, Any] = {"model": model, "prompt": "make the sky red"}
    if model == WANX:
        said["function"] = "description_edit"
    return json.dumps(said | fields, ensure_ascii=False).encode("utf-8")


# --- dying -----------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process dies here. No code of the project can catch it by accident."""


class Moment(Enum):
    """Where a crash falls: before its effect, or after it and before anybody knows."""

    BEFORE = "before"
    AFTER = "after"


@dataclass
class Effects:
    """Counts effects, and crashes where the plan says so."""

    log: list[str] = field(default_factory=list)
    plan: Callable[[int, str], Moment | None] | None = None
    throttle: Callable[[str], bool] | None = None

    def crash_at(self, number: int, moment: Moment) -> None:
        """Die at the `number`th effect from now, counted from 1."""
        target = len(self.log) + number
        self.plan = lambda at, _: moment if at == target else None

    def heal(self) -> None:
        """No crash and no throttle from now on."""
        self.plan = None
        self.throttle = None

    @contextmanager
    def effect(self, name: str) -> Iterator[None]:
        """One effect."""
        self.log.append(name)
        moment = self.plan(len(self.log), name) if self.plan is not None else None
        if moment is Moment.BEFORE:
            raise Crash(f"before {name}")
        if self.throttle is not None and self.throttle(name):
            raise TryLater("the table is throttled", code="TableThrottled")
        yield
        if moment is Moment.AFTER:
            raise Crash(f"after {name}")


# --- ports -----------------------------------------------------------------------------------------


@dataclass
class FakeClock:
    """Time that passes when somebody sleeps."""

    time: float = START
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        """See `retouch.ports.Clock`."""
        return self.time

    def sleep(self, seconds: float) -> None:
        """See `retouch.ports.Clock`."""
        self.slept.append(seconds)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds


class FakeStore:
    """The table, with DynamoDB's conditions: all writes of a commit hold, or none is made."""

    def __init__(self, effects: Effects):
        self._effects = effects
        self.jobs: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.lanes: dict[str, str] = {}
        self.lane_versions: dict[str, int] = {}
        self.queues: dict[str, dict[str, str]] = {}
        self.answers: dict[str, str] = {}
        self.published_versions: dict[str, int] = {}
        self.unpublished_since: dict[tuple[str, int], float] = {}
        self.waiting: dict[str, set[str]] = {}
        self.latest: dict[str, str] = {}
        self.history: list[Job] = []
        """Every state of every job, in the order of the commits."""
        self.before_commit: deque[Callable[[], object]] = deque()
        """Each is called once, between a step's reading and its commit: somebody else's doing."""

    def job(self, job_id: str) -> Job | None:
        """See `retouch.ports.Store`."""
        doc = self.jobs.get(job_id)
        return None if doc is None else Job.model_validate_json(doc)

    def the_job(self, job_id: str) -> Job:
        """The job, which is there."""
        job = self.job(job_id)
        assert job is not None
        return job

    def lane(self, lane: str) -> Lane:
        """See `retouch.ports.Store`."""
        doc = self.lanes.get(lane)
        return Lane(lane=lane) if doc is None else Lane.model_validate_json(doc)

    def backlog(self, lane: str, limit: int) -> Sequence[Enqueue]:
        """See `retouch.ports.Store`."""
        entries = sorted(self.queues.get(lane, {}).items())
        return [Enqueue(lane, key, job_id) for key, job_id in entries[:limit]]

    def answer(self, job_id: str) -> Answer | None:
        """See `retouch.ports.Store`."""
        doc = self.answers.get(job_id)
        return None if doc is None else Answer.model_validate_json(doc)

    def jobs_in(self, status: Status) -> Iterator[Job]:
        """See `retouch.ports.Store`."""
        every = [Job.model_validate_json(doc) for doc in self.jobs.values()]
        found = [job for job in every if job.status is status]
        return iter(sorted(found, key=lambda job: job.created_at))

    def commit(self, writes: Writes) -> None:
        """See `retouch.ports.Store`."""
        if not writes:
            return
        if self.before_commit:
            self.before_commit.popleft()()
        with self._effects.effect("commit"):
            for write in writes:
                match write:
                    case PutJob(job):
                        stored = self.versions.get(job.job_id)
                        self._check(stored, job.version, job.model_dump_json())
                    case PutLane(lane):
                        stored = self.lane_versions.get(lane.lane)
                        self._check(stored, lane.version, lane.model_dump_json())
                    case Dequeue(name, queue_key):
                        if queue_key not in self.queues.get(name, {}):
                            raise Conflict(f"{queue_key} is not in the backlog")
                    case _:
                        pass
            for write in writes:
                self._apply(write)

    @staticmethod
    def _check(stored: int | None, version: int, doc: str) -> None:
        if stored != (None if version == 1 else version - 1):
            raise Conflict(f"{stored} is stored, and {version} was to follow")
        if len(doc.encode("utf-8")) > ITEM_BYTES:
            raise ValueError("Item size has exceeded the maximum allowed size")

    def _apply(self, write: object) -> None:
        match write:
            case PutJob(job):
                self.jobs[job.job_id] = job.model_dump_json()
                self.versions[job.job_id] = job.version
                self.published_versions.pop(job.job_id, None)
                self.unpublished_since[job.job_id, job.version] = job.updated_at
                self.history.append(job)
            case PutLane(lane):
                self.lanes[lane.lane] = lane.model_dump_json()
                self.lane_versions[lane.lane] = lane.version
            case Enqueue(name, queue_key, job_id):
                self.queues.setdefault(name, {})[queue_key] = job_id
            case Dequeue(name, queue_key):
                del self.queues[name][queue_key]
            case PutAnswer(answer):
                self.answers[answer.job_id] = answer.model_dump_json()
            case DropAnswer(job_id):
                self.answers.pop(job_id, None)

    def published(self, job_id: str) -> int:
        """See `retouch.ports.Store`."""
        return self.published_versions.get(job_id, 0)

    def unpublished(self, before: float) -> Sequence[tuple[str, int]]:
        """See `retouch.ports.Store`."""
        return sorted(change for change, since in self.unpublished_since.items() if since < before)

    def mark_published(self, job_id: str, version: int) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("mark_published"):
            if self.versions.get(job_id) == version:
                self.published_versions[job_id] = version
            self.unpublished_since.pop((job_id, version), None)

    def await_images(self, sidecar: str, keys: Iterable[str]) -> None:
        """See `retouch.ports.Store`."""
        for key in keys:
            with self._effects.effect("await_image"):
                self.waiting.setdefault(key, set()).add(sidecar)

    def awaiting(self, key: str) -> Sequence[str]:
        """See `retouch.ports.Store`."""
        return sorted(self.waiting.get(key, ()))

    def forget_awaiting(self, sidecar: str, keys: Iterable[str]) -> None:
        """See `retouch.ports.Store`."""
        for key in keys:
            with self._effects.effect("forget_awaiting"):
                self.waiting.get(key, set()).discard(sidecar)

    def latest_job_of(self, sidecar: str) -> str | None:
        """See `retouch.ports.Store`."""
        return self.latest.get(sidecar)

    def note_latest_job_of(self, sidecar: str, job_id: str) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("note_latest"):
            self.latest[sidecar] = job_id

    def terminal_statuses(self, job_id: str) -> list[Status]:
        """Every terminal state the job was ever brought to; more than one is a broken promise."""
        return [j.status for j in self.history if j.job_id == job_id and j.status in TERMINAL]


@dataclass
class _Version:
    version_id: str
    data: bytes | None
    """None is a delete marker."""


class FakeInbox:
    """A versioned bucket."""

    def __init__(self) -> None:
        self.read_keys: list[str] = []
        self.objects: dict[str, list[_Version]] = {}
        self._count = 0
        self.presigned: list[tuple[str, str, str, int]] = []
        self.heads: list[str] = []
        self.before_read: deque[Callable[[], object]] = deque()

    def put(self, key: str, data: bytes | None) -> str:
        """Drop an object, or a delete marker; its version id."""
        self._count += 1
        version = f"v{self._count:04d}"
        self.objects.setdefault(key, []).append(_Version(version, data))
        return version

    def purge(self, key: str) -> None:
        """Delete every version for good."""
        del self.objects[key]

    def head(self, key: str) -> Stored | None:
        """See `retouch.ports.Inbox`."""
        self.heads.append(key)
        versions = self.objects.get(key)
        if not versions or versions[-1].data is None:
            return None
        return Stored(key, versions[-1].version_id, len(versions[-1].data))

    def read(self, key: str, version_id: str) -> bytes | None:
        """See `retouch.ports.Inbox`."""
        self.read_keys.append(key)
        if self.before_read:
            self.before_read.popleft()()
        for version in self.objects.get(key, []):
            if version.version_id == version_id:
                return version.data
        return None

    def keys(self, prefix: str) -> Sequence[str]:
        """See `retouch.ports.Inbox`."""
        there = [
            key
            for key, versions in self.objects.items()
            if key.startswith(prefix) and versions[-1].data is not None
        ]
        return sorted(there, key=lambda key: key.encode("utf-8"))

    def presign(self, key: str, version_id: str, content_type: str, seconds: int) -> str:
        """See `retouch.ports.Inbox`."""
        self.presigned.append((key, version_id, content_type, seconds))
        return f"https://inbox.example.com/{key}?versionId={version_id}&Signature=secret"


@dataclass(frozen=True)
class Written:
    """One version of an object in the outbox."""

    version_id: str
    data: bytes
    content_type: str


class FakeOutbox:
    """A versioned bucket to write to."""

    def __init__(self, effects: Effects):
        self._effects = effects
        self.objects: dict[str, list[Written]] = {}
        self.refused: set[str] = set()
        """Keys that the bucket refuses to write."""
        self.before_put: deque[Callable[[], object]] = deque()
        self._count = 0

    def put(self, key: str, data: bytes, content_type: str) -> str | None:
        """See `retouch.ports.Outbox`."""
        if self.before_put:
            self.before_put.popleft()()
        with self._effects.effect(f"put {key}"):
            if len(key.encode("utf-8")) > KEY_BYTES:
                raise ValueError("KeyTooLongError: Your key is too long")
            if key in self.refused:
                raise TryLater("the bucket refuses the write", code="AccessDenied")
            self._count += 1
            version = f"o{self._count:04d}"
            self.objects.setdefault(key, []).append(Written(version, data, content_type))
            return version

    def put_stream(self, key: str, chunks: Iterator[bytes], content_type: str) -> str | None:
        """See `retouch.ports.Outbox`."""
        return self.put(key, b"".join(chunks), content_type)

    def read(self, key: str, version_id: str | None) -> bytes | None:
        """See `retouch.ports.Outbox`."""
        return next((w.data for w in self.objects.get(key, ()) if w.version_id == version_id), None)

    def presign(self, key: str, version_id: str | None, content_type: str, seconds: int) -> str:
        """See `retouch.ports.Outbox`."""
        return (
            f"https://outbox.example.com/{quote(key)}?versionId={version_id}&X-Amz-Signature=s3cr3t"
        )

    def data(self, key: str) -> bytes:
        """The bytes that are there now."""
        return self.objects[key][-1].data

    def record(self, folder: str) -> dict[str, Any]:
        """The `job.json` that is there now."""
        loaded = json.loads(self.data(f"{folder}/job.json"))
        assert isinstance(loaded, dict)
        return loaded

    def results(self) -> list[str]:
        """Keys of everything but records."""
        return sorted(key for key in self.objects if not key.endswith("/job.json"))


@dataclass(frozen=True)
class Lost:
    """The next create's answer is lost; `made` says whether there is a task all the same."""

    made: bool


@dataclass
class FakeTask:
    """A task at the provider."""

    task_id: str
    prompt: str
    created_at: float
    ends_at: float
    images: int


@dataclass(frozen=True)
class Call:
    """A call that bills, as it arrived."""

    at: float
    request: Request
    region: str = ""

    @property
    def prompt(self) -> str:
        """Which job it was."""
        content = self.request.body["input"]
        assert isinstance(content, dict)
        if "prompt" in content:
            return str(content["prompt"])
        messages: Any = content["messages"]
        return str(messages[0]["content"][-1]["text"])


@dataclass(frozen=True)
class Upload:
    """What was put into the provider's temporary storage."""

    region: str
    model: str
    name: str
    data: bytes
    mime: str


class FakeProvider:
    """A provider whose answers are scripted; without a script every task succeeds after a while."""

    def __init__(self, clock: FakeClock, effects: Effects):
        self._clock = clock
        self._effects = effects
        self.region = ""
        """The one that was asked for last."""
        self.calls: list[Call] = []
        """Every create and every synchronous call that reached the provider."""
        self.next_calls: deque[Exception | Lost] = deque()
        self.next_bodies: deque[str] = deque()
        self.tasks: dict[str, FakeTask] = {}
        self.seconds = 10.0
        self.most_in_flight: int | None = None
        """Unfinished tasks beyond which a create is refused."""
        self.images = 1
        self.billed: list[str] = []
        """Prompts of what was made, once for each task or synchronous call."""
        self.queries: list[tuple[float, str]] = []
        self.next_queries: deque[Exception] = deque()
        self.answers: dict[str, TaskAnswer | Exception] = {}
        """Instead of what the task would say, by task id."""
        self.files: dict[str, Sequence[bytes | Exception]] = {}
        """Chunks of results, by URL; an exception breaks the download there."""
        self.refused_urls: dict[str, Exception] = {}
        self.fetched: list[str] = []
        self.uploads: list[Upload] = []
        self.next_uploads: deque[Exception | float] = deque()
        """An exception that an upload ends with, or the seconds that it takes."""
        self.during_call: deque[Callable[[], object]] = deque()

    def __call__(self, region: str) -> FakeProvider:
        """See `retouch.ports.App.provider`: the same one stands for every region."""
        self.region = region
        return self

    def upload(self, model: str, name: str, data: bytes, mime: str) -> str:
        """See `retouch.ports.Provider`."""
        with self._effects.effect("upload"):
            scripted = self.next_uploads.popleft() if self.next_uploads else 0.0
            if isinstance(scripted, Exception):
                raise scripted
            self._clock.advance(scripted)
            assert name not in {upload.name for upload in self.uploads}, (
                "no name can be written twice"
            )
            self.uploads.append(Upload(self.region, model, name, data, mime))
            return f"oss://temporary/{name}"

    def _arrive(self, request: Request) -> None:
        self.calls.append(Call(self._clock.now(), request, self.region))
        if self.during_call:
            self.during_call.popleft()()
        now = self._clock.now()
        unfinished = sum(task.ends_at > now for task in self.tasks.values())
        if self.most_in_flight is not None and unfinished >= self.most_in_flight:
            raise TryLater("too many concurrent tasks", code="Throttling.Concurrency")
        if not self.next_calls:
            return
        scripted = self.next_calls.popleft()
        if isinstance(scripted, Lost):
            if scripted.made:
                self._make(request)
            raise OutcomeUnknown("no answer to a call that bills: ReadTimeout")
        raise scripted

    def _make(self, request: Request) -> FakeTask:
        now = self._clock.now()
        call = Call(now, request, self.region)
        parameters: Any = request.body["parameters"]
        task = FakeTask(
            f"task-{len(self.tasks) + 1:04d}",
            call.prompt,
            now,
            now + self.seconds,
            int(parameters["n"]),
        )
        self.tasks[task.task_id] = task
        self.billed.append(call.prompt)
        return task

    def create(self, request: Request) -> tuple[str, str | None]:
        """See `retouch.ports.Provider`."""
        with self._effects.effect("create"):
            self._arrive(request)
            task = self._make(request)
            return task.task_id, f"request-{task.task_id}"

    def generate(self, request: Request) -> str:
        """See `retouch.ports.Provider`."""
        with self._effects.effect("generate"):
            self._arrive(request)
            task = self._make(request)
            if self.next_bodies:
                return self.next_bodies.popleft()
            content = [{"image": url} for url in self.urls(task.task_id, task.images)]
            return json.dumps(
                {
                    "output": {"choices": [{"message": {"content": content}}]},
                    "usage": {"image_count": len(content)},
                    "request_id": "request-sync",
                }
            )

    def query(self, task_id: str) -> TaskAnswer:
        """See `retouch.ports.Provider`."""
        self.queries.append((self._clock.now(), task_id))
        if self.next_queries:
            raise self.next_queries.popleft()
        scripted = self.answers.get(task_id)
        if isinstance(scripted, Exception):
            raise scripted
        if scripted is not None:
            return scripted
        task = self.tasks.get(task_id)
        now = self._clock.now()
        if task is None or now - task.created_at > 24 * 3600:
            return TaskAnswer(status="UNKNOWN")
        if now < task.ends_at:
            return TaskAnswer(status="RUNNING")
        return TaskAnswer(
            status="SUCCEEDED",
            request_id=f"result-{task_id}",
            images=self.urls(task_id, task.images),
            usage={"image_count": task.images},
        )

    @staticmethod
    def urls(task_id: str, count: int) -> tuple[str, ...]:
        """Signed, as the provider's are."""
        return tuple(f"{RESULT_HOST}/{task_id}/{i + 1}.png?Signature=x" for i in range(count))

    @contextmanager
    def fetch(self, url: str) -> Iterator[Iterator[bytes]]:
        """See `retouch.ports.Provider`."""
        self.fetched.append(url)
        if (refusal := self.refused_urls.get(url)) is not None:
            raise refusal
        yield self._chunks(url)

    def _chunks(self, url: str) -> Iterator[bytes]:
        for chunk in self.files.get(url, (PHOTO,)):
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


class FakeKicks:
    """A queue of hints."""

    def __init__(self, effects: Effects):
        self._effects = effects
        self.sent: list[str] = []

    def kick(self, lane: str) -> None:
        """See `retouch.ports.Kicks`."""
        with self._effects.effect("kick"):
            self.sent.append(lane)


@dataclass
class FakeExecution:
    """One run of the wait loop."""

    name: str
    payload: dict[str, Any]
    due: float
    running: bool = True
    failures: int = 0
    finalizing: bool = False


class FakeExecutions:
    """The state machine: what was started, and whether it still runs."""

    def __init__(self, clock: FakeClock, effects: Effects):
        self._clock = clock
        self._effects = effects
        self.started: dict[str, FakeExecution] = {}
        self.fail_starts = 0

    def start(self, name: str, payload: Mapping[str, Json]) -> None:
        """See `retouch.ports.Executions`."""
        with self._effects.effect("start"):
            if self.fail_starts > 0:
                self.fail_starts -= 1
                raise TryLater("the state machine is throttled", code="ThrottlingException")
            if name in self.started:
                return
            kept: dict[str, Any] = dict(payload)
            self.started[name] = FakeExecution(name, kept, self._clock.now() + kept["wait_seconds"])

    def alive(self, name: str) -> bool:
        """See `retouch.ports.Executions`."""
        return name in self.started and self.started[name].running

    def running(self) -> list[FakeExecution]:
        """Those that run now."""
        return [execution for execution in self.started.values() if execution.running]


@dataclass(frozen=True)
class Notification:
    """One message to the topic."""

    subject: str
    message: dict[str, Any]
    attributes: dict[str, str]


class FakeNotices:
    """What the world has heard."""

    def __init__(self, effects: Effects):
        self._effects = effects
        self.events: list[dict[str, Any]] = []
        self.notifications: list[Notification] = []

    def event(self, detail_type: str, detail: Mapping[str, Json]) -> None:
        """See `retouch.ports.Notices`."""
        with self._effects.effect("event"):
            self.events.append({"detail-type": detail_type, **detail})

    def notify(
        self, subject: str, message: Mapping[str, Json], attributes: Mapping[str, str]
    ) -> None:
        """See `retouch.ports.Notices`."""
        with self._effects.effect("notify"):
            self.notifications.append(Notification(subject, dict(message), dict(attributes)))

    def statuses(self, job_id: str) -> list[str]:
        """Of the events about a job, in order."""
        return [event["status"] for event in self.events if event["job_id"] == job_id]


def settings(**changes: Any) -> Settings:
    """Settings of a stack in Beijing."""
    said: dict[str, Any] = {
        "stack": "retouch-test",
        "table": "table",
        "inbox": "the-inbox",
        "outbox": "the-outbox",
        "kicks_url": "https://sqs.example.com/kicks.fifo",
        "topic_arn": "arn:aws:sns:us-east-1:123456789012:topic",
        "event_bus": "retouch-test",
        "api_key_secret": "secret",
        "providers": {"beijing": Endpoint("https://dashscope.aliyuncs.com/api/v1")},
        "models": MODELS,
        "result_hosts": (),
        "input_delivery": Delivery.PRESIGNED,
        "window_margin": 1,
        "sync_window": 4,
        "prices": Prices(
            {"beijing": {name: Price(Decimal("0.14"), "CNY") for name in (WANX, QWEN, WAN)}}
        ),
        "state_machine_arn": "arn:aws:states:us-east-1:123456789012:stateMachine:edit-job",
    }
    return Settings(**said | changes)


# --- all of it ---------------------------------------------------------------------------------------


class World:
    """`retouch.ports.App` over the fakes, and what its users do to it."""

    def __init__(self, **changes: Any):
        self.settings = settings(**changes)
        self.effects = Effects()
        self.clock = FakeClock()
        self.store = FakeStore(self.effects)
        self.inbox = FakeInbox()
        self.outbox = FakeOutbox(self.effects)
        self.provider = FakeProvider(self.clock, self.effects)
        self.kicks = FakeKicks(self.effects)
        self.executions = FakeExecutions(self.clock, self.effects)
        self.notices = FakeNotices(self.effects)

    def lane_of(self, model: str) -> str:
        """The lane of a model in this stack."""
        region = next(r for r in self.settings.regions if MODELS[model].calls_in(r))
        return lane_id(region, model)

    def drop(self, key: str, data: bytes) -> tuple[str, ...]:
        """Drop an object and deliver its event."""
        self.inbox.put(key, data)
        return submit(self, key)

    def enter(self, name: str = "shoes/red", model: str = WANX, **fields: Any) -> Job:
        """A photo with its sidecar: a job in its lane's backlog, later than any before it."""
        self.clock.advance(0.01)
        self.inbox.put(f"{name}.png", PHOTO)
        (job_id,) = self.drop(f"{name}.png.json", sidecar_json(model, **fields))
        job = self.store.the_job(job_id)
        assert job.status is Status.QUEUED, job.problems
        return job

    def dispatch(self, model: str = WANX, *, seconds: float = 900.0) -> int:
        """Serve a kick of the lane that a model has here."""
        return self.dispatch_lane(self.lane_of(model), seconds=seconds)

    def dispatch_lane(self, lane: str, *, seconds: float = 900.0) -> int:
        """Serve a lane's kick."""
        return dispatch(self, lane, self.clock.now() + seconds)

    def running_job(self, name: str = "shoes/red", model: str = WANX, **fields: Any) -> Job:
        """A job whose task is at the provider."""
        job = self.enter(name, model, **fields)
        self.dispatch(model)
        job = self.store.the_job(job.job_id)
        assert job.status is Status.RUNNING
        return job

    def finalizing_job(self, name: str = "shoes/red", model: str = WANX, **fields: Any) -> Job:
        """A job whose task has ended well."""
        job = self.running_job(name, model, **fields)
        self.clock.advance(self.provider.seconds + 1)
        poll(self, job.job_id, job.fence)
        job = self.store.the_job(job.job_id)
        assert job.status is Status.FINALIZING
        return job

    def admitted_sync_job(self, name: str = "shoes/red", **fields: Any) -> Job:
        """A synchronous model's job whose execution has been started."""
        job = self.enter(name, QWEN, **fields)
        self.dispatch(QWEN)
        job = self.store.the_job(job.job_id)
        assert job.status is Status.ADMITTED
        return job

    def generate(self, job_id: str, fence: int, *, seconds: float = 600.0) -> dict[str, Any]:
        """One invocation of generate, with so long to live."""
        return generate(self, job_id, fence, self.clock.now() + seconds)

    def turn(self, execution: FakeExecution) -> None:
        """One turn of the state machine: a question or a call, or finalizing."""
        if not execution.running or execution.due > self.clock.now():
            return
        job_id, fence = execution.payload["job_id"], execution.payload["fence"]
        try:
            if execution.finalizing:
                finalize(self, job_id, fence)
                execution.running = False
                return
            answer: dict[str, Any] = (
                self.generate(job_id, fence)
                if execution.payload["mode"] == "sync"
                else poll(self, job_id, fence)
            )
        except (Crash, TryLater):
            execution.failures += 1
            execution.due = self.clock.now() + 2.0**execution.failures
            if execution.failures > 8:
                execution.running = False
                execution_ended(self, job_id, fence)
            return
        execution.failures = 0
        if answer["next"] == "finalize":
            execution.finalizing = True
        elif answer["next"] == "stop":
            execution.running = False
        else:
            execution.payload = answer
            execution.due = self.clock.now() + answer["wait_seconds"]
