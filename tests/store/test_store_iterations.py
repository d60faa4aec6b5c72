"""Numbered candidates: their folders, scores and hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from store_kit import new_run, proposal, score, trace

from metaharness.domain import files_hash
from metaharness.errors import CorruptRecordError, StoreError, UsageError
from metaharness.records import Proposal, Rejection
from metaharness.store import RunStore


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with new_run(tmp_path) as store:
        yield store


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_candidates_are_numbered_from_000_and_listed_in_order(store: RunStore) -> None:
    records = [store.add_iteration(proposal(f"n = {n}\n"), round=n, slot=1) for n in range(3)]
    assert [record.iteration for record in records] == [0, 1, 2]
    assert store.iterations() == records == RunStore.open(store.path, record=False).iterations()
    assert store.next_number() == 3 == RunStore.open(store.path, record=False).next_number()
    assert sorted(path.name for path in (store.path / "iterations").iterdir()) == ["000", "001", "002"]
    assert sorted(path.name for path in (store.path / "iterations/001").iterdir()) == [
        "harness.py",
        "proposal.json",
        "reasoning.md",
    ]
    assert records[1].candidate_hash == files_hash({"harness.py": b"n = 1\n"})


def test_numbers_go_on_past_999(store: RunStore) -> None:
    store.add_iteration(proposal(), round=0, slot=0)
    store.close()
    folder = (store.path / "iterations/000").rename(store.path / "iterations/999")
    record = json.loads((folder / "proposal.json").read_text())
    (folder / "proposal.json").write_text(json.dumps({**record, "iteration": 999}))
    (store.path / "iterations/0999").mkdir()
    with RunStore.open(store.path, record=True) as again:
        assert again.add_iteration(proposal(), round=0, slot=0).iteration == 1000
        assert again.add_iteration(proposal(), round=0, slot=0).iteration == 1001
    reader = RunStore.open(store.path, record=False)
    assert [record.iteration for record in reader.iterations()] == [999, 1000, 1001]
    assert reader.candidate_path(1000) == store.path / "iterations/1000/harness.py"


def test_several_files_make_a_folder(store: RunStore) -> None:
    files = {"harness.py": "import parts\n", "parts/one.py": "ONE = 1\n", "prompts/système.txt": "Réponds.\r\n"}
    number = store.add_iteration(Proposal(files=files), round=0, slot=0).iteration
    path = store.candidate_path(number)
    assert path == store.path / "iterations/000/harness"
    assert (path / "prompts/système.txt").read_bytes() == "Réponds.\r\n".encode()
    assert store.files(number) == files
    assert store.proposal(number).layout == "folder"
    (path / "parts/__pycache__").mkdir()
    (path / "parts/__pycache__/one.cpython-311.pyc").write_bytes(b"\x00\xff")
    assert store.files(number) == files


def test_a_candidate_changed_after_its_submission_is_noticed(store: RunStore) -> None:
    store.add_iteration(proposal("a = 1\n"), round=0, slot=0)
    store.add_iteration(Proposal(files={"harness.py": "", "b.py": ""}), round=0, slot=0)
    store.candidate_path(0).write_text("a = 2\n")
    with pytest.raises(CorruptRecordError, match="not those that were submitted"):
        store.files(0)
    (store.candidate_path(1) / "b.py").unlink()
    (store.candidate_path(1) / "b.py").symlink_to("/etc/passwd")
    with pytest.raises(CorruptRecordError, match="symbolic"):
        store.files(1)
    (store.candidate_path(0)).unlink()
    with pytest.raises(StoreError, match="cannot read"):
        store.files(0)


def test_an_unknown_number_is_answered_with_the_known_ones(store: RunStore) -> None:
    with pytest.raises(UsageError) as caught:
        store.traces(0).__next__()
    assert caught.value.hint == "it has no iterations yet"
    for _ in range(2):
        store.add_iteration(proposal(), round=0, slot=0)
    with pytest.raises(UsageError, match="run has no iteration 7") as caught:
        store.append_trace(7, trace())
    assert caught.value.hint == "it has 0 to 1"


def test_a_score_holds_its_revision_and_the_hash_of_its_trace(store: RunStore) -> None:
    store.add_iteration(proposal(), round=0, slot=0)
    file = store.path / "iterations/000/eval_trace.jsonl"
    assert store.write_score(0, score()).trace_sha256 == hashlib.sha256(b"").hexdigest()
    for revision in (2, 3):
        for case in range(5):
            store.append_trace(0, trace(f"case-{case}"))
        written = store.write_score(0, score(mean=revision / 10))
        assert (written.revision, written.trace_sha256) == (revision, sha256_of(file))
        assert written.trace_bytes == file.stat().st_size
    store.close()
    with RunStore.open(store.path, record=True) as again:
        again.append_trace(0, trace("case-5"))
        assert again.write_score(0, score()).trace_sha256 == sha256_of(file)
        again.append_trace(0, trace("case-6"))
        written = again.write_score(0, score())
        assert (written.revision, written.trace_sha256) == (5, sha256_of(file))
    with RunStore.open(store.path, record=True) as again:
        assert again.write_score(0, score()).trace_sha256 == sha256_of(file)


def test_a_reader_sees_what_the_owner_adds(store: RunStore) -> None:
    reader = RunStore.open(store.path, record=False)
    assert reader.iterations() == []
    for revision in (1, 2):
        number = store.add_iteration(proposal(), round=0, slot=0).iteration
        store.append_trace(number, trace())
        store.write_score(0, score())
        assert reader.proposal(number).iteration == number
        assert len(list(reader.traces(number))) == 1
        seen = reader.score(0)
        assert seen is not None
        assert seen.revision == revision
    store.reject(1, Rejection(stage="smoke", message="no"))
    assert reader.rejection(1) == store.rejection(1) == reader.rejection(1)
    assert reader.rejection(0) is None
    assert reader.report(0) is None


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
def test_many_evaluations_at_once_keep_few_files_open_and_right_hashes(store: RunStore) -> None:
    numbers = [store.add_iteration(proposal(), round=0, slot=n).iteration for n in range(90)]
    before = descriptors()
    for case in range(3):
        for number in numbers:
            store.append_trace(number, trace(f"case-{case}", calls=[]))
    assert descriptors() <= before + 64
    for number in numbers:
        file = store.path / f"iterations/{number:03d}/eval_trace.jsonl"
        assert store.write_score(number, score(number)).trace_sha256 == sha256_of(file)
    assert descriptors() == before


def test_a_trace_file_changed_by_another_program_is_not_appended_to(store: RunStore) -> None:
    store.add_iteration(proposal(), round=0, slot=0)
    store.append_trace(0, trace())
    store.write_score(0, score())
    with (store.path / "iterations/000/eval_trace.jsonl").open("ab") as file:
        file.write(b"foreign\n")
    with pytest.raises(StoreError, match="changed by another program"):
        store.append_trace(0, trace())


def test_a_number_taken_by_another_program_is_not_overwritten(store: RunStore) -> None:
    (store.path / "iterations/000").mkdir(parents=True)
    (store.path / "iterations/000/proposal.json").write_text("{}")
    with pytest.raises(StoreError, match="written by another program"):
        store.add_iteration(proposal(), round=0, slot=0)
    assert (store.path / "iterations/000/proposal.json").read_text() == "{}"


def test_nothing_is_written_about_the_test_split_before_its_one_opening(store: RunStore) -> None:
    store.add_iteration(proposal(), round=0, slot=0)
    assert store.sealed.opening() is None
    with pytest.raises(StoreError, match="before its opening"):
        store.sealed.append_trace(0, trace())
    assert not (store.path / "sealed").exists()
    store.sealed.write_opening({"winner": 0, "candidates": [0]})
    with pytest.raises(StoreError, match="opened already"):
        store.sealed.write_opening({"winner": 1})
    store.sealed.append_trace(0, trace("sealed-case"))
    written = store.sealed.write_score(0, score())
    assert written.trace_sha256 == sha256_of(store.path / "sealed/000/eval_trace.jsonl")
    reader = RunStore.open(store.path, record=False)
    assert reader.sealed.opening() == {"winner": 0, "candidates": [0]}
    assert reader.sealed.score(0) == written
    assert reader.sealed.numbers() == [0]
    assert list(reader.traces(0)) == []
    assert reader.score(0) is None
    for damage, reason in ((b"{", "Expecting"), (b"[]", "not an object")):
        (store.path / "sealed/opening.json").write_bytes(damage)
        with pytest.raises(CorruptRecordError, match=reason):
            reader.sealed.opening()


def test_a_candidate_of_another_run_is_taken_over_whole_without_its_evaluation(tmp_path: Path) -> None:
    with new_run(tmp_path, "source") as source, new_run(tmp_path, "fork") as fork:
        files = {"harness.py": "class Harness: ...\n", "prompts/system.txt": "Be brief.\n"}
        read = source.append_read(path="iterations/000/harness.py", size=12, tool="read", session="s")
        source.add_iteration(Proposal(files=files, reasoning="because", name="first", reads=(read,)), round=0, slot=0)
        source.append_trace(0, trace())
        source.write_score(0, score())
        source.write_report(0, "better\n")
        source.add_iteration(proposal(), round=1, slot=0)
        source.reject(1, Rejection(stage="syntax", message="no", time="then"))
        assert [fork.adopt(source, number) for number in (0, 1)] == source.iterations() == fork.iterations()
        assert (fork.files(0), fork.reasoning(0), fork.report(0)) == (files, "because", "better\n")
        assert list(fork.iteration_reads(0)) == [read]
        assert fork.rejection(1) == source.rejection(1)
        assert (list(fork.traces(0)), fork.score(0)) == ([], None)
        assert fork.next_number() == 2


def test_candidates_are_taken_over_in_their_order_and_only_as_they_were_submitted(tmp_path: Path) -> None:
    with new_run(tmp_path, "source") as source, new_run(tmp_path, "fork") as fork:
        for number in range(2):
            source.add_iteration(proposal(), round=number, slot=0)
        with pytest.raises(StoreError, match=r"the next candidate of .*fork is 0, not 1"):
            fork.adopt(source, 1)
        source.candidate_path(0).write_text("changed\n")
        with pytest.raises(CorruptRecordError, match="their hash differs"):
            fork.adopt(source, 0)
        assert fork.iterations() == []
