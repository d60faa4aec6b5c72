"""The command line as a tree of commands, for rules about its help and about commands shown elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer.main

from metaharness.cli import main
from metaharness.cli.app import app


def tree() -> Any:
    """The whole command line. Calling it once registers the commands."""
    main(["--version"])
    return typer.main.get_command(app)


def command_names() -> list[str]:
    """Every command, sorted."""
    return sorted(tree().commands)


def parse(arguments: Sequence[str]) -> None:
    """Parse a command line without running it; an unknown command, option or value is an error."""
    group = tree()
    name, *rest = arguments
    if name.startswith("-"):
        assert name in {option for parameter in group.params for option in parameter.opts}, f"no option {name}"
        return
    assert name in group.commands, f"no command {name}"
    group.commands[name].make_context(name, list(rest))
