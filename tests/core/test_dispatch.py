"""dispatch: never more than the window, never faster than the pace, never a second create."""

from __future__ import annotations

import itertools

import pytest

from retouch import jobs
from retouch.errors import (
    NOT_REACHED,
    AccountRefused,
    Conflict,
    OutcomeUnknown,
    ProviderRefused,
    TryLater,
)
from retouch.jobs import MOST_STRETCH, QUIET_SECONDS, Job, Pace, Status
from retouch.registry import MODELS
from retouch.settings import Delivery
from retouch.steps.dispatch import PACING_SLEEP_SECONDS
from tests.fakes import (
    PHOTO,
    QWEN,
    WAN,
    WANX,
    Crash,
    Lost,
    Moment,
    World,
    mask_picture,
    sidecar_json,
)

THROTTLED = TryLater("Requests throttling triggered.", code="Throttling")
REVOKED = AccountRefused("InvalidApiKey", "Invalid API-key provided.", "r-1")
INDECENT = ProviderRefused("DataInspectionFailed", "Input data may contain ...", "r-2")


def now(world: World, job: Job) -> Job:
    return world.store.the_job(job.job_id)


def in_flight(world: World, model: str = WANX) -> set[str]:
    return set(world.store.lane(world.lane_of(model)).slots)


def end_task_of(world: World, job: Job) -> None:
    """As poll does when the task has ended."""
    current = now(world, job)
    assert current.lane is not None
    _, writes = jobs.ended(
        current,
        world.store.lane(current.lane),
        world.clock.now(),
        provider_status="SUCCEEDED",
    )
    world.store.commit(writes)


# --- window and pace ----------------------------------------


@pytest.mark.parametrize(("margin", "window"), [(0, 2), (1, 3)])
def test_tasks_in_flight_never_exceed_the_window(margin: int, window: int) -> None:
    world = World(window_margin=margin)
    entered = [world.enter(f"job{number}") for number in range(window + 3)]

    assert world.dispatch() == window
    assert world.dispatch() == 0

    assert in_flight(world) == {job.job_id for job in entered[:window]}
    assert len(world.provider.calls) == window
    assert {now(world, job).status for job in entered[window:]} == {Status.QUEUED}


def test_a_freed_slot_is_filled_by_the_next_kick() -> None:
    world = World()
    entered = [world.enter(f"job{number}") for number in range(5)]
    world.dispatch()
    end_task_of(world, entered[1])

    assert world.dispatch() == 1

    assert in_flight(world) == {entered[i].job_id for i in (0, 2, 3)}


@pytest.mark.parametrize("model", [WANX, WAN])
def test_creates_are_spaced_by_exactly_the_lane_s_interval(model: str) -> None:
    world = World(window_margin=5)
    for number in range(7):
        world.enter(f"job{number}", model)

    assert world.dispatch(model) == 7

    times = [call.at for call in world.provider.calls]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == pytest.approx([MODELS[model].quota.interval] * 6)


def test_the_pace_holds_across_invocations() -> None:
    world = World()
    world.enter("a")
    world.dispatch()
    world.enter("b")

    world.dispatch()

    one, two = (call.at for call in world.provider.calls)
    assert two - one == pytest.approx(MODELS[WANX].quota.interval)


def test_a_pause_longer_than_needed_is_never_made() -> None:
    world = World()
    world.enter("a")
    world.dispatch()
    world.enter("b")
    world.clock.advance(100)

    before = world.clock.now()
    world.dispatch()

    assert world.clock.now() == before


def test_lanes_have_windows_of_their_own() -> None:
    world = World()
    for number in range(4):
        world.enter(f"x{number}", WANX)
        world.enter(f"w{number}", WAN)

    assert world.dispatch(WANX) == 3
    assert world.dispatch(WAN) == 4


# --- order ----------------------------------------


def test_jobs_go_in_the_order_of_their_arrival() -> None:
    world = World(window_margin=5)
    for name in ("c", "a", "b"):
        world.enter(name, prompt=name)
        world.clock.advance(1)

    world.dispatch()

    assert [call.prompt for call in world.provider.calls] == ["c", "a", "b"]


def test_a_higher_priority_goes_first() -> None:
    world = World(window_margin=5)
    for name, priority in (("low", 0), ("normal", 5), ("urgent", 9), ("normal too", 5)):
        world.enter(name, prompt=name, priority=priority)
        world.clock.advance(1)

    world.dispatch()

    sent = [call.prompt for call in world.provider.calls]
    assert sent == ["urgent", "normal", "normal too", "low"]


# --- what is sent ----------------------------------------


def test_the_provider_gets_signed_urls_of_the_exact_versions() -> None:
    world = World()
    world.inbox.put("red.png", PHOTO)
    mask = world.inbox.put("red.mask.png", mask_picture())
    world.drop(
        "red.png.json",
        sidecar_json(
            function="description_edit_with_mask", mask="red.mask.png", parameters={"seed": 7}
        ),
    )
    job = next(iter(world.store.jobs_in(Status.QUEUED)))
    world.inbox.put("red.png", b"overwritten since")

    world.dispatch()

    (call,) = world.provider.calls
    assert job.images[0].version_id is not None
    base_version = job.images[0].version_id
    assert call.request.body == {
        "model": WANX,
        "input": {
            "function": "description_edit_with_mask",
            "prompt": "make the sky red",
            "base_image_url": (
                f"https://inbox.example.com/red.png?versionId={base_version}&Signature=secret"
            ),
            "mask_image_url": (
                f"https://inbox.example.com/red.mask.png?versionId={mask}&Signature=secret"
            ),
        },
        "parameters": {"n": 1, "seed": 7},
    }
    assert call.request.headers == {"X-DashScope-Async": "enable"}
    assert {content_type for _, _, content_type, _ in world.inbox.presigned} == {"image/png"}
    # Longer than a task may wait and run before the provider fetches its input.
    assert all(seconds >= 3 * 3600 + 600 for *_, seconds in world.inbox.presigned)


def test_an_inline_image_that_was_deleted_fails_that_job_alone_and_makes_no_task() -> None:
    world = World(input_delivery=Delivery.PUSH)
    gone, fine = world.enter("gone"), world.enter("fine", prompt="fine")
    world.inbox.purge("gone.png")

    world.dispatch()

    assert now(world, gone).status is Status.FAILED
    failure = now(world, gone).failure
    assert failure is not None
    assert failure.code == "InputGone"
    assert in_flight(world) == {fine.job_id}
    assert [call.prompt for call in world.provider.calls] == ["fine"]


# --- a task that was made ----------------------------------------


def test_a_created_task_is_recorded_announced_and_watched() -> None:
    world = World()
    job = world.enter()
    sent_at = world.clock.now()

    world.dispatch()

    running = now(world, job)
    assert running.status is Status.RUNNING
    assert (running.task_id, running.create_request_id) == ("task-0001", "request-task-0001")
    assert (running.intent_at, running.running_at) == (sent_at, sent_at)
    name = f"{job.job_id}-1-0"
    assert world.executions.started[name].payload == {
        "job_id": job.job_id,
        "fence": 1,
        "mode": "async",
        "wait_seconds": 2,
    }
    assert world.notices.statuses(job.job_id) == ["QUEUED", "ADMITTED", "CREATING", "RUNNING"]
    assert world.outbox.record("shoes/red")["task_id"] == "task-0001"
    assert world.notices.notifications == []


def test_intent_is_on_record_before_the_provider_is_called() -> None:
    world = World()
    job = world.enter()
    seen: list[Status] = []
    world.provider.during_call.append(lambda: seen.append(now(world, job).status))

    world.dispatch()

    assert seen == [Status.CREATING]


def test_no_signed_url_and_no_prompt_leaves_in_payloads_events_or_records() -> None:
    world = World()
    world.enter(prompt="a secret wish")
    world.dispatch()

    said = repr([e.payload for e in world.executions.started.values()]) + repr(world.notices.events)
    assert "secret" not in said
    assert "Signature" not in repr(world.outbox.objects)


# --- refusals ----------------------------------------


def test_after_a_refusal_for_pace_the_job_keeps_its_place_and_the_lane_waits() -> None:
    world = World()
    first = world.enter("first", prompt="first")
    world.clock.advance(1)
    world.enter("second", prompt="second")
    world.provider.next_calls.append(THROTTLED)

    world.dispatch()

    # A short backoff is slept out, and nobody else is tried before.
    assert [call.prompt for call in world.provider.calls] == ["first", "first", "second"]
    refused, again, _ = world.provider.calls
    assert again.at - refused.at >= 1
    assert now(world, first).status is Status.RUNNING
    assert now(world, first).refusal is None


def test_a_long_backoff_is_left_to_a_later_kick_and_the_job_says_why_it_waits() -> None:
    world = World()
    job = world.enter()
    world.provider.next_calls += [THROTTLED] * 9

    world.dispatch()

    assert len(world.provider.calls) == 3
    waiting = now(world, job)
    assert waiting.status is Status.QUEUED
    assert waiting.refusal is not None
    assert waiting.refusal.code == THROTTLED.code
    assert not waiting.blocked
    assert in_flight(world) == set()


def test_each_further_refusal_for_pace_waits_longer_up_to_a_minute() -> None:
    world = World()
    world.enter()
    world.provider.next_calls += [THROTTLED] * 9
    while len(world.provider.calls) < 10:
        world.dispatch()
        world.clock.advance(0.25)

    times = [call.at for call in world.provider.calls]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    slowest = MOST_STRETCH * MODELS[WANX].quota.interval  # what the slow-down alone comes to
    for waited, least in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert least <= waited <= max(least, slowest) + 0.75


def test_a_lane_that_was_throttled_goes_slower_and_recovers_with_every_create() -> None:
    # Fault 25.
    world = World()
    for number in range(40):
        world.enter(f"job{number}")
    world.provider.seconds = 0.1
    world.provider.next_calls += [THROTTLED] * 3
    stretches = []
    while len(world.provider.billed) < 20:
        world.run(5)
        stretches.append(world.store.lane(world.lane_of(WANX)).stretch)

    assert max(stretches) > 4
    assert stretches[-1] == 1.0
    lane = world.store.lane(world.lane_of(WANX))
    assert lane.throttles == 0
    gaps = [b.at - a.at for a, b in itertools.pairwise(world.provider.calls)]
    assert max(gaps[3:6]) > 4 * MODELS[WANX].quota.interval
    assert min(gaps) >= MODELS[WANX].quota.interval - 1e-6


def test_a_provider_that_is_not_reached_is_said_on_the_job() -> None:
    world = World()
    job = world.enter()
    unreached = TryLater("the provider was not reached: ConnectError", code=NOT_REACHED)
    world.provider.next_calls += [unreached] * 3

    world.dispatch()

    put_off = now(world, job)
    assert put_off.status is Status.QUEUED
    assert put_off.blocked
    assert world.outbox.record(job.folder)["refusal"]["code"] == NOT_REACHED


def test_a_task_that_was_made_ends_the_growth_of_the_backoff() -> None:
    world = World()
    world.enter()
    world.provider.next_calls += [THROTTLED, THROTTLED]
    for _ in range(3):
        world.dispatch()
        world.clock.advance(60)
    assert len(world.provider.billed) == 1

    assert world.store.lane(world.lane_of(WANX)).throttles == 0


def test_an_account_refusal_pauses_the_lane_and_costs_no_job() -> None:
    # Fault 33: the key is revoked in the middle of many jobs, then mended.
    world = World()
    entered = [world.enter(f"job{number}") for number in range(5)]
    world.provider.next_calls.append(REVOKED)

    world.dispatch()
    world.dispatch()
    world.clock.advance(59)
    world.dispatch()

    assert len(world.provider.calls) == 1
    assert {now(world, job).status for job in entered} == {Status.QUEUED}
    paused_by = world.store.lane(world.lane_of(WANX)).paused_by
    assert paused_by is not None
    assert (paused_by.code, paused_by.request_id) == ("InvalidApiKey", "r-1")

    world.clock.advance(2)
    world.provider.next_calls.append(REVOKED)
    world.dispatch()
    assert len(world.provider.calls) == 2  # one probe, and paused again

    world.clock.advance(61)
    world.dispatch()

    assert len(world.provider.billed) == 3
    assert world.store.lane(world.lane_of(WANX)).paused_by is None


def test_refused_content_ends_only_that_job_and_frees_its_slot() -> None:
    # Fault 32.
    world = World()
    bad = world.enter("bad", prompt="bad")
    world.clock.advance(1)
    good = world.enter("good", prompt="good")
    world.provider.next_calls.append(INDECENT)

    world.dispatch()

    failed = now(world, bad)
    assert failed.status is Status.FAILED
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.request_id) == ("DataInspectionFailed", "r-2")
    assert failed.doubt is None
    assert world.outbox.record("bad")["failure"]["code"] == "DataInspectionFailed"
    assert [n.attributes["status"] for n in world.notices.notifications] == ["FAILED"]
    assert in_flight(world) == {good.job_id}
    assert now(world, good).status is Status.RUNNING


@pytest.mark.parametrize("made", [True, False])
def test_a_create_whose_answer_was_lost_keeps_its_slot_and_is_looked_for(made: bool) -> None:
    # Faults 23, 24 and 26.
    world = World()
    lost = world.enter("lost", prompt="lost")
    world.clock.advance(1)
    other = world.enter("other", prompt="other")
    world.provider.next_calls.append(Lost(made))

    world.dispatch()

    looked_for = now(world, lost)
    assert looked_for.status is Status.RESOLVING
    assert looked_for.doubt is not None
    assert lost.job_id in in_flight(world)
    assert [e.payload["job_id"] for e in world.executions.running()] == [lost.job_id]
    # Nothing is sent while the lost call could not be told from it.
    assert now(world, other).status is Status.QUEUED
    world.clock.advance(QUIET_SECONDS - PACING_SLEEP_SECONDS - 0.1)
    world.dispatch()
    assert len(world.provider.calls) == 1
    world.clock.advance(PACING_SLEEP_SECONDS)
    world.dispatch()
    assert now(world, other).task_id is not None
    assert world.provider.calls[1].at - world.provider.calls[0].at >= QUIET_SECONDS
    assert [call.prompt for call in world.provider.calls] == ["lost", "other"]


# --- time, crashes, competition ----------------------------------------


def test_where_time_runs_short_it_kicks_itself_and_returns() -> None:
    world = World()
    world.enter()
    world.kicks.sent.clear()

    assert world.dispatch(seconds=27.0) == 0

    assert world.provider.calls == []
    assert world.kicks.sent == [world.lane_of(WANX)]
    assert world.dispatch(seconds=40.0) == 1


def test_an_empty_lane_makes_no_kick() -> None:
    world = World()

    assert world.dispatch() == 0

    assert world.kicks.sent == []


def test_two_dispatchers_at_once_admit_each_job_once() -> None:
    # Fault 18.
    world = World()
    for number in range(6):
        world.enter(f"job{number}", prompt=f"job{number}")
    world.store.before_commit.append(world.dispatch)

    world.dispatch()

    assert len(in_flight(world)) == 3
    prompts = [call.prompt for call in world.provider.calls]
    assert len(prompts) == len(set(prompts)) == 3
    times = sorted(call.at for call in world.provider.calls)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= 0.5 - 1e-6


def test_two_dispatchers_at_once_keep_the_pace_between_them() -> None:
    # Fault 18, rule 2: the second sends its own just before the first records its intent.
    world = World()
    world.enter("one", prompt="one")
    world.enter("two", prompt="two")
    world.store.before_commit.append(lambda: None)  # the first admits its job
    world.store.before_commit.append(world.dispatch)

    world.dispatch()

    assert sorted(call.prompt for call in world.provider.calls) == ["one", "two"]
    times = sorted(call.at for call in world.provider.calls)
    assert times[1] - times[0] >= 0.5 - 1e-6


def test_a_start_of_the_execution_that_fails_is_made_up_for() -> None:
    # Fault 22.
    world = World()
    job = world.enter()
    world.executions.fail_starts = 1
    with pytest.raises(TryLater):
        world.dispatch()
    assert now(world, job).status is Status.RUNNING

    world.clock.advance(301)
    world.reconcile()

    (execution,) = world.executions.running()
    assert execution.payload["job_id"] == job.job_id
    assert len(world.provider.billed) == 1


def test_whichever_effect_it_dies_at_no_job_is_sent_twice_and_none_is_lost() -> None:
    # Faults 20, 21 and 22: every effect of dispatch, before it and after it.
    for moment in Moment:
        for number in itertools.count(1):
            world = World()
            job = world.enter()
            world.effects.crash_at(number, moment)
            try:
                world.dispatch()
            except Crash:
                world.effects.heal()
            else:
                break
            world.run(1200)
            where = (number, moment)
            after = now(world, job)
            assert len(world.provider.calls) == 1, where
            assert after.status is Status.SUCCEEDED, where
            assert after.task_id == "task-0001", where
            # A call that was to be made and never was is marked all the same: nobody could know.
            assert bool(after.doubt) == bool(after.sent_again), where
            shown = world.outbox.record("shoes/red")
            assert shown["status"] == "SUCCEEDED", where
        assert number > 8


def test_a_table_throttled_right_after_a_create_does_not_lose_the_task() -> None:
    # Fault 19: the provider has made the task and its id is in hand; the next write is throttled once.
    world = World()
    job = world.enter()
    throttles = iter([True])
    world.effects.throttle = lambda name: (
        name == "commit" and bool(world.provider.calls) and next(throttles, False)
    )

    try:
        world.dispatch()
    except TryLater:
        world.clock.advance(300)
        world.reconcile()

    assert now(world, job).status is Status.RUNNING
    assert now(world, job).task_id == "task-0001"


def test_a_lane_whose_conflicts_do_not_end_gives_up_instead_of_hanging() -> None:
    world = World()
    world.enter()
    lane = world.lane_of(WANX)

    def meddle() -> None:
        stored = world.store.lane(lane)
        doc = stored.model_copy(update={"version": stored.version + 1})
        world.store.lanes_stored[lane] = doc
        world.store.before_commit.append(meddle)

    world.store.before_commit.append(meddle)

    with pytest.raises(Conflict):
        world.dispatch()
    assert world.provider.calls == []


# --- synchronous models ----------------------------------------


def test_a_synchronous_job_gets_an_execution_and_no_call_here() -> None:
    world = World()
    job = world.enter(model=QWEN)

    assert world.dispatch(QWEN) == 1

    assert world.provider.calls == []
    admitted = now(world, job)
    assert admitted.status is Status.ADMITTED
    assert world.executions.started[f"{job.job_id}-1-0"].payload == {
        "job_id": job.job_id,
        "fence": 1,
        "mode": "sync",
        "wait_seconds": 0,
    }


def test_synchronous_starts_are_spaced_by_the_interval_and_nobody_sleeps_for_them() -> None:
    world = World(sync_window=4)
    entered = [world.enter(f"job{number}", QWEN) for number in range(6)]

    assert world.dispatch(QWEN) == 4

    starts = [now(world, job).start_at for job in entered[:4]]
    begun, interval = world.clock.now(), MODELS[QWEN].quota.interval
    assert starts == pytest.approx([begun + number * interval for number in range(4)])
    assert world.clock.slept == []
    assert in_flight(world, QWEN) == {job.job_id for job in entered[:4]}


def test_a_synchronous_lease_outlasts_the_call() -> None:
    world = World()
    job = world.admitted_sync_job()
    slot = world.store.lane(world.lane_of(QWEN)).slots[job.job_id]
    assert job.start_at is not None

    assert slot.lease_until - job.start_at > 360


# --- the pace of a quota ----------------------------------------


def test_the_window_is_the_quota_and_its_margin_or_the_setting_where_there_is_no_quota() -> None:
    wanx, qwen = MODELS[WANX].quota, MODELS[QWEN].quota

    assert Pace.of(wanx, margin=1, sync_window=4) == Pace(2, 3, wanx.interval)
    assert Pace.of(qwen, margin=1, sync_window=4) == Pace(4, 4, qwen.interval)
    assert wanx.interval >= 0.5  # two a second


def test_after_the_provider_refuses_the_margin_the_window_falls_back_to_the_quota() -> None:
    # Architecture 3: if the provider answers 429 to the wider window, the window falls back.
    world = World()
    world.provider.most_in_flight = 2
    for number in range(20):
        world.enter(f"job{number}")

    while list(world.store.jobs_in(Status.QUEUED)):
        world.dispatch()
        world.clock.advance(1)
        for job in list(world.store.jobs_in(Status.RUNNING)):
            if world.clock.now() >= world.provider.tasks_made[job.task_id or ""].ends_at:
                end_task_of(world, job)

    assert len(world.provider.billed) == 20
    refused = len(world.provider.calls) - len(world.provider.billed)
    assert refused <= 5, "the lane runs into the same refusal over and over"


def narrowed(world: World, *outcomes: TryLater | None) -> list[float]:
    """For how long the lane keeps to its quota after each create that stood beyond it."""
    found = []
    for number in range(MODELS[WANX].quota.running or 0):
        world.enter(f"first{number}")
    world.dispatch()
    for number, outcome in enumerate(outcomes):
        world.enter(f"job{number}")
        if outcome is not None:
            world.provider.next_calls.append(outcome)
        world.dispatch()
        lane = world.store.lane(world.lane_of(WANX))
        found.append(max(0.0, lane.narrow_until - world.clock.now()))
        for job in list(world.store.jobs_in(Status.RUNNING))[2:]:
            end_task_of(world, job)
        world.clock.advance(4000)
    return found


def test_each_further_refusal_of_the_margin_takes_it_away_for_longer_until_one_is_taken() -> None:
    refused = [THROTTLED] * 7

    kept = narrowed(World(), *refused, None, THROTTLED)

    assert kept == pytest.approx([60, 120, 240, 480, 960, 1800, 1800, 0, 60], abs=5)


def test_a_provider_that_is_not_reached_takes_no_margin_away() -> None:
    unreached = TryLater("the provider was not reached: ConnectError", code=NOT_REACHED)

    assert narrowed(World(), unreached) == [0]


def test_an_unknown_outcome_says_what_the_provider_said() -> None:
    world = World()
    job = world.enter()
    world.provider.next_calls.append(OutcomeUnknown("HTTP 504 ", code="HTTP504"))

    world.dispatch()

    assert "HTTP504" in (now(world, job).doubt or "")


def test_a_call_that_its_function_may_not_live_to_record_is_not_begun() -> None:
    # Telling of the admission took so long that the call could be cut off half way.
    world = World()
    job = world.enter()
    world.outbox.before_put.append(lambda: world.clock.advance(10))
    world.kicks.sent.clear()

    world.dispatch(seconds=30)

    assert world.provider.calls == []
    assert now(world, job).status is Status.QUEUED
    assert in_flight(world) == set()
    assert world.kicks.sent == [world.lane_of(WANX)]

    world.dispatch()

    assert now(world, job).status is Status.RUNNING


def test_a_table_that_stays_busy_after_a_create_is_asked_until_it_takes_the_task() -> None:
    world = World()
    job = world.enter()
    refusals = iter(range(30))

    def throttle() -> None:
        if world.provider.calls and next(refusals, None) is not None:
            world.store.before_commit.append(throttle)
            raise TryLater("the table is throttled", code="TableThrottled")
        world.store.before_commit.append(throttle)

    world.store.before_commit.append(throttle)

    world.dispatch()

    assert next(refusals, None) is None
    assert now(world, job).status is Status.RUNNING
    assert len(world.provider.billed) == 1
