"""One error instead of a group: what a task group collects reaches a caller as the error that matters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from metaharness.errors import MetaharnessError


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the error to report of several that came together: one of ours where there is one."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    ours, others = group.split(MetaharnessError)
    chosen: BaseException = ours or others or group
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen
