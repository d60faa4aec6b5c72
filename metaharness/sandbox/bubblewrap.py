"""A worker in namespaces of its own, made by bubblewrap: it sees the interpreter, the libraries and a small tmpfs.

Nothing of the machine is writable. The candidate's files are sent to the worker, which writes them into its tmpfs:
it is started before its candidate is known. The filter of system calls is put on inside; see seccomp.py.

It does not guard against the kernel: what is allowed there is allowed here. Under root the kernel does not count
processes, so threads are bounded by memory alone; new processes are denied by the filter. Memory is bounded per
worker (address space, and the tmpfs), not over all workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
from functools import lru_cache
from pathlib import Path

import anyio.to_thread
from anyio.abc import ByteStream

from metaharness.errors import SandboxError
from metaharness.sandbox import seccomp
from metaharness.sandbox.advising import best_command, look, places
from metaharness.sandbox.bootstrap import BOOT, program
from metaharness.sandbox.interpreter import Interpreter, find_interpreter
from metaharness.sandbox.process import ENVIRONMENT, Launch, LocalProcess, start_worker

TMPFS_BYTES = 64 << 20
CANDIDATE = "/tmp/candidate"  # noqa: S108 - of a tmpfs that the worker has alone
NOBODY = "65534"
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
ISOLATE = (
    *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--die-with-parent", "--new-session", "--cap-drop", "ALL"),
    *("--hostname", "sandbox", "--uid", NOBODY, "--gid", NOBODY),
)
WHERE_SUPPORTED = "--disable-userns"
"""Of bubblewrap 0.8 and later; the filter denies new namespaces also without it."""
NEEDED = "--size"
"""Of bubblewrap 0.7 and later: without it the tmpfs would be bounded by the machine's memory."""
DEATH_SECONDS = 10.0
OTHERWISE = "use --sandbox landlock, --sandbox-command with a container, or --sandbox process"


class Bubblewrapped(LocalProcess):
    """A worker, seen through the bubblewrap process that started it."""

    inside: str | None = CANDIDATE
    counts_processes = True

    def __init__(self, process: subprocess.Popen[bytes], stream: ByteStream, output: ByteStream, told: int) -> None:
        """`told` is the descriptor on which bubblewrap says which process is the first in the sandbox."""
        super().__init__(process, stream, output)
        self._told = told

    def kill(self) -> int:
        """Kill everything in the sandbox and wait for it; see `SandboxProcess.kill`.

        The first process of a namespace ends after all others in it, so that one is waited for.
        """
        if self._process.returncode is None:
            first = self._first()
            super().kill()
            if first is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(first, signal.SIGKILL)
                select.select([first], [], [], DEATH_SECONDS)
                os.close(first)
        status = self._process.wait()
        return 128 - status if 128 < status <= 128 + signal.NSIG else status

    async def end(self) -> None:
        """Kill it and close the streams."""
        await super().end()
        if self._told >= 0:
            os.close(self._told)
            self._told = -1

    def _first(self) -> int | None:
        """A descriptor of the first process inside; None when it is not there any more."""
        if self._told < 0 or not self.alive():
            return None
        select.select([self._told], [], [], DEATH_SECONDS)  # bubblewrap may just be starting it, or it ends
        with contextlib.suppress(OSError, ValueError, KeyError):
            first = int(json.loads(os.read(self._told, 4096))["child-pid"])
            descriptor = os.pidfd_open(first)
            if _parent(first) == self._process.pid:
                return descriptor
            os.close(descriptor)  # it has ended, and its number was given to another
        return None


class BubblewrapSandbox:
    """Starts workers under bubblewrap."""

    name = "bubblewrap"

    def __init__(self) -> None:
        """Find the program.

        Raises:
            SandboxError: It is missing or too old, or there is no filter for this architecture.
        """
        program = shutil.which("bwrap", path=places())
        if program is None:
            raise SandboxError("bubblewrap is not installed", hint=_hint())
        self._program = program
        self._options = _options(program)
        self._filter = seccomp.settings()

    async def start(self, python: str | None, candidate: Path) -> Bubblewrapped:
        """Start a worker; see `Sandbox.start`."""
        interpreter = await anyio.to_thread.run_sync(find_interpreter, python)
        options = os.memfd_create("options")
        told, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        launch = Launch(
            [self._program, "--args", str(options), "--", *interpreter.command, "-c", BOOT],
            program(interpreter.same, {"filter": self._filter}),
            {},  # the first process of the sandbox is bubblewrap, and its environment can be read inside
            (options, tell),
        )
        try:
            _write(options, [*self._options, *_mounts(interpreter), *_environment(), "--info-fd", str(tell)])
            return await start_worker(
                launch, lambda process, stream, output: Bubblewrapped(process, stream, output, told)
            )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(options)
            os.close(tell)


def _hint() -> str:
    best = best_command(look())
    return f"{best}; or {OTHERWISE}" if best else OTHERWISE


@lru_cache
def _options(program: str) -> tuple[str, ...]:
    """What separates the worker, as far as this bubblewrap knows it."""
    try:
        done = subprocess.run(  # noqa: S603
            [program, "--help"], capture_output=True, text=True, env={}, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxError(f"cannot start {program}: {error}", hint=_hint()) from error
    if NEEDED not in done.stdout:
        raise SandboxError(f"{program} is too old: it has no option {NEEDED}; 0.8 is wanted", hint=_hint())
    return (*ISOLATE, WHERE_SUPPORTED) if WHERE_SUPPORTED in done.stdout else ISOLATE


def _mounts(interpreter: Interpreter) -> list[str]:
    """Read-only what the interpreter needs, and one tmpfs."""
    # the tmpfs first: an interpreter may lie in /tmp
    mounts = ["--proc", "/proc", "--size", str(TMPFS_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 - of the worker alone
    for path in interpreter.paths:
        mounts += ["--ro-bind", path, path]
    for path, target in interpreter.links:
        mounts += ["--symlink", target, path]
    for path in DEVICES:
        mounts += ["--dev-bind-try", path, path]
    return [*mounts, "--remount-ro", "/", "--chdir", "/tmp"]  # noqa: S108


def _environment() -> list[str]:
    found = {**ENVIRONMENT, "HOME": "/tmp"}  # noqa: S108 - of the worker alone
    return [part for name, value in found.items() for part in ("--setenv", name, value)]


def _write(descriptor: int, options: list[str]) -> None:
    """Options for bubblewrap to read: so they are not in a command line that anyone can see."""
    os.write(descriptor, b"".join(os.fsencode(option) + b"\0" for option in options))
    os.lseek(descriptor, 0, os.SEEK_SET)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
