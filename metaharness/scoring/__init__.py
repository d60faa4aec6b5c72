"""Numbers from values: intervals, paired comparisons and Pareto frontiers. Pure; standard library only at run time."""

from metaharness.scoring.intervals import estimate, mean_and_margin, mean_bounds, unit_means
from metaharness.scoring.paired import Comparison, Outcome, compare, verdict, verdict_with_bounds
from metaharness.scoring.pareto import Frontier, dominates, frontier
from metaharness.scoring.student import t_cdf, t_quantile

__all__ = [
    "Comparison",
    "Frontier",
    "Outcome",
    "compare",
    "dominates",
    "estimate",
    "frontier",
    "mean_and_margin",
    "mean_bounds",
    "t_cdf",
    "t_quantile",
    "unit_means",
    "verdict",
    "verdict_with_bounds",
]
