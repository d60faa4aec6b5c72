"""One candidate of 50 cases, a model that takes 50 ms, 32 calls in the air: from the source on disk to score.json.

The ideal is two waves of 50 ms. For comparison, the text-classification evaluation of the reference implementation of
the paper takes 3.71 s for the same work, 2.70 s of it before its first request (measured once, on 2 cores).

    uv run python benchmarks/evaluation.py
"""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import kit

from metaharness.records import Proposal
from metaharness.run import Run
from metaharness.scoring.scoreboard import Iteration

REPEATS = 11
REFERENCE_SECONDS = 3.71


async def candidate(run: Run, source: str, *, ladder: bool) -> float:
    """Seconds from a recorded candidate to its score on disk."""
    run.next_round()
    await anyio.sleep(0.3)  # the workers of a search are warm by the time a candidate is there
    recorder = run.recorder
    if ladder:
        started = time.perf_counter()
        iteration = await run.submit(Proposal(files={"harness.py": source}))
    else:
        number = len(run.history)
        iteration = Iteration(run.store.add_iteration(Proposal(files={"harness.py": source}), round=0, slot=number))
        run.history.add(iteration)
        recorder._accepted[number] = False
        started = time.perf_counter()
    scored = await run.evaluate(iteration)
    elapsed = time.perf_counter() - started
    if scored.score is None or scored.score.statuses != {"ok": scored.score.planned}:
        raise SystemExit(f"the benchmark itself is broken: {scored}")
    return elapsed


async def repeat(
    source: str,
    *,
    ladder: bool,
    seconds: float,
    domain: str = "kit:numbers",
    concurrency: int = 32,
    repeats: int = REPEATS,
) -> list[float]:
    """The same evaluation several times, each in a run of its own."""
    times = []
    for _ in range(repeats + 1):
        with kit.folder() as root:
            (root / "baselines").mkdir()
            (root / "baselines" / "base.py").write_text(source)
            kit.numbers.root = kit.many.root = Path(root)
            settings = kit.config(domain, concurrency=concurrency)
            async with Run.create(settings, root / "runs", providers={"target": kit.SlowModel(seconds)}) as run:
                times.append(await candidate(run, source, ladder=ladder))
    return times[1:]  # the first one compiles the worker's program


async def main() -> None:
    bare = await repeat(kit.ASKING, ladder=False, seconds=0.05)
    kit.report("50 cases x 50 ms, 32 in the air, without the ladder", bare, 0.15, "s")
    kit.report(
        "50 cases x 50 ms, 32 in the air, with the ladder",
        await repeat(kit.ASKING, ladder=True, seconds=0.05),
        0.22,
        "s",
    )
    kit.report("the same against the reference implementation (3.71 s)", bare, REFERENCE_SECONDS, "s")
    start = await repeat(kit.SILENT, ladder=False, seconds=0)
    silent = await repeat(kit.SILENT, ladder=False, seconds=0, domain="kit:many", repeats=5)
    base = sorted(start)[len(start) // 2]
    per_case = [(value - base) / (kit.Many.cases_per_split - kit.Numbers.cases_per_split) * 1000 for value in silent]
    kit.report("a harness without model calls, per case beyond start-up", per_case, 1.0, "ms")


if __name__ == "__main__":
    anyio.run(main)
