"""`run` and `resume`, and every command that reads what they record."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from run_kit import (
    CASES,
    Said,
    Toy,
    assert_complains,
    command,
    essence,
    executed,
    harness,
    lines,
    recorded,
    rules,
    say,
    write_toy,
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("cli") / "domain")


@pytest.fixture(scope="module")
def told(toy: Toy) -> Said:
    """A whole run."""
    return say("run", *toy.arguments("--root", root_of(toy), "--name", "first", "-k", 2))


@pytest.fixture(scope="module")
def root(toy: Toy, told: Said) -> Path:
    """The folder of all runs, with one in it."""
    assert told.code == 0, told.err
    return root_of(toy)


def root_of(toy: Toy) -> Path:
    return toy.folder.parent / "runs"


# --- run --------------------------------------------------------------------------------------------------------


def test_run_prints_the_scoreboard_to_stdout_and_everything_else_to_stderr(told: Said, root: Path) -> None:
    assert told.code == 0
    assert told.out.splitlines()[0].split() == ["iter", "name", "accuracy", "context_chars", "delta", "p", "verdict"]
    assert told.out == say("scoreboard", "--root", root).out
    for line in (
        "000 00_plain: accuracy 0.333",
        "003 02_broken: rejected at syntax: harness.py, line 2: expected ':'",
        "round 2 closed; incumbent 004 (new)",
        f"run directory: {root / 'first'}",
        f"to look closer: metaharness scoreboard --root {root} first",
    ):
        assert line in told.err.splitlines()
    assert "all 6 candidates were proposed: 6 candidates, 74 case evaluations, 72 calls" in told.err


def test_run_as_json_says_what_came_out(toy: Toy, tmp_path: Path) -> None:
    said = say("run", *toy.arguments("--root", tmp_path, "-n", 1, "--limit", 3, "--json", "--quiet"))
    assert said.code == 0
    page = said.page
    assert page["status"] == "the one candidate was proposed"
    assert (page["domain"], page["iterations"], page["rounds"]) == ("colours", 3, 2)
    assert Path(page["path"]) == tmp_path / page["run"]
    assert [row["name"] for row in page["scoreboard"]] == ["00_plain", "01_long", "01_other"]
    assert page["spent"]["calls"] == 9
    assert len(said.err.splitlines()) == 4  # quiet: the end alone


def test_run_takes_the_choices_into_its_configuration(toy: Toy, tmp_path: Path) -> None:
    options = "-n 1 -k 3 --patience 2 -c 2 --trials 2 --limit 2 --seed 7 --budget-calls 99 --budget-candidates 5"
    further = "--budget-cases 500 --budget-tokens 9999 --price openai:x=1,2 --name chosen"
    said = say("run", *toy.arguments(*options.split(), *further.split(), "--root", tmp_path))
    assert said.code == 0, said.err
    config = json.loads((tmp_path / "chosen" / "config.json").read_text())["config"]
    assert (config["iterations"], config["candidates_per_round"], config["patience"]) == (1, 3, 2)
    assert (config["concurrency"], config["trials"], config["limit"], config["seed"]) == (2, 2, 2, 7)
    bounds = {"calls": 99, "candidates": 5, "case_evaluations": 500, "tokens": 9999, "usd": None}
    assert config["budget"] == {**bounds, "roles": {}}
    assert config["prices"] == {"openai:x": [1.0, 2.0]}
    assert config["domain"] == str(toy.folder)


def test_a_run_can_be_resumed_from_another_folder(toy: Toy, tmp_path: Path) -> None:
    data = {"cwd": toy.folder.parent}
    arguments = ["--domain", "domain", "--model", "scripted:domain/model.jsonl", "--data", "domain/data"]
    first = executed("run", *arguments, "--root", tmp_path, "-n", 2, "--budget-candidates", 1, **data)
    assert first.returncode == 0, first.stderr
    assert "to go on with a higher budget: metaharness resume" in first.stderr
    again = executed("resume", "--root", tmp_path, "--budget-candidates", 2, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(again.stdout.splitlines()) == 1 + 4 + 1


@pytest.mark.parametrize("quiet", [[], ["--quiet"]], ids=["told", "quiet"])
def test_a_name_that_is_taken_gets_a_number_and_that_is_said(quiet: list[str], toy: Toy, tmp_path: Path) -> None:
    arguments = toy.arguments("--root", tmp_path, "-n", 0, "--limit", 2, "--name", "mine", "--json", *quiet)
    first, again = say("run", *arguments), say("run", *arguments)
    assert (first.page["run"], again.page["run"]) == ("mine", "mine-2")
    line = "there is a run mine already, so this one is mine-2"
    assert line not in first.err.splitlines()
    assert line in again.err.splitlines()


def test_a_script_is_proposed_as_far_as_it_goes(toy: Toy, tmp_path: Path) -> None:
    said = say("run", *toy.arguments("--root", tmp_path, "-n", 50, "--limit", 2, "--json"))
    assert said.page["iterations"] == 8
    assert "to look closer" in said.err


def test_no_iterations_need_no_proposals(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", proposals={})
    said = say("run", *toy.arguments("--root", tmp_path / "runs", "-n", 0, "--json"))
    assert (said.code, said.page["iterations"]) == (0, 2)
    refused = say("run", *toy.arguments("--root", tmp_path / "runs"))
    assert_complains(refused, 2, "holds no proposals for the scripted proposer", "with --iterations 0")


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["--proposer", "oracle"], 2, "no proposer 'oracle'", "valid: scripted"),
        (["--name", "../x"], 2, "'../x' cannot be the name of a run", "up to 100 letters"),
        (["--name", "latest"], 2, "'latest' cannot be the name", "not 'latest'"),
        (["--sandbox", "cloud"], 2, "no sandbox 'cloud'", "valid: "),
        (["--budget-cases", "3"], 2, "a budget of 3 case evaluations does not reach the 2 baselines", "--budget-cases"),
        (["-m", "openai:x", "--budget-usd", "1"], 1, "the price of openai:x is unknown", "--price openai:x="),
        (["-m", "scripted:nowhere.jsonl"], 2, "cannot be read", "give scripted:PATH"),
        (["--data", "/nowhere"], 3, "cases('search') of colours failed: FileNotFoundError", "data"),
    ],
)
def test_a_run_that_cannot_begin_says_why_and_leaves_no_directory(
    arguments: list[str], code: int, message: str, hint: str, *, toy: Toy, tmp_path: Path
) -> None:
    assert_complains(say("run", *toy.arguments("--root", tmp_path / "runs", *arguments)), code, message, hint)
    assert not list((tmp_path / "runs").glob("*/config.json"))


def test_a_baseline_that_fails_the_ladder_exits_3_and_is_named(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain"), "01_odd.py": "x = 1\n"})
    said = say("run", *toy.arguments("--root", tmp_path / "runs", "--name", "r", "--quiet"))
    assert_complains(
        said, 3, "baseline 01_odd fails the ladder at interface: the module defines no class Harness", "rejected.json"
    )
    assert_complains(say("resume", "--root", tmp_path / "runs"), 3, "baseline 01_odd fails", "start a new run")


def test_a_candidate_that_hides_why_it_fails_is_rejected_like_any_other(tmp_path: Path) -> None:
    hides = "import traceback\ntraceback.TracebackException.format = lambda self, **options: [' ']\n"
    proposals = {"1_hides.py": hides + harness("good", body="raise ValueError"), "2_good.py": harness("good")}
    toy = write_toy(tmp_path / "domain", proposals=proposals)
    said = say("run", *toy.arguments("--root", tmp_path / "runs", "--limit", 3, "--json"))
    assert said.code == 0, said.err
    assert [row["state"] for row in said.page["scoreboard"]] == ["complete", "complete", "rejected", "complete"]
    assert "002 1_hides: rejected at smoke:" in said.err


def test_resume_asks_missing_pairs_again_and_says_so_before(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", proposals={"1_good.py": harness("good")})
    error = {"kind": "infrastructure", "message": "overloaded", "status_code": 529}
    toy.write_script([{"contains": "[good] item 09", "error": error}, *rules()])
    first = say("run", *toy.arguments("--root", tmp_path / "runs", "--name", "r"))
    assert first.code == 0
    assert "002 1_good: accuracy 1.000, 1 missing" in first.err
    assert "indecisive (incomplete: 1 of 12 missing" in first.out or "better (incomplete: 1 of 12 missing" in first.out
    assert f"to go on: metaharness resume --root {tmp_path / 'runs'} r" in first.err
    assert "1 of 12 pairs of 002 has no value (infrastructure): overloaded" in first.err.splitlines()
    toy.write_script(rules())
    again = say("resume", "r", "--root", tmp_path / "runs", "--json")
    assert again.code == 0
    row = again.page["scoreboard"][2]
    assert (row["state"], row["verdict"], row["ended"]) == ("complete", "better", CASES)
    assert json.loads((tmp_path / "runs/r/iterations/002/score.json").read_text())["revision"] == 2


def test_a_domain_that_changed_since_is_refused(toy: Toy, root: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(root, tmp_path / "runs")
    changed = shutil.copytree(toy.folder, tmp_path / "domain")
    (changed / "DOMAIN.md").write_text("other words")
    config = moved / "first" / "config.json"
    config.write_text(config.read_text().replace(str(toy.folder), str(changed)))
    said = say("resume", "--root", moved)
    assert_complains(said, 3, "is not the one this run was begun with; changed: domain", "start a new run")


# --- reading ----------------------------------------------------------------------------------------------------


def test_runs_lists_every_run_and_one_that_cannot_be_read_hides_no_other(root: Path, tmp_path: Path) -> None:
    said = say("runs", "--root", root)
    assert (said.code, said.err) == (0, "")
    heads, row = said.out.splitlines()
    assert heads.split() == ["run", "domain", "created", "status", "iterations", "best", "score"]
    cells = row.split()
    assert cells[:2] + cells[3:6] == ["first", "colours", "ended", "8", "7"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", cells[2])
    moved = shutil.copytree(root, tmp_path / "runs")
    newer = shutil.copytree(root / "first", moved / "newer") / "config.json"
    newer.write_text(newer.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    (moved / "damaged").mkdir()
    (moved / "damaged" / "config.json").write_text("{")
    rows = {row["run"]: row for row in say("runs", "--root", moved, "--json").page}
    assert set(rows) == {"first", "newer", "damaged"}
    names = {"run", "domain", "created", "status", "iterations", "best", "score", "error", "path"}
    assert set(rows["first"]) == names
    assert rows["first"]["status"] == "all 6 candidates were proposed"
    assert rows["newer"]["status"] is None
    assert (rows["first"]["iterations"], rows["first"]["best"], rows["first"]["error"]) == (8, 7, None)
    assert "schema version 9" in rows["newer"]["error"]
    text = say("runs", "--root", moved)
    assert text.code == 0
    assert text.err.count("warning: ") == 2


def test_the_list_says_of_each_run_how_far_it_is(root: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(root, tmp_path / "runs")
    for name in ("going", "stopped", "tested", "opened"):
        shutil.copytree(root / "first", moved / name)
    for name, reason in (("going", None), ("stopped", "stopped")):
        events = moved / name / "events.jsonl"
        *before, last = events.read_text().splitlines(keepends=True)
        ended = [] if reason is None else [json.dumps({**json.loads(last), "reason": reason}) + "\n"]
        events.write_text("".join([*before, *ended]))
    for name in ("tested", "opened"):
        assert say("finish", name, "--root", moved, "--yes", "--quiet").code == 0
    (moved / "opened" / "sealed" / "result.json").unlink()
    heads, *listed = say("runs", "--root", moved).out.splitlines()
    start, end = heads.index("status"), heads.index("iterations")
    assert {line.split()[0]: line[start:end].strip() for line in listed} == {
        "first": "ended",
        "going": "running or interrupted",
        "stopped": "stopped",
        "tested": "finished",
        "opened": "test opened",
    }
    pages = {row["run"]: row["status"] for row in say("runs", "--root", moved, "--json").page}
    assert pages["tested"] == "finished: the test split was opened"


def test_a_summary_says_what_was_reached_on_the_sealed_test(root: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(root, tmp_path / "runs")
    result = say("finish", "first", "--root", moved, "--yes", "--quiet", "--json").page
    assert (result["winner"], result["baseline"]) == (7, 1)
    means = {row["iteration"]: row["objectives"]["accuracy"]["mean"] for row in result["rows"]}
    line = (
        f"sealed test 007 {means[7]:.3f} vs baseline 001 {means[1]:.3f} ({result['delta']:+.3f}), "
        f"{result['verdict']}, look 1"
    )
    assert line in say("summary", "--root", moved).out.splitlines()


def test_a_summary_of_a_run_whose_best_is_a_baseline_names_it_once(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", proposals={})
    assert say("run", *toy.arguments("--root", tmp_path / "runs", "-n", 0, "--quiet")).code == 0
    row = say("finish", "--root", tmp_path / "runs", "--yes", "--quiet", "--json").page["rows"][0]
    line = f"sealed test 001 {row['objectives']['accuracy']['mean']:.3f}, the best baseline itself, look 1"
    assert line in say("summary", "--root", tmp_path / "runs").out.splitlines()


def test_no_runs_at_all_is_not_an_error(tmp_path: Path) -> None:
    assert say("runs", "--root", tmp_path) == (0, f"no runs in {tmp_path}\n", "")
    assert say("runs", "--root", tmp_path, "--json").page == []


def test_a_run_is_found_by_id_beginning_path_and_as_the_latest(root: Path) -> None:
    whole = say("scoreboard", "first", "--root", root)
    assert whole.code == 0
    for name in ("fir", "latest", str(root / "first")):
        assert say("scoreboard", name, "--root", root) == whole


def test_the_scoreboard_as_json_has_a_row_per_candidate(root: Path) -> None:
    page = say("scoreboard", "--root", root, "--json").page
    assert (page["incumbent"], page["frontier"]) == (7, [6, 7])
    assert [row["verdict"] for row in page["iterations"]] == [
        *("baseline", "baseline", "indecisive", "rejected", "indecisive", "rejected", "worse", "indecisive")
    ]
    keys = {
        "iteration",
        "name",
        "round",
        "state",
        "objectives",
        "verdict",
        "against",
        "delta",
        "p",
        "bounds",
        "rejected",
    }
    assert all(keys <= set(row) for row in page["iterations"])
    assert page["iterations"][4]["objectives"]["accuracy"]["mean"] == 1.0


def test_a_trace_shows_cases_and_one_case_shows_its_calls(root: Path) -> None:
    said = say("trace", 4, "--root", root, "--limit", 2)
    assert said.out.count("--- search-") == 2
    assert said.out.splitlines()[-1] == "[2 of 12 cases; 12 recorded]"
    one = say("trace", "004", "--root", root, "--case", "search-07").out
    assert one.startswith("--- search-07 trial 0: ok, score 1\n")
    assert "[user] [good] item 07" in one
    assert "[answer] green" in one
    rejected = say("trace", 5, "--root", root).out
    assert rejected.startswith("rejected at smoke: RuntimeError: not today")
    assert "Traceback" in rejected
    broken = say("trace", 3, "--root", root).out.splitlines()
    assert broken == ["rejected at syntax: harness.py, line 2: expected ':'", "[0 of 0 cases; 0 recorded]"]


def test_failures_are_the_cases_below_the_best_value(root: Path) -> None:
    assert say("trace", 4, "--root", root, "--failures").out == "[0 of 0 cases; 12 recorded]\n"
    found = say("trace", 0, "--root", root, "--failures", "--json").page
    assert {trace["case_id"] for trace in found} == {f"search-{number:02d}" for number in range(4, 12)}
    assert say("trace", 0, "--root", root, "--status", "timeout", "--json").page == []
    assert len(say("trace", 0, "--root", root, "--status", "ok", "--json").page) == CASES


def test_a_trace_as_json_is_what_is_on_disk(root: Path) -> None:
    found = say("trace", 4, "--root", root, "--json").page
    stored = lines(root / "first" / "iterations" / "004" / "eval_trace.jsonl")
    assert sorted(found, key=lambda trace: str(trace["case_id"])) == sorted(
        stored, key=lambda line: str(line["case_id"])
    )


def test_diff_shows_the_source_that_changed(root: Path) -> None:
    out = say("diff", 0, 4, "--root", root).out
    assert "-        return model.complete('[plain] ' + text).text" in out
    assert "+        return model.complete('[good] ' + text).text" in out
    assert "+++ 004/notes.txt" in out
    assert say("diff", 0, 0, "--root", root).out == "000 and 000 have the same source\n"
    page = say("diff", 0, 4, "--root", root, "--json").page
    assert (page["a"], page["b"], page["diff"]) == (0, 4, out.splitlines())


def test_compare_names_the_cases_and_says_that_it_is_exploratory(root: Path) -> None:
    said = say("compare", 4, 0, "--root", root)
    assert said.out.startswith("accuracy: 004 minus 000 = +0.667 [")
    assert "exploratory" in said.out
    assert "  search-04: 0.000 -> 1.000" in said.out
    page = say("compare", 4, 0, "--root", root, "--json").page
    assert page["exploratory"] is True
    assert page["delta"] == pytest.approx(8 / CASES)
    assert (len(page["better"]), page["worse"], len(page["same"]), page["units"]) == (8, [], 4, CASES)
    assert set(page) >= {"a", "b", "low", "high", "p", "method"}
    mirrored = say("compare", 0, 4, "--root", root, "--json").page
    assert (mirrored["delta"], mirrored["p"]) == (-page["delta"], page["p"])
    why = "was rejected at syntax: harness.py, line 2: expected ':'"
    assert say("compare", 3, 0, "--root", root).out == f"003 {why}\n"
    assert say("compare", 0, 3, "--root", root).out == f"003 {why}\n"
    assert say("compare", 5, 3, "--root", root).out.splitlines()[-1] == f"003 {why}"


def test_summary_and_cost_say_what_the_run_has_come_to(root: Path) -> None:
    text = say("summary", "--root", root).out
    assert "status      all 6 candidates were proposed" in text
    assert "best        007 06_short: 1.000" in text
    page = say("summary", "--root", root, "--json").page
    assert {"run", "domain", "status", "iterations", "rounds", "best", "frontier", "spent"} <= set(page)
    stored = json.loads((root / "first" / "summary.json").read_text())
    assert _timeless(page) == _timeless(stored)
    cost = say("cost", "--root", root, "--json").page
    kept = {name: cost[name] for name in ("spent", "limits", "by_role_and_model")}
    assert set(cost) - set(kept) == {"budget", "by_role", "by_model", "by_iteration", "by_day"}
    assert cost["by_role_and_model"][0]["calls"] == cost["spent"]["calls"] == 6 * CASES
    assert _timeless(kept) == _timeless(json.loads((root / "first" / "cost.json").read_text()))
    assert "6 candidates, 74 case evaluations, 72 calls" in say("cost", "--root", root).out


def _timeless(page: dict[str, Any]) -> dict[str, Any]:
    return {**page, "spent": {**page["spent"], "seconds": 0}}


def test_summary_rebuilds_the_derived_files_and_keeps_the_status(toy: Toy, root: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(root, tmp_path / "runs") / "first"
    before = essence(moved)
    derived = [moved / "evolution_summary.jsonl", moved / "summary.json", moved / "cost.json"]
    for path in derived:
        path.unlink()
    config = moved / "config.json"
    config.write_text(config.read_text().replace(str(toy.folder), "/gone"))  # it needs neither domain nor model
    said = say("summary", "--root", moved.parent, "--rebuild")
    assert (said.code, said.err) == (0, "")
    assert "status      all 6 candidates were proposed" in said.out
    assert all(path.is_file() for path in derived)
    assert essence(moved) == before
    assert json.loads((moved / "summary.json").read_text())["status"] == "all 6 candidates were proposed"


@pytest.mark.parametrize("command", ["scoreboard", "summary", "cost"])
def test_reading_commands_change_nothing_in_the_run(command: str, root: Path) -> None:
    before = {path: path.read_bytes() for path in (root / "first").rglob("*") if path.is_file()}
    assert say(command, "--root", root).code == 0
    assert {path: path.read_bytes() for path in (root / "first").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["scoreboard", "nope"], "there is no run 'nope'", "runs here, newest first: first"),
        (["summary", "nope"], "there is no run 'nope'", "runs here"),
        (["cost", "nope"], "there is no run 'nope'", "runs here"),
        (["resume", "nope"], "there is no run 'nope'", "runs here"),
        (["trace", "99"], "there is no iteration 099", "recorded iterations: 000 to 007"),
        (["trace", "0", "--run", "nope"], "there is no run 'nope'", "runs here"),
        (["trace", "0", "--case", "nope"], "iteration 000 has no case 'nope'", "lists its cases"),
        (["trace", "0", "--status", "odd"], "no case has the status 'odd'", "valid: ok, harness_error"),
        (["compare", "0", "99"], "there is no iteration 099", "recorded iterations"),
        (["diff", "99", "0"], "has no iteration 99", "it has 0 to 7"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(arguments: list[str], message: str, hint: str, root: Path) -> None:
    assert_complains(say(*arguments, "--root", root), 2, message, hint)


def test_without_any_run_the_way_to_make_one_is_told(tmp_path: Path) -> None:
    for arguments in (["resume"], ["scoreboard"], ["summary"], ["cost"], ["trace", "0"]):
        assert_complains(say(*arguments, "--root", tmp_path), 2, "there is no run in", "`metaharness run` makes one")


def test_a_run_of_a_newer_version_is_refused(root: Path, tmp_path: Path) -> None:
    config = shutil.copytree(root, tmp_path / "runs") / "first" / "config.json"
    config.write_text(config.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    for arguments in (["scoreboard"], ["resume"]):
        said = say(*arguments, "--root", tmp_path / "runs")
        assert_complains(said, 1, "has schema version 9; this metaharness reads up to version 1", "update metaharness")


def test_a_damaged_record_is_named_with_its_line(root: Path, tmp_path: Path) -> None:
    run = shutil.copytree(root, tmp_path / "runs") / "first"
    trace = run / "iterations" / "000" / "eval_trace.jsonl"
    trace.write_text("not json\n" + trace.read_text())
    assert_complains(say("trace", 0, "--root", run.parent), 1, "eval_trace.jsonl, line 1", "restore the file")


def test_a_run_that_another_process_records_can_be_read_and_not_resumed(root: Path) -> None:
    with recorded(root / "first").store.open(root / "first", record=True):
        assert say("scoreboard", "--root", root).code == 0
        assert_complains(say("resume", "--root", root), 1, "is being recorded by process", "commands that only read")


@pytest.mark.parametrize("arguments", [["trace", "4", "--json"], ["trace", "4"], ["scoreboard"]])
def test_a_reader_that_goes_away_is_told_nothing(arguments: list[str], root: Path) -> None:
    with subprocess.Popen(
        command(*arguments, "--root", root), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read().decode()
    assert (process.returncode, err) == (1, "")


@pytest.mark.parametrize("arguments", [["trace", "4", "--json"], ["trace", "4"], ["scoreboard"], ["--help"]])
def test_an_output_that_cannot_be_written_is_told_in_one_line(arguments: list[str], root: Path) -> None:
    more = [] if arguments == ["--help"] else ["--root", root]
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(command(*arguments, *more), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (said.returncode, said.stderr) == (1, "error: the output cannot be written: No space left on device\n")


def test_a_message_that_cannot_be_written_leaves_the_exit_code(root: Path) -> None:
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(command("scoreboard", "nope", "--root", root), stderr=full, check=False)
    assert said.returncode == 1
