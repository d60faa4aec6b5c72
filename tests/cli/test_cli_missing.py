"""Pairs without a value: how many there are, why, and what to do, which depends on who has failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_kit import CASES, EVALUATOR, Toy, harness, rules, say, write_toy

MEND = "to have every value: mend the evaluator, then metaharness regrade"
BREAKS = EVALUATOR.replace(
    "        return",
    "        if context.case.id in ('search-03', 'search-07'):\n            raise ValueError('no such\\nlabel')\n"
    "        return",
)
JUDGED = """
class Exact:
    async def grade(self, context):
        return (await context.judge.complete(f"is {context.output} right?")).text == "yes"
"""
OVERLOADED = {"kind": "infrastructure", "message": "over\x1b[31mloaded", "status_code": 529}
SHOWN = "over\\x1b[31mloaded"


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")}, proposals={})


def search(toy: Toy, tmp_path: Path, *more: object) -> list[str]:
    said = say("run", *toy.arguments("--root", tmp_path / "runs", "--name", "r", "-n", 0, "-q", *more))
    assert said.code == 0, said.err
    return said.err.splitlines()


def test_an_evaluator_that_fails_is_to_be_mended_and_resume_is_not_advised(toy: Toy, tmp_path: Path) -> None:
    (toy.folder / "evaluator.py").write_text(BREAKS)
    told = search(toy, tmp_path)
    assert "2 of 12 pairs of 000 have no value (evaluator_error): label" in told
    assert f"{MEND} --root {tmp_path / 'runs'} r" in told
    assert not any("metaharness resume" in line for line in told)
    assert any(line.startswith("to look closer: ") for line in told)
    assert not any("metaharness finish" in line for line in told)  # no candidate is complete


def test_a_model_that_fails_is_asked_again(toy: Toy, tmp_path: Path) -> None:
    toy.write_script([{"contains": "item 09", "error": OVERLOADED}, *rules()])
    told = search(toy, tmp_path)
    assert f"1 of 12 pairs of 000 has no value (infrastructure): {SHOWN}" in told
    assert f"to go on: metaharness resume --root {tmp_path / 'runs'} r" in told
    assert not any(line.startswith(MEND) for line in told)


def test_each_status_has_a_line_and_each_its_advice(toy: Toy, tmp_path: Path) -> None:
    (toy.folder / "evaluator.py").write_text(BREAKS)
    toy.write_script([{"contains": "item 09", "error": OVERLOADED}, *rules()])
    told = search(toy, tmp_path)
    assert [line for line in told if " no value " in line] == [
        "2 of 12 pairs of 000 have no value (evaluator_error): label",
        f"1 of 12 pairs of 000 has no value (infrastructure): {SHOWN}",
    ]
    assert f"{MEND} --root {tmp_path / 'runs'} r" in told
    assert f"to go on: metaharness resume --root {tmp_path / 'runs'} r" in told


def test_a_judge_that_fails_is_asked_again_as_the_evaluator_itself_is_sound(toy: Toy, tmp_path: Path) -> None:
    (toy.folder / "evaluator.py").write_text(JUDGED)
    judge = Toy(toy.folder, tmp_path / "judge.jsonl")
    judge.write_script([{"contains": "is blue", "error": OVERLOADED}, {"text": "yes"}])
    told = search(toy, tmp_path, "--judge", f"scripted:{judge.script}")
    assert f"1 of 12 pairs of 000 has no value (evaluator_error): {SHOWN}" in told
    assert f"to go on: metaharness resume --root {tmp_path / 'runs'} r" in told
    assert not any(line.startswith(MEND) for line in told)


def test_of_many_candidates_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", proposals={f"{number}.py": harness("good") for number in range(7)})
    toy.write_script([{"contains": "[good] item 09", "error": OVERLOADED}, *rules()])
    said = say("run", *toy.arguments("--root", tmp_path / "runs", "-q"))
    told = said.err.splitlines()
    assert [line.split()[5] for line in told if " no value " in line] == ["002", "003", "004", "005", "006"]
    assert "so it is with 2 more candidates" in told


def test_as_json_the_same_is_told_on_stderr(toy: Toy, tmp_path: Path) -> None:
    (toy.folder / "evaluator.py").write_text(BREAKS)
    assert "2 of 12 pairs of 000 have no value (evaluator_error): label" in search(toy, tmp_path, "--json")


def test_evaluate_says_it_of_its_harness(toy: Toy) -> None:
    (toy.folder / "evaluator.py").write_text(BREAKS)
    path = toy.folder / "baselines" / "00_plain.py"
    said = say("evaluate", path, *toy.arguments())
    assert said.code == 0
    assert f"cases: 2 evaluator_error, {CASES - 2} ok (2 of 12 missing, between 0.250 and 0.417)" in said.out
    assert said.err.splitlines() == [
        "sandbox: process",
        "2 of 12 pairs of 00_plain have no value (evaluator_error): label",
        "to have every value: mend the evaluator and evaluate again",
    ]
    assert say("evaluate", path, *toy.arguments("--json")).err == said.err


def test_evaluate_gives_no_such_advice_where_the_model_fails(toy: Toy) -> None:
    toy.write_script([{"contains": "item 09", "error": OVERLOADED}, *rules()])
    said = say("evaluate", toy.folder / "baselines" / "00_plain.py", *toy.arguments())
    assert said.err == f"sandbox: process\n1 of 12 pairs of 00_plain has no value (infrastructure): {SHOWN}\n"


def test_an_incomplete_candidate_is_shown_with_bounds_and_is_neither_incumbent_nor_on_the_frontier(
    tmp_path: Path,
) -> None:
    """All but one of its pairs are right, and more than the incumbent's, so even the worse bound would be the best."""
    baselines = {"00_plain.py": harness("plain")}
    proposals = {"1_good.py": harness("good"), "2_ok.py": harness("x")}
    toy = write_toy(tmp_path / "domain", baselines=baselines, proposals=proposals)
    toy.write_script([{"contains": "[good] item 09", "error": OVERLOADED}, *rules()])
    root = ("--root", tmp_path / "runs")
    assert say("run", *toy.arguments(*root, "--name", "r", "-q")).code == 0
    board = say("scoreboard", "r", *root)
    row = next(line for line in board.out.splitlines() if line.startswith("001"))
    assert row.split()[1] == "1_good"  # no mark before its name
    assert row.endswith("(incomplete: 1 of 12 missing, between 0.917 and 1.000)")
    page = say("scoreboard", "r", *root, "--json").page
    found = page["iterations"][1]
    assert (page["incumbent"], 1 in page["frontier"]) == (0, False)
    assert (found["state"], found["incumbent"], found["frontier"]) == ("incomplete", False, False)
    assert (found["planned"], found["ended"], found["bounds"]) == (12, 11, pytest.approx([11 / 12, 1]))
    assert found["verdict"] == "better"  # against 000, right in 4 of 12: both bounds say so
    assert page["iterations"][2]["against"] == 0  # not the incomplete one
    assert "incomplete     1 of 12 missing, between 0.917 and 1.000" in say("show", 1, "--run", "r", *root).out
    shown = say("show", 1, "--run", "r", *root, "--json").page
    assert (shown["state"], shown["score"]["bounds"]) == ("incomplete", pytest.approx([11 / 12, 1]))


def test_a_verdict_whose_bounds_disagree_is_indecisive(tmp_path: Path) -> None:
    """Over the pairs that ended it is better in every case that differs; the missing ones could undo that."""
    toy = write_toy(tmp_path / "domain", proposals={"1_good.py": harness("good")})
    lost = [{"contains": f"[good] item {number:02d}", "error": OVERLOADED} for number in (0, 1, 2, 3)]
    toy.write_script([*lost, *rules()])
    assert say("run", *toy.arguments("--root", tmp_path / "runs", "--name", "r", "-q")).code == 0
    found = say("scoreboard", "r", "--root", tmp_path / "runs", "--json").page["iterations"][2]
    assert (found["bounds"], found["verdict"]) == (pytest.approx([8 / 12, 1]), "indecisive")
