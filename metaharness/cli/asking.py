"""The estimate after the smoke cases, and the question whether to go on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from metaharness.cli.progress import duration
from metaharness.cli.text import counted, dollars

if TYPE_CHECKING:
    from metaharness.cli.progress import Progress
    from metaharness.run import Run
    from metaharness.run.forecasting import Forecast

LOOK_SECONDS = 0.2
"""How soon a question notices that the run was stopped by a signal."""


class Asking:
    """Says what the search will take, and asks where that is a lot: a `confirm` of `search`."""

    def __init__(self, run: Run, progress: Progress, *, above: float | None, quiet: bool) -> None:
        """Ask nothing yet.

        Args:
            run: The run that is recorded.
            progress: Its line is taken away before something is said.
            above: Dollars that may be spent without a question; None asks nothing, and the answer is yes.
            quiet: The estimate is shown only where something is asked.
        """
        self.declined = False
        self._run = run
        self._progress = progress
        self._above = above if sys.stdin.isatty() and sys.stderr.isatty() else None
        self._quiet = quiet

    async def __call__(self) -> bool:
        """Whether to go on."""
        from metaharness.run.forecasting import forecast, why_ask

        found = forecast(self._run)
        why = None if self._above is None else why_ask(self._run, found, self._above)
        if why is None and self._quiet:
            return True
        self._progress.clear()
        for line in forecast_lines(found, self._run.config.concurrency):
            print(line, file=sys.stderr, flush=True)
        if "proposer" in self._run.config.models:
            print("what the proposer takes is not in it", file=sys.stderr, flush=True)
        if why is None:
            return True
        agreed = await self._agreed(why)
        self.declined = not agreed and not self._run.stopping
        if self.declined:
            print("nothing more is asked", file=sys.stderr, flush=True)
        return agreed

    async def _agreed(self, why: str) -> bool:
        """The answer; no where a signal came or the input has ended.

        The terminal is waited for beside everything else, so that Ctrl+C is heard while the question stands.
        """
        import anyio

        print(f"{why}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
        while not self._run.stopping:
            with anyio.move_on_after(LOOK_SECONDS):
                await anyio.wait_readable(sys.stdin.fileno())
                return sys.stdin.readline().strip().lower() in ("y", "yes")
        return False


def forecast_lines(found: Forecast | None, concurrency: int) -> list[str]:
    """An estimate as a person reads it."""
    if found is None:
        return ["estimate: none, as no smoke case of the baselines has a value"]
    low, high = found.low, found.high
    usd = "unknown cost" if low.usd is None or high.usd is None else _range(dollars(low.usd), dollars(high.usd))
    smoke = counted(found.smoke_cases, "smoke case")
    planned = f"{counted(found.baselines, 'baseline')} and {counted(found.candidates, 'candidate')}"
    return [
        f"estimate for {planned}, {low.case_evaluations:,} case evaluations: "
        f"{_range(f'{low.calls or 0:,}', f'{high.calls or 0:,}')} calls, "
        f"{_range(f'{low.tokens or 0:,}', f'{high.tokens or 0:,}')} tokens, {usd}, "
        f"{_range(*(duration(minutes * 60) for minutes in found.minutes))} minutes",
        f"from {smoke} of the baselines: as if every case took what the cheapest, or "
        f"the dearest, has taken, {concurrency} at once; a candidate may take more or less, and the budget holds",
    ]


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
