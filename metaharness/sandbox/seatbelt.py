"""A worker under macOS's sandbox-exec (Seatbelt). NOT TESTED: written from its documentation, on another system.

`auto` takes it only where the probe shows that it holds. The candidate's files are sent to the worker, which writes
them into a folder of its own; that is all it can write to.

It does not guard memory (macOS does not keep RLIMIT_AS), nor metadata: that a path exists can be found out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio.to_thread
from anyio.abc import ByteStream

from metaharness.errors import SandboxError
from metaharness.machine.interpreter import find_interpreter
from metaharness.sandbox.bootstrap import BOOT, program
from metaharness.sandbox.process import ENVIRONMENT, Launch, LocalProcess, start_worker

PROGRAM = "/usr/bin/sandbox-exec"
SYSTEM = ("/usr/lib", "/usr/share/zoneinfo", "/System", "/Library/Frameworks", "/private/var/db/timezone")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


class Seatbelted(LocalProcess):
    """A worker with a folder of its own, which goes with it."""

    def __init__(self, process: subprocess.Popen[bytes], stream: ByteStream, output: ByteStream, scratch: str) -> None:
        super().__init__(process, stream, output)
        self.inside = f"{scratch}/candidate"
        self._scratch = scratch

    async def end(self) -> None:
        """Kill it, close the streams and remove its folder."""
        await super().end()
        shutil.rmtree(self._scratch, ignore_errors=True)


class SeatbeltSandbox:
    """Starts workers under sandbox-exec."""

    name = "sandbox-exec"

    def __init__(self) -> None:
        """Find the program.

        Raises:
            SandboxError: This is not macOS.
        """
        if sys.platform != "darwin" or not Path(PROGRAM).exists():
            raise SandboxError("sandbox-exec is there on macOS alone", hint="use --sandbox bubblewrap or landlock")

    async def start(self, python: str | None, candidate: Path) -> Seatbelted:
        """Start a worker; see `Sandbox.start`."""
        interpreter = await anyio.to_thread.run_sync(find_interpreter, python)
        scratch = await anyio.to_thread.run_sync(_scratch)
        command = [PROGRAM, "-p", profile(interpreter.paths, scratch), *interpreter.command, "-c", BOOT]
        launch = Launch(command, program(interpreter.same, {}), {**ENVIRONMENT, "HOME": scratch})
        try:
            return await start_worker(
                launch, lambda process, stream, output: Seatbelted(process, stream, output, scratch)
            )
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def _scratch() -> str:
    return str(Path(tempfile.mkdtemp(prefix="metaharness-")).resolve())


def profile(paths: tuple[str, ...], scratch: str) -> str:
    """What is allowed; all else is denied, the network and new processes with it."""
    reads = [_rule("subpath", path) for path in (*SYSTEM, *paths, scratch)]
    reads += [_rule("literal", path) for path in ("/", *DEVICES)]
    return "\n".join(
        [
            "(version 1)",
            "(deny default)",
            "(allow process-exec)",
            "(allow signal (target self))",
            "(allow sysctl-read)",
            "(allow file-read-metadata)",
            f"(allow file-read* {' '.join(reads)})",
            f"(allow file-write* {_rule('subpath', scratch)} {_rule('literal', DEVICES[0])})",
        ]
    )


def _rule(kind: str, path: str) -> str:
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'({kind} "{quoted}")'
