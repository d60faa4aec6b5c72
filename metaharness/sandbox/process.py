"""A worker as a plain process of its own session, with an empty environment.

It does not guard files, network, or other processes of the same user: a candidate can read and do what the
user can, and what it starts in a session of its own is not found again. Its environment is empty, but that of the
engine can be read where the system shows it (`/proc`). Its limits are its own, and root can raise them. It is for
trusted candidates, and for machines where nothing stronger works and the person has said so.

What it does not contain, by the names of the attacks in `metaharness.attacks` that work in it:

    reads what the person can read
        labels by path, records by path, labels beside the file, another candidate, labels through a link,
        labels through /proc, key file
    reaches every server
        tcp, tcp without connect, udp, dns, abstract socket, socket by path, socket through /proc/self/fd,
        datagram socket, datagram from a pair, server
    starts processes, and some outlive their worker or the engine
        daemon, program left behind, program, fork by other calls, survive the engine, survive the engine as a
        child, fork bomb, processes that share the memory limit
    gets at other processes of the same user
        signal the engine, signal everybody, signal by other calls, limits of the engine
    writes where the person can write, and fills it
        tmpfs bomb, disk bomb, many files, write outside, change the data, change the harness, modes
    takes memory that is in no limit
        memfd bomb, shared memory bomb, queues and keys of the kernel
    on some machines, or under root
        memory of the engine, descriptors of the engine, environment of the engine, trace the engine, names in
        the home folder, namespaces, fork as another machine, io_uring, other doors of the kernel, devices,
        memory without a limit, pipe bomb
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio
from anyio.abc import ByteStream

from metaharness.errors import SandboxError
from metaharness.machine.interpreter import CHECK
from metaharness.machine.pipe import Pipe
from metaharness.sandbox.bootstrap import BOOT, program

ENVIRONMENT = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2"}
"""All that a worker is started with; it adds placeholders for the keys of clients (`clients/following.py`)."""


class LocalProcess:
    """A worker started on this machine."""

    inside: str | None = None
    counts_processes = False
    ended_because: str | None = None

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

    async def begin(self) -> None:
        """What has to happen once the process is there, before anything is sent to it.

        Raises:
            SandboxError: It cannot be used.
        """

    def confine(self, memory: int) -> None:
        """Nothing: one process has its limit; see `SandboxProcess.confine`."""

    def kill(self) -> int:
        """Kill the whole session and wait for the worker; see `SandboxProcess.kill`."""
        return _kill(self._process)

    async def end(self) -> None:
        """Kill it and close the streams."""
        self.kill()
        await self.stream.aclose()
        if self.output is not None:
            await self.output.aclose()


Worker = TypeVar("Worker", bound=LocalProcess)


@dataclass(frozen=True)
class Launch:
    """What starts a worker."""

    command: Sequence[str]
    """Ends in BOOT and its arguments are added: the descriptors of the pipe."""
    first: bytes
    """What is sent at once: the worker's program."""
    environment: Mapping[str, str]
    pass_fds: Sequence[int] = ()
    """Descriptors that it inherits beside the pipe."""
    over_stdio: bool = False
    """Whether the pipe is its stdin and stdout, as a command that starts a container needs it."""


class ProcessSandbox:
    """Starts workers as plain processes."""

    name = "process"

    async def start(self, python: str | None, candidate: Path) -> LocalProcess:
        """Start a worker; see `Sandbox.start`."""
        # not -I: it would ignore PYTHONHASHSEED, and sets of strings would have another order in every worker
        flags = ["-s", "-S"] if python is None else ["-s"]
        command = [python or sys.executable, *flags, "-c", BOOT]
        return await start_worker(Launch(command, program(python is None, {}), ENVIRONMENT), LocalProcess)


async def start_worker(
    launch: Launch, kind: Callable[[subprocess.Popen[bytes], ByteStream, ByteStream], Worker]
) -> Worker:
    """Start a process and send it the worker's program.

    Raises:
        SandboxError: It could not be started.
    """
    ours, theirs = socket.socketpair()
    out_ours, out_theirs = socket.socketpair()
    pipe = theirs.fileno()
    try:
        process = subprocess.Popen(  # noqa: S603, ASYNC220 - a millisecond; a thread would cost as much
            [*launch.command, *(["0", "1"] if launch.over_stdio else [str(pipe), str(pipe)])],
            stdin=pipe if launch.over_stdio else subprocess.DEVNULL,
            stdout=pipe if launch.over_stdio else out_theirs.fileno(),
            stderr=out_theirs.fileno(),
            env=dict(launch.environment),
            pass_fds=launch.pass_fds if launch.over_stdio else [pipe, *launch.pass_fds],
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        ours.close()
        out_ours.close()
        raise SandboxError(f"cannot start {launch.command[0]}: {error}", hint=CHECK) from error
    finally:
        theirs.close()
        out_theirs.close()
    worker = kind(process, Pipe(ours), Pipe(out_ours))
    try:
        await worker.begin()
        await worker.stream.send(launch.first)
    except anyio.BrokenResourceError:
        return worker  # it died at once: found when it is read from
    except BaseException:  # nobody else knows of this process
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
        for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:  # noqa: PTH208 - quicker
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(pid) == session and os.getpgid(pid) != session:
                    strays.add(pid)
    return strays
