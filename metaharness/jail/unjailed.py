"""The same without a jail: a program with the rights of this user, which somebody has asked for.

What this does not guard: anything. It reads what the user can read, the test split too, and connects wherever it likes.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import anyio
from anyio.abc import Process

from metaharness.errors import SandboxError
from metaharness.jail.broker import Handler, listen
from metaharness.jail.description import Jail
from metaharness.jail.layout import Layout
from metaharness.jail.running import Ended, fed, kept, lines
from metaharness.jail.session import place, serving
from metaharness.ungroup import ungrouped

SEALED_BY = "nothing: the program ran unjailed, with the rights of the user"
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR")
"""Variables that it has beside those that it is given."""
END_SECONDS = 3.0
START = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Starts the program so that on Linux it is killed where this process is; what it has started itself is not."""


class Outside:
    """Where its bridge is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def bridge(self, name: str) -> list[str]:
        """What the program starts to speak over stdio with what is served under a name."""
        relay = Path(__file__).with_name("relay.py")
        return [*Layout.python(), str(relay), "mcp", str(self._folder / name)]

    @staticmethod
    def sealed_by() -> str:
        """What a test score says of how it was sealed from the program."""
        return SEALED_BY


async def run_unjailed(
    jail: Jail,
    *,
    on_line: Callable[[str], object],
    stdin: bytes | None = None,
    arguments: Callable[[Outside], tuple[str, ...]],
    serve: Mapping[str, Handler] | None = None,
) -> Ended:
    """Run a program as `run_jailed` does, without the jail: of the bounds the time alone is kept.

    Raises:
        UsageError: There is no such program.
        SandboxError: It cannot be started.
    """
    program = str(jail.executable)
    ended_because: str | None = None
    with ungrouped(), tempfile.TemporaryDirectory(prefix="agent-", dir=place()) as folder:
        async with anyio.create_task_group() as group:
            for name, handler in (serve or {}).items():
                await listen(str(Path(folder) / name), serving(handler), group)
            start = (*Layout.python(), "-c", START, program, *jail.program[1:])
            process = await _started(jail, (*start, *arguments(Outside(Path(folder)))))
            tail = bytearray()
            try:
                async with process:
                    with anyio.move_on_after(jail.bounds.seconds) as clock:
                        async with anyio.create_task_group() as talk:
                            talk.start_soon(fed, process, stdin or b"")
                            talk.start_soon(kept, process.stderr, tail)
                            await lines(process.stdout, on_line)
                            await process.wait()
                    if clock.cancelled_caught:
                        ended_because = f"it took longer than {jail.bounds.seconds:g} s"
                        await _end(process)
            finally:
                await _end(process)
            group.cancel_scope.cancel()
    code = process.returncode or 0
    return Ended(code if code >= 0 else 128 - code, tail.decode("utf-8", "replace"), (), SEALED_BY, ended_because)


async def _started(jail: Jail, command: tuple[str, ...]) -> Process:
    names = (*KEPT, *jail.passed)
    variables = {name: os.environ[name] for name in names if name in os.environ} | dict(jail.environment)
    try:
        return await anyio.open_process(command, env=variables, cwd=jail.workspace, start_new_session=True)
    except OSError as error:
        raise SandboxError(f"cannot start {command[0]}: {error}") from error


async def _end(process: Process) -> None:
    """End it with all that it has started in its session: asked first, then killed."""
    with anyio.CancelScope(shield=True):
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with anyio.move_on_after(END_SECONDS):
                await process.wait()
                if sign == signal.SIGKILL:
                    return
