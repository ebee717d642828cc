"""The JSON Schema of sidecars: what an editor offers and refuses is what the check does."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from typer.testing import CliRunner

from retouch import examples
from retouch.cli.app import app
from retouch.registry import MODELS, Json
from retouch.sidecar import Order, check, schema

from .expectations import EXPECTATIONS, sidecar_of
from .helpers import (
    ELEVEN,
    FUNCTIONS,
    QWEN,
    QWEN_BASE,
    SIDECARS,
    WAN_25,
    WAN_26,
    WAN_PRO,
    WANX,
    boxes,
    interleave,
    names,
    palette,
    parameters_of,
    qwen,
    sequence,
    sidecar,
    wan,
    wan26,
    wanx,
)
from .table import cases, judged, key_of

jsonschema: Any = importlib.import_module("jsonschema")
VALIDATOR: Final[Any] = jsonschema.Draft202012Validator(schema())


def test_the_schema_is_a_valid_one_of_2020_12() -> None:
    made = schema()
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(made)
    assert json.loads(json.dumps(made)) == made


def test_the_schema_that_ships_is_what_the_command_prints() -> None:
    shipped = resources.files("retouch").joinpath("data/sidecar.schema.json").read_text("utf-8")
    assert shipped == json.dumps(schema(), ensure_ascii=False, indent=2) + "\n"
    assert CliRunner().invoke(app, ["schema"]).stdout == shipped


@pytest.mark.parametrize(
    ("of", "file"),
    [
        ("sidecar", "sidecar.schema.json"),
        ("job", "job.schema.json"),
        ("event", "events/job.schema.json"),
        ("alert", "events/alert.schema.json"),
    ],
)
def test_the_command_prints_the_schema_of_what_is_asked_for(of: str, file: str) -> None:
    shipped = resources.files("retouch").joinpath("data", file).read_text("utf-8")
    done = CliRunner().invoke(app, ["schema", "--of", of])
    assert done.exit_code == 0
    assert done.stdout == shipped


def test_models_change_the_schema_of_a_sidecar_only(tmp_path: Path) -> None:
    models = tmp_path / "models.json"
    models.write_text("{}")
    done = CliRunner().invoke(app, ["schema", "--of", "event", "--models", str(models)])
    assert done.exit_code == 2
    assert "the schema of event is the same for all" in " ".join(done.output.split())


# --- its branches: one for each model and function -------------------------------------------------

BRANCHES: Final = tuple(
    (model, function) for model in ELEVEN for function in (FUNCTIONS if model == WANX else (None,))
)


@cache
def branches() -> Mapping[tuple[str, str | None], dict[str, Any]]:
    """What holds for each model and function."""
    found: dict[tuple[str, str | None], dict[str, Any]] = {}
    made: Any = schema()
    for branch in made["allOf"]:
        chosen = branch["if"]["properties"]
        function = chosen.get("function", {}).get("const")
        if function is None and chosen["model"]["const"] == WANX:
            continue  # only says that a function is needed
        assert branch["if"]["required"] == list(chosen)
        found[chosen["model"]["const"], function] = branch["then"]
    return found


def test_there_is_a_branch_for_each_model_and_function() -> None:
    assert list(branches()) == list(BRANCHES)
    assert len(BRANCHES) == 20


@pytest.mark.parametrize(("model", "function"), BRANCHES)
def test_a_branch_offers_exactly_the_parameters_that_there_are(
    model: str, function: str | None
) -> None:
    parameters = branches()[model, function]["properties"]["parameters"]
    assert set(parameters["properties"]) == parameters_of(model, function)
    assert parameters["additionalProperties"] is False


@pytest.mark.parametrize(("model", "function"), BRANCHES)
def test_a_branch_says_what_its_model_function_and_parameters_are(
    model: str, function: str | None
) -> None:
    properties = branches()[model, function]["properties"]
    assert properties["model"]["description"] == MODELS[model].says
    if function is not None:
        assert len(properties["function"]["description"]) > 10
    for name, shape in properties["parameters"]["properties"].items():
        assert len(shape["description"]) >= len("Always 1."), name
        assert shape["description"].endswith("."), name


@pytest.mark.parametrize(("model", "function"), BRANCHES)
def test_a_branch_shows_examples_of_its_own(model: str, function: str | None) -> None:
    shown = branches()[model, function]["examples"]
    assert shown
    for example in shown:
        assert example["model"] == model
        assert example.get("function") == function
        VALIDATOR.validate(example)


def test_where_a_parameter_works_stands_in_its_description() -> None:
    def says(model: str, name: str) -> str:
        return str(
            branches()[model, None]["properties"]["parameters"]["properties"][name]["description"]
        )

    assert says(WAN_26, "max_images").endswith("Has effect only where enable_interleave is true.")
    assert says(WAN_PRO, "bbox_list").endswith("Only where there are images.")
    assert says(WAN_PRO, "color_palette").endswith("Only where enable_sequential is false.")
    assert "1:4 to 4:1" in says(WAN_25, "size")
    assert "each side 512–2048" in says(QWEN, "size")


def test_the_defaults_shown_are_what_is_sent() -> None:
    def default(model: str, name: str) -> Json:
        shapes = branches()[model, None]["properties"]["parameters"]["properties"]
        value: Json = shapes[name].get("default")
        return value

    for model in ELEVEN:
        if model != WANX:
            assert default(model, "n") == 1
            assert branches()[model, None]["properties"]["call"]["default"] == MODELS[model].call
    assert default(WAN_26, "max_images") == 5
    assert default(WAN_PRO, "size") == "2K"
    assert default(WAN_PRO, "seed") is None


@pytest.mark.parametrize(("model", "function"), BRANCHES)
def test_the_values_that_are_recommended_are_shown_and_validate(
    model: str, function: str | None
) -> None:
    parameters = branches()[model, function]["properties"]["parameters"]["properties"]
    shown = {name: shape["examples"] for name, shape in parameters.items() if "examples" in shape}
    having = MODELS[model].having(function)
    assert shown == {p.name: list(p.examples) for p in having if p.examples}
    for name, values in shown.items():
        for value in values:
            VALIDATOR.validate(sidecar(model, parameters={name: value}))


def test_words_that_the_provider_knows_stand_in_a_functions_description() -> None:
    def says(function: str) -> str:
        return str(branches()[WANX, function]["properties"]["function"]["description"])

    assert says("stylization_all").endswith(
        " Known to the provider: French picture book, gold-foil art."
    )
    assert "blue-and-white porcelain" in says("stylization_local")
    assert "Known to the provider" not in says("doodle")


def test_every_field_at_the_top_is_described() -> None:
    made: Any = schema()
    for name, shape in made["properties"].items():
        assert len(shape["description"]) > 10, name
    assert len(made["description"]) > 10
    assert made["additionalProperties"] is False


@pytest.mark.parametrize(
    "example", [pytest.param(e, id=f"{e.model} {e.name}") for e in examples.load()]
)
def test_every_example_validates(example: examples.Example) -> None:
    VALIDATOR.validate(example.sidecar)


# --- schema and check ------------------------------------------------------------------------------

SIZE: Final = "the sides, the area and the ratio of a W*H size"
SUM: Final = "that the ratios of a palette add up"
CORNERS: Final = "that a box's corners are the right way round"
ONE_EACH: Final = "that there is one list of boxes for each image"
WHOLE: Final = "that 1.0 is no whole number, which JSON Schema says it is"
LINE_END: Final = (
    "that a text has no line end, which Python's $ passes over and ECMAScript's does not"
)
ROUTE: Final = "that a region lacks a call"
UNSAYABLE: Final = frozenset({SIZE, SUM, CORNERS, ONE_EACH, WHOLE, LINE_END, ROUTE})
"""What the schema leaves to the check. Each kind is met below, and there is no other."""


def unsayable(raw: Mapping[str, Json], path: str) -> str | None:
    """Which of those kinds the refusal of a field is, if any."""
    if path == "call" and raw.get("region") == "frankfurt":
        return ROUTE
    parameters = raw["parameters"]
    assert isinstance(parameters, dict)
    value: Any = parameters.get(path.removeprefix("parameters."))
    if isinstance(value, float) and value.is_integer():
        return WHOLE
    if "\\n" in json.dumps(value):
        return LINE_END
    if path == "parameters.size":
        return SIZE if isinstance(value, str) and len(value.split("*")) == 2 else None
    if path == "parameters.color_palette":
        hundredths = sum(round(float(str(c["ratio"]).rstrip("%")) * 100) for c in value)
        return SUM if hundredths != 10_000 else None
    if path == "parameters.bbox_list":
        images = raw["images"]
        assert isinstance(images, list)
        crossed = any(b[0] >= b[2] or b[1] >= b[3] for boxes in value for b in boxes)
        return CORNERS if crossed else ONE_EACH if len(value) != len(images) else None
    return None


def sidecars() -> Iterator[dict[str, Json]]:
    """All of the generated ones and all by hand."""
    for found in cases().values():
        yield from (dict(case.sidecar) for case in found)
    yield from (sidecar_of(expectation) for expectation in EXPECTATIONS)


def test_in_the_whole_table_schema_and_check_agree_but_for_the_kinds_that_are_named() -> None:
    met = set()
    agreed = 0
    wrong = []
    for raw in sidecars():
        verdict = judged(raw)
        if VALIDATOR.is_valid(raw) is (verdict.order is not None):
            agreed += 1
            continue
        if verdict.order is not None:
            wrong.append(f"refused by the schema only: {key_of(raw)}")
            continue
        kinds = {unsayable(raw, path) for path in verdict.fields}
        met |= kinds
        if None in kinds:
            wrong.append(f"refused by the check only, {sorted(verdict.refused)}: {key_of(raw)}")
    assert wrong == []
    assert met == UNSAYABLE
    print(f"schema and check agree on {agreed} sidecars")
    assert agreed >= 4000


AGREED: list[Any] = [
    pytest.param(qwen(), True, id="the shortest"),
    *(pytest.param(wanx(function), True, id=f"wanx {function}") for function in FUNCTIONS),
    pytest.param(wan(images=[]), True, id="text to image"),
    pytest.param(wan(images=names(9)), True, id="nine images"),
    pytest.param(wan(images=names(10)), False, id="ten images"),
    pytest.param(wanx(images=names(2)), False, id="two images for wanx"),
    pytest.param(qwen(images=[]), False, id="no image for qwen"),
    pytest.param(qwen(images=[""]), False, id="an image without a name"),
    pytest.param(qwen(images="a.jpg"), False, id="images as a text"),
    pytest.param({"prompt": "x"}, False, id="no model"),
    pytest.param({"model": QWEN}, False, id="no prompt"),
    pytest.param({"model": WANX, "prompt": "x"}, False, id="no function"),
    pytest.param(qwen(model="qwen-image"), False, id="another model"),
    pytest.param(wanx("cut_out"), False, id="another function"),
    pytest.param(qwen(function="expand"), False, id="a superfluous function"),
    pytest.param(qwen(function=None), True, id="a function of null"),
    pytest.param(qwen(prompt=""), False, id="an empty prompt"),
    pytest.param(qwen(prompt="  "), False, id="a prompt of spaces"),
    pytest.param(qwen(prompt="猫" * 800), True, id="800 Chinese characters"),
    pytest.param(qwen(prompt="猫" * 801), False, id="801 Chinese characters"),
    pytest.param(qwen(prompt=7), False, id="a prompt that is a number"),
    pytest.param(qwen(negative_prompt="x" * 500), True, id="a negative prompt"),
    pytest.param(qwen(negative_prompt="x" * 501), False, id="a negative prompt too long"),
    pytest.param(wan(negative_prompt="x"), False, id="a superfluous negative prompt"),
    pytest.param(wan(negative_prompt=None), True, id="a negative prompt of null"),
    pytest.param(wanx("description_edit_with_mask", mask=None), False, id="a mask of null"),
    pytest.param(wanx("description_edit_with_mask", mask=""), False, id="a mask without a name"),
    pytest.param(wanx("expand", mask="m.png"), False, id="a superfluous mask"),
    pytest.param(wan(mask="m.png"), False, id="a superfluous mask for wan"),
    pytest.param(wan(mask=None), True, id="a superfluous mask of null"),
    pytest.param(wanx(parameters={"n": 4}), True, id="wanx n 4"),
    pytest.param(wanx(parameters={"n": 5}), False, id="wanx n 5"),
    pytest.param(qwen(parameters={"n": 6}), True, id="qwen n 6"),
    pytest.param(qwen(parameters={"n": 7}), False, id="qwen n 7"),
    pytest.param(sequence(12), True, id="a sequence of 12"),
    pytest.param(sequence(13), False, id="a sequence of 13"),
    pytest.param(qwen(parameters={"n": True}), False, id="n true"),
    pytest.param(qwen(parameters={"n": "1"}), False, id="n as a text"),
    pytest.param(qwen(parameters={"n": None}), False, id="n null"),
    pytest.param(qwen(parameters={"seed": 2147483648}), False, id="a seed too large"),
    pytest.param(wanx(parameters={"strength": 1}), True, id="strength"),
    pytest.param(wanx(parameters={"strength": 1.1}), False, id="strength too large"),
    pytest.param(wanx("expand", parameters={"strength": 1}), False, id="strength to expand"),
    pytest.param(wanx("expand", parameters={"top_scale": 2.0}), True, id="a scale"),
    pytest.param(wanx("doodle", parameters={"is_sketch": 1}), False, id="a flag as a number"),
    pytest.param(qwen(parameters={"strength": 1}), False, id="strength for qwen"),
    pytest.param(qwen(parameters={"size": "1024*768"}), True, id="a size"),
    pytest.param(qwen(parameters={"size": "1K"}), False, id="a tier for qwen"),
    pytest.param(wan(parameters={"size": "1K"}), True, id="a tier for wan"),
    pytest.param(wan(parameters={"size": "4K"}), False, id="a tier that wan lacks"),
    pytest.param(wan(parameters={"size": "1024x768"}), False, id="a size with x"),
    pytest.param(boxes(["a"], [[[0, 0, 1, 1]]]), True, id="boxes"),
    pytest.param(boxes(["a"], [[[0, 0, 1]]]), False, id="a box of three"),
    pytest.param(boxes(["a"], [[[0, 0, 1, 1]] * 3]), False, id="three boxes"),
    pytest.param(
        wan(parameters={"color_palette": palette("40.00%", "35.50%", "24.50%")}), True, id="palette"
    ),
    pytest.param(
        wan(parameters={"color_palette": palette("50.00%", "50.00%")}), False, id="two colours"
    ),
    pytest.param(
        wan(parameters={"color_palette": palette("50%", "25%", "25%")}), False, id="no decimals"
    ),
    pytest.param(wan(parameters={"prompt_extend": True}), False, id="an unsupported parameter"),
    pytest.param(wan(parameters=[]), False, id="parameters as a list"),
    pytest.param(qwen(labels={"sku": "x" * 256}), True, id="a label"),
    pytest.param(qwen(labels={"sku": "x" * 257}), False, id="a label too long"),
    pytest.param(qwen(labels={"x" * 257: "x"}), False, id="a label's name too long"),
    pytest.param(qwen(labels={"sku": 1}), False, id="a label that is a number"),
    pytest.param(qwen(labels={f"k{n}": "" for n in range(21)}), False, id="21 labels"),
    pytest.param(qwen(priority=9), True, id="priority 9"),
    pytest.param(qwen(priority=10), False, id="priority 10"),
    pytest.param(qwen(priority="5"), False, id="priority as a text"),
    pytest.param(qwen(lables={}), False, id="an unknown field"),
    pytest.param(qwen(**{"$schema": "./sidecar.schema.json"}), True, id="a $schema"),
    pytest.param(qwen(**{"$schema": 1}), False, id="a $schema that is a number"),
    pytest.param(qwen(images=None), True, id="images of null"),
    pytest.param(qwen(parameters=None), True, id="parameters of null"),
    pytest.param(qwen(labels=None), True, id="labels of null"),
    pytest.param(qwen(priority=None), True, id="priority of null"),
    pytest.param(wan(fit=True), True, id="fit"),
    pytest.param(wan(fit=None), True, id="fit of null"),
    pytest.param(wan(fit=1), False, id="fit as a number"),
    pytest.param(wan(fit="shrink"), False, id="fit as a text"),
    pytest.param(wan(region="singapore"), True, id="a region"),
    pytest.param(wan(region=None), True, id="a region of null"),
    pytest.param(wan(region="virginia"), False, id="a region without the model"),
    pytest.param(wan(region="mars"), False, id="no region"),
    pytest.param(wan26(region="virginia"), True, id="a region overseas"),
    pytest.param(wanx(region="singapore"), False, id="wanx in Singapore"),
    pytest.param(wan(call="sync"), True, id="a call"),
    pytest.param(wan(call=None), True, id="a call of null"),
    pytest.param(qwen(call="async"), False, id="qwen asynchronously"),
    pytest.param(wanx(call="sync"), False, id="wanx synchronously"),
    pytest.param(wan(call="batch"), False, id="no call"),
    pytest.param(wan26(), True, id="wan2.6"),
    pytest.param(wan26(images=[]), False, id="wan2.6 without an image"),
    pytest.param(wan26(images=names(4)), True, id="wan2.6 with four images"),
    pytest.param(wan26(images=names(5)), False, id="wan2.6 with five images"),
    pytest.param(interleave() | {"images": []}, True, id="text with images, no image"),
    pytest.param(interleave() | {"images": names(2)}, False, id="text with images, two images"),
    pytest.param(interleave(n=1), True, id="text with images n 1"),
    pytest.param(interleave(n=2), False, id="text with images n 2"),
    pytest.param(interleave(size="1K"), False, id="text with images, a tier"),
    pytest.param(interleave(size="1280*1280"), True, id="text with images, a size"),
    pytest.param(interleave(max_images=6), False, id="text with images, too many"),
    pytest.param(wan26(parameters={"size": "2K"}), True, id="a tier for wan2.6"),
    pytest.param(wan26(parameters={"stream": True}), False, id="stream"),
    pytest.param(sidecar(WAN_25), True, id="wan2.5"),
    pytest.param(sidecar(WAN_25, images=names(4)), False, id="wan2.5 with four images"),
    pytest.param(sidecar(WAN_25, parameters={"size": "1K"}), False, id="a tier for wan2.5"),
    pytest.param(sidecar(QWEN_BASE), True, id="qwen base"),
    pytest.param(sidecar(QWEN_BASE, parameters={"n": 2}), False, id="qwen base n 2"),
    pytest.param(
        sidecar(QWEN_BASE, parameters={"size": "1024*1024"}), False, id="a size for qwen base"
    ),
    pytest.param(
        sidecar(WAN_PRO, images=[], parameters={"size": "4K"}), True, id="4K for text to image"
    ),
    pytest.param(sidecar(WAN_PRO, parameters={"size": "4K"}), False, id="4K beside an image"),
    pytest.param(
        sidecar(WAN_PRO, images=[], parameters={"size": "4K", "enable_sequential": True}),
        False,
        id="4K in a set",
    ),
    pytest.param(
        wan(parameters={"color_palette": palette(*["25.00%"] * 4), "enable_sequential": True}),
        False,
        id="a palette in a set",
    ),
    pytest.param(boxes([], []), False, id="boxes without an image"),
    pytest.param(qwen(**{"$schema": None}), True, id="$schema of null"),
]


@pytest.mark.parametrize(("raw", "good"), AGREED)
def test_the_schema_and_the_check_agree(raw: dict[str, Json], good: bool) -> None:
    assert isinstance(check(raw), Order) is good
    assert VALIDATOR.is_valid(raw) is good


@settings(max_examples=300, deadline=None)
@given(raw=SIDECARS)
def test_the_schema_refuses_nothing_that_the_check_accepts(raw: dict[str, Json]) -> None:
    if isinstance(check(raw), Order):
        assert VALIDATOR.is_valid(raw)
