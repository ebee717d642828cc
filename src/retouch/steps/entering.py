"""Entering a complete job into its lane, within the budgets that it is under.

`submit` and `operate` enter new jobs, `reconcile` those that were held and fit now, `operate` what a
person releases. What a job counts for is added up in the very transaction that enters it, under the
condition that there is room, so that no two jobs can take the same room.

In a scope nobody overtakes: while a job waits for room there, what comes later waits behind it, even if
it would fit, unless its priority is higher. So a large job is not overtaken by small ones for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from retouch import jobs
from retouch.budget import (
    STACK,
    Circumstances,
    Estimate,
    Hold,
    Scopes,
    day_of,
    judge,
    millionths,
    room_for,
)
from retouch.errors import Conflict
from retouch.jobs import (
    Charge,
    Charged,
    Cost,
    Job,
    NoteLatest,
    Status,
    Tally,
    Writes,
    held_queue,
    region_of,
)
from retouch.ports import App
from retouch.records import cost_of
from retouch.retrying import deciding
from retouch.runaway import sameness


def enter(
    app: App, job: Job, lane: str, *, arrived: float, notes: tuple[NoteLatest, ...] = ()
) -> Job:
    """Enter a complete job, or hold it, with `notes` in the same commit; the job as it was committed.

    Raises:
        Conflict: the job, or what it is the latest of, has changed meanwhile; or the budgets change
            faster than they can be read.
    """

    def attempt() -> Job | None:
        try:
            return _judged(app, job, lane, arrived, notes)
        except Conflict:
            if _has_changed(app, job, notes):
                return None
            raise  # only the room has changed

    entered = deciding(app.clock, attempt)
    if entered is None:
        raise Conflict(f"job {job.job_id}, or what it is the latest of, has changed meanwhile")
    return entered


def _has_changed(app: App, job: Job, notes: tuple[NoteLatest, ...]) -> bool:
    there = app.store.job(job.job_id)
    version = 0 if there is None else there.version
    return version != job.version or any(
        app.store.latest_job_of(note.name) != note.over for note in notes
    )


def enter_held(app: App, job_id: str) -> Job | None:
    """Enter a held job if it fits now; the job, or None if it still waits in the same place."""

    def attempt() -> Job | None:
        job = app.store.job(job_id)
        if job is None or job.status is not Status.HELD or job.lane is None:
            return None
        return _judged(app, job, job.lane, job.created_at)

    changed = deciding(app.clock, attempt)
    return None if changed is None or changed.job_id != job_id else changed


def release(app: App, job_id: str) -> tuple[Job | None, Hold | None]:
    """Enter a held job whatever its budgets say; it counts in them all the same.

    Gives the job as it is then, and why it was held; None for that if it was not.
    """

    def attempt() -> tuple[Job | None, Hold | None]:
        job = app.store.job(job_id)
        if job is None or job.status is not Status.HELD or job.lane is None:
            return job, None
        now = app.clock.now()
        job, _, entry = _looked_at(app, job, job.lane, now)
        free = tuple(_unconditional(write) for write in entry.counted)
        released, writes = jobs.released(
            job, job.lane or "", now, charged=entry.charged, counted=free
        )
        app.store.commit(writes)
        return released, job.held

    return deciding(app.clock, attempt)


@dataclass(frozen=True)
class _Entry:
    """What a job counts for if it is entered, and the writes that count it."""

    charged: Charged | None
    counted: Writes


def _judged(
    app: App, job: Job, lane: str, arrived: float, notes: tuple[NoteLatest, ...] = ()
) -> Job | None:
    """Enter or hold a job, as its budgets are now; None if it stays held as it was."""
    now = app.clock.now()
    held_for = job.held
    job, why, entry = _looked_at(app, job, lane, now)
    if why is None:
        entered, writes = jobs.enter(
            job, lane, now, arrived=arrived, charged=entry.charged, counted=entry.counted
        )
        app.store.commit((*writes, *notes))
        return entered
    if held_for is not None and (why.reason, why.scope) == (held_for.reason, held_for.scope):
        return None
    if held_for is not None and why.by_itself and held_for.scope == why.scope:
        return None  # only what it waits for there has changed
    held, writes = jobs.hold(job, lane, now, why, arrived=arrived)
    if why.by_itself:
        app.store.note_held_queue(held_queue(why.scope))
    app.store.commit((*writes, *notes))
    return held


def _looked_at(app: App, job: Job, lane: str, now: float) -> tuple[Job, Hold | None, _Entry]:
    """A job with its estimate, why it may not be entered now, and how it would be."""
    cost = _estimate(app, job, lane)
    job = job.model_copy(update={"estimate": cost})
    estimate = _in_millionths(cost)
    scopes: Scopes = (
        (STACK, app.settings.budget),
        *((own.scope, own.budget) for own in job.budgets),
    )
    day = day_of(now)
    counting = tuple(scope for scope, budget in scopes if budget.counts_days)
    same = sameness(job)
    known = Circumstances(
        day=day,
        sums={scope: app.store.used_up(scope, day) for scope in counting},
        before=frozenset(scope for scope in counting if _is_behind(app, scope, job)),
        same=app.store.counted(same, day),
        made_by=_made_by(app, job),
    )
    # A chain that would not come to its end is not begun; each step counts when it is entered.
    whole = estimate
    if job.chain_estimate is not None and job.part is not None:
        whole = replace(_in_millionths(job.chain_estimate), steps=job.part.steps)
    why = judge(whole, scopes, known)
    charged = Charged.of(cost, day, counting) if counting else None
    limits = [budget.same_per_day for _, budget in scopes if budget.same_per_day is not None]
    counted: Writes = (
        *(
            Charge(scope, day, estimate.images, estimate.cost, estimate.currency, *room)
            for scope, budget in scopes
            if budget.counts_days and (room := room_for(estimate, budget))
        ),
        Tally(same, day, min(limits, default=None)),
    )
    return job, why, _Entry(charged, counted)


def _estimate(app: App, job: Job, lane: str) -> Cost:
    """What a job makes and costs at the most."""
    model = app.settings.models.get(job.model or "")
    if model is None and job.estimate is not None:
        return job.estimate  # its model was taken out of the settings; its lane says so
    images = 1 if model is None else model.most_images(job.parameters, bool(job.images))
    return cost_of(images, app.settings.prices.of(region_of(lane), job.model or ""))


def _in_millionths(cost: Cost) -> Estimate:
    if cost.price is not None:
        return Estimate(cost.images, millionths(Decimal(cost.price)) * cost.images, cost.currency)
    if cost.amount is not None:
        return Estimate(cost.images, millionths(Decimal(cost.amount)), cost.currency)
    return Estimate(cost.images)


def _is_behind(app: App, scope: str, job: Job) -> bool:
    """Whether another job waits for room in a scope whose turn is before this one's."""
    key = job.queue_key or jobs.queue_key(job.priority, job.created_at, job.job_id)
    head = app.store.backlog(held_queue(scope), 1)
    return bool(head) and head[0].queue_key < key


def _made_by(app: App, job: Job) -> str | None:
    """The job of ours that made an image which no sidecar asks for.

    What a person has released once, or tries again, is asked for, and so is the result of a step.
    """
    if job.sidecar_version is not None or job.retry_of is not None or jobs.follows(job):
        return None
    found = (app.store.made_by(image.sha256) for image in job.images if image.sha256 is not None)
    return next((job_id for job_id in found if job_id is not None), None)


def _unconditional(write: jobs.Write) -> jobs.Write:
    match write:
        case Charge(scope, day, images, cost, currency):
            return Charge(scope, day, images, cost, currency)
        case Tally(name, day):
            return Tally(name, day)
        case _:
            return write
