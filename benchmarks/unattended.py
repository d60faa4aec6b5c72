"""An unattended run beside gepa and openevolve: what a candidate costs when model and evaluator answer at once.

20 rounds of 3 candidates with the proposer `chat`, whose model is a stand-in that writes a new harness at once. First
without workers: what the engine adds to a candidate (prompt, parsing, files, journal, traces of 50 cases, verdicts)
beyond the stand-ins' own time, at the beginning and at the end. Then whole, with candidates in processes in the
strongest sandbox that works here. The peers get as many candidates, the same evaluator, and the same 50 cases where
they have cases; they run candidates in their own process (gepa) or in two processes without a sandbox (openevolve).

    uv run python benchmarks/unattended.py
    uv run --with gepa==0.1.4 --with openevolve==0.4.0 python benchmarks/unattended.py      with the peers beside it
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import kit
from loop import InstantRunner

from metaharness.messages import Completion, ModelRequest, ModelSpec
from metaharness.proposers import open_proposer
from metaharness.run import Run
from metaharness.search import search

ROUNDS, WIDTH, CASES = 20, 3, 50
CANDIDATES = ROUNDS * WIDTH
LIMIT_MS = 40
"""Per candidate, beyond model time and evaluation."""
REPETITIONS = 3

HARNESS = '''class Harness:
    """Number {number}."""

    def predict(self, text, model):
        return "even"
'''
WRITER = ModelSpec(provider="scripted", name="writer")


class Writer:
    """A model that answers with as many new harnesses as a round has, at once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.marks: list[float] = []
        self._numbers = itertools.count(1)

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        """One answer of `chat`."""
        del request, deadline
        started = time.perf_counter()
        self.marks.append(started)
        text = "\n".join(answer(next(self._numbers)) for _ in range(WIDTH))
        self.seconds += time.perf_counter() - started
        return Completion(text=text)

    async def aclose(self) -> None:
        """Nothing is open."""


def source(number: int) -> str:
    """The harness of that number; no two are the same."""
    return HARNESS.format(number=number)


def answer(number: int) -> str:
    """A candidate as `chat` reads it."""
    about = f"## Candidate: number {number}\nhypothesis: it answers as the one before does"
    return f"{about}\n\n```python harness.py\n{source(number)}```\n"


def evaluate(text: str) -> float:
    """The trivial evaluator of all: the share of 50 cases that a harness gets right, run in this process."""
    scope: dict[str, Any] = {}
    exec(text, scope)
    harness = scope["Harness"]()
    return statistics.fmean(case(harness, number) for number in range(CASES))


def case(harness: Any, number: int) -> float:
    """One case."""
    return float(harness.predict(f"search {number}", None) == ("odd" if number % 2 else "even"))


async def ours(*, sandbox: str | None) -> tuple[float, list[float]]:
    """Milliseconds per candidate beyond the stand-ins, and those of each round. None: without workers."""
    with kit.folder() as root:
        (root / "baselines").mkdir()
        (root / "baselines" / "base.py").write_text(source(0))
        kit.numbers.root = Path(root)
        runner, writer = (InstantRunner() if sandbox is None else None), Writer()
        config = kit.config(
            proposer="chat",
            iterations=CANDIDATES,
            candidates_per_round=WIDTH,
            sandbox=sandbox or "process",
            models={"target": ModelSpec(provider="embedded", name="icl"), "proposer": WRITER},
        )
        providers: dict[Any, Any] = {"target": kit.SlowModel(0), "proposer": writer}
        async with Run.create(config, root / "runs", runner=runner, providers=providers) as run:
            proposer = open_proposer(run)
            started = time.perf_counter()
            await search(run, proposer)
            wall = time.perf_counter() - started
            assert len(run.history) == CANDIDATES + 1, len(run.history)
        spent = writer.seconds + (runner.seconds if runner is not None else 0)
        rounds = [1_000 * (b - a) / WIDTH for a, b in itertools.pairwise(writer.marks)]
        return 1_000 * (wall - spent) / CANDIDATES, rounds


def gepa() -> float:
    """The same of gepa's optimize_anything; every candidate is as good as its parent, so all of them are accepted."""
    import gepa.optimize_anything as peer  # type: ignore[import-not-found] # noqa: PLC0415 - not always installed

    numbers, spent = itertools.count(1), [0.0]

    def write(_prompt: object) -> str:
        started = time.perf_counter()
        text = f"```\n{source(next(numbers))}```"
        spent[0] += time.perf_counter() - started
        return text

    def grade(candidate: str, example: int) -> float:
        started = time.perf_counter()
        scope: dict[str, Any] = {}
        exec(candidate, scope)
        value = case(scope["Harness"](), example)
        spent[0] += time.perf_counter() - started
        return value

    with tempfile.TemporaryDirectory() as folder:
        engine = peer.EngineConfig(
            run_dir=folder,
            max_candidate_proposals=CANDIDATES,
            acceptance_criterion="improvement_or_equal",
            parallel=False,
        )
        config = peer.GEPAConfig(engine=engine, reflection=peer.ReflectionConfig(reflection_lm=write))
        started = time.perf_counter()
        cases = list(range(CASES))
        peer.optimize_anything(
            source(0), evaluator=grade, dataset=cases, valset=cases, objective="accuracy", config=config
        )
        return 1_000 * (time.perf_counter() - started - spent[0]) / CANDIDATES


class OpenEvolveWriter:
    """The stand-in as openevolve calls it, in its worker processes."""

    def __init__(self, config: Any) -> None:
        self.model = self.name = config.name
        self.weight = config.weight

    async def generate(self, prompt: str, **_given: Any) -> str:
        """A whole new program."""
        del prompt
        return f"```python\n# EVOLVE-BLOCK-START\n{source(time.perf_counter_ns())}# EVOLVE-BLOCK-END\n```"

    async def generate_with_context(self, system_message: str, messages: list[dict[str, str]], **given: Any) -> str:
        """The same."""
        del system_message, messages
        return await self.generate("", **given)


EVALUATOR = """
import statistics
def evaluate(path):
    scope = {}
    exec(open(path).read(), scope)
    harness = scope["Harness"]()
    right = [float(harness.predict(f"search {n}", None) == ("odd" if n % 2 else "even")) for n in range(50)]
    return {"combined_score": statistics.fmean(right)}
"""


def openevolve() -> float:
    """The same of openevolve, its two workers included; its evaluation is not taken off, as workers do not tell."""
    import openevolve as peer  # type: ignore[import-not-found] # noqa: PLC0415 - as above
    import openevolve.config as peer_config  # type: ignore[import-not-found] # noqa: PLC0415 - as above

    config = peer_config.Config(max_iterations=CANDIDATES, diff_based_evolution=False, log_level="ERROR")
    config.llm.models = [peer_config.LLMModelConfig(name="writer", init_client=OpenEvolveWriter)]
    config.llm.evaluator_models = list(config.llm.models)
    config.evaluator.parallel_evaluations = 2
    with tempfile.TemporaryDirectory() as folder:
        evaluator = Path(folder, "evaluator.py")
        evaluator.write_text(EVALUATOR)
        program = f"# EVOLVE-BLOCK-START\n{source(0)}# EVOLVE-BLOCK-END\n"
        started = time.perf_counter()
        peer.run_evolution(
            program, str(evaluator), config=config, iterations=CANDIDATES, output_dir=folder, cleanup=False
        )
        return 1_000 * (time.perf_counter() - started) / CANDIDATES


PEERS: dict[str, Callable[[], float]] = {"gepa": gepa, "openevolve": openevolve}


def repeated(measure: Callable[[], float]) -> list[float]:
    """Several times, with what peers print left out."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    values = []
    for _ in range(REPETITIONS):
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            values.append(measure())
    return values


def main() -> None:
    anyio.run(ours_at, None)
    engine = [anyio.run(ours_at, None) for _ in range(REPETITIONS)]
    kit.report("beyond model and evaluation, a candidate", [one for one, _ in engine], LIMIT_MS, "ms")
    first, last = ([statistics.fmean(part(rounds)) for _, rounds in engine] for part in (_first, _last))
    kit.report("the last 5 rounds of 20, beside the first 5", last, statistics.median(first), "ms")
    whole = [one for one, _ in (anyio.run(ours_at, "auto") for _ in range(REPETITIONS))]
    for name, measure in PEERS.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed: uv run --with {name} python benchmarks/unattended.py")
            continue
        theirs = repeated(measure)
        peer = statistics.median(theirs)
        print(f"{name}: {peer:.1f} ms a candidate (best {min(theirs):.1f}, worst {max(theirs):.1f})")
        kit.report(f"  the engine without workers, beside {name}", [one for one, _ in engine], peer, "ms")
        kit.report(f"  whole, in a sandbox, beside {name}", whole, peer, "ms")


def _first(rounds: list[float]) -> list[float]:
    return rounds[:5]


def _last(rounds: list[float]) -> list[float]:
    return rounds[-5:]


async def ours_at(sandbox: str | None) -> tuple[float, list[float]]:
    """`ours`, by place."""
    return await ours(sandbox=sandbox)


if __name__ == "__main__":
    main()
