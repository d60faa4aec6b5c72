"""What happens below one process, seen from outside: how many processes, how much memory, what is left.

From /proc, so on Linux; elsewhere nothing is seen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
INTERVAL = 0.02
"""Seconds between two looks."""
FEW = 40
"""Of more processes it is not looked up what they share: that would take longer than they live."""


@dataclass(frozen=True)
class Living:
    """A process. Its number may be given again; together with its start it is one process alone."""

    pid: int
    start: int
    parent: int
    memory: int
    """Bytes that are resident."""

    @property
    def key(self) -> tuple[int, int]:
        """Which process this is."""
        return self.pid, self.start


def processes() -> dict[int, Living]:
    """Every process that has not ended."""
    found: dict[int, Living] = {}
    names = os.listdir(PROC) if PROC.is_dir() else []  # noqa: PTH208 - often
    for name in names:
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (PROC / name / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    found[int(name)] = Living(int(name), int(fields[19]), int(fields[1]), int(fields[21]) * PAGE)
    return found


def below(pid: int, all_of_them: dict[int, Living]) -> list[Living]:
    """The children of a process, theirs, and so on."""
    children: dict[int, list[Living]] = {}
    for one in all_of_them.values():
        children.setdefault(one.parent, []).append(one)
    found, todo = [], [pid]
    while todo:
        for one in children.get(todo.pop(), ()):
            found.append(one)
            todo.append(one.pid)
    return found


def kill(those: set[tuple[int, int]]) -> None:
    """Kill processes that are still the same ones."""
    there = processes()
    for pid, start in those:
        if pid in there and there[pid].start == start:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def alive(those: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of them that have not ended."""
    return those & {one.key for one in processes().values()}


class Watch:
    """Looks again and again at what is below one process, until it is stopped."""

    def __init__(self, pid: int, suspicious: int) -> None:
        """`suspicious`: from so many resident bytes on, it is looked up which of them are shared."""
        self._pid = pid
        self._suspicious = suspicious
        self._stop = threading.Event()
        there = processes()
        self._own = there[pid].memory if pid in there else 0
        self.before = {one.key for one in below(pid, there)}
        self.seen: set[tuple[int, int]] = set()
        self.most_processes = 0
        self.most_memory = 0
        """Bytes of all of them together, shared ones once."""
        self.growth = 0
        """Bytes by which the process itself has grown."""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def look(self) -> set[tuple[int, int]]:
        """Look once; what is below now and was not there before."""
        there = processes()
        found = [one for one in below(self._pid, there) if one.key not in self.before]
        self.seen |= {one.key for one in found}
        self.most_processes = max(self.most_processes, len(found))
        memory = sum(one.memory for one in found)
        if memory > self._suspicious and len(found) <= FEW:
            memory = sum(_own_share(one) for one in found)
        self.most_memory = max(self.most_memory, memory)
        if self._pid in there:
            self.growth = max(self.growth, there[self._pid].memory - self._own)
        return {one.key for one in found}

    def settled(self, seconds: float) -> set[tuple[int, int]]:
        """What is left below after so long at most; empty as soon as nothing is."""
        until = time.monotonic() + seconds
        while (left := self.look()) and time.monotonic() < until:
            time.sleep(INTERVAL)
        return left

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.look()


def _own_share(one: Living) -> int:
    """Resident bytes, where what n processes share counts as 1/n in each; all of them where that is not told."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        for line in (PROC / str(one.pid) / "smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return one.memory
