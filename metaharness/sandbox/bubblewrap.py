"""A worker in namespaces of its own, made by bubblewrap: it sees the interpreter, the libraries and a small tmpfs.

Nothing of the machine is writable. The candidate's files are sent to the worker, which writes them into its tmpfs:
it is started before its candidate is known. The filter of system calls is put on inside; see seccomp.py. The tmpfs is
bounded in bytes and in names; where the kernel allows no bound on names, a harness can make no file at all.

Under root a worker is the user nobody inside and outside, because the kernel counts no process of root's: bubblewrap
waits until two users are mapped, and the worker becomes the second before it knows its candidate.

It does not guard against the kernel: what is allowed there is allowed here. Memory is bounded per worker (address
space, and the tmpfs; of several processes what is resident, see together.py), not over all workers.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from anyio.abc import ByteStream

from metaharness.errors import SandboxError
from metaharness.machine.bubblewrap import find_bubblewrap
from metaharness.machine.interpreter import Interpreter, find_interpreter
from metaharness.machine.together import NICE, Watchdog, can_be_watched
from metaharness.sandbox import seccomp
from metaharness.sandbox.bootstrap import BOOT, program
from metaharness.sandbox.channels import NOBODY, Channels
from metaharness.sandbox.process import ENVIRONMENT, Launch, LocalProcess, start_worker

TMPFS_BYTES = 64 << 20
TMPFS_NAMES = 8192
"""Files and folders in it, the candidate's own included: each takes about 1 KiB of the kernel's memory."""
SCRATCH = "/tmp"  # noqa: S108 - of a tmpfs that the worker has alone
CANDIDATE = f"{SCRATCH}/candidate"
PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where a harness that may start programs finds them."""
AS_NOBODY = ("--uid", str(NOBODY), "--gid", str(NOBODY))
AS_ROOT = ("--uid", "0", "--gid", "0", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
"""Where the engine is root: until the worker becomes nobody, which these two capabilities of its namespace allow."""
DEVICES = ("/dev/null", "/dev/urandom", "/dev/random")
ZEROS = "/dev/zero"
"""Not for several processes: what it maps as shared is memory that stays though no process has it in its own."""
ISOLATE = (
    *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--die-with-parent", "--new-session", "--hostname", "sandbox", "--cap-drop", "ALL"),
)
BOUND_NAMES = ("--cap-add", "CAP_SYS_ADMIN")
"""With this capability of its namespace the worker bounds its tmpfs; it drops it before it knows its candidate. The
filter denies new namespaces, so bubblewrap's own `--disable-userns`, which would take it away, is not needed."""
DEATH_SECONDS = 10.0
OTHERWISE = "use --sandbox landlock, --sandbox-command with a container, or --sandbox process"


class Bubblewrapped(LocalProcess):
    """A worker, seen through the bubblewrap process that started it."""

    inside: str | None = CANDIDATE
    counts_processes = True

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        streams: tuple[ByteStream, ByteStream],
        channels: Channels,
        several: bool,
    ) -> None:
        """`streams`: the pipe, and what it prints; `several`: it may start processes."""
        super().__init__(process, *streams)
        self._channels = channels
        self._several = several
        self._first: int | None = None
        self._first_pid = 0
        self._watchdog: Watchdog | None = None

    async def begin(self) -> None:
        """Learn which process is the first inside, and map its users where the engine is root.

        Raises:
            SandboxError: They cannot be mapped.
        """
        self._channels.handed_over()
        found = await self._channels.told()
        if found is None:
            return  # it died at once: found when it is read from
        with contextlib.suppress(OSError, ValueError):
            descriptor = os.pidfd_open(found)
            if _parent(found) != self._process.pid:
                os.close(descriptor)  # it has ended, and its number was given to another
                return
            self._first, self._first_pid = descriptor, found
            self._channels.map_users(found)

    def confine(self, memory: int) -> None:
        """Watch what all its processes take; see `SandboxProcess.confine`."""
        if not self._several or not self.alive():
            return
        if not can_be_watched(self._first_pid):
            raise SandboxError(
                "the memory of several processes cannot be bounded here: /proc does not show which processes are "
                "whose children, or hides them",
                hint="mount /proc without hidepid; or use --sandbox-command with a container that has a memory limit",
            )
        self._watchdog = Watchdog(self._first_pid, memory, self._too_much)
        self._watchdog.start()

    def _too_much(self, taken: int, _: int) -> None:
        self.ended_because = f"its processes took {taken >> 20} MB of memory together, more than limits.memory_mb"
        if self._first is not None:
            with contextlib.suppress(OSError):  # it ends by itself, or its descriptor was closed
                signal.pidfd_send_signal(self._first, signal.SIGKILL)

    def kill(self) -> int:
        """Kill everything in the sandbox and wait for it; see `SandboxProcess.kill`.

        The first process of a namespace ends after all others in it, so that one is waited for.
        """
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._process.returncode is None:
            super().kill()
            if self._first is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._first, signal.SIGKILL)
                ended = select.poll()  # select() takes no descriptor above 1023
                ended.register(self._first, select.POLLIN)
                ended.poll(DEATH_SECONDS * 1000)
        if self._first is not None:
            os.close(self._first)
            self._first = None
        status = self._process.wait()
        return 128 - status if 128 < status <= 128 + signal.NSIG else status

    async def end(self) -> None:
        """Kill it and close the streams."""
        await super().end()
        self._channels.close()


class BubblewrapSandbox:
    """Starts workers under bubblewrap."""

    name = "bubblewrap"

    def __init__(self, *, subprocess: bool = False, bound_names: bool = True) -> None:
        """Find the program.

        Args:
            subprocess: A harness may start processes, and sees the programs of the system.
            bound_names: False: as on a system that does not let bubblewrap hand on a capability.

        Raises:
            SandboxError: It is missing or too old, or there is no filter for this architecture.
        """
        program = find_bubblewrap(OTHERWISE)
        self._program = program
        self._several = subprocess
        self._filter = seccomp.settings(processes=subprocess)
        # a bubblewrap that is itself set-uid hands on no capability
        self._bound_names = bound_names and not os.stat(program).st_mode & stat.S_ISUID  # noqa: PTH116

    async def start(self, python: str | None, candidate: Path) -> Bubblewrapped:
        """Start a worker; see `Sandbox.start`."""
        interpreter = await anyio.to_thread.run_sync(partial(find_interpreter, python, programs=self._several))
        root = os.geteuid() == 0
        options = os.memfd_create("options")
        channels = Channels(root)
        launch = Launch(
            [self._program, "--args", str(options), "--", *interpreter.command, "-c", BOOT],
            program(interpreter.same, self._guard(root, channels)),
            {},  # the first process of the sandbox is bubblewrap, and its environment can be read inside
            (options, *channels.theirs),
        )
        try:
            _write(
                options,
                [
                    *self._isolated(root),
                    *_mounts(interpreter, self._devices()),
                    *self._environment(),
                    *channels.options(),
                ],
            )
            return await start_worker(
                launch,
                lambda process, *streams: Bubblewrapped(process, streams, channels, self._several),
            )
        except BaseException:
            channels.close()
            raise
        finally:
            os.close(options)
            channels.handed_over()

    def _guard(self, root: bool, channels: Channels) -> dict[str, Any]:
        scratch = {"path": SCRATCH, "most": [TMPFS_BYTES, TMPFS_NAMES]}
        settings = {"filter": self._filter, "scratch": scratch, "close": channels.left_open()}
        settings |= {"nice": NICE} if self._several else {}
        return {**settings, "user": NOBODY} if root else settings

    def _isolated(self, root: bool) -> list[str]:
        return [*ISOLATE, *(AS_ROOT if root else AS_NOBODY), *(BOUND_NAMES if self._bound_names else ())]

    def _devices(self) -> Sequence[str]:
        return DEVICES if self._several else (*DEVICES, ZEROS)

    def _environment(self) -> list[str]:
        found = {**ENVIRONMENT, "HOME": SCRATCH, **({"PATH": PATH} if self._several else {})}
        return [part for name, value in found.items() for part in ("--setenv", name, value)]


def _mounts(interpreter: Interpreter, devices: Sequence[str]) -> list[str]:
    """Read-only what the interpreter needs, and one tmpfs."""
    # the tmpfs first: an interpreter may lie in /tmp
    mounts = ["--proc", "/proc", "--perms", "1777", "--size", str(TMPFS_BYTES), "--tmpfs", SCRATCH]
    there = [*interpreter.paths, *(path for path, _ in interpreter.links), *devices]
    for folder in sorted({str(parent) for path in there for parent in Path(path).parents} - {"/", SCRATCH}):
        mounts += ["--perms", "0755", "--dir", folder]  # bubblewrap lets nobody but root through what it makes itself
    for path in interpreter.paths:
        mounts += ["--ro-bind", path, path]
    for path, target in interpreter.links:
        mounts += ["--symlink", target, path]
    for path in devices:
        mounts += ["--dev-bind-try", path, path]
    return [*mounts, "--remount-ro", "/", "--chdir", SCRATCH]


def _write(descriptor: int, options: list[str]) -> None:
    """Options for bubblewrap to read: so they are not in a command line that anyone can see."""
    os.write(descriptor, b"".join(os.fsencode(option) + b"\0" for option in options))
    os.lseek(descriptor, 0, os.SEEK_SET)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
