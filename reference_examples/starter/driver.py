"""Drives a harness inside the sandbox: Python 3.9, the standard library and `metaharness.harness`, this one file.

Here a harness is a function from a text to a label. Where yours is something else (a dialogue, a plan, a tool that is
called), this is what changes, together with DOMAIN.md, which tells a proposer about it.
"""

from __future__ import annotations

from typing import Any

from metaharness.harness import LabeledExample, Model


def check(module: Any) -> str | None:
    """What is wrong with a candidate's module, as a sentence; None when nothing is. Runs before any model call."""
    # Ask for what `ask` below calls. `learn` is not asked for: it is optional.
    if not callable(getattr(getattr(module, "Harness", None), "predict", None)):
        return "harness.py defines no class Harness with a method predict(self, text, model)"
    return None


def build(module: Any) -> Any:
    """The harness of a worker. What it needs to know beforehand is passed here, such as Harness(depth=3)."""
    return module.Harness()


def learn(harness: Any, examples: list[dict[str, Any]], model: Model) -> Any:
    """Teach the harness the cases of `train`, once per worker. What is returned may be awaitable."""
    # Where `input` and `expected` are not a text and a label, pass the examples on as they are.
    if hasattr(harness, "learn"):
        return harness.learn([LabeledExample(one["input"], one["expected"]) for one in examples], model)
    return None


def ask(harness: Any, case_input: Any, model: Model) -> Any:
    """The harness's answer to one case: any JSON value, which the evaluator grades. It may be awaitable."""
    # Where a case takes several steps, the loop over them stands here, so that no harness can change its rules.
    return harness.predict(case_input, model)
