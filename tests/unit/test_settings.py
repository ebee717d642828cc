"""Settings: what is missing or impossible is named, and prices are configuration."""

from __future__ import annotations

from decimal import Decimal

import pytest

from retouch.errors import OperatorError, SettingsError
from retouch.settings import Delivery, Price, Prices, Settings

COMPLETE = {
    "RETOUCH_STACK": "retouch",
    "RETOUCH_TABLE": "retouch-table",
    "RETOUCH_INBOX": "retouch-inbox",
    "RETOUCH_OUTBOX": "retouch-outbox",
    "RETOUCH_KICKS_URL": "https://sqs.example/kicks.fifo",
    "RETOUCH_TOPIC_ARN": "arn:aws:sns:eu-central-1:111122223333:retouch",
    "RETOUCH_EVENT_BUS": "retouch-bus",
    "RETOUCH_API_KEY_SECRET": "retouch-key",
    "RETOUCH_PROVIDER_REGION": "beijing",
    "RETOUCH_PROVIDER_BASE_URL": "https://dashscope.aliyuncs.com/api/v1/",
    "RETOUCH_RESULT_HOSTS": "results.example.com,127.0.0.1:9000",
    "RETOUCH_INPUT_DELIVERY": "url",
    "RETOUCH_WINDOW_MARGIN": "1",
    "RETOUCH_SYNC_WINDOW": "4",
    "RETOUCH_PRICES": "{}",
}


def test_a_complete_environment_gives_settings() -> None:
    machine = "arn:aws:states:eu-central-1:111122223333:stateMachine:edit-job"
    found = Settings.from_env(COMPLETE | {"RETOUCH_STATE_MACHINE_ARN": machine, "PATH": "/bin"})
    assert found.stack == "retouch"
    assert found.table == "retouch-table"
    assert found.inbox == "retouch-inbox"
    assert found.outbox == "retouch-outbox"
    assert found.kicks_url == "https://sqs.example/kicks.fifo"
    assert found.topic_arn == "arn:aws:sns:eu-central-1:111122223333:retouch"
    assert found.event_bus == "retouch-bus"
    assert found.api_key_secret == "retouch-key"
    assert found.provider_region == "beijing"
    assert found.provider_base_url == "https://dashscope.aliyuncs.com/api/v1"
    assert found.result_hosts == ("results.example.com", "127.0.0.1:9000")
    assert found.input_delivery is Delivery.URL
    assert found.window_margin == 1
    assert found.sync_window == 4
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


@pytest.mark.parametrize("name", ["RETOUCH_WINDOW_MARGIN", "RETOUCH_SYNC_WINDOW"])
@pytest.mark.parametrize("value", ["", " ", "one", "-1", "1.5", "1e3", "0x1", "²", "1 "])
def test_a_bad_number_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_env(COMPLETE | {name: value})


def test_a_window_margin_of_zero_is_allowed() -> None:
    assert Settings.from_env(COMPLETE | {"RETOUCH_WINDOW_MARGIN": "0"}).window_margin == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETOUCH_PROVIDER_REGION", ""),
        ("RETOUCH_PROVIDER_REGION", "frankfurt"),
        ("RETOUCH_PROVIDER_REGION", "Beijing"),
        ("RETOUCH_INPUT_DELIVERY", ""),
        ("RETOUCH_INPUT_DELIVERY", "upload"),
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


# --- prices ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "model", "price"),
    [
        ("beijing", "wanx2.1-imageedit", Price(Decimal("0.14"), "CNY")),
        ("beijing", "qwen-image-edit-plus", Price(Decimal("0.20"), "CNY")),
        ("beijing", "wan2.7-image", Price(Decimal("0.20"), "CNY")),
        ("singapore", "qwen-image-edit-plus", Price(Decimal("0.03"), "USD")),
        ("singapore", "wan2.7-image", Price(Decimal("0.03"), "USD")),
    ],
)
def test_bundled_prices_are_those_of_contract_3_1(region: str, model: str, price: Price) -> None:
    assert Prices.load().of(region, model) == price


def test_a_price_nobody_configured_is_none() -> None:
    assert Prices.load().of("singapore", "wanx2.1-imageedit") is None
    assert Prices.load().of("atlantis", "wan2.7-image") is None


def test_overrides_replace_one_price_and_leave_the_others() -> None:
    prices = Prices.load('{"beijing": {"currency": "CNY", "models": {"wan2.7-image": "0.25"}}}')
    assert prices.of("beijing", "wan2.7-image") == Price(Decimal("0.25"), "CNY")
    assert prices.of("beijing", "wanx2.1-imageedit") == Price(Decimal("0.14"), "CNY")
    assert prices.of("singapore", "wan2.7-image") == Price(Decimal("0.03"), "USD")


def test_overrides_may_add_a_price_in_another_currency() -> None:
    prices = Prices.load('{"singapore": {"currency": "EUR", "models": {"new": "1"}}}')
    assert prices.of("singapore", "new") == Price(Decimal(1), "EUR")
    assert prices.of("singapore", "wan2.7-image") == Price(Decimal("0.03"), "USD")


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
    ],
)
def test_prices_of_another_shape_are_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="RETOUCH_PRICES"):
        Prices.load(text)
