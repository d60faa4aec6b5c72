"""The deadline of one model call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from metaharness.errors import ModelFailure


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Cancel what runs inside after `seconds`.

    Raises:
        ModelFailure: The time was over: missing data, not the harness's doing.
    """
    with anyio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise ModelFailure("infrastructure", f"no answer within {seconds:g} seconds")
