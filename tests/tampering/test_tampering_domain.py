"""The domain is looked at before and after every round: a change stops the run, and says which file it was."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from run_kit import Toy, finish, harness, lines, proposals_of, recorded, searched, write_toy

from metaharness.errors import DomainError, StoreError
from metaharness.proposers import Proposer
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import Proposal
from metaharness.run import Round, Run


class Meddler:
    """A proposer that does something else as well, in a round of its choice."""

    def __init__(self, act: Callable[[], object], *, turn: int = 1) -> None:
        self.act = act
        self.turn = turn

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """One candidate per round."""
        if round_.turn == self.turn:
            self.act()
        for slot in round_.open_slots:
            yield proposals_of(harness("good", before=f"# {round_.number} {slot}"))[0]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    toy = write_toy(tmp_path / "domain", proposals={}, cases=4)
    (toy.folder / "driver.py").write_text("def build(module):\n    return module.Harness()\n")
    return toy


async def meddled(toy: Toy, root: Path, proposer: Proposer) -> Path:
    run = Run.create(toy.config(iterations=3), root, name="run")
    await finish(run, proposer)
    return run.store.path


def replaced(path: Path, old: str, new: str) -> Callable[[], object]:
    return lambda: path.write_text(path.read_text().replace(old, new))


CHANGES = {
    "evaluator.py": ("==", "!="),
    "driver.py": ("module.Harness()", "module.Harness() "),
    "domain.py": ("colours", "colors"),
    "DOMAIN.md": ("item", "thing"),
    "data/train.jsonl": ("red", "blue"),
    "data/search.jsonl": ("red", "blue"),
    "data/test.jsonl": ("red", "blue"),
    "baselines/00_plain.py": ("plain", "other"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_while_a_round_goes_on_is_refused_with_the_path(name: str, toy: Toy, tmp_path: Path) -> None:
    act = replaced(toy.folder / name, *CHANGES[name])
    with pytest.raises(DomainError) as raised:
        await meddled(toy, tmp_path / "runs", Meddler(act))
    assert str(toy.folder / name) in raised.value.message
    assert "not accepted: 003" in raised.value.message
    hint = str(raised.value.hint)
    assert "undo the change" in hint
    assert "metaharness resume" in hint
    assert "begin a new run" in hint


async def test_what_was_evaluated_meanwhile_is_kept_aside_and_evaluated_anew_after_the_undo(
    toy: Toy, tmp_path: Path
) -> None:
    undisturbed = await searched(toy.config(iterations=3), tmp_path / "undisturbed", Meddler(lambda: None))
    evaluator = toy.folder / "evaluator.py"
    before = evaluator.read_text()
    with pytest.raises(DomainError):
        await meddled(toy, tmp_path / "runs", Meddler(lambda: evaluator.write_text(before + "# looks harmless\n")))
    path = tmp_path / "runs" / "run"
    aside = path / "iterations" / "003"
    assert [it.state for it in recorded(path)] == ["complete", "complete", "complete", "pending"]
    assert len(recorded(path).closed_rounds) == 2
    assert lines(aside / "eval_trace.jsonl.refused")
    assert (aside / "score.json.refused").is_file()
    with pytest.raises(DomainError, match=r"changed: domain, evaluator \(evaluator.py\)"):
        Run.open(path)
    evaluator.write_text(before)
    await finish(Run.open(path), Meddler(lambda: None))
    after = recorded(path)
    assert [it.state for it in after] == [it.state for it in undisturbed]
    assert [it.verdict for it in after] == [it.verdict for it in undisturbed]
    keys = [line["key"] for line in lines(path / "calls.jsonl")]
    assert len(keys) == len(set(keys)), "no completed call was repeated"


async def test_a_change_between_rounds_is_refused_before_the_next_one_begins(toy: Toy, tmp_path: Path) -> None:
    async with Run.create(toy.config(iterations=3), tmp_path / "runs", name="run") as run:
        baselines = run.next_round()
        assert baselines is not None
        for source in (harness("plain"), harness("long")):
            await run.evaluate(await run.submit(*proposals_of(source)))
        assert run.close_round(baselines)
        replaced(toy.folder / "evaluator.py", "==", "!=")()
        with pytest.raises(DomainError, match=r"evaluator\.py has changed since the run was begun$"):
            run.next_round()
    assert [it.state for it in recorded(run.store.path)] == ["complete", "complete"]


async def test_content_of_the_same_size_and_time_is_noticed(toy: Toy, tmp_path: Path) -> None:
    evaluator = toy.folder / "evaluator.py"

    def act() -> None:
        found = evaluator.stat()
        evaluator.write_text(evaluator.read_text().replace("==", "!="))
        os.utime(evaluator, ns=(found.st_atime_ns, found.st_mtime_ns))
        assert (evaluator.stat().st_size, evaluator.stat().st_mtime_ns) == (found.st_size, found.st_mtime_ns)

    with pytest.raises(DomainError, match=r"evaluator\.py has changed"):
        await meddled(toy, tmp_path / "runs", Meddler(act))


async def test_a_file_that_is_touched_or_replaced_by_the_same_content_has_not_changed(toy: Toy, tmp_path: Path) -> None:
    evaluator, data = toy.folder / "evaluator.py", toy.folder / "data" / "search.jsonl"

    def act() -> None:
        os.utime(evaluator, (1, 1))
        copy = data.with_name("copy")
        copy.write_bytes(data.read_bytes())
        copy.replace(data)

    path = await meddled(toy, tmp_path / "runs", Meddler(act))
    assert len(recorded(path)) == 5


async def test_a_file_that_is_gone_and_a_module_that_came_are_changes(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=r"data/train\.jsonl has changed"):
        await meddled(toy, tmp_path / "a", Meddler((toy.folder / "data" / "train.jsonl").unlink))
    (toy.folder / "data" / "train.jsonl").write_text("")
    with pytest.raises(DomainError, match=r"json\.py has changed"):
        await meddled(toy, tmp_path / "b", Meddler(lambda: (toy.folder / "json.py").write_text("loads = None\n")))


async def test_files_that_decide_no_score_may_change(toy: Toy, tmp_path: Path) -> None:
    def act() -> None:
        (toy.folder / "README.md").write_text("notes\n")
        (toy.folder / "proposals" / "01_new.py").write_text(harness("ok"))
        (toy.folder / ".cache").write_text("x")
        toy.script.write_text(toy.script.read_text())

    (toy.folder / "README.md").write_text("before\n")
    assert len(recorded(await meddled(toy, tmp_path / "runs", Meddler(act)))) == 5


async def test_runs_in_the_folder_of_the_domain_are_no_part_of_it(toy: Toy) -> None:
    root = toy.folder / "runs"
    first = await meddled(toy, root, Meddler(lambda: None))
    assert [name for name in recorded(first).record.files if name.startswith("runs")] == []
    second = await searched(toy.config(iterations=1), root, Meddler(lambda: (first / "note.py").write_text("")))
    assert [name for name in second.record.files if name.startswith("runs")] == []


async def test_data_that_lie_elsewhere_are_looked_at_where_an_option_names_them(toy: Toy, tmp_path: Path) -> None:
    data = (toy.folder / "data").rename(tmp_path / "elsewhere")
    config = toy.config(iterations=2, domain_options={"data": str(data)})
    run = Run.create(config, tmp_path / "runs", name="run")
    with pytest.raises(DomainError, match=r"elsewhere/test\.jsonl has changed"):
        await finish(run, Meddler(replaced(data / "test.jsonl", "red", "blue")))


async def test_a_candidate_in_a_plain_process_that_rewrites_the_evaluator_is_caught(toy: Toy, tmp_path: Path) -> None:
    evaluator = toy.folder / "evaluator.py"
    body = f"open({str(evaluator)!r}, 'a').write('# everything is right\\n')"
    run = Run.create(toy.config(iterations=1), tmp_path / "runs", name="run")
    with pytest.raises(DomainError, match=r"evaluator\.py has changed since the run was begun; .* not accepted: 002"):
        await finish(run, ScriptedProposer(proposals_of(harness("good", body=body))))
    assert "# everything is right" in evaluator.read_text()
    assert recorded(run.store.path).incumbent() == recorded(run.store.path).iteration(1)


async def test_a_file_that_can_no_longer_be_read_is_named(toy: Toy, tmp_path: Path) -> None:
    page = toy.folder / "DOMAIN.md"

    def loop() -> None:
        page.unlink()
        page.symlink_to(page)

    with pytest.raises(StoreError, match=f"cannot read {page}: Too many levels of symbolic links") as raised:
        await meddled(toy, tmp_path / "runs", Meddler(loop))
    assert "who may read it" in str(raised.value.hint)
