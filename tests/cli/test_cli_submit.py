"""`submit`: a harness from outside becomes an iteration, said to a person and to a program."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from run_kit import (
    SYNTAX_ERROR,
    Toy,
    assert_complains,
    assert_nothing_twice,
    count_lines,
    executed,
    harness,
    lines,
    recorded,
    rules,
    say,
    started,
    wait_until,
    write_candidate,
    write_toy,
)

CASES = 6


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("submit") / "domain"
    toy = write_toy(
        folder,
        cases=CASES,
        baselines={"00_plain.py": harness("plain")},
        proposals={"1_long.py": harness("long"), "2_other.py": harness("x")},
    )
    said = say("run", *toy.arguments("--root", folder.parent / "runs", "--name", "first", "--quiet"))
    assert said.code == 0, said.err
    return toy


@pytest.fixture
def root(toy: Toy, tmp_path: Path) -> Path:
    """The folder of all runs, with one in it whose search is over."""
    return shutil.copytree(toy.folder.parent / "runs", tmp_path / "runs")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write_candidate(tmp_path / "mine.py", harness("good"))


def test_a_harness_gets_a_number_and_a_verdict(root: Path, mine: Path) -> None:
    said = say("submit", mine, "--root", root)
    assert said.code == 0, said.err
    heads, beaten, row, legend = said.out.splitlines()
    assert heads.split()[:3] == ["iter", "name", "accuracy"]
    assert row.split()[:4] == ["003", "*+", "mine", "1.000"]
    assert beaten.split()[0] == "001"
    assert row.split()[-1] == "indecisive"  # one case more than the incumbent
    assert legend.startswith("* incumbent")
    assert "round 3 closed; incumbent 003 (new)" in said.err.splitlines()
    assert row.split() == say("scoreboard", "--root", root).out.splitlines()[4].split()


def test_as_json_it_is_the_line_of_the_summary(root: Path, mine: Path) -> None:
    said = say("submit", mine, "--root", root, "--json", "--quiet")
    assert (said.code, said.err) == (0, "")
    page = said.page
    assert (page["iteration"], page["round"], page["state"], page["against"]) == (3, 3, "complete", 1)
    assert (page["score"], page["verdict"], page["parents"]) == (1.0, "indecisive", [1])
    assert (page["run"], Path(page["path"])) == ("first", root / "first")
    assert {**lines(root / "first" / "evolution_summary.jsonl")[-1], "run": "first", "path": page["path"]} == page


def test_a_folder_is_taken_with_what_it_says_of_itself(root: Path, tmp_path: Path) -> None:
    about = {"hypothesis": "h", "axis": "a", "components": ["c", "d"], "predicted_effect": "+1", "parents": [0, 2]}
    folder = write_candidate(
        tmp_path / "folder",
        {
            "harness.py": harness("good", before="import json\nfrom pathlib import Path"),
            "notes.txt": "beside it",
            "reasoning.md": "because of\nthis",
            "proposal.json": json.dumps(about),
        },
    )
    said = say("submit", folder, "--run", "first", "--root", root, "--json")
    assert said.code == 0, said.err
    record = recorded(root / "first").iteration(3).proposal.model_dump()
    assert {name: record[name] for name in about} == about
    assert (record["name"], record["by_hand"], record["layout"]) == ("folder", True, "folder")
    store = recorded(root / "first").store
    assert set(store.files(3)) == {"harness.py", "notes.txt"}
    assert store.reasoning(3) == "because of\nthis"


def test_options_replace_what_lies_beside_the_harness(root: Path, tmp_path: Path) -> None:
    about = json.dumps({"hypothesis": "h", "axis": "a", "predicted_effect": "+1", "parents": [2], "name": "n"})
    folder = write_candidate(
        tmp_path / "folder", {"harness.py": harness("good"), "proposal.json": about, "reasoning.md": "r"}
    )
    why = write_candidate(tmp_path / "why.md", "other reasons")
    options = [
        "--name",
        "other",
        "--hypothesis",
        "h2",
        "--axis",
        "a2",
        "--reasoning",
        why,
        "--parent",
        0,
        "--parent",
        1,
    ]
    said = say("submit", folder, "--root", root, "--json", *options)
    assert said.code == 0, said.err
    page = said.page
    assert (page["name"], page["hypothesis"], page["axis"], page["parents"]) == ("other", "h2", "a2", [0, 1])
    assert page["predicted_effect"] == "+1"
    assert recorded(root / "first").store.reasoning(3) == "other reasons"


def test_one_that_is_rejected_exits_3_and_is_recorded(root: Path, tmp_path: Path) -> None:
    broken = write_candidate(tmp_path / "broken.py", SYNTAX_ERROR)
    said = say("submit", broken, "--root", root, "--quiet")
    assert_complains(said, 3, "iteration 003 does not pass the ladder at syntax: harness.py, line 2", "submit it again")
    assert recorded(root / "first").iteration(3).state == "rejected"
    said = say("submit", broken, "--root", root, "--quiet", "--json")
    assert (said.code, said.page["state"], said.page["rejected"]["stage"]) == (3, "rejected", "syntax")
    raising = harness("good", body="raise ValueError('\\x1b[2J\\x1b[1;1Hall is well')")
    said = say("submit", write_candidate(tmp_path / "raises.py", raising), "--root", root, "--quiet")
    assert said.code == 3
    assert "ValueError: \\x1b[2J\\x1b[1;1Hall is well" in said.err
    assert "\x1b" not in said.err


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["nowhere.py"], 2, "there is no harness at nowhere.py", "harness.py"),
        (["{tmp}"], 2, "holds no harness.py", "is named harness.py"),
        (["{mine}", "--run", "nope"], 2, "there is no run 'nope'", "runs here, newest first: first"),
        (["{mine}", "--parent", "9"], 2, "there is no iteration 009 in run first", "recorded iterations: 000 to 002"),
        (["{mine}", "--parent", "-1"], 2, "invalid value for '--parent'", "submit --help"),
        (["{mine}", "--reasoning", "nowhere.md"], 2, "cannot read nowhere.md", "--reasoning takes a text file"),
        (["{mine}", "--budget-calls", "2"], 2, "the budget of calls is spent", "submit --help"),
        (["{mine}", "--budget-cases", "19"], 2, "the budget of case evaluations", "submit --help"),
        ([], 2, "missing argument", "submit --help"),
    ],
)
def test_what_cannot_be_handed_in_says_why_and_changes_nothing(
    arguments: list[str], code: int, message: str, hint: str, *, root: Path, mine: Path, tmp_path: Path
) -> None:
    given = [argument.format(mine=mine, tmp=tmp_path) for argument in arguments]
    assert_complains(say("submit", *given, "--root", root, "--quiet"), code, message, hint)
    assert len(recorded(root / "first")) == 3
    assert say("summary", "--root", root, "--json").page["status"] == "all 2 candidates were proposed"


def test_a_parent_of_a_folder_that_does_not_exist_is_told(root: Path, tmp_path: Path) -> None:
    files = {"harness.py": harness("good"), "proposal.json": '{"parents": [7]}'}
    folder = write_candidate(tmp_path / "folder", files)
    assert_complains(say("submit", folder, "--root", root, "--quiet"), 2, "there is no iteration 007", "000 to 002")
    assert say("submit", folder, "--root", root, "--quiet", "--parent", 2).code == 0


@pytest.mark.slow
def test_one_that_is_killed_or_interrupted_in_the_middle_is_ended_by_resume(
    toy: Toy, root: Path, mine: Path, tmp_path: Path
) -> None:
    script = toy.script.read_text()
    whole = say("submit", mine, "--root", shutil.copytree(root, tmp_path / "whole"), "--json").page
    try:
        for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
            runs = shutil.copytree(root, tmp_path / str(code))
            run = runs / "first"
            toy.write_script(rules(CASES, delay_ms=500))
            with started("submit", mine, "--root", runs, "--name", "mine") as process:
                trace = run / "iterations" / "003" / "eval_trace.jsonl"
                assert wait_until(process, lambda trace=trace: count_lines(trace) >= 1)  # type: ignore[misc]
                process.send_signal(number)
                out, err = process.communicate(timeout=60)
            assert (process.returncode, out) == (code, ""), err
            assert "Traceback" not in err
            toy.script.write_text(script)
            if number == signal.SIGINT:
                assert f"interrupted: metaharness resume --root {runs} first evaluates what is left" in err
                refused = say("submit", mine, "--root", runs, "--quiet")
                assert_complains(refused, 2, "round 3 of this run has not ended", "` ends it; then submit again")
            resumed = executed("resume", "--root", runs, "--json")
            assert resumed.returncode == 0, resumed.stderr
            row = json.loads(resumed.stdout)["scoreboard"][3]
            assert (row["name"], row["verdict"], row["against"]) == ("mine", whole["verdict"], whole["against"])
            assert_nothing_twice(run)
    finally:
        toy.script.write_text(script)
