"""What bubblewrap and the engine tell each other while a worker is being started, over two pipes.

Bubblewrap says which process is the first inside. Where the engine is root, bubblewrap waits until that process has
its users: the kernel lets root alone map more than one, and with one, root's, it would count no process inside.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio

from metaharness.errors import SandboxError

NOBODY = 65534
USERS = f"0 0 1\n{NOBODY} {NOBODY} 1\n".encode()
"""Inside, outside, how many: root for what bubblewrap prepares, nobody for the worker."""


class Channels:
    """The descriptors of both pipes. Each end is closed once."""

    def __init__(self, root: bool) -> None:
        """`root`: the users have to be mapped."""
        self._told, self._tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wait, self._go = os.pipe2(os.O_CLOEXEC) if root else (-1, -1)

    @property
    def theirs(self) -> list[int]:
        """What bubblewrap inherits."""
        return [self._tell, *self.left_open()]

    def left_open(self) -> list[int]:
        """What bubblewrap does not close: the worker finds it open."""
        return [self._wait] if self._wait >= 0 else []

    def options(self) -> list[str]:
        """How bubblewrap is told of them."""
        waiting = ["--userns-block-fd", str(self._wait)] if self._wait >= 0 else []
        return ["--info-fd", str(self._tell), *waiting]

    def handed_over(self) -> None:
        """Bubblewrap has its ends: close ours of them, or how it ended would not be seen."""
        for descriptor in (self._tell, self._wait):
            if descriptor >= 0:
                os.close(descriptor)
        self._tell = self._wait = -1

    async def told(self) -> int | None:
        """The number of the first process inside; None when bubblewrap ended without one."""
        said = b""
        while b"}" not in said:
            await anyio.wait_readable(self._told)
            part = os.read(self._told, 4096)
            if not part:
                return None
            said += part
        return int(json.loads(said)["child-pid"])

    def map_users(self, pid: int) -> None:
        """Give a process its users and let bubblewrap go on, where it waits for that.

        Raises:
            SandboxError: The kernel does not allow it.
        """
        if self._go < 0:
            return
        try:
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{pid}/{name}").write_bytes(USERS)
        except OSError as error:
            raise SandboxError(
                f"root may not give a worker the user {NOBODY}: {error}",
                hint="run as another user than root, or with CAP_SETUID and CAP_SETGID; or use --sandbox landlock",
            ) from error
        os.write(self._go, b"x")

    def close(self) -> None:
        """Close what is still open of ours."""
        for descriptor in (self._told, self._go):
            if descriptor >= 0:
                os.close(descriptor)
        self._told = self._go = -1
