"""`sealed/`: the opening of the test split, what was evaluated then, and its result. Only `holdout` asks for it.

opening.json                          what will be evaluated, written first
calls.jsonl                           the calls that were made for it
NNN/eval_trace.jsonl NNN/score.json   by the number of the iteration
result.json                           written last: its existence means that the run is finished
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaharness.errors import CorruptRecordError, StoreError
from metaharness.store.access import Access
from metaharness.store.encoding import json_page
from metaharness.store.evaluations import Evaluations
from metaharness.store.files import read_optional, store_errors, sync_folder, write_atomic
from metaharness.store.journal import Journal
from metaharness.store.repair import numbered

OPENING = "sealed/opening.json"
RESULT = "sealed/result.json"


class Sealed(Evaluations):
    """Traces and scores on the test split, by the number of the iteration, behind one opening."""

    def __init__(self, access: Access) -> None:
        super().__init__(access.path / "sealed", access)
        self.journal = Journal(access.path / "sealed" / "calls.jsonl", access)
        self.opening_path = access.path / OPENING
        self.result_path = access.path / RESULT
        self._begun: set[int] = set()

    def write_opening(self, opening: Mapping[str, Any]) -> None:
        """Record what will be evaluated, durably, before any of it is.

        Raises:
            StoreError: The test split of this run has been opened: there is one opening.
        """
        self._access.require_recording()
        path = self.opening_path
        if path.exists():
            raise StoreError(
                f"the test split of {self._access.path} has been opened already",
                hint="`finish` goes on with the opening that is recorded",
            )
        with store_errors("make the folder of", path):
            path.parent.mkdir(exist_ok=True)
            sync_folder(self._access.path)
        write_atomic(path, json_page(opening), durable=True)

    def opening(self) -> dict[str, Any] | None:
        """What the opening says, or None while the test split is sealed."""
        return read_opening(self._access.path)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Record what came out, durably. Nothing follows.

        Raises:
            StoreError: There is a result.
        """
        self._access.require_recording()
        path = self.result_path
        if path.exists():
            raise StoreError(f"the test of {self._access.path} has a result already", hint="there is one per run")
        write_atomic(path, json_page(result), durable=True)

    def result(self) -> dict[str, Any] | None:
        """What came out, or None while the test has not ended."""
        return read_object(self.result_path)

    def close(self) -> None:
        """Give the descriptors back."""
        super().close()
        self.journal.close()

    def numbers(self) -> list[int]:
        """The evaluations that have begun."""
        return numbered(self._folder_of_all)

    def _writable(self, number: int) -> Path:
        folder = super()._writable(number)
        if number not in self._begun:
            if self.opening() is None:
                raise StoreError(
                    "nothing is written about the test split before its opening", hint="call write_opening first"
                )
            with store_errors("make the folder", folder):
                folder.mkdir(exist_ok=True)
            self._begun.add(number)
        return folder


def read_opening(run: Path) -> dict[str, Any] | None:
    """The opening of a run's test split, or None.

    Raises:
        CorruptRecordError: It is damaged.
    """
    return read_object(run / OPENING)


def read_object(path: Path) -> dict[str, Any] | None:
    """A file that holds a JSON object; None when there is no such file. Raises CorruptRecordError where it does not."""
    data = read_optional(path)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise CorruptRecordError(path, None, str(error)) from error
    if not isinstance(value, dict):
        raise CorruptRecordError(path, None, "not an object")
    return value
