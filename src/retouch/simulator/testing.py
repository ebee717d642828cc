"""A simulator for tests: runs in a thread of this process, and can be looked into.

>>> from retouch.simulator import SimulatorConfig
>>> from retouch.simulator.testing import running_simulator
>>> with running_simulator(SimulatorConfig(time_scale=0)) as simulator:
...     simulator.base_url.startswith("http://127.0.0.1:")
True
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from retouch.simulator.app import Provider, create_app
from retouch.simulator.clock import Clock
from retouch.simulator.config import SimulatorConfig
from retouch.simulator.faults import FaultPlan
from retouch.simulator.serving import base_url, bind, build_server
from retouch.simulator.tasks import Task

_START_SECONDS = 10.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Simulator:
    """A running simulator. `base_url` ends in `/api/v1`, `origin` is what stands before it."""

    base_url: str
    provider: Provider

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.base_url.removesuffix("/api/v1")

    @property
    def clock(self) -> Clock:
        """Its time; `advance` moves it forward."""
        return self.provider.clock

    @property
    def faults(self) -> FaultPlan:
        """The faults in force."""
        return self.provider.faults

    @property
    def tasks(self) -> list[Task]:
        """The tasks it knows, oldest first."""
        return self.provider.tasks.all()

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The requests seen, oldest first, as `GET /_simulator/requests` shows them."""
        return self.provider.journal.requests()

    @property
    def stats(self) -> dict[str, Any]:
        """The counts, as `GET /_simulator/stats` shows them."""
        return self.provider.journal.stats()


@contextmanager
def running_simulator(config: SimulatorConfig | None = None) -> Iterator[Simulator]:
    """Run a simulator on a free loopback port until the block ends.

    Raises:
        RuntimeError: It did not start within ten seconds.
    """
    app = create_app(config)
    ready = threading.Event()
    with bind(0) as listening:
        server = build_server(app, on_ready=ready.set)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listening]}, name="simulator", daemon=True
        )
        thread.start()
        try:
            if not ready.wait(_START_SECONDS):
                raise RuntimeError("the simulator did not start")
            yield Simulator(base_url(listening), app.state.provider)
        finally:
            server.should_exit = True
            thread.join(_STOP_SECONDS)
