"""The search: baselines first, then round after round of propose, submit, evaluate, judge."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from metaharness.errors import MetaharnessError, ModelFailure
from metaharness.loading import read_baselines
from metaharness.proposers import Proposer
from metaharness.records import Proposal
from metaharness.run import Round, Run
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import STOP, forget_stop, stop_asked
from metaharness.ungroup import ungrouped

Confirm = Callable[[], Awaitable[bool]]
LOOK_SECONDS = 0.25
"""How soon a file that asks for a stop is seen."""


async def search(run: Run, proposer: Proposer, *, confirm: Confirm | None = None) -> str:
    """Go on until the run says that it is over, or was stopped. Returns the reason.

    A file `STOP` in the run's directory stops it too; one that lies there at the start is removed.

    Args:
        run: Open for recording.
        proposer: Writes the candidates.
        confirm: Asked once, when the baselines have answered their smoke cases and nothing more; False stops the run
            there, and it can be resumed. None goes on.

    Raises:
        MetaharnessError: Something that no further round can mend: a refused key, an invalid baseline, a full disk.
    """
    forget_stop(run.store.path)
    with ungrouped():
        async with anyio.create_task_group() as beside:
            looking = beside.start_soon(_stopped_by_file, run)
            reason = await _rounds(run, proposer, confirm)
            looking.cancel()
    return reason


async def _stopped_by_file(run: Run) -> None:
    """Stop the run once somebody has left a file that asks for it."""
    while not stop_asked(run.store.path):  # noqa: ASYNC110 - another process leaves it, and tells nobody
        await anyio.sleep(LOOK_SECONDS)
    if not run.stopping:
        run.note("stop_asked", file=STOP)
        run.stop()


async def _rounds(run: Run, proposer: Proposer, confirm: Confirm | None) -> str:
    """Baselines first, then round after round."""
    await run.reopen()
    while (round_ := run.next_round()) is not None:
        with ungrouped():
            async with (
                anyio.create_task_group() as evaluations,
                aclosing(_proposals(run, proposer, round_, evaluations)) as coming,
            ):
                for iteration in round_.unfinished:
                    evaluations.start_soon(run.evaluate, iteration)
                waiting: list[Iteration] = []
                async for proposal in coming:
                    iteration = await run.submit(proposal)
                    if round_.number == 0 and confirm is not None:
                        waiting.append(iteration)
                    elif iteration.rejection is None:
                        evaluations.start_soon(run.evaluate, iteration)
                if waiting and await _confirmed(run, confirm):
                    for iteration in waiting:
                        evaluations.start_soon(run.evaluate, iteration)
        if not run.close_round(round_):
            break
    reason = "stopped" if run.stopping and run.unfinished else run.why_over() or "stopped"
    run.end(reason)
    return reason


async def _confirmed(run: Run, confirm: Confirm | None) -> bool:
    """Whether to go on; a run that is not to is stopped."""
    if not run.stopping and confirm is not None and not await confirm():
        run.stop()
    return not run.stopping


async def _proposals(run: Run, proposer: Proposer, round_: Round, tasks: TaskGroup) -> AsyncGenerator[Proposal, None]:
    """What is handed in for the round's open slots: baselines first, then what the proposer writes.

    Whoever takes one has submitted it when asking for the next. After the last one the proposer is waited for: it may
    still want to see what became of it, and report on it; whatever else it hands in is left.
    """
    if round_.number == 0:
        baselines = read_baselines(round_.domain)
        for slot in round_.open_slots:
            if not run.stopping:
                yield baselines[slot]
        return
    send, receive = anyio.create_memory_object_stream[tuple[Proposal, anyio.Event]](0)
    writing = tasks.start_soon(_write, run, proposer, round_, send)
    left = len(round_.open_slots)
    try:
        async for proposal, submitted in receive:
            if run.stopping or not left:
                return
            left -= 1
            yield proposal
            submitted.set()
    finally:
        writing.cancel()
        receive.close()


async def _write(
    run: Run, proposer: Proposer, round_: Round, hand_in: MemoryObjectSendStream[tuple[Proposal, anyio.Event]]
) -> None:
    """The proposer at work, in a task of its own. One that fails ends its round, not the run; a stop ends it."""
    with run.machinery.ends_at_stop(), hand_in:
        try:
            async with _ended(proposer.propose(round_)) as proposals:
                async for proposal in proposals:
                    submitted = anyio.Event()
                    await hand_in.send((_checked(proposal), submitted))
                    await submitted.wait()
        except MetaharnessError as error:
            if not isinstance(error, ModelFailure) or error.kind == "configuration":
                raise
            run.fail_proposer(error)
        except Exception as error:  # noqa: BLE001 - whatever a proposer does is a fact about this round
            run.fail_proposer(error)


def _checked(proposal: object) -> Proposal:
    if not isinstance(proposal, Proposal):
        raise TypeError(f"it handed in a {type(proposal).__name__}, not a Proposal")
    return proposal


@asynccontextmanager
async def _ended(proposals: AsyncIterator[Proposal]) -> AsyncIterator[AsyncIterator[Proposal]]:
    """Proposals of which no more are wanted after the block: a generator ends, with all that it had begun."""
    try:
        yield proposals
    finally:
        close = getattr(proposals, "aclose", None)
        if close is not None:
            await close()
