"""Trying files before they are handed in: a few training cases, with everything that happened in them.

The cases that are asked are left out of what `learn` is shown. It costs what it costs: the cases and the calls count in
the budget of the run and its calls in the journal, but there is no iteration, no score and no round.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from metaharness.domain import Split
from metaharness.errors import UsageError
from metaharness.evaluation.ladder import SMOKE_CASES
from metaharness.evaluation.runner import SandboxRunner
from metaharness.records import CaseTrace, EvaluationPlan, Rejection
from metaharness.run.facade import Run
from metaharness.run.ground import Ground, prepare, sandbox_of
from metaharness.store import lay_out
from metaharness.ungroup import ungrouped

MOST_CASES = 3
"""Training cases that are asked in one try."""
MOST_LEAKS = 10
"""Tries in a run that may be rejected for text of cases in them."""


@dataclass(frozen=True)
class Tried:
    """What came of a try."""

    cases: tuple[str, ...]
    """The training cases that were asked, or would have been."""
    rejection: Rejection | None = None
    """Why the ladder would stop these files; None where it would not, as far as these cases show."""
    traces: list[CaseTrace] = field(default_factory=list)
    """In the order of the cases; fewer where the files were rejected."""
    order_dependent: bool = False


async def try_out(run: Run, files: Mapping[str, str], cases: Sequence[str] = ()) -> Tried:
    """Take files up the ladder and ask them training cases.

    Args:
        run: Open for recording.
        files: Those of a candidate, by relative path.
        cases: Ids of training cases; none takes the first ones in the run's order.

    Raises:
        UsageError: There is no such case, too many are asked for, or the budget does not allow them.
    """
    ground = prepare(run.config.model_copy(update={"limit": None}), Split.TRAIN)
    chosen = _chosen(ground, cases)
    rejection = run.recorder.admit(files, baseline=False).rejection
    if rejection is not None and rejection.stage == "leak":
        _count_leak(run, len(chosen))
    if rejection is not None:
        return Tried(chosen, rejection)
    left = run.ledger.remaining("case_evaluations")
    if left is not None and left < len(chosen):
        raise UsageError(
            f"the budget of case evaluations has {left:,.0f} left, and this try asks {len(chosen)}",
            hint="try fewer cases, or hand the candidate in",
        )
    run.ledger.charge_case_evaluations(len(chosen))
    run.store.event("tried", cases=len(chosen))  # before: a process that is killed has spent them too
    with tempfile.TemporaryDirectory(prefix="metaharness-try-") as folder, ungrouped():
        plan = _plan(run, lay_out(Path(folder), files), chosen)
        return await _asked(run, ground, plan)


def _count_leak(run: Run, cases: int) -> None:
    """Record a try with text of cases in it, at the price of any other: whoever guesses texts would learn from it.

    Raises:
        UsageError: There were too many of them in this run.
    """
    if sum(event.model_dump().get("rejected") == "leak" for event in run.store.events("tried")) >= MOST_LEAKS:
        raise UsageError(
            f"{MOST_LEAKS} tries held text of cases: files of this run are not tried any more",
            hint="hand the candidate in; what it holds is checked there as well",
        )
    run.store.event("tried", cases=cases, rejected="leak")
    run.ledger.charge_case_evaluations(cases)


def _chosen(ground: Ground, cases: Sequence[str]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(cases)) or tuple(ground.cases)[:MOST_CASES]
    unknown = [case_id for case_id in chosen if case_id not in ground.cases]
    if unknown:
        known = ", ".join(list(ground.cases)[:5])
        raise UsageError(f"there is no train case {unknown[0]!r}", hint=f"train has {len(ground.cases)}: {known}, ...")
    if len(chosen) > MOST_CASES:
        raise UsageError(f"{len(chosen)} cases are too many for a try", hint=f"name at most {MOST_CASES}")
    return chosen


def _plan(run: Run, path: Path, chosen: Sequence[str]) -> EvaluationPlan:
    return EvaluationPlan(
        candidate_path=str(path),
        candidate_hash="",
        pairs=tuple((case_id, 0) for case_id in chosen),
        split=Split.TRAIN.value,
        models=run.config.models,
        limits=run.domain.limits,
        seed=run.config.seed,
        concurrency=run.config.concurrency,
        serial=run.domain.online,
    )


async def _asked(run: Run, ground: Ground, plan: EvaluationPlan) -> Tried:
    chosen = tuple(case_id for case_id, _ in plan.pairs)
    without = replace(ground, train=[case for case in ground.train if case.id not in chosen])
    material = without.material(sandbox_of(run.config, without), lambda: run.stopping)
    runner = SandboxRunner(replace(material, cases=ground.cases))
    smoke = await runner.smoke(plan, run.machinery.doors)
    traces = {trace.case_id: trace for trace in smoke.traces if trace.case_id in chosen}
    if smoke.rejection is None and len(chosen) > SMOKE_CASES:
        serial = plan.serial or smoke.order_dependent
        async with runner.run(
            replace(plan, pairs=plan.pairs[SMOKE_CASES:], serial=serial), run.machinery.doors
        ) as rest:
            async for trace in rest:
                traces[trace.case_id] = trace
    found = [traces[case_id] for case_id in chosen if case_id in traces]
    return Tried(chosen, smoke.rejection, found, smoke.order_dependent)
