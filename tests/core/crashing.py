"""A world driven as AWS drives it, in which any process can die at any effect, and the rules for it.

`Stage` is the machinery around the functions: queues that deliver again what was not worked off, one
consumer a lane, a state machine that tries again, a schedule. What a function does takes no time but
what it sleeps; a function that lives longer than it may dies at its next effect. `Rules` looks at a
stage after every step, and at the end (architecture 4).
"""

from __future__ import annotations

import itertools
import json
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from retouch.budget import STACK, day_of
from retouch.errors import OperatorError, OutcomeUnknown, TryLater
from retouch.jobs import (
    ADMITTED_LEASE_SECONDS,
    GENERATE_SECONDS,
    RISK_SECONDS,
    TERMINAL,
    Job,
    Lane,
    Status,
    execution_name,
    held_queue,
    results_from,
)
from retouch.ports import SETTLE_SECONDS, Errand
from retouch.provider.answers import TaskAnswer
from retouch.provider.requests import Request
from retouch.records import place_of, record
from retouch.registry import MODELS as ALL_MODELS
from retouch.registry import Mode
from retouch.steps.common import call_of, pace_of
from retouch.steps.dispatch import dispatch
from retouch.steps.finalize import finalize
from retouch.steps.generate import generate
from retouch.steps.operate import operate
from retouch.steps.poll import poll
from retouch.steps.reconcile import STALE_SECONDS, execution_ended, reconcile
from retouch.steps.submit import see_to, submit
from tests.fakes import (
    QWEN,
    START,
    WANX,
    Crash,
    Effects,
    FakeClock,
    FakeExecution,
    FakeExecutions,
    FakeInbox,
    FakeKicks,
    FakeNotices,
    FakeOutbox,
    FakeProvider,
    FakeStore,
    FakeTask,
    FakeUploads,
    Moment,
    World,
    picture,
    settings,
    sha256,
)

SMALL = picture(512, 512)
"""As small as all models take it, made once."""


def image_for(prompt: str) -> bytes:
    """A picture that tells what it was made for."""
    text = b"tEXtprompt\0" + prompt.encode("utf-8")
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return SMALL[:-_END_BYTES] + chunk + SMALL[-_END_BYTES:]


_END_BYTES: Final = 12
"""Of the chunk that ends a PNG."""
MODELS: Final = {name: ALL_MODELS[name] for name in (WANX, QWEN)}
"""Reconcile looks at every lane, in every round of every run."""

# As in template.yaml and edit-job.asl.json.
UPLOAD_HIDDEN_SECONDS: Final = 1080.0
UPLOAD_DELIVERIES: Final = 5
KICK_HIDDEN_SECONDS: Final = 80.0
KICK_DELIVERIES: Final = 10
LIVES: Final = {
    "submit": 180.0,
    "dispatch": 75.0,
    "poll": 60.0,
    "generate": 600.0,
    "finalize": 300.0,
    "reconcile": 60.0,
    "execution_ended": 60.0,
    "operate": 60.0,
}
"""How long each function may live, in seconds."""
RECONCILE_SPARE_SECONDS: Final = 25.0
ROUND_SECONDS: Final = 60.0
TURNS: Final = {"poll": (8, 60.0), "generate": (4, 60.0), "finalize": (8, 120.0)}
"""How often the state machine tries each again, and how far apart at the most."""
EXECUTION_SECONDS: Final = 14_400.0
ENDED_AGAIN_SECONDS: Final = (60.0, 120.0)
"""Lambda delivers an event of its own queue twice more."""
PERSON_SECONDS: Final = 15.0
"""So soon a person who got no answer gives a command again."""
QUERIES_PER_SECOND: Final = 15
CREATING_SECONDS: Final = ADMITTED_LEASE_SECONDS
"""So long after its intent nobody can be at work on a create."""
UNSEEN_SECONDS: Final = 30.0
"""So long after a job's last change its execution may not show."""
_CLOSE: Final = 1e-6


# --- the fakes, with what a crash needs ---------------------------------------------------------------


class OwnClock(FakeClock):
    """The clock of the functions' hosts, which may be off from the world's."""

    def __init__(self, true: FakeClock) -> None:
        super().__init__(time=0.0)
        self.true = true
        self.off = 0.0

    def now(self) -> float:
        return self.true.time + self.off

    def advance(self, seconds: float) -> None:
        self.true.advance(seconds)


@dataclass
class Processes(Effects):
    """Effects of processes that have a limited life, and between which others may come.

    `before` and `after` keep, for each effect, a mark of all that can differ between two crashes there
    beside the effects themselves: dying after an effect and before the next is the same, if they are.
    """

    marking: bool = False
    mark: Callable[[], tuple[float, ...]] = tuple
    outlived: Callable[[], bool] = bool
    """Whether the process that runs has lived for longer than it may."""
    others: Callable[[str], None] | None = None
    """Called before each effect: what others do just then."""
    before: list[tuple[float, ...]] = field(default_factory=list)
    after: dict[int, tuple[float, ...]] = field(default_factory=dict)

    @contextmanager
    def effect(self, name: str) -> Iterator[None]:
        if self.others is not None:
            self.others(name)
        if self.outlived():
            raise Crash(f"out of time before {name}")
        self.log.append(name)
        if self.marking:
            self.before.append(self.mark())
        number = len(self.log)
        moment = self.plan(number, name) if self.plan is not None else None
        if moment is Moment.BEFORE:
            raise Crash(f"before {name}")
        if self.throttle is not None and self.throttle(name):
            raise TryLater("the table is throttled", code="TableThrottled")
        try:
            yield
        finally:
            if self.marking:
                self.after[number] = self.mark()
            if moment is Moment.AFTER:
                raise Crash(f"after {name}")  # also where the effect ended with an error

    def distinct(self, first: int, last: int) -> Iterator[tuple[int, Moment]]:
        """The crashes at the effects `first` to `last`, counted from 1, that are not the same.

        A crash after an effect is the one before the next, where it is the same process and the same
        time and nothing was read in between that can only be read once.
        """
        for number in range(first, last + 1):
            yield number, Moment.BEFORE
            there = number in self.after
            if there and (number >= last or self.after[number] != self.before[number]):
                yield number, Moment.AFTER


class CrashStore(FakeStore):
    """Where taking a turn is an effect, too."""

    def __init__(self, effects: Effects) -> None:
        super().__init__(effects)
        self.check_sizes = False
        self._new_lanes: dict[str, Lane] = {}

    def lane(self, lane: str) -> Lane:
        there = self.lanes_stored.get(lane)
        if there is None and (there := self._new_lanes.get(lane)) is None:
            there = self._new_lanes[lane] = Lane(lane=lane)
        return there

    def reserve(self, name: str, now: float, interval: float, patience: float) -> float | None:
        with self._effects.effect("reserve"):
            return super().reserve(name, now, interval, patience)


class CrashProvider(FakeProvider):
    """Where every task makes an image of its own, and each call that may have billed is noted."""

    def __init__(
        self, clock: FakeClock, effects: Effects, own: OwnClock, sync: Callable[[str], bool]
    ) -> None:
        super().__init__(clock, effects)
        self._own = own
        self._is_sync = sync
        self.offs: list[float] = []
        """By how much the clock of each caller was off."""
        self.sent: Counter[str] = Counter()
        """Calls that were not definitely refused, by prompt."""
        self.seconds_of_next: list[float] = []
        """How long the next calls take."""

    def _arrive(self, request: Request) -> None:
        if self.seconds_of_next:
            seconds = self.seconds_of_next.pop(0)
            self.during_call.append(lambda: self._clock.advance(seconds))
        self.offs.append(self._own.off)
        try:
            super()._arrive(request)
        except OutcomeUnknown:
            self.sent[self.calls[-1].prompt] += 1
            raise
        self.sent[self.calls[-1].prompt] += 1

    def _make(self, request: Request) -> FakeTask:
        task = super()._make(request)
        if self._is_sync(task.model):
            task.listed = False
            task.ends_at = task.created_at  # its answer is there when it is done
        return task

    def cancel(self, task_id: str) -> bool:
        """What has ended cannot be cancelled."""
        task = self.tasks_made.get(task_id)
        over = task is None or task.ends_at <= self._clock.now()
        takes, self.takes_cancels = self.takes_cancels, self.takes_cancels and not over
        try:
            return super().cancel(task_id)
        finally:
            self.takes_cancels = takes

    def _chunks(self, url: str) -> Iterator[bytes]:
        if url in self.files:
            return super()._chunks(url)
        return iter((self.image_of(url.rsplit("/", 2)[1]),))

    def image_of(self, task_id: str) -> bytes:
        """The image that a task makes: it tells whose it is."""
        return image_for(self.tasks_made[task_id].prompt)

    def billed_of(self, prompt: str) -> int:
        """How many tasks of that prompt were billed: those that did not fail or were cancelled."""
        return sum(
            task.prompt == prompt and not self._came_to_nothing(task.task_id)
            for task in self.tasks_made.values()
        )

    def _came_to_nothing(self, task_id: str) -> bool:
        said = self.answers.get(task_id)
        return isinstance(said, TaskAnswer) and said.status in ("FAILED", "CANCELED")


# --- the machinery ------------------------------------------------------------------------------------


@dataclass
class Message:
    """Something in a queue."""

    body: str
    due: float
    received: int = 0
    ours: bool = False
    """Whether one of our functions sent it to the queue itself; then it cannot get lost on the way."""
    errand: Errand | None = None
    """What one of our functions asks for."""


@dataclass
class Ended:
    """That an execution failed, timed out or was stopped."""

    job_id: str
    fence: int
    due: float
    tries: int = 0


@dataclass
class Person:
    """Somebody who gives a command once `when` names a job for it, until it is answered."""

    command: str
    when: Callable[[Stage], str | None]
    task: str | None = None
    job_id: str | None = None
    due: float = 0.0
    given: int = 0
    answer: dict[str, Any] | None = None


@dataclass
class Drop:
    """An object that somebody will put into the inbox."""

    at: float
    key: str
    data: bytes | None


@dataclass(frozen=True)
class Death:
    """A crash: when, in which process, at which effect."""

    at: float
    process: str
    effect: str


class Stage(World):
    """A world driven as AWS drives it.

    `true` is the world's time. The functions see it through `clock`, which may be off.
    """

    effects: Processes
    clock: OwnClock
    provider: CrashProvider

    def __init__(self, **changes: Any) -> None:
        random.seed(0)  # of the polls' jitter: the same run must be the same twice
        self.settings = settings(**{"models": MODELS, **changes})
        self.effects = Processes()
        self.true = FakeClock()
        self.clock = OwnClock(self.true)
        self.store = CrashStore(self.effects)
        self.inbox = FakeInbox(self.true)
        self.outbox = FakeOutbox(self.effects)
        self.provider = CrashProvider(self.true, self.effects, self.clock, self._is_sync)
        self.kicks = FakeKicks(self.effects)
        self.uploads = FakeUploads(self.effects)
        self.executions = FakeExecutions(self.true, self.effects)
        self.notices = FakeNotices(self.effects)

        self.processes: list[str] = []
        """The names of all functions that ran, in order."""
        self.dies_at = float("inf")
        self.effects.mark = self._mark
        self.effects.outlived = lambda: self.true.time > self.dies_at
        self.events: list[Message] = []
        self.fifo: dict[str, list[Message]] = {}
        self.ended: list[Ended] = []
        self.drops: list[Drop] = []
        self.persons: list[Person] = []
        self.begun: dict[str, float] = {}
        self.halted: dict[str, float] = {}
        """When executions stopped, by the functions' clock."""
        self.next_round = START + 45.0
        self.rounds: list[float] = []
        """When each round of reconcile began that came to its end."""
        self.deaths: list[Death] = []
        self.dead_letters: list[str] = []
        self.crossed = False
        """Whether a function ever ran between the effects of another."""

    def _is_sync(self, model: str) -> bool:
        return self.settings.models[model].call is Mode.SYNC

    def _mark(self) -> tuple[float, ...]:
        provider = self.provider
        return (
            len(self.processes),
            self.true.time,
            len(provider.queries) + len(provider.lists) + len(provider.fetched),
            len(provider.calls),
        )

    # --- what people do ---

    def drop_later(self, after: float, key: str, data: bytes | None) -> None:
        """Have an object put into the inbox, so many seconds after the start; None deletes it."""
        self.drops.append(Drop(START + after, key, data))

    def put(self, key: str, data: bytes | None) -> None:
        """Put an object into the inbox; S3 tells of it, but not of what is deleted."""
        self.inbox.put(key, data)
        if data is not None:
            self.events.append(Message(key, self.true.time))

    def job_in(self, *statuses: Status) -> str | None:
        """The id of the first job in one of these states."""
        for job in self.store.jobs.values():
            if job.status in statuses:
                return job.job_id
        return None

    # --- processes ---

    def invoke(self, name: str, work: Callable[[], object]) -> bool:
        """Let a function run; whether it came to its end. It may die, or fail in an expected way."""
        self._collect()  # of the function that it came between
        outer = self.dies_at
        self.processes.append(name)
        self.dies_at = self.true.time + LIVES[name]
        try:
            work()
        except Crash as crash:
            self.deaths.append(Death(self.true.time, name, str(crash)))
            return False
        except (TryLater, OperatorError):
            return False
        except ExceptionGroup as group:
            if group.split(TryLater)[1] is not None:
                raise
            return False
        finally:
            self.dies_at = outer
            self._collect()
        return True

    def _collect(self) -> None:
        """Take over what a process has sent."""
        now = self.true.time
        for lane in self.kicks.sent:
            self.fifo.setdefault(lane, []).append(Message(lane, now))
        self.kicks.sent.clear()
        self.events += [
            Message(
                errand.key or errand.job_id or "",
                now + (SETTLE_SECONDS if errand.settled else 0),
                ours=True,
                errand=errand,
            )
            for errand in self.uploads.announced
        ]
        self.uploads.announced.clear()
        for name in self.executions.started.keys() - self.begun.keys():
            self.begun[name] = now

    def upload(self, event: Message) -> None:
        """Deliver the event of an object; one that was not worked off comes again."""
        event.received += 1
        event.due = self.true.time + UPLOAD_HIDDEN_SECONDS
        errand = event.errand or Errand(key=event.body)
        if self.invoke("submit", lambda: see_to(self, errand)):
            self.events.remove(event)
        elif event.received >= UPLOAD_DELIVERIES:
            self.events.remove(event)
            self.dead_letters.append(event.body)

    def kick(self, lane: str) -> None:
        """Deliver what lies in a lane's group, up to ten messages at once."""
        batch = self.fifo[lane][:10]
        for message in batch:
            message.received += 1
            message.due = self.true.time + KICK_HIDDEN_SECONDS
        deadline = self.clock.now() + LIVES["dispatch"]
        if self.invoke("dispatch", lambda: dispatch(self, lane, deadline)):
            del self.fifo[lane][: len(batch)]
            return
        over = [message for message in batch if message.received >= KICK_DELIVERIES]
        self.dead_letters += [message.body for message in over]
        self.fifo[lane] = [message for message in self.fifo[lane] if message not in over]

    def turn(self, execution: FakeExecution) -> None:
        """One state of the state machine."""
        now = self.true.time
        payload = execution.payload
        job_id, fence = payload["job_id"], payload["fence"]
        if now - self.begun.setdefault(execution.name, now) > EXECUTION_SECONDS:
            self.end(execution)
            return
        answer: dict[str, Any] = {}
        if execution.finalizing:
            name = "finalize"
        else:
            name = "generate" if payload["mode"] == "sync" else "poll"
        deadline = self.clock.now() + LIVES[name]
        execution.due = now + LIVES[name] + 1  # it waits for the answer

        def work() -> None:
            if name == "finalize":
                answer.update(finalize(self, job_id, fence, deadline))
            elif name == "generate":
                answer.update(generate(self, job_id, fence, deadline))
            else:
                answer.update(poll(self, job_id, fence))

        if not self.invoke(name, work):
            tries, most = TURNS[name]
            execution.failures += 1
            execution.due = self.true.time + min(2.0**execution.failures, most)
            if execution.failures > tries:
                self.end(execution)
            return
        execution.failures = 0
        execution.due = self.true.time
        if answer["next"] == "stop":
            self.halt(execution)
        elif answer["next"] == "finalize":
            execution.finalizing = True
        else:
            execution.payload = answer
            execution.due += answer["wait_seconds"]

    def halt(self, execution: FakeExecution) -> None:
        """An execution is over, and nobody is told."""
        execution.running = False
        self.halted[execution.name] = self.clock.now()

    def end(self, execution: FakeExecution) -> None:
        """An execution failed, timed out, or was stopped by hand."""
        self.halt(execution)
        payload = execution.payload
        self.ended.append(Ended(payload["job_id"], payload["fence"], self.true.time + 0.5))

    def tell_ended(self, ended: Ended) -> None:
        """Tell reconcile that an execution has ended early."""
        work = lambda: execution_ended(self, ended.job_id, ended.fence)  # noqa: E731
        ended.due = self.true.time + LIVES["execution_ended"] + 1
        if self.invoke("execution_ended", work) or ended.tries == len(ENDED_AGAIN_SECONDS):
            self.ended.remove(ended)
            return
        ended.due = self.true.time + ENDED_AGAIN_SECONDS[ended.tries]
        ended.tries += 1

    def round(self) -> None:
        """One round of reconcile."""
        begun = self.clock.now()
        self.next_round = self.true.time + ROUND_SECONDS
        deadline = begun + LIVES["reconcile"] - RECONCILE_SPARE_SECONDS
        if self.invoke("reconcile", lambda: reconcile(self, deadline)):
            self.rounds.append(begun)

    def ask(self, person: Person) -> None:
        """Somebody gives a command; again later if there was no answer, or a busy one."""
        person.given += 1
        person.due = self.true.time + LIVES["operate"] + 1
        answer: dict[str, Any] = {}
        job_id = person.job_id or ""

        def work() -> None:
            answer.update(operate(self, person.command, job_id, person.task))

        finished = self.invoke("operate", work)
        if finished and not answer["could_not"].startswith("not now"):
            person.answer = answer
        person.due = self.true.time + PERSON_SECONDS

    def command(self, command: str, job_id: str, task: str | None = None) -> None:
        """Somebody gives a command once."""
        self.invoke("operate", lambda: operate(self, command, job_id, task))

    def upload_again(self, key: str) -> None:
        """What `submit` does at one more delivery of an event."""
        submit(self, key)

    # --- time ---

    def due(self) -> tuple[float, Callable[[], object]]:
        """What comes next, and when. What is due at the same time comes in the order below."""
        self._let_persons_look()
        found_due: list[tuple[float, Callable[[], object]]] = []

        def add(at: float, work: Callable[[], object]) -> None:
            found_due.append((max(at, self.true.time), work))

        for drop in self.drops:
            add(drop.at, lambda drop=drop: self._drop(drop))  # type: ignore[misc]
        for person in self.persons:
            if person.job_id is not None and person.answer is None:
                add(person.due, lambda person=person: self.ask(person))  # type: ignore[misc]
        for event in self.events:
            add(event.due, lambda event=event: self.upload(event))  # type: ignore[misc]
        for lane, messages in self.fifo.items():
            if messages:
                add(messages[0].due, lambda lane=lane: self.kick(lane))  # type: ignore[misc]
        for execution in self.executions.started.values():
            if execution.running:
                add(execution.due, lambda run=execution: self.turn(run))  # type: ignore[misc]
        for ended in self.ended:
            add(ended.due, lambda ended=ended: self.tell_ended(ended))  # type: ignore[misc]
        add(self.next_round, self.round)
        return min(found_due, key=lambda item: item[0])

    def _let_persons_look(self) -> None:
        for person in self.persons:
            if person.job_id is None and (found := person.when(self)) is not None:
                person.job_id, person.due = found, self.true.time

    def _drop(self, drop: Drop) -> None:
        self.drops.remove(drop)
        self.put(drop.key, drop.data)

    def step(self) -> None:
        """Let time pass until something is due, and do it."""
        at, work = self.due()
        self.true.time = at
        work()

    def come_between(self, number: int, what: Callable[[Stage], object]) -> None:
        """Have something happen before an effect, counted from now, while its function waits."""
        left = itertools.count(number - 1, -1)

        def others(_: str) -> None:
            if not next(left):
                self.effects.others = None
                self.crossed = True
                what(self)

        self.effects.others = others

    def pass_by(self, seconds: float) -> None:
        """Let so much time pass, with everything that is due in it."""
        ends = self.true.time + seconds
        while True:
            at, work = self.due()
            if at > ends:
                break
            self.true.time = at
            work()
        self.true.time = max(self.true.time, ends)

    def unrest(self) -> Iterator[str]:
        """What is still to be done, however long it takes."""
        self._let_persons_look()
        store = self.store
        yield from (f"event {event.body}" for event in self.events)
        yield from (f"execution {name.name}" for name in self.executions.running())
        yield from (f"drop {drop.key}" for drop in self.drops)
        yield from (f"kick {lane}" for lane, messages in self.fifo.items() if messages)
        yield from (f"end of {ended.job_id}" for ended in self.ended)
        for person in self.persons:
            if person.job_id is not None and person.answer is None:
                yield f"{person.command} {person.job_id}"
        for job in store.jobs.values():
            if not job.status.settled and job.status is not Status.WAITING:
                yield f"{job.job_id} {job.status}"
        yield from (f"news of {change}" for change in store.unpublished_since)
        yield from (f"alert {alert}" for alert in store.pending_alerts)
        for lane in store.lanes_stored.values():
            yield from (f"slot of {job_id}" for job_id in lane.slots)
        yield from (f"lone {key}" for key in store.alone)

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to be done, but perhaps to wait for somebody."""
        return next(self.unrest(), None) is None


# --- the rules ----------------------------------------------------------------------------------------


class Rules:
    """Looks at a stage after each step: what holds at every moment; and at the end: what must have come
    of everything (architecture 4).
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._effects = 0
        self._rounds = 0
        self._seen = 0
        self._calls: dict[str, int] = {}
        """The number of the latest call of each model."""
        self._called = 0
        self._queried = 0
        self._latest: dict[str, Job] = {}
        self.closing: dict[tuple[str, int], Job] = {}
        """Changes that must be told of by a message."""
        self._stale: dict[tuple[str, ...], float] = {}
        self.most_rounds = 0
        """Rounds of reconcile that a state survived for which it was due."""

    def look(self) -> None:
        """What holds at every moment."""
        effects = len(self.stage.effects.log)
        if effects > self._effects:
            self._effects = effects
            self._look_at_history()
            self._look_at_lanes()
            self._look_at_calls()
            self._look_at_money()
            self._look_at_sums()
        self._look_at_rounds()

    def _look_at_history(self) -> None:
        history = self.stage.store.history
        for job in history[self._seen :]:
            before = self._latest.get(job.job_id)
            self._latest[job.job_id] = job
            if before is not None and before.status in TERMINAL:
                assert job.status is before.status, f"{before.status} became {job.status}"
            elif job.status in TERMINAL:
                self.closing[job.job_id, job.version] = job
            elif job.status is Status.UNRESOLVED:
                assert job.doubt, "nobody knows why it is held"
                if before is None or before.status is not job.status:
                    self.closing[job.job_id, job.version] = job
            elif job.status is Status.HELD:
                if before is None or before.status is not job.status:
                    self.closing[job.job_id, job.version] = job
            elif job.overdue_at is not None and (before is None or before.overdue_at is None):
                self.closing[job.job_id, job.version] = job
        self._seen = len(history)

    def _look_at_lanes(self) -> None:
        stage = self.stage
        store = stage.store
        now = stage.true.time
        tasks: dict[str, str] = {}
        for job in store.jobs.values():
            if job.task_id is not None:
                other = tasks.setdefault(job.task_id, job.job_id)
                assert other == job.job_id, f"{other} and {job.job_id} have the same task"
                assert store.claims.get(job.task_id) == job.job_id, "its task is not its own"
        for name in store.known_lanes:
            lane = store.lane(name)
            window = pace_of(stage, name).window
            adopted = sum(self._by_hand(job_id) for job_id in lane.slots)
            assert len(lane.slots) - adopted <= window, "the window was exceeded"
            mine = [job for job in store.jobs.values() if job.lane == name]
            for job in mine:
                if job.status in (
                    Status.ADMITTED,
                    Status.CREATING,
                    Status.RESOLVING,
                    Status.RUNNING,
                ):
                    slot = lane.slots.get(job.job_id)
                    assert slot is not None, f"{job.job_id} is {job.status} without a slot"
                    assert slot.fence == job.fence, f"the slot of {job.job_id} is not its own"
            queued = {job.job_id for job in mine if job.status is Status.QUEUED}
            backlog = {job_id for _, job_id in store.queues.get(name, [])}
            assert queued == backlog, "a queued job is not in its backlog, or another is"
        running: Counter[str] = Counter()
        for task in stage.provider.tasks_made.values():
            if task.ends_at > now and not self._in_doubt(task):
                running[task.model] += 1
        for model, count in running.items():
            window = pace_of(stage, stage.lane_of(model)).window
            assert count <= window, f"{count} tasks of {model} at once"

    def _by_hand(self, job_id: str) -> bool:
        """Whether a person put the job back into a slot."""
        return self.stage.store.jobs[job_id].resolution == "adopt"

    def _in_doubt(self, task: FakeTask) -> bool:
        """Whether a person was asked about the task, and its slot not kept for it."""
        return any(
            job.prompt == task.prompt
            and (job.status is Status.UNRESOLVED or job.resolution is not None or job.sent_again)
            for job in self.stage.store.jobs.values()
        )

    def _look_at_calls(self) -> None:
        stage = self.stage
        provider = stage.provider
        for number in range(self._called, len(provider.calls)):
            call = provider.calls[number]
            model = str(call.request.body["model"])
            pace = pace_of(stage, stage.lane_of(model))
            if (before := self._calls.get(model)) is not None:
                gap = call.at - provider.calls[before].at
                # Nobody can know how far its clock is ahead of the last caller's.
                ahead = max(0.0, provider.offs[number] - provider.offs[before])
                assert gap >= pace.interval - ahead - _CLOSE, f"creates of {model} {gap} s apart"
            self._calls[model] = number
        self._called = len(provider.calls)
        # Of the queries before these, those that lie less than a second back can matter.
        times = [at for at, _ in provider.queries[max(0, self._queried - QUERIES_PER_SECOND) :]]
        for earlier, later in zip(times, times[QUERIES_PER_SECOND:], strict=False):
            assert later - earlier >= 1 - _CLOSE, "too many queries in a second"
        self._queried = len(provider.queries)

    def _look_at_money(self) -> None:
        """No call is made again, unless the one before was refused or the job says so."""
        allowed: Counter[str] = Counter()
        for job in self.stage.store.jobs.values():
            allowed[job.prompt or ""] += 1 + job.sent_again + job.not_fetched
        for prompt, count in self.stage.provider.sent.items():
            assert count <= allowed[prompt], f"{prompt!r} was sent {count} times, unmarked"

    def _look_at_sums(self) -> None:
        """What is used up of each day is what the jobs count for, and no more than the limit, but for
        what a person let go or what was sent again.
        """
        stage = self.stage
        sums: dict[tuple[str, str], Counter[str]] = {}
        past: set[tuple[str, str]] = set()
        for job in stage.store.jobs.values():
            assert (job.status is Status.HELD) == (job.held is not None), job
            for charged in job.charged:
                for scope in charged.scopes:
                    at = sums.setdefault((scope, charged.day), Counter())
                    at["images"] += charged.images
                    at[charged.currency or "none"] += charged.cost
                    if job.released_at is not None or job.sent_again:
                        past.add((scope, charged.day))
        assert sums.keys() == stage.store.sums.keys(), "a day was charged for nobody"
        for (scope, day), counted in sums.items():
            used = stage.store.sums[scope, day]
            assert used.images == counted["images"], f"{used} are used up, {counted} were charged"
            for currency, cost in used.cost.items():
                assert cost == counted[currency], f"{used} are used up, {counted} were charged"
            most = stage.settings.budget.images_per_day
            if scope == STACK and most is not None and (scope, day) not in past:
                assert used.images <= most, f"{used.images} images on {day}, and {most} are allowed"

    # --- how soon things are healed ---

    def _look_at_rounds(self) -> None:
        """Nothing that reconcile is due to heal survives two of its rounds."""
        if len(self.stage.rounds) == self._rounds:
            return
        self._rounds = len(self.stage.rounds)
        stale = dict(self._stale_now())
        # Of some it is not known since when it is so, but only when it was seen first.
        self._stale = {key: self._stale.get(key, since) for key, since in stale.items()}
        for key, since in self._stale.items():
            survived = sum(begun > since for begun in self.stage.rounds)
            self.most_rounds = max(self.most_rounds, survived)
            assert survived < 2, f"{key} has survived two rounds of reconcile"

    def _stale_now(self) -> Iterator[tuple[tuple[str, ...], float]]:
        """What reconcile has to heal, and since when."""
        stage = self.stage
        store = stage.store
        for job in store.jobs.values():
            since = self._stale_since(job)
            if since is not None:
                yield ("job", job.job_id, str(job.version), str(job.status)), since
            if self._could_be_entered(job):
                yield ("held", job.job_id), max([stage.clock.now(), *stage.rounds[-1:]])
            made = results_from(job) if self._may_have_results(job) else None
            if made is not None and job.at_risk_at is None:
                # Of this call: a job that is sent again has other results.
                yield ("results", job.job_id, str(made)), made + RISK_SECONDS
        for change, told in store.unpublished_since.items():
            yield ("unpublished", change[0], str(change[1])), told + STALE_SECONDS
        for alert in store.pending_alerts.values():
            yield ("alert", alert.alert_id), alert.at + STALE_SECONDS
        for name in store.known_lanes:
            lane = store.lane(name)
            for job_id, slot in lane.slots.items():
                if store.jobs[job_id].status.settled:
                    yield ("slot", job_id, str(slot.fence)), slot.lease_until
            if self._could_go_on(name, lane):
                yield (
                    ("lane", name, str(lane.version)),
                    max([stage.clock.now(), *stage.rounds[-1:]]),
                )

    def _may_have_results(self, job: Job) -> bool:
        """Whether something lies at the provider that vanishes if it is not fetched in time."""
        if job.status.terminal or job.status in (Status.WAITING, Status.HELD, Status.QUEUED):
            return False
        sync = call_of(self.stage, job) is Mode.SYNC
        return not sync or job.status is Status.FINALIZING

    def _stale_since(self, job: Job) -> float | None:
        """From when on nobody can be at work on a job; None if somebody is, or has no need to."""
        stage = self.stage
        if job.status.settled or job.status in (Status.WAITING, Status.HELD, Status.QUEUED):
            return None
        if stage.executions.alive(execution_name(job)):
            return None
        sync = call_of(stage, job) is Mode.SYNC
        match job.status:
            case Status.ADMITTED if sync:
                since = (job.admitted_at or 0.0) + STALE_SECONDS
            case Status.ADMITTED:
                since = (job.start_at or 0.0) + ADMITTED_LEASE_SECONDS
            case Status.CREATING:
                since = (job.intent_at or 0.0) + (GENERATE_SECONDS if sync else CREATING_SECONDS)
            case Status.FINALIZING:
                since = job.updated_at + min(STALE_SECONDS * 2.0**job.attempts, 1800.0)
            case _:
                since = job.updated_at
        halted = stage.halted.get(execution_name(job), 0.0)
        return max(since, job.updated_at + UNSEEN_SECONDS, halted)

    def _could_be_entered(self, job: Job) -> bool:
        """Whether a job waits for room in the stack's budget that is there, and is the first."""
        if job.held is None or not job.held.by_itself:
            return False
        stage = self.stage
        head = stage.store.backlog(held_queue(STACK), 1)
        assert head, "a job waits for room, and nobody will come to it"
        used = stage.store.used_up(STACK, day_of(stage.clock.now())).images
        images = 0 if job.estimate is None else job.estimate.images
        most = stage.settings.budget.images_per_day
        return head[0].job_id == job.job_id and most is not None and used + images <= most

    def _could_go_on(self, name: str, lane: Lane) -> bool:
        """Whether a lane has work and room for it, and nobody knows."""
        stage = self.stage
        if not stage.store.queues.get(name) or stage.fifo.get(name):
            return False
        now = stage.clock.now()
        pace = pace_of(stage, name)
        window = pace.quota if now < lane.narrow_until else pace.window
        ready = max(lane.next_create_at, lane.quiet_until, lane.paused_until or 0.0)
        return len(lane.slots) < window and ready < now

    # --- the end ---

    def look_at_the_end(self, *, waiting: bool = False) -> None:
        """What must have come of everything, once nothing moves any more. Jobs may be `waiting`."""
        stage = self.stage
        store = stage.store
        for job in store.jobs.values():
            assert job.status.settled or (waiting and job.status is Status.WAITING), job
            ends = store.terminal_statuses(job.job_id)
            assert len(ends) == (1 if job.status.terminal else 0), ends
            self._look_at_record(job)
            self._look_at_images(job)
        self._look_at_bills()
        self._look_at_charges()
        for name in store.known_lanes:
            lane = store.lane(name)
            assert not lane.slots, f"a slot is left in {name}"
            assert not store.queues.get(name), f"a backlog is left in {name}"
            assert lane.calling is None, "a call is still under way"
        assert not store.unpublished_since
        assert not store.pending_alerts
        assert not store.answers, "an answer was kept"
        self._look_at_messages()

    def _look_at_record(self, job: Job) -> None:
        stage = self.stage
        wanted = json.loads(json.dumps(record(job)))
        place = place_of(stage, job)
        if place == job.folder:
            assert stage.outbox.record(place) == wanted, "job.json is not of the latest state"
            return
        # Its place is a newer job's. It may have ended before that.
        written = itertools.chain(
            stage.outbox.objects.get(f"{place}/job.json", ()),
            stage.outbox.objects.get(f"{job.folder}/job.json", ()),
        )
        assert any(json.loads(version.data) == wanted for version in written), (
            "an older job has no record of its end"
        )

    def _look_at_images(self, job: Job) -> None:
        stage = self.stage
        if job.status is Status.SUCCEEDED:
            assert job.outputs, "no image came of a job that went well"
        for output in job.outputs:
            data = stage.outbox.read(output.key, output.version_id)
            assert data is not None, f"{output.key} is not there"
            assert sha256(data) == output.sha256
            assert data == image_for(job.prompt or ""), "it is another job's image"
            if place_of(stage, job) == job.folder:
                assert stage.outbox.data(output.key) == data, "an older image covers it"

    def _look_at_bills(self) -> None:
        """What was billed has a result to show, or the doubt about it shows."""
        provider = self.stage.provider
        jobs: dict[str, list[Job]] = {}
        for job in self.stage.store.jobs.values():
            jobs.setdefault(job.prompt or "", []).append(job)
        for prompt in {task.prompt for task in provider.tasks_made.values()}:
            mine = jobs[prompt]
            shown = sum(job.status is Status.SUCCEEDED for job in mine)
            billed = provider.billed_of(prompt)
            doubted = any(job.doubt for job in mine)
            assert billed == shown or doubted, f"{billed} billed, {shown} shown, and no doubt"
            marked = any(job.sent_again or job.resolution or job.retry_of for job in mine)
            assert billed <= len(mine) or marked, f"{prompt!r} was billed {billed} times, unmarked"

    def _look_at_charges(self) -> None:
        """What was charged is what was billed, unless there is a doubt; then it is no less."""
        provider = self.stage.provider
        if not self.stage.settings.budget.counts_days:
            return
        for prompt in {job.prompt or "" for job in self.stage.store.jobs.values()}:
            mine = [job for job in self.stage.store.jobs.values() if (job.prompt or "") == prompt]
            charged = sum(charge.images for job in mine for charge in job.charged)
            billed = provider.billed_of(prompt)  # each task makes one image
            if any(job.doubt for job in mine):
                assert charged >= billed, f"{charged} charged, {billed} billed"
            else:
                assert charged == billed, f"{charged} charged, {billed} billed"

    def _look_at_messages(self) -> None:
        stage = self.stage
        sent: Counter[tuple[str, int]] = Counter()
        ends: dict[str, set[str]] = {}
        alerts: Counter[str] = Counter()
        for note in stage.notices.notifications:
            if note.attributes["kind"] == "alert":
                alerts[note.message["alert_id"]] += 1
                continue
            job_id, status = note.message["job_id"], note.message["status"]
            sent[job_id, note.message["revision"]] += 1
            if Status(status).terminal:
                ends.setdefault(job_id, set()).add(status)
        for job_id, statuses in ends.items():
            assert len(statuses) == 1, f"{job_id} was told to have ended as {statuses}"
        for change, job in self.closing.items():
            if not job.status.terminal and stage.store.jobs[job.job_id].version > job.version:
                continue  # a person was quicker, or what was late has come
            assert sent[change], f"nobody was told that {change} is {job.status}"
        assert sent.keys() <= self.closing.keys(), "a message of what needs none"
        if not stage.deaths and not stage.crossed:
            assert set(sent.values()) <= {1}, f"told twice without a crash: {sent}"
            assert set(alerts.values()) <= {1}, f"alerted twice without a crash: {alerts}"


# --- runs ---------------------------------------------------------------------------------------------

Crashes = tuple[tuple[int, Moment], ...]
"""At which effects a run crashes: the first counted from its begin, each other from the one before."""


class CrashPlan:
    """Crashes where it is told to."""

    def __init__(self, crashes: Crashes) -> None:
        self.left = list(crashes)
        self.from_ = 0

    def __call__(self, number: int, name: str) -> Moment | None:
        if not self.left or number - self.from_ != self.left[0][0]:
            return None
        self.from_ = number
        return self.left.pop(0)[1]


@dataclass(frozen=True)
class Scenario:
    """What people drop and ask for, and what the provider does.

    Attributes:
        set_up: Prepares a stage.
        ends: How each job, by its prompt, ends where nobody dies; in order, where several have one.
        also: How they may end besides, where somebody dies.
        waiting: Whether something is left waiting in the end.
        patience: By how much later, in seconds, it may end where somebody dies: what may have been
            billed stays charged, and what is held waits for the turn of the day.
    """

    name: str
    set_up: Callable[[Stage], object]
    ends: Mapping[str, tuple[Status, ...]]
    also: Mapping[str, tuple[Status, ...]] = field(default_factory=dict)
    waiting: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    least_seconds: float = 0.0
    patience: float = 0.0


@dataclass(frozen=True)
class Run:
    """What came of a scenario."""

    stage: Stage
    rules: Rules

    @property
    def count(self) -> int:
        """How many effects there were."""
        return len(self.stage.effects.log)

    @property
    def effects(self) -> list[tuple[str, str]]:
        """Every effect, with the function that it was one of."""
        effects = self.stage.effects
        processes = [self.stage.processes[int(mark[0]) - 1] for mark in effects.before]
        return list(zip(processes, effects.log, strict=True))

    @property
    def settled_at(self) -> float:
        """When the last job ended, or was held for a person."""
        return max(job.finished_at or job.updated_at for job in self.stage.store.jobs.values())


MOST_STEPS: Final = 2000


Between = tuple[int, Callable[[Stage], object]]
"""Before which effect something else happens, and what."""


def play(
    scenario: Scenario,
    crashes: Crashes = (),
    *,
    between: Between | None = None,
    marking: bool = False,
) -> Run:
    """Play a scenario until all has come to rest, dying at the `crashes`, under the rules.

    With `marking` it can be told afterwards at which effects further crashes would differ.

    Raises:
        AssertionError: a rule was broken.
    """
    stage = Stage(**scenario.changes)
    scenario.set_up(stage)
    plan = CrashPlan(crashes)
    stage.effects.plan = plan
    stage.effects.marking = marking
    if between is not None:
        stage.come_between(*between)
    rules = Rules(stage)
    for _ in range(MOST_STEPS):
        stage.step()
        rules.look()
        if stage.true.time - START < scenario.least_seconds or not stage.at_rest:
            continue
        if scenario.waiting or stage.job_in(Status.WAITING) is None:
            break
    else:
        raise AssertionError(f"no rest: {list(stage.unrest())}")
    assert not plan.left, "it ended before it could crash"
    assert not stage.dead_letters, f"given up: {stage.dead_letters}"
    rules.look_at_the_end(waiting=scenario.waiting)
    _look_at_ends(scenario, stage)
    return Run(stage, rules)


def _look_at_ends(scenario: Scenario, stage: Stage) -> None:
    ends: dict[str, list[Status]] = {}
    for job in stage.store.jobs.values():
        ends.setdefault(job.prompt or "", []).append(job.status)
    for prompt, wanted in scenario.ends.items():
        found = ends.pop(prompt, [])
        disturbed = stage.deaths or stage.crossed
        allowed = scenario.also.get(prompt, ()) if disturbed else ()
        assert len(found) == len(wanted) or allowed, f"{prompt}: {found}"
        assert all(
            status == want or status in allowed for status, want in zip(found, wanted, strict=False)
        ), f"{prompt!r} ended as {found}, not {wanted}"
    assert not ends, f"jobs of nobody: {ends}"
