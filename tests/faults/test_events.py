"""Faults of events: twice, out of order, late, never, in bad company, about what is gone."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from retouch.errors import InputNotFetched, TryLater
from retouch.jobs import Status
from retouch.settings import Delivery
from retouch.steps.reconcile import execution_ended
from retouch.steps.submit import job_id_of, submit
from tests.fakes import (
    PHOTO,
    QWEN,
    WAN,
    WANX,
    World,
    picture,
    sha256,
    sidecar_json,
)
from tests.faults.rules import all_jobs, check_rules, play, play_for
from tests.faults.support import (
    STAGES,
    Context,
    at_stage,
    batch,
    handler,
    now,
    only_job,
    put,
    uploaded,
)


@pytest.mark.fault(1)
@pytest.mark.parametrize("model", [WANX, QWEN])
@pytest.mark.parametrize("stage", STAGES)
def test_fault_01_every_event_comes_twice_at_whatever_stage_the_job_is(
    model: str, stage: str
) -> None:
    world = World()
    for each in STAGES[: STAGES.index(stage) + 1]:
        at_stage(world, each, model)
    before = [job.version for job in all_jobs(world)]
    told = len(world.notices.events)

    for _ in range(2):
        for key in ("red.png", "red.png.json"):
            submit(world, key)
        world.kicks.kick(world.lane_of(model))
        world.kicks.kick(world.lane_of(model))
    if stage not in ("dropped", "queued"):
        assert [only_job(world).version] == before
        assert len(world.notices.events) == told
    play(world)

    job = only_job(world)
    assert job.status is Status.SUCCEEDED
    assert world.provider.billed == ["edit red"]
    assert len(world.outbox.objects["red/red-1.png"]) == 1
    assert len(world.notices.notifications) == 1
    check_rules(world)


@pytest.mark.fault(1)
@pytest.mark.parametrize("stage", ["running", "finalizing"])
def test_fault_01_the_end_of_an_execution_is_told_twice(stage: str) -> None:
    world = World()
    for each in STAGES[: STAGES.index(stage) + 1]:
        at_stage(world, each)
    job = only_job(world)
    for execution in world.executions.running():
        execution.running = False

    execution_ended(world, job.job_id, job.fence)
    execution_ended(world, job.job_id, job.fence)

    assert len(world.executions.running()) == 1
    play(world)
    assert now(world, job).status is Status.SUCCEEDED
    assert world.provider.billed == ["edit red"]
    check_rules(world)


@pytest.mark.fault(2)
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_fault_02_the_events_of_a_drop_come_in_any_order(order: tuple[int, ...]) -> None:
    world = World()
    names = ("mix.json", "one.png", "two.png", "late.png")
    world.inbox.put("mix.json", sidecar_json(QWEN, images=["one.png", "two.png", "late.png"]))
    for name in names[1:3]:
        world.inbox.put(name, PHOTO)

    for index in order:
        if names[index] == "late.png":
            world.inbox.put("late.png", PHOTO)
        submit(world, names[index])
    assert only_job(world).status is Status.QUEUED  # without any sweep
    play(world)

    job = only_job(world)
    assert job.status is Status.SUCCEEDED
    assert [image.key for image in job.images] == ["one.png", "two.png", "late.png"]
    assert len(world.provider.billed) == 1
    check_rules(world)


@pytest.mark.fault(2)
def test_fault_02_the_older_version_s_event_comes_after_the_newer_one_s() -> None:
    world = World()
    world.inbox.put("red.png", PHOTO)
    world.inbox.put("red.png.json", sidecar_json(prompt="the older one"))
    newer = world.inbox.put("red.png.json", sidecar_json(prompt="the newer one"))

    submit(world, "red.png.json")  # the newer one's
    play(world)
    submit(world, "red.png.json")  # the older one's
    play(world)

    assert only_job(world).sidecar_version == newer
    assert world.provider.billed == ["the newer one"]
    check_rules(world)


@pytest.mark.fault(2)
def test_fault_02_an_older_execution_s_end_is_told_after_a_newer_one_s_start() -> None:
    world = World()
    for stage in ("dropped", "queued", "running"):
        at_stage(world, stage)
    job = only_job(world)
    (first,) = world.executions.running()
    first.running = False
    execution_ended(world, job.job_id, job.fence)
    (second,) = world.executions.running()

    assert execution_ended(world, job.job_id, job.fence) is None  # the first one's, once more

    assert world.executions.running() == [second]
    play(world)
    assert now(world, job).status is Status.SUCCEEDED
    check_rules(world)


@pytest.mark.fault(3)
@pytest.mark.parametrize("late", ["red.png", "red.png.json"])
@pytest.mark.parametrize("minutes", [1, 10, 60])
def test_fault_03_one_of_a_drop_s_events_comes_minutes_late(late: str, minutes: int) -> None:
    world = World()
    put(world)
    (prompt_one,) = {"red.png", "red.png.json"} - {late}

    submit(world, prompt_one)
    play_for(world, minutes * 60)
    submit(world, late)
    play(world)

    assert only_job(world).status is Status.SUCCEEDED
    assert world.provider.billed == ["edit red"]
    assert len(world.notices.notifications) == 1
    check_rules(world)


@pytest.mark.fault(3)
def test_fault_03_kicks_and_ends_of_executions_come_when_all_is_over() -> None:
    world = World()
    put(world)
    submit(world, "red.png.json")
    play(world)
    job = only_job(world)
    before = dict(world.store.jobs), dict(world.store.lanes_stored)

    world.clock.advance(600)
    assert world.dispatch() == 0
    assert execution_ended(world, job.job_id, job.fence) is None

    assert (dict(world.store.jobs), dict(world.store.lanes_stored)) == before
    assert world.executions.running() == []
    check_rules(world)


SWEPT_SECONDS = 60 + 900 + 300
"""Within this every object is found: a round, a sweep, and the time that an event may take."""


@pytest.mark.fault(4)
@pytest.mark.parametrize("lost", [("red.png",), ("red.png.json",), ("red.png", "red.png.json")])
@pytest.mark.parametrize("first", ["red.png", "red.png.json"])
def test_fault_04_the_events_of_a_drop_are_never_delivered(
    lost: tuple[str, ...], first: str
) -> None:
    world = World()
    play_for(world, 200)
    data = {"red.png": PHOTO, "red.png.json": sidecar_json(prompt="edit red")}
    for key in sorted(data, key=lambda key: key != first):
        world.inbox.put(key, data[key])
        if key not in lost:
            submit(world, key)
        play_for(world, 60)

    play_for(world, SWEPT_SECONDS)
    play(world)

    job = next(job for job in all_jobs(world) if job.sidecar_version is not None)
    assert job.status is Status.SUCCEEDED
    assert job.finished_at is not None
    assert job.finished_at - job.created_at < SWEPT_SECONDS + 60
    assert world.provider.billed == ["edit red"]
    check_rules(world)


@pytest.mark.fault(4)
@pytest.mark.parametrize("names", [("a.json", "a.png"), ("sub/mix.json", "sub/deep/a.png")])
def test_fault_04_the_event_of_an_image_that_a_sidecar_waits_for_is_never_delivered(
    names: tuple[str, str],
) -> None:
    world = World()
    sidecar, image = names
    fields: dict[str, Any] = {} if sidecar == "a.json" else {"images": ["deep/a.png"]}
    world.drop(sidecar, sidecar_json(prompt="edit it", **fields))
    play_for(world, 120)
    assert only_job(world).status is Status.WAITING

    world.inbox.put(image, PHOTO)
    play_for(world, 300)
    play(world)

    job = only_job(world)
    assert job.status is Status.SUCCEEDED
    assert world.provider.billed == ["edit it"]
    check_rules(world)


@pytest.mark.fault(4)
def test_fault_04_the_event_of_a_newer_version_of_a_sidecar_is_never_delivered() -> None:
    world = World()
    put(world)
    submit(world, "red.png.json")
    play(world)
    version = world.inbox.put("red.png.json", sidecar_json(prompt="edit it anew"))

    play_for(world, SWEPT_SECONDS)
    play(world)

    newer = world.store.the_job(job_id_of("red.png.json", version))
    assert newer.status is Status.SUCCEEDED
    assert world.outbox.record("red")["job_id"] == newer.job_id
    assert world.provider.billed == ["edit red", "edit it anew"]
    check_rules(world)


@pytest.mark.fault(4)
@pytest.mark.parametrize("stage", ["running", "finalizing"])
def test_fault_04_the_end_of_an_execution_is_never_told(stage: str) -> None:
    world = World()
    for each in STAGES[: STAGES.index(stage) + 1]:
        at_stage(world, each)
    for execution in world.executions.running():
        execution.running = False  # stopped by hand, and the event of that is lost

    play(world)

    assert only_job(world).status is Status.SUCCEEDED
    assert world.provider.billed == ["edit red"]
    check_rules(world)


GOOD = ("a.png", "a.png.json", "b.png", "b.png.json")


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    "bad", ["not json", "{}", '{"source": "aws.s3", "detail": {"object": {"key": ""}}}', "[]"]
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_fault_05_an_event_that_cannot_be_read_comes_again_alone(
    monkeypatch: pytest.MonkeyPatch, bad: str, place: int
) -> None:
    world = World()
    for name in ("a", "b"):
        put(world, name)
    submit_handler = handler("submit", world, monkeypatch)
    bodies = [uploaded(key) for key in GOOD]
    bodies.insert(place, bad)

    answer = submit_handler(batch(*bodies), Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": f"message-{place}"}]}
    play(world)
    assert sorted(world.provider.billed) == ["edit a", "edit b"]
    check_rules(world)


@pytest.mark.fault(5)
def test_fault_05_an_event_whose_handling_fails_for_now_comes_again_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    for name in ("a", "b", "c"):
        put(world, name)
    submit_handler = handler("submit", world, monkeypatch)
    world.outbox.refused.add("b/job.json")
    keys = ("a.png.json", "b.png.json", "c.png.json")

    answer = submit_handler(batch(*(uploaded(key) for key in keys)), Context())

    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    world.outbox.refused.clear()
    assert submit_handler(batch(uploaded("b.png.json")), Context()) == {"batchItemFailures": []}
    play(world)
    assert sorted(world.provider.billed) == ["edit a", "edit b", "edit c"]
    assert {job.status for job in all_jobs(world)} == {Status.SUCCEEDED}
    check_rules(world)


@pytest.mark.fault(5)
def test_fault_05_a_bad_kick_and_a_lane_that_fails_leave_the_other_lanes_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    put(world, "a", WANX)
    put(world, "b", WAN)
    for name in ("a", "b"):
        submit(world, f"{name}.png.json")
    dispatch_handler = handler("dispatch", world, monkeypatch)
    world.store.before_commit.append(_refuse_for_long(world))
    world.kicks.sent.clear()
    lanes = (f'{{"lane": "{world.lane_of(WANX)}"}}', f'{{"lane": "{world.lane_of(WAN)}"}}')

    answer = dispatch_handler(batch(lanes[0], "not json", lanes[1]), Context())

    failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
    assert failed == {"message-0", "message-1"}
    assert world.provider.billed == ["edit b"]
    world.store.before_commit.clear()
    assert dispatch_handler(batch(lanes[0]), Context()) == {"batchItemFailures": []}
    play(world)
    assert sorted(world.provider.billed) == ["edit a", "edit b"]
    check_rules(world)


def _refuse_for_long(world: World) -> Callable[[], None]:
    """The table refuses the first lane's admission for longer than is waited for."""
    left = iter(range(12))

    def refuse() -> None:
        if next(left, None) is not None:
            world.store.before_commit.append(refuse)
            raise TryLater("the table is throttled", code="TableThrottled")

    return refuse


@pytest.mark.fault(6)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_06_an_image_overwritten_after_its_job_was_entered_is_sent_as_it_was(
    model: str,
) -> None:
    world = World(input_delivery=Delivery.PUSH)
    put(world, model=model)
    submit(world, "red.png.json")
    world.inbox.put("red.png", picture(600, 600, "blue"))
    submit(world, "red.png")
    play(world)

    (call,) = world.provider.calls
    assert base64.b64encode(PHOTO).decode() in repr(call.request.body)
    job = only_job(world)
    assert (job.status, job.images[0].sha256) == (Status.SUCCEEDED, sha256(PHOTO))
    check_rules(world)


@pytest.mark.fault(6)
def test_fault_06_an_image_overwritten_while_it_is_looked_at_is_one_version_throughout() -> None:
    world = World()
    put(world)
    other = picture(600, 600, "blue")
    world.inbox.before_read.append(lambda: None)  # the sidecar's own
    world.inbox.before_read.append(lambda: world.inbox.put("red.png", other))
    submit(world, "red.png.json")
    play(world)

    (source,) = only_job(world).images
    lying = {v.version_id: v.data for v in world.inbox.objects["red.png"]}
    data = lying[source.version_id or ""]
    assert data is not None
    assert (source.sha256, source.size) == (sha256(data), len(data))
    (call,) = world.provider.calls
    assert f"versionId={source.version_id}&" in repr(call.request.body)
    check_rules(world)


@pytest.mark.fault(6)
@pytest.mark.parametrize("stage", ["dropped", "queued", "running", "finalizing", "ended"])
def test_fault_06_a_sidecar_overwritten_at_whatever_stage_makes_a_job_of_its_own(
    stage: str,
) -> None:
    world = World()
    for each in STAGES[: STAGES.index(stage) + 1]:
        at_stage(world, each)
    version = world.inbox.put("red.png.json", sidecar_json(prompt="edit it anew"))

    submit(world, "red.png.json")
    submit(world, "red.png.json")  # the event of the version before
    play(world)

    newer = world.store.the_job(job_id_of("red.png.json", version))
    assert newer.status is Status.SUCCEEDED
    assert world.outbox.record("red")["job_id"] == newer.job_id
    expected = ["edit it anew"] if stage == "dropped" else ["edit it anew", "edit red"]
    assert sorted(world.provider.billed) == expected
    check_rules(world)


@pytest.mark.fault(7)
@pytest.mark.parametrize("purged", [False, True])
def test_fault_07_a_sidecar_deleted_before_its_event_starts_nothing(purged: bool) -> None:
    world = World()
    put(world)
    world.inbox.purge("red.png.json") if purged else world.inbox.put("red.png.json", None)

    assert submit(world, "red.png.json") == ()
    assert submit(world, "red.png") == ()
    play(world)

    assert (world.store.jobs, world.outbox.objects, world.provider.calls) == ({}, {}, [])


@pytest.mark.fault(7)
def test_fault_07_a_sidecar_purged_while_it_is_read_starts_nothing() -> None:
    world = World()
    put(world)
    world.inbox.before_read.append(lambda: world.inbox.purge("red.png.json"))

    submit(world, "red.png.json")
    play(world)

    assert world.store.jobs == {}
    assert world.outbox.objects == {}
    assert world.provider.calls == []
    check_rules(world)


@pytest.mark.fault(7)
@pytest.mark.parametrize("purged", [False, True])
def test_fault_07_an_image_deleted_before_its_event_is_waited_for(purged: bool) -> None:
    world = World()
    put(world)
    world.inbox.purge("red.png") if purged else world.inbox.put("red.png", None)

    submit(world, "red.png")
    submit(world, "red.png.json")
    play_for(world, 300)

    waiting = only_job(world)
    assert (waiting.status, waiting.missing) == (Status.WAITING, ("red.png",))
    assert world.outbox.record("red")["missing"] == ["red.png"]
    assert world.provider.calls == []
    world.drop("red.png", PHOTO)
    play(world)
    assert only_job(world).status is Status.SUCCEEDED
    check_rules(world)


@pytest.mark.fault(7)
def test_fault_07_an_image_purged_while_it_is_looked_at_is_said_to_be_gone() -> None:
    world = World()
    put(world)
    world.inbox.before_read.append(lambda: None)  # the sidecar's own
    world.inbox.before_read.append(lambda: world.inbox.purge("red.png"))

    submit(world, "red.png.json")
    play(world)

    job = only_job(world)
    assert job.status is Status.REJECTED
    assert "deleted" in job.problems[0].message
    assert world.provider.calls == []
    check_rules(world)


@pytest.mark.fault(7)
def test_fault_07_an_image_deleted_while_its_job_is_queued_is_sent_all_the_same() -> None:
    world = World()
    put(world)
    submit(world, "red.png.json")
    world.inbox.put("red.png", None)  # a marker; the version is still there
    world.inbox.put("red.png.json", None)

    play(world)

    assert only_job(world).status is Status.SUCCEEDED
    assert world.provider.billed == ["edit red"]
    check_rules(world)


@pytest.mark.fault(7)
@pytest.mark.parametrize("delivery", list(Delivery))
def test_fault_07_an_image_purged_while_its_job_is_queued_ends_that_job_alone(
    delivery: Delivery,
) -> None:
    world = World(input_delivery=delivery)
    for name in ("gone", "fine"):
        put(world, name)
        submit(world, f"{name}.png.json")
        world.clock.advance(1)
    world.inbox.purge("gone.png")
    if delivery is Delivery.PRESIGNED:  # then the provider is the first to find out
        said = InputNotFetched("download the media resource timed out", code="InvalidParameter")
        world.provider.next_calls.append(said)

    play(world)

    gone, fine = all_jobs(world)
    assert gone.status is Status.FAILED
    assert gone.failure is not None
    assert gone.failure.code == "InputGone"
    assert "gone.png" in gone.failure.message
    assert gone.doubt is None
    assert fine.status is Status.SUCCEEDED
    assert world.provider.billed == ["edit fine"]
    check_rules(world)


KEYS = {
    "spaces": "red shoes/a b.png",
    "plus": "a+b.png",
    "percent": "100%.png",
    "looks encoded": "a%20b%2Fc.png",
    "hash": "a#1.png",
    "all at once": "x y/a+b %20#c&d=e?f.png",
    "Chinese": "图片/红色的鞋子.png",
    "emoji": "🎨/🖼️👩‍👩‍👧.png",
    "quotes": 'it\'s "quoted" \\ <b>.png',
    "long": "x" * (1024 - len(".png.json")) + ".png",
    "long in Chinese": "图" * ((1024 - len(".png.json")) // 3) + ".png",
    "long in folders": "/".join(["y" * 100] * 10) + ".png",
}


@pytest.mark.fault(8)
@pytest.mark.parametrize("kind", KEYS)
def test_fault_08_a_key_of_any_spelling_is_paired_edited_and_answered(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    key = KEYS[kind]
    world = World()
    world.inbox.put(key, PHOTO)
    world.inbox.put(f"{key}.json", sidecar_json(prompt="edit this one"))
    submit_handler = handler("submit", world, monkeypatch)

    answer = submit_handler(batch(uploaded(key), uploaded(f"{key}.json")), Context())
    play(world)

    assert answer == {"batchItemFailures": []}
    job = only_job(world)
    assert (job.status, job.sidecar) == (Status.SUCCEEDED, f"{key}.json")
    record = world.outbox.record(job.folder)
    assert [image["key"] for image in record["inputs"]] == [key]
    if len(key.encode()) < 500:
        assert job.folder == key.removesuffix(".png")
    (result,) = job.outputs
    assert world.outbox.data(result.key) == PHOTO
    (note,) = world.notices.notifications
    assert note.message["inbox"]["key"] == f"{key}.json"
    assert note.subject.isascii()
    assert note.subject.isprintable()
    assert len(note.subject) < 100
    assert world.provider.billed == ["edit this one"]
    check_rules(world)


@pytest.mark.fault(8)
@pytest.mark.parametrize("root", ["", "/"], ids=["beside the sidecar", "from the root"])
def test_fault_08_an_image_whose_key_is_as_long_as_s3_allows_is_edited(root: str) -> None:
    world = World()
    key = "图" * 340 + ".png"
    assert len(key.encode()) == 1024
    world.inbox.put(key, PHOTO)
    world.inbox.put("a.json", sidecar_json(prompt="edit it", images=[f"{root}{key}"]))

    submit(world, "a.json")
    play(world)

    job = only_job(world)
    assert job.problems == ()
    assert (job.status, job.images[0].key) == (Status.SUCCEEDED, key)
    check_rules(world)


@pytest.mark.fault(8)
def test_fault_08_long_keys_that_begin_alike_do_not_share_their_results() -> None:
    world = World()
    begin = "x" * 1000
    for end in ("one", "two"):
        world.inbox.put(f"{begin}{end}.png", picture(512, 512, "red" if end == "one" else "blue"))
        world.drop(f"{begin}{end}.png.json", sidecar_json(prompt=f"edit {end}"))

    play(world)

    one, two = all_jobs(world)
    assert one.folder != two.folder
    assert {one.status, two.status} == {Status.SUCCEEDED}
    check_rules(world)
