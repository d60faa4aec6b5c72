"""kill -9 at any moment loses at most what was in the air."""

from __future__ import annotations

import hashlib
import random
import signal
from collections import Counter
from pathlib import Path

import pytest
from store_kit import key, line_from, new_run, recording_process

from metaharness.records import JournalEntry
from metaharness.store import RunStore

KILLS = 25


def kill_after(run: Path, lines: int) -> list[tuple[str, ...]]:
    """Let a process record, kill it after so many lines, and return everything it said was recorded."""
    with recording_process("write", run) as writer:
        said = [line_from(writer) for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        assert writer.stdout is not None
        rest = writer.stdout.read().split("\n")[:-1]  # the last part has no newline: it was not said to the end
        writer.wait()
    return [tuple(line.split()) for line in said + rest]


def recorded(store: RunStore, seen: list[JournalEntry]) -> Counter[tuple[str, ...]]:
    """Everything on disk in the words of the writer."""
    found: Counter[tuple[str, ...]] = Counter()
    for record in store.iterations():
        number = record.iteration
        store.files(number)
        found[("iteration", str(number))] += 1
        for trace in store.traces(number):
            found[("trace", str(number), trace.case_id.removeprefix("case-"))] += 1
        if (score := store.score(number)) is not None:
            found[("score", str(number))] += 1
            content = (store.path / f"iterations/{number:03d}/eval_trace.jsonl").read_bytes()
            assert (score.trace_sha256, score.trace_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    found.update(("event", str(event.number)) for event in store.events() if event.kind != "torn")
    found.update(("call", str(int(entry.key, 16))) for entry in seen)
    return found


@pytest.mark.slow
def test_every_line_that_was_said_to_be_recorded_is_there_once_after_many_kills(tmp_path: Path) -> None:
    chance = random.Random(7)
    new_run(tmp_path).close()
    run = tmp_path / "run"
    said: set[tuple[str, ...]] = set()
    for kills in range(1, KILLS + 1):
        said.update(kill_after(run, chance.randrange(1, 40)))
        seen: list[JournalEntry] = []
        with RunStore.open(run, record=True, on_entry=seen.append) as store:
            found = recorded(store, seen)
            assert said - found.keys() == set()
            assert {what for what, times in found.items() if times > 1} == set()
            assert len(found.keys() - said) <= kills  # one call at most was over and not yet told, each time
            assert [record.iteration for record in store.iterations()] == list(range(store.next_number()))
            assert [event.number for event in store.events()] == list(range(sum(1 for _ in store.events())))
            for number in range(len(store.journal)):
                assert store.journal.lookup(key(number)) is not None
        half_written = [path for path in run.rglob(".*.tmp") if ".torn" not in path.parent.name]
        assert half_written == []
