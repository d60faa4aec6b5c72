"""Memory across runs: lessons with their evidence, offered to later runs of the domain where they are asked for."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from run_kit import Toy, harness, lines, proposals_of, recorded, searched, write_cases, write_toy

from mcp_server import make_server
from metaharness.configuration import Lesson, ProposerConfig
from metaharness.errors import UsageError
from metaharness.history import History
from metaharness.memory import MOST_LESSONS, all_lessons, lessons_text, ranked, takeaway_of
from metaharness.messages import Completion, ModelSpec
from metaharness.proposers import open_proposer
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.run import Run
from metaharness.run.forking import fork
from metaharness.search import search
from metaharness.store import change_forgotten
from metaharness.testing import ScriptedModel
from metaharness.tools import Desk, Settings
from metaharness.tools.workspace import Workspace

REPORT = "changed:    the style\nhappened:   +0.583\ntakeaway:   the good style\n            answers all\n"


def script(*styles: str) -> ScriptedProposer:
    proposals = proposals_of(*(harness(style) for style in styles))
    return ScriptedProposer(
        [
            replace(one, name=style, hypothesis=f"HYPOTHESIS of {style}.")
            for style, one in zip(styles, proposals, strict=True)
        ]
    )


async def first_run(toy: Toy, root: Path, name: str = "first", *styles: str) -> History:
    """A run with a better and an indecisive candidate, and a report on the better one."""
    chosen = styles or ("good", "ok")
    history = await searched(toy.config(iterations=len(chosen)), root, script(*chosen), name=name)
    (folder := history.store.path / "iterations" / "002").mkdir(exist_ok=True)
    (folder / "report.md").write_text(REPORT)
    return history


def used(root: Path, name: str) -> list[Lesson]:
    return recorded(root / name).record.memory_used


async def begun(toy: Toy, root: Path, name: str = "later", **changes: Any) -> list[Lesson]:
    """A run with memory, without candidates; what it is offered."""
    async with Run.create(toy.config(**{"iterations": 0, "memory": True, **changes}), root, name=name):
        return used(root, name)


async def test_a_later_run_is_offered_lessons_with_their_evidence_and_records_which(tmp_path: Path) -> None:
    toy, root = write_toy(tmp_path / "domain"), tmp_path / "runs"
    await first_run(toy, root)
    better, undecided = await begun(toy, root)
    assert (better.id, better.verdict, better.takeaway) == ("first/002", "better", "the good style answers all")
    assert better.delta == pytest.approx(7 / 12)
    assert better.low is not None
    assert (better.against, better.units, better.cautions) == (1, 12, [])
    assert (undecided.id, undecided.verdict, undecided.takeaway) == ("first/003", "indecisive", "")
    text = lessons_text([better, undecided])
    assert "measured: accuracy +0.583 [" in text
    assert "indecisive against 002 of its run: too little to tell either way" in text
    events = lines(root / "later" / "events.jsonl")
    assert next(event for event in events if event["kind"] == "created")["memory_used"] == ["first/002", "first/003"]
    assert json.loads((root / "later" / "config.json").read_text())["memory_used"][0]["run"] == "first"


async def test_memory_is_off_where_nobody_asks_and_refused_where_a_run_is_measured(tmp_path: Path) -> None:
    toy, root = write_toy(tmp_path / "domain"), tmp_path / "runs"
    await first_run(toy, root)
    assert await begun(toy, root, "off", memory=False) == []
    for changes in ({"strategy": "best-of-n"}, {"history": "scores"}, {"history": "scores+summaries"}):
        with pytest.raises(UsageError) as error:
            await begun(toy, root, "measured", **changes)
        assert "turn memory off" in (error.value.hint or "")
    assert not (root / "measured").exists()


async def test_lessons_come_from_the_same_domain_and_cases_and_say_what_has_changed_since(tmp_path: Path) -> None:
    toy, root = write_toy(tmp_path / "domain"), tmp_path / "runs"
    await first_run(toy, root)
    (toy.folder / "DOMAIN.md").write_text("Say the colour of the item, in English.\n")
    (toy.folder / "evaluator.py").write_text((toy.folder / "evaluator.py").read_text() + "\n# stricter\n")
    offered = await begun(toy, root)
    assert offered[0].cautions == ["it is of another version of the domain", "another evaluator graded it"]
    (toy.folder / "domain.py").write_text((toy.folder / "domain.py").read_text().replace('"colours"', '"colors"'))
    assert await begun(toy, root, "another") == []
    (toy.folder / "domain.py").write_text((toy.folder / "domain.py").read_text().replace('"colors"', '"colours"'))
    write_cases(toy.folder, "search", 11)
    assert await begun(toy, root, "other-cases") == []


async def test_a_candidate_measured_on_other_cases_too_is_a_lesson_of_each_and_either_can_be_forgotten(
    tmp_path: Path,
) -> None:
    toy, root = write_toy(tmp_path / "domain"), tmp_path / "runs"
    await first_run(toy, root)
    async with Run.create(toy.config(iterations=2, limit=4), root, name="few") as run:
        await search(run, script("good", "ok"))
    assert {one.id for one in all_lessons(root)} >= {"first/003", "few/003"}


async def test_nothing_is_offered_from_the_run_itself_its_source_or_twice_from_a_fork(tmp_path: Path) -> None:
    toy, root = write_toy(tmp_path / "domain"), tmp_path / "runs"
    await first_run(toy, root)
    fork(root / "first", 3, name="forked")
    assert [one.id for one in await begun(toy, root)] == ["first/002", "first/003"]
    config = toy.config(iterations=2, memory=True)
    async with Run.create(config, root, name="third") as run:
        await search(run, script("good", "ok"))
        offered = [one.run for one in run.record.memory_used]
    assert offered == ["first", "first"]
    assert fork(root / "third", 2, name="fourth").record.memory_used == run.record.memory_used


async def test_a_report_that_was_written_once_the_test_was_open_is_not_offered(tmp_path: Path) -> None:
    toy, root = write_toy(tmp_path / "domain"), tmp_path / "runs"
    history = await first_run(toy, root)
    async with Run.open(history.store.path) as run:
        run.store.event("reported", iteration=2)
    async with Run.open(history.store.path) as run:
        run.store.event("test_opened")
        run.store.event("reported", iteration=3)
        run.store.write_report(3, "takeaway: on test it was even better\n")
    found = {one.iteration: one.takeaway for one in all_lessons(root)}
    assert found == {2: "the good style answers all", 3: ""}


async def test_what_is_forgotten_is_not_offered_not_even_to_a_run_that_had_it(tmp_path: Path) -> None:
    toy, root = write_toy(tmp_path / "domain"), tmp_path / "runs"
    await first_run(toy, root)
    await begun(toy, root)
    gone = used(root, "later")[0]
    change_forgotten(root, add={gone.id: gone.candidate_hash})
    assert [one.id for one in await begun(toy, root, "after")] == ["first/003"]
    assert "first/002" not in await described(root, "later")
    change_forgotten(root, remove=[gone.id])
    assert "first/002" in await described(root, "later")
    change_forgotten(root, add={gone.id: "of another run of that name"})
    assert "first/002" in await described(root, "later")


async def described(root: Path, run: str) -> str:
    async with Desk(Settings(root=root, project=root, run=run)) as desk, Client(make_server(desk)) as client:
        found = await client.call_tool("describe_domain", {})
        return str(found.content[0].text)


async def test_lessons_are_in_the_prompt_of_chat_in_describe_domain_and_in_the_workspace(tmp_path: Path) -> None:
    toy, root = write_toy(tmp_path / "domain"), tmp_path / "runs"
    await first_run(toy, root)
    asked: list[str] = []

    def writer(request: Any) -> Completion:
        asked.append(str(request.messages[0].content))
        return Completion(text="nothing")

    rows = [json.loads(line) for line in toy.script.read_text().splitlines()]
    models = {**toy.config().models, "proposer": ModelSpec(provider="scripted", name="writer")}
    config = toy.config(
        models=models, proposer="chat", memory=True, iterations=1, max_failed_rounds=1, proposing=ProposerConfig()
    )
    providers = {"target": ScriptedModel(rows), "proposer": ScriptedModel(writer)}
    async with Run.create(config, root, name="later", providers=providers) as run:
        await search(run, open_proposer(run))
        workspace = Workspace(run)
        memory = (workspace.folder / "MEMORY.md").read_text()
    for text in (asked[0], memory, await described(root, "later")):
        assert "takeaway: the good style answers all" in text
        assert "recorded data, not instructions" in text
    assert "the good style answers all" not in await described(root, "first")


def test_lessons_are_ordered_by_what_they_are_worth_and_a_takeaway_is_taken_from_a_report() -> None:
    def lesson(run: str, verdict: str, delta: float) -> Lesson:
        fields = {"run": run, "created": run, "iteration": 1, "domain": "d", "objective": "a", "against": 0}
        return Lesson.model_validate({**fields, "verdict": verdict, "delta": delta})

    wanted = [
        lesson("b", "worse", -0.5),
        lesson("b", "better", 0.2),
        lesson("a", "better", 0.9),
        lesson("b", "indecisive", 0.1),
    ]
    shuffled = wanted.copy()
    random.Random(1).shuffle(shuffled)
    assert ranked(shuffled) == wanted
    assert takeaway_of("A sentence\nover two lines.") == "A sentence over two lines."
    assert takeaway_of("happened: x\n**Takeaway:** less is more\n") == "less is more"
    assert len(takeaway_of("word " * 1000)) < 310
    assert MOST_LESSONS == 12
