"""The conformance check that any sandbox runs."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from metaharness.attacks.attack import Attack
from metaharness.attacks.battery import ATTACKS, ATTACKS_WITH_PROCESSES
from metaharness.attacks.controls import CONTROLS
from metaharness.attacks.honest import HONEST, TEMPORARY
from metaharness.attacks.lane import AttackResult, Lane
from metaharness.errors import SandboxError
from metaharness.sandbox import open_sandbox
from metaharness.ungroup import ungrouped


@dataclass(frozen=True)
class _Kind:
    """The sandbox of an attack."""

    sandbox: str
    command: str | None = None
    subprocess: bool = False


_Jobs = queue.SimpleQueue[tuple[int, _Kind, Attack]]
LANES = 2
"""Attacks that run at the same time, each with a scene and an engine of its own."""


@dataclass(frozen=True)
class SandboxReport:
    """What the check has found."""

    sandbox: str
    results: tuple[AttackResult, ...] = ()
    """In the order of the attacks."""
    controls: tuple[AttackResult, ...] = ()
    """What came of the harnesses that succeed on purpose."""
    unseen: tuple[str, ...] = ()
    """Kinds of evidence that were planted and not seen: then nothing is proven."""
    honest: str | None = None
    """What an honest harness failed at; None when it works."""
    temporary_files: str = ""
    """Whether a harness has temporary files."""
    seconds: float = 0.0
    escaped: tuple[AttackResult, ...] = field(init=False, default=())
    """The attacks that worked."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "escaped", tuple(one for one in self.results if not one.contained))

    @property
    def contained(self) -> bool:
        """Whether no attack worked, though it would have been seen, and an honest harness works."""
        return bool(self.results) and not self.escaped and not self.unseen and self.honest is None


async def check_sandbox(
    name: str,
    *,
    command: str | None = None,
    subprocess: bool = False,
    attacks: Sequence[Attack] | None = None,
    controls: Sequence[tuple[str, Attack]] = CONTROLS,
) -> SandboxReport:
    """Run every attack in a sandbox and see from outside which of them work.

    The harnesses are hostile. Where a sandbox does not contain them, what they do is bounded: SIGURG to every process
    (nobody dies of that), files and processes that are taken away again, some 100 MB of memory for some seconds.

    Args:
        name: The sandbox, as in `open_sandbox`.
        command: What starts its workers, where the name is `command`.
        subprocess: As of a domain whose harnesses may start processes.
        attacks: What to try; None takes every attack there is for this.
        controls: What succeeds on purpose, in a plain process, each with the evidence that has to be seen.

    Raises:
        UsageError: There is no such sandbox.
        SandboxError: It does not work on this machine.
    """
    open_sandbox(name, command=command, subprocess=subprocess)
    began = time.monotonic()
    todo: _Jobs = queue.SimpleQueue()
    own, plain = _Kind(name, command, subprocess), _Kind("process")
    jobs = [(own, HONEST), (own, TEMPORARY), *((plain, attack) for _, attack in controls)]
    jobs += [(own, attack) for attack in (_every(subprocess) if attacks is None else attacks)]
    for place, job in enumerate(jobs):
        todo.put((place, *job))
    found: dict[int, AttackResult] = {}
    with ungrouped():
        async with anyio.create_task_group() as group:
            waiting = group.start_soon(_until_cancelled, todo)
            async with anyio.create_task_group() as lanes:
                for _ in range(LANES):
                    lanes.start_soon(anyio.to_thread.run_sync, _work, todo, found)
            waiting.cancel()
    planted = list(zip(controls, [found[2 + place] for place in range(len(controls))], strict=True))
    return SandboxReport(
        sandbox=name,
        results=tuple(found[place] for place in range(2 + len(controls), len(jobs))),
        controls=tuple(result for _, result in planted),
        unseen=tuple(f"{kind}: {attack.name}" for (kind, attack), result in planted if kind not in result.kinds),
        honest=None if found[0].contained and found[0].evidence == "honest" else found[0].evidence,
        temporary_files=found[1].evidence,
        seconds=time.monotonic() - began,
    )


def _every(subprocess: bool) -> Sequence[Attack]:
    return ATTACKS_WITH_PROCESSES if subprocess else ATTACKS


async def _until_cancelled(todo: _Jobs) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        _drop(todo)  # the threads end with the attack that they are at


def _work(todo: _Jobs, found: dict[int, AttackResult]) -> None:
    lane = Lane()
    try:
        while True:
            place, kind, attack = todo.get_nowait()
            found[place] = result = lane.attack(kind.sandbox, attack, kind.command, subprocess=kind.subprocess)
            if attack is HONEST and "engine" in result.kinds:
                raise SandboxError(f"sandbox {kind.sandbox} does not work here: {result.evidence}")
    except queue.Empty:
        return
    finally:
        _drop(todo)
        lane.close()


def _drop(todo: _Jobs) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            todo.get_nowait()
