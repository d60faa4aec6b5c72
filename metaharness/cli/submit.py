"""`submit`: a harness written by hand or by another tool becomes an iteration of a run."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import INTERRUPTED, command, complain
from metaharness.cli.flags import MaxCalls, MaxCandidates, MaxCases, MaxTokens, MaxUsd, OfRole, Quiet, budget
from metaharness.cli.text import printable

if TYPE_CHECKING:
    from metaharness.configuration import Budget
    from metaharness.records import Proposal
    from metaharness.run import Run
    from metaharness.scoring.scoreboard import Iteration

HarnessPath = Annotated[
    Path, typer.Argument(help="A harness file, or a folder with harness.py, proposal.json and reasoning.md.")
]
InRun = Annotated[str | None, typer.Option("--run", "-r", help="A run's id, its beginning or its path.")]
Hypothesis = Annotated[str | None, typer.Option(help="One sentence that the evaluation can prove wrong.")]
Reasoning = Annotated[Path | None, typer.Option(help="A text file: why it was written so.")]
Parents = Annotated[list[int] | None, typer.Option("--parent", min=0, help="The iteration it comes from. Repeatable.")]
Axis = Annotated[str | None, typer.Option(help="What it changes, such as retrieval.")]
Name = Annotated[str | None, typer.Option("--name", help="Shown in the scoreboard. Default: that of the file.")]
INVALID = 3


@command(
    """
    metaharness submit my_harness.py
    metaharness submit my_harness/ --run first --parent 4 --hypothesis "Shorter examples lose nothing."
    """
)
def submit(
    harness: HarnessPath,
    run_name: InRun = None,
    name: Name = None,
    hypothesis: Hypothesis = None,
    reasoning: Reasoning = None,
    parent: Parents = None,
    axis: Axis = None,
    budget_candidates: MaxCandidates = None,
    budget_cases: MaxCases = None,
    budget_calls: MaxCalls = None,
    budget_tokens: MaxTokens = None,
    budget_usd: MaxUsd = None,
    role_budget: OfRole = None,
    no_cache: options.NoCache = False,
    root: options.Root = options.DEFAULT_ROOT,
    quiet: Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a harness an iteration of a run: the ladder, the whole evaluation, a verdict against the incumbent.

    It gets a round of its own, also after the search has ended, and takes none of the search's candidates, slots or
    patience. It may become the incumbent, and its cases and calls count in the budget.
    """
    import anyio

    from metaharness.loading import read_candidate
    from metaharness.store import find_run

    told = {"name": name, "hypothesis": hypothesis, "axis": axis, "reasoning": _text(reasoning)}
    proposal = _with(read_candidate(harness), told, parent)
    raised = budget(budget_candidates, budget_cases, budget_calls, budget_tokens, budget_usd, roles=role_budget)
    run, iteration = anyio.run(_add, find_run(root, run_name), proposal, raised, quiet, no_cache)
    _tell(run, iteration, as_json=as_json)


def _with(proposal: Proposal, told: dict[str, str | None], parents: list[int] | None) -> Proposal:
    """What the options say replaces what lies beside the harness."""
    from dataclasses import replace

    given: dict[str, Any] = {field: value for field, value in told.items() if value is not None}
    if parents:
        given["parents"] = tuple(parents)
    return replace(proposal, **given)


def _text(path: Path | None) -> str | None:
    from metaharness.errors import UsageError

    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint="--reasoning takes a text file in UTF-8") from error


async def _add(
    path: Path, proposal: Proposal, raised: Budget, quiet: bool, no_cache: bool
) -> tuple[Run, Iteration | None]:
    from metaharness.cli.progress import Progress
    from metaharness.cli.signals import until_signal
    from metaharness.run import Run
    from metaharness.run.outside import add

    async with Run.open(path, raised=raised, cache=False if no_cache else None) as run:
        run.listener = progress = Progress(run, quiet=quiet)
        progress.begin()
        return run, await until_signal(run, partial(add, run, proposal), progress.clear)


def _with_incumbent(iteration: Iteration) -> tuple[int, ...]:
    """The candidate, and what its verdict is spoken against."""
    against = iteration.verdict.incumbent if iteration.verdict is not None else None
    return (iteration.number,) if against is None else (against, iteration.number)


def _tell(run: Run, iteration: Iteration | None, *, as_json: bool) -> None:
    from metaharness.cli.output import resume_command
    from metaharness.run.summaries import summary_row

    if iteration is None or (iteration.verdict is None and iteration.rejection is None):
        print(f"interrupted: {resume_command(run)} evaluates what is left", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    if as_json:
        row = summary_row(iteration, run.history.objectives[0].name)
        options.print_json({**row, "run": run.record.run_id, "path": str(run.store.path)})
    elif iteration.rejection is None:
        typer.echo(run.history.scoreboard().text(only=_with_incumbent(iteration)))
    missing = iteration.score.missing if iteration.score is not None else 0
    if missing:
        print(f"{missing} cases have no value: {resume_command(run)} asks them again", file=sys.stderr)
    if iteration.rejection is not None:
        if iteration.rejection.traceback:
            typer.echo(printable(iteration.rejection.traceback), err=True)
        complain(
            f"iteration {iteration.number:03d} does not pass the ladder at {iteration.rejection.stage}: "
            f"{printable(iteration.rejection.message)}",
            "it is recorded as rejected; mend it and submit it again",
        )
        raise typer.Exit(INVALID)
