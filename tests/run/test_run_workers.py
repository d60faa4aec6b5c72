"""The workers that a run keeps warm end with it."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from run_kit import harness, write_toy

from metaharness.run import Run


def children() -> set[int]:
    """The processes that this one has started and not waited for."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    return {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to see the processes")
async def test_a_run_that_is_cancelled_leaves_no_worker_behind(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", cases=4, proposals={"1_good.py": harness("good")})
    before = children()
    with anyio.CancelScope() as scope:
        async with Run.create(toy.config(), tmp_path / "runs"):
            await anyio.wait_all_tasks_blocked()
            assert children() > before
            scope.cancel()
            await anyio.sleep_forever()
    assert children() == before
