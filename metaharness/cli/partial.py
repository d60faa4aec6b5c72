"""`evaluate-cases`: a harness on a few cases of a run, for programs that look for harnesses themselves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import INTERRUPTED, command, complain
from metaharness.cli.flags import MaxCalls, MaxCases, MaxTokens, MaxUsd, Quiet, budget
from metaharness.cli.text import counted, one_line, printable

if TYPE_CHECKING:
    from metaharness.run import Run
    from metaharness.run.partial import CaseResult, PartialEvaluation
    from metaharness.store import Owner

InRun = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, its beginning or its path.")]
HarnessPath = Annotated[Path, typer.Argument(help="A harness file, or a folder that holds harness.py.")]
Named = Annotated[list[str], typer.Option("--case", help="The id of a case of `search`. Repeatable.")]
Trial = Annotated[int, typer.Option(min=0, help="The number of the trial: another one asks the model anew.")]
Wait = Annotated[
    float | None,
    typer.Option(min=0, help="Seconds to wait while another process records the run. Default: until it has ended."),
]
INVALID = 3


@command(
    """
    metaharness evaluate-cases first my_harness.py --case search-0001 --case search-0007 --json
    metaharness evaluate-cases first my_harness/ --case search-0001 --trial 1 --wait 60 --budget-calls 500
    """
)
def evaluate_cases(
    run_name: InRun,
    harness: HarnessPath,
    case: Named,
    trial: Trial = 0,
    wait: Wait = None,
    budget_cases: MaxCases = None,
    budget_calls: MaxCalls = None,
    budget_tokens: MaxTokens = None,
    budget_usd: MaxUsd = None,
    no_cache: options.NoCache = False,
    root: options.Root = options.DEFAULT_ROOT,
    quiet: Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Evaluate a harness on some search cases of a run, beside its iterations: for programs with a search of their own.

    Cases and calls count in the budget of the run; what has ended is not asked again. One process records a run at a
    time: this one waits for its turn. A program that asks often keeps the run open: see metaharness.run.threads.
    """
    import anyio

    from metaharness.run import Run
    from metaharness.run.threads import when_free
    from metaharness.store import find_run

    def waiting(owner: Owner) -> None:
        if not quiet:
            print(f"waiting for the run, which is recorded by {owner}", file=sys.stderr, flush=True)

    path = find_run(root, run_name)
    raised = budget(None, budget_cases, budget_calls, budget_tokens, budget_usd)
    opening = partial(Run.open, path, raised=raised, cache=False if no_cache else None)
    found = anyio.run(_evaluated, when_free(path, opening, wait, waiting), harness, case, trial)
    if as_json:
        options.print_json({"run": path.name, "trial": trial, **_page(found)})
    elif found.rejection is None:
        _print(found)
    _end(harness, found)


async def _evaluated(run: Run, harness: Path, case_ids: Sequence[str], trial: int) -> PartialEvaluation:
    """Until the end or a signal.

    Raises:
        KeyboardInterrupt: A second signal dropped what was in the air.
    """
    from metaharness.cli.signals import until_signal

    async with run:
        doing = partial(run.evaluate_cases, harness, case_ids, trial=trial)
        found = await until_signal(run, doing, lambda: None)
    if found is None:
        raise KeyboardInterrupt
    return found


def _page(found: PartialEvaluation) -> dict[str, Any]:
    """The evaluation as JSON: the contract of `--json`."""
    return {
        "candidate_hash": found.candidate_hash,
        "path": None if found.path is None else str(found.path),
        "rejected": None if found.rejection is None else found.rejection.model_dump(exclude={"time"}),
        "cases": [
            {
                "case_id": one.case_id,
                "status": one.status,
                "value": one.value,
                "values": dict(one.values),
                "output": one.output,
                "trace": None if one.trace is None else one.trace.model_dump(mode="json"),
            }
            for one in found.cases
        ],
    }


def _print(found: PartialEvaluation) -> None:
    from metaharness.scoring.scoreboard import align

    rows = [[one.case_id, one.status or "not asked", _number(one), one_line(str(one.output))] for one in found.cases]
    typer.echo(align([["case", "status", "value", "output"], *rows]))
    typer.echo(f"traces: {found.path}")


def _number(one: CaseResult) -> str:
    return "-" if one.value is None else f"{one.value:g}"


def _end(harness: Path, found: PartialEvaluation) -> None:
    """Say what went wrong, if anything did, and end the command there."""
    if found.rejection is not None:
        if found.rejection.traceback:
            typer.echo(printable(found.rejection.traceback), err=True)
        complain(
            f"{harness} does not pass the ladder at {found.rejection.stage}: {found.rejection.message}",
            "mend it; the domain's DOMAIN.md says what a harness has to define",
        )
        raise typer.Exit(INVALID)
    unasked = sum(one.status is None for one in found.cases)
    if unasked:
        complain(f"interrupted: {counted(unasked, 'case')} not asked", "the same command asks them")
        raise typer.Exit(INTERRUPTED)
