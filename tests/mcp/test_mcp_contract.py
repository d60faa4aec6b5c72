"""What every tool promises to a client: names, descriptions, schemas and hints, in both eras of the protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from run_kit import harness, write_toy
from tools_kit import CASES, ERAS, TEXT_TOOLS, Agent, Era, begun, settings, working

from mcp_server import make_server
from metaharness.tools import TOOLS, Desk, Settings

MOST_TOKENS = 3_000
PERSONS = ("budget", "model", "sandbox", "token", "seal", "test", "usd", "root", "iterations_", "proposer", "price")
"""What no parameter of a tool is named for: the person decides it."""


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> Era:
    return request.param  # type: ignore[no-any-return]


async def listed(folder: Path, era: Era = "auto") -> list[Any]:
    async with (
        Desk(Settings(root=folder / "runs", project=folder)) as desk,
        Client(make_server(desk), mode=era) as client,
    ):
        return list((await client.list_tools()).tools)


async def test_the_tools_are_those_of_the_catalogue_with_titles_descriptions_and_hints(
    tmp_path: Path, era: Era
) -> None:
    tools = await listed(tmp_path, era)
    assert [tool.name for tool in tools] == [tool.name for tool in TOOLS]
    for tool, ours in zip(tools, TOOLS, strict=True):
        assert tool.title == ours.title
        assert tool.description == ours.description
        assert 40 < len(tool.description) < 250, tool.name
        hints = tool.annotations
        assert hints.title == tool.title
        assert hints.read_only_hint is ours.reads
        assert hints.destructive_hint is False
        assert hints.open_world_hint is False
        assert isinstance(hints.idempotent_hint, bool)


async def test_every_parameter_is_described_and_has_a_type(tmp_path: Path, era: Era) -> None:
    for tool in await listed(tmp_path, era):
        for name, schema in tool.input_schema.get("properties", {}).items():
            assert schema.get("description"), f"{tool.name}({name})"
            assert "type" in schema or "anyOf" in schema or "enum" in schema, f"{tool.name}({name})"


async def test_the_whole_set_takes_less_than_three_thousand_tokens(tmp_path: Path) -> None:
    shown = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
        for tool in await listed(tmp_path)
    ]
    assert len(json.dumps(shown)) / 4 < MOST_TOKENS


async def test_no_parameter_takes_a_decision_from_the_person(tmp_path: Path) -> None:
    for tool in await listed(tmp_path):
        for name in tool.input_schema.get("properties", {}):
            assert not any(decision in name for decision in PERSONS), f"{tool.name}({name})"


async def test_two_tools_are_shown_from_the_start(tmp_path: Path) -> None:
    first = [tool.name for tool in await listed(tmp_path) if (tool.meta or {}).get("anthropic/alwaysLoad")]
    assert first == ["describe_domain", "scoreboard"]


async def every_answer(agent: Agent) -> dict[str, Any]:
    """One good answer of every tool."""
    given: dict[str, dict[str, Any]] = {
        "start_run": {"name": "again"},
        "write_harness": {"files": {"harness.py": harness("good")}, "name": "good", "hypothesis": "It is better."},
        "evaluate": {},
        "check_harness": {"files": {"harness.py": harness("good")}},
        "read_harness": {"iteration": 0},
        "read_trace": {"iteration": 0},
        "search_history": {"pattern": "item"},
        "compare": {"a": 2, "b": 0},
        "write_report": {"iteration": 2, "text": "It got every item right."},
    }
    order = [*given, *(tool.name for tool in TOOLS if tool.name not in given)]
    return {name: await agent.answer(name, **given.get(name, {})) for name in order}


async def test_a_tool_answers_with_text_or_with_a_record_and_never_with_both(tmp_path: Path, era: Era) -> None:
    toy = write_toy(tmp_path / "domain", cases=CASES)
    async with begun(settings(toy, tmp_path / "runs"), era=era) as agent:
        answers = await every_answer(agent)
        schemas = {tool.name: tool.output_schema for tool in (await agent.client.list_tools()).tools}
    assert set(answers) == {tool.name for tool in TOOLS}
    for name, answer in answers.items():
        assert not answer.is_error, (name, answer)
        (content,) = answer.content
        if name in TEXT_TOOLS:
            assert answer.structured_content is None
            assert schemas[name] is None
            assert len(content.text) <= 10_000
        else:
            assert json.loads(content.text) == answer.structured_content
            assert set(answer.structured_content) == set(schemas[name]["properties"])
            assert all(schema.get("description") for schema in schemas[name]["properties"].values()), name


async def test_an_unknown_tool_or_cursor_is_an_error_of_the_protocol(tmp_path: Path, era: Era) -> None:
    async with working(Settings(root=tmp_path / "runs", project=tmp_path), era) as agent:
        with pytest.raises(MCPError, match="Unknown tool: finish"):
            await agent.answer("finish")
        with pytest.raises(MCPError, match="Invalid cursor"):
            await agent.client.list_tools(cursor="2")


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("read_harness", {}),
        ("read_harness", {"iteration": -1}),
        ("read_harness", {"iteration": 0, "part": "score"}),
        ("read_trace", {"iteration": 0, "start_line": 0}),
        ("list_iterations", {"limit": 51}),
        ("list_iterations", {"state": "sealed"}),
        ("search_history", {"pattern": ""}),
        ("search_history", {"pattern": "x", "where": ["sealed"]}),
        ("check_harness", {"files": {"harness.py": ""}, "cases": ["a", "b", "c", "d"]}),
        ("write_harness", {"files": {"harness.py": ""}, "name": "x", "hypothesis": "short"}),
        ("evaluate", {"wait_seconds": -1}),
        ("write_report", {"iteration": 0, "text": ""}),
    ],
)
async def test_arguments_that_do_not_fit_the_schema_are_refused_by_name(
    tool: str, given: dict[str, Any], tmp_path: Path, era: Era
) -> None:
    async with working(Settings(root=tmp_path / "runs", project=tmp_path), era) as agent:
        said = await agent.refused(tool, **given)
    assert any(name in said for name in (*given, "iteration")), said
    assert not (tmp_path / "runs").exists()


async def test_the_prompts_name_the_tools_and_take_what_is_wanted(tmp_path: Path, era: Era) -> None:
    async with working(Settings(root=tmp_path / "runs", project=tmp_path), era) as agent:
        prompts = (await agent.client.list_prompts()).prompts
        assert [prompt.name for prompt in prompts] == ["propose", "onboard"]
        said = await agent.client.get_prompt("propose", {"goal": "fewer characters", "rounds": "3"})
        text = said.messages[0].content.text
        assert "fewer characters" in text
        assert "3 round(s)" in text
        onboarding = await agent.client.get_prompt("onboard", {"what": "my letters"})
        assert "my letters" in onboarding.messages[0].content.text
