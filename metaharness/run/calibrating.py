"""What `calibrate` finds out: how much a score varies between cases, and from trial to trial of the same case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from metaharness.configuration import RunConfig
from metaharness.domain import Split
from metaharness.errors import CorruptRecordError, DomainError, IncompleteError, UsageError
from metaharness.messages import Record
from metaharness.records import MISSING, Estimate, Finite, ObjectiveRecord, Spent
from metaharness.run.ground import prepare
from metaharness.run.rates import Rate, rate_of_traces
from metaharness.run.standalone import Evaluation
from metaharness.scoring.power import Spread, measured
from metaharness.scoring.variance import components

CALIBRATION = "metaharness calibration"


class Calibration(Record):
    """What `calibrate` has measured of one harness: `calibrate --json`."""

    kind: Literal["metaharness calibration"] = "metaharness calibration"
    version: int = 1
    harness: str
    domain: str
    split: str
    model: str
    objective: ObjectiveRecord
    concurrency: int
    first_trial: int
    trials: int
    cases: int
    units: int
    """Cases (or groups) behind the variances: those with a value in every trial."""
    left_out: int
    missing: int
    mean: Estimate
    between: Finite
    within: Finite
    correlation: Finite | None
    """Intraclass; None where nothing varies."""
    flip_rate: Finite
    """The share of cases whose answers differ between trials; a case that failed once has another answer there."""
    flipped: list[str]
    binary: bool
    rate: Rate
    spent: Spent

    @property
    def spreads(self) -> tuple[Spread, Spread]:
        """The least and the greatest spread of two harnesses that fit it."""
        return measured(self.between, self.within, binary=self.binary)


def rate_of(found: Evaluation) -> Rate:
    """What one case evaluation has taken, of an evaluation that has ended."""
    return rate_of_traces(found.traces.values(), found.learned.values())


def first_baseline(config: RunConfig) -> Path:
    """The harness that is calibrated where none is named.

    Raises:
        DomainError: There is none.
    """
    ground = prepare(config)
    baselines = ground.domain.baselines()
    if not baselines:
        raise DomainError(f"{ground.domain.name} has no baselines", hint="name a harness to calibrate")
    return baselines[0]


def calibration_of(harness: Path, config: RunConfig, split: Split, found: Evaluation, first_trial: int) -> Calibration:
    """What an evaluation with several fresh trials says about the noise of its score.

    Raises:
        IncompleteError: Too few cases have a value in every trial.
    """
    score, primary = found.score, found.objectives[0]
    assert score is not None, "an evaluation without a score says nothing"
    try:
        parts = components(found.rows, config.trials)
    except ValueError as error:
        raise IncompleteError(
            f"variances cannot be told: {error}", hint="ask more cases, or see why some have no value"
        ) from error
    answers: dict[str, set[str]] = {}
    for trace in found.traces.values():
        if trace.status not in MISSING:
            answers.setdefault(trace.case_id, set()).add(json.dumps([trace.status, trace.output], sort_keys=True))
    flipped = sorted(case for case, different in answers.items() if len(different) > 1)
    return Calibration(
        harness=str(harness),
        domain=prepare(config, split).domain.name,
        split=split.value,
        model=config.models["target"].id,
        objective=primary,
        concurrency=config.concurrency,
        first_trial=first_trial,
        trials=config.trials,
        cases=len({case for case, _ in found.traces}),
        units=parts.units,
        left_out=parts.left_out,
        missing=score.missing,
        mean=score.objectives[primary.name],
        between=parts.between,
        within=parts.within,
        correlation=parts.correlation,
        flip_rate=len(flipped) / len(answers),
        flipped=flipped,
        binary=parts.binary,
        rate=rate_of(found),
        spent=score.spent,
    )


def read_calibration(path: Path) -> Calibration:
    """What `calibrate --json` has printed into a file.

    Raises:
        UsageError: It cannot be read, or is something else.
        CorruptRecordError: It is damaged.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="give a file that can be read") from error
    except ValueError as error:
        raise CorruptRecordError(path, None, f"not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("kind") != CALIBRATION:
        raise UsageError(f"{path} is not a calibration", hint="`metaharness calibrate --json > FILE` makes one")
    try:
        return Calibration.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise CorruptRecordError(path, None, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
