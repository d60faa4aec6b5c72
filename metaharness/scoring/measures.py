"""From a trace to numbers: one row per case and trial, and the aggregate of many rows."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaharness.records import (
    HARNESS_CHARS,
    MISSING,
    SCORED_AS_WORST,
    Call,
    CaseTrace,
    Estimate,
    ObjectiveRecord,
    Status,
)
from metaharness.scoring.intervals import estimate, mean_bounds, unit_means

SENT_AS_JSON = ("tools", "response_format", "extra")
"""Parts of a request beside its messages that reach the model as JSON."""


@dataclass(frozen=True)
class PairRow:
    """The numbers of one case in one trial: what is left of a trace once its text is dropped."""

    case_id: str
    unit: str
    """Its group, or the case itself."""
    trial: int
    status: Status
    context_chars: float
    values: tuple[float | None, ...]
    """One per objective, in their order; None where the pair is missing, the grade lacks the metric, a price is not
    known, or it is a number of the harness."""

    @property
    def missing(self) -> bool:
        """Whether this pair is missing data."""
        return self.status in MISSING


def text_chars(content: Any) -> int:
    """Characters of one message's content: text, text in tool results, tool inputs as JSON; an image counts nothing.

    A malformed block counts nothing: no provider takes it.
    """
    if isinstance(content, str):
        return len(content)
    if isinstance(content, list):
        return sum(_block_chars(block) for block in content if isinstance(block, dict))
    return 0


def _block_chars(block: Mapping[str, Any]) -> int:
    match block:
        case {"type": "text", "text": str(text)}:
            return len(text)
        case {"type": "tool_use"}:
            return len(json.dumps(block.get("input"), ensure_ascii=False, separators=(",", ":")))
        case {"type": "tool_result"}:
            return text_chars(block.get("content"))
    return 0


def request_chars(request: Mapping[str, Any]) -> int:
    """Characters of what a request puts in the model's context: system prompt, messages, and tools as JSON.

    A trace also holds requests that were refused unread, so any JSON may stand here.
    """
    messages = request.get("messages")
    listed = messages if isinstance(messages, list) else []
    try:
        sent = sum(text_chars(message.get("content")) for message in listed if isinstance(message, dict))
    except RecursionError:  # nested far deeper than a request can be and still be sent
        sent = 0
    return text_chars(request.get("system")) + sent + sum(_json_chars(request.get(name)) for name in SENT_AS_JSON)


def _json_chars(value: Any) -> int:
    """Characters of what is sent beside the messages: a harness could put its demonstrations there."""
    if not value:
        return 0
    try:
        return len(json.dumps(value, ensure_ascii=False))
    except (RecursionError, TypeError, ValueError):
        return 0


def context_chars(calls: Iterable[Call]) -> int:
    """Characters of all messages sent to the target model."""
    return sum(request_chars(call.request) for call in calls if call.door == "model")


def measure(trace: CaseTrace, objectives: Sequence[ObjectiveRecord]) -> PairRow:
    """The numbers of one trace."""
    measured = _measured(trace.calls)
    return PairRow(
        case_id=trace.case_id,
        unit=trace.group or trace.case_id,
        trial=trace.trial,
        status=trace.status,
        context_chars=measured["context_chars"] or 0.0,
        values=tuple(_value(trace, place, objective, measured) for place, objective in enumerate(objectives)),
    )


def _value(
    trace: CaseTrace, place: int, objective: ObjectiveRecord, measured: Mapping[str, float | None]
) -> float | None:
    if trace.status in MISSING or objective.name == HARNESS_CHARS:
        return None
    found = measured.get(objective.name)
    if found is not None:
        found = _within(objective, found)
    if trace.status in SCORED_AS_WORST:
        return found if objective.worst is None else objective.worst
    if objective.name in measured:
        return found
    if not trace.grades:
        return objective.worst
    grade = trace.grades[-1]
    return grade.value if place == 0 else grade.metrics.get(objective.name)


def _within(objective: ObjectiveRecord, found: float) -> float:
    """A candidate decides what is measured of it, so nothing it does may fall outside the range."""
    return found if objective.range is None else min(max(found, objective.range[0]), objective.range[1])


_NOTHING_CALLED = dict.fromkeys(("context_chars", "calls", "input_tokens", "output_tokens", "usd", "latency_ms"), 0.0)


def _measured(calls: Sequence[Call]) -> Mapping[str, float | None]:
    """By name; None where it is not known."""
    if not calls:
        return _NOTHING_CALLED
    target = [call for call in calls if call.door == "model"]
    return {
        "context_chars": float(context_chars(target)),
        "calls": float(len(target)),
        "input_tokens": float(sum(call.input_tokens for call in target)),
        "output_tokens": float(sum(call.output_tokens for call in target)),
        "usd": _sum([call.usd for call in target]),
        "latency_ms": math.fsum(call.latency_ms for call in target),
    }


def _sum(parts: Sequence[float | None]) -> float | None:
    """None where a part is not known: without it, what has no price would be cheap."""
    known = [part for part in parts if part is not None]
    return math.fsum(known) if len(known) == len(parts) else None


def harness_chars(files: Mapping[str, str]) -> int:
    """Characters of a candidate's own files, by their path; the paths do not count."""
    return sum(map(len, files.values()))


def by_unit(rows: Iterable[PairRow], place: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """The values of one objective by unit, and how many pairs of each unit have none.

    Args:
        rows: One per case and trial.
        place: Which objective, by its place.
    """
    known: defaultdict[str, list[float]] = defaultdict(list)
    missing: Counter[str] = Counter()
    for row in rows:
        value = row.values[place]
        if value is None:
            missing[row.unit] += 1
        else:
            known[row.unit].append(value)
    return dict(known), dict(missing)


def row_means(rows: Iterable[PairRow], place: int = 0, *, fill: float | None = None) -> dict[str, float]:
    """m_i: the mean of one objective over the pairs of each unit.

    Args:
        rows: One per case and trial.
        place: Which objective, by its place; 0 is the primary one.
        fill: What a missing pair counts as; None leaves missing pairs out, and units that have nothing else.
    """
    known, missing = by_unit(rows, place)
    return unit_means(known, {}, 0.0) if fill is None else unit_means(known, missing, fill)


@dataclass(frozen=True)
class Aggregate:
    """What all rows of one evaluation come to."""

    statuses: dict[str, int]
    ended: int
    missing: int
    objectives: dict[str, Estimate]
    bounds: tuple[float, float] | None
    context_chars: float


def aggregate(
    rows: Sequence[PairRow],
    objectives: Sequence[ObjectiveRecord],
    *,
    trials: int,
    harness_chars: int | None = None,
) -> Aggregate:
    """Means with intervals over the pairs that ended, and the bounds that the missing ones leave.

    Args:
        rows: The latest row of each pair that was evaluated.
        objectives: The run's objectives; the first is the primary one.
        trials: Trials per case, for the effective sample size; a unit with missing pairs has fewer.
        harness_chars: What the objective of that name comes to; None: it has no value, or is none.
    """
    estimates: dict[str, Estimate] = {}
    for place, objective in enumerate(objectives):
        known, _ = by_unit(rows, place)
        if objective.name == HARNESS_CHARS and harness_chars is not None:
            # no case varies it, so there is no interval
            units = len({row.unit for row in rows})
            estimates[objective.name] = Estimate(mean=_within(objective, harness_chars), cases=units)
        elif known:
            means = list(unit_means(known, {}, 0.0).values())
            fewest = min(trials, *map(len, known.values()))
            estimates[objective.name] = estimate(means, value_range=objective.range, trials=fewest)
    missing = sum(row.missing for row in rows)
    return Aggregate(
        statuses=dict(sorted(Counter(row.status for row in rows).items())),
        ended=len(rows) - missing,
        missing=missing,
        objectives=estimates,
        bounds=primary_bounds(rows, objectives[0]),
        context_chars=_mean([row.context_chars for row in rows if not row.missing]),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def primary_bounds(rows: Sequence[PairRow], objective: ObjectiveRecord) -> tuple[float, float] | None:
    """The primary mean with every missing pair at its worst and at its best; None without a range or without rows."""
    if objective.range is None or not rows:
        return None
    low, high = objective.range
    worst, best = (low, high) if objective.direction == "max" else (high, low)
    known, missing = by_unit(rows, 0)
    return mean_bounds(known, missing, worst, best)
