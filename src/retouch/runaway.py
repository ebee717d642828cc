"""Runaways: how something that goes round in circles is told from what somebody wants. All pure.

Three circles are known: the very same job dropped again and again, a result that comes back as an
image to be edited, and a record of ours (`job.json`) that comes back as a sidecar. The first two are
held, where they would be paid for; the third is ignored, for a record of its refusal would be copied
back in turn, for ever.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final

from retouch.jobs import Alert, Job, Source, Status

LARGEST_RECORD: Final = 1024 * 1024
"""No `job.json` is larger: it comes from an item of the table, which has 400 KB at the most."""
OUTBOX_IN_INBOX: Final = "outbox-in-inbox"
_JOB_ID: Final = re.compile(r"[a-z0-9]{16}")


def sameness(job: Job) -> str:
    """What two jobs have in common that ask for the very same: model, request and the images' bytes."""
    said = [
        job.model,
        job.function,
        job.prompt,
        job.negative_prompt,
        job.parameters,
        [_bytes_of(image) for image in job.images],
        None if job.mask is None else _bytes_of(job.mask),
    ]
    text = json.dumps(said, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _bytes_of(source: Source) -> str:
    return source.sha256 or source.key


def is_record(data: bytes) -> bool:
    """Whether these bytes are a record of ours (`retouch.records.record`), of whatever stack."""
    if len(data) > LARGEST_RECORD or b'"job_id"' not in data or b'"request_ids"' not in data:
        return False
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(said, dict):
        return False
    sidecar = said.get("sidecar")
    return (
        isinstance(said.get("format"), int)
        and isinstance(said.get("job_id"), str)
        and _JOB_ID.fullmatch(said["job_id"]) is not None
        and said.get("status") in set(Status)
        and isinstance(sidecar, dict)
        and sidecar.keys() >= {"key", "version_id"}
        and "request_ids" in said
    )


def outbox_in_inbox(key: str, day: str, now: float) -> Alert:
    """The alert that a record of ours lies in the inbox; one for each day."""
    return Alert(
        alert_id=f"{OUTBOX_IN_INBOX}:{day}",
        kind=OUTBOX_IN_INBOX,
        about=key,
        text=f"{key} in the inbox is a record that retouch wrote into the outbox: something copies the "
        "outbox into the inbox. Such records are ignored, and nothing more is said of them on "
        f"{day} (UTC); stop the copying, or leave results out of it, for they would be edited again",
        at=now,
    )
