"""Jobs, lanes and slots: the state of the system, and every decision that changes it. All pure.

A decision takes what is stored and the time, and gives back what must be stored instead, as writes
that are committed all together or not at all (`retouch.ports.Store.commit`). Each write names the
version it was decided on, so that a decision made on stale state is refused by the store and made
again. Nothing here does input or output, and times are arguments.

    WAITING ─▶ QUEUED ─▶ ADMITTED ─▶ CREATING ─▶ RUNNING ─▶ FINALIZING ─▶ SUCCEEDED
     │   │       ▲ ▲         │        │    │        ▲            │  ├───▶ PARTIAL
     │   ▼       │ └─────────┴────────┘    ▼        │            │  └───▶ FAILED
     │  HELD ────┤  (refused for now)  RESOLVING ───┘ (found)    └─ a synchronous call skips RUNNING
     ▼           └───────────────────────┘ │
    REJECTED            (never made)       ▼
                                       UNRESOLVED ─▶ QUEUED, RUNNING or FAILED, as a person says

HELD is what is complete and does not fit into a budget: for room, by itself, or for a person.
CANCELED follows, on request, from every state before RUNNING, and from RUNNING where the provider
still takes the cancel. A slot is held from ADMITTED until the provider's task has ended. In flight
are as many tasks as there are slots; nothing counts them separately.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from retouch.budget import Budget, Hold, day_of, millionths
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
NARROW_BASE_SECONDS: Final = 60.0
NARROW_MOST_SECONDS: Final = 1800.0
"""How long a lane keeps to the bare quota after a refusal beyond it: twice as long after each further
one, until a create beyond it is taken."""
PAUSE_SECONDS: Final = 60.0
"""How long a lane waits before it probes an account that the provider refused."""
MOST_STRETCH: Final = 16.0
"""How much slower than its quota a throttled lane becomes at the most."""
_RECOVERY: Final = 0.8
"""What each create that is taken leaves of that."""
CREATE_SECONDS: Final = 102.0
"""A create call has had its effect by then, or never will: the function that makes it lives for 75 s,
however slow it was between its intent and the call, and a call is given up after 27 s."""
SKEW_SECONDS: Final = 6.0
"""How far the provider's clock and one of ours may be apart; 5 s with room for rounding."""
QUIET_SECONDS: Final = 3 * SKEW_SECONDS
"""So long does a lane send nothing after a create whose answer was lost, whatever clock is asked:
the lost task can then be told from the next one by its time alone."""
SETTLE_SECONDS: Final = 10.0
"""A task is looked for after that, and adopted at the earliest: a second one would show by then."""
EMPTY_SECONDS: Final = 120.0
"""When the provider's list has shown nothing for so long, nothing was made."""
LEAST_LOOKS: Final = 2
"""… at its beginning and at its end."""
MOST_AGAIN: Final = 3
"""So often is a job sent again by itself after a lost answer; then a person is asked."""
TASK_KEPT_SECONDS: Final = 24 * 3600.0
"""After that the provider no longer knows a task, and its results are gone (contract 2.4)."""
RISK_SECONDS: Final = 20 * 3600.0
"""Results that have not been copied by then are alarmed."""


class Status(StrEnum):
    """Where a job is."""

    WAITING = "WAITING"
    HELD = "HELD"
    QUEUED = "QUEUED"
    ADMITTED = "ADMITTED"
    CREATING = "CREATING"
    RESOLVING = "RESOLVING"
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

    `key` is the inbox key, or the URL of an image that is passed on; then the rest is None. The result
    of an earlier step lies in the outbox, and `made_by` names the job that made it.
    """

    key: str
    made_by: str | None = None
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


class Part(_Stored):
    """Which of the jobs of one drop a job is: see `retouch.parts`.

    `previous` and `next` are the jobs of the steps before and after it; `variants` the names of all
    variants, in order, so that one can be found from another.
    """

    number: int
    of: int
    variant: str | None = None
    variants: tuple[str, ...] = ()
    step: int | None = None
    steps: int | None = None
    previous: str | None = None
    next: str | None = None


class Preset(_Stored):
    """A preset that applies to a job, in the version that does."""

    key: str
    version_id: str


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
    number: int | None = None
    """Which of the task's images it is, from 1."""


class Cost(_Stored):
    """Images billed × price. Decimal numbers as text; None where no price is configured."""

    images: int
    price: str | None
    amount: str | None
    currency: str | None


class BudgetScope(_Stored):
    """The budget of a preset's folder that a job is under."""

    scope: str
    budget: Budget


class Charged(_Stored):
    """What a job counts for in the sums of a UTC day, in each of `scopes`; money as in `Cost`."""

    day: str
    scopes: tuple[str, ...]
    images: int
    price: str | None
    amount: str | None
    currency: str | None

    @classmethod
    def of(cls, cost: Cost, day: str, scopes: tuple[str, ...]) -> Charged:
        """What an estimate counts for."""
        return cls(day=day, scopes=scopes, **cost.model_dump())

    def with_images(self, images: int) -> Charged:
        """The same for another number of images."""
        amount = None if self.price is None else str(Decimal(self.price) * images)
        return self.model_copy(update={"images": images, "amount": amount})

    @property
    def cost(self) -> int:
        """In millionths; 0 without a price."""
        return 0 if self.price is None else millionths(Decimal(self.price)) * self.images


class Job(_Stored):
    """One sidecar resolved against exact object versions; it makes one provider task.

    Times are Unix seconds. `version` counts the writes of this record; `fence` is the number of its
    latest admission.
    """

    job_id: str
    version: int = 0
    status: Status
    message_version: int | None = None
    """The version that its owner gets a message of, beside the event that every one makes."""
    created_at: float
    updated_at: float
    sidecar: str
    sidecar_version: str | None
    folder: str
    part: Part | None = None
    """None where its drop makes this job alone."""
    presets: tuple[Preset, ...] = ()
    """The inbox root's first. A newer version of one of them is no matter of this job."""
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
    path: str | None = None
    """Where that call goes, behind the region's base URL."""
    labels: dict[str, str] = {}
    priority: int = 5
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()

    budgets: tuple[BudgetScope, ...] = ()
    """Of the presets that it came under. The stack's own is always the one of the settings."""
    estimate: Cost | None = None
    """What it makes and costs at the most."""
    chain_estimate: Cost | None = None
    """What all steps of its drop make and cost at the most together; on the first of them."""
    held: Hold | None = None
    """Why it is HELD."""
    released_at: float | None = None
    """When a person let it go on past the budgets."""
    charged: tuple[Charged, ...] = ()
    """What it counts for in budgets that count days: once for each time it was sent."""

    lane: str | None = None
    queue_key: str | None = None
    fence: int = 0
    attempts: int = 0
    """Executions started for the present admission beyond the first."""
    start_at: float | None = None
    admitted_at: float | None = None
    intent_at: float | None = None
    """When the one create call was about to be made."""
    lost_at: float | None = None
    """When the answer to that call was given up."""
    looks: int = 0
    """How often the provider's list has shown no task that could be this job's since then."""
    candidates: tuple[str, ...] = ()
    """Tasks of which any one could be this job's."""
    sent_again: int = 0
    """How often the call was made again after an unknown outcome."""
    adopted: bool = False
    """Whether the task was found in the provider's list, not in the answer to the call."""
    resolution: str | None = None
    """What a person decided about an unknown outcome: adopt, again or fail."""
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
    cancel_asked_at: float | None = None
    cancel_answer: str | None = None
    """What came of it, where the job could not simply be closed."""
    retry_of: str | None = None
    retried_as: str | None = None
    overdue_at: float | None = None
    """When its owner was told that the rest of the drop has not come."""
    at_risk_at: float | None = None
    """When it was alarmed that its results are about to vanish."""

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
    calling: str | None = None
    """The job whose create call is under way, for as long as no outcome is recorded."""
    quiet_until: float = 0.0
    """Nothing is sent before, so that a task whose answer was lost stays alone in its time."""
    throttles: int = 0
    """Refusals for pace in a row."""
    stretch: float = 1.0
    """How much slower than its quota the lane is since it was throttled; falls back to 1."""
    narrow_until: float = 0.0
    """Until then the provider is taken at its word that it does not queue beyond its quota."""
    narrowed: int = 0
    """Refusals beyond the quota since a create beyond it was taken."""
    paused_until: float | None = None
    paused_by: Failure | None = None
    """Why the account cannot be used; kept until a create has shown that it can."""
    paused_since: float | None = None


class Alert(_Stored):
    """Something an operator should know of at once. The same `alert_id` is the same alert."""

    alert_id: str
    kind: str
    """`lane-paused`, `lane-resumed`, `results-at-risk` or `outbox-in-inbox`."""
    about: str
    """The lane, the job, or the object in the inbox."""
    text: str
    code: str | None = None
    at: float


class Copied(_Stored):
    """A result that is in the outbox, noted until its job is closed, so that it is copied once."""

    job_id: str
    output: Output
    expires_at: int


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


@dataclass(frozen=True)
class ClaimTask:
    """Note that a task of the provider is this job's; it must not be another's."""

    task_id: str
    job_id: str


@dataclass(frozen=True)
class NoteLatest:
    """Note that this is the latest job of a name: of a sidecar's key, or of a place in the outbox.

    The latest must be `over` until then (None: there is none). Where that is the job itself, nothing
    changes, and the commit holds only while it still is the latest.
    """

    name: str
    job_id: str
    over: str | None


@dataclass(frozen=True)
class PutAlert:
    """Keep an alert until it is sent."""

    alert: Alert


@dataclass(frozen=True)
class Charge:
    """Add to what is used up in a scope on a UTC day; a negative number gives back.

    Attributes:
        cost: Millionths of `currency`; 0 where that is None.
        most_images: What may be used up before; None for whatever there is. The write does not hold
            if it is more.
        most_cost: Likewise, of that currency.
    """

    scope: str
    day: str
    images: int
    cost: int = 0
    currency: str | None = None
    most_images: int | None = None
    most_cost: int | None = None


@dataclass(frozen=True)
class Tally:
    """Count `name` once more on a UTC day; it must have been counted less than `most` times there."""

    name: str
    day: str
    most: int | None = None


Write = (
    PutJob
    | PutLane
    | Enqueue
    | Dequeue
    | PutAnswer
    | DropAnswer
    | ClaimTask
    | NoteLatest
    | PutAlert
    | Charge
    | Tally
)
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


def follows(job: Job) -> bool:
    """Whether a job works on the result of a step before it."""
    return job.part is not None and job.part.previous is not None


def step_due(job: Job) -> str | None:
    """The job whose step has come with the end of this one."""
    return job.part.next if job.part is not None and job.status.terminal else None


def held_queue(scope: str) -> str:
    """Where jobs wait in order for room in a budget; a backlog like a lane's, and no lane's name."""
    return f"held:{scope}"


def execution_name(job: Job) -> str:
    """One name for each admission and attempt, so that a repeated start changes nothing."""
    return f"{job.job_id}-{job.fence}-{job.attempts}"


# --- decisions ----------------------------------------------------------------------------------------


def enter(
    job: Job,
    lane: str,
    now: float,
    *,
    arrived: float,
    charged: Charged | None = None,
    counted: Writes = (),
) -> tuple[Job, Writes]:
    """Put a new, waiting or held job into its lane's backlog.

    `counted` are the writes that add it to what is used up, and `charged` what it counts for there.
    """
    key = job.queue_key or queue_key(job.priority, arrived, job.job_id)
    queued = _touch(
        job,
        now,
        status=Status.QUEUED,
        lane=lane,
        queue_key=key,
        missing=(),
        held=None,
        charged=job.charged if charged is None else (*job.charged, charged),
    )
    entered = Enqueue(lane, key, job.job_id)
    return queued, (PutJob(queued), *_unheld(job), entered, *counted)


def hold(job: Job, lane: str, now: float, why: Hold, *, arrived: float) -> tuple[Job, Writes]:
    """Hold a complete job that does not fit into a budget. Its owner is told, and once more where it
    no longer goes on by itself.
    """
    key = job.queue_key or queue_key(job.priority, arrived, job.job_id)
    told = job.held is not None and job.held.by_itself <= why.by_itself
    held = _touch(
        job,
        now,
        status=Status.HELD,
        message_version=job.message_version if told else job.version + 1,
        lane=lane,
        queue_key=key,
        missing=(),
        held=why,
    )
    writes: Writes = (PutJob(held), *_unheld(job))
    if why.by_itself:
        writes = (*writes, Enqueue(held_queue(why.scope), key, job.job_id))
    return held, writes


def released(
    job: Job, lane: str, now: float, *, charged: Charged | None, counted: Writes
) -> tuple[Job, Writes]:
    """A person lets a held job go on, past its budgets; it counts in them all the same."""
    let_go = job.model_copy(update={"released_at": now})
    return enter(let_go, lane, now, arrived=now, charged=charged, counted=counted)


def _unheld(job: Job) -> Writes:
    """Take a job out of the order in which it waits for room."""
    if job.held is None or not job.held.by_itself or job.queue_key is None:
        return ()
    return (Dequeue(held_queue(job.held.scope), job.queue_key),)


def no_longer_in_turn(place: Enqueue, job: Job | None, now: float) -> tuple[Job | None, Writes]:
    """Take a place out of the order of those that wait for room, if its job does not wait there.

    The job is written with it, so that one that is held there at this very moment keeps its place.
    """
    if job is not None and job.status is Status.HELD and job.queue_key == place.queue_key:
        held = job.held
        if held is not None and held.by_itself and held_queue(held.scope) == place.lane:
            return job, ()
    out = Dequeue(place.lane, place.queue_key)
    if job is None:
        return None, (out,)
    touched = _touch(job, now)
    return touched, (PutJob(touched), out)


def charges(charged: Charged, images: int, cost: int) -> Writes:
    """The writes that count so many images and millionths in each scope of `charged`."""
    return tuple(
        Charge(scope, charged.day, images, cost, charged.currency) for scope in charged.scopes
    )


def _closed(job: Job) -> tuple[Job, Writes]:
    """A job that ends: what it was charged is brought to what was billed, the rest is given back.

    Where money may have been spent that no bill shows, nothing is given back.
    """
    if not job.charged:
        return job, ()
    *before, last = job.charged
    billed = 0 if job.cost is None else job.cost.images
    if job.doubt is not None:
        billed = max(billed, last.images)
    final = last.with_images(billed)
    images, cost = final.images - last.images, final.cost - last.cost
    if not images and not cost:
        return job, ()
    return job.model_copy(update={"charged": (*before, final)}), charges(last, images, cost)


def wait_for(job: Job, now: float, missing: tuple[str, ...]) -> tuple[Job, Writes]:
    """Note which images a job still waits for."""
    waiting = _touch(job, now, status=Status.WAITING, missing=missing)
    return waiting, (PutJob(waiting),)


def overdue(job: Job, now: float) -> tuple[Job, Writes]:
    """Note that what a job waits for is late. It goes on waiting."""
    late = _touch(job, now, overdue_at=now, message_version=job.version + 1)
    return late, (PutJob(late),)


def settle(job: Job, now: float, status: Status, **changes: object) -> tuple[Job, Writes]:
    """Close a job that holds no slot and is in no lane's backlog."""
    closed, given_back = _closed(
        _touch(job, now, status=status, finished_at=now, blocked=False, held=None, **changes)
    )
    return closed, (PutJob(closed), *_unheld(job), *given_back)


@dataclass(frozen=True)
class Admit:
    """A free slot and a job for it."""

    job: Job
    lane: Lane
    writes: Writes
    wait: float
    """Seconds until its create may be made."""


@dataclass(frozen=True)
class Idle:
    """Nothing can be admitted now, and why; a later kick will look again."""

    why: str


def admit(lane: Lane, job: Job, mode: Mode, pace: Pace, now: float) -> Admit | Idle:
    """Whether the job at the head of the backlog gets a slot now.

    The create's time is fixed here, spaced exactly by the lane's interval from the one before. In a
    lane whose account was refused it is a probe, and nothing else is admitted until its outcome.
    """
    if lane.paused_until is not None and now < lane.paused_until:
        return Idle("paused")
    window = pace.quota if now < lane.narrow_until else pace.window
    if len(lane.slots) >= window:
        return Idle("window full")
    start_at = max(now, lane.next_create_at, lane.quiet_until)
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
        lost_at=None,
        looks=0,
    )
    held = _put_lane(
        lane,
        fence=fence,
        slots=_leased(lane, admitted, start_at + lease),
        next_create_at=start_at + pace.interval * lane.stretch,
        paused_until=None if lane.paused_by is None else start_at + PAUSE_SECONDS,
    )
    assert job.queue_key is not None  # noqa: S101  a queued job has one
    writes = (PutJob(admitted), held, Dequeue(lane.lane, job.queue_key))
    return Admit(admitted, held.lane, writes, start_at - now)


def unsent_for(lane: Lane, pace: Pace, now: float) -> float:
    """Seconds until the lane allows the next create call; 0 or less: now.

    Its rate does, and a call whose outcome is not known lies far enough back to be told from it.
    """
    at = max(lane.last_sent_at + pace.interval * lane.stretch, lane.quiet_until)
    return at - now


def intend(job: Job, lane: Lane, mode: Mode, now: float) -> tuple[Job, Lane, Writes]:
    """Record that the one create call is sent now. The lane remembers it for its pace.

    Nothing else is sent in the lane until the outcome of an asynchronous create is recorded, or has
    had the time to show in the provider's list.
    """
    intending = _touch(job, now, status=Status.CREATING, intent_at=now)
    quiet: dict[str, object] = {}
    if mode is Mode.ASYNC:
        quiet = {"calling": job.job_id, "quiet_until": now + CREATE_SECONDS + QUIET_SECONDS}
    silent = _put_lane(lane, last_sent_at=now, **quiet)
    return intending, silent.lane, (PutJob(intending), silent)


def created(
    job: Job, lane: Lane, task_id: str, request_id: str | None, pace: Pace, now: float
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
    proved, alerts = _proved(lane, now)
    mended = _put_lane(
        lane,
        slots=_leased(lane, job, now + RUNNING_LEASE_SECONDS),
        # The call reached the provider at some moment before its answer; pace from the answer, so
        # that two calls are never closer there than the lane's interval.
        last_sent_at=now,
        narrowed=0 if len(lane.slots) > pace.quota else lane.narrowed,
        **proved,
        **_answered(lane, job),
    )
    return running, (PutJob(running), mended, ClaimTask(task_id, job.job_id), *alerts)


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

    A job that was to be cancelled is closed instead.
    """
    changes: dict[str, object] = {
        "start_at": None,
        "intent_at": None,
        "lost_at": None,
        "looks": 0,
        "refusal": refusal or paused_by or job.refusal,
        "blocked": blocked or paused_by is not None,
        "not_fetched": job.not_fetched + not_fetched,
        "stumbles": job.stumbles + stumbled,
        "task_id": None,
        "running_at": None,
        "adopted": False,
    }
    update = _sent(job, lane, now)
    alerts: Writes = ()
    if throttled_from is not None:
        backoff = min(THROTTLE_BASE_SECONDS * 2 ** min(lane.throttles, 10), THROTTLE_MOST_SECONDS)
        update |= {
            "throttles": lane.throttles + 1,
            "stretch": min(lane.stretch * 2, MOST_STRETCH),
            "next_create_at": now + backoff,
        }
        # Whoever was not reached has refused nothing.
        if len(lane.slots) > throttled_from.quota and not blocked:
            narrow = min(NARROW_BASE_SECONDS * 2 ** min(lane.narrowed, 10), NARROW_MOST_SECONDS)
            update |= {"narrow_until": now + narrow, "narrowed": lane.narrowed + 1}
    if stumbled:
        # Only the job is slow, but it stays at its place; so the lane waits a moment with it.
        update["next_create_at"] = max(lane.next_create_at, now + 2.0**job.stumbles)
    if paused_by is not None:
        pause, alerts = _paused(lane, paused_by, now)
        update |= pause
    freed = _put_lane(lane, slots=_without(lane, job), **update)
    if job.cancel_asked_at is not None:
        closed, given_back = _closed(_touch(job, now, **{**changes, **_withdrawn(now)}))
        return closed, (PutJob(closed), freed, *alerts, *given_back)
    queued = _touch(job, now, status=Status.QUEUED, **changes)
    assert job.lane is not None  # noqa: S101  an admitted job has both
    assert job.queue_key is not None  # noqa: S101
    return queued, (PutJob(queued), freed, Enqueue(job.lane, job.queue_key, job.job_id), *alerts)


def pause(lane: Lane, why: Failure, now: float) -> Writes:
    """Stop a lane whose account is at fault; everything in it is kept. Told of once."""
    update, alerts = _paused(lane, why, now)
    return (_put_lane(lane, **update), *alerts)


def unpause(lane: Lane) -> Writes:
    """Let a paused lane probe at once."""
    return () if lane.paused_until is None else (_put_lane(lane, paused_until=None),)


def _paused(lane: Lane, why: Failure, now: float) -> tuple[dict[str, object], Writes]:
    update: dict[str, object] = {"paused_until": now + PAUSE_SECONDS, "paused_by": why}
    if lane.paused_since is not None:
        return update, ()
    update["paused_since"] = now
    alert = Alert(
        alert_id=f"lane-paused:{lane.lane}:{int(now * 1000)}",
        kind="lane-paused",
        about=lane.lane,
        code=why.code,
        text=(
            f"nothing is sent in the lane {lane.lane}: {why.code}: {why.message}. Its jobs wait, and "
            f"the provider is asked again every {PAUSE_SECONDS:.0f} s; no job has to be dropped again"
        ),
        at=now,
    )
    return update, (PutAlert(alert),)


def _proved(lane: Lane, now: float) -> tuple[dict[str, object], Writes]:
    """What a billed call that was taken shows of a lane: the pace is right and the account good."""
    update: dict[str, object] = {
        "throttles": 0,
        "stretch": max(1.0, lane.stretch * _RECOVERY),
        "paused_by": None,
        "paused_until": None,
        "paused_since": None,
    }
    if lane.paused_since is None:
        return update, ()
    minutes = (now - lane.paused_since) / 60
    alert = Alert(
        alert_id=f"lane-resumed:{lane.lane}:{int(lane.paused_since * 1000)}",
        kind="lane-resumed",
        about=lane.lane,
        text=f"the lane {lane.lane} works again after {minutes:.0f} minutes; nothing was lost",
        at=now,
    )
    return update, (PutAlert(alert),)


def _sent(job: Job, lane: Lane, now: float) -> dict[str, object]:
    """As `_answered`. If its call was made, that may have been at any moment until now."""
    answered = _answered(lane, job)
    if job.intent_at is not None:
        answered["last_sent_at"] = max(lane.last_sent_at, now)
    return answered


def _answered(lane: Lane, job: Job) -> dict[str, object]:
    """The lane's create call has an outcome, if it was this job's."""
    return {"calling": None, "quiet_until": 0.0} if lane.calling == job.job_id else {}


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
        doubt=_sent_again(job),
        candidates=(),
        refusal=None,
        blocked=False,
        ended_at=now,
    )
    # An answer shows that the pace is right; an asynchronous create has shown it before.
    proved, alerts = _proved(lane, now) if answer is not None else ({}, ())
    freed = _put_lane(lane, slots=_without(lane, job), **proved)
    writes: Writes = (PutJob(finalizing), freed, *alerts)
    return finalizing, (*writes, PutAnswer(answer)) if answer is not None else writes


def put_off(job: Job, now: float, why: Failure) -> tuple[Job, Writes]:
    """Note that a job cannot go on until somebody mends something."""
    waiting = _touch(job, now, refusal=why, blocked=True)
    return waiting, (PutJob(waiting),)


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
    closed, given_back = _closed(
        _touch(job, now, status=Status.FAILED, failure=failure, ended_at=now, finished_at=now)
    )
    freed = _put_lane(lane, slots=_without(lane, job), **_sent(job, lane, now))
    return closed, (PutJob(closed), freed, *given_back)


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
    return job.status in (Status.ADMITTED, Status.CREATING, Status.RESOLVING, Status.RUNNING)


# --- unknown outcomes ---------------------------------------------------------------------------------


def lost(job: Job, lane: Lane, now: float, why: str) -> tuple[Job, Writes]:
    """The answer to an asynchronous create was lost: its task, if there is one, is looked for.

    The job keeps its slot, since its task may be running.
    """
    resolving = _touch(job, now, status=Status.RESOLVING, lost_at=now, looks=0, doubt=why)
    update: dict[str, object] = {"slots": _leased(lane, job, now + RUNNING_LEASE_SECONDS)}
    if lane.calling == job.job_id:
        # Until its outcome is known, or this time is over.
        _, end = lost_window(resolving)
        update["quiet_until"] = end - SKEW_SECONDS + QUIET_SECONDS
    return resolving, (PutJob(resolving), _put_lane(lane, **update))


def lost_window(job: Job) -> tuple[float, float]:
    """When, by the provider's clock, a task whose answer was lost can have been made."""
    sent = job.intent_at or 0.0
    latest = sent + CREATE_SECONDS
    given_up = latest if job.lost_at is None else min(job.lost_at, latest)
    return sent - SKEW_SECONDS, given_up + SKEW_SECONDS


@dataclass(frozen=True)
class Found:
    """The one task that can be this job's."""

    task: Candidate


@dataclass(frozen=True)
class NeverMade:
    """The list has stayed empty for long enough."""


@dataclass(frozen=True)
class Several:
    """More than one task could be this job's, or another job could have the same one."""

    tasks: tuple[Candidate, ...]


@dataclass(frozen=True)
class LookAgain:
    """Too early to tell; seconds until the next look."""

    wait: float


@dataclass(frozen=True)
class Candidate:
    """A task of the provider's list that is nobody's yet."""

    task_id: str
    request_id: str | None
    created_at: float | None


def judge(
    job: Job, unclaimed: tuple[Candidate, ...], rivals: tuple[Job, ...], now: float
) -> Found | NeverMade | Several | LookAgain:
    """What a look at the provider's list says of a job whose create call's answer was lost.

    `unclaimed` are the tasks of its model that are no job's; `rivals` the other jobs of its lane whose
    call has no known outcome. A task without a time could be anybody's.
    """
    assert job.lost_at is not None  # noqa: S101  only such a job is looked for
    since = now - job.lost_at
    if since < SETTLE_SECONDS:
        return LookAgain(SETTLE_SECONDS - since)
    own = tuple(task for task in unclaimed if _within(job, task))
    contested = any(_within(rival, task) for rival in rivals for task in own)
    if len(own) > 1 or contested:
        return Several(own)
    if own:
        return Found(own[0])
    if since >= EMPTY_SECONDS and job.looks + 1 >= LEAST_LOOKS:
        return NeverMade()
    return LookAgain(SETTLE_SECONDS if since < 3 * SETTLE_SECONDS else 3 * SETTLE_SECONDS)


def _within(job: Job, task: Candidate) -> bool:
    begin, end = lost_window(job)
    return task.created_at is None or begin <= task.created_at <= end


def looked(job: Job, now: float) -> tuple[Job, Writes]:
    """Note a look that showed nothing."""
    after = _touch(job, now, looks=job.looks + 1)
    return after, (PutJob(after),)


def adopted(
    job: Job, lane: Lane, task: Candidate, now: float, *, by: str | None = None
) -> tuple[Job, Writes]:
    """The task is this job's. `by` says that a person decided so."""
    running = _touch(
        job,
        now,
        status=Status.RUNNING,
        task_id=task.task_id,
        create_request_id=task.request_id,
        running_at=task.created_at or job.intent_at or now,
        adopted=True,
        doubt=_sent_again(job),
        resolution=by or job.resolution,
        candidates=(),
        ended_at=None,
        refusal=None,
        blocked=False,
    )
    leased = _put_lane(
        lane,
        slots=_leased(lane, job, now + RUNNING_LEASE_SECONDS),
        **_answered(lane, job),
    )
    return running, (PutJob(running), leased, ClaimTask(task.task_id, job.job_id))


def _sent_again(job: Job) -> str | None:
    """The doubt that stays where a call was made again, whatever comes of the latest."""
    if not job.sent_again:
        return None
    times = "once" if job.sent_again == 1 else f"{job.sent_again} times"
    return f"sent again {times} after a lost answer; more than one task may have been billed"


def again(job: Job, lane: Lane, now: float, *, by: str | None = None) -> tuple[Job, Writes]:
    """Send the call once more, at its old place, with a mark: the list stayed empty, or a person
    (`by`) takes the risk. A job that was to be cancelled is closed instead.
    """
    called = iso(job.intent_at)
    said = (
        f"the answer to the call of {called} was lost; a person had it sent again, so two tasks may "
        "have been billed"
        if by is not None
        else f"the answer to the call of {called} was lost; the provider's list showed no task for "
        f"{EMPTY_SECONDS:.0f} s, so it was sent again"
    )
    freed = _put_lane(lane, slots=_without(lane, job), **_answered(lane, job))
    if job.cancel_asked_at is not None and by is None:
        note = "the answer to its call was lost, and the provider's list shows no task of it"
        # Of an earlier call of it nobody knows.
        doubt = _sent_again(job)
        withdrawn = {**_withdrawn(now), "cancel_answer": note, "doubt": doubt}
        closed, given_back = _closed(_touch(job, now, **withdrawn))
        return closed, (PutJob(closed), freed, *given_back)
    charged, counted = _charged_again(job, now)
    queued = _touch(
        job,
        now,
        status=Status.QUEUED,
        charged=charged,
        start_at=None,
        intent_at=None,
        lost_at=None,
        looks=0,
        candidates=(),
        sent_again=job.sent_again + 1,
        resolution=by or job.resolution,
        doubt=said,
        ended_at=None,
        at_risk_at=None,
        cancel_asked_at=None,
    )
    assert job.lane is not None  # noqa: S101  it was admitted once
    assert job.queue_key is not None  # noqa: S101
    return queued, (PutJob(queued), freed, Enqueue(job.lane, job.queue_key, job.job_id), *counted)


def _charged_again(job: Job, now: float) -> tuple[tuple[Charged, ...], Writes]:
    """A call made again counts again, whatever room there is; the first may have been billed."""
    if not job.charged:
        return (), ()
    again = job.charged[-1].model_copy(update={"day": day_of(now)})
    return (*job.charged, again), charges(again, again.images, again.cost)


def unresolved(
    job: Job,
    lane: Lane,
    now: float,
    doubt: str,
    *,
    candidates: tuple[str, ...] = (),
    slot_until: float | None = None,
) -> tuple[Job, Writes]:
    """A billed call whose outcome stays unknown: hold the job for a person.

    Until `slot_until` (Unix seconds) its slot is kept, because the provider may be at work on it.
    """
    held = _touch(
        job, now, status=Status.UNRESOLVED, doubt=doubt, candidates=candidates, ended_at=now
    )
    kept = slot_until is not None and slot_until > now
    slots = _leased(lane, job, slot_until or now) if kept else _without(lane, job)
    return held, (PutJob(held), _put_lane(lane, slots=slots, **_answered(lane, job)))


def given_up(job: Job, now: float) -> tuple[Job, Writes]:
    """A person closes a job whose outcome is unknown. The doubt stays on it."""
    said = "a person gave it up; whether it was billed is not known"
    failure = Failure(code="GivenUp", message=said)
    return settle(job, now, Status.FAILED, failure=failure, resolution="fail")


# --- operators ----------------------------------------------------------------------------------------


def withdraw(job: Job, lane: Lane | None, now: float) -> tuple[Job, Writes]:
    """Close a job on request before its call was made: waiting, held, queued, or admitted (with
    `lane`).
    """
    closed, writes = _taken_back(job, now, _withdrawn(now))
    if job.status is Status.ADMITTED and lane is not None:
        writes = (*writes, _put_lane(lane, slots=_without(lane, job)))
    return closed, writes


def _withdrawn(now: float) -> dict[str, object]:
    failure = Failure(code=CANCELED, message="cancelled by a person")
    return {**_canceled(now), "failure": failure, "cancel_asked_at": now}


def _canceled(now: float) -> dict[str, object]:
    return {
        "status": Status.CANCELED,
        "finished_at": now,
        "missing": (),
        "held": None,
        "blocked": False,
    }


def replaced(job: Job, now: float) -> tuple[Job, Writes]:
    """Close a waiting, held or queued job in whose place something else has come."""
    return _taken_back(job, now, _canceled(now))


def _taken_back(job: Job, now: float, ended: dict[str, object]) -> tuple[Job, Writes]:
    """Close a job and take it out of wherever it is queued."""
    closed, given_back = _closed(_touch(job, now, **ended))
    writes: Writes = (PutJob(closed), *_unheld(job), *given_back)
    if job.status is Status.QUEUED and job.lane is not None and job.queue_key is not None:
        writes = (*writes, Dequeue(job.lane, job.queue_key))
    return closed, writes


CANCELED: Final = "Canceled"
"""The code of a job that a person cancelled."""


def ask_cancel(job: Job, now: float) -> tuple[Job, Writes]:
    """Note that a job under way is to be cancelled if that is still possible."""
    asked = _touch(job, now, cancel_asked_at=now)
    return asked, (PutJob(asked),)


def cancel_answered(job: Job, now: float, answer: str) -> tuple[Job, Writes]:
    """Note what came of asking the provider to cancel."""
    noted = _touch(job, now, cancel_answer=answer)
    return noted, (PutJob(noted),)


def copy_of(job: Job, job_id: str, folder: str, now: float) -> Job:
    """The same order as a new job, on the same versions; nothing of what became of the first."""
    return Job(
        job_id=job_id,
        status=Status.WAITING,
        created_at=now,
        updated_at=now,
        sidecar=job.sidecar,
        sidecar_version=job.sidecar_version,
        folder=folder,
        part=job.part,
        presets=job.presets,
        model=job.model,
        function=job.function,
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        parameters=job.parameters,
        images=tuple(_unsent(image) for image in job.images),
        mask=None if job.mask is None else _unsent(job.mask),
        fit=job.fit,
        call=job.call,
        path=job.path,
        labels=job.labels,
        priority=job.priority,
        budgets=job.budgets,
        chain_estimate=job.chain_estimate,
        warnings=job.warnings,
        retry_of=job.job_id,
    )


def _unsent(source: Source) -> Source:
    return source.model_copy(update={"way": None, "uploaded": None, "uploaded_at": None})


def retried(job: Job, as_job: str, now: float) -> tuple[Job, Writes]:
    """Note on a closed job which one repeats it."""
    noted = _touch(job, now, retried_as=as_job)
    return noted, (PutJob(noted),)


def warned(job: Job, warnings: tuple[Finding, ...], now: float) -> tuple[Job, Writes]:
    """Give a job these warnings in place of those that it has."""
    noted = _touch(job, now, warnings=warnings)
    return noted, (PutJob(noted),)


# --- results at risk ----------------------------------------------------------------------------------


def results_from(job: Job) -> float | None:
    """From when the 24 hours count after which the provider drops what a job made (contract 2.4)."""
    if job.task_id is not None:
        return job.running_at
    return job.ended_at if job.status is Status.FINALIZING else job.intent_at


def at_risk(job: Job, now: float) -> tuple[Job, Writes] | None:
    """Alarm, once, that what a job may have made vanishes in a few hours; None if there is no need."""
    since = results_from(job)
    if job.at_risk_at is not None or since is None or now - since < RISK_SECONDS:
        return None
    noted = _touch(job, now, at_risk_at=now)
    end = iso(since + TASK_KEPT_SECONDS)
    what = {
        Status.UNRESOLVED: "it waits for a person: retouch resolve",
        Status.FINALIZING: f"its results are not copied yet: {_why(job)}",
    }.get(job.status, f"its task has not ended or cannot be asked after: {_why(job)}")
    alert = Alert(
        alert_id=f"results-at-risk:{job.job_id}",
        kind="results-at-risk",
        about=job.job_id,
        code=None if job.refusal is None else job.refusal.code,
        text=f"what {job.sidecar} made at the provider vanishes at {end}; {what}",
        at=now,
    )
    return noted, (PutJob(noted), PutAlert(alert))


def _why(job: Job) -> str:
    return (
        "no reason known" if job.refusal is None else f"{job.refusal.code}: {job.refusal.message}"
    )


def _touch(job: Job, now: float, **changes: object) -> Job:
    version = job.version + 1
    changed = job.model_copy(update={"version": version, "updated_at": now, **changes})
    if changed.status.settled and changed.status is not job.status:
        return changed.model_copy(update={"message_version": version})
    return changed


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
