"""One process records a run.

The operating system holds the lock (flock on `.lock`), so it ends with the process however that dies, and a
program started by the owner does not inherit it. `.lock.json` beside it says who the owner is; it is written after the
lock was taken and is for the message alone. Not guarded: network file systems, and programs that ignore the lock.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from metaharness.errors import RunLockedError
from metaharness.records import now
from metaharness.store.encoding import json_page
from metaharness.store.files import store_errors, write_atomic


class RunLock:
    """The lock of one run directory."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._owner = run / ".lock.json"
        # thread_local=False: whichever thread closes the store gives the lock back
        self._lock = FileLock(run / ".lock", thread_local=False, fallback_to_soft=False)

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
            write_atomic(self._owner, json_page(owner))
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Give the lock back."""
        with store_errors("unlock", self._run):
            try:
                self._owner.unlink(missing_ok=True)
            finally:
                self._lock.release()

    def _locked(self) -> RunLockedError:
        owner = _read_owner(self._owner)
        if owner is None:
            return RunLockedError(
                f"{self._run} is being recorded by another process that has not said which", hint="try again"
            )
        return RunLockedError(
            f"{self._run} is being recorded by process {owner['pid']} on {owner['host']} since {owner['since']}: "
            f"{owner['command']}",
            hint=f"wait until it ends or stop it (kill {owner['pid']}); commands that only read work meanwhile",
        )


def _command() -> str:
    return shlex.join(getattr(sys, "orig_argv", sys.argv))


def _read_owner(path: Path) -> dict[str, Any] | None:
    """What the owner says of itself; None in the moment before it has, or when a dead owner's note is left."""
    try:
        owner = json.loads(path.read_bytes())
        facts = {name: owner[name] for name in ("pid", "command", "since", "host")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if facts["host"] == socket.gethostname() and not _alive(facts["pid"]):
        return None
    return facts


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
