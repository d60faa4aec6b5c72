"""The scripted model: what examples and tests are replayed with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metaharness.errors import ModelFailure, UsageError
from metaharness.gateway.providers import open_provider, parse_model
from metaharness.gateway.providers.scripted import Rule, ScriptedProvider
from metaharness.messages import Completion, Message, ModelRequest, ToolCall, Usage


def ask(text: str) -> ModelRequest:
    return ModelRequest(messages=[Message(role="user", content=text)])


async def answers(provider: ScriptedProvider, *texts: str) -> list[str]:
    return [(await provider.complete(ask(text), deadline=5)).text for text in texts]


async def test_the_first_rule_that_matches_answers() -> None:
    provider = ScriptedProvider([{"contains": "France", "text": "Paris"}, Rule(text="?")])
    assert await answers(provider, "capital of France", "capital of Spain") == ["Paris", "?"]


async def test_a_rule_that_is_used_up_is_passed_over() -> None:
    provider = ScriptedProvider([{"contains": "a", "text": "1", "times": 2}, {"text": "2"}])
    assert await answers(provider, "b", "a", "a", "a") == ["2", "1", "1", "2"]


async def test_a_request_without_a_rule_is_refused() -> None:
    with pytest.raises(ModelFailure, match="no rule of the script matches") as caught:
        await ScriptedProvider([{"contains": "x", "text": ""}]).complete(ask("y"), deadline=5)
    assert caught.value.kind == "refused"


async def test_a_script_is_read_from_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "script.jsonl"
    lines = [
        "# a comment",
        '{"contains": "tool", "tool_calls": [{"name": "look", "input": {"q": 1}}, {"id": "x", "name": "go"}]}',
        "",
        '{"text": "line\u2028separator", "stop_reason": "max_tokens", "usage": {"input_tokens": 9}}',
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    provider = open_provider(parse_model(f"scripted:{path}"))
    tool = await provider.complete(ask("use the tool"), deadline=5)
    assert tool.stop_reason == "tool_use"
    assert tool.tool_calls == [
        ToolCall(id="call_0", name="look", input={"q": 1}),
        ToolCall(id="x", name="go", input={}),
    ]
    other = await provider.complete(ask("else"), deadline=5)
    assert (other.text, other.stop_reason, other.usage) == (
        "line\u2028separator",
        "max_tokens",
        Usage(input_tokens=9),
    )
    await provider.aclose()


async def test_usage_is_counted_from_characters_unless_told() -> None:
    completion = await ScriptedProvider([{"text": "12345"}]).complete(ask("123456789"), deadline=5)
    assert completion.usage == Usage(input_tokens=3, output_tokens=2)


@pytest.mark.parametrize("kind", ["refused", "infrastructure", "configuration"])
async def test_a_rule_may_fail(kind: str) -> None:
    provider = ScriptedProvider([{"error": {"kind": kind, "message": "boo", "status_code": 418}}])
    with pytest.raises(ModelFailure, match="boo") as caught:
        await provider.complete(ask("x"), deadline=5)
    assert (caught.value.kind, caught.value.status_code) == (kind, 418)


async def test_a_delay_ends_at_the_deadline() -> None:
    provider = ScriptedProvider([{"contains": "slow", "delay_ms": 60_000}, {"text": "ok", "delay_ms": 1}])
    with pytest.raises(ModelFailure) as caught:
        await provider.complete(ask("slow"), deadline=0.01)
    assert caught.value.kind == "infrastructure"
    assert await answers(provider, "fast") == ["ok"]


async def test_a_function_may_answer() -> None:
    def echo(request: ModelRequest) -> Completion:
        return Completion(text=str(request.messages[0].content).upper())

    assert await answers(ScriptedProvider(echo), "abc") == ["ABC"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: Invalid JSON"),
        ("[]", "line 2: "),
        ('{"texts": "x"}', "line 2: texts: "),
        ('{"times": 0}', "line 2: times: "),
        ('{"error": {"kind": "odd"}}', "line 2: error.kind: "),
    ],
)
def test_a_malformed_line_is_told_with_file_and_number(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "script.jsonl"
    path.write_text('{"text": "ok"}\n' + line, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        ScriptedProvider.read(path)
    assert f"{path}, {says}" in caught.value.message
    assert "contains" in str(caught.value.hint)


def test_a_malformed_rule_from_python_is_told_with_its_number() -> None:
    rules: list[dict[str, Any]] = [{"text": "a"}, {"text": 3}]
    with pytest.raises(UsageError, match="rule 2: text: "):
        ScriptedProvider(rules)


def test_a_script_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        open_provider(parse_model(f"scripted:{tmp_path}/none.jsonl"))
