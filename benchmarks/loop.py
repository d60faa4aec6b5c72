"""What the search costs beyond proposing and evaluating: milliseconds per iteration, durable, and memory.

Candidates are proposed and evaluated by stand-ins that answer at once. Every iteration is written as in a real run: its
files, proposal.json and score.json (fsynced), 50 trace lines, events, summaries. The first figures leave out what is
spent in the ladder and in evaluating (traces and score are written there); the later ones hold everything but the
stand-ins' own time, as the figures of the peers do (measured on 2 cores, with 50 cases and a run directory).

    uv run python benchmarks/loop.py
"""

from __future__ import annotations

import itertools
import resource
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import kit
from anyio.streams.memory import MemoryObjectReceiveStream

from metaharness.evaluation.ladder import Smoke
from metaharness.evaluation.session import Doors
from metaharness.gateway.providers import Provider
from metaharness.records import CaseTrace, EvaluationPlan, GradeRecord, Proposal, Role
from metaharness.run import Round, Run
from metaharness.run.recorder import Recorder
from metaharness.scoring.scoreboard import Iteration
from metaharness.search import search

GEPA_AT_200 = 32.2
"""Milliseconds per iteration of gepa 0.1.4, the last 10 of 200; 9.8 at the first 10."""
OPENEVOLVE_AT_1000 = 20.8
"""Milliseconds per iteration of openevolve 0.4.0 over 1,000; 3.4 over 50. It evaluates without cases."""


@dataclass(frozen=True)
class Figures:
    """Milliseconds of every iteration of one search."""

    loop: list[float]
    """Beyond the ladder, evaluating and proposing."""
    whole: list[float]
    """Beyond the stand-ins."""

    def loop_mean(self, first: int = 0) -> float:
        """The mean from an iteration on."""
        return statistics.fmean(self.loop[first:])

    def whole_mean(self, first: int = 0) -> float:
        """The mean from an iteration on."""
        return statistics.fmean(self.whole[first:])


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

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """One candidate per open slot."""
        for slot in round_.open_slots:
            yield Proposal(files={"harness.py": f"{kit.SILENT}# {round_.number} {slot}\n"}, hypothesis="none")


class Stopwatch:
    """Adds up the seconds spent in an async method of the recorder: taking a candidate up the ladder, evaluating it."""

    def __init__(self, recorder: Recorder) -> None:
        self.seconds = 0.0
        for name in ("climb", "evaluate"):
            setattr(recorder, name, self.timed(getattr(recorder, name)))

    def timed(self, method: Callable[..., Awaitable[Iteration]]) -> Callable[..., Awaitable[Iteration]]:
        """The method, timed."""

        async def wrapped(*arguments: object) -> Iteration:
            started = time.perf_counter()
            try:
                return await method(*arguments)
            finally:
                self.seconds += time.perf_counter() - started

        return wrapped


async def measure(iterations: int) -> Figures:
    """Run a search of so many iterations."""
    with kit.folder() as root:
        (root / "baselines").mkdir()
        (root / "baselines" / "base.py").write_text(kit.SILENT)
        kit.numbers.root = Path(root)
        runner = InstantRunner()
        marks: list[tuple[float, float, float]] = []
        models: dict[Role, Provider] = {"target": kit.SlowModel(0)}
        settings = kit.config(iterations=iterations)
        async with Run.create(settings, root / "runs", runner=runner, providers=models) as run:
            watch = Stopwatch(run.recorder)

            def mark(kind: str, _fields: object) -> None:
                if kind == "round_closed":
                    marks.append((time.perf_counter(), watch.seconds, runner.seconds))

            run.listener = mark
            await search(run, InstantProposer())
    loop, whole = [], []
    for before, after in itertools.pairwise(marks):
        elapsed, evaluating, instant = (b - a for a, b in zip(before, after, strict=True))
        loop.append((elapsed - evaluating) * 1000)
        whole.append((elapsed - instant) * 1000)
    return Figures(loop, whole)


async def main() -> None:
    await measure(10)
    few = [await measure(50) for _ in range(5)]
    many = [await measure(1000) for _ in range(3)]
    kit.report("loop beyond proposing and evaluating, 50 iterations", [one.loop_mean() for one in few], 3.0, "ms")
    kit.report("the same, 1,000 iterations", [one.loop_mean() for one in many], 3.0, "ms")
    kit.report("the same, the last 50 of 1,000", [one.loop_mean(-50) for one in many], 3.0, "ms")
    last = [one.whole_mean(-50) for one in many]
    kit.report("all of an iteration of 50 instant cases, last 50 of 1,000", last, GEPA_AT_200, "ms")
    kit.report("  the same against openevolve 0.4.0 at 1,000", last, OPENEVOLVE_AT_1000, "ms")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kit.report("peak memory of the process that records", [memory], 60.0, "MiB")


if __name__ == "__main__":
    anyio.run(main)
