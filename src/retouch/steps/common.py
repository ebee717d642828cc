"""What several steps share: a job's model and pace, and the message of the state machine."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from retouch import jobs
from retouch.errors import Conflict, SettingsError
from retouch.jobs import Job, Lane, Pace, Status
from retouch.ports import App, Provider
from retouch.registry import QUERIES_PER_SECOND, Json, Mode, Model
from retouch.retrying import deciding_on


def model_named(app: App, name: str) -> Model:
    """The stack's model of that name.

    Raises:
        SettingsError: a job names it, but it has been taken out of the settings since.
    """
    model = app.settings.models.get(name)
    if model is None:
        raise SettingsError(f"RETOUCH_MODELS no longer has {name}, which jobs still name")
    return model


def model_of(app: App, job: Job) -> Model:
    """The model of a job that passed validation.

    Raises:
        SettingsError: as `model_named`.
    """
    return model_named(app, job.model or "")


def call_of(app: App, job: Job) -> Mode:
    """How the provider is called for a job."""
    return job.call or model_of(app, job).call


def provider_of(app: App, job: Job) -> Provider:
    """The provider in the region of a job's lane."""
    return app.provider(jobs.region_of(job.lane or ""))


def pace_of(app: App, lane: str) -> Pace:
    """The limits of a lane."""
    model = model_named(app, lane.partition(":")[2])
    return Pace.of(
        model.quota, margin=app.settings.window_margin, sync_window=app.settings.sync_window
    )


def execution_input(app: App, job: Job, wait: float) -> dict[str, Json]:
    """What the state machine carries: ids only."""
    return {
        "job_id": job.job_id,
        "fence": job.fence,
        "mode": str(call_of(app, job)),
        "wait_seconds": max(0, math.ceil(wait)),
    }


def first_wait(app: App, job: Job) -> float:
    """Seconds until an execution's first question or call."""
    now = app.clock.now()
    if job.status is Status.RESOLVING:
        return jobs.SETTLE_SECONDS
    if call_of(app, job) is Mode.SYNC:
        return max(0.0, (job.start_at or now) - now)
    polling = model_of(app, job).polling
    return polling.first if polling is not None else 0.0


def start(app: App, job: Job, wait: float | None = None) -> None:
    """Start the job's execution, unless one of its name was started already."""
    first = first_wait(app, job) if wait is None else wait
    app.executions.start(jobs.execution_name(job), execution_input(app, job, first))


def go_on(app: App, job: Job, next_: str, wait: float = 0.0) -> dict[str, Json]:
    """A function's answer to the state machine: `wait`, `finalize` or `stop`."""
    return {**execution_input(app, job, wait), "next": next_}


def my_turn(app: App, job: Job, what: str, patience: float) -> bool:
    """Wait for a turn of the account's to ask the provider something; False if none is near.

    Each kind of question has its own limit at the provider (contract 2.7), shared by all lanes of a
    region, and `what` names it.
    """
    now = app.clock.now()
    name = f"{what}:{jobs.region_of(job.lane or '')}"
    at = app.store.reserve(name, now, 1 / QUERIES_PER_SECOND, patience)
    if at is None:
        return False
    app.clock.sleep(at - now)
    return True


def renew_lease(app: App, job: Job) -> None:
    """Extend the slot's lease; a conflict is left to the next round, half a lease is still there."""
    assert job.lane is not None  # noqa: S101  an admitted job has one
    if app.clock.now() - (job.running_at or 0.0) < jobs.RUNNING_LEASE_SECONDS / 2:
        return  # it was leased for longer when it began
    writes = jobs.renew(job, app.store.lane(job.lane), app.clock.now())
    if writes:
        with suppress(Conflict):
            app.store.commit(writes)


@dataclass(frozen=True)
class Seen:
    """A job and its lane as they were read, or committed, at one time."""

    job: Job | None
    lane: Lane


def see(app: App, job: Job) -> Seen:
    """Both as they are stored now."""
    return Seen(app.store.job(job.job_id), app.store.lane(job.lane or ""))


class NoTime(Exception):
    """A function has too little time left for the call that it was about to make."""


def take_turn(
    app: App, prepared: Job, latest: float, lane: Lane | None = None
) -> tuple[Job, Lane] | None:
    """Wait for the lane's next turn to make a call that bills, and record the intent to make it now,
    with the ways in which the images of the `prepared` job are sent.

    The pace is checked in the very commit that records the intent, so that two callers at once keep
    it between them. `lane` is as it was when the job was admitted, if that was just now. Gives the job
    and its lane as they are then; None if the job is no longer this admission's to call.

    Raises:
        NoTime: its turn would not come before `latest` (Unix seconds).
    """

    def decide(seen: Seen) -> tuple[Job, Lane] | float | None:
        job, at = seen.job, seen.lane
        if job is None or job.fence != prepared.fence or job.status is not Status.ADMITTED:
            return None
        now = app.clock.now()
        early = jobs.unsent_for(at, pace_of(app, at.lane), now)
        if early > 0 or now > latest:
            return max(early, 0.0)
        sent = job.model_copy(update={"images": prepared.images, "mask": prepared.mask})
        intending, silent, writes = jobs.intend(sent, at, call_of(app, job), now)
        app.store.commit(writes)
        return intending, silent

    known = Seen(prepared, lane) if lane is not None else None
    again = partial(see, app, prepared)
    while isinstance(turn := deciding_on(app.clock, known, again, decide), float):
        if app.clock.now() + turn > latest:
            raise NoTime
        app.clock.sleep(turn)
    return turn
