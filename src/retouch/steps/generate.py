"""generate: the one long call of a synchronous model.

The call is made at most once for each admission: intent is committed first, and whoever finds the
intent of this admission already there knows that a call was under way and holds the job for a person.
A synchronous call leaves no task behind, so there is nothing to look it up by.
"""

from __future__ import annotations

from typing import Final

from retouch import jobs
from retouch.errors import (
    NOT_SENT,
    InputNotFetched,
    OperatorError,
    OutcomeUnknown,
    ProviderRefused,
    TryLater,
)
from retouch.jobs import GENERATE_SECONDS, Answer, Failure, Job, Status, Writes
from retouch.ports import App
from retouch.provider.answers import storable
from retouch.records import publish, tell_alerts
from retouch.registry import Json
from retouch.retrying import RECORDING_TRIES, deciding
from retouch.steps.common import NoTime, go_on, provider_of, take_turn
from retouch.steps.dispatch import (
    UPLOAD_BUDGET_SECONDS,
    fetched_in_vain,
    hold,
    operator_failure,
    put_back,
    refusal_of,
    requeue,
    stumble,
    stumbled_out,
)
from retouch.steps.inputs import request_for

ANSWER_KEPT_SECONDS: Final = 48 * 3600
"""Twice as long as the results' URLs live."""
ANSWER_MAX_BYTES: Final = 300 * 1024
"""What the table takes in one item, less what stands beside it."""
_CALL_BUDGET_SECONDS: Final = 340.0
"""One call at its slowest (the client gives it up after 320 s), and recording its answer."""
_EARLY_SECONDS: Final = 0.05


def generate(app: App, job_id: str, fence: int, deadline: float) -> dict[str, Json]:
    """Make the call of an admitted job once its start time has come.

    Where the time until `deadline` (Unix seconds) is too short for it, the job goes back to its place.
    """
    job = app.store.job(job_id)
    if job is None or job.fence != fence:
        return {"job_id": job_id, "fence": fence, "next": "stop"}
    if job.status is Status.FINALIZING:
        return go_on(app, job, "finalize")
    if job.status is Status.CREATING:
        left = (job.intent_at or 0.0) + GENERATE_SECONDS - app.clock.now()
        if left > 0:
            return go_on(app, job, "wait", left)  # another invocation may still have the call
        hold(app, job, "the call was interrupted before its answer came; it may have been billed")
        _kick(app, job)
        return go_on(app, job, "stop")
    if job.status is not Status.ADMITTED:
        return go_on(app, job, "stop")
    early = (job.start_at or 0.0) - app.clock.now()
    if early > _EARLY_SECONDS:
        return go_on(app, job, "wait", early)
    latest = deadline - _CALL_BUDGET_SECONDS
    try:
        prepared = request_for(app, job, until=latest - UPLOAD_BUDGET_SECONDS)
        if prepared.trouble is None:
            if prepared.request is None:
                raise NoTime
            taken = take_turn(app, prepared.job, latest)
    except NoTime:
        requeue(app, prepared.job)
        _kick(app, job)
        return go_on(app, job, "stop")
    except OperatorError as error:
        requeue(app, job, paused_by=operator_failure(error))
        return go_on(app, job, "stop")
    except ProviderRefused as error:
        return _end(app, job, "FAILED", refusal_of(error))
    if prepared.trouble is not None:
        return _stumble(app, prepared.job, prepared.trouble)
    if taken is None:
        return go_on(app, job, "stop")  # another invocation has this admission
    intending, _ = taken
    assert prepared.request is not None  # noqa: S101  checked above
    untold = (intending,)
    try:
        body = provider_of(app, intending).generate(prepared.request)
    except InputNotFetched as error:
        if fetched_in_vain(intending):
            return _end(app, intending, "FAILED", refusal_of(error), untold=untold)
        put_back(app, intending, error, untold)
        _kick(app, job)
        return go_on(app, intending, "stop")
    except TryLater as error:
        if error.code == NOT_SENT:
            return _stumble(app, intending, error, untold)
        requeue(app, intending, throttled_by=error, untold=untold)
        _kick(app, job)
        return go_on(app, intending, "stop")
    except OperatorError as error:
        requeue(app, intending, paused_by=operator_failure(error), untold=untold)
        return go_on(app, intending, "stop")
    except ProviderRefused as error:
        return _end(app, intending, "FAILED", refusal_of(error), untold=untold)
    except OutcomeUnknown as error:
        hold(
            app, intending, f"{error.code}: {error.message}; it may have been billed", untold=untold
        )
        _kick(app, job)
        return go_on(app, intending, "stop")
    expires = int(app.clock.now()) + ANSWER_KEPT_SECONDS
    kept = storable(body, ANSWER_MAX_BYTES)
    answer = Answer(job_id=job_id, body=kept, expires_at=expires)
    return _end(app, intending, "SUCCEEDED", None, answer, untold=untold)


def _stumble(
    app: App, job: Job, trouble: TryLater, untold: tuple[Job, ...] = ()
) -> dict[str, Json]:
    if stumbled_out(job, trouble):
        return _end(app, job, "FAILED", refusal_of(trouble), untold=untold)
    stumble(app, job, trouble, untold)
    _kick(app, job)
    return go_on(app, job, "stop")


def _end(
    app: App,
    job: Job,
    provider_status: str,
    failure: Failure | None,
    answer: Answer | None = None,
    *,
    untold: tuple[Job, ...] = (),
) -> dict[str, Json]:
    def decide() -> tuple[Job, Writes] | None:
        current = app.store.job(job.job_id)
        if current is None or current.fence != job.fence or not _still_open(current, answer):
            return None
        assert current.lane is not None  # noqa: S101  an admitted job has one
        finalizing, writes = jobs.ended(
            current.model_copy(update={"images": job.images, "mask": job.mask}),
            app.store.lane(current.lane),
            app.clock.now(),
            provider_status=provider_status,
            failure=failure,
            answer=answer,
        )
        app.store.commit(writes)
        return finalizing, writes

    decided = deciding(app.clock, decide, tries=RECORDING_TRIES)
    if decided is None:
        return go_on(app, job, "stop")
    finalizing, writes = decided
    _kick(app, finalizing)
    publish(app, *untold, finalizing)
    tell_alerts(app, writes)
    return go_on(app, finalizing, "finalize")


def _still_open(job: Job, answer: Answer | None) -> bool:
    """Whether an outcome is still to be recorded. An answer that comes after the call was given up
    for lost ends the doubt: it was paid for, and here it is.
    """
    return jobs.holds_slot(job) or (job.status is Status.UNRESOLVED and answer is not None)


def _kick(app: App, job: Job) -> None:
    if job.lane is not None:
        app.kicks.kick(job.lane)
