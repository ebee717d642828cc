"""Budgets in the table: sums and their conditions, in one transaction with what they count."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal

import boto3
import pytest

from retouch.aws.store import DynamoStore
from retouch.budget import Sums
from retouch.errors import Conflict
from retouch.jobs import Charge, Enqueue, Job, PutJob, Status, Tally, Writes
from tests.integration.conftest import Stack
from tests.integration.test_store import one_at_a_time

DAY = "2026-01-31"
LANE = "beijing:wan2.7-image"


@pytest.fixture
def store(stack: Stack) -> DynamoStore:
    return DynamoStore(stack.dynamodb, stack.table)


def job(number: int) -> Job:
    return Job(
        job_id=f"{number:016}",
        version=1,
        status=Status.QUEUED,
        created_at=1.0,
        updated_at=1.0,
        sidecar=f"{number}.json",
        sidecar_version="v1",
        folder=f"{number}",
    )


def entry(number: int, *counted: Charge | Tally) -> Writes:
    return (PutJob(job(number)), Enqueue(LANE, f"4#{number}", f"{number:016}"), *counted)


def test_nothing_is_used_up_before_the_first_charge(store: DynamoStore) -> None:
    assert store.used_up("", DAY) == Sums()
    assert store.counted("x", DAY) == 0
    assert store.held_queues() == []
    assert store.made_by("0" * 64) is None


def test_charges_add_up_by_scope_and_day_and_currency(store: DynamoStore) -> None:
    store.commit((Charge("", DAY, 2, 280_000, "CNY"), Charge("图片/shoes", DAY, 2, 280_000, "CNY")))
    store.commit((Charge("", DAY, 1, 40_001, "USD"),))
    store.commit((Charge("", "2026-02-01", 5),))
    store.commit((Charge("", DAY, -1, -140_000, "CNY"),))

    assert store.used_up("", DAY) == Sums(2, {"CNY": 140_000, "USD": 40_001})
    assert store.used_up("图片/shoes", DAY) == Sums(2, {"CNY": 280_000})
    assert store.used_up("", "2026-02-01") == Sums(5)


def test_sums_are_exact_however_large(store: DynamoStore) -> None:
    large = 123_456_789_012_345_678
    store.commit((Charge("", DAY, 1, large, "CNY"),))
    store.commit((Charge("", DAY, 1, 1, "CNY"),))
    assert store.used_up("", DAY).cost == {"CNY": large + 1}
    assert Decimal(store.used_up("", DAY).cost["CNY"]) == Decimal("123456789012345679")


@pytest.mark.parametrize(
    ("charge", "fits"),
    [
        (Charge("", DAY, 1, 1, "CNY", 3, 100), True),
        (Charge("", DAY, 1, 1, "CNY", 2, 100), False),
        (Charge("", DAY, 1, 1, "CNY", 3, 99), False),
        (Charge("", DAY, 1, 1, "USD", 3, 0), True),
        (Charge("", DAY, 1, 0, None, 3), True),
        (Charge("", DAY, 1, 0, None, 2), False),
        (Charge("", "2026-02-01", 1, 1, "CNY", 0, 0), True),
        (Charge("shoes", DAY, 1, 1, "CNY", 0, 0), True),
    ],
)
def test_a_charge_holds_only_where_there_is_room_and_else_nothing_is_stored(
    store: DynamoStore, charge: Charge, fits: bool
) -> None:
    store.commit((Charge("", DAY, 3, 100, "CNY"),))
    before = store.used_up(charge.scope, charge.day)

    if fits:
        store.commit(entry(1, charge))
        after = store.used_up(charge.scope, charge.day)
        assert after.images == before.images + 1
    else:
        with pytest.raises(Conflict):
            store.commit(entry(1, charge))
        assert store.used_up(charge.scope, charge.day) == before
        assert store.backlog(LANE, 1) == []
    assert (store.job(f"{1:016}") is not None) is fits


def test_the_job_s_own_condition_undoes_its_charge(store: DynamoStore) -> None:
    store.commit(entry(1, Charge("", DAY, 1), Tally("x", DAY)))
    with pytest.raises(Conflict):
        store.commit(entry(1, Charge("", DAY, 1), Tally("x", DAY)))
    assert store.used_up("", DAY).images == 1
    assert store.counted("x", DAY) == 1


def test_a_tally_ends_at_its_most(store: DynamoStore) -> None:
    for _ in range(2):
        store.commit((Tally("x", DAY, 2),))
    with pytest.raises(Conflict):
        store.commit((Tally("x", DAY, 2),))
    store.commit((Tally("x", DAY),))
    store.commit((Tally("x", "2026-02-01", 1), Tally("y", DAY, 1)))
    assert [store.counted("x", DAY), store.counted("y", DAY)] == [3, 1]


def test_what_is_counted_of_a_day_expires_a_week_after_it(store: DynamoStore, stack: Stack) -> None:
    store.commit((Charge("", DAY, 1), Tally("x", DAY)))
    for pk in ("USED#", "TALLY#x"):
        item = stack.dynamodb.get_item(
            TableName=stack.table, Key={"pk": {"S": pk}, "sk": {"S": DAY}}
        )["Item"]
        assert item["expires_at"]["N"] == "1770508800"  # 2026-02-08T00:00:00Z


def test_many_at_once_never_go_beyond_the_limit(stack: Stack) -> None:
    clients = [boto3.client("dynamodb") for _ in range(4)]
    stores = [DynamoStore(client, stack.table) for client in clients]
    together = threading.Barrier(4)
    most = 10

    def enter(number: int) -> None:
        together.wait(30)
        for turn in range(5):
            with suppress(Conflict):
                charge = Charge("", DAY, 1, 140_000, "CNY", most - 1, None)
                stores[number].commit(entry(10 * number + turn, charge))

    with one_at_a_time(*clients), ThreadPoolExecutor(4) as threads:
        list(threads.map(enter, range(4)))

    [store, *_] = stores
    assert store.used_up("", DAY) == Sums(most, {"CNY": most * 140_000})
    assert len(store.backlog(LANE, 100)) == most


def test_held_queues_are_remembered_once(store: DynamoStore) -> None:
    for name in ("held:", "held:shoes", "held:"):
        store.note_held_queue(name)
    assert store.held_queues() == ["held:", "held:shoes"]


def test_of_several_jobs_that_made_the_same_bytes_the_first_is_known(
    store: DynamoStore, stack: Stack
) -> None:
    store.note_made("0" * 64, "a" * 16, 1000)
    store.note_made("0" * 64, "b" * 16, 2000)
    assert store.made_by("0" * 64) == "a" * 16
    item = stack.dynamodb.get_item(
        TableName=stack.table, Key={"pk": {"S": "MADE#" + "0" * 64}, "sk": {"S": "MADE"}}
    )["Item"]
    assert item["expires_at"] == {"N": "2000"}
