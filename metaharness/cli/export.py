"""`export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metaharness.cli import options
from metaharness.cli.app import command

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, its beginning or its path; or latest.")]
Number = Annotated[
    int | None, typer.Argument(metavar="[ITERATION]", min=0, help="Such as 4; without it the best complete one.")
]
To = Annotated[Path | None, typer.Option("--to", help="A folder that is not there yet. Without it: RUN-NNN, here.")]
NoExamples = Annotated[
    bool, typer.Option("--no-examples", help="Leave the training cases out; the domain may then be gone.")
]


@command(
    """
    metaharness export latest
    metaharness export first 4 --to deploy/classifier
    metaharness export first --no-examples --json
    """
)
def export(
    run_name: Run,
    number: Number = None,
    to: To = None,
    no_examples: NoExamples = False,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Take a candidate out of a run, with all that is needed to use it: examples, a program, its numbers."""
    from metaharness.exporting import export
    from metaharness.history import History

    found = export(History(options.open_reader(root, run_name)), number, to, examples=not no_examples)
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        page = {"path": str(found.path), "files": found.files, "warnings": found.warnings, "numbers": found.numbers}
        options.print_json(page)
        return
    typer.echo(str(found.path))
    iteration, name = found.numbers["iteration"], found.numbers["name"]
    typer.echo(f"iteration {iteration:03d}{f', {name},' if name else ''} of run {found.numbers['run']}", err=True)
    typer.echo(f"to use it: see {found.path / 'README.md'}", err=True)
