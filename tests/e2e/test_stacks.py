"""Stacks on this machine: side by side, on loopback, gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from retouch.local.stack import Blueprint, Running, StackError, find, start, temporary
from tests.e2e.support import User, picture, until

CLI = (sys.executable, "-m", "retouch.cli")


def run(
    *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 90
) -> subprocess.CompletedProcess[str]:
    """The command line, as somebody types it."""
    return subprocess.run(
        [*CLI, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **(env or {})},
    )


def processes_with(text: str) -> list[str]:
    """The command lines of live processes that hold `text`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if text in command:
            found.append(command)
    return found


def listening_on(port: int) -> set[str]:
    """The addresses, as the kernel writes them, on which something listens at a port."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            address, _, hex_port = fields[1].rpartition(":")
            if fields[3] == "0A" and int(hex_port, 16) == port:
                found.add(address)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's table of sockets")
def test_everything_listens_on_loopback_only(stack: Running) -> None:
    for url in (stack.endpoint_url, stack.provider_urls["beijing"]):
        assert listening_on(urlsplit(url).port or 0) == {"0100007F"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's count of pages")
def test_what_lies_in_the_buckets_does_not_lie_in_memory(stack: Running) -> None:
    def held() -> int:
        pages = Path(f"/proc/{stack.engine_pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    user, inbox = User(stack), stack.outputs["InboxBucket"]
    key, size, before = "big #+% 图片 🎨/.ignored", 8 << 20, held()
    versions = {user.put(key, bytes([number]) * size): bytes([number]) for number in range(24)}
    user.s3.delete_object(Bucket=inbox, Key=key)

    until(lambda: held() - before < 4 * size or None, "the memory is given back")
    for version, byte in versions.items():
        body = user.s3.get_object(Bucket=inbox, Key=key, VersionId=version)["Body"].read()
        assert (len(body), body[:1]) == (size, byte)


def test_two_stacks_work_side_by_side_and_inputs_may_go_by_url(stack: Running) -> None:
    blueprint = Blueprint(name="beside", time_scale=0.1, parameters={"InputDelivery": "presigned"})
    with temporary(blueprint) as beside:
        assert beside.endpoint_url != stack.endpoint_url
        here, there = User(stack), User(beside)
        for user in (here, there):
            # The embedded engine does not set a presigned URL's type on a given version, as S3 does.
            user.put("side/a.jpg", picture(), content_type="image/jpeg")
            user.put("side/a.jpg.json", {"model": "wan2.7-image", "prompt": "sideways"})
        assert here.settled("side/a")["status"] == "SUCCEEDED"
        record = there.settled("side/a")
        assert record["status"] == "SUCCEEDED", record["failure"]
        [call] = there.creates("sideways")
        [[image, _]] = [message["content"] for message in call["body"]["input"]["messages"]]
        assert image["image"].startswith(beside.endpoint_url)
        assert len(here.creates("sideways")) == 1
        folder = beside.folder
    assert find("beside") is None
    assert not Path(folder).exists()
    assert processes_with(folder) == []


def test_a_second_start_says_that_the_first_runs(stack: Running) -> None:
    with pytest.raises(StackError, match='the stack "e2e" runs already'):
        start(Blueprint(name="e2e"))
    again = run("up", "--stack", "e2e", "--json")
    assert again.returncode == 0
    assert 'the stack "e2e" is already running' in again.stderr
    assert json.loads(again.stdout)["endpoint_url"] == stack.endpoint_url


def test_up_prints_what_a_client_needs(stack: Running) -> None:
    told = json.loads(run("up", "--stack", "e2e", "--json").stdout)
    assert told["stack"] == "e2e"
    assert told["region"] == "us-east-1"
    assert told["inbox"] == stack.outputs["InboxBucket"]
    assert told["outbox"] == stack.outputs["OutboxBucket"]
    assert told["table"] == stack.outputs["TableName"]
    assert told["state_machine_arn"] == stack.outputs["StateMachineArn"]
    assert told["topic_arn"] == stack.outputs["TopicArn"]
    assert told["events_bus"] == stack.outputs["EventBusName"]
    assert told["provider_urls"] == stack.provider_urls
    listed = subprocess.run(
        [sys.executable, "-c", "import boto3; print(boto3.client('s3').list_buckets()['Buckets'])"],
        env={"PATH": os.environ["PATH"], **told["environment"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told["inbox"] in listed.stdout


@pytest.fixture
def dropped(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(picture())
    (folder / "good.jpg.json").write_text(
        json.dumps({"model": "wan2.7-image", "prompt": "sharper"})
    )
    return folder


def test_drop_and_wait_ends_with_the_jobs_state(stack: Running, dropped: Path) -> None:
    done = run("drop", str(dropped), "--to", "cli/good", "--wait", "--stack", "e2e", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["uploaded"] == 2
    [job] = told["jobs"]
    assert job["status"] == "SUCCEEDED"
    assert job["images"] == ["cli/good/good/good-1.png"]
    listed = json.loads(run("jobs", "--stack", "e2e", "--json", "--limit", "500").stdout)
    assert job["job_id"] in [row["job_id"] for row in listed]
    for name in (job["job_id"], "cli/good/good.jpg.json"):
        shown = json.loads(run("show", name, "--stack", "e2e", "--json").stdout)
        assert shown["status"] == "SUCCEEDED"
        assert shown["job_id"] == job["job_id"]


def test_one_bad_file_in_a_drop_is_named_and_stops_nothing_else(
    stack: Running, dropped: Path
) -> None:
    (dropped / "bad.jpg").write_bytes(picture())
    (dropped / "bad.jpg.json").write_text('{"model": "wan2.7-imge", "prompt": "x"}')
    done = run(
        "drop", str(dropped), str(dropped / "nowhere.jpg"), "--to", "cli/bad", "--wait",
        "--stack", "e2e", "--json",
    )  # fmt: skip
    assert done.returncode == 2
    assert "nowhere.jpg" in done.stderr
    assert "there is no such file or folder" in done.stderr
    assert 'did you mean "wan2.7-image"?' in done.stderr
    states = {job["sidecar"]: job["status"] for job in json.loads(done.stdout)["jobs"]}
    assert states == {
        "cli/bad/good.jpg.json": "SUCCEEDED",
        "cli/bad/bad.jpg.json": "REJECTED",
    }
    record = User(stack).record("cli/bad/bad")
    assert record is not None
    assert record["status"] == "REJECTED"


def test_a_table_in_a_pipe_has_one_line_a_job(stack: Running, dropped: Path) -> None:
    prefix = "/".join(["a-prefix-that-is-rather-long"] * 7)
    done = run("drop", str(dropped), "--to", prefix, "--wait", "--stack", "e2e")
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if "SUCCEEDED" in line]
    assert line.split()[:3] == [f"{prefix}/good/", "SUCCEEDED", "wan2.7-image"]
    header = next(line for line in done.stdout.splitlines() if line.startswith("job "))
    assert header.index("state") == line.index("SUCCEEDED")
    assert len(line) < len(prefix) + 100


def test_a_job_that_the_provider_refuses_gives_status_1(stack: Running, dropped: Path) -> None:
    (dropped / "good.jpg.json").write_text(
        json.dumps({"model": "wan2.7-image", "prompt": "forbidden"})
    )
    done = run("drop", str(dropped), "--to", "cli/no", "--wait", "--stack", "e2e")
    assert done.returncode == 1
    assert "DataInspectionFailed" in done.stdout


def test_a_job_that_is_not_there_gives_status_2(stack: Running) -> None:
    shown = run("show", "nosuchjob", "--stack", "e2e")
    assert shown.returncode == 2
    assert 'there is no job "nosuchjob"' in shown.stderr


def test_no_stack_gives_status_3_and_says_what_to_do(tmp_path: Path) -> None:
    for arguments in (("jobs",), ("drop", str(tmp_path))):
        done = run(*arguments, env={"RETOUCH_HOME": str(tmp_path / "none")})
        assert done.returncode == 3
        assert "retouch up" in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
def test_an_interrupted_demo_leaves_no_process_and_no_half_result(
    tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    # A shell that runs the tests in the background may have them ignore Ctrl-C, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    demo = subprocess.Popen(
        [*CLI, "demo", "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert demo.stderr is not None
    with demo.stderr:
        for line in demo.stderr:
            if "RUNNING" in line:
                break
        assert processes_with(str(tmp_path / "retouch-demo-"))
        demo.send_signal(number)
        rest = demo.stderr.read()
    assert demo.wait(timeout=30) == 130, rest
    assert processes_with(str(tmp_path / "retouch-demo-")) == []
    assert list(tmp_path.rglob("*.part")) == []
    assert list(tmp_path.glob("retouch-demo-*")) == []


def test_a_killed_demo_takes_its_stack_with_it(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [*CLI, "demo", "--out", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert demo.stderr is not None
    with demo.stderr:
        for line in demo.stderr:
            if "RUNNING" in line:
                break
        demo.kill()
        demo.wait(timeout=10)
    until(
        lambda: True if not processes_with(str(tmp_path)) else None, "the end of all processes", 20
    )


def test_a_provider_that_is_not_reached_is_said_and_the_job_is_kept(
    home: Path, dropped: Path
) -> None:
    with temporary(Blueprint(name="dead", provider="http://127.0.0.1:1/api/v1")):
        done = run("drop", str(dropped), "--wait", "--stack", "dead", "--json")
        assert done.returncode == 3, done.stderr
        [job] = json.loads(done.stdout)["jobs"]
        assert job["status"] in ("QUEUED", "ADMITTED", "CREATING")  # it is tried again meanwhile
        assert "ProviderNotReached" in job["reason"]


def test_a_stack_whose_start_was_killed_can_be_stopped(tmp_path: Path) -> None:
    env = {**os.environ, "RETOUCH_HOME": str(tmp_path)}
    starting = subprocess.Popen(
        [*CLI, "up", "--stack", "half"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=env,
    )
    lock = tmp_path / "half" / "lock"
    until(lambda: True if lock.is_file() and lock.read_text().strip() else None, "the engine")
    starting.kill()
    starting.wait(timeout=10)
    stopped = run("down", "--stack", "half", env={"RETOUCH_HOME": str(tmp_path)})
    assert stopped.returncode == 0, stopped.stderr
    assert "is stopped" in stopped.stdout
    until(lambda: True if not processes_with(str(tmp_path)) else None, "no process left", 20)


def test_wrong_usage_gives_status_2_and_names_the_option(stack: Running, dropped: Path) -> None:
    port = str(urlsplit(stack.endpoint_url).port)
    for arguments, says in (
        (("up", "--stack", "other", "--port", port), f"port {port} is taken"),
        (("up", "--stack", "other", "--provider", "nonsense"), '"nonsense" is not allowed'),
        (("up", "--stack", "other", "--provider", "dashscope"), "DASHSCOPE_API_KEY is not set"),
        (("up", "--stack", "other", "--parameter", "Foo=1"), "the template has no such parameter"),
        (("up", "--stack", "e2e", "--provider", "dashscope"), "already runs with simulated"),
        (("up", "--stack", "e2e", "--provider-region", "virginia"), "only at the start"),
        (("up", "--stack", "e2e", "--parameter", "WindowMargin=0"), "only at the start"),
        (("drop", str(dropped), "--to", "../x", "--stack", "e2e"), "is not allowed"),
        (("jobs", "--state", "nonsense", "--stack", "e2e"), "is not a state"),
        (("validate", str(dropped / "nowhere")), "there is no such file or folder"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert says in done.stderr
