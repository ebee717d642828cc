"""The events that functions receive, as models: what a handler may rely on, checked at its edge."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, Json, TypeAdapter, ValidationError

from retouch.ports import Errand
from retouch.registry import Json as JsonValue

LONGEST_TASK_ID: Final = 200


class _S3Object(BaseModel):
    key: str = Field(min_length=1)


class _S3Detail(BaseModel):
    object: _S3Object
    settled: bool = False


class ObjectCreated(BaseModel):
    """S3's "Object Created" as EventBridge delivers it, or one of ours in its place. The key is not
    URL-encoded there.
    """

    source: Literal["aws.s3"]
    detail: _S3Detail


STEP_DUE: Final = "Retouch Step Due"


class _StepDetail(BaseModel):
    job_id: str = Field(pattern=r"^[a-z0-9]{16}$")


class StepDue(BaseModel):
    """The step before a job has ended."""

    source: Literal["retouch"]
    detail: _StepDetail


_Upload: Final[TypeAdapter[ObjectCreated | StepDue]] = TypeAdapter(
    Annotated[ObjectCreated | StepDue, Field(discriminator="source")]
)


def errand_in(body: str) -> Errand:
    """What a message of the uploads queue asks for.

    Raises:
        pydantic.ValidationError: nothing that is known.
    """
    event = _Upload.validate_json(body)
    if isinstance(event, StepDue):
        return Errand(job_id=event.detail.job_id)
    return Errand(key=event.detail.object.key, settled=event.detail.settled)


class Kick(BaseModel):
    """A hint that a lane may have work."""

    lane: str = Field(pattern=r"^[a-z]+:[A-Za-z0-9._-]+$")


class _KickRecord(BaseModel):
    message_id: str = Field(alias="messageId")
    body: str

    @property
    def lane(self) -> str | None:
        """The lane it kicks, or None if it is no kick."""
        try:
            return Kick.model_validate_json(self.body).lane
        except ValidationError:
            return None


class KickBatch(BaseModel):
    """A batch of kicks."""

    records: list[_KickRecord] = Field(alias="Records")

    def by_lane(self) -> dict[str, list[str]]:
        """The message ids of each lane: however many kicks, a lane is served once."""
        lanes: dict[str, list[str]] = {}
        for record in self.records:
            if record.lane is not None:
                lanes.setdefault(record.lane, []).append(record.message_id)
        return lanes

    def unreadable(self) -> list[str]:
        """The ids of messages that are no kicks; they must not hold the others up."""
        return [record.message_id for record in self.records if record.lane is None]


class _Receives(BaseModel):
    receives: int = Field(alias="ApproximateReceiveCount", ge=1)


class _MessageRecord(BaseModel):
    message_id: str = Field(alias="messageId")
    receipt: str = Field(alias="receiptHandle")
    body: str
    attributes: _Receives


class MessageBatch(BaseModel):
    """Messages on their way to the webhook, and how often each was received."""

    records: list[_MessageRecord] = Field(alias="Records")


class Turn(BaseModel):
    """What the state machine carries: which job, and which of its admissions."""

    job_id: str = Field(pattern=r"^[a-z0-9]{16}$")
    fence: int = Field(ge=1)


class Command(BaseModel):
    """What a person asks for, from the command line."""

    command: Literal["cancel", "retry", "release", "adopt", "again", "fail"]
    job_id: str = Field(pattern=r"^[a-z0-9]{16}$")
    task_id: str | None = Field(default=None, min_length=1, max_length=LONGEST_TASK_ID)


class _ExecutionDetail(BaseModel):
    input: Json[Turn]


class ExecutionEnded(BaseModel):
    """Step Functions' "Execution Status Change"."""

    source: Literal["aws.states"]
    detail: _ExecutionDetail

    @classmethod
    def turn_in(cls, event: dict[str, JsonValue]) -> Turn | None:
        """The turn of an execution that ended, or None for any other event (the schedule)."""
        if event.get("source") != "aws.states":
            return None
        return cls.model_validate(event).detail.input


class _Place(BaseModel):
    folder: str = Field(min_length=1)


class _Ended(BaseModel):
    job_id: str = Field(pattern=r"^[a-z0-9]{16}$")
    outbox: _Place


class _JobEvent(BaseModel):
    source: Literal["retouch"]
    detail: _Ended


class _EndedRecord(BaseModel):
    body: Json[_JobEvent]


class EndedBatch(BaseModel):
    """A batch of one event of ours, of a job that has ended."""

    records: list[_EndedRecord] = Field(alias="Records", min_length=1, max_length=1)

    @property
    def job(self) -> _Ended:
        """Which job, and the folder that it was told to write into."""
        return self.records[0].body.detail
