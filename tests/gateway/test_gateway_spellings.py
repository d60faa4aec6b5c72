"""What a harness says in one provider's spelling reaches the other's model in its own."""

from __future__ import annotations

from typing import Any

import pytest
from wire_server import Reply, serve

from metaharness.gateway.providers import open_provider
from metaharness.messages import Message, ModelRequest, ModelSpec

FUNCTION = {"type": "function", "function": {"name": "look"}}
TOOL = {"type": "tool", "name": "look"}
ANTHROPIC: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"stop": "END"}, {"stop_sequences": ["END"]}),
    ({"stop": ["A", "B"]}, {"stop_sequences": ["A", "B"]}),
    ({"tool_choice": "auto"}, {"tool_choice": {"type": "auto"}}),
    ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
    ({"tool_choice": "none", "parallel_tool_calls": False}, {"tool_choice": {"type": "none"}}),
    ({"tool_choice": FUNCTION, "parallel_tool_calls": True}, {"tool_choice": TOOL}),
    ({"parallel_tool_calls": False}, {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
    ({"tool_choice": TOOL, "stop_sequences": ["END"]}, {"tool_choice": TOOL, "stop_sequences": ["END"]}),
    ({"tool_choice": "whatever"}, {"tool_choice": "whatever"}),
]
OPENAI: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"stop_sequences": ["END"]}, {"stop": ["END"]}),
    ({"tool_choice": {"type": "auto"}}, {"tool_choice": "auto"}),
    ({"tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
    ({"tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
    (
        {"tool_choice": {**TOOL, "disable_parallel_tool_use": True}},
        {"tool_choice": FUNCTION, "parallel_tool_calls": False},
    ),
    ({"tool_choice": FUNCTION, "stop": "END"}, {"tool_choice": FUNCTION, "stop": "END"}),
    ({"tool_choice": {"type": "whatever"}}, {"tool_choice": {"type": "whatever"}}),
]
CASES = [("anthropic", *pair) for pair in ANTHROPIC] + [("openai", *pair) for pair in OPENAI]


@pytest.mark.parametrize(("kind", "given", "sent"), CASES)
async def test_either_spelling_arrives_in_that_of_the_provider(
    kind: str, given: dict[str, Any], sent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{kind.upper()}_API_KEY", "key")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    request = ModelRequest(messages=[Message(role="user", content="hello")], extra=given)
    with serve([Reply(text="ok")]) as server:
        url = server.url if kind == "anthropic" else f"{server.url}/v1"
        provider = open_provider(ModelSpec(provider=kind, name="some-model", base_url=url))
        await provider.complete(request, deadline=30)
        await provider.aclose()
        body = server.requests[0].body
    assert {name: value for name, value in body.items() if name not in ("model", "messages", "max_tokens")} == sent
