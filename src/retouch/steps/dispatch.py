"""dispatch: the one writer of a lane; admit queued jobs, make their create call, start executions.

A lane's kicks arrive one at a time, so nothing else creates tasks in it meanwhile. Intent is recorded
before the POST, so that a job whose writer died is known to be in doubt and is never sent again
blindly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from retouch import jobs
from retouch.errors import (
    NOT_REACHED,
    NOT_SENT,
    AccountRefused,
    InputNotFetched,
    OperatorError,
    OutcomeUnknown,
    ProviderRefused,
    ResultHostUnknown,
    TryLater,
)
from retouch.jobs import Admit, Failure, Job, Lane, Status, Writes
from retouch.ports import App
from retouch.records import publish
from retouch.registry import Mode
from retouch.retrying import RECORDING_TRIES, deciding
from retouch.steps.common import (
    NoTime,
    call_of,
    execution_input,
    first_wait,
    pace_of,
    provider_of,
    take_turn,
    tell_intent,
)
from retouch.steps.inputs import request_for

PACING_SLEEP_SECONDS: Final = 2.0
"""The longest pause inside a function. Slower lanes are left to a later kick."""
MOST_STUMBLES: Final = 5
"""A call that could not be prepared or sent so often, though the provider was there, is given up."""
_CALL_BUDGET_SECONDS: Final = 30.0
"""One create at its slowest (the client gives it up after 27 s), and recording it."""
_CREATE_BUDGET_SECONDS: Final = _CALL_BUDGET_SECONDS + 2.0
"""And preparing it."""
UPLOAD_BUDGET_SECONDS: Final = 66.0
"""One upload at its slowest, with its policy; what was uploaded is kept for the next visit."""


def dispatch(app: App, lane: str, deadline: float) -> int:
    """Admit what the lane has room for; how many jobs were admitted.

    Where the time until `deadline` (Unix seconds) runs short, it kicks the lane and returns.
    """
    admitted = 0
    while True:
        if deadline - app.clock.now() < _CREATE_BUDGET_SECONDS:
            app.kicks.kick(lane)
            return admitted
        admission = deciding(app.clock, lambda: _admit_next(app, lane))
        if admission is None:
            return admitted
        admitted += 1
        publish(app, admission.job)
        if call_of(app, admission.job) is Mode.SYNC:
            # The execution waits for its start time, makes the call, and frees the slot.
            _start(app, admission.job)
            continue
        app.clock.sleep(admission.wait)
        if not _create(app, admission.job, deadline):
            return admitted


def _admit_next(app: App, lane_id: str) -> Admit | None:
    head = app.store.backlog(lane_id, 1)
    if not head:
        return None
    lane = app.store.lane(lane_id)
    job = app.store.job(head[0].job_id)
    if job is None or job.status is not Status.QUEUED:
        return None  # being changed this moment; whoever changes it kicks
    mode = call_of(app, job)
    now = app.clock.now()
    if mode is Mode.ASYNC and lane.next_create_at - now > PACING_SLEEP_SECONDS:
        return None
    decision = jobs.admit(lane, job, mode, pace_of(app, lane_id), now)
    if not isinstance(decision, Admit):
        return None
    app.store.commit(decision.writes)
    return decision


def _start(app: App, job: Job) -> None:
    wait = first_wait(app, job)
    app.executions.start(jobs.execution_name(job), execution_input(app, job, wait))


def _create(app: App, job: Job, deadline: float) -> bool:
    """Make the task of an admitted job; whether the lane may go on at once."""
    assert job.lane is not None  # noqa: S101  an admitted job has one
    lane = job.lane
    try:
        prepared = request_for(app, job, until=deadline - UPLOAD_BUDGET_SECONDS)
    except OperatorError as error:
        requeue(app, job, paused_by=operator_failure(error))
        return False
    except ProviderRefused as error:
        _end(app, job, refusal_of(error))
        return True
    job = prepared.job
    if prepared.trouble is not None:
        _stumble(app, job, prepared.trouble)
        return True
    latest = deadline - _CALL_BUDGET_SECONDS
    try:
        if prepared.request is None or app.clock.now() > latest:
            # The images took long to come by. Cut off in the call, the job would be in doubt.
            raise NoTime
        intending = take_turn(app, job, latest)
    except NoTime:
        requeue(app, job)
        app.kicks.kick(lane)
        return False
    if intending is None:
        return True  # somebody else has taken the job on
    job = intending
    try:
        task_id, request_id = provider_of(app, job).create(prepared.request)
    except InputNotFetched as error:
        if fetched_in_vain(job):
            _end(app, job, refusal_of(error))
        else:
            put_back(app, job, error)
        return True
    except TryLater as error:
        if error.code == NOT_SENT:
            _stumble(app, job, error)
            return True
        requeue(app, job, throttled_by=error)
        return True  # a short backoff is slept out, a long one left to a later kick
    except OperatorError as error:
        requeue(app, job, paused_by=operator_failure(error))
        return False
    except ProviderRefused as error:
        _end(app, job, refusal_of(error))
        return True
    except OutcomeUnknown as error:
        hold(app, job, f"{error.code}: {error.message}; a task may have been made and billed")
        return True

    def record_task() -> Job:
        running, decided = jobs.created(
            job, app.store.lane(lane), task_id, request_id, app.clock.now()
        )
        app.store.commit(decided)
        return running

    running = deciding(app.clock, record_task, tries=RECORDING_TRIES)
    _start(app, running)
    tell_intent(app, job)
    publish(app, running)
    return True


def refusal_of(error: TryLater | ProviderRefused) -> Failure:
    """What the provider, or the line to it, said."""
    return Failure(code=error.code, message=error.message, request_id=error.request_id)


def operator_failure(error: OperatorError) -> Failure:
    """What an operator must mend, as a record."""
    if isinstance(error, AccountRefused):
        return Failure(code=error.code, message=error.message, request_id=error.request_id)
    if isinstance(error, ResultHostUnknown):
        return Failure(code=error.code, message=str(error))
    return Failure(code=type(error).__name__, message=str(error))


def requeue(
    app: App, job: Job, *, throttled_by: TryLater | None = None, paused_by: Failure | None = None
) -> None:
    """Put an admitted job back at its place in the backlog."""

    def decide(lane: Lane) -> tuple[Job, Writes]:
        return jobs.requeue(
            job,
            lane,
            app.clock.now(),
            throttled_from=pace_of(app, lane.lane) if throttled_by is not None else None,
            paused_by=paused_by,
            refusal=refusal_of(throttled_by) if throttled_by is not None else None,
            blocked=throttled_by is not None and throttled_by.code == NOT_REACHED,
        )

    _leave(app, job, decide)


def fetched_in_vain(job: Job) -> bool:
    """Whether a job has had its second chance after images that could not be downloaded."""
    return job.not_fetched > 0


def stumbled_out(job: Job, trouble: TryLater) -> bool:
    """Whether a job has stumbled as often as it may. Nobody being there is no stumbling."""
    return trouble.code != NOT_REACHED and job.stumbles + 1 >= MOST_STUMBLES


def stumble(app: App, job: Job, trouble: TryLater) -> None:
    """Put a job back whose call could not be prepared or sent; nothing was made."""
    if trouble.code == NOT_REACHED:
        requeue(app, job, throttled_by=trouble)
        return

    def decide(lane: Lane) -> tuple[Job, Writes]:
        now = app.clock.now()
        return jobs.requeue(job, lane, now, refusal=refusal_of(trouble), stumbled=True)

    _leave(app, job, decide)


def _stumble(app: App, job: Job, trouble: TryLater) -> None:
    if stumbled_out(job, trouble):
        _end(app, job, refusal_of(trouble))
    else:
        stumble(app, job, trouble)


def put_back(app: App, job: Job, error: InputNotFetched) -> None:
    """Put a job back at its place, to try another way in."""

    def decide(lane: Lane) -> tuple[Job, Writes]:
        now = app.clock.now()
        return jobs.requeue(job, lane, now, refusal=refusal_of(error), not_fetched=True)

    _leave(app, job, decide)


def hold(app: App, job: Job, doubt: str) -> None:
    """Hold a job whose billed call has an unknown outcome."""
    _leave(app, job, lambda lane: jobs.unresolved(job, lane, app.clock.now(), doubt))


def _end(app: App, job: Job, failure: Failure) -> None:
    """Close a job that the provider refused before there was a task or an execution."""
    _leave(app, job, lambda lane: jobs.refused(job, lane, app.clock.now(), failure))


def _leave(app: App, job: Job, decision: Callable[[Lane], tuple[Job, Writes]]) -> None:
    """Take a job out of its lane's window as `decision` says, and tell of it."""

    def decide() -> Job:
        assert job.lane is not None  # noqa: S101  an admitted job has one
        changed, writes = decision(app.store.lane(job.lane))
        app.store.commit(writes)
        return changed

    changed = deciding(app.clock, decide)
    tell_intent(app, job)
    publish(app, changed)
