"""What `retouch up` refuses before it starts anything, and what it makes of the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from retouch.local.packaging import load_template, project_root
from retouch.local.stack import Blueprint, StackOptionError, check, snapshots, start
from retouch.simulator.rules import MODELS as SIMULATED

from .helpers import encoded

WORKSPACE = "https://llm-1.eu-central-1.maas.aliyuncs.com/api/v1"


def retouch(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """The command line with its output in a pipe."""
    return subprocess.run(
        [sys.executable, "-m", "retouch.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "RETOUCH_HOME": str(home)},
    )


def refused(**parameters: str) -> str:
    with pytest.raises(StackOptionError) as caught:
        check(Blueprint(parameters=parameters))
    return str(caught.value)


# --- the webhook -----------------------------------------------------------------------------------


def test_a_webhook_s_address_is_https_or_on_this_machine() -> None:
    said = refused(WebhookUrl="http://hooks.example.com/")
    assert said.startswith("--parameter WebhookUrl: ")
    assert "an https URL, or an http URL on 127.0.0.1 or localhost" in said
    local = {"WebhookUrl": "http://127.0.0.1:9000/hook"}
    assert check(Blueprint(parameters=local))["WebhookUrl"] == local["WebhookUrl"]


# --- names -----------------------------------------------------------------------------------------


def test_a_parameter_that_the_template_does_not_have_is_refused_with_those_it_has() -> None:
    said = refused(Foo="1")
    assert said.startswith("--parameter Foo: ")
    names = set(load_template(project_root() / "template.yaml")["Parameters"])
    assert all(name in said for name in names - {"ProviderRegions"})
    assert "did you mean" not in said


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Model", "Models"),
        ("windowMargin", "WindowMargin"),
        ("PRICES", "Prices"),
        ("ProviderBaseUrl", "ProviderBaseUrls"),
    ],
)
def test_the_near_name_is_said(name: str, near: str) -> None:
    assert f'did you mean "{near}"?' in refused(**{name: "{}"})


@pytest.mark.parametrize("name", ["ProviderRegions", "ProviderRegion"])
def test_the_regions_are_an_option_of_their_own(name: str) -> None:
    assert "--provider-region" in refused(**{name: "singapore"})


# --- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("Models", '{"foo":{}}', "foo is not known; say which model it is like"),
        ("Models", "wan", "Invalid JSON"),
        ("Models", '{"wan2.7-image": {"quota": {"creates": 0}}}', "wan2.7-image.quota.creates"),
        ("Prices", '{"beijing": {"models": {}}}', "currency"),
        ("Prices", "{", "not of the shape"),
        ("Budget", '{"images_a_day": 3}', "--parameter Budget: images_a_day: there is no such"),
        ("Budget", '{"cost_per_day": {"CNY": 0.5}}', "--parameter Budget: cost_per_day.CNY: 0.5"),
        ("Budget", "3", "3 is not a budget"),
        ("ProviderBaseUrls", '{"paris": "https://example.com"}', "'paris'"),
        (
            "ProviderBaseUrls",
            '{"beijing": "ftp://example.com/api/v1"}',
            "must be a JSON object of https",
        ),
        ("ProviderWorkspaces", "[]", "a JSON object by region is needed"),
        ("InputDelivery", "url", '"url" is not allowed; presigned, push are'),
        ("LogLevel", "info", '"info" is not allowed; DEBUG, INFO, WARN, ERROR are'),
        ("LogRetentionDays", "2", '"2" is not allowed; 1, 3, 7'),
        ("WindowMargin", "6", "must be a whole number from 0 to 5"),
        ("WindowMargin", "-1", "must be a whole number from 0 to 5"),
        ("WindowMargin", "0.5", "must be a whole number from 0 to 5"),
        ("WindowMargin", "9" * 5000, "must be a whole number from 0 to 5"),
        ("SyncWindow", "many", "must be a whole number from 1 to 50"),
        ("SyncWindow", "", "must be a whole number from 1 to 50"),
        ("NotificationEmail", "nobody", "must be empty or an e-mail address"),
        ("ResultHosts", "a host", "must be host names"),
    ],
)
def test_an_impossible_value_is_refused_by_its_parameters_name(
    name: str, value: str, says: str
) -> None:
    said = refused(**{name: value})
    assert said.startswith(f"--parameter {name}")
    assert says in said
    assert "RETOUCH_" not in said
    assert len(said) < 500


def test_json_on_several_lines_is_said_to_be_that() -> None:
    models = json.dumps({"wan2.7-image-new": {"like": "wan2.7-image"}}, indent=2)
    assert "on one line" in refused(Models=models)


def test_a_region_without_a_base_url_is_refused() -> None:
    with pytest.raises(StackOptionError, match="frankfurt has no public base URL"):
        check(Blueprint(provider="dashscope", provider_regions=("beijing", "frankfurt")))


def test_a_provider_by_its_url_has_one_region() -> None:
    two = ("beijing", "frankfurt")
    with pytest.raises(StackOptionError, match="serves one region"):
        check(Blueprint(provider="https://example.com/api/v1", provider_regions=two))


@pytest.mark.parametrize("url", ["https://a b/api/v1", "https://example.com/v2"])
def test_an_impossible_url_of_the_provider_is_refused_by_its_option(url: str) -> None:
    with pytest.raises(StackOptionError, match=r"^--provider: "):
        check(Blueprint(provider=url))


@pytest.mark.parametrize(
    "blueprint",
    [
        pytest.param(Blueprint(), id="nothing"),
        pytest.param(Blueprint(provider_regions=("frankfurt",)), id="a simulated Frankfurt"),
        pytest.param(
            Blueprint(provider="http://127.0.0.1:1/api/v1", provider_regions=("frankfurt",)),
            id="a server of one's own for Frankfurt",
        ),
        pytest.param(
            Blueprint(
                provider="dashscope",
                provider_regions=("frankfurt",),
                parameters={"ProviderBaseUrls": json.dumps({"frankfurt": WORKSPACE})},
            ),
            id="Frankfurt with a base URL",
        ),
        pytest.param(
            Blueprint(
                parameters={
                    "InputDelivery": "presigned",
                    "ResultHosts": "127.0.0.1:8080,example.com",
                    "Models": '{"wan2.7-image": {"quota": {"creates": 9}}}',
                    "Prices": '{"beijing": {"currency": "CNY", "models": {"wan2.7-image": "1"}}}',
                    "ProviderWorkspaces": '{"beijing": "llm-1"}',
                    "WindowMargin": "0",
                    "SyncWindow": "50",
                    "NotificationEmail": "",
                    "LogLevel": "DEBUG",
                    "LogRetentionDays": "365",
                }
            ),
            id="every parameter",
        ),
    ],
)
def test_what_can_be_had_is_let_through(blueprint: Blueprint) -> None:
    assert set(check(blueprint)) >= {"ProviderRegions", *blueprint.parameters}


def test_every_default_of_the_template_would_be_let_through() -> None:
    parameters = load_template(project_root() / "template.yaml")["Parameters"]
    defaults = {name: str(of["Default"]) for name, of in parameters.items()}
    del defaults["ProviderRegions"]
    assert check(Blueprint(provider="dashscope", parameters=defaults)).items() >= defaults.items()


# --- before anything is started --------------------------------------------------------------------


def test_nothing_is_started_with_a_wrong_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETOUCH_HOME", str(tmp_path))
    steps: list[str] = []
    with pytest.raises(StackOptionError):
        start(Blueprint(parameters={"Foo": "1"}), say=steps.append)
    assert steps == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--parameter", "Foo=1"), "--parameter Foo: "),
        (("--parameter", 'Models={"foo":{}}'), "foo is not known"),
        (("--provider", "dashscope", "--provider-region", "frankfurt"), "no public base URL"),
        (("--parameter", "ProviderRegions=singapore"), "--provider-region"),
    ],
)
def test_the_command_line_ends_with_status_2_and_one_line(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = retouch("up", *arguments, home=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1  # not wrapped, so that it can be searched
    assert done.stdout == ""


# --- snapshots for the simulator -------------------------------------------------------------------


def test_new_snapshots_are_told_to_the_simulator_by_a_model_that_it_has() -> None:
    like = {
        "wan2.7-image-2026-09-01": "wan2.7-image",
        "qwen-image-edit-max-new": "qwen-image-edit-max-2026-01-16",
    }
    configured: dict[str, object] = {name: {"like": model} for name, model in like.items()}
    configured["wan2.6-image"] = {"quota": {"creates": 9}}
    blueprint = Blueprint(parameters={"Models": json.dumps(configured)})
    assert snapshots(blueprint.parameters) == like
    assert set(like.values()) <= set(SIMULATED)


def test_without_new_snapshots_there_are_none_to_tell() -> None:
    assert snapshots({}) == {}


# --- the rest of the command line that needs no stack ----------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_the_schema_is_json_with_and_without_the_option(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = retouch("schema", *arguments, home=tmp_path)
    assert done.returncode == 0
    assert "$schema" in json.loads(done.stdout)


def test_the_help_of_schema_does_not_offer_a_choice_that_is_none(tmp_path: Path) -> None:
    shown = " ".join(retouch("schema", "--help", home=tmp_path).stdout.replace("│", " ").split())
    assert "default: True" not in shown
    assert "limits and new snapshots of models" in shown


def test_messages_in_a_pipe_stay_on_one_line_however_long_they_are(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a very long name of a folder"] * 12)
    folder.mkdir(parents=True)
    (folder / "good.jpg").write_bytes(encoded(Image.new("RGB", (512, 512)), "JPEG"))
    good, bad = folder / "good.jpg.json", folder / "bad.jpg.json"
    sidecar = {"model": "wan2.7-image", "prompt": "x", "images": ["good.jpg"]}
    good.write_text(json.dumps(sidecar))
    bad.write_text(json.dumps(sidecar | {"model": 1}))
    done = retouch("validate", str(good), str(bad), home=tmp_path)
    assert done.returncode == 2
    assert [line for line in done.stdout.splitlines() if f"✓ {good}" in line]
    assert [line for line in done.stderr.splitlines() if line.endswith(f"✗ {bad}")]


def test_a_field_that_a_preset_s_variants_go_before_is_warned_of_before_anything_is_dropped(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "red.jpg").write_bytes(encoded(Image.new("RGB", (512, 512)), "JPEG"))
    preset = {"model": "wan2.7-image", "variants": [{"prompt": "blue"}, {"prompt": "green"}]}
    (folder / "_preset.json").write_text(json.dumps(preset))
    (folder / "red.jpg.json").write_text(json.dumps({"prompt": "mine"}))
    warning = (
        "prompt: of red.jpg.json has no effect: every entry of variants in _preset.json has its own"
    )

    validated = retouch("validate", str(folder), home=tmp_path)
    explained = retouch("explain", str(folder / "red.jpg"), home=tmp_path)
    as_json = retouch("explain", "--json", str(folder / "red.jpg"), home=tmp_path)

    assert (validated.returncode, explained.returncode) == (0, 0)
    assert validated.stderr.count(warning) == 1
    assert explained.stderr.count(warning) == 1
    found = [job["warnings"] for job in json.loads(as_json.stdout)["jobs"]]
    assert [[warning["field"] for warning in warnings] for warnings in found] == [["prompt"]] * 2
