"""A conversation with a model that has tools, in the form of the Messages API, as far as it has come.

The endpoint is asked to keep its beginning in its cache: tools and system prompt, which every session of a run shares,
and all messages up to the last two of the user, so that each request finds what the one before has written there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from metaharness.messages import Message, ModelRequest

CACHED = {"cache_control": {"type": "ephemeral"}}
"""Marks the end of what is to be kept. The API takes four marks in a request."""
MARKED_MESSAGES = 2
SHORT = 200
"""Characters of a tool's result that are never cut."""

Block = dict[str, Any]


class Conversation:
    """Grows at its end; its oldest results of tools can be cut."""

    def __init__(self, system: str, tools: Sequence[Mapping[str, Any]]) -> None:
        """Begin it.

        Args:
            system: The system prompt; empty for none.
            tools: `name`, `description`, `input_schema` each.
        """
        self.system = system
        self.tools = [dict(tool) for tool in tools]
        self.messages: list[dict[str, Any]] = []

    def add(self, role: Literal["user", "assistant"], blocks: Sequence[Block]) -> None:
        """Add blocks: to the last message where that is of the same role, else as a new one. None change nothing."""
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": list(blocks)})

    def parameters(self) -> dict[str, Any]:
        """The conversation as parameters of the Messages API, with its marks."""
        users = [place for place, message in enumerate(self.messages) if message["role"] == "user"]
        marked = users[-MARKED_MESSAGES:]
        found: dict[str, Any] = {
            "tools": _marked(self.tools),
            "messages": [
                message | {"content": _marked(message["content"])} if place in marked else message
                for place, message in enumerate(self.messages)
            ],
        }
        if self.system:
            found["system"] = _marked([{"type": "text", "text": self.system}])
        return found

    def request(self, max_tokens: int) -> ModelRequest:
        """The same in the provider-neutral form: what the budget estimates its cost by."""
        messages = [Message(role=one["role"], content=one["content"]) for one in self.messages]
        return ModelRequest(
            messages=messages, system=self.system or None, tools=self.tools or None, max_tokens=max_tokens
        )

    def shorten(self) -> int:
        """Cut the oldest results of tools to a line each, up to half of their characters; those last given stay.

        Returns how many characters are gone; 0 where there was nothing to cut.
        """
        asked = {
            block["id"]: block["name"]
            for message in self.messages
            for block in message["content"]
            if block["type"] == "tool_use"
        }
        results = [
            block
            for message in self.messages[:-1]
            for block in message["content"]
            if block["type"] == "tool_result" and len(block["content"]) > SHORT
        ]
        enough, gone = sum(len(block["content"]) for block in results) / 2, 0
        for block in results:
            if gone >= enough:
                break
            size = len(block["content"])
            block["content"] = f"[{size:,} characters of {asked[block['tool_use_id']]} were cut to make room]"
            gone += size - len(block["content"])
        return gone


def _marked(blocks: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Copies of blocks, the last of them marked."""
    return [dict(block) for block in blocks[:-1]] + [{**block, **CACHED} for block in blocks[-1:]]
