"""Makes the table of docs/reliability.md from runs of the tests.

    pytest -m "not e2e" --faults-report one.json
    pytest -m e2e --faults-report two.json
    python tools/reliability.py one.json two.json
    python tools/reliability.py --check one.json two.json

The table has a row for each fault: what goes wrong, what holds all the same, and the tests that passed.
It stands between two comments; the rest of the page is written by hand and left alone. With `--check`
nothing is written and every difference is said. The exit code is 1 where the page differs, or where a
fault has no test that passed or one that failed; 2 where the reports or the page cannot be used.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
BEGIN: Final = "<!-- faults: begin -->"
END: Final = "<!-- faults: end -->"
_MADE_BY: Final = "<!-- Made by tools/reliability.py from a run of the tests. -->"


class Unusable(Exception):
    """A report or the page is not what it should be."""


@dataclass
class Row:
    """A fault, and what the runs say about it. Tests are named without their parameters."""

    number: int
    group: str
    title: str
    holds: str
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    @property
    def tests(self) -> list[str]:
        """The tests that passed in all of their cases."""
        return sorted(self.passed - self.failed)


def rows(reports: Sequence[dict[str, Any]]) -> list[Row]:
    """The faults of all reports together, in the order of their numbers."""
    found: dict[int, Row] = {}
    for report in reports:
        for fault in report["faults"]:
            said = (fault["group"], fault["title"], fault["holds"])
            row = found.setdefault(fault["number"], Row(fault["number"], *said))
            if (row.group, row.title, row.holds) != said:
                raise Unusable(f"the reports are of different catalogues: fault {row.number}")
            row.passed |= {_test(node) for node in fault["passed"]}
            row.failed |= {_test(node) for node in fault["failed"]}
    return [found[number] for number in sorted(found)]


def _test(node: str) -> str:
    """`path::name[case]` without its case."""
    return node.partition("[")[0]


def complaints(found: Sequence[Row]) -> list[str]:
    """What keeps the table from being true."""
    said = [] if found else ["the reports name no fault"]
    for row in found:
        if not row.tests:
            said.append(f"fault {row.number} ({row.title}) has no test that passed")
        said += [f"fault {row.number} ({row.title}): {name} failed" for name in sorted(row.failed)]
    return said


def table(found: Sequence[Row]) -> str:
    """The rows as Markdown, a line for each group above them."""
    lines = ["| fault | what holds | test |", "|---|---|---|"]
    group = ""
    for row in found:
        if row.group != group:
            group = row.group
            lines.append(f"| **{_cell(group)}** | | |")
        tests = "<br>".join(f"`{name}`" for name in row.tests) or "none"
        lines.append(f"| {row.number}. {_cell(row.title)} | {_cell(row.holds)} | {tests} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def filled(page: str, table_: str) -> str:
    """The page with that table in its place.

    Raises:
        Unusable: it has no place for it.
    """
    before, found_begin, rest = page.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found_begin or not found_end or BEGIN in rest or END in after:
        raise Unusable(f"the page must have {BEGIN} and {END} once, in this order")
    return f"{before}{BEGIN}\n{_MADE_BY}\n\n{table_}\n\n{END}{after}"


def _loaded(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Unusable(f"{path}: {error}") from error
    if not isinstance(report, dict) or not isinstance(report.get("faults"), list):
        raise Unusable(f"{path} is no report on faults")
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit code."""
    parser = argparse.ArgumentParser(description="Makes the table of docs/reliability.md.")
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT.json")
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page, if it is another")
    asked = parser.parse_args(arguments)
    page: Path = asked.page
    try:
        found = rows([_loaded(path) for path in asked.reports])
        there = page.read_text("utf-8")
        made = filled(there, table(found))
    except (OSError, Unusable) as error:
        print(error, file=sys.stderr)
        return 2
    said = complaints(found)
    if asked.check:
        said += difflib.unified_diff(
            there.splitlines(), made.splitlines(), str(page), "as the tests say", lineterm="", n=0
        )
    elif made != there:
        page.write_text(made, "utf-8")
    for line in said:
        print(line, file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
