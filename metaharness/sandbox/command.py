"""A worker that a command of the user's starts over stdin and stdout: docker, podman, apptainer, gVisor, ssh.

It guards what the command guards and adds limits alone. What the command leaves running when it is killed is not
found: a container ends when its stdin does, unless its candidate hangs; then at its limit of CPU time.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
from pathlib import Path

from anyio.abc import ByteStream

from metaharness.errors import UsageError
from metaharness.sandbox.bootstrap import BOOT, program
from metaharness.sandbox.process import Launch, LocalProcess, start_worker

PASSED_ON = ("PATH", "HOME", "USER", "XDG_RUNTIME_DIR", "DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "TMPDIR")
"""The variables the command gets: enough to find its daemon and its images, none with a key."""
PYTHON = "python3"


class Commanded(LocalProcess):
    """A worker behind a command."""

    def __init__(self, process: subprocess.Popen[bytes], stream: ByteStream, output: ByteStream) -> None:
        super().__init__(process, stream, output)
        self.inside = f"/tmp/metaharness-{secrets.token_hex(8)}"  # noqa: S108 - of the container


class CommandSandbox:
    """Starts workers as PREFIX python -s -c PROGRAM 0 1; the Python is the domain's, else `python3`."""

    name = "command"

    def __init__(self, prefix: str) -> None:
        """Take the words of a command line.

        Raises:
            UsageError: It holds none, or a quotation that does not end.
        """
        try:
            self._prefix = shlex.split(prefix)
        except ValueError as error:
            raise UsageError(
                f"--sandbox-command {prefix!r} cannot be read: {error}", hint="close its quotes"
            ) from error
        if not self._prefix:
            raise UsageError(
                "the sandbox `command` needs a command",
                hint="--sandbox-command 'docker run -i --rm --network none IMAGE'",
            )

    async def start(self, python: str | None, candidate: Path) -> Commanded:
        """Start a worker; see `Sandbox.start`."""
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        command = [*self._prefix, python or PYTHON, "-s", "-c", BOOT]
        return await start_worker(Launch(command, program(False, {}), environment, over_stdio=True), Commanded)
