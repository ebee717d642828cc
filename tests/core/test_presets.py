"""Presets: defaults for sidecars, whole jobs for images alone, and what a change of them means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from retouch import keys
from retouch.budget import Budget
from retouch.jobs import Job, NoteLatest, PutJob, Status
from retouch.ports import SETTLE_SECONDS
from retouch.records import place
from retouch.steps.submit import job_id_of, job_of, submit
from tests.fakes import (
    OVERDUE_SECONDS,
    PHOTO,
    WAN,
    WANX,
    World,
    mask_picture,
    picture,
    sidecar_json,
)

WHOLE = {"model": WANX, "function": "description_edit", "prompt": "a white background"}
VARIANTS = [{"name": "blue", "prompt": "in blue"}, {"name": "red", "prompt": "in red"}]


def preset(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode("utf-8")


def of_image(world: World, key: str) -> Job:
    """The job that presets made of an image's current version."""
    there = world.inbox.head(key)
    assert there is not None
    return world.store.the_job(job_id_of(key, there.version_id))


def wait_for_sidecar(world: World) -> None:
    """The moment passes that an image is given for its sidecar to come."""
    world.deliver()
    world.clock.advance(SETTLE_SECONDS)
    world.deliver()


# --- an image alone ----------------------------------------


def test_an_image_alone_under_a_preset_is_a_job_of_its_own() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE, labels={"team": "shop"}))
    world.drop("shoes/red.png", PHOTO)

    world.run(60)

    job = of_image(world, "shoes/red.png")
    assert job.status is Status.SUCCEEDED
    assert world.outbox.results() == ["shoes/red/red-1.png"]
    record = world.outbox.record("shoes/red")
    assert record["presets"] == [{"key": "shoes/_preset.json", "version_id": "v0001"}]
    assert record["labels"] == {"team": "shop"}
    assert record["sidecar"] == {"key": "shoes/red.png.json", "version_id": None}


def test_it_waits_a_moment_for_its_sidecar_which_then_makes_the_one_job() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE))
    world.drop("shoes/red.png", PHOTO)
    world.deliver()
    assert not world.store.jobs

    (job_id,) = world.drop("shoes/red.png.json", sidecar_json(prompt="as I say"))
    wait_for_sidecar(world)

    assert set(world.store.jobs) == {job_id}
    assert world.store.the_job(job_id).prompt == "as I say"


def test_a_sidecar_that_comes_while_the_image_s_own_job_is_queued_replaces_it() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE))
    world.drop("shoes/red.png", PHOTO)
    wait_for_sidecar(world)
    own = of_image(world, "shoes/red.png")
    assert own.status is Status.QUEUED

    (job_id,) = world.drop("shoes/red.json", sidecar_json(prompt="as I say"))
    world.run(60)

    assert world.store.the_job(own.job_id).status is Status.CANCELED
    assert world.store.the_job(job_id).status is Status.SUCCEEDED
    assert world.provider.billed == ["as I say"]
    assert world.outbox.record("shoes/red")["job_id"] == job_id


def test_one_version_of_an_image_is_one_job_however_often_its_event_comes() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE))
    for _ in range(3):
        world.inbox.objects.get("shoes/red.png") or world.inbox.put("shoes/red.png", PHOTO)
        submit(world, "shoes/red.png")
    world.run(60)
    submit(world, "shoes/red.png", settled=True)
    world.run(60)

    assert len(world.provider.billed) == 1
    world.drop("shoes/red.png", picture(600, 600))
    world.run(60)
    assert len(world.provider.billed) == 2


def test_images_that_came_before_their_preset_start_with_it() -> None:
    world = World()
    for name in ("a", "b"):
        world.drop(f"shoes/{name}.png", PHOTO)
    world.drop("hats/c.png", PHOTO)
    world.run(OVERDUE_SECONDS + 120)  # by now there are records of what is missing
    assert world.outbox.record("shoes/a")["missing"] == ["shoes/a.png.json"]

    world.drop("shoes/_preset.json", preset(**WHOLE))
    world.run(60)

    assert sorted(world.outbox.results()) == ["shoes/a/a-1.png", "shoes/b/b-1.png"]
    assert world.outbox.record("shoes/a")["status"] == "SUCCEEDED"
    assert list(world.store.recorded) == ["hats/c.png"]


def test_the_record_of_an_older_version_is_closed_when_a_preset_takes_the_newer_one_on() -> None:
    world = World()
    world.drop("shoes/a.png", PHOTO)
    world.run(OVERDUE_SECONDS + 120)
    stood_for = world.outbox.record("shoes/a")["job_id"]
    world.drop("shoes/a.png", picture(600, 600))

    world.drop("shoes/_preset.json", preset(**WHOLE))
    world.run(60)

    assert world.store.the_job(stood_for).status is Status.CANCELED
    assert world.outbox.record("shoes/a")["status"] == "SUCCEEDED"
    assert not world.store.recorded
    assert not world.store.alone


def test_a_preset_whose_event_was_lost_is_found_by_the_images_that_wait() -> None:
    world = World()
    world.drop("shoes/a.png", PHOTO)
    world.inbox.put("shoes/_preset.json", preset(**WHOLE))

    world.run(OVERDUE_SECONDS + 180)

    assert world.outbox.record("shoes/a")["status"] == "SUCCEEDED"


@pytest.mark.parametrize("name", ["notes.txt", "red.mask.png"])
def test_what_is_no_picture_to_edit_is_no_job_by_itself(name: str) -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE))

    world.drop(f"shoes/{name}", mask_picture())
    wait_for_sidecar(world)

    assert not world.store.jobs


def test_an_image_that_will_not_do_is_refused_alone() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE))
    world.drop("shoes/small.png", picture(100, 100))
    world.drop("shoes/red.png", PHOTO)

    world.run(60)

    assert of_image(world, "shoes/small.png").status is Status.REJECTED
    assert of_image(world, "shoes/red.png").status is Status.SUCCEEDED


# --- inheritance ----------------------------------------


def test_presets_merge_from_the_root_down_and_the_sidecar_goes_last() -> None:
    world = World()
    world.drop(
        "_preset.json", preset(model=WANX, parameters={"seed": 1, "n": 2}, labels={"a": "1"})
    )
    world.drop(
        "shoes/_preset.json",
        preset(function="description_edit", parameters={"n": 3}, labels={"b": "2"}, prompt="x"),
    )
    world.drop("shoes/red.png", PHOTO)

    (job_id,) = world.drop("shoes/red.png.json", preset(prompt="mine", labels={"a": None}))

    job = world.store.the_job(job_id)
    assert job.status is Status.QUEUED, job.problems
    assert (job.prompt, job.labels) == ("mine", {"b": "2"})
    assert {name: job.parameters[name] for name in ("seed", "n")} == {"seed": 1, "n": 3}
    assert [one.key for one in job.presets] == ["_preset.json", "shoes/_preset.json"]


def test_a_locked_field_cannot_be_overridden_but_may_be_repeated() -> None:
    world = World()
    locked = ["model", "parameters.n"]
    world.drop("_preset.json", preset(**WHOLE, parameters={"n": 1}, locked=locked))
    for name in ("same", "other"):
        world.drop(f"{name}.png", PHOTO)

    (same,) = world.drop("same.png.json", preset(model=WANX, parameters={"n": 1}))
    (other,) = world.drop("other.png.json", preset(model=WAN, parameters={"n": 4}))

    assert world.store.the_job(same).status is Status.QUEUED
    refused = world.store.the_job(other)
    assert refused.status is Status.REJECTED
    assert {problem.field for problem in refused.problems} == {"model", "parameters.n"}
    assert "locked by _preset.json" in refused.problems[0].message


def test_a_problem_that_comes_from_a_preset_says_so() -> None:
    world = World()
    world.inbox.put("shoes/_preset.json", preset(**WHOLE, parameters={"n": 99}))
    world.drop("shoes/red.png", PHOTO)

    (job_id,) = world.drop("shoes/red.png.json", preset())

    (problem,) = world.store.the_job(job_id).problems
    assert problem.field == "parameters.n"
    assert "it stands in shoes/_preset.json" in problem.message


def test_a_changed_preset_applies_to_what_is_dropped_after_it() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE))
    world.drop("shoes/red.png.json", preset(labels={"a": "b"}))  # waits for its image
    world.drop("shoes/_preset.json", preset(**{**WHOLE, "prompt": "a black background"}))

    world.drop("shoes/red.png", PHOTO)
    world.drop("shoes/blue.png", PHOTO)
    world.run(60)

    assert world.outbox.record("shoes/red")["request"]["prompt"] == "a white background"
    assert world.outbox.record("shoes/blue")["request"]["prompt"] == "a black background"


# --- a preset that will not do ----------------------------------------


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"{", "shoes/_preset.json"),
        (preset(prommpt="x"), "shoes/_preset.json prommpt"),
        (preset(**WHOLE, parameters={"n": 99}), "parameters.n"),
        (preset(locked=["nothing"]), "shoes/_preset.json locked[0]"),
        (preset(images=["a.png"]), "shoes/_preset.json images"),
        (preset(mask="m.png"), "shoes/_preset.json mask"),
    ],
)
def test_its_owner_is_told_once_and_its_images_wait_for_a_better_one(
    data: bytes, field: str
) -> None:
    world = World()
    world.drop("shoes/_preset.json", data)
    for name in ("a", "b"):
        world.drop(f"shoes/{name}.png", PHOTO)
    world.run(30)

    record = world.outbox.record("shoes/_preset")
    assert record["status"] == "REJECTED"
    assert [problem["field"] for problem in record["problems"]] == [field]
    assert [note.attributes["status"] for note in world.notices.notifications] == ["REJECTED"]

    world.drop("shoes/_preset.json", preset(**WHOLE))
    world.run(60)

    assert len(world.provider.billed) == 2


def test_a_sidecar_under_a_broken_preset_is_refused_and_can_be_tried_again() -> None:
    world = World()
    world.drop("shoes/_preset.json", b"{")
    world.drop("shoes/red.png", PHOTO)
    (job_id,) = world.drop("shoes/red.png.json", sidecar_json())
    assert world.store.the_job(job_id).status is Status.REJECTED

    world.drop("shoes/_preset.json", preset())
    answer = world.operate("retry", job_id)
    world.run(60)

    assert world.store.the_job(answer["job_id"]).status is Status.SUCCEEDED


# --- how little it takes ----------------------------------------


def test_no_listing_is_read_for_an_image_under_a_preset() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE))
    listings: list[str] = []
    keys = world.inbox.keys

    def counted(prefix: str) -> Any:
        listings.append(prefix)
        return keys(prefix)

    world.inbox.keys = counted  # type: ignore[method-assign]
    for number in range(20):
        world.drop(f"shoes/{number}.png", PHOTO)
    wait_for_sidecar(world)

    assert len(world.store.jobs) == 20
    assert listings == []


# --- what comes between ----------------------------------------


def test_a_sidecar_that_comes_while_its_image_is_judged_alone_makes_the_one_job() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE))
    world.inbox.put("shoes/red.png", PHOTO)
    dropped: list[str] = []
    world.inbox.before_read.append(
        lambda: dropped.extend(world.drop("shoes/red.png.json", sidecar_json(prompt="mine")))
    )

    submit(world, "shoes/red.png", settled=True)
    world.run(60)

    assert world.provider.billed == ["mine"]
    assert set(world.store.jobs) == set(dropped)


def test_an_image_that_was_recorded_as_alone_takes_its_place_among_the_parts() -> None:
    world = World()
    world.drop("shoes/a.png", PHOTO)
    world.run(OVERDUE_SECONDS + 120)
    variants = [{"name": "blue"}, {"name": "red"}]

    world.drop("shoes/_preset.json", preset(**WHOLE, variants=variants))
    world.run(60)

    assert world.outbox.results() == ["shoes/a/blue/blue-1.png", "shoes/a/red/red-1.png"]


def stand_in_of_before(world: World, key: str) -> Job:
    """An image's record in a table of before such had ids of their own."""
    there = world.inbox.head(key)
    assert there is not None
    now = world.clock.now()
    job = Job(
        job_id=job_id_of(key, there.version_id),
        version=1,
        message_version=1,
        status=Status.WAITING,
        created_at=now,
        updated_at=now,
        overdue_at=now,
        sidecar=f"{key}.json",
        sidecar_version=None,
        folder=keys.outbox_folder(f"{key}.json"),
        missing=(f"{key}.json",),
    )
    world.store.commit((PutJob(job), NoteLatest(place(job.folder), job.job_id, over=None)))
    world.store.note_lone(key, now, job.job_id)
    return job


@pytest.mark.parametrize("waits", [60, 5 * OVERDUE_SECONDS])
@pytest.mark.parametrize("variants", [None, VARIANTS])
def test_a_preset_takes_an_image_on_that_an_older_version_of_the_stack_had_recorded(
    waits: float, variants: Any
) -> None:
    world = World()
    world.drop("shoes/red.png", PHOTO)
    record = stand_in_of_before(world, "shoes/red.png")
    world.run(waits)
    assert set(world.store.jobs) == {record.job_id}, "it has its record already"

    world.drop("shoes/_preset.json", preset(**WHOLE, variants=variants))
    world.run(5 * OVERDUE_SECONDS)

    made = [job for job in world.store.jobs.values() if job.job_id != record.job_id]
    assert [job.status for job in made] == [Status.SUCCEEDED] * (2 if variants else 1)
    assert len(world.provider.billed) == len(made)
    closed = world.store.the_job(record.job_id)
    assert closed.status is Status.CANCELED
    assert "it is made under the presets of its folder" in closed.problems[0].message
    there = world.inbox.head("shoes/red.png")
    assert there is not None
    first = job_of(world.store, there.key, there.version_id)
    assert first in made
    assert not world.store.recorded


def test_a_sidecar_replaces_what_a_preset_made_of_such_an_image_while_it_is_queued() -> None:
    world = World()
    world.drop("shoes/red.png", PHOTO)
    record = stand_in_of_before(world, "shoes/red.png")
    world.drop("shoes/_preset.json", preset(**WHOLE))
    wait_for_sidecar(world)
    (made,) = [job for job in world.store.jobs.values() if job.job_id != record.job_id]
    assert made.status is Status.QUEUED

    (own,) = world.drop("shoes/both.json", sidecar_json(images=["red.png"], prompt="mine"))
    world.run(60)

    assert world.store.the_job(made.job_id).status is Status.CANCELED
    assert world.store.the_job(own).status is Status.SUCCEEDED
    assert world.provider.billed == ["mine"]


def test_a_newer_version_of_an_image_alone_whose_event_was_lost_is_found() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE))
    world.drop("shoes/red.png", PHOTO)
    world.run(60)
    world.inbox.put("shoes/red.png", picture(600, 600))

    world.run(3600)

    assert len(world.provider.billed) == 2


# --- fields that the entries of a preset go before ----------------------------------------


def warned(world: World, job_ids: tuple[str, ...]) -> list[list[tuple[str, str]]]:
    """The warnings of each job, as its record has them."""
    records = [world.outbox.record(world.store.the_job(job_id).folder) for job_id in job_ids]
    return [[(w["field"], w["message"]) for w in record["warnings"]] for record in records]


def test_a_prompt_that_every_variant_of_a_preset_goes_before_is_warned_of_in_every_job() -> None:
    world = World()
    world.drop("_preset.json", preset(**WHOLE, variants=VARIANTS))
    world.drop("red.png", PHOTO)

    ids = world.drop("red.png.json", preset(prompt="as I say", parameters={"seed": 7}))

    for warnings in warned(world, ids):
        ((field, message),) = warnings
        assert field == "prompt"
        assert "red.png.json has no effect" in message
        assert "every entry of variants in _preset.json" in message
        assert '"variants": null' in message
    jobs = [world.store.the_job(job_id) for job_id in ids]
    assert [job.prompt for job in jobs] == ["in blue", "in red"]


def test_what_the_warning_advises_gives_the_prompt_its_effect() -> None:
    world = World()
    world.drop("_preset.json", preset(**WHOLE, variants=VARIANTS))
    world.drop("red.png", PHOTO)

    (job_id,) = world.drop("red.png.json", preset(prompt="as I say", variants=None))

    assert world.store.the_job(job_id).prompt == "as I say"
    assert warned(world, (job_id,)) == [[]]


def test_a_locked_variants_field_is_warned_of_with_what_can_be_done_there() -> None:
    world = World()
    world.drop("_preset.json", preset(**WHOLE, variants=VARIANTS, locked=["variants"]))
    world.drop("red.png", PHOTO)

    ids = world.drop("red.png.json", preset(prompt="as I say"))

    (message,) = {message for warnings in warned(world, ids) for _, message in warnings}
    assert '"variants": null' not in message
    assert "leave it out" in message
    assert "is locked by _preset.json" in message


def test_a_nearer_preset_s_field_and_one_name_in_parameters_are_warned_of_too() -> None:
    world = World()
    steps = [
        {"function": "description_edit", "prompt": "a", "parameters": {"seed": 1}},
        {"function": "super_resolution", "prompt": "b", "parameters": {"seed": 2}},
    ]
    world.drop("_preset.json", preset(model=WANX, steps=steps))
    world.drop("shoes/_preset.json", preset(prompt="nearer", parameters={"seed": 3}))
    world.inbox.put("shoes/red.png", PHOTO)

    ids = submit(world, "shoes/red.png", settled=True)

    for warnings in warned(world, ids):
        assert [field for field, _ in warnings] == ["prompt", "parameters.seed"]
        assert all("shoes/_preset.json has no effect" in message for _, message in warnings)


@pytest.mark.parametrize(
    "said",
    [
        {"prompt": "as I say", "variants": [{"name": "own", "prompt": "own"}]},
        {"prompt": "in blue"},
        {"parameters": {"n": 2}},
    ],
)
def test_what_has_an_effect_somewhere_or_is_the_sidecar_s_own_is_not_warned_of(
    said: dict[str, Any],
) -> None:
    world = World()
    variants = [{"prompt": "in blue"}, {"prompt": "in red", "parameters": {"n": 1}}]
    world.drop("_preset.json", preset(**WHOLE, variants=variants))
    world.drop("red.png", PHOTO)

    ids = world.drop("red.png.json", preset(**said))

    assert all(warnings == [] for warnings in warned(world, ids))


def test_a_prompt_that_one_variant_of_a_preset_leaves_alone_is_not_warned_of() -> None:
    world = World()
    world.drop("_preset.json", preset(**WHOLE, variants=[{"prompt": "in blue"}, {}]))
    world.drop("red.png", PHOTO)

    ids = world.drop("red.png.json", preset(prompt="as I say"))

    assert warned(world, ids) == [[], []]


# --- what was refused before a preset was mended ----------------------------------------

UNFIT = picture(kind="GIF")
"""Of a format that the model does not take; `fit` makes it do."""


def refused_alone(world: World, **fields: Any) -> Job:
    world.drop("shoes/_preset.json", preset(**WHOLE, **fields))
    world.inbox.put("shoes/red.png", UNFIT)
    (job_id, *_) = submit(world, "shoes/red.png", settled=True)
    job = world.store.the_job(job_id)
    assert job.status is Status.REJECTED
    return job


def notes_on(world: World, folder: str) -> list[str]:
    return [warning["message"] for warning in world.outbox.record(folder)["warnings"]]


def test_a_mended_preset_makes_no_order_by_itself_of_an_image_refused_before() -> None:
    world = World()
    refused_alone(world)

    world.drop("shoes/_preset.json", preset(**WHOLE, fit=True))
    world.run(2000)

    assert world.outbox.record("shoes/red")["status"] == "REJECTED"
    assert world.provider.billed == []


@pytest.mark.parametrize("how", ["drop", "retry"])
def test_an_image_refused_before_is_made_when_it_is_dropped_or_tried_again(how: str) -> None:
    world = World()
    refused = refused_alone(world)
    world.drop("shoes/_preset.json", preset(**WHOLE, fit=True))

    if how == "drop":
        world.drop("shoes/red.png", UNFIT)
    else:
        world.operate("retry", refused.job_id)
    world.run(100)

    assert world.outbox.record("shoes/red")["status"] == "SUCCEEDED"
    assert "shoes/red/red-1.png" in world.outbox.results()
    assert len(world.provider.billed) == 1


def test_a_refusal_says_where_to_look_once_the_folder_s_preset_makes_variants() -> None:
    world = World()
    refused = refused_alone(world)
    world.drop("shoes/_preset.json", preset(**WHOLE, fit=True, variants=VARIANTS))

    world.drop("shoes/red.png", UNFIT)
    world.run(100)

    record = world.outbox.record("shoes/red")
    assert (record["job_id"], record["status"]) == (refused.job_id, "REJECTED")
    (note,) = notes_on(world, "shoes/red")
    assert "older drop" in note
    assert note.endswith("in shoes/red/blue, shoes/red/red")
    for folder in ("shoes/red/blue", "shoes/red/red"):
        assert world.outbox.record(folder)["status"] == "SUCCEEDED"
        assert notes_on(world, folder) == []
    told = [note.attributes["status"] for note in world.notices.notifications]
    assert told == ["REJECTED", "SUCCEEDED", "SUCCEEDED"]


def test_refused_variants_say_where_to_look_once_there_is_one_job() -> None:
    world = World()
    refused_alone(world, variants=VARIANTS)
    world.drop("shoes/_preset.json", preset(**WHOLE, fit=True))

    world.drop("shoes/red.png", UNFIT)
    world.run(100)

    assert world.outbox.record("shoes/red")["status"] == "SUCCEEDED"
    for folder in ("shoes/red/blue", "shoes/red/red"):
        (note,) = notes_on(world, folder)
        assert note.endswith("in shoes/red")


def test_another_sidecar_with_variants_of_an_image_refused_alone_is_pointed_to() -> None:
    world = World()
    refused_alone(world)

    world.drop("shoes/red.json", preset(fit=True, variants=VARIANTS))
    world.run(100)

    (note,) = notes_on(world, "shoes/red")
    assert "shoes/red/blue" in note


def test_a_later_drop_of_another_shape_is_the_one_that_is_pointed_to() -> None:
    world = World()
    refused_alone(world)
    for names in (("a", "b"), ("c", "d")):
        variants = [{"name": name, "prompt": name} for name in names]
        world.drop("shoes/red.png.json", preset(fit=True, variants=variants))
        world.run(100)

    (note,) = notes_on(world, "shoes/red")
    assert note.endswith("shoes/red/c, shoes/red/d")


def test_a_refusal_whose_place_a_newer_drop_takes_is_not_told_of_again() -> None:
    world = World()
    refused = refused_alone(world)

    world.drop("shoes/red.png.json", preset(fit=True))
    world.run(100)

    assert world.notices.statuses(refused.job_id) == ["REJECTED"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("shoes/_preset.json", {}),
        ("shoes/red.png.json", {}),
        ("shoes/red.json", {}),
        ("shoes/both.json", {"images": ["red.png"]}),
    ],
)
def test_an_image_that_waited_does_not_seem_to_wait_once_variants_are_made_of_it(
    name: str, fields: dict[str, Any]
) -> None:
    world = World()
    world.drop("shoes/red.png", PHOTO)
    world.run(OVERDUE_SECONDS + 120)
    assert world.outbox.record("shoes/red")["status"] == "WAITING"

    world.drop(name, preset(**WHOLE, variants=VARIANTS, **fields))
    world.run(100)

    record = world.outbox.record("shoes/red")
    assert record["status"] == "CANCELED"
    folder = "shoes/both" if fields else "shoes/red"
    (problem,) = record["problems"]
    assert f"{folder}/blue" in problem["message"]
    assert world.outbox.record(f"{folder}/blue")["status"] == "SUCCEEDED"
    assert not world.store.recorded


def test_a_late_event_of_an_older_drop_calls_no_newer_record_older() -> None:
    world = World()
    world.drop("shoes/red.png", PHOTO)
    world.drop("shoes/red.png.json", preset(**WHOLE, variants=VARIANTS))
    world.run(60)
    world.clock.advance(60)
    (newer,) = world.drop("shoes/red.json", sidecar_json(images=["red.png"]))
    world.run(60)
    assert world.store.the_job(newer).status is Status.SUCCEEDED

    submit(world, "shoes/red.png.json")

    assert world.store.the_job(newer).warnings == ()


def test_what_replaced_a_held_job_leaves_no_word_of_its_being_held() -> None:
    world = World(budget=Budget(images_per_day=0))
    world.drop("red.png", PHOTO)
    (held,) = world.drop("red.png.json", sidecar_json())
    assert world.store.the_job(held).status is Status.HELD

    world.drop("red.png.json", sidecar_json(prompt="newer"))

    closed = world.store.the_job(held)
    assert (closed.status, closed.held) == (Status.CANCELED, None)


# --- an image alone under presets that do not fit together ----------------------------------------


def not_together(world: World) -> None:
    """Two presets of which each will do by itself."""
    world.drop("shoes/_preset.json", preset(parameters={"upscale_factor": 2}))
    world.drop("_preset.json", preset(**WHOLE))
    refused = [job for job in world.store.jobs.values() if job.status is Status.REJECTED]
    assert not refused, "neither preset is wrong by itself"


def test_the_record_of_an_image_alone_says_which_presets_do_not_fit_together() -> None:
    world = World()
    not_together(world)
    world.drop("shoes/red.png", PHOTO)

    world.run(OVERDUE_SECONDS + 120)

    record = world.outbox.record("shoes/red")
    assert (record["status"], record["missing"]) == ("WAITING", ["shoes/red.png.json"])
    (warning,) = record["warnings"]
    assert warning["field"] == "parameters.upscale_factor"
    assert "it stands in shoes/_preset.json" in warning["message"]
    told = [note.attributes["status"] for note in world.notices.notifications]
    assert told == ["WAITING"]

    world.drop("shoes/_preset.json", preset())
    world.run(100)
    assert world.outbox.record("shoes/red")["status"] == "SUCCEEDED"


def test_the_record_of_an_image_says_so_too_where_the_presets_came_after_it() -> None:
    world = World()
    world.drop("shoes/red.png", PHOTO)
    world.run(OVERDUE_SECONDS + 120)
    assert world.outbox.record("shoes/red")["warnings"] == []

    not_together(world)
    world.run(OVERDUE_SECONDS + 120)

    (warning,) = world.outbox.record("shoes/red")["warnings"]
    assert warning["field"] == "parameters.upscale_factor"
    world.drop("shoes/_preset.json", preset(function="super_resolution"))
    world.run(2 * OVERDUE_SECONDS)
    assert world.outbox.record("shoes/red")["status"] == "SUCCEEDED"


def test_what_is_no_job_by_its_name_is_recorded_once_and_not_looked_at_for_ever() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**WHOLE))
    world.drop("shoes/red.mask.png", mask_picture())

    world.run(4 * OVERDUE_SECONDS)

    assert world.outbox.record("shoes/red.mask")["status"] == "WAITING"
    assert not world.store.alone
    (job,) = world.store.jobs.values()
    assert world.notices.statuses(job.job_id) == ["WAITING"]


def test_an_image_that_waits_again_does_not_seem_refused() -> None:
    world = World()
    refused_alone(world)
    world.drop("shoes/_preset.json", preset(parameters={"n": 1}))

    world.drop("shoes/red.png", UNFIT)
    world.run(OVERDUE_SECONDS + 120)

    assert world.outbox.record("shoes/red")["status"] == "WAITING"


# --- a preset that leaves something to the sidecars ----------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        (
            {"model": "wan2.7-imag"},
            "model",
            '"wan2.7-imag" is not a model that retouch knows; allowed: ',
        ),
        (
            {"model": WAN, "function": "expand"},
            "function",
            f"{WAN} has no functions; leave the field out",
        ),
        (
            {"model": WANX, "function": "expnd"},
            "function",
            '; did you mean "expand"?',
        ),
        ({"function": "expnd"}, "function", '; did you mean "expand"?'),
        (
            {"model": WANX, "parameters": {"n": 99}},
            "parameters.n",
            "99 is not a whole number within 1–4; nearest 4",
        ),
        (
            {"model": WANX, "function": "expand", "parameters": {"upscale_factor": 2}},
            "parameters.upscale_factor",
            "is not a parameter of the function expand; super_resolution has it",
        ),
        (
            {"model": WAN, "parameters": {"upscale_factor": 2}},
            "parameters.upscale_factor",
            f"is not a parameter of {WAN}",
        ),
        (
            {"parameters": {"sed": 1}},
            "parameters.sed",
            'is not a parameter of any model; did you mean "seed"?',
        ),
        (
            {"parameters": {"n": 99}},
            "parameters.n",
            "99 is not a whole number within 1–4 or ",
        ),
        ({"prompt": "x", "parameters": [1]}, "parameters", "an object is"),
        ({"priority": 77}, "priority", "77 is not a whole number within 0–9"),
        ({"region": "mars"}, "region", '"mars" is not allowed'),
        ({"model": WAN, "negative_prompt": "blur"}, "negative_prompt", "is not a parameter of"),
        (
            {"variants": [{"name": "a"}, {"model": "wan2.7-imag"}]},
            "variants[1].model",
            "(it stands in shoes/_preset.json)",
        ),
    ],
)
def test_a_preset_that_is_no_whole_job_is_refused_for_what_can_never_be_right(
    fields: dict[str, Any], field: str, said: str
) -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**fields))
    world.run(30)

    record = world.outbox.record("shoes/_preset")
    assert record["status"] == "REJECTED"
    (problem,) = record["problems"]
    assert problem["field"] == field
    assert said in problem["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": WANX},
        {"model": None, "parameters": {"n": None}},
        {"prompt": "x"},
        {"function": "expand", "parameters": {"left_scale": 1.5}},
        {"model": WANX, "parameters": {"upscale_factor": 2, "left_scale": 1.5}},
        {"model": WANX, "mask": "/m.png"},
        # These are right where a sidecar says the rest.
        {"model": WAN, "parameters": {"n": 12}},
        {"model": f"{WAN}-pro", "parameters": {"size": "4K"}},
        {"parameters": {"upscale_factor": 4}},
        {"variants": [{"name": "a", "parameters": {"n": 12}}, {"name": "b", "model": WANX}]},
    ],
)
def test_what_a_sidecar_can_make_right_is_left_to_the_sidecars(fields: dict[str, Any]) -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(**fields))
    world.run(30)

    assert not world.store.jobs


def test_an_image_under_a_preset_with_an_unknown_model_does_not_wait_in_silence() -> None:
    world = World()
    world.drop("shoes/red.png", PHOTO)
    world.drop("shoes/_preset.json", preset(model="wan2.7-imag"))

    world.run(OVERDUE_SECONDS + 120)

    (warning,) = world.outbox.record("shoes/red")["warnings"]
    assert warning["field"] == "model"
    assert '"wan2.7-imag" is not a model' in warning["message"]
    assert "it stands in shoes/_preset.json" in warning["message"]


def test_a_sidecar_with_a_model_of_its_own_is_made_under_a_preset_with_an_unknown_one() -> None:
    world = World()
    world.drop("shoes/_preset.json", preset(model="wan2.7-imag"))
    world.drop("shoes/red.png", PHOTO)
    (job_id,) = world.drop("shoes/red.png.json", sidecar_json())

    world.run(60)

    assert world.store.the_job(job_id).status is Status.SUCCEEDED
