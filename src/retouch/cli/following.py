"""Following jobs until they end.

On a terminal a bar with the time that is left, elsewhere a line for each change and now and then one
that says how far it has come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from retouch.cli.connection import Connection
from retouch.cli.output import part, reason, status
from retouch.cli.pace import Pace
from retouch.jobs import Job, Status
from retouch.steps.submit import parts_of

_EVERY_SECONDS: Final = 0.4
_LOOK_SHARE: Final = 4.0
"""Looking takes a fifth of the time at the most: many jobs are looked at less often."""


class _Jobs:
    """The jobs that are followed, as they were when they were last looked at."""

    def __init__(self, job_ids: Sequence[str], stopped: Callable[[Job], bool]) -> None:
        self._stopped = stopped
        self.ids = list(dict.fromkeys(job_ids))
        self._root_of = {job_id: job_id for job_id in self.ids}
        self.seen: dict[str, Job] = {}
        self.pace = Pace()

    def look(self, connection: Connection) -> list[Job]:
        """Look at those that have not ended; those of which there is news, the oldest drop first."""
        open_ = [i for i in self.ids if i not in self.seen or not self.seen[i].status.settled]
        first = not self.seen
        news = []
        for job in connection.store.jobs_of(open_):
            before = self.seen.get(job.job_id)
            self.seen[job.job_id] = job
            if job.part is not None and job.part.number == 0:
                for part in parts_of(job):
                    if part not in self._root_of:
                        self._root_of[part] = job.job_id
                        self.ids.append(part)
            if before is None or before.status is not job.status:
                news.append(job)
                # What had ended before anybody looked says nothing about when.
                if job.status.settled and not first:
                    self.pace.ended()
        place = {job_id: number for number, job_id in enumerate(self.ids)}
        return sorted(news, key=lambda job: place[job.job_id])

    @property
    def ended(self) -> int:
        """How many have ended."""
        return sum(job.status.settled for job in self.seen.values())

    @property
    def left(self) -> int:
        """How many will go on by themselves, those that are not there yet among them."""
        return sum(not self._never_comes(i) for i in self.ids if i not in self.seen) + sum(
            not self._at_rest(job) for job in self.seen.values()
        )

    def _never_comes(self, job_id: str) -> bool:
        """Whether a drop was taken back before all of its jobs were entered."""
        root = self.seen.get(self._root_of[job_id])
        return root is not None and root.status is Status.CANCELED

    def _at_rest(self, job: Job) -> bool:
        """Whether a job has ended or stands still; then a step that waits for it does too."""
        if job.status.settled or self._stopped(job):
            return True
        before = self.seen.get(job.part.previous or "") if job.part is not None else None
        waits = job.status is Status.WAITING and before is not None and not before.status.terminal
        return waits and before is not None and self._at_rest(before)


def _name(job: Job) -> str:
    return ", ".join(filter(None, (job.sidecar.removesuffix(".json"), part(job))))


def follow(
    connection: Connection,
    job_ids: Sequence[str],
    console: Console,
    *,
    stopped: Callable[[Job], bool],
    say_every: float = 10.0,
) -> list[Job]:
    """The jobs once each is settled, or is `stopped` from going on by itself.

    With the first job of a drop come all that it makes. Where there is no terminal, a line says every
    `say_every` seconds how far it has come.
    """
    jobs = _Jobs(job_ids, stopped)
    started = said = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("jobs", total=len(jobs.ids), left="")
        while True:
            began = time.monotonic()
            for job in jobs.look(connection):
                tells = job.status.settled or job.status is Status.HELD
                why = reason(job) if tells else ""
                console.print(
                    f"[dim]{time.monotonic() - started:6.1f} s[/dim]  {status(job)}  "
                    f"{escape(_name(job))}" + (f"  [dim]{escape(why)}[/dim]" if why else "")
                )
            ended, left = jobs.ended, jobs.left
            words = jobs.pace.words(left)
            progress.update(bar, completed=ended, total=len(jobs.ids), left=words)
            now = time.monotonic()
            if words and not console.is_terminal and now - said >= say_every:
                said = now
                console.print(f"{now - started:6.1f} s  {ended} of {len(jobs.ids)} ended, {words}")
            if not left:
                return [jobs.seen[job_id] for job_id in jobs.ids if job_id in jobs.seen]
            time.sleep(max(_EVERY_SECONDS, _LOOK_SHARE * (now - began)))
