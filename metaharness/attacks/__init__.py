"""Hostile harnesses, and the check that a sandbox contains them.

    report = await check_sandbox("bubblewrap")
    for result in report.results:
        print(result.attack, result.contained, result.evidence)

Each attack runs in a real evaluation, in a process of its own that stands for the engine, and is judged from outside:
a file that appeared, a server that was reached, a process that is alive, a score that is wrong. What is not judged:
holes of the kernel, what a model call carries out (that is the gateway's), time that one harness takes from another.
"""

from __future__ import annotations

from metaharness.attacks.attack import Attack
from metaharness.attacks.battery import (
    ATTACKS,
    ATTACKS_WITH_PROCESSES,
    DEPENDS_ON_THE_MACHINE,
    NOT_CONTAINED_BY_PROCESS,
)
from metaharness.attacks.checking import SandboxReport, check_sandbox
from metaharness.attacks.controls import CONTROLS
from metaharness.attacks.lane import AttackResult

__all__ = [
    "ATTACKS",
    "ATTACKS_WITH_PROCESSES",
    "CONTROLS",
    "DEPENDS_ON_THE_MACHINE",
    "NOT_CONTAINED_BY_PROCESS",
    "Attack",
    "AttackResult",
    "SandboxReport",
    "check_sandbox",
]
