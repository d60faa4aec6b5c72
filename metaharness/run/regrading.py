"""`regrade`: the stored answers of a run under the evaluator as it is now, in a fork of it.

The judge alone is asked; no candidate code runs, and no target model answers. The fork holds the same candidates under
the same numbers; of their traces the lines that count, each with one grade more; scores, rounds and verdicts are made
anew. Calls of the source were paid for there: in the traces of the fork they are `cached`, and its journal holds those
of its own judge alone. Killed at any moment it goes on: what has a grade is not graded again.

Not guarded: a source that is recorded again while it is being graded; `resume` refuses to, as its domain has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from metaharness.configuration import Budget, RunConfig, RunRecord
from metaharness.errors import IncompleteError, UsageError
from metaharness.evaluation.grading import Grader
from metaharness.evaluation.regrading import JUDGE, inherited, regraded, was_answered
from metaharness.evaluation.session import Doors
from metaharness.gateway import Gateway
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import Provider
from metaharness.history import History
from metaharness.messages import ModelSpec
from metaharness.records import MISSING, CaseTrace, EvaluationPlan, Role, Spent, now
from metaharness.run.evaluating import Pair, Tally, make_score, why_missing
from metaharness.run.ground import Ground, hashes, prepare, record_factory
from metaharness.run.recording import Owning, bounds_now, closed_on_error, recorded_seconds, with_raised
from metaharness.run.regradable import (
    BY,
    REGRADED,
    check_cases,
    check_changed,
    open_source,
    regrade_command,
    unfinished_fork,
)
from metaharness.run.rounds import closed_round, round_facts, spoken
from metaharness.run.summaries import evaluated, evaluated_pairs, proposed, write_derived
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import RunStore, load_record
from metaharness.ungroup import ungrouped

Listener = Callable[[str, Mapping[str, Any]], None]
ATTEMPTS = 2
"""How often a judge that gives no answer is asked in one session."""


class Regrading(Owning):
    """A fork of a run whose answers are being graded. Made by `open`; a context manager."""

    def __init__(
        self,
        source: History,
        store: RunStore,
        config: RunConfig,
        ground: Ground,
        ledger: Ledger,
        *,
        providers: Mapping[Role, Provider] | None,
    ) -> None:
        self.source = source
        self.store = store
        self.config = config
        self.ledger = ledger
        self.listener: Listener = lambda _kind, _fields: None
        """Told `grading` and `graded` with their fields; for a display of progress."""
        self.stopping = False
        self._ground = ground
        self._providers = providers
        self._accepted = _accepted(source.store)
        self._told = set(_accepted(store))
        """Those that the fork has been told of."""
        self._ungraded: dict[tuple[int, Pair], str] = {}
        """Answers of which this session has no grade, and why."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        name: str | None = None,
        judge: ModelSpec | None = None,
        prices: Mapping[str, tuple[float, float]] | None = None,
        raised: Budget | None = None,
        force: bool = False,
        providers: Mapping[Role, Provider] | None = None,
    ) -> Self:
        """Fork a run to grade it anew, or go on with the fork that was begun in the same way.

        Args:
            path: The directory of the run; the fork lies beside it.
            name: The id of the fork; None takes the time, or goes on with any that was begun.
            judge: The model that evaluators ask; None keeps that of the run.
            prices: Further prices, as in `RunConfig`.
            raised: Upper bounds that replace those of the run; calls, tokens and dollars of a fork count from 0.
            force: Whether to grade although nothing has changed.
            providers: Models to use instead of those the configuration names, by role.

        Raises:
            UsageError: Nothing has changed, or the run has no score.
            DomainError: The cases are not those that were answered.
            MetaharnessError: The run is being recorded or is damaged, or the domain cannot be used.
        """
        source = open_source(path)
        config = _config(source, judge)
        ground = prepare(config)  # with the judge that is asked: a script of its answers is no part of the domain
        current = hashes(ground)
        check_cases(source, ground, current)
        begun = unfinished_fork(path.parent, name, source.record, judge, current)
        if begun is not None:
            config = load_record(begun).config
            bounds = bounds_now(RunStore.open(begun, record=False))
            _check_prices(begun, config, prices or {})
        else:
            config = config.model_copy(update={"prices": {**config.prices, **(prices or {})}})
            bounds = config.budget
            check_changed(source, config, current, force=force)
        ledger = Ledger(with_raised(bounds, raised), PriceTable(config.prices))
        ledger.check_prices(config.models.values())  # of all: the fork can be resumed
        store = _create(source, config, ground, name) if begun is None else _reopen(begun, ground, ledger)
        with closed_on_error(store):
            return cls(source, store, config, ground, ledger, providers=providers)._begun()

    @property
    def spent(self) -> Spent:
        """A reading of the ledger: candidates and case evaluations of the source, calls of the fork."""
        return self.ledger.spent

    def stop(self) -> None:
        """Start nothing new. What is in the air ends and is written."""
        self.stopping = True

    async def run(self, *, accept_missing: bool = False) -> History | None:
        """Grade what has no grade yet, then speak scores and verdicts. The fork, or None when a stop came between.

        Args:
            accept_missing: End although answers could not be graded; they are then missing, as in any evaluation.

        Raises:
            IncompleteError: Answers could not be graded. The fork can be gone on with.
            ConfigurationError: The judge cannot be used as configured.
        """
        models = {role: spec for role, spec in self.config.models.items() if role == JUDGE}
        gateway = Gateway(
            models,
            journal=self.store.journal,
            ledger=self.ledger,
            prices=PriceTable(self.config.prices),
            concurrency=self.config.concurrency,
            redact=self._ground.redact,
            providers=self._providers,
        )
        try:
            gateway.open()
            for iteration in self.source:
                await self._carry(iteration, Doors(gateway))
                if self.stopping:
                    return None
        finally:
            await gateway.aclose()
        if self._ungraded and not accept_missing:
            raise self._incomplete()
        return self._end()

    # -- grading -------------------------------------------------------------------------------------------------

    def _begun(self) -> Self:
        """The fork with its first facts written and its ledger filled; a second session adds that it was opened."""
        source = self.source
        self.ledger.restore(
            (),
            candidates=proposed(source),
            case_evaluations=evaluated_pairs(source),
            seconds=recorded_seconds(History(self.store)),
        )
        if not any(self.store.events("created")):
            self.store.event("created", run=self.store.record.run_id, forked_from=source.record.run_id, by=BY)
        self.store.event("opened", budget=self.ledger.limits.model_dump(exclude_none=True))
        return self

    async def _carry(self, iteration: Iteration, doors: Doors) -> None:
        """Make one candidate of the source one of the fork, with every answer graded that can be."""
        number, source = iteration.number, self.source.store
        if number >= self.store.next_number():
            self.store.adopt(source, number)
        if number in self._accepted and number not in self._told:
            self.store.event("accepted", iteration=number, order_dependent=self._accepted[number])
        carried = sum(1 for _ in self.store.learn_traces(number))
        for trace in islice(source.learn_traces(number), carried, None):
            self.store.append_trace(number, inherited(trace))
        grader = Grader(self._ground.domain, self._plan(number), doors)
        for attempt in range(ATTEMPTS):
            if attempt and (self.stopping or self.ledger.exhausted or not self._unanswered(number)):
                return
            await self._grade(iteration, grader)

    async def _grade(self, iteration: Iteration, grader: Grader) -> None:
        """Every line of a candidate that counts and is not in the fork yet."""
        done = {pair for pair, left in self.store.measure_traces(iteration.number, _is_left).items() if not left}
        self.listener("grading", {"iteration": iteration.number, "name": iteration.proposal.name})
        send, receive = anyio.create_memory_object_stream[CaseTrace](0)
        with ungrouped():
            async with anyio.create_task_group() as group, send, receive:
                for _ in range(self.config.concurrency):
                    group.start_soon(self._grade_from, receive.clone(), iteration, grader)
                for trace in self._counting(iteration.number):
                    if self.stopping:
                        break
                    if (trace.case_id, trace.trial) not in done:
                        await send.send(trace)

    async def _grade_from(
        self, receive: MemoryObjectReceiveStream[CaseTrace], iteration: Iteration, grader: Grader
    ) -> None:
        async with receive:
            async for trace in receive:
                gradable = iteration.rejection is None and was_answered(trace)
                case = self._ground.cases[trace.case_id]
                kept = await regraded(trace, case, grader) if gradable else inherited(trace)
                self.store.append_trace(iteration.number, kept)
                whose = (iteration.number, (kept.case_id, kept.trial))
                self._ungraded.pop(whose, None)
                if gradable and kept.status in MISSING:
                    self._ungraded[whose] = why_missing(kept)
                self.listener("graded", {"iteration": iteration.number, "status": kept.status})

    def _counting(self, number: int) -> Iterator[CaseTrace]:
        """The attempt of the source that counts for each pair; one trace is in memory at a time."""
        store = self.source.store
        attempts = Counter((trace.case_id, trace.trial) for trace in store.traces(number))
        for trace in store.traces(number):
            pair = trace.case_id, trace.trial
            attempts[pair] -= 1
            if not attempts[pair]:
                yield trace

    def _unanswered(self, number: int) -> bool:
        """Whether a judge has given no answer about a candidate, and may give one now."""
        if not any(whose == number for whose, _ in self._ungraded):
            return False
        traces = self.store.measure_traces(number, _judge_failed)
        return any(failed and (number, pair) in self._ungraded for pair, failed in traces.items())

    def _plan(self, number: int) -> EvaluationPlan:
        """Whose the judge's calls are."""
        return EvaluationPlan(
            candidate_path=str(self.store.candidate_path(number)),
            candidate_hash=self.store.proposal(number).candidate_hash,
            pairs=(),
            split=self._ground.split.value,
            models=self.config.models,
            limits=self._ground.domain.limits,
            seed=self.config.seed,
            iteration=number,
            concurrency=self.config.concurrency,
        )

    def _incomplete(self) -> IncompleteError:
        count, total = len(self._ungraded), sum(evaluated(self.source, iteration) for iteration in self.source)
        bound = self.ledger.exhausted
        more = "" if bound is None else f" --budget-{bound} N"
        why = next((why for why in self._ungraded.values() if why), "no reason was recorded")
        return IncompleteError(
            f"{count:,} of {total:,} stored answers could not be graded: {why}",
            hint=f"`{regrade_command(self.store)}{more}` grades them again; mend the evaluator where it is at "
            "fault; --accept-missing ends it with bounds; --force --name NEW also asks a judge anew that has answered",
        )

    # -- scores, rounds, verdicts --------------------------------------------------------------------------------

    def _end(self) -> History:
        """Scores of all that have one in the source, then its rounds in order, each against its own snapshot."""
        history = History(self.store)
        for iteration in self.source:
            if iteration.score is not None and iteration.rejection is None:
                self._score(history, iteration)
        for told in self.source.closed_rounds[len(history.closed_rounds) :]:
            before = history.closed_rounds[-1].incumbent_after if history.closed_rounds else None
            members = [iteration for iteration in history if iteration.proposal.round == told.number]
            standing = None if before is None else history.iteration(before)
            closed = closed_round(told.number, standing, members, history.objectives)
            closed = replace(closed, by_hand=told.by_hand, inherited=told.inherited, places=told.places)
            verdicts = [spoken(history, closed, iteration) for iteration in members]
            self.store.event("round_closed", **round_facts(closed, verdicts))
            history.close_round(closed)
            for verdict in verdicts:
                history.put(verdict.iteration, verdict=verdict)
        reason = f"the answers of {self.source.record.run_id} were graded anew"
        write_derived(history, self.ledger, reason)
        self.store.event("ended", reason=reason)
        self.store.event(REGRADED, source=self.source.record.run_id, missing=len(self._ungraded))
        return history

    def _score(self, history: History, iteration: Iteration) -> None:
        number, old = iteration.number, iteration.score
        assert old is not None
        score = self.store.current_score(number)
        if score is None:
            tally = Tally(history.objectives, self._ground.pairs(self.config.trials), now(), old.order_dependent)
            tally.rows = self.store.measure_traces(number, tally.measured)
            for trace in self.store.learn_traces(number):
                tally.take(trace)
            if not tally.whole:
                return
            made = make_score(
                tally,
                files=partial(self.store.files, number),
                iteration=number,
                split=old.split,
                sandbox=old.sandbox,
                model=old.model,
                trials=old.trials,
                spent=self.spent,
            )
            score = self.store.write_score(number, made)
        history.put(number, score=score)


def _check_prices(begun: Path, config: RunConfig, prices: Mapping[str, tuple[float, float]]) -> None:
    """Make sure that a fork goes on with the prices it was begun with: it can be opened with no others.

    Raises:
        UsageError: Others were given.
    """
    if any(config.prices.get(model) != price for model, price in prices.items()):
        raise UsageError(
            f"run {begun.name} was begun with other prices", hint="leave --price out, or begin another with --name NEW"
        )


def _config(source: History, judge: ModelSpec | None) -> RunConfig:
    """That of the source, with its bounds as they were raised, and another judge where one was given."""
    config = source.record.config
    models = config.models if judge is None else {**config.models, "judge": judge}
    return config.model_copy(update={"models": models, "budget": bounds_now(source.store)})


def _create(source: History, config: RunConfig, ground: Ground, name: str | None) -> RunStore:
    factory = record_factory(config, ground)

    def record(run_id: str) -> RunRecord:
        kept = {name: getattr(source.record, name) for name in ("note", "openings", "memory_used")}
        return factory(run_id).model_copy(update={"forked_from": source.record.run_id, **kept})

    return RunStore.create(source.store.path.parent, record, name=name, redact=ground.redact)


def _reopen(path: Path, ground: Ground, ledger: Ledger) -> RunStore:
    """A fork that was begun, with what it has spent in the ledger."""
    return RunStore.open(
        path,
        record=True,
        redact=ground.redact,
        on_entry=lambda entry: ledger.restore([(entry.attribution.role, entry.call)]),
    )


def _accepted(store: RunStore) -> dict[int, bool]:
    """Candidates that came up the ladder, and whether the order of the cases matters to them."""
    facts = (event.model_dump() for event in store.events("accepted"))
    return {fact["iteration"]: fact["order_dependent"] for fact in facts}


def _is_left(trace: CaseTrace) -> bool:
    """Whether a line of the fork still has to be graded: it was answered, and its evaluator has failed."""
    return trace.status in MISSING and was_answered(trace)


def _judge_failed(trace: CaseTrace) -> bool:
    return any(call.door == JUDGE and call.response is None for call in trace.calls)
