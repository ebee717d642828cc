"""Which faults a run's tests injected: the marker `fault(number)`, and the report of a session.

A test's numbers travel with its result, so the report is the same however the tests were spread over
processes. `tools/reliability.py` makes the page from one or more reports.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pytest

from tests.faults.catalogue import BY_NUMBER, FAULTS

_PROPERTY: Final = "fault"
_NAMED: Final = re.compile(r"test_fault_([0-9]{2})_")


def note_faults(items: Iterable[pytest.Item]) -> None:
    """Give each marked test the numbers of its faults as properties of its result.

    Raises:
        pytest.UsageError: a number is missing, is no fault's, or contradicts the test's name.
    """
    for item in items:
        numbers = [number for mark in item.iter_markers("fault") for number in mark.args]
        if item.get_closest_marker("fault") is not None and not numbers:
            raise pytest.UsageError(f"{item.nodeid}: the marker names no fault")
        for number in numbers:
            if number not in BY_NUMBER:
                raise pytest.UsageError(f"{item.nodeid}: there is no fault {number!r}")
        named = _NAMED.match(item.name)
        if named is not None and int(named[1]) not in numbers:
            raise pytest.UsageError(f"{item.nodeid}: the marker for fault {named[1]} is missing")
        item.user_properties += [(_PROPERTY, number) for number in sorted(set(numbers))]


class FaultsReport:
    """Gathers the results of marked tests, and writes them to a file when the session ends."""

    def __init__(self, path: Path):
        self._path = path.resolve()
        self._passed: defaultdict[int, set[str]] = defaultdict(set)
        self._failed: defaultdict[int, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test has ended, here or in another process."""
        numbers = [value for name, value in report.user_properties if name == _PROPERTY]
        for number in numbers:
            assert isinstance(number, int)
            if report.failed:
                self._failed[number].add(report.nodeid)
            elif report.when == "call" and report.passed:
                self._passed[number].add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """All tests have ended."""
        faults = [
            {
                **asdict(fault),
                # A test whose cleaning up failed has failed.
                "passed": sorted(self._passed[fault.number] - self._failed[fault.number]),
                "failed": sorted(self._failed[fault.number]),
            }
            for fault in FAULTS
        ]
        text = json.dumps({"faults": faults}, ensure_ascii=False, indent=1)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(text + "\n", encoding="utf-8")
