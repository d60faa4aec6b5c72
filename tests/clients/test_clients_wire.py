"""A client of one provider inside, the other provider's wire format outside: whole conversations between the two."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clients_kit import ANTHROPIC, OPENAI, PAIRS, PRICES, RESPONSES, belong, question, steps, write_shop
from wire_server import Received, Reply, WireServer, serve

ROUTES = {
    "anthropic inside, openai outside": (ANTHROPIC, "openai"),
    "openai inside, anthropic outside": (OPENAI, "anthropic"),
    "responses inside, openai outside": (RESPONSES, "openai"),
}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("ANTHROPIC", "OPENAI"):
        monkeypatch.setenv(f"{provider}_API_KEY", f"the-real-key-of-{provider.lower()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def shopkeeper(request: Received) -> Reply:
    """The next turn of the conversation that a request continues, whichever format it is in."""
    said = json.dumps(request.body["messages"])
    one, other = next(pair for pair in PAIRS if question(*pair) in said)
    first, second, third = steps(one, other)
    turn = third if f"{PRICES[one]}+{PRICES[other]} = " in said else second if " costs " in said else first
    return Reply(text=turn.get("text", ""), tool_calls=turn.get("tool_calls", ()))


def served(outside: str, server: WireServer) -> tuple[str, str]:
    return f"{outside}:frozen", server.url if outside == "anthropic" else f"{server.url}/v1"


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_an_app_for_one_provider_runs_with_the_model_of_the_other(tmp_path: Path, route: str) -> None:
    source, outside = ROUTES[route]
    shop = write_shop(tmp_path / "shop")
    with serve(shopkeeper) as server:
        model, url = served(outside, server)
        said, traces = shop.evaluate(source, "--sandbox", "process", "--no-ladder", "--base-url", url, model=model)
    assert said.code == 0, said.err
    assert {trace["status"] for trace in traces.values()} == {"ok"}
    assert all(trace["output"] == trace["expected"] for trace in traces.values())
    assert all(len(trace["calls"]) == 3 and belong(trace) for trace in traces.values())
    assert len(server.requests) == 3 * len(PAIRS)
    for request in server.requests:
        assert request.body["model"] == "frozen", "the model that the app names is not asked"
        assert "the-real-key" in json.dumps(request.headers), "the key of the run is sent, not the placeholder"


def asked_outside(tmp_path: Path, outside: str, body: str, reply: Callable[[Received], Reply]) -> tuple[Any, Any]:
    """The answer of a harness, by the body of its `predict`, and the body of the one request that it made."""
    shop = write_shop(tmp_path / "shop", pairs=PAIRS[:1])
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    source = f"class Harness:\n    def predict(self, text, model):\n{lines}"
    with serve(reply) as server:
        model, url = served(outside, server)
        options = ("--sandbox", "process", "--no-ladder", "--base-url", url)
        traces = shop.evaluate(source, *options, model=model)[1]
        (trace,) = traces.values()
        assert trace["status"] == "ok", trace["error"]
        return trace["output"], server.requests[0].body


def test_what_openai_spells_in_its_way_reaches_anthropic_in_that_ones(tmp_path: Path) -> None:
    body = """
import openai
completion = openai.OpenAI().chat.completions.create(
    model='gpt-4o',
    messages=[
        {'role': 'developer', 'content': 'Be brief.'},
        {'role': 'user', 'content': [
            {'type': 'text', 'text': 'What is this?'},
            {'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,aGk='}},
        ]},
    ],
    tools=[{'type': 'function', 'function': {'name': 'look', 'parameters': {'type': 'object', 'properties': {}}}}],
    tool_choice={'type': 'function', 'function': {'name': 'look'}},
    parallel_tool_calls=False, stop='END', max_completion_tokens=50, temperature=0.5,
    response_format={'type': 'json_schema', 'json_schema': {'name': 'a', 'schema': {'type': 'object'}}},
)
call = completion.choices[0].message.tool_calls[0]
choice = completion.choices[0]
return [completion.model, choice.finish_reason, call.id, call.function.arguments, completion.usage.prompt_tokens]
"""
    calls = [{"id": "toolu_1", "name": "look", "input": {"at": "it"}}]
    usage = {"input_tokens": 3, "cache_read_input_tokens": 4}
    answer, sent = asked_outside(tmp_path, "anthropic", body, lambda _: Reply(tool_calls=calls, usage=usage))
    assert answer == ["frozen", "tool_calls", "toolu_1", '{"at": "it"}', 7]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    assert sent == {
        "model": "frozen",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}],
        "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "max_tokens": 50,
        "temperature": 0.5,
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    }


def test_what_anthropic_spells_in_its_way_reaches_openai_in_that_ones(tmp_path: Path) -> None:
    body = """
import anthropic
message = anthropic.Anthropic().messages.create(
    model='claude', max_tokens=50, stop_sequences=["END"],
    system=[{'type': 'text', 'text': 'Be brief.', 'cache_control': {'type': 'ephemeral'}}],
    messages=[{'role': 'user', 'content': [
        {'type': 'image', 'source': {'type': 'base64', 'media_type': 'image/png', 'data': 'aGk='}},
    ]}],
    tools=[{'name': 'look', 'input_schema': {'type': 'object', 'properties': {}}}],
    tool_choice={'type': 'any', 'disable_parallel_tool_use': True},
)
usage = message.usage
return [message.model, message.stop_reason, message.content[0].text, usage.input_tokens, usage.cache_read_input_tokens]
"""
    usage = {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}
    reply = Reply(text="A gr", stop_reason="length", usage=usage)
    answer, sent = asked_outside(tmp_path, "openai", body, lambda _: reply)
    assert answer == ["frozen", "max_tokens", "A gr", 3, 4]
    parameters = {"type": "object", "properties": {}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    assert sent == {
        "model": "frozen",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [image]}],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": parameters}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "stop": ["END"],
        "max_tokens": 50,
    }


def test_the_responses_of_openai_reach_its_chat_completions(tmp_path: Path) -> None:
    body = """
import openai
response = openai.OpenAI().responses.parse(
    model='gpt-5', instructions='Be brief.', max_output_tokens=50, reasoning={'effort': 'low'},
    input=[
        {'role': 'user', 'content': [{'type': 'input_text', 'text': 'Look.'}]},
        {'type': 'function_call', 'call_id': 'call_1', 'name': 'look', 'arguments': '{}'},
        {'type': 'function_call_output', 'call_id': 'call_1', 'output': 'a cat'},
    ],
    tools=[{'type': 'function', 'name': 'look', 'parameters': {'type': 'object', 'properties': {}}, 'strict': True}],
    tool_choice={'type': 'function', 'name': 'look'},
    text={'format': {'type': 'json_schema', 'name': 'a', 'schema': {'type': 'object'}, 'strict': True}},
)
return [response.model, response.status, response.incomplete_details.reason, response.output_text]
"""
    answer, sent = asked_outside(tmp_path, "openai", body, lambda _: Reply(text="A c", stop_reason="length"))
    assert answer == ["frozen", "incomplete", "max_output_tokens", "A c"]
    function = {"name": "look", "parameters": {"type": "object", "properties": {}}, "strict": True}
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert sent == {
        "model": "frozen",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
        ],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
        },
        "max_tokens": 50,
        "reasoning_effort": "low",
    }
