from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from metaharness.records import Direction
from metaharness.scoring.paired import Comparison, compare, verdict, verdict_with_bounds

names = st.text("abcdefgh", min_size=1, max_size=3)
grid_scores = st.dictionaries(names, st.integers(0, 5).map(lambda count: count / 5), max_size=12)
real_scores = st.dictionaries(names, st.floats(-1000, 1000), max_size=30)
any_scores = st.one_of(grid_scores, real_scores)


def scores(values: list[float]) -> dict[str, float]:
    return {f"case{number:05}": value for number, value in enumerate(values)}


def by_enumeration(differences: list[Fraction]) -> float:
    """The share of all sign vectors that reach the observed sum, in exact arithmetic."""
    zero = Fraction(0)
    observed = abs(sum(differences, zero))
    signs = itertools.product((1, -1), repeat=len(differences))
    reached = [
        abs(sum((s * d for s, d in zip(vector, differences, strict=True)), zero)) >= observed for vector in signs
    ]
    return sum(reached) / len(reached)


# --- properties -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(any_scores, any_scores, st.sampled_from(["max", "min"]))
def test_every_unit_is_accounted_for_and_p_is_a_probability(
    a: dict[str, float], b: dict[str, float], direction: Direction
) -> None:
    found = compare(a, b, direction=direction)
    assert 0 < found.p <= 1
    assert sorted(found.improved + found.regressed + found.unchanged) == sorted(a.keys() & b.keys())
    assert found.units == len(a.keys() & b.keys())
    assert found.only_a == tuple(sorted(a.keys() - b.keys()))
    assert found.only_b == tuple(sorted(b.keys() - a.keys()))
    better = 1 if direction == "max" else -1
    assert all((a[unit] - b[unit]) * better > 0 for unit in found.improved)
    assert all((a[unit] - b[unit]) * better < 0 for unit in found.regressed)
    if found.low is not None and found.delta is not None and found.high is not None:
        assert found.low <= found.delta <= found.high


@settings(deadline=None)
@given(any_scores, any_scores)
def test_exchanging_the_candidates_changes_the_sign_of_delta_and_not_the_test(
    a: dict[str, float], b: dict[str, float]
) -> None:
    forth, back = compare(a, b), compare(b, a)
    assert (forth.p, forth.method, forth.units, forth.unchanged) == (back.p, back.method, back.units, back.unchanged)
    assert (forth.improved, forth.regressed, forth.only_a) == (back.regressed, back.improved, back.only_b)
    if forth.delta is not None and back.delta is not None:
        assert forth.delta == -back.delta
    if forth.low is not None and back.high is not None:
        assert forth.low == -back.high


@settings(deadline=None)
@given(any_scores, any_scores, st.randoms(use_true_random=False))
def test_the_order_of_the_mappings_changes_nothing(
    a: dict[str, float], b: dict[str, float], shuffler: random.Random
) -> None:
    shuffled_a, shuffled_b = list(a.items()), list(b.items())
    shuffler.shuffle(shuffled_a)
    shuffler.shuffle(shuffled_b)
    assert compare(dict(shuffled_a), dict(shuffled_b)) == compare(a, b)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=9), st.integers(1, 7))
def test_the_exact_test_counts_all_sign_vectors_of_scores_on_a_grid(pairs: list[tuple[int, int]], trials: int) -> None:
    found = compare(scores([x / trials for x, _ in pairs]), scores([y / trials for _, y in pairs]))
    differences = [Fraction(x - y, trials) for x, y in pairs]
    assert found.p == by_enumeration(differences)
    assert found.method == ("exact" if any(differences) else "none")


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=9), st.floats(0.1, 10))
def test_the_exact_test_does_not_need_a_grid_for_few_units(differences: list[float], scale: float) -> None:
    found = compare(scores([d * scale * math.pi for d in differences]), scores([0.0] * len(differences)))
    assert found.method in ("exact", "none")
    kept = [d for d in differences if abs(d) > 1e-9]
    if kept == differences:
        expected = by_enumeration([Fraction(d) for d in differences])
        # Two sums that differ by less than rounding are one value to the test, and may not be to exact fractions.
        assert found.p >= expected - 1e-12


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30))
def test_one_more_win_never_weakens_the_evidence_of_the_side_that_leads(wins: int, losses: int) -> None:
    def p_of(won: int, lost: int) -> float:
        return compare(scores([1.0] * won + [0.0] * lost), scores([0.0] * won + [1.0] * lost)).p

    if wins > losses:
        assert p_of(wins + 1, losses) <= p_of(wins, losses)


# --- against scipy and statsmodels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wins", "losses", "ties"), [(9, 1, 40), (5, 5, 0), (0, 6, 3), (1, 0, 0), (30, 12, 8)])
def test_on_binary_scores_it_is_the_exact_mcnemar_test(wins: int, losses: int, ties: int) -> None:
    a = scores([1.0] * wins + [0.0] * losses + [1.0] * ties)
    b = scores([0.0] * wins + [1.0] * losses + [1.0] * ties)
    found = compare(a, b)
    assert found.p == pytest.approx(float(mcnemar([[ties, wins], [losses, 0]], exact=True).pvalue), rel=1e-12)
    assert found.p == pytest.approx(float(stats.binomtest(wins, wins + losses).pvalue), rel=1e-12)
    assert found.method == "exact"


def test_on_a_thousand_binary_scores_it_is_still_exact() -> None:
    found = compare(scores([1.0] * 530 + [0.0] * 470), scores([0.0] * 530 + [1.0] * 470))
    assert found.method == "exact"
    assert found.p == pytest.approx(float(stats.binomtest(530, 1000).pvalue), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 2, 17])
def test_it_agrees_with_the_permutation_test_of_scipy(seed: int, decimals: int) -> None:
    generator = random.Random(seed)
    a = scores([round(generator.random(), decimals) for _ in range(11)])
    b = scores([round(generator.random() * 0.7, decimals) for _ in range(11)])
    differences = np.array([a[case] - b[case] for case in a])
    expected = stats.permutation_test(
        (differences,),
        lambda sample, axis: np.abs(np.sum(sample, axis=axis)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=2**12,
        vectorized=True,
    )
    found = compare(a, b)
    assert found.method == "exact"
    assert found.p == pytest.approx(float(expected.pvalue), rel=1e-12)


def test_the_interval_is_that_of_the_paired_t_test_of_scipy() -> None:
    generator = random.Random(3)
    a, b = scores([generator.random() for _ in range(40)]), scores([generator.random() for _ in range(40)])
    found = compare(a, b)
    expected = stats.ttest_rel(list(a.values()), list(b.values())).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((float(expected.low), float(expected.high)), rel=1e-9)


# --- the method -------------------------------------------------------------------------------------------------------


def real_pairs(units: int, shift: float) -> tuple[dict[str, float], dict[str, float]]:
    generator = random.Random(11)
    b = scores([generator.gauss(0, 1) for _ in range(units)])
    return {case: value + generator.gauss(shift, 1) for case, value in b.items()}, b


def test_many_real_values_are_tested_by_random_flips_close_to_the_exact_p() -> None:
    a, b = real_pairs(40, 0.2)
    found = compare(a, b)
    assert found.method == "monte carlo"
    # Rounded to a grid of 0.02 the same data has an exact p.
    rounded = compare({case: round((a[case] - b[case]) / 0.02) for case in a}, dict.fromkeys(b, 0))
    assert rounded.method == "exact"
    assert found.p == pytest.approx(rounded.p, abs=0.02)


def test_random_flips_are_those_of_the_seed() -> None:
    a, b = real_pairs(200, 0.1)
    assert compare(a, b, seed=1) == compare(a, b, seed=1)
    assert len({compare(a, b, seed=seed).p for seed in range(5)}) > 1


def test_random_flips_never_give_a_p_of_zero() -> None:
    a, b = real_pairs(100, 10.0)
    assert compare(a, b).p == 1 / 10_000


def test_a_thousand_agreeing_units_have_a_p_above_zero() -> None:
    found = compare(scores([1.0] * 1200), scores([0.0] * 1200))
    assert found.method == "exact"
    assert 0 < found.p < 1e-300


def test_more_binary_units_than_the_exact_test_takes_are_tested_by_random_flips() -> None:
    a, b = scores([1.0] * 900 + [0.0] * 800), scores([0.0] * 900 + [1.0] * 800)
    found = compare(a, b)
    assert found.method == "monte carlo"
    assert found.p == pytest.approx(float(stats.binomtest(900, 1700).pvalue), abs=0.01)


def test_the_grid_is_found_whatever_the_unit_of_the_scores() -> None:
    generator = random.Random(5)
    a, b = ([generator.randrange(0, 8) for _ in range(60)] for _ in range(2))
    expected = compare(scores(list(a)), scores(list(b)))
    for step in (1 / 7, 0.001, 100.0, math.pi, 1e-9):
        found = compare(scores([x * step for x in a]), scores([y * step for y in b]))
        assert (found.p, found.method) == (expected.p, "exact")


def test_rounding_does_not_break_ties() -> None:
    found = compare({"x": 0.1 + 0.2, "y": 1.0}, {"x": 0.3, "y": 1.0})
    assert found.unchanged == ("x", "y")
    assert (found.delta, found.p, found.method) == (0.0, 1.0, "none")


def test_scores_on_no_grid_that_tie_by_symmetry_keep_their_ties() -> None:
    # Four sign vectors of eight reach |sum| = 2 pi, whatever the rounding of its parts.
    found = compare({"x": math.pi, "y": math.e, "z": math.pi}, {"x": 0.0, "y": 0.0, "z": 0.0})
    assert found.p == 0.25


# --- nothing to test --------------------------------------------------------------------------------------------------


def test_without_shared_units_there_is_no_delta() -> None:
    assert compare({"x": 1.0}, {"y": 0.0}) == Comparison(
        delta=None,
        low=None,
        high=None,
        p=1.0,
        units=0,
        only_a=("x",),
        only_b=("y",),
        method="none",
        improved=(),
        regressed=(),
        unchanged=(),
    )


def test_a_single_unit_has_a_delta_and_no_interval() -> None:
    found = compare({"x": 1.0}, {"x": 0.0})
    assert (found.delta, found.low, found.high, found.p, found.method) == (1.0, None, None, 1.0, "exact")


def test_a_candidate_does_not_differ_from_itself() -> None:
    a = scores([0.0, 1.0, 0.5])
    found = compare(a, a)
    assert (found.delta, found.low, found.high, found.p, found.method) == (0.0, 0.0, 0.0, 1.0, "none")
    assert verdict(found, direction="max") == "indecisive"


def test_less_is_better_where_the_direction_says_so() -> None:
    found = compare({"x": 1.0, "y": 5.0, "z": 2.0}, {"x": 2.0, "y": 4.0, "z": 2.0}, direction="min")
    assert (found.improved, found.regressed, found.unchanged) == (("x",), ("y",), ("z",))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        compare({"x": value}, {"x": 0.0})
    with pytest.raises(ValueError, match="finite"):
        compare({"x": 0.0}, {"x": value})


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "expected"), [("max", "better"), ("min", "worse")])
def test_a_verdict_follows_the_direction(direction: Direction, expected: str) -> None:
    a, b = scores([1.0] * 10), scores([0.0] * 10)
    assert verdict(compare(a, b, direction=direction), direction=direction) == expected
    opposite = "worse" if expected == "better" else "better"
    assert verdict(compare(b, a, direction=direction), direction=direction) == opposite


def test_a_verdict_needs_p_at_most_alpha() -> None:
    found = compare(scores([1.0] * 5), scores([0.0] * 5))
    assert found.p == 0.0625
    assert verdict(found, direction="max") == "indecisive"
    assert verdict(found, direction="max", alpha=0.0625) == "better"
    assert verdict(found, direction="max", alpha=0.0624) == "indecisive"


@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0, math.nan])
def test_an_alpha_that_is_no_level_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        verdict(compare({"x": 1.0}, {"x": 0.0}), direction="max", alpha=alpha)


def test_a_candidate_with_missing_pairs_is_better_only_when_both_bounds_say_so() -> None:
    incumbent = scores([0.0] * 12)
    clear = scores([1.0] * 12)
    one_missing = {**clear, "case00000": 0.0}
    most_missing = scores([0.0] * 9 + [1.0] * 3)
    assert verdict_with_bounds(one_missing, clear, incumbent, direction="max") == "better"
    assert verdict_with_bounds(most_missing, clear, incumbent, direction="max") == "indecisive"


def test_a_candidate_with_missing_pairs_is_worse_when_even_its_best_is() -> None:
    incumbent = scores([1.0] * 12)
    assert verdict_with_bounds(scores([0.0] * 12), scores([0.0] * 11 + [1.0]), incumbent, direction="max") == "worse"


def test_bounds_that_disagree_decide_nothing() -> None:
    incumbent = scores([0.5] * 12)
    assert verdict_with_bounds(scores([0.0] * 12), scores([1.0] * 12), incumbent, direction="max") == "indecisive"


def test_bounds_with_different_units_are_refused() -> None:
    with pytest.raises(ValueError, match="same units"):
        verdict_with_bounds({"x": 0.0}, {"y": 1.0}, {"x": 0.0}, direction="max")
