"""The whole stack while things go wrong: lost answers, refusals, dead workers, stopped executions."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from retouch.local.stack import Blueprint, Running, temporary
from tests.e2e.support import SETTLED, User, picture, until

WANX = "wanx2.1-imageedit"
WAN25 = "wan2.5-i2i-preview"
WAN27 = "wan2.7-image"
IMAGE = picture()
BUSY = {"code": "Throttling.RateQuota", "message": "slow down", "request_id": "r"}
BROKEN = {"code": "InternalError", "message": "broken", "request_id": "r"}


@pytest.fixture(scope="module")
def user(home: Path) -> Iterator[User]:
    """Somebody with a stack of their own, whose provider and workers fail."""
    with temporary(Blueprint(name="faults", time_scale=0.1)) as stack:
        yield User(stack)


def set_faults(user: User, *plan: dict[str, Any]) -> None:
    origin = user.stack.provider_urls["beijing"].removesuffix("/api/v1")
    httpx.post(f"{origin}/_simulator/faults", json=list(plan), timeout=10).raise_for_status()


def drop(user: User, name: str, model: str) -> str:
    sidecar = {"model": model, "prompt": name}
    if model == WANX:
        sidecar["function"] = "colorization"
    user.put(f"{name}.jpg", IMAGE)
    user.put(f"{name}.jpg.json", sidecar)
    return name


def lanes(user: User) -> dict[str, dict[str, Any]]:
    """The lanes as they are stored."""
    scan = user.client("dynamodb").get_paginator("scan")
    items = [
        item
        for page in scan.paginate(TableName=user.stack.outputs["TableName"])
        for item in page["Items"]
        if item["pk"]["S"].startswith("LANE#")
    ]
    return {item["pk"]["S"]: json.loads(item["doc"]["S"]) for item in items}


def workers(stack: Running) -> list[int]:
    """The processes that run this stack's functions: each has its code in the stack's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if len(command) > 1 and command[1].decode("utf-8", "replace").startswith(
                str(stack.folder)
            ):
                found.append(int(entry.name))
    return found


def check(user: User, records: list[dict[str, Any]], word: str) -> None:
    """What holds at every moment, once everything has come to rest."""
    assert {record["status"] for record in records} == {"SUCCEEDED"}
    tasks = [record["task_id"] for record in records]
    assert len(set(tasks)) == len(tasks), "two jobs have one task"
    made = Counter(
        request["task_id"] for request in user.creates(word) if request["task_id"] is not None
    )
    assert set(made.values()) == {1}
    again = sum(record["outcome"]["sent_again"] for record in records)
    unmarked = len(made) - len(records)
    assert unmarked <= again, "a task was made that nothing says anything of"
    for record in records:
        assert bool(record["doubt"]) == bool(record["outcome"]["sent_again"])
        for output in record["outputs"]:
            assert user.read(output["key"]) is not None
    until(
        lambda: None if any(lane["slots"] for lane in lanes(user).values()) else True,
        "every slot is given back",
        120,
    )
    most = user.simulator("stats")["max_running"]
    assert most.get(WANX, 0) <= 2


@pytest.mark.fault(23, 24, 25, 26, 27, 37)
def test_a_provider_that_fails_in_many_ways_costs_nobody_anything(user: User) -> None:
    set_faults(
        user,
        # The task is made, and the answer lost; likewise with a 5xx; then a call that makes nothing.
        {"route": "create", "model": WAN27, "effect": "cut_after"},
        {
            "route": "create",
            "model": WANX,
            "effect": "replace_body",
            "status": 500,
            "body": BROKEN,
        },
        {"route": "create", "model": WAN25, "effect": "cut_before"},
        {"route": "create", "effect": "answer", "status": 429, "body": BUSY, "skip": 5},
        {"route": "query", "effect": "answer", "status": 503, "body": BROKEN, "times": 4},
        {"route": "query", "effect": "answer", "status": 429, "body": BUSY, "times": 3},
        {"route": "result", "effect": "truncate", "keep_bytes": 1000, "times": 2},
    )
    names = [
        *(drop(user, f"failing/{WAN27}-{i}", WAN27) for i in range(3)),
        *(drop(user, f"failing/{WAN25}-{i}", WAN25) for i in range(2)),
        *(drop(user, f"failing/{WANX}-{i}", WANX) for i in range(4)),
    ]

    records = [user.settled(name, 300) for name in names]

    check(user, records, "failing/")
    outcomes = {record["sidecar"]["key"]: record["outcome"] for record in records}
    adopted = [key for key, outcome in outcomes.items() if outcome["adopted"]]
    again = [key for key, outcome in outcomes.items() if outcome["sent_again"]]
    assert len(adopted) == 2, outcomes
    assert len(again) == 1, outcomes
    assert WAN25 in again[0]


@pytest.mark.fault(16, 20, 21, 42)
def test_workers_that_are_killed_lose_nothing_and_pay_for_nothing_twice(user: User) -> None:
    # Calls take long enough to be killed in.
    set_faults(user, {"route": "create", "delay_after": 0.5, "times": None})
    names = [drop(user, f"killed/{number:02}", WANX) for number in range(16)]
    for name in names:
        until(lambda name=name: user.record(name), f"{name} is queued")  # type: ignore[misc]
    generator = random.Random(7)
    killed = 0
    end = time.monotonic() + 25
    while time.monotonic() < end:
        victims = workers(user.stack)
        if victims:
            os.kill(generator.choice(victims), signal.SIGKILL)
            killed += 1
        time.sleep(generator.uniform(0.5, 2.0))  # how often something dies, not what is waited for
    assert killed > 10
    set_faults(user)

    records = [user.settled(name, 420) for name in names]

    check(user, records, "killed/")


@pytest.mark.fault(42)
def test_an_execution_that_is_stopped_by_hand_is_started_again(user: User) -> None:
    set_faults(user, {"route": "query", "delay_before": 1.0, "times": 5})
    name = drop(user, "stopped/red", WAN27)
    running = until(
        lambda: record if (record := user.record(name)) and record["status"] == "RUNNING" else None,
        "it runs",
    )
    machine = user.stack.outputs["StateMachineArn"]
    states = user.client("stepfunctions")
    for execution in states.list_executions(stateMachineArn=machine, statusFilter="RUNNING")[
        "executions"
    ]:
        states.stop_execution(executionArn=execution["executionArn"], cause="by hand")

    record = user.settled(name, 200)

    assert record["status"] == "SUCCEEDED"
    assert record["task_id"] == running["task_id"]
    assert len(user.creates("stopped/")) == 1
    assert record["status"] in SETTLED
