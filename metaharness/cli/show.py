"""`show`: everything that is recorded of one candidate, except its cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.inspect import InRun, Number
from metaharness.cli.text import dollars, one_line, printable

if TYPE_CHECKING:
    from metaharness.history import History
    from metaharness.scoring.scoreboard import Iteration

SourceOnly = Annotated[bool, typer.Option("--source", help="Only the source of its files.")]


@command(
    """
    metaharness show 8
    metaharness show 8 --run first --source
    metaharness show 8 --json
    """
)
def show(
    number: Number,
    run_name: InRun = None,
    source: SourceOnly = False,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Show one candidate: its source, hypothesis and reasoning, its numbers, its verdict, its report."""
    from metaharness.history import History

    history = History(options.open_reader(root, run_name))
    iteration = history.iteration(number)
    files = history.store.files(number)
    if as_json:
        options.print_json(_record(history, iteration, files))
        return
    if not source:
        typer.echo("\n".join(_about(history, iteration)))
    for path, text in sorted(files.items()):
        typer.echo(("" if source and len(files) == 1 else f"\n--- {one_line(path)}\n") + printable(text).rstrip("\n"))


def _record(history: History, iteration: Iteration, files: dict[str, str]) -> dict[str, Any]:
    number = iteration.number
    session = history.store.sessions.record(iteration.proposal.session) if iteration.proposal.session else None
    return {
        **iteration.proposal.model_dump(mode="json"),
        "state": iteration.state,
        "path": str(history.store.candidate_path(number)),
        "score": iteration.score.model_dump(mode="json") if iteration.score is not None else None,
        "verdict": iteration.verdict.model_dump(mode="json") if iteration.verdict is not None else None,
        "rejected": iteration.rejection.model_dump(mode="json") if iteration.rejection is not None else None,
        "written_in": None if session is None else session.model_dump(mode="json"),
        "reasoning": history.store.reasoning(number),
        "report": history.store.report(number),
        "files": files,
    }


def _about(history: History, iteration: Iteration) -> list[str]:
    proposal, number = iteration.proposal, iteration.number
    came = "baseline" if iteration.is_baseline else f"round {proposal.round}"
    parents = ", ".join(f"{parent:03d}" for parent in proposal.parents) or "none"
    rows = [
        ("iteration", f"{number:03d} {proposal.name} ({came}{', handed in' if proposal.by_hand else ''})"),
        ("inherited", f"from {proposal.inherited}" if proposal.inherited is not None else ""),
        ("parents", "" if iteration.is_baseline else parents),
        ("hypothesis", proposal.hypothesis),
        ("axis", proposal.axis),
        ("components", ", ".join(proposal.components)),
        ("predicted", proposal.predicted_effect),
        ("written in", _session(history, proposal.session)),
        ("flagged", "; ".join(proposal.flags)),
        *_numbers(history, iteration),
        ("source", str(history.store.candidate_path(number))),
    ]
    shown = [(head, one_line(text)) for head, text in rows if text]
    width = max(len(head) for head, _ in shown) + 2
    lines = [f"{head:<{width}}{text}" for head, text in shown]
    for head, text in (("reasoning", history.store.reasoning(number)), ("report", history.store.report(number))):
        if text and text.strip():
            lines += ["", f"--- {head}", printable(text).strip()]
    return lines


def _session(history: History, name: str) -> str:
    """What the session that wrote it was and has cost, and where its transcript lies; empty without one."""
    found = history.store.sessions.record(name) if name else None
    if found is None:
        return ""
    cost = "price unknown" if found.usd is None else dollars(found.usd)
    used = "not metered" if found.unmetered else f"{found.input_tokens + found.output_tokens:,} tokens, {cost}"
    who = found.proposer if found.model is None else f"{found.proposer} {found.model}"
    return f"session {name}: {who}, {found.state}, {used}, {history.store.sessions.transcript_path(name)}"


def _numbers(history: History, iteration: Iteration) -> list[tuple[str, str]]:
    from metaharness.scoring.scoreboard import format_estimate, format_gap, format_p

    rejection, score, verdict = iteration.rejection, iteration.score, iteration.verdict
    if rejection is not None:
        return [("rejected", f"at {rejection.stage}: {rejection.message}")]
    if score is None:
        return [("state", iteration.state)]
    rows = [(one.name, f"{format_estimate(score, one)} {one.unit}".rstrip()) for one in history.objectives]
    rows.append(("sandbox", score.sandbox))
    rows.append(("cases", ", ".join(f"{count} {status}" for status, count in score.statuses.items())))
    if score.missing:
        rows.append(("incomplete", format_gap(score)))
    if verdict is not None and verdict.delta is not None and verdict.p is not None and verdict.incumbent is not None:
        against = f"against {verdict.incumbent:03d}: {verdict.delta:+.3f}, p {format_p(verdict.p)}"
        rows.append(("verdict", f"{verdict.verdict} ({against})"))
    return rows
