"""Runs that this process records, each open for as long as somebody needs it, and the evaluations that go on in them.

A run belongs to one process while it is recorded, so it is opened at the first write and given back when nothing is
under way. A run and all that belongs to it live in one task; whoever needs it waits for that task.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from metaharness.errors import MetaharnessError, RunLockedError, UsageError
from metaharness.history import History
from metaharness.records import LEARN, Proposal
from metaharness.run import Run
from metaharness.run.outside import pause
from metaharness.scoring.scoreboard import Iteration
from metaharness.ungroup import ungrouped

_log = logging.getLogger(__name__)

Opening = Callable[[], Run]
"""Opens or begins a run for recording."""
Doing = Callable[[Run], Awaitable[None]]


class Recording:
    """One run that is recorded here."""

    def __init__(self, opening: Opening, known: Callable[[Path, Recording], None]) -> None:
        self._opening = opening
        self._known = known
        self._idle = anyio.Event()
        self._opened = anyio.Event()
        self.users = 0
        self.turn = anyio.Lock()
        """Held by whoever hands in or evaluates: a round is one's at a time."""
        self.closed = anyio.Event()
        self.run: Run | None = None
        self.job: Job | None = None
        self.error: MetaharnessError | None = None

    async def keep(self) -> None:
        """Open it, and close it when nobody needs it any more."""
        try:
            opened = self._opening()
            self._known(opened.store.path, self)
            async with opened as run:
                self.run = run
                run.listener = self._listen
                self._opened.set()
                try:
                    await self._idle.wait()
                finally:
                    run.stop()
                    pause(run)
        except RunLockedError as error:  # whoever records it is the person's: to be waited for, not to be ended
            hint = "wait and call again; the tools that read work meanwhile"
            self.error = RunLockedError(error.message, hint=hint)
        except MetaharnessError as error:
            self.error = error
        finally:
            self.run = None
            self._opened.set()
            self.closed.set()

    async def opened(self) -> Run:
        """The run, once it is open.

        Raises:
            MetaharnessError: It cannot be opened.
        """
        await self._opened.wait()
        if self.run is None:
            raise self.error or MetaharnessError("the run was closed while it was waited for", hint="call it again")
        return self.run

    def leave(self) -> None:
        """One user less; the last one closes it."""
        self.users -= 1
        if self.users == 0:
            self._idle.set()

    def _listen(self, kind: str, fields: Mapping[str, Any]) -> None:
        if self.job is not None:
            self.job.listen(kind, fields)


class Job:
    """Evaluations that go on in the background, whoever waits for them."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.done = anyio.Event()
        self.error: MetaharnessError | None = None
        self.numbers: set[int] = set()
        """The iterations that it has begun with."""
        self.ended = 0
        """Cases that have ended since it began."""
        self.planned = 0
        """Cases that were to be evaluated, of the candidates it has begun with."""
        self.stopped = False

    def listen(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take in an event of the run."""
        if kind == "evaluating":
            self.numbers.add(fields["iteration"])
            self.planned += fields["cases"]
        elif kind == "case_ended" and fields["case_id"] != LEARN:
            self.ended += 1

    @property
    def rate(self) -> float:
        """Cases per second."""
        return self.ended / max(time.monotonic() - self.began, 1e-9)


class Writing(Protocol):
    """How the tools write to runs: by opening them here, or through the search that records one."""

    def job(self, path: Path) -> Job | None:
        """What goes on in a run; None when nothing does."""
        ...

    def recording(self, path: Path, *, in_turn: bool = False) -> AbstractAsyncContextManager[Run]:
        """A run, open for recording as long as the block lasts."""
        ...

    async def hand_in(self, path: Path, proposal: Proposal) -> Iteration:
        """Record a candidate and send it up the ladder."""
        ...

    async def begin(self, opening: Opening, doing: Doing) -> tuple[Run, Job]:
        """Begin a run, and a job in it."""
        ...

    async def work(self, path: Path, doing: Doing) -> Job:
        """Begin a job in a run, or pick up the one that goes on there."""
        ...

    async def stop(self, path: Path) -> None:
        """Start nothing new in a run; what is in the air ends and is written."""
        ...

    def stop_all(self) -> None:
        """Start nothing new anywhere."""
        ...


class Recordings:
    """All runs that this process records."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._open: dict[Path, Recording] = {}

    def job(self, path: Path) -> Job | None:
        """What goes on in a run; None when nothing does."""
        found = self._open.get(path)
        return None if found is None or found.job is None or found.job.done.is_set() else found.job

    @asynccontextmanager
    async def recording(self, path: Path, *, in_turn: bool = False) -> AsyncIterator[Run]:
        """A run, open for recording as long as the block lasts.

        Args:
            path: The run.
            in_turn: Wait until nobody hands in or evaluates, and keep others from it.

        Raises:
            MetaharnessError: It cannot be opened: another process records it, it is damaged, its domain has changed.
        """
        recording = await self._enter(path, lambda: Run.open(path))
        try:
            run = await recording.opened()
            async with recording.turn if in_turn else nullcontext():
                yield run
        finally:
            recording.leave()

    async def hand_in(self, path: Path, proposal: Proposal) -> Iteration:
        """Record a candidate and send it up the ladder.

        Raises:
            MetaharnessError: An evaluation goes on or has to come first, the run cannot be opened or takes no further
                candidate.
        """
        if self.job(path) is not None:
            raise UsageError("an evaluation goes on, so none can be handed in", hint="call evaluate to wait for it")
        async with self.recording(path, in_turn=True) as run:
            _require_evaluated(run.history)
            return await run.hand_in(proposal)

    async def begin(self, opening: Opening, doing: Doing) -> tuple[Run, Job]:
        """Begin a run, and a job in it.

        Raises:
            MetaharnessError: It cannot be begun.
        """
        recording = self._started(opening)
        try:
            run = await recording.opened()
        except BaseException:
            recording.leave()
            raise
        return run, self._job(recording, doing)

    async def work(self, path: Path, doing: Doing) -> Job:
        """Begin a job in a run; the one that goes on there already, if there is one.

        Raises:
            MetaharnessError: The run cannot be opened.
        """
        recording = await self._enter(path, lambda: Run.open(path))
        try:
            await recording.opened()
            going = self.job(path)
            if going is not None:
                recording.leave()
                return going
        except BaseException:
            recording.leave()
            raise
        return self._job(recording, doing)

    async def stop(self, path: Path) -> None:
        """Start nothing new in a run; what is in the air ends and is written. Returns when that is so."""
        recording = self._open.get(path)
        if recording is None or recording.run is None:
            return
        if recording.job is not None:
            recording.job.stopped = True
        recording.run.stop()
        await recording.closed.wait()

    def stop_all(self) -> None:
        """Start nothing new anywhere."""
        for recording in self._open.values():
            if recording.run is not None:
                recording.run.stop()

    async def _enter(self, path: Path, opening: Opening) -> Recording:
        while (found := self._open.get(path)) is not None:
            if found.users:
                found.users += 1
                return found
            await found.closed.wait()
            if self._open.get(path) is found:
                del self._open[path]
        self._open[path] = found = self._started(opening)
        return found

    def _started(self, opening: Opening) -> Recording:
        recording = Recording(opening, self._open.__setitem__)
        recording.users = 1
        self._group.start_soon(recording.keep)
        return recording

    def _job(self, recording: Recording, doing: Doing) -> Job:
        """A job is a user of the recording until it has ended."""
        recording.job = job = Job()
        self._group.start_soon(self._do, recording, job, doing)
        return job

    async def _do(self, recording: Recording, job: Job, doing: Doing) -> None:
        try:
            with ungrouped():
                run = await recording.opened()
                async with recording.turn:
                    await doing(run)
        except MetaharnessError as error:
            job.error = error
        except Exception as error:  # noqa: BLE001 - our own mistake in one evaluation; the server and other runs go on
            _log.exception("an evaluation failed")
            job.error = MetaharnessError(
                f"the evaluation failed, which is a mistake of metaharness: {type(error).__name__}: {error}",
                hint="what has ended is kept; the server's stderr has the traceback; evaluate goes on from there",
            )
        finally:
            recording.leave()
            with anyio.CancelScope(shield=True):
                await recording.closed.wait() if recording.users == 0 else None
            job.done.set()


def _require_evaluated(history: History) -> None:
    last = history.iterations[-1] if len(history) else None
    if last is None or last.proposal.round >= len(history.closed_rounds):
        what = "the baselines are" if not history.closed_rounds or last is None else f"iteration {last.number:03d} is"
        raise UsageError(f"{what} not evaluated yet, so none can be handed in", hint="call evaluate first")
