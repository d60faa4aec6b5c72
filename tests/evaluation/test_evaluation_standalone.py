"""A harness evaluated as a person does it: domain, model and ladder together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_kit import LETTERS, guilty, harness, same_but_for_times

from metaharness.configuration import RunConfig
from metaharness.messages import ModelSpec
from metaharness.records import LEARN, CaseTrace
from metaharness.run.standalone import Evaluation, evaluate_harness

EXAMPLE = Path(__file__).resolve().parents[2] / "reference_examples" / "text_classification"


class Listening:
    """Evaluates one source and keeps every trace as it comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.traces: list[CaseTrace] = []

    async def evaluate(self, source: str, **chosen: Any) -> Evaluation:
        script = self.folder / "script.jsonl"
        script.write_text(
            "".join(json.dumps({"contains": letter, "text": letter.upper()}) + "\n" for letter in LETTERS)
        )
        file = self.folder / "harness.py"
        file.write_text(source)
        model = ModelSpec(provider="scripted", name=str(script))
        config = RunConfig(domain="evaluation_kit:letters", models={"target": model}, **chosen)
        return await evaluate_harness(file, config, listen=self.traces.append)


async def test_a_sound_harness_gets_a_score_and_smoke_cases_are_not_run_again(tmp_path: Path) -> None:
    listening = Listening(tmp_path)
    result = await listening.evaluate(harness(), concurrency=4, trials=2)
    assert result.rejection is None
    assert result.score is not None
    assert result.score.complete
    assert result.score.objectives["accuracy"].mean == 1.0
    cases = [(trace.case_id, trace.trial) for trace in listening.traces if trace.case_id != LEARN]
    assert sorted(cases) == [(letter, trial) for letter in LETTERS for trial in range(2)]
    assert result.score.spent.calls == 2 * len(LETTERS), "the other order of the smoke cases cost no call"


async def test_a_rejected_harness_has_no_score_and_paid_for_no_further_case(tmp_path: Path) -> None:
    listening = Listening(tmp_path)
    result = await listening.evaluate(harness("return model.complete(text).text + 1"))
    assert result.rejection is not None
    assert result.rejection.stage == "smoke"
    assert result.rejection.message == 'TypeError: can only concatenate str (not "int") to str'
    assert result.score is None
    assert len([trace for trace in listening.traces if trace.case_id != LEARN]) == 2


async def test_an_order_dependent_harness_is_evaluated_in_the_order_of_the_run(tmp_path: Path) -> None:
    listening = Listening(tmp_path)
    source = harness("self.n = getattr(self, 'n', 0) + 1\nreturn self.n")
    result = await listening.evaluate(source, concurrency=32, trials=2)
    assert result.score is not None
    assert result.score.order_dependent
    for trial in range(2):
        answers = [trace.output for (_, of), trace in result.traces.items() if of == trial]
        assert sorted(answers) == list(range(1, len(LETTERS) + 1))
    order = {trial: [case_id for case_id, of in result.traces if of == trial] for trial in range(2)}
    places = {key: trace.output for key, trace in result.traces.items()}
    assert [places[case_id, 1] for case_id in order[1]] == [places[case_id, 0] for case_id in order[1]]


@pytest.mark.parametrize("concurrency", [1, 3, 32])
async def test_a_broken_case_costs_only_itself_at_any_concurrency(tmp_path: Path, concurrency: int) -> None:
    listening = Listening(tmp_path)
    deed = "import os; os._exit(1)"
    result = await listening.evaluate(guilty(deed, case="f"), concurrency=concurrency, seed=5)
    if result.rejection is None:
        assert result.score is not None
        assert result.score.statuses == {"harness_error": 1, "ok": len(LETTERS) - 1}
    else:
        raise AssertionError("the seed puts the broken case among the smoke cases")


async def test_a_shipped_harness_answers_the_same_at_any_concurrency(tmp_path: Path) -> None:
    baseline = EXAMPLE / "baselines" / "01_few_shot_random.py"
    rows = "".join(
        json.dumps({"question": f"my {word} hurts since {day} days", "answer": word}) + "\n"
        for day in range(8)
        for word in ("back", "knee", "head")
    )
    for split in ("train", "search", "val", "test"):
        (tmp_path / f"{split}.jsonl").write_text(rows.replace("hurts", f"hurts, {split},"))
    options = {"data": str(tmp_path), "text_field": "question", "label_field": "answer"}
    found = []
    for concurrency in (1, 3, 32):
        config = RunConfig(
            domain=str(EXAMPLE),
            domain_options=options,
            models={"target": ModelSpec(provider="embedded", name="icl")},
            concurrency=concurrency,
            limit=12,
        )
        result = await evaluate_harness(baseline, config)
        assert result.score is not None, result.rejection
        found.append(same_but_for_times(list(result.traces.values())))
    assert found[0] == found[1] == found[2]
    assert all(row["status"] == "ok" and row["calls"] for row in found[0])
