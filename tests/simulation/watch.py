"""What is noted of a run from outside: states of jobs, crashes, and what heals them."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from retouch.errors import OperatorError, TryLater
from retouch.jobs import Job, Lane, Status

_MOST_UNEXPECTED: Final = 20


def _expected(error: BaseException) -> bool:
    """Whether a function may end with this: time, or a person, will mend it."""
    if isinstance(error, BaseExceptionGroup):
        return all(_expected(part) for part in error.exceptions)
    return isinstance(error, TryLater | OperatorError)


@dataclass
class Watch:
    """Notes on a run. Times are virtual Unix seconds."""

    crashes: Counter[str] = field(default_factory=Counter)
    """Invocations that died, by function."""
    timed_out: Counter[str] = field(default_factory=Counter)
    """Those of them that ran into their timeout."""
    errors: Counter[str] = field(default_factory=Counter)
    """Invocations that raised, by function and class."""
    unexpected: list[str] = field(default_factory=list)
    """Tracebacks of errors that no function may end with."""
    open: int = 0
    """Jobs that are not terminal."""
    last_progress: float = 0.0
    reversals: list[str] = field(default_factory=list)
    """Jobs that left a terminal state."""
    held: Counter[str] = field(default_factory=Counter)
    """How often a job was held for a person, by lane."""
    recovered: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from a crash until what it hit had moved on, by function."""
    resolved: list[float] = field(default_factory=list)
    """Seconds from a call whose answer was lost until its outcome was settled."""
    resolved_as: Counter[str] = field(default_factory=Counter)
    backlogs: dict[str, list[list[float]]] = field(default_factory=dict)
    """When each lane had a backlog: begins and ends."""
    most_slots: Counter[str] = field(default_factory=Counter)
    """Slots that were taken at once, by lane."""
    _hit: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    def written(self, before: Job | None, job: Job, now: float) -> None:
        """A state of a job is stored."""
        self.last_progress = now
        was = None if before is None else before.status
        if was is None or not was.terminal:
            self.open += (not job.status.terminal) - (was is not None)
        elif job.status is not was:
            self.reversals.append(f"{job.job_id}: {was} became {job.status}")
        if job.job_id in self._hit:
            self.moved(job.job_id, now)
        if was is job.status:
            return
        if job.status is Status.UNRESOLVED:
            self.held[job.lane or ""] += 1
        if before is not None and was is Status.RESOLVING:
            self.resolved.append(now - (before.intent_at or now))
            self.resolved_as[str(job.status)] += 1

    def hit(self, kind: str, subject: str, now: float) -> None:
        """A crash of that function hit a job or a lane."""
        self._hit.setdefault(subject, []).append((kind, now))

    def moved(self, subject: str, now: float) -> None:
        """A job or a lane goes on: it was written, or a function that had it came to its end."""
        for kind, since in self._hit.pop(subject, ()):
            self.recovered.setdefault(kind, []).append(now - since)

    @property
    def unrecovered(self) -> list[str]:
        """What a crash hit that has not gone on since."""
        return list(self._hit)

    def failed(self, kind: str, error: Exception) -> None:
        """An invocation ended in an error."""
        self.errors[f"{kind}: {type(error).__name__}"] += 1
        if not _expected(error):
            self.unexpected.append("".join(traceback.format_exception(error)))
            if len(self.unexpected) == _MOST_UNEXPECTED:
                raise AssertionError(f"this goes wrong again and again: {self.unexpected[0]}")

    def slots(self, lane: Lane) -> None:
        """A lane is stored."""
        self.most_slots[lane.lane] = max(self.most_slots[lane.lane], len(lane.slots))

    def backlog(self, lane: str, there: bool, now: float) -> None:
        """A lane has a backlog from now on, or none."""
        spans = self.backlogs.setdefault(lane, [])
        open_ = bool(spans) and len(spans[-1]) == 1
        if there and not open_:
            spans.append([now])
        elif not there and open_:
            spans[-1].append(now)
