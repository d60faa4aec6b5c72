"""A torn last line is set aside, a damaged line is named, nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_kit import entry, files_below, new_run, proposal, score, trace

from metaharness.errors import CorruptRecordError
from metaharness.records import LEARN
from metaharness.store import RunStore

LOGS: dict[str, Callable[[RunStore], Any]] = {
    "calls.jsonl": lambda store: list(store.journal.entries()),
    "events.jsonl": lambda store: [event for event in store.events() if event.kind != "torn"],
    "reads.jsonl": lambda store: list(store.reads()),
    "iterations/000/eval_trace.jsonl": lambda store: list(store.traces(0)),
    "iterations/000/learn_trace.jsonl": lambda store: list(store.learn_traces(0)),
    "iterations/000/filesystem_reads.jsonl": lambda store: list(store.iteration_reads(0)),
    "sealed/000/eval_trace.jsonl": lambda store: list(store.sealed.traces(0)),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A closed run with three lines in every log."""
    with new_run(tmp_path) as store:
        reads = [store.append_read(path="x", size=1, tool="read", session="s") for _ in range(3)]
        store.add_iteration(proposal(reads=tuple(reads)), round=0, slot=0)
        store.sealed.write_opening({"winner": 0})
        for number in range(3):
            store.journal.append(entry(number))
            store.event("fact", value=number)
            store.append_trace(0, trace(f"case-{number}", calls=[]))
            store.append_trace(0, trace(LEARN, trial=number, calls=[]))
            store.sealed.append_trace(0, trace(f"test-{number}", calls=[]))
    return store.path


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGS)
def test_a_line_torn_at_any_byte_is_set_aside_and_the_lines_before_it_stay(run: Path, name: str) -> None:
    whole = (run / name).read_bytes()
    kept = whole[: whole.rindex(b"\n", 0, -1) + 1]
    with RunStore.open(run, record=False) as reader:
        complete = LOGS[name](reader)[:2]
    for size in range(len(kept) + 1, len(whole)):
        (run / name).write_bytes(whole[:size])
        assert LOGS[name](RunStore.open(run, record=False)) == complete
        assert (run / name).stat().st_size == size
        with RunStore.open(run, record=True) as store:
            torn = list(store.events("torn"))[-1]
            assert LOGS[name](store) == complete
        moved = run / str(torn.model_extra and torn.model_extra["moved_to"])
        assert torn.model_extra == {
            "file": name,
            "moved_to": moved.relative_to(run).as_posix(),
            "bytes": size - len(kept),
        }
        assert moved.name == f"{Path(name).name}.torn"
        assert moved.read_bytes() == whole[len(kept) : size]
        moved.unlink()


def test_recording_goes_on_after_a_torn_line(run: Path) -> None:
    with (run / "iterations/000/eval_trace.jsonl").open("ab") as file:
        file.write(b'{"case_id":"case-3","tri')
    with RunStore.open(run, record=True) as store:
        store.append_trace(0, trace("case-3"))
        assert [one.case_id for one in store.traces(0)] == ["case-0", "case-1", "case-2", "case-3"]
        assert [event.number for event in store.events()] == list(range(4))


def test_fragments_of_several_kills_are_all_kept(run: Path) -> None:
    for _ in range(3):
        with (run / "calls.jsonl").open("ab") as file:
            file.write(b"{")
        RunStore.open(run, record=True).close()
    assert sorted(path.name for path in run.glob("*.torn*")) == [
        "calls.jsonl.torn",
        "calls.jsonl.torn-2",
        "calls.jsonl.torn-3",
    ]


def test_a_file_that_is_all_fragment_becomes_empty(run: Path) -> None:
    fragment = b'{"key":"' + b"x" * 200_000
    (run / "calls.jsonl").write_bytes(fragment)
    with RunStore.open(run, record=True) as store:
        assert len(store.journal) == 0
    assert (run / "calls.jsonl.torn").read_bytes() == fragment


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("line", [1, 2, 3])
@pytest.mark.parametrize("damage", [b"{}x\n", b"\n", b'{"case_id":\n', b"[1]\n", b"\xff\xfe\n"])
def test_a_damaged_line_is_named_with_its_number_also_when_it_is_the_last(
    run: Path, name: str, line: int, damage: bytes
) -> None:
    lines = (run / name).read_bytes().splitlines(keepends=True)
    lines[line - 1] = damage
    (run / name).write_bytes(b"".join(lines))
    before = files_below(run)
    with pytest.raises(CorruptRecordError) as caught:
        LOGS[name](RunStore.open(run, record=False))
    assert caught.value.line == line
    assert f"{run / name}, line {line}" in caught.value.message
    assert files_below(run) == before


def test_a_damaged_journal_refuses_to_be_recorded_and_is_left_as_it_is(run: Path) -> None:
    (run / "calls.jsonl").write_bytes((run / "calls.jsonl").read_bytes().replace(b'"key"', b'"kex"', 1))
    before = files_below(run)
    with pytest.raises(CorruptRecordError, match=r"calls\.jsonl, line 1: key"):
        RunStore.open(run, record=True)
    assert {name: data for name, data in files_below(run).items() if name != ".lock"} == {
        name: data for name, data in before.items() if name != ".lock"
    }


def test_a_key_that_is_not_a_hash_is_damage(run: Path) -> None:
    (run / "calls.jsonl").write_bytes((run / "calls.jsonl").read_bytes().replace(b'"key":"0', b'"key":"g', 1))
    with pytest.raises(CorruptRecordError, match=r"line 1: key 'g0"):
        RunStore.open(run, record=True)


def test_a_damaged_last_event_refuses_to_be_recorded(run: Path) -> None:
    with (run / "events.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(CorruptRecordError, match=r"events\.jsonl, line 4"):
        RunStore.open(run, record=True)


def test_a_journal_that_is_changed_behind_the_owners_back_is_noticed(run: Path) -> None:
    with RunStore.open(run, record=True) as store:
        lines = (run / "calls.jsonl").read_bytes().splitlines(keepends=True)
        (run / "calls.jsonl").write_bytes(lines[1] + lines[0] + lines[2])
        with pytest.raises(CorruptRecordError, match="not the call"):
            store.journal.lookup(entry(0).key)


def test_a_candidate_killed_while_it_was_submitted_is_set_aside_and_its_number_taken_again(run: Path) -> None:
    for times in (1, 2):
        folder = run / "iterations/001"
        (folder / "harness").mkdir(parents=True)
        (folder / "harness/harness.py").write_text("half")
        assert len(RunStore.open(run, record=False).iterations()) == 1
        with RunStore.open(run, record=True) as store:
            assert store.next_number() == 1
            torn = list(store.events("torn"))[-1]
        target = "iterations/001.torn" if times == 1 else "iterations/001.torn-2"
        assert torn.model_extra == {"file": "iterations/001", "moved_to": target}
        assert (run / target / "harness/harness.py").read_text() == "half"
    with RunStore.open(run, record=True) as store:
        assert store.add_iteration(proposal(), round=0, slot=0).iteration == 1


def test_a_number_that_someone_took_meanwhile_is_set_aside_unless_it_is_a_candidate(run: Path) -> None:
    with RunStore.open(run, record=True) as store:
        (run / "iterations/001").mkdir()
        assert store.add_iteration(proposal(), round=0, slot=0).iteration == 1
        assert (run / "iterations/001.torn").is_dir()


def test_what_an_atomic_write_left_unfinished_is_removed_and_never_read(run: Path) -> None:
    half = run / "iterations/000/.score.json.tmp"
    half.write_bytes(b'{"half')
    assert RunStore.open(run, record=False).score(0) is None
    assert half.exists()
    with RunStore.open(run, record=True) as store:
        assert not half.exists()
        store.write_score(0, score())


@pytest.mark.parametrize("name", ["proposal.json", "score.json", "rejected.json", "report.md", "reasoning.md"])
def test_a_damaged_file_of_an_iteration_is_named(run: Path, name: str) -> None:
    (run / "iterations/000" / name).write_bytes(b'{"a\xff')
    reader = RunStore.open(run, record=False)
    read = {
        "proposal.json": reader.proposal,
        "score.json": reader.score,
        "rejected.json": reader.rejection,
        "report.md": reader.report,
        "reasoning.md": reader.reasoning,
    }
    with pytest.raises(CorruptRecordError, match=name):
        read[name](0)
