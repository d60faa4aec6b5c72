"""The provider-neutral form of a model call: which model, what is asked, what it answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class Record(BaseModel):
    """Base of everything that is written. Unknown fields of a newer minor version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelSpec(Record):
    """Which model answers for a role."""

    provider: str
    """`embedded`, `scripted`, `anthropic` or `openai`."""
    name: str
    """The provider's name of the model; for `scripted` the path of its script."""
    base_url: str | None = None
    """Another endpoint that speaks the provider's wire format; None for the provider's own."""

    @property
    def id(self) -> str:
        """`provider:name`, as a person writes it."""
        return f"{self.provider}:{self.name}"


class Message(Record):
    """One message: the content is a string or a list of blocks (`text`, `image`, `tool_use`, `tool_result`)."""

    role: Literal["system", "user", "assistant"]
    content: str | list[dict[str, Any]]


class ModelRequest(BaseModel):
    """A request as the harness sent it. None means: not given, the provider's default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: list[Message] = Field(min_length=1)
    system: str | None = None
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = None
    extra: dict[str, Any] | None = None
    """Any further parameter, passed to the provider as it is."""


class ToolCall(Record):
    """The model asks for a tool."""

    id: str
    name: str
    input: Any


class Usage(Record):
    """Token counts as the provider reports them. `input_tokens` includes what was read from or written to its cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    """The part of `cache_write_tokens` that is kept for an hour: it costs more."""


class Completion(Record):
    """A model's answer in the provider-neutral form."""

    text: str
    tool_calls: list[ToolCall] = []
    stop_reason: StopReason = "end_turn"
    usage: Usage = Usage()
    model: str = ""
    """The name the provider reports."""
