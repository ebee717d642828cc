"""What the decisions need from the world: small protocols, one for each thing.

The adapters in `retouch.aws` and `retouch.provider` satisfy them in production, in-memory fakes do in
tests. Every method is one effect, so that every effect can be a crash point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from retouch.budget import Sums
from retouch.jobs import Alert, Answer, Copied, Enqueue, Job, Lane, Output, Status, Writes
from retouch.provider.answers import ListedTask, TaskAnswer
from retouch.provider.requests import Request
from retouch.registry import Json
from retouch.settings import Settings, WebhookSettings


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after that long."""
        ...


class Store(Protocol):
    """The table."""

    def job(self, job_id: str) -> Job | None:
        """The job as last committed."""
        ...

    def lane(self, lane: str) -> Lane:
        """The lane as last committed; version 0 if it was never stored."""
        ...

    def backlog(self, lane: str, limit: int) -> Sequence[Enqueue]:
        """The first jobs of a lane's backlog, in order."""
        ...

    def answer(self, job_id: str) -> Answer | None:
        """The kept answer of a synchronous call."""
        ...

    def used_up(self, scope: str, day: str) -> Sums:
        """What counts against a scope's budget on a UTC day."""
        ...

    def counted(self, name: str, day: str) -> int:
        """How often something was counted on a UTC day (`retouch.jobs.Tally`)."""
        ...

    def held_queues(self) -> Sequence[str]:
        """Every backlog that a job ever waited in for room in a budget."""
        ...

    def note_held_queue(self, name: str) -> None:
        """Remember that there is one of that name."""
        ...

    def made_by(self, sha256: str) -> str | None:
        """The job that wrote these bytes into the outbox, in the last months."""
        ...

    def note_made(self, sha256: str, job_id: str, expires_at: int) -> None:
        """Remember it until then (Unix seconds); of several jobs the first."""
        ...

    def lanes(self) -> Sequence[str]:
        """Every lane that ever had a job."""
        ...

    def note_lane(self, lane: str) -> None:
        """Remember that there is a lane of that name."""
        ...

    def owner_of(self, task_id: str) -> str | None:
        """The job that a task of the provider belongs to; None if it is nobody's here."""
        ...

    def copied(self, job_id: str) -> Sequence[Output]:
        """The results of a job that are in the outbox already, while it is being finalized."""
        ...

    def note_copied(self, copied: Copied) -> None:
        """Note one."""
        ...

    def reserve(self, name: str, now: float, interval: float, patience: float) -> float | None:
        """A turn of its own for one call of that name: turns are `interval` seconds apart, whoever
        asks. Gives its time, or None if it would be more than `patience` seconds away.
        """
        ...

    def alerts(self, before: float) -> Sequence[Alert]:
        """Alerts raised before that time and not known to be sent."""
        ...

    def drop_alert(self, alert_id: str) -> None:
        """Note that an alert is sent."""
        ...

    def note_lone(self, key: str, now: float, job_id: str | None = None) -> None:
        """Remember that an image came without a sidecar, or which record stands for it now."""
        ...

    def lone(self, before: float, limit: int) -> Sequence[str]:
        """Images that came without a sidecar before that time and have no record yet."""
        ...

    def record_of_lone(self, key: str) -> str | None:
        """The id of the record that stands for an image without a sidecar, if there is one."""
        ...

    def steps_due(self, before: float) -> Sequence[str]:
        """Jobs that wait although the job of the step before them ended before that time.

        `commit` keeps them: an end that is stored adds the next step, a step that moves is taken out.
        """
        ...

    def forget_step(self, job_id: str) -> None:
        """A step that was due is not there, or no longer waits."""
        ...

    def lone_below(self, prefix: str) -> Sequence[str]:
        """All images without a sidecar whose keys begin so, with a record or not yet."""
        ...

    def forget_lone(self, key: str) -> None:
        """The image has its sidecar, or is gone."""
        ...

    def sweep(self) -> Sweep:
        """How far the latest look through the whole inbox has come."""
        ...

    def note_sweep(self, sweep: Sweep) -> None:
        """Remember it."""
        ...

    def jobs_in(self, status: Status) -> Iterator[Job]:
        """Jobs in a state, oldest first; may lag behind commits by a moment."""
        ...

    def commit(self, writes: Writes) -> None:
        """Store all of `writes`, or none.

        Raises:
            Conflict: somebody else wrote first; read again and decide again.
        """
        ...

    def published(self, job_id: str) -> int:
        """The latest version of the job that is known to be published."""
        ...

    def unpublished(self, before: float) -> Sequence[tuple[str, int]]:
        """Changes, as job id and version, made before that time and not known to be published."""
        ...

    def mark_published(self, job_id: str, *versions: int) -> None:
        """Note that these changes, in order, are published; also where the job has moved on since."""
        ...

    def await_images(self, sidecar: str, keys: Iterable[str]) -> None:
        """Remember that a sidecar waits for these images."""
        ...

    def awaiting(self, key: str) -> Sequence[str]:
        """The sidecars that wait for an image."""
        ...

    def forget_awaiting(self, sidecar: str, keys: Iterable[str]) -> None:
        """The sidecar no longer waits for these images."""
        ...

    def latest_job_of(self, name: str) -> str | None:
        """The id of the latest job of a name, as `NoteLatest` noted it."""
        ...


@dataclass(frozen=True)
class Stored:
    """A version of an object in the inbox."""

    key: str
    version_id: str
    size: int


@dataclass(frozen=True)
class Listed:
    """The current version of an object, as a listing of the inbox gives it."""

    key: str
    version_id: str
    modified_at: float


@dataclass(frozen=True)
class Sweep:
    """A look through the whole inbox for objects whose events never came.

    Attributes:
        since: Objects that changed before were looked at by an earlier one. Unix seconds.
        started_at: When it began; 0 before the first.
        after: The last key that was looked at; None where it is through.
    """

    since: float = 0.0
    started_at: float = 0.0
    after: str | None = None


class Inbox(Protocol):
    """The bucket that people drop into."""

    def head(self, key: str) -> Stored | None:
        """The current version of an object, or None if there is none."""
        ...

    def read(self, key: str, version_id: str) -> bytes | None:
        """The bytes of a version, or None if it is gone."""
        ...

    def keys(self, prefix: str) -> Sequence[str]:
        """The keys that begin with `prefix`."""
        ...

    def presign(self, key: str, version_id: str, content_type: str, seconds: int) -> str:
        """A URL that anyone may read this version with for so long, as that type.

        The provider refuses images whose host does not say that they are images, and what people
        drop seldom says so.
        """
        ...


class ListedInbox(Inbox, Protocol):
    """The bucket, with a way to go through all of it."""

    def listing(self, after: str | None) -> Sequence[Listed]:
        """The objects behind that key, in order, up to a thousand; none: there are no more."""
        ...


class Outbox(Protocol):
    """The bucket that results appear in."""

    def put(self, key: str, data: bytes, content_type: str) -> str | None:
        """Write an object; its version id."""
        ...

    def current(self, key: str) -> str | None:
        """The ETag of what lies there now, or None if nothing does, as where it was deleted."""
        ...

    def put_stream(
        self, key: str, chunks: Iterator[bytes], content_type: str, *, over: str | None
    ) -> str | None:
        """Write an object from chunks in bounded memory, if `over` still lies there; its version id.

        `over` is what `current` gave. Whole or not at all: where anything fails, be it `chunks`,
        what lay there lies there still and nothing beside it.

        Raises:
            Conflict: something else lies there. It can be this very write, if the answer to it was
                lost on the way and it was sent again: read again, decide again.
        """
        ...

    def read(self, key: str, version_id: str | None) -> bytes | None:
        """The bytes of a version, or with None those that lie there now; None if they are gone."""
        ...

    def presign(self, key: str, version_id: str | None, content_type: str, seconds: int) -> str:
        """As `Inbox.presign`."""
        ...


class Provider(Protocol):
    """The provider's HTTP interface in one region."""

    def create(self, request: Request) -> tuple[str, str | None]:
        """Make an asynchronous task; its id and the request id. Bills.

        Raises:
            ProviderRefused, AccountRefused, TryLater: nothing was made.
            InputNotFetched: likewise, because an image could not be downloaded.
            OutcomeUnknown: a task may have been made.
        """
        ...

    def generate(self, request: Request) -> str:
        """Make a synchronous call; the body of a successful answer, to be parsed by `answers`. Bills.

        A streamed answer is merged into one. Where it broke off after an image, the body has a code
        and a message on top.

        Raises:
            As `create`.
        """
        ...

    def query(self, task_id: str) -> TaskAnswer:
        """The state of a task.

        Raises:
            TryLater: the query failed, which says nothing about the task.
            AccountRefused: likewise, and an operator must act.
        """
        ...

    def tasks(self, *, start: float, end: float, model: str) -> Iterable[ListedTask]:
        """The account's tasks of a model made between two times, in Unix seconds (contract 2.5).

        Raises:
            TryLater: the list could not be had whole.
            AccountRefused: likewise, and an operator must act.
            ProviderRefused: the provider refuses the question.
        """
        ...

    def cancel(self, task_id: str) -> bool:
        """Cancel a task that is still PENDING; whether the provider took it (contract 2.6).

        Raises:
            As `tasks`.
        """
        ...

    def upload(self, model: str, name: str, data: bytes, mime: str) -> str:
        """Put an image into the provider's temporary storage for one model; its `oss://` URL.

        `name` must be unlike any before. Nothing is billed.

        Raises:
            ProviderRefused: it is too large.
            AccountRefused, TryLater: as `create`.
        """
        ...

    def fetch(self, url: str) -> AbstractContextManager[Iterator[bytes]]:
        """Stream a result.

        Raises:
            ProviderRefused: the URL is not one that results may come from, or it has expired.
            ResultHostUnknown: its host is not on the list, or leads into a private network.
            TryLater: the download failed; it may be repeated.
        """
        ...


class Kicks(Protocol):
    """Hints that a lane may have work."""

    def kick(self, lane: str) -> None:
        """Send one."""
        ...


SETTLE_SECONDS: Final = 10
"""So long does an image alone wait for a sidecar before its folder's preset makes it a job."""


@dataclass(frozen=True)
class Errand:
    """Something for `submit` to see to: an object, or a job whose step before it has ended.

    Attributes:
        key: The object's key in the inbox.
        job_id: The job.
        settled: Whether the object, an image, has waited for its sidecar for `SETTLE_SECONDS`.
    """

    key: str | None = None
    job_id: str | None = None
    settled: bool = False


class Uploads(Protocol):
    """The queue that tells `submit` what to see to."""

    def announce(self, *errands: Errand) -> None:
        """Tell of these: of objects of which nothing shows that their own events came, and of steps.

        Those that are `settled` are delivered `SETTLE_SECONDS` later.

        Raises:
            TryLater: the queue did not take all of them.
        """
        ...


class Executions(Protocol):
    """The wait loop."""

    def start(self, name: str, payload: Mapping[str, Json]) -> None:
        """Start an execution; one of that name that exists already is left alone."""
        ...

    def alive(self, name: str) -> bool:
        """Whether the execution of that name is still running."""
        ...


class Notices(Protocol):
    """What the rest of the world hears."""

    def tell(self, detail_type: str, details: Sequence[Mapping[str, Json]]) -> None:
        """Put events on the stack's bus, ten at the most, in order."""
        ...

    def notify(
        self, subject: str, message: Mapping[str, Json], attributes: Mapping[str, str]
    ) -> None:
        """Publish to the stack's topic."""
        ...


class App(Protocol):
    """All of it, as one function of the stack sees it."""

    @property
    def settings(self) -> Settings:
        """The stack's settings."""
        ...

    @property
    def clock(self) -> Clock:
        """Time."""
        ...

    @property
    def store(self) -> Store:
        """The table."""
        ...

    @property
    def inbox(self) -> ListedInbox:
        """The inbox bucket."""
        ...

    @property
    def outbox(self) -> Outbox:
        """The outbox bucket."""
        ...

    def provider(self, region: str) -> Provider:
        """The provider in one of its regions.

        Raises:
            SettingsError: the stack has no key for that region.
        """
        ...

    @property
    def kicks(self) -> Kicks:
        """The kick queue."""
        ...

    @property
    def uploads(self) -> Uploads:
        """The queue of uploads."""
        ...

    @property
    def executions(self) -> Executions:
        """The state machine."""
        ...

    @property
    def notices(self) -> Notices:
        """Events and notifications."""
        ...


# --- the webhook ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """What came of sending a message: the receiver's HTTP status, or why there is none."""

    status: int | None
    why: str = ""

    @property
    def taken(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver wants nothing more: 410."""
        return self.status == HTTPStatus.GONE

    def __str__(self) -> str:
        return self.why if self.status is None else f"HTTP {self.status}"


class Receiver(Protocol):
    """Whatever answers at the operator's address."""

    def post(self, ident: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> Reply:
        """Send a message, signed with each key, as attempted at that time in Unix seconds."""
        ...


class Deliveries(Protocol):
    """The queue of messages to deliver, and the one for those that could not be."""

    def put_off(self, receipt: str, seconds: float) -> None:
        """Let the message of that receipt come again after so long."""
        ...

    def give_up(self, body: str, why: str) -> None:
        """Put a message into the dead-letter queue. Taking it out of its own is left to the caller."""
        ...


class WebhookApp(Protocol):
    """All that the function `webhook` sees."""

    @property
    def settings(self) -> WebhookSettings:
        """Its settings."""
        ...

    @property
    def clock(self) -> Clock:
        """Time."""
        ...

    @property
    def receiver(self) -> Receiver:
        """The webhook."""
        ...

    @property
    def deliveries(self) -> Deliveries:
        """Its queues."""
        ...

    def keys(self) -> tuple[bytes, ...]:
        """The keys to sign with.

        Raises:
            SettingsError: the secret cannot be read, or holds none.
        """
        ...
