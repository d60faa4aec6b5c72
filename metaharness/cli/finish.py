"""`finish`: the one sealed test of a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import INTERRUPTED, command
from metaharness.cli.flags import MaxCalls, MaxCases, MaxTokens, MaxUsd, OfRole, Quiet, budget
from metaharness.cli.progress import CasesLeft, warning_line
from metaharness.cli.text import counted, one_line

if TYPE_CHECKING:
    from metaharness.openings import SealedResult
    from metaharness.records import ObjectiveRecord
    from metaharness.run import Finishing

Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask before the test split is opened. Needed off a terminal.")
]
AcceptMissing = Annotated[
    bool, typer.Option("--accept-missing", help="Give a result although cases have no value, with the safe verdict.")
]


@command(
    """
    metaharness finish
    metaharness finish 2026-04-23 --yes --json
    metaharness finish first --budget-calls 5000
    """
)
def finish(
    run_name: options.RunName = None,
    yes: Yes = False,
    accept_missing: AcceptMissing = False,
    budget_cases: MaxCases = None,
    budget_calls: MaxCalls = None,
    budget_tokens: MaxTokens = None,
    budget_usd: MaxUsd = None,
    role_budget: OfRole = None,
    root: options.Root = options.DEFAULT_ROOT,
    quiet: Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Open the sealed test split, once: the best candidate on `search` against the best baseline. Closes the run.

    What is tested is written down before the first case is asked. Interrupted, the same command goes on with it;
    afterwards it shows the result again.
    """
    from metaharness.run.finishing import recorded_result
    from metaharness.store import find_run, load_record

    path = find_run(root, run_name)
    result = recorded_result(path)
    if result is None:
        raised = budget(None, budget_cases, budget_calls, budget_tokens, budget_usd, roles=role_budget)
        result = _finish(path, raised, yes=yes, accept_missing=accept_missing, quiet=quiet)
    if as_json:
        options.print_json({**result.model_dump(mode="json"), "path": str(path)})
    else:
        typer.echo(result_text(result, load_record(path).objectives))


def _finish(path: Path, raised: Any, *, yes: bool, accept_missing: bool, quiet: bool) -> SealedResult:
    import anyio

    from metaharness.errors import UsageError
    from metaharness.run import Finishing
    from metaharness.store import command_on

    with Finishing.open(path, raised=raised) as finishing:
        if finishing.opened is None and not yes and not _can_ask():
            raise UsageError(
                f"the test split of run {path.name} stays sealed: there is no terminal to ask at",
                hint=f"to open it, once: {command_on(path, 'finish', '--yes')}",
            )
        _announce(finishing, ask=not yes, quiet=quiet)
        result = anyio.run(run_test, finishing, accept_missing, quiet)
    if result is None:
        print(f"interrupted: `{command_on(path, 'finish')}` goes on with the same test", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    return result


def _announce(finishing: Finishing, *, ask: bool, quiet: bool) -> None:
    """Say what is about to happen, and ask."""
    from metaharness.store import command_on

    tested = " and ".join(f"{one.number:03d} {one_line(one.proposal.name)}" for one in finishing.candidates)
    if finishing.opened is not None:
        if not quiet:
            print(f"going on with the test that was opened: {tested}", file=sys.stderr)
        return
    looks = finishing.holdout.earlier_looks()
    again = f"; earlier runs here have opened it, this is look {looks + 1}" if looks else ""
    if not quiet or ask:
        print(
            f"opening the test split ({finishing.holdout.size} cases{again}) for {tested}. "
            f"This closes run {finishing.store.record.run_id}: nothing is added to it afterwards.",
            file=sys.stderr,
        )
        resume = command_on(finishing.store.path, "resume")
        incomplete = [f"{one.number:03d}" for one in finishing.history if one.unfinished]
        if incomplete:
            numbers = ", ".join(incomplete)
            print(f"not in question, as cases have no value: {numbers}; {resume} asks them again", file=sys.stderr)
        left = finishing.config.iterations - finishing.spent.candidates
        if left > 0:
            more = counted(left, "more candidate")
            print(f"the search is not over: {more} to come; {resume} goes on", file=sys.stderr)
    if ask and not _confirmed():
        print("it stays sealed", file=sys.stderr)
        raise typer.Exit(1)


def _can_ask() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _confirmed() -> bool:
    try:
        return typer.confirm("Open it?", err=True)
    except typer.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from abort
        return False  # the input has ended


async def run_test(finishing: Finishing, accept_missing: bool, quiet: bool) -> SealedResult | None:
    """The test; None when it was interrupted."""
    from metaharness.cli.signals import until_signal

    finishing.listener = display = _Display("test", lambda: finishing.spent, quiet=quiet)
    return await until_signal(finishing, partial(finishing.run, accept_missing=accept_missing), display.line.clear)


class _Display(CasesLeft):
    """The test candidate by candidate, on a terminal."""

    def __call__(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "evaluating":
            self.begin(f"{fields['iteration']:03d} {one_line(fields['name'])}", fields["cases"])
        elif kind == "budget_warned":
            self.line.say(warning_line(fields))
        else:
            self.ended()


def result_text(result: SealedResult, objectives: Sequence[ObjectiveRecord]) -> str:
    """The result as a person reads it."""
    from metaharness.run.authors import SCRIPT
    from metaharness.scoring.scoreboard import align, format_interval

    trials = "" if result.trials == 1 else f", {result.trials} trials each"
    rows = [["iter", "", "name", *(objective.name for objective in objectives)]]
    for row in result.rows:
        cells = [
            format_interval(row.objectives[one.name], one) if one.name in row.objectives else "-" for one in objectives
        ]
        role = "baseline" if row.iteration == result.baseline else row.role
        rows.append([f"{row.iteration:03d}", role, one_line(row.name), *cells])
    lines = [
        f"sealed test of run {result.run}: {result.cases} cases{trials}, model {result.model}, look {result.look}",
        align(rows),
        _headline(result),
    ]
    if result.missing:
        pairs = "1 pair has" if result.missing == 1 else f"{result.missing:,} pairs have"
        lines.append(f"{pairs} no value; what is said holds whatever they would have been")
    if result.look > 1:
        lines.append(
            f"look {result.look}: earlier runs here have opened the same cases, so these are no longer unseen; "
            "what was chosen with them in mind can only look better than it is"
        )
    lines += [f"sealed from whoever wrote the candidates: {by}" for by in result.sealed_by if by != SCRIPT]
    return "\n".join(lines)


def _headline(result: SealedResult) -> str:
    from metaharness.scoring.scoreboard import format_p

    if result.verdict == "baseline":
        return f"baseline {result.baseline:03d} was the best on search, so there was nothing to test it against"
    winner, baseline = f"{result.winner:03d}", f"{result.baseline:03d}"
    said = {
        "better": f"{winner} is better than the best baseline",
        "worse": f"{winner} is worse than the best baseline",
    }.get(result.verdict, f"it is not decided whether {winner} is better than the best baseline")
    if result.delta is None or result.p is None:
        return said
    interval = "" if result.low is None else f" [{result.low:+.3f}, {result.high:+.3f}]"
    p = format_p(result.p)
    return (
        f"{said}: {result.objective} {winner} minus {baseline} = {result.delta:+.3f}{interval}, "
        f"p {p if p.startswith('<') else '= ' + p}, {result.units} cases, paired"
    )
