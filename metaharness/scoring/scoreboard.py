"""Who stands where: incumbent, frontier, and the table of all candidates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from metaharness.records import Direction, Estimate, ObjectiveRecord, ProposalRecord, Rejection, Score, VerdictRecord
from metaharness.scoring.pareto import frontier

State = Literal["complete", "incomplete", "rejected", "pending"]


@dataclass(frozen=True)
class Iteration:
    """One recorded candidate and what is known of it."""

    proposal: ProposalRecord
    rejection: Rejection | None = None
    score: Score | None = None
    verdict: VerdictRecord | None = None

    @property
    def number(self) -> int:
        """Its number; 0 is the first baseline."""
        return self.proposal.iteration

    @property
    def is_baseline(self) -> bool:
        """Whether it was there before the search."""
        return self.proposal.round == 0

    @property
    def is_inherited(self) -> bool:
        """Whether another run has made and paid for it."""
        return self.proposal.inherited is not None

    @property
    def state(self) -> State:
        """`pending` until its evaluation has ended; `incomplete` while pairs are missing."""
        if self.rejection is not None:
            return "rejected"
        if self.score is None:
            return "pending"
        return "complete" if self.score.complete else "incomplete"

    @property
    def unfinished(self) -> bool:
        """Whether some of it is still to be evaluated here: never of an inherited one."""
        return self.state in ("pending", "incomplete") and not self.is_inherited


def incumbent(iterations: Iterable[Iteration], objectives: Sequence[ObjectiveRecord]) -> Iteration | None:
    """The complete candidate with the best primary mean; ties go to less context, then to the earlier one."""
    best: tuple[float, float, int] | None = None
    holder: Iteration | None = None
    sign = -1.0 if objectives[0].direction == "max" else 1.0
    for iteration in iterations:
        score = iteration.score
        if iteration.state != "complete" or score is None or objectives[0].name not in score.objectives:
            continue
        rank = (sign * score.objectives[objectives[0].name].mean, score.context_chars, iteration.number)
        if best is None or rank < best:
            best, holder = rank, iteration
    return holder


def frontier_numbers(iterations: Iterable[Iteration], objectives: Sequence[ObjectiveRecord]) -> list[int]:
    """The strictly non-dominated complete candidates over all objectives, by number."""
    directions: list[Direction] = [objective.direction for objective in objectives]
    points: dict[int, list[float]] = {}
    for iteration in iterations:
        score = iteration.score
        if iteration.state == "complete" and score is not None:
            means = [score.objectives[o.name].mean for o in objectives if o.name in score.objectives]
            if len(means) == len(objectives):
                points[iteration.number] = means
    return frontier(points, directions)


@dataclass(frozen=True)
class Scoreboard:
    """All candidates of a run in order, with the incumbent and the frontier."""

    objectives: Sequence[ObjectiveRecord]
    iterations: Sequence[Iteration]
    incumbent: int | None
    frontier: Sequence[int]

    @classmethod
    def of(cls, iterations: Sequence[Iteration], objectives: Sequence[ObjectiveRecord]) -> Scoreboard:
        """The scoreboard of these iterations."""
        best = incumbent(iterations, objectives)
        front = frontier_numbers(iterations, objectives)
        return cls(objectives, iterations, best.number if best is not None else None, front)

    def rows(self) -> list[dict[str, Any]]:
        """One JSON-ready row per candidate."""
        return [self._row(iteration) for iteration in self.iterations]

    def _row(self, iteration: Iteration) -> dict[str, Any]:
        score, verdict = iteration.score, iteration.verdict
        return {
            "iteration": iteration.number,
            "name": iteration.proposal.name,
            "round": iteration.proposal.round,
            "state": iteration.state,
            "incumbent": iteration.number == self.incumbent,
            "frontier": iteration.number in self.frontier,
            "objectives": {name: value.model_dump() for name, value in score.objectives.items()} if score else {},
            "bounds": score.bounds if score else None,
            "planned": score.planned if score else None,
            "ended": score.ended if score else None,
            "context_chars": score.context_chars if score else None,
            "order_dependent": score.order_dependent if score else False,
            "sandbox": score.sandbox if score else None,
            "verdict": verdict.verdict if verdict else None,
            "against": verdict.incumbent if verdict else None,
            "delta": verdict.delta if verdict else None,
            "p": verdict.p if verdict else None,
            "axis": iteration.proposal.axis,
            "hypothesis": iteration.proposal.hypothesis,
            "flags": iteration.proposal.flags,
            "inherited": iteration.proposal.inherited,
            "rejected": iteration.rejection.model_dump(exclude={"time", "traceback"}) if iteration.rejection else None,
        }

    def text(self, only: Collection[int] | None = None) -> str:
        """The table as a person reads it.

        Args:
            only: The numbers of the candidates to show; None for all.
        """
        heads = ["iter", "", "name", *(objective.name for objective in self.objectives), "delta", "p", "verdict"]
        shown = [iteration for iteration in self.iterations if only is None or iteration.number in only]
        lines = [self._cells(iteration) for iteration in shown]
        return "\n".join([align([heads, *lines]), *self.legend()])

    def legend(self) -> list[str]:
        """What stands below the rows: what the marks mean, what is inherited, which objectives are missing where."""
        inherited = sum(one.is_inherited for one in self.iterations)
        return [
            "* incumbent   + on the frontier   [..] 95% interval   verdicts are against the incumbent of the round",
            *([f"inherited from another run: 000 to {inherited - 1:03d}"] if inherited else []),
            *self.gaps(),
        ]

    def gaps(self) -> list[str]:
        """A line per objective that has no value for all or some complete candidates, or for some of their cases."""
        scores = [one.score for one in self.iterations if one.state == "complete" and one.score is not None]
        found = (_objective_gap(objective.name, self.objectives[0].name, scores) for objective in self.objectives[1:])
        return [line for line in found if line is not None]

    def _cells(self, iteration: Iteration) -> list[str]:
        mark = ("*" if iteration.number == self.incumbent else "") + ("+" if iteration.number in self.frontier else "")
        head = [f"{iteration.number:03d}", mark, _one_line(iteration.proposal.name) or "-"]
        score, verdict = iteration.score, iteration.verdict
        if iteration.rejection is not None:
            note = f"rejected at {iteration.rejection.stage}"
            return [*head, *("-" for _ in self.objectives), "", "", note]
        if score is None:
            return [*head, *("-" for _ in self.objectives), "", "", "pending"]
        cells = [format_estimate(score, objective) for objective in self.objectives]
        judged = verdict is not None and verdict.delta is not None and verdict.verdict != "baseline"
        delta = f"{verdict.delta:+.3f}" if judged and verdict is not None else ""
        p = format_p(verdict.p) if judged and verdict is not None and verdict.p is not None else ""
        return [*head, *cells, delta, p, _judgement(iteration)]


def _one_line(name: str) -> str:
    """A proposer's text as one printable cell: a line break or an escape sequence would reach the terminal."""
    return " ".join("".join(character if character.isprintable() else " " for character in name).split())


def _judgement(iteration: Iteration) -> str:
    said: str = iteration.verdict.verdict if iteration.verdict is not None else "evaluated"
    score = iteration.score
    if score is not None and not score.complete:
        said += f" (incomplete: {format_gap(score)})"
    if score is not None and score.order_dependent:
        said += " (order-dependent)"
    said += "".join(f" (flagged: {flag})" for flag in iteration.proposal.flags)
    return said


def _objective_gap(name: str, primary: str, scores: Sequence[Score]) -> str | None:
    """What is to be said of an objective that not every case has a value of; None where all have.

    Args:
        name: The objective.
        primary: The first objective, which every case of a complete candidate has a value of.
        scores: Of the complete candidates.
    """
    having = [score for score in scores if name in score.objectives]
    if scores and not having:
        return f"{name} has no value: no grade of any candidate carries such a metric, so none is on the frontier"
    if len(having) < len(scores):
        lacking = f"{len(scores) - len(having)} of {len(scores)} candidates"
        return f"{name} has no value for {lacking}, which are not on the frontier"
    every = [score.objectives[primary].cases if primary in score.objectives else 0 for score in having]
    partly = sum(score.objectives[name].cases < cases for score, cases in zip(having, every, strict=True))
    if not partly:
        return None
    return f"{name} leaves out the cases that gave no value of it, for {partly} of {len(scores)} candidates"


def format_objectives(objectives: Iterable[ObjectiveRecord]) -> str:
    """Their names with directions, in a line."""
    return ", ".join(f"{one.name} ({one.direction}imise)" for one in objectives)


def format_gap(score: Score) -> str:
    """How many pairs are missing, and between which means they leave the primary objective."""
    bounds = f", between {_number(min(score.bounds))} and {_number(max(score.bounds))}" if score.bounds else ""
    return f"{score.missing:,} of {score.planned:,} missing{bounds}"


def format_estimate(score: Score, objective: ObjectiveRecord) -> str:
    """The mean and interval of one objective of a score; "-" where it has none."""
    found = score.objectives.get(objective.name)
    return "-" if found is None else format_interval(found, objective)


def format_interval(found: Estimate, objective: ObjectiveRecord) -> str:
    """A mean with its interval, in as many digits as they deserve; the interval only where the range is known."""
    text = _number(found.mean)
    if found.low is not None and found.high is not None and objective.range is not None:
        text += f" [{_number(found.low)}, {_number(found.high)}]"
    return text


def _number(value: float) -> str:
    """Whole from 10 on, three decimals below, three significant digits where those would show nothing."""
    if 0 < abs(value) < 0.01:
        return f"{value:.3g}"
    return f"{value:,.{3 if abs(value) < 10 else 0}f}"


def format_p(p: float) -> str:
    """A p-value in three digits."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as columns of text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
