"""What a run of the tests prints and writes beside its results."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.reporting import FaultsReport, note_faults


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to report on the faults."""
    parser.addoption(
        "--faults-report",
        metavar="FILE",
        type=Path,
        help="write which tests of which fault passed, as JSON",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Gathers results in the process that gets them all."""
    path = config.getoption("faults_report")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FaultsReport(path))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets each result say which faults its test injected."""
    note_faults(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how large the table of models is, where it was tested."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    if any("test_models_table" in str(getattr(report, "nodeid", "")) for report in reports):
        from tests.unit.expectations import EXPECTATIONS
        from tests.unit.table import summary

        terminalreporter.write_line(summary(len(EXPECTATIONS)))
