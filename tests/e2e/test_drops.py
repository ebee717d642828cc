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
PLAIN, SPACED, SIGNS, CHINESE = FOLDERS
OVERRIDE, LOCKED, VERSIONS = f"{CHINESE}/override", f"{SIGNS}/locked", f"{SPACED}/versions"
SEVERAL, CHAIN, BAD = f"{SIGNS}/several", f"{CHINESE}/chain", f"{CHINESE}/bad"
PAIR = ("pair.json", "one.png", "two.jpg")
MASKED = ("face.jpg", "face.jpg.json", "face.mask.png")


def photo(shade: int) -> bytes:
    """A picture unlike the others."""
    return picture(512 + shade, 512)


def orders(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return list(itertools.permutations(names))


REPLACED: dict[str, tuple[str, dict[str, Any]]] = {
    "image": ("red.jpg", {"red.jpg": photo(300)}),
    "another image": ("two.png", {"two.png": photo(301)}),
    "mask": ("red.mask.png", {"red.mask.png": mask()}),
}
"""Of a drop that waits: which file is replaced, and by what."""


def drop_and_replace(user: User, place: str, what: str) -> dict[str, str]:
    """A drop whose part is replaced before the last one comes; the versions that it must be made of."""
    said: dict[str, Any] = {**WAN, "prompt": f"replaced {what}", "images": ["red.jpg", "two.png"]}
    files: dict[str, Any] = {"red.jpg": picture(), "two.png": photo(302)}
    if what == "mask":
        said = {
            **WANX, "function": "description_edit_with_mask", "prompt": "replaced mask",
            "mask": "red.mask.png",
        }  # fmt: skip
        files = {"red.jpg": picture(), "red.mask.png": picture()}
    name, newer = REPLACED[what]
    last = "two.png" if name == "red.jpg" else "red.jpg"
    user.put(f"{place}/red.jpg.json", said)
    user.put(f"{place}/{name}", files[name])
    versions = {name: user.put(f"{place}/{name}", newer[name])}
    versions[last] = user.put(f"{place}/{last}", files[last])
    return {f"{place}/{key}": version for key, version in versions.items()}


@pytest.fixture(scope="module")
def replaced(user: User) -> dict[str, dict[str, str]]:
    """Drops in which something was replaced, and the versions that they must be made of."""
    return {what: drop_and_replace(user, f"{CHINESE}/new {what} #+%", what) for what in REPLACED}


@pytest.fixture(scope="module")
def dropped(user: User, replaced: dict[str, dict[str, str]]) -> User:
    """Somebody who has dropped all that the tests ask after."""
    shades = itertools.count()
    for folder in FOLDERS:
        user.put(f"{folder}/alone/_preset.json", {**WANX, "prompt": f"preset {folder}"})
        user.put(f"{folder}/alone/one.jpg", photo(next(shades)))
        user.put(f"{folder}/late/one.jpg", photo(next(shades)))
        user.put(f"{folder}/late/_preset.json", {**WANX, "prompt": f"late preset {folder}"})
        outer = {**WANX, "prompt": "not this", "labels": {"team": "shop"}, "locked": ["model"]}
        user.put(f"{folder}/outer/_preset.json", outer)
        inner = {"prompt": f"inherited {folder}", "labels": {"sku": folder[:1]}}
        user.put(f"{folder}/outer/inner/_preset.json", inner)
        user.put(f"{folder}/outer/inner/one.jpg", photo(next(shades)))
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
    user.put(f"{OVERRIDE}/_preset.json", {**WANX, "prompt": "not this", "labels": {"team": "shop"}})
    user.put(f"{OVERRIDE}/red.jpg", photo(next(shades)))
    user.put(f"{OVERRIDE}/red.jpg.json", {"prompt": "override but this"})
    user.put(f"{LOCKED}/_preset.json", {**WANX, "prompt": "locked", "locked": ["model"]})
    user.put(f"{LOCKED}/red.jpg.json", WAN)
    user.put(f"{LOCKED}/red.jpg", photo(next(shades)))
    user.put(f"{VERSIONS}/red.jpg.json", {**WANX, "prompt": "versions old"})
    user.put(f"{VERSIONS}/red.jpg.json", {**WANX, "prompt": "versions new"})
    user.put(f"{VERSIONS}/red.jpg", photo(next(shades)))
    for name in (".hidden.jpg", "red.jpg.part", "~lock.jpg", "empty/", "Thumbs.db", "x_$folder$"):
        user.put(f"ignored/{name}", b"" if name.endswith("/") else photo(next(shades)))
    user.put("ignored/_preset.json", {**WANX, "prompt": "ignored"})
    user.put(f"{BAD}/broken.jpg.json", b"{")
    user.put(f"{BAD}/preset/_preset.json", {"prommpt": "x"})
    user.put(
        f"{SEVERAL}/red.jpg.json",
        {
            **WANX,
            "prompt": "several plain",
            "variants": [{"name": "blue", "prompt": "several blue"}, {"parameters": {"n": 2}}],
        },
    )
    user.put(f"{SEVERAL}/red.jpg", photo(next(shades)))
    user.put(
        f"{CHAIN}/red.jpg.json",
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
    user.put(f"{CHAIN}/red.jpg", photo(next(shades)))
    return user


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    ("place", "prompt"),
    [
        ("alone/one", "preset {}"),
        ("late/one", "late preset {}"),
        ("outer/inner/one", "inherited {}"),
        ("own", "own {}"),
    ],
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
    if place.startswith("outer"):
        presets = [f"{folder}/outer/_preset.json", f"{folder}/outer/inner/_preset.json"]
        assert [preset["key"] for preset in record["presets"]] == presets
        assert record["labels"] == {"team": "shop", "sku": folder[:1]}


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
    record = dropped.settled(f"{OVERRIDE}/red", 120)

    assert record["request"]["prompt"] == "override but this"
    assert record["labels"] == {"team": "shop"}
    assert not dropped.creates('"not this"')


def test_a_locked_field_is_refused_and_the_preset_named(dropped: User) -> None:
    record = dropped.settled(f"{LOCKED}/red", 120)

    assert record["status"] == "REJECTED"
    (problem,) = record["problems"]
    assert problem["field"] == "model"
    assert f"{LOCKED}/_preset.json" in problem["message"]


def test_a_sidecar_that_was_replaced_while_it_waited_is_not_run(dropped: User) -> None:
    record = dropped.settled(f"{VERSIONS}/red", 120)

    assert record["request"]["prompt"] == "versions new"
    assert not dropped.creates('"versions old"')


@pytest.mark.parametrize("what", REPLACED)
def test_what_was_replaced_while_it_waited_is_used_in_its_newer_version(
    dropped: User, replaced: dict[str, dict[str, str]], what: str
) -> None:
    record = dropped.settled(f"{CHINESE}/new {what} #+%/red", 120)

    assert record["status"] == "SUCCEEDED", record
    used = [*record["inputs"], *([record["mask"]] if record["mask"] else [])]
    assert {image["key"]: image["version_id"] for image in used} == replaced[what]
    assert len(dropped.creates(f'"replaced {what}"')) == 1


def test_an_image_that_is_replaced_after_its_job_makes_no_other(dropped: User) -> None:
    before = dropped.settled(f"{SIGNS}/own", 120)

    dropped.put(f"{SIGNS}/own.jpg", photo(303))
    # What was dropped after it has ended, so it has been seen.
    dropped.put(f"{SIGNS}/after.jpg", photo(304))
    dropped.put(f"{SIGNS}/after.jpg.json", {**WAN, "prompt": "after it"})
    dropped.settled(f"{SIGNS}/after", 120)

    assert dropped.record(f"{SIGNS}/own") == before
    assert len(dropped.creates(json.dumps(f"own {SIGNS}"))) == 1


def test_ignored_names_make_nothing_and_bad_files_stop_nobody(dropped: User) -> None:
    assert dropped.settled(f"{BAD}/broken", 120)["status"] == "REJECTED"
    said = dropped.settled(f"{BAD}/preset/_preset", 120)
    assert [problem["field"] for problem in said["problems"]] == [
        f"{BAD}/preset/_preset.json prommpt"
    ]
    dropped.settled(f"{SEVERAL}/red/blue", 120)  # which came later

    listed = dropped.s3.list_objects_v2(
        Bucket=dropped.stack.outputs["OutboxBucket"], Prefix="ignored/"
    )
    assert listed["KeyCount"] == 0
    assert not dropped.creates('"ignored"')


def test_variants_lie_together_and_each_has_a_folder(dropped: User) -> None:
    blue = dropped.settled(f"{SEVERAL}/red/blue", 120)
    plain = dropped.settled(f"{SEVERAL}/red/variant-2", 120)

    assert (blue["status"], plain["status"]) == ("SUCCEEDED", "SUCCEEDED")
    assert blue["request"]["prompt"] == "several blue"
    assert [output["key"] for output in plain["outputs"]] == [
        f"{SEVERAL}/red/variant-2/variant-2-1.png",
        f"{SEVERAL}/red/variant-2/variant-2-2.png",
    ]
    assert len(dropped.creates('"several ')) == 2


def test_each_step_works_on_the_result_of_the_one_before(dropped: User) -> None:
    last = dropped.settled(f"{CHAIN}/red", 120)

    assert last["status"] == "SUCCEEDED", last
    steps = [dropped.settled(f"{CHAIN}/red/step-{number}", 120) for number in (1, 2)]
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
