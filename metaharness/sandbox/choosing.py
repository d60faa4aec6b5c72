"""Which sandbox it is: the one that was asked for, or the strongest that holds on this machine.

`auto` believes nothing but a probe with the very interpreter; it never takes `process`, which contains nothing.
A sandbox that is asked for by its name is not probed: whoever evaluates in it is told when a worker cannot start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import anyio

from metaharness.errors import SandboxError, UsageError
from metaharness.sandbox.advising import Machine, best_command, look
from metaharness.sandbox.bubblewrap import BubblewrapSandbox
from metaharness.sandbox.command import CommandSandbox
from metaharness.sandbox.interpreter import find_interpreter
from metaharness.sandbox.landlock import LandlockSandbox
from metaharness.sandbox.probing import weaknesses
from metaharness.sandbox.process import ProcessSandbox
from metaharness.sandbox.protocol import Sandbox
from metaharness.sandbox.seatbelt import SeatbeltSandbox

CONTAINED: Mapping[str, Callable[[], Sandbox]] = {
    "bubblewrap": BubblewrapSandbox,
    "landlock": LandlockSandbox,
    "sandbox-exec": SeatbeltSandbox,
}
"""The strongest first."""
NAMES = ("auto", *CONTAINED, "process")
OTHERWISE = "--sandbox-command 'docker run ...'; or, for harnesses that you would run by hand, say --sandbox process"


@dataclass(frozen=True)
class Tried:
    """What came of one sandbox."""

    name: str
    problem: str | None
    """Why it cannot be used here; None when it holds."""


_chosen: dict[str | None, tuple[Sandbox | None, list[Tried]]] = {}


def open_sandbox(name: str, *, python: str | None = None, command: str | None = None) -> Sandbox:
    """The sandbox of that name.

    Args:
        name: `auto`, `bubblewrap`, `landlock`, `sandbox-exec`, `process`, or `command` with a command.
        python: The interpreter that workers will use, which `auto` probes with; None is the engine's own.
        command: The prefix that starts a worker over stdin and stdout, such as `docker run -i --rm IMAGE`.

    Raises:
        UsageError: There is no such sandbox.
        SandboxError: It does not work here, or with `auto` none does.
    """
    if command is not None or name == "command":
        return CommandSandbox(command or "")
    if name == "auto":
        return choose(python)
    if name == "process":
        return ProcessSandbox()
    if name not in CONTAINED:
        raise UsageError(f"no sandbox {name!r}", hint=f"valid: {', '.join(NAMES)}")
    return CONTAINED[name]()


def choose(python: str | None) -> Sandbox:
    """The strongest sandbox that holds here with this interpreter; found out once in a process.

    Raises:
        SandboxError: None does, and the message says why of each; or the interpreter does not start at all.
    """
    find_interpreter(python)
    sandbox, tried = _found(python)
    if sandbox is None:
        reasons = "; ".join(f"{one.name}: {one.problem}" for one in tried)
        raise SandboxError(f"no sandbox contains candidate code here. {reasons}", hint=way_out(look()))
    return sandbox


def way_out(machine: Machine) -> str:
    """What to do where no sandbox holds: the best command for this machine first."""
    best = best_command(machine)
    return f"{best}; or {OTHERWISE}" if best else OTHERWISE


def tried(python: str | None) -> list[Tried]:
    """What `choose` has tried, the strongest first, up to the one that holds."""
    return _found(python)[1]


def _found(python: str | None) -> tuple[Sandbox | None, list[Tried]]:
    if python not in _chosen:
        # in a thread: whoever asks may be inside an event loop
        with ThreadPoolExecutor(1) as thread:
            _chosen[python] = thread.submit(anyio.run, _search, python).result()
    return _chosen[python]


async def _search(python: str | None) -> tuple[Sandbox | None, list[Tried]]:
    found: list[Tried] = []
    for name, make in CONTAINED.items():
        try:
            sandbox = make()
            weak = await weaknesses(sandbox, python)
        except (SandboxError, OSError) as error:
            found.append(Tried(name, str(error)))
            continue
        if not weak:
            return sandbox, [*found, Tried(name, None)]
        found.append(Tried(name, f"a harness {', '.join(weak)}"))
    return None, found
