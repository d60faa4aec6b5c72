"""Real `metaharness regrade` processes, killed or interrupted at chosen moments and repeated until they end."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from finish_kit import content
from regrade_kit import JUDGED, SEARCH, evaluate_with, fork_essence, graded_anew, judge_of, regrade_toy
from run_kit import (
    assert_nothing_twice,
    assert_scores_match_traces,
    count_lines,
    executed,
    lines,
    say,
    started,
    wait_until,
)

DELAY_MS = 15
"""Of every answer of the judge, two in the air."""
MOMENTS = (
    ("config", 1),
    ("folders", 1),
    ("calls", 1),
    ("traces", 3),
    ("calls", 9),
    ("folders", 3),
    ("traces", 17),
    ("calls", 21),
    ("scores", 1),
)
"""What is there, and at least how much of it, when the process is killed."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose evaluator has been replaced by one that asks a slow judge."""
    folder = tmp_path_factory.mktemp("killed")

    async def make() -> Path:
        toy, path = await regrade_toy(folder, concurrency=2)
        evaluate_with(toy, JUDGED)
        return path

    path = anyio.run(make)
    judge_of(folder / "judge.jsonl", delay_ms=DELAY_MS)
    return path


@pytest.fixture(scope="module")
def arguments(source: Path) -> list[object]:
    judge = f"scripted:{source.parent.parent / 'judge.jsonl'}"
    return ["regrade", "--root", source.parent, "first", "--quiet", "--judge", judge]


@pytest.fixture(scope="module")
def undisturbed(source: Path) -> dict[str, Any]:
    """What a fork that nobody disturbs comes to."""
    slow = judge_of(source.parent.parent / "judge.jsonl", delay_ms=DELAY_MS)

    async def make() -> dict[str, Any]:
        return fork_essence((await graded_anew(source, name="undisturbed", judge=slow)).store.path)

    return anyio.run(make)


def measure(run: Path, what: str) -> int:
    match what:
        case "config":
            return (run / "config.json").exists()
        case "calls":
            return count_lines(run / "calls.jsonl")
        case "traces":
            return sum(map(count_lines, run.glob("iterations/*/eval_trace.jsonl")))
        case "folders":
            return len(list(run.glob("iterations/[0-9]*")))
    return len(list(run.glob("iterations/*/score.json")))


def reached(run: Path, what: str, amount: int) -> Callable[[], bool]:
    return lambda: measure(run, what) >= amount


@pytest.mark.slow
def test_a_process_killed_again_and_again_comes_to_what_an_undisturbed_one_does(
    source: Path, arguments: list[object], undisturbed: dict[str, Any]
) -> None:
    before, fork = content(source), source.parent / "killed"
    seen: dict[str, bytes] = {}
    ended = False
    for what, amount in MOMENTS:
        with started(*arguments, "--name", "killed") as process:
            assert wait_until(process, reached(fork, what, amount)), (what, process.communicate()[1])
            process.send_signal(signal.SIGKILL)
            ended = process.wait() == 0  # it was quicker than the signal
        for name, kept in seen.items():
            assert (fork / name).read_bytes().startswith(kept), (what, name)  # what was written is never lost
        seen = {path.relative_to(fork).as_posix(): complete(path) for path in fork.rglob("*.jsonl")}
        seen.pop("evolution_summary.jsonl", None)  # derived
    if not ended:
        last = executed(*arguments, "--name", "killed", "--json")
        assert last.returncode == 0, last.stderr
        assert json.loads(last.stdout)["run"] == "killed"
    assert fork_essence(fork) == undisturbed
    assert_nothing_twice(fork)
    assert_scores_match_traces(fork)
    assert content(source) == before
    assert list(fork.glob("iterations/[0-9][0-9][0-9]/.*.tmp")) == []
    assert len(lines(fork / "calls.jsonl")) == 4 * SEARCH


def complete(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: data.rfind(b"\n") + 1]


@pytest.mark.slow
def test_a_signal_lets_what_is_in_the_air_end_and_the_same_command_goes_on(
    source: Path, arguments: list[object], undisturbed: dict[str, Any]
) -> None:
    fork = source.parent / "stopped"
    with started(*arguments, "--name", "stopped") as process:
        assert wait_until(process, reached(fork, "traces", 4))
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert f"interrupted: `metaharness regrade --root {source.parent} first --name stopped` goes on" in stderr
    traced = {
        (line["case_id"], path.parent.name)
        for path in fork.glob("iterations/*/eval_trace.jsonl")
        for line in lines(path)
    }
    assert len(traced) >= len(lines(fork / "calls.jsonl"))  # every call that was paid for is in a trace
    assert say("scoreboard", "stopped", "--root", source.parent).code == 0
    refused = say("resume", "stopped", "--root", source.parent)
    assert refused.code == 2
    assert "have not all been graded" in refused.err
    again = executed("regrade", "--root", source.parent, "first", "--name", "stopped", "--quiet")
    assert again.returncode == 0, again.stderr
    assert fork_essence(fork) == undisturbed
