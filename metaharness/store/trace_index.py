"""An index of one trace: which case lies where, how it ended, what differs from another iteration.

    index = store.trace_index(4)
    while not index.update(seconds=1.0): ...        reads what was added since; stops in time and goes on where it was
    page = index.rows(Filter(failures=True, best=1.0), limit=20)
    index.trace(page.rows[0])                       reads that one line

It is derived: whatever becomes of its file, it is read anew from the trace. It takes no lock, and writes that file
alone, where it may; a trace may grow meanwhile. Call one index from one thread. Not guarded: a trace that was
rewritten between its first and its last indexed line, is larger than before, and lies in the same inode.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from metaharness.errors import StoreError
from metaharness.records import CaseTrace
from metaharness.store.encoding import scrub
from metaharness.store.files import parse, store_errors
from metaharness.store.trace_file import Ends, load, save
from metaharness.store.trace_rows import EVERY, Difference, Filter, Rows, TraceLine, TraceRow, key_of, page_of

INDEX = ".eval_trace.index"
SAVED_FROM = 1 << 20
"""Bytes of a trace; less than that is read anew sooner than a file is written for it."""
_HASHED = 1 << 12
_TELL = 1 << 20
"""Bytes between two calls of `progress` and `cancelled`."""

Progress = Callable[[int, int], None]
"""Given the bytes that are indexed, and all there are."""


@dataclass(frozen=True)
class RowPage:
    """Some of the rows that were asked for."""

    rows: tuple[TraceRow, ...]
    total: int
    """How many there are on all pages."""


@dataclass(frozen=True)
class DifferencePage:
    """Some of the differences that were asked for."""

    differences: tuple[Difference, ...]
    total: int
    """How many there are on all pages."""


class TraceIndex:
    """What is known of one trace; empty before the first `update`."""

    def __init__(self, iteration: int, path: Path) -> None:
        self.iteration = iteration
        self.path = path
        """The trace."""
        self._rows = Rows()
        self._ends = Ends()
        self._saved = 0

    # --- keeping up -------------------------------------------------------------------------------------------------

    def update(
        self,
        *,
        seconds: float | None = None,
        cancelled: Callable[[], bool] | None = None,
        progress: Progress | None = None,
    ) -> bool:
        """Take in what was added to the trace since the last call. An unterminated last line is left for later.

        Args:
            seconds: Stop after so long; at least one line is taken in. None: go on to the end.
            cancelled: Asked now and then; True stops.
            progress: Told now and then how far it is.

        Returns:
            Whether everything is in that was there when it began. If not, the next call goes on from here.

        Raises:
            CorruptRecordError: A line is damaged; what stands before it is in.
            StoreError: The trace cannot be read.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        with store_errors("read", self.path):
            try:
                file = self.path.open("rb")
            except FileNotFoundError:
                self._forget()
                return True
        with file:
            with store_errors("read", self.path):
                size = self._look(file)
            try:
                return self._take_in(file, size, deadline, cancelled, progress)
            finally:
                self._save()

    @property
    def progress(self) -> tuple[int, int]:
        """The bytes that are indexed, and those that were there at the last `update`."""
        return self._ends.done, self._ends.size

    def _look(self, file: BinaryIO) -> int:
        """Make sure that what is known is of this file, and begin anew where it is not. Returns its size."""
        found = os.fstat(file.fileno())
        if not _is_of(self._ends, file, found):
            self._forget()
        if self._ends.done == 0 and found.st_size >= SAVED_FROM:
            stored = load(self.path.with_name(INDEX))
            if stored is not None and _is_of(stored[0], file, found):
                self._ends, self._rows = stored
                self._saved = self._ends.done
        self._ends = replace(
            self._ends,
            inode=found.st_ino,
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            ctime_ns=found.st_ctime_ns,
        )
        return found.st_size

    def _take_in(
        self,
        file: BinaryIO,
        size: int,
        deadline: float | None,
        cancelled: Callable[[], bool] | None,
        progress: Progress | None,
    ) -> bool:
        begin = told = done = self._ends.done
        lines, first, last = self._ends.lines, b"", b""
        try:
            for line in self._lines_from(file, done, size):
                if done > begin and deadline is not None and time.monotonic() >= deadline:
                    return False
                if done - told >= _TELL:
                    told = done
                    if progress is not None:
                        progress(done, size)
                    if cancelled is not None and cancelled():
                        return False
                self._rows.put(parse(TraceLine, line, self.path, lines + 1), lines + 1, done, len(line))
                first, last = first or line, line
                done, lines = done + len(line), lines + 1
        finally:
            self._ends = _moved(self._ends, done, lines, first if begin == 0 else b"", last)
        if progress is not None:
            progress(done, size)
        return True

    def _lines_from(self, file: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
        """The complete lines that begin before `end`. What the caller does between them maps its own errors."""
        with store_errors("read", self.path):
            file.seek(begin)
            while begin < end and (line := file.readline()).endswith(b"\n"):
                begin += len(line)
                yield line

    def _save(self) -> None:
        """Not for every line that is added: only for so many that to read them again would take a while."""
        done = self._ends.done
        if done - self._saved >= max(SAVED_FROM, self._saved // 16):
            save(self.path.with_name(INDEX), self._ends, self._rows)
            self._saved = done  # also where it could not be written: nobody tries that for every line

    def _forget(self) -> None:
        self._rows, self._ends, self._saved = Rows(), Ends(), 0

    # --- asking -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of different cases and trials."""
        return len(self._rows)

    @property
    def lines(self) -> int:
        """How many lines are indexed; more than rows where a case was attempted again."""
        return self._ends.lines

    def counts(self) -> dict[str, int]:
        """How many rows have each status; those that none has are left out."""
        return self._rows.counts()

    def row(self, case_id: str, trial: int) -> TraceRow | None:
        """The row of a case and trial, or None."""
        place = self._rows.places.get(key_of(scrub(case_id), trial))
        return None if place is None else self._rows.row(place)

    def rows(self, wanted: Filter = EVERY, *, offset: int = 0, limit: int | None = None) -> RowPage:
        """The rows that a filter lets through, in the order in which their cases were first written.

        Args:
            wanted: The filter.
            offset: How many of them to leave out.
            limit: At most so many; None for all.

        Raises:
            UsageError: There is no such page.
        """
        places = self._rows.chosen(wanted)
        return RowPage(tuple(map(self._rows.row, page_of(places, offset, limit))), len(places))

    def differences(
        self, other: TraceIndex, wanted: Filter = EVERY, *, offset: int = 0, limit: int | None = None
    ) -> DifferencePage:
        """What ended otherwise here than there: in the order here, then what only the other one has.

        Args:
            other: The index of another iteration, up to date as well.
            wanted: Asked of the row here; of the row there where there is none here.
            offset: How many of them to leave out.
            limit: At most so many; None for all.

        Raises:
            UsageError: There is no such page.
        """
        places = self._rows.differences(other._rows, wanted)
        page = tuple(
            Difference(
                None if here is None else self._rows.row(here), None if there is None else other._rows.row(there)
            )
            for here, there in page_of(places, offset, limit)
        )
        return DifferencePage(page, len(places))

    # --- reading ----------------------------------------------------------------------------------------------------

    def trace(self, row: TraceRow) -> CaseTrace:
        """The whole attempt of a row: reads that one line.

        Raises:
            StoreError: The trace was rewritten since the row was indexed.
            CorruptRecordError: The line is damaged.
        """
        with closing(self._read([row])) as read:
            line = next(read)[1]
        trace = parse(CaseTrace, line, self.path, row.line)
        if (trace.case_id, trace.trial) != (row.case_id, row.trial):
            raise self._rewritten()
        return trace

    def read_lines(
        self, wanted: Filter = EVERY, *, differs_from: TraceIndex | None = None, start: int = 0
    ) -> Generator[tuple[int, TraceRow, bytes], None, None]:
        """The lines of the rows that a filter lets through, as they lie there, one at a time, each with its place.

        Places are those of all rows, so the place of a row stays the same while the trace grows.

        Args:
            wanted: The filter.
            differs_from: Only rows that differ from those of this index; what only it has is left out.
            start: Begin at this place.
        """
        if differs_from is None:
            places: Sequence[int] = self._rows.chosen(wanted)
        else:
            found = self._rows.differences(differs_from._rows, wanted)
            places = [here for here, _ in found if here is not None]
        later = [place for place in places if place >= start]
        with closing(self._read(map(self._rows.row, later))) as read:
            for place, (row, line) in zip(later, read, strict=True):
                yield place, row, line

    def _read(self, rows: Iterable[TraceRow]) -> Generator[tuple[TraceRow, bytes], None, None]:
        with store_errors("read", self.path):
            file = self.path.open("rb")
        with file:
            for row in rows:
                with store_errors("read", self.path):
                    line = os.pread(file.fileno(), row.length, row.offset)
                if len(line) != row.length or not line.endswith(b"\n"):
                    raise self._rewritten()
                yield row, line

    def _rewritten(self) -> StoreError:
        return StoreError(f"{self.path} was rewritten while it was read", hint="ask again: it is then read anew")


def _is_of(ends: Ends, file: BinaryIO, found: os.stat_result) -> bool:
    """Whether this is the file that was indexed: as it was, or longer."""
    if not ends.lines:
        return True
    same = (found.st_size, found.st_mtime_ns, found.st_ctime_ns) == (ends.size, ends.mtime_ns, ends.ctime_ns)
    if found.st_ino != ends.inode or not (same or found.st_size > ends.size):
        return False
    descriptor = file.fileno()
    first = os.pread(descriptor, ends.first_bytes, 0)
    last = os.pread(descriptor, ends.last_bytes, ends.done - ends.last_bytes)
    return (_hash(first), _hash(last)) == (ends.first, ends.last)


def _moved(ends: Ends, done: int, lines: int, first: bytes, last: bytes) -> Ends:
    """The ends after more lines were read. They are taken from what was read, not from what lies there by now."""
    if first:
        ends = replace(ends, first=_hash(first[:_HASHED]), first_bytes=min(len(first), _HASHED))
    if last:
        ends = replace(ends, last=_hash(last[-_HASHED:]), last_bytes=min(len(last), _HASHED))
    return replace(ends, done=done, lines=lines)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
