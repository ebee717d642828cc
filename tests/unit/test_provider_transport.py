"""The provider's client against a real socket on loopback: limits of time, drips, and cuts; and
against a network of our making, where names lead to any address.

A server plays one script for each connection. It waits for what the client does; only a drip has a
pace of its own. The client's limits are short, and how long a call took is bounded from above only,
and generously.
"""

from __future__ import annotations

import json
import logging
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, runtime_checkable

import httpcore
import httpx
import pytest

from retouch.errors import (
    NOT_REACHED,
    NOT_SENT,
    OutcomeUnknown,
    ProviderRefused,
    ResultHostUnknown,
    TryLater,
)
from retouch.provider.answers import parse, task_answer
from retouch.provider.client import DashScope, Limit, Limits, connection_pool
from retouch.provider.requests import Request

KEY = "sk-very-secret"
ASYNC = Request(path="create", headers={}, body={"prompt": "private words"})
SYNC = Request(path="generate", headers={}, body={"prompt": "private words"})
STREAM = replace(SYNC, stream=True)
CREATED = json.dumps({"output": {"task_id": "t", "task_status": "PENDING"}}).encode()
IMAGE = "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/1.png?Signature=secret"
GENERATED = json.dumps(
    {"output": {"choices": [{"message": {"content": [{"image": IMAGE}]}}]}}
).encode()
EVENT = b"event:result\n:HTTP_STATUS/200\ndata:" + GENERATED + b"\n\n"

QUICK = Limit(first_byte=0.4, total=0.6)
SHORT = Limits(
    connect=2.0, write=0.4, pause=0.3, create=QUICK, generate=QUICK, ask=QUICK, upload=QUICK,
    fetch=QUICK,
)  # fmt: skip
SOON = 5.0
"""Far more than any limit above, far less than the limits that a call has otherwise."""


class Peer:
    """The server's end of one connection, and the request that came over it."""

    def __init__(self, connection: socket.socket, *, reads: bool = True):
        self._connection = connection
        self.head = b""
        self.body = b""
        if reads:
            self.next_request()

    def next_request(self) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._received()
        self.head, _, self.body = data.partition(b"\r\n\r\n")
        length = 0
        for line in self.head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(self.body) < length:
            self.body += self._received()

    def _received(self) -> bytes:
        data = self._connection.recv(65536)
        if not data:
            raise ConnectionError("the client went away")
        return data

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def answer(self, body: bytes, *, length: int | None = None) -> None:
        promised = len(body) if length is None else length
        self.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % promised + body)

    def begin_stream(self) -> None:
        self.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def drip(self, data: bytes) -> None:
        """Send the same piece again and again, until the client goes away."""
        while True:
            self.send(data)
            time.sleep(0.05)

    def read(self, most: int) -> bytes:
        """What the client sent; nothing once it has closed its end."""
        return self._connection.recv(most)

    def all_that_left(self) -> tuple[int, int]:
        """The bytes of a body that came until the client closed its end, and those promised."""
        data = bytearray()
        while piece := self.read(1024 * 1024):
            data += piece
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        (promised,) = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        return len(body), promised

    def until_gone(self) -> None:
        """Return once the client has closed its end."""
        while self.read(65536):
            pass


Script = Callable[[Peer], None]


class Server:
    """Plays the next script to each connection; the last one again and again."""

    def __init__(self, *scripts: Script, reads: bool = True):
        self._scripts = scripts
        self._reads = reads
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self._served: queue.Queue[None] = queue.Queue()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(number, len(self._scripts) - 1)]
            number += 1
            thread = threading.Thread(target=self._serve, args=(connection, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, script: Script) -> None:
        with connection:
            try:
                peer = Peer(connection, reads=self._reads)
                self.requests.append(peer.head)
                script(peer)
            except OSError:
                return  # the client went away, as it may
            finally:
                self._served.put(None)

    def await_served(self) -> None:
        """Return once a connection is done with on this side, so the client has let go of it."""
        self._served.get(timeout=SOON)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(SOON)
            assert not thread.is_alive()


@contextmanager
def served(*scripts: Script, reads: bool = True) -> Iterator[Server]:
    server = Server(*scripts, reads=reads)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def provider(server: Server, limits: Limits = SHORT) -> Iterator[DashScope]:
    with connection_pool() as pool:
        yield DashScope(
            f"http://127.0.0.1:{server.port}/api/v1",
            lambda: KEY,
            http=pool,
            result_hosts=(f"127.0.0.1:{server.port}",),
            sleep=lambda _: None,
            jitter=lambda low, high: 0.0,
            limits=limits,
        )


@contextmanager
def soon() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SOON


def drips_the_body(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
    peer.drip(b" ")


def stops_after_the_head(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
    peer.until_gone()


def says_nothing(peer: Peer) -> None:
    peer.until_gone()


def hangs_up(peer: Peer) -> None:
    return


def stops_half_way(peer: Peer) -> None:
    peer.answer(CREATED[:20], length=len(CREATED))


TIMEOUTS = pytest.mark.parametrize(
    "script",
    [drips_the_body, stops_after_the_head, says_nothing, hangs_up, stops_half_way],
    ids=lambda s: s.__name__,
)


# --- calls that bill -------------------------------------------------------------------------------


@TIMEOUTS
@pytest.mark.parametrize("request_", [ASYNC, SYNC, STREAM], ids=["create", "generate", "stream"])
def test_a_call_that_bills_ends_in_time_and_is_sent_once(script: Script, request_: Request) -> None:
    with served(script) as server, provider(server) as client, soon():
        with pytest.raises(OutcomeUnknown):
            client.create(request_) if request_ is ASYNC else client.generate(request_)
        server.await_served()
        assert len(server.requests) == 1


def test_an_answer_that_is_whole_is_taken_though_more_was_promised() -> None:
    def never_ends(peer: Peer) -> None:
        peer.answer(CREATED, length=100_000)
        peer.drip(b" ")

    with served(never_ends) as server, provider(server) as client, soon():
        assert client.create(ASYNC) == ("t", None)


@pytest.mark.parametrize(
    ("script", "limits"),
    [
        (says_nothing, replace(SHORT, create=Limit(first_byte=0.4, total=60.0))),
        (says_nothing, replace(SHORT, create=Limit(first_byte=60.0, total=0.6))),
        (stops_after_the_head, replace(SHORT, create=Limit(first_byte=60.0, total=60.0))),
        (drips_the_body, replace(SHORT, create=Limit(first_byte=60.0, total=0.6))),
    ],
    ids=["the first byte", "the total before it", "a pause", "the total after it"],
)
def test_each_limit_holds_by_itself(script: Script, limits: Limits) -> None:
    with served(script) as server, provider(server, limits) as client, soon():  # noqa: SIM117
        with pytest.raises(OutcomeUnknown):
            client.create(ASYNC)


def test_an_answer_in_pieces_is_whole() -> None:
    def slowly(peer: Peer) -> None:
        peer.answer(CREATED[:10], length=len(CREATED))
        for byte in CREATED[10:]:
            peer.send(bytes([byte]))

    patient = replace(SHORT, create=Limit(4.0, 4.0), pause=4.0)
    with served(slowly) as server, provider(server, patient) as client:
        assert client.create(ASYNC) == ("t", None)


BILLS = pytest.mark.parametrize(
    "request_", [ASYNC, SYNC, STREAM], ids=["create", "generate", "stream"]
)


@BILLS
def test_a_server_that_does_not_read_is_given_up_and_was_not_sent_all(request_: Request) -> None:
    large = replace(request_, body={"image": "x" * 40_000_000})
    given_up = threading.Event()
    left: queue.Queue[tuple[int, int]] = queue.Queue()

    def never_reads(peer: Peer) -> None:
        given_up.wait(SOON)
        left.put(peer.all_that_left())

    with served(never_reads, reads=False) as server, provider(server) as client:
        try:
            with soon(), pytest.raises(TryLater) as caught:
                client.create(large) if request_ is ASYNC else client.generate(large)
        finally:
            given_up.set()
        came, promised = left.get(timeout=SOON)
        server.await_served()
    assert caught.value.code == NOT_SENT
    assert came < promised
    assert promised > 40_000_000
    assert len(server.requests) == 1


@BILLS
def test_sending_is_limited_as_a_whole(request_: Request) -> None:
    large = replace(request_, body={"image": "x" * 40_000_000})
    brief = Limit(first_byte=0.5, total=0.8)
    limits = replace(SHORT, write=0.5, create=brief, generate=brief)
    given_up = threading.Event()
    left: queue.Queue[int] = queue.Queue()

    def reads_slowly(peer: Peer) -> None:
        came = 0
        while not given_up.wait(0.02) and (piece := peer.read(16_384)):
            came += len(piece)
        while piece := peer.read(1024 * 1024):
            came += len(piece)
        left.put(came)

    with served(reads_slowly, reads=False) as server, provider(server, limits) as client:
        try:
            with soon(), pytest.raises(TryLater) as caught:
                client.create(large) if request_ is ASYNC else client.generate(large)
        finally:
            given_up.set()
        came = left.get(timeout=SOON)
    assert caught.value.code == NOT_SENT
    assert came < 40_000_000
    assert len(server.requests) == 1


@pytest.mark.parametrize("size", [1_000, 500_000, 2_000_000, 4_000_000, 6_000_000, 12_000_000])
def test_what_is_said_not_to_be_sent_never_left_whole_however_much_the_sockets_hold(
    size: int,
) -> None:
    given_up = threading.Event()
    left: queue.Queue[tuple[int, int]] = queue.Queue()

    def never_reads(peer: Peer) -> None:
        given_up.wait(SOON)
        left.put(peer.all_that_left())

    with served(never_reads, reads=False) as server, provider(server) as client:
        try:
            with soon(), pytest.raises((TryLater, OutcomeUnknown)) as caught:
                client.create(replace(ASYNC, body={"image": "x" * size}))
        finally:
            given_up.set()
        came, promised = left.get(timeout=SOON)
    # What left whole may be read, and made, after the client has gone.
    assert isinstance(caught.value, OutcomeUnknown) is (came == promised)
    assert len(server.requests) == 1


def test_nothing_listens() -> None:
    with served(hangs_up) as server:
        pass
    for call in (ASYNC, SYNC, STREAM):
        with provider(server) as client, pytest.raises(TryLater) as caught:
            client.create(call) if call is ASYNC else client.generate(call)
        assert caught.value.code == NOT_REACHED


def test_a_request_is_not_sent_if_connecting_took_too_long() -> None:
    impatient = replace(SHORT, connect=0.000001)
    with served(hangs_up) as server, provider(server, impatient) as client:
        with pytest.raises(TryLater) as caught:
            client.create(ASYNC)
        assert caught.value.code == NOT_REACHED
    assert all(head == b"" for head in server.requests)


def test_a_connection_is_used_again_after_an_answer() -> None:
    def twice(peer: Peer) -> None:
        peer.answer(CREATED)
        peer.next_request()
        server.requests.append(peer.head)
        peer.answer(CREATED)
        peer.until_gone()

    with served(twice) as server:
        with provider(server) as client:
            assert client.create(ASYNC) == ("t", None)
            assert client.create(ASYNC) == ("t", None)
        server.await_served()
        assert len(server.requests) == 2


def test_an_error_answer_that_comes_before_the_body_was_read_is_heard() -> None:
    def refuses_at_once(peer: Peer) -> None:
        body = b'{"code":"InvalidParameter","message":"too large"}'
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        peer.until_gone()

    with served(refuses_at_once, reads=False) as server, provider(server) as client:
        with pytest.raises(ProviderRefused) as caught:
            client.create(ASYNC)
        assert caught.value.code == "InvalidParameter"


# --- streams ---------------------------------------------------------------------------------------


def code_and_images(text: str) -> tuple[str | None, int]:
    body = parse(text)
    assert body is not None
    answer = task_answer(body, synchronous=True)
    return answer.failure.code if answer.failure else None, len(answer.images)


def cut(peer: Peer) -> None:
    peer.begin_stream()
    peer.chunk(EVENT)
    peer.send(b"1000\r\ndata:{")


def silent_after_an_image(peer: Peer) -> None:
    peer.begin_stream()
    peer.chunk(EVENT)
    peer.until_gone()


def dripping_after_an_image(peer: Peer) -> None:
    peer.begin_stream()
    peer.chunk(EVENT)
    peer.drip(b"2\r\n:\n\r\n")


def dripping_inside_a_chunks_size(peer: Peer) -> None:
    peer.begin_stream()
    peer.chunk(EVENT)
    peer.drip(b"0")


@pytest.mark.parametrize(
    "script",
    [cut, silent_after_an_image, dripping_after_an_image, dripping_inside_a_chunks_size],
    ids=lambda s: s.__name__,
)
def test_a_stream_that_breaks_off_after_an_image_keeps_it_and_ends_in_time(script: Script) -> None:
    with served(script) as server, provider(server) as client, soon():
        assert code_and_images(client.generate(STREAM)) == ("StreamInterrupted", 1)
        server.await_served()
        assert len(server.requests) == 1


def test_a_stream_may_pause_longer_than_any_other_answer() -> None:
    paused = threading.Event()

    def pauses(peer: Peer) -> None:
        peer.begin_stream()
        peer.chunk(EVENT)
        paused.wait(SHORT.pause * 3)
        peer.chunk(EVENT)
        peer.send(b"0\r\n\r\n")

    patient = replace(SHORT, generate=Limit(4.0, 4.0))
    with served(pauses) as server, provider(server, patient) as client:
        assert code_and_images(client.generate(STREAM)) == (None, 2)


def test_a_stream_is_not_read_beyond_its_last_event() -> None:
    last = EVENT.replace(b'{"message"', b'{"finish_reason":"stop","message"')

    def stays(peer: Peer) -> None:
        peer.begin_stream()
        peer.chunk(EVENT[:40])
        peer.chunk(EVENT[40:])
        peer.chunk(last)
        peer.until_gone()

    patient = replace(SHORT, generate=Limit(60.0, 60.0))
    with served(stays) as server, provider(server, patient) as client, soon():
        assert code_and_images(client.generate(STREAM)) == (None, 2)


# --- calls that bill nothing -----------------------------------------------------------------------


@TIMEOUTS
def test_a_query_ends_in_time(script: Script) -> None:
    with served(script) as server, provider(server) as client, soon():
        with pytest.raises(TryLater):
            client.query("t")
        assert 1 <= len(server.requests) <= 3


def test_a_query_whose_first_connection_broke_is_answered_by_the_second() -> None:
    with served(hangs_up, lambda peer: peer.answer(CREATED)) as server, provider(server) as client:
        assert client.query("t").status == "PENDING"
    assert len(server.requests) == 2


def gives_a_policy(peer: Peer, port: int) -> None:
    fields = {
        "policy": "p",
        "signature": "s",
        "upload_dir": "d",
        "upload_host": f"http://127.0.0.1:{port}/oss",
        "oss_access_key_id": "k",
        "x_oss_object_acl": "private",
        "x_oss_forbid_overwrite": "true",
    }
    body = json.dumps({"data": fields}).encode()
    peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
    peer.send(body)


def test_a_storage_where_nothing_listens_was_not_reached() -> None:
    with served(hangs_up) as gone:
        pass
    with served(lambda peer: gives_a_policy(peer, gone.port)) as server:
        with provider(server) as client, soon(), pytest.raises(TryLater) as caught:
            client.upload("m", "a.png", b"x", "image/png")
        assert caught.value.code == NOT_REACHED
        assert len(server.requests) == 1


def test_a_storage_that_does_not_read_is_given_up() -> None:
    given_up = threading.Event()

    def stalls(peer: Peer) -> None:
        given_up.wait(SOON)

    with served(stalls, reads=False) as storage:
        with served(lambda peer: gives_a_policy(peer, storage.port)) as server:
            try:
                with provider(server) as client, soon(), pytest.raises(TryLater) as caught:
                    client.upload("m", "a.png", b"x" * 40_000_000, "image/png")
            finally:
                given_up.set()
        assert caught.value.code == NOT_SENT
        assert len(storage.requests) == 1


@TIMEOUTS
def test_an_upload_ends_in_time_and_is_not_repeated(script: Script) -> None:
    def policy(peer: Peer) -> None:
        gives_a_policy(peer, server.port)

    if script is drips_the_body or script is stops_after_the_head or script is stops_half_way:
        expected = "ReadTimeout|RemoteProtocolError|ReadError"
    else:
        expected = "upload failed"
    with served(policy, script) as server, provider(server) as client, soon():
        with pytest.raises(TryLater, match=expected) as caught:
            client.upload("m", "a.png", b"x" * 200_000, "image/png")
        assert caught.value.code == NOT_SENT
        server.await_served()
        server.await_served()
        assert len(server.requests) == 2
        assert KEY.encode() not in server.requests[1]


@TIMEOUTS
def test_a_download_ends_in_time(script: Script) -> None:
    with (
        served(script) as server,
        provider(server) as client,
        soon(),
        pytest.raises(TryLater),
        client.fetch(f"http://127.0.0.1:{server.port}/a.png") as chunks,
    ):
        for _ in chunks:
            pass


def drips_the_size_of_a_chunk(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    peer.drip(b"0")


def drips_what_unpacks_to_nothing(peer: Peer) -> None:
    peer.send(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 100000\r\n\r\n\x78\x9c"
    )
    peer.drip(b"\x00\x00\x00\xff\xff")  # an empty block that is stored as it is


def drips_without_a_length(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    peer.drip(b" ")


def pauses_without_a_length(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
    peer.until_gone()


@pytest.mark.parametrize(
    "script",
    [
        drips_the_body,
        drips_the_size_of_a_chunk,
        drips_what_unpacks_to_nothing,
        drips_without_a_length,
        pauses_without_a_length,
    ],
    ids=lambda s: s.__name__,
)
def test_a_download_ends_at_its_total_however_it_keeps_coming(script: Script) -> None:
    limits = replace(SHORT, fetch=Limit(first_byte=SOON, total=0.6))
    with (
        served(script) as server,
        provider(server, limits) as client,
        soon(),
        pytest.raises(TryLater),
        client.fetch(f"http://127.0.0.1:{server.port}/a.png") as chunks,
    ):
        for _ in chunks:
            pass


def test_of_a_download_longer_than_promised_the_promised_part_is_taken() -> None:
    with (
        served(lambda peer: peer.answer(b"12345 and more", length=5)) as server,
        provider(server) as client,
    ):
        url = f"http://127.0.0.1:{server.port}/a.png"
        for _ in range(2):  # what follows is not taken for the next answer
            with client.fetch(url) as chunks:
                assert b"".join(chunks) == b"12345"
        assert len(server.requests) == 2


def test_a_download_that_is_not_read_to_its_end_lets_go_of_its_connection() -> None:
    def waits(peer: Peer) -> None:
        peer.answer(b"abc", length=100)
        peer.until_gone()

    limits = replace(SHORT, fetch=Limit(first_byte=60.0, total=60.0))
    before = set(threading.enumerate())
    with served(waits) as server:
        with (
            provider(server, limits) as client,
            client.fetch(f"http://127.0.0.1:{server.port}/a.png") as chunks,
        ):
            assert next(chunks) == b"abc"
        server.await_served()
    timers = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
    assert [t for t in timers if t not in before and not t.finished.is_set()] == []


# --- where a name leads ----------------------------------------------------------------------------

HOST = "dashscope-result-bj.oss-cn-beijing.aliyuncs.com"


class Line(httpcore.NetworkStream):
    """A connection whose other end has an address of our choice, and answers with `pieces`."""

    def __init__(self, end: object, *pieces: bytes):
        self._end = end
        self.unread = list(pieces)
        self.written = b""
        self.closed = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.unread.pop(0) if self.unread else b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.written += buffer

    def close(self) -> None:
        self.closed = True

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return self

    def get_extra_info(self, info: str) -> object:
        if info == "server_addr" and isinstance(self._end, Exception):
            raise self._end
        return self._end if info == "server_addr" else None


class Network(httpcore.NetworkBackend):
    """Where every name leads to the next of `lines`."""

    def __init__(self, *lines: Line):
        self._lines = list(lines)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return self._lines.pop(0)


class Lying(httpcore.SyncBackend):
    """Where every name leads to a server on this machine, by a socket."""

    def __init__(self, server: Server):
        self._port = server.port

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return super().connect_tcp("127.0.0.1", self._port, timeout)


class Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]):
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        if isinstance(self._stream, Closable):
            self._stream.close()


@runtime_checkable
class Closable(Protocol):
    def close(self) -> None: ...


class Over(httpx.BaseTransport):
    """What `httpx.HTTPTransport` is, over a network of our choice."""

    def __init__(self, network: httpcore.NetworkBackend):
        self._pool = httpcore.ConnectionPool(network_backend=network)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        sent = httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        answer = self._pool.handle_request(sent)
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=Body(answer.stream),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        self._pool.close()


@contextmanager
def provider_over(network: httpcore.NetworkBackend, *hosts: str) -> Iterator[DashScope]:
    with connection_pool(Over(network)) as pool:
        yield DashScope(
            f"https://{HOST}/api/v1", lambda: KEY, http=pool, result_hosts=hosts, limits=SHORT
        )


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
PRIVATE = [
    "10.0.0.5",
    "172.16.0.1",
    "192.168.1.1",
    "127.0.0.1",
    "127.8.8.8",
    "169.254.169.254",
    "100.100.100.200",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "198.18.0.7",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "fd00:ec2::254",
    "ff0e::1",
    "2001:db8::1",
    "::ffff:10.0.0.5",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::10.0.0.5",
    "64:ff9b::10.0.0.5",
    "64:ff9b:1::1",
    "2002:a00:5::1",
    "2001:0:a00:5::1",
    "4000::1",
]
PUBLIC = ["47.95.1.1", "2408:4001::1", "::ffff:47.95.1.1", "64:ff9b::47.95.1.1"]


@pytest.mark.parametrize(
    ("address", "host"), [(PRIVATE[0], "results.example.com"), *((each, HOST) for each in PRIVATE)]
)
def test_nothing_is_sent_where_a_listed_name_leads_to_no_public_address(
    address: str, host: str
) -> None:
    line = Line((address, 443), HEAD, b"png")
    with (
        provider_over(Network(line), "results.example.com") as client,
        pytest.raises(ResultHostUnknown) as caught,
        client.fetch(f"https://{host}/a.png?Signature=hidden"),
    ):
        pytest.fail("the result is there to be read")
    assert line.written == b""
    assert line.closed
    assert host in str(caught.value)
    assert address in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_fetched_from(address: str) -> None:
    line = Line((address, 443, 0, 0), HEAD, b"png")
    with (
        provider_over(Network(line)) as client,
        client.fetch(f"https://{HOST}/a.png") as chunks,
    ):
        assert b"".join(chunks) == b"png"


@pytest.mark.parametrize("end", [None, (), ("",), ("nowhere", 443), "/run/socket"], ids=repr)
def test_an_end_that_is_no_address_is_not_public(end: object) -> None:
    line = Line(end, HEAD, b"png")
    with (
        provider_over(Network(line)) as client,
        pytest.raises(ResultHostUnknown),
        client.fetch(f"https://{HOST}/a.png"),
    ):
        pytest.fail("the result is there to be read")
    assert line.written == b""


def test_a_connection_that_broke_before_it_could_be_looked_at_is_made_again_later() -> None:
    line = Line(OSError(107, "Transport endpoint is not connected"), HEAD, b"png")
    with (
        provider_over(Network(line)) as client,
        pytest.raises(TryLater),
        client.fetch(f"https://{HOST}/a.png"),
    ):
        pytest.fail("the result is there to be read")
    assert line.closed


def test_a_connection_that_was_opened_for_another_call_is_looked_at_too() -> None:
    first = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CREATED)
    line = Line(("10.0.0.5", 443), first, CREATED, HEAD, b"png")
    with provider_over(Network(line)) as client:
        assert client.query("t").status == "PENDING"  # the base URL may be anywhere
        with (
            pytest.raises(ResultHostUnknown, match=r"10\.0\.0\.5"),
            client.fetch(f"https://{HOST}/a.png"),
        ):
            pytest.fail("the result is there to be read")
    assert line.unread == [b"png"]
    assert line.closed


def test_each_connection_is_looked_at() -> None:
    close = HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    public, private = Line(("47.95.1.1", 443), close, b"png"), Line(("10.0.0.5", 443), HEAD, b"png")
    with provider_over(Network(public, private)) as client:
        with client.fetch(f"https://{HOST}/a.png") as chunks:
            assert b"".join(chunks) == b"png"
        with pytest.raises(ResultHostUnknown), client.fetch(f"https://{HOST}/a.png"):
            pytest.fail("the result is there to be read")
    assert private.written == b""


def test_a_server_on_this_machine_that_a_public_name_leads_to_hears_nothing() -> None:
    heard: queue.Queue[bytes] = queue.Queue()
    with (
        served(lambda peer: heard.put(peer.read(65536)), reads=False) as server,
        provider_over(Lying(server)) as client,
    ):
        with (
            soon(),
            pytest.raises(ResultHostUnknown, match=r"127\.0\.0\.1"),
            client.fetch(f"https://{HOST}/a.png"),
        ):
            pytest.fail("the result is there to be read")
        assert heard.get(timeout=SOON) == b""


def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(hangs_up) as proxy, served(lambda peer: peer.answer(CREATED)) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        with provider(server) as client:
            assert client.query("t").status == "PENDING"
        assert len(server.requests) == 1
        assert proxy.requests == []


# --- secrets ---------------------------------------------------------------------------------------


def test_nothing_secret_is_logged_even_at_the_lowest_level(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    scripts = [lambda peer: peer.answer(CREATED), lambda peer: peer.answer(b"png"), hangs_up]
    with served(*scripts) as server:
        with provider(server) as client:
            client.create(ASYNC)
        with (
            provider(server) as client,
            client.fetch(f"http://127.0.0.1:{server.port}/a?Signature=hidden") as chunks,
        ):
            assert b"".join(chunks) == b"png"
        with provider(server) as client, pytest.raises(OutcomeUnknown):
            client.generate(SYNC)
    for secret in (KEY, "Signature", "hidden", "private words"):
        assert secret not in caplog.text


def test_the_trace_of_a_failed_call_holds_no_secret() -> None:
    with served(hangs_up) as server, provider(server) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            client.create(ASYNC)
        error: BaseException | None = caught.value
        while error is not None:
            assert KEY not in str(error)
            assert "private" not in str(error)
            error = error.__cause__ or error.__context__
