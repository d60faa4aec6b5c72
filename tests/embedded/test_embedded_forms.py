"""In which form `embedded:icl` answers, and how it counts."""

from __future__ import annotations

from typing import Any

import pytest

from metaharness.errors import UsageError
from metaharness.gateway.providers.embedded import EmbeddedProvider, answer
from metaharness.messages import Completion, Message, ModelRequest

DEMONSTRATIONS = "Text: the red apple\nLabel: fruit\n\nText: the fast train\nLabel: vehicle"


def ask(prompt: str, **options: Any) -> Completion:
    return answer(ModelRequest(messages=[Message(role="user", content=prompt)], **options))


FORMS = {
    "plain": ("Answer with the label only.", "fruit"),
    "json template": ('Answer as JSON: {"label": "<label>"}', '{"label": "fruit"}'),
    "json template on its own line": ('Answer in this form:\n{"category": "..."}', '{"category": "fruit"}'),
    "json, another key": ('Reply with a JSON object {"topic": ...} and nothing else.', '{"topic": "fruit"}'),
    "json, key named": ('Return JSON with the key "kind".', '{"kind": "fruit"}'),
    "json, no key": ("Respond in JSON.", '{"label": "fruit"}'),
    "json, several keys": ('Answer like {"why": "...", "label": "..."}', '{"label": "fruit"}'),
    "json, several keys named": ('Respond as JSON with keys "why" and "category".', '{"category": "fruit"}'),
    "field": ('Answer in the form "Label: X".', "Label: fruit"),
    "field, placeholder": ("Answer in this format:\nCategory: <category>", "Category: fruit"),
    "field, in a sentence": ("Reply with Answer: <the label>", "Answer: fruit"),
    "tag": ("Put it between tags: <label>...</label>", "<label>fruit</label>"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_answer_has_the_form_asked_for(form: str) -> None:
    instruction, expected = FORMS[form]

    assert ask(f"{instruction}\n\n{DEMONSTRATIONS}\n\nText: an apple").text == expected


def test_instructions_in_the_system_prompt_count() -> None:
    reply = ask(f"{DEMONSTRATIONS}\n\nText: an apple", system='Answer as JSON: {"label": "<label>"}')

    assert reply.text == '{"label": "fruit"}'


def test_a_field_that_is_already_written_is_not_repeated() -> None:
    reply = ask(f"Answer in this format:\nLabel: <label>\n\n{DEMONSTRATIONS}\n\nText: an apple\nLabel:")

    assert reply.text == "fruit"


def test_the_word_json_in_a_text_asks_for_nothing() -> None:
    reply = ask(f"{DEMONSTRATIONS}\n\nText: an apple whose label should return a JSON error\nLabel:")

    assert reply.text == "fruit"


FORMATS: list[tuple[dict[str, Any], str]] = [
    ({"type": "json_object"}, '{"label": "fruit"}'),
    (
        {"type": "json_schema", "json_schema": {"schema": {"properties": {"topic": {"type": "string"}}}}},
        '{"topic": "fruit"}',
    ),
    (
        {"type": "json_schema", "schema": {"properties": {"why": {}, "label": {"enum": ["Vehicle", "Fruit"]}}}},
        '{"label": "Fruit"}',
    ),
    ({"type": "json_schema", "schema": []}, '{"label": "fruit"}'),
    ({"type": "text"}, "fruit"),
    ({}, "fruit"),
]


@pytest.mark.parametrize(("response_format", "expected"), FORMATS)
def test_response_format_is_followed(response_format: dict[str, Any], expected: str) -> None:
    assert ask(f"{DEMONSTRATIONS}\n\nText: an apple", response_format=response_format).text == expected


def test_max_tokens_cuts_the_answer() -> None:
    reply = ask(f"{DEMONSTRATIONS}\n\nText: an apple", max_tokens=1)

    assert (reply.text, reply.stop_reason, reply.usage.output_tokens) == ("frui", "max_tokens", 1)


def test_tokens_are_a_quarter_of_the_characters_rounded_up() -> None:
    reply = ask("Labels: a, b\n", system="four")

    assert reply.usage.input_tokens == 5  # 13 + 4 characters
    assert reply.usage.output_tokens == 1
    assert reply.model == "icl"
    assert reply.stop_reason == "end_turn"


async def test_the_provider_answers_like_the_function() -> None:
    request = ModelRequest(messages=[Message(role="user", content=f"{DEMONSTRATIONS}\n\nText: an apple")])
    provider = EmbeddedProvider("icl")

    assert await provider.complete(request, deadline=1.0) == answer(request)
    await provider.aclose()


def test_an_unknown_embedded_model_is_refused_with_the_valid_names() -> None:
    with pytest.raises(UsageError) as caught:
        EmbeddedProvider("gpt")

    assert "'gpt'" in caught.value.message
    assert caught.value.hint is not None
    assert "embedded:icl" in caught.value.hint
