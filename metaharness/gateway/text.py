"""What of a request is text: for measuring how much context a harness sends, and for the scripted model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from metaharness.messages import ModelRequest


def count_chars(request: ModelRequest) -> int:
    """Characters of all messages: text, text in tool results, and the input of tool calls as JSON.

    The system prompt counts; images, tool definitions and parameters do not.
    """
    total = len(request.system) if request.system else 0
    for message in request.messages:
        content = message.content
        total += len(content) if isinstance(content, str) else sum(map(len, _texts(content)))
    return total


def count_images(request: ModelRequest) -> int:
    """How many image blocks the messages hold, those in tool results included."""
    return sum(_images(message.content) for message in request.messages)


def last_user_text(request: ModelRequest) -> str:
    """The text of the last user message, tool results included; empty when there is none."""
    for message in reversed(request.messages):
        if message.role == "user":
            content = message.content
            return content if isinstance(content, str) else "\n".join(_texts(content))
    return ""


def _texts(content: list[dict[str, Any]]) -> Iterator[str]:
    """The texts of a list of blocks. A malformed block has none: the provider is the one to refuse it."""
    for block in content:
        kind = block.get("type")
        if kind == "text" and isinstance(block.get("text"), str):
            yield block["text"]
        elif kind == "tool_use":
            yield json.dumps(block.get("input"), ensure_ascii=False, separators=(",", ":"))
        elif kind == "tool_result":
            inner = block.get("content")
            if isinstance(inner, str):
                yield inner
            elif isinstance(inner, list):
                yield from _texts([one for one in inner if isinstance(one, dict)])


def _images(content: object) -> int:
    if not isinstance(content, list):
        return 0
    blocks = [block for block in content if isinstance(block, dict)]
    return sum(1 if block.get("type") == "image" else _images(block.get("content")) for block in blocks)
