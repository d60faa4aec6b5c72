"""Models behind the OpenAI chat completions API, and behind the many servers that speak it.

The canonical request has Anthropic's shape. Here tool results become messages of their own, images in tool results
move to the user message after them, and the flag `is_error` of a tool result has no place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from metaharness.errors import ModelFailure
from metaharness.gateway.providers import address
from metaharness.gateway.providers.remote import (
    MAX_RETRIES,
    MESSAGE_CHARS,
    Endpoint,
    check_blocks,
    checked_tools,
    extra_parameters,
    failure_kind,
    field,
    is_loopback,
    key_variable,
    load_sdk,
    read_key,
    refused,
)
from metaharness.gateway.providers.spellings import for_openai
from metaharness.messages import Completion, Message, ModelRequest, ModelSpec, StopReason, ToolCall, Usage

KEY = "OPENAI_API_KEY"
OFFICIAL_HOST = "api.openai.com"
"""Takes `max_completion_tokens` alone for its newer models; other servers know `max_tokens`."""

_STOP_REASONS: dict[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


class OpenAIProvider:
    """One model behind a chat completions endpoint."""

    def __init__(self, spec: ModelSpec) -> None:
        """Import the SDK and read the key; nothing is sent. A server on this machine needs no key.

        Raises:
            ConfigurationError: The package or the key is missing.
        """
        sdk = load_sdk("openai")
        url = address(spec)
        variable = key_variable(KEY, url)
        key = read_key(variable, placeholder="unused" if is_loopback(url) else None)
        self._model = spec.name
        self._client = sdk.AsyncOpenAI(api_key=key, base_url=url, max_retries=MAX_RETRIES)
        official = self._client.base_url.host == OFFICIAL_HOST
        self._max_tokens = "max_completion_tokens" if official else "max_tokens"
        create = self._client.chat.completions.with_raw_response.create
        self._endpoint = Endpoint(sdk, sdk.OpenAIError, create, variable)

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        """Answer one request."""
        parameters = {"model": self._model, **request_parameters(request, max_tokens=self._max_tokens)}
        return await self._endpoint.ask(parameters, read_chat, deadline=deadline)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()


open_model = OpenAIProvider


# --- the request --------------------------------------------------------------------------------------------------


def request_parameters(request: ModelRequest, *, max_tokens: str) -> dict[str, Any]:
    """Everything of a request but the model; `max_tokens` is the server's name for that parameter.

    Raises:
        ModelFailure: The request holds something that chat completions have no place for.
    """
    messages = [{"role": "system", "content": request.system}] if request.system else []
    for message in request.messages:
        messages.extend(_messages(message))
    parameters: dict[str, Any] = {"messages": messages}
    if tools := checked_tools(request):
        parameters["tools"] = [_tool(tool) for tool in tools]
    if request.response_format is not None:
        parameters["response_format"] = _response_format(request.response_format)
    if request.max_tokens is not None:
        parameters[max_tokens] = request.max_tokens
    if request.temperature is not None:
        parameters["temperature"] = request.temperature
    parameters.update(for_openai(extra_parameters(request)))
    return parameters


def _messages(message: Message) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    check_blocks(message.content)
    if message.role == "assistant":
        return [_assistant(message.content)]
    results = [block for block in message.content if block["type"] == "tool_result"]
    tools = [_tool_message(block) for block in results]
    shown = [block for result in results for block in _inner(result) if block["type"] == "image"]
    parts = [_part(block) for block in [*shown, *message.content] if block["type"] != "tool_result"]
    return [*tools, {"role": message.role, "content": _content(parts)}] if parts else tools


def _assistant(blocks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    texts = [_text(block) for block in blocks if block["type"] == "text"]
    calls = [
        {
            "id": field(block, "id", str, "a tool_use block"),
            "type": "function",
            "function": {"name": field(block, "name", str, "a tool_use block"), "arguments": _arguments(block)},
        }
        for block in blocks
        if block["type"] == "tool_use"
    ]
    return {"role": "assistant", "content": "".join(texts) or None, **({"tool_calls": calls} if calls else {})}


def _arguments(block: dict[str, Any]) -> str:
    given = block.get("input")
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _tool_message(block: dict[str, Any]) -> dict[str, Any]:
    identity = field(block, "tool_use_id", str, "a tool_result block")
    content = block.get("content", "")
    if not isinstance(content, str):
        content = "\n".join(_text(inner) for inner in _inner(block) if inner["type"] == "text")
    return {"role": "tool", "tool_call_id": identity, "content": content}


def _inner(result: dict[str, Any]) -> list[dict[str, Any]]:
    content = result.get("content")
    return content if isinstance(content, list) else []


def _part(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "text":
        return {"type": "text", "text": _text(block)}
    if block["type"] != "image":
        raise refused(f"a {block['type']} block does not belong in a user or system message")
    source = block["source"]
    if source["type"] == "url":
        url = field(source, "url", str, "an image source")
    else:
        kind = field(source, "media_type", str, "an image source")
        url = f"data:{kind};base64,{field(source, 'data', str, 'an image source')}"
    return {"type": "image_url", "image_url": {"url": url}}


def _text(block: dict[str, Any]) -> str:
    return field(block, "text", str, "a text block")


def _content(parts: list[dict[str, Any]]) -> Any:
    """One text is sent as a string: not every server takes a list."""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    function.update({name: tool[name] for name in ("description", "strict") if name in tool})
    return {"type": "function", "function": function}


def _response_format(wanted: dict[str, Any]) -> dict[str, Any]:
    """The format as given; a JSON schema in Anthropic's form is put into OpenAI's."""
    if wanted.get("type") == "json_schema" and "json_schema" not in wanted:
        schema = field(wanted, "schema", dict, "response_format")
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return wanted


# --- the answer ---------------------------------------------------------------------------------------------------


def read_chat(body: Any) -> Completion:
    """The answer in the provider-neutral form.

    Raises:
        ModelFailure: The server answered 200 and put an error into the body, as routers do.
    """
    if body.get("error"):
        raise _error_in_body(body["error"])
    choice = body["choices"][0]
    if choice.get("error") or choice.get("finish_reason") == "error":
        raise _error_in_body(choice.get("error") or {})
    message = choice["message"]
    calls = [_tool_call(call) for call in message.get("tool_calls") or ()]
    stop = _STOP_REASONS.get(choice.get("finish_reason") or "", "end_turn")
    if message.get("refusal"):
        stop = "refusal"
    elif calls and stop == "end_turn":
        stop = "tool_use"
    return Completion(
        text=_answer_text(message),
        tool_calls=calls,
        stop_reason=stop,
        usage=_usage(body.get("usage") or {}),
        model=body.get("model") or "",
    )


def _error_in_body(error: Any) -> ModelFailure:
    """By the status that the body names, never by its text; without one it is nobody's doing here."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) else None
    kind = failure_kind(status) if status is not None else "infrastructure"
    return ModelFailure(kind, f"error in the answer: {error}"[:MESSAGE_CHARS], status_code=status)


def _answer_text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    return content or message.get("refusal") or ""


def _tool_call(call: dict[str, Any]) -> ToolCall:
    function = call["function"]
    given = function["arguments"]
    return ToolCall(id=call["id"], name=function["name"], input=_parsed(given) if isinstance(given, str) else given)


def _parsed(arguments: str) -> Any:
    """The arguments of a tool call; what is not JSON stays as the model wrote it."""
    if not arguments:
        return {}
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _usage(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cache_read_tokens=details.get("cached_tokens") or 0,
        cache_write_tokens=details.get("cache_write_tokens") or 0,
    )
