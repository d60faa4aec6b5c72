"""Partial evaluations: a candidate on a few named cases of `search`, for programs that look for candidates themselves.

It is no iteration: no score, no round, no verdict. The cases and calls count in the budget of the run and the calls in
its journal; files and traces lie in `partial/NNN`, one number for one candidate. What has ended is not asked again.

Not guarded: a program that evaluates here sees every label of `search`, as traces have them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from metaharness.errors import DomainError, UsageError
from metaharness.evaluation.ladder import SMOKE_CASES
from metaharness.gateway.budget import BOUND_NAMES, CALL_BOUNDS, Bound
from metaharness.loading import read_candidate
from metaharness.records import LEARN, MISSING, CaseTrace, EvaluationPlan, Rejection, Status
from metaharness.run.bounds import amount
from metaharness.run.evaluating import Pair
from metaharness.run.recorder import Recorder
from metaharness.scoring.measures import measure
from metaharness.ungroup import ungrouped

Source = str | Mapping[str, str] | Path
"""A candidate: the text of its `harness.py`, its files as text by relative path, or where it lies."""
KIND = "partial"
"""The event that says how many cases were counted, written before any of them is asked."""


@dataclass(frozen=True)
class CaseResult:
    """One case of a partial evaluation."""

    case_id: str
    status: Status | None
    """None where it was not asked, because a stop came between."""
    value: float | None
    """The primary objective, in its unit; its worst where the candidate failed, None where the case is missing (its
    status says why) or was not asked."""
    values: Mapping[str, float | None]
    """Every objective by name, likewise; None also where it is not that of one case, as the length of a harness."""
    output: Any
    """What the harness answered; None also where it gave no answer."""
    trace: CaseTrace | None
    """All of it, as it is recorded; None where it was not asked."""


@dataclass(frozen=True)
class PartialEvaluation:
    """What came of it."""

    candidate_hash: str | None
    """As of an iteration; None where the candidate was rejected before anything of it ran."""
    path: Path | None
    """The folder of its files and traces; None likewise."""
    rejection: Rejection | None = None
    """Why the ladder stops this candidate; None where it does not."""
    cases: Sequence[CaseResult] = field(default_factory=list)
    """In the order in which they were named; none where it was rejected."""


class PartialEvaluations:
    """The partial evaluations of a run that is being recorded."""

    def __init__(self, recorder: Recorder, look: Callable[[], None], warn: Callable[[], None]) -> None:
        """Set it up.

        Args:
            recorder: Of the run.
            look: Raises DomainError where the domain has changed, CorruptRecordError where an iteration has.
            warn: Called after every case, to tell which bounds are nearly spent.
        """
        self._recorder = recorder
        self._store = recorder.store.partials
        self._look = look
        self._warn = warn
        self._locks: defaultdict[int, anyio.Lock] = defaultdict(anyio.Lock)
        self._open = 0
        self._none_open = anyio.Event()

    @property
    def case_ids(self) -> Sequence[str]:
        """The cases that can be asked: those that the run scores its candidates on, in its order."""
        return list(self._recorder.evaluating.ground.cases)

    async def evaluate(self, source: Source, case_ids: Sequence[str], *, trial: int = 0) -> PartialEvaluation:
        """See `Run.evaluate_cases`."""
        pairs = [(case_id, trial) for case_id in self._checked(case_ids)]
        self._look()
        files = _files(source)
        rejection = self._recorder.admit(files, baseline=False).rejection
        if rejection is not None:
            # text of cases costs what any other evaluation would: whoever guesses texts would learn from it
            self._charge(len(pairs) if rejection.stage == "leak" else 0, rejected=rejection.stage)
            return PartialEvaluation(None, None, rejection)
        number, sha256 = self._store.add(files)
        async with self._one_open(), self._locks[number]:  # one at a time: the next finds what this one has recorded
            with ungrouped():
                rejection = await _Asked(self, number, sha256, pairs).evaluate()
            path = self._store.candidate_path(number).parent
            if rejection is not None:
                return PartialEvaluation(sha256, path, rejection)
            traces = self.recorded(number, pairs)
            return PartialEvaluation(sha256, path, None, [self._result(pair[0], traces.get(pair)) for pair in pairs])

    async def ended(self) -> None:
        """Wait until no partial evaluation is on its way."""
        while self._open:
            await self._none_open.wait()

    @asynccontextmanager
    async def _one_open(self) -> AsyncIterator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()
                self._none_open = anyio.Event()

    def recorded(self, number: int, pairs: Collection[Pair]) -> dict[Pair, CaseTrace]:
        """The attempt that counts at each of these pairs, as far as there is one."""
        wanted = set(pairs)
        found = ((trace.case_id, trace.trial, trace) for trace in self._store.traces(number))
        return {(case_id, trial): trace for case_id, trial, trace in found if (case_id, trial) in wanted}

    def _checked(self, case_ids: Sequence[str]) -> list[str]:
        known = self._recorder.evaluating.ground.cases
        chosen = list(dict.fromkeys([case_ids] if isinstance(case_ids, str) else case_ids))
        shown = f"{', '.join(self.case_ids[:5])}{', ...' if len(known) > 5 else ''}"
        if not chosen:
            raise UsageError("no case was named", hint=f"search has {len(known)}: {shown}")
        unknown = [case_id for case_id in chosen if case_id not in known]
        if unknown:
            raise UsageError(
                f"there is no search case {unknown[0]!r:.100}",
                hint=f"search has {len(known)} in this run: {shown}; cases of train and test are not asked here",
            )
        return chosen

    def _charge(self, cases: int, **told: Any) -> None:
        """Count cases before they are asked: a process that is killed has spent them too.

        Raises:
            UsageError: A bound of the budget does not allow them.
        """
        ledger = self._recorder.evaluating.ledger
        left = ledger.remaining("case_evaluations")
        if left is not None and left < cases:
            said = f"{amount('case_evaluations', left)} can be used, and {cases} are asked"
            raise self._spent("case_evaluations", said)
        for bound in CALL_BOUNDS if cases else ():
            if ledger.remaining(bound) == 0 and not ledger.in_flight(bound):
                raise self._spent(bound, "nothing of it is left")
        ledger.charge_case_evaluations(cases)
        self._recorder.tell(KIND, cases=cases, **told)

    def _spent(self, bound: Bound, said: str) -> UsageError:
        limit = getattr(self._recorder.evaluating.ledger.limits, bound)
        kept = self._recorder.evaluating.ledger.kept_back(bound)
        return UsageError(
            f"the budget of {BOUND_NAMES[bound]} ({amount(bound, limit)}) does not allow it: {said}"
            + (f"; {amount(bound, kept)} of it is kept for finish" if kept else ""),
            hint="it is raised when the run is opened: `metaharness evaluate-cases --help` names the options",
        )

    def _result(self, case_id: str, trace: CaseTrace | None) -> CaseResult:
        objectives = self._recorder.evaluating.store.record.objectives
        names = [objective.name for objective in objectives]
        if trace is None:
            return CaseResult(case_id, None, None, dict.fromkeys(names), None, None)
        values = measure(trace, objectives).values
        return CaseResult(case_id, trace.status, values[0], dict(zip(names, values, strict=True)), trace.output, trace)


@dataclass
class _Asked:
    """One partial evaluation on its way."""

    of: PartialEvaluations
    number: int
    sha256: str
    pairs: Sequence[Pair]

    def __post_init__(self) -> None:
        self._evaluating = self.of._recorder.evaluating
        self._tell = self.of._recorder.tell
        self._statuses: dict[Pair, Status] = {}

    async def evaluate(self) -> Rejection | None:
        """Ask what has not ended yet. Returns why the ladder stops the candidate, if it does."""
        online = self._evaluating.ground.domain.online
        known = {} if online else self.of.recorded(self.number, self.pairs)
        todo = [pair for pair in self.pairs if pair not in known or not _ended(known[pair].status)]
        if not todo:
            return None
        self.of._charge(len(todo), partial=self.number, candidate_hash=self.sha256, trial=todo[0][1])
        rejection = await self._ask(todo, online=online)
        self._look()
        stage = None if rejection is None else rejection.stage
        counts = Counter(self._statuses.values())
        self._tell("partial_ended", partial=self.number, rejected=stage, statuses=counts)
        if set(counts) == {"budget"}:
            bound = self._evaluating.ledger.exhausted or "calls"
            raise self.of._spent(bound, "no call of these cases fits into what is left")
        return rejection

    async def _ask(self, todo: Sequence[Pair], *, online: bool) -> Rejection | None:
        """The rungs of the ladder that run code, then the cases; what is missing then is asked once more."""
        runner, doors = self._evaluating.runner, self._evaluating.doors
        smoke = await runner.smoke(self._plan(todo[:SMOKE_CASES]), doors)
        if smoke.rejection is not None and smoke.rejection.stage != "smoke":
            return smoke.rejection
        serial = online or smoke.order_dependent
        for trace in smoke.traces:
            if trace.case_id == LEARN or not serial:
                self._keep(trace)
        for again in (False, True):
            left = [pair for pair in todo if not _ended(self._statuses.get(pair))]
            missing = [self._statuses[pair] for pair in left if pair in self._statuses]
            hopeless = len(missing) in (0, len(todo)) or "budget" in missing or self._evaluating.ledger.used_up
            if not left or (again and hopeless):
                break
            async with runner.run(self._plan(todo if serial else left, serial=serial), doors) as traces:
                async for trace in traces:
                    self._keep(trace)
        return None

    def _keep(self, trace: CaseTrace) -> None:
        self.of._store.append_trace(self.number, trace)
        if trace.case_id != LEARN:
            self._statuses[trace.case_id, trace.trial] = trace.status
        self.of._warn()

    def _look(self) -> None:
        """Refuse what was evaluated while the domain was changed."""
        try:
            self.of._look()
        except DomainError:
            self.of._store.refuse(self.number)
            raise

    def _plan(self, pairs: Sequence[Pair], *, serial: bool = False) -> EvaluationPlan:
        evaluating = self._evaluating
        return EvaluationPlan(
            candidate_path=str(self.of._store.candidate_path(self.number)),
            candidate_hash=self.sha256,
            pairs=tuple(pairs),
            split=evaluating.ground.split.value,
            models=evaluating.config.models,
            limits=evaluating.ground.domain.limits,
            seed=evaluating.config.seed,
            partial=self.number,
            concurrency=evaluating.config.concurrency,
            serial=serial,
        )


def _ended(status: Status | None) -> bool:
    """Whether a case need not be asked again: it has a value of its own. One was skipped for the sake of others."""
    return status is not None and status not in MISSING and status != "skipped"


def _files(source: Source) -> Mapping[str, str]:
    if isinstance(source, Path):
        return read_candidate(source).files
    return {"harness.py": source} if isinstance(source, str) else source
