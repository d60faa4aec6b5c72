"""What lies where inside of a jail, and the plan by which `launch.py` starts it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaharness.jail.description import Jail
from metaharness.machine.interpreter import find_interpreter

RELAY = Path(__file__).with_name("relay.py")
LAUNCH = Path(__file__).with_name("launch.py")
BROKER = "broker"
FIXED = {"LANG": "C.UTF-8", "USER": "agent", "LOGNAME": "agent", "SHELL": "/bin/sh"}


@dataclass(frozen=True)
class Layout:
    """Paths as they are inside."""

    relay: str
    sockets: str
    """The folder of the broker's socket and of those that are served."""
    home: str
    scratch: str
    proxy: int
    """The port on loopback of the proxy; 0: any that is free."""
    loopback: bool
    """Whether the relay has to listen where loopback destinations are: loopback is the jail's own."""

    def command(self, jail: Jail) -> list[str]:
        """The relay with the program."""
        ports = [[one.host, one.port] for one in jail.allowed if one.on_this_machine] if self.loopback else []
        settings = {
            "broker": f"{self.sockets}/{BROKER}",
            "ports": ports,
            "proxy": self.proxy,
            "limits": limits(jail),
        }
        return [*self.python(), self.relay, "run", json.dumps(settings), str(jail.executable), *jail.program[1:]]

    def bridge(self, name: str) -> list[str]:
        """The program that speaks over stdio what is served under a name."""
        return [*self.python(), self.relay, "mcp", f"{self.sockets}/{name}"]

    def environment(self, jail: Jail) -> dict[str, str]:
        """What is set inside beside what is passed."""
        own = {"HOME": self.home, "TMPDIR": self.scratch, "PATH": jail.search_path()}
        return {**FIXED, **own, **jail.environment}

    @staticmethod
    def python() -> list[str]:
        """How the engine's interpreter is started by itself."""
        return [find_interpreter(None, programs=True).command[0], "-I", "-S"]


def limits(jail: Jail) -> dict[str, int]:
    """What each process is bounded to by the kernel, by the names of the module `resource`."""
    return {
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": jail.bounds.processes,
        "RLIMIT_FSIZE": jail.bounds.file_mb << 20,
    }


def plan(jail: Jail, layout: Layout, start: str, options: Sequence[str], *, descriptor: bool) -> dict[str, Any]:
    """What `launch.py` reads. `descriptor`: the options go to `start` over a descriptor, variables with them."""
    return {
        "start": start,
        "options": list(options),
        "descriptor": descriptor,
        "command": layout.command(jail),
        "environment": layout.environment(jail),
        "passed": list(jail.passed),
        "workspace": str(jail.workspace.resolve()),
    }
