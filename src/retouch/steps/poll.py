"""poll: one status query; on a terminal state free the slot and kick the lane.

It answers the state machine with what comes next: `wait` (and how long), `finalize`, or `stop` when
the job no longer belongs to this execution.
"""

from __future__ import annotations

import random

from retouch import jobs
from retouch.errors import Conflict, OperatorError, TryLater
from retouch.jobs import Failure, Job, Status
from retouch.ports import App
from retouch.provider.answers import TaskAnswer
from retouch.records import publish
from retouch.registry import TASK_DEADLINE_SECONDS, UNKNOWN_GRACE_SECONDS, Json
from retouch.retrying import deciding
from retouch.steps.common import go_on, model_of, provider_of

_ACCOUNT_WAIT_SECONDS = 60.0


def poll(app: App, job_id: str, fence: int) -> dict[str, Json]:
    """Ask once for the job's task."""
    job = app.store.job(job_id)
    if job is None or job.fence != fence:
        return {"job_id": job_id, "fence": fence, "next": "stop"}
    if job.status is Status.FINALIZING:
        return go_on(app, job, "finalize")
    if job.status is not Status.RUNNING or job.task_id is None:
        return go_on(app, job, "stop")
    try:
        answer = provider_of(app, job).query(job.task_id)
    except TryLater:
        return _later(app, job)
    except OperatorError:
        # It says nothing about the task, and an operator will mend it.
        _renew(app, job)
        return go_on(app, job, "wait", _ACCOUNT_WAIT_SECONDS)
    now = app.clock.now()
    age = now - (job.running_at or now)
    if not answer.terminal or (answer.status == "UNKNOWN" and age < UNKNOWN_GRACE_SECONDS):
        if age < TASK_DEADLINE_SECONDS:
            return _later(app, job)
        answer = TaskAnswer(
            status=answer.status,
            failure=Failure(
                code="DeadlineExceeded",
                message=f"no result {TASK_DEADLINE_SECONDS} s after the task was made",
            ),
        )

    def decide() -> Job | None:
        current = app.store.job(job_id)
        if current is None or current.fence != fence or current.status is not Status.RUNNING:
            return None
        assert current.lane is not None  # noqa: S101  a running job has one
        finalizing, writes = jobs.ended(
            current,
            app.store.lane(current.lane),
            app.clock.now(),
            provider_status=answer.status,
            failure=answer.failure,
        )
        app.store.commit(writes)
        return finalizing

    after = deciding(app.clock, decide)
    if after is None:
        # Somebody else moved the job on, perhaps this very query sent twice.
        current = app.store.job(job_id) or job
        same = current.fence == fence and current.status is Status.FINALIZING
        return go_on(app, current, "finalize" if same else "stop")
    if after.lane is not None:
        app.kicks.kick(after.lane)
    publish(app, after)
    return go_on(app, after, "finalize")


def _later(app: App, job: Job) -> dict[str, Json]:
    _renew(app, job)
    polling = model_of(app, job).polling
    age = app.clock.now() - (job.running_at or app.clock.now())
    # The longer it has taken, the longer it may take: ever slower, up to a minute.
    interval = min((polling.interval if polling is not None else 5) * (1 + age / 600), 60)
    interval = max(interval, app.settings.query_interval(jobs.region_of(job.lane or "")))
    # Jitter, so that a lane's tasks do not ask in step.
    return go_on(app, job, "wait", interval * random.uniform(0.8, 1.2))  # noqa: S311


def _renew(app: App, job: Job) -> None:
    """Extend the slot's lease; a conflict is left to the next round, half a lease is still there."""
    assert job.lane is not None  # noqa: S101  a running job has one
    writes = jobs.renew(job, app.store.lane(job.lane), app.clock.now())
    if writes:
        try:
            app.store.commit(writes)
        except Conflict:
            return
