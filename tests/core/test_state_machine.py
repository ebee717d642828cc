"""Anything may happen in any order: the rules hold at every moment, and everything ends.

Hypothesis interleaves drops, events that come late, twice, out of order or never, crashes, a table that
is throttled, a provider that refuses or loses its answers, clocks that jump or are off, executions that
are stopped and redriven, and people who cancel, retry and resolve. One function may come in between any
two effects of another. After that nothing fails any more, and all must come to rest by the rules.

    RETOUCH_STORMS=5000 pytest tests/core/test_state_machine.py    looks further, with other seeds
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from retouch import keys
from retouch.errors import (
    NOT_REACHED,
    NOT_SENT,
    AccountRefused,
    InputNotFetched,
    ProviderRefused,
    TryLater,
)
from retouch.jobs import Failure, Status
from retouch.provider.answers import RewrittenPrompt, TaskAnswer
from retouch.steps.submit import job_id_of
from tests.core.crashing import SMALL, Message, Rules, Stage
from tests.fakes import (
    QWEN,
    WANX,
    FakeProvider,
    FakeTask,
    Lost,
    Moment,
    sidecar_json,
)

STORMS: Final = int(os.environ.get("RETOUCH_STORMS", "0"))
EXAMPLES: Final = 300
STEPS: Final = 60
NAMES: Final = ("red", "green", "blue")
REST_SECONDS: Final = 2 * 3600.0 + 300.0
"""By then everything has been looked at again, also what is looked at every hour."""
MOST_STEPS: Final = 5000

T = TypeVar("T")

indices = st.integers(0, 7)
names = st.sampled_from(NAMES)
statuses = st.sampled_from(("UNKNOWN", "FAILED", "NOT_FETCHED", "PENDING"))
refusals: Final[st.SearchStrategy[Exception | Lost]] = st.sampled_from(
    (
        TryLater("slow down", code="Throttling.RateQuota"),
        TryLater("nobody there", code=NOT_REACHED),
        TryLater("not sent", code=NOT_SENT),
        AccountRefused("Arrearage", "pay your bill"),
        ProviderRefused("DataInspectionFailed", "not that"),
        InputNotFetched("download failed", code="BadRequest.InputDownloadFailed"),
        Lost(made=True),
        Lost(made=False),
    )
)
query_faults: Final[st.SearchStrategy[Exception]] = st.sampled_from(
    (
        TryLater("HTTP 503", code="ServiceUnavailable"),
        AccountRefused("InvalidApiKey", "no"),
    )
)
list_faults: Final[st.SearchStrategy[Exception]] = st.sampled_from(
    (
        TryLater("HTTP 503", code="ServiceUnavailable"),
        AccountRefused("InvalidApiKey", "no"),
        ProviderRefused("InvalidParameter", "no"),
    )
)


@dataclass(frozen=True)
class Dies:
    """A function dies at so many effects from now."""

    number: int
    moment: Moment


@dataclass(frozen=True)
class ComesBetween:
    """Before so many effects from now, another function runs from begin to end; `what` and which."""

    number: int
    what: int
    index: int


Trouble: TypeAlias = Dies | ComesBetween | None


def troubles(most: int) -> st.SearchStrategy[Trouble]:
    """What may happen within so many effects."""
    numbers = st.integers(1, most)
    return st.one_of(
        st.none(),
        st.builds(Dies, numbers, st.sampled_from(Moment)),
        st.builds(ComesBetween, numbers, st.integers(0, 4), indices),
    )


few = troubles(12)


call_seconds = st.sampled_from((0.0, 0.3, 5.0, 27.0))


def nth(things: list[T], index: int) -> T:
    return things[index % len(things)]


class Storm(RuleBasedStateMachine):
    """A stage on which anything may happen."""

    stage: Stage
    watch: Rules

    @initialize(
        seconds=st.sampled_from((1.0, 10.0, 60.0)),
        takes_cancels=st.booleans(),
        shows_after=st.sampled_from((0.0, 0.0, 8.0, 60.0)),
        skew=st.sampled_from((0.0, -5.0, 5.0)),
        models=st.lists(st.sampled_from((WANX, WANX, QWEN)), max_size=3),
        faults=st.lists(st.tuples(refusals, call_seconds), max_size=3),
    )
    def begin(
        self,
        seconds: float,
        takes_cancels: bool,
        shows_after: float,
        skew: float,
        models: list[str],
        faults: list[tuple[Exception | Lost, float]],
    ) -> None:
        self.stage = Stage()
        self.watch = Rules(self.stage)
        self.broken = False
        provider = self.stage.provider
        provider.seconds = seconds
        provider.takes_cancels = takes_cancels
        provider.shows_after = shows_after
        provider.skew = skew
        self.count = 0
        for name, model in zip(NAMES, models, strict=False):
            self.drop_both(name, model)
        for fault, takes in faults:
            self.fault_of_next_call(fault, takes)

    # --- drops and their events ---

    @rule(name=names)
    def drop_image(self, name: str) -> None:
        self.stage.put(f"{name}.png", SMALL)

    @rule(name=names, model=st.sampled_from((WANX, WANX, QWEN)), short=st.booleans())
    def drop_sidecar(self, name: str, model: str, short: bool) -> None:
        self.count += 1
        key = f"{name}.json" if short else f"{name}.png.json"
        self.stage.put(key, sidecar_json(model, prompt=f"{name} {self.count}"))

    @rule(name=names, model=st.sampled_from((WANX, WANX, QWEN)))
    def drop_both(self, name: str, model: str) -> None:
        self.drop_image(name)
        self.drop_sidecar(name, model, short=False)

    @rule(name=names, suffix=st.sampled_from((".png", ".png.json", ".json")))
    def delete(self, name: str, suffix: str) -> None:
        key = name + suffix
        if self.stage.inbox.head(key) is not None:
            self.stage.put(key, None)

    @precondition(lambda self: self.stage.events)
    @rule(index=indices, trouble=few)
    def deliver_event(self, index: int, trouble: Trouble) -> None:
        self.act(lambda: self.stage.upload(nth(self.stage.events, index)), trouble)

    @precondition(lambda self: self.stage.events)
    @rule(index=indices)
    def repeat_event(self, index: int) -> None:
        event = nth(self.stage.events, index)
        self.stage.events.append(Message(event.body, self.stage.true.time))

    def losable(self) -> list[Message]:
        return [event for event in self.stage.events if not event.ours]

    @precondition(lambda self: self.losable())
    @rule(index=indices)
    def lose_event(self, index: int) -> None:
        self.stage.events.remove(nth(self.losable(), index))

    # --- kicks ---

    def kicked(self) -> list[str]:
        return [lane for lane, messages in self.stage.fifo.items() if messages]

    @precondition(lambda self: self.kicked())
    @rule(index=indices, trouble=few)
    def deliver_kick(self, index: int, trouble: Trouble) -> None:
        self.act(lambda: self.stage.kick(nth(self.kicked(), index)), trouble)

    @rule(model=st.sampled_from((WANX, QWEN)))
    def kick(self, model: str) -> None:
        lane = self.stage.lane_of(model)
        self.stage.fifo.setdefault(lane, []).append(Message(lane, self.stage.true.time))

    @precondition(lambda self: self.kicked())
    @rule(index=indices)
    def lose_kick(self, index: int) -> None:
        self.stage.fifo[nth(self.kicked(), index)].pop()

    # --- executions ---

    @precondition(lambda self: self.stage.executions.running())
    @rule(index=indices, trouble=few)
    def turn(self, index: int, trouble: Trouble) -> None:
        execution = nth(self.stage.executions.running(), index)
        self.stage.true.time = max(self.stage.true.time, execution.due)
        self.act(lambda: self.stage.turn(execution), trouble)

    @precondition(lambda self: self.stage.executions.running())
    @rule(index=indices, told=st.booleans())
    def stop_execution(self, index: int, told: bool) -> None:
        execution = nth(self.stage.executions.running(), index)
        if told:
            self.stage.end(execution)
        else:
            self.stage.halt(execution)

    @precondition(lambda self: self.stage.ended)
    @rule(index=indices, trouble=few)
    def tell_ended(self, index: int, trouble: Trouble) -> None:
        self.act(lambda: self.stage.tell_ended(nth(self.stage.ended, index)), trouble)

    @precondition(lambda self: self.stage.executions.started)
    @rule(index=indices)
    def redrive(self, index: int) -> None:
        execution = nth(list(self.stage.executions.started.values()), index)
        if not execution.running:
            execution.running = True
            execution.failures = 0
            execution.due = self.stage.true.time
            self.stage.begun[execution.name] = self.stage.true.time

    # --- the schedule, and what goes well ---

    @rule(trouble=few)
    def reconcile(self, trouble: Trouble) -> None:
        self.act(self.stage.round, trouble)

    @rule(steps=st.integers(1, 12), trouble=troubles(40))
    def go_on(self, steps: int, trouble: Trouble) -> None:
        def play() -> None:
            for _ in range(steps):
                self.stage.step()
                self.look()

        self.act(play, trouble)

    # --- people ---

    @precondition(lambda self: self.stage.store.jobs)
    @rule(command=st.sampled_from(("cancel", "retry", "again", "fail")), index=indices, trouble=few)
    def command(self, command: str, index: int, trouble: Trouble) -> None:
        job_id = nth(list(self.stage.store.jobs), index)
        self.act(lambda: self.stage.command(command, job_id), trouble)

    @precondition(lambda self: self.stage.job_in(Status.UNRESOLVED))
    @rule(command=st.sampled_from(("again", "fail", "adopt")), index=indices, trouble=few)
    def decide(self, command: str, index: int, trouble: Trouble) -> None:
        store, provider = self.stage.store, self.stage.provider
        held = [job for job in store.jobs.values() if job.status is Status.UNRESOLVED]
        job = nth(held, index)
        # A person may err in which task it is, but not take one of nobody's that is for other images.
        tasks = [
            task.task_id
            for task in provider.tasks_made.values()
            if task.prompt == job.prompt or task.task_id in store.claims
        ]
        task = nth([*tasks, "no-such-task"], index)
        self.act(lambda: self.stage.command(command, job.job_id, task), trouble)

    # --- what goes wrong ---

    @rule(commits=st.sampled_from((1, 2, 5, 13, 30, 50)))
    def throttle_table(self, commits: int) -> None:
        left = [commits]

        def throttle(name: str) -> bool:
            if name != "commit" or not left[0]:
                return False
            left[0] -= 1
            return True

        self.stage.effects.throttle = throttle

    @rule(fault=refusals, seconds=call_seconds)
    def fault_of_next_call(self, fault: Exception | Lost, seconds: float) -> None:
        self.stage.provider.next_calls.append(fault)
        self.stage.provider.seconds_of_next.append(seconds)

    @rule(fault=query_faults)
    def fault_of_next_query(self, fault: Exception) -> None:
        self.stage.provider.next_queries.append(fault)

    @rule(fault=list_faults)
    def fault_of_next_list(self, fault: Exception) -> None:
        self.stage.provider.next_lists.append(fault)

    @rule()
    def somebody_elses_task(self) -> None:
        provider, now = self.stage.provider, self.stage.true.time
        name = f"foreign-{len(provider.foreign) + 1}"
        provider.foreign.append(FakeTask(name, "theirs", now, now + 5.0, 1, WANX))
        provider.answers[name] = TaskAnswer(
            status="SUCCEEDED",
            images=FakeProvider.urls(name, 1),
            prompts=(RewrittenPrompt(original="theirs", actual=None),),
        )

    @precondition(lambda self: self.stage.provider.tasks_made)
    @rule(index=indices, status=statuses)
    def fate_of_task(self, index: int, status: str) -> None:
        provider, now = self.stage.provider, self.stage.true.time
        task = nth(list(provider.tasks_made.values()), index)
        if task.ends_at <= now or not task.listed:
            return
        failure = None
        if status == "NOT_FETCHED":
            code = "BadRequest.InputDownloadFailed"
            status, failure = "FAILED", Failure(code=code, message="download failed")
        if status != "PENDING":
            task.ends_at = now
        provider.answers[task.task_id] = TaskAnswer(status=status, failure=failure)

    @precondition(lambda self: self.stage.provider.tasks_made)
    @rule(index=indices)
    def image_not_to_be_had(self, index: int) -> None:
        provider = self.stage.provider
        task_id = nth(list(provider.tasks_made), index)
        for url in FakeProvider.urls(task_id, 1):
            provider.refused_urls[url] = ProviderRefused("ResultExpired", "gone")

    # --- time ---

    @rule(seconds=st.sampled_from((0.2, 1.0, 3.0, 10.0, 31.0, 91.0, 125.0, 301.0, 700.0)))
    def wait(self, seconds: float) -> None:
        self.stage.true.advance(seconds)

    @rule(hours=st.sampled_from((0.5, 1.0, 4.1, 9.0)))
    def wait_long(self, hours: float) -> None:
        self.stage.true.advance(hours * 3600)

    @rule(off=st.sampled_from((0.0, 0.0, -5.0, -2.0, 2.0, 5.0)))
    def clock_off(self, off: float) -> None:
        self.stage.clock.off = off

    # --- functions, and who comes between ---

    def act(self, action: Callable[[], object], trouble: Trouble) -> None:
        """Do something, with the trouble that comes over it."""
        effects = self.stage.effects
        if isinstance(trouble, Dies):
            effects.crash_at(trouble.number, trouble.moment)
        elif isinstance(trouble, ComesBetween):
            what, index = trouble.what, trouble.index
            self.stage.come_between(trouble.number, lambda _: self.come(what, index))
        action()
        effects.plan = None
        effects.others = None

    def come(self, what: int, index: int) -> None:
        stage = self.stage
        match what:
            case 0 if self.kicked():
                lane = nth(self.kicked(), index)
                stage.invoke("dispatch", lambda: stage.dispatch_lane(lane, seconds=75.0))
            case 1 if stage.executions.running():
                stage.turn(nth(stage.executions.running(), index))
            case 2:
                stage.round()
            case 3 if stage.store.jobs:
                command = nth(["cancel", "retry", "again", "fail"], index)
                stage.command(command, nth(list(stage.store.jobs), index // 4))
            case 4 if stage.events:
                body = nth(stage.events, index).body
                stage.invoke("submit", lambda: stage.upload_again(body))
            case _:
                lane = stage.lane_of(WANX)
                stage.invoke("dispatch", lambda: stage.dispatch_lane(lane, seconds=75.0))

    # --- what must hold ---

    @invariant()
    def look(self) -> None:
        try:
            self.watch.look()
        except BaseException:
            self.broken = True
            raise

    def teardown(self) -> None:
        if not hasattr(self, "stage") or self.broken:
            return
        self.settle()
        self.watch.look_at_the_end(waiting=True)
        self.look_at_drops()

    def settle(self) -> None:
        """Nothing fails any more; play until all has come to rest."""
        stage = self.stage
        stage.effects.heal()
        stage.effects.others = None
        provider = stage.provider
        provider.next_calls.clear()
        provider.seconds_of_next.clear()
        provider.next_queries.clear()
        provider.next_lists.clear()
        for task_id, answer in list(provider.answers.items()):
            if isinstance(answer, TaskAnswer) and answer.status == "PENDING":
                del provider.answers[task_id]
        stage.clock.off = 0.0
        begun = stage.true.time
        for _ in range(MOST_STEPS):
            stage.step()
            self.watch.look()
            if stage.true.time - begun > REST_SECONDS and stage.at_rest:
                return
        raise AssertionError(f"no rest: {list(stage.unrest())}")

    def look_at_drops(self) -> None:
        """Nothing that lies in the inbox was lost."""
        stage = self.stage
        store, inbox = stage.store, stage.inbox
        for key in inbox.objects:
            there = inbox.head(key)
            if there is None:
                continue
            if keys.classify(key) is keys.Kind.SIDECAR:
                job = store.job(job_id_of(key, there.version_id))
                assert job is not None, f"{key} has no job"
                if job.status is Status.WAITING:
                    image = f"{keys.outbox_folder(key)}.png"
                    assert inbox.head(image) is None, f"{key} waits for what is there"
                continue
            sidecars = keys.sidecars_of(key)
            if all(inbox.head(sidecar) is None for sidecar in sidecars):
                known = key in store.recorded or any(
                    job.sidecar in sidecars for job in store.jobs.values()
                )
                assert known, f"{key} has no record"


Storm.TestCase.settings = settings(
    max_examples=STORMS or EXAMPLES,
    stateful_step_count=STEPS,
    derandomize=not STORMS,
    deadline=None,
    database=None,
    print_blob=bool(STORMS),
    phases=(Phase.generate, Phase.shrink) if STORMS else (Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
TestStorm = Storm.TestCase
