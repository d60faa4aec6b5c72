"""What a harness may use: time, calls, and what its worker is bounded to.

A worker puts the bounds on itself before its candidate loads (`sandbox/guard.py`), each no higher than what the system
allows it already. Under the sandbox `process` root can take them off again.
"""

from __future__ import annotations

from pydantic import Field

from metaharness.messages import Record


class Limits(Record):
    """What one evaluation may use. Seconds are of the clock on the wall, unless they are said to be a processor's."""

    case_seconds: float = Field(default=60.0, gt=0)
    """The harness's own time per case; waiting for a model does not count."""
    learn_seconds: float = Field(default=300.0, gt=0)
    call_seconds: float = Field(default=120.0, gt=0)
    """The deadline of one model call; beyond it the call is an infrastructure failure."""
    calls_per_case: int = Field(default=1000, ge=1)
    memory_mb: int = Field(default=2048, ge=64)
    """Address space of a worker, in MiB, without the stacks of its threads. Where a domain lets its harnesses start
    processes, that of each, and what all of them together may have in memory."""
    cpu_seconds: int = Field(default=3600, ge=1)
    """Processor time of one worker over all the cases it answers, in seconds; beyond it the worker is ended, and what
    was open in it is asked again. Of several processes each has so much."""
    processes: int = Field(default=1024, ge=1)
    """Processes and threads of a worker, where its sandbox counts them apart from the user's others: bubblewrap. Under
    Landlock threads are bounded by memory alone. Without `Domain.subprocess` no sandbox but `process` lets a candidate
    start a process at all."""
    file_size_mb: int = Field(default=64, ge=0)
    """The longest file a worker may write, in MiB. Bubblewrap has 64 MiB and 8192 names for all of them, Landlock
    none."""
    open_files: int = Field(default=1024, ge=32)
    """Descriptors each process of a worker may have open. It bounds as well what the kernel holds for pairs of sockets,
    which no limit on memory counts: about 220 KB for each descriptor."""
