"""The search: baselines first, then round after round of propose, submit, evaluate, judge."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from metaharness.errors import MetaharnessError
from metaharness.proposers import Proposer
from metaharness.proposers.scripted import read_baselines
from metaharness.records import Proposal
from metaharness.run import Round, Run


async def search(run: Run, proposer: Proposer) -> str:
    """Go on until the run says that it is over, or was stopped. Returns the reason.

    Raises:
        MetaharnessError: Something that no further round can mend: a refused key, an invalid baseline, a full disk.
    """
    await run.reopen()
    while (round_ := run.next_round()) is not None:
        try:
            async with anyio.create_task_group() as evaluations:
                for iteration in round_.unfinished:
                    evaluations.start_soon(run.evaluate, iteration)
                async for proposal in _proposals(run, proposer, round_):
                    iteration = await run.submit(proposal)
                    if iteration.rejection is None:
                        evaluations.start_soon(run.evaluate, iteration)
        except BaseExceptionGroup as group:
            raise _first(group) from group
        if not run.close_round(round_):
            break
    reason = "stopped" if run.stopping else run.why_over() or "stopped"
    run.end(reason)
    return reason


async def _proposals(run: Run, proposer: Proposer, round_: Round) -> AsyncIterator[Proposal]:
    """The proposals for the round's open slots. A proposer that fails ends its round, not the run."""
    if round_.number == 0:
        baselines = read_baselines(round_.domain)
        for slot in round_.open_slots:
            yield baselines[slot]
        return
    if not round_.open_slots:
        return
    left = len(round_.open_slots)
    proposals = proposer.propose(round_)
    while left and not run.stopping:
        try:
            proposal = await anext(proposals)
        except StopAsyncIteration:
            return
        except MetaharnessError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a proposer does is a fact about this round
            run.fail_proposer(error)
            return
        left -= 1
        yield proposal


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to report of several that came together: one of ours where there is one."""
    ours, others = group.split(MetaharnessError)
    chosen: BaseException = ours or others or group
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen
