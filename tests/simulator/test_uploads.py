"""Temporary uploads: policy, form post, and `oss://` keys."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from .conftest import StartApi
from .support import PHOTO, SYNTHESIS, Api, Json, refusal, wanx

MODEL = "wanx2.1-imageedit"
QUICK = "breakdown"
RESOLVE = {"X-DashScope-OssResourceResolve": "enable"}


def policy(api: Api, model: str = MODEL) -> Json:
    answer = api.http.get("uploads", params={"action": "getPolicy", "model": model})
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"request_id", "data"}
    return dict(answer.json()["data"])


def form(granted: Json, name: str = "a.png") -> dict[str, str]:
    return {
        "OSSAccessKeyId": granted["oss_access_key_id"],
        "Signature": granted["signature"],
        "policy": granted["policy"],
        "key": f"{granted['upload_dir']}/{name}",
        "x-oss-object-acl": granted["x_oss_object_acl"],
        "x-oss-forbid-overwrite": granted["x_oss_forbid_overwrite"],
        "success_action_status": "200",
    }


def posted(granted: Json, data: bytes = PHOTO, **changes: str) -> httpx.Response:
    fields: Any = form(granted) | changes
    return httpx.post(granted["upload_host"], data=fields, files={"file": ("a.png", data)})


def used(api: Api, key: str, **headers: str) -> httpx.Response:
    body = wanx(prompt=QUICK, input_={"base_image_url": f"oss://{key}"})
    return api.post(SYNTHESIS, body, **headers)


def test_the_policy(api: Api) -> None:
    granted = policy(api)
    assert set(granted) == {
        "policy", "signature", "upload_dir", "upload_host", "expire_in_seconds",
        "max_file_size_mb", "capacity_limit_mb", "oss_access_key_id", "x_oss_object_acl",
        "x_oss_forbid_overwrite",
    }  # fmt: skip
    assert granted["expire_in_seconds"] == 300
    assert granted["max_file_size_mb"] == 100
    assert granted["x_oss_object_acl"] == "private"
    assert granted["x_oss_forbid_overwrite"] == "true"


@pytest.mark.parametrize(
    "query", [{}, {"action": "get"}, {"action": "getPolicy"}, {"action": "getPolicy", "model": "x"}]
)
def test_the_policy_call_refuses(api: Api, query: dict[str, str]) -> None:
    assert refusal(api.http.get("uploads", params=query))[:2] == (400, "InvalidParameter")


def test_an_uploaded_file_is_usable_with_the_header_only(api: Api) -> None:
    granted = policy(api)
    answer = posted(granted)
    assert (answer.status_code, answer.content) == (200, b"")
    key = form(granted)["key"]
    assert used(api, key, **RESOLVE).status_code == 200
    status, code, message = refusal(used(api, key))
    assert (status, code) == (400, "InvalidParameter")
    assert message.startswith("The provided URL does not appear to be valid")
    assert used(api, f"{granted['upload_dir']}/b.png", **RESOLVE).status_code == 400


def test_a_file_serves_only_the_model_it_was_uploaded_for(api: Api) -> None:
    granted = policy(api, "wan2.7-image")
    assert posted(granted).status_code == 200
    assert used(api, form(granted)["key"], **RESOLVE).status_code == 400


def test_a_file_serves_only_the_account_that_uploaded_it(start: StartApi) -> None:
    api = start(accounts={"sk-test": "one", "sk-two": "two"})
    granted = policy(api)
    assert posted(granted).status_code == 200
    key = form(granted)["key"]
    assert used(api, key, **RESOLVE, Authorization="Bearer sk-two").status_code == 400
    assert used(api, key, **RESOLVE).status_code == 200


def test_a_name_cannot_be_used_twice(api: Api) -> None:
    granted = policy(api)
    assert posted(granted).status_code == 200
    again = posted(granted)
    assert again.status_code == 409
    assert "<Code>FileAlreadyExists</Code>" in again.text
    assert posted(granted, key=f"{granted['upload_dir']}/b.png").status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"Signature": "x"},
        {"OSSAccessKeyId": "x"},
        {"policy": "x"},
        {"key": "elsewhere/a.png"},
        {"x-oss-object-acl": "public-read"},
        {"x-oss-forbid-overwrite": "false"},
    ],
)
def test_the_form_must_carry_the_policy(api: Api, change: dict[str, Any]) -> None:
    assert posted(policy(api), **change).status_code == 403


def test_the_file_must_come_last(api: Api) -> None:
    granted = policy(api)
    fields = [(name, (None, value)) for name, value in form(granted).items()]
    parts: Any = [("file", ("a.png", PHOTO)), *fields]
    assert httpx.post(granted["upload_host"], files=parts).status_code == 400


def test_one_file_a_form(api: Api) -> None:
    granted = policy(api)
    fields: Any = form(granted)
    two: Any = [("file", ("a.png", PHOTO)), ("file", ("b.png", PHOTO))]
    refused = httpx.post(granted["upload_host"], data=fields, files=two)
    assert refused.status_code == 400
    assert "<Code>MalformedPOSTRequest</Code>" in refused.text


@pytest.mark.parametrize(("asked", "status"), [("201", 201), ("204", 204), ("teapot", 204)])
def test_the_form_chooses_the_status(api: Api, asked: str, status: int) -> None:
    assert posted(policy(api), success_action_status=asked).status_code == status


def test_policy_and_file_expire(start: StartApi) -> None:
    api = start()
    granted = policy(api)
    assert posted(granted).status_code == 200
    api.simulator.clock.advance(301)
    late = posted(granted, key=f"{granted['upload_dir']}/late.png")
    assert late.status_code == 403
    assert "Policy expired" in late.text
    key = form(granted)["key"]
    api.simulator.clock.advance(47 * 3600)
    assert used(api, key, **RESOLVE).status_code == 200
    api.simulator.clock.advance(3600)
    assert used(api, key, **RESOLVE).status_code == 400


def test_memory_for_uploads_is_bounded(start: StartApi) -> None:
    api = start(max_upload_bytes=len(PHOTO) + 10)
    granted = policy(api)
    assert posted(granted).status_code == 200
    assert posted(granted, key=f"{granted['upload_dir']}/b.png").status_code == 400
