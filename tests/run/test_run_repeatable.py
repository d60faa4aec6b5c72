"""The same numbers twice, and however many calls are in the air at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_kit import DOMAIN, EVALUATOR, essence, harness, proposals_of, searched, write_toy

from metaharness.proposers.scripted import ScriptedProposer

RANDOM = """
class Harness:
    def learn(self, examples, model):
        self.known = sorted(example.text for example in examples)

    def predict(self, text, model):
        choice = model.random.choice(["other", "good", "x"])
        answers = model.complete_many([f"[{choice}] {text}", f"[{choice}] {text}", f"[plain] {text}"])
        return answers[model.random.randrange(3)].text
"""
COUNTS = """
class Harness:
    def __init__(self):
        self.asked = 0

    def predict(self, text, model):
        self.asked += 1
        return model.complete(f"[{'good' if self.asked % 2 else 'x'}] {text}").text
"""


async def test_two_searches_with_the_same_seed_come_to_the_same(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    proposer = ScriptedProposer(proposals_of(RANDOM, harness("good"), COUNTS))
    config = toy.config(iterations=3, candidates_per_round=2, trials=2, limit=6, seed=5)
    first = await searched(config, tmp_path / "runs", proposer, name="first")
    second = await searched(config, tmp_path / "runs", proposer, name="second")
    assert essence(first.store.path) == essence(second.store.path)


async def test_concurrency_1_and_32_give_the_same_scoreboard_and_the_same_traces(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    proposer = ScriptedProposer(proposals_of(RANDOM, harness("good"), COUNTS))
    found = []
    for concurrency in (1, 32):
        config = toy.config(iterations=3, candidates_per_round=3, concurrency=concurrency)
        history = await searched(config, tmp_path / "runs", proposer, name=f"c{concurrency}")
        found.append(essence(history.store.path))
    assert found[0] == found[1]
    assert found[0]["scoreboard"][-1]["order_dependent"]


async def test_another_seed_asks_in_another_order_and_draws_other_numbers(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    proposer = ScriptedProposer(proposals_of(RANDOM))
    outputs = []
    for seed in (0, 1):
        history = await searched(toy.config(iterations=1, seed=seed), tmp_path / "runs", proposer, name=f"s{seed}")
        outputs.append([trace["calls"] for trace in essence(history.store.path)["traces"].values()])
    assert outputs[0] != outputs[1]


async def test_the_order_of_cases_does_not_depend_on_how_the_domain_lists_them(tmp_path: Path) -> None:
    firsts = []
    for name, listed in (("a", "rows"), ("b", "reversed(rows)")):
        toy = write_toy(tmp_path / name / "domain")
        source = DOMAIN.replace("for line in (", "rows = (").replace(
            ".splitlines():", f".splitlines()\n        for line in {listed}:"
        )
        (toy.folder / "domain.py").write_text(source)
        (toy.folder / "evaluator.py").write_text(EVALUATOR)
        history = await searched(toy.config(iterations=0, limit=3), tmp_path / name / "runs")
        firsts.append({trace.case_id for trace in history.store.traces(0)})
    assert firsts[0] == firsts[1]


@pytest.mark.parametrize("trials", [2, 3])
async def test_each_trial_asks_anew_and_is_counted(trials: int, tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    history = await searched(toy.config(iterations=0, limit=4, trials=trials), tmp_path / "runs")
    score = history.iteration(0).score
    assert score is not None
    assert (score.planned, score.trials, score.objectives["accuracy"].cases) == (4 * trials, trials, 4)
    assert len(essence(history.store.path)["calls"]) == 2 * 4 * trials  # two baselines
