"""The provider over HTTP. The one module that knows httpx.

A call that bills is sent once and never repeated here; what is known about its outcome is in the
error's class. The API key goes to the base URL and nowhere else, never to a result's host.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from retouch import __version__
from retouch.errors import NOT_REACHED, AccountRefused, OutcomeUnknown, ProviderRefused, TryLater
from retouch.provider.answers import TaskAnswer, created_task, failure_in, parse, task_answer
from retouch.provider.refusals import refusal
from retouch.provider.requests import Request
from retouch.registry import RESULT_HOSTS, Json

CONNECT_SECONDS: Final = 5.0
CREATE_SECONDS: Final = 20.0
QUERY_SECONDS: Final = 15.0
SYNC_SECONDS: Final = 310.0
"""The provider cuts a synchronous call at 300 s (contract 3.3)."""
FETCH_SECONDS: Final = 30.0
"""Without a byte."""
FETCH_TOTAL_SECONDS: Final = 120.0
RESULT_MAX_BYTES: Final = 100 * 1024 * 1024
# At INFO httpx logs every URL, and a result's URL is signed.
logging.getLogger("httpx").setLevel(logging.WARNING)
_LOOPBACK: Final = ("127.0.0.1", "localhost")
_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)


class DashScope:
    """The provider's interface at one base URL, which ends in `/api/v1`.

    `key` is called for each request, so that a rotated key is used without a restart. `transport` is
    the seam for tests.
    """

    def __init__(
        self,
        base_url: str,
        key: Callable[[], str],
        *,
        result_hosts: tuple[str, ...] = (),
        transport: httpx.BaseTransport | None = None,
    ):
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._result_hosts = frozenset((*RESULT_HOSTS, *result_hosts))
        self._http = httpx.Client(
            transport=transport,
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": f"retouch/{__version__}"},
            timeout=httpx.Timeout(QUERY_SECONDS, connect=CONNECT_SECONDS),
        )

    def close(self) -> None:
        """Close the pool."""
        self._http.close()

    def create(self, request: Request) -> tuple[str, str | None]:
        """See `retouch.ports.Provider.create`."""
        response = self._post(request, CREATE_SECONDS)
        body = parse(_text(response))
        task_id = created_task(body) if body is not None else None
        if body is None or task_id is None:
            raise OutcomeUnknown(f"HTTP {response.status_code} without a task id")
        request_id = body.get("request_id")
        return task_id, request_id if isinstance(request_id, str) else None

    def generate(self, request: Request) -> str:
        """See `retouch.ports.Provider.generate`."""
        response = self._post(request, SYNC_SECONDS)
        text = _text(response)
        body = parse(text)
        if body is None or not task_answer(body, synchronous=True).images:
            raise OutcomeUnknown(f"HTTP {response.status_code} without an image")
        return text

    def query(self, task_id: str) -> TaskAnswer:
        """See `retouch.ports.Provider.query`."""
        url = f"{self._base_url}/tasks/{quote(task_id, safe='')}"
        try:
            response = self._http.get(url, headers=self._authorization())
        except httpx.RequestError as error:
            raise TryLater(f"the query failed: {type(error).__name__}") from error
        body = parse(_text(response))
        refused = None
        if response.status_code >= 400:
            refused = self._refusal(response, body, bills=False)
            if not isinstance(refused, ProviderRefused):
                raise refused
            # The choices protocol may report a failed task as a permanent 4xx (contract 4.4).
        if body is None:
            raise TryLater(f"the query's answer was not JSON (HTTP {response.status_code})")
        return task_answer(body, refused=refused is not None)

    @contextmanager
    def fetch(self, url: str) -> Iterator[Iterator[bytes]]:
        """See `retouch.ports.Provider.fetch`."""
        checked = self._result_url(url)
        try:
            with self._http.stream("GET", checked, timeout=FETCH_SECONDS) as response:
                if response.status_code in (403, 404):
                    raise ProviderRefused(
                        "ResultGone", f"the result's URL answered HTTP {response.status_code}"
                    )
                if response.is_redirect:
                    raise ProviderRefused(
                        "ResultHostNotAllowed", "the result's URL leads elsewhere by a redirect"
                    )
                if response.status_code != 200:
                    raise TryLater(f"the result's URL answered HTTP {response.status_code}")
                yield self._capped(response)
        except httpx.InvalidURL as error:
            raise ProviderRefused("ResultHostNotAllowed", "the result has no usable URL") from error
        except httpx.RequestError as error:
            raise TryLater(f"the download failed: {type(error).__name__}") from error

    def _capped(self, response: httpx.Response) -> Iterator[bytes]:
        total = 0
        promised = response.headers.get("Content-Length")
        deadline = time.monotonic() + FETCH_TOTAL_SECONDS
        for chunk in response.iter_bytes():
            total += len(chunk)
            if time.monotonic() > deadline:
                raise TryLater(f"the download took longer than {FETCH_TOTAL_SECONDS:.0f} s")
            if total > RESULT_MAX_BYTES:
                raise ProviderRefused(
                    "ResultTooLarge", f"the result has more than {RESULT_MAX_BYTES} bytes"
                )
            yield chunk
        # Of a compressed body the length says nothing about what comes out of it.
        plain = response.headers.get("Content-Encoding", "identity") == "identity"
        if plain and promised is not None and promised.isdecimal() and total < int(promised):
            raise TryLater(f"the download ended after {total} of {promised} bytes")

    def _result_url(self, url: str) -> str:
        """The URL to fetch: an allowed host, https; http is only for a loopback host."""
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            named = f"{host}:{parts.port}" if parts.port is not None else host
        except ValueError:
            raise ProviderRefused("ResultHostNotAllowed", "the result has no usable URL") from None
        if named not in self._result_hosts:
            raise ProviderRefused(
                "ResultHostNotAllowed",
                f"results may not come from {named or 'that URL'}; an operator may add the host to "
                "ResultHosts",
            )
        if host in _LOOPBACK:
            return url
        if _is_address(host):
            raise ProviderRefused("ResultHostNotAllowed", f"{host} is an address, not a host name")
        if parts.scheme not in ("http", "https"):
            raise ProviderRefused("ResultHostNotAllowed", "results come by https only")
        return urlunsplit(parts._replace(scheme="https"))

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key()}"}

    def _post(self, request: Request, seconds: float) -> httpx.Response:
        headers = {
            **self._authorization(),
            "Content-Type": "application/json; charset=utf-8",
            "Accept": "application/json; charset=utf-8",
            **request.headers,
        }
        content = json.dumps(request.body, ensure_ascii=False).encode("utf-8")
        try:
            response = self._http.post(
                f"{self._base_url}/{request.path}",
                content=content,
                headers=headers,
                timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            )
        except _NOT_SENT as error:
            raise TryLater(
                f"the provider was not reached: {type(error).__name__}", code=NOT_REACHED
            ) from error
        except httpx.RequestError as error:
            raise OutcomeUnknown(
                f"no answer to a call that bills: {type(error).__name__}"
            ) from error
        if response.status_code >= 400:
            raise self._refusal(response, parse(_text(response)), bills=True)
        return response

    def _refusal(
        self, response: httpx.Response, body: dict[str, Json] | None, *, bills: bool
    ) -> ProviderRefused | AccountRefused | TryLater | OutcomeUnknown:
        found = failure_in(body) if body is not None else None
        return refusal(
            response.status_code,
            found.code if found else f"HTTP{response.status_code}",
            found.message if found else "an answer that is not the provider's JSON",
            found.request_id if found else None,
            bills=bills,
        )


def _text(response: httpx.Response) -> str:
    """The body as UTF-8, whatever charset a gateway claims; damage shows as damaged JSON."""
    return response.content.decode("utf-8", "replace")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
