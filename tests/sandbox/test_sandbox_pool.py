"""Workers that wait: each is handed out once, a dead one never, and none is left when the pool is closed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from metaharness.errors import SandboxError
from metaharness.sandbox.pool import WarmPool, warm_size
from metaharness.sandbox.process import LocalProcess, ProcessSandbox
from metaharness.sandbox.protocol import SandboxProcess

HERE = Path()


class Counting(ProcessSandbox):
    """Remembers what it has started."""

    def __init__(self) -> None:
        self.started: list[LocalProcess] = []

    async def start(self, python: str | None, candidate: Path) -> LocalProcess:
        process = await super().start(python, candidate)
        self.started.append(process)
        return process


@asynccontextmanager
async def opened(sandbox: ProcessSandbox, size: int, python: str | None = None) -> AsyncIterator[WarmPool]:
    pool = WarmPool(sandbox, python, size)
    try:
        async with anyio.create_task_group() as group:
            pool.open(group)
            await anyio.wait_all_tasks_blocked()
            yield pool
    finally:
        await pool.aclose()


async def ended(*workers: SandboxProcess) -> None:
    for worker in workers:
        await worker.end()


async def test_a_waiting_worker_is_handed_out_once_and_another_is_started() -> None:
    sandbox = Counting()
    async with opened(sandbox, 2) as pool:
        waiting = list(sandbox.started)
        assert len(waiting) == 2
        taken = [await pool.start(None, HERE) for _ in range(3)]
        assert taken[:2] == waiting
        assert len(set(map(id, taken))) == 3
        await ended(*taken)
    assert len(sandbox.started) > 3
    assert not any(worker.alive() for worker in sandbox.started)


async def test_a_worker_that_died_while_it_waited_is_not_handed_out() -> None:
    sandbox = Counting()
    async with opened(sandbox, 1) as pool:
        dead = sandbox.started[0]
        os.kill(dead.pid, signal.SIGKILL)
        with anyio.fail_after(30):
            while dead.alive():  # noqa: ASYNC110 - nothing tells when a process ends
                await anyio.sleep(0.01)
        worker = await pool.start(None, HERE)
        assert worker is not dead
        assert worker.alive()
        await ended(worker)


async def test_a_worker_of_another_interpreter_is_started_for_whoever_asks() -> None:
    sandbox = Counting()
    async with opened(sandbox, 1) as pool:
        worker = await pool.start(sys.executable, HERE)
        assert worker is not sandbox.started[0]
        await ended(worker)


async def test_a_pool_that_is_not_open_starts_each_worker_when_asked() -> None:
    sandbox = Counting()
    pool = WarmPool(sandbox, None, 2)
    worker = await pool.start(None, HERE)
    assert sandbox.started == [worker]
    await ended(worker)
    await pool.aclose()


async def test_an_interpreter_that_is_none_is_told_to_whoever_asks_and_to_nobody_else() -> None:
    async with opened(ProcessSandbox(), 2, python="/no/such/python") as pool:
        with pytest.raises(SandboxError, match="/no/such/python"):
            await pool.start("/no/such/python", HERE)


def test_a_pool_holds_what_one_evaluation_uses_and_the_two_of_the_ladder() -> None:
    assert warm_size(1) == 2
    assert 2 <= warm_size(1000) <= max(2, os.cpu_count() or 1)
