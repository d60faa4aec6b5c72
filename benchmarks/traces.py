"""What it costs to ask a trace of 100,000 cases and about 1 GB: the first look, a page of any filter, a pattern.

Each figure is of a process of its own, which is also where its private memory is measured.

    uv run python benchmarks/traces.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kit

from metaharness.configuration import RunRecord
from metaharness.finding import grep_trace, search_history
from metaharness.records import Call, CaseTrace, GradeRecord, Proposal, Status
from metaharness.store import Filter, RunStore, TraceIndex

CASES = 100_000
QUICK = 5_000
UNDER_WAY = 32
PROMPT_CHARS = 9_500
REPEATED = 9
PAGE = 20
BUILD = 20.0
"""Seconds for the first look at the whole trace."""
ANSWERED = 1.5
"""Seconds until a caller has an answer who asks for one within a second."""
FIRST_PAGE = 100.0
"""Milliseconds."""
PATTERN_PAGE = 1500.0
"""Milliseconds of a page of hits: a second, and what it takes to notice that it is over."""
MEMORY = 200.0
"""Megabytes."""
EVERY_FILTER = {
    "all": Filter(),
    "one case": Filter(case_id="search-00077"),
    "a status": Filter(statuses=("timeout",)),
    "two statuses": Filter(statuses=("timeout", "harness_error")),
    "failures": Filter(failures=True),
    "failures, below the best": Filter(failures=True, best=1.0),
    "failures of a status": Filter(failures=True, best=1.0, statuses=("ok",)),
}
PATTERNS = {
    "in every line": "answer",
    "rare": "needle 4 of",
    "rare, of letters of either kind": "(?i)NEEDLE 4 of",
    "nowhere": "no such text",
    "nowhere, with classes": r"\bz\w+z\b \d+",
}


# --- the run ----------------------------------------------------------------------------------------------------


def traces(cases: int, of: int) -> Iterator[CaseTrace]:
    """The traces of one iteration, in an order of its own; a quarter ends otherwise than in another iteration."""
    words = 'The tenant writes that the lift has stopped again, and asks "when" it will run.\n'
    prompt = (words * (PROMPT_CHARS // len(words) + 1))[:PROMPT_CHARS]
    for case in ended_in_order(cases, of):
        chance = (case * 7919 + of * 104_729) % 100
        status: Status = "timeout" if chance < 2 else "harness_error" if chance < 4 else "ok"
        note = f"needle {case} of {cases}. " if case % 10_000 == 4 else ""
        request = {"messages": [{"role": "user", "content": f"{note}Case {case}. {prompt}"}]}
        yield CaseTrace(
            case_id=f"search-{case:05d}",
            trial=0,
            status=status,
            input=f"case {case}",
            output="answer" if status == "ok" else None,
            expected="answer",
            grades=[GradeRecord(evaluator_hash="e" * 64, value=float(chance > 12))] if status == "ok" else [],
            error=None if status == "ok" else "Traceback (most recent call last):\n  ...",
            calls=[Call(request=request, response={"text": "answer"}, model="scripted:none", input_tokens=2000)],
        )


def ended_in_order(cases: int, seed: int) -> Iterator[int]:
    """Cases as they end where so many are under way."""
    under_way: list[int] = []
    generator = random.Random(seed)
    for case in range(cases):
        under_way.append(case)
        if len(under_way) == UNDER_WAY:
            yield under_way.pop(generator.randrange(UNDER_WAY))
    yield from under_way


def make(root: Path, cases: int) -> Path:
    """A run with two iterations of so many cases. Returns its directory."""
    with RunStore.create(root, _record) as store:
        for of in range(2):
            proposal = Proposal(files={"harness.py": kit.SILENT}, reasoning=f"iteration {of}")
            number = store.add_iteration(proposal, round=0, slot=of).iteration
            for trace in traces(cases, of):
                store.append_trace(number, trace)
    return store.path


def _record(run_id: str) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        created="",
        config=kit.config(),
        domain_name="numbers",
        domain_hash="d" * 64,
        evaluator_hash="e" * 64,
        split_hashes={},
        objectives=[],
    )


# --- what is measured, each in a process of its own -------------------------------------------------------------


def private_megabytes() -> float:
    """Memory that is this process's alone, now."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def milliseconds(act: Callable[[], object], times: int = 1) -> list[float]:
    """How long something takes, so often."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        act()
        found.append((time.perf_counter() - started) * 1000)
    return found


def updated(store: RunStore, number: int) -> TraceIndex:
    """An index with everything in it."""
    index = store.trace_index(number)
    index.update()
    return index


def build(store: RunStore) -> dict[str, list[float]]:
    """The first look, all of it, and the most memory during it."""
    memory: list[float] = []
    index = store.trace_index(0)
    took = milliseconds(lambda: index.update(progress=lambda done, _: memory.append(done and private_megabytes())))
    return {"seconds": [one / 1000 for one in took], "memory": [max(memory)]}


def slices(store: RunStore) -> dict[str, list[float]]:
    """The first look, one second at a time: how long each call takes, and how many it needs."""
    index, took, done = store.trace_index(1), list[float](), list[bool]()
    while not (done and done[-1]):
        took += milliseconds(lambda: done.append(index.update(seconds=1.0)))
    return {"seconds": [one / 1000 for one in took]}


def first_pages(store: RunStore) -> dict[str, list[float]]:
    """The first page of every filter, in a process that has asked nothing yet and in one that has."""
    figures = {"a new process": milliseconds(lambda: updated(store, 0).rows(Filter(failures=True), limit=PAGE))}
    index = updated(store, 0)
    figures["looking whether it has grown"] = milliseconds(index.update, REPEATED)
    for name, wanted in EVERY_FILTER.items():
        figures[name] = milliseconds(lambda wanted=wanted: index.rows(wanted, limit=PAGE), REPEATED)  # type: ignore[misc]
    other = updated(store, 1)
    figures["what differs"] = milliseconds(lambda: index.differences(other, limit=PAGE), REPEATED)
    middle = index.rows().rows[len(index) // 2]
    figures["one case, whole"] = milliseconds(lambda: index.trace(middle), REPEATED)
    figures["memory"] = [private_megabytes()]
    return figures


def patterns(store: RunStore) -> dict[str, list[float]]:
    """A page of hits of every pattern: the first, and how fast all of the trace is searched."""
    index = updated(store, 0)
    size = index.path.stat().st_size / 1e6
    figures: dict[str, list[float]] = {}
    for name, pattern in PATTERNS.items():
        took, cursor = list[float](), None
        while True:
            started = time.perf_counter()
            found = grep_trace(index, pattern, cursor=cursor)
            took.append((time.perf_counter() - started) * 1000)
            cursor = found.cursor
            if cursor is None or name == "in every line":
                break
        figures[name] = took
        if cursor is None:
            figures[f"{name}: MB/s"] = [size / sum(took) * 1000]
    figures["among failures"] = milliseconds(lambda: grep_trace(index, "nowhere", Filter(failures=True)), 3)
    figures["everything recorded"] = milliseconds(lambda: search_history(store, "no such text"), 3)
    figures["memory"] = [private_megabytes()]
    return figures


MEASURED = {measure.__name__: measure for measure in (build, slices, first_pages, patterns)}


def measured(path: Path, name: str) -> dict[str, list[float]]:
    """What a process of its own finds."""
    command = [sys.executable, __file__, "--measure", name, str(path)]
    found: dict[str, list[float]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def report(path: Path, whole: bool) -> None:
    """Every figure beside its limit."""
    built = measured(path, "build")
    kit.report("first look at the trace", built["seconds"], BUILD if whole else BUILD * QUICK / CASES, "s")
    kit.report("  memory during it", built["memory"], MEMORY, "MB")
    sliced = measured(path, "slices")["seconds"]
    kit.report(f"  in {len(sliced)} calls of a second: the longest", [max(sliced)], ANSWERED, "s")
    pages = measured(path, "first_pages")
    memory = pages.pop("memory")
    for name, took in pages.items():
        kit.report(f"first page: {name}", took, FIRST_PAGE, "ms")
    kit.report("  memory, of two indexes", memory, MEMORY, "MB")
    hits = measured(path, "patterns")
    memory = hits.pop("memory")
    for name, took in hits.items():
        if not name.endswith("MB/s"):
            kit.report(f"page of hits: {name}", took, PATTERN_PAGE, "ms")
        else:
            print(f"  {name} {took[0]:.0f}")
    kit.report("  memory", memory, MEMORY, "MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"a trace of {QUICK:,} cases")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "RUN"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        name, path = chosen.measure
        print(json.dumps(MEASURED[name](RunStore.open(Path(path), record=False))))
        return
    with kit.folder() as root:
        path = make(root, QUICK if chosen.quick else CASES)
        report(path, not chosen.quick)


if __name__ == "__main__":
    main()
