"""In-memory stand-ins for every port, and a clock that moves only when told to.

Every method that changes something is an effect, counted by `Effects`, which can let the process die
just before the effect or just after it. The store refuses what the DynamoDB one refuses.
"""

from __future__ import annotations

import hashlib
import io
import json
from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from urllib.parse import quote

from PIL import Image

from retouch.budget import Budget, Sums
from retouch.errors import Conflict, OutcomeUnknown, TryLater
from retouch.jobs import (
    TERMINAL,
    Alert,
    Answer,
    Charge,
    ClaimTask,
    Copied,
    Dequeue,
    DropAnswer,
    Enqueue,
    Job,
    Lane,
    NoteLatest,
    Output,
    PutAlert,
    PutAnswer,
    PutJob,
    PutLane,
    Status,
    Tally,
    Write,
    Writes,
    follows,
    lane_id,
    step_due,
)
from retouch.ports import SETTLE_SECONDS, Errand, Listed, Stored, Sweep
from retouch.provider.answers import ListedTask, TaskAnswer
from retouch.provider.requests import Request
from retouch.registry import MODELS, Json
from retouch.settings import Delivery, Endpoint, Price, Prices, Settings
from retouch.steps.dispatch import dispatch
from retouch.steps.finalize import finalize
from retouch.steps.generate import generate
from retouch.steps.operate import operate
from retouch.steps.poll import poll
from retouch.steps.reconcile import execution_ended, reconcile
from retouch.steps.submit import see_to, submit

WANX = "wanx2.1-imageedit"
QWEN = "qwen-image-edit-plus"
WAN = "wan2.7-image"
WAN_26 = "wan2.6-image"
START = 1_700_000_000.0
RESULT_HOST = "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com"
KEY_BYTES = 1024
"""S3 takes no longer key."""
LISTED_AT_ONCE = 3
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
        self.jobs: dict[str, Job] = {}
        self.lanes_stored: dict[str, Lane] = {}
        self.known_lanes: dict[str, None] = {}
        self.queues: dict[str, list[tuple[str, str]]] = {}
        """Queue keys with their job ids, by lane, in order."""
        self.answers: dict[str, Answer] = {}
        self.claims: dict[str, str] = {}
        self.copies: dict[str, dict[int, Output]] = {}
        self.turns: dict[str, float] = {}
        self.pending_alerts: dict[str, Alert] = {}
        self.alone: dict[str, float] = {}
        self.recorded: dict[str, str] = {}
        self.sweeping = Sweep()
        self.sums: dict[tuple[str, str], Sums] = {}
        """By scope and day."""
        self.tallies: Counter[tuple[str, str]] = Counter()
        self.queues_held: dict[str, None] = {}
        self.made: dict[str, str] = {}
        self.published_versions: dict[str, int] = {}
        self.unpublished_since: dict[tuple[str, int], float] = {}
        self.due: dict[str, float] = {}
        """Steps whose predecessor has ended, and when."""
        self.waiting: dict[str, set[str]] = {}
        self.latest: dict[str, str] = {}
        self._by_status: dict[Status, dict[str, None]] = {}
        self.check_sizes = True
        """Whether items that are too large are refused; looking takes time."""
        self.keep_history = True
        self.history: list[Job] = []
        """Every state of every job, in the order of the commits."""
        self.before_commit: deque[Callable[[], object]] = deque()
        """Each is called once, between a step's reading and its commit: somebody else's doing."""

    def job(self, job_id: str) -> Job | None:
        """See `retouch.ports.Store`."""
        return self.jobs.get(job_id)

    def the_job(self, job_id: str) -> Job:
        """The job, which is there."""
        return self.jobs[job_id]

    def lane(self, lane: str) -> Lane:
        """See `retouch.ports.Store`."""
        return self.lanes_stored.get(lane) or Lane(lane=lane)

    def lanes(self) -> Sequence[str]:
        """See `retouch.ports.Store`."""
        return list(self.known_lanes)

    def note_lane(self, lane: str) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("note_lane"):
            self.known_lanes[lane] = None

    def backlog(self, lane: str, limit: int) -> Sequence[Enqueue]:
        """See `retouch.ports.Store`."""
        return [Enqueue(lane, key, job_id) for key, job_id in self.queues.get(lane, [])[:limit]]

    def answer(self, job_id: str) -> Answer | None:
        """See `retouch.ports.Store`."""
        return self.answers.get(job_id)

    def used_up(self, scope: str, day: str) -> Sums:
        """See `retouch.ports.Store`."""
        return self.sums.get((scope, day), Sums())

    def counted(self, name: str, day: str) -> int:
        """See `retouch.ports.Store`."""
        return self.tallies[name, day]

    def held_queues(self) -> Sequence[str]:
        """See `retouch.ports.Store`."""
        return sorted(self.queues_held)

    def note_held_queue(self, name: str) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("note_held_queue"):
            self.queues_held[name] = None

    def made_by(self, sha256: str) -> str | None:
        """See `retouch.ports.Store`."""
        return self.made.get(sha256)

    def note_made(self, sha256: str, job_id: str, expires_at: int) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("note_made"):
            self.made.setdefault(sha256, job_id)

    def owner_of(self, task_id: str) -> str | None:
        """See `retouch.ports.Store`."""
        return self.claims.get(task_id)

    def copied(self, job_id: str) -> Sequence[Output]:
        """See `retouch.ports.Store`."""
        return list(self.copies.get(job_id, {}).values())

    def note_copied(self, copied: Copied) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("note_copied"):
            noted = self.copies.setdefault(copied.job_id, {})
            noted[copied.output.number or 0] = copied.output

    def reserve(self, name: str, now: float, interval: float, patience: float) -> float | None:
        """See `retouch.ports.Store`."""
        at = max(now, self.turns.get(name, 0.0))
        if at > now + patience:
            return None
        self.turns[name] = at + interval
        return at

    def alerts(self, before: float) -> Sequence[Alert]:
        """See `retouch.ports.Store`."""
        return [alert for alert in self.pending_alerts.values() if alert.at < before]

    def drop_alert(self, alert_id: str) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("drop_alert"):
            self.pending_alerts.pop(alert_id, None)

    def note_lone(self, key: str, now: float, job_id: str | None = None) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("note_lone"):
            if job_id is None:
                self.alone.setdefault(key, now)
            else:
                self.alone.pop(key, None)
                self.recorded[key] = job_id

    def lone(self, before: float, limit: int) -> Sequence[str]:
        """See `retouch.ports.Store`."""
        return [key for key, since in sorted(self.alone.items()) if since < before][:limit]

    def steps_due(self, before: float) -> Sequence[str]:
        """See `retouch.ports.Store`."""
        return [job_id for job_id, since in self.due.items() if since < before]

    def forget_step(self, job_id: str) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("forget_step"):
            self.due.pop(job_id, None)

    def lone_below(self, prefix: str) -> Sequence[str]:
        """See `retouch.ports.Store`."""
        return [key for key in (*self.alone, *self.recorded) if key.startswith(prefix)]

    def record_of_lone(self, key: str) -> str | None:
        """See `retouch.ports.Store`."""
        return self.recorded.get(key)

    def forget_lone(self, key: str) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("forget_lone"):
            self.alone.pop(key, None)
            self.recorded.pop(key, None)

    def sweep(self) -> Sweep:
        """See `retouch.ports.Store`."""
        return self.sweeping

    def note_sweep(self, sweep: Sweep) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("note_sweep"):
            self.sweeping = sweep

    def jobs_in(self, status: Status) -> Iterator[Job]:
        """See `retouch.ports.Store`."""
        found = [self.jobs[job_id] for job_id in self._by_status.get(status, ())]
        return iter(sorted(found, key=lambda job: job.created_at))

    def commit(self, writes: Writes) -> None:
        """See `retouch.ports.Store`."""
        if not writes:
            return
        if self.before_commit:
            self.before_commit.popleft()()
        with self._effects.effect("commit"):
            counted = [(w.scope, w.day) for w in writes if isinstance(w, Charge)]
            assert len(counted) == len(set(counted)), "no transaction writes an item twice"
            for write in writes:
                self._check(write)
            for write in writes:
                self._apply(write)

    def _check(self, write: Write) -> None:
        match write:
            case PutJob(job):
                there = self.jobs.get(job.job_id)
                self._follows(None if there is None else there.version, job.version, job)
            case PutLane(lane):
                stored = self.lanes_stored.get(lane.lane)
                self._follows(None if stored is None else stored.version, lane.version, lane)
            case Dequeue(name, queue_key):
                place = self._place(name, queue_key)
                if place is None:
                    raise Conflict(f"{queue_key} is not in the backlog")
            case ClaimTask(task_id, job_id):
                if self.claims.get(task_id, job_id) != job_id:
                    raise Conflict(f"{task_id} is another job's")
            case Charge(scope, day, _, _, currency, most_images, most_cost):
                sums = self.used_up(scope, day)
                spent = sums.cost.get(currency or "", 0)
                for used, most in ((sums.images, most_images), (spent, most_cost)):
                    if most is not None and used > most:
                        raise Conflict(
                            f"{used} are used up in {scope!r}, at most {most} were to be"
                        )
            case Tally(name, day, most):
                if most is not None and self.tallies[name, day] >= most:
                    raise Conflict(f"{name} is counted {most} times already")
            case NoteLatest(name, _, over):
                if self.latest.get(name) != over:
                    raise Conflict(f"{self.latest.get(name)} is the latest of {name}, not {over}")
            case _:
                pass

    def _follows(self, stored: int | None, version: int, doc: Job | Lane) -> None:
        if stored != (None if version == 1 else version - 1):
            raise Conflict(f"{stored} is stored, and {version} was to follow")
        if self.check_sizes and len(doc.model_dump_json().encode("utf-8")) > ITEM_BYTES:
            raise ValueError("Item size has exceeded the maximum allowed size")

    def _place(self, lane: str, queue_key: str) -> int | None:
        queue = self.queues.get(lane, [])
        at = bisect_left(queue, (queue_key, ""))
        return at if at < len(queue) and queue[at][0] == queue_key else None

    def _apply(self, write: Write) -> None:
        match write:
            case PutJob(job):
                before = self.jobs.get(job.job_id)
                if before is not None:
                    self._by_status[before.status].pop(job.job_id)
                self._by_status.setdefault(job.status, {})[job.job_id] = None
                self.jobs[job.job_id] = job
                self.published_versions.pop(job.job_id, None)
                self.unpublished_since[job.job_id, job.version] = job.updated_at
                if (due := step_due(job)) is not None:
                    self.due[due] = job.updated_at
                if follows(job) and job.status is not Status.WAITING:
                    self.due.pop(job.job_id, None)
                if self.keep_history:
                    self.history.append(job)
            case PutLane(lane):
                self.lanes_stored[lane.lane] = lane
            case Enqueue(name, queue_key, job_id):
                if self._place(name, queue_key) is None:
                    insort(self.queues.setdefault(name, []), (queue_key, job_id))
            case Dequeue(name, queue_key):
                place = self._place(name, queue_key)
                assert place is not None
                del self.queues[name][place]
            case PutAnswer(answer):
                self.answers[answer.job_id] = answer
            case DropAnswer(job_id):
                self.answers.pop(job_id, None)
            case ClaimTask(task_id, job_id):
                self.claims[task_id] = job_id
            case NoteLatest(name, job_id, _):
                self.latest[name] = job_id
            case PutAlert(alert):
                self.pending_alerts[alert.alert_id] = alert
            case Charge(scope, day, images, cost, currency):
                sums = self.used_up(scope, day)
                costs = dict(sums.cost)
                if currency is not None:
                    costs[currency] = costs.get(currency, 0) + cost
                self.sums[scope, day] = Sums(sums.images + images, costs)
            case Tally(name, day):
                self.tallies[name, day] += 1

    def published(self, job_id: str) -> int:
        """See `retouch.ports.Store`."""
        return self.published_versions.get(job_id, 0)

    def unpublished(self, before: float) -> Sequence[tuple[str, int]]:
        """See `retouch.ports.Store`."""
        return sorted(change for change, since in self.unpublished_since.items() if since < before)

    def mark_published(self, job_id: str, *versions: int) -> None:
        """See `retouch.ports.Store`."""
        with self._effects.effect("mark_published"):
            if self.jobs[job_id].version == versions[-1]:
                self.published_versions[job_id] = versions[-1]
            for version in versions:
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

    def terminal_statuses(self, job_id: str) -> list[Status]:
        """Every terminal state the job was ever brought to; more than one is a broken promise."""
        found: list[Status] = []
        for job in self.history:
            # A later note on a closed job is no second end.
            if job.job_id == job_id and job.status in TERMINAL and found[-1:] != [job.status]:
                found.append(job.status)
        return found


@dataclass
class _Version:
    version_id: str
    data: bytes | None
    """None is a delete marker."""
    modified_at: float = START


def _utf8(key: str) -> bytes:
    """What S3 sorts by."""
    return key.encode("utf-8")


class FakeInbox:
    """A versioned bucket."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._names: list[str] = []
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
        if key not in self.objects:
            insort(self._names, key, key=_utf8)
        self.objects.setdefault(key, []).append(_Version(version, data, self._clock.now()))
        return version

    def purge(self, key: str) -> None:
        """Delete every version for good."""
        del self.objects[key]
        self._names.remove(key)

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
        at = bisect_left(self._names, _utf8(prefix), key=_utf8)
        there = []
        for key in self._names[at:]:
            if not key.startswith(prefix):
                break
            if self.objects[key][-1].data is not None:
                there.append(key)
        return there

    def listing(self, after: str | None) -> Sequence[Listed]:
        """See `retouch.ports.Inbox`; three at a time."""
        at = 0 if after is None else bisect_right(self._names, _utf8(after), key=_utf8)
        found = []
        for key in self._names[at:]:
            current = self.objects[key][-1]
            if current.data is not None:
                found.append(Listed(key, current.version_id, current.modified_at))
            if len(found) == LISTED_AT_ONCE:
                break
        return found

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
        """What others do just before a write, and before its condition is looked at."""
        self._count = 0

    def put(self, key: str, data: bytes, content_type: str) -> str | None:
        """See `retouch.ports.Outbox`."""
        self._let_others_go_first()
        with self._effects.effect(f"put {key}"):
            return self._write(key, data, content_type)

    def current(self, key: str) -> str | None:
        """See `retouch.ports.Outbox`."""
        written = self.objects.get(key)
        return f'"{hashlib.md5(written[-1].data).hexdigest()}"' if written else None

    def put_stream(
        self, key: str, chunks: Iterator[bytes], content_type: str, *, over: str | None
    ) -> str | None:
        """See `retouch.ports.Outbox`."""
        data = b"".join(chunks)
        self._let_others_go_first()
        with self._effects.effect(f"put {key}"):
            if self.current(key) != over:
                raise Conflict(f"somebody else wrote {key} first")
            return self._write(key, data, content_type)

    def _let_others_go_first(self) -> None:
        if self.before_put:
            self.before_put.popleft()()

    def _write(self, key: str, data: bytes, content_type: str) -> str:
        if len(key.encode("utf-8")) > KEY_BYTES:
            raise ValueError("KeyTooLongError: Your key is too long")
        if key in self.refused:
            raise TryLater("the bucket refuses the write", code="AccessDenied")
        self._count += 1
        version = f"o{self._count:04d}"
        self.objects.setdefault(key, []).append(Written(version, data, content_type))
        return version

    def read(self, key: str, version_id: str | None) -> bytes | None:
        """See `retouch.ports.Outbox`."""
        written = self.objects.get(key, [])
        if version_id is None:
            return written[-1].data if written else None
        return next((w.data for w in written if w.version_id == version_id), None)

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
    model: str = ""
    """Empty for any."""
    listed: bool = True
    """A synchronous call leaves nothing in the list."""


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
        self.tasks_made: dict[str, FakeTask] = {}
        self.foreign: list[FakeTask] = []
        """Tasks of others with the same account."""
        self.lists: list[tuple[float, str]] = []
        self.next_lists: deque[Exception] = deque()
        self.shows_after = 0.0
        """Seconds until a task shows in the list."""
        self.skew = 0.0
        """How far the provider's clock is ahead of ours."""
        self.cancels: list[str] = []
        self.next_cancels: deque[Exception] = deque()
        self.takes_cancels = False
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
        unfinished = sum(task.ends_at > now for task in self.tasks_made.values())
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
            f"task-{len(self.tasks_made) + 1:04d}",
            call.prompt,
            now,
            now + self.seconds,
            int(parameters["n"]),
            str(request.body["model"]),
        )
        self.tasks_made[task.task_id] = task
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
            task.listed = False
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

    def tasks(self, *, start: float, end: float, model: str) -> Iterable[ListedTask]:
        """See `retouch.ports.Provider`."""
        self.lists.append((self._clock.now(), model))
        if self.next_lists:
            raise self.next_lists.popleft()
        now = self._clock.now()
        made = [*self.tasks_made.values(), *self.foreign]
        return [
            ListedTask(
                task_id=task.task_id,
                status="SUCCEEDED" if task.ends_at <= now else "RUNNING",
                model=model,
                request_id=f"request-{task.task_id}",
                created_at=task.created_at + self.skew,
            )
            for task in made
            if task.listed
            and start <= task.created_at + self.skew <= end
            and now - task.created_at <= 24 * 3600
            and task.model in (model, "")
            and task.created_at + self.shows_after <= now
        ]

    def cancel(self, task_id: str) -> bool:
        """See `retouch.ports.Provider`."""
        with self._effects.effect("cancel"):
            self.cancels.append(task_id)
            if self.next_cancels:
                raise self.next_cancels.popleft()
            if not self.takes_cancels:
                return False
            self.answers[task_id] = TaskAnswer(status="CANCELED")
            self.tasks_made[task_id].ends_at = self._clock.now()
            return True

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
        task = self.tasks_made.get(task_id)
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


class FakeUploads:
    """The queue that `submit` reads."""

    def __init__(self, effects: Effects):
        self._effects = effects
        self.announced: list[Errand] = []

    def announce(self, *errands: Errand) -> None:
        """See `retouch.ports.Uploads`."""
        if not errands:
            return
        with self._effects.effect("announce"):
            self.announced += errands


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
        """Every event."""
        self.notifications: list[Notification] = []

    def tell(self, detail_type: str, details: Sequence[Mapping[str, Json]]) -> None:
        """See `retouch.ports.Notices`."""
        with self._effects.effect("event"):
            self.events += [{"detail-type": detail_type, **detail} for detail in details]

    def notify(
        self, subject: str, message: Mapping[str, Json], attributes: Mapping[str, str]
    ) -> None:
        """See `retouch.ports.Notices`."""
        with self._effects.effect("notify"):
            self.notifications.append(Notification(subject, dict(message), dict(attributes)))

    def statuses(self, job_id: str) -> list[str]:
        """Of the events about a job, in order."""
        return [event["status"] for event in self.events if event.get("job_id") == job_id]


OVERDUE_SECONDS: Final = 900.0
"""The deadline of these settings."""


def settings(**changes: Any) -> Settings:
    """Settings of a stack in Beijing."""
    said: dict[str, Any] = {
        "stack": "retouch-test",
        "table": "table",
        "inbox": "the-inbox",
        "outbox": "the-outbox",
        "kicks_url": "https://sqs.example.com/kicks.fifo",
        "uploads_url": "https://sqs.example.com/uploads",
        "topic_arn": "arn:aws:sns:us-east-1:123456789012:topic",
        "event_bus": "retouch-test",
        "api_key_secret": "secret",
        "providers": {"beijing": Endpoint("https://dashscope.aliyuncs.com/api/v1")},
        "models": MODELS,
        "result_hosts": (),
        "input_delivery": Delivery.PRESIGNED,
        "window_margin": 1,
        "sync_window": 4,
        "account_shared": False,
        "prices": Prices(
            {"beijing": {name: Price(Decimal("0.14"), "CNY") for name in (WANX, QWEN, WAN)}}
        ),
        "budget": Budget(),
        "drop_deadline": OVERDUE_SECONDS,
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
        self.inbox = FakeInbox(self.clock)
        self.outbox = FakeOutbox(self.effects)
        self.provider = FakeProvider(self.clock, self.effects)
        self.kicks = FakeKicks(self.effects)
        self.uploads = FakeUploads(self.effects)
        self.executions = FakeExecutions(self.clock, self.effects)
        self.notices = FakeNotices(self.effects)
        self.next_round = START
        self.errands: list[tuple[float, Errand]] = []
        """What was announced to submit and is still on its way, and when it comes."""

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

    def finalize(self, job_id: str, fence: int, *, seconds: float = 300.0) -> dict[str, Any]:
        """One invocation of finalize, with so long to live."""
        return finalize(self, job_id, fence, self.clock.now() + seconds)

    def reconcile(self, *, seconds: float = 35.0) -> Counter[str]:
        """One round of reconcile, and of submit for what it announced."""
        done = reconcile(self, self.clock.now() + seconds)
        self.deliver()
        return done

    def deliver(self) -> None:
        """What was announced to submit, each at its time."""
        now = self.clock.now()
        while self.uploads.announced or any(at <= now for at, _ in self.errands):
            for errand in self.uploads.announced:
                self.errands.append((now + (SETTLE_SECONDS if errand.settled else 0.0), errand))
            self.uploads.announced.clear()
            due = [told for at, told in self.errands if at <= now]
            self.errands = [(at, told) for at, told in self.errands if at > now]
            for told in due:
                see_to(self, told)

    def operate(self, command: str, job_id: str, task_id: str | None = None) -> dict[str, Any]:
        """A person's command."""
        return operate(self, command, job_id, task_id)

    def run(self, seconds: float) -> None:
        """Let everything work for so long: kicks, executions, and reconcile every minute."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            kicked, self.kicks.sent = dict.fromkeys(self.kicks.sent), []
            for lane in kicked:
                self.dispatch_lane(lane, seconds=75.0)
            for execution in self.executions.running():
                self.turn(execution)
            self.deliver()
            if self.clock.now() >= self.next_round:
                self.next_round = self.clock.now() + 60.0
                self.reconcile()
            self.clock.advance(1.0)

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
                execution.running = self.finalize(job_id, fence)["next"] == "finalize"
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
