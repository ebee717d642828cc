"""Settings of a deployed stack, read from the environment that `template.yaml` sets. No defaults here.

A missing or impossible setting is an error that names it: a default would hide a broken deployment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from importlib import resources
from typing import Final

from retouch.errors import SettingsError
from retouch.registry import REGIONS

_PREFIX: Final = "RETOUCH_"


class Delivery(StrEnum):
    """How the provider gets the images."""

    URL = "url"
    INLINE = "inline"


@dataclass(frozen=True)
class Price:
    """The price of one image."""

    amount: Decimal
    currency: str


def _price(amount: object, currency: object) -> Price:
    if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
        raise TypeError(f"{amount!r} is not a price")
    value = Decimal(amount)
    if not value.is_finite() or value < 0:
        raise ValueError(f"{amount!r} is not a price")
    if not isinstance(currency, str) or not currency:
        raise TypeError(f"{currency!r} is not a currency")
    return Price(value, currency)


class Prices:
    """Prices per region and model. Configuration, never code: provider prices change."""

    def __init__(self, table: Mapping[str, Mapping[str, Price]]):
        self._table = table

    def of(self, region: str, model: str) -> Price | None:
        """The price of one image, or None where none is configured."""
        return self._table.get(region, {}).get(model)

    @classmethod
    def load(cls, overrides: str = "{}") -> Prices:
        """The bundled prices with `overrides`, JSON of the same shape, on top.

        Raises:
            SettingsError: `overrides` is not of the shape.
        """
        bundled = resources.files("retouch").joinpath("data/prices.json").read_text("utf-8")
        table: dict[str, dict[str, Price]] = {}
        for name, text in (("the bundled prices", bundled), ("RETOUCH_PRICES", overrides)):
            try:
                for region, of_region in json.loads(text, parse_float=Decimal).items():
                    currency = of_region["currency"]
                    for model, amount in of_region["models"].items():
                        price = _price(amount, currency)
                        table.setdefault(region, {})[model] = price
            except (ValueError, KeyError, TypeError, AttributeError, InvalidOperation) as error:
                raise SettingsError(
                    f"{name}: not of the shape "
                    '{"beijing": {"currency": "CNY", "models": {"wan2.7-image": "0.20"}}}: '
                    f"{type(error).__name__} {error}"
                ) from error
        return cls(table)


@dataclass(frozen=True)
class Settings:
    """Everything a function needs to know of its stack."""

    stack: str
    table: str
    inbox: str
    outbox: str
    kicks_url: str
    topic_arn: str
    event_bus: str
    api_key_secret: str
    provider_region: str
    provider_base_url: str
    result_hosts: tuple[str, ...]
    input_delivery: Delivery
    window_margin: int
    sync_window: int
    prices: Prices
    state_machine_arn: str | None
    """Only `dispatch` and `reconcile` start executions."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """From environment variables.

        Raises:
            SettingsError: one is missing or impossible; the message names it.
        """

        def need(name: str) -> str:
            value = env.get(_PREFIX + name)
            if value is None:
                raise SettingsError(f"the environment variable {_PREFIX}{name} is missing")
            return value

        def number(name: str) -> int:
            value = need(name)
            if not value.isdecimal():
                raise SettingsError(f"{_PREFIX}{name} is {value!r}; a whole number is needed")
            return int(value)

        def one_of(name: str, choices: tuple[str, ...]) -> str:
            value = need(name)
            if value not in choices:
                raise SettingsError(f"{_PREFIX}{name} is {value!r}; one of {', '.join(choices)}")
            return value

        return cls(
            stack=need("STACK"),
            table=need("TABLE"),
            inbox=need("INBOX"),
            outbox=need("OUTBOX"),
            kicks_url=need("KICKS_URL"),
            topic_arn=need("TOPIC_ARN"),
            event_bus=need("EVENT_BUS"),
            api_key_secret=need("API_KEY_SECRET"),
            provider_region=one_of("PROVIDER_REGION", REGIONS),
            provider_base_url=need("PROVIDER_BASE_URL").rstrip("/"),
            result_hosts=tuple(filter(None, need("RESULT_HOSTS").split(","))),
            input_delivery=Delivery(one_of("INPUT_DELIVERY", tuple(Delivery))),
            window_margin=number("WINDOW_MARGIN"),
            sync_window=number("SYNC_WINDOW"),
            prices=Prices.load(need("PRICES")),
            state_machine_arn=env.get(_PREFIX + "STATE_MACHINE_ARN"),
        )
