"""Resuming: missing pairs are asked again, raised budgets let the search go on, what was spent is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from run_kit import (
    CASES,
    EVALUATOR,
    Toy,
    assert_nothing_twice,
    assert_scores_match_traces,
    essence,
    finish,
    harness,
    lines,
    proposals_of,
    recorded,
    rules,
    searched,
    write_toy,
)

from metaharness.configuration import Budget
from metaharness.errors import (
    ConfigurationError,
)
from metaharness.gateway.providers import Provider
from metaharness.messages import ModelSpec
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import Role
from metaharness.run import Run
from metaharness.testing import ScriptedModel

OVERLOADED = {"kind": "infrastructure", "message": "overloaded", "status_code": 529}
GOOD = ScriptedProposer(proposals_of(harness("good"), harness("other")))

FINISH = 2 * 3
"""What is kept back of every bound for `finish`: winner and best baseline on three test cases."""


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")})


def failing(marks: list[str], times: int | None = None) -> list[dict[str, Any]]:
    return [{"contains": mark, "error": OVERLOADED, "times": times} for mark in marks]


# --- missing pairs ----------------------------------------------------------------------------------------------


async def test_missing_pairs_are_asked_again_and_the_verdict_is_spoken_anew(toy: Toy, tmp_path: Path) -> None:
    config = toy.config(iterations=2)
    whole = await searched(config, tmp_path / "whole", GOOD)
    model = ScriptedModel([*failing(["[good] item 06", "[good] item 07"], times=2), *rules()])
    history = await searched(config, tmp_path / "runs", GOOD, name="run", providers={"target": model})
    cut = history.iteration(1)
    assert cut.state == "incomplete"
    assert cut.score is not None
    assert (cut.score.missing, cut.score.revision) == (2, 1)
    assert cut.score.bounds == pytest.approx((10 / CASES, 1.0))
    assert cut.verdict is not None
    assert cut.verdict.units == CASES - 2
    assert [closed.incumbent_after for closed in history.closed_rounds] == [0, 0, 2]

    path = tmp_path / "runs" / "run"
    asked_before = len(lines(path / "calls.jsonl"))
    await finish(Run.open(path, providers={"target": model}), GOOD)
    filled = recorded(path)
    score, verdict = filled.iteration(1).score, filled.iteration(1).verdict
    assert score is not None
    assert verdict is not None
    assert (score.missing, score.revision, score.complete) == (0, 2, True)
    assert verdict == whole.iteration(1).verdict
    assert (verdict.verdict, verdict.incumbent, verdict.units) == ("better", 0, CASES)
    assert len(lines(path / "calls.jsonl")) == asked_before + 2
    assert filled.scoreboard().incumbent == 1
    assert [line["verdict"] for line in lines(path / "evolution_summary.jsonl")] == ["baseline", "better", "indecisive"]
    attempts = [line["status"] for line in lines(path / "iterations" / "001" / "eval_trace.jsonl")]
    assert (attempts.count("infrastructure"), attempts.count("ok")) == (4, CASES)
    assert_nothing_twice(path)
    assert_scores_match_traces(path)


async def test_a_candidate_of_a_later_round_keeps_the_incumbent_of_its_own_round(toy: Toy, tmp_path: Path) -> None:
    model = ScriptedModel([*failing(["[good] item 06"]), *rules()])
    history = await searched(toy.config(iterations=2), tmp_path / "r", GOOD, providers={"target": model})
    before = history.iteration(2).verdict
    await finish(Run.open(history.store.path), GOOD)
    after = recorded(history.store.path)
    assert after.iteration(2).verdict == before
    assert before is not None
    assert before.incumbent == 0


async def test_pairs_that_fail_again_stay_missing_and_are_asked_at_the_next_resume(toy: Toy, tmp_path: Path) -> None:
    broken: dict[Role, Provider] = {"target": ScriptedModel([*failing(["[good] item 06"]), *rules()])}
    history = await searched(toy.config(iterations=1), tmp_path / "r", GOOD, providers=broken)
    path = history.store.path
    await finish(Run.open(path, providers=broken), GOOD)
    assert recorded(path).iteration(1).state == "incomplete"
    run = Run.open(path)
    run.store.close()
    assert run.unfinished
    await finish(Run.open(path), GOOD)
    assert recorded(path).iteration(1).state == "complete"


async def test_a_baseline_with_missing_pairs_is_no_incumbent_until_they_are_filled(toy: Toy, tmp_path: Path) -> None:
    model = ScriptedModel([*failing(["[plain] item 06"]), *rules()])
    history = await searched(toy.config(iterations=1), tmp_path / "r", GOOD, providers={"target": model})
    assert history.closed_rounds[0].incumbent_after is None
    verdict = history.iteration(1).verdict
    assert verdict is not None
    assert (verdict.verdict, verdict.incumbent, verdict.delta) == ("indecisive", None, None)
    await finish(Run.open(history.store.path), GOOD)
    assert recorded(history.store.path).iteration(0).state == "complete"


async def test_a_stop_while_missing_pairs_are_asked_again_is_resumed_later(toy: Toy, tmp_path: Path) -> None:
    model = ScriptedModel([*failing(["[good] item 0"]), *rules()])
    config = toy.config(iterations=1, concurrency=1)
    history = await searched(config, tmp_path / "r", GOOD, providers={"target": model})
    assert history.iteration(1).score.missing == 10  # type: ignore[union-attr]
    run = Run.open(history.store.path)

    def stop(kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "case_ended" and fields["status"] == "ok" and fields["case_id"] != "<learn>":
            run.stop()

    run.listener = stop
    assert await finish(run, GOOD) == "stopped"
    assert 0 < recorded(run.store.path).iteration(1).score.missing < 10  # type: ignore[union-attr]
    await finish(Run.open(run.store.path), GOOD)
    assert (
        essence(run.store.path)["verdicts"]
        == essence((await searched(config, tmp_path / "w", GOOD)).store.path)["verdicts"]
    )
    assert_nothing_twice(run.store.path)


async def test_an_evaluator_that_fails_makes_missing_data_and_is_asked_again_when_mended(
    toy: Toy, tmp_path: Path
) -> None:
    switch = tmp_path / "broken"
    switch.touch()
    source = EVALUATOR.replace(
        "        return",
        "        import os\n"
        f"        if context.case.id.endswith('3') and os.path.exists({str(switch)!r}):\n"
        "            raise OSError('the database is away')\n        return",
    )
    (toy.folder / "evaluator.py").write_text(source)
    history = await searched(toy.config(iterations=0), tmp_path / "r")
    assert history.iteration(0).score.statuses == {"evaluator_error": 1, "ok": CASES - 1}  # type: ignore[union-attr]
    switch.unlink()
    await finish(Run.open(history.store.path))
    filled = recorded(history.store.path)
    assert filled.iteration(0).state == "complete"
    assert len(lines(history.store.path / "calls.jsonl")) == CASES  # its output came from the journal


# --- budgets ----------------------------------------------------------------------------------------------------


async def test_a_raised_budget_goes_on_where_the_old_one_stopped(toy: Toy, tmp_path: Path) -> None:
    whole = await searched(toy.config(iterations=2), tmp_path / "whole", GOOD)
    config = toy.config(iterations=2, budget={"calls": CASES + 5 + FINISH})
    history = await searched(config, tmp_path / "runs", GOOD)
    path = history.store.path
    reason = await finish(Run.open(path), GOOD)
    assert reason == "the budget of calls is spent (6 are kept for finish)"  # not raised: nothing changes
    assert len(lines(path / "calls.jsonl")) == CASES + 5
    await finish(Run.open(path, raised=Budget(calls=10 * CASES)), GOOD)
    assert recorded(path).scoreboard().rows() == whole.scoreboard().rows()
    assert_nothing_twice(path)
    opened = [event["budget"] for event in lines(path / "events.jsonl") if event["kind"] == "opened"]
    assert opened == [{"calls": CASES + 5 + FINISH}, {"calls": 10 * CASES}]


async def test_raised_candidates_and_case_evaluations_let_further_rounds_begin(toy: Toy, tmp_path: Path) -> None:
    budget = {"candidates": 1, "case_evaluations": 2 * CASES + FINISH}
    history = await searched(toy.config(iterations=2, budget=budget), tmp_path / "runs", GOOD)
    assert len(history) == 2
    await finish(Run.open(history.store.path, raised=Budget(candidates=2)), GOOD)
    assert len(recorded(history.store.path)) == 2
    await finish(Run.open(history.store.path, raised=Budget(candidates=2, case_evaluations=3 * CASES + FINISH)), GOOD)
    assert len(recorded(history.store.path)) == 3


async def test_a_dollar_bound_raised_on_a_model_without_a_price_is_refused_and_gives_the_lock_back(
    toy: Toy, tmp_path: Path
) -> None:
    config = toy.config(iterations=0, models={"target": ModelSpec(provider="openai", name="unpriced")})
    model: dict[Role, Provider] = {"target": ScriptedModel(rules())}
    history = await searched(config, tmp_path / "runs", providers=model)
    with pytest.raises(ConfigurationError, match="price of openai:unpriced is unknown"):
        Run.open(history.store.path, raised=Budget(usd=5), providers=model)
    Run.open(history.store.path, providers=model).store.close()


async def test_what_was_spent_is_rebuilt_from_the_journal(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(), tmp_path / "runs")
    spent = json.loads((history.store.path / "cost.json").read_text())["spent"]
    run = Run.open(history.store.path)
    run.store.close()
    again = run.spent.model_dump()
    assert {**again, "seconds": 0} == {**spent, "seconds": 0}
    assert again["seconds"] > 0


async def test_a_search_that_its_patience_has_ended_goes_on_with_more_of_it_and_keeps_that(
    toy: Toy, tmp_path: Path
) -> None:
    sources = [harness(style, before=f"# {place}") for place, style in enumerate(("other", "other", "other", "good"))]
    script = ScriptedProposer(proposals_of(*sources))
    history = await searched(toy.config(iterations=3, patience=1), tmp_path / "runs", script)
    path = history.store.path
    assert len(history.closed_rounds) == 3
    assert await finish(Run.open(path), script) == "1 round brought no new incumbent"
    assert await finish(Run.open(path, changes={"patience": 5}), script) == "all 3 candidates were proposed"
    assert await finish(Run.open(path, changes={"iterations": 4}), script) == "all 4 candidates were proposed"
    async with Run.open(path) as run:
        assert (run.config.patience, run.config.iterations, run.record.config.iterations) == (5, 4, 3)
        assert len(run.history) == 5
