"""DynamoStore: all of a commit or nothing, and every condition is the table's, not ours."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from retouch.aws.store import DynamoStore
from retouch.errors import Conflict, TryLater
from retouch.jobs import (
    TASK_KEPT_SECONDS,
    Alert,
    Answer,
    ClaimTask,
    Copied,
    Dequeue,
    DropAnswer,
    Enqueue,
    Failure,
    Finding,
    Job,
    Lane,
    NoteLatest,
    Output,
    Part,
    PutAlert,
    PutAnswer,
    PutJob,
    PutLane,
    Slot,
    Source,
    Status,
    Writes,
)
from retouch.ports import Sweep
from retouch.registry import QUERIES_PER_SECOND
from tests.integration.conftest import Stack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

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


def test_many_jobs_are_read_a_hundred_at_a_time(store: DynamoStore) -> None:
    there = [job().model_copy(update={"job_id": f"{number:016x}"}) for number in range(230)]
    for one in there:
        store.commit((PutJob(one),))
    asked = [one.job_id for one in there]

    found = {one.job_id: one for one in store.jobs_of([*asked, "f" * 16])}

    assert found == {one.job_id: one for one in there}
    assert list(store.jobs_of([])) == []


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


def test_changes_that_were_told_together_are_marked_together(store: DynamoStore) -> None:
    store.commit((PutJob(job()),))
    store.commit((PutJob(job(version=2)),))
    store.commit((PutJob(job(version=3)),))
    store.commit((PutJob(job("b")),))

    store.mark_published("a" * 16, 1, 2, 3)

    assert store.published("a" * 16) == 3
    assert store.unpublished(float("inf")) == [("b" * 16, 1)]


def test_changes_that_were_overtaken_while_they_were_told_leave_the_latest_to_be_told(
    store: DynamoStore,
) -> None:
    for version in (1, 2, 3):
        store.commit((PutJob(job(version=version)),))

    store.mark_published("a" * 16, 1, 2)

    assert store.published("a" * 16) == 0
    assert store.unpublished(float("inf")) == [("a" * 16, 3)]


def test_a_mark_that_the_table_did_not_take_is_for_later(stack: Stack) -> None:
    # To take it for made would be right by chance: it is told once more, and marked then.
    client = boto3.client("dynamodb")
    stubber = Stubber(client)
    stubber.add_response("update_item", {})
    left = [{"DeleteRequest": {"Key": {"pk": {"S": "UNPUBLISHED"}, "sk": {"S": "a#1"}}}}]
    stubber.add_response("batch_write_item", {"UnprocessedItems": {stack.table: left}})
    stubber.activate()

    with pytest.raises(TryLater) as caught:
        DynamoStore(client, stack.table).mark_published("a" * 16, 1, 2)

    assert not isinstance(caught.value, Conflict)
    stubber.assert_no_pending_responses()


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
    store.commit((NoteLatest(sidecar, "a" * 16, over=None),))

    assert store.awaiting(image) == [sidecar]
    assert store.latest_job_of(sidecar) == "a" * 16


def test_the_latest_job_of_a_sidecar_is_the_one_noted_last(store: DynamoStore) -> None:
    store.commit((NoteLatest("a.json", "a" * 16, over=None),))
    store.commit((NoteLatest("a.json", "b" * 16, over="a" * 16),))
    store.commit((NoteLatest("a.json", "b" * 16, over="b" * 16),))  # it still is

    assert store.latest_job_of("a.json") == "b" * 16


@pytest.mark.parametrize("over", [None, "b" * 16])
def test_who_did_not_know_the_latest_job_of_a_sidecar_notes_nothing(
    store: DynamoStore, over: str | None
) -> None:
    store.commit((NoteLatest("a.json", "a" * 16, over=None),))
    late = job("c")

    with pytest.raises(Conflict):
        store.commit((PutJob(late), NoteLatest("a.json", late.job_id, over=over)))

    assert store.latest_job_of("a.json") == "a" * 16
    assert store.job(late.job_id) is None


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


# --- lanes ----------------------------------------


def test_lanes_are_remembered_once_however_often_they_are_noted(store: DynamoStore) -> None:
    assert store.lanes() == []

    for name in (LANE, "singapore:wan2.7-image", LANE):
        store.note_lane(name)

    assert sorted(store.lanes()) == [LANE, "singapore:wan2.7-image"]
    assert store.lane(LANE) == Lane(lane=LANE, version=0)  # a name is no state


# --- whose task it is ----------------------------------------


def item_of(stack: Stack, pk: str, sk: str) -> dict[str, Any]:
    item: Any = stack.dynamodb.get_item(
        TableName=stack.table, Key={"pk": {"S": pk}, "sk": {"S": sk}}, ConsistentRead=True
    ).get("Item", {})
    return dict(item)


def test_a_task_is_nobody_s_until_it_is_claimed(store: DynamoStore) -> None:
    assert store.owner_of("task-1") is None

    store.commit((PutJob(job()), ClaimTask("task-1", "a" * 16)))

    assert store.owner_of("task-1") == "a" * 16
    assert store.owner_of("task-2") is None


@pytest.mark.parametrize("last", [False, True])
def test_a_task_of_another_job_undoes_the_whole_commit(store: DynamoStore, last: bool) -> None:
    # What keeps two jobs from adopting one task: whoever comes second has to look again.
    store.commit((ClaimTask("task-1", "a" * 16),))
    claim: Writes = (ClaimTask("task-1", "b" * 16),)
    others: Writes = (
        PutJob(job("b")),
        PutLane(lane(fence=7)),
        Enqueue(LANE, "4#2#b", "b" * 16),
        PutAlert(alert("b")),
        ClaimTask("task-2", "b" * 16),
    )

    with pytest.raises(Conflict):
        store.commit((*others, *claim) if last else (*claim, *others))

    assert store.owner_of("task-1") == "a" * 16
    assert store.owner_of("task-2") is None
    assert store.job("b" * 16) is None
    assert store.lane(LANE).version == 0
    assert store.backlog(LANE, 10) == []
    assert store.alerts(float("inf")) == []
    assert store.unpublished(float("inf")) == []


def test_a_task_may_be_claimed_again_by_its_own_job(store: DynamoStore) -> None:
    store.commit((PutJob(job()), ClaimTask("task-1", "a" * 16)))

    store.commit((PutJob(job(version=2, status=Status.RUNNING)), ClaimTask("task-1", "a" * 16)))

    assert store.owner_of("task-1") == "a" * 16
    found = store.job("a" * 16)
    assert found is not None
    assert found.status is Status.RUNNING


def test_a_claim_is_not_made_where_the_job_has_moved_on(store: DynamoStore) -> None:
    store.commit((PutJob(job()),))

    with pytest.raises(Conflict):
        store.commit((PutJob(job(version=1)), ClaimTask("task-1", "a" * 16)))

    assert store.owner_of("task-1") is None


def test_a_claim_outlives_its_task_and_ends_in_whole_seconds(
    store: DynamoStore, stack: Stack
) -> None:
    before = time.time()
    store.commit((ClaimTask("task-1", "a" * 16),))

    end = item_of(stack, "TASK#task-1", "TASK")["expires_at"]["N"]

    assert end.isdecimal()  # the table's TTL takes nothing else
    # The provider lists a task for 24 h, and a lost call is looked for as long.
    assert int(end) >= before + 2 * TASK_KEPT_SECONDS


@pytest.mark.parametrize(
    ("code", "reasons"),
    [
        ("TransactionCanceledException", ("None", "ThrottlingError")),
        ("TransactionCanceledException", ("ConditionalCheckFailed", "ThrottlingError")),
        ("ThrottlingException", ()),
    ],
)
def test_a_claim_that_was_throttled_is_for_later_and_no_conflict(
    stack: Stack, code: str, reasons: tuple[str, ...]
) -> None:
    # A conflict would say that the task is another's, which nobody has found out.
    store = refused(stack, code, *reasons)

    with pytest.raises(TryLater) as caught:
        store.commit((PutJob(job()), ClaimTask("task-1", "a" * 16)))

    assert not isinstance(caught.value, Conflict)


# --- what is copied ----------------------------------------


def output(number: int | None, key: str = "a/a-1.png") -> Output:
    return Output(key=key, version_id="v", sha256="0" * 64, size=1, width=2, number=number)


def copied(number: int | None, *, by: str = "a", key: str = "a/a-1.png") -> Copied:
    return Copied(job_id=by * 16, output=output(number, key), expires_at=1_700_000_123)


def test_what_is_copied_is_noted_until_its_end(store: DynamoStore, stack: Stack) -> None:
    assert store.copied("a" * 16) == []

    store.note_copied(copied(2, key="图/红 🎨-2.png"))
    store.note_copied(copied(1))

    assert store.copied("a" * 16) == [output(1), output(2, "图/红 🎨-2.png")]
    assert item_of(stack, "JOB#" + "a" * 16, "COPIED#0001")["expires_at"] == {"N": "1700000123"}


def test_what_is_copied_again_is_noted_once_as_it_is_by_now(store: DynamoStore) -> None:
    store.note_copied(copied(1))
    store.note_copied(copied(1, key="a/newer.png"))

    assert store.copied("a" * 16) == [output(1, "a/newer.png")]


def test_more_than_nine_results_are_noted_in_order(store: DynamoStore) -> None:
    for number in (12, 1, 10, 2):
        store.note_copied(copied(number))

    assert [noted.number for noted in store.copied("a" * 16)] == [1, 2, 10, 12]


def test_a_job_s_notes_are_neither_its_record_nor_its_answer_nor_another_s(
    store: DynamoStore,
) -> None:
    answer = Answer(job_id="a" * 16, body="{}", expires_at=1)
    store.commit((PutJob(job()), PutAnswer(answer)))
    store.note_copied(copied(1))
    store.note_copied(copied(1, by="b"))

    assert store.copied("a" * 16) == [output(1)]
    assert store.job("a" * 16) == job()
    assert store.answer("a" * 16) == answer
    assert store.published("a" * 16) == 0
    assert list(store.jobs_in(Status.QUEUED)) == [job()]


# --- turns ----------------------------------------

NOW = 1_700_000_000.0
INTERVAL = 1 / QUERIES_PER_SECOND
CLOSEST = INTERVAL - 1e-6


def turns_of(found: list[float | None]) -> list[float]:
    turns = sorted(at for at in found if at is not None)
    assert len(turns) == len(found)
    return turns


def gaps(turns: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(turns)]


def test_the_first_turn_is_now_and_each_further_one_an_interval_later(store: DynamoStore) -> None:
    turns = turns_of([store.reserve("queries:beijing", NOW, INTERVAL, 2.0) for _ in range(4)])

    assert turns == pytest.approx([NOW + number * INTERVAL for number in range(4)])
    assert min(gaps(turns)) >= CLOSEST


def test_a_turn_that_came_long_ago_holds_nobody_up_and_lends_nobody_one(
    store: DynamoStore,
) -> None:
    # A quiet minute must not be made up for by a burst.
    assert store.reserve("queries:beijing", NOW, INTERVAL, 2.0) == NOW

    later = NOW + 60.0
    turns = turns_of([store.reserve("queries:beijing", later, INTERVAL, 2.0) for _ in range(3)])

    assert turns == pytest.approx([later, later + INTERVAL, later + 2 * INTERVAL])


def test_there_is_no_turn_beyond_patience_and_none_is_taken_then(store: DynamoStore) -> None:
    interval, patience = 1.0, 2.5
    found = [store.reserve("lists:beijing", NOW, interval, patience) for _ in range(6)]

    assert found == [NOW, NOW + 1, NOW + 2, None, None, None]
    # Whoever went away without a turn has moved nobody else's.
    assert store.reserve("lists:beijing", NOW, interval, 3.5) == NOW + 3
    assert store.reserve("lists:beijing", NOW + 4, interval, 0.0) == NOW + 4


def test_a_turn_at_the_very_end_of_patience_is_taken(store: DynamoStore) -> None:
    assert store.reserve("lists:beijing", NOW, 2.0, 0.0) == NOW
    assert store.reserve("lists:beijing", NOW, 2.0, 1.999) is None
    assert store.reserve("lists:beijing", NOW, 2.0, 2.0) == NOW + 2


@pytest.mark.parametrize("other", ["lists:beijing", "queries:singapore"])
def test_each_name_has_turns_of_its_own(store: DynamoStore, other: str) -> None:
    assert store.reserve("queries:beijing", NOW, 60.0, 0.0) == NOW
    assert store.reserve("queries:beijing", NOW, 60.0, 0.0) is None

    assert store.reserve(other, NOW, 60.0, 0.0) == NOW


def test_a_clock_that_is_behind_gets_a_later_turn_and_no_earlier_one(store: DynamoStore) -> None:
    # Two functions' clocks differ: turns are the table's, not anybody's own.
    assert store.reserve("queries:beijing", NOW + 1.0, INTERVAL, 2.0) == NOW + 1.0

    behind = store.reserve("queries:beijing", NOW, INTERVAL, 2.0)

    assert behind == pytest.approx(NOW + 1.0 + INTERVAL)


@contextmanager
def one_at_a_time(*clients: DynamoDBClient) -> Iterator[None]:
    """DynamoDB works off the updates of one item one after the other; moto's table has no lock."""
    lock = threading.Lock()

    def take(**_: object) -> None:
        assert lock.acquire(timeout=30)

    def give(**_: object) -> None:
        lock.release()

    for client in clients:
        client.meta.events.register_first("before-call.dynamodb", take)
        client.meta.events.register_last("after-call.dynamodb", give)
        client.meta.events.register_last("after-call-error.dynamodb", give)
    yield


def test_two_clients_at_once_never_get_turns_that_are_too_close(stack: Stack) -> None:
    clients = [boto3.client("dynamodb") for _ in range(2)]
    stores = [DynamoStore(client, stack.table) for client in clients]
    asked = 15
    together = threading.Barrier(4)

    def ask(number: int) -> list[float | None]:
        own = stores[number % 2]
        together.wait(30)
        return [own.reserve("queries:beijing", NOW, INTERVAL, 60.0) for _ in range(asked)]

    with one_at_a_time(*clients), ThreadPoolExecutor(4) as threads:
        found = [at for turns in threads.map(ask, range(4)) for at in turns]

    turns = turns_of(found)
    assert len(turns) == 4 * asked
    assert min(gaps(turns)) >= CLOSEST
    # Nor is one left out: the account's limit is used fully.
    assert turns == pytest.approx([NOW + number * INTERVAL for number in range(4 * asked)])


def test_somebody_who_comes_between_takes_a_turn_and_not_the_same_one(stack: Stack) -> None:
    first, second = boto3.client("dynamodb"), boto3.client("dynamodb")
    one, other = DynamoStore(first, stack.table), DynamoStore(second, stack.table)
    between: list[float | None] = []
    assert one.reserve("queries:beijing", NOW, INTERVAL, 5.0) == NOW

    def come_between(**_: object) -> None:
        # After the refusal that told `one` of the next turn, and before it asks for that.
        if len(between) < 3:
            between.append(other.reserve("queries:beijing", NOW, INTERVAL, 5.0))

    first.meta.events.register("before-call.dynamodb.UpdateItem", come_between)
    own = one.reserve("queries:beijing", NOW, INTERVAL, 5.0)

    turns = turns_of([NOW, *between, own])
    assert len(between) == 3
    assert turns == pytest.approx([NOW + number * INTERVAL for number in range(5)])


def without_old_items(stack: Stack) -> DynamoStore:
    """A store on an engine that refuses without saying what is stored."""
    client = boto3.client("dynamodb")
    refusals: list[dict[str, Any]] = []

    def forget(parsed: dict[str, Any], **_: object) -> None:
        if "Error" in parsed:
            refusals.append(parsed)
            parsed.pop("Item", None)

    client.meta.events.register("after-call.dynamodb.UpdateItem", forget)
    return DynamoStore(client, stack.table)


def test_an_engine_that_does_not_say_what_is_stored_is_asked_for_later_and_later_turns(
    stack: Stack,
) -> None:
    store = without_old_items(stack)

    turns = turns_of([store.reserve("queries:beijing", NOW, INTERVAL, 2.0) for _ in range(6)])

    assert min(gaps(turns)) >= CLOSEST
    assert turns[0] == NOW


def test_without_what_is_stored_patience_ends_all_the_same(stack: Stack) -> None:
    store = without_old_items(stack)

    found = [store.reserve("lists:beijing", NOW, 1.0, 2.5) for _ in range(5)]

    assert found[:3] == [NOW, NOW + 1, NOW + 2]
    assert found[3:] == [None, None]


def test_the_engine_of_the_tests_says_what_is_stored(stack: Stack) -> None:
    # Else the tests above would all be of the fallback.
    refusals: list[dict[str, Any]] = []

    def look(parsed: dict[str, Any], **_: object) -> None:
        refusals.append(parsed)

    stack.dynamodb.meta.events.register("after-call.dynamodb.UpdateItem", look)
    store = DynamoStore(stack.dynamodb, stack.table)
    store.reserve("queries:beijing", NOW, INTERVAL, 5.0)
    store.reserve("queries:beijing", NOW, INTERVAL, 5.0)

    _, refusal, taken = refusals
    assert refusal["Error"]["Code"] == "ConditionalCheckFailedException"
    assert float(refusal["Item"]["next_at"]["N"]) == pytest.approx(NOW + INTERVAL)
    assert "Error" not in taken


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "ThrottlingException", "InternalServerError"]
)
def test_a_busy_table_gives_no_turn_and_is_not_taken_for_a_crowd(stack: Stack, code: str) -> None:
    client = boto3.client("dynamodb")
    stubber = Stubber(client)
    stubber.add_client_error("update_item", service_error_code=code)
    stubber.activate()

    with pytest.raises((TryLater, ClientError)):
        DynamoStore(client, stack.table).reserve("queries:beijing", NOW, INTERVAL, 5.0)

    stubber.assert_no_pending_responses()


# --- alerts ----------------------------------------


def alert(name: str = "a", at: float = 1.0) -> Alert:
    return Alert(
        alert_id=f"lane-paused:{name}:1",
        kind="lane-paused",
        about=LANE,
        text="欠费 🐇",
        code="Arrearage",
        at=at,
    )


def test_an_alert_is_kept_with_what_it_is_about_until_it_is_dropped(store: DynamoStore) -> None:
    assert store.alerts(float("inf")) == []

    store.commit((PutLane(lane()), PutAlert(alert())))
    assert store.alerts(1.0) == []  # not before that time
    assert store.alerts(1.5) == [alert()]

    store.drop_alert("lane-paused:a:1")
    store.drop_alert("lane-paused:a:1")  # there is none: nothing to do

    assert store.alerts(float("inf")) == []
    assert store.lane(LANE) == lane()


def test_the_same_alert_is_kept_once_and_others_beside_it(store: DynamoStore) -> None:
    store.commit((PutAlert(alert(at=1.0)),))
    store.commit((PutAlert(alert(at=2.0)), PutAlert(alert("b", at=3.0))))

    assert store.alerts(float("inf")) == [alert(at=2.0), alert("b", at=3.0)]
    assert store.alerts(2.5) == [alert(at=2.0)]


@pytest.mark.parametrize("last", [False, True])
def test_an_alert_of_what_did_not_happen_is_not_kept(store: DynamoStore, last: bool) -> None:
    store.commit((PutLane(lane()),))
    late: Writes = (PutLane(lane(3)),)
    raised: Writes = (PutAlert(alert()),)

    with pytest.raises(Conflict):
        store.commit((*raised, *late) if last else (*late, *raised))

    assert store.alerts(float("inf")) == []


def test_every_alert_is_found_however_many(store: DynamoStore, stack: Stack) -> None:
    for start in range(0, 1000, 25):
        stack.dynamodb.batch_write_item(
            RequestItems={
                stack.table: [
                    {
                        "PutRequest": {
                            "Item": {
                                "pk": {"S": "ALERTS"},
                                "sk": {"S": f"{number:06d}"},
                                "since": {"N": "2"},
                                "doc": {"S": alert("x" * 1400).model_dump_json()},
                            }
                        }
                    }
                    for number in range(start, start + 25)
                ]
            }
        )

    assert len(store.alerts(3.0)) == 1000  # more than the 1 MB of a page


# --- images without a sidecar ----------------------------------------

LONE = "red shoes/图 a+b%20c#d 🎨.png"


def forgotten(store: DynamoStore, key: str) -> str | None:
    """Forget an image; the record that stood for it."""
    found = store.record_of_lone(key)
    store.forget_lone(key)
    return found


def test_an_image_alone_is_known_since_it_was_first_noted(store: DynamoStore) -> None:
    store.note_lone(LONE, 100.0)
    store.note_lone(LONE, 200.0)  # its event came again, or a newer version of it

    assert store.lone(100.0, 10) == []  # not before that time
    assert store.lone(100.5, 10) == [LONE]
    assert forgotten(store, LONE) is None  # no record stood for it
    assert store.lone(float("inf"), 10) == []


def test_no_more_images_are_given_than_were_asked_for(store: DynamoStore) -> None:
    for number in range(6):
        store.note_lone(f"{number}.png", 100.0 - number)

    assert store.lone(1000.0, 4) == ["0.png", "1.png", "2.png", "3.png"]
    assert store.lone(97.5, 4) == ["3.png", "4.png", "5.png"]


def test_young_images_do_not_hide_the_old_ones_behind_them(store: DynamoStore) -> None:
    for number in range(8):
        store.note_lone(f"{number}.png", 1.0 if number > 5 else 500.0)

    assert store.lone(100.0, 2) == ["6.png", "7.png"]


def test_an_image_with_a_record_is_no_longer_listed_and_its_record_is_given_once(
    store: DynamoStore,
) -> None:
    store.note_lone(LONE, 100.0)
    store.note_lone(LONE, 1000.0, "a" * 16)

    assert store.lone(float("inf"), 10) == []
    assert forgotten(store, LONE) == "a" * 16
    assert forgotten(store, LONE) is None


def test_a_later_record_takes_the_place_of_an_earlier_one(store: DynamoStore) -> None:
    store.note_lone(LONE, 100.0, "a" * 16)
    store.note_lone(LONE, 200.0, "b" * 16)

    assert forgotten(store, LONE) == "b" * 16
    assert forgotten(store, LONE) is None


def test_an_image_that_comes_again_is_listed_beside_its_record_and_both_are_forgotten(
    store: DynamoStore,
) -> None:
    store.note_lone(LONE, 100.0, "a" * 16)
    store.note_lone(LONE, 200.0)

    assert store.lone(300.0, 10) == [LONE]
    assert forgotten(store, LONE) == "a" * 16
    assert store.lone(float("inf"), 10) == []


def test_forgetting_one_image_leaves_the_others(store: DynamoStore) -> None:
    store.note_lone("a.png", 1.0)
    store.note_lone("b.png", 1.0)
    store.note_lone("c.png", 1.0, "c" * 16)

    assert forgotten(store, "a.png") is None
    assert forgotten(store, "never.png") is None

    assert store.lone(2.0, 10) == ["b.png"]
    assert forgotten(store, "c.png") == "c" * 16


@pytest.mark.parametrize("key", ["k" * 1024, "图" * 341])
def test_the_longest_key_of_a_lone_image_fits(store: DynamoStore, key: str) -> None:
    store.note_lone(key, 1.0)
    assert store.lone(2.0, 1) == [key]

    store.note_lone(key, 1.0, "a" * 16)

    assert forgotten(store, key) == "a" * 16


# --- looking through the inbox ----------------------------------------


def test_before_the_first_sweep_there_is_none(store: DynamoStore) -> None:
    assert store.sweep() == Sweep()


@pytest.mark.parametrize(
    "sweep",
    [
        Sweep(since=-600.0, started_at=1_700_000_000.25, after=""),
        Sweep(since=1.5, started_at=2.5, after="图 a+b%20c#d 🎨.png"),
        Sweep(since=1.5, started_at=2.5, after="k" * 1024),
        Sweep(since=1_699_999_400.125, started_at=1_700_000_000.0, after=None),
    ],
)
def test_a_sweep_is_remembered_as_it_is(store: DynamoStore, sweep: Sweep) -> None:
    store.note_sweep(sweep)

    assert store.sweep() == sweep


def test_a_sweep_that_is_through_forgets_where_it_was(store: DynamoStore) -> None:
    store.note_sweep(Sweep(since=1.0, started_at=2.0, after="a.png"))
    store.note_sweep(Sweep(since=1.0, started_at=2.0, after=None))

    assert store.sweep().after is None


# --- steps ----------------------------------------


def test_the_end_of_a_step_makes_the_next_one_due_until_it_moves(store: DynamoStore) -> None:
    part = Part(number=0, of=2, step=1, steps=2, next="b" * 16)
    first = job("a", status=Status.SUCCEEDED).model_copy(update={"part": part})
    store.commit((PutJob(first),))
    waits = Part(number=1, of=2, step=2, steps=2, previous="a" * 16)
    second = job("b", status=Status.WAITING).model_copy(update={"part": waits})
    store.commit((PutJob(second),))
    assert store.steps_due(first.updated_at) == []
    assert store.steps_due(first.updated_at + 1) == [second.job_id]

    queued = second.model_copy(update={"version": 2, "status": Status.QUEUED})
    store.commit((PutJob(queued),))

    assert store.steps_due(first.updated_at + 1) == []


def test_a_step_that_is_due_can_be_forgotten(store: DynamoStore) -> None:
    part = Part(number=0, of=2, step=1, steps=2, next="b" * 16)
    store.commit((PutJob(job("a", status=Status.FAILED).model_copy(update={"part": part})),))

    store.forget_step("b" * 16)

    assert store.steps_due(2e9) == []
