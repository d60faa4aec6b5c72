"""The processes of one start of a jailed program, seen from outside: bounded together, ended together. Linux."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio

from metaharness.jail.description import Bounds
from metaharness.machine.together import Watchdog, can_be_watched

GRACE_SECONDS = 5.0
"""What a program has to end by itself after SIGTERM."""


class Inmate:
    """All processes of one namespace, by the first of them, without which the others cannot be."""

    def __init__(self, relay: int, first: int, bounds: Bounds, ended: Callable[[str], None]) -> None:
        """`ended` is told why it was ended, if it was."""
        self._relay = os.pidfd_open(relay)
        self._first = os.pidfd_open(first)
        self._ended = ended
        self._bounds = bounds
        self._gone = anyio.Event()
        self._ending = False
        self._watchdog = Watchdog(first, bounds.memory_mb << 20, self._too_much, processes=bounds.processes)
        self._watchdog.start()

    def _too_much(self, taken: int, processes: int) -> None:
        if processes > self._bounds.processes:
            self._ended(f"it had {processes} processes, more than {self._bounds.processes}")
        else:
            self._ended(f"it took {taken >> 20} MB of memory, more than {self._bounds.memory_mb}")
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with suppress(OSError):
            signal.pidfd_send_signal(self._first, number)

    async def end(self, *, ask: bool = True) -> None:
        """Kill all after `GRACE_SECONDS`, return when all are gone. `ask`: the program is told to end."""
        if self._ending:
            await self._gone.wait()
            return
        self._ending = True
        if ask:
            with suppress(OSError):
                signal.pidfd_send_signal(self._relay, signal.SIGTERM)
        with anyio.move_on_after(GRACE_SECONDS):
            await anyio.wait_readable(self._first)
        self._send(signal.SIGKILL)
        await anyio.wait_readable(self._first)
        await anyio.to_thread.run_sync(self._watchdog.stop)
        os.close(self._first)
        os.close(self._relay)
        self._gone.set()


class Alone:
    """A start whose other processes are not seen: the relay alone, which ends its program. Not Linux."""

    def __init__(self, relay: int) -> None:
        self._relay = relay

    async def end(self, *, ask: bool = True) -> None:
        """Tell the relay to end the program; see `Inmate.end`."""
        if ask and self._relay:
            with suppress(OSError):
                os.kill(self._relay, signal.SIGTERM)


def first_of(pid: int) -> int | None:
    """The first process of the namespace of processes that this one is in; None when it is not to be seen, or ours."""
    with suppress(OSError, ValueError, IndexError):
        while pid > 1:
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
            )
            numbers = status["NSpid"].split()
            if len(numbers) > 1 and numbers[-1] == "1":
                return pid if can_be_watched(pid) else None
            pid = int(status["PPid"])
    return None
