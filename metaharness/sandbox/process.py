"""A worker as a plain process of its own session, with an empty environment.

It does not guard files, network, or other processes of the same user: a candidate can read and do what the
user can. It keeps the environment (and the keys in it) away and bounds memory. It is for trusted candidates, and
for machines where nothing stronger works and the person has said so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from anyio.abc import ByteStream, UNIXSocketStream

from metaharness.errors import SandboxError
from metaharness.sandbox.bootstrap import BOOT, program


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

    async def end(self) -> int | None:
        """Kill the whole session and wait for the worker."""
        status = self._process.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        killed = self._process.wait()
        await self.stream.aclose()
        if self.output is not None:
            await self.output.aclose()
        return killed if status is None else status


class ProcessSandbox:
    """Starts workers as plain processes."""

    name = "process"

    async def start(self, python: str | None, candidate: Path) -> LocalProcess:
        """Start a worker; see `Sandbox.start`."""
        flags = ["-I", "-S"] if python is None else ["-I"]
        ours, theirs = socket.socketpair()
        out_ours, out_theirs = socket.socketpair()
        try:
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - a millisecond; a thread would cost as much
                [python or sys.executable, *flags, "-c", BOOT, str(theirs.fileno()), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=out_theirs.fileno(),
                stderr=out_theirs.fileno(),
                env={"LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
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
        stream = await UNIXSocketStream.from_socket(ours)
        output = await UNIXSocketStream.from_socket(out_ours)
        await stream.send(program(same_interpreter=python is None))
        return LocalProcess(process, stream, output)
