"""OpenAI's chat completions, to the form of the door and back.

One file, standard library only, Python 3.9 and later; it imports nothing of ours: see following.py.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PATH = "/chat/completions"
NAMED = ("response_format", "temperature")
HERE = ("model", "messages", "tools", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens")
"""Parameters that are read here; what is neither here nor named goes on as it is."""
REFUSED = {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "logprobs": "the door gives texts, without probabilities",
    "top_logprobs": "the door gives texts, without probabilities",
    "audio": "the door gives texts",
}
MOST_CHOICES = 128
STOPS = {"max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}
TEXTS = ("text", "refusal", "input_text", "output_text")
NO_PARAMETERS = {"type": "object", "properties": {}}


def question(body: Any) -> dict[str, Any]:
    """The request for the door.

    Raises:
        ValueError: It holds something that the door has no place for; the message says what.
    """
    for name, instead in REFUSED.items():
        if body.get(name):
            raise ValueError(f"the parameter {name!r} is not supported: {instead}")
    found: dict[str, Any] = {"messages": messages_of(body["messages"])}
    if body.get("tools"):
        found["tools"] = [tool_of(tool) for tool in body["tools"]]
    found.update((name, body[name]) for name in NAMED if body.get(name) is not None)
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if most is not None:
        found["max_tokens"] = most
    taken = {*HERE, *NAMED, *REFUSED}
    extra = {name: value for name, value in body.items() if name not in taken and value is not None}
    return {**found, "extra": extra} if extra else found


def choices(body: Any) -> int:
    """How many answers are asked for.

    Raises:
        ValueError: The number is none.
    """
    count = body.get("n") or 1
    if not isinstance(count, int) or not 1 <= count <= MOST_CHOICES:
        raise ValueError(f"n is a number from 1 to {MOST_CHOICES}")
    return count


def messages_of(given: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = None
    for message in given:
        role = message["role"]
        if role == "tool":
            if results is None:  # those of one turn are one message
                results = []
                messages.append({"role": "user", "content": results})
            content = content_of(message.get("content") or "")
            results.append({"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": content})
            continue
        results = None
        if role not in ("user", "assistant", "system", "developer"):
            raise ValueError(f"a message has the role {role!r}; valid: system, developer, user, assistant, tool")
        if message.get("name") or message.get("function_call"):
            raise ValueError("`name` and `function_call` of a message are not supported: use its content and tools")
        content = content_of(message.get("content") or message.get("refusal") or "")
        calls = [call_of(call) for call in message.get("tool_calls") or ()]
        if calls:
            content = [*([{"type": "text", "text": content}] if isinstance(content, str) else content), *calls]
            content = [block for block in content if block.get("text") != ""]
        messages.append({"role": "system" if role == "developer" else role, "content": content})
    return messages


def content_of(content: Any) -> Any:
    """A text, or blocks."""
    return content if isinstance(content, str) else [block_of(part) for part in content]


def block_of(part: Any) -> dict[str, Any]:
    kind = part["type"]
    if kind in TEXTS:
        return {"type": "text", "text": part["refusal" if kind == "refusal" else "text"]}
    if kind not in ("image_url", "input_image"):
        raise ValueError(f"a content part of type {kind!r} is not supported; valid: text, image_url")
    url = part["image_url"] if isinstance(part["image_url"], str) else part["image_url"]["url"]
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    head, _, data = url[len("data:") :].partition(",")
    if not head.endswith(";base64"):
        raise ValueError("an image in a data URL has to be in base64")
    source = {"type": "base64", "media_type": head[: -len(";base64")], "data": data}
    return {"type": "image", "source": source}


def call_of(call: Any) -> dict[str, Any]:
    if call.get("type", "function") != "function":
        raise ValueError(f"a tool call of type {call['type']!r} is not supported; valid: function")
    function = call["function"]
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": parsed(function["arguments"])}


def parsed(arguments: str) -> Any:
    """What is not JSON stays as the model wrote it."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


def tool_of(tool: Any) -> dict[str, Any]:
    if tool.get("type", "function") != "function":
        raise ValueError(f"a tool of type {tool['type']!r} is not supported; valid: function")
    function = tool["function"]
    found = {"name": function["name"], "input_schema": function.get("parameters") or NO_PARAMETERS}
    found.update((name, function[name]) for name in ("description", "strict") if function.get(name) is not None)
    return found


# -- the answer -------------------------------------------------------------------------------------------------


def answer(completions: list[Any], body: Any, mark: str) -> dict[str, Any]:
    """What the provider would have answered; one choice for each completion."""
    sums = [sum(one["usage"][name] for one in completions) for name in ("input_tokens", "output_tokens")]
    cached = sum(one["usage"]["cache_read_tokens"] for one in completions)
    return {
        "id": f"chatcmpl-{mark}",
        "object": "chat.completion",
        "created": 0,  # a time would differ from run to run
        "model": completions[0]["model"],
        "choices": [choice(one, number) for number, one in enumerate(completions)],
        "usage": {
            "prompt_tokens": sums[0],
            "completion_tokens": sums[1],
            "total_tokens": sum(sums),
            "prompt_tokens_details": {"cached_tokens": cached},
        },
        "system_fingerprint": None,
    }


def choice(completion: Any, number: int) -> dict[str, Any]:
    calls = [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": arguments_of(call)}}
        for call in completion["tool_calls"]
    ]
    message = {"role": "assistant", "content": completion["text"] or (None if calls else ""), "refusal": None}
    return {
        "index": number,
        "message": {**message, "tool_calls": calls} if calls else message,
        "logprobs": None,
        "finish_reason": STOPS.get(completion["stop_reason"], "stop"),
    }


def arguments_of(call: Any) -> str:
    return call["input"] if isinstance(call["input"], str) else json.dumps(call["input"], ensure_ascii=False)


def events(whole: Any, body: Any) -> Iterator[Any]:
    """The same as a stream: for each choice its text, each of its tool calls, its end."""
    usage = {"usage": None} if (body.get("stream_options") or {}).get("include_usage") else {}
    common = {**{name: whole[name] for name in ("id", "created", "model", "system_fingerprint")}, **usage}
    common["object"] = "chat.completion.chunk"
    for one in whole["choices"]:
        message = one["message"]
        calls = [{"index": place, **call} for place, call in enumerate(message.get("tool_calls", ()))]
        deltas: list[Any] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"content": message["content"]}] if message["content"] else []
        deltas += [{"tool_calls": [call]} for call in calls]
        for delta in deltas:
            part = {"index": one["index"], "delta": delta, "logprobs": None, "finish_reason": None}
            yield {**common, "choices": [part]}
        last = {"index": one["index"], "delta": {}, "logprobs": None, "finish_reason": one["finish_reason"]}
        yield {**common, "choices": [last]}
    if usage:
        yield {**common, "choices": [], "usage": whole["usage"]}
    yield "[DONE]"


def error(status: int, kind: str, message: str) -> dict[str, Any]:
    """The body of a failed answer."""
    type_ = "invalid_request_error" if status < 429 else "rate_limit_error" if status == 429 else "server_error"
    return {"error": {"message": message, "type": type_, "param": None, "code": kind}}
