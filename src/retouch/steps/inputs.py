"""How a job's images get to the provider, and the request that follows (contract 6.1, 6.2).

A bucket that the provider can reach is read by presigned URL. From an engine that it cannot reach,
what is small travels inside the request and the rest goes through the provider's temporary storage.
A public URL is passed on. The choice is recorded with each image.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from retouch.errors import ProviderRefused, TryLater
from retouch.jobs import Job, Source, Way, region_of
from retouch.ports import App
from retouch.provider.requests import Request, build
from retouch.registry import DATA_URL_MAX_BYTES, Model
from retouch.settings import Delivery
from retouch.steps.common import call_of, model_of

PRESIGN_SECONDS: Final = 6 * 3600
"""Longer than a task may wait and run (contract 6.2)."""
UPLOAD_KEPT_SECONDS: Final = 40 * 3600
"""An upload is used again for so long: the provider keeps it 48 h, and the task may run for some."""
_SUFFIX: Final = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "image/webp": ".webp",
    "image/gif": ".gif",
}


@dataclass(frozen=True)
class Prepared:
    """A job with the way of each image noted, and its request.

    Without a request the time ran out, or there was `trouble` with an upload; what had been uploaded
    before that is noted on the job.
    """

    job: Job
    request: Request | None
    trouble: TryLater | None = None


def ways(
    sources: Sequence[Source], model: Model, delivery: Delivery, *, slow: bool = False
) -> tuple[Way, ...]:
    """How each image is to be sent. Pure.

    Inside the request go images as long as all of them together are within the cap for one, so that
    the request stays small; a format without a data URL of its own never does, and none where the
    line has shown to be too `slow` for that.
    """
    inside = DATA_URL_MAX_BYTES if slow else 0
    chosen: list[Way] = []
    allowed = {f"image/{name.lower()}" for name in model.images.data_urls}
    for source in sources:
        size, mime = _size_and_mime(source)
        if source.is_url:
            chosen.append(Way.PUBLIC)
        elif delivery is Delivery.PRESIGNED:
            chosen.append(Way.PRESIGNED)
        elif mime in allowed and inside + size <= DATA_URL_MAX_BYTES:
            inside += size
            chosen.append(Way.DATA)
        else:
            chosen.append(Way.UPLOAD)
    return tuple(chosen)


def _size_and_mime(source: Source) -> tuple[int, str]:
    if source.mended is not None:
        return source.mended.size, source.mended.mime
    return source.size or 0, source.mime or "application/octet-stream"


def request_for(app: App, job: Job, until: float) -> Prepared:
    """The provider's request for a job, on the exact versions that it was entered with.

    Once the provider could not download an image, they are sent to it in place of URLs. No upload is
    begun after `until` (Unix seconds).

    Raises:
        ProviderRefused: a version was deleted since (code `InputGone`), or is too large to upload.
        OperatorError: the provider refuses the account.
    """
    model = model_of(app, job)
    delivery = Delivery.PUSH if job.not_fetched else app.settings.input_delivery
    sources = (*job.images, *([] if job.mask is None else [job.mask]))
    chosen = ways(sources, model, delivery, slow=job.stumbles > 0)
    values: list[str] = []
    sent: list[Source] = []
    for index, (source, way) in enumerate(zip(sources, chosen, strict=True)):
        noted = (*sent, *sources[index:])
        late = app.clock.now() > until
        if late and way is Way.UPLOAD and not _still_there(app, source):
            return Prepared(_with(job, noted), None)
        try:
            value, after = _value(app, job, model, source, way)
        except TryLater as error:
            return Prepared(_with(job, noted), None, trouble=error)
        values.append(value)
        sent.append(after)
    images = values[: len(job.images)]
    mask = values[-1] if job.mask is not None else None
    request = build(
        model,
        call_of(app, job),
        function=job.function,
        prompt=job.prompt or "",
        negative_prompt=job.negative_prompt,
        images=images,
        mask=mask,
        parameters=job.parameters,
    )
    return Prepared(_with(job, sent), request)


def _with(job: Job, sources: Sequence[Source]) -> Job:
    count = len(job.images)
    mask = sources[count] if job.mask is not None else None
    return job.model_copy(update={"images": tuple(sources[:count]), "mask": mask})


def _still_there(app: App, source: Source) -> bool:
    return (
        source.uploaded is not None
        and source.uploaded_at is not None
        and app.clock.now() - source.uploaded_at < UPLOAD_KEPT_SECONDS
    )


def _value(app: App, job: Job, model: Model, source: Source, way: Way) -> tuple[str, Source]:
    """What stands in the request for an image, and the image with its way noted."""
    noted = source.model_copy(update={"way": way})
    match way:
        case Way.PUBLIC:
            return source.key, noted
        case Way.PRESIGNED:
            return _presigned(app, source), noted
        case Way.DATA:
            _, mime = _size_and_mime(source)
            encoded = base64.b64encode(_read(app, source)).decode("ascii")
            return f"data:{mime};base64,{encoded}", noted
        case Way.UPLOAD:
            if source.uploaded is not None and _still_there(app, source):
                return source.uploaded, noted
            _, mime = _size_and_mime(source)
            # Unlike any other, for no name can be written twice.
            name = f"{job.job_id}-{uuid.uuid4().hex[:12]}{_SUFFIX.get(mime, '')}"
            provider = app.provider(region_of(job.lane or ""))
            url = provider.upload(model.name, name, _read(app, source), mime)
            update = {"uploaded": url, "uploaded_at": app.clock.now()}
            return url, noted.model_copy(update=update)


def _presigned(app: App, source: Source) -> str:
    if (mended := source.mended) is not None:
        return app.outbox.presign(mended.key, mended.version_id, mended.mime, PRESIGN_SECONDS)
    assert source.version_id is not None  # noqa: S101  only a URL has none
    mime = source.mime or "application/octet-stream"
    if source.made_by is not None:
        return app.outbox.presign(source.key, source.version_id, mime, PRESIGN_SECONDS)
    return app.inbox.presign(source.key, source.version_id, mime, PRESIGN_SECONDS)


def _read(app: App, source: Source) -> bytes:
    if (mended := source.mended) is not None:
        key, version = mended.key, mended.version_id
        data = app.outbox.read(key, version)
    elif source.made_by is not None:
        key, version = source.key, source.version_id
        data = app.outbox.read(key, version)
    else:
        key, version = source.key, source.version_id
        data = app.inbox.read(key, version or "")
    if data is None:
        raise ProviderRefused("InputGone", f"{key} (version {version}) was deleted before its turn")
    return data
