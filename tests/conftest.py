"""What a run of the unit tests prints beside its tests."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how large the table of models is, where it was tested."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    if any("test_models_table" in str(getattr(report, "nodeid", "")) for report in reports):
        from tests.unit.expectations import EXPECTATIONS
        from tests.unit.table import summary

        terminalreporter.write_line(summary(len(EXPECTATIONS)))
