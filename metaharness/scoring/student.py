"""Student's t distribution: cumulative probability and its inverse, without scipy.

The upper tail is half the regularised incomplete beta function I_x(df/2, 1/2) at x = df/(df + t^2) (Abramowitz and
Stegun 1964, 26.7.1), which is evaluated by its continued fraction (Press et al., Numerical Recipes, 3rd ed., 6.4).
Agrees with scipy to 1e-9 (relative) for df up to 10,000. The rounding of `math.lgamma` grows with df,
so df has a bound.
"""

from __future__ import annotations

import math
from functools import lru_cache

_SMALLEST_P = 1e-100
"""Below it t^2 can leave the range of floats."""
_LARGEST_DF = 1e7
"""Up to here at least eight digits are right."""
_TINY = 1e-300
"""Stands in for a zero denominator in Lentz's method."""
_EPSILON = 1e-16
_MAX_TERMS = 100_000
"""The continued fraction needs about sqrt(df) terms: a bound that only a fault could reach."""


def t_cdf(t: float, df: float) -> float:
    """The probability that a t variable is at most `t`.

    Args:
        t: Any number; the infinities give 0 and 1.
        df: Degrees of freedom, from 1 to 10,000,000; need not be whole.

    Raises:
        ValueError: `t` is NaN, or `df` lies outside its bounds.
    """
    _check_df(df)
    if math.isnan(t):
        raise ValueError("t is NaN")
    tail = _tail(abs(t), df)
    return tail if t < 0 else 1.0 - tail


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """The value that a t variable stays below with probability `p`.

    Newton's method on the tail (or, near the middle, on the area from 0), kept inside a bracket by bisection.

    Args:
        p: Probability, at least 1e-100 and below 1.
        df: Degrees of freedom, from 1 to 10,000,000; need not be whole.

    Raises:
        ValueError: `p` or `df` lies outside these bounds.
    """
    _check_df(df)
    if not _SMALLEST_P <= p < 1:
        raise ValueError(f"p is {p!r}: it must be at least {_SMALLEST_P} and below 1")
    if p < 0.5:
        return -_upper_quantile(p, 0.5 - p, df)
    return _upper_quantile(1.0 - p, p - 0.5, df)


def _check_df(df: float) -> None:
    if not 1 <= df <= _LARGEST_DF:
        raise ValueError(f"df is {df!r}: it must be from 1 to {_LARGEST_DF:.0f}")


def _upper_quantile(tail: float, central: float, df: float) -> float:
    """The t >= 0 with `tail` above it and `central` between 0 and it; each is exact where it is small."""
    if central == 0:
        return 0.0

    def excess(t: float) -> float:
        return _central(t, df) - central if central < tail else tail - _tail(t, df)

    low, high = 0.0, 1.0
    while excess(high) < 0:
        low, high = high, 2 * high
    t, change = (low + high) / 2, math.inf
    # Every step moves an end of the bracket to t, so this ends: at the latest when no float is left between the ends.
    while abs(change) > 2 * math.ulp(t):
        value = excess(t)
        low, high = (t, high) if value < 0 else (low, t)
        following = t - value / _density(t, df)
        if not low < following < high:
            following = (low + high) / 2
        t, change = following, following - t
    return t


def _density(t: float, df: float) -> float:
    scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(scale - (df + 1) / 2 * math.log1p(t * t / df))


def _tail(t: float, df: float) -> float:
    """The probability above t >= 0."""
    square = t * t
    if math.isinf(square):
        return 0.0
    return 0.5 * _incomplete_beta(df / (df + square), square / (df + square), df / 2, 0.5)


def _central(t: float, df: float) -> float:
    """The probability between 0 and t >= 0; exact to the last digits where t is small, unlike 0.5 less the tail."""
    square = t * t
    return 0.5 * _incomplete_beta(square / (df + square), df / (df + square), 0.5, df / 2)


def _incomplete_beta(x: float, y: float, a: float, b: float) -> float:
    """I_x(a, b), with y = 1 - x given apart so that neither loses digits to the subtraction."""
    if x <= 0 or y <= 0:
        return 0.0 if x <= 0 else 1.0
    log_x = math.log1p(-y) if x > 0.5 else math.log(x)
    log_y = math.log1p(-x) if y > 0.5 else math.log(y)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * log_x + b * log_y)
    # The fraction converges quickly on this side of the mean; the symmetry I_x(a, b) = 1 - I_y(b, a) gives the other.
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(x, a, b) / a
    return 1.0 - front * _beta_fraction(y, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function by the modified Lentz method."""
    c = 1.0
    d = 1.0 / _nonzero(1.0 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _nonzero(1.0 + term * d)
            c = _nonzero(1.0 + term / c)
            result *= c * d
        if abs(c * d - 1.0) <= _EPSILON:
            return result
    raise ArithmeticError(  # pragma: no cover - the fraction converges for every argument that reaches it
        f"the incomplete beta function did not converge at x={x}, a={a}, b={b}"
    )


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
