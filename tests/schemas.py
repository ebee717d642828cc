"""Holds what is told against the schemas that the package ships."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from retouch.records import ALERT_TYPE, EVENT_TYPE

jsonschema: Any = importlib.import_module("jsonschema")


@cache
def validator(name: str) -> Any:
    """Of a file below the package's `data`."""
    text = resources.files("retouch").joinpath(f"data/{name}.schema.json").read_text("utf-8")
    return jsonschema.Draft202012Validator(
        json.loads(text), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def wrong(name: str, document: Any) -> list[str]:
    """How a document breaks a schema: where, and what it says."""
    return [
        f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(document)
    ]


def _as_sent(document: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(document))


def check_event(detail_type: str, detail: Mapping[str, Any]) -> None:
    """The detail of an event, which is also the body of its message.

    Of a job it must keep to the schema of its state and to the one for all states alike.
    """
    sent = _as_sent(detail)
    if detail_type == ALERT_TYPE:
        names = ["events/alert"]
    else:
        assert detail_type == EVENT_TYPE
        names = ["events/job", f"events/job.{sent['status'].lower()}"]
    for name in names:
        assert not (found := wrong(name, sent)), (name, found, sent)


def check_message(body: Mapping[str, Any]) -> None:
    """The body of a message or of a webhook."""
    check_event(ALERT_TYPE if "alert" in body else EVENT_TYPE, body)


def check_record(body: bytes) -> None:
    """The bytes of a `job.json`."""
    sent = json.loads(body)
    assert not (found := wrong("job", sent)), (found, sent)
