"""A search whose baselines get no answer at all ends there, unless the budget is the reason, and is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_kit import (
    Toy,
    assert_nothing_twice,
    essence,
    finish,
    harness,
    recorded,
    rules,
    searched,
    write_toy,
)

from metaharness.errors import IncompleteError
from metaharness.gateway.providers import Provider
from metaharness.records import Role
from metaharness.run import Run
from metaharness.run.summaries import run_status
from metaharness.testing import ScriptedModel

CASES = 4
DOWN = {"error": {"kind": "infrastructure", "message": "overloaded", "status_code": 529}}


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", cases=CASES, proposals={"1_other.py": harness("other")})


def model(*first: dict[str, Any]) -> dict[Role, Provider]:
    """The model of the toy, but for these rules."""
    return {"target": ScriptedModel([*first, *rules(CASES)])}


async def test_without_one_answer_it_ends_before_a_candidate_is_proposed(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="no case of the baselines has a value: overloaded") as raised:
        await searched(toy.config(), tmp_path / "runs", name="run", providers=model(DOWN))
    path = tmp_path / "runs" / "run"
    assert f"metaharness resume --root {path.parent} run" in str(raised.value.hint)
    assert [iteration.state for iteration in recorded(path)] == ["incomplete", "incomplete"]


async def test_it_ends_again_while_nobody_answers_and_is_completed_when_somebody_does(toy: Toy, tmp_path: Path) -> None:
    whole = await searched(toy.config(), tmp_path / "whole")
    path = tmp_path / "runs" / "run"
    with pytest.raises(IncompleteError):
        await searched(toy.config(), path.parent, name="run", providers=model(DOWN))
    with pytest.raises(IncompleteError):
        await finish(Run.open(path, providers=model(DOWN)))
    await finish(Run.open(path))
    history = recorded(path)
    assert run_status(history) == run_status(whole) == "the one candidate was proposed"
    assert [iteration.state for iteration in history] == ["complete"] * 3
    assert_nothing_twice(path)
    come, undisturbed = essence(path), essence(whole.store.path)
    for name in ("scoreboard", "calls", "rejected", "files"):
        assert come[name] == undisturbed[name], name


async def test_one_pair_with_an_answer_is_enough_to_go_on(toy: Toy, tmp_path: Path) -> None:
    down = [{"contains": f"[{style}]", **DOWN} for style in ("plain", "long")]
    one = {"contains": "[long] item 03", "text": "grey"}
    history = await searched(toy.config(concurrency=1), tmp_path / "runs", providers=model(one, *down))
    assert [iteration.state for iteration in history] == ["incomplete", "incomplete", "complete"]
    score = history.iteration(1).score
    assert score is not None
    assert (score.ended, score.missing) == (1, CASES - 1)
    assert run_status(history) == "the one candidate was proposed"


@pytest.mark.parametrize("first", [(), (DOWN,)], ids=["a model that answers", "a model that does not"])
async def test_where_the_budget_is_the_reason_the_search_ends_without_an_error(
    first: tuple[dict[str, Any], ...], toy: Toy, tmp_path: Path
) -> None:
    history = await searched(toy.config(budget={"calls": 0}), tmp_path / "runs", providers=model(*first))
    assert [iteration.state for iteration in history] == ["incomplete", "incomplete"]
    assert all(set(iteration.score.statuses) == {"budget"} for iteration in history if iteration.score is not None)
    assert run_status(history) == "the budget of calls is spent"


async def test_where_it_is_the_evaluator_that_fails_it_is_said_to_mend_it_and_grade_anew(
    toy: Toy, tmp_path: Path
) -> None:
    (toy.folder / "evaluator.py").write_text("class Exact:\n    def grade(self, context):\n        return 1 / 0\n")
    with pytest.raises(IncompleteError, match=r"no case of the baselines has a value: .*division by zero") as raised:
        await searched(toy.config(), tmp_path / "runs", name="run")
    assert "mend it (`metaharness check` tries it)" in str(raised.value.hint)
    assert f"metaharness regrade --root {tmp_path / 'runs'} run" in str(raised.value.hint)
