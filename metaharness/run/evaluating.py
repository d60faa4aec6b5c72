"""The bookkeeping of one evaluation: which pairs are left, and the score once all have ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from metaharness.records import LEARN, CaseTrace, ObjectiveRecord, Score, Spent, now
from metaharness.scoring.measures import PairRow, aggregate, context_chars, measure

Pair = tuple[str, int]


@dataclass
class Tally:
    """What is known of an evaluation so far."""

    objectives: Sequence[ObjectiveRecord]
    planned: Sequence[Pair]
    started: str
    order_dependent: bool = False
    rows: dict[Pair, PairRow] = field(default_factory=dict)
    learn_chars: dict[int, int] = field(default_factory=dict)
    """Characters sent by `learn`, by trial."""

    def take(self, trace: CaseTrace) -> None:
        """A trace was recorded."""
        if trace.case_id == LEARN:
            self.learn_chars[trace.trial] = context_chars(trace.calls)
        else:
            self.rows[trace.case_id, trace.trial] = self.measured(trace)

    def settled(self, trace: CaseTrace) -> bool:
        """Whether this pair has ended before."""
        row = self.rows.get((trace.case_id, trace.trial))
        return row is not None and not row.missing

    def measured(self, trace: CaseTrace) -> PairRow:
        """The numbers of one trace."""
        return measure(trace, self.objectives)

    def left(self, *, serial: bool) -> list[Pair]:
        """The pairs to evaluate, in order: not evaluated yet, or missing.

        A serial evaluation depends on what came before in the same worker, so a trial that is not whole is
        evaluated from its start.
        """
        todo = [pair for pair in self.planned if pair not in self.rows or self.rows[pair].missing]
        if not serial:
            return todo
        trials = {trial for _, trial in todo}
        return [pair for pair in self.planned if pair[1] in trials]

    @property
    def whole(self) -> bool:
        """Whether every planned pair has been evaluated, though some may be missing."""
        return all(pair in self.rows for pair in self.planned)


def make_score(
    tally: Tally,
    *,
    iteration: int | None,
    split: str,
    sandbox: str,
    model: str,
    trials: int,
    spent: Spent,
) -> Score:
    """The aggregate of an evaluation whose planned pairs have all been evaluated."""
    rows = [tally.rows[pair] for pair in tally.planned if pair in tally.rows]
    total = aggregate(rows, tally.objectives, trials=trials)
    chars = list(tally.learn_chars.values())
    return Score(
        iteration=iteration,
        split=split,
        sandbox=sandbox,
        model=model,
        planned=len(tally.planned),
        ended=total.ended,
        missing=total.missing,
        statuses=total.statuses,
        objectives=total.objectives,
        bounds=total.bounds,
        context_chars=total.context_chars,
        learn_chars=math.fsum(chars) / len(chars) if chars else 0.0,
        order_dependent=tally.order_dependent,
        trials=trials,
        spent=spent,
        started=tally.started,
        finished=now(),
    )
