"""A run that was cut off anywhere goes on to what an undisturbed one comes to.

A state of the directory at some moment is what `kill -9` leaves at that moment: every line is in the operating
system when it counts as written. So the states are copied while a search runs, and each copy is resumed. Real
processes are killed in test_run_killed.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from run_kit import (
    RAISES,
    SYNTAX_ERROR,
    Toy,
    assert_nothing_twice,
    assert_scores_match_traces,
    essence,
    finish,
    harness,
    lines,
    write_toy,
)

from metaharness.messages import ModelSpec
from metaharness.run import Run

EVERY = 8
"""Every so many events a state is resumed; all of them were, by hand."""


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(
        tmp_path / "domain",
        cases=4,
        proposals={
            "1_good.py": harness("good"),
            "2_broken.py": SYNTAX_ERROR,
            "3_raises.py": RAISES,
            "4_other.py": harness("other"),
        },
    )


def copy(run: Path, target: Path) -> Path:
    shutil.copytree(run, target, ignore=shutil.ignore_patterns(".lock*"))
    return target


@pytest.mark.slow
@pytest.mark.parametrize(("width", "first"), [(1, 2), (3, 4)], ids=["one per round", "three per round"])
async def test_every_state_on_the_way_leads_to_the_same_end(width: int, first: int, toy: Toy, tmp_path: Path) -> None:
    run = Run.create(toy.config(candidates_per_round=width), tmp_path / "runs", name="whole")
    states: list[Path] = []
    seen = 0

    def remember(kind: str, fields: Mapping[str, Any]) -> None:
        nonlocal seen
        seen += 1
        if seen % EVERY == first:
            states.append(copy(run.store.path, tmp_path / "states" / f"{seen:03d}" / "whole"))

    run.listener = remember
    await finish(run)
    undisturbed = essence(run.store.path)
    assert len(states) > 4
    for state in states:
        await finish(Run.open(state))
        assert essence(state) == undisturbed, state
        assert_nothing_twice(state)
        assert_scores_match_traces(state)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 3])
async def test_a_run_stopped_at_any_event_is_resumed_to_the_same_end(width: int, toy: Toy, tmp_path: Path) -> None:
    config = toy.config(candidates_per_round=width)
    whole = Run.create(config, tmp_path / "runs", name="whole")
    await finish(whole)
    undisturbed = essence(whole.store.path)
    total = len(lines(whole.store.path / "events.jsonl"))
    for place in range(1 + width, total, 19):
        run = Run.create(config, tmp_path / f"stopped-{place}", name="whole")
        seen = 0

        def stop(kind: str, fields: Mapping[str, Any], run: Run = run, place: int = place) -> None:
            nonlocal seen
            seen += 1
            if seen == place:
                run.stop()

        run.listener = stop
        reason = await finish(run)
        assert reason == ("stopped" if run.unfinished else run.why_over() or "stopped")
        await finish(Run.open(run.store.path))
        assert essence(run.store.path) == undisturbed, place
        assert_nothing_twice(run.store.path)


async def test_a_stop_lets_what_is_in_the_air_end_and_starts_nothing_new(toy: Toy, tmp_path: Path) -> None:
    run = Run.create(toy.config(concurrency=1), tmp_path / "runs", name="run")

    def stop(kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "case_ended" and fields["iteration"] == 1 and fields["status"] == "ok":
            run.stop()

    run.listener = stop
    await finish(run)
    events = [event["kind"] for event in lines(run.store.path / "events.jsonl")]
    assert "round_closed" not in events
    assert events[-1] == "ended"
    asked = {line["call"]["request"]["messages"][0]["content"] for line in lines(run.store.path / "calls.jsonl")}
    written = {
        line["calls"][0]["request"]["messages"][0]["content"]
        for number in ("000", "001")
        for line in lines(run.store.path / "iterations" / number / "eval_trace.jsonl")
    }
    assert written == asked  # every call that was paid for is in a trace


async def test_resuming_a_run_that_is_over_changes_nothing(toy: Toy, tmp_path: Path) -> None:
    run = Run.create(toy.config(), tmp_path / "runs", name="run")
    await finish(run)
    before = essence(run.store.path)
    trace = (run.store.path / "iterations" / "002" / "score.json").read_bytes()
    assert await finish(Run.open(run.store.path)) == "all 4 candidates were proposed"
    assert essence(run.store.path) == before
    assert (run.store.path / "iterations" / "002" / "score.json").read_bytes() == trace


ONLINE = """
class Harness:
    def __init__(self):
        self.known = 0

    def learn(self, examples, model):
        self.known += len(examples)

    def predict(self, text, model):
        return model.complete(f"[{'good' if self.known % 2 else 'other'}] {text}").text
"""
COUNTS = """
class Harness:
    def __init__(self):
        self.asked = 0

    def predict(self, text, model):
        self.asked += 1
        return model.complete(f"[{'good' if self.asked % 2 else 'x'}] {text}").text
"""


@pytest.mark.slow
@pytest.mark.parametrize(("online", "source"), [(True, ONLINE), (False, COUNTS)], ids=["online", "order-dependent"])
async def test_an_evaluation_in_order_begins_again_and_repeats_no_call(
    online: bool, source: str, tmp_path: Path
) -> None:
    toy = write_toy(tmp_path / "domain", cases=6, baselines={"00_odd.py": source}, proposals={"1_odd.py": source})
    if online:
        path = toy.folder / "domain.py"
        path.write_text(path.read_text().replace('    name = "colours"', '    name = "colours"\n    online = True'))
    run = Run.create(toy.config(trials=2), tmp_path / "runs", name="whole")
    states: list[Path] = []

    def remember(kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "case_ended" and fields["case_id"].endswith("4"):
            states.append(copy(run.store.path, tmp_path / "states" / str(len(states)) / "whole"))

    run.listener = remember
    await finish(run)
    undisturbed = essence(run.store.path)
    assert len(states) > 3
    for state in states:
        await finish(Run.open(state))
        assert essence(state) == undisturbed
        assert_scores_match_traces(state)


JUDGED = """
class Exact:
    async def grade(self, context):
        answer = await context.judge.complete(f"is {context.output} right for {context.case.input}?")
        return answer.text == "yes"
"""


async def test_a_judge_is_asked_once_per_answer_also_when_the_run_was_cut_off(toy: Toy, tmp_path: Path) -> None:
    (toy.folder / "evaluator.py").write_text(JUDGED)
    judge = tmp_path / "judge.jsonl"
    judge.write_text('{"contains": "is grey", "text": "no"}\n{"text": "yes"}\n')
    models = {**toy.config().models, "judge": ModelSpec(provider="scripted", name=str(judge))}
    run = Run.create(toy.config(models=models), tmp_path / "runs", name="whole")
    states: list[Path] = []

    def remember(kind: str, fields: Mapping[str, Any]) -> None:
        if kind in ("case_ended", "accepted") and len(lines(run.store.path / "calls.jsonl")) % 7 == 3:
            states.append(copy(run.store.path, tmp_path / "states" / str(len(states)) / "whole"))

    run.listener = remember
    await finish(run)
    undisturbed = essence(run.store.path)
    assert {trace["calls"][-1]["door"] for trace in undisturbed["traces"].values() if trace["status"] == "ok"} == {
        "judge"
    }
    assert len(states) > 2
    for state in states:
        await finish(Run.open(state))
        assert essence(state) == undisturbed
        assert_nothing_twice(state)


async def test_a_torn_last_line_of_every_file_is_put_aside_and_the_end_is_the_same(toy: Toy, tmp_path: Path) -> None:
    run = Run.create(toy.config(), tmp_path / "runs", name="whole")
    torn = tmp_path / "torn" / "whole"

    def remember(kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "accepted" and fields["iteration"] == 2:
            copy(run.store.path, torn)

    run.listener = remember
    await finish(run)
    logs = sorted(torn.rglob("*.jsonl"))
    assert {"events.jsonl", "calls.jsonl", "eval_trace.jsonl", "evolution_summary.jsonl"} <= {log.name for log in logs}
    for log in logs:
        with log.open("ab") as file:
            file.write(b'{"half of a li')
    await finish(Run.open(torn))
    assert essence(torn) == essence(run.store.path)
    assert all(log.with_name(f"{log.name}.torn").read_bytes() == b'{"half of a li' for log in logs)
