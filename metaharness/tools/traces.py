"""The tools that show what happened: raw cases of an iteration, and a search over everything that is recorded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from metaharness.errors import UsageError
from metaharness.finding import Hit, Hits, grep_trace
from metaharness.finding import search_history as find_in_history
from metaharness.history import History
from metaharness.records import LEARN
from metaharness.store import Difference, Filter, TraceIndex
from metaharness.tools.cases import case_text
from metaharness.tools.desk import Call
from metaharness.tools.reading import InRun, Number, StartLine
from metaharness.tools.text import PAGE_CHARS, fenced, page_of_lines

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
    run: InRun = "",
) -> str:
    """Raw cases: input, output, expected, grade, error. Without `case` in short, by pages; with it in full."""
    path = call.desk.path(run)
    history = call.desk.history(path)
    one = history.iteration(iteration)
    index, others = call.desk.index(path, iteration), None
    name = index.path
    if case == LEARN:
        text = "\n".join(case_text(trace, calls=True) for trace in history.store.learn_traces(iteration))
        return call.seen(path, name, page_of_lines("trace", text or "`learn` made no record", start_line))
    waiting = _not_ready(index)
    if differs_from >= 0:
        others = call.desk.index(path, history.iteration(differs_from).number)
        waiting = waiting or _not_ready(others)
    if waiting is not None:
        return waiting
    if not len(index):
        rejected = "" if one.rejection is None else f": rejected at {one.rejection.stage}: {one.rejection.message}"
        trace = "" if one.rejection is None else one.rejection.traceback or ""
        said = f"iteration {iteration:03d} has no cases{rejected}"
        return call.seen(path, name, f"{said}\n{page_of_lines('trace', trace, start_line)}" if trace else said)
    wanted = Filter(case or None, (status,) if status else (), failures, history.objectives[0].best)
    if grep:
        page = _hits(grep_trace(index, grep, wanted, differs_from=others, cursor=cursor or None), with_iteration=False)
    elif case:
        page = _whole(index, wanted, case, start_line)
    elif others is not None:
        page = _differences(index, others, wanted, _offset(cursor))
    else:
        page = _cases(index, wanted, _offset(cursor))
    counts = ", ".join(f"{count} {status}" for status, count in sorted(index.counts().items()))
    return call.seen(path, name, f"{page}\n[all: {counts}; file: {index.path}]")


def _not_ready(index: TraceIndex) -> str | None:
    if index.update(seconds=INDEX_SECONDS):
        return None
    done, size = index.progress
    return f"[this trace is being read for the first time: {done:,} of {size:,} bytes; call again to go on]"


def _offset(cursor: str) -> int:
    if not cursor:
        return 0
    if not cursor.isdecimal():
        raise UsageError(f"no cursor {cursor!r}", hint="take it from the footer of the page before, or leave it out")
    return int(cursor)


def _whole(index: TraceIndex, wanted: Filter, case: str, start_line: int) -> str:
    found = index.rows(wanted, limit=MOST_CASES)
    if not found.rows:
        raise UsageError(f"no case {case!r} fits", hint="leave `case` out to see which there are")
    text = "\n".join(case_text(index.trace(row), calls=True) for row in found.rows)
    return page_of_lines("trace", text, start_line)


def _cases(index: TraceIndex, wanted: Filter, offset: int) -> str:
    found = index.rows(wanted, offset=offset, limit=MOST_CASES)
    blocks: list[str] = []
    for row in found.rows:
        block = case_text(index.trace(row), calls=False)
        if blocks and sum(map(len, blocks)) + len(block) > PAGE_CHARS:
            break
        blocks.append(block[:PAGE_CHARS])
    return _paged(blocks, offset, found.total)


def _differences(index: TraceIndex, others: TraceIndex, wanted: Filter, offset: int) -> str:
    found = index.differences(others, wanted, offset=offset, limit=MOST_CASES)
    blocks: list[str] = []
    for difference in found.differences:
        block = _both(index, others, difference)
        if blocks and sum(map(len, blocks)) + len(block) > PAGE_CHARS:
            break
        blocks.append(block[:PAGE_CHARS])
    return _paged(blocks, offset, found.total)


def _both(index: TraceIndex, others: TraceIndex, difference: Difference) -> str:
    here, there = difference.row, difference.other
    said = [] if there is None else [f"in {others.iteration:03d}:\n{case_text(others.trace(there), calls=False)}"]
    said += [] if here is None else [f"in {index.iteration:03d}:\n{case_text(index.trace(here), calls=False)}"]
    return "\n".join(said)


def _paged(blocks: list[str], offset: int, total: int) -> str:
    if not blocks:
        return "[no case fits]"
    end = offset + len(blocks)
    more = f"; next: cursor={end}" if end < total else ""
    return f"{fenced('trace', chr(10).join(blocks))}\n[cases {offset + 1}-{end} of {total:,}{more}]"


def search_history(
    call: Call,
    *,
    pattern: Annotated[str, Field(min_length=1, max_length=2000, description="Regex")],
    where: Annotated[
        list[Literal["sources", "reasoning", "reports", "traces"]], Field(description="Where; default: all")
    ] = [],  # noqa: B006 - never changed
    iterations: Annotated[list[int], Field(description="Only these")] = [],  # noqa: B006
    cursor: Cursor = "",
    run: InRun = "",
) -> str:
    """A pattern across sources, reasoning, reports and traces of all iterations: who has tried this, where it shows."""
    path = call.desk.path(run)
    history = call.desk.history(path)
    wanted = where or ["sources", "reasoning", "reports", "traces"]
    chosen = _known(history, iterations)
    found = find_in_history(history.store, pattern, where=wanted, iterations=chosen, cursor=cursor or None)
    return call.seen(path, "search", _hits(found, with_iteration=True))


def _known(history: History, iterations: list[int]) -> list[int] | None:
    return [history.iteration(number).number for number in iterations] or None


def _hits(found: Hits, *, with_iteration: bool) -> str:
    lines = [_hit(hit, with_iteration=with_iteration) for hit in found.hits]
    text = fenced("hits", "\n".join(lines)) if lines else "no hit so far" if found.cursor else "no hit"
    notes = [f"[not readable: {told}]" for told in found.unreadable[:5]]
    end = f"next: cursor={found.cursor}" if found.cursor else "everything was searched"
    return "\n".join([text, *notes, f"[{len(lines)} hits; {end}]"])


def _hit(hit: Hit, *, with_iteration: bool) -> str:
    where = hit.file or (hit.where if hit.case_id is None else f"case {hit.case_id} trial {hit.trial}")
    return f"{f'{hit.iteration:03d} ' if with_iteration else ''}{where}, line {hit.line}: {hit.excerpt}"
