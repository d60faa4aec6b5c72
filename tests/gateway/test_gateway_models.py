"""Naming a model, opening it, and what it costs."""

from __future__ import annotations

import pytest

from metaharness.errors import UsageError
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import open_provider, parse_model
from metaharness.gateway.text import count_chars, count_images, last_user_text
from metaharness.messages import Message, ModelRequest, ModelSpec, Usage


@pytest.mark.parametrize(
    ("text", "provider", "name"),
    [
        ("embedded:icl", "embedded", "icl"),
        ("scripted:scripts/a b.jsonl", "scripted", "scripts/a b.jsonl"),
        ("anthropic:claude-opus-5-5", "anthropic", "claude-opus-5-5"),
        ("openai:llama3:8b", "openai", "llama3:8b"),
    ],
)
def test_a_model_is_written_as_provider_and_name(text: str, provider: str, name: str) -> None:
    spec = parse_model(text)
    assert spec == ModelSpec(provider=provider, name=name)
    assert spec.id == text


def test_a_base_url_is_kept() -> None:
    spec = parse_model("openai:kimi-k2", "https://api.moonshot.example/v1")
    assert spec.base_url == "https://api.moonshot.example/v1"


@pytest.mark.parametrize(
    ("text", "base_url", "says"),
    [
        ("claude-opus-5-5", None, "anthropic:claude-opus-5-5"),
        ("", None, "anthropic:NAME"),
        ("llama3:8b", None, "openai:llama3:8b"),
        ("openai:", None, "openai:NAME"),
        ("embedded:bert", None, "embedded:icl"),
        ("embedded:icl", "http://localhost/v1", "leave the base URL out"),
        ("scripted:x.jsonl", "http://localhost/v1", "leave the base URL out"),
        ("openai:m", "localhost:8000", "http://127.0.0.1:11434/v1"),
        ("openai:m", "ftp://example.org", "http://127.0.0.1:11434/v1"),
    ],
)
def test_what_is_no_model_is_told_with_the_valid_forms(text: str, base_url: str | None, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_model(text, base_url)
    assert says in str(caught.value.hint)


def test_an_unknown_provider_is_told_with_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="no provider 'gemini'") as caught:
        open_provider(ModelSpec(provider="gemini", name="x"))
    assert "embedded:icl, scripted:PATH, anthropic:NAME or openai:NAME" in str(caught.value.hint)


async def test_the_embedded_model_opens_and_answers() -> None:
    provider = open_provider(parse_model("embedded:icl"))
    request = ModelRequest(messages=[Message(role="user", content="Text: good film\nLabel:")])
    assert (await provider.complete(request, deadline=5)).text
    await provider.aclose()


# --- prices -------------------------------------------------------------------------------------------------------

USAGE = Usage(input_tokens=2_000_000, output_tokens=100_000)


@pytest.mark.parametrize("model", ["embedded:icl", "scripted:x.jsonl"])
def test_models_inside_the_process_are_free(model: str) -> None:
    assert PriceTable().cost(parse_model(model), USAGE) == 0.0


def test_a_told_price_is_per_million_tokens() -> None:
    prices = PriceTable({"openai:gpt": (2.0, 10.0)})
    assert prices.cost(parse_model("openai:gpt"), USAGE) == pytest.approx(5.0)


def test_an_unknown_model_has_an_unknown_cost_and_never_anothers() -> None:
    prices = PriceTable({"openai:gpt": (2.0, 10.0)})
    assert prices.cost(parse_model("openai:gpt-mini"), USAGE) is None
    assert prices.cost(parse_model("anthropic:gpt"), USAGE) is None


@pytest.mark.parametrize("price", [(-1.0, 2.0), (1.0, float("inf")), (float("nan"), 1.0)])
def test_a_price_that_is_none_is_a_usage_error(price: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="openai:gpt"):
        PriceTable({"openai:gpt": price})


# --- the text of a request ----------------------------------------------------------------------------------------


def test_characters_are_those_of_all_messages() -> None:
    request = ModelRequest.model_validate(
        {
            "system": "12345",
            "messages": [
                {"role": "user", "content": "123"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "12"},
                        {"type": "tool_use", "id": "long-identity", "name": "n", "input": {"q": "ä"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t", "content": "1234"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "t",
                            "content": [{"type": "text", "text": "1"}, {"type": "image", "source": {"data": "1" * 99}}],
                        },
                        {"type": "image", "source": {"type": "base64", "data": "1" * 99}},
                        {"type": "text", "text": None},
                        {"type": "tool_result"},
                    ],
                },
            ],
            "tools": [{"name": "not counted"}],
        }
    )
    assert count_chars(request) == 5 + 3 + 2 + len('{"q":"ä"}') + 4 + 1
    assert count_images(request) == 2


def test_the_last_user_text_includes_tool_results() -> None:
    blocks = [{"type": "tool_result", "content": "found"}, {"type": "text", "text": "go on"}]
    request = ModelRequest.model_validate(
        {"messages": [{"role": "user", "content": "first"}, {"role": "user", "content": blocks}]}
    )
    assert last_user_text(request) == "found\ngo on"
    silent = ModelRequest(messages=[Message(role="assistant", content="x")])
    assert last_user_text(silent) == ""
