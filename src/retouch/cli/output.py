"""How the command line speaks: one JSON document on stdout, or text for people."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, TextIO, TypeVar

from rich import progress
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retouch.cli.explaining import Explanation, shown
from retouch.cli.folder import Verdict
from retouch.cli.gallery import Gallery
from retouch.jobs import Job, Status
from retouch.sheets import counted
from retouch.sidecar import Problem

_PIPE_WIDTH: Final = 100_000
"""Wider than any table or message: a program reads a pipe, and looks for whole lines."""


def _console(stream: TextIO, *, stderr: bool = False) -> Console:
    if stream.isatty():
        return Console(stderr=stderr, highlight=False)
    return Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH, soft_wrap=True)


out: Final = _console(sys.stdout)
err: Final = _console(sys.stderr, stderr=True)

T = TypeVar("T")


def track(things: Sequence[T], doing: str) -> Iterable[T]:
    """The things one by one, with a bar on a terminal while they are gone through."""
    return progress.track(things, doing, console=err, transient=True, disable=not err.is_terminal)


_STYLE: Final = {
    Status.SUCCEEDED: "green",
    Status.PARTIAL: "yellow",
    Status.FAILED: "red",
    Status.REJECTED: "red",
    Status.CANCELED: "dim",
    Status.UNRESOLVED: "bold red",
    Status.HELD: "bold yellow",
}


def document(value: Any) -> None:
    """The one JSON document of a command with --json."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def status(job: Job) -> str:
    """A job's state, coloured."""
    style = _STYLE.get(job.status, "cyan")
    return f"[{style}]{job.status}[/{style}]"


def kind(job: Job) -> str:
    """Model, and function where it has one."""
    if job.model is None:
        return "–"
    return job.model if job.function is None else f"{job.model} {job.function}"


def part(job: Job) -> str:
    """Which of its drop's jobs a job is; empty where it is the only one."""
    if job.part is None:
        return ""
    if job.part.step is not None:
        return f"step {job.part.step} of {job.part.steps}"
    return job.part.variant or ""


def named(job: Job) -> str:
    """A job by its sidecar, and its part of that."""
    return ", ".join(filter(None, (job.sidecar, part(job))))


def statuses(jobs: Iterable[Job]) -> dict[str, int]:
    """How many jobs are in which state."""
    return dict(Counter(str(job.status) for job in jobs).most_common())


def seconds(job: Job) -> str:
    """From the drop to the end, or until now."""
    if job.finished_at is None:
        return "–"
    return f"{job.finished_at - job.created_at:.1f}"


def cost(job: Job) -> str:
    """What the job cost."""
    if job.cost is None:
        return "–"
    if job.cost.amount is None:
        return "no price"
    return f"{Decimal(job.cost.amount):.2f} {job.cost.currency}"


def reason(job: Job) -> str:
    """Why a job is not what its owner hoped for, in a line; empty if it is."""
    if job.status is Status.WAITING and job.part is not None and not job.missing:
        step = job.part.step
        return "waits for its images" if step is None else f"waits for step {step - 1}"
    if job.status is Status.WAITING:
        wrong = "".join(f"; {Problem(p.field, p.message)}" for p in job.warnings)
        if job.missing == (job.sidecar,):
            return f"an image alone: waits for {job.sidecar} or a preset{wrong}"
        return f"waits for {', '.join(job.missing)}{wrong}"
    if job.held is not None:
        return f"held: {job.held.message}"
    if job.problems:
        return "; ".join(str(Problem(p.field, p.message)) for p in job.problems)
    if job.doubt is not None:
        return job.doubt
    if job.refusal is not None and not job.status.settled:
        return f"put off: {job.refusal.code}: {job.refusal.message}"
    if job.failure is not None:
        return f"{job.failure.code}: {job.failure.message}"
    if job.image_failures:
        failed = len(job.image_failures)
        return f"{failed} image{'s' * (failed > 1)} failed: {job.image_failures[0].code}"
    return ""


def jobs_table(jobs: Iterable[Job]) -> Table:
    """Jobs, one a row, each by the folder of its results."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("job", overflow="fold", min_width=20)
    table.add_column("state", no_wrap=True)
    table.add_column("model", overflow="fold", min_width=26)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    for job in jobs:
        table.add_row(
            escape(f"{job.folder}/"),
            status(job),
            kind(job),
            seconds(job),
            str(len(job.outputs)) if job.outputs else "–",
            cost(job),
        )
    return table


def reasons(jobs: Iterable[Job]) -> None:
    """Why jobs are not what their owners hoped for, a line each; nothing where all is well."""
    for job in jobs:
        if why := reason(job):
            out.print(f"{named(job)}: {why}", markup=False)


def row(job: Job) -> dict[str, Any]:
    """A job as `jobs --json` and `drop --json` give it."""
    return {
        "job_id": job.job_id,
        "sidecar": job.sidecar,
        "status": str(job.status),
        "model": job.model,
        "function": job.function,
        "seconds": None if job.finished_at is None else round(job.finished_at - job.created_at, 3),
        "images": [output.key for output in job.outputs],
        "folder": job.folder,
        "cost": None if job.cost is None else job.cost.model_dump(mode="json"),
        "reason": reason(job) or None,
    }


def totals(jobs: Iterable[Job]) -> str:
    """What a number of jobs cost together, by currency."""
    sums: dict[str, Decimal] = {}
    images = 0
    for job in jobs:
        if job.cost is not None:
            images += job.cost.images
            if job.cost.amount is not None and job.cost.currency is not None:
                before = sums.get(job.cost.currency, Decimal(0))
                sums[job.cost.currency] = before + Decimal(job.cost.amount)
    money = ", ".join(f"{amount:.2f} {currency}" for currency, amount in sums.items())
    return f"{images} images billed" + (f", {money}" if money else "")


def verdicts(found: Iterable[Verdict], *, quiet_when_fine: bool = False) -> None:
    """What is to be said about files: problems on stderr, the rest on stdout."""
    for verdict in found:
        name = escape(verdict.path)
        if verdict.problems:
            err.print(f"[red]✗[/red] {name}")
            for problem in verdict.problems:
                err.print(f"    {escape(str(problem))}")
        elif not quiet_when_fine:
            out.print(f"[green]✓[/green] {name}  [dim]{escape(verdict.says)}[/dim]")
        for warning in verdict.warnings:
            err.print(f"    [yellow]warning[/yellow] {name}: {escape(str(warning))}")


def explanation(found: Explanation) -> None:
    """What a key comes to, a line for each value."""
    out.print(found.key, markup=False, style="bold")
    if found.presets:
        out.print(f"under {', '.join(found.presets)}", markup=False)
    if found.says:
        out.print(found.says, markup=False)
    for job in found.jobs:
        if job.name:
            out.print(f"\n{job.name}", markup=False, style="bold")
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        table.add_column(style="dim", overflow="fold")
        for value in job.values:
            table.add_row(escape(value.path), escape(shown(value.value)), escape(value.source))
        out.print(table)
    problems = [*found.problems, *(p for job in found.jobs for p in job.problems)]
    for problem in dict.fromkeys(problems):
        err.print(f"[red]✗[/red] {escape(str(problem))}")
    for warning in dict.fromkeys(warning for job in found.jobs for warning in job.warnings):
        err.print(f"[yellow]warning[/yellow] {escape(str(warning))}")


def verdict_document(found: Iterable[Verdict]) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [
        {
            "path": verdict.path,
            "ok": not verdict.problems,
            "problems": [{"field": p.field, "message": p.message} for p in verdict.problems],
            "warnings": [{"field": p.field, "message": p.message} for p in verdict.warnings],
        }
        for verdict in found
    ]


def gallery_summary(made: Gallery) -> str:
    """What a page shows, in a line."""
    jobs, results = counted(len(made.records), "job"), counted(made.results, "result")
    images, sums = made.totals
    money = "".join(f", {amount:.2f} {currency}" for currency, amount in sums.items())
    return f"{jobs}, {results}, {counted(images, 'image')} billed{money}"


def gallery_document(made: Gallery, url: str | None) -> dict[str, Any]:
    """The same as JSON."""
    images, sums = made.totals
    return {
        "folder": made.folder,
        "page": made.key,
        "file": None if made.file is None else str(made.file),
        "url": url,
        "of_one_job": made.of_one_job,
        "jobs": len(made.records),
        "statuses": made.statuses,
        "results": made.results,
        "images_billed": images,
        "amounts": {currency: str(amount) for currency, amount in sums.items()},
        "unreadable": list(made.unreadable),
    }
