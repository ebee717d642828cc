"""How a job's images get to the provider, and the request that follows."""

from __future__ import annotations

import base64
from typing import Final

from retouch.errors import ProviderRefused
from retouch.jobs import Job, Source
from retouch.ports import App
from retouch.provider.requests import Request, build
from retouch.settings import Delivery
from retouch.steps.common import model_of

PRESIGN_SECONDS: Final = 6 * 3600
"""Longer than a task may wait and run (contract 6.2)."""


def request_for(app: App, job: Job) -> Request:
    """The provider's request for a job, on the exact versions that it was entered with.

    Raises:
        ProviderRefused: a version was deleted since (code `InputGone`).
    """
    return build(
        model_of(job),
        function=job.function,
        prompt=job.prompt or "",
        negative_prompt=job.negative_prompt,
        images=[_value(app, image) for image in job.images],
        mask=None if job.mask is None else _value(app, job.mask),
        parameters=job.parameters,
    )


def _value(app: App, source: Source) -> str:
    if source.version_id is None:
        return source.key  # a public URL, passed on
    if app.settings.input_delivery is Delivery.URL:
        mime = source.mime or "application/octet-stream"
        return app.inbox.presign(source.key, source.version_id, mime, PRESIGN_SECONDS)
    data = app.inbox.read(source.key, source.version_id)
    if data is None:
        raise ProviderRefused(
            "InputGone", f"{source.key} (version {source.version_id}) was deleted before its turn"
        )
    return f"data:{source.mime};base64,{base64.b64encode(data).decode('ascii')}"
