"""Evaluate one harness without a run: nothing is recorded, and the same harness gets the same numbers as in a run."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from metaharness.configuration import RunConfig
from metaharness.domain import Split, files_hash
from metaharness.errors import UsageError
from metaharness.evaluation.ladder import SMOKE_CASES, check_files
from metaharness.evaluation.runner import SandboxRunner
from metaharness.evaluation.session import Doors
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.shared import open_shared
from metaharness.loading import read_candidate
from metaharness.records import LEARN, CaseTrace, EvaluationPlan, ObjectiveRecord, Rejection, Score, Spent, now
from metaharness.run.evaluating import Pair, Tally, evaluate_left, make_score
from metaharness.run.ground import Ground, prepare, sandbox_of, sandbox_told
from metaharness.run.leaking import Leaks
from metaharness.run.objectives import run_objectives
from metaharness.scoring.measures import PairRow, measure
from metaharness.ungroup import ungrouped


@dataclass
class Evaluation:
    """What came out. `score` is None when the ladder rejected the harness, or a stop came between."""

    objectives: list[ObjectiveRecord]
    rejection: Rejection | None = None
    notes: list[str] = field(default_factory=list)
    """What a run would have rejected or flagged it for, though it was evaluated: text of cases, answers of cases."""
    score: Score | None = None
    traces: dict[tuple[str, int], CaseTrace] = field(default_factory=dict)
    """The latest attempt at each pair."""
    learned: dict[int, CaseTrace] = field(default_factory=dict)
    """The trace of `learn`, by trial."""

    @property
    def rows(self) -> list[PairRow]:
        """The numbers of every pair, by case and trial."""
        return [measure(trace, self.objectives) for _, trace in sorted(self.traces.items())]


FRESH_TRIALS = 1_000
"""From here on trial numbers belong to nobody: a run counts its trials from 0."""


def fresh_trial() -> int:
    """The first of trial numbers that nobody has used, so that no stored answer is given for theirs."""
    return FRESH_TRIALS + secrets.randbelow(1 << 40)


async def evaluate_harness(
    harness: Path,
    config: RunConfig,
    *,
    split: Split = Split.SEARCH,
    ladder: bool = True,
    first_trial: int = 0,
    announce: Callable[[str], None] = lambda _told: None,
    listen: Callable[[CaseTrace], None] = lambda _trace: None,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Evaluate a harness file or folder.

    Args:
        harness: The file, or a folder that holds `harness.py`.
        config: What it says of rounds and candidates is not used.
        split: `train` or `search`.
        ladder: Whether to check the harness first, and refuse what fails.
        first_trial: The number of the first trial; that of `fresh_trial` neither reads nor fills the shared cache.
        announce: Told which sandbox it is, in a line, before anything runs in it.
        listen: Told every trace as it comes.
        stop: Asked before each case; True starts no further one.

    Raises:
        UsageError: There is no such harness, or the split is sealed.
        MetaharnessError: The domain or the model cannot be used.
    """
    _check_split(split)
    files = dict(read_candidate(harness).files)
    ground = prepare(config, split)
    objectives = run_objectives(config, ground.domain)
    result = Evaluation(objectives, rejection=check_files(files) if ladder else None)
    if result.rejection is not None:
        return result
    result.notes = _notes(files, ground) if ladder else []
    tally = Tally(objectives, [(case_id, first_trial + trial) for case_id, trial in ground.pairs(config.trials)], now())
    announce(sandbox_told(config, ground))
    runner = SandboxRunner(ground.material(sandbox_of(config, ground), stop))
    gateway, ledger = _gateway(config, ground, first_trial)
    job = _Job(
        runner, files, _plan(harness, files, config, ground, tally.planned), Doors(gateway), tally, result, listen
    )
    try:
        gateway.open()
        await job.do(ledger, ladder=ladder)
    finally:
        await gateway.aclose()
    if tally.whole and result.rejection is None:
        result.score = job.score(config.trials, ledger.spent)
    return result


def _check_split(split: Split) -> None:
    if split not in (Split.TRAIN, Split.SEARCH):
        raise UsageError("only train and search can be evaluated", hint="the test split is sealed until a run is over")


def _notes(files: Mapping[str, str], ground: Ground) -> list[str]:
    """What a person should know of a harness of their own, which is theirs to evaluate."""
    if ground.split is not Split.SEARCH:
        return []
    leaks = Leaks(ground)
    rejection = leaks.check(files)
    return [*([] if rejection is None else [rejection.message]), *leaks.flags(files)]


def _gateway(config: RunConfig, ground: Ground, first_trial: int) -> tuple[Gateway, Ledger]:
    """A gateway that remembers as long as the evaluation lasts."""
    prices = PriceTable(config.prices)
    ledger = Ledger(config.budget, prices)
    gateway = Gateway(
        config.models,
        journal=MemoryJournal(),
        ledger=ledger,
        prices=prices,
        concurrency=config.concurrency,
        redact=ground.redact,
        # an answer to a trial that nobody has used is in no cache, and none is to be kept for nobody
        shared=None if first_trial >= FRESH_TRIALS else open_shared(config.cache),
    )
    return gateway, ledger


def _plan(
    harness: Path, files: Mapping[str, str], config: RunConfig, ground: Ground, pairs: Sequence[Pair]
) -> EvaluationPlan:
    return EvaluationPlan(
        candidate_path=str(harness),
        candidate_hash=files_hash({path: text.encode("utf-8", "replace") for path, text in files.items()}),
        pairs=tuple(pairs),
        split=ground.split.value,
        models=config.models,
        limits=ground.domain.limits,
        seed=config.seed,
        concurrency=config.concurrency,
        serial=ground.domain.online,
    )


@dataclass
class _Job:
    """One evaluation on its way."""

    runner: SandboxRunner
    files: Mapping[str, str]
    plan: EvaluationPlan
    doors: Doors
    tally: Tally
    result: Evaluation
    listen: Callable[[CaseTrace], None]

    async def do(self, ledger: Ledger, *, ladder: bool) -> None:
        """The ladder, if it is asked for, and what it lets through."""
        ledger.charge_case_evaluations(len(self.tally.planned))
        with ungrouped():
            if ladder:
                await self.climb()
            if self.result.rejection is None:
                await self.evaluate(ledger)

    async def climb(self) -> None:
        """The rungs of the ladder that run code."""
        smoke = await self.runner.smoke(replace(self.plan, pairs=self.plan.pairs[:SMOKE_CASES]), self.doors)
        self.result.rejection = smoke.rejection
        self.tally.order_dependent = smoke.order_dependent
        for trace in smoke.traces:
            self._keep(trace)

    async def evaluate(self, ledger: Ledger) -> None:
        """Every pair that is left."""
        plan = replace(self.plan, serial=self.plan.serial or self.tally.order_dependent)
        await evaluate_left(self.tally, plan, self.runner, self.doors, ledger=ledger, keep=self._keep)

    def score(self, trials: int, spent: Spent) -> Score:
        """The aggregate once every pair has been evaluated."""
        return make_score(
            self.tally,
            files=lambda: self.files,
            iteration=None,
            split=self.plan.split,
            sandbox=self.runner.sandbox_name,
            model=self.plan.models["target"].id,
            trials=trials,
            spent=spent,
        )

    def _keep(self, trace: CaseTrace) -> None:
        self.tally.take(trace)
        if trace.case_id == LEARN:
            self.result.learned[trace.trial] = trace
        else:
            self.result.traces[trace.case_id, trace.trial] = trace
        self.listen(trace)
