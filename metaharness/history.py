"""What a run has recorded, read back: iterations, scores, verdicts, and the comparisons over them.

It writes nothing and needs neither the domain nor a model, so it serves readers as well as the process that records.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from metaharness.configuration import RunRecord
from metaharness.errors import UsageError
from metaharness.records import ObjectiveRecord, Rejection, Score, VerdictRecord
from metaharness.scoring.measures import PairRow, measure, row_means
from metaharness.scoring.paired import Comparison
from metaharness.scoring.scoreboard import Iteration, Scoreboard, incumbent
from metaharness.scoring.verdicts import compare_rows
from metaharness.store import RunStore

ROWS_KEPT = 32
"""Iterations whose rows are kept in memory."""


@dataclass(frozen=True)
class ClosedRound:
    """A round whose verdicts have been spoken."""

    number: int
    proposals: int
    """How many candidates were handed in; 0 is a failed round."""
    incumbent_before: int | None
    incumbent_after: int | None
    by_hand: bool = False
    """Whether its candidate was handed in by a person or another program, outside the search."""
    inherited: bool = False
    """Whether another run has closed it: then it counts neither for patience nor as a failed round."""
    places: int = 0
    """How many places of a script an inherited round took; 0 for those of the run's own, which take its width."""


@dataclass(frozen=True)
class CaseComparison:
    """Two iterations, case by case."""

    a: Iteration
    b: Iteration
    comparison: Comparison
    means_a: dict[str, float]
    """Unit to primary mean."""
    means_b: dict[str, float]


class History:
    """The recorded part of a run. The process that records keeps it up to date through `put` and `close_round`."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self._rows: OrderedDict[int, list[PairRow]] = OrderedDict()
        self._iterations: list[Iteration] = []
        self.closed_rounds: list[ClosedRound] = []
        verdicts: dict[int, VerdictRecord] = {}
        for event in store.events("round_closed"):
            fields = event.model_dump()
            self.closed_rounds.append(
                ClosedRound(
                    fields["round"],
                    fields["proposals"],
                    fields["incumbent_before"],
                    fields["incumbent_after"],
                    fields.get("by_hand", False),
                    fields.get("inherited", False),
                    fields.get("places", 0),
                )
            )
            for raw in fields["verdicts"]:
                verdict = VerdictRecord.model_validate(raw)
                verdicts[verdict.iteration] = verdict
        for event in store.events("verdict"):  # spoken anew, after missing pairs were filled
            verdict = VerdictRecord.model_validate(event.model_dump())
            verdicts[verdict.iteration] = verdict
        for proposal in store.iterations():
            number = proposal.iteration
            score = store.score(number)
            rejection = store.rejection(number) if score is None else None
            self._iterations.append(Iteration(proposal, rejection, score, verdicts.get(number)))
        self.by_hand = sum(closed.by_hand for closed in self.closed_rounds)
        """How many closed rounds were not the proposer's."""
        self.inherited = sum(
            one.is_inherited and not one.is_baseline and not one.proposal.by_hand for one in self._iterations
        )
        """How many candidates of the search a fork has inherited: they count towards nothing of its own."""
        self._hidden: frozenset[int] = frozenset()
        self._incumbent: int | None = None
        self._find_incumbent()

    def seen_by(self, session: str) -> History:
        """What a proposer may see of it in one of its sessions, with the incumbent that it builds on.

        With the strategy `best-of-n` these are the baselines, and what was handed in by that session itself.
        """
        if self.record.config.strategy == "search":
            return self
        seen = copy.copy(self)
        seen._hidden = frozenset(
            one.number for one in self if not one.is_baseline and (not session or one.proposal.session != session)
        )
        found = incumbent([one for one in self if one.is_baseline], self.objectives)
        seen._incumbent = None if found is None else found.number
        return seen

    @property
    def hides(self) -> bool:
        """Whether iterations are recorded that are not seen here."""
        return bool(self._hidden)

    @property
    def record(self) -> RunRecord:
        """The run's configuration."""
        return self.store.record

    @property
    def note(self) -> str:
        """What whoever forked the run wants its proposer to know; empty where nothing was said."""
        return self.record.note

    @property
    def origin(self) -> list[str]:
        """Lines on where a fork comes from, its note last; none of a run that is no fork."""
        record, inherited = self.record, sum(one.is_inherited for one in self)
        if record.forked_from is None:
            return []
        where = "" if record.forked_at is None else f" at iteration {record.forked_at:03d}"
        what = f"; 000 to {inherited - 1:03d} are inherited" if inherited else ""
        note = [f"note on this fork: {record.note}"] if record.note else []
        return [f"forked from {record.forked_from}{where}{what}", *note]

    @property
    def objectives(self) -> Sequence[ObjectiveRecord]:
        """The run's objectives; the first is the primary one."""
        return self.record.objectives

    @property
    def iterations(self) -> Sequence[Iteration]:
        """All iterations in order."""
        if self._hidden:
            return [one for one in self._iterations if one.number not in self._hidden]
        return self._iterations

    def __iter__(self) -> Iterator[Iteration]:
        return iter(self.iterations)

    def __len__(self) -> int:
        return len(self.iterations)

    def iteration(self, number: int) -> Iteration:
        """One iteration. Raises UsageError when there is none of that number."""
        if not 0 <= number < len(self._iterations) or number in self._hidden:
            known = f"000 to {self.iterations[-1].number:03d}" if self._iterations else "none yet"
            raise UsageError(
                f"there is no iteration {number:03d} in run {self.record.run_id}", hint=f"recorded iterations: {known}"
            )
        return self._iterations[number]

    def rows(self, number: int) -> list[PairRow]:
        """The numbers of every pair of an iteration, the latest attempt of each, sorted by case and trial."""
        if number in self._rows:
            self._rows.move_to_end(number)
            return self._rows[number]
        self.iteration(number)
        measured = self.store.measure_traces(number, lambda trace: measure(trace, self.objectives))
        return self.keep_rows(number, list(measured.values()))

    def keep_rows(self, number: int, rows: Sequence[PairRow]) -> list[PairRow]:
        """Put rows that were just measured where `rows` finds them."""
        kept = sorted(rows, key=lambda row: (row.case_id, row.trial))
        self._rows[number] = kept
        self._rows.move_to_end(number)
        while len(self._rows) > ROWS_KEPT:
            self._rows.popitem(last=False)
        return kept

    def incumbent(self) -> Iteration | None:
        """The best complete candidate of the rounds that are closed."""
        return None if self._incumbent is None else self.iteration(self._incumbent)

    def best(self) -> Iteration | None:
        """The best complete candidate of all that is recorded."""
        return incumbent(self.iterations, self.objectives)

    def scoreboard(self) -> Scoreboard:
        """The table of all iterations."""
        return Scoreboard.of(self.iterations, self.objectives)

    def compare(self, a: int, b: int) -> CaseComparison:
        """Two iterations over the cases they share. A test after the fact: exploratory, not a verdict."""
        rows_a, rows_b = self.rows(a), self.rows(b)
        return CaseComparison(
            self.iteration(a),
            self.iteration(b),
            compare_rows(rows_a, rows_b, self.objectives[0]),
            row_means(rows_a),
            row_means(rows_b),
        )

    # -- kept up to date by the process that records -------------------------------------------------------------

    def add(self, iteration: Iteration) -> None:
        """A candidate was submitted."""
        self._iterations.append(iteration)

    def put(
        self,
        number: int,
        *,
        score: Score | None = None,
        rejection: Rejection | None = None,
        verdict: VerdictRecord | None = None,
    ) -> Iteration:
        """Something became known of an iteration; what is None stays as it was."""
        known = self.iteration(number)
        changed = replace(
            known,
            score=score or known.score,
            rejection=rejection or known.rejection,
            verdict=verdict or known.verdict,
        )
        self._iterations[number] = changed
        if score is not None and known.proposal.round < len(self.closed_rounds):
            self._find_incumbent()
        return changed

    def close_round(self, closed: ClosedRound) -> None:
        """A round has ended."""
        self.closed_rounds.append(closed)
        self.by_hand += closed.by_hand
        self._incumbent = closed.incumbent_after

    def _find_incumbent(self) -> None:
        closed = len(self.closed_rounds)
        found = incumbent(
            [iteration for iteration in self._iterations if iteration.proposal.round < closed], self.objectives
        )
        self._incumbent = found.number if found is not None else None
