"""The one best thing to do on this machine so that its strongest sandbox works: found by looking, not by guessing.

    advice = best_command(look())

What is looked at are files that say what the system is and what its kernel allows, and the version of bubblewrap. It
does not try the advice out, and it does not know a policy that no file shows (SELinux, a hardened kernel).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

INSTALL = {
    "apt-get": "apt-get install -y bubblewrap",
    "dnf": "dnf install -y bubblewrap",
    "yum": "yum install -y bubblewrap",
    "pacman": "pacman -S --noconfirm bubblewrap",
    "zypper": "zypper --non-interactive install bubblewrap",
    "apk": "apk add bubblewrap",
    "xbps-install": "xbps-install -y bubblewrap",
    "emerge": "emerge sys-apps/bubblewrap",
    "nix-env": "nix-env -iA nixpkgs.bubblewrap",
}
"""By the program that installs packages; the first that is there is taken."""
NO_ROOT = ("nix-env",)
OLDEST = (0, 7)
APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
PROFILE = "etc/apparmor.d/bwrap-userns-restrict"
READY = "usr/share/apparmor/extra-profiles/bwrap-userns-restrict"
"""As the package apparmor-profiles brings it: it allows bubblewrap alone what others stay forbidden."""
SWITCHES = {"user/max_user_namespaces": "15000", "kernel/unprivileged_userns_clone": "1"}
"""What below /proc/sys forbids new user namespaces when it is 0, and what it is to be instead."""
IN_A_CONTAINER = (".dockerenv", "run/.containerenv")
TELL_OF_A_CONTAINER = ("container", "KUBERNETES_SERVICE_HOST")
LIFTED = ("seccomp", "apparmor", "systempaths")
CONTAINER = " ".join(["docker run", *(f"--security-opt {what}=unconfined" for what in LIFTED)])
"""The filter of system calls forbids new namespaces, and what is masked of /proc a new /proc."""
NEW_USER_NAMESPACE = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000) != 0)"


@dataclass(frozen=True)
class Machine:
    """What was seen of a machine."""

    platform: str
    """As `sys.platform`."""
    root: bool
    """Whether this is the superuser, who needs no sudo."""
    installer: str | None
    """The program that installs packages; None when none is known."""
    bubblewrap: tuple[int, ...] | None
    """Its version; empty when it does not say; None when it is not there."""
    container: bool
    """Whether this is inside of one, where what the outer system allows decides."""
    namespaces: bool
    """Whether this user may make user namespaces at all."""
    restricted: bool
    """Whether AppArmor lets only programs with a profile make user namespaces, as Ubuntu does from 23.10 on."""
    profiles: tuple[str, ...]
    """Where the system has its profile for bubblewrap: of `PROFILE` and `READY` those that are there."""
    switch: str | None
    """The sysctl that forbids user namespaces; None when none does."""


def look(
    top: Path = Path("/"),
    *,
    platform: str = sys.platform,
    root: bool | None = None,
    namespaces: bool | None = None,
    path: str | None = None,
    variables: Mapping[str, str] = os.environ,
) -> Machine:
    """Look at the machine whose file system begins at `top`.

    Args:
        top: Where files are looked for.
        platform: As `sys.platform`.
        root: Whether this is the superuser; None: as this process is.
        namespaces: Whether user namespaces can be made; None: a child process tries.
        path: Where programs are, as PATH has it; None: `places`.
        variables: The environment, which may tell of a container.
    """
    path = places() if path is None else path
    program = shutil.which("bwrap", path=path)
    system = top / "proc" / "sys"
    return Machine(
        platform=platform,
        root=os.geteuid() == 0 if root is None else root,
        installer=next((name for name in INSTALL if shutil.which(name, path=path)), None),
        bubblewrap=None if program is None else _version(program),
        container=any((top / name).exists() for name in IN_A_CONTAINER)
        or any(name in variables for name in TELL_OF_A_CONTAINER),
        namespaces=_makes_namespaces() if namespaces is None else namespaces,
        restricted=_said(system / APPARMOR) == "1",
        profiles=tuple(name for name in (PROFILE, READY) if (top / name).is_file()),
        switch=next((name for name in SWITCHES if _said(system / name) == "0"), None),
    )


def places() -> str:
    """Where bubblewrap is looked for, as PATH has it: the places of the system first."""
    return os.pathsep.join([os.defpath, "/usr/local/bin", os.environ.get("PATH", "")])


def best_command(machine: Machine) -> str | None:
    """What to do so that the strongest sandbox of this platform works; None when nothing is known that would help."""
    if machine.platform == "win32":
        return "wsl --install, then install and run metaharness inside WSL 2"
    if machine.platform != "linux":
        return None
    if machine.container and not (machine.namespaces and machine.bubblewrap is None):
        inside = "" if machine.bubblewrap is not None else f", with bubblewrap in it ({_install(machine)})"
        return f"{CONTAINER} IMAGE{inside}"
    if machine.bubblewrap is None:
        return _install(machine)
    if machine.bubblewrap and machine.bubblewrap < OLDEST:
        found, needed = (".".join(map(str, version)) for version in (machine.bubblewrap, OLDEST))
        return f"use a release of this system whose bubblewrap is {needed} or later, or build it: this is {found}"
    return _allow(machine)


def or_else(machine: Machine, otherwise: str) -> str:
    """A hint: the best command for this machine where one is known, and what else can be done."""
    best = best_command(machine)
    return f"{best}; or {otherwise}" if best else otherwise


def _install(machine: Machine) -> str:
    if machine.installer is None:
        return "install bubblewrap 0.7 or later with whatever installs packages here"
    command = INSTALL[machine.installer]
    if machine.installer in NO_ROOT:
        return command
    if machine.installer == "apt-get" and machine.root:  # as in an image, which comes without a list of packages
        return f"apt-get update && {command}"
    return _sudo(command, machine)


def _allow(machine: Machine) -> str | None:
    """What lets bubblewrap make its namespaces."""
    if machine.switch is not None:
        return _sudo(f"sysctl -w {machine.switch.replace('/', '.')}={SWITCHES[machine.switch]}", machine)
    if not machine.restricted:
        return None
    steps = [f"apparmor_parser --replace /{PROFILE}"]
    if PROFILE not in machine.profiles:
        steps.insert(0, f"install -m 644 /{READY} /{PROFILE}")
    if not machine.profiles:
        steps.insert(0, "apt-get install -y apparmor-profiles")
    return " && ".join(_sudo(step, machine) for step in steps)


def _sudo(command: str, machine: Machine) -> str:
    return command if machine.root else f"sudo {command}"


def _makes_namespaces() -> bool:
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-S", "-c", NEW_USER_NAMESPACE], capture_output=True, env={}, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _said(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _version(program: str) -> tuple[int, ...]:
    try:
        done = subprocess.run(  # noqa: S603
            [program, "--version"], capture_output=True, text=True, env={}, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(r"(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, found.groups())) if found else ()
