"""One search in this process: its progress, its signals, and what is said at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from metaharness.cli.app import INTERRUPTED

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from metaharness.run import Run
    from metaharness.tools import Desk, Tool


def server(desk: Desk, tools: Sequence[Tool]) -> Any:
    """What an agent program is connected to; imported where one is, as that takes longer than a small search."""
    from mcp_server import make_server

    return make_server(desk, tools)


async def converse(desk: Desk, tools: Sequence[Tool], stream: ByteStream) -> None:
    """The same over a connection of its own."""
    from mcp_server import serve_stream

    await serve_stream(desk, tools, stream)


def record(open_run: Callable[[], Run], session: Session, *, as_json: bool) -> None:
    """Search until the end or a signal, then say what came out."""
    import anyio

    from metaharness.cli.output import outcome

    run, reason = anyio.run(session.search, open_run)
    outcome(run, reason, as_json=as_json)
    if session.interrupted or session.declined:
        raise typer.Exit(INTERRUPTED if session.interrupted else 1)


@dataclass
class Session:
    """One process's part of a search."""

    quiet: bool
    estimate: bool = False
    """Whether to say after the smoke cases of the baselines what the search will take."""
    ask_above: float | None = None
    """Dollars that may be spent without a question; None asks nothing."""
    interrupted: bool = False
    """Whether a signal, or a file that asks for it, came before the search was over."""
    declined: bool = False
    """Whether the question was answered with no."""

    async def search(self, open_run: Callable[[], Run]) -> tuple[Run, str]:
        """The search beside a task that listens for signals: the run, and why it has ended.

        The first Ctrl+C or SIGTERM lets what is in the air end and be written; the second one drops it.
        """
        from metaharness.cli.asking import Asking
        from metaharness.cli.output import budget_lines
        from metaharness.cli.progress import Progress
        from metaharness.cli.signals import until_signal
        from metaharness.errors import MetaharnessError
        from metaharness.proposers import open_proposer
        from metaharness.search import search

        async with open_run() as run:
            run.listener = progress = Progress(run, quiet=self.quiet)
            progress.begin()
            asking = Asking(run, progress, above=self.ask_above, quiet=self.quiet) if self.estimate else None
            doing = partial(search, run, open_proposer(run, serve=server, converse=converse), confirm=asking)
            try:
                reason = await until_signal(run, doing, progress.clear)
            except MetaharnessError:
                for line in budget_lines(run):
                    print(line, file=sys.stderr)
                raise
            reason = reason or LOST
            self.declined = asking is not None and asking.declined
            self.interrupted = was_interrupted(run) and not self.declined
            return run, reason


LOST = "stopped at once; calls in the air were lost"


def was_interrupted(run: Run) -> bool:
    """Whether a run was stopped before its search was over."""
    return run.stopping and (run.unfinished or run.why_over() is None)
