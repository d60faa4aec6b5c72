"""A file of model answers that many processes share: SQLite, with a bound on its size.

An answer is kept under a key of 32 bytes with a checksum over both, so that a damaged one is never given out. The least
recently used go first. Each call here is one transaction; a process that is killed leaves whole ones.

Not guarded: whoever may write the file can put answers in it; a file system without working locks.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from metaharness.errors import CacheError

APPLICATION = 0x4D484341
"""Marks the file as ours, where `file` and SQLite look for it."""
VERSION = 1
"""Of the tables. A file with another one is left as it is."""
NAME = "answers.sqlite"
LIMIT = 1 << 30
"""Bytes of all entries together."""
ROW = 120
"""Bytes of an entry beside its answer: key, checksum, numbers, two indexes."""
KEPT_SHARE = 0.9
"""What is left of the bound when entries are put away: so that it is not done for every new one."""
READ_SECONDS = 0.5
"""How long a reader waits for a lock. Readers wait for nobody but whoever recovers the file after a crash."""
WRITE_SECONDS = 30.0

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE answers (
    key BLOB NOT NULL UNIQUE, used INTEGER NOT NULL, size INTEGER NOT NULL, checksum BLOB NOT NULL, answer BLOB NOT NULL
);
CREATE INDEX by_use ON answers (used);
CREATE TABLE state (tick INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO state VALUES (0, 0);
PRAGMA application_id = 0x4D484341;
PRAGMA user_version = 1;
COMMIT;
"""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True)
class Size:
    """How much a file holds."""

    entries: int
    bytes: int
    """Of all entries, as the bound counts them."""
    limit: int


def open_answers(path: Path, *, writing: bool = False) -> sqlite3.Connection:
    """A connection to the file, which is made where it is missing: for its user alone.

    A damaged file is moved aside first, to `NAME.damaged-N`, if it is or was one of answers.

    Args:
        path: The file.
        writing: Whether it may wait for other writers.

    Raises:
        CacheError: It is no file of answers of this version.
        OSError, sqlite3.Error: It cannot be opened or made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(f"{path}-lock", timeout=WRITE_SECONDS, mode=0o600, fallback_to_soft=False):
        path.touch(mode=0o600, exist_ok=True)
        try:
            return _connected(path, writing=writing)
        except sqlite3.DatabaseError as error:
            if not is_damaged(error):
                raise
            _check_was_ours(path)
            _move_aside(path)
            path.touch(mode=0o600)
            return _connected(path, writing=writing)


def is_damaged(error: BaseException) -> bool:
    """Whether an error says that the file itself is not sound."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.DatabaseError) and code is not None and code & 0xFF in _DAMAGED


def set_aside(path: Path) -> None:
    """Move a file aside that was found damaged, unless another process has just done so.

    Raises:
        OSError: It cannot be moved.
    """
    with FileLock(f"{path}-lock", timeout=WRITE_SECONDS, mode=0o600, fallback_to_soft=False):
        if not path.exists():
            return  # SQLite would make one, and others could read it
        try:
            with closing(_connected(path, writing=False)) as connection:
                sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
        except sqlite3.DatabaseError:
            sound = False
        if not sound:
            _move_aside(path)


def read(connection: sqlite3.Connection, key: bytes) -> bytes | None:
    """The answer under a key; None where there is none, or its checksum says that it is damaged."""
    row = connection.execute("SELECT checksum, answer FROM answers WHERE key = ?", (key,)).fetchone()
    return row[1] if row is not None and row[0] == _checksum(key, row[1]) else None


def write(
    connection: sqlite3.Connection, new: Mapping[bytes, bytes], used: Iterable[bytes] = (), *, limit: int = LIMIT
) -> None:
    """Keep answers, note which were used, and put the least recently used away where there are too many.

    Of two answers to the same question the first is kept, unless it is damaged.
    """
    with _transaction(connection):
        tick, size = connection.execute("SELECT tick, bytes FROM state").fetchone()
        for key in used:
            tick += 1
            connection.execute("UPDATE answers SET used = ? WHERE key = ?", (tick, key))
        for key, answer in new.items():
            tick += 1
            size += _put(connection, key, answer, tick)
            size -= _put_away(connection, size, limit)  # each time, so that the next ones take the room in the file
        connection.execute("UPDATE state SET tick = ?, bytes = ?", (tick, size))


def size(connection: sqlite3.Connection, *, limit: int = LIMIT) -> Size:
    """How much it holds."""
    entries = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
    return Size(entries, connection.execute("SELECT bytes FROM state").fetchone()[0], limit)


def clear(connection: sqlite3.Connection) -> None:
    """Forget every answer, and give the room back where nobody else is reading."""
    with _transaction(connection):
        connection.execute("DELETE FROM answers")
        connection.execute("UPDATE state SET bytes = 0")
    with suppress(sqlite3.OperationalError):  # the room is then used by the next answers
        connection.execute("VACUUM")


def peek(path: Path) -> Size:
    """How much a file holds, without changing or making anything.

    Raises:
        CacheError: It is no file of answers of this version.
        sqlite3.Error: It cannot be read, or there is none.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=READ_SECONDS)) as connection:
        _check_ours(connection, path)
        return size(connection)


# --- inside -----------------------------------------------------------------------------------------------------


def _connected(path: Path, *, writing: bool) -> sqlite3.Connection:
    seconds = WRITE_SECONDS if writing else READ_SECONDS
    connection = sqlite3.connect(path, timeout=seconds, isolation_level=None, check_same_thread=False)
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
        _check_ours(connection, path)
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise CacheError(f"{path} is a database of another program", hint="name another file in METAHARNESS_CACHE")
    if version != VERSION:
        raise CacheError(
            f"{path} is of version {version}, and this program knows version {VERSION}",
            hint="name another file in METAHARNESS_CACHE, or delete that one",
        )


def _check_was_ours(path: Path) -> None:
    """A file that SQLite cannot read may be anything that a person has named by mistake: that stays where it is."""
    with path.open("rb") as file:
        header = file.read(72)
    if path.name != NAME and header[68:72] != APPLICATION.to_bytes(4, "big"):
        raise CacheError(f"{path} is no database", hint="name another file in METAHARNESS_CACHE")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _put(connection: sqlite3.Connection, key: bytes, answer: bytes, tick: int) -> int:
    """Keep one answer. Returns by how many bytes the whole has grown."""
    row = connection.execute("SELECT checksum, answer, size FROM answers WHERE key = ?", (key,)).fetchone()
    if row is not None and row[0] == _checksum(key, row[1]):
        return 0
    grown = len(answer) + ROW
    connection.execute(
        "INSERT OR REPLACE INTO answers (key, used, size, checksum, answer) VALUES (?, ?, ?, ?, ?)",
        (key, tick, grown, _checksum(key, answer), answer),
    )
    return grown - (0 if row is None else int(row[2]))


def _put_away(connection: sqlite3.Connection, held: int, limit: int) -> int:
    """Delete the least recently used where there is too much. Returns how many bytes that were."""
    if held <= limit:
        return 0
    wanted, freed, last = held - int(limit * KEPT_SHARE), 0, -1
    with closing(connection.execute("SELECT used, size FROM answers ORDER BY used")) as oldest:
        for used, one in oldest:
            last, freed = used, freed + one
            if freed >= wanted:
                break
    connection.execute("DELETE FROM answers WHERE used <= ?", (last,))
    return freed


def _checksum(key: bytes, answer: bytes) -> bytes:
    return hashlib.blake2b(answer, key=key, digest_size=16).digest()


def _move_aside(path: Path) -> None:
    """Its journal goes with it: left behind, SQLite would take it for that of the next file."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
