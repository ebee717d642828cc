"""What a job tells the world: `job.json` in the outbox, events, notifications.

`publish` is the one way out. The table is written first and remembers that the change is still to be
told, until `publish` is through. `job.json` always comes from the latest state, so that a late
publisher cannot leave an older one behind; an event tells of its own change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from retouch import keys
from retouch.jobs import (
    Alert,
    Cost,
    Finding,
    Job,
    Output,
    PutAlert,
    Source,
    Status,
    Writes,
    iso,
    region_of,
)
from retouch.ports import App, Errand
from retouch.registry import Json
from retouch.settings import Price

EVENT_SOURCE: Final = "retouch"
EVENT_TYPE: Final = "Retouch Job State Change"
ALERT_TYPE: Final = "Retouch Alert"
_FORMAT_VERSION: Final = 1


def cost_of(images: int, price: Price | None) -> Cost:
    """Images × price, as decimal text; without a price only the count."""
    if price is None:
        return Cost(images=images, price=None, amount=None, currency=None)
    return Cost(
        images=images,
        price=str(price.amount),
        amount=str(price.amount * images),
        currency=price.currency,
    )


def together(costs: Sequence[Cost]) -> Cost:
    """What several jobs cost; without an amount where one has no price, or they differ in currency."""
    images = sum(cost.images for cost in costs)
    currencies = {cost.currency for cost in costs}
    amounts = [Decimal(cost.amount) for cost in costs if cost.amount is not None]
    if len(amounts) < len(costs) or len(currencies) != 1:
        return Cost(images=images, price=None, amount=None, currency=None)
    return Cost(images=images, price=None, amount=str(sum(amounts)), currency=currencies.pop())


def _findings(findings: tuple[Finding, ...]) -> list[Json]:
    return [{"field": f.field, "message": f.message} for f in findings]


def _source(source: Source) -> dict[str, Json]:
    if source.is_url:
        return {"url": source.key.split("?", 1)[0], "sent_as": source.way}
    return {
        "key": source.key,
        "made_by": source.made_by,
        "version_id": source.version_id,
        "sha256": source.sha256,
        "size": source.size,
        "mime": source.mime,
        "width": source.width,
        "height": source.height,
        "mended": None if source.mended is None else source.mended.model_dump(mode="json"),
        "sent_as": source.way,
    }


def _output(output: Output) -> dict[str, Json]:
    return output.model_dump(mode="json")


def record(job: Job) -> dict[str, Json]:
    """The contents of `job.json`: everything about a job but signed URLs and keys.

    It follows from the job alone, so that it stays the same whatever becomes of the settings.
    """
    return {
        "format": _FORMAT_VERSION,
        "job_id": job.job_id,
        "status": str(job.status),
        "sidecar": {"key": job.sidecar, "version_id": job.sidecar_version},
        "part": None if job.part is None else job.part.model_dump(mode="json"),
        "presets": [preset.model_dump(mode="json") for preset in job.presets],
        "missing": list(job.missing),
        "problems": _findings(job.problems),
        "warnings": _findings(job.warnings),
        "labels": dict(job.labels),
        "priority": job.priority,
        "held": None if job.held is None else job.held.model_dump(mode="json"),
        "released": iso(job.released_at),
        "lane": job.lane,
        "region": None if job.lane is None else region_of(job.lane),
        "model": job.model,
        "request": None
        if job.prompt is None
        else {
            "call": job.call,
            "path": job.path,
            "function": job.function,
            "prompt": job.prompt,
            "negative_prompt": job.negative_prompt,
            "parameters": dict(job.parameters),
        },
        "seed": job.parameters.get("seed"),
        "fit": job.fit,
        "inputs": [_source(image) for image in job.images],
        "mask": None if job.mask is None else _source(job.mask),
        "times": {
            "created": iso(job.created_at),
            "admitted": iso(job.admitted_at),
            "sent": iso(job.intent_at),
            "lost": iso(job.lost_at),
            "running": iso(job.running_at),
            "ended": iso(job.ended_at),
            "finished": iso(job.finished_at),
            "updated": iso(job.updated_at),
            "provider": {name: iso(moment) for name, moment in job.provider_times.items()},
        },
        "task_id": job.task_id,
        "request_ids": {"create": job.create_request_id, "result": job.result_request_id},
        "provider_status": job.provider_status,
        "outputs": [_output(output) for output in job.outputs],
        "text": None if job.text is None else _output(job.text),
        "original_prompts": list(job.original_prompts),
        "rewritten_prompts": list(job.rewritten_prompts),
        "image_failures": [failure.model_dump(mode="json") for failure in job.image_failures],
        "refusal": None if job.refusal is None else job.refusal.model_dump(mode="json"),
        "failure": None if job.failure is None else job.failure.model_dump(mode="json"),
        "doubt": job.doubt,
        "outcome": {
            "candidates": list(job.candidates),
            "adopted": job.adopted,
            "sent_again": job.sent_again,
            "resolution": job.resolution,
        },
        "cancel": None
        if job.cancel_asked_at is None
        else {"asked": iso(job.cancel_asked_at), "answer": job.cancel_answer},
        "retry_of": job.retry_of,
        "retried_as": job.retried_as,
        "usage": dict(job.usage),
        "estimate": None if job.estimate is None else job.estimate.model_dump(mode="json"),
        "chain_estimate": None
        if job.chain_estimate is None
        else job.chain_estimate.model_dump(mode="json"),
        "cost": None if job.cost is None else job.cost.model_dump(mode="json"),
        "charged": [charged.model_dump(mode="json") for charged in job.charged],
    }


def announcement(job: Job, *, stack: str, inbox: str, outbox: str) -> dict[str, Json]:
    """The detail of an event and the body of a notification: small, no prompt, no URL that signs."""
    failure = job.failure
    return {
        "format": _FORMAT_VERSION,
        "stack": stack,
        "job_id": job.job_id,
        "revision": job.version,
        "status": str(job.status),
        "model": job.model,
        "function": job.function,
        "lane": job.lane,
        "inbox": {"bucket": inbox, "key": job.sidecar, "version_id": job.sidecar_version},
        "outbox": {
            "bucket": outbox,
            "folder": job.folder,
            "record": keys.record_key(job.folder),
            "images": [output.key for output in job.outputs],
        },
        "labels": dict(job.labels),
        "images": len(job.outputs),
        "failed_images": len(job.image_failures),
        "problems": len(job.problems),
        "missing": list(job.missing),
        "failure": None if failure is None else {"code": failure.code},
        "doubt": job.doubt is not None,
        "held": None if job.held is None else {"reason": str(job.held.reason)},
        "cost": None if job.cost is None else job.cost.model_dump(mode="json"),
        "at": iso(job.updated_at),
    }


def place(folder: str) -> str:
    """The name under which the table knows the latest job of an outbox folder; no sidecar has it."""
    return f"{folder}/"


def place_of(app: App, job: Job) -> str:
    """The outbox folder that a job writes into: its own, or once a newer job has taken that over (of a
    newer version of the same sidecar, or of another one for the same image), one below it named after
    the job.
    """
    latest = app.store.latest_job_of(place(job.folder))
    return job.folder if latest in (None, job.job_id) else f"{job.folder}/{job.job_id}"


def publish(app: App, *changes: Job) -> None:
    """Tell the world of the changes, the oldest first, that made a job what it is; and of a step's end
    `submit`, for the next one.

    Called by whoever committed them, so that nobody hears of them twice; `reconcile` makes up for one
    who died first.
    """
    _write_record(app, changes[-1].job_id)
    settings = app.settings
    details = [
        announcement(job, stack=settings.stack, inbox=settings.inbox, outbox=settings.outbox)
        for job in changes
    ]
    app.notices.tell(EVENT_TYPE, details)
    for job, detail in zip(changes, details, strict=True):
        if job.message_version == job.version:
            app.notices.notify(_subject(job), detail, _attributes(job))
        if job.status.terminal and job.part is not None and job.part.next is not None:
            app.uploads.announce(Errand(job_id=job.part.next))
    app.store.mark_published(changes[-1].job_id, *(job.version for job in changes))


def retell(app: App, job_id: str, version: int) -> None:
    """Make up for a publisher that died: tell of a change, or where the job has moved on since, at
    least make sure that no older `job.json` of its writing stays.
    """
    job = app.store.job(job_id)
    if job is not None and version in (job.version, job.message_version):
        # The latest change, or the one that its owner must hear of whatever was noted since.
        publish(app, job.model_copy(update={"version": version}))
        return
    _write_record(app, job_id)
    app.store.mark_published(job_id, version)


def _write_record(app: App, job_id: str) -> None:
    """Write `job.json` from the latest state, again if the job has moved on meanwhile."""
    written: tuple[int, str] | None = None
    while (job := app.store.job(job_id)) is not None:
        folder = place_of(app, job)
        if written == (job.version, folder):
            return
        said = record(job)
        body = json.dumps(said, ensure_ascii=False, indent=2).encode("utf-8")
        app.outbox.put(keys.record_key(folder), body, "application/json; charset=utf-8")
        newer = app.store.latest_job_of(place(job.folder))
        if written is not None and written[1] != folder and newer not in (None, job_id):
            # The place was given up between looking and writing: what we covered belongs there.
            _write_record(app, newer or "")
        written = (job.version, folder)


def tell_alerts(app: App, writes: Writes) -> None:
    """Send the alerts that were committed among `writes`."""
    for write in writes:
        if isinstance(write, PutAlert):
            tell_alert(app, write.alert)


def tell_alert(app: App, alert: Alert) -> None:
    """Send an alert; at the most twice, should we die before it is noted as sent."""
    detail: dict[str, Json] = {
        "format": _FORMAT_VERSION,
        "stack": app.settings.stack,
        "alert_id": alert.alert_id,
        "alert": alert.kind,
        "about": alert.about,
        "code": alert.code,
        "text": alert.text,
        "at": iso(alert.at),
    }
    app.notices.tell(ALERT_TYPE, [detail])
    subject = _printable(f"retouch alert: {alert.kind} {alert.about}")[:99]
    app.notices.notify(subject, detail, {"kind": "alert", "alert": alert.kind})
    app.store.drop_alert(alert.alert_id)


def _subject(job: Job) -> str:
    """Less than 100 printable ASCII characters, as SNS demands."""
    return f"retouch {job.status}: {_printable(job.sidecar)}"[:99]


def _printable(text: str) -> str:
    plain = text.encode("ascii", "replace").decode("ascii")
    return "".join(char if char.isprintable() else "?" for char in plain)


def _attributes(job: Job) -> dict[str, str]:
    """What a subscription can filter on."""
    folder = "".join(char if char.isprintable() else "?" for char in job.folder.rpartition("/")[0])
    attributes = {"kind": "job", "status": str(job.status), "folder": folder or "/"}
    if job.model is not None:
        attributes["model"] = job.model
    if job.status is Status.UNRESOLVED or job.doubt is not None:
        attributes["doubt"] = "true"
    return attributes
