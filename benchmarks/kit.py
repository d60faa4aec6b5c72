"""What the benchmarks share: a toy domain, a model that takes a fixed time, and a line per figure.

A figure is printed as a ratio to its limit: below 1.00 it is met. Machines differ and are noisy, so nothing here is
a test; the medians of several repetitions are shown with the best and the worst.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio

from metaharness.configuration import RunConfig
from metaharness.domain import Case, Domain, GradeContext, Objective, Split
from metaharness.messages import Completion, ModelRequest, ModelSpec

ASKING = """
class Harness:
    def learn(self, examples, model):
        self.examples = len(examples)

    def predict(self, text, model):
        return model.complete("Is this number even or odd? " + text).text
"""

SILENT = """
class Harness:
    def predict(self, text, model):
        return "even"
"""


class Parity:
    """Exact match."""

    in_place = True

    def grade(self, context: GradeContext) -> bool:
        """Whether the answer is the expected one."""
        return bool(context.output == context.case.expected)


class Numbers(Domain):
    """A domain that costs nothing to load."""

    name = "numbers"
    objectives = (Objective("accuracy", range=(0, 1)), Objective("context_chars", "min"))
    evaluator = Parity()
    cases_per_split = 50

    def cases(self, split: Split) -> Iterator[Case]:
        """Numbers as text."""
        for number in range(self.cases_per_split):
            yield Case(f"{split.value}-{number}", f"{split.value} {number}", "odd" if number % 2 else "even")


class Many(Numbers):
    """The same with many cases."""

    cases_per_split = 2000


numbers = Numbers()
many = Many()


class SlowModel:
    """Answers the same after a fixed time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        """Wait, then answer."""
        del request, deadline
        await anyio.sleep(self.seconds)
        return Completion(text="even")

    async def aclose(self) -> None:
        """Nothing to close."""


def config(domain: str = "kit:numbers", **chosen: object) -> RunConfig:
    """A configuration over the toy domain."""
    fields: dict[str, object] = {"models": {"target": ModelSpec(provider="scripted", name="none")}, **chosen}
    return RunConfig.model_validate({"domain": domain, **fields})


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="metaharness-benchmark-") as path:
        yield Path(path)


def report(name: str, values: Sequence[float], limit: float, unit: str) -> None:
    """One figure: median, best and worst, and the ratio of the median to its limit."""
    middle = statistics.median(values)
    print(
        f"{name:<58} {middle:9.4f} {unit:<4} (best {min(values):.4f}, worst {max(values):.4f})"
        f"   limit {limit:g}   ratio {middle / limit:.2f}"
    )
