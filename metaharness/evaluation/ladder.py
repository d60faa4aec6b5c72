"""What a candidate has to climb before any case is paid: size, syntax, import, interface, two smoke cases.

Between syntax and import a run asks its leak gate (`run/leaking.py`).

The smoke cases are the first two of the split. They are asked in both orders by two workers at the same time; equal
calls are joined, so the second order costs no model call. Their traces count, so they are not run again. A
difference between the orders is no reason to reject: the candidate is evaluated serially, in the run's order.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from metaharness.evaluation.advice import advised
from metaharness.evaluation.scope import Ended
from metaharness.evaluation.workbench import Workbench
from metaharness.records import CaseTrace, Rejection, Stage, now

MAX_FILES = 64
MAX_BYTES = 1 << 20
"""Bytes of all files of a candidate together."""
SMOKE_CASES = 2


@dataclass(frozen=True)
class Smoke:
    """What the rungs that run code have found."""

    rejection: Rejection | None = None
    traces: list[CaseTrace] = field(default_factory=list)
    """Of `learn` and the smoke cases, as far as they were reached."""
    order_dependent: bool = False


def check_files(files: Mapping[str, str]) -> Rejection | None:
    """The rungs that run nothing: size and syntax. None when the candidate passes."""
    if len(files) > MAX_FILES:
        return _reject("size", f"{len(files)} files; at most {MAX_FILES} are allowed")
    size = sum(len(text.encode("utf-8", "replace")) for text in files.values())
    if size > MAX_BYTES:
        return _reject("size", f"{size:,} bytes of source; at most {MAX_BYTES:,} are allowed")
    if "harness.py" not in files:
        return _reject("interface", "there is no harness.py: it is the entry of every candidate")
    for path, text in sorted(files.items()):
        if path.endswith(".py"):
            problem = _syntax_problem(path, text)
            if problem is not None:
                return _reject("syntax", problem)
    return None


def _syntax_problem(path: str, text: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as for "\\d": no reason to reject
            ast.parse(text.encode("utf-8"), filename=path)  # bytes, as a worker reads them: with a mark, with a coding
    except SyntaxError as error:
        return f"{path}, line {error.lineno}: {error.msg}"
    except (RecursionError, MemoryError):
        return f"{path} cannot be parsed: it is nested too deeply"
    except ValueError as error:
        return f"{path} cannot be parsed: {error}"
    return None


def _reject(stage: Stage, message: str, traceback: str | None = None) -> Rejection:
    return Rejection(stage=stage, message=message, traceback=traceback, time=now())


@dataclass
class _Walk:
    """One worker's way through the smoke cases, in one order."""

    rejection: Rejection | None = None
    learned: Ended | None = None
    answers: dict[str, Ended] = field(default_factory=dict)


async def climb(bench: Workbench) -> Smoke:
    """The rungs that run code, over the plan's first pairs.

    Raises:
        MetaharnessError: The model cannot be used as configured.
    """
    trial = bench.plan.pairs[0][1]
    order = [case_id for case_id, _ in bench.plan.pairs[:SMOKE_CASES]]
    forward, backward = _Walk(), _Walk()
    async with anyio.create_task_group() as group:
        group.start_soon(_walk, bench, trial, order, forward)
        group.start_soon(_walk, bench, trial, order[::-1], backward)
    bench.raise_fatal()
    if forward.rejection is not None or forward.learned is None:
        return Smoke(rejection=forward.rejection or backward.rejection)
    traces = [bench.learn_trace(trial, forward.learned)]
    traces += [await bench.trace(case_id, trial, ended) for case_id, ended in forward.answers.items()]
    return Smoke(
        rejection=_learn_rejection(forward.learned) or _smoke_rejection(traces[1:], forward),
        traces=traces,
        order_dependent=_differ(forward, backward),
    )


async def _walk(bench: Workbench, trial: int, order: list[str], walk: _Walk) -> None:
    with bench.ending():
        async with bench.open_worker() as session:
            walk.rejection = await bench.load(session)
            if walk.rejection is not None:
                return
            walk.learned = await bench.learn(session, trial)
            if walk.learned.error is not None or walk.learned.fault is not None:
                return
            for case_id in order:
                walk.answers[case_id] = await bench.ask(session, case_id, trial)
                if walk.answers[case_id].lost:
                    return


def _learn_rejection(learned: Ended) -> Rejection | None:
    if learned.error is None or learned.fault is not None:
        return None
    return _reject("learn", advised(_last_line(learned.error), learned.advice), learned.told)


def _smoke_rejection(traces: list[CaseTrace], walk: _Walk) -> Rejection | None:
    """A candidate that fails a smoke case by its own fault; a refused request counts when both are refused."""
    for trace in traces:
        if trace.status in ("harness_error", "timeout"):
            ended = walk.answers[trace.case_id]
            message = advised(_last_line(ended.error or trace.status), ended.advice)
            return _reject("smoke", message, trace.error or trace.status)
    if traces and all(trace.status == "refused" for trace in traces):
        return _reject(
            "smoke", f"the model refused every request: {_last_line(traces[0].error or '')}", traces[0].error
        )
    return None


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")[:2000]


def _differ(forward: _Walk, backward: _Walk) -> bool:
    """Whether a case was answered otherwise when it came second."""
    shared = forward.answers.keys() & backward.answers.keys()
    return any(_behaviour(forward.answers[case_id]) != _behaviour(backward.answers[case_id]) for case_id in shared)


def _behaviour(ended: Ended) -> tuple[Any, ...]:
    if ended.fault is not None:
        return ("missing",)
    return (ended.output, ended.error is None, sorted(json.dumps(call.request, sort_keys=True) for call in ended.calls))
