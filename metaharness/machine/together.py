"""The memory of all processes of one worker: looked at again and again from outside, and ended when it is too much.

A limit of the kernel's on address space is one process's. Where a harness may start others, their sum is what counts,
and no cgroup can be counted on (it takes root, or a session of systemd). So a thread adds up what is resident; what
processes share counts in each of them, which errs on the side of ending too early. Memory that is shared and of no
file could stay though it is resident in none of them: the filter denies it (scripts/make_seccomp.py).

It does not guard the moment: between two looks a worker may take what can be written in `INTERVAL`. Nor the memory
that the kernel holds for it (pipes, sockets), nor its processor time, of which each process has its own limit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

INTERVAL = 0.02
"""Seconds between two looks."""
NICE = 5
"""By how much what is watched stands back, so that it does not keep the processor from the thread that watches."""
PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> Iterator[int]:
    """A process and all below it. What ends meanwhile is left out."""
    todo = [pid]
    while todo:
        one = todo.pop()
        yield one
        todo += _children(one)


def resident(pid: int) -> int | None:
    """Bytes a process has in memory; None when it has ended or is not to be seen."""
    try:
        return int((PROC / str(pid) / "statm").read_bytes().split()[1]) * PAGE
    except (OSError, IndexError):
        return None


def can_be_watched(pid: int) -> bool:
    """Whether this system shows the children of a process, and what it takes."""
    return resident(pid) is not None and (PROC / str(pid) / "task" / str(pid) / "children").exists()


class Watchdog:
    """Watches one tree of processes until it is told to stop."""

    def __init__(self, pid: int, most: int, end: Callable[[int, int], None], *, processes: int | None = None) -> None:
        """`end` is called once, with the bytes and the number of processes that were found, when they are too much.

        Args:
            pid: Of the first process.
            most: How many bytes they may take together.
            end: What ends them.
            processes: How many there may be; None: something else bounds them.
        """
        self._pid = pid
        self._most = most
        self._processes = processes
        self._end = end
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="memory of a worker")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more, and wait for the last look to end."""
        self._stop.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            found = [resident(pid) or 0 for pid in tree(self._pid)]
            if sum(found) > self._most or (self._processes is not None and len(found) > self._processes):
                self._end(sum(found), len(found))
                return


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(PROC / str(pid) / "task"):  # noqa: PTH208 - often
            found += map(int, (PROC / str(pid) / "task" / task / "children").read_bytes().split())
    except OSError:
        return found
    return found
