"""The interpreter, the package and its extras, and what surrounds the process."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path

from metaharness import __version__, variables
from metaharness.doctor.findings import Finding, guarded
from metaharness.gateway.price_list import PACKAGE, version
from metaharness.gateway.providers.remote import install_hint, sdk_bounds

OLDEST = (3, 11)
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_KEY",),
    "openai": ("OPENAI_API_KEY", "MOONSHOT_API_KEY"),
}
"""Each extra is the package of that name; with the keys that are of use only through it."""
OPEN_FILES = 256
"""Below this the soft limit on open files is told: 8 calls in the air, their workers and open traces need about 100."""
FILES_PER_CALL = 4
"""A connection, and at most one worker with two pipes and what starting it takes."""
FILES_AT_REST = 100
"""Traces that are kept open, the journal, standard streams."""


# --- Python and packages ----------------------------------------------------------------------------------------


def python() -> Iterator[Finding]:
    """The interpreter, the platform, the package and its extras."""
    yield interpreter(sys.version_info[:3], sys.executable)
    yield system(sys.platform)
    yield Finding("python", "metaharness", "ok", f"version {__version__}, in {Path(__file__).resolve().parents[1]}")
    yield price_list(version(), any(variables.get(variable) for one in EXTRAS.values() for variable in one))
    for package, keys in EXTRAS.items():
        wanting = [variable for variable in keys if variables.get(variable)]
        yield extra(package, _installed(package), wanting, sdk_bounds(package))


def interpreter(version: tuple[int, ...], where: str) -> Finding:
    """Whether this Python is new enough."""
    found = f"{'.'.join(map(str, version))}, {where}"
    if tuple(version[:2]) >= OLDEST:
        return Finding("python", "interpreter", "ok", found)
    oldest = ".".join(map(str, OLDEST))
    return Finding("python", "interpreter", "problem", found, f"install Python {oldest} or later and use that")


def system(name: str) -> Finding:
    """Whether the platform is one that is supported; `name` is as in `sys.platform`."""
    if name == "linux":
        return Finding("python", "platform", "ok", f"Linux, {platform.machine()}: supported")
    if name == "win32":
        advice = "install WSL 2 and run metaharness inside it"
        return Finding("python", "platform", "problem", "Windows: supported only through WSL 2", advice)
    found = "macOS: not tested" if name == "darwin" else f"{name}: not tested"
    return Finding("python", "platform", "warning", found, "run `uv run pytest` in a clone, or use Linux")


def extra(package: str, version: str | None, wanting: list[str], requirement: str) -> Finding:
    """Whether an extra is installed.

    Args:
        package: The extra, which is also the name of its package.
        version: The installed version; None when it is not installed.
        wanting: The keys that are set and are of use only with it.
        requirement: The versions that fit, such as `<3,>=2.10`; empty when that is not known.
    """
    name = f"extra {package}"
    install = install_hint(package)
    if version is None and wanting:
        found = f"not installed, but {' and '.join(wanting)} {'is' if len(wanting) == 1 else 'are'} set"
        return Finding("python", name, "warning", found, install)
    if version is None:
        return Finding("python", name, "ok", f"not installed; {package}: models need it; {install}")
    if not _fits(version, requirement):
        return Finding("python", name, "warning", f"{version} is installed; needed is {requirement}", install)
    return Finding("python", name, "ok", f"{version} is installed")


def price_list(version: str | None, wanted: bool) -> Finding:
    """Which list of prices is installed, and whether one is wanted: where a key is set."""
    if version is not None:
        return Finding("python", "list of prices", "ok", f"{PACKAGE} {version}")
    found = "not installed: what a model costs is known only where --price tells it"
    if not wanted:
        return Finding("python", "list of prices", "ok", found)
    return Finding("python", "list of prices", "warning", found, install_hint(PACKAGE, extra="prices"))


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, requirement: str) -> bool:
    have = _numbers(version)
    bounds = re.findall(r"(>=|<)\s*([\d.]+)", requirement)
    return all(have >= _numbers(bound) if sign == ">=" else have < _numbers(bound) for sign, bound in bounds)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


# --- what surrounds the process ---------------------------------------------------------------------------------


def surroundings(encoding: str | None) -> Iterator[Finding]:
    """Standard output, the folder for temporary files, the limit on open files."""
    checks: Mapping[str, Callable[[], Iterator[Finding]]] = {
        "stdout": partial(_stdout, encoding),
        "temporary files": _temporary,
        "open files": _open_files,
    }
    for name, check in checks.items():
        yield from guarded("environment", name, check)


def _stdout(encoding: str | None) -> Iterator[Finding]:
    if encoding is None or encoding.lower().replace("-", "").replace("_", "") == "utf8":
        yield Finding("environment", "stdout", "ok", "writes UTF-8" if encoding else "is not a stream of bytes")
        return
    advice = "export PYTHONUTF8=1, or choose a UTF-8 locale such as LANG=C.UTF-8"
    found = f"writes {encoding}: texts of cases and harnesses may fail to be printed"
    yield Finding("environment", "stdout", "warning", found, advice)


def _temporary() -> Iterator[Finding]:
    told, name = os.environ.get("TMPDIR"), "temporary files"
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        advice = "make a folder that you may write, and export TMPDIR=THAT_FOLDER"
        yield Finding("environment", name, "problem", "there is no folder for them that can be written", advice)
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"probe")
        file.flush()
    if told and Path(told).absolute() != Path(folder).absolute():
        found = f"TMPDIR names {told}, which cannot be written; {folder} is used"
        yield Finding("environment", name, "warning", found, f"make {told} writable, or unset TMPDIR")
        return
    yield Finding("environment", name, "ok", f"{folder} can be written")


def _open_files() -> Iterator[Finding]:
    if sys.platform == "win32":
        yield Finding("environment", "open files", "ok", "this platform has no such limit")
        return
    import resource  # noqa: PLC0415 - not there on Windows

    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def open_files(limit: int) -> Finding:
    """Whether the soft limit on open files allows a usual concurrency. A negative limit is none."""
    if limit < 0:
        return Finding("environment", "open files", "ok", "no limit")
    enough = max(1, (limit - FILES_AT_REST) // FILES_PER_CALL)
    found = f"at most {limit:,}: enough for --concurrency {min(enough, 1024)}"
    if limit >= OPEN_FILES:
        return Finding("environment", "open files", "ok", found)
    return Finding("environment", "open files", "warning", found, "raise the limit (ulimit -n 4096) in this shell")
