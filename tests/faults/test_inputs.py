"""Faults of what is dropped: incomplete, unreadable, over a limit, contradictory."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from retouch.jobs import Job, Status
from retouch.steps.submit import submit
from tests.fakes import (
    PHOTO,
    QWEN,
    WAN,
    WAN_26,
    WANX,
    World,
    mask_picture,
    picture,
    sidecar_json,
)
from tests.faults.rules import all_jobs, check_rules, play, play_for
from tests.faults.support import only_job, put
from tests.unit.helpers import ELEVEN, WAN_25
from tests.unit.test_imaging import png_that_claims

MASKED = "description_edit_with_mask"


def rejected(world: World, folder: str, field: str, *words: str) -> Job:
    """The one job, refused before anything was spent, and its owner told what is wrong with what."""
    play(world)
    job = only_job(world)
    assert job.status is Status.REJECTED, job
    record = world.outbox.record(folder)
    assert record["status"] == "REJECTED"
    (problem,) = record["problems"]
    assert problem["field"] == field
    for word in words:
        assert word in problem["message"]
    (note,) = world.notices.notifications
    assert note.attributes["status"] == "REJECTED"
    assert note.message["problems"] == 1
    assert (world.provider.calls, world.provider.uploads, world.provider.billed) == ([], [], [])
    check_rules(world)
    return job


# --- pairing ----------------------------------------


@pytest.mark.fault(9)
@pytest.mark.parametrize("sidecar", ["red.png.json", "red.json"])
def test_fault_09_the_sidecar_comes_after_its_image(sidecar: str) -> None:
    world = World()
    assert world.drop("red.png", PHOTO) == ()
    play_for(world, 300)
    assert (world.store.jobs, world.outbox.objects) == ({}, {})

    world.drop(sidecar, sidecar_json(prompt="edit red"))
    play(world)

    assert only_job(world).status is Status.SUCCEEDED
    assert world.provider.billed == ["edit red"]
    check_rules(world)


@pytest.mark.fault(9)
@pytest.mark.parametrize("sidecar", ["red.png.json", "red.json"])
def test_fault_09_the_sidecar_comes_hours_after_its_image(sidecar: str) -> None:
    world = World()
    world.drop("red.png", PHOTO)
    play_for(world, 30 * 3600)
    record = world.outbox.record("red")
    assert (record["status"], record["missing"]) == ("WAITING", ["red.png.json"])
    assert len(world.notices.notifications) == 1

    world.drop(sidecar, sidecar_json(prompt="edit red"))
    play(world)

    stood_in, job = all_jobs(world)
    assert (stood_in.status, job.status) == (Status.CANCELED, Status.SUCCEEDED)
    assert world.outbox.record("red")["job_id"] == job.job_id
    assert world.provider.billed == ["edit red"]
    check_rules(world)


@pytest.mark.fault(9)
def test_fault_09_the_sidecar_comes_after_its_images_and_its_mask() -> None:
    world = World()
    world.drop("cup.png", PHOTO)
    world.drop("cup.mask.png", mask_picture())

    world.drop("cup.png.json", sidecar_json(function=MASKED, mask="cup.mask.png"))
    play(world)

    job = only_job(world)
    assert job.status is Status.SUCCEEDED
    assert (job.images[0].key, job.mask and job.mask.key) == ("cup.png", "cup.mask.png")
    check_rules(world)


@pytest.mark.fault(10)
@pytest.mark.parametrize("sidecar", ["red.png.json", "red.json"])
def test_fault_10_the_sidecar_comes_before_its_image(sidecar: str) -> None:
    world = World()

    world.drop(sidecar, sidecar_json(prompt="edit red"))
    play_for(world, 120)

    waiting = only_job(world)
    assert waiting.status is Status.WAITING
    record = world.outbox.record("red")
    assert record["status"] == "WAITING"
    assert record["missing"] == ["red.png" if sidecar == "red.png.json" else "red.*"]
    assert world.notices.notifications == []
    assert world.provider.calls == []

    world.drop("red.png", PHOTO)
    play(world)

    assert only_job(world).status is Status.SUCCEEDED
    assert world.outbox.record("red")["missing"] == []
    assert world.provider.billed == ["edit red"]
    check_rules(world)


@pytest.mark.fault(10)
@pytest.mark.parametrize("order", list(itertools.permutations(["a.png", "b.png", "m.png"])))
def test_fault_10_each_image_that_comes_is_one_fewer_to_wait_for(order: tuple[str, ...]) -> None:
    world = World()
    data = {"a.png": PHOTO, "b.png": PHOTO, "m.png": PHOTO}
    world.drop("mix.json", sidecar_json(QWEN, images=list(data)))

    left = set(data)
    for name in order:
        assert set(world.outbox.record("mix")["missing"]) == left
        left.remove(name)
        world.drop(name, data[name])
    play(world)

    assert only_job(world).status is Status.SUCCEEDED
    assert len(world.provider.billed) == 1
    check_rules(world)


@pytest.mark.fault(11)
@pytest.mark.parametrize("key", ["red.png.json", "red.json", "red.png"])
def test_fault_11_the_rest_of_a_drop_never_comes(key: str) -> None:
    world = World()
    image = key == "red.png"
    world.drop(key, PHOTO if image else sidecar_json(prompt="edit red"))

    play_for(world, 3 * 24 * 3600)

    job = only_job(world)
    assert job.status is Status.WAITING
    missing = ["red.*" if key == "red.json" else "red.png.json" if image else "red.png"]
    record = world.outbox.record("red")
    assert (record["status"], record["missing"]) == ("WAITING", missing)
    (note,) = world.notices.notifications
    assert note.attributes["status"] == "WAITING"
    assert (world.provider.calls, world.provider.uploads) == ([], [])
    check_rules(world, waiting=True)

    # And had it only been late:
    rest = sidecar_json(prompt="edit red") if image else PHOTO
    world.drop("red.png.json" if image else "red.png", rest)
    play(world)
    assert all_jobs(world)[-1].status is Status.SUCCEEDED
    assert world.provider.billed == ["edit red"]
    check_rules(world)


@pytest.mark.fault(11)
def test_fault_11_some_of_the_named_images_never_come() -> None:
    world = World()
    world.drop("mix.json", sidecar_json(QWEN, images=["a.png", "b.png", "c.png"]))
    world.drop("b.png", PHOTO)

    play_for(world, 24 * 3600)

    assert only_job(world).status is Status.WAITING
    assert world.outbox.record("mix")["missing"] == ["a.png", "c.png"]
    assert [note.attributes["status"] for note in world.notices.notifications] == ["WAITING"]
    assert world.provider.calls == []
    check_rules(world, waiting=True)


@pytest.mark.fault(11)
def test_fault_11_many_drops_that_are_never_completed_hold_nobody_up() -> None:
    world = World()
    for number in range(150):
        world.drop(f"waits{number:03d}.png.json", sidecar_json(prompt="never"))
    play_for(world, 3600)

    put(world)
    play_for(world, 1300)  # not even its events come

    (job,) = [job for job in all_jobs(world) if job.status is not Status.WAITING]
    assert job.status is Status.SUCCEEDED
    assert len(world.notices.notifications) == 150 + 1
    check_rules(world, waiting=True)


# --- sidecars that cannot be read ----------------------------------------


class Huge(bytes):
    """What S3 says of a file of 1 GB. Its bytes are not here, and must not be asked for."""

    def __len__(self) -> int:
        return 1024**3


def _deep(levels: int) -> bytes:
    return b'{"labels": ' + b"[" * levels + b"]" * levels + b"}"


GOOD = sidecar_json(prompt="edit red")
UNREADABLE: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ("not JSON", "empty")),
    "not JSON": (b"{oops", ("not JSON", "line 1")),
    "cut off": (GOOD[:-5], ("not JSON", "cut off")),
    "XML": (b"<?xml version='1.0'?><job/>", ("not JSON",)),
    "not UTF-8": (b'{"prompt": "caf\xe9"}', ("not UTF-8", "0xe9")),
    "UTF-16": ("\ufeff{}".encode("utf-16-le"), ("not UTF-8",)),
    "duplicate keys": (b'{"model": "a", "model": "b"}', ("twice", "model")),
    "duplicate keys below": (b'{"labels": {"a": "1", "a": "2"}}', ("twice", "a")),
    "NaN": (b'{"priority": NaN}', ("NaN",)),
    "Infinity": (b'{"priority": -Infinity}', ("Infinity",)),
    "an endless number": (b'{"priority": ' + b"9" * 5000 + b"}", ("not usable JSON",)),
    "10,000 levels deep": (_deep(10_000), ("10001 levels", "32")),
    "no object": (b'["model"]', ("object",)),
    "1 GB": (Huge(), (str(1024**3), str(256 * 1024))),
}


@pytest.mark.fault(12)
@pytest.mark.parametrize("kind", UNREADABLE)
def test_fault_12_a_sidecar_that_cannot_be_read_is_refused_and_a_mended_one_is_taken(
    kind: str,
) -> None:
    data, words = UNREADABLE[kind]
    world = World()
    world.inbox.put("red.png", PHOTO)

    world.drop("red.png.json", data)

    broken = rejected(world, "red", "", *words)
    assert world.inbox.read_keys == ([] if kind == "1 GB" else ["red.png.json"])
    world.drop("red.png.json", GOOD)
    play(world)
    mended = next(j for j in all_jobs(world) if j != broken)
    assert mended.status is Status.SUCCEEDED
    assert world.outbox.record("red")["job_id"] == mended.job_id
    assert world.provider.billed == ["edit red"]
    check_rules(world)


@pytest.mark.fault(12)
def test_fault_12_a_byte_order_mark_is_read_over() -> None:
    world = World()
    world.inbox.put("red.png", PHOTO)

    world.drop("red.png.json", b"\xef\xbb\xbf" + GOOD)
    play(world)

    assert only_job(world).status is Status.SUCCEEDED
    assert world.provider.billed == ["edit red"]
    check_rules(world)


@pytest.mark.fault(12)
def test_fault_12_a_bad_sidecar_keeps_no_other_from_being_worked_off() -> None:
    world = World()
    for number, (data, _) in enumerate(UNREADABLE.values()):
        put(world, f"good{number}")
        world.drop(f"bad{number}.json", data)
        submit(world, f"good{number}.png.json")

    play(world)

    assert len(world.provider.billed) == len(set(world.provider.billed)) == len(UNREADABLE)
    states = [job.status for job in all_jobs(world)]
    assert states.count(Status.REJECTED) == len(UNREADABLE)
    assert states.count(Status.SUCCEEDED) == len(UNREADABLE)
    check_rules(world)


# --- images ----------------------------------------


def _jpeg() -> bytes:
    return picture(kind="JPEG")


DAMAGED: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "0 bytes": (lambda: b"", ("empty",)),
    "a PNG cut off": (lambda: PHOTO[:-20], ("cut off",)),
    "a PNG cut off in its header": (lambda: PHOTO[:20], ()),
    "a JPEG cut off": (lambda: _jpeg()[: len(_jpeg()) // 2], ("cut off",)),
    "text": (lambda: b"no image at all", ("not a readable image",)),
    "a web page": (lambda: b"<!doctype html><html></html>", ("a web page",)),
    "a ZIP archive": (lambda: b"PK\x03\x04" + b"\0" * 60, ("ZIP",)),
    "a decompression bomb": (lambda: png_that_claims(60_000, 60_000), ("60000×60000",)),
    "a bomb that claims 2³¹ pixels a side": (
        lambda: png_that_claims(2**31 - 1, 2**31 - 1),
        (),
    ),
}


@pytest.mark.fault(13)
@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("model", ELEVEN)
def test_fault_13_a_damaged_image_is_refused_before_anything_is_spent(
    model: str, kind: str
) -> None:
    data, words = DAMAGED[kind]
    world = World()
    world.inbox.put("a.png", data())

    world.drop("a.png.json", sidecar_json(model))

    rejected(world, "a", "images", '"a.png"', *words)


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("name", "kind", "mime"),
    [
        ("a.png", "JPEG", "image/jpeg"),
        ("a.jpg", "PNG", "image/png"),
        ("a.bmp", "WEBP", "image/webp"),
    ],
)
def test_fault_13_a_mislabelled_image_is_sent_as_what_it_is(
    name: str, kind: str, mime: str
) -> None:
    world = World()
    world.inbox.put(name, picture(kind=kind))

    world.drop(f"{name}.json", sidecar_json())
    play(world)

    job = only_job(world)
    assert (job.status, job.images[0].mime) == (Status.SUCCEEDED, mime)
    assert [presigned[2] for presigned in world.inbox.presigned] == [mime]
    check_rules(world)


def _of_size(count: int) -> bytes:
    return PHOTO + b"\0" * (count - len(PHOTO))


MB = 1024 * 1024
# Written from the provider's contract, not from the registry: what is just within each limit of a
# model, what is just beyond it, and what the owner must be told.
LIMITS: dict[str, dict[str, tuple[bytes, bytes, str]]] = {
    WANX: {
        "smallest side": (png_that_claims(512, 512), png_that_claims(511, 512), "511×512"),
        "largest side": (png_that_claims(4096, 512), png_that_claims(4097, 512), "4097×512"),
        "bytes": (_of_size(10 * MB), _of_size(10 * MB + 1), "10.0 MB"),
        "format": (picture(kind="TIFF"), picture(kind="GIF"), "GIF"),
    },
    QWEN: {
        "pixels": (png_that_claims(8000, 8000), png_that_claims(8001, 8000), "8001×8000"),
        "bytes": (_of_size(10 * MB), _of_size(10 * MB + 1), "10.0 MB"),
    },
    WAN_25: {
        "smallest side": (png_that_claims(384, 384), png_that_claims(383, 384), "383×384"),
        "largest side": (png_that_claims(5000, 1250), png_that_claims(5001, 1300), "5001×1300"),
        "ratio": (png_that_claims(2000, 500), png_that_claims(2001, 500), "2001×500"),
        "bytes": (_of_size(10 * MB), _of_size(10 * MB + 1), "10.0 MB"),
        "format": (picture(kind="BMP"), picture(kind="TIFF"), "TIFF"),
        "transparency": (picture(), picture(mode="RGBA"), "transparency"),
    },
    WAN_26: {
        "smallest side": (png_that_claims(240, 240), png_that_claims(239, 240), "239×240"),
        "largest side": (png_that_claims(8000, 240), png_that_claims(8001, 240), "8001×240"),
        "bytes": (_of_size(10 * MB), _of_size(10 * MB + 1), "10.0 MB"),
        "format": (picture(kind="WEBP"), picture(kind="GIF"), "GIF"),
        "transparency": (picture(), picture(mode="RGBA"), "transparency"),
    },
    WAN: {
        "smallest side": (png_that_claims(240, 240), png_that_claims(239, 240), "239×240"),
        "largest side": (png_that_claims(8000, 1000), png_that_claims(8001, 1001), "8001×1001"),
        "ratio": (png_that_claims(1920, 240), png_that_claims(1921, 240), "1921×240"),
        "bytes": (_of_size(20 * MB), _of_size(20 * MB + 1), "20.0 MB"),
        "format": (picture(kind="JPEG"), picture(kind="TIFF"), "TIFF"),
        "transparency": (picture(), picture(mode="RGBA"), "transparency"),
    },
}
FAMILY = {WANX: WANX, WAN_25: WAN_25, WAN_26: WAN_26, WAN: WAN, f"{WAN}-pro": WAN}
LIMITED = [(model, limit) for model in ELEVEN for limit in LIMITS[FAMILY.get(model, QWEN)]]


@pytest.mark.fault(13)
@pytest.mark.parametrize(("model", "limit"), LIMITED)
def test_fault_13_an_image_just_beyond_a_limit_of_its_model_is_refused(
    model: str, limit: str
) -> None:
    within, beyond, word = LIMITS[FAMILY.get(model, QWEN)][limit]
    for data, taken in ((within, True), (beyond, False)):
        world = World()
        world.inbox.put("a.png", data)
        world.drop("a.png.json", sidecar_json(model))

        if not taken:
            rejected(world, "a", "images", '"a.png"', word)
            continue
        play(world)
        assert only_job(world).status is Status.SUCCEEDED
        assert len(world.provider.billed) == 1
        check_rules(world)


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("model", "most"),
    [(m, {WANX: 1, WAN_26: 4, WAN: 9, f"{WAN}-pro": 9}.get(m, 3)) for m in ELEVEN],
)
def test_fault_13_one_image_more_than_a_model_takes_is_refused(model: str, most: int) -> None:
    world = World()
    names = [f"{number}.png" for number in range(most + 1)]
    for name in names:
        world.inbox.put(name, PHOTO)

    world.drop("a.json", sidecar_json(model, images=names))

    rejected(world, "a", "images", f"{most + 1} given")


@pytest.mark.fault(13)
def test_fault_13_one_bad_image_among_several_is_named_and_the_others_are_not_sent() -> None:
    world = World()
    for name, data in (("a.png", PHOTO), ("b.png", PHOTO[:-20]), ("c.png", PHOTO)):
        world.inbox.put(name, data)

    world.drop("mix.json", sidecar_json(QWEN, images=["a.png", "b.png", "c.png"]))

    rejected(world, "mix", "images[1]", '"b.png"', "cut off")


# --- masks ----------------------------------------


def _mask(change: Callable[[Image.Image], Image.Image], kind: str = "PNG") -> bytes:
    image = change(Image.open(io.BytesIO(mask_picture())))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _one_grey_pixel(image: Image.Image) -> Image.Image:
    image.putpixel((300, 300), (127, 127, 127))
    return image


def _glass(image: Image.Image) -> Image.Image:
    glass = image.convert("RGBA")
    glass.putalpha(128)
    return glass


def _smoothed(image: Image.Image) -> Image.Image:
    return image.resize((100, 100)).resize((512, 512), Image.Resampling.BILINEAR)


MASKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a pixel wider": (lambda: mask_picture(513, 512), "513×512"),
    "turned": (lambda: mask_picture(512, 768), "512×768"),
    "grey": (lambda: picture(colour="grey"), "black"),
    "coloured": (lambda: picture(colour="red"), "black"),
    "one grey pixel": (lambda: _mask(_one_grey_pixel), "black"),
    "smoothed": (lambda: _mask(_smoothed), "black"),
    "half transparent": (lambda: _mask(_glass), "transparent"),
    "no image": (lambda: b"no image", "not a readable image"),
    "empty": (lambda: b"", "empty"),
    "cut off": (lambda: mask_picture()[:-20], "cut off"),
    "a bomb": (lambda: png_that_claims(60_000, 60_000), "60000×60000"),
}


@pytest.mark.fault(14)
@pytest.mark.parametrize("kind", MASKS)
def test_fault_14_a_mask_that_will_not_do_is_refused_before_anything_is_spent(kind: str) -> None:
    data, word = MASKS[kind]
    world = World()
    world.inbox.put("cup.png", PHOTO)
    world.inbox.put("m.png", data())

    world.drop("cup.png.json", sidecar_json(function=MASKED, mask="m.png"))

    rejected(world, "cup", "mask", '"m.png"', word)


@pytest.mark.fault(14)
def test_fault_14_a_mask_and_an_image_that_will_not_do_are_both_said() -> None:
    world = World()
    world.inbox.put("cup.png", picture(511, 512))
    world.inbox.put("m.png", picture(colour="grey"))

    world.drop("cup.png.json", sidecar_json(function=MASKED, mask="m.png"))
    play(world)

    assert {p["field"] for p in world.outbox.record("cup")["problems"]} == {"images", "mask"}
    assert world.provider.calls == []
    check_rules(world)


# --- two for one ----------------------------------------


def by_sidecar(world: World) -> dict[str, Job]:
    return {job.sidecar: job for job in all_jobs(world)}


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    "order", list(itertools.permutations(["a.png", "a.png.json", "a.json"])), ids="-".join
)
def test_fault_15_of_two_sidecars_for_one_image_the_full_name_wins(order: tuple[str, ...]) -> None:
    world = World()
    data = {
        "a.png": PHOTO,
        "a.png.json": sidecar_json(prompt="the full name"),
        "a.json": sidecar_json(prompt="the short name"),
    }
    for key in data:
        world.inbox.put(key, data[key])

    for key in order:
        submit(world, key)
    play(world)

    jobs = by_sidecar(world)
    assert jobs["a.png.json"].status is Status.SUCCEEDED
    loser = jobs["a.json"]
    assert loser.status is Status.REJECTED
    assert "a.png.json" in loser.problems[0].message
    assert world.provider.billed == ["the full name"]
    # Both owners see what became of theirs, and neither covers the other.
    assert world.outbox.record("a")["job_id"] == jobs["a.png.json"].job_id
    assert world.outbox.record(loser.folder)["status"] == "REJECTED"
    assert loser.folder != "a"
    check_rules(world)


@pytest.mark.fault(15)
@pytest.mark.parametrize("slow", ["a.json", "a.png.json"])
def test_fault_15_a_full_name_that_comes_when_the_short_one_is_under_way_is_not_covered(
    slow: str,
) -> None:
    world = World()
    world.drop("a.png", PHOTO)
    for key, prompt in (("a.json", "the short name"), ("a.png.json", "the full name")):
        world.drop(key, sidecar_json(prompt=prompt))
        world.provider.seconds = 100.0 if key == slow else 10.0
        world.dispatch()
    assert len(world.provider.tasks_made) == 2
    play(world)

    jobs = by_sidecar(world)
    assert {job.status for job in jobs.values()} == {Status.SUCCEEDED}
    full = jobs["a.png.json"]
    assert world.outbox.record("a")["job_id"] == full.job_id
    (result,) = full.outputs
    assert world.outbox.objects[result.key][-1].version_id == result.version_id
    check_rules(world)


@pytest.mark.fault(15)
@pytest.mark.parametrize("first", ["logo.png", "a.json"])
def test_fault_15_one_image_that_two_sidecars_name_is_edited_for_each(first: str) -> None:
    world = World()
    drops: dict[str, Any] = {
        "logo.png": PHOTO,
        "a.json": sidecar_json(prompt="edit for a", images=["logo.png"]),
        "b.json": sidecar_json(prompt="edit for b", images=["logo.png"]),
    }
    for key in sorted(drops, key=lambda key: key != first):
        world.drop(key, drops[key])
    play(world)

    jobs = by_sidecar(world)
    assert {job.status for job in jobs.values()} == {Status.SUCCEEDED}
    assert sorted(world.provider.billed) == ["edit for a", "edit for b"]
    assert world.outbox.results() == ["a/a-1.png", "b/b-1.png"]
    check_rules(world)


@pytest.mark.fault(15)
def test_fault_15_a_sidecar_that_could_mean_two_images_is_refused_with_both_names() -> None:
    world = World()
    world.inbox.put("a.jpg", picture(kind="JPEG"))
    world.inbox.put("a.png", PHOTO)

    world.drop("a.json", sidecar_json())

    rejected(world, "a", "images", "a.jpg", "a.png")
