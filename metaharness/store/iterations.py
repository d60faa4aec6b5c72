"""The numbered candidates of a run: `iterations/000`, `iterations/001`, ..."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from metaharness.domain import files_hash
from metaharness.errors import CorruptRecordError, StoreError, UsageError
from metaharness.marks import content_hash, looks_same, mark_of
from metaharness.records import FileMark, Proposal, ProposalRecord, Rejection, now
from metaharness.store.access import Access
from metaharness.store.candidates import (
    candidate_path,
    check_candidate_files,
    encode_files,
    layout_of,
    read_files,
    write_files,
)
from metaharness.store.encoding import json_line, json_page, map_text, redacted, text_bytes
from metaharness.store.evaluations import LEARN_TRACE, SCORE, TRACE, Evaluations
from metaharness.store.files import (
    parse,
    read_optional,
    read_text,
    store_errors,
    sync_folder,
    write_atomic,
    write_new,
)
from metaharness.store.repair import numbered, set_aside
from metaharness.store.trace_index import TraceIndex

REJECTED = "rejected.json"
PROPOSAL = "proposal.json"
PARTS = (PROPOSAL, "reasoning.md", "filesystem_reads.jsonl", "report.md", SCORE, REJECTED, TRACE, LEARN_TRACE)
"""The files of an iteration beside its source."""
COPIED = ("reasoning.md", "filesystem_reads.jsonl", "report.md", REJECTED)
"""What lies beside a candidate that another run takes over, and is no file of its own nor of its evaluation."""

_INDEXES_KEPT = 3
"""Indexes of traces in memory; each takes some 20 MB for 100,000 cases."""


def not_as_recorded(path: Path) -> CorruptRecordError:
    """The error about a file that has changed since."""
    error = CorruptRecordError(path, None, "it is not what was recorded" if path.exists() else "it is gone")
    error.hint = "restore it from a copy, or begin a new run: what was found out with it cannot be believed otherwise"
    return error


class Iterations(Evaluations):
    """Candidates with their traces and scores. The owner of the run knows them all; a reader looks again."""

    _also_refused = (REJECTED,)

    def __init__(self, access: Access) -> None:
        super().__init__(access.path / "iterations", access)
        self._proposals: dict[int, ProposalRecord] = {}
        self._rejections: dict[int, Rejection] = {}
        self._indexes: dict[int, TraceIndex] = {}
        self._next = 0

    # --- submitting ---

    def next_number(self) -> int:
        """The number that the next candidate gets."""
        if not self._access.recording:
            self._load_iterations()
        return self._next

    def add_iteration(
        self,
        proposal: Proposal,
        *,
        round: int,
        slot: int,
        by_hand: bool = False,
        flags: Sequence[str] = (),
    ) -> ProposalRecord:
        """Record a candidate under the next number.

        `proposal.json` is written last, so a folder that has one is whole.

        Args:
            proposal: The candidate's files and what its proposer says of it.
            round: The round it belongs to; 0 for baselines.
            slot: Its place within the round.
            by_hand: Whether it was handed in outside the search.
            flags: What to know before its score is believed.

        Raises:
            CandidateError: A file name is not acceptable; no number was taken.
        """
        self._access.require_recording()
        check_candidate_files(proposal.files)
        folder = self._take_number()
        number = int(folder.name)
        try:
            record = self._write_candidate(
                folder, proposal, iteration=number, round=round, slot=slot, by_hand=by_hand, flags=list(flags)
            )
        except BaseException:
            with suppress(OSError):  # what cannot be removed is set aside when the number is taken again
                shutil.rmtree(folder)
            raise
        self._proposals[number] = record
        self._next = number + 1
        return record

    def adopt(self, source: Iterations, number: int) -> ProposalRecord:
        """Record a candidate of another run under the same number, with all that was handed in and said of it.

        Its traces and its score are not copied. As with `add_iteration`, `proposal.json` is written last.

        Raises:
            StoreError: It is not the next number.
            CorruptRecordError: Its files are not those that were submitted.
        """
        self._access.require_recording()
        record, contents = source.proposal(number), encode_files(source.files(number))
        if number != self._next:
            raise StoreError(
                f"the next candidate of {self._access.path} is {self._next}, not {number}",
                hint="copy the candidates of a run in their order, from the first one on",
            )
        folder = self._take_number()
        write_files(folder, contents, record.layout)
        for name in COPIED:
            content = read_optional(source._readable(number) / name)
            if content is not None:
                write_new(folder / name, content)
        write_atomic(folder / PROPOSAL, json_page(record), durable=True)
        with store_errors("write", folder):
            sync_folder(self._folder_of_all)
        self._proposals[number] = record
        self._next = number + 1
        return record

    # --- reading ---

    def iterations(self) -> list[ProposalRecord]:
        """Every candidate in order, rejected ones too."""
        if not self._access.recording:
            self._load_iterations()
        return list(self._proposals.values())

    def proposal(self, number: int) -> ProposalRecord:
        """What the proposer said of a candidate.

        Raises:
            UsageError: There is no such iteration.
        """
        if number not in self._proposals and not self._access.recording:
            self._load_iterations()
        if number not in self._proposals:
            raise UsageError(f"{self._access.path.name} has no iteration {number}", hint=self._what_there_is())
        return self._proposals[number]

    def reasoning(self, number: int) -> str:
        """Why the proposer wrote this candidate."""
        return read_text(self._readable(number) / "reasoning.md") or ""

    def candidate_path(self, number: int) -> Path:
        """Where the candidate lies: the file `harness.py`, or the folder `harness`."""
        return candidate_path(self._folder(number), self.proposal(number).layout)

    def files(self, number: int) -> dict[str, str]:
        """The candidate's files by their relative path.

        Raises:
            CorruptRecordError: They are not what was submitted.
        """
        record = self.proposal(number)
        contents = read_files(self._folder(number), record.layout)
        if files_hash(contents) != record.candidate_hash:
            path = self.candidate_path(number)
            raise CorruptRecordError(path, None, "the files are not those that were submitted: their hash differs")
        return {path: content.decode() for path, content in contents.items()}

    def trace_index(self, number: int) -> TraceIndex:
        """The index of the traces of a candidate, as it was left here; `update` brings it up to date."""
        path = self._readable(number) / TRACE
        index = self._indexes.pop(number, None) or TraceIndex(number, path)
        self._indexes[number] = index
        if len(self._indexes) > _INDEXES_KEPT:
            self._indexes.pop(next(iter(self._indexes)))
        return index

    def part(self, number: int, name: str, *, most: int) -> str | None:
        """The text of a file that lies in the folder of an iteration; None where there is none.

        Raises:
            UsageError: It is no file of an iteration, or has more than `most` bytes.
        """
        if name not in PARTS:
            raise UsageError(f"an iteration has no {name}", hint=f"valid: {', '.join(PARTS)}")
        path = self._readable(number) / name
        with store_errors("read", path):
            if path.is_file() and path.stat().st_size > most:
                raise UsageError(f"{path} has more than {most:,} bytes", hint="read it by pages: read_trace")
        return read_text(path)

    def parts(self, number: int) -> list[str]:
        """Which of the files that `part` gives an iteration has.

        Raises:
            UsageError: There is no such iteration.
        """
        self.proposal(number)
        folder = self._readable(number)
        return [name for name in PARTS if (folder / name).is_file()]

    # --- verdicts of the ladder, reports ---

    def reject(self, number: int, rejection: Rejection) -> Rejection:
        """Record why the ladder stopped a candidate. Returns the rejection as written, with its time."""
        folder = self._writable(number)
        rejection = redacted(rejection, self._access.redact)
        if not rejection.time:
            rejection = rejection.model_copy(update={"time": now()})
        write_atomic(folder / REJECTED, json_page(rejection))
        self._rejections[number] = rejection
        return rejection

    def rejection(self, number: int) -> Rejection | None:
        """Why a candidate was stopped, or None."""
        folder = self._readable(number)
        if number not in self._rejections:
            path = folder / REJECTED
            data = read_optional(path)
            if data is None:
                return None
            self._rejections[number] = parse(Rejection, data, path)
        return self._rejections[number]

    def rejection_path(self, number: int) -> Path:
        """Where the reason lies, traceback included, for a person to read."""
        return self._readable(number) / REJECTED

    def write_report(self, number: int, text: str) -> Path:
        """Write the report of an evaluation; at most 30 lines is the caller's promise. Returns where it lies."""
        folder = self._writable(number)
        write_atomic(folder / "report.md", self._text(text))
        return folder / "report.md"

    def report(self, number: int) -> str | None:
        """The report of an evaluation, or None while it has none."""
        return read_text(self._readable(number) / "report.md")

    # --- whether it is what was recorded ---

    def damage(self, number: int, score_sha256: str | None) -> CorruptRecordError | None:
        """What of a candidate is not what was recorded; None when all of it is.

        Content is read only where size, times or inode are not those that the score names. Not told: a changed
        `rejected.json`, and a changed score whose hash is not known.

        Args:
            number: The iteration.
            score_sha256: That of `score.json` when it was written; None where it is not known.
        """
        folder, score = self._readable(number), self.score(number)
        if score is None or not score.marks:
            return self._damaged_files(number)
        path = folder / SCORE
        if score_sha256 is not None and content_hash(path) != score_sha256:
            return not_as_recorded(path)
        for name, mark in score.marks.items():
            path = folder / name
            if looks_same(path, mark):
                continue
            if self.candidate_path(number) in (path, *path.parents):
                return self._damaged_files(number)
            # what is missing is asked again: the logs of such a candidate may have grown since
            grown = mark.size if name.endswith(".jsonl") and not score.complete else None
            if not path.is_file() or content_hash(path, grown) != mark.sha256:
                return not_as_recorded(path)
        return None

    def recorded_files(self, number: int) -> list[Path]:
        """Everything that is recorded of a candidate, as it lies on the disk."""
        folder = self._readable(number)
        names = (SCORE, REJECTED, "proposal.json", "reasoning.md", TRACE, LEARN_TRACE)
        return [folder / name for name in names] + self._own_files(number)

    def _own_files(self, number: int) -> list[Path]:
        path = self.candidate_path(number)
        if self.proposal(number).layout == "file":
            return [path]
        return [path / name for name in read_files(self._folder(number), "folder")]

    def _damaged_files(self, number: int) -> CorruptRecordError | None:
        try:
            self.files(number)
        except CorruptRecordError as error:
            return error
        return None

    def refuse(self, number: int) -> None:
        """As of every evaluation; what the ladder has said goes too."""
        super().refuse(number)
        self._rejections.pop(number, None)

    def _marks(self, number: int, trace_sha256: str) -> dict[str, FileMark]:
        folder = self._folder(number)
        paths = [folder / "proposal.json", folder / "reasoning.md", *self._own_files(number)]
        found = {path.relative_to(folder).as_posix(): mark_of(path) for path in paths}
        return {name: mark for name, mark in found.items() if mark is not None} | super()._marks(number, trace_sha256)

    # --- inside ---

    def _load_iterations(self) -> None:
        """Read what is not known yet. A folder without `proposal.json` is still being written and not there."""
        for number in numbered(self._folder_of_all):
            if number not in self._proposals:
                path = self._folder(number) / PROPOSAL
                data = read_optional(path)
                if data is not None:
                    self._proposals[number] = parse(ProposalRecord, data, path)
            self._next = max(self._next, number + 1)

    def _readable(self, number: int) -> Path:
        self.proposal(number)
        return self._folder(number)

    def _take_number(self) -> Path:
        folder = self._folder(self._next)
        with store_errors("make the folder", folder):
            self._folder_of_all.mkdir(exist_ok=True)
            try:
                folder.mkdir()
            except FileExistsError:
                if (folder / PROPOSAL).exists():
                    raise StoreError(
                        f"{folder} was written by another program while this process records the run",
                        hint="stop the other program and open the run again",
                    ) from None
                set_aside(folder)
                folder.mkdir()
        return folder

    def _write_candidate(self, folder: Path, proposal: Proposal, **place: Any) -> ProposalRecord:
        contents = encode_files(proposal.files)
        layout = layout_of(proposal.files)
        write_files(folder, contents, layout)
        write_new(folder / "reasoning.md", self._text(proposal.reasoning))
        if proposal.reads:
            redact = self._access.redact
            lines = [json_line(map_text(row, redact) if redact else row) for row in proposal.reads]
            write_new(folder / "filesystem_reads.jsonl", b"".join(lines))
        record = ProposalRecord(
            **place,
            name=proposal.name,
            layout=layout,
            candidate_hash=files_hash(contents),
            hypothesis=proposal.hypothesis,
            parents=list(proposal.parents),
            axis=proposal.axis,
            components=list(proposal.components),
            predicted_effect=proposal.predicted_effect,
            session=proposal.session,
            submitted=now(),
        )
        record = redacted(record, self._access.redact)
        write_atomic(folder / PROPOSAL, json_page(record), durable=True)
        with store_errors("write", folder):
            sync_folder(self._folder_of_all)
        return record

    def _text(self, text: str) -> bytes:
        return text_bytes(self._access.redact(text) if self._access.redact else text)

    def _what_there_is(self) -> str:
        if not self._proposals:
            return "it has no iterations yet"
        return f"it has {min(self._proposals)} to {max(self._proposals)}"
