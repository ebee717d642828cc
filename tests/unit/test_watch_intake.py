"""What `retouch watch` drops and what it does not: on a real folder, with a clock of its own, and
with an end at every step."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from retouch import keys
from retouch.cli.watch_folder import FolderAway, Patience, Stamp, look, overlap
from retouch.cli.watch_intake import LARGEST_BYTES, Intake
from retouch.cli.watch_journal import Entry, Journal, State
from retouch.jobs import Job, Status
from retouch.records import record

from .helpers import encoded

PICTURE = encoded(Image.new("RGB", (600, 400), "teal"), "JPEG")
NOTE = b'{"model": "wan2.7-image", "prompt": "x"}'


class Died(BaseException):
    """The process ended here."""


@dataclass
class Steps:
    """Counts effects, and ends the process before or after one of them."""

    die_at: int | None = None
    after: bool = False
    count: int = 0

    def __call__(self, effect: Callable[[], object]) -> object:
        self.count += 1
        dies = self.count == self.die_at
        if dies and not self.after:
            raise Died
        result = effect()
        if dies:
            raise Died
        return result


@dataclass
class Stack:
    """The stack at its quickest: a sidecar is a paid job the moment it is there, unless it waits."""

    steps: Steps = field(default_factory=Steps)
    objects: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Key to version and SHA-256."""
    jobs: dict[tuple[str, str], str] = field(default_factory=dict)
    """Key and version to `paid`, `waiting` or `withdrawn`."""
    waiting: set[str] = field(default_factory=set)
    """Sidecars whose images are missing, by the last part of their name."""
    busy: int = 0
    """How often it is not yet known whether an upload was looked at."""
    puts: list[str] = field(default_factory=list)

    def put(self, key: str, data: bytes, sha256: str) -> str:
        def effect() -> str:
            self.puts.append(key)
            version = f"v{len(self.puts)}"
            self.objects[key] = (version, sha256)
            if keys.classify(key) is keys.Kind.SIDECAR:
                waits = key.rpartition("/")[2] in self.waiting
                self.jobs[key, version] = "waiting" if waits else "paid"
            return version

        return str(self.steps(effect))

    def version_of(self, key: str, sha256: str) -> str | None:
        version, has = self.objects.get(key, (None, None))
        return version if has == sha256 else None

    def remove(self, key: str) -> None:
        self.steps(lambda: self.objects.pop(key, None))

    def known_since(self, key: str, since: float) -> str | None:
        found = [version for (name, version) in self.jobs if name == key]
        return found[-1] if found else None

    def release(self, key: str, version: str | None) -> bool | None:
        if self.busy:
            self.busy -= 1
            return None

        def effect() -> bool:
            self.objects.pop(key, None)
            at = (key, version or "")
            if self.jobs.get(at) == "waiting":
                self.jobs[at] = "withdrawn"
            if keys.classify(key) is keys.Kind.IMAGE:
                names = keys.sidecars_of(key)
                return not any(n in names and s == "paid" for (n, _), s in self.jobs.items())
            return self.jobs.get(at) != "paid"

        return bool(self.steps(effect))

    @property
    def paid(self) -> list[str]:
        return [key for (key, _), status in self.jobs.items() if status == "paid"]


class Noted(Journal):
    """A journal each of whose lines is a step."""

    steps = Steps()

    def put(self, entry: Entry) -> None:
        self.steps(lambda: super(Noted, self).put(entry))

    def moved(self, old: str, entry: Entry) -> None:
        def effect() -> None:
            Journal.forget(self, old)
            Journal.put(self, entry)

        self.steps(effect)


class Desk:
    """A folder that is watched, from one start to the next."""

    def __init__(self, tmp: Path, stack: Stack | None = None) -> None:
        self.root = tmp / "in"
        self.root.mkdir(parents=True)
        self.path = tmp / "watch.db"
        self.stack = stack or Stack()
        self.steps = self.stack.steps
        self.said: list[str] = []
        self.now = 1000.0
        self.results: set[str] = set()
        self.start()

    def start(self) -> None:
        self.journal = Noted(self.path, "out")
        self.journal.steps = self.steps
        self.intake = Intake(
            self.root,
            self.journal,
            self.stack,
            self.said.append,
            has_results=lambda key: key in self.results,
            now=lambda: self.now,
        )
        self.intake.recover()

    def restart(self) -> None:
        self.journal.close()
        self.start()

    def look(self, rounds: int = 1, seconds: float = 1.0) -> int:
        dropped = 0
        for _ in range(rounds):
            dropped += self.intake.round(lambda: True).dropped
            self.now += seconds
        return dropped

    def write(self, key: str, data: bytes, age: float = 100.0) -> Path:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        # As a clock of its own would have it, so that two writes in a moment differ.
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
        return path

    def pair(self, key: str = "red.jpg") -> None:
        self.write(key, PICTURE)
        self.write(f"{key}.json", NOTE)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.journal.close()


# --- taking in ---


def test_a_file_goes_up_once_it_stands_still(desk: Desk) -> None:
    path = desk.write("red.jpg", PICTURE[:100])
    assert desk.look(2) == 0
    path.write_bytes(PICTURE)  # still being written
    assert desk.look(2) == 0
    assert desk.look(1) == 1
    assert desk.look(5) == 0
    assert desk.stack.puts == ["red.jpg"]


def test_a_file_that_changes_while_it_is_read_is_left_for_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = desk.write("red.jpg", PICTURE)
    desk.look(2)
    read = Path.read_bytes

    def grows(self: Path) -> bytes:
        data = read(self)
        with self.open("ab") as file:
            file.write(b"more")
        return data

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", grows)
        assert desk.look(2) == 0
    assert path.stat().st_size > len(PICTURE)
    assert desk.look(4) == 1


def test_images_go_up_before_sidecars_and_presets_before_all(desk: Desk) -> None:
    desk.write("a.jpg.json", NOTE)
    desk.write("z/b.jpg", PICTURE)
    desk.look(4)
    assert desk.stack.puts == ["z/b.jpg", "a.jpg.json"]


@pytest.mark.parametrize(
    "name", ["a b", "a+b", "100%", "#1", "照片", "😀", "späte Ärger", "a'\"&<>"]
)
def test_keys_are_paths_below_the_folder(desk: Desk, name: str) -> None:
    desk.pair(f"{name}/{name}.jpg")
    desk.look(4)
    assert desk.stack.puts == [f"{name}/{name}.jpg", f"{name}/{name}.jpg.json"]


@pytest.mark.parametrize(
    "key",
    [
        ".hidden/a.jpg",
        "~tmp/a.jpg",
        "a.jpg.part",
        "a.jpg.crdownload",
        "Thumbs.db",
        ".DS_Store",
        "a.tmp",
    ],
)
def test_ignored_names_stay(desk: Desk, key: str) -> None:
    desk.write(key, PICTURE)
    assert desk.look(5) == 0
    assert desk.said == []


def test_what_is_no_image_or_too_large_stays_and_that_is_said_once(desk: Desk) -> None:
    desk.write("notes.txt", b"milk, eggs")
    with desk.write("film.jpg", b"").open("r+b") as file:
        file.truncate(LARGEST_BYTES + 1)
    assert desk.look(6) == 0
    assert len(desk.said) == 2
    assert desk.said[0].startswith("film.jpg: has 67,108,865 bytes; 67,108,864 are allowed")
    assert desk.said[1] == (
        "notes.txt: is neither a sidecar (.json) nor an image: not a readable image; it begins with "
        "'milk, eggs'; JPEG, PNG, BMP, TIFF, WEBP and GIF are read; not taken"
    )


def test_an_image_of_any_name_and_a_broken_sidecar_go_up(desk: Desk) -> None:
    desk.write("scan", PICTURE)
    desk.write("broken.json", b"{")
    assert desk.look(4) == 2


def test_no_job_is_expected_of_a_record_of_ours_and_that_is_said(desk: Desk) -> None:
    job = Job(
        job_id="a" * 16,
        status=Status.SUCCEEDED,
        created_at=1.0,
        updated_at=1.0,
        sidecar="red.jpg.json",
        sidecar_version="v1",
        folder="red",
    )
    desk.write("job.json", json.dumps(record(job)).encode())
    desk.write("red.json", NOTE)
    sidecars = []
    for _ in range(4):
        sidecars += desk.intake.round(lambda: True).sidecars
        desk.now += 1

    assert [key for key, _ in sidecars] == ["red.json"]
    assert desk.said == [
        "job.json: this is a record of retouch from an outbox, no sidecar; it is ignored"
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_an_unreadable_file_is_said_once_and_taken_when_it_can_be_read(desk: Desk) -> None:
    path = desk.write("red.jpg", PICTURE)
    path.chmod(0)
    assert desk.look(5) == 0
    assert desk.said == ["red.jpg: cannot be read: Permission denied; taken when it can be"]
    path.chmod(0o600)
    assert desk.look(2) == 1


def test_a_file_that_cannot_be_opened_is_said_once_and_taken_when_it_can(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.write("red.jpg", PICTURE)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        assert desk.look(6) == 0
    assert desk.said == ["red.jpg: cannot be read: Permission denied; taken when it can be"]
    assert desk.look(2) == 1


def test_links_to_files_are_followed_and_links_to_folders_are_not(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "else.jpg").write_bytes(PICTURE)
    (desk.root / "link.jpg").symlink_to(tmp_path / "else.jpg")
    (desk.root / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (desk.root / "loop").symlink_to(desk.root)
    assert desk.look(4) == 1
    assert desk.stack.puts == ["link.jpg"]


def test_a_name_that_no_key_can_have_is_said_once(desk: Desk) -> None:
    with open(os.fsencode(desk.root) + b"/bad-\xff.jpg", "wb") as file:
        file.write(PICTURE)
    assert desk.look(4) == 0
    assert len(desk.said) == 1
    assert "not UTF-8" in desk.said[0]


# --- the same again ---


def test_a_restart_drops_nothing_again(desk: Desk) -> None:
    desk.pair()
    desk.look(4)
    for _ in range(3):
        desk.restart()
        assert desk.look(4) == 0
    assert desk.stack.paid == ["red.jpg.json"]


def test_a_file_that_was_only_touched_is_not_dropped_again(desk: Desk) -> None:
    desk.pair()
    desk.look(4)
    os.utime(desk.root / "red.jpg.json")
    assert desk.look(5) == 0
    assert desk.intake.round(lambda: True).pending == 0  # and it is not read again and again
    desk.restart()
    assert desk.look(5) == 0


def test_new_bytes_are_a_new_drop(desk: Desk) -> None:
    desk.pair()
    desk.look(4)
    desk.write("red.jpg.json", NOTE.replace(b"x", b"y"), age=50)
    assert desk.look(4) == 1
    assert desk.stack.paid == ["red.jpg.json", "red.jpg.json"]


def test_the_same_bytes_are_a_new_drop_only_if_the_file_was_taken_away_and_is_newer(
    desk: Desk,
) -> None:
    desk.pair()
    desk.look(4)
    (desk.root / "red.jpg.json").unlink()
    desk.look(4)
    desk.write("red.jpg.json", NOTE, age=50)
    assert desk.look(4) == 1
    assert desk.stack.paid == ["red.jpg.json", "red.jpg.json"]


def test_a_folder_that_was_away_for_a_while_is_not_dropped_again(
    desk: Desk, tmp_path: Path
) -> None:
    desk.pair("shoes/red.jpg")
    desk.look(4)
    shutil.move(desk.root / "shoes", tmp_path / "away")  # a share that was not there
    desk.look(4)
    shutil.move(tmp_path / "away", desk.root / "shoes")
    desk.restart()
    assert desk.look(5) == 0
    assert desk.stack.paid == ["shoes/red.jpg.json"]


def test_a_folder_that_cannot_be_read_is_not_taken_for_empty(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.pair("shoes/red.jpg")
    desk.look(4)
    scan = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path).endswith("shoes"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        desk.look(5)
    assert set(desk.stack.objects) == {"shoes/red.jpg", "shoes/red.jpg.json"}
    assert desk.said == [
        "shoes/: cannot be read: Permission denied; it is left alone until it can be"
    ]


def test_what_has_results_is_not_dropped_where_the_journal_is_gone(desk: Desk) -> None:
    desk.pair()
    desk.look(4)
    desk.journal.close()
    desk.path.unlink()
    desk.results = {"red.jpg", "red.jpg.json"}
    desk.start()
    desk.write("new.jpg", PICTURE)
    assert desk.look(5) == 1
    assert desk.stack.puts[2:] == ["new.jpg"]
    assert desk.said[0].startswith("red.jpg and 1 more: not dropped again")


def test_a_file_that_comes_later_is_dropped_though_its_folder_has_a_record_by_then(
    desk: Desk,
) -> None:
    desk.write("red.jpg", PICTURE)
    desk.look(4)
    desk.results = {"red.jpg", "red.jpg.json"}  # the image has waited for a quarter of an hour
    desk.write("red.jpg.json", NOTE)
    assert desk.look(4) == 1
    assert desk.stack.paid == ["red.jpg.json"]


def test_an_end_in_the_first_look_does_not_forget_what_has_results(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Stack(Steps(die_at=1, after=True)))
    desk.pair("a.jpg")
    desk.pair("b.jpg")
    desk.results = {"a.jpg", "a.jpg.json", "b.jpg", "b.jpg.json"}
    with pytest.raises(Died):
        desk.look(4)
    desk.results = set()
    desk.restart()
    assert desk.look(5) == 0
    assert desk.stack.puts == []
    desk.journal.close()


# --- moved, renamed, deleted ---


def test_finished_originals_can_be_moved_without_running_again(desk: Desk) -> None:
    for name in ("a", "b"):
        desk.pair(f"new/{name}.jpg")
    desk.look(4)
    (desk.root / "new").rename(desk.root / "done")
    assert desk.look(5) == 0
    assert desk.stack.objects == {}
    desk.restart()
    assert desk.look(5) == 0
    assert desk.said == [
        "done/a.jpg and 3 more: not dropped again, because a job was made from each before; to run it "
        "anew, change the file, or take it away and put a new copy there"
    ]


def test_a_copy_is_a_drop(desk: Desk) -> None:
    desk.pair()
    desk.look(4)
    shutil.copy2(desk.root / "red.jpg", desk.root / "again.jpg")
    shutil.copy2(desk.root / "red.jpg.json", desk.root / "again.jpg.json")
    assert desk.look(4) == 2
    assert desk.stack.paid == ["red.jpg.json", "again.jpg.json"]


def test_what_no_job_was_made_from_is_dropped_under_its_new_name(desk: Desk) -> None:
    desk.stack.waiting = {"red.jpg.json"}
    desk.write("red.jpg.json", NOTE)
    desk.look(4)
    desk.stack.busy = 2
    (desk.root / "red.jpg.json").rename(desk.root / "blue.jpg.json")
    desk.look(6)
    assert desk.stack.puts == ["red.jpg.json", "blue.jpg.json"]
    assert desk.stack.jobs == {
        ("red.jpg.json", "v1"): "withdrawn",
        ("blue.jpg.json", "v2"): "paid",
    }
    assert set(desk.stack.objects) == {"blue.jpg.json"}


def test_a_moved_image_goes_up_when_a_job_waits_for_it(desk: Desk) -> None:
    desk.pair()
    desk.look(4)
    (desk.root / "red.jpg").rename(desk.root / "blue.jpg")
    desk.look(4)
    desk.intake.want("nowhere.jpg")
    desk.intake.want("blue.jpg")
    assert desk.look(1) == 1
    assert desk.look(3) == 0
    assert desk.stack.puts[-1] == "blue.jpg"


def test_a_deleted_file_is_deleted_in_the_inbox(desk: Desk) -> None:
    desk.pair()
    desk.look(4)
    (desk.root / "red.jpg").unlink()
    desk.look(2)
    assert "red.jpg" in desk.stack.objects  # perhaps it is only being saved
    desk.look(2)
    assert set(desk.stack.objects) == {"red.jpg.json"}


# --- an end at every step ---


def dropped_at_all(desk: Desk) -> None:
    desk.pair()
    desk.look(4)


def moved_when_done(desk: Desk) -> None:
    desk.pair()
    desk.look(4)
    (desk.root / "red.jpg").rename(desk.root / "blue.jpg")
    (desk.root / "red.jpg.json").rename(desk.root / "blue.jpg.json")
    desk.look(5)


def renamed_while_it_waits(desk: Desk) -> None:
    desk.stack.waiting = {"red.jpg.json"}
    desk.write("red.jpg.json", NOTE)
    desk.look(4)
    (desk.root / "red.jpg.json").rename(desk.root / "blue.jpg.json")
    desk.look(6)


def deleted_when_done(desk: Desk) -> None:
    desk.pair()
    desk.look(4)
    (desk.root / "red.jpg.json").unlink()
    desk.look(5)


Story = Callable[[Desk], None]
STORIES: list[Story] = [dropped_at_all, moved_when_done, renamed_while_it_waits, deleted_when_done]


def steps_of(story: Story, tmp: Path) -> int:
    desk = Desk(tmp)
    story(desk)
    desk.journal.close()
    return desk.steps.count


@pytest.mark.parametrize("story", STORIES)
def test_an_end_at_any_step_costs_nothing_twice_and_loses_nothing(
    story: Story, tmp_path: Path
) -> None:
    count = steps_of(story, tmp_path / "whole")
    assert count >= 4
    for step in range(1, count + 1):
        for after in (False, True):
            desk = Desk(tmp_path / f"{step}-{after}", Stack(Steps(step, after)))
            with pytest.raises(Died):
                story(desk)
            # What the person was doing in the folder goes on all the same.
            if story is not dropped_at_all and (desk.root / "red.jpg.json").exists():
                for path in list(desk.root.iterdir()):
                    if story is deleted_when_done and path.name == "red.jpg.json":
                        path.unlink()
                    elif story is not deleted_when_done:
                        path.rename(desk.root / path.name.replace("red", "blue"))
            desk.restart()
            desk.look(8)
            where = (story.__name__, step, after, desk.stack.jobs)
            if story is deleted_when_done:
                # Deleted before it was dropped at all, it need not have been paid.
                assert len(desk.stack.paid) <= 1, where
            else:
                assert len(desk.stack.paid) == 1, where
            assert "waiting" not in desk.stack.jobs.values(), where
            there = set(desk.stack.objects)
            on_disk = {path.name for path in desk.root.iterdir()}
            assert there <= on_disk, where
            states = {entry.state for entry in desk.journal.entries.values()}
            assert State.INTENT not in states, where
            assert desk.look(4) == 0, where
            desk.journal.close()


def test_an_upload_that_the_bucket_lost_is_not_repeated_once_a_job_was_made_from_it(
    tmp_path: Path,
) -> None:
    # A power cut may take a file that was just written; the table is always on disk.
    desk = Desk(tmp_path, Stack(Steps(die_at=2, after=True)))
    desk.write("red.jpg.json", NOTE)
    with pytest.raises(Died):
        desk.look(4)
    assert desk.stack.paid == ["red.jpg.json"]
    desk.stack.objects.clear()
    desk.restart()
    assert desk.look(5) == 0
    assert desk.stack.paid == ["red.jpg.json"]
    desk.journal.close()


# --- the pieces ---


def test_a_change_of_mind_starts_the_wait_anew() -> None:
    now = 0.0
    patience = Patience(lambda: now, seconds=2.0)
    assert list(patience.settle({"a": Stamp(1, 1)})) == []
    now = 1.9
    assert list(patience.settle({"a": Stamp(2, 1)})) == []
    now = 3.0
    assert list(patience.settle({"a": Stamp(2, 1)})) == []
    now = 3.9
    assert list(patience.settle({"a": Stamp(2, 1)})) == ["a"]


def test_two_folders_must_not_hold_one_another(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert overlap(tmp_path / "in", tmp_path / "out") is None
    assert overlap(tmp_path / "in", tmp_path / "in2") is None
    for inbox, outbox, says in (
        ("in", "in", "is the same folder as INBOX"),
        ("in", "link", "is the same folder as INBOX"),
        ("in", "in/out", "lies inside INBOX"),
        ("in", "link/out", "lies inside INBOX"),
        ("in", ".", "holds INBOX"),
    ):
        assert says in (overlap(tmp_path / inbox, tmp_path / outbox) or "")


def test_a_folder_that_is_not_there_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FolderAway, match="nowhere cannot be read: No such file or directory"):
        look(tmp_path / "nowhere")
