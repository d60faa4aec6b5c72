"""The sealed test split: the only module that may name it, and the only one that reads or writes `sealed/`.

    Holdout(store, domain).open(history)     the opening, written before any case is handed out; there is one per run
    Holdout(store, domain).cases()           the cases, once the opening is there
    Holdout(store, domain).close(...)        the result: written last, it closes the run

The cases are read by the domain, or from where `metaharness seal` has put them (`seals.py`).

Not guarded: a program that runs with the user's own rights can read the data where it lies, and a run directory that
was deleted is not counted any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from metaharness.domain import Case, Domain, Split, cases_hash, split_cases
from metaharness.errors import CorruptRecordError, DomainError, NewerSchemaError, UsageError
from metaharness.fingerprints import Fingerprint, fingerprints
from metaharness.messages import Record
from metaharness.openings import Opening, SealedResult, SealedRow
from metaharness.records import SCHEMA_VERSION, ObjectiveRecord, ProposalRecord, Score, now
from metaharness.scoring.measures import PairRow
from metaharness.scoring.scoreboard import Iteration, incumbent
from metaharness.scoring.verdicts import judge_both
from metaharness.seals import Seal, find_seal, make_contents, make_seal, other_options, sealed_for_another
from metaharness.store import Journal, RunStore, Sealed, command_on, forked_from, openings, openings_locked

R = TypeVar("R", bound=Record)


def sealed_fingerprints(domain: Domain) -> dict[str, Fingerprint]:
    """Case id to fingerprint of the test split: a value that can be handed on without the cases.

    Where a seal stands for the split no case is read, and the names are numbers.
    """
    found = find_seal(domain)
    return fingerprints(_own_cases(domain)) if found is None else found.fingerprints()


def sealed_size(domain: Domain) -> tuple[int, int]:
    """How many cases the test split has, and how many units (groups, or cases) they make."""
    found = find_seal(domain)
    if found is not None:
        return found.seal.cases, found.seal.units
    cases = _own_cases(domain)
    return len(cases), len({case.group or case.id for case in cases})


def packed_split(domain: Domain, file: Path, content: bytes) -> tuple[bytes, Seal]:
    """The test split as it is put elsewhere, and the seal that then stands for it; `file` is what it is read from.

    Raises:
        DomainError: The split cannot be read, or a case would not come back as it is.
        UsageError: It has no cases.
    """
    cases = split_cases(domain, Split.TEST)
    if not cases:
        raise UsageError(f"split test of {domain.name} has no cases: there is nothing to seal", hint=f"see {file}")
    options = other_options(file, domain.loaded_with)
    contents = make_contents(domain, options, file, content, cases)
    return contents, make_seal(domain, options, contents, cases)


def _all_cases(domain: Domain) -> list[Case]:
    """The cases, from where they were put where a seal stands for them."""
    found = find_seal(domain)
    return _own_cases(domain) if found is None else found.cases()


def _own_cases(domain: Domain) -> list[Case]:
    """The cases as the domain reads them. Where it cannot, a seal that is for something else is told."""
    apart = sealed_for_another(domain)
    try:
        cases = split_cases(domain, Split.TEST)
    except DomainError:
        if apart is None:
            raise
        cases = []
    if apart is not None and not cases:
        raise apart
    return cases


def require_sealed(store: RunStore) -> None:
    """Make sure that the test split of a run is still sealed: after its opening nothing may be searched for.

    Raises:
        UsageError: It was opened.
    """
    if store.sealed.result() is not None:
        raise UsageError(
            f"run {store.record.run_id} is finished: its test split was opened, so nothing is added to it",
            hint=f"begin a new run; `{command_on(store.path, 'finish')}` shows the result of this one",
        )
    if store.sealed.opening() is not None:
        raise UsageError(
            f"the test split of run {store.record.run_id} was opened, so nothing is added to it",
            hint=f"`{command_on(store.path, 'finish')}` goes on with the test where it was interrupted",
        )


def read_opening(store: RunStore) -> Opening | None:
    """What the opening says; None while the test split is sealed."""
    return _parsed(Opening, store.sealed.opening(), store.sealed.opening_path)


def read_result(store: RunStore) -> SealedResult | None:
    """The result of the one test; None while there is none."""
    return _parsed(SealedResult, store.sealed.result(), store.sealed.result_path)


def _parsed(record: type[R], found: dict[str, Any] | None, path: Path) -> R | None:
    if found is None:
        return None
    version = found.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{path} has schema version {version}; this metaharness reads up to version {SCHEMA_VERSION}",
            hint="use the version of metaharness that wrote it",
        )
    try:
        return record.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise CorruptRecordError(path, None, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def sealed_journal(store: RunStore) -> Journal:
    """The calls that were made for the test: kept apart, as their prompts hold its cases."""
    return store.sealed.journal


@dataclass(frozen=True)
class SealedSpent:
    """What the test of a run has used, beside its calls."""

    case_evaluations: int
    """Pairs of case and trial, missing ones included."""
    seconds: float
    """Time during which the run had been recorded when its last score was written; 0.0 before."""


def sealed_spent(store: RunStore) -> SealedSpent:
    """What the test of a run has used; nothing while it is sealed."""
    sealed = store.sealed
    numbers = sealed.numbers()
    pairs = sum(len(sealed.measure_traces(number, lambda trace: trace.status)) for number in numbers)
    scores = [score for number in numbers if (score := sealed.score(number)) is not None]
    return SealedSpent(pairs, max((score.spent.seconds for score in scores), default=0.0))


class Holdout:
    """The test split of one run, for the process that finishes it."""

    def __init__(self, store: RunStore, domain: Domain) -> None:
        """Load the test split.

        Raises:
            DomainError: It cannot be read, or is sealed and its cases are not on this machine.
            UsageError: It has no cases.
        """
        cases = _all_cases(domain)
        if not cases:
            raise UsageError(
                f"split test of {domain.name} has no cases, so this run cannot be finished",
                hint="the numbers on `search` are all there is; add a test split and begin a new run",
            )
        self.split = Split.TEST
        self._store = store
        self._cases = sorted(cases, key=lambda case: case.id)
        self._hash = cases_hash(self._cases)

    @property
    def size(self) -> int:
        """How many cases it has."""
        return len(self._cases)

    def open(self, iterations: Sequence[Iteration]) -> Opening:
        """The opening: the one that is recorded, or a new one, on disk when this returns.

        Args:
            iterations: All of the run.

        Raises:
            UsageError: There is no complete baseline, or a candidate still has to be evaluated.
            DomainError: The test split has changed since it was opened.
        """
        opening = read_opening(self._store)
        if opening is None:
            chosen = choose(iterations, self._store.record.objectives)
            with openings_locked(self._store.path.resolve().parent):
                opening = self._opening(*chosen, look=1 + self.earlier_looks())
                self._store.sealed.write_opening(opening.model_dump(mode="json"))
        if opening.test_hash != self._hash:
            raise DomainError(
                f"the test split has changed since run {opening.run} opened it at {opening.opened}",
                hint="restore the data it was opened with; the test goes on with exactly those cases",
            )
        self._check_plan(opening)
        return opening

    def _check_plan(self, opening: Opening) -> None:
        """Make sure that what would be tested is what the opening says: it was written before any case was asked.

        Raises:
            DomainError: The run's configuration or a candidate is another one now.
        """
        hashes = {number: self._store.proposal(number).candidate_hash for number in opening.candidates}
        config = self._store.record.config
        now_is = (hashes, config.trials, config.seed, config.models["target"].id)
        if now_is != (opening.candidates, opening.trials, opening.seed, opening.model):
            raise DomainError(
                f"run {opening.run} is not what it was when its test was opened at {opening.opened}",
                hint=f"restore config.json and the candidates as {self._store.sealed.opening_path} names them",
            )

    def earlier_looks(self) -> int:
        """How often this test split was opened below the folder of all runs, by other runs than this one.

        A run that this one is a fork of counts whatever it has opened: what is expected may have been corrected since.
        """
        own = self._store.path.resolve()  # it may have been given as "."
        forked, there = set(forked_from(own)), [one for one in openings(own.parent) if one[0] != own]
        seen = {path.name for path, found in there if found.get("test_hash") == self._hash or path.name in forked}
        return len(seen.union(self._store.record.openings))

    def cases(self) -> list[Case]:
        """The cases, sorted by id.

        Raises:
            UsageError: The opening is not on disk yet.
        """
        if self._store.sealed.opening() is None:
            raise UsageError("the test split is sealed", hint="write its opening first")
        return list(self._cases)

    @property
    def evaluations(self) -> Sealed:
        """Where its traces and scores go."""
        return self._store.sealed

    def close(
        self,
        opening: Opening,
        scores: dict[int, Score],
        rows: dict[int, list[PairRow]],
        *,
        sandbox: str,
        sealed_by: tuple[str, ...],
    ) -> SealedResult:
        """The one test, written down: the run is finished.

        Args:
            opening: What was planned.
            scores: Of every planned candidate, by number.
            rows: Its numbers for every pair.
            sandbox: Where candidate code has run.
            sealed_by: How the split was kept from whoever wrote the candidates.
        """
        record = self._store.record
        objective = record.objectives[0]
        verdict = judge_both(rows[opening.winner], rows[opening.baseline], objective)
        tested = opening.winner != opening.baseline
        result = SealedResult(
            **opening.model_dump(
                include={"run", "opened", "look", "test_hash", "trials", "model", "winner", "baseline"}
            ),
            finished=now(),
            cases=len(opening.cases),
            sandbox=sandbox,
            sealed_by=sealed_by,
            objective=objective.name,
            verdict=verdict.said if tested else "baseline",
            delta=verdict.comparison.delta if tested else None,
            low=verdict.comparison.low if tested else None,
            high=verdict.comparison.high if tested else None,
            p=verdict.comparison.p if tested else None,
            units=verdict.comparison.units if tested else 0,
            missing=sum(score.missing for score in scores.values()),
            rows=[self._row(number, scores[number], opening) for number in opening.candidates],
        )
        self._store.sealed.write_result(result.model_dump(mode="json"))
        return result

    def _opening(self, winner: ProposalRecord, baseline: ProposalRecord, *, look: int) -> Opening:
        record = self._store.record
        return Opening(
            run=record.run_id,
            opened=now(),
            look=look,
            test_hash=self._hash,
            winner=winner.iteration,
            baseline=baseline.iteration,
            candidates={one.iteration: one.candidate_hash for one in (winner, baseline)},
            cases=[case.id for case in self._cases],
            trials=record.config.trials,
            seed=record.config.seed,
            model=record.config.models["target"].id,
        )

    def _row(self, number: int, score: Score, opening: Opening) -> SealedRow:
        return SealedRow(
            iteration=number,
            name=self._store.proposal(number).name,
            role="winner" if number == opening.winner else "baseline",
            objectives=score.objectives,
            context_chars=score.context_chars,
            planned=score.planned,
            missing=score.missing,
        )


def choose(
    iterations: Sequence[Iteration], objectives: Sequence[ObjectiveRecord]
) -> tuple[ProposalRecord, ProposalRecord]:
    """The winner and the best baseline, by their numbers on `search` alone.

    Raises:
        UsageError: There is no complete baseline, or a candidate still has to be evaluated.
    """
    pending = [iteration.number for iteration in iterations if iteration.state == "pending"]
    if pending:
        numbers = ", ".join(f"{number:03d}" for number in pending)
        raise UsageError(
            f"not yet evaluated on search: {numbers}", hint="resume the run: that evaluates what was interrupted"
        )
    winner = incumbent(iterations, objectives)
    baseline = incumbent([iteration for iteration in iterations if iteration.is_baseline], objectives)
    if winner is None or baseline is None:
        raise UsageError(
            "no baseline has a complete score on search, so there is nothing to test against",
            hint="resume the run: that asks missing cases again",
        )
    return winner.proposal, baseline.proposal
