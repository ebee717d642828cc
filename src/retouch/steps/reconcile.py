"""reconcile: heal what was interrupted.

Every minute it looks after slots whose leases have run out, starts executions again that ended early,
publishes what was not published, and kicks every lane that has work. When an execution fails, it sees
to that one job at once. It spends no money: it never creates a task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from retouch import jobs
from retouch.errors import Conflict
from retouch.jobs import Job, Status
from retouch.ports import App
from retouch.records import publish, retell
from retouch.retrying import deciding
from retouch.steps.common import execution_input, first_wait
from retouch.steps.dispatch import hold, requeue

STALE_SECONDS: Final = 90.0
"""A state that has not moved for so long has nobody working on its next step."""
_SLOWEST_RESTART_SECONDS: Final = 1800.0
_RESTARTS_AT_ONCE: Final = 3
"""Executions that fail more often than this are started again by the sweep only, ever more slowly."""


def reconcile(app: App) -> Counter[str]:
    """One round over everything; how often each remedy was applied.

    Raises:
        ExceptionGroup: some remedies failed; all others were applied all the same.
    """
    lanes = [
        jobs.lane_id(region, name)
        for region in app.settings.regions
        for name, model in app.settings.models.items()
        if model.calls_in(region)
    ]
    done: Counter[str] = Counter()
    failed: list[Exception] = []

    def attempt(remedy: Callable[[], str | None]) -> None:
        try:
            name = remedy()
        except Exception as error:  # noqa: BLE001  raised below, once everybody had a turn
            failed.append(error)
        else:
            if name is not None:
                done[name] += 1

    for lane in lanes:
        for job_id in jobs.expired(app.store.lane(lane), app.clock.now()):
            attempt(partial(_heal, app, lane, job_id))
    for job in app.store.jobs_in(Status.FINALIZING):
        attempt(partial(_restart_if_stale, app, job))
    for job_id, version in app.store.unpublished(app.clock.now() - STALE_SECONDS):
        attempt(partial(_retell, app, job_id, version))
    for lane in lanes:
        attempt(partial(_kick, app, lane))
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
        return _heal(app, job.lane, job_id)
    if job.status is Status.FINALIZING:
        return _restart(app, job)
    return None


def _retell(app: App, job_id: str, version: int) -> str:
    retell(app, job_id, version)
    return "published"


def _kick(app: App, lane: str) -> str | None:
    if not app.store.backlog(lane, 1):
        return None
    app.kicks.kick(lane)
    return "kicked"


def _restart_if_stale(app: App, job: Job) -> str | None:
    pause = min(STALE_SECONDS * 2 ** min(job.attempts, 10), _SLOWEST_RESTART_SECONDS)
    if app.clock.now() - job.updated_at <= pause:
        return None
    if app.executions.alive(jobs.execution_name(job)):
        return None
    return _restart(app, job)


def _heal(app: App, lane: str, job_id: str) -> str | None:
    """A slot without news: find out why, and act; the remedy's name.

    The state is read before and the remedy committed after, so a worker that was only slow and comes
    between makes a conflict, and is left alone.
    """
    job = app.store.job(job_id)
    slot = app.store.lane(lane).slots.get(job_id)
    if job is None or slot is None or slot.fence != job.fence or not jobs.holds_slot(job):
        return _free(app, lane, job_id)
    if app.executions.alive(jobs.execution_name(job)):
        return _extend(app, lane, job)
    try:
        if job.status is Status.CREATING:
            hold(
                app,
                job,
                "the call was interrupted before its answer was recorded; it may have been billed",
            )
            app.kicks.kick(lane)
            return "held"
        if job.status is Status.ADMITTED:
            requeue(app, job)
            return "requeued"
        _extend(app, lane, job)
        return _restart(app, job)
    except Conflict:
        return None


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
    wait = 0.0 if job.status is Status.FINALIZING else first_wait(app, again)
    app.executions.start(jobs.execution_name(again), execution_input(app, again, wait))
    publish(app, again)
    return "restarted"
