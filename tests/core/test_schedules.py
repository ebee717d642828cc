"""Many jobs, random faults, random order: the rules hold at every moment, and everything ends.

Hypothesis chooses which event comes next and where a process dies, a write is throttled, a call is
refused or its answer lost. After that storm nothing fails any more, and all must come to rest.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from retouch.errors import AccountRefused, ProviderRefused, TryLater
from retouch.jobs import Job, Status
from retouch.records import record
from retouch.registry import MODELS as REGISTRY
from retouch.steps.common import pace_of
from retouch.steps.dispatch import dispatch
from retouch.steps.submit import submit
from tests.fakes import PHOTO, QWEN, WAN, WANX, Crash, Lost, Moment, World, sidecar_json

MODELS = (WANX, QWEN, WAN)
REST_SECONDS = 12 * 3600
HOLDING = (Status.ADMITTED, Status.CREATING, Status.RUNNING)


class Storm:
    """A world with jobs in it, and everything that may happen to them."""

    def __init__(self, rng: random.Random, jobs: int):
        self.rng = rng
        self.world = World()
        self.world.provider.seconds = rng.choice([1.0, 10.0, 60.0])
        self.pending: list[str] = []
        for number in range(jobs):
            name = f"job{number}"
            model = rng.choice(MODELS)
            self.world.inbox.put(f"{name}.png", PHOTO)
            self.world.inbox.put(f"{name}.png.json", sidecar_json(model, prompt=name))
            self.pending += [f"{name}.png", f"{name}.png.json"]
        rng.shuffle(self.pending)
        self.created: Counter[str] = Counter()

    # --- what may happen ---

    def deliver_upload(self) -> None:
        if not self.pending:
            return
        key = self.rng.choice(self.pending)
        submit(self.world, key)
        if self.rng.random() < 0.7:  # else it will be delivered again
            self.pending.remove(key)

    def deliver_kick(self) -> None:
        kicks = self.world.kicks.sent
        if not kicks:
            return
        lane = self.rng.choice(kicks)
        dispatch(self.world, lane, self.world.clock.now() + self.rng.choice([28.0, 29.0, 40.0]))
        kicks[:] = [kick for kick in kicks if kick != lane]

    def turn(self) -> None:
        due = [
            execution
            for execution in self.world.executions.running()
            if execution.due <= self.world.clock.now()
        ]
        if due:
            self.world.turn(self.rng.choice(due))

    def stop_an_execution(self) -> None:
        running = self.world.executions.running()
        if running:
            self.rng.choice(running).running = False

    def lose_a_kick(self) -> None:
        if self.world.kicks.sent:
            self.world.kicks.sent.pop()

    def sweep(self) -> None:
        self.world.reconcile()

    def wait(self) -> None:
        self.world.clock.advance(self.rng.choice([0.1, 1.0, 5.0, 60.0, 200.0]))

    # --- what may go wrong ---

    def stormy(self) -> None:
        rng = self.rng
        effects = self.world.effects
        effects.plan = lambda *_: rng.choice(list(Moment)) if rng.random() < 0.03 else None
        effects.throttle = lambda name: name == "commit" and rng.random() < 0.02
        provider = self.world.provider
        provider.next_calls.clear()
        if rng.random() < 0.3:
            outcomes: list[Exception | Lost] = [
                TryLater("slow down", code="Throttling"),
                AccountRefused("InvalidApiKey", "no"),
                ProviderRefused("DataInspectionFailed", "no"),
                Lost(made=True),
                Lost(made=False),
            ]
            provider.next_calls.append(rng.choice(outcomes))
        provider.next_queries.clear()
        if rng.random() < 0.2:
            provider.next_queries.append(TryLater("HTTP 503", code="ServiceUnavailable"))

    def calm(self) -> None:
        self.world.effects.heal()
        self.world.provider.next_calls.clear()
        self.world.provider.next_queries.clear()

    def step(self, action: Callable[[], None]) -> None:
        try:
            action()
        except* (Crash, TryLater):
            pass  # a throttle, alone or as reconcile reports several; or the process has died
        self.check()

    # --- what must hold ---

    def check(self) -> None:
        store = self.world.store
        for model in MODELS:
            lane = store.lane(self.world.lane_of(model))
            window = pace_of(self.world, lane.lane).window
            assert len(lane.slots) <= window, "the window was exceeded"
            holding = {
                job.job_id
                for status in HOLDING
                for job in store.jobs_in(status)
                if job.lane == lane.lane
            }
            assert holding <= set(lane.slots), "a job at the provider has no slot"
            queued = {job.job_id for job in store.jobs_in(Status.QUEUED) if job.lane == lane.lane}
            backlog = {entry.job_id for entry in store.backlog(lane.lane, 100)}
            assert queued == backlog, "a queued job is not in its backlog, or another is"
            sent = [
                call.at for call in self.world.provider.calls if call.request.body["model"] == model
            ]
            gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
            pace = REGISTRY[model].quota.per_seconds / REGISTRY[model].quota.creates
            assert all(gap >= pace - 0.001 for gap in gaps), "creates came faster than the rate"
        made = Counter(self.world.provider.billed)
        assert all(count == 1 for count in made.values()), f"billed twice: {made}"

    def settle(self) -> None:
        """Nothing fails any more; play until all has come to rest."""
        self.calm()
        world = self.world
        ends = world.clock.now() + REST_SECONDS
        for key in list(self.pending):
            self.step(lambda key=key: _ignore(submit(world, key)))  # type: ignore[misc]
        while world.clock.now() < ends:
            lanes = list(dict.fromkeys(world.kicks.sent))
            world.kicks.sent.clear()
            for lane in lanes:
                dispatch(world, lane, world.clock.now() + 900)
            for execution in world.executions.running():
                world.turn(execution)
            self.check()
            if self.at_rest():
                return
            world.clock.advance(5)
            if int(world.clock.now()) % 60 < 5:
                world.reconcile()
        raise AssertionError(f"no rest: {[job.status for job in self.unsettled()]}")

    def unsettled(self) -> list[Job]:
        every = map(self.world.store.the_job, self.world.store.jobs)
        return [job for job in every if not job.status.settled]

    def at_rest(self) -> bool:
        store = self.world.store
        slots = any(lane.slots for lane in store.lanes_stored.values())
        untold = store.unpublished_since or store.pending_alerts
        return not self.unsettled() and not untold and not slots


def _ignore(_: object) -> None:
    return None


@settings(
    max_examples=60,
    deadline=None,
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # shrinking a storm takes long, says little
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rng=st.randoms(use_true_random=False), jobs=st.integers(1, 8), length=st.integers(1, 120))
def test_under_random_schedules_and_crashes_every_job_ends_once_and_is_billed_once(
    rng: random.Random, jobs: int, length: int
) -> None:
    storm = Storm(rng, jobs)
    actions = [
        storm.deliver_upload,
        storm.deliver_upload,
        storm.deliver_kick,
        storm.deliver_kick,
        storm.turn,
        storm.turn,
        storm.turn,
        storm.wait,
        storm.wait,
        storm.sweep,
        storm.stop_an_execution,
        storm.lose_a_kick,
    ]
    for _ in range(length):
        storm.stormy()
        storm.step(rng.choice(actions))

    storm.settle()

    world, store = storm.world, storm.world.store
    assert len(store.jobs) == jobs
    billed = Counter(world.provider.billed)
    for job in map(store.the_job, store.jobs):
        ends = store.terminal_statuses(job.job_id)
        assert len(ends) == (0 if job.status is Status.UNRESOLVED else 1)
        assert billed[job.prompt or ""] <= 1
        if job.status is Status.SUCCEEDED:
            assert billed[job.prompt or ""] == 1
            assert f"{job.folder}/{job.folder}-1.png" in world.outbox.objects
        elif billed[job.prompt or ""] == 1:
            assert job.doubt, "money was spent, and nothing says so"
        told = {
            note.message["job_id"]: note
            for note in world.notices.notifications
            if note.attributes["kind"] == "job"
        }
        assert told[job.job_id].attributes["status"] == str(job.status)
        assert world.outbox.record(job.folder) == json.loads(json.dumps(record(job)))
    for model in MODELS:
        assert store.lane(world.lane_of(model)).slots == {}, "a slot leaked"
        assert store.backlog(world.lane_of(model), 1) == []


@settings(max_examples=15, deadline=None)
@given(rng=st.randoms(use_true_random=False), jobs=st.integers(1, 12))
def test_without_faults_every_job_succeeds_and_is_told_of_exactly_once(
    rng: random.Random, jobs: int
) -> None:
    storm = Storm(rng, jobs)

    storm.settle()

    every = list(map(storm.world.store.the_job, storm.world.store.jobs))
    assert {job.status for job in every} == {Status.SUCCEEDED}
    told = Counter(note.message["job_id"] for note in storm.world.notices.notifications)
    assert told == Counter({job.job_id: 1 for job in every})
    for job in every:
        statuses = storm.world.notices.statuses(job.job_id)
        assert len(statuses) == len(set(statuses))
