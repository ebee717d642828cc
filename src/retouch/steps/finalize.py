"""finalize: copy the results to the outbox, close the job, notify.

Safe to repeat at any point: results are written under fixed keys, the job is closed once, and the
notification follows from the closed job. The state machine carries no URL; an asynchronous task is
asked again, a synchronous call's answer was kept in the table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from retouch import imaging, jobs, keys
from retouch.errors import Conflict, OperatorError, ProviderRefused, ResultHostUnknown, TryLater
from retouch.imaging import UnreadableImage
from retouch.jobs import DropAnswer, Failure, Job, Output, Status, region_of
from retouch.ports import App
from retouch.provider.answers import TaskAnswer, parse, task_answer
from retouch.records import cost_of, place_of, publish
from retouch.registry import Json
from retouch.steps.common import provider_of
from retouch.steps.dispatch import operator_failure

_HEAD_BYTES: Final = 64 * 1024
RESULTS_KEPT_SECONDS: Final = 24 * 3600
"""So long does the provider keep results (contract 2.4)."""
_PROMPTS_CHARS: Final = 20_000
"""Of all prompts of one kind; four of the longest that a model takes."""
_SUFFIX: Final = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


def finalize(app: App, job_id: str, fence: int) -> dict[str, Json]:
    """Finish the job of this admission; its status afterwards."""
    job = app.store.job(job_id)
    if job is None or job.fence != fence:
        return {"job_id": job_id, "status": None}
    if job.status is Status.FINALIZING:
        try:
            job, writes = _close(app, job)
        except OperatorError as error:
            _put_off(app, job, operator_failure(error))
            raise
        try:
            app.store.commit(writes)
        except Conflict:
            # Somebody else closed it, and tells of it.
            current = app.store.job(job_id)
            return {"job_id": job_id, "status": None if current is None else str(current.status)}
        publish(app, job)
    elif job.status.settled and app.store.published(job_id) < job.version:
        publish(app, job)  # an earlier try died after closing it
    return {"job_id": job_id, "status": str(job.status)}


def _put_off(app: App, job: Job, why: Failure) -> None:
    """Say once what somebody must mend before the job can be closed."""
    if job.blocked and job.refusal == why:
        return
    waiting, writes = jobs.put_off(job, app.clock.now(), why)
    try:
        app.store.commit(writes)
    except Conflict:
        return  # somebody else is at it
    publish(app, waiting)


def _close(app: App, job: Job) -> tuple[Job, jobs.Writes]:
    answer = _answer(app, job)
    place = place_of(app, job)
    copied = _Copied()
    for number, url in enumerate(answer.images, 1):
        _copy(app, job, place, number, url, copied)
    text = _write_text(app, place, answer)
    failures = (*answer.image_failures, *copied.failures)
    # A model may have been taken out of the settings since; then nothing is known to be promised.
    model = app.settings.models.get(job.model or "")
    promised = model is not None and model.exact_count.holds(job.parameters, bool(job.images))
    wanted = model.most_images(job.parameters, bool(job.images)) if model is not None else 0
    fell_short = promised and len(copied.outputs) < wanted
    failure = job.failure
    # A stream that broke off after its first images leaves those and a failure.
    cut_off = answer.failure if answer.status == "SUCCEEDED" else None
    text_will_do = text is not None and not promised and not failures and cut_off is None
    if not copied.outputs and not text_will_do:
        status = Status.FAILED
        failure = failure or _first(failures) or cut_off or _unexplained(answer)
    elif failures or fell_short or cut_off is not None:
        status = Status.PARTIAL
        failure = failure or cut_off
    else:
        status = Status.SUCCEEDED
    billed = answer.billed_images if job.provider_status == "SUCCEEDED" else 0
    price = app.settings.prices.of(region_of(job.lane or ""), job.model or "")
    doubt = job.doubt
    explained = job.provider_status in ("FAILED", "CANCELED") or (
        not billed and bool(answer.image_failures)
    )
    lost = billed > len(copied.outputs)
    if cut_off is not None:
        doubt = "the answer broke off; more images may have been made and billed than came"
    elif lost or (status is Status.FAILED and not explained):
        doubt = "images may have been made and billed that could not be fetched"
    closed, writes = jobs.settle(
        job,
        app.clock.now(),
        status,
        failure=failure,
        doubt=doubt,
        outputs=tuple(copied.outputs),
        text=text,
        image_failures=failures,
        rewritten_prompts=_within(answer.rewritten_prompts),
        original_prompts=_within(p.original for p in answer.prompts if p.original is not None),
        provider_times=_times(answer),
        result_request_id=answer.request_id,
        usage=dict(answer.usage or {}),
        cost=cost_of(billed, price),
    )
    return closed, (*writes, DropAnswer(job.job_id))


def _within(prompts: Iterable[str]) -> tuple[str, ...]:
    """As many prompts as a record holds, so that no strange answer keeps a job from being closed."""
    kept: list[str] = []
    room = _PROMPTS_CHARS
    for prompt in prompts:
        if len(prompt) <= room:
            kept.append(prompt)
            room -= len(prompt)
    return tuple(kept)


def _times(answer: TaskAnswer) -> dict[str, float]:
    said = {
        "submitted": answer.submitted_at,
        "scheduled": answer.scheduled_at,
        "ended": answer.ended_at,
    }
    return {name: moment for name, moment in said.items() if moment is not None}


def _unexplained(answer: TaskAnswer) -> Failure:
    """Why there is no image, where nobody said so."""
    code = f"Task{answer.status.title()}"
    match answer.status:
        case "SUCCEEDED":
            code = "NoImages"
            message = "the provider gave no image, though it said that the task went well"
        case "UNKNOWN":
            message = "the provider no longer knows the task; it may have been billed"
        case status:
            message = f"the provider ended the task as {status} and gave no reason"
    return Failure(code=code, message=message)


def _first(failures: tuple[Failure, ...]) -> Failure | None:
    return failures[0] if failures else None


def _answer(app: App, job: Job) -> TaskAnswer:
    """The provider's answer, with fresh URLs."""
    if job.provider_status != "SUCCEEDED":
        return TaskAnswer(status=job.provider_status or "FAILED", failure=job.failure)
    if job.task_id is None:
        kept = app.store.answer(job.job_id)
        body = parse(kept.body) if kept is not None else None
        if body is None:
            return TaskAnswer(status="SUCCEEDED")
        return task_answer(body, synchronous=True)
    answer = provider_of(app, job).query(job.task_id)
    if not answer.terminal:
        raise TryLater(f"the task has ended but was reported {answer.status}")
    return answer


@dataclass
class _Copied:
    outputs: list[Output] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def _copy(app: App, job: Job, place: str, number: int, url: str, copied: _Copied) -> None:
    """Copy one result; what cannot be mended by time becomes that image's failure."""
    try:
        with provider_of(app, job).fetch(url) as chunks:
            copied.outputs.append(_store(app, place, number, chunks))
    except ResultHostUnknown as error:
        if app.clock.now() - (job.ended_at or job.updated_at) < RESULTS_KEPT_SECONDS:
            raise
        copied.failures.append(Failure(code=error.code, message=str(error)))
    except ProviderRefused as error:
        copied.failures.append(Failure(code=error.code, message=error.message))


def _store(app: App, place: str, number: int, chunks: Iterator[bytes]) -> Output:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= _HEAD_BYTES:
            break
    try:
        facts = imaging.look(head, whole=False)
        suffix = _SUFFIX[facts.format]
    except (UnreadableImage, KeyError) as error:
        raise ProviderRefused("ResultNotAnImage", f"the result is not an image: {error}") from error
    digest = hashlib.sha256()
    size = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for part in _chain(head, chunks):
            digest.update(part)
            size += len(part)
            yield part

    key = keys.result_key(place, number, suffix)
    version = app.outbox.put_stream(key, counted(), facts.mime)
    return Output(
        key=key,
        version_id=version,
        sha256=digest.hexdigest(),
        size=size,
        width=facts.width,
        height=facts.height,
    )


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _write_text(app: App, place: str, answer: TaskAnswer) -> Output | None:
    if not answer.texts:
        return None
    data = "\n\n".join(answer.texts).encode("utf-8")
    key = keys.text_key(place)
    version = app.outbox.put(key, data, "text/markdown; charset=utf-8")
    return Output(
        key=key, version_id=version, sha256=hashlib.sha256(data).hexdigest(), size=len(data)
    )
