"""Ctrl+C and SIGTERM: the first lets what is in the air end and be written, the second drops it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from anyio import CancelScope

T = TypeVar("T")


class Stoppable(Protocol):
    """What can be asked to start nothing new."""

    @property
    def stopping(self) -> bool:
        """Whether it was asked."""
        ...

    def stop(self) -> None:
        """Ask it."""
        ...


async def until_signal(work: Stoppable, doing: Callable[[], Awaitable[T]], clear: Callable[[], None]) -> T | None:
    """What `doing` returns; None where a second signal has dropped what was in the air.

    Args:
        work: Stopped by the first signal.
        doing: Begins the work and waits for its end.
        clear: Takes a changing line away; called before anything is said, and at the end.

    Raises:
        Whatever `doing` raises, not in a group.
    """
    import anyio

    from metaharness.run.ungroup import ungrouped

    done: T | None = None
    try:
        with ungrouped():
            async with anyio.create_task_group() as group:
                group.start_soon(_stop_on_signal, work, group.cancel_scope, clear)
                done = await doing()
                group.cancel_scope.cancel()
    finally:
        clear()
    return done


async def _stop_on_signal(work: Stoppable, cancel: CancelScope, clear: Callable[[], None]) -> None:
    """Listen until cancelled."""
    import anyio

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            clear()
            if work.stopping:
                cancel.cancel()
                return
            work.stop()
            message = "stopping: what is in the air is finished and written; once more to stop at once"
            print(message, file=sys.stderr, flush=True)
