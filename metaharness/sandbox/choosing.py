"""Which sandbox it is: the one that was asked for, or the strongest that holds on this machine.

`auto` believes nothing but a probe with the very interpreter; it never takes `process`, which contains nothing.
A sandbox that is asked for by its name is not probed: whoever evaluates in it is told when a worker cannot start.

Where a domain lets its harnesses start processes, bubblewrap alone can bound them, and `auto` tries nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import anyio

from metaharness.errors import SandboxError, UsageError
from metaharness.machine.advising import Machine, look, or_else
from metaharness.machine.interpreter import find_interpreter
from metaharness.sandbox.bubblewrap import BubblewrapSandbox
from metaharness.sandbox.command import CommandSandbox
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
BOUNDS_PROCESSES: Mapping[str, Callable[[], Sandbox]] = {
    "bubblewrap": partial(BubblewrapSandbox, subprocess=True),
}
"""Those of them that hold also where a harness may start processes: with a namespace for them, which ends them all."""
NAMES = ("auto", *CONTAINED, "process")
OTHERWISE = "--sandbox-command 'docker run ...'; or, for harnesses that you would run by hand, say --sandbox process"


@dataclass(frozen=True)
class Tried:
    """What came of one sandbox."""

    name: str
    problem: str | None
    """Why it cannot be used here; None when it holds."""


_chosen: dict[tuple[str | None, bool], tuple[Sandbox | None, list[Tried]]] = {}


def open_sandbox(
    name: str, *, python: str | None = None, command: str | None = None, subprocess: bool = False
) -> Sandbox:
    """The sandbox of that name.

    Args:
        name: `auto`, `bubblewrap`, `landlock`, `sandbox-exec`, `process`, or `command` with a command.
        python: The interpreter that workers will use, which `auto` probes with; None is the engine's own.
        command: The prefix that starts a worker over stdin and stdout, such as `docker run -i --rm IMAGE`.
        subprocess: Whether harnesses may start processes, as `Domain.subprocess` says.

    Raises:
        UsageError: There is no such sandbox.
        SandboxError: It does not work here or cannot bound processes, or with `auto` none does.
    """
    if command is not None or name == "command":
        return CommandSandbox(command or "")
    if name == "auto":
        return choose(python, subprocess)
    if name == "process":
        return ProcessSandbox()
    if name not in CONTAINED:
        raise UsageError(f"no sandbox {name!r}", hint=f"valid: {', '.join(NAMES)}")
    if subprocess and name not in BOUNDS_PROCESSES:
        raise SandboxError(
            f"{name} cannot bound the processes that a harness of this domain may start (Domain.subprocess)",
            hint=f"use --sandbox {' or '.join(BOUNDS_PROCESSES)}, or a container with --sandbox-command",
        )
    return (BOUNDS_PROCESSES if subprocess else CONTAINED)[name]()


def choose(python: str | None, subprocess: bool = False) -> Sandbox:
    """The strongest sandbox that holds here with this interpreter; found out once in a process.

    Raises:
        SandboxError: None does, and the message says why of each; or the interpreter does not start at all.
    """
    find_interpreter(python)
    sandbox, tried = _found(python, subprocess)
    if sandbox is None:
        reasons = "; ".join(f"{one.name}: {one.problem}" for one in tried)
        what = "candidate code that may start processes (Domain.subprocess)" if subprocess else "candidate code"
        raise SandboxError(f"no sandbox contains {what} here. {reasons}", hint=way_out(look()))
    return sandbox


def way_out(machine: Machine) -> str:
    """What to do where no sandbox holds: the best command for this machine first."""
    return or_else(machine, OTHERWISE)


def tried(python: str | None, subprocess: bool = False) -> list[Tried]:
    """What `choose` has tried, the strongest first, up to the one that holds."""
    return _found(python, subprocess)[1]


def _found(python: str | None, subprocess: bool) -> tuple[Sandbox | None, list[Tried]]:
    key = python, subprocess
    if key not in _chosen:
        # in a thread: whoever asks may be inside an event loop
        with ThreadPoolExecutor(1) as thread:
            _chosen[key] = thread.submit(anyio.run, partial(_search, python, subprocess)).result()
    return _chosen[key]


async def _search(python: str | None, subprocess: bool) -> tuple[Sandbox | None, list[Tried]]:
    found: list[Tried] = []
    for name, make in (BOUNDS_PROCESSES if subprocess else CONTAINED).items():
        try:
            sandbox = make()
            weak = await weaknesses(sandbox, python, subprocess=subprocess)
        except (SandboxError, OSError) as error:
            found.append(Tried(name, str(error)))
            continue
        if not weak:
            return sandbox, [*found, Tried(name, None)]
        found.append(Tried(name, f"a harness {', '.join(weak)}"))
    return None, found
