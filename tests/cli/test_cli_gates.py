"""`evaluate --against`, `--fail-if`, `--min`, `--save`, `--fresh` and `--report`: what a CI job asks of a score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import anyio
import pytest
from junit_kit import check_junit
from run_kit import (
    CASES,
    RAISES,
    SYNTAX_ERROR,
    Said,
    Toy,
    assert_complains,
    harness,
    rules,
    say,
    searched,
    write_cases,
    write_toy,
)

GOOD, PLAIN, OTHER, BAD = "good", "plain", "other", "x"
"""Right in 12, 4, 6 and 0 of 12 cases; `other` is right wherever `plain` is."""
OVERLOADED = {"contains": "item 03", "error": {"kind": "infrastructure", "message": "overloaded"}}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("gates") / "domain")


@pytest.fixture(scope="module")
def root(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one in it: 000 plain, 001 long, 002 other, 003 rejected, 004 good, ..."""
    folder = tmp_path_factory.mktemp("runs")
    anyio.run(lambda: searched(toy.config(), folder, name="main"))
    return folder


def written(folder: Path, style: str) -> Path:
    path = folder / f"{style}.py"
    path.write_text(harness(style))
    return path


def saved(folder: Path, toy: Toy, style: str, *more: object) -> Path:
    path = folder / f"{style}.json"
    said = say("evaluate", written(folder, style), *toy.arguments("--save", path, *more))
    assert said.code == 0, said.err
    return path


def gated(folder: Path, toy: Toy, style: str, *more: object) -> Said:
    return say("evaluate", written(folder, style), *toy.arguments(*more))


# --- what passes and what does not ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "gate", "code", "verdict"),
    [
        (GOOD, "worse", 0, "better"),
        (GOOD, "not-better", 0, "better"),
        (OTHER, "worse", 0, "indecisive"),
        (OTHER, "not-better", 4, "indecisive"),
        (PLAIN, "worse", 0, "indecisive"),
        (PLAIN, "not-better", 4, "indecisive"),
    ],
)
def test_a_gate_against_an_iteration_of_a_run(
    style: str, gate: str, code: int, verdict: str, *, toy: Toy, root: Path, tmp_path: Path
) -> None:
    asked = ("--against", "main/0", "--root", root, "--fail-if", gate, "--json")
    said = gated(tmp_path, toy, style, *asked)
    assert said.code == code, said.err
    comparison = said.page["comparison"]
    assert (comparison["against"], comparison["verdict"]) == ("main/0", verdict)
    assert said.page["gates"][0]["passed"] is (code == 0)
    assert ("error: a gate did not pass: fail-if not-better: indecisive: " in said.err) is (code == 4)


def test_a_significant_loss_fails_and_is_told_case_by_case(toy: Toy, tmp_path: Path) -> None:
    reference = saved(tmp_path, toy, GOOD)
    said = gated(tmp_path, toy, PLAIN, "--against", reference, "--fail-if", "worse")
    assert said.code == 4
    assert f"accuracy against {reference}: -0.667 [-0.980, -0.354], p = 0.008: worse" in said.out
    assert "fixed: 0\nbroken: 8 (search-04, search-05, " in said.out
    assert "gate fail-if worse: did not pass: worse: -0.667" in said.out
    assert "error: a gate did not pass: fail-if worse: worse: -0.667" in said.err
    assert "hint: " in said.err


def test_a_comparison_without_a_gate_fails_nothing(toy: Toy, tmp_path: Path) -> None:
    page = gated(tmp_path, toy, BAD, "--against", saved(tmp_path, toy, GOOD), "--json").page
    assert page["comparison"]["verdict"] == "worse"
    assert "gates" not in page


@pytest.mark.parametrize(("least", "code"), [("0.3", 0), ("0.3333", 0), ("0.34", 4), ("1", 4)])
def test_the_primary_mean_has_to_reach_the_least_that_was_asked_for(
    least: str, code: int, toy: Toy, tmp_path: Path
) -> None:
    said = gated(tmp_path, toy, PLAIN, "--min", least)
    assert said.code == code
    assert f"gate min {least}: {'passed' if code == 0 else 'did not pass'}: accuracy is 0.3333" in said.out


def test_every_gate_that_did_not_pass_is_named(toy: Toy, tmp_path: Path) -> None:
    asked = ("--against", saved(tmp_path, toy, GOOD), "--fail-if", "not-better", "--min", 0.9)
    said = gated(tmp_path, toy, BAD, *asked)
    assert said.code == 4
    assert "a gate did not pass: fail-if not-better: worse: -1.000" in said.err
    assert "; min 0.9: accuracy is 0" in said.err


@pytest.mark.parametrize("asked", [("--min", "0.1"), ("--fail-if", "worse"), ("--fail-if", "not-better")])
def test_an_incomplete_evaluation_passes_no_gate(asked: tuple[str, str], tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    reference = saved(tmp_path, toy, BAD)
    toy.write_script([OVERLOADED, *rules()])
    said = gated(tmp_path, toy, GOOD, "--against", reference, *asked)
    assert said.code == 4
    assert "the evaluation is incomplete: 1 pair without a value" in said.err


def test_an_incomplete_reference_passes_no_gate_either_and_saving_it_says_so(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    toy.write_script([OVERLOADED, *rules()])
    path = tmp_path / "bad.json"
    said = gated(tmp_path, toy, BAD, "--save", path)
    assert said.code == 0
    assert f"note: {path} is incomplete, so no gate passes against it" in said.err
    toy.write_script(rules())
    said = gated(tmp_path, toy, GOOD, "--against", path, "--fail-if", "worse")
    assert said.code == 4
    assert "the reference is incomplete: 1 pair without a value" in said.err


def test_a_harness_that_does_not_pass_the_ladder_is_invalid_and_no_question_of_gates(toy: Toy, tmp_path: Path) -> None:
    reference = saved(tmp_path, toy, GOOD)
    (tmp_path / "broken.py").write_text(SYNTAX_ERROR)
    report = tmp_path / "report.xml"
    asked = ("--against", reference, "--fail-if", "worse", "--min", 0, "--report", "junit", "--report-file", report)
    said = say("evaluate", tmp_path / "broken.py", *toy.arguments(*asked))
    assert said.code == 3
    assert "does not pass the ladder at syntax" in said.err
    check_junit(ET.parse(report).getroot())
    case, *not_passed = ET.parse(report).getroot().iter("testcase")
    assert [one.get("name") for one in not_passed] == ["fail-if worse", "min"]
    assert (case.get("name"), case.find("error").get("type")) == ("ladder", "syntax")  # type: ignore[union-attr]
    markdown = say("evaluate", tmp_path / "broken.py", *toy.arguments("--report", "markdown"))
    assert markdown.out.startswith("## metaharness: rejected\n")


# --- the saved score --------------------------------------------------------------------------------------------


def test_a_saved_score_has_every_pair_and_no_text_of_a_case(toy: Toy, tmp_path: Path) -> None:
    path = saved(tmp_path, toy, PLAIN, "--trials", 2)
    content = path.read_text()
    page = json.loads(content)
    assert (page["kind"], page["version"], page["first_trial"]) == ("metaharness score", 1, 0)
    assert (page["standing"]["domain"], page["standing"]["split"]) == ("colours", "search")
    assert len(page["pairs"]) == 2 * CASES
    assert page["pairs"][0] == {
        "case": "search-00",
        "unit": "search-00",
        "trial": 0,
        "status": "ok",
        "context_chars": 15.0,
        "values": {"accuracy": 1.0, "context_chars": 15.0},
    }
    assert "item 00" not in content
    assert "grey" not in content


def test_a_saved_score_and_the_iteration_it_equals_compare_the_same(toy: Toy, root: Path, tmp_path: Path) -> None:
    reference = saved(tmp_path, toy, PLAIN)
    pages = [
        gated(tmp_path, toy, GOOD, "--against", against, "--root", root, "--json").page["comparison"]
        for against in (reference, "main/000", f"{root}/main/0")
    ]
    for page in pages:
        del page["against"]
    assert pages[0] == pages[1] == pages[2]
    assert pages[0]["mean_there"] == pytest.approx(4 / CASES)


def test_fresh_trials_have_numbers_that_nobody_has_used_and_are_compared_all_the_same(toy: Toy, tmp_path: Path) -> None:
    reference = saved(tmp_path, toy, PLAIN)
    pages = [gated(tmp_path, toy, GOOD, "--against", reference, "--fresh", "--json").page for _ in range(2)]
    numbers = [{case["trial"] for case in page["cases"]} for page in pages]
    assert numbers == [{page["first_trial"]} for page in pages]
    assert all(page["first_trial"] >= 1000 for page in pages)
    assert numbers[0] != numbers[1]
    assert [page["comparison"]["verdict"] for page in pages] == ["better", "better"]


# --- what cannot be compared ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--trials", "2"), "different: trials (2 here, 1 there)"),
        (("--limit", "4"), "different: cases (4 here, 12 there; only there: search-"),
        (("--split", "train"), "different: split (train here, search there), cases (3 here, 12 there; only here: "),
        (("--limit", "3", "--trials", "3"), "different: trials (3 here, 1 there), cases (3 here, 12 there"),
    ],
)
def test_what_differs_is_said_before_anything_is_asked(
    asked: tuple[str, ...], message: str, toy: Toy, root: Path, tmp_path: Path
) -> None:
    for reference in (saved(tmp_path, toy, PLAIN), "main/0"):
        kept = tmp_path / "traces.jsonl"
        more = ("--against", reference, "--root", root, *asked, "--trace-file", kept)
        assert_complains(gated(tmp_path, toy, GOOD, *more), 2, message, "give the same --domain")
        assert not kept.exists()


def test_a_changed_evaluator_domain_or_case_is_named(toy: Toy, tmp_path: Path) -> None:
    reference = saved(tmp_path, toy, PLAIN)
    other = write_toy(tmp_path / "other")
    evaluator = other.folder / "evaluator.py"
    evaluator.write_text(evaluator.read_text() + "# changed\n")
    said = gated(tmp_path, other, GOOD, "--against", reference)
    assert_complains(said, 2, "different: evaluator (its source has changed)", "has to be scored anew")

    renamed = write_toy(tmp_path / "renamed")
    source = (renamed.folder / "domain.py").read_text()
    renamed_source = source.replace('"colours"', '"shades"').replace('"accuracy"', '"share"')
    (renamed.folder / "domain.py").write_text(renamed_source)
    said = gated(tmp_path, renamed, GOOD, "--against", reference)
    message = "domain (shades here, colours there), primary objective (share max in 0 to 1 here, accuracy max"
    assert_complains(said, 2, message, "give the same")

    edited = write_toy(tmp_path / "edited")
    lines = (edited.folder / "data" / "search.jsonl").read_text().replace('"red"', '"crimson"')
    (edited.folder / "data" / "search.jsonl").write_text(lines)
    said = gated(tmp_path, edited, GOOD, "--against", reference)
    assert_complains(said, 2, "different: cases (the same ids with another content)", "give the same")


def test_what_may_differ_is_told_and_compared(toy: Toy, tmp_path: Path) -> None:
    reference = saved(tmp_path, toy, PLAIN)
    other = write_toy(tmp_path / "other")
    (other.folder / "DOMAIN.md").write_text("Say it in one word.\n")
    write_cases(other.folder, "train", 2)
    said = gated(tmp_path, other, GOOD, "--against", reference, "--fail-if", "not-better")
    assert said.code == 0
    assert f"note: another file of the domain differs from that of {reference}" in said.err
    assert f"note: the train split differs from that of {reference}" in said.err
    assert "note: the model differs" in said.err  # its script lies elsewhere


@pytest.mark.parametrize(
    ("against", "message", "hint"),
    [
        ("nothing", "'nothing' is neither a saved score nor an iteration of a run: there is no such file", "latest/3"),
        ("main/x", "and 'x' is no number: N of RUN/N is that of an iteration", "latest/3; `metaharness scoreboard`"),
        ("/3", "'/3' is neither", "RUN/N"),
        ("none/3", "there is no run 'none'", "runs here"),
        ("main/99", "there is no iteration 099 in run main", "recorded iterations"),
        ("main/3", "iteration 003 of run main has no score: it is rejected", "scoreboard"),
    ],
)
def test_a_reference_that_is_not_there_is_named(
    against: str, message: str, hint: str, *, toy: Toy, root: Path, tmp_path: Path
) -> None:
    said = gated(tmp_path, toy, GOOD, "--against", against, "--root", root)
    assert_complains(said, 2, message, hint)


@pytest.mark.parametrize(
    ("content", "code", "message", "hint"),
    [
        ("", 2, "is not a saved score, or damaged: it is not JSON", "--save SCORE.json"),
        ("[1]", 2, "is not a saved score", "--save SCORE.json"),
        ('{"kind": "other"}', 2, "is not a saved score", "--save SCORE.json"),
        ('{"kind": "metaharness score", "version": 2}', 1, "has version 2", "newer metaharness"),
        ('{"kind": "metaharness score", "version": 1}', 1, "created: Field required", "restore the file"),
    ],
)
def test_a_file_that_is_no_saved_score_is_refused(
    content: str, code: int, message: str, hint: str, *, toy: Toy, tmp_path: Path
) -> None:
    path = tmp_path / "score.json"
    path.write_text(content)
    assert_complains(gated(tmp_path, toy, GOOD, "--against", path), code, message, hint)


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        (["--fail-if", "worse"], "--fail-if compares with nothing", "--against RUN/N"),
        (["--fail-if", "equal"], "--fail-if 'equal' is not known", "valid: worse, not-better"),
        (["--report", "html"], "--report 'html' is not known", "valid: junit, markdown"),
        (["--report-file", "r.xml"], "--report-file without --report", "junit or markdown"),
        (["--report", "junit", "--json"], "--json and --report both go to stdout", "--report-file PATH"),
        (["--min", "80"], "--min 80 can never be reached: accuracy lies between 0 and 1", "in that range"),
        (["--save", "s", "--report", "junit", "--report-file", "./s"], "--save and --report-file are both s", "each"),
        (["--min", "nan"], "--min nan is not a mean", "--min 0.8"),
        (["--save", "/nowhere/s.json"], "cannot write /nowhere/s.json: there is no such folder", "existing folder"),
        (["--save", "/"], "cannot write /: it is a folder", "existing folder"),
        (["--against", "s.json", "--save", "./s.json"], "--save would replace s.json", "save to another file"),
    ],
)
def test_options_that_do_not_fit_are_named(asked: list[str], message: str, hint: str, toy: Toy, tmp_path: Path) -> None:
    assert_complains(gated(tmp_path, toy, GOOD, *asked), 2, message, hint)


def test_where_less_is_better_a_least_mean_says_nothing(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    source = (toy.folder / "domain.py").read_text()
    (toy.folder / "domain.py").write_text(
        source.replace('Objective("accuracy", range=(0, 1))', 'Objective("wrong", "min", range=(0, 1))')
    )
    assert_complains(gated(tmp_path, toy, GOOD, "--min", 0.5), 2, "of wrong less is better", "--fail-if worse")


# --- reports ----------------------------------------------------------------------------------------------------


def properties(suite: ET.Element) -> dict[str, str]:
    return {one.attrib["name"]: one.attrib["value"] for one in suite.iter("property")}


def test_a_junit_report_has_a_test_case_per_case_and_the_verdict(toy: Toy, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    asked = ("--against", saved(tmp_path, toy, GOOD), "--fail-if", "worse", "--trials", 1)
    said = gated(tmp_path, toy, PLAIN, *asked, "--report", "junit", "--report-file", report, "--json")
    assert said.code == 4
    whole = ET.parse(report).getroot()
    check_junit(whole)
    assert (whole.tag, whole.get("tests"), whole.get("failures"), whole.get("errors")) == ("testsuites", "13", "1", "0")
    suite, gates = whole
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("12", "0", "0")
    (gate,) = gates.findall("testcase")
    assert (gate.get("classname"), gate.get("name")) == ("metaharness.gates", "fail-if worse")
    assert gate.find("failure").get("message").startswith("worse: -0.667")  # type: ignore[union-attr]
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [f"search-{number:02d}" for number in range(CASES)]
    assert {case.get("classname") for case in cases} == {"colours.search"}
    assert all(float(case.attrib["time"]) >= 0 for case in cases)
    outputs = [case.findtext("system-out") for case in cases]
    assert outputs[:4] == [None] * 4
    assert (outputs[4] or "").startswith("broken: expected green, got grey\n")
    assert "expected: green\ngot:      grey\nscore:    0" in (outputs[4] or "")
    said_of_it = properties(suite)
    assert said_of_it["verdict"] == said.page["comparison"]["verdict"] == "worse"
    assert (said_of_it["delta"], said_of_it["p"], said_of_it["fixed"], said_of_it["broken"]) == (
        *("-0.667", "0.008", "0", "8"),
    )
    assert said_of_it["gate fail-if worse"].startswith("did not pass: worse")


def test_a_report_goes_to_stdout_instead_of_the_table(toy: Toy, tmp_path: Path) -> None:
    said = gated(tmp_path, toy, PLAIN, "--report", "junit")
    assert (said.code, said.err) == (0, "sandbox: process\n")
    whole = ET.fromstring(said.out.encode())
    check_junit(whole)
    assert (whole.get("failures"), whole.get("errors")) == ("0", "0"), "nothing is red where the exit code is 0"
    assert [(found.text or "")[:7] for found in whole.iter("system-out")] == ["wrong: "] * 8
    assert properties(whole)["sandbox"] == "process"


def test_what_is_missing_is_skipped_and_what_fails_by_itself_says_how(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    toy.write_script([OVERLOADED, *rules()])
    said = gated(tmp_path, toy, GOOD, "--report", "junit", "--trials", 2)
    check_junit(ET.fromstring(said.out.encode()))
    (case,) = [one for one in ET.fromstring(said.out.encode()).iter("testcase") if one.find("skipped") is not None]
    (skipped,) = case.iter("skipped")
    assert (skipped.get("message") or "").startswith("infrastructure: ")
    assert "overloaded" in (skipped.get("message") or "")
    assert (case.findtext("system-out") or "").count("status:   infrastructure") == 2
    (tmp_path / "raises.py").write_text(RAISES)
    said = say("evaluate", tmp_path / "raises.py", *toy.arguments("--no-ladder", "--report", "junit"))
    firsts = {(found.text or "").partition("\n")[0] for found in ET.fromstring(said.out.encode()).iter("system-out")}
    assert firsts == {"harness_error: RuntimeError: not today"}


def test_whatever_a_harness_answers_the_report_can_be_parsed(toy: Toy, tmp_path: Path) -> None:
    answer = "'<&> ]]> | `x` [a](b) \\x00\\x1b[31m \\ud800 \\n' + 'z' * 500"
    (tmp_path / "odd.py").write_text(harness("plain", body=f"return {answer}"))
    said = say("evaluate", tmp_path / "odd.py", *toy.arguments("--report", "junit"))
    check_junit(ET.fromstring(said.out.encode()))
    messages = [(one.text or "").partition("\n")[0] for one in ET.fromstring(said.out.encode()).iter("system-out")]
    assert len(messages) == CASES
    assert all("<&> ]]> | `x` [a](b) " in message and "\x1b" not in message for message in messages)
    table = say("evaluate", tmp_path / "odd.py", *toy.arguments("--report", "markdown")).out
    (row, *_) = [line for line in table.splitlines() if line.startswith("| search-")]
    assert row.replace("\\|", "").count("|") == 6
    assert "\\<&\\> ]]\\> \\| \\`x\\` [a]\\(b)" in row
    assert "\x1b" not in table


def test_a_markdown_report_has_verdict_numbers_and_the_cases_that_changed(toy: Toy, tmp_path: Path) -> None:
    reference = saved(tmp_path, toy, OTHER)
    out = gated(tmp_path, toy, GOOD, "--against", reference, "--fail-if", "worse", "--report", "markdown").out
    table = out.partition("|---|---|\n")[2].partition("\n\n")[0]
    rows = dict(line.strip("| ").split(" | ") for line in table.splitlines())
    assert out.startswith("## metaharness: gates passed\n")
    assert (rows["verdict"], rows["delta"], rows["p"]) == ("better", "+0.500", "0.031")
    assert (rows["interval"], rows["fixed"], rows["broken"]) == ("[+0.168, +0.832]", "6", "0")
    assert "### Fixed: 6\n\n| case | before | now | expected | got |" in out
    assert "| search-06 | 0 | 1 | red | red |" in out
    assert "### Broken" not in out
    alone = gated(tmp_path, toy, OTHER, "--report", "markdown").out
    assert alone.startswith("## metaharness: no gate\n")
    assert "### Failed: 6" in alone


def test_a_markdown_table_ends_where_nobody_reads_on(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=60)
    out = gated(tmp_path, toy, BAD, "--report", "markdown").out
    assert "### Failed: 60" in out
    assert out.count("| search-") == 50
    assert "... and 10 more" in out


def test_the_report_counts_cases_in_their_groups(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    source = (toy.folder / "domain.py").read_text()
    grouped = source.replace('expected=row["colour"])', 'expected=row["colour"], group=row["id"][:-1])')
    (toy.folder / "domain.py").write_text(grouped)
    reference = saved(tmp_path, toy, GOOD)
    page: dict[str, Any] = gated(tmp_path, toy, PLAIN, "--against", reference, "--json").page
    assert (page["comparison"]["units"], page["comparison"]["broken"]) == (2, ["search-0", "search-1"])
    said = gated(tmp_path, toy, PLAIN, "--against", reference, "--report", "junit")
    assert len(list(ET.fromstring(said.out.encode()).iter("testcase"))) == CASES


# --- sandboxes --------------------------------------------------------------------------------------------------


def test_scores_of_different_sandboxes_are_compared_with_a_note(toy: Toy, tmp_path: Path) -> None:
    here = saved(tmp_path, toy, GOOD)
    alike = gated(tmp_path, toy, GOOD, "--against", here, "--json")
    assert ("note:" in alike.err, alike.page["comparison"]["notes"]) == (False, [])
    other = Toy(toy.folder, toy.script)
    arguments = [one if one != "process" else "auto" for one in other.arguments("--against", here, "--json")]
    said = say("evaluate", written(tmp_path, GOOD), *arguments)
    name = said.page["sandbox"]
    assert name != "process"
    (note,) = said.page["comparison"]["notes"]
    assert note == f"the sandbox differs from that of {here}: {name} here, process there"
    assert f"note: {note}" in said.err.splitlines()
    assert said.page["comparison"]["sandbox_there"] == "process"
    assert said.err.startswith(f"sandbox: {name}"), "it is said before anything else"
