"""Throughput is not paid for all the care: a lane of two keeps its two places busy.

    python -m benchmarks.throughput

100 jobs of 1-3 s go through the lane of `wanx2.1-imageedit` on a stack of their own. The span from the
first create to the last completion, both as the simulator saw them, is held against the ideal one, in
which every place is busy from the first moment to the last. The exit code is 1 where it is more than
8 % longer, or where a job did not succeed or was made twice.

The engine is warm: a cold one starts some fifteen interpreters first, so six jobs of another lane go
before. Its waits are scaled with the tasks, as they are in every local stack with `--time-scale`.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.e2e.support import User, picture

from retouch.local.stack import Blueprint, temporary

MODEL: Final = "wanx2.1-imageedit"
OTHER: Final = "wan2.7-image"
QUOTA: Final = 2
JOBS: Final = 100
WARMING: Final = 6
SCALE: Final = 0.2
"""Its tasks take 5-15 s, so these take 1-3 s."""
MOST: Final = 1.08
"""The span that is allowed, in terms of the ideal one."""
_PATIENCE_SECONDS: Final = 240.0


@dataclass(frozen=True)
class Run:
    """What the simulator counted of the tasks of a run; times in seconds."""

    span: float
    """From the first create to the last completion."""
    work: float
    """The tasks' own run times together."""
    closest: float
    """The shortest time between two creates."""

    @classmethod
    def of(cls, tasks: Sequence[dict[str, Any]]) -> Run:
        """From the simulator's list of tasks."""
        created = sorted(task["created"] for task in tasks)
        return cls(
            span=max(task["ended"] for task in tasks) - created[0],
            work=sum(task["ended"] - task["started"] for task in tasks),
            closest=min(later - earlier for earlier, later in itertools.pairwise(created)),
        )

    @property
    def ideal(self) -> float:
        """The span with every place busy from the first moment to the last."""
        return self.work / QUOTA

    @property
    def ratio(self) -> float:
        """Of the span to the ideal one."""
        return self.span / self.ideal


def drop(user: User, folder: str, model: str, **fields: str) -> None:
    """Drop a job whose prompt is its folder's name."""
    user.put(f"{folder}.jpg", picture())
    user.put(f"{folder}.jpg.json", {"model": model, "prompt": folder, **fields})


def complaints(user: User, records: Sequence[dict[str, Any]]) -> list[str]:
    """What went wrong beside the time."""
    stats = user.simulator("stats")
    made = {MODEL: JOBS, OTHER: WARMING}
    said = {
        "a job did not succeed": {record["status"] for record in records} != {"SUCCEEDED"},
        "two jobs have one task": len({record["task_id"] for record in records}) != JOBS,
        f"not one create for each job: {stats['creates']}": stats["creates"] != made,
        f"not one image for each job: {stats['images']}": stats["images"] != made,
        f"the provider refused calls: {stats['refused']}": bool(stats["refused"]),
        "more ran at once than the quota": stats["max_running"][MODEL] > QUOTA,
    }
    return [name for name, wrong in said.items() if wrong]


def main() -> int:
    """See the module."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["RETOUCH_HOME"] = home
        with temporary(Blueprint(name="throughput", time_scale=SCALE)) as stack:
            user = User(stack)
            warming = [f"warming/{number}" for number in range(WARMING)]
            for folder in warming:
                drop(user, folder, OTHER)
            for folder in warming:
                user.settled(folder)
            folders = [f"many/{number:03}" for number in range(JOBS)]
            for folder in folders:
                drop(user, folder, MODEL, function="colorization")
            # One after the other, so that looking takes next to nothing from what is measured.
            records = [user.settled(folder, _PATIENCE_SECONDS) for folder in folders]
            tasks = user.simulator("tasks")["tasks"]
            run = Run.of([task for task in tasks if task["model"] == MODEL])
            said = complaints(user, records)
            queries = user.simulator("stats")["max_queries_in_a_second"]
    print(f"jobs                            {JOBS} of {run.work / JOBS:.2f} s, {QUOTA} at once")
    print(f"first create to last completion {run.span:.2f} s")
    print(f"ideal                           {run.ideal:.2f} s")
    print(f"ratio                           {run.ratio:.4f}")
    print(f"shortest time between creates   {run.closest:.3f} s")
    print(f"most queries in a second        {queries}")
    if run.ratio > MOST:
        said.append(f"the span is more than {MOST} times the ideal one")
    for complaint in said:
        print(complaint, file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
