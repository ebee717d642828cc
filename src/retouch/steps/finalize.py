"""finalize: copy the results to the outbox, close the job, notify.

Safe to repeat at any point: results are written under fixed keys, each that is there is noted and not
copied again, the job is closed once, and the notification follows from the closed job. The state
machine carries no URL; an asynchronous task is asked again, a synchronous call's answer was kept in
the table.

A result is written only over what lay there when the job was seen to be its sidecar's latest, so that
an older job never covers a newer one's results, however slow its download was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from retouch import imaging, jobs, keys, reading
from retouch.errors import Conflict, OperatorError, ProviderRefused, ResultHostUnknown, TryLater
from retouch.imaging import UnreadableImage
from retouch.jobs import (
    TASK_KEPT_SECONDS,
    Copied,
    DropAnswer,
    Failure,
    Job,
    Output,
    Status,
    region_of,
)
from retouch.ports import App
from retouch.provider.answers import TaskAnswer, parse, task_answer
from retouch.records import cost_of, place_of, publish
from retouch.registry import Json
from retouch.steps.common import my_turn, provider_of
from retouch.steps.dispatch import operator_failure
from retouch.steps.submit import note_made

_HEAD_BYTES: Final = 64 * 1024
_TAIL_BYTES: Final = 4 * 1024
_NOTED_SECONDS: Final = 48 * 3600
"""Notes of what is copied are kept twice as long as there is anything to copy."""
_COPY_BUDGET_SECONDS: Final = 140.0
"""One result at its slowest (its download is given up after 120 s), and noting it."""
_QUERY_PATIENCE_SECONDS: Final = 20.0
_TRIES_OF_A_PLACE: Final = 5
_PROMPTS_CHARS: Final = 20_000
"""Of all prompts of one kind; four of the longest that a model takes."""
_SUFFIX: Final = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


def finalize(app: App, job_id: str, fence: int, deadline: float) -> dict[str, Json]:
    """Finish the job of this admission; its status afterwards, and what comes next.

    Where the time until `deadline` (Unix seconds) is too short for the next image, the state machine
    is told to come back for the rest.
    """
    job = app.store.job(job_id)
    if job is None or job.fence != fence:
        return {"job_id": job_id, "fence": fence, "status": None, "next": "stop"}
    if job.status is Status.FINALIZING:
        try:
            closed = _close(app, job, deadline)
        except OperatorError as error:
            _put_off(app, job, operator_failure(error))
            raise
        if closed is None:
            return _answer_to(job, "finalize")
        job, writes = closed
        try:
            app.store.commit(writes)
        except Conflict:
            # Somebody else closed it and tells of it, or has noted something on it: look again.
            current = app.store.job(job_id) or job
            open_ = current.fence == fence and current.status is Status.FINALIZING
            return _answer_to(current, "finalize" if open_ else "stop")
        publish(app, job)
    elif job.status.settled and app.store.published(job_id) < job.version:
        publish(app, job)  # an earlier try died after closing it
    return _answer_to(job, "stop")


def _answer_to(job: Job, next_: str) -> dict[str, Json]:
    """To the state machine. It carries no mode and no wait, for nothing else follows."""
    return {"job_id": job.job_id, "fence": job.fence, "status": str(job.status), "next": next_}


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


def _close(app: App, job: Job, deadline: float) -> tuple[Job, jobs.Writes] | None:
    """The job closed, once all its results are copied; None if the time did not suffice for all."""
    answer = _answer(app, job)
    noted = {output.number: output for output in app.store.copied(job.job_id)}
    copied = _Copied()
    for number, url in enumerate(answer.images, 1):
        if (there := noted.get(number)) is not None:
            copied.outputs.append(there)
        elif deadline - app.clock.now() < _COPY_BUDGET_SECONDS:
            return None
        else:
            _copy(app, job, number, url, copied)
    # A stream that broke off after its first images leaves those and a failure.
    cut_off = answer.failure if answer.status == "SUCCEEDED" else None
    text = _write_text(app, job, answer, copied, cut_off)
    failures = (*answer.image_failures, *copied.failures.values())
    # A model may have been taken out of the settings since; then nothing is known to be promised.
    model = app.settings.models.get(job.model or "")
    promised = model is not None and model.exact_count.holds(job.parameters, bool(job.images))
    wanted = model.most_images(job.parameters, bool(job.images)) if model is not None else 0
    fell_short = promised and len(copied.outputs) < wanted
    failure = job.failure
    text_will_do = text is not None and not promised and not failures and cut_off is None
    if answer.status == "CANCELED" and job.cancel_asked_at is not None:
        status = Status.CANCELED
        failure = Failure(code="Canceled", message="cancelled at the provider, as a person asked")
    elif not copied.outputs and not text_will_do:
        status = Status.FAILED
        failure = failure or _first(failures) or cut_off or _unexplained(answer)
    elif failures or fell_short or cut_off is not None:
        status = Status.PARTIAL
        failure = failure or cut_off
    else:
        status = Status.SUCCEEDED
    billed = answer.billed_images if job.provider_status == "SUCCEEDED" else 0
    price = app.settings.prices.of(region_of(job.lane or ""), job.model or "")
    doubts = [] if job.doubt is None else [job.doubt]
    explained = job.provider_status in ("FAILED", "CANCELED") or (
        not billed and bool(answer.image_failures)
    )
    lost = billed > len(copied.outputs)
    if cut_off is not None:
        doubts.append("the answer broke off; more images may have been made and billed than came")
    elif lost or (status is Status.FAILED and not explained):
        doubts.append("images may have been made and billed that could not be fetched")
    closed, writes = jobs.settle(
        job,
        app.clock.now(),
        status,
        failure=failure,
        doubt="; ".join(doubts) or None,
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
    if not my_turn(app, job, "queries", _QUERY_PATIENCE_SECONDS):
        raise TryLater("the account's limit on queries is used up", code="QueriesUsedUp")
    answer = provider_of(app, job).query(job.task_id)
    if not answer.terminal:
        raise TryLater(f"the task has ended but was reported {answer.status}")
    return answer


@dataclass
class _Copied:
    outputs: list[Output] = field(default_factory=list)
    failures: dict[int, Failure] = field(default_factory=dict)
    """By the image's number."""


def _copy(app: App, job: Job, number: int, url: str, copied: _Copied) -> None:
    """Copy one result and note it; what cannot be mended by time becomes that image's failure."""
    try:
        output = _placed(lambda: _stored(app, job, number, url))
    except ResultHostUnknown as error:
        if app.clock.now() - (job.ended_at or job.updated_at) < TASK_KEPT_SECONDS:
            raise
        copied.failures[number] = Failure(code=error.code, message=str(error))
    except ProviderRefused as error:
        copied.failures[number] = Failure(code=error.code, message=error.message)
    else:
        note_made(app, output.sha256, job.job_id)
        expires = int(app.clock.now()) + _NOTED_SECONDS
        app.store.note_copied(Copied(job_id=job.job_id, output=output, expires_at=expires))
        copied.outputs.append(output)


def _stored(app: App, job: Job, number: int, url: str) -> Output:
    """Download a result into the job's place in the outbox."""
    with provider_of(app, job).fetch(url) as chunks:
        return _store(app, job, number, chunks)


def _store(app: App, job: Job, number: int, chunks: Iterator[bytes]) -> Output:
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
        tail = b""
        for part in _chain(head, chunks):
            digest.update(part)
            size += len(part)
            tail = (tail + part)[-_TAIL_BYTES:]
            yield part
        # Raised here, it keeps what has come so far from being stored.
        if not imaging.ends_whole(facts.format, head, tail, size):
            raise TryLater("the download ended before the image did", code="DownloadCutOff")

    key, over = _place(app, job, lambda place: keys.result_key(place, number, suffix))
    version = app.outbox.put_stream(key, counted(), facts.mime, over=over)
    return Output(
        number=number,
        key=key,
        version_id=version,
        sha256=digest.hexdigest(),
        size=size,
        width=facts.width,
        height=facts.height,
    )


def _place(app: App, job: Job, key_in: Callable[[str], str]) -> tuple[str, str | None]:
    """Where a result goes, and what it may be written over.

    What lies there is looked at first, and only then whether the place is still the job's: a newer job
    that takes the place afterwards, and writes first, has then changed what lies there.
    """
    key = key_in(place_of(app, job))
    while True:
        over = app.outbox.current(key)
        still = key_in(place_of(app, job))
        if still == key:
            return key, over
        key = still


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _placed(write: Callable[[], Output]) -> Output:
    """Write again where others wrote to the same place meanwhile.

    Raises:
        Conflict: they do so again and again.
    """
    for _ in range(_TRIES_OF_A_PLACE - 1):
        with suppress(Conflict):
            return write()
    return write()


def _write_text(
    app: App, job: Job, answer: TaskAnswer, copied: _Copied, cut_off: Failure | None
) -> Output | None:
    """Write what the model wrote, with its images at their places, if it wrote anything."""
    if not answer.texts:
        return None
    images = {output.number or 0: output.key for output in copied.outputs}
    missing = {number: _said(failure) for number, failure in copied.failures.items()}
    broke_off = None if cut_off is None else _said(cut_off)

    def write() -> Output:
        key, over = _place(app, job, keys.text_key)
        folder = key.rpartition("/")[0]
        data = reading.written(answer.reading, images, missing, folder, broke_off).encode("utf-8")
        version = app.outbox.put_stream(
            key, iter((data,)), "text/markdown; charset=utf-8", over=over
        )
        digest = hashlib.sha256(data).hexdigest()
        return Output(key=key, version_id=version, sha256=digest, size=len(data))

    return _placed(write)


def _said(failure: Failure) -> str:
    return f"{failure.code}: {failure.message}"
