"""For the same job, our client sends what the official package sends, but for differences with a name.

The jobs are the reference's own sidecars, one for each function and mode of each model. Both clients
talk to the simulator, whose journal is the witness. What it answers is scripted, so nothing is drawn.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dashscope
import pytest
from dashscope.aigc import image_generation

from retouch import examples
from retouch.examples import Example
from retouch.provider.client import DashScope, connection_pool
from retouch.provider.requests import build
from retouch.registry import MODELS, Body, Mode
from retouch.sidecar import Order, check
from retouch.simulator import SimulatorConfig
from retouch.simulator.faults import Fault
from retouch.simulator.testing import Simulator, running_simulator
from tests.simulator.support import photograph

KEY = "sk-judge"
WORKSPACE = "llm-judge"
# The package's annotations do not know of its own inherited methods, nor of which answers stream.
ImageSynthesis: Any = dashscope.ImageSynthesis
ImageGeneration: Any = image_generation.ImageGeneration
MultiModalConversation: Any = dashscope.MultiModalConversation

PACKAGE_ONLY = {
    "user-agent": "each names itself",
    "x-dashscope-sdk-client": "the package's own identification",
    "x-dashscope-sdk-session-id": "the package's own identification",
}
"""Headers that only the package sends, or sends with another value, and why that is right."""
TRANSPORT = {
    "host": "another port",
    "connection": "the HTTP library's",
    "accept-encoding": "the HTTP library's",
    "content-length": "follows from the body",
}
"""Headers of the HTTP libraries."""
PACKAGE_PARAMETERS = {"is_async": "the package leaks one of its own arguments (contract 7.1)"}
OUR_PARAMETERS = {
    "n": "sent always, because the provider's default may be four images (contract 8, 1 and 2)",
    "max_images": "sent always in interleave, so that the highest bill stands in the record",
    "stream": "asked for by the HTTP reference beside the header (contract 8, 15)",
}

TASK = {"output": {"task_id": "t-1", "task_status": "PENDING"}, "request_id": "r-1"}
CALL = {
    "output": {
        "choices": [
            {
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": [{"image": "https://x/1.png"}]},
            }
        ]
    },
    "usage": {"image_count": 1},
    "request_id": "r-1",
}
ANSWERS = (
    Fault(route="create", effect="answer", body=TASK, times=None),
    Fault(route="sync", effect="answer", body=CALL, times=None),
)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(time_scale=0, limits=False, faults=ANSWERS)) as started:
        yield started


@pytest.fixture(autouse=True)
def _sdk(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from dashscope.api_entities.http_request import close_shared_sync_session

    monkeypatch.setattr(dashscope, "base_http_api_url", simulator.base_url)
    monkeypatch.setattr(dashscope, "api_key", KEY)
    yield
    close_shared_sync_session()


@pytest.fixture
def client(simulator: Simulator) -> Iterator[DashScope]:
    with connection_pool() as pool:
        yield DashScope(simulator.base_url, lambda: KEY, http=pool, workspace=WORKSPACE)


def values_of(order: Order) -> tuple[list[str], str | None]:
    """An image for each name, every one different, and a mask if there is one."""
    images = [_data_url(name) for name in order.images or ()]
    return images, None if order.mask is None else _data_url(order.mask)


def _data_url(name: str) -> str:
    return "data:image/png;base64," + base64.b64encode(name.encode()).decode()


def order_of(example: Example) -> Order:
    found = check(example.sidecar)
    assert isinstance(found, Order), found
    return found


def ours(client: DashScope, order: Order, images: list[str], mask: str | None) -> None:
    request = build(
        MODELS[order.model],
        order.call,
        function=order.function,
        prompt=order.prompt,
        negative_prompt=order.negative_prompt,
        images=images,
        mask=mask,
        parameters=order.parameters,
    )
    if order.call is Mode.ASYNC:
        client.create(request)
    else:
        client.generate(request)


def theirs(example: Example, order: Order, images: list[str], mask: str | None) -> None:
    """The job as somebody would write it who follows the package's documentation."""
    given: Any = example.sidecar.get("parameters", {})
    more: dict[str, Any] = {"model": order.model, "workspace": WORKSPACE, **given}
    if order.negative_prompt is not None:
        more["negative_prompt"] = order.negative_prompt
    messages = [
        {
            "role": "user",
            "content": [*({"image": image} for image in images), {"text": order.prompt}],
        }
    ]
    model = MODELS[order.model]
    if model.body is Body.FLAT_2_1:
        if mask is not None:
            more["mask_image_url"] = mask
        ImageSynthesis.async_call(
            prompt=order.prompt, function=order.function, base_image_url=images[0], **more
        )
    elif model.body is Body.FLAT_2_5:
        ImageSynthesis.async_call(prompt=order.prompt, images=images, **more)
    elif order.call is Mode.ASYNC:
        ImageGeneration.async_call(messages=messages, **more)
    elif order.model.startswith("qwen"):
        MultiModalConversation.call(messages=messages, **more)
    elif given.get("enable_interleave"):
        list(ImageGeneration.call(messages=messages, stream=True, **more))
    else:
        ImageGeneration.call(messages=messages, **more)


def without(headers: dict[str, str], *named: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if not any(name in n for n in named)}


@pytest.mark.parametrize("example", examples.load(), ids=lambda e: f"{e.model} {e.name}")
def test_the_same_job_is_the_same_request(
    simulator: Simulator, client: DashScope, example: Example
) -> None:
    order = order_of(example)
    images, mask = values_of(order)
    seen = len(simulator.requests)

    theirs(example, order, images, mask)
    ours(client, order, images, mask)

    they, we = simulator.requests[seen:]
    assert (we["method"], we["path"], we["query"]) == (they["method"], they["path"], they["query"])
    assert (we["with_key"], they["with_key"]) == (True, True)
    assert without(we["headers"], PACKAGE_ONLY, TRANSPORT) == without(
        they["headers"], PACKAGE_ONLY, TRANSPORT
    )
    assert set(they["headers"]) - set(we["headers"]) <= set(PACKAGE_ONLY)
    assert set(we["headers"]) <= set(they["headers"])
    we_said, they_said = dict(we["body"]), dict(they["body"])
    our_parameters = we_said.pop("parameters")
    their_parameters = they_said.pop("parameters")
    assert we_said == they_said
    for name in PACKAGE_PARAMETERS:
        their_parameters.pop(name, None)
    for name in OUR_PARAMETERS:
        if name not in their_parameters:
            our_parameters.pop(name, None)
    assert our_parameters == their_parameters


def test_each_named_difference_is_there_and_is_no_larger(
    simulator: Simulator, client: DashScope
) -> None:
    """So that the list above cannot outlive what it excuses."""
    (async_edit,) = [e for e in examples.load() if (e.model, e.name) == ("wan2.6-image", "edit")]
    (stream,) = [e for e in examples.load() if e.name == "text-with-images-sync"]
    sent = []
    for example in (async_edit, stream):
        order = order_of(example)
        seen = len(simulator.requests)
        theirs(example, order, *values_of(order))
        ours(client, order, *values_of(order))
        sent += simulator.requests[seen:]
    they_async, we_async, they_stream, we_stream = (
        request["body"]["parameters"] for request in sent
    )

    assert (they_async, we_async) == ({"is_async": True}, {"n": 1})
    assert "stream" not in they_stream
    assert we_stream == {**they_stream, "n": 1, "stream": True}
    assert sent[0]["headers"]["user-agent"].startswith("dashscope/2.0.2")
    assert sent[1]["headers"]["user-agent"].startswith("retouch/")
    extra = set(sent[2]["headers"]) - set(sent[3]["headers"])
    assert extra == set(PACKAGE_ONLY) - {"user-agent"}


def test_queries_lists_and_cancels_are_the_same(simulator: Simulator, client: DashScope) -> None:
    seen = len(simulator.requests)

    ImageSynthesis.fetch("t-1", workspace=WORKSPACE)
    ImageSynthesis.cancel("t-1", workspace=WORKSPACE)
    client.query("t-1")
    client.cancel("t-1")

    they_query, they_cancel, we_query, we_cancel = simulator.requests[seen:]
    for they, we in ((they_query, we_query), (they_cancel, we_cancel)):
        assert (we["method"], we["path"], we["query"], we["body"]) == (
            they["method"],
            they["path"],
            they["query"],
            they["body"],
        )
        assert without(we["headers"], PACKAGE_ONLY, TRANSPORT) == without(
            they["headers"], PACKAGE_ONLY, TRANSPORT
        )


def test_a_local_file_goes_the_same_way(
    simulator: Simulator, client: DashScope, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    photograph().save(path)
    seen = len(simulator.requests)

    ImageSynthesis.async_call(
        model="wanx2.1-imageedit",
        prompt="green",
        function="colorization",
        base_image_url=f"file://{path}",
        workspace=WORKSPACE,
        n=1,
    )
    url = client.upload("wanx2.1-imageedit", "photo.png", path.read_bytes(), "image/png")
    order = Order(
        model="wanx2.1-imageedit",
        function="colorization",
        region=None,
        call=Mode.ASYNC,
        prompt="green",
        negative_prompt=None,
        images=("photo.png",),
        mask=None,
        fit=False,
        parameters={"n": 1},
        labels={},
        priority=5,
    )
    ours(client, order, [url], None)

    requests = simulator.requests[seen:]
    assert [r["route"] for r in requests] == ["policy", "upload", "create"] * 2
    for they, we in zip(requests[:3], requests[3:], strict=True):
        assert (we["method"], we["path"], we["query"]) == (
            they["method"],
            they["path"],
            they["query"],
        )
    they_create, we_create = requests[2], requests[5]
    for create in (they_create, we_create):
        assert create["headers"]["x-dashscope-ossresourceresolve"] == "enable"
        value = create["body"]["input"].pop("base_image_url")
        assert value.startswith("oss://")
        assert value.endswith("/photo.png")
    assert we_create["body"] == they_create["body"]
    assert requests[4]["with_key"] is False
