"""The demo: the main job from nothing, with bundled samples, on a stack of its own."""

from __future__ import annotations

import os
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Final

from retouch import keys
from retouch.aws.storage import S3Inbox
from retouch.cli.connection import Connection
from retouch.cli.explaining import is_job
from retouch.cli.following import follow
from retouch.cli.gallery import gallery
from retouch.cli.output import document, err, jobs_table, out, reasons, row, totals
from retouch.jobs import Job, Status
from retouch.local.stack import Blueprint, temporary
from retouch.steps.submit import job_id_of

_TIME_SCALE: Final = 0.2
"""A fifth of the provider's usual durations."""
_LATE: Final = "late/"
"""The sidecar of what lies there comes when its image has been seen without one."""
_LATE_SECONDS: Final = 60.0
_PAGES_SECONDS: Final = 30.0
"""Contact sheets are made after their jobs have ended, and nothing but looking depends on them."""
EXPECTED: Final = {
    "catalogue/mistakes.jpg.json": (Status.REJECTED, 3),
    "catalogue/refused.jpg.json": (Status.FAILED, 0),
}
"""Samples that are meant to go wrong: their state, and the problems named."""


def demo(target: Path, *, as_json: bool) -> int:
    """Run it; results in `target`. The exit status: 1 if a sample did not end as it should."""
    started = time.monotonic()
    samples = Path(str(resources.files("retouch"))) / "samples" / "drop"
    # A folder of its own, so that a stack somebody works with is never in the way.
    with tempfile.TemporaryDirectory(prefix="retouch-demo-") as folder:
        os.environ["RETOUCH_HOME"] = folder
        blueprint = Blueprint(
            name="demo", provider_regions=("beijing", "singapore"), time_scale=_TIME_SCALE
        )
        with temporary(blueprint, say=lambda step: err.print(f"[dim]{step} …[/dim]")) as stack:
            connection = Connection(
                stack.session(), stack.outputs, name=stack.name, endpoint_url=stack.endpoint_url
            )
            job_ids = _drop(connection, samples)
            job_ids += _drop_late(connection, samples)
            jobs = follow(connection, job_ids, err, stopped=lambda _: False)
            late = _await_pages(connection, jobs)
            written = _fetch(connection, jobs, target)
            gallery(connection, "", target / "index.html")
    took = time.monotonic() - started
    jobs.sort(key=lambda job: job.sidecar)
    if as_json:
        document({"seconds": round(took, 1), "out": str(target), "jobs": [row(j) for j in jobs]})
    else:
        out.print()
        out.print(jobs_table(jobs))
        out.print()
        reasons(jobs)
        out.print(
            f"\n{len(jobs)} jobs in {took:.0f} s, {totals(jobs)} (simulated: nothing was spent)\n"
            f"{written} files, each job's results, page and job.json in {target}/<job>/; all of it in "
            f"{target}/index.html",
            markup=False,
        )
        if late:
            out.print(f"not waited for: the pages of {', '.join(late)}", markup=False)
    surprises = [job for job in jobs if not _as_expected(job)]
    for job in surprises:
        err.print(f"[red]not as expected:[/red] {job.sidecar} is {job.status}")
    return 1 if surprises else 0


def _as_expected(job: Job) -> bool:
    wanted, problems = EXPECTED.get(job.sidecar, (Status.SUCCEEDED, 0))
    return job.status is wanted and len(job.problems) == problems


def _drop(connection: Connection, samples: Path) -> list[str]:
    """Drop every sample but the late ones; the ids of the jobs that they make, of each drop's first."""
    paths = sorted(path for path in samples.rglob("*") if path.is_file())
    err.print(f"[dim]dropping {len(paths)} files into s3://{connection.inbox} …[/dim]")
    inbox = S3Inbox(connection.s3, connection.inbox)
    names = {path.relative_to(samples).as_posix() for path in paths}
    job_ids = []
    for path in paths:
        key = path.relative_to(samples).as_posix()
        if _is_late(key):
            continue
        version = connection.upload(key, path.read_bytes())
        if is_job(connection, inbox, key, names):
            job_ids.append(job_id_of(key, version))
    return job_ids


def _is_late(key: str) -> bool:
    return key.startswith(_LATE) and keys.classify(key) is keys.Kind.SIDECAR


def _drop_late(connection: Connection, samples: Path) -> list[str]:
    """Drop the late sidecars, once their images are known to be alone; the ids of their jobs."""
    deadline = time.monotonic() + _LATE_SECONDS
    while not connection.store.lone_below(_LATE) and time.monotonic() < deadline:
        time.sleep(0.2)
    job_ids = []
    for path in sorted((samples / _LATE).glob("*.json")):
        key = path.relative_to(samples).as_posix()
        err.print(f"[dim]dropping {key}, whose image is there already …[/dim]")
        job_ids.append(job_id_of(key, connection.upload(key, path.read_bytes())))
    return job_ids


def _await_pages(connection: Connection, jobs: list[Job]) -> list[str]:
    """Wait until every job has its contact sheet; the folders that have none after a while."""
    missing = [job.folder for job in jobs]
    deadline = time.monotonic() + _PAGES_SECONDS
    while missing and time.monotonic() < deadline:
        time.sleep(0.4)
        missing = [f for f in missing if keys.page_key(f) not in connection.results(f)]
    return missing


def _fetch(connection: Connection, jobs: list[Job], target: Path) -> int:
    """Copy the outbox into a folder; each file appears whole. How many."""
    count = 0
    for job in jobs:
        for key in connection.results(job.folder):
            path = target / key
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_bytes(connection.read_result(key))
            part.replace(path)
            count += 1
    return count
