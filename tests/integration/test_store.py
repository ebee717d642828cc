"""DynamoStore: all of a commit or nothing, and every condition is the table's, not ours."""

from __future__ import annotations

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from retouch.aws.store import DynamoStore
from retouch.errors import Conflict, TryLater
from retouch.jobs import (
    Answer,
    Dequeue,
    DropAnswer,
    Enqueue,
    Failure,
    Finding,
    Job,
    Lane,
    PutAnswer,
    PutJob,
    PutLane,
    Slot,
    Source,
    Status,
    Writes,
)
from tests.integration.conftest import Stack

LANE = "beijing:wanx2.1-imageedit"


def job(
    letter: str = "a", version: int = 1, status: Status = Status.QUEUED, at: float = 1.0
) -> Job:
    return Job(
        job_id=letter * 16,
        version=version,
        status=status,
        created_at=1_700_000_000.0 + at,
        updated_at=1_700_000_000.0 + at,
        sidecar=f"图片/{letter} b.png.json",
        sidecar_version="v1",
        folder=letter,
        model="wanx2.1-imageedit",
        prompt="红色 🎨",
        parameters={"n": 1, "strength": 0.5, "boxes": [[1, 2], []], "flag": True},
        images=(Source(key="a.png", version_id="v", sha256="0" * 64, size=1),),
        problems=(Finding(field="x", message="y"),),
        failure=Failure(code="c", message="m"),
    )


def lane(version: int = 1, **changes: object) -> Lane:
    return Lane(lane=LANE, version=version).model_copy(update=changes)


def test_what_is_committed_is_read_back_whole(store: DynamoStore) -> None:
    stored = lane(fence=3, slots={"a" * 16: Slot(fence=3, lease_until=1.5)}, next_create_at=2.25)

    store.commit((PutJob(job()), PutLane(stored), Enqueue(LANE, "4#1#a", "a" * 16)))

    assert store.job("a" * 16) == job()
    assert store.lane(LANE) == stored
    assert store.backlog(LANE, 10) == [Enqueue(LANE, "4#1#a", "a" * 16)]


def test_what_was_never_stored_is_not_there(store: DynamoStore) -> None:
    assert store.job("a" * 16) is None
    assert store.lane(LANE) == Lane(lane=LANE, version=0)
    assert store.backlog(LANE, 1) == []
    assert store.answer("a" * 16) is None
    assert store.latest_job_of("a.json") is None
    assert store.published("a" * 16) == 0
    assert store.awaiting("a.png") == []
    assert list(store.jobs_in(Status.QUEUED)) == []


def test_an_empty_commit_is_no_call(store: DynamoStore) -> None:
    store.commit(())

    assert store.unpublished(float("inf")) == []


CONFLICTING: dict[str, Writes] = {
    "a first version of a job that is there": (PutJob(job(version=1)),),
    "a version of a job that is not the next": (PutJob(job(version=3)),),
    "a next version of a job that is not there": (PutJob(job("b", version=2)),),
    "a first version of a lane that is there": (PutLane(lane(1)),),
    "a version of a lane that is not the next": (PutLane(lane(3)),),
    "an entry that is not in the backlog": (Dequeue(LANE, "4#9#z"),),
    "a backlog of another lane": (Dequeue("beijing:wan2.7-image", "4#1#a"),),
}


@pytest.mark.parametrize("why", CONFLICTING)
@pytest.mark.parametrize("last", [False, True])
def test_one_condition_that_fails_undoes_the_whole_commit(
    store: DynamoStore, why: str, last: bool
) -> None:
    store.commit((PutJob(job()), PutLane(lane()), Enqueue(LANE, "4#1#a", "a" * 16)))
    good: Writes = (
        PutJob(job("c")),
        Enqueue(LANE, "4#2#c", "c" * 16),
        PutAnswer(Answer(job_id="c" * 16, body="{}", expires_at=1)),
    )
    writes = (*good, *CONFLICTING[why]) if last else (*CONFLICTING[why], *good)

    with pytest.raises(Conflict):
        store.commit(writes)

    assert store.job("a" * 16) == job()
    assert store.job("b" * 16) is None
    assert store.job("c" * 16) is None
    assert store.lane(LANE) == lane()
    assert [entry.job_id for entry in store.backlog(LANE, 10)] == ["a" * 16]
    assert store.answer("c" * 16) is None
    assert store.unpublished(float("inf")) == [("a" * 16, 1)]


def test_the_next_version_replaces_the_one_before(store: DynamoStore) -> None:
    store.commit((PutJob(job()), PutLane(lane()), Enqueue(LANE, "4#1#a", "a" * 16)))

    store.commit(
        (
            PutJob(job(version=2, status=Status.ADMITTED)),
            PutLane(lane(2, fence=1)),
            Dequeue(LANE, "4#1#a"),
        )
    )

    found = store.job("a" * 16)
    assert found is not None
    assert (found.version, found.status) == (2, Status.ADMITTED)
    assert store.lane(LANE).fence == 1
    assert store.backlog(LANE, 10) == []


def test_the_backlog_is_in_order_and_cut_to_what_was_asked_for(store: DynamoStore) -> None:
    keys = ["4#000000000000002#b", "0#000000000000009#c", "4#000000000000001#a", "9#0#d"]
    for key in keys:
        store.commit((Enqueue(LANE, key, key[-1] * 16),))

    assert [entry.queue_key for entry in store.backlog(LANE, 10)] == sorted(keys)
    assert [entry.job_id for entry in store.backlog(LANE, 2)] == ["c" * 16, "a" * 16]


def test_an_answer_is_kept_with_its_end_and_dropped(store: DynamoStore, stack: Stack) -> None:
    answer = Answer(job_id="a" * 16, body='{"output": "图"}', expires_at=1_700_000_123)

    store.commit((PutAnswer(answer),))

    assert store.answer("a" * 16) == answer
    item = stack.dynamodb.get_item(
        TableName=stack.table, Key={"pk": {"S": "JOB#" + "a" * 16}, "sk": {"S": "ANSWER"}}
    )["Item"]
    assert item["expires_at"] == {"N": "1700000123"}  # the table's TTL reads a number

    store.commit((DropAnswer("a" * 16),))
    store.commit((DropAnswer("a" * 16),))  # there is none: nothing to do

    assert store.answer("a" * 16) is None


def test_the_ttl_attribute_is_the_one_the_store_writes(template: dict[str, object]) -> None:
    resources = template["Resources"]
    assert isinstance(resources, dict)
    ttl = resources["Table"]["Properties"]["TimeToLiveSpecification"]

    assert ttl == {"AttributeName": "expires_at", "Enabled": True}


def test_jobs_of_a_state_come_oldest_first_over_all_pages(store: DynamoStore) -> None:
    padding = {"big": "x" * 200_000}  # seven of them fill more than a page of 1 MB
    for number, letter in enumerate("gfedcba"):
        big = job(letter, at=float(number)).model_copy(update={"labels": padding})
        store.commit((PutJob(big),))
    store.commit((PutJob(job("z", status=Status.FAILED)),))

    assert [found.job_id[0] for found in store.jobs_in(Status.QUEUED)] == list("gfedcba")
    assert [found.job_id[0] for found in store.jobs_in(Status.FAILED)] == ["z"]


def test_a_job_that_changes_state_leaves_the_index_of_the_former(store: DynamoStore) -> None:
    store.commit((PutJob(job()),))
    store.commit((PutJob(job(version=2, status=Status.FAILED)),))

    assert list(store.jobs_in(Status.QUEUED)) == []
    assert [found.version for found in store.jobs_in(Status.FAILED)] == [2]


# --- what is published ----------------------------------------


def test_a_change_is_unpublished_until_it_is_marked(store: DynamoStore) -> None:
    store.commit((PutJob(job()),))
    assert store.published("a" * 16) == 0
    assert store.unpublished(1_700_000_001.0) == []  # not before that time
    assert store.unpublished(1_700_000_001.1) == [("a" * 16, 1)]

    store.mark_published("a" * 16, 1)

    assert store.published("a" * 16) == 1
    assert store.unpublished(float("inf")) == []
    assert store.job("a" * 16) == job()


def test_a_later_change_is_unpublished_again(store: DynamoStore) -> None:
    store.commit((PutJob(job()),))
    store.mark_published("a" * 16, 1)

    store.commit((PutJob(job(version=2, at=5.0)),))

    assert store.published("a" * 16) < 2
    assert store.unpublished(float("inf")) == [("a" * 16, 2)]


def test_marking_a_version_that_was_overtaken_marks_nothing(store: DynamoStore) -> None:
    store.commit((PutJob(job()),))
    store.commit((PutJob(job(version=2)),))

    store.mark_published("a" * 16, 1)

    assert store.published("a" * 16) == 0
    assert store.unpublished(float("inf")) == [("a" * 16, 2)]


def test_marking_a_job_that_is_not_there_makes_none(store: DynamoStore) -> None:
    store.mark_published("a" * 16, 1)

    assert store.job("a" * 16) is None


def test_marking_the_newer_change_leaves_the_overtaken_one_to_be_made_up_for(
    store: DynamoStore,
) -> None:
    store.commit((PutJob(job()),))
    store.commit((PutJob(job(version=2)),))

    store.mark_published("a" * 16, 2)

    assert store.published("a" * 16) == 2
    assert store.unpublished(float("inf")) == [("a" * 16, 1)]


# --- sidecars ----------------------------------------


def test_a_sidecar_waits_for_its_images_until_it_is_told_not_to(store: DynamoStore) -> None:
    store.await_images("a.json", ["图 1.png", "2.png"])
    store.await_images("b.json", ["2.png"])
    store.await_images("b.json", ["2.png"])  # again: no matter

    assert store.awaiting("图 1.png") == ["a.json"]
    assert store.awaiting("2.png") == ["a.json", "b.json"]

    store.forget_awaiting("a.json", ["图 1.png", "2.png", "never.png"])

    assert store.awaiting("图 1.png") == []
    assert store.awaiting("2.png") == ["b.json"]


def test_every_sidecar_that_waits_for_an_image_is_found_however_many(store: DynamoStore) -> None:
    # One logo for a whole catalogue: whoever is left out here would wait for ever.
    sidecars = [f"item-{number:04d}.json" for number in range(130)]
    for sidecar in sidecars:
        store.await_images(sidecar, ["logo.png"])

    assert store.awaiting("logo.png") == sidecars


def test_every_unpublished_change_is_found_however_many(store: DynamoStore, stack: Stack) -> None:
    # Those behind the first page must not wait for those before them.
    for start in range(0, 1100, 25):
        stack.dynamodb.batch_write_item(
            RequestItems={
                stack.table: [
                    {
                        "PutRequest": {
                            "Item": {
                                "pk": {"S": "UNPUBLISHED"},
                                "sk": {"S": f"{number:016d}#1"},
                                "since": {"N": "2" if number < 1050 else "1"},
                            }
                        }
                    }
                    for number in range(start, start + 25)
                ]
            }
        )

    assert len(store.unpublished(1.5)) == 50


def test_the_longest_keys_that_s3_allows_fit(store: DynamoStore) -> None:
    sidecar, image = "s" * 1024, "i" * 1024

    store.await_images(sidecar, [image])
    store.note_latest_job_of(sidecar, "a" * 16)

    assert store.awaiting(image) == [sidecar]
    assert store.latest_job_of(sidecar) == "a" * 16


def test_the_latest_job_of_a_sidecar_is_the_one_noted_last(store: DynamoStore) -> None:
    store.note_latest_job_of("a.json", "a" * 16)
    store.note_latest_job_of("a.json", "b" * 16)

    assert store.latest_job_of("a.json") == "b" * 16


# --- what a refusal of the table means ----------------------------------------


def refused(stack: Stack, code: str, *reasons: str) -> DynamoStore:
    """A store whose next transaction the table refuses, in the service's own words."""
    client = boto3.client("dynamodb")
    stubber = Stubber(client)
    stubber.add_client_error(
        "transact_write_items",
        service_error_code=code,
        modeled_fields={"CancellationReasons": [{"Code": reason} for reason in reasons]}
        if reasons
        else {},
    )
    stubber.activate()
    return DynamoStore(client, stack.table)


@pytest.mark.parametrize(
    ("code", "reasons"),
    [
        ("TransactionCanceledException", ("None", "ConditionalCheckFailed")),
        ("TransactionCanceledException", ("TransactionConflict", "None")),
        ("TransactionConflictException", ()),
    ],
)
def test_a_transaction_that_met_another_is_a_conflict(
    stack: Stack, code: str, reasons: tuple[str, ...]
) -> None:
    with pytest.raises(Conflict):
        refused(stack, code, *reasons).commit((PutJob(job()),))


@pytest.mark.parametrize("reason", ["ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_transaction_that_was_throttled_is_for_later_and_no_conflict(
    stack: Stack, reason: str
) -> None:
    # Fault 19.
    store = refused(stack, "TransactionCanceledException", "None", reason)

    with pytest.raises(TryLater) as caught:
        store.commit((PutJob(job()),))

    assert not isinstance(caught.value, Conflict)


def test_a_transaction_that_can_never_hold_is_no_conflict(stack: Stack) -> None:
    # An item too large, a malformed value: deciding again would change nothing.
    store = refused(stack, "TransactionCanceledException", "ValidationError")

    with pytest.raises(ClientError):
        store.commit((PutJob(job()),))


def test_an_error_of_another_kind_stays_what_it_is(stack: Stack) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        refused(stack, "AccessDeniedException").commit((PutJob(job()),))


@pytest.mark.parametrize(
    "code",
    [
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "TransactionInProgressException",
    ],
)
def test_a_busy_table_is_asked_again_later(stack: Stack, code: str) -> None:
    # Fault 19: raised as it is, it would cost a paid task id.
    store = refused(stack, code)
    with pytest.raises(TryLater) as raised:
        store.commit((PutJob(job()),))
    assert not isinstance(raised.value, Conflict)
