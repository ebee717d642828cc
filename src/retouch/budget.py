"""Budgets: how much may be made and spent, and whether one more job fits. All pure.

A budget holds for a *scope*: the whole stack, or a preset's folder. What counts for a day is added up
in the table, per scope and UTC day, in the very transaction that enters a job into its lane
(`retouch.jobs.Charge`), so the sums are exact however many enter jobs at once. Money is counted in
whole millionths of a currency's unit, rounded up for each image, never in floats.

What does not fit is held (`Hold`): for room, in an order that nobody overtakes, or for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

STACK: Final = ""
"""The scope of the stack's own budget. A preset's scope is its folder, `/` for the inbox root."""
SAME_PER_DAY: Final = 10
"""So often may the very same job be made a day, where the stack's budget does not say."""
MILLION: Final = 1_000_000
_MOST: Final = 10**12
"""No limit is larger: a wrong one is rather a typing error."""
_COUNTS: Final = {"images_per_day": 0, "images_per_job": 0, "same_per_day": 1}
"""Limits that are whole numbers, and the least of each."""
_COSTS: Final = ("cost_per_day", "cost_per_job")
NAMES: Final = ("images_per_day", "cost_per_day", "images_per_job", "cost_per_job", "same_per_day")


class Budget(BaseModel):
    """Limits; what is None or empty is not limited. Costs are by currency, in its units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images_per_day: Annotated[int, Field(ge=0, strict=True)] | None = None
    cost_per_day: dict[str, Decimal] = {}
    images_per_job: Annotated[int, Field(ge=0, strict=True)] | None = None
    cost_per_job: dict[str, Decimal] = {}
    same_per_day: Annotated[int, Field(ge=1, strict=True)] | None = None

    @property
    def counts_days(self) -> bool:
        """Whether something has to be added up for it."""
        return self.images_per_day is not None or bool(self.cost_per_day)


Scopes = tuple[tuple[str, Budget], ...]
"""Every budget that a job is under, by scope; the stack's goes first."""


class Wrong(NamedTuple):
    """What is wrong with a budget: the path of the field inside it, and what is allowed there."""

    field: str
    message: str


def parse(raw: object) -> Budget | list[Wrong]:
    """A budget as somebody wrote it (the value of JSON), or everything that is wrong with it."""
    if not isinstance(raw, dict):
        return [Wrong("", f"{raw!r} is not a budget; an object is, with any of {', '.join(NAMES)}")]
    wrong: list[Wrong] = []
    limits: dict[str, object] = {}
    for name, value in raw.items():
        if name in _COUNTS:
            limits[name] = value
            if (said := _not_a_count(value, _COUNTS[name])) is not None:
                wrong.append(Wrong(name, said))
        elif name in _COSTS:
            limits[name] = _costs(name, value, wrong)
        else:
            wrong.append(Wrong(str(name), f"there is no such limit; there are {', '.join(NAMES)}"))
    return wrong or Budget.model_validate(limits)


def _not_a_count(value: object, least: int) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST:
        return None
    return f"{value!r} is not allowed; a whole number from {least} is"


def _costs(name: str, value: object, wrong: list[Wrong]) -> dict[str, Decimal]:
    if not isinstance(value, dict) or not value:
        said = f'{value!r} is not allowed; amounts by currency are, as {{"CNY": "50"}}'
        wrong.append(Wrong(name, said))
        return {}
    costs: dict[str, Decimal] = {}
    for currency, amount in value.items():
        here = f"{name}.{currency}"
        if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
            wrong.append(Wrong(here, "a currency is three capital letters, as in CNY"))
        limit = _amount(amount)
        if limit is None:
            said = f'{amount!r} is not allowed; an amount as text is, as "50" or "0.80"'
            wrong.append(Wrong(here, said))
        else:
            costs[currency] = limit
    return costs


def _amount(value: object) -> Decimal | None:
    """Text, or a whole number: one with a point would be a float, which is not exact."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    try:
        amount = Decimal(value)
    except (InvalidOperation, ValueError):
        return None
    return amount if amount.is_finite() and 0 <= amount <= _MOST else None


# --- days and sums ------------------------------------------------------------------------------------


def day_of(moment: float) -> str:
    """The UTC day of a Unix time, as `2026-01-31`. A day turns at 00:00 UTC."""
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def millionths(amount: Decimal) -> int:
    """An amount that is charged, in whole millionths; rounded up."""
    return int((amount * MILLION).to_integral_value(ROUND_CEILING))


def _most(limit: Decimal) -> int:
    return int((limit * MILLION).to_integral_value(ROUND_FLOOR))


@dataclass(frozen=True)
class Sums:
    """What is used up in a scope on a day; costs in millionths, by currency."""

    images: int = 0
    cost: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimate:
    """What a job makes and costs at the most; the cost in millionths, 0 where there is no price.

    `steps` says that it is of so many steps of a chain together.
    """

    images: int
    cost: int = 0
    currency: str | None = None
    steps: int | None = None

    @property
    def makes(self) -> str:
        """In words, its images."""
        what = f"{self._chain} make" if self.steps else "it makes"
        return f"{what} up to {self.images} image{'' if self.images == 1 else 's'}"

    @property
    def costs(self) -> str:
        """In words, its cost."""
        what = f"{self._chain} cost" if self.steps else "it costs"
        return f"{what} up to {_shown(self.cost)} {self.currency}"

    @property
    def without_price(self) -> str:
        """Why there is no cost that could be held against a limit."""
        if self.currency is not None:
            prices = (
                f"prices of its {self.steps} steps are" if self.steps else "price of its model is"
            )
            return f"the {prices} in {self.currency}"
        if self.steps:
            return f"{self._chain} have no price in one currency"
        return "there is no price for its model"

    @property
    def _chain(self) -> str:
        return f"its {self.steps} steps together"


@dataclass(frozen=True)
class Circumstances:
    """What else has to be known to judge a job.

    Attributes:
        day: The UTC day that it would count for.
        sums: What is used up of that day, for each scope that counts days.
        before: Scopes in which another job waits for room whose turn is before this one's.
        same: How often the very same job was entered that day.
        made_by: The job of which an image of this one is a result, where nobody named that image.
    """

    day: str
    sums: Mapping[str, Sums] = field(default_factory=dict)
    before: frozenset[str] = frozenset()
    same: int = 0
    made_by: str | None = None


class Reason(StrEnum):
    """Why a job is held."""

    IMAGES_PER_DAY = "images_per_day"
    COST_PER_DAY = "cost_per_day"
    TURN = "turn"
    """Others wait for room in the same scope, and are before it."""
    IMAGES_PER_JOB = "images_per_job"
    COST_PER_JOB = "cost_per_job"
    NO_PRICE = "no_price"
    SAME_PER_DAY = "same_per_day"
    OWN_RESULT = "own_result"


class Hold(BaseModel):
    """Why a job is held, and whether it goes on by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Reason
    scope: str
    """Whose budget it is; empty for the stack's."""
    by_itself: bool
    """Whether it is entered as soon as there is room in that scope; if not, a person decides."""
    message: str


def judge(estimate: Estimate, scopes: Scopes, known: Circumstances) -> Hold | None:
    """Why a job may not be entered now; None if it may.

    What only a person can decide is said before what time will mend.
    """
    for_person = _runaway(scopes, known)
    for scope, budget in scopes:
        for_person = for_person or _too_much(estimate, scope, budget)
    if for_person is not None:
        return for_person
    for scope, budget in scopes:
        if not budget.counts_days:
            continue
        hold = _no_room(estimate, scope, budget, known)
        if hold is not None:
            return hold
    return None


_RELEASE: Final = "`retouch release` lets it go on, `retouch cancel` closes it"


def _runaway(scopes: Scopes, known: Circumstances) -> Hold | None:
    if known.made_by is not None:
        return Hold(
            reason=Reason.OWN_RESULT,
            scope=STACK,
            by_itself=False,
            message=f"its image is a result of job {known.made_by}, and no sidecar asks for it: is the "
            f"outbox copied into the inbox? {_RELEASE}; a sidecar that names the image goes through",
        )
    for scope, budget in scopes:
        if budget.same_per_day is not None and known.same >= budget.same_per_day:
            times = "once" if known.same == 1 else f"{known.same} times"
            return Hold(
                reason=Reason.SAME_PER_DAY,
                scope=scope,
                by_itself=False,
                message=f"the very same job was made {times} on {known.day} (UTC), and same_per_day of "
                f"{_whose(scope)} is {budget.same_per_day}: is something dropped again and again? "
                f"{_RELEASE}",
            )
    return None


def _whose(scope: str) -> str:
    return "the stack" if scope == STACK else f"the folder {scope}"


def _too_much(estimate: Estimate, scope: str, budget: Budget) -> Hold | None:
    """What no other day would mend."""

    def hold(reason: Reason, said: str) -> Hold:
        return Hold(reason=reason, scope=scope, by_itself=False, message=f"{said}; {_RELEASE}")

    for reason, most in (
        (Reason.IMAGES_PER_JOB, budget.images_per_job),
        (Reason.IMAGES_PER_DAY, budget.images_per_day),
    ):
        if most is not None and estimate.images > most:
            said = f"{estimate.makes}, and {reason} of {_whose(scope)} is {most}"
            return hold(reason, said)
    for reason, costs in (
        (Reason.COST_PER_JOB, budget.cost_per_job),
        (Reason.COST_PER_DAY, budget.cost_per_day),
    ):
        if not costs:
            continue
        limit = costs.get(estimate.currency or "")
        if limit is None:
            said = f"its cost cannot be estimated: {estimate.without_price}, and {reason} of "
            said += f"{_whose(scope)} is in "
            return hold(Reason.NO_PRICE, said + ", ".join(costs))
        if estimate.cost > _most(limit):
            said = f"{estimate.costs}, and {reason} of "
            return hold(reason, said + f"{_whose(scope)} is {limit} {estimate.currency}")
    return None


def _no_room(estimate: Estimate, scope: str, budget: Budget, known: Circumstances) -> Hold | None:
    def hold(reason: Reason, said: str) -> Hold:
        until = (
            "it goes on by itself when there is room, at the latest on a day after this one (UTC)"
        )
        said = f"{said}; {until}, or with `retouch release`"
        return Hold(reason=reason, scope=scope, by_itself=True, message=said)

    used = known.sums.get(scope, Sums())
    most = budget.images_per_day
    if most is not None and used.images + estimate.images > most:
        return hold(
            Reason.IMAGES_PER_DAY,
            f"{estimate.makes}; {_whose(scope)} may make {most} a day, of which {used.images} are used "
            f"up on {known.day}",
        )
    limit = budget.cost_per_day.get(estimate.currency or "")
    spent = used.cost.get(estimate.currency or "", 0)
    if limit is not None and spent + estimate.cost > _most(limit):
        return hold(
            Reason.COST_PER_DAY,
            f"{estimate.costs}; {_whose(scope)} may spend {limit} a day, of which {_shown(spent)} are "
            f"used up on {known.day}",
        )
    if scope in known.before:
        return hold(
            Reason.TURN, f"others are before it that wait for room in the budget of {_whose(scope)}"
        )
    return None


def room_for(estimate: Estimate, budget: Budget) -> tuple[int | None, int | None]:
    """What may be used up of a day before a job at the most, so that it still fits: images, and
    millionths of its currency. None: as much as there is.
    """
    images, limit = budget.images_per_day, budget.cost_per_day.get(estimate.currency or "")
    return (
        None if images is None else images - estimate.images,
        None if limit is None else _most(limit) - estimate.cost,
    )


def _shown(amount: int) -> str:
    return f"{Decimal(amount) / MILLION:f}"
