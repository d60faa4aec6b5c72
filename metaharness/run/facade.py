"""The facade: open, submit, evaluate, close a round. Everything that is written about a run goes through here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from metaharness.configuration import Budget, RunConfig, RunRecord
from metaharness.errors import UsageError
from metaharness.evaluation.runner import CaseRunner
from metaharness.gateway.budget import Bound, Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import Provider, open_providers
from metaharness.history import History
from metaharness.holdout import require_sealed
from metaharness.memory import memory_facts
from metaharness.records import CaseTrace, Proposal, Role, Spent
from metaharness.run.beside import ALONE, Beside
from metaharness.run.bounds import Warnings
from metaharness.run.evaluating import Evaluating
from metaharness.run.ground import Ground, check_start, prepare
from metaharness.run.machinery import Machinery
from metaharness.run.partial import PartialEvaluation, PartialEvaluations, Source
from metaharness.run.recorder import Recorder
from metaharness.run.recording import closed_on_error, config_now, new_store, open_recording
from metaharness.run.reserve import Reserve
from metaharness.run.rounds import Round, Rounds, check_answered, check_baselines, round_facts
from metaharness.run.summaries import Derived, charged_pairs, evaluated, restore
from metaharness.run.tampering import Watch
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore
from metaharness.ungroup import ungrouped

R = TypeVar("R", Round, Round | None)

Listener = Callable[[str, Mapping[str, Any]], None]


class Run:
    """A run that this process records. Made by `create` or `open`; an async context manager."""

    def __init__(
        self,
        store: RunStore,
        ground: Ground,
        ledger: Ledger,
        *,
        runner: CaseRunner | None,
        providers: Mapping[Role, Provider] | None,
        config: RunConfig | None = None,
        beside: Beside = ALONE,
    ) -> None:
        config = config or store.record.config
        self.store = store
        self.config = config
        self.domain = ground.domain
        self.history = History(store)
        self.ledger = ledger
        self.listener: Listener = lambda _kind, _fields: None
        """Told every event as it is recorded; for a display of progress."""
        self._derived = Derived(self.history, ledger)
        self._round: Round | None = None
        self._taken: set[int] = set()
        means: Any = {"runner": runner, "providers": providers, "limiter": beside.limiter}
        self.machinery = machinery = Machinery(config, ground, store.journal, ledger, **means)
        self.sandbox_told = machinery.sandbox_told
        runs_on = (machinery.runner, machinery.doors)
        evaluating = Evaluating(store, store, config, ground, *runs_on, ledger, self._case_ended)
        self.recorder = Recorder(store, self.history, evaluating, self.note)
        self._rounds = Rounds(self.history, config, ledger, ground.domain, self.recorder.pairs_per_candidate)
        self._warnings = Warnings(ledger, store, self.note)
        self._reserve = Reserve(self.history, ground.domain, ledger, self.note)
        self._watch = Watch(store, self.history, ground, self.note)
        self.partial = PartialEvaluations(self.recorder, self._watch.look, self._warnings.check)

    # -- opening and closing -------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        config: RunConfig,
        root: Path,
        *,
        name: str | None = None,
        runner: CaseRunner | None = None,
        providers: Mapping[Role, Provider] | None = None,
        beside: Beside = ALONE,
    ) -> Self:
        """Begin a run in a directory of its own below `root`.

        Args:
            config: Everything that was chosen.
            root: The folder of all runs.
            name: The id of the run; None takes the time.
            runner: Evaluates cases; None takes workers on this machine.
            providers: Models to use instead of those the configuration names, by role.
            beside: What it has in common with other runs of this process.

        Raises:
            MetaharnessError: The domain, a model or the directory cannot be used. No directory is left behind.
        """
        ground = prepare(config)
        check_start(config, ground)
        ledger = Ledger(config.budget, PriceTable(config.prices), within=beside.ledger)
        ledger.check_models(config.models)
        providers = providers or open_providers(config.models)
        store = new_store(config, ground, root, name)
        with closed_on_error(store):
            run = cls(store, ground, ledger, runner=runner, providers=providers, beside=beside)
            run.note("created", run=store.record.run_id, **memory_facts(store.record))
            run._reserve.keep()
        return run

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        raised: Budget | None = None,
        changes: Mapping[str, int] | None = None,
        runner: CaseRunner | None = None,
        providers: Mapping[Role, Provider] | None = None,
        cache: bool | str | None = None,
    ) -> Self:
        """Go on recording a run that was interrupted or has ended.

        Args:
            path: Its directory.
            raised: Upper bounds that replace those the run has, from now on; None in a field keeps one.
            changes: When the search ends, from now on: `iterations`, `patience`, `max_failed_rounds`.
            runner: As in `create`.
            providers: As in `create`.
            cache: The shared cache to use this time, as in `RunConfig`; None: that of the run.

        Raises:
            MetaharnessError: It is recorded by another process, is damaged, or its domain has changed.
        """
        recording = open_recording(path, raised, providers)
        store, ground, ledger = recording.store, recording.ground, recording.ledger
        with closed_on_error(store):
            require_sealed(store)
            config = config_now(store, changes, cache)
            run = cls(store, ground, ledger, runner=runner, providers=recording.providers, config=config)
            restore(ledger, run.history, charged_pairs(run.history, run.pairs_per_candidate))
            run.rebuild_summaries()
            run.note("opened", budget=ledger.limits.model_dump(exclude_defaults=True), changes=dict(changes or {}))
            run._reserve.keep()
        return run

    async def __aenter__(self) -> Self:
        await self.machinery.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.machinery.__aexit__(kind, error, traceback)
        finally:
            self.store.close()

    @property
    def record(self) -> RunRecord:
        """The run's configuration as it is on disk."""
        return self.store.record

    @property
    def spent(self) -> Spent:
        """A reading of the ledger."""
        return self.ledger.spent

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self.machinery.stopping

    def stop(self) -> None:
        """Start nothing new. What is in the air ends and is written; a proposer that is writing is ended."""
        self.machinery.stop()

    @property
    def unfinished(self) -> bool:
        """Whether something was begun that `resume` would end: a round, or candidates with missing pairs."""
        return self._rounds.in_progress or bool(self._rounds.left_over())

    @property
    def all_proposed(self) -> bool:
        """Whether as many candidates were proposed as the configuration asks for."""
        return self._rounds.all_proposed

    @property
    def of_agent(self) -> bool:
        """Whether the candidates of the search itself are handed in from outside."""
        return self._rounds.of_agent

    @property
    def spent_bound(self) -> Bound | None:
        """The bound of the budget that keeps the search from going on; None when none does."""
        return self._rounds.spent_bound()

    @property
    def pairs_per_candidate(self) -> int:
        """How many pairs of case and trial one candidate is evaluated on."""
        return self.recorder.pairs_per_candidate

    # -- rounds --------------------------------------------------------------------------------------------------

    async def reopen(self, only: Collection[int] | None = None) -> None:
        """Ask the missing pairs of closed rounds again, and speak the verdicts of those anew.

        Args:
            only: The numbers of the iterations to do that for; None: all.
        """
        missing = [iteration for iteration in self._rounds.left_over() if only is None or iteration.number in only]
        for iteration in missing:
            if self.stopping or not self._rounds.calls_left:
                break
            changed = await self.evaluate(iteration)
            self._watch.look([iteration])
            if changed.score is not iteration.score:
                verdict = self._rounds.verdict_again(changed)
                self.note("verdict", **verdict.model_dump())
                self.history.put(changed.number, verdict=verdict)
            self._watch.keep([changed])
        if missing:
            self.rebuild_summaries()

    def next_round(self) -> Round | None:
        """The round to work on: the interrupted one, or a new one. None when the search is over or was stopped.

        Raises:
            DomainError: A baseline did not pass the ladder.
            IncompleteError: No case of any baseline has a value: the model or the evaluator does not answer.
        """
        if self.stopping:
            return None
        if self.history.closed_rounds:
            check_answered(self.history)
        return self._begin(self._rounds.next())

    def why_over(self) -> str | None:
        """Why no further round begins; None while one may."""
        return self._rounds.why_over()

    async def submit(self, proposal: Proposal, *, by_hand: bool = False) -> Iteration:
        """Record a candidate and send it up the ladder. What the ladder rejects is recorded too.

        Args:
            proposal: The candidate.
            by_hand: Whether it comes from outside the search; `hand_in` passes this.

        Raises:
            UsageError: The round has no open slot.
            DomainError: It is a baseline, and does not pass the ladder.
        """
        round_ = self._round
        slots = [slot for slot in round_.open_slots if slot not in self._taken] if round_ is not None else []
        if round_ is None or not slots:
            raise UsageError("this round takes no further candidate", hint="close it and begin the next round")
        self._taken.add(slots[0])
        if round_.number > 0 and not by_hand:
            self.ledger.charge_candidate()
        self.ledger.charge_case_evaluations(self.recorder.pairs_per_candidate)
        found = self.recorder.admit(proposal.files, baseline=round_.number == 0)
        parents = proposal.parents or ((round_.parent.number,) if round_.parent is not None else ())
        record = self.store.add_iteration(
            replace(proposal, files=found.files, parents=parents),
            round=round_.number,
            slot=slots[0],
            by_hand=by_hand,
            flags=found.flags,
        )
        number = record.iteration
        self.history.add(Iteration(record))
        self.note("submitted", iteration=number, name=record.name, round=round_.number)
        self._warnings.check()
        if found.rejection is not None:
            return self._after_ladder(self.recorder.reject(number, found.rejection))
        with ungrouped():
            return self._after_ladder(await self.recorder.climb(number))

    async def hand_in(self, proposal: Proposal) -> Iteration:
        """Record a candidate from outside, in a round of its own, and send it up the ladder; `end_round` evaluates it.

        Raises:
            UsageError: A round was begun and is not closed, a parent does not exist, or the budget does not allow
                another candidate. None was recorded.
            IncompleteError: No case of any baseline has a value, and the candidates of the search come from outside.
        """
        self._reserve.keep(by_hand=True)
        for parent in proposal.parents:
            self.history.iteration(parent)
        round_ = self._begin(self._rounds.outside())
        iteration = await self.submit(proposal, by_hand=not self._rounds.of_agent)
        if iteration.rejection is not None:
            self.close_round(round_)
        return self.history.iteration(iteration.number)

    def round_in_progress(self) -> Round | None:
        """The round that was begun and is not closed, round 0 before it was begun; None when there is none.

        Raises DomainError where a baseline did not pass the ladder.
        """
        begun = self._rounds.in_progress or not self.history.closed_rounds
        return self._begin(self._rounds.next()) if begun else None

    async def evaluate(self, iteration: Iteration) -> Iteration:
        """Evaluate what is left of a candidate, and score it once every planned pair has been evaluated.

        Returns the iteration as it stands then; without a score when a stop came between.

        Raises:
            DomainError: It is a baseline, and does not pass the ladder.
        """
        if iteration.rejection is not None:
            return iteration
        with ungrouped():
            changed = self._after_ladder(await self.recorder.evaluate(iteration))
        self._reserve.keep()
        return changed

    async def evaluate_cases(self, source: Source, case_ids: Sequence[str], *, trial: int = 0) -> PartialEvaluation:
        """Evaluate a candidate on some `search` cases: no iteration, but budget; another `trial` asks anew.

        What the ladder stops is returned, rejected. `run.threads` has the same for threads.

        Raises:
            UsageError: There is no such case, or a bound of the budget is spent.
            DomainError: The domain has changed.
        """
        return await self.partial.evaluate(source, case_ids, trial=trial)

    def close_round(self, round_: Round) -> bool:
        """Speak the verdicts of a round, in iteration order, against its snapshot.

        Returns False, and changes nothing, while a candidate of the round is not evaluated, or when a stop kept its
        slots from being filled: `resume` ends such a round.

        Raises:
            DomainError: The domain has changed; what was evaluated in this round is not accepted.
            CorruptRecordError: An iteration is not what was recorded.
        """
        self._watch.look(self._rounds.members(round_.number))
        cut_short = self.stopping and len(self._taken) < len(round_.open_slots)
        outcome = None if cut_short else self._rounds.close(round_)
        if outcome is None:
            return False
        closed, verdicts = outcome
        self.note("round_closed", **round_facts(closed, verdicts))
        self.history.close_round(closed)
        self._reserve.keep()
        for verdict in verdicts:
            changed = self.history.put(verdict.iteration, verdict=verdict)
            self._derived.add(changed)
        self._watch.keep(self._rounds.members(closed.number))
        self._derived.write()
        return True

    def fail_proposer(self, error: Exception) -> None:
        """The proposer of this round failed; the round ends with what it has handed in."""
        number = self._round.number if self._round is not None else None
        self.note("proposer_failed", round=number, error=f"{type(error).__name__}: {error}"[:2000])

    def end(self, reason: str) -> None:
        """The search is over, or was stopped."""
        self.note("ended", reason=reason)
        self._derived.write(reason)

    def rebuild_summaries(self) -> None:
        """Write every derived file anew from what is recorded."""
        self._derived.rebuild()

    # -- inside --------------------------------------------------------------------------------------------------

    def note(self, kind: str, /, **fields: Any) -> None:
        """Record a fact, and tell the listener."""
        self.store.event(kind, **fields)
        self.listener(kind, fields)

    def _case_ended(self, number: int, trace: CaseTrace) -> None:
        self.note("case_ended", iteration=number, case_id=trace.case_id, trial=trace.trial, status=trace.status)
        self._warnings.check()

    def _begin(self, round_: R) -> R:
        self._watch.look()
        self._round, self._taken = round_, set()
        return round_

    def _after_ladder(self, iteration: Iteration) -> Iteration:
        """Give back what was counted for a candidate that has just been rejected; a baseline ends the run."""
        if iteration.rejection is not None:
            unused = self.recorder.pairs_per_candidate - evaluated(self.history, iteration)
            self.ledger.refund_case_evaluations(unused)
            if iteration.is_baseline:
                check_baselines(self.history, self._rounds.baselines)
        return iteration
