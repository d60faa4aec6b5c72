"""One worker with a candidate in it, seen from outside."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio
from anyio.abc import ByteStream, TaskGroup
from pydantic import ValidationError

from metaharness.domain import Domain
from metaharness.errors import ConfigurationError, MetaharnessError
from metaharness.evaluation.scope import Ended, Scope
from metaharness.messages import ModelRequest
from metaharness.records import LEARN, Attribution, Call, CallError, EvaluationPlan, Rejection
from metaharness.sandbox.bootstrap import harness_source
from metaharness.sandbox.protocol import (
    MAX_ANSWER,
    MAX_PROMPT,
    CandidateFiles,
    FrameReader,
    ProtocolError,
    Sandbox,
    SandboxProcess,
    encode,
)

OUTPUT_TAIL = 4000
STAGES = ("import", "interface")


class ModelDoor(Protocol):
    """The way to a model: the gateway, as an evaluation sees it."""

    async def complete(self, request: ModelRequest, *, attribution: Attribution, ordinal: int, deadline: float) -> Call:
        """One call. Failures are in `Call.error`; only a configuration error is raised."""
        ...


@dataclass(frozen=True)
class Doors:
    """The ways out of the sandbox."""

    model: ModelDoor


class WorkerLostError(Exception):
    """The worker hung, died or broke the protocol while something was open in it."""

    def __init__(self, reason: str, *, timed_out: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out


class Session:
    """A worker that holds one candidate. `ask` may be called by several tasks at once: one thread each inside."""

    def __init__(self, process: SandboxProcess, plan: EvaluationPlan, doors: Doors, group: TaskGroup) -> None:
        self._process = process
        self._plan = plan
        self._doors = doors
        self._group = group
        self._writing = anyio.Lock(fast_acquire=True)
        self._scopes: dict[int, Scope] = {}
        self._numbers = 0
        self._loaded = anyio.Event()
        self._load_report: dict[str, Any] = {}
        self._output = b""
        self.lost: WorkerLostError | None = None
        self.fatal: MetaharnessError | None = None
        """A model that cannot be used as configured: the evaluation has to stop."""

    # -- what the evaluation calls -------------------------------------------------------------------------------

    async def load(self, domain: Domain) -> Rejection | None:
        """Import the candidate and build it; None when it stands, else the stage and why."""
        candidate = CandidateFiles.at(Path(self._plan.candidate_path))
        driver = domain.driver()
        await self._send(
            {
                "kind": "init",
                "folder": str(candidate.folder),
                "entry": candidate.entry,
                "importable": candidate.importable,
                "harness_source": harness_source(),
                "driver_source": driver.read_text(encoding="utf-8") if driver is not None else None,
                "limits": self._plan.limits.model_dump(),
                "prompt_limit": MAX_PROMPT,
                "answer_limit": MAX_ANSWER,
            }
        )
        with anyio.move_on_after(self._plan.limits.case_seconds):
            await self._loaded.wait()
        if not self._loaded.is_set():
            seconds = self._plan.limits.case_seconds
            return Rejection(stage="import", message=f"importing the harness took longer than {seconds:g} s")
        if self.lost is not None:
            return Rejection(stage="import", message=f"{self.lost.reason} while the harness was imported")
        return _rejection(self._load_report)

    async def learn(self, examples: list[dict[str, Any]], trial: int) -> Ended:
        """Show the harness the labelled examples. Raises WorkerLostError."""
        frame = {"kind": "learn", "examples": examples}
        return await self._run(frame, LEARN, trial, self._plan.limits.learn_seconds)

    async def ask(self, case_id: str, case_input: Any, trial: int) -> Ended:
        """Ask one case. Raises WorkerLostError."""
        frame = {"kind": "case", "input": case_input}
        return await self._run(frame, case_id, trial, self._plan.limits.case_seconds)

    # -- inside --------------------------------------------------------------------------------------------------

    async def _run(self, frame: dict[str, Any], case_id: str, trial: int, seconds: float) -> Ended:
        if self.lost is not None:
            raise self.lost
        self._numbers += 1
        attribution = Attribution(iteration=self._plan.iteration, case_id=case_id, trial=trial)
        scope = Scope(self._numbers, attribution, seconds)
        self._scopes[scope.number] = scope
        try:
            await self._send({**frame, "scope": scope.number, "seed": _seed(self._plan.seed, case_id, trial)})
            await scope.finished.wait()
        finally:
            self._scopes.pop(scope.number, None)
        if scope.result is None:
            raise self._loss()
        return scope.result

    async def _send(self, frame: dict[str, Any]) -> None:
        async with self._writing:
            try:
                await self._process.stream.send(encode(frame))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._lose("the worker died", timed_out=False)

    async def read(self) -> None:
        """Take in the worker's frames until it is lost."""
        frames = FrameReader()
        try:
            while self.lost is None:
                data = await self._process.stream.receive(1 << 16)
                for frame in frames.feed(data):
                    await self._take(frame)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._lose(f"the worker died{self._last_words()}", timed_out=False)
        except ProtocolError as error:
            self._lose(f"the worker broke the protocol: {error}", timed_out=False)

    async def watch(self) -> None:
        """End the worker when a clock has run out."""
        while self.lost is None:
            left = [remaining for scope in self._scopes.values() if (remaining := scope.clock.remaining) is not None]
            if left and min(left) <= 0:
                late = next(scope for scope in self._scopes.values() if (scope.clock.remaining or 1) <= 0)
                self._lose(f"no answer within {late.clock.limit:g} s of its own time", timed_out=True)
                return
            await anyio.sleep(min([0.25, *left]))

    async def drain(self, output: ByteStream) -> None:
        """Keep the end of what the process prints on its own stdout and stderr."""
        try:
            while True:
                self._output = (self._output + await output.receive(1 << 16))[-OUTPUT_TAIL:]
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return

    async def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["kind"]
        if kind in ("loaded", "failed"):
            self._load_report = frame
            self._loaded.set()
            return
        scope = self._scopes.get(frame.get("scope", 0))
        if scope is None:
            return  # of a case that has ended: a thread left behind, or a forgery
        if kind == "done":
            scope.end(frame)
        elif kind == "call" and isinstance(frame.get("id"), int):
            self._group.start_soon(self._call, scope, frame)
        else:
            raise ProtocolError(f"a frame of the unknown kind {kind[:40]!r}")

    async def _call(self, scope: Scope, frame: dict[str, Any]) -> None:
        number = frame["id"]
        cancel = scope.calling()
        call: Call | None = None
        with cancel:
            try:
                call = await self._complete(scope, frame.get("request"))
            except ConfigurationError as error:
                self.fatal = error
                self._lose("the model cannot be used as configured", timed_out=False)
        scope.called(number, cancel, call)
        if call is not None:
            await self._send({"kind": "answer", "scope": scope.number, "id": number, "answer": _answer(call)})

    async def _complete(self, scope: Scope, raw: Any) -> Call:
        scope.issued += 1
        limit = self._plan.limits.calls_per_case
        model = self._plan.models["target"].id
        if scope.issued > limit:
            message = f"this case has made {limit} calls, the most that the domain allows"
            return Call(request={}, model=model, error=CallError(kind="limit", message=message))
        try:
            request = ModelRequest.model_validate(raw)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"]))
            failure = CallError(kind="refused", message=f"not a model request: {where}: {problem['msg']}")
            return Call(request=raw if isinstance(raw, dict) else {}, model=model, error=failure)
        return await self._doors.model.complete(
            request,
            attribution=scope.attribution,
            ordinal=scope.ordinal(raw),
            deadline=self._plan.limits.call_seconds,
        )

    def _lose(self, reason: str, *, timed_out: bool) -> None:
        if self.lost is None:
            self.lost = WorkerLostError(reason, timed_out=timed_out)
        self._loaded.set()
        for scope in self._scopes.values():
            scope.abandon()

    def _loss(self) -> WorkerLostError:
        return self.lost or WorkerLostError("the worker is gone", timed_out=False)

    def _last_words(self) -> str:
        text = self._output.decode("utf-8", "replace").strip()
        return f", saying:\n{text}" if text else ""


@asynccontextmanager
async def open_session(
    sandbox: Sandbox, plan: EvaluationPlan, doors: Doors, *, python: str | None
) -> AsyncIterator[Session]:
    """A worker for the plan's candidate; killed, with all it started, on leaving."""
    process = await sandbox.start(python, Path(plan.candidate_path))
    try:
        async with anyio.create_task_group() as group:
            session = Session(process, plan, doors, group)
            group.start_soon(session.read)
            group.start_soon(session.watch)
            if process.output is not None:
                group.start_soon(session.drain, process.output)
            yield session
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await process.end()


def _seed(seed: int, case_id: str, trial: int) -> int:
    """The seed of `model.random`: 48 bits of a hash, the same for every candidate."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{case_id}\n{trial}".encode()).digest()[:6], "big")


def _answer(call: Call) -> dict[str, Any]:
    if call.error is not None:
        return {"error": {"kind": call.error.kind, "message": call.error.message}}
    return {"completion": call.response}


def _rejection(report: dict[str, Any]) -> Rejection | None:
    if report.get("kind") == "loaded":
        return None
    stage, trace = report.get("stage"), report.get("traceback")
    return Rejection(
        stage="interface" if stage == "interface" else "import",
        message=str(report.get("message"))[:2000],
        traceback=trace if isinstance(trace, str) else None,
    )
