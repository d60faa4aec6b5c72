"""Candidates from outside the search: handed in by a person, another program or a coding agent, one round each."""

from __future__ import annotations

import anyio

from metaharness.errors import UsageError
from metaharness.loading import read_baselines
from metaharness.records import Proposal
from metaharness.run.facade import Run
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import command_on
from metaharness.ungroup import ungrouped


async def add(run: Run, proposal: Proposal) -> Iteration:
    """Make a candidate an iteration of a run: a round of its own, with ladder, score and verdict.

    Returns the iteration as it stands then; without a verdict when a stop came between: `resume` ends its round.

    Raises:
        UsageError: As `Run.hand_in`.
    """
    try:
        iteration = await run.hand_in(proposal)
        await end_round(run)
    finally:
        pause(run)
    return run.history.iteration(iteration.number)


async def end_round(run: Run) -> None:
    """Evaluate what the round in progress has left, baselines that were not handed in yet included; speak its verdicts.

    Nothing is done where no round is in progress. A stop may come between.

    Raises:
        DomainError: A baseline does not pass the ladder, or did not.
        UsageError: The round waits for candidates of a proposer of the run's own.
    """
    round_ = run.round_in_progress()
    if round_ is None:
        return
    if round_.number > 0 and round_.open_slots and not run.of_agent:
        raise UsageError(
            f"round {round_.number} of this run waits for its own proposer",
            hint=f"a person ends it: `{command_on(run.store.path, 'resume')}`",
        )
    baselines = read_baselines(round_.domain) if round_.number == 0 else []
    with ungrouped():
        async with anyio.create_task_group() as evaluations:
            for iteration in round_.unfinished:
                evaluations.start_soon(run.evaluate, iteration)
            for slot in round_.open_slots if baselines else ():
                if not run.stopping:
                    evaluations.start_soon(run.evaluate, await run.submit(baselines[slot]))
    run.close_round(round_)


def pause(run: Run) -> None:
    """Record that nothing more is done for now."""
    run.end((None if run.unfinished else run.why_over()) or "stopped")
