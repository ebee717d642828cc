"""poll: one status query; on a terminal state free the slot and kick the lane.

It answers the state machine with what comes next: `wait` (and how long), `finalize`, or `stop` when
the job no longer belongs to this execution.
"""

from __future__ import annotations

import random
from typing import Final

from retouch import jobs
from retouch.errors import Conflict, InputNotFetched, OperatorError, TryLater
from retouch.jobs import Failure, Job, Status
from retouch.ports import App
from retouch.provider.answers import TaskAnswer
from retouch.provider.refusals import not_fetched
from retouch.records import publish
from retouch.registry import TASK_DEADLINE_SECONDS, UNKNOWN_GRACE_SECONDS, Json
from retouch.retrying import deciding
from retouch.steps.common import go_on, model_of, provider_of
from retouch.steps.dispatch import fetched_in_vain, put_back

_ACCOUNT_WAIT_SECONDS = 60.0
TASK_KEPT_SECONDS: Final = 24 * 3600
"""After that the provider no longer knows a task (contract 2.4)."""


def poll(app: App, job_id: str, fence: int) -> dict[str, Json]:
    """Ask once for the job's task."""
    job = app.store.job(job_id)
    if job is None or job.fence != fence:
        return {"job_id": job_id, "fence": fence, "next": "stop"}
    if job.status is Status.FINALIZING:
        return go_on(app, job, "finalize")
    if job.status is not Status.RUNNING or job.task_id is None:
        return go_on(app, job, "stop")
    age = app.clock.now() - (job.running_at or app.clock.now())
    try:
        answer = provider_of(app, job).query(job.task_id)
    except TryLater as error:
        if age < TASK_KEPT_SECONDS:
            return _later(app, job)
        answer = _never_heard(str(error))
    except OperatorError as error:
        # It says nothing about the task, and an operator will mend it.
        if age < TASK_KEPT_SECONDS:
            _renew(app, job)
            return go_on(app, job, "wait", _ACCOUNT_WAIT_SECONDS)
        answer = _never_heard(str(error))
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

    if _images_were_not_fetched(answer) and not fetched_in_vain(job):
        return _once_more(app, job, answer)

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


def _never_heard(why: str) -> TaskAnswer:
    """A task that could not be asked after for as long as the provider keeps it."""
    said = f"the task could not be asked after for {TASK_KEPT_SECONDS // 3600} h: {why}"
    return TaskAnswer(status="UNKNOWN", failure=Failure(code="DeadlineExceeded", message=said))


def _images_were_not_fetched(answer: TaskAnswer) -> bool:
    """What one model says at the call, another says as the failure of its task (contract 8, 37)."""
    failure = answer.failure
    failed = answer.status == "FAILED" and failure is not None
    return failed and failure is not None and not_fetched(failure.code, failure.message)


def _once_more(app: App, job: Job, answer: TaskAnswer) -> dict[str, Json]:
    """A task that failed for want of an image was not billed; the images are sent to the next one."""
    assert answer.failure is not None  # noqa: S101  looked at just before
    said = InputNotFetched(answer.failure.message, code=answer.failure.code)
    put_back(app, job, said)
    if job.lane is not None:
        app.kicks.kick(job.lane)
    return go_on(app, job, "stop")


def _later(app: App, job: Job) -> dict[str, Json]:
    _renew(app, job)
    polling = model_of(app, job).polling
    age = app.clock.now() - (job.running_at or app.clock.now())
    # The longer it has taken, the longer it may take: ever slower, up to a minute.
    shortest = polling.interval if polling is not None else 5
    interval = min(max(shortest, min(age / 5, 15)) * (1 + age / 600), 60)
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
