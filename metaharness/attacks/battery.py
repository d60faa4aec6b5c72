"""Every attack, and what a plain process does not contain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from metaharness.attacks.attack import Attack
from metaharness.attacks.filling import FILLING
from metaharness.attacks.forging import FORGING
from metaharness.attacks.hanging import HANGING
from metaharness.attacks.network import NETWORK
from metaharness.attacks.processes import PROCESSES
from metaharness.attacks.reading import READING
from metaharness.attacks.several import FEW, ONLY_START_ONE, SEVERAL

ATTACKS: tuple[Attack, ...] = (*READING, *NETWORK, *PROCESSES, *FILLING, *HANGING, *FORGING)
ATTACKS_WITH_PROCESSES: tuple[Attack, ...] = (
    *(
        replace(one, limits=one.limits.model_copy(update={"processes": FEW.processes}))
        for one in ATTACKS
        if one.name not in ONLY_START_ONE
    ),
    *SEVERAL,
)
"""What is tried where a domain lets its harnesses start processes, each with few of them allowed."""

NOT_CONTAINED_BY_PROCESS: Mapping[str, tuple[str, ...]] = {
    "reads what the person can read": (
        "labels by path",
        "records by path",
        "labels beside the file",
        "another candidate",
        "labels through a link",
        "labels through /proc",
        "key file",
    ),
    "reaches every server": (
        "tcp",
        "tcp without connect",
        "udp",
        "dns",
        "abstract socket",
        "socket by path",
        "socket through /proc/self/fd",
        "datagram socket",
        "datagram from a pair",
        "server",
    ),
    "starts processes, and some outlive their worker or the engine": (
        "daemon",
        "program left behind",
        "program",
        "fork by other calls",
        "survive the engine",
        "survive the engine as a child",
        "fork bomb",
        "processes that share the memory limit",
    ),
    "gets at other processes of the same user": (
        "signal the engine",
        "signal everybody",
        "signal by other calls",
        "limits of the engine",
    ),
    "writes where the person can write, and fills it": (
        "tmpfs bomb",
        "disk bomb",
        "many files",
        "write outside",
        "change the data",
        "change the harness",
        "modes",
    ),
    "takes memory that is in no limit": ("memfd bomb", "shared memory bomb", "queues and keys of the kernel"),
}
"""What a plain process does not contain, on any machine."""

DEPENDS_ON_THE_MACHINE: Mapping[str, str] = {
    "memory of the engine": "ptrace_scope may keep users other than root from it",
    "descriptors of the engine": "ptrace_scope may keep users other than root from it",
    "environment of the engine": "ptrace_scope may keep users other than root from it",
    "trace the engine": "ptrace_scope may keep users other than root from it",
    "names in the home folder": "the home folder may be empty",
    "namespaces": "a distribution may keep users other than root from them",
    "fork as another machine": "the kernel may not run 32-bit programs; ARM has none",
    "io_uring": "it may be switched off (kernel.io_uring_disabled)",
    "other doors of the kernel": "most are for root alone",
    "devices": "most are for root alone",
    "memory without a limit": "root may raise a limit, where it has CAP_SYS_RESOURCE",
    "pipe bomb": "users other than root have 64 MB of pipes (fs.pipe-user-pages-soft)",
}
"""What a plain process contains on some machines alone, and why."""
