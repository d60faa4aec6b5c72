"""How much the prompt decides: the figures of `embedded:icl` on the symptom data, when they are there."""

from __future__ import annotations

from typing import Any

import pytest
from embedded_kit import SYMPTOMS, load_benchmark, needs_symptoms

pytestmark = [needs_symptoms, pytest.mark.slow]


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    benchmark = load_benchmark()
    train = benchmark.load(SYMPTOMS / "train.jsonl", "question", "answer")
    test = benchmark.load(SYMPTOMS / "test.jsonl", "question", "answer")
    measured: dict[str, Any] = benchmark.measure(train, test, seeds=3)
    return measured


def test_a_list_of_labels_alone_scores_low(figures: dict[str, Any]) -> None:
    assert 0.05 < figures["zero-shot"].accuracy < 0.30


def test_more_demonstrations_score_higher_for_every_choice_of_them(figures: dict[str, Any]) -> None:
    few, more, full = (figures[name].by_seed for name in ("8 random", "32 random", "window filled"))

    assert figures["zero-shot"].accuracy < min(few)
    assert max(few) < min(more)
    assert max(more) < min(full)


@pytest.mark.parametrize("count", [8, 12, 16])
def test_similar_demonstrations_score_higher_than_a_full_window(figures: dict[str, Any], count: int) -> None:
    nearest, full = figures[f"{count} nearest"], figures["window filled"]

    assert nearest.accuracy >= 0.76
    assert nearest.accuracy > max(full.by_seed)


@pytest.mark.parametrize("count", [8, 12])
def test_similar_demonstrations_need_a_fifth_of_the_text(figures: dict[str, Any], count: int) -> None:
    assert figures[f"{count} nearest"].chars <= figures["window filled"].chars / 5


def test_contrasting_the_likeliest_labels_scores_high(figures: dict[str, Any]) -> None:
    assert figures["4 labels, all rows"].accuracy >= 0.78
