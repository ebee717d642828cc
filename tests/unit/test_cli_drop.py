"""`retouch drop` as somebody types it: what goes up, and what is said where nothing comes of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import pytest

from retouch.cli.explaining import Remembered, explain
from retouch.cli.folder import FolderInbox
from retouch.cli.output import reason
from retouch.jobs import Finding, Status
from retouch.registry import MODELS
from tests.fakes import PHOTO, WAN
from tests.unit.test_cli_operate import OUTPUTS, REGION, Shell, cloud, job, retouch, store

__all__ = ["cloud", "retouch", "store"]  # fixtures


@pytest.fixture
def inbox(cloud: Any) -> Any:
    """The stack's inbox: what lies in it, by key."""
    s3 = boto3.client("s3", region_name=REGION)
    name = OUTPUTS["InboxBucket"]
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    def keys() -> list[str]:
        return [found["Key"] for found in s3.list_objects_v2(Bucket=name).get("Contents", [])]

    return keys


def write(root: Path, **files: Any) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return root


@pytest.mark.parametrize(
    "preset", [b"{", {"model": "wan2.7-imag"}, {"model": WAN, "prompt": "x", "priority": 77}]
)
def test_a_wrong_preset_goes_up_so_that_nothing_is_made_under_the_one_before(
    retouch: Shell,
    inbox: Any,
    tmp_path: Path,
    preset: Any,
) -> None:
    folder = write(tmp_path / "d", **{"_preset.json": preset, "a #1.png": PHOTO})

    said = retouch("drop", str(folder), "--to", "p", "--wait")

    assert said.code == 2
    assert inbox() == ["p/_preset.json", "p/a #1.png"]
    assert "✗" in said.err
    assert "_preset.json" in said.err
    # It has no job that could be waited for.
    assert "p/a #1.png: no job yet; waits for a sidecar" in said.err


def test_images_of_which_nothing_comes_by_itself_are_named(
    retouch: Shell,
    inbox: Any,
    tmp_path: Path,
) -> None:
    order = {"model": WAN, "prompt": "x"}
    folder = write(
        tmp_path / "d",
        **{f"{name}.png": PHOTO for name in ("lone 鞋", "pair", "one", "two", "x.mask")},
        **{"pair.json": order, "both.json": {**order, "images": ["one.png", "two.png"]}},
        **{"sub__a.png": PHOTO, "sub__b.png": PHOTO, "sub__c.png": PHOTO},
    )

    said = retouch("drop", str(folder))
    as_json = json.loads(retouch("drop", str(folder / "lone 鞋.png"), "--json").out)

    assert said.code == 0
    assert len(inbox()) == 10
    assert said.err.startswith(
        "lone 鞋.png, sub/a.png, sub/b.png and 1 more: no job yet; wait for a sidecar, or for a preset"
    )
    assert said.out.startswith("10 files dropped into")
    assert as_json["alone"] == ["lone 鞋.png"]


def test_an_image_alone_is_said_to_be_one_with_what_is_wrong_with_its_presets() -> None:
    key = "a #1.png.json"
    alone = job(sidecar=key, sidecar_version=None, status=Status.WAITING, missing=(key,))
    wrong = Finding(field="model", message='"x" is not a model (it stands in _preset.json)')

    assert reason(alone) == f"an image alone: waits for {key} or a preset"
    assert reason(alone.model_copy(update={"warnings": (wrong,)})).endswith(
        'or a preset; model: "x" is not a model (it stands in _preset.json)'
    )
    of_sidecar = alone.model_copy(update={"missing": ("a #1.png",)})
    assert reason(of_sidecar) == "waits for a #1.png"


def test_a_preset_is_asked_for_once_however_many_images_lie_under_it(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    class Counting(FolderInbox):
        def read(self, key: str, version_id: str) -> bytes | None:
            asked[key] += 1
            return super().read(key, version_id)

    preset = {"model": WAN, "prompt": "x"}
    write(tmp_path, **{"_preset.json": preset, "a.png": PHOTO, "b.png": PHOTO, "c.png": PHOTO})
    inbox = Remembered(Counting(tmp_path))

    found = [explain(inbox, name, MODELS, None) for name in ("a.png", "b.png", "c.png")]

    assert [len(one.jobs) for one in found if one is not None] == [1, 1, 1]
    assert asked["_preset.json"] == 1
