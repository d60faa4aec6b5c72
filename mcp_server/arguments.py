"""The arguments of a tool: what a client is shown of them, and what an agent is told when they do not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from pydantic import ValidationError

NAMED = ("properties", "$defs")
"""Keywords of a schema that hold schemas by name."""
EMPTY: tuple[Any, ...] = ("", [], {})
MOST_WRONG = 5
"""Arguments that an error speaks of."""


class CheckedTool(Tool):
    """A tool that says of arguments that do not fit what is wrong with them, and which there are."""

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:
        """Call it.

        Raises:
            ToolError: The arguments do not fit, or the tool says what the agent is to read.
        """
        known = self.parameters["properties"]
        wrong = [f"there is no argument {name!r:.100}" for name in arguments if name not in known]
        try:
            self.fn_metadata.validate_arguments(arguments)
        except ValidationError as error:
            wrong += [_in_words(one) for one in error.errors(include_url=False, include_context=False)]
        if wrong:
            required = self.parameters.get("required", ())
            valid = ", ".join(f"{name} (required)" if name in required else name for name in known)
            raise ToolError(f"{'; '.join(wrong[:MOST_WRONG])}\nhint: {self.name} takes: {valid}")
        return await super().run(arguments, context, convert_result)


def _in_words(error: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{name} is missing"
    given = json.dumps(error["input"], ensure_ascii=False)
    return f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}, not {given:.100}"


def lean(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without what says nothing, as an agent pays for it in every conversation.

    Left out: titles, which repeat a name, and defaults that are empty.
    """
    kept = {key: value for key, value in schema.items() if key != "title" and not (key == "default" and value in EMPTY)}
    for key, value in kept.items():
        if key in NAMED:
            kept[key] = {name: lean(one) for name, one in value.items()}
        elif key == "anyOf":
            kept[key] = [lean(one) for one in value]
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            kept[key] = lean(value)
    return kept
