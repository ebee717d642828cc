"""How long the rest takes, as it is told."""

from __future__ import annotations

import pytest

from retouch.cli.pace import Pace, for_people


def test_the_rest_takes_as_long_as_the_latest_ends_say() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    for number in range(200):
        now += 10.0 if number < 100 else 2.0
        pace.ended()

    assert pace.seconds_left(300) == pytest.approx(600.0)
    assert pace.words(300) == "about 10 min left"


def test_a_standstill_makes_it_longer() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    for _ in range(11):
        now += 1.0
        pace.ended()
    assert pace.words(20) == "about 20 s left"

    now += 30.0

    assert pace.words(20) == "about 80 s left"


def test_a_few_ends_say_nothing() -> None:
    pace = Pace()
    for _ in range(4):
        assert pace.words(10) == ""
        pace.ended()
    assert pace.seconds_left(10) is None
    pace.ended()
    assert pace.seconds_left(10) is not None


def test_nothing_left_takes_no_time() -> None:
    pace = Pace()
    assert pace.seconds_left(0) == 0.0
    assert pace.words(0) == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.1, "5 s"), (12, "10 s"), (89, "90 s"), (91, "2 min"), (3600, "60 min"), (7200, "2.0 h")],
)
def test_a_duration_is_said_no_finer_than_it_is_known(seconds: float, said: str) -> None:
    assert for_people(seconds) == said
