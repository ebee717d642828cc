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

_EVERY_SECONDS: Final = 0.4


def follow(
    connection: Connection,
    job_ids: Sequence[str],
    console: Console,
    *,
    stopped: Callable[[Job], bool],
) -> list[Job]:
    """The jobs once each is settled, or is `stopped` from going on by itself."""
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
        bar = progress.add_task("jobs", total=len(job_ids))
        while True:
            for job_id in job_ids:
                if job_id in last and last[job_id].status.settled:
                    continue
                job = connection.store.job(job_id)
                if job is None:
                    continue
                last[job_id] = job
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
            progress.update(bar, completed=len(done))
            if len(last) == len(job_ids) and all(
                job.status.settled or stopped(job) for job in last.values()
            ):
                return [last[job_id] for job_id in job_ids]
            time.sleep(_EVERY_SECONDS)
