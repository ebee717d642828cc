"""deliver: a message is taken, put off, left to the dead-letter queue, or given up; never lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from retouch.errors import SettingsError
from retouch.ports import Reply
from retouch.settings import WebhookSettings
from retouch.steps.deliver import Attempt, Delivery, Outcome, deliver
from tests.fakes import START, Crash, Effects, FakeClock, Moment

KEY = b"k" * 32
BODY = json.dumps({"job_id": "0123456789abcdef", "revision": 9, "labels": {"sku": "红"}})
ID = "0123456789abcdef-9"


@dataclass
class FakeReceiver:
    """Answers as scripted, then 204; `sent` is what it was posted."""

    replies: list[Reply] = field(default_factory=list)
    sent: list[tuple[str, int, bytes, Sequence[bytes]]] = field(default_factory=list)

    def post(self, ident: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> Reply:
        self.sent.append((ident, timestamp, body, keys))
        return self.replies.pop(0) if self.replies else Reply(204)


@dataclass
class FakeDeliveries:
    effects: Effects
    later: list[tuple[str, float]] = field(default_factory=list)
    dead: list[tuple[str, str]] = field(default_factory=list)

    def put_off(self, receipt: str, seconds: float) -> None:
        with self.effects.effect("put_off"):
            self.later.append((receipt, seconds))

    def give_up(self, body: str, why: str) -> None:
        with self.effects.effect("give_up"):
            self.dead.append((body, why))


class Hook:
    """`retouch.ports.WebhookApp` over fakes."""

    def __init__(self, *replies: Reply, attempts: int = 4):
        self.settings = WebhookSettings("https://h.example", "s", "q", "d", attempts, 5)
        self.clock = FakeClock()
        self.effects = Effects()
        self.receiver = FakeReceiver([*replies])
        self.deliveries = FakeDeliveries(self.effects)
        self.wrong: SettingsError | None = None

    def keys(self) -> tuple[bytes, ...]:
        if self.wrong is not None:
            raise self.wrong
        return (KEY,)

    def attempt(self, number: int = 1, body: str = BODY) -> Delivery:
        return deliver(self, Attempt(body, f"receipt-{number}", number))


def test_what_is_taken_is_done_with() -> None:
    hook = Hook()

    delivery = hook.attempt()

    assert (delivery.outcome, delivery.ident) == (Outcome.DELIVERED, ID)
    assert delivery.outcome.done
    assert hook.receiver.sent == [(ID, int(START), BODY.encode("utf-8"), (KEY,))]
    assert (hook.deliveries.later, hook.deliveries.dead) == ([], [])


@pytest.mark.parametrize("reply", [Reply(500), Reply(404), Reply(302), Reply(None, "ReadTimeout")])
def test_what_is_not_taken_comes_again_later_each_time_and_is_then_dead_lettered(
    reply: Reply,
) -> None:
    hook = Hook(*[reply] * 4)

    outcomes = [hook.attempt(number).outcome for number in (1, 2, 3, 4)]

    assert outcomes == [Outcome.PUT_OFF] * 3 + [Outcome.LAST]
    assert not any(outcome.done for outcome in outcomes)
    # The queue moves it when it would come a fifth time.
    assert hook.deliveries.later == [
        ("receipt-1", 5.0), ("receipt-2", 20.0), ("receipt-3", 80.0), ("receipt-4", 0.0),
    ]  # fmt: skip
    assert hook.deliveries.dead == []


def test_each_attempt_has_the_same_id_and_its_own_time() -> None:
    hook = Hook(Reply(500), Reply(500))
    for number in (1, 2, 3):
        hook.attempt(number)
        hook.clock.advance(60)

    assert [sent[:2] for sent in hook.receiver.sent] == [
        (ID, int(START) + passed) for passed in (0, 60, 120)
    ]


def test_a_receiver_that_is_gone_is_not_asked_again() -> None:
    hook = Hook(Reply(410))

    assert hook.attempt().outcome.done
    ((body, why),) = hook.deliveries.dead
    assert body == BODY
    assert "410" in why
    assert hook.deliveries.later == []


def test_what_is_no_message_is_given_up_and_not_sent() -> None:
    hook = Hook()

    delivery = hook.attempt(body="oops")

    assert (delivery.outcome, delivery.ident) == (Outcome.GIVEN_UP, None)
    assert [body for body, _ in hook.deliveries.dead] == ["oops"]
    assert hook.receiver.sent == []


def test_without_a_good_secret_nothing_is_sent_and_it_comes_again() -> None:
    hook = Hook()
    hook.wrong = SettingsError("the webhook's secret is empty")

    delivery = hook.attempt()
    assert delivery.outcome is Outcome.PUT_OFF
    assert "secret is empty" in delivery.why
    assert hook.receiver.sent == []

    hook.wrong = None
    assert hook.attempt(2).outcome is Outcome.DELIVERED


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("reply", [Reply(500), Reply(410)])
def test_one_that_dies_at_an_effect_has_not_taken_the_message_away(
    reply: Reply, moment: Moment
) -> None:
    hook = Hook(reply)
    hook.effects.crash_at(1, moment)

    with pytest.raises(Crash):  # so the queue keeps it, and it comes again
        hook.attempt()
    hook.effects.heal()

    assert hook.attempt(2).outcome is Outcome.DELIVERED
    assert [sent[0] for sent in hook.receiver.sent] == [ID, ID]
