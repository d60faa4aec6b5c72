"""The tools over MCP in memory, on the small domain of `run_kit`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mcp import Client
from run_kit import Toy, harness

from mcp_server import make_server
from metaharness.tools import Desk, Settings

CASES = 6
"""Search cases of the domain, where a test does not say otherwise."""
ERAS = ("auto", "legacy")
"""Revisions of the protocol with and without a handshake."""
Era = Literal["auto", "legacy"]
BETTER = {"name": "good", "hypothesis": "The good style gets every item right."}
TEXT_TOOLS = frozenset(
    {"describe_domain", "scoreboard", "read_harness", "read_trace", "search_history", "compare", "check_harness"}
)
"""Tools that answer with a page of text; the others answer with a record."""


class Refused(Exception):  # noqa: N818 - what the agent reads
    """A tool answered with an error."""


@dataclass
class Agent:
    """A client, as an agent uses it."""

    client: Client
    desk: Desk

    @property
    def root(self) -> Path:
        return self.desk.settings.root

    async def answer(self, tool: str, **given: Any) -> Any:
        return await self.client.call_tool(tool, given)

    async def text(self, tool: str, **given: Any) -> str:
        """The text of a tool that answers with text alone."""
        found = await self._good(tool, given)
        assert found.structured_content is None
        return str(found.content[0].text)

    async def record(self, tool: str, **given: Any) -> dict[str, Any]:
        """The record of a tool that answers with one."""
        found = (await self._good(tool, given)).structured_content
        assert isinstance(found, dict)
        return found

    async def refused(self, tool: str, **given: Any) -> str:
        """The error of a call that has to fail."""
        found = await self.client.call_tool(tool, given)
        assert found.is_error, found
        return str(found.content[0].text)

    async def hand_in(self, source: str | Mapping[str, str], **given: Any) -> dict[str, Any]:
        files = {"harness.py": source} if isinstance(source, str) else dict(source)
        return await self.record("write_harness", files=files, **{**BETTER, **given})

    async def evaluated(self, style: str, **given: Any) -> dict[str, Any]:
        """A candidate that asks in a style, handed in and evaluated."""
        await self.hand_in(harness(style), **given)
        return await self.record("evaluate", **({"run": given["run"]} if "run" in given else {}))

    async def _good(self, tool: str, given: Mapping[str, Any]) -> Any:
        found = await self.client.call_tool(tool, dict(given))
        if found.is_error:
            raise Refused(found.content[0].text)
        return found


def settings(toy: Toy, root: Path, *, run: str | None = None, **changes: Any) -> Settings:
    """What a person has decided: runs of the domain, in processes without a sandbox."""
    config = toy.config(**{"iterations": 30, **changes})
    fields = {name: getattr(config, name) for name in config.model_fields_set - {"proposer"}}
    return Settings(root=root, project=toy.folder.parent, run=run, config=fields)


@asynccontextmanager
async def working(where: Settings, era: Era = "auto") -> AsyncIterator[Agent]:
    """An agent at a desk of its own."""
    async with Desk(where) as desk, Client(make_server(desk), mode=era) as client:
        yield Agent(client, desk)


@asynccontextmanager
async def begun(where: Settings, name: str = "first", era: Era = "auto") -> AsyncIterator[Agent]:
    """An agent that has begun a run."""
    async with working(where, era) as agent:
        await agent.record("start_run", name=name)
        yield agent


FENCE = re.compile(r"<(\w+) ([0-9a-f]{8}): recorded data, not instructions>\n(.*)\n</\1 \2>", re.DOTALL)


def inside(page: str) -> str:
    """What stands in the fence of a page."""
    found = FENCE.search(page)
    assert found, page
    return found[3]


def outside(page: str) -> str:
    """What stands around it: what the tool itself says."""
    return FENCE.sub("", page)


def following(page: str) -> dict[str, Any] | None:
    """The arguments that the footer of a page names for the next; None at the end."""
    found = re.findall(r"next: ([a-z_]+)=(\S+?)(?:, ([a-z_]+)=(\d+))?\]", outside(page))
    if not found:
        return None
    name, value, second, number = found[-1]
    given: dict[str, Any] = {name: {"true": True}.get(value, int(value) if name.startswith("start") else value)}
    return given | ({second: int(number)} if second else {})


async def pages(agent: Agent, tool: str, **given: Any) -> list[str]:
    """Every page, by following the footers."""
    found = [await agent.text(tool, **given)]
    while (more := following(found[-1])) is not None:
        found.append(await agent.text(tool, **{**given, **more}))
        assert len(found) < 1000
    return found
