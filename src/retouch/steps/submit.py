"""submit: an object was dropped; enter the job that it completes, if it completes one.

Every path is safe to repeat: the job's id follows from the sidecar's key and version, so one version
of a sidecar makes one job, however often and in whatever order its events come. Events are hints
only: what counts is what lies in the bucket now.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Final

from retouch import keys
from retouch.budget import Scopes, day_of
from retouch.errors import Conflict
from retouch.jobs import (
    BudgetScope,
    Finding,
    Job,
    NoteLatest,
    PutAlert,
    PutJob,
    Source,
    Status,
    Tally,
    Writes,
    lane_id,
    settle,
    wait_for,
)
from retouch.ports import App, Listed, Stored, Sweep
from retouch.records import place, publish, tell_alerts
from retouch.resolving import OurRecord, Outranked, Resolution, look_for, plan
from retouch.retrying import deciding
from retouch.runaway import LARGEST_RECORD, is_record, outbox_in_inbox
from retouch.sidecar import Problem
from retouch.steps.entering import enter

_SWEEP_SECONDS: Final = 900.0
"""So often the whole inbox is looked through for objects whose events never came."""
_MADE_SECONDS: Final = 90 * 24 * 3600
"""So long is it remembered which bytes in the outbox are ours."""
_SETTLED_SECONDS: Final = 300.0
"""An event may be on its way for so long before anybody makes up for it."""


def submit(app: App, key: str) -> tuple[str, ...]:
    """Handle the object of that key; the ids of the jobs that it concerned."""
    kind = keys.classify(key)
    if kind is keys.Kind.IGNORED:
        return ()
    if kind is keys.Kind.SIDECAR:
        job_id = _submit_sidecar(app, key)
        return () if job_id is None else (job_id,)
    candidates = dict.fromkeys((*keys.sidecars_of(key), *app.store.awaiting(key)))
    tried = [_submit_sidecar(app, candidate) for candidate in candidates]
    found = tuple(job_id for job_id in tried if job_id is not None)
    if not found and app.inbox.head(key) is not None:
        app.store.note_lone(key, app.clock.now())
    return found


def job_id_of(key: str, version_id: str) -> str:
    """The id of the job that a version of a sidecar makes: 16 letters and digits."""
    digest = hashlib.sha256(f"{key}\0{version_id}".encode()).digest()
    return base64.b32encode(digest[:10]).decode("ascii").lower()


def _submit_sidecar(app: App, key: str) -> str | None:
    """Handle the sidecar of that key, if there is one; the id of its job."""
    job_id, decided = deciding(app.clock, partial(_judge, app, key))
    if decided is not None:
        publish(app, decided)
        if decided.status is Status.QUEUED and decided.lane is not None:
            app.kicks.kick(decided.lane)
    return job_id


def _judge(app: App, key: str) -> tuple[str | None, Job | None]:
    """Decide about the sidecar's current version; its job's id, and the job if it has changed."""
    dropped = app.inbox.head(key)
    if dropped is None:
        return None, None
    job_id = job_id_of(key, dropped.version_id)
    job = app.store.job(job_id)
    if job is not None and job.status is not Status.WAITING:
        _repeat(app, job)
        return job_id, None
    # What is the latest until now, and only then whether this version still is the current one: who
    # sleeps over a newer version finds, at the latest at the commit, that its job is the latest.
    before = app.store.latest_job_of(key)
    holder = app.store.latest_job_of(place(keys.outbox_folder(key)))
    if app.inbox.head(key) != dropped:
        raise Conflict(f"{key} was overwritten just now")
    _supersede(app, before, job_id)
    now = app.clock.now()
    if job is None:
        job = Job(
            job_id=job_id,
            status=Status.WAITING,
            created_at=now,
            updated_at=now,
            sidecar=key,
            sidecar_version=dropped.version_id,
            folder=keys.outbox_folder(key),
        )
    latest = NoteLatest(key, job_id, over=before)
    takes = NoteLatest(place(job.folder), job_id, over=holder)
    notes = (latest,) if job.version > 0 else (latest, takes)
    decided = _decide(app, job, dropped, notes)
    if decided is None and job.version == 0:
        return None, None  # it is no sidecar
    return job_id, decided


def _repeat(app: App, job: Job) -> None:
    """The job is there; make up for what an earlier delivery may not have come to."""
    if job.status is Status.QUEUED and job.lane is not None:
        app.kicks.kick(job.lane)


def _supersede(app: App, before: str | None, job_id: str) -> None:
    """A newer version of a sidecar replaces an older one that still waits for images or is held."""
    old = app.store.job(before) if before not in (None, job_id) else None
    if old is not None and old.status in (Status.WAITING, Status.HELD):
        note = Finding(field="", message="replaced by a newer version of the sidecar")
        now = app.clock.now()
        closed, writes = settle(old, now, Status.CANCELED, problems=(note,))
        app.store.commit(writes)
        publish(app, closed)


def _decide(app: App, job: Job, dropped: Stored, notes: tuple[NoteLatest, ...] = ()) -> Job | None:
    """Reject, wait, or queue; the job as it was committed, or None if nothing has changed.

    With it are committed the `notes` of what it is the latest of; but its outbox folder is left to
    another sidecar that goes before.
    """
    settings = app.settings
    planned = plan(app.inbox, dropped, settings.models, settings.regions)
    if isinstance(planned, OurRecord):
        _tell_of_record(app, dropped.key)
        return None
    if isinstance(planned, list):
        return _reject(app, job, planned, notes=notes)
    if isinstance(planned, Outranked):
        # The folder is the winner's, and so is the record in it.
        aside = job.model_copy(update={"folder": f"{job.folder}/{job.job_id}"})
        others = tuple(note for note in notes if note.name != place(job.folder))
        return _reject(app, aside, [planned.problem], notes=others)
    order = planned.order
    if order is None:
        found = look_for(app.inbox, job.sidecar, planned, job.folder, partly=True)
        problems = [*planned.problems, *found.problems]
        return _reject(app, job, problems, found.warnings, notes=notes)
    job = job.model_copy(
        update={
            "model": order.model,
            "function": order.function,
            "call": order.call,
            "path": settings.models[order.model].calls[order.call],
            "fit": order.fit,
            "prompt": order.prompt,
            "negative_prompt": order.negative_prompt,
            "parameters": dict(order.parameters),
            "labels": dict(order.labels),
            "priority": order.priority,
            "warnings": _as_findings(order.warnings),
        }
    )
    if order.fit and job.version == 0:
        # Mending may take long; should it be cut off, the job is there to be seen.
        job, writes = wait_for(job, app.clock.now(), ())
        app.store.commit((*writes, *notes))
        notes = tuple(replace(note, over=note.job_id) for note in notes)
        publish(app, job)
    # First remember, then look: an image that comes in between finds the sidecar waiting.
    app.store.await_images(job.sidecar, planned.wanted)
    found = look_for(app.inbox, job.sidecar, planned, job.folder)
    if found.missing:
        return _wait(app, job, found.missing, notes)
    if found.problems:
        rejected = _reject(app, job, found.problems, found.warnings, notes=notes)
        app.store.forget_awaiting(job.sidecar, planned.wanted)
        return rejected
    assert order.region is not None  # noqa: S101  the stack's regions are known here
    lane = lane_id(order.region, order.model)
    job_id = job.job_id
    complete = job.model_copy(
        update={
            "images": tuple(_stored(app, image, found, job_id) for image in found.images),
            "mask": None if found.mask is None else _stored(app, found.mask, found, job_id),
            "parameters": {**order.parameters, **found.parameters},
            "warnings": _as_findings((*order.warnings, *found.warnings)),
        }
    )
    return queue(app, complete, lane, arrived=job.created_at, notes=notes)


def queue(
    app: App,
    job: Job,
    lane: str,
    *,
    arrived: float,
    notes: tuple[NoteLatest, ...] = (),
    scopes: Scopes | None = None,
) -> Job:
    """Enter a complete job into its lane's backlog, or hold it where it does not fit into a budget.

    `notes` are committed with it. `scopes` are the budgets of the presets that it comes under, by
    folder; None: those that it has. The stack's own is always in force.
    """
    if scopes is not None:
        # A preset at the inbox root must not be taken for the stack.
        own = {scope or "/": budget for scope, budget in scopes}
        budgets = tuple(BudgetScope(scope=at, budget=budget) for at, budget in own.items())
        job = job.model_copy(update={"budgets": budgets})
    app.store.note_lane(lane)
    used = (*job.images, *([] if job.mask is None else [job.mask]))
    images = list(dict.fromkeys(image.key for image in used if not image.is_url))
    for key in images:
        _close_stand_in(app, key, f"used by {job.sidecar}")
    queued = enter(app, job, lane, arrived=arrived, notes=notes)
    for key in images:
        app.store.forget_lone(key)
    return queued


def _tell_of_record(app: App, key: str) -> None:
    """A record of ours lies in the inbox, so something copies the outbox there: say so once a day."""
    now = app.clock.now()
    alert = outbox_in_inbox(key, day_of(now), now)
    writes = (PutAlert(alert), Tally(alert.kind, day_of(now), most=1))
    try:
        app.store.commit(writes)
    except Conflict:
        return  # it was said today
    tell_alerts(app, writes)


def submit_again(app: App, job: Job, dropped: Stored, notes: tuple[NoteLatest, ...]) -> Job:
    """Judge what a sidecar's version asks for anew, as the job given; `notes` as in `_decide`."""
    return _decide(app, job, dropped, notes) or job


def note_made(app: App, sha256: str, job_id: str) -> None:
    """Remember that these bytes in the outbox are ours, so that they are known if they come back."""
    app.store.note_made(sha256, job_id, int(app.clock.now()) + _MADE_SECONDS)


def _stored(app: App, source: Source, found: Resolution, job_id: str) -> Source:
    """An image whose mended copy, if it has one, lies in the outbox."""
    if source.mended is None:
        return source
    mended = source.mended
    version = app.outbox.put(mended.key, found.mended[mended.key], mended.mime)
    note_made(app, mended.sha256, job_id)
    return source.model_copy(update={"mended": mended.model_copy(update={"version_id": version})})


def _as_findings(problems: Iterable[Problem]) -> tuple[Finding, ...]:
    return tuple(Finding(field=p.field, message=p.message) for p in problems)


def _reject(
    app: App,
    job: Job,
    problems: list[Problem],
    warnings: Iterable[Problem] = (),
    *,
    notes: Writes = (),
) -> Job:
    now = app.clock.now()
    rejected, writes = settle(
        job,
        now,
        Status.REJECTED,
        problems=_as_findings(problems),
        warnings=(*job.warnings, *_as_findings(warnings)),
    )
    app.store.commit((*writes, *notes))
    return rejected


def _wait(app: App, job: Job, missing: tuple[str, ...], notes: Writes) -> Job | None:
    if job.version > 0 and job.missing == missing:
        return None
    waiting, writes = wait_for(job, app.clock.now(), missing)
    app.store.commit((*writes, *notes))
    return waiting


# --- what has no sidecar, and what nobody told us of -------------------------------------------------


def record_lone(app: App, key: str) -> str | None:
    """An image whose sidecar has not come: give it a record, which its owner is told of once.

    It waits there for as long as it takes. Where a sidecar is there, only its event or the image's may
    have been lost: then `submit` is told of the image again, and nothing is recorded.
    """
    dropped = app.inbox.head(key)
    if dropped is None:
        _no_longer_lone(app, key, "it was deleted")
        return None
    if _has_sidecar(app, key):
        app.uploads.announce(key)
        _no_longer_lone(app, key, "its sidecar came")
        return "announced"
    sidecar = f"{key}.json"
    job_id = job_id_of(key, dropped.version_id)
    job = None
    if app.store.job(job_id) is None:
        now = app.clock.now()
        job = Job(
            job_id=job_id,
            version=1,
            message_version=1,
            status=Status.WAITING,
            created_at=now,
            updated_at=now,
            overdue_at=now,
            sidecar=sidecar,
            sidecar_version=None,
            folder=keys.outbox_folder(sidecar),
            missing=(sidecar,),
        )
        app.store.commit((PutJob(job),))
    app.store.note_lone(key, app.clock.now(), job_id)
    if job is not None:
        publish(app, job)
    return "found alone"


def _has_sidecar(app: App, key: str) -> bool:
    names = dict.fromkeys((*keys.sidecars_of(key), *app.store.awaiting(key)))
    found = (app.inbox.head(name) for name in names)
    return any(there is not None and not _is_our_record(app, there) for there in found)


def _is_our_record(app: App, there: Stored) -> bool:
    data = app.inbox.read(there.key, there.version_id) if there.size <= LARGEST_RECORD else None
    return data is not None and is_record(data)


def _no_longer_lone(app: App, key: str, why: str) -> None:
    _close_stand_in(app, key, why)
    app.store.forget_lone(key)


def _close_stand_in(app: App, key: str, why: str) -> None:
    """Close the record that stood for an image without a sidecar, if there was one."""
    stands_in = app.store.record_of_lone(key)
    if stands_in is not None:
        close_waiting(app, stands_in, f"{key}: {why}")


def close_waiting(app: App, job_id: str, why: str) -> None:
    """Close a job that waits for what no longer matters; its folder is left to others."""
    job = app.store.job(job_id)
    if job is None or job.status is not Status.WAITING:
        return
    folder = job.folder if job.sidecar_version is not None else f"{job.folder}/{job.job_id}"
    note = Finding(field="", message=why)
    now = app.clock.now()
    closed, writes = settle(job, now, Status.CANCELED, problems=(note,), missing=(), folder=folder)
    app.store.commit(writes)
    publish(app, closed)


def look_again(app: App, job: Job) -> bool:
    """See to it that a waiting job goes on if nothing is missing; whether it still has to wait.

    What it waits for may be there, and only the event lost: `submit` is told of the sidecar again.
    """
    image = job.sidecar.removesuffix(".json")
    if job.sidecar_version is not None:
        if app.inbox.head(job.sidecar) is not None:
            app.uploads.announce(job.sidecar)
            return True
        close_waiting(app, job.job_id, "the sidecar was deleted before its images came")
    elif app.inbox.head(image) is None:
        close_waiting(app, job.job_id, f"{image}: it was deleted")
    elif _has_sidecar(app, image):
        app.uploads.announce(image)
        close_waiting(app, job.job_id, f"{image}: its sidecar came")
    else:
        return True
    return False


def sweep(app: App, deadline: float) -> str | None:
    """Look through the inbox for objects whose events never came, every quarter of an hour.

    It goes on where the round before had to stop at its `deadline` (Unix seconds).
    """
    state = app.store.sweep()
    now = app.clock.now()
    if state.after is None:
        if now - state.started_at < _SWEEP_SECONDS:
            return None
        # Twice, so that nothing falls between two sweeps.
        state = Sweep(since=state.started_at - 2 * _SETTLED_SECONDS, started_at=now, after="")
    while app.clock.now() < deadline:
        page = app.inbox.listing(state.after)
        for listed in page:
            if state.since <= listed.modified_at <= state.started_at - _SETTLED_SECONDS:
                _make_up_for(app, listed)
            state = replace(state, after=listed.key)
            if app.clock.now() >= deadline:
                break
        app.store.note_sweep(state if page else replace(state, after=None))
        if not page:
            return "swept"
    return None


def _make_up_for(app: App, listed: Listed) -> None:
    """Have an object handled if nothing shows that its event was."""
    match keys.classify(listed.key):
        case keys.Kind.SIDECAR:
            seen = app.store.job(job_id_of(listed.key, listed.version_id)) is not None
        case keys.Kind.IMAGE:
            sidecars = keys.sidecars_of(listed.key)
            seen = any(app.store.latest_job_of(name) is not None for name in sidecars)
        case keys.Kind.IGNORED:
            seen = True
    if not seen:
        app.uploads.announce(listed.key)
