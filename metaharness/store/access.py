"""Who may write: handed to every part of a store, so that each write asks the same question."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from metaharness.errors import StoreError
from metaharness.store.encoding import Redact


@dataclass
class Access:
    """One opening of a run directory."""

    path: Path
    recording: bool
    """Whether this process holds the lock; False again after `close`."""
    redact: Redact | None = None
    """Applied to every string before it is written; None writes them as they are. To redact twice is to redact once."""
    pid: int = field(default_factory=os.getpid)

    def require_recording(self) -> None:
        """Refuse to write what was not opened for it: a reader, a closed store, a forked child.

        Raises:
            StoreError: This process does not own the run.
        """
        if not self.recording:
            raise StoreError(
                f"{self.path} is not open for recording", hint="open it with RunStore.open(path, record=True)"
            )
        if self.pid != os.getpid():
            raise StoreError(
                f"{self.path} is recorded by process {self.pid}; this is its child {os.getpid()}",
                hint="hand results back to the process that owns the run: only that one writes",
            )
