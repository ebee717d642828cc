"""The shapes of the provider's answers, as JSON objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retouch.simulator.checks import Order
from retouch.simulator.clock import provider_timestamp
from retouch.simulator.errors import ProviderError
from retouch.simulator.narration import step_text
from retouch.simulator.tasks import Made, Outcome, Part, Task

Json = dict[str, Any]


def refusal(error: ProviderError, request_id: str) -> Json:
    """The flat body of a refused request."""
    return {"code": error.code, "message": error.message, "request_id": request_id}


def created(task: Task) -> Json:
    """The answer to an accepted asynchronous create."""
    return {
        "output": {"task_status": task.status, "task_id": task.id},
        "request_id": task.request_id,
    }


def unknown(task_id: str, request_id: str) -> Json:
    """The answer for a task that does not exist, or no longer."""
    return {
        "request_id": request_id,
        "output": {"task_id": task_id, "task_status": "UNKNOWN"},
    }


def queried(task: Task, request_id: str, host: str) -> Json:
    """The answer to a query, in the result protocol of the task's model."""
    answer: Json = {"request_id": request_id}
    output: Json = {"task_id": task.id, "task_status": task.status}
    in_results = task.order.mode.answer == "results"
    match task.status:
        case "SUCCEEDED":
            partial = len(task.images) < len(task.outcomes)
            # The documented sample of a partial failure has no times.
            if not (partial and in_results):
                output |= _times(task)
            if in_results:
                output["results"] = [_result(task.order, one, host) for one in task.outcomes]
            else:
                output |= {"finished": True} | content(task.order, task.outcomes, host)
            answer["usage"] = usage(task.order, task.outcomes)
        case "FAILED":
            if task.error is not None:
                output |= {"code": task.error.code, "message": task.error.message}
        case _:
            output |= _times(task)
    if in_results and task.status != "CANCELED":
        output["task_metrics"] = _metrics(task)
    return answer | {"output": output}


def called(order: Order, outcomes: Sequence[Outcome], request_id: str, host: str) -> Json:
    """The answer to a synchronous call."""
    finished = {"finished": True} if order.rules.typed_content else {}
    return {
        "output": content(order, outcomes, host) | finished,
        "usage": usage(order, outcomes),
        "request_id": request_id,
    }


def streamed(
    order: Order, part: Part, images: Sequence[Made], text: str, request_id: str, host: str
) -> Json:
    """One event of a stream: `part` alone, and the usage of all `images` and `text` so far."""
    if isinstance(part.content, Made):
        item = _item(order, "image", f"{host}{part.content.path}")
    else:
        item = _item(order, "text", part.content)
    choice = _choice([item], "stop" if part.last else "null")
    return {
        "output": {"choices": [choice], "finished": part.last},
        "usage": _with_text_tokens(order, images, text),
        "request_id": request_id,
    }


def event(number: int, kind: str, status: int, data: Json) -> bytes:
    """One server-sent event in the provider's spelling, which has no blanks behind the colons."""
    encoded = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"id:{number}\nevent:{kind}\n:HTTP_STATUS/{status}\ndata:{encoded}\n\n".encode()


def content(order: Order, outcomes: Sequence[Outcome], host: str) -> Json:
    """The `choices` of a messages model."""
    if order.mode.answer == "interleaved":
        mixed: list[Json] = []
        for number, outcome in enumerate(outcomes, start=1):
            mixed.append(_item(order, "text", step_text(number)))
            if isinstance(outcome, Made):
                mixed.append(_item(order, "image", f"{host}{outcome.path}"))
        return {"choices": [_choice(mixed)]}
    items = [_item(order, "image", f"{host}{image.path}") for image in _made(outcomes)]
    if order.mode.answer == "choice_each":
        return {"choices": [_choice([item]) for item in items]}
    return {"choices": [_choice(items)]}


def usage(order: Order, outcomes: Sequence[Outcome]) -> Json:
    """The `usage` object in the layout of the order's model."""
    images = _made(outcomes)
    if order.mode.usage == "size_text_tokens":
        text = "".join(step_text(number) for number in range(1, len(outcomes) + 1))
        return _with_text_tokens(order, images, text)
    return _USAGE[order.mode.usage](order, images)


def listed(task: Task, region: str) -> Json:
    """A task as the list shows it; times in epoch milliseconds."""
    endpoint = (task.order.rules.async_endpoint or "").removeprefix("services/aigc/")
    row = {
        "task_id": task.id,
        "status": task.status,
        "model_name": task.order.model,
        "region": region,
        "request_id": task.request_id,
        "api_key_id": "1500000",
        "caller_parent_id": task.account,
        "caller_uid": task.account,
        "gmt_create": _milliseconds(task.created),
        "user_api_unique_key": f"apikey:v1:aigc:{endpoint.replace('/', ':')}:{task.order.model}",
    }
    if task.scheduled is not None:
        row["start_time"] = _milliseconds(task.scheduled)
    if task.ended is not None:
        row["end_time"] = _milliseconds(task.ended)
    return row


def page(rows: Sequence[Json], total: int, number: int, size: int, request_id: str) -> Json:
    """One page of the task list; flat, unlike every other answer."""
    return {
        "total": total,
        "total_page": -(-total // size),
        "page_no": number,
        "page_size": size,
        "request_id": request_id,
        "data": list(rows),
    }


def _times(task: Task) -> Json:
    times = {"submit_time": task.created, "scheduled_time": task.scheduled, "end_time": task.ended}
    return {name: provider_timestamp(at) for name, at in times.items() if at is not None}


def _metrics(task: Task) -> Json:
    total = task.order.count
    failed = total - len(task.images) if task.ended is not None else 0
    return {"TOTAL": total, "SUCCEEDED": len(task.images), "FAILED": failed}


def _result(order: Order, outcome: Made | ProviderError, host: str) -> Json:
    if isinstance(outcome, ProviderError):
        return {"code": outcome.code, "message": outcome.message}
    result = {"url": f"{host}{outcome.path}"}
    if order.rules.prompt_in_results:
        result["orig_prompt"] = order.prompt
        if order.parameters.get("prompt_extend"):
            result["actual_prompt"] = f"{order.prompt} (simulated rewriting)"
    return result


def _item(order: Order, kind: str, value: str) -> Json:
    return ({"type": kind} if order.rules.typed_content else {}) | {kind: value}


def _choice(items: list[Json], finish_reason: str = "stop") -> Json:
    return {"finish_reason": finish_reason, "message": {"role": "assistant", "content": items}}


def _made(outcomes: Sequence[Outcome]) -> list[Made]:
    return [outcome for outcome in outcomes if isinstance(outcome, Made)]


def _milliseconds(moment: float) -> int:
    return int(moment * 1000)


def _size(images: Sequence[Made]) -> str:
    width, height = images[-1].size if images else (0, 0)
    return f"{width}*{height}"


def _count_only(order: Order, images: Sequence[Made]) -> Json:
    return {"image_count": len(images)}


def _with_sides(order: Order, images: Sequence[Made]) -> Json:
    width, height = images[-1].size
    return {"image_count": len(images), "width": width, "height": height}


def _with_no_tokens(order: Order, images: Sequence[Made]) -> Json:
    tokens = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    return {"image_count": len(images), "size": _size(images)} | tokens


def _with_tokens(order: Order, images: Sequence[Made]) -> Json:
    given = len(order.prompt) + 3600 * len(order.images)
    made = 2 * len(images)
    tokens = {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}
    return {"image_count": len(images), "size": _size(images)} | tokens


def _with_text_tokens(order: Order, images: Sequence[Made], text: str) -> Json:
    given, made = len(order.prompt), len(text)
    tokens = {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}
    return {"image_count": len(images), "size": _size(images)} | tokens


_USAGE: Mapping[str, Callable[[Order, Sequence[Made]], Json]] = {
    "count": _count_only,
    "sides": _with_sides,
    "size_no_tokens": _with_no_tokens,
    "size_tokens": _with_tokens,
}
