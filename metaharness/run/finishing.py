"""`finish`: the one test of a run, on cases that nothing in it has seen.

The opening is on disk before the first case is asked. Killed at any moment, it goes on with exactly that plan:
completed calls are answered from the journal of the test, and cases that have ended are not asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from metaharness.configuration import Budget
from metaharness.errors import DomainError, IncompleteError, RunLockedError, UsageError
from metaharness.evaluation.runner import CaseRunner
from metaharness.gateway.budget import CALL_BOUNDS, Ledger
from metaharness.gateway.providers import Provider
from metaharness.history import History
from metaharness.holdout import (
    Holdout,
    choose,
    read_opening,
    read_result,
    sealed_journal,
    sealed_spent,
)
from metaharness.openings import Opening, SealedResult
from metaharness.records import LEARN, CaseTrace, Role, Score, Spent
from metaharness.run.authors import sealed_from_authors
from metaharness.run.bounds import Warnings, bound_states, raising
from metaharness.run.evaluating import Evaluating
from metaharness.run.ground import Ground, in_order
from metaharness.run.machinery import Machinery
from metaharness.run.recording import Owning, Recording, closed_on_error, config_now, open_recording
from metaharness.run.summaries import counted_pairs, read_ledger, restore, run_status, write_derived
from metaharness.scoring.measures import PairRow
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore, command_on
from metaharness.ungroup import ungrouped

Listener = Callable[[str, Mapping[str, Any]], None]


class Finishing(Owning):
    """A run whose test split is about to be opened, or is open. Made by `open`; a context manager."""

    def __init__(self, recording: Recording, runner: CaseRunner | None) -> None:
        self.store = recording.store
        self.config = config_now(self.store)
        self.history = History(self.store)
        self.ledger = recording.ledger
        self.holdout = Holdout(self.store, recording.ground.domain)
        self.listener: Listener = lambda _kind, _fields: None
        """Told `evaluating`, `case_ended` and `budget_warned` with their fields; for a display of progress."""
        self.stopping = False
        self._recording = recording
        self._runner = runner
        self._machinery: Machinery | None = None
        restore(self.ledger, self.history, counted_pairs(self.history))
        self._warnings = Warnings(self.ledger, self.store, self._tell)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        raised: Budget | None = None,
        runner: CaseRunner | None = None,
        providers: Mapping[Role, Provider] | None = None,
    ) -> Self:
        """Take a run whose search is over, to finish it.

        Args:
            path: Its directory.
            raised: Upper bounds that replace those of the configuration; None in a field keeps it.
            runner: Evaluates cases; None takes workers on this machine.
            providers: Models to use instead of those the configuration names, by role.

        Raises:
            UsageError: It has a result, its baselines have not ended, or there is no test split.
            MetaharnessError: It is recorded by another process, is damaged, or its domain has changed.
        """
        recording = open_recording(path, raised, providers)
        with closed_on_error(recording.store):
            run = recording.store.record.run_id
            if read_result(recording.store) is not None:
                raise UsageError(f"run {run} is finished", hint=f"`{command_on(path, 'finish')}` shows its result")
            finishing = cls(recording, runner)
            _check_rounds(finishing.history)
            return finishing

    @property
    def spent(self) -> Spent:
        """A reading of the ledger."""
        return self.ledger.spent

    @property
    def opened(self) -> Opening | None:
        """The opening, if there is one: then the test goes on with it."""
        return read_opening(self.store)

    @property
    def candidates(self) -> list[Iteration]:
        """What is or would be tested: the winner, then the best baseline where that is another one.

        Raises:
            UsageError: There is no complete baseline, or a candidate still has to be evaluated.
        """
        opening = self.opened
        if opening is not None:
            return [self.history.iteration(number) for number in opening.candidates]
        numbers = dict.fromkeys(chosen.iteration for chosen in choose(self.history.iterations, self.history.objectives))
        return [self.history.iteration(number) for number in numbers]

    @property
    def planned(self) -> int:
        """How many pairs of case and trial the whole test has."""
        return len(self.candidates) * self.holdout.size * self.config.trials

    def stop(self) -> None:
        """Start nothing new. What is in the air ends and is written."""
        self.stopping = True
        if self._machinery is not None:
            self._machinery.stopping = True

    async def run(self, *, accept_missing: bool = False) -> SealedResult | None:
        """Open the test split, or go on where it was opened, and give the result. None when a stop came between.

        Args:
            accept_missing: Give a result although pairs are missing; the verdict is then one that holds whatever they
                would have been.

        Raises:
            UsageError: There is no complete baseline, a candidate still has to be evaluated, or the budget does not
                allow it. Nothing was opened.
            CorruptRecordError: The files of a candidate are not those that were scored. Nothing was asked.
            IncompleteError: Pairs are missing, for reasons outside the harness.
            DomainError: The test split has changed since it was opened, or a file of the domain while it was asked.
        """
        for iteration in self.candidates:
            self.store.files(iteration.number)  # raises where they have changed
        self._check_budget()
        opening = self.holdout.open(self.history.iterations)
        if not any(self.store.events("test_opened")):
            self.store.event("test_opened", **opening.model_dump(mode="json", include={"look", "winner", "baseline"}))
        scores, rows, sandbox = await self._evaluate(opening)
        self._check_ground(opening)
        write_derived(self.history, self.ledger, run_status(self.history))
        if scores is None:
            return None
        missing = sum(score.missing for score in scores.values())
        if missing and not accept_missing:
            target = self.ledger.roles.get("target")
            of_target = None if target is None else target.exhausted
            spent = of_target or self.ledger.exhausted
            more = () if spent is None else raising(spent, None if of_target is None else "target")
            raise IncompleteError(
                f"{missing} of {self.planned} pairs of the test have no value yet"
                + ("" if spent is None else f": the budget of {spent} is spent"),
                hint=f"`{command_on(self.store.path, 'finish', *more)}` asks them again; "
                "--accept-missing gives the verdict that holds either way",
            )
        result = self.holdout.close(opening, scores, rows, sandbox=sandbox, sealed_by=sealed_from_authors(self.history))
        _tell_result(self.history, self.ledger, result)
        return result

    # -- inside --------------------------------------------------------------------------------------------------

    def _check_ground(self, opening: Opening) -> None:
        """Refuse what was evaluated while the domain was changed."""
        changed = self._recording.ground.changed()
        if changed:
            self.store.event("tampered", files=[str(path) for path in changed], refused=[])
            for number in opening.candidates:
                self.holdout.evaluations.refuse(number)
            raise DomainError(
                f"{changed[0]} has changed since the test was begun; what was evaluated meanwhile is not accepted",
                hint=f"undo the change, then `{command_on(self.store.path, 'finish')}` evaluates it anew",
            )

    def _check_budget(self) -> None:
        """Refuse before the opening what the budget cannot end."""
        left = self.planned - sealed_spent(self.store).case_evaluations
        room = self.ledger.remaining("case_evaluations")
        if left > 0 and room is not None and room < left:
            enough = self.ledger.spent.case_evaluations + left
            raise UsageError(
                f"the test needs {left:,} case evaluations, and {room:,} are left of the budget",
                hint="raise it: " + command_on(self.store.path, "finish", "--budget-cases", str(enough)),
            )
        if left > 0:
            self.ledger.charge_case_evaluations(left)
        if self.opened is not None:
            return  # completed calls are in the journal; what the budget refuses now is missing, and can be accepted
        for state in bound_states(self.ledger):
            if state.bound in CALL_BOUNDS and state.role in (None, "target") and not state.unspent:
                of = "" if state.role is None else f" of the {state.role}"
                raise UsageError(
                    f"the budget of {state.limit:,.15g} {state.bound}{of} is spent, "
                    f"and the test of {self.planned} pairs needs more",
                    hint="raise it: " + command_on(self.store.path, "finish", *raising(state.bound, state.role)),
                )

    async def _evaluate(self, opening: Opening) -> tuple[dict[int, Score] | None, dict[int, list[PairRow]], str]:
        """Score and rows of every planned candidate, and the sandbox; no scores when a stop came between."""
        recorded = self._recording
        cases = {case.id: case for case in in_order(self.holdout.cases(), self.config.seed)}
        ground = Ground(recorded.ground.domain, self.holdout.split, cases, recorded.ground.train)
        journal = sealed_journal(self.store)
        machinery = Machinery(
            # no shared cache: prompts that hold sealed cases stay in this run, and its number is a fresh one
            self.config.model_copy(update={"cache": False}),
            ground,
            journal,
            self.ledger,
            runner=self._runner,
            providers=recorded.providers,
        )
        machinery.stopping = self.stopping
        self._machinery = machinery
        evaluating = Evaluating(
            self.store,
            self.holdout.evaluations,
            self.config,
            ground,
            machinery.runner,
            machinery.doors,
            self.ledger,
            self._case_ended,
        )
        scores: dict[int, Score] = {}
        rows: dict[int, list[PairRow]] = {}
        with ungrouped():
            async with machinery:
                for number in opening.candidates:
                    score = await self._score(evaluating, number)
                    if score is None:
                        return None, {}, ""
                    scores[number], rows[number] = score, list(evaluating.tally(number).rows.values())
        return scores, rows, machinery.runner.sandbox_name

    async def _score(self, evaluating: Evaluating, number: int) -> Score | None:
        """One candidate on the test split; None when a stop came between."""
        iteration = self.history.iteration(number)
        order_dependent = iteration.score is not None and iteration.score.order_dependent
        tally = evaluating.tally(number, order_dependent=order_dependent)
        serial = evaluating.ground.domain.online or order_dependent
        todo = tally.left(serial=serial)
        self.listener("evaluating", {"iteration": number, "name": iteration.proposal.name, "cases": len(todo)})
        await evaluating.fill(number, serial=serial)
        if not tally.whole or (self.stopping and tally.left(serial=serial)):
            return None
        return self.holdout.evaluations.current_score(number) or evaluating.score(number)

    def _tell(self, kind: str, /, **fields: Any) -> None:
        self.store.event(kind, **fields)
        self.listener(kind, fields)

    def _case_ended(self, number: int, trace: CaseTrace) -> None:
        self._warnings.check()
        if trace.case_id != LEARN:
            self.listener("case_ended", {"iteration": number, "case_id": trace.case_id, "status": trace.status})


def _check_rounds(history: History) -> None:
    """Make sure that no round is open: the verdicts of its candidates could never be spoken afterwards.

    Raises:
        UsageError: One is.
    """
    closed = len(history.closed_rounds)
    run, resume = history.record.run_id, command_on(history.store.path, "resume")
    if not closed:
        raise UsageError(
            f"the baselines of run {run} have not all been evaluated, so the best one is not known",
            hint=f"`{resume}` evaluates them",
        )
    if any(iteration.proposal.round >= closed for iteration in history):
        raise UsageError(f"round {closed} of run {run} has not ended", hint=f"`{resume}` ends it")


def recorded_result(path: Path) -> SealedResult | None:
    """The result of a run; None while there is none. Writes what a process killed right after it has left unwritten."""
    reader = RunStore.open(path, record=False)
    result = read_result(reader)
    if result is not None and not any(reader.events("finished")):
        try:
            with RunStore.open(path, record=True) as store:
                history = History(store)
                _tell_result(history, read_ledger(history), result)
        except RunLockedError:
            return result  # whoever has just written it is about to write the rest
    return result


def _tell_result(history: History, ledger: Ledger, result: SealedResult) -> None:
    """What follows from a result: the derived files, and last the event that says that they are there."""
    write_derived(history, ledger, run_status(history))
    history.store.event("finished", **result.model_dump(mode="json", include={"look", "verdict", "delta", "p"}))
