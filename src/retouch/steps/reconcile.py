"""reconcile: heal what was interrupted.

Every minute it looks after slots whose leases have run out, starts executions again that ended early,
publishes what was not published, and kicks every lane that has work. When an execution fails, it sees
to that one job at once. It spends no money: it never creates a task.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from retouch import jobs
from retouch.jobs import Job, Status
from retouch.ports import App
from retouch.records import publish
from retouch.registry import MODELS
from retouch.retrying import deciding
from retouch.steps.common import execution_input, first_wait
from retouch.steps.dispatch import hold, requeue

STALE_SECONDS: Final = 90.0
"""A state that has not moved for so long has nobody working on its next step."""
_SLOWEST_RESTART_SECONDS: Final = 1800.0
_RESTARTS_AT_ONCE: Final = 3
"""Executions that fail more often than this are started again by the sweep only, ever more slowly."""


def reconcile(app: App) -> Counter[str]:
    """One round over everything; how often each remedy was applied."""
    done: Counter[str] = Counter()
    region = app.settings.provider_region
    lanes = [
        jobs.lane_id(region, name) for name, model in MODELS.items() if region in model.regions
    ]
    for lane in lanes:
        for job_id in jobs.expired(app.store.lane(lane), app.clock.now()):
            done[_heal(app, lane, job_id)] += 1
    for job in app.store.jobs_in(Status.FINALIZING):
        pause = min(STALE_SECONDS * 2**job.attempts, _SLOWEST_RESTART_SECONDS)
        stale = app.clock.now() - job.updated_at > pause
        if stale and not app.executions.alive(jobs.execution_name(job)):
            done[_restart(app, job)] += 1
    for job_id in app.store.unpublished(app.clock.now() - STALE_SECONDS):
        told = app.store.job(job_id)
        if told is not None:
            publish(app, told)
            done["published"] += 1
    for lane in lanes:
        if app.store.backlog(lane, 1):
            app.kicks.kick(lane)
            done["kicked"] += 1
    return done


def execution_ended(app: App, job_id: str, fence: int) -> str | None:
    """The job's execution failed, timed out or was stopped; the remedy applied, if one was due."""
    job = app.store.job(job_id)
    if job is None or job.fence != fence or job.attempts >= _RESTARTS_AT_ONCE:
        return None
    if jobs.holds_slot(job) and job.lane is not None:
        return _heal(app, job.lane, job_id)
    if job.status is Status.FINALIZING:
        return _restart(app, job)
    return None


def _heal(app: App, lane: str, job_id: str) -> str:
    """A slot without news: find out why, and act; the remedy's name."""
    job = app.store.job(job_id)
    slot = app.store.lane(lane).slots.get(job_id)
    if job is None or slot is None or slot.fence != job.fence or not jobs.holds_slot(job):
        return _free(app, lane, job_id)
    if app.executions.alive(jobs.execution_name(job)):
        return _extend(app, lane, job)
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


def _restart(app: App, job: Job) -> str:
    again, writes = jobs.restarted(job, app.clock.now())
    app.store.commit(writes)
    wait = 0.0 if job.status is Status.FINALIZING else first_wait(again, app.clock.now())
    app.executions.start(jobs.execution_name(again), execution_input(again, wait))
    publish(app, again)
    return "restarted"
