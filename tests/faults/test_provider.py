"""Faults of the provider and of the line to it, met by the real client over a scripted wire."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from retouch.errors import AccountRefused
from retouch.jobs import Failure, Job, Status
from retouch.provider.answers import TaskAnswer
from retouch.registry import TASK_DEADLINE_SECONDS
from retouch.steps.submit import submit
from tests.fakes import QWEN, WAN, WANX, FakeProvider, Notification, World
from tests.faults.dying import all_ended_well
from tests.faults.rules import all_jobs, check_rules, play, play_for
from tests.faults.support import now, put
from tests.faults.wire import (
    Mishap,
    Route,
    WiredProvider,
    after_all,
    broken,
    changed,
    cut_off,
    error,
    html,
    instead,
    wired,
)


def entered(*names: str, model: str = WANX, **fields: Any) -> tuple[World, WiredProvider]:
    """Jobs in their lane's backlog, in this order."""
    world, provider = wired()
    enter(world, *names, model=model, **fields)
    return world, provider


def enter(world: World, *names: str, model: str = WANX, **fields: Any) -> None:
    """Drop photos with their sidecars."""
    for name in names:
        world.clock.advance(0.01)
        put(world, name, model, **fields)
        submit(world, f"{name}.png.json")


def alerts(world: World, kind: str) -> list[Notification]:
    """The alerts of a kind that were sent."""
    return [note for note in world.notices.notifications if note.attributes.get("alert") == kind]


def message_about(world: World, job: Job) -> Notification:
    """The one message about a job."""
    (note,) = [n for n in world.notices.notifications if n.message.get("job_id") == job.job_id]
    return note


# --- a create whose answer is lost ----------------------------------------

LOST: dict[str, Mishap] = {
    "no answer in time": after_all(broken(httpx.ReadTimeout)),
    "the connection is reset": after_all(broken(httpx.ReadError)),
    "the connection ends": after_all(broken(httpx.RemoteProtocolError)),
    "the answer is cut off": cut_off(20),
}


@pytest.mark.fault(23)
@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("model", [WANX, WAN])
def test_fault_23_the_task_of_a_create_that_timed_out_is_found_and_taken_on(
    model: str, how: str
) -> None:
    world, provider = entered("red", "blue", "green", model=model)
    provider.mishaps["create"].append(LOST[how])

    play(world)

    all_ended_well(world)
    red = all_jobs(world)[0]
    assert (red.adopted, red.sent_again, red.doubt) == (True, 0, None)
    assert (red.task_id, red.create_request_id) == ("task-0001", "request-task-0001")
    assert len(provider.sent("create")) == 3
    assert world.outbox.record("red")["outcome"]["adopted"] is True
    check_rules(world)


@pytest.mark.fault(23)
@pytest.mark.parametrize("seconds", [30.0, 100.0])
def test_fault_23_the_task_shows_in_the_list_only_later(seconds: float) -> None:
    world, provider = entered("red", "blue")
    provider.mishaps["create"].append(after_all(broken(httpx.ReadTimeout)))
    provider.shows_after = seconds

    play(world)

    all_ended_well(world)
    assert all_jobs(world)[0].adopted
    check_rules(world)


@pytest.mark.fault(23, 27)
def test_fault_23_the_list_cannot_be_had_for_an_hour() -> None:
    world, provider = entered("red", "blue")
    provider.mishaps["create"].append(after_all(broken(httpx.ReadTimeout)))
    provider.always["list"] = instead(error(500, "InternalError"))

    play_for(world, 3600)
    red = all_jobs(world)[0]
    assert red.status is Status.RESOLVING
    assert world.outbox.record("red")["doubt"]
    provider.always.clear()
    play(world)

    all_ended_well(world)
    assert now(world, red).adopted
    check_rules(world)


@pytest.mark.fault(23)
def test_fault_23_three_answers_in_a_row_are_lost_and_no_task_is_mistaken_for_another() -> None:
    world, provider = entered(*"abcdef")
    provider.mishaps["create"].extend([after_all(broken(httpx.ReadTimeout))] * 3)

    play(world)

    all_ended_well(world)
    for job in all_jobs(world):
        assert provider.tasks_made[job.task_id or ""].prompt == job.prompt
    assert [job.adopted for job in all_jobs(world)] == [True] * 3 + [False] * 3
    check_rules(world)


@pytest.mark.fault(23)
@pytest.mark.parametrize("decision", ["again", "fail"])
def test_fault_23_a_synchronous_call_that_was_made_leaves_its_doubt_to_a_person(
    decision: str,
) -> None:
    world, provider = entered("red", "blue", model=QWEN)
    provider.mishaps["sync"].append(after_all(broken(httpx.ReadTimeout)))

    play(world)

    red, blue = all_jobs(world)
    assert (red.status, blue.status) == (Status.UNRESOLVED, Status.SUCCEEDED)
    assert message_about(world, red).attributes["doubt"] == "true"
    assert world.outbox.record("red")["doubt"] == red.doubt
    assert world.provider.billed == ["edit red", "edit blue"]
    check_rules(world)

    assert world.operate(decision, red.job_id)["could_not"] == ""
    play(world)
    after = now(world, red)
    assert after.doubt
    assert after.status is (Status.SUCCEEDED if decision == "again" else Status.FAILED)
    assert world.provider.billed.count("edit red") == (2 if decision == "again" else 1)
    check_rules(world)


NOT_MADE: dict[str, Mishap] = {
    "no answer in time": instead(broken(httpx.ReadTimeout)),
    "the connection is reset": instead(broken(httpx.ReadError)),
    "a gateway's timeout": instead(html(504)),
}


@pytest.mark.fault(24)
@pytest.mark.parametrize("how", NOT_MADE)
@pytest.mark.parametrize("model", [WANX, WAN])
def test_fault_24_a_create_that_made_nothing_is_sent_again_once_the_list_stayed_empty(
    model: str, how: str
) -> None:
    world, provider = entered("red", "blue", "green", model=model)
    provider.mishaps["create"].append(NOT_MADE[how])
    begun = world.clock.now()

    play(world)

    all_ended_well(world)
    red = all_jobs(world)[0]
    assert (red.adopted, red.sent_again) == (False, 1)
    again = provider.tasks_made[red.task_id or ""]
    assert again.created_at - begun >= 120
    assert len(provider.lists) >= 3
    # Whoever pays can see that there may have been two.
    assert world.outbox.record("red")["doubt"] == red.doubt
    assert message_about(world, red).attributes["doubt"] == "true"
    check_rules(world)


@pytest.mark.fault(24)
def test_fault_24_a_task_that_shows_only_after_the_call_was_made_again_is_said_to_be_possible() -> (
    None
):
    world, provider = entered("red")
    provider.mishaps["create"].append(after_all(broken(httpx.ReadTimeout)))
    provider.shows_after = 1000.0

    play(world)

    red = all_jobs(world)[0]
    assert (red.status, red.sent_again) == (Status.SUCCEEDED, 1)
    assert provider.billed == ["edit red"] * 2
    assert "more than one task" in (red.doubt or "")
    assert message_about(world, red).attributes["doubt"] == "true"
    check_rules(world)


@pytest.mark.fault(24)
def test_fault_24_a_call_that_is_lost_over_and_over_is_given_to_a_person() -> None:
    world, provider = entered("red")
    provider.always["create"] = instead(broken(httpx.ReadTimeout))

    play(world)

    (red,) = all_jobs(world)
    assert red.status is Status.UNRESOLVED
    assert len(provider.sent("create")) == 4
    assert provider.billed == []
    check_rules(world)

    provider.always.clear()
    assert world.operate("again", red.job_id)["could_not"] == ""
    play(world)
    all_ended_well(world)
    assert now(world, red).doubt
    check_rules(world)


@pytest.mark.fault(24)
def test_fault_24_a_synchronous_call_that_made_nothing_is_given_to_a_person() -> None:
    world, provider = entered("red", model=QWEN)
    provider.mishaps["sync"].append(instead(broken(httpx.ReadTimeout)))

    play(world)

    (red,) = all_jobs(world)
    assert red.status is Status.UNRESOLVED
    assert provider.billed == []
    check_rules(world)


@pytest.mark.fault(24)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_24_a_call_that_did_not_leave_the_house_is_simply_made_later(model: str) -> None:
    world, provider = entered("red", "blue", model=model)
    route = provider.mishaps["sync" if model == QWEN else "create"]
    route.extend([instead(broken(httpx.ConnectError))] * 4)

    play(world)

    all_ended_well(world)
    assert {job.doubt for job in all_jobs(world)} == {None}
    check_rules(world)


# --- refusals for pace ----------------------------------------

PACE = {
    "Throttling": "Requests throttling triggered.",
    "Throttling.RateQuota": "Requests rate limit exceeded, please try again later.",
    "Throttling.Concurrency": "too many concurrent tasks",
    "LimitRequests": "You exceeded your current requests list.",
}


@pytest.mark.fault(25)
@pytest.mark.parametrize("code", PACE)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_25_a_refusal_for_pace_costs_no_job_its_place(model: str, code: str) -> None:
    world, provider = entered(*"abcde", model=model)
    route = provider.mishaps["sync" if model == QWEN else "create"]
    route.extend([instead(error(429, code, PACE[code]))] * 3)

    play(world)

    all_ended_well(world)
    assert {job.doubt for job in all_jobs(world)} == {None}
    if model == WANX:
        assert provider.billed == [f"edit {name}" for name in "abcde"]
    check_rules(world)


@pytest.mark.fault(25)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_25_an_hour_of_refusals_is_waited_out_without_hammering(model: str) -> None:
    world, provider = entered(*"abcde", model=model)
    route: Route = "sync" if model == QWEN else "create"
    provider.always[route] = instead(error(429, "Throttling", PACE["Throttling"]))

    play_for(world, 3600)

    # One a minute, in a window of four calls at once four.
    assert len(provider.sent(route)) < (300 if model == QWEN else 80)
    refused = [job.refusal.code for job in all_jobs(world) if job.refusal is not None]
    assert set(refused) == {"Throttling"}
    assert provider.billed == []
    provider.always.clear()
    play(world)
    all_ended_well(world)
    check_rules(world)


@pytest.mark.fault(25)
def test_fault_25_a_provider_that_does_not_queue_beyond_its_quota_is_taken_at_its_word() -> None:
    world = World()
    world.provider.most_in_flight = 2
    enter(world, *(f"job{number}" for number in range(20)))

    play(world)

    all_ended_well(world)
    refused = len(world.provider.calls) - len(world.provider.billed)
    assert 0 < refused <= 5
    check_rules(world)


# --- 5xx ----------------------------------------

BROKEN_SERVERS = {
    "500": error(500, "InternalError", "An internal error has occured"),
    "500 of another name": error(500, "SystemError"),
    "502 by a gateway": html(502),
    "503": error(503, "ServiceUnavailable"),
    "504 by a gateway": html(504),
    "408": error(408, "RequestTimeOut"),
}


@pytest.mark.fault(26)
@pytest.mark.parametrize("kind", BROKEN_SERVERS)
@pytest.mark.parametrize("model", [WANX, WAN])
def test_fault_26_the_task_of_a_create_that_was_answered_5xx_is_found_and_taken_on(
    model: str, kind: str
) -> None:
    world, provider = entered("red", "blue", model=model)
    provider.mishaps["create"].append(after_all(BROKEN_SERVERS[kind]))

    play(world)

    all_ended_well(world)
    red = all_jobs(world)[0]
    assert (red.adopted, red.sent_again, red.doubt) == (True, 0, None)
    assert len(provider.sent("create")) == 2
    check_rules(world)


@pytest.mark.fault(26)
def test_fault_26_a_synchronous_call_that_was_answered_5xx_is_never_simply_repeated() -> None:
    world, provider = entered("red", "blue", model=QWEN)
    provider.mishaps["sync"].append(after_all(BROKEN_SERVERS["500"]))

    play(world)

    red, blue = all_jobs(world)
    assert (red.status, blue.status) == (Status.UNRESOLVED, Status.SUCCEEDED)
    assert "InternalError" in (red.doubt or "")
    assert len(provider.sent("sync")) == 2
    check_rules(world)


# --- queries ----------------------------------------

BAD_QUERIES: dict[str, Mishap] = {
    "429": instead(error(429, "Throttling.RateQuota", "Requests rate limit exceeded")),
    "500": instead(error(500, "InternalError")),
    "502 by a gateway": instead(html(502)),
    "503": instead(error(503, "ServiceUnavailable")),
    "no answer in time": instead(broken(httpx.ReadTimeout)),
    "nobody there": instead(broken(httpx.ConnectError)),
}


@pytest.mark.fault(27)
@pytest.mark.parametrize("kind", BAD_QUERIES)
@pytest.mark.parametrize("times", [1, 3, 30])
def test_fault_27_a_query_that_failed_says_nothing_about_its_task(kind: str, times: int) -> None:
    world, provider = entered("red", "blue")
    provider.mishaps["query"].extend([BAD_QUERIES[kind]] * times)

    play(world)

    all_ended_well(world)
    assert not provider.mishaps["query"]
    assert len(provider.sent("create")) == 2
    check_rules(world)


@pytest.mark.fault(27)
@pytest.mark.parametrize("kind", ["429", "502 by a gateway"])
def test_fault_27_queries_that_fail_for_hours_lose_no_task_and_no_slot(kind: str) -> None:
    world, provider = entered(*"abcde")
    provider.always["query"] = BAD_QUERIES[kind]

    play_for(world, 4 * 3600)

    running = [job for job in all_jobs(world) if job.status is Status.RUNNING]
    assert {job.job_id for job in running} == set(world.store.lane(world.lane_of(WANX)).slots)
    assert len(running) == len(provider.billed) == 3
    provider.always.clear()
    play(world)
    all_ended_well(world)
    check_rules(world)


# --- what became of the task ----------------------------------------

TIMED_OUT = Failure(code="InternalError.Timeout", message="no result in time", request_id="r-5")


@pytest.mark.fault(28)
def test_fault_28_a_failed_task_ends_its_job_with_the_provider_s_words_and_costs_nothing() -> None:
    world, provider = entered(*"abcd")
    provider.answers["task-0001"] = TaskAnswer(status="FAILED", failure=TIMED_OUT, request_id="r-5")

    play(world)

    failed, *others = all_jobs(world)
    assert (failed.status, failed.failure, failed.doubt) == (Status.FAILED, TIMED_OUT, None)
    record = world.outbox.record("a")
    assert record["failure"]["code"] == "InternalError.Timeout"
    assert (record["cost"]["images"], record["cost"]["amount"]) == (0, "0.00")
    assert message_about(world, failed).message["failure"] == {"code": "InternalError.Timeout"}
    assert {job.status for job in others} == {Status.SUCCEEDED}
    assert len(provider.sent("create")) == 4  # it is not tried again by itself
    check_rules(world)


@pytest.mark.fault(28)
def test_fault_28_a_failure_that_is_told_as_an_http_error_is_the_task_s_own() -> None:
    # Contract 4.4: the messages models may put a failed task's error on the top level.
    world, provider = entered("red", "blue", model=WAN)
    provider.mishaps["query"].append(instead(error(400, "InternalError.Algo", "went wrong")))

    play(world)

    red, blue = sorted(all_jobs(world), key=lambda job: job.status)
    assert (red.status, blue.status) == (Status.FAILED, Status.SUCCEEDED)
    assert red.failure is not None
    assert red.failure.code == "InternalError.Algo"
    check_rules(world)


@pytest.mark.fault(29)
def test_fault_29_the_images_that_came_are_delivered_and_the_others_are_explained() -> None:
    world, provider = entered("red", "blue", parameters={"n": 3})
    refused = Failure(code="DataInspectionFailed", message="Output data may be inappropriate.")
    provider.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED",
        images=FakeProvider.urls("task-0001", 2),
        image_failures=(refused,),
        usage={"image_count": 2},
    )

    play(world)

    red, blue = all_jobs(world)
    assert (red.status, blue.status) == (Status.PARTIAL, Status.SUCCEEDED)
    record = world.outbox.record("red")
    assert [output["key"] for output in record["outputs"]] == ["red/red-1.png", "red/red-2.png"]
    assert [failure["code"] for failure in record["image_failures"]] == ["DataInspectionFailed"]
    assert (record["cost"]["images"], record["doubt"]) == (2, None)
    note = message_about(world, red)
    assert (note.attributes["status"], note.message["failed_images"]) == ("PARTIAL", 1)
    check_rules(world)


@pytest.mark.fault(29)
def test_fault_29_fewer_images_than_were_asked_for_are_said_to_be_fewer() -> None:
    world, provider = entered("red", parameters={"n": 4})
    provider.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED", images=FakeProvider.urls("task-0001", 3), usage={"image_count": 3}
    )

    play(world)

    (red,) = all_jobs(world)
    assert (red.status, len(red.outputs)) == (Status.PARTIAL, 3)
    assert red.cost is not None
    assert red.cost.images == 3
    check_rules(world)


@pytest.mark.fault(29)
def test_fault_29_no_image_came_though_the_task_went_well() -> None:
    world, provider = entered("red")
    provider.answers["task-0001"] = TaskAnswer(status="SUCCEEDED", usage={"image_count": 1})

    play(world)

    (red,) = all_jobs(world)
    assert red.status is Status.FAILED
    assert red.doubt
    assert message_about(world, red).attributes["doubt"] == "true"
    check_rules(world)


@pytest.mark.fault(30)
@pytest.mark.parametrize("times", [1, 3, 8])
def test_fault_30_a_task_that_is_unknown_at_once_is_asked_after_again(times: int) -> None:
    world, provider = entered("red")

    def unknown(said: dict[str, Any]) -> None:
        said["output"] = {"task_id": "task-0001", "task_status": "UNKNOWN"}

    provider.mishaps["query"].extend([changed(unknown)] * times)

    play(world)

    all_ended_well(world)
    check_rules(world)


@pytest.mark.fault(30)
def test_fault_30_a_task_that_stays_unknown_ends_with_its_doubt() -> None:
    world, provider = entered("red", *"bcd")
    provider.answers["task-0001"] = TaskAnswer(status="UNKNOWN")
    begun = world.clock.now()

    play(world)

    red, *others = all_jobs(world)
    assert red.status is Status.FAILED
    assert red.failure is not None
    assert (red.failure.code, bool(red.doubt)) == ("TaskUnknown", True)
    assert red.finished_at is not None
    assert 60 <= red.finished_at - begun < 120
    assert message_about(world, red).attributes["doubt"] == "true"
    assert {job.status for job in others} == {Status.SUCCEEDED}
    check_rules(world)


@pytest.mark.fault(30)
def test_fault_30_a_task_that_nobody_could_ask_after_for_24_hours_was_alarmed_in_time() -> None:
    world, provider = entered("red")
    provider.always["query"] = instead(broken(httpx.ConnectError))

    play_for(world, 20 * 3600 - 120)
    assert alerts(world, "results-at-risk") == []
    play_for(world, 300)
    (alert,) = alerts(world, "results-at-risk")
    assert "red.png.json" in alert.message["text"]
    play_for(world, 5 * 3600)
    provider.always.clear()
    play(world)

    (red,) = all_jobs(world)
    assert red.status is Status.FAILED
    assert red.doubt
    assert len(alerts(world, "results-at-risk")) == 1
    assert len(provider.sent("create")) == 1
    check_rules(world)


@pytest.mark.fault(31)
@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
@pytest.mark.parametrize("hours", [1.0, 2.9])
def test_fault_31_a_task_that_takes_hours_is_delivered(state: str, hours: float) -> None:
    world, provider = entered("red", "blue")
    provider.seconds = hours * 3600

    def named(said: dict[str, Any]) -> None:
        if said["output"]["task_status"] == "RUNNING":
            said["output"]["task_status"] = state

    provider.always["query"] = changed(named)

    play(world)

    all_ended_well(world)
    assert len(provider.queries) < 2 * (60 + hours * 3600 / 40)  # ever more slowly
    check_rules(world)


@pytest.mark.fault(31)
@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_fault_31_a_task_that_never_ends_is_given_up_after_the_provider_s_own_limit(
    state: str,
) -> None:
    world, provider = entered(*"abcd")
    for number in (1, 2, 3):
        provider.answers[f"task-000{number}"] = TaskAnswer(status=state)
    begun = world.clock.now()

    play(world)

    *hung, last = all_jobs(world)
    for job in hung:
        assert job.status is Status.FAILED
        assert job.failure is not None
        assert (job.failure.code, bool(job.doubt)) == ("DeadlineExceeded", True)
        assert job.finished_at is not None
        assert TASK_DEADLINE_SECONDS <= job.finished_at - begun < TASK_DEADLINE_SECONDS + 200
    assert last.status is Status.SUCCEEDED  # it got the place of one that was given up
    check_rules(world)


# --- refusals of content and of the account ----------------------------------------

INDECENT = error(400, "DataInspectionFailed", "Input data may contain inappropriate content.")


@pytest.mark.fault(32)
@pytest.mark.parametrize("model", [WANX, WAN, QWEN])
def test_fault_32_content_that_is_refused_at_the_call_ends_that_job_alone(model: str) -> None:
    world, provider = entered(*"abcd", model=model)
    provider.mishaps["sync" if model == QWEN else "create"].append(instead(INDECENT))

    play(world)

    refused = [job for job in all_jobs(world) if job.status is Status.FAILED]
    (job,) = refused
    assert job.failure is not None
    assert (job.failure.code, job.failure.request_id) == ("DataInspectionFailed", "request-error")
    assert job.doubt is None
    assert world.outbox.record(job.folder)["failure"]["code"] == "DataInspectionFailed"
    assert message_about(world, job).attributes["status"] == "FAILED"
    assert job.prompt not in provider.billed
    assert len(provider.billed) == 3
    check_rules(world)


@pytest.mark.fault(32)
@pytest.mark.parametrize("code", ["DataInspectionFailed", "IPInfringementSuspect"])
def test_fault_32_content_that_is_refused_while_the_task_runs_ends_that_job_alone(
    code: str,
) -> None:
    world, provider = entered(*"abcd")
    failure = Failure(code=code, message="refused")
    provider.answers["task-0002"] = TaskAnswer(status="FAILED", failure=failure)

    play(world)

    states = [job.status for job in all_jobs(world)]
    assert states == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED, Status.SUCCEEDED]
    record = world.outbox.record("b")
    assert (record["failure"]["code"], record["doubt"]) == (code, None)
    assert record["cost"]["images"] == 0
    check_rules(world)


REVOKED = {
    "key revoked": error(401, "InvalidApiKey", "Invalid API-key provided."),
    "bill overdue": error(
        400, "Arrearage", "Access denied, please make sure your account is good."
    ),
    "access denied": error(403, "AccessDenied.Unpurchased", "Access to model denied."),
}


EVERYWHERE: tuple[Route, ...] = ("create", "sync", "query", "list")


@pytest.mark.fault(33)
@pytest.mark.parametrize("kind", REVOKED)
@pytest.mark.parametrize(
    ("model", "routes"),
    [(WANX, EVERYWHERE), (WANX, ("create",)), (QWEN, EVERYWHERE)],
    ids=["every call", "creates only", "synchronous"],
)
def test_fault_33_the_account_is_refused_in_the_middle_of_many_jobs_then_mended(
    model: str, routes: tuple[Route, ...], kind: str
) -> None:
    world, provider = entered(*(f"job{number:02d}" for number in range(60)), model=model)
    play_for(world, 30 if model == WANX else 10)
    before = len(provider.billed)
    assert 0 < before < 60
    sent = len(provider.sent("create")) + len(provider.sent("sync"))
    asked = len(provider.queries)

    for route in routes:
        provider.always[route] = instead(REVOKED[kind])
    play_for(world, 2 * 3600)

    probes = len(provider.sent("create")) + len(provider.sent("sync")) - sent
    if routes == EVERYWHERE and model == WANX:
        # Its places are taken by tasks that cannot be asked after; those are the probes.
        assert probes <= 1
    else:
        assert 100 <= probes <= 125  # about one a minute
    assert len(provider.queries) - asked <= 3 * 125
    assert len(provider.billed) == before
    assert Status.FAILED not in {job.status for job in all_jobs(world)}
    (alert,) = alerts(world, "lane-paused")
    assert alert.message["about"] == world.lane_of(model)
    waiting = [job for job in all_jobs(world) if job.status is Status.QUEUED and job.blocked]
    assert waiting or probes <= 1

    provider.always.clear()
    play(world)

    all_ended_well(world)
    assert [len(alerts(world, f"lane-{what}")) for what in ("paused", "resumed")] == [1, 1]
    assert {job.doubt for job in all_jobs(world)} == {None}
    check_rules(world)


@pytest.mark.fault(33)
def test_fault_33_another_lane_of_a_model_that_is_not_refused_goes_on() -> None:
    world = World()
    enter(world, *"abc")
    enter(world, *"xyz", model=WAN)
    world.provider.next_calls.append(AccountRefused("Model.AccessDenied", "no"))

    world.dispatch(WANX)
    world.dispatch(WAN)

    assert world.provider.billed == ["edit x", "edit y", "edit z"]
    play(world)
    all_ended_well(world)
    check_rules(world)


# --- answers never seen before ----------------------------------------


def _more(said: dict[str, Any]) -> None:
    """Fields that nobody ever saw, wherever one can stand."""
    said["verdict"] = {"deep": [1, None, {"x": "y" * 50_000}]}
    said.setdefault("usage", {})["tokens"] = [1, 2]
    output = said.get("output")
    if isinstance(output, dict):
        output["mood"] = "curious"
        output["scores"] = [[[]]]
        for result in output.get("results", []):
            result["watermarked"] = "perhaps"
        for choice in output.get("choices", []):
            choice["message"]["content"].append({"hologram": {"url": "https://x.example"}})


@pytest.mark.fault(34)
@pytest.mark.parametrize("model", [WANX, WAN, QWEN])
def test_fault_34_fields_never_seen_before_are_passed_over(model: str) -> None:
    world, provider = entered("red", "blue", model=model)
    for route in EVERYWHERE:
        provider.always[route] = changed(_more)

    play(world)

    all_ended_well(world)
    assert all(len(job.outputs) == 1 for job in all_jobs(world))
    check_rules(world)


@pytest.mark.fault(34)
@pytest.mark.parametrize("state", ["SUSPENDED", "PAUSED_FOR_REVIEW", "succeeded", "", None, 7, {}])
def test_fault_34_a_state_never_seen_before_has_not_ended(state: Any) -> None:
    world, provider = entered("red", "blue")

    def strange(said: dict[str, Any]) -> None:
        said["output"]["task_status"] = state

    provider.mishaps["query"].extend([changed(strange)] * 10)

    play(world)

    all_ended_well(world)
    assert provider.mishaps["query"] == type(provider.mishaps["query"])()
    check_rules(world)


@pytest.mark.fault(34)
def test_fault_34_a_strange_state_for_ever_is_given_up_with_its_doubt() -> None:
    world, provider = entered("red")
    provider.answers["task-0001"] = TaskAnswer(status="SUSPENDED")

    play(world)

    (red,) = all_jobs(world)
    assert red.status is Status.FAILED
    assert red.failure is not None
    assert (red.failure.code, bool(red.doubt)) == ("DeadlineExceeded", True)
    assert red.provider_status == "SUSPENDED"
    check_rules(world)


NO_ANSWER: dict[str, Mishap] = {
    "HTML": after_all(html(200)),
    "a body cut off": cut_off(15),
    "half a JSON": after_all(lambda: httpx.Response(200, text='{"output": {"task_id": "ta')),
    "nothing": after_all(lambda: httpx.Response(200, text="")),
    "a list": after_all(lambda: httpx.Response(200, text="[]")),
    "not UTF-8": after_all(lambda: httpx.Response(200, content=b"\xff\xfe\x00")),
    "a redirect": after_all(
        lambda: httpx.Response(302, headers={"Location": "https://login.example.com/"})
    ),
}


@pytest.mark.fault(35)
@pytest.mark.parametrize("kind", NO_ANSWER)
@pytest.mark.parametrize("times", [1, 4, 20])
def test_fault_35_a_query_that_is_not_answered_in_json_is_asked_again(
    kind: str, times: int
) -> None:
    world, provider = entered("red", "blue")
    provider.mishaps["query"].extend([NO_ANSWER[kind]] * times)

    play(world)

    all_ended_well(world)
    check_rules(world)


@pytest.mark.fault(35)
@pytest.mark.parametrize("kind", NO_ANSWER)
def test_fault_35_the_task_of_a_create_that_is_not_answered_in_json_is_found(kind: str) -> None:
    world, provider = entered("red", "blue")
    provider.mishaps["create"].append(NO_ANSWER[kind])

    play(world)

    all_ended_well(world)
    red = all_jobs(world)[0]
    assert (red.adopted, red.doubt) == (True, None)
    assert len(provider.sent("create")) == 2
    check_rules(world)


NO_LIST: dict[str, Mishap] = {
    **NO_ANSWER,
    "JSON of somebody else": instead(lambda: httpx.Response(200, json={"error": "try later"})),
    "no list in it": instead(lambda: httpx.Response(200, json={"total": 0, "data": None})),
}


@pytest.mark.fault(35)
@pytest.mark.parametrize("kind", NO_LIST)
def test_fault_35_a_list_that_is_not_answered_in_json_is_not_taken_for_an_empty_one(
    kind: str,
) -> None:
    world, provider = entered("red", "blue")
    provider.mishaps["create"].append(after_all(broken(httpx.ReadTimeout)))
    provider.mishaps["list"].extend([NO_LIST[kind]] * 30)

    play(world)

    all_ended_well(world)
    red = all_jobs(world)[0]
    assert (red.adopted, red.sent_again) == (True, 0)
    check_rules(world)


@pytest.mark.fault(35)
@pytest.mark.parametrize("kind", NO_ANSWER)
def test_fault_35_a_synchronous_call_that_is_not_answered_in_json_is_not_repeated(
    kind: str,
) -> None:
    world, provider = entered("red", "blue", model=QWEN)
    provider.mishaps["sync"].append(NO_ANSWER[kind])

    play(world)

    red, blue = sorted(all_jobs(world), key=lambda job: job.status is not Status.UNRESOLVED)
    assert (red.status, blue.status) == (Status.UNRESOLVED, Status.SUCCEEDED)
    assert red.doubt
    assert len(provider.sent("sync")) == 2
    check_rules(world)
