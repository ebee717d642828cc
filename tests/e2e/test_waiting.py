"""What waits, and what is said of it, through S3 alone: drops that lack a part, drops that are held."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from retouch.local.stack import Blueprint, temporary
from tests.e2e.support import User, mask, picture, until
from tests.schemas import check_message, check_record

WAN = {"model": "wan2.7-image"}
MASKED = {"model": "wanx2.1-imageedit", "function": "description_edit_with_mask"}
ODD = "a+b%20c#d 图片 🎨"


@dataclass(frozen=True)
class Incomplete:
    """A drop without a part: what is there, what is not, and what it is told as."""

    place: str
    there: dict[str, Any]
    missing: dict[str, Any]
    told_as: str = ""
    """The file that is said to be missing, where that is not what comes."""

    @property
    def folder(self) -> str:
        return f"{ODD}/{self.place}"

    def keys(self) -> list[str]:
        return [f"{ODD}/{name}" for name in ([self.told_as] if self.told_as else self.missing)]


INCOMPLETE = [
    Incomplete(
        "no image",
        {"no image.jpg.json": {**WAN, "prompt": "missing image"}},
        {"no image.jpg": picture()},
    ),
    Incomplete(
        "two of three",
        {
            "two of three.json": {
                **WAN, "prompt": "missing two", "images": ["1.jpg", "2.jpg", "3.jpg"],
            },
            "2.jpg": picture(520, 512),
        },
        {"1.jpg": picture(521, 512), "3.jpg": picture(522, 512)},
    ),
    Incomplete(
        "no mask",
        {
            "no mask.jpg.json": {**MASKED, "prompt": "missing mask", "mask": "no mask.mask.png"},
            "no mask.jpg": picture(),
        },
        {"no mask.mask.png": mask()},
    ),
    Incomplete(
        "no sidecar",
        {"no sidecar.jpg": picture(523, 512)},
        {"no sidecar.json": {**WAN, "prompt": "missing sidecar"}},
        told_as="no sidecar.jpg.json",
    ),
]  # fmt: skip


@dataclass
class Dropped:
    """Somebody who has dropped all that the tests ask after."""

    user: User
    read: Callable[[], list[dict[str, Any]]]
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def messages(self, folder: str) -> list[dict[str, Any]]:
        """The topic's messages of the drop with that folder."""
        found = [json.loads(entry["Message"]) for entry in self.read() if "detail" not in entry]
        return [body for body in found if body.get("outbox", {}).get("folder") == folder]

    def at(self, folder: str, *statuses: str, seconds: float = 90) -> dict[str, Any]:
        """The job's record once it is in one of these states."""

        def look() -> dict[str, Any] | None:
            record = self.user.record(folder)
            return record if record is not None and record["status"] in statuses else None

        what = f"{folder} is {' or '.join(statuses)}; now {self.user.record(folder)}"
        return until(look, what, seconds)


@pytest.fixture(scope="module")
def dropped(home: Any) -> Iterator[Dropped]:
    parameters = {"DropDeadlineMinutes": "1", "Budget": json.dumps({"same_per_day": 2})}
    with temporary(Blueprint(name="waiting", time_scale=0.1, parameters=parameters)) as stack:
        user = User(stack)
        dropped = Dropped(user, user.inbox_of_news())
        for drop in INCOMPLETE:
            for name, data in drop.there.items():
                user.put(f"{ODD}/{name}", data)
        yield dropped


def test_the_very_same_job_again_and_again_is_held(dropped: Dropped) -> None:
    user, folder = dropped.user, f"{ODD}/again"
    user.put(f"{folder}/_preset.json", {**WAN, "prompt": "again and again"})
    for number in range(3):
        user.put(f"{folder}/{number} #.jpg", picture(530, 512))

    def three() -> list[dict[str, Any]] | None:
        found = [user.record(f"{folder}/{number} #") for number in range(3)]
        ended = [r for r in found if r is not None and r["status"] in ("SUCCEEDED", "HELD")]
        return ended if len(ended) == 3 else None

    records = until(three, "two made and one held")
    held = [record for record in records if record["status"] == "HELD"]
    assert len(held) == 1
    assert "same_per_day of the stack is 2" in json.dumps(held[0]["held"])
    assert len(user.creates('"again and again"')) == 2


def test_a_result_that_comes_back_as_an_image_is_held(dropped: Dropped) -> None:
    user, folder = dropped.user, f"{ODD}/circle"
    user.put(f"{folder}/_preset.json", {**WAN, "prompt": "round in circles"})
    user.put(f"{folder}/one.jpg", picture(531, 512))
    first = dropped.at(f"{folder}/one", "SUCCEEDED")
    result = user.read(first["outputs"][0]["key"])
    assert result is not None

    user.put(f"{folder}/one+1.png", result)

    record = dropped.at(f"{folder}/one+1", "HELD")
    check_record(json.dumps(record).encode())
    assert first["job_id"] in json.dumps(record["held"])
    assert len(user.creates('"round in circles"')) == 1


def test_a_folder_has_a_budget_of_its_own(dropped: Dropped) -> None:
    user, folder = dropped.user, f"{ODD}/budget"
    said = {**WAN, "prompt": "a small budget", "budget": {"images_per_day": 1}}
    user.put(f"{folder}/_preset.json", said)
    user.put(f"{folder}/1.jpg", picture(532, 512))
    dropped.at(f"{folder}/1", "SUCCEEDED")
    user.put(f"{folder}/2.jpg", picture(533, 512))

    held = dropped.at(f"{folder}/2", "HELD")

    assert held["held"]["scope"] == folder
    assert f"the folder {folder} may make 1 a day" in held["held"]["message"]
    user.put(f"{ODD}/beside.jpg", picture(534, 512))
    user.put(f"{ODD}/beside.jpg.json", {**WAN, "prompt": "not of that folder"})
    dropped.at(f"{ODD}/beside", "SUCCEEDED")
    assert len(user.creates('"a small budget"')) == 1


@pytest.mark.parametrize("drop", INCOMPLETE, ids=lambda drop: drop.place)
def test_what_is_missing_is_named_once_and_the_job_starts_when_it_comes(
    dropped: Dropped, drop: Incomplete
) -> None:
    user = dropped.user

    def told() -> list[dict[str, Any]] | None:
        return dropped.messages(drop.folder) or None

    [message] = until(told, f"a message about {drop.folder}", 300)
    check_message(message)
    assert message["status"] == "WAITING"
    record = dropped.at(drop.folder, "WAITING")
    assert record["missing"] == drop.keys()
    assert message["missing"] == drop.keys()
    for name, data in drop.missing.items():
        user.put(f"{ODD}/{name}", data)

    ended = dropped.at(drop.folder, "SUCCEEDED")

    def all_told() -> list[str] | None:
        found = [body["status"] for body in dropped.messages(drop.folder)]
        return found if "SUCCEEDED" in found else None

    assert until(all_told, "the end is told").count("WAITING") == 1
    assert ended["missing"] == []
    assert len(user.creates(json.dumps(ended["request"]["prompt"]))) == 1
    assert Image.open(io.BytesIO(user.read(ended["outputs"][0]["key"]) or b"")).size > (0, 0)
