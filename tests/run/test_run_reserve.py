"""What is kept back of a budget for `finish`, the warnings on the way, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from finish_kit import SEARCH, TEST, finish_toy, finished
from run_kit import Toy, finish, harness, lines, proposals_of, recorded, say, searched, write_cases

from metaharness.configuration import Budget
from metaharness.errors import UsageError
from metaharness.gateway.estimates import DEFAULT_MAX_TOKENS
from metaharness.messages import ModelSpec
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.run import Run
from metaharness.run.bounds import bound_states
from metaharness.run.outside import add
from metaharness.testing import ScriptedModel

BASELINES = 2 * SEARCH
FINISH = 2 * TEST
PAID = ModelSpec(provider="openai", name="paid")
TWICE = harness("good", body="model.complete('think about ' + text)")


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return finish_toy(tmp_path / "domain")


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in lines(run / "events.jsonl") if event["kind"] == kind]


def warned(run: Path) -> list[tuple[str, float, float]]:
    """Bound, share and limit. What is spent is at least that share; the next case may have begun before it is told."""
    found = events(run, "budget_warned")
    assert all(one["share"] * one["limit"] <= one["spent"] <= one["limit"] for one in found)
    return [(one["bound"], one["share"], one["limit"]) for one in found]


def kept(run: Path) -> list[dict[str, float]]:
    names = ("case_evaluations", "calls", "tokens", "usd")
    return [{name: one[name] for name in names if name in one} for one in events(run, "kept_for_finish")]


# --- case evaluations: exact, from the start --------------------------------------------------------------------


async def test_a_search_leaves_the_case_evaluations_of_finish_and_finish_runs_inside_the_same_budget(
    toy: Toy, tmp_path: Path
) -> None:
    bound = BASELINES + 2 * SEARCH + FINISH - 1  # one pair too few for both candidates
    history = await searched(toy.config(budget={"case_evaluations": bound}), tmp_path / "runs", name="run")
    run = history.store.path
    assert [iteration.is_baseline for iteration in history] == [True, True, False]
    reason = lines(run / "events.jsonl")[-1]["reason"]
    assert reason.endswith(f"case evaluations does not reach another candidate ({FINISH} are kept for finish)")
    assert kept(run) == [{"case_evaluations": FINISH}]
    assert (await finished(run)).missing == 0


@pytest.mark.parametrize("trials", [1, 2])
async def test_a_budget_too_small_for_baselines_and_finish_is_refused_with_numbers_before_there_is_a_run(
    trials: int, toy: Toy, tmp_path: Path
) -> None:
    needed, test = BASELINES * trials, FINISH * trials
    enough = {"case_evaluations": needed + test}
    small = toy.config(budget={"case_evaluations": needed + test - 1}, trials=trials)
    with pytest.raises(UsageError, match=f"they need {needed} and {test}, {needed + test} in all") as refused:
        Run.create(small, tmp_path / "runs")
    assert "--budget-cases" in str(refused.value.hint)
    assert not (tmp_path / "runs").exists()
    said = say("plan", *toy.arguments("--budget-cases", needed + test - 1, "--trials", trials))
    assert (said.code, f"they need {needed} and {test}" in said.err) == (2, True)
    history = await searched(toy.config(budget=enough, trials=trials), tmp_path / "runs")
    assert [iteration.state for iteration in history] == ["complete", "complete"]
    assert (await finished(history.store.path)).missing == 0


async def test_a_domain_without_test_cases_keeps_nothing_back(toy: Toy, tmp_path: Path) -> None:
    write_cases(toy.folder, "test", 0)
    bound = BASELINES + 2 * SEARCH
    history = await searched(toy.config(budget={"case_evaluations": bound, "calls": bound}), tmp_path / "runs")
    assert len(history) == 4
    assert kept(history.store.path) == []


async def test_without_a_budget_the_test_split_is_not_even_counted(toy: Toy, tmp_path: Path) -> None:
    (toy.folder / "data" / "test.jsonl").unlink()
    history = await searched(toy.config(), tmp_path / "runs")
    assert len(history) == 4


async def test_a_run_that_proposes_nothing_tests_one_harness_and_two_once_something_is_handed_in(
    toy: Toy, tmp_path: Path
) -> None:
    config = toy.config(iterations=0, budget={"case_evaluations": BASELINES + TEST})
    run = (await searched(config, tmp_path / "runs")).store.path
    assert kept(run) == [{"case_evaluations": TEST}]
    (mine,) = proposals_of(harness("good"))
    async with Run.open(run, raised=Budget(case_evaluations=BASELINES + SEARCH + FINISH - 1)) as opened:
        with pytest.raises(UsageError, match="does not reach another candidate"):
            await add(opened, mine)
    async with Run.open(run, raised=Budget(case_evaluations=BASELINES + SEARCH + FINISH)) as opened:
        assert (await add(opened, mine)).state == "complete"
    assert (await finished(run)).missing == 0


# --- calls, tokens and dollars: estimated, once the baselines are scored ----------------------------------------


async def test_calls_are_kept_for_the_dearest_candidate_and_the_dearest_baseline(toy: Toy, tmp_path: Path) -> None:
    budget = {"calls": BASELINES + 2 * SEARCH + 3 * TEST + 2}
    proposer = ScriptedProposer(proposals_of(TWICE, harness("good"), harness("good")))
    run = (await searched(toy.config(iterations=3, budget=budget), tmp_path / "runs", proposer)).store.path
    assert kept(run) == [{"calls": FINISH}, {"calls": 3 * TEST}]
    assert [iteration.state for iteration in recorded(run)] == ["complete", "complete", "complete", "incomplete"]
    assert len(lines(run / "calls.jsonl")) == budget["calls"] - 3 * TEST
    said = lines(run / "events.jsonl")[-1]["reason"]
    assert said == f"the budget of calls is spent ({3 * TEST} are kept for finish)"
    result = await finished(run)
    assert (result.missing, result.winner) == (0, 2)
    assert len(lines(run / "sealed" / "calls.jsonl")) == 3 * TEST


async def test_what_learn_takes_is_kept_once_for_each_trial_and_not_for_each_case(tmp_path: Path) -> None:
    learns = "\n    def learn(self, examples, model):\n        model.complete('learn this')\n"
    source = harness("plain").replace("class Harness:", f"class Harness:{learns}")
    toy = finish_toy(tmp_path / "domain", baselines={"00_learns.py": source}, proposals={})
    config = toy.config(iterations=0, trials=2, budget={"calls": 1_000})
    run = (await searched(config, tmp_path / "runs")).store.path
    assert kept(run) == [{"calls": 2 * TEST + 2}]
    assert (await finished(run)).missing == 0
    assert len(lines(run / "sealed" / "calls.jsonl")) == 2 * TEST + 2


@pytest.mark.parametrize("bound", ["tokens", "usd"])
async def test_tokens_and_dollars_are_kept_so_that_every_call_of_finish_is_admitted(
    bound: str, toy: Toy, tmp_path: Path
) -> None:
    """A call is admitted by an estimate far above its cost, so the last one needs that much room."""
    room = 2 * DEFAULT_MAX_TOKENS + 1_500
    limit = room if bound == "tokens" else room / 1_000
    model = {"target": ScriptedModel([{"text": "red"}])}
    config = toy.config(models={"target": PAID}, prices={PAID.id: (1_000.0, 1_000.0)}, budget={bound: limit})
    proposer = ScriptedProposer(proposals_of(*[harness("good")] * 60))
    history = await searched(config.model_copy(update={"iterations": 60}), tmp_path / "runs", proposer, providers=model)
    run = history.store.path
    name = "dollars" if bound == "usd" else "tokens"
    assert f"the budget of {name}" in lines(run / "events.jsonl")[-1]["reason"]
    assert 3 < len(history) < 60
    result = await finished(run, providers={"target": ScriptedModel([{"text": "red"}])})
    assert result.missing == 0


async def test_a_bound_that_comes_with_a_resume_keeps_back_what_the_recorded_traces_have_taken(
    toy: Toy, tmp_path: Path
) -> None:
    run = (await searched(toy.config(iterations=1), tmp_path / "runs")).store.path
    assert kept(run) == []
    opened = Run.open(run, raised=Budget(calls=1_000))
    opened.store.close()
    assert kept(run) == [{"calls": FINISH}]
    (state,) = bound_states(opened.ledger)
    assert (state.spent, state.unspent, state.kept_for_finish) == (3 * SEARCH, 1_000 - 3 * SEARCH, FINISH)


def test_where_too_little_is_left_for_finish_the_search_stops_at_once_and_that_is_told(
    toy: Toy, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    said = say("run", *toy.arguments("--root", root, "--name", "run", "--budget-calls", BASELINES + TEST, "--json"))
    assert said.code == 0
    (state,) = said.page["budget"]
    assert state == {
        "bound": "calls",
        "role": None,
        "limit": BASELINES + TEST,
        "spent": BASELINES,
        "unspent": TEST,
        "kept_for_finish": TEST,
        "finish_needs": FINISH,
    }
    assert (
        f"budget of calls: {BASELINES} of {BASELINES + TEST} spent, {TEST} unspent; finish needs {FINISH}"
    ) in said.err
    assert f"to test the best one, once: metaharness finish --root {root} run --budget-calls N" in said.err
    assert f"budget of calls: {BASELINES} of" in say("cost", "--root", root).out


# --- warnings ---------------------------------------------------------------------------------------------------


async def test_half_and_four_fifths_of_each_bound_are_warned_of_once_also_over_a_resume(
    toy: Toy, tmp_path: Path
) -> None:
    config = toy.config(concurrency=1, budget={"calls": 50, "case_evaluations": 60, "candidates": 2})
    stopping = Run.create(config, tmp_path / "runs", name="run")
    seen: list[str] = []

    def stop_at_the_first(kind: str, _fields: object) -> None:
        seen.append(kind)
        if kind == "budget_warned":
            stopping.stop()

    stopping.listener = stop_at_the_first
    await finish(stopping)
    run = stopping.store.path
    assert warned(run) == [("candidates", 0.5, 2)]
    assert seen.count("budget_warned") == 1
    await finish(Run.open(run))
    told = [
        ("candidates", 0.5, 2),
        ("candidates", 0.8, 2),
    ]
    assert warned(run) == told
    await finish(Run.open(run))
    assert warned(run) == told
    await finished(run)
    assert warned(run)[len(told) :] == [
        ("case_evaluations", 0.5, 60),
        ("calls", 0.5, 50),
        ("calls", 0.8, 50),
    ]


async def test_a_bound_that_was_raised_is_warned_of_anew(toy: Toy, tmp_path: Path) -> None:
    write_cases(toy.folder, "test", 0)
    config = toy.config(iterations=1, concurrency=1, budget={"calls": BASELINES + SEARCH})
    run = (await searched(config, tmp_path / "runs")).store.path
    assert warned(run) == [("calls", 0.5, 18), ("calls", 0.8, 18)]
    (mine,) = proposals_of(harness("good"))
    async with Run.open(run, raised=Budget(calls=40)) as opened:
        await add(opened, mine)
    assert warned(run)[2:] == [("calls", 0.5, 40)]


def test_warnings_and_one_line_per_bound_are_shown(toy: Toy, tmp_path: Path) -> None:
    bounds = ("--budget-candidates", 9, "--budget-calls", 60, "--budget-usd", 1)
    arguments = toy.arguments("--root", tmp_path / "runs", "--name", "run", "-c", 1, *bounds)
    said = say("run", *arguments)
    assert said.code == 0
    assert "50% of the budget of calls is spent: 30 of 60" not in said.err  # 24 are
    for line in (
        "budget of candidates: 2 of 9 spent, 7 unspent",
        f"budget of calls: 24 of 60 spent, 36 unspent, {FINISH} of it kept for finish",
        "budget of dollars: $0.0000 of $1.0000 spent, $1.0000 unspent",
    ):
        assert line in said.err.splitlines()
    again = say("resume", "--root", tmp_path / "runs", "--budget-calls", 44, "--budget-candidates", 2)
    assert "80% of the budget" not in again.err
    assert "budget of calls: 24 of 44 spent, 20 unspent" in again.err
