"""Candidates that were evaluated on some cases only: `partial/000`, `partial/001`, ...; none of them is an iteration.

NNN/harness.py or NNN/harness/        the candidate
NNN/candidate.json                    its hash; written last, so a folder that has one is whole
NNN/eval_trace.jsonl                  as of an iteration; there is no score
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metaharness.domain import files_hash
from metaharness.messages import Record
from metaharness.store.access import Access
from metaharness.store.candidates import Layout, candidate_path, encode_files, layout_of, write_files
from metaharness.store.encoding import json_page
from metaharness.store.evaluations import Evaluations
from metaharness.store.files import parse, read_optional, store_errors, write_atomic
from metaharness.store.repair import numbered

CANDIDATE = "candidate.json"
PARTIAL = "partial"


class PartialCandidate(Record):
    """`candidate.json`."""

    candidate_hash: str
    """As of an iteration."""
    layout: Layout


class Partials(Evaluations):
    """The traces of such candidates, by number. One and the same candidate has one number."""

    def __init__(self, access: Access) -> None:
        super().__init__(access.path / PARTIAL, access)
        self._known: dict[str, int] | None = None
        self._layouts: dict[int, Layout] = {}
        self._next = 0

    def add(self, files: Mapping[str, str]) -> tuple[int, str]:
        """The number and the hash of a candidate; it is written where it has no number yet. Its files are checked."""
        self._access.require_recording()
        known, contents = self._numbers(), encode_files(files)
        sha256 = files_hash(contents)
        if sha256 not in known:
            number, layout = self._next, layout_of(files)
            folder = self._folder(number)
            with store_errors("make the folder", folder):
                folder.mkdir(parents=True)
            self._next += 1
            write_files(folder, contents, layout)
            write_atomic(folder / CANDIDATE, json_page(PartialCandidate(candidate_hash=sha256, layout=layout)))
            known[sha256], self._layouts[number] = number, layout
        return known[sha256], sha256

    def candidate_path(self, number: int) -> Path:
        """What a worker is given as the candidate's path."""
        self._numbers()
        return candidate_path(self._folder(number), self._layouts[number])

    def _numbers(self) -> dict[str, int]:
        if self._known is None:
            self._known = {}
            for number in numbered(self._folder_of_all):
                self._next = number + 1
                path = self._folder(number) / CANDIDATE
                data = read_optional(path)
                if data is not None:  # else its writing was cut short: it is left as it is, and its number stays taken
                    found = parse(PartialCandidate, data, path)
                    self._known[found.candidate_hash], self._layouts[number] = number, found.layout
        return self._known
