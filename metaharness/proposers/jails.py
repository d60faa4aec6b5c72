"""Jails for agent programs that write candidates: whether there can be one, and what is never seen in it."""

from __future__ import annotations

import sys
from pathlib import Path

from metaharness.errors import SandboxError, UsageError
from metaharness.jail import bubblewrapped, seatbelted
from metaharness.run import Run


def check_jail() -> None:
    """Make sure of it before there is a run.

    Raises:
        UsageError: No jail can be made here; the hint says what to install, and how to do without.
    """
    try:
        if sys.platform == "linux":
            bubblewrapped.find_program()
        else:
            seatbelted.find_program()
    except SandboxError as error:
        raise UsageError(error.message, hint=error.hint) from error


def secrets_of(run: Run) -> tuple[Path, ...]:
    """The runs, the domain's folder, and the data that its options name."""
    named = (Path(value) for value in run.config.domain_options.values())
    return (run.store.path.parent, run.domain.root, *(path for path in named if path.is_absolute() and path.exists()))
