"""deliver: one attempt to give the operator's webhook a message.

A message that was taken is done with. One that was not is put off, longer each time, and what was not
taken in the last attempt is left to the queue, which dead-letters it; so is at once what cannot be
delivered at all. Nothing sleeps, and nothing is lost where this dies at any point: the message comes
again, under the same id.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from retouch.errors import SettingsError
from retouch.ports import WebhookApp
from retouch.webhook import message_id, pause

AT_ONCE: Final = 0.0


class Outcome(StrEnum):
    """What became of an attempt."""

    DELIVERED = "Delivered"
    PUT_OFF = "PutOff"
    LAST = "Last"
    """The queue dead-letters it."""
    GIVEN_UP = "GivenUp"
    """It lies in the dead-letter queue."""

    @property
    def done(self) -> bool:
        """Whether the message may be taken out of the queue."""
        return self in (Outcome.DELIVERED, Outcome.GIVEN_UP)


@dataclass(frozen=True)
class Attempt:
    """A message in one of its deliveries: `number` counts them from 1, `receipt` names this one."""

    body: str
    receipt: str
    number: int


@dataclass(frozen=True)
class Delivery:
    """What became of it, why, and the message's id if it has one."""

    outcome: Outcome
    ident: str | None
    why: str


def deliver(app: WebhookApp, attempt: Attempt) -> Delivery:
    """Post a message to the webhook, or see to it that it comes again."""
    ident = message_id(attempt.body)
    if ident is None:
        app.deliveries.give_up(attempt.body, "it is no message of retouch")
        return Delivery(Outcome.GIVEN_UP, None, "it is no message of retouch")
    try:
        keys = app.keys()
    except SettingsError as error:
        return _put_off(app, attempt, ident, str(error))
    reply = app.receiver.post(ident, int(app.clock.now()), attempt.body.encode("utf-8"), keys)
    if reply.taken:
        return Delivery(Outcome.DELIVERED, ident, str(reply))
    if reply.gone:
        app.deliveries.give_up(attempt.body, "the receiver wants no more: HTTP 410")
        return Delivery(Outcome.GIVEN_UP, ident, str(reply))
    return _put_off(app, attempt, ident, str(reply))


def _put_off(app: WebhookApp, attempt: Attempt, ident: str, why: str) -> Delivery:
    last = attempt.number >= app.settings.attempts
    # After the last the queue moves it when it would come again, so let that be now.
    app.deliveries.put_off(
        attempt.receipt, AT_ONCE if last else pause(attempt.number, app.settings.backoff)
    )
    return Delivery(Outcome.LAST if last else Outcome.PUT_OFF, ident, why)
