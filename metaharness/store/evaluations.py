"""Traces and scores of numbered evaluations: `NNN/eval_trace.jsonl`, `NNN/learn_trace.jsonl`, `NNN/score.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from metaharness.marks import mark_of
from metaharness.records import LEARN, CaseTrace, FileMark, Score
from metaharness.store.access import Access
from metaharness.store.encoding import json_line, json_page, needle, redacted, scrub
from metaharness.store.files import (
    LogFile,
    free_name,
    lines_from,
    parse,
    read_lines,
    read_optional,
    store_errors,
    write_atomic,
)

T = TypeVar("T")
Pair = tuple[str, int]
"""A case id and a trial."""

TRACE = "eval_trace.jsonl"
LEARN_TRACE = "learn_trace.jsonl"
SCORE = "score.json"
_MOST_OPEN = 64
"""Trace files held open at once; beyond it the one that was written longest ago is closed."""


class Evaluations:
    """The evaluations below one folder, by number."""

    def __init__(self, folder: Path, access: Access) -> None:
        self._folder_of_all = folder
        self._access = access
        self._logs: dict[tuple[int, str], LogFile] = {}
        self._open: dict[tuple[int, str], LogFile] = {}
        self._scores: dict[int, Score] = {}

    # --- traces ---

    def append_trace(self, number: int, trace: CaseTrace) -> None:
        """Record one attempt at a case: one line, in the operating system when this returns.

        A trace whose case id is `records.LEARN` goes to the learn trace.
        """
        self._access.require_recording()
        key = (number, LEARN_TRACE if trace.case_id == LEARN else TRACE)
        line = json_line(redacted(trace, self._access.redact))
        log = self._logs.get(key) or self._log(self._writable(number), key)
        self._open.pop(key, None)
        self._open[key] = log
        if len(self._open) > _MOST_OPEN:
            self._open.pop(next(iter(self._open))).close()
        log.append(line)

    def traces(self, number: int, case_id: str | None = None) -> Iterator[CaseTrace]:
        """Every attempt in the order of writing, one at a time.

        Args:
            number: The evaluation.
            case_id: Only this case; the lines of others are not parsed. None for all.
        """
        path = self._readable(number) / TRACE
        for line_number, line in read_lines(path, b"" if case_id is None else needle(case_id)):
            trace = parse(CaseTrace, line, path, line_number)
            if case_id is None or trace.case_id == scrub(case_id):
                yield trace

    def trace_lines(
        self, number: int, *, learn: bool = False, offset: int = 0, line: int = 1
    ) -> Iterator[tuple[int, int, bytes]]:
        """Every attempt as it lies on the disk, not parsed: line number, offset in bytes, line.

        Args:
            number: The evaluation.
            learn: Those of `learn` instead.
            offset: Begin here, where a line begins.
            line: The number of that line, from 1.

        Raises:
            ValueError: No line begins at the offset.
        """
        return lines_from(self._readable(number) / (LEARN_TRACE if learn else TRACE), offset, line)

    def learn_traces(self, number: int) -> Iterator[CaseTrace]:
        """What `learn` did, in the order of writing."""
        path = self._readable(number) / LEARN_TRACE
        for line_number, line in read_lines(path):
            yield parse(CaseTrace, line, path, line_number)

    def latest_traces(self, number: int) -> dict[Pair, CaseTrace]:
        """The attempt that counts for each case and trial, whole: it holds every prompt in memory."""
        return self.measure_traces(number, lambda trace: trace)

    def measure_traces(self, number: int, measure: Callable[[CaseTrace], T]) -> dict[Pair, T]:
        """What `measure` takes from the attempt that counts for each case and trial.

        One trace is in memory at a time, so a trace file may be larger than memory.
        """
        return {(trace.case_id, trace.trial): measure(trace) for trace in self.traces(number)}

    # --- scores ---

    def write_score(self, number: int, score: Score) -> Score:
        """Write the score of an evaluation, atomically and durably.

        `revision`, `trace_sha256` and `trace_bytes` are filled in here. Returns the score as written.
        """
        folder = self._writable(number)
        log = self._log(folder, (number, TRACE))
        previous = self.score(number)
        score = score.model_copy(
            update={
                "marks": self._marks(number, log.sha256()),
                "revision": 1 if previous is None else previous.revision + 1,
                "trace_sha256": log.sha256(),
                "trace_bytes": log.size,
            }
        )
        self._scores.pop(number, None)  # if writing fails, the disk is asked again
        write_atomic(folder / SCORE, json_page(score), durable=True)
        self._scores[number] = score
        for name in (TRACE, LEARN_TRACE):
            if (opened := self._open.pop((number, name), None)) is not None:
                opened.close()
        return score

    def score(self, number: int) -> Score | None:
        """The score of an evaluation, or None while it has none."""
        folder = self._readable(number)
        if (known := self._scores.get(number)) is not None:
            return known
        path = folder / SCORE
        data = read_optional(path)
        if data is None:
            return None
        score = parse(Score, data, path)
        if self._access.recording:  # a reader looks again: the owner may write a new revision
            self._scores[number] = score
        return score

    def score_path(self, number: int) -> Path:
        """Where the score lies or will lie."""
        return self._readable(number) / SCORE

    def current_score(self, number: int) -> Score | None:
        """The score of an evaluation, if it is that of all its traces; None where a kill came between the two."""
        score = self.score(number)
        size = self._log(self._readable(number), (number, TRACE)).size
        return score if score is not None and score.trace_bytes == size else None

    def refuse(self, number: int) -> None:
        """Move what was evaluated out of the way, to `<name>.refused`: it is evaluated anew when the run goes on."""
        folder = self._writable(number)
        for name in (TRACE, LEARN_TRACE):
            if (log := self._logs.pop((number, name), None)) is not None:
                log.close()
            self._open.pop((number, name), None)
        self._scores.pop(number, None)
        for name in (SCORE, TRACE, LEARN_TRACE, *self._also_refused):
            path = folder / name
            with store_errors("move", path):
                if path.exists():
                    path.rename(free_name(folder / f"{name}.refused"))

    # --- for the kinds of evaluation ---

    _also_refused: tuple[str, ...] = ()
    """What else follows from an evaluation."""

    def _marks(self, number: int, trace_sha256: str) -> dict[str, FileMark]:
        """The files that a score is made of."""
        folder = self._folder(number)
        found = {TRACE: mark_of(folder / TRACE, trace_sha256), LEARN_TRACE: mark_of(folder / LEARN_TRACE)}
        return {name: mark for name, mark in found.items() if mark is not None}

    def close(self) -> None:
        """Give the descriptors back."""
        for log in self._open.values():
            log.close()
        self._open.clear()

    def _folder(self, number: int) -> Path:
        return self._folder_of_all / f"{number:03d}"

    def _readable(self, number: int) -> Path:
        """The folder of an evaluation that exists."""
        return self._folder(number)

    def _writable(self, number: int) -> Path:
        """The same, when this process records the run."""
        self._access.require_recording()
        return self._readable(number)

    def _log(self, folder: Path, key: tuple[int, str]) -> LogFile:
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = LogFile(folder / key[1], hashed=key[1] == TRACE)
        return log
