"""Who records a run right now, told without touching its lock.

Taking the lock to see whether it is free, even for a moment, would make a run fail that starts in that moment. So
two things are only read: the system's own list of locks (/proc/locks), and the owner's note `.lock.json`, which
counts while the process that it names runs that command. Where there is no such list (macOS, some file systems) the
note alone decides. Not guarded: an owner that has taken the lock and not yet written its note, where there is no list.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK = ".lock"
NOTE = ".lock.json"
LOCKS = Path("/proc/locks")
PROCESSES = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """A process that records a run, or may."""

    pid: int
    """0 when it is not known."""
    host: str
    since: str | None
    """None when it has not said since when."""
    here: bool
    """False: on another machine, so that nobody can tell whether it still does."""

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        where = "" if self.here else f" on {self.host}"
        return f"{who}{where}" + (f" since {self.since}" if self.since else "")


def owner_of(run: Path) -> Owner | None:
    """Who records the run; None when nobody does."""
    note, host = _note(run), socket.gethostname()
    holder = _holder(run / LOCK)
    if holder is not None:
        since = str(note["since"]) if note is not None and note["pid"] == holder else None
        return Owner(holder, host, since, here=True)
    if note is None:
        return None
    here = note["host"] == host
    if here and not _runs(note["pid"], str(note["command"])):
        return None
    return Owner(note["pid"], str(note["host"]), str(note["since"]), here=here)


def _note(run: Path) -> Mapping[str, Any] | None:
    try:
        note = json.loads((run / NOTE).read_bytes())
        facts = {name: note[name] for name in ("pid", "command", "since", "host")}
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return facts if isinstance(facts["pid"], int) and facts["pid"] > 0 else None


def _holder(lock: Path) -> int | None:
    """The process that holds the lock, 0 when it is hidden from this one; None when the list names nobody."""
    try:
        status = lock.stat()
        lines = LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for fields in map(str.split, lines):  # 1: FLOCK ADVISORY WRITE 4711 fe:00:131085 0 EOF
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == file:
            return max(0, int(fields[4]))
    return None


def _runs(pid: int, command: str) -> bool:
    """Whether a process is there and, where that can be told, is still the one of that command."""
    try:
        words = (PROCESSES / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return _alive(pid)
    return not words or shlex.join(map(os.fsdecode, words)) == command


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
