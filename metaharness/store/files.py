"""Bytes on disk: what is written at once, what is appended, and where foreign errors are mapped.

An append is in the operating system when the call returns, so a killed process loses nothing that was appended.
Not guarded: power loss, except for what is written `durable`; network file systems; another program that writes
into the same file.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from metaharness.errors import CorruptRecordError, StoreError

R = TypeVar("R", bound=BaseModel)

_PERMISSION = "check who owns the folder and its permissions, or choose another place for runs/"
_HINTS: Mapping[int, str] = {
    errno.ENOSPC: "free space on this disk, then go on with `metaharness resume`; complete lines are intact",
    errno.EDQUOT: "free some of your disk quota, then go on with `metaharness resume`; complete lines are intact",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), then go on with `metaharness resume`",
    errno.EROFS: "this file system is mounted read-only: mount it for writing, or choose another place for runs/",
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.ENOTDIR: "a part of the path is a file: name a folder, such as --root runs",
    errno.EEXIST: "there is a file of that name: name a folder, such as --root runs",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "the machine has no open file left: close other programs",
    errno.ENAMETOOLONG: "choose a shorter name or a place for runs/ with a shorter path",
    errno.ENOSYS: "this file system has no locks: keep runs/ on a local disk",
    errno.EIO: "the disk reports a fault: copy the run to another disk",
}
_CHUNK = 1 << 20
_BLOCK = 1 << 16


@contextmanager
def store_errors(action: str, path: Path) -> Iterator[None]:
    """Map what the operating system says to a StoreError; the only place that does."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        hint = _HINTS.get(error.errno) if error.errno is not None else None
        raise StoreError(f"cannot {action} {path}: {reason}", hint=hint) from error


# --- whole files ------------------------------------------------------------------------------------------------


def write_atomic(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: The file; its folder exists.
        data: The whole content.
        durable: Also survive a power loss: fsync the content and the directory entry.
    """
    temporary = temporary_name(path)
    with store_errors("write", path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        if durable:
            sync_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """Where `write_atomic` prepares a file. One writer owns the run, so one name is enough."""
    return path.with_name(f".{path.name}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file name is one of `temporary_name`."""
    return name.startswith(".") and name.endswith(".tmp")


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet."""
    with store_errors("write", path), path.open("xb") as file:
        file.write(data)


def read_optional(path: Path) -> bytes | None:
    """The content of a file, or None when there is no such file."""
    with store_errors("read", path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def read_text(path: Path) -> str | None:
    """The text of a file, or None when there is no such file.

    Raises:
        CorruptRecordError: It is not UTF-8.
    """
    data = read_optional(path)
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorruptRecordError(path, None, f"not UTF-8: {error.reason} at byte {error.start}") from error


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_name(path: Path) -> Path:
    """The path itself, or with the suffix -2, -3, ... the first that does not exist."""
    candidate, number = path, 2
    while os.path.lexists(candidate):
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate


# --- lines ------------------------------------------------------------------------------------------------------


def read_lines(path: Path, containing: bytes = b"") -> Iterator[tuple[int, bytes]]:
    """The complete lines of a file with their numbers, one at a time; none when there is no such file.

    An unterminated last line is left out: its writer is at it.

    Args:
        path: The file.
        containing: Only lines with these bytes; a line without them is neither parsed nor checked.
    """
    with store_errors("read", path):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                if containing in line:
                    yield number, line


def lines_from(path: Path, offset: int, number: int) -> Iterator[tuple[int, int, bytes]]:
    """The complete lines of a file from one of them on: number, offset, line; none when there is no such file.

    Args:
        path: The file.
        offset: Where the first of them begins.
        number: Which line that is, from 1.

    Raises:
        ValueError: No line begins there.
    """
    with store_errors("read", path):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(max(0, offset - 1))
            if offset > 0 and file.read(1) != b"\n":
                raise ValueError(f"no line begins at byte {offset}")
            while (line := file.readline()).endswith(b"\n"):
                yield number, offset, line
                number, offset = number + 1, offset + len(line)


def line_end(file: BinaryIO, size: int) -> int:
    """Where the last terminated line within the first `size` bytes of a file ends; 0 when there is none."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def parse(model: type[R], data: bytes, path: Path, line: int | None = None) -> R:
    """A record from its JSON.

    Raises:
        CorruptRecordError: It is not that record; the message names file and line.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = f"{field}: {first['msg']}" if field else first["msg"]
        raise CorruptRecordError(path, line, reason) from error


def append_shared(path: Path, line: bytes) -> None:
    """Append a short line with one write to a file that several processes append to."""
    with store_errors("append to", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


class LogFile:
    """A file of lines with one writer, and optionally a running SHA-256 of it.

    A failed append leaves the file as it was: what was written of the line is cut off, at once or, where even that
    fails, before the next append.
    """

    def __init__(self, path: Path, *, hashed: bool = False) -> None:
        self.path = path
        self._hashed = hashed
        self._descriptor: int | None = None
        self._size: int | None = None
        self._sha = hashlib.sha256()
        self._sha_size = 0
        self._dirty = False

    @property
    def size(self) -> int:
        """Bytes of complete lines."""
        if self._size is None:
            with store_errors("read", self.path):
                try:
                    self._size = self.path.stat().st_size
                except FileNotFoundError:
                    self._size = 0
        return self._size

    def append(self, line: bytes) -> int:
        """Append one terminated line with one write. Returns its offset."""
        offset = self.size
        with store_errors("append to", self.path):
            descriptor = self._open() if self._descriptor is None else self._descriptor
            if self._dirty:
                self._cut(descriptor)
            self._dirty = True
            try:
                written = os.write(descriptor, line)
                while written < len(line):  # a full disk takes a part; the next write says why
                    written += os.write(descriptor, line[written:])
                self._size = offset + len(line)
                self._dirty = False
            finally:
                if self._dirty:
                    with suppress(OSError):
                        self._cut(descriptor)
        if self._hashed and self._sha_size == offset:
            self._sha.update(line)
            self._sha_size = offset + len(line)
        return offset

    def sha256(self) -> str:
        """SHA-256 of the file. Reads only what was not appended through this object."""
        if self._sha_size < self.size:
            with store_errors("read", self.path), self.path.open("rb") as file:
                file.seek(self._sha_size)
                while chunk := file.read(min(_CHUNK, self.size - self._sha_size)):
                    self._sha.update(chunk)
                    self._sha_size += len(chunk)
        return self._sha.hexdigest()

    def close(self) -> None:
        """Give the descriptor back; the next append opens the file again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def forget(self) -> None:
        """Close, and look at the file anew: it was replaced."""
        self.close()
        self._size = None
        self._sha, self._sha_size = hashlib.sha256(), 0

    def _open(self) -> int:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        if os.fstat(descriptor).st_size != self.size and not self._dirty:
            os.close(descriptor)
            raise StoreError(
                f"{self.path} was changed by another program while this process records the run",
                hint="stop the other program and open the run again",
            )
        self._descriptor = descriptor
        return descriptor

    def _cut(self, descriptor: int) -> None:
        os.ftruncate(descriptor, self.size)
        self._dirty = False
