"""Workers that are started before they are needed. Each is used once; a new one is started in the background."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from metaharness.errors import SandboxError
from metaharness.sandbox.protocol import Sandbox, SandboxProcess


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
        self._group: TaskGroup | None = None

    def open(self, group: TaskGroup) -> None:
        """Begin to keep workers, started by tasks of this group."""
        self._group = group
        self._refill()

    async def start(self, python: str | None, candidate: Path) -> SandboxProcess:
        """A waiting worker, or a new one; see `Sandbox.start`."""
        if python == self._python:
            while self._waiting:
                process = self._waiting.popleft()
                self._refill()
                if process.alive():
                    return process
                await process.end()
        self._refill()
        return await self._sandbox.start(python, candidate)

    async def aclose(self) -> None:
        """End the workers that wait."""
        self._size = 0
        while self._waiting:
            await self._waiting.popleft().end()

    def _refill(self) -> None:
        if self._group is None:
            return
        for _ in range(self._size - len(self._waiting) - self._starting):
            self._starting += 1
            self._group.start_soon(self._add)

    async def _add(self) -> None:
        try:
            await anyio.lowlevel.checkpoint()  # whoever asked for a worker goes first
            with anyio.CancelScope(shield=True):
                self._waiting.append(await self._sandbox.start(self._python, Path()))
        except SandboxError:
            self._size = 0  # whoever asks for a worker is told why there is none
        finally:
            self._starting -= 1
