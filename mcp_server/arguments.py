"""The arguments of a tool, checked as the engine checks them, so that an agent reads the same over every way."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from pydantic import PrivateAttr

from metaharness.errors import UsageError
from metaharness.tools.arguments import Arguments, in_words


class CheckedTool(Tool):
    """A tool that says of arguments that do not fit what is wrong with them, and which there are."""

    _arguments: Arguments = PrivateAttr()

    def take(self, arguments: Arguments) -> None:
        """Show and check these."""
        self._arguments = arguments
        self.parameters = arguments.schema

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:
        """Call it.

        Raises:
            ToolError: The arguments do not fit, or the tool says what the agent is to read.
        """
        try:
            self._arguments.checked(arguments)
        except UsageError as error:
            raise ToolError(in_words(error)) from None
        return await super().run(arguments, context, convert_result)
