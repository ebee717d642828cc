"""Bringing results out: whole or not at all, once, and with what they tell about the files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from retouch.cli.watch import Order, Tally
from retouch.cli.watch_folder import Stamp
from retouch.cli.watch_journal import Entry, Journal, State
from retouch.cli.watch_outbox import Mirror, NotWritten
from retouch.jobs import Status


class CutOff(io.BytesIO):
    """A download that breaks off."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(4)
        if not data:
            raise ConnectionError("cut off")
        return data


@dataclass
class Bucket:
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    cut_off: bool = False
    reads: list[str] = field(default_factory=list)

    def open_result(self, key: str) -> tuple[Any, str] | None:
        if key not in self.objects:
            return None
        self.reads.append(key)
        data, tag = self.objects[key]
        return (CutOff(data) if self.cut_off else io.BytesIO(data)), tag

    def results_with_tags(self) -> Iterator[tuple[str, str]]:
        yield from ((key, tag) for key, (_, tag) in self.objects.items())


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "watch.db", "out")
    yield made
    made.close()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def mirror(out: Path, journal: Journal, bucket: Bucket, said: list[str]) -> Mirror:
    return Mirror(out, journal, bucket, said.append)


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_result_appears_under_its_key_and_is_fetched_once(
    mirror: Mirror, bucket: Bucket, out: Path
) -> None:
    key = "späte +%#/照片 😀/照片 😀-1.png"
    bucket.objects[key] = (b"pixels", '"1"')
    for _ in range(2):
        list(mirror.compare())
        list(mirror.fetch(key))
    assert files(out) == [key]
    assert (out / key).read_bytes() == b"pixels"
    (out / key).unlink()  # taken away by a person
    list(mirror.compare())
    assert files(out) == []
    bucket.objects[key] = (b"newer", '"2"')
    list(mirror.compare())
    assert (out / key).read_bytes() == b"newer"


def test_a_download_that_is_cut_off_leaves_what_was_there(
    mirror: Mirror, bucket: Bucket, out: Path
) -> None:
    bucket.objects["a/a-1.png"] = (b"the first one", '"1"')
    list(mirror.fetch("a/a-1.png"))
    bucket.objects["a/a-1.png"] = (b"the second one", '"2"')
    bucket.cut_off = True
    with pytest.raises(ConnectionError):
        list(mirror.fetch("a/a-1.png"))
    assert files(out) == ["a/a-1.png"]
    assert (out / "a/a-1.png").read_bytes() == b"the first one"
    bucket.cut_off = False
    list(mirror.compare())
    assert (out / "a/a-1.png").read_bytes() == b"the second one"


def test_a_folder_that_takes_nothing_is_said_with_the_file(
    mirror: Mirror, bucket: Bucket, out: Path
) -> None:
    out.mkdir()
    (out / "a").write_bytes(b"a file where a folder is needed")
    bucket.objects["a/a-1.png"] = (b"pixels", '"1"')
    with pytest.raises(NotWritten, match=r"a/a-1\.png cannot be written: "):
        list(mirror.compare())
    (out / "a").unlink()
    list(mirror.compare())
    assert files(out) == ["a/a-1.png"]


def test_a_name_that_is_too_long_for_a_file_keeps_no_other_back(
    mirror: Mirror, bucket: Bucket, out: Path, said: list[str]
) -> None:
    long = "a" * 250
    bucket.objects[f"{long}/{long}-1.png"] = (b"pixels", '"1"')
    bucket.objects["b/b-1.png"] = (b"pixels", '"2"')
    list(mirror.compare())
    assert files(out) == ["b/b-1.png"]
    assert said == [
        f"{long}/{long}-1.png: is no name that a file can have here; it stays in the stack's outbox"
    ]


def test_what_was_not_brought_out_is_known(mirror: Mirror, bucket: Bucket, out: Path) -> None:
    bucket.objects["a/a-1.png"] = (b"pixels", '"1"')
    assert mirror.left_behind() == "a/a-1.png"
    list(mirror.compare())
    assert mirror.left_behind() is None
    (out / "a/a-1.png").unlink()  # taken away by a person
    assert mirror.left_behind() is None
    bucket.objects["a/a-1.png"] = (b"newer", '"2"')
    assert mirror.left_behind() == "a/a-1.png"


def test_another_outbox_folder_gets_everything(
    tmp_path: Path, mirror: Mirror, bucket: Bucket, said: list[str]
) -> None:
    bucket.objects["a/a-1.png"] = (b"pixels", '"1"')
    list(mirror.compare())
    other = Journal(tmp_path / "watch.db", "elsewhere")
    list(Mirror(tmp_path / "elsewhere", other, bucket, said.append).compare())
    other.close()
    assert files(tmp_path / "elsewhere") == ["a/a-1.png"]


@pytest.mark.parametrize("key", ["../a.png", "a/../../b.png", "/a.png", "a//b.png", "a/./b.png"])
def test_no_key_leads_out_of_the_folder(
    key: str, mirror: Mirror, bucket: Bucket, tmp_path: Path, said: list[str]
) -> None:
    bucket.objects[key] = (b"x", '"1"')
    list(mirror.compare())
    assert files(tmp_path) == ["watch.db", "watch.db-shm", "watch.db-wal"]
    assert said == [f"{key}: is no name that a file can have here; it stays in the stack's outbox"]


def record(status: str, **more: Any) -> bytes:
    told = {
        "status": status, "lane": "beijing:m", "missing": [], "mask": None,
        "sidecar": {"key": "a.json", "version_id": "1"},
        "inputs": [{"key": "a.jpg", "version_id": "2"}, {"url": "https://example.com/b.jpg"}],
    }  # fmt: skip
    return json.dumps(told | more).encode()


@pytest.mark.parametrize(
    ("told", "used"),
    [
        (record("QUEUED"), True),
        (record("FAILED"), True),
        (record("CANCELED"), True),
        (record("CANCELED", lane=None), False),
        (record("REJECTED"), False),
        (record("WAITING"), False),
    ],
)
def test_a_record_tells_which_files_a_job_was_made_from(
    told: bytes, used: bool, mirror: Mirror, bucket: Bucket, journal: Journal
) -> None:
    for key, version in (("a.json", "1"), ("a.jpg", "2"), ("c.jpg", "3")):
        journal.put(Entry(key, Stamp(1, 1), "", State.UP, 0.0, version))
    bucket.objects["a/job.json"] = (told, '"1"')
    [said] = mirror.compare()
    assert said["sidecar"]["key"] == "a.json"
    now = {key: entry.used for key, entry in journal.entries.items()}
    assert now == {"a.json": used, "a.jpg": used, "c.jpg": False}


def test_a_record_of_an_older_version_says_nothing_about_the_newer_one(
    mirror: Mirror, bucket: Bucket, journal: Journal
) -> None:
    journal.put(Entry("a.json", Stamp(1, 1), "", State.UP, 0.0, "newer"))
    bucket.objects["a/job.json"] = (record("SUCCEEDED"), '"1"')
    list(mirror.compare())
    assert not journal.entries["a.json"].used


def test_the_folder_tells_which_files_have_results(mirror: Mirror, out: Path) -> None:
    (out / "shoes/red").mkdir(parents=True)
    (out / "shoes/red/job.json").write_text("{}")
    for key in ("shoes/red.jpg", "shoes/red.jpg.json", "shoes/red.json"):
        assert mirror.has_results(key)
    assert not mirror.has_results("shoes/blue.jpg")


# --- telling ---


def test_the_line_counts_each_job_where_it_is_and_says_how_long_the_rest_takes() -> None:
    now = 0.0
    tally = Tally(now=lambda: now, dropped=24)
    for number in range(12):
        tally.hear(f"{number}", 1, Status.QUEUED)
    assert tally.line() == "24 dropped, 12 queued, 0 under way, 0 done"
    for number in range(6):
        now = 10.0 * number
        tally.hear(f"{number}", 3, Status.SUCCEEDED)
        tally.hear(f"{number}", 2, Status.RUNNING)  # told late
    tally.hear("6", 2, Status.RUNNING)
    tally.hear("7", 2, Status.FAILED)
    tally.hear("8", 2, Status.WAITING)
    assert tally.line() == (
        "24 dropped, 1 waiting, 3 queued, 1 under way, 6 done, 1 failed, about 35 s left"
    )
    tally.coming = 4
    assert tally.line() == (
        "24 dropped, 4 on their way, 1 waiting, 3 queued, 1 under way, 6 done, 1 failed, "
        "about 65 s left"
    )
    assert "left" not in tally.line(going_on=False)
    tally.coming = 0
    now = 5000.0
    assert tally.line().endswith("about 56 min left")


def test_another_outbox_is_the_same_stack_and_another_inbox_or_provider_is_not() -> None:
    order = Order(Path("in"), Path("out"))
    assert order.name == Order(Path("in"), Path("elsewhere")).name
    assert order.name == Order(Path("x/../in"), Path("out")).name
    others = {
        Order(Path("in2"), Path("out")).name,
        Order(Path("in"), Path("out"), "dashscope").name,
    }
    assert len(others | {order.name}) == 3
