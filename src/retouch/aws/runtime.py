"""Everything a function of the stack works with, made when first used and kept between invocations.

The only place where adapters are chosen. Importing this module calls nothing.
"""

from __future__ import annotations

import time
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities import parameters
from botocore.config import Config

from retouch.aws.messaging import AwsNotices, SqsKicks, SqsUploads, StepFunctionsExecutions
from retouch.aws.storage import S3Inbox, S3Outbox
from retouch.aws.store import DynamoStore
from retouch.errors import SettingsError
from retouch.provider.client import DashScope, connection_pool
from retouch.registry import REGIONS
from retouch.settings import Settings, api_key

if TYPE_CHECKING:
    import httpx
    from mypy_boto3_s3 import S3Client

KEY_CACHE_SECONDS: Final = 60
CONFIG: Final = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 5}
)
_S3_CONFIG: Final = CONFIG.merge(Config(signature_version="s3v4", s3={"addressing_style": "path"}))

logger = Logger()
metrics = Metrics()


class SystemClock:
    """`retouch.ports.Clock` of the machine."""

    def now(self) -> float:
        """See `retouch.ports.Clock.now`."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """See `retouch.ports.Clock.sleep`."""
        if seconds > 0:
            time.sleep(seconds)


class Runtime:
    """`retouch.ports.App` on AWS, or on an engine that speaks its interfaces."""

    @cached_property
    def settings(self) -> Settings:
        """The stack's settings."""
        return Settings.from_env()

    @cached_property
    def clock(self) -> SystemClock:
        """Time."""
        return SystemClock()

    @cached_property
    def store(self) -> DynamoStore:
        """The table."""
        return DynamoStore(boto3.client("dynamodb", config=CONFIG), self.settings.table)

    @cached_property
    def _s3(self) -> S3Client:
        return boto3.client("s3", config=_S3_CONFIG)

    @cached_property
    def inbox(self) -> S3Inbox:
        """The inbox bucket."""
        return S3Inbox(self._s3, self.settings.inbox)

    @cached_property
    def outbox(self) -> S3Outbox:
        """The outbox bucket."""
        return S3Outbox(self._s3, self.settings.outbox)

    @cached_property
    def kicks(self) -> SqsKicks:
        """The kick queue."""
        return SqsKicks(boto3.client("sqs", config=CONFIG), self.settings.kicks_url)

    @cached_property
    def uploads(self) -> SqsUploads:
        """The queue of uploads."""
        settings = self.settings
        client = boto3.client("sqs", config=CONFIG)
        return SqsUploads(client, settings.uploads_url, settings.inbox)

    @cached_property
    def executions(self) -> StepFunctionsExecutions:
        """The state machine.

        Raises:
            SettingsError: this function was not given one.
        """
        arn = self.settings.state_machine_arn
        if arn is None:
            raise SettingsError("the environment variable RETOUCH_STATE_MACHINE_ARN is missing")
        return StepFunctionsExecutions(boto3.client("stepfunctions", config=CONFIG), arn)

    @cached_property
    def notices(self) -> AwsNotices:
        """Events and notifications."""
        return AwsNotices(
            boto3.client("events", config=CONFIG),
            boto3.client("sns", config=CONFIG),
            bus=self.settings.event_bus,
            topic_arn=self.settings.topic_arn,
        )

    @cached_property
    def _pool(self) -> httpx.Client:
        """The one pool of connections to the provider, in whatever region."""
        return connection_pool()

    @cached_property
    def _providers(self) -> dict[str, DashScope]:
        settings = self.settings
        return {
            region: DashScope(
                endpoint.base_url,
                partial(self._api_key, region),
                http=self._pool,
                workspace=endpoint.workspace,
                result_hosts=(*REGIONS[region].result_hosts, *settings.result_hosts),
            )
            for region, endpoint in settings.providers.items()
        }

    def provider(self, region: str) -> DashScope:
        """The provider in a region, with its key from the stack's secret.

        Raises:
            SettingsError: the stack has no key for that region.
        """
        try:
            return self._providers[region]
        except KeyError:
            raise SettingsError(
                f"RETOUCH_PROVIDER_REGIONS no longer has {region}, which jobs still name"
            ) from None

    def _api_key(self, region: str) -> str:
        name = self.settings.api_key_secret
        try:
            secret: Any = parameters.get_secret(name, max_age=KEY_CACHE_SECONDS)
        except parameters.GetParameterError as error:
            raise SettingsError(f"the API key's secret cannot be read: {error}") from error
        return api_key(str(secret), region, self.settings.regions)
