"""The search: baselines first, then round after round of propose, submit, evaluate, judge."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import anyio

from metaharness.errors import MetaharnessError
from metaharness.loading import read_baselines
from metaharness.proposers import Proposer
from metaharness.records import Proposal
from metaharness.run import Round, Run
from metaharness.run.ungroup import ungrouped
from metaharness.scoring.scoreboard import Iteration

Confirm = Callable[[], Awaitable[bool]]


async def search(run: Run, proposer: Proposer, *, confirm: Confirm | None = None) -> str:
    """Go on until the run says that it is over, or was stopped. Returns the reason.

    Args:
        run: Open for recording.
        proposer: Writes the candidates.
        confirm: Asked once, when the baselines have answered their smoke cases and nothing more; False stops the run
            there, and it can be resumed. None goes on.

    Raises:
        MetaharnessError: Something that no further round can mend: a refused key, an invalid baseline, a full disk.
    """
    await run.reopen()
    while (round_ := run.next_round()) is not None:
        with ungrouped():
            async with anyio.create_task_group() as evaluations, aclosing(_proposals(run, proposer, round_)) as coming:
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


async def _proposals(run: Run, proposer: Proposer, round_: Round) -> AsyncGenerator[Proposal, None]:
    """What is handed in for the round's open slots: baselines first, then what the proposer writes."""
    if round_.number > 0:
        async with aclosing(_written(run, proposer, round_)) as written:
            async for proposal in written:
                yield proposal
        return
    baselines = read_baselines(round_.domain)
    for slot in round_.open_slots:
        if not run.stopping:
            yield baselines[slot]


async def _written(run: Run, proposer: Proposer, round_: Round) -> AsyncGenerator[Proposal, None]:
    """At most one proposal per open slot. A proposer that fails ends its round, not the run."""
    proposals: AsyncIterator[Proposal] | None = None
    left = len(round_.open_slots)
    try:
        while left and not run.stopping:
            try:
                proposals = proposals or proposer.propose(round_)
                proposal = _checked(await anext(proposals))
            except StopAsyncIteration:
                return
            except MetaharnessError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a proposer does is a fact about this round
                run.fail_proposer(error)
                return
            left -= 1
            yield proposal
    finally:
        close = getattr(proposals, "aclose", None)  # of a generator that had more to hand in
        if close is not None:
            await close()


def _checked(proposal: object) -> Proposal:
    if not isinstance(proposal, Proposal):
        raise TypeError(f"it handed in a {type(proposal).__name__}, not a Proposal")
    return proposal
