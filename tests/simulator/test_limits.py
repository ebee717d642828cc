"""Request rates, and the counts by which a client's own pacing is judged."""

from __future__ import annotations

import pytest

from .conftest import StartApi
from .support import (
    GENERATION,
    MULTIMODAL,
    PHOTO_URL,
    SYNTHESIS,
    Api,
    Json,
    messages,
    refusal,
    wanx,
)

QUICK = "breakdown"
THROTTLED = (
    429,
    "Throttling.RateQuota",
    "Requests rate limit exceeded, please try again later.",
)


def body_of(model: str) -> Json:
    if model.startswith("wan2.5"):
        return {"model": model, "input": {"prompt": QUICK, "images": [PHOTO_URL]}}
    return wanx(prompt=QUICK) if model.startswith("wanx") else messages(model, text=QUICK)


@pytest.mark.parametrize(
    ("model", "endpoint", "count", "window"),
    [
        ("wanx2.1-imageedit", SYNTHESIS, 2, 1),
        ("wan2.5-i2i-preview", SYNTHESIS, 5, 1),
        ("wan2.7-image", GENERATION, 5, 1),
        ("wan2.7-image-pro", GENERATION, 5, 1),
        ("wan2.6-image", GENERATION, 5, 1),
        ("qwen-image-edit", MULTIMODAL, 2, 1),
        ("qwen-image-edit-plus", MULTIMODAL, 2, 1),
        ("qwen-image-edit-plus-2025-10-30", MULTIMODAL, 2, 1),
        ("qwen-image-edit-max", MULTIMODAL, 2, 60),
        ("qwen-image-edit-max-2026-01-16", MULTIMODAL, 2, 60),
    ],
)
def test_submissions_of_a_model(
    start: StartApi, model: str, endpoint: str, count: int, window: float
) -> None:
    api = start(time_scale=0)
    body = body_of(model)
    before = api.simulator.clock.now()
    answers = [api.post(endpoint, body) for _ in range(count)]
    assert 429 not in [answer.status_code for answer in answers]
    if api.simulator.clock.now() - before < window:
        assert refusal(api.post(endpoint, body)) == THROTTLED
        assert len(api.simulator.tasks) in (0, count)
    # Other models have limits of their own.
    other = "qwen-image-edit-plus-2025-12-15"
    assert api.post(MULTIMODAL, body_of(other)).status_code != 429
    api.simulator.clock.advance(window)
    assert api.post(endpoint, body).status_code != 429
    assert api.simulator.stats["max_creates_in_a_second"][model] <= count


def test_a_refused_request_does_not_prolong_the_wait(start: StartApi) -> None:
    api = start(time_scale=0)
    body = body_of("qwen-image-edit-max")
    for _ in range(2):
        api.post(MULTIMODAL, body)
    api.simulator.clock.advance(40)
    for _ in range(5):
        assert api.post(MULTIMODAL, body).status_code == 429
    api.simulator.clock.advance(20)
    assert api.post(MULTIMODAL, body).status_code != 429


@pytest.mark.parametrize(
    ("method", "path", "count"),
    [
        ("GET", "tasks/some-id", 20),
        ("GET", "tasks", 20),
        ("POST", "tasks/some-id/cancel", 20),
        ("GET", "uploads?action=getPolicy&model=wan2.7-image", 100),
    ],
)
def test_calls_a_second(start: StartApi, method: str, path: str, count: int) -> None:
    api = start()
    statuses = burst(api, method, path, count + 1)
    assert statuses[:count].count(429) == 0
    assert statuses[count] == 429
    # Each kind is counted by itself.
    assert api.http.get("tasks" if path != "tasks" else "tasks/x").status_code == 200
    api.simulator.clock.advance(1)
    assert api.http.request(method, path).status_code != 429


def burst(api: Api, method: str, path: str, count: int) -> list[int]:
    """Statuses of `count` requests within one second of the simulator's clock."""
    for _ in range(10):
        began = api.simulator.clock.now()
        statuses = [api.http.request(method, path).status_code for _ in range(count)]
        if api.simulator.clock.now() - began < 1:
            return statuses
        api.simulator.clock.advance(1)
    raise AssertionError("this machine is too slow for the test")


def test_limits_can_be_switched_off(start: StartApi) -> None:
    api = start(time_scale=0, limits=False)
    for _ in range(6):
        assert api.post(SYNTHESIS, wanx(prompt=QUICK)).status_code == 200
    assert api.simulator.stats["max_creates_in_a_second"]["wanx2.1-imageedit"] >= 3
    assert api.simulator.stats["max_queries_in_a_second"] == 0
    assert burst(api, "GET", "tasks/some-id", 25).count(200) == 25
    assert api.simulator.stats["max_queries_in_a_second"] >= 25


def test_counts(start: StartApi) -> None:
    api = start(time_scale=0)
    api.finished(api.create(wanx(n=3)))
    api.post(MULTIMODAL, messages("qwen-image-edit-plus", n=2, size="512*512"))
    api.post(SYNTHESIS, wanx(n=9))
    stats = api.simulator.stats
    assert stats["creates"] == {"wanx2.1-imageedit": 1, "qwen-image-edit-plus": 1}
    assert stats["images"] == {"wanx2.1-imageedit": 3, "qwen-image-edit-plus": 2}
    assert stats["max_running"] == {"wanx2.1-imageedit": 1, "qwen-image-edit-plus": 1}
    assert stats["refused"] == {"InvalidParameter": 1}
    assert stats["requests"] == {"create": 2, "query": 1, "sync": 1}


@pytest.mark.parametrize(
    ("model", "endpoint", "places"),
    [
        ("wanx2.1-imageedit", SYNTHESIS, 2),
        ("wan2.5-i2i-preview", SYNTHESIS, 5),
        ("wan2.6-image", GENERATION, 5),
        ("wan2.7-image", GENERATION, 5),
        ("wan2.7-image-pro", GENERATION, 5),
    ],
)
def test_places_of_a_model(start: StartApi, model: str, endpoint: str, places: int) -> None:
    api = start(at_concurrency_limit="refuse")
    for _ in range(places):
        api.until(api.create(body_of(model), endpoint), {"RUNNING"})
    api.simulator.clock.advance(1)
    assert refusal(api.post(endpoint, body_of(model)))[:2] == (429, "Throttling.Concurrency")
    assert api.simulator.stats["max_running"] == {model: places}
