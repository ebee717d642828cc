"""reconcile: heal what was interrupted.

Every minute it looks after results that are about to vanish, slots whose workers are gone, executions
that ended early, news that was not told, drops whose events never came, and kicks every lane that has
work. When an execution fails, it sees to that one job at once. It spends no money: it never creates a
task.

A state that was left is led on within two rounds: one that finds it stale, and at the latest the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from retouch import jobs
from retouch.errors import Conflict, SettingsError
from retouch.jobs import GENERATE_SECONDS, Enqueue, Job, Status
from retouch.ports import App, Errand
from retouch.records import publish, retell, tell_alert, tell_alerts
from retouch.registry import Mode
from retouch.retrying import deciding
from retouch.steps.common import call_of, start
from retouch.steps.dispatch import hold, lose, requeue
from retouch.steps.entering import enter_held
from retouch.steps.submit import look_again, record_lone, sweep

STALE_SECONDS: Final = 90.0
"""A state that has not moved for so long has nobody working on its next step."""
_UNSEEN_SECONDS: Final = 30.0
"""An execution started more recently may not show yet."""
_SLOWEST_RESTART_SECONDS: Final = 1800.0
_RESTARTS_AT_ONCE: Final = 3
"""Executions that fail more often than this are started again by the sweep only, ever more slowly."""
_AT_ONCE: Final = 100
"""Of waiting drops, of images without a sidecar and of held jobs, so many are looked at in a round."""
_LATE_CHECK_SECONDS: Final = 3600.0
"""What is overdue is looked at again so often."""


def reconcile(app: App, deadline: float) -> Counter[str]:
    """One round over everything; how often each remedy was applied.

    What there is no time for until `deadline` (Unix seconds) is left to the next round, the least
    urgent first.

    Raises:
        ExceptionGroup: some remedies failed; all others were applied all the same.
    """
    done: Counter[str] = Counter()
    failed: list[Exception] = []

    def attempt(remedies: Iterable[Callable[[], str | None]]) -> None:
        for remedy in remedies:
            if app.clock.now() >= deadline:
                done["left to the next round"] = 1
                return
            try:
                name = remedy()
            except Exception as error:  # noqa: BLE001  raised below, once everybody had a turn
                failed.append(error)
            else:
                if name is not None:
                    done[name] += 1

    lanes = _lanes(app)
    finalizing = sorted(app.store.jobs_in(Status.FINALIZING), key=_since)
    attempt(partial(_alarm, app, job) for job in finalizing)
    attempt(partial(_restart_if_stale, app, job) for job in finalizing)
    for lane in lanes:
        slots = tuple(app.store.lane(lane).slots)
        attempt(partial(_heal, app, lane, job_id) for job_id in slots)
    attempt(_held(app))
    attempt(partial(_kick, app, lane) for lane in lanes)
    now = app.clock.now()
    attempt(partial(_retell, app, *change) for change in app.store.unpublished(now - STALE_SECONDS))
    attempt(partial(_realert, app, alert) for alert in app.store.alerts(now - STALE_SECONDS))
    attempt(partial(_alarm, app, job) for job in app.store.jobs_in(Status.UNRESOLVED))
    attempt(partial(_go_on, app, job_id) for job_id in app.store.steps_due(now - STALE_SECONDS))
    attempt(partial(_look_again, app, job) for job in _late(app))
    lone = app.store.lone(now - app.settings.drop_deadline, _AT_ONCE)
    attempt(partial(record_lone, app, key) for key in lone)
    attempt([partial(sweep, app, deadline)])
    if failed:
        raise ExceptionGroup(f"{len(failed)} remedies failed", failed)
    return done


def execution_ended(app: App, job_id: str, fence: int) -> str | None:
    """The job's execution failed, timed out or was stopped; the remedy applied, if one was due."""
    job = app.store.job(job_id)
    if job is None or job.fence != fence or job.attempts >= _RESTARTS_AT_ONCE:
        return None
    if app.executions.alive(jobs.execution_name(job)):
        return None  # told late, or twice: another has been started already
    if jobs.holds_slot(job) and job.lane is not None:
        return _lead_on(app, job.lane, job, told=True)
    if job.status is Status.FINALIZING:
        return _restart(app, job)
    return None


def _lanes(app: App) -> list[str]:
    """Every lane that is configured or ever had a job: one may have been taken out of the settings."""
    configured = [
        jobs.lane_id(region, name)
        for region in app.settings.regions
        for name, model in app.settings.models.items()
        if model.calls_in(region)
    ]
    return list(dict.fromkeys((*configured, *app.store.lanes())))


def _since(job: Job) -> float:
    return jobs.results_from(job) or job.updated_at


def _retell(app: App, job_id: str, version: int) -> str:
    retell(app, job_id, version)
    return "published"


def _realert(app: App, alert: jobs.Alert) -> str:
    tell_alert(app, alert)
    return "alerted"


def _kick(app: App, lane: str) -> str | None:
    if not app.store.backlog(lane, 1):
        return None
    app.kicks.kick(lane)
    return "kicked"


def _alarm(app: App, job: Job) -> str | None:
    """Tell in time that results are about to vanish. Of a synchronous call only its answer is kept."""
    if job.task_id is None and job.status is not Status.FINALIZING and _is_sync(app, job):
        return None
    alarmed = jobs.at_risk(job, app.clock.now())
    if alarmed is None:
        return None
    noted, writes = alarmed
    try:
        app.store.commit(writes)
    except Conflict:
        return None  # it has moved on
    publish(app, noted)
    tell_alerts(app, writes)
    return "alarmed"


def _is_sync(app: App, job: Job) -> bool:
    try:
        return call_of(app, job) is Mode.SYNC
    except SettingsError:
        return False  # nothing is known of its model any more: rather an alarm too many


def _restart_if_stale(app: App, job: Job) -> str | None:
    now = app.clock.now()
    pause = min(STALE_SECONDS * 2 ** min(job.attempts, 10), _SLOWEST_RESTART_SECONDS)
    if now - _since(job) >= jobs.RISK_SECONDS:
        pause = STALE_SECONDS  # no time is left for patience
    if now - job.updated_at <= pause:
        return None
    if app.executions.alive(jobs.execution_name(job)):
        return None
    return _restart(app, job)


def _heal(app: App, lane: str, job_id: str) -> str | None:
    """One slot: if nobody is at work on its job, find out why, and act; the remedy's name."""
    job = app.store.job(job_id)
    slot = app.store.lane(lane).slots.get(job_id)
    if slot is None:
        return None
    now = app.clock.now()
    if job is None or slot.fence != job.fence or not jobs.holds_slot(job):
        return _free(app, lane, job_id) if slot.lease_until <= now else None
    if _alarm(app, job) is not None:
        return "alarmed"
    if now - job.updated_at <= _UNSEEN_SECONDS:
        return None
    if app.executions.alive(jobs.execution_name(job)):
        return _extend(app, lane, job) if slot.lease_until <= now else None
    return _lead_on(app, lane, job)


def _lead_on(app: App, lane: str, job: Job, *, told: bool = False) -> str | None:
    """A job in a slot whose execution does not run; `told` says that it did and has ended.

    The state is read before and the remedy committed after, so a worker that was only slow and comes
    between makes a conflict, and is left alone.
    """
    now = app.clock.now()
    try:
        match job.status:
            case Status.ADMITTED if told or _has_no_worker(app, job, now):
                requeue(app, job)
                app.kicks.kick(lane)
                return "requeued"
            case Status.CREATING if call_of(app, job) is Mode.ASYNC:
                if now - (job.intent_at or 0.0) <= jobs.ADMITTED_LEASE_SECONDS:
                    return None
                said = "the call was interrupted before its answer was recorded"
                return "looked for" if lose(app, job, said) else None
            case Status.CREATING if now - (job.intent_at or 0.0) > GENERATE_SECONDS:
                hold(
                    app,
                    job,
                    "the call was interrupted before its answer came; it may have been billed",
                )
                app.kicks.kick(lane)
                return "held"
            case Status.RUNNING | Status.RESOLVING:
                _extend(app, lane, job)
                return _restart(app, job)
            case _:
                return None
    except Conflict:
        return None


def _has_no_worker(app: App, job: Job, now: float) -> bool:
    """Whether an admission can no longer lead to a call: dispatch is dead, or never started it."""
    begin = job.start_at or job.updated_at
    if call_of(app, job) is Mode.SYNC:
        # Nobody but its execution makes the call, and dispatch starts that within its own life.
        return now - (job.admitted_at or begin) > STALE_SECONDS
    return now - begin > jobs.ADMITTED_LEASE_SECONDS


def _free(app: App, lane: str, job_id: str) -> str:
    def decide() -> None:
        writes = jobs.orphaned(app.store.lane(lane), job_id, app.store.job(job_id))
        if writes:
            app.store.commit(writes)

    deciding(app.clock, decide)
    app.kicks.kick(lane)
    return "freed"


def _extend(app: App, lane: str, job: Job) -> str:
    def decide() -> None:
        app.store.commit(jobs.extended(job, app.store.lane(lane), app.clock.now()))

    deciding(app.clock, decide)
    return "extended"


def _restart(app: App, job: Job) -> str | None:
    again, writes = jobs.restarted(job, app.clock.now())
    try:
        app.store.commit(writes)
    except Conflict:
        return None  # it has moved on, so somebody is at work on it
    start(app, again, 0.0 if job.status is Status.FINALIZING else None)
    publish(app, again)
    return "restarted"


# --- budgets ------------------------------------------------------------------------------------------


def _held(app: App) -> Iterator[Callable[[], str | None]]:
    """A remedy for each job that waits for room in a budget and is the first of its scope."""
    left = _AT_ONCE
    for queue in app.store.held_queues():
        before = ""
        while left > 0 and (head := app.store.backlog(queue, 1)) and head[0].queue_key != before:
            left -= 1
            before = head[0].queue_key
            yield partial(_enter_held, app, head[0])


def _enter_held(app: App, first: Enqueue) -> str | None:
    """Enter a held job if there is room; if there is none, it stays the first and nobody overtakes."""
    job = enter_held(app, first.job_id)
    if job is None:
        return _make_way(app, first)
    publish(app, job)
    # Its lane is kicked below, like every other that has work.
    return "entered" if job.status is Status.QUEUED else "held otherwise"


def _make_way(app: App, first: Enqueue) -> str | None:
    """A place whose job does not wait there would stop all others of its scope for ever."""
    job, writes = jobs.no_longer_in_turn(first, app.store.job(first.job_id), app.clock.now())
    if not writes:
        return None
    try:
        app.store.commit(writes)
    except Conflict:
        return None  # it has moved on, or is held there at this moment
    if job is not None:
        publish(app, job)
    return "made way"


# --- drops --------------------------------------------------------------------------------------------


def _late(app: App) -> list[Job]:
    """Waiting jobs that are due to be looked at again, the oldest first."""
    now = app.clock.now()
    due = []
    for job in app.store.jobs_in(Status.WAITING):
        since = now - job.updated_at
        if jobs.follows(job) and not job.missing:
            continue  # it is told of when the step before it ends
        pause = STALE_SECONDS if job.overdue_at is None else _LATE_CHECK_SECONDS
        if since > pause and (job.overdue_at is None or since % pause < STALE_SECONDS):
            due.append(job)
        if len(due) == _AT_ONCE:
            break
    return due


def _go_on(app: App, job_id: str) -> str | None:
    """A step whose predecessor has ended, and whose message was lost or lies hidden."""
    job = app.store.job(job_id)
    if job is None:
        return None  # its drop was not entered whole, which the sweep makes up for
    if job.status is not Status.WAITING:
        app.store.forget_step(job_id)  # it was cancelled before
        return None
    app.uploads.announce(Errand(job_id=job_id))
    return "led on"


def _look_again(app: App, job: Job) -> str | None:
    """A job that waits: perhaps only the event of what it waits for was lost."""
    try:
        if not look_again(app, job):
            return "waited enough"
        current = app.store.job(job.job_id) or job
        now = app.clock.now()
        step = jobs.follows(current)
        since = current.updated_at if step else current.created_at
        if current.overdue_at is not None or now - since < app.settings.drop_deadline:
            return None
        late, writes = jobs.overdue(current, now)
        app.store.commit(writes)
    except Conflict:
        return None  # what it waits for has just come
    publish(app, late)
    return "found overdue"
