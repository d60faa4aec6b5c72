"""What a jail is: the program, what it sees, where it may connect to, and what it may use up.

Jail(
program=("claude",), workspace=folder, destinations=("https://api.anthropic.com",),
passed=("ANTHROPIC_API_KEY",),
)
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from metaharness.errors import UsageError
from metaharness.jail.destinations import Destination, listed, parse_destination

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
EVERYTHING = (".",)
LOWEST = 1024
"""The lowest port that is listened on without being root."""


@dataclass(frozen=True)
class Bounds:
    """What all processes of one start may use."""

    seconds: float = 3600.0
    """From its start, on the clock on the wall."""
    memory_mb: int = 8192
    """Resident in all its processes together, in MiB; looked at every 20 ms."""
    processes: int = 512
    """Processes together, likewise; for another user than root the kernel bounds processes and threads to it too."""
    scratch_mb: int = 1024
    """In MiB, once for /tmp and once for a home in memory."""
    file_mb: int = 1024
    """The longest file it may write, in MiB."""


@dataclass(frozen=True)
class Jail:
    """How one program is jailed. Paths are of this machine, and the same inside unless said otherwise."""

    program: tuple[str, ...]
    """The program and its first arguments. The program is a path, or a name that PATH leads to."""
    workspace: Path
    """The folder it works in; it is there already."""
    writable: tuple[str, ...] = EVERYTHING
    """What it may write to: folders relative to the workspace; `.` for all of it, empty for nothing."""
    home: Path | None = None
    """What is its home and stays when it ends; None: a home in memory."""
    home_files: Mapping[str, Path] = field(default_factory=dict)
    """Further files and folders to read, by the place in its home: `{".codex/auth.json": path}`."""
    readable: tuple[Path, ...] = ()
    """Further files and folders to read, such as those of its installation. Programs in them are found by name."""
    hidden: tuple[Path, ...] = ()
    """What it must never see, though it lies in something that it sees: cases, runs. What is made later is not
    hidden."""
    destinations: tuple[str, ...] = ()
    """`host:port`, or base URLs. One on loopback is reached under its own address, all others through a proxy that
    the usual variables name."""
    passed: tuple[str, ...] = ()
    """Variables that it gets from the environment in which it is started; those that are not there are left out."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that it gets besides. They lie in a file while the jail is open: no keys."""
    bounds: Bounds = Bounds()

    @cached_property
    def allowed(self) -> tuple[Destination, ...]:
        """The destinations.

        Raises:
            UsageError: One cannot be read.
        """
        return tuple(sorted({parse_destination(text) for text in self.destinations}))

    @cached_property
    def executable(self) -> Path:
        """The program's file, as it was named.

        Raises:
            UsageError: It is not there.
        """
        found = shutil.which(self.program[0]) if self.program else None
        if found is None:
            name = self.program[0] if self.program else ""
            raise UsageError(f"no program {name!r} to be jailed", hint="give its path, or install it where PATH leads")
        return Path(found).absolute()

    def check(self) -> None:
        """Make sure that it can be opened.

        Raises:
            UsageError: Something is not there, is no name of a variable, or is hidden and to be seen.
        """
        _ = self.executable
        self._check_ports()
        given = (*self.readable, *self.home_files.values())
        homes = () if self.home is None else (self.home,)
        for path in (self.workspace, *homes, *given, *(self.workspace / part for part in self.writable)):
            if not path.exists():
                raise UsageError(f"{path} is to be seen in a jail and is not there", hint="make it, or leave it out")
        self._check_names()
        for part in self.writable:
            if not (self.workspace / part).resolve().is_relative_to(self.workspace.resolve()):
                raise UsageError(f"{part!r} is a link that leads out of the workspace", hint="make it a folder")
        self._check_hidden((*given, self.executable))

    def _check_ports(self) -> None:
        near = [one for one in self.allowed if one.on_this_machine]
        for one in near:
            if one.port < LOWEST or [other.port for other in near].count(one.port) > 1:
                raise UsageError(
                    f"{one} cannot be reached in a jail",
                    hint=f"on this machine: ports from {LOWEST} on, and each by one address",
                )

    def _check_names(self) -> None:
        for name in (*self.passed, *self.environment):
            if not NAME.fullmatch(name):
                raise UsageError(f"{name!r} is no name of a variable", hint="letters, digits and _")
        for part in (*self.home_files, *self.writable):
            if PurePosixPath(part).is_absolute() or ".." in PurePosixPath(part).parts:
                raise UsageError(f"{part!r} leads out of its folder", hint="give a relative path without ..")

    def _check_hidden(self, given: tuple[Path, ...]) -> None:
        for secret in self.hidden:
            if self.workspace.resolve() == secret.resolve():
                raise UsageError(f"the workspace {secret} is hidden from the jail", hint="use a folder of its own")
            for path in given:
                if path.resolve().is_relative_to(secret.resolve()):
                    raise UsageError(f"{path} lies in {secret}, which is hidden from the jail", hint="leave it out")

    def search_path(self) -> str:
        """Where it finds programs: its own folder, those of what it may read, those of the system."""
        own = [self.executable.parent]
        for path in self.readable:
            own += [path.parent] if path.is_file() and os.access(path, os.X_OK) else []
            own += [path / "bin"] if (path / "bin").is_dir() else []
        return os.pathsep.join([*dict.fromkeys(str(one.absolute()) for one in own), *SYSTEM_PROGRAMS])

    def sealed_by(self, means: str) -> str:
        """What a test score says of how it was sealed from the program. `means` is what made the jail."""
        written = "read and write" if self.writable == EVERYTHING else f"writes {', '.join(self.writable) or 'nothing'}"
        further = [str(path) for path in (*self.readable, *self.home_files.values())]
        parts = [
            f"workspace {self.workspace} ({written})",
            f"home {'in memory' if self.home is None else self.home}",
            f"destinations {listed(self.allowed)}",
            *([f"also readable {', '.join(further)}"] if further else []),
            *([f"variables {', '.join(self.passed)}"] if self.passed else []),
        ]
        return f"{means} jail: {'; '.join(parts)}"


SYSTEM_PROGRAMS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
