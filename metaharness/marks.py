"""Files as they were, and whether they still are: content is read only where size, times or inode differ.

A file that was merely touched, or replaced by one with the same content, has not changed. Not guarded: content that
was changed and changed back between two looks, and a program that can set the time at which an inode was changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from metaharness.errors import StoreError
from metaharness.records import FileMark

_CHUNK = 1 << 20


def mark_of(path: Path, sha256: str | None = None) -> FileMark | None:
    """What a file is now; None when there is none.

    Args:
        path: The file.
        sha256: That of its content, where it is known; None reads it.

    Raises:
        StoreError: It is there and cannot be read.
    """
    try:
        found = path.stat()
        sha256 = sha256 or content_hash(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}", hint="check who may read it") from error
    return _mark(found, sha256)


def content_hash(path: Path, size: int | None = None) -> str:
    """SHA-256 of a file, or of its first `size` bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = size if size is not None else file.seek(0, os.SEEK_END)
        file.seek(0)
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def looks_same(path: Path, mark: FileMark) -> bool:
    """Whether size, times and inode are those of a mark."""
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size) == (
        mark.mtime_ns,
        mark.ctime_ns,
        mark.inode,
        mark.size,
    )


class Marks:
    """Files as they were when they were marked."""

    def __init__(self, marks: Mapping[Path, FileMark]) -> None:
        self._marks = dict(marks)

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Marks:
        """These files as they are now; those that are not there are left out."""
        return cls({path: mark for path in paths if (mark := mark_of(path)) is not None})

    def __contains__(self, path: object) -> bool:
        return path in self._marks

    def hashes(self) -> dict[Path, str]:
        """SHA-256 of every file when it was marked."""
        return {path: mark.sha256 for path, mark in self._marks.items()}

    def changed(self) -> list[Path]:
        """The files whose content is another one now, or that are gone; sorted."""
        return sorted(path for path, mark in self._marks.items() if not self._same(path, mark))

    def _same(self, path: Path, mark: FileMark) -> bool:
        if looks_same(path, mark):
            return True
        now = mark_of(path)
        if now is None or now.sha256 != mark.sha256:
            return False
        self._marks[path] = now  # touched: it is not read again
        return True


def _mark(found: os.stat_result, sha256: str) -> FileMark:
    return FileMark(
        sha256=sha256,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        inode=found.st_ino,
    )
