"""From what a harness answered to a trace with a status and a grade."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio.to_thread

from metaharness.domain import MEASURES, Case, Domain, Grade, GradeContext, GradeResult, evaluator_hash
from metaharness.errors import ConfigurationError, ModelFailure
from metaharness.evaluation.scope import Ended
from metaharness.evaluation.session import Doors
from metaharness.messages import Completion, Message, ModelRequest
from metaharness.records import Attribution, Call, CaseTrace, EvaluationPlan, GradeRecord, ObjectiveRecord, Status


class GatewayJudge:
    """The judge of one case: a model for grading, called through the gateway and traced with the case."""

    def __init__(self, doors: Doors, attribution: Attribution, deadline: float) -> None:
        self._doors = doors
        self._attribution = attribution
        self._deadline = deadline
        self._asked: Counter[str] = Counter()
        self.calls: list[Call] = []

    async def complete(self, prompt: str, **options: Any) -> Completion:
        """Ask the judge; see `domain.Judge`."""
        request = ModelRequest(messages=[Message(role="user", content=prompt)], **options)
        question = request.model_dump_json(exclude_none=True)
        self._asked[question] += 1
        ordinal = self._asked[question] - 1
        call = await self._doors.model.complete(
            request, attribution=self._attribution, ordinal=ordinal, deadline=self._deadline
        )
        self.calls.append(call.model_copy(update={"door": "judge"}))
        if call.error is not None or call.response is None:
            kind = call.error.kind if call.error is not None else "infrastructure"
            raise ModelFailure(
                "infrastructure" if kind == "limit" else kind,
                f"the judge gave no answer: {call.error.message if call.error is not None else 'empty response'}",
            )
        return Completion.model_validate(call.response)


@dataclass
class Graded:
    """What became of one answer."""

    status: Status
    error: str | None = None
    """Why there is no grade; None with one."""
    grades: list[GradeRecord] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    """The judge's."""


class Grader:
    """Applies a domain's evaluator."""

    def __init__(self, domain: Domain, plan: EvaluationPlan, doors: Doors) -> None:
        self._evaluator = domain.evaluator
        self._hash = evaluator_hash(domain)
        self._objectives = [objective.record() for objective in domain.objectives]
        self._async = inspect.iscoroutinefunction(domain.evaluator.grade)
        self._in_place = bool(getattr(domain.evaluator, "in_place", False))
        self._plan = plan
        self._doors = doors

    async def trace(self, case: Case, trial: int, ended: Ended) -> CaseTrace:
        """The line of this case: its status, and its grade where it was answered."""
        status, error = _status(ended)
        graded = Graded(status, error)
        if status == "ok":
            graded = await self.grade(case, trial, ended.output, ended.calls)
        return CaseTrace(
            case_id=case.id,
            trial=trial,
            status=graded.status,
            input=case.input,
            output=ended.output,
            expected=case.expected,
            group=case.group,
            grades=graded.grades,
            error=graded.error,
            duration_ms=ended.duration_ms,
            stdout_tail=ended.stdout_tail,
            calls=[*ended.calls, *graded.calls],
        )

    async def grade(self, case: Case, trial: int, output: Any, calls: Sequence[Call]) -> Graded:
        """What the evaluator says of an answer.

        Args:
            case: The case, with what is expected.
            trial: Whose number the judge's calls carry.
            output: The answer.
            calls: What the harness asked the model; none of the judge's.

        Raises:
            ConfigurationError: The judge cannot be used as configured.
        """
        judge = self._judge(case, trial)
        context = GradeContext(case=case, output=output, calls=calls, trial=trial, files=None, judge=judge)
        graded = Graded("ok")
        try:
            graded.grades.append(await self._record(context))
        except ConfigurationError:
            raise
        except ModelFailure as failure:
            graded = Graded("budget" if failure.kind == "budget" else "evaluator_error", failure.message)
        except (Exception, SystemExit) as failure:  # noqa: BLE001 - a domain's own code: its failure is data
            graded = Graded("evaluator_error", f"{type(failure).__name__}: {failure}")
        graded.calls.extend(judge.calls if judge is not None else [])
        return graded

    def _judge(self, case: Case, trial: int) -> GatewayJudge | None:
        if "judge" not in self._plan.models:
            return None
        plan = self._plan
        attribution = Attribution(
            role="judge", iteration=plan.iteration, partial=plan.partial, case_id=case.id, trial=trial
        )
        return GatewayJudge(self._doors, attribution, self._plan.limits.call_seconds)

    async def _record(self, context: GradeContext) -> GradeRecord:
        if self._async:
            result: Any = self._evaluator.grade(context)
        elif self._in_place:
            result = self._evaluator.grade(context)
        else:
            result = await anyio.to_thread.run_sync(partial(self._evaluator.grade, context))
        if inspect.isawaitable(result):
            result = await result
        record = grade_record(result, self._hash)
        check_grade(record, self._objectives)
        return record


def grade_record(result: GradeResult, evaluator: str) -> GradeRecord:
    """What `grade` returned, as it is written.

    Raises:
        TypeError: It is not a bool, a number or a Grade.
        ValueError: A value is NaN or infinite.
    """
    grade = result if isinstance(result, Grade) else Grade(value=result)
    values = {"value": grade.value, **grade.metrics}
    for name, value in values.items():
        if not isinstance(value, (bool, int, float)):
            raise TypeError(f"grade() gave {name} = {value!r}; it must be a bool, a number or a Grade")
        if not math.isfinite(value):
            raise ValueError(f"grade() gave {name} = {value}; it must be finite")
    metrics = {name: float(value) for name, value in grade.metrics.items()}
    return GradeRecord(evaluator_hash=evaluator, value=float(grade.value), metrics=metrics, notes=grade.notes)


def check_grade(record: GradeRecord, objectives: Sequence[ObjectiveRecord]) -> None:
    """Make sure that a grade says what the objectives need.

    Raises:
        ValueError: A declared objective is missing, or lies outside its range.
    """
    for place, objective in enumerate(objectives):
        if objective.name in MEASURES:
            continue
        value = record.value if place == 0 else record.metrics.get(objective.name)
        if value is None:
            raise ValueError(f"grade() gave no metric {objective.name!r}, which is an objective")
        if objective.range is not None and not objective.range[0] <= value <= objective.range[1]:
            raise ValueError(f"grade() gave {objective.name} = {value:g}, outside its range {objective.range}")


def _status(ended: Ended) -> tuple[Status, str | None]:
    if ended.fault is not None:
        failed = next(call.error for call in ended.calls if call.error is not None and call.error.kind == ended.fault)
        return ("budget" if ended.fault == "budget" else "infrastructure"), failed.message
    if ended.error is None:
        return "ok", None
    if ended.timed_out:
        return "timeout", ended.error
    return ("refused" if ended.refused else "harness_error"), ended.told
