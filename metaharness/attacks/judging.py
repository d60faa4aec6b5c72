"""What an attack has achieved, judged by what is seen from outside; its own word is one kind of evidence more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from metaharness.attacks.attack import GUILTY, Attack

MORE_MEMORY_MB = 160
"""What a worker may take beyond its limit: the interpreter, stacks, and what the sandbox itself runs."""


@dataclass
class Seen:
    """What was seen while an attack ran, and after it."""

    done: dict[str, Any] | None = None
    """The answer of the engine; None when it died."""
    killed: bool = False
    """The engine was killed by the check."""
    received: list[str] = field(default_factory=list)
    served: str = ""
    files: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    signals: int = 0
    """Signals that the engine got from what was below it, or from nobody that can be told."""
    left: int = 0
    most_processes: int = 0
    most_memory: int = 0
    growth: int = 0
    shared: int = 0

    @property
    def traces(self) -> dict[str, dict[str, Any]]:
        """The trace of each case."""
        return {trace["case_id"]: trace for trace in (self.done or {}).get("traces", [])}


def breaches(
    attack: Attack, seen: Seen, secrets: dict[str, str], expected: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Every kind of evidence that the attack worked, with what was seen. Nothing: it is contained.

    Args:
        attack: What was tried.
        seen: What was seen.
        secrets: What must not come out, by what it is.
        expected: The answers that are right, by case.
    """
    yield from _outside(attack, seen)
    if seen.done is None:
        if not seen.killed:
            yield "engine", "the engine died"
        return
    yield from _engine(attack, seen, seen.done)
    for what, secret in secrets.items():
        if secret in repr(seen.done["traces"]) + repr(seen.done["error"]):
            yield "told", f"{what} came out"
        if secret in repr(seen.done.get("copied")):
            yield "copied", f"the engine took {what} for a file of the candidate"
    said = _said(seen)
    if said.startswith("breached"):
        yield "said", said
    if said.startswith("untried"):
        yield "untried", f"the attack itself is broken: {said}"
    yield from _cases(attack, seen, expected)


def _outside(attack: Attack, seen: Seen) -> Iterator[tuple[str, str]]:
    for what in seen.received[:2]:
        yield "reached", f"somebody reached {what}"
    if seen.served:
        yield "served", f"its server said {seen.served!r}"
    if seen.files:
        yield "file", f"{len(seen.files)} files appeared, such as {seen.files[0]}"
    if seen.changed:
        yield "changed", f"{', '.join(seen.changed[:3])} changed"
    if seen.left:
        yield ("survived" if seen.killed else "left"), f"{seen.left} processes were left"
    if seen.most_processes > attack.most_processes:
        yield "processes", f"{seen.most_processes} processes at once"
    if seen.most_memory > (attack.limits.memory_mb + MORE_MEMORY_MB) << 20:
        yield "memory", f"{seen.most_memory >> 20} MB of memory; {attack.limits.memory_mb} MB were allowed"
    if seen.growth > attack.engine_mb << 20:
        yield "engine memory", f"the engine grew by {seen.growth >> 20} MB"
    if seen.shared:
        yield "shared", f"{seen.shared} pieces of shared memory exist"


def _engine(attack: Attack, seen: Seen, done: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if done["error"] is not None:
        yield "engine", "the engine failed: " + ": ".join(done["error"])
    if seen.signals:
        yield "signal", f"the engine got {seen.signals} signals"
    if done["limits_changed"]:
        yield "limit", "the limits of the engine changed"
    if done["late"] or done["seconds"] > attack.most_seconds:
        yield "slow", f"the evaluation took {done['seconds']:.1f} s"


def _cases(attack: Attack, seen: Seen, expected: dict[str, str]) -> Iterator[tuple[str, str]]:
    traces = seen.traces
    for case_id, right in expected.items():
        trace = traces.get(case_id)
        if trace is None:
            if seen.done is not None and seen.done["error"] is None and not seen.done["late"]:
                yield "case", f"case {case_id} has no trace"
            continue
        grades = [grade["value"] for grade in trace["grades"]]
        if grades not in ([], [float(trace["output"] == right)]) or (case_id == GUILTY and grades == [1.0]):
            yield "grade", f"case {case_id} was graded {grades}"
        if trace["status"] not in ("ok", "harness_error", "timeout", "skipped", "refused"):
            yield "absent", f"case {case_id} counts as {trace['status']}"
        if trace["calls"] > attack.limits.calls_per_case + 1:
            yield "calls", f"case {case_id} has {trace['calls']} calls"
        if case_id != GUILTY and not attack.all_fail and grades != [1.0]:
            problem = str(trace["error"] or trace["output"])[-200:]
            yield "innocent", f"the innocent case {case_id} was harmed: {trace['status']}: {problem}"


def _said(seen: Seen) -> str:
    return str(seen.traces.get(GUILTY, {}).get("output") or "")[:300]


def how_it_ended(seen: Seen) -> str:
    """How a contained attack was stopped, as far as the worker or the engine tells."""
    if seen.done is None:
        return "nothing outlived the engine"
    trace = seen.traces.get(GUILTY) or next(iter(seen.traces.values()), {})
    said = _said(seen)
    lines = str(trace.get("error") or "").strip().splitlines()
    return said or f"{trace.get('status')}: {lines[-1] if lines else ''}"[:300]
