"""sheet: a page of what lies there; no older job's covers a newer one's, no picture harms it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from retouch.errors import Conflict
from retouch.fitting import Thumbnail, thumbnail
from retouch.jobs import Job, Status
from retouch.provider.answers import TaskAnswer
from retouch.records import record as record_of
from retouch.steps.sheet import Buckets, look_at, read_record, sheet
from tests.fakes import (
    PHOTO,
    WAN,
    WANX,
    Crash,
    FakeProvider,
    Moment,
    World,
    mask_picture,
    picture,
    sidecar_json,
)
from tests.pages import Page

PAGE = "shoes/red/index.html"


def ended(world: World, **fields: Any) -> Job:
    job = world.finalizing_job(**fields)
    world.finalize(job.job_id, job.fence)
    return world.store.the_job(job.job_id)


def make(world: World, job: Job, seconds: float = 60.0) -> str | None:
    return sheet(world, job.folder, job.job_id, world.clock.now() + seconds)


def made(world: World, key: str = PAGE) -> Page:
    return Page(world.outbox.data(key).decode())


def test_a_page_is_made_of_the_versions_that_the_job_saw() -> None:
    world = World()
    job = ended(world, parameters={"n": 2})
    world.inbox.put(job.images[0].key, picture(10, 999, "red"))

    assert make(world, job) == PAGE

    page = made(world)
    assert len(page.alts) == 3
    first = page.all("img")[0]
    assert first["width"] == first["height"] == "480"  # the square that was there
    assert world.outbox.objects[PAGE][-1].content_type == "text/html; charset=utf-8"


def test_making_it_again_gives_the_same_page() -> None:
    world = World()
    job = ended(world)
    make(world, job)
    make(world, job)

    first, second = world.outbox.objects[PAGE]
    assert first.data == second.data


def test_a_mask_is_shown() -> None:
    world = World()
    world.inbox.put("shoes/m.png", mask_picture())
    job = ended(world, function="description_edit_with_mask", mask="m.png")
    make(world, job)

    assert any(alt.startswith("mask shoes/m.png") for alt in made(world).alts)


def test_a_refused_drop_has_a_page_that_names_its_problems() -> None:
    world = World()
    (job_id,) = world.drop("shoes/red.png.json", b'{"model": "nope"}')
    job = world.store.the_job(job_id)
    assert job.status is Status.REJECTED

    assert make(world, job) == PAGE

    assert job.problems[0].message in made(world).text


def test_words_and_images_are_shown_in_order() -> None:
    world = World()
    job = world.finalizing_job()
    world.provider.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED",
        images=FakeProvider.urls("task-0001", 2),
        texts=("First <b>", "Then"),
        reading=("First <b>", 1, "Then", 2),
        usage={"image_count": 2},
    )
    world.finalize(job.job_id, job.fence)
    make(world, job)

    html = world.outbox.data(PAGE).decode()
    places = [html.index(w) for w in ("First &lt;b&gt;", 'alt="result 1', "Then", 'alt="result 2')]
    assert places == sorted(places)


# --- whose the folder is ----------------------------------------


def newer_than(world: World, job: Job) -> Job:
    """Another version of the sidecar, entered and on record."""
    world.clock.advance(1)
    (job_id,) = world.drop(job.sidecar, sidecar_json(prompt="another"))
    return world.store.the_job(job_id)


def test_an_older_job_s_page_goes_where_its_record_is() -> None:
    world = World()
    job = world.finalizing_job()
    newer_than(world, job)
    world.finalize(job.job_id, job.fence)

    assert make(world, job) == f"shoes/red/{job.job_id}/index.html"

    assert PAGE not in world.outbox.objects


def test_a_job_whose_record_was_covered_gets_no_page() -> None:
    world = World()
    job = ended(world)
    newer_than(world, job)

    assert make(world, job) is None

    assert PAGE not in world.outbox.objects


def test_a_page_never_covers_one_that_was_written_meanwhile() -> None:
    world = World()
    job = ended(world)

    def overtaken() -> None:
        newer = newer_than(world, job)
        world.outbox.put(PAGE, b"the newer one's", "text/html")
        assert newer.folder == job.folder

    world.outbox.before_put.append(overtaken)

    assert make(world, job) is None

    assert world.outbox.data(PAGE) == b"the newer one's"


def test_a_page_of_a_record_that_was_covered_just_after_it_was_read_is_not_written() -> None:
    world = World()
    job = ended(world)
    read = world.outbox.read

    def overtaken(key: str, version_id: str | None) -> bytes | None:
        data = read(key, version_id)
        if key == "shoes/red/job.json" and PAGE not in world.outbox.objects:
            newer_than(world, job)
            world.outbox.put(PAGE, b"the newer one's", "text/html")
        return data

    world.outbox.read = overtaken  # type: ignore[method-assign]

    assert make(world, job) is None

    assert world.outbox.data(PAGE) == b"the newer one's"


def test_a_page_follows_a_record_that_changed_meanwhile() -> None:
    world = World()
    job = ended(world)

    def changed() -> None:
        record = world.outbox.record("shoes/red") | {"doubt": "a new doubt"}
        world.outbox.put("shoes/red/job.json", json.dumps(record).encode(), "application/json")
        world.outbox.put(PAGE, b"of the older record", "text/html")

    world.outbox.before_put.append(changed)

    assert make(world, job) == PAGE

    assert "a new doubt" in made(world).text


def test_others_who_write_again_and_again_are_given_way_to() -> None:
    world = World()
    job = ended(world)
    count = iter(range(100))

    def write() -> None:
        world.outbox.before_put.clear()
        world.outbox.put(PAGE, str(next(count)).encode(), "text/html")
        world.outbox.before_put.append(write)

    world.outbox.before_put.append(write)

    with pytest.raises(Conflict):
        make(world, job)


@pytest.mark.parametrize("moment", Moment)
def test_a_page_whose_making_died_is_made_by_the_next_try(moment: Moment) -> None:
    world = World()
    job = ended(world)
    world.effects.crash_at(1, moment)
    with pytest.raises(Crash):
        make(world, job)
    world.effects.heal()

    assert make(world, job) == PAGE

    assert len(made(world).alts) == 2


def test_nothing_but_the_page_is_written_and_no_job_is_changed() -> None:
    world = World()
    job = ended(world)
    before = len(world.effects.log)

    make(world, job)

    assert world.effects.log[before:] == [f"put {PAGE}"]


# --- jobs of one drop ----------------------------------------


def several(world: World, **fields: Any) -> list[Job]:
    """The jobs of a drop, which have all ended."""
    world.inbox.put("shoes/red.png", PHOTO)
    ids = world.drop("shoes/red.png.json", sidecar_json(**fields))
    world.run(200)
    return [world.store.the_job(job_id) for job_id in ids]


def three(world: World) -> list[Job]:
    return several(world, variants=[{"name": name} for name in ("blue", "a +%#", "图🎨")])


def ways(world: World, job: Job) -> list[str]:
    links = made(world, f"{job.folder}/index.html").links
    return [link for link in links if link.endswith("index.html")]


def write_record(world: World, job: Job, *, under_way: bool = False) -> None:
    """The job's record is written as it is, or as it was before the job had ended."""
    said = record_of(job)
    if under_way:
        said |= {"status": "RUNNING", "outputs": [], "cost": None}
    world.outbox.put(f"{job.folder}/job.json", json.dumps(said).encode(), "application/json")


def test_once_all_variants_have_ended_each_page_leads_to_each_other() -> None:
    world = World()
    jobs = three(world)
    last = jobs[2]
    write_record(world, last, under_way=True)
    for job in jobs[:2]:
        make(world, job)
    # The second was not seen by the first, and the third by neither.
    assert ways(world, jobs[1]) == ["../blue/index.html"]
    assert (
        f"{last.folder.rpartition('/')[2]}: no page yet"
        in made(world, f"{jobs[0].folder}/index.html").text
    )

    write_record(world, last)
    make(world, last)

    assert ways(world, jobs[0]) == [
        "../a%20%2B%25%23/index.html",
        "../%E5%9B%BE%F0%9F%8E%A8/index.html",
    ]
    assert len(ways(world, jobs[1])) == len(ways(world, last)) == 2
    for job in jobs:
        page = made(world, f"{job.folder}/index.html")
        assert len(page.alts) == 2  # its pictures are still there
        assert f"Variant {job.part.number + 1} of 3" in page.text  # type: ignore[union-attr]


def test_the_page_of_each_step_leads_to_the_final_result() -> None:
    world = World()
    jobs = several(world, steps=[{"prompt": "a"}, {"prompt": "b"}])
    for job in jobs:
        make(world, job)

    assert [job.folder for job in jobs] == ["shoes/red/step-1", "shoes/red"]
    assert ways(world, jobs[0]) == ["../index.html"]
    assert ways(world, jobs[1]) == ["step-1/index.html"]


def test_of_two_that_end_at_once_neither_page_stays_without_its_way() -> None:
    world = World()
    first, second = several(world, variants=[{"name": "a"}, {"name": "b"}])
    write_record(world, second, under_way=True)

    def ended_meanwhile() -> None:
        # All of the other's page is made between looking at the records and writing.
        write_record(world, second)
        make(world, second)

    world.outbox.before_put.append(ended_meanwhile)

    make(world, first)

    assert ways(world, first) == ["../b/index.html"]
    assert ways(world, second) == ["../a/index.html"]


def test_a_page_that_is_made_anew_meanwhile_is_not_covered_by_its_older_self() -> None:
    world = World()
    first, second = several(world, variants=[{"name": "a"}, {"name": "b"}])
    write_record(world, second, under_way=True)
    make(world, first)
    write_record(world, second)
    other = f"{first.folder}/index.html"

    read = world.outbox.read

    def made_anew_after(key: str, version_id: str | None) -> bytes | None:
        data = read(key, version_id)
        if key == other and data is not None and b"newer" not in data:
            html = data.decode().replace("</main>", "newer</main>")
            world.outbox.put(other, html.encode(), "text/html")
        return data

    world.outbox.read = made_anew_after  # type: ignore[method-assign]

    make(world, second)

    assert "newer" in made(world, other).text
    assert ways(world, first) == ["../b/index.html"]


def test_the_pages_of_an_older_drop_do_not_lead_to_a_newer_one_s() -> None:
    world = World()
    older = three(world)
    newer = three(world)
    assert [job.folder for job in older] == [job.folder for job in newer]
    aside = f"{older[0].folder}/{older[0].job_id}"
    for place, job in ((aside, older[0]), (newer[1].folder, older[1])):
        data = json.dumps(record_of(job)).encode()
        world.outbox.put(f"{place}/job.json", data, "application/json")

    assert sheet(world, aside, older[0].job_id, world.clock.now() + 60) is not None
    make(world, newer[0])

    links = made(world, f"{aside}/index.html").links
    assert [link for link in links if link.endswith("index.html")] == []
    # The second's record is of the older version.
    assert ways(world, newer[0]) == ["../%E5%9B%BE%F0%9F%8E%A8/index.html"]


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_leading_on_that_died_is_made_up_for_by_the_next_try(at: int, moment: Moment) -> None:
    world = World()
    jobs = three(world)
    write_record(world, jobs[2], under_way=True)
    for job in jobs[:2]:
        make(world, job)
    write_record(world, jobs[2])
    world.effects.crash_at(at, moment)
    with pytest.raises(Crash):
        make(world, jobs[2])
    world.effects.heal()

    make(world, jobs[2])

    assert [len(ways(world, job)) for job in jobs] == [2, 2, 2]


# --- pictures that cannot be shown ----------------------------------------


def bomb() -> bytes:
    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (PHOTO[: len(PHOTO) // 2], "it is "),
        (b"%PDF-1.7", "it is PDF"),
        (bomb(), "it is too large to be unpacked, with 9000×9000 pixels"),
        (None, "this version of it has been deleted"),
    ],
)
def test_a_picture_that_cannot_be_read_leaves_the_page(data: bytes | None, why: str) -> None:
    world = World()
    job = ended(world, parameters={"n": 2})
    broken = world.inbox.objects[job.images[0].key]
    for version in broken:
        version.data = data

    assert make(world, job) == PAGE

    page = made(world)
    assert f"no picture here: {why}" in page.text
    assert len(page.alts) == 2


def test_a_file_too_large_to_be_read_is_not_read() -> None:
    world = World()
    job = ended(world)
    record = world.outbox.record("shoes/red")
    record["inputs"][0]["size"] = 10**9
    world.outbox.put("shoes/red/job.json", json.dumps(record).encode(), "application/json")
    world.inbox.read_keys.clear()

    make(world, job)

    assert "no picture here: the file has 953.7 MB" in made(world).text
    assert world.inbox.read_keys == []


def test_an_image_that_is_passed_on_by_url_is_never_fetched() -> None:
    world = World()
    job = ended(world, model=WANX, images=["https://example.com/a.png?Signature=secret"])
    make(world, job)

    page = made(world)
    assert "passed on by its address" in page.text
    assert "secret" not in world.outbox.data(PAGE).decode()


def test_pictures_for_which_there_is_no_time_are_left_out_and_it_is_said() -> None:
    world = World()
    job = ended(world)

    assert make(world, job, seconds=10) == PAGE

    assert "there was no time for it" in made(world).text


def test_an_input_that_an_earlier_step_made_is_read_from_the_outbox() -> None:
    world = World()
    job = ended(world, model=WAN)
    record = world.outbox.record("shoes/red")
    output = record["outputs"][0]
    record["inputs"][0] |= {
        "key": output["key"], "version_id": output["version_id"], "made_by": "aaaabbbbccccdddd",
    }  # fmt: skip
    world.outbox.put("shoes/red/job.json", json.dumps(record).encode(), "application/json")
    world.inbox.read_keys.clear()

    make(world, job)

    assert len(made(world).alts) == 2
    assert world.inbox.read_keys == []


def test_a_record_that_is_none_makes_no_page() -> None:
    world = World()
    job = ended(world)
    record = "shoes/red/job.json"
    there = world.outbox.current(record)
    world.outbox.put_stream(record, iter([b"{oops"]), "application/json", over=there)

    assert make(world, job) is None


def test_a_thumbnail_is_as_small_as_it_is_asked_for() -> None:
    world = World()
    ended(world, parameters={"n": 2})
    record = read_record(world.outbox, "shoes/red")
    assert record is not None
    shrunk: list[int] = []
    buckets = Buckets(world.inbox, world.outbox)

    def shrink(data: bytes, longest: int) -> Thumbnail:
        shrunk.append(longest)
        return thumbnail(data, longest)

    found = look_at(buckets, "shoes/red", record, longest=100, shrink=shrink)

    assert shrunk == [100, 100, 100]
    assert all(not isinstance(s, str) and s.width <= 100 for s in found.pictures.values())
