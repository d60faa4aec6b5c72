"""Who records a run right now, told without touching its lock.

Taking the lock to see whether it is free, even for a moment, would make a run fail that starts in that moment. So
two things are only read: the system's own list of locks (/proc/locks), and the owner's note `.lock.json`, which
counts while the process that it names runs that command. Where there is no such list (macOS, some file systems) the
note alone decides. Not guarded: an owner that has taken the lock and not yet written its note, where there is no list.
"""

from __future__ import annotations

import os
import shlex
import socket
from pathlib import Path

from metaharness.store.lock import LOCK, Owner, is_alive, read_owner

LOCKS = Path("/proc/locks")
PROCESSES = Path("/proc")


def owner_of(run: Path) -> Owner | None:
    """Who records the run; None when nobody does."""
    said, holder = read_owner(run), _holder(run / LOCK)
    if holder is not None:
        since = said.since if said is not None and said.pid == holder else None
        return Owner(holder, socket.gethostname(), since)
    if said is None or (said.here and not _still_runs(said)):
        return None
    return said


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


def _still_runs(owner: Owner) -> bool:
    """Whether a process is there and, where that can be told, is still the one of that command."""
    try:
        words = (PROCESSES / str(owner.pid) / "cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return is_alive(owner.pid)
    return not words or shlex.join(map(os.fsdecode, words)) == owner.command
