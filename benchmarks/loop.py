"""What the search costs beyond proposing and evaluating: milliseconds per iteration, durable, and memory.

Candidates are proposed and evaluated by stand-ins that answer at once; their time is taken off. Every iteration is
written as in a real run: its files, proposal.json and score.json (fsynced), 50 trace lines, events, summaries.

    uv run python benchmarks/loop.py
"""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import kit
from anyio.streams.memory import MemoryObjectReceiveStream

from metaharness.evaluation.ladder import Smoke
from metaharness.evaluation.session import Doors
from metaharness.records import CaseTrace, EvaluationPlan, GradeRecord, Proposal
from metaharness.run import Round, Run
from metaharness.search import search


class InstantRunner:
    """Yields ready-made traces."""

    sandbox_name = "none"

    def __init__(self) -> None:
        self.seconds = 0.0

    async def smoke(self, plan: EvaluationPlan, doors: Doors) -> Smoke:
        """Every candidate passes."""
        del doors
        return Smoke(traces=self._traces(plan))

    @asynccontextmanager
    async def run(self, plan: EvaluationPlan, doors: Doors) -> AsyncIterator[MemoryObjectReceiveStream[CaseTrace]]:
        """All traces at once."""
        del doors
        traces = self._traces(plan)
        send, receive = anyio.create_memory_object_stream[CaseTrace](len(traces))
        for trace in traces:
            send.send_nowait(trace)
        send.close()
        with receive:
            yield receive

    def _traces(self, plan: EvaluationPlan) -> list[CaseTrace]:
        started = time.perf_counter()
        number = plan.iteration or 0
        traces = [
            CaseTrace(
                case_id=case_id,
                trial=trial,
                status="ok",
                input=case_id,
                output="even",
                expected="even",
                grades=[GradeRecord(evaluator_hash="", value=float(hash((number, place)) % 3 > 0))],
            )
            for place, (case_id, trial) in enumerate(plan.pairs)
        ]
        self.seconds += time.perf_counter() - started
        return traces


class InstantProposer:
    """Writes a small harness at once."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """One candidate per open slot."""
        for slot in round_.open_slots:
            yield Proposal(files={"harness.py": f"{kit.SILENT}# {round_.number} {slot}\n"}, hypothesis="none")


async def measure(iterations: int) -> tuple[float, float]:
    """Milliseconds per iteration over the whole run, and over its last 50 iterations."""
    with kit.folder() as root:
        (root / "baselines").mkdir()
        (root / "baselines" / "base.py").write_text(kit.SILENT)
        kit.numbers.root = Path(root)
        runner, proposer = InstantRunner(), InstantProposer()
        marks: list[tuple[float, float]] = []
        models = {"target": kit.SlowModel(0)}
        settings = kit.config(iterations=iterations)
        async with Run.create(settings, root / "runs", runner=runner, providers=models) as run:
            run.listener = lambda kind, _fields: (
                marks.append((time.perf_counter(), runner.seconds)) if kind == "round_closed" else None
            )
            await search(run, proposer)
    overhead = [(b[0] - a[0] - (b[1] - a[1])) * 1000 for a, b in itertools.pairwise(marks)]
    return sum(overhead) / len(overhead), sum(overhead[-50:]) / 50


async def main() -> None:
    await measure(10)
    few = [(await measure(50))[0] for _ in range(5)]
    many = [await measure(1000) for _ in range(3)]
    kit.report("loop, 50 iterations: ms per iteration", few, 3.0, "ms")
    kit.report("loop, 1,000 iterations: ms per iteration", [whole for whole, _ in many], 3.0, "ms")
    last = [tail for _, tail in many]
    kit.report("loop, the last 50 of 1,000 iterations", last, 3.0, "ms")
    kit.report("the same against gepa 0.1.4 at 200 iterations (32 ms)", last, 32.0, "ms")
    kit.report("the same against openevolve 0.4.0 at 1,000 (20.8 ms)", last, 20.8, "ms")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kit.report("peak memory of the process that records", [memory], 60.0, "MiB")


if __name__ == "__main__":
    anyio.run(main)
