"""What several steps share: a job's model and pace, and the message of the state machine."""

from __future__ import annotations

import math

from retouch import jobs
from retouch.jobs import Job, Pace, Status
from retouch.ports import App
from retouch.records import publish
from retouch.registry import MODELS, Json, Mode, Model
from retouch.retrying import deciding


def model_of(job: Job) -> Model:
    """The registry's entry of a job that passed validation."""
    return MODELS[job.model or ""]


def pace_of(app: App, lane: str) -> Pace:
    """The limits of a lane."""
    model = MODELS[lane.partition(":")[2]]
    return Pace.of(
        model.quota, margin=app.settings.window_margin, sync_window=app.settings.sync_window
    )


def execution_input(job: Job, wait: float) -> dict[str, Json]:
    """What the state machine carries: ids only."""
    return {
        "job_id": job.job_id,
        "fence": job.fence,
        "mode": str(model_of(job).mode),
        "wait_seconds": max(0, math.ceil(wait)),
    }


def first_wait(job: Job, now: float) -> float:
    """Seconds until an execution's first question or call."""
    model = model_of(job)
    if model.mode is Mode.SYNC:
        return max(0.0, (job.start_at or now) - now)
    return model.polling.first if model.polling is not None else 0.0


def go_on(job: Job, next_: str, wait: float = 0.0) -> dict[str, Json]:
    """A function's answer to the state machine: `wait`, `finalize` or `stop`."""
    return {**execution_input(job, wait), "next": next_}


def take_turn(app: App, job_id: str, fence: int) -> Job | None:
    """Wait for the lane's next turn to make a call that bills, and record the intent to make it now.

    The pace is checked in the very commit that records the intent, so that two callers at once keep
    it between them. None if the job is no longer this admission's to call.
    """

    def decide() -> Job | float | None:
        job = app.store.job(job_id)
        if job is None or job.fence != fence or job.status is not Status.ADMITTED:
            return None
        assert job.lane is not None  # noqa: S101  an admitted job has one
        lane = app.store.lane(job.lane)
        now = app.clock.now()
        early = jobs.unsent_for(lane, pace_of(app, job.lane), now)
        if early > 0:
            return early
        intending, writes = jobs.intend(job, lane, now)
        app.store.commit(writes)
        return intending

    while isinstance(turn := deciding(app.clock, decide), float):
        app.clock.sleep(turn)
    return turn


def tell_intent(app: App, job: Job) -> None:
    """Tell that a job's call was under way: afterwards, because between the recorded intent and the
    call there must be as little as possible.
    """
    if job.status is Status.CREATING:
        publish(app, job)
