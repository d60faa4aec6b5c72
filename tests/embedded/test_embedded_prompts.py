"""What holds for every prompt: an answer, the same one each time, from the last 16,000 characters."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaharness.gateway.providers.embedded import answer
from metaharness.gateway.providers.embedded_reading import WINDOW
from metaharness.gateway.providers.embedded_vote import Evidence, choose
from metaharness.messages import Message, ModelRequest


def ask(prompt: str, system: str | None = None) -> str:
    return answer(ModelRequest(messages=[Message(role="user", content=prompt)], system=system)).text


# --- the window -----------------------------------------------------------------------------------------------------

EARLY = "Text: a green apple\nLabel: fruit\n\n"
LATE = "Text: a fast train\nLabel: vehicle\n\n"
QUESTION = "Text: an apple\nLabel:"


def filled(length: int) -> str:
    """Demonstrations of `vehicle` that take so many characters."""
    text = LATE * (length // len(LATE))
    return text + "\n" * (length - len(text))


def test_the_beginning_of_a_long_prompt_falls_out() -> None:
    room = WINDOW - len(EARLY) - len(QUESTION)

    assert ask(EARLY + filled(room) + QUESTION) == "fruit"
    assert ask(EARLY + filled(room + len(EARLY)) + QUESTION) == "vehicle"


def test_the_system_prompt_is_the_beginning() -> None:
    assert ask(LATE + QUESTION, system=EARLY) == "fruit"
    assert ask(filled(WINDOW) + QUESTION, system=EARLY) == "vehicle"


def test_a_torn_demonstration_is_left_out() -> None:
    kept = "apple\nLabel: fruit\n"
    room = WINDOW - len(kept) - len(QUESTION)
    row = "Text: a train\nLabel: vehicle\n"
    rows = (row * (room // len(row))).ljust(room, "\n")
    prompt = f"Text: an {kept}{rows}{QUESTION}"

    assert prompt[-WINDOW:].startswith(kept)
    assert ask(prompt) == "vehicle"


def test_usage_counts_what_was_sent_and_not_only_what_was_read() -> None:
    request = ModelRequest(messages=[Message(role="user", content="a" * 40_000)])

    assert answer(request).usage.input_tokens == 10_000


# --- ties -----------------------------------------------------------------------------------------------------------


def test_without_similarity_the_label_with_more_demonstrations_is_answered() -> None:
    prompt = "Text: one\nLabel: a\n\nText: two\nLabel: b\n\nText: three\nLabel: a\n\nText: four\nLabel:"

    assert ask(prompt) == "a"


def test_then_the_label_of_the_last_demonstration_is_answered() -> None:
    assert ask("Text: one\nLabel: a\n\nText: two\nLabel: b\n\nText: four\nLabel:") == "b"


def test_then_the_label_listed_first_is_answered() -> None:
    assert ask("Labels: b, a, c\n\nText: four\nLabel:") == "b"


def test_a_demonstration_for_another_label_is_no_evidence() -> None:
    evidence = [Evidence("an apple", "fruit"), Evidence("a train", "vehicle")]

    assert choose("an apple", evidence, ["vehicle", "animal"]) == "vehicle"
    assert choose("an apple", evidence, []) is None


# --- every prompt ---------------------------------------------------------------------------------------------------

WEIRD = {
    "empty": "",
    "blank": " \n\t\n ",
    "null": "\x00",
    "unicode": "\u0663 \U0001f600 \u200f\u05e9\u05dc\u05d5\u05dd e\u0301 \u2028 \x85",
    "brackets": "[" * 20_000,
    "bracket lines": "[\n" * 8_000,
    "open braces": '{"a":\n' * 3_000,
    "open tags": "<text>" * 3_000 + "</text>",
    "arrows": "->" * 8_000,
    "fields": "Label:\n" * 2_300,
    "spaces": "Labels:" + " " * 16_000 + "x",
    "huge": "Text: some words\nLabel: x\n\n" * 40_000,
    "one long word": "x" * 1_000_000,
    "number that JSON refuses": "[" + "1" * 10_000 + "]",
    "escaped surrogate": '{"text": "a", "label": "\\ud800"}\n{"text": "a"}',
}


@pytest.mark.parametrize("name", WEIRD)
def test_weird_prompts_have_an_answer(name: str) -> None:
    assert ask(WEIRD[name])


BLOCKS: list[list[dict[str, Any]]] = [
    [],
    [{}],
    [{"type": "image", "source": {"data": "aaaa"}}],
    [{"type": "text", "text": None}],
    [{"type": "text", "text": "Label: \ud800\nText: \udfff"}],
    [{"type": "tool_result", "content": "Labels: a, b"}],
    [
        {
            "type": "tool_result",
            "content": [{"type": "text", "text": "Labels: a, b"}, {"type": "image"}, "x", {"text": 1}],
        }
    ],
    [{"type": "tool_use", "id": "1", "name": "x", "input": {"text": 1}}],
]


@pytest.mark.parametrize("content", BLOCKS)
def test_messages_without_text_have_an_answer(content: list[dict[str, Any]]) -> None:
    for role in ("user", "assistant"):
        message = Message.model_validate({"role": role, "content": content})

        assert answer(ModelRequest(messages=[message])).text


def test_a_lone_surrogate_is_answered_as_a_replacement_character() -> None:
    content = [{"type": "text", "text": "Text: x\nLabel: \ud800\n\nText: x\nLabel:"}]

    assert answer(ModelRequest(messages=[Message(role="user", content=content)])).text == "\ufffd"


# fmt: off
FRAGMENTS = st.sampled_from((
    "Text: ", "Label: ", "Labels: ", "Answer:", "Q:", "A:", "one of: ", "a, b or c", "- ", "  - ", "1. ", " -> ",
    "\t", "\n", "\n\n", "{", "}", "[", "]", '"text": ', '"label": "x"', '{"text": "a", "label": "b"}', "<text>",
    "</text>", "<label>", "</label>", "<label>x</label>", "json", "Answer as ", '{"label": "..."}', "```", '"""',
    "apple", "train", "Categories:\n", "red: an apple\n", "Diagnosis: flu\n", ":", "\u2028", "\ud800", "*",
    "## red\n", "\r\n",
))
# fmt: on
PROSE = st.one_of(st.text(max_size=80), st.lists(FRAGMENTS, max_size=40).map("".join))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TEXT_BLOCKS = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": PROSE})
    | st.dictionaries(st.text(max_size=6), JSON, max_size=3),
    max_size=3,
)
MESSAGES = st.lists(
    st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=TEXT_BLOCKS),
    min_size=1,
    max_size=5,
)
SCHEMAS = st.none() | st.fixed_dictionaries(
    {"type": st.sampled_from(["json_object", "json_schema", "text"])},
    optional={"json_schema": JSON, "schema": st.dictionaries(st.sampled_from(["properties", "x"]), JSON), "x": JSON},
)


@settings(max_examples=400, deadline=None)
@given(messages=MESSAGES, response_format=SCHEMAS, max_tokens=st.none() | st.integers(1, 10))
def test_no_prompt_makes_it_raise_and_each_has_one_answer(
    messages: list[Message], response_format: dict[str, Any] | None, max_tokens: int | None
) -> None:
    request = ModelRequest(messages=messages, response_format=response_format, max_tokens=max_tokens)

    first = answer(request)

    assert first.text
    assert answer(request) == first
    first.model_dump_json()


def test_the_answer_does_not_depend_on_the_hash_seed() -> None:
    program = (
        "from metaharness.gateway.providers.embedded import answer\n"
        "from metaharness.messages import ModelRequest, Message\n"
        "rows = [(f'w{i} w{i * 7 % 11} w{i * 5 % 13}', f'label {i % 6}') for i in range(60)]\n"
        "shown = ''.join(f'Text: {t}\\nLabel: {l}\\n\\n' for t, l in rows)\n"
        "for i in range(30):\n"
        "    prompt = f'{shown}Text: w{i} w{i + 3}\\nLabel:'\n"
        "    print(answer(ModelRequest(messages=[Message(role='user', content=prompt)])).text)\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(outputs) == 1
