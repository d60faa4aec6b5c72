"""The objectives that a person chooses for a run: what may be chosen, and what follows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from finish_kit import finished
from regrade_kit import LENIENT, evaluate_with, graded_anew
from run_kit import CASES, Toy, harness, rules, searched, write_toy

from metaharness.errors import UsageError
from metaharness.history import History
from metaharness.messages import ModelSpec
from metaharness.run import Run
from metaharness.testing import ScriptedModel

METRIC = """
from metaharness.domain import Grade


class Exact:
    def grade(self, context):
        right = context.output == context.case.expected
        return Grade(float(right), {"letters": len(context.output)} if right else {})
"""
"""A right answer alone has the metric `letters`."""
TWICE = "model.complete('[good] ' + text)"
PROPOSALS: dict[str, Any] = {
    "1_good.py": harness("good"),
    "2_twice.py": harness("good", body=TWICE),
    "3_notes": {"harness.py": harness("good"), "notes.txt": "né " * 50},
    "4_none.py": harness("x"),
}


def means(history: History, name: str) -> list[float | None]:
    scores = [iteration.score for iteration in history]
    return [one.objectives[name].mean if one is not None and name in one.objectives else None for one in scores]


async def test_the_frontier_is_over_the_first_objective_of_the_domain_and_the_chosen_ones(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")}, proposals=PROPOSALS)
    evaluate_with(toy, METRIC)
    chosen = ("harness_chars:min", "calls:min")
    history = await searched(toy.config(objectives=chosen), tmp_path / "runs", name="run")
    assert [one.name for one in history.objectives] == ["accuracy", "harness_chars", "calls"]
    sizes = [len(harness("plain")), len(harness("good")), len(harness("good", body=TWICE)), None, len(harness("x"))]
    sizes[3] = len(harness("good")) + 150
    assert means(history, "harness_chars") == sizes
    assert means(history, "calls") == [1, 1, 2, 1, 1]
    assert history.scoreboard().frontier == [1, 4]  # `x` is the shortest, and `good` as good as any longer one

    result = await finished(tmp_path / "runs" / "run")
    assert [sorted(row.objectives) for row in result.rows] == [["accuracy", "calls", "harness_chars"]] * 2
    assert result.rows[0].objectives["harness_chars"].mean == sizes[result.rows[0].iteration]


async def test_a_metric_of_the_grades_is_over_the_cases_that_carry_it_also_graded_anew(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")}, proposals=PROPOSALS)
    evaluate_with(toy, METRIC)
    history = await searched(toy.config(objectives=("letters:max", "accuracy:max")), tmp_path / "runs", name="run")
    assert [(one.name, one.direction) for one in history.objectives] == [("accuracy", "max"), ("letters", "max")]
    plain = history.iteration(0).score
    assert plain is not None
    assert plain.complete  # a metric that is missing makes no pair missing
    assert (plain.objectives["letters"].cases, plain.objectives["accuracy"].cases) == (4, CASES)
    assert plain.objectives["letters"].mean == pytest.approx(len("red" + "green" + "blue" + "red") / 4)
    assert means(history, "letters")[4] is None  # `x` has no right answer: no zero
    assert 4 not in history.scoreboard().frontier
    assert history.scoreboard().gaps() == ["letters has no value for 1 of 5 candidates, which are not on the frontier"]

    evaluate_with(toy, LENIENT)  # which carries no metric
    fork = await graded_anew(tmp_path / "runs" / "run", name="anew")
    assert [one.name for one in fork.objectives] == ["accuracy", "letters"]
    assert fork.scoreboard().frontier == []
    assert fork.scoreboard().gaps()[0].startswith("letters has no value: no grade of any candidate carries")


async def test_dollars_can_be_chosen_where_the_price_is_known_and_are_of_the_target_alone(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00_plain.py": harness("plain")}, proposals=PROPOSALS)
    models = {"target": ModelSpec(provider="openai", name="mine", base_url="http://127.0.0.1:9/v1")}
    config = toy.config(models=models, objectives=("usd:min",), prices={"openai:mine": (1.0, 2.0)})
    history = await searched(config, tmp_path / "runs", providers={"target": ScriptedModel(rules())})
    spent = history.iteration(0).score
    assert spent is not None
    dollars = means(history, "usd")
    assert dollars[0] == pytest.approx(spent.spent.usd / CASES)
    assert dollars[2] == pytest.approx(2 * (dollars[1] or 0))
    assert history.objectives[1].unit == "US dollars"


@pytest.mark.parametrize(
    ("chosen", "message", "hint"),
    [
        (("usd",), "'usd' is not NAME:min or NAME:max", "NAME is accuracy, context_chars, calls, "),
        (("usd:down",), "'usd:down' is not NAME:min or NAME:max", "usd, latency, harness_chars, an objective"),
        ((":min",), "':min' is not NAME:min", "or a metric of its grades"),
        (("calls:min", "calls:max"), "the objective calls is named twice", "once"),
        (("latency:min", "latency_ms:min"), "the objective latency_ms is named twice", "once"),
        (("accuracy:min",), "colours declares the objective accuracy as max, not as min", "accuracy:max"),
        (("context_chars:max",), "colours declares the objective context_chars as min", "context_chars:min"),
    ],
)
async def test_what_cannot_be_an_objective_is_refused_before_there_is_a_run(
    chosen: tuple[str, ...], message: str, hint: str, tmp_path: Path, toy: Toy
) -> None:
    with pytest.raises(UsageError) as raised:
        Run.create(toy.config(objectives=chosen), tmp_path / "runs")
    assert message in raised.value.message
    assert hint in str(raised.value.hint)
    assert not (tmp_path / "runs").exists()


async def test_a_run_goes_on_with_the_objectives_that_it_was_begun_with(toy: Toy, tmp_path: Path) -> None:
    run = Run.create(toy.config(objectives=("harness_chars:min",), iterations=1), tmp_path / "runs", name="run")
    run.store.close()
    again = Run.open(tmp_path / "runs" / "run")
    try:
        assert [one.name for one in again.history.objectives] == ["accuracy", "harness_chars"]
    finally:
        again.store.close()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("objectives") / "domain")
