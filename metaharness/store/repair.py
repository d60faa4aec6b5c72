"""What a killed process left behind, put right before the run is recorded again.

Nothing is thrown away: a torn line moves to `<name>.torn`, a folder that was being submitted to `NNN.torn`. Only the
files that `write_atomic` was preparing go, since their targets are whole. Call it while holding the lock.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metaharness.store.files import free_name, is_temporary, line_end, store_errors, write_atomic

NUMBER = re.compile(r"(?!0\d{3})\d{3,}")
"""The name of a numbered folder: three digits, more only when they are needed."""

Fact = dict[str, Any]
"""The fields of a `torn` event."""


def numbered(folder: Path) -> list[int]:
    """The numbers of the folders `000`, `001`, ... in a folder, sorted; empty when there is no such folder."""
    with store_errors("list", folder):
        try:
            with os.scandir(folder) as entries:
                return sorted(int(entry.name) for entry in entries if NUMBER.fullmatch(entry.name))
        except FileNotFoundError:
            return []


def numbered_folders(parent: Path) -> list[Path]:
    """The folders `000`, `001`, ... in a folder, in order; empty when there is no such folder."""
    return [parent / f"{number:03d}" for number in numbered(parent)]


def repair(run: Path) -> list[Fact]:
    """Put a run directory right. Returns one fact for each thing that was moved."""
    facts: list[Fact] = []
    for folder in [run, *_iterations(run, facts), *apart(run)]:
        for path in _files(folder):
            if is_temporary(path.name):
                with store_errors("remove", path):
                    path.unlink()
            elif path.name.endswith(".jsonl"):
                facts.extend(_mend(run, path))
    return facts


def apart(run: Path) -> list[Path]:
    """The folders beside the iterations that the store writes records into."""
    parents = transfer_folders(run)
    with store_errors("list", run):
        cells = [cell for parent in parents if parent.is_dir() for cell in sorted(parent.iterdir()) if cell.is_dir()]
    numbers = [folder for cell in cells for folder in numbered_folders(cell)]
    sealed = run / "sealed"
    return [*numbered_folders(run / "partial"), sealed, *numbered_folders(sealed), *parents, *cells, *numbers]


def transfer_folders(run: Path) -> tuple[Path, Path]:
    """Where candidates are evaluated with other models: on `search`, and on data that is given later."""
    return run / "transfer", run / "sealed" / "transfer"


def set_aside(folder: Path) -> Path:
    """Move the folder of an iteration whose submission was cut short out of the way."""
    target = free_name(folder.with_name(f"{folder.name}.torn"))
    with store_errors("move", folder):
        folder.rename(target)
    return target


def _iterations(run: Path, facts: list[Fact]) -> Iterator[Path]:
    for folder in numbered_folders(run / "iterations"):
        if (folder / "proposal.json").exists():
            yield folder
        else:
            moved = set_aside(folder)
            facts.append({"file": relative_name(run, folder), "moved_to": relative_name(run, moved)})


def _files(folder: Path) -> list[Path]:
    with store_errors("list", folder):
        try:
            with os.scandir(folder) as entries:
                return sorted(Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))
        except FileNotFoundError:
            return []


def _mend(run: Path, path: Path) -> Iterator[Fact]:
    """The fragment is safe in its own file before it is cut off here: killed in between, it is moved twice."""
    with store_errors("repair", path), path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        good = line_end(file, size)
        if good == size:
            return
        file.seek(good)
        fragment = file.read()
        target = free_name(path.with_name(f"{path.name}.torn"))
        write_atomic(target, fragment)
        file.truncate(good)
    yield {"file": relative_name(run, path), "moved_to": relative_name(run, target), "bytes": len(fragment)}


def relative_name(run: Path, path: Path) -> str:
    """What lies in a run, as a person names it: `iterations/003/eval_trace.jsonl`."""
    return path.relative_to(run).as_posix()
