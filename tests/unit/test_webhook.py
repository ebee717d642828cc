"""Standard Webhooks: ids, keys, signatures, pauses, and what goes over the wire."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retouch.errors import SettingsError
from retouch.webhook import (
    MOST_PAUSE_SECONDS,
    HttpReceiver,
    check_url,
    keys_in,
    message_id,
    pause,
    signature,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://hooks.example.com/in?token=s3cr3t"
ID = "0123456789abcdef-9"
BODY = '{"sku": "红"}'.encode()
KEYS = keys_in(SECRET)


# --- signatures ------------------------------------------------------------------------------------


def test_the_signature_is_that_of_the_specification_s_own_example() -> None:
    # As its reference libraries test themselves.
    made = signature(KEYS, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(
    st.lists(st.binary(min_size=24, max_size=64), min_size=1, max_size=3),
    st.from_regex(r"[a-z0-9]{16}-[1-9][0-9]{0,3}", fullmatch=True),
    st.integers(0, 2**33),
    st.binary(max_size=200),
)
def test_each_key_signs_id_time_and_body(
    keys: list[bytes], ident: str, timestamp: int, body: bytes
) -> None:
    made = signature(keys, ident, timestamp, body).split(" ")

    signed = f"{ident}.{timestamp}.".encode() + body
    assert [base64.b64decode(one.removeprefix("v1,")) for one in made] == [
        hmac.new(key, signed, hashlib.sha256).digest() for key in keys
    ]


@pytest.mark.parametrize(
    ("ident", "timestamp", "body"),
    [(ID[:-1] + "8", 1, BODY), (ID, 2, BODY), (ID, 1, BODY + b" ")],
)
def test_nothing_can_be_changed_under_a_signature(ident: str, timestamp: int, body: bytes) -> None:
    assert signature(KEYS, ident, timestamp, body) != signature(KEYS, ID, 1, BODY)


def test_a_secret_is_read_with_and_without_its_prefix() -> None:
    assert keys_in(SECRET) == keys_in(SECRET.removeprefix("whsec_")) == keys_in(f" {SECRET}\n")


def test_while_a_secret_is_changed_it_holds_two() -> None:
    newer = base64.b64encode(b"n" * 33).decode()

    assert keys_in(f"{newer} {SECRET}") == (b"n" * 33, *KEYS)


@pytest.mark.parametrize(
    "secret",
    [
        "", " ", "whsec_", "not base64!", "c2hvcnQ=", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        f"{SECRET} oops", "红" * 32,
    ],
)  # fmt: skip
def test_what_is_no_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(SettingsError, match="the webhook's secret") as caught:
        keys_in(secret)

    assert all(word not in str(caught.value) for word in secret.split() if len(word) > 6)


# --- ids -------------------------------------------------------------------------------------------


def test_a_job_s_message_is_named_after_the_job_and_its_revision() -> None:
    said = {"job_id": "0123456789abcdef", "revision": 9, "status": "SUCCEEDED"}

    assert message_id(json.dumps(said)) == ID


def test_an_alert_s_message_is_named_after_the_alert() -> None:
    alerts = [f"lane-paused:beijing:wan2.7-image:{n}" for n in range(3)]
    made = [message_id(json.dumps({"alert_id": alert, "alert": "lane-paused"})) for alert in alerts]

    assert made == [message_id(json.dumps({"alert_id": alert})) for alert in alerts]
    assert len(set(made)) == 3
    # With a full stop in it, the end of the id and the time after it could be told in two ways.
    assert all(ident is not None and "." not in ident and ident.isascii() for ident in made)


@pytest.mark.parametrize(
    "body",
    [
        "", "oops", "[]", "{}", "null", '{"job_id": "0123456789abcdef"}', '{"alert_id": ""}',
        '{"job_id": "a.1\\nx: y", "revision": 1}', '{"job_id": "0123456789abcdef", "revision": 0}',
    ],
)  # fmt: skip
def test_what_is_no_message_has_no_id(body: str) -> None:
    assert message_id(body) is None


# --- pauses ----------------------------------------------------------------------------------------


def test_pauses_grow_up_to_six_hours() -> None:
    pauses = [pause(attempt, 5) for attempt in range(1, 11)]

    assert pauses[:4] == [5, 20, 80, 320]
    assert pauses == sorted(pauses)
    assert pauses[-1] == MOST_PAUSE_SECONDS == pause(1000, 3600)
    assert 18 < sum(pauses[:9]) / 3600 < 22  # as the parameter's description says


# --- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        URL, "https://10.0.0.7:8443/in", "http://127.0.0.1:9000/hook", "http://localhost/",
    ],
)  # fmt: skip
def test_an_address_is_https_or_on_this_machine(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/s3cr3t", "http://127.0.0.1.example.com/s3cr3t",
        "http://127.0.0.1@example.com/s3cr3t", "ftp://example.com/s3cr3t", "https:///s3cr3t", "",
    ],
)  # fmt: skip
def test_any_other_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match="RETOUCH_WEBHOOK_URL") as caught:
        HttpReceiver(url)

    assert "s3cr3t" not in str(caught.value)


# --- on the wire -----------------------------------------------------------------------------------


def receiver(answer: Callable[[httpx.Request], httpx.Response]) -> HttpReceiver:
    return HttpReceiver(URL, httpx.MockTransport(answer))


def test_a_message_is_posted_as_the_specification_has_it() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        return httpx.Response(204)

    reply = receiver(answer).post(ID, 1614265330, BODY, KEYS)

    assert reply.taken
    (request,) = seen
    assert (request.method, str(request.url), request.content) == ("POST", URL, BODY)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == ID
    assert request.headers["webhook-timestamp"] == "1614265330"
    assert request.headers["webhook-signature"] == signature(KEYS, ID, 1614265330, BODY)
    assert request.headers["user-agent"].startswith("retouch/")


@pytest.mark.parametrize(
    ("status", "taken", "gone"),
    [
        (200, True, False), (202, True, False), (204, True, False), (299, True, False),
        (301, False, False), (400, False, False), (401, False, False), (410, False, True),
        (429, False, False), (500, False, False), (503, False, False),
    ],
)  # fmt: skip
def test_only_2xx_is_taken_and_only_410_is_gone(status: int, taken: bool, gone: bool) -> None:
    reply = receiver(lambda _: httpx.Response(status)).post(ID, 1, BODY, KEYS)

    assert (reply.taken, reply.gone, str(reply)) == (taken, gone, f"HTTP {status}")


def test_no_redirect_is_followed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(308, headers={"location": "https://elsewhere.example.com/"})

    assert not receiver(answer).post(ID, 1, BODY, KEYS).taken
    assert asked == [URL]


def test_the_answer_s_body_is_not_waited_for() -> None:
    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError("nobody reads this")

    reply = receiver(lambda _: httpx.Response(200, stream=Endless())).post(ID, 1, BODY, KEYS)

    assert reply.taken


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectTimeout, httpx.ReadTimeout, httpx.ConnectError, httpx.RemoteProtocolError,
    ],
)  # fmt: skip
def test_a_receiver_that_does_not_answer_has_not_taken_it(error: type[httpx.HTTPError]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error(f"at {request.url}")

    reply = receiver(answer).post(ID, 1, BODY, KEYS)

    assert (reply.status, reply.taken, reply.gone) == (None, False, False)
    assert str(reply) == error.__name__  # the address may hold a token
