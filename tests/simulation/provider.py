"""The provider: accounts that keep to the contract's limits, go wrong at random, and count everything.

An account runs as many tasks of a model at once as its quota says; further ones wait PENDING, in order,
and count as in flight. It refuses creates beyond the rate and queries beyond twenty a second, forgets
tasks after 24 hours, and lists them with the times of its own clock, a moment late. What is billed
is what went well, task by task, whoever got the answer.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

from retouch.catalogue import Catalogue
from retouch.errors import (
    NOT_REACHED,
    NOT_SENT,
    AccountRefused,
    InputNotFetched,
    OutcomeUnknown,
    ProviderRefused,
    TryLater,
)
from retouch.jobs import Failure
from retouch.provider.answers import ListedTask, RewrittenPrompt, TaskAnswer
from retouch.provider.requests import Request
from retouch.registry import Quota
from tests.fakes import RESULT_HOST, Call, Effects, picture
from tests.simulation.engine import Engine

DURATIONS: Final = {
    "wanx2.1-imageedit": (5.0, 15.0),
    "wan2.7-image": (12.0, 25.0),
    "wan2.5-i2i-preview": (30.0, 120.0),
    "qwen-image-edit-plus": (5.0, 20.0),
    "qwen-image-edit-max": (5.0, 20.0),
}
"""Seconds that a task or call takes (contract 2.4); for synchronous calls nothing is documented."""
KEPT_SECONDS: Final = 24 * 3600.0
ASKED_A_SECOND: Final = 20
"""Queries, and lists, of an account (contract 2.7)."""
TURNS_A_SECOND: Final = 15
"""Of which we may use so many (architecture 4)."""
CREATE_GIVEN_UP_SECONDS: Final = 22.0
GENERATE_GIVEN_UP_SECONDS: Final = 315.0
"""When the client gives a call up."""
_RESULT: Final = picture(64, 64)


class Fault(Enum):
    """What goes wrong with a call, or with the task that it makes."""

    THROTTLED = "429"
    LOST = "answer lost"
    REFUSED = "refused for content"
    NOT_FETCHED = "image not fetched"
    NOT_REACHED = "not reached"
    NOT_SENT = "not sent"
    FAILS = "task fails"
    FAILS_TO_FETCH = "task fails to fetch an image"
    SOME_FAIL = "some images fail"
    UNAVAILABLE = "5xx"
    CUT_OFF = "download cut off"


_AT_CREATE: Final = (
    Fault.THROTTLED,
    Fault.LOST,
    Fault.REFUSED,
    Fault.NOT_FETCHED,
    Fault.NOT_REACHED,
    Fault.NOT_SENT,
    Fault.FAILS,
    Fault.FAILS_TO_FETCH,
    Fault.SOME_FAIL,
)
_AT_GENERATE: Final = _AT_CREATE[:6]
_AT_QUERY: Final = (Fault.THROTTLED, Fault.UNAVAILABLE)
_AT_FETCH: Final = (Fault.UNAVAILABLE, Fault.CUT_OFF)


class Rate:
    """How many calls come within any `seconds`, begin included and end not."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: deque[float] = deque()
        self.most = 0

    def add(self, now: float) -> int:
        """One more call; how many there are now."""
        last = self._last
        while last and last[0] <= now - self._seconds + 1e-6:
            last.popleft()
        last.append(now)
        self.most = max(self.most, len(last))
        return len(last)


@dataclass(slots=True)
class Task:
    """A task, or a synchronous call, that the provider has taken."""

    task_id: str
    name: str
    """The prompt, which is each job's own."""
    created_at: float
    seconds: float
    images: int
    fate: Fault | None = None
    started_at: float | None = None
    ended_at: float | None = None
    canceled: bool = False

    @property
    def billed(self) -> bool:
        """Whether it made an image."""
        going_wrong = self.fate in (Fault.FAILS, Fault.FAILS_TO_FETCH)
        return not going_wrong and not self.canceled

    @property
    def made(self) -> int:
        """Images that it makes."""
        if not self.billed:
            return 0
        return self.images - 1 if self.fate is Fault.SOME_FAIL else self.images


@dataclass
class Place:
    """What an account has of one model: its quota, and what it is at work on."""

    model: str
    quota: Quota
    rate: Rate
    tasks: list[Task] = field(default_factory=list)
    """Asynchronous ones, in the order of their making."""
    calls: list[Task] = field(default_factory=list)
    """Synchronous ones."""
    most_in_flight: int = 0
    refused_for_pace: int = 0
    open_calls: int = 0
    _running: list[tuple[float, int, Task]] = field(default_factory=list)
    _pending: deque[Task] = field(default_factory=deque)

    def advance(self, now: float) -> None:
        """Let tasks end and begin, up to now."""
        while self._running and self._running[0][0] <= now:
            ended, _, _ = heappop(self._running)
            if self._pending:
                self._begin(self._pending.popleft(), ended)

    def take(self, task: Task, now: float) -> None:
        """Take a task on."""
        self.advance(now)
        self.tasks.append(task)
        if len(self._running) < (self.quota.running or 0):
            self._begin(task, now)
        else:
            self._pending.append(task)
        self.most_in_flight = max(self.most_in_flight, len(self._running) + len(self._pending))

    def _begin(self, task: Task, now: float) -> None:
        task.started_at = now
        task.ended_at = now + task.seconds
        heappush(self._running, (task.ended_at, len(self.tasks), task))

    def cancel(self, task: Task) -> bool:
        """Take a task back that has not begun."""
        if task not in self._pending:
            return False
        self._pending.remove(task)
        task.canceled = True
        return True


class Account:
    """One region's account, and `retouch.ports.Provider` for it."""

    def __init__(
        self,
        region: str,
        engine: Engine,
        effects: Effects,
        models: Catalogue,
        seed: str,
        faults: float,
    ):
        self.region = region
        self._engine = engine
        self._effects = effects
        self._models = models
        self._travels = Random(f"{seed}:{region}:travels")
        self._works = Random(f"{seed}:{region}:works")
        self._fails = Random(f"{seed}:{region}:fails")
        self._faults = faults
        self._numbers = count(1)
        self.skew = self._fails.uniform(-5.0, 5.0) if faults else 0.0
        """How far its clock is ahead of ours."""
        self.shows_after = self._fails.uniform(0.0, 5.0) if faults else 0.0
        """Seconds until a task shows in the list."""
        self.refused: tuple[float, float] | None = None
        """From when until when the bill is overdue."""
        self.places: dict[str, Place] = {}
        self.by_id: dict[str, tuple[Place, Task]] = {}
        self.count: Counter[str] = Counter()
        """Calls, by name."""
        self.injected: Counter[str] = Counter()
        """Faults, by kind."""
        self.asked = Rate(1.0)
        """Queries as they are sent; as they arrive they may bunch up a little."""
        self._queries = Rate(1.0)
        self._lists = Rate(1.0)
        self.refused_queries = 0

    # --- what the functions call ---

    def create(self, request: Request) -> tuple[str, str | None]:
        """See `retouch.ports.Provider`."""
        with self._effects.effect("create"):
            place = self._arrive(request)
            fault = self._draw(_AT_CREATE)
            if fault is Fault.LOST:
                self._lose(place, request)
            self._refuse(fault)
            task = self._make(place, request, fault)
            self._engine.sleep(self._travels.uniform(0.1, 0.4))
            return task.task_id, f"request-{task.task_id}"

    def generate(self, request: Request) -> str:
        """See `retouch.ports.Provider`."""
        with self._effects.effect("generate"):
            place = self._arrive(request)
            fault = self._draw(_AT_GENERATE)
            if fault is Fault.LOST and self._fails.random() < 0.5:
                self._engine.sleep(self._fails.choice((1.0, GENERATE_GIVEN_UP_SECONDS)))
                raise OutcomeUnknown("no answer to a call that bills; nothing was made")
            if fault is not Fault.LOST:
                self._refuse(fault)
            task = self._task(place, request, None)
            began = self._engine.now
            task.started_at = began
            place.open_calls += 1
            place.most_in_flight = max(place.most_in_flight, place.open_calls)
            try:
                self._engine.sleep(task.seconds)
            finally:
                # Its caller may have died meanwhile; the provider works on.
                task.ended_at = began + task.seconds
                place.open_calls -= 1
                place.calls.append(task)
            if fault is Fault.LOST:
                if self._fails.random() < 0.5:
                    self._engine.sleep(GENERATE_GIVEN_UP_SECONDS - task.seconds)
                raise OutcomeUnknown("no answer to a call that bills; it was made")
            content = [{"image": url} for url in self._urls(task)]
            said = {
                "output": {"choices": [{"message": {"content": content}}]},
                "usage": {"image_count": len(content)},
                "request_id": f"request-{task.task_id}",
            }
            return json.dumps(said)

    def query(self, task_id: str) -> TaskAnswer:
        """See `retouch.ports.Provider`."""
        self.asked.add(self._engine.now)
        with self._effects.effect("query"):
            self._travel("query")
            if self._queries.add(self._engine.now) > ASKED_A_SECOND:
                self.refused_queries += 1
                raise TryLater("too many queries", code="Throttling.RateQuota")
            self._may_be_unavailable()
            self._engine.sleep(self._travels.uniform(0.02, 0.1))
            return self._state(task_id)

    def tasks(self, *, start: float, end: float, model: str) -> Iterable[ListedTask]:
        """See `retouch.ports.Provider`."""
        with self._effects.effect("list"):
            self._travel("list")
            if self._lists.add(self._engine.now) > ASKED_A_SECOND:
                self.refused_queries += 1
                raise TryLater("too many lists", code="Throttling.RateQuota")
            self._may_be_unavailable()
            self._engine.sleep(self._travels.uniform(0.05, 0.3))
            return self._listed(start, end, model)

    def cancel(self, task_id: str) -> bool:
        """See `retouch.ports.Provider`."""
        with self._effects.effect("cancel"):
            self._travel("cancel")
            self._may_be_unavailable()
            place, task = self.by_id[task_id]
            place.advance(self._engine.now)
            return place.cancel(task)

    def upload(self, model: str, name: str, data: bytes, mime: str) -> str:
        """See `retouch.ports.Provider`."""
        with self._effects.effect("upload"):
            self._travel("upload")
            self._may_be_unavailable()
            return f"oss://temporary/{model}/{name}"

    @contextmanager
    def fetch(self, url: str) -> Iterator[Iterator[bytes]]:
        """See `retouch.ports.Provider`."""
        with self._effects.effect("fetch"):
            self._travel("fetch")
            fault = self._draw(_AT_FETCH)
            if fault is Fault.UNAVAILABLE:
                raise TryLater("the download failed")
            _, task = self.by_id[url.removeprefix(f"{RESULT_HOST}/").partition("/")[0]]
            if self._engine.now - task.created_at > KEPT_SECONDS:
                raise ProviderRefused("ResultExpired", "the result is no longer there")
        yield self._chunks(fault)

    def _chunks(self, fault: Fault | None) -> Iterator[bytes]:
        self._engine.sleep(self._travels.uniform(0.05, 0.3))
        if fault is not None:
            yield _RESULT[: len(_RESULT) // 2]
            raise TryLater("the download was cut off")
        yield _RESULT

    # --- how it comes to its answers ---

    def _arrive(self, request: Request) -> Place:
        """A call that bills is on its way, and has arrived at its model's place."""
        self._travel("create")
        model = str(request.body["model"])
        place = self.places.get(model)
        if place is None:
            quota = self._models[model].quota
            place = self.places[model] = Place(model, quota, Rate(quota.per_seconds))
        if place.rate.add(self._engine.now) > place.quota.creates:
            place.refused_for_pace += 1
            raise TryLater("Requests throttling triggered.", code="Throttling.RateQuota")
        return place

    def _travel(self, what: str) -> None:
        self.count[what] += 1
        self._engine.sleep(self._travels.uniform(0.02, 0.06))
        if self.refused is not None and self.refused[0] <= self._engine.now < self.refused[1]:
            raise AccountRefused("Arrearage", "Access denied, please make sure the bill is paid.")

    def _draw(self, kinds: tuple[Fault, ...]) -> Fault | None:
        if not self._faults or self._fails.random() >= self._faults:
            return None
        fault = self._fails.choice(kinds)
        self.injected[fault.value] += 1
        return fault

    def _may_be_unavailable(self) -> None:
        fault = self._draw(_AT_QUERY)
        if fault is not None:
            raise TryLater(f"HTTP {fault.value}", code=fault.value)

    def _refuse(self, fault: Fault | None) -> None:
        """Answer with an error where nothing is made."""
        match fault:
            case Fault.THROTTLED:
                raise TryLater("Requests throttling triggered.", code="Throttling")
            case Fault.REFUSED:
                raise ProviderRefused("DataInspectionFailed", "inappropriate content")
            case Fault.NOT_FETCHED:
                raise InputNotFetched("timed out", code="InvalidURL.Timeout")
            case Fault.NOT_REACHED:
                raise TryLater("no connection", code=NOT_REACHED)
            case Fault.NOT_SENT:
                self._engine.sleep(10.0)
                raise TryLater("the body did not get out", code=NOT_SENT)
            case _:
                pass

    def _lose(self, place: Place, request: Request) -> None:
        """Let the answer get lost: half of them by a 5xx and half in silence, half with a task."""
        fails = self._fails
        silent = fails.random() < 0.5
        total = CREATE_GIVEN_UP_SECONDS if silent else fails.uniform(0.2, 3.0)
        arrives = fails.uniform(0.0, total)
        made = fails.random() < 0.5
        self._engine.sleep(arrives)
        if made:
            self._make(place, request, None)
        self._engine.sleep(total - arrives)
        raise OutcomeUnknown(
            "no answer to a call that bills",
            code="ReadTimeout" if silent else "InternalError",
        )

    def _make(self, place: Place, request: Request, fate: Fault | None) -> Task:
        task = self._task(place, request, fate)
        place.take(task, self._engine.now)
        return task

    def _task(self, place: Place, request: Request, fate: Fault | None) -> Task:
        now = self._engine.now
        parameters = request.body["parameters"]
        assert isinstance(parameters, dict)
        images = parameters.get("n")
        assert isinstance(images, int)
        if fate is Fault.SOME_FAIL and images == 1:
            fate = None
        task = Task(
            task_id=f"{self.region}-{next(self._numbers):07}",
            name=Call(now, request).prompt,
            created_at=now,
            seconds=self._works.uniform(*DURATIONS[place.model]),
            images=images,
            fate=fate,
        )
        self.by_id[task.task_id] = (place, task)
        return task

    def _state(self, task_id: str) -> TaskAnswer:
        now = self._engine.now
        place, task = self.by_id[task_id]
        if now - task.created_at > KEPT_SECONDS:
            return TaskAnswer(status="UNKNOWN")
        place.advance(now)
        if task.canceled:
            return TaskAnswer(status="CANCELED")
        if task.started_at is None:
            return TaskAnswer(status="PENDING")
        if task.ended_at is None or task.ended_at > now:
            return TaskAnswer(status="RUNNING")
        submitted = task.created_at + self.skew
        match task.fate:
            case Fault.FAILS:
                failure = Failure(code="InternalError.Algo", message="inference failed")
                return TaskAnswer(status="FAILED", failure=failure, submitted_at=submitted)
            case Fault.FAILS_TO_FETCH:
                failure = Failure(code="InvalidURL.Timeout", message="image download timed out")
                return TaskAnswer(status="FAILED", failure=failure, submitted_at=submitted)
            case Fault.SOME_FAIL:
                failed: tuple[Failure, ...] = (Failure(code="InternalError.Algo", message="one"),)
            case _:
                failed = ()
        urls = self._urls(task)
        return TaskAnswer(
            status="SUCCEEDED",
            request_id=f"result-{task_id}",
            images=urls,
            image_failures=failed,
            usage={"image_count": len(urls)},
            prompts=(RewrittenPrompt(original=task.name, actual=f"please {task.name}"),),
            submitted_at=submitted,
        )

    def _listed(self, start: float, end: float, model: str) -> list[ListedTask]:
        now = self._engine.now
        place = self.places.get(model)
        if place is None:
            return []
        place.advance(now)
        found = []
        begin = bisect_left(place.tasks, start - self.skew, key=lambda task: task.created_at)
        for task in place.tasks[begin:]:
            if task.created_at + self.skew > end or task.created_at + self.shows_after > now:
                break
            if now - task.created_at <= KEPT_SECONDS:
                found.append(
                    ListedTask(
                        task_id=task.task_id,
                        model=model,
                        request_id=f"request-{task.task_id}",
                        created_at=task.created_at + self.skew,
                    )
                )
        return found

    @staticmethod
    def _urls(task: Task) -> tuple[str, ...]:
        return tuple(f"{RESULT_HOST}/{task.task_id}/{n}.png?Signature=x" for n in range(task.made))
