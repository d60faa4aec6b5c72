"""Progress of a search on stderr: one line that changes on a terminal, one line per fact elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metaharness.cli.text import numbered, one_line, sandbox_line

if TYPE_CHECKING:
    from metaharness.records import Spent
    from metaharness.run import Run

REFRESH_SECONDS = 0.1
KEPT = 4
"""So many parts of the line are kept whole before the name in the second place is cut."""
NAME = 12
"""What is left of a name that is cut, the number before it included."""


class Line:
    """A line on stderr that changes in place; nothing where stderr is not a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet
        self._shown = 0.0
        self._width = 0

    def show(self, parts: Callable[[], Sequence[str]], *, at_once: bool = False) -> None:
        """Show these parts instead, unless the line has just changed. Those that do not fit are left out, see below."""
        now = time.monotonic()
        if not self._live or (now - self._shown < REFRESH_SECONDS and not at_once):
            return
        self._shown = now
        said = fitted(parts(), _columns() - 1)
        print("\r" + said.ljust(self._width), end="", file=sys.stderr, flush=True)
        self._width = len(said)

    def say(self, line: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self.clear()
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take it away."""
        if self._live and self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def _columns() -> int:
    """The width of the terminal that stderr is: stdout may be another one, or a file."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        columns = 0
    return columns or shutil.get_terminal_size().columns  # some say 0


def fitted(parts: Sequence[str], width: int) -> str:
    """The parts in one line of at most this width, the most important ones first: no number is cut in the middle.

    Whole parts are left out from the end; but the fourth one, such as the best so far, is left out only when a
    shorter name in the second place, and a shorter `round`, do not make room for it.
    """
    kept = list(parts)

    def over() -> int:
        return len(" | ".join(kept)) - width

    while over() > 0 and len(kept) > KEPT:
        kept.pop()
    if over() > 0:
        kept[0] = kept[0].replace("round ", "r")
    if over() > 0 and len(kept) > 1:
        kept[1] = kept[1][: max(NAME, len(kept[1]) - over())].rstrip()
    while over() > 0 and len(kept) > 1:
        kept.pop()
    return kept[0][:width] if len(kept) == 1 else " | ".join(kept)


class Progress:
    """Listens to a run and shows what happens: candidate, cases done, rate, cost, time left, best so far."""

    def __init__(self, run: Run, *, quiet: bool, beside: Line | None = None) -> None:
        """Show nothing yet.

        Args:
            run: Whose progress it is.
            quiet: Whether nothing is shown.
            beside: The line of several runs, each of which says its name first; None: it is the only one.
        """
        self._run = run
        self._quiet = quiet
        self._live = beside or Line(quiet=quiet)
        self._label = "" if beside is None else f"{run.record.run_id}: "
        self._started = time.monotonic()
        self._cases = 0
        self._name = ""

    def __call__(self, kind: str, fields: Mapping[str, Any]) -> None:
        """One event of the run."""
        if self._quiet:
            return
        if kind == "case_ended":
            self._cases += 1
            self._live.show(self._line)
            return
        if kind in ("submitted", "evaluating"):
            self._name = numbered(fields["iteration"], fields["name"])
            self._live.show(self._line, at_once=True)  # before its first case, which may take a minute to time out
        line = _fact(kind, fields, self._run)
        if line is not None:
            self._live.say(self._label + line)
        if kind == "round_closed" and fields["round"] == 0:
            for gap in self._run.history.scoreboard().gaps():  # while little is spent: a name may be misspelt
                self._live.say(self._label + gap)

    def begin(self) -> None:
        """Say which sandbox it is, and which objectives where they were chosen."""
        from metaharness.scoring.scoreboard import format_objectives

        self._live.say(self._label + sandbox_line(self._run.sandbox_told))
        if self._run.config.objectives:
            over = format_objectives(self._run.history.objectives)
            self._live.say(f"{self._label}frontier over {over}; the first decides")

    def clear(self) -> None:
        """Take the changing line away."""
        self._live.clear()

    def _line(self) -> list[str]:
        elapsed = time.monotonic() - self._started
        config, spent = self._run.config, self._run.spent
        rate = self._cases / elapsed if elapsed > 0 else 0.0
        per_candidate = self._run.pairs_per_candidate
        inherited = self._run.record.forked_at is not None
        baselines = 0 if inherited else len(self._run.domain.baselines())
        left = max(0, (baselines + config.iterations) * per_candidate - spent.case_evaluations)
        best = self._run.history.best()
        primary = self._run.history.objectives[0].name
        parts = [
            f"{self._label}round {len(self._run.history.closed_rounds)}",
            self._name,
            f"{self._cases} cases, {rate:.1f}/s",
            f"best {best.score.objectives[primary].mean:.3f} ({best.number:03d})" if best and best.score else "",
            f"{duration(left / rate)} left" if rate else "",
            f"{spent.calls:,} calls, ${spent.usd:.4f}" + (" + unpriced" if spent.unpriced_calls else ""),
        ]
        return [part for part in parts if part]


def duration(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes}:{rest:02d}"


def warning_line(fields: Mapping[str, Any]) -> str:
    """A `budget_warned` as a person reads it."""
    from metaharness.run.bounds import amount, bound_name

    bound = fields["bound"]
    spent, limit = (amount(bound, fields[name]) for name in ("spent", "limit"))
    return (
        f"{fields['share']:.0%} of the budget of {bound_name(bound, fields.get('role'))} is spent: {spent} of {limit}"
    )


def _fact(kind: str, fields: Mapping[str, Any], run: Run) -> str | None:
    if kind == "scored":
        iteration = run.history.iteration(fields["iteration"])
        mean = "-" if fields["mean"] is None else f"{fields['mean']:.3f}"
        missing = f", {fields['missing']} missing" if fields["missing"] else ""
        return (
            f"{numbered(iteration.number, iteration.proposal.name)}: {run.history.objectives[0].name} {mean}{missing}"
        )
    if kind == "rejected":
        who = numbered(fields["iteration"], run.history.iteration(fields["iteration"]).proposal.name)
        first_line = one_line(fields["message"].partition("\n")[0])  # may be empty: a candidate can hide why it fails
        return f"{who}: rejected at {fields['stage']}: {first_line}"
    if kind == "round_closed":
        after = fields["incumbent_after"]
        best = "none" if after is None else f"{after:03d}"
        news = " (new)" if after != fields["incumbent_before"] else ""
        return f"round {fields['round']} closed; incumbent {best}{news}"
    return _warning(kind, fields)


def _warning(kind: str, fields: Mapping[str, Any]) -> str | None:
    if kind == "budget_warned":
        return warning_line(fields)
    if kind == "stop_asked":
        return f"stopping, as there is a file {fields['file']}: what is in the air is finished and written"
    if kind == "proposer_failed":
        return f"the proposer failed in round {fields['round']}: {one_line(fields['error'])}"
    return None


class CasesLeft:
    """What is evaluated, cases left, rate, time left and cost, in one line on a terminal."""

    def __init__(self, what: str, spent: Callable[[], Spent], *, quiet: bool = False) -> None:
        """Name the work, and what tells its cost."""
        self.line = Line(quiet=quiet)
        self._what = what
        self._spent = spent
        self._started = time.monotonic()
        self._name = ""
        self._left = 0
        self._done = 0

    def begin(self, name: str, cases: int) -> None:
        """A candidate is evaluated on so many cases."""
        self._name, self._left = name, cases
        self.line.show(self._text, at_once=True)

    def ended(self) -> None:
        """One case of it has ended."""
        self._done += 1
        self._left -= 1
        self.line.show(self._text)

    def _text(self) -> list[str]:
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        spent = self._spent()
        left = f"about {duration(self._left / rate)}" if rate else ""
        parts = [self._what, self._name, f"{self._left} cases left", f"{rate:.1f}/s", left]
        return [part for part in [*parts, f"{spent.calls:,} calls", f"${spent.usd:.4f}"] if part]
