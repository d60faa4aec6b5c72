"""The files of a candidate: which names are allowed, how they are written and read back.

The names come from a proposer and are not trusted. The ladder checks a candidate before it gets here; this is the
last line before the disk. Not guarded: what the files contain.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from metaharness.errors import CandidateError, CorruptRecordError
from metaharness.store.encoding import text_bytes
from metaharness.store.files import store_errors, write_new

ENTRY = "harness.py"
MAX_PATH_BYTES = 400
MAX_NAME_BYTES = 120
Layout = Literal["file", "folder"]

_CACHE = "__pycache__"
_RULE = "paths are relative POSIX paths such as `harness.py` or `prompts/system.txt`"


def check_candidate_files(files: Mapping[str, str]) -> None:
    """Refuse names that would leave the candidate's folder, or that some file systems cannot tell apart.

    Raises:
        CandidateError: Which file, and what is wrong with its name.
    """
    if ENTRY not in files:
        raise CandidateError(
            f"the candidate has no {ENTRY}", hint=f"hand in {ENTRY} alone, or {ENTRY} and the files it needs"
        )
    taken: dict[str, tuple[str, bool]] = {}
    for path, text in files.items():
        fault = _fault(path)
        if fault is not None:
            raise CandidateError(f"file name {_shown(path)} {fault}", hint=_RULE)
        if not isinstance(text, str):
            raise CandidateError(f"the content of {path} is {type(text).__name__}, not text")
        for name, is_file in _levels(path):
            other, other_is_file = taken.setdefault(_folded(name), (name, is_file))
            if other != name or other_is_file != is_file:
                raise CandidateError(
                    f"{name!r} and {other!r} cannot lie beside each other on every file system", hint=_RULE
                )


def layout_of(files: Mapping[str, str]) -> Layout:
    """A file when the entry is all there is, else a folder."""
    return "file" if len(files) == 1 else "folder"


def candidate_path(folder: Path, layout: Layout) -> Path:
    """Where the candidate of an iteration lies: `harness.py`, or the folder `harness`."""
    return folder / ENTRY if layout == "file" else folder / "harness"


def encode_files(files: Mapping[str, str]) -> dict[str, bytes]:
    """What is written of each file."""
    return {path: text_bytes(text) for path, text in files.items()}


def write_files(folder: Path, files: Mapping[str, bytes], layout: Layout) -> None:
    """Write the checked files of a candidate into the folder of its iteration."""
    root = folder if layout == "file" else candidate_path(folder, layout)
    for path, content in files.items():
        target = root / path
        if layout == "folder":
            with store_errors("make the folder of", target):
                target.parent.mkdir(parents=True, exist_ok=True)
        write_new(target, content)


def lay_out(folder: Path, files: Mapping[str, str]) -> Path:
    """Write checked files as a candidate into any folder. Returns what a worker is given as the candidate's path."""
    layout = layout_of(files)
    write_files(folder, encode_files(files), layout)
    return candidate_path(folder, layout)


def read_files(folder: Path, layout: Layout) -> dict[str, bytes]:
    """The files of a candidate by their relative path, sorted.

    Raises:
        CorruptRecordError: Something other than files and folders lies there.
    """
    root = candidate_path(folder, layout)
    with store_errors("read", root):
        if layout == "file":
            return {ENTRY: root.read_bytes()}
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(_walk(root))}


def _walk(root: Path) -> Iterator[Path]:
    for path in root.iterdir():
        if path.is_symlink():
            raise CorruptRecordError(path, None, "a candidate has no symbolic links")
        if path.is_dir():
            if path.name != _CACHE:  # Python leaves it behind where a candidate was imported in place
                yield from _walk(path)
        else:
            yield path


def _fault(path: str) -> str | None:
    names = path.split("/")
    longest = max(len(text_bytes(name)) for name in names)
    faults = (
        (not path, "is empty"),
        (not path.isprintable(), "has a character that is not printable"),
        ("\\" in path, "has a backslash"),
        (path.startswith("/") or PureWindowsPath(path).anchor, "is absolute"),
        (any(name in ("", ".", "..") for name in names), "has an empty part, `.` or `..`"),
        (_CACHE in names, f"lies in {_CACHE}, which belongs to Python"),
        (
            longest > MAX_NAME_BYTES or len(text_bytes(path)) > MAX_PATH_BYTES,
            f"is too long: at most {MAX_PATH_BYTES} bytes, and {MAX_NAME_BYTES} for each part",
        ),
    )
    return next((fault for wrong, fault in faults if wrong), None)


def _levels(path: str) -> Iterator[tuple[str, bool]]:
    pure = PurePosixPath(path)
    yield path, True
    for parent in pure.parents:
        if parent.name:
            yield str(parent), False


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shown(path: str) -> str:
    return repr(path if len(path) <= 80 else path[:77] + "...")
