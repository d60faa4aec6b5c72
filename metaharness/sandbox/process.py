"""A worker as a plain process of its own session, with an empty environment.

It does not guard files, network, or other processes of the same user: a candidate can read and do what the
user can, and what it starts in a session of its own is not found again. It keeps the environment (and the keys in
it) away and bounds memory. It is for trusted candidates, and for machines where nothing stronger works and the
person has said so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
from anyio.abc import ByteStream

from metaharness.errors import SandboxError
from metaharness.sandbox.bootstrap import BOOT, program
from metaharness.sandbox.pipe import Pipe


class LocalProcess:
    """A worker started on this machine."""

    def __init__(self, process: subprocess.Popen[bytes], stream: ByteStream, output: ByteStream) -> None:
        self._process = process
        self.stream = stream
        self.output: ByteStream | None = output

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs. One that does not is not waited for yet where that can be told otherwise."""
        if self._process.returncode is not None or not hasattr(os, "waitid"):
            return self._process.poll() is None
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def kill(self) -> int:
        """Kill the whole session and wait for the worker; see `SandboxProcess.kill`."""
        return _kill(self._process)

    async def end(self) -> None:
        """Kill it and close the streams."""
        self.kill()
        await self.stream.aclose()
        if self.output is not None:
            await self.output.aclose()


class ProcessSandbox:
    """Starts workers as plain processes."""

    name = "process"

    async def start(self, python: str | None, candidate: Path) -> LocalProcess:
        """Start a worker; see `Sandbox.start`."""
        ours, theirs = socket.socketpair()
        out_ours, out_theirs = socket.socketpair()
        # not -I: it would ignore PYTHONHASHSEED, and sets of strings would have another order in every worker
        flags = ["-s", "-S"] if python is None else ["-s"]
        try:
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - a millisecond; a thread would cost as much
                [python or sys.executable, *flags, "-c", BOOT, str(theirs.fileno()), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=out_theirs.fileno(),
                stderr=out_theirs.fileno(),
                env={"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2"},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            ours.close()
            out_ours.close()
            raise SandboxError(
                f"cannot start {python or sys.executable}: {error}",
                hint="check Domain.python: it must be the path of a Python 3.9 or later",
            ) from error
        finally:
            theirs.close()
            out_theirs.close()
        worker = LocalProcess(process, Pipe(ours), Pipe(out_ours))
        try:
            await worker.stream.send(program(same_interpreter=python is None))
        except anyio.BrokenResourceError:
            return worker  # it died at once: found when it is read from
        except BaseException:  # cancelled: nobody else knows of this process
            with anyio.CancelScope(shield=True):
                await worker.end()
            raise
        return worker


def _kill(process: subprocess.Popen[bytes]) -> int:
    """Kill a session and wait for its leader. Until that is waited for, no other session can have its number."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        killed: set[int] = set()
        while strays := _strays(process.pid) - killed:  # again: one may have forked while it was being killed
            for pid in strays:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            killed |= strays
    return process.wait()


def _strays(session: int) -> set[int]:
    """Processes of the session that left its process group. Empty where there is no /proc to look into."""
    strays = set()
    with contextlib.suppress(FileNotFoundError):
        for pid in [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(pid) == session and os.getpgid(pid) != session:
                    strays.add(pid)
    return strays
