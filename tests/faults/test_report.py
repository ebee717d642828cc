"""The marker, the report of a run, and the page that is made from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tools import reliability
from tools.reliability import BEGIN, END, Row, Unusable, complaints, filled, rows, table

from tests.faults.catalogue import BY_NUMBER, FAULTS

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]


# --- the catalogue ----------------------------------------


def test_the_catalogue_has_each_of_the_48_faults_once() -> None:
    assert [fault.number for fault in FAULTS] == list(range(1, 49))
    assert list(dict.fromkeys(fault.group for fault in FAULTS)) == [
        "Events",
        "Inputs",
        "Queue and table",
        "Provider",
        "Results",
        "Operators",
    ]
    for fault in FAULTS:
        assert fault.title
        assert fault.holds.endswith(".")
        assert fault.holds[0].isupper()


# --- a run and its report ----------------------------------------


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the processes that a run starts import what its conftest imports."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def run(pytester: pytest.Pytester, test: str, *arguments: str) -> dict[int, dict[str, Any]]:
    """What the report says after running a file of tests, by the fault's number."""
    pytester.makeini(
        "[pytest]\nxfail_strict = true\naddopts = --strict-markers -p no:cacheprovider\n"
        "markers =\n    fault(number): as in pyproject.toml\n    e2e: likewise"
    )
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile(test_it=test)
    # Other processes find this project by the environment, which they read when they start.
    start = pytester.runpytest_subprocess if "-n" in arguments else pytester.runpytest
    start("--faults-report", "faults.json", *arguments)
    report = json.loads((pytester.path / "faults.json").read_text("utf-8"))
    return {fault["number"]: fault for fault in report["faults"]}


@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["one process", "two processes"])
def test_a_run_reports_which_tests_of_a_fault_passed_and_failed(
    pytester: pytest.Pytester, processes: list[str]
) -> None:
    found = run(
        pytester,
        """
        import pytest

        @pytest.mark.fault(1)
        def test_fault_01_holds(): pass

        @pytest.mark.fault(1)
        def test_fault_01_breaks(): assert False

        @pytest.mark.fault(2, 3)
        @pytest.mark.fault(4)
        @pytest.mark.parametrize("case", ["a", "b"])
        def test_fault_02_with_others(case): assert case == "a"

        @pytest.mark.fault(5)
        def test_fault_05_is_skipped(): pytest.skip("not here")

        @pytest.mark.fault(6)
        @pytest.mark.xfail(strict=True)
        def test_fault_06_is_known_to_break(): assert False

        @pytest.fixture
        def broken():
            yield
            raise RuntimeError("cannot be cleaned up")

        @pytest.mark.fault(7)
        def test_fault_07_leaves_a_mess(broken): pass

        def test_of_no_fault(): pass
        """,
        *processes,
    )

    assert set(found) == set(BY_NUMBER)
    assert {number: found[number]["passed"] for number in range(1, 9)} == {
        1: ["test_it.py::test_fault_01_holds"],
        **{number: ["test_it.py::test_fault_02_with_others[a]"] for number in (2, 3, 4)},
        **{number: [] for number in (5, 6, 7, 8)},
    }
    assert {number: found[number]["failed"] for number in range(1, 9)} == {
        1: ["test_it.py::test_fault_01_breaks"],
        **{number: ["test_it.py::test_fault_02_with_others[b]"] for number in (2, 3, 4)},
        **{number: [] for number in (5, 6, 8)},
        7: ["test_it.py::test_fault_07_leaves_a_mess"],
    }
    assert (found[48]["title"], found[48]["holds"]) == (BY_NUMBER[48].title, BY_NUMBER[48].holds)


def test_tests_that_are_not_chosen_are_not_in_the_report(pytester: pytest.Pytester) -> None:
    test = """
        import pytest

        @pytest.mark.fault(1)
        def test_fault_01_in_process(): pass

        @pytest.mark.fault(1)
        @pytest.mark.e2e
        def test_fault_01_on_the_engine(): pass
        """

    assert run(pytester, test, "-m", "e2e")[1]["passed"] == [
        "test_it.py::test_fault_01_on_the_engine"
    ]


def test_the_folder_of_the_report_is_made(pytester: pytest.Pytester) -> None:
    """As in a fresh clone, where nothing has been built."""
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile("def test_it(): pass")

    result = pytester.runpytest("-p", "no:cacheprovider", "--faults-report", "build/here/it.json")

    assert result.ret == 0
    assert (
        len(json.loads((pytester.path / "build/here/it.json").read_text("utf-8"))["faults"]) == 48
    )


def test_without_the_option_nothing_is_written(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile("def test_it(): pass")
    before = {path.name for path in pytester.path.iterdir()}

    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1)

    assert {path.name for path in pytester.path.iterdir()} - {"__pycache__"} == before


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("@pytest.mark.fault(49)\ndef test_it(): pass", "there is no fault 49"),
        ("@pytest.mark.fault('1')\ndef test_it(): pass", "there is no fault '1'"),
        ("@pytest.mark.fault\ndef test_it(): pass", "names no fault"),
        ("def test_fault_09_without_a_marker(): pass", "fault 09 is missing"),
        ("@pytest.mark.fault(8)\ndef test_fault_09_with_another(): pass", "fault 09 is missing"),
    ],
)
def test_a_wrong_marker_stops_the_run(pytester: pytest.Pytester, test: str, said: str) -> None:
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile(f"import pytest\n\n{test}")

    result = pytester.runpytest("-p", "no:cacheprovider")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{said}*"])


# --- the page ----------------------------------------

TEST = "tests/faults/test_events.py::test_fault_01_twice"
ONE = Row(1, "Events", "twice", "Once is enough.", passed={TEST})
PAGE = f"# Reliability\n\nBy hand.\n\n{BEGIN}\nold words\n{END}\n\nBy hand, too.\n"


def report(*found: Row) -> dict[str, Any]:
    return {
        "faults": [
            {
                "number": row.number,
                "group": row.group,
                "title": row.title,
                "holds": row.holds,
                "passed": sorted(row.passed),
                "failed": sorted(row.failed),
            }
            for row in found
        ]
    }


def called(tmp_path: Path, *found: Row, page: str | None = PAGE, check: bool = False) -> int:
    """The tool's exit code, run on one report and a page in `tmp_path`."""
    (tmp_path / "report.json").write_text(json.dumps(report(*found)), "utf-8")
    if page is not None:
        (tmp_path / "page.md").write_text(page, "utf-8")
    options = ["--check"] if check else []
    arguments = [*options, "--page", str(tmp_path / "page.md"), str(tmp_path / "report.json")]
    return reliability.main(arguments)


def written(tmp_path: Path) -> str:
    return (tmp_path / "page.md").read_text("utf-8")


def test_reports_are_put_together_and_cases_of_a_test_are_one() -> None:
    here = replace(ONE, passed={f"{TEST}[a]", f"{TEST}[b-[c]]"})
    there = replace(ONE, passed={"tests/e2e/test_jobs.py::test_x"})
    other = Row(2, "Events", "late", "Late is fine.", passed={"t.py::test_late"})

    (one, two) = rows([report(here, other), report(other, there)])

    assert one.tests == ["tests/e2e/test_jobs.py::test_x", TEST]
    assert two.tests == ["t.py::test_late"]


def test_a_test_that_failed_in_one_of_its_cases_is_not_shown() -> None:
    (row,) = rows([report(replace(ONE, passed={f"{TEST}[a]"}, failed={f"{TEST}[b]"}))])

    assert row.tests == []
    assert complaints([row]) == [
        "fault 1 (twice) has no test that passed",
        f"fault 1 (twice): {TEST} failed",
    ]


def test_reports_of_different_catalogues_are_refused() -> None:
    with pytest.raises(Unusable, match="fault 1"):
        rows([report(ONE), report(replace(ONE, holds="Something else."))])


def test_no_fault_at_all_is_a_complaint() -> None:
    assert complaints(rows([report()])) == ["the reports name no fault"]


def test_the_table_has_a_row_for_each_fault_below_its_group() -> None:
    many = [
        replace(ONE, passed={TEST, "t.py::test_other"}),
        Row(9, "Inputs", "a | b", "Fine.", passed=set()),
    ]

    assert table(many).splitlines() == [
        "| fault | what holds | test |",
        "|---|---|---|",
        "| **Events** | | |",
        f"| 1. twice | Once is enough. | `t.py::test_other`<br>`{TEST}` |",
        "| **Inputs** | | |",
        "| 9. a \\| b | Fine. | none |",
    ]


def test_only_what_stands_between_the_comments_is_replaced(tmp_path: Path) -> None:
    assert called(tmp_path, ONE) == 0

    text = written(tmp_path)
    assert text.startswith(f"# Reliability\n\nBy hand.\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nBy hand, too.\n")
    assert f"| 1. twice | Once is enough. | `{TEST}` |" in text
    assert "old words" not in text


def test_a_page_that_was_made_is_found_equal(tmp_path: Path) -> None:
    called(tmp_path, ONE)
    made = written(tmp_path)

    assert called(tmp_path, ONE, page=None, check=True) == 0
    assert called(tmp_path, ONE, page=None) == 0
    assert written(tmp_path) == made


def test_a_check_says_what_differs_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called(tmp_path, ONE)
    made = written(tmp_path)

    assert called(tmp_path, replace(ONE, holds="Twice is not."), page=None, check=True) == 1

    said = capsys.readouterr().err
    assert "-| 1. twice | Once is enough." in said
    assert "+| 1. twice | Twice is not." in said
    assert "By hand" not in said
    assert written(tmp_path) == made


@pytest.mark.parametrize("check", [False, True])
def test_every_fault_without_a_passed_test_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], check: bool
) -> None:
    found = [
        ONE,
        Row(2, "Events", "late", "Late is fine."),
        Row(3, "Events", "never", "Never mind.", passed={"t.py::test_a"}, failed={"t.py::test_b"}),
    ]
    called(tmp_path, *found)
    made = written(tmp_path)
    capsys.readouterr()

    assert called(tmp_path, *found, page=made, check=check) == 1

    assert capsys.readouterr().err.splitlines() == [
        "fault 2 (late) has no test that passed",
        "fault 3 (never): t.py::test_b failed",
    ]
    assert "| 3. never | Never mind. | `t.py::test_a` |" in written(tmp_path)


@pytest.mark.parametrize(
    "page",
    [
        "# no comments",
        f"{BEGIN} only",
        f"{END}\n{BEGIN}",
        f"{BEGIN}{BEGIN}{END}",
        f"{BEGIN}{END}{END}",
    ],
)
def test_a_page_without_a_place_for_the_table_is_left_alone(tmp_path: Path, page: str) -> None:
    assert called(tmp_path, ONE, page=page) == 2

    assert written(tmp_path) == page
    with pytest.raises(Unusable):
        filled(page, "table")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"faults": 1}'])
def test_a_file_that_is_no_report_is_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text(text, "utf-8")
    (tmp_path / "page.md").write_text(PAGE, "utf-8")

    assert reliability.main(["--page", str(tmp_path / "page.md"), str(path)]) == 2

    assert str(path) in capsys.readouterr().err
    assert written(tmp_path) == PAGE


def test_the_page_of_the_project_has_a_place_for_the_table() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")

    assert ROOT / "docs" / "reliability.md" == reliability.PAGE
    assert filled(page, "the table").count("the table") >= 1
    assert filled(filled(page, "the table"), "another") == filled(page, "another")
