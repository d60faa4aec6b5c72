from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scoring_kit import row
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import TTestPower

from metaharness.scoring.measures import PairRow
from metaharness.scoring.paired import compare, verdict
from metaharness.scoring.power import (
    ASSUMED,
    Spread,
    cases_to_see,
    measured,
    power,
    smallest_gain,
    trials_to_see,
)
from metaharness.scoring.variance import components

Draw = Callable[[random.Random], tuple[float, float]]
"""The probabilities with which two harnesses answer one case rightly."""


def simulated(cases: int, trials: int, draw: Draw, searches: int = 600) -> float:
    """How often the engine's own test says `better`."""
    generator = random.Random(7)

    def reached(p: float) -> float:
        return sum(generator.random() < p for _ in range(trials)) / trials

    found = 0
    for _ in range(searches):
        pairs = [draw(generator) for _ in range(cases)]
        a = {f"{number:03}": reached(mine) for number, (mine, _) in enumerate(pairs)}
        b = {f"{number:03}": reached(theirs) for number, (_, theirs) in enumerate(pairs)}
        found += verdict(compare(a, b), direction="max") == "better"
    return found / searches


def close(expected: float, searches: int = 600) -> object:
    return pytest.approx(expected, abs=3.5 * math.sqrt(expected * (1 - expected) / searches))


# --- the figure that was promised, and the test it stands for ---------------------------------------------------------


def test_fifty_binary_cases_see_a_gain_of_018_to_026() -> None:
    low, high = (smallest_gain(50, spread) for spread in ASSUMED)
    assert low == pytest.approx(0.1757, abs=1e-3)
    assert high == pytest.approx(0.2542, abs=1e-3)


@pytest.mark.parametrize(("cases", "gain", "discordance"), [(12, 0.4, 0.5), (18, 0.25, 0.4), (18, 0.3, 0.3)])
def test_the_power_of_binary_cases_is_that_of_mcnemars_exact_test_over_all_tables(
    cases: int, gain: float, discordance: float
) -> None:
    won, lost = (discordance + gain) / 2, (discordance - gain) / 2
    expected = 0.0
    for b, c in itertools.product(range(cases + 1), repeat=2):
        if b > c and b + c <= cases and mcnemar([[0, b], [c, 0]], exact=True).pvalue <= 0.05:
            expected += float(stats.multinomial.pmf([b, c, cases - b - c], cases, [won, lost, 1 - won - lost]))
    assert power(cases, gain, Spread(discordance)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("cases", "spread"), [(50, ASSUMED[0]), (50, ASSUMED[1]), (200, ASSUMED[1])])
def test_the_engines_own_test_finds_the_smallest_gain_in_eighty_of_a_hundred_searches(
    cases: int, spread: Spread
) -> None:
    gain = smallest_gain(cases, spread)
    assert gain is not None
    won = (spread.apart + gain) / 2

    def draw(generator: random.Random) -> tuple[float, float]:
        where = generator.random()
        return (1, 0) if where < won else (0, 1) if where < spread.apart else (1, 1)

    assert simulated(cases, 1, draw) == close(0.8)


@pytest.mark.parametrize(("trials", "chance"), [(1, 0.3), (2, 0.2), (5, 0.2), (5, 0.3)])
def test_with_noise_inside_cases_the_smallest_gain_is_found_at_least_as_often(trials: int, chance: float) -> None:
    within = chance * (1 - chance)
    spread = Spread(0.1, within)
    gain = smallest_gain(50, spread, trials=trials)
    assert gain is not None
    step = 1 - 2 * chance  # what a case gains that comes to be answered rightly
    moved = max(0.1 / step**2, gain / step)
    up = (moved + gain / step) / 2

    def draw(generator: random.Random) -> tuple[float, float]:
        where = generator.random()
        same = generator.choice((chance, 1 - chance))
        return (1 - chance, chance) if where < up else (chance, 1 - chance) if where < moved else (same, same)

    assert 0.75 <= simulated(50, trials, draw) <= 0.9


@pytest.mark.parametrize("spread", [Spread(0.04, binary=False), Spread(0.02, 0.05, binary=False)])
def test_values_that_are_not_binary_need_what_a_paired_t_test_needs(spread: Spread) -> None:
    """The permutation test and the t test differ by the gain in the null variance alone, which is small here."""
    variance = spread.mean_square(0, 1)
    gain = smallest_gain(400, spread)
    expected = TTestPower().solve_power(nobs=400, alpha=0.05, power=0.8, alternative="two-sided") * math.sqrt(variance)
    assert gain == pytest.approx(expected, rel=0.02)


def test_above_three_hundred_cases_the_approximation_goes_on_where_the_sum_ends() -> None:
    for spread in ASSUMED:
        before, after = smallest_gain(300, spread), smallest_gain(301, spread)
        assert before is not None
        assert after == pytest.approx(before, rel=0.02)


# --- what helps -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(6, 150), st.floats(0.0, 0.5), st.floats(0.0, 0.25), st.integers(1, 9))
def test_the_smallest_gain_has_the_power_and_a_smaller_one_has_not(
    cases: int, apart: float, within: float, trials: int
) -> None:
    spread = Spread(apart, within)
    gain = smallest_gain(cases, spread, trials=trials)
    assert gain is not None
    assert power(cases, gain, spread, trials=trials) >= 0.8
    assert power(cases, gain * 0.98, spread, trials=trials) < 0.8


@settings(deadline=None, max_examples=60)
@given(st.integers(7, 150), st.floats(0.0, 0.5), st.floats(0.0, 0.25), st.integers(1, 9))
def test_more_trials_never_need_a_larger_gain(cases: int, apart: float, within: float, trials: int) -> None:
    spread = Spread(apart, within)
    gain, more = smallest_gain(cases, spread, trials=trials), smallest_gain(cases, spread, trials=trials + 1)
    assert gain is not None
    assert more is not None
    assert more <= gain * 1.0001


def test_with_six_cases_more_trials_may_need_one() -> None:
    """All six have to come out differently there, and without noise fewer of them do."""
    spread = Spread(0.5, 0.25)
    gain, more = smallest_gain(6, spread, trials=1), smallest_gain(6, spread, trials=2)
    assert gain is not None
    assert more is not None
    assert gain < more < 1.05 * gain


def test_four_times_the_cases_see_about_half_the_gain() -> None:
    for spread in ASSUMED:
        gain = smallest_gain(50, spread)
        assert gain is not None
        cases = cases_to_see(gain / 2, spread)
        assert cases is not None
        assert 180 <= cases <= 220
        half = smallest_gain(cases, spread)
        assert half is not None
        assert half <= gain / 2 * 1.001


def test_trials_lower_the_part_within_cases_alone() -> None:
    still = Spread(0.3)
    assert smallest_gain(50, still, trials=1) == smallest_gain(50, still, trials=None)
    assert trials_to_see(0.1, 50, still) is None
    noisy = Spread(0.02, 0.2, binary=False)
    gain, endless = smallest_gain(50, noisy), smallest_gain(50, noisy, trials=None)
    assert gain is not None
    assert endless is not None
    assert endless < gain / 2
    trials = trials_to_see(gain / 2, 50, noisy)
    assert trials is not None
    assert power(50, gain / 2, noisy, trials=trials) >= 0.8 > power(50, gain / 2, noisy, trials=trials - 1)


@pytest.mark.parametrize("cases", range(6))
def test_five_cases_see_nothing(cases: int) -> None:
    assert smallest_gain(cases, ASSUMED[0]) is None
    assert power(cases, 1.0, ASSUMED[0]) == 0.0


def test_what_no_number_of_cases_shows_is_not_told_as_a_number() -> None:
    assert cases_to_see(1e-9, ASSUMED[0]) is None
    assert cases_to_see(0.0, ASSUMED[0]) is None
    assert smallest_gain(6, Spread(1.0, binary=False)) is None
    assert smallest_gain(50, Spread(0.0, binary=False)) == 0.0
    assert power(50, 0.1, Spread(0.0, binary=False)) == 1.0


def test_a_measured_harness_gives_a_narrow_and_a_wide_spread() -> None:
    narrow, wide = measured(0.15, 0.05, binary=True)
    assert narrow.mean_square(0.1, 1) == pytest.approx(0.2)  # twice the noise, and the gain
    assert wide.mean_square(0.1, 1) == pytest.approx(0.4)
    assert wide.mean_square(0.1, 5) == pytest.approx(0.32)


# --- the variances ----------------------------------------------------------------------------------------------------


def table(values: list[list[float | None]], **fields: str) -> list[PairRow]:
    return [
        row(value, case_id=f"c{case}", trial=trial, status="ok" if value is not None else "infrastructure", **fields)
        for case, trials in enumerate(values)
        for trial, value in enumerate(trials)
    ]


def test_the_variances_are_those_of_a_one_way_analysis_of_variance() -> None:
    values: list[list[float | None]] = [[1, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1]]
    found = components(table(values), 3)
    f, _ = stats.f_oneway(*[[value for value in trials if value is not None] for trials in values])
    assert (found.between * 3 + found.within) / found.within == pytest.approx(float(f))
    assert found.within == pytest.approx((2 / 3 + 2 / 3) / 8)
    assert found.correlation == pytest.approx(found.between / (found.between + found.within))
    assert (found.units, found.left_out, found.binary) == (4, 0, True)


def test_answers_that_never_change_lie_wholly_between_cases() -> None:
    found = components(table([[1, 1], [0, 0], [1, 1], [0, 0]]), 2)
    assert (found.within, found.correlation) == (0.0, 1.0)
    assert found.between == pytest.approx(1 / 3)


def test_where_nothing_varies_there_is_no_correlation_and_noise_alone_gives_no_variance_between() -> None:
    assert components(table([[1, 1], [1, 1]]), 2).correlation is None
    noise = components(table([[1, 0], [0, 1]]), 2)
    assert (noise.between, noise.correlation) == (0.0, -1.0)


def test_a_case_without_a_value_in_every_trial_is_left_out() -> None:
    found = components(table([[1, 1], [0, None], [0.5, 0]]), 2)
    assert (found.units, found.left_out, found.binary) == (2, 1, False)


def test_the_cases_of_a_group_are_one_unit() -> None:
    rows = [
        row(value, case_id=f"c{case}", unit=f"g{case // 2}", trial=trial)
        for case, values in enumerate([[1, 0], [0, 1], [1, 1], [1, 1]])
        for trial, value in enumerate(values)
    ]
    found = components(rows, 2)
    assert (found.units, found.within) == (2, 0.0)


@pytest.mark.parametrize(("values", "trials"), [([[1.0]], 1), ([[1.0, 1.0]], 2), ([[1.0, None], [1.0, 0.0]], 2)])
def test_too_little_to_tell_is_an_error(values: list[list[float | None]], trials: int) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        components(table(values), trials)


def test_at_a_level_that_winning_every_case_does_not_reach_there_is_no_power() -> None:
    """Ten wins of ten have p = 2/2^10."""
    everywhere = Spread(1.0)
    assert power(10, 1.0, everywhere, alpha=2 / 2**10) == pytest.approx(1.0)
    assert power(10, 1.0, everywhere, alpha=1 / 2**10) == 0.0
