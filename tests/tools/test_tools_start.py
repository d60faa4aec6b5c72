"""`start_run`: a run as the person has set it, and never a second budget beside an open one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from run_kit import Toy, harness, recorded, searched, write_toy
from tools_kit import CASES, begun, settings, working

from metaharness.configuration import AGENT
from metaharness.messages import ModelSpec
from metaharness.store import list_runs
from metaharness.tools import Settings


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", cases=CASES)


async def test_the_run_is_as_the_person_has_set_it(toy: Toy, tmp_path: Path) -> None:
    budget, objectives = {"candidates": 2, "calls": 500}, ("harness_chars:min", "typo:max")
    where = settings(toy, tmp_path / "runs", budget=budget, patience=3, seed=7, objectives=objectives)
    async with begun(where) as agent:
        config = recorded(agent.root / "first").record.config
        over = "objectives: accuracy (maximise), harness_chars (minimise), typo (maximise); the first decides"
        assert over in (await agent.text("describe_domain")).splitlines()
        for asked in ({}, {"all": True}):
            board = await agent.text("scoreboard", **asked)
            assert "typo has no value: no grade of any candidate carries such a metric" in board
            assert "* incumbent   + on the frontier" in board
    assert (config.proposer, config.sandbox, config.iterations) == (AGENT, "process", 30)
    assert (config.patience, config.seed, config.budget.candidates, config.budget.calls) == (3, 7, 2, 500)
    assert config.models == toy.config().models


async def test_an_open_run_is_gone_on_with_so_that_its_budget_is_the_only_one(toy: Toy, tmp_path: Path) -> None:
    where = settings(toy, tmp_path / "runs", iterations=1)
    async with begun(where) as agent:
        await agent.evaluated("good")
        again = await agent.record("start_run", name="second")
        assert (again["run"], again["state"]) == ("first", "complete")
        assert "is gone on with" in again["note"]
    async with working(where) as agent:
        assert (await agent.record("start_run", domain=str(toy.folder)))["run"] == "first"
    assert [path.name for path in list_runs(where.root)] == ["first"]


async def test_runs_that_are_begun_at_once_are_one(toy: Toy, tmp_path: Path) -> None:
    names: list[str] = []
    async with working(settings(toy, tmp_path / "runs")) as agent:

        async def begin(name: str) -> None:
            names.append((await agent.record("start_run", name=name))["run"])

        async with anyio.create_task_group() as group:
            for name in ("first", "second", "third"):
                group.start_soon(begin, name)
    assert len(set(names)) == 1
    assert len(list_runs(tmp_path / "runs")) == 1


async def test_a_run_that_was_begun_and_interrupted_is_gone_on_with(toy: Toy, tmp_path: Path) -> None:
    where = settings(toy, tmp_path / "runs")
    async with working(where) as agent:
        await agent.record("start_run", name="first", wait_seconds=0)
    async with working(where) as agent:
        assert (await agent.record("start_run"))["state"] == "complete"
    assert len(recorded(where.root / "first").closed_rounds) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "../elsewhere"}, "../elsewhere"),
        ({"name": "/tmp/elsewhere"}, "/tmp/elsewhere"),
        ({"name": "a\x00b"}, "a"),
        ({"domain": "starter"}, "the person has set the domain"),
    ],
)
async def test_a_name_or_a_domain_that_cannot_be_is_refused(
    given: dict[str, Any], said: str, toy: Toy, tmp_path: Path
) -> None:
    async with working(settings(toy, tmp_path / "runs")) as agent:
        error = await agent.refused("start_run", **given)
    assert said in error
    assert "hint: " in error
    assert list_runs(tmp_path / "runs") == []
    assert set(os.listdir(tmp_path)) <= {"domain", "runs"}  # noqa: PTH208 - names alone


async def test_a_name_that_is_taken_makes_another_and_the_answer_says_which(toy: Toy, tmp_path: Path) -> None:
    other = write_toy(tmp_path / "other", cases=CASES)
    async with begun(settings(toy, tmp_path / "runs")):
        pass
    async with working(settings(other, tmp_path / "runs")) as agent:
        made = await agent.record("start_run", name="first")
    assert [path.name for path in list_runs(tmp_path / "runs")] == ["first", made["run"]]


async def test_without_a_set_domain_one_of_the_project_or_a_shipped_one_is_named(toy: Toy, tmp_path: Path) -> None:
    fields = dict(settings(toy, tmp_path / "runs").config)
    del fields["domain"]
    outside = write_toy(tmp_path.parent / f"{tmp_path.name}-outside", cases=CASES)
    try:
        async with working(Settings(root=tmp_path / "runs", project=tmp_path, config=fields)) as agent:
            error = await agent.refused("start_run")
            assert "no domain is set" in error
            assert "starter" in error
            for wanted in (str(outside.folder), f"../{outside.folder.name}", "nowhere"):
                assert "there is no domain folder" in await agent.refused("start_run", domain=wanted)
            assert "cannot be a path" in await agent.refused("start_run", domain="a\x00b")
            assert (await agent.record("start_run", domain="domain"))["state"] == "complete"
    finally:
        shutil.rmtree(outside.folder)


async def test_a_model_that_cannot_be_used_leaves_no_run_behind(toy: Toy, tmp_path: Path) -> None:
    spec = ModelSpec(provider="scripted", name=str(tmp_path / "missing.jsonl"))
    async with working(settings(toy, tmp_path / "runs", models={"target": spec})) as agent:
        error = await agent.refused("start_run")
        assert "missing.jsonl" in error
    assert list_runs(tmp_path / "runs") == []


async def test_in_a_run_of_another_proposer_a_candidate_is_one_by_hand(toy: Toy, tmp_path: Path) -> None:
    where = settings(toy, tmp_path / "runs")
    await searched(toy.config(iterations=2), where.root)
    async with working(where) as agent:
        assert (await agent.record("start_run"))["state"] == "complete"
        found = await agent.evaluated("good")
        assert (found["state"], found["mean"]) == ("complete", 1)
        assert "all 2 candidates were proposed" in await agent.text("scoreboard")
        await agent.hand_in(harness("ok"))
    (run,) = list_runs(where.root)
    history = recorded(run)
    assert [one.proposal.by_hand for one in history] == [False] * 4 + [True] * 2


async def test_two_servers_that_start_at_once_begin_one_run(toy: Toy, tmp_path: Path) -> None:
    """Two runs would have two budgets."""
    where = settings(toy, tmp_path / "runs")
    async with working(where) as one, working(where) as other, anyio.create_task_group() as group:
        for agent in (one, other):
            group.start_soon(agent.answer, "start_run")
    assert len([path for path in where.root.iterdir() if path.is_dir()]) == 1
