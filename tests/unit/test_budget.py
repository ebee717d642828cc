"""Budgets as pure decisions: what is read, what fits, and why something is held."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from retouch.budget import (
    STACK,
    Budget,
    Circumstances,
    Estimate,
    Hold,
    Reason,
    Scopes,
    Sums,
    Wrong,
    day_of,
    judge,
    millionths,
    parse,
    room_for,
)
from retouch.errors import SettingsError
from retouch.settings import budget

DAY = "2026-01-31"
FULL = {
    "images_per_day": 200,
    "cost_per_day": {"CNY": "50"},
    "images_per_job": 12,
    "cost_per_job": {"CNY": "3", "USD": "0.5"},
    "same_per_day": 3,
}


def wrong(raw: object) -> dict[str, str]:
    """What is wrong with it, by field."""
    found = parse(raw)
    assert isinstance(found, list)
    assert all(isinstance(one, Wrong) for one in found)
    return dict(found)


def held(estimate: Estimate, *scopes: tuple[str, Budget], **known: Any) -> Hold | None:
    given: Scopes = scopes
    return judge(estimate, given, Circumstances(day=DAY, **known))


def cny(amount: str, images: int = 1) -> Estimate:
    return Estimate(images, millionths(Decimal(amount)) * images, "CNY")


# --- reading ------------------------------------------------------------------------------------------


def test_every_limit_is_read() -> None:
    found = parse(FULL)
    assert isinstance(found, Budget)
    assert found.images_per_day == 200
    assert found.cost_per_day == {"CNY": Decimal(50)}
    assert found.cost_per_job == {"CNY": Decimal(3), "USD": Decimal("0.5")}
    assert (found.images_per_job, found.same_per_day) == (12, 3)


def test_no_limit_is_none() -> None:
    assert parse({}) == Budget()
    assert not Budget(images_per_job=1, same_per_day=1).counts_days
    assert Budget(images_per_day=0).counts_days
    assert Budget(cost_per_day={"CNY": Decimal(1)}).counts_days


def test_a_budget_is_the_same_after_it_was_stored() -> None:
    found = parse(FULL)
    assert isinstance(found, Budget)
    assert Budget.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ([], ""),
        (None, ""),
        ({"images_a_day": 3}, "images_a_day"),
        ({"images_per_day": -1}, "images_per_day"),
        ({"images_per_day": 1.0}, "images_per_day"),
        ({"images_per_day": "3"}, "images_per_day"),
        ({"images_per_day": True}, "images_per_day"),
        ({"images_per_job": None}, "images_per_job"),
        ({"images_per_job": 10**13}, "images_per_job"),
        ({"same_per_day": 0}, "same_per_day"),
        ({"cost_per_day": "50"}, "cost_per_day"),
        ({"cost_per_day": {}}, "cost_per_day"),
        ({"cost_per_day": {"CNY": 0.1}}, "cost_per_day.CNY"),
        ({"cost_per_day": {"CNY": "much"}}, "cost_per_day.CNY"),
        ({"cost_per_day": {"CNY": "NaN"}}, "cost_per_day.CNY"),
        ({"cost_per_day": {"CNY": "-1"}}, "cost_per_day.CNY"),
        ({"cost_per_day": {"CNY": True}}, "cost_per_day.CNY"),
        ({"cost_per_job": {"yuan": "1"}}, "cost_per_job.yuan"),
    ],
)
def test_what_is_no_limit_is_refused_with_its_field(raw: object, field: str) -> None:
    assert list(wrong(raw)) == [field]


def test_everything_wrong_is_said_at_once() -> None:
    assert len(wrong({"images": 1, "same_per_day": 0, "cost_per_job": {"CNY": 1.5}})) == 3


def test_the_setting_has_a_limit_on_repeats_even_if_it_names_none() -> None:
    assert budget("{}").same_per_day == 10
    assert budget('{"same_per_day": 3}').same_per_day == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "RETOUCH_BUDGET is not JSON"),
        ("[" * 100_000, "RETOUCH_BUDGET is not JSON"),
        ("[]", "RETOUCH_BUDGET: .* is not a budget"),
        ('{"images_a_day": 3}', "RETOUCH_BUDGET: images_a_day: there is no such limit"),
        ('{"cost_per_day": {"CNY": 0.5}}', r"RETOUCH_BUDGET: cost_per_day.CNY: 0.5 is not allowed"),
        ('{"images_per_day": NaN}', "RETOUCH_BUDGET: images_per_day"),
    ],
)
def test_a_wrong_setting_is_named(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        budget(text)


# --- days and money -----------------------------------------------------------------------------------


def test_a_day_turns_at_midnight_utc() -> None:
    assert day_of(1_700_006_399.999) == "2023-11-14"
    assert day_of(1_700_006_400.0) == "2023-11-15"


def test_money_is_counted_in_whole_millionths_rounded_up() -> None:
    assert millionths(Decimal("0.14")) == 140_000
    assert millionths(Decimal("0.0000001")) == 1
    assert sum([millionths(Decimal("0.1"))] * 3) == millionths(Decimal("0.3"))


# --- what fits ----------------------------------------------------------------------------------------


def test_what_is_not_limited_fits() -> None:
    assert held(Estimate(1000), (STACK, Budget()), ("shoes", Budget())) is None


@pytest.mark.parametrize(("used", "fits"), [(0, True), (6, True), (7, False), (100, False)])
def test_images_of_a_day(used: int, fits: bool) -> None:
    why = held(Estimate(4), (STACK, Budget(images_per_day=10)), sums={STACK: Sums(used)})
    assert (why is None) is fits
    if why is not None:
        assert (why.reason, why.by_itself) == (Reason.IMAGES_PER_DAY, True)
        assert f"of which {used} are used up on {DAY}" in why.message


@pytest.mark.parametrize(("used", "fits"), [(0, True), (720_000, True), (720_001, False)])
def test_cost_of_a_day(used: int, fits: bool) -> None:
    limits = Budget(cost_per_day={"CNY": Decimal(1)})
    why = held(cny("0.14", 2), (STACK, limits), sums={STACK: Sums(0, {"CNY": used, "USD": 9})})
    assert (why is None) is fits
    if why is not None:
        assert (why.reason, why.by_itself) == (Reason.COST_PER_DAY, True)
        assert "0.28 CNY" in why.message


@pytest.mark.parametrize(
    ("limits", "estimate", "reason"),
    [
        (Budget(images_per_job=3), Estimate(4), Reason.IMAGES_PER_JOB),
        (Budget(cost_per_job={"CNY": Decimal("0.5")}), cny("0.14", 4), Reason.COST_PER_JOB),
        # More than a whole day's: no day would mend it.
        (Budget(images_per_day=3), Estimate(4), Reason.IMAGES_PER_DAY),
        (Budget(cost_per_day={"CNY": Decimal("0.5")}), cny("0.14", 4), Reason.COST_PER_DAY),
        # Without a price, or with one in another currency, nothing slips through.
        (Budget(cost_per_day={"CNY": Decimal(5)}), Estimate(1), Reason.NO_PRICE),
        (Budget(cost_per_job={"USD": Decimal(5)}), cny("0.14"), Reason.NO_PRICE),
    ],
)
def test_what_no_day_mends_is_for_a_person(
    limits: Budget, estimate: Estimate, reason: Reason
) -> None:
    for scope in (STACK, "shoes"):
        why = held(estimate, (STACK, Budget()), (scope, limits))
        assert why is not None
        assert (why.reason, why.scope, why.by_itself) == (reason, scope, False)
        assert "retouch release" in why.message
        assert ("the stack" if scope == STACK else "the folder shoes") in why.message


def test_a_price_in_one_of_the_limits_currencies_will_do() -> None:
    limits = Budget(cost_per_day={"CNY": Decimal(5), "USD": Decimal(1)})
    assert held(cny("0.14"), (STACK, limits)) is None


def test_each_scope_has_its_say_and_what_a_person_must_decide_goes_first() -> None:
    full = Budget(images_per_day=1)
    small = Budget(images_per_job=1)
    sums = {STACK: Sums(1)}
    why = held(Estimate(1), (STACK, full), ("shoes", small), sums=sums)
    assert why is not None
    assert (why.scope, why.by_itself) == (STACK, True)
    why = held(Estimate(2), (STACK, Budget(images_per_day=2)), ("shoes", small), sums=sums)
    assert why is not None
    assert (why.scope, why.by_itself) == ("shoes", False)


def test_what_fits_waits_all_the_same_behind_others_of_its_scope() -> None:
    limits = Budget(images_per_day=10)
    why = held(Estimate(1), (STACK, limits), before=frozenset([STACK]))
    assert why is not None
    assert (why.reason, why.by_itself) == (Reason.TURN, True)
    assert held(Estimate(1), (STACK, limits), before=frozenset(["shoes"])) is None


@pytest.mark.parametrize(("same", "fits"), [(0, True), (2, True), (3, False), (4, False)])
def test_the_very_same_job(same: int, fits: bool) -> None:
    why = held(
        Estimate(1), (STACK, Budget(same_per_day=5)), ("s", Budget(same_per_day=3)), same=same
    )
    assert (why is None) is fits
    if why is not None:
        assert (why.reason, why.scope, why.by_itself) == (Reason.SAME_PER_DAY, "s", False)
        assert f"made {same} times on {DAY} (UTC)" in why.message


def test_a_result_of_ours_is_held_with_the_job_that_made_it() -> None:
    why = held(Estimate(1), (STACK, Budget()), made_by="abc")
    assert why is not None
    assert (why.reason, why.by_itself) == (Reason.OWN_RESULT, False)
    assert "a result of job abc" in why.message


def test_the_condition_on_a_write_is_the_limit_without_the_job() -> None:
    limits = Budget(images_per_day=10, cost_per_day={"CNY": Decimal(1)})
    assert room_for(cny("0.14", 2), limits) == (8, 720_000)
    assert room_for(Estimate(2), limits) == (8, None)
    assert room_for(Estimate(2), Budget()) == (None, None)


# --- a chain ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(images_per_job=2), "its 3 steps together make up to 3 images, and images_per_job"),
        (Budget(images_per_day=2), "its 3 steps together make up to 3 images, and images_per_day"),
        (
            Budget(cost_per_job={"CNY": Decimal("0.5")}),
            "its 3 steps together cost up to 0.6 CNY, and cost_per_job",
        ),
        (
            Budget(images_per_day=10),
            "its 3 steps together make up to 3 images; the stack may make 10",
        ),
        (
            Budget(cost_per_day={"CNY": Decimal(2)}),
            "its 3 steps together cost up to 0.6 CNY; the stack may spend 2",
        ),
    ],
)
def test_a_chain_that_does_not_fit_is_said_to_be_counted_as_a_whole(
    budget: Budget, said: str
) -> None:
    chain = Estimate(3, 600_000, "CNY", steps=3)
    why = held(chain, (STACK, budget), sums={STACK: Sums(9, {"CNY": 1_900_000})})
    assert why is not None
    assert why.message.startswith(said)


def test_a_chain_without_a_sum_is_not_said_to_have_a_model_without_a_price() -> None:
    why = held(Estimate(3, steps=3), (STACK, Budget(cost_per_job={"CNY": Decimal(1)})))
    assert why is not None
    assert why.reason is Reason.NO_PRICE
    assert "its 3 steps together have no price in one currency" in why.message
