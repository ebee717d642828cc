"""submit: an object was dropped; enter the job that it completes, if it completes one.

Every path is safe to repeat: the job's id follows from the sidecar's key and version, so one version
of a sidecar makes one job, however often and in whatever order its events come. Events are hints
only: what counts is what lies in the bucket now.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from retouch import imaging, keys, sidecar
from retouch.errors import Conflict
from retouch.imaging import ImageFacts, UnreadableImage
from retouch.jobs import Finding, Job, Source, Status, enter, lane_id, settle, wait_for
from retouch.ports import App, Stored
from retouch.records import publish
from retouch.registry import DATA_URL_MAX_BYTES, MODELS, Model
from retouch.settings import Delivery
from retouch.sidecar import Order, Problem


def submit(app: App, key: str) -> tuple[str, ...]:
    """Handle the object of that key; the ids of the jobs that it concerned."""
    kind = keys.classify(key)
    if kind is keys.Kind.IGNORED:
        return ()
    if kind is keys.Kind.SIDECAR:
        job_id = _submit_sidecar(app, key)
        return () if job_id is None else (job_id,)
    candidates = dict.fromkeys((*keys.sidecars_of(key), *app.store.awaiting(key)))
    found = (_submit_sidecar(app, candidate) for candidate in candidates)
    return tuple(job_id for job_id in found if job_id is not None)


def job_id_of(key: str, version_id: str) -> str:
    """The id of the job that a version of a sidecar makes: 16 letters and digits."""
    digest = hashlib.sha256(f"{key}\0{version_id}".encode()).digest()
    return base64.b32encode(digest[:10]).decode("ascii").lower()


def _submit_sidecar(app: App, key: str) -> str | None:
    dropped = app.inbox.head(key)
    if dropped is None:
        return None
    job_id = job_id_of(key, dropped.version_id)
    job = app.store.job(job_id)
    if job is not None and job.status is not Status.WAITING:
        return _repeat(app, job)
    _supersede(app, key, job_id)
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
    try:
        _decide(app, job, dropped)
    except Conflict:
        # Another delivery entered the very same job meanwhile.
        current = app.store.job(job_id)
        if current is None or current.status is Status.WAITING:
            raise
        return _repeat(app, current)
    publish(app, job_id)
    return job_id


def _repeat(app: App, job: Job) -> str:
    """The job is there; make up for what an earlier delivery may not have come to."""
    if job.status is Status.QUEUED and job.lane is not None:
        app.kicks.kick(job.lane)
    publish(app, job.job_id)
    return job.job_id


def _supersede(app: App, key: str, job_id: str) -> None:
    """A newer version of a sidecar replaces an older one that still waits for images."""
    before = app.store.latest_job_of(key)
    if before == job_id:
        return
    old = app.store.job(before) if before is not None else None
    if old is not None and old.status is Status.WAITING:
        note = Finding(field="", message="replaced by a newer version of the sidecar")
        now = app.clock.now()
        closed, writes = settle(old, now, Status.CANCELED, problems=(note,))
        app.store.commit(writes)
        publish(app, closed.job_id)
    app.store.note_latest_job_of(key, job_id)


def _decide(app: App, job: Job, dropped: Stored) -> None:
    """Reject, wait, or queue."""
    raw = _read(app, dropped)
    if isinstance(raw, list):
        return _reject(app, job, raw)
    order, named = raw
    job = job.model_copy(
        update={
            "model": order.model,
            "function": order.function,
            "prompt": order.prompt,
            "negative_prompt": order.negative_prompt,
            "parameters": dict(order.parameters),
            "labels": dict(order.labels),
            "priority": order.priority,
            "warnings": _as_findings(order.warnings),
        }
    )
    needed = [name for name in (*named, order.mask) if name and not sidecar.is_url(name)]
    wanted = [keys.resolve(job.sidecar, name) for name in needed]
    # First remember, then look: an image that comes in between finds the sidecar waiting.
    app.store.await_images(job.sidecar, wanted)
    there = {key: stored for key in wanted if (stored := app.inbox.head(key)) is not None}
    missing = tuple(dict.fromkeys(key for key in wanted if key not in there))
    if missing or (order.images is None and not named):
        return _wait(app, job, missing or (f"{keys.image_prefix(job.sidecar)}*",))
    examined = _examine(app, job, order, named, there)
    if examined.problems:
        return _reject(app, job, examined.problems, examined.warnings)
    now = app.clock.now()
    lane = lane_id(app.settings.provider_region, order.model)
    complete = job.model_copy(
        update={
            "images": tuple(examined.images),
            "mask": examined.mask,
            "warnings": _as_findings((*order.warnings, *examined.warnings)),
        }
    )
    _, writes = enter(complete, lane, now, arrived=job.created_at)
    app.store.commit(writes)
    app.store.forget_awaiting(job.sidecar, wanted)
    app.kicks.kick(lane)
    return None


def _read(app: App, dropped: Stored) -> tuple[Order, tuple[str, ...]] | list[Problem]:
    """The sidecar's order and the names of its images, or its problems."""
    if dropped.size > sidecar.MAX_BYTES:
        return [
            Problem(
                "",
                f"a sidecar has at most {sidecar.MAX_BYTES} bytes, this one has {dropped.size}",
            )
        ]
    data = app.inbox.read(dropped.key, dropped.version_id)
    if data is None:
        return [Problem("", "the sidecar was deleted before it could be read")]
    raw = sidecar.read(data)
    if isinstance(raw, Problem):
        return [raw]
    order = sidecar.check(raw, region=app.settings.provider_region)
    if isinstance(order, list):
        return order
    if order.images is not None:
        return order, order.images
    named = keys.image_named_by(dropped.key)
    if named is not None:
        return order, (f"/{named}",)
    prefix = keys.image_prefix(dropped.key)
    found = [
        key
        for key in app.inbox.keys(prefix, 50)
        if keys.is_image_name(key) and keys.stem(key) == prefix[:-1]
    ]
    if len(found) > 1:
        return [
            Problem(
                "images",
                f"is missing, and the sidecar's name could mean {' or '.join(found)}; name one",
            )
        ]
    if found and (winner := app.inbox.head(f"{found[0]}.json")) is not None:
        return [Problem("", f"{found[0]} is described by {winner.key}, which goes first")]
    return order, tuple(f"/{key}" for key in found)


@dataclass
class _Examined:
    images: list[Source]
    mask: Source | None
    problems: list[Problem]
    warnings: list[Problem]


def _examine(
    app: App, job: Job, order: Order, named: tuple[str, ...], there: dict[str, Stored]
) -> _Examined:
    """Hold every image against the model's rules, on the versions that are there now."""
    model = MODELS[order.model]
    result = _Examined([], None, [], [])
    facts: list[ImageFacts | None] = []
    for index, name in enumerate(named):
        if sidecar.is_url(name):
            result.images.append(Source(key=name))
            facts.append(None)
            continue
        field = f"images[{index}]" if order.images is not None else "image"
        stored = there[keys.resolve(job.sidecar, name)]
        data = _load(app, model, stored, field, result.problems)
        if data is None:
            facts.append(None)
            continue
        try:
            seen = imaging.look(data)
        except UnreadableImage as error:
            result.problems.append(Problem(field, f'"{stored.key}" is {error}'))
            facts.append(None)
            continue
        problems, notes = imaging.check_image(seen, model.images, field, stored.key)
        result.problems += problems
        result.warnings += notes
        result.images.append(_source(stored, data, seen))
        facts.append(seen)
    result.problems += imaging.check_boxes(order.parameters.get("bbox_list"), facts, model)
    if order.mask is not None:
        _examine_mask(app, job, order.mask, model, there, facts, result)
    return result


def _examine_mask(
    app: App,
    job: Job,
    name: str,
    model: Model,
    there: dict[str, Stored],
    facts: list[ImageFacts | None],
    result: _Examined,
) -> None:
    if sidecar.is_url(name):
        result.mask = Source(key=name)
        return
    stored = there[keys.resolve(job.sidecar, name)]
    data = _load(app, model, stored, "mask", result.problems)
    if data is None:
        return
    try:
        seen = imaging.look(data)
        base = facts[0] if facts and facts[0] is not None else seen
        result.problems += imaging.check_mask(data, stored.key, base, model.images)
    except UnreadableImage as error:
        result.problems.append(Problem("mask", f'"{stored.key}" is {error}'))
        return
    result.mask = _source(stored, data, seen)


def _load(
    app: App, model: Model, stored: Stored, field: str, problems: list[Problem]
) -> bytes | None:
    most = model.images.max_bytes
    if app.settings.input_delivery is Delivery.INLINE:
        most = min(most, DATA_URL_MAX_BYTES)
    if stored.size > most:
        problems.append(
            Problem(field, f'"{stored.key}" has {stored.size} bytes; at most {most} are allowed')
        )
        return None
    data = app.inbox.read(stored.key, stored.version_id)
    if data is None:
        problems.append(Problem(field, f'"{stored.key}" was deleted before it could be read'))
    return data


def _source(stored: Stored, data: bytes, facts: ImageFacts) -> Source:
    return Source(
        key=stored.key,
        version_id=stored.version_id,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        mime=facts.mime,
        width=facts.width,
        height=facts.height,
    )


def _as_findings(problems: Iterable[Problem]) -> tuple[Finding, ...]:
    return tuple(Finding(field=p.field, message=p.message) for p in problems)


def _reject(app: App, job: Job, problems: list[Problem], warnings: Iterable[Problem] = ()) -> None:
    now = app.clock.now()
    _, writes = settle(
        job,
        now,
        Status.REJECTED,
        problems=_as_findings(problems),
        warnings=(*job.warnings, *_as_findings(warnings)),
    )
    app.store.commit(writes)


def _wait(app: App, job: Job, missing: tuple[str, ...]) -> None:
    if job.version > 0 and job.missing == missing:
        return
    _, writes = wait_for(job, app.clock.now(), missing)
    app.store.commit(writes)
