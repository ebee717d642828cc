"""A thousand images, one preset, dropped at once: what it takes, and what it does not.

    python -m benchmarks.drop_folder [--images N]

On an embedded stack of its own with a quota of 20 at once, so that the engine and not the provider is
what it waits for. The images are dropped by `retouch drop --wait`, whose own words on the remaining
time are held against the time that it took. It prints that, how often the inbox was listed, and how
much memory the processes held after a quarter of the images and at the end.

The exit code is 1 where an image did not end well or was made twice, where the inbox was listed more
often than a sweep does, where a function grew by more than a tenth, or where the engine, which is the
table, the histories and the logs, or the simulator kept more of a job than their records of it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
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
MOST_GROWTH: Final = 1.1
MOST_KIB_A_JOB: Final = {"engine": 200, "simulator": 40}
"""Half of the engine's are the tokens of ten minutes' transactions, which DynamoDB has to remember."""
_PATIENCE_SECONDS: Final = 1800.0
_AT: Final = re.compile(r" *([0-9.]+) s  ")
_TOLD: Final = re.compile(r"([0-9]+) of [0-9]+ ended, about ([0-9.]+) (s|min|h) left")
_SECONDS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0}
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


def memory(stack: Running) -> dict[str, int]:
    """The most that a process of each kind holds, in KiB."""
    workers = [resident(pid) for pid in family(stack.engine_pid) if pid != stack.engine_pid]
    return {
        "engine": resident(stack.engine_pid),
        "largest function": max(workers, default=0),
        "simulator": max(map(resident, stack.simulator_pids), default=0),
    }


@dataclass
class Watch:
    """What is seen while the command waits."""

    stack: Running
    images: int
    quarter: dict[str, int] = field(default_factory=dict)
    at_quarter: int = 0
    told: list[tuple[float, float]] = field(default_factory=list)
    """When, and how many seconds were said to be left."""
    waited: float = 0.0
    """When the last line came, in seconds as the command counts them."""

    def read(self, lines: Iterable[str]) -> None:
        """Note what the command says, to its end."""
        for line in lines:
            if at := _AT.match(line):
                self.waited = float(at[1])
            if said := _TOLD.search(line):
                ended, left, unit = said.groups()
                self.told.append((self.waited, float(left) * _SECONDS[unit]))
                print(line.rstrip(), file=sys.stderr)
                if int(ended) >= self.images // 4 and not self.quarter:
                    self.quarter, self.at_quarter = memory(self.stack), int(ended)

    def wrong_by(self) -> list[float]:
        """By what share of the whole time each word on the remaining time was wrong, sorted."""
        return sorted(abs(at + left - self.waited) / self.waited for at, left in self.told)


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


def drop(folder: Path, watch: Watch) -> None:
    """Drop a folder as its user would, and wait."""
    command = [sys.executable, "-m", "retouch.cli", "drop", str(folder), "--to", "shoes", "--wait"]
    with subprocess.Popen(  # noqa: S603  our own command
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None  # noqa: S101  asked for above
        killer = threading.Timer(_PATIENCE_SECONDS, process.kill)
        killer.start()
        try:
            watch.read(process.stderr)
        finally:
            killer.cancel()


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drop_folder", description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"RETOUCH_HOME": home, "LOG_LEVEL": "DEBUG"}  # the engine logs each request
        folder = Path(home) / "to drop"
        folder.mkdir()
        for number in range(images):
            (folder / f"{number:05}.png").write_bytes(picture(number))
        models = {MODEL: {"quota": QUOTA}}
        blueprint = Blueprint(
            name="thousand", time_scale=SCALE, parameters={"Models": json.dumps(models)}
        )
        with temporary(blueprint) as stack:
            user = User(stack)
            user.put("shoes/_preset.json", {"model": MODEL, "prompt": "a white background"})
            watch = Watch(stack, images)
            started = time.monotonic()
            drop(folder, watch)
            total = time.monotonic() - started
            end = memory(stack)
            found = statuses(user)
            listed = listings(stack)
            creates = user.simulator("stats")["creates"]
    if not watch.quarter:
        print("it was over before anything was told of it; take more images", file=sys.stderr)
        return 2
    wrong = watch.wrong_by()
    grown = {
        name: (kib - watch.quarter[name]) / (images - watch.at_quarter) for name, kib in end.items()
    }
    ends = ", ".join(f"{count} {status}" for status, count in found.items())
    print(f"images                          {images}, jobs {ends}")
    print(
        f"creates at the provider         {', '.join(f'{n} {name}' for name, n in creates.items())}"
    )
    print(f"from the command to its end     {total:.0f} s, {images / total:.1f} images a second")
    print(
        f"remaining time                  said {len(wrong)} times; wrong by "
        f"{wrong[len(wrong) // 2]:.0%} of the whole (median), {wrong[-1]:.0%} at the most"
    )
    print(f"listings of the inbox           {listed}")
    for name, kib in end.items():
        before = watch.quarter[name]
        print(
            f"memory of the {name:18}{before / 1024:.0f} MiB after {watch.at_quarter} images, "
            f"{kib / 1024:.0f} MiB at the end, {grown[name]:.0f} KiB for each in between"
        )
    flat = end.keys() - MOST_KIB_A_JOB
    said = {
        "an image did not end well": found != {"SUCCEEDED": images},
        "an image was made twice": creates != {MODEL: images},
        "the inbox was listed too often": listed > MOST_LISTINGS,
        "a function grew": any(end[name] > MOST_GROWTH * watch.quarter[name] for name in flat),
        "too much is kept of a job": any(
            grown[name] > most for name, most in MOST_KIB_A_JOB.items()
        ),
    }
    for complaint, applies in said.items():
        if applies:
            print(complaint, file=sys.stderr)
    return 1 if any(said.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
