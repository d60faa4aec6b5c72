"""`calls.jsonl`: every completed call, written before its answer reaches the worker.

In memory is one entry per call, from the key's 32 bytes to the offset of its line: about 150 bytes. Answers are read
back from the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from metaharness.errors import CorruptRecordError
from metaharness.records import Call, JournalEntry
from metaharness.store.access import Access
from metaharness.store.encoding import json_line, redacted
from metaharness.store.files import LogFile, parse, read_lines, store_errors

OnEntry = Callable[[JournalEntry], None]


class Journal:
    """The calls of one run. For each key the last line counts."""

    def __init__(self, path: Path, access: Access) -> None:
        self.path = path
        self._access = access
        self._log = LogFile(path)
        self._offsets: dict[bytes, int] | None = None

    def load(self, on_entry: OnEntry | None = None) -> None:
        """Read the whole journal once: build the index, and pass every entry to `on_entry` in order.

        A reader that never calls this gets it at its first `lookup`; what the owner appends afterwards is not seen.

        Raises:
            CorruptRecordError: A line is damaged.
        """
        offsets: dict[bytes, int] = {}
        offset = 0
        for number, line in read_lines(self.path):
            entry = parse(JournalEntry, line, self.path, number)
            offsets[self._stored_key(entry, number)] = offset
            offset += len(line)
            if on_entry is not None:
                on_entry(entry)
        self._offsets = offsets

    def __len__(self) -> int:
        """The number of different keys."""
        return len(self._index())

    def lookup(self, key: str) -> Call | None:
        """The completed call with this key (64 hexadecimal digits), or None."""
        offset = self._index().get(bytes.fromhex(key))
        if offset is None:
            return None
        with store_errors("read", self.path), self.path.open("rb") as file:
            file.seek(offset)
            line = file.readline()
        entry = parse(JournalEntry, line, self.path)
        if entry.key != key:
            raise CorruptRecordError(self.path, None, f"the line at byte {offset} is not the call that was read there")
        return entry.call

    def append(self, entry: JournalEntry) -> None:
        """Record a completed call. It is in the operating system when this returns."""
        self._access.require_recording()
        key = bytes.fromhex(entry.key)
        index = self._index()
        index[key] = self._log.append(json_line(redacted(entry, self._access.redact)))

    def entries(self) -> Iterator[JournalEntry]:
        """Every entry in the order of writing."""
        for number, line in read_lines(self.path):
            yield parse(JournalEntry, line, self.path, number)

    def close(self) -> None:
        """Give the descriptor back."""
        self._log.close()

    def _index(self) -> dict[bytes, int]:
        if self._offsets is None:
            self.load()
        assert self._offsets is not None
        return self._offsets

    def _stored_key(self, entry: JournalEntry, number: int) -> bytes:
        try:
            return bytes.fromhex(entry.key)
        except ValueError as error:
            raise CorruptRecordError(self.path, number, f"key {entry.key[:80]!r} is not a hash") from error
