"""Keys, endpoints, headers, bodies: what is refused before a model's own rules are asked."""

from __future__ import annotations

import httpx
import pytest

from .conftest import StartApi
from .support import GENERATION, KEY, MULTIMODAL, SYNTHESIS, Api, Json, messages, refusal, wanx

TEXT_TO_IMAGE = "services/aigc/text2image/image-synthesis"
ASYNC = {"X-DashScope-Async": "enable"}
QUICK = "breakdown"
URL_ERROR = (400, "InvalidParameter", "url error, please check url!")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "No API-key provided."),
        ("", "No API-key provided."),
        ("Bearer", "No API-key provided."),
        ("Basic sk-test", "No API-key provided."),
        ("Bearer test", "Invalid API-key provided."),
        ("Bearer sk-sp-plan", "Invalid API-key provided."),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", SYNTHESIS),
        ("POST", GENERATION),
        ("POST", MULTIMODAL),
        ("GET", "tasks"),
        ("GET", "tasks/"),
        ("GET", "tasks/some-id"),
        ("POST", "tasks/some-id/cancel"),
        ("GET", "uploads?action=getPolicy&model=wan2.7-image"),
    ],
)
def test_every_route_needs_a_valid_key(
    api: Api, method: str, path: str, header: str | None, message: str
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = httpx.request(method, f"{api.simulator.base_url}/{path}", headers=headers)
    assert refusal(answer) == (401, "InvalidApiKey", message)


def test_keys_can_be_named_and_accounts_do_not_see_each_other(start: StartApi) -> None:
    api = start(time_scale=0, accounts={KEY: "one", "sk-two": "two"})
    task_id = api.create(wanx(prompt=QUICK))
    api.finished(task_id)
    url = f"{api.simulator.base_url}/tasks"

    def two(method: str, path: str) -> httpx.Response:
        return httpx.request(method, url + path, headers={"Authorization": "Bearer sk-two"})

    assert two("GET", f"/{task_id}").json()["output"]["task_status"] == "UNKNOWN"
    assert two("GET", "").json()["total"] == 0
    assert refusal(two("POST", f"/{task_id}/cancel"))[1] == "UnsupportedOperation"
    other = httpx.get(url, headers={"Authorization": "Bearer sk-three"})
    assert refusal(other) == (401, "InvalidApiKey", "Invalid API-key provided.")


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (GENERATION, wanx()),
        (MULTIMODAL, wanx()),
        (TEXT_TO_IMAGE, wanx()),
        (SYNTHESIS, messages("wan2.7-image")),
        (TEXT_TO_IMAGE, messages("wan2.7-image")),
        (SYNTHESIS, messages("qwen-image-edit-plus")),
        (GENERATION, messages("qwen-image-edit-plus")),
        (MULTIMODAL, {"model": "wan2.5-i2i-preview"}),
        ("services/aigc/elsewhere", messages("wan2.7-image")),
    ],
)
def test_a_model_is_served_at_its_own_endpoints(api: Api, endpoint: str, body: Json) -> None:
    assert refusal(api.post(endpoint, body)) == URL_ERROR


@pytest.mark.parametrize("headers", [{}, {"X-DashScope-Async": "disable"}])
@pytest.mark.parametrize("body", [wanx(), messages("wan2.7-image"), messages("wan2.6-image")])
def test_asynchronous_endpoints_need_the_header(
    api: Api, body: Json, headers: dict[str, str]
) -> None:
    endpoint = SYNTHESIS if body["model"].startswith("wanx") else GENERATION
    assert refusal(api.http.post(endpoint, json=body, headers=headers)) == (
        403,
        "AccessDenied",
        "current user api does not support synchronous calls.",
    )


@pytest.mark.parametrize("model", ["wan2.7-image", "qwen-image-edit-plus", "qwen-image-edit"])
def test_the_synchronous_endpoint_refuses_the_header(api: Api, model: str) -> None:
    assert refusal(api.post(MULTIMODAL, messages(model), **ASYNC)) == (
        403,
        "AccessDenied",
        "Current user api does not support asynchronous calls.",
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"input": {}}, (400, "BadRequest.EmptyModel")),
        ({"model": "", "input": {}}, (400, "BadRequest.EmptyModel")),
        ({"model": "wanx2.1-imageedit"}, (400, "BadRequest.EmptyInput")),
        ({"model": "wanx2.1-imageedit", "input": None}, (400, "BadRequest.EmptyInput")),
        ({"model": "wanx2.1-imageedit", "input": "x"}, (400, "InvalidParameter")),
        (wanx() | {"parameters": []}, (400, "InvalidParameter")),
        (wanx() | {"callback": "http://example.com"}, (400, "InvalidParameter")),
        ([], (400, "BadRequest.IllegalInput")),
        ("wanx", (400, "BadRequest.IllegalInput")),
    ],
)
def test_bodies_that_lack_a_part(api: Api, body: object, expected: tuple[int, str]) -> None:
    assert refusal(api.post(SYNTHESIS, body))[:2] == expected


@pytest.mark.parametrize("model", ["wanx9", "wan2.7", "WAN2.7-image", 7, ["wan2.7-image"]])
def test_unknown_models(api: Api, model: object) -> None:
    answer = api.post(SYNTHESIS, wanx() | {"model": model})
    assert refusal(answer) == (400, "InvalidParameter", "Model not exist.")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b'{"model": NaN}', b"[" * 100_000, b"model=wanx2.1-imageedit"],
)
def test_bodies_that_are_not_json(api: Api, content: bytes) -> None:
    headers = ASYNC | {"Content-Type": "application/json"}
    answer = api.http.post(SYNTHESIS, content=content, headers=headers)
    assert refusal(answer)[:2] == (400, "BadRequest.IllegalInput")


def test_the_body_must_be_called_json(api: Api) -> None:
    answer = api.http.post(SYNTHESIS, data={"model": "wanx2.1-imageedit"}, headers=ASYNC)
    assert refusal(answer)[:2] == (400, "BadRequest.IllegalInput")


def test_a_body_that_is_too_long(start: StartApi) -> None:
    api = start(max_body_bytes=1000)
    assert api.post(SYNTHESIS, wanx()).status_code == 413


@pytest.mark.parametrize(("method", "path"), [("GET", "nothing"), ("GET", SYNTHESIS)])
def test_routes_that_do_not_exist(api: Api, method: str, path: str) -> None:
    status, _, _ = refusal(api.http.request(method, path))
    assert status in (404, 405)


@pytest.mark.parametrize(
    ("model", "endpoint", "limit"),
    [("wanx2.1-imageedit", SYNTHESIS, 800), ("wan2.7-image", GENERATION, 5000)],
)
def test_prompts_are_silently_cut_off(api: Api, model: str, endpoint: str, limit: int) -> None:
    """The trigger word is not read where it stands behind the limit."""

    def body(prompt: str) -> Json:
        if endpoint == SYNTHESIS:
            return wanx(prompt=prompt)
        return messages(model, text=prompt)

    start = f"{QUICK} ".ljust(limit - len(" forbidden"), "字")
    within = api.post(endpoint, body(f"{start} forbidden"))
    assert refusal(within)[1] == "DataInspectionFailed"
    assert api.post(endpoint, body(f"{start} x forbidden")).status_code == 200
