"""The fault plan: each effect, when it comes, and what the log says of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from retouch.simulator.faults import Fault

from .support import (
    GENERATION,
    KEY,
    PHOTO_URL,
    SYNTHESIS,
    Api,
    Json,
    messages,
    picture_of,
    refusal,
    until_cut,
    wanx,
)

QUICK = "breakdown"


@pytest.fixture(autouse=True)
def _faults_end_with_the_test(api: Api) -> Iterator[None]:
    yield
    api.simulator.faults.clear()


def inject(api: Api, **fault: Any) -> None:
    api.simulator.faults.add(Fault(**fault))


def tasks_made(api: Api) -> int:
    return len(api.simulator.tasks)


def test_an_answer_instead_of_handling(api: Api) -> None:
    body = {"code": "Throttling", "message": "Requests throttling triggered.", "request_id": "r"}
    inject(api, route="create", effect="answer", status=429, body=body, times=2)
    before = tasks_made(api)
    for _ in range(2):
        answer = api.post(SYNTHESIS, wanx(prompt=QUICK))
        assert answer.status_code == 429
        assert answer.json() == body
    assert tasks_made(api) == before
    assert api.post(SYNTHESIS, wanx(prompt=QUICK)).status_code == 200
    assert [seen["fault"] for seen in api.simulator.requests[-3:]] == ["answer", "answer", None]


def test_html_instead_of_json_after_the_task_was_made(api: Api) -> None:
    inject(api, route="create", effect="replace_body", status=502, body="<html>bad</html>")
    before = tasks_made(api)
    answer = api.post(SYNTHESIS, wanx(prompt=QUICK))
    assert (answer.status_code, answer.text) == (502, "<html>bad</html>")
    assert answer.headers["content-type"].startswith("text/html")
    assert tasks_made(api) == before + 1


def test_a_connection_cut_before_makes_no_task(api: Api) -> None:
    inject(api, route="create", effect="cut_before")
    before = tasks_made(api)
    with pytest.raises(httpx.TransportError):
        api.post(SYNTHESIS, wanx(prompt=QUICK))
    assert tasks_made(api) == before
    assert api.simulator.requests[-1]["status"] is None


def test_a_connection_cut_after_has_made_a_task_that_the_list_shows(api: Api) -> None:
    inject(api, route="create", effect="cut_after")
    before = tasks_made(api)
    with pytest.raises(httpx.TransportError):
        api.post(SYNTHESIS, wanx(prompt=QUICK))
    assert tasks_made(api) == before + 1
    seen = api.simulator.requests[-1]
    assert seen["status"] is None
    assert seen["task_id"] == api.simulator.tasks[-1].id
    listed = api.http.get("tasks", params={"task_id": seen["task_id"]}).json()["data"]
    assert listed[0]["request_id"] == seen["request_id"]


@pytest.mark.parametrize("when", ["delay_before", "delay_after"])
def test_a_late_answer(api: Api, when: str) -> None:
    api.simulator.faults.add(Fault.model_validate({"route": "create", when: 0.5}))
    before = tasks_made(api)
    began = time.monotonic()
    assert api.post(SYNTHESIS, wanx(prompt=QUICK)).status_code == 200
    assert time.monotonic() - began >= 0.5
    inject(api, route="create", delay_after=30.0)
    with pytest.raises(httpx.ReadTimeout):
        api.http.post(
            SYNTHESIS,
            json=wanx(prompt=QUICK),
            headers={"X-DashScope-Async": "enable"},
            timeout=0.5,
        )
    assert tasks_made(api) == before + 2


def test_a_body_cut_off_by_the_connection(api: Api) -> None:
    url = api.finished(api.create(wanx()))["output"]["results"][0]["url"]
    inject(api, route="result", effect="truncate", keep_bytes=1000)
    with httpx.stream("GET", url) as answer:
        assert int(answer.headers["content-length"]) > 1000
        received = until_cut(answer)
    assert 0 < len(received) <= 1000
    picture_of(httpx.get(url))


def test_truncated_json(api: Api) -> None:
    task_id = api.create(wanx(prompt=QUICK))
    inject(api, route="query", effect="replace_body", body='{"output": {"task_st')
    answer = api.http.get(f"tasks/{task_id}")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_slow_download(api: Api) -> None:
    url = api.finished(api.create(wanx()))["output"]["results"][0]["url"]
    inject(api, route="result", effect="drip", bytes_per_second=20.0)
    with httpx.stream("GET", url) as answer:
        chunks = answer.iter_raw()
        began = time.monotonic()
        received = b""
        while len(received) < 10:
            received += next(chunks)
    assert time.monotonic() - began >= 0.3
    assert len(received) < 20


def test_another_type_or_a_redirect_for_a_result(api: Api) -> None:
    url = api.finished(api.create(wanx()))["output"]["results"][0]["url"]
    there = {"Location": "http://10.0.0.1/x.png"}
    inject(api, route="result", effect="answer", status=302, headers=there, body="")
    inject(api, route="result", effect="replace_body", headers={"Content-Type": "text/plain"})
    moved = httpx.get(url)
    assert (moved.status_code, moved.headers["location"]) == (302, "http://10.0.0.1/x.png")
    assert httpx.get(url).headers["content-type"] == "text/plain"


def test_states_and_fields_never_seen(api: Api) -> None:
    task_id = api.create(wanx())
    api.finished(task_id)
    patch = {"output": {"task_status": "SUSPENDED", "results": None, "mood": "good"}}
    inject(api, route="query", effect="merge", body=patch, times=3)
    for _ in range(3):
        output = api.query(task_id)["output"]
        assert output["task_status"] == "SUSPENDED"
        assert output["mood"] == "good"
        assert "results" not in output
        assert output["task_id"] == task_id
    assert api.query(task_id)["output"]["task_status"] == "SUCCEEDED"


def test_faults_by_model_method_and_count(api: Api) -> None:
    inject(api, model="wan2.7-image", method="POST", effect="answer", status=503, skip=1, times=2)
    body = messages("wan2.7-image", text=QUICK)
    statuses = []
    for _ in range(4):
        assert api.post(SYNTHESIS, wanx(prompt=QUICK)).status_code == 200
        statuses.append(api.post(GENERATION, body).status_code)
    assert statuses == [200, 503, 503, 200]


def test_a_key_revoked_for_every_request_until_it_is_mended(api: Api) -> None:
    body = {"code": "Arrearage", "message": "Access denied, overdue.", "request_id": "r"}
    inject(api, effect="answer", status=400, body=body, times=None)
    for answer in (api.post(SYNTHESIS, wanx()), api.http.get("tasks"), api.http.get("tasks/x")):
        assert refusal(answer)[:2] == (400, "Arrearage")
    assert api.simulator.requests[-1]["code"] == "Arrearage"
    api.simulator.faults.clear()
    assert api.http.get("tasks").status_code == 200


def control(api: Api, method: str, path: str, **more: Any) -> httpx.Response:
    return httpx.request(method, f"{api.simulator.origin}/_simulator/{path}", **more)


def test_the_plan_over_http(api: Api) -> None:
    plan: list[Json] = [{"route": "query", "effect": "answer", "status": 500}]
    shown = control(api, "POST", "faults", json=plan).json()["faults"]
    assert (shown[0]["route"], shown[0]["met"]) == ("query", 0)
    assert api.http.get("tasks/x").status_code == 500
    assert control(api, "GET", "faults").json()["faults"][0]["met"] == 1
    assert control(api, "DELETE", "faults").json() == {"faults": []}
    wrong: list[Json] = [{"route": "nowhere"}]
    refused = control(api, "POST", "faults", json=wrong)
    assert refused.status_code == 422
    assert "nowhere" in refused.text
    assert control(api, "POST", "faults", json=[{"effekt": "none"}]).status_code == 422


def test_the_control_routes_stand_outside_the_api(api: Api) -> None:
    assert api.http.get("_simulator/faults").status_code == 404


def test_the_log_keeps_no_key_and_shortens_images(api: Api) -> None:
    task_id = api.create(wanx(prompt=QUICK))
    since = api.simulator.requests[-1]["number"] - 1
    answer = control(api, "GET", "requests", params={"since": since})
    (seen,) = answer.json()["requests"]
    assert KEY not in answer.text
    assert seen["with_key"] is True
    assert "authorization" not in seen["headers"]
    assert seen["headers"]["x-dashscope-async"] == "enable"
    assert (seen["method"], seen["path"]) == ("POST", f"/api/v1/{SYNTHESIS}")
    assert (seen["route"], seen["model"]) == ("create", "wanx2.1-imageedit")
    assert (seen["status"], seen["task_id"]) == (200, task_id)
    shortened = seen["body"]["input"]["base_image_url"]
    assert shortened.startswith("data:image/png;base64,")
    assert str(len(PHOTO_URL)) in shortened
    assert len(shortened) < 80


def test_the_log_tells_whether_a_key_was_sent_with_a_download(api: Api) -> None:
    url = api.finished(api.create(wanx()))["output"]["results"][0]["url"]
    httpx.get(url)
    seen = api.simulator.requests[-1]
    assert (seen["route"], seen["with_key"], seen["query"]["Signature"]) == ("result", False, "…")


def test_the_clock_over_http(api: Api) -> None:
    before = control(api, "GET", "clock").json()["now"]
    after = control(api, "POST", "clock", json={"advance": 50}).json()["now"]
    assert after - before >= 50
    assert control(api, "POST", "clock", json={"advance": -1}).status_code == 422
    assert control(api, "POST", "clock", json=[]).status_code == 422
    assert control(api, "GET", "stats").json()["requests"]["create"] > 0
