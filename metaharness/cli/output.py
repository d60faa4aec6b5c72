"""What is printed at the end of a search, and what is said of pairs without a value."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from metaharness.cli.options import print_json
from metaharness.cli.text import counted, one_line, totals
from metaharness.records import MISSING
from metaharness.run.bounds import BoundState, bound_states, raising, state_line
from metaharness.run.evaluating import why_missing
from metaharness.run.spent import spent_of_role
from metaharness.run.summaries import spent_when_over, summary_page
from metaharness.store import command_on

if TYPE_CHECKING:
    from metaharness.history import History
    from metaharness.records import CaseTrace
    from metaharness.run import Run

NAMED = 5
"""Candidates with missing pairs that are named at the end of a search; of the others, how many there are."""


def outcome(run: Run, reason: str, *, as_json: bool) -> None:
    """The scoreboard, why the search ended, what it cost, and what to type next."""
    if as_json:
        print_json(outcome_page(run, reason))
    elif len(run.history):
        typer.echo(run.history.scoreboard().text())
    cost = spent_when_over(run.history, run.ledger).model_dump()
    lines = [
        f"{reason}: {totals(cost)}",
        *budget_lines(run),
        f"run directory: {run.store.path}",
    ]
    missing = _missing(run.history)
    for line in [*lines, *_missing_lines(run.history, missing), *_next_steps(run, missing)]:
        print(line, file=sys.stderr)


def outcome_page(run: Run, reason: str) -> dict[str, Any]:
    """What came out, as data."""
    page = summary_page(run.history, reason, spent_when_over(run.history, run.ledger).model_dump())
    page["budget"] = [state.model_dump() for state in bound_states(run.ledger)]
    return {**page, "path": str(run.store.path), "scoreboard": run.history.scoreboard().rows()}


def budget_lines(run: Run) -> list[str]:
    """Of every bound that the budget has: what is spent, what is not, and what of it is kept for `finish`."""
    return [state_line(state) for state in bound_states(run.ledger)]


def resume_command(run: Run) -> str:
    """What to type to go on."""
    return command_on(run.store.path, "resume")


def _arguments(run: Run) -> str:
    return shlex.join(["--root", str(run.store.path.parent), run.record.run_id])


def _next_steps(run: Run, missing: Mapping[int, list[Gap]]) -> list[str]:
    arguments = _arguments(run)
    failed = any(gap.evaluator for gaps in missing.values() for gap in gaps)
    mend = [f"to have every value: mend the evaluator, then metaharness regrade {arguments}"] * failed
    waiting = _in_progress(run.history) or any(not gap.evaluator for gaps in missing.values() for gap in gaps)
    flag = _spent_flag(run)
    if flag is not None and (waiting or not run.all_proposed):
        on = f"to go on with a higher budget: {resume_command(run)} {flag}"
        return [*mend, on, *(_test_within_bounds(run) if run.history.best() is not None else [])]
    if run.why_over() is None or waiting:
        return [*mend, f"to go on: {resume_command(run)}"]
    look = f"to look closer: metaharness scoreboard {arguments}"
    if run.history.best() is None:
        return [*mend, look]
    return [*mend, look, f"to test the best one on the sealed split, once: metaharness finish {arguments}"]


def _spent_flag(run: Run) -> str | None:
    """The option that raises the bound which keeps the search from going on; None when none does."""
    if run.spent_bound is not None:
        return " ".join(raising(run.spent_bound))
    of_role = spent_of_role(run.ledger, run.history)
    return None if of_role is None else " ".join(raising(of_role[1], of_role[0]))


def _flag(state: BoundState) -> str:
    return " ".join(raising(state.bound, state.role))


def _test_within_bounds(run: Run) -> list[str]:
    """How to test the best one: with what is kept for it, or with higher bounds where that is not enough."""
    states = [state for state in bound_states(run.ledger) if state.finish_needs]
    short = [state for state in states if state.finish_needs > state.kept_for_finish]
    command = f"metaharness finish {_arguments(run)}"
    if short:
        return [f"to test the best one, once: {command} {' '.join(map(_flag, short))}"]
    return [f"to test the best one with what is kept for it, once: {command}"] * bool(states)


def _in_progress(history: History) -> bool:
    """Whether a round was begun and is not closed: `resume` ends it."""
    return any(iteration.proposal.round >= len(history.closed_rounds) for iteration in history)


# --- pairs without a value --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gap:
    """A pair of case and trial that has no value."""

    status: str
    why: str
    """In one line; empty where nothing says so."""
    evaluator: bool
    """Whether the evaluator's own code failed, and not a judge it asked: asking again then brings the same."""


def gap_of(trace: CaseTrace) -> Gap | None:
    """What is missing in a trace; None where it has a value."""
    if trace.status not in MISSING:
        return None
    judge_failed = any(call.door == "judge" and call.response is None for call in trace.calls)
    return Gap(trace.status, why_missing(trace), trace.status == "evaluator_error" and not judge_failed)


def gap_lines(name: str, planned: int, gaps: Iterable[Gap]) -> list[str]:
    """A line per status: how many pairs of a candidate have no value, and why the first of them has none."""
    gaps = list(gaps)
    lines = []
    for status, count in Counter(gap.status for gap in gaps).items():
        why = next((gap.why for gap in gaps if gap.status == status and gap.why), "no reason was recorded")
        have = "has" if count == 1 else "have"
        lines.append(f"{count:,} of {planned:,} pairs of {one_line(name)} {have} no value ({status}): {one_line(why)}")
    return lines


def _missing(history: History) -> dict[int, list[Gap]]:
    """The pairs without a value, in order, of every candidate that was evaluated and is incomplete."""
    found = {
        iteration.number: sorted(history.store.measure_traces(iteration.number, gap_of).items(), key=lambda one: one[0])
        for iteration in history
        if iteration.state == "incomplete" and iteration.unfinished
    }
    return {number: [gap for _, gap in pairs if gap is not None] for number, pairs in found.items()}


def _missing_lines(history: History, missing: Mapping[int, list[Gap]]) -> list[str]:
    lines: list[str] = []
    for number in list(missing)[:NAMED]:
        score = history.iteration(number).score
        lines += gap_lines(f"{number:03d}", score.planned if score is not None else 0, missing[number])
    more = len(missing) - NAMED
    return [*lines, f"so it is with {counted(more, 'more candidate')}"] if more > 0 else lines
