"""Evaluates a plan: W workers of T threads over one queue, suspects asked again alone.

When a worker hangs, dies or breaks the protocol, the cases open in it are suspects: each is asked again alone in
a fresh worker, where its completed calls are answered from the journal, and only a case that fails alone is
charged. After three workers lost that way nothing is shared any more: every case that is left is asked alone, in
the plan's order, so that the numbers do not depend on which cases happened to be open together. Three timeouts alone
end the evaluation: what comes after the third in the plan is `skipped`, which counts as failed.

So is what comes after the plan's first pairs once each of those has failed by the candidate's own doing. It also holds
for what was answered meanwhile: how much that is depends on how many cases are asked at the same time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from metaharness.evaluation.collecting import RareCollections
from metaharness.evaluation.ladder import Smoke, climb
from metaharness.evaluation.scope import Ended
from metaharness.evaluation.session import Doors, Session
from metaharness.evaluation.workbench import Material, Workbench
from metaharness.records import SCORED_AS_WORST, CaseTrace, EvaluationPlan, Status

LOST_WORKERS = 3
"""So many shared workers may be lost before the rest is asked alone."""
TIMEOUTS_ALONE = 3
"""So many cases may time out alone before the evaluation ends."""

Traces = AbstractAsyncContextManager[MemoryObjectReceiveStream[CaseTrace]]


class CaseRunner(Protocol):
    """Evaluates plans. It writes nothing: it yields traces to the process that owns the run."""

    sandbox_name: str
    """As recorded in the scores."""

    async def smoke(self, plan: EvaluationPlan, doors: Doors) -> Smoke:
        """Load the candidate and ask the plan's cases in both orders: the part of the ladder that runs code."""
        ...

    def run(self, plan: EvaluationPlan, doors: Doors) -> Traces:
        """Evaluate the plan's pairs. Traces come in the order in which the cases end.

        Pairs that were not reached (a stop, a lost connection to a cluster) yield nothing: they stay planned.
        """
        ...


def hopeless(plan: EvaluationPlan) -> bool:
    """Whether the pairs that decide have all failed before, and others are still to be skipped for it."""
    return plan.fail_fast is not None and plan.fail_fast[1] != () and plan.fail_fast[0] == ()


class _FailFast:
    """Watches the first pairs of an evaluation fail."""

    def __init__(self, plan: EvaluationPlan) -> None:
        first, rest = plan.fail_fast or ((), ())
        self._to_fail = set(first)
        self._rest = dict.fromkeys(rest)

    def take(self, trace: CaseTrace) -> None:
        """A case that was asked has ended. One that is `ok` or missing is never taken out, so the rule never holds."""
        if trace.status in SCORED_AS_WORST:
            self._to_fail.discard((trace.case_id, trace.trial))

    @property
    def skipped(self) -> Collection[tuple[str, int]]:
        """What is not asked any more, in order; nothing while a first pair has not failed."""
        return () if self._to_fail else self._rest.keys()


class SandboxRunner:
    """Evaluates on this machine, in workers of one sandbox."""

    def __init__(self, material: Material) -> None:
        self.sandbox_name = material.sandbox.name
        self._material = material
        self._running = 0

    def _cores(self) -> int:
        """The share of this machine that one of the evaluations in progress may take: at least one core."""
        return max(1, (os.cpu_count() or 1) // self._running)

    async def smoke(self, plan: EvaluationPlan, doors: Doors) -> Smoke:
        """See `CaseRunner.smoke`."""
        return await climb(Workbench(self._material, plan, doors))

    @asynccontextmanager
    async def run(self, plan: EvaluationPlan, doors: Doors) -> AsyncIterator[MemoryObjectReceiveStream[CaseTrace]]:
        """See `CaseRunner.run`."""
        send, receive = anyio.create_memory_object_stream[CaseTrace](64)
        bench = Workbench(self._material, plan, doors)
        self._running += 1
        try:
            with RareCollections(), bench.ending():
                async with receive, anyio.create_task_group() as group:
                    asking = group.start_soon(_all_trials, bench, send, self._cores)
                    yield receive
                    asking.cancel()
        finally:
            self._running -= 1
        bench.raise_fatal()


async def _all_trials(bench: Workbench, out: MemoryObjectSendStream[CaseTrace], cores: Callable[[], int]) -> None:
    """Every trial by itself: fresh workers, `learn`, the trial's number in the seed."""
    fail_fast = _FailFast(bench.plan)
    async with out:
        for trial in sorted({trial for _, trial in bench.plan.pairs}):
            pairs = [case_id for case_id, of in bench.plan.pairs if of == trial]
            if not bench.stopped:
                await _Trial(bench, trial, pairs, out, fail_fast).run(cores())
        if not bench.stopped:
            for case_id, trial in fail_fast.skipped:
                reason = "every one of the first cases failed, so the others were not asked"
                await out.send(bench.unasked(case_id, trial, "skipped", reason))


class _Trial:
    """The pairs of one trial."""

    def __init__(
        self,
        bench: Workbench,
        trial: int,
        case_ids: list[str],
        out: MemoryObjectSendStream[CaseTrace],
        fail_fast: _FailFast,
    ) -> None:
        self.bench = bench
        self.trial = trial
        self.queue = deque(case_ids)
        self.suspects: deque[str] = deque()
        self.out = out
        self.fail_fast = fail_fast
        self.order = {case_id: place for place, case_id in enumerate(case_ids)}
        self.lost = 0
        self.hung: list[str] = []
        """Cases that have timed out alone."""
        self.learned: Ended | None = None
        self.learned_more = False

    async def run(self, cores: int) -> None:
        """Lanes first, then the suspects one by one, then what could not be asked."""
        self._leave_out()
        workers, threads = _shape(self.bench.plan, len(self.queue), cores)
        async with anyio.create_task_group() as group:
            for _ in range(workers):
                group.start_soon(self._lane, threads)
        if self.learned is not None and self.learned_more:
            await self._tell(self.bench.learn_trace(self.trial, self.learned))
        self.suspects = deque(sorted([*self.suspects, *self.queue], key=self.order.__getitem__))
        self.queue.clear()
        self._leave_out()
        while self.suspects and not self.bench.stopped and len(self.hung) < TIMEOUTS_ALONE:
            await self._alone()
        if len(self.hung) >= TIMEOUTS_ALONE and not self.bench.stopped:
            await self._skip_after(self.hung[-1])

    @property
    def _over(self) -> bool:
        """Whether the lanes end."""
        return self.lost >= LOST_WORKERS or self.bench.stopped

    async def _lane(self, threads: int) -> None:
        """One worker after another, until the queue is empty."""
        while self.queue and not self._over:
            with self.bench.ending():
                async with self.bench.open_worker(threads) as session:
                    if not await self._prepare(session):
                        return
                    async with anyio.create_task_group() as group:
                        for _ in range(min(threads, len(self.queue))):
                            group.start_soon(self._ask_from_queue, session)
                    self.lost += session.lost is not None and session.fatal is None

    async def _prepare(self, session: Session) -> bool:
        """Whether the worker can be asked. Where the candidate itself fails here, every pair has failed."""
        rejection = await self.bench.load(session)
        if self.bench.fatal is not None:
            return False
        if rejection is not None:
            await self._give_up("harness_error", rejection.traceback or rejection.message)
            return False
        return await self._taught(await self.bench.learn(session, self.trial))

    async def _taught(self, learned: Ended) -> bool:
        """Whether it has learned. The first `learn` is told at once, with what an online one adds at the end."""
        if self.bench.fatal is not None:
            return False
        trace = self.bench.learn_trace(self.trial, learned)
        if self.learned is None:
            self.learned = learned
            await self._tell(trace)
        if trace.status != "ok":
            await self._give_up(trace.status, trace.error or "a model call of learn failed")
        return trace.status == "ok"

    async def _ask_from_queue(self, session: Session) -> None:
        while self.queue and session.lost is None and not self._over:
            case_id = self.queue.popleft()
            ended = await self.bench.ask(session, case_id, self.trial)
            if ended.lost:
                self.suspects.append(case_id)
                return
            await self._ended(await self.bench.trace(case_id, self.trial, ended))
            if self.bench.material.domain.online and not await self._learn_from(session, case_id):
                return

    async def _learn_from(self, session: Session, case_id: str) -> bool:
        """Tell an online harness the answer of a case; whether it has learned from it."""
        learned = await self.bench.learn_from(session, case_id, self.trial)
        if self.learned is not None and (learned.calls or learned.error is not None):
            self.learned, self.learned_more = self.learned.followed_by(learned), True
        return await self._taught(learned)

    async def _alone(self) -> None:
        """Ask the first suspect in a worker of its own."""
        with self.bench.ending():
            async with self.bench.open_worker() as session:
                if not await self._prepare(session):
                    return
                case_id = self.suspects.popleft()
                ended = await self.bench.ask(session, case_id, self.trial)
                if self.bench.fatal is not None:
                    return
                trace = await self.bench.trace(case_id, self.trial, ended)
                if trace.status == "timeout":
                    self.hung.append(case_id)
                await self._ended(trace)

    async def _ended(self, trace: CaseTrace) -> None:
        """A case that was asked has ended."""
        self.fail_fast.take(trace)
        self._leave_out()
        await self._tell(trace)

    async def _tell(self, trace: CaseTrace) -> None:
        """Hand a trace over; wait only where those before it have not been taken."""
        try:
            self.out.send_nowait(trace)
        except anyio.WouldBlock:
            await self.out.send(trace)

    def _leave_out(self) -> None:
        """Ask nothing that is to be skipped."""
        skipped = self.fail_fast.skipped
        for waiting in (self.queue, self.suspects) if skipped else ():
            kept = [case_id for case_id in waiting if (case_id, self.trial) not in skipped]
            waiting.clear()
            waiting.extend(kept)

    async def _skip_after(self, last: str) -> None:
        """Skip what comes after a case in the plan, also what was answered: it must not matter what was asked first."""
        for case_id, place in self.order.items():
            if place > self.order[last]:
                reason = f"{len(self.hung)} cases before it hung, each alone"
                await self._tell(self.bench.unasked(case_id, self.trial, "skipped", reason))

    async def _give_up(self, status: Status, reason: str) -> None:
        """Give every pair that has not been asked the same end."""
        for waiting in (self.queue, self.suspects):
            while waiting:
                await self._tell(self.bench.unasked(waiting.popleft(), self.trial, status, reason))


def _shape(plan: EvaluationPlan, pairs: int, cores: int) -> tuple[int, int]:
    """How many workers, and how many threads in each: as many workers as cores, the concurrency shared out."""
    if plan.serial or pairs == 0:
        return min(pairs, 1), 1
    workers = max(1, min(cores, plan.concurrency, pairs))
    return workers, -(-plan.concurrency // workers)
