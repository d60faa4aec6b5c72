"""What is told of a run by looking at it: its damage, what a kill left, its owner, its size. Nothing is changed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest
from store_kit import call, entry, files_below, line_from, new_run, proposal, recording_process, score, trace

from metaharness.errors import RunLockedError, StoreError
from metaharness.records import LEARN, Attribution, CallError, JournalEntry, Rejection
from metaharness.store import (
    RunStore,
    damage_in,
    damaged_candidates,
    disk_use,
    is_run,
    owner_of,
    torn_candidates,
    torn_lines,
    unmade_runs,
)
from metaharness.store.lock import read_owner

LOCKS = Path("/proc/locks")
"""The system's own list of who holds which lock."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A closed run with every kind of record: one scored candidate, one rejected, an opened test with its result."""
    with new_run(tmp_path / "runs") as store:
        reads = [store.append_read(path="x", size=1, tool="read", session="s")]
        store.add_iteration(proposal(reads=tuple(reads)), round=0, slot=0)
        store.add_iteration(proposal("class Harness: pass\n"), round=0, slot=1)
        store.reject(1, Rejection(stage="interface", message="no"))
        for number in range(3):
            store.journal.append(entry(number))
            store.event("fact", value=number)
            store.append_trace(0, trace(f"case-{number}", calls=[]))
            store.append_trace(0, trace(LEARN, trial=number, calls=[]))
        store.write_score(0, score())
        store.append_summary({"iteration": 0})
        store.write_summary({"status": "ended"})
        store.write_cost({"calls": 3})
        store.sealed.write_opening({"winner": 0})
        store.sealed.journal.append(entry(0))
        store.sealed.append_trace(0, trace("test-0", calls=[]))
        store.sealed.write_score(0, score())
        store.sealed.write_result({"winner": 0})
    return store.path


def found(run: Path, *, deep: bool) -> list[tuple[str, int | None]]:
    """Where there is damage, and in which line."""
    return [(Path(str(fault.path)).relative_to(run).as_posix(), fault.line) for fault in damage_in(run, deep=deep)]


def note(run: Path, **fields: object) -> None:
    """The note of an owner: this process, where nothing else is said."""
    own = {"pid": os.getpid(), "command": shlex.join(sys.orig_argv), "since": "2026", "host": socket.gethostname()}
    (run / ".lock.json").write_text(json.dumps({**own, **fields}))


def test_looking_changes_nothing_whatever_is_there(run: Path) -> None:
    (run / ".lock").unlink()  # taking the lock would make it anew
    note(run, pid=2**22 + 1)
    (run / "iterations/000/score.json").write_text("{")
    (run / "iterations/002").mkdir()
    with (run / "calls.jsonl").open("ab") as file:
        file.write(b"[]\n[")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.parent.rglob("*")}
    assert found(run, deep=True) != []
    assert list(damaged_candidates(RunStore.open(run, record=False))) == []
    assert (torn_lines(run), torn_candidates(run)) == (["calls.jsonl"], ["iterations/002"])
    assert (owner_of(run), is_run(run), unmade_runs(run.parent)) == (None, True, [])
    assert disk_use(run) > 0
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.parent.rglob("*")} == before


# --- damage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_run_has_no_damage(run: Path, deep: bool) -> None:
    assert list(damage_in(run, deep=deep)) == []
    assert list(damaged_candidates(RunStore.open(run, record=False))) == []
    assert (torn_lines(run), torn_candidates(run)) == ([], [])


def test_every_file_of_one_record_is_looked_at(run: Path) -> None:
    pages = {name for name in files_below(run) if name.endswith(".json")} - {"config.json"}
    assert len(pages) == 9
    for name in pages:
        whole = (run / name).read_bytes()
        (run / name).write_bytes(b"[]")
        assert found(run, deep=False) == [(name, None)]
        (run / name).write_bytes(whole)


def test_every_file_of_lines_is_looked_at_down_to_its_last_line(run: Path) -> None:
    logs = {name for name in files_below(run) if name.endswith(".jsonl")}
    assert len(logs) == 9
    for name in logs:
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole + b"[]\n")
        assert found(run, deep=False) == found(run, deep=True) == [(name, whole.count(b"\n") + 1)]
        (run / name).write_bytes(whole)


def test_a_damaged_line_before_the_last_is_found_by_a_deep_look_alone(run: Path) -> None:
    calls = run / "calls.jsonl"
    first, *rest = calls.read_bytes().splitlines(keepends=True)
    calls.write_bytes(first + b"{}\n" + b"".join(rest))
    assert found(run, deep=False) == []
    assert found(run, deep=True) == [("calls.jsonl", 2)]


def test_the_last_line_is_found_however_long_it_is(run: Path) -> None:
    with (run / "events.jsonl").open("ab") as file:
        file.write(b'{"kind": "' + b"x" * 300_000 + b'"}\n')
        file.write(b'{"torn": "' + b"x" * 300_000)
    assert found(run, deep=False) == [("events.jsonl", 4)]
    assert torn_lines(run) == ["events.jsonl"]


def test_damage_says_why_and_names_the_file_once(run: Path) -> None:
    (run / "iterations/000/score.json").write_text("{}")
    (fault,) = damage_in(run, deep=True)
    assert fault.message.count("score.json") == 1
    assert fault.message.startswith(f"damaged record in {run / 'iterations/000/score.json'}: ")
    assert "Field required" in fault.message


def test_a_page_that_is_nested_too_deep_to_be_read_is_damaged(run: Path) -> None:
    (run / "summary.json").write_text("[" * 100_000)
    assert found(run, deep=False) == [("summary.json", None)]


def test_a_trace_shorter_than_its_score_says_is_damaged_and_a_longer_one_is_not(run: Path) -> None:
    path = run / "iterations/000/eval_trace.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole)
    assert found(run, deep=True) == []
    path.write_bytes(whole[: whole.index(b"\n") + 1])
    (fault,) = damage_in(run, deep=False)
    assert (fault.path, "lines are gone" in fault.message) == (path, True)
    path.unlink()
    assert found(run, deep=False) == [("iterations/000/eval_trace.jsonl", None)]


def test_a_trace_that_was_changed_after_its_score_is_found_by_a_deep_look(run: Path) -> None:
    path = run / "sealed/000/eval_trace.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"yes"', b'"YES"'))
    assert found(run, deep=False) == []
    (fault,) = damage_in(run, deep=True)
    assert (fault.path, "its hash differs" in fault.message) == (path, True)


def test_an_iteration_that_is_gone_from_between_others_is_damage_also_for_a_shallow_look(run: Path) -> None:
    with RunStore.open(run, record=True) as store:
        for slot in range(2, 5):
            store.add_iteration(proposal(f"# {slot}\n"), round=0, slot=slot)
    shutil.rmtree(run / "iterations/000")
    shutil.rmtree(run / "iterations/002")
    shutil.rmtree(run / "iterations/003")
    (run / "iterations/003.torn").mkdir()
    for deep in (False, True):
        assert found(run, deep=deep) == [(f"iterations/{number}", None) for number in ("000", "002", "003")]
    fault = next(damage_in(run, deep=False))
    assert fault.message == f"damaged record in {run / 'iterations/000'}: it is gone, though there is an iteration 004"
    assert "restore the folder from a copy" in str(fault.hint)


def test_numbers_below_sealed_may_have_a_gap(run: Path) -> None:
    (run / "sealed/000").rename(run / "sealed/002")
    assert found(run, deep=True) == []


# --- calls that are gone ----------------------------------------------------------------------------------------


def asked(number: int, case_id: str, **fields: object) -> JournalEntry:
    return entry(number).model_copy(update={"attribution": Attribution(iteration=0, case_id=case_id, **fields)})  # type: ignore[arg-type]


@pytest.fixture
def paid(tmp_path: Path) -> Path:
    """A run in which every kind of trace holds calls, and the journals have them."""
    with new_run(tmp_path / "paid") as store:
        store.add_iteration(proposal(), round=0, slot=0)
        refused = call().model_copy(update={"response": None, "error": CallError(kind="limit", message="too many")})
        free = call().model_copy(update={"cached": True})
        store.append_trace(0, trace("a", calls=[call(), call(), refused, free]))
        store.append_trace(0, trace("a", calls=[call()]))  # the same case once more: its calls came from the journal
        store.append_trace(0, trace(LEARN, calls=[call()]))
        for number, case_id in enumerate(("a", "a", LEARN)):
            store.journal.append(asked(number, case_id))
        store.sealed.write_opening({"winner": 0})
        store.sealed.append_trace(0, trace("t", trial=1, calls=[call()]))
        store.sealed.journal.append(asked(9, "t", trial=1))
    return store.path


def test_calls_that_are_in_the_journal_once_are_whole_however_often_traces_hold_them(paid: Path) -> None:
    assert found(paid, deep=True) == []


@pytest.mark.parametrize(("journal", "calls"), [("calls.jsonl", 3), ("sealed/calls.jsonl", 1)])
@pytest.mark.parametrize("change", ["emptied", "removed"])
def test_a_journal_without_the_calls_that_traces_hold_is_found_by_a_deep_look(
    change: str, journal: str, calls: int, paid: Path
) -> None:
    (paid / journal).write_bytes(b"")
    if change == "removed":
        (paid / journal).unlink()
    assert found(paid, deep=False) == []
    (fault,) = damage_in(paid, deep=True)
    assert (fault.path, f"{calls} of the calls in traces are not in it" in fault.message) == (paid / journal, True)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_each_call_that_is_gone_from_the_journal_is_missed(number: int, paid: Path) -> None:
    rows = (paid / "calls.jsonl").read_bytes().splitlines(keepends=True)
    (paid / "calls.jsonl").write_bytes(b"".join(rows[:number] + rows[number + 1 :]))
    (fault,) = damage_in(paid, deep=True)
    assert "1 of the calls in traces are not in it" in fault.message


@pytest.mark.parametrize("name", ["calls.jsonl", "iterations/000/eval_trace.jsonl"])
def test_a_damaged_line_is_told_once_and_not_as_a_call_that_is_gone_too(name: str, paid: Path) -> None:
    rows = (paid / name).read_bytes().splitlines(keepends=True)
    (paid / name).write_bytes(b"".join([b"{}\n", *rows[1:]]))
    assert found(paid, deep=True) == [(name, 1)]


def test_what_the_store_did_not_write_is_not_looked_at(run: Path) -> None:
    (run / "notes.json").write_text("{")
    (run / "iterations/notes.jsonl").write_text("{")
    assert found(run, deep=True) == []
    assert torn_lines(run) == []


def test_a_candidate_that_was_edited_or_is_gone_is_damaged_and_the_others_are_still_looked_at(run: Path) -> None:
    (run / "iterations/000/harness.py").unlink()
    (run / "iterations/001/harness.py").write_text("edited\n")
    faults = list(damaged_candidates(RunStore.open(run, record=False)))
    assert [fault.path for fault in faults] == [run / f"iterations/{number}/harness.py" for number in ("000", "001")]
    assert "cannot read" in faults[0].message
    assert "not those that were submitted" in faults[1].message


def test_damage_is_told_of_a_run_that_cannot_be_opened(run: Path) -> None:
    (run / "config.json").write_text("{")
    (run / "iterations/001/proposal.json").write_text("{")
    with pytest.raises(StoreError):
        RunStore.open(run, record=False)
    assert found(run, deep=False) == [("iterations/001/proposal.json", None)]


# --- what a kill leaves -----------------------------------------------------------------------------------------


def test_what_is_told_as_torn_is_what_the_next_owner_sets_aside(run: Path) -> None:
    logs = sorted(name for name in files_below(run) if name.endswith(".jsonl"))
    for name in logs:
        with (run / name).open("ab") as file:
            file.write(b'{"half')
    (run / "iterations/002").mkdir()
    assert sorted(torn_lines(run)) == logs
    assert torn_candidates(run) == ["iterations/002"]
    assert found(run, deep=True) == []
    with RunStore.open(run, record=True) as store:
        told = [event.model_dump()["file"] for event in store.events("torn")]
    assert sorted(told) == sorted([*logs, "iterations/002"])
    assert (torn_lines(run), torn_candidates(run)) == ([], [])


def test_a_folder_that_a_killed_process_began_is_told_while_nobody_owns_it(run: Path) -> None:
    root = run.parent
    (root / "notes").mkdir()
    begun = shutil.copytree(run, root / "begun")
    assert unmade_runs(root) == []
    with recording_process("hold", begun) as owner:
        line_from(owner)
        (begun / "config.json").unlink()
        assert unmade_runs(root) == []
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert unmade_runs(root) == [begun]


def test_where_there_is_no_folder_of_runs_nothing_was_begun(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert unmade_runs(tmp_path / "nothing") == unmade_runs(tmp_path / "file") == []


# --- what is a run ----------------------------------------------------------------------------------------------


def test_a_folder_with_somebodys_config_is_no_run_and_a_damaged_run_is_one(run: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text("{}")
    (run / "config.json").write_text("{")
    assert is_run(run)
    assert not any(is_run(folder) for folder in (run.parent, run / "iterations", tmp_path / "other"))


# --- its owner --------------------------------------------------------------------------------------------------


def test_a_run_that_nobody_records_has_no_owner(run: Path) -> None:
    assert owner_of(run) is None
    assert owner_of(run / "nothing") is None


def test_the_owner_of_a_run_is_told_without_taking_its_lock(run: Path) -> None:
    with recording_process("hold", run) as process:
        line_from(process)
        owner = owner_of(run)
        assert owner is not None
        assert (owner.pid, owner.host, owner.here) == (process.pid, socket.gethostname(), True)
        assert owner.since == json.loads((run / ".lock.json").read_text())["since"]
        assert str(owner) == f"process {process.pid} since {owner.since}"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (run / ".lock.json").exists()
        assert owner_of(run) is None


@pytest.mark.skipif(not LOCKS.is_file(), reason="this platform does not list its locks")
def test_the_holder_of_the_lock_counts_and_not_what_another_has_said(run: Path) -> None:
    with recording_process("hold", run) as process:
        line_from(process)
        note(run)
        assert str(owner_of(run)) == f"process {process.pid}"
        (run / ".lock.json").unlink()
        assert str(owner_of(run)) == f"process {process.pid}"


def test_an_owner_on_another_machine_may_still_record(run: Path) -> None:
    note(run, host="elsewhere", pid=2**22 + 1)
    owner = owner_of(run)
    assert owner is not None
    assert not owner.here
    assert str(owner) == f"process {2**22 + 1} on elsewhere since 2026"


@pytest.mark.parametrize(
    "said",
    ['{"pid": 1}', "[]", "{", "", '{"pid": "x", "command": "", "since": "", "host": ""}', "null", b"\xff"],
)
def test_a_note_that_is_not_sound_says_nothing_also_to_who_wants_the_run(said: str | bytes, run: Path) -> None:
    with RunStore.open(run, record=True):
        (run / ".lock.json").write_bytes(said if isinstance(said, bytes) else said.encode())
        assert read_owner(run) is None
        with pytest.raises(RunLockedError, match="has not said which"):
            RunStore.open(run, record=True)


@pytest.mark.parametrize("pid", [0, -1, 10**30, 2**22 + 1])
def test_a_process_that_cannot_be_there_is_not_named_as_the_owner(pid: int, run: Path) -> None:
    with RunStore.open(run, record=True):
        note(run, pid=pid)
        with pytest.raises(RunLockedError, match="has not said which"):
            RunStore.open(run, record=True)
    note(run, pid=pid)
    assert owner_of(run) is None


# --- its size ---------------------------------------------------------------------------------------------------


def test_what_a_run_takes_on_the_disk_grows_with_what_is_recorded(run: Path) -> None:
    before = disk_use(run)
    assert before > 0
    with (run / "iterations/000/learn_trace.jsonl").open("ab") as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    assert disk_use(run) >= before + (1 << 20)
    assert disk_use(run / "nothing") == 0
