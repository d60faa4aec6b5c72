"""What the numbers say of a candidate that nobody has written a report on."""

from __future__ import annotations

from metaharness.history import History
from metaharness.scoring.measures import row_means
from metaharness.scoring.scoreboard import Iteration, format_p

MOST_CASES = 8
"""Cases that are named of those that were fixed, and of those that were broken."""


def facts_of(history: History, one: Iteration, *, cases: bool) -> str:
    """Some lines: verdict, difference, how many cases were fixed and broken.

    Args:
        history: The run.
        one: The candidate.
        cases: Whether single cases may be named.
    """
    if one.rejection is not None:
        return f"rejected at {one.rejection.stage}: {one.rejection.message[:500]}"
    verdict = one.verdict
    if verdict is None or verdict.incumbent is None or verdict.delta is None:
        return f"{one.state}; it was compared with nothing"
    interval = "" if verdict.low is None or verdict.high is None else f" [{verdict.low:+.3f}, {verdict.high:+.3f}]"
    p = "" if verdict.p is None else f", p {format_p(verdict.p)}"
    against = verdict.incumbent
    lines = [f"{verdict.verdict} against {against:03d}: {verdict.delta:+.3f}{interval}{p}, {verdict.units} cases"]
    if one.proposal.predicted_effect:
        lines.append(f"predicted: {' '.join(one.proposal.predicted_effect.split())[:200]}")
    return "\n".join([*lines, *_changed(history, one.number, against, cases=cases)])


def _changed(history: History, number: int, against: int, *, cases: bool) -> list[str]:
    if all(one.number != against for one in history):
        return []
    here, there = row_means(history.rows(number)), row_means(history.rows(against))
    sign = 1 if history.objectives[0].direction == "max" else -1
    units = sorted(here.keys() & there.keys())
    fixed = [unit for unit in units if sign * (here[unit] - there[unit]) > 0]
    broken = [unit for unit in units if sign * (here[unit] - there[unit]) < 0]
    return [_listed("fixed", fixed, cases=cases), _listed("broken", broken, cases=cases)]


def _listed(what: str, units: list[str], *, cases: bool) -> str:
    if not cases or not units:
        return f"{what}: {len(units)}"
    more = f" and {len(units) - MOST_CASES} more" if len(units) > MOST_CASES else ""
    return f"{what}: {len(units)}: {', '.join(unit[:60] for unit in units[:MOST_CASES])}{more}"
