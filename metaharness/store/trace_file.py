"""The file of an index beside its trace: whole or not there, and nothing but a saving of time.

`.eval_trace.index` is replaced as a whole, by whoever has read a trace a good deal further than it says; so nobody
waits for anybody. It begins with its own checksum: what is cut off, damaged or something else counts as not there. Not
guarded: a program that writes a wrong index with a right checksum. No score is made from it.
"""

from __future__ import annotations

import json
import secrets
import stat
import sys
import zlib
from array import array
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metaharness.store.encoding import json_bytes
from metaharness.store.files import temporary_name
from metaharness.store.trace_rows import STATUSES, Rows, key_of, pair_of

_MAGIC = b"metaharness trace index 1\n"
_NUMBER = 8
_COLUMNS = ("lines", "offsets", "lengths", "values", "statuses", "errors")
_KNOWN_BY = {"byte_order": sys.byteorder, "statuses": list(STATUSES)}
"""An index of another machine or version is another file."""


@dataclass(frozen=True)
class Ends:
    """How far a trace was read, and by what it is known again."""

    done: int = 0
    """Bytes of complete lines."""
    lines: int = 0
    """How many these are."""
    first: str = ""
    """Hash of the first line, or of its beginning; empty before there is one."""
    first_bytes: int = 0
    """How much of the first line was hashed."""
    last: str = ""
    """The same of the end of the last line."""
    last_bytes: int = 0
    inode: int = 0
    size: int = 0
    """Of the file when it was looked at, with a line that was being written."""
    mtime_ns: int = 0
    ctime_ns: int = 0


def save(path: Path, ends: Ends, rows: Rows) -> None:
    """Put an index in the place of what is there. Where it cannot be written, it is not: that costs only time."""
    content = _packed(ends, rows)
    temporary = temporary_name(path.with_name(f"{path.name}.{secrets.token_hex(8)}"))  # several may write at once
    try:
        with temporary.open("xb") as file:
            file.write(content)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()


def load(path: Path) -> tuple[Ends, Rows] | None:
    """What an index says; None where there is none that is whole."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for its other end
            return None
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            checksum, content = file.read(_NUMBER), file.read()
    except OSError:
        return None
    if zlib.crc32(content) != int.from_bytes(checksum, "little"):
        return None
    try:
        return _unpacked(memoryview(content))
    except (ValueError, LookupError, TypeError):
        return None


def _packed(ends: Ends, rows: Rows) -> bytes:
    columns = [bytes(getattr(rows, name)) for name in _COLUMNS]
    case_ids, trials = zip(*map(pair_of, rows.keys), strict=True)
    keys = json_bytes({"case_ids": case_ids, "trials": trials})
    head = json_bytes({**_KNOWN_BY, "ends": asdict(ends), "sizes": [*map(len, columns), len(keys)]})
    content = b"".join([len(head).to_bytes(_NUMBER, "little"), head, *columns, keys])
    return b"".join([_MAGIC, zlib.crc32(content).to_bytes(_NUMBER, "little"), content])


def _unpacked(content: memoryview) -> tuple[Ends, Rows] | None:
    begin = _NUMBER + int.from_bytes(content[:_NUMBER], "little")
    head: dict[str, Any] = json.loads(bytes(content[_NUMBER:begin]))
    if any(head[name] != known for name, known in _KNOWN_BY.items()):
        return None
    parts: list[memoryview] = []
    for size in head["sizes"]:
        parts.append(content[begin : begin + size])
        begin += size
    rows = Rows()
    for name, part in zip(_COLUMNS, parts, strict=False):
        column: array[Any] | bytearray = getattr(rows, name)
        if isinstance(column, bytearray):
            column.extend(part)
        else:
            column.frombytes(part)
    keys = json.loads(bytes(parts[-1]))
    rows.keys.extend(map(key_of, keys["case_ids"], keys["trials"]))
    sizes = {len(keys["trials"]), len(keys["case_ids"]), *(len(getattr(rows, name)) for name in _COLUMNS)}
    whole = len(sizes) == 1
    return (Ends(**head["ends"]), rows) if whole else None
