"""Jobs under budgets: held, entered when there is room, released, cancelled; what they count for."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from retouch.budget import STACK, Budget, Scopes, Sums, day_of
from retouch.errors import Conflict, ProviderRefused, TryLater
from retouch.jobs import Job, NoteLatest, Status, Writes, held_queue, queue_key
from retouch.provider.answers import TaskAnswer
from retouch.records import record
from retouch.settings import Prices
from retouch.steps.submit import queue, submit
from tests.fakes import (
    PHOTO,
    QWEN,
    START,
    WAN,
    WANX,
    Crash,
    Lost,
    Moment,
    World,
    picture,
    settings,
    sha256,
    sidecar_json,
)

TODAY = day_of(START)
TO_MIDNIGHT = 1_700_006_400.0 - START
"""From the start of every test to the turn of its UTC day."""


def world_with(**limits: Any) -> World:
    return World(budget=Budget(**limits))


def dropped(world: World, name: str, *, n: int = 1, **fields: Any) -> Job:
    """A photo with its sidecar, and what became of it."""
    world.clock.advance(0.01)
    world.inbox.put(f"{name}.png", PHOTO)
    said = {"prompt": name, "parameters": {"n": n}, **fields}
    (job_id,) = world.drop(f"{name}.png.json", sidecar_json(**said))
    return world.store.the_job(job_id)


def now(world: World, job: Job) -> Job:
    return world.store.the_job(job.job_id)


def statuses(world: World, *jobs: Job) -> list[Status]:
    return [now(world, job).status for job in jobs]


def messages(world: World, job: Job) -> list[str]:
    return [
        note.attributes["status"]
        for note in world.notices.notifications
        if note.message.get("job_id") == job.job_id
    ]


def alerts(world: World) -> list[str]:
    return [
        note.attributes["alert"]
        for note in world.notices.notifications
        if note.attributes["kind"] == "alert"
    ]


def used(world: World, scope: str = "", day: str = TODAY) -> Sums:
    return world.store.used_up(scope, day)


def why(world: World, job: Job) -> str:
    hold = now(world, job).held
    assert hold is not None
    return str(hold.reason)


# --- held for the day ---------------------------------------------------------------------------------


def test_what_is_over_the_days_images_is_held_and_said_everywhere() -> None:
    world = world_with(images_per_day=5)
    first = dropped(world, "a", n=4)

    second = dropped(world, "b", n=4)

    assert statuses(world, first, second) == [Status.QUEUED, Status.HELD]
    assert used(world).images == 4
    assert [entry.job_id for entry in world.store.backlog(world.lane_of(WANX), 9)] == [first.job_id]
    said = world.outbox.record("b")
    assert said["status"] == "HELD"
    assert said["held"]["reason"] == "images_per_day"
    assert "4 are used up" in said["held"]["message"]
    assert said["estimate"] == {
        "images": 4,
        "price": "0.14",
        "amount": "0.56",
        "currency": "CNY",
    }
    assert said["charged"] == []
    assert world.outbox.record("a")["charged"] == [
        {"day": TODAY, "scopes": [""], **said["estimate"]}
    ]
    assert messages(world, second) == ["HELD"]
    assert world.notices.events[-1]["held"] == {"reason": "images_per_day"}
    assert second.lane not in world.kicks.sent[1:]


def test_a_held_job_is_entered_once_the_day_has_turned_and_counts_for_the_new_one() -> None:
    world = world_with(images_per_day=5)
    dropped(world, "a", n=4)
    second = dropped(world, "b", n=4)
    world.run(TO_MIDNIGHT - 100)
    assert statuses(world, second) == [Status.HELD]

    world.run(400)

    assert statuses(world, second) == [Status.SUCCEEDED]
    assert world.notices.statuses(second.job_id)[:2] == ["HELD", "QUEUED"]
    assert used(world).images == 4
    assert used(world, day="2023-11-15").images == 4
    assert messages(world, second) == ["HELD", "SUCCEEDED"]
    assert world.outbox.record("b")["held"] is None


def test_costs_are_exact_and_hold_as_images_do() -> None:
    world = world_with(cost_per_day={"CNY": Decimal("0.42")})
    fit = [dropped(world, f"a{i}") for i in range(3)]

    over = dropped(world, "b")

    assert statuses(world, *fit, over) == [Status.QUEUED] * 3 + [Status.HELD]
    assert used(world).cost == {"CNY": 420_000}
    assert why(world, over) == "cost_per_day"


def test_nothing_is_counted_where_no_day_is_limited() -> None:
    world = world_with(images_per_job=4)
    job = dropped(world, "a")
    assert job.status is Status.QUEUED
    assert world.store.sums == {}
    assert job.charged == ()
    assert job.estimate is not None


def test_a_limit_that_is_raised_lets_the_held_go_on() -> None:
    world = world_with(images_per_day=1)
    dropped(world, "a")
    second = dropped(world, "b")

    world.settings = settings(budget=Budget(images_per_day=2))
    done = world.reconcile()

    assert done["entered"] == 1
    assert statuses(world, second) == [Status.QUEUED]
    assert world.kicks.sent[-1] == second.lane


def test_room_that_is_given_back_is_used_at_once() -> None:
    world = world_with(images_per_day=1)
    first = dropped(world, "a")
    second = dropped(world, "b")
    world.operate("cancel", first.job_id)
    assert used(world).images == 0
    world.reconcile()
    assert statuses(world, first, second) == [Status.CANCELED, Status.QUEUED]
    assert used(world).images == 1


# --- whose turn it is ---------------------------------------------------------------------------------


def test_a_small_job_does_not_overtake_a_large_one_that_waits() -> None:
    world = world_with(images_per_day=5)
    dropped(world, "a", n=3)
    large = dropped(world, "large", n=4)

    small = dropped(world, "small", n=1)

    assert statuses(world, large, small) == [Status.HELD, Status.HELD]
    assert why(world, small) == "turn"
    world.reconcile()
    assert statuses(world, large, small) == [Status.HELD, Status.HELD]
    world.clock.advance(TO_MIDNIGHT)
    world.reconcile()
    assert statuses(world, large, small) == [Status.QUEUED, Status.QUEUED]


def test_a_higher_priority_goes_before() -> None:
    world = world_with(images_per_day=5)
    dropped(world, "a", n=3)
    large = dropped(world, "large", n=4)
    urgent = dropped(world, "urgent", n=1, priority=9)
    assert statuses(world, large, urgent) == [Status.HELD, Status.QUEUED]


def test_held_jobs_are_entered_by_priority_and_then_the_oldest_first() -> None:
    world = world_with(images_per_day=4)
    dropped(world, "a", n=4)
    late = dropped(world, "low", n=2, priority=1)
    early = dropped(world, "first", n=2)
    second = dropped(world, "second", n=2)
    world.clock.advance(TO_MIDNIGHT)

    world.reconcile()

    assert statuses(world, early, second, late) == [Status.QUEUED, Status.QUEUED, Status.HELD]


def test_a_held_job_keeps_its_place_in_the_lane() -> None:
    world = world_with(images_per_day=1)
    first = dropped(world, "a")
    second = dropped(world, "b")
    world.clock.advance(TO_MIDNIGHT)
    world.reconcile()
    world.settings = settings(budget=Budget())
    third = dropped(world, "c")
    order = [entry.job_id for entry in world.store.backlog(world.lane_of(WANX), 9)]
    assert order == [first.job_id, second.job_id, third.job_id]


def test_one_round_enters_a_bounded_number_of_jobs() -> None:
    world = world_with(images_per_day=0)
    world.settings = settings(budget=Budget(images_per_day=1))
    dropped(world, "a")
    held = [dropped(world, f"b{i:03}") for i in range(120)]
    world.settings = settings(budget=Budget(images_per_day=1000))

    done = world.reconcile()

    assert done["entered"] == 100
    assert statuses(world, *held) == [Status.QUEUED] * 100 + [Status.HELD] * 20


# --- preset folders -----------------------------------------------------------------------------------


def complete_job(name: str, *, sha: str | None = None, sidecar: str | None = "v1") -> Job:
    """A job as `submit` has it before it is queued."""
    image = {"key": f"{name}.png", "version_id": "v1", "sha256": sha or sha256(name.encode())}
    return Job.model_validate(
        {
            "job_id": sha256(name.encode())[:16],
            "status": "WAITING",
            "created_at": START,
            "updated_at": START,
            "sidecar": f"{name}.png.json",
            "sidecar_version": sidecar,
            "folder": name,
            "model": WANX,
            "function": "description_edit",
            "prompt": "make it red",
            "parameters": {"n": 1},
            "images": [image],
        }
    )


def queued(world: World, name: str, scopes: Scopes = (), **how: Any) -> Job:
    return queue(
        world, complete_job(name, **how), world.lane_of(WANX), arrived=START, scopes=scopes
    )


def test_a_folder_has_a_budget_of_its_own_beside_the_stacks() -> None:
    world = world_with(images_per_day=3)
    shoes: Scopes = (("shoes", Budget(images_per_day=1)),)
    jobs = [
        queued(world, "shoes/a", shoes),
        queued(world, "shoes/b", shoes),
        queued(world, "hats/a"),
        queued(world, "hats/b"),
        queued(world, "hats/c"),
    ]
    assert [job.status for job in jobs] == [
        Status.QUEUED, Status.HELD, Status.QUEUED, Status.QUEUED, Status.HELD,
    ]  # fmt: skip
    assert [job.held.scope for job in jobs if job.held is not None] == ["shoes", ""]
    assert (used(world).images, used(world, "shoes").images) == (3, 1)


def test_a_held_job_is_entered_by_the_folders_budget_that_it_was_dropped_under() -> None:
    world = World()
    shoes: Scopes = (("shoes", Budget(images_per_day=1)),)
    queued(world, "shoes/a", shoes)
    held = queued(world, "shoes/b", shoes)
    world.clock.advance(TO_MIDNIGHT)
    world.reconcile()
    assert statuses(world, held) == [Status.QUEUED]
    assert used(world, "shoes", "2023-11-15").images == 1


def test_a_job_with_room_in_its_folder_may_go_on_waiting_for_room_in_the_stack() -> None:
    world = world_with(images_per_day=2)
    shoes: Scopes = (("shoes", Budget(images_per_day=1)),)
    queued(world, "shoes/a", shoes)
    held = queued(world, "shoes/b", shoes)
    queued(world, "hats/a")
    world.clock.advance(TO_MIDNIGHT)
    world.settings = settings(budget=Budget(images_per_day=1))
    other = queued(world, "hats/b")
    assert other.status is Status.QUEUED

    done = world.reconcile()

    assert done["held otherwise"] == 1
    hold = now(world, held).held
    assert hold is not None
    assert hold.scope == ""
    # Told of once: when it was held first, here by reconcile, because `queue` alone tells nobody.
    assert messages(world, held) == ["HELD"]
    world.operate("cancel", other.job_id)
    world.reconcile()
    assert statuses(world, held) == [Status.QUEUED]


def test_a_preset_at_the_root_is_not_the_stack() -> None:
    world = world_with(images_per_day=5)
    job = queued(world, "a", (("", Budget(images_per_day=1)),))
    assert job.charged[0].scopes == ("", "/")


# --- for a person -------------------------------------------------------------------------------------


def test_what_is_over_a_jobs_limit_stays_held_until_it_is_released() -> None:
    world = world_with(images_per_job=3, images_per_day=3)
    job = dropped(world, "a", n=4)
    assert why(world, job) == "images_per_job"
    world.run(2 * TO_MIDNIGHT)
    assert statuses(world, job) == [Status.HELD]

    report = world.operate("release", job.job_id)

    assert report["could_not"] == ""
    assert "it goes on" in report["did"]
    assert "4 images of 2023-11-15 (UTC)" in report["did"]
    assert used(world, day="2023-11-15").images == 4
    assert world.outbox.record("a")["released"] is not None
    again = world.operate("release", job.job_id)
    assert again["could_not"] == ""
    assert again["did"] == "it was released already; it is QUEUED now"
    assert used(world, day="2023-11-15").images == 4
    world.run(100)
    assert statuses(world, job) == [Status.SUCCEEDED]


def test_a_job_that_waits_for_room_can_be_released_too_and_leaves_its_place() -> None:
    world = world_with(images_per_day=2)
    dropped(world, "a", n=2)
    second, third = dropped(world, "b"), dropped(world, "c")
    world.operate("release", second.job_id)
    assert statuses(world, second, third) == [Status.QUEUED, Status.HELD]
    assert used(world).images == 3
    assert [e.job_id for e in world.store.backlog("held:", 9)] == [third.job_id]


def test_what_cannot_be_estimated_does_not_slip_through() -> None:
    world = World(budget=Budget(cost_per_day={"CNY": Decimal(5)}), prices=Prices({}))
    job = dropped(world, "a")
    assert why(world, job) == "no_price"
    assert "cannot be estimated" in world.outbox.record("a")["held"]["message"]
    world.operate("release", job.job_id)
    assert statuses(world, job) == [Status.QUEUED]
    assert used(world) == Sums(1, {})


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_held_job_can_be_cancelled(by_itself: bool) -> None:
    world = world_with(images_per_day=1) if by_itself else world_with(images_per_job=1)
    dropped(world, "a")
    job = dropped(world, "b", n=1 if by_itself else 2)
    assert job.held is not None
    assert job.held.by_itself is by_itself
    report = world.operate("cancel", job.job_id)
    assert (report["status"], report["could_not"]) == ("CANCELED", "")
    assert world.store.backlog("held:", 9) == []
    assert world.outbox.record("b")["held"] is None
    assert (
        world.operate("release", job.job_id)["could_not"] == "it is CANCELED, not held by a budget"
    )


def test_retry_of_a_held_job_says_what_to_do() -> None:
    world = world_with(images_per_job=1)
    job = dropped(world, "a", n=2)
    report = world.operate("retry", job.job_id)
    assert report["did"] == ""
    assert "images_per_job of the stack is 1" in report["could_not"]
    assert "retouch release" in report["could_not"]


def test_what_at_last_needs_a_person_is_told_once_more() -> None:
    world = world_with(images_per_day=1, same_per_day=1)
    first = queued(world, "a", sha="1" * 64)
    waits = [queued(world, name, sha="2" * 64) for name in ("b", "c")]
    assert [why(world, job) for job in waits] == ["images_per_day", "images_per_day"]
    waits.sort(key=lambda job: job.queue_key or "")  # they came in the same instant
    world.clock.advance(TO_MIDNIGHT)
    world.settings = settings(budget=Budget(images_per_day=9, same_per_day=1))

    world.reconcile()

    assert statuses(world, first, *waits) == [Status.QUEUED, Status.QUEUED, Status.HELD]
    assert why(world, waits[1]) == "same_per_day"
    assert messages(world, waits[1])[-1:] == ["HELD"]
    assert now(world, waits[1]).message_version == now(world, waits[1]).version
    assert world.store.backlog("held:", 9) == []


def test_a_retry_is_under_the_folders_budget_of_the_first() -> None:
    world = World()
    shoes: Scopes = (("shoes", Budget(images_per_day=1)),)
    first = queued(world, "shoes/a", shoes)
    world.operate("cancel", first.job_id)
    queued(world, "shoes/b", shoes)
    report = world.operate("retry", first.job_id)
    assert report["status"] == "HELD"
    assert "the folder shoes" in report["could_not"]


def test_a_release_whose_answer_was_lost_kicks_once_more() -> None:
    world = world_with(images_per_job=1)
    job = dropped(world, "a", n=2)
    world.effects.plan = lambda _, name: Moment.BEFORE if name == "kick" else None
    with pytest.raises(Crash):
        world.operate("release", job.job_id)
    world.effects.heal()
    sent = len(world.kicks.sent)
    assert world.operate("release", job.job_id)["could_not"] == ""
    assert world.kicks.sent[sent:] == [job.lane]


def test_a_retry_counts_anew_and_may_be_held() -> None:
    world = world_with(images_per_day=1)
    world.provider.next_calls.append(ProviderRefused("DataInspectionFailed", "no"))
    first = dropped(world, "a")
    world.dispatch()
    assert statuses(world, first) == [Status.FAILED]
    assert used(world).images == 0
    dropped(world, "b")

    report = world.operate("retry", first.job_id)

    assert "tried again" in report["did"]
    assert "it is held" in report["could_not"]
    assert report["status"] == "HELD"
    assert used(world).images == 1


@pytest.mark.parametrize("state", ["nobody", "waiting", "queued", "unresolved"])
def test_release_of_what_is_not_held_changes_nothing(state: str) -> None:
    world = World()
    job_id = "0" * 16
    if state == "waiting":
        (job_id,) = world.drop("a.png.json", sidecar_json())
    elif state == "queued":
        job_id = world.enter().job_id
    elif state == "unresolved":
        job = world.admitted_sync_job()
        world.provider.next_calls.append(Lost(made=True))
        world.generate(job.job_id, job.fence)
        job_id = job.job_id
    before = world.store.job(job_id)
    report = world.operate("release", job_id)
    assert report["did"] == ""
    assert report["could_not"]
    assert world.store.job(job_id) == before


def test_a_newer_version_of_its_sidecar_replaces_a_held_job() -> None:
    world = world_with(images_per_job=1)
    job = dropped(world, "a", n=2)
    better = dropped(world, "a", n=1)
    assert statuses(world, job, better) == [Status.CANCELED, Status.QUEUED]


# --- what was charged comes to what was billed --------------------------------------------------------


def test_a_job_that_goes_well_stays_charged() -> None:
    world = world_with(images_per_day=9)
    job = dropped(world, "a")
    world.run(60)
    assert statuses(world, job) == [Status.SUCCEEDED]
    assert used(world) == Sums(1, {"CNY": 140_000})


def test_images_that_were_not_made_are_given_back() -> None:
    world = world_with(images_per_day=9)
    world.provider.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED", images=world.provider.urls("task-0001", 3), usage={"image_count": 3}
    )
    job = dropped(world, "a", n=4)
    world.run(60)
    assert used(world) == Sums(3, {"CNY": 420_000})
    assert now(world, job).charged[0].images == 3
    assert world.outbox.record("a")["charged"][0]["amount"] == "0.42"


def test_a_job_that_failed_unbilled_gives_all_back() -> None:
    world = world_with(images_per_day=9)
    world.provider.answers["task-0001"] = TaskAnswer(status="FAILED")
    job = dropped(world, "a", n=4)
    world.run(60)
    assert statuses(world, job) == [Status.FAILED]
    assert used(world) == Sums(0, {"CNY": 0})


def test_it_is_given_back_to_the_day_that_it_was_taken_from() -> None:
    world = world_with(images_per_day=9)
    job = dropped(world, "a", n=4)
    world.clock.advance(TO_MIDNIGHT)
    world.operate("cancel", job.job_id)
    assert used(world).images == 0
    assert used(world, day="2023-11-15").images == 0


def test_a_cancel_that_is_carried_out_by_dispatch_gives_back_too() -> None:
    world = world_with(images_per_day=9)
    job = dropped(world, "a")
    world.provider.next_calls.append(Lost(made=False))
    world.dispatch()
    assert statuses(world, job) == [Status.RESOLVING]
    world.operate("cancel", job.job_id)
    assert used(world).images == 1
    world.run(400)
    assert statuses(world, job) == [Status.CANCELED]
    assert used(world).images == 0


def test_a_job_that_is_refused_for_now_and_was_cancelled_meanwhile_gives_back() -> None:
    world = world_with(images_per_day=9)
    job = dropped(world, "a")
    world.provider.during_call.append(lambda: world.operate("cancel", job.job_id))
    world.provider.next_calls.append(TryLater("slow down", code="Throttling.RateQuota"))
    world.dispatch()
    assert statuses(world, job) == [Status.CANCELED]
    assert used(world).images == 0


def test_what_may_have_been_billed_stays_charged() -> None:
    world = world_with(images_per_day=9)
    job = dropped(world, "a", model=QWEN, function=None)
    world.provider.next_calls.append(Lost(made=True))
    world.run(60)
    assert statuses(world, job) == [Status.UNRESOLVED]
    world.operate("fail", job.job_id)
    assert statuses(world, job) == [Status.FAILED]
    assert used(world).images == 1


def test_a_call_that_is_made_again_counts_again_on_the_day_it_is() -> None:
    world = world_with(images_per_day=1)
    job = dropped(world, "a", model=QWEN, function=None)
    world.provider.next_calls.append(Lost(made=True))
    world.run(60)
    world.clock.advance(TO_MIDNIGHT)
    world.operate("again", job.job_id)
    world.run(60)
    assert statuses(world, job) == [Status.SUCCEEDED]
    assert used(world).images == 1
    assert used(world, day="2023-11-15").images == 1
    assert [charged.day for charged in now(world, job).charged] == [TODAY, "2023-11-15"]


# --- races --------------------------------------------------------------------------------------------


def test_two_jobs_at_once_cannot_take_the_same_room() -> None:
    world = world_with(images_per_day=1)
    world.store.before_commit.append(lambda: queued(world, "quicker"))
    slower = queued(world, "slower")
    assert slower.status is Status.HELD
    assert used(world).images == 1


def test_somebody_who_took_other_room_only_makes_it_look_again() -> None:
    world = world_with(images_per_day=5)
    world.store.before_commit.append(lambda: queued(world, "quicker"))
    assert queued(world, "slower").status is Status.QUEUED
    assert used(world).images == 2


def test_the_same_job_entered_by_two_is_charged_once() -> None:
    world = world_with(images_per_day=5)
    world.store.before_commit.append(lambda: queued(world, "a"))
    with pytest.raises(Conflict):
        queued(world, "a")
    assert used(world).images == 1


@pytest.mark.parametrize("moment", list(Moment))
def test_a_drop_whose_submit_dies_is_charged_once(moment: Moment) -> None:
    world = world_with(images_per_day=5)
    world.inbox.put("a.png", PHOTO)
    world.inbox.put("a.png.json", sidecar_json())
    world.effects.plan = lambda _, name: moment if name == "commit" else None
    with pytest.raises(Crash):
        submit(world, "a.png.json")
    world.effects.heal()
    submit(world, "a.png.json")
    submit(world, "a.png")
    assert used(world).images == 1


def test_the_last_time_a_job_may_be_made_is_not_taken_twice() -> None:
    world = world_with(same_per_day=1)
    sha = "1" * 64
    world.store.before_commit.append(lambda: queued(world, "quicker", sha=sha))
    assert queued(world, "slower", sha=sha).status is Status.HELD


def test_where_it_is_no_longer_the_latest_it_is_not_tried_again() -> None:
    world = world_with(images_per_day=5)
    job = complete_job("a")
    note = NoteLatest(job.sidecar, job.job_id, over=None)
    world.store.before_commit.append(lambda: world.store.latest.update({job.sidecar: "newer"}))
    with pytest.raises(Conflict):
        queue(world, job, world.lane_of(WANX), arrived=START, notes=(note,))
    assert world.clock.slept == []
    assert world.store.sums == {}


def test_a_held_job_is_noted_as_the_latest_too() -> None:
    world = world_with(images_per_job=1)
    job = dropped(world, "a", n=2)
    assert world.store.latest_job_of("a.png.json") == job.job_id
    assert world.store.latest_job_of("a/") == job.job_id


# --- runaways -----------------------------------------------------------------------------------------


def test_the_very_same_job_is_held_once_it_was_made_often_enough() -> None:
    world = world_with(same_per_day=3)
    jobs = [dropped(world, f"copy {i}", prompt="same") for i in range(4)]
    other = dropped(world, "other", prompt="another")
    assert statuses(world, *jobs, other) == [*[Status.QUEUED] * 3, Status.HELD, Status.QUEUED]
    assert why(world, jobs[3]) == "same_per_day"
    assert "made 3 times" in world.outbox.record("copy 3")["held"]["message"]
    world.clock.advance(TO_MIDNIGHT)
    world.reconcile()
    assert statuses(world, jobs[3]) == [Status.HELD]
    assert dropped(world, "copy 5", prompt="same").status is Status.QUEUED


@pytest.mark.parametrize(
    "fields", [{"n": 2}, {"prompt": "x"}, {"negative_prompt": "x", "model": QWEN, "function": None}]
)
def test_another_request_is_another_job(fields: dict[str, Any]) -> None:
    world = world_with(same_per_day=1)
    dropped(world, "a", prompt="same")
    assert dropped(world, "b", **({"prompt": "same"} | fields)).status is Status.QUEUED


def test_another_image_is_another_job_and_the_same_bytes_are_not() -> None:
    world = world_with(same_per_day=1)
    assert queued(world, "a", sha="1" * 64).status is Status.QUEUED
    assert queued(world, "b", sha="2" * 64).status is Status.QUEUED
    assert queued(world, "c", sha="2" * 64).status is Status.HELD


def made_result(world: World) -> tuple[Job, bytes, str]:
    """A job that succeeded, and its result."""
    result = picture(600, 600, "red")
    world.provider.files[world.provider.urls("task-0001", 1)[0]] = (result,)
    job = dropped(world, "a")
    world.run(60)
    assert statuses(world, job) == [Status.SUCCEEDED]
    return job, result, sha256(result)


def test_a_result_that_comes_back_without_a_sidecar_is_held_and_says_whose_it_is() -> None:
    world = World()
    job, _, digest = made_result(world)

    back = queued(world, "back", sha=digest, sidecar=None)

    assert back.status is Status.HELD
    assert back.held is not None
    assert f"a result of job {job.job_id}" in back.held.message
    assert world.operate("release", back.job_id)["could_not"] == ""
    assert statuses(world, back) == [Status.QUEUED]


def test_an_image_of_somebody_else_without_a_sidecar_goes_through() -> None:
    world = World()
    made_result(world)
    assert queued(world, "new", sha="3" * 64, sidecar=None).status is Status.QUEUED


def test_a_result_that_a_sidecar_names_is_a_wish() -> None:
    world = World()
    _, result, _ = made_result(world)
    world.inbox.put("enlarge.png", result)
    (job_id,) = world.drop("enlarge.png.json", sidecar_json(prompt="larger"))
    assert world.store.the_job(job_id).status is Status.QUEUED


def test_what_was_mended_and_lies_in_the_outbox_is_known_too() -> None:
    world = World()
    world.inbox.put("clear.png", picture(mode="RGBA"))
    (job_id,) = world.drop("clear.png.json", sidecar_json(WAN, fit=True))
    mended = world.store.the_job(job_id).images[0].mended
    assert mended is not None
    assert queued(world, "back", sha=mended.sha256, sidecar=None).status is Status.HELD


def test_a_record_that_comes_back_is_ignored_with_one_alert_a_day() -> None:
    world = World()
    job, _, _ = made_result(world)
    ours = world.outbox.data("a/job.json")
    before = dict(world.outbox.objects)

    for key in ("a/job.json", "a/job (1).json", "b.json", "a/job.json"):
        world.drop(key, ours)

    assert world.outbox.objects == before
    assert list(world.store.jobs) == [job.job_id]
    assert alerts(world) == ["outbox-in-inbox"]
    note = world.notices.notifications[-1]
    assert "a/job.json" in note.message["text"]
    world.clock.advance(TO_MIDNIGHT)
    world.drop("a/job.json", ours)
    assert alerts(world) == ["outbox-in-inbox"] * 2


def test_an_image_beside_a_record_of_ours_is_an_image_alone() -> None:
    world = World()
    made_result(world)
    world.drop("b/job.json", world.outbox.data("a/job.json"))
    world.drop("b/job.png", PHOTO)
    world.clock.advance(1000)
    assert world.reconcile()["found alone"] == 1
    assert world.outbox.record("b/job")["missing"] == ["b/job.png.json"]


def test_a_record_that_takes_the_place_of_a_waiting_sidecar_closes_it() -> None:
    world = World()
    made_result(world)
    (waiting,) = world.drop("b.json", sidecar_json(images=["late.png"]))
    world.drop("b.json", world.outbox.data("a/job.json"))
    world.drop("late.png", PHOTO)
    assert world.store.the_job(waiting).status is Status.CANCELED
    assert len(world.store.jobs) == 2


def test_an_alert_whose_teller_died_is_told_by_reconcile() -> None:
    world = World()
    ours = json.dumps(record(complete_job("a"))).encode()
    world.inbox.put("job.json", ours)
    world.effects.plan = lambda _, name: Moment.AFTER if name == "commit" else None
    with pytest.raises(Crash):
        submit(world, "job.json")
    world.effects.heal()
    submit(world, "job.json")
    assert alerts(world) == []
    world.clock.advance(100)
    world.reconcile()
    assert alerts(world) == ["outbox-in-inbox"]


def test_the_outbox_copied_into_the_inbox_comes_to_rest() -> None:
    world = World(budget=Budget(same_per_day=10))
    made_result(world)
    seen: set[tuple[str, str]] = set()
    for _ in range(60):
        for key, versions in list(world.outbox.objects.items()):
            if (key, versions[-1].version_id) not in seen:
                seen.add((key, versions[-1].version_id))
                world.drop(key, versions[-1].data)
        copied = len(seen)
        world.run(120)
    assert len(seen) == copied
    assert len(world.provider.calls) == 1
    assert alerts(world) == ["outbox-in-inbox"]


# --- a place in the order that is nobody's ------------------------------------------------------------


@pytest.mark.parametrize("whose", ["nobody", "done", "waits", "in another place"])
def test_a_place_in_the_order_whose_job_does_not_wait_there_stops_nobody(whose: str) -> None:
    world = world_with(images_per_day=1)
    done, held = dropped(world, "done"), dropped(world, "held")
    (waits,) = world.drop("waits.png.json", sidecar_json(prompt="waits"))
    ids = {"done": done.job_id, "waits": waits, "in another place": held.job_id}
    order = world.store.queues[held_queue(STACK)]
    order.insert(0, ("0#000000000000000#", ids.get(whose, "nobody")))
    assert statuses(world, done, held) == [Status.QUEUED, Status.HELD]

    world.clock.advance(TO_MIDNIGHT)
    world.run(200)

    assert statuses(world, done, held) == [Status.SUCCEEDED, Status.SUCCEEDED]
    assert order == []
    world.drop("waits.png", picture(600, 600))
    assert (world.store.the_job(waits).status, len(order)) == (Status.HELD, 1)
    world.clock.advance(86_400)
    world.run(200)
    assert world.store.the_job(waits).status is Status.SUCCEEDED


def test_a_job_that_is_held_at_the_very_moment_keeps_its_place() -> None:
    world = world_with(images_per_day=1)
    dropped(world, "done")
    (job_id,) = world.drop("waits.png.json", sidecar_json(prompt="waits"))
    place = queue_key(5, world.store.the_job(job_id).created_at, job_id)
    world.store.queues_held[held_queue(STACK)] = None
    world.store.queues[held_queue(STACK)] = [(place, job_id)]
    commit = world.store.commit

    def meanwhile(writes: Writes) -> None:
        world.store.commit = commit  # type: ignore[method-assign]
        world.drop("waits.png", picture(600, 600))
        commit(writes)

    world.store.commit = meanwhile  # type: ignore[method-assign]
    world.reconcile()

    assert world.store.the_job(job_id).status is Status.HELD
    assert [job for _, job in world.store.queues[held_queue(STACK)]] == [job_id]
