"""Ctrl+C and SIGTERM to a real process."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

import pytest
from run_kit import (
    Toy,
    assert_nothing_twice,
    count_lines,
    essence,
    executed,
    finish,
    harness,
    lines,
    rules,
    started,
    wait_until,
    write_toy,
)

from metaharness.run import Run

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    proposals = {"1_good.py": harness("good"), "2_other.py": harness("other")}
    return write_toy(tmp_path / "domain", cases=6, proposals=proposals, delay_ms=8)


def resume_command(stderr: str) -> list[str]:
    """The command that stderr names, to be run by this Python."""
    (line,) = [line for line in stderr.splitlines() if line.startswith("to go on: metaharness resume ")]
    return shlex.split(line)[5:]


def asked_and_written(run: Path) -> tuple[list[str], list[str]]:
    """The prompts of the journal, and those of all traces."""

    def prompt(call: dict[str, dict[str, list[dict[str, str]]]]) -> str:
        return call["request"]["messages"][0]["content"]

    written = [
        prompt(call) for file in run.glob("iterations/*/*trace.jsonl") for line in lines(file) for call in line["calls"]
    ]
    return sorted(prompt(line["call"]) for line in lines(run / "calls.jsonl")), sorted(written)


@pytest.mark.slow
@SIGNALS
async def test_the_first_signal_lets_what_is_in_the_air_end_and_names_the_command_that_goes_on(
    number: signal.Signals, toy: Toy, tmp_path: Path
) -> None:
    whole = Run.create(toy.config(), tmp_path / "runs", name="whole")
    await finish(whole)
    root = tmp_path / "with a space"
    run = root / "whole"
    with started("run", *toy.arguments("--root", root, "--name", "whole", "-c", 2)) as process:
        assert wait_until(process, lambda: count_lines(run / "iterations" / "001" / "eval_trace.jsonl") >= 2)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "what is in the air is finished and written" in stderr
    assert "00_plain" in stdout
    asked, written = asked_and_written(run)
    assert asked == written
    assert lines(run / "events.jsonl")[-1]["kind"] == "ended"
    ended = sum(count_lines(file) for file in run.glob("iterations/*/eval_trace.jsonl"))
    assert f"stopped: 0 candidates, {ended} case evaluations, " in stderr
    assert json.loads((run / "cost.json").read_text())["spent"]["case_evaluations"] == ended
    resumed = executed("resume", *resume_command(stderr))
    assert resumed.returncode == 0, resumed.stderr
    assert essence(run) == essence(whole.store.path)
    assert_nothing_twice(run)


@pytest.mark.slow
async def test_the_second_signal_stops_at_once_and_loses_nothing_that_was_written(toy: Toy, tmp_path: Path) -> None:
    whole = Run.create(toy.config(), tmp_path / "runs", name="whole")
    await finish(whole)
    never = {"contains": "[good] item 05", "text": "blue", "delay_ms": 100_000}
    toy.write_script([never, *rules(6)])
    run = tmp_path / "killed" / "whole"
    with started("run", *toy.arguments("--root", run.parent, "--name", "whole")) as process:
        trace = run / "iterations" / "002" / "eval_trace.jsonl"
        assert wait_until(process, lambda: count_lines(trace) == 5)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        assert any("once more to stop at once" in line for line in said)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        stderr = process.stderr.read()
        assert process.wait(timeout=60) == 130, stderr
    assert "stopped at once" in stderr
    assert "Traceback" not in stderr
    before = {path: path.read_bytes() for path in run.rglob("*.jsonl")}
    assert len(lines(trace)) == 5
    toy.write_script(rules(6))
    resumed = executed("resume", *resume_command(stderr))
    assert resumed.returncode == 0, resumed.stderr
    assert all(path.read_bytes().startswith(content) for path, content in before.items())
    assert essence(run) == essence(whole.store.path)
    assert_nothing_twice(run)


@pytest.mark.slow
def test_an_evaluation_that_is_interrupted_prints_what_it_has_and_exits_130(toy: Toy, tmp_path: Path) -> None:
    toy.write_script(rules(6, delay_ms=300))
    journal = tmp_path / "asked"
    source = harness("good", body=f"open({str(journal)!r}, 'a').write('x\\n')")
    (tmp_path / "harness.py").write_text(source)
    arguments = toy.arguments("-c", 1, "--json", "--no-ladder")
    with started("evaluate", tmp_path / "harness.py", *arguments) as process:
        assert wait_until(process, lambda: count_lines(journal) >= 2)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "error: interrupted" in stderr
    assert "Traceback" not in stderr
    page = json.loads(stdout)
    assert page["metrics"] == {}
    assert 1 <= len(page["cases"]) < 6
    assert {case["status"] for case in page["cases"]} == {"ok"}


@pytest.mark.slow
def test_a_second_signal_ends_an_evaluation_at_once(toy: Toy, tmp_path: Path) -> None:
    toy.write_script(rules(6, delay_ms=100_000))
    journal = tmp_path / "asked"
    (tmp_path / "harness.py").write_text(harness("good", body=f"open({str(journal)!r}, 'a').write('x\\n')"))
    with started("evaluate", tmp_path / "harness.py", *toy.arguments()) as process:
        assert wait_until(process, lambda: count_lines(journal) >= 1)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "error: interrupted" in stderr
    assert "Traceback" not in stderr
