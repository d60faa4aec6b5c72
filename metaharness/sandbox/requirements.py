"""`harness-requirements.txt`: what a domain says that its harnesses may import, read and told apart from any other.

It does not look at what a line leads to elsewhere: a newer release on an index, or another file behind the same URL,
gives the same identity. A wheel on this machine is told apart by its content.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from metaharness.errors import DomainError

OTHER_FILES = re.compile(r"-[rce]|--(requirement|constraint|editable)\b")
"""Options that lead to what could change while the file stays the same."""
ARCHIVES = (".whl", ".tar.gz", ".zip")
HINT = "one requirement a line, such as numpy>=2 or ./wheels/tiny-1.0-py3-none-any.whl; options of an index are allowed"


@dataclass(frozen=True)
class Requirements:
    """One such file, as it was read."""

    file: Path
    lines: tuple[str, ...]
    """Without comments, empty lines and continuations, in order."""
    content: str
    """SHA-256 of the lines and of the wheels that they name."""

    @property
    def names(self) -> list[str]:
        """The lines without options, which may hold what is not to be shown."""
        return [line for line in self.lines if not line.startswith("-")]

    def key(self, python: str) -> str:
        """What an environment for them is kept under: their content, this Python with its path, this platform."""
        about = [self.content, python, sys.version, sys.implementation.cache_tag, sysconfig.get_platform()]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]


def read_requirements(file: Path) -> Requirements:
    """Read the file.

    Raises:
        DomainError: It cannot be read, or a line leads to another file of requirements or to a folder of source.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DomainError(f"cannot read {file}: {error}", hint="it is text in UTF-8, one requirement a line") from error
    lines = tuple(_lines(text))
    for line in lines:
        if OTHER_FILES.match(line):
            raise DomainError(f"{file} leads to another file: {line}", hint=f"write out what it holds: {HINT}")
    parts = [[line, *(_identity(path, line, file) for path in _paths(line, file.parent))] for line in lines]
    return Requirements(file, lines, hashlib.sha256(json.dumps(parts).encode()).hexdigest())


def _lines(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        kept = " ".join(re.sub(r"(^|\s)#.*", "", line).split())
        if kept:
            yield kept


def _paths(line: str, folder: Path) -> Iterator[Path]:
    """What on this machine a line names."""
    for word in re.split(r"[\s=;@]+", line):
        bare = word.partition("#")[0]
        name = unquote(bare.removeprefix("file://")) if bare.startswith("file://") else bare
        local = "://" not in name and ("/" in name or name.startswith(".") or name.endswith(ARCHIVES))
        if local and (folder / name).exists():
            yield (folder / name).resolve()


def _identity(path: Path, line: str, file: Path) -> str:
    """The content of a file; of a folder, such as one of wheels, where it is."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if not line.startswith("-"):
        raise DomainError(
            f"{file} names a folder of source: {line}",
            hint="build a wheel of it (uv build --wheel) and name that: source could change under a run",
        )
    return str(path)
