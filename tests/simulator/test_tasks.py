"""The life of tasks and synchronous calls, and the shape of every answer."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from .conftest import StartApi
from .support import (
    GENERATION,
    MULTIMODAL,
    PHOTO_URL,
    SYNTHESIS,
    Api,
    Json,
    eventually,
    messages,
    picture_of,
    refusal,
    wanx,
)

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}")
DAY = 24 * 3600
SMALL: dict[str, Any] = {"size": "768*768"}


def test_create_answers_pending(api: Api) -> None:
    answer = api.post(SYNTHESIS, wanx(prompt="breakdown")).json()
    assert set(answer) == {"output", "request_id"}
    assert set(answer["output"]) == {"task_status", "task_id"}
    assert answer["output"]["task_status"] == "PENDING"


def test_success_in_the_results_protocol(api: Api) -> None:
    answer = api.finished(api.create(wanx(n=2)))
    assert set(answer) == {"request_id", "output", "usage"}
    output = answer["output"]
    assert set(output) == {
        "task_id", "task_status", "submit_time", "scheduled_time", "end_time", "results",
        "task_metrics",
    }  # fmt: skip
    assert output["task_status"] == "SUCCEEDED"
    assert output["task_metrics"] == {"TOTAL": 2, "SUCCEEDED": 2, "FAILED": 0}
    assert answer["usage"] == {"image_count": 2}
    assert [set(result) for result in output["results"]] == [{"url"}, {"url"}]
    assert output["results"][0] != output["results"][1]


def test_times_are_of_utc_plus_8_without_zone(api: Api) -> None:
    output = api.finished(api.create(wanx()))["output"]
    moments = []
    for name in ("submit_time", "scheduled_time", "end_time"):
        assert TIMESTAMP.fullmatch(output[name])
        moments.append(datetime.strptime(f"{output[name]}000+0800", "%Y-%m-%d %H:%M:%S.%f%z"))
    assert moments == sorted(moments)
    assert abs(datetime.now(UTC) - moments[0]) < timedelta(minutes=1)


def test_success_in_the_choices_protocol_is_a_choice_each(api: Api) -> None:
    answer = api.finished(api.create(messages("wan2.7-image", n=2, **SMALL), GENERATION))
    output = answer["output"]
    assert set(output) == {
        "task_id", "task_status", "submit_time", "scheduled_time", "end_time", "finished",
        "choices",
    }  # fmt: skip
    assert output["finished"] is True
    assert len(output["choices"]) == 2
    for choice in output["choices"]:
        assert choice["finish_reason"] == "stop"
        assert choice["message"]["role"] == "assistant"
        (item,) = choice["message"]["content"]
        assert set(item) == {"type", "image"}
        assert item["type"] == "image"
    usage = answer["usage"]
    assert set(usage) == {
        "image_count", "size", "input_tokens", "output_tokens", "total_tokens"
    }  # fmt: skip
    assert (usage["image_count"], usage["size"]) == (2, "768*768")
    assert usage["input_tokens"] > 1000
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_a_sequential_set_is_one_choice_with_several_items(api: Api) -> None:
    body = messages("wan2.7-image", enable_sequential=True, n=3, **SMALL)
    answer = api.finished(api.create(body, GENERATION))
    (choice,) = answer["output"]["choices"]
    assert [set(item) for item in choice["message"]["content"]] == [{"type", "image"}] * 3
    assert answer["usage"]["image_count"] == 3


def test_defaults_of_n(api: Api) -> None:
    for body, endpoint, count in [
        (wanx(), SYNTHESIS, 1),
        (messages("wan2.7-image", **SMALL), GENERATION, 1),
        (messages("wan2.7-image", enable_sequential=True, **SMALL), GENERATION, 12),
        (messages("wan2.6-image", **SMALL), GENERATION, 4),
    ]:
        assert api.finished(api.create(body, endpoint))["usage"]["image_count"] == count


def test_wan27_called_synchronously_answers_without_task_fields(api: Api) -> None:
    answer = api.post(MULTIMODAL, messages("wan2.7-image", **SMALL)).json()
    assert set(answer) == {"output", "usage", "request_id"}
    assert set(answer["output"]) == {"choices", "finished"}
    assert answer["usage"]["size"] == "768*768"


def test_qwen_answers_untyped_items_in_one_choice(api: Api) -> None:
    body = messages("qwen-image-edit-plus", images=2, n=2, size="512*768")
    answer = api.post(MULTIMODAL, body).json()
    assert set(answer["output"]) == {"choices"}
    (choice,) = answer["output"]["choices"]
    assert [set(item) for item in choice["message"]["content"]] == [{"image"}, {"image"}]
    assert answer["usage"] == {"image_count": 2, "width": 512, "height": 768}


def test_wan25_returns_the_prompts(api: Api) -> None:
    body: Json = {
        "model": "wan2.5-i2i-preview",
        "input": {"prompt": "red", "images": [PHOTO_URL]},
        "parameters": {"n": 1, "size": "768*768"},
    }
    (result,) = api.finished(api.create(body))["output"]["results"]
    assert set(result) == {"url", "orig_prompt", "actual_prompt"}
    assert result["orig_prompt"] == "red"
    body["parameters"]["prompt_extend"] = False
    (result,) = api.finished(api.create(body))["output"]["results"]
    assert set(result) == {"url", "orig_prompt"}


def test_wan26_usage_and_interleaved_content(api: Api) -> None:
    answer = api.finished(api.create(messages("wan2.6-image", n=2, **SMALL), GENERATION))
    assert len(answer["output"]["choices"]) == 2
    assert answer["usage"] == {
        "image_count": 2, "size": "768*768",
        "input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
    }  # fmt: skip
    body = messages("wan2.6-image", enable_interleave=True, max_images=2, **SMALL)
    (choice,) = api.finished(api.create(body, GENERATION))["output"]["choices"]
    kinds = [item["type"] for item in choice["message"]["content"]]
    assert kinds == ["text", "image", "text", "image"]


def test_a_task_is_pending_then_running_then_done(start: StartApi) -> None:
    """wanx2.1 takes 5 to 15 s, here passed on the simulator's clock."""
    api = start(seed=1)
    task_id = api.create(wanx())
    answer = api.query(task_id)
    assert answer["output"]["task_status"] in ("PENDING", "RUNNING")
    api.until(task_id, {"RUNNING"})
    answer = api.query(task_id)
    assert "usage" not in answer
    assert set(answer["output"]) == {
        "task_id", "task_status", "submit_time", "scheduled_time", "task_metrics"
    }  # fmt: skip
    assert answer["output"]["task_metrics"] == {"TOTAL": 1, "SUCCEEDED": 0, "FAILED": 0}
    api.simulator.clock.advance(4)
    assert api.status(task_id) == "RUNNING"
    api.simulator.clock.advance(11)
    assert api.finished(task_id)["output"]["task_status"] == "SUCCEEDED"


def test_durations_follow_the_seed_and_the_scale(start: StartApi) -> None:
    def duration(**config: Any) -> float:
        api = start(**config)
        task_id = api.create(wanx(prompt="breakdown"))
        api.until(task_id, {"FAILED"})
        (task,) = api.simulator.tasks
        assert task.ended is not None
        assert task.scheduled is not None
        return task.ended - task.scheduled

    first = duration(seed=3, time_scale=0.01)
    assert 0.05 <= first < 0.25
    assert duration(seed=3, time_scale=0.01) == pytest.approx(first, abs=0.05)


def test_unknown_tasks_answer_200(api: Api) -> None:
    answer = api.http.get("tasks/0b1e6f0c-0000-4000-8000-000000000001")
    assert answer.status_code == 200
    assert answer.json()["output"] == {
        "task_id": "0b1e6f0c-0000-4000-8000-000000000001",
        "task_status": "UNKNOWN",
    }


def test_after_24_hours_tasks_are_unknown_and_results_are_gone(start: StartApi) -> None:
    api = start(time_scale=0)
    task_id = api.create(wanx())
    url = api.finished(task_id)["output"]["results"][0]["url"]
    api.simulator.clock.advance(DAY - 60)
    assert api.query(task_id)["output"]["task_status"] == "SUCCEEDED"
    assert httpx.get(url).status_code == 200
    api.simulator.clock.advance(120)
    assert set(api.query(task_id)["output"]) == {"task_id", "task_status"}
    assert api.query(task_id)["output"]["task_status"] == "UNKNOWN"
    gone = httpx.get(url)
    assert gone.status_code == 404
    assert "<Code>NoSuchKey</Code>" in gone.text


def test_results_need_their_signature_but_no_key(api: Api) -> None:
    url = api.finished(api.create(wanx()))["output"]["results"][0]["url"]
    assert url.startswith(f"{api.simulator.origin}/results/")
    assert {"Expires", "Signature"} <= set(httpx.URL(url).params)
    assert picture_of(httpx.get(url)).format == "PNG"
    bare, _, _ = url.partition("?")
    assert httpx.get(bare).status_code == 403
    forged = httpx.URL(url).copy_merge_params({"Expires": "9999999999"})
    assert httpx.get(forged).status_code == 403
    assert httpx.head(url).headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("word", "code"),
    [("forbidden", "DataInspectionFailed"), ("counterfeit", "IPInfringementSuspect")],
)
def test_moderation_at_create_makes_no_task(start: StartApi, word: str, code: str) -> None:
    api = start(time_scale=0)
    for endpoint, body in [
        (SYNTHESIS, wanx(prompt=f"a {word.upper()}, thing")),
        (GENERATION, messages("wan2.7-image", text=word)),
        (MULTIMODAL, messages("qwen-image-edit-plus", text=word)),
    ]:
        assert refusal(api.post(endpoint, body))[:2] == (400, code)
    assert api.simulator.tasks == []
    assert api.simulator.stats["refused"] == {code: 3}
    assert api.simulator.stats["creates"] == {}


def test_a_failed_task_in_the_results_protocol(api: Api) -> None:
    task_id = api.create(wanx(prompt="unsafe-output", n=4))
    answer = api.finished(task_id)
    assert set(answer) == {"request_id", "output"}
    assert answer["output"] == {
        "task_id": task_id,
        "task_status": "FAILED",
        "code": "DataInspectionFailed",
        "message": "Output data may contain inappropriate content.",
        "task_metrics": {"TOTAL": 4, "SUCCEEDED": 0, "FAILED": 4},
    }


def test_a_failed_task_in_the_choices_protocol(api: Api, start: StartApi) -> None:
    body = messages("wan2.7-image", text="unsafe-output")
    task_id = api.create(body, GENERATION)
    answer = api.finished(task_id)
    assert answer["output"] == {
        "task_id": task_id,
        "task_status": "FAILED",
        "code": "DataInspectionFailed",
        "message": "Output data may contain inappropriate content.",
    }
    other = start(time_scale=0, choices_failure="top_level")
    task_id = other.create(body, GENERATION)
    other.until(task_id, {"FAILED"})
    on_top = other.http.get(f"tasks/{task_id}")
    assert refusal(on_top)[:2] == (400, "DataInspectionFailed")


def test_the_moments_of_every_task_are_shown(start: StartApi) -> None:
    api = start(time_scale=0.01, accounts={"sk-test": "one"})
    shown = f"{api.simulator.origin}/_simulator/tasks"
    assert httpx.get(shown).json() == {"tasks": []}
    ids = [api.create(wanx(prompt=word)) for word in ("red", "unsafe-output")]
    early = httpx.get(shown).json()["tasks"]
    assert [task["task_id"] for task in early] == ids
    for task_id in ids:
        api.finished(task_id)
    tasks = httpx.get(shown).json()["tasks"]
    assert [task["status"] for task in tasks] == ["SUCCEEDED", "FAILED"]
    assert [task["created"] for task in tasks] == [task["created"] for task in early]
    for task in tasks:
        assert (task["account"], task["model"]) == ("one", "wanx2.1-imageedit")
        assert task["created"] <= task["started"] < task["ended"]


def test_a_task_that_waits_has_not_started(start: StartApi) -> None:
    api = start()  # in its own time, so that the first two still run
    for _ in range(2):
        api.until(api.create(wanx()), {"RUNNING"})
    api.simulator.clock.advance(1)  # the rate: two creates a second
    api.create(wanx())
    *running, waiting = httpx.get(f"{api.simulator.origin}/_simulator/tasks").json()["tasks"]
    assert all(task["started"] is not None and task["ended"] is None for task in running)
    assert waiting["status"] == "PENDING"
    assert waiting["started"] is None
    assert waiting["ended"] is None


@pytest.mark.parametrize(
    ("word", "code"),
    [("one-unsafe", "DataInspectionFailed"), ("one-timeout", "InternalError.Timeout")],
)
def test_one_of_several_images_fails(api: Api, word: str, code: str) -> None:
    billed = api.simulator.stats["images"].get("wanx2.1-imageedit", 0)
    answer = api.finished(api.create(wanx(prompt=word, n=3)))
    output = answer["output"]
    assert output["task_status"] == "SUCCEEDED"
    assert output["task_metrics"] == {"TOTAL": 3, "SUCCEEDED": 2, "FAILED": 1}
    assert [set(result) for result in output["results"]] == [
        {"url"}, {"url"}, {"code", "message"}
    ]  # fmt: skip
    assert output["results"][2]["code"] == code
    assert "submit_time" not in output
    assert answer["usage"] == {"image_count": 2}
    assert api.simulator.stats["images"]["wanx2.1-imageedit"] == billed + 2


def test_one_of_several_images_is_missing_from_choices(api: Api) -> None:
    body = messages("wan2.7-image", text="one-unsafe", n=3, **SMALL)
    answer = api.finished(api.create(body, GENERATION))
    assert len(answer["output"]["choices"]) == 2
    assert answer["usage"]["image_count"] == 2
    called = messages("qwen-image-edit-plus", text="one-unsafe", n=2, size="512*512")
    answer = api.post(MULTIMODAL, called).json()
    assert answer["usage"]["image_count"] == 1


def test_the_only_image_failing_fails_the_task(api: Api) -> None:
    output = api.finished(api.create(wanx(prompt="one-unsafe", n=1)))["output"]
    assert output["task_status"] == "FAILED"


def test_a_synchronous_call_refused_at_the_output(api: Api) -> None:
    for model in ("qwen-image-edit-plus", "wan2.7-image"):
        answer = api.post(MULTIMODAL, messages(model, text="unsafe-output"))
        assert refusal(answer) == (
            400,
            "DataInspectionFailed",
            "Output data may contain inappropriate content.",
        )


def test_a_synchronous_call_takes_its_time(start: StartApi) -> None:
    api = start(seed=1)
    body = messages("qwen-image-edit-plus", size="512*512")
    with ThreadPoolExecutor(1) as thread:
        began = api.simulator.clock.now()
        calling = thread.submit(api.post, MULTIMODAL, body)
        eventually(lambda: api.simulator.stats["running"].get("qwen-image-edit-plus") == 1)
        assert not calling.done()
        api.simulator.clock.advance(20)
        assert calling.result().status_code == 200
        assert api.simulator.clock.now() - began >= 20


def test_a_synchronous_call_is_cut_after_300_seconds(start: StartApi) -> None:
    api = start(seed=1, time_scale=1000)
    with ThreadPoolExecutor(1) as thread:
        body = messages("qwen-image-edit-plus", size="512*512")
        calling = thread.submit(api.post, MULTIMODAL, body)
        eventually(lambda: api.simulator.stats["running"].get("qwen-image-edit-plus") == 1)
        api.simulator.clock.advance(300)
        assert refusal(calling.result())[:2] == (500, "RequestTimeOut")
    eventually(lambda: api.simulator.stats["running"]["qwen-image-edit-plus"] == 0)
    assert api.simulator.stats["images"].get("qwen-image-edit-plus", 0) == 0


def test_a_task_without_a_result_after_three_hours_fails(start: StartApi) -> None:
    api = start(seed=1, time_scale=10_000)
    task_id = api.create(wanx())
    api.simulator.clock.advance(3 * 3600 - 1)
    api.until(task_id, {"RUNNING"})
    api.simulator.clock.advance(10)
    assert api.finished(task_id)["output"]["code"] == "InternalError.Timeout"


def test_tasks_above_the_concurrency_limit_wait_in_order(start: StartApi) -> None:
    api = start(seed=1)
    ids = []
    for _ in range(5):
        ids.append(api.create(wanx()))
        api.simulator.clock.advance(0.5)
    api.until(ids[1], {"RUNNING"})
    while [api.status(one) for one in ids] != ["SUCCEEDED"] * 5:
        api.simulator.clock.advance(1)
        time.sleep(0.02)
    # What was noted at the time: a look at several states at once is never one moment.
    tasks = {task.id: task for task in api.simulator.tasks}
    scheduled = [tasks[one].scheduled or 0.0 for one in ids]
    assert scheduled == sorted(scheduled)
    assert api.simulator.stats["max_running"] == {"wanx2.1-imageedit": 2}
    assert api.simulator.stats["running"] == {"wanx2.1-imageedit": 0}


def test_tasks_above_the_concurrency_limit_can_be_refused(start: StartApi) -> None:
    api = start(seed=1, at_concurrency_limit="refuse")
    for _ in range(2):
        api.until(api.create(wanx()), {"RUNNING"})
    api.simulator.clock.advance(1)
    assert refusal(api.post(SYNTHESIS, wanx()))[:2] == (429, "Throttling.Concurrency")
    # Another model has places of its own.
    api.create(messages("wan2.7-image", **SMALL), GENERATION)
    api.simulator.clock.advance(15)
    eventually(lambda: api.simulator.stats["running"]["wanx2.1-imageedit"] == 0)
    api.create(wanx())


def test_only_a_pending_task_can_be_cancelled(start: StartApi) -> None:
    api = start(seed=1)
    first = [api.create(wanx()) for _ in range(2)]
    for task_id in first:
        api.until(task_id, {"RUNNING"})
    api.simulator.clock.advance(1)
    waiting = api.create(wanx())
    answer = api.http.post(f"tasks/{waiting}/cancel")
    assert answer.status_code == 200
    assert set(answer.json()) == {"request_id"}
    output = api.query(waiting)["output"]
    assert output["task_status"] == "CANCELED"
    refused = (
        400,
        "UnsupportedOperation",
        "Failed to cancel the task, please confirm if the task is in PENDING status.",
    )
    for task_id in (first[0], waiting, "no-such-task"):
        assert refusal(api.http.post(f"tasks/{task_id}/cancel")) == refused
    # The place that the cancelled task waited for is free for the next.
    api.simulator.clock.advance(15)
    api.until(first[0], {"SUCCEEDED"})
    last = api.create(wanx())
    api.until(last, {"RUNNING"})


def listed(api: Api, path: str = "tasks", **query: str) -> Json:
    answer = api.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_the_list_is_flat_and_gives_no_results(api: Api) -> None:
    task_id = api.create(wanx())
    api.finished(task_id)
    for path in ("tasks", "tasks/"):
        page = listed(api, path, task_id=task_id)
        assert {k: v for k, v in page.items() if k not in ("data", "request_id")} == {
            "total": 1, "total_page": 1, "page_no": 1, "page_size": 10,
        }  # fmt: skip
        (row,) = page["data"]
        assert row["task_id"] == task_id
        assert row["status"] == "SUCCEEDED"
        assert row["model_name"] == "wanx2.1-imageedit"
        assert row["user_api_unique_key"] == (
            "apikey:v1:aigc:image2image:image-synthesis:wanx2.1-imageedit"
        )
        assert "results" not in row
        moments = [row["gmt_create"], row["start_time"], row["end_time"]]
        assert moments == sorted(moments)
        assert abs(moments[0] / 1000 - time.time()) < 60


def test_the_list_names_the_creating_request(start: StartApi) -> None:
    api = start(time_scale=0)
    created = api.post(SYNTHESIS, wanx()).json()
    (row,) = listed(api)["data"]
    assert row["request_id"] == created["request_id"]


def test_the_list_is_filtered_and_paged(start: StartApi) -> None:
    api = start(time_scale=0, limits=False)
    made = [api.create(wanx(prompt="breakdown")) for _ in range(12)]
    other = api.create(messages("wan2.7-image", text="red", **SMALL), GENERATION)
    for task_id in [*made, other]:
        api.finished(task_id)
    first = listed(api)
    assert (first["total"], first["total_page"], len(first["data"])) == (13, 2, 10)
    second = listed(api, page_no="2")
    assert len(second["data"]) == 3
    ids = [row["task_id"] for row in first["data"] + second["data"]]
    assert ids == [other, *reversed(made)]
    assert listed(api, page_no="3")["data"] == []
    assert listed(api, model_name="wan2.7-image")["total"] == 1
    assert listed(api, status="FAILED")["total"] == 12
    assert listed(api, status="CANCELED")["total"] == 0
    assert listed(api, page_size="1", status="FAILED")["total_page"] == 12
    assert listed(api, region="cn-beijing", api_key_id="anything")["total"] == 13


def stamp(moment: float) -> str:
    zone = timedelta(hours=8)
    return (datetime.fromtimestamp(moment, UTC) + zone).strftime("%Y%m%d%H%M%S")


def test_the_list_has_a_window_of_24_hours_in_utc_plus_8(start: StartApi) -> None:
    api = start(time_scale=0)
    api.create(wanx())
    api.simulator.clock.advance(3600)
    now = api.simulator.clock.now()
    assert listed(api)["total"] == 1
    assert listed(api, start_time=stamp(now - 3700))["total"] == 1
    assert listed(api, start_time=stamp(now - 1800))["total"] == 0
    assert listed(api, end_time=stamp(now - 1800))["total"] == 1
    assert listed(api, end_time=stamp(now - 3700))["total"] == 0
    assert listed(api, start_time=stamp(now - 3700), end_time=stamp(now))["total"] == 1


@pytest.mark.parametrize(
    "query",
    [
        {"page_no": "0"},
        {"page_no": "x"},
        {"page_size": "0"},
        {"page_size": "101"},
        {"status": "DONE"},
        {"start_time": "2026-01-01"},
        {"start_time": "20261301000000"},
        {"start_time": "20260101000000", "end_time": "20260102000001"},
        {"start_time": "20260102000000", "end_time": "20260101000000"},
    ],
)
def test_the_list_refuses(api: Api, query: dict[str, str]) -> None:
    assert refusal(api.http.get("tasks", params=query))[:2] == (400, "InvalidParameter")
