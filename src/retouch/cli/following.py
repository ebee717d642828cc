"""Following jobs until they end: a bar on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from retouch.cli.connection import Connection
from retouch.cli.output import reason, status
from retouch.jobs import Job, Status
from retouch.steps.submit import parts_of

_EVERY_SECONDS: Final = 0.4


def follow(
    connection: Connection,
    job_ids: Sequence[str],
    console: Console,
    *,
    stopped: Callable[[Job], bool],
) -> list[Job]:
    """The jobs once each is settled, or is `stopped` from going on by itself.

    With the first job of a drop come all that it makes.
    """
    known = list(job_ids)
    whole: set[str] = set()
    seen: dict[str, Status] = {}
    last: dict[str, Job] = {}
    started = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("jobs", total=len(known))
        while True:
            for job_id in known:
                if job_id in last and last[job_id].status.settled:
                    continue
                job = connection.store.job(job_id)
                if job is None:
                    continue
                last[job_id] = job
                if job.part is not None and job.part.number == 0 and job_id not in whole:
                    whole.add(job_id)
                    known += [part for part in parts_of(job) if part not in known]
                if seen.get(job_id) is not job.status:
                    seen[job_id] = job.status
                    elapsed = time.monotonic() - started
                    tells = job.status.settled or job.status is Status.HELD
                    why = reason(job) if tells else ""
                    console.print(
                        f"[dim]{elapsed:6.1f} s[/dim]  {status(job)}  "
                        f"{escape(job.sidecar.removesuffix('.json'))}"
                        + (f"  [dim]{escape(why)}[/dim]" if why else "")
                    )
            done = [job for job in last.values() if job.status.settled]
            progress.update(bar, completed=len(done), total=len(known))
            if len(last) == len(known) and all(
                _at_rest(job, last, stopped) for job in last.values()
            ):
                return [last[job_id] for job_id in known]
            time.sleep(_EVERY_SECONDS)


def _at_rest(job: Job, known: dict[str, Job], stopped: Callable[[Job], bool]) -> bool:
    """Whether a job has ended, or will not go on by itself: nor does a step then that waits for it."""
    if job.status.settled or stopped(job):
        return True
    before = known.get(job.part.previous or "") if job.part is not None else None
    waits = job.status is Status.WAITING and before is not None and not before.status.settled
    return waits and before is not None and _at_rest(before, known, stopped)
