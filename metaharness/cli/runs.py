"""`runs`, `scoreboard` and `summary`: what a run has come to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.text import counted, numbered, one_line, printable, totals

Rebuild = Annotated[bool, typer.Option("--rebuild", help="Write the derived files anew from what is recorded.")]


@command(
    """
    metaharness runs
    metaharness runs --json
    """
)
def runs(root: options.Root = options.DEFAULT_ROOT, as_json: options.AsJson = False) -> None:
    """List the runs below the root, oldest first."""
    from metaharness.scoring.scoreboard import align
    from metaharness.store import list_runs

    rows = [run_row(path) for path in list_runs(root)]
    if as_json:
        options.print_json(rows)
    elif not rows:
        typer.echo(f"no runs in {root}")
    else:
        heads = ["run", "domain", "created", "status", "iterations", "best", "score"]
        typer.echo(align([heads, *[[run_cell(head, row[head]) for head in heads] for row in rows]]))
    for row in rows:
        if row["error"] is not None:
            typer.echo(f"warning: {printable(row['error'])}", err=True)


def run_cell(head: str, value: Any) -> str:
    """A cell of the list, from its row."""
    if value is None:
        return "-"
    if head == "created":
        return re.sub(r"\.\d+", "", one_line(value))  # seconds are enough to find a run
    return _short_status(value) if head == "status" else one_line(str(value))


def _short_status(status: str) -> str:
    """A word or two for what `summary` says in a sentence."""
    if status in ("running or interrupted", "stopped"):
        return status
    for word in ("finished", "forked"):
        if status.startswith(word):
            return word
    return "test opened" if status.startswith("the test split was opened") else "ended"


def run_row(path: Path) -> dict[str, Any]:
    """One run of the list; one that cannot be read says why, and hides none of the others."""
    from metaharness.errors import MetaharnessError
    from metaharness.history import History
    from metaharness.run.summaries import run_status
    from metaharness.scoring.scoreboard import format_estimate
    from metaharness.store import RunStore

    names = ("domain", "created", "status", "iterations", "best", "score", "error")
    row: dict[str, Any] = {"run": path.name, **dict.fromkeys(names), "path": str(path)}
    try:
        history = History(RunStore.open(path, record=False))
        status = run_status(history)
    except MetaharnessError as error:
        return {**row, "error": error.message}
    best = history.best()
    score = best.score if best is not None else None
    return {
        **row,
        "domain": history.record.domain_name,
        "created": history.record.created,
        "status": status,
        "iterations": len(history),
        "best": best.number if best is not None else None,
        "score": format_estimate(score, history.objectives[0]) if score is not None else None,
    }


@command(
    """
    metaharness scoreboard
    metaharness scoreboard 2026-04-23 --json
    """
)
def scoreboard(
    run_name: options.RunName = None, root: options.Root = options.DEFAULT_ROOT, as_json: options.AsJson = False
) -> None:
    """Show every candidate of a run: objectives with intervals, verdict, frontier, incumbent."""
    from metaharness.history import History

    board = History(options.open_reader(root, run_name)).scoreboard()
    if as_json:
        options.print_json({"incumbent": board.incumbent, "frontier": list(board.frontier), "iterations": board.rows()})
    else:
        typer.echo(board.text())


@command(
    """
    metaharness summary
    metaharness summary 2026-04-23 --rebuild
    """
)
def summary(
    run_name: options.RunName = None,
    rebuild: Rebuild = False,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Say what a run has come to: status, best candidate, frontier, what was spent."""
    from metaharness.history import History
    from metaharness.run.summaries import read_ledger, read_spent, run_status, summary_page, write_derived
    from metaharness.store import RunStore, find_run

    if rebuild:
        with RunStore.open(find_run(root, run_name), record=True) as store:
            recorded = History(store)
            write_derived(recorded, read_ledger(recorded), run_status(recorded))
    history = History(options.open_reader(root, run_name))
    page = summary_page(history, run_status(history), read_spent(history).model_dump())
    if as_json:
        options.print_json(page)
        return
    best = page["best"]
    typer.echo(f"run         {one_line(page['run'])} ({one_line(page['domain'])})")
    typer.echo(f"status      {one_line(page['status'])}")
    for line in history.origin:
        typer.echo(printable(line))
    if history.record.memory_used:
        typer.echo(f"memory      {counted(len(history.record.memory_used), 'lesson')} of earlier runs offered")
    typer.echo(f"iterations  {page['iterations']} in {counted(page['rounds'], 'round')}")
    typer.echo(f"sandbox     {one_line(', '.join(page['sandboxes'])) or 'none yet'}")
    if best is not None:
        low, high = best["interval"]
        interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
        typer.echo(f"best        {numbered(best['iteration'], best['name'])}: {best['score']:.3f}{interval}")
        typer.echo(f"            {one_line(best['hypothesis']) or '(no hypothesis recorded)'}")
    typer.echo(f"frontier    {', '.join(f'{number:03d}' for number in page['frontier']) or 'none'}")
    if page["test"] is not None:
        typer.echo(f"sealed test {_sealed_test(page['test'])}")
    print_spent(page["spent"])


def _sealed_test(test: dict[str, Any]) -> str:
    """The result of the one test in a line: what each has reached on it, and which is better."""
    means = {row["iteration"]: row["objectives"].get(test["objective"], {}).get("mean") for row in test["rows"]}

    def reached(number: int) -> str:
        mean = means.get(number)
        return f"{number:03d} {'-' if mean is None else f'{mean:.3f}'}"

    if test["winner"] == test["baseline"]:
        return f"{reached(test['winner'])}, the best baseline itself, look {test['look']}"
    delta = "" if test["delta"] is None else f" ({test['delta']:+.3f})"
    against = f"{reached(test['winner'])} vs baseline {reached(test['baseline'])}{delta}"
    return f"{against}, {test['verdict']}, look {test['look']}"


def print_spent(spent: dict[str, Any]) -> None:
    """What a run has spent, in a line."""
    typer.echo(f"spent       {totals(spent)}")
