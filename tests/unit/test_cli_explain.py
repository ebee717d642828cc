"""`retouch explain` of what is not there: it says where it looked, and what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.unit.helpers import WAN


def explain(*arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    """No local stack runs in this home."""
    return subprocess.run(
        [sys.executable, "-m", "retouch.cli", "explain", *arguments],
        env={**os.environ, "RETOUCH_HOME": str(at / "home")},
        cwd=at,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_of_a_mistyped_path_it_says_that_there_is_no_such_file(tmp_path: Path) -> None:
    done = explain("shos/red.jpg", at=tmp_path)
    assert done.returncode == 2
    assert "there is no file shos/red.jpg, and no local stack is running" in done.stderr
    assert "check the path, or name a stack with --stack" in done.stderr


def test_of_a_folder_it_says_that_a_file_is_needed(tmp_path: Path) -> None:
    (tmp_path / "shoes").mkdir()
    done = explain("shoes", at=tmp_path)
    assert done.returncode == 2
    assert "shoes is a folder; a file is needed" in done.stderr


def test_below_a_given_root_it_says_where_nothing_was_found(tmp_path: Path) -> None:
    (tmp_path / "shoes").mkdir()
    done = explain("shoes/red.jpg", "--root", "shoes", at=tmp_path)
    assert done.returncode == 2
    assert f'there is nothing under "red.jpg" in {tmp_path.resolve()}/shoes' in done.stderr


def test_a_file_that_is_there_needs_no_stack(tmp_path: Path) -> None:
    (tmp_path / "red.jpg.json").write_text(json.dumps({"model": WAN, "prompt": "red"}))
    done = explain("red.jpg.json", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"red"' in done.stdout


def test_of_a_preset_and_an_image_below_it_it_says_what_can_never_be_right(tmp_path: Path) -> None:
    (tmp_path / "_preset.json").write_text('{"model": "wan2.7-imag"}')
    (tmp_path / "red.jpg").write_bytes(b"\xff\xd8")
    for name in ("_preset.json", "red.jpg"):
        done = explain(name, at=tmp_path)
        assert done.returncode == 2
        assert '✗ model: "wan2.7-imag" is not a model that retouch knows' in done.stderr
        assert 'did you mean "wan2.7-image"? (it stands in _preset.json)' in done.stderr


def test_of_a_sidecar_it_says_what_it_waits_for(tmp_path: Path) -> None:
    (tmp_path / "a b.json").write_text(
        json.dumps({"model": WAN, "prompt": "red", "images": ["x #1.jpg", "there.jpg"]})
    )
    (tmp_path / "there.jpg").write_bytes(b"\xff\xd8")
    done = explain("a b.json", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == 'warning images[0]: "x #1.jpg" is not there; it waits for that\n'
