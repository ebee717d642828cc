"""A command for all jobs of a drop: what it does to each of them, what it cannot, and what is as asked.

Each job is a command of its own to the stack, so that each can be given again. A job that there is
nothing to do for is left alone, and is no failure.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from retouch.cli.connection import Report
from retouch.jobs import Job, Status, unpause
from retouch.ports import Store

_CANCEL_SECONDS: Final = 20.0
"""So long does `cancel` wait for the provider's word; it comes with the next look at the task."""
_TO_BE_MADE_AGAIN: Final = (Status.FAILED, Status.REJECTED, Status.CANCELED)
_WITH_THE_PROVIDER: Final = (Status.CREATING, Status.RESOLVING, Status.RUNNING)


class Stack(Protocol):
    """What a command is given to: see `retouch.cli.connection.Connection`."""

    @property
    def store(self) -> Store:
        """The table, to be read."""
        ...

    def operate(self, command: str, job: Job, task_id: str | None = None) -> Report:
        """Have the stack carry out a command on a job."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What came of a command for one job.

    Attributes:
        job: As it was before.
        report: What the stack said; where it was not asked, how the job is.
        nothing: Why there was nothing to do for it; empty if there was.
    """

    job: Job
    report: Report
    nothing: str = ""


def cancel(stack: Stack, jobs: Sequence[Job], told: dict[str, Outcome], wait: bool) -> None:
    """Cancel all that have not ended, the last first, so that no step begins that is not wanted.

    `told` gets what came of it, by the id that each job had. With `wait` the provider's word is waited
    for, of all together.
    """
    for job in reversed(jobs):
        if job.status.terminal and len(jobs) > 1:
            told[job.job_id] = _left(job, f"it has ended already as {job.status}")
        else:
            told[job.job_id] = Outcome(job, stack.operate("cancel", job))
    asked = [job for job in jobs if told[job.job_id].report.status in _WITH_THE_PROVIDER]
    if not (wait and asked):
        return
    _await_the_provider(stack, asked)
    for job in asked:
        now = stack.store.job(job.job_id)
        if now is not None:
            first, then = told[job.job_id].report, stack.operate("cancel", now)
            told[job.job_id] = Outcome(job, _of_both(first, then))


def _of_both(first: Report, then: Report) -> Report:
    """What came of asking twice: the second time does not say that somebody asked before."""
    if not first.did:
        return then
    cancelled = then.status == Status.CANCELED
    return replace(then, did=f"{first.did}, and it is cancelled" if cancelled else first.did)


def _await_the_provider(stack: Stack, jobs: Iterable[Job]) -> None:
    """Return once the provider has been asked about each job, or after a while without that."""
    deadline = time.monotonic() + _CANCEL_SECONDS
    for job in jobs:
        while time.monotonic() < deadline:
            now = stack.store.job(job.job_id)
            if now is None or now.cancel_answer is not None or now.status.settled:
                break
            time.sleep(0.4)


def retry(stack: Stack, jobs: Sequence[Job], told: dict[str, Outcome]) -> None:
    """Try again what failed, was refused or cancelled, or stands still; `told` as `cancel`.

    Steps are tried again by the last of them, which stands for all that lead to it.
    """
    if len(jobs) == 1:
        told[jobs[0].job_id] = Outcome(jobs[0], stack.operate("retry", jobs[0]))
        return
    stopped = [job for job in jobs if job.status in _TO_BE_MADE_AGAIN]
    chain = bool(stopped) and stopped[0].part is not None and stopped[0].part.step is not None
    for job in jobs:
        if chain and job in stopped[1:]:
            told[job.job_id] = _left(job, "it follows the step that is tried again")
        elif job in stopped:
            asked = stopped[-1] if chain else job
            told[job.job_id] = Outcome(job, stack.operate("retry", asked))
        elif job.status is Status.PARTIAL:
            told[job.job_id] = _could_not(
                job,
                "some of its images are there, and a retry makes and bills all of them: `retouch "
                f"retry {job.job_id}` if that is meant",
            )
        elif _stands_still(stack, job):
            told[job.job_id] = Outcome(job, stack.operate("retry", job))
        else:
            told[job.job_id] = _left(job, f"it is {job.status}")


def _stands_still(stack: Stack, job: Job) -> bool:
    """Whether a job that has not ended waits for a person: the stack helps it on, or says who can."""
    if job.status is Status.QUEUED:
        return bool(unpause(stack.store.lane(job.lane or "")))
    return job.status is Status.UNRESOLVED or (job.status is Status.FINALIZING and job.blocked)


def release(stack: Stack, jobs: Sequence[Job], told: dict[str, Outcome]) -> None:
    """Let all go on that are held; `told` as `cancel`."""
    for job in jobs:
        if len(jobs) == 1 or job.status is Status.HELD or job.released_at is not None:
            told[job.job_id] = Outcome(job, stack.operate("release", job))
        else:
            told[job.job_id] = _left(job, f"it is {job.status}, not held by a budget")


def to_resolve(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Those of a drop's jobs that a decision can be about: none, several, or the one that is meant."""
    if len(jobs) == 1:
        return tuple(jobs)
    held = tuple(job for job in jobs if job.status is Status.UNRESOLVED)
    # Given twice, it is about the one that was decided on.
    return held or tuple(job for job in jobs if job.resolution is not None)


def _left(job: Job, why: str) -> Outcome:
    return Outcome(job, Report(job.job_id, str(job.status), "", ""), why)


def _could_not(job: Job, why: str) -> Outcome:
    return Outcome(job, Report(job.job_id, str(job.status), "", why))
