"""Every model of the provider, and the ways in, on the deployed template."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

from PIL import Image

from retouch.registry import MODELS
from tests.e2e.support import SNAPSHOT, User, picture

WAN26 = "wan2.6-image"
WAN27 = "wan2.7-image"


def test_the_demo_shows_every_model_and_every_function(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "retouch.cli", "demo", "--out", str(tmp_path / "out"), "--json"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert len(said["jobs"]) >= 24
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("job.json")]
    assert len(records) == len(said["jobs"])
    done_well = [record for record in records if record["status"] == "SUCCEEDED"]
    assert {record["model"] for record in done_well} == set(MODELS)
    functions = {record["request"]["function"] for record in done_well} - {None}
    assert functions == {f.name for f in MODELS["wanx2.1-imageedit"].functions}
    assert {record["request"]["call"] for record in done_well} == {"async", "sync"}
    assert {record["region"] for record in done_well} == {"beijing", "singapore"}
    # A chain, variants, an image alone under a preset, and a sidecar that came late.
    by_folder = {record["sidecar"]["key"]: record for record in done_well}
    parts = [record["part"] for record in done_well if record["part"] is not None]
    assert sorted(part["step"] for part in parts if part["step"] is not None) == [1, 2, 3]
    assert {part["variant"] for part in parts} == {None, "green", "gold"}
    assert by_folder["shop/cup.jpg.json"]["presets"][0]["key"] == "shop/_preset.json"
    assert "late/postcard.jpg.json" in by_folder
    for record in done_well:
        for output in record["outputs"]:
            with Image.open(tmp_path / "out" / output["key"]) as image:
                image.load()
                assert image.size == (output["width"], output["height"])


def test_text_with_images_in_one_streamed_call(user: User) -> None:
    user.put(
        "models/guide.json",
        {
            "model": WAN26,
            "call": "sync",
            "prompt": "an illustrated guide",
            "images": [],
            "parameters": {"enable_interleave": True, "max_images": 2},
        },
    )

    record = user.settled("models/guide")

    assert record["status"] == "SUCCEEDED"
    assert record["task_id"] is None
    assert len(record["outputs"]) == 2
    assert record["cost"]["images"] == 2
    text = user.read("models/guide/guide.md")
    assert text is not None
    words = text.decode("utf-8")
    assert words.index("step 1") < words.index("(guide-1.png)") < words.index("step 2")
    (call,) = user.creates("guide")
    assert call["headers"]["x-dashscope-sse"] == "enable"


def test_a_job_goes_to_the_region_that_its_sidecar_names(user: User) -> None:
    user.put("models/abroad.jpg", picture())
    user.put(
        "models/abroad.jpg.json",
        {"model": WAN27, "region": "singapore", "prompt": "abroad", "parameters": {"size": "1K"}},
    )

    record = user.settled("models/abroad")

    assert record["status"] == "SUCCEEDED"
    assert record["lane"] == f"singapore:{WAN27}"
    assert record["cost"]["currency"] == "USD"
    assert user.creates("abroad") == []
    assert len(user.creates("abroad", "singapore")) == 1


def test_a_snapshot_that_only_the_configuration_knows_works(user: User) -> None:
    user.put("models/new.jpg", picture())
    user.put(
        "models/new.jpg.json",
        {"model": SNAPSHOT, "prompt": "brandnew", "parameters": {"size": "1K"}},
    )

    record = user.settled("models/new")

    assert record["status"] == "SUCCEEDED"
    assert record["model"] == SNAPSHOT
    assert record["lane"] == f"beijing:{SNAPSHOT}"
    assert record["cost"]["price"] is None


def test_an_image_that_will_not_do_is_mended_where_that_is_asked_for(user: User) -> None:
    image = Image.new("RGBA", (300, 500), (200, 30, 30, 255))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    sidecar = {"model": WAN27, "prompt": "mended", "parameters": {"size": "1K"}}
    for name, fit in (("mended", True), ("refused", False)):
        user.put(f"models/{name}.png", buffer.getvalue())
        user.put(f"models/{name}.png.json", sidecar | {"fit": fit})

    refused = user.settled("models/refused")
    mended = user.settled("models/mended")

    assert refused["status"] == "REJECTED"
    assert '"fit": true would flatten it onto white' in refused["problems"][0]["message"]
    assert mended["status"] == "SUCCEEDED"
    (source,) = mended["inputs"]
    assert source["mended"]["changes"] == [
        "turned upright (EXIF orientation 6)",
        "flattened transparency onto white",
    ]
    sent = user.read(source["mended"]["key"])
    assert sent is not None
    with Image.open(io.BytesIO(sent)) as flat:
        assert flat.mode == "RGB"
        assert flat.size == (500, 300)


def test_an_image_too_large_for_a_request_goes_through_the_temporary_upload(user: User) -> None:
    noise = Image.frombytes("RGB", (1700, 1700), random.Random(1).randbytes(1700 * 1700 * 3))
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    assert buffer.tell() > 7_000_000
    user.put("models/large.png", buffer.getvalue())
    user.put(
        "models/large.png.json",
        {"model": "qwen-image-edit-plus", "prompt": "heavyweight", "parameters": {"n": 1}},
    )

    record = user.settled("models/large")

    assert record["status"] == "SUCCEEDED"
    assert record["inputs"][0]["sent_as"] == "upload"
    (call,) = user.creates("heavyweight")
    image = call["body"]["input"]["messages"][0]["content"][0]["image"]
    assert image.startswith("oss://")
    assert call["headers"]["x-dashscope-ossresourceresolve"] == "enable"
