"""`trace`, `diff` and `compare`: look closely at one candidate, or at two."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.text import one_line, printable

if TYPE_CHECKING:
    from metaharness.history import CaseComparison
    from metaharness.records import CaseTrace
    from metaharness.scoring.scoreboard import Iteration

Number = Annotated[int, typer.Argument(min=0, help="The iteration, such as 4 or 004.")]
Other = Annotated[int, typer.Argument(min=0, help="The iteration to compare it with.")]
InRun = Annotated[str | None, typer.Option("--run", "-r", help="A run's id, its beginning or its path.")]
OneCase = Annotated[str | None, typer.Option("--case", help="Only this case, with all its calls.")]
Failures = Annotated[bool, typer.Option("--failures", help="Only cases that failed or scored below the best.")]
WithStatus = Annotated[str | None, typer.Option("--status", help="Only cases of this status, such as timeout.")]
Most = Annotated[int, typer.Option("--limit", min=1, help="At most so many cases.")]


@command(
    """
    metaharness trace 4
    metaharness trace 4 --failures --limit 3
    metaharness trace 4 --case search-0007
    metaharness trace 4 --json
    """
)
def trace(
    number: Number,
    run_name: InRun = None,
    case: OneCase = None,
    failures: Failures = False,
    status: WithStatus = None,
    most: Most = 20,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Show the raw cases of a candidate: input, output, expected, grade, error, and every model call of one case."""
    from metaharness.errors import UsageError
    from metaharness.history import History
    from metaharness.records import Status
    from metaharness.tools.cases import case_text

    if status is not None and status not in get_args(Status):
        raise UsageError(f"no case has the status {status!r}", hint=f"valid: {', '.join(get_args(Status))}")
    history = History(options.open_reader(root, run_name))
    iteration = history.iteration(number)
    latest = history.store.latest_traces(number)
    best = history.objectives[0].best
    wanted = [
        found
        for found in latest.values()
        if case in (None, found.case_id)
        and status in (None, found.status)
        and not (failures and _succeeded(found, best))
    ]
    if case is not None and not wanted:
        raise UsageError(
            f"iteration {number:03d} has no case {case!r}", hint=f"metaharness trace {number} lists its cases"
        )
    shown = wanted[:most]
    if as_json:
        options.print_json([found.model_dump(mode="json") for found in shown])
        return
    if iteration.rejection is not None:
        typer.echo(_rejected(iteration))
        if iteration.rejection.traceback:
            typer.echo(printable(iteration.rejection.traceback))
    for found in shown:
        typer.echo(printable(case_text(found, calls=case is not None)))
    typer.echo(f"[{len(shown)} of {len(wanted)} cases; {len(latest)} recorded]")


@command(
    """
    metaharness diff 0 4
    """
)
def diff(
    a: Number,
    b: Other,
    run_name: InRun = None,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Show what changed in the source from one candidate to another, as a unified diff."""
    store = options.open_reader(root, run_name)
    before, after = store.files(a), store.files(b)
    lines: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        lines += difflib.unified_diff(
            before.get(path, "").splitlines(),
            after.get(path, "").splitlines(),
            f"{a:03d}/{path}",
            f"{b:03d}/{path}",
            lineterm="",
        )
    if as_json:
        options.print_json({"a": a, "b": b, "diff": lines})
    else:
        typer.echo("\n".join(map(printable, lines)) if lines else f"{a:03d} and {b:03d} have the same source")


@command(
    """
    metaharness compare 4 0
    metaharness compare 4 0 --json
    """
)
def compare(
    a: Number,
    b: Other,
    run_name: InRun = None,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Compare two candidates case by case: what A does better and worse than B, and the paired test."""
    from metaharness.history import History

    history = History(options.open_reader(root, run_name))
    found = history.compare(a, b)
    if as_json:
        options.print_json(_comparison_record(found))
        return
    test = found.comparison
    objective = history.objectives[0].name
    rejected = [iteration for iteration in (found.a, found.b) if iteration.rejection is not None]
    for iteration in rejected:
        typer.echo(f"{iteration.number:03d} was {_rejected(iteration)}")
    if test.delta is None:
        if not rejected:
            typer.echo(f"{a:03d} and {b:03d} share no case that both have ended")
        return
    interval = "" if test.low is None else f" [{test.low:+.3f}, {test.high:+.3f}]"
    typer.echo(f"{objective}: {a:03d} minus {b:03d} = {test.delta:+.3f}{interval}, p {_p(test.p)} ({test.method})")
    typer.echo(f"over {test.units} shared cases; exploratory: a verdict is spoken only against a round's incumbent")
    for title, units in (("better", test.improved), ("worse", test.regressed)):
        typer.echo(f"{title}: {len(units)}")
        for unit in units:
            typer.echo(f"  {one_line(unit)}: {found.means_b[unit]:.3f} -> {found.means_a[unit]:.3f}")
    typer.echo(f"the same: {len(test.unchanged)}")


def _rejected(iteration: Iteration) -> str:
    rejection = iteration.rejection
    return "" if rejection is None else f"rejected at {rejection.stage}: {printable(rejection.message)}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _comparison_record(found: CaseComparison) -> dict[str, Any]:
    test = found.comparison
    return {
        "a": found.a.number,
        "b": found.b.number,
        "delta": test.delta,
        "low": test.low,
        "high": test.high,
        "p": test.p,
        "method": test.method,
        "units": test.units,
        "exploratory": True,
        "better": list(test.improved),
        "worse": list(test.regressed),
        "same": list(test.unchanged),
    }


def _succeeded(found: CaseTrace, best: float | None) -> bool:
    """Whether a case was answered as well as can be; without a best value, whether it was answered."""
    return found.status == "ok" and (best is None or (bool(found.grades) and found.grades[-1].value == best))
