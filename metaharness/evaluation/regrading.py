"""Grade a stored answer again: no candidate code runs, and no target model is asked.

Not guarded: what the evaluator sees is what was stored. Where a domain redacts, that is the redacted answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaharness.domain import Case
from metaharness.evaluation.grading import Grader
from metaharness.records import Call, CaseTrace

JUDGE = "judge"


def was_answered(trace: CaseTrace) -> bool:
    """Whether the harness has answered this case, whatever became of its grade.

    A case without a value was answered where its evaluator failed, or where the budget refused its judge.
    """
    if trace.status == "budget":
        return any(call.door == JUDGE for call in trace.calls)
    return trace.status in ("ok", "evaluator_error")


def inherited_calls(calls: Sequence[Call]) -> list[Call]:
    """Calls that were made for another run: whoever paid for their answers, it was not this one."""
    return [call.model_copy(update={"cached": True}) if call.response is not None else call for call in calls]


def inherited(trace: CaseTrace) -> CaseTrace:
    """The trace of another run, as it stands in this one."""
    return trace.model_copy(update={"calls": inherited_calls(trace.calls)})


async def regraded(trace: CaseTrace, case: Case, grader: Grader) -> CaseTrace:
    """An answered trace of another run with one grade more; without a value where the evaluator fails.

    The judge's calls are those of the new grade; how the earlier grades came about stands in the other run.

    Raises:
        ConfigurationError: The judge cannot be used as configured.
    """
    asked = [call for call in trace.calls if call.door != JUDGE]
    graded = await grader.grade(case, trace.trial, trace.output, asked)
    return trace.model_copy(
        update={
            "status": graded.status,
            "expected": case.expected,
            "grades": [*trace.grades, *graded.grades],
            "error": graded.error,
            "calls": [*inherited_calls(asked), *graded.calls],
        }
    )
