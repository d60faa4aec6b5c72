"""Ctrl+C and SIGTERM: the first lets what is in the air end and be written, the second drops it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
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


async def until_signal(
    work: Stoppable, doing: Callable[[], Awaitable[T]], clear: Callable[[], None], *, fate: str = "finished and written"
) -> T | None:
    """What `doing` returns; None where a second signal has dropped what was in the air.

    Args:
        work: Stopped by the first signal.
        doing: Begins the work and waits for its end.
        clear: Takes a changing line away; called before anything is said, and at the end.
        fate: What becomes of what is in the air, as the first signal is answered.

    Raises:
        Whatever `doing` raises, not in a group.
    """
    import anyio

    from metaharness.ungroup import ungrouped

    done: T | None = None
    try:
        with ungrouped():
            async with anyio.create_task_group() as group:
                listening = group.start_soon(_on_signals, work, group.cancel_scope, partial(_say, clear, fate))
                done = await doing()
                listening.cancel()
    finally:
        clear()
    return done


async def _on_signals(work: Stoppable, all_of_it: CancelScope, say: Callable[[], None]) -> None:
    """Stop the work at the first signal, cancel all of it at the second."""
    import anyio

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if work.stopping:
                all_of_it.cancel()
                return
            work.stop()
            say()


def _say(clear: Callable[[], None], fate: str) -> None:
    clear()
    print(f"stopping: what is in the air is {fate}; once more to stop at once", file=sys.stderr, flush=True)
