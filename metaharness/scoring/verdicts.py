"""What is said of a candidate: better, worse or indecisive against the incumbent of its round, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metaharness.records import ObjectiveRecord, Verdict, VerdictRecord
from metaharness.scoring.measures import PairRow, row_means
from metaharness.scoring.paired import Comparison, compare, verdict, verdict_with_bounds

VERDICT_LEVEL = 0.025
"""The level of all verdicts of a round together; each of its candidates is tested at its share (Bonferroni).

A search tests many candidates, each against an incumbent that is the best of those before: at 0.05, of 1,000 simulated
searches over 60 candidates that are no better than the baseline up to 8% called some candidate better
(`benchmarks/searches.py`).
"""


def compare_rows(a: Sequence[PairRow], b: Sequence[PairRow], objective: ObjectiveRecord) -> Comparison:
    """The paired test of the primary objective over the units that both have."""
    return compare(row_means(a), row_means(b), direction=objective.direction)


def judge(
    rows: Sequence[PairRow],
    incumbent_rows: Sequence[PairRow],
    objective: ObjectiveRecord,
    *,
    iteration: int,
    round_number: int,
    incumbent: int,
    width: int,
) -> VerdictRecord:
    """The verdict of one candidate. With missing pairs it is indecisive, unless both bounds agree.

    Args:
        rows: The candidate's, one per case and trial.
        incumbent_rows: Those of the complete candidate it is compared with.
        objective: The primary objective.
        iteration: The candidate's number.
        round_number: Its round.
        incumbent: The number of the candidate it is compared with.
        width: How many candidates a round of the run has; each is tested at `VERDICT_LEVEL / width`.
    """
    comparison = compare_rows(rows, incumbent_rows, objective)
    return VerdictRecord(
        iteration=iteration,
        round=round_number,
        incumbent=incumbent,
        verdict=_said(rows, incumbent_rows, objective, comparison, VERDICT_LEVEL / width),
        delta=comparison.delta,
        low=comparison.low,
        high=comparison.high,
        p=comparison.p,
        units=comparison.units,
    )


def _said(
    rows: Sequence[PairRow],
    incumbent_rows: Sequence[PairRow],
    objective: ObjectiveRecord,
    comparison: Comparison,
    alpha: float,
) -> Verdict:
    if not any(row.missing for row in rows):
        return verdict(comparison, direction=objective.direction, alpha=alpha)
    if objective.range is None:
        return "indecisive"
    low, high = objective.range
    worst, best = (low, high) if objective.direction == "max" else (high, low)
    return verdict_with_bounds(
        row_means(rows, fill=worst),
        row_means(rows, fill=best),
        row_means(incumbent_rows),
        direction=objective.direction,
        alpha=alpha,
    )


@dataclass(frozen=True)
class Judgement:
    """What a test has found and what is said of it."""

    said: Verdict
    comparison: Comparison
    """Over the units that both have; a missing pair is in none of its numbers."""


def judge_both(rows: Sequence[PairRow], others: Sequence[PairRow], objective: ObjectiveRecord) -> Judgement:
    """The verdict on one candidate against another, where pairs of either may be missing.

    With missing pairs it is the one that holds in both extremes, else indecisive: every missing pair of the one at its
    worst and of the other at its best, and the other way round.

    Args:
        rows: The candidate's, one per case and trial.
        others: Those of the candidate it is compared with.
        objective: The primary objective.
    """
    comparison = compare_rows(rows, others, objective)
    if not any(row.missing for row in (*rows, *others)):
        return Judgement(verdict(comparison, direction=objective.direction), comparison)
    if objective.range is None:
        return Judgement("indecisive", comparison)
    extremes = [
        compare(row_means(rows, fill=mine), row_means(others, fill=theirs), direction=objective.direction)
        for mine, theirs in (objective.range, objective.range[::-1])
    ]
    said = {verdict(extreme, direction=objective.direction) for extreme in extremes}
    return Judgement(said.pop() if len(said) == 1 else "indecisive", comparison)


def delta_text(comparison: Comparison) -> str:
    """The difference, its interval and p as a person reads them."""
    if comparison.delta is None:
        return "no case is shared"
    interval = "" if comparison.low is None else f" [{comparison.low:+.3f}, {comparison.high:+.3f}]"
    p = "< 0.001" if comparison.p < 0.001 else f"= {comparison.p:.3f}"
    return f"{comparison.delta:+.3f}{interval}, p {p}"
