"""resolve: find out what became of a create call whose answer was lost (architecture 3).

One look at the provider's task list for each call of `look`; the state machine waits in between. The
list says which tasks of a model were made when, and the table which of them are known. A lane sends
nothing close to a lost call, so that a task of nobody's in its time is its own. One is adopted; none
for long enough, and the call is made again, marked; several, and a person is asked.
"""

from __future__ import annotations

from retouch import jobs
from retouch.errors import AccountRefused, OperatorError, ProviderRefused, TryLater
from retouch.jobs import Candidate, Found, Job, Lane, LookAgain, NeverMade, Several, Status, Writes
from retouch.ports import App
from retouch.registry import Json
from retouch.steps.common import first_wait, go_on, my_turn, provider_of, renew_lease
from retouch.steps.dispatch import hold, leave, pause

_PATIENCE_SECONDS = 2.0
_AGAIN_SECONDS = 20.0


def look(app: App, job: Job) -> dict[str, Json]:
    """Look once for the task of a job that is RESOLVING; the answer to the state machine."""
    now = app.clock.now()
    if job.lost_at is not None and now - job.lost_at < jobs.SETTLE_SECONDS:
        return go_on(app, job, "wait", jobs.SETTLE_SECONDS - (now - job.lost_at))
    try:
        tasks = _unclaimed(app, job)
    except ProviderRefused as error:
        return _ask_a_person(app, job, f"the provider does not list its tasks: {error}")
    except TryLater as error:
        return _not_listed(app, job, f"{error.code}: {error.message}")
    except OperatorError as error:
        if isinstance(error, AccountRefused) and job.lane is not None:
            pause(app, job.lane, error)
        return _not_listed(app, job, str(error))
    if tasks is None:
        return go_on(app, job, "wait", _AGAIN_SECONDS / 4)
    match jobs.judge(job, tasks, _rivals(app, job), app.clock.now()):
        case Found(task) if app.settings.account_shared:
            said = (
                f"the answer to its call was lost; the task {task.task_id} may be its own, or that of "
                "another program with the same account"
            )
            return _ask_a_person(app, job, said, (task.task_id,))
        case Found(task):
            return _adopt(app, job, task)
        case Several(found):
            named = tuple(task.task_id for task in found)
            said = (
                f"the answer to its call was lost, and any of the tasks {', '.join(named)} could be "
                "its own"
            )
            return _ask_a_person(app, job, said, named)
        case NeverMade():
            if job.sent_again >= jobs.MOST_AGAIN:
                said = f"the answer to its call was lost {jobs.MOST_AGAIN + 1} times in a row"
                return _ask_a_person(app, job, said)
            return _again(app, job)
        case LookAgain(wait):
            return _waited(app, job, wait)


def _unclaimed(app: App, job: Job) -> tuple[Candidate, ...] | None:
    """The tasks of the job's model in its time that are no job's; None if there was no turn to ask.

    Raises:
        TryLater, OperatorError, ProviderRefused: the list could not be had.
    """
    if not my_turn(app, job, "lists", _PATIENCE_SECONDS):
        return None
    begin, end = jobs.lost_window(job)
    listed = provider_of(app, job).tasks(start=begin, end=end, model=job.model or "")
    return tuple(
        Candidate(task.task_id, task.request_id, task.created_at)
        for task in listed
        if app.store.owner_of(task.task_id) is None
    )


def _rivals(app: App, job: Job) -> tuple[Job, ...]:
    """The other jobs of the lane whose call has no known outcome."""
    lane = app.store.lane(job.lane or "")
    others = (app.store.job(name) for name in lane.slots if name != job.job_id)
    open_ = (Status.CREATING, Status.RESOLVING, Status.UNRESOLVED)
    return tuple(other for other in others if other is not None and other.status in open_)


def _not_listed(app: App, job: Job, why: str) -> dict[str, Json]:
    """The list could not be had, which says nothing; after a day there is nothing left in it."""
    if app.clock.now() - (job.intent_at or 0.0) < jobs.TASK_KEPT_SECONDS:
        renew_lease(app, job)
        return go_on(app, job, "wait", 3 * _AGAIN_SECONDS)
    return _ask_a_person(app, job, f"its task could not be looked for within a day: {why}")


def _waited(app: App, job: Job, wait: float) -> dict[str, Json]:
    """Keep the slot, and note the first look that showed nothing; `wait` seconds until the next."""
    renew_lease(app, job)
    if job.looks == 0:
        leave(app, job, lambda held, _: _first_look(app, held))
    _kick(app, job)  # the lane, which fell silent for this call, may go on by now
    return go_on(app, job, "wait", wait)


def _first_look(app: App, held: Job) -> tuple[Job, Writes] | None:
    if held.status is not Status.RESOLVING or held.looks:
        return None
    return jobs.looked(held, app.clock.now())


def _adopt(app: App, job: Job, task: Candidate) -> dict[str, Json]:
    def decide(held: Job, lane: Lane) -> tuple[Job, Writes] | None:
        if held.status is not Status.RESOLVING:
            return None
        return jobs.adopted(held, lane, task, app.clock.now())

    running = leave(app, job, decide)
    if running is None:
        return go_on(app, job, "wait", 1.0)
    _kick(app, job)
    return go_on(app, running, "wait", first_wait(app, running))


def _again(app: App, job: Job) -> dict[str, Json]:
    def decide(held: Job, lane: Lane) -> tuple[Job, Writes] | None:
        if held.status is not Status.RESOLVING:
            return None
        return jobs.again(held, lane, app.clock.now())

    leave(app, job, decide)
    _kick(app, job)
    return go_on(app, job, "stop")


def _ask_a_person(
    app: App, job: Job, doubt: str, candidates: tuple[str, ...] = ()
) -> dict[str, Json]:
    hold(app, job, doubt, candidates)
    _kick(app, job)
    return go_on(app, job, "stop")


def _kick(app: App, job: Job) -> None:
    if job.lane is not None:
        app.kicks.kick(job.lane)
