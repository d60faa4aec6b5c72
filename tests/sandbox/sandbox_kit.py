"""What the tests of sandboxes share: one case of a harness of a few lines, evaluated as every other."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from metaharness.configuration import Budget
from metaharness.domain import Case, Domain, Objective
from metaharness.evaluation.runner import SandboxRunner
from metaharness.evaluation.session import Doors
from metaharness.evaluation.workbench import Material
from metaharness.gateway import Gateway, MemoryJournal
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers.scripted import ScriptedProvider
from metaharness.messages import ModelSpec
from metaharness.records import CaseTrace, EvaluationPlan, Limits
from metaharness.sandbox.landlock import landlock_abi
from metaharness.sandbox.protocol import Sandbox

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
needs_landlock = pytest.mark.skipif(landlock_abi() < 1, reason="this kernel has no Landlock")


class Anything:
    def grade(self, context: object) -> float:
        return 1.0


class One(Domain):
    name = "one"
    objectives = (Objective("accuracy", range=(0, 1)),)
    evaluator = Anything()


def predicting(body: str, before: str = "") -> str:
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    return f"{before}\nclass Harness:\n    def predict(self, text, model):\n{lines}"


async def inside(
    sandbox: Sandbox,
    folder: Path,
    body: str,
    *,
    before: str = "",
    told: Any = "",
    python: str | None = None,
    files: Mapping[str, str] = {},
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> CaseTrace:
    """The trace of one case, by the body of its `predict`; with further files it is a folder."""
    candidate = folder / "candidate"
    for name, text in {**files, "harness.py": predicting(body, before)}.items():
        path = candidate / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    domain = One()
    domain.python = python
    models: dict[Any, ModelSpec] = {"target": ModelSpec(provider="scripted", name="none")}
    prices = PriceTable({})
    gateway = Gateway(
        models,
        journal=MemoryJournal(),
        ledger=Ledger(Budget(), prices),
        prices=prices,
        concurrency=4,
        providers={"target": ScriptedProvider([{"text": "yes"}])},
    )
    material = Material(domain, sandbox, {"case": Case("case", told)}, list)
    plan = EvaluationPlan(
        candidate_path=str(candidate if files else candidate / "harness.py"),
        candidate_hash="",
        pairs=(("case", 0),),
        split="search",
        models=models,
        limits=limits,
        seed=0,
    )
    with anyio.fail_after(60):
        async with SandboxRunner(material).run(plan, Doors(gateway)) as traces:
            found = [trace async for trace in traces]
    return found[-1]
