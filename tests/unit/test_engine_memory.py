"""The kept engine holds no image in memory: a long watch must not fill the machine's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_WRITES = """
import asyncio, json
import httpx
from ministack.app import app
from ministack.services import s3
from retouch.local.engine import bodies_stay_on_disk

bodies_stay_on_disk()

async def main():
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        await client.put("/bucket")
        on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        await client.put("/bucket?versioning", content=on)
        bodies = [b"1" * 1000, b"2" * 1000, b"3" * 1000]
        puts = [await client.put("/bucket/a.jpg", content=body) for body in bodies]
        ids = [put.headers["x-amz-version-id"] for put in puts]
        gets = [await client.get(f"/bucket/a.jpg?versionId={one}") for one in ids]
        newest = await client.get("/bucket/a.jpg")
    versions = [one for found in s3._object_versions._data.values() for one in found]
    objects = [one for b in s3._buckets._data.values() for one in b["objects"].values()]
    print(json.dumps({
        "read": [get.content == body for get, body in zip(gets, bodies)],
        "newest": newest.content == bodies[-1],
        "held": sum(len(one["data"] or b"") for one in versions)
        + sum(len(one["body"] or b"") for one in objects),
        "versions": len(versions),
    }))

asyncio.run(main())
"""


def test_of_kept_objects_every_version_is_read_from_disk_and_none_is_held_in_memory(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WRITES],
        env={**os.environ, "S3_PERSIST": "1", "S3_DATA_DIR": str(tmp_path / "s3")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"read": [True, True, True], "newest": True, "held": 0, "versions": 3}
