"""Damage in what a run has recorded: files and lines that cannot be read back, and torn last lines.

Only what the store writes is looked at: a candidate's own files may be anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from metaharness.errors import CorruptRecordError, MetaharnessError
from metaharness.records import CaseTrace, Event, JournalEntry, ProposalRecord, Rejection, Score
from metaharness.store import RunStore
from metaharness.store.evaluations import TRACE
from metaharness.store.files import parse, read_lines, read_optional, store_errors
from metaharness.store.repair import numbered

PAGES: Mapping[str, type[BaseModel] | None] = {
    "proposal.json": ProposalRecord,
    "score.json": Score,
    "rejected.json": Rejection,
    "opening.json": None,
    "result.json": None,
    "summary.json": None,
    "cost.json": None,
}
"""Files of one record each; None: any JSON object."""
LOGS: Mapping[str, type[BaseModel]] = {
    "calls.jsonl": JournalEntry,
    "events.jsonl": Event,
    "eval_trace.jsonl": CaseTrace,
    "learn_trace.jsonl": CaseTrace,
}
"""Files of one record a line; a line of any other `.jsonl` is a JSON object."""
_BLOCK = 1 << 16


def damage(run: Path, *, deep: bool) -> Iterator[CorruptRecordError]:
    """Everything of a run that cannot be read back; with `deep` from every line, else from the last of each file."""
    for folder in folders(run):
        for name, model in PAGES.items():
            data = read_optional(folder / name)
            reason = None if data is None else _fault(model, data, folder / name)
            if reason is not None:
                yield CorruptRecordError(folder / name, None, reason)
        for path in logs(folder):
            yield from _every_line(path) if deep else _last_line(path)
        yield from _trace_faults(folder, deep=deep)


def candidate_damage(store: RunStore) -> Iterator[CorruptRecordError]:
    """Candidates whose files are not those that were submitted. Reads them all."""
    for proposal in store.iterations():
        try:
            store.files(proposal.iteration)
        except CorruptRecordError as fault:
            yield fault
        except MetaharnessError as error:
            yield CorruptRecordError(store.candidate_path(proposal.iteration), None, error.message)


def torn(run: Path) -> list[str]:
    """What a killed process left half written, as a person names it; a process that records leaves the same."""
    found = [
        f"{path.relative_to(run).as_posix()} ends in a part of a line"
        for folder in folders(run)
        for path in logs(folder)
        if not _terminated(path)
    ]
    iterations = run / "iterations"
    cut = [number for number in numbered(iterations) if not (iterations / f"{number:03d}" / "proposal.json").exists()]
    return found + [f"iterations/{number:03d} was not submitted to its end" for number in cut]


def folders(run: Path) -> list[Path]:
    """The folders of a run that the store writes records into."""
    below = [parent / f"{number:03d}" for parent in (run / "iterations", run / "sealed") for number in numbered(parent)]
    return [run, *below, run / "sealed"]


def logs(folder: Path) -> list[Path]:
    """The files of lines in a folder."""
    with store_errors("list", folder):
        try:
            with os.scandir(folder) as entries:
                return sorted(
                    Path(entry.path) for entry in entries if entry.name.endswith(".jsonl") and entry.is_file()
                )
        except (FileNotFoundError, NotADirectoryError):
            return []


def mebibytes(run: Path) -> float:
    """What a run takes on the disk. Files that go away meanwhile are not counted."""
    total = 0
    for folder, _, names in os.walk(run):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total / (1 << 20)


def _fault(model: type[BaseModel] | None, data: bytes, path: Path) -> str | None:
    """Why these bytes are not the record that they should be; None when they are."""
    try:
        if model is not None:
            parse(model, data, path)
        elif not isinstance(json.loads(data), dict):
            return "not an object"
    except CorruptRecordError as error:
        return error.message.removeprefix(f"damaged record in {path}: ")
    except (ValueError, RecursionError) as error:
        return str(error)
    return None


def _every_line(path: Path) -> Iterator[CorruptRecordError]:
    for number, line in read_lines(path):
        reason = _fault(LOGS.get(path.name), line, path)
        if reason is not None:
            yield CorruptRecordError(path, number, reason)


def _last_line(path: Path) -> Iterator[CorruptRecordError]:
    """What is wrong with the last complete line; the lines before it are counted only when something is."""
    with store_errors("read", path), path.open("rb") as file:
        end = _line_end(file.seek(0, os.SEEK_END), file.seek, file.read)
        start = _line_end(end - 1, file.seek, file.read) if end > 0 else 0
        file.seek(start)
        line = file.read(end - start)
    reason = _fault(LOGS.get(path.name), line, path) if line else None
    if reason is not None:
        yield CorruptRecordError(path, _newlines(path, end), reason)


def _line_end(size: int, seek: Callable[[int], int], read: Callable[[int], bytes]) -> int:
    """Where the last line that is terminated within the first `size` bytes ends; 0 when there is none."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        seek(start)
        newline = read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _newlines(path: Path, size: int) -> int:
    count = 0
    with store_errors("read", path), path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(_BLOCK, size))):
            count += chunk.count(b"\n")
            size -= len(chunk)
    return count


def _terminated(path: Path) -> bool:
    with store_errors("read", path), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _trace_faults(folder: Path, *, deep: bool) -> Iterator[CorruptRecordError]:
    """Whether the trace still is what its score was made of; lines that were added since do not matter."""
    data = read_optional(folder / "score.json")
    try:
        score = None if data is None else Score.model_validate_json(data)
    except ValueError:
        return  # told already
    path = folder / TRACE
    if score is None or not score.trace_sha256:
        return
    with store_errors("read", folder):
        size = path.stat().st_size if path.is_file() else 0
    if size < score.trace_bytes:
        reason = f"{size:,} bytes, but score.json was made of {score.trace_bytes:,}: lines are gone"
        yield CorruptRecordError(path, None, reason)
    elif deep and score.trace_bytes and _sha256(path, score.trace_bytes) != score.trace_sha256:
        yield CorruptRecordError(path, None, "it is not what score.json was made of: its hash differs")


def _sha256(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with store_errors("read", path), path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(_BLOCK, size))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()
