"""Plays a world to its end, and holds the end against the rules (architecture, section 4).

`play` is the stack's machinery: the queue that delivers kicks, the state machine's turns, and the
schedule of `reconcile`. `check_rules` looks at what is left when nothing moves any more.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from contextlib import suppress
from typing import Any, Final

from botocore.exceptions import ClientError

from retouch import keys
from retouch.errors import OperatorError, TryLater
from retouch.jobs import TERMINAL, Job, Status
from retouch.ports import SETTLE_SECONDS, Errand
from retouch.records import place_of, record
from retouch.steps.common import pace_of
from retouch.steps.reconcile import execution_ended, reconcile
from retouch.steps.submit import job_id_of, see_to
from tests.fakes import Crash, FakeExecution, World, sha256

KICK_VISIBILITY_SECONDS: Final = 80.0
"""As in template.yaml: a kick whose delivery failed comes again after that."""
UPLOAD_VISIBILITY_SECONDS: Final = 1080.0
"""Likewise, for an upload's event."""
RECONCILE_SECONDS: Final = 60.0
RECONCILE_LIVES_SECONDS: Final = 50.0
FAILED: Final = (Crash, TryLater, OperatorError, ClientError)
"""What an invocation of a function may end with; whatever invoked it tries again."""
_REST_SECONDS: Final = 12 * 3600
_QUERIES_A_SECOND: Final = 15
_MOST_FAILURES: Final = 8
"""Of a state of the state machine, in a row."""


def play(
    world: World,
    *uploads: str,
    seconds: float = _REST_SECONDS,
    sweeping: bool = True,
) -> None:
    """Deliver the events of `uploads`, and serve kicks, executions and the schedule until nothing is
    left to do.

    Raises:
        AssertionError: after `seconds` there still is.
    """
    machinery = Machinery(world, sweeping=sweeping)
    machinery.uploads = [(world.clock.now(), key) for key in uploads]
    ends = world.clock.now() + seconds
    while not machinery.at_rest():
        assert world.clock.now() < ends, f"no rest: {_unrest(world)}"
        machinery.step()


def play_for(world: World, seconds: float, *, sweeping: bool = True) -> None:
    """Serve kicks, executions and the schedule for so long, whatever is left to do then."""
    machinery = Machinery(world, sweeping=sweeping)
    ends = world.clock.now() + seconds
    while world.clock.now() < ends:
        machinery.step(until=ends)


class Machinery:
    """What drives the steps of a world, with the stack's own delays and repetitions."""

    def __init__(self, world: World, *, sweeping: bool = True):
        self.world = world
        self.sweeping = sweeping
        self.next_sweep = world.clock.now() + RECONCILE_SECONDS
        self.hidden: list[tuple[float, str]] = []
        """Kicks whose delivery failed, and when they come again."""
        self.uploads: list[tuple[float, str | Errand]] = []
        """Events of uploads, and when they come."""

    def step(self, until: float | None = None) -> None:
        """Do what is due, then let time pass until something is."""
        world = self.world
        self._deliver_uploads()
        self._serve_kicks()
        for execution in world.executions.running():
            self._turn(execution)
        if self.sweeping and world.clock.now() >= self.next_sweep:
            self.next_sweep = world.clock.now() + RECONCILE_SECONDS
            self._sweep()
        if world.kicks.sent or world.uploads.announced:
            return
        due = [execution.due for execution in world.executions.running()]
        due += [moment for moment, _ in (*self.hidden, *self.uploads)]
        due += [self.next_sweep] if self.sweeping else []
        due += [until] if until is not None else []
        now = world.clock.now()
        world.clock.advance(max(min(due, default=now + 1.0) - now, 0.001))

    def _deliver_uploads(self) -> None:
        world = self.world
        now = world.clock.now()
        due: list[str | Errand] = [errand for moment, errand in self.uploads if moment <= now]
        self.uploads = [(moment, errand) for moment, errand in self.uploads if moment > now]
        for errand in world.uploads.announced:
            if errand.settled:
                self.uploads.append((now + SETTLE_SECONDS, errand))
            else:
                due.append(errand)
        world.uploads.announced.clear()
        for told in due:
            try:
                see_to(world, told if isinstance(told, Errand) else Errand(key=told))
            except FAILED:
                self.uploads.append((world.clock.now() + UPLOAD_VISIBILITY_SECONDS, told))

    def _serve_kicks(self) -> None:
        world = self.world
        now = world.clock.now()
        back = [lane for moment, lane in self.hidden if moment <= now]
        self.hidden = [(moment, lane) for moment, lane in self.hidden if moment > now]
        lanes = list(dict.fromkeys((*back, *world.kicks.sent)))
        world.kicks.sent.clear()
        for lane in lanes:
            try:
                world.dispatch_lane(lane, seconds=75.0)
            except FAILED:
                self.hidden.append((world.clock.now() + KICK_VISIBILITY_SECONDS, lane))

    def _turn(self, execution: FakeExecution) -> None:
        try:
            self.world.turn(execution)
        except (Crash, TryLater):
            pass  # whoever was told of its end has failed; the sweep will find it
        except (OperatorError, ClientError):
            # As any other failure: the state machine tries again, ever more slowly.
            execution.failures += 1
            execution.due = self.world.clock.now() + min(2.0**execution.failures, 120.0)
            if execution.failures > _MOST_FAILURES:
                execution.running = False
                payload = execution.payload
                with suppress(*FAILED):  # its event comes again, and then the sweep
                    execution_ended(self.world, payload["job_id"], payload["fence"])

    def _sweep(self) -> None:
        try:
            reconcile(self.world, self.world.clock.now() + RECONCILE_LIVES_SECONDS)
        except* FAILED:
            pass  # said, and followed by the next round

    def at_rest(self) -> bool:
        """Whether nothing will happen any more, unless somebody does something."""
        world = self.world
        if world.kicks.sent or self.hidden or world.uploads.announced or self.uploads:
            return False
        if world.executions.running():
            return False
        if world.store.unpublished_since or world.store.pending_alerts:
            return False
        if any(lane.slots for lane in world.store.lanes_stored.values()):
            return False
        return all(job.status.settled for job in all_jobs(world))


def all_jobs(world: World) -> list[Job]:
    """Every job, in the order they were entered."""
    return list(world.store.jobs.values())


def _unrest(world: World) -> str:
    states = {job.sidecar: str(job.status) for job in all_jobs(world) if not job.status.settled}
    slots = {name: list(lane.slots) for name, lane in world.store.lanes_stored.items()}
    return f"{states}, slots {slots}, untold {dict(world.store.unpublished_since)}"


# --- what must hold ----------------------------------------


def check_rules(
    world: World, *, told_again: bool = False, waiting: bool = False, pace: bool = True
) -> None:
    """Everything that must hold of a world that has come to its end.

    `told_again` allows a message to be repeated word for word, as after a crash between telling and
    noting it; `waiting` allows jobs that wait for the rest of their drop. Without `pace`, somebody
    else looks at the second rule.
    """
    jobs = all_jobs(world)
    _check_money(world, jobs)
    if pace:
        check_pace(world)
    _check_nothing_lost(world, jobs)
    written = _records(world)
    for job in jobs:
        if waiting and job.status is Status.WAITING:
            assert job.missing, f"{job.sidecar} waits and does not say for what"
        else:
            _check_one_end(world, job, told_again=told_again)
        _check_record(world, job, written)
        _check_results(world, job)
    _check_nothing_left(world)
    _check_secrets(world, jobs)


def _check_money(world: World, jobs: list[Job]) -> None:
    """Rule 1: one task for each job, or as many more as it says; no doubt is hidden."""
    made = Counter(world.provider.billed)
    for prompt, count in made.items():
        asked = [job for job in jobs if job.prompt == prompt]
        allowed = sum(1 + job.sent_again + job.not_fetched for job in asked)
        assert count <= allowed, f"{prompt!r} was made {count} times, {allowed} allowed"
    for job in world.store.history:
        assert job.doubt or not job.sent_again, f"{job.sidecar} was sent again, unsaid"
    for job in jobs:
        if job.status is Status.UNRESOLVED:
            assert job.doubt, f"{job.sidecar} is held and does not say why"
        spent = made[job.prompt or ""] > 0 and job.intent_at is not None
        free = job.provider_status in ("FAILED", "CANCELED")
        if spent and not job.outputs and not free and job.text is None:
            assert job.doubt, f"money was spent on {job.sidecar} for nothing, unsaid"


def check_pace(world: World) -> None:
    """Rule 2: window and rate of each lane, and the account's rate of queries."""
    sent: dict[str, list[float]] = {}
    for call in world.provider.calls:
        model = str(call.request.body["model"])
        sent.setdefault(world.lane_of(model), []).append(call.at)
    for lane, times in sent.items():
        interval = pace_of(world, lane).interval
        gaps = [later - earlier for earlier, later in itertools.pairwise(sorted(times))]
        assert all(gap >= interval - 0.001 for gap in gaps), f"{lane}: faster than its rate: {gaps}"
    changes: dict[str, list[tuple[float, int]]] = {}
    for task in world.provider.tasks_made.values():
        # A synchronous call is over when it has answered, a scripted task when it says so.
        if task.listed and task.task_id not in world.provider.answers:
            steps = changes.setdefault(world.lane_of(task.model), [])
            steps += [(task.created_at, 1), (task.ends_at, -1)]
    for lane, steps in changes.items():
        most = max(itertools.accumulate(step for _, step in sorted(steps)))
        assert most <= pace_of(world, lane).window, f"{lane}: {most} tasks at once"
    for asked in (world.provider.queries, world.provider.lists):
        moments = sorted(at for at, _ in asked)
        for first, beyond in zip(moments, moments[_QUERIES_A_SECOND:], strict=False):
            assert beyond - first >= 0.999, "faster than the account's limit on queries"


def _check_nothing_lost(world: World, jobs: list[Job]) -> None:
    """Rule 3: every sidecar that lies in the inbox has a job, whose record lies in the outbox."""
    known = {job.job_id for job in jobs}
    for key, versions in world.inbox.objects.items():
        latest = versions[-1]
        if latest.data is not None and keys.classify(key) is keys.Kind.SIDECAR:
            assert job_id_of(key, latest.version_id) in known, f"{key} was lost"


def _check_one_end(world: World, job: Job, *, told_again: bool) -> None:
    """Rule 4: one terminal state, told of once."""
    ends = world.store.terminal_statuses(job.job_id)
    if not job.status.terminal:
        assert job.status is Status.UNRESOLVED, f"{job.sidecar} is {job.status}"
        assert ends == [], f"{job.sidecar} had ended: {ends}"
        assert any(note["status"] == "UNRESOLVED" for note in told_of(world, job))
        return
    assert ends == [job.status], f"{job.sidecar} ended as {ends}"
    notes = [note for note in told_of(world, job) if note["status"] in TERMINAL]
    assert notes, f"nobody was told that {job.sidecar} has ended"
    assert all(note == notes[0] for note in notes), f"{job.sidecar}: messages differ: {notes}"
    assert notes[0]["status"] == str(job.status)
    closed = next(j for j in world.store.history if j.job_id == job.job_id and j.status.terminal)
    assert notes[0]["revision"] == closed.version
    assert notes[0]["doubt"] is (job.doubt is not None)
    if not told_again:
        assert len(notes) == 1, f"{job.sidecar} was told of {len(notes)} times"


def told_of(world: World, job: Job) -> list[dict[str, Any]]:
    """The messages about a job, without alerts for the operator."""
    return [
        note.message
        for note in world.notices.notifications
        if note.message.get("job_id") == job.job_id and note.attributes.get("kind") != "alert"
    ]


def _records(world: World) -> dict[str, dict[str, Any]]:
    """What was written last about each job, wherever, by its id."""
    written = [
        (version.version_id, version.data)
        for key, versions in world.outbox.objects.items()
        if key.endswith("/job.json")
        for version in versions
    ]
    written.sort(key=lambda each: int(each[0].removeprefix("o")))
    said = [json.loads(data) for _, data in written]
    return {each["job_id"]: each for each in said}


def _check_record(world: World, job: Job, written: dict[str, dict[str, Any]]) -> None:
    """What its owner sees in the outbox is what the table says."""
    assert job.job_id in written, f"{job.sidecar} has no record"
    table = json.loads(json.dumps(record(job)))
    assert written[job.job_id] == table, f"{job.sidecar}: the record and the table differ"
    if is_newest(world, job):
        assert world.outbox.record(place_of(world, job)) == table, f"{job.sidecar} was covered"


def is_newest(world: World, job: Job) -> bool:
    """Whether no later job stands for the same folder, which would cover this one as a re-run does."""
    same = [other for other in all_jobs(world) if other.folder == job.folder]
    return same[-1].job_id == job.job_id


def _check_results(world: World, job: Job) -> None:
    """Rule 5: every result that a record names is there, whole, and not covered by an older job's."""
    texts = [] if job.text is None else [job.text]
    for output in (*job.outputs, *texts):
        data = world.outbox.read(output.key, output.version_id)
        assert data is not None, f"{output.key} is not there"
        assert (len(data), sha256(data)) == (output.size, output.sha256)
        if is_newest(world, job):
            # Two workers of the same job may both have written it.
            newest = world.outbox.objects[output.key][-1]
            assert sha256(newest.data) == output.sha256, f"{output.key} was covered"
            assert newest.version_id not in _versions_of_others(world, job)


def _versions_of_others(world: World, job: Job) -> set[str | None]:
    others = [other for other in all_jobs(world) if other.job_id != job.job_id]
    same = [other for other in others if other.folder == job.folder]
    return {output.version_id for other in same for output in other.outputs}


def _check_nothing_left(world: World) -> None:
    """No slot, no place in a backlog, no execution, no kept answer, nothing untold."""
    slots = {lane: world.store.lane(lane).slots for lane in world.store.lanes_stored}
    assert not any(slots.values()), f"slots are left: {slots}"
    assert not any(world.store.queues.values()), f"a backlog is left: {world.store.queues}"
    assert world.executions.running() == []
    assert world.store.answers == {}, "an answer with signed URLs is left"
    assert world.store.unpublished_since == {}, "something was never told"
    assert world.store.pending_alerts == {}, "an alert was never sent"


def _check_secrets(world: World, jobs: list[Job]) -> None:
    """Rule 7: no signed URL anywhere, and no prompt in what is sent around."""
    payloads = [execution.payload for execution in world.executions.started.values()]
    said = repr((payloads, world.notices.events, world.notices.notifications))
    records = [v.data for k, w in world.outbox.objects.items() if k.endswith(".json") for v in w]
    assert "Signature" not in said + repr(records) + repr(world.store.jobs)
    for job in jobs:
        if job.prompt is not None and " " in job.prompt:
            assert job.prompt not in said, "a prompt was sent around"
