"""Anthropic's messages, to the form of the door and back. The door's blocks and tools have this shape already.

One file, standard library only, Python 3.9 and later; it imports nothing of ours: see following.py.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PATH = "/messages"
NAMED = ("max_tokens", "temperature")
HERE = ("model", "messages", "system", "tools", "stream", "output_config", "output_format")
BLOCKS = ("text", "image", "tool_use", "tool_result")
ERRORS = {400: "invalid_request_error", 404: "not_found_error", 409: "conflict_error", 429: "rate_limit_error"}


def question(body: Any) -> dict[str, Any]:
    """The request for the door.

    Raises:
        ValueError: It holds something that the door has no place for; the message says what.
    """
    messages = [{"role": message["role"], "content": content_of(message["content"])} for message in body["messages"]]
    found: dict[str, Any] = {}
    system = body.get("system")
    if isinstance(system, str) and system:
        found["system"] = system
    elif system:  # blocks, which may be marked for a cache: they stay apart
        messages = [{"role": "system", "content": content_of(system)}, *messages]
    found["messages"] = messages
    if body.get("tools"):
        found["tools"] = [tool_of(tool) for tool in body["tools"]]
    found.update((name, body[name]) for name in NAMED if body.get(name) is not None)
    extra = {
        name: value for name, value in body.items() if name not in HERE and name not in NAMED and value is not None
    }
    config = dict(body.get("output_config") or {})
    wanted = config.pop("format", None) or body.get("output_format")
    if wanted:
        found["response_format"] = wanted
    if config:
        extra["output_config"] = config
    return {**found, "extra": extra} if extra else found


def content_of(content: Any) -> Any:
    """A text, or blocks; what a block leaves open (None) is left out."""
    if isinstance(content, str):
        return content
    for block in content:
        if block["type"] not in BLOCKS:
            raise ValueError(f"a content block of type {block['type']!r} is not supported; valid: {', '.join(BLOCKS)}")
    blocks = [{name: value for name, value in block.items() if value is not None} for block in content]
    for block in blocks:
        if block["type"] == "tool_result":
            block["content"] = content_of(block.get("content", ""))
    return blocks


def tool_of(tool: Any) -> dict[str, Any]:
    if tool.get("type", "custom") not in ("custom", None):
        raise ValueError(f"a tool of type {tool['type']!r} is not supported; define name and input_schema")
    return {name: value for name, value in tool.items() if name != "type" and value is not None}


# -- the answer -------------------------------------------------------------------------------------------------


def answer(completions: list[Any], body: Any, mark: str) -> dict[str, Any]:
    """What the provider would have answered."""
    (completion,) = completions
    text, usage = completion["text"], completion["usage"]
    calls = [
        {"type": "tool_use", "id": call["id"], "name": call["name"], "input": call["input"]}
        for call in completion["tool_calls"]
    ]
    cached = {
        "cache_read_input_tokens": usage["cache_read_tokens"],
        "cache_creation_input_tokens": usage["cache_write_tokens"],
    }
    return {
        "id": f"msg_{mark}",
        "type": "message",
        "role": "assistant",
        "model": completion["model"],
        "content": [*([{"type": "text", "text": text}] if text else []), *calls],
        "stop_reason": completion["stop_reason"],
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage["input_tokens"] - sum(cached.values()),
            "output_tokens": usage["output_tokens"],
            **cached,
        },
    }


def events(whole: Any, body: Any) -> Iterator[Any]:
    """The same as a stream, each block in one piece."""
    usage = {**whole["usage"], "output_tokens": 0}
    yield {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None, "usage": usage}}
    for place, block in enumerate(whole["content"]):
        if block["type"] == "text":
            empty: dict[str, Any] = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        else:
            given = block["input"] if isinstance(block["input"], str) else json.dumps(block["input"])
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": given}
        yield {"type": "content_block_start", "index": place, "content_block": empty}
        yield {"type": "content_block_delta", "index": place, "delta": delta}
        yield {"type": "content_block_stop", "index": place}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": whole["usage"]["output_tokens"]}}
    yield {"type": "message_stop"}


def error(status: int, kind: str, message: str) -> dict[str, Any]:
    """The body of a failed answer."""
    return {"type": "error", "error": {"type": ERRORS.get(status, "api_error"), "message": message}}
