"""Calls that bill and whose answers are lost, from the real handlers to the simulated provider's list.

Functions, state machine and provider share one clock, which is moved instead of being waited for. How
a lost answer comes about is the simulator's doing: it cuts the connection before or after the call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import httpx
import pytest

from retouch.aws.store import DynamoStore
from retouch.jobs import EMPTY_SECONDS, SETTLE_SECONDS, Job, Status
from retouch.provider.client import connection_pool
from retouch.simulator import SimulatorConfig
from retouch.simulator.clock import Clock
from retouch.simulator.faults import Fault
from retouch.simulator.testing import Simulator, running_simulator
from tests.fakes import PHOTO, sidecar_json
from tests.integration.conftest import KEY, Context, Function, Stack
from tests.integration.machine import Machine
from tests.integration.support import LANE, SCHEDULED, command, kicks_of, uploads
from tests.simulator.support import TERMINAL, Api, eventually, wanx

SECRET_WISH = "a secret wish"
LIVES = {
    "submit": 180.0, "dispatch": 75.0, "poll": 60.0, "generate": 600.0, "finalize": 300.0,
    "operate": 60.0, "reconcile": 60.0,
}  # fmt: skip


@dataclass
class SharedTime:
    """The simulator's clock as a function's: nobody waits, everybody's time moves."""

    clock: Clock

    def now(self) -> float:
        return self.clock.now()

    def sleep(self, seconds: float) -> None:
        self.clock.advance(max(0.0, seconds))


@dataclass
class Deployed:
    """The functions of a stack whose provider is the simulator."""

    stack: Stack
    store: DynamoStore
    simulator: Simulator
    function: Function
    pool: httpx.Client
    modules: dict[str, ModuleType] = field(default_factory=dict)

    @property
    def clock(self) -> Clock:
        return self.simulator.clock

    def call(self, name: str, event: dict[str, Any]) -> dict[str, Any]:
        """Invoke a function, with as long to live as the template gives it."""
        context = Context(milliseconds=int(LIVES[name] * 1000))
        answer: dict[str, Any] = self.module(name).handler(event, context)
        return answer

    def module(self, name: str) -> ModuleType:
        """A function's module, with its clock and its connections taken from here."""
        if name not in self.modules:
            module = self.function(name)
            module.runtime.clock = SharedTime(self.clock)
            module.runtime._pool = self.pool
            self.modules[name] = module
        return self.modules[name]

    def drop(self, name: str = "red", **fields: Any) -> Job:
        """Drop a photo and its sidecar; the job in its backlog."""
        s3 = self.stack.s3
        said = sidecar_json(**({"prompt": SECRET_WISH} | fields))
        s3.put_object(Bucket=self.stack.inbox, Key=f"{name}.png", Body=PHOTO)
        s3.put_object(Bucket=self.stack.inbox, Key=f"{name}.png.json", Body=said)
        done = self.call("submit", uploads(f"{name}.png", f"{name}.png.json"))
        assert done == {"batchItemFailures": []}
        job_id = self.store.latest_job_of(f"{name}.png.json")
        assert job_id is not None
        job = self.job(job_id)
        assert job.status is Status.QUEUED, job.problems
        return job

    def dispatch(self) -> None:
        assert self.call("dispatch", kicks_of(LANE)) == {"batchItemFailures": []}

    def job(self, job_id: str) -> Job:
        found = self.store.job(job_id)
        assert found is not None
        return found

    def record(self, name: str = "red") -> dict[str, Any]:
        answer = self.stack.s3.get_object(Bucket=self.stack.outbox, Key=f"{name}/job.json")
        loaded: dict[str, Any] = json.loads(answer["Body"].read())
        return loaded

    def started(self) -> dict[str, dict[str, Any]]:
        """What each execution that was ever started was given, by its name."""
        client = self.stack.stepfunctions
        listed = client.list_executions(stateMachineArn=self.stack.state_machine_arn)["executions"]
        described = [
            client.describe_execution(executionArn=execution["executionArn"])
            for execution in listed
        ]
        return {one["name"]: json.loads(one["input"]) for one in described}

    def execute(self, name: str) -> Machine:
        """Run an execution that was started, as Step Functions does."""
        machine = self.machine()
        machine.run(self.started()[name])
        return machine

    def machine(self) -> Machine:
        names = ("Poll", "Generate", "Finalize")
        functions = {
            name: lambda payload, name=name: self.call(name.lower(), payload) for name in names
        }
        return Machine(functions, self.wait)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        eventually(lambda: all(task.status in TERMINAL for task in self.simulator.tasks))

    def billed(self) -> int:
        return len(self.simulator.tasks)

    def creates(self) -> list[dict[str, Any]]:
        return [request for request in self.simulator.requests if request["route"] == "create"]


QUICK = 0.0
AS_THE_PROVIDER = 1.0


@pytest.fixture
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """As fast as it can draw, unless the test asks for another scale of time."""
    scale = getattr(request, "param", QUICK)
    with running_simulator(SimulatorConfig(time_scale=scale, seed=1)) as found:
        yield found


@pytest.fixture
def pool() -> Iterator[httpx.Client]:
    with connection_pool() as found:
        yield found


@pytest.fixture
def deployed(
    stack: Stack,
    store: DynamoStore,
    function: Function,
    simulator: Simulator,
    pool: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> Deployed:
    at = simulator.origin.removeprefix("http://")
    monkeypatch.setenv("RETOUCH_PROVIDER_BASE_URLS", json.dumps({"beijing": simulator.base_url}))
    monkeypatch.setenv("RETOUCH_RESULT_HOSTS", at)
    monkeypatch.setenv("RETOUCH_INPUT_DELIVERY", "push")  # the simulator cannot reach moto
    return Deployed(stack, store, simulator, function, pool)


def lost(deployed: Deployed, effect: str) -> Job:
    """A job whose create's answer was lost."""
    job = deployed.drop()
    deployed.simulator.faults.set(
        [Fault.model_validate({"effect": effect, "route": "create", "times": 1})]
    )
    deployed.dispatch()
    resolving = deployed.job(job.job_id)
    assert resolving.status is Status.RESOLVING
    assert resolving.task_id is None
    assert resolving.lost_at is not None
    return resolving


@pytest.fixture
def elsewhere(simulator: Simulator) -> Iterator[Api]:
    """Another program with the same account."""
    api = Api(simulator, KEY)
    with api.http:
        yield api


# --- one task, and it is found ----------------------------------------


def test_a_task_whose_answer_was_lost_is_found_and_its_results_come(deployed: Deployed) -> None:
    # Faults 23 and 26.
    job = lost(deployed, "cut_after")
    begun = job.lost_at
    assert begun is not None
    (task,) = deployed.simulator.tasks
    assert deployed.record()["status"] == "RESOLVING"
    assert deployed.record()["doubt"]

    [(name, given)] = deployed.started().items()
    assert name == f"{job.job_id}-1-0"
    assert given == {
        "job_id": job.job_id, "fence": 1, "mode": "async", "wait_seconds": int(SETTLE_SECONDS)
    }  # fmt: skip
    machine = deployed.execute(name)

    done = deployed.job(job.job_id)
    assert (done.status, done.task_id) == (Status.SUCCEEDED, task.id)
    record = deployed.record()
    assert record["outcome"] == {
        "candidates": [], "adopted": True, "sent_again": 0, "resolution": None
    }  # fmt: skip
    assert record["doubt"] is None
    assert [output["key"] for output in record["outputs"]] == ["red/red-1.png"]
    assert deployed.store.owner_of(task.id) == job.job_id
    # It was billed once, and once only was it asked for.
    assert deployed.billed() == 1
    assert len(deployed.creates()) == 1
    assert deployed.store.lane(LANE).slots == {}
    statuses = [e["detail"]["status"] for e in deployed.stack.received(deployed.stack.seen_url)]
    assert statuses == [
        "QUEUED", "ADMITTED", "CREATING", "RESOLVING", "RUNNING", "FINALIZING", "SUCCEEDED"
    ]  # fmt: skip
    (note,) = deployed.stack.received(deployed.stack.heard_url)
    assert note["MessageAttributes"]["status"]["Value"] == "SUCCEEDED"
    carried = "".join(machine.carried)
    for secret in (KEY, SECRET_WISH, "http", "Signature"):
        assert secret not in carried, secret


def test_nothing_is_adopted_before_a_second_one_would_show(deployed: Deployed) -> None:
    job = lost(deployed, "cut_after")
    assert job.lost_at is not None
    turn = {"job_id": job.job_id, "fence": 1, "mode": "async", "wait_seconds": 0}

    early = deployed.call("poll", turn)

    assert early["next"] == "wait"
    assert 0 < early["wait_seconds"] <= SETTLE_SECONDS
    assert deployed.job(job.job_id).status is Status.RESOLVING
    lists = [request for request in deployed.simulator.requests if request["route"] == "list"]
    assert lists == []  # it does not even ask

    deployed.wait(job.lost_at + SETTLE_SECONDS - deployed.clock.now() + 0.1)
    found = deployed.call("poll", turn)

    assert found["next"] == "wait"
    assert deployed.job(job.job_id).status is Status.RUNNING


def test_an_answer_that_is_no_answer_is_a_lost_one_too(deployed: Deployed) -> None:
    # Fault 27: a gateway's page after the task was made.
    job = deployed.drop()
    page = Fault(effect="replace_body", route="create", status=502, body="<html>Bad gateway</html>")
    deployed.simulator.faults.set([page])
    deployed.dispatch()
    assert deployed.job(job.job_id).status is Status.RESOLVING

    deployed.execute(f"{job.job_id}-1-0")

    assert deployed.job(job.job_id).status is Status.SUCCEEDED
    assert deployed.record()["outcome"]["adopted"] is True
    assert deployed.billed() == 1


def test_the_lane_stays_silent_until_the_lost_call_can_be_told_from_the_next(
    deployed: Deployed,
) -> None:
    first = lost(deployed, "cut_after")
    second = deployed.drop("blue", prompt="blue")

    deployed.dispatch()

    assert deployed.job(second.job_id).status is Status.QUEUED
    assert len(deployed.creates()) == 1
    deployed.execute(f"{first.job_id}-1-0")
    assert deployed.job(first.job_id).status is Status.SUCCEEDED
    deployed.clock.advance(60.0)
    deployed.dispatch()
    deployed.execute(f"{second.job_id}-2-0")

    assert deployed.job(second.job_id).status is Status.SUCCEEDED
    one, other = (deployed.job(job.job_id).task_id for job in (first, second))
    assert {one, other} == {task.id for task in deployed.simulator.tasks}
    assert deployed.record("blue")["outcome"]["adopted"] is False


def test_a_task_that_is_another_job_s_is_not_taken(deployed: Deployed) -> None:
    known = deployed.drop("blue", prompt="blue")
    deployed.dispatch()
    task = deployed.job(known.job_id).task_id
    assert task is not None
    deployed.wait(1.0)
    job = lost(deployed, "cut_before")
    # The two are within one another's time, by any clock.
    created = {one.id: one.created for one in deployed.simulator.tasks}
    assert created.keys() == {task}

    deployed.execute(f"{job.job_id}-2-0")

    assert deployed.job(job.job_id).task_id is None
    assert deployed.store.owner_of(task) == known.job_id


def test_a_list_that_cannot_be_had_says_nothing_and_is_asked_for_again(
    deployed: Deployed,
) -> None:
    job = lost(deployed, "cut_after")
    trouble = Fault(effect="answer", route="list", status=500, body={"code": "InternalError"})
    deployed.simulator.faults.set([trouble.model_copy(update={"times": 3})])
    turn = {"job_id": job.job_id, "fence": 1, "mode": "async", "wait_seconds": 0}
    deployed.wait(SETTLE_SECONDS)

    answer = deployed.call("poll", turn)

    assert answer["next"] == "wait"
    assert deployed.job(job.job_id).status is Status.RESOLVING
    assert deployed.job(job.job_id).looks == 0  # nothing was seen, so nothing was seen to be empty
    machine = deployed.machine()
    machine.run(answer)
    assert deployed.job(job.job_id).status is Status.SUCCEEDED
    assert deployed.billed() == 1


# --- no task: it is made again ----------------------------------------


def test_a_call_that_never_arrived_is_made_again_once_the_list_has_stayed_empty(
    deployed: Deployed,
) -> None:
    # Faults 23 and 25.
    job = lost(deployed, "cut_before")
    assert job.lost_at is not None
    assert deployed.billed() == 0
    deployed.stack.received(deployed.stack.kicks_url)

    deployed.execute(f"{job.job_id}-1-0")

    waited = deployed.job(job.job_id)
    assert waited.status is Status.QUEUED
    assert waited.updated_at - job.lost_at >= EMPTY_SECONDS
    assert waited.updated_at - job.lost_at < 2 * EMPTY_SECONDS
    lists = [request for request in deployed.simulator.requests if request["route"] == "list"]
    assert len(lists) >= 2
    assert waited.queue_key == job.queue_key  # it has kept its place
    assert deployed.store.lane(LANE).slots == {}
    assert {"lane": LANE} in deployed.stack.received(deployed.stack.kicks_url)
    assert len(deployed.creates()) == 1

    deployed.dispatch()
    assert sorted(deployed.started()) == [f"{job.job_id}-1-0", f"{job.job_id}-2-0"]
    deployed.execute(f"{job.job_id}-2-0")

    assert deployed.job(job.job_id).status is Status.SUCCEEDED
    record = deployed.record()
    assert record["outcome"]["sent_again"] == 1
    assert record["outcome"]["adopted"] is False
    assert "sent again" in record["doubt"]  # it stays visible for good (rule 1)
    assert deployed.billed() == 1
    assert len(deployed.creates()) == 2


def test_an_execution_of_the_first_try_ends_without_touching_the_second(
    deployed: Deployed,
) -> None:
    # Rule 5: a late worker.
    job = lost(deployed, "cut_before")
    deployed.execute(f"{job.job_id}-1-0")
    deployed.dispatch()
    running = deployed.job(job.job_id)
    assert (running.status, running.fence) == (Status.RUNNING, 2)

    late = deployed.call("poll", {"job_id": job.job_id, "fence": 1})

    assert late == {"job_id": job.job_id, "fence": 1, "next": "stop"}
    assert deployed.job(job.job_id) == running
    assert job.job_id in deployed.store.lane(LANE).slots


def test_a_lane_goes_on_while_a_lost_call_is_looked_for_and_nothing_is_mixed_up(
    deployed: Deployed,
) -> None:
    first = lost(deployed, "cut_before")
    second = deployed.drop("blue", prompt="blue")
    turn = {"job_id": first.job_id, "fence": 1, "mode": "async", "wait_seconds": 0}
    for _ in range(4):
        deployed.wait(15.0)
        assert deployed.call("poll", turn)["next"] == "wait"

    deployed.dispatch()  # the lost call is far enough back by now

    running = deployed.job(second.job_id)
    assert running.status is Status.RUNNING
    assert deployed.job(first.job_id).status is Status.RESOLVING
    deployed.machine().run(turn)
    assert deployed.job(first.job_id).status is Status.QUEUED
    deployed.dispatch()
    deployed.execute(f"{first.job_id}-3-0")
    deployed.execute(f"{second.job_id}-2-0")
    tasks = {task.id: task for task in deployed.simulator.tasks}
    assert len(tasks) == 2
    for job, prompt in ((first, SECRET_WISH), (second, "blue")):
        done = deployed.job(job.job_id)
        assert done.status is Status.SUCCEEDED
        assert done.task_id is not None
        assert tasks[done.task_id].order.prompt == prompt
        assert deployed.store.owner_of(done.task_id) == job.job_id


# --- more than one task: a person is asked ----------------------------------------


def unresolved(deployed: Deployed, elsewhere: Api) -> tuple[Job, str, str]:
    """A job that two tasks could belong to; its own task and the other's."""
    job = lost(deployed, "cut_after")
    (own,) = deployed.simulator.tasks
    foreign = elsewhere.create(wanx(prompt="somebody else's"))
    deployed.execute(f"{job.job_id}-1-0")
    held = deployed.job(job.job_id)
    assert held.status is Status.UNRESOLVED
    assert sorted(held.candidates) == sorted([own.id, foreign])
    return held, own.id, foreign


def test_of_two_tasks_neither_is_taken_and_a_person_is_asked(
    deployed: Deployed, elsewhere: Api
) -> None:
    _, own, foreign = unresolved(deployed, elsewhere)

    record = deployed.record()
    assert record["status"] == "UNRESOLVED"
    assert own in record["doubt"]
    assert foreign in record["doubt"]
    assert sorted(record["outcome"]["candidates"]) == sorted([own, foreign])
    for task in (own, foreign):
        assert deployed.store.owner_of(task) is None
    (note,) = deployed.stack.received(deployed.stack.heard_url)
    assert note["MessageAttributes"]["status"]["Value"] == "UNRESOLVED"
    assert note["MessageAttributes"]["doubt"]["Value"] == "true"
    assert len(deployed.creates()) == 2  # the other's and ours, once


def test_the_task_that_a_person_names_is_adopted_and_its_results_come(
    deployed: Deployed, elsewhere: Api
) -> None:
    job, own, foreign = unresolved(deployed, elsewhere)

    answer = deployed.call("operate", command("adopt", job.job_id, own))

    assert (answer["status"], answer["could_not"]) == ("RUNNING", "")
    assert own in answer["did"]
    deployed.execute(f"{job.job_id}-1-1")
    assert deployed.job(job.job_id).status is Status.SUCCEEDED
    assert deployed.record()["outcome"]["resolution"] == "adopt"
    assert deployed.store.owner_of(own) == job.job_id
    assert deployed.store.owner_of(foreign) is None
    assert deployed.store.lane(LANE).slots == {}
    twice = deployed.call("operate", command("adopt", job.job_id, own))
    assert twice["could_not"] == ""
    assert "already" in twice["did"]
    other = deployed.call("operate", command("adopt", job.job_id, foreign))
    assert other["did"] == ""
    assert "already" in other["could_not"]


def test_a_task_that_the_provider_does_not_know_is_not_adopted(
    deployed: Deployed, elsewhere: Api
) -> None:
    job, _, _ = unresolved(deployed, elsewhere)

    answer = deployed.call("operate", command("adopt", job.job_id, "86ecf553-d340-4e21-0000"))

    assert (answer["status"], answer["did"]) == ("UNRESOLVED", "")
    assert "knows no task" in answer["could_not"]
    assert deployed.job(job.job_id) == job


def test_a_task_that_belongs_to_another_job_is_not_adopted(
    deployed: Deployed, elsewhere: Api
) -> None:
    job, _, _ = unresolved(deployed, elsewhere)
    other = deployed.drop("blue", prompt="blue")
    deployed.clock.advance(60.0)
    deployed.dispatch()
    task = deployed.job(other.job_id).task_id
    assert task is not None

    answer = deployed.call("operate", command("adopt", job.job_id, task))

    assert (answer["status"], answer["did"]) == ("UNRESOLVED", "")
    assert other.job_id in answer["could_not"]
    assert deployed.store.owner_of(task) == other.job_id


def test_a_person_may_have_it_sent_again(deployed: Deployed, elsewhere: Api) -> None:
    job, _, _ = unresolved(deployed, elsewhere)

    answer = deployed.call("operate", command("again", job.job_id))

    assert answer["status"] == "QUEUED"
    deployed.clock.advance(60.0)
    deployed.dispatch()
    deployed.execute(f"{job.job_id}-2-0")
    record = deployed.record()
    assert record["status"] == "SUCCEEDED"
    assert record["outcome"]["resolution"] == "again"
    assert record["doubt"]
    assert len(deployed.creates()) == 3


def test_in_a_shared_account_even_one_task_is_left_to_a_person(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETOUCH_ACCOUNT_USE", "shared")
    job = lost(deployed, "cut_after")
    (task,) = deployed.simulator.tasks

    deployed.execute(f"{job.job_id}-1-0")

    held = deployed.job(job.job_id)
    assert (held.status, held.candidates) == (Status.UNRESOLVED, (task.id,))
    deployed.call("operate", command("adopt", job.job_id, task.id))
    deployed.execute(f"{job.job_id}-1-1")
    assert deployed.job(job.job_id).status is Status.SUCCEEDED
    assert deployed.billed() == 1


# --- interrupted in between ----------------------------------------


@pytest.mark.filterwarnings("ignore:No application metrics:UserWarning")  # it died
def test_a_call_that_was_cut_off_with_its_function_is_looked_for_by_the_next_round(
    deployed: Deployed,
) -> None:
    # Fault 40: the function died after the call and before it recorded the task.
    job = deployed.drop()
    dispatch = deployed.module("dispatch")
    provider = dispatch.runtime.provider("beijing")

    class Dying:
        def create(self, request: Any) -> None:
            provider.create(request)
            raise SystemExit("out of memory")

    real = dispatch.runtime.provider
    dispatch.runtime.provider = lambda _: Dying()
    with pytest.raises(SystemExit):
        deployed.call("dispatch", kicks_of(LANE))
    dispatch.runtime.provider = real
    assert deployed.job(job.job_id).status is Status.CREATING
    assert deployed.started() == {}
    deployed.wait(150.0)

    done = deployed.call("reconcile", SCHEDULED)

    assert done["looked for"] == 1
    deployed.execute(f"{job.job_id}-1-0")
    assert deployed.job(job.job_id).status is Status.SUCCEEDED
    assert deployed.record()["outcome"]["adopted"] is True
    assert deployed.billed() == 1


def test_a_lost_call_that_was_to_be_cancelled_is_not_made_again(deployed: Deployed) -> None:
    job = lost(deployed, "cut_before")

    asked = deployed.call("operate", command("cancel", job.job_id))

    assert asked["status"] == "RESOLVING"
    assert asked["could_not"]
    deployed.execute(f"{job.job_id}-1-0")
    assert deployed.job(job.job_id).status is Status.CANCELED
    assert deployed.store.backlog(LANE, 10) == []
    assert deployed.billed() == 0
    assert len(deployed.creates()) == 1


# --- the provider's word on a cancel ----------------------------------------


@pytest.mark.parametrize("simulator", [AS_THE_PROVIDER], indirect=True)
def test_a_task_that_waits_at_the_provider_is_cancelled_there(deployed: Deployed) -> None:
    busy = deployed.simulator
    jobs = [deployed.drop(name, prompt=name) for name in ("one", "two", "three")]
    deployed.dispatch()
    task_ids = {deployed.job(job.job_id).task_id: job.job_id for job in jobs}
    assert None not in task_ids
    eventually(lambda: sorted(t.status for t in busy.tasks) == ["PENDING", "RUNNING", "RUNNING"])
    states = {task_ids[task.id]: task.status for task in busy.tasks}
    waits = next(job_id for job_id, state in states.items() if state == "PENDING")
    works = next(job_id for job_id, state in states.items() if state == "RUNNING")
    fences = {job.job_id: deployed.job(job.job_id).fence for job in jobs}
    for job_id in (waits, works):
        assert deployed.call("operate", command("cancel", job_id))["status"] == "RUNNING"

    taken = deployed.call("poll", {"job_id": waits, "fence": fences[waits]})
    refused = deployed.call("poll", {"job_id": works, "fence": fences[works]})

    assert taken["next"] == "finalize"
    closed = deployed.call("finalize", taken)
    assert (closed["status"], closed["next"]) == ("CANCELED", "stop")
    assert deployed.job(waits).cost is not None
    assert refused["next"] == "wait"
    said = deployed.call("operate", command("cancel", works))
    assert "the provider refused" in said["could_not"]
    assert deployed.job(works).status is Status.RUNNING
    busy.clock.advance(60.0)
    eventually(lambda: all(task.status in TERMINAL for task in busy.tasks))
    ended = deployed.call("poll", {"job_id": works, "fence": fences[works]})
    assert deployed.call("finalize", ended)["status"] == "SUCCEEDED"
    assert waits not in deployed.store.lane(LANE).slots
