"""`regrade`: the stored answers of a run under the evaluator as it is now, in a fork of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import INTERRUPTED, command
from metaharness.cli.flags import MaxCalls, MaxTokens, MaxUsd, Quiet, budget
from metaharness.cli.progress import Line
from metaharness.cli.text import counted, one_line

if TYPE_CHECKING:
    from metaharness.history import History
    from metaharness.run import Regrading
    from metaharness.run.regraded import Row

ForkId = Annotated[
    str | None, typer.Option("--name", help="The id of the new run. Default: the time, or the one that was begun.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Grade although evaluator, judge and what is expected are as were.")
]
AcceptMissing = Annotated[
    bool, typer.Option("--accept-missing", help="End although answers could not be graded: they have no value then.")
]
NewJudge = Annotated[
    str | None,
    typer.Option("--judge", help="The model that the evaluator asks, like --model of run. Default: the run's."),
]
JudgeUrl = Annotated[str | None, typer.Option("--base-url", help="Another endpoint for --judge.")]


@command(
    """
    metaharness regrade
    metaharness regrade 2026-04-23 --name corrected --json
    metaharness regrade first --judge anthropic:claude-haiku-4-5 --budget-calls 500
    """
)
def regrade(
    run_name: options.RunName = None,
    name: ForkId = None,
    judge: NewJudge = None,
    base_url: JudgeUrl = None,
    price: options.Price = None,
    force: Force = False,
    accept_missing: AcceptMissing = False,
    budget_calls: MaxCalls = None,
    budget_tokens: MaxTokens = None,
    budget_usd: MaxUsd = None,
    root: options.Root = options.DEFAULT_ROOT,
    quiet: Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Grade the stored answers of a run with the evaluator as it is now, into a new run beside it.

    Only the judge is asked: no candidate runs, no target model answers. The evaluator, what is expected of a case and
    the judge may have changed; ids and inputs may not. Calls, tokens and dollars of the new run are those of its own
    judge. Interrupted, the same command goes on. The new run can be resumed and finished; the old one stays as it is.
    """
    from metaharness.run import Regrading
    from metaharness.store import find_run

    path = find_run(root, run_name)
    with Regrading.open(
        path,
        name=name,
        judge=_judge(judge, base_url),
        prices=options.prices(price),
        raised=budget(None, None, budget_calls, budget_tokens, budget_usd),
        force=force,
    ) as regrading:
        run_id = regrading.store.record.run_id
        if name not in (None, run_id):
            print(f"there is a run {name} already, so this one is {run_id}", file=sys.stderr)
        fork = _graded(regrading, accept_missing=accept_missing, quiet=quiet)
        _tell(regrading, fork, as_json=as_json)


def _judge(name: str | None, base_url: str | None) -> Any:
    from metaharness.errors import UsageError

    if name is None:
        if base_url is not None:
            raise UsageError("--base-url without --judge", hint="say which model is asked there: --judge openai:NAME")
        return None
    return options.model(name, base_url)


def _graded(regrading: Regrading, *, accept_missing: bool, quiet: bool) -> History:
    import anyio

    from metaharness.run.regradable import regrade_command

    source = regrading.source
    if not quiet:
        number = counted(len(source), "candidate")
        print(
            f"grading {number} of {source.record.run_id} anew as run {regrading.store.record.run_id}",
            file=sys.stderr,
        )
    fork = anyio.run(_until_signal, regrading, accept_missing, quiet)
    if fork is None:
        print(f"interrupted: `{regrade_command(regrading.store)}` goes on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    return fork


async def _until_signal(regrading: Regrading, accept_missing: bool, quiet: bool) -> History | None:
    """The grading; None when it was interrupted."""
    from metaharness.cli.signals import until_signal

    regrading.listener = display = _Display(regrading, quiet=quiet)
    return await until_signal(regrading, partial(regrading.run, accept_missing=accept_missing), display.line.clear)


class _Display:
    """Answers done, rate and cost, on a terminal."""

    def __init__(self, regrading: Regrading, *, quiet: bool) -> None:
        self.line = Line(quiet=quiet)
        self._regrading = regrading
        self._started = time.monotonic()
        self._name = ""
        self._done = 0

    def __call__(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "grading":
            self._name = f"{fields['iteration']:03d} {one_line(fields['name'])}"
        else:
            self._done += 1
            self.line.show(self._parts)

    def _parts(self) -> list[str]:
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        spent = self._regrading.spent
        return [
            "regrade",
            self._name,
            f"{self._done} answers, {rate:.1f}/s",
            f"{spent.calls:,} calls, ${spent.usd:.4f}",
        ]


def _tell(regrading: Regrading, fork: History, *, as_json: bool) -> None:
    from metaharness.run.regraded import regraded_rows

    source, path, spent = regrading.source, regrading.store.path, regrading.spent
    rows = regraded_rows(source, fork)
    best_old, best_new = source.best(), fork.best()
    if as_json:
        page = {
            "run": fork.record.run_id,
            "path": str(path),
            "forked_from": source.record.run_id,
            "evaluator_hash": {"old": source.record.evaluator_hash, "new": fork.record.evaluator_hash},
            "objective": {"old": source.objectives[0].name, "new": fork.objectives[0].name},
            "incumbent": {
                "old": best_old.number if best_old is not None else None,
                "new": best_new.number if best_new is not None else None,
            },
            "spent": spent.model_dump(),
            "iterations": [vars(row) for row in rows],
        }
        options.print_json(page)
    else:
        typer.echo(_table(rows))
    unpriced = f" and {spent.unpriced_calls:,} unpriced calls" if spent.unpriced_calls else ""
    print(f"judge: {spent.calls:,} calls, ${spent.usd:.4f}{unpriced}", file=sys.stderr)
    print(f"run directory: {path}", file=sys.stderr)


def _table(rows: Sequence[Row]) -> str:
    from metaharness.scoring.scoreboard import align

    heads = ["iter", "name", "old", "new", "delta", "changed", "rank", "verdict"]
    lines = [
        [
            f"{row.iteration:03d}",
            one_line(row.name) or "-",
            _number(row.old),
            _number(row.new),
            "" if row.delta is None else f"{row.delta:+.3f}",
            str(row.changed) if row.state in ("complete", "incomplete") else "",
            _both(row.rank_old, row.rank_new),
            _both(row.verdict_old, row.verdict_new) + (f" ({row.missing} missing)" if row.missing else ""),
        ]
        for row in rows
    ]
    legend = "changed: pairs with another value   rank and verdict: old -> new where they differ"
    return f"{align([heads, *lines])}\n{legend}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3f}"


def _both(old: object, new: object) -> str:
    """One where they are the same, else both."""
    before, after = ("-" if one is None else str(one) for one in (old, new))
    return after if before == after else f"{before} -> {after}"
