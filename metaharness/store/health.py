"""What can be said of a run directory by looking at it: what of it is damaged, what a kill left, how large it is.

It only reads and takes no lock: whatever is there may be damaged, or be written in this moment. Only
what the store writes is looked at: a candidate's own files may be anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from pydantic import BaseModel

from metaharness.errors import CorruptRecordError, MetaharnessError
from metaharness.records import CaseTrace, Event, JournalEntry, ProposalRecord, Rejection, Score
from metaharness.store.evaluations import LEARN_TRACE, TRACE
from metaharness.store.files import line_end, parse, read_lines, read_optional, store_errors
from metaharness.store.lock import LOCK
from metaharness.store.owners import owner_of
from metaharness.store.repair import apart, numbered, numbered_folders, relative_name
from metaharness.store.run_store import RunStore
from metaharness.store.runs import CONFIG

Whose = tuple[int, str | None, int]
"""The iteration, the case and the trial that a call was made for."""

PAGES: Mapping[str, type[BaseModel] | None] = {
    "proposal.json": ProposalRecord,
    "candidate.json": None,
    "cell.json": None,
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


# --- damage -----------------------------------------------------------------------------------------------------


def damage_in(run: Path, *, deep: bool) -> Iterator[CorruptRecordError]:
    """Everything of a run that cannot be read back; with `deep` from every line, else from the last of each file.

    Not told: iterations that are gone from the end, as nothing after them is there; calls that are gone and in no
    trace. What was torn by a kill is no damage: see `torn_lines` and `torn_candidates`.
    """
    yield from _gone_iterations(run / "iterations")
    for folder in _folders(run):
        for name, model in PAGES.items():
            data = read_optional(folder / name)
            reason = None if data is None else _fault(model, data, folder / name)
            if reason is not None:
                yield CorruptRecordError(folder / name, None, reason)
        for path in _logs(folder):
            yield from _every_line(path) if deep else _last_line(path)
        yield from _trace_faults(folder, deep=deep)
    if deep:
        yield from _gone_calls(run / "calls.jsonl", run / "iterations")
        yield from _gone_calls(run / "calls.jsonl", run / "partial", partial=True)
        yield from _gone_calls(run / "sealed" / "calls.jsonl", run / "sealed")


def damaged_candidates(store: RunStore) -> Iterator[CorruptRecordError]:
    """Candidates whose files are not those that were submitted. Reads them all."""
    for proposal in store.iterations():
        try:
            store.files(proposal.iteration)
        except CorruptRecordError as fault:
            yield fault
        except MetaharnessError as error:
            yield CorruptRecordError(store.candidate_path(proposal.iteration), None, error.message)


# --- what a kill leaves -----------------------------------------------------------------------------------------


def torn_lines(run: Path) -> list[str]:
    """Files, relative to the run, that end in a part of a line: a kill left it, or its writer is at it."""
    return [relative_name(run, path) for folder in _folders(run) for path in _logs(folder) if not _terminated(path)]


def torn_candidates(run: Path) -> list[str]:
    """Folders, relative to the run, of candidates that were not submitted to their end, or are being submitted."""
    folders = numbered_folders(run / "iterations")
    return [relative_name(run, folder) for folder in folders if not (folder / "proposal.json").exists()]


def unmade_runs(root: Path) -> list[Path]:
    """Folders in the folder of all runs that a process began to make a run in, and that nobody owns."""
    with store_errors("list", root):
        try:
            folders = sorted(folder for folder in root.iterdir() if folder.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
    begun = [folder for folder in folders if (folder / LOCK).exists() and not (folder / CONFIG).exists()]
    return [folder for folder in begun if owner_of(folder) is None]


# --- size -------------------------------------------------------------------------------------------------------


def disk_use(run: Path) -> int:
    """Bytes that a run takes on the disk. Files that go away meanwhile are not counted."""
    total = 0
    for folder, _, names in os.walk(run):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


# --- inside -----------------------------------------------------------------------------------------------------


def _folders(run: Path) -> list[Path]:
    """The folders of a run that the store writes records into."""
    return [run, *numbered_folders(run / "iterations"), *apart(run)]


def _logs(folder: Path) -> list[Path]:
    """The files of lines in a folder."""
    with store_errors("list", folder):
        try:
            with os.scandir(folder) as entries:
                return sorted(
                    Path(entry.path) for entry in entries if entry.name.endswith(".jsonl") and entry.is_file()
                )
        except (FileNotFoundError, NotADirectoryError):
            return []


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
        end = line_end(file, file.seek(0, os.SEEK_END))
        start = line_end(file, end - 1)
        file.seek(start)
        line = file.read(end - start)
    reason = _fault(LOGS.get(path.name), line, path) if line else None
    if reason is not None:
        yield CorruptRecordError(path, _newlines(path, end), reason)


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
        return line_end(file, size) == size


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


def _gone_iterations(folder: Path) -> Iterator[CorruptRecordError]:
    """Numbers are given without a gap, so each below the highest was there."""
    there = numbered(folder)
    for number in sorted(set(range(max(there, default=0))) - set(there)):
        reason = f"it is gone, though there is an iteration {max(there):03d}"
        fault = CorruptRecordError(folder / f"{number:03d}", None, reason)
        fault.hint = "restore the folder from a copy: rounds and verdicts were told with it"
        yield fault


def _gone_calls(journal: Path, evaluations: Path, *, partial: bool = False) -> Iterator[CorruptRecordError]:
    """Every answer is in the journal before it is in a trace. `partial`: their numbers are those of partial ones."""
    in_traces: Counter[Whose] = Counter()  # read first: what is recorded meanwhile is then in the journal too
    for folder in (folder for folder in numbered_folders(evaluations) if not _is_inherited(folder)):
        for trace in chain(_sound_traces(folder / TRACE), _sound_traces(folder / LEARN_TRACE)):
            answered = sum(call.response is not None and not call.cached for call in trace.calls)
            whose = (int(folder.name), trace.case_id, trace.trial)
            in_traces[whose] = max(answered, in_traces[whose])  # a repeated attempt repeats no completed call
    for _, line in read_lines(journal):
        try:
            of = JournalEntry.model_validate_json(line).attribution
        except ValueError:
            return  # told already, and it may be the call that is looked for
        number = of.partial if partial else of.iteration
        if number is not None:
            in_traces.subtract({(number, of.case_id, of.trial): 1})
    gone = (+in_traces).total()
    if gone:
        yield CorruptRecordError(journal, None, f"{gone:,} of the calls in traces are not in it: lines are gone")


def _is_inherited(folder: Path) -> bool:
    """Whether the calls in its traces are in the journal of another run."""
    data = read_optional(folder / "proposal.json")
    try:
        return data is not None and ProposalRecord.model_validate_json(data).inherited is not None
    except ValueError:
        return False  # told already


def _sound_traces(path: Path) -> Iterator[CaseTrace]:
    """The traces of a file, without its damaged lines: those are told already."""
    for _, line in read_lines(path):
        try:
            yield CaseTrace.model_validate_json(line)
        except ValueError:
            continue


def _sha256(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with store_errors("read", path), path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(_BLOCK, size))):
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()
