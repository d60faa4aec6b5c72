"""The tools that show what happened: raw cases of an iteration, and a search over everything that is recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from metaharness.configuration import Shown
from metaharness.errors import UsageError
from metaharness.finding import WHERE, Hit, Hits, Where, grep_trace
from metaharness.finding import search_history as find_in_history
from metaharness.history import History
from metaharness.records import LEARN
from metaharness.scoring.scoreboard import Iteration
from metaharness.store import Difference, Filter, TraceIndex
from metaharness.tools.cases import case_text
from metaharness.tools.desk import Call
from metaharness.tools.reading import EndLine, InRun, Number, StartLine
from metaharness.tools.text import PAGE_CHARS, cut, fenced, page_of_lines

INDEX_SECONDS = 20.0
"""How long a call may take to read a trace for the first time; the next one goes on."""
MOST_CASES = 50
Cursor = Annotated[str, Field(description="From the footer of the page before")]


def read_trace(
    call: Call,
    *,
    iteration: Number,
    case: Annotated[str, Field(description="One case, with every model call; `<learn>` for learn")] = "",
    status: Annotated[str, Field(description="Only this status, such as timeout")] = "",
    failures: Annotated[bool, Field(description="Only cases below the best score")] = False,
    differs_from: Annotated[int, Field(ge=-1, description="Only cases that ended otherwise in this iteration")] = -1,
    grep: Annotated[str, Field(description="Only lines with this regex; with excerpts")] = "",
    cursor: Cursor = "",
    start_line: StartLine = 1,
    end_line: EndLine = 0,
    run: InRun = "",
) -> str:
    """Raw cases: input, output, expected, grade, error. Without `case` in short, by pages; with it in full."""
    path = call.desk.path(run)
    history = call.desk.history(path)
    call.desk.require_shown(history, "full", "traces")
    one = history.iteration(iteration)
    index, others = call.desk.index(path, iteration), None
    name = index.path.relative_to(path).as_posix()
    if case == LEARN:
        _check_alone(status, failures, differs_from, grep, cursor)
        text = "\n".join(case_text(trace, calls=True) for trace in history.store.learn_traces(iteration))
        return call.seen(path, name, page_of_lines("trace", text or "`learn` made no record", start_line, end_line))
    waiting = _not_ready(index)
    if differs_from >= 0:
        others = call.desk.index(path, history.iteration(differs_from).number)
        name += f", {others.path.relative_to(path).as_posix()}"
        waiting = waiting or _not_ready(others)
    if waiting is not None:
        return waiting
    if not len(index):
        return call.seen(path, name, _without_cases(one, start_line))
    if (start_line > 1 or end_line) and (not case or grep):
        raise UsageError("lines are those of one case", hint="give `case`; other pages go on with `cursor`")
    wanted = Filter(case or None, (status,) if status else (), failures, history.objectives[0].best)
    if grep:
        page = _hits(grep_trace(index, grep, wanted, differs_from=others, cursor=cursor or None), with_iteration=False)
    elif case:
        page = _whole(index, wanted, case, (start_line, end_line))
    elif others is not None:
        page = _differences(index, others, wanted, _offset(cursor))
    else:
        page = _cases(index, wanted, _offset(cursor))
    counts = ", ".join(f"{count} {status}" for status, count in sorted(index.counts().items()))
    rejected = "" if one.rejection is None else f"rejected at {one.rejection.stage}; "
    return call.seen(path, name, f"{page}\n[{rejected}all: {counts}; file: {index.path}]")


def _check_alone(status: str, failures: bool, differs_from: int, grep: str, cursor: str) -> None:
    if status or failures or differs_from >= 0 or grep or cursor:
        raise UsageError(f"{LEARN} is shown whole: nothing else goes with it", hint="give `start_line` to go on")


def _without_cases(one: Iteration, start_line: int) -> str:
    said = f"iteration {one.number:03d} has no cases"
    if one.rejection is None:
        return f"{said}; call evaluate(iteration={one.number})" if one.state == "pending" else said
    told = f"{one.rejection.message}\n{one.rejection.traceback or ''}".strip()
    return f"{said}: rejected at {one.rejection.stage}\n{page_of_lines('trace', told, start_line)}"


def _not_ready(index: TraceIndex) -> str | None:
    if index.update(seconds=INDEX_SECONDS):
        return None
    done, size = index.progress
    return f"[this trace is being read for the first time: {done:,} of {size:,} bytes; call again to go on]"


def _offset(cursor: str) -> int:
    if not cursor:
        return 0
    if not re.fullmatch(r"[0-9]{1,18}", cursor):
        raise UsageError(
            f"no cursor {cursor!r:.100}", hint="take it from the footer of the page before, or leave it out"
        )
    return int(cursor)


def _whole(index: TraceIndex, wanted: Filter, case: str, lines: tuple[int, int]) -> str:
    found = index.rows(wanted)
    if not found.rows:
        raise UsageError(f"no case {case!r:.100} fits", hint="leave `case` out to see which there are")
    text = "\n".join(case_text(index.trace(row), calls=True) for row in found.rows)
    return page_of_lines("trace", text, *lines)


def _cases(index: TraceIndex, wanted: Filter, offset: int) -> str:
    found = index.rows(wanted, offset=offset, limit=MOST_CASES)
    return _paged((case_text(index.trace(row), calls=False) for row in found.rows), offset, found.total)


def _differences(index: TraceIndex, others: TraceIndex, wanted: Filter, offset: int) -> str:
    found = index.differences(others, wanted, offset=offset, limit=MOST_CASES)
    return _paged((_both(index, others, difference) for difference in found.differences), offset, found.total)


def _both(index: TraceIndex, others: TraceIndex, difference: Difference) -> str:
    here, there = difference.row, difference.other
    said = [] if there is None else [f"in {others.iteration:03d}:\n{case_text(others.trace(there), calls=False)}"]
    said += [] if here is None else [f"in {index.iteration:03d}:\n{case_text(index.trace(here), calls=False)}"]
    return "\n".join(said)


def _paged(texts: Iterable[str], offset: int, total: int) -> str:
    """As many as a page takes; what is longer than one is cut, and `case` shows it in full."""
    blocks: list[str] = []
    for text in texts:
        if blocks and sum(map(len, blocks)) + len(text) > PAGE_CHARS:
            break
        blocks.append(cut(text))
    if not blocks and offset:
        raise UsageError(f"there is no case {offset + 1}", hint=f"{total:,} fit; leave `cursor` out to begin anew")
    if not blocks:
        return "[no case fits]"
    end = offset + len(blocks)
    more = f"; next: cursor={end}" if end < total else ""
    return f"{fenced('trace', chr(10).join(blocks))}\n[cases {offset + 1}-{end} of {total:,}{more}]"


def search_history(
    call: Call,
    *,
    pattern: Annotated[str, Field(min_length=1, max_length=2000, description="Regex")],
    where: Annotated[list[Where], Field(description="Where; default: all")] = [],  # noqa: B006 - never changed
    iterations: Annotated[list[int], Field(description="Only these")] = [],  # noqa: B006
    cursor: Cursor = "",
    run: InRun = "",
) -> str:
    """A pattern across sources, reasoning, reports and traces of all iterations: who has tried this, where it shows."""
    path = call.desk.path(run)
    history = call.desk.history(path)
    shown: dict[Where, Shown] = {"sources": "scores", "reasoning": "scores+summaries", "reports": "scores+summaries"}
    if where:
        for name in where:
            call.desk.require_shown(history, shown.get(name, "full"), name)
    wanted = where or [name for name in WHERE if call.desk.shows(history, shown.get(name, "full"))]
    chosen = _known(history, iterations)
    found = find_in_history(history.store, pattern, where=wanted, iterations=chosen, cursor=cursor or None)
    return call.seen(path, "search", _hits(found, with_iteration=True))


def _known(history: History, iterations: list[int]) -> list[int] | None:
    """The numbers of those that are wanted and may be seen; None: of all."""
    chosen = [history.iteration(number).number for number in iterations]
    return chosen or ([one.number for one in history] if history.hides else None)


def _hits(found: Hits, *, with_iteration: bool) -> str:
    lines = [_hit(hit, with_iteration=with_iteration) for hit in found.hits]
    text = fenced("hits", "\n".join(lines)) if lines else "no hit so far" if found.cursor else "no hit"
    notes = [f"[not readable: {told}]" for told in found.unreadable[:5]]
    end = f"next: cursor={found.cursor}" if found.cursor else "everything was searched"
    return "\n".join([text, *notes, f"[{len(lines)} hits; {end}]"])


def _hit(hit: Hit, *, with_iteration: bool) -> str:
    where = hit.file or (hit.where if hit.case_id is None else f"case {hit.case_id} trial {hit.trial}")
    where = cut(" ".join(where.split()), 200)
    return f"{f'{hit.iteration:03d} ' if with_iteration else ''}{where}, line {hit.line}: {hit.excerpt}"
