"""Candidate code, really run: a harness of a few lines in a real worker, asking `embedded:icl` through the gateway."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import anyio

from metaharness.configuration import RunConfig
from metaharness.doctor.findings import Finding
from metaharness.domain import REQUIREMENTS, Case, Domain, GradeContext, Objective, Split
from metaharness.machine.advising import Machine, best_command, look
from metaharness.messages import ModelSpec
from metaharness.run.standalone import Evaluation, evaluate_harness
from metaharness.sandbox.choosing import CONTAINED, Tried, tried, way_out
from metaharness.sandbox.environments import INSTALL_UV, elsewhere, environments_folder, find_uv, unsafe

HARNESS = """
class Harness:
    def predict(self, text, model):
        return model.complete(f"Labels: praise, complaint\\n\\nText: {text}\\nLabel:", max_tokens=16).text.strip()
"""
BEST = next(iter(CONTAINED))
UNCONTAINED = "process"
UNKNOWN = "no file here says what forbids it: see its own words; what `--sandbox auto` takes instead contains as well"
NO_UV = f"uv is not here; a domain with {REQUIREMENTS} needs it: {INSTALL_UV}"
NOTHING_HOLDS = "nothing here contains candidate code, so `--sandbox auto` refuses"


class _Exact:
    in_place = True

    def grade(self, context: GradeContext) -> bool:
        return bool(context.output == context.case.expected)


class Probe(Domain):
    """Two cases, to be answered by any model."""

    name = "doctor"
    objectives = (Objective("accuracy", range=(0.0, 1.0)),)
    evaluator = _Exact()

    def cases(self, split: Split) -> Iterable[Case]:
        """The same two for every split."""
        return [Case(id=label, input=f"this is {label}", expected=label) for label in ("praise", "complaint")]


def workers() -> Iterator[Finding]:
    """What contains candidate code here, whether workers start and answer in it, and how soon."""
    found = tried(None)
    holding = [one.name for one in found if one.problem is None]
    yield from contained(found, look())
    yield environments(find_uv(), environments_folder())
    yield _worked_in(holding[0] if holding else UNCONTAINED)


def environments(uv: Path | None, folder: Path) -> Finding:
    """Whether what a domain's harnesses may import can be installed, and where that is kept.

    Args:
        uv: The program; None where there is none, which matters to few domains.
        folder: Where environments are kept; it need not be there.
    """
    problem = unsafe(folder)
    if problem is not None:
        return Finding("sandbox", "environments", "warning", f"{folder} is not used: {problem}", elsewhere())
    kept = len(list(folder.glob("*.json"))) if folder.is_dir() else 0
    found = f"{kept} in {folder}; " + (f"{uv} installs what {REQUIREMENTS} says" if uv is not None else NO_UV)
    return Finding("sandbox", "environments", "ok", found)


def contained(found: Sequence[Tried], machine: Machine) -> Iterator[Finding]:
    """Which sandbox `auto` takes, why the stronger ones were passed over, and what makes the strongest work.

    Args:
        found: What was tried, the strongest first.
        machine: What decides the advice.
    """
    passed: list[str] = []
    for one in found:
        if one.problem is None:
            why = f", since {' and '.join(passed)} cannot be used" if passed else ""
            yield Finding("sandbox", one.name, "ok", f"contains candidate code; `--sandbox auto` takes it{why}")
            return
        passed.append(one.name)
        advice = (best_command(machine) or UNKNOWN) if one.name == strongest(machine) else None
        yield Finding("sandbox", one.name, "warning" if advice else "ok", f"cannot be used: {one.problem}", advice)
    yield Finding("sandbox", "auto", "problem", NOTHING_HOLDS, way_out(machine))


def strongest(machine: Machine) -> str:
    """The sandbox that this platform could have at best."""
    return "sandbox-exec" if machine.platform == "darwin" else BEST


def _worked_in(sandbox: str) -> Finding:
    begun = time.perf_counter()
    answered: list[float] = []
    with tempfile.TemporaryDirectory(prefix="metaharness-doctor-") as folder:
        harness = Path(folder) / "harness.py"
        harness.write_text(HARNESS, encoding="utf-8")
        result = anyio.run(_evaluate, harness, sandbox, answered)
    return _worked(result, [1000 * (moment - begun) for moment in answered])


async def _evaluate(harness: Path, sandbox: str, answered: list[float]) -> Evaluation:
    config = RunConfig(
        domain=f"{__name__}:{Probe.__name__}",
        models={"target": ModelSpec(provider="embedded", name="icl")},
        sandbox=sandbox,
    )
    return await evaluate_harness(harness, config, listen=lambda _trace: answered.append(time.perf_counter()))


def _worked(result: Evaluation, milliseconds: list[float]) -> Finding:
    advice = "send what stands here to the people who maintain metaharness: a harness that is sound was not evaluated"
    if result.rejection is not None:
        found = f"the probe was rejected at {result.rejection.stage}: {result.rejection.message}"
        return Finding("sandbox", "worker", "problem", found, advice)
    failed = [trace for trace in result.traces.values() if trace.status != "ok"]
    if failed:
        found = f"a case of the probe ended as {failed[0].status}: {failed[0].error}"
        return Finding("sandbox", "worker", "problem", found, advice)
    found = f"works: first answer {milliseconds[0]:.0f} ms after the start, {len(result.traces)} cases scored"
    return Finding("sandbox", "worker", "ok", found)
