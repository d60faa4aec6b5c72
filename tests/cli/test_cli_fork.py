"""`metaharness fork` and `metaharness lineage`: what they print and how they refuse."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import pytest
from regrade_kit import SEARCH, regrade_toy
from run_kit import Toy, assert_complains, harness, recorded, say

from metaharness.run import fork


@pytest.fixture
def made(tmp_path: Path) -> tuple[Toy, Path]:
    """A run of two baselines and three candidates, the second of them rejected."""
    return anyio.run(partial(regrade_toy, tmp_path))


def test_a_fork_is_made_and_the_command_that_it_prints_goes_on_with_it(made: tuple[Toy, Path]) -> None:
    _, path = made
    said = say("fork", "first", 2, "--root", path.parent, "--name", "second", "--note", "Shorter ones.")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        "run second: forked from first at iteration 002; 000 to 002 are inherited",
        "note on this fork: Shorter ones.",
    ]
    assert f"to go on, 2 candidates to come: metaharness resume --root {path.parent} second" in said.err
    assert say("resume", "--root", path.parent, "second", "--quiet").code == 0
    board = say("scoreboard", "second", "--root", path.parent).out
    assert [line.split()[1] for line in board.splitlines()[4:6]] == ["2_broken", "*+"]
    assert board.splitlines()[-1] == "inherited from another run: 000 to 002"
    about = say("summary", "second", "--root", path.parent).out
    assert "note on this fork: Shorter ones." in about
    assert f"spent       2 candidates, {SEARCH} case evaluations, {SEARCH} calls" in about
    assert "inherited      from first" in say("show", 1, "--run", "second", "--root", path.parent).out


def test_a_fork_may_have_another_proposer_width_and_budget_and_go_on_at_once(made: tuple[Toy, Path]) -> None:
    _, path = made
    other = ["--proposer", "agent", "--iterations", 7, "--candidates-per-round", 2, "--budget-calls", 50]
    page = say("fork", "first", 2, "--root", path.parent, "--name", "agents", "--json", *other).page
    config = recorded(path.parent / "agents").record.config
    assert (page["run"], page["at"], page["inherited"], page["iterations"]) == ("agents", 2, 3, 7)
    assert (config.proposer, config.iterations, config.candidates_per_round) == ("agent", 7, 2)
    assert config.budget.calls == 50
    chat = ["--proposer", "chat", "--proposer-model", "anthropic:other", "--role-budget", "proposer:calls=3"]
    assert say("fork", "first", 2, "--root", path.parent, "--name", "chats", *chat).code == 0
    config = recorded(path.parent / "chats").record.config
    assert (config.models["proposer"].id, config.budget.roles["proposer"].calls) == ("anthropic:other", 3)
    went = say("fork", "first", 2, "--root", path.parent, "--name", "on", "--resume", "--quiet", "--json")
    assert went.code == 0, went.err
    assert (went.page["run"], went.page["iterations"], went.page["spent"]["calls"]) == ("on", 5, SEARCH)
    assert "run on: forked from first at iteration 002" in went.err


def test_the_lineage_is_drawn_with_note_best_score_and_status(made: tuple[Toy, Path], tmp_path: Path) -> None:
    _, path = made
    root = path.parent
    fork(path, 2, name="second", note="Shorter ones.", changes={"iterations": 2})
    fork(root / "second", 1, name="third")
    fork(path, 4, name="fourth", note="n" * 100)
    assert say("regrade", "first", "--root", root, "--name", "anew", "--force", "--quiet").code == 0
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text("{")
    drawn = say("lineage", "--root", root)
    assert drawn.code == 0
    assert [" ".join(line.split()) for line in drawn.out.splitlines()] == [
        "run from iterations best score status note",
        "broken - - - - -",
        "first - 5 4 1.000 [0.476, 1.000] ended",
        "`- second 002 3 2 1.000 [0.476, 1.000] forked Shorter ones.",
        "`- third 001 2 1 0.833 [0.337, 0.980] forked",
        f"`- fourth 004 5 4 1.000 [0.476, 1.000] forked {'n' * 57}...",
        "`- anew regraded 5 4 1.000 [0.476, 1.000] ended",
    ]
    assert "broken" in drawn.err
    rows = say("lineage", "third", "--root", root, "--json").page
    assert [(row["run"], row["depth"], row["forked_from"], row["at"]) for row in rows] == [
        ("first", 0, None, None),
        ("second", 1, "first", 2),
        ("third", 2, "second", 1),
        ("fourth", 1, "first", 4),
        ("anew", 1, "first", None),
    ]
    path.rename(tmp_path / "first")
    alone = say("lineage", "third", "--root", root).out.splitlines()
    assert alone[1].split()[:5] == ["second", "first", "002", "(gone)", "3"]
    assert len(alone) == 3


def test_what_cannot_be_forked_is_told(made: tuple[Toy, Path]) -> None:
    toy, path = made
    root = ("--root", path.parent)
    assert_complains(say("fork", "first", 9, *root), 2, "there is no iteration 009", "000 to 004")
    assert_complains(say("fork", "first", 3, *root), 2, "rejected at syntax", "valid: 001, 002, 004")
    assert_complains(say("fork", "nothing", 1, *root), 2, "there is no run 'nothing'", "first")
    assert_complains(say("fork", "first", 2, *root, "--name", "first"), 2, "there is a run first", "resume --root")
    assert_complains(say("fork", "first", 2, *root, "--proposer", "nobody"), 2, "no proposer 'nobody'", "scripted")
    (toy.folder / "baselines" / "00_plain.py").write_text(harness("ok"))
    assert_complains(say("fork", "first", 2, *root), 3, "is not the one this run was begun with", "undo the change")
    assert [one.name for one in path.parent.iterdir() if one.is_dir()] == ["first"]
