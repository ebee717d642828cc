"""A receiver for retouch's webhook that needs nothing but Python.

    RETOUCH_WEBHOOK_SECRET=whsec_… python webhook_receiver.py --port 9000

It prints one line for each message, once, however often it is sent. What to do with a message is
`handle`; the rest is what every receiver should do: check the signature over the bytes as they came,
refuse what is older than five minutes, remember the ids it has seen, and answer soon.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOLERANCE_SECONDS = 300
MOST_BYTES = 256 * 1024
"""No message is larger."""
REMEMBERED = 10_000
"""Ids; a real receiver keeps them in its database, in the same transaction as what it does."""


def verified(
    secret: str, headers: Mapping[str, str], body: bytes, now: float
) -> tuple[str | None, str]:
    """The message's id if it is genuine and fresh, else None and what is wrong.

    The names of `headers` are in small letters.
    """
    ident = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not ident or not timestamp.isdecimal():
        return None, "webhook-id or webhook-timestamp is missing"
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return None, "the timestamp is more than five minutes off"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{ident}.{timestamp}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    for given in headers.get("webhook-signature", "").split():
        version, _, signature = given.partition(",")
        if version == "v1" and hmac.compare_digest(signature.encode(), wanted):
            return ident, ""
    return None, "the signature does not fit"


class Seen:
    """The latest ids that were handled."""

    def __init__(self, most: int = REMEMBERED):
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def once(self, ident: str, do: Callable[[], None]) -> bool:
        """Do it unless it was done for that id; should it fail, the message may come again."""
        with self._lock:
            if ident in self._ids:
                return False
            do()
            self._ids[ident] = None
            if len(self._ids) > self._most:
                self._ids.popitem(last=False)
            return True


def handle(message: dict[str, Any]) -> None:
    """What to do with a message: here, a line on stdout."""
    if "alert" in message:
        line = f"ALERT {message['alert']}: {message['text']}"
    else:
        line = f"{message['status']} {message['inbox']['key']}: {message['images']} images"
    print(line, flush=True)


def server(
    secret: str, port: int, do: Callable[[dict[str, Any]], None] = handle
) -> ThreadingHTTPServer:
    """A server on loopback; put a proxy that ends TLS in front of it."""
    seen = Seen()

    class Receiver(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("content-length", "")
            if not length.isdecimal() or int(length) > MOST_BYTES:
                self.answer(413)
                return
            body = self.rfile.read(int(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            ident, wrong = verified(secret, headers, body, time.time())
            if ident is None:
                print(f"refused: {wrong}", file=sys.stderr, flush=True)
                self.answer(401)
                return
            seen.once(ident, lambda: do(json.loads(body)))
            self.answer(204)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing for each request: `handle` says what is worth a line."""

    return ThreadingHTTPServer(("127.0.0.1", port), Receiver)


def main() -> None:
    """Receive until stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=9000)
    options = parser.parse_args()
    secret = os.environ.get("RETOUCH_WEBHOOK_SECRET", "")
    if not secret:
        parser.error("RETOUCH_WEBHOOK_SECRET is not set; the stack's secret holds the key")
    with server(secret, options.port) as receiver:
        print(f"listening on http://127.0.0.1:{receiver.server_port}/", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            receiver.serve_forever()


if __name__ == "__main__":
    main()
