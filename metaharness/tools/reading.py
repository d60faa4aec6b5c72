"""The tools that read: what the domain asks for, who stands where, what was written and what came of it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from metaharness.domain import Split, split_cases
from metaharness.errors import UsageError
from metaharness.history import CaseComparison, History
from metaharness.loading import load_domain
from metaharness.memory import lessons_text, lessons_told, offered_to
from metaharness.scoring.scoreboard import Iteration, Scoreboard, format_objectives, format_p
from metaharness.tools.desk import Call, Known
from metaharness.tools.text import fenced, fitting, lines_of, page_of_lines

InRun = Annotated[str, Field(description="Run; default: the only open one")]
Number = Annotated[int, Field(ge=0, description="Iteration number")]
StartLine = Annotated[int, Field(ge=1, description="First line")]
EndLine = Annotated[int, Field(ge=0, description="Last line; 0: as many as fit")]
SHOWN_LAST = 10
SHOWN_FRONTIER = 12
TRAIN_NAMED = 6
MOST_PARENTS = 20


def describe_domain(call: Call, *, start_line: StartLine = 1, run: InRun = "") -> str:
    """What is being improved: rules and interface of a harness, baselines, budget left, sandbox, train cases."""
    path = call.desk.path(run)
    known = call.desk.known(path)
    history = known.history
    record, config = history.record, history.record.config
    domain = load_domain(config.domain, config.domain_options)
    train = [" ".join(case.id.split())[:100] for case in split_cases(domain, Split.TRAIN)[:TRAIN_NAMED]]
    sandbox = next((one.score.sandbox for one in history if one.score is not None), config.sandbox)
    facts = [
        f"run {record.run_id}: {known.status}",
        *history.origin,
        f"objectives: {format_objectives(history.objectives)}; the first decides",
        f"model: {config.models['target'].id}; trials: {config.trials}; sandbox: {sandbox}",
        "you write harness.py and files beside it; evaluator, driver, cases and models are fixed",
        "baselines: " + ", ".join(f"{one.number:03d} {one.proposal.name}" for one in history if one.is_baseline),
        f"train cases for check_harness: {', '.join(train)}, ...",
        *known.budget,
        "only a person opens the sealed test: `metaharness finish`",
    ]
    said = domain.instructions() or "There is no DOMAIN.md."
    if lessons := offered_to(path.parent, record):
        facts.append("after DOMAIN.md below: lessons of earlier runs of this domain")
        said = f"{said.rstrip()}\n\n--- {lessons_told(lessons)}\n{lessons_text(lessons)}"
    text = page_of_lines("domain", said, start_line)
    return call.seen(path, "DOMAIN.md", "\n".join([*facts, "", text]))


def scoreboard(
    call: Call,
    *,
    all: Annotated[bool, Field(description="Every iteration, by pages")] = False,
    start: Annotated[int, Field(ge=0, description="First iteration of an `all` page")] = 0,
    run: InRun = "",
) -> str:
    """Who stands where: baselines, frontier, incumbent, the last ten, with intervals and verdicts; the budget."""
    path = call.desk.path(run)
    known = call.desk.known(path)
    board = known.history.scoreboard()
    text = _page_of_board(board, start) if all else _short_board(known, board)
    return call.seen(path, "scoreboard", text)


def _page_of_board(board: Scoreboard, start: int) -> str:
    numbers = [one.number for one in board.iterations if one.number >= start]
    if not numbers:
        raise UsageError(f"there is no iteration {start}", hint=f"start goes from 0 to {len(board.iterations) - 1}")
    lines, legend = board.text(only=set(numbers)).split("\n"), board.legend()
    shown = max(1, fitting(lines) - 1 - len(legend))
    end = numbers[min(shown, len(numbers)) - 1]
    more = f"; next: all=true, start={end + 1}" if end < board.iterations[-1].number else ""
    table = lines[: 1 + min(shown, len(numbers))] + legend
    return "\n".join([*table, f"[iterations {numbers[0]:03d}-{end:03d} of {len(board.iterations)}{more}]"])


def _short_board(known: Known, board: Scoreboard) -> str:
    history = known.history
    if not board.iterations:
        return f"run {history.record.run_id} has no iterations yet; evaluate begins with the baselines"
    numbers = [one.number for one in board.iterations]
    front = list(board.frontier)[:SHOWN_FRONTIER]
    shown = {one.number for one in board.iterations if one.is_baseline} | set(front) | set(numbers[-SHOWN_LAST:])
    shown |= set() if board.incumbent is None else {board.incumbent}
    lines = [
        f"run {history.record.run_id} ({history.record.domain_name}): {known.status}",
        *history.origin,
        board.text(only=shown),
    ]
    others = [one for one in board.iterations if one.number not in shown]
    if others:
        lines.append(f"[{len(others)} others: {_in_words(others)}; all=true shows them]")
    return "\n".join([*lines, *known.budget])


def _in_words(others: Sequence[Iteration]) -> str:
    said = [one.verdict.verdict if one.verdict is not None else one.state for one in others]
    return ", ".join(f"{said.count(kind)} {kind}" for kind in sorted(set(said)))


class IterationRow(BaseModel):
    """One iteration in short."""

    iteration: int = Field(description="Its number")
    name: str = Field(description="Its name")
    parents: list[int] = Field(description="Iterations it comes from")
    axis: str = Field(description="What it changes")
    hypothesis: str = Field(description="What its evaluation could prove wrong")
    state: str = Field(description="complete, incomplete, rejected or pending")
    mean: float | None = Field(description="Of the first objective; null without a score")
    low: float | None = Field(description="Lower end of the 95% interval")
    high: float | None = Field(description="Upper end of the 95% interval")
    verdict: str | None = Field(description="Against its round's incumbent")
    rejected: str | None = Field(description="Why the ladder rejected it")


class IterationPage(BaseModel):
    """Some iterations of a run."""

    run: str = Field(description="The run")
    iterations: list[IterationRow] = Field(description="In order of number")
    total: int = Field(description="How many fit the question")
    next_start: int | None = Field(description="Pass as `start` to go on; null at the end")


def list_iterations(
    call: Call,
    *,
    start: Annotated[int, Field(ge=0, description="First iteration number")] = 0,
    limit: Annotated[int, Field(ge=1, le=50, description="At most so many")] = 20,
    state: Annotated[
        Literal["", "complete", "incomplete", "rejected", "pending"], Field(description="Only these")
    ] = "",
    run: InRun = "",
) -> IterationPage:
    """Iterations with hypothesis, state, score and verdict, as records. For numbers side by side: scoreboard."""
    path = call.desk.path(run)
    history = call.desk.history(path)
    fitting_ = [one for one in history if state in ("", one.state)]
    wanted = [one for one in fitting_ if one.number >= start]
    primary = history.objectives[0].name
    told = call.desk.shows(history, "scores+summaries")
    rows = [_row(one, primary, told=told) for one in wanted[:limit]]
    rows = rows[: fitting([row.model_dump_json(indent=2) for row in rows])]
    following = wanted[len(rows)].number if len(wanted) > len(rows) else None
    page = IterationPage(run=path.name, iterations=rows, total=len(fitting_), next_start=following)
    call.seen(path, "iterations", page.model_dump_json())
    return page


def _row(one: Iteration, primary: str, *, told: bool) -> IterationRow:
    """A row; where not told, without what was written about the candidate."""
    found = one.score.objectives.get(primary) if one.score is not None else None
    rejection = one.rejection
    stage = None if rejection is None else rejection.stage
    return IterationRow(
        iteration=one.number,
        name=one.proposal.name[:80],
        parents=one.proposal.parents[:MOST_PARENTS],
        axis=one.proposal.axis[:80] if told else "",
        hypothesis=one.proposal.hypothesis[:300] if told else "",
        state=one.state,
        mean=None if found is None else found.mean,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
        verdict=None if one.verdict is None else one.verdict.verdict,
        rejected=f"{stage}: {rejection.message[:300]}" if told and rejection is not None else stage,
    )


def read_harness(
    call: Call,
    *,
    iteration: Number,
    part: Annotated[Literal["all", "source", "reasoning", "report"], Field(description="What of it")] = "all",
    against: Annotated[int, Field(ge=-1, description="Show the diff of the source from this iteration instead")] = -1,
    start_line: StartLine = 1,
    end_line: EndLine = 0,
    run: InRun = "",
) -> str:
    """Source, hypothesis, reasoning and report of an iteration; or how its source differs from another's."""
    path = call.desk.path(run)
    history = call.desk.history(path)
    history.iteration(iteration)
    told = call.desk.shows(history, "scores+summaries")
    if part in ("reasoning", "report"):
        call.desk.require_shown(history, "scores+summaries", "reasoning and reports")
    if against >= 0:
        text = _difference(history, against, iteration)
    else:
        text = _of_harness(history, iteration, part if told else "source")
    file = history.store.candidate_path(iteration)
    footer = f"[files: {file}]"
    return call.seen(path, file, f"{page_of_lines('harness', text, start_line, end_line)}\n{footer}")


def _of_harness(history: History, number: int, part: str) -> str:
    store, one = history.store, history.iteration(number)
    sections: list[tuple[str, str | None]] = []
    if part in ("all", "source"):
        sections += [(f"--- {name}", text or "(empty)") for name, text in sorted(store.files(number).items())]
    if part == "all":
        about = one.proposal
        facts = (("hypothesis", about.hypothesis), ("axis", about.axis), ("predicted", about.predicted_effect))
        sections += [(f"--- {head}", text) for head, text in facts if text]
        if one.rejection is not None:
            sections.append(("--- rejected", f"at {one.rejection.stage}: {one.rejection.message}"))
    if part in ("all", "reasoning"):
        sections.append(("--- reasoning", store.reasoning(number)))
    if part in ("all", "report"):
        sections.append(("--- report", store.report(number)))
    said = [f"{head}\n{text.rstrip()}" for head, text in sections if text and text.strip()]
    return "\n".join(said) or f"iteration {number:03d} has no {part}"


def _difference(history: History, a: int, b: int) -> str:
    before, after = history.store.files(history.iteration(a).number), history.store.files(b)
    lines: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        old, new = lines_of(before.get(name, "")), lines_of(after.get(name, ""))
        lines += difflib.unified_diff(old, new, f"{a:03d}/{name}", f"{b:03d}/{name}", lineterm="")
    return "\n".join(lines) or f"{a:03d} and {b:03d} have the same source"


def compare(call: Call, *, a: Number, b: Number, run: InRun = "") -> str:
    """Two iterations case by case: what `a` fixes and breaks against `b`, and a paired test (no verdict)."""
    path = call.desk.path(run)
    history = call.desk.history(path)
    call.desk.require_shown(history, "full", "single cases")
    found = history.compare(a, b)
    test = found.comparison
    if test.delta is None:
        return call.seen(path, "compare", f"{a:03d} and {b:03d} share no case that both have ended")
    interval = "" if test.low is None else f" [{test.low:+.3f}, {test.high:+.3f}]"
    head = [
        f"{history.objectives[0].name}: {a:03d} minus {b:03d} = {test.delta:+.3f}{interval}, p {format_p(test.p)}",
        f"over {test.units} shared cases; exploratory: a verdict is spoken only against a round's incumbent",
    ]
    lines = [*_changed("fixed", test.improved, found), *_changed("broken", test.regressed, found)]
    same = f"the same: {len(test.unchanged)}; read_trace(iteration={a}, differs_from={b}) shows the cases"
    return call.seen(path, "compare", "\n".join([*head, fenced("cases", "\n".join(lines)), same]))


MOST_UNITS = 60


def _changed(title: str, units: Sequence[str], found: CaseComparison) -> list[str]:
    lines = [f"{title}: {len(units)}"]
    for unit in units[:MOST_UNITS]:
        lines.append(f"  {unit[:100]}: {found.means_b[unit]:.3f} -> {found.means_a[unit]:.3f}")
    return lines + [f"  ... and {len(units) - MOST_UNITS} more"] * (len(units) > MOST_UNITS)
