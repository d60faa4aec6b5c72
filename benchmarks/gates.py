"""What the leak gate and the looks around a round cost, beside what the ladder and a round take anyway.

uv run python benchmarks/gates.py
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import kit

from metaharness.domain import Split, split_cases
from metaharness.evaluation.ladder import MAX_BYTES
from metaharness.fingerprints import fingerprints
from metaharness.leaks import LeakGate
from metaharness.loading import load_domain
from metaharness.marks import Marks

REPEATED = 9


def gate_over_tickets() -> tuple[LeakGate, list[str]]:
    """The gate of the example with support tickets, without its sealed split, and the texts of its `train`."""
    domain = load_domain("text_classification")
    search, train = split_cases(domain, Split.SEARCH), split_cases(domain, Split.TRAIN)
    texts = [str(case.input) for case in train]
    gate = LeakGate(search=fingerprints(search), sealed={}, train=texts, public=(), answers=(), known_answers=())
    return gate, texts


def seconds(act: Callable[[], object]) -> list[float]:
    """How long something takes, several times."""
    found = []
    for _ in range(REPEATED):
        started = time.perf_counter()
        act()
        found.append(time.perf_counter() - started)
    return found


def gate_figure(name: str, gate: LeakGate, files: Mapping[str, str], limit: float) -> None:
    """Milliseconds of the gate, and how they compare with parsing the same source once."""
    took = [one * 1000 for one in seconds(lambda: gate.find(files))]
    parsed = [one * 1000 for one in seconds(lambda: [ast.parse(text) for text in files.values()])]
    kit.report(f"leak gate, {name}", took, limit, "ms")
    kit.report("  against parsing it once", took, sorted(parsed)[REPEATED // 2], "ms")


def look_figure(files: int, limit: float) -> None:
    """A look at files that have not changed."""
    with kit.folder() as root:
        paths = [Path(root) / f"{number}.json" for number in range(files)]
        for path in paths:
            path.write_text("{}")
        marks = Marks.of(paths)
        kit.report(f"a look at {files:,} files", [one * 1000 for one in seconds(marks.changed)], limit, "ms")


def main() -> None:
    """All figures."""
    gate, texts = gate_over_tickets()
    source = Path(ast.__file__).read_text(encoding="utf-8")[:16_000].rsplit("\n\n\n", 1)[0]
    gate_figure(f"a candidate of {len(source) // 1000} kB of code", gate, {"harness.py": source}, 20.0)
    lines = (f"    {text!r},\n" for text in texts * 30)
    body = "".join(lines)[: MAX_BYTES - 100].rsplit("\n", 1)[0]
    gate_figure("a candidate of 1 MiB of text", gate, {"harness.py": f"TEXTS = [\n{body}\n]\n"}, 500.0)
    look_figure(7 * 17, 1.0)  # what a round looks at of its iterations, twice


if __name__ == "__main__":
    main()
