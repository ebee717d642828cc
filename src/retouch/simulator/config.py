"""What can be chosen when a simulator is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from retouch.simulator.clock import Clock
from retouch.simulator.faults import Fault
from retouch.simulator.rules import RegionId


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """The choices, each with the default that is closest to the documented provider.

    Args:
        time_scale: Factor on every duration of the provider; 0 means as fast as it can draw.
        seed: Seed of durations and of image seeds that a request leaves open; `None` is random.
        limits: Enforce request rates and the number of concurrent tasks.
        at_concurrency_limit: Whether a task above the model's limit waits as PENDING or is
            refused with 429 `Throttling.Concurrency`. The provider does not document which.
        image_checks: Whether images are fetched and checked while the create call waits, or when
            the task runs, so that a bad image shows as a FAILED task. Both happen at the provider.
        choices_failure: Where a failed task of a messages model puts its error: in `output` with
            HTTP 200, or on top level without `output` with HTTP 400. Both are documented.
        accounts: API key to account name. `None` accepts any key that begins with `sk-`, except
            `sk-sp-`, as one account.
        region: Which region this simulator is: it decides which models there are, whether
            synchronous calls are served, and what the task list names.
        snapshots: Further dated snapshots, by name, and the model whose rules each has.
        workspaces: The workspace ids that `X-DashScope-WorkSpace` may name; `None` is any.
        fetch_seconds: Time allowed for fetching one input image.
        max_body_bytes: Largest request body accepted.
        max_page_size: Largest page of the task list; undocumented at the provider.
        max_results_bytes: Disk used for result images; beyond it the oldest are dropped early.
        max_upload_bytes: Memory used for uploaded files; beyond it uploads are refused.
        data_dir: Where result images are kept; `None` is a temporary folder, removed at the end.
        faults: Faults in force from the start.
        clock: Source of time; `None` is the real one, which can still be moved forward.
    """

    time_scale: float = 1.0
    seed: int | None = None
    limits: bool = True
    at_concurrency_limit: Literal["queue", "refuse"] = "queue"
    image_checks: Literal["create", "run"] = "create"
    choices_failure: Literal["output", "top_level"] = "output"
    accounts: Mapping[str, str] | None = None
    region: RegionId = "beijing"
    workspaces: frozenset[str] | None = None
    snapshots: Mapping[str, str] = field(default_factory=dict)
    fetch_seconds: float = 10.0
    max_body_bytes: int = 128 * 1024 * 1024
    max_page_size: int = 100
    max_results_bytes: int = 4 * 1024**3
    max_upload_bytes: int = 512 * 1024**2
    data_dir: Path | None = None
    faults: tuple[Fault, ...] = ()
    clock: Clock | None = field(default=None, compare=False)
