"""What is printed at the end of a search."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from metaharness.cli.options import print_json
from metaharness.run.summaries import summary_page

if TYPE_CHECKING:
    from metaharness.gateway.budget import Bound
    from metaharness.run import Run

FLAGS: Mapping[Bound, str] = {
    "candidates": "--budget-candidates",
    "case_evaluations": "--budget-cases",
    "calls": "--budget-calls",
    "tokens": "--budget-tokens",
    "usd": "--budget-usd",
}


def outcome(run: Run, reason: str, *, as_json: bool) -> None:
    """The scoreboard, why the search ended, what it cost, and what to type next."""
    spent = run.spent
    if as_json:
        page = summary_page(run.history, reason, spent.model_dump())
        print_json({**page, "path": str(run.store.path), "scoreboard": run.history.scoreboard().rows()})
    elif len(run.history):
        typer.echo(run.history.scoreboard().text())
    usd = f"${spent.usd:.4f}" + (f" and {spent.unpriced_calls:,} unpriced calls" if spent.unpriced_calls else "")
    lines = [
        f"{reason}: {spent.candidates} candidates, {spent.case_evaluations:,} case evaluations, {spent.calls:,} calls, "
        f"{spent.input_tokens + spent.output_tokens:,} tokens, {usd}, {spent.seconds:.1f} s",
        f"run directory: {run.store.path}",
    ]
    for line in [*lines, *_next_steps(run)]:
        print(line, file=sys.stderr)


def resume_command(run: Run) -> str:
    """What to type to go on."""
    return f"metaharness resume {_arguments(run)}"


def _arguments(run: Run) -> str:
    return shlex.join(["--root", str(run.store.path.parent), run.record.run_id])


def _next_steps(run: Run) -> list[str]:
    arguments = _arguments(run)
    bound = run.spent_bound
    if bound is not None and (run.unfinished or not run.all_proposed):
        return [f"to go on with a higher budget: {resume_command(run)} {FLAGS[bound]} N"]
    if run.why_over() is None or run.unfinished:
        return [f"to go on: {resume_command(run)}"]
    return [
        f"to look closer: metaharness scoreboard {arguments}",
        f"to test the best one on the sealed split, once: metaharness finish {arguments}",
    ]
