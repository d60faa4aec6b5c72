"""When a round begins, when the search is over, and what is said at a round's end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from metaharness.configuration import AGENT, RunConfig
from metaharness.domain import Domain
from metaharness.errors import DomainError, IncompleteError, UsageError
from metaharness.gateway.budget import BOUND_NAMES, Bound, Ledger
from metaharness.history import ClosedRound, History
from metaharness.records import ObjectiveRecord, VerdictRecord
from metaharness.run.bounds import amount
from metaharness.run.evaluating import why_missing
from metaharness.run.spent import spent_call_bound, why_spent_beside
from metaharness.scoring.scoreboard import Iteration, incumbent
from metaharness.scoring.verdicts import judge
from metaharness.store import command_on

WAITING = "it waits for candidates from outside"


@dataclass(frozen=True)
class Round:
    """A snapshot of the run, in which a proposer may write candidates."""

    number: int
    """0 holds the baselines."""
    turn: int
    """How many rounds were the proposer's before this one, those that a fork has inherited included."""
    place: int
    """The place in a script that the first slot of this round has: as many places come before it."""
    incumbent: Iteration | None
    """What verdicts of this round are spoken against; None before the baselines are scored."""
    parent: Iteration | None
    """What its candidates are made from where a proposer does not say it: the incumbent; the best baseline with the
    strategy `best-of-n`."""
    width: int
    """How many candidates a round of this run has when nothing cuts it short."""
    open_slots: tuple[int, ...]
    """Places that have no candidate yet; fewer than usual in a round that was interrupted."""
    unfinished: tuple[Iteration, ...]
    """Candidates of an interrupted round, still to be evaluated."""
    history: History
    """As its proposer may see it."""
    domain: Domain


@dataclass
class Rounds:
    """The rounds of one run."""

    history: History
    config: RunConfig
    ledger: Ledger
    domain: Domain
    pairs_per_candidate: int

    def __post_init__(self) -> None:
        self.baselines = len(self.domain.baselines())

    def next(self) -> Round | None:
        """The interrupted round, or a new one; None when the search is over.

        Raises:
            DomainError: A baseline did not pass the ladder.
        """
        check_baselines(self.history, self.baselines)
        number = len(self.history.closed_rounds)
        present = self.members(number)
        if not present and self.why_over() is not None:
            return None
        if number == 0:
            return self._round(number, self.baselines, present)
        return self._round(number, len(present) if _by_hand(present) else self._width(len(present)), present)

    @property
    def of_agent(self) -> bool:
        """Whether the candidates of the search itself are handed in from outside."""
        return self.config.proposer == AGENT

    def outside(self) -> Round:
        """A round of one slot for a candidate from outside; beside the search, where that has a proposer of its own.

        Raises:
            UsageError: A round was begun and is not closed, the search of an agent is over, or the budget does not
                allow another evaluation.
            IncompleteError: No case of any baseline of an agent's run has a value.
        """
        number = len(self.history.closed_rounds)
        if number == 0 or self.in_progress:
            raise UsageError(
                f"round {number} of this run has not ended",
                hint=f"`{command_on(self.history.store.path, 'resume')}` ends it; then submit again",
            )
        if self.of_agent:
            check_answered(self.history)
        bound = self._spent_evaluating_bound()
        beside = why_spent_beside(self.ledger, self.history, evaluating=True)
        over = self._why_ended() if self.of_agent else self._why_unaffordable(bound) or beside
        if over is not None:
            raise UsageError(
                f"{over}, so none can be handed in",
                hint="a person may raise it, where it is a budget: `metaharness submit --help` names the option",
            )
        return self._round(number, 1, [])

    def _round(self, number: int, width: int, present: Sequence[Iteration]) -> Round:
        taken = {iteration.proposal.slot for iteration in present}
        seen = self.history.seen_by("")
        return Round(
            number=number,
            turn=max(0, number - 1 - self.history.by_hand),
            place=places_before(self.history),
            incumbent=self.history.incumbent(),
            parent=seen.incumbent(),
            width=self.config.candidates_per_round,
            open_slots=tuple(slot for slot in range(width) if slot not in taken),
            unfinished=tuple(iteration for iteration in present if iteration.unfinished),
            history=seen,
            domain=self.domain,
        )

    @property
    def all_proposed(self) -> bool:
        """Whether as many candidates were proposed as the configuration asks for."""
        return bool(self.history.closed_rounds) and self._proposed >= self.config.iterations

    def members(self, number: int) -> list[Iteration]:
        """The candidates of the newest round, without walking the whole history; none when it has another number."""
        newest = takewhile(lambda iteration: iteration.proposal.round == number, reversed(self.history.iterations))
        return list(newest)[::-1]

    def left_over(self) -> list[Iteration]:
        """The candidates of closed rounds of which not every pair has been evaluated."""
        closed = len(self.history.closed_rounds)
        return [one for one in self.history if one.unfinished and one.proposal.round < closed]

    @property
    def in_progress(self) -> bool:
        """Whether a round was begun and is not closed."""
        return bool(self.members(len(self.history.closed_rounds)))

    def why_over(self) -> str | None:
        """Why no further round begins by itself; None while one may."""
        if not self.history.closed_rounds:
            return None
        return self._why_ended() or (WAITING if self.of_agent else None)

    def _why_ended(self) -> str | None:
        config, rounds = self.config, self._own_rounds()
        if self.all_proposed:
            return _all_proposed(config.iterations)
        if config.patience is not None and self._without_gain() >= config.patience:
            return f"{_in_a_row(config.patience)} brought no new incumbent"
        own = [closed for closed in rounds if not closed.by_hand]
        failed = next((count for count, closed in enumerate(reversed(own)) if closed.proposals), len(own))
        if failed >= config.max_failed_rounds:
            return f"the proposer handed in nothing in {_in_a_row(failed)}"
        return self._why_unaffordable(self.spent_bound()) or why_spent_beside(self.ledger, self.history)

    def _why_unaffordable(self, bound: Bound | None) -> str | None:
        if bound is None:
            return None
        name, kept = BOUND_NAMES[bound], self.ledger.kept_back(bound)
        but = f" ({amount(bound, kept)} are kept for finish)" if kept else ""
        if self.ledger.remaining(bound) == 0:
            return f"the budget of {name} is spent{but}"
        return f"what is left of the budget of {name} does not reach another candidate{but}"

    def spent_bound(self) -> Bound | None:
        """The bound that allows no further candidate; None when all do."""
        if self.ledger.remaining("candidates") == 0:
            return "candidates"
        return self._spent_evaluating_bound()

    def _spent_evaluating_bound(self) -> Bound | None:
        """The bound that allows no further evaluation; None when all do."""
        return spent_call_bound(self.ledger, self.history) or ("case_evaluations" if self._affordable() == 0 else None)

    def close(self, round_: Round) -> tuple[ClosedRound, list[VerdictRecord]] | None:
        """The end of a round: verdicts in iteration order, against its snapshot. None while one is pending."""
        members = self.members(round_.number)
        if any(iteration.state == "pending" for iteration in members):
            return None
        closed = closed_round(round_.number, round_.incumbent, members, self.history.objectives)
        return closed, [spoken(self.history, closed, iteration) for iteration in members]

    def verdict_again(self, iteration: Iteration) -> VerdictRecord:
        """The verdict of a candidate whose missing pairs were filled, against the incumbent of its own round."""
        return spoken(self.history, self.history.closed_rounds[iteration.proposal.round], iteration)

    @property
    def calls_left(self) -> bool:
        """Whether the budget allows another model call."""
        beside = why_spent_beside(self.ledger, self.history, evaluating=True)
        return spent_call_bound(self.ledger, self.history) is None and beside is None

    @property
    def _proposed(self) -> int:
        rounds = self.history.closed_rounds
        if not rounds:
            return 0
        return len(self.history) - rounds[0].proposals - self.history.by_hand - self.history.inherited

    def _width(self, present: int) -> int:
        """How many slots the round has: so many as are wanted, allowed and paid for."""
        bounds: Sequence[float | None] = (
            self.config.iterations - self._proposed,
            self.ledger.remaining("candidates"),
            self._affordable(),
        )
        left = min(int(bound) for bound in bounds if bound is not None)
        return min(self.config.candidates_per_round, present + left)

    def _affordable(self) -> int | None:
        left = self.ledger.remaining("case_evaluations")
        return None if left is None else int(left) // self.pairs_per_candidate

    def _own_rounds(self) -> list[ClosedRound]:
        """The closed rounds of this run's own search: neither baselines nor what a fork has inherited."""
        return [closed for closed in self.history.closed_rounds[1:] if not closed.inherited]

    def _without_gain(self) -> int:
        without = 0
        for closed in reversed(self._own_rounds()):
            if closed.by_hand:
                continue
            if closed.incumbent_after != closed.incumbent_before:
                break
            without += 1
        return without


def places_before(history: History) -> int:
    """How many places of a script were taken by the closed rounds of a run."""
    width = history.record.config.candidates_per_round
    rounds = (closed for closed in history.closed_rounds[1:] if not closed.by_hand)
    return sum(closed.places if closed.inherited else width for closed in rounds)


def closed_round(
    number: int, before: Iteration | None, members: Sequence[Iteration], objectives: Sequence[ObjectiveRecord]
) -> ClosedRound:
    """The end of a round whose candidates have all been evaluated.

    Args:
        number: Its number.
        before: The incumbent of its snapshot.
        members: Its candidates in order.
        objectives: Of the run.
    """
    best = incumbent([*([before] if before is not None else []), *members], objectives)
    return ClosedRound(
        number,
        proposals=len(members),
        incumbent_before=before.number if before is not None else None,
        incumbent_after=best.number if best is not None else None,
        by_hand=_by_hand(members),
    )


def round_facts(closed: ClosedRound, verdicts: Sequence[VerdictRecord]) -> dict[str, Any]:
    """The fields of the event `round_closed`."""
    return {
        "round": closed.number,
        "proposals": closed.proposals,
        "incumbent_before": closed.incumbent_before,
        "incumbent_after": closed.incumbent_after,
        "by_hand": closed.by_hand,
        **({"inherited": True, "places": closed.places} if closed.inherited else {}),
        "verdicts": [verdict.model_dump() for verdict in verdicts],
    }


def spoken(history: History, closed: ClosedRound, iteration: Iteration) -> VerdictRecord:
    """The verdict of a candidate against the incumbent of its round."""
    number, against = iteration.number, closed.incumbent_before
    if iteration.rejection is not None:
        return VerdictRecord(iteration=number, round=closed.number, incumbent=against, verdict="rejected")
    if closed.number == 0:
        return VerdictRecord(iteration=number, round=0, incumbent=None, verdict="baseline")
    if against is None:
        return VerdictRecord(iteration=number, round=closed.number, incumbent=None, verdict="indecisive")
    return judge(
        history.rows(number),
        history.rows(against),
        history.objectives[0],
        iteration=number,
        round_number=closed.number,
        incumbent=against,
        width=1 if closed.by_hand else history.record.config.candidates_per_round,
    )


def _all_proposed(count: int) -> str:
    return "the one candidate was proposed" if count == 1 else f"all {count} candidates were proposed"


def _in_a_row(rounds: int) -> str:
    return "1 round" if rounds == 1 else f"{rounds} rounds in a row"


def _by_hand(members: Sequence[Iteration]) -> bool:
    return any(iteration.proposal.by_hand for iteration in members)


def check_baselines(history: History, count: int) -> None:
    """A run goes no further when one of its baselines is no harness: fail before more is paid for.

    Raises:
        DomainError: One of the first `count` iterations was rejected.
    """
    for iteration in history.iterations[:count]:
        rejection = iteration.rejection
        if rejection is not None and iteration.is_baseline:
            record = history.store.rejection_path(iteration.number)
            raise DomainError(
                f"baseline {iteration.proposal.name} fails the ladder at {rejection.stage}: {rejection.message}",
                hint=f"mend it and start a new run; its traceback is in {record}",
            )


def check_answered(history: History) -> None:
    """Make sure that something answers: a search over candidates that nobody can score only costs money.

    Raises:
        IncompleteError: No case of any baseline has a value, and the budget is not the reason.
    """
    baselines = list(takewhile(lambda iteration: iteration.is_baseline, history.iterations))
    scores = [iteration.score for iteration in baselines if iteration.score is not None]
    if not scores or any(score.ended or "budget" in score.statuses for score in scores):
        return
    traces = history.store.measure_traces(baselines[0].number, why_missing)
    reason = next((why for why in traces.values() if why), "no reason was recorded")
    if all(set(score.statuses) == {"evaluator_error"} for score in scores):
        regrade = command_on(history.store.path, "regrade")
        hint = f"where the evaluator is at fault, mend it (`metaharness check` tries it), then {regrade}"
    else:
        resume = command_on(history.store.path, "resume")
        hint = f"check the model, its endpoint and the network (`metaharness doctor`), then {resume}"
    raise IncompleteError(f"no case of the baselines has a value: {reason}", hint=hint)
