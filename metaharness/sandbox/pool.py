"""Workers that are started before they are needed. Each is used once; a new one is started in the background."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from metaharness.errors import SandboxError
from metaharness.sandbox.protocol import Sandbox, SandboxProcess

REFILL_SECONDS = 0.02
"""How long a new worker is held back after one was taken: that one loads its candidate first."""


def warm_size(concurrency: int) -> int:
    """How many workers to keep: what one evaluation uses, and at least the two of the ladder."""
    return max(2, min(os.cpu_count() or 1, concurrency))


class WarmPool:
    """A sandbox whose workers wait for their candidate.

    Without `open` it starts every worker when it is asked for one, as the sandbox behind it does.
    """

    def __init__(self, sandbox: Sandbox, python: str | None, size: int) -> None:
        """Keep `size` workers of one interpreter waiting."""
        self.name = sandbox.name
        self._sandbox = sandbox
        self._python = python
        self._size = size
        self._waiting: deque[SandboxProcess] = deque()
        self._starting = 0
        self._expected = 0
        self._changed = anyio.Event()
        self._group: TaskGroup | None = None

    def open(self, group: TaskGroup) -> None:
        """Begin to keep workers, started by tasks of this group."""
        self._group = group
        self._refill(0)

    async def start(self, python: str | None, candidate: Path) -> SandboxProcess:
        """A worker that waits or is being started, else a new one; see `Sandbox.start`."""
        if python == self._python:
            while self._waiting or self._starting > self._expected:
                if not self._waiting:
                    await self._change()
                    continue
                process = self._waiting.popleft()
                self._refill(REFILL_SECONDS)
                if process.alive():
                    return process
                await process.end()
        self._refill(REFILL_SECONDS)
        return await self._sandbox.start(python, candidate)

    async def aclose(self) -> None:
        """End the workers that wait."""
        self._size = 0
        while self._waiting:
            await self._waiting.popleft().end()

    async def _change(self) -> None:
        """Wait until a worker that is being started waits, or could not be started."""
        self._expected += 1
        try:
            await self._changed.wait()
        finally:
            self._expected -= 1

    def _refill(self, delay: float) -> None:
        if self._group is None:
            return
        for _ in range(self._size - len(self._waiting) - self._starting):
            self._starting += 1
            self._group.start_soon(self._add, delay)

    async def _add(self, delay: float) -> None:
        try:
            await anyio.sleep(delay)
            with anyio.CancelScope(shield=True):
                self._waiting.append(await self._sandbox.start(self._python, Path()))
        except SandboxError:
            self._size = 0  # whoever asks for a worker is told why there is none
        finally:
            self._starting -= 1
            changed, self._changed = self._changed, anyio.Event()
            changed.set()
