"""Jobs, lanes and slots: the state of the system, and every decision that changes it. All pure.

A decision takes what is stored and the time, and gives back what must be stored instead, as writes
that are committed all together or not at all (`retouch.ports.Store.commit`). Each write names the
version it was decided on, so that a decision made on stale state is refused by the store and made
again. Nothing here does input or output, and times are arguments.

    WAITING ─▶ QUEUED ─▶ ADMITTED ─▶ CREATING ─▶ RUNNING ─▶ FINALIZING ─▶ SUCCEEDED
       │          ▲          │          │  │                     │  ├───▶ PARTIAL
       ▼          └──────────┴──────────┘  ▼                     │  └───▶ FAILED
    REJECTED      (refused for now)    UNRESOLVED                └─ a synchronous call skips RUNNING

A slot is held from ADMITTED until the provider's task has ended. In flight are as many tasks as
there are slots; nothing counts them separately.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from retouch.registry import Json, Mode, Quota

ADMITTED_LEASE_SECONDS: Final = 120.0
"""A dispatch that has not recorded its task by then is dead (its function lives for 75 s)."""
RUNNING_LEASE_SECONDS: Final = 300.0
GENERATE_SECONDS: Final = 600.0
"""So long can `generate` live; nobody else may conclude anything from its silence before."""
SYNC_LEASE_SECONDS: Final = GENERATE_SECONDS + 120.0
"""Its retry may be delayed."""
THROTTLE_BASE_SECONDS: Final = 1.0
THROTTLE_MOST_SECONDS: Final = 60.0
NARROW_SECONDS: Final = 1800.0
"""How long a lane keeps to the bare quota after a refusal beyond it."""
PAUSE_SECONDS: Final = 60.0
"""How long a lane waits before it probes an account that the provider refused."""


class Status(StrEnum):
    """Where a job is."""

    WAITING = "WAITING"
    QUEUED = "QUEUED"
    ADMITTED = "ADMITTED"
    CREATING = "CREATING"
    RUNNING = "RUNNING"
    FINALIZING = "FINALIZING"
    UNRESOLVED = "UNRESOLVED"
    SUCCEEDED = "SUCCEEDED"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    CANCELED = "CANCELED"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows."""
        return self in TERMINAL

    @property
    def settled(self) -> bool:
        """Whether nothing follows without a person: terminal, or held for one."""
        return self in TERMINAL or self is Status.UNRESOLVED


TERMINAL: Final = frozenset(
    {Status.SUCCEEDED, Status.PARTIAL, Status.FAILED, Status.REJECTED, Status.CANCELED}
)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Way(StrEnum):
    """How the provider gets an image (contract 6.1)."""

    PUBLIC = "public-url"
    PRESIGNED = "presigned-url"
    DATA = "data-url"
    UPLOAD = "upload"


class Mended(_Stored):
    """What is sent in place of an image that did not meet the model's rules; it lies in the outbox."""

    key: str
    version_id: str | None
    sha256: str
    size: int
    mime: str
    width: int
    height: int
    changes: tuple[str, ...]
    """What was done to it, in order."""


class Source(_Stored):
    """An image or mask of a job, as it was when the job was entered.

    `key` is the inbox key, or the URL of an image that is passed on; then the rest is None.
    """

    key: str
    version_id: str | None = None
    sha256: str | None = None
    size: int | None = None
    mime: str | None = None
    width: int | None = None
    height: int | None = None
    mended: Mended | None = None
    way: Way | None = None
    """How it was sent; None before that."""
    uploaded: str | None = None
    """Its `oss://` URL in the provider's temporary storage, which only the account can use."""
    uploaded_at: float | None = None

    @property
    def is_url(self) -> bool:
        """Whether the image is passed on by its URL."""
        return self.version_id is None and self.sha256 is None


class Finding(_Stored):
    """A problem or a warning: the field's path inside the sidecar, and what is wrong there."""

    field: str
    message: str


class Failure(_Stored):
    """Why a job or one of its images failed, in the provider's words where it gave any."""

    code: str
    message: str
    request_id: str | None = None


class Output(_Stored):
    """One result in the outbox. `version_id` and `sha256` name these very bytes."""

    key: str
    version_id: str | None
    sha256: str
    size: int
    width: int | None = None
    height: int | None = None


class Cost(_Stored):
    """Images billed × price. Decimal numbers as text; None where no price is configured."""

    images: int
    price: str | None
    amount: str | None
    currency: str | None


class Job(_Stored):
    """One sidecar resolved against exact object versions; it makes one provider task.

    Times are Unix seconds. `version` counts the writes of this record; `fence` is the number of its
    latest admission.
    """

    job_id: str
    version: int = 0
    status: Status
    created_at: float
    updated_at: float
    sidecar: str
    sidecar_version: str | None
    folder: str
    model: str | None = None
    function: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    parameters: dict[str, Json] = {}
    images: tuple[Source, ...] = ()
    mask: Source | None = None
    fit: bool = False
    call: Mode | None = None
    """How the provider is called; None for the model's own way."""
    labels: dict[str, str] = {}
    priority: int = 5
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()

    lane: str | None = None
    queue_key: str | None = None
    fence: int = 0
    attempts: int = 0
    """Executions started for the present admission beyond the first."""
    start_at: float | None = None
    admitted_at: float | None = None
    intent_at: float | None = None
    """When the one create call was about to be made."""
    task_id: str | None = None
    create_request_id: str | None = None
    running_at: float | None = None
    ended_at: float | None = None
    provider_status: str | None = None
    refusal: Failure | None = None
    """Why the job had to go back to the backlog, the last time it did."""
    blocked: bool = False
    """Whether that needs somebody: the account is refused, or the provider is not reached."""
    not_fetched: int = 0
    """How often the provider could not download an image."""
    stumbles: int = 0
    """How often the call could not be made though the provider was there: an upload that failed."""
    failure: Failure | None = None
    doubt: str | None = None
    """Set where money may have been spent without a result to show for it."""

    result_request_id: str | None = None
    usage: dict[str, Json] = {}
    outputs: tuple[Output, ...] = ()
    text: Output | None = None
    image_failures: tuple[Failure, ...] = ()
    rewritten_prompts: tuple[str, ...] = ()
    original_prompts: tuple[str, ...] = ()
    provider_times: dict[str, float] = {}
    """When the provider says that the task was submitted, scheduled and ended; Unix seconds."""
    cost: Cost | None = None
    finished_at: float | None = None


class Slot(_Stored):
    """A job's place in its lane's window: until when it holds without news, and its fence."""

    fence: int
    lease_until: float


class Lane(_Stored):
    """The FIFO of jobs that share one quota. `slots` maps a job id to its slot."""

    lane: str
    version: int = 0
    fence: int = 0
    """The last fence given out."""
    slots: dict[str, Slot] = {}
    next_create_at: float = 0.0
    """The earliest start time for the next admission."""
    last_sent_at: float = 0.0
    """When the latest create call was sent, or later: when its answer came."""
    throttles: int = 0
    """Refusals for pace in a row."""
    narrow_until: float = 0.0
    """Until then the provider is taken at its word that it does not queue beyond its quota."""
    paused_until: float | None = None
    paused_by: Failure | None = None


class Answer(_Stored):
    """The provider's answer to a synchronous call, kept until its results are copied.

    It holds signed URLs, which is why it is stored apart and deleted by `finalize`.
    """

    job_id: str
    body: str
    expires_at: int


# --- writes ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PutJob:
    """Store `job`; the stored version must be the one before `job.version` (1: none is stored)."""

    job: Job


@dataclass(frozen=True)
class PutLane:
    """Store `lane`; the stored version must be the one before `lane.version` (1: none is stored)."""

    lane: Lane


@dataclass(frozen=True)
class Enqueue:
    """Add a job to its lane's backlog; `queue_key` orders it."""

    lane: str
    queue_key: str
    job_id: str


@dataclass(frozen=True)
class Dequeue:
    """Take a job out of the backlog; it must be there."""

    lane: str
    queue_key: str


@dataclass(frozen=True)
class PutAnswer:
    """Keep the provider's answer to a synchronous call."""

    answer: Answer


@dataclass(frozen=True)
class DropAnswer:
    """Forget the answer of a job, if there is one."""

    job_id: str


Write = PutJob | PutLane | Enqueue | Dequeue | PutAnswer | DropAnswer
Writes = tuple[Write, ...]


# --- lanes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pace:
    """A lane's limits: tasks in flight, without and with the margin, and seconds between creates."""

    quota: int
    window: int
    interval: float

    @classmethod
    def of(cls, quota: Quota, *, margin: int, sync_window: int) -> Pace:
        """From a model's quota; `margin` widens the window (architecture 3)."""
        if quota.running is None:
            return cls(sync_window, sync_window, quota.interval)
        return cls(quota.running, quota.running + margin, quota.interval)


def lane_id(region: str, model: str) -> str:
    """The lane of a model in a region; also the kick's message group."""
    return f"{region}:{model}"


def region_of(lane: str) -> str:
    """The provider's region of a lane."""
    return lane.partition(":")[0]


def queue_key(priority: int, arrived: float, job_id: str) -> str:
    """Sorts by priority, the highest first, then by arrival."""
    return f"{9 - priority}#{int(arrived * 1000):015d}#{job_id}"


def execution_name(job: Job) -> str:
    """One name for each admission and attempt, so that a repeated start changes nothing."""
    return f"{job.job_id}-{job.fence}-{job.attempts}"


# --- decisions ----------------------------------------------------------------------------------------


def enter(job: Job, lane: str, now: float, *, arrived: float) -> tuple[Job, Writes]:
    """Put a new or waiting job into its lane's backlog."""
    key = queue_key(job.priority, arrived, job.job_id)
    queued = _touch(job, now, status=Status.QUEUED, lane=lane, queue_key=key, missing=())
    return queued, (PutJob(queued), Enqueue(lane, key, job.job_id))


def wait_for(job: Job, now: float, missing: tuple[str, ...]) -> tuple[Job, Writes]:
    """Note which images a job still waits for."""
    waiting = _touch(job, now, status=Status.WAITING, missing=missing)
    return waiting, (PutJob(waiting),)


def settle(job: Job, now: float, status: Status, **changes: object) -> tuple[Job, Writes]:
    """Close a job that holds no slot and is in no backlog."""
    closed = _touch(job, now, status=status, finished_at=now, blocked=False, **changes)
    return closed, (PutJob(closed),)


@dataclass(frozen=True)
class Admit:
    """A free slot and a job for it."""

    job: Job
    writes: Writes
    wait: float
    """Seconds until its create may be made."""


@dataclass(frozen=True)
class Idle:
    """Nothing can be admitted now, and why; a later kick will look again."""

    why: str


def admit(lane: Lane, job: Job, mode: Mode, pace: Pace, now: float) -> Admit | Idle:
    """Whether the job at the head of the backlog gets a slot now.

    The create's time is fixed here, spaced exactly by the lane's interval from the one before.
    """
    if lane.paused_until is not None and now < lane.paused_until:
        return Idle("paused")
    window = pace.quota if now < lane.narrow_until else pace.window
    if len(lane.slots) >= window:
        return Idle("window full")
    start_at = max(now, lane.next_create_at)
    fence = lane.fence + 1
    lease = SYNC_LEASE_SECONDS if mode is Mode.SYNC else ADMITTED_LEASE_SECONDS
    admitted = _touch(
        job,
        now,
        status=Status.ADMITTED,
        fence=fence,
        attempts=0,
        admitted_at=now,
        start_at=start_at,
        intent_at=None,
    )
    held = _put_lane(
        lane,
        fence=fence,
        slots=_leased(lane, admitted, start_at + lease),
        next_create_at=start_at + pace.interval,
        paused_until=None,
    )
    assert job.queue_key is not None  # noqa: S101  a queued job has one
    writes = (PutJob(admitted), held, Dequeue(lane.lane, job.queue_key))
    return Admit(admitted, writes, start_at - now)


def unsent_for(lane: Lane, pace: Pace, now: float) -> float:
    """Seconds until the lane's rate allows the next create call; 0 or less: now."""
    return lane.last_sent_at + pace.interval - now


def intend(job: Job, lane: Lane, now: float) -> tuple[Job, Writes]:
    """Record that the one create call is sent now. The lane remembers it for its pace."""
    intending = _touch(job, now, status=Status.CREATING, intent_at=now)
    return intending, (PutJob(intending), _put_lane(lane, last_sent_at=now))


def created(
    job: Job, lane: Lane, task_id: str, request_id: str | None, now: float
) -> tuple[Job, Writes]:
    """Record the provider's task, its answer having come now."""
    running = _touch(
        job,
        now,
        status=Status.RUNNING,
        task_id=task_id,
        create_request_id=request_id,
        running_at=now,
        refusal=None,
        blocked=False,
    )
    mended = _put_lane(
        lane,
        slots=_leased(lane, job, now + RUNNING_LEASE_SECONDS),
        # The call reached the provider at some moment before its answer; pace from the answer, so
        # that two calls are never closer there than the lane's interval.
        last_sent_at=now,
        throttles=0,
        paused_by=None,
    )
    return running, (PutJob(running), mended)


def requeue(
    job: Job,
    lane: Lane,
    now: float,
    *,
    throttled_from: Pace | None = None,
    paused_by: Failure | None = None,
    refusal: Failure | None = None,
    blocked: bool = False,
    not_fetched: bool = False,
    stumbled: bool = False,
) -> tuple[Job, Writes]:
    """Put a job back where it was in the backlog, after a refusal that made nothing.

    `throttled_from`, the lane's pace, slows it down, and takes its margin away if it was in use;
    `paused_by` stops it for a while because the account is at fault; `not_fetched` says that the
    provider could not download an image, `stumbled` that the call could not be prepared or sent.
    """
    queued = _touch(
        job,
        now,
        status=Status.QUEUED,
        start_at=None,
        intent_at=None,
        refusal=refusal or paused_by or job.refusal,
        blocked=blocked or paused_by is not None,
        not_fetched=job.not_fetched + not_fetched,
        stumbles=job.stumbles + stumbled,
        task_id=None,
        running_at=None,
    )
    update: dict[str, object] = {}
    if job.intent_at is not None:
        update["last_sent_at"] = max(lane.last_sent_at, now)
    if throttled_from is not None:
        backoff = min(THROTTLE_BASE_SECONDS * 2 ** min(lane.throttles, 10), THROTTLE_MOST_SECONDS)
        update |= {"throttles": lane.throttles + 1, "next_create_at": now + backoff}
        if len(lane.slots) > throttled_from.quota:
            update["narrow_until"] = now + NARROW_SECONDS
    if stumbled:
        # Only the job is slow, but it stays at its place; so the lane waits a moment with it.
        update["next_create_at"] = max(lane.next_create_at, now + 2.0**job.stumbles)
    if paused_by is not None:
        update |= {"paused_until": now + PAUSE_SECONDS, "paused_by": paused_by}
    freed = _put_lane(lane, slots=_without(lane, job), **update)
    assert job.lane is not None  # noqa: S101  an admitted job has both
    assert job.queue_key is not None  # noqa: S101
    return queued, (PutJob(queued), freed, Enqueue(job.lane, job.queue_key, job.job_id))


def ended(
    job: Job,
    lane: Lane,
    now: float,
    *,
    provider_status: str,
    failure: Failure | None = None,
    answer: Answer | None = None,
) -> tuple[Job, Writes]:
    """The provider has ended the task, or refused it for good: free the slot, finalize next."""
    finalizing = _touch(
        job,
        now,
        status=Status.FINALIZING,
        provider_status=provider_status,
        failure=failure,
        refusal=None,
        blocked=False,
        ended_at=now,
    )
    # An answer shows that the pace is right; an asynchronous create has shown it before.
    mended = {} if answer is None else {"throttles": 0, "paused_by": None}
    writes: Writes = (PutJob(finalizing), _put_lane(lane, slots=_without(lane, job), **mended))
    return finalizing, (*writes, PutAnswer(answer)) if answer is not None else writes


def put_off(job: Job, now: float, why: Failure) -> tuple[Job, Writes]:
    """Note that a job cannot go on until somebody mends something."""
    waiting = _touch(job, now, refusal=why, blocked=True)
    return waiting, (PutJob(waiting),)


def unresolved(job: Job, lane: Lane, now: float, doubt: str) -> tuple[Job, Writes]:
    """A billed call whose outcome is unknown: hold the job for a person, free the slot."""
    held = _touch(job, now, status=Status.UNRESOLVED, doubt=doubt, ended_at=now)
    return held, (PutJob(held), _put_lane(lane, slots=_without(lane, job)))


def renew(job: Job, lane: Lane, now: float) -> Writes:
    """Extend the slot's lease once half of it is gone; nothing to write before that."""
    slot = lane.slots.get(job.job_id)
    if slot is None or slot.fence != job.fence:
        return ()
    if slot.lease_until - now > RUNNING_LEASE_SECONDS / 2:
        return ()
    return (_put_lane(lane, slots=_leased(lane, job, now + RUNNING_LEASE_SECONDS)),)


def extended(job: Job, lane: Lane, now: float) -> Writes:
    """Extend a slot's lease whatever is left of it, unless the slot is another admission's."""
    slot = lane.slots.get(job.job_id)
    if slot is None or slot.fence != job.fence:
        return ()
    return (_put_lane(lane, slots=_leased(lane, job, now + RUNNING_LEASE_SECONDS)),)


def refused(job: Job, lane: Lane, now: float, failure: Failure) -> tuple[Job, Writes]:
    """Close an admitted job for which the provider made no task: free the slot."""
    closed = _touch(job, now, status=Status.FAILED, failure=failure, ended_at=now, finished_at=now)
    return closed, (PutJob(closed), _put_lane(lane, slots=_without(lane, job)))


def restarted(job: Job, now: float) -> tuple[Job, Writes]:
    """Count one more execution for the same admission."""
    again = _touch(job, now, attempts=job.attempts + 1)
    return again, (PutJob(again),)


def expired(lane: Lane, now: float) -> tuple[str, ...]:
    """The jobs whose slots have had no news for longer than their lease."""
    return tuple(job_id for job_id, slot in lane.slots.items() if slot.lease_until <= now)


def orphaned(lane: Lane, job_id: str, job: Job | None) -> Writes:
    """Free a slot whose job no longer holds it."""
    slot = lane.slots.get(job_id)
    if slot is None or (job is not None and job.fence == slot.fence and holds_slot(job)):
        return ()
    slots = {name: kept for name, kept in lane.slots.items() if name != job_id}
    return (_put_lane(lane, slots=slots),)


def holds_slot(job: Job) -> bool:
    """Whether a job in this state has a place in its lane's window."""
    return job.status in (Status.ADMITTED, Status.CREATING, Status.RUNNING)


def _touch(job: Job, now: float, **changes: object) -> Job:
    return job.model_copy(update={"version": job.version + 1, "updated_at": now, **changes})


def _put_lane(lane: Lane, **changes: object) -> PutLane:
    return PutLane(lane.model_copy(update={"version": lane.version + 1, **changes}))


def _without(lane: Lane, job: Job) -> dict[str, Slot]:
    """The lane's slots without this admission's; never without another's."""
    return {
        name: slot
        for name, slot in lane.slots.items()
        if name != job.job_id or slot.fence != job.fence
    }


def _leased(lane: Lane, job: Job, until: float) -> dict[str, Slot]:
    return {**lane.slots, job.job_id: Slot(fence=job.fence, lease_until=until)}


def iso(moment: float | None) -> str | None:
    """A Unix time as ISO 8601 in UTC with milliseconds, for people and events."""
    if moment is None:
        return None
    return (
        datetime.fromtimestamp(moment, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
