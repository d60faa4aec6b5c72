"""100 candidates of 50 cases at the same time, a model that takes 50 ms, 200 calls in the air: until the last score.

The ideal is 5,000 calls in 25 waves of 50 ms: 1.25 s. A candidate starves when others take its share of the calls, so
the spread is told as well: how many cases each had when half of all cases were answered.

    uv run python benchmarks/many.py [SANDBOX ...]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import anyio
import kit

from metaharness.records import Proposal
from metaharness.run import Run
from metaharness.scoring.scoreboard import Iteration

REPEATS = 3
CANDIDATES = 100
LIMIT = 6.0
CALLS = 200


class Watch:
    """Counts how many cases each candidate has had, as they end."""

    def __init__(self) -> None:
        self.ended: list[int] = []

    def __call__(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take an event of the run."""
        if kind == "case_ended":
            self.ended.append(fields["iteration"])

    def at_half(self) -> list[int]:
        """Cases of each candidate when half of all had ended."""
        counted = Counter(self.ended[: len(self.ended) // 2])
        return [counted[number] for number in set(self.ended)]


def recorded(run: Run, round_number: int) -> list[Iteration]:
    """Candidates that have come up the ladder."""
    run.next_round()
    found = []
    for slot in range(CANDIDATES):
        record = run.store.add_iteration(Proposal(files={"harness.py": kit.ASKING}), round=round_number, slot=slot)
        iteration = Iteration(record)
        run.history.add(iteration)
        run.recorder._accepted[iteration.number] = False
        found.append(iteration)
    return found


async def once(sandbox: str) -> tuple[float, list[int]]:
    """Seconds until all are scored, and what each had at half time."""
    with kit.folder() as root:
        (root / "baselines").mkdir()
        (root / "baselines" / "base.py").write_text(kit.ASKING)
        kit.numbers.root = root
        settings = kit.config(concurrency=CALLS, candidates_per_round=CANDIDATES, sandbox=sandbox)
        watch = Watch()
        async with Run.create(settings, root / "runs", providers={"target": kit.SlowModel(0.05)}) as run:
            iterations = recorded(run, 0)
            run.listener = watch
            scored: list[Iteration] = []

            async def evaluate(iteration: Iteration) -> None:
                scored.append(await run.evaluate(iteration))

            begun = time.perf_counter()
            async with anyio.create_task_group() as group:
                for iteration in iterations:
                    group.start_soon(evaluate, iteration)
            seconds = time.perf_counter() - begun
        for one in scored:
            if one.score is None or one.score.statuses != {"ok": one.score.planned}:
                raise SystemExit(f"the benchmark itself is broken: {one}")
        return seconds, watch.at_half()


async def main() -> None:
    for sandbox in sys.argv[1:] or ("bubblewrap", "landlock", "process"):
        found = [await once(sandbox) for _ in range(REPEATS + 1)][1:]
        kit.report(f"{sandbox}: {CANDIDATES} candidates x 50 cases", [seconds for seconds, _ in found], LIMIT, "s")
        at_half = found[-1][1]
        print(
            f"   cases of a candidate when half of all had ended: median {statistics.median(at_half):g}, "
            f"least {min(at_half)}, most {max(at_half)}"
        )


if __name__ == "__main__":
    anyio.run(main)
