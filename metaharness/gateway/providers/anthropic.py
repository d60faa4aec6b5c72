"""Models behind the Anthropic Messages API, through the official SDK.

The canonical request is of the same shape, so little is translated: system messages at the beginning become the
system prompt, and a JSON schema for the answer becomes `output_config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaharness.gateway.estimates import DEFAULT_MAX_TOKENS
from metaharness.gateway.providers import address
from metaharness.gateway.providers.remote import (
    MAX_RETRIES,
    Endpoint,
    check_blocks,
    checked_tools,
    extra_parameters,
    field,
    key_variable,
    load_sdk,
    read_key,
    refused,
)
from metaharness.gateway.providers.spellings import for_anthropic
from metaharness.messages import Completion, Message, ModelRequest, ModelSpec, StopReason, ToolCall, Usage

KEY = "ANTHROPIC_API_KEY"
SAMPLING = ("temperature", "top_p", "top_k")
SAMPLING_VERSION = "2023-06-01"
"""The last API version that takes sampling parameters. SDK 2.x sends 2026-10-21, which answers 400 to each of them, so
a request that has one is sent under the older version; a model that takes none at all still refuses it."""

_STOP_REASONS: dict[str, StopReason] = {
    "end_turn": "end_turn",
    "max_tokens": "max_tokens",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_use",
    "refusal": "refusal",
    "pause_turn": "end_turn",
    "model_context_window_exceeded": "max_tokens",
}


class AnthropicProvider:
    """One model behind the Messages API."""

    def __init__(self, spec: ModelSpec) -> None:
        """Import the SDK and read the key; nothing is sent.

        Raises:
            ConfigurationError: The package or the key is missing.
        """
        sdk, self._client = open_client(spec)
        self._model = spec.name
        create = self._client.messages.with_raw_response.create
        self._endpoint = Endpoint(sdk, sdk.AnthropicError, create, key_variable(KEY, address(spec)))

    async def complete(self, request: ModelRequest, *, deadline: float) -> Completion:
        """Answer one request."""
        parameters = {"model": self._model, **request_parameters(request)}
        sampled = any(name in parameters for name in SAMPLING)
        headers = {"anthropic-version": SAMPLING_VERSION} if sampled else None
        return await self._endpoint.ask(parameters, read_message, deadline=deadline, headers=headers)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()


open_model = AnthropicProvider


def open_client(spec: ModelSpec, *, retries: int = MAX_RETRIES) -> tuple[Any, Any]:
    """The SDK, and its client for the endpoint of a model; nothing is sent.

    Args:
        spec: The model.
        retries: How often the client asks again, with growing pauses, where the endpoint is busy or cannot be reached.

    Raises:
        ConfigurationError: The package or the key is missing.
    """
    sdk = load_sdk("anthropic")
    url = address(spec)
    return sdk, sdk.AsyncAnthropic(api_key=read_key(key_variable(KEY, url)), base_url=url, max_retries=retries)


def request_parameters(request: ModelRequest) -> dict[str, Any]:
    """Everything of a request but the model.

    Raises:
        ModelFailure: The request holds something the Messages API has no place for.
    """
    system, messages = _split_system(request)
    parameters: dict[str, Any] = {"max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS, "messages": messages}
    if system:
        parameters["system"] = system
    if tools := checked_tools(request):
        parameters["tools"] = tools
    if request.temperature is not None:
        parameters["temperature"] = request.temperature
    parameters.update(for_anthropic(extra_parameters(request)))
    output_format = _output_format(request.response_format)
    if output_format is not None:
        config = parameters.get("output_config", {})
        parameters["output_config"] = {**(config if isinstance(config, dict) else {}), "format": output_format}
    return parameters


def read_message(body: Any) -> Completion:
    """The answer in the provider-neutral form. Thinking and other blocks are left out."""
    blocks = body["content"]
    return Completion(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        tool_calls=[
            ToolCall(id=block["id"], name=block["name"], input=block["input"])
            for block in blocks
            if block["type"] == "tool_use"
        ],
        stop_reason=_STOP_REASONS.get(body.get("stop_reason") or "", "end_turn"),
        usage=read_usage(body["usage"]),
        model=body.get("model") or "",
    )


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """What an answer has used; what went through the provider's cache is part of the input."""
    read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    return Usage(
        input_tokens=usage["input_tokens"] + read + written,
        output_tokens=usage["output_tokens"],
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=(usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0,
    )


def _split_system(request: ModelRequest) -> tuple[str | list[dict[str, Any]], list[dict[str, Any]]]:
    """The system prompt, with the system messages at the beginning; and the other messages in their order."""
    first = next((i for i, message in enumerate(request.messages) if message.role != "system"), len(request.messages))
    parts = [request.system] if request.system else []
    system = [*parts, *(message.content for message in request.messages[:first])]
    rest = [_message(message) for message in request.messages[first:]]
    texts = [part for part in system if isinstance(part, str)]
    if len(texts) == len(system):
        return "\n\n".join(texts), rest
    return [block for part in system for block in _blocks(part)], rest


def _message(message: Message) -> dict[str, Any]:
    if not isinstance(message.content, str):
        check_blocks(message.content)
    return {"role": message.role, "content": message.content}


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    check_blocks(content)
    return content


def _output_format(wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    """A JSON schema in Anthropic's form, given in that form or in OpenAI's."""
    if wanted is None or wanted.get("type") == "text":
        return None
    if wanted.get("type") != "json_schema":
        raise refused(f"response_format {wanted.get('type')!r} is not known to Anthropic; valid: text, json_schema")
    holder = wanted["json_schema"] if isinstance(wanted.get("json_schema"), dict) else wanted
    return {"type": "json_schema", "schema": field(holder, "schema", dict, "response_format")}
