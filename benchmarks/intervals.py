"""How often the 95% interval of a mean holds the true one.

With one trial per case the value of a case is 0 or 1 whatever the cases are like, so its coverage is summed exactly.
With several, the cases have chances of success from a beta distribution: its concentration says how much of the
variance lies between the cases, from nearly none of it to nearly all. Drawn with a fixed seed.

    uv run python benchmarks/intervals.py [--replications 10000]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import comb

from metaharness.scoring.intervals import estimate

LIMIT = 0.93
CASES = (20, 50, 200)
TRIALS = (1, 5)
MEANS = (0.45, 0.5, 0.55, 0.94, 0.95, 0.96)
CONCENTRATIONS = (0.05, 0.5, 2.0, 10.0, 1000.0)
"""Of a beta distribution: the part of the variance that lies between cases is 1 / (1 + it)."""
REPLICATIONS = 10_000


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    cases: int
    trials: int
    mean: float
    concentration: float | None
    """None where it makes no difference: with one trial."""


def settings() -> Iterator[Setting]:
    for cases, mean in product(CASES, MEANS):
        yield Setting(cases, 1, mean, None)
    for cases, trials, mean, concentration in product(CASES, TRIALS[1:], MEANS, CONCENTRATIONS):
        yield Setting(cases, trials, mean, concentration)


def coverage(setting: Setting, replications: int = REPLICATIONS) -> float:
    """The part of the intervals that hold the true mean."""
    if setting.concentration is None:
        return exact_coverage(setting.cases, setting.mean)
    generator = random.Random(f"{setting}")
    held = 0
    for _ in range(replications):
        held += _holds(tuple(sorted(_counts(setting, generator))), setting.trials, setting.mean)
    return held / replications


def exact_coverage(cases: int, mean: float) -> float:
    """With one trial: the sum over the numbers of successes of their probability, where the interval holds the mean."""
    return sum(
        comb(cases, right) * mean**right * (1 - mean) ** (cases - right)
        for right in range(cases + 1)
        if _holds((0,) * (cases - right) + (1,) * right, 1, mean)
    )


def pooled_coverage(setting: Setting, replications: int = REPLICATIONS) -> float:
    """The same where every trial is taken for a case of its own: what the unit of measurement prevents."""
    generator = random.Random(f"{setting}")
    held = 0
    for _ in range(replications):
        right = sum(_counts(setting, generator))
        wrong = setting.cases * setting.trials - right
        held += _holds((0,) * wrong + (1,) * right, 1, setting.mean)
    return held / replications


def _counts(setting: Setting, generator: random.Random) -> list[int]:
    """How many trials of each case are right."""
    assert setting.concentration is not None
    draw, beta = generator.random, generator.betavariate
    a, b = setting.mean * setting.concentration, (1 - setting.mean) * setting.concentration
    counts = []
    for _ in range(setting.cases):
        chance = beta(a, b)
        counts.append(sum(draw() < chance for _ in range(setting.trials)))
    return counts


@cache
def _holds(counts: tuple[int, ...], trials: int, mean: float) -> bool:
    found = estimate([count / trials for count in counts], value_range=(0.0, 1.0), trials=trials)
    return found.low is not None and found.high is not None and found.low <= mean <= found.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=REPLICATIONS)
    chosen = parser.parse_args()
    with ProcessPoolExecutor() as pool:
        every = list(settings())
        for setting, share in zip(every, pool.map(coverage, every, [chosen.replications] * len(every)), strict=True):
            between = "" if setting.concentration is None else f", {1 / (1 + setting.concentration):.3f} between cases"
            mark = "" if share >= LIMIT else "   BELOW"
            what = f"{setting.cases:3} cases, {setting.trials} trials, mean {setting.mean:.2f}{between}"
            print(f"{what:58} {share:.3f}{mark}", flush=True)


if __name__ == "__main__":
    main()
