"""A worker as a plain process that closes itself in: Landlock for files, one filter for system calls, limits.

Needs Landlock of any ABI, 1 (Linux 5.13) included: what the later ones add is denied by the filter as well (truncation
by reading, TCP, signals, abstract sockets), and so are sockets reached by a path, which none of them knows.

Read are the interpreter, the system's libraries and the candidate's file or folder; written is nothing but /dev/null:
a harness has no folder for temporary files here.

It does not guard metadata: that a path exists, its size, owner and times can be found out with `stat`. Processes are
in the same namespaces as the user's others, and their numbers can be seen. Threads are bounded by memory alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import anyio.to_thread

from metaharness.errors import SandboxError
from metaharness.machine.interpreter import find_interpreter
from metaharness.sandbox import seccomp
from metaharness.sandbox.bootstrap import BOOT, program
from metaharness.sandbox.process import ENVIRONMENT, Launch, LocalProcess, start_worker

CREATE_RULESET, VERSION = 444, 1
NEWEST_ABI = 99
NOTHING = "/dev/null"
DEVICES = ("/dev/zero", "/dev/urandom", "/dev/random")
HINT = "use bubblewrap (apt install bubblewrap), --sandbox-command with a container, or --sandbox process"


def landlock_abi() -> int:
    """The ABI of this kernel; 0 where there is no Landlock. Asked of the kernel: no file tells it everywhere."""
    if sys.platform != "linux":
        return 0
    syscall = ctypes.CDLL(None).syscall
    return max(0, int(syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_long(VERSION))))


class LandlockSandbox:
    """Starts workers that close themselves in before their candidate is loaded."""

    name = "landlock"

    def __init__(self, abi: int = NEWEST_ABI) -> None:
        """Use no more than this ABI, though the kernel may have a newer one.

        Raises:
            SandboxError: The kernel has no Landlock, or there is no filter for this architecture.
        """
        if landlock_abi() < 1:
            raise SandboxError("this kernel has no Landlock (Linux 5.13 or later, and switched on)", hint=HINT)
        self._filter = seccomp.settings()
        self._abi = abi

    async def start(self, python: str | None, candidate: Path) -> LocalProcess:
        """Start a worker; see `Sandbox.start`."""
        interpreter = await anyio.to_thread.run_sync(find_interpreter, python)
        rules = {"read": [*interpreter.paths, *DEVICES], "write": [NOTHING], "abi": self._abi}
        guard = {"filter": self._filter, "landlock": rules, "parent": os.getpid()}
        command = [*interpreter.command, "-c", BOOT]
        environment = {**ENVIRONMENT, "HOME": "/"}
        return await start_worker(Launch(command, program(interpreter.same, guard), environment), LocalProcess)
