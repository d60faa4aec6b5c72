"""At the end of an evaluation its missing pairs are asked once more, where that may help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from run_kit import (
    CASES,
    Toy,
    assert_nothing_twice,
    assert_scores_match_traces,
    finish,
    harness,
    lines,
    recorded,
    rules,
    searched,
    write_toy,
)

from metaharness.configuration import RunConfig
from metaharness.loading import read_baselines
from metaharness.messages import Completion, ModelRequest, ModelSpec
from metaharness.records import LEARN, CaseTrace
from metaharness.run import Run
from metaharness.run.standalone import evaluate_harness
from metaharness.testing import ScriptedModel

OVERLOADED = {"kind": "infrastructure", "message": "overloaded", "status_code": 529}


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")}, proposals={})


def failing(*marks: str, times: int | None = None) -> list[dict[str, Any]]:
    return [{"contains": mark, "error": OVERLOADED, "times": times} for mark in marks]


class Counting:
    """A scripted model that counts how often each item was asked about."""

    def __init__(self, script: list[dict[str, Any]]) -> None:
        self.asked: Counter[str] = Counter()
        self._script = ScriptedModel(script)

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        self.asked[str(request.messages[-1].content)[-7:]] += 1
        return await self._script.complete(request, deadline=deadline)

    async def aclose(self) -> None:
        """Nothing is open."""


async def scored(toy: Toy, root: Path, script: list[dict[str, Any]], **changes: Any) -> tuple[Path, Counting]:
    """A run of the baseline alone."""
    model = Counting(script)
    history = await searched(toy.config(iterations=0, **changes), root, providers={"target": model})
    return history.store.path, model


def statuses(path: Path, case: int) -> list[str]:
    """Of every attempt at a case, in the order of the trace."""
    trace = path / "iterations" / "000" / "eval_trace.jsonl"
    return [line["status"] for line in lines(trace) if line["case_id"] == f"search-{case:02d}"]


async def test_a_pair_that_was_missing_is_asked_once_more_before_the_score_is_written(toy: Toy, tmp_path: Path) -> None:
    path, model = await scored(toy, tmp_path / "runs", [*failing("item 06", "item 07", times=1), *rules()])
    score = recorded(path).iteration(0).score
    assert score is not None
    assert (score.complete, score.revision, score.statuses) == (True, 1, {"ok": CASES})
    assert [statuses(path, case) for case in (5, 6, 7)] == [["ok"], ["infrastructure", "ok"], ["infrastructure", "ok"]]
    assert model.asked == Counter({f"item {n:02d}": 1 + (n in (6, 7)) for n in range(CASES)})
    assert_nothing_twice(path)
    assert_scores_match_traces(path)


async def test_a_pair_that_is_missing_again_stays_missing(toy: Toy, tmp_path: Path) -> None:
    path, model = await scored(toy, tmp_path / "runs", [*failing("item 06"), *rules()])
    assert statuses(path, 6) == ["infrastructure", "infrastructure"]
    assert model.asked["item 06"] == 2
    assert recorded(path).iteration(0).state == "incomplete"


async def test_what_was_never_missing_is_asked_once(toy: Toy, tmp_path: Path) -> None:
    _, model = await scored(toy, tmp_path / "runs", rules())
    assert set(model.asked.values()) == {1}


async def test_calls_that_were_answered_are_not_paid_for_again(toy: Toy, tmp_path: Path) -> None:
    body = "model.complete('think about ' + text)"
    (toy.folder / "baselines" / "00_plain.py").write_text(harness("plain", body=body))
    path, model = await scored(toy, tmp_path / "runs", [*failing("[plain] item 06", times=1), *rules()])
    assert statuses(path, 6) == ["infrastructure", "ok"]
    assert model.asked["item 06"] == 3, "the thought once, the answer twice"
    assert len(lines(path / "calls.jsonl")) == 2 * CASES


async def test_nothing_is_asked_again_where_nothing_has_answered_at_all(toy: Toy, tmp_path: Path) -> None:
    model = Counting([*failing("item")])
    run = Run.create(toy.config(iterations=0), tmp_path / "runs", providers={"target": model})
    async with run:
        round_ = run.next_round()
        assert round_ is not None
        await run.evaluate(await run.submit(read_baselines(round_.domain)[0]))
    assert list(model.asked.values()).count(1) == CASES - 2, "the two smoke cases were asked by the ladder before"
    assert {len(statuses(run.store.path, case)) for case in range(CASES)} == {1, 2}


@pytest.mark.parametrize("calls", [5, CASES - 1])
async def test_nothing_is_asked_again_once_the_budget_is_spent(toy: Toy, tmp_path: Path, calls: int) -> None:
    script = [*failing("item 06", times=1), *rules()]
    path, model = await scored(toy, tmp_path / "runs", script, budget={"calls": calls}, concurrency=1)
    assert model.asked["item 06"] <= 1
    assert all(len(statuses(path, case)) == 1 for case in range(CASES))


async def test_nothing_is_asked_again_after_a_stop(toy: Toy, tmp_path: Path) -> None:
    model = Counting([*failing("item 06"), *rules()])
    run = Run.create(toy.config(iterations=0), tmp_path / "runs", providers={"target": model})
    ended: list[str] = []

    def stop(kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "case_ended" and fields["case_id"] != LEARN:
            ended.append(fields["case_id"])
            if len(set(ended)) == CASES:
                run.stop()

    run.listener = stop
    await finish(run)
    assert model.asked["item 06"] <= 2, "at most by the ladder and by the evaluation"
    assert len(ended) <= CASES + 1


async def test_a_serial_evaluation_is_asked_again_from_the_start_of_the_trial(toy: Toy, tmp_path: Path) -> None:
    source = harness("plain", body="self.n = getattr(self, 'n', 0) + 1").replace(".text\n", ".text + str(self.n)\n")
    (toy.folder / "baselines" / "00_plain.py").write_text(source)
    path, _ = await scored(toy, tmp_path / "runs", [*failing("item 06", times=1), *rules()])
    iteration = recorded(path).iteration(0)
    assert iteration.score is not None
    assert iteration.score.order_dependent
    assert iteration.state == "complete"
    assert len(lines(path / "calls.jsonl")) == CASES


async def test_an_evaluation_without_a_run_asks_again_too_and_tells_every_attempt(toy: Toy, tmp_path: Path) -> None:
    toy.write_script([*failing("item 06", times=1), *rules()])
    told: list[CaseTrace] = []
    config = RunConfig(
        domain=str(toy.folder), models={"target": ModelSpec(provider="scripted", name=str(toy.script))}, concurrency=4
    )
    config = config.model_copy(update={"sandbox": toy.config().sandbox})
    file = toy.folder / "baselines" / "00_plain.py"
    result = await evaluate_harness(file, config, listen=told.append)
    assert result.score is not None
    assert result.score.complete
    assert [trace.status for trace in told if trace.case_id == "search-06"] == ["infrastructure", "ok"]
    assert result.traces["search-06", 0].status == "ok"
