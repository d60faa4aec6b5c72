"""One process records a run.

The operating system holds the lock (flock on `.lock`), so it ends with the process however that dies, and a
program started by the owner does not inherit it. `.lock.json` beside it says who the owner is; it is written after the
lock was taken, decides nothing about who gets the lock, and may be a dead owner's. Not guarded: network file
systems, and programs that ignore the lock.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from metaharness.errors import RunLockedError
from metaharness.records import now
from metaharness.store.encoding import json_page
from metaharness.store.files import store_errors, write_atomic

LOCK = ".lock"
NOTE = ".lock.json"


@dataclass(frozen=True)
class Owner:
    """A process that records a run, or may."""

    pid: int
    """0 when it is not known."""
    host: str
    since: str | None = None
    """None when it has not said since when."""
    command: str | None = None
    """None when it has not said what it is."""

    @property
    def here(self) -> bool:
        """False: on another machine, so that nobody can tell whether it still does."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        where = "" if self.here else f" on {self.host}"
        return f"{who}{where}" + (f" since {self.since}" if self.since else "")


class RunLock:
    """The lock of one run directory."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._note = run / NOTE
        self._lock = system_lock(run / LOCK)

    def acquire(self) -> None:
        """Take the lock, or say who has it.

        Raises:
            RunLockedError: Another process, or another store in this one, records the run.
        """
        with store_errors("lock", self._run):
            try:
                self._lock.acquire(blocking=False)
            except Timeout as error:
                raise self._locked() from error
        try:
            owner = {"pid": os.getpid(), "command": _command(), "since": now(), "host": socket.gethostname()}
            write_atomic(self._note, json_page(owner))
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Give the lock back."""
        with store_errors("unlock", self._run):
            try:
                self._note.unlink(missing_ok=True)
            finally:
                self._lock.release()

    def _locked(self) -> RunLockedError:
        owner = read_owner(self._run)
        if owner is None or (owner.here and not is_alive(owner.pid)):  # a dead owner's note says nothing of the next
            return RunLockedError(
                f"{self._run} is being recorded by another process that has not said which", hint="try again"
            )
        return RunLockedError(
            f"{self._run} is being recorded by process {owner.pid} on {owner.host} since {owner.since}: "
            f"{owner.command}",
            hint=f"wait until it ends or stop it (kill {owner.pid}); commands that only read work meanwhile",
        )


def system_lock(path: Path) -> FileLock:
    """The lock of the operating system on a file, not taken yet; where there is none, taking it fails."""
    # thread_local=False: whichever thread closes the store gives the lock back
    return FileLock(path, thread_local=False, fallback_to_soft=False)


def read_owner(run: Path) -> Owner | None:
    """What the owner of a run has said of itself: it may have died since. None where no sound note is."""
    try:
        note = json.loads((run / NOTE).read_bytes())
        pid, command, since, host = (note[name] for name in ("pid", "command", "since", "host"))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return Owner(pid, str(host), str(since), str(command)) if isinstance(pid, int) and pid > 0 else None


def is_alive(pid: int) -> bool:
    """Whether a process of that number is there, whichever it is."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _command() -> str:
    return shlex.join(getattr(sys, "orig_argv", sys.argv))
