"""What reconcile and finalize add for drops and results: late drops, lost events, alarms, pauses."""

from __future__ import annotations

from typing import Any

import pytest

from retouch.errors import AccountRefused, Conflict, SettingsError, TryLater
from retouch.jobs import PAUSE_SECONDS, RISK_SECONDS, Job, Status
from retouch.ports import Errand
from retouch.provider.answers import RewrittenPrompt, TaskAnswer
from retouch.settings import Endpoint
from retouch.steps.dispatch import dispatch
from retouch.steps.submit import submit
from tests.fakes import (
    OVERDUE_SECONDS,
    PHOTO,
    QWEN,
    WAN,
    WANX,
    Crash,
    Moment,
    World,
    picture,
    sha256,
    sidecar_json,
)

NO_KEY = AccountRefused("InvalidApiKey", "Invalid API-key provided.")


def now(world: World, job: Job) -> Job:
    return world.store.the_job(job.job_id)


def alerts(world: World) -> list[str]:
    return [
        note.attributes["alert"]
        for note in world.notices.notifications
        if note.attributes["kind"] == "alert"
    ]


def messages(world: World, job_id: str) -> list[str]:
    return [
        note.attributes["status"]
        for note in world.notices.notifications
        if note.message.get("job_id") == job_id
    ]


# --- a lane that the account keeps from working ----------------------------------------


def test_a_lane_pauses_with_everything_kept_and_one_alert_and_resumes_by_itself() -> None:
    # Fault 33, in small: the key is revoked in the middle, then mended.
    world = World()
    jobs = [world.enter(f"job{i}", prompt=f"job{i}") for i in range(12)]
    world.run(10)
    done = {job.job_id for job in jobs if now(world, job).status is not Status.QUEUED}
    assert 0 < len(done) < 12
    world.provider.next_calls += [NO_KEY] * 5

    world.run(4 * PAUSE_SECONDS)

    assert alerts(world) == ["lane-paused"]
    assert len([job for job in jobs if now(world, job).status is Status.QUEUED]) == 12 - len(done)
    record = world.outbox.record(f"job{len(done)}")
    assert (record["status"], record["refusal"]["code"]) == ("QUEUED", "InvalidApiKey")

    world.run(4 * PAUSE_SECONDS)

    assert alerts(world) == ["lane-paused", "lane-resumed"]
    assert {now(world, job).status for job in jobs} == {Status.SUCCEEDED}
    assert sorted(world.provider.billed) == sorted(f"job{i}" for i in range(12))
    assert world.store.pending_alerts == {}
    lane = world.store.lane(world.lane_of(WANX))
    assert (lane.paused_by, lane.paused_until, lane.paused_since, lane.slots) == (
        None,
        None,
        None,
        {},
    )


def test_a_paused_lane_is_probed_by_one_job_a_minute() -> None:
    world = World()
    for number in range(8):
        world.enter(f"job{number}", QWEN)
    world.provider.next_calls += [NO_KEY] * 20

    world.run(5 * PAUSE_SECONDS)

    # Four calls may have been open when the account was first refused; afterwards it is one a minute.
    assert len(world.provider.calls) <= 4 + 5
    assert alerts(world) == ["lane-paused"]
    assert world.provider.billed == []


def test_an_alert_that_was_not_sent_is_sent_by_the_next_round() -> None:
    world = World()
    world.enter()
    world.provider.next_calls.append(NO_KEY)
    world.effects.plan = lambda _, name: Moment.BEFORE if name == "notify" else None
    with pytest.raises(Crash):
        world.dispatch()
    world.effects.heal()
    assert alerts(world) == []
    world.clock.advance(91)

    assert world.reconcile()["alerted"] == 1

    assert alerts(world) == ["lane-paused"]
    assert world.reconcile()["alerted"] == 0


def test_a_query_that_is_refused_for_the_account_alerts_too() -> None:
    world = World()
    world.running_job()
    world.provider.next_queries.append(NO_KEY)

    world.run(10)

    assert alerts(world) == ["lane-paused"]
    (note,) = world.notices.notifications
    assert "InvalidApiKey" in note.message["text"]
    assert note.message["about"] == world.lane_of(WANX)


def test_a_lane_taken_out_of_the_settings_keeps_its_jobs_and_says_so() -> None:
    world = World(
        providers={
            "beijing": Endpoint("https://dashscope.aliyuncs.com/api/v1"),
            "singapore": Endpoint("https://dashscope-intl.aliyuncs.com/api/v1"),
        }
    )
    stranded = world.enter("a", WAN, region="singapore")
    kept = dict(world.settings.models)
    object.__setattr__(world.settings, "models", {WANX: kept[WANX]})
    world.kicks.sent.clear()

    world.run(200)

    assert now(world, stranded).status is Status.QUEUED
    assert alerts(world) == ["lane-paused"]
    object.__setattr__(world.settings, "models", kept)
    world.run(120)
    assert now(world, stranded).status is Status.SUCCEEDED
    assert alerts(world) == ["lane-paused", "lane-resumed"]


def test_a_region_taken_out_of_the_settings_keeps_its_jobs_and_says_so() -> None:
    class Without(World):
        gone = False

        def provider_in(self, region: str) -> Any:
            if self.gone:
                raise SettingsError(f"RETOUCH_PROVIDER_REGIONS no longer has {region}")
            return fake(region)

    world = Without()
    fake = world.provider
    job = world.enter("a")
    world.gone = True
    world.provider = world.provider_in  # type: ignore[assignment]

    dispatch(world, world.lane_of(WANX), world.clock.now() + 75)

    assert now(world, job).status is Status.QUEUED
    assert alerts(world) == ["lane-paused"]
    assert fake.calls == []


# --- drops that are not complete ----------------------------------------


def test_a_drop_that_stays_incomplete_is_told_of_once_and_still_starts() -> None:
    # Fault 11.
    world = World()
    (job_id,) = world.drop("shoes/red.png.json", sidecar_json())
    world.run(OVERDUE_SECONDS - 60)
    assert messages(world, job_id) == []

    world.run(180)

    job = world.store.the_job(job_id)
    assert job.status is Status.WAITING
    assert messages(world, job_id) == ["WAITING"]
    assert world.notices.notifications[-1].message["missing"] == ["shoes/red.png"]
    assert world.outbox.record("shoes/red")["missing"] == ["shoes/red.png"]
    world.run(3 * 3600)
    assert messages(world, job_id) == ["WAITING"]
    world.drop("shoes/red.png", PHOTO)
    world.run(60)
    assert messages(world, job_id) == ["WAITING", "SUCCEEDED"]


def test_an_image_whose_sidecar_does_not_come_gets_a_record_and_one_message() -> None:
    # Fault 11.
    world = World()
    world.drop("shoes/red.png", PHOTO)
    world.run(OVERDUE_SECONDS - 60)
    assert world.outbox.objects == {}

    world.run(180)

    record = world.outbox.record("shoes/red")
    assert record["status"] == "WAITING"
    assert record["missing"] == ["shoes/red.png.json"]
    stood_for = record["job_id"]
    assert messages(world, stood_for) == ["WAITING"]
    world.run(3 * 3600)
    assert messages(world, stood_for) == ["WAITING"]

    (job_id,) = world.drop("shoes/red.json", sidecar_json())
    world.run(60)

    assert world.store.the_job(job_id).status is Status.SUCCEEDED
    assert world.outbox.record("shoes/red")["job_id"] == job_id
    assert world.store.the_job(stood_for).status is Status.CANCELED
    assert world.store.alone == {}
    assert world.store.recorded == {}


def test_the_deadline_of_a_drop_is_the_stacks() -> None:
    world = World(drop_deadline=4 * 3600.0)
    world.drop("shoes/red.png.json", sidecar_json())
    world.drop("shoes/blue.png", PHOTO)
    world.run(4 * 3600.0 - 60)
    assert world.notices.notifications == []

    world.run(180)

    assert world.outbox.record("shoes/red")["missing"] == ["shoes/red.png"]
    assert world.outbox.record("shoes/blue")["missing"] == ["shoes/blue.png.json"]


def test_a_newer_version_of_an_image_alone_takes_the_record_over() -> None:
    world = World()
    world.drop("shoes/red.png", PHOTO)
    world.run(OVERDUE_SECONDS + 120)
    stood_for = world.outbox.record("shoes/red")["job_id"]

    world.drop("shoes/red.png", picture(600, 600))
    world.run(OVERDUE_SECONDS + 120)

    newer = world.outbox.record("shoes/red")["job_id"]
    assert newer != stood_for
    assert world.store.the_job(newer).status is Status.WAITING
    assert world.store.the_job(stood_for).status is Status.CANCELED
    assert world.notices.statuses(stood_for) == ["WAITING", "CANCELED"]


def test_an_image_that_a_sidecar_names_is_not_taken_for_alone() -> None:
    world = World()
    world.drop("shoes/red.png", PHOTO)
    world.drop("shoes/pair.json", sidecar_json(images=["red.png"]))
    world.run(30)
    submit(world, "shoes/red.png")  # its event once more, after the job was entered

    world.run(2 * OVERDUE_SECONDS)

    assert [job.sidecar for job in world.store.jobs.values()] == ["shoes/pair.json"]
    assert world.store.alone == {}


def test_a_drop_that_is_completed_just_as_it_is_looked_at_is_left_alone() -> None:
    world = World()
    (job_id,) = world.drop("shoes/red.png.json", sidecar_json())
    world.clock.advance(OVERDUE_SECONDS + 120)
    world.inbox.put("shoes/red.png", PHOTO)
    world.store.before_commit.append(lambda: submit(world, "shoes/red.png"))

    done = world.reconcile()

    assert done["found overdue"] == 0
    assert world.store.the_job(job_id).status is Status.QUEUED
    assert messages(world, job_id) == []


@pytest.mark.parametrize("what", ["image", "sidecar"])
def test_what_waits_for_nothing_any_more_is_closed(what: str) -> None:
    # Fault 7.
    world = World()
    if what == "image":
        world.drop("shoes/red.png", PHOTO)
        world.run(OVERDUE_SECONDS + 120)
        world.inbox.put("shoes/red.png", None)
    else:
        world.drop("shoes/red.png.json", sidecar_json())
        world.run(OVERDUE_SECONDS + 120)
        world.inbox.put("shoes/red.png.json", None)
    (job,) = world.store.jobs.values()
    assert job.status is Status.WAITING

    world.run(3700)

    assert world.store.the_job(job.job_id).status is Status.CANCELED
    assert world.store.the_job(job.job_id).problems


# --- events that never came ----------------------------------------


@pytest.mark.parametrize("lost", ["image", "sidecar", "both"])
def test_what_was_dropped_without_an_event_is_found(lost: str) -> None:
    # Fault 4.
    world = World()
    world.inbox.put("shoes/red.png", PHOTO)
    if lost == "sidecar":
        submit(world, "shoes/red.png")
    world.inbox.put("shoes/red.png.json", sidecar_json())
    if lost == "image":
        submit(world, "shoes/red.png.json")

    world.run(40 * 60)

    (job,) = world.store.jobs.values()
    assert job.status is Status.SUCCEEDED
    assert len(world.provider.billed) == 1


def test_a_sweep_goes_through_everything_once_and_tells_of_nothing_known() -> None:
    world = World()
    for number in range(10):
        world.enter(f"job{number}")
    for number in range(5):
        world.inbox.put(f"unseen{number}.png", PHOTO)
        world.inbox.put(f"unseen{number}.png.json", sidecar_json())
    world.clock.advance(1000)
    asked: list[str | None] = []

    def announce(*errands: Errand) -> None:
        asked.extend(errand.key for errand in errands)

    world.uploads.announce = announce  # type: ignore[method-assign]

    world.reconcile()

    assert asked == [name for i in range(5) for name in (f"unseen{i}.png", f"unseen{i}.png.json")]
    asked.clear()
    world.reconcile()
    assert asked == []


def test_a_sweep_that_ran_out_of_time_goes_on_where_it_was() -> None:
    world = World()
    for number in range(10):
        world.inbox.put(f"unseen{number}.png.json", sidecar_json())
    world.clock.advance(1000)
    asked: list[str] = []

    def announce(*errands: Errand) -> None:
        asked.extend(errand.key or "" for errand in errands)
        world.clock.advance(10)

    world.uploads.announce = announce  # type: ignore[method-assign]
    rounds = 0
    while world.store.sweeping.after is not None or not rounds:
        world.reconcile(seconds=25)
        rounds += 1
        assert rounds < 20

    assert sorted(asked) == sorted(f"unseen{i}.png.json" for i in range(10))
    assert rounds >= 3


# --- results that are about to vanish ----------------------------------------


def test_results_that_cannot_be_copied_are_alarmed_at_20_hours_once() -> None:
    # Rule 6.
    world = World()
    job = world.finalizing_job()
    world.provider.next_queries += [TryLater("HTTP 503")] * 100_000
    for execution in world.executions.running():
        execution.running = False
    world.clock.advance(RISK_SECONDS - 200)
    world.reconcile()
    assert alerts(world) == []
    world.clock.advance(300)

    done = world.reconcile()

    assert done["alarmed"] == 1
    assert alerts(world) == ["results-at-risk"]
    assert now(world, job).at_risk_at == world.clock.now()
    world.clock.advance(120)
    world.reconcile()
    assert alerts(world) == ["results-at-risk"]


def test_a_task_that_runs_for_so_long_is_alarmed_too() -> None:
    # Fault 31.
    world = World()
    job = world.running_job()
    world.clock.advance(RISK_SECONDS + 1)

    assert world.reconcile()["alarmed"] == 1
    assert now(world, job).at_risk_at is not None


def test_a_held_job_is_alarmed_while_its_task_can_still_be_adopted() -> None:
    world = World()
    job = world.running_job()
    held = now(world, job).model_copy(update={"adopted": True, "version": now(world, job).version})
    world.store.jobs[job.job_id] = held

    world.provider.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED", prompts=(RewrittenPrompt("another", None),)
    )
    world.run(10)
    assert now(world, job).status is Status.UNRESOLVED
    world.clock.advance(RISK_SECONDS + 1)

    assert world.reconcile()["alarmed"] == 1

    assert alerts(world) == ["results-at-risk"]
    assert "retouch resolve" in world.notices.notifications[-1].message["text"]


def put_aside(world: World, job: Job, **changes: Any) -> None:
    """Change a stored job as no decision would."""
    world.store.jobs[job.job_id] = now(world, job).model_copy(update=changes)


def test_the_oldest_results_are_rescued_first() -> None:
    world = World()
    first, second = world.finalizing_job("first"), world.finalizing_job("second")
    for execution in world.executions.running():
        execution.running = False
    world.clock.advance(200)
    put_aside(world, second, running_at=world.clock.now() - 10_000)
    begun = len(world.executions.started)

    world.reconcile()

    restarted = [name.split("-")[0] for name in list(world.executions.started)[begun:]]
    assert restarted == [second.job_id, first.job_id]


def test_results_at_risk_are_rescued_without_patience() -> None:
    world = World()
    old, young = world.finalizing_job("old"), world.finalizing_job("young")
    for execution in world.executions.running():
        execution.running = False
    world.clock.advance(RISK_SECONDS)
    stale = world.clock.now() - 100
    put_aside(world, old, attempts=8, updated_at=stale, at_risk_at=stale)
    put_aside(world, young, attempts=8, updated_at=stale, running_at=stale)
    begun = len(world.executions.started)

    world.reconcile()

    restarted = [name.split("-")[0] for name in list(world.executions.started)[begun:]]
    assert restarted == [old.job_id]


# --- finalize -----------------------------------------------------------------------------------------


def test_an_image_that_is_there_is_not_copied_again() -> None:
    world = World()
    job = world.finalizing_job(parameters={"n": 4})
    urls = world.provider.urls("task-0001", 4)
    world.provider.files[urls[2]] = (PHOTO, TryLater("the download failed"))
    with pytest.raises(TryLater):
        world.finalize(job.job_id, job.fence)
    assert world.provider.fetched == list(urls[:3])
    world.provider.files.clear()
    world.provider.fetched.clear()

    world.finalize(job.job_id, job.fence)

    assert world.provider.fetched == list(urls[2:])
    done = now(world, job)
    assert done.status is Status.SUCCEEDED
    assert [output.number for output in done.outputs] == [1, 2, 3, 4]
    for output in done.outputs:
        (written,) = world.outbox.objects[output.key]
        assert sha256(written.data) == output.sha256
        assert written.version_id == output.version_id
    assert len(world.notices.notifications) == 1


def test_a_finalize_that_runs_out_of_time_comes_back_for_the_rest() -> None:
    world = World()
    job = world.finalizing_job(parameters={"n": 4})
    urls = world.provider.urls("task-0001", 4)

    class Slow(tuple[bytes, ...]):
        """A download that takes 90 s."""

        def __iter__(self) -> Any:
            world.clock.advance(90)
            return super().__iter__()

    for url in urls:
        world.provider.files[url] = Slow((PHOTO,))
    answers = []
    while now(world, job).status is Status.FINALIZING:
        answers.append(world.finalize(job.job_id, job.fence)["next"])

    assert answers == ["finalize", "stop"]
    assert world.provider.fetched == list(urls)
    assert now(world, job).status is Status.SUCCEEDED
    assert len(world.notices.notifications) == 1


def test_an_older_job_that_is_slow_does_not_cover_what_a_newer_one_has_written() -> None:
    # Fault 41, at the worst moment: the newer job starts and ends while the older one downloads.
    world = World()
    older = world.finalizing_job()
    newer_picture = picture(64, 64, "red")
    newer: list[str] = []

    def overtake() -> None:
        newer.extend(world.drop("shoes/red.png.json", sidecar_json(prompt="newer")))
        world.provider.files[world.provider.urls("task-0002", 1)[0]] = (newer_picture,)
        world.run(40)
        assert world.store.the_job(newer[0]).status is Status.SUCCEEDED

    world.outbox.before_put.append(overtake)
    world.finalize(older.job_id, older.fence)

    assert world.outbox.data("shoes/red/red-1.png") == newer_picture
    assert world.outbox.record("shoes/red")["job_id"] == newer[0]
    done = now(world, older)
    assert done.status is Status.SUCCEEDED
    (output,) = done.outputs
    assert output.key == f"shoes/red/{older.job_id}/{older.job_id}-1.png"
    assert world.outbox.data(output.key) == PHOTO
    assert world.outbox.record(f"shoes/red/{older.job_id}")["status"] == "SUCCEEDED"


def test_a_record_that_was_late_does_not_stay_over_a_newer_job_s() -> None:
    world = World()
    older = world.finalizing_job()
    newer: list[str] = []

    def overtake() -> None:
        # Refused at once: it will write no second record that could mend the older one's.
        newer.extend(world.drop("shoes/red.png.json", sidecar_json(prompt="")))

    def at_the_record() -> None:
        world.outbox.before_put.append(overtake)

    world.outbox.before_put.append(at_the_record)  # at the image; then at job.json
    world.finalize(older.job_id, older.fence)

    assert world.outbox.record("shoes/red")["job_id"] == newer[0]
    assert world.outbox.record("shoes/red")["status"] == "REJECTED"
    assert world.outbox.record(f"shoes/red/{older.job_id}")["status"] == "SUCCEEDED"


def test_somebody_who_keeps_writing_in_its_place_is_given_way_to_until_later() -> None:
    world = World()
    job = world.finalizing_job()

    def meddle() -> None:
        world.outbox.objects.setdefault("shoes/red/red-1.png", []).append(
            type(world.outbox.objects["shoes/red/job.json"][0])(
                "other", str(len(world.effects.log)).encode(), "image/png"
            )
        )
        world.outbox.before_put.append(meddle)

    world.outbox.before_put.append(meddle)
    with pytest.raises(Conflict):
        world.finalize(job.job_id, job.fence)
    world.outbox.before_put.clear()

    world.finalize(job.job_id, job.fence)

    assert now(world, job).status is Status.SUCCEEDED
