"""The provider's HTTP interface as an ASGI app.

`create_app` builds it; `Provider` holds what it knows and answers each route. What a request must
look like is decided in `checks.py` and `images.py`, what an answer looks like in `answers.py`.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.sax.saxutils import escape

import httpx
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from retouch.simulator import answers, errors, moderation
from retouch.simulator.checks import Order, read_order
from retouch.simulator.clock import PROVIDER_ZONE, Clock
from retouch.simulator.config import SimulatorConfig
from retouch.simulator.errors import ProviderError
from retouch.simulator.faults import FaultPlan, read_plan
from retouch.simulator.images import Picture, check_mask, read_image
from retouch.simulator.journal import Journal, SeenRequest
from retouch.simulator.limits import RateLimiter
from retouch.simulator.results import RESULTS_PATH, ResultStore
from retouch.simulator.rules import (
    ENDPOINTS,
    MODELS,
    MULTIMODAL_GENERATION,
    POLICY_RATE,
    QUERY_RATE,
    REGIONS,
    Model,
)
from retouch.simulator.tasks import STATUSES, Inputs, Made, Part, Task, TaskStore, Workshop
from retouch.simulator.uploads import MAX_FILE_MB, UPLOAD_PATH, UploadStore
from retouch.simulator.wire import API_PATH, CONTROL_PATH, SEEN, Wire

_DAY = 24 * 3600.0
# What a form may ask to be answered with; object storage passes over anything else.
_UPLOADED = {"200": 200, "201": 201, "204": 204}
# Drawing is CPU work; more threads than this only make every picture slower.
_DRAWING_THREADS = 2


def create_app(config: SimulatorConfig | None = None) -> Starlette:
    """The simulated provider as an ASGI app; its `Provider` is `app.state.provider`.

    Faults that cut connections need the server of `retouch.simulator.serving`.
    """
    provider = Provider(config or SimulatorConfig())
    app = Starlette(
        routes=provider.routes(),
        middleware=[Middleware(Wire, provider=provider)],
        exception_handlers={ProviderError: _refuse, HTTPException: _refuse_route},
        lifespan=provider.lifespan,
    )
    app.router.redirect_slashes = False
    app.state.provider = provider
    return app


class Provider:
    """What the simulated provider knows, and its answer to each route.

    Attributes:
        config: The choices it was started with.
        clock: Its time, which can be moved forward.
        journal: The requests seen, and counts.
        faults: The faults in force.
        tasks: The tasks of the last 24 h.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.clock = config.clock or Clock()
        self.journal = Journal()
        self.faults = FaultPlan(config.faults)
        self.tasks = TaskStore(self.clock)
        self._region = REGIONS[config.region]
        self._uploads = UploadStore(self.clock, config.max_upload_bytes)
        self._limiter = RateLimiter(self.clock, enforced=config.limits)
        self._rng = random.Random(config.seed)  # noqa: S311
        self._results: ResultStore
        self._workshop: Workshop
        self._client: httpx.AsyncClient

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Hold the folder of results, the drawing threads and the fetching client."""
        config = self.config
        with (
            tempfile.TemporaryDirectory(prefix="retouch-simulator-") as temporary,
            ThreadPoolExecutor(_DRAWING_THREADS, "drawing") as executor,
        ):
            async with httpx.AsyncClient(
                timeout=config.fetch_seconds, follow_redirects=True, max_redirects=3
            ) as self._client:
                folder = config.data_dir or Path(temporary)
                folder.mkdir(parents=True, exist_ok=True)
                self._results = ResultStore(folder, self.clock, config.max_results_bytes)
                self._workshop = Workshop(
                    clock=self.clock,
                    journal=self.journal,
                    results=self._results,
                    executor=executor,
                    rng=self._rng,
                    time_scale=config.time_scale,
                    limits=config.limits,
                    refuse_above_limit=config.at_concurrency_limit == "refuse",
                )
                try:
                    yield
                finally:
                    await self._workshop.close()

    def routes(self) -> list[BaseRoute]:
        """The provider's routes and the simulator's own."""
        api, control = API_PATH, CONTROL_PATH
        return [
            Route(f"{api}services/{{rest:path}}", self.serve, methods=["POST"]),
            Route(f"{api}tasks", self.list_tasks, methods=["GET"]),
            Route(f"{api}tasks/", self.list_tasks, methods=["GET"]),
            Route(f"{api}tasks/{{task_id}}", self.query, methods=["GET"]),
            Route(f"{api}tasks/{{task_id}}/cancel", self.cancel, methods=["POST"]),
            Route(f"{api}uploads", self.upload_policy, methods=["GET"]),
            Route(UPLOAD_PATH, self.upload, methods=["POST"]),
            Route(f"{RESULTS_PATH}{{name:path}}", self.result, methods=["GET"]),
            Route(f"{control}requests", self.show_requests, methods=["GET"]),
            Route(f"{control}stats", self.show_stats, methods=["GET"]),
            Route(f"{control}tasks", self.show_tasks, methods=["GET"]),
            Route(f"{control}faults", self.change_faults, methods=["GET", "POST", "DELETE"]),
            Route(f"{control}clock", self.move_clock, methods=["GET", "POST"]),
        ]

    def model_of(self, task_id: str) -> str | None:
        """The model of a task, whoever's it is."""
        task = self.tasks.any(task_id)
        return None if task is None else task.order.model

    # --- services --------------------------------------------------------------------------------

    async def serve(self, request: Request) -> Response:
        """Create a task, or do a synchronous call."""
        account = self._account(request)
        body = await _json_body(request)
        name, model = self._model(body.get("model"))
        endpoint = f"services/{request.path_params['rest']}"
        async_header = request.headers.get("x-dashscope-async")
        if endpoint not in ENDPOINTS or endpoint not in (
            model.sync_endpoint, model.async_endpoint,
        ):  # fmt: skip
            raise errors.url_error()
        is_async = endpoint != MULTIMODAL_GENERATION
        if is_async and not _is_enabled(async_header):
            raise errors.needs_async()
        if not is_async and async_header is not None:
            raise errors.refuses_async()
        if not is_async and self._region.async_only:
            raise errors.needs_async()
        self._limiter.take(("submit", account, name), model.rate)
        order = read_order(name, model, body)
        is_stream = order.mode.sync_needs_sse and not is_async
        if is_stream and not (
            _is_enabled(request.headers.get("x-dashscope-sse")) and order.parameters["stream"]
        ):
            raise errors.invalid("enable_interleave supports only streaming or asynchronous calls")
        moderation.inspect_input(order.prompt)
        self._workshop.admit(order, account)
        resolve_oss = _is_enabled(request.headers.get("x-dashscope-ossresourceresolve"))

        async def inputs() -> Inputs:
            return await self._inputs(order, account, resolve_oss)

        if is_async:
            return await self._create(request, order, account, inputs)
        request_id = _request_id(request)
        pictures = await inputs()
        self.journal.created(name, self.clock.now())
        if is_stream:
            parts = self._workshop.stream(order, account, pictures)
            # What fails before the first event is refused as any other call.
            first = await anext(parts)
            events = self._events(request, order, first, parts)
            return StreamingResponse(
                events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
            )
        outcomes = await self._workshop.call(order, account, pictures)
        return JSONResponse(answers.called(order, outcomes, request_id, _host(request)))

    async def _events(
        self, request: Request, order: Order, first: Part, rest: AsyncIterator[Part]
    ) -> AsyncIterator[bytes]:
        request_id, host = _request_id(request), _host(request)
        images: list[Made] = []
        text = ""
        number = 0
        try:
            async for part in _chained(first, rest):
                if isinstance(part.content, Made):
                    images.append(part.content)
                else:
                    text += part.content
                number += 1
                data = answers.streamed(order, part, images, text, request_id, host)
                yield answers.event(number, "result", 200, data)
        except ProviderError as error:
            self.journal.broke(_seen(request), error.code)
            refusal = answers.refusal(error, request_id)
            yield answers.event(number + 1, "error", error.status, refusal)

    async def _create(
        self,
        request: Request,
        order: Order,
        account: str,
        inputs: Callable[[], Awaitable[Inputs]],
    ) -> Response:
        if self.config.image_checks == "create":
            fetched = await inputs()

            async def inputs() -> Inputs:
                return fetched

        now = self.clock.now()
        task = Task(order, account, _request_id(request), now)
        self.tasks.add(task)
        self.journal.created(order.model, now)
        _seen(request).task_id = task.id
        self._workshop.start(task, inputs)
        return JSONResponse(answers.created(task))

    async def _inputs(self, order: Order, account: str, resolve_oss: bool) -> Inputs:
        def read_upload(key: str) -> bytes:
            if not resolve_oss:
                raise errors.bad_url()
            return self._uploads.read(key, account, order.model)

        async def picture(value: str) -> Picture:
            return await read_image(
                value,
                order.rules.images,
                client=self._client,
                seconds=self.config.fetch_seconds,
                read_upload=read_upload,
            )

        pictures = tuple([await picture(value) for value in order.images])
        _check_boxes(order, pictures)
        if order.mask is None:
            return Inputs(pictures)
        mask = await picture(order.mask)
        await check_mask(mask, pictures[0])
        return Inputs(pictures, mask)

    # --- tasks -----------------------------------------------------------------------------------

    async def query(self, request: Request) -> Response:
        """The state of one task, with its images if it has succeeded."""
        account = self._account(request)
        self._limiter.take(("query", account), QUERY_RATE)
        request_id = _request_id(request)
        task_id = request.path_params["task_id"]
        task = self.tasks.find(task_id, account)
        if task is None:
            return JSONResponse(answers.unknown(task_id, request_id))
        if (
            task.error is not None
            and task.order.mode.answer != "results"
            and self.config.choices_failure == "top_level"
        ):
            return JSONResponse(answers.refusal(task.error, request_id), 400)
        return JSONResponse(answers.queried(task, request_id, _host(request)))

    async def list_tasks(self, request: Request) -> Response:
        """One page of the account's tasks, newest first."""
        account = self._account(request)
        self._limiter.take(("list", account), QUERY_RATE)
        query = request.query_params
        number = _whole(query.get("page_no"), "page_no", 1, 1_000_000)
        size = _whole(query.get("page_size"), "page_size", 10, self.config.max_page_size)
        status = query.get("status")
        if status is not None and status not in STATUSES:
            raise errors.invalid(f"status must be one of {', '.join(STATUSES)}")
        start, end = _window(query.get("start_time"), query.get("end_time"), self.clock.now())
        found = [
            task
            for task in reversed(self.tasks.of(account))
            if start <= task.created <= end
            and query.get("task_id") in (None, task.id)
            and query.get("model_name") in (None, task.order.model)
            and query.get("region") in (None, self._region.name)
            and status in (None, task.status)
        ]
        shown = found[(number - 1) * size : number * size]
        rows = [answers.listed(task, self._region.name) for task in shown]
        return JSONResponse(answers.page(rows, len(found), number, size, _request_id(request)))

    async def cancel(self, request: Request) -> Response:
        """Cancel a task that is still PENDING."""
        account = self._account(request)
        self._limiter.take(("cancel", account), QUERY_RATE)
        task = self.tasks.find(request.path_params["task_id"], account)
        if task is None or not self._workshop.cancel(task):
            raise errors.cancel_refused()
        return JSONResponse({"request_id": _request_id(request)})

    # --- files -----------------------------------------------------------------------------------

    async def upload_policy(self, request: Request) -> Response:
        """A policy with which files can be uploaded for a model."""
        account = self._account(request)
        if request.query_params.get("action") != "getPolicy":
            raise errors.invalid("Required parameter(action) missing or invalid")
        model = request.query_params.get("model")
        if not model:
            raise errors.invalid("Required parameter(model) missing or invalid")
        self._model(model)
        self._limiter.take(("policy", account, model), POLICY_RATE)
        data = self._uploads.grant(account, model, _host(request))
        return JSONResponse({"request_id": _request_id(request), "data": data})

    async def upload(self, request: Request) -> Response:
        """Take a file that was posted with a policy; answers as object storage does."""
        try:
            async with request.form(max_files=1) as form:
                fields = form.multi_items()
                # Object storage ignores whatever stands behind the file, so it must come last.
                if not fields or fields[-1][0] != "file":
                    raise ProviderError(400, "InvalidArgument", "The file must be the last field.")
                file = fields[-1][1]
                if not isinstance(file, UploadFile):
                    raise ProviderError(400, "InvalidArgument", "The file must be a file.")
                data = await file.read(MAX_FILE_MB * 1024 * 1024 + 1)
                text = {name: value for name, value in fields if isinstance(value, str)}
            self._uploads.put(text, data)
        except ProviderError as error:
            return _storage_error(request, error)
        except HTTPException as error:
            malformed = ProviderError(400, "MalformedPOSTRequest", str(error.detail))
            return _storage_error(request, malformed)
        return Response(status_code=_UPLOADED.get(text.get("success_action_status", ""), 204))

    async def result(self, request: Request) -> Response:
        """A result image, as object storage gives it."""
        name = request.path_params["name"]
        if not self._results.is_signed(name, request.query_params):
            return _storage_error(
                request,
                ProviderError(403, "SignatureDoesNotMatch", "The signature does not match."),
            )
        path = self._results.find(name)
        if path is None:
            return _storage_error(
                request, ProviderError(404, "NoSuchKey", "The specified key does not exist.")
            )
        return FileResponse(path, media_type="image/png")

    # --- the simulator's own ---------------------------------------------------------------------

    async def show_requests(self, request: Request) -> Response:
        """The log of requests, those above `since` only."""
        since = int(request.query_params.get("since", "0"))
        return JSONResponse({"requests": self.journal.requests(since)})

    async def show_stats(self, request: Request) -> Response:
        """The counts."""
        return JSONResponse(self.journal.stats())

    async def show_tasks(self, request: Request) -> Response:
        """Every account's tasks, oldest first, with the moments of their lives."""
        return JSONResponse({"tasks": [_shown(task) for task in self.tasks.all()]})

    async def change_faults(self, request: Request) -> Response:
        """Show, replace or clear the fault plan."""
        if request.method == "POST":
            try:
                self.faults.set(read_plan(await request.body()))
            except ValidationError as error:
                return Response(error.json(include_url=False), 422, media_type="application/json")
        elif request.method == "DELETE":
            self.faults.clear()
        return JSONResponse({"faults": self.faults.describe()})

    async def move_clock(self, request: Request) -> Response:
        """Show the time, or move it forward by `advance` seconds."""
        if request.method == "POST":
            try:
                self.clock.advance(float((await request.json())["advance"]))
            except (ValueError, KeyError, TypeError) as error:
                return JSONResponse({"error": f"need a number `advance` >= 0: {error}"}, 422)
        return JSONResponse({"now": self.clock.now()})

    def _model(self, name: object) -> tuple[str, Model]:
        if name is None or name == "":
            raise ProviderError(400, "BadRequest.EmptyModel", "Required parameter(model) missing.")
        base = self.config.snapshots.get(name, name) if isinstance(name, str) else None
        if not isinstance(name, str) or base not in self._region.models:
            raise errors.model_not_exist()
        return name, MODELS[base]

    def _account(self, request: Request) -> str:
        account = self._account_of_key(request)
        workspace = request.headers.get("x-dashscope-workspace")
        known = self.config.workspaces
        if workspace is not None and known is not None and workspace not in known:
            raise errors.bad_workspace()
        return account

    def _account_of_key(self, request: Request) -> str:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise errors.no_api_key()
        if self.config.accounts is not None:
            if key not in self.config.accounts:
                raise errors.invalid_api_key()
            return self.config.accounts[key]
        if not key.startswith("sk-") or key.startswith("sk-sp-"):
            raise errors.invalid_api_key()
        return "1000000000000001"


async def _json_body(request: Request) -> dict[str, Any]:
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise errors.bad_body()
    try:
        body = json.loads(await request.body(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise errors.bad_body() from error
    if not isinstance(body, dict):
        raise errors.bad_body()
    return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


async def _chained(first: Part, rest: AsyncIterator[Part]) -> AsyncIterator[Part]:
    yield first
    async for part in rest:
        yield part


def _is_enabled(header: str | None) -> bool:
    return header is not None and header.lower() == "enable"


def _check_boxes(order: Order, pictures: tuple[Picture, ...]) -> None:
    for position, boxes in enumerate(order.parameters.get("bbox_list") or ()):
        width, height = pictures[position].size
        for _, _, right, bottom in boxes:
            if right > width or bottom > height:
                raise errors.invalid(
                    f"bbox_list[{position}] must lie within the image of {width}*{height}"
                )


def _whole(given: str | None, name: str, default: int, high: int) -> int:
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= high:
        raise errors.invalid(f"{name} must be an integer between 1 and {high}")
    return int(given)


def _window(start: str | None, end: str | None, now: float) -> tuple[float, float]:
    match _moment(start, "start_time"), _moment(end, "end_time"):
        case None, None:
            return now - _DAY, now
        case None, float(until):
            return until - _DAY, until
        case float(since), None:
            return since, since + _DAY
        case float(since), float(until) if 0 <= until - since <= _DAY:
            return since, until
        case _:
            raise errors.invalid("start_time and end_time must be at most 24 hours apart")


def _moment(given: str | None, name: str) -> float | None:
    if given is None:
        return None
    try:
        if len(given) != 14 or not given.isascii() or not given.isdigit():
            raise ValueError(given)
        return datetime.strptime(given, "%Y%m%d%H%M%S").replace(tzinfo=PROVIDER_ZONE).timestamp()
    except ValueError as error:
        raise errors.invalid(f"{name} must be yyyyMMddHHmmss") from error


def _shown(task: Task) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "account": task.account,
        "model": task.order.model,
        "status": task.status,
        "created": task.created,
        "started": task.scheduled,
        "ended": task.ended,
    }


def _host(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def _seen(request: Request) -> SeenRequest:
    seen: SeenRequest = getattr(request.state, SEEN)
    return seen


def _request_id(request: Request) -> str:
    seen = _seen(request)
    if seen.request_id is None:
        seen.request_id = str(uuid4())
    return seen.request_id


async def _refuse(request: Request, error: Exception) -> Response:
    if not isinstance(error, ProviderError):
        raise error
    _seen(request).code = error.code
    return JSONResponse(answers.refusal(error, _request_id(request)), error.status)


async def _refuse_route(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = "NotFound" if error.status_code == 404 else "BadRequest"
    refusal = ProviderError(error.status_code, code, str(error.detail))
    return JSONResponse(answers.refusal(refusal, str(uuid4())), error.status_code)


def _storage_error(request: Request, error: ProviderError) -> Response:
    _seen(request).code = error.code
    return Response(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{escape(error.code)}</Code>'
        f"<Message>{escape(error.message)}</Message></Error>",
        error.status,
        media_type="application/xml",
    )
