"""`init`: a new domain folder that can be checked, evaluated and searched at once."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from metaharness.cli import options
from metaharness.cli.app import command

NewFolder = Annotated[
    Path, typer.Argument(metavar="NAME", help="The folder to make; its last part is the name of the domain.")
]


@command(
    """
    metaharness init my_domain
    metaharness init work/my_domain --json
    """
)
def init(name: NewFolder, as_json: options.AsJson = False) -> None:
    """Make a domain folder that works at once, for you to change. Nothing is overwritten."""
    from metaharness.scaffold import FILES, make_domain

    made = make_domain(name)
    folder = str(made.path)
    steps = {
        "check it": ["check", folder],
        "evaluate a baseline": ["evaluate", str(made.path / "baselines" / "00_zero_shot.py"), "--domain", folder],
        "search": ["run", "--domain", folder],
    }
    following = {what: shlex.join(["metaharness", *arguments]) for what, arguments in steps.items()}
    if as_json:
        options.print_json({"path": folder, "domain": made.name, "files": dict(FILES), "next": [*following.values()]})
        return
    width = max(map(len, FILES))
    typer.echo(f"made the domain {made.name} in {folder}")
    for file, what in FILES.items():
        typer.echo(f"  {file:<{width}}  {what}")
    typer.echo("next:")
    for what, line in following.items():
        typer.echo(f"  {line}  # {what}")
