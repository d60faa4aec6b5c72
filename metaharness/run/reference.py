"""What a harness is compared with outside a run: an iteration of a recorded run, or a score saved to a file.

A saved score is one JSON object, written by `evaluate --save` (class `SavedScore`):

    {
      "kind": "metaharness score",       says what the file is
      "version": 1,                      of this form; a higher one is refused
      "created": "...", "metaharness": "...",
      "harness": "harness.py", "candidate_hash": "...",
      "first_trial": 0,                  trials are numbered from here
      "standing": {                      what has to be the same where two are compared
        "domain": "...", "evaluator_hash": "...", "split": "search", "cases_hash": "...", "trials": 1,
        "objective": {"name": "accuracy", "direction": "max", "range": [0, 1], ...},
        "domain_hash": "...", "train_hash": "...", "model": "..."      where these differ it is told, no more
      },
      "score": {...},                    as `score.json` of a run
      "pairs": [                         one per case and trial, sorted
        {"case": "search-0000", "unit": "search-0000", "trial": 0, "status": "ok", "context_chars": 15,
         "values": {"accuracy": 1.0}}    null where it has none
      ]
    }

It holds no text of a case, of an answer or of a harness. Compared is the primary objective.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from metaharness import __version__
from metaharness.configuration import RunConfig, RunRecord
from metaharness.domain import Split, cases_hash, domain_hash, evaluator_hash, files_hash
from metaharness.errors import CorruptRecordError, NewerSchemaError, UsageError
from metaharness.history import History
from metaharness.loading import read_candidate
from metaharness.messages import Record
from metaharness.records import Finite, ObjectiveRecord, Score, Status, now
from metaharness.run.ground import Ground
from metaharness.run.standalone import Evaluation
from metaharness.scoring.measures import PairRow
from metaharness.store import RunStore, find_run

KIND = "metaharness score"
SAVED_VERSION = 1
_SHOWN = 3
"""Cases named where two sets differ."""


class Standing(Record):
    """What an evaluation stands on."""

    domain: str
    evaluator_hash: str
    split: str
    cases_hash: str
    """SHA-256 over the cases that were asked, by id."""
    trials: int
    objective: ObjectiveRecord
    """The primary one."""
    domain_hash: str
    train_hash: str
    model: str


class SavedPair(Record):
    """One case in one trial."""

    case: str
    unit: str
    """Its group, or the case itself."""
    trial: int
    status: Status
    context_chars: Finite
    values: dict[str, Finite | None]
    """By objective; None where the pair is missing."""


class SavedScore(Record):
    """A score with what it takes to compare another one with it, case by case; see the module."""

    kind: Literal["metaharness score"] = "metaharness score"
    version: int = SAVED_VERSION
    created: str
    metaharness: str
    harness: str
    candidate_hash: str = ""
    first_trial: int = 0
    standing: Standing
    score: Score
    pairs: list[SavedPair]


@dataclass(frozen=True)
class Reference:
    """What an evaluation is compared with."""

    name: str
    """As it was asked for: `RUN/N` or the path of a file."""
    standing: Standing
    rows: list[PairRow]
    mean: float | None
    """Of the primary objective; None when no pair has a value."""
    sandbox: str
    """Where it was made."""

    @property
    def missing(self) -> int:
        """How many pairs have no value."""
        return sum(row.missing for row in self.rows)


def standing_of(config: RunConfig, ground: Ground) -> Standing:
    """What an evaluation with this configuration stands on."""
    return Standing(
        domain=ground.domain.name,
        evaluator_hash=evaluator_hash(ground.domain),
        split=ground.split.value,
        cases_hash=cases_hash(sorted(ground.cases.values(), key=lambda case: case.id)),
        trials=config.trials,
        objective=ground.domain.objectives[0].record(),
        domain_hash=domain_hash(ground.domain),
        train_hash=cases_hash(ground.train),
        model=config.models["target"].id,
    )


# --- finding and reading ----------------------------------------------------------------------------------------


def find_reference(name: str, root: Path) -> Reference:
    """What a person means by `RUN/N` or `SCORE.json`.

    Args:
        name: A file written by `evaluate --save`, or a run (its id, its beginning or its path) and an iteration.
        root: The folder of all runs.

    Raises:
        UsageError: It is neither, or the iteration has no score.
        StoreError: It is damaged, or was made by a newer version.
    """
    if Path(name).is_file():
        return _from_file(Path(name))
    run, slash, number = name.rpartition("/")
    if not slash or not run or not (number.isascii() and number.isdigit()):
        missing = "" if Path(name).exists() else _why_neither(run, number)
        raise UsageError(
            f"{name!r} is neither a saved score nor an iteration of a run{missing}",
            hint="a file that `evaluate --save SCORE.json` has written, or RUN/N such as latest/3; "
            "`metaharness scoreboard` shows the numbers",
        )
    return _from_run(name, find_run(root, run), int(number))


def _why_neither(run: str, number: str) -> str:
    """What is wrong with a name that is no path; `run` and `number` are what stands before and after its last `/`."""
    file = "there is no such file"
    return (
        f": {file}, and {number!r} is no number: N of RUN/N is that of an iteration" if run and number else f": {file}"
    )


def _from_run(name: str, path: Path, number: int) -> Reference:
    history = History(RunStore.open(path, record=False))
    score = history.iteration(number).score
    if score is None:
        state = history.iteration(number).state
        raise UsageError(
            f"iteration {number:03d} of run {history.record.run_id} has no score: it is {state}",
            hint="`metaharness scoreboard` shows which iterations have one",
        )
    mean = _mean(score, history.objectives[0])
    return Reference(name, _standing_of_run(history.record), history.rows(number), mean, score.sandbox)


def _standing_of_run(record: RunRecord) -> Standing:
    return Standing(
        domain=record.domain_name,
        evaluator_hash=record.evaluator_hash,
        split=Split.SEARCH.value,
        cases_hash=record.split_hashes.get(Split.SEARCH.value, ""),
        trials=record.config.trials,
        objective=record.objectives[0],
        domain_hash=record.domain_hash,
        train_hash=record.split_hashes.get(Split.TRAIN.value, ""),
        model=record.config.models["target"].id,
    )


def _from_file(path: Path) -> Reference:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="give a file that can be read") from error
    except ValueError as error:
        raise UsageError(
            f"{path} is not a saved score, or damaged: it is not JSON ({error})",
            hint="`metaharness evaluate --save SCORE.json` writes one",
        ) from error
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise UsageError(f"{path} is not a saved score", hint="`metaharness evaluate --save SCORE.json` writes one")
    version = found.get("version")
    if isinstance(version, int) and version > SAVED_VERSION:
        raise NewerSchemaError(
            f"{path} has version {version}; this metaharness reads up to version {SAVED_VERSION}",
            hint="install a newer metaharness, or save the score anew",
        )
    saved = _parsed(path, found)
    primary = saved.standing.objective.name
    rows = [
        PairRow(pair.case, pair.unit, pair.trial, pair.status, pair.context_chars, (pair.values.get(primary),))
        for pair in saved.pairs
    ]
    mean = _mean(saved.score, saved.standing.objective)
    return Reference(str(path), saved.standing, rows, mean, saved.score.sandbox)


def _parsed(path: Path, found: dict[str, Any]) -> SavedScore:
    try:
        return SavedScore.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise CorruptRecordError(path, None, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _mean(score: Score, objective: ObjectiveRecord) -> float | None:
    found = score.objectives.get(objective.name)
    return None if found is None else found.mean


# --- whether two can be compared --------------------------------------------------------------------------------


def check_comparable(here: Standing, cases: Iterable[str], there: Reference) -> list[str]:
    """Make sure that the numbers of two evaluations are about the same. Returns what else differs, as notes.

    Args:
        here: What the evaluation will stand on.
        cases: The ids of its cases.
        there: What it is compared with.

    Raises:
        UsageError: Saying what differs.
    """
    other = there.standing
    differ = [
        f"{what} ({mine} here, {theirs} there)"
        for what, mine, theirs in (
            ("domain", here.domain, other.domain),
            ("split", here.split, other.split),
            ("trials", here.trials, other.trials),
            ("primary objective", _objective(here.objective), _objective(other.objective)),
        )
        if mine != theirs
    ]
    if here.evaluator_hash != other.evaluator_hash:
        differ.append("evaluator (its source has changed)")
    if here.cases_hash != other.cases_hash:
        differ.append(f"cases ({_cases_differ(set(cases), {row.case_id for row in there.rows})})")
    if differ:
        raise UsageError(
            f"{there.name} cannot be compared with this; different: {', '.join(differ)}",
            hint="give the same --domain, --data, --split, --limit, --seed and --trials; "
            "what was scored by another evaluator has to be scored anew (for a run: `metaharness regrade`)",
        )
    return [
        f"{what} differs from that of {there.name}"
        for what, mine, theirs in (
            ("another file of the domain", here.domain_hash, other.domain_hash),
            ("the train split", here.train_hash, other.train_hash),
            ("the model", here.model, other.model),
        )
        if mine != theirs
    ]


def sandbox_note(here: Score, there: Reference) -> str | None:
    """What is to be said where the two were made in different sandboxes; None where it was the same one."""
    if here.sandbox == there.sandbox:
        return None
    return f"the sandbox differs from that of {there.name}: {here.sandbox} here, {there.sandbox} there"


def _objective(objective: ObjectiveRecord) -> str:
    span = "" if objective.range is None else f" in {objective.range[0]:g} to {objective.range[1]:g}"
    return f"{objective.name} {objective.direction}{span}"


def _cases_differ(here: set[str], there: set[str]) -> str:
    if here == there:
        return "the same ids with another content"
    parts = [f"{len(here)} here, {len(there)} there"]
    for where, ids in (("only here", sorted(here - there)), ("only there", sorted(there - here))):
        if ids:
            more = ", ..." if len(ids) > _SHOWN else ""
            parts.append(f"{where}: {', '.join(ids[:_SHOWN])}{more}")
    return "; ".join(parts)


# --- saving -----------------------------------------------------------------------------------------------------


def saved_score(harness: Path, evaluation: Evaluation, standing: Standing, *, first_trial: int) -> SavedScore:
    """The score of an evaluation that has ended, ready to be written."""
    assert evaluation.score is not None, "only a score can be saved"
    names = [objective.name for objective in evaluation.objectives]
    return SavedScore(
        created=now(),
        metaharness=__version__,
        harness=str(harness),
        candidate_hash=_hash_of(harness),
        first_trial=first_trial,
        standing=standing,
        score=evaluation.score,
        pairs=[_pair(row, names) for row in evaluation.rows],
    )


def _pair(row: PairRow, names: Sequence[str]) -> SavedPair:
    return SavedPair(
        case=row.case_id,
        unit=row.unit,
        trial=row.trial,
        status=row.status,
        context_chars=row.context_chars,
        values=dict(zip(names, row.values, strict=True)),
    )


def _hash_of(harness: Path) -> str:
    files = read_candidate(harness).files
    return files_hash({path: text.encode("utf-8", "replace") for path, text in files.items()})
