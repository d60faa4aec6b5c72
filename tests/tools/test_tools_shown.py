"""What a run shows its proposer: with `scores`, `scores+summaries` and `full`, by tools and by files. Golden files.

`UPDATE_GOLDEN=1 pytest tests/tools/test_tools_shown.py` writes them anew.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from mcp import Client
from run_kit import SYNTAX_ERROR, harness, proposals_of, write_toy
from tools_kit import Agent, Refused

from mcp_server import make_server
from metaharness.configuration import Shown
from metaharness.errors import UsageError
from metaharness.proposers import check_proposer
from metaharness.records import Proposal
from metaharness.run import Round, Run
from metaharness.run.sessions import Session
from metaharness.search import search
from metaharness.tools import Desk, seat_tools, seated
from metaharness.tools.workspace import Workspace

GOLDEN = Path(__file__).parent / "golden"
LEVELS = get_args(Shown)
WRITTEN = [
    replace(
        proposal,
        name=name,
        hypothesis=f"HYPOTHESIS of {name}",
        axis=f"AXIS of {name}",
        reasoning=f"REASONING of {name}",
        predicted_effect=f"EFFECT of {name}",
    )
    for name, proposal in zip(
        ("good", "broken", "other"),
        proposals_of(harness("good"), SYNTAX_ERROR, harness("x")),
        strict=True,
    )
]
ASKED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("describe_domain", {}),
    ("scoreboard", {}),
    ("list_iterations", {}),
    ("read_harness", {"iteration": 2}),
    ("read_harness", {"iteration": 3}),
    ("read_harness", {"iteration": 2, "part": "reasoning"}),
    ("read_harness", {"iteration": 2, "part": "report"}),
    ("read_harness", {"iteration": 4, "against": 2}),
    ("read_trace", {"iteration": 4, "failures": True}),
    ("read_trace", {"iteration": 3}),
    ("compare", {"a": 4, "b": 2}),
    ("search_history", {"pattern": "REASONING|TAKEAWAY|good|item 07"}),
    ("search_history", {"pattern": "item 07", "where": ["traces"]}),
    ("check_harness", {"files": {"harness.py": harness("ok")}}),
)


class Looks:
    """Hands in what was written, then asks every tool, and hands in nothing more."""

    def __init__(self, run: Run, workspace: Workspace) -> None:
        self.run, self.workspace = run, workspace
        self.pages: list[str] = []

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        if round_.turn < len(WRITTEN):
            yield WRITTEN[round_.turn]
            return
        self.run.store.write_report(2, "TAKEAWAY of good\n")
        self.workspace.update()
        self.pages = [f"=== {name}\n{text}" for name, text in sorted(files(self.workspace.folder).items())]
        async for proposal in seated(self.run, round_, Session(self.run, round_), self.workspace.folder, self.look):
            yield proposal

    async def look(self, desk: Desk, _: Session) -> None:
        async with Client(make_server(desk, seat_tools())) as client:
            for tool, given in ASKED:
                answer = await said(Agent(client, desk), tool, given)
                self.pages.append(f"=== {tool} {json.dumps(given)[:100]}\n{answer}")


async def said(agent: Agent, tool: str, given: dict[str, Any]) -> str:
    try:
        found = await agent._good(tool, given)
    except Refused as error:
        return f"REFUSED: {error}"
    return str(found.content[0].text)


def files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def masked(text: str, folder: Path) -> str:
    """Without what differs from one run to the next: times, hashes, folders, marks of fences."""
    text = text.replace(str(folder), "FOLDER")
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "SHA", text)
    text = re.sub(r"<(/?\w+) [0-9a-f]{8}\b", r"<\1 MARK", text)
    text = re.sub(r"[\d.]+ ms of its own", "MS of its own", text)
    for name in ("duration_ms", "latency_ms", "seconds", "mtime_ns", "ctime_ns", "inode", "trace_bytes", "size"):
        text = re.sub(rf'("{name}": ?)[-\d.e+]+', r"\1N", text)
    text = re.sub(r"(case \S+ trial \d, line \d+: ).*", r"\1EXCERPT", text)  # how much of it depends on durations
    return re.sub(r"metaharness-\w+-\w+", "TEMPORARY", text)


async def pages(folder: Path, level: Shown) -> str:
    toy = write_toy(folder / "domain", cases=4, baselines={"a.py": harness("plain"), "b.py": harness("long")})
    config = toy.config(history=level, iterations=4, concurrency=1, max_failed_rounds=1)
    async with Run.create(config, folder / "runs", name="run") as run:
        looks = Looks(run, Workspace(run))
        await search(run, looks)
    looks.workspace.remove()
    assert not looks.workspace.folder.exists()
    return masked("\n".join(looks.pages) + "\n", folder)


@pytest.mark.parametrize("level", LEVELS)
async def test_what_a_level_shows_is_what_its_golden_file_says(level: Shown, tmp_path: Path) -> None:
    found = await pages(tmp_path, level)
    golden = GOLDEN / f"{level}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found)
    assert found == golden.read_text()


async def test_best_of_n_shows_the_baselines_alone_and_every_candidate_comes_from_the_best_of_them(
    tmp_path: Path,
) -> None:
    seen: list[str] = []

    class Independent:
        async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
            async for proposal in seated(run, round_, Session(run, round_), tmp_path, self.look):
                yield proposal

        async def look(self, desk: Desk, _: Session) -> None:
            async with Client(make_server(desk, seat_tools())) as client:
                agent = Agent(client, desk)
                written = await agent.hand_in(harness("good"))
                assert (await agent.record("evaluate", iteration=written["iteration"]))["state"] == "complete"
                seen.extend(row["name"] for row in (await agent.record("list_iterations"))["iterations"])
                if written["iteration"] == 3:
                    assert "there is no iteration 002" in await agent.refused("read_harness", iteration=2)
                    assert "003" in await agent.text("search_history", pattern="good")
                    assert "002" not in await agent.text("search_history", pattern="good")

    toy = write_toy(tmp_path / "domain")
    async with Run.create(toy.config(strategy="best-of-n", iterations=2), tmp_path / "runs", name="run") as run:
        await search(run, Independent())
        assert [one.proposal.parents for one in run.history.iterations[2:]] == [[1], [1]]
        assert [one.verdict.incumbent for one in run.history.iterations[2:] if one.verdict] == [1, 2]
    assert seen == ["00_plain", "01_long", "good"] * 2


def test_best_of_n_is_refused_where_candidates_would_see_each_other(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain")
    for changes in ({"proposer": "agent"}, {"candidates_per_round": 2}):
        with pytest.raises(UsageError):
            check_proposer(toy.config(strategy="best-of-n", **changes))


@pytest.mark.parametrize("level", LEVELS)
def test_no_test_case_and_no_evaluator_is_in_any_golden_file(level: Shown) -> None:
    shown = (GOLDEN / f"{level}.txt").read_text()
    assert "train item" in shown
    assert "test item" not in shown
    assert "class Exact" not in shown
    assert ("TAKEAWAY of good" in shown) == (level != "scores")
    assert ("[answer]" in shown) == (level == "full")
