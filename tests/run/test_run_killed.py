"""Real processes, killed at chosen moments and resumed until they end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from run_kit import (
    RAISES,
    SYNTAX_ERROR,
    assert_nothing_twice,
    assert_scores_match_traces,
    count_lines,
    essence,
    finish,
    harness,
    lines,
    started,
    wait_until,
    write_toy,
)

from metaharness.run import Run

CASES = 5
KILLS = 10
"""In each of two searches."""
MOMENTS = (
    ("folders", 1),
    ("calls", 1),
    ("traces", 1),
    ("events", 3),
    ("before the score", 1),
    ("scores", 1),
    ("proposals", 1),
    ("calls", 2),
    ("summary", 1),
    ("events", 2),
)
"""What has grown, and by how much, when the process is killed."""


def measure(run: Path, what: str) -> int:
    iterations = run / "iterations"
    match what:
        case "events" | "calls":
            return count_lines(run / f"{what}.jsonl")
        case "summary":
            return count_lines(run / "evolution_summary.jsonl")
        case "traces":
            return sum(map(count_lines, iterations.glob("*/eval_trace.jsonl")))
        case "folders":
            return len(list(iterations.glob("[0-9]*")))
        case "proposals" | "scores":
            return len(list(iterations.glob(f"*/{what[:-1]}.json")))
        case "before the score":
            whole = [trace for trace in iterations.glob("*/eval_trace.jsonl") if count_lines(trace) == CASES]
            return sum(not trace.with_name("score.json").exists() for trace in whole)
    raise AssertionError(what)


def grown(run: Path, what: str, by: int) -> Callable[[], bool]:
    before = 0 if what == "before the score" else measure(run, what)
    return lambda: measure(run, what) >= before + by


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 3], ids=["one per round", "three per round"])
async def test_a_process_killed_again_and_again_comes_to_what_an_undisturbed_one_does(
    width: int, tmp_path: Path
) -> None:
    proposals: dict[str, str | dict[str, str]] = {
        "1_good.py": harness("good"),
        "2_broken.py": SYNTAX_ERROR,
        "3_other": {"harness.py": harness("other"), "notes.txt": "n"},
        "4_raises.py": RAISES,
    }
    toy = write_toy(tmp_path / "domain", cases=CASES, proposals=proposals, delay_ms=4)
    whole = Run.create(toy.config(candidates_per_round=width, concurrency=2), tmp_path / "runs", name="whole")
    await finish(whole)

    run = tmp_path / "killed" / "whole"
    options = toy.arguments("-k", width, "-c", 2, "--name", "whole", "--root", run.parent, "--quiet")
    arguments: list[object] = ["run", *options]
    kills, code = 0, -1
    seen: dict[str, bytes] = {}
    while code != 0:
        with started(*arguments) as process:
            if kills < KILLS:
                what, by = MOMENTS[kills]
                if wait_until(process, grown(run, what, by)):
                    process.send_signal(signal.SIGKILL)
                kills += 1
            code = process.wait()
            assert code in (0, -signal.SIGKILL), process.communicate()[1]
        for path, content in seen.items():
            assert (run / path).read_bytes().startswith(content), path  # what was written is never lost
        seen = {path.relative_to(run).as_posix(): complete(path) for path in run.rglob("*.jsonl")}
        seen.pop("evolution_summary.jsonl", None)  # derived
        arguments = ["resume", "--root", run.parent, "--quiet"]
    assert kills == KILLS
    assert essence(run) == essence(whole.store.path)
    assert_nothing_twice(run)
    assert_scores_match_traces(run)
    assert [event["number"] for event in lines(run / "events.jsonl")] == list(range(measure(run, "events")))


def complete(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]
