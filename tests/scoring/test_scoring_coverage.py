"""The 95% intervals hold the true mean at least 93% of the time, whatever part of the variance lies between cases.

The full table, with more replications, is printed by `benchmarks/intervals.py`, whose functions these are.
"""

from __future__ import annotations

import pytest
from benchmark_kit import load_benchmark

REPLICATIONS = 2_000
"""Enough to tell 0.95 from 0.93: the standard error is 0.005."""


measuring = load_benchmark("intervals")


@pytest.mark.parametrize("cases", measuring.CASES)
@pytest.mark.parametrize("percent", [*range(45, 56), *range(93, 98)])
def test_with_one_trial_the_exact_coverage_is_at_least_93_percent(cases: int, percent: int) -> None:
    assert measuring.exact_coverage(cases, percent / 100) >= measuring.LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("concentration", measuring.CONCENTRATIONS[::2])
@pytest.mark.parametrize("mean", [0.5, 0.95])
@pytest.mark.parametrize("cases", measuring.CASES)
def test_with_five_trials_the_coverage_is_at_least_93_percent(cases: int, mean: float, concentration: float) -> None:
    setting = measuring.Setting(cases, 5, mean, concentration)
    assert measuring.coverage(setting, REPLICATIONS) >= measuring.LIMIT


def test_an_interval_that_is_too_narrow_would_be_noticed() -> None:
    """Trials taken for cases: what the unit of measurement is there to prevent."""
    assert measuring.pooled_coverage(measuring.Setting(50, 5, 0.5, 0.05), 500) < 0.8
