"""One jailed program from its start to its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import anyio
from anyio.abc import ByteReceiveStream, Process

from metaharness.errors import SandboxError
from metaharness.jail.broker import FAILURES, Handler
from metaharness.jail.description import Jail
from metaharness.jail.destinations import Attempt
from metaharness.jail.session import Cell, opened
from metaharness.ungroup import ungrouped

TAIL_BYTES = 8192
LONGEST_LINE = 16 << 20
"""Bytes; a longer line is given in parts."""


@dataclass(frozen=True)
class Ended:
    """What came of it."""

    exit_code: int
    """128 and the signal's number where one ended it."""
    stderr_tail: str
    attempts: tuple[Attempt, ...]
    """At the network, those that were refused first."""
    sealed_by: str
    ended_because: str | None
    """Which bound ended it; None when it ended by itself."""


async def run_jailed(
    jail: Jail,
    *,
    on_line: Callable[[str], object],
    stdin: bytes | None = None,
    arguments: tuple[str, ...] | Callable[[Cell], tuple[str, ...]] = (),
    serve: Mapping[str, Handler] | None = None,
) -> Ended:
    """Run a program in a jail; where this is cancelled it is asked to end, and killed some seconds later.

    Args:
        jail: What it is.
        on_line: Given each line of its stdout as it comes, without its end.
        stdin: All that it can read there; None: nothing.
        arguments: Added to the program's own; or what makes them, once the jail is open.
        serve: As `opened` takes it.

    Raises:
        UsageError: The jail is described wrongly.
        SandboxError: No jail can be made here; the hint says what to install.
    """
    async with opened(jail, serve=serve) as cell:
        process = await _started(cell, arguments(cell) if callable(arguments) else arguments)
        tail = bytearray()
        async with process:
            try:
                with ungrouped():
                    async with anyio.create_task_group() as group:
                        group.start_soon(fed, process, stdin or b"")
                        group.start_soon(kept, process.stderr, tail)
                        await lines(process.stdout, on_line)
                        code = await process.wait()
            finally:
                await cell.end()
                if process.returncode is None:  # it had not begun; what it has started dies with it
                    with suppress(ProcessLookupError):
                        process.kill()
        said = tail.decode("utf-8", "replace")
        if not cell.begun:
            raise SandboxError(f"the jail did not begin: {said.strip() or f'exit status {code}'}")
        return Ended(
            exit_code=code if code >= 0 else 128 - code,
            stderr_tail=said,
            attempts=cell.attempts(),
            sealed_by=cell.sealed_by(),
            ended_because=cell.ended_because,
        )


async def _started(cell: Cell, arguments: tuple[str, ...]) -> Process:
    jail = cell.jail
    passed = {name: os.environ[name] for name in jail.passed if name in os.environ}
    try:
        return await anyio.open_process(cell.argv(*arguments), env=passed, cwd=jail.workspace, start_new_session=True)
    except OSError as error:
        raise SandboxError(f"cannot start a jail: {error}") from error


async def fed(process: Process, data: bytes) -> None:
    """Write all that a program can read on its standard input."""
    assert process.stdin is not None
    async with process.stdin:
        with suppress(*FAILURES):  # it need not read
            await process.stdin.send(data)


async def lines(stream: ByteReceiveStream | None, on_line: Callable[[str], object]) -> None:
    """Give away each line as it comes."""
    assert stream is not None
    left = b""
    async for part in stream:
        *whole, left = (left + part).split(b"\n")
        for line in whole:
            on_line(line.decode("utf-8", "replace"))
        if len(left) > LONGEST_LINE:
            on_line(left.decode("utf-8", "replace"))
            left = b""
    if left:
        on_line(left.decode("utf-8", "replace"))


async def kept(stream: ByteReceiveStream | None, tail: bytearray) -> None:
    """Keep the end of what is written."""
    assert stream is not None
    async for part in stream:
        tail += part
        del tail[:-TAIL_BYTES]
