"""What people do: drop thousands of images, cancel a few, and decide about what is held for them.

Half of the jobs go to the lane of `wanx2.1-imageedit`, the slowest quota there is; the rest to six
others, in two regions, one of them with two calls a minute. Most sidecars name one picture that all of
their folder share, every tenth has one of its own; either may come first. A tenth wants two images.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Final

from retouch import keys
from retouch.jobs import Job, NoteLatest, Source, Status, lane_id
from retouch.records import publish
from retouch.registry import MODELS, Mode, Quota
from retouch.settings import Endpoint, Settings
from retouch.steps.operate import operate
from retouch.steps.submit import job_id_of, queue
from tests.fakes import START, picture, settings, sha256
from tests.simulation.aws import OPERATE_SECONDS, InvocationFailed, Stack
from tests.simulation.provider import KEPT_SECONDS

BEIJING: Final = "beijing"
SINGAPORE: Final = "singapore"
SHARES: Final = (
    ("wanx2.1-imageedit", BEIJING, 0.50),
    ("wan2.7-image", BEIJING, 0.13),
    ("wan2.7-image", SINGAPORE, 0.10),
    ("wan2.5-i2i-preview", BEIJING, 0.05),
    ("wan2.5-i2i-preview", SINGAPORE, 0.05),
    ("qwen-image-edit-plus", BEIJING, 0.09),
    ("qwen-image-edit-plus", SINGAPORE, 0.07),
    ("qwen-image-edit-max", SINGAPORE, 0.01),
)
PICTURE: Final = picture(512, 512, mode="L")
_SHARED_BY: Final = 100
_HIDDEN: Final = ".pictures/shared.png"
"""A name that `submit` ignores."""
_DROPS_A_SECOND: Final = 100.0
_CANCELED: Final = 0.003
_VISIT_SECONDS: Final = 3600.0
_AGAIN_SECONDS: Final = 30.0


def settings_of_a_stack(times: int = 1) -> Settings:
    """A stack with keys for two regions, whose accounts have so many times the usual quotas."""
    base = "https://dashscope{}.aliyuncs.com/api/v1"
    models = {
        name: replace(model, quota=_larger(model.quota, times)) for name, model in MODELS.items()
    }
    return settings(
        providers={BEIJING: Endpoint(base.format("")), SINGAPORE: Endpoint(base.format("-intl"))},
        models=models,
        sync_window=4 * times,
    )


def _larger(quota: Quota, times: int) -> Quota:
    running = None if quota.running is None else quota.running * times
    return replace(quota, creates=quota.creates * times, running=running)


@dataclass(frozen=True)
class Order:
    """What one sidecar asks for. Its name is its prompt, so that what is billed can be told apart."""

    number: int
    model: str
    region: str
    images: int
    alone: bool
    """Whether its picture is its own."""

    @property
    def name(self) -> str:
        """The prompt."""
        return f"edit {self.number:06}"

    @property
    def image(self) -> str:
        """The key of its picture."""
        return f"{self._folder}/{self.number:06}.png" if self.alone else f"{self._folder}/all.png"

    @property
    def sidecar(self) -> str:
        """Its key."""
        return f"{self.image}.json" if self.alone else f"{self._folder}/{self.number:06}.json"

    @property
    def _folder(self) -> str:
        return f"drop/{self.number // _SHARED_BY:04}"

    @property
    def function(self) -> str | None:
        """The model's function, where it has several."""
        return "description_edit" if MODELS[self.model].functions else None

    def text(self) -> bytes:
        """The sidecar."""
        said: dict[str, object] = {
            "model": self.model,
            "prompt": self.name,
            "region": self.region,
            "parameters": {"n": self.images},
        }
        if self.function is not None:
            said["function"] = self.function
        if not self.alone:
            said["images"] = ["all.png"]
        return json.dumps(said).encode("utf-8")


def orders(count: int, seed: str) -> list[Order]:
    """So many, mixed."""
    chance = Random(f"{seed}:orders")
    weights = [share for _, _, share in SHARES]
    made = []
    for number in range(count):
        ((model, region, _),) = chance.choices(SHARES, weights)
        images = 2 if chance.random() < 0.1 else 1
        made.append(Order(number, model, region, images, chance.random() < 0.1))
    return made


def drop(stack: Stack, orders: list[Order]) -> None:
    """Have everything dropped, a hundred a second; each object's event is delivered to `submit`."""
    chance = Random(f"{stack.seed}:drops")
    there: set[str] = set()
    for order in orders:
        moment = START + order.number / _DROPS_A_SECOND
        objects = [(order.sidecar, order.text())]
        if order.image not in there:
            there.add(order.image)
            objects.append((order.image, PICTURE))
            chance.shuffle(objects)
        for place, (key, data) in enumerate(objects):
            later = moment + place * chance.uniform(0.0, 2.0)
            stack.engine.at(later, partial(_put, stack, key, data))


def _put(stack: Stack, key: str, data: bytes) -> None:
    stack.inbox.put(key, data)
    stack.uploads.happened(key)


def enter(stack: Stack, orders: list[Order]) -> None:
    """Enter everything straight into the backlogs, as `submit` does once it has looked at the drop."""
    version = stack.inbox.put(_HIDDEN, PICTURE)
    shared = Source(
        key=_HIDDEN,
        version_id=version,
        sha256=sha256(PICTURE),
        size=len(PICTURE),
        mime="image/png",
        width=512,
        height=512,
    )
    for order in orders:
        model = MODELS[order.model]
        sidecar_version = f"s{order.number}"
        job = Job(
            job_id=job_id_of(order.sidecar, sidecar_version),
            status=Status.WAITING,
            created_at=START,
            updated_at=START,
            sidecar=order.sidecar,
            sidecar_version=sidecar_version,
            folder=keys.outbox_folder(order.sidecar),
            model=order.model,
            function=order.function,
            prompt=order.name,
            parameters=model.completed({"n": order.images}, True, order.function),
            images=(shared,),
        )
        notes = (NoteLatest(order.sidecar, job.job_id, over=None),)
        lane = lane_id(order.region, order.model)
        entered = queue(stack, job, lane, arrived=START + order.number / 1000, notes=notes)
        publish(stack, entered)
    for lane in stack.store.lanes():
        stack.kicks.kick(lane)


@dataclass
class Person:
    """Somebody who cancels a few jobs, decides every hour about those that are held, and tries every
    other one again that failed. A command that gets no answer, or "not now", is given again.
    """

    stack: Stack
    commands: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    """Commands without an answer yet."""
    at_work: bool = True

    def cancel_some(self, orders: list[Order], within: float) -> None:
        """Cancel a few of the jobs, some time within so many seconds."""
        chance = Random(f"{self.stack.seed}:cancels")
        for order in orders:
            if chance.random() < _CANCELED:
                moment = START + chance.uniform(30.0, within)
                self.stack.engine.at(moment, partial(self._cancel, order))

    def _cancel(self, order: Order) -> None:
        job_id = self.stack.store.latest_job_of(order.sidecar)
        if job_id is not None:
            self._command("cancel", job_id)

    def visit(self) -> None:
        """Decide about each job that is held: what a look at the provider's own list of tasks shows is
        adopted; a synchronous call is sent again or given up, by turns.
        """
        if not self.at_work:
            return
        stack = self.stack
        for number, job in enumerate(list(stack.store.jobs_in(Status.UNRESOLVED))):
            model = MODELS[job.model or ""]
            if (job.call or model.call) is Mode.SYNC:
                self._command("again" if number % 2 else "fail", job.job_id)
                continue
            place = stack.accounts[(job.lane or "").partition(":")[0]].places[model.name]
            oldest = stack.engine.now - KEPT_SECONDS
            mine = [
                task
                for task in place.tasks
                if task.name == job.prompt
                and task.created_at > oldest
                and stack.store.owner_of(task.task_id) is None
            ]
            if mine:
                self._command("adopt", job.job_id, mine[0].task_id)
            else:
                self._command("again", job.job_id)
        failed = [job for job in stack.store.jobs_in(Status.FAILED) if job.retried_as is None]
        for job in failed:
            if int(job.sidecar_version.strip("vs") if job.sidecar_version else 0) % 2:
                self._command("retry", job.job_id)
        stack.engine.after(_VISIT_SECONDS, self.visit)

    def _command(self, command: str, job_id: str, task_id: str | None = None) -> None:
        self.commands[command] += 1
        self.waiting += 1
        self._give(command, job_id, task_id)

    def _give(self, command: str, job_id: str, task_id: str | None) -> None:
        stack = self.stack
        try:
            answer = stack.invoke(
                "operate", OPERATE_SECONDS, lambda _: operate(stack, command, job_id, task_id)
            )
        except InvocationFailed:
            answer = None
        if answer is None or str(answer["could_not"]).startswith("not now, try again"):
            again = partial(self._give, command, job_id, task_id)
            stack.engine.after(_AGAIN_SECONDS, again)
        else:
            self.waiting -= 1
