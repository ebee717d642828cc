"""`retouch gallery` on the buckets of moto: what it finds, says and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retouch.cli import main
from retouch.cli.connection import Connection
from tests.integration.conftest import Stack
from tests.pages import Page, drawing, said

FOLDER = "shoes"


@pytest.fixture
def connected(stack: Stack, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setattr("retouch.cli.app.connect", lambda _: connection)
    return stack


def job(stack: Stack, folder: str, **fields: Any) -> None:
    """A finished job in the two buckets: one input, one result."""
    key, name = f"{folder}.jpg", folder.rpartition("/")[2]
    put = stack.s3.put_object
    version = put(Bucket=stack.inbox, Key=key, Body=drawing())["VersionId"]
    result = f"{folder}/{name}-1.png"
    output = put(Bucket=stack.outbox, Key=result, Body=drawing(colour="navy"))["VersionId"]
    record = said(
        sidecar={"key": f"{key}.json"},
        inputs=[{"key": key, "version_id": version, "size": 1}],
        outputs=[{"key": result, "version_id": output, "size": 1, "number": 1}],
        **fields,
    )
    put(Bucket=stack.outbox, Key=f"{folder}/job.json", Body=json.dumps(record).encode())


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["retouch", "gallery", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    captured = capsys.readouterr()
    return int(str(ended.value.code)), captured.out, captured.err


def page(stack: Stack, key: str = "shoes/index.html") -> Page:
    got = stack.s3.get_object(Bucket=stack.outbox, Key=key)
    assert got["ContentType"] == "text/html; charset=utf-8"
    return Page(got["Body"].read().decode())


def test_a_folder_s_page_shows_all_jobs_below_it_and_no_other(
    connected: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("shoes/img-10", "shoes/img-2", "shoes/new/a b #1", "shoesx/other", "hats/a"):
        job(connected, folder)

    code, out, _ = run(capsys, "shoes/", "--json")

    assert code == 0
    document = json.loads(out)
    assert document == {
        "folder": "shoes",
        "page": "shoes/index.html",
        "file": None,
        "url": None,
        "of_one_job": False,
        "jobs": 3,
        "statuses": {"SUCCEEDED": 3},
        "results": 3,
        "images_billed": 6,
        "amounts": {"CNY": "1.20"},
        "unreadable": [],
    }
    made = page(connected)
    to_pages = [link for link in made.links if link.endswith("index.html")]
    assert to_pages == ["img-2/index.html", "img-10/index.html", "new/a%20b%20%231/index.html"]
    assert len(made.alts) == 6


def test_the_whole_outbox_is_a_folder_too(
    connected: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    job(connected, "shoes/red")
    job(connected, "hat")

    code, out, _ = run(capsys, "/")

    assert code == 0
    assert out == "2 jobs, 2 results, 4 images billed, 0.80 CNY: s3://the-outbox/index.html\n"
    assert page(connected, "index.html").links[0] == "hat/index.html"


def test_a_page_can_be_written_to_a_file_and_leaves_the_outbox_alone(
    connected: Stack, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    job(connected, "shoes/red")
    file = tmp_path / "page.html"

    code, out, _ = run(capsys, "shoes", "--out", str(file))

    assert code == 0
    assert out.endswith(f": {file}\n")
    assert len(Page(file.read_text("utf-8")).alts) == 2
    listed = connected.s3.list_objects_v2(Bucket=connected.outbox)["Contents"]
    assert not [entry for entry in listed if entry["Key"].endswith(".html")]
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_job_s_own_folder_gives_that_job_s_page(
    connected: Stack, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    job(connected, "shoes/red")
    job(connected, "shoes/red/older")

    code, out, err = run(capsys, "shoes/red")

    assert code == 0
    assert "is a job's own folder" in err
    assert out.startswith("1 job, ")
    assert "What was asked" in page(connected, "shoes/red/index.html").text
    file = tmp_path / "page.html"
    assert run(capsys, "shoes/red", "--out", str(file))[0] == 0
    assert "What was asked" in file.read_text("utf-8")


def test_a_folder_without_a_job_is_wrong_input(
    connected: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    job(connected, "shoes/red")

    code, out, err = run(capsys, "shoe", "--json")

    assert (code, out) == (2, "")
    assert 'there is no job in the folder "shoe" of the outbox' in err


def test_a_record_that_is_none_is_left_out_and_named(
    connected: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    job(connected, "shoes/red")
    connected.s3.put_object(Bucket=connected.outbox, Key="shoes/bad/job.json", Body=b"{oops")

    code, out, err = run(capsys, "shoes")

    assert code == 0
    assert out.startswith("1 job, ")
    assert "shoes/bad/job.json cannot be read, and is left out" in err


def test_a_link_opens_the_page_for_a_while(
    connected: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    job(connected, "shoes/red")

    _, out, _ = run(capsys, "shoes", "--link", "--json")

    url = json.loads(out)["url"]
    assert "/shoes/index.html?" in url
    assert "Signature=" in url


@pytest.mark.parametrize("arguments", [("--out", "."), ("--out", "page.html", "--link")])
def test_wrong_usage_is_said(
    connected: Stack, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    job(connected, "shoes/red")

    assert run(capsys, "shoes", *arguments)[0] == 2


def test_many_jobs_come_out_in_their_order(
    connected: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(30):
        job(connected, f"shoes/img-{number}")

    run(capsys, "shoes")

    to_pages = [link for link in page(connected).links if link.endswith("index.html")]
    assert to_pages == [f"img-{number}/index.html" for number in range(30)]
