"""The uvicorn server that the simulator runs in: loopback only, connections that can be cut."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from retouch.simulator.wire import TRANSPORT

HOST = "127.0.0.1"


class _CuttableProtocol(H11Protocol):
    """Gives every request its connection, so that a fault can cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, TRANSPORT: transport}
        super().connection_made(transport)


class SimulatorServer(uvicorn.Server):
    """A server that leaves signals to whoever runs it; ends when `should_exit` is set."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would raise them again after a clean end."""
        yield


def build_server(app: Starlette, on_ready: Callable[[], None]) -> SimulatorServer:
    """A server for the app, to be run with a socket of `bind`.

    Args:
        app: The app of `create_app`.
        on_ready: Called once, when requests are answered.
    """
    return SimulatorServer(
        uvicorn.Config(
            app,
            http=_CuttableProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            # Long sync calls must not hold up the end.
            timeout_graceful_shutdown=1,
        ),
        on_ready,
    )


def bind(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one. Raises `OSError`."""
    # The protocol is named because asyncio switches off Nagle's algorithm only where it is; with
    # it every answer would be some 40 ms late.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(512)
    except OSError:
        listening.close()
        raise
    return listening


def base_url(listening: socket.socket) -> str:
    """The base URL that a client is given for this socket."""
    return f"http://{HOST}:{listening.getsockname()[1]}/api/v1"
