"""How much of what a score varies by lies between cases, and how much between the trials of one case."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from metaharness.scoring.measures import PairRow


@dataclass(frozen=True)
class Components:
    """The variance of the primary objective, split up."""

    units: int
    """Cases (or groups) with a value in every trial."""
    left_out: int
    """Units without one: in no number here."""
    between: float
    """The variance of what the units would reach with endless trials; not below 0."""
    within: float
    """The variance between the trials of one unit."""
    correlation: float | None
    """The intraclass correlation: the share of the variance of single trials that lies between units.

    1 where trials never differ, 0 or below where units do not. None where nothing varies.
    """
    binary: bool
    """Whether every value is 0 or 1."""


def components(rows: Sequence[PairRow], trials: int) -> Components:
    """The variance components of a one-way random effects model, by analysis of variance.

    between = (MSB - MSW) / T and within = MSW, MSB and MSW the mean squares between and within units; the correlation
    is ICC(1) = (MSB - MSW) / (MSB + (T-1) MSW) (Shrout and Fleiss 1979). Where cases have groups, a unit's value in a
    trial is the mean of its cases.

    Args:
        rows: One per case and trial.
        trials: How many trials each case was to have, at least 2.

    Raises:
        ValueError: Fewer than two trials, or fewer than two units with a value in each.
    """
    if trials < 2:
        raise ValueError(f"trials is {trials}: what lies within a case takes at least 2")
    found: defaultdict[str, defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    incomplete: set[str] = set()
    for row in rows:
        value = row.values[0]
        if value is None:
            incomplete.add(row.unit)
        else:
            found[row.unit][row.trial].append(value)
    table = [
        [math.fsum(values) / len(values) for values in of_unit.values()]
        for unit, of_unit in sorted(found.items())
        if unit not in incomplete and len(of_unit) == trials
    ]
    if len(table) < 2:
        raise ValueError(f"{len(table)} units have a value in every trial: at least 2 are needed")
    between, within = _mean_squares(table)
    total = between + (trials - 1) * within
    return Components(
        units=len(table),
        left_out=len(found.keys() | incomplete) - len(table),
        between=max(0.0, (between - within) / trials),
        within=within,
        correlation=(between - within) / total if total > 0 else None,
        binary=all(value in (0, 1) for values in table for value in values),
    )


def _mean_squares(table: Sequence[Sequence[float]]) -> tuple[float, float]:
    """MSB and MSW of units with equally many values."""
    units, trials = len(table), len(table[0])
    means = [math.fsum(values) / trials for values in table]
    grand = math.fsum(means) / units
    between = trials * math.fsum((mean - grand) ** 2 for mean in means) / (units - 1)
    inside = math.fsum((value - mean) ** 2 for values, mean in zip(table, means, strict=True) for value in values)
    return between, inside / (units * (trials - 1))
