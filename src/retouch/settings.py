"""Settings of a deployed stack, read from the environment that `template.yaml` sets. No defaults here.

A missing or impossible setting is an error that names it: a default would hide a broken deployment.
Only what the provider publishes, the regions' base URLs, comes from the registry.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from importlib import resources
from typing import Final

from retouch.budget import SAME_PER_DAY, Budget, parse
from retouch.catalogue import Catalogue, catalogue
from retouch.errors import SettingsError
from retouch.registry import REGIONS

_PREFIX: Final = "RETOUCH_"
_API_PATH: Final = "/api/v1"


class Delivery(StrEnum):
    """How the provider gets the images that lie in the stack's buckets."""

    PRESIGNED = "presigned"
    """It fetches them by presigned URL: for buckets that it can reach."""
    PUSH = "push"
    """They are sent to it: small ones inside the request, others through its temporary storage."""


@dataclass(frozen=True)
class Endpoint:
    """The provider in one region. `base_url` ends in `/api/v1`; `workspace` is sent if it is set."""

    base_url: str
    workspace: str | None = None


@dataclass(frozen=True)
class Price:
    """The price of one image."""

    amount: Decimal
    currency: str
    documented: bool = True
    """Whether the provider's documents state it, or others have reported it."""


def _price(amount: object, currency: object, documented: bool) -> Price:
    if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
        raise TypeError(f"{amount!r} is not a price")
    value = Decimal(amount)
    if not value.is_finite() or value < 0:
        raise ValueError(f"{amount!r} is not a price")
    if not isinstance(currency, str) or not currency:
        raise TypeError(f"{currency!r} is not a currency")
    return Price(value, currency, documented)


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
                    # What an operator gives is taken at its word.
                    documented = of_region.get("documented", [*of_region["models"]])
                    if not isinstance(documented, list):
                        raise TypeError(f"documented: {documented!r} is not a list")
                    for model, amount in of_region["models"].items():
                        price = _price(amount, currency, model in documented)
                        table.setdefault(region, {})[model] = price
            except (ValueError, KeyError, TypeError, AttributeError, InvalidOperation) as error:
                raise SettingsError(
                    f"{name}: not of the shape "
                    '{"beijing": {"currency": "CNY", "models": {"wan2.7-image": "0.20"}}}: '
                    f"{type(error).__name__} {error}"
                ) from error
        return cls(table)


def budget(text: str) -> Budget:
    """The stack's budget, from JSON. The very same job may be made ten times a day if it does not say
    otherwise, so that a runaway is caught in every stack.

    Raises:
        SettingsError: it is none; the message names what is wrong in it.
    """
    try:
        raw: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{_PREFIX}BUDGET is not JSON: {error}") from error
    found = parse(raw)
    if isinstance(found, list):
        said = "; ".join(f"{field}: {message}" if field else message for field, message in found)
        raise SettingsError(f"{_PREFIX}BUDGET: {said}")
    if found.same_per_day is None:
        return found.model_copy(update={"same_per_day": SAME_PER_DAY})
    return found


@dataclass(frozen=True)
class Settings:
    """Everything a function needs to know of its stack."""

    stack: str
    table: str
    inbox: str
    outbox: str
    kicks_url: str
    uploads_url: str
    topic_arn: str
    event_bus: str
    api_key_secret: str
    providers: Mapping[str, Endpoint]
    """By region, the preferred one first: those that the stack has a key for."""
    models: Catalogue
    result_hosts: tuple[str, ...]
    input_delivery: Delivery
    window_margin: int
    sync_window: int
    account_shared: bool
    """Whether others use the provider's account too, so that an unknown task may be theirs."""
    prices: Prices
    budget: Budget
    drop_deadline: float
    """Seconds that a drop may lack a part before that is told."""
    state_machine_arn: str | None
    """Only functions that start executions have it."""

    @property
    def regions(self) -> tuple[str, ...]:
        """The provider's regions that the stack has a key for, the preferred one first."""
        return tuple(self.providers)

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

        def number(name: str, least: int = 0) -> int:
            value = need(name)
            if not value.isdecimal() or int(value) < least:
                raise SettingsError(
                    f"{_PREFIX}{name} is {value!r}; a whole number from {least} is needed"
                )
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
            uploads_url=need("UPLOADS_URL"),
            topic_arn=need("TOPIC_ARN"),
            event_bus=need("EVENT_BUS"),
            api_key_secret=need("API_KEY_SECRET"),
            providers=endpoints(
                need("PROVIDER_REGIONS"), need("PROVIDER_BASE_URLS"), need("PROVIDER_WORKSPACES")
            ),
            models=catalogue(need("MODELS")),
            result_hosts=tuple(filter(None, need("RESULT_HOSTS").split(","))),
            input_delivery=Delivery(one_of("INPUT_DELIVERY", tuple(Delivery))),
            window_margin=number("WINDOW_MARGIN"),
            sync_window=number("SYNC_WINDOW"),
            account_shared=one_of("ACCOUNT_USE", ("alone", "shared")) == "shared",
            prices=Prices.load(need("PRICES")),
            budget=budget(need("BUDGET")),
            drop_deadline=60.0 * number("DROP_DEADLINE_MINUTES", least=1),
            state_machine_arn=env.get(_PREFIX + "STATE_MACHINE_ARN"),
        )


def endpoints(regions: str, base_urls: str, workspaces: str) -> dict[str, Endpoint]:
    """The provider's regions in use, the preferred one first.

    `regions` is comma separated; the others are JSON by region: base URLs in place of the public ones,
    and workspace ids.

    Raises:
        SettingsError: a region that there is not, or one without a base URL.
    """
    names = [name.strip() for name in regions.split(",") if name.strip()]
    if not names:
        raise SettingsError(f"{_PREFIX}PROVIDER_REGIONS is empty; one of {', '.join(REGIONS)}")
    urls = _texts_by_region("PROVIDER_BASE_URLS", base_urls)
    ids = _texts_by_region("PROVIDER_WORKSPACES", workspaces)
    found: dict[str, Endpoint] = {}
    for name in names:
        region = REGIONS.get(name)
        if region is None:
            raise SettingsError(
                f"{_PREFIX}PROVIDER_REGIONS: {name!r} is not a region; {', '.join(REGIONS)} are"
            )
        base_url = urls.get(name) or region.base_url
        if base_url is None:
            raise SettingsError(
                f"{_PREFIX}PROVIDER_BASE_URLS: {name} has no public base URL; give your "
                f'workspace\'s, {{"{name}": "https://WORKSPACE.eu-central-1.maas.aliyuncs.com/api/v1"}}'
            )
        if not base_url.rstrip("/").endswith(_API_PATH):
            raise SettingsError(
                f"{_PREFIX}PROVIDER_BASE_URLS: {base_url} does not end in {_API_PATH}, as {name}'s must"
            )
        found[name] = Endpoint(base_url.rstrip("/"), ids.get(name))
    for setting, given in (("PROVIDER_BASE_URLS", urls), ("PROVIDER_WORKSPACES", ids)):
        if unused := given.keys() - found.keys():
            raise SettingsError(
                f"{_PREFIX}{setting} names {', '.join(sorted(unused))}, but the stack works in "
                f"{', '.join(found)} only"
            )
    return found


def _texts_by_region(name: str, text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{_PREFIX}{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise SettingsError(f"{_PREFIX}{name} is {text!r}; a JSON object by region is needed")
    for region, given in value.items():
        if region not in REGIONS or not isinstance(given, str) or not given.strip():
            raise SettingsError(
                f"{_PREFIX}{name}: {region!r}: {given!r} is not a text for one of {', '.join(REGIONS)}"
            )
    return value


def api_key(secret: str, region: str, regions: Sequence[str]) -> str:
    """The key of a region: the secret is one key, or JSON that holds one for each region.

    Raises:
        SettingsError: it holds none for that region; the message never repeats the secret.
    """
    text = secret.strip()
    if not text:
        raise SettingsError("the API key's secret is empty; put the provider's key into it")
    key = _key_in(text, region, regions)
    if key.startswith("sk-sp-"):
        raise SettingsError(
            "the API key begins with sk-sp-, so it belongs to a subscription plan, whose keys do not "
            "work for image editing; put a key of Model Studio itself into the secret"
        )
    return key


def _key_in(text: str, region: str, regions: Sequence[str]) -> str:
    if not text.startswith("{"):
        if len(regions) > 1:
            example = ", ".join(f'"{name}": "sk-…"' for name in regions)
            raise SettingsError(
                f"the API key's secret holds one key, but the stack works in {', '.join(regions)}; "
                f"put a key for each into it: {{{example}}}"
            )
        return text
    try:
        keys: object = json.loads(text)
    except ValueError:
        keys = None
    key = keys.get(region) if isinstance(keys, dict) else None
    if not isinstance(key, str) or not key.strip():
        raise SettingsError(
            f"the API key's secret has no key for {region}; it must hold "
            f'{{"{region}": "sk-…"}}, beside those of other regions'
        )
    return key.strip()


@dataclass(frozen=True)
class WebhookSettings:
    """What the function `webhook` needs to know, and no other does."""

    url: str
    secret: str
    """The name of the secret that holds the signing key."""
    queue_url: str
    dead_letters_url: str
    attempts: int
    """How often a message is sent before it is dead-lettered."""
    backoff: int
    """Seconds between the first attempt and the second."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> WebhookSettings:
        """From environment variables.

        Raises:
            SettingsError: one is missing or impossible; the message names it.
        """

        def need(name: str) -> str:
            value = env.get(f"{_PREFIX}WEBHOOK_{name}")
            if not value:
                raise SettingsError(f"the environment variable {_PREFIX}WEBHOOK_{name} is missing")
            return value

        def number(name: str) -> int:
            value = need(name)
            if not re.fullmatch("[1-9][0-9]{0,8}", value):
                raise SettingsError(
                    f"{_PREFIX}WEBHOOK_{name} is {value!r}; a whole number from 1 is needed"
                )
            return int(value)

        return cls(
            url=need("URL"),
            secret=need("SECRET"),
            queue_url=need("QUEUE_URL"),
            dead_letters_url=need("DEAD_LETTERS_URL"),
            attempts=number("ATTEMPTS"),
            backoff=number("BACKOFF"),
        )
