"""records.publish: the latest state is what the world sees last, and an end is told of once."""

from __future__ import annotations

import json

import pytest

from retouch.jobs import Finding, Job, Status, settle, wait_for
from retouch.records import publish, record
from tests.fakes import START, Crash, Moment, World


@pytest.fixture(autouse=True)
def published_schemas() -> None:
    """These jobs are made up and come to states by jumps, so they keep to none."""


def stored_job(world: World, name: str = "a") -> Job:
    job = Job(
        job_id=name * 16,
        status=Status.WAITING,
        created_at=START,
        updated_at=START,
        sidecar=f"{name}.png.json",
        sidecar_version="v1",
        folder=name,
    )
    waiting, writes = wait_for(job, START, (f"{name}.png",))
    world.store.commit(writes)
    return waiting


def move_on(world: World, job_id: str, status: Status = Status.REJECTED) -> None:
    job = world.store.the_job(job_id)
    if status.settled:
        now = world.clock.now()
        _, writes = settle(job, now, status, ended_at=now)
    else:
        _, writes = wait_for(job, world.clock.now(), ("other.png",))
    world.store.commit(writes)


def test_what_is_stored_is_what_is_published() -> None:
    world = World()
    job = stored_job(world)

    publish(world, world.store.the_job(job.job_id))

    assert world.outbox.record("a") == json.loads(json.dumps(record(job)))
    assert world.outbox.objects["a/job.json"][-1].content_type.startswith("application/json")
    (event,) = world.notices.events
    assert (event["status"], event["revision"]) == ("WAITING", 1)
    assert event["inbox"] == {"bucket": "the-inbox", "key": "a.png.json", "version_id": "v1"}
    assert event["outbox"]["record"] == "a/job.json"
    assert world.store.published(job.job_id) == 1
    assert world.store.unpublished(world.clock.now() + 1) == []


def test_a_change_that_happens_while_publishing_is_on_record_last_and_told_by_its_own_maker() -> (
    None
):
    world = World()
    job = stored_job(world)
    world.outbox.before_put.append(lambda: move_on(world, job.job_id))

    publish(world, job)

    assert world.outbox.record("a")["status"] == "REJECTED"
    assert world.notices.statuses(job.job_id) == ["WAITING"]
    assert world.store.unpublished(world.clock.now() + 1) == [(job.job_id, 2)]  # still to be told

    publish(world, world.store.the_job(job.job_id))

    assert world.notices.statuses(job.job_id) == ["WAITING", "REJECTED"]
    assert len(world.notices.notifications) == 1
    assert world.store.unpublished(world.clock.now() + 1) == []


def test_a_newer_publisher_that_overtakes_leaves_the_newer_state_last() -> None:
    # The slow one read the older state; the fast one changed it and published it meanwhile.
    world = World()
    job = stored_job(world)

    def overtake() -> None:
        move_on(world, job.job_id)
        publish(world, world.store.the_job(job.job_id))

    world.outbox.before_put.append(overtake)

    publish(world, job)

    assert world.outbox.record("a")["status"] == "REJECTED"
    assert len(world.notices.notifications) == 1


def test_an_overtaken_publisher_that_dies_does_not_leave_the_older_state_for_good() -> None:
    # The overtaken one dies right after it wrote the older record over the newer.
    world = World()
    job = stored_job(world)

    def overtake() -> None:
        move_on(world, job.job_id)
        publish(world, world.store.the_job(job.job_id))
        world.effects.plan = lambda _, name: Moment.AFTER if name == "put a/job.json" else None

    world.outbox.before_put.append(overtake)
    with pytest.raises(Crash):
        publish(world, job)
    world.effects.heal()

    world.clock.advance(1000)
    world.reconcile()

    assert world.outbox.record("a")["status"] == "REJECTED"


@pytest.mark.parametrize("status", [s for s in Status if s.settled])
def test_every_end_is_told_of_once(status: Status) -> None:
    world = World()
    job = stored_job(world)
    publish(world, job)
    assert world.notices.notifications == []
    move_on(world, job.job_id, status)

    publish(world, world.store.the_job(job.job_id))
    world.clock.advance(1000)
    world.reconcile()

    (note,) = world.notices.notifications
    assert note.attributes["status"] == str(status)
    assert note.subject == f"retouch {status}: a.png.json"


def test_a_subject_is_what_the_topic_takes() -> None:
    world = World()
    name = "图片/" + "x" * 200 + "\n.png"
    job = Job(
        job_id="a" * 16,
        status=Status.WAITING,
        created_at=START,
        updated_at=START,
        sidecar=f"{name}.json",
        sidecar_version="v1",
        folder=name,
    )
    _, writes = settle(job, START, Status.REJECTED)
    world.store.commit(writes)

    publish(world, world.store.the_job(job.job_id))

    (note,) = world.notices.notifications
    assert len(note.subject) <= 100
    assert note.subject.isascii()
    assert note.subject.isprintable()
    assert all(note.attributes.values())  # SNS takes no empty one


def test_a_drop_at_the_root_has_a_folder_to_filter_on() -> None:
    world = World()
    job = stored_job(world)
    move_on(world, job.job_id)
    publish(world, world.store.the_job(job.job_id))

    assert world.notices.notifications[0].attributes["folder"] == "/"


def test_a_url_s_query_is_not_on_record() -> None:
    world = World()
    url = "https://img.example.com/a.png?token=secret"
    job = world.enter("b", images=[url])

    assert world.outbox.record("b")["inputs"] == [
        {"url": "https://img.example.com/a.png", "sent_as": None}
    ]
    assert world.store.the_job(job.job_id).images[0].key == url


def test_problems_and_warnings_are_on_record_with_their_paths() -> None:
    job = Job(
        job_id="a" * 16,
        status=Status.REJECTED,
        created_at=START,
        updated_at=START,
        sidecar="a.json",
        sidecar_version=None,
        folder="a",
        problems=(Finding(field="parameters.n", message="9 is not"),),
    )

    said = record(job)

    assert said["problems"] == [{"field": "parameters.n", "message": "9 is not"}]
    assert said["request"] is None
