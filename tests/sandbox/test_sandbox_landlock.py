"""Landlock: what is its own. What it has in common with bubblewrap stands in test_sandbox_contained.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sandbox_kit import inside, needs_landlock

from metaharness.records import Limits
from metaharness.sandbox.landlock import LandlockSandbox, landlock_abi

pytestmark = needs_landlock

WRITES = """
found = []
for path in ['/tmp/x', '/dev/shm/x', '/var/tmp/x', '/dev/full', os.path.dirname(__file__) + '/x', text + '/x']:
    try:
        open(path, 'w').close()
        found.append(path)
    except OSError:
        pass
return found
"""


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6, 99])
async def test_nothing_is_written_whatever_the_kernel_can(abi: int, tmp_path: Path) -> None:
    trace = await inside(LandlockSandbox(abi), tmp_path, WRITES, before="import os", told=str(tmp_path))
    assert trace.output == [], trace.error
    assert os.listdir(tmp_path) == ["candidate"]  # noqa: PTH208


@pytest.mark.parametrize("abi", [1, 99])
async def test_no_folder_is_listed_but_those_that_are_read(abi: int, tmp_path: Path) -> None:
    body = """
found = []
for path in ['/', '/proc', '/etc', '/tmp', '/root', '/home', '/var', text]:
    try:
        found += os.listdir(path)
    except OSError:
        pass
return found
"""
    trace = await inside(LandlockSandbox(abi), tmp_path, body, before="import os", told=str(tmp_path))
    assert trace.output == [], trace.error


async def test_metadata_stays_visible_as_is_said(tmp_path: Path) -> None:
    """Not guarded; the docstring says so. Where this fails, the docstring has to change."""
    trace = await inside(LandlockSandbox(), tmp_path, "import os\nreturn os.stat(text).st_mode", told=str(tmp_path))
    assert trace.output == os.stat(tmp_path).st_mode  # noqa: PTH116


async def test_a_harness_starts_no_program_that_would_outlive_it(tmp_path: Path) -> None:
    """Landlock has no namespace of processes to end with it, so none may be started, also under root."""
    body = """
started = 0
for _ in range(20):
    try:
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
    except OSError:
        continue
    started += 1
return started
"""
    assert (await inside(LandlockSandbox(), tmp_path, body, before="import os, time")).output == 0


async def test_root_has_no_capability_left(tmp_path: Path) -> None:
    body = """
import ctypes, os
data = (ctypes.c_uint32 * 6)()
ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), data)
return list(data)
"""
    assert (await inside(LandlockSandbox(), tmp_path, body)).output == [0] * 6


async def test_a_limit_is_never_above_the_one_that_stands(tmp_path: Path) -> None:
    body = "import resource\nreturn list(resource.getrlimit(resource.RLIMIT_NOFILE))"
    trace = await inside(LandlockSandbox(), tmp_path, body, limits=Limits(open_files=1 << 40))
    assert trace.status == "ok", trace.error
    assert 0 < trace.output[1] <= 1 << 40


async def test_the_abi_is_asked_of_the_kernel() -> None:
    """No file tells it where securityfs is not mounted."""
    assert landlock_abi() >= 1


async def test_a_worker_whose_parent_has_ended_does_not_start(tmp_path: Path) -> None:
    worker = await LandlockSandbox().start(None, tmp_path)
    try:
        assert os.getsid(worker.pid) == worker.pid, "a session of its own: no signal to its group reaches another"
    finally:
        await worker.end()
