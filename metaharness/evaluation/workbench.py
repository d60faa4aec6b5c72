"""What one evaluation works with: workers to open, cases to ask, an evaluator to apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from metaharness.domain import Case, Domain
from metaharness.errors import MetaharnessError
from metaharness.evaluation.advice import NO_FACTS, advice
from metaharness.evaluation.grading import Grader
from metaharness.evaluation.scope import Ended
from metaharness.evaluation.session import Doors, Session, open_session
from metaharness.records import LEARN, CaseTrace, EvaluationPlan, Rejection, Status
from metaharness.sandbox.protocol import Sandbox


@dataclass(frozen=True)
class Material:
    """What stays the same over all evaluations of a run."""

    domain: Domain
    sandbox: Sandbox
    cases: Mapping[str, Case]
    examples: Callable[[], list[dict[str, Any]]]
    """The training cases as a worker gets them: input and expected answer, no ids."""
    stop: Callable[[], bool] = lambda: False
    """True once no further case is to be started."""
    python: str | None = None
    """The interpreter of workers; None takes the domain's."""


class Workbench:
    """One plan being evaluated."""

    def __init__(self, material: Material, plan: EvaluationPlan, doors: Doors) -> None:
        self.material = material
        self.plan = plan
        self.doors = doors
        self.grader = Grader(material.domain, plan, doors)
        self.fatal: MetaharnessError | None = None
        """An error that has to end the whole run, such as a refused key."""

    @property
    def stopped(self) -> bool:
        """Whether no further case is to be started."""
        return self.fatal is not None or self.material.stop()

    def raise_fatal(self) -> None:
        """Raise the error that ended the evaluation, if there is one."""
        if self.fatal is not None:
            raise self.fatal

    def open_worker(self, threads: int = 1) -> AbstractAsyncContextManager[Session]:
        """A fresh worker, in which so many cases may be open at the same time."""
        python = self.material.python or self.material.domain.python
        return open_session(self.material.sandbox, self.plan, self.doors, python=python, threads=threads)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Keep an error of ours as the one that ends the evaluation, out of the groups that tasks raise it in."""
        try:
            yield
        except* MetaharnessError as group:
            self.fatal = self.fatal or _first(group)

    async def load(self, session: Session) -> Rejection | None:
        """Import and build the candidate; None when it stands. What is found may also be fatal."""
        rejection = await session.load(self.material.domain)
        self.fatal = self.fatal or session.fatal
        return rejection

    async def learn(self, session: Session, trial: int) -> Ended:
        """Show the candidate the training cases."""
        return await self._learn(session, self.material.examples(), trial)

    async def learn_from(self, session: Session, case_id: str, trial: int) -> Ended:
        """Tell an online harness the answer of a case."""
        case = self.material.cases[case_id]
        return await self._learn(session, [{"input": case.input, "expected": case.expected}], trial)

    async def ask(self, session: Session, case_id: str, trial: int) -> Ended:
        """Ask one case."""
        ended = await session.ask(case_id, self.material.cases[case_id].input, trial)
        self.fatal = self.fatal or session.fatal
        return self._advised(ended)

    async def trace(self, case_id: str, trial: int, ended: Ended) -> CaseTrace:
        """The line of a case, graded."""
        return await self.grader.trace(self.material.cases[case_id], trial, ended)

    def learn_trace(self, trial: int, ended: Ended) -> CaseTrace:
        """The line of a `learn`."""
        status: Status = "ok"
        if ended.fault is not None:
            status = "budget" if ended.fault == "budget" else "infrastructure"
        elif ended.error is not None:
            status = "timeout" if ended.timed_out else "refused" if ended.refused else "harness_error"
        return CaseTrace(
            case_id=LEARN,
            trial=trial,
            status=status,
            error=ended.told,
            duration_ms=ended.duration_ms,
            stdout_tail=ended.stdout_tail,
            calls=ended.calls,
        )

    def unasked(self, case_id: str, trial: int, status: Status, reason: str) -> CaseTrace:
        """The line of a case that was given up before it was asked."""
        case = self.material.cases[case_id]
        return CaseTrace(
            case_id=case_id,
            trial=trial,
            status=status,
            input=case.input,
            expected=case.expected,
            group=case.group,
            error=reason,
        )

    async def _learn(self, session: Session, examples: list[dict[str, Any]], trial: int) -> Ended:
        ended = await session.learn(examples, trial)
        self.fatal = self.fatal or session.fatal
        return self._advised(replace(ended, error=f"learn: {ended.error}") if ended.lost else ended)

    def _advised(self, ended: Ended) -> Ended:
        return ended if ended.facts == NO_FACTS else replace(ended, advice=advice(ended.facts, self.material.domain))


def _first(group: BaseExceptionGroup[MetaharnessError]) -> MetaharnessError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
