"""A worker as a plain process: how it is started, told apart from a dead one, and ended."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from metaharness.errors import SandboxError, UsageError
from metaharness.sandbox import open_sandbox
from metaharness.sandbox.process import ProcessSandbox
from metaharness.sandbox.protocol import CandidateFiles, FrameReader, SandboxProcess, encode


async def first_frame(worker: SandboxProcess) -> dict[str, object]:
    reader = FrameReader()
    with anyio.fail_after(30):
        while True:
            for frame in reader.feed(await worker.stream.receive()):
                return frame


async def test_a_worker_says_that_it_is_ready_before_it_knows_of_a_candidate(tmp_path: Path) -> None:
    worker = await ProcessSandbox().start(None, tmp_path)
    try:
        init = {"kind": "init", "folder": str(tmp_path), "entry": "none.py", "importable": False}
        limits = {"limits": {"memory": 1 << 30}, "stack": 1 << 20, "most": [1, 1, 1, 1]}
        await worker.stream.send(encode({**init, **limits, "driver_source": None}))
        assert await first_frame(worker) == {"kind": "ready"}
        assert worker.alive()
    finally:
        await worker.end()
    assert not worker.alive()


async def test_a_worker_ends_when_its_pipe_is_closed(tmp_path: Path) -> None:
    worker = await ProcessSandbox().start(None, tmp_path)
    await worker.stream.aclose()
    with anyio.fail_after(30):
        while worker.alive():  # noqa: ASYNC110 - nothing tells when a process ends
            await anyio.sleep(0.01)
    assert worker.kill() >= 0
    await worker.end()


async def test_the_status_of_a_dead_worker_is_its_own_and_of_a_living_one_the_signal(tmp_path: Path) -> None:
    living = await ProcessSandbox().start(None, tmp_path)
    assert living.kill() == -signal.SIGKILL
    assert living.kill() == -signal.SIGKILL
    await living.end()
    await living.end()
    dead = await ProcessSandbox().start(None, tmp_path)
    os.kill(dead.pid, signal.SIGTERM)
    with anyio.fail_after(30):
        while dead.alive():  # noqa: ASYNC110 - nothing tells when a process ends
            await anyio.sleep(0.01)
    assert dead.kill() == -signal.SIGTERM
    await dead.end()


async def test_a_worker_that_cannot_be_started_says_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="/no/such/python") as error:
        await ProcessSandbox().start("/no/such/python", tmp_path)
    assert "Domain.python" in (error.value.hint or "")


async def test_a_closed_pipe_is_told_to_whoever_waits_for_it(tmp_path: Path) -> None:
    worker = await ProcessSandbox().start(sys.executable, tmp_path)
    told: list[str] = []

    async def wait() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await worker.stream.receive()
        told.append("closed")

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await worker.end()
    assert told == ["closed"]
    with pytest.raises(anyio.ClosedResourceError):
        await worker.stream.send(b"more")


def test_a_candidate_is_a_file_or_a_folder_with_an_entry(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.touch()
    assert CandidateFiles.at(file) == CandidateFiles(tmp_path.resolve(), "some.py", importable=False)
    assert CandidateFiles.at(tmp_path) == CandidateFiles(tmp_path.resolve(), "harness.py", importable=True)


def test_an_unknown_sandbox_is_a_usage_error_that_names_those_that_are_known() -> None:
    assert open_sandbox("process").name == "process"
    with pytest.raises(UsageError) as error:
        open_sandbox("castle")
    assert "process" in (error.value.hint or "")
