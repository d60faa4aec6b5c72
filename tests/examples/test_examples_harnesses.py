"""The harnesses of the text classification example, run in this process with `embedded:icl`."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from examples_kit import (
    EXAMPLE,
    SYMPTOMS,
    TOPICS,
    Door,
    Result,
    load_harness,
    needs_symptoms,
    score,
    synthetic,
)

from metaharness.domain import Domain, Split, split_cases
from metaharness.harness import LabeledExample
from metaharness.loading import load_domain, read_candidate

BASELINES = sorted((EXAMPLE / "baselines").glob("*.py"))
PROPOSALS = sorted(path for path in (EXAMPLE / "proposals").iterdir() if path.is_dir())
BROKEN = EXAMPLE / "proposals" / "02_engine_index"
RUNNING = [path for path in [*BASELINES, *PROPOSALS] if path != BROKEN]


@pytest.fixture(scope="module")
def same() -> Callable[[Any, Any], bool]:
    domain = load_domain(str(EXAMPLE), {"data": str(EXAMPLE)})
    normalise = type(domain.evaluator).grade.__globals__["normalise"]
    return lambda output, expected: normalise(output) == normalise(expected)


def name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", RUNNING, ids=name)
def test_a_harness_answers_with_labels_of_the_training_set(path: Path) -> None:
    harness = load_harness(path)
    harness.learn(synthetic(1, 12), Door().model())

    assert {harness.predict(row.text, Door().model(3)) for row in synthetic(2, 2)} <= set(TOPICS)


@pytest.mark.parametrize("path", RUNNING, ids=name)
def test_a_harness_beats_guessing_on_other_data(path: Path, same: Callable[[Any, Any], bool]) -> None:
    result = score(load_harness(path), synthetic(1, 12), synthetic(2, 10), same)

    floors = {"00_zero_shot": 0.2, "01_few_shot_random": 0.4}
    assert result.accuracy >= floors.get(path.stem, 0.6)


@pytest.mark.parametrize("path", RUNNING, ids=name)
def test_a_harness_answers_without_having_learned(path: Path) -> None:
    assert isinstance(load_harness(path).predict("my card was charged twice", Door().model()), str)


@pytest.mark.parametrize("path", RUNNING, ids=name)
@pytest.mark.parametrize("rows", [[], [LabeledExample("one text", "one")]], ids=["no rows", "one row"])
def test_a_harness_learns_from_almost_nothing(path: Path, rows: list[LabeledExample]) -> None:
    harness = load_harness(path)
    harness.learn(rows, Door().model())

    for text in ("another text", "", "\u00e4\u00f6 \u4e2d\u6587", "x" * 20_000):
        assert isinstance(harness.predict(text, Door().model()), str)


@pytest.mark.parametrize("path", RUNNING, ids=name)
def test_an_answer_does_not_depend_on_the_texts_before_it(path: Path) -> None:
    rows = synthetic(2, 3)
    forward, backward = load_harness(path), load_harness(path)
    for harness in (forward, backward):
        harness.learn(synthetic(1, 12), Door().model())

    first = [forward.predict(row.text, Door().model(seed)) for seed, row in enumerate(rows)]
    second = [backward.predict(row.text, Door().model(seed)) for seed, row in reversed(list(enumerate(rows)))]

    assert first == second[::-1]


@pytest.mark.parametrize("path", RUNNING, ids=name)
def test_long_texts_stay_within_the_window(path: Path) -> None:
    rows = [LabeledExample(f"{row.text} " + "and more of the same " * 100, row.label) for row in synthetic(1, 12)]
    harness = load_harness(path)
    harness.learn(rows, Door().model())
    door = Door()
    harness.predict(rows[0].text, door.model())

    if path.stem not in ("01_few_shot_random", "05_vote_of_samples"):  # they count examples, not characters
        assert door.chars / door.calls <= 16_000


@pytest.mark.parametrize("path", [*RUNNING, BROKEN], ids=name)
def test_a_harness_is_python_3_9_and_imports_the_standard_library_alone(path: Path) -> None:
    source = (path / "harness.py" if path.is_dir() else path).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))

    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {"__future__", "collections", "collections.abc", "math", "metaharness.harness", "re"}


@pytest.mark.parametrize("path", PROPOSALS, ids=name)
def test_a_proposal_says_what_it_expects_and_why(path: Path) -> None:
    about = json.loads((path / "proposal.json").read_text(encoding="utf-8"))
    proposal = read_candidate(path)

    assert set(about) == {"name", "hypothesis", "axis", "components", "predicted_effect", "parents"}
    assert proposal.name == path.name.split("_", 1)[1]
    assert proposal.hypothesis.endswith(".")
    assert proposal.axis
    assert proposal.components
    assert proposal.predicted_effect
    assert proposal.reasoning.startswith("# ")
    assert set(proposal.files) == {"harness.py"}


def test_one_proposal_cannot_be_imported() -> None:
    with pytest.raises(ImportError, match="Bm25Index"):
        load_harness(BROKEN)


# --- the symptom data -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def symptoms() -> Domain:
    return load_domain(
        "text_classification", {"data": str(SYMPTOMS), "text_field": "question", "label_field": "answer"}
    )


@pytest.fixture(scope="module")
def results(symptoms: Domain, same: Callable[[Any, Any], bool]) -> dict[str, dict[Split, Result]]:
    rows = {
        split: [LabeledExample(case.input, case.expected) for case in split_cases(symptoms, split)] for split in Split
    }
    return {
        path.stem: {
            split: score(load_harness(path), rows[Split.TRAIN], rows[split], same)
            for split in (Split.SEARCH, Split.TEST)
        }
        for path in RUNNING
    }


@needs_symptoms
@pytest.mark.slow
def test_the_search_finds_more_than_the_baselines_have(results: dict[str, dict[Split, Result]]) -> None:
    searched = {path.stem: results[path.stem][Split.SEARCH].accuracy for path in RUNNING}
    best = max(searched, key=lambda stem: searched[stem])

    assert best not in {path.stem for path in BASELINES}
    assert searched[best] > 0.70
    assert results[best][Split.TEST].accuracy >= 0.78


@needs_symptoms
@pytest.mark.slow
def test_the_baselines_get_better_with_more_examples(results: dict[str, dict[Split, Result]]) -> None:
    for split in (Split.SEARCH, Split.TEST):
        zero, some, full = (results[path.stem][split] for path in BASELINES)

        assert zero.accuracy < some.accuracy < full.accuracy
        assert zero.chars < some.chars < full.chars


@needs_symptoms
@pytest.mark.slow
def test_one_proposal_is_a_step_back(results: dict[str, dict[Split, Result]]) -> None:
    for split in (Split.SEARCH, Split.TEST):
        before, after = results["04_varied_neighbours"][split], results["05_vote_of_samples"][split]

        assert after.accuracy < before.accuracy - 0.1
        assert after.chars > before.chars


@needs_symptoms
@pytest.mark.slow
def test_similar_examples_beat_a_full_window_at_a_fifth_of_its_context(
    results: dict[str, dict[Split, Result]],
) -> None:
    for split in (Split.SEARCH, Split.TEST):
        full = results["02_few_shot_all"][split]
        for stem in ("01_bm25_nearest", "04_varied_neighbours"):
            assert results[stem][split].accuracy > full.accuracy
            assert results[stem][split].chars < full.chars / 5
