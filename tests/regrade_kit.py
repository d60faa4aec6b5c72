"""What the tests of `regrade` share: evaluators that replace that of the small domain, and a run to grade anew."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from run_kit import Toy, harness, lines, rules, searched, timeless, write_toy

from metaharness.history import History
from metaharness.messages import ModelSpec
from metaharness.run import Regrading

LENIENT = """
class Exact:
    def grade(self, context):
        return context.output in (context.case.expected, "grey")
"""
"""`grey` is right as well: so is every answer of the model."""
JUDGED = """
class Exact:
    async def grade(self, context):
        said = await context.judge.complete(f"{context.case.id}: is {context.output} {context.case.expected}?")
        return said.text == "yes"
"""
"""A judge decides, asked once for each answer."""
FAILS_ON_ONE = """
class Exact:
    def grade(self, context):
        if context.case.id == "search-03":
            raise ValueError("no opinion on 3")
        return context.output == context.case.expected
"""
PROPOSALS = {"1_other.py": harness("other"), "2_broken.py": "class Harness(:\n", "3_good.py": harness("good")}
SEARCH = 6


def evaluate_with(toy: Toy, source: str) -> None:
    """Replace the evaluator."""
    (toy.folder / "evaluator.py").write_text(source)


def judge_of(path: Path, answers: Mapping[str, str] = {}, *, delay_ms: float = 0) -> ModelSpec:
    """A judge that says yes where an answer is named in its question twice, in a file of rules."""
    own = [{"contains": part, "text": text, "delay_ms": delay_ms} for part, text in answers.items()]
    same = [{"contains": f"is {one} {one}?", "text": "yes", "delay_ms": delay_ms} for one in ("red", "green", "blue")]
    path.write_text("".join(json.dumps(rule) + "\n" for rule in [*own, *same, {"text": "no", "delay_ms": delay_ms}]))
    return ModelSpec(provider="scripted", name=str(path))


async def regrade_toy(folder: Path, **options: Any) -> tuple[Toy, Path]:
    """The domain, and a run of four candidates and one that was rejected. Its search is over."""
    toy = write_toy(folder / "domain", cases=SEARCH, proposals=PROPOSALS)
    toy.write_script(rules(SEARCH))
    await searched(toy.config(**options), folder / "runs", name="first")
    return toy, folder / "runs" / "first"


async def graded_anew(path: Path, *, accept_missing: bool = False, **options: Any) -> History:
    """The whole fork, made in this process."""
    with Regrading.open(path, **options) as regrading:
        fork = await regrading.run(accept_missing=accept_missing)
    assert fork is not None
    return fork


def primary(history: History) -> list[float | None]:
    """The mean of every candidate; None without one."""
    name = history.objectives[0].name
    return [it.score.objectives[name].mean if it.score is not None else None for it in history]


def fork_essence(run: Path) -> dict[str, Any]:
    """All that two forks which came to the same have in common."""
    traces = {
        (path.parent.name, line["case_id"], line["trial"]): timeless(line)
        for path in sorted(run.glob("iterations/*/*_trace.jsonl"))
        for line in lines(path)
    }
    cost = json.loads((run / "cost.json").read_text())
    return {
        "traces": traces,
        "scores": [timeless(json.loads(path.read_text())) for path in sorted(run.glob("iterations/*/score.json"))],
        "rounds": [
            timeless(event) | {"number": 0} for event in lines(run / "events.jsonl") if event["kind"] == "round_closed"
        ],
        "calls": sorted(line["key"] for line in lines(run / "calls.jsonl")),
        "by role": cost["by_role_and_model"],
        "accepted": Counter(event["iteration"] for event in lines(run / "events.jsonl") if event["kind"] == "accepted"),
    }
