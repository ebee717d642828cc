"""`retouch watch`: two local folders, with a stack of their own between them for as long as it runs.

It is made to be stopped at any moment. The stack's table and buckets outlive it
(`retouch.local.keeping`), every file is noted before it is uploaded (`watch_journal`), and results
appear whole (`watch_outbox`); a later start goes on from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn

from retouch.cli import output
from retouch.cli.pace import Pace
from retouch.cli.watch_folder import FolderAway
from retouch.cli.watch_intake import Intake
from retouch.cli.watch_journal import Journal, State
from retouch.cli.watch_outbox import Mirror, NotWritten
from retouch.cli.watch_stack import STANDING, UNDER_WAY, UNSENT, Change, OwnStack
from retouch.jobs import Status
from retouch.local import stack as local
from retouch.steps.submit import job_id_of

_TAKE_SECONDS: Final = 2.0
"""So long is taken in at a time, before the results have their turn."""
_BRING_SECONDS: Final = 3.0
_AWAY_SECONDS: Final = 5.0
_LOOK_SHARE: Final = 9.0
"""Looking takes a tenth of the time at the most: large folders, and slow shares, are looked at less."""
_HEAL_AFTER_SECONDS: Final = 35.0
"""Nobody's work is taken for abandoned before it has not moved for half a minute."""
_CALL_SECONDS: Final = 35.0
_SYNC_CALL_SECONDS: Final = 320.0
"""Calls that bill end within these, the second for those of synchronous models."""
_FINALIZE_SECONDS: Final = 15.0
"""Results that are being copied may be waited for."""
_PAGES_SECONDS: Final = 20.0
"""So long missing pages are made at a start and at an end; the rest is left to the next start."""
_COUNT_SECONDS: Final = 1.0
_ORPHAN_SECONDS: Final = 10.0
_MUCH_BYTES: Final = 1_000_000_000
"""From here on it is said at each start how much the kept copies take."""
INTERRUPTED: Final = 130
_ENDED: Final = (
    "the embedded engine has ended under the watch; nothing is lost: start the same command again"
)
_KEPT: Final = (
    "the same command goes on from there. The provider keeps results for 24 hours: start it before"
)
_KEPT_BY: Final = {
    "simulated": "the simulator ends now and takes them with it, so they end as FAILED when the same "
    "command is started again. With a provider they would go on"
}


class WatchedAlready(local.StackError):
    """Another `retouch watch` is at work on the folder."""


@dataclass(frozen=True)
class Order:
    """What is to be watched, and how."""

    inbox: Path
    outbox: Path
    provider: str = "simulated"
    provider_regions: tuple[str, ...] = ("beijing",)
    parameters: Mapping[str, str] = field(default_factory=dict)
    time_scale: float = 1.0
    once: bool = False
    """End when everything that is there now has ended."""
    free: bool = False
    """Take nothing in: free the disk of what is done with, and end."""

    @property
    def name(self) -> str:
        """The stack's name: another inbox or provider is another stack, another outbox is not."""
        told = f"{self.inbox.resolve()}\0{self.provider}"
        return f"watch-{hashlib.sha256(told.encode('utf-8', 'surrogateescape')).hexdigest()[:10]}"

    def blueprint(self) -> local.Blueprint:
        """The stack to start."""
        return local.Blueprint(
            name=self.name,
            provider=self.provider,
            provider_regions=self.provider_regions,
            parameters=self.parameters,
            time_scale=self.time_scale,
            keep=local.home() / f"{self.name}.kept",
        )


@dataclass
class Tally:
    """Which jobs there are, as far as this watch has heard."""

    now: Callable[[], float] = time.monotonic
    dropped: int = 0
    pending: int = 0
    coming: int = 0
    """Uploads that the stack has still to look at; an image alone waits there for its sidecar."""
    ended: dict[str, Status] = field(default_factory=dict)
    open: dict[str, Status] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    _revisions: dict[str, int] = field(default_factory=dict)
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.now)

    def hear(self, job_id: str, revision: int, status: Status) -> bool:
        """Note a job's state; whether that is news."""
        if self._revisions.get(job_id, -1) >= revision:
            return False
        self._revisions[job_id] = revision
        self.open.pop(job_id, None)
        if status.settled:
            self.ended[job_id] = status
            self.blocked.discard(job_id)
            self._pace.ended()
        else:
            self.ended.pop(job_id, None)
            self.open[job_id] = status
        return True

    def left(self) -> int:
        """How many jobs will go on by themselves, those that are yet to come of uploads among them."""
        return self.coming + sum(status not in STANDING for status in self.open.values())

    def line(self, *, going_on: bool = True) -> str:
        """All of it in a line; how long the rest takes only while it is `going_on`."""
        states = Counter(self.open.values())
        ends = Counter(self.ended.values())
        running = sum(states[status] for status in UNDER_WAY)
        good = ends[Status.SUCCEEDED] + ends[Status.PARTIAL]
        parts = [f"{self.dropped} dropped"]
        parts += [f"{self.pending} being looked at"] if self.pending else []
        parts += [f"{self.coming} on their way"] if self.coming else []
        parts += [f"{states[Status.WAITING]} waiting"] if states[Status.WAITING] else []
        parts += [f"{states[Status.QUEUED]} queued", f"{running} under way", f"{good} done"]
        others = ends.keys() - {Status.SUCCEEDED, Status.PARTIAL}
        parts += [f"{ends[status]} {status.lower()}" for status in sorted(others)]
        left = self._pace.words(self.left()) if going_on else ""
        parts += [left] if left else []
        return ", ".join(parts)


def _bytes_in(folder: Path) -> int:
    """How much the files below a folder hold. Some may go while they are counted."""
    total = 0
    for above, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(above, name)).st_size
    return total


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count, 0) / 1e6:.1f} MB"


def _counted(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"


def watch(order: Order, *, as_json: bool) -> int:
    """Watch until Ctrl-C, or with `once` until all is done. The exit status, as of `drop --wait`.

    Raises:
        WatchedAlready: somebody else watches the folder.
        StackError: the stack did not come up, or ended.
    """
    console = output.err if as_json else output.out
    order.outbox.mkdir(parents=True, exist_ok=True)
    blueprint = order.blueprint()
    local.check(blueprint)
    assert blueprint.keep is not None  # noqa: S101  see Order.blueprint
    with _alone(blueprint.keep, order.inbox):
        _end_orphan(order.name)

        def step(text: str) -> None:
            output.err.print(f"[dim]{text} …[/dim]")

        stack = local.start(blueprint, say=step, until_we_end=True)
        try:
            watcher = _Watcher(order, stack, blueprint.keep, console)
            try:
                code = watcher.free(as_json=as_json) if order.free else watcher.run()
            except (BotoCoreError, ClientError) as error:
                if local.find(stack.name) is not None:
                    raise
                raise local.StackError(_ENDED) from error
            finally:
                watcher.close()
        finally:
            local.stop(stack.name)
        if not order.free:
            watcher.summary(as_json=as_json)
        return code


@contextlib.contextmanager
def _alone(keep: Path, inbox: Path) -> Iterator[None]:
    keep.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (keep / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise WatchedAlready(
                f"{inbox} is being watched already (process {lock.read().strip() or 'unknown'}); "
                "one watch does all of it. To start another, end that one first, with Ctrl-C"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _end_orphan(name: str) -> None:
    """A watch that was killed leaves its engine for a moment."""
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while local.find(name) is not None and time.monotonic() < deadline:
        time.sleep(0.2)
    local.stop(name)


class _Watcher:
    """One run, from a started stack to its end."""

    def __init__(self, order: Order, stack: local.Running, keep: Path, console: Console) -> None:
        self._order = order
        self._console = console
        self._running = stack
        self._keep = keep
        self._stack = OwnStack(stack)
        self._journal = Journal(keep / "watch.db", str(order.outbox.resolve()))
        self._mirror = Mirror(order.outbox, self._journal, self._stack, self._say)
        self._intake = Intake(
            order.inbox, self._journal, self._stack, self._say, has_results=self._mirror.has_results
        )
        self._tally = Tally()
        self._started = time.monotonic()
        self._next_look = 0.0
        self._next_count = 0.0
        self._away = False
        self._interrupted = False
        self._told: dict[str, str] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._expected: dict[str, str] = {}
        """By the sidecar's key the job that its latest version makes."""

    def close(self) -> None:
        """Close what is open."""
        self._journal.close()

    def free(self, *, as_json: bool) -> int:
        """Delete the kept copies that nothing needs any more; the exit status.

        Nothing is sent meanwhile, and all or nothing is free to go: while a job is under way, or a
        result cannot be brought out, every copy stays. What the journal and the table know stays in
        any case, so nothing is dropped or paid again. It may end at any moment: a copy is there or not.
        """
        self._stack.admit_no_more()
        self._make_pages(
            math.inf
        )  # there is no next time: without the pictures no page can be made
        for _ in self._mirror.compare():
            pass
        before = left = _bytes_in(self._keep)
        # What is written from here on, by whoever makes up for what was not told, was not brought out.
        copies = self._stack.copies()
        why = self._not_free()
        if why is None:
            self._stack.delete(copies)
            left = _bytes_in(self._keep)
            self._say(
                f"{_size(before - left)} freed; {_size(left)} are still taken, by copies of what lies "
                f"in {self._order.inbox} and by the journal"
            )
        else:
            self._say(f"nothing is freed: {why}")
        if as_json:
            output.document({"freed_bytes": before - left, "left_bytes": left})
        return 0 if why is None else 1

    def _not_free(self) -> str | None:
        """Why the copies have to stay; None if they may go."""
        if jobs := self._stack.needing_copies():
            return (
                f"{_counted(len(jobs), 'job')} not done, {jobs[0].sidecar} ({jobs[0].status}) for one, "
                "and may need the copies; let the watch run until they have ended, or cancel them "
                "(retouch cancel), and decide about what is UNRESOLVED (retouch resolve), while it runs"
            )
        if (key := self._mirror.left_behind()) is not None:
            return f"{key} could not be brought to {self._order.outbox}"
        return None

    def run(self) -> int:
        """Take in, bring out, and tell, until it is to end."""
        try:
            return self._run()
        except NotWritten as error:
            self._say(f"{error}. No new calls begin; those under way are waited for")
            self._end_calls()
            raise local.StackError(
                f"{error}. Nothing is lost: see to it that the folder can be written to, and start the "
                "same command again"
            ) from error

    def _run(self) -> int:
        with self._until_interrupted():
            self._go_on_from_before()
            self._say(
                f"watching {self._order.inbox}; results appear in {self._order.outbox}; "
                + ("ends when all is done" if self._order.once else "Ctrl-C ends it")
            )
            if (taken := _bytes_in(self._keep)) > _MUCH_BYTES:
                self._say(
                    f"the copies of originals and results take {_size(taken)} in {self._keep}; "
                    "the same command with --free frees what is done with"
                )
            columns = (SpinnerColumn(), TextColumn("{task.description}"))
            live = self._console.is_terminal
            with Progress(*columns, console=self._console, disable=not live, transient=True) as bar:
                task = bar.add_task("")
                healed = False
                while not self._interrupted:
                    busy = self._turn()
                    if (now := time.monotonic()) >= self._next_count:
                        self._next_count = now + _COUNT_SECONDS
                        self._tally.coming = self._stack.messages()
                    bar.update(task, description=self._tally.line())
                    if not healed and time.monotonic() - self._started > _HEAL_AFTER_SECONDS:
                        self._stack.heal()
                        healed = True
                    if self._order.once and not busy and self._all_done():
                        break
            if self._interrupted:
                self._drain()
            self._make_pages()
            for record in self._mirror.compare():
                self._heed(record)
        if self._interrupted:
            return INTERRUPTED
        return self._code()

    @contextlib.contextmanager
    def _until_interrupted(self) -> Iterator[None]:
        """The first Ctrl-C ends the work in order, the second at once."""

        def stop(number: int, _: FrameType | None) -> None:
            if self._interrupted:
                raise KeyboardInterrupt(number)
            self._interrupted = True

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, stop) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _go_on_from_before(self) -> None:
        self._intake.recover()
        for job in self._stack.open_jobs():
            self._tally.hear(job.job_id, job.version, job.status)
            self._rows[job.job_id] = output.row(job)
            if job.blocked:
                self._tally.blocked.add(job.job_id)
        if count := len(self._tally.open):
            self._say(f"{_counted(count, 'job')} left from before; going on")
        for record in self._mirror.compare():
            self._heed(record)
        self._make_pages()
        entries = self._journal.entries.values()
        self._stack.resume([(e.key, e.at) for e in entries if e.state is State.UP and not e.gone])

    def _make_pages(self, seconds: float = _PAGES_SECONDS) -> None:
        """Make the pages that were not made before the engine ended."""
        until = time.monotonic() + seconds
        for folder in self._stack.without_page():
            if time.monotonic() > until:
                break
            self._stack.make_page(folder)

    def _turn(self) -> bool:
        """One round of everything; whether something was done."""
        if time.monotonic() < self._next_look:
            return self._bring(1) or bool(self._tally.pending)
        until = time.monotonic() + _TAKE_SECONDS
        try:
            taken = self._intake.round(lambda: time.monotonic() < until and not self._interrupted)
        except FolderAway as error:
            self._next_look = time.monotonic() + _AWAY_SECONDS
            if not self._away:
                self._say(
                    f"{error}; nothing new is taken until it is back, what is under way goes on"
                )
            self._away = True
            return True
        if self._away:
            self._say(f"{self._order.inbox} is back")
        self._away = False
        self._tally.dropped += taken.dropped
        self._tally.pending = taken.pending
        if not taken.dropped:
            self._next_look = time.monotonic() + _LOOK_SHARE * taken.looked_seconds
        self._expected |= {key: job_id_of(key, version) for key, version in taken.sidecars}
        return self._bring(0 if taken.dropped else 1) or bool(taken.dropped or taken.pending)

    def _bring(self, wait_seconds: int) -> bool:
        """Bring out what is new, for a while; whether something was."""
        until = time.monotonic() + _BRING_SECONDS
        some = False
        while news := self._stack.news(0 if some else wait_seconds):
            some = True
            for key in dict.fromkeys(one.key for one in news if not isinstance(one, Change)):
                for record in self._mirror.fetch(key):
                    self._heed(record)
            for one in news:
                if isinstance(one, Change):
                    self._hear(one)
            if time.monotonic() > until or self._interrupted:
                break
        if not some and local.find(self._running.name) is None:
            raise local.StackError(_ENDED)
        return some

    def _heed(self, record: dict[str, Any]) -> None:
        """A job that waits may wait for a file that was held back."""
        if record["status"] == Status.WAITING:
            for key in record["missing"]:
                self._intake.want(key)

    def _hear(self, change: Change) -> None:
        if not self._tally.hear(change.job_id, change.revision, change.status):
            return
        telling = change.status.settled or change.status in (Status.WAITING, Status.QUEUED)
        job = self._stack.store.job(change.job_id) if telling else None
        if job is None:
            return
        self._rows[job.job_id] = output.row(job)
        (self._tally.blocked.add if job.blocked else self._tally.blocked.discard)(job.job_id)
        why = output.reason(job)
        waits_for_nothing = job.status is Status.WAITING and not job.missing
        if not job.status.settled and (
            not why or waits_for_nothing or self._told.get(job.job_id) == why
        ):
            return
        self._told[job.job_id] = why
        elapsed = time.monotonic() - self._started
        self._console.print(
            f"[dim]{elapsed:6.1f} s[/dim]  {output.status(job)}  "
            f"{escape(job.sidecar.removesuffix('.json'))}" + (f"  {escape(why)}" if why else "")
        )

    def _all_done(self) -> bool:
        """Whether nothing more can come by itself of what was dropped."""
        blocked = self._tally.blocked
        left = [
            job_id
            for job_id, status in self._tally.open.items()
            if status not in STANDING and job_id not in blocked
        ]
        heard = self._tally.ended.keys() | self._tally.open.keys()
        unheard = set(self._expected.values()) - heard
        return not left and not unheard and not self._stack.messages() and not self._bring(1)

    def _drain(self) -> None:
        """Start no more calls, and let those under way end: one cut off may be billed for nothing."""
        self._say("stopping: no new files are taken; Ctrl-C again stops at once")
        self._end_calls()
        while self._bring(0):
            pass
        states = Counter(job.status for job in self._stack.open_jobs())
        under_way = sum(states[status] for status in UNDER_WAY)
        unsent = sum(states[status] for status in UNSENT)
        if under_way:
            self._say(
                f"{_counted(under_way, 'job')} under way: "
                f"{_KEPT_BY.get(self._order.provider, _KEPT)}"
            )
        if unsent:
            self._say(f"{_counted(unsent, 'job')} not sent yet: the same command goes on with that")

    def _end_calls(self) -> None:
        self._stack.admit_no_more()
        self._stack.wait_while((Status.ADMITTED, Status.CREATING), _CALL_SECONDS)
        if calling := self._stack.wait_while((Status.CREATING,), 0):
            self._say(
                f"{_counted(calling, 'call')} under way that cannot be looked up afterwards; waiting "
                "for the answer. Ctrl-C again stops at once, and what was billed for it may be lost"
            )
            self._stack.wait_while((Status.CREATING,), _SYNC_CALL_SECONDS)
        self._stack.wait_while((Status.FINALIZING,), _FINALIZE_SECONDS)

    def _code(self) -> int:
        statuses = {*self._tally.ended.values(), *self._tally.open.values()}
        if Status.REJECTED in statuses:
            return 2
        if self._tally.blocked:
            return 3
        return 1 if statuses - {Status.SUCCEEDED} else 0

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def summary(self, *, as_json: bool) -> None:
        """What came of it."""
        seen = self._tally
        if as_json:
            ids = (*seen.ended, *seen.open)
            output.document(
                {
                    "inbox": str(self._order.inbox),
                    "outbox": str(self._order.outbox),
                    "dropped": seen.dropped,
                    "interrupted": self._interrupted,
                    "jobs": [self._rows[job_id] for job_id in ids if job_id in self._rows],
                }
            )
            return
        self._say(f"{seen.line(going_on=False)}; results in {self._order.outbox}")
