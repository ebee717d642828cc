"""What several steps share: a job's model and pace, and the message of the state machine."""

from __future__ import annotations

import math

from retouch.jobs import Job, Pace
from retouch.ports import App
from retouch.registry import MODELS, Json, Mode, Model


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
