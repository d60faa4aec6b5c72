"""A jail under macOS's sandbox-exec (Seatbelt). NOT TESTED: written from its documentation, on another system.

As under bubblewrap the program reaches loopback destinations and the relay's proxy alone, and the workspace, its home
and a scratch folder are all that it can write to.

It does not guard memory nor the number of processes, nor metadata: that a path exists can be found out. The ports of
this machine that are allowed are reached without the broker, so those connections are not counted. What the program
has started in the background may outlive it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

from metaharness.errors import SandboxError
from metaharness.jail.description import Jail
from metaharness.jail.layout import RELAY, Layout
from metaharness.machine.interpreter import find_interpreter

PROGRAM = "/usr/bin/sandbox-exec"
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/System", "/Library/Frameworks", "/Library/Apple"),
    *("/private/etc/ssl", "/private/etc/hosts", "/private/var/db/timezone", "/dev"),
)
SERVICES = ("com.apple.system.opendirectoryd.libinfo", "com.apple.system.logger", "com.apple.trustd.agent")
"""Of the system: names, the log, certificates. Not the keychain."""
OTHERWISE = "say --unjailed-proposer: it can then read whatever you can"


def find_program() -> str:
    """The program.

    Raises:
        SandboxError: This is not macOS.
    """
    if not Path(PROGRAM).exists():
        raise SandboxError("a jail is made on Linux by bubblewrap, on macOS by sandbox-exec", hint=OTHERWISE)
    return PROGRAM


def layout(jail: Jail, folder: Path) -> Layout:
    """Paths are those of the machine."""
    home = folder / "home" if jail.home is None else jail.home.resolve()
    for path in (home, folder / "scratch"):
        path.mkdir(exist_ok=True)
    for name, path in jail.home_files.items():
        link = home / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path.resolve())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return Layout(str(RELAY), str(folder / "sockets"), str(home), str(folder / "scratch"), port, loopback=False)


def profile(jail: Jail, place: Layout) -> str:
    """What is allowed; all else is denied. What is said last counts."""
    seen = (jail.workspace, jail.executable, *jail.readable, *jail.home_files.values())
    given = [str(path.resolve()) for path in seen]
    interpreter = find_interpreter(None, programs=True)
    own = [place.relay, place.sockets, place.home, place.scratch]
    writes = [str((jail.workspace / part).resolve()) for part in jail.writable] + [place.home, place.scratch]
    ports = [place.proxy, *(one.port for one in jail.allowed if one.on_this_machine)]
    lines = [
        "(version 1)",
        "(deny default)",
        "(allow process-exec process-fork sysctl-read file-read-metadata)",
        f"(allow mach-lookup {_rules('global-name', SERVICES)})",
        "(allow signal (target same-sandbox))",
        f'(allow file-read* (literal "/") {_rules("subpath", [*SYSTEM, *interpreter.paths, *given, *own])})',
        f'(allow file-write* (literal "/dev/null") (literal "/dev/tty") {_rules("subpath", writes)})',
        f"(allow network-outbound {_rules('subpath', [place.sockets])})",
        *(f'(allow network-outbound (remote ip "localhost:{port}"))' for port in ports),
        f'(allow network-bind network-inbound (local ip "localhost:{place.proxy}"))',
    ]
    if jail.hidden:
        lines.append(f"(deny file-read* file-write* {_rules('subpath', [str(one.resolve()) for one in jail.hidden])})")
    return "\n".join(lines)


def _rules(kind: str, paths: Iterable[str]) -> str:
    quoted = (path.replace("\\", "\\\\").replace('"', '\\"') for path in paths)
    return " ".join(f'({kind} "{path}")' for path in quoted)
