"""What commands say where something is unusual: objectives without bounds, files that cannot be written, no stdout."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from junit_kit import check_junit
from regrade_kit import judge_of
from run_kit import EVALUATOR, Toy, assert_complains, rules, say, write_toy

from metaharness.cli import main

OVERLOADED = {"kind": "infrastructure", "message": "overloaded"}
NOTES = EVALUATOR.replace("class Exact", "from metaharness.domain import Grade\n\n\nclass Exact").replace(
    "return context.output == context.case.expected",
    "right = context.output == context.case.expected\n"
    "        return Grade(right, notes='' if right else f'expected {context.case.expected}, in lower case')",
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("odd") / "domain", cases=6)


@pytest.fixture
def unbounded(tmp_path: Path) -> Toy:
    """A domain whose objective has no best value."""
    toy = write_toy(tmp_path / "domain", cases=6, proposals={})
    source = (toy.folder / "domain.py").read_text()
    (toy.folder / "domain.py").write_text(source.replace('"accuracy", range=(0, 1)', '"points", worst=0'))
    return toy


def plain(toy: Toy) -> Path:
    return toy.folder / "baselines" / "00_plain.py"


# --- objectives without a best value ----------------------------------------------------------------------------


def test_where_nothing_is_best_a_report_counts_every_answered_case_as_passed(unbounded: Toy) -> None:
    whole = ET.fromstring(say("evaluate", plain(unbounded), *unbounded.arguments("--report", "junit")).out.encode())
    check_junit(whole)
    assert len(list(whole.iter("testcase"))) == 6
    assert list(whole.iter("system-out")) == []


def test_where_nothing_is_best_failures_are_the_cases_without_an_answer(unbounded: Toy, tmp_path: Path) -> None:
    unbounded.write_script([{"contains": "[plain] item 03", "error": OVERLOADED}, *rules(6)])
    root = ("--root", tmp_path / "runs")
    assert say("run", *unbounded.arguments(*root, "-n", 0, "-q")).code == 0
    said = say("trace", 0, *root, "--failures")
    assert [line for line in said.out.splitlines() if line.startswith("--- ")] == [
        "--- search-03 trial 0: infrastructure"
    ]


# --- reports ----------------------------------------------------------------------------------------------------


def test_a_report_says_what_the_evaluator_has_noted(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=6)
    (toy.folder / "evaluator.py").write_text(NOTES)
    out = say("evaluate", plain(toy), *toy.arguments("--report", "junit")).out
    texts = [found.text or "" for found in ET.fromstring(out.encode()).iter("system-out")]
    assert [text.splitlines()[0] for text in texts] == [
        "wrong: expected green, in lower case",
        "wrong: expected blue, in lower case",
    ]
    assert all("notes:    expected " in text for text in texts)


def test_a_gate_that_was_passed_is_a_test_that_passed(toy: Toy) -> None:
    out = say("evaluate", plain(toy), *toy.arguments("--min", 0.1, "--report", "junit")).out
    whole = ET.fromstring(out.encode())
    check_junit(whole)
    (gate,) = [case for case in whole.iter("testcase") if case.get("classname") == "metaharness.gates"]
    assert (gate.get("name"), list(gate)) == ("min 0.1", [])


# --- files that cannot be written -------------------------------------------------------------------------------


def test_a_file_that_may_not_be_written_is_told_before_anything_is_asked(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and allowed(path, mode))
    said = say("evaluate", plain(toy), *toy.arguments("--save", tmp_path / "score.json"))
    assert_complains(said, 2, "score.json: permission denied", "existing folder")
    assert "sandbox: " not in said.err


@pytest.mark.parametrize("option", [("--save",), ("--report", "junit", "--report-file")])
def test_a_full_disk_at_the_end_is_told_in_one_line(option: tuple[str, ...], toy: Toy) -> None:
    said = say("evaluate", plain(toy), *toy.arguments(*option, "/dev/full"))
    assert_complains(said, 2, "cannot write /dev/full: No space left on device", "existing folder")


# --- options ----------------------------------------------------------------------------------------------------


def test_a_sandbox_command_is_a_sandbox_of_its_own(toy: Toy) -> None:
    own = [one for one in toy.arguments("--json") if one not in ("--sandbox", "process")]
    said = say("evaluate", plain(toy), *own, "--sandbox-command", "env A=b")
    assert (said.code, said.page["sandbox"]) == (0, "command"), said.err
    assert say("evaluate", plain(toy), *own, "--sandbox", "command", "--sandbox-command", "env").code == 0


def test_a_sandbox_command_and_another_sandbox_exclude_each_other(toy: Toy) -> None:
    said = say("evaluate", plain(toy), *toy.arguments("--sandbox-command", "env"))
    assert_complains(said, 2, "--sandbox process and --sandbox-command exclude each other", "leave out one of them")


# --- what is compared, planned and shown ------------------------------------------------------------------------


def test_two_candidates_without_a_case_in_common_are_not_compared(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=6, proposals={})
    toy.write_script([{"contains": "[long]", "error": OVERLOADED}, *rules(6)])
    root = ("--root", tmp_path / "runs")
    assert say("run", *toy.arguments(*root, "-n", 0, "-q")).code == 0
    said = say("compare", 1, 0, *root)
    assert (said.code, said.out) == (0, "001 and 000 share no case that both have ended\n")


def measured(toy: Toy, path: Path, **changes: object) -> Path:
    """A calibration whose numbers are known."""
    page = json.loads(say("calibrate", *toy.arguments("--trials", 2, "--json")).out)
    del page["sight"]
    path.write_text(json.dumps({**page, **changes}))
    return path


def test_what_differs_between_trials_alone_is_halved_by_more_of_them(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=50)
    page = json.loads(say("calibrate", *toy.arguments("--trials", 2, "--json")).out)
    noise = tmp_path / "noise.json"
    noise.write_text(json.dumps({**page, "between": 0.0, "within": 0.2}))
    out = say("plan", *toy.arguments("--calibration", noise)).out
    assert "\nor 17 trials; the greatest is not halved by any number of them\n" in out
    assert "trials do not halve it" not in out


class Terminal(io.StringIO):
    """A terminal that does not tell how wide it is."""

    def isatty(self) -> bool:
        return True


def shown(*arguments: object) -> str:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(Terminal()) as terminal:
        assert main(list(map(str, arguments))) == 0
    return terminal.getvalue()


def test_a_terminal_that_does_not_tell_its_width_is_taken_to_be_as_wide_as_columns_says(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "6 cases, " in shown("evaluate", plain(toy), *toy.arguments())
    monkeypatch.setenv("COLUMNS", "8")
    assert "\r6 cases" in shown("evaluate", plain(toy), *toy.arguments())


def test_a_regrading_counts_its_answers_and_what_the_judge_costs(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=6, proposals={})
    root = tmp_path / "runs"
    assert say("run", *toy.arguments("--root", root, "-n", 0, "-q", "--name", "first")).code == 0
    judge = judge_of(tmp_path / "judge.jsonl")
    sent = shown("regrade", "first", "--root", root, "--force", "--judge", judge.id)
    lines = [line for line in sent.replace("\r", "\n").splitlines() if line.startswith("regrade | ")]
    assert lines
    assert all("answers, " in line and line.rstrip().endswith("0 calls, $0.0000") for line in lines), lines


# --- how a command ends -----------------------------------------------------------------------------------------


def test_what_stops_a_search_before_its_end_says_what_is_spent_of_its_budget_first(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=6)
    root = ("--root", tmp_path / "runs")
    assert say("run", *toy.arguments(*root, "-n", 3, "--budget-candidates", 1, "-q")).code == 0
    shutil.rmtree(toy.folder / "proposals")
    said = say("resume", *root, "--budget-candidates", 3, "-q")
    assert_complains(said, 2, "holds no proposals for the scripted proposer", "put candidates there")
    assert "budget of candidates: 1 of 3 spent, 2 unspent\nerror: " in said.err


def test_a_process_without_stdout_ends_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["runs", "--root", str(tmp_path)]) == 0


def test_an_error_of_the_system_that_nobody_expects_is_not_taken_for_one_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_root: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("metaharness.store.list_runs", failing)
    with pytest.raises(PermissionError):
        say("runs", "--root", tmp_path)
