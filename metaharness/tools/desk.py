"""Where an agent works: the runs under one root, which of them it means, and what it has read."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio

from metaharness.configuration import AGENT, Shown
from metaharness.errors import MetaharnessError, StoreError, UsageError
from metaharness.history import History
from metaharness.holdout import read_opening
from metaharness.run.bounds import bound_states, state_line
from metaharness.run.recording import config_now
from metaharness.run.summaries import proposed, read_ledger, run_status
from metaharness.store import RunStore, TraceIndex, find_run, last_change, list_runs, may_begin
from metaharness.tools.recordings import Recordings, Writing

_log = logging.getLogger(__name__)
T = TypeVar("T")

LEVELS: Mapping[Shown, int] = {"scores": 0, "scores+summaries": 1, "full": 2}
"""How much of the history each level shows, the least first."""
RUNS = 4
"""Runs of which what was read stays in memory."""
INDEXES = 4
"""Traces of which the rows do; some ten megabytes each where there are 100,000 cases."""


@dataclass(frozen=True)
class Settings:
    """What a person decides when the tools are offered; no tool can change it."""

    root: Path
    """The folder of all runs."""
    project: Path
    """The folder that candidates and domains may be read from."""
    run: str | None = None
    """The run that is meant where a call names none; None: the only open one."""
    alone: bool = False
    """Whether no other run may be named: `run` is then the only one there is."""
    session: str = ""
    """The session of the proposer that works here, where the search goes on in this process."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the `RunConfig` of runs that `start_run` begins: models, budget, sandbox, and so on. Without `domain` a
    call names one."""


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    desk: Desk
    tool: str
    progress: Callable[[float, float | None, str], Awaitable[None]]
    """Told how far it is: done, of how many (None: not known), in words."""

    def seen(self, path: Path, what: str | Path, text: str) -> str:
        """The text, which is recorded as read: of a file of the run, or of what was made of several."""
        name = what if isinstance(what, str) else what.relative_to(path).as_posix()
        self.desk.note_read(path, name, len(text.encode("utf-8", "replace")), self.tool)
        return text


class Known:
    """What is recorded of a run at one moment, and what takes long to read of it."""

    def __init__(self, history: History) -> None:
        self.history = history

    @cached_property
    def status(self) -> str:
        """Why it ended the last time, or that it has not."""
        return run_status(self.history)

    @cached_property
    def budget(self) -> list[str]:
        """A line per bound, and how many candidates were handed in."""
        config = config_now(self.history.store)
        made = proposed(self.history)
        states = [state_line(state) for state in bound_states(read_ledger(self.history))]
        return [f"candidates: {made} of {config.iterations} handed in", *states]


class Desk:
    """The runs under one root, as the tools reach them. An async context manager."""

    def __init__(self, settings: Settings, *, recordings: Writing | None = None) -> None:
        """Open it over the runs of a root.

        Args:
            settings: What a person has decided.
            recordings: How runs are written to; None opens and records them here.
        """
        self.settings = settings
        self.session = secrets.token_hex(4)
        """Tells the reads of this desk from those of others."""
        self._lock = threading.RLock()  # what is known of a run is read in a thread, and from the event loop
        self._runs: dict[Path, tuple[tuple[int, int], Known]] = {}
        self._indexes: dict[tuple[Path, int], TraceIndex] = {}
        self._reads: dict[Path, list[dict[str, Any]]] = {}
        self._group = anyio.create_task_group()
        self._reading = anyio.CapacityLimiter(1)
        self.recordings: Writing = recordings or Recordings(self._group)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Drop what is in the air: everything that has ended is written, and the next evaluation goes on from there."""
        self.recordings.stop_all()
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(kind, error, traceback)

    async def in_thread(self, doing: Callable[[], T]) -> T:
        """What reads files, off the event loop; one at a time, as they share what is known of a run."""
        return await anyio.to_thread.run_sync(doing, limiter=self._reading)

    @asynccontextmanager
    async def beginning(self) -> AsyncIterator[None]:
        """For whoever looks for the open run of a domain, and begins one where there is none: one server at a time."""
        while (give_back := may_begin(self.settings.root)) is None:  # noqa: ASYNC110 - another process gives it back
            await anyio.sleep(0.05)
        try:
            yield
        finally:
            give_back()

    def path(self, run: str = "") -> Path:
        """The run that is meant.

        Raises:
            UsageError: There is none, or more than one may be meant; the hint lists them.
        """
        name = run or self.settings.run
        if self.settings.alone and run and run != self.settings.run:
            raise UsageError(f"there is no run {run!r:.100} here", hint="leave `run` out")
        if name:
            return self._inside(find_run(self.settings.root, name))
        runs = list_runs(self.settings.root)
        opened = [path for path in runs if self.is_open(path)]
        if len(opened) == 1:
            return opened[0]
        if not runs:
            raise UsageError(f"there is no run in {self.settings.root}", hint="call start_run")
        if not opened:
            raise UsageError(
                "every run here is finished", hint=f"name one with `run`: {_named(runs)}; or call start_run"
            )
        raise UsageError(f"{len(opened)} runs are open", hint=f"name one with `run`: {_named(opened)}")

    def _inside(self, path: Path) -> Path:
        if path.resolve().parent != self.settings.root.resolve():
            raise UsageError(f"{path.name} is not in {self.settings.root}", hint=_named(list_runs(self.settings.root)))
        return path

    def history(self, path: Path) -> History:
        """What is recorded of a run; read anew where something was recorded since the last time."""
        return self.known(path).history

    def known(self, path: Path) -> Known:
        """The same, with what follows from it."""
        with self._lock:
            stamp = last_change(path)
            known = self._runs.pop(path, None)
            if known is None or known[0] != stamp:
                history = History(RunStore.open(path, record=False))
                known = (stamp, Known(history.seen_by(self.settings.session) if self.settings.alone else history))
            self._runs[path] = known
            while len(self._runs) > RUNS:
                del self._runs[next(iter(self._runs))]
            return known[1]

    def index(self, path: Path, number: int) -> TraceIndex:
        """The index of a trace; kept, so that only what was added is read."""
        key = (path, number)
        found = self._indexes.pop(key, None)
        self._indexes[key] = found = self.history(path).store.trace_index(number) if found is None else found
        while len(self._indexes) > INDEXES:
            del self._indexes[next(iter(self._indexes))]
        return found

    def shows(self, history: History, level: Shown) -> bool:
        """Whether a run lets whoever writes its candidates see so much of its history."""
        config = history.record.config
        return LEVELS[level] <= LEVELS[config.history] or not (self.settings.alone or config.proposer == AGENT)

    def require_shown(self, history: History, level: Shown, what: str) -> None:
        """Refuse what is more than a run shows.

        Raises:
            UsageError: It is more.
        """
        if not self.shows(history, level):
            raise UsageError(
                f"this run shows its proposer {history.record.config.history}; {what} are not part of that",
                hint="go on with scoreboard, list_iterations and read_harness",
            )

    def is_open(self, path: Path) -> bool:
        """Whether a run can be added to; not where it cannot be read."""
        try:
            return read_opening(RunStore.open(path, record=False)) is None
        except MetaharnessError:
            return False

    def note_read(self, path: Path, name: str, size: int, tool: str) -> None:
        """Record at once that a part of a run was read, and keep it for the candidate that follows."""
        try:
            row = self.history(path).store.append_read(path=name, size=size, tool=tool, session=self.session)
        except StoreError as error:  # a folder that may not be written can still be read
            _log.warning("a read is not recorded: %s", error.message)
            return
        with self._lock:
            self._reads.setdefault(path, []).append(row)

    def take_reads(self, path: Path) -> list[dict[str, Any]]:
        """What was read of a run since the last candidate, as far as this process knows."""
        with self._lock:
            return self._reads.pop(path, [])

    def give_back_reads(self, path: Path, reads: list[dict[str, Any]]) -> None:
        """They have led to no candidate after all."""
        with self._lock:
            self._reads[path] = reads + self._reads.get(path, [])


def _named(runs: list[Path]) -> str:
    newest = [path.name for path in reversed(runs[-10:])]
    return ", ".join(newest) + (f" and {len(runs) - 10} older" if len(runs) > 10 else "")
