"""`metaharness regrade`: what it prints and how it refuses."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import pytest
from regrade_kit import FAILS_ON_ONE, JUDGED, LENIENT, evaluate_with, judge_of, regrade_toy
from run_kit import Toy, assert_complains, recorded, say


@pytest.fixture
def made(tmp_path: Path) -> tuple[Toy, Path]:
    return anyio.run(partial(regrade_toy, tmp_path))


def test_the_table_shows_old_and_new_score_rank_and_verdict(made: tuple[Toy, Path]) -> None:
    toy, path = made
    evaluate_with(toy, LENIENT)
    said = say("regrade", "first", "--root", path.parent, "--name", "anew")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        "iter  name      old    new    delta   changed  rank    verdict",
        "000   00_plain  0.667  1.000  +0.333  2        4 -> 3  baseline",
        "001   01_long   0.833  1.000  +0.167  1        3 -> 1  baseline",
        "002   1_other   1.000  1.000  +0.000  0        2 -> 4  indecisive",
        "003   2_broken  -      -                       -       rejected",
        "004   3_good    1.000  1.000  +0.000  0        1 -> 2  indecisive",
        "changed: pairs with another value   rank and verdict: old -> new where they differ",
    ]
    assert "grading 5 candidates of first anew as run anew" in said.err
    assert "judge: 0 calls, $0.0000" in said.err
    assert f"run directory: {path.parent / 'anew'}" in said.err


def test_the_same_as_json(made: tuple[Toy, Path]) -> None:
    toy, path = made
    evaluate_with(toy, LENIENT)
    page = say("regrade", path, "--root", path.parent, "--json").page
    fork = recorded(Path(page["path"]))
    assert (page["run"], page["forked_from"]) == (fork.record.run_id, "first")
    assert page["evaluator_hash"]["new"] == fork.record.evaluator_hash != page["evaluator_hash"]["old"]
    assert page["incumbent"] == {"old": 4, "new": 1}
    assert page["spent"]["calls"] == 0
    first = page["iterations"][0]
    assert (first["name"], first["rank_old"], first["rank_new"], first["changed"]) == ("00_plain", 4, 3, 2)
    assert first["delta"] == pytest.approx(2 / 6)
    assert page["iterations"][3]["state"] == "rejected"


def test_a_judge_is_given_on_the_command_line(made: tuple[Toy, Path], tmp_path: Path) -> None:
    toy, path = made
    evaluate_with(toy, JUDGED)
    judge = judge_of(tmp_path / "judge.jsonl")
    without = say("regrade", "first", "--root", path.parent, "--name", "without", "--quiet")
    assert_complains(without, 1, "24 of 24 stored answers could not be graded: AttributeError", "--accept-missing")
    said = say("regrade", "first", "--root", path.parent, "--name", "anew", "--judge", judge.id, "--quiet")
    assert said.code == 0, said.err
    assert "judge: 24 calls, $0.0000" in said.err
    spent = say("cost", "anew", "--root", path.parent, "--json").page
    assert [(row["role"], row["calls"]) for row in spent["by_role"]] == [("judge", 24)]
    assert "forked from first" in say("summary", "anew", "--root", path.parent).out
    examined = say("doctor", "--root", path.parent).out
    assert "unfinished: its stored answers have not all been graded" in examined
    assert f"metaharness regrade --root {path.parent} first --name without" in examined


def test_a_candidate_with_missing_grades_is_shown_so(made: tuple[Toy, Path]) -> None:
    toy, path = made
    evaluate_with(toy, FAILS_ON_ONE)
    said = say("regrade", "first", "--root", path.parent, "--name", "anew", "--accept-missing", "--quiet")
    assert said.code == 0, said.err
    assert "1 missing)" in said.out
    shown = say("scoreboard", "anew", "--root", path.parent).out
    assert "(incomplete: 1 of 6 missing, between 0.500 and 0.667)" in shown


def test_a_name_that_is_taken_gets_a_number(made: tuple[Toy, Path]) -> None:
    toy, path = made
    evaluate_with(toy, LENIENT)
    said = say("regrade", "first", "--root", path.parent, "--name", "first", "--quiet")
    assert said.code == 0
    assert "there is a run first already, so this one is first-2" in said.err


def test_wrong_use_is_told(made: tuple[Toy, Path]) -> None:
    _, path = made
    root = ("--root", path.parent)
    assert_complains(say("regrade", "first", *root), 2, "nothing has changed since run first was graded", "--force")
    assert_complains(say("regrade", "second", *root), 2, "there is no run 'second'", "first")
    said = say("regrade", "first", *root, "--base-url", "http://127.0.0.1:1")
    assert_complains(said, 2, "--base-url without --judge", "--judge openai:NAME")
    assert_complains(say("regrade", "first", *root, "--judge", "nobody"), 2, "nobody", "openai")
