"""submit: whatever the order, the number and the timing of events, one sidecar version, one job."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from retouch.errors import Conflict
from retouch.jobs import Job, Status
from retouch.steps.submit import job_id_of, submit
from tests.fakes import (
    PHOTO,
    QWEN,
    WAN,
    WANX,
    Crash,
    Moment,
    World,
    mask_picture,
    picture,
    sha256,
    sidecar_json,
)


def only_job(world: World) -> Job:
    (job_id,) = world.store.jobs
    return world.store.the_job(job_id)


def backlog(world: World, model: str = WANX) -> list[str]:
    return [entry.job_id for entry in world.store.backlog(world.lane_of(model), 100)]


# --- pairing ----------------------------------------


def test_a_sidecar_that_comes_first_waits_and_its_image_completes_it() -> None:
    world = World()

    (job_id,) = world.drop("shoes/red.png.json", sidecar_json())

    waiting = world.store.the_job(job_id)
    assert (waiting.status, waiting.missing) == (Status.WAITING, ("shoes/red.png",))
    assert world.kicks.sent == []
    assert world.outbox.record("shoes/red")["missing"] == ["shoes/red.png"]

    assert world.drop("shoes/red.png", PHOTO) == (job_id,)

    queued = world.store.the_job(job_id)
    assert (queued.status, queued.missing) == (Status.QUEUED, ())
    assert backlog(world) == [job_id]
    assert world.kicks.sent == [world.lane_of(WANX)]
    assert world.outbox.record("shoes/red")["status"] == "QUEUED"


def test_an_image_that_comes_first_starts_nothing_until_its_sidecar_comes() -> None:
    world = World()

    assert world.drop("shoes/red.png", PHOTO) == ()
    assert world.store.jobs == {}
    (job_id,) = world.drop("shoes/red.png.json", sidecar_json())

    assert world.store.the_job(job_id).status is Status.QUEUED
    assert backlog(world) == [job_id]


def test_the_job_names_the_exact_version_of_its_image_and_sidecar() -> None:
    world = World()
    world.inbox.put("red.png", picture(600, 600))
    image_version = world.inbox.put("red.png", PHOTO)
    sidecar_version = world.inbox.put("red.png.json", sidecar_json())

    submit(world, "red.png.json")

    job = only_job(world)
    (source,) = job.images
    assert (source.key, source.version_id) == ("red.png", image_version)
    assert (source.sha256, source.size) == (sha256(PHOTO), len(PHOTO))
    assert (source.mime, source.width, source.height) == ("image/png", 512, 512)
    assert job.sidecar_version == sidecar_version
    assert job.job_id == job_id_of("red.png.json", sidecar_version)


def test_a_name_without_the_image_s_suffix_finds_its_image_too() -> None:
    for first, second in (("a.json", "a.png"), ("a.png", "a.json")):
        world = World()
        data = {"a.json": sidecar_json(), "a.png": PHOTO}
        world.drop(first, data[first])
        world.drop(second, data[second])

        job = only_job(world)
        assert (job.status, job.folder) == (Status.QUEUED, "a")
        assert [image.key for image in job.images] == ["a.png"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_named_images_and_their_sidecar_may_come_in_any_order(order: tuple[int, ...]) -> None:
    world = World()
    names = ["one.png", "sub/two.png", "/far/three.png"]
    objects = [
        ("mix/all.json", sidecar_json(QWEN, images=names)),
        ("mix/one.png", PHOTO),
        ("mix/sub/two.png", PHOTO),
        ("far/three.png", PHOTO),
    ]

    for index in order[:-1]:
        world.drop(*objects[index])
        assert backlog(world, QWEN) == []
    world.drop(*objects[order[-1]])

    job = only_job(world)
    assert job.status is Status.QUEUED
    assert [i.key for i in job.images] == ["mix/one.png", "mix/sub/two.png", "far/three.png"]
    assert backlog(world, QWEN) == [job.job_id]


def test_a_job_with_a_mask_waits_for_the_mask_as_well() -> None:
    world = World()
    world.drop("cup.png", PHOTO)
    world.drop(
        "cup.png.json",
        sidecar_json(function="description_edit_with_mask", mask="cup.mask.png"),
    )
    assert only_job(world).missing == ("cup.mask.png",)

    world.drop("cup.mask.png", mask_picture())

    job = only_job(world)
    assert job.status is Status.QUEUED
    assert job.mask is not None
    assert (job.mask.key, job.mask.sha256) == ("cup.mask.png", sha256(mask_picture()))


@pytest.mark.parametrize("key", ["cup.mask.png", "lonely.jpg", "notes.txt"])
def test_an_object_that_no_sidecar_names_starts_nothing(key: str) -> None:
    world = World()

    assert world.drop(key, mask_picture()) == ()

    assert world.store.jobs == {}
    assert world.outbox.objects == {}
    assert world.kicks.sent == []


@pytest.mark.parametrize(
    "key", ["shoes/", ".hidden/a.json", "a.json.part", "~a.json", "_preset.json", "x.schema.json"]
)
def test_names_that_the_documented_rule_ignores_start_nothing(key: str) -> None:
    world = World()

    assert world.drop(key, sidecar_json()) == ()

    assert world.store.jobs == {}


def test_one_image_completes_every_sidecar_that_names_it() -> None:
    world = World()
    (first,) = world.drop("a.json", sidecar_json(images=["logo.png"]))
    (second,) = world.drop("b.json", sidecar_json(images=["logo.png"]))

    concerned = world.drop("logo.png", PHOTO)

    assert set(concerned) == {first, second}
    assert set(backlog(world)) == {first, second}


def test_text_to_image_needs_no_image() -> None:
    world = World()

    world.drop("ideas/sun.json", sidecar_json(WAN, images=[]))

    job = only_job(world)
    assert (job.status, job.images, job.folder) == (Status.QUEUED, (), "ideas/sun")


def test_an_image_url_is_passed_on_and_never_looked_at() -> None:
    world = World()
    url = "https://img.example.com/a.png?token=1"

    world.drop("far.json", sidecar_json(images=[url]))

    job = only_job(world)
    assert job.status is Status.QUEUED
    assert [(image.key, image.is_url) for image in job.images] == [(url, True)]
    assert set(world.inbox.heads) == {"far.json"}
    assert world.provider.fetched == []
    world.dispatch()
    sent = json.dumps(world.provider.calls[0].request.body)
    assert url in sent
    assert world.inbox.presigned == []


@pytest.mark.parametrize(
    "key",
    ["red shoes/a b.png", "a+b%20c#d.png", "图片/红色.png", "🎨/🖼️.png", "x" * 900 + ".png"],
)
def test_keys_of_every_spelling_are_paired(key: str) -> None:
    world = World()

    world.drop(key, PHOTO)
    (job_id,) = world.drop(f"{key}.json", sidecar_json())

    job = world.store.the_job(job_id)
    assert (job.status, job.images[0].key) == (Status.QUEUED, key)
    assert world.outbox.record(job.folder)["inputs"][0]["key"] == key


def test_a_sidecar_whose_key_is_as_long_as_s3_allows_gets_a_record_its_owner_can_see() -> None:
    # Fault 8: a key of 1,024 bytes.
    world = World()
    key = "x" * (1024 - len(".json")) + ".json"

    (job_id,) = world.drop(key, sidecar_json(WAN, images=[]))

    records = [
        json.loads(versions[-1].data)
        for name, versions in world.outbox.objects.items()
        if name.endswith("job.json")
    ]
    assert [record["job_id"] for record in records] == [job_id]


# --- repeats ----------------------------------------


def test_a_redelivered_event_changes_nothing_and_notifies_nobody() -> None:
    world = World()
    world.drop("red.png", PHOTO)
    (job_id,) = world.drop("red.png.json", sidecar_json())
    before = (dict(world.store.jobs), len(world.notices.events), dict(world.outbox.objects))

    for key in ("red.png.json", "red.png", "red.png.json"):
        assert submit(world, key) == (job_id,)

    assert (dict(world.store.jobs), len(world.notices.events), dict(world.outbox.objects)) == before
    assert backlog(world) == [job_id]


def test_a_redelivered_event_of_a_waiting_job_changes_nothing() -> None:
    world = World()
    (job_id,) = world.drop("red.png.json", sidecar_json())
    events = len(world.notices.events)

    assert submit(world, "red.png.json") == (job_id,)

    assert world.store.the_job(job_id).version == 1
    assert len(world.notices.events) == events


def test_a_redelivery_after_the_job_has_ended_enters_it_no_second_time() -> None:
    world = World()
    job = world.finalizing_job()
    world.finalize(job.job_id, job.fence)
    notified = len(world.notices.notifications)

    submit(world, job.sidecar)
    world.dispatch()

    assert len(world.provider.billed) == 1
    assert len(world.notices.notifications) == notified == 1


def test_a_lost_kick_is_made_up_for_by_the_redelivered_event() -> None:
    world = World()
    job = world.enter()
    world.kicks.sent.clear()  # lost

    submit(world, job.sidecar)

    assert world.kicks.sent == [job.lane]


def test_two_deliveries_at_once_enter_one_job() -> None:
    # Fault 16: the second delivery runs through while the first is about to commit.
    world = World()
    world.inbox.put("red.png", PHOTO)
    world.inbox.put("red.png.json", sidecar_json())
    world.store.before_commit.append(lambda: submit(world, "red.png"))

    (job_id,) = submit(world, "red.png.json")

    assert backlog(world) == [job_id]
    assert [job.status for job in world.store.history] == [Status.QUEUED]
    assert world.kicks.sent == [world.lane_of(WANX)] * 2


def test_two_deliveries_of_a_rejected_drop_at_once_reject_it_once() -> None:
    world = World()
    world.inbox.put("red.png.json", b"{")
    world.store.before_commit.append(lambda: submit(world, "red.png.json"))

    (job_id,) = submit(world, "red.png.json")

    assert world.store.terminal_statuses(job_id) == [Status.REJECTED]
    assert len(world.notices.notifications) == 1


def test_an_image_that_arrives_while_its_sidecar_is_handled_is_not_missed() -> None:
    # The image comes after the sidecar's handler looked for it and before it noted the wait.
    world = World()
    world.inbox.put("red.png.json", sidecar_json())
    world.store.before_commit.append(lambda: world.drop("red.png", PHOTO))

    submit_again_on_conflict(world, "red.png.json")

    job = only_job(world)
    assert job.status is Status.QUEUED
    assert backlog(world) == [job.job_id]


def test_two_images_that_arrive_at_once_complete_their_sidecar() -> None:
    world = World()
    world.drop("mix.json", sidecar_json(QWEN, images=["one.png", "two.png"]))
    world.inbox.put("one.png", PHOTO)
    world.inbox.put("two.png", PHOTO)
    world.store.before_commit.append(lambda: submit(world, "two.png"))

    submit(world, "one.png")

    job = only_job(world)
    assert job.status is Status.QUEUED
    assert backlog(world, QWEN) == [job.job_id]


def submit_again_on_conflict(world: World, key: str) -> None:
    """As the queue does: a failed delivery comes again."""
    try:
        submit(world, key)
    except Conflict:
        submit(world, key)


def test_every_crash_of_a_delivery_is_mended_by_its_repetition() -> None:
    for moment in Moment:
        for number in itertools.count(1):
            world = World()
            world.inbox.put("red.png", PHOTO)
            world.inbox.put("red.png.json", sidecar_json())
            world.effects.crash_at(number, moment)
            try:
                submit(world, "red.png.json")
            except Crash:
                world.effects.heal()
                submit(world, "red.png.json")
            else:
                break
            job = only_job(world)
            assert job.status is Status.QUEUED, (number, moment)
            assert backlog(world) == [job.job_id], (number, moment)
            assert world.kicks.sent, (number, moment)
            world.clock.advance(100)
            world.reconcile()  # tells what the dead one did not come to
            assert world.outbox.record("red")["status"] == "QUEUED", (number, moment)
            assert world.store.unpublished(world.clock.now()) == [], (number, moment)
        assert number > 5  # the loop went through the effects there are


def test_every_crash_of_an_image_s_delivery_is_mended_by_its_repetition() -> None:
    # The sidecar has been handled long ago; only the image's own event comes again.
    for moment in Moment:
        for number in itertools.count(1):
            world = World()
            world.drop("mix.json", sidecar_json(QWEN, images=["one.png"]))
            world.kicks.sent.clear()
            world.inbox.put("one.png", PHOTO)
            world.effects.crash_at(number, moment)
            try:
                submit(world, "one.png")
            except Crash:
                world.effects.heal()
                submit(world, "one.png")
            else:
                break
            job = only_job(world)
            assert job.status is Status.QUEUED, (number, moment)
            assert backlog(world, QWEN) == [job.job_id], (number, moment)
            # Its kick may be left to reconcile, which kicks every lane with work.
            world.clock.advance(100)
            world.reconcile()
            assert world.kicks.sent, (number, moment)
            assert world.outbox.record("mix")["status"] == "QUEUED", (number, moment)
        assert number > 5


# --- newer versions ----------------------------------------


def test_a_new_version_of_a_sidecar_makes_a_new_job() -> None:
    world = World()
    world.drop("red.png", PHOTO)
    (first,) = world.drop("red.png.json", sidecar_json(prompt="one"))
    (second,) = world.drop("red.png.json", sidecar_json(prompt="two"))

    assert first != second
    assert world.store.the_job(second).prompt == "two"
    assert backlog(world) == [first, second]


def test_an_older_version_that_still_waits_is_canceled_by_the_newer() -> None:
    world = World()
    (first,) = world.drop("red.png.json", sidecar_json(prompt="one"))
    (second,) = world.drop("red.png.json", sidecar_json(prompt="two"))

    old = world.store.the_job(first)
    assert old.status is Status.CANCELED
    assert "newer version" in old.problems[0].message
    assert world.store.the_job(second).status is Status.WAITING
    assert world.outbox.record("red")["job_id"] == second

    world.drop("red.png", PHOTO)

    assert backlog(world) == [second]


def test_an_event_of_an_overwritten_version_is_about_what_lies_there_now() -> None:
    # Fault 6: two versions were dropped before the first event came.
    world = World()
    world.inbox.put("red.png", PHOTO)
    world.inbox.put("red.png.json", sidecar_json(prompt="one"))
    world.inbox.put("red.png.json", sidecar_json(prompt="two"))

    submit(world, "red.png.json")
    submit(world, "red.png.json")

    assert only_job(world).prompt == "two"


def test_an_event_of_a_deleted_sidecar_starts_nothing() -> None:
    world = World()
    world.inbox.put("red.png.json", sidecar_json())
    world.inbox.put("red.png.json", None)

    assert submit(world, "red.png.json") == ()
    assert world.store.jobs == {}


def test_a_job_waits_for_an_image_that_was_deleted_meanwhile() -> None:
    # Fault 7.
    world = World()
    world.inbox.put("red.png", PHOTO)
    world.inbox.put("red.png", None)

    world.drop("red.png.json", sidecar_json())

    job = only_job(world)
    assert (job.status, job.missing) == (Status.WAITING, ("red.png",))


def test_an_image_purged_between_look_and_read_is_said_to_be_gone() -> None:
    world = World()
    world.inbox.put("red.png", PHOTO)
    world.inbox.put("red.png.json", sidecar_json())
    world.inbox.before_read.append(lambda: None)  # the sidecar is read first
    world.inbox.before_read.append(lambda: world.inbox.purge("red.png"))

    submit(world, "red.png.json")

    job = only_job(world)
    assert job.status is Status.REJECTED
    assert [(p.field, "deleted" in p.message) for p in job.problems] == [("images", True)]


# --- two for one ----------------------------------------


@pytest.mark.parametrize("order", [("a.png.json", "a.json"), ("a.json", "a.png.json")])
def test_of_two_sidecars_for_one_image_the_full_name_wins(order: tuple[str, str]) -> None:
    # Fault 15.
    world = World()
    for key in order:
        world.drop(key, sidecar_json())
    world.drop("a.png", PHOTO)

    by_sidecar = {job.sidecar: job for job in map(world.store.the_job, world.store.jobs)}
    assert by_sidecar["a.png.json"].status is Status.QUEUED
    loser = by_sidecar["a.json"]
    assert loser.status is Status.REJECTED
    assert "a.png.json" in loser.problems[0].message
    assert backlog(world) == [by_sidecar["a.png.json"].job_id]


def test_the_record_of_the_winning_sidecar_is_not_overwritten_by_the_loser_s() -> None:
    # Both stand for the same image, so both records would have the same name.
    world = World()
    world.drop("a.png", PHOTO)
    (winner,) = world.drop("a.png.json", sidecar_json())

    world.drop("a.json", sidecar_json())

    assert world.outbox.record("a")["job_id"] == winner


def test_two_images_that_a_name_could_mean_are_refused_by_name() -> None:
    world = World()
    world.drop("a.jpg", picture(kind="JPEG"))
    world.drop("a.png", PHOTO)

    world.drop("a.json", sidecar_json())

    job = only_job(world)
    assert job.status is Status.REJECTED
    (problem,) = job.problems
    assert problem.field == "images"
    assert "a.jpg" in problem.message
    assert "a.png" in problem.message


def test_a_short_name_finds_its_image_among_many_others_that_begin_alike() -> None:
    world = World()
    for number in range(60):
        world.inbox.put(f"a.{number:03d}.png", PHOTO)
    world.inbox.put("a.png", PHOTO)

    world.drop("a.json", sidecar_json())

    assert [image.key for image in only_job(world).images] == ["a.png"]


# --- what is wrong ----------------------------------------


REJECTED: dict[str, tuple[dict[str, bytes], str, str]] = {
    # what lies there, the field that is named, a word of the message
    "not JSON": ({"a.png.json": b"{oops"}, "", "not JSON"),
    "not UTF-8": ({"a.png.json": b'{"model": "\xff"}'}, "", "UTF-8"),
    "a field twice": ({"a.png.json": b'{"model": "x", "model": "y"}'}, "", "twice"),
    "NaN": ({"a.png.json": b'{"priority": NaN}'}, "", "NaN"),
    "10,000 levels deep": ({"a.png.json": b"[" * 10_000 + b"]" * 10_000}, "", "deep"),
    "a list": ({"a.png.json": b"[]"}, "", "object"),
    "too large": ({"a.png.json": b" " * (256 * 1024 + 1)}, "", "bytes"),
    "unknown model": ({"a.png.json": sidecar_json("dall-e")}, "model", "dall-e"),
    "unknown field": ({"a.png.json": sidecar_json(colour="red")}, "colour", "not a field"),
    "parameter out of range": (
        {"a.png.json": sidecar_json(parameters={"n": 9})},
        "parameters.n",
        "nearest 4",
    ),
    "prompt too long": ({"a.png.json": sidecar_json(prompt="x" * 801)}, "prompt", "800"),
    "not an image": (
        {"a.png.json": sidecar_json(), "a.png": b"no image"},
        "images",
        "not a readable",
    ),
    "an empty image": ({"a.png.json": sidecar_json(), "a.png": b""}, "images", "empty"),
    "a truncated image": (
        {"a.png.json": sidecar_json(), "a.png": PHOTO[:-20]},
        "images",
        "cut off",
    ),
    "an image too small": (
        {"a.png.json": sidecar_json(), "a.png": picture(511, 512)},
        "images",
        "511×512",
    ),
    "a format the model lacks": (
        {"a.png.json": sidecar_json(), "a.png": picture(kind="GIF")},
        "images",
        "GIF",
    ),
    "transparency": (
        {"a.png.json": sidecar_json(WAN), "a.png": picture(mode="RGBA")},
        "images",
        "transparency",
    ),
    "an image too large": (
        {"a.png.json": sidecar_json(), "a.png": PHOTO + b"\0" * (10 * 1024 * 1024)},
        "images",
        "MB",
    ),
    "a mask of another size": (
        {
            "a.png.json": sidecar_json(function="description_edit_with_mask", mask="m.png"),
            "a.png": PHOTO,
            "m.png": mask_picture(512, 600),
        },
        "mask",
        "512×600",
    ),
    "a grey mask": (
        {
            "a.png.json": sidecar_json(function="description_edit_with_mask", mask="m.png"),
            "a.png": PHOTO,
            "m.png": picture(colour="grey"),
        },
        "mask",
        "black",
    ),
    "a mask that is no image": (
        {
            "a.png.json": sidecar_json(function="description_edit_with_mask", mask="m.png"),
            "a.png": PHOTO,
            "m.png": b"no image",
        },
        "mask",
        "not a readable",
    ),
    "a box outside its image": (
        {
            "a.png.json": sidecar_json(WAN, parameters={"bbox_list": [[[0, 0, 600, 100]]]}),
            "a.png": PHOTO,
        },
        "parameters.bbox_list[0]",
        "outside",
    ),
}


@pytest.mark.parametrize("fault", REJECTED)
def test_a_drop_with_a_fault_is_rejected_before_it_costs_anything(fault: str) -> None:
    objects, named, word = REJECTED[fault]
    world = World()
    for key, data in objects.items():
        world.inbox.put(key, data)

    submit(world, "a.png.json")

    job = only_job(world)
    assert job.status is Status.REJECTED
    (problem,) = job.problems
    assert problem.field == named
    assert word in problem.message
    record = world.outbox.record("a")
    assert (record["status"], record["problems"][0]["field"]) == ("REJECTED", named)
    assert world.kicks.sent == []
    (notification,) = world.notices.notifications
    assert notification.attributes["status"] == "REJECTED"


def test_a_grey_mask_is_refused_where_its_image_is_passed_on_by_url_too() -> None:
    world = World()
    world.inbox.put("m.png", picture(colour="grey"))

    world.drop(
        "a.json",
        sidecar_json(
            function="description_edit_with_mask",
            images=["https://img.example.com/a.png"],
            mask="m.png",
        ),
    )

    assert [problem.field for problem in only_job(world).problems] == ["mask"]


def test_every_problem_is_reported_at_once() -> None:
    world = World()

    world.drop(
        "a.png.json", sidecar_json(prompt=" ", parameters={"n": 0, "seed": -1}, priority="high")
    )

    assert {problem.field for problem in only_job(world).problems} == {
        "prompt",
        "parameters.n",
        "parameters.seed",
        "priority",
    }


def test_problems_of_every_image_are_reported_at_once() -> None:
    world = World()
    world.inbox.put("one.png", b"no image")
    world.inbox.put("two.png", b"")

    world.drop("mix.json", sidecar_json(QWEN, images=["one.png", "two.png"]))

    assert {problem.field for problem in only_job(world).problems} == {"images[0]", "images[1]"}


def test_a_sidecar_with_thousands_of_problems_still_gets_a_record() -> None:
    # As large as a sidecar may be, and every field of it wrong: the record must fit its table.
    world = World()
    wrong: dict[str, Any] = {f"{number:05d}": 0 for number in range(20_000)}

    world.drop("a.png.json", sidecar_json(**wrong))

    assert only_job(world).status is Status.REJECTED
    assert world.outbox.record("a")["status"] == "REJECTED"


def test_a_mended_sidecar_makes_the_job_that_the_broken_one_did_not() -> None:
    world = World()
    world.drop("a.png", PHOTO)
    (broken,) = world.drop("a.png.json", b"{")
    (mended,) = world.drop("a.png.json", sidecar_json())

    assert world.store.the_job(broken).status is Status.REJECTED
    assert world.store.the_job(mended).status is Status.QUEUED
    assert world.outbox.record("a")["job_id"] == mended


def test_warnings_are_recorded_and_do_not_stop_the_job() -> None:
    world = World()
    world.inbox.put("a.png", PHOTO)

    world.drop("a.png.json", sidecar_json(WAN, parameters={"thinking_mode": True}))

    job = only_job(world)
    assert job.status is Status.QUEUED
    assert [warning.field for warning in job.warnings] == ["parameters.thinking_mode"]


def test_priority_and_arrival_order_the_backlog() -> None:
    world = World()
    low = world.enter("low", priority=1).job_id
    world.clock.advance(1)
    first = world.enter("first").job_id
    world.clock.advance(1)
    second = world.enter("second").job_id
    world.clock.advance(1)
    high = world.enter("high", priority=9).job_id

    assert backlog(world) == [high, first, second, low]


def test_a_job_keeps_the_place_of_its_sidecar_s_arrival_while_it_waits_for_images() -> None:
    world = World()
    (waiting,) = world.drop("early.png.json", sidecar_json())
    world.clock.advance(60)
    late = world.enter("late").job_id

    world.drop("early.png", PHOTO)

    assert backlog(world) == [waiting, late]


def test_a_broken_sidecar_and_broken_images_are_told_of_at_once() -> None:
    world = World()
    world.inbox.put("flat.png", PHOTO)
    world.inbox.put("small.png", picture(200, 900))
    world.inbox.put("glass.png", picture(mode="RGBA"))

    world.drop(
        "a.json",
        sidecar_json(
            WAN,
            images=["flat.png", "small.png", "glass.png"],
            parameters={"n": 9, "bbox_list": [[], [], [[0, 0, 9999, 10]]]},
            lables={},
        ),
    )

    job = only_job(world)
    assert job.status is Status.REJECTED
    assert {problem.field for problem in job.problems} == {
        "lables",
        "parameters.n",
        "images[1]",
        "images[2]",
        "parameters.bbox_list[2]",
    }


def test_a_broken_sidecar_does_not_wait_for_images() -> None:
    world = World()

    world.drop("a.json", sidecar_json(WAN, images=["nowhere.png"], parameters={"n": 9}))

    assert only_job(world).status is Status.REJECTED


def test_a_job_is_there_to_be_seen_before_its_images_are_mended() -> None:
    # Mending may take longer than the function lives.
    world = World()
    world.inbox.put("a.png", picture(mode="RGBA"))
    world.effects.plan = lambda _, name: Moment.BEFORE if "/sent/" in name else None

    with pytest.raises(Crash):
        world.drop("a.png.json", sidecar_json(WAN, fit=True))

    assert world.outbox.record("a")["status"] == "WAITING"
    world.effects.heal()
    submit(world, "a.png.json")
    assert only_job(world).status is Status.QUEUED
    assert world.outbox.record("a")["inputs"][0]["mended"]["changes"] == [
        "flattened transparency onto white"
    ]


@pytest.mark.parametrize(
    ("images", "boxes", "expected"),
    [
        pytest.param(
            ["a.png", "b.png"], [[]], {"parameters.bbox_list"}, id="too few lists of boxes"
        ),
        pytest.param(
            ["../a.png", "b.png"], [[], [[0, 0, 9, 9]]], {"images[0]"}, id="a name that is refused"
        ),
        pytest.param(
            ["../a.png", "glass.png"],
            [[], [[0, 0, 9999, 9]]],
            {"images[0]", "images[1]", "parameters.bbox_list[1]"},
            id="the others keep their places",
        ),
        pytest.param(
            ["a.png", 7],
            "none",
            {"images[1]", "parameters.bbox_list"},
            id="nothing is as it should",
        ),
    ],
)
@pytest.mark.parametrize("fit", [False, True])
def test_a_refused_sidecar_s_images_are_examined_at_their_places(
    images: list[Any], boxes: Any, expected: set[str], fit: bool
) -> None:
    world = World()
    for name in ("a.png", "b.png"):
        world.inbox.put(name, PHOTO)
    world.inbox.put("glass.png", picture(mode="RGBA"))

    world.drop("x.json", sidecar_json(WAN, images=images, fit=fit, parameters={"bbox_list": boxes}))

    job = only_job(world)
    assert job.status is Status.REJECTED
    mended = {"images[1]"} if fit and "glass.png" in images else set()
    assert {problem.field for problem in job.problems} == expected - mended


def test_images_are_read_once_when_all_are_there_and_not_while_one_is_missing() -> None:
    world = World()
    names = [f"{number}.png" for number in range(4)]
    world.drop("a.json", sidecar_json(WAN, images=names, fit=True))
    for name in names:
        world.drop(name, picture(mode="RGBA"))

    assert only_job(world).status is Status.QUEUED
    assert [key for key in world.inbox.read_keys if key.endswith(".png")] == names
