"""`drop --wait`: what a person sees while the jobs go on, over a real table."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from retouch.cli.connection import Connection
from retouch.cli.following import follow
from retouch.jobs import Job, Part, PutJob, Status
from retouch.steps.submit import parts_of


def job(number: int, **changes: object) -> Job:
    made = Job(
        job_id=f"{number:016x}",
        version=1,
        status=Status.QUEUED,
        created_at=1_700_000_000.0,
        updated_at=1_700_000_000.0,
        sidecar=f"shoes/{number}.png.json",
        sidecar_version="v1",
        folder=f"shoes/{number}",
        model="wanx2.1-imageedit",
    )
    return made.model_copy(update=changes)


def ended(one: Job, status: Status = Status.SUCCEEDED) -> PutJob:
    return PutJob(one.model_copy(update={"status": status, "version": one.version + 1}))


def screen(*, terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=100), file


def test_a_terminal_shows_how_long_the_rest_takes(connection: Connection) -> None:
    jobs = [job(number) for number in range(12)]
    for one in jobs:
        connection.store.commit((PutJob(one),))
    console, file = screen(terminal=True)
    to_end = jobs.copy()

    def stopped(_: Job) -> bool:
        """Asked of each job that goes on, whenever all were looked at."""
        if len(to_end) > 4 or (to_end and "left" in file.getvalue()):
            connection.store.commit((ended(to_end.pop(0)),))
        return False

    found = follow(connection, [one.job_id for one in jobs], console, stopped=stopped)

    assert [one.job_id for one in found] == [one.job_id for one in jobs]
    assert {one.status for one in found} == {Status.SUCCEEDED}
    assert re.search(r"8/12.*about \d+ s left", file.getvalue())


def test_a_pipe_gets_a_line_that_says_how_far_it_has_come(connection: Connection) -> None:
    jobs = [job(number) for number in range(7)]
    for one in jobs:
        connection.store.commit((PutJob(one),))
    console, file = screen(terminal=False)
    to_end = jobs.copy()

    def stopped(_: Job) -> bool:
        if len(to_end) > 1:
            connection.store.commit((ended(to_end.pop(0)),))
        elif to_end and "left" in file.getvalue():
            connection.store.commit((ended(to_end.pop(), Status.FAILED),))
        return False

    ids = [one.job_id for one in jobs]
    found = follow(connection, ids, console, stopped=stopped, say_every=0)

    assert [one.status for one in found] == [Status.SUCCEEDED] * 6 + [Status.FAILED]
    assert re.search(r"s  [56] of 7 ended, about \d+ s left", file.getvalue())
    assert len(re.findall(r"FAILED  shoes/6\.png", file.getvalue())) == 1


def test_what_had_ended_before_is_no_measure_of_the_rest(connection: Connection) -> None:
    jobs = [job(number) for number in range(12)]
    for one in jobs:
        connection.store.commit((PutJob(one),))
    for one in jobs[:10]:
        connection.store.commit((ended(one),))
    console, file = screen(terminal=False)
    to_end = jobs[10:]

    def stopped(_: Job) -> bool:
        if to_end:
            connection.store.commit((ended(to_end.pop()),))
        return False

    follow(connection, [one.job_id for one in jobs], console, stopped=stopped, say_every=0)

    assert "left" not in file.getvalue()


@pytest.mark.parametrize("held", [Status.HELD, Status.UNRESOLVED])
def test_what_is_held_and_the_steps_after_it_are_not_waited_for(
    connection: Connection, held: Status
) -> None:
    first = job(0, status=held, part=Part(number=0, of=2, step=1, steps=2))
    _, last = parts_of(first)
    waits = Part(number=1, of=2, step=2, steps=2, previous=first.job_id)
    after = job(1, job_id=last, status=Status.WAITING, part=waits)
    for one in (first, after):
        connection.store.commit((PutJob(one),))
    console, _ = screen(terminal=False)

    found = follow(
        connection, [first.job_id], console, stopped=lambda one: one.status is Status.HELD
    )

    assert [one.status for one in found] == [held, Status.WAITING]


def test_with_the_first_job_of_a_drop_all_of_it_is_followed(connection: Connection) -> None:
    first = job(0, part=Part(number=0, of=3, variant="a"))
    parts = [
        first,
        *(
            job(0, job_id=made, part=Part(number=number, of=3, variant=made[:3]))
            for number, made in enumerate(parts_of(first), 1)
            if made != first.job_id
        ),
    ]
    for one in parts:
        connection.store.commit((PutJob(one),))
        connection.store.commit((ended(one),))
    console, _ = screen(terminal=False)

    found = follow(connection, [first.job_id], console, stopped=lambda _: False)

    assert {one.job_id for one in found} == {one.job_id for one in parts}
    assert len(found) == 3


def test_what_was_replaced_before_all_of_it_was_entered_is_not_waited_for(
    connection: Connection,
) -> None:
    first = job(0, part=Part(number=0, of=3, variant="a"))
    connection.store.commit((PutJob(first),))
    connection.store.commit((ended(first, Status.CANCELED),))
    console, _ = screen(terminal=False)

    found = follow(connection, [first.job_id], console, stopped=lambda _: False)

    assert [one.status for one in found] == [Status.CANCELED]
