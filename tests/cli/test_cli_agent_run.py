"""The commands of a person on a run whose candidates an agent hands in."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest
from run_kit import Toy, assert_nothing_twice, harness, lines, recorded, say, write_toy
from tools_kit import Agent, begun, settings, working

from metaharness.store import owner_of

CASES = 6
WAITS = "it waits for candidates from outside"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("agent") / "domain", cases=CASES)


@pytest.fixture(scope="module")
def over(toy: Toy) -> Path:
    """Runs: one with two candidates of an agent. Copy them."""
    root = toy.folder.parent / "over"

    async def work() -> None:
        async with begun(settings(toy, root)) as agent:
            await agent.evaluated("other")
            await agent.evaluated("good", parents=[0])

    anyio.run(work)
    return root


@pytest.fixture
def root(over: Path, tmp_path: Path) -> Path:
    return shutil.copytree(over, tmp_path / "runs")


def test_resume_has_nothing_to_do_and_says_that_the_run_waits(root: Path) -> None:
    before = len(lines(root / "first" / "calls.jsonl"))
    said = say("resume", "--root", root, "first")
    assert said.code == 0, said.err
    assert WAITS in said.out + said.err
    assert len(recorded(root / "first")) == 4
    assert len(lines(root / "first" / "calls.jsonl")) == before


def test_resume_ends_what_is_open(toy: Toy, root: Path) -> None:
    async def leave() -> None:
        async with working(settings(toy, root)) as agent:
            await agent.hand_in(harness("ok"))
            await agent.record("evaluate", wait_seconds=0)

    anyio.run(leave)
    assert recorded(root / "first").iteration(4).state == "pending"
    said = say("resume", "--root", root, "first")
    assert said.code == 0, said.err
    assert WAITS in said.out + said.err
    one = recorded(root / "first").iteration(4)
    assert (one.state, one.verdict is not None) == ("complete", True)
    assert_nothing_twice(root / "first")


def test_resume_evaluates_baselines_that_were_interrupted(toy: Toy, tmp_path: Path) -> None:
    where = settings(toy, tmp_path / "runs")

    async def leave() -> None:
        async with working(where) as agent:
            await agent.record("start_run", name="first", wait_seconds=0)

    anyio.run(leave)
    said = say("resume", "--root", where.root, "first")
    assert said.code == 0, said.err
    assert [one.state for one in recorded(where.root / "first")] == ["complete"] * 2


def test_a_run_that_a_person_begins_for_an_agent_is_gone_on_with(toy: Toy, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    said = say("run", *toy.arguments("--root", root, "--name", "first", "--proposer", "agent", "--iterations", 1))
    assert said.code == 0, said.err
    assert WAITS in said.out + said.err
    assert len(recorded(root / "first")) == 2

    async def work() -> None:
        async with working(settings(toy, root)) as agent:
            assert (await agent.record("start_run"))["run"] == "first"
            await agent.evaluated("good")
            assert "the one candidate was proposed" in await one_more(agent)

    anyio.run(work)


async def one_more(agent: Agent) -> str:
    return await agent.refused("write_harness", files={"harness.py": "x"}, name="x", hypothesis="It is better.")


def test_what_a_run_has_come_to_is_shown(root: Path, tmp_path: Path) -> None:
    assert "good" in say("scoreboard", "--root", root, "first").out
    shown = say("show", "3", "--root", root, "--run", "first")
    assert (shown.code, "The good style gets every item right." in shown.out) == (0, True)
    for verb in ("summary", "cost"):
        said = say(verb, "--root", root, "first")
        assert said.code == 0, said.err
    out = tmp_path / "exported"
    said = say("export", "--root", root, "first", "--to", out)
    assert said.code == 0, said.err
    assert any("[good]" in path.read_text() for path in out.rglob("*.py"))
    assert owner_of(root / "first") is None


def test_finish_opens_the_test_for_the_incumbent(root: Path) -> None:
    said = say("finish", "--root", root, "first", "--yes")
    assert said.code == 0, said.err
    assert "003" in said.out
    assert WAITS not in say("scoreboard", "--root", root, "first").out


def test_regrade_makes_another_run_on_which_the_agent_can_go_on(toy: Toy, root: Path) -> None:
    said = say("regrade", "--root", root, "first", "--name", "again", "--force")
    assert said.code == 0, said.err
    history = recorded(root / "again")
    assert [one.state for one in history] == ["complete"] * 4

    async def work() -> None:
        async with working(settings(toy, root)) as agent:
            await agent.hand_in(harness("ok"), run="again")
            assert (await agent.record("evaluate", run="again"))["mean"] == 1

    anyio.run(work)
    assert not recorded(root / "again").iteration(4).proposal.by_hand
