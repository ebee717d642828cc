"""`retouch cancel`, `retry`, `release` and `resolve` as somebody types them, against a stack on AWS.

The table is moto's. CloudFormation and Lambda are a web server on loopback, which boto3 is pointed to
by the variables that it has for that; what `operate` really does is tested with its handler.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import boto3
import pytest
from moto import mock_aws

from retouch.aws.store import DynamoStore
from retouch.cli import main
from retouch.jobs import Job, NoteLatest, Part, PutJob, Source, Status, Way
from retouch.local.packaging import load_template, project_root
from retouch.steps.submit import part_id

REGION = "eu-central-1"
STACK = "photos"
FUNCTION = "photos-OperateFunction-1A2B"
JOB = "0123456789abcdef"
SIDECAR = "shoes/red [1].png.json"
OUTPUTS = {
    "InboxBucket": "photos-inbox",
    "OutboxBucket": "photos-outbox",
    "TableName": "photos-table",
    "Models": "{}",
    "ProviderRegions": "beijing",
    "OperateFunctionName": FUNCTION,
}


def report(**said: Any) -> dict[str, Any]:
    """What `operate` answers."""
    return {"job_id": JOB, "status": "CANCELED", "did": "", "could_not": ""} | said


@dataclass
class Cloud:
    """CloudFormation and Lambda, as far as the command line asks them."""

    outputs: dict[str, str] = field(default_factory=lambda: dict(OUTPUTS))
    answers: list[dict[str, Any]] = field(default_factory=list)
    """What each invocation answers; the last one answers all that follow."""
    failure: dict[str, Any] | None = None
    """What a failing function says."""
    invoked: list[dict[str, Any]] = field(default_factory=list)
    described: int = 0

    def describe(self) -> bytes:
        self.described += 1
        members = "".join(
            f"<member><OutputKey>{name}</OutputKey><OutputValue>{escape(value)}</OutputValue></member>"
            for name, value in self.outputs.items()
        )
        return (
            '<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">'
            "<DescribeStacksResult><Stacks><member>"
            f"<StackName>{STACK}</StackName><StackStatus>CREATE_COMPLETE</StackStatus>"
            f"<CreationTime>2026-04-02T10:00:00Z</CreationTime><Outputs>{members}</Outputs>"
            "</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
        ).encode()

    def invoke(self, payload: bytes) -> dict[str, Any]:
        self.invoked.append(json.loads(payload))
        if self.failure is not None:
            return self.failure
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cloud]:
    found = Cloud()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {}
            if self.path == f"/2015-03-31/functions/{FUNCTION}/invocations":
                answer = json.dumps(found.invoke(body)).encode()
                if found.failure is not None:
                    headers["X-Amz-Function-Error"] = "Unhandled"
            else:
                assert b"Action=DescribeStacks" in body
                assert f"StackName={STACK}".encode() in body
                answer = found.describe()
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RETOUCH_HOME", str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, mock_aws():
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        at = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", at)
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", at)
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def store(cloud: Cloud) -> DynamoStore:
    """The stack's table, with one job in it."""
    client = boto3.client("dynamodb", region_name=REGION)
    table = load_template(project_root() / "template.yaml")["Resources"]["Table"]["Properties"]
    names = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    client.create_table(TableName=OUTPUTS["TableName"], **{name: table[name] for name in names})
    found = DynamoStore(client, OUTPUTS["TableName"])
    found.commit((PutJob(job()), NoteLatest(SIDECAR, JOB, over=None)))
    return found


def job(version: int = 1, **changes: Any) -> Job:
    return Job(
        job_id=JOB,
        version=version,
        status=Status.RUNNING,
        created_at=1.0,
        updated_at=1.0,
        sidecar=SIDECAR,
        sidecar_version="v1",
        folder="shoes/red",
    ).model_copy(update=changes)


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


@dataclass
class Shell:
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, stack: str = STACK) -> Said:
        """`retouch …` on the stack."""
        line = ["retouch", *arguments, "--stack", stack, "--region", REGION]
        self.monkeypatch.setattr(sys, "argv", line)
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self.capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        # On a terminal long lines are broken.
        return Said(code, re.sub(r"\s+", " ", printed.out), re.sub(r"\s+", " ", printed.err))


@pytest.fixture
def retouch(
    store: DynamoStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield Shell(monkeypatch, capsys)
    for number, handler in before.items():
        signal.signal(number, handler)


COMMANDS = (
    ("cancel", JOB),
    ("retry", JOB),
    ("release", JOB),
    ("resolve", JOB, "--again"),
    ("resolve", JOB, "--fail"),
    ("resolve", JOB, "--adopt", "task-1"),
)


# --- wrong usage ----------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--again", "--fail"),
        ("--adopt", "task-1", "--again"),
        ("--adopt", "task-1", "--fail"),
        ("--adopt", "task-1", "--again", "--fail"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_resolve_needs_exactly_one_decision(
    retouch: Shell, cloud: Cloud, options: tuple[str, ...], more: tuple[str, ...]
) -> None:
    said = retouch("resolve", JOB, *options, *more)

    assert said.code == 2
    assert "exactly one of --adopt TASK, --again and --fail is needed" in said.err
    assert said.out == ""
    assert (cloud.described, cloud.invoked) == (0, [])


@pytest.mark.parametrize(
    "arguments", [("resolve", JOB, "--adopt"), ("cancel",), ("retry",), ("release",)]
)
def test_what_is_missing_is_named(retouch: Shell, cloud: Cloud, arguments: tuple[str, ...]) -> None:
    # `--adopt` swallows what follows it, as every option with a value does.
    said = retouch(*arguments)

    assert said.code == 2
    assert said.out == ""
    assert said.err
    assert cloud.invoked == []


@pytest.mark.parametrize("task", ["", "x" * 201])
def test_what_cannot_be_a_task_is_wrong_usage(retouch: Shell, cloud: Cloud, task: str) -> None:
    cloud.answers = [report(did="done")]

    said = retouch("resolve", JOB, "--adopt", task)

    assert cloud.invoked == []  # the function would only fail on it
    assert said.code == 2


@pytest.mark.parametrize("name", ["fedcba9876543210", "no/such.png.json", "x", "../../etc/passwd"])
def test_a_job_that_is_not_there_is_wrong_input(retouch: Shell, cloud: Cloud, name: str) -> None:
    for command, more in zip(COMMANDS, itertools.cycle(((), ("--json",))), strict=False):
        said = retouch(command[0], name, *command[2:], *more)

        assert said.code == 2
        assert f'there is no job "{name}"' in said.err
        assert "retouch jobs" in said.err
        assert said.out == ""
    assert cloud.invoked == []


# --- what is asked of the stack ----------------------------------------


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (("cancel", "{}"), {"command": "cancel", "task_id": None}),
        (("retry", "{}"), {"command": "retry", "task_id": None}),
        (("release", "{}"), {"command": "release", "task_id": None}),
        (("resolve", "{}", "--again"), {"command": "again", "task_id": None}),
        (("resolve", "{}", "--fail"), {"command": "fail", "task_id": None}),
        (("resolve", "{}", "--adopt", "86ec-f553"), {"command": "adopt", "task_id": "86ec-f553"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [JOB, SIDECAR])
def test_a_job_is_named_by_its_id_or_its_sidecar(
    retouch: Shell, cloud: Cloud, command: tuple[str, ...], asked: dict[str, Any], name: str
) -> None:
    cloud.answers = [report(did="done")]

    said = retouch(*(part.replace("{}", name) for part in command))

    assert said.code == 0, said.err
    assert cloud.invoked == [{"job_id": JOB, **asked}]


@pytest.mark.parametrize("name", ["shoes/red [1].png", SIDECAR])
def test_a_job_of_an_image_alone_is_named_as_the_image_was_dropped(
    retouch: Shell, cloud: Cloud, store: DynamoStore, name: str
) -> None:
    store.commit((PutJob(job(2, sidecar_version=None)),))
    cloud.answers = [report(did="done")]

    assert retouch("cancel", name).code == 0

    assert cloud.invoked == [{"job_id": JOB, "command": "cancel", "task_id": None}]


def test_an_image_that_waits_for_its_sidecar_is_named_as_it_was_dropped(
    retouch: Shell, store: DynamoStore
) -> None:
    alone = job(1, job_id="b" * 16, sidecar="hat.jpg.json", sidecar_version=None, folder="hat")
    store.commit((PutJob(alone),))
    store.note_lone("hat.jpg", 1.0, alone.job_id)

    for name in ("hat.jpg", "hat.jpg.json"):
        assert json.loads(retouch("show", name, "--json").out)["job_id"] == alone.job_id


def test_an_image_s_name_means_the_sidecar_that_it_was_used_by(
    retouch: Shell, store: DynamoStore
) -> None:
    # `hat.json` lost to `hat.jpg.json`, though it came later, and has its record aside.
    wins = job(1, job_id="b" * 16, sidecar="hat.jpg.json", folder="hat")
    loses = job(1, job_id="c" * 16, sidecar="hat.json", folder=f"hat/{'c' * 16}", created_at=2.0)
    for one in (wins, loses):
        store.commit((PutJob(one), NoteLatest(one.sidecar, one.job_id, over=None)))

    told = {
        name: json.loads(retouch("show", name, "--json").out)["job_id"]
        for name in ("hat.jpg", "hat.json")
    }

    assert told == {"hat.jpg": wins.job_id, "hat.json": loses.job_id}


def test_a_record_that_lies_aside_is_named_by_its_folder(
    retouch: Shell, store: DynamoStore
) -> None:
    # One never had the folder; another lost it to a newer job, which has its name.
    loses = job(1, job_id="c" * 16, sidecar="hat.json", folder=f"hat/{'c' * 16}")
    older = job(1, job_id="d" * 16, sidecar="hat.jpg.json", folder="hat")
    newer = job(1, job_id="e" * 16, sidecar="hat.jpg.json", folder="hat")
    store.commit(tuple(PutJob(one) for one in (loses, older, newer)))
    store.commit((NoteLatest("hat/", newer.job_id, over=None),))

    told = [
        json.loads(retouch("show", name, "--json").out)["job_id"]
        for name in (f"hat/{'c' * 16}/", f"hat/{'d' * 16}/", "hat/")
    ]

    assert told == [loses.job_id, older.job_id, newer.job_id]
    assert retouch("show", f"cap/{'d' * 16}/").code == 2


def test_an_image_s_name_does_not_mean_a_sidecar_that_took_another_image(
    retouch: Shell, store: DynamoStore
) -> None:
    image = Source(key="hat.jpg", version_id="v1", way=Way.PUBLIC)
    own = job(1, job_id="b" * 16, sidecar="hat.jpg.json", folder="hat", images=(image,))
    other = image.model_copy(update={"key": "cap.jpg"})
    newer = job(
        1, job_id="c" * 16, sidecar="hat.json", folder="hat", images=(other,), created_at=2.0
    )
    for one in (own, newer):
        store.commit((PutJob(one), NoteLatest(one.sidecar, one.job_id, over=None)))

    told = {
        name: json.loads(retouch("show", name, "--json").out)["job_id"]
        for name in ("hat.jpg", "hat.json")
    }

    assert told == {"hat.jpg": own.job_id, "hat.json": newer.job_id}
    assert retouch("show", "hat.png").code == 2, "what was made of other images is none of its"


# --- all jobs of a drop ----------------------------------------

PARTS = tuple(part_id(JOB, number) for number in range(3))


def make_several(store: DynamoStore, *statuses: Status, steps: bool = False) -> None:
    """Make of the job the first of as many as there are states: variants, or steps."""
    for number, (job_id, status) in enumerate(zip(PARTS, statuses, strict=False)):
        of = len(statuses)
        part = Part(number=number, of=of, variant=None if steps else f"v{number}")
        if steps:
            places = {
                "step": number + 1,
                "steps": of,
                "previous": PARTS[number - 1] if number else None,
                "next": PARTS[number + 1] if number + 1 < of else None,
            }
            part = part.model_copy(update=places)
        changes = {"status": status, "part": part, "folder": f"shoes/red/{number}"}
        store.commit((PutJob(job(1 + (number == 0), job_id=job_id, **changes)),))


def asked_for(cloud: Cloud) -> list[str]:
    """Whose ids the stack was asked about, in order."""
    return [asked["job_id"] for asked in cloud.invoked]


def lines(text: str) -> int:
    """How many jobs were spoken of."""
    return text.count(" (job ")


@pytest.mark.parametrize("name", [SIDECAR, "shoes/red [1].png"])
@pytest.mark.parametrize("steps", [False, True])
def test_a_key_cancels_all_that_have_not_ended_the_last_first(
    retouch: Shell, cloud: Cloud, store: DynamoStore, name: str, steps: bool
) -> None:
    make_several(store, Status.SUCCEEDED, Status.QUEUED, Status.WAITING, steps=steps)
    cloud.answers = [report(did="it is cancelled; nothing is billed")]

    said = retouch("cancel", name)

    # A step that is cancelled after the one before it might have begun meanwhile.
    assert asked_for(cloud) == [PARTS[2], PARTS[1]]
    assert said.code == 0
    assert said.err == ""
    first = "step 1 of 3" if steps else "v0"
    assert said.out.strip().startswith(
        f"{SIDECAR}, {first} (job {JOB}): nothing to do: it has ended already as SUCCEEDED"
    )
    assert lines(said.out) == 3


def test_an_id_means_that_job_of_several_and_no_other(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.QUEUED, Status.QUEUED, Status.QUEUED)
    store.commit((NoteLatest("shoes/red/1/", PARTS[1], over=None),))
    cloud.answers = [report(did="done")]

    for name in (JOB, PARTS[1], "shoes/red/1/"):
        retouch("cancel", name)

    assert asked_for(cloud) == [JOB, PARTS[1], PARTS[1]]


def test_the_provider_s_word_is_awaited_for_all_together(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.CANCELED, Status.RUNNING, Status.RUNNING)
    for job_id in PARTS[1:]:
        found = store.job(job_id)
        assert found is not None
        store.commit((PutJob(found.model_copy(update={"version": 2, "cancel_answer": "no"})),))
    asked = report(status="RUNNING", did="noted", could_not="it is asked at the next look")
    cloud.answers = [asked, asked, report(status="RUNNING", could_not="the provider refused")]

    said = retouch("cancel", SIDECAR)

    assert asked_for(cloud) == [PARTS[2], PARTS[1], PARTS[1], PARTS[2]]
    assert lines(said.out) == 3
    assert said.out.count(": noted") == 2
    assert said.err.count("the provider refused") == 2
    assert said.code == 1


def test_a_key_retries_each_variant_that_ended_badly_and_bills_no_image_anew(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.FAILED, Status.SUCCEEDED, Status.REJECTED)
    cloud.answers = [report(status="QUEUED", did="it is tried again")]

    assert retouch("retry", SIDECAR).code == 0
    assert asked_for(cloud) == [PARTS[0], PARTS[2]]

    found = store.job(PARTS[1])
    assert found is not None
    store.commit((PutJob(found.model_copy(update={"version": 2, "status": Status.PARTIAL})),))
    cloud.invoked.clear()
    said = retouch("retry", SIDECAR)

    assert asked_for(cloud) == [PARTS[0], PARTS[2]]
    assert f"`retouch retry {PARTS[1]}`" in said.err
    assert said.code == 1


def test_a_key_asks_for_what_a_person_has_to_see_to_as_an_id_does(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.FINALIZING, Status.FINALIZING, Status.UNRESOLVED)
    stuck = store.job(PARTS[1])
    assert stuck is not None
    store.commit((PutJob(stuck.model_copy(update={"version": 2, "blocked": True})),))
    cloud.answers = [
        report(status="FINALIZING", did="copying its results is tried again now"),
        report(status="UNRESOLVED", could_not="it is held for a decision: `retouch resolve`"),
    ]

    said = retouch("retry", SIDECAR)

    assert asked_for(cloud) == [*PARTS[1:]]
    assert "nothing to do: it is FINALIZING" in said.out
    assert "tried again now" in said.out
    assert "held for a decision" in said.err
    assert said.code == 1


def test_a_key_retries_steps_by_the_last_of_them(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.SUCCEEDED, Status.FAILED, Status.FAILED, steps=True)
    cloud.answers = [report(status="QUEUED", did="it is tried again, from step 2 on")]

    said = retouch("retry", SIDECAR)

    assert asked_for(cloud) == [PARTS[2]]
    assert f"step 2 of 3 (job {PARTS[1]}): it is tried again, from step 2 on" in said.out
    assert f"step 3 of 3 (job {PARTS[2]}): nothing to do: it follows" in said.out
    assert said.code == 0


def test_a_variant_that_was_tried_again_is_the_job_that_repeats_it(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.SUCCEEDED, Status.SUCCEEDED, Status.SUCCEEDED)
    first, second = (store.job(job_id) for job_id in PARTS[:2])
    assert first is not None
    assert second is not None
    for old, new_id in ((first, "b" * 16), (second, "c" * 16)):
        new = old.model_copy(
            update={"job_id": new_id, "version": 1, "retry_of": old.job_id, "status": Status.QUEUED}
        )
        linked = old.model_copy(update={"version": old.version + 1, "retried_as": new_id})
        store.commit((PutJob(new), PutJob(linked)))
    # The first variant's retry has taken over the sidecar's name.
    store.commit((NoteLatest(SIDECAR, "b" * 16, over=JOB),))
    cloud.answers = [report(did="it is cancelled")]

    retouch("cancel", SIDECAR)

    assert asked_for(cloud) == ["c" * 16, "b" * 16]


def test_a_key_releases_all_that_are_held(retouch: Shell, cloud: Cloud, store: DynamoStore) -> None:
    make_several(store, Status.HELD, Status.QUEUED, Status.HELD)
    cloud.answers = [report(did="it goes on", status="QUEUED"), report(could_not="not now")]

    said = retouch("release", SIDECAR)

    assert asked_for(cloud) == [PARTS[0], PARTS[2]]
    assert "it is QUEUED, not held by a budget" in said.out
    assert said.err.strip() == f"{SIDECAR}, v2 (job {PARTS[2]}): not now"
    assert said.code == 1


@pytest.mark.parametrize("command", ["cancel", "retry", "release"])
def test_where_nothing_is_left_to_do_the_status_is_0(
    retouch: Shell, cloud: Cloud, store: DynamoStore, command: str
) -> None:
    make_several(store, Status.SUCCEEDED, Status.SUCCEEDED)

    said = retouch(command, SIDECAR)

    assert cloud.invoked == []
    assert (said.code, said.err) == (0, "")
    assert said.out.count("nothing to do") == 2


def test_json_of_several_is_an_object_with_one_for_each(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.QUEUED, Status.CANCELED)
    cloud.answers = [report(did="it is cancelled")]

    said = retouch("cancel", SIDECAR, "--json")

    assert json.loads(said.out) == {
        "sidecar": SIDECAR,
        "jobs": [
            {
                "job_id": JOB, "sidecar": SIDECAR, "status": "CANCELED", "did": "it is cancelled",
                "could_not": None, "part": "v0", "nothing_to_do": None,
            },
            {
                "job_id": PARTS[1], "sidecar": SIDECAR, "status": "CANCELED", "did": None,
                "could_not": None, "part": "v1",
                "nothing_to_do": "it has ended already as CANCELED",
            },
        ],
    }  # fmt: skip


def test_what_was_done_before_the_stack_stopped_answering_is_said(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.SUCCEEDED, Status.HELD)
    cloud.failure = {"errorType": "SettingsError", "errorMessage": "RETOUCH_TABLE is missing"}

    said = retouch("release", SIDECAR)

    assert said.code == 3
    assert f"{SIDECAR}, v0 (job {JOB}): nothing to do" in said.out
    assert "RETOUCH_TABLE is missing" in said.err


def test_show_tells_of_every_job_of_a_drop_a_summary_first(
    retouch: Shell, store: DynamoStore
) -> None:
    make_several(store, Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED)

    said = retouch("show", SIDECAR)
    told = json.loads(retouch("show", SIDECAR, "--json").out)

    assert said.out.startswith(f"{SIDECAR} 3 jobs: 2 SUCCEEDED, 1 FAILED {SIDECAR}, v0 SUCCEEDED")
    assert f"{SIDECAR}, v1 FAILED" in said.out
    assert said.out.count("job_id ") == 3
    assert told["sidecar"] == SIDECAR
    assert told["statuses"] == {"SUCCEEDED": 2, "FAILED": 1}
    assert [one["job_id"] for one in told["jobs"]] == list(PARTS)
    assert json.loads(retouch("show", PARTS[1], "--json").out) == told["jobs"][1]


def test_a_decision_is_about_the_one_that_is_unresolved(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.SUCCEEDED, Status.UNRESOLVED, Status.FAILED)
    cloud.answers = [report(did="it is closed as FAILED")]

    assert retouch("resolve", SIDECAR, "--fail").code == 0
    found = store.job(PARTS[1])
    assert found is not None
    done = {"version": 2, "status": Status.FAILED, "resolution": "fail"}
    store.commit((PutJob(found.model_copy(update=done)),))
    assert retouch("resolve", SIDECAR, "--fail").code == 0  # given twice

    assert asked_for(cloud) == [PARTS[1]] * 2


def test_a_decision_that_could_be_about_several_is_about_none(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.UNRESOLVED, Status.SUCCEEDED, Status.UNRESOLVED)

    said = retouch("resolve", SIDECAR, "--again", "--json")

    assert (said.code, said.out, cloud.invoked) == (2, "", [])
    for job_id in (PARTS[0], PARTS[2]):
        assert f"retouch resolve {job_id} --again" in said.err
    assert PARTS[1] not in said.err


def test_a_drop_of_which_nothing_is_unresolved_has_nothing_to_decide(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    make_several(store, Status.SUCCEEDED, Status.RUNNING)

    said = retouch("resolve", SIDECAR, "--again")

    assert (said.code, said.out, cloud.invoked) == (1, "", [])
    assert "none of the 2 jobs" in said.err


# --- what came of it ----------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_what_was_done_is_printed_and_the_status_is_0(
    retouch: Shell, cloud: Cloud, command: tuple[str, ...]
) -> None:
    cloud.answers = [report(did="it is cancelled [bold]; nothing is billed")]

    said = retouch(*command)

    # Brackets are text: a key may hold them.
    assert said.out.strip() == f"{SIDECAR} (job {JOB}): it is cancelled [bold]; nothing is billed"
    assert said.err == ""
    assert said.code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_what_could_not_be_done_is_told_beside_the_output_and_the_status_is_1(
    retouch: Shell, cloud: Cloud, command: tuple[str, ...]
) -> None:
    cloud.answers = [report(could_not="it has ended already as SUCCEEDED", status="SUCCEEDED")]

    said = retouch(*command)

    assert said.out == ""
    assert said.err.strip() == f"{SIDECAR} (job {JOB}): it has ended already as SUCCEEDED"
    assert said.code == 1


def test_what_was_done_and_what_was_not_are_told_apart(retouch: Shell, cloud: Cloud) -> None:
    cloud.answers = [report(status="FINALIZING", did="the request is noted", could_not="too late")]

    said = retouch("cancel", JOB)

    assert said.out.strip().endswith(": the request is noted")
    assert said.err.strip().endswith(": too late")
    assert said.code == 1


@pytest.mark.parametrize(
    ("answered", "code"),
    [
        ({"status": "CANCELED", "did": "图 [x]"}, 0),
        ({"status": "SUCCEEDED", "could_not": "it has ended"}, 1),
        ({"status": "FINALIZING", "did": "a", "could_not": "b"}, 1),
    ],
)
def test_json_is_one_document_with_all_of_it(
    retouch: Shell, cloud: Cloud, answered: dict[str, Any], code: int
) -> None:
    cloud.answers = [report(**answered)]

    for command in COMMANDS:
        said = retouch(*command, "--json")

        assert json.loads(said.out) == {
            "job_id": JOB,
            "sidecar": SIDECAR,
            "status": answered["status"],
            "did": answered.get("did"),
            "could_not": answered.get("could_not"),
        }
        assert said.err == ""
        assert said.code == code


def test_the_job_that_a_retry_makes_is_the_one_that_json_names(
    retouch: Shell, cloud: Cloud
) -> None:
    new = "fedcba9876543210"
    cloud.answers = [report(job_id=new, status="QUEUED", did=f"it is tried again as job {new}")]

    told = json.loads(retouch("retry", JOB, "--json").out)
    said = retouch("retry", JOB)

    assert (told["job_id"], told["sidecar"], told["status"]) == (new, SIDECAR, "QUEUED")
    assert new in said.out


# --- the provider's word on a cancel ----------------------------------------


@pytest.mark.parametrize(
    "moved_on",
    [
        pytest.param({"cancel_answer": "the provider refused"}, id="it has refused"),
        pytest.param({"status": Status.CANCELED}, id="it is cancelled"),
        pytest.param({"status": Status.UNRESOLVED}, id="a person is asked"),
    ],
)
def test_a_cancel_tells_what_the_provider_said_as_soon_as_it_has(
    retouch: Shell, cloud: Cloud, store: DynamoStore, moved_on: dict[str, Any]
) -> None:
    store.commit((PutJob(job(2, **moved_on)),))
    cloud.answers = [
        report(status="RUNNING", did="noted", could_not="it is asked at the next look"),
        report(status="RUNNING", did="noted already", could_not="the provider refused"),
    ]
    begun = time.monotonic()

    said = retouch("cancel", JOB)

    assert time.monotonic() - begun < 15  # it is not waited for
    assert said.out.strip().endswith(": noted")
    assert said.err.strip().endswith(": the provider refused")
    assert said.code == 1
    assert [asked["command"] for asked in cloud.invoked] == ["cancel", "cancel"]


def test_a_cancel_waits_until_the_job_moves(
    retouch: Shell, cloud: Cloud, store: DynamoStore
) -> None:
    first = report(status="RUNNING", did="noted", could_not="it is asked at the next look")
    cloud.answers = [first, report(status="CANCELED", did="it was cancelled already")]
    moving = threading.Timer(1.0, lambda: store.commit((PutJob(job(2, status=Status.CANCELED)),)))
    moving.start()
    try:
        said = retouch("cancel", JOB)
    finally:
        moving.join()

    assert said.code == 0
    assert said.out.strip().endswith(": noted, and it is cancelled")
    assert len(cloud.invoked) == 2


@pytest.mark.parametrize("status", ["CREATING", "RESOLVING", "RUNNING"])
def test_nobody_has_to_wait_for_it(retouch: Shell, cloud: Cloud, status: str) -> None:
    cloud.answers = [report(status=status, did="noted", could_not="it is asked at the next look")]

    said = retouch("cancel", JOB, "--no-wait")

    assert said.code == 1
    assert said.out.strip().endswith(": noted")
    assert said.err.strip().endswith(": it is asked at the next look")
    assert len(cloud.invoked) == 1


@pytest.mark.parametrize("status", ["CANCELED", "SUCCEEDED", "FINALIZING", "QUEUED"])
def test_what_the_provider_has_no_say_in_is_not_waited_for(
    retouch: Shell, cloud: Cloud, status: str
) -> None:
    cloud.answers = [report(status=status, did="done")]

    assert retouch("cancel", JOB).code == 0
    assert len(cloud.invoked) == 1


# --- a stack that does not answer ----------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_function_that_fails_is_a_stack_that_does_not_answer(
    retouch: Shell, cloud: Cloud, command: tuple[str, ...]
) -> None:
    cloud.failure = {"errorType": "SettingsError", "errorMessage": "RETOUCH_TABLE is missing"}

    for more in ((), ("--json",)):
        said = retouch(*command, *more)

        assert said.code == 3
        assert said.out == ""
        assert f'the stack "{STACK}"' in said.err
        assert "RETOUCH_TABLE is missing" in said.err


def test_a_stack_without_the_function_says_what_it_lacks(retouch: Shell, cloud: Cloud) -> None:
    del cloud.outputs["OperateFunctionName"]

    said = retouch("cancel", JOB)

    assert said.code == 3
    assert "OperateFunctionName" in said.err
    assert cloud.invoked == []


def test_a_function_that_is_not_reached_gives_status_3(
    retouch: Shell, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        closed = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", closed)

    said = retouch("retry", JOB)

    assert said.code == 3
    assert said.out == ""
    assert "the stack does not answer as it should" in said.err
