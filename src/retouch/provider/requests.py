"""Request bodies: one builder for each body protocol of the contract (1.4, 3.2-3.6). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retouch.registry import Body, Json, Mode, Model


@dataclass(frozen=True)
class Request:
    """A POST to the provider: path under the base URL, headers beside the common ones, body.

    `stream` says that the answer comes as server-sent events (contract 4.6).
    """

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Json]
    stream: bool = False


def build(
    model: Model,
    call: Mode,
    *,
    function: str | None,
    prompt: str,
    negative_prompt: str | None,
    images: Sequence[str],
    mask: str | None,
    parameters: Mapping[str, Json],
) -> Request:
    """The request that makes a job's task; images are URLs or data URLs, in the prompt's order."""
    given: dict[str, Json] = dict(parameters)
    content: dict[str, Json]
    match model.body:
        case Body.FLAT_2_1:
            content = {"function": function, "prompt": prompt, "base_image_url": images[0]}
            if mask is not None:
                content["mask_image_url"] = mask
        case Body.FLAT_2_5:
            content = {"prompt": prompt, "images": list(images)}
            if negative_prompt is not None:
                content["negative_prompt"] = negative_prompt
        case Body.MESSAGES:
            items: list[Json] = [{"image": image} for image in images]
            items.append({"text": prompt})
            content = {"messages": [{"role": "user", "content": items}]}
            if negative_prompt is not None:
                given["negative_prompt"] = negative_prompt
    stream = (
        call is Mode.SYNC
        and model.streams is not None
        and model.streams.holds(parameters, bool(images))
    )
    if stream:
        given["stream"] = True  # beside the header that the client sends (contract 8, 15)
    headers: dict[str, str] = {}
    if call is Mode.ASYNC:
        headers["X-DashScope-Async"] = "enable"
    if any(image.startswith("oss://") for image in (*images, mask or "")):
        headers["X-DashScope-OssResourceResolve"] = "enable"
    return Request(
        path=model.calls[call],
        headers=headers,
        body={"model": model.name, "input": content, "parameters": given},
        stream=stream,
    )
