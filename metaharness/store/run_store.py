"""One open run directory: the only way to its files. Synchronous; call it from one thread."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from metaharness.configuration import RunRecord
from metaharness.errors import CorruptRecordError
from metaharness.records import Event, now
from metaharness.store.access import Access
from metaharness.store.encoding import Redact, json_line, json_page, map_text, needle
from metaharness.store.files import LogFile, append_shared, parse, read_lines, write_atomic
from metaharness.store.iterations import Iterations
from metaharness.store.journal import Journal, OnEntry
from metaharness.store.lock import RunLock
from metaharness.store.partials import Partials
from metaharness.store.repair import repair
from metaharness.store.runs import CONFIG, load_record, new_run_folder
from metaharness.store.sealed import Sealed
from metaharness.store.sessions import Sessions
from metaharness.store.transfers import Transfers

_GIVEN = frozenset({"number", "time"})


class RunStore(Iterations):
    """A run directory, opened by its owner (who holds the lock and may write) or by a reader.

    A reader never writes (but for the index of a trace, which is no record), takes no lock and may look while the owner
    records: it leaves out a line that is being written. Everything the owner appends is in the operating system when
    the call returns; `score.json`, `proposal.json` and the opening of the test split also survive a power loss.
    """

    def __init__(self, access: Access, record: RunRecord, lock: RunLock | None) -> None:
        super().__init__(access)
        self.path = access.path
        self.record = record
        self.journal = Journal(access.path / "calls.jsonl", access)
        self.sealed = Sealed(access)
        self.partials = Partials(access)
        self.transfers = Transfers(access)
        self.sessions = Sessions(access)
        self._lock = lock
        self._events = LogFile(access.path / "events.jsonl")
        self._reads = access.path / "reads.jsonl"
        self._summary = LogFile(access.path / "evolution_summary.jsonl")
        self._next_event = 0

    # --- opening and closing ---

    @classmethod
    def create(
        cls,
        root: Path,
        record_factory: Callable[[str], RunRecord],
        *,
        name: str | None = None,
        redact: Redact | None = None,
        first: Callable[[Self], None] | None = None,
    ) -> Self:
        """Make a new run directory and own it.

        Args:
            root: The folder of all runs.
            record_factory: Makes the content of `config.json` from the id of the run.
            name: The id; None for the current time. If it is taken, -2, -3, ... is added.
            redact: Applied to every string before it is written.
            first: Writes what lies in it from the start; before `config.json`, which makes it a run. None: nothing.

        Raises:
            UsageError: The name is not one.
            StoreError: The directory cannot be written.
        """
        path = new_run_folder(root, name)
        lock = RunLock(path)
        try:
            lock.acquire()
            try:
                record = record_factory(path.name)
                store = cls(Access(path, recording=True, redact=redact), record, lock)
                if first is not None:
                    first(store)
                write_atomic(path / CONFIG, json_page(record))
                store._take_over(None)
            except BaseException:
                lock.release()
                raise
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return store

    @classmethod
    def open(cls, path: Path, *, record: bool, redact: Redact | None = None, on_entry: OnEntry | None = None) -> Self:
        """Open a run directory.

        Args:
            path: The directory, as `find_run` returns it.
            record: True to own the run: takes the lock and puts right what a killed process left. False to read.
            redact: Applied to every string before it is written.
            on_entry: Given every entry of the journal in order, and then of that of the test, to rebuild what follows
                from them; only when recording.

        Raises:
            UsageError: It is not a run directory.
            NewerSchemaError: A newer version of this package made it.
            RunLockedError: Another process records it.
            CorruptRecordError: `config.json`, a proposal, the journal or the last event is damaged.
        """
        run = load_record(path)
        if not record:
            return cls(Access(path, recording=False), run, None)
        lock = RunLock(path)
        lock.acquire()
        try:
            store = cls(Access(path, recording=True, redact=redact), run, lock)
            store._take_over(on_entry)
        except BaseException:
            lock.release()
            raise
        return store

    def close(self) -> None:
        """Give the lock back. What was written stays readable through this object; a second call does nothing."""
        super().close()
        self.sealed.close()
        self.partials.close()
        self.journal.close()
        for log in (self._events, self._summary):
            log.close()
        owned = self._access.recording and self._access.pid == os.getpid()
        self._access.recording = False
        if owned and self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- events ---

    def event(self, kind: str, actor: str = "engine", **fields: Any) -> Event:
        """Record one fact. It gets the next number and the time, so neither can be a field of it."""
        self._access.require_recording()
        if not _GIVEN.isdisjoint(fields):
            raise TypeError(f"an event gets its number and time here; call the fields something else: {sorted(fields)}")
        row = {"number": self._next_event, "time": now(), "kind": kind, "actor": actor, **self._redacted(fields)}
        self._events.append(json_line(row))
        self._next_event += 1
        return Event.model_construct(**row)

    def events(self, kind: str | None = None) -> Iterator[Event]:
        """The recorded facts in order.

        Args:
            kind: Only facts of this kind; other lines are not parsed, so reading a few among many is cheap.
        """
        path = self._events.path
        for number, line in read_lines(path, b"" if kind is None else needle(kind)):
            event = parse(Event, line, path, number)
            if kind is None or event.kind == kind:
                yield event

    # --- what proposers read ---

    def append_read(self, *, path: str, size: int, tool: str, session: str) -> dict[str, Any]:
        """Record that a proposer read something. Returns the line, for `Proposal.reads`.

        Needs no lock: several processes may read one run, each for a proposer of its own.

        Args:
            path: What was read, relative to the run or as the tool names it.
            size: How many bytes the proposer was given.
            tool: The tool it used.
            session: Which proposer session.
        """
        row = {"time": now(), **self._redacted({"path": path, "bytes": size, "tool": tool, "session": session})}
        append_shared(self._reads, json_line(row))
        return row

    def reads(self) -> Iterator[dict[str, Any]]:
        """What proposers read, in order."""
        return _rows(self._reads)

    def iteration_reads(self, number: int) -> Iterator[dict[str, Any]]:
        """The reads that led to a candidate."""
        return _rows(self._readable(number) / "filesystem_reads.jsonl")

    # --- derived files: for people and grep; no code reads them back ---

    def append_summary(self, row: Mapping[str, Any]) -> None:
        """Add the line of one candidate to `evolution_summary.jsonl`."""
        self._access.require_recording()
        self._summary.append(json_line(row))

    def rewrite_summary(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace `evolution_summary.jsonl` as a whole."""
        self._access.require_recording()
        write_atomic(self._summary.path, b"".join(json_line(row) for row in rows))
        self._summary.forget()

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`: status, best candidate, frontier, test."""
        self._access.require_recording()
        write_atomic(self.path / "summary.json", json_page(summary))

    def write_cost(self, cost: Mapping[str, Any]) -> None:
        """Write `cost.json`: totals by role and model."""
        self._access.require_recording()
        write_atomic(self.path / "cost.json", json_page(cost))

    # --- inside ---

    def _take_over(self, on_entry: OnEntry | None) -> None:
        facts = repair(self.path)
        self._load_iterations()
        self.journal.load(on_entry)
        self.sealed.journal.load(on_entry)
        self._next_event = self._number_after_last_event()
        for fact in facts:
            self.event("torn", **fact)

    def _number_after_last_event(self) -> int:
        last: tuple[int, bytes] | None = None
        for last in read_lines(self._events.path):  # noqa: B007 - the last one is wanted
            pass
        if last is None:
            return 0
        return parse(Event, last[1], self._events.path, last[0]).number + 1

    def _redacted(self, fields: dict[str, Any]) -> dict[str, Any]:
        if self._access.redact is None:
            return fields
        return {name: map_text(value, self._access.redact) for name, value in fields.items()}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorruptRecordError(path, number, str(error)) from error
        if not isinstance(row, dict):
            raise CorruptRecordError(path, number, "not an object")
        yield row
