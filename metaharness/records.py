"""What is on disk and what travels between the layers. Frozen; times are UTC in ISO 8601; money is US dollars.

Pydantic models cross a boundary (disk, wire); frozen dataclasses stay inside the process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict

from metaharness.limits import Limits as Limits  # noqa: PLC0414 - part of what is on disk, so it is found here as well
from metaharness.messages import ModelSpec, Record

SCHEMA_VERSION = 1
"""The version of the run directory. A run with a higher one is refused, not guessed at."""

Status = Literal["ok", "harness_error", "timeout", "refused", "skipped", "infrastructure", "budget", "evaluator_error"]
SCORED_AS_WORST: frozenset[str] = frozenset({"harness_error", "timeout", "refused", "skipped"})
"""The candidate's own failures: each counts as the objective's worst value."""
MISSING: frozenset[str] = frozenset({"infrastructure", "budget", "evaluator_error"})
"""Not the candidate's doing: missing data, asked again by `resume`."""

Direction = Literal["max", "min"]
Stage = Literal["size", "syntax", "leak", "import", "interface", "learn", "smoke"]
Verdict = Literal["better", "worse", "indecisive", "baseline", "rejected"]
Role = Literal["target", "proposer", "judge"]

LEARN = "<learn>"
"""The case id under which the calls of `learn` are attributed."""
HARNESS_CHARS = "harness_chars"
"""The objective that is a number of the harness, and of no case."""


def now() -> str:
    """The current time as it is written to disk."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Finite = Annotated[float, AfterValidator(_finite)]


# --- calls --------------------------------------------------------------------------------------------------------


class Attribution(Record):
    """Whose call it is. Every call carries one."""

    role: Role = "target"
    iteration: int | None = None
    """None outside a run, and for a call that belongs to no iteration."""
    partial: int | None = None
    """The number of the candidate that is evaluated on some cases only, beside the iterations; else None."""
    case_id: str | None = None
    """`<learn>` for a call made by `learn`; None for a call that belongs to no case."""
    trial: int = 0


class CallError(Record):
    """How a call ended without an answer."""

    kind: Literal["refused", "infrastructure", "budget", "configuration", "limit"]
    message: str
    status_code: int | None = None


class Call(Record):
    """One call through a door: request and response as sent."""

    door: str = "model"
    ordinal: int = 0
    """The how-manyth identical request within its case and trial, from 0."""
    request: dict[str, Any]
    response: dict[str, Any] | None = None
    """None when the call failed; then `error` says how."""
    error: CallError | None = None
    model: str
    """`provider:name` as configured."""
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0
    """None: the price of this model is unknown."""
    latency_ms: float = 0.0
    cached: bool = False
    """True when another case, iteration or run had paid for this answer. Tokens, `usd` and `latency_ms` are then what
    it took there, so that no objective depends on what a cache holds; the ledger does not count them as spent."""


class JournalEntry(Record):
    """A completed call, written before its answer reaches the worker."""

    key: str
    """Hash of provider, base URL, model, request, trial and ordinal."""
    time: str
    attribution: Attribution
    call: Call


# --- cases and scores -------------------------------------------------------------------------------------------


class GradeRecord(Record):
    """What an evaluator said of one output."""

    evaluator_hash: str
    value: Finite
    metrics: dict[str, Finite] = {}
    notes: str = ""


class CaseTrace(Record):
    """The raw record of one case in one trial: a line of `eval_trace.jsonl`.

    `output` and `grades` are apart, so that a stored output can be graded anew.
    """

    case_id: str
    trial: int
    status: Status
    input: Any = None
    output: Any = None
    """None when the harness gave no answer."""
    expected: Any = None
    group: str | None = None
    """Cases of one group are one unit of measurement; None: the case is a unit by itself."""
    grades: list[GradeRecord] = []
    """Empty unless the status is `ok`."""
    error: str | None = None
    """The candidate's own traceback, or why the case is missing."""
    duration_ms: float = 0.0
    stdout_tail: str = ""
    """The last 4,000 characters the harness printed during this case."""
    calls: list[Call] = []


class ObjectiveRecord(Record):
    """What is optimised. The first objective of a run is the domain's first, its primary one."""

    name: str
    direction: Direction
    unit: str = ""
    range: tuple[float, float] | None = None
    """The values it can take; None when unbounded."""
    worst: float | None = None
    """What a failed case scores; None takes the bad end of `range`, or what was measured, or no value."""

    @property
    def best(self) -> float | None:
        """The best that a case can score; None when that is not bounded."""
        return None if self.range is None else self.range[1 if self.direction == "max" else 0]


class Estimate(Record):
    """The mean of an objective over the cases, with its 95% interval.

    `low` and `high` are None when there are too few cases for an interval. `method` is `wilson` or `t`.
    """

    mean: Finite
    low: Finite | None = None
    high: Finite | None = None
    method: str = ""
    cases: int
    """How many cases (or groups) stand behind the mean; for `harness_chars`, which is one number, those evaluated."""


class Spent(Record):
    """A reading of the run's ledger at one moment."""

    candidates: int = 0
    case_evaluations: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    """Known costs only."""
    unpriced_calls: int = 0
    """Calls of models whose price is unknown: `usd` is too low by what these cost."""
    cached_calls: int = 0
    """Answered by the shared cache: they cost nothing, and are in none of the numbers above."""
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    saved_usd: float = 0.0
    """What those would have cost; known costs only."""
    seconds: float = 0.0
    """Time during which the run was recorded, over all its sessions."""


class FileMark(Record):
    """What a file was when it was hashed. Times are in nanoseconds, as the file system tells them."""

    sha256: str
    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int
    """When the inode was changed: what sets the other time back changes this one."""
    inode: int


class Score(Record):
    """The aggregate of one evaluation: `score.json`, written last."""

    schema_version: int = SCHEMA_VERSION
    iteration: int | None
    """None for an evaluation outside a run."""
    split: str
    sandbox: str
    model: str
    planned: int
    """Pairs of case and trial that were to be evaluated."""
    ended: int
    """Pairs with a status that is not missing."""
    missing: int
    statuses: dict[str, int]
    objectives: dict[str, Estimate]
    """Over the pairs that ended; a missing pair is in no mean."""
    bounds: tuple[Finite, Finite] | None = None
    """The primary objective's mean with every missing pair at its worst and at its best; None when unbounded."""
    context_chars: Finite = 0.0
    """Characters of all messages (and tool definitions) sent while predicting, the mean over the pairs that ended."""
    learn_chars: float = 0.0
    """Characters of all messages sent by `learn`, the mean over trials."""
    order_dependent: bool = False
    """True: the smoke cases were answered otherwise in the other order; so it was evaluated serially."""
    trials: int = 1
    revision: int = 1
    """Counts how often this file was written: 2 after missing pairs were filled by `resume`."""
    trace_sha256: str = ""
    trace_bytes: int = 0
    marks: dict[str, FileMark] = {}
    """The files it was made of, by their path in the folder of the iteration; empty outside a run."""
    spent: Spent = Spent()
    started: str = ""
    finished: str = ""

    @property
    def complete(self) -> bool:
        """Whether every planned pair has ended: only then can it be incumbent or on the frontier."""
        return self.planned > 0 and self.ended == self.planned


class VerdictRecord(Record):
    """A candidate against the incumbent of its round: a paired test over the cases both have."""

    iteration: int
    round: int
    incumbent: int | None
    """None when no complete candidate stood before the round."""
    verdict: Verdict
    delta: float | None = None
    """Mean difference of the primary objective, candidate minus incumbent; None where nothing is shared."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    units: int = 0
    """Cases (or groups) that both have."""


class Rejection(Record):
    """`rejected.json`: the ladder stopped a candidate before it cost anything more."""

    stage: Stage
    message: str
    traceback: str | None = None
    """The candidate's own traceback; None where the stage runs no code of it."""
    time: str = ""


# --- proposals, plans, facts -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proposal:
    """What a proposer hands in. `files` maps relative POSIX paths to text; the entry is `harness.py`."""

    files: Mapping[str, str]
    reasoning: str = ""
    hypothesis: str = ""
    """One sentence that the evaluation can prove wrong."""
    parents: tuple[int, ...] = ()
    """Iterations it was made from; empty: the incumbent of its round."""
    axis: str = ""
    components: tuple[str, ...] = ()
    predicted_effect: str = ""
    name: str = ""
    base: str | None = None
    """Reserved for candidates that are edits of a tree: the commit the files apply to."""
    session: str = ""
    """The session of the proposer that wrote it, below `sessions/`; empty where it was not written in one."""
    reads: tuple[Mapping[str, Any], ...] = ()
    """What its proposer had read, as `RunStore.append_read` returned it."""


class ProposalRecord(Record):
    """`proposal.json`: a proposal without its files, which lie beside it. Written last, so it makes the candidate."""

    schema_version: int = SCHEMA_VERSION
    iteration: int
    round: int
    """0 for baselines."""
    slot: int
    """The place within the round, from 0."""
    name: str = ""
    layout: Literal["file", "folder"]
    candidate_hash: str
    """SHA-256 over the sorted paths and contents of the candidate's files."""
    hypothesis: str = ""
    parents: list[int] = []
    axis: str = ""
    components: list[str] = []
    predicted_effect: str = ""
    by_hand: bool = False
    """Handed in outside the search: it fills no slot of the proposer's rounds."""
    flags: list[str] = []
    """What to know before its score is believed, such as that it lists answers of single cases."""
    session: str = ""
    """Its transcript, tokens and cost: the folder below `sessions/`; empty where it was not written in a session."""
    inherited: str | None = None
    """The run that made and paid for it, where a fork took it over: nothing of it is asked again, and it costs nothing
    here. None: this run's own."""
    submitted: str = ""


class SessionRecord(Record):
    """`session.json`: one session of a proposer."""

    schema_version: int = SCHEMA_VERSION
    round: int
    proposer: str
    model: str | None = None
    """`provider:name`; None where the proposer does not tell."""
    sealed_by: str = ""
    """What kept the test split from it."""
    state: str = "running"
    """`running`; then how it ended: `done`, `failed`, `stopped`, or the limit that ended it, such as `turns`. A session
    that was killed stays `running`."""
    error: str | None = None
    turns: int = 0
    input_tokens: int = 0
    """Of all its calls; what was read from or written to a provider's cache included."""
    output_tokens: int = 0
    usd: float | None = 0.0
    """None: its price is not known, or nobody told what it used (`unmetered`)."""
    unmetered: bool = False
    """True where nobody told what it used: tokens and `usd` say nothing then."""
    seconds: float = 0.0
    iterations: list[int] = []
    """The candidates it has handed in."""
    started: str = ""
    ended: str = ""


class Event(Record):
    """One fact: a line of `events.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    number: int
    time: str
    kind: str
    actor: str


@dataclass(frozen=True)
class EvaluationPlan:
    """Pure data: what to evaluate. It can be sent to another machine."""

    candidate_path: str
    """The folder or file of the candidate; read-only to the worker."""
    candidate_hash: str
    pairs: tuple[tuple[str, int], ...]
    """(case id, trial) in the run's order."""
    split: str
    models: Mapping[Role, ModelSpec]
    limits: Limits
    seed: int
    iteration: int | None = None
    partial: int | None = None
    """As in `Attribution`."""
    concurrency: int = 8
    serial: bool = False
    """One worker, one thread, in order: for online domains and order-dependent harnesses."""
    fail_fast: tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]] | None = None
    """Once each pair of the first part has failed by the candidate's doing, those of the second are skipped."""
