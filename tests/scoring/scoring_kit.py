"""What the tests of measures, scoreboard and verdicts share: small records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaharness.records import (
    Call,
    CaseTrace,
    Direction,
    Estimate,
    GradeRecord,
    ObjectiveRecord,
    ProposalRecord,
    Rejection,
    Score,
    Status,
    VerdictRecord,
)
from metaharness.scoring.measures import PairRow
from metaharness.scoring.scoreboard import Iteration

UNIT = (0.0, 1.0)
ACCURACY = ObjectiveRecord(name="accuracy", direction="max", range=UNIT, worst=0.0)
ERRORS = ObjectiveRecord(name="errors", direction="min", range=(0.0, 10.0), worst=10.0)
CONTEXT = ObjectiveRecord(name="context_chars", direction="min")
PROFIT = ObjectiveRecord(name="profit", direction="max", worst=-100.0)


def call(messages: Any = (), *, door: str = "model", usd: float | None = 0.0, **fields: Any) -> Call:
    return Call(request={"messages": list(messages)}, model="scripted:m", door=door, usd=usd, **fields)


def said(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def trace(
    value: float | None = 1.0,
    *,
    status: Status = "ok",
    case_id: str = "a",
    trial: int = 0,
    group: str | None = None,
    metrics: Mapping[str, float] | None = None,
    calls: list[Call] | None = None,
) -> CaseTrace:
    grades = []
    if status == "ok" and value is not None:
        grades = [GradeRecord(evaluator_hash="e", value=value, metrics=dict(metrics or {}))]
    return CaseTrace(case_id=case_id, trial=trial, status=status, group=group, grades=grades, calls=calls or [])


def row(
    value: float | None,
    *further: float | None,
    case_id: str = "a",
    unit: str | None = None,
    trial: int = 0,
    status: Status = "ok",
    context_chars: float = 0.0,
) -> PairRow:
    return PairRow(case_id, unit or case_id, trial, status, context_chars, (value, *further))


def rows(values: list[float | None], *, missing: Status = "infrastructure") -> list[PairRow]:
    """One case each, in one trial; None is a missing pair."""
    return [
        row(value, case_id=f"case{number:03}", status="ok" if value is not None else missing)
        for number, value in enumerate(values)
    ]


def score(
    *means: float,
    objectives: tuple[ObjectiveRecord, ...] = (ACCURACY,),
    context_chars: float = 0.0,
    missing: int = 0,
    bounds: tuple[float, float] | None = None,
    order_dependent: bool = False,
) -> Score:
    """A score over ten cases."""
    return Score(
        iteration=0,
        split="search",
        sandbox="process",
        model="scripted:m",
        planned=10,
        ended=10 - missing,
        missing=missing,
        statuses={"ok": 10 - missing},
        objectives={
            objective.name: Estimate(mean=mean, low=mean - 0.1, high=mean + 0.1, method="t", cases=10 - missing)
            for objective, mean in zip(objectives, means, strict=False)
        },
        bounds=bounds,
        context_chars=context_chars,
        order_dependent=order_dependent,
    )


def iteration(
    number: int,
    scored: Score | None = None,
    *,
    name: str = "",
    round_number: int = 1,
    rejection: Rejection | None = None,
    verdict: VerdictRecord | None = None,
) -> Iteration:
    proposal = ProposalRecord(
        iteration=number, round=round_number, slot=0, name=name, layout="file", candidate_hash="c" * 64
    )
    return Iteration(proposal, rejection, scored, verdict)


def opposite(direction: Direction) -> Direction:
    return "min" if direction == "max" else "max"
