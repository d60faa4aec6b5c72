"""`try_out`: files are tried on training cases before they are handed in; what that costs is counted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from run_kit import RAISES, SYNTAX_ERROR, Toy, assert_nothing_twice, harness, lines, recorded, write_toy
from tools_kit import begun, settings

from metaharness.configuration import Budget
from metaharness.errors import UsageError
from metaharness.run import Run
from metaharness.run.summaries import read_spent
from metaharness.run.trying import MOST_CASES, try_out

CASES = 6
LEARNING = """
class Harness:
    def learn(self, examples, model):
        self.seen = sorted(example.text for example in examples)

    def predict(self, text, model):
        return model.complete('[good] ' + text + ' seen: ' + ', '.join(self.seen)).text
"""
GOOD = {"harness.py": harness("good")}


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", cases=CASES)


@pytest.fixture
async def path(toy: Toy, tmp_path: Path) -> Path:
    """A run of an agent whose baselines are scored."""
    budget = {"candidates": 2, "calls": 200, "case_evaluations": 60}
    async with begun(settings(toy, tmp_path / "runs", budget=budget, patience=2)) as agent:
        return agent.root / "first"


def trains(run: Path) -> list[Mapping[str, object]]:
    return [line for line in lines(run / "events.jsonl") if line["kind"] == "tried"]


@pytest.mark.parametrize("asked", [["train-01"], ["train-02", "train-00"], []])
async def test_the_cases_that_are_asked_are_left_out_of_what_learn_is_shown(asked: list[str], path: Path) -> None:
    async with Run.open(path) as run:
        tried = await try_out(run, {"harness.py": LEARNING}, asked)
    assert set(tried.cases) == set(asked or ("train-00", "train-01", "train-02"))
    assert [trace.case_id for trace in tried.traces] == list(tried.cases)
    for trace in tried.traces:
        assert trace.status == "ok"
        (call,) = trace.calls
        shown = call.request["messages"][0]["content"].split("seen: ")[1]
        left = [number for number in range(3) if f"train-{number:02d}" not in tried.cases]
        assert shown == ", ".join(f"train item {number:02d}" for number in left)


async def test_a_try_costs_cases_and_calls_and_no_candidate_also_after_the_run_was_closed(path: Path) -> None:
    before = read_spent(recorded(path))
    calls = len(lines(path / "calls.jsonl"))
    async with Run.open(path) as run:
        await try_out(run, GOOD, ["train-00", "train-01"])
        await try_out(run, GOOD, ["train-00"])
        spent = run.spent
        assert spent.case_evaluations == before.case_evaluations + 3
        assert spent.calls == before.calls + len(lines(path / "calls.jsonl")) - calls
        assert spent.candidates == before.candidates == 0
    assert [line["cases"] for line in trains(path)] == [2, 1]
    async with Run.open(path) as run:
        assert run.spent.case_evaluations == spent.case_evaluations
        assert run.spent.calls == spent.calls
        assert len(run.history) == 2
    assert_nothing_twice(path)


@pytest.mark.parametrize(("source", "stage"), [(SYNTAX_ERROR, "syntax"), (RAISES, "smoke")])
async def test_files_that_the_ladder_would_reject_are_told_and_not_recorded(
    source: str, stage: str, path: Path
) -> None:
    async with Run.open(path) as run:
        tried = await try_out(run, {"harness.py": source})
        assert tried.rejection is not None
        assert tried.rejection.stage == stage
        assert len(run.history) == 2
    assert len(trains(path)) == (stage == "smoke"), "what is rejected before a case is asked costs none"


@pytest.mark.parametrize(
    ("cases", "message", "hint"),
    [
        (["search-00"], "there is no train case 'search-00'", "train has 3: train-"),
        (["test-00"], "there is no train case 'test-00'", "train has 3: train-"),
        (["train-00", "nothing"], "there is no train case 'nothing'", "train has 3"),
    ],
)
async def test_an_unknown_case_is_refused_and_costs_nothing(
    cases: list[str], message: str, hint: str, path: Path
) -> None:
    async with Run.open(path) as run:
        before = run.spent.case_evaluations
        with pytest.raises(UsageError, match=message) as refused:
            await try_out(run, GOOD, cases)
        assert hint in str(refused.value.hint)
        assert run.spent.case_evaluations == before
    assert trains(path) == []


async def test_more_cases_than_a_try_takes_are_refused(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "many", cases=CASES)
    rows = [f'{{"id": "t{number}", "text": "train item {number}", "colour": "red"}}\n' for number in range(9)]
    (toy.folder / "data" / "train.jsonl").write_text("".join(rows))
    async with Run.create(toy.config(), tmp_path / "runs") as run:
        with pytest.raises(UsageError, match="4 cases are too many") as refused:
            await try_out(run, GOOD, ["t0", "t1", "t2", "t3"])
        assert refused.value.hint == f"name at most {MOST_CASES}"
        assert len((await try_out(run, GOOD)).traces) == MOST_CASES


async def test_a_budget_that_does_not_reach_the_cases_is_refused(path: Path) -> None:
    async with Run.open(path, raised=Budget(case_evaluations=2 * CASES + 2 + 6)) as run:
        with pytest.raises(UsageError, match="has 2 left, and this try asks 3"):
            await try_out(run, GOOD)
        assert len((await try_out(run, GOOD, ["train-00", "train-01"])).traces) == 2
        with pytest.raises(UsageError, match="has 0 left"):
            await try_out(run, GOOD, ["train-00"])


# --- candidates of an agent count -------------------------------------------------------------------------------


async def test_what_an_agent_hands_in_counts_against_iterations_budget_and_patience(toy: Toy, tmp_path: Path) -> None:
    about = {"name": "x", "hypothesis": "It is better than that."}
    for place, (changes, styles, said) in enumerate(
        [
            ({"iterations": 2}, ["good", "ok"], "all 2 candidates were proposed"),
            ({"budget": {"candidates": 1}}, ["good"], "the budget of candidates is spent"),
            ({"patience": 2}, ["x", "x"], "2 rounds in a row brought no new incumbent"),
        ]
    ):
        async with begun(settings(toy, tmp_path / f"runs{place}", **changes)) as agent:
            for style in styles:
                await agent.evaluated(style)
            error = await agent.refused("write_harness", files=GOOD, **about)
            assert said in error
            assert "so none can be handed in" in error
        history = recorded(tmp_path / f"runs{place}" / "first")
        assert [one.proposal.by_hand for one in history] == [False] * len(history)
        assert read_spent(history).candidates == len(styles)
