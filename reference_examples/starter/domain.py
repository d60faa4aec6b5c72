"""Notes to a community garden, sorted by what they ask for: the cases, the objectives and the evaluator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from evaluator import ExactAnswer

from metaharness.domain import Case, Domain, Objective, Split
from metaharness.errors import DomainError, UsageError

OWN_DATA = Path(__file__).resolve().parent / "data"


class StarterDomain(Domain):
    """One label per note, graded by exact match."""

    name = "starter"
    objectives = (  # the first one orders candidates; the engine measures the second
        Objective("accuracy", "max", range=(0.0, 1.0)),
        Objective("context_chars", "min", unit="characters"),
    )
    evaluator = ExactAnswer()

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def cases(self, split: Split) -> Iterator[Case]:
        """The cases of one split; nothing of another split is read."""
        path = self._folder / f"{split.value}.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() would also split inside JSON strings
        except (OSError, UnicodeDecodeError) as error:
            raise DomainError(
                f"cannot read {path}: {error}", hint="a split is a file of JSON lines in UTF-8, named like the split"
            ) from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _case(line, f"{split.value}-{number:04d}", f"{path}, line {number}")


def domain(data: str | None = None) -> Domain:
    """The domain. Its parameters are options of the command line: --data DIR, --domain-option NAME=VALUE.

    Args:
        data: Folder with train.jsonl, search.jsonl and test.jsonl; None takes the domain's own.
    """
    folder = OWN_DATA if data is None else Path(data).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"there is no data folder {folder}",
            hint="--data takes a folder that holds train.jsonl, search.jsonl and test.jsonl",
        )
    return StarterDomain(folder)


def _case(line: str, case_id: str, where: str) -> Case:
    """One line of a file: an object with `input` (what the harness sees) and `expected` (what it must answer)."""
    try:
        row = json.loads(line)
        return Case(id=case_id, input=row["input"], expected=row["expected"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DomainError(
            f"{where} is no case: {type(error).__name__}: {error}",
            hint='write one object per line, such as {"input": "Who has the rake?", "expected": "tools"}',
        ) from error
