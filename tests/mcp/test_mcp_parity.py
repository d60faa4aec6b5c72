"""One candidate over MCP, over Python and over the command line comes to the same; every tool has a command."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import anyio
import pytest
from meta_kit import ROOT
from run_kit import RAISES, SYNTAX_ERROR, Toy, assert_nothing_twice, essence, harness, say, write_toy
from tools_kit import CASES, begun, settings, working

from metaharness.records import Proposal
from metaharness.run import Run
from metaharness.run.outside import add
from metaharness.tools import TOOLS

ABOUT = {"name": "mine", "hypothesis": "It gets every item right.", "axis": "prompt"}
WITHOUT_COMMAND = {"write_report": "a person writes the file: the tool is for hosts that have none"}
"""Tools that the command line has nothing for, and why."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("parity") / "domain", cases=CASES)


@pytest.fixture(scope="module")
def fresh(toy: Toy) -> Path:
    """A run whose baselines are scored; copy it."""
    root = toy.folder.parent / "fresh"

    async def begin() -> None:
        async with begun(settings(toy, root)):
            pass

    anyio.run(begin)
    return root


@pytest.mark.parametrize(
    "source", [harness("good"), harness("x"), SYNTAX_ERROR, RAISES], ids=["good", "bad", "no syntax", "raises"]
)
def test_a_candidate_comes_to_the_same_whichever_way_it_is_handed_in(
    source: str, toy: Toy, fresh: Path, tmp_path: Path
) -> None:
    roots = {way: shutil.copytree(fresh, tmp_path / way) for way in ("mcp", "python", "command")}
    (tmp_path / "mine.py").write_text(source)

    async def over_mcp() -> None:
        async with working(settings(toy, roots["mcp"])) as agent:
            await agent.hand_in(source, **ABOUT)
            await agent.record("evaluate")

    async def over_python() -> None:
        async with Run.open(roots["python"] / "first") as run:
            await add(run, Proposal(files={"harness.py": source}, **ABOUT))

    anyio.run(over_mcp)
    anyio.run(over_python)
    told = [f"--{name}={value}" for name, value in ABOUT.items()]
    said = say("submit", tmp_path / "mine.py", "--root", roots["command"], "--quiet", *told)
    assert said.code in (0, 3), said.err
    first, *others = [essence(root / "first") for root in roots.values()]
    assert len(first["scoreboard"]) == 3
    assert others == [first, first]
    for root in roots.values():
        assert_nothing_twice(root / "first")


def test_a_search_goes_on_over_another_way_than_it_began(toy: Toy, fresh: Path, tmp_path: Path) -> None:
    root = shutil.copytree(fresh, tmp_path / "runs")
    where = settings(toy, root)

    async def hand_in(style: str) -> None:
        async with working(where) as agent:
            await agent.hand_in(harness(style))
            await agent.record("evaluate", wait_seconds=0)

    anyio.run(hand_in, "good")
    (tmp_path / "mine.py").write_text(harness("ok"))
    early = say("submit", tmp_path / "mine.py", "--root", root)
    assert early.code == 2
    assert "round 1 of this run has not ended" in early.err
    assert say("resume", "--root", root, "first", "--quiet").code == 0
    assert say("submit", tmp_path / "mine.py", "--root", root, "--quiet").code == 0
    anyio.run(hand_in, "long")
    resumed = say("resume", "--root", root, "first", "--quiet")
    assert resumed.code == 0, resumed.err
    board = essence(root / "first")["scoreboard"]
    assert [row["name"] for row in board] == ["00_plain", "01_long", "good", "mine", "good"]
    assert all(row["state"] == "complete" for row in board)


def test_every_tool_has_a_command_or_a_reason_for_having_none() -> None:
    page = (ROOT / "skills/meta-harness/references/tools-and-commands.md").read_text(encoding="utf-8")
    table = re.findall(r"^\|[^|]+\|([^|]+)\|([^|]+)\|$", page, re.MULTILINE)
    without = {
        tool.name
        for tool in TOOLS
        if not any(
            f"`{tool.name}(" in left and re.search(r"`(?:metaharness|grep|submit)", right) for left, right in table
        )
    }
    assert without == set(WITHOUT_COMMAND)
