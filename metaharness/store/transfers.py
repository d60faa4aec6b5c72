"""What the candidates of a run come to elsewhere: with other models on `search`, or on data that a person gives later.

transfer/CELL/                 one model on `search`
sealed/transfer/CELL/          one model on given data
sealed/transfer/HASH.json      the opening of the test split of that data, by its hash; written first
CELL/cell.json                 what it is
CELL/calls.jsonl               the calls that were made for it
CELL/NNN/eval_trace.jsonl CELL/NNN/score.json     by the number of the iteration

Of `sealed/` no tool reads anything: only `run/transfer.py` asks for this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaharness.errors import StoreError
from metaharness.store.access import Access
from metaharness.store.encoding import json_page
from metaharness.store.evaluations import Evaluations
from metaharness.store.files import store_errors, sync_folder, write_atomic
from metaharness.store.journal import Journal
from metaharness.store.repair import transfer_folders
from metaharness.store.sealed import read_object


class Cell(Evaluations):
    """Traces and scores of one cell, by the number of the iteration, with a journal of its own."""

    def __init__(self, folder: Path, access: Access, about: Mapping[str, Any], opening: Path | None) -> None:
        super().__init__(folder, access)
        self.journal = Journal(folder / "calls.jsonl", access)
        self._about = about
        self._opening = opening
        self._begun: set[int] = set()

    def begin(self) -> None:
        """Make its folder, with `cell.json`.

        Raises:
            StoreError: It is on data whose opening is not on disk yet.
        """
        self._access.require_recording()
        if self._opening is not None and not self._opening.exists():
            raise StoreError("nothing is written about given data before its opening", hint="call write_opening first")
        folder = self._folder_of_all
        with store_errors("make the folder", folder):
            folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "cell.json").exists():
            write_atomic(folder / "cell.json", json_page(self._about))

    def close(self) -> None:
        """Give the descriptors back."""
        super().close()
        self.journal.close()

    def _writable(self, number: int) -> Path:
        folder = super()._writable(number)
        if number not in self._begun:
            with store_errors("make the folder", folder):
                folder.mkdir(exist_ok=True)
            self._begun.add(number)
        return folder


class Transfers:
    """The cells of one run, and the openings of data."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._open, self._sealed = transfer_folders(access.path)

    def cell(self, name: str, about: Mapping[str, Any], test_hash: str | None) -> Cell:
        """A cell, as it is on disk or will be.

        Args:
            name: That of its folder.
            about: What `cell.json` says.
            test_hash: The hash of the test split it is on; None for `search`.
        """
        sealed = test_hash is not None
        opening = None if test_hash is None else self._opening_path(test_hash)
        return Cell((self._sealed if sealed else self._open) / name, self._access, about, opening)

    def write_opening(self, test_hash: str, opening: Mapping[str, Any]) -> None:
        """Record, durably, that a test split is opened, before any of its cases is asked."""
        self._access.require_recording()
        path = self._opening_path(test_hash)
        with store_errors("make the folder of", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(path.parent.parent)
        write_atomic(path, json_page(opening), durable=True)

    def opening(self, test_hash: str) -> dict[str, Any] | None:
        """What the opening of a test split says; None while it is sealed."""
        return read_object(self._opening_path(test_hash))

    def _opening_path(self, test_hash: str) -> Path:
        return self._sealed / f"{test_hash}.json"


def transfer_openings(run: Path) -> Iterator[dict[str, Any]]:
    """The openings of data of a run, in no order that means anything.

    Raises:
        CorruptRecordError: One is damaged.
    """
    for path in sorted(transfer_folders(run)[1].glob("*.json")):
        found = read_object(path)
        if found is not None and not path.name.startswith("."):
            yield found
