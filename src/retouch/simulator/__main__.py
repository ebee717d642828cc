"""`python -m retouch.simulator`: run the simulator until it is told to end.

When it is ready to serve it prints one JSON line, `{"base_url": "http://127.0.0.1:PORT/api/v1"}`,
on stdout, and nothing else there; its log goes to stderr. It ends on SIGINT and SIGTERM, and by
itself when the process named by `--parent-pid` is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from retouch.simulator.app import create_app
from retouch.simulator.config import SimulatorConfig
from retouch.simulator.faults import read_plan_file
from retouch.simulator.rules import REGIONS
from retouch.simulator.serving import base_url, bind, build_server

_PARENT_CHECK_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator; returns the exit code: 0 ended, 2 wrong usage."""
    parser = _parser()
    given = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.WARNING if given.quiet else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(name)s %(message)s",
    )
    # Fetched URLs may be signed, so they are kept out of the log.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        config = SimulatorConfig(
            time_scale=given.time_scale,
            seed=given.seed,
            limits=not given.no_limits,
            at_concurrency_limit=given.at_concurrency_limit,
            image_checks=given.image_checks,
            choices_failure=given.choices_failure,
            accounts=dict(given.account) if given.account else None,
            region=given.region,
            snapshots=dict(given.snapshot or ()),
            workspaces=frozenset(given.workspace) if given.workspace else None,
            data_dir=given.data_dir,
            faults=read_plan_file(given.faults) if given.faults else (),
        )
    except (OSError, ValidationError) as error:
        parser.error(f"--faults: {error}")
    try:
        return asyncio.run(_serve(config, given.port, given.parent_pid))
    except OSError as error:
        parser.error(f"--port {given.port}: {error}")


async def _serve(config: SimulatorConfig, port: int, parent_pid: int | None) -> int:
    with bind(port) as listening:

        def announce() -> None:
            print(json.dumps({"base_url": base_url(listening)}), flush=True)

        def end() -> None:
            server.should_exit = True

        server = build_server(create_app(config), announce)

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        watching = asyncio.create_task(_watch_parent(parent_pid, end))
        await server.serve(sockets=[listening])
        watching.cancel()
    return 0 if server.started else 1


async def _watch_parent(pid: int | None, end: Callable[[], None]) -> None:
    if pid is None:
        return
    is_parent = os.getppid() == pid
    # Nothing tells a process that another one, not its child, has ended: it has to look.
    while _is_alive(pid) and not (is_parent and os.getppid() != pid):  # noqa: ASYNC110
        await asyncio.sleep(_PARENT_CHECK_SECONDS)
    end()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m retouch.simulator", description="Simulates DashScope image editing."
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument(
        "--time-scale", type=_not_negative, default=1.0, help="factor on every duration"
    )
    parser.add_argument("--seed", type=int, help="seed of durations and of open image seeds")
    parser.add_argument("--no-limits", action="store_true", help="no rate or concurrency limits")
    parser.add_argument("--at-concurrency-limit", choices=("queue", "refuse"), default="queue")
    parser.add_argument("--image-checks", choices=("create", "run"), default="create")
    parser.add_argument("--choices-failure", choices=("output", "top_level"), default="output")
    parser.add_argument(
        "--account",
        type=_pair,
        action="append",
        metavar="KEY=ACCOUNT",
        help="accept only these keys; may be repeated",
    )
    parser.add_argument(
        "--region",
        choices=tuple(REGIONS),
        default="beijing",
        help="decides the models, and the region that the task list names",
    )
    parser.add_argument(
        "--workspace",
        action="append",
        metavar="ID",
        help="accept only these workspace ids; may be repeated",
    )
    parser.add_argument(
        "--snapshot",
        type=_pair,
        action="append",
        metavar="NAME=MODEL",
        help="a further snapshot with the rules of a known model; may be repeated",
    )
    parser.add_argument("--data-dir", type=Path, help="folder for result images")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="JSON array of faults")
    parser.add_argument("--parent-pid", type=int, help="end when this process is gone")
    parser.add_argument("--quiet", action="store_true", help="log warnings only")
    return parser


def _not_negative(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError("must be two names with = between them")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
