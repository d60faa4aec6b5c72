"""The command that installs a package for the Python that runs here: how depends on what made its environment.

Not guarded: an environment that other tools manage, such as conda or a container image, is told as any other; what is
installed there is lost when the tool makes it anew.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PROJECT = "metaharness"


def install_command(requirement: str, extra: str, *, prefix: Path | None = None, executable: str | None = None) -> str:
    """What to type, as a shell takes it.

    This package is on no index, so where it is named to a package manager, it is by the folder that it came from.

    Args:
        requirement: The package with the versions that fit.
        extra: The extra of this package that brings it.
        prefix: The environment; None is that of this process.
        executable: Its Python; None is that of this process.
    """
    prefix, executable = prefix or Path(sys.prefix), executable or sys.executable
    if _is_clone(prefix.parent):
        return shlex.join(["uv", "sync", "--directory", str(prefix.parent), "--inexact", "--extra", extra])
    tool = _tool_command(prefix / "uv-receipt.toml", requirement)
    if tool is not None:
        return tool
    if find_spec("pip") is not None:  # uv makes environments without it
        return shlex.join([executable, "-m", "pip", "install", requirement])
    return shlex.join(["uv", "pip", "install", "--python", executable, requirement])


def _is_clone(folder: Path) -> bool:
    return bool(_read(folder / "pyproject.toml").get("project", {}).get("name") == PROJECT)


def _tool_command(receipt: Path, requirement: str) -> str | None:
    """For an environment of `uv tool`, which keeps only what is asked for anew; None where it is not from a folder."""
    wanted = _read(receipt).get("tool", {}).get("requirements", [])
    own: dict[str, Any] = next((one for one in wanted if one.get("name") == PROJECT), {})
    source = own.get("directory") or own.get("editable")
    if not source:
        return None
    name = re.match(r"[\w.-]+", requirement)
    others = [one for one in wanted if one is not own and "specifier" in one and (not name or one["name"] != name[0])]
    further = [*(f"{one['name']}{one['specifier']}" for one in others), requirement]
    extras = f"[{','.join(own['extras'])}]" if own.get("extras") else ""
    editable = ["--editable"] if own.get("editable") else []
    parts = [part for one in further for part in ("--with", one)]
    return shlex.join(["uv", "tool", "install", *editable, f"{source}{extras}", *parts])


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or none that can be read: it is another kind of environment
        return {}
