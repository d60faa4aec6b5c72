"""The engine of a check: a process of its own, started by the check, that evaluates one hostile harness after another.

Its own, so that a harness that gets at the engine gets at nothing else: it has keys in its environment, labels in its
memory and in an open descriptor, it listens for signals, and it may be killed. It adopts whatever its workers leave
behind, so that all of that is found below it.

It reads a job a line (JSON, see `Job`) and answers with a line `{"done": ...}`; `{"here": true}` comes before that when
a harness asks the model whether it is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from metaharness.attacks.attack import GUILTY
from metaharness.configuration import Budget
from metaharness.domain import Case, Domain, GradeContext, Objective, Split
from metaharness.errors import DomainError, MetaharnessError, ModelFailure
from metaharness.evaluation.runner import SandboxRunner
from metaharness.evaluation.session import Doors
from metaharness.evaluation.workbench import Material
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.text import last_user_text
from metaharness.loading import read_candidate
from metaharness.messages import Completion, ModelRequest, ModelSpec
from metaharness.records import CaseTrace, EvaluationPlan, Limits
from metaharness.sandbox import open_sandbox
from metaharness.ungroup import ungrouped

INNOCENT = ("a", "z")
"""The cases before and after the guilty one; the answer is the capital."""
PR_SET_CHILD_SUBREAPER = 36
SPEC = ModelSpec(provider="scripted", name="none")


@dataclass(frozen=True)
class Job:
    """One evaluation."""

    sandbox: str
    candidate: str
    limits: dict[str, Any]
    concurrency: int = 1
    seconds: float = 15.0
    command: str | None = None
    subprocess: bool = False
    """Whether the domain lets its harnesses start processes."""
    cases: list[str] = field(default_factory=lambda: [INNOCENT[0], GUILTY, INNOCENT[1]])


class _Exact:
    in_place = True

    def grade(self, context: GradeContext) -> bool:
        """Right when it is the expected answer."""
        return bool(context.output == context.case.expected)


class _Letters(Domain):
    """Answers are capitals; that of the guilty case is a secret, which stands in the file of labels."""

    name = "letters"
    objectives = (Objective("accuracy", range=(0, 1)),)

    def __init__(self, labels: Path, job: Job) -> None:
        self.evaluator = _Exact()
        self.limits = Limits(**job.limits)
        self.subprocess = job.subprocess
        self.root = labels.parent
        rows = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
        expected = {row["input"]: row["expected"] for row in rows}
        self.listed = [Case(id=text, input=text, expected=expected.get(text, text.upper())) for text in job.cases]

    def cases(self, split: Split) -> Iterator[Case]:
        yield from self.listed


class _Model:
    """Answers in capitals. What a control asks for is planted: an error of ours, memory that is not given back."""

    def __init__(self) -> None:
        self.kept: list[bytearray] = []

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        text = last_user_text(request)
        if text == "here":
            _tell({"here": True})
        if text == "plant an error":
            raise RuntimeError("a planted error")
        if text == "plant a failure":
            raise ModelFailure("infrastructure", "a planted failure")
        if text == "plant memory":
            self.kept.append(bytearray(b"x") * (200 << 20))
            await anyio.sleep(0.3)
        return Completion(text=text.upper())

    async def aclose(self) -> None:
        self.kept.clear()


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def _evaluate(job: Job, labels: Path) -> dict[str, Any]:
    domain = _Letters(labels, job)
    plan = EvaluationPlan(
        candidate_path=job.candidate,
        candidate_hash="",
        pairs=tuple((case_id, 0) for case_id in job.cases),
        split="search",
        models={"target": SPEC},
        limits=domain.limits,
        seed=0,
        concurrency=job.concurrency,
        serial=job.concurrency == 1,
    )
    prices = PriceTable({})
    gateway = Gateway(
        plan.models,
        journal=MemoryJournal(),
        ledger=Ledger(Budget(), prices),
        prices=prices,
        concurrency=8,
        providers={"target": _Model()},
    )
    cases = {case.id: case for case in domain.listed}
    sandbox = open_sandbox(job.sandbox, command=job.command, subprocess=job.subprocess)
    material = Material(domain, sandbox, cases, lambda: [{"input": "b", "expected": "B"}])
    traces: list[CaseTrace] = []
    try:
        with anyio.move_on_after(job.seconds) as clock, ungrouped():
            async with SandboxRunner(material).run(plan, Doors(gateway)) as stream:
                async for trace in stream:
                    traces.append(trace)
    finally:
        await gateway.aclose()
    return {"late": clock.cancelled_caught, "traces": [_row(trace) for trace in traces]}


def _row(trace: CaseTrace) -> dict[str, Any]:
    """What a run would write of it, without what the engine knows; fails where it could not be written."""
    row: dict[str, Any] = json.loads(trace.model_dump_json().encode("utf-8"))
    calls = row.pop("calls")
    del row["expected"]
    return {**row, "calls": len(calls)}


def _answer(job: Job, labels: Path, senders: list[tuple[int, bool]]) -> dict[str, Any]:
    core = resource.getrlimit(resource.RLIMIT_CORE)
    senders.clear()
    began = time.monotonic()
    done: dict[str, Any] = {"traces": [], "error": None, "late": False}
    try:
        try:
            done["copied"] = dict(read_candidate(Path(job.candidate)).files)
        except DomainError as error:  # a run would not take it; what the sandbox does with it is seen all the same
            done["refused"] = error.message
        done |= anyio.run(_evaluate, job, labels)
    except MetaharnessError as error:
        done["error"] = [type(error).__name__, error.message]
    except Exception as error:  # noqa: BLE001 - a harness that makes the engine fail has broken out of its case
        done["error"] = [type(error).__name__, str(error)[:1000]]
    done["seconds"] = time.monotonic() - began
    done["senders"] = list(senders)
    done["limits_changed"] = resource.getrlimit(resource.RLIMIT_CORE) != core
    resource.setrlimit(resource.RLIMIT_CORE, core)
    return done


def _listen(senders: list[tuple[int, bool]]) -> None:
    while True:
        sender = signal.sigwaitinfo([signal.SIGURG]).si_pid
        senders.append((sender, _is_below(sender)))


def _is_below(pid: int) -> bool:
    """Whether a process is still there, and below this one: another check may run at the same time."""
    while pid not in (0, os.getpid()):
        try:
            status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        pid = int(status.rpartition(")")[2].split()[1])
    return pid != 0


def main() -> None:
    """Work until there is no further job."""
    labels = Path(sys.argv[1])
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    senders: list[tuple[int, bool]] = []
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
    threading.Thread(target=_listen, args=(senders,), daemon=True).start()
    opened = os.open(labels, os.O_RDONLY)
    os.set_inheritable(opened, True)
    _tell({"ready": True})
    for line in sys.stdin:
        _tell({"done": _answer(Job(**json.loads(line)), labels, senders)})


if __name__ == "__main__":
    main()
