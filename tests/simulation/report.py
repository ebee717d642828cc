"""The figures of a run, as text and as JSON, and what of them breaks a promise (architecture 4)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field

from retouch import keys
from retouch.jobs import Job, Status
from retouch.records import place_of, record
from tests.simulation.aws import Table
from tests.simulation.provider import TURNS_A_SECOND, Place, Task
from tests.simulation.run import Run


@dataclass(frozen=True)
class Spread:
    """How long something took, in seconds."""

    count: int
    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: list[float]) -> Spread:
        """Of so many; all zero of none."""
        if not seconds:
            return cls(0, 0.0, 0.0, 0.0)
        ranked = sorted(seconds)
        last = len(ranked) - 1
        at = [ranked[round(last * share)] for share in (0.5, 0.99, 1.0)]
        return cls(len(ranked), *(round(value, 1) for value in at))

    def __str__(self) -> str:
        return f"p50 {self.p50:.0f} s, p99 {self.p99:.0f} s, max {self.most:.0f} s ({self.count})"


@dataclass(frozen=True)
class LaneFigures:
    """One lane, as its account at the provider saw it."""

    jobs: int
    utilisation: float
    """Billed task seconds / (places × time), while the lane had a backlog."""
    occupied: float
    """Likewise with tasks that failed and billed nothing."""
    backlog_seconds: float
    places: float
    """The quota of running tasks, or what the rate of creates keeps busy if that is less."""
    quota: int
    window: int
    most_in_flight: int
    creates: int
    per_seconds: float
    most_creates: int
    refused_for_pace: int


@dataclass(frozen=True)
class Figures:
    """A run in numbers. What begins with `bad_` must be empty."""

    jobs: int
    seed: int
    crashes: float
    faults: float
    messages: float
    throttles: float
    times: int
    """How many times the usual quotas the accounts have."""
    submitted: bool
    virtual_hours: float
    wall_seconds: float
    statuses: dict[str, int]
    lanes: dict[str, LaneFigures]
    most_queries: dict[str, int]
    """In any second, by region."""
    billed: int
    duplicates_marked: dict[str, int]
    """By lane: billed more than once, and the job says that it may be so."""
    held: dict[str, int]
    """How often a job was held for a person, by lane."""
    commands: dict[str, int]
    """What a person asked for."""
    recovery: Spread
    recovery_by: dict[str, Spread]
    resolution: Spread
    resolved_as: dict[str, int]
    invocations: dict[str, int]
    crashed: dict[str, int]
    timed_out: dict[str, int]
    errors: dict[str, int]
    calls: dict[str, int]
    injected: dict[str, int]
    messages_lost: dict[str, int]
    uploads_given_up: int
    """Messages that `submit` failed on five times."""
    executions_ended_early: dict[str, int]
    remedies: dict[str, int]
    told_twice: int
    bad_duplicates: list[str] = field(default_factory=list)
    bad_losses: list[str] = field(default_factory=list)
    bad_slots: list[str] = field(default_factory=list)
    bad_limits: list[str] = field(default_factory=list)
    bad_ends: list[str] = field(default_factory=list)
    bad_errors: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """Everything that breaks a promise."""
        return [
            *self.bad_duplicates,
            *self.bad_losses,
            *self.bad_slots,
            *self.bad_limits,
            *self.bad_ends,
            *self.bad_errors,
        ]

    def as_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def figures(run: Run) -> Figures:
    """What came of a run that was played."""
    stack, watch = run.stack, run.stack.watch
    lanes = {lane: _lane(run, lane) for lane in sorted(stack.store.lanes_stored)}
    audit = _Audit(run)
    audit.look()
    limits = []
    for lane, seen in lanes.items():
        if watch.most_slots[lane] > seen.window:
            limits.append(f"{lane}: {watch.most_slots[lane]} slots, {seen.window} allowed")
        if seen.most_in_flight > seen.window:
            limits.append(f"{lane}: {seen.most_in_flight} in flight, {seen.window} allowed")
        allowed = stack.settings.models[lane.partition(":")[2]].quota.creates
        if seen.most_creates > allowed:
            limits.append(f"{lane}: {seen.most_creates} creates in {seen.per_seconds:g} s")
    asked = {region: account.asked.most for region, account in stack.accounts.items()}
    limits += [f"{region}: {n} queries in 1 s" for region, n in asked.items() if n > TURNS_A_SECOND]
    every = [value for spread in watch.recovered.values() for value in spread]
    ends = [f"left its end: {said}" for said in watch.reversals]
    if run.stuck:
        ends.append("the run came to a standstill before it was through")
    return Figures(
        jobs=run.jobs,
        seed=run.seed,
        crashes=run.chances.crashes,
        faults=run.chances.faults,
        messages=run.chances.messages,
        throttles=run.chances.throttles,
        times=run.times,
        submitted=run.submitted,
        virtual_hours=round((run.ended_at - run.began_at) / 3600, 2),
        wall_seconds=round(run.wall_seconds, 1),
        statuses=_sorted(Counter(str(job.status) for job in stack.store.jobs.values())),
        lanes=lanes,
        most_queries=asked,
        billed=audit.billed,
        duplicates_marked=_sorted(audit.marked),
        held=_sorted(watch.held),
        commands=_sorted(run.person.commands),
        recovery=Spread.of(every),
        recovery_by={kind: Spread.of(took) for kind, took in sorted(watch.recovered.items())},
        resolution=Spread.of(watch.resolved),
        resolved_as=_sorted(watch.resolved_as),
        invocations=_sorted(stack.effects.runs),
        crashed=_sorted(watch.crashes),
        timed_out=_sorted(watch.timed_out),
        errors=_sorted(watch.errors),
        calls=_sorted(sum((a.count for a in stack.accounts.values()), Counter())),
        injected=_sorted(sum((a.injected for a in stack.accounts.values()), Counter())),
        messages_lost=_sorted(stack.messages),
        uploads_given_up=len(stack.uploads.dead),
        executions_ended_early=_sorted(stack.executions.ended_early),
        remedies=_sorted(stack.remedies),
        told_twice=sum(len(told) > 1 for told in stack.notices.ends.values()),
        bad_duplicates=audit.duplicates,
        bad_losses=audit.losses,
        bad_slots=audit.slots,
        bad_limits=limits,
        bad_ends=[*ends, *audit.ends],
        bad_errors=watch.unexpected[:3],
    )


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts) if counts[name]}


# --- lanes --------------------------------------------------------------------------------------------


def _lane(run: Run, lane: str) -> LaneFigures:
    stack = run.stack
    region, _, model = lane.partition(":")
    settings = stack.settings
    quota = settings.models[model].quota
    running = quota.running or settings.sync_window
    place = stack.accounts[region].places.get(model)
    spans = [
        (b[0], b[1] if len(b) > 1 else run.ended_at) for b in stack.watch.backlogs.get(lane, [])
    ]
    there = sum(end - begin for begin, end in spans)
    tasks = [] if place is None else [*place.tasks, *place.calls]
    mean = sum(task.seconds for task in tasks) / max(len(tasks), 1)
    places = min(float(running), quota.creates / quota.per_seconds * mean)
    return LaneFigures(
        jobs=sum(job.lane == lane for job in stack.store.jobs.values()),
        utilisation=_share(_within([t for t in tasks if t.billed], spans), there * places),
        occupied=_share(_within(tasks, spans), there * places),
        backlog_seconds=round(there, 1),
        places=round(places, 2),
        quota=running,
        # By the architecture's own words, not by the code under test.
        window=running + (settings.window_margin if quota.running is not None else 0),
        most_in_flight=_most(place),
        creates=len(tasks),
        per_seconds=quota.per_seconds,
        most_creates=0 if place is None else place.rate.most,
        refused_for_pace=0 if place is None else place.refused_for_pace,
    )


def _most(place: Place | None) -> int:
    return 0 if place is None else place.most_in_flight


def _share(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0


def _within(tasks: list[Task], spans: list[tuple[float, float]]) -> float:
    """The seconds for which tasks ran during the spans, both in order of time."""
    total = 0.0
    first = 0
    runs = sorted((t.started_at, t.ended_at) for t in tasks if t.started_at and t.ended_at)
    longest = max((end - begin for begin, end in runs), default=0.0)
    for begin, end in runs:
        while first < len(spans) and spans[first][1] <= begin - longest:
            first += 1
        for since, until in spans[first:]:
            if since >= end:
                break
            total += max(0.0, min(end, until) - max(begin, since))
    return total


# --- jobs ---------------------------------------------------------------------------------------------


def _made(store: Table, job_id: str | None) -> list[Job]:
    """A job, the one that it repeats, and so on."""
    made = []
    while job_id is not None and (job := store.job(job_id)) is not None:
        made.append(job)
        job_id = job.retry_of
    return made


def _named(job: Job) -> str:
    return f"{job.job_id} ({job.sidecar}, {job.lane}) is {job.status}"


class _Audit:
    """Each job held against what the provider billed, and what lies in the outbox."""

    def __init__(self, run: Run):
        self._run = run
        self.billed = 0
        self.marked: Counter[str] = Counter()
        self.duplicates: list[str] = []
        self.losses: list[str] = []
        self.slots: list[str] = []
        self.ends: list[str] = []

    def look(self) -> None:
        """At everything."""
        run, store = self._run, self._run.stack.store
        billed: dict[str, list[Task]] = {}
        for account in run.stack.accounts.values():
            for place in account.places.values():
                for task in (*place.tasks, *place.calls):
                    if task.billed:
                        self.billed += 1
                        billed.setdefault(task.name, []).append(task)
        for order in run.orders:
            made = _made(store, store.latest_job_of(order.sidecar))
            if made:
                self._jobs(made, billed.get(order.name, []))
            else:
                self.losses.append(f"{order.sidecar}: dropped, and there is no job")
        for lane in store.lanes_stored.values():
            self.slots += [f"{lane.lane}: {job_id} has a slot at rest" for job_id in lane.slots]
        self.ends += [f"never told: {job}, version {n}" for job, n in store.unpublished_since]
        self.ends += [f"never told: alert {alert}" for alert in store.pending_alerts]
        for subject in run.stack.watch.unrecovered:
            hit = store.job(subject)
            if hit is None or not hit.status.terminal:
                self.losses.append(f"{subject} never went on after a crash")

    def _jobs(self, made: list[Job], billed: list[Task]) -> None:
        """The job of a sidecar, and those that it repeats."""
        said = _named(made[0])
        if not made[0].status.settled:
            self.losses.append(f"{said}, and nothing goes on")
        doubted = any(job.doubt is not None or job.status is Status.UNRESOLVED for job in made)
        if len(billed) > 1:
            tasks = ", ".join(task.task_id for task in billed)
            if doubted:
                self.marked[made[0].lane or ""] += 1
            else:
                self.duplicates.append(f"{said}: billed for {tasks}, and no doubt on it")
        for task in billed:
            if not doubted and not any(self._has(job, task) for job in made):
                self.losses.append(f"{said}: {task.task_id} was billed and not copied")
        for job in made:
            self._told(job)

    def _has(self, job: Job, task: Task) -> bool:
        """Whether the results of a task are in the outbox, as the job says."""
        if job.task_id not in (None, task.task_id) or len(job.outputs) != task.made:
            return False
        objects = self._run.stack.outbox.objects
        return all(
            o.key in objects and objects[o.key][-1].version_id == o.version_id for o in job.outputs
        )

    def _told(self, job: Job) -> None:
        """What its owner sees."""
        stack, said = self._run.stack, _named(job)
        # Its place may be a newer job's by now, and it may have ended before that.
        objects, place = stack.outbox.objects, place_of(stack, job)
        there = objects.get(keys.record_key(place), [])[-1:]
        if place != job.folder:
            there = [*there, *objects.get(keys.record_key(job.folder), [])]
        if not any(json.loads(version.data) == record(job) for version in there):
            self.ends.append(f"{said}: its job.json says something else")
        told = stack.notices.ends.get(job.job_id, [])
        if job.status.terminal and not told:
            self.ends.append(f"{said}: nobody was told")
        if len(set(told)) > 1:
            self.ends.append(f"{said}: told of {', '.join(told)}")


# --- in words -----------------------------------------------------------------------------------------


def text(seen: Figures) -> str:
    """One block."""
    how = (
        "dropped as sidecars and images, every event delivered to submit"
        if seen.submitted
        else "entered into the backlogs as submit enters them"
    )
    lines = [
        f"{seen.jobs} jobs, {how}",
        f"crashes {seen.crashes:.1%} of invocations, provider faults {seen.faults:.1%} of calls, "
        f"messages lost {seen.messages:.1%} and as many twice, table throttled {seen.throttles:.1%}, "
        f"quotas × {seen.times}, seed {seen.seed}",
        f"virtual time {seen.virtual_hours:.1f} h, wall time {seen.wall_seconds:.0f} s",
        "",
        f"{'lane':<32}{'jobs':>7}{'utilisation':>12}{'in flight':>11}{'creates':>14}",
    ]
    for name, lane in seen.lanes.items():
        lines.append(
            f"{name:<32}{lane.jobs:>7}{lane.utilisation:>12.1%}"
            f"{f'{lane.most_in_flight} of {lane.window}':>11}"
            f"{f'{lane.most_creates} in {lane.per_seconds:g} s':>14}"
        )
    asked = ", ".join(f"{n} ({region})" for region, n in seen.most_queries.items())
    lines += [
        "",
        f"{'queries in any second, at most':<44}{asked} of {TURNS_A_SECOND}",
        f"{'jobs':<44}{_counted(seen.statuses)}",
        f"{'billed tasks and calls':<44}{seen.billed}",
        f"{'duplicates without a mark':<44}{len(seen.bad_duplicates)}",
        f"{'duplicates with a mark (sent again)':<44}{_totalled(seen.duplicates_marked)}",
        f"{'losses':<44}{len(seen.bad_losses)}",
        f"{'leaked slots':<44}{len(seen.bad_slots)}",
        f"{'ends untold, told wrong or left again':<44}{len(seen.bad_ends)}",
        f"{'told twice the same':<44}{seen.told_twice}",
        f"{'held for a person':<44}{_totalled(seen.held)}",
        f"{'commands of a person':<44}{_counted(seen.commands)}",
        f"{'recovery from a crash':<44}{seen.recovery}",
        *(f"{f'  of {kind}':<44}{spread}" for kind, spread in seen.recovery_by.items()),
        f"{'from a lost answer to its resolution':<44}{seen.resolution}",
        f"{'  which was':<44}{_counted(seen.resolved_as)}",
        f"{'invocations':<44}{_counted(seen.invocations)}",
        f"{'  of which died':<44}{_counted(seen.crashed)}",
        f"{'  of which at their timeout':<44}{_counted(seen.timed_out)}",
        f"{'  of which raised':<44}{_counted(seen.errors)}",
        f"{'executions that ended early':<44}{_counted(seen.executions_ended_early)}",
        f"{'calls to the provider':<44}{_counted(seen.calls)}",
        f"{'  that went wrong':<44}{_counted(seen.injected)}",
        f"{'messages':<44}{_counted(seen.messages_lost)}; uploads given up {seen.uploads_given_up}",
        f"{'remedies of reconcile':<44}{_counted(seen.remedies)}",
    ]
    if seen.violations:
        lines += ["", "VIOLATIONS", *seen.violations[:40]]
    return "\n".join(lines)


def _totalled(counts: dict[str, int]) -> str:
    return f"{sum(counts.values())}: {_counted(counts)}" if counts else "0"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items()) or "none"
