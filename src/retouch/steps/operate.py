"""operate: what a person does to one job: cancel it, try it again, let it go on past a budget, or
decide about a lost call.

Each command says what it did and what it could not do, and may be given twice: the second time there
is nothing left to do, and it says so. Only `retry`, `release` and `resolve --again` can lead to a
further billed call, and only because a person asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from retouch import jobs, keys
from retouch.errors import Conflict, OperatorError, TryLater
from retouch.jobs import Candidate, Job, NoteLatest, Preset, Status, Writes
from retouch.parts import folder_name
from retouch.ports import App, Errand
from retouch.records import place, publish, tell_alerts
from retouch.registry import Json, Mode
from retouch.retrying import deciding
from retouch.steps import entering
from retouch.steps.common import call_of, model_of, my_turn, provider_of, start
from retouch.steps.submit import job_id_of, presets_now, queue, submit_again

_PATIENCE_SECONDS: Final = 5.0
_HELD: Final = (
    "it may have been billed, so it is held for a decision: `retouch resolve` with --adopt, --again "
    "or --fail"
)
_SYNC_UNDER_WAY: Final = (
    "a synchronous call that is under way cannot be stopped: it is billed, and its results come all "
    "the same"
)
_CALL_UNDER_WAY: Final = (
    "its call is under way or its answer was lost: once its task is known the provider is asked to "
    "cancel it, and if there is none the job is cancelled and not sent again"
)
ADOPT: Final = "adopt"
AGAIN: Final = "again"
FAIL: Final = "fail"


@dataclass(frozen=True)
class Report:
    """What came of a command.

    Attributes:
        job: The job afterwards; for `retry` the new one. None if there is none of that id.
        did: What was done, in a sentence; empty if nothing.
        could_not: What was asked for and was not possible, and what to do; empty if all was done.
    """

    job: Job | None
    did: str = ""
    could_not: str = ""


def operate(app: App, command: str, job_id: str, task_id: str | None = None) -> dict[str, Json]:
    """Carry out a command, as the command line gives it; what came of it, as JSON.

    A table that is busy and a job that moves on meanwhile are said as what could not be done.
    """
    try:
        report = _carried_out(app, command, job_id, task_id)
    except TryLater as error:
        report = Report(app.store.job(job_id), "", f"not now, try again: {error}")
    except OperatorError as error:
        report = Report(app.store.job(job_id), "", str(error))
    job = report.job
    if job is None:
        report = Report(None, "", "there is no such job")
    return {
        "job_id": job_id if job is None else job.job_id,
        "status": None if job is None else str(job.status),
        "did": report.did,
        "could_not": report.could_not,
    }


def _carried_out(app: App, command: str, job_id: str, task_id: str | None) -> Report:
    match command:
        case "cancel":
            return cancel(app, job_id)
        case "retry":
            return retry(app, job_id)
        case "release":
            return release(app, job_id)
        case _:
            return resolve(app, job_id, command, task_id)


def cancel(app: App, job_id: str) -> Report:
    """Cancel a job: at once before its call was made, at the provider if that still takes it."""

    def decide() -> tuple[Job, Writes, bool] | None:
        job = app.store.job(job_id)
        if job is None:
            return None
        now = app.clock.now()
        match job.status:
            case Status.WAITING | Status.HELD | Status.QUEUED:
                closed, writes = jobs.withdraw(job, None, now)
            case Status.ADMITTED:
                closed, writes = jobs.withdraw(job, app.store.lane(job.lane or ""), now)
            case Status.CREATING | Status.RESOLVING | Status.RUNNING if job.cancel_asked_at is None:
                closed, writes = jobs.ask_cancel(job, now)
            case _:
                return job, (), False
        app.store.commit(writes)
        return closed, writes, True

    decided = deciding(app.clock, decide)
    if decided is None:
        return Report(None)
    job, _, changed = decided
    if changed:
        publish(app, job)
        if job.lane is not None:
            app.kicks.kick(job.lane)
    return _of_cancel(app, job, changed)


def _of_cancel(app: App, job: Job, changed: bool) -> Report:
    match job.status:
        case Status.CANCELED:
            billed = "nothing is billed" if job.doubt is None else f"but {job.doubt}"
            said = f"it is cancelled; {billed}" if changed else "it was cancelled already"
            return Report(job, said)
        case Status.CREATING | Status.RESOLVING:
            sync = job.status is Status.CREATING and call_of(app, job) is Mode.SYNC
            did = "the request is noted" if changed else "the request was noted already"
            return Report(
                job,
                did,
                _SYNC_UNDER_WAY if sync else _CALL_UNDER_WAY,
            )
        case Status.RUNNING:
            did = "the request is noted" if changed else "the request was noted already"
            if job.cancel_answer is not None:
                return Report(job, did, job.cancel_answer)
            return Report(
                job,
                did,
                "the provider cancels only a task that has not begun; it is asked at the next look, "
                "within seconds, and if it refuses, the results are billed and come all the same",
            )
        case Status.FINALIZING:
            return Report(
                job, "", "it is too late: the provider is done and its images are being copied"
            )
        case Status.UNRESOLVED:
            return Report(
                job,
                "",
                _HELD,
            )
        case status:
            return Report(job, "", f"it has ended already as {status}")


def retry(app: App, job_id: str) -> Report:
    """Try a job again: a closed one as a new job on the same versions, one that is stuck at once."""
    job = app.store.job(job_id)
    if job is None:
        return Report(None)
    match job.status:
        case Status.FAILED | Status.PARTIAL | Status.REJECTED | Status.CANCELED:
            return _repeat(app, job)
        case Status.SUCCEEDED:
            return Report(
                job, "", "it has succeeded; drop its sidecar again to have it made once more"
            )
        case Status.QUEUED:
            return _probe(app, job)
        case Status.FINALIZING:
            return _copy_again(app, job)
        case Status.UNRESOLVED:
            return Report(
                job,
                "",
                _HELD,
            )
        case Status.WAITING if jobs.follows(job) and not job.missing:
            return Report(job, "", "it waits for the step before it")
        case Status.WAITING:
            return Report(job, "", f"it waits for {', '.join(job.missing)}; drop what is missing")
        case Status.HELD:
            return Report(
                job, "", f"{_why_held(job)}; it has not been tried yet: `retouch release`"
            )
        case status:
            return Report(
                job, "", f"it is {status}: it is being worked on, there is nothing to retry"
            )


def _repeat(app: App, job: Job) -> Report:
    """The same order as a new job. Its id follows from the old one's, so that it is made once.

    Of steps it is the one that failed, and all that wait for it: up to the one that was asked for,
    and on to the first that a person cancelled.
    """
    asked, job = job, _where_it_stopped(app, job)
    if not job.status.terminal:
        step = 0 if job.part is None else job.part.step
        return Report(asked, "", f"step {step} is {job.status}; retry it when that has ended")
    new_id = retry_id(job)
    there = app.store.job(new_id)
    if there is not None and there.status is not Status.WAITING:
        for old in (job, *_followers(app, job, asked)):
            if app.store.job(retry_id(old)) is not None:
                _link(app, old, retry_id(old))
        return Report(there, "", f"it was tried again already, as job {new_id}: {there.status}")
    if keys.classify(job.sidecar) is keys.Kind.PRESET:
        return Report(job, "", "it is a preset; mend it and drop it again")
    if job.sidecar_version is None and not job.presets:
        return Report(job, "", "it stood for an image without a sidecar; drop the sidecar")
    # What never got as far as a lane has spent nothing: what was dropped is judged anew, and all that
    # is tried again with it, under the presets that there are now.
    presets = presets_now(app, job) if job.lane is None else None
    followers = _followers(app, job, asked)
    for follower in reversed(followers):
        _wait_again(app, follower, asked, presets)
    new = there or _again_as(app, job, asked)
    notes = _places_of(app, job, new)
    if job.lane is not None:
        entered = queue(app, new, job.lane, arrived=app.clock.now(), notes=notes)
    elif jobs.follows(job):
        entered = there = _wait_again(app, job, asked, presets)
        app.uploads.announce(Errand(job_id=new_id))
    else:
        entered = submit_again(app, new, notes)
    if there is None or entered.version != there.version:
        publish(app, entered)
    for old in (job, *followers):
        _link(app, old, retry_id(old))
    if entered.lane is not None:
        app.kicks.kick(entered.lane)
    billed = "" if job.doubt is None else f"; the first may have been billed: {job.doubt}"
    if entered.status is Status.REJECTED:
        said = f"it is refused again, as job {new_id}: {_first_problem(entered)}"
        return Report(entered, "it was judged again", said)
    which = "" if job.part is None or job.part.step is None else f", from step {job.part.step} on"
    said = f"it is tried again as job {new_id}{which}{billed}"
    return Report(entered, said, _why_held(entered) if entered.status is Status.HELD else "")


def _first_problem(job: Job) -> str:
    first, *more = job.problems
    said = f"{first.field}: {first.message}" if first.field else first.message
    return f"{said} (and {len(more)} more, in job.json)" if more else said


def retry_id(job: Job) -> str:
    """The id of the job that repeats a job."""
    return job_id_of(job.sidecar, f"retry of {job.job_id}")


def _where_it_stopped(app: App, job: Job) -> Job:
    """Of a step that cannot go on because one before it has not ended well, that one."""
    while job.part is not None and job.part.previous is not None:
        before = app.store.job(job.part.previous)
        if before is None or before.status in (Status.SUCCEEDED, Status.PARTIAL):
            break
        job = before
    return job


def _followers(app: App, job: Job, asked: Job) -> list[Job]:
    """The steps after a job that are to be made with it, in order, where `asked` was asked for."""
    found: list[Job] = []
    step = _step(asked)
    while job.part is not None and job.part.next is not None:
        after = app.store.job(job.part.next)
        if after is None:
            break
        cancelled = after.failure is not None and after.failure.code == jobs.CANCELED
        if cancelled and _step(after) > step:
            break  # a person did not want it, nor what follows
        found.append(after)
        job = after
    return found


def _step(job: Job) -> int:
    return 0 if job.part is None or job.part.step is None else job.part.step


def _again_as(app: App, job: Job, asked: Job) -> Job:
    """The job that repeats a job, in the same place among its steps."""
    folder = keys.outbox_folder(job.sidecar)
    part = job.part
    if part is None:
        return jobs.copy_of(job, retry_id(job), folder, app.clock.now())
    before = None if part.previous is None else app.store.job(part.previous)
    after = next(iter(_followers(app, job, asked)), None)
    done = before is None or before.status in (Status.SUCCEEDED, Status.PARTIAL)
    moved = part.model_copy(
        update={
            "previous": part.previous if done or before is None else retry_id(before),
            "next": None if after is None else retry_id(after),
        }
    )
    folder = keys.part_folder(folder, folder_name(part.variant, part.step, part.steps))
    copy = jobs.copy_of(job, retry_id(job), folder, app.clock.now())
    return copy.model_copy(update={"part": moved})


def _places_of(app: App, job: Job, new: Job) -> tuple[NoteLatest, ...]:
    """What is the old job's becomes the new one's: its place in the outbox, and its sidecar's name."""
    return tuple(
        NoteLatest(name, new.job_id, over=job.job_id)
        for name in (place(new.folder), job.sidecar)
        if app.store.latest_job_of(name) == job.job_id
    )


def _wait_again(app: App, job: Job, asked: Job, presets: tuple[Preset, ...] | None) -> Job:
    """A step as a new job that waits for the one before it, under its own presets or those given."""
    there = app.store.job(retry_id(job))
    if there is not None:
        return there
    new = _again_as(app, job, asked)
    if presets is not None:
        new = new.model_copy(update={"presets": presets})
    waiting, writes = jobs.wait_for(new, app.clock.now(), ())
    app.store.commit((*writes, *_places_of(app, job, new)))
    publish(app, waiting)
    return waiting


def _link(app: App, job: Job, new_id: str) -> None:
    def decide() -> Job | None:
        current = app.store.job(job.job_id)
        if current is None or current.retried_as is not None:
            return None
        noted, writes = jobs.retried(current, new_id, app.clock.now())
        app.store.commit(writes)
        return noted

    noted = deciding(app.clock, decide)
    if noted is not None:
        publish(app, noted)


def _probe(app: App, job: Job) -> Report:
    assert job.lane is not None  # noqa: S101  a queued job has one
    lane_id = job.lane

    def decide() -> bool:
        writes = jobs.unpause(app.store.lane(lane_id))
        app.store.commit(writes)
        return bool(writes)

    lifted = deciding(app.clock, decide)
    app.kicks.kick(lane_id)
    if lifted:
        return Report(job, f"the lane {lane_id} is tried again now")
    return Report(job, "", "it is QUEUED and comes by itself; its lane is not paused")


def _copy_again(app: App, job: Job) -> Report:
    if app.executions.alive(jobs.execution_name(job)):
        return Report(job, "", "its results are being copied at this moment")
    again, writes = jobs.restarted(job, app.clock.now())
    try:
        app.store.commit(writes)
    except Conflict:
        return Report(app.store.job(job.job_id), "", "it has just moved on")
    start(app, again, 0.0)
    publish(app, again)
    return Report(again, "copying its results is tried again now")


def release(app: App, job_id: str) -> Report:
    """Let a held job go on past its budgets, this once; what it makes counts in them all the same."""
    job, was = entering.release(app, job_id)
    if job is None:
        return Report(None)
    if was is not None:
        publish(app, job)
        app.kicks.kick(job.lane or "")
        counted = ""
        if job.charged:
            images, day = job.charged[-1].images, job.charged[-1].day
            plural = "" if images == 1 else "s"
            counted = f"; it counts as {images} image{plural} of {day} (UTC) all the same"
        return Report(job, f"it goes on, whatever its budget says{counted}")
    if job.status is Status.QUEUED and job.lane is not None:
        app.kicks.kick(job.lane)  # whoever released it may not have come to that
    if job.released_at is not None:
        return Report(job, f"it was released already; it is {job.status} now")
    if job.status is Status.UNRESOLVED:
        return Report(job, "", _HELD)
    return Report(job, "", f"it is {job.status}, not held by a budget")


def _why_held(job: Job) -> str:
    return "it is held" if job.held is None else f"it is held: {job.held.message}"


def resolve(app: App, job_id: str, how: str, task_id: str | None = None) -> Report:
    """Decide about a job whose billed call has an unknown outcome.

    Args:
        app: The stack.
        job_id: Which job.
        how: `adopt` (the provider's task `task_id` is its own), `again` (send it once more, at the risk
            of paying twice) or `fail` (close it).
        task_id: For `adopt`.
    """
    job = app.store.job(job_id)
    if job is None:
        return Report(None)
    if job.status is not Status.UNRESOLVED:
        if job.resolution == how and (how != ADOPT or job.task_id == task_id):
            return Report(job, f"it was resolved by --{how} already; it is {job.status} now")
        if job.resolution is not None:
            said = f"it was resolved by --{job.resolution} already; it is {job.status} now"
            return Report(job, "", said)
        return Report(job, "", f"it is {job.status}, not held for a decision")
    match how:
        case "adopt":
            return _adopt(app, job, task_id or "")
        case "again":
            return _again(app, job)
        case _:
            return _give_up(app, job)


def _adopt(app: App, job: Job, task_id: str) -> Report:
    if call_of(app, job) is Mode.SYNC:
        said = "a synchronous call leaves no task to adopt; --again or --fail"
        return Report(job, "", said)
    owner = app.store.owner_of(task_id)
    if owner is not None and owner != job.job_id:
        return Report(job, "", f"the task {task_id} belongs to job {owner}")
    if not my_turn(app, job, "queries", _PATIENCE_SECONDS):
        return Report(job, "", "the account's limit on queries is used up; try again in a moment")
    try:
        answer = provider_of(app, job).query(task_id)
    except (TryLater, OperatorError) as error:
        return Report(job, "", f"the provider cannot be asked after the task: {error}")
    if answer.status == "UNKNOWN":
        said = f"the provider knows no task {task_id}; it forgets tasks after 24 h"
        return Report(job, "", said)
    task = Candidate(task_id, None, answer.submitted_at)

    def decide() -> tuple[Job, Writes] | None:
        held = _held(app, job)
        if held is None:
            return None
        lane = app.store.lane(held.lane or "")
        running, writes = jobs.adopted(held, lane, task, app.clock.now(), by=ADOPT)
        app.store.commit(writes)
        return running, writes

    decided = deciding(app.clock, decide)
    if decided is None:
        return _moved_on(app, job)
    running, writes = decided
    again, counted = jobs.restarted(running, app.clock.now())
    try:
        app.store.commit(counted)
    except Conflict:
        # Somebody has led it on already; the adoption stands.
        publish(app, running)
        return Report(running, f"the task {task_id} is taken for its own")
    start(app, again, 0.0)
    publish(app, running, again)
    tell_alerts(app, writes)
    return Report(again, f"the task {task_id} is taken for its own; its results are being fetched")


def _again(app: App, job: Job) -> Report:
    model_of(app, job)

    def decide() -> tuple[Job, Writes] | None:
        held = _held(app, job)
        if held is None:
            return None
        lane = app.store.lane(held.lane or "")
        queued, writes = jobs.again(held, lane, app.clock.now(), by=AGAIN)
        app.store.commit(writes)
        return queued, writes

    decided = deciding(app.clock, decide)
    if decided is None:
        return _moved_on(app, job)
    queued, writes = decided
    publish(app, queued)
    tell_alerts(app, writes)
    app.kicks.kick(queued.lane or "")
    return Report(queued, "it is sent again; if the first call was billed, it is billed twice")


def _give_up(app: App, job: Job) -> Report:
    def decide() -> Job | None:
        held = _held(app, job)
        if held is None:
            return None
        closed, writes = jobs.given_up(held, app.clock.now())
        app.store.commit(writes)
        return closed

    closed = deciding(app.clock, decide)
    if closed is None:
        return _moved_on(app, job)
    publish(app, closed)
    return Report(closed, "it is closed as FAILED; what it may have made is not fetched")


def _held(app: App, job: Job) -> Job | None:
    current = app.store.job(job.job_id)
    return current if current is not None and current.status is Status.UNRESOLVED else None


def _moved_on(app: App, job: Job) -> Report:
    current = app.store.job(job.job_id) or job
    return Report(current, "", f"it has just moved on and is {current.status}")
