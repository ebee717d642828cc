"""Tasks: their states, their queue for one of the model's places, and their work.

A task is PENDING until it has a place, RUNNING while it is drawn and its drawn duration passes,
then SUCCEEDED if at least one image was made, FAILED otherwise. A synchronous call is the same work
without a task to query; a streamed call is that work told as it goes on. Everything here runs on
the server's event loop; drawing runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

from retouch.simulator import edits, errors, moderation
from retouch.simulator.checks import Order
from retouch.simulator.clock import Clock
from retouch.simulator.errors import ProviderError
from retouch.simulator.images import Picture
from retouch.simulator.journal import Journal
from retouch.simulator.narration import step_pieces
from retouch.simulator.results import RETENTION_SECONDS, ResultStore
from retouch.simulator.rules import SEED_MAX

_log = logging.getLogger(__name__)

Status = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN"]
STATUSES: tuple[Status, ...] = (
    "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELED", "UNKNOWN",
)  # fmt: skip

TASK_CEILING_SECONDS = 3 * 3600.0
SYNC_CEILING_SECONDS = 300.0
# How long a task stays PENDING though a place is free, before the time scale.
QUEUE_SECONDS = (0.019, 0.053)


@dataclass(frozen=True)
class Made:
    """An image that was made: its signed path, and its width and height in pixels."""

    path: str
    size: tuple[int, int]


Outcome = Made | ProviderError


@dataclass(frozen=True)
class Part:
    """What one event of a stream brings: a piece of text, or an image."""

    content: str | Made
    last: bool = False


@dataclass(frozen=True)
class Inputs:
    """The images of an order, fetched and checked."""

    pictures: tuple[Picture, ...]
    mask: Picture | None = None


@dataclass
class Task:
    """One asynchronous order. Times are seconds since the epoch on the simulator's clock."""

    order: Order
    account: str
    request_id: str
    created: float
    id: str = field(default_factory=lambda: str(uuid4()))
    status: Status = "PENDING"
    scheduled: float | None = None
    ended: float | None = None
    outcomes: Sequence[Outcome] = ()
    error: ProviderError | None = None

    @property
    def images(self) -> list[Made]:
        """The images that were made."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Made)]


class TaskStore:
    """Every task of the last 24 h, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: OrderedDict[str, Task] = OrderedDict()

    def add(self, task: Task) -> None:
        """Remember a new task."""
        self._drop_expired()
        self._tasks[task.id] = task

    def find(self, task_id: str, account: str) -> Task | None:
        """The account's task, or `None` if there is none or it is older than 24 h."""
        self._drop_expired()
        task = self._tasks.get(task_id)
        return task if task is not None and task.account == account else None

    def of(self, account: str) -> list[Task]:
        """The account's tasks, oldest first."""
        self._drop_expired()
        return [task for task in self._tasks.values() if task.account == account]

    def any(self, task_id: str) -> Task | None:
        """A task, whichever account's it is."""
        return self._tasks.get(task_id)

    def all(self) -> list[Task]:
        """Every account's tasks, oldest first."""
        return list(self._tasks.values())

    def _drop_expired(self) -> None:
        limit = self._clock.now() - RETENTION_SECONDS
        while self._tasks:
            task_id, task = next(iter(self._tasks.items()))
            if task.created > limit:
                return
            del self._tasks[task_id]


class Workshop:
    """Does the work of orders, at most so many of one model and account at a time."""

    def __init__(
        self,
        *,
        clock: Clock,
        journal: Journal,
        results: ResultStore,
        executor: Executor,
        rng: random.Random,
        time_scale: float,
        limits: bool,
        refuse_above_limit: bool,
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._results = results
        self._executor = executor
        self._rng = rng
        self._time_scale = time_scale
        self._limits = limits
        self._refuse_above_limit = refuse_above_limit
        self._places: dict[tuple[str, str], _Places] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def admit(self, order: Order, account: str) -> None:
        """Refuse an order above the concurrency limit, where the simulator is told to.

        Raises:
            ProviderError: 429 `Throttling.Concurrency`.
        """
        if self._refuse_above_limit and self._places_of(order, account).all_taken:
            raise errors.too_concurrent()

    def start(self, task: Task, inputs: Callable[[], Awaitable[Inputs]]) -> None:
        """Begin to work on `task`; its images come from `inputs` once it runs."""
        work = asyncio.create_task(self._work_on(task, inputs))
        self._running[task.id] = work
        work.add_done_callback(lambda _: self._running.pop(task.id, None))

    def cancel(self, task: Task) -> bool:
        """Cancel a PENDING task; says whether it was still PENDING."""
        if task.status != "PENDING":
            return False
        task.status, task.ended = "CANCELED", self._clock.now()
        self._running[task.id].cancel()
        return True

    async def call(self, order: Order, account: str, inputs: Inputs) -> Sequence[Outcome]:
        """Do the work of a synchronous call; at least one of the outcomes is an image.

        Raises:
            ProviderError: No image could be made, or it took longer than 300 s.
        """
        places = self._places_of(order, account)

        async def work() -> Sequence[Outcome]:
            async with places:
                return await self._make(order, inputs)

        outcomes = await self._within(work(), SYNC_CEILING_SECONDS, errors.sync_timeout())
        if not any(isinstance(outcome, Made) for outcome in outcomes):
            raise _first_error(outcomes)
        return outcomes

    async def stream(self, order: Order, account: str, inputs: Inputs) -> AsyncIterator[Part]:
        """Do the work of a synchronous call and give its text and images as they come.

        The work is done to its end even if nobody listens any more: a lost connection does not
        make it cheaper.

        Raises:
            ProviderError: No image could be made, or it took longer than 300 s.
        """
        told: asyncio.Queue[Part | ProviderError] = asyncio.Queue()
        work = asyncio.create_task(self._tell(order, account, inputs, told.put_nowait))
        self._telling.add(work)
        work.add_done_callback(self._telling.discard)
        while True:
            part = await told.get()
            if isinstance(part, ProviderError):
                raise part
            yield part
            if part.last:
                return

    async def close(self) -> None:
        """Drop all work that is not done."""
        running = [*self._running.values(), *self._telling]
        for work in running:
            work.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _work_on(self, task: Task, inputs: Callable[[], Awaitable[Inputs]]) -> None:
        async def work() -> Sequence[Outcome]:
            ready = task.created + self._rng.uniform(*QUEUE_SECONDS) * self._time_scale
            # First in the queue, then the pause, so that tasks run in the order of their creation.
            async with self._places_of(task.order, task.account):
                await self._clock.sleep(ready - self._clock.now())
                task.status, task.scheduled = "RUNNING", self._clock.now()
                return await self._make(task.order, await inputs())

        try:
            task.outcomes = await self._within(
                work(),
                # Since its creation, however late this work came to begin.
                task.created + TASK_CEILING_SECONDS - self._clock.now(),
                errors.internal_timeout(),
            )
        except ProviderError as error:
            task.error = error
        except Exception:  # noqa: BLE001  the edge of a background task: none else would see it
            _log.exception("task %s broke", task.id)
            task.error = errors.internal_error()
        else:
            if not task.images:
                task.error = _first_error(task.outcomes)
        task.ended = self._clock.now()
        task.status = "SUCCEEDED" if task.error is None else "FAILED"

    async def _make(self, order: Order, inputs: Inputs) -> Sequence[Outcome]:
        self._journal.started(order.model)
        try:
            seconds = self._rng.uniform(*order.mode.seconds) * self._time_scale
            outcomes, _ = await asyncio.gather(
                self._draw_all(order, inputs), self._clock.sleep(seconds)
            )
        finally:
            self._journal.stopped(order.model)
        self._journal.billed(order.model, sum(isinstance(one, Made) for one in outcomes))
        return outcomes

    async def _tell(
        self,
        order: Order,
        account: str,
        inputs: Inputs,
        tell: Callable[[Part | ProviderError], None],
    ) -> None:
        async def work() -> Sequence[Outcome]:
            async with self._places_of(order, account):
                return await self._make_and_tell(order, inputs, tell)

        try:
            await self._within(work(), SYNC_CEILING_SECONDS, errors.sync_timeout())
        except ProviderError as error:
            tell(error)
        except Exception:  # noqa: BLE001  the edge of a background task: none else would see it
            _log.exception("a stream of %s broke", order.model)
            tell(errors.internal_error())

    async def _make_and_tell(
        self, order: Order, inputs: Inputs, tell: Callable[[Part], None]
    ) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        self._journal.started(order.model)
        try:
            seconds = self._rng.uniform(*order.mode.seconds) * self._time_scale / order.count
            seed = self._seed_of(order)
            for index in range(order.count):
                *pieces, final_piece = step_pieces(index + 1)
                pause = seconds / (len(pieces) + 1)
                for piece in pieces:
                    tell(Part(piece))
                    await self._clock.sleep(pause)
                outcome, _ = await asyncio.gather(
                    self._draw_one(order, inputs, seed, index), self._clock.sleep(pause)
                )
                outcomes.append(outcome)
                last = index == order.count - 1
                if isinstance(outcome, Made):
                    self._journal.billed(order.model, 1)
                    tell(Part(final_piece))
                    tell(Part(outcome, last))
                elif index == 0:
                    raise outcome
                else:
                    # Told only now, since it ends the stream where the last image has failed.
                    tell(Part(final_piece, last))
        finally:
            self._journal.stopped(order.model)
        return outcomes

    async def _draw_all(self, order: Order, inputs: Inputs) -> Sequence[Outcome]:
        seed = self._seed_of(order)
        return [await self._draw_one(order, inputs, seed, index) for index in range(order.count)]

    async def _draw_one(self, order: Order, inputs: Inputs, seed: int, index: int) -> Outcome:
        verdict = moderation.inspect_output(order.prompt)
        if verdict.all_images is not None:
            return verdict.all_images
        if verdict.last_image is not None and index == order.count - 1:
            return verdict.last_image
        png, size = await asyncio.get_running_loop().run_in_executor(
            self._executor, edits.draw, order, inputs.pictures, inputs.mask, seed, index
        )
        return Made(self._results.put(png), size)

    def _seed_of(self, order: Order) -> int:
        seed: int | None = order.parameters.get("seed")
        return self._rng.randrange(SEED_MAX) if seed is None else seed

    async def _within(
        self, work: Awaitable[Sequence[Outcome]], seconds: float, late: ProviderError
    ) -> Sequence[Outcome]:
        working = asyncio.ensure_future(work)
        ceiling = asyncio.create_task(self._clock.sleep(seconds))
        try:
            await asyncio.wait((working, ceiling), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise late
            return await working
        finally:
            for one in (working, ceiling):
                one.cancel()
            await asyncio.gather(working, ceiling, return_exceptions=True)

    def _places_of(self, order: Order, account: str) -> _Places:
        limit = order.rules.concurrency if self._limits else None
        return self._places.setdefault((account, order.model), _Places(limit))


class _Places:
    """A model's places for running tasks, given in the order of asking."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._semaphore = None if limit is None else asyncio.Semaphore(limit)
        self._asked = 0

    @property
    def all_taken(self) -> bool:
        return self._limit is not None and self._asked >= self._limit

    async def __aenter__(self) -> None:
        self._asked += 1
        if self._semaphore is not None:
            try:
                await self._semaphore.acquire()
            except asyncio.CancelledError:
                self._asked -= 1
                raise

    async def __aexit__(self, *_: object) -> None:
        self._asked -= 1
        if self._semaphore is not None:
            self._semaphore.release()


def _first_error(outcomes: Sequence[Outcome]) -> ProviderError:
    return next(outcome for outcome in outcomes if isinstance(outcome, ProviderError))
