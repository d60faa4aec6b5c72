"""One process records a run."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from store_kit import PROCESS, line_from, new_run, proposal, recording_process, run_record

from metaharness.errors import RunLockedError, StoreError
from metaharness.store import RunStore
from metaharness.store.lock import is_alive


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with new_run(tmp_path) as store:
        store.add_iteration(proposal(), round=0, slot=0)
    return store.path


def test_a_second_recorder_is_told_the_owners_pid_command_and_since_when(run: Path) -> None:
    with recording_process("hold", run) as owner:
        assert line_from(owner) == f"owner {owner.pid}"
        with pytest.raises(RunLockedError) as caught:
            RunStore.open(run, record=True)
    assert f"process {owner.pid} " in caught.value.message
    assert str(PROCESS) in caught.value.message
    assert "since 20" in caught.value.message
    assert f"kill {owner.pid}" in (caught.value.hint or "")


def test_a_reader_needs_no_lock_and_changes_nothing(run: Path) -> None:
    with recording_process("hold", run) as owner:
        line_from(owner)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        with RunStore.open(run, record=False) as reader:
            assert len(reader.iterations()) == 1
            assert list(reader.events()) == []
            assert reader.score(0) is None
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_killed_owner_leaves_no_lock_behind(run: Path) -> None:
    with recording_process("hold", run) as owner:
        line_from(owner)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert (run / ".lock.json").exists()
        RunStore.open(run, record=True).close()
    assert not (run / ".lock.json").exists()


@pytest.mark.slow
def test_of_many_that_ask_at_once_one_gets_it(run: Path) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(recording_process("hold", run)) for _ in range(4)]
        answers = [line_from(process).split()[0] for process in processes]
    assert sorted(answers) == ["locked"] * 3 + ["owner"]


def test_children_of_a_killed_owner_do_not_keep_the_lock_and_cannot_write(run: Path) -> None:
    with recording_process("hold_with_children", run) as owner:
        lines = [line_from(owner), line_from(owner)]
        refused, owned = sorted(lines, reverse=True)
        assert refused.startswith("refused")
        assert f"recorded by process {owner.pid}" in refused
        children = [int(pid) for pid in owned.split()[2:]]
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        for child in children:
            os.kill(child, 0)  # still alive
        with RunStore.open(run, record=True) as store:
            assert list(store.events()) == []
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_two_stores_in_one_process_exclude_each_other(run: Path) -> None:
    with RunStore.open(run, record=True), pytest.raises(RunLockedError, match=f"process {os.getpid()} "):
        RunStore.open(run, record=True)
    RunStore.open(run, record=True).close()


def test_a_dead_owners_note_is_not_shown_for_the_next_owner(run: Path) -> None:
    with RunStore.open(run, record=True):
        note = run / ".lock.json"
        note.write_text(note.read_text().replace(str(os.getpid()), str(2**22 + 1)))
        with pytest.raises(RunLockedError, match="has not said which"):
            RunStore.open(run, record=True)
        note.write_text("{")
        with pytest.raises(RunLockedError, match="has not said which"):
            RunStore.open(run, record=True)


def test_what_is_not_open_for_recording_refuses_every_write(run: Path, tmp_path: Path) -> None:
    closed = RunStore.open(run, record=True)
    closed.close()
    closed.close()
    for store in (closed, RunStore.open(run, record=False)):
        with pytest.raises(StoreError, match="not open for recording"):
            store.event("late")
        with pytest.raises(StoreError, match="not open for recording"):
            store.add_iteration(proposal(), round=1, slot=0)
        assert store.reasoning(0) == "because"


def test_opening_that_fails_gives_the_lock_back(run: Path) -> None:
    damaged = run / "iterations/000/proposal.json"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"{}\n")
    with pytest.raises(StoreError, match=r"proposal\.json"):
        RunStore.open(run, record=True)
    damaged.write_bytes(whole)
    RunStore.open(run, record=True).close()


def test_a_lock_whose_owner_cannot_be_named_is_given_back(run: Path) -> None:
    (run / ".lock.json").mkdir()
    with pytest.raises(StoreError, match=r"cannot write .*\.lock\.json"):
        RunStore.open(run, record=True)
    (run / ".lock.json").rmdir()
    RunStore.open(run, record=True).close()


def test_an_owner_that_this_user_may_not_signal_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    assert is_alive(os.getpid())
    assert not is_alive(2**22 + 1)
    monkeypatch.setattr(os, "kill", refuse)
    assert is_alive(2**22 + 1)


def test_creating_takes_the_lock(tmp_path: Path) -> None:
    with RunStore.create(tmp_path, run_record) as store, pytest.raises(RunLockedError):
        RunStore.open(store.path, record=True)
