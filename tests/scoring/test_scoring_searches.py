"""Searches over candidates that are no better than their baseline: what is said of them is seldom an improvement.

The simulation is that of `benchmarks/searches.py`, which runs it in full and through the same functions as a run.
"""

from __future__ import annotations

import pytest
from benchmark_kit import load_benchmark

SEARCHES = 200
"""Of each kind; the benchmark has 1,000."""


simulation = load_benchmark("searches")
KINDS = [
    pytest.param(setting, id=f"{setting.trials} trials, parent {setting.parent}")
    for setting in simulation.settings(share=simulation.SHARE, width=1)
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_equal_candidates_are_seldom_called_better_and_their_winner_seldom_tests_so(kind: object) -> None:
    outcomes = [simulation.search(kind, number, whole=False) for number in range(SEARCHES)]
    better, headline = simulation.shares(outcomes)
    print(f"{kind}: some better {better:.3f}, headline {headline:.3f}")  # noqa: T201 - what `pytest -rP` shows
    assert better <= simulation.LIMIT
    assert headline <= simulation.LIMIT


@pytest.mark.parametrize("kind", KINDS[2:4])
def test_candidates_below_the_incumbent_may_be_passed_over(kind: object) -> None:
    """What makes the test above quick does not change what it finds."""
    for number in range(4):
        assert simulation.search(kind, number, whole=False) == simulation.search(kind, number, whole=True)


def test_candidates_that_are_better_are_found_in_the_same_searches() -> None:
    """The shares are small because there is nothing to find, not because nothing is ever found."""
    kind = simulation.Setting("best", 1, share=0.0, gain=0.8)
    better, headline = simulation.shares([simulation.search(kind, number, whole=False) for number in range(20)])
    assert better >= 0.9
    assert headline >= 0.9
