"""What two clients of one server may ask at once, and questions whose answer is there already."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from run_kit import RAISES, Toy, assert_nothing_twice, harness, lines, write_toy
from tools_kit import CASES, Agent, begun, outside, settings, working

from metaharness.messages import ModelSpec
from metaharness.run.trying import MOST_LEAKS
from metaharness.tools import Settings

LONG = "x" * 60_000


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", cases=CASES)


@pytest.fixture
async def agent(toy: Toy, tmp_path: Path) -> AsyncIterator[Agent]:
    async with begun(settings(toy, tmp_path / "runs")) as found:
        yield found


@pytest.mark.parametrize("source", [harness("good"), RAISES])
async def test_what_is_being_handed_in_goes_up_the_ladder_once(agent: Agent, source: str) -> None:
    """Another client asks for its evaluation while it is there."""
    run = agent.root / "first"
    async with anyio.create_task_group() as group:
        group.start_soon(agent.hand_in, source)
        while not (run / "iterations" / "002").exists():
            await anyio.lowlevel.checkpoint()
        await agent.record("evaluate")
    told = Counter((line["kind"], line.get("iteration"), line.get("round")) for line in lines(run / "events.jsonl"))
    assert [
        fact for fact, times in told.items() if times > 1 and fact[0] in ("accepted", "rejected", "round_closed")
    ] == []
    assert (await agent.evaluated("ok"))["iteration"] == 3
    assert_nothing_twice(run)


async def test_what_is_evaluated_is_answered_while_another_is_under_way(agent: Agent) -> None:
    stored = await agent.record("evaluate", iteration=0)
    await agent.hand_in(harness("good"))
    assert (await agent.record("evaluate", wait_seconds=0))["state"] == "running"
    assert await agent.record("evaluate", iteration=0) == stored
    assert (await agent.record("evaluate"))["mean"] == 1


async def test_nothing_that_is_complete_is_called_stopped(agent: Agent) -> None:
    assert (await agent.evaluated("good"))["state"] == "complete"
    found = await agent.record("evaluate", cancel=True)
    assert (found["state"], found["note"]) == ("complete", "nothing was going on")


@pytest.mark.parametrize(
    ("tool", "given"),
    [("scoreboard", {"run": LONG}), ("read_trace", {"iteration": 0, "case": LONG}), ("scoreboard", {"run": "a\0b"})],
)
async def test_an_error_about_a_long_name_is_short(agent: Agent, tool: str, given: dict[str, Any]) -> None:
    error = await agent.refused(tool, **given)
    assert "hint: " in error
    assert len(error) < 1000


async def test_lines_are_asked_for_from_one_to_another(agent: Agent) -> None:
    case = lines(agent.root / "first" / "iterations" / "000" / "eval_trace.jsonl")[0]["case_id"]
    page = await agent.text("read_trace", iteration=0, case=case, start_line=2, end_line=3)
    assert "[lines 2-3 of " in outside(page)
    assert "input:" in page
    assert "output:" in page
    assert "expected:" not in page
    assert "lies before line 4" in await agent.refused("read_harness", iteration=0, start_line=4, end_line=3)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"start_line": 2}, "lines are those of one case"),
        ({"end_line": 2, "grep": "x", "case": "search-00"}, "lines are those of one case"),
        ({"case": "<learn>", "failures": True}, "nothing else goes with it"),
        ({"case": "<learn>", "grep": "x"}, "nothing else goes with it"),
    ],
)
async def test_arguments_that_would_be_ignored_are_refused(agent: Agent, given: dict[str, Any], told: str) -> None:
    assert told in await agent.refused("read_trace", iteration=0, **given)


async def test_both_sides_of_a_comparison_and_resources_are_recorded_as_read(agent: Agent) -> None:
    await agent.text("read_trace", iteration=0, differs_from=1)
    await agent.client.read_resource("run://first/config")
    await agent.client.read_resource("run://first/scoreboard")
    read = [line["path"] for line in lines(agent.root / "first" / "reads.jsonl")]
    assert read[-3] == "iterations/000/eval_trace.jsonl, iterations/001/eval_trace.jsonl"
    assert read[-2:] == ["config", "scoreboard"]


async def test_the_pages_that_a_skill_refers_to_are_resources(agent: Agent) -> None:
    found = await agent.client.read_resource("skill://meta-harness/references/reading-traces.md")
    assert "trace" in found.contents[0].text  # type: ignore[union-attr]
    with pytest.raises(Exception, match=r"it has: references/judging\.md"):
        await agent.client.read_resource("skill://meta-harness/references/none.md")
    asked = await agent.client.get_prompt("propose", {})
    assert "skill://meta-harness/references/" in asked.messages[0].content.text  # type: ignore[union-attr]


async def test_texts_of_cases_cannot_be_guessed_for_nothing(tmp_path: Path) -> None:
    """The answer to a try with text of a case in it says that it is one, so it is recorded, paid for and bounded."""
    config = {
        "domain": "starter",
        "models": {"target": ModelSpec(provider="embedded", name="icl")},
        "sandbox": "process",
        "iterations": 5,
    }
    async with working(Settings(tmp_path / "runs", tmp_path, config=config)) as agent:
        await agent.record("start_run", name="first", wait_seconds=600)
        text = lines(agent.root / "first" / "iterations" / "000" / "eval_trace.jsonl")[0]["input"]
        guess = {"harness.py": f"{harness('good')}\nGUESS = {text!r}\n"}
        for _ in range(MOST_LEAKS):
            assert "would reject it at leak" in await agent.text("check_harness", files=guess)
        assert "are not tried any more" in await agent.refused("check_harness", files=guess)
        tried = [line for line in lines(agent.root / "first" / "events.jsonl") if line["kind"] == "tried"]
        assert [(line["cases"], line["rejected"]) for line in tried] == [(3, "leak")] * MOST_LEAKS
        assert "ok" in await agent.text("check_harness", files={"harness.py": harness("good")})
