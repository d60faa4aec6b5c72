"""OpenAI's responses, by way of its chat completions (chat.py). Every request has to bring its whole input.

One file, standard library only, Python 3.9 and later; it imports nothing of ours: see following.py.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PARTS: dict[str, dict[str, Any]] = {}
"""The other files of this folder by their names, put here by following.py."""
PATH = "/responses"
HERE = ("model", "input", "instructions", "tools", "tool_choice", "text", "max_output_tokens", "reasoning", "stream")
OF_THE_SERVER = ("store", "include", "stream_options", "truncation")
"""What is only about how a server keeps or reports an answer."""
STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
INCOMPLETE = {"max_tokens": "max_output_tokens", "refusal": "content_filter"}


def question(body: Any) -> dict[str, Any]:
    """The request for the door.

    Raises:
        ValueError: It holds something that the door has no place for; the message says what.
    """
    for name in STATEFUL:
        if body.get(name):
            raise ValueError(f"the parameter {name!r} is not supported: nothing is kept, so send the whole input")
    found: dict[str, Any] = PARTS["chat"]["question"](chat_body(body))
    return found


def chat_body(body: Any) -> dict[str, Any]:
    """The same as a request for a chat completion."""
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    start = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    chat: dict[str, Any] = {"messages": [*start, *messages_of(items)]}
    if body.get("tools"):
        chat["tools"] = [tool_of(tool) for tool in body["tools"]]
    choice = body.get("tool_choice")
    if choice is not None:
        chat["tool_choice"] = choice if isinstance(choice, str) else {"type": "function", "function": name_of(choice)}
    wanted = (body.get("text") or {}).get("format")
    if wanted and wanted["type"] == "json_schema":
        schema = {name: value for name, value in wanted.items() if name != "type"}
        wanted = {"type": "json_schema", "json_schema": schema}
    effort = (body.get("reasoning") or {}).get("effort")
    named = {"response_format": wanted, "max_tokens": body.get("max_output_tokens"), "reasoning_effort": effort}
    chat.update((name, value) for name, value in named.items() if value is not None)
    chat.update((name, value) for name, value in body.items() if name not in (*HERE, *OF_THE_SERVER, *STATEFUL))
    return chat


def name_of(choice: Any) -> dict[str, Any]:
    if choice["type"] != "function":
        raise ValueError(f"a tool_choice of type {choice['type']!r} is not supported; valid: function")
    return {"name": choice["name"]}


def messages_of(items: Any) -> list[dict[str, Any]]:
    """Messages of a chat; the calls that follow a text of the assistant are of the same message."""
    messages: list[dict[str, Any]] = []
    for item in items:
        kind = item.get("type") or "message"
        if kind == "message":
            messages.append({"role": item["role"], "content": item["content"]})
        elif kind == "function_call":
            call = {"id": item["call_id"], "function": {"name": item["name"], "arguments": item["arguments"]}}
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            messages[-1].setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        elif kind != "reasoning":  # no answer of the door has any, so what there is was written by nobody here
            valid = "message, function_call, function_call_output"
            raise ValueError(f"an input of type {kind!r} is not supported; valid: {valid}")
    return messages


def tool_of(tool: Any) -> dict[str, Any]:
    """As chat completions have it: there a function stands one level deeper."""
    function = {name: value for name, value in tool.items() if name != "type"}
    return {"type": tool["type"], "function": function}


# -- the answer -------------------------------------------------------------------------------------------------


def answer(completions: list[Any], body: Any, mark: str) -> dict[str, Any]:
    """What the provider would have answered."""
    (completion,) = completions
    usage = completion["usage"]
    reason = INCOMPLETE.get(completion["stop_reason"])
    return {
        "id": f"resp_{mark}",
        "object": "response",
        "created_at": 0,  # a time would differ from run to run
        "status": "completed" if reason is None else "incomplete",
        "incomplete_details": None if reason is None else {"reason": reason},
        "error": None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "model": completion["model"],
        "output": output(completion, mark),
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "temperature": body.get("temperature"),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p"),
        "usage": {
            "input_tokens": usage["input_tokens"],
            "input_tokens_details": {"cached_tokens": usage["cache_read_tokens"]},
            "output_tokens": usage["output_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["input_tokens"] + usage["output_tokens"],
        },
    }


def output(completion: Any, mark: str) -> list[dict[str, Any]]:
    calls = [
        {
            "type": "function_call",
            "id": f"fc_{mark}_{place}",
            "call_id": call["id"],
            "name": call["name"],
            "arguments": PARTS["chat"]["arguments_of"](call),
            "status": "completed",
        }
        for place, call in enumerate(completion["tool_calls"])
    ]
    if calls and not completion["text"]:
        return calls
    text = {"type": "output_text", "text": completion["text"], "annotations": [], "logprobs": []}
    message = {"type": "message", "id": f"msg_{mark}", "role": "assistant", "status": "completed"}
    return [{**message, "content": [text]}, *calls]


def events(whole: Any, body: Any) -> Iterator[Any]:
    """The same as a stream, each item in one piece."""
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    parts: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    parts.append({"type": "response.in_progress", "response": begun})
    for place, item in enumerate(whole["output"]):
        parts += item_events(item, place)
    end = "response.completed" if whole["status"] == "completed" else "response.incomplete"
    parts.append({"type": end, "response": whole})
    for number, part in enumerate(parts):
        yield {**part, "sequence_number": number}


def item_events(item: Any, place: int) -> Iterator[dict[str, Any]]:
    at: dict[str, Any] = {"output_index": place, "item_id": item["id"]}
    empty: dict[str, Any] = {"content": []} if item["type"] == "message" else {"arguments": ""}
    begun = {**item, "status": "in_progress", **empty}
    yield {"type": "response.output_item.added", "output_index": place, "item": begun}
    if item["type"] == "message":
        at["content_index"] = 0
        part = item["content"][0]
        yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
        yield {"type": "response.output_text.delta", **at, "delta": part["text"], "logprobs": []}
        yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **at, "part": part}
    else:
        yield {"type": "response.function_call_arguments.delta", **at, "delta": item["arguments"]}
        done = {"name": item["name"], "arguments": item["arguments"]}
        yield {"type": "response.function_call_arguments.done", **at, **done}
    yield {"type": "response.output_item.done", "output_index": place, "item": item}


def error(status: int, kind: str, message: str) -> dict[str, Any]:
    """The body of a failed answer."""
    found: dict[str, Any] = PARTS["chat"]["error"](status, kind, message)
    return found
