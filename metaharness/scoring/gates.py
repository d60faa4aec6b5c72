"""Gates: what a number must show before a job goes on. Pure; the numbers are made elsewhere.

A gate is passed by what was shown, never by what is not known: an evaluation with missing pairs passes none.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaharness.scoring.verdicts import Judgement, delta_text

FAIL_IF = ("worse", "not-better")


@dataclass(frozen=True)
class Gate:
    """One gate and whether it was passed."""

    name: str
    """As it was asked for, such as `fail-if worse`."""
    passed: bool
    reason: str
    """What was found, in one line."""


def verdict_gate(fail_if: str, judgement: Judgement, *, missing: int, missing_there: int) -> Gate:
    """The gate on a comparison.

    Args:
        fail_if: `worse` stops at a significant loss alone, `not-better` at anything but a significant gain.
        judgement: The paired test against the reference.
        missing: How many pairs of the harness have no value.
        missing_there: How many of the reference.
    """
    name = f"fail-if {fail_if}"
    if missing or missing_there:
        who, count = ("evaluation", missing) if missing else ("reference", missing_there)
        return Gate(name, False, f"the {who} is incomplete: {_pairs(count)} without a value")
    failing = judgement.said == "worse" if fail_if == "worse" else judgement.said != "better"
    return Gate(name, not failing, f"{judgement.said}: {delta_text(judgement.comparison)}")


def least_gate(least: float, mean: float | None, *, missing: int, objective: str) -> Gate:
    """The gate on the primary mean: not below `least`.

    Args:
        least: The least mean that passes.
        mean: What was reached; None when no pair has a value.
        missing: How many pairs of the harness have no value.
        objective: The name of the primary objective.
    """
    name = f"min {least:g}"
    if mean is None or missing:
        return Gate(name, False, f"the evaluation is incomplete: {_pairs(missing)} without a value")
    return Gate(name, mean >= least, f"{objective} is {mean:.4g}")


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count:,} pairs"
