"""The tree of the runs in a folder: which is a fork of which, from which iteration, with which note."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metaharness.configuration import RunRecord
from metaharness.errors import MetaharnessError
from metaharness.store import list_runs, load_record


@dataclass(frozen=True)
class Branch:
    """One run in the tree."""

    path: Path
    record: RunRecord | None
    """None where it cannot be read."""
    error: str | None
    """Why it cannot be read; None where it can."""
    depth: int
    """0: it is no fork, or its source is gone from this folder."""

    @property
    def source_is_gone(self) -> bool:
        """Whether it is a fork of a run that is not here."""
        return self.depth == 0 and self.record is not None and self.record.forked_from is not None


def lineage(root: Path, run: Path | None = None) -> list[Branch]:
    """The runs of a folder, each behind the one that it is a fork of; oldest first among those of one source.

    Args:
        root: The folder of all runs.
        run: Only the tree that this one belongs to; None for all.
    """
    found = {path.name: (path, *_read(path)) for path in list_runs(root)}
    sources = {name: record.forked_from for name, (_, record, _) in found.items() if record is not None}
    forks: defaultdict[str | None, list[str]] = defaultdict(list)
    for name in found:
        source = sources.get(name)
        forks[source if source in found else None].append(name)
    tops = forks.pop(None, [])
    if run is not None:
        tops = [_top(run.resolve().name, sources, found)]
    return [
        Branch(found[name][0], found[name][1], found[name][2], depth)
        for top in tops
        for name, depth in _walk(top, forks)
    ]


def _read(path: Path) -> tuple[RunRecord | None, str | None]:
    try:
        return load_record(path), None
    except MetaharnessError as error:
        return None, error.message


def _top(name: str, sources: Mapping[str, str | None], found: Mapping[str, object]) -> str:
    """The first run of its tree."""
    seen = {name}
    while (source := sources.get(name)) is not None and source in found and source not in seen:
        seen.add(name := source)
    return name


def _walk(top: str, forks: Mapping[str | None, list[str]]) -> Iterator[tuple[str, int]]:
    """A run and its forks, with how far below it they are."""
    waiting, seen = [(top, 0)], {top}
    while waiting:
        name, depth = waiting.pop()
        yield name, depth
        below = [one for one in forks.get(name, []) if one not in seen]
        seen.update(below)
        waiting += [(one, depth + 1) for one in reversed(below)]
