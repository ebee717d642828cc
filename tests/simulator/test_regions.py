"""Regions and workspaces: which models there are, what the list names, who is let in."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from .conftest import StartApi
from .support import (
    GENERATION,
    KEY,
    MODELS,
    MULTIMODAL,
    SYNTHESIS,
    Api,
    Json,
    messages,
    refusal,
    wanx,
)

QUICK = "breakdown"
WAN26 = {"wan2.6-image"}
HAS = {
    "beijing": set(MODELS),
    "singapore": set(MODELS) - {"wanx2.1-imageedit"},
    "virginia": WAN26,
    "frankfurt": WAN26,
}
NAMES = {
    "beijing": "cn-beijing",
    "singapore": "ap-southeast-1",
    "virginia": "us-east-1",
    "frankfurt": "eu-central-1",
}
WORKSPACE = "X-DashScope-WorkSpace"


def sent(api: Api, model: str) -> httpx.Response:
    """A call of the model that draws nothing, on the endpoint that every region serves."""
    if model.startswith("wanx"):
        return api.post(SYNTHESIS, wanx(prompt=QUICK))
    body = messages(model, text=QUICK)
    if model.startswith("wan2.5"):
        body["input"] = {"prompt": QUICK, "images": ["oss://nothing"]}
        return api.post(SYNTHESIS, body)
    return api.post(MULTIMODAL if model.startswith("qwen") else GENERATION, body)


@pytest.mark.parametrize("region", HAS)
def test_a_region_has_its_models(start: StartApi, region: str) -> None:
    api = start(time_scale=0, limits=False, region=region)
    lacking = (400, "InvalidParameter", "Model not exist.")
    for model in MODELS:
        asked = {"action": "getPolicy", "model": model}
        policy = api.http.get("uploads", params=asked)
        if model in HAS[region]:
            assert "Model not exist" not in sent(api, model).text
            assert policy.status_code == 200
        else:
            assert refusal(sent(api, model)) == lacking
            assert refusal(policy) == lacking


@pytest.mark.parametrize("region", NAMES)
def test_the_list_names_the_region(start: StartApi, region: str) -> None:
    api = start(time_scale=0, region=region)
    api.finished(api.create(messages("wan2.6-image", text=QUICK), GENERATION))
    (row,) = api.http.get("tasks").json()["data"]
    assert row["region"] == NAMES[region]
    for name in NAMES.values():
        listed = api.http.get("tasks", params={"region": name}).json()
        assert listed["total"] == (1 if name == NAMES[region] else 0)


def test_frankfurt_serves_no_synchronous_calls(start: StartApi) -> None:
    api = start(time_scale=0, region="frankfurt")
    interleave: Json = {"enable_interleave": True}
    for parameters, headers in [({}, {}), (interleave, {"X-DashScope-Sse": "enable"})]:
        body = messages("wan2.6-image", text=QUICK, **parameters)
        assert refusal(api.post(MULTIMODAL, body, **headers)) == (
            403,
            "AccessDenied",
            "current user api does not support synchronous calls.",
        )
    virginia = start(time_scale=0, region="virginia")
    answer = virginia.post(MULTIMODAL, messages("wan2.6-image", text=QUICK))
    assert refusal(answer)[:2] == (500, "InternalError")


def test_a_key_is_of_one_region_and_so_is_a_task(start: StartApi) -> None:
    here = start(key="sk-here", time_scale=0, accounts={"sk-here": "one"})
    there = start(key="sk-there", accounts={"sk-there": "one"}, region="singapore")
    for api, key in [(here, "sk-there"), (there, "sk-here")]:
        assert api.http.get("tasks").status_code == 200
        answer = api.http.get("tasks", headers={"Authorization": f"Bearer {key}"})
        assert refusal(answer) == (401, "InvalidApiKey", "Invalid API-key provided.")
    task_id = here.create(wanx(prompt=QUICK))
    assert there.query(task_id)["output"]["task_status"] == "UNKNOWN"


def test_any_key_will_do_in_any_region_unless_keys_are_named(start: StartApi) -> None:
    api = start(key="sk-whatever", region="singapore")
    assert api.http.get("tasks").status_code == 200
    assert api.http.get("tasks", headers={"Authorization": "Bearer x"}).status_code == 401


# --- workspaces --------------------------------------------------------------------------------

CALLS: list[tuple[str, str, Any]] = [
    ("POST", SYNTHESIS, wanx(prompt=QUICK)),
    ("POST", GENERATION, messages("wan2.7-image", text=QUICK)),
    ("POST", MULTIMODAL, messages("qwen-image-edit-plus", text=QUICK)),
    ("GET", "tasks", None),
    ("GET", "tasks/some-id", None),
    ("POST", "tasks/some-id/cancel", None),
    ("GET", "uploads?action=getPolicy&model=wan2.7-image", None),
]


def called(api: Api, method: str, path: str, body: Any, **headers: str) -> httpx.Response:
    asked = {"X-DashScope-Async": "enable"} if path in (SYNTHESIS, GENERATION) else {}
    return api.http.request(method, path, json=body, headers=asked | headers)


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_workspace_is_accepted_and_noted(api: Api, method: str, path: str, body: Any) -> None:
    plain = called(api, method, path, body)
    assert api.simulator.requests[-1]["workspace"] is None
    named = called(api, method, path, body, **{WORKSPACE: "llm-any"})
    assert named.status_code == plain.status_code != 401
    assert api.simulator.requests[-1]["workspace"] == "llm-any"


def test_only_known_workspaces_are_let_in(start: StartApi) -> None:
    api = start(time_scale=0, workspaces=frozenset({"llm-one"}))
    for call in CALLS:
        for headers in ({}, {WORKSPACE: "llm-one"}, {"x-dashscope-workspace": "llm-one"}):
            assert called(api, *call, **headers).status_code != 401
        for other in ("llm-two", "LLM-ONE", ""):
            status, code, _ = refusal(called(api, *call, **{WORKSPACE: other}))
            assert (status, code) == (401, "NOT AUTHORIZED")
        api.simulator.clock.advance(60)


def test_a_wrong_key_is_told_before_a_wrong_workspace(start: StartApi) -> None:
    api = start(key="wrong", workspaces=frozenset({"llm-one"}))
    assert refusal(api.http.get("tasks", headers={WORKSPACE: "llm-two"}))[1] == "InvalidApiKey"


def test_tasks_belong_to_the_account_whatever_the_workspace(start: StartApi) -> None:
    api = start(time_scale=0, accounts={KEY: "one"})
    answer = called(api, *CALLS[0], **{WORKSPACE: "llm-one"})
    task_id = answer.json()["output"]["task_id"]
    other = api.http.get(f"tasks/{task_id}", headers={WORKSPACE: "llm-two"})
    assert other.json()["output"]["task_status"] != "UNKNOWN"


def test_a_further_snapshot_has_the_rules_of_its_model(start: StartApi) -> None:
    api = start(time_scale=0, snapshots={"wan2.7-image-2026-09-01": "wan2.7-image"})

    task_id = api.create(messages("wan2.7-image-2026-09-01", n=1, size="1K"), GENERATION)
    refused = api.post(GENERATION, messages("wan2.7-image-2026-09-02", n=1))

    assert api.finished(task_id)["output"]["task_status"] == "SUCCEEDED"
    assert refusal(refused)[2] == "Model not exist."
