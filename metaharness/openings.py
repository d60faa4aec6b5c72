"""What is written of a sealed test: its opening, and its result."""

from __future__ import annotations

from typing import Literal

from metaharness.messages import Record
from metaharness.records import SCHEMA_VERSION, Estimate, Verdict


class Opening(Record):
    """`sealed/opening.json`: what will be evaluated on the test split, fixed before any of it is."""

    schema_version: int = SCHEMA_VERSION
    run: str
    opened: str
    look: int
    """The how-manyth opening of this test split below the folder of all runs; 1 for the first."""
    test_hash: str
    """SHA-256 over the cases of the split, by id."""
    winner: int
    """The best complete iteration on `search`."""
    baseline: int
    """The best complete baseline on `search`; the winner itself where no candidate is above it."""
    candidates: dict[int, str]
    """The iterations that will be evaluated, with the hash of their files."""
    cases: list[str]
    trials: int
    seed: int
    model: str


class SealedRow(Record):
    """What one candidate has reached on the test split."""

    iteration: int
    name: str
    role: Literal["winner", "baseline"]
    objectives: dict[str, Estimate]
    context_chars: float
    planned: int
    missing: int


class SealedResult(Record):
    """`sealed/result.json`: the one test of a run. A run that has one is finished."""

    schema_version: int = SCHEMA_VERSION
    run: str
    opened: str
    finished: str
    look: int
    """As in the opening; a number from a second look or later is no longer that of an unseen split."""
    test_hash: str
    cases: int
    trials: int
    model: str
    sandbox: str
    objective: str
    """The primary objective, which the test is about."""
    winner: int
    baseline: int
    verdict: Verdict
    """Of the winner against the best baseline; `baseline` when they are the same, so that nothing was tested."""
    delta: float | None = None
    """Mean difference, winner minus baseline, in the unit of the objective; None where nothing was tested."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Two-sided paired permutation test over the cases (or groups)."""
    units: int = 0
    missing: int = 0
    """Pairs without a value; then the verdict is the one that holds whatever they would have been."""
    sealed_by: tuple[str, ...] = ()
    """How the split was kept from whoever wrote the candidates, each way once; empty in results of before."""
    rows: list[SealedRow]
