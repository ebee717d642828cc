"""A thousand images, one preset, dropped at once: what it takes, and what it does not.

    python -m benchmarks.drop_folder [--images N]

On an embedded stack of its own with a quota of 20 at once, so that the engine and not the provider is
what it waits for. It prints how long it took, how well the remaining time was foretold on the way, how
often the inbox was listed, and how much memory the processes held after a quarter of the images and at
the end. The exit code is 1 where an image did not end well or was made twice, where the inbox was
listed more often than a sweep does, or where memory grew by more than half.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image
from tests.e2e.support import User

from retouch.jobs import Status
from retouch.local.stack import Blueprint, Running, temporary

MODEL: Final = "wan2.7-image"
QUOTA: Final = {"creates": 20, "per_seconds": 1, "running": 20}
SCALE: Final = 0.1
MOST_LISTINGS: Final = 4
"""A sweep looks through the inbox every quarter of an hour; it takes a page more than there is."""
MOST_GROWTH: Final = 1.5
_PATIENCE_SECONDS: Final = 1800.0
_EVERY_SECONDS: Final = 2.0
_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


def picture(number: int) -> bytes:
    """A picture unlike any other."""
    file = io.BytesIO()
    colour = (number % 256, number // 256, 128)
    Image.new("RGB", (512, 512), colour).save(file, "PNG")
    return file.getvalue()


def family(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text("utf-8").split():
            yield from family(int(child))


def resident(pid: int) -> int:
    """The memory that a process holds, in KiB; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1]) * _PAGE_KIB
    except (FileNotFoundError, ProcessLookupError):
        return 0


@dataclass
class Watch:
    """What is seen while the jobs run."""

    stack: Running
    images: int
    started: float = field(default_factory=time.monotonic)
    quarter: dict[str, int] = field(default_factory=dict)
    foretold: list[tuple[float, float]] = field(default_factory=list)
    """When, and how many seconds were then thought to remain."""

    def memory(self) -> dict[str, int]:
        """The most that a process of each kind holds, in KiB."""
        engine = self.stack.engine_pid
        workers = [resident(pid) for pid in family(engine) if pid != engine]
        simulators = [resident(pid) for pid in self.stack.simulator_pids]
        return {
            "engine": resident(engine),
            "largest function": max(workers, default=0),
            "simulator": max(simulators, default=0),
        }

    def look(self, done: int) -> None:
        """Note how things stand."""
        elapsed = time.monotonic() - self.started
        if done >= self.images // 4:
            if not self.quarter:
                self.quarter = self.memory()
            self.foretold.append((elapsed, elapsed / done * (self.images - done)))

    def worst_foretold(self, total: float) -> float:
        """By what share of the whole time the remaining time was wrong, at the most."""
        return max(abs(at + left - total) / total for at, left in self.foretold)


def listings(stack: Running) -> int:
    """How often the inbox bucket was listed, as the engine logged it."""
    inbox = re.escape(stack.outputs["InboxBucket"])
    log = (Path(stack.folder) / "engine.log").read_text("utf-8", "replace")
    return len(re.findall(rf"GET /{inbox}/? -> service=s3", log))


def statuses(user: User) -> dict[str, int]:
    """How many jobs are in each state, by the table."""
    client = user.client("dynamodb")
    table = user.stack.outputs["TableName"]
    found: dict[str, int] = {}
    for status in Status:
        pages = client.get_paginator("query").paginate(
            TableName=table,
            IndexName="by_status",
            KeyConditionExpression="#status = :status",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":status": {"S": status}},
            Select="COUNT",
        )
        if count := sum(page["Count"] for page in pages):
            found[status] = count
    return found


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drop_folder", description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"RETOUCH_HOME": home, "LOG_LEVEL": "DEBUG"}  # the engine logs each request
        models = {MODEL: {"quota": QUOTA}}
        blueprint = Blueprint(
            name="thousand", time_scale=SCALE, parameters={"Models": json.dumps(models)}
        )
        with temporary(blueprint) as stack:
            user = User(stack)
            user.put("shoes/_preset.json", {"model": MODEL, "prompt": "a white background"})
            watch = Watch(stack, images)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda n: user.put(f"shoes/{n:05}.png", picture(n)), range(images)))
            while (done := (found := statuses(user)).get("SUCCEEDED", 0)) < images:
                watch.look(done)
                print(f"{done} of {images}, {found}", file=sys.stderr)
                if time.monotonic() - watch.started > _PATIENCE_SECONDS:
                    break
                time.sleep(_EVERY_SECONDS)
            total = time.monotonic() - watch.started
            end = watch.memory()
            listed = listings(stack)
            creates = user.simulator("stats")["creates"]
    foretold = watch.worst_foretold(total)
    print(f"images                          {images}, jobs {found}")
    print(f"creates at the provider         {creates}")
    print(f"from first drop to last end     {total:.0f} s, {images / total:.1f} images a second")
    print(f"remaining time, wrong by        {foretold:.0%} of the whole at the most")
    print(f"listings of the inbox           {listed}")
    for name, kib in end.items():
        before = watch.quarter[name]
        print(
            f"memory of the {name:18}{before / 1024:.0f} MiB after a quarter, {kib / 1024:.0f} MiB"
        )
    said = {
        "an image did not end well": found != {"SUCCEEDED": images},
        "an image was made twice": creates != {MODEL: images},
        "the inbox was listed too often": listed > MOST_LISTINGS,
        "memory grew": any(end[name] > MOST_GROWTH * watch.quarter[name] for name in end),
    }
    for complaint, wrong in said.items():
        if wrong:
            print(complaint, file=sys.stderr)
    return 1 if any(said.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
