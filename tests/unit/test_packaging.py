"""The template as it is deployed: every local path uploaded, the layer without what functions lack."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest

from retouch.local.packaging import on_buckets, package, project_root


def packaged() -> tuple[dict[str, Any], dict[str, bytes]]:
    sent: dict[str, bytes] = {}

    def upload(name: str, data: bytes) -> str:
        sent[name] = data
        return f"s3://artifacts/{name}"

    return package(project_root(), upload), sent


def names_in(uri: str, sent: dict[str, bytes]) -> list[str]:
    data = sent[uri.removeprefix("s3://artifacts/")]
    return zipfile.ZipFile(io.BytesIO(data)).namelist()


def test_every_function_is_its_handler_and_the_layer_is_the_library() -> None:
    template, sent = packaged()
    functions = {
        name: resource["Properties"]["CodeUri"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    folders = {path.parent.name for path in (project_root() / "functions").glob("*/app.py")}
    assert {name.removesuffix("Function").lower() for name in functions} == folders
    for uri in functions.values():
        assert names_in(uri, sent) == ["app.py"]
    layer = names_in(template["Resources"]["Library"]["Properties"]["ContentUri"], sent)
    assert "python/retouch/steps/submit.py" in layer
    assert "python/retouch/data/prices.json" in layer
    assert "python/retouch/data/sheet.css" in layer
    parts = {name.split("/")[2] for name in layer}
    assert not parts & {"cli", "local", "samples", "simulator"}


def test_the_state_machine_is_uploaded_as_it_is() -> None:
    template, sent = packaged()
    uri = template["Resources"]["EditJob"]["Properties"]["DefinitionUri"]
    machine = json.loads(sent[uri.removeprefix("s3://artifacts/")])
    assert machine["QueryLanguage"] == "JSONata"


def test_the_same_sources_give_the_same_artifacts() -> None:
    assert set(packaged()[1]) == set(packaged()[1])


def test_a_template_on_buckets_that_are_there_makes_none_and_names_them() -> None:
    template, _ = packaged()
    text = json.dumps(on_buckets(template, {"Inbox": "kept-inbox", "Outbox": "kept-outbox"}))
    placed = json.loads(text)
    types = [resource["Type"] for resource in placed["Resources"].values()]
    assert "AWS::S3::Bucket" not in types
    assert len(types) == len(template["Resources"]) - 2
    for left in ('"Inbox"', '"Outbox"', "${Inbox", "${Outbox"):
        assert left not in text
    assert placed["Outputs"]["InboxBucket"]["Value"] == "kept-inbox"
    environment = placed["Globals"]["Function"]["Environment"]["Variables"]
    assert environment["RETOUCH_OUTBOX"] == "kept-outbox"
    assert '"arn:aws:s3:::kept-inbox"' in text
    assert '{"Fn::Sub": "arn:aws:s3:::kept-outbox/*"}' in text


def test_an_attribute_of_a_bucket_that_cannot_be_told_is_refused() -> None:
    template = {"Resources": {"Inbox": {}, "A": {"Fn::GetAtt": ["Inbox", "DomainName"]}}}
    with pytest.raises(ValueError, match=r"Inbox\.DomainName"):
        on_buckets(template, {"Inbox": "kept"})
