"""What a check says, and how a check that fails is told instead of raised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from metaharness.errors import MetaharnessError

State = Literal["ok", "warning", "problem"]
AGAIN = "put that right, then ask again: metaharness doctor"
"""What to do about an error that has no hint of its own."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    area: str
    """What it belongs to: python, environment, keys, sandbox, models, shared cache, sealed cases,
    run folder, runs."""
    name: str
    """What was looked at; for `runs` the id of the run."""
    state: State
    """`problem`: something does not work until it is put right. `warning`: it works, but look at it."""
    found: str
    advice: str | None = None
    """What to do; None when nothing is to be done."""


def guarded(area: str, name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check. One that cannot be carried out is a problem, and the checks after it still run."""
    try:
        yield from check()
    except MetaharnessError as error:
        yield Finding(area, name, "problem", error.message, error.hint or AGAIN)
    except OSError as error:
        where = f" ({error.filename})" if error.filename is not None else ""
        reason = f"{error.strerror or type(error).__name__}{where}"
        yield Finding(area, name, "problem", reason, AGAIN)
