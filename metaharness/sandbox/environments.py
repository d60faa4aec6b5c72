"""Environments with what harnesses may import: built once by uv, byte-compiled, kept for every later run.

They lie in `$METAHARNESS_ENVIRONMENTS`, else in /var/tmp/metaharness-environments-UID: outside of any home, in a folder
that nobody else can write. One is built in a folder of its own and counts once its record, KEY.json, is there: what was
killed half-way is never taken for whole, and two processes that want the same one build one.

A sandbox shows a worker the environment's libraries read-only, so nothing is compiled when they are imported.

Not guarded: what building a package does. A package without a wheel runs code of its own, with the rights of whoever
starts this; name only what you would install. Nor a process with the same user's rights, which can change what is
built; a part that is missing later is noticed by the number and the size of files, and built anew.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import stat
import subprocess
import sys
import sysconfig
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from filelock import FileLock, Timeout

from metaharness.errors import SandboxError
from metaharness.sandbox.requirements import Requirements, read_requirements

VARIABLE = "METAHARNESS_ENVIRONMENTS"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
ERROR_LINES = 40
INSTALL_UV = "pip install uv"
TAKE_AWAY = "or take the file away and name an interpreter that has the packages as Domain.python"

tell = logging.getLogger(__name__)
"""Told what takes time; the command line shows it on stderr."""


@dataclass(frozen=True)
class Environment:
    """One that is built."""

    python: str
    """Its interpreter."""
    packages: tuple[str, ...]
    """What is installed in it, such as `numpy==2.3.0`, sorted."""
    content: str
    """The hash of the requirements that it was built for; see `Requirements.content`."""


_known: dict[tuple[Path, str], Environment] = {}


def environment_for(file: Path) -> Environment:
    """The environment for a `harness-requirements.txt`; built where it is not there yet, which may take minutes.

    Raises:
        DomainError: The file cannot be used.
        SandboxError: uv is missing or fails, or the folder of all environments is not safe or cannot be written.
    """
    requirements = read_requirements(file)
    root = environments_folder()
    base: str = getattr(sys, "_base_executable", sys.executable)
    key = requirements.key(base)
    if (root, key) not in _known:
        try:
            make_private(root)
            _known[root, key] = _found(root, key) or _built(root, key, base, requirements)
        except OSError as error:
            raise SandboxError(f"no environment can be kept in {root}: {error}", hint=elsewhere()) from error
    return _known[root, key]


def environments_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """Where environments are kept; it need not be there."""
    told = variables.get(VARIABLE)
    if told:
        return Path(told).absolute()
    return Path(f"/var/tmp/metaharness-environments-{os.getuid()}")  # noqa: S108 - see make_private


def make_private(folder: Path) -> None:
    """Make a folder that its owner alone can write, or make sure that this one is.

    Raises:
        SandboxError: It is no folder, or somebody else could put files into it that workers would import.
        OSError: It cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    problem = unsafe(folder)
    if problem is not None:
        raise SandboxError(f"environments are not kept in {folder}: {problem}", hint=elsewhere())


def unsafe(folder: Path) -> str | None:
    """Why nothing is imported from that folder; None where all is well, or where it is not there yet."""
    try:
        about = folder.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(about.st_mode):
        return "it is no folder"
    if about.st_uid != os.getuid():
        return "it belongs to somebody else"
    return "others can write to it" if about.st_mode & OTHERS_WRITE else None


def find_uv(variables: Mapping[str, str] = os.environ) -> Path | None:
    """The program uv: on PATH, beside this Python, or where its installers put it; None where it is not."""
    home = variables.get("HOME")
    beside = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    installed = [f"{home}/.local/bin", f"{home}/.cargo/bin"] if home else []
    places = [*variables.get("PATH", os.defpath).split(os.pathsep), *beside, *installed]
    found = shutil.which("uv", path=os.pathsep.join(place for place in places if place))
    return Path(found) if found else None


def elsewhere() -> str:
    """What to do about a folder that is not safe or cannot be written."""
    return f"make it your own and closed to others (chmod 700), or name another folder: export {VARIABLE}=FOLDER"


# --- what is there ----------------------------------------------------------------------------------------------


def _found(root: Path, key: str) -> Environment | None:
    """The one that is recorded, as long as it is whole."""
    try:
        record = json.loads((root / f"{key}.json").read_bytes())
        folder = root / record["folder"]
        if _size(folder) != tuple(record["size"]):
            return None
        return Environment(str(folder / "bin" / "python"), tuple(record["packages"]), record["content"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _size(folder: Path) -> tuple[int, int]:
    """How many files there are, and their bytes: folders for temporary files are swept file by file."""
    sizes = [
        os.lstat(os.path.join(where, name)).st_size  # noqa: PTH118 - ten thousand of them
        for where, _, names in os.walk(folder)
        for name in names
    ]
    return len(sizes), sum(sizes)


# --- building ---------------------------------------------------------------------------------------------------


def _built(root: Path, key: str, base: str, requirements: Requirements) -> Environment:
    lock = FileLock(root / f"{key}.building", fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        tell.info("another process builds the environment of %s: waiting for it", requirements.file)
        lock.acquire()
    with lock:
        return _found(root, key) or _build(root, key, base, requirements)


def _build(root: Path, key: str, base: str, requirements: Requirements) -> Environment:
    uv = find_uv()
    if uv is None:
        raise SandboxError(
            f"{requirements.file} is installed with uv, and uv is not here", hint=f"{INSTALL_UV}; {TAKE_AWAY}"
        )
    for left in root.glob(f"{key}-????????"):  # of one that was killed, or is not whole any more
        shutil.rmtree(left, ignore_errors=True)
    folder = root / f"{key}-{secrets.token_hex(4)}"
    begun = time.monotonic()
    tell.info("installing %s for harnesses, once: %s", requirements.file, ", ".join(requirements.names))
    _uv([uv, "venv", "--quiet", "--no-project", "--python", base, folder], requirements)
    python = folder / "bin" / "python"
    # hardlink: a link into somebody's cache would lead to nothing inside a sandbox
    options = ["--link-mode", "hardlink", "--compile-bytecode", "--requirements"]
    _uv([uv, "pip", "install", "--python", python, *options, requirements.file], requirements)
    packages = _packages(folder)
    content = requirements.content
    record = {"folder": folder.name, "size": _size(folder), "packages": packages, "content": content}
    unfinished = root / f"{folder.name}.json"
    unfinished.write_text(json.dumps(record, indent=1), encoding="utf-8")
    unfinished.replace(root / f"{key}.json")
    tell.info("installed in %.1f s, in %s: %s", time.monotonic() - begun, folder, ", ".join(packages) or "nothing")
    return Environment(str(python), tuple(packages), content)


def _packages(folder: Path) -> list[str]:
    libraries = [str(path) for path in folder.glob("lib*/python*/site-packages") if not path.parents[1].is_symlink()]
    return sorted(f"{one.name}=={one.version}" for one in metadata.distributions(path=libraries))


def _uv(command: Sequence[str | Path], requirements: Requirements) -> None:
    """Run uv and tell what it says as it says it.

    Raises:
        SandboxError: It failed; the message ends in what it said.
    """
    said: deque[str] = deque(maxlen=ERROR_LINES)
    with subprocess.Popen(  # noqa: S603
        command,
        cwd=requirements.file.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                said.append(line.rstrip())
                tell.info("  %s", line.rstrip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise SandboxError(
            f"uv cannot install {requirements.file}:\n" + "\n".join(said),
            hint=f"put {requirements.file.name} right, or the way to its index (UV_DEFAULT_INDEX); {TAKE_AWAY}",
        )
