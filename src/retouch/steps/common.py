"""What several steps share: a job's model and pace, and the message of the state machine."""

from __future__ import annotations

import math

from retouch import jobs
from retouch.errors import SettingsError
from retouch.jobs import Job, Pace, Status
from retouch.ports import App, Provider
from retouch.records import publish
from retouch.registry import Json, Mode, Model
from retouch.retrying import deciding


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
    if call_of(app, job) is Mode.SYNC:
        now = app.clock.now()
        return max(0.0, (job.start_at or now) - now)
    polling = model_of(app, job).polling
    return polling.first if polling is not None else 0.0


def go_on(app: App, job: Job, next_: str, wait: float = 0.0) -> dict[str, Json]:
    """A function's answer to the state machine: `wait`, `finalize` or `stop`."""
    return {**execution_input(app, job, wait), "next": next_}


class NoTime(Exception):
    """A function has too little time left for the call that it was about to make."""


def take_turn(app: App, prepared: Job, latest: float) -> Job | None:
    """Wait for the lane's next turn to make a call that bills, and record the intent to make it now,
    with the ways in which the images of the `prepared` job are sent.

    The pace is checked in the very commit that records the intent, so that two callers at once keep
    it between them. None if the job is no longer this admission's to call.

    Raises:
        NoTime: its turn would not come before `latest` (Unix seconds).
    """

    def decide() -> Job | float | None:
        job = app.store.job(prepared.job_id)
        if job is None or job.fence != prepared.fence or job.status is not Status.ADMITTED:
            return None
        assert job.lane is not None  # noqa: S101  an admitted job has one
        lane = app.store.lane(job.lane)
        now = app.clock.now()
        early = jobs.unsent_for(lane, pace_of(app, job.lane), now)
        if early > 0 or now > latest:
            return max(early, 0.0)
        sent = job.model_copy(update={"images": prepared.images, "mask": prepared.mask})
        intending, writes = jobs.intend(sent, lane, now)
        app.store.commit(writes)
        return intending

    while isinstance(turn := deciding(app.clock, decide), float):
        if app.clock.now() + turn > latest:
            raise NoTime
        app.clock.sleep(turn)
    return turn


def tell_intent(app: App, job: Job) -> None:
    """Tell that a job's call was under way: afterwards, because between the recorded intent and the
    call there must be as little as possible.
    """
    if job.status is Status.CREATING:
        publish(app, job)
