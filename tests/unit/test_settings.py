"""Settings: what is missing or impossible is named, and prices are configuration."""

from __future__ import annotations

from decimal import Decimal

import pytest

from retouch.errors import OperatorError, SettingsError
from retouch.registry import MODELS
from retouch.settings import (
    Delivery,
    Endpoint,
    Price,
    Prices,
    Settings,
    WebhookSettings,
    endpoints,
)

from .helpers import QWEN, WAN, WAN_25, WAN_26, WAN_PRO, WANX

COMPLETE = {
    "RETOUCH_STACK": "retouch",
    "RETOUCH_TABLE": "retouch-table",
    "RETOUCH_INBOX": "retouch-inbox",
    "RETOUCH_OUTBOX": "retouch-outbox",
    "RETOUCH_KICKS_URL": "https://sqs.example/kicks.fifo",
    "RETOUCH_UPLOADS_URL": "https://sqs.example/uploads",
    "RETOUCH_TOPIC_ARN": "arn:aws:sns:eu-central-1:111122223333:retouch",
    "RETOUCH_EVENT_BUS": "retouch-bus",
    "RETOUCH_API_KEY_SECRET": "retouch-key",
    "RETOUCH_PROVIDER_REGIONS": "beijing",
    "RETOUCH_PROVIDER_BASE_URLS": "{}",
    "RETOUCH_PROVIDER_WORKSPACES": "{}",
    "RETOUCH_MODELS": "{}",
    "RETOUCH_RESULT_HOSTS": "results.example.com,127.0.0.1:9000",
    "RETOUCH_INPUT_DELIVERY": "presigned",
    "RETOUCH_WINDOW_MARGIN": "1",
    "RETOUCH_SYNC_WINDOW": "4",
    "RETOUCH_ACCOUNT_USE": "alone",
    "RETOUCH_PRICES": "{}",
    "RETOUCH_BUDGET": "{}",
    "RETOUCH_DROP_DEADLINE_MINUTES": "15",
}


def reported(amount: str, currency: str) -> Price:
    """A price that others have reported; the provider's documents do not state it."""
    return Price(Decimal(amount), currency, documented=False)


def test_a_complete_environment_gives_settings() -> None:
    machine = "arn:aws:states:eu-central-1:111122223333:stateMachine:edit-job"
    found = Settings.from_env(COMPLETE | {"RETOUCH_STATE_MACHINE_ARN": machine, "PATH": "/bin"})
    assert found.stack == "retouch"
    assert found.table == "retouch-table"
    assert found.inbox == "retouch-inbox"
    assert found.outbox == "retouch-outbox"
    assert found.kicks_url == "https://sqs.example/kicks.fifo"
    assert found.uploads_url == "https://sqs.example/uploads"
    assert found.topic_arn == "arn:aws:sns:eu-central-1:111122223333:retouch"
    assert found.event_bus == "retouch-bus"
    assert found.api_key_secret == "retouch-key"
    assert found.providers == {"beijing": Endpoint("https://dashscope.aliyuncs.com/api/v1", None)}
    assert found.regions == ("beijing",)
    assert found.models == MODELS
    assert found.prices.of("beijing", "wan2.7-image") == reported("0.20", "CNY")
    assert found.result_hosts == ("results.example.com", "127.0.0.1:9000")
    assert found.input_delivery is Delivery.PRESIGNED
    assert found.window_margin == 1
    assert found.sync_window == 4
    assert found.drop_deadline == 900.0
    assert found.state_machine_arn == machine


def test_only_some_functions_know_the_state_machine() -> None:
    assert Settings.from_env(COMPLETE).state_machine_arn is None


@pytest.mark.parametrize("name", sorted(COMPLETE))
def test_each_missing_variable_is_named(name: str) -> None:
    env = {key: value for key, value in COMPLETE.items() if key != name}
    with pytest.raises(SettingsError, match=rf"\b{name}\b"):
        Settings.from_env(env)


def test_a_missing_setting_is_for_the_operator_to_mend() -> None:
    with pytest.raises(OperatorError):
        Settings.from_env({})


@pytest.mark.parametrize(
    "name",
    ["RETOUCH_WINDOW_MARGIN", "RETOUCH_SYNC_WINDOW", "RETOUCH_DROP_DEADLINE_MINUTES"],
)
@pytest.mark.parametrize("value", ["", " ", "one", "-1", "1.5", "1e3", "0x1", "²", "1 "])
def test_a_bad_number_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_env(COMPLETE | {name: value})


def test_a_deadline_of_no_minutes_is_none() -> None:
    with pytest.raises(SettingsError, match="'0'; a whole number from 1 is needed"):
        Settings.from_env(COMPLETE | {"RETOUCH_DROP_DEADLINE_MINUTES": "0"})


def test_a_window_margin_of_zero_is_allowed() -> None:
    assert Settings.from_env(COMPLETE | {"RETOUCH_WINDOW_MARGIN": "0"}).window_margin == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETOUCH_PROVIDER_REGIONS", ""),
        ("RETOUCH_PROVIDER_REGIONS", " , "),
        ("RETOUCH_PROVIDER_REGIONS", "hongkong"),
        ("RETOUCH_PROVIDER_REGIONS", "Beijing"),
        ("RETOUCH_PROVIDER_REGIONS", "beijing;singapore"),
        ("RETOUCH_PROVIDER_BASE_URLS", "[]"),
        ("RETOUCH_PROVIDER_WORKSPACES", "llm-1"),
        ("RETOUCH_MODELS", "[]"),
        ("RETOUCH_INPUT_DELIVERY", ""),
        ("RETOUCH_INPUT_DELIVERY", "upload"),
        ("RETOUCH_ACCOUNT_USE", ""),
        ("RETOUCH_ACCOUNT_USE", "Shared"),
        ("RETOUCH_ACCOUNT_USE", "true"),
    ],
)
def test_a_choice_that_does_not_exist_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_env(COMPLETE | {name: value})


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        ("", ()),
        ("a.example", ("a.example",)),
        ("a.example,b.example", ("a.example", "b.example")),
        (",a.example,", ("a.example",)),
    ],
)
def test_result_hosts_are_split_and_empty_ones_dropped(value: str, hosts: tuple[str, ...]) -> None:
    found = Settings.from_env(COMPLETE | {"RETOUCH_RESULT_HOSTS": value})
    assert found.result_hosts == hosts


# --- the provider's regions ------------------------------------------------------------------------


def refused(regions: str, base_urls: str = "{}", workspaces: str = "{}") -> str:
    with pytest.raises(SettingsError) as caught:
        endpoints(regions, base_urls, workspaces)
    return str(caught.value)


def test_the_public_base_urls_are_used_where_none_is_given() -> None:
    assert endpoints("singapore,beijing,virginia", "{}", "{}") == {
        "singapore": Endpoint("https://dashscope-intl.aliyuncs.com/api/v1"),
        "beijing": Endpoint("https://dashscope.aliyuncs.com/api/v1"),
        "virginia": Endpoint("https://dashscope-us.aliyuncs.com/api/v1"),
    }


@pytest.mark.parametrize(
    "regions", ["virginia,beijing", " virginia , beijing ", ",virginia,,beijing,"]
)
def test_the_preferred_region_comes_first(regions: str) -> None:
    assert list(endpoints(regions, "{}", "{}")) == ["virginia", "beijing"]


def test_a_region_that_is_named_twice_keeps_its_first_place() -> None:
    assert list(endpoints("singapore,beijing,singapore", "{}", "{}")) == ["singapore", "beijing"]


def test_a_base_url_can_be_given_in_place_of_the_public_one() -> None:
    urls = '{"beijing": "http://127.0.0.1:9000/api/v1/"}'
    assert endpoints("beijing", urls, "{}") == {"beijing": Endpoint("http://127.0.0.1:9000/api/v1")}


@pytest.mark.parametrize(
    "url",
    [
        "https://img.example.com",
        "https://img.example.com/",
        "https://img.example.com/api",
        "https://img.example.com/api/v1/services",
        "https://img.example.com/compatible-mode/v1",
        "https://img.example.com/api/v1?x=1",
    ],
)
def test_a_base_url_that_does_not_end_as_the_providers_is_refused(url: str) -> None:
    assert refused("singapore", f'{{"singapore": "{url}"}}') == (
        f"RETOUCH_PROVIDER_BASE_URLS: {url} does not end in /api/v1, as singapore's must"
    )


@pytest.mark.parametrize(
    ("base_urls", "workspaces", "message"),
    [
        pytest.param(
            '{"singapore": "https://unused.example/api/v1"}',
            "{}",
            "RETOUCH_PROVIDER_BASE_URLS names singapore, but the stack works in beijing, virginia only",
            id="a base URL",
        ),
        pytest.param(
            "{}",
            '{"beijing": "llm-1", "singapore": "llm-2", "frankfurt": "llm-3"}',
            "RETOUCH_PROVIDER_WORKSPACES names frankfurt, singapore, but the stack works in beijing, "
            "virginia only",
            id="two workspaces",
        ),
    ],
)
def test_what_is_given_for_a_region_that_is_not_in_use_is_refused(
    base_urls: str, workspaces: str, message: str
) -> None:
    assert refused("beijing,virginia", base_urls, workspaces) == message


def test_workspaces_are_sent_where_they_are_given() -> None:
    found = endpoints("beijing,singapore", "{}", '{"singapore": "llm-1"}')
    assert [found[name].workspace for name in ("beijing", "singapore")] == [None, "llm-1"]


def test_frankfurt_has_no_public_base_url() -> None:
    assert refused("beijing,frankfurt") == (
        "RETOUCH_PROVIDER_BASE_URLS: frankfurt has no public base URL; give your workspace's, "
        '{"frankfurt": "https://WORKSPACE.eu-central-1.maas.aliyuncs.com/api/v1"}'
    )
    url = "https://llm-1.eu-central-1.maas.aliyuncs.com/api/v1"
    found = endpoints("frankfurt", f'{{"frankfurt": "{url}"}}', '{"frankfurt": "llm-1"}')
    assert found == {"frankfurt": Endpoint(url, "llm-1")}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("",),
            "RETOUCH_PROVIDER_REGIONS is empty; one of beijing, singapore, virginia, frankfurt",
        ),
        (
            ("beijing,hongkong",),
            "RETOUCH_PROVIDER_REGIONS: 'hongkong' is not a region; beijing, singapore, virginia, "
            "frankfurt are",
        ),
        (("beijing", ""), "RETOUCH_PROVIDER_BASE_URLS is not JSON: Expecting value: line 1"),
        (("beijing", "{"), "RETOUCH_PROVIDER_BASE_URLS is not JSON: Expecting property name"),
        (
            ("beijing", "[]"),
            "RETOUCH_PROVIDER_BASE_URLS is '[]'; a JSON object by region is needed",
        ),
        (
            ("beijing", "null"),
            "RETOUCH_PROVIDER_BASE_URLS is 'null'; a JSON object by region is needed",
        ),
        (
            ("beijing", '{"hongkong": "https://a.example"}'),
            "RETOUCH_PROVIDER_BASE_URLS: 'hongkong': 'https://a.example' is not a text for one of "
            "beijing, singapore, virginia, frankfurt",
        ),
        (
            ("beijing", '{"beijing": 7}'),
            "RETOUCH_PROVIDER_BASE_URLS: 'beijing': 7 is not a text for one of beijing",
        ),
        (
            ("beijing", '{"beijing": " "}'),
            "RETOUCH_PROVIDER_BASE_URLS: 'beijing': ' ' is not a text for one of beijing",
        ),
        (
            ("beijing", '{"beijing": null}'),
            "RETOUCH_PROVIDER_BASE_URLS: 'beijing': None is not a text for one of beijing",
        ),
        (("beijing", "{}", "llm-1"), "RETOUCH_PROVIDER_WORKSPACES is not JSON: Expecting value"),
        (
            ("beijing", "{}", '{"beijing": ["llm-1"]}'),
            "RETOUCH_PROVIDER_WORKSPACES: 'beijing': ['llm-1'] is not a text for one of beijing",
        ),
    ],
)
def test_regions_that_cannot_be_are_refused_by_setting_and_reason(
    args: tuple[str, ...], message: str
) -> None:
    assert refused(*args).startswith(message)


def test_the_settings_hold_every_region_with_its_endpoint() -> None:
    found = Settings.from_env(
        COMPLETE
        | {
            "RETOUCH_PROVIDER_REGIONS": "singapore,beijing",
            "RETOUCH_PROVIDER_BASE_URLS": '{"beijing": "http://127.0.0.1:1/api/v1"}',
            "RETOUCH_PROVIDER_WORKSPACES": '{"singapore": "llm-1"}',
        }
    )
    assert found.regions == ("singapore", "beijing")
    assert found.providers == {
        "singapore": Endpoint("https://dashscope-intl.aliyuncs.com/api/v1", "llm-1"),
        "beijing": Endpoint("http://127.0.0.1:1/api/v1"),
    }


# --- who else uses the account ---------------------------------------------------------------------


@pytest.mark.parametrize(("value", "shared"), [("alone", False), ("shared", True)])
def test_an_account_is_shared_only_where_that_is_said(value: str, shared: bool) -> None:
    assert Settings.from_env(COMPLETE | {"RETOUCH_ACCOUNT_USE": value}).account_shared is shared


# --- models ----------------------------------------------------------------------------------------


def test_the_models_that_make_tasks_are_the_ones_with_a_limit_on_running_ones() -> None:
    limited = {name for name, model in MODELS.items() if model.quota.running is not None}
    assert limited == {WANX, WAN_25, WAN_26, WAN, WAN_PRO}
    assert MODELS[QWEN].quota.running is None


# --- prices ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "currency", "prices"),
    [
        (
            "beijing",
            "CNY",
            {
                "wanx2.1-imageedit": "0.14",
                "qwen-image-edit": "0.3",
                "qwen-image-edit-plus": "0.2",
                "qwen-image-edit-plus-2025-10-30": "0.2",
                "qwen-image-edit-plus-2025-12-15": "0.2",
                "qwen-image-edit-max": "0.5",
                "qwen-image-edit-max-2026-01-16": "0.5",
                "wan2.6-image": "0.2",
                "wan2.7-image": "0.2",
                "wan2.7-image-pro": "0.5",
            },
        ),
        (
            "singapore",
            "USD",
            {
                "qwen-image-edit-plus": "0.03",
                "qwen-image-edit-plus-2025-10-30": "0.03",
                "qwen-image-edit-plus-2025-12-15": "0.03",
                "qwen-image-edit-max": "0.075",
                "qwen-image-edit-max-2026-01-16": "0.075",
                "wan2.6-image": "0.03",
                "wan2.7-image": "0.03",
                "wan2.7-image-pro": "0.075",
            },
        ),
    ],
)
def test_bundled_prices_are_those_of_contract_3_1_and_only_one_is_in_a_document(
    region: str, currency: str, prices: dict[str, str]
) -> None:
    found = {model: Prices.load().of(region, model) for model in MODELS}
    assert {model: price for model, price in found.items() if price is not None} == {
        model: Price(Decimal(amount), currency, documented=(region, model) == ("beijing", WANX))
        for model, amount in prices.items()
    }
    # No document states one for wan2.5, and nobody has reported any.
    assert found[WAN_25] is None


def test_a_price_nobody_configured_is_none() -> None:
    assert Prices.load().of("singapore", "wanx2.1-imageedit") is None
    assert Prices.load().of("atlantis", "wan2.7-image") is None


def test_overrides_replace_one_price_and_leave_the_others() -> None:
    prices = Prices.load('{"beijing": {"currency": "CNY", "models": {"wan2.7-image": "0.25"}}}')
    assert prices.of("beijing", "wan2.7-image") == Price(Decimal("0.25"), "CNY")
    assert prices.of("beijing", "wanx2.1-imageedit") == Price(Decimal("0.14"), "CNY")
    assert prices.of("singapore", "wan2.7-image") == reported("0.03", "USD")


def test_an_operators_price_is_taken_at_its_word_unless_that_says_otherwise() -> None:
    prices = Prices.load(
        '{"beijing": {"currency": "CNY", "models": {"a": "1", "b": "2"}, "documented": ["b"]},'
        ' "singapore": {"currency": "USD", "models": {"a": "3"}}}'
    )
    assert prices.of("beijing", "a") == reported("1", "CNY")
    assert prices.of("beijing", "b") == Price(Decimal(2), "CNY", documented=True)
    assert prices.of("singapore", "a") == Price(Decimal(3), "USD", documented=True)


def test_overrides_may_add_a_price_in_another_currency() -> None:
    prices = Prices.load('{"singapore": {"currency": "EUR", "models": {"new": "1"}}}')
    assert prices.of("singapore", "new") == Price(Decimal(1), "EUR")
    assert prices.of("singapore", "wan2.7-image") == reported("0.03", "USD")


def test_the_settings_carry_the_overrides() -> None:
    env = COMPLETE | {
        "RETOUCH_PRICES": '{"beijing": {"currency": "CNY", "models": {"wan2.7-image": "9"}}}'
    }
    assert Settings.from_env(env).prices.of("beijing", "wan2.7-image") == Price(Decimal(9), "CNY")


def test_a_price_written_as_a_number_is_exact_or_refused() -> None:
    text = '{"beijing": {"currency": "CNY", "models": {"wan2.7-image": 0.2}}}'
    try:
        price = Prices.load(text).of("beijing", "wan2.7-image")
    except SettingsError:
        return
    assert price == Price(Decimal("0.2"), "CNY")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="not JSON"),
        pytest.param("[]", id="a list"),
        pytest.param("null", id="null"),
        pytest.param('{"beijing": []}', id="a region that is a list"),
        pytest.param('{"beijing": {"models": {}}}', id="no currency"),
        pytest.param('{"beijing": {"currency": "CNY"}}', id="no models"),
        pytest.param('{"beijing": {"currency": "CNY", "models": ["x"]}}', id="models a list"),
        pytest.param('{"beijing": {"currency": "CNY", "models": {"x": "free"}}}', id="no number"),
        pytest.param('{"beijing": {"currency": "CNY", "models": {"x": null}}}', id="a null price"),
        pytest.param('{"beijing": {"currency": "CNY", "models": {"x": "NaN"}}}', id="NaN"),
        pytest.param('{"beijing": {"currency": "CNY", "models": {"x": "Infinity"}}}', id="endless"),
        pytest.param('{"beijing": {"currency": "CNY", "models": {"x": "-1"}}}', id="below zero"),
        pytest.param('{"beijing": {"currency": null, "models": {"x": "1"}}}', id="null currency"),
        pytest.param(
            '{"beijing": {"currency": "CNY", "models": {"x": "1"}, "documented": 1}}',
            id="documented by number",
        ),
    ],
)
def test_prices_of_another_shape_are_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="RETOUCH_PRICES"):
        Prices.load(text)


# --- the webhook's -----------------------------------------------------------------------------------

WEBHOOK = {
    "RETOUCH_WEBHOOK_URL": "https://hooks.example.com/retouch",
    "RETOUCH_WEBHOOK_SECRET": "webhook-secret",
    "RETOUCH_WEBHOOK_QUEUE_URL": "https://sqs.example/webhook",
    "RETOUCH_WEBHOOK_DEAD_LETTERS_URL": "https://sqs.example/webhook-dlq",
    "RETOUCH_WEBHOOK_ATTEMPTS": "10",
    "RETOUCH_WEBHOOK_BACKOFF": "5",
}


def test_the_webhook_has_settings_of_its_own() -> None:
    assert WebhookSettings.from_env(WEBHOOK) == WebhookSettings(
        url="https://hooks.example.com/retouch",
        secret="webhook-secret",
        queue_url="https://sqs.example/webhook",
        dead_letters_url="https://sqs.example/webhook-dlq",
        attempts=10,
        backoff=5,
    )


@pytest.mark.parametrize("name", WEBHOOK)
@pytest.mark.parametrize("value", [None, ""])
def test_each_missing_variable_of_the_webhook_is_named(name: str, value: str | None) -> None:
    env = {key: given for key, given in WEBHOOK.items() if key != name}
    if value is not None:
        env[name] = value
    with pytest.raises(SettingsError, match=f"{name} is missing"):
        WebhookSettings.from_env(env)


@pytest.mark.parametrize("name", ["RETOUCH_WEBHOOK_ATTEMPTS", "RETOUCH_WEBHOOK_BACKOFF"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "ten", "²"])
def test_a_bad_number_of_the_webhook_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is '{value}'"):
        WebhookSettings.from_env(WEBHOOK | {name: value})
