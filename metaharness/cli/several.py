"""Several searches in this process: each a run of its own, with one limit on model calls and one budget over all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from metaharness.cli.app import INTERRUPTED, complain
from metaharness.cli.options import print_json
from metaharness.cli.searching import LOST, converse, server, was_interrupted

if TYPE_CHECKING:
    import anyio

    from metaharness.cli.asking import Asking
    from metaharness.cli.progress import Line
    from metaharness.configuration import Budget, RunConfig
    from metaharness.errors import MetaharnessError
    from metaharness.run import Run
    from metaharness.run.beside import Beside

HEADS = ("run", "iterations", "best", "score", "calls", "tokens", "usd", "ended")
Open = Callable[["Beside"], "Run"]


@dataclass
class One:
    """One of the runs."""

    told: str
    """What it is called while there is no run yet: its file."""
    open_run: Open
    run: Run | None = None
    """None before it was begun, or where it could not be."""
    reason: str | None = None
    """Why its search has ended; None where it has not."""
    error: MetaharnessError | None = None
    declined: bool = False

    @property
    def name(self) -> str:
        """Its id, or its file."""
        return self.told if self.run is None else self.run.record.run_id

    @property
    def exit_code(self) -> int:
        """As if it had been the only one."""
        if self.error is not None:
            return self.error.exit_code
        if self.declined:
            return 1
        return INTERRUPTED if self.run is None or self.reason is None or was_interrupted(self.run) else 0


@dataclass
class Several:
    """The runs, searched side by side."""

    all: Sequence[One]
    beside: Beside
    quiet: bool
    ask_above: float | None
    """Dollars that each may spend without a question; None asks nothing."""
    stopping: bool = False
    """Whether a signal has come."""
    _line: Line = field(init=False)
    _question: anyio.Lock = field(init=False)

    def stop(self) -> None:
        """Let no run start anything new."""
        self.stopping = True
        for one in self.all:
            if one.run is not None:
                one.run.stop()

    async def search(self) -> None:
        """Search until all have ended, or a second signal drops what is in the air."""
        import anyio

        from metaharness.cli.progress import Line
        from metaharness.cli.signals import until_signal

        self._line, self._question = Line(quiet=self.quiet), anyio.Lock()
        await until_signal(self, self._together, self._line.clear)

    async def _together(self) -> None:
        import anyio

        async with anyio.create_task_group() as group:
            for one in self.all:
                group.start_soon(self._search, one)

    async def _search(self, one: One) -> None:
        """One search; what ends it with an error ends no other one."""
        from metaharness.cli.asking import Asking
        from metaharness.cli.progress import Progress
        from metaharness.errors import MetaharnessError
        from metaharness.proposers import open_proposer
        from metaharness.search import search

        if self.stopping:
            return
        try:
            async with one.open_run(self.beside) as run:
                self._begun(one, run)
                run.listener = progress = Progress(run, quiet=self.quiet, beside=self._line)
                progress.begin()
                asking = Asking(run, progress, above=self.ask_above, quiet=self.quiet)
                proposer = open_proposer(run, serve=server, converse=converse)
                one.reason = await search(run, proposer, confirm=lambda: self._asked(one, asking))
        except MetaharnessError as error:
            one.error = error
            self._line.clear()
            complain(f"{one.name}: {error.message}", error.hint)

    def _begun(self, one: One, run: Run) -> None:
        """It is there; a signal may have come while it was being opened."""
        one.run = run
        if self.stopping:
            run.stop()

    async def _asked(self, one: One, asking: Asking) -> bool:
        """The estimate of one, and the question: one at a time, as there is one terminal."""
        async with self._question:
            self._line.say(f"{one.name}:")
            agreed = await asking()
        one.declined = asking.declined
        return agreed


def over_all(configs: Sequence[RunConfig], budget: Budget, concurrency: int | None) -> Beside:
    """What the runs have in common.

    Args:
        configs: Theirs.
        budget: What they may spend together; its bounds on candidates and case evaluations are each one's own.
        concurrency: Model calls in the air together; None: as many as the one with the most may have alone.
    """
    import anyio

    from metaharness.gateway.budget import Ledger
    from metaharness.gateway.prices import PriceTable
    from metaharness.run.beside import Beside

    prices: dict[str, tuple[float, float]] = {}
    for config in configs:
        prices |= config.prices
    limits = budget.model_copy(update={"candidates": None, "case_evaluations": None})
    most = concurrency or max(config.concurrency for config in configs)
    return Beside(anyio.CapacityLimiter(most), Ledger(limits, PriceTable(prices), of=" over all runs"))


def search_several(several: Several, *, as_json: bool) -> None:
    """Search them, then say what came out of each. Exit code: that of the first one that did not end well."""
    import anyio

    anyio.run(several.search)
    if as_json:
        print_json([_page(one) for one in several.all])
    else:
        typer.echo(_table(several.all))
    _say_next(several)
    codes = [one.exit_code for one in several.all if one.exit_code]
    if codes:
        raise typer.Exit(INTERRUPTED if INTERRUPTED in codes else codes[0])


def _page(one: One) -> Mapping[str, Any]:
    from metaharness.cli.output import outcome_page

    if one.run is None or one.error is not None:
        error, hint = (None, None) if one.error is None else (one.error.message, one.error.hint)
        path = None if one.run is None else str(one.run.store.path)
        return {"run": one.name, "path": path, "error": error, "hint": hint, "exit_code": one.exit_code}
    return {**outcome_page(one.run, one.reason or LOST), "error": None, "hint": None, "exit_code": one.exit_code}


def _table(runs: Sequence[One]) -> str:
    from metaharness.scoring.scoreboard import align

    return align([HEADS, *(_row(one) for one in runs)])


def _row(one: One) -> list[str]:
    from metaharness.cli.text import one_line, paid

    if one.run is None:
        return [one.name, *["-"] * (len(HEADS) - 2), "was not begun" if one.error is None else "could not be begun"]
    spent, best = one.run.spent, one.run.history.best()
    score = "-" if best is None or best.score is None else f"{best.score.objectives[_primary(one.run)].mean:.3f}"
    ended = (one.reason or LOST) if one.error is None else f"error: {one_line(one.error.message)}"
    tokens = f"{spent.input_tokens + spent.output_tokens:,}"
    best_number = "-" if best is None else f"{best.number:03d}"
    spending = [f"{spent.calls:,}", tokens, paid(spent.model_dump())]
    return [one.name, str(len(one.run.history)), best_number, score, *spending, ended]


def _primary(run: Run) -> str:
    return run.history.objectives[0].name


def _say_next(several: Several) -> None:
    """What each has left of the budget over all, and how to go on with those that have not ended."""
    from metaharness.cli.output import resume_command
    from metaharness.run.bounds import bound_states, state_line
    from metaharness.run.spent import why_spent_together

    together = several.beside.ledger
    assert together is not None
    for state in bound_states(together):
        print(f"over all runs, {state_line(state)}", file=sys.stderr)
    for one in several.all:
        if one.run is None:
            continue
        cut_short = not one.run.all_proposed and why_spent_together(together, one.run.history) is not None
        if one.exit_code or cut_short:
            print(f"to go on with {one.name}: {resume_command(one.run)}", file=sys.stderr)
