"""Evaluations of one split: which pairs are left, every trace on disk before it counts, the score once all ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from metaharness.evaluation.runner import CaseRunner
from metaharness.evaluation.session import Doors
from metaharness.records import LEARN, CaseTrace, EvaluationPlan, ObjectiveRecord, RunConfig, Score, Spent, now
from metaharness.run.ground import Ground
from metaharness.scoring.measures import PairRow, aggregate, context_chars, measure
from metaharness.store import Evaluations, RunStore

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


@dataclass
class Evaluating:
    """Evaluates candidates of a run on the pairs of one split, and writes down what comes."""

    store: RunStore
    evaluations: Evaluations
    """Where traces and scores go."""
    config: RunConfig
    ground: Ground
    runner: CaseRunner
    doors: Doors
    spent: Callable[[], Spent]
    kept: Callable[[int, CaseTrace], None]
    """Told every trace after it was written, with the number of its candidate."""
    _tallies: dict[int, Tally] = field(default_factory=dict)

    def tally(self, number: int, *, order_dependent: bool = False) -> Tally:
        """What is known of an evaluation, from the disk where it was interrupted."""
        tally = self._tallies.get(number)
        if tally is None:
            pairs = self.ground.pairs(self.config.trials)
            tally = Tally(self.store.record.objectives, pairs, now(), order_dependent)
            tally.rows = self.evaluations.measure_traces(number, tally.measured)
            for trace in self.evaluations.learn_traces(number):
                tally.take(trace)
            self._tallies[number] = tally
        return tally

    def forget(self, number: int) -> None:
        """Nothing more will be evaluated of a candidate."""
        self._tallies.pop(number, None)

    def keep(self, number: int, trace: CaseTrace) -> None:
        """A case has ended: on disk first, then in the numbers."""
        self.evaluations.append_trace(number, trace)
        self.tally(number).take(trace)
        self.kept(number, trace)

    async def fill(self, number: int, pairs: Sequence[Pair], *, serial: bool) -> int:
        """Evaluate these pairs. Returns how many ended; a stop may come between."""
        ended = 0
        if pairs:
            async with self.runner.run(self.plan(number, pairs, serial=serial), self.doors) as traces:
                async for trace in traces:
                    self.keep(number, trace)
                    ended += 1
        return ended

    def score(self, number: int) -> Score:
        """Write the score of an evaluation whose planned pairs have all been evaluated."""
        score = make_score(
            self.tally(number),
            iteration=number,
            split=self.ground.split.value,
            sandbox=self.runner.sandbox_name,
            model=self.config.models["target"].id,
            trials=self.config.trials,
            spent=self.spent(),
        )
        return self.evaluations.write_score(number, score)

    def plan(self, number: int, pairs: Sequence[Pair], *, serial: bool = False) -> EvaluationPlan:
        """What the runner is asked to evaluate."""
        return EvaluationPlan(
            candidate_path=str(self.store.candidate_path(number)),
            candidate_hash=self.store.proposal(number).candidate_hash,
            pairs=tuple(pairs),
            split=self.ground.split.value,
            models=self.config.models,
            limits=self.ground.domain.limits,
            seed=self.config.seed,
            iteration=number,
            concurrency=self.config.concurrency,
            serial=serial,
        )


def why_missing(trace: CaseTrace) -> str:
    """Why a case has no value, in one line; empty when nothing says so."""
    failed = next((call.error.message for call in trace.calls if call.error is not None), None)
    lines = (failed or trace.error or "").strip().splitlines()
    return lines[-1] if lines else ""  # of a traceback, the line that says what happened
