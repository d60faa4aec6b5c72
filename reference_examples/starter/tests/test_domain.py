"""The domain is valid, and its evaluator tells right from wrong."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from evaluator import ExactAnswer

from metaharness.configuration import RunConfig
from metaharness.domain import Case, GradeContext
from metaharness.testing import check_domain

FOLDER = Path(__file__).resolve().parents[1]


def test_the_domain_can_be_searched() -> None:
    config = RunConfig.model_validate(
        {"domain": str(FOLDER), "models": {"target": {"provider": "embedded", "name": "icl"}}}
    )
    report = anyio.run(check_domain, config)
    assert report.valid, report.problems
    assert report.warnings == []


@pytest.mark.parametrize(("answer", "value"), [("tools", 1.0), (" Tools\n", 1.0), ("water", 0.0), (None, 0.0)])
def test_an_answer_is_right_when_it_is_the_expected_one(answer: str | None, value: float) -> None:
    case = Case(id="search-0001", input="Who has the rake?", expected="tools")
    context = GradeContext(case=case, output=answer, calls=(), trial=0, files=None, judge=None)
    grade = ExactAnswer().grade(context)
    assert grade.value == value
    assert bool(grade.notes) == (value < 1), "a note says why points are missing"
