"""Grades one answer. Fixed during a search, and trusted: it runs outside the sandbox."""

from __future__ import annotations

from typing import Any

from metaharness.domain import Grade, GradeContext


class ExactAnswer:
    """1 for the expected answer, else 0 with a note that says why. Case and white space do not matter."""

    def grade(self, context: GradeContext) -> Grade:
        answer, expected = context.output, context.case.expected
        if tidy(answer) == tidy(expected):
            return Grade(1.0)
        # Partial credit goes here: any value between 0 and 1, with a note for whoever reads the trace, such as
        #     if close(answer, expected):
        #         return Grade(0.5, notes="the right group, but the wrong member of it")
        return Grade(0.0, notes=f"expected {expected!r}, got {repr(answer)[:200]}")


def tidy(answer: Any) -> Any:
    """A text without what does not matter; any other JSON value as it is."""
    return " ".join(answer.casefold().split()) if isinstance(answer, str) else answer
