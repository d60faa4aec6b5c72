"""Ctrl+C and SIGTERM: the first lets what is in the air end and be written, the second drops it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from anyio import CancelScope


class Stoppable(Protocol):
    """What can be asked to start nothing new."""

    @property
    def stopping(self) -> bool:
        """Whether it was asked."""
        ...

    def stop(self) -> None:
        """Ask it."""
        ...


async def stop_on_signal(work: Stoppable, cancel: CancelScope, clear: Callable[[], None]) -> None:
    """Listen until cancelled.

    Args:
        work: Stopped by the first signal.
        cancel: Cancelled by the second.
        clear: Called before anything is said, to take a changing line away.
    """
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
