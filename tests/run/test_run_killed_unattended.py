"""An unattended search with a model that writes, killed at 20 random moments and resumed each time."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from run_kit import (
    assert_nothing_twice,
    assert_scores_match_traces,
    count_lines,
    essence,
    executed,
    harness,
    rules,
    started,
    wait_until,
    write_toy,
)

KILLS = 20
ROUNDS, WIDTH, CASES = 5, 2, 4
STYLES = ("good", "x", "other", "long", "ok")


def candidate(round_: int, place: int) -> str:
    style = STYLES[(round_ + place) % len(STYLES)]
    source = harness(style, before=f"# round {round_}, place {place}")
    about = f"## Candidate: {style} {round_}-{place}\nhypothesis: the style {style} gets more items right"
    return f"{about}\n\n```python harness.py\n{source}```\n"


def write_domain(folder: Path) -> Path:
    """The domain, and a file of a run whose proposer answers by round."""
    toy = write_toy(folder / "domain", cases=CASES, delay_ms=3)
    answers: list[dict[str, Any]] = [
        {"contains": f", round {number}\n", "text": "\n".join(candidate(number, place) for place in range(WIDTH))}
        for number in range(1, ROUNDS + 1)
    ]
    (folder / "writer.jsonl").write_text("".join(json.dumps(rule) + "\n" for rule in answers))
    toy.write_script(rules(CASES, delay_ms=3))
    config = {
        "domain": str(toy.folder),
        "models": {"target": f"scripted:{toy.script}", "proposer": f"scripted:{folder / 'writer.jsonl'}"},
        "proposer": "chat",
        "iterations": ROUNDS * WIDTH,
        "candidates_per_round": WIDTH,
        "concurrency": 2,
        "sandbox": "process",
    }
    (folder / "run.json").write_text(json.dumps(config))
    return folder / "run.json"


def compared(run: Path) -> dict[str, Any]:
    """What two runs have in common; a round that was begun again has a session more."""
    found = essence(run)
    for proposal in found["proposals"]:
        proposal.pop("session")
    return found


@pytest.mark.slow
def test_an_unattended_search_killed_at_random_moments_comes_to_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    file = write_domain(tmp_path)
    done = executed("run", file, "--name", "run", "--root", tmp_path / "whole", "--quiet")
    assert done.returncode == 0, done.stderr
    whole, run = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    lines = count_lines(whole / "events.jsonl")
    moment = random.Random(20)
    arguments: list[object] = ["run", file, "--name", "run", "--root", run.parent, "--quiet"]
    kills, code = 0, -1
    while code != 0:
        with started(*arguments) as process:
            if kills < KILLS:
                target = count_lines(run / "events.jsonl") + moment.randint(1, max(1, lines // KILLS))
                if wait_until(process, lambda target=target: count_lines(run / "events.jsonl") >= target):  # type: ignore[misc]
                    process.send_signal(signal.SIGKILL)
                    kills += 1
            code = process.wait()
            assert code in (0, -signal.SIGKILL), process.communicate()[1]
        arguments = ["resume", "--root", run.parent, "--quiet"]
    assert kills == KILLS
    assert compared(run) == compared(whole)
    assert_nothing_twice(run)
    assert_scores_match_traces(run)
