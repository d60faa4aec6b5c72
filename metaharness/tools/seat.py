"""A proposer's place in a round of a search: the tools, over the run that the search itself records.

What an agent hands in with `write_harness` goes to the search, which submits and evaluates it like any other proposal;
`evaluate` waits for that. Everything else is the tools as they are over MCP, of this one run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import anyio

from metaharness.errors import UsageError
from metaharness.records import LEARN, Proposal
from metaharness.run import Round, Run
from metaharness.run.sessions import Session
from metaharness.scoring.scoreboard import Iteration
from metaharness.tools.catalogue import TOOLS, Tool
from metaharness.tools.desk import Desk, Settings
from metaharness.tools.recordings import Doing, Job, Opening
from metaharness.ungroup import ungrouped

Working = Callable[[Desk, Session], Awaitable[None]]
"""A proposer at work in one session: it calls the tools of the desk until it has done."""


@dataclass
class _Handed:
    proposal: Proposal
    taken: anyio.Event = field(default_factory=anyio.Event)
    iteration: Iteration | None = None


class Seat:
    """The one run of a round that goes on, as the tools know recordings."""

    def __init__(self, run: Run, round_: Round, session: Session) -> None:
        self._run = run
        self._path = run.store.path
        self._left = len(round_.open_slots)
        self._session = session
        self._jobs: dict[int, Job] = {}
        """The evaluations of its candidates, by their numbers."""
        self._told = run.listener
        self._send, self._receive = anyio.create_memory_object_stream[_Handed](1)

    def __enter__(self) -> Self:
        self._told, self._run.listener = self._run.listener, self._listen
        return self

    def __exit__(self, *_: object) -> None:
        self._run.listener = self._told
        self._send.close()
        self._receive.close()

    async def proposals(self) -> AsyncIterator[Proposal]:
        """What is handed in, one after another; whoever takes one has submitted it when asking for the next."""
        async for handed in self._receive:
            known = len(self._run.history)
            yield handed.proposal
            if len(self._run.history) > known:
                handed.iteration = one = self._run.history.iterations[-1]
                self._session.handed_in(one.number)
                if one.rejection is None:
                    self._jobs[one.number] = job = Job()
                    job.planned = self._run.pairs_per_candidate
            handed.taken.set()

    def close(self) -> None:
        """Nothing more is handed in."""
        self._send.close()

    # -- what the tools ask for ----------------------------------------------------------------------------------

    async def hand_in(self, path: Path, proposal: Proposal) -> Iteration:
        """Hand a candidate to the search.

        Raises:
            UsageError: The round takes no further one.
        """
        if self._left == 0:
            raise UsageError(
                "this round takes no further candidate", hint="evaluate what was handed in, report on it, and end"
            )
        self._left -= 1
        handed = _Handed(replace(proposal, session=self._session.name))
        await self._send.send(handed)
        await handed.taken.wait()
        if handed.iteration is None:
            raise UsageError("the search has ended", hint="end here")
        return handed.iteration

    async def begin(self, opening: Opening, doing: Doing) -> tuple[Run, Job]:
        """Refuse: this is the run."""
        raise UsageError("a search goes on, and this is its run", hint="call scoreboard")

    @asynccontextmanager
    async def recording(self, path: Path, *, in_turn: bool = False) -> AsyncIterator[Run]:
        """The run, which is open anyway."""
        yield self._run

    def job(self, path: Path) -> Job | None:
        """The evaluation of a candidate of this session that has not ended; None when all have."""
        return next((job for job in self._jobs.values() if not job.done.is_set()), None)

    async def work(self, path: Path, doing: Doing) -> Job:
        """The evaluations of this round go on by themselves: the one that has not ended, or one that has."""
        found = self.job(path)
        if found is None:
            found = Job()
            found.done.set()
        return found

    async def stop(self, path: Path) -> None:
        """Refuse: an evaluation is the search's."""
        raise UsageError("the search evaluates what was handed in; it cannot be stopped from here", hint="wait for it")

    def stop_all(self) -> None:
        """Nothing is recorded here that the search does not end itself."""

    # -- inside --------------------------------------------------------------------------------------------------

    def _listen(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._told(kind, fields)
        job = self._jobs.get(fields.get("iteration", -1))
        if job is None:
            return
        if kind == "case_ended" and fields["case_id"] != LEARN:
            job.ended += 1
        elif kind in ("scored", "rejected"):
            job.done.set()


async def seated(run: Run, round_: Round, session: Session, workspace: Path, work: Working) -> AsyncGenerator[Proposal]:
    """The proposals of one session in which an agent works with the tools, for a proposer's `propose`.

    Args:
        run: Open for recording.
        round_: The round.
        session: Recorded from here to its end.
        workspace: The folder that the tools may read candidates from.
        work: The agent at work. What it raises comes out of here, once what it had handed in is with the search.
    """
    failed: list[Exception] = []
    settings = Settings(
        root=run.store.path.parent, project=workspace, run=run.store.path.name, alone=True, session=session.name
    )

    async def working(seat: Seat) -> None:
        try:
            with ungrouped():
                async with Desk(settings, recordings=seat) as desk:
                    await work(desk, session)
        except Exception as error:  # noqa: BLE001 - whatever a proposer does is a fact about its round
            failed.append(error)
        finally:
            seat.close()

    with session, Seat(run, round_, session) as seat:
        async with anyio.create_task_group() as group:
            at_work = group.start_soon(working, seat)
            try:
                async for proposal in seat.proposals():
                    yield proposal
            finally:
                at_work.cancel()
        if failed:
            raise failed[0]


def seat_tools() -> tuple[Tool, ...]:
    """The tools that a proposer has: all but the one that begins a run."""
    return tuple(tool for tool in TOOLS if tool.name != "start_run")
