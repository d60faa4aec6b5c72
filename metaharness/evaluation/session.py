"""One worker with a candidate in it, seen from outside."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup
from pydantic import Field, ValidationError

from metaharness.domain import Domain
from metaharness.errors import ConfigurationError, DomainError, MetaharnessError, SandboxError
from metaharness.evaluation.advice import Facts, advice, advised
from metaharness.evaluation.scope import ERROR_CHARS, Ended, LimitError, Scope
from metaharness.messages import ModelRequest
from metaharness.records import LEARN, Attribution, Call, CallError, EvaluationPlan, Rejection
from metaharness.sandbox.protocol import (
    MOST,
    CandidateFiles,
    FrameReader,
    ProtocolError,
    Sandbox,
    SandboxProcess,
    encode,
)

OUTPUT_TAIL = 4000
MAX_TOKENS = 1_000_000_000
STACK = 8 << 20
"""Bytes of address space that a thread of a worker takes beside what the harness uses."""
START_SECONDS = 60.0
"""How long a worker may take until it is there, before it knows its candidate."""
PATIENCE = 0.25
"""Seconds that may pass after a clock has run out until that is noticed."""
LAST_WORDS_SECONDS = 0.5
"""How long to wait until a worker that closed its pipe has ended, and for what it printed last: a process that it
left behind may hold its output open."""


class ModelDoor(Protocol):
    """The way to a model: the gateway, as an evaluation sees it."""

    async def complete(self, request: ModelRequest, *, attribution: Attribution, ordinal: int, deadline: float) -> Call:
        """One call. Failures are in `Call.error`; only a configuration error is raised."""
        ...


@dataclass(frozen=True)
class Doors:
    """The ways out of the sandbox."""

    model: ModelDoor


class _Request(ModelRequest):
    """A request of a candidate: no number in it is too large to be counted with."""

    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)


class Session:
    """A worker that holds one candidate. `ask` may be called by several tasks at once: one thread each inside."""

    def __init__(self, process: SandboxProcess, plan: EvaluationPlan, doors: Doors, threads: int) -> None:
        self._process = process
        self._plan = plan
        self._threads = threads
        self._doors = doors
        self._group: TaskGroup
        self._to_send: list[bytes] = []
        self._more_to_send = anyio.Event()
        self._scopes: dict[int, Scope] = {}
        self._ready = anyio.Event()
        self._started = False
        self._loaded = anyio.Event()
        self._load_report: dict[str, Any] = {}
        self._dead = False
        self._output = b""
        self._drained = anyio.Event()
        self.lost: str | None = None
        """Why nothing can be asked any more: the worker hung, died or broke the protocol."""
        self.fatal: MetaharnessError | None = None
        """Not the candidate's doing, and no further worker would fare better: the evaluation has to stop."""

    async def run(self) -> None:
        """Take in what the worker says, and make the calls that it asks for; until it is cancelled."""
        async with anyio.create_task_group() as self._group:
            self._group.start_soon(self._write)
            self._group.start_soon(self._read)
            self._group.start_soon(self._watch)
            self._group.start_soon(self._drain)

    # -- what the evaluation calls -------------------------------------------------------------------------------

    async def load(self, domain: Domain) -> Rejection | None:
        """Import the candidate and build it; None when it stands, else the stage and why."""
        candidate = CandidateFiles.at(Path(self._plan.candidate_path))
        driver = domain.driver()
        try:
            self._process.confine(self._plan.limits.memory_mb << 20)
        except SandboxError as error:
            self.fatal = error
            return Rejection(stage="import", message=error.message)
        self._send(
            {
                "kind": "init",
                **candidate.frame(self._process.inside),
                "driver_source": driver.read_text(encoding="utf-8") if driver is not None else None,
                "limits": self._limits(),
                "stack": STACK,
                "most": MOST,
            }
        )
        self.fatal = await self._why_not_started(driver)
        if self.fatal is not None:
            return Rejection(stage="import", message=self.fatal.message)
        with anyio.move_on_after(self._plan.limits.case_seconds):
            await self._loaded.wait()
        if not self._loaded.is_set():
            seconds = self._plan.limits.case_seconds
            return Rejection(stage="import", message=f"importing the harness took longer than {seconds:g} s")
        if self.lost is not None:
            return Rejection(stage="import", message=f"while the harness was imported: {self.lost}")
        return _rejection(self._load_report, domain)

    async def learn(self, examples: list[dict[str, Any]], trial: int) -> Ended:
        """Show the harness the labelled examples."""
        frame = {"kind": "learn", "examples": examples}
        return await self._run(frame, LEARN, trial, self._plan.limits.learn_seconds)

    async def ask(self, case_id: str, case_input: Any, trial: int) -> Ended:
        """Ask one case."""
        frame = {"kind": "case", "input": case_input}
        return await self._run(frame, case_id, trial, self._plan.limits.case_seconds)

    # -- inside --------------------------------------------------------------------------------------------------

    def _limits(self) -> dict[str, int]:
        """Bytes, seconds and counts, as the worker sets them on itself."""
        limits = self._plan.limits
        return {
            "memory": (limits.memory_mb << 20) + self._threads * STACK,
            "cpu": limits.cpu_seconds,
            "file_size": limits.file_size_mb << 20,
            "open_files": limits.open_files,
            "core": 0,
            **({"processes": limits.processes} if self._process.counts_processes else {}),
        }

    async def _why_not_started(self, driver: Path | None) -> MetaharnessError | None:
        """Wait until the worker stands, before any line of the candidate runs: what fails here is not its doing."""
        with anyio.move_on_after(START_SECONDS):
            await self._ready.wait()
        if self._started:
            return None
        if self._load_report and driver is not None:
            return DomainError(f"{driver} cannot be loaded: {self._load_report.get('message')}")
        problem = self._load_report.get("message") or self.lost or f"it took longer than {START_SECONDS:g} s"
        hint = "check Domain.python (a Python 3.9 or later) or its packages, and limits.memory_mb of the domain"
        return SandboxError(f"a worker could not start: {problem}", hint=hint)

    async def _run(self, frame: dict[str, Any], case_id: str, trial: int, seconds: float) -> Ended:
        if self.lost is not None:
            return Ended(error=self.lost, lost=True)
        plan = self._plan
        attribution = Attribution(iteration=plan.iteration, partial=plan.partial, case_id=case_id, trial=trial)
        scope = Scope(attribution, seconds, self._plan.limits.calls_per_case)
        self._scopes[scope.number] = scope
        try:
            self._send({**frame, "scope": scope.number, "seed": _seed(self._plan.seed, case_id, trial)})
            return await scope.ended()
        finally:
            self._scopes.pop(scope.number, None)

    def _send(self, frame: dict[str, Any]) -> None:
        """Have a frame sent; nothing once the worker is lost, as it may never read it."""
        if self.lost is None:
            self._to_send.append(encode(frame))
            self._more_to_send.set()

    async def _write(self) -> None:
        """Send what has come, in one piece: a worker is woken once for all of it."""
        try:
            while self.lost is None:
                await self._more_to_send.wait()
                self._more_to_send = anyio.Event()
                frames, self._to_send = self._to_send, []
                await self._process.stream.send(b"".join(frames))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # it died: whoever reads from it finds out how

    async def _read(self) -> None:
        """Take in the worker's frames until it is lost."""
        frames = FrameReader()
        try:
            while self.lost is None:
                for frame in frames.feed(await self._process.stream.receive(1 << 16)):
                    self._take(frame)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._find_out()
        except ProtocolError as error:
            self._lose(f"the worker broke the protocol: {error}", timed_out=False)

    async def _find_out(self) -> None:
        """The worker closed its pipe: find out how it ended."""
        self._dead = True
        with anyio.move_on_after(LAST_WORDS_SECONDS):
            await self._drained.wait()
            while self._process.alive():  # noqa: ASYNC110 - nothing tells when a process ends
                await anyio.sleep(0.005)
        status = self._process.kill()
        words = self._output.decode("utf-8", "replace").strip()
        how = f": {self._process.ended_because}" if self._process.ended_because else _how(status)
        self._lose(f"the worker died{how}" + (f", saying:\n{words}" if words else ""), timed_out=False)

    async def _watch(self) -> None:
        """Give the worker up when a clock has run out."""
        limits = self._plan.limits
        while self.lost is None:
            # the soonest that a clock can run out: also one that stands still now, or of a case that comes meanwhile
            wait = max(PATIENCE, min(limits.case_seconds, limits.learn_seconds))
            for scope in self._scopes.values():
                left = scope.clock.left
                if not scope.clock.runs:
                    left = max(PATIENCE, left)
                elif left <= 0 and not self._dead:
                    self._lose(f"no answer within {scope.clock.limit:g} s of its own time", timed_out=True)
                    return
                wait = min(wait, left)
            await anyio.sleep(max(wait, 0.001))

    async def _drain(self) -> None:
        """Keep the end of what the process prints on its own stdout and stderr."""
        output = self._process.output
        try:
            while output is not None:
                self._output = (self._output + await output.receive(1 << 16))[-OUTPUT_TAIL:]
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        finally:
            self._drained.set()

    def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["kind"]
        if kind in ("ready", "loaded", "failed"):
            self._ready.set()
            if kind == "ready":
                self._started = True
            else:
                self._load_report = frame
                self._loaded.set()
            return
        if kind not in ("call", "done"):
            raise ProtocolError(f"a frame of the unknown kind {kind[:40]!r}")
        number = frame.get("scope")
        scope = self._scopes.get(number) if isinstance(number, int) else None
        if scope is None:
            return  # of a case that has ended: a thread left behind, or a forgery
        if kind == "done":
            del self._scopes[scope.number]
            scope.end(frame)
        elif isinstance(frame.get("id"), int):
            place = scope.calling()
            scope.in_flight[place] = self._group.start_soon(self._call, scope, frame, place)
        else:
            raise ProtocolError("a call without a number")

    async def _call(self, scope: Scope, frame: dict[str, Any], place: int) -> None:
        call: Call | None = None
        try:
            call = await self._complete(scope, place, frame.get("request"))
        except ConfigurationError as error:
            self.fatal = error
            self._lose("the model cannot be used as configured", timed_out=False)
        finally:
            scope.called(place, call)
        if call is not None:
            self._send({"kind": "answer", "scope": scope.number, "id": frame["id"], "answer": _answer(call)})

    async def _complete(self, scope: Scope, place: int, raw: Any) -> Call:
        model = self._plan.models["target"].id
        try:
            ordinal = scope.admit(place, raw)
            request = _Request.model_validate(raw)
        except LimitError as error:
            return Call(request={}, model=model, error=CallError(kind="limit", message=str(error)))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"]))
            failure = CallError(kind="refused", message=f"not a model request: {where}: {problem['msg']}")
            return Call(ordinal=ordinal, request=raw if isinstance(raw, dict) else {}, model=model, error=failure)
        deadline = self._plan.limits.call_seconds
        return await self._doors.model.complete(
            request, attribution=scope.attribution, ordinal=ordinal, deadline=deadline
        )

    def _lose(self, reason: str, *, timed_out: bool) -> None:
        if self.lost is None:
            self.lost = reason
        self._ready.set()
        self._loaded.set()
        self._to_send.clear()
        for scope in self._scopes.values():
            scope.abandon(reason, timed_out=timed_out)
        self._scopes.clear()


@asynccontextmanager
async def open_session(
    sandbox: Sandbox, plan: EvaluationPlan, doors: Doors, *, python: str | None, threads: int
) -> AsyncIterator[Session]:
    """A worker for the plan's candidate, with room for so many open cases; killed, with all it started, on leaving."""
    process = await sandbox.start(python, Path(plan.candidate_path))
    try:
        async with anyio.create_task_group() as group:
            session = Session(process, plan, doors, threads)
            running = group.start_soon(session.run)
            yield session
            running.cancel()
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


def _rejection(report: dict[str, Any], domain: Domain) -> Rejection | None:
    if report.get("kind") == "loaded":
        return None
    stage, trace = report.get("stage"), report.get("traceback")
    return Rejection(
        stage="interface" if stage == "interface" else "import",
        message=advised(str(report.get("message"))[:2000], advice(Facts.reported(report), domain)),
        traceback=trace[-ERROR_CHARS:] if isinstance(trace, str) else None,
    )


def _how(status: int | None) -> str:
    """The exit status of a worker, as a person reads it."""
    if status is None or status >= 0:
        return "" if status is None else f" (exit status {status})"
    names = {number.value: number.name for number in signal.Signals}
    return f" (killed by {names.get(-status, f'signal {-status}')})"
