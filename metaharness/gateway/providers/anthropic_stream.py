"""Answers of the Messages API as they arrive: for conversations with tools, whose answers take too long otherwise.

The conversation is the caller's, in the API's own form; nothing is translated, journalled or counted here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from metaharness.errors import ModelFailure
from metaharness.gateway.providers.anthropic import KEY, open_client, read_usage
from metaharness.gateway.providers.remote import MESSAGE_CHARS, Endpoint
from metaharness.messages import ModelSpec, ToolCall, Usage

IDLE_SECONDS = 300.0
"""How long an endpoint may send nothing."""
CONNECT_SECONDS = 10.0
RETRIES = 5
"""More than for a single call: a conversation that ends loses all that was paid for it."""
GROWING = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
"""The field of a block that each kind of delta adds to; those of tool input are apart."""


class StreamedMessage:
    """An answer, as far as it has arrived."""

    def __init__(self) -> None:
        self.model = ""
        """The name the endpoint reports."""
        self.stop_reason: str | None = None
        """As the API spells it; None while the answer has not ended."""
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, str] = {}
        """What has arrived of the input of tool calls, as JSON."""
        self._usage: dict[str, Any] = {}

    @property
    def usage(self) -> Usage | None:
        """What it has used, as far as told; None where nothing was."""
        return read_usage({"input_tokens": 0, "output_tokens": 0} | self._usage) if self._usage else None

    @property
    def content(self) -> list[dict[str, Any]]:
        """Its blocks, as the API takes them back; a tool input that is no JSON object is an empty one."""
        return [
            block | {"input": self._input(index, valid=True)} if block["type"] == "tool_use" else block
            for index, block in sorted(self._blocks.items())
            if block["type"] != "text" or block["text"].strip()  # the API takes none back that is empty
        ]

    @property
    def calls(self) -> list[ToolCall]:
        """The tools that it asks for. An input that is no JSON is the text that arrived."""
        return [
            ToolCall(id=block["id"], name=block["name"], input=self._input(index))
            for index, block in sorted(self._blocks.items())
            if block["type"] == "tool_use"
        ]

    @property
    def cut_call(self) -> str | None:
        """The id of the tool call in which it was cut off; None where it was not."""
        if self.stop_reason not in ("max_tokens", "model_context_window_exceeded") or not self._blocks:
            return None
        index, block = max(self._blocks.items())
        whole = block["type"] != "tool_use" or (self._inputs[index] and isinstance(self._input(index), dict))
        return None if whole else str(block["id"])

    def take(self, event: Mapping[str, Any]) -> None:
        """Add what an event of the stream says; one of another kind says nothing."""
        match event["type"]:
            case "message_start":
                self.model = event["message"].get("model") or ""
                self._count(event["message"].get("usage"))
            case "content_block_start":
                block = {name: value for name, value in event["content_block"].items() if value is not None}
                self._blocks[event["index"]] = block
                if block["type"] == "tool_use":
                    self._inputs[event["index"]] = json.dumps(block["input"]) if block.get("input") else ""
            case "content_block_delta":
                self._grow(event["index"], event["delta"])
            case "message_delta":
                self.stop_reason = event["delta"].get("stop_reason") or self.stop_reason
                self._count(event.get("usage"))

    def _grow(self, index: int, delta: Mapping[str, Any]) -> None:
        if delta["type"] == "input_json_delta":
            self._inputs[index] += delta["partial_json"]
        elif (name := GROWING.get(delta["type"])) is not None:
            self._blocks[index][name] = self._blocks[index].get(name, "") + delta[name]

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        """Take in what is told; later numbers are totals, and what they leave out stays."""
        self._usage |= {name: value for name, value in (usage or {}).items() if value is not None}

    def _input(self, index: int, *, valid: bool = False) -> Any:
        """What a tool is given; with `valid` an object, whatever arrived."""
        text = self._inputs[index]
        try:
            found = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            found = text
        return found if isinstance(found, dict) or not valid else {}


class MessagesStream:
    """One model behind the Messages API, answering in streams."""

    def __init__(self, spec: ModelSpec) -> None:
        """Import the SDK and read the key; nothing is sent.

        Raises:
            ConfigurationError: The package or the key is missing.
        """
        sdk, self._client = open_client(spec, retries=RETRIES)
        self._timeout = sdk.Timeout(IDLE_SECONDS, connect=CONNECT_SECONDS)
        self._model = spec.name
        self._endpoint = Endpoint(sdk, sdk.AnthropicError, self._read, KEY)

    async def ask(self, parameters: Mapping[str, Any], answer: StreamedMessage) -> None:
        """Send a request and read the answer to its end.

        Args:
            parameters: Of the Messages API, without model and stream.
            answer: Takes in what arrives: what it has stays there where the rest does not come.

        Raises:
            ModelFailure: There is no answer, or not all of it.
        """
        await self._endpoint.send({"parameters": dict(parameters), "answer": answer})

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _read(self, parameters: dict[str, Any], answer: StreamedMessage) -> None:
        create = self._client.messages.create
        stream = await create(model=self._model, stream=True, timeout=self._timeout, **parameters)
        # the SDK lets the errors of its transport through while a stream is read
        transport = import_module(type(stream.response).__module__.partition(".")[0])
        try:
            async with stream:
                async for event in stream:
                    answer.take(event if isinstance(event, dict) else event.to_dict())
        except transport.HTTPError as error:
            raise _broken_off(repr(error)) from error
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise _broken_off(f"it is not in the provider's format: {error}") from error
        if answer.stop_reason is None:
            raise _broken_off("it has no end")


def _broken_off(why: str) -> ModelFailure:
    return ModelFailure("infrastructure", f"the answer broke off: {why}"[:MESSAGE_CHARS])
