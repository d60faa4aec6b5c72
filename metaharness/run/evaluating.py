"""Evaluations of one split: which pairs are left, every trace on disk before it counts, the score once all ended.

Pairs that are missing when all were asked are asked once more: a failed call is not in the journal, so it is a new
attempt, and the trace keeps both lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import anyio

from metaharness.configuration import RunConfig
from metaharness.evaluation.ladder import SMOKE_CASES
from metaharness.evaluation.runner import CaseRunner, hopeless
from metaharness.evaluation.session import Doors
from metaharness.gateway.budget import Ledger
from metaharness.records import (
    HARNESS_CHARS,
    LEARN,
    CaseTrace,
    EvaluationPlan,
    ObjectiveRecord,
    Score,
    Spent,
    Status,
    now,
)
from metaharness.run.ground import Ground
from metaharness.scoring.measures import PairRow, aggregate, context_chars, harness_chars, measure
from metaharness.store import Evaluations, RunStore

Pair = tuple[str, int]

FAIL_FAST_PAIRS = 10
FAIL_FAST_SHARE = 0.1
"""An evaluation ends after this many pairs, or this part of them where that is more, when each of them has failed."""
OWN_FAILURES: frozenset[Status] = frozenset({"harness_error", "timeout", "refused"})


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

    def plan_left(self, plan: EvaluationPlan) -> EvaluationPlan:
        """The same plan for what is left, with what makes the evaluation end early."""
        pairs = tuple(self.left(serial=plan.serial))
        return replace(plan, pairs=pairs, fail_fast=self._fail_fast())

    def _fail_fast(self) -> tuple[tuple[Pair, ...], tuple[Pair, ...]] | None:
        """The first pairs after the smoke cases that have not ended yet, and all after them; None once one is `ok`.

        A candidate that came up the ladder has answered a smoke case, so these say nothing here. Missing pairs do not
        either: then the evaluation goes on to its end.
        """
        end = SMOKE_CASES + max(FAIL_FAST_PAIRS, math.ceil(FAIL_FAST_SHARE * len(self.planned)))
        first, rest = self.planned[SMOKE_CASES:end], self.planned[end:]
        if any(pair in self.rows and self.rows[pair].status not in OWN_FAILURES for pair in first):
            return None
        skipped = {pair for pair in rest if pair in self.rows and self.rows[pair].status == "skipped"}
        return (
            tuple(pair for pair in first if pair not in self.rows),
            tuple(pair for pair in rest if pair not in skipped),
        )

    @property
    def worth_asking_again(self) -> bool:
        """Whether all were asked, some are missing, others are not, and the budget is not the reason."""
        missing = [row.status for row in self.rows.values() if row.missing]
        return self.whole and 0 < len(missing) < len(self.rows) and "budget" not in missing

    @property
    def whole(self) -> bool:
        """Whether every planned pair has been evaluated, though some may be missing."""
        return all(pair in self.rows for pair in self.planned)


async def evaluate_left(
    tally: Tally,
    plan: EvaluationPlan,
    runner: CaseRunner,
    doors: Doors,
    *,
    ledger: Ledger,
    keep: Callable[[CaseTrace], None],
) -> None:
    """Evaluate what is left, and ask once more what is missing then; a stop may come between.

    Args:
        tally: What is known; `keep` is to add every trace to it.
        plan: Its pairs do not matter.
        runner: Evaluates plans.
        doors: The ways out of the sandbox.
        ledger: When it is used up, nothing is asked once more.
        keep: Told every trace.
    """
    for again in (False, True):
        if again and (ledger.used_up or not tally.worth_asking_again):
            return
        left = tally.plan_left(plan)
        if left.pairs or hopeless(left):
            async with runner.run(left, doors) as traces:
                async for trace in traces:
                    keep(trace)
                    with suppress(anyio.WouldBlock, anyio.EndOfStream):  # those that have come with it
                        while True:
                            keep(traces.receive_nowait())


def make_score(
    tally: Tally,
    *,
    files: Callable[[], Mapping[str, str]],
    iteration: int | None,
    split: str,
    sandbox: str,
    model: str,
    trials: int,
    spent: Spent,
) -> Score:
    """The aggregate of an evaluation whose planned pairs have all been evaluated.

    `files` tells those of the candidate, by their path; it is asked where an objective is about them.
    """
    rows = [tally.rows[pair] for pair in tally.planned if pair in tally.rows]
    asked = any(objective.name == HARNESS_CHARS for objective in tally.objectives)
    total = aggregate(rows, tally.objectives, trials=trials, harness_chars=harness_chars(files()) if asked else None)
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
    ledger: Ledger
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

    async def fill(self, number: int, *, serial: bool) -> None:
        """Evaluate what is left, and ask once more what is missing then; a stop may come between."""
        plan = self.plan(number, (), serial=serial)
        keep = partial(self.keep, number)
        await evaluate_left(self.tally(number), plan, self.runner, self.doors, ledger=self.ledger, keep=keep)

    def score(self, number: int) -> Score:
        """Write the score of an evaluation whose planned pairs have all been evaluated."""
        score = make_score(
            self.tally(number),
            files=partial(self.store.files, number),
            iteration=number,
            split=self.ground.split.value,
            sandbox=self.runner.sandbox_name,
            model=self.config.models["target"].id,
            trials=self.config.trials,
            spent=self.ledger.spent,
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
