"""What one case evaluation takes of models, from the traces of some."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from metaharness.configuration import RunConfig
from metaharness.messages import ModelSpec, Record
from metaharness.records import Call, CaseTrace

ROLES: Mapping[str, str] = {"model": "target"}
"""The role that a door leads to, where it has another name."""


class Rate(Record):
    """What one case evaluation takes of models, and what `learn` takes in one trial."""

    calls: float
    input_tokens: float
    output_tokens: float
    usd: float | None
    """None: the price of a model is unknown."""
    learn_calls: float = 0.0
    learn_tokens: float = 0.0
    """Input and output."""
    learn_usd: float | None = 0.0
    """None: the price of a model is unknown."""


class Cost(Record):
    """What some evaluations take; None where it is not known."""

    case_evaluations: int
    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None


def rate_of_traces(traces: Iterable[CaseTrace], learned: Iterable[CaseTrace]) -> Rate:
    """What one case evaluation has taken, the mean over these traces. Calls that were not answered count nothing.

    Args:
        traces: One per pair of case and trial; at least one.
        learned: One per trial.
    """
    pairs, teachings = list(traces), list(learned)
    asked = [call for trace in pairs for call in _answered(trace)]
    taught = [call for trace in teachings for call in _answered(trace)]
    count, times = len(pairs), max(1, len(teachings))
    usd, learn_usd = _dollars(asked), _dollars(taught)
    return Rate(
        calls=len(asked) / count,
        input_tokens=sum(call.input_tokens for call in asked) / count,
        output_tokens=sum(call.output_tokens for call in asked) / count,
        usd=None if usd is None else usd / count,
        learn_calls=len(taught) / times,
        learn_tokens=sum(call.input_tokens + call.output_tokens for call in taught) / times,
        learn_usd=None if learn_usd is None else learn_usd / times,
    )


def cost(rate: Rate | None, cases: int, learned: int, trials: int) -> Cost:
    """What so many cases take.

    Args:
        rate: Of one case evaluation; None: not known.
        cases: How many, each in every trial.
        learned: How often a harness learns: once per harness and trial.
        trials: Per case.
    """
    pairs = cases * trials
    if rate is None:
        return Cost(case_evaluations=pairs)
    unpriced = rate.usd is None or rate.learn_usd is None
    return Cost(
        case_evaluations=pairs,
        calls=_up(pairs * rate.calls + learned * rate.learn_calls),
        tokens=_up(pairs * (rate.input_tokens + rate.output_tokens) + learned * rate.learn_tokens),
        usd=None if unpriced else pairs * (rate.usd or 0.0) + learned * (rate.learn_usd or 0.0),
    )


def _up(value: float) -> int:
    """The next whole number, but not for the last digits of a mean."""
    return math.ceil(value - 1e-6)


def spec_of(config: RunConfig, call: Call) -> ModelSpec:
    """The model that a recorded call went to."""
    role = ROLES.get(call.door, call.door)
    return next((spec for name, spec in config.models.items() if name == role), config.models["target"])


def _answered(trace: CaseTrace) -> list[Call]:
    return [call for call in trace.calls if call.error is None or call.error.kind == "refused"]


def _dollars(calls: Sequence[Call]) -> float | None:
    """What the calls cost; None where a price is unknown."""
    known = [call.usd for call in calls if call.usd is not None]
    return math.fsum(known) if len(known) == len(calls) else None
