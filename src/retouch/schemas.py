"""The schemas of what retouch tells the world: events, alerts and `job.json`. JSON Schema 2020-12.

They are strict: every field is named, and what holds of each state is said. An event's detail, a
message's body and a webhook's body are the same JSON, so one schema serves all three. `make docs`
writes them into the package, and the tests hold against them whatever is sent.

A new field is one line: of an event in `_EVENT` (with its narrower form in `_STATES` where a state
promises more), of `job.json` in `_RECORD`, of an alert in `_ALERT`. A new state is an entry of
`_STATES`, a new alert one of `_ALERTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from retouch.budget import Reason
from retouch.registry import Json, Mode
from retouch.sidecar import SCHEMA_ID

Schema = dict[str, Json]


@dataclass(frozen=True)
class Stage:
    """A state: what it means, and what holds of an event and of `job.json` in it."""

    says: str
    event: Mapping[str, Schema] = field(default_factory=dict)
    record: Mapping[str, Schema] = field(default_factory=dict)


def _object(
    properties: Mapping[str, Schema], *, says: str = "", optional: tuple[str, ...] = ()
) -> Schema:
    """An object of exactly these fields."""
    made: Schema = {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in properties if name not in optional],
        "properties": dict(properties),
    }
    return {"description": says, **made} if says else made


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


_NULL: Final[Schema] = {"type": "null"}
_TEXT: Final[Schema] = {"type": "string"}
_SOME_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_BOOLEAN: Final[Schema] = {"type": "boolean"}
_TRUE: Final[Schema] = {"const": True}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_COUNT_OR_NULL: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}
_SOME: Final[Schema] = {"type": "integer", "minimum": 1}
_NONE: Final[Schema] = {"const": 0}
_EMPTY: Final[Schema] = {"type": "array", "maxItems": 0}
_ANY_OBJECT: Final[Schema] = {"type": "object"}
_FORMAT: Final[Schema] = {"const": 1}
_JOB_ID: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]{16}$"}
_JOB_ID_OR_NULL: Final[Schema] = {"type": ["string", "null"], "pattern": "^[a-z0-9]{16}$"}
_TIME: Final[Schema] = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
}
_TIME_OR_NULL: Final[Schema] = {**_TIME, "type": ["string", "null"]}
_DECIMAL_OR_NULL: Final[Schema] = {
    "type": ["string", "null"],
    "pattern": r"^\d+(\.\d+)?([Ee][+-]?\d+)?$",
}
_LABELS: Final[Schema] = {"type": "object", "additionalProperties": _TEXT}
_MONEY: Final[dict[str, Schema]] = {
    "images": _COUNT,
    "price": _DECIMAL_OR_NULL,
    "amount": _DECIMAL_OR_NULL,
    "currency": _TEXT_OR_NULL,
}
_COST: Final = _object(
    _MONEY,
    says="Images billed × price; null where no price is configured.",
)
_SHA256: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


# --- events ---------------------------------------------------------------------------------------

_EVENT: Final[dict[str, Schema]] = {
    "format": _FORMAT,
    "stack": _SOME_TEXT,
    "job_id": _JOB_ID,
    "revision": {
        **_SOME,
        "description": "Counts the changes of the job: of two events the higher one is the newer. With "
        "job_id it names this change, however often it is received.",
    },
    "status": {},
    "model": _TEXT_OR_NULL,
    "function": _TEXT_OR_NULL,
    "lane": _TEXT_OR_NULL,
    "inbox": _object({"bucket": _TEXT, "key": _SOME_TEXT, "version_id": _TEXT_OR_NULL}),
    "outbox": _object(
        {"bucket": _TEXT, "folder": _SOME_TEXT, "record": _SOME_TEXT, "images": _list(_SOME_TEXT)}
    ),
    "labels": _LABELS,
    "images": {**_COUNT, "description": "Images in the outbox."},
    "failed_images": _COUNT,
    "problems": {**_COUNT, "description": "How many job.json names."},
    "missing": {**_list(_SOME_TEXT), "description": "The keys that the drop still lacks."},
    "failure": _or_null(_object({"code": _SOME_TEXT})),
    "doubt": {**_BOOLEAN, "description": "Money may have been spent for nothing or twice."},
    "held": _or_null(_object({"reason": {"enum": [*Reason]}})),
    "cost": _or_null(_COST),
    "at": _TIME,
}
"""Every field of an event's detail, in order."""

_CODE: Final = _object({"code": _SOME_TEXT})
_NOTHING_YET: Final[dict[str, Schema]] = {
    "images": _NONE,
    "failed_images": _NONE,
    "problems": _NONE,
    "failure": _NULL,
    "cost": _NULL,
}
_IN_LANE: Final[dict[str, Schema]] = {"model": _SOME_TEXT, "lane": _SOME_TEXT}
_FAILURE: Final = _object(
    {"code": _SOME_TEXT, "message": _TEXT, "request_id": _TEXT_OR_NULL},
    says="In the provider's words where it gave any.",
)
_FINDING: Final = _object(
    {"field": _TEXT, "message": _SOME_TEXT},
    says="The field's path inside the sidecar, empty for all of it, and what is wrong there.",
)
_CALLED: Final[dict[str, Schema]] = {
    "lane": _SOME_TEXT,
    "model": _SOME_TEXT,
    "request": _ANY_OBJECT,
}
_UNPAID: Final[dict[str, Schema]] = {"outputs": _EMPTY, "failure": _NULL, "cost": _NULL}

_STATES: Final[dict[str, Stage]] = {
    "WAITING": Stage(
        "The sidecar waits for images, an image for its sidecar, or a step for the one before it.",
        {**_NOTHING_YET, "lane": _NULL, "doubt": {"const": False}},
        {"lane": _NULL, "doubt": _NULL, **_UNPAID},
    ),
    "HELD": Stage(
        "Complete; waits for the budget of another day, or for `retouch release`.",
        {**_NOTHING_YET, **_IN_LANE, "held": _object({"reason": {"enum": [*Reason]}})},
        {**_CALLED, **_UNPAID, "held": _ANY_OBJECT},
    ),
    "QUEUED": Stage(
        "Waits for its turn in its lane.", {**_NOTHING_YET, **_IN_LANE}, {**_CALLED, **_UNPAID}
    ),
    "ADMITTED": Stage(
        "Has a place in its lane; about to be sent.",
        {**_NOTHING_YET, **_IN_LANE},
        {**_CALLED, **_UNPAID},
    ),
    "CREATING": Stage(
        "The call that bills is under way.", {**_NOTHING_YET, **_IN_LANE}, {**_CALLED, **_UNPAID}
    ),
    "RESOLVING": Stage(
        "That call's answer was lost; its task is being looked for in the provider's list.",
        {**_NOTHING_YET, **_IN_LANE, "doubt": _TRUE},
        {**_CALLED, **_UNPAID, "doubt": _SOME_TEXT},
    ),
    "RUNNING": Stage(
        "The provider works on it.",
        {**_NOTHING_YET, **_IN_LANE},
        {**_CALLED, **_UNPAID, "task_id": _SOME_TEXT},
    ),
    "FINALIZING": Stage(
        "The provider is done; results are being copied.",
        {**_NOTHING_YET, **_IN_LANE, "failure": _or_null(_CODE)},
        {**_CALLED, "outputs": _EMPTY, "cost": _NULL, "provider_status": _SOME_TEXT},
    ),
    "UNRESOLVED": Stage(
        "A call that bills was made and its answer lost; a person decides.",
        {**_NOTHING_YET, **_IN_LANE, "doubt": _TRUE},
        {**_CALLED, **_UNPAID, "doubt": _SOME_TEXT},
    ),
    "SUCCEEDED": Stage(
        "Every image is there; none where the model wrote text alone.",
        {**_IN_LANE, "failed_images": _NONE, "problems": _NONE, "failure": _NULL, "cost": _COST},
        {**_CALLED, "failure": _NULL, "image_failures": _EMPTY, "cost": _COST},
    ),
    "PARTIAL": Stage(
        "Some images are there.",
        {**_IN_LANE, "images": _SOME, "problems": _NONE, "cost": _COST},
        {**_CALLED, "outputs": {"minItems": 1}, "cost": _COST},
    ),
    "FAILED": Stage(
        "No image; failure says why. A step whose predecessor failed never had a lane.",
        {"model": _SOME_TEXT, "images": _NONE, "problems": _NONE, "failure": _CODE},
        {**_CALLED, "lane": _TEXT_OR_NULL, "outputs": _EMPTY, "failure": _FAILURE},
    ),
    "REJECTED": Stage(
        "The drop has mistakes, which job.json names; nothing was sent.",
        {**_NOTHING_YET, "problems": _SOME, "lane": _NULL, "doubt": {"const": False}},
        {"lane": _NULL, "doubt": _NULL, **_UNPAID, "problems": {"minItems": 1}},
    ),
    "CANCELED": Stage(
        "A person cancelled it; or it waited, and was replaced or is no longer there.",
        {"images": _NONE, "failed_images": _NONE},
        {"outputs": _EMPTY},
    ),
}
"""In the order of a job's life."""

STATES: Final = tuple(_STATES)


def event(status: str) -> Schema:
    """The schema of an event about a job that has come to a state, or of a note on a job in it."""
    return {
        "$schema": SCHEMA_ID,
        "title": f"retouch job event: {status}",
        "description": _STATES[status].says,
        **_event_in(status),
    }


def _event_in(status: str) -> Schema:
    return _object({**_EVENT, **_STATES[status].event, "status": {"const": status}})


def events() -> Schema:
    """The schema of an event about a job in whatever state, with each state's own as a definition."""
    return {
        "$schema": SCHEMA_ID,
        "title": "retouch job event",
        "description": "The detail of an event, the body of a message or of a webhook, about a job.",
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"enum": [*STATES]}},
        "allOf": [_where("status", status, {"$ref": f"#/$defs/{status}"}) for status in STATES],
        "$defs": {
            status: {"description": stage.says, **_event_in(status)}
            for status, stage in _STATES.items()
        },
    }


def _where(name: str, value: str, holds: Schema) -> Json:
    return {
        "if": {"properties": {name: {"const": value}}, "required": [name]},
        "then": holds,
    }


# --- alerts ---------------------------------------------------------------------------------------

_ALERT: Final[dict[str, Schema]] = {
    "format": _FORMAT,
    "stack": _SOME_TEXT,
    "alert_id": {
        **_SOME_TEXT,
        "description": "Names this alert, however often it is received.",
    },
    "alert": {},
    "about": {**_SOME_TEXT, "description": "A lane or a job."},
    "code": {**_TEXT_OR_NULL, "description": "The provider's, where it gave one."},
    "text": _SOME_TEXT,
    "at": _TIME,
}
"""Every field of an alert, in order."""

_LANE: Final[Schema] = {"type": "string", "pattern": "^[a-z]+:[A-Za-z0-9._-]+$"}
_ALERTS: Final[dict[str, Mapping[str, Schema]]] = {
    "lane-paused": {"about": _LANE, "code": _SOME_TEXT},
    "lane-resumed": {"about": _LANE, "code": _NULL},
    "outbox-in-inbox": {"about": _SOME_TEXT, "code": _NULL},
    "results-at-risk": {"about": _JOB_ID},
}

ALERTS: Final = tuple(_ALERTS)


def alert() -> Schema:
    """The schema of an alert: the detail of its event, the body of its message or webhook."""
    return {
        "$schema": SCHEMA_ID,
        "title": "retouch alert",
        **_object({**_ALERT, "alert": {"enum": [*ALERTS]}}, says="For whoever runs the stack."),
        "allOf": [
            _where("alert", name, {"properties": dict(holds)}) for name, holds in _ALERTS.items()
        ],
    }


# --- job.json -------------------------------------------------------------------------------------

_STORED: Final[dict[str, Schema]] = {
    "key": _SOME_TEXT,
    "version_id": _TEXT_OR_NULL,
    "sha256": _SHA256,
    "size": _COUNT,
}
_OUTPUT: Final = _object(
    {**_STORED, "width": _COUNT_OR_NULL, "height": _COUNT_OR_NULL, "number": _COUNT_OR_NULL}
)
_MENDED: Final = _object(
    {
        **_STORED,
        "mime": _SOME_TEXT,
        "width": _SOME,
        "height": _SOME,
        "changes": _list(_SOME_TEXT),
    }
)
_WAY: Final[Schema] = {"enum": ["public-url", "presigned-url", "data-url", "upload", None]}
_SOURCE: Final[Schema] = {
    "oneOf": [
        _object(
            {
                "key": _SOME_TEXT,
                "made_by": _JOB_ID_OR_NULL,
                "version_id": _TEXT_OR_NULL,
                "sha256": {**_SHA256, "type": ["string", "null"]},
                "size": _COUNT_OR_NULL,
                "mime": _TEXT_OR_NULL,
                "width": _COUNT_OR_NULL,
                "height": _COUNT_OR_NULL,
                "mended": _or_null(_MENDED),
                "sent_as": _WAY,
            },
            says="An object of the inbox.",
        ),
        _object(
            {"url": {"type": "string", "pattern": r"^https?://[^?]*$"}, "sent_as": _WAY},
            says="A public URL that is passed on, without its query.",
        ),
    ]
}

_REASON: Final[Schema] = {"enum": [*Reason]}
_PART: Final = _object(
    {
        "number": _COUNT,
        "of": _SOME,
        "variant": _TEXT_OR_NULL,
        "variants": {**_list(_SOME_TEXT), "description": "The names of all, in order."},
        "step": _COUNT_OR_NULL,
        "steps": _COUNT_OR_NULL,
        "previous": _JOB_ID_OR_NULL,
        "next": _JOB_ID_OR_NULL,
    },
    says="Which of the jobs of one drop it is.",
)

_RECORD: Final[dict[str, Schema]] = {
    "format": _FORMAT,
    "job_id": _JOB_ID,
    "status": {"enum": [*STATES]},
    "sidecar": _object({"key": _SOME_TEXT, "version_id": _TEXT_OR_NULL}),
    "part": _or_null(_PART),
    "presets": _list(_object({"key": _SOME_TEXT, "version_id": _SOME_TEXT})),
    "missing": _list(_SOME_TEXT),
    "problems": _list(_FINDING),
    "warnings": _list(_FINDING),
    "labels": _LABELS,
    "priority": {"type": "integer", "minimum": 0, "maximum": 9},
    "held": _or_null(
        _object(
            {
                "reason": _REASON,
                "scope": {**_TEXT, "description": "A preset's folder; empty for the stack."},
                "by_itself": _BOOLEAN,
                "message": _SOME_TEXT,
            }
        )
    ),
    "released": _TIME_OR_NULL,
    "lane": _TEXT_OR_NULL,
    "region": _TEXT_OR_NULL,
    "model": _TEXT_OR_NULL,
    "request": _or_null(
        _object(
            {
                "call": {"enum": [*Mode, None]},
                "path": _TEXT_OR_NULL,
                "function": _TEXT_OR_NULL,
                "prompt": _TEXT,
                "negative_prompt": _TEXT_OR_NULL,
                "parameters": _ANY_OBJECT,
            }
        )
    ),
    "seed": {"type": ["integer", "null"]},
    "fit": _BOOLEAN,
    "inputs": _list(_SOURCE),
    "mask": _or_null(_SOURCE),
    "times": _object(
        {
            "created": _TIME,
            "admitted": _TIME_OR_NULL,
            "sent": _TIME_OR_NULL,
            "lost": _TIME_OR_NULL,
            "running": _TIME_OR_NULL,
            "ended": _TIME_OR_NULL,
            "finished": _TIME_OR_NULL,
            "updated": _TIME,
            "provider": _object(
                {"submitted": _TIME, "scheduled": _TIME, "ended": _TIME},
                says="By the provider's clock, as far as it said.",
                optional=("submitted", "scheduled", "ended"),
            ),
        }
    ),
    "task_id": _TEXT_OR_NULL,
    "request_ids": _object({"create": _TEXT_OR_NULL, "result": _TEXT_OR_NULL}),
    "provider_status": _TEXT_OR_NULL,
    "outputs": _list(_OUTPUT),
    "text": _or_null(_OUTPUT),
    "original_prompts": _list(_TEXT),
    "rewritten_prompts": _list(_TEXT),
    "image_failures": _list(_FAILURE),
    "refusal": _or_null(_FAILURE),
    "failure": _or_null(_FAILURE),
    "doubt": _TEXT_OR_NULL,
    "outcome": _object(
        {
            "candidates": _list(_SOME_TEXT),
            "adopted": _BOOLEAN,
            "sent_again": _COUNT,
            "resolution": {"enum": ["adopt", "again", "fail", None]},
        }
    ),
    "cancel": _or_null(_object({"asked": _TIME, "answer": _TEXT_OR_NULL})),
    "retry_of": _JOB_ID_OR_NULL,
    "retried_as": _JOB_ID_OR_NULL,
    "usage": {"type": "object", "description": "The provider's own counts."},
    "estimate": _or_null(_COST),
    "chain_estimate": _or_null(_COST),
    "cost": _or_null(_COST),
    "charged": _list(
        _object({"day": _SOME_TEXT, "scopes": _list(_TEXT), **_MONEY}),
    ),
}
"""Every field of `job.json`, in order."""


def record() -> Schema:
    """The schema of `job.json`."""
    return {
        "$schema": SCHEMA_ID,
        "title": "retouch job.json",
        **_object(_RECORD, says="What is known of a job; it follows every change."),
        "allOf": [
            _where("status", status, {"properties": dict(stage.record)})
            for status, stage in _STATES.items()
        ],
    }


# --- as files -------------------------------------------------------------------------------------


def files() -> dict[str, Schema]:
    """Every schema, by the path of its file below the package's `data`."""
    of_states = {f"events/job.{status.lower()}.schema.json": event(status) for status in STATES}
    return {
        "job.schema.json": record(),
        "events/job.schema.json": events(),
        **of_states,
        "events/alert.schema.json": alert(),
    }
