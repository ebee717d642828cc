"""cancel, retry, resolve: at every state, twice, each saying what it did and what it could not."""

from __future__ import annotations

import pytest

from retouch.errors import AccountRefused, ProviderRefused, TryLater
from retouch.jobs import Job, Slot, Status
from retouch.provider.answers import TaskAnswer
from tests.fakes import QWEN, WANX, Crash, FakeTask, Lost, Moment, World, sidecar_json

REFUSED = ProviderRefused("DataInspectionFailed", "no")


def now(world: World, job: Job) -> Job:
    return world.store.the_job(job.job_id)


def slots(world: World, model: str = WANX) -> dict[str, Slot]:
    return world.store.lane(world.lane_of(model)).slots


def messages(world: World, job: Job) -> list[str]:
    return [
        note.attributes["status"]
        for note in world.notices.notifications
        if note.message.get("job_id") == job.job_id
    ]


def waiting_job(world: World) -> Job:
    (job_id,) = world.drop("shoes/red.png.json", sidecar_json())
    job = world.store.the_job(job_id)
    assert job.status is Status.WAITING
    return job


def admitted_job(world: World) -> Job:
    """Dispatch has died right after admitting it."""
    job = world.enter()
    world.effects.plan = lambda _, name: Moment.AFTER if name == "commit" else None
    with pytest.raises(Crash):
        world.dispatch()
    world.effects.heal()
    assert now(world, job).status is Status.ADMITTED
    return now(world, job)


def lost_job(world: World, *, made: bool) -> Job:
    job = world.enter()
    world.provider.next_calls.append(Lost(made))
    world.dispatch()
    assert now(world, job).status is Status.RESOLVING
    return now(world, job)


def held_job(world: World) -> Job:
    """Two tasks could be its own."""
    job = lost_job(world, made=True)
    at = world.clock.now() + 1
    world.provider.foreign.append(FakeTask("foreign", "not ours", at, at + 10, 1, WANX))
    world.run(30)
    assert now(world, job).status is Status.UNRESOLVED
    return now(world, job)


def failed_job(world: World) -> Job:
    job = world.enter()
    world.provider.next_calls.append(REFUSED)
    world.dispatch()
    assert now(world, job).status is Status.FAILED
    return now(world, job)


# --- cancel ----------------------------------------


@pytest.mark.parametrize("state", ["waiting", "queued", "admitted"])
def test_a_job_that_was_not_sent_is_cancelled_at_once(state: str) -> None:
    # Fault 45.
    world = World()
    job = {
        "waiting": waiting_job,
        "queued": lambda world: world.enter(),
        "admitted": admitted_job,
    }[state](world)
    calls = len(world.provider.calls)

    said = world.operate("cancel", job.job_id)

    assert (said["status"], said["could_not"]) == ("CANCELED", "")
    assert "nothing is billed" in said["did"]
    assert world.outbox.record("shoes/red")["status"] == "CANCELED"
    assert messages(world, job) == ["CANCELED"]
    assert slots(world) == {}
    assert world.store.backlog(world.lane_of(WANX), 5) == []
    world.inbox.put("shoes/red.png", b"")
    world.run(300)
    assert now(world, job).status is Status.CANCELED
    assert len(world.provider.calls) == calls

    again = world.operate("cancel", job.job_id)

    assert again == {**said, "did": "it was cancelled already"}
    assert messages(world, job) == ["CANCELED"]


def test_a_synchronous_job_whose_execution_waits_is_cancelled_and_never_called() -> None:
    world = World()
    job = world.admitted_sync_job()

    said = world.operate("cancel", job.job_id)

    assert said["status"] == "CANCELED"
    assert slots(world, QWEN) == {}
    assert world.generate(job.job_id, job.fence)["next"] == "stop"
    assert world.provider.calls == []


def test_a_running_task_that_the_provider_still_cancels_ends_as_cancelled() -> None:
    world = World()
    world.provider.takes_cancels = True
    job = world.running_job()

    said = world.operate("cancel", job.job_id)
    assert said["status"] == "RUNNING"
    assert said["did"] == "the request is noted"
    assert "asked at the next look" in said["could_not"]
    world.run(20)

    ended = now(world, job)
    assert ended.status is Status.CANCELED
    assert ended.failure is not None
    assert ended.failure.code == "Canceled"
    assert ended.doubt is None
    assert ended.cost is not None
    assert ended.cost.images == 0
    assert world.provider.cancels == ["task-0001"]
    assert messages(world, job) == ["CANCELED"]
    assert world.outbox.record("shoes/red")["cancel"]["answer"] == "the provider took it"
    assert slots(world) == {}
    assert world.operate("cancel", job.job_id)["did"] == "it was cancelled already"


def test_a_running_task_that_is_not_cancelled_goes_on_and_its_results_come() -> None:
    # Contract 2.6: a refused cancel is a normal outcome.
    world = World()
    job = world.running_job()

    world.operate("cancel", job.job_id)
    world.operate("cancel", job.job_id)
    world.run(6)
    said = world.operate("cancel", job.job_id)

    assert said["did"] == "the request was noted already"
    assert "billed" in said["could_not"]
    assert world.provider.cancels == ["task-0001"]
    world.run(20)
    assert now(world, job).status is Status.SUCCEEDED
    assert messages(world, job) == ["SUCCEEDED"]


def test_a_cancel_that_cannot_be_asked_now_is_asked_again() -> None:
    world = World()
    world.provider.seconds = 60.0
    job = world.running_job()
    world.operate("cancel", job.job_id)
    failures: list[Exception] = [TryLater("HTTP 503"), AccountRefused("InvalidApiKey", "no")]
    world.provider.next_cancels += failures

    world.run(90)

    assert world.provider.cancels == ["task-0001"] * 3
    assert now(world, job).cancel_answer is not None
    assert now(world, job).status is Status.SUCCEEDED


@pytest.mark.parametrize("made", [True, False])
def test_a_lost_call_that_was_to_be_cancelled_is_not_sent_again(made: bool) -> None:
    world = World()
    job = lost_job(world, made=made)

    said = world.operate("cancel", job.job_id)
    assert said["status"] == "RESOLVING"
    assert "not sent again" in said["could_not"]
    world.run(300)

    assert len(world.provider.calls) == 1
    ended = now(world, job)
    if made:  # found, too late to be cancelled
        assert ended.status is Status.SUCCEEDED
        assert world.provider.cancels == ["task-0001"]
    else:
        assert ended.status is Status.CANCELED
        assert ended.doubt is None
    assert slots(world) == {}


def test_a_call_under_way_is_cancelled_as_soon_as_its_task_is_known() -> None:
    world = World()
    world.provider.takes_cancels = True
    job = world.enter()
    asked: list[dict[str, object]] = []
    world.provider.during_call.append(lambda: asked.append(world.operate("cancel", job.job_id)))

    world.dispatch()

    assert asked[0]["status"] == "CREATING"
    assert now(world, job).task_id == "task-0001", "what was noted meanwhile must not lose the task"
    world.run(20)
    assert now(world, job).status is Status.CANCELED


def test_a_refused_call_that_was_to_be_cancelled_is_not_queued_again() -> None:
    world = World()
    job = world.enter()
    world.provider.during_call.append(lambda: world.operate("cancel", job.job_id))
    world.provider.next_calls.append(TryLater("slow down", code="Throttling"))

    world.dispatch()

    assert now(world, job).status is Status.CANCELED
    assert slots(world) == {}
    assert world.store.backlog(world.lane_of(WANX), 5) == []


def test_a_synchronous_call_under_way_cannot_be_stopped() -> None:
    world = World()
    job = world.admitted_sync_job()
    asked: list[dict[str, object]] = []
    world.provider.during_call.append(lambda: asked.append(world.operate("cancel", job.job_id)))

    answer = world.generate(job.job_id, job.fence)

    assert "cannot be stopped" in str(asked[0]["could_not"])
    assert answer["next"] == "finalize"
    world.finalize(job.job_id, job.fence)
    assert now(world, job).status is Status.SUCCEEDED


def test_results_that_are_being_copied_are_not_cancelled() -> None:
    world = World()
    job = world.finalizing_job()
    before = now(world, job)

    said = world.operate("cancel", job.job_id)

    assert said["did"] == ""
    assert "too late" in str(said["could_not"])
    assert now(world, job) == before


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_a_held_job_is_for_resolve(command: str) -> None:
    world = World()
    job = held_job(world)

    said = world.operate(command, job.job_id)

    assert said["did"] == ""
    assert "retouch resolve" in str(said["could_not"])
    assert now(world, job) == job


def test_what_has_ended_is_not_cancelled() -> None:
    world = World()
    job = failed_job(world)

    said = world.operate("cancel", job.job_id)

    assert said["could_not"] == "it has ended already as FAILED"
    assert now(world, job) == job


@pytest.mark.parametrize("command", ["cancel", "retry", "adopt", "again", "fail"])
def test_a_job_that_is_not_there_is_said_to_be_so(command: str) -> None:
    said = World().operate(command, "a" * 16, "task")

    assert said == {
        "job_id": "a" * 16,
        "status": None,
        "did": "",
        "could_not": "there is no such job",
    }


# --- retry ----------------------------------------


def test_a_failed_job_is_tried_again_as_a_new_one_once() -> None:
    world = World()
    job = failed_job(world)

    said = world.operate("retry", job.job_id)

    new = world.store.the_job(str(said["job_id"]))
    assert new.job_id != job.job_id
    assert (new.status, new.retry_of) == (Status.QUEUED, job.job_id)
    assert now(world, job).retried_as == new.job_id
    assert (new.prompt, new.parameters, new.images[0].version_id) == (
        job.prompt,
        job.parameters,
        job.images[0].version_id,
    )
    assert said["could_not"] == ""
    world.run(40)
    assert now(world, new).status is Status.SUCCEEDED
    assert world.outbox.record("shoes/red")["job_id"] == new.job_id
    assert world.outbox.results() == ["shoes/red/red-1.png"]

    again = world.operate("retry", job.job_id)

    assert "already" in str(again["could_not"])
    assert again["job_id"] == new.job_id
    assert len(world.provider.billed) == 1
    assert messages(world, job) == ["FAILED"]
    assert messages(world, new) == ["SUCCEEDED"]


def test_a_retry_that_died_half_way_is_finished_by_the_next() -> None:
    for moment in Moment:
        number = 0
        while True:
            number += 1
            world = World()
            job = failed_job(world)
            world.effects.crash_at(number, moment)
            try:
                world.operate("retry", job.job_id)
            except Crash:
                world.effects.heal()
            else:
                break
            world.operate("retry", job.job_id)
            world.run(200)
            ended = [j for j in world.store.jobs.values() if j.retry_of == job.job_id]
            assert [j.status for j in ended] == [Status.SUCCEEDED], (number, moment)
            assert now(world, job).retried_as == ended[0].job_id
            assert len(world.provider.billed) == 1
        assert number > 5


def test_a_retry_of_an_older_version_does_not_take_the_place_of_the_newer() -> None:
    world = World()
    old = failed_job(world)
    (new_id,) = world.drop("shoes/red.png.json", sidecar_json(prompt="the newer one"))
    world.run(40)
    assert world.store.the_job(new_id).status is Status.SUCCEEDED

    said = world.operate("retry", old.job_id)
    world.run(40)

    assert world.store.the_job(str(said["job_id"])).status is Status.SUCCEEDED
    assert world.outbox.record("shoes/red")["job_id"] == new_id
    assert f"shoes/red/{said['job_id']}/{said['job_id']}-1.png" in world.outbox.results()


def test_a_refused_drop_is_judged_anew() -> None:
    world = World()
    (job_id,) = world.drop("shoes/red.png.json", sidecar_json(prompt=""))
    assert world.store.the_job(job_id).status is Status.REJECTED

    said = world.operate("retry", job_id)

    assert said["status"] == "REJECTED"
    assert "refused again" in str(said["could_not"])
    assert world.outbox.record("shoes/red")["status"] == "REJECTED"


def test_what_has_succeeded_waits_or_runs_is_not_tried_again() -> None:
    world = World()
    done = world.finalizing_job("done")
    world.finalize(done.job_id, done.fence)
    running = world.running_job("running")
    waiting = waiting_job(world)

    for job in (done, running, waiting):
        before = now(world, job)
        said = world.operate("retry", job.job_id)
        assert (said["did"], bool(said["could_not"])) == ("", True)
        assert now(world, job) == before


def test_a_paused_lane_is_tried_at_once() -> None:
    # Fault 33, mended.
    world = World()
    job = world.enter()
    world.provider.next_calls.append(AccountRefused("Arrearage", "pay"))
    world.dispatch()
    world.kicks.sent.clear()
    assert world.dispatch() == 0

    said = world.operate("retry", job.job_id)

    assert said["could_not"] == ""
    assert world.kicks.sent == [job.lane]
    assert world.dispatch() == 1
    assert now(world, job).status is Status.RUNNING
    other = world.enter("other")
    assert world.operate("retry", other.job_id)["did"] == ""


def test_results_that_could_not_be_copied_are_copied_again() -> None:
    world = World()
    job = world.finalizing_job()
    for execution in world.executions.running():
        execution.running = False

    said = world.operate("retry", job.job_id)

    assert "copying" in str(said["did"])
    assert "at this moment" in str(world.operate("retry", job.job_id)["could_not"])
    world.run(10)
    assert now(world, job).status is Status.SUCCEEDED


# --- resolve ----------------------------------------


def test_a_task_is_adopted_by_a_person() -> None:
    world = World()
    job = held_job(world)

    said = world.operate("adopt", job.job_id, "task-0001")

    assert (said["status"], said["could_not"]) == ("RUNNING", "")
    assert world.store.owner_of("task-0001") == job.job_id
    world.run(20)
    ended = now(world, job)
    assert (ended.status, ended.resolution, ended.doubt) == (Status.SUCCEEDED, "adopt", None)
    assert world.provider.billed == ["make the sky red"]
    assert slots(world) == {}

    again = world.operate("adopt", job.job_id, "task-0001")
    assert again["did"] == "it was resolved by --adopt already; it is SUCCEEDED now"
    other = world.operate("again", job.job_id)
    assert (other["did"], bool(other["could_not"])) == ("", True)
    assert len(world.provider.calls) == 1


def test_a_task_that_is_not_there_or_another_s_is_not_adopted() -> None:
    world = World()
    other = world.enter("other", prompt="other")
    world.dispatch()
    world.run(40)
    owned = now(world, other).task_id
    job = held_job(world)

    unknown = world.operate("adopt", job.job_id, "nothing")
    taken = world.operate("adopt", job.job_id, owned)
    world.provider.next_queries.append(TryLater("HTTP 503"))
    silent = world.operate("adopt", job.job_id, "task-0002")

    assert "knows no task nothing" in str(unknown["could_not"])
    assert f"belongs to job {other.job_id}" in str(taken["could_not"])
    assert "cannot be asked" in str(silent["could_not"])
    assert now(world, job) == job


def test_a_call_is_sent_again_by_a_person_with_a_mark() -> None:
    world = World()
    job = held_job(world)

    said = world.operate("again", job.job_id)

    assert (said["status"], said["could_not"]) == ("QUEUED", "")
    assert "billed twice" in str(said["did"])
    world.run(60)
    ended = now(world, job)
    assert (ended.status, ended.sent_again) == (Status.SUCCEEDED, 1)
    assert ended.doubt is not None
    assert len(world.provider.calls) == 2
    assert slots(world) == {}
    assert world.operate("again", job.job_id)["could_not"] == ""
    assert len(world.provider.calls) == 2


def test_a_held_job_is_given_up_with_its_doubt() -> None:
    world = World()
    job = held_job(world)

    said = world.operate("fail", job.job_id)

    assert said["status"] == "FAILED"
    ended = now(world, job)
    assert ended.failure is not None
    assert ended.failure.code == "GivenUp"
    assert ended.doubt == job.doubt
    assert messages(world, job) == ["UNRESOLVED", "FAILED"]
    assert "already" in str(world.operate("fail", job.job_id)["did"])
    assert messages(world, job) == ["UNRESOLVED", "FAILED"]


def test_a_synchronous_call_leaves_nothing_to_adopt() -> None:
    world = World()
    job = world.admitted_sync_job()
    world.provider.next_calls.append(Lost(made=True))
    world.generate(job.job_id, job.fence)
    assert now(world, job).status is Status.UNRESOLVED

    said = world.operate("adopt", job.job_id, "task-0001")

    assert "leaves no task" in str(said["could_not"])
    assert world.operate("again", job.job_id)["status"] == "QUEUED"
    world.run(30)
    assert now(world, job).status is Status.SUCCEEDED


@pytest.mark.parametrize("how", ["adopt", "again", "fail"])
def test_a_job_that_is_not_held_is_not_resolved(how: str) -> None:
    world = World()
    job = world.running_job()

    said = world.operate(how, job.job_id, "task-0001")

    assert said["could_not"] == "it is RUNNING, not held for a decision"
    assert now(world, job) == job


def test_a_decision_that_died_half_way_is_finished_by_itself_or_by_the_next() -> None:
    for how in ("adopt", "again", "fail"):
        for moment in Moment:
            number = 0
            while True:
                number += 1
                world = World()
                job = held_job(world)
                world.effects.crash_at(number, moment)
                try:
                    world.operate(how, job.job_id, "task-0001")
                except Crash:
                    world.effects.heal()
                else:
                    break
                world.run(400)
                world.operate(how, job.job_id, "task-0001")
                world.run(400)
                ended = now(world, job)
                wanted = Status.FAILED if how == "fail" else Status.SUCCEEDED
                assert ended.status is wanted, (how, number, moment)
                assert len(world.provider.calls) == (2 if how == "again" else 1)
                assert slots(world) == {}
            assert number > 3


def test_a_table_that_is_busy_is_said() -> None:
    world = World()
    job = world.enter()
    world.effects.throttle = lambda name: name == "commit"

    said = world.operate("cancel", job.job_id)

    assert "try again" in str(said["could_not"])
    assert now(world, job).status is Status.QUEUED


def test_a_query_that_says_cancelled_though_nobody_asked_is_a_failure() -> None:
    world = World()
    job = world.running_job()
    world.provider.answers["task-0001"] = TaskAnswer(status="CANCELED")

    world.run(20)

    assert now(world, job).status is Status.FAILED
