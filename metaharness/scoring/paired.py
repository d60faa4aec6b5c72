"""Two candidates on the same cases: the paired sign-flip permutation test and the verdict it supports.

Under the hypothesis that a and b do not differ, each difference d_i is as likely to have the other sign (Fisher 1935).
The statistic is |sum d_i|, and p is the share of the 2^n sign vectors that reach it. For binary scores with one trial
this is the exact McNemar test. A difference of zero has no sign to flip and is in no sum.

What it does not guard against: choosing the best of many candidates and testing the choice on the same cases.
"""

from __future__ import annotations

import math
import operator
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from metaharness.records import Direction
from metaharness.scoring.intervals import mean_and_margin

Outcome = Literal["better", "worse", "indecisive"]
Method = Literal["exact", "monte carlo", "none"]

FLIPS = 9_999
"""Random sign vectors of the Monte Carlo test; with the observed one they are 10,000."""
_ROUNDING = 1e-12
"""Relative to the greatest value: differences below it are rounding, not results."""
_GRID_LIMIT = 20_000
"""The greatest sum of |d_i|, in steps of their grid, that is convolved."""
_WORK_LIMIT = 4_000_000_000
"""The greatest (number of d_i)^2 * (their sum in steps), the bits that a convolution moves: about 0.1 s."""
_ENUMERATION_LIMIT = 16
"""Up to this many differences off any grid, all sign vectors are listed: 2^15 sums by symmetry."""
_BLOCK = 8
"""Signs drawn at once: one random byte."""


@dataclass(frozen=True)
class Comparison:
    """Candidate a against candidate b on the units (cases or groups) that both have."""

    delta: float | None
    """The mean of a minus b, in the unit of the objective whatever its direction; None when no unit is shared."""
    low: float | None
    """The lower end of the 95% t interval of `delta`; None with fewer than two shared units.

    An illustration of size; the verdict rests on `p`, and with few or coarse values the two may differ.
    """
    high: float | None
    """The upper end; None with `low`. Equal to it when all differences are the same."""
    p: float
    """Two-sided, in (0, 1]; 1.0 when no unit is shared or no difference is left."""
    units: int
    """How many units both have."""
    only_a: tuple[str, ...]
    """Units that b lacks, sorted; in no number here."""
    only_b: tuple[str, ...]
    """Units that a lacks, sorted."""
    method: Method
    """`exact`, `monte carlo` (9,999 random flips), or `none`: nothing to test."""
    improved: tuple[str, ...]
    """Units where a is better than b, in the sense of the direction; sorted."""
    regressed: tuple[str, ...]
    unchanged: tuple[str, ...]
    """Units where both agree up to rounding."""


def compare(
    a: Mapping[str, float], b: Mapping[str, float], *, direction: Direction = "max", seed: int = 0
) -> Comparison:
    """Compare two candidates by their values per unit.

    The p-value is exact where the differences lie on a grid, as means of trials of binary scores or of scores with few
    decimals do, and where they are few. Otherwise it is (k+1)/(9999+1), k the random sign vectors that reach the
    observed sum (Phipson and Smyth 2010). It does not depend on the order of the mappings, and exchanging a and b
    changes the sign of `delta` and nothing else about the test.

    Args:
        a: Unit id to mean, in the unit of the objective.
        b: The same of the candidate compared with.
        direction: Which way is better; decides `improved` and `regressed` only.
        seed: Of the random flips; without effect on an exact test.

    Raises:
        ValueError: A value of a shared unit is not finite.
    """
    shared = sorted(a.keys() & b.keys())
    tolerance = _ROUNDING * _greatest([*(a[unit] for unit in shared), *(b[unit] for unit in shared)])
    differences = {unit: _without_rounding(a[unit] - b[unit], tolerance) for unit in shared}
    delta, margin = mean_and_margin(list(differences.values())) if shared else (None, None)
    p, method = _sign_flip_test([d for d in differences.values() if d != 0], tolerance, seed)
    better = 1 if direction == "max" else -1
    return Comparison(
        delta=delta,
        low=None if delta is None or margin is None else delta - margin,
        high=None if delta is None or margin is None else delta + margin,
        p=p,
        units=len(shared),
        only_a=tuple(sorted(a.keys() - b.keys())),
        only_b=tuple(sorted(b.keys() - a.keys())),
        method=method,
        improved=tuple(unit for unit, d in differences.items() if d * better > 0),
        regressed=tuple(unit for unit, d in differences.items() if d * better < 0),
        unchanged=tuple(unit for unit, d in differences.items() if d == 0),
    )


def verdict(comparison: Comparison, *, direction: Direction, alpha: float = 0.05) -> Outcome:
    """What the test says of candidate a: `better` or `worse` than b when p <= alpha, else `indecisive`.

    Raises:
        ValueError: `alpha` is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: it must be between 0 and 1")
    if comparison.delta is None or comparison.delta == 0 or comparison.p > alpha:
        return "indecisive"
    return "better" if (comparison.delta > 0) == (direction == "max") else "worse"


def verdict_with_bounds(
    at_worst: Mapping[str, float],
    at_best: Mapping[str, float],
    incumbent: Mapping[str, float],
    *,
    direction: Direction,
    alpha: float = 0.05,
    seed: int = 0,
) -> Outcome:
    """The verdict on a candidate with missing pairs: the one that both bounds give, else `indecisive`.

    Args:
        at_worst: Unit id to mean of the candidate, every missing pair at its worst (see `intervals.unit_means`).
        at_best: The same with every missing pair at its best; the same units.
        incumbent: Unit id to mean of the candidate compared with.
        direction: Which way is better.
        alpha: The level of each of the two tests.
        seed: As in `compare`.

    Raises:
        ValueError: The two bounds have different units, a value is not finite, or `alpha` is not between 0 and 1.
    """
    if at_worst.keys() != at_best.keys():
        raise ValueError("at_worst and at_best must have the same units")
    outcomes = {
        verdict(compare(bound, incumbent, direction=direction, seed=seed), direction=direction, alpha=alpha)
        for bound in (at_worst, at_best)
    }
    return outcomes.pop() if len(outcomes) == 1 else "indecisive"


def _greatest(values: Sequence[float]) -> float:
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"a value is {value}: it must be a finite number")
    return max(map(abs, values), default=0.0)


def _without_rounding(difference: float, tolerance: float) -> float:
    return 0.0 if abs(difference) <= tolerance else difference


def _sign_flip_test(differences: Sequence[float], tolerance: float, seed: int) -> tuple[float, Method]:
    """P and method for non-zero differences, each known up to `tolerance`."""
    if not differences:
        return 1.0, "none"
    magnitudes = [abs(difference) for difference in differences]
    steps = _on_grid(magnitudes, tolerance)
    if steps is not None:
        observed = abs(sum(step if d > 0 else -step for step, d in zip(steps, differences, strict=True)))
        return _convolved(steps, observed), "exact"
    threshold = abs(math.fsum(differences)) - tolerance * len(differences)
    if len(magnitudes) <= _ENUMERATION_LIMIT:
        # With the first sign fixed the other half of the sums are these, negated.
        sums = _signed_sums(magnitudes[1:], start=magnitudes[0])
        return sum(abs(total) >= threshold for total in sums) / len(sums), "exact"
    reached = sum(abs(total) >= threshold for total in _random_sums(magnitudes, seed))
    return (reached + 1) / (FLIPS + 1), "monte carlo"


def _on_grid(magnitudes: Sequence[float], tolerance: float) -> list[int] | None:
    """The magnitudes as whole multiples of one step; None where there is no such step, or too much work.

    The smallest magnitude is L steps, L the common denominator of the ratios to it. The steps sum to at least L times
    their number, which bounds the denominators worth looking for.
    """
    count = len(magnitudes)
    if count**3 > _WORK_LIMIT:
        return None
    smallest = min(magnitudes)
    most = _GRID_LIMIT // count
    ratios: dict[float, Fraction] = {}
    denominator = 1
    for magnitude in set(magnitudes):
        ratios[magnitude] = Fraction(magnitude / smallest).limit_denominator(most)
        denominator = math.lcm(denominator, ratios[magnitude].denominator)
        if denominator > most:
            return None
    steps = [int(ratios[magnitude] * denominator) for magnitude in magnitudes]
    total = sum(steps)
    if total > _GRID_LIMIT or count**2 * total > _WORK_LIMIT:
        return None
    unit = math.fsum(magnitudes) / total
    fits = all(abs(step * unit - magnitude) <= tolerance for step, magnitude in zip(steps, magnitudes, strict=True))
    return steps if fits else None


def _convolved(steps: Sequence[int], observed: int) -> float:
    """The share of sign vectors with |sum of signed steps| >= observed, counted in whole numbers.

    With P the sum of the steps that got a plus, the signed sum is 2P - total. The numbers of sign vectors by P are
    the coefficients of the product of (1 + x^step). The polynomial is held in one integer, x = 256^width with a field
    for each coefficient wide enough for 2^n, so that a factor is one shift and one addition.
    """
    width = len(steps) // 8 + 1
    polynomial = 1
    for step in steps:
        polynomial += polynomial << (8 * width * step)
    if observed == 0:
        return 1.0
    total = sum(steps)
    fields = polynomial.to_bytes((total + 1) * width, "little")
    first = (total + observed) // 2 * width
    one_sided = sum(int.from_bytes(fields[at : at + width], "little") for at in range(first, len(fields), width))
    return max(2 * one_sided / (1 << len(steps)), sys.float_info.min)


def _signed_sums(magnitudes: Sequence[float], start: float = 0.0) -> list[float]:
    """`start` plus the magnitudes under every choice of signs: 2^n sums."""
    sums = [start]
    for magnitude in magnitudes:
        sums = [total + magnitude for total in sums] + [total - magnitude for total in sums]
    return sums


def _random_sums(magnitudes: Sequence[float], seed: int) -> list[float]:
    """Sums under random signs: a random byte picks the signs of eight magnitudes at once, from a table."""
    generator = random.Random(seed)
    totals = [0.0] * FLIPS
    for start in range(0, len(magnitudes), _BLOCK):
        block = magnitudes[start : start + _BLOCK]
        table = _signed_sums([*block, *[0.0] * (_BLOCK - len(block))])
        totals = list(map(operator.add, totals, map(table.__getitem__, generator.randbytes(FLIPS))))
    return totals
