"""Faults of the operating system become errors that say what to do, and the files stay whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from disk_kit import make_read_only, mounted_disk
from store_kit import line_from, new_run, proposal, recording_process, score, trace

from metaharness.errors import StoreError
from metaharness.store import RunStore, disk_use


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    with mounted_disk(tmp_path / "disk") as disk:
        yield disk


def fill(disk: Path) -> Path:
    """A file that leaves no page free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        append_until_full(lambda _: file.write(b"x" * 4096), [])
    return ballast


def append_until_full(append: Callable[[int], object], done: list[int]) -> NoReturn:
    """Append 0, 1, 2, ... until that fails; `done` holds what was appended."""
    while True:
        append(len(done))
        done.append(len(done))


def test_a_full_disk_cuts_no_line_in_half_and_recording_goes_on_when_there_is_space(small_disk: Path) -> None:
    with new_run(small_disk) as store:
        store.add_iteration(proposal(), round=0, slot=0)
        store.append_trace(0, trace("case-0"))
        ballast = fill(small_disk)
        done: list[int] = []
        with pytest.raises(StoreError, match="No space left") as caught:
            append_until_full(lambda n: store.append_trace(0, trace(f"more-{n}", output="x" * 3000)), done)
        assert "free space" in (caught.value.hint or "")
        assert isinstance(caught.value.__cause__, OSError)
        file = store.path / "iterations/000/eval_trace.jsonl"
        assert file.read_bytes().endswith(b"\n")
        assert [one.case_id for one in store.traces(0)] == ["case-0", *(f"more-{n}" for n in done)]
        ballast.unlink()
        store.append_trace(0, trace("after"))
        assert [one.case_id for one in store.traces(0)] == ["case-0", *(f"more-{n}" for n in done), "after"]
        stored = store.write_score(0, score())
        assert stored.trace_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_full_disk_leaves_no_half_candidate_and_takes_no_number(small_disk: Path) -> None:
    with new_run(small_disk) as store:
        store.add_iteration(proposal(), round=0, slot=0)
        store.write_score(0, score())
        ballast = fill(small_disk)
        for attempt in (
            lambda: store.add_iteration(proposal("#\n" * 9000), round=0, slot=1),
            lambda: store.write_score(0, score()),
        ):
            with pytest.raises(StoreError, match="No space left"):
                attempt()
        assert [path.name for path in (store.path / "iterations").iterdir()] == ["000"]
        assert [path.name for path in store.path.rglob(".*.tmp")] == []
        ballast.unlink()
        assert store.add_iteration(proposal(), round=0, slot=1).iteration == 1
        assert store.write_score(0, score()).revision == 2


def test_a_run_on_a_read_only_disk_can_be_read_but_not_recorded(small_disk: Path) -> None:
    with new_run(small_disk) as store:
        store.add_iteration(proposal(), round=0, slot=0)
    make_read_only(small_disk)
    assert len(RunStore.open(store.path, record=False).iterations()) == 1
    with pytest.raises(StoreError, match="Read-only") as caught:
        RunStore.open(store.path, record=True)
    assert "read-only" in (caught.value.hint or "")
    with pytest.raises(StoreError, match="cannot make a run in"):
        new_run(small_disk)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_to_write_is_an_error_with_a_hint(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(StoreError, match="Permission denied") as caught:
        new_run(tmp_path)
    tmp_path.chmod(0o755)
    assert "permissions" in (caught.value.hint or "")


def test_a_limit_on_file_size_cuts_no_line_in_half(tmp_path: Path) -> None:
    new_run(tmp_path).close()
    with recording_process("limited", tmp_path / "run", 10_000) as process:
        written, message, hint, cause, sha256, size = json.loads(line_from(process))
    assert "File too large" in message
    assert "ulimit -f" in hint
    assert cause == "OSError"
    content = (tmp_path / "run/iterations/000/eval_trace.jsonl").read_bytes()
    assert (sha256, size) == (hashlib.sha256(content).hexdigest(), len(content))
    reader = RunStore.open(tmp_path / "run", record=False)
    assert [one.case_id for one in reader.traces(0)] == [*(f"case-{case}" for case in range(written)), "after"]


def test_half_a_line_that_could_not_be_taken_back_at_once_is_taken_back_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) > 20:
            return write(descriptor, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with new_run(tmp_path) as store:
        store.event("before")
        with monkeypatch.context() as disk:
            disk.setattr(os, "write", half)
            disk.setattr(os, "ftruncate", refuse)
            with pytest.raises(StoreError, match="No space left"):
                store.event("lost")
        store.event("after")
        assert [event.kind for event in store.events()] == ["before", "after"]


def test_a_file_that_goes_away_while_the_disk_is_measured_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_run(tmp_path) as store:
        store.event("fact")
    gone, lstat = store.path / "events.jsonl", Path.lstat
    whole, held = disk_use(store.path), gone.lstat().st_blocks * 512

    def look(self: Path) -> os.stat_result:
        gone.unlink(missing_ok=True)
        return lstat(self)

    monkeypatch.setattr(Path, "lstat", look)
    assert disk_use(store.path) == whole - held
