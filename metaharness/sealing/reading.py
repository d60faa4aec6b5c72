"""Which file a domain reads its test split from: found out by watching what it opens.

Seen is what Python opens. Not seen: what a library opens by itself, such as a database; then no file is found, and
nothing is moved.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from metaharness.domain import Domain, Split, split_cases
from metaharness.errors import DomainError
from metaharness.holdout import sealed_size
from metaharness.loading import load_domain
from metaharness.seals import SUFFIX, option_folders

CODE = frozenset({".py", ".pyc"})
LAYOUT = (
    "cases() has to read `test` from a data file of its own, such as data/test.jsonl, that it opens for this split "
    "alone: write the cases there, then seal"
)


def split_file(reference: str, options: Mapping[str, str]) -> Path:
    """The one file that a domain reads for its test split, and for nothing else.

    Args:
        reference: The domain, as for `load_domain`.
        options: Those of its factory.

    Raises:
        DomainError: It cannot be read, or there is no such file; the hint says which layout can be sealed.
    """
    with _opened() as elsewhere:
        domain = load_domain(reference, options)
        for split in (Split.TRAIN, Split.SEARCH):
            split_cases(domain, split)
    domain = load_domain(reference, options)  # anew: it may keep what it has read
    with _opened() as opened:
        sealed_size(domain)
    folders = [domain.root.absolute(), *option_folders(options).values()]
    files = [path for path in opened if _is_data(path, folders)]
    own = [path for path in files if path not in elsewhere]
    if len(own) == 1 and not _by_a_link(own[0], folders):
        return own[0]
    raise DomainError(f"the test split of {domain.name} cannot be sealed: {_why(domain, own, files)}", hint=LAYOUT)


def _why(domain: Domain, own: list[Path], files: list[Path]) -> str:
    if len(own) == 1:
        return f"{own[0]} is a link to another place"
    if own:
        return f"it is read from {len(own)} files, such as {own[0]} and {own[1]}"
    if files:
        return f"it is read from {files[0]}, as other splits are"
    return f"it is made by code, or read in a way that is not seen: no file below {domain.root} was opened for it"


def _is_data(path: Path, folders: list[Path]) -> bool:
    if path.suffix in CODE or path.name.endswith(SUFFIX) or not path.is_file():
        return False
    return any(path.is_relative_to(folder) for folder in folders)


def _by_a_link(path: Path, folders: list[Path]) -> bool:
    return not any(path.resolve().is_relative_to(folder.resolve()) for folder in folders) or path.is_symlink()


_watching: list[dict[Path, None]] = []


@contextmanager
def _opened() -> Iterator[dict[Path, None]]:
    """The files that are opened within, in order."""
    _install()
    found: dict[Path, None] = {}
    _watching.append(found)
    try:
        yield found
    finally:
        _watching.remove(found)


@cache
def _install() -> None:
    """Once in a process: what is installed cannot be taken away. Outside of `_opened` it does nothing."""
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open" and isinstance(arguments[0], (str, bytes)):
        path = Path(os.path.abspath(os.fsdecode(arguments[0])))  # noqa: PTH100 - links are not followed: they are told
        for found in _watching:
            found[path] = None
