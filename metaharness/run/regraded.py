"""What a new evaluator has made of a run: old and new score of every candidate, its place and its verdict."""

from __future__ import annotations

from dataclasses import dataclass

from metaharness.history import History
from metaharness.scoring.scoreboard import Iteration, State, incumbent


@dataclass(frozen=True)
class Row:
    """One candidate before and after. Exploratory: the difference is between evaluators, not between harnesses."""

    iteration: int
    name: str
    state: State
    """In the fork."""
    old: float | None
    """Mean of the primary objective; None without a score, or where no pair has a value."""
    new: float | None
    delta: float | None
    """New minus old; None where one is missing, or the two objectives are not the same."""
    changed: int
    """Pairs whose value is another one now."""
    missing: int
    rank_old: int | None
    """Its place among the complete candidates, from 1; None when it is none of them."""
    rank_new: int | None
    verdict_old: str | None
    verdict_new: str | None


def regraded_rows(source: History, fork: History) -> list[Row]:
    """A row per candidate, in order."""
    before, after = source.objectives[0], fork.objectives[0]
    comparable = (before.name, before.direction) == (after.name, after.direction)
    ranks_old, ranks_new = _ranks(source), _ranks(fork)
    rows = []
    for old, new in zip(source, fork, strict=False):  # the source may have grown since
        mean_old, mean_new = _mean(old, before.name), _mean(new, after.name)
        known = comparable and mean_old is not None and mean_new is not None
        rows.append(
            Row(
                iteration=new.number,
                name=new.proposal.name,
                state=new.state,
                old=mean_old,
                new=mean_new,
                delta=mean_new - mean_old if known and mean_new is not None and mean_old is not None else None,
                changed=_changed(source, fork, new.number) if new.score is not None else 0,
                missing=new.score.missing if new.score is not None else 0,
                rank_old=ranks_old.get(old.number),
                rank_new=ranks_new.get(new.number),
                verdict_old=old.verdict.verdict if old.verdict is not None else None,
                verdict_new=new.verdict.verdict if new.verdict is not None else None,
            )
        )
    return rows


def _mean(iteration: Iteration, objective: str) -> float | None:
    found = iteration.score.objectives.get(objective) if iteration.score is not None else None
    return None if found is None else found.mean


def _ranks(history: History) -> dict[int, int]:
    """Number to place, in the order in which candidates would be incumbent."""
    left: dict[int, Iteration] = {iteration.number: iteration for iteration in history}
    ranks: dict[int, int] = {}
    while (best := incumbent(left.values(), history.objectives)) is not None:
        ranks[best.number] = len(ranks) + 1
        del left[best.number]
    return ranks


def _changed(source: History, fork: History, number: int) -> int:
    old = _values(source, number)
    return sum(old.get(pair) != value for pair, value in _values(fork, number).items())


def _values(history: History, number: int) -> dict[tuple[str, int], float | None]:
    """The primary value of every pair."""
    return {(row.case_id, row.trial): row.values[0] for row in history.rows(number)}
