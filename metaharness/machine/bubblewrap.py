"""Where bubblewrap is, and whether it knows what is needed here."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache

from metaharness.errors import SandboxError
from metaharness.machine.advising import look, or_else, places

NEEDED = "--size"
"""Of bubblewrap 0.7 and later: without it a tmpfs would be bounded by the machine's memory."""


def find_bubblewrap(otherwise: str) -> str:
    """The path of the program. `otherwise` is what can be done without it, for the hint.

    Raises:
        SandboxError: It is missing, does not start or is too old.
    """
    program = shutil.which("bwrap", path=places())
    if program is None:
        raise SandboxError("bubblewrap is not installed", hint=or_else(look(), otherwise))
    if NEEDED not in options_known(program, otherwise):
        raise SandboxError(
            f"{program} is too old: it has no option {NEEDED}; 0.7 is wanted", hint=or_else(look(), otherwise)
        )
    return program


@lru_cache
def options_known(program: str, otherwise: str) -> str:
    """What it says of its options.

    Raises:
        SandboxError: It does not start.
    """
    try:
        done = subprocess.run(  # noqa: S603
            [program, "--help"], capture_output=True, text=True, env={}, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxError(f"cannot start {program}: {error}", hint=or_else(look(), otherwise)) from error
    return done.stdout
