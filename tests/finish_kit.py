"""What the tests of `finish` share: a small run that has been searched, and what the test of it has left on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from run_kit import COLOURS, Toy, harness, lines, rules, searched, timeless, write_toy

from metaharness.messages import Completion, ModelRequest
from metaharness.openings import SealedResult
from metaharness.run import Finishing

TEST = 8
"""Cases of the test split."""
SEARCH = 6
BASELINES = {"00_plain.py": harness("plain"), "01_ok.py": harness("x", before="# " + "words " * 9)}
PROPOSALS = {"1_other.py": harness("other"), "2_long.py": harness("long")}
"""On `search`: 00 gets 4 of 6, 01 none, 02 all, 03 five of 6."""
RIGHT_ON_TEST: Mapping[str, range] = {"plain": range(1), "other": range(7), "long": range(8), "x": range(8)}
"""On `test` the candidates that lost on search are the better ones."""
MISSING = ("infrastructure", "budget", "evaluator_error")
"""Statuses of a pair without a value."""


def sealed_rules(right: Mapping[str, range] = RIGHT_ON_TEST, *, delay_ms: float = 0) -> list[dict[str, Any]]:
    """The model on the test split."""
    return [
        {"contains": f"[{style}] test item {number:02d}", "text": COLOURS[number % 3], "delay_ms": delay_ms}
        for style, numbers in right.items()
        for number in numbers
    ]


def finish_toy(folder: Path, *, test: int = TEST, delay_ms: float = 0, **options: Any) -> Toy:
    """The domain with a test split, on which other candidates are better than on search."""
    options = {"cases": SEARCH, "baselines": BASELINES, "proposals": PROPOSALS, **options}
    toy = write_toy(folder, **options)
    write_test(toy, test)
    toy.write_script([*sealed_rules(delay_ms=delay_ms), *rules(SEARCH, delay_ms=0)[:-1], grey(delay_ms)])
    return toy


def grey(delay_ms: float = 0) -> dict[str, Any]:
    """What the model answers to all else."""
    return {"text": "grey", "delay_ms": delay_ms}


def write_test(toy: Toy, count: int, *, mark: str = "test item") -> None:
    """The test split. Its texts and answers are found nowhere else."""
    rows = [
        {"id": f"hidden-{number:02d}", "text": f"{mark} {number:02d}", "colour": COLOURS[number % 3]}
        for number in range(count)
    ]
    (toy.folder / "data" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


async def searched_run(toy: Toy, root: Path, *, name: str = "run", **changes: Any) -> Path:
    """A run whose search is over."""
    run = root / name
    await searched(toy.config(**changes), root, name=name)
    return run


async def finished(run: Path, *, accept_missing: bool = False, **options: Any) -> SealedResult:
    """The one test of a run, in this process."""
    with Finishing.open(run, **options) as finishing:
        result = await finishing.run(accept_missing=accept_missing)
    assert result is not None
    return result


def read_sealed(run: Path, name: str) -> dict[str, Any]:
    """A file of `sealed/`."""
    page: dict[str, Any] = json.loads((run / "sealed" / name).read_text())
    return page


def sealed_prompts(run: Path) -> list[str]:
    """What the model was asked for the test, in order of the answers."""
    return [line["call"]["request"]["messages"][0]["content"] for line in lines(run / "sealed" / "calls.jsonl")]


def prompts(run: Path) -> list[str]:
    """What the model was asked in the search."""
    return [line["call"]["request"]["messages"][0]["content"] for line in lines(run / "calls.jsonl")]


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the note of a process that holds the lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock")
    }


def sealed_essence(run: Path) -> dict[str, Any]:
    """All that two tests which came to the same have in common: everything but times and the order of calls."""
    traces = {
        (path.parent.name, line["case_id"], line["trial"]): timeless(line)
        for path in sorted((run / "sealed").glob("*/*trace.jsonl"))
        for line in lines(path)
    }
    spent = json.loads((run / "cost.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    return {
        "opening": timeless(read_sealed(run, "opening.json")),
        "result": timeless(read_sealed(run, "result.json")),
        "scores": [timeless(json.loads(path.read_text())) for path in sorted((run / "sealed").glob("*/score.json"))],
        "traces": traces,
        "calls": sorted(line["key"] for line in lines(run / "sealed" / "calls.jsonl")),
        "cost": timeless({**spent, "spent": {**spent["spent"], "seconds": 0}}),
        "spent": {name: value for name, value in spent["spent"].items() if name != "seconds"},
        "summary": timeless(summary),
        "events": [
            {name: value for name, value in timeless(event).items() if name != "number"}
            for event in lines(run / "events.jsonl")
            if event["kind"] in ("test_opened", "finished")
        ],
    }


def assert_asked_once(run: Path) -> None:
    """No call of the test is in its journal twice, and no pair has two lines that count."""
    keys = Counter(line["key"] for line in lines(run / "sealed" / "calls.jsonl"))
    assert set(keys.values()) <= {1}
    for path in (run / "sealed").glob("*/eval_trace.jsonl"):
        final = Counter((line["case_id"], line["trial"]) for line in lines(path) if line["status"] not in MISSING)
        assert set(final.values()) <= {1}, path


class Watched:
    """A model that looks at something whenever it is asked."""

    def __init__(self, answer: Callable[[str], str], look: Callable[[str], None] = lambda _text: None) -> None:
        self._answer = answer
        self._look = look
        self.asked: list[str] = []

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        text = str(request.messages[-1].content)
        self.asked.append(text)
        self._look(text)
        return Completion(text=self._answer(text))

    async def aclose(self) -> None:
        """Nothing is open."""


def answers(toy: Toy) -> Callable[[str], str]:
    """What the script of the model answers."""
    table: Sequence[dict[str, Any]] = [json.loads(line) for line in toy.script.read_text().splitlines()]

    def answer(text: str) -> str:
        return next(str(rule["text"]) for rule in table if rule.get("contains", "") in text)

    return answer
