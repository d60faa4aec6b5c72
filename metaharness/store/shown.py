"""Which files of an iteration belong to each level of what a proposer is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from metaharness.configuration import Shown
from metaharness.store.iterations import Iterations

_WRITTEN = ("proposal.json", "reasoning.md", "report.md", "rejected.json")
_FILES: dict[Shown, tuple[str, ...]] = {
    "scores": (),
    "scores+summaries": _WRITTEN,
    "full": (*_WRITTEN, "eval_trace.jsonl", "learn_trace.jsonl"),
}


def shown_files(store: Iterations, number: int, level: Shown) -> Iterator[Path]:
    """The files of an iteration that a level shows beside source and score, as far as they are there."""
    folder = store.candidate_path(number).parent
    for name in _FILES[level]:
        if (folder / name).is_file():
            yield folder / name
