"""The commands. Each parses its options, calls what does the work, and says what came of it."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, NoReturn

import typer
import typer.exceptions
from botocore.exceptions import BotoCoreError, ClientError

from retouch import __version__, keys, schemas, sidecar
from retouch.aws.storage import S3Inbox
from retouch.catalogue import Catalogue, catalogue
from retouch.cli import explaining, output, steering
from retouch.cli.connection import Connection, NotReachable, Where, connect
from retouch.cli.demo import demo as run_demo
from retouch.cli.explaining import Remembered, is_alone, is_job
from retouch.cli.folder import FolderInbox, Found, Verdict, check, collect
from retouch.cli.following import follow
from retouch.cli.gallery import gallery as make_gallery
from retouch.cli.naming import jobs_named
from retouch.cli.steering import Outcome
from retouch.cli.watch import Order
from retouch.cli.watch import watch as run_watch
from retouch.cli.watch_folder import overlap
from retouch.errors import RetouchError, SettingsError
from retouch.events import LONGEST_TASK_ID
from retouch.jobs import Job, Status, follows
from retouch.local import stack as local
from retouch.ports import Inbox
from retouch.registry import MODELS, REGIONS
from retouch.runaway import is_record
from retouch.steps.submit import job_id_of

DONE: Final = 0
FAILED: Final = 1
WRONG_INPUT: Final = 2
NOT_REACHABLE: Final = 3
_FEW: Final = 3
"""Of many files so many are named."""

app = typer.Typer(
    name="retouch",
    help="A drop folder for AI image editing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
_Stack = Annotated[
    str | None, typer.Option("--stack", help="The stack; default: the local one that runs.")
]
_Profile = Annotated[str | None, typer.Option("--profile", help="AWS profile, for a stack on AWS.")]
_Region = Annotated[str | None, typer.Option("--region", help="AWS region, for a stack on AWS.")]
_Models = Annotated[
    Path | None,
    typer.Option(
        "--models",
        help="A JSON file with limits and new snapshots of models, as in the stack's parameter "
        "Models.",
        metavar="FILE",
    ),
]
_Job = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A job's id or its folder in the outbox; or what was dropped, a sidecar's key or an "
        "image's, for all its jobs.",
    ),
]
_Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files or folders.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"retouch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Where to put the results.")] = Path("out"),
    as_json: _Json = False,
) -> None:
    """Run the main job from nothing: engine, simulator, bundled samples, results, a summary."""
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file; a folder is needed", param_hint="--out")
    raise typer.Exit(run_demo(out, as_json=as_json))


def _stack_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
        raise typer.BadParameter(
            f'"{name}" is not allowed; small letters, digits and hyphens are, a letter first, at '
            "most 31",
            param_hint="--stack",
        )
    return name


def _provider(value: str) -> str:
    named = value in ("simulated", "dashscope")
    if not named and not re.match(r"(https://|http://(127\.0\.0\.1|localhost):[0-9])[^/]+", value):
        raise typer.BadParameter(
            f'"{value}" is not allowed; simulated, dashscope, or a base URL is: https://…, or on '
            "this machine http://127.0.0.1:PORT/…",
            param_hint="--provider",
        )
    return value.rstrip("/")


def _regions(names: list[str]) -> tuple[str, ...]:
    regions = tuple(dict.fromkeys(part for name in names for part in name.split(",")))
    for region in regions:
        if region not in REGIONS:
            raise typer.BadParameter(
                f'"{region}" is not allowed; {", ".join(REGIONS)} are',
                param_hint="--provider-region",
            )
    return regions


def _parameters(given: list[str]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isalnum():
            raise typer.BadParameter(
                f'"{text}" is not allowed; NAME=VALUE is, as WindowMargin=0',
                param_hint="--parameter",
            )
        parameters[name] = value
    return parameters


@app.command()
def up(
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port; default: a free one.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            help="simulated (default), dashscope (spends money), or a base URL.",
            metavar="WHICH",
        ),
    ] = None,
    provider_region: Annotated[
        list[str] | None,
        typer.Option(
            "--provider-region",
            help=f"A region that there is a key for: {', '.join(REGIONS)}. Default: beijing. "
            "May be repeated, the preferred one first.",
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            help="A parameter of the template; may be repeated.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    time_scale: Annotated[
        float,
        typer.Option("--time-scale", min=0.01, max=1.0, help="Shortens simulated durations."),
    ] = 1.0,
    stack: Annotated[str, typer.Option("--stack", help="Name of the stack.")] = local.DEFAULT_NAME,
    as_json: _Json = False,
) -> None:
    """Start a local stack in the background."""
    name = _stack_name(stack)
    regions = _regions(provider_region or ["beijing"])
    parameters = _parameters(parameter or [])
    chosen = _provider(provider) if provider is not None else None
    running = local.find(name)
    if running is not None and chosen not in (None, running.provider):
        raise typer.BadParameter(
            f'the stack "{name}" already runs with {running.provider}; `retouch down --stack {name}` '
            "stops it, or --stack names another",
            param_hint="--provider",
        )
    if running is not None:
        for option, differs in (
            ("--provider-region", provider_region and regions != tuple(running.provider_urls)),
            ("--parameter", bool(parameters)),
        ):
            if differs:
                raise typer.BadParameter(
                    f'the stack "{name}" already runs; it takes effect only at the start: `retouch '
                    f"down --stack {name}` first",
                    param_hint=option,
                )
    if running is None:
        blueprint = local.Blueprint(
            name=name,
            port=port,
            provider=chosen or "simulated",
            provider_regions=regions,
            parameters=parameters,
            time_scale=time_scale if chosen in (None, "simulated") else 1.0,
        )
        running = local.start(blueprint, say=lambda step: output.err.print(f"[dim]{step} …[/dim]"))
        said = f'the stack "{name}" is up'
    else:
        said = f'the stack "{name}" is already running; `retouch down --stack {name}` stops it'
    if as_json:
        if said.endswith("stops it"):
            output.err.print(said, markup=False)
        output.document(_described(running))
        return
    output.out.print(said, markup=False)
    for label, value in _described(running).items():
        if isinstance(value, str):
            output.out.print(f"  {label:18} {value}", markup=False)
    for at, url in running.provider_urls.items():
        output.out.print(f"  {f'provider {at}':18} {url}", markup=False)
    output.out.print("\nTo use it with any AWS tool:", markup=False)
    for variable, value in running.environment().items():
        output.out.print(f"  export {variable}={value}", markup=False)


def _described(stack: local.Running) -> dict[str, Any]:
    return {
        "stack": stack.name,
        "endpoint_url": stack.endpoint_url,
        "region": stack.region,
        "inbox": stack.outputs["InboxBucket"],
        "outbox": stack.outputs["OutboxBucket"],
        "table": stack.outputs["TableName"],
        "state_machine_arn": stack.outputs["StateMachineArn"],
        "topic_arn": stack.outputs["TopicArn"],
        "events_bus": stack.outputs["EventBusName"],
        "provider": stack.provider,
        "provider_urls": stack.provider_urls,
        "logs": stack.folder,
        "environment": stack.environment(),
    }


@app.command()
def down(
    stack: Annotated[str, typer.Option("--stack", help="Name of the stack.")] = local.DEFAULT_NAME,
    as_json: _Json = False,
) -> None:
    """Stop a local stack and forget everything in it."""
    stopped = local.stop(_stack_name(stack))
    said = f'the stack "{stack}" is stopped' if stopped else f'no local stack "{stack}" is running'
    if as_json:
        output.document({"stack": stack, "stopped": stopped})
    else:
        output.out.print(said, markup=False)


@app.command()
def watch(
    inbox: Annotated[Path, typer.Argument(metavar="INBOX", help="The folder to drop files into.")],
    outbox: Annotated[Path, typer.Argument(metavar="OUTBOX", help="The folder for results.")],
    provider: Annotated[
        str,
        typer.Option(
            "--provider",
            help="simulated, dashscope (spends money), or a base URL.",
            metavar="WHICH",
        ),
    ] = "simulated",
    provider_region: Annotated[
        list[str] | None,
        typer.Option("--provider-region", help="As of `retouch up`. May be repeated."),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            help="A parameter of the template; may be repeated.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when all that is there now has ended.")
    ] = False,
    free: Annotated[
        bool,
        typer.Option(
            "--free", help="Free the disk of kept copies that nothing needs any more, and end."
        ),
    ] = False,
    time_scale: Annotated[
        float,
        typer.Option("--time-scale", min=0.01, max=1.0, help="Shortens simulated durations."),
    ] = 1.0,
    as_json: _Json = False,
) -> None:
    """Watch a local folder: what is dropped there is edited, and results appear in another."""
    if not inbox.is_dir():
        said = "is a file" if inbox.exists() else "is not there"
        raise typer.BadParameter(f"{inbox} {said}; a folder is needed", param_hint="INBOX")
    if outbox.exists() and not outbox.is_dir():
        raise typer.BadParameter(f"{outbox} is a file; a folder is needed", param_hint="OUTBOX")
    if (why := overlap(inbox, outbox)) is not None:
        raise typer.BadParameter(f"{outbox} {why}", param_hint="OUTBOX")
    chosen = _provider(provider)
    order = Order(
        inbox=inbox,
        outbox=outbox,
        provider=chosen,
        provider_regions=_regions(provider_region or ["beijing"]),
        parameters=_parameters(parameter or []),
        time_scale=time_scale if chosen == "simulated" else 1.0,
        once=once,
        free=free,
    )
    raise typer.Exit(run_watch(order, as_json=as_json))


@app.command()
def drop(
    paths: _Paths,
    to: Annotated[str, typer.Option("--to", help="Prefix in the inbox.", metavar="PREFIX")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every job has ended.")] = False,
    stack: _Stack = None,
    profile: _Profile = None,
    region: _Region = None,
    as_json: _Json = False,
) -> None:
    """Upload files or folders into the inbox; a folder's contents go there without its own name."""
    prefix = f"{to.strip('/')}/" if to.strip("/") else ""
    if keys.classify(f"{prefix}photo.jpg") is keys.Kind.IGNORED:
        raise typer.BadParameter(
            f'"{to}" is not allowed: names with a part that begins with . or ~ are ignored',
            param_hint="--to",
        )
    connection = connect(Where(stack, profile, region))
    judged = _judged(
        paths, missing_is_wrong=False, models=connection.models, regions=connection.regions
    )
    verdicts = [verdict for _, verdict in judged]
    wrong = any(verdict.problems for verdict in verdicts)
    output.verdicts(verdicts, quiet_when_fine=True)
    job_ids, alone, count = _upload(connection, judged, prefix)
    jobs: list[Job] = []
    if wait and job_ids:
        jobs = follow(
            connection,
            job_ids,
            output.err,
            stopped=lambda job: (
                job.blocked
                or job.status is Status.HELD
                or (job.status is Status.WAITING and (bool(job.missing) or not follows(job)))
            ),
        )
    if as_json:
        output.document(
            {
                "uploaded": count,
                "jobs": [output.row(job) for job in jobs] if wait else job_ids,
                "alone": alone,
                "files": output.verdict_document(verdicts),
            }
        )
    else:
        output.out.print(
            f"{count} file{'' if count == 1 else 's'} dropped into s3://{connection.inbox}/{prefix}",
            markup=False,
        )
        if wait:
            output.out.print(output.jobs_table(jobs))
            output.out.print(f"results in s3://{connection.outbox}/", markup=False)
            output.reasons(jobs)
        else:
            for job_id in job_ids:
                output.out.print(f"job {job_id}", markup=False)
        if alone:
            output.err.print(_of_images_alone(alone), markup=False)
    if wrong or any(job.status is Status.REJECTED for job in jobs):
        raise typer.Exit(WRONG_INPUT)
    if any(job.blocked for job in jobs):
        raise typer.Exit(NOT_REACHABLE)
    if any(job.status is not Status.SUCCEEDED for job in jobs):
        raise typer.Exit(FAILED)


def _judged(
    paths: list[Path],
    *,
    missing_is_wrong: bool,
    models: Catalogue = MODELS,
    regions: Sequence[str] | None = None,
) -> list[tuple[Found | None, Verdict]]:
    judged: list[tuple[Found | None, Verdict]] = []
    for item in output.track([*collect(paths)], "looking at files"):
        if isinstance(item, Verdict):
            judged.append((None, item))
        else:
            verdict = check(item, missing_is_wrong=missing_is_wrong, models=models, regions=regions)
            judged.append((item, verdict))
    return judged


def _upload(
    connection: Connection, judged: list[tuple[Found | None, Verdict]], prefix: str
) -> tuple[list[str], list[str], int]:
    """Upload presets first, then images, then sidecars; the ids of the jobs that they make (of a drop
    that makes several, of the first), the keys of images of which nothing comes by itself, and how many
    files.
    """
    found = [item for item, verdict in judged if item is not None and _goes_up(item, verdict)]
    order = (keys.Kind.PRESET, keys.Kind.IMAGE, keys.Kind.SIDECAR)
    found.sort(key=lambda item: order.index(keys.classify(item.key)))
    names = {prefix + item.key for item in found}
    inbox = Remembered(S3Inbox(connection.s3, connection.inbox))
    named = {prefix + key for _, verdict in judged for key in verdict.uses}
    job_ids: list[str] = []
    alone: list[str] = []
    for item in output.track(found, "uploading"):
        key = prefix + item.key
        version = connection.upload(key, item.path.read_bytes())
        if is_job(connection, inbox, key, names):
            job_ids.append(job_id_of(key, version))
        elif is_alone(connection, inbox, key, names, named):
            alone.append(key)
    return job_ids, alone, len(found)


def _of_images_alone(found: list[str]) -> str:
    shown = ", ".join(found[:_FEW])
    more = f" and {len(found) - _FEW} more" if len(found) > _FEW else ""
    each = "waits" if len(found) == 1 else "wait"
    return (
        f"{shown}{more}: no job yet; {each} for a sidecar, or for a preset that says all that a job "
        "needs; `retouch explain` says more"
    )


def _goes_up(item: Found, verdict: Verdict) -> bool:
    """A broken sidecar or preset goes up, so that the outbox says why, and nothing is made under the
    preset that was there before; a file that is no image does not, nor does a record from an outbox, of
    which nothing would come.
    """
    kind = keys.classify(item.key)
    if kind is keys.Kind.IGNORED:
        return False
    if kind is keys.Kind.SIDECAR and is_record(item.path.read_bytes()):
        return False
    return kind is not keys.Kind.IMAGE or not verdict.problems or keys.is_image_name(item.key)


@app.command()
def jobs(
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only jobs in this state; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    stack: _Stack = None,
    profile: _Profile = None,
    region: _Region = None,
    as_json: _Json = False,
) -> None:
    """List jobs, the newest first."""
    wanted = [_status(name) for name in state] if state else list(Status)
    connection = connect(Where(stack, profile, region))
    found = connection.jobs(wanted)
    shown = found[:limit]
    if as_json:
        output.document([output.row(job) for job in shown])
        return
    if not found:
        output.out.print("no jobs", markup=False)
        return
    output.out.print(output.jobs_table(shown))
    output.out.print(f"results in s3://{connection.outbox}/", markup=False)
    output.reasons(shown)
    if len(found) > limit:
        output.out.print(f"… and {len(found) - limit} more; --limit shows them", markup=False)


def _status(name: str) -> Status:
    try:
        return Status(name.upper())
    except ValueError:
        allowed = ", ".join(status.lower() for status in Status)
        raise typer.BadParameter(
            f'"{name}" is not a state; {allowed} are', param_hint="--state"
        ) from None


@app.command()
def show(
    job: _Job,
    stack: _Stack = None,
    profile: _Profile = None,
    region: _Region = None,
    as_json: _Json = False,
) -> None:
    """Show everything about a job, or about all jobs of a drop."""
    connection = connect(Where(stack, profile, region))
    found = _known(connection, job)
    if as_json:
        records = [connection.record(one) for one in found]
        statuses = output.statuses(found)
        several = {"sidecar": found[0].sidecar, "statuses": statuses, "jobs": records}
        output.document(several if len(found) > 1 else records[0])
        return
    if len(found) > 1:
        counts = ", ".join(f"{n} {status}" for status, n in output.statuses(found).items())
        output.out.print(f"{found[0].sidecar}  {len(found)} jobs: {counts}", markup=False)
    for one in found:
        if len(found) > 1:
            output.out.print()
        output.out.print(f"{output.named(one)}  ", end="", markup=False)
        output.out.print(output.status(one))
        if why := output.reason(one):
            output.out.print(f"  {why}", markup=False)
        for label, value in _lines(connection.record(one)):
            output.out.print(f"  {label:20} {value}", markup=False)


def _lines(record: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The fields of a record that say something, one a line."""
    lines: list[tuple[str, str]] = []
    for name, value in record.items():
        label = f"{prefix}{name}"
        if isinstance(value, dict):
            lines += _lines(value, f"{label}.")
        elif isinstance(value, list):
            for number, entry in enumerate(value, 1):
                if isinstance(entry, dict):
                    lines += _lines(entry, f"{label}.{number}.")
                else:
                    lines.append((f"{label}.{number}", str(entry)))
        elif value is not None:
            lines.append((label, str(value)))
    return lines


@app.command()
def gallery(
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="A folder of the outbox; / for all of it.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write the page here instead of into the outbox.", metavar="FILE"
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Also give a link that opens the page for an hour.")
    ] = False,
    stack: _Stack = None,
    profile: _Profile = None,
    region: _Region = None,
    as_json: _Json = False,
) -> None:
    """Make one page of all jobs in a folder of the outbox: input and results side by side."""
    if out is not None and out.is_dir():
        raise typer.BadParameter(f"{out} is a folder; a file is needed", param_hint="--out")
    if out is not None and link:
        raise typer.BadParameter("a file needs no link; leave out --out or --link")
    connection = connect(Where(stack, profile, region))
    made = make_gallery(connection, prefix.strip("/"), out)
    if made is None:
        output.err.print(
            f'there is no job in the folder "{prefix}" of the outbox; `retouch jobs` lists them',
            markup=False,
        )
        raise typer.Exit(WRONG_INPUT)
    url = connection.link(made.key) if link and made.key is not None else None
    if as_json:
        output.document(output.gallery_document(made, url))
        return
    if made.of_one_job:
        output.err.print(
            f"\"{made.folder}\" is a job's own folder; this is that job's page", markup=False
        )
    where = str(out) if made.key is None else f"s3://{connection.outbox}/{made.key}"
    output.out.print(f"{output.gallery_summary(made)}: {where}", markup=False)
    for folder in made.unreadable:
        output.err.print(f"{folder}/job.json cannot be read, and is left out", markup=False)
    if url is not None:
        output.out.print(url, markup=False)


@app.command()
def cancel(
    job: _Job,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the provider's word on a task.")
    ] = True,
    stack: _Stack = None,
    profile: _Profile = None,
    region: _Region = None,
    as_json: _Json = False,
) -> None:
    """Cancel a job, or all of a drop: at once before it is sent, at the provider if that takes it."""
    connection = connect(Where(stack, profile, region))
    found = _known(connection, job)
    with _reporting(found, as_json=as_json) as told:
        steering.cancel(connection, found, told, wait)


@app.command()
def retry(
    job: _Job,
    stack: _Stack = None,
    profile: _Profile = None,
    region: _Region = None,
    as_json: _Json = False,
) -> None:
    """Try again what failed, was refused or cancelled, or waits on a paused lane."""
    connection = connect(Where(stack, profile, region))
    found = _known(connection, job)
    with _reporting(found, as_json=as_json) as told:
        steering.retry(connection, found, told)


@app.command()
def release(
    job: _Job,
    stack: _Stack = None,
    profile: _Profile = None,
    region: _Region = None,
    as_json: _Json = False,
) -> None:
    """Let go on what is HELD by a budget or as a runaway; what it makes counts all the same."""
    connection = connect(Where(stack, profile, region))
    found = _known(connection, job)
    with _reporting(found, as_json=as_json) as told:
        steering.release(connection, found, told)


@app.command()
def resolve(
    job: _Job,
    adopt: Annotated[
        str | None,
        typer.Option("--adopt", help="This task of the provider is the job's.", metavar="TASK"),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Send it once more; it may be billed twice.")
    ] = False,
    fail: Annotated[bool, typer.Option("--fail", help="Close it as failed.")] = False,
    stack: _Stack = None,
    profile: _Profile = None,
    region: _Region = None,
    as_json: _Json = False,
) -> None:
    """Decide about a job whose billed call has an unknown outcome."""
    if (adopt is not None) + again + fail != 1:
        raise typer.BadParameter(
            "exactly one of --adopt TASK, --again and --fail is needed", param_hint="resolve"
        )
    if adopt is not None and not 1 <= len(adopt) <= LONGEST_TASK_ID:
        raise typer.BadParameter(
            f"a task's id has 1 to {LONGEST_TASK_ID} characters; `retouch show JOB` names candidates",
            param_hint="--adopt",
        )
    connection = connect(Where(stack, profile, region))
    how = "adopt" if adopt is not None else "again" if again else "fail"
    found = steering.to_resolve(known := _known(connection, job))
    if len(found) != 1:
        _undecided(job, known, found, f"--{how}" if adopt is None else f"--adopt {adopt}")
    with _reporting(found, as_json=as_json) as told:
        report = connection.operate(how, found[0], adopt)
        told[found[0].job_id] = steering.Outcome(found[0], report)


def _undecided(name: str, known: Sequence[Job], found: Sequence[Job], decision: str) -> NoReturn:
    """Say that a decision is about one job, and which there are."""
    if not found:
        said = f'none of the {len(known)} jobs of "{name}" is held for a decision'
        output.err.print(said, markup=False)
        raise typer.Exit(FAILED)
    said = f'a decision is about one job, and "{name}" stands for {len(found)}; name one by its id:'
    output.err.print(said, markup=False)
    for one in found:
        line = f"  retouch resolve {one.job_id} {decision}  {output.named(one)}, {one.status}"
        output.err.print(line, markup=False)
    raise typer.Exit(WRONG_INPUT)


def _known(connection: Connection, name: str) -> tuple[Job, ...]:
    found = jobs_named(connection.store, name)
    if not found:
        output.err.print(
            f'there is no job "{name}"; `retouch jobs` lists them, what was dropped just now after a '
            "moment",
            markup=False,
        )
        raise typer.Exit(WRONG_INPUT)
    return found


@contextmanager
def _reporting(jobs: Sequence[Job], *, as_json: bool) -> Iterator[dict[str, Outcome]]:
    """Say what a command did to each job, and what it could not: then the exit status is 1.

    Where the stack stops answering, what was done until then is said all the same.
    """
    told: dict[str, Outcome] = {}
    try:
        yield told
    except BaseException:
        if not as_json:
            _report(jobs, told)
        raise
    if as_json:
        documents = [_told_document(told[job.job_id], alone=len(jobs) == 1) for job in jobs]
        several = {"sidecar": jobs[0].sidecar, "jobs": documents}
        output.document(several if len(jobs) > 1 else documents[0])
    else:
        _report(jobs, told)
    if any(one.report.could_not for one in told.values()):
        raise typer.Exit(FAILED)


def _report(jobs: Sequence[Job], told: dict[str, Outcome]) -> None:
    for one in (told[job.job_id] for job in jobs if job.job_id in told):
        name = (
            f"{one.job.sidecar if len(jobs) == 1 else output.named(one.job)} (job {one.job.job_id})"
        )
        if one.report.did:
            output.out.print(f"{name}: {one.report.did}", markup=False)
        if one.nothing:
            output.out.print(f"{name}: nothing to do: {one.nothing}", markup=False)
        if one.report.could_not:
            output.err.print(f"{name}: {one.report.could_not}", markup=False)


def _told_document(told: Outcome, *, alone: bool) -> dict[str, Any]:
    document = {
        "job_id": told.report.job_id,
        "sidecar": told.job.sidecar,
        "status": told.report.status,
        "did": told.report.did or None,
        "could_not": told.report.could_not or None,
    }
    if alone:
        return document
    return {
        **document,
        "part": output.part(told.job) or None,
        "nothing_to_do": told.nothing or None,
    }


@app.command()
def validate(paths: _Paths, models: _Models = None, as_json: _Json = False) -> None:
    """Check sidecars and their images without a stack; a folder stands for the inbox root."""
    judged = _judged(paths, missing_is_wrong=True, models=_configured(models))
    verdicts = [verdict for _, verdict in judged]
    if as_json:
        output.document({"files": output.verdict_document(verdicts)})
    else:
        output.verdicts(verdicts)
    if any(verdict.problems for verdict in verdicts):
        raise typer.Exit(WRONG_INPUT)


class Told(StrEnum):
    """What there is a schema of."""

    SIDECAR = "sidecar"
    JOB = "job"
    EVENT = "event"
    ALERT = "alert"


@app.command()
def explain(
    what: Annotated[
        str, typer.Argument(metavar="KEY|PATH", help="A key in the inbox, or a local file.")
    ],
    root: Annotated[
        Path | None,
        typer.Option("--root", help="The folder that stands for the inbox, for a local file."),
    ] = None,
    stack: _Stack = None,
    profile: _Profile = None,
    region: _Region = None,
    models: _Models = None,
    as_json: _Json = False,
) -> None:
    """Show what a sidecar or an image comes to, and which file each value came from."""
    path = Path(what)
    on_stack = stack is not None or profile is not None or region is not None
    inbox: Inbox
    where = ""
    if not on_stack and path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; a file is needed", param_hint="KEY|PATH")
    if root is None and not on_stack and not path.is_file() and not local.running():
        raise typer.BadParameter(
            f"there is no file {path}, and no local stack is running that could be asked for a key "
            "of that name; check the path, or name a stack with --stack",
            param_hint="KEY|PATH",
        )
    if root is None and (on_stack or not path.is_file()):
        connection = connect(Where(stack, profile, region))
        inbox, key = S3Inbox(connection.s3, connection.inbox), what
        where = f' in the inbox of the stack "{connection.name}"'
        if not on_stack:
            where += ", and no such file here"
        found = explaining.explain(inbox, key, connection.models, connection.regions)
    else:
        top = (root or _inbox_of(path)).resolve()
        if not path.resolve().is_relative_to(top):
            raise typer.BadParameter(f"{path} does not lie below {top}", param_hint="--root")
        key = path.resolve().relative_to(top).as_posix()
        inbox, where = FolderInbox(top), f" in {top}"
        found = explaining.explain(inbox, key, _configured(models), None)
    if found is None:
        output.err.print(f'there is nothing under "{key}"{where}', markup=False)
        raise typer.Exit(WRONG_INPUT)
    if as_json:
        output.document(asdict(found))
    else:
        output.explanation(found)
    if found.problems or any(job.problems for job in found.jobs):
        raise typer.Exit(WRONG_INPUT)


def _inbox_of(path: Path) -> Path:
    """The folder that stands for the inbox: the topmost above a file that presets reach up to."""
    top = folder = path.resolve().parent
    while (folder.parent / keys.PRESET).is_file():
        top = folder = folder.parent
    return top


@app.command()
def schema(
    of: Annotated[
        Told,
        typer.Option(
            "--of",
            help="sidecar; job: a job.json; event, alert: what events, messages and the webhook hold.",
        ),
    ] = Told.SIDECAR,
    models: _Models = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="As elsewhere; without it, the output is JSON too.")
    ] = False,
) -> None:
    """Print the JSON Schema of a sidecar, or of what retouch tells."""
    if of is not Told.SIDECAR and models is not None:
        raise typer.BadParameter(f"the schema of {of} is the same for all", param_hint="--models")
    match of:
        case Told.SIDECAR:
            made = sidecar.schema(_configured(models))
        case Told.JOB:
            made = schemas.record()
        case Told.EVENT:
            made = schemas.events()
        case Told.ALERT:
            made = schemas.alert()
    output.document(made)


def _configured(path: Path | None) -> Catalogue:
    """The models, with what a file says of them as the template's parameter `Models` would."""
    if path is None:
        return MODELS
    try:
        return catalogue(path.read_text("utf-8"), source=str(path))
    except (UnicodeDecodeError, SettingsError) as error:
        raise typer.BadParameter(str(error), param_hint="--models") from error


def _stop(number: int, _: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


def main() -> None:
    """Run the command line and end the process with its exit status."""
    # A stop from outside takes the same way out as Ctrl-C, so that it leaves nothing behind either.
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        code = 130
    except KeyboardInterrupt:
        output.err.print("stopped", markup=False)
        code = 130
    except (local.StackError, NotReachable) as error:
        output.err.print(f"retouch: {error}", markup=False)
        code = NOT_REACHABLE
    except (BotoCoreError, ClientError) as error:
        output.err.print(f"retouch: the stack does not answer as it should: {error}", markup=False)
        code = NOT_REACHABLE
    except local.StackOptionError as error:
        output.err.print(f"retouch: {error}", markup=False)
        code = WRONG_INPUT
    except OSError as error:  # a folder that cannot be written, say
        output.err.print(f"retouch: {error}", markup=False)
        code = WRONG_INPUT
    except RetouchError as error:
        output.err.print(f"retouch: {error}", markup=False)
        code = FAILED
    except typer.exceptions.TyperException as error:  # wrong usage, in its own words
        output.err.print(f"retouch: {error.format_message()}", markup=False)
        output.err.print("`retouch COMMAND --help` shows what a command takes", markup=False)
        code = WRONG_INPUT
    sys.exit(code or 0)
