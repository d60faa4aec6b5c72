"""What the engine tells and warns of beside its results, such as packages being installed: on stderr, line by line."""

from __future__ import annotations

import logging

import typer

from metaharness.cli.text import printable


class _Stderr(logging.Handler):
    """Writes to what stderr is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        typer.echo(mark + printable(record.getMessage()), err=True)


def telling() -> None:
    """Show it from now on."""
    logger = logging.getLogger("metaharness")
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        logger.addHandler(_Stderr())
        logger.setLevel(logging.INFO)
        logger.propagate = False
