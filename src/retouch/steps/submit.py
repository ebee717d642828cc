"""submit: an object was dropped; enter the jobs that it completes, if it completes any.

Every path is safe to repeat: a job's id follows from the sidecar's key and version, so one version of a
sidecar makes its jobs once, however often and in whatever order its events come. Events are hints only:
what counts is what lies in the bucket now.

A sidecar makes one job, or several (`retouch.parts`); an image without a sidecar makes them where the
presets of its folder are a whole job. All that can be said of a drop's text is said before any of its
jobs is entered. A step's job is there from the beginning and waits; it is entered when the job before
it has ended well.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from retouch import jobs, keys
from retouch.budget import Scopes, day_of
from retouch.errors import Conflict
from retouch.jobs import (
    BudgetScope,
    Cost,
    Failure,
    Finding,
    Job,
    NoteLatest,
    Preset,
    PutAlert,
    PutJob,
    Source,
    Status,
    Tally,
    Writes,
    follows,
    lane_id,
    settle,
    wait_for,
)
from retouch.parts import Part
from retouch.ports import App, Errand, Listed, Store, Stored, Sweep
from retouch.records import cost_of, place, publish, tell_alerts, together
from retouch.resolving import (
    OurRecord,
    Outranked,
    Plan,
    Reading,
    Resolution,
    Result,
    as_far_as_told,
    check_preset,
    look_at_result,
    look_for,
    plan,
    read_alone,
    read_drop,
)
from retouch.retrying import deciding
from retouch.runaway import LARGEST_RECORD, is_record, outbox_in_inbox
from retouch.sidecar import Order, Problem, as_many_as_are_read
from retouch.steps.entering import enter

STEP_FAILED: Final = "StepFailed"
"""The code of a job whose step before it has not ended well."""
_NEWER: Final = "this record is of an older drop; what came after it is in "
_FEW: Final = 3
_SWEEP_SECONDS: Final = 900.0
"""So often the whole inbox is looked through for objects whose events never came."""
_MADE_SECONDS: Final = 90 * 24 * 3600
"""So long is it remembered which bytes in the outbox are ours."""
_SETTLED_SECONDS: Final = 300.0
"""An event may be on its way for so long before anybody makes up for it."""


def see_to(app: App, errand: Errand) -> tuple[str, ...]:
    """Handle a message of the uploads queue; the ids of the jobs that it concerned."""
    if errand.job_id is not None:
        return proceed(app, errand.job_id)
    return submit(app, errand.key or "", settled=errand.settled)


def submit(app: App, key: str, *, settled: bool = False) -> tuple[str, ...]:
    """Handle the object of that key; the ids of the jobs that it concerned.

    `settled` says of an image that it has waited for its sidecar for long enough.
    """
    match keys.classify(key):
        case keys.Kind.IGNORED:
            return ()
        case keys.Kind.PRESET:
            return _submit_preset(app, key)
        case keys.Kind.SIDECAR:
            return _submit_sidecar(app, key)
    candidates = dict.fromkeys((*keys.sidecars_of(key), *app.store.awaiting(key)))
    found = [job_id for candidate in candidates for job_id in _submit_sidecar(app, candidate)]
    return tuple(found) or _submit_alone(app, key, settled=settled)


def job_id_of(key: str, version_id: str) -> str:
    """The id of the first job that a version of a sidecar makes: 16 letters and digits."""
    return _id_of(f"{key}\0{version_id}")


def part_id(root: str, number: int) -> str:
    """The id of the `number`th job, from 0, of the drop whose first job is `root`."""
    return root if number == 0 else _id_of(f"{root}\0{number}")


def stand_in_id(key: str, version_id: str) -> str:
    """The id of the record that stands for a version of an image until a sidecar or a preset comes."""
    return _id_of(f"{key}\0{version_id}\0alone")


def job_of(store: Store, key: str, version_id: str) -> Job | None:
    """The first job that a version of an object made, or what stands for it as an image alone."""
    ids = (
        _made_alone_id(store, key, version_id),
        job_id_of(key, version_id),
        stand_in_id(key, version_id),
    )
    return next((job for job_id in ids if (job := store.job(job_id)) is not None), None)


def _made_alone_id(store: Store, key: str, version_id: str) -> str:
    """The id of the first job that presets make of a version of an image alone.

    Once that was also the id of the record that stands for the image; where such a record has it, the
    job has another.
    """
    job_id = job_id_of(key, version_id)
    there = store.job(job_id)
    stands_in = there is not None and there.sidecar_version is None and not there.presets
    return _id_of(f"{key}\0{version_id}\0made") if stands_in else job_id


def parts_of(root: Job) -> tuple[str, ...]:
    """The ids of all jobs of the drop whose first job that is."""
    return tuple(part_id(root.job_id, n) for n in range(1 if root.part is None else root.part.of))


def _id_of(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.b32encode(digest[:10]).decode("ascii").lower()


@dataclass(frozen=True)
class _Drop:
    """What makes jobs: a sidecar in one version, or an image alone.

    Attributes:
        root: The id of its first job.
        key: The sidecar's, or the one that an image's sidecar would have.
        version: The sidecar's; None for an image alone.
        alone: The image's key, if it is alone.
        reading: What it asks for.
        plans: Of each part of it, unless it is refused.
        before: The latest job under its key until now.
        holders: The latest jobs, until now, in the places that its jobs will have.
    """

    root: str
    key: str
    version: str | None
    alone: str | None
    reading: Reading
    plans: tuple[Plan | list[Problem] | Outranked, ...]
    before: str | None
    holders: dict[str, str | None]

    @property
    def problems(self) -> list[Problem]:
        """Why it is refused as a whole, each said once."""
        found = list(self.reading.problems)
        for planned in self.plans:
            if not isinstance(planned, Outranked):
                found += planned if isinstance(planned, list) else planned.problems
        return list(dict.fromkeys(found))

    @property
    def folders(self) -> list[str]:
        """Where its records will be; none where another sidecar goes before."""
        base = keys.outbox_folder(self.key)
        if self.problems:
            return [base]
        if any(isinstance(planned, Outranked) for planned in self.plans):
            return []
        return [keys.part_folder(base, part.folder) for part in self.reading.parts]


def _submit_sidecar(app: App, key: str) -> tuple[str, ...]:
    """Handle the sidecar of that key, if there is one; the ids of its jobs."""
    changed: list[Job] = []
    ids = deciding(app.clock, partial(_judge_sidecar, app, key, changed))
    _tell(app, changed)
    return ids


def _tell(app: App, changed: Sequence[Job]) -> None:
    for job in changed:
        publish(app, job)
    for lane in dict.fromkeys(job.lane for job in changed if job.status is Status.QUEUED):
        if lane is not None:
            app.kicks.kick(lane)


def _judge_sidecar(app: App, key: str, changed: list[Job]) -> tuple[str, ...]:
    """Decide about the sidecar's current version; `changed` gets the jobs as they were committed."""
    dropped = app.inbox.head(key)
    if dropped is None:
        return ()
    root = job_id_of(key, dropped.version_id)
    job = app.store.job(root)
    if job is not None and job.part is None and job.status is not Status.WAITING:
        _repeat(app, job)
        return (root,)
    reading = read_drop(app.inbox, key, dropped, None if job is None else job.presets)
    if isinstance(reading, OurRecord):
        _supersede(app, app.store.latest_job_of(key), root)
        _tell_of_record(app, key)
        return ()
    drop = _drop(app, root, reading, dropped.version_id)
    # What is the latest until now, and only then whether this version still is the current one: who
    # sleeps over a newer version finds, at the latest at the commit, that its job is the latest.
    if app.inbox.head(key) != dropped:
        raise Conflict(f"{key} was overwritten just now")
    _replace_older(app, drop)
    return _enter(app, drop, changed)


def _drop(
    app: App, root: str, reading: Reading, version: str | None, alone: str | None = None
) -> _Drop:
    settings = app.settings
    plans = tuple(
        plan(app.inbox, reading, part, settings.models, settings.regions, alone=alone)
        for part in reading.parts
    )
    base = keys.outbox_folder(reading.key)
    folders = {base, *(keys.part_folder(base, part.folder) for part in reading.parts)}
    return _Drop(
        root=root,
        key=reading.key,
        version=version,
        alone=alone,
        reading=reading,
        plans=plans,
        before=app.store.latest_job_of(reading.key),
        holders={folder: app.store.latest_job_of(place(folder)) for folder in sorted(folders)},
    )


def _enter(app: App, drop: _Drop, changed: list[Job]) -> tuple[str, ...]:
    """Refuse the drop as a whole, or bring each of its jobs as far as it can come."""
    if drop.problems or any(isinstance(planned, Outranked) for planned in drop.plans):
        return _refuse_all(app, drop, changed)
    ids = tuple(part_id(drop.root, part.number) for part in drop.reading.parts)
    before = drop.before
    for part, planned, job_id in zip(drop.reading.parts, drop.plans, ids, strict=True):
        assert isinstance(planned, Plan)  # noqa: S101  the others were refused
        job = app.store.job(job_id)
        if job is not None and job.status is not Status.WAITING:
            _repeat(app, job)
            continue
        if job is not None and follows(job):
            changed += _next_step(app, job_id)
            continue
        fresh = _new_job(app, drop, part, job_id, ids)
        if part.step == 1:
            fresh = fresh.model_copy(update={"chain_estimate": _cost_of_all(app, drop)})
        notes: tuple[NoteLatest, ...] = (NoteLatest(drop.key, drop.root, over=before),)
        if job is None:
            held = drop.holders[fresh.folder]
            notes = (*notes, NoteLatest(place(fresh.folder), job_id, over=held))
        decided = _decide(app, job or fresh, planned, notes, wait=part.follows)
        if decided is not None:
            changed.append(decided)
            before = drop.root
        if part.follows:
            changed += _next_step(app, job_id)  # an earlier delivery may have come as far as that
    return ids


def _cost_of_all(app: App, drop: _Drop) -> Cost:
    """What the steps of a drop make and cost at the most together."""
    settings = app.settings
    costs = []
    for planned in drop.plans:
        if isinstance(planned, Plan) and planned.order is not None:
            order = planned.order
            images = settings.models[order.model].most_images(order.parameters, True)
            price = settings.prices.of(order.region or "", order.model)
            costs.append(cost_of(images, price))
    return together(costs)


def _new_job(app: App, drop: _Drop, part: Part, job_id: str, ids: tuple[str, ...]) -> Job:
    now = app.clock.now()
    chained = part.step is not None
    return Job(
        job_id=job_id,
        status=Status.WAITING,
        created_at=now,
        updated_at=now,
        sidecar=drop.key,
        sidecar_version=drop.version,
        folder=keys.part_folder(keys.outbox_folder(drop.key), part.folder),
        presets=drop.reading.presets,
        part=None
        if part.of == 1
        else jobs.Part(
            number=part.number,
            of=part.of,
            variant=part.variant,
            variants=tuple(one.variant for one in drop.reading.parts if one.variant is not None),
            step=part.step,
            steps=part.steps,
            previous=ids[part.number - 1] if chained and part.number > 0 else None,
            next=ids[part.number + 1] if chained and part.number + 1 < part.of else None,
        ),
    )


def _refuse_all(app: App, drop: _Drop, changed: list[Job]) -> tuple[str, ...]:
    """Refuse a drop: as a whole before any job of it was entered, afterwards only what still waits.

    What is refused now was not when its other jobs were entered: another image came, or a setting has
    changed. A step that waits is told of by the one before it.
    """
    root = app.store.job(drop.root)
    ids = (drop.root,) if root is None else parts_of(root)
    there = [job for job_id in ids if (job := app.store.job(job_id)) is not None]
    waiting = [job for job in there if job.status is Status.WAITING and not follows(job)]
    if root is None or (waiting and all(job.status is Status.WAITING for job in there)):
        changed.append(_refuse(app, drop))
        waiting = [job for job in waiting if job.job_id != drop.root]
    outranked = [found.problem for found in drop.plans if isinstance(found, Outranked)]
    changed += [_reject(app, job, drop.problems or outranked) for job in waiting]
    return ids


def _refuse(app: App, drop: _Drop) -> Job:
    """Reject a drop as a whole, as its first job; where another sidecar goes before, aside."""
    now = app.clock.now()
    folder = keys.outbox_folder(drop.key)
    job = app.store.job(drop.root) or Job(
        job_id=drop.root,
        status=Status.WAITING,
        created_at=now,
        updated_at=now,
        sidecar=drop.key,
        sidecar_version=drop.version,
        folder=folder,
        presets=drop.reading.presets,
    )
    notes: Writes = (NoteLatest(drop.key, drop.root, over=drop.before),)
    outranked = next((found for found in drop.plans if isinstance(found, Outranked)), None)
    if outranked is not None:
        # The folder is the winner's, and so is the record in it.
        aside = job.model_copy(update={"folder": f"{folder}/{job.job_id}"})
        return _reject(app, aside, [outranked.problem], notes=notes)
    if job.version == 0:
        notes = (*notes, NoteLatest(place(folder), drop.root, over=drop.holders[folder]))
    problems, warnings = drop.problems, []
    for planned in drop.plans:
        if isinstance(planned, Plan):
            found = look_for(app.inbox, drop.key, planned, folder, partly=True)
            problems += found.problems
            warnings += found.warnings
    problems, warnings = list(dict.fromkeys(problems)), list(dict.fromkeys(warnings))
    return _reject(app, job, problems, warnings, notes=notes)


def _repeat(app: App, job: Job) -> None:
    """The job is there; make up for what an earlier delivery may not have come to."""
    if job.status is Status.QUEUED and job.lane is not None:
        app.kicks.kick(job.lane)


def _supersede(app: App, before: str | None, root: str) -> list[str]:
    """A newer version of a sidecar replaces what of an older one still waits, or is held; the ids of
    all jobs of that.

    A sidecar also replaces what the presets made of its image alone, if that is still queued.
    """
    latest = app.store.job(before) if before is not None else None
    old = first_of(app.store, latest) if latest is not None else None
    if old is None or old.job_id == root:
        return []  # of this very drop, perhaps tried again
    why = "replaced by a newer version of the sidecar"
    if old.sidecar_version is None and old.presets:
        why = "replaced by the image's sidecar"
    older = _all_of(app, old)
    for job_id in older:
        close_waiting(app, job_id, why)
    return older


def _replace_older(app: App, drop: _Drop) -> None:
    """What a drop replaces is closed, and ended records that it will not write over point to its own.

    A drop that made one job and now makes variants has its records elsewhere: whoever looks where the
    older one is must not take it for the answer.
    """
    older = _supersede(app, drop.before, drop.root)
    folders = drop.folders
    own = [part_id(drop.root, part.number) for part in drop.reading.parts]
    entered = app.store.job(drop.root)
    for job_id in dict.fromkeys((*older, drop.holders[keys.outbox_folder(drop.key)])):
        job = app.store.job(job_id) if job_id is not None and job_id not in own else None
        if job is None or not folders or not job.status.terminal or job.folder in folders:
            continue
        if app.store.latest_job_of(place(job.folder)) != job.job_id:
            continue  # its record lies aside already
        if entered is not None and first_of(app.store, job).created_at > entered.created_at:
            continue  # the event is late: another sidecar's drop is the newer one
        more = f" and {len(folders) - _FEW} more" if len(folders) > _FEW else ""
        note = Finding(field="", message=f"{_NEWER}{', '.join(folders[:_FEW])}{more}")
        if note not in job.warnings:
            kept = tuple(old for old in job.warnings if not old.message.startswith(_NEWER))
            noted, writes = jobs.warned(job, (*kept, note), app.clock.now())
            app.store.commit(writes)
            publish(app, noted)


def first_of(store: Store, job: Job) -> Job:
    """The job that a job repeats, however often it was tried again; itself if it repeats none."""
    while job.retry_of is not None and (before := store.job(job.retry_of)) is not None:
        job = before
    return job


def _all_of(app: App, root: Job) -> list[str]:
    """The ids of all jobs of a drop, those that repeat others among them."""
    found: dict[str, None] = {}
    left = list(parts_of(root))
    while left:
        job_id = left.pop(0)
        job = app.store.job(job_id) if job_id not in found else None
        if job is None:
            continue
        found[job_id] = None
        after = None if job.part is None else job.part.next
        left += [one for one in (job.retried_as, after) if one is not None]
    return list(found)


def _decide(
    app: App, job: Job, planned: Plan, notes: tuple[NoteLatest, ...] = (), *, wait: bool = False
) -> Job | None:
    """Reject, wait, or queue; the job as it was committed, or None if nothing has changed.

    With it are committed the `notes` of what it is the latest of. With `wait` it waits for the step
    before it.
    """
    order = planned.order
    assert order is not None  # noqa: S101  what has problems was refused
    job = _ordered(app, job, order)
    if wait or (order.fit and job.version == 0):
        # Mending may take long; should it be cut off, the job is there to be seen.
        job, writes = wait_for(job, app.clock.now(), ())
        app.store.commit((*writes, *notes))
        if wait:
            return job
        notes = tuple(replace(note, over=note.job_id) for note in notes)
        publish(app, job)
    # First remember, then look: an image that comes in between finds the sidecar waiting.
    app.store.await_images(job.sidecar, planned.wanted)
    found = look_for(app.inbox, job.sidecar, planned, job.folder)
    return _looked_at(app, job, planned, order, found, notes)


def _ordered(app: App, job: Job, order: Order) -> Job:
    return job.model_copy(
        update={
            "model": order.model,
            "function": order.function,
            "call": order.call,
            "path": app.settings.models[order.model].calls[order.call],
            "fit": order.fit,
            "prompt": order.prompt,
            "negative_prompt": order.negative_prompt,
            "parameters": dict(order.parameters),
            "labels": dict(order.labels),
            "priority": order.priority,
            "warnings": _as_findings(order.warnings),
        }
    )


def _looked_at(
    app: App,
    job: Job,
    planned: Plan,
    order: Order,
    found: Resolution,
    notes: tuple[NoteLatest, ...],
) -> Job | None:
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
    arrived = app.clock.now() if follows(job) else job.created_at
    return queue(app, complete, lane, arrived=arrived, notes=notes, scopes=planned.scopes)


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
    images = {i.key: i for i in used if not i.is_url and i.made_by is None}
    if job.sidecar_version is None:
        images.pop(job.sidecar.removesuffix(".json"), None)  # its own, which it is made of alone
    for image in images.values():
        why = f"used by {job.sidecar}, see {job.folder}"
        _close_stand_in(app, image.key, why, image.version_id)
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


# --- steps ------------------------------------------------------------------------------------------


def proceed(app: App, job_id: str) -> tuple[str, ...]:
    """The step before a job may have ended: go on with it if so; its id, if there was a need to."""
    changed = deciding(app.clock, partial(_next_step, app, job_id))
    _tell(app, changed)
    return tuple(job.job_id for job in changed)


def _next_step(app: App, job_id: str) -> list[Job]:
    """The job as it was committed, if its step has come or can no longer come; or else nothing."""
    job = app.store.job(job_id)
    if job is None or job.status is not Status.WAITING:
        return []
    if job.retry_of is not None and not follows(job):
        decided = _retried(app, job)
        return [] if decided is None else [decided]
    if job.part is None:
        return []
    before = app.store.job(job.part.previous) if job.part.previous is not None else None
    if before is None or not before.status.terminal:
        return []
    if not before.outputs or before.status not in (Status.SUCCEEDED, Status.PARTIAL):
        failure = Failure(code=STEP_FAILED, message=_why_not(before))
        closed, writes = settle(job, app.clock.now(), Status.FAILED, failure=failure, missing=())
        app.store.commit(writes)
        return [closed]
    planned = planned_again(app, job)
    if isinstance(planned, list):
        return [_reject(app, job, planned)]
    order = planned.order
    assert order is not None  # noqa: S101  it has no problems
    app.store.await_images(job.sidecar, planned.wanted)
    result = Result(before.outputs[0], before.job_id, app.outbox)
    found = look_at_result(app.inbox, job.sidecar, planned, job.folder, result)
    decided = _looked_at(app, _ordered(app, job, order), planned, order, found, ())
    return [] if decided is None else [decided]


def _retried(app: App, job: Job) -> Job | None:
    """A job that was tried again and waits for what is missing; no sidecar's event leads to it."""
    planned = planned_again(app, job)
    return _reject(app, job, planned) if isinstance(planned, list) else _decide(app, job, planned)


def _why_not(before: Job) -> str:
    """Why there is no step after that job."""
    failure = before.failure
    if failure is not None and failure.code == STEP_FAILED:
        return failure.message
    step = "the step before" if before.part is None else f"step {before.part.step}"
    problems = "; ".join(f"{p.field}: {p.message}" for p in before.problems)
    why = f"{failure.code}: {failure.message}" if failure is not None else problems
    said = f"{step} ended as {before.status}" + (f": {why}" if why else "")
    return f"{said[:800]}; `retouch retry` goes on there"


def planned_again(app: App, job: Job) -> Plan | list[Problem]:
    """What a job that is there asks for, read again under its presets."""
    alone = None
    reading: Reading | OurRecord
    if job.sidecar_version is None:
        alone = job.sidecar.removesuffix(".json")
        reading = read_alone(app.inbox, job.sidecar, job.presets)
    else:
        dropped = Stored(job.sidecar, job.sidecar_version, 0)
        reading = read_drop(app.inbox, job.sidecar, dropped, job.presets)
    if isinstance(reading, OurRecord):
        return [reading.problem]
    of, number = (1, 0) if job.part is None else (job.part.of, job.part.number)
    if not reading.problems and len(reading.parts) != of:
        made = "one" if of == 1 else str(of)
        said = (
            f"it asks for {len(reading.parts)} jobs, and there was {made} to retry; drop it again"
        )
        return [Problem("", said)]
    if reading.problems:
        return list(reading.problems)
    kind, part = reading.parts[number], job.part
    if part is not None and (kind.variant, kind.step) != (part.variant, part.step):
        return [Problem("", "now asks for jobs of another kind; drop it again")]
    settings = app.settings
    planned = plan(
        app.inbox,
        reading,
        reading.parts[number],
        settings.models,
        settings.regions,
        alone=alone,
    )
    if isinstance(planned, Outranked):
        return [planned.problem]
    if isinstance(planned, Plan) and planned.problems:
        return list(planned.problems)
    return planned


def presets_now(app: App, job: Job) -> tuple[Preset, ...]:
    """The presets that lie above a job's sidecar now."""
    return tuple(
        Preset(key=key, version_id=stored.version_id)
        for key in keys.presets_above(job.sidecar)
        if (stored := app.inbox.head(key)) is not None
    )


def submit_again(app: App, job: Job, notes: tuple[NoteLatest, ...]) -> Job:
    """Judge anew what a refused drop asks for, under the presets there are now, as the job given;
    `notes` as in `_decide`.
    """
    job = job.model_copy(update={"presets": presets_now(app, job)})
    planned = planned_again(app, job)
    if isinstance(planned, list):
        return _reject(app, job, planned, notes=notes)
    return _decide(app, job, planned, notes) or job


# --- images alone, and presets ------------------------------------------------------------------------


def _submit_alone(app: App, key: str, *, settled: bool) -> tuple[str, ...]:
    """An image that no sidecar describes: the presets of its folder may be all it needs.

    It is given a moment for its sidecar to come; a preset that comes later finds it among the images
    that are alone.
    """
    changed: list[Job] = []
    ids = deciding(app.clock, partial(_judge_alone, app, key, settled, changed))
    _tell(app, changed)
    return ids


def _judge_alone(app: App, key: str, settled: bool, changed: list[Job]) -> tuple[str, ...]:
    dropped = app.inbox.head(key)
    if dropped is None:
        return ()
    root = _made_alone_id(app.store, key, dropped.version_id)
    job = app.store.job(root)
    if job is not None and job.status is not Status.WAITING and job.part is None:
        _repeat(app, job)
        _taken_on(app, key, job.folder)
        return (root,)
    reading = read_alone(app.inbox, f"{key}.json", None if job is None else job.presets)
    if not _may_be_a_job(key, reading):
        app.store.note_lone(key, app.clock.now())
        return ()
    drop = _drop(app, root, reading, None, alone=key)
    if _has_sidecar(app, key):
        return ()  # it has come since, and its own event with it
    if drop.problems:
        # The preset is wrong, which its owner is told of once; the image waits for a better one.
        app.store.note_lone(key, app.clock.now())
        return ()
    if not settled and job is None:
        app.uploads.announce(Errand(key=key, settled=True))
        return ()
    if app.inbox.head(key) != dropped:
        raise Conflict(f"{key} was overwritten just now")
    _replace_older(app, drop)
    ids = _enter(app, drop, changed)
    _taken_on(app, key, drop.folders[0])
    return ids


def _taken_on(app: App, key: str, folder: str) -> None:
    """The presets make jobs of an image, whose records are in `folder`: nothing need stand for it."""
    _no_longer_lone(app, key, f"it is made under the presets of its folder, see {folder}")


def _submit_preset(app: App, key: str) -> tuple[str, ...]:
    """A preset came: say what is wrong with it, or let images that wait for one go on."""
    dropped = app.inbox.head(key)
    if dropped is None:
        return ()
    settings = app.settings
    problems = check_preset(app.inbox, key, settings.models, settings.regions)
    if problems:
        return (_refuse_preset(app, dropped, problems),)
    waiting = app.store.lone_below(keys.below(key))
    app.uploads.announce(*(Errand(key=image) for image in waiting))
    return ()


def _refuse_preset(app: App, dropped: Stored, problems: Sequence[Problem]) -> str:
    """Give a preset with mistakes a record, which its owner is told of once; the record's id."""
    key, folder = dropped.key, keys.outbox_folder(dropped.key)
    job_id = job_id_of(key, dropped.version_id)
    if app.store.job(job_id) is not None:
        return job_id
    before, holder = app.store.latest_job_of(key), app.store.latest_job_of(place(folder))
    now = app.clock.now()
    job = Job(
        job_id=job_id,
        status=Status.WAITING,
        created_at=now,
        updated_at=now,
        sidecar=key,
        sidecar_version=dropped.version_id,
        folder=folder,
    )
    notes = (NoteLatest(key, job_id, over=before), NoteLatest(place(folder), job_id, over=holder))
    publish(app, _reject(app, job, list(problems), notes=notes))
    return job_id


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
        problems=_as_findings(as_many_as_are_read(problems)),
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

    It waits there for as long as it takes. Where a sidecar is there, or presets that make a job of it,
    only an event may have been lost: then `submit` is told of the image again, and nothing is recorded.
    """
    dropped = app.inbox.head(key)
    if dropped is None:
        _no_longer_lone(app, key, "it was deleted")
        return None
    if _has_sidecar(app, key):
        app.uploads.announce(Errand(key=key))
        _no_longer_lone(app, key, "its sidecar came")
        return "announced"
    sidecar = f"{key}.json"
    reading = read_alone(app.inbox, sidecar)
    job_id = stand_in_id(key, dropped.version_id)
    older = app.store.record_of_lone(key)
    if older == job_id_of(key, dropped.version_id):
        job_id = older  # see `_made_alone_id`
    if older is not None and older != job_id:
        close_waiting(app, older, f"{key}: replaced by a newer version")
    problems = list(reading.problems)
    if _may_be_a_job(key, reading):
        problems = _drop(app, job_id, reading, None, key).problems  # each will do, not together
        if not problems:
            app.uploads.announce(Errand(key=key))
            return "announced"
    elif not reading.whole:
        problems = as_far_as_told(reading, app.settings.models, app.settings.regions)
    warnings = _as_findings(as_many_as_are_read(problems))
    now, job = app.clock.now(), app.store.job(job_id)
    writes: Writes = ()
    if job is None:
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
            warnings=warnings,
        )
        writes = (PutJob(job), *_place_of_stand_in(app, job))
    elif job.status is Status.WAITING and job.warnings != warnings:
        job, writes = jobs.warned(job, warnings, now)
    if writes:
        app.store.commit(writes)
    app.store.note_lone(key, now, job_id)
    if writes:
        publish(app, job)
    return "found alone"


def _may_be_a_job(key: str, reading: Reading) -> bool:
    """Whether an image alone is a job by its name and under its presets, unless its plan is refused."""
    named = keys.is_image_name(key) and not keys.is_mask_name(key)
    return named and reading.whole and not reading.problems


def _place_of_stand_in(app: App, job: Job) -> Writes:
    """The place in the outbox of an image that waits for its sidecar, unless a real job has it that
    was not refused.
    """
    holder = app.store.latest_job_of(place(job.folder))
    held = app.store.job(holder) if holder is not None else None
    real = held is not None and (held.sidecar_version is not None or bool(held.presets))
    if held is not None and real and held.status is not Status.REJECTED:
        return ()
    return (NoteLatest(place(job.folder), job.job_id, over=holder),)


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


def _close_stand_in(app: App, key: str, why: str, version_id: str | None = None) -> None:
    """Close what stood for an image without a sidecar, if anything did: its record, or the jobs that
    the presets made of that version of it, if they have not been sent.
    """
    made_id = None if version_id is None else _made_alone_id(app.store, key, version_id)
    made = None if made_id is None else app.store.job(made_id)
    ids = () if made is None else parts_of(made)
    for job_id in dict.fromkeys((app.store.record_of_lone(key), *ids)):
        if job_id is not None:
            close_waiting(app, job_id, f"{key}: {why}")


def close_waiting(app: App, job_id: str, why: str) -> None:
    """Close a job that waits for what no longer matters, or that presets made of an image alone and
    that is still queued. Its record stays where it is until another job takes that place.
    """
    job = app.store.job(job_id)
    alone = job is not None and job.sidecar_version is None
    if job is None or not (
        job.status in (Status.WAITING, Status.HELD) or (alone and job.status is Status.QUEUED)
    ):
        return
    note = Finding(field="", message=why)
    noted = job.model_copy(update={"problems": (note,), "missing": ()})
    closed, writes = jobs.replaced(noted, app.clock.now())
    app.store.commit(writes)
    publish(app, closed)


def look_again(app: App, job: Job) -> bool:
    """See to it that a waiting job goes on if nothing is missing; whether it still has to wait.

    What it waits for may be there, and only the event lost: `submit` is told of the sidecar again.
    """
    image = job.sidecar.removesuffix(".json")
    if follows(job) or job.retry_of is not None:
        app.uploads.announce(Errand(job_id=job.job_id))
        return True
    if job.sidecar_version is not None:
        if app.inbox.head(job.sidecar) is not None:
            app.uploads.announce(Errand(key=job.sidecar))
            return True
        close_waiting(app, job.job_id, "the sidecar was deleted before its images came")
    elif app.inbox.head(image) is None:
        close_waiting(app, job.job_id, f"{image}: it was deleted")
    elif _has_sidecar(app, image):
        app.uploads.announce(Errand(key=image))
        close_waiting(app, job.job_id, f"{image}: its sidecar came")
    else:
        if job.presets or read_alone(app.inbox, job.sidecar).whole:
            app.uploads.announce(Errand(key=image))
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
    own = job_of(app.store, listed.key, listed.version_id)
    seen = own is not None and all(app.store.job(part) is not None for part in parts_of(own))
    match keys.classify(listed.key):
        case keys.Kind.SIDECAR:
            pass
        case keys.Kind.IMAGE if own is None:
            seen = any(_of_a_sidecar(app, name) for name in keys.sidecars_of(listed.key))
        case keys.Kind.IMAGE:
            pass
        case _:
            seen = True  # images that wait for a preset are looked at by themselves
    if not seen:
        app.uploads.announce(Errand(key=listed.key))


def _of_a_sidecar(app: App, key: str) -> bool:
    """Whether the latest job of a sidecar's key was made by a sidecar, and not by an image alone."""
    latest = app.store.latest_job_of(key)
    job = app.store.job(latest) if latest is not None else None
    return job is not None and job.sidecar_version is not None
