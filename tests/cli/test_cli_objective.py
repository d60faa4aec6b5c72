"""`--objective`: chosen on the command line, seen in every table of the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_kit import Toy, assert_complains, harness, say, write_toy


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("objective") / "domain"
    return write_toy(folder, baselines={"00_plain.py": harness("plain")}, proposals={"1_good.py": harness("good")})


def test_what_was_chosen_is_told_at_the_start_and_stands_in_every_table_to_the_end(toy: Toy, tmp_path: Path) -> None:
    chosen = ("--objective", "latency:min", "--objective", "harness_chars:min", "--objective", "typo:min")
    root = ("--root", tmp_path)
    run = say("run", *toy.arguments(*chosen, *root, "--name", "r", "-y"))
    assert run.code == 0
    told = run.err.splitlines()
    over = "accuracy (maximise), latency_ms (minimise), harness_chars (minimise), typo (minimise)"
    assert f"frontier over {over}; the first decides" in told
    typo = "typo has no value: no grade of any candidate carries such a metric, so none is on the frontier"
    assert told.index("round 0 closed; incumbent 000 (new)") + 1 == told.index(typo)  # before a proposal is paid for
    assert told.count(typo) == 1
    assert run.out.splitlines()[0].split()[:6] == ["iter", "name", "accuracy", "latency_ms", "harness_chars", "typo"]
    assert run.out.splitlines()[-1] == typo

    rows = say("scoreboard", "r", *root, "--json").page["iterations"]
    lengths = [len(harness("plain")), len(harness("good"))]
    assert [row["objectives"]["harness_chars"]["mean"] for row in rows] == lengths
    assert f"{lengths[1]} characters" in say("show", 1, "--run", "r", *root).out
    assert "harness_chars" in say("finish", "r", *root, "--yes").out
    assert say("export", "r", 1, *root, "--to", tmp_path / "out").code == 0
    assert f"| harness_chars | {lengths[1]}" in (tmp_path / "out" / "README.md").read_text()
    kept = json.loads((tmp_path / "r" / "config.json").read_text())
    assert kept["config"]["objectives"] == list(chosen[1::2])


def test_a_plan_takes_them_too_and_a_bad_one_is_refused_by_whatever_begins_runs(toy: Toy, tmp_path: Path) -> None:
    plan = say("plan", *toy.arguments("--objective", "calls:min"))
    assert "frontier over accuracy (maximise), calls (minimise); the first decides" in plan.out.splitlines()
    declared = say("plan", *toy.arguments("--json")).page
    assert [one["name"] for one in declared["objectives"]] == ["accuracy", "context_chars"]
    names = "such as usd:min; NAME is context_chars, calls, input_tokens, output_tokens, usd, latency, harness_chars"
    for command in ("run", "plan", "serve"):
        said = say(command, "--domain", toy.folder, "--model", f"scripted:{toy.script}", "--objective", "usd:less")
        assert_complains(said, 2, "the objective 'usd:less' is not NAME:min or NAME:max", names)
