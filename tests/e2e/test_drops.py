"""Drops as people make them, through S3 alone: every order, presets, several edits, odd names.

Everything is dropped before anything is looked at, as a shop's content team would, so that the tests
also show that no drop stands in another's way.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.e2e.support import User, mask, picture, until

WANX = {"model": "wanx2.1-imageedit", "function": "description_edit"}
WAN = {"model": "wan2.7-image"}
FOLDERS = ("plain", "red shoes", "a+b%20c#d", "图片/红色 🎨")
"""Spaces, +, %, #, Chinese, emoji."""
PAIR = ("pair.json", "one.png", "two.jpg")
MASKED = ("face.jpg", "face.jpg.json", "face.mask.png")


def photo(shade: int) -> bytes:
    """A picture unlike the others."""
    return picture(512 + shade, 512)


def orders(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return list(itertools.permutations(names))


@pytest.fixture(scope="module")
def dropped(user: User) -> User:
    """Somebody who has dropped all that the tests ask after."""
    shades = itertools.count()
    for folder in FOLDERS:
        user.put(f"{folder}/alone/_preset.json", {**WANX, "prompt": f"preset {folder}"})
        user.put(f"{folder}/alone/one.jpg", photo(next(shades)))
        user.put(f"{folder}/late/one.jpg", photo(next(shades)))
        user.put(f"{folder}/late/_preset.json", {**WANX, "prompt": f"late preset {folder}"})
        user.put(f"{folder}/own.jpg", photo(next(shades)))
        user.put(f"{folder}/own.jpg.json", {**WAN, "prompt": f"own {folder}"})
    for number, order in enumerate(orders(PAIR)):
        for name in order:
            data: Any = {**WAN, "prompt": f"pair {number}", "images": ["one.png", "two.jpg"]}
            user.put(f"pairs/{number}/{name}", data if name == "pair.json" else photo(next(shades)))
    for number, order in enumerate(orders(MASKED)):
        said = {
            "model": "wanx2.1-imageedit",
            "function": "description_edit_with_mask",
            "prompt": f"masked {number}",
            "mask": "face.mask.png",
        }
        files: dict[str, Any] = dict(zip(MASKED, (picture(), said, mask()), strict=True))
        for name in order:
            user.put(f"masks/{number}/{name}", files[name])
    # One that names another prompt than the preset comes after its image, and at once.
    user.put("override/_preset.json", {**WANX, "prompt": "not this", "labels": {"team": "shop"}})
    user.put("override/red.jpg", photo(next(shades)))
    user.put("override/red.jpg.json", {"prompt": "override but this"})
    user.put("locked/_preset.json", {**WANX, "prompt": "locked", "locked": ["model"]})
    user.put("locked/red.jpg.json", WAN)
    user.put("locked/red.jpg", photo(next(shades)))
    user.put("versions/red.jpg.json", {**WANX, "prompt": "versions old"})
    user.put("versions/red.jpg.json", {**WANX, "prompt": "versions new"})
    user.put("versions/red.jpg", photo(next(shades)))
    for name in (".hidden.jpg", "red.jpg.part", "~lock.jpg", "empty/", "Thumbs.db", "x_$folder$"):
        user.put(f"ignored/{name}", b"" if name.endswith("/") else photo(next(shades)))
    user.put("ignored/_preset.json", {**WANX, "prompt": "ignored"})
    user.put("bad/broken.jpg.json", b"{")
    user.put("bad/preset/_preset.json", {"prommpt": "x"})
    user.put(
        "several/red.jpg.json",
        {
            **WANX,
            "prompt": "several plain",
            "variants": [{"name": "blue", "prompt": "several blue"}, {"parameters": {"n": 2}}],
        },
    )
    user.put("several/red.jpg", photo(next(shades)))
    user.put(
        "chain/red.jpg.json",
        {
            "model": "wanx2.1-imageedit",
            "steps": [
                {"function": "remove_watermark", "prompt": "chain one"},
                {
                    "function": "super_resolution",
                    "prompt": "chain two",
                    "parameters": {"upscale_factor": 2},
                },
                {"function": "expand", "prompt": "chain three", "parameters": {"left_scale": 1.5}},
            ],
        },
    )
    user.put("chain/red.jpg", photo(next(shades)))
    return user


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    ("place", "prompt"),
    [("alone/one", "preset {}"), ("late/one", "late preset {}"), ("own", "own {}")],
)
def test_a_drop_under_any_name_is_edited_once(
    dropped: User, folder: str, place: str, prompt: str
) -> None:
    record = dropped.settled(f"{folder}/{place}", 120)

    assert record["status"] == "SUCCEEDED", record
    assert record["request"]["prompt"] == prompt.format(folder)
    name = place.rpartition("/")[2]
    assert record["outputs"][0]["key"] == f"{folder}/{place}/{name}-1.png"
    assert len(dropped.creates(json.dumps(prompt.format(folder)))) == 1
    if place.startswith("alone"):
        assert record["presets"][0]["key"] == f"{folder}/alone/_preset.json"


@pytest.mark.parametrize("number", range(len(orders(PAIR))))
def test_a_sidecar_and_its_images_may_come_in_any_order(dropped: User, number: int) -> None:
    record = dropped.settled(f"pairs/{number}/pair", 120)

    assert record["status"] == "SUCCEEDED", record
    assert [image["key"] for image in record["inputs"]] == [
        f"pairs/{number}/one.png",
        f"pairs/{number}/two.jpg",
    ]
    assert len(dropped.creates(f'"pair {number}"')) == 1


@pytest.mark.parametrize("number", range(len(orders(MASKED))))
def test_a_sidecar_its_image_and_its_mask_may_come_in_any_order(dropped: User, number: int) -> None:
    record = dropped.settled(f"masks/{number}/face", 120)

    assert record["status"] == "SUCCEEDED", record
    assert record["mask"]["key"] == f"masks/{number}/face.mask.png"
    assert len(dropped.creates(f'"masked {number}"')) == 1


def test_a_sidecar_that_comes_just_after_its_image_goes_before_the_preset(dropped: User) -> None:
    record = dropped.settled("override/red", 120)

    assert record["request"]["prompt"] == "override but this"
    assert record["labels"] == {"team": "shop"}
    assert not dropped.creates('"not this"')


def test_a_locked_field_is_refused_and_the_preset_named(dropped: User) -> None:
    record = dropped.settled("locked/red", 120)

    assert record["status"] == "REJECTED"
    (problem,) = record["problems"]
    assert problem["field"] == "model"
    assert "locked/_preset.json" in problem["message"]


def test_a_sidecar_that_was_replaced_while_it_waited_is_not_run(dropped: User) -> None:
    record = dropped.settled("versions/red", 120)

    assert record["request"]["prompt"] == "versions new"
    assert not dropped.creates('"versions old"')


def test_ignored_names_make_nothing_and_bad_files_stop_nobody(dropped: User) -> None:
    assert dropped.settled("bad/broken", 120)["status"] == "REJECTED"
    said = dropped.settled("bad/preset/_preset", 120)
    assert [problem["field"] for problem in said["problems"]] == ["bad/preset/_preset.json prommpt"]
    dropped.settled("several/red/blue", 120)  # which came later

    listed = dropped.s3.list_objects_v2(
        Bucket=dropped.stack.outputs["OutboxBucket"], Prefix="ignored/"
    )
    assert listed["KeyCount"] == 0
    assert not dropped.creates('"ignored"')


def test_variants_lie_together_and_each_has_a_folder(dropped: User) -> None:
    blue = dropped.settled("several/red/blue", 120)
    plain = dropped.settled("several/red/variant-2", 120)

    assert (blue["status"], plain["status"]) == ("SUCCEEDED", "SUCCEEDED")
    assert blue["request"]["prompt"] == "several blue"
    assert [output["key"] for output in plain["outputs"]] == [
        "several/red/variant-2/variant-2-1.png",
        "several/red/variant-2/variant-2-2.png",
    ]
    assert len(dropped.creates('"several ')) == 2


def test_each_step_works_on_the_result_of_the_one_before(dropped: User) -> None:
    last = dropped.settled("chain/red", 120)

    assert last["status"] == "SUCCEEDED", last
    steps = [dropped.settled(f"chain/red/step-{number}", 120) for number in (1, 2)]
    steps.append(last)
    for before, after in itertools.pairwise(steps):
        (image,) = after["inputs"]
        assert image["made_by"] == before["job_id"]
        assert image["sha256"] == before["outputs"][0]["sha256"]
    size = dropped.result(steps[0]).size
    assert dropped.result(steps[1]).size == (2 * size[0], 2 * size[1])
    assert len(dropped.creates('"chain ')) == 3


def test_an_image_and_a_preset_that_are_dropped_again_make_a_job_each(dropped: User) -> None:
    first = dropped.settled("plain/alone/one", 120)
    dropped.put("plain/alone/_preset.json", {**WANX, "prompt": "changed preset"})
    assert dropped.record("plain/alone/one") == first

    dropped.put("plain/alone/one.jpg", picture(700, 700))

    def newer() -> dict[str, Any] | None:
        record = dropped.record("plain/alone/one")
        ended = record is not None and record["status"] == "SUCCEEDED"
        return record if ended and record != first else None

    record = until(newer, "the newer version's results", 120)
    assert record["request"]["prompt"] == "changed preset"
    assert record["presets"][0]["version_id"] != first["presets"][0]["version_id"]
    assert len(dropped.creates('"preset plain"')) == 1
