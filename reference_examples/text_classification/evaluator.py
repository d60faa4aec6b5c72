"""Exact label match: the only thing an answer is graded by."""

from __future__ import annotations

from metaharness.domain import Grade, GradeContext

_AROUND = " \t\n.,;:!?\"'`*_()[]{}<>\u2018\u2019\u201c\u201d\u00ab\u00bb"
"""What may stand around a label. `+` and `#` stay, so that C, C++ and C# are three labels."""


def normalise(label: str) -> str:
    """A label without case, and without quotes, brackets, punctuation and spaces around it.

    White space inside counts as one space. Nothing else is forgiven: `the label is x` is not `x`.
    A label of punctuation alone stays as it is.
    """
    folded = " ".join(label.casefold().split())
    return folded.strip(_AROUND) or folded


class ExactLabel:
    """1 when the answer is the expected label after `normalise`, else 0. An answer that is no text is wrong."""

    def grade(self, context: GradeContext) -> Grade:
        output, expected = context.output, context.case.expected
        right = isinstance(output, str) and normalise(output) == normalise(expected)
        notes = "" if right else f"expected {expected!r}, got {repr(output)[:200]}"
        return Grade(float(right), notes=notes)
