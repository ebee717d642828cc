"""The models of one stack: an account's own limits and new snapshots, by configuration only."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from retouch import catalogue as catalogue_module
from retouch.catalogue import catalogue
from retouch.errors import SettingsError
from retouch.jobs import Pace, lane_id
from retouch.ports import App
from retouch.registry import MODELS, Json, Mode, Quota
from retouch.settings import Settings
from retouch.sidecar import Order, check, schema
from retouch.steps.common import pace_of

from .helpers import QWEN, QWEN_MAX, WAN, WAN_26, WANX, sidecar
from .test_settings import COMPLETE

NEW = "wan2.7-image-2026-09-01"
jsonschema: Any = importlib.import_module("jsonschema")


def said(changes: str) -> str:
    """Why changes are refused."""
    with pytest.raises(SettingsError) as caught:
        catalogue(changes)
    return str(caught.value)


def the_example() -> dict[str, dict[str, Any]]:
    """The JSON in the module's own description."""
    text = catalogue_module.__doc__ or ""
    start = text.index("{")
    value, _ = json.JSONDecoder().raw_decode(text[start:])
    assert isinstance(value, dict)
    return value


# --- what can be configured ------------------------------------------------------------------------


def test_without_changes_the_models_are_the_registrys() -> None:
    assert catalogue() == MODELS
    assert catalogue("{}") == MODELS
    assert catalogue('{"wan2.7-image": {}}') == MODELS


def test_both_examples_of_the_description_work_as_it_says() -> None:
    example = the_example()
    assert set(example) == {WANX, NEW}
    models = catalogue(json.dumps(example))
    assert models[WANX].quota == Quota(5, 1.0, 5)
    assert models[NEW].regions == ("beijing",)
    assert models[NEW].parameters == MODELS[WAN].parameters
    assert set(models) == {*MODELS, NEW}


def test_a_limit_that_is_changed_leaves_everything_else_as_it_was() -> None:
    models = catalogue('{"wan2.7-image": {"quota": {"creates": 9, "per_seconds": 2.5}}}')
    assert models[WAN].quota == Quota(9, 2.5, 5)
    assert {n: m for n, m in models.items() if n != WAN} == {
        n: m for n, m in MODELS.items() if n != WAN
    }
    assert models[WAN].regions == MODELS[WAN].regions
    assert models[WAN].calls == MODELS[WAN].calls
    assert models[WAN].by_name == MODELS[WAN].by_name


def test_how_many_run_at_once_is_kept_unless_it_is_given() -> None:
    models = catalogue(
        '{"wan2.6-image": {"quota": {"creates": 5, "running": 20}},'
        ' "qwen-image-edit-max": {"quota": {"creates": 10, "per_seconds": 60}}}'
    )
    assert models[WAN_26].quota == Quota(5, 1.0, 20)
    assert models[QWEN_MAX].quota == Quota(10, 60.0, None)


def test_the_registry_itself_is_never_changed() -> None:
    before = dict(MODELS)
    catalogue('{"wan2.7-image": {"quota": {"creates": 1}}, "new": {"like": "wan2.7-image"}}')
    assert before == MODELS
    assert MODELS[WAN].quota == Quota(5, 1.0, 5)


def test_regions_can_be_taken_from_a_model_and_keep_their_order() -> None:
    models = catalogue('{"wan2.6-image": {"regions": ["frankfurt", "beijing", "beijing"]}}')
    assert models[WAN_26].regions == ("beijing", "frankfurt")
    assert models[WAN_26].calls_in("virginia") == ()


def test_a_new_snapshot_has_the_rules_of_its_model_under_its_own_name() -> None:
    models = catalogue(
        '{"qwen-image-edit-max-2026-09-01":'
        ' {"like": "qwen-image-edit-max", "quota": {"creates": 4, "per_seconds": 60}}}'
    )
    model = models["qwen-image-edit-max-2026-09-01"]
    assert model.name == "qwen-image-edit-max-2026-09-01"
    assert model.snapshot_of == QWEN_MAX
    assert model.says == "A dated snapshot of qwen-image-edit-max."
    assert model.quota == Quota(4, 60.0, None)
    assert model.parameters == MODELS[QWEN_MAX].parameters
    assert list(models)[-1] == model.name


def test_a_snapshot_may_be_like_another_snapshot() -> None:
    models = catalogue('{"new": {"like": "qwen-image-edit-plus-2025-12-15"}}')
    assert models["new"].parameters == MODELS[QWEN].parameters


# --- a new snapshot in use -------------------------------------------------------------------------

WITH_NEW = catalogue(json.dumps({NEW: {"like": WAN, "regions": ["beijing"]}}))
SMALL: dict[str, Json] = {"model": NEW, "prompt": "a red door"}


def test_a_new_snapshot_is_a_model_for_the_check() -> None:
    order = check(SMALL, models=WITH_NEW, regions=["singapore", "beijing"])
    assert isinstance(order, Order)
    assert (order.model, order.region, order.call) == (NEW, "beijing", Mode.ASYNC)
    assert dict(order.parameters) == {"n": 1}


def test_a_new_snapshot_is_held_to_the_rules_of_its_model() -> None:
    raw = SMALL | {"parameters": {"n": 5, "prompt_extend": True}, "negative_prompt": "blur"}
    found = check(raw, models=WITH_NEW)
    assert not isinstance(found, Order)
    assert sorted(problem.field for problem in found) == [
        "negative_prompt", "parameters.n", "parameters.prompt_extend",
    ]  # fmt: skip


def test_without_the_setting_the_snapshot_is_unknown_and_its_model_is_suggested() -> None:
    found = check(SMALL)
    assert not isinstance(found, Order)
    assert [problem.field for problem in found] == ["model"]
    assert found[0].message.endswith('did you mean "wan2.7-image"?')


def test_a_region_that_was_taken_away_is_refused() -> None:
    found = check(SMALL | {"region": "singapore"}, models=WITH_NEW)
    assert not isinstance(found, Order)
    assert [str(problem) for problem in found] == [
        f'region: "singapore" is not allowed; {NEW} exists in beijing'
    ]


def test_snapshots_are_not_named_where_models_are_suggested() -> None:
    found = check(sidecar(QWEN, parameters={"bbox_list": [[]]}), models=WITH_NEW)
    assert not isinstance(found, Order)
    assert "wan2.7-image and wan2.7-image-pro have it" in found[0].message


def test_a_new_snapshot_stands_in_the_schema() -> None:
    made: Any = schema(WITH_NEW)
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["properties"]["model"]["enum"] == list(WITH_NEW)
    validator = jsonschema.Draft202012Validator(made)
    assert validator.is_valid(SMALL)
    assert validator.is_valid(SMALL | {"parameters": {"n": 4, "size": "2K"}})
    assert not validator.is_valid(SMALL | {"parameters": {"n": 5}})
    assert not validator.is_valid(SMALL | {"region": "singapore"})
    assert not jsonschema.Draft202012Validator(schema()).is_valid(SMALL)


def test_a_new_snapshot_has_a_lane_of_its_own_with_its_own_pace() -> None:
    configured = json.dumps({NEW: {"like": WAN, "quota": {"creates": 2, "running": 3}}})
    settings = Settings.from_env(COMPLETE | {"RETOUCH_MODELS": configured})
    assert settings.models[NEW].calls_in("beijing") == (Mode.ASYNC, Mode.SYNC)
    app = cast("App", SimpleNamespace(settings=settings))
    assert pace_of(app, lane_id("beijing", NEW)) == Pace(3, 4, Quota(2, 1.0, 3).interval)
    assert pace_of(app, lane_id("beijing", WAN)) == Pace(5, 6, Quota(5, 1.0, 5).interval)


def test_changed_limits_change_the_pace() -> None:
    configured = '{"wanx2.1-imageedit": {"quota": {"creates": 10, "running": 12}}}'
    settings = Settings.from_env(COMPLETE | {"RETOUCH_MODELS": configured})
    app = cast("App", SimpleNamespace(settings=settings))
    assert pace_of(app, lane_id("beijing", WANX)) == Pace(12, 13, Quota(10, 1.0, 12).interval)


# --- what is refused -------------------------------------------------------------------------------

ALL = ", ".join(MODELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            "{", "RETOUCH_MODELS: the whole: Invalid JSON: EOF while parsing", id="not JSON"
        ),
        pytest.param("", "RETOUCH_MODELS: the whole: Invalid JSON", id="empty"),
        pytest.param("[]", "RETOUCH_MODELS: the whole: Input should be an object", id="a list"),
        pytest.param(
            '{"wan2.7-image": null}',
            "RETOUCH_MODELS: wan2.7-image: Input should be an object",
            id="null for a model",
        ),
        pytest.param(
            '{"wan2.8-image": {}}',
            f"RETOUCH_MODELS: wan2.8-image is not known; say which model it is like, "
            f'"like": one of {ALL}',
            id="an unknown model",
        ),
        pytest.param(
            '{"new": {"like": "other"}}',
            f'RETOUCH_MODELS: new is not known; say which model it is like, "like": one of {ALL}',
            id="like an unknown one",
        ),
        pytest.param(
            '{"a": {"like": "wan2.7-image"}, "b": {"like": "a"}}',
            f'RETOUCH_MODELS: b is not known; say which model it is like, "like": one of {ALL}',
            id="like another new one",
        ),
        pytest.param(
            '{"wan2.7-image": {"like": "wan2.7-image-pro"}}',
            "RETOUCH_MODELS: wan2.7-image is known; leave `like` out to change its limits",
            id="a known one like another",
        ),
        pytest.param(
            '{"wan2.7-image": {"regions": ["virginia"]}}',
            "RETOUCH_MODELS: wan2.7-image cannot be in virginia; wan2.7-image exists in beijing, "
            "singapore",
            id="a region it does not exist in",
        ),
        pytest.param(
            '{"new": {"like": "wanx2.1-imageedit", "regions": ["singapore", "mars"]}}',
            "RETOUCH_MODELS: new cannot be in mars, singapore; new exists in beijing",
            id="regions that a new one cannot have",
        ),
        pytest.param(
            '{"wan2.7-image": {"regions": []}}',
            "RETOUCH_MODELS: wan2.7-image.regions: List should have at least 1 item",
            id="no region",
        ),
        pytest.param(
            '{"wan2.7-image": {"regions": "beijing"}}',
            "RETOUCH_MODELS: wan2.7-image.regions: Input should be a valid array",
            id="a region as a text",
        ),
        pytest.param(
            '{"wan2.7-image": {"quota": {}}}',
            "RETOUCH_MODELS: wan2.7-image.quota.creates: Field required",
            id="an empty quota",
        ),
        pytest.param(
            '{"wan2.7-image": {"quota": {"creates": 0}}}',
            "RETOUCH_MODELS: wan2.7-image.quota.creates: Input should be greater than or equal to 1",
            id="no creates",
        ),
        pytest.param(
            '{"wan2.7-image": {"quota": {"creates": 1001}}}',
            "RETOUCH_MODELS: wan2.7-image.quota.creates: Input should be less than or equal to 1000",
            id="too many creates",
        ),
        pytest.param(
            '{"wan2.7-image": {"quota": {"creates": "5"}}}',
            "RETOUCH_MODELS: wan2.7-image.quota.creates: Input should be a valid integer",
            id="creates as a text",
        ),
        pytest.param(
            '{"wan2.7-image": {"quota": {"creates": true}}}',
            "RETOUCH_MODELS: wan2.7-image.quota.creates: Input should be a valid integer",
            id="creates as a flag",
        ),
        pytest.param(
            '{"wan2.7-image": {"quota": {"creates": 5, "per_seconds": 0}}}',
            "RETOUCH_MODELS: wan2.7-image.quota.per_seconds: Input should be greater than 0",
            id="in no time",
        ),
        pytest.param(
            '{"wan2.7-image": {"quota": {"creates": 5, "per_seconds": 3601}}}',
            "RETOUCH_MODELS: wan2.7-image.quota.per_seconds: Input should be less than or equal",
            id="in too long a time",
        ),
        pytest.param(
            '{"wan2.7-image": {"quota": {"creates": 5, "per_seconds": NaN}}}',
            "RETOUCH_MODELS: wan2.7-image.quota.per_seconds: Input should be a finite number",
            id="in NaN seconds",
        ),
        pytest.param(
            '{"wan2.7-image": {"quota": {"creates": 5, "running": 0}}}',
            "RETOUCH_MODELS: wan2.7-image.quota.running: Input should be greater than or equal to 1",
            id="none at once",
        ),
        pytest.param(
            '{"wan2.7-image": {"qouta": {"creates": 5}}}',
            "RETOUCH_MODELS: wan2.7-image.qouta: Extra inputs are not permitted",
            id="a misspelt field",
        ),
        pytest.param(
            '{"wan2.7-image": {"prompt_chars": 9000}}',
            "RETOUCH_MODELS: wan2.7-image.prompt_chars: Extra inputs are not permitted",
            id="what cannot be configured",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_place_and_the_reason(
    changes: str, message: str
) -> None:
    assert said(changes).startswith(message)


def test_several_mistakes_are_all_said_up_to_five() -> None:
    message = said('{"a": 1, "b": {"quota": {"creates": 0, "per_seconds": 0}}}')
    assert message.count(";") == 2
    assert all(place in message for place in ("a:", "b.quota.creates:", "b.quota.per_seconds:"))
    assert said(json.dumps({f"m{number}": 1 for number in range(9)})).count(";") == 4


def test_the_source_of_the_changes_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^models\.json: the whole: "):
        catalogue("[]", source="models.json")
    with pytest.raises(SettingsError, match=r"^RETOUCH_MODELS: "):
        Settings.from_env(COMPLETE | {"RETOUCH_MODELS": "[]"})
