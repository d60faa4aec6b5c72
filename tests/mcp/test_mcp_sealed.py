"""Nothing that is offered over MCP leads to the sealed test, out of the folder of runs, or to another budget."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import MCPError
from run_kit import recorded, say, write_toy
from tools_kit import BETTER, CASES, ERAS, Agent, begun, settings, working

from metaharness.tools import TOOLS

SECRET = "test item"
"""What stands in every case of the test split, and in no other."""


@pytest.fixture(params=ERAS)
async def agent(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Agent]:
    toy = write_toy(tmp_path / "project" / "domain", cases=CASES)
    async with begun(settings(toy, tmp_path / "project" / "runs"), era=request.param) as agent:
        yield agent


OUTSIDE = ("../..", "..", ".", "/", "first/sealed", "first/iterations", "first/..", "../runs/first/../..", "\x00", "*")


@pytest.mark.parametrize("run", OUTSIDE)
async def test_no_name_of_a_run_leads_elsewhere(run: str, agent: Agent) -> None:
    for tool in TOOLS:
        if tool.name == "start_run":
            continue
        given: dict[str, Any] = {
            "read_harness": {"iteration": 0},
            "read_trace": {"iteration": 0},
            "search_history": {"pattern": "a"},
            "compare": {"a": 0, "b": 1},
            "check_harness": {"files": {"harness.py": "x"}},
            "write_harness": {"files": {"harness.py": "x"}, **BETTER},
            "write_report": {"iteration": 0, "text": "x"},
        }.get(tool.name, {})
        error = await agent.refused(tool.name, run=run, **given)
        assert "hint: " in error, tool.name
        assert "first" in error, tool.name


async def test_a_run_of_another_folder_is_not_reached(agent: Agent, tmp_path: Path) -> None:
    other = write_toy(tmp_path / "elsewhere" / "domain", cases=CASES)
    async with begun(settings(other, tmp_path / "elsewhere" / "runs"), name="theirs"):
        pass
    theirs = tmp_path / "elsewhere" / "runs" / "theirs"
    (agent.root / "linked").symlink_to(theirs)
    for run in (str(theirs), "../../elsewhere/runs/theirs", "linked"):
        assert "is not in" in await agent.refused("scoreboard", run=run)
        with pytest.raises(MCPError):
            await agent.client.read_resource(f"run://{run}/config")


@pytest.mark.parametrize(
    "uri",
    [
        "run://first/sealed/opening.json",
        "run://first/sealed/config",
        "run://first/iterations/0/..%2f..%2fsealed%2fopening.json",
        "run://first/iterations/0/../../sealed/opening.json",
        "run://first/iterations/../sealed/opening.json",
        "run://first/iterations/0/sealed",
        "run://first/iterations/0/..%2F..%2Fconfig.json",
        "run://first/iterations/0/%2fetc%2fpasswd",
        "run://first/iterations/-1/score.json",
        "run://first/iterations/99/score.json",
        "run://first/iterations/x/score.json",
        "run://..%2f../config",
        "run://%2e%2e/config",
        "run://first/iterations/0/.lock",
        "file:///etc/passwd",
    ],
)
async def test_no_resource_leads_elsewhere(uri: str, agent: Agent) -> None:
    sealed = agent.root / "first" / "sealed"
    sealed.mkdir(exist_ok=True)
    (sealed / "opening.json").write_text(json.dumps({"cases": SECRET}))
    with pytest.raises(MCPError) as refused:
        await agent.client.read_resource(uri)
    assert SECRET not in str(refused.value)


async def test_resources_show_the_files_of_iterations(agent: Agent) -> None:
    templates = (await agent.client.list_resource_templates()).resource_templates
    assert all(template.title and template.description for template in templates)
    read = agent.client.read_resource
    assert "harness.py" not in (await read("run://first/config")).contents[0].text
    assert "00_plain" in (await read("run://first/scoreboard")).contents[0].text
    assert "class Harness" in (await read("run://first/iterations/0/harness.py")).contents[0].text
    assert json.loads((await read("run://first/iterations/0/score.json")).contents[0].text)["iteration"] == 0
    assert (await read("run://first/iterations/000/eval_trace.jsonl")).contents[0].text.count("\n") == CASES
    with pytest.raises(MCPError, match=r"valid: .*score\.json"):
        await read("run://first/iterations/0/report.txt")


async def test_nothing_that_is_read_holds_a_case_of_the_test(agent: Agent) -> None:
    await agent.hand_in({"harness.py": "import sealed\n", "sealed/test.jsonl": "{}"})
    found = [
        await agent.text("search_history", pattern="test item|test-0"),
        await agent.text("describe_domain"),
        await agent.text("read_harness", iteration=2),
        *[await agent.text("read_trace", iteration=number) for number in range(3)],
    ]
    assert not any(SECRET in page or "test-0" in page for page in found[1:])
    assert "no hit" in found[0]
    error = await agent.refused("check_harness", files={"harness.py": "x"}, cases=["test-00"])
    assert "there is no train case 'test-00'" in error
    assert "train-0" in error
    assert "there is no train case 'search-00'" in await agent.refused(
        "check_harness", files={"harness.py": "x"}, cases=["search-00"]
    )
    assert "no case 'test-00' fits" in await agent.refused("read_trace", iteration=0, case="test-00")


def test_after_the_person_has_opened_the_test_the_agent_reads_on_and_adds_nothing(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "project" / "domain", cases=CASES)
    where = settings(toy, tmp_path / "project" / "runs")

    async def search() -> None:
        async with begun(where) as agent:
            await agent.evaluated("good")

    async def after() -> None:
        async with working(where) as agent:
            found = await agent.record("evaluate", run="first")
            assert (found["state"], found["mean"]) == ("complete", 1)
            for tool, given in (
                ("write_harness", {"files": {"harness.py": "x"}, **BETTER}),
                ("check_harness", {"files": {"harness.py": "x"}}),
            ):
                assert "test split" in await agent.refused(tool, run="first", **given)
            board = await agent.text("scoreboard", run="first")
            assert "the test split was opened" in board
            assert "no hit" in await agent.text("search_history", run="first", pattern="test item|test-0")
            for name in ("opening.json", "result.json"):
                with pytest.raises(MCPError):
                    await agent.client.read_resource(f"run://first/iterations/0/{name}")

    anyio.run(search)
    assert say("finish", "--root", where.root, "first", "--yes").code == 0
    assert (where.root / "first" / "sealed").is_dir()
    anyio.run(after)
    assert len(recorded(where.root / "first")) == 3


async def test_what_is_no_parameter_changes_nothing(agent: Agent) -> None:
    before = (agent.root / "first" / "config.json").read_bytes()
    about = {"files": {"harness.py": "x"}, **BETTER}
    more = {"budget": {"usd": 99}, "sandbox": "process", "model": "openai:large", "iterations": 999}
    await agent.answer("write_harness", **about, **more)
    await agent.answer("start_run", name="other", proposer="none", **more)
    await agent.answer("evaluate", limit=1, trials=9, **more)
    assert (agent.root / "first" / "config.json").read_bytes() == before
    assert [path.name for path in agent.root.iterdir() if path.is_dir()] == ["first"]
