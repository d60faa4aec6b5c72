"""What was recorded of earlier iterations is looked at around every round and when a run is opened again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from run_kit import Toy, executed, finish, harness, lines, proposals_of, recorded, searched, write_toy
from test_tampering_domain import Meddler

from metaharness.errors import CorruptRecordError, DomainError
from metaharness.run import Finishing, Run
from metaharness.run.outside import add


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", proposals={}, cases=4)


FILES = ("harness.py", "score.json", "eval_trace.jsonl", "proposal.json", "reasoning.md")


def edited(path: Path) -> None:
    """A byte more than before."""
    path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.parametrize("name", FILES)
async def test_a_changed_iteration_stops_the_run_and_its_path_is_named(name: str, toy: Toy, tmp_path: Path) -> None:
    run = Run.create(toy.config(iterations=3), tmp_path / "runs", name="run")
    path = run.store.path / "iterations" / "000" / name
    with pytest.raises(CorruptRecordError) as raised:
        await finish(run, Meddler(lambda: edited(path)))
    assert str(path) in raised.value.message
    assert "restore it from a copy" in str(raised.value.hint)
    assert [it.state for it in recorded(run.store.path)] == ["complete"] * 4, "nothing that was recorded is lost"
    assert len(recorded(run.store.path).closed_rounds) == 2


async def test_after_the_undo_the_run_goes_on_with_what_it_has(toy: Toy, tmp_path: Path) -> None:
    run = Run.create(toy.config(iterations=3), tmp_path / "runs", name="run")
    score = run.store.path / "iterations" / "001" / "score.json"
    before: list[bytes] = []

    def act() -> None:
        before.append(score.read_bytes())
        score.write_bytes(before[0].replace(b'"mean":', b'"mean": '))

    with pytest.raises(CorruptRecordError, match=r"001/score\.json"):
        await finish(run, Meddler(act))
    with pytest.raises(CorruptRecordError, match=r"001/score\.json"):
        Run.open(run.store.path)
    score.write_bytes(before[0])
    calls = len(lines(run.store.path / "calls.jsonl"))
    await finish(Run.open(run.store.path), Meddler(lambda: None))
    after = recorded(run.store.path)
    assert [it.state for it in after] == ["complete"] * 5
    assert len(lines(run.store.path / "calls.jsonl")) == calls + 4


async def test_every_iteration_of_a_long_run_comes_to_its_turn(toy: Toy, tmp_path: Path) -> None:
    """More rounds than are looked at at once: one that was changed is found some rounds later."""
    run = Run.create(toy.config(iterations=80, limit=1), tmp_path / "runs", name="run")
    trace = run.store.path / "iterations" / "020" / "eval_trace.jsonl"
    with pytest.raises(CorruptRecordError, match=r"020/eval_trace\.jsonl"):
        await finish(run, Meddler(lambda: edited(trace), turn=60))
    assert len(recorded(run.store.path)) < 80


def _trace_of_same_size(run: Path) -> Path:
    path = run / "iterations" / "000" / "eval_trace.jsonl"
    found = path.stat()
    path.write_bytes(path.read_bytes().replace(b"red", b"rod"))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert path.stat().st_size == found.st_size
    return path


def _shorter_trace(run: Path) -> Path:
    path = run / "iterations" / "000" / "eval_trace.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    return path


def _better_score(run: Path) -> Path:
    path = run / "iterations" / "001" / "score.json"
    page = json.loads(path.read_text())
    page["objectives"]["accuracy"]["mean"] = 1.0
    path.write_text(json.dumps(page))
    return path


def _other_harness(run: Path) -> Path:
    path = run / "iterations" / "001" / "harness.py"
    path.write_text(harness("good"))
    return path


def _no_reasoning(run: Path) -> Path:
    path = run / "iterations" / "001" / "reasoning.md"
    path.unlink()
    return path


@pytest.mark.parametrize("edit", [_trace_of_same_size, _shorter_trace, _better_score, _other_harness, _no_reasoning])
async def test_what_changed_while_nobody_recorded_is_refused_by_resume_and_finish(
    edit: Callable[[Path], Path], toy: Toy, tmp_path: Path
) -> None:
    run = (await searched(toy.config(iterations=0), tmp_path / "runs", name="run")).store.path
    path = edit(run)
    with pytest.raises(CorruptRecordError) as raised:
        Run.open(run)
    assert str(path) in raised.value.message
    assert "or begin a new run" in str(raised.value.hint)
    assert "line" not in str(raised.value.hint)
    with pytest.raises(CorruptRecordError):
        Finishing.open(run)
    said = executed("resume", run)
    assert said.returncode == 1
    assert str(path) in said.stderr
    assert recorded(run).scoreboard().rows(), "it can still be read"


async def test_a_copied_run_is_the_same_run(toy: Toy, tmp_path: Path) -> None:
    run = (await searched(toy.config(iterations=0), tmp_path / "runs", name="run")).store.path
    Run.open(shutil.copytree(run, tmp_path / "copies" / "run", copy_function=shutil.copyfile)).store.close()


async def test_a_score_names_the_files_it_was_made_of(toy: Toy, tmp_path: Path) -> None:
    history = await searched(toy.config(iterations=1), tmp_path / "runs", name="run", proposer=Meddler(lambda: None))
    score = history.iteration(2).score
    assert score is not None
    assert set(score.marks) == {"harness.py", "proposal.json", "reasoning.md", "eval_trace.jsonl", "learn_trace.jsonl"}
    assert score.marks["eval_trace.jsonl"].sha256 == score.trace_sha256


async def test_a_change_during_the_test_is_refused_and_the_test_is_asked_anew(toy: Toy, tmp_path: Path) -> None:
    """The model answers the test, and the evaluator is changed before its result is written."""
    run = (await searched(toy.config(iterations=0), tmp_path / "runs", name="run")).store.path
    evaluator = toy.folder / "evaluator.py"
    before = evaluator.read_text()

    def meddle(kind: str, _fields: Mapping[str, Any]) -> None:
        if kind == "evaluating":
            evaluator.write_text(before + "# changed\n")

    with Finishing.open(run) as finishing:
        finishing.listener = meddle
        with pytest.raises(DomainError, match=r"evaluator\.py has changed since the test was begun"):
            await finishing.run()
    assert not (run / "sealed" / "result.json").exists()
    evaluator.write_text(before)
    with Finishing.open(run) as finishing:
        assert await finishing.run() is not None
    keys = [line["key"] for line in lines(run / "sealed" / "calls.jsonl")]
    assert len(keys) == len(set(keys)), "no completed call was repeated"


async def test_a_candidate_by_hand_is_looked_around_too(toy: Toy, tmp_path: Path) -> None:
    run = (await searched(toy.config(iterations=0), tmp_path / "runs", name="run")).store.path
    async with Run.open(run) as again:
        edited(run / "iterations" / "000" / "score.json")
        with pytest.raises(CorruptRecordError, match=r"000/score\.json"):
            await add(again, proposals_of(harness("good"))[0])
    assert len(recorded(run)) == 2
