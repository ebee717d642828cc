"""What AWS does around the steps: table and buckets, queues, invocations, executions.

The ports are the fakes of all other tests. Added is what only shows when much goes on at once: every
effect takes some tens of milliseconds, in which others act; an invocation may die at any effect, and
does not outlive its timeout; and what was not done comes again the way each service brings it again:

* an upload's message after six times `submit`'s timeout, with all others of its batch;
* a kick 80 s after it was received; all other kicks of its lane wait meanwhile;
* a turn of the state machine after the pauses of `infra/edit-job.asl.json`, full jitter and all; when
  those are used up the execution has failed, which `reconcile` is told of by an event;
* `reconcile` with the next minute.

Messages are also lost, and delivered twice, at a rate of their own: an upload's event, a kick, and the
news that an execution has ended.

Of what AWS does this leaves out: cold starts, throttled functions, a batch of kicks of several lanes,
and reads that lag behind (the index that `jobs_in` reads). Reads take no time.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final, TypeVar

from retouch.errors import SettingsError, TryLater
from retouch.jobs import Dequeue, Enqueue, PutJob, PutLane, Status, Write
from retouch.local.packaging import project_root
from retouch.ports import SETTLE_SECONDS, Errand, Listed
from retouch.registry import Json
from retouch.settings import Settings
from retouch.steps.dispatch import dispatch
from retouch.steps.finalize import finalize
from retouch.steps.generate import generate
from retouch.steps.poll import poll
from retouch.steps.reconcile import execution_ended, reconcile
from retouch.steps.submit import job_id_of, see_to
from tests.fakes import (
    START,
    Crash,
    Effects,
    FakeClock,
    FakeInbox,
    FakeOutbox,
    FakeStore,
    Moment,
    Written,
)
from tests.simulation.engine import Engine, Process
from tests.simulation.provider import Account
from tests.simulation.watch import Watch

T = TypeVar("T")

# As in template.yaml and the handlers.
SUBMIT_SECONDS: Final = 180.0
UPLOADS_HIDDEN_SECONDS: Final = 1080.0
UPLOADS_AT_ONCE: Final = 4
UPLOADS_TRIES: Final = 5
BATCH: Final = 10
DISPATCH_SECONDS: Final = 75.0
KICKS_HIDDEN_SECONDS: Final = 80.0
KICKS_TRIES: Final = 10
POLL_SECONDS: Final = 60.0
GENERATE_SECONDS: Final = 600.0
FINALIZE_SECONDS: Final = 300.0
RECONCILE_SECONDS: Final = 60.0
RECONCILE_SPARE_SECONDS: Final = 25.0
ROUND_SECONDS: Final = 60.0
OPERATE_SECONDS: Final = 60.0
ASYNC_RETRIES: Final = (60.0, 120.0)
"""What Lambda does with an event whose handler failed."""

_WRITES: Final = frozenset(
    (
        *("commit", "mark_published", "note_copied", "note_lane", "note_latest", "note_lone"),
        *("forget_lone", "await_image", "forget_awaiting", "drop_alert", "note_sweep"),
    )
)
"""Effects on the table."""
_LISTED_AT_ONCE: Final = 1000
_EFFECTS_AT_FIRST: Final = 10.0
_NEWS: Final = 0.02
"""The weight of the latest invocation in the mean."""
_SLOW: Final = {"commit": (0.008, 0.03), "put": (0.02, 0.06), "start": (0.02, 0.06)}
_QUICK: Final = (0.004, 0.02)
_NONE: Final = (0.0, 0.0)
"""The provider's calls take their own time."""
_TAKES: Final = _SLOW | dict.fromkeys(
    ("create", "generate", "query", "list", "cancel", "upload", "fetch"), _NONE
)
"""Seconds that an effect takes before it takes place."""


@dataclass(frozen=True)
class Chances:
    """How much goes wrong."""

    crashes: float = 0.0
    """The share of invocations that die, of those that have any effect."""
    faults: float = 0.0
    """The share of calls to the provider that something goes wrong with."""
    messages: float = 0.0
    """The share of messages that are lost, and of those that come twice."""
    throttles: float = 0.0
    """The share of the table's writes that it does not take."""


class InvocationFailed(Exception):
    """An invocation died or raised; whoever made it does what its service does then."""


class ProcessEffects(Effects):
    """Effects that take time, and at each of which the process may die.

    Every effect of every process of a kind is equally likely to be its end, so likely that the wanted
    share of them dies: the mean number of effects of that kind is learnt on the way. One that looks and
    finds nothing to do has none, and cannot die.
    """

    def __init__(self, engine: Engine, seed: str, crashes: float, throttles: float):
        super().__init__()
        self._engine = engine
        self._dies = Random(f"{seed}:dies")
        self._takes = Random(f"{seed}:takes")
        self._crashes = crashes
        self._throttles = throttles
        self.runs: Counter[str] = Counter()
        """Invocations, by function."""
        self._mean: dict[str, float] = {}
        """Effects of an invocation that has any, of late."""

    @contextmanager
    def effect(self, name: str) -> Iterator[None]:
        """See `Effects`; outside of a process it takes no time and is no end."""
        process = self._engine.process
        if process is None:
            yield
            return
        process.effects += 1
        moment = self._moment(process.kind) if self._crashes else None
        if moment is Moment.BEFORE:
            raise Crash(f"before {name}")
        low, high = _TAKES.get(name, _QUICK) if name[:4] != "put " else _SLOW["put"]
        if high:
            self._engine.sleep(low + (high - low) * self._takes.random())
        try:
            if self._throttles and name in _WRITES and self._dies.random() < self._throttles:
                raise TryLater("the table is throttled", code="TableThrottled")
            yield
        finally:
            if moment is Moment.AFTER:
                raise Crash(f"after {name}")

    def _moment(self, kind: str) -> Moment | None:
        if self._dies.random() * self._mean.get(kind, _EFFECTS_AT_FIRST) >= self._crashes:
            return None
        return Moment.BEFORE if self._dies.random() < 0.5 else Moment.AFTER

    def ended(self, process: Process) -> None:
        """A process is through, or dead."""
        kind = process.kind
        self.runs[kind] += 1
        if process.effects:
            mean = self._mean.get(kind, _EFFECTS_AT_FIRST)
            self._mean[kind] = mean + (process.effects - mean) * _NEWS


class EngineClock(FakeClock):
    """`retouch.ports.Clock` of whatever process runs."""

    def __init__(self, engine: Engine):
        super().__init__(START)
        self._engine = engine

    def now(self) -> float:
        """See `retouch.ports.Clock`."""
        return self._engine.now

    def sleep(self, seconds: float) -> None:
        """See `retouch.ports.Clock`."""
        self._engine.sleep(seconds)


class Table(FakeStore):
    """The table, watched."""

    def __init__(self, effects: Effects, engine: Engine, watch: Watch):
        super().__init__(effects)
        self.check_sizes = False
        self.keep_history = False
        self._engine = engine
        self._watch = watch

    def _apply(self, write: Write) -> None:
        if isinstance(write, PutJob):
            job = write.job
            self._watch.written(self.jobs.get(job.job_id), job, self._engine.now)
            if self._engine.process is not None:
                self._engine.process.touched = job.job_id
        super()._apply(write)
        if isinstance(write, PutLane):
            self._watch.slots(write.lane)
        elif isinstance(write, Enqueue | Dequeue):
            self._watch.backlog(write.lane, bool(self.queues[write.lane]), self._engine.now)

    def mark_published(self, job_id: str, *versions: int) -> None:
        """See `retouch.ports.Store`."""
        super().mark_published(job_id, *versions)
        self._watch.moved(job_id, self._engine.now)


def _utf8(key: str) -> bytes:
    return key.encode("utf-8")


class Inbox(FakeInbox):
    """The inbox, listed by the thousand. Nothing is ever deleted from it."""

    def listing(self, after: str | None) -> Sequence[Listed]:
        """See `retouch.ports.Inbox`."""
        at = 0 if after is None else bisect_right(self._names, _utf8(after), key=_utf8)
        currents = ((key, self.objects[key][-1]) for key in self._names[at : at + _LISTED_AT_ONCE])
        return [Listed(key, it.version_id, it.modified_at) for key, it in currents]


class Outbox(FakeOutbox):
    """The outbox; only the latest version of anything is kept."""

    def _write(self, key: str, data: bytes, content_type: str) -> str:
        self._count += 1
        version = f"o{self._count:04d}"
        self.objects[key] = [Written(version, data, content_type)]
        return version


class Notices:
    """Counts what is told of each job's end."""

    def __init__(self, effects: Effects):
        self._effects = effects
        self.events = 0
        self.ends: dict[str, list[str]] = {}
        """The states that the topic was told a job had ended in, by job."""

    def tell(self, detail_type: str, details: Sequence[Mapping[str, Json]]) -> None:
        """See `retouch.ports.Notices`."""
        with self._effects.effect("event"):
            self.events += len(details)

    def notify(
        self, subject: str, message: Mapping[str, Json], attributes: Mapping[str, str]
    ) -> None:
        """See `retouch.ports.Notices`."""
        with self._effects.effect("notify"):
            if attributes["kind"] == "job" and Status(attributes["status"]).terminal:
                self.ends.setdefault(str(message["job_id"]), []).append(attributes["status"])


# --- what comes again ---------------------------------------------------------------------------------


@dataclass
class Upload:
    """A message of an upload."""

    errand: Errand
    tries: int = 0


@dataclass
class Group:
    """A lane's kicks: those that wait, and the batch that is under way or hidden."""

    waiting: int = 0
    taken: int = 0
    tries: int = 0
    busy: bool = False


@dataclass(frozen=True)
class Retry:
    """How a state of the state machine is tried again."""

    first: float
    rate: float
    most: float
    tries: int


@dataclass
class Execution:
    """One run of the state machine."""

    name: str
    turn: Mapping[str, Json]
    began: float
    state: str = ""
    failures: int = 0


class Kicks:
    """`retouch.ports.Kicks` on a queue with one consumer a lane."""

    def __init__(self, stack: Stack):
        self._stack = stack
        self.groups: dict[str, Group] = {}

    def kick(self, lane: str) -> None:
        """See `retouch.ports.Kicks`."""
        stack = self._stack
        with stack.effects.effect("kick"):
            for _ in range(stack.copies_of_a_message("kick")):
                stack.after(0.01, 0.05, lambda: self._arrived(lane))

    def _arrived(self, lane: str) -> None:
        group = self.groups.setdefault(lane, Group())
        group.waiting += 1
        if not group.busy:
            self._take(lane, group)

    def _take(self, lane: str, group: Group) -> None:
        """A consumer gets the kicks that wait, as one batch."""
        group.busy = True
        group.taken = min(group.waiting, BATCH)
        group.waiting -= group.taken
        group.tries = 0
        self._stack.after(0.005, 0.02, lambda: self._serve(lane, group))

    def _serve(self, lane: str, group: Group) -> None:
        stack = self._stack
        received = stack.engine.now
        group.tries += 1
        try:
            stack.invoke("dispatch", DISPATCH_SECONDS, lambda ends: dispatch(stack, lane, ends))
        except InvocationFailed:
            stack.watch.hit("dispatch: its lane", lane, stack.engine.now)
            if group.tries < KICKS_TRIES:
                again = received + KICKS_HIDDEN_SECONDS
                stack.engine.at(again, lambda: self._serve(lane, group))
                return
        else:
            stack.watch.moved(lane, stack.engine.now)
        group.busy = False
        if group.waiting:
            self._take(lane, group)


class Uploads:
    """`retouch.ports.Uploads`, S3's events, and the functions that read them, four at the most."""

    def __init__(self, stack: Stack):
        self._stack = stack
        self._waiting: deque[Upload] = deque()
        self._at_work = 0
        self.open = 0
        """Messages that are waiting, in work, or hidden."""
        self.dead: list[str] = []
        """What was given up."""

    def announce(self, *errands: Errand) -> None:
        """See `retouch.ports.Uploads`."""
        if not errands:
            return
        with self._stack.effects.effect("announce"):
            for errand in errands:
                self._send(errand)

    def happened(self, key: str) -> None:
        """S3 has an event."""
        for _ in range(self._stack.copies_of_a_message("upload")):
            self._send(Errand(key=key))

    def _send(self, errand: Errand) -> None:
        self.open += 1
        delay = SETTLE_SECONDS if errand.settled else 0
        self._stack.after(0.3 + delay, 1.5 + delay, lambda: self._arrived(Upload(errand)))

    def _arrived(self, upload: Upload) -> None:
        self._waiting.append(upload)
        self._take()

    def _take(self) -> None:
        if self._waiting and self._at_work < UPLOADS_AT_ONCE:
            self._at_work += 1
            self._stack.after(0.005, 0.02, self._serve)

    def _serve(self) -> None:
        stack, received = self._stack, self._stack.engine.now
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        failed: list[Upload] = []
        try:
            if batch:
                stack.invoke("submit", SUBMIT_SECONDS, lambda _: self._handle(batch, failed))
        except InvocationFailed:
            failed = batch
        for upload in failed:
            upload.tries += 1
            if upload.tries == UPLOADS_TRIES:
                self.dead.append(upload.errand.key or upload.errand.job_id or "")
                self.open -= 1
            else:
                again = received + UPLOADS_HIDDEN_SECONDS
                stack.engine.at(again, partial(self._arrived, upload))
        self.open -= len(batch) - len(failed)
        self._at_work -= 1
        self._take()

    def _handle(self, batch: list[Upload], failed: list[Upload]) -> None:
        """As the handler does: one that fails does not hold the others up."""
        stack = self._stack
        process = stack.engine.process
        assert process is not None
        of_each = [stack.job_of(upload.errand.key or "") for upload in batch]
        process.subjects = [job_id for job_id in of_each if job_id is not None]
        for upload, job_id in zip(batch, of_each, strict=True):
            try:
                see_to(stack, upload.errand)
            except Exception as error:  # noqa: BLE001  as the batch processor
                stack.watch.failed("submit", error)
                failed.append(upload)
                continue
            if job_id is not None:
                process.subjects.remove(job_id)
                stack.watch.moved(job_id, stack.engine.now)


class Executions:
    """`retouch.ports.Executions`, and the state machine that they run."""

    def __init__(self, stack: Stack):
        self._stack = stack
        definition = json.loads((project_root() / "infra/edit-job.asl.json").read_text("utf-8"))
        self._lives: float = definition["TimeoutSeconds"]
        self._retries = {
            name: _retry(state["Retry"])
            for name, state in definition["States"].items()
            if state["Type"] == "Task"
        }
        self._names: set[str] = set()
        self.running: dict[str, Execution] = {}
        self.ended_early: Counter[str] = Counter()

    def start(self, name: str, payload: Mapping[str, Json]) -> None:
        """See `retouch.ports.Executions`."""
        stack = self._stack
        with stack.effects.effect("start"):
            if name in self._names:
                return
            self._names.add(name)
            execution = Execution(name, dict(payload), stack.engine.now)
            self.running[name] = execution
            self._wait(execution, execution.turn)

    def alive(self, name: str) -> bool:
        """See `retouch.ports.Executions`."""
        return name in self.running

    def _wait(self, execution: Execution, turn: Mapping[str, Json]) -> None:
        seconds = turn["wait_seconds"]
        assert isinstance(seconds, int)
        execution.turn = turn
        self._go(execution, "Generate" if turn["mode"] == "sync" else "Poll", seconds)

    def _go(self, execution: Execution, state: str, seconds: float = 0.0) -> None:
        execution.state = state
        execution.failures = 0
        self._later(execution, seconds)

    def _later(self, execution: Execution, seconds: float) -> None:
        self._stack.after(seconds + 0.02, seconds + 0.06, lambda: self._turn(execution))

    def _turn(self, execution: Execution) -> None:
        stack = self._stack
        if stack.engine.now - execution.began > self._lives:
            self._end_early(execution, "TIMED_OUT")
            return
        job_id, fence = execution.turn["job_id"], execution.turn["fence"]
        assert isinstance(job_id, str)
        assert isinstance(fence, int)
        try:
            answer = self._invoke(execution.state, job_id, fence)
        except InvocationFailed:
            retry = self._retries[execution.state]
            execution.failures += 1
            if execution.failures > retry.tries:
                self._end_early(execution, "FAILED")
                return
            pause = min(retry.first * retry.rate ** (execution.failures - 1), retry.most)
            self._later(execution, stack.chance.uniform(0.0, pause))
            return
        if answer["next"] == "wait":
            self._wait(execution, answer)
        elif answer["next"] == "finalize":
            self._go(execution, "Finalize")
        else:
            del self.running[execution.name]

    def _invoke(self, state: str, job_id: str, fence: int) -> dict[str, Json]:
        stack = self._stack
        match state:
            case "Poll":
                return stack.invoke(
                    "poll", POLL_SECONDS, lambda _: poll(stack, job_id, fence), job_id
                )
            case "Generate":
                return stack.invoke(
                    "generate",
                    GENERATE_SECONDS,
                    lambda ends: generate(stack, job_id, fence, ends),
                    job_id,
                )
            case _:
                return stack.invoke(
                    "finalize",
                    FINALIZE_SECONDS,
                    lambda ends: finalize(stack, job_id, fence, ends),
                    job_id,
                )

    def _end_early(self, execution: Execution, status: str) -> None:
        """EventBridge tells of it, and Lambda tries an event that failed twice more."""
        stack = self._stack
        self.ended_early[status] += 1
        del self.running[execution.name]
        for _ in range(stack.copies_of_a_message("execution")):
            stack.after(0.3, 1.5, lambda: self._tell(execution, 0))

    def _tell(self, execution: Execution, tries: int) -> None:
        stack = self._stack
        job_id, fence = execution.turn["job_id"], execution.turn["fence"]
        assert isinstance(job_id, str)
        assert isinstance(fence, int)
        try:
            stack.invoke(
                "reconcile",
                RECONCILE_SECONDS,
                lambda _: execution_ended(stack, job_id, fence),
                job_id,
            )
        except InvocationFailed:
            if tries < len(ASYNC_RETRIES):
                stack.engine.after(ASYNC_RETRIES[tries], lambda: self._tell(execution, tries + 1))


def _retry(retriers: list[dict[str, Any]]) -> Retry:
    """Of a state that tries everything again in one way; anything else this does not know."""
    (retrier,) = retriers
    assert retrier["ErrorEquals"] == ["States.ALL"]
    assert retrier["JitterStrategy"] == "FULL"
    return Retry(
        first=float(retrier["IntervalSeconds"]),
        rate=float(retrier["BackoffRate"]),
        most=float(retrier["MaxDelaySeconds"]),
        tries=int(retrier["MaxAttempts"]),
    )


# --- all of it ---------------------------------------------------------------------------------------


@dataclass
class Stack:
    """`retouch.ports.App`, and the services that invoke its functions."""

    settings: Settings
    seed: str
    chances: Chances
    engine: Engine = field(default_factory=lambda: Engine(START))

    def __post_init__(self) -> None:
        engine = self.engine
        self.chance = Random(f"{self.seed}:services")
        self.watch = Watch()
        self.effects = ProcessEffects(
            engine, self.seed, self.chances.crashes, self.chances.throttles
        )
        self.clock = EngineClock(engine)
        self.store = Table(self.effects, engine, self.watch)
        self.inbox = Inbox(self.clock)
        self.outbox = Outbox(self.effects)
        self.notices = Notices(self.effects)
        self.kicks = Kicks(self)
        self.uploads = Uploads(self)
        self.executions = Executions(self)
        self.messages: Counter[str] = Counter()
        """Messages that were lost or came twice."""
        self.remedies: Counter[str] = Counter()
        """What `reconcile` did."""
        models, faults = self.settings.models, self.chances.faults
        self.accounts = {
            region: Account(region, engine, self.effects, models, self.seed, faults)
            for region in self.settings.regions
        }

    def provider(self, region: str) -> Account:
        """See `retouch.ports.App`."""
        try:
            return self.accounts[region]
        except KeyError:
            raise SettingsError(f"no key for {region}") from None

    def after(self, low: float, high: float, action: Callable[[], object]) -> None:
        """Run `action` some time between `low` and `high` seconds from now."""
        self.engine.after(low + (high - low) * self.chance.random(), action)

    def copies_of_a_message(self, kind: str) -> int:
        """How often a message arrives: once, unless it is lost or comes twice."""
        share = self.chances.messages
        if not share:
            return 1
        drawn = self.chance.random()
        if drawn >= 2 * share:
            return 1
        self.messages[f"{kind} {'lost' if drawn < share else 'twice'}"] += 1
        return 0 if drawn < share else 2

    def job_of(self, key: str) -> str | None:
        """The id that the job of a sidecar has, or will have; an image has none."""
        versions = self.inbox.objects[key]
        return job_id_of(key, versions[-1].version_id) if key.endswith(".json") else None

    def invoke(
        self, kind: str, seconds: float, work: Callable[[float], T], job_id: str | None = None
    ) -> T:
        """Invoke a function, which lives for so long.

        Raises:
            InvocationFailed: it died, or raised.
        """
        engine = self.engine
        process = Process(kind, engine.now + seconds)
        if job_id is not None:
            process.subjects.append(job_id)
        engine.process = process
        try:
            result = work(process.killed_at)
        except Crash as crash:
            self.watch.crashes[kind] += 1
            if engine.now >= process.killed_at:
                self.watch.timed_out[kind] += 1
            touched = [process.touched] if process.touched and not process.subjects else []
            for subject in (*process.subjects, *touched):
                self.watch.hit(kind, subject, engine.now)
            raise InvocationFailed(str(crash)) from crash
        except Exception as error:
            self.watch.failed(kind, error)
            raise InvocationFailed(str(error)) from error
        finally:
            engine.process = None
            self.effects.ended(process)
        if job_id is not None and not self._in_doubt(job_id):
            self.watch.moved(job_id, engine.now)
        return result

    def _in_doubt(self, job_id: str) -> bool:
        """Whether a job is still where its call left it, so that nothing has been done about it yet."""
        job = self.store.job(job_id)
        return job is not None and job.status is Status.CREATING

    def reconcile(self) -> None:
        """One scheduled round."""
        try:
            done = self.invoke(
                "reconcile",
                RECONCILE_SECONDS,
                lambda ends: reconcile(self, ends - RECONCILE_SPARE_SECONDS),
            )
        except InvocationFailed:
            return
        self.remedies += done

    def at_rest(self) -> bool:
        """Whether nothing is under way and nothing is left to do, but for what a person must decide."""
        store = self.store
        return not (
            self.uploads.open
            or self.executions.running
            or any(group.busy for group in self.kicks.groups.values())
            or any(store.queues.values())
            or any(lane.slots for lane in store.lanes_stored.values())
            or store.unpublished_since
            or store.pending_alerts
            or self.watch.open
        )
