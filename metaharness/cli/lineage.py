"""`lineage`: which run is a fork of which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.runs import run_cell, run_row
from metaharness.cli.text import one_line, printable

if TYPE_CHECKING:
    from metaharness.lineage import Branch

HEADS = ("run", "from", "iterations", "best", "score", "status", "note")
SHOWN = 60
"""Characters of a note in the table; `--json` has all of it."""


@command(
    """
    metaharness lineage
    metaharness lineage batch --json
    """
)
def lineage(
    run_name: options.RunName = None, root: options.Root = options.DEFAULT_ROOT, as_json: options.AsJson = False
) -> None:
    """Draw the tree of runs and forks below the root: from which iteration, with which note, and what they came to.

    With RUN: only the tree that it belongs to.
    """
    from metaharness.lineage import lineage as tree
    from metaharness.scoring.scoreboard import align
    from metaharness.store import find_run

    path = None if run_name is None else find_run(root, run_name)
    rows = [_row(branch) for branch in (tree(root) if path is None else tree(path.resolve().parent, path))]
    if as_json:
        options.print_json(rows)
    elif not rows:
        typer.echo(f"no runs in {root}")
    else:
        typer.echo(align([HEADS, *map(_cells, rows)]))
    for row in rows:
        if row["error"] is not None:
            typer.echo(f"warning: {printable(row['error'])}", err=True)


def _row(branch: Branch) -> dict[str, Any]:
    record = branch.record
    return {
        **run_row(branch.path),
        "depth": branch.depth,
        "forked_from": None if record is None else record.forked_from,
        "source_is_gone": branch.source_is_gone,
        "at": None if record is None else record.forked_at,
        "note": "" if record is None else record.note,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    drawn = "   " * (row["depth"] - 1) + "`- " if row["depth"] else ""
    note = one_line(row["note"])
    cut = note if len(note) <= SHOWN else f"{note[: SHOWN - 3]}..."
    middle = [run_cell(head, row[head]) for head in ("iterations", "best", "score", "status")]
    return [drawn + one_line(row["run"]), _from(row), *middle, cut]


def _from(row: dict[str, Any]) -> str:
    """From which iteration; where its source is not above it, of which run."""
    if row["forked_from"] is None:
        return "-"
    at = "regraded" if row["at"] is None else f"{row['at']:03d}"
    return f"{one_line(row['forked_from'])} {at} (gone)" if row["source_is_gone"] else at
