"""Several edits from one drop: variants side by side, steps one after the other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from retouch.budget import Budget
from retouch.cli import steering
from retouch.cli.connection import Report
from retouch.cli.naming import jobs_named
from retouch.errors import ProviderRefused
from retouch.jobs import Job, Status
from retouch.steps.submit import parts_of, submit
from tests.fakes import (
    PHOTO,
    QWEN,
    RESULT_HOST,
    WAN,
    WANX,
    Crash,
    Moment,
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
    assert record["held"]["message"].startswith("its 3 steps together make up to 3 images")
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


# --- what comes between ----------------------------------------


def two_variants(world: World, name: str = "red") -> list[Job]:
    world.inbox.put(f"{name}.png", PHOTO)
    ids = world.drop(f"{name}.json", sidecar_json(variants=[{"prompt": "a"}, {"prompt": "b"}]))
    return [world.store.the_job(job_id) for job_id in ids]


@pytest.mark.parametrize("seconds", [0, 3, 60])
def test_a_drop_that_is_no_longer_clear_leaves_the_jobs_alone_that_were_entered(
    seconds: int,
) -> None:
    world = World()
    jobs = two_variants(world)
    world.run(seconds)
    before = statuses(world, jobs)

    world.drop("red.jpg", PHOTO)  # the sidecar's name could now mean two images

    assert statuses(world, jobs) == before
    world.enter("other")
    world.run(200)
    assert statuses(world, jobs) == [Status.SUCCEEDED] * 2
    for job in jobs:
        assert world.store.terminal_statuses(job.job_id) == [Status.SUCCEEDED]
    assert len(world.provider.billed) == 3


def test_a_drop_that_is_no_longer_clear_refuses_every_job_that_waits() -> None:
    world = World()
    ids = world.drop("red.json", sidecar_json(variants=[{"prompt": "a"}, {"prompt": "b"}]))

    world.inbox.put("red.png", PHOTO)
    world.drop("red.jpg", PHOTO)
    world.run(1200)

    assert {world.store.the_job(job_id).status for job_id in ids} == {Status.REJECTED}
    messages = [note.attributes["status"] for note in world.notices.notifications]
    assert messages == ["REJECTED", "REJECTED"]


def test_a_held_job_that_is_replaced_gives_its_place_to_the_next() -> None:
    world = World(budget=Budget(images_per_day=1))
    for name in ("a", "b"):
        world.inbox.put(f"{name}.png", PHOTO)
        world.drop(f"{name}.png.json", sidecar_json(prompt=name))
        world.clock.advance(1)

    world.drop("b.png.json", sidecar_json(prompt="newer"))
    world.run(3600)
    world.clock.advance(86_400)
    world.run(200)

    assert world.provider.billed == ["a", "newer"]


@pytest.mark.parametrize(
    ("locked", "fields", "field"),
    [
        (["prompt"], {"variants": [{"prompt": "other"}]}, "variants[0].prompt"),
        (["model"], {"variants": [{"model": WAN}]}, "variants[0].model"),
        (["parameters.n"], {"steps": [{"parameters": {"n": 4}}]}, "steps[0].parameters.n"),
        (["parameters"], {"steps": [{"parameters": {"n": 4}}]}, "steps[0].parameters.n"),
        (["parameters.watermark"], {"parameters": None}, "parameters"),
        (["labels.team"], {"labels": None}, "labels"),
    ],
)
def test_a_lock_holds_for_entries_and_for_whole_fields(
    locked: list[str], fields: dict[str, Any], field: str
) -> None:
    world = World()
    said = {
        "model": WANX,
        "function": "description_edit",
        "prompt": "preset",
        "parameters": {"n": 1, "watermark": True},
        "labels": {"team": "shop"},
        "locked": locked,
    }
    world.drop("shoes/_preset.json", json.dumps(said).encode("utf-8"))

    (job,) = drop(world, **fields)

    assert job.status is Status.REJECTED
    assert [problem.field for problem in job.problems] == [field]
    assert "shoes/_preset.json" in job.problems[0].message


def test_a_preset_may_set_in_its_entries_what_it_locks() -> None:
    world = World()
    said = {
        "model": WANX,
        "function": "description_edit",
        "prompt": "preset",
        "variants": [{"prompt": "mine"}],
        "locked": ["prompt"],
    }
    world.drop("shoes/_preset.json", json.dumps(said).encode("utf-8"))

    (job,) = drop(world)

    assert (job.status, job.prompt) == (Status.QUEUED, "mine")


def test_an_event_of_the_drop_leaves_a_retry_of_its_first_job_alone() -> None:
    world = World(budget=Budget(images_per_day=2))
    world.provider.next_calls.append(INDECENT)
    jobs = two_variants(world)
    world.run(60)
    world.drop("more.png", PHOTO)
    world.drop("more.png.json", sidecar_json(prompt="more"))
    answer = world.operate("retry", jobs[0].job_id)
    assert answer["status"] == "HELD"

    submit(world, "red.json")
    submit(world, "red.png")

    assert world.store.the_job(answer["job_id"]).status is Status.HELD


def test_a_retry_of_one_variant_of_an_image_alone_leaves_the_others_alone() -> None:
    world = World()
    said = {"model": WANX, "function": "description_edit"}
    variants = [{"prompt": "a"}, {"prompt": "b"}]
    world.drop("_preset.json", json.dumps({**said, "variants": variants}).encode("utf-8"))
    world.inbox.put("red.png", PHOTO)
    first, second = submit(world, "red.png", settled=True)
    world.operate("cancel", first)

    world.operate("retry", first)
    world.run(60)

    assert world.store.the_job(second).status is Status.SUCCEEDED
    assert sorted(world.provider.billed) == ["a", "b"]


def test_a_step_is_not_tried_again_while_the_one_before_it_is_under_way() -> None:
    world = World()
    jobs = drop(world, model=WANX, steps=CHAIN)
    world.run(3)
    world.operate("cancel", jobs[1].job_id)

    answer = world.operate("retry", jobs[1].job_id)

    assert answer["did"] == ""
    assert "step 1" in answer["could_not"]
    world.run(60)
    again = world.operate("retry", jobs[1].job_id)
    world.run(120)
    assert world.store.the_job(again["job_id"]).status is Status.SUCCEEDED
    assert world.outbox.record("shoes/red")["status"] == "SUCCEEDED"


def test_a_step_that_a_person_cancelled_is_not_tried_again_with_those_before_it() -> None:
    world = World()
    jobs = drop(world, model=WANX, steps=CHAIN)
    world.operate("cancel", jobs[2].job_id)
    world.provider.next_calls.append(INDECENT)
    world.run(60)

    world.operate("retry", jobs[0].job_id)
    world.run(120)

    assert world.provider.billed == ["first", "second"]


# --- commands by the sidecar's key ----------------------------------------


class Typed:
    """A stack as the command line has it, which carries commands out at once."""

    def __init__(self, world: World):
        self.world, self.store = world, world.store

    def operate(self, command: str, job: Job, task_id: str | None = None) -> Report:
        return Report(**self.world.operate(command, job.job_id, task_id))

    def cancel(self, name: str) -> list[str]:
        told: dict[str, steering.Outcome] = {}
        steering.cancel(self, jobs_named(self.store, name), told, wait=False)
        return [one.report.could_not for one in told.values() if one.report.could_not]

    def retry(self, name: str) -> list[str]:
        told: dict[str, steering.Outcome] = {}
        steering.retry(self, jobs_named(self.store, name), told)
        return [one.report.did for one in told.values() if one.report.did]


@pytest.mark.parametrize("name", ["shoes/red.png.json", "shoes/red.png"])
@pytest.mark.parametrize("seconds", [0, 12])
def test_steps_that_were_cancelled_together_are_tried_again_together(
    name: str, seconds: int
) -> None:
    world = World()
    typed = Typed(world)
    jobs = drop(world, model=WANX, steps=CHAIN)
    world.run(seconds)

    typed.cancel(name)
    world.run(60)

    done = statuses(world, jobs).count(Status.SUCCEEDED)
    assert statuses(world, jobs) == [Status.SUCCEEDED] * done + [Status.CANCELED] * (3 - done)
    assert (done > 0) == (seconds > 0)
    assert len(world.provider.billed) == done < 3
    assert typed.cancel(name) == []  # given twice

    (did,) = typed.retry(name)
    assert f"from step {done + 1} on" in did
    assert typed.retry(name) == []
    world.run(200)

    assert [job.status for job in jobs_named(world.store, name)] == [Status.SUCCEEDED] * 3
    assert world.provider.billed == ["first", "second", "third"]
    assert world.outbox.record("shoes/red")["status"] == "SUCCEEDED"


@pytest.mark.parametrize("moment", Moment)
def test_a_retry_of_cancelled_steps_that_died_anywhere_is_made_up_for(moment: Moment) -> None:
    died = 0
    while True:
        world = World()
        typed = Typed(world)
        drop(world, model=WANX, steps=CHAIN)
        typed.cancel("shoes/red.png.json")
        world.effects.crash_at(died + 1, moment)
        try:
            typed.retry("shoes/red.png.json")
        except Crash:
            died += 1
        else:
            break
        world.effects.heal()
        typed.retry("shoes/red.png.json")
        world.run(200)

        found = jobs_named(world.store, "shoes/red.png.json")
        assert [job.status for job in found] == [Status.SUCCEEDED] * 3, died
        assert world.provider.billed == ["first", "second", "third"]
    assert died > 5


def test_no_step_begins_after_its_drop_was_cancelled_while_one_is_worked_on() -> None:
    world = World()
    typed = Typed(world)
    jobs = drop(world, model=WANX, steps=CHAIN)
    world.run(3)
    assert now(world, jobs)[0].status is Status.RUNNING

    # The provider has it already.
    assert len(typed.cancel("shoes/red.png.json")) == 1
    world.run(200)

    assert statuses(world, jobs)[1:] == [Status.CANCELED] * 2
    assert world.provider.billed == ["first"]


def test_variants_are_cancelled_and_tried_again_together() -> None:
    world = World()
    typed = Typed(world)
    two_variants(world)

    assert typed.cancel("red.json") == []
    assert {job.status for job in jobs_named(world.store, "red.json")} == {Status.CANCELED}
    assert world.provider.billed == []
    assert len(typed.retry("red.png")) == 2
    assert typed.retry("red.png") == []
    world.run(100)

    assert [job.status for job in jobs_named(world.store, "red.json")] == [Status.SUCCEEDED] * 2
    assert sorted(world.provider.billed) == ["a", "b"]


def test_a_retry_of_one_variant_bills_no_other() -> None:
    world = World()
    world.provider.next_calls.append(INDECENT)
    jobs = two_variants(world)
    world.run(60)
    assert sorted(statuses(world, jobs)) == [Status.FAILED, Status.SUCCEEDED]

    assert len(Typed(world).retry("red.json")) == 1
    world.run(60)

    assert [job.status for job in jobs_named(world.store, "red.json")] == [Status.SUCCEEDED] * 2
    assert len(world.provider.billed) == 2


def test_a_drop_of_which_only_a_part_was_entered_is_named_as_far_as_it_goes() -> None:
    world = World()
    jobs = two_variants(world)
    del world.store.jobs[jobs[1].job_id]

    assert [job.job_id for job in jobs_named(world.store, "red.json")] == [jobs[0].job_id]


def test_a_retry_that_waits_for_an_image_starts_when_it_comes() -> None:
    world = World()
    world.inbox.put("red.png", b"junk")
    (job_id,) = world.drop("red.png.json", sidecar_json())
    assert world.store.the_job(job_id).status is Status.REJECTED
    world.inbox.put("red.png", None)
    answer = world.operate("retry", job_id)
    assert answer["status"] == "WAITING"

    world.drop("red.png", PHOTO)
    world.run(300)

    assert world.store.the_job(answer["job_id"]).status is Status.SUCCEEDED


def test_a_drop_with_more_mistakes_than_a_record_holds_is_refused_all_the_same() -> None:
    world = World()
    wrong = {f"no_such_field_{number:04}": 1 for number in range(400)}

    (job,) = drop(world, variants=[{"prompt": "x", **wrong}] * 20)

    assert job.status is Status.REJECTED
    assert len(job.problems) == 101
    assert "more problems" in job.problems[-1].message


def test_a_drop_of_which_only_a_part_was_entered_is_completed_by_the_sweep() -> None:
    world = World()
    jobs = two_variants(world)
    del world.store.jobs[jobs[1].job_id]
    world.store._by_status[Status.QUEUED].pop(jobs[1].job_id)
    world.store.queues[jobs[1].lane or ""] = [
        entry for entry in world.store.queues[jobs[1].lane or ""] if entry[1] != jobs[1].job_id
    ]

    world.run(3000)

    assert statuses(world, jobs) == [Status.SUCCEEDED] * 2


# --- a step that was refused ----------------------------------------


def told_once(world: World) -> None:
    """No version of any job is told of twice."""
    told = [
        (event["job_id"], event["revision"]) for event in world.notices.events if "job_id" in event
    ]
    assert len(told) == len(set(told))


def second_step_refused(world: World, **fields: Any) -> list[Job]:
    """The second step's model does not take what the first makes, unless a preset mends it."""
    world.drop("shoes/_preset.json", json.dumps({"fit": False}).encode("utf-8"))
    steps = [{"prompt": "first"}, {"prompt": "second"}, {"prompt": "third"}]
    jobs = drop(world, model=WANX, function="description_edit", steps=steps, **fields)
    unfit = picture(4200, 1500)
    world.provider.files[f"{RESULT_HOST}/task-0001/1.png?Signature=x"] = [unfit]
    world.run(100)
    assert statuses(world, jobs) == [Status.SUCCEEDED, Status.REJECTED, Status.FAILED]
    return now(world, jobs)


def test_a_refused_step_is_tried_again_under_the_presets_there_are_now() -> None:
    world = World()
    jobs = second_step_refused(world)
    world.drop("shoes/_preset.json", json.dumps({"fit": True}).encode("utf-8"))
    mended = world.inbox.head("shoes/_preset.json")
    assert mended is not None

    answer = world.operate("retry", jobs[2].job_id)
    world.run(200)

    assert "from step 2 on" in answer["did"]
    assert world.provider.billed == ["first", "second", "third"]
    again = [world.store.the_job(job.retried_as or "") for job in now(world, jobs[1:])]
    for job in again:
        assert job.status is Status.SUCCEEDED
        assert [preset.version_id for preset in job.presets] == [mended.version_id]
    told_once(world)


def test_a_step_that_failed_at_the_provider_is_tried_again_as_it_was() -> None:
    world = World()
    world.drop("shoes/_preset.json", json.dumps({"fit": False}).encode("utf-8"))
    jobs = drop(world, model=WANX, steps=CHAIN)
    world.run(5)
    world.provider.next_calls.append(INDECENT)
    world.run(60)
    pinned = now(world, jobs)[1].presets
    world.drop("shoes/_preset.json", json.dumps({"fit": True}).encode("utf-8"))

    world.operate("retry", jobs[2].job_id)
    world.run(200)

    again = [world.store.the_job(job.retried_as or "") for job in now(world, jobs[1:])]
    assert [job.presets for job in again] == [pinned, pinned]
    assert [job.status for job in again] == [Status.SUCCEEDED] * 2
    told_once(world)


def test_a_refused_drop_of_several_jobs_says_that_it_must_be_dropped_again() -> None:
    world = World()
    world.drop("shoes/_preset.json", b"{")
    (job,) = drop(world, model=WANX, steps=CHAIN)
    assert job.status is Status.REJECTED
    world.drop("shoes/_preset.json", b"{}")

    answer = world.operate("retry", job.job_id)

    assert "it asks for 3 jobs" in answer["could_not"]
    assert "drop it again" in answer["could_not"]
    world.drop("shoes/red.png.json", json.dumps({"model": WANX, "steps": CHAIN}).encode("utf-8"))
    world.run(200)
    assert world.outbox.record("shoes/red")["status"] == "SUCCEEDED"


def test_a_retry_that_is_asked_for_twice_is_told_of_once() -> None:
    world = World()
    world.inbox.put("red.png", b"junk")
    (job_id,) = world.drop("red.png.json", sidecar_json())
    world.inbox.put("red.png", None)

    for _ in range(2):
        assert world.operate("retry", job_id)["status"] == "WAITING"

    told_once(world)
