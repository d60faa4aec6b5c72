"""`finish` as a person and as a program meet it: what is said, asked and refused."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from finish_kit import SEARCH, TEST, content, finish_toy, read_sealed, searched_run, write_test
from run_kit import COLOURS, Toy, assert_complains, command, count_lines, executed, harness, say, started, wait_until

OPENING = (
    f"opening the test split ({TEST} cases) for 002 1_other and 000 00_plain. "
    "This closes run run: nothing is added to it afterwards."
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return finish_toy(tmp_path_factory.mktemp("cli-finish") / "domain")


@pytest.fixture(scope="module")
def searched(toy: Toy) -> Path:
    return anyio.run(searched_run, toy, toy.folder.parent / "runs")


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    """A run whose search is over, alone in its folder."""
    return shutil.copytree(searched, tmp_path / "runs" / "run")


def apart(folder: Path, **options: Any) -> tuple[Toy, Path]:
    """A domain that the test may change, and its searched run."""
    toy = finish_toy(folder / "domain", **options)
    return toy, anyio.run(searched_run, toy, folder / "runs")


# --- what is said -----------------------------------------------------------------------------------------------


def test_the_result_is_printed_and_what_happens_goes_to_stderr(run: Path) -> None:
    said = say("finish", "--yes", "--root", run.parent)
    assert said.code == 0, said.err
    assert said.err.splitlines() == [OPENING]
    head, heads, winner, baseline, headline = said.out.splitlines()
    assert head.startswith(f"sealed test of run run: {TEST} cases, model scripted:")
    assert head.endswith(", look 1")
    assert heads.split() == ["iter", "name", "accuracy", "context_chars"]
    assert winner.split()[:4] == ["002", "winner", "1_other", "0.875"]
    assert baseline.split()[:4] == ["000", "baseline", "00_plain", "0.125"]
    assert headline.startswith("002 is better than the best baseline: accuracy 002 minus 000 = +0.750 [+")
    assert headline.endswith("p = 0.031, 8 cases, paired")
    again = say("finish", "--yes", "--root", run.parent)
    assert again == (0, said.out, "")
    assert say("finish", "--yes", run, "--quiet", "--yes").out == said.out


def test_as_json_it_is_the_result_on_disk(run: Path) -> None:
    said = say("finish", "--yes", "run", "--root", run.parent, "--json", "--quiet")
    assert (said.code, said.err) == (0, "")
    assert said.page == {**read_sealed(run, "result.json"), "path": str(run)}
    assert {"verdict", "delta", "low", "high", "p", "look", "missing", "rows"} <= set(said.page)


def test_a_second_look_is_told_before_and_after(run: Path) -> None:
    second = shutil.copytree(run, run.parent / "second")
    assert say("finish", "--yes", run).code == 0
    said = say("finish", "--yes", second, "--json")
    assert f"({TEST} cases; earlier runs here have opened it, this is look 2)" in said.err
    assert said.page["look"] == 2
    text = say("finish", "--yes", second).out
    assert text.splitlines()[0].endswith(", look 2")
    assert text.splitlines()[-1].startswith("look 2: earlier runs here have opened the same cases")


def test_a_baseline_that_was_best_is_said_to_be_so(tmp_path: Path) -> None:
    _, run = apart(tmp_path, proposals={"1_bad.py": harness("x")})
    said = say("finish", "--yes", run)
    assert f"for 000 00_plain. This closes run {run.name}" in said.err
    assert said.out.splitlines()[2].split()[:3] == ["000", "baseline", "00_plain"]
    assert said.out.splitlines()[3:] == ["baseline 000 was the best on search, so there was nothing to test it against"]


def test_missing_pairs_exit_1_and_the_safe_verdict_is_given_on_request(tmp_path: Path) -> None:
    toy, run = apart(tmp_path)
    rules = [json.loads(line) for line in toy.script.read_text().splitlines()]
    error = {"kind": "infrastructure", "message": "overloaded", "status_code": 529}
    toy.write_script([{"contains": "[plain] test item 00", "error": error}, *rules])
    said = say("finish", "--yes", run, "--quiet")
    assert_complains(said, 1, "1 of 16 pairs of the test have no value yet", "--accept-missing gives the verdict")
    said = say("finish", "--yes", run, "--accept-missing")
    assert said.code == 0
    assert "going on with the test that was opened: 002 1_other and 000 00_plain" in said.err
    assert "1 pair has no value; what is said holds whatever they would have been" in said.out
    assert "002 is better than the best baseline" in said.out


def test_candidates_that_cannot_win_as_cases_are_missing_are_named_before_the_opening(tmp_path: Path) -> None:
    """They might have won, and the run is closed."""
    toy = finish_toy(tmp_path / "domain")
    rules = [json.loads(line) for line in toy.script.read_text().splitlines()]
    error = {"kind": "infrastructure", "message": "overloaded", "status_code": 529}
    toy.write_script([{"contains": "[other] item 00", "error": error}, *rules])
    run = anyio.run(searched_run, toy, tmp_path / "runs")
    said = say("finish", "--yes", run, "--json")
    assert said.page["winner"] == 3
    resume = f"metaharness resume --root {run.parent} {run.name}"
    assert f"not in question, as cases have no value: 002; {resume} asks them again" in said.err.splitlines()


def test_all_pairs_missing_leave_it_undecided(tmp_path: Path) -> None:
    toy, run = apart(tmp_path)
    rules = [json.loads(line) for line in toy.script.read_text().splitlines()]
    toy.write_script([{"contains": "test item", "error": {"kind": "infrastructure", "message": "m"}}, *rules])
    said = say("finish", "--yes", run, "--accept-missing")
    assert said.code == 0, said.err
    assert "it is not decided whether 002 is better than the best baseline" in said.out.splitlines()
    assert [line.split()[3:] for line in said.out.splitlines()[2:4]] == [["-", "-"], ["-", "-"]]


def test_a_name_written_by_a_model_cannot_control_the_terminal(tmp_path: Path) -> None:
    named = {"harness.py": harness("other"), "proposal.json": json.dumps({"name": "\x1b[2Jevil\n\rname"})}
    _, run = apart(tmp_path, proposals={"1_other": named})
    said = say("finish", "--yes", run)
    assert said.code == 0, said.err
    assert "\x1b" not in said.out + said.err
    assert "\r" not in said.out + said.err
    assert "002 \\x1b[2Jevil name and" in said.err
    assert "\\x1b[2Jevil name" in said.out


# --- what is refused --------------------------------------------------------------------------------------------


def test_what_is_not_there_is_named_with_what_is(run: Path, tmp_path: Path) -> None:
    root = run.parent
    assert_complains(
        say("finish", "--yes", "nope", "--root", root), 2, "there is no run 'nope'", "runs here, newest first: run"
    )
    assert_complains(
        say("finish", "--yes", "--root", tmp_path / "no"), 2, "there is no run in", "`metaharness run` makes one"
    )


def test_a_domain_without_a_test_split_says_so_and_stays_open(tmp_path: Path) -> None:
    toy = finish_toy(tmp_path / "domain")
    data = toy.folder / "data" / "test.jsonl"
    data.unlink()
    run = anyio.run(searched_run, toy, tmp_path / "runs")
    before = content(run)
    said = say("finish", "--yes", run)
    assert_complains(said, 3, "cases('test') of colours failed: FileNotFoundError", "check the domain's data")
    data.write_text("")
    said = say("finish", "--yes", run)
    assert_complains(said, 2, "split test of colours has no cases, so this run cannot be finished", "add a test split")
    assert content(run) == before
    write_test(toy, 2)
    assert say("finish", "--yes", run, "--json").page["cases"] == 2


def test_a_budget_that_does_not_reach_names_the_option(run: Path) -> None:
    said = say("finish", "--yes", run, "--budget-calls", 3, "--quiet")
    assert_complains(
        said, 2, "the budget of 3 calls is spent", f"metaharness finish --root {run.parent} {run.name} --budget-calls N"
    )
    said = say("finish", "--yes", run, "--budget-cases", 4 * SEARCH, "--quiet")
    assert_complains(said, 2, "the test needs 16 case evaluations, and 0 are left", "--budget-cases 40")
    assert not (run / "sealed").exists()


@pytest.mark.slow
def test_one_process_at_a_time_and_the_other_is_told_which(tmp_path: Path) -> None:
    toy, run = apart(tmp_path)
    rules = [json.loads(line) for line in toy.script.read_text().splitlines()]
    toy.write_script([{"contains": "test item 07", "text": COLOURS[1], "delay_ms": 100_000}, *rules])
    with started("finish", "--yes", run, "--quiet") as process:
        assert wait_until(process, lambda: count_lines(run / "sealed" / "002" / "eval_trace.jsonl") == TEST - 1)
        for arguments in (["finish", run], ["resume", run], ["submit", tmp_path / "h.py", "--run", run]):
            (tmp_path / "h.py").write_text(harness("good"))
            said = say(*arguments)
            assert_complains(said, 1, f"is being recorded by process {process.pid}", "commands that only read")
        assert say("summary", run).out.splitlines()[1] == "status      the test split was opened; finish goes on"


def test_after_the_opening_nothing_else_is_recorded(run: Path, tmp_path: Path) -> None:
    assert say("finish", "--yes", run).code == 0
    (tmp_path / "h.py").write_text(harness("good"))
    for arguments in (["resume", run], ["submit", tmp_path / "h.py", "--run", run]):
        assert_complains(say(*arguments), 2, "run run is finished: its test split was opened", "begin a new run")
    (run / "sealed" / "result.json").unlink()
    for arguments in (["resume", run], ["submit", tmp_path / "h.py", "--run", run]):
        assert_complains(say(*arguments), 2, "the test split of run run was opened", "` goes on with the test")


# --- asking -----------------------------------------------------------------------------------------------------


@contextmanager
def on_a_terminal(*arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A real process on a terminal of its own, and the other end of that terminal."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        ) as process:
            os.close(theirs)
            try:
                yield process, ours
            finally:
                process.kill()
    finally:
        os.close(ours)


def read(terminal: int, until: str | None = None) -> str:
    """What is shown on a terminal up to this text, or to its end."""
    shown = b""
    while until is None or until.encode() not in shown:
        assert select.select([terminal], [], [], 60)[0], shown
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux: the other side was closed
            data = b""
        if not data:
            assert until is None, shown
            break
        shown += data
    return shown.decode()


QUESTION = "Open it? [y/N]: "


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"], ids=["no", "nothing", "end of input"])
def test_on_a_terminal_it_asks_first_and_anything_but_yes_leaves_the_run_sealed(answer: str, run: Path) -> None:
    before = content(run)
    with on_a_terminal("finish", run) as (process, terminal):
        asked = read(terminal, QUESTION)
        assert OPENING[:40] in asked.replace("\r\n", "")
        os.write(terminal, answer.encode())
        shown = read(terminal)
        assert process.wait(timeout=60) == 1
    assert "it stays sealed" in shown
    assert "Traceback" not in shown
    assert content(run) == before
    assert say("resume", run, "--quiet").code == 0


@pytest.mark.slow
def test_on_a_terminal_yes_opens_it_and_an_opened_one_does_not_ask_again(run: Path) -> None:
    with on_a_terminal("finish", run, "--quiet") as (process, terminal):
        asked = read(terminal, QUESTION)
        assert "This closes run run" in asked  # also with --quiet: nobody answers what was not said
        os.write(terminal, b"y\n")
        shown = read(terminal)
        assert process.wait(timeout=60) == 0
    assert "002 is better than the best baseline" in shown
    (run / "sealed" / "result.json").unlink()
    with on_a_terminal("finish", run) as (process, terminal):
        shown = read(terminal)
        assert process.wait(timeout=60) == 0
    assert "going on with the test that was opened" in shown
    assert QUESTION not in shown


@pytest.mark.slow
def test_on_a_terminal_yes_can_be_said_before(run: Path) -> None:
    with on_a_terminal("finish", run, "--yes") as (process, terminal):
        shown = read(terminal)
        assert process.wait(timeout=60) == 0
    assert QUESTION not in shown
    assert (run / "sealed" / "result.json").is_file()


@pytest.mark.slow
def test_control_c_at_the_question_exits_130_and_leaves_the_run_sealed(run: Path) -> None:
    before = content(run)
    with on_a_terminal("finish", run) as (process, terminal):
        read(terminal, QUESTION)
        while process.poll() is None:  # one that comes between the question and the reading is only noticed later
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        shown = read(terminal)
    assert process.returncode == 130
    assert "error: interrupted" in shown
    assert "Traceback" not in shown
    assert content(run) == before


@pytest.mark.slow
def test_without_a_terminal_it_opens_nothing_unless_told_so(run: Path) -> None:
    before = content(run)
    for given in (b"", b"y\n"):
        refused = subprocess.run(command("finish", run), input=given, capture_output=True, check=False)
        assert refused.returncode == 2
        assert b"stays sealed: there is no terminal to ask at" in refused.stderr
        assert f"metaharness finish --root {run.parent} {run.name} --yes".encode() in refused.stderr
    assert content(run) == before
    done = executed("finish", "--yes", run, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert QUESTION not in done.stderr
    assert "002 is better than the best baseline" in done.stdout
