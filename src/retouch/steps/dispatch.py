"""dispatch: the one writer of a lane; admit queued jobs, make their create call, start executions.

A lane's kicks arrive one at a time, so nothing else creates tasks in it meanwhile. Intent is recorded
before the POST, so that a job whose writer died is known to be in doubt and is never sent again
blindly: its task is looked for in the provider's list (`retouch.steps.resolve`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    SettingsError,
    TryLater,
)
from retouch.jobs import Admit, Failure, Job, Lane, Status, Writes
from retouch.ports import App
from retouch.records import publish, tell_alerts
from retouch.registry import Mode
from retouch.retrying import RECORDING_TRIES, deciding, deciding_on
from retouch.steps.common import NoTime, Seen, call_of, pace_of, provider_of, start, take_turn
from retouch.steps.inputs import request_for

PACING_SLEEP_SECONDS: Final = 2.0
"""The longest pause inside a function. Slower lanes are left to a later kick."""
MOST_STUMBLES: Final = 5
"""A call that could not be prepared or sent so often, though the provider was there, is given up."""
SYNC_CALL_SECONDS: Final = 300.0
"""The provider cuts a synchronous call then (contract 3.3); nothing is made of it afterwards."""
_CALL_BUDGET_SECONDS: Final = 30.0
"""One create at its slowest (the client gives it up after 27 s), and recording it."""
_CREATE_BUDGET_SECONDS: Final = _CALL_BUDGET_SECONDS + 2.0
"""And preparing it."""
UPLOAD_BUDGET_SECONDS: Final = 66.0
"""One upload at its slowest, with its policy; what was uploaded is kept for the next visit."""


def dispatch(app: App, lane: str, deadline: float) -> int:
    """Admit what the lane has room for; how many jobs were admitted.

    Where the time until `deadline` (Unix seconds) runs short, it kicks the lane and returns. What went
    well is told once the lane is served, so that nothing waits for that.
    """
    untold: list[_Untold] = []
    try:
        admitted = _serve(app, lane, deadline, untold)
    except Exception:
        _tell(app, untold)  # of the jobs before the one that failed
        raise
    _tell(app, untold)
    return admitted


@dataclass(frozen=True)
class _Untold:
    """The changes of one job, the oldest first, and the writes that alerts may be among."""

    changes: tuple[Job, ...]
    writes: Writes = ()


def _tell(app: App, untold: list[_Untold]) -> None:
    for news in untold:
        publish(app, *news.changes)
        tell_alerts(app, news.writes)


def _serve(app: App, lane: str, deadline: float, untold: list[_Untold]) -> int:
    admitted = 0
    while True:
        if deadline - app.clock.now() < _CREATE_BUDGET_SECONDS:
            app.kicks.kick(lane)
            return admitted
        try:
            admission = deciding(app.clock, lambda: _admit_next(app, lane))
        except SettingsError as error:
            # The lane's model or region was taken out of the settings: its jobs wait, and are told of.
            pause(app, lane, error)
            return admitted
        if admission is None:
            return admitted
        admitted += 1
        if call_of(app, admission.job) is Mode.SYNC:
            # The execution waits for its start time, makes the call, and frees the slot.
            start(app, admission.job)
            untold.append(_Untold((admission.job,)))
            continue
        app.clock.sleep(admission.wait)
        if not _create(app, admission, deadline, untold):
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
    pace = pace_of(app, lane_id)
    app.provider(jobs.region_of(lane_id))
    now = app.clock.now()
    ready = max(lane.next_create_at, lane.quiet_until)
    if mode is Mode.ASYNC and ready - now > PACING_SLEEP_SECONDS:
        return None
    decision = jobs.admit(lane, job, mode, pace, now)
    if not isinstance(decision, Admit):
        return None
    app.store.commit(decision.writes)
    return decision


def _create(app: App, admission: Admit, deadline: float, told_later: list[_Untold]) -> bool:
    """Make the task of an admitted job; whether the lane may go on at once."""
    admitted = admission.job
    lane = admission.lane.lane
    try:
        prepared = request_for(app, admitted, until=deadline - UPLOAD_BUDGET_SECONDS)
    except OperatorError as error:
        requeue(app, admitted, paused_by=operator_failure(error), untold=(admitted,))
        return False
    except ProviderRefused as error:
        _end(app, admitted, refusal_of(error), untold=(admitted,))
        return True
    job = prepared.job
    if prepared.trouble is not None:
        _stumble(app, job, prepared.trouble, untold=(admitted,))
        return True
    latest = deadline - _CALL_BUDGET_SECONDS
    try:
        if prepared.request is None or app.clock.now() > latest:
            # The images took long to come by. Cut off in the call, the job would be in doubt.
            raise NoTime
        taken = take_turn(app, job, latest, admission.lane)
    except NoTime:
        requeue(app, job, untold=(admitted,))
        app.kicks.kick(lane)
        return False
    if taken is None:
        told_later.append(_Untold((admitted,)))
        return True  # somebody else has taken the job on
    job, silent = taken
    untold = (admitted, job)
    try:
        task_id, request_id = provider_of(app, job).create(prepared.request)
    except InputNotFetched as error:
        if fetched_in_vain(job):
            _end(app, job, refusal_of(error), untold)
        else:
            put_back(app, job, error, untold)
        return True
    except TryLater as error:
        if error.code == NOT_SENT:
            _stumble(app, job, error, untold)
            return True
        requeue(app, job, throttled_by=error, untold=untold)
        return True  # a short backoff is slept out, a long one left to a later kick
    except OperatorError as error:
        requeue(app, job, paused_by=operator_failure(error), untold=untold)
        return False
    except ProviderRefused as error:
        _end(app, job, refusal_of(error), untold)
        return True
    except OutcomeUnknown as error:
        lose(app, job, f"{error.code}: {error.message}; a task may have been made", untold)
        return True

    def decide(seen: Seen) -> tuple[Job, Writes] | None:
        if seen.job is None:
            return None
        now = app.clock.now()
        pace = pace_of(app, lane)
        running, writes = jobs.created(seen.job, seen.lane, task_id, request_id, pace, now)
        app.store.commit(writes)
        return running, writes

    recorded = deciding_on(
        app.clock,
        Seen(job, silent),
        lambda: Seen(_held(app, job), app.store.lane(lane)),
        decide,
        tries=RECORDING_TRIES,
    )
    if recorded is None:
        told_later.append(_Untold(untold))
        return True  # declared lost meanwhile, and looked for
    running, writes = recorded
    start(app, running)
    told_later.append(_Untold((*untold, running), writes))
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


def pause(app: App, lane: str, error: OperatorError) -> None:
    """Stop a lane whose account or settings are at fault, and tell of it once."""
    why = operator_failure(error)

    def decide() -> Writes:
        at = app.store.lane(lane)
        if at.paused_since is not None and at.paused_by == why:
            return ()
        writes = jobs.pause(at, why, app.clock.now())
        app.store.commit(writes)
        return writes

    tell_alerts(app, deciding(app.clock, decide))


def requeue(
    app: App,
    job: Job,
    *,
    throttled_by: TryLater | None = None,
    paused_by: Failure | None = None,
    untold: tuple[Job, ...] = (),
) -> None:
    """Put an admitted job back at its place in the backlog."""

    def decide(held: Job, lane: Lane) -> tuple[Job, Writes]:
        return jobs.requeue(
            held,
            lane,
            app.clock.now(),
            throttled_from=pace_of(app, lane.lane) if throttled_by is not None else None,
            paused_by=paused_by,
            refusal=refusal_of(throttled_by) if throttled_by is not None else None,
            blocked=throttled_by is not None and throttled_by.code == NOT_REACHED,
        )

    leave(app, job, decide, untold)


def fetched_in_vain(job: Job) -> bool:
    """Whether a job has had its second chance after images that could not be downloaded."""
    return job.not_fetched > 0


def stumbled_out(job: Job, trouble: TryLater) -> bool:
    """Whether a job has stumbled as often as it may. Nobody being there is no stumbling."""
    return trouble.code != NOT_REACHED and job.stumbles + 1 >= MOST_STUMBLES


def stumble(app: App, job: Job, trouble: TryLater, untold: tuple[Job, ...] = ()) -> None:
    """Put a job back whose call could not be prepared or sent; nothing was made."""
    if trouble.code == NOT_REACHED:
        requeue(app, job, throttled_by=trouble, untold=untold)
        return

    def decide(held: Job, lane: Lane) -> tuple[Job, Writes]:
        now = app.clock.now()
        return jobs.requeue(held, lane, now, refusal=refusal_of(trouble), stumbled=True)

    leave(app, job, decide, untold)


def _stumble(app: App, job: Job, trouble: TryLater, untold: tuple[Job, ...]) -> None:
    if stumbled_out(job, trouble):
        _end(app, job, refusal_of(trouble), untold)
    else:
        stumble(app, job, trouble, untold)


def put_back(app: App, job: Job, error: InputNotFetched, untold: tuple[Job, ...] = ()) -> None:
    """Put a job back at its place, to try another way in."""

    def decide(held: Job, lane: Lane) -> tuple[Job, Writes]:
        now = app.clock.now()
        return jobs.requeue(held, lane, now, refusal=refusal_of(error), not_fetched=True)

    leave(app, job, decide, untold)


def lose(app: App, job: Job, why: str, untold: tuple[Job, ...] = ()) -> bool:
    """The answer to a create was lost: have its task looked for; whether that was still to be done."""

    def decide(held: Job, lane: Lane) -> tuple[Job, Writes] | None:
        if held.status is not Status.CREATING:
            return None
        return jobs.lost(held, lane, app.clock.now(), why)

    resolving = leave(app, job, decide, untold, then=lambda lost: start(app, lost))
    return resolving is not None


def hold(
    app: App,
    job: Job,
    doubt: str,
    candidates: tuple[str, ...] = (),
    untold: tuple[Job, ...] = (),
) -> None:
    """Hold a job whose billed call has an outcome that stays unknown."""
    sync = call_of(app, job) is Mode.SYNC
    sent = job.intent_at or 0.0

    def decide(held: Job, lane: Lane) -> tuple[Job, Writes]:
        now = app.clock.now()
        # As long as the provider may be at work on it, it counts among what is in flight.
        until = sent + SYNC_CALL_SECONDS if sync else now + jobs.RUNNING_LEASE_SECONDS
        return jobs.unresolved(held, lane, now, doubt, candidates=candidates, slot_until=until)

    leave(app, job, decide, untold)


def _end(app: App, job: Job, failure: Failure, untold: tuple[Job, ...]) -> None:
    """Close a job that the provider refused before there was a task or an execution."""

    def decide(held: Job, lane: Lane) -> tuple[Job, Writes]:
        return jobs.refused(held, lane, app.clock.now(), failure)

    leave(app, job, decide, untold)


def leave(
    app: App,
    job: Job,
    decision: Callable[[Job, Lane], tuple[Job, Writes] | None],
    untold: tuple[Job, ...] = (),
    then: Callable[[Job], None] | None = None,
) -> Job | None:
    """Change an admitted job and its lane as `decision` says, do what follows, and tell of it, after
    its `untold` changes. None if the job is no longer this admission's, or there was nothing to do.

    The decision is made on the job as it is stored now, for somebody may have noted something on it;
    only the ways of its images, found out meanwhile, are this caller's.
    """

    def decide() -> tuple[Job, Writes] | None:
        held = _held(app, job)
        if held is None:
            return None
        assert held.lane is not None  # noqa: S101  an admitted job has one
        decided = decision(held, app.store.lane(held.lane))
        if decided is not None:
            app.store.commit(decided[1])
        return decided

    decided = deciding(app.clock, decide)
    if decided is None:
        if untold:
            publish(app, *untold)
        return None
    changed, writes = decided
    if then is not None:
        then(changed)
    publish(app, *untold, changed)
    tell_alerts(app, writes)
    return changed


def _held(app: App, job: Job) -> Job | None:
    """The job as it is stored, if it still has this admission's slot."""
    current = app.store.job(job.job_id)
    if current is None or current.fence != job.fence or not jobs.holds_slot(current):
        return None
    return current.model_copy(update={"images": job.images, "mask": job.mask})
