"""The shared cache: answers that an earlier run, or another case of this one, has paid for.

Nothing it does can fail a call: where its file cannot be used, that is told once and calls go to the model. Answers are
written by a thread of its own, so that no call waits for another process; they can be read here at once.

Not guarded: answers that were not yet written when the process is killed. The journal of a run has them.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from metaharness import variables
from metaharness.errors import CacheError
from metaharness.gateway import answers

VARIABLE = "METAHARNESS_CACHE"
"""Names another file than the one in the user's folder for such things."""
CLOSE_SECONDS = 10.0
"""How long closing waits for what is still to be written."""
BATCH = 256

_log = logging.getLogger(__name__)
_Failures = (sqlite3.Error, OSError, CacheError, Timeout)


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as it was journalled when it was paid for."""

    response: dict[str, Any]
    latency_ms: float


def default_path() -> Path:
    """The user's own cache: that of `METAHARNESS_CACHE`, or a file in the folder for caches of this platform."""
    if told := variables.get(VARIABLE):
        return Path(told).expanduser().absolute()
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():
        folder = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return folder / "metaharness" / answers.NAME


def open_shared(chosen: bool | str) -> SharedCache | None:
    """The cache that a configuration wants: True is the user's own, a text names a file; None where it wants none."""
    if isinstance(chosen, str):
        return SharedCache(Path(chosen).expanduser())
    return SharedCache(default_path()) if chosen else None


def look(path: Path) -> answers.Size | None:
    """How much a cache holds, without changing it; None where there is none.

    Raises:
        CacheError: It cannot be read, or is something else.
    """
    with _told("read", path):
        return answers.peek(path) if path.exists() else None


def empty(path: Path) -> None:
    """Forget every answer of a cache. Nothing is made where there is none.

    Raises:
        CacheError: It cannot be written, or is something else.
    """
    if path.exists():
        with _told("empty", path), closing(answers.open_answers(path, writing=True)) as connection:
            answers.clear(connection)


@contextmanager
def _told(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except CacheError:
        raise
    except _Failures as error:
        hint = f"check its permissions, delete it, or name another file in {VARIABLE}"
        raise CacheError(f"cannot {action} the shared cache {path}: {error}", hint=hint) from error


class SharedCache:
    """One process's view of the file. Opened at the first question; called from one thread."""

    def __init__(self, path: Path, *, limit: int = answers.LIMIT) -> None:
        """Name the file; nothing is opened yet.

        Args:
            path: The file.
            limit: Bytes of all entries together.
        """
        self.path = path
        self.off: str | None = None
        """Why it is not used any more; None while it is."""
        self._limit = limit
        self._reader: sqlite3.Connection | None = None
        self._queue: queue.SimpleQueue[tuple[bytes, Stored | None] | None] = queue.SimpleQueue()
        self._waiting: dict[bytes, Stored] = {}
        self._writer: threading.Thread | None = None

    def lookup(self, key: str) -> Stored | None:
        """The answer under a key (64 hexadecimal digits), or None."""
        raw = bytes.fromhex(key)
        if (waiting := self._waiting.get(raw)) is not None:
            return waiting
        if self.off is not None:
            return None
        try:
            if self._reader is None:
                self._reader = answers.open_answers(self.path)
            found = answers.read(self._reader, raw)
            stored = None if found is None else Stored(**json.loads(found))
        except (*_Failures, ValueError, TypeError) as error:
            self._fail(error)
            return None
        if stored is not None:
            self._send(raw, None)
        return stored

    def keep(self, key: str, stored: Stored) -> None:
        """Keep an answer. It is written soon, and here found at once."""
        if self.off is None:
            raw = bytes.fromhex(key)
            self._waiting[raw] = stored
            self._send(raw, stored)

    def close(self) -> None:
        """Write what is left, and close the file."""
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join(CLOSE_SECONDS)
            self._writer = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # -- inside --------------------------------------------------------------------------------------------------

    def _send(self, key: bytes, stored: Stored | None) -> None:
        if self._writer is None:
            # a daemon: a process that forgot to close still ends
            self._writer = threading.Thread(target=self._write, name="metaharness-cache", daemon=True)
            self._writer.start()
        self._queue.put((key, stored))

    def _write(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            connection = answers.open_answers(self.path, writing=True)
            for batch in self._batches():
                new = {key: json.dumps(asdict(one)).encode() for key, one in batch.items() if one is not None}
                used = [key for key, one in batch.items() if one is None]
                answers.write(connection, new, used, limit=self._limit)
                for key in new:
                    self._waiting.pop(key, None)
        except _Failures as error:
            self._fail(error)
        finally:
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()

    def _batches(self) -> Iterator[dict[bytes, Stored | None]]:
        """What has come since the last one, until it is closed. A key that is new and used is new."""
        closing = False
        while not closing:
            items = [self._queue.get()]
            with suppress(queue.Empty):
                while len(items) < BATCH:
                    items.append(self._queue.get_nowait())
            closing = None in items
            batch: dict[bytes, Stored | None] = {}
            for key, stored in filter(None, items):
                batch[key] = stored or batch.get(key)
            if batch:
                yield batch

    def _fail(self, error: Exception) -> None:
        """Use it no more in this process, and say so once."""
        if self.off is not None:
            return
        self.off = str(error) or type(error).__name__
        aside = ""
        if answers.is_damaged(error):
            try:
                answers.set_aside(self.path)
                aside = "; the damaged file was moved aside, and the next run begins a new one"
            except _Failures as failure:
                aside = f"; the damaged file could not be moved aside: {failure}"
        _log.warning(
            "the shared cache %s is not used from here on: %s%s. Every call goes to the model",
            self.path,
            self.off,
            aside,
        )
