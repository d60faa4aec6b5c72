"""What a comparison can see: the smallest gain that the paired test finds with 80% power, and what would halve it.

Of n cases that are right or wrong, let a share psi be discordant (right with one harness and wrong with the other) and
delta be the gain. Given D discordant cases the winner has X ~ Bin(D, (1 + delta/psi) / 2) of them, and the engine's
test, which is then the exact McNemar test, says `better` from the least number c(D) on for which its two-sided p is at
most alpha. So the power is the unconditional one of Miettinen (1968, Biometrics 24:339) and Duffy (1984, Biometrics
40:1005), summed exactly:

    power = sum over D of  Bin(D; n, psi) * P(X >= c(D))

Above 300 cases it is the normal approximation of Connor (1987, Biometrics 43:207) with the continuity correction that
the exact test has: Phi((n delta - 1 - z sqrt(n psi)) / sqrt(n (psi - delta^2))).

Several trials: the difference d_i of a case is then a difference of two means. The sign-flip test has the null variance
sum d_i^2, so what psi was for one trial is now the mean square of d_i: what the harnesses truly differ by, plus twice
the variance within cases over the number of trials (Miller 2024, arXiv 2411.00640). More trials lower that part alone.
Several trials are treated like one of that psi. The finer grid of their d_i makes the test a little less conservative
than that, so the gain told is a little too large rather than too small.

Values that are not binary: Phi((delta sqrt(n) - t sqrt(q + delta^2)) / sqrt(q)), q the variance of d_i, t the quantile
with n-1 degrees of freedom.

Not guarded: that two harnesses differ as was assumed. Nobody knows it before they are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from metaharness.scoring.student import t_quantile

POWER = 0.8
ALPHA = 0.05
FEWEST = 6
"""With fewer differences no two-sided sign-flip test reaches 0.05: 2/2^5 is above it."""
EXACT_CASES = 300
"""Up to here the power of binary cases is summed exactly."""
MOST_CASES = 10_000_000
MOST_TRIALS = 1_000
_NORMAL = NormalDist()
_NEGLIGIBLE = 1e-12
_FAR = 1_000
"""Standard deviations: a gain that is not seen at this size is not seen at any, as too few cases decide."""


@dataclass(frozen=True)
class Spread:
    """How far the values of two harnesses lie apart on one case."""

    apart: float
    """Mean square of what they truly differ by; for binary cases the share on which they truly disagree."""
    within: float = 0.0
    """The variance between trials of one case, of one harness."""
    with_gain: bool = False
    """Whether the gain itself comes on top of `apart`: then they agree except where one gains, and by chance."""
    binary: bool = True

    def mean_square(self, gain: float, trials: int | None) -> float:
        """The mean square of the difference of two means of so many trials; None for endless ones."""
        noise = 0.0 if trials is None else 2 * self.within / trials
        if not self.binary:
            return self.apart + noise
        return min(1.0, max(gain, self.apart + noise + (gain if self.with_gain else 0.0)))


ASSUMED = (Spread(0.2), Spread(0.4))
"""Where nothing was measured: one case in five comes out differently, or two in five."""


def measured(between: float, within: float, *, binary: bool) -> tuple[Spread, Spread]:
    """The narrowest and the widest spread that fit the variances of one harness.

    Narrowest: another harness that answers as this one does, except where it gains. Widest: one of the same spread
    whose easy and hard cases have nothing to do with this one's.
    """
    return Spread(0.0, within, with_gain=True, binary=binary), Spread(2 * between, within, binary=binary)


def power(cases: int, gain: float, spread: Spread, *, trials: int | None = 1, alpha: float = ALPHA) -> float:
    """The probability that the paired test says `better` of a harness that gains so much.

    Args:
        cases: How many cases (or groups) both have.
        gain: The true difference of the means, at least 0, in the unit of the objective; at most 1 for binary cases.
        spread: How the two differ beside that.
        trials: Per case; None for endless ones.
        alpha: The level of the two-sided test.
    """
    square = spread.mean_square(gain, trials)
    if cases < FEWEST or gain <= 0:
        return 0.0
    if not spread.binary:
        return _normal_power(cases, gain, square, alpha)
    if cases <= EXACT_CASES:
        return _exact_power(cases, gain, square, alpha)
    return _approximate_power(cases, gain, square, alpha)


def smallest_gain(cases: int, spread: Spread, *, trials: int | None = 1, alpha: float = ALPHA) -> float | None:
    """The smallest gain that is seen with 80% power; None where not even the greatest is, as with five cases.

    0.0 for values that are not binary and do not vary: then any gain that is the same in every case is seen. More
    trials never need a larger one, but with six binary cases: all six have to come out differently there.
    """
    if cases < FEWEST:
        return None
    if not spread.binary and spread.mean_square(0.0, trials) <= 0:
        return 0.0

    def seen(gain: float) -> bool:
        return power(cases, gain, spread, trials=trials, alpha=alpha) >= POWER

    high = 1.0 if spread.binary else _FAR * math.sqrt(spread.mean_square(0.0, trials))
    if not seen(high):
        return None
    low = 0.0
    while high - low > 1e-5 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high


def cases_to_see(gain: float, spread: Spread, *, trials: int | None = 1) -> int | None:
    """The fewest cases with which this gain is seen with 80% power; None where ten million do not suffice."""
    return _fewest(lambda cases: power(cases, gain, spread, trials=trials) >= POWER, FEWEST, MOST_CASES)


def trials_to_see(gain: float, cases: int, spread: Spread) -> int | None:
    """The fewest trials per case with which this gain is seen; None where no number of them suffices."""
    return _fewest(lambda trials: power(cases, gain, spread, trials=trials) >= POWER, 1, MOST_TRIALS)


def _fewest(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    """The least number that is enough, where more is always enough too."""
    high = least
    while not enough(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = least - 1 if high == least else high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


# --- the power of one design ------------------------------------------------------------------------------------


def _exact_power(cases: int, gain: float, discordance: float, alpha: float) -> float:
    share = min(1.0, (1 + gain / discordance) / 2)
    total = 0.0
    for discordant in range(FEWEST, cases + 1):
        weight = _binomial(discordant, cases, discordance)
        if weight > _NEGLIGIBLE:
            total += weight * _upper_tail(_least_won(discordant, alpha), discordant, share)
    return total


@lru_cache(maxsize=4096)
def _least_won(discordant: int, alpha: float) -> int:
    """How many of the discordant cases have to be won for a two-sided p of at most alpha; one more where none do."""
    reached, won, limit = 0, discordant + 1, alpha * 2 ** (discordant - 1)
    while won > 0:
        reached += math.comb(discordant, won - 1)
        if reached > limit:
            break
        won -= 1
    return won


def _binomial(successes: int, of: int, p: float) -> float:
    if p <= 0 or p >= 1:
        return float(successes == (0 if p <= 0 else of))
    log_ways = math.lgamma(of + 1) - math.lgamma(successes + 1) - math.lgamma(of - successes + 1)
    return math.exp(log_ways + successes * math.log(p) + (of - successes) * math.log1p(-p))


def _upper_tail(least: int, of: int, p: float) -> float:
    """The probability of at least so many successes."""
    if least > of:
        return 0.0
    if p >= 1:
        return 1.0
    probability = total = _binomial(least, of, p)
    for successes in range(least, of):
        probability *= (of - successes) / (successes + 1) * p / (1 - p)
        total += probability
    return min(1.0, total)


def _approximate_power(cases: int, gain: float, discordance: float, alpha: float) -> float:
    margin = cases * gain - 1 - _NORMAL.inv_cdf(1 - alpha / 2) * math.sqrt(cases * discordance)
    spread = math.sqrt(max(cases * (discordance - gain * gain), 0.0))
    return _NORMAL.cdf(margin / spread) if spread > 0 else float(margin >= 0)


def _normal_power(cases: int, gain: float, variance: float, alpha: float) -> float:
    if variance <= 0:  # every case gains the same: all signs are the same, and six suffice
        return 1.0
    critical = t_quantile(1 - alpha / 2, cases - 1)
    margin = gain * math.sqrt(cases) - critical * math.sqrt(variance + gain * gain)
    return _NORMAL.cdf(margin / math.sqrt(variance))
