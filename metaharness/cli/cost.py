"""`cost`: what the money of a run has gone to."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.runs import print_spent
from metaharness.cli.text import one_line


class Key(StrEnum):
    """What calls are added up by."""

    ROLE = "role"
    MODEL = "model"
    ITERATION = "iteration"
    DAY = "day"


ByKey = Annotated[Key | None, typer.Option("--by", help="Only this table. Days are those of UTC. Default: all.")]


@command(
    """
    metaharness cost
    metaharness cost 2026-04-23 --by iteration
    metaharness cost 2026-04-23 --json
    """
)
def cost(
    run_name: options.RunName = None,
    by: ByKey = None,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Say what a run has cost, by role, model, iteration and day, from its journals, and what is left of its budget."""
    from metaharness.history import History
    from metaharness.run.accounts import read_cost
    from metaharness.run.bounds import BoundState, state_line
    from metaharness.scoring.scoreboard import align

    page = read_cost(History(options.open_reader(root, run_name)))
    keys = list(Key) if by is None else [by]
    if as_json:
        left_out = {f"by_{key}" for key in Key if key not in keys}
        options.print_json({name: value for name, value in page.items() if name not in left_out})
        return
    for key in keys:
        heads = [key.value, "calls", "input_tokens", "output_tokens", "usd", "unpriced", "cached", "saved_usd"]
        rows = [[_named(row, key), *(_cell(head, row[head]) for head in heads[1:])] for row in page[f"by_{key}"]]
        typer.echo(align([heads, *rows]) + "\n")
    print_spent(page["spent"])
    for state in page["budget"]:
        typer.echo(state_line(BoundState.model_validate(state)))


def _named(row: dict[str, Any], key: Key) -> str:
    value = row[key.value]
    if key is not Key.ITERATION:
        return one_line(value)
    number = "none" if value is None else f"{value:03d}"
    return f"{number} sealed test" if row["sealed"] else number


def _cell(head: str, value: Any) -> str:
    return f"{value:.4f}" if head in ("usd", "saved_usd") else f"{value:,}"
