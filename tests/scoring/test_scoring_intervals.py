from __future__ import annotations

import math
import random
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from metaharness.records import Estimate
from metaharness.scoring.intervals import estimate, mean_and_margin, mean_bounds, unit_means

UNIT = (0.0, 1.0)
proportions = st.lists(st.floats(0, 1), min_size=2, max_size=40)
numbers = st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=40)


def ends(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


# --- any values -----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(proportions, st.integers(1, 10))
def test_an_interval_of_proportions_contains_the_mean_and_lies_in_the_range(values: list[float], trials: int) -> None:
    found = estimate(values, value_range=UNIT, trials=trials)
    low, high = ends(found)
    assert 0 <= low <= found.mean <= high <= 1
    assert min(values) <= found.mean <= max(values)


@settings(deadline=None)
@given(numbers)
def test_an_unbounded_interval_contains_the_mean(values: list[float]) -> None:
    found = estimate(values, value_range=None)
    low, high = ends(found)
    assert low <= found.mean <= high


@settings(deadline=None)
@given(st.lists(st.floats(-3, 7), min_size=2, max_size=40))
def test_a_t_interval_is_clipped_to_its_range(values: list[float]) -> None:
    low, high = ends(estimate(values, value_range=(-3, 7)))
    assert -3 <= low <= high <= 7


@settings(deadline=None)
@given(proportions, st.randoms(use_true_random=False), st.sampled_from([UNIT, (0.0, 2.0), None]))
def test_the_order_of_the_values_changes_no_bit(
    values: list[float], shuffler: random.Random, value_range: tuple[float, float] | None
) -> None:
    shuffled = list(values)
    shuffler.shuffle(shuffled)
    assert estimate(shuffled, value_range=value_range) == estimate(values, value_range=value_range)


@settings(deadline=None)
@given(st.lists(st.integers(0, 60).map(lambda count: count / 60), min_size=2, max_size=40))
def test_the_mirror_image_of_proportions_has_the_mirror_image_of_the_interval(values: list[float]) -> None:
    low, high = ends(estimate(values, value_range=UNIT))
    mirrored = ends(estimate([1 - value for value in values], value_range=UNIT))
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@settings(deadline=None)
@given(proportions, st.integers(1, 10), st.integers(1, 10))
def test_more_trials_never_widen_an_interval(values: list[float], trials: int, other: int) -> None:
    few, many = sorted((trials, other))
    wide_low, wide_high = ends(estimate(values, value_range=UNIT, trials=few))
    low, high = ends(estimate(values, value_range=UNIT, trials=many))
    assert high - low <= wide_high - wide_low + 1e-12


@settings(deadline=None)
@given(st.integers(2, 80), st.data())
def test_one_more_success_raises_both_ends(cases: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, cases - 1))
    before = ends(estimate([1.0] * successes + [0.0] * (cases - successes), value_range=UNIT))
    after = ends(estimate([1.0] * (successes + 1) + [0.0] * (cases - successes - 1), value_range=UNIT))
    assert before[0] < after[0]
    assert before[1] < after[1]


# --- against scipy and statsmodels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cases", [2, 5, 20, 50, 200])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95, 1.0])
def test_binary_values_get_the_wilson_interval_of_statsmodels_at_a_size_reduced_for_the_variance(
    cases: int, share: float
) -> None:
    successes = round(cases * share)
    size = cases * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, cases - 1)) ** 2
    expected = proportion_confint(successes / cases * size, size, alpha=0.05, method="wilson")
    found = estimate([1] * successes + [0] * (cases - successes), value_range=(0, 1))
    assert ends(found) == pytest.approx(expected, abs=1e-9)
    assert found.method == "wilson"


def test_the_effective_size_follows_the_formula_with_two_pseudo_cases_between_its_clips() -> None:
    values = [0.2, 0.8, 1.0, 0.4, 0.6, 1.0, 0.0, 0.4, 0.8, 0.6]
    mean, padded = float(np.mean(values)), [*values, 0.0, 1.0]
    middle, variance = float(np.mean(padded)), float(np.var(padded, ddof=1))
    size = 10 * middle * (1 - middle) / variance * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 9)) ** 2
    assert 10 < size < 50
    expected = proportion_confint(mean * size, size, alpha=0.05, method="wilson")
    assert ends(estimate(values, value_range=UNIT, trials=5)) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30))
def test_a_t_interval_agrees_with_scipy(integers: list[int]) -> None:
    assume(len(set(integers)) > 1)
    found = estimate(integers, value_range=None)
    scale = float(np.std(integers, ddof=1)) / math.sqrt(len(integers))
    expected = stats.t.interval(0.95, len(integers) - 1, loc=float(np.mean(integers)), scale=scale)
    assert ends(found) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (found.method, found.cases) == ("t", len(integers))


# --- edges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value_range", "method"), [(UNIT, "wilson"), ((0.0, 10.0), "t"), (None, "t")])
def test_a_single_case_has_a_mean_and_no_interval(value_range: tuple[float, float] | None, method: str) -> None:
    assert estimate([0.5], value_range=value_range) == Estimate(mean=0.5, low=None, high=None, method=method, cases=1)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_unanimous_cases_are_as_uncertain_with_many_trials_as_with_one(value: float) -> None:
    one = estimate([value] * 20, value_range=UNIT, trials=1)
    many = estimate([value] * 20, value_range=UNIT, trials=10)
    assert ends(one) == ends(many)
    low, high = ends(one)
    assert high - low > 0.15


def test_many_equal_cases_inside_the_range_count_every_trial() -> None:
    expected = proportion_confint(50, 100, alpha=0.05, method="wilson")
    assert ends(estimate([0.5] * 20, value_range=UNIT, trials=5)) == pytest.approx(expected, abs=1e-12)


def test_a_few_equal_cases_inside_the_range_do_not_count_every_trial() -> None:
    independent = proportion_confint(10, 20, alpha=0.05, method="wilson")
    low, high = ends(estimate([0.5] * 4, value_range=UNIT, trials=5))
    assert low < independent[0]
    assert independent[1] < high


def test_almost_unanimous_cases_are_hardly_more_certain_than_unanimous_ones() -> None:
    # Without pseudo-cases 19 cases of 1.0 and one of 0.8 would count as 80 independent trials and more.
    low, _ = ends(estimate([1.0] * 19 + [0.8], value_range=UNIT, trials=5))
    unanimous, _ = ends(estimate([1.0] * 20, value_range=UNIT, trials=5))
    assert low == pytest.approx(unanimous, abs=0.02)


def test_equal_unbounded_values_have_an_interval_of_width_zero() -> None:
    assert ends(estimate([0.1] * 3, value_range=None)) == (0.1, 0.1)


def test_values_too_small_to_square_do_not_break_the_interval() -> None:
    low, high = ends(estimate([1e-200, 3e-200], value_range=UNIT))
    assert 0 <= low <= 2e-200 <= high <= 1


def test_two_cases_say_almost_nothing() -> None:
    low, high = ends(estimate([1.0, 0.0], value_range=UNIT))
    assert low < 0.01
    assert high > 0.99


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate([], value_range=UNIT)
    with pytest.raises(ValueError, match="no values"):
        mean_and_margin([])


@pytest.mark.parametrize("value", [-0.001, 1.001, 100.0])
def test_a_value_outside_its_range_is_refused_and_not_guessed_to_be_a_percentage(value: float) -> None:
    with pytest.raises(ValueError, match="the range is"):
        estimate([0.5, value], value_range=UNIT)


def test_a_value_that_rounding_put_beyond_its_range_is_moved_onto_the_end() -> None:
    assert estimate([math.nextafter(1, 2)] * 2, value_range=UNIT).mean == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    for value_range in (UNIT, None):
        with pytest.raises(ValueError, match="finite"):
            estimate([0.5, value], value_range=value_range)
    with pytest.raises(ValueError, match="finite"):
        mean_and_margin([value])


@pytest.mark.parametrize("value_range", [(1.0, 0.0), (1.0, 1.0), (math.nan, 1.0)])
def test_an_empty_range_is_refused(value_range: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="is empty"):
        estimate([1.0], value_range=value_range)


def test_a_range_may_be_open_at_one_end() -> None:
    low, high = ends(estimate([0.0, 0.0, 9.0], value_range=(0.0, math.inf)))
    assert low == 0.0
    assert high > 9


def test_less_than_one_trial_is_refused() -> None:
    with pytest.raises(ValueError, match="trials"):
        estimate([0.5], value_range=UNIT, trials=0)


# --- missing pairs ----------------------------------------------------------------------------------------------------


def test_bounds_take_every_missing_pair_at_its_worst_and_at_its_best() -> None:
    known = {"a": [1.0, 0.0], "b": [1.0], "c": []}
    missing = {"b": 1, "c": 2, "d": 2}
    assert mean_bounds(known, missing, worst=0.0, best=1.0) == (1.0 / 4, 3.5 / 4)


def test_bounds_of_an_objective_to_minimise_begin_with_the_worst() -> None:
    assert mean_bounds({"a": [2.0]}, {"b": 1}, worst=10.0, best=0.0) == (6.0, 1.0)


def test_bounds_meet_when_nothing_is_missing() -> None:
    worst, best = mean_bounds({"a": [0.1, 0.2], "b": [0.7]}, {}, worst=0.0, best=1.0)
    assert worst == best == pytest.approx(0.425)


def test_a_unit_weighs_the_same_however_many_pairs_it_has() -> None:
    assert unit_means({"a": [1.0] * 9, "b": [0.0]}, {}, fill=0.0) == {"a": 1.0, "b": 0.0}
    assert mean_bounds({"a": [1.0] * 9, "b": [0.0]}, {}, worst=0.0, best=1.0) == (0.5, 0.5)


def test_a_unit_without_pairs_is_left_out() -> None:
    assert unit_means({"a": [1.0], "b": []}, {"c": 0}, fill=0.0) == {"a": 1.0}


def test_bounds_of_nothing_and_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="no pair"):
        mean_bounds({"a": []}, {"b": 0}, worst=0.0, best=1.0)
    with pytest.raises(ValueError, match="-1 missing"):
        mean_bounds({"a": [1.0]}, {"a": -1}, worst=0.0, best=1.0)


units = st.sampled_from("abcdef")


@settings(deadline=None)
@given(
    st.dictionaries(units, st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1),
    st.dictionaries(units, st.integers(0, 3)),
)
def test_bounds_enclose_what_any_outcome_of_the_missing_pairs_would_give(
    known: dict[str, list[float]], missing: dict[str, int]
) -> None:
    worst, best = mean_bounds(known, missing, worst=0.0, best=1.0)
    middle = mean_bounds(known, missing, worst=0.3, best=0.6)
    assert 0 <= worst <= middle[0] <= middle[1] <= best <= 1


@settings(deadline=None)
@given(
    st.dictionaries(units, st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1),
    st.dictionaries(units, st.integers(0, 3)),
    units,
)
def test_one_more_missing_pair_never_narrows_the_bounds(
    known: dict[str, list[float]], missing: dict[str, int], unit: str
) -> None:
    assume(unit in known)
    worst, best = mean_bounds(known, missing, worst=0.0, best=1.0)
    wider = mean_bounds(known, {**missing, unit: missing.get(unit, 0) + 1}, worst=0.0, best=1.0)
    assert wider[0] <= worst + 1e-12
    assert wider[1] >= best - 1e-12


# --- coverage ---------------------------------------------------------------------------------------------------------


def coverage(cases: int, trials: int, shape: tuple[float, float], repeats: int = 3000) -> float:
    """The share of simulated evaluations, with beta-distributed difficulties, whose interval contains the true mean."""
    generator = np.random.default_rng(7)
    truth = shape[0] / (shape[0] + shape[1])
    difficulties = generator.beta(*shape, size=(repeats, cases))
    successes = generator.binomial(trials, difficulties)

    @cache
    def hit(counts: tuple[tuple[int, int], ...]) -> bool:
        values = [count / trials for count, times in counts for _ in range(times)]
        low, high = ends(estimate(values, value_range=UNIT, trials=trials))
        return low <= truth <= high

    return sum(hit(tuple(sorted(Counter(row).items()))) for row in successes.tolist()) / repeats


SHAPES = {
    "uniform": (1.0, 1.0),
    "mean 0.95, much alike": (9.5, 0.5),
    "mean 0.95, some hard": (1.9, 0.1),
    "mean 0.95, all or nothing": (0.95, 0.05),
}


@pytest.mark.parametrize("cases", [20, 30, 50, 200])
@pytest.mark.parametrize("trials", [1, 3, 5])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_the_interval_covers_the_true_mean_about_as_often_as_it_says(
    cases: int, trials: int, shape: tuple[float, float]
) -> None:
    assert coverage(cases, trials, shape) >= 0.93
