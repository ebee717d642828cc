"""Throughput is not paid for all the care: a lane of two keeps its two places busy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from retouch.local.stack import Blueprint, temporary
from tests.e2e.support import User, picture

MODEL = "wanx2.1-imageedit"
OTHER = "wan2.7-image"
QUOTA = 2
JOBS = 100
SCALE = 0.2
"""Its tasks take 5-15 s, so these take 1-3 s."""
WARMING = 6
"""Jobs of another lane that go before: a cold engine starts some fifteen interpreters at first."""
MOST = 1.08
"""The span that is allowed, in terms of the ideal one."""

IMAGE = picture()


@dataclass(frozen=True)
class Run:
    """What the simulator counted of a run; times in seconds."""

    span: float
    """From the first create to the last completion."""
    work: float
    """The tasks' own run times together."""

    @property
    def ideal(self) -> float:
        """With every place busy from the first moment to the last."""
        return self.work / QUOTA

    @property
    def ratio(self) -> float:
        return self.span / self.ideal


def run_of(tasks: list[dict[str, Any]]) -> Run:
    return Run(
        span=max(task["ended"] for task in tasks) - min(task["created"] for task in tasks),
        work=sum(task["ended"] - task["started"] for task in tasks),
    )


def drop(user: User, folder: str, sidecar: dict[str, str]) -> None:
    user.put(f"{folder}.jpg", IMAGE)
    user.put(f"{folder}.jpg.json", sidecar)


@pytest.fixture
def hurried(home: Path) -> Iterator[User]:
    """Somebody with a stack of their own, so that nothing else runs in the lane or on the engine."""
    with temporary(Blueprint(name="throughput", time_scale=SCALE)) as stack:
        yield User(stack)


def test_a_lane_of_two_keeps_both_its_places_busy(hurried: User, record_property: Any) -> None:
    # The one assertion on time among the tests: a proportion within this very run.
    warming = [f"warming/{number}" for number in range(WARMING)]
    for folder in warming:
        drop(hurried, folder, {"model": OTHER, "prompt": folder})
    assert {hurried.settled(folder)["status"] for folder in warming} == {"SUCCEEDED"}

    folders = [f"many/{number:03}" for number in range(JOBS)]
    for folder in folders:
        drop(hurried, folder, {"model": MODEL, "function": "colorization", "prompt": folder})
    # One after the other, so that looking takes next to nothing from what is measured.
    records = [hurried.settled(folder, 240) for folder in folders]
    tasks = [task for task in hurried.simulator("tasks")["tasks"] if task["model"] == MODEL]
    stats = hurried.simulator("stats")
    run = run_of(tasks)
    gaps = [b - a for a, b in itertools.pairwise(sorted(task["created"] for task in tasks))]
    figures = {
        "span": round(run.span, 2),
        "ideal": round(run.ideal, 2),
        "ratio": round(run.ratio, 4),
        "mean run": round(run.work / len(tasks), 3),
        "shortest time between creates": round(min(gaps), 3),
        "queries": stats["requests"]["query"],
        "most queries in a second": stats["max_queries_in_a_second"],
    }
    for name, value in figures.items():
        record_property(name, value)
    print("\n" + ", ".join(f"{name} {value}" for name, value in figures.items()))

    assert {record["status"] for record in records} == {"SUCCEEDED"}
    assert len({record["task_id"] for record in records}) == JOBS
    assert stats["creates"] == {MODEL: JOBS, OTHER: WARMING}
    assert stats["images"] == {MODEL: JOBS, OTHER: WARMING}
    assert stats["refused"] == {}
    assert stats["max_running"][MODEL] <= QUOTA
    assert run.ratio <= MOST, figures
