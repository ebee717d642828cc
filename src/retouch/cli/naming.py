"""What a name on the command line means: one job, or all that one drop made.

A job's id is that job, and so is a folder of the outbox as `retouch jobs` lists it (`shoes/red/`).
What somebody dropped, a sidecar's key or the image's, is every job that its latest version made: each
variant and each step, and in place of one that was tried again the job that repeats it.
"""

from __future__ import annotations

from retouch import keys
from retouch.jobs import Job
from retouch.ports import Store
from retouch.steps.submit import first_of, parts_of


def jobs_named(store: Store, name: str) -> tuple[Job, ...]:
    """The jobs that a name means, in the order of the sidecar's parts; none where there is none."""
    job = store.job(name)
    if job is not None:
        return (job,)
    latest = _latest(store, name) or _aside(store, name)
    if latest is None:
        return ()
    return (latest,) if name.endswith("/") else _of_its_drop(store, latest)


def _aside(store: Store, folder: str) -> Job | None:
    """The job whose record lies in a folder that is named after it, because another job has its own."""
    above, _, job_id = folder.rstrip("/").rpartition("/")
    job = store.job(job_id) if folder.endswith("/") else None
    return job if job is not None and job.folder in (above, f"{above}/{job_id}") else None


def _latest(store: Store, name: str) -> Job | None:
    """The latest job under a key; for an image's, of all that may describe it and take no others.

    One that has lost its folder for good, to a sidecar that goes before it, comes last.
    """
    is_image = keys.classify(name) is keys.Kind.IMAGE
    names = (name, *(keys.sidecars_of(name) if is_image else ()))
    ids = [store.latest_job_of(one) for one in names]
    # An image without a sidecar stands under its own key until one comes.
    ids.append(store.record_of_lone(name if is_image else name.removesuffix(".json")))
    found = [job for job_id in ids if job_id is not None and (job := store.job(job_id)) is not None]

    def rank(job: Job) -> tuple[bool, float]:
        return not job.folder.endswith(f"/{job.job_id}"), job.created_at

    about = (job for job in found if not is_image or _may_take(job, name))
    return max(about, key=rank, default=None)


def _may_take(job: Job, image: str) -> bool:
    """Whether a job is made from an image, or may be: a sidecar `red.json` may name any others."""
    taken = {source.key for source in (*job.images, *filter(None, (job.mask,)))}
    return not taken or image in taken


def _of_its_drop(store: Store, latest: Job) -> tuple[Job, ...]:
    """All jobs of the drop that a job belongs to, as far as they were entered."""
    ids = parts_of(first_of(store, latest))
    found = [job for job_id in ids if (job := store.job(job_id)) is not None]
    return tuple(_last_of(store, job) for job in found) or (latest,)


def _last_of(store: Store, job: Job) -> Job:
    """The job that a job was tried again as, however often."""
    while job.retried_as is not None and (after := store.job(job.retried_as)) is not None:
        job = after
    return job
