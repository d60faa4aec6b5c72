"""Evaluate one harness without a run: nothing is recorded, and the same harness gets the same numbers as in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from metaharness.domain import Split, files_hash
from metaharness.errors import UsageError
from metaharness.evaluation.ladder import SMOKE_CASES, check_files
from metaharness.evaluation.runner import SandboxRunner
from metaharness.evaluation.session import Doors
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.loading import read_candidate
from metaharness.records import (
    LEARN,
    CaseTrace,
    EvaluationPlan,
    ObjectiveRecord,
    Rejection,
    RunConfig,
    Score,
    Spent,
    now,
)
from metaharness.run.evaluating import Tally, make_score
from metaharness.run.ground import Ground, prepare
from metaharness.run.ungroup import ungrouped
from metaharness.sandbox import open_sandbox


@dataclass
class Evaluation:
    """What came out. `score` is None when the ladder rejected the harness, or a stop came between."""

    objectives: list[ObjectiveRecord]
    rejection: Rejection | None = None
    score: Score | None = None
    traces: dict[tuple[str, int], CaseTrace] = field(default_factory=dict)
    """The latest attempt at each pair."""


async def evaluate_harness(
    harness: Path,
    config: RunConfig,
    *,
    split: Split = Split.SEARCH,
    ladder: bool = True,
    listen: Callable[[CaseTrace], None] = lambda _trace: None,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Evaluate a harness file or folder.

    Args:
        harness: The file, or a folder that holds `harness.py`.
        config: Domain, model, trials, limit, seed, concurrency, sandbox and budget; the rest is not used.
        split: `train` or `search`.
        ladder: Whether to check the harness first, and refuse what fails.
        listen: Told every trace as it comes.
        stop: Asked before each case; True starts no further one.

    Raises:
        UsageError: There is no such harness, or the split is sealed.
        MetaharnessError: The domain or the model cannot be used.
    """
    if split not in (Split.TRAIN, Split.SEARCH):
        raise UsageError("only train and search can be evaluated", hint="the test split is sealed until a run is over")
    files = dict(read_candidate(harness).files)
    ground = prepare(config, split)
    objectives = [objective.record() for objective in ground.domain.objectives]
    result = Evaluation(objectives, rejection=check_files(files) if ladder else None)
    if result.rejection is not None:
        return result
    tally = Tally(objectives, ground.pairs(config.trials), now())
    runner = SandboxRunner(ground.material(open_sandbox(config.sandbox), stop))
    gateway, ledger = _gateway(config, ground)
    ledger.charge_case_evaluations(len(tally.planned))
    job = _Job(runner, _plan(harness, files, config, ground), Doors(gateway), tally, result, listen)
    try:
        gateway.open()
        with ungrouped():
            if ladder:
                await job.climb()
            if result.rejection is None:
                await job.evaluate()
    finally:
        await gateway.aclose()
    if tally.whole and result.rejection is None:
        result.score = job.score(config.trials, ledger.spent)
    return result


def _gateway(config: RunConfig, ground: Ground) -> tuple[Gateway, Ledger]:
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
    )
    return gateway, ledger


def _plan(harness: Path, files: Mapping[str, str], config: RunConfig, ground: Ground) -> EvaluationPlan:
    return EvaluationPlan(
        candidate_path=str(harness),
        candidate_hash=files_hash({path: text.encode("utf-8", "replace") for path, text in files.items()}),
        pairs=tuple(ground.pairs(config.trials)),
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
    plan: EvaluationPlan
    doors: Doors
    tally: Tally
    result: Evaluation
    listen: Callable[[CaseTrace], None]

    async def climb(self) -> None:
        """The rungs of the ladder that run code."""
        smoke = await self.runner.smoke(replace(self.plan, pairs=self.plan.pairs[:SMOKE_CASES]), self.doors)
        self.result.rejection = smoke.rejection
        self.tally.order_dependent = smoke.order_dependent
        for trace in smoke.traces:
            self._keep(trace)

    async def evaluate(self) -> None:
        """Every pair that is left."""
        serial = self.plan.serial or self.tally.order_dependent
        plan = replace(self.plan, pairs=tuple(self.tally.left(serial=serial)), serial=serial)
        async with self.runner.run(plan, self.doors) as traces:
            async for trace in traces:
                self._keep(trace)

    def score(self, trials: int, spent: Spent) -> Score:
        """The aggregate once every pair has been evaluated."""
        return make_score(
            self.tally,
            iteration=None,
            split=self.plan.split,
            sandbox=self.runner.sandbox_name,
            model=self.plan.models["target"].id,
            trials=trials,
            spent=spent,
        )

    def _keep(self, trace: CaseTrace) -> None:
        self.tally.take(trace)
        if trace.case_id != LEARN:
            self.result.traces[trace.case_id, trace.trial] = trace
        self.listen(trace)
