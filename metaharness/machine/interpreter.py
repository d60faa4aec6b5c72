"""What an interpreter needs of this machine: found out once by really running it.

Read are its executable, its libraries and those of the system, nothing else of its prefix: a virtual environment may
lie where a domain's data lies. What a `.pth` file adds (an editable install) is left out for the same reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER

from metaharness.errors import SandboxError
from metaharness.machine.mounting import to_mount

SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/usr/share/zoneinfo",
)
PROGRAMS = ("/usr", "/bin", "/sbin")
"""What is read besides where a harness may start programs of the system."""
OF_A_PREFIX = ("lib", "lib64", "pyvenv.cfg")
ASK = (
    "import importlib.util as util, json, sys; "
    "print(json.dumps([util.MAGIC_NUMBER.hex(), sys.executable, sys.prefix, sys.base_prefix, sys.exec_prefix]))"
)
ASK_SECONDS = 60.0
CHECK = "check Domain.python: it must be the path of a Python 3.9 or later"


@dataclass(frozen=True)
class Interpreter:
    """How it is started, and what it has to be able to read."""

    command: tuple[str, ...]
    same: bool
    """Whether it understands the engine's bytecode: it is the engine's own, or of the same version."""
    paths: tuple[str, ...]
    """Files and folders without symbolic links on their way; none lies beneath another."""
    links: tuple[tuple[str, str], ...]
    """(path, target) of the symbolic links that lead to them and lie beneath none of them."""


_known: dict[tuple[str | None, bool], Interpreter] = {}


def find_interpreter(python: str | None, *, programs: bool = False) -> Interpreter:
    """What is needed to start it; None is the engine's own, without its installed packages. Asked once.

    `programs`: the programs of the system are needed as well.

    Raises:
        SandboxError: It does not start.
    """
    if (python, programs) not in _known:
        _known[python, programs] = _found(python, PROGRAMS if programs else ())
    return _known[python, programs]


def _found(python: str | None, further: tuple[str, ...]) -> Interpreter:
    if python is None:
        magic = MAGIC_NUMBER.hex()
        executable: str = getattr(sys, "_base_executable", sys.executable)
        prefixes = [sys.base_prefix, sys.base_exec_prefix]
    else:
        magic, executable, *prefixes = _asked(python)
    if "/nix/store/" in os.path.realpath(executable):
        prefixes.append("/nix/store")
    wanted = [executable, *SYSTEM, *further]
    wanted += [f"{prefix}/{name}" for prefix in prefixes for name in OF_A_PREFIX]
    wanted += ["/nix/store"] if "/nix/store" in prefixes else []
    paths, outside = to_mount(wanted)
    flags = ("-s", "-S") if python is None else ("-s",)
    return Interpreter((executable, *flags), magic == MAGIC_NUMBER.hex(), paths, outside)


def _asked(python: str) -> list[str]:
    try:
        done = subprocess.run(  # noqa: S603
            [python, "-s", "-c", ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"LANG": "C.UTF-8"},
            cwd="/",
            timeout=ASK_SECONDS,
            check=True,
        )
        return [str(one) for one in json.loads(done.stdout)]
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip()[:500]
        raise SandboxError(
            f"cannot start {python}: exit status {error.returncode}, saying {said}", hint=CHECK
        ) from None
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxError(f"cannot start {python}: {error}", hint=CHECK) from error
