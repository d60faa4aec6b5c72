from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from metaharness.scoring.student import t_cdf, t_quantile

DEGREES = [*range(1, 31), 49, 50, 99, 100, 199, 500, 999, 1000, 5000, 9999, 10_000]
PROBABILITIES = [0.51, 0.6, 0.7, 0.74, 0.75, 0.76, 0.8, 0.9, 0.95, 0.975, 0.99, 0.999, 0.9999]


@pytest.mark.parametrize("p", PROBABILITIES)
def test_the_quantile_agrees_with_scipy(p: float) -> None:
    for df in DEGREES:
        assert t_quantile(p, df) == pytest.approx(float(stats.t.ppf(p, df)), rel=1e-9)


@pytest.mark.parametrize("t", [1e-6, 0.1, 0.7, 1.0, 1.96, 3.0, 12.0])
def test_the_cumulative_probability_agrees_with_scipy_on_both_sides(t: float) -> None:
    for df in DEGREES:
        assert t_cdf(t, df) == pytest.approx(float(stats.t.cdf(t, df)), rel=1e-9)
        assert t_cdf(-t, df) == pytest.approx(float(stats.t.sf(t, df)), rel=1e-9)


@settings(deadline=None)
@given(st.floats(0.5, 0.9999), st.floats(1, 10_000))
def test_the_quantile_is_the_inverse_of_the_cumulative_probability(p: float, df: float) -> None:
    assert t_cdf(t_quantile(p, df), df) == pytest.approx(p, rel=1e-12)


@settings(deadline=None)
@given(st.integers(1, 2**20 - 1), st.floats(1, 10_000))
def test_the_quantile_is_symmetric(numerator: int, df: float) -> None:
    p = numerator / 2**20
    assert t_quantile(1 - p, df) == -t_quantile(p, df)


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.integers(1, 10_000))
def test_the_quantile_grows_with_the_probability(p: float, q: float, df: int) -> None:
    low, high = sorted((p, q))
    assert t_quantile(low, df) <= t_quantile(high, df)


def test_the_quantile_falls_towards_the_normal_one_with_more_degrees_of_freedom() -> None:
    quantiles = [t_quantile(0.975, df) for df in range(1, 300)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[-1] > stats.norm.ppf(0.975)


def test_the_quantile_keeps_its_digits_near_the_middle() -> None:
    # The density of one degree of freedom at 0 is 1 / pi; scipy loses four digits here.
    assert t_quantile(0.5 + 2**-40, 1) == pytest.approx(math.tan(math.pi * 2**-40), rel=1e-12)


def test_the_quantile_is_right_far_out_in_the_heaviest_tail() -> None:
    assert t_quantile(1e-100, 1) == pytest.approx(-1e100 / math.pi, rel=1e-9)


def test_the_middle_and_the_ends_are_exact() -> None:
    assert t_quantile(0.5, 7) == 0.0
    assert t_cdf(0.0, 7) == 0.5
    assert (t_cdf(math.inf, 7), t_cdf(-math.inf, 7), t_cdf(1e200, 7)) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, 1.1, math.nan])
def test_a_probability_without_a_quantile_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="p is"):
        t_quantile(p, 5)


@pytest.mark.parametrize("df", [0, 0.5, -1, 1.1e7, math.inf, math.nan])
def test_degrees_of_freedom_out_of_bounds_are_refused(df: float) -> None:
    with pytest.raises(ValueError, match="df is"):
        t_quantile(0.975, df)
    with pytest.raises(ValueError, match="df is"):
        t_cdf(1.0, df)


def test_the_cumulative_probability_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        t_cdf(math.nan, 5)
