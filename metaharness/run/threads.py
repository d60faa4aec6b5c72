"""`Run.evaluate_cases` for code that is not async: other threads of a program that searches by itself, or all of it.

    async with cases_from_threads(run) as evaluate_cases:            beside the event loop that records the run
        await anyio.to_thread.run_sync(their_search, evaluate_cases)
    with open_cases(Path("runs/first")) as evaluate_cases:           without one: the run is recorded in a thread
        found = evaluate_cases(source, ["search-0001", "search-0002"])

Another process takes its turn: one process records a run, so `open_cases` waits until the one before has ended.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from metaharness.configuration import Budget
from metaharness.errors import RunLockedError
from metaharness.gateway.providers import Provider
from metaharness.records import Role
from metaharness.run.facade import Run
from metaharness.run.partial import PartialEvaluation, Source
from metaharness.store import Owner, owner_of

LOOK_AGAIN_SECONDS = 0.2
"""How often it is looked whether a run is free."""


class EvaluateCases(Protocol):
    """`Run.evaluate_cases`, from any thread but that of the event loop; several may call at the same time."""

    def __call__(self, source: Source, case_ids: Sequence[str], *, trial: int = 0) -> PartialEvaluation:
        """See `Run.evaluate_cases`."""
        ...


@asynccontextmanager
async def cases_from_threads(run: Run) -> AsyncIterator[EvaluateCases]:
    """For threads, while the run is open in this event loop; on leaving, calls in the air are waited for."""
    async with BlockingPortal() as portal:
        yield _through(portal, run)


@contextmanager
def open_cases(
    path: Path,
    *,
    wait: float | None = None,
    waiting: Callable[[Owner], None] = lambda _owner: None,
    raised: Budget | None = None,
    providers: Mapping[Role, Provider] | None = None,
    cache: bool | str | None = None,
) -> Iterator[EvaluateCases]:
    """Record a run in a thread of its own, to evaluate cases from any other.

    Args:
        path: The directory of the run.
        wait: Seconds to wait while another process records it; None waits as long as it takes, 0 does not.
        waiting: Told once whom it is waited for.
        raised: As in `Run.open`.
        providers: As in `Run.open`.
        cache: As in `Run.open`.

    Raises:
        RunLockedError: Another process still records it.
        MetaharnessError: As `Run.open`.
    """
    opening = partial(Run.open, path, raised=raised, providers=providers, cache=cache)
    with start_blocking_portal() as portal:
        run = when_free(path, partial(portal.call, opening), wait, waiting)
        with portal.wrap_async_context_manager(_ending(run)):
            yield _through(portal, run)


@asynccontextmanager
async def _ending(run: Run) -> AsyncIterator[None]:
    """The run, open; on leaving, what is in the air ends and is written."""
    async with run:
        try:
            yield
        finally:
            run.stop()
            with anyio.CancelScope(shield=True):
                await run.partial.ended()


def _through(portal: BlockingPortal, run: Run) -> EvaluateCases:
    def evaluate_cases(source: Source, case_ids: Sequence[str], *, trial: int = 0) -> PartialEvaluation:
        return portal.call(partial(run.evaluate_cases, source, case_ids, trial=trial))

    return evaluate_cases


def when_free(path: Path, opening: Callable[[], Run], wait: float | None, waiting: Callable[[Owner], None]) -> Run:
    """Open a run as soon as nobody records it: whoever gets the lock. Arguments and errors are those of `open_cases`.

    Args:
        path: The directory of the run.
        opening: Opens it.
        wait: As in `open_cases`.
        waiting: As in `open_cases`.
    """
    until = None if wait is None else time.monotonic() + wait
    told = False
    while True:
        owner = owner_of(path)
        try:
            if owner is None or (until is not None and time.monotonic() >= until):
                return opening()
        except RunLockedError:
            if until is not None and time.monotonic() >= until:
                raise
        if owner is not None and not told:
            told = True
            waiting(owner)
        time.sleep(LOOK_AGAIN_SECONDS)
