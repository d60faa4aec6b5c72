"""`sessions/`: what proposers did in this run, one folder per session.

sessions/003-1/session.json        which proposer and model, what it has cost, how it ended; written first and last
sessions/003-1/transcript.jsonl    what was said and done, in order

The name is that of the round and the how-manyth session of it. No tool reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaharness.records import SessionRecord, now
from metaharness.store.access import Access
from metaharness.store.encoding import json_line, json_page, map_text
from metaharness.store.files import LogFile, parse, read_lines, read_optional, store_errors, write_atomic

SESSIONS = "sessions"
SESSION = "session.json"
TRANSCRIPT = "transcript.jsonl"


class SessionFiles:
    """The folder of one session that is being recorded."""

    def __init__(self, folder: Path, access: Access) -> None:
        self.folder = folder
        self._access = access
        self._log = LogFile(folder / TRANSCRIPT)

    @property
    def name(self) -> str:
        """As `proposal.json` has it."""
        return self.folder.name

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line to the transcript; it gets the time."""
        self._access.require_recording()
        line = {"time": now(), **row}
        redact = self._access.redact
        self._log.append(json_line(map_text(line, redact) if redact else line))

    def write(self, record: SessionRecord) -> None:
        """Write `session.json`, in place of the one before."""
        self._access.require_recording()
        write_atomic(self.folder / SESSION, json_page(record))

    def close(self) -> None:
        """Give the descriptor back."""
        self._log.close()


class Sessions:
    """All sessions of one run."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._folder = access.path / SESSIONS

    def begin(self, round: int) -> SessionFiles:
        """Make the folder of the next session of a round."""
        self._access.require_recording()
        with store_errors("make a session in", self._folder):
            self._folder.mkdir(exist_ok=True)
            number = 1
            while True:
                folder = self._folder / f"{round:03d}-{number}"
                try:
                    folder.mkdir()
                except FileExistsError:
                    number += 1
                else:
                    return SessionFiles(folder, self._access)

    def names(self) -> list[str]:
        """The sessions in order."""
        with store_errors("list", self._folder):
            try:
                found = [folder.name for folder in self._folder.iterdir() if (folder / SESSION).is_file()]
            except FileNotFoundError:
                return []
        return sorted(found, key=lambda name: tuple(int(part) if part.isdigit() else 0 for part in name.split("-")))

    def record(self, name: str) -> SessionRecord | None:
        """What a session was; None when there is none of that name."""
        file = self._folder / name / SESSION
        data = read_optional(file)
        return None if data is None else parse(SessionRecord, data, file)

    def transcript_path(self, name: str) -> Path:
        """Where the transcript of a session lies, for a person to read."""
        return self._folder / name / TRANSCRIPT

    def transcript(self, name: str) -> Iterator[dict[str, Any]]:
        """The lines of a transcript, in order; none when there is none."""
        for _, line in read_lines(self.transcript_path(name)):
            yield json.loads(line)
