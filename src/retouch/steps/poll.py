"""poll: one status query; on a terminal state free the slot and kick the lane.

It answers the state machine with what comes next: `wait` (and how long), `finalize`, or `stop` when
the job no longer belongs to this execution. A job whose create call's answer was lost is looked for
in the provider's list instead.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Final

from retouch import jobs
from retouch.errors import AccountRefused, InputNotFetched, OperatorError, ProviderRefused, TryLater
from retouch.jobs import TASK_KEPT_SECONDS, Failure, Job, Lane, Status, Writes
from retouch.ports import App
from retouch.provider.answers import TaskAnswer
from retouch.provider.refusals import not_fetched
from retouch.records import publish
from retouch.registry import TASK_DEADLINE_SECONDS, UNKNOWN_GRACE_SECONDS, Json
from retouch.retrying import deciding_on
from retouch.steps.common import Seen, go_on, model_of, my_turn, provider_of, renew_lease, see
from retouch.steps.dispatch import fetched_in_vain, leave, pause, put_back
from retouch.steps.resolve import look

_ACCOUNT_WAIT_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 2.0
_SLOWEST_SECONDS: Final = 60.0


def poll(app: App, job_id: str, fence: int) -> dict[str, Json]:
    """Ask once for the job's task."""
    job = app.store.job(job_id)
    if job is None or job.fence != fence:
        return {"job_id": job_id, "fence": fence, "next": "stop"}
    if job.status is Status.RESOLVING:
        return look(app, job)
    if job.status is Status.FINALIZING:
        return go_on(app, job, "finalize")
    if job.status is not Status.RUNNING or job.task_id is None:
        return go_on(app, job, "stop")
    if not my_turn(app, job, "queries", _PATIENCE_SECONDS):
        return _later(app, job)
    if job.cancel_asked_at is not None and job.cancel_answer is None:
        job = _ask_to_cancel(app, job)
    age = app.clock.now() - (job.running_at or app.clock.now())
    try:
        answer = provider_of(app, job).query(job.task_id or "")
    except TryLater as error:
        if age < TASK_KEPT_SECONDS:
            return _later(app, job)
        answer = _never_heard(str(error))
    except OperatorError as error:
        # It says nothing about the task, and an operator will mend it.
        if isinstance(error, AccountRefused) and job.lane is not None:
            pause(app, job.lane, error)
        if age < TASK_KEPT_SECONDS:
            renew_lease(app, job)
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
    if _somebody_elses(job, answer):
        return _not_ours(app, job)
    if _images_were_not_fetched(answer) and not fetched_in_vain(job):
        return _once_more(app, job, answer)

    def decide(seen: Seen) -> Job | None:
        current = seen.job
        if current is None or current.fence != fence or current.status is not Status.RUNNING:
            return None
        finalizing, writes = jobs.ended(
            current,
            seen.lane,
            app.clock.now(),
            provider_status=answer.status,
            failure=answer.failure,
        )
        app.store.commit(writes)
        return finalizing

    known = Seen(job, app.store.lane(job.lane or ""))
    after = deciding_on(app.clock, known, partial(see, app, job), decide)
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
    said = f"the task could not be asked after for {TASK_KEPT_SECONDS // 3600:.0f} h: {why}"
    return TaskAnswer(status="UNKNOWN", failure=Failure(code="DeadlineExceeded", message=said))


def _ask_to_cancel(app: App, job: Job) -> Job:
    """Ask the provider, once, to cancel the task; the query that follows tells what became of it."""
    try:
        taken = provider_of(app, job).cancel(job.task_id or "")
    except (TryLater, OperatorError):
        return job  # asked again at the next turn
    except ProviderRefused as error:
        said = f"the provider refused: {error.code}: {error.message}"
    else:
        said = (
            "the provider took it"
            if taken
            else "the provider refused: the task is being worked on already, so it is billed and its "
            "results come all the same"
        )

    def decide(held: Job, _: Lane) -> tuple[Job, Writes] | None:
        if held.status is not Status.RUNNING or held.cancel_answer is not None:
            return None
        return jobs.cancel_answered(held, app.clock.now(), said)

    return leave(app, job, decide) or job


def _somebody_elses(job: Job, answer: TaskAnswer) -> bool:
    """Whether a task that was found in the list says itself that it was made for another prompt."""
    originals = [_plain(p.original) for p in answer.prompts if p.original]
    ours = _plain(job.prompt or "")
    # What is too long may have been cut off there (contract 3.1).
    alike = any(ours.startswith(said) or said.startswith(ours) for said in originals)
    return job.adopted and bool(originals) and not alike


def _plain(text: str) -> str:
    return " ".join(text.split())


def _not_ours(app: App, job: Job) -> dict[str, Json]:
    doubt = (
        f"the answer to its call was lost, and the one task found in its time, {job.task_id}, was made "
        "for another prompt, so by somebody else with the same account"
    )

    def decide(held: Job, lane: Lane) -> tuple[Job, Writes] | None:
        if held.status is not Status.RUNNING:
            return None
        return jobs.unresolved(held, lane, app.clock.now(), doubt)

    leave(app, job, decide)
    if job.lane is not None:
        app.kicks.kick(job.lane)
    return go_on(app, job, "stop")


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
    renew_lease(app, job)
    polling = model_of(app, job).polling
    age = app.clock.now() - (job.running_at or app.clock.now())
    shortest = polling.interval if polling is not None else 5
    # The longer it has taken, the longer it may take: ever slower, up to a minute.
    interval = min(max(shortest, min(age / 5, 15)) * (1 + age / 600), _SLOWEST_SECONDS)
    # Jitter, so that a lane's tasks do not ask in step. The state machine counts whole seconds.
    jittered = interval * random.uniform(0.8, 1.2)  # noqa: S311
    return go_on(app, job, "wait", max(1, round(jittered)))
