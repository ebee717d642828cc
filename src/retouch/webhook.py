"""Webhooks as Standard Webhooks 1.0 describes them: how a message is named, signed and posted.

The one module that knows HTTP to a receiver. Its address is the operator's, whatever it is: a private
network is theirs to choose. TLS is verified, no redirect is followed, no proxy is taken from the
environment, and of the answer nothing but its status is read.

The signature is over the message's id, the time of this attempt and the very bytes of the body. The id
stays the same however often a message is sent, so a receiver can tell that it has it already.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, Field, ValidationError

from retouch import __version__
from retouch.errors import SettingsError
from retouch.ports import Reply

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  what every secret begins with
LEAST_KEY_BYTES: Final = 24
"""What the specification asks for, 192 bits."""
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
MOST_PAUSE_SECONDS: Final = 6 * 3600.0
"""Well below the 12 hours that a queue keeps a message hidden at the most."""
_GROWTH: Final = 4.0
_LOOPBACK: Final = ("127.0.0.1", "localhost")

# At INFO httpx logs every URL, and an address may carry a token.
logging.getLogger("httpx").setLevel(logging.WARNING)


class _Job(BaseModel):
    job_id: str = Field(pattern=r"^[a-z0-9]{16}$")
    revision: int = Field(ge=1)


class _Alert(BaseModel):
    alert_id: str = Field(min_length=1)


def message_id(body: str) -> str | None:
    """The `webhook-id` of a message: the same for each attempt, and without a full stop, which is what
    the signature is made with. None if it is no message of ours.
    """
    try:
        job = _Job.model_validate_json(body)
    except ValidationError:
        try:
            alert = _Alert.model_validate_json(body)
        except ValidationError:
            return None
        return f"alert-{hashlib.sha256(alert.alert_id.encode()).hexdigest()[:32]}"
    return f"{job.job_id}-{job.revision}"


def keys_in(secret: str) -> tuple[bytes, ...]:
    """The signing keys that a secret holds: one, or while it is changed several with spaces between.

    Each is base64, with or without `whsec_` in front.

    Raises:
        SettingsError: it holds none, or something else; the message does not repeat it.
    """
    words = secret.split()
    if not words:
        raise SettingsError("the webhook's secret is empty; put a signing key into it: whsec_…")
    return tuple(_key(word) for word in words)


def _key(word: str) -> bytes:
    try:
        key = base64.b64decode(word.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < LEAST_KEY_BYTES:
        raise SettingsError(
            "the webhook's secret is not a signing key; it must hold whsec_ and the base64 of at least "
            f"{LEAST_KEY_BYTES} random bytes, or several such with spaces between"
        )
    return key


def signature(keys: Sequence[bytes], ident: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one for each key, with spaces between."""
    signed = b".".join((ident.encode("ascii"), str(timestamp).encode("ascii"), body))
    macs = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(mac).decode('ascii')}" for mac in macs)


def pause(attempt: int, first: float) -> float:
    """Seconds until the next attempt after that one, counted from 1: `first`, then four times as long
    each time, up to six hours.
    """
    return float(min(first * _GROWTH ** min(attempt - 1, 20), MOST_PAUSE_SECONDS))


def check_url(url: str) -> None:
    """Refuse an address that is neither https nor on this machine.

    Raises:
        SettingsError: it is; the message names its scheme and host only, for the rest may be a token.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname in _LOOPBACK:
        return
    raise SettingsError(
        f"RETOUCH_WEBHOOK_URL begins with {parts.scheme}://{parts.hostname or ''}; https:// and a host "
        "is needed, or http:// on 127.0.0.1 or localhost"
    )


class HttpReceiver:
    """`retouch.ports.Receiver` over HTTP. `transport` is the seam for tests."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None):
        check_url(url)
        self._url = url
        self._http = httpx.Client(
            transport=transport,
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            # A function sleeps between messages, and would find a kept connection dropped.
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"user-agent": f"retouch/{__version__}"},
        )

    def post(self, ident: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> Reply:
        """See `retouch.ports.Receiver.post`."""
        headers = {
            "content-type": "application/json",
            "webhook-id": ident,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(keys, ident, timestamp, body),
        }
        try:
            # Streamed, so that nothing of the answer's body is waited for.
            with self._http.stream("POST", self._url, content=body, headers=headers) as answer:
                return Reply(answer.status_code)
        except httpx.HTTPError as error:
            # Its text may name the address.
            return Reply(None, type(error).__name__)
