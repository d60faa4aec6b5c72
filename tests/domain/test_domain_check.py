"""check_domain: what the conformance check finds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from run_kit import RAISES, SYNTAX_ERROR, Toy, harness, write_cases, write_toy

from metaharness.errors import DomainError, MetaharnessError, UsageError
from metaharness.testing import DomainReport, ScriptedModel, ScriptedProposer, check_domain

LONG = "the quick brown fox jumps over the lazy dog and then sleeps well"


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain")


async def checked(toy: Toy) -> DomainReport:
    return await check_domain(toy.config())


def add(toy: Toy, split: str, *texts: str) -> None:
    path = toy.folder / "data" / f"{split}.jsonl"
    rows = [{"id": f"{split}-more-{place}", "text": text, "colour": "red"} for place, text in enumerate(texts)]
    path.write_text(path.read_text() + "".join(json.dumps(row) + "\n" for row in rows))


async def test_a_valid_domain_has_no_problems_and_no_warnings(toy: Toy) -> None:
    report = await checked(toy)
    assert (report.valid, report.problems, report.warnings) == (True, [], [])
    assert report.splits == {"train": 3, "search": 12, "test": 3}
    assert report.baselines == ["00_plain.py", "01_long.py"]


# --- splits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [("train", "search"), ("train", "test"), ("search", "test")])
async def test_a_case_in_two_splits_is_a_problem_whatever_its_case_and_punctuation(a: str, b: str, toy: Toy) -> None:
    add(toy, a, "Is this, perhaps, RED?")
    add(toy, b, "is this perhaps red")
    report = await checked(toy)
    assert not report.valid
    (problem,) = report.problems
    assert f"cases of {b} are also in {a}" in problem
    assert ("more-0" in problem) == (b != "test")  # of the sealed split no case is named


async def test_one_shared_case_among_a_hundred_is_a_warning(toy: Toy) -> None:
    add(toy, "train", "is this perhaps red")
    add(toy, "search", "is this perhaps red", *(f"colour number {number}" for number in range(100)))
    report = await checked(toy)
    assert report.valid
    assert any("1 of 113 cases of search are also in train" in warning for warning in report.warnings)


@pytest.mark.parametrize(("a", "b"), [("train", "search"), ("search", "test")])
async def test_ten_words_in_a_row_in_two_splits_are_a_warning(a: str, b: str, toy: Toy) -> None:
    add(toy, a, f"one {LONG}")
    add(toy, b, f"two {LONG}")
    report = await checked(toy)
    assert report.valid
    (warning,) = report.warnings
    assert f"of {b} share ten words in a row with {a}" in warning


async def test_duplicates_within_a_split_are_a_warning(toy: Toy) -> None:
    add(toy, "search", "Item 00!", "item 01")
    report = await checked(toy)
    assert report.valid
    assert report.warnings == ["2 duplicates within search: search-more-0 = search-00, search-more-1 = search-01"]


@pytest.mark.parametrize(
    ("split", "warning"),
    [("train", "split train has no cases"), ("test", "split test has no cases: no run can be finished")],
)
async def test_an_empty_split_is_a_warning(split: str, warning: str, toy: Toy) -> None:
    write_cases(toy.folder, split, 0)
    report = await checked(toy)
    assert report.valid
    assert any(line.startswith(warning) for line in report.warnings)


async def test_a_test_split_that_cannot_be_read_is_a_warning_without_its_content(toy: Toy) -> None:
    (toy.folder / "data" / "test.jsonl").unlink()
    report = await checked(toy)
    assert report.valid
    assert any("split test cannot be read" in line for line in report.warnings)


async def test_no_search_cases_and_no_domain_are_errors_at_once(toy: Toy) -> None:
    write_cases(toy.folder, "search", 0)
    with pytest.raises(UsageError, match="split search of colours has no cases"):
        await checked(toy)
    (toy.folder / "domain.py").unlink()
    with pytest.raises(MetaharnessError, match=r"holds no domain\.py"):
        await checked(toy)


async def test_no_instructions_are_a_warning(toy: Toy) -> None:
    (toy.folder / "DOMAIN.md").unlink()
    report = await checked(toy)
    assert report.warnings == ["there is no DOMAIN.md: a proposer is told nothing about the domain"]


# --- the evaluator ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grade", "problem"),
    [
        ("return 1 / 0", "grade() fails on the expected answer of case search-"),
        ("return len(context.output)", "grade() fails on the answer None of case search-"),
        ("return 'good'", "TypeError: grade() gave value = 'good'"),
        ("return float('nan')", "ValueError: grade() gave value = nan; it must be finite"),
        ("return 7 if context.output else 0", "grade() leaves the range (0.0, 1.0) of accuracy: [7.0, 0.0]"),
        ("return 1 if context.output else -3", "grade() leaves the range (0.0, 1.0) of accuracy: [1.0, -3.0]"),
    ],
)
async def test_an_evaluator_that_fails_or_leaves_its_range_is_a_problem(grade: str, problem: str, toy: Toy) -> None:
    (toy.folder / "evaluator.py").write_text(f"class Exact:\n    def grade(self, context):\n        {grade}\n")
    report = await checked(toy)
    assert any(problem in line for line in report.problems), report.problems


async def test_an_evaluator_that_may_be_awaited_is_awaited(toy: Toy) -> None:
    source = (
        "class Exact:\n    async def grade(self, context):\n        return context.output == context.case.expected\n"
    )
    (toy.folder / "evaluator.py").write_text(source)
    assert (await checked(toy)).valid


@pytest.mark.parametrize("expected", [True, False], ids=["with an expected answer", "without one"])
async def test_an_evaluator_that_cannot_tell_the_expected_answer_is_a_problem_where_there_is_one(
    expected: bool, toy: Toy
) -> None:
    (toy.folder / "evaluator.py").write_text("class Exact:\n    def grade(self, context):\n        return 0.5\n")
    if not expected:
        domain = toy.folder / "domain.py"
        domain.write_text(domain.read_text().replace('expected=row["colour"]', "expected=None"))
    report = await checked(toy)
    (line,) = report.problems if expected else report.warnings
    assert re.fullmatch(r"grade\(\) gives the expected answer of case search-\d\d no better value than None", line)
    assert report.valid is not expected


# --- the driver -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "drives"),
    [
        ("def asks(harness, case_input, model):\n    return 1\n", False),
        ("", False),
        ("class Driver:\n    def ask(self): ...\n", False),
        ("async def ask(harness, case_input, model):\n    return harness.predict(case_input, model)\n", True),
        ("check = lambda module: None\n", True),
        ("if True:\n    def build(module):\n        return module.Harness()\n", True),
        ("from operator import call as build\nbuild = lambda module: module.Harness()\n", True),
    ],
)
async def test_a_driver_that_defines_nothing_that_drives_is_a_warning(source: str, drives: bool, toy: Toy) -> None:
    (toy.folder / "driver.py").write_text(source)
    report = await checked(toy)
    told = "driver.py defines none of ask, build, check, learn: it changes nothing"
    assert (report.valid, report.warnings) == (True, [] if drives else [told])


async def test_a_driver_that_is_no_python_is_an_error_at_once(toy: Toy) -> None:
    (toy.folder / "driver.py").write_text("def ask(:\n")
    with pytest.raises(DomainError, match=r"driver\.py cannot be loaded: SyntaxError"):
        await checked(toy)


# --- baselines --------------------------------------------------------------------------------------------------


async def test_no_baselines_are_a_problem(tmp_path: Path) -> None:
    report = await checked(write_toy(tmp_path / "domain", baselines={}))
    (problem,) = report.problems
    assert problem.startswith("no baselines in ")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (SYNTAX_ERROR, "baseline odd.py fails the ladder at syntax: harness.py, line 2"),
        ("x = 1\n", "baseline odd.py fails the ladder at interface: the module defines no class Harness"),
        ("import nowhere\n", "baseline odd.py fails the ladder at import: ModuleNotFoundError"),
        (RAISES, "baseline odd.py fails the ladder at smoke: RuntimeError: not today (odd.py, line 5)"),
        ("import json\njson.loads('?')\n", "line 1 column 1 (char 0) (odd.py, line 2)"),
    ],
)
async def test_a_baseline_that_fails_the_ladder_is_a_problem_and_the_others_are_checked_all_the_same(
    source: str, problem: str, tmp_path: Path
) -> None:
    folder = {"harness.py": harness("plain"), "notes.txt": ""}
    baselines: dict[str, str | dict[str, str]] = {"odd.py": source, "plain": folder}
    report = await checked(write_toy(tmp_path / "domain", baselines=baselines))
    assert report.baselines == ["plain"]
    assert any(problem in line for line in report.problems), report.problems


async def test_a_baseline_that_is_not_text_is_a_problem(toy: Toy) -> None:
    (toy.folder / "baselines" / "02_odd.py").write_bytes(b"# caf\xe9\n")
    report = await checked(toy)
    (problem,) = report.problems
    assert problem.startswith(f"cannot read {toy.folder / 'baselines' / '02_odd.py'}")
    assert report.baselines == ["00_plain.py", "01_long.py"]


async def test_a_baseline_that_depends_on_the_order_is_a_warning(tmp_path: Path) -> None:
    source = harness("good", before="seen = []", body="seen.append(text)\nif len(seen) % 2: text = 'odd ' + text")
    report = await checked(write_toy(tmp_path / "domain", baselines={"00_odd.py": source}))
    assert report.valid
    assert any("00_odd.py answers otherwise in another order" in line for line in report.warnings)


async def test_a_model_that_cannot_be_used_is_an_error_and_no_finding(toy: Toy) -> None:
    toy.script.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        await checked(toy)


def test_the_kit_ships_a_scripted_model_and_a_scripted_proposer() -> None:
    assert callable(ScriptedModel([{"text": "red"}]).complete)
    assert callable(ScriptedProposer([]).propose)
