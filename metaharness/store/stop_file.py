"""`STOP` in a run directory: anybody who may write there asks the process that searches to stop."""

from __future__ import annotations

from pathlib import Path

from metaharness.store.files import store_errors

STOP = "STOP"


def stop_asked(run: Path) -> bool:
    """Whether there is such a file."""
    return (run / STOP).exists()


def forget_stop(run: Path) -> None:
    """Remove it: the run goes on."""
    with store_errors("remove", run / STOP):
        (run / STOP).unlink(missing_ok=True)
