"""The filter of system calls for both Linux sandboxes. The worker puts it on itself before its candidate loads.

It is put on there, and not by bubblewrap, because it denies `execve`, with which bubblewrap still has to start the
interpreter. Denied are: sockets and all ways to connect, bind or send to an address; new processes and programs;
signals and limits for any process but the worker; namespaces, mounts and tracing; memory and queues that no limit
counts; watches, of which a user has few; what tells of the cache of files, in which one worker could leave a message
for the next; a file's owner, mode, times and attributes, which Landlock does not know; and what has a newer number than
the filter. Threads, `socketpair`, pipes, files, `epoll` and clocks stay.

A second one is for domains whose harnesses may start programs: it allows new processes, signals, and modes and times
of files besides, denies memory that is shared and of no file, all else as above. It is for bubblewrap alone, where
signals and files of others are out of reach.

What it does not guard: it sees numbers and no paths, so which files are read is left to the mounts of bubblewrap or
to Landlock. A kernel bug behind a call that is allowed is not kept out. Threads are not counted. How long a read takes,
a lock on a file that all may read, and under Landlock the time of its last reading, can tell one worker a little of
another.

The bytes are made by scripts/make_seccomp.py and lie in filters.py.
"""

from __future__ import annotations

import base64
import platform

from metaharness.errors import SandboxError
from metaharness.sandbox.filters import BASE64, PID, WITH_PROCESSES


def filter_bytes(machine: str, processes: bool = False) -> bytes:
    """The filter of an architecture as BPF, with `PID` for the worker's process id; `processes`: it may start any.

    Raises:
        SandboxError: There is none.
    """
    if machine not in BASE64:
        raise SandboxError(
            f"there is no filter of system calls for {machine}",
            hint="use --sandbox-command with a container, or --sandbox process for code that you trust",
        )
    return base64.b64decode((WITH_PROCESSES if processes else BASE64)[machine])


def settings(processes: bool = False) -> dict[str, object]:
    """The filter for this machine as the frame `guard` carries it.

    Raises:
        SandboxError: There is none for this architecture.
    """
    return {"code": filter_bytes(platform.machine(), processes).hex(), "pid": PID}
