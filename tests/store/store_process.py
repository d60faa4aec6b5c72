"""Real processes for the tests: `python store_process.py TASK RUN ...`. Not collected by pytest."""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from store_kit import entry, proposal, score, trace

from metaharness.errors import MetaharnessError, RunLockedError, StoreError
from metaharness.store import RunStore


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def hold(run: str) -> None:
    """Own the run until standard input ends."""
    try:
        store = RunStore.open(Path(run), record=True)
    except RunLockedError:
        say("locked")
    else:
        say("owner", os.getpid())
        sys.stdin.read()
        store.close()


def hold_with_children(run: str) -> None:
    """Own the run, and leave a forked and a started child behind: both outlive a kill -9 of this process."""
    store = RunStore.open(Path(run), record=True)
    source = os.dup(0)
    started = subprocess.Popen(["cat"], stdin=source, stdout=subprocess.DEVNULL, close_fds=False)
    forked = os.fork()
    if forked == 0:
        try:
            store.event("from the child")
        except StoreError as error:
            say("refused", error.message)
        else:
            say("wrote")
        os.read(source, 1)
        os._exit(0)
    say("owner", os.getpid(), started.pid, forked)
    os.waitpid(forked, 0)


def write(run: str) -> None:
    """Record without end; say what is recorded after each call has returned."""
    with RunStore.open(Path(run), record=True) as store:
        for _ in itertools.count():
            number = store.add_iteration(proposal(f"# {os.getpid()}\n" * 40), round=0, slot=0).iteration
            say("iteration", number)
            for case in range(4):
                step = len(store.journal)
                store.journal.append(entry(step, "question " * 300))
                say("call", step)
                store.append_trace(number, trace(f"case-{case}", output="x" * 3000))
                say("trace", number, case)
                say("event", store.event("case_ended", iteration=number).number)
            store.write_score(number, score(number))
            say("score", number)


def limited(run: str, limit: str) -> None:
    """Append until files may not grow, then lift the limit and append again."""
    with RunStore.open(Path(run), record=True) as store:
        number = store.add_iteration(proposal(), round=0, slot=0).iteration
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        written = 0
        try:
            while True:
                store.append_trace(number, trace(f"case-{written}", output="x" * 700))
                written += 1
        except StoreError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            store.append_trace(number, trace("after"))
            stored = store.write_score(number, score(number))
            cause = type(error.__cause__).__name__
            say(json.dumps([written, error.message, error.hint, cause, stored.trace_sha256, stored.trace_bytes]))


def index(run: str) -> None:
    """Index a line of the traces of iteration 0 for each line that comes in; say what is indexed."""
    found = RunStore.open(Path(run), record=False).trace_index(0)
    for _ in sys.stdin:
        whole = found.update(seconds=0)
        say(json.dumps([whole, found.lines, [[row.case_id, row.trial, row.status] for row in found.rows().rows]]))


if __name__ == "__main__":
    tasks = {task.__name__: task for task in (hold, hold_with_children, write, limited, index)}
    try:
        tasks[sys.argv[1]](*sys.argv[2:])
    except MetaharnessError as error:
        say("failed", type(error).__name__, error.message)
        raise
