"""`trace`, `diff` and `compare`: look closely at one candidate, or at two."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from metaharness.cli import options
from metaharness.cli.app import command
from metaharness.cli.text import one_line, printable

if TYPE_CHECKING:
    from metaharness.history import CaseComparison
    from metaharness.records import Call, CaseTrace, ObjectiveRecord
    from metaharness.scoring.scoreboard import Iteration

LINE = 100
"""Characters of JSON in one line; what is longer is indented."""
SHOWN = 500
"""Characters of an input or an output."""

Number = Annotated[int, typer.Argument(min=0, help="The iteration, such as 4 or 004.")]
Other = Annotated[int, typer.Argument(min=0, help="The iteration to compare it with.")]
InRun = Annotated[str | None, typer.Option("--run", "-r", help="A run's id, its beginning or its path.")]
OneCase = Annotated[str | None, typer.Option("--case", help="Only this case, with all its calls.")]
Failures = Annotated[bool, typer.Option("--failures", help="Only cases that failed or scored below the best.")]
WithStatus = Annotated[str | None, typer.Option("--status", help="Only cases of this status, such as timeout.")]
Most = Annotated[int, typer.Option("--limit", min=1, help="At most so many cases.")]


@command(
    """
    metaharness trace 4
    metaharness trace 4 --failures --limit 3
    metaharness trace 4 --case search-0007
    metaharness trace 4 --json
    """
)
def trace(
    number: Number,
    run_name: InRun = None,
    case: OneCase = None,
    failures: Failures = False,
    status: WithStatus = None,
    most: Most = 20,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Show the raw cases of a candidate: input, output, expected, grade, error, and every model call of one case."""
    from metaharness.errors import UsageError
    from metaharness.history import History
    from metaharness.records import Status

    if status is not None and status not in get_args(Status):
        raise UsageError(f"no case has the status {status!r}", hint=f"valid: {', '.join(get_args(Status))}")
    history = History(options.open_reader(root, run_name))
    iteration = history.iteration(number)
    latest = history.store.latest_traces(number)
    best = _best_value(history.objectives[0])
    wanted = [
        found
        for found in latest.values()
        if case in (None, found.case_id)
        and status in (None, found.status)
        and not (failures and _succeeded(found, best))
    ]
    if case is not None and not wanted:
        raise UsageError(
            f"iteration {number:03d} has no case {case!r}", hint=f"metaharness trace {number} lists its cases"
        )
    shown = wanted[:most]
    if as_json:
        options.print_json([found.model_dump(mode="json") for found in shown])
        return
    if iteration.rejection is not None:
        typer.echo(_rejected(iteration))
        if iteration.rejection.traceback:
            typer.echo(printable(iteration.rejection.traceback))
    for found in shown:
        typer.echo(_case_text(found, calls=case is not None))
    typer.echo(f"[{len(shown)} of {len(wanted)} cases; {len(latest)} recorded]")


@command(
    """
    metaharness diff 0 4
    """
)
def diff(
    a: Number,
    b: Other,
    run_name: InRun = None,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Show what changed in the source from one candidate to another, as a unified diff."""
    store = options.open_reader(root, run_name)
    before, after = store.files(a), store.files(b)
    lines: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        lines += difflib.unified_diff(
            before.get(path, "").splitlines(),
            after.get(path, "").splitlines(),
            f"{a:03d}/{path}",
            f"{b:03d}/{path}",
            lineterm="",
        )
    if as_json:
        options.print_json({"a": a, "b": b, "diff": lines})
    else:
        typer.echo("\n".join(map(printable, lines)) if lines else f"{a:03d} and {b:03d} have the same source")


@command(
    """
    metaharness compare 4 0
    metaharness compare 4 0 --json
    """
)
def compare(
    a: Number,
    b: Other,
    run_name: InRun = None,
    root: options.Root = options.DEFAULT_ROOT,
    as_json: options.AsJson = False,
) -> None:
    """Compare two candidates case by case: what A does better and worse than B, and the paired test."""
    from metaharness.history import History

    history = History(options.open_reader(root, run_name))
    found = history.compare(a, b)
    if as_json:
        options.print_json(_comparison_record(found))
        return
    test = found.comparison
    objective = history.objectives[0].name
    rejected = [iteration for iteration in (found.a, found.b) if iteration.rejection is not None]
    for iteration in rejected:
        typer.echo(f"{iteration.number:03d} was {_rejected(iteration)}")
    if test.delta is None:
        if not rejected:
            typer.echo(f"{a:03d} and {b:03d} share no case that both have ended")
        return
    interval = "" if test.low is None else f" [{test.low:+.3f}, {test.high:+.3f}]"
    typer.echo(f"{objective}: {a:03d} minus {b:03d} = {test.delta:+.3f}{interval}, p {_p(test.p)} ({test.method})")
    typer.echo(f"over {test.units} shared cases; exploratory: a verdict is spoken only against a round's incumbent")
    for title, units in (("better", test.improved), ("worse", test.regressed)):
        typer.echo(f"{title}: {len(units)}")
        for unit in units:
            typer.echo(f"  {one_line(unit)}: {found.means_b[unit]:.3f} -> {found.means_a[unit]:.3f}")
    typer.echo(f"the same: {len(test.unchanged)}")


def _rejected(iteration: Iteration) -> str:
    rejection = iteration.rejection
    return "" if rejection is None else f"rejected at {rejection.stage}: {printable(rejection.message)}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _comparison_record(found: CaseComparison) -> dict[str, Any]:
    test = found.comparison
    return {
        "a": found.a.number,
        "b": found.b.number,
        "delta": test.delta,
        "low": test.low,
        "high": test.high,
        "p": test.p,
        "method": test.method,
        "units": test.units,
        "exploratory": True,
        "better": list(test.improved),
        "worse": list(test.regressed),
        "same": list(test.unchanged),
    }


def _best_value(objective: ObjectiveRecord) -> float | None:
    """The best that a case can score; None when that is not bounded."""
    if objective.range is None:
        return None
    return objective.range[1] if objective.direction == "max" else objective.range[0]


def _succeeded(found: CaseTrace, best: float | None) -> bool:
    """Whether a case was answered as well as can be; without a best value, whether it was answered."""
    return found.status == "ok" and (best is None or (bool(found.grades) and found.grades[-1].value == best))


def _case_text(found: CaseTrace, *, calls: bool) -> str:
    grade = found.grades[-1] if found.grades else None
    lines = [
        f"--- {one_line(found.case_id)} trial {found.trial}: {found.status}"
        + (f", score {grade.value:g}" if grade is not None else ""),
        f"input:    {_short(found.input)}",
        f"output:   {_short(found.output)}",
        f"expected: {_short(found.expected)}",
    ]
    if grade is not None and grade.metrics:
        measured = ", ".join(f"{name} {value:g}" for name, value in grade.metrics.items())
        lines.append(f"metrics:  {one_line(measured)}")
    if grade is not None and grade.notes:
        lines.append(f"notes:    {printable(grade.notes)}")
    if found.error:
        lines.append(f"error:    {printable(found.error.rstrip())}")
    if found.stdout_tail:
        lines.append(f"printed:  {printable(found.stdout_tail.rstrip())}")
    lines.append(f"calls:    {len(found.calls)}, {found.duration_ms:.1f} ms of its own")
    if calls:
        lines += [_call_text(place, call) for place, call in enumerate(found.calls)]
    return "\n".join(lines)


def _call_text(place: int, call: Call) -> str:
    model = one_line(call.model)
    head = f"call {place} ({call.door}, {model}, {call.input_tokens}+{call.output_tokens} tokens)"
    messages = [f"[{message['role']}] {_text(message['content'])}" for message in call.request.get("messages", ())]
    answer = call.error.message if call.error is not None else (call.response or {}).get("text", "")
    return "\n".join([head, *messages, f"[answer] {_text(answer)}"])


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text):,} characters)"


def _text(value: Any) -> str:
    """A text as it is, with its lines; anything else as JSON, indented below where it is longer than a line."""
    if isinstance(value, str):
        return printable(value)
    text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= LINE else "\n" + json.dumps(value, ensure_ascii=False, indent=2))
