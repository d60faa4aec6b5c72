"""`demo`: a whole search, offline, with the same numbers on every machine."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from run_kit import Said, executed, final_traces, lines, say, started, timeless, wait_until

from metaharness.loading import load_domain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def told(folder: Path) -> Said:
    return say("demo", "--root", folder / "runs")


@pytest.fixture(scope="module")
def page(folder: Path) -> dict[str, Any]:
    """A second demo, elsewhere, in a process of its own without a network or a home."""
    done = executed("demo", "--root", folder / "other", "--json", "--quiet", env=bare(folder))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def bare(folder: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "COVERAGE_PROCESS_START", "COVERAGE_FILE")
    }
    return {
        **kept,
        "HOME": str(folder / "home"),
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }


def test_it_shows_scoreboard_frontier_sealed_test_cost_run_directory_and_what_to_type_next(
    told: Said, folder: Path
) -> None:
    assert told.code == 0
    for part in (
        "00_zero_shot",
        "rejected at import",
        "frontier: ",
        "sealed test of run demo: 120 cases, model embedded:icl, look 1",
        "is better than the best baseline",
        "p <0.001, 120 cases, paired",
        "cost: ",
        f"run directory: {folder / 'runs' / 'demo'}",
        "To look closer",
        "In a repository of your own",
        "From Claude Code",
    ):
        assert part in told.out
    assert "embedded:icl" in told.err


def test_a_second_demo_elsewhere_has_the_same_scoreboard_frontier_and_test(
    told: Said, page: dict[str, Any], folder: Path
) -> None:
    first = say("summary", "demo", "--root", folder / "runs", "--json").page
    for field in ("best", "frontier", "test", "iterations"):
        assert timeless(first[field]) == timeless(page[field])
    board = say("scoreboard", "demo", "--root", folder / "runs", "--json").page
    assert board["iterations"] == page["scoreboard"]
    assert final_traces(folder / "runs" / "demo") == final_traces(folder / "other" / "demo")
    assert told.code == 0


def test_zero_shot_few_shot_and_the_best_candidate_are_far_apart_on_the_sealed_cases(page: dict[str, Any]) -> None:
    means = {row["name"]: row["objectives"]["accuracy"]["mean"] for row in page["scoreboard"] if row["objectives"]}
    best = page["best"]["score"]
    assert means["00_zero_shot"] + 0.15 <= means["02_few_shot_all"] <= best - 0.15
    test = page["test"]
    assert test["delta"] >= 0.15
    assert test["verdict"] == "better"


def test_the_example_has_as_many_tickets_as_promised(told: Said) -> None:
    assert told.code == 0
    domain = load_domain("text_classification")
    from metaharness.domain import Split

    assert [len(list(domain.cases(split))) for split in Split] == [200, 100, 120]


def test_a_third_demo_in_the_same_folder_gets_a_name_of_its_own_and_interrupted_in_its_test_it_is_ended_by_finish(
    told: Said, folder: Path
) -> None:
    assert told.code == 0
    run = folder / "runs" / "demo-2"
    with started("demo", "--root", run.parent, "--quiet") as process:
        assert wait_until(process, lambda: len(lines(run / "sealed" / "calls.jsonl")) > 10)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"interrupted; to go on: metaharness finish --root {run.parent} demo-2"
    assert "Traceback" not in err
    ended = say("finish", "demo-2", "--root", run.parent, "--quiet")
    assert ended.code == 0, ended.err
    assert "sealed test of run demo-2" in ended.out
    assert "look 2: earlier runs here have opened the same cases" in ended.out


def test_interrupted_it_says_how_to_go_on_and_the_run_ends_the_same(page: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "runs"
    with started("demo", "--root", root) as process:
        assert wait_until(process, lambda: len(lines(root / "demo" / "calls.jsonl")) > 150)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
    assert f"to go on: metaharness resume --root {root} demo" in err
    assert "Traceback" not in err
    assert say("resume", "demo", "--root", root, "-q").code == 0
    assert say("finish", "--yes", "demo", "--root", root, "-q").code == 0
    ended = say("summary", "demo", "--root", root, "--json").page
    assert timeless(ended["test"]) == timeless(page["test"])
