"""The tools of a desk, as a model behind the Messages API is shown them and calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from metaharness.errors import UsageError
from metaharness.messages import ToolCall
from metaharness.tools import Call, Desk, Tool

WAIT_MOST = 3600.0
"""Seconds that a tool waits at most."""


class Toolbox:
    """Tools of a desk, as the Messages API knows tools."""

    def __init__(self, desk: Desk, tools: Sequence[Tool]) -> None:
        self._desk = desk
        self._tools = {tool.name: tool for tool in tools}

    @property
    def shown(self) -> list[dict[str, Any]]:
        """What the model is told of them."""
        return [
            {"name": name, "description": tool.description, "input_schema": tool.arguments.schema}
            for name, tool in self._tools.items()
        ]

    async def answer(self, call: ToolCall, room: float) -> str:
        """Call a tool.

        Args:
            call: As the model made it.
            room: Seconds that an evaluation may be waited for.

        Raises:
            MetaharnessError: What the model is to read.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            raise UsageError(f"there is no tool {call.name!r:.100}", hint=f"valid: {', '.join(self._tools)}")
        if not isinstance(call.input, dict):
            raise UsageError(
                f"the input of {call.name} is no JSON object: {call.input!r:.200}",
                hint=f"give an object with: {', '.join(tool.arguments.schema['properties'])}",
            )
        given = tool.arguments.checked(call.input)
        if "wait_seconds" in given:
            wanted = given["wait_seconds"] if "wait_seconds" in call.input else WAIT_MOST
            given["wait_seconds"] = max(0.0, min(wanted, room, WAIT_MOST))
        answer = await tool(Call(self._desk, tool.name, _unheard), given)
        return answer.model_dump_json() if isinstance(answer, BaseModel) else answer


async def _unheard(done: float, of: float | None, words: str) -> None:
    """Progress: the model reads none before the answer."""
