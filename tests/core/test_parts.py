"""Several edits from one drop: variants side by side, steps one after the other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from retouch.budget import Budget
from retouch.errors import ProviderRefused
from retouch.jobs import Job, Status
from retouch.steps.submit import parts_of, submit
from tests.fakes import (
    PHOTO,
    QWEN,
    RESULT_HOST,
    WAN,
    WANX,
    World,
    mask_picture,
    picture,
    sidecar_json,
)

INDECENT = ProviderRefused("DataInspectionFailed", "Input data may contain ...", "r-2")
CHAIN = [
    {"function": "remove_watermark", "prompt": "first"},
    {"function": "super_resolution", "prompt": "second", "parameters": {"upscale_factor": 2}},
    {"model": WAN, "function": None, "prompt": "third"},
]


def drop(world: World, name: str = "shoes/red", **fields: Any) -> list[Job]:
    """A photo and its sidecar; the jobs it makes."""
    world.inbox.put(f"{name}.png", PHOTO)
    data = json.dumps(fields, ensure_ascii=False).encode("utf-8")
    ids = world.drop(f"{name}.png.json", data)
    return [world.store.the_job(job_id) for job_id in ids]


def now(world: World, jobs: list[Job]) -> list[Job]:
    return [world.store.the_job(job.job_id) for job in jobs]


def statuses(world: World, jobs: list[Job]) -> list[Status]:
    return [job.status for job in now(world, jobs)]


# --- variants ----------------------------------------


def test_each_variant_is_a_job_with_a_folder_in_the_drop_s() -> None:
    world = World()

    jobs = drop(
        world,
        model=WANX,
        function="description_edit",
        prompt="plain",
        parameters={"n": 1, "seed": 7},
        variants=[
            {"name": "blue", "prompt": "paint it blue"},
            {"prompt": "as a drawing", "model": WAN, "function": None},
            {"parameters": {"n": 2}},
        ],
    )
    world.run(60)

    assert statuses(world, jobs) == [Status.SUCCEEDED] * 3
    assert sorted(world.provider.billed) == ["as a drawing", "paint it blue", "plain"]
    folders = ["shoes/red/blue", "shoes/red/variant-2", "shoes/red/variant-3"]
    assert [job.folder for job in jobs] == folders
    records = [world.outbox.record(folder) for folder in folders]
    assert [record["part"]["variant"] for record in records] == ["blue", "variant-2", "variant-3"]
    assert [record["request"]["parameters"]["n"] for record in records] == [1, 1, 2]
    assert [record["seed"] for record in records] == [7, 7, 7]


def test_a_mistake_in_one_variant_refuses_the_sidecar_with_all_that_is_wrong() -> None:
    world = World()

    jobs = drop(
        world,
        model=WANX,
        function="description_edit",
        variants=[{"prompt": "x", "parameters": {"n": 99}}, {"name": "b"}],
    )

    (job,) = jobs
    assert job.status is Status.REJECTED
    assert job.folder == "shoes/red"
    assert [problem.field for problem in job.problems] == [
        "variants[0].parameters.n",
        "variants[1].prompt",
    ]
    assert world.provider.calls == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"variants": []}, "variants"),
        ({"variants": {}}, "variants"),
        ({"variants": [1]}, "variants[0]"),
        ({"variants": [{}] * 21}, "variants"),
        ({"variants": [{"name": "a/b"}]}, "variants[0].name"),
        ({"variants": [{"name": "sent"}]}, "variants[0].name"),
        ({"variants": [{"name": "a"}, {"name": "A"}]}, "variants[1].name"),
        ({"variants": [{"steps": []}]}, "variants[0].steps"),
        ({"steps": [{}], "variants": [{}]}, "steps"),
        ({"steps": [{"name": "a"}]}, "steps[0].name"),
        ({"steps": [{}, {"images": ["b.png"]}]}, "steps[1].images"),
        ({"steps": [{"parameters": {"n": 2}}, {}]}, "steps[0].parameters.n"),
    ],
)
def test_what_cannot_be_unfolded_is_refused(fields: dict[str, Any], field: str) -> None:
    world = World()

    (job,) = drop(world, model=WANX, function="description_edit", prompt="x", **fields)

    assert job.status is Status.REJECTED
    assert [problem.field for problem in job.problems] == [field]


def test_an_image_that_comes_last_starts_every_variant_once() -> None:
    world = World()
    data = sidecar_json(variants=[{"prompt": "a"}, {"prompt": "b"}])
    ids = world.drop("red.png.json", data)
    assert {world.store.the_job(job_id).status for job_id in ids} == {Status.WAITING}

    world.drop("red.png", PHOTO)
    submit(world, "red.png")
    world.run(60)

    assert sorted(world.provider.billed) == ["a", "b"]


def test_a_newer_version_replaces_every_job_that_waits() -> None:
    world = World()
    ids = world.drop("red.png.json", sidecar_json(variants=[{"prompt": "a"}, {"prompt": "b"}]))

    world.drop("red.png.json", sidecar_json(prompt="new"))
    world.drop("red.png", PHOTO)
    world.run(60)

    assert {world.store.the_job(job_id).status for job_id in ids} == {Status.CANCELED}
    assert world.provider.billed == ["new"]


# --- steps ----------------------------------------


def test_each_step_works_on_the_result_of_the_one_before() -> None:
    world = World()

    jobs = drop(world, model=WANX, steps=CHAIN, parameters={"n": 2})
    assert statuses(world, jobs) == [Status.QUEUED, Status.WAITING, Status.WAITING]
    world.run(200)

    assert statuses(world, jobs) == [Status.SUCCEEDED] * 3
    assert world.provider.billed == ["first", "second", "third"]
    assert [job.folder for job in jobs] == ["shoes/red/step-1", "shoes/red/step-2", "shoes/red"]
    first, second, third = now(world, jobs)
    for before, after in ((first, second), (second, third)):
        (image,) = after.images
        assert image.made_by == before.job_id
        assert (image.key, image.version_id) == (
            before.outputs[0].key,
            before.outputs[0].version_id,
        )
        assert image.sha256 == before.outputs[0].sha256
        sent = json.dumps(world.provider.calls[after.part.number].request.body)  # type: ignore[union-attr]
        assert f"https://outbox.example.com/{image.key}" in sent
    assert [job.parameters["n"] for job in (first, second, third)] == [1, 1, 2]


def test_a_step_s_job_is_there_to_be_seen_from_the_first_second() -> None:
    world = World()

    drop(world, model=WANX, steps=CHAIN)

    record = world.outbox.record("shoes/red")
    assert record["status"] == "WAITING"
    assert record["request"]["prompt"] == "third"
    assert (record["part"]["step"], record["part"]["steps"]) == (3, 3)


def test_where_a_step_fails_the_rest_fail_too_and_retry_goes_on_there() -> None:
    world = World()
    jobs = drop(world, model=WANX, steps=CHAIN)
    world.run(5)
    world.provider.next_calls.append(INDECENT)
    world.run(60)
    first, second, third = now(world, jobs)
    assert (first.status, second.status) == (Status.SUCCEEDED, Status.FAILED)
    assert third.status is Status.FAILED
    assert third.failure is not None
    assert "step 2 ended as FAILED: DataInspectionFailed" in third.failure.message
    assert world.outbox.record("shoes/red")["status"] == "FAILED"

    answer = world.operate("retry", third.job_id)
    assert "from step 2 on" in answer["did"]
    again = world.operate("retry", third.job_id)
    assert again["did"] == ""
    world.run(120)

    assert world.provider.billed == ["first", "second", "third"]
    record = world.outbox.record("shoes/red")
    assert record["status"] == "SUCCEEDED"
    assert record["retry_of"] == third.job_id


def test_a_newer_version_replaces_steps_that_were_tried_again_and_still_wait() -> None:
    world = World()
    jobs = drop(world, model=WANX, steps=CHAIN)
    world.run(5)
    world.provider.next_calls.append(INDECENT)
    world.run(60)
    answer = world.operate("retry", jobs[2].job_id)
    again = world.store.the_job(answer["job_id"])
    assert again.part is not None
    waits = world.store.the_job(again.part.next or "")
    assert waits.status is Status.WAITING

    world.drop("shoes/red.png.json", sidecar_json(prompt="newer"))
    world.run(100)

    assert world.store.the_job(waits.job_id).status is Status.CANCELED
    assert "third" not in world.provider.billed
    assert world.outbox.record("shoes/red")["request"]["prompt"] == "newer"


def test_cancelling_a_step_ends_those_after_it_and_spends_nothing_more() -> None:
    world = World()
    jobs = drop(world, model=WANX, steps=CHAIN)
    world.run(5)

    world.operate("cancel", jobs[1].job_id)
    world.run(100)

    assert statuses(world, jobs) == [Status.SUCCEEDED, Status.CANCELED, Status.FAILED]
    assert world.provider.billed == ["first"]


def test_a_result_that_the_next_model_would_not_take_is_said_at_its_step() -> None:
    world = World()
    jobs = drop(world, model=WANX, steps=CHAIN)
    world.provider.files[f"{RESULT_HOST}/task-0001/1.png?Signature=x"] = [picture(100, 100)]
    world.run(100)

    assert statuses(world, jobs) == [Status.SUCCEEDED, Status.REJECTED, Status.FAILED]
    (problem,) = now(world, jobs)[1].problems
    assert "shoes/red/step-1/step-1-1.png" in problem.message


def test_a_mask_of_a_later_step_may_come_late() -> None:
    world = World()
    steps = [
        {"function": "description_edit", "prompt": "a"},
        {"function": "description_edit_with_mask", "prompt": "b", "mask": "red.mask.png"},
    ]
    jobs = drop(world, model=WANX, steps=steps)
    world.run(60)
    assert statuses(world, jobs) == [Status.SUCCEEDED, Status.WAITING]
    assert now(world, jobs)[1].missing == ("shoes/red.mask.png",)

    world.drop("shoes/red.mask.png", mask_picture())
    world.run(60)

    assert statuses(world, jobs) == [Status.SUCCEEDED, Status.SUCCEEDED]


def test_a_lost_announcement_of_a_step_is_made_up_for() -> None:
    world = World()
    jobs = drop(world, model=WANX, steps=CHAIN[:2])
    world.run(5)
    world.uploads.announced.clear()
    lost = world.uploads.announce
    world.uploads.announce = lambda *errands: None  # type: ignore[method-assign]
    world.run(30)
    assert statuses(world, jobs) == [Status.SUCCEEDED, Status.WAITING]

    world.uploads.announce = lost  # type: ignore[method-assign]
    world.run(240)

    assert statuses(world, jobs) == [Status.SUCCEEDED, Status.SUCCEEDED]


def test_a_step_that_was_cancelled_before_its_turn_is_not_asked_after_for_ever() -> None:
    world = World()
    jobs = drop(world, model=WANX, steps=CHAIN[:2])
    world.operate("cancel", jobs[1].job_id)

    world.run(300)

    assert statuses(world, jobs) == [Status.SUCCEEDED, Status.CANCELED]
    assert world.store.due == {}


def test_steps_of_a_synchronous_model_go_on_too() -> None:
    world = World()
    jobs = drop(world, model=QWEN, steps=[{"prompt": "a"}, {"prompt": "b"}])

    world.run(60)

    assert statuses(world, jobs) == [Status.SUCCEEDED] * 2


def test_a_preset_may_hold_the_steps_for_images_alone() -> None:
    world = World()
    data = json.dumps({"model": WANX, "steps": CHAIN}).encode("utf-8")
    world.drop("shoes/_preset.json", data)
    world.drop("shoes/red.png", PHOTO)

    world.run(200)

    assert world.provider.billed == ["first", "second", "third"]
    assert world.outbox.record("shoes/red")["status"] == "SUCCEEDED"
    root = world.store.the_job(world.store.latest["shoes/red.png.json"])
    assert len(parts_of(root)) == 3


# --- what a chain costs ----------------------------------------


def test_a_chain_is_priced_as_a_whole_and_not_begun_where_it_would_not_come_to_its_end() -> None:
    world = World(budget=Budget(images_per_day=2))

    jobs = drop(world, model=WANX, steps=CHAIN)

    assert statuses(world, jobs) == [Status.HELD, Status.WAITING, Status.WAITING]
    record = world.outbox.record("shoes/red/step-1")
    assert record["chain_estimate"]["images"] == 3
    assert record["estimate"]["images"] == 1
    assert record["held"]["reason"] == "images_per_day"
    assert world.provider.calls == []

    world.operate("release", jobs[0].job_id)
    world.run(100)

    # The other two steps count for themselves, and the third has no room left today.
    assert statuses(world, jobs) == [Status.SUCCEEDED, Status.SUCCEEDED, Status.HELD]


def test_a_preset_s_budget_holds_for_its_folder_alone() -> None:
    world = World()
    fields = {"model": WANX, "function": "description_edit", "prompt": "x"}
    preset = json.dumps({**fields, "budget": {"images_per_day": 1}}).encode("utf-8")
    world.drop("shoes/_preset.json", preset)
    for name, colour in (("shoes/a", "red"), ("shoes/b", "blue"), ("hats/c", "white")):
        world.inbox.put(f"{name}.png", picture(colour=colour))
        world.drop(f"{name}.png.json", json.dumps(fields).encode("utf-8"))
        world.clock.advance(1)

    world.run(100)

    folders = ("shoes/a", "shoes/b", "hats/c")
    found = [world.outbox.record(folder)["status"] for folder in folders]
    assert found == ["SUCCEEDED", "HELD", "SUCCEEDED"]
    assert world.outbox.record("shoes/b")["held"]["scope"] == "shoes"
