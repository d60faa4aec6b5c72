"""What starts a jail, outside of it: a program by itself, which a foreign library can start in place of another.

    python launch.py PLAN ARGUMENT...

Reads the plan, takes what is passed of the environment, and becomes bubblewrap or sandbox-exec with the program and
the arguments. Stdin, stdout and stderr stay as they are; no other descriptor is handed on. Values of variables go
to bubblewrap over a descriptor, and it has no environment itself: its own can be read inside.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
from pathlib import Path

KEYCTL = {"x86_64": 250, "aarch64": 219}
JOIN_SESSION_KEYRING = 1
"""A new one, when no name is given."""


def main(plan_file: str, arguments: list[str]) -> None:
    """Become the jail."""
    plan = json.loads(Path(plan_file).read_bytes())
    passed = {name: os.environ[name] for name in plan["passed"] if name in os.environ}
    environment = {**plan["environment"], **passed}
    here, workspace = Path.cwd(), Path(plan["workspace"])
    folder = str(here if here.is_relative_to(workspace) else workspace)
    _leave_keyring()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    command = [*plan["command"], *arguments]
    if plan["descriptor"]:
        options = [*plan["options"], "--chdir", folder]
        for name, value in environment.items():
            options += ["--setenv", name, value]
        os.execve(plan["start"], [plan["start"], "--args", str(_written(options)), "--", *command], {})  # noqa: S606
    os.chdir(folder)
    os.execve(plan["start"], [plan["start"], *plan["options"], *command], environment)  # noqa: S606


def _leave_keyring() -> None:
    """Keys that whoever started this holds in the kernel are no longer held. Where the system has none, nothing."""
    if sys.platform == "linux" and platform.machine() in KEYCTL:
        ctypes.CDLL(None).syscall(KEYCTL[platform.machine()], JOIN_SESSION_KEYRING, 0)


def _written(options: list[str]) -> int:
    """A descriptor to read them from: so they are not in a command line that anyone can see."""
    descriptor = os.memfd_create("options", 0)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(b"".join(os.fsencode(option) + b"\0" for option in options))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
