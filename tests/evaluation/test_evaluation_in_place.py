"""Where a plain grader runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaharness.configuration import Budget
from metaharness.domain import Case, Domain, GradeContext, Objective, Split
from metaharness.evaluation.grading import Grader
from metaharness.evaluation.scope import Ended
from metaharness.evaluation.session import Doors
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.messages import ModelSpec
from metaharness.records import EvaluationPlan, Limits

SPEC = ModelSpec(provider="scripted", name="none")


class Exact:
    def __init__(self, in_place: bool | None) -> None:
        if in_place is not None:
            self.in_place = in_place
        self.threads: list[threading.Thread] = []

    def grade(self, context: GradeContext) -> bool:
        self.threads.append(threading.current_thread())
        return bool(context.output == context.case.expected)


class One(Domain):
    name = "one"
    objectives = (Objective("accuracy", range=(0, 1)),)

    def cases(self, split: Split) -> Iterator[Case]:
        yield Case("a", "text", "label")


@pytest.mark.parametrize(("declared", "here"), [(None, False), (False, False), (True, True)])
async def test_a_plain_grader_runs_in_place_only_where_it_says_so(declared: bool | None, here: bool) -> None:
    domain = One()
    domain.evaluator = evaluator = Exact(declared)
    gateway = Gateway(
        {"target": SPEC}, journal=MemoryJournal(), ledger=Ledger(Budget()), prices=PriceTable(), concurrency=1
    )
    plan = EvaluationPlan(str(Path()), "", (("a", 0),), "search", {"target": SPEC}, Limits(), 0)
    trace = await Grader(domain, plan, Doors(gateway)).trace(Case("a", "text", "label"), 0, Ended(output="label"))
    assert [grade.value for grade in trace.grades] == [1.0]
    assert (evaluator.threads == [threading.current_thread()]) == here
