"""`cache`: where the shared cache of model answers is, what it holds, and how it is emptied."""

from __future__ import annotations

from typing import Annotated

import typer

from metaharness.cli import options
from metaharness.cli.app import command

Clear = Annotated[bool, typer.Option("--clear", help="Forget every answer. Runs keep those in their journals.")]


@command(
    """
    metaharness cache
    metaharness cache --json
    metaharness cache --clear
    """
)
def cache(clear: Clear = False, as_json: options.AsJson = False) -> None:
    """Say where the shared cache of model answers is and how much it holds; with --clear, empty it.

    The environment variable METAHARNESS_CACHE names another file.
    """
    from metaharness.gateway.shared import default_path, empty, look

    path = default_path()
    if clear:
        empty(path)
    size = look(path)
    if as_json:
        held = {"entries": size.entries, "bytes": size.bytes, "limit": size.limit} if size else {}
        options.print_json({"path": str(path), "exists": size is not None, **held})
    elif size is None:
        typer.echo(f"{path} is not there yet: the first call to a model over the network makes it")
    else:
        typer.echo(f"{path}: {size.entries:,} answers, {_mib(size.bytes)} of at most {_mib(size.limit)}")


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"
