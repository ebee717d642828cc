"""What the function `webhook` works with: its queues in SQS, its secret, the receiver.

Apart from `runtime`, whose settings this function neither has nor needs.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import boto3
from aws_lambda_powertools.utilities import parameters

from retouch.aws.runtime import CONFIG, KEY_CACHE_SECONDS, SystemClock
from retouch.errors import SettingsError
from retouch.settings import WebhookSettings
from retouch.webhook import HttpReceiver, keys_in

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

WHY_ATTRIBUTE: Final = "why"


class SqsDeliveries:
    """`retouch.ports.Deliveries` on the webhook's queue and its dead-letter queue."""

    def __init__(self, client: SQSClient, *, queue_url: str, dead_letters_url: str):
        self._client = client
        self._queue_url = queue_url
        self._dead_letters_url = dead_letters_url

    def put_off(self, receipt: str, seconds: float) -> None:
        """See `retouch.ports.Deliveries.put_off`."""
        self._client.change_message_visibility(
            QueueUrl=self._queue_url, ReceiptHandle=receipt, VisibilityTimeout=int(seconds)
        )

    def give_up(self, body: str, why: str) -> None:
        """See `retouch.ports.Deliveries.give_up`."""
        self._client.send_message(
            QueueUrl=self._dead_letters_url,
            MessageBody=body,
            MessageAttributes={WHY_ATTRIBUTE: {"DataType": "String", "StringValue": why}},
        )


class WebhookRuntime:
    """`retouch.ports.WebhookApp` on AWS, or on an engine that speaks its interfaces."""

    @cached_property
    def settings(self) -> WebhookSettings:
        """The function's settings."""
        return WebhookSettings.from_env()

    @cached_property
    def clock(self) -> SystemClock:
        """Time."""
        return SystemClock()

    @cached_property
    def receiver(self) -> HttpReceiver:
        """The webhook."""
        return HttpReceiver(self.settings.url)

    @cached_property
    def deliveries(self) -> SqsDeliveries:
        """The webhook's queues."""
        return SqsDeliveries(
            boto3.client("sqs", config=CONFIG),
            queue_url=self.settings.queue_url,
            dead_letters_url=self.settings.dead_letters_url,
        )

    def keys(self) -> tuple[bytes, ...]:
        """See `retouch.ports.WebhookApp.keys`."""
        try:
            secret: Any = parameters.get_secret(self.settings.secret, max_age=KEY_CACHE_SECONDS)
        except parameters.GetParameterError as error:
            raise SettingsError(f"the webhook's secret cannot be read: {error}") from error
        return keys_in(str(secret))
