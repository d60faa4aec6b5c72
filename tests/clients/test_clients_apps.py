"""Tool-calling apps that were written for `openai` and `anthropic` run unmodified as harnesses, in every sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clients_kit import APPS, PAIRS, SANDBOXES, SYSTEM, belong, question, timeless, write_shop

README = Path(__file__).resolve().parents[2] / "README.md"
RIGHT = {f"{one}-{other}": "ok" for one, other in PAIRS}


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", SANDBOXES)
@pytest.mark.parametrize("app", ["openai", "anthropic async"])
def test_an_app_runs_unmodified_in_every_sandbox(tmp_path: Path, app: str, sandbox: str) -> None:
    said, traces = write_shop(tmp_path / "shop").evaluate(APPS[app], "--sandbox", sandbox)
    assert said.code == 0, said.err
    assert {case: trace["status"] for case, trace in traces.items()} == RIGHT
    assert all(trace["output"] == trace["expected"] for trace in traces.values())
    assert all(len(trace["calls"]) == 3 and belong(trace) for trace in traces.values())


@pytest.mark.slow
@pytest.mark.parametrize("app", APPS)
def test_whatever_the_client_the_model_is_asked_the_same(tmp_path: Path, app: str) -> None:
    """Sync or async, streamed or not: the same three turns of system prompt, question, tool calls and results."""
    shop = write_shop(tmp_path / "shop", pairs=[("apple", "pear")])
    said, traces = shop.evaluate(APPS[app], "--sandbox", "process", "--no-ladder")
    assert said.code == 0, said.err
    trace = traces["apple-pear"]
    assert (trace["status"], trace["output"]) == ("ok", "7")
    asked = ("user", [("text", question("apple", "pear"))])
    looks = [("tool_use", f"look_{fruit}", "look_up", {"fruit": fruit}) for fruit in ("apple", "pear")]
    looked = [("tool_result", "look_apple", "apple costs 3"), ("tool_result", "look_pear", "pear costs 4")]
    add = ("tool_use", "add_3_4", "calculate", {"expression": "3+4"})
    turns = [
        asked,
        ("assistant", [("text", "Let me look."), *looks]),
        ("user", looked),
        ("assistant", [add]),
        ("user", [("tool_result", "add_3_4", "3+4 = 7")]),
    ]
    assert [conversation(call["request"]) for call in trace["calls"]] == [turns[:1], turns[:3], turns]
    for call in trace["calls"]:
        assert [tool["name"] for tool in call["request"]["tools"]] == ["look_up", "calculate"]
        assert [tool["input_schema"]["required"] for tool in call["request"]["tools"]] == [["fruit"], ["expression"]]


@pytest.mark.slow
@pytest.mark.parametrize("app", ["openai", "anthropic async"])
def test_traces_are_equal_one_case_at_a_time_and_eight_at_a_time(tmp_path: Path, app: str) -> None:
    """So each call was attributed to the case whose code made it, however many cases a worker has open."""
    shop = write_shop(tmp_path / "shop", delay_ms=3)
    alone = shop.evaluate(APPS[app], "--sandbox", "process", "--no-ladder", "-c", 1)[1]
    together = shop.evaluate(APPS[app], "--sandbox", "process", "--no-ladder", "-c", 8)[1]
    assert timeless(together) == timeless(alone)
    assert {case: trace["status"] for case, trace in alone.items()} == RIGHT
    assert all(belong(trace) for trace in together.values())


IDS = """
import anthropic
import openai

client, other = openai.OpenAI(), anthropic.Anthropic()


class Harness:
    def predict(self, text, model):
        found = []
        for prompt in (text, 'Say it again: ' + text):
            messages = [{'role': 'user', 'content': prompt}]
            found.append(client.chat.completions.create(model='any', messages=messages))
            found.append(client.responses.create(model='any', input=prompt))
            found.append(other.messages.create(model='any', max_tokens=9, messages=messages))
        return [one.id for one in found]
"""


@pytest.mark.slow
def test_each_answer_has_an_id_of_its_own_that_is_the_same_in_every_run(tmp_path: Path) -> None:
    """Frameworks take two messages of one id for the same."""
    shop = write_shop(tmp_path / "shop", pairs=[("apple", "pear"), ("plum", "melon")], rules=[{"text": "yes"}])
    outputs = [shop.evaluate(IDS, "--sandbox", "process", "--no-ladder")[1] for _ in range(2)]
    assert timeless(outputs[0]) == timeless(outputs[1])
    ids = [one for trace in outputs[0].values() for one in trace["output"]]
    assert len(set(ids)) == 12
    assert [one.partition("_" if "_" in one else "-")[0] for one in ids[:3]] == ["chatcmpl", "resp", "msg"]


def test_the_harness_in_the_readme_runs(tmp_path: Path) -> None:
    path = "# my_app/harness.py\n"
    source = path + README.read_text(encoding="utf-8").partition(path)[2].partition("```")[0]
    shop = write_shop(tmp_path / "shop", pairs=[("apple", "pear")], rules=[{"text": "7"}])
    said, traces = shop.evaluate(source, "--sandbox", "process", "--no-ladder")
    assert said.code == 0, said.err
    assert traces["apple-pear"]["output"] == "7"


def conversation(request: dict[str, Any]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """The messages of a request as they compare; the system prompt, which may stand in two places, is checked."""
    messages = request["messages"]
    if "system" not in request:
        first, *messages = messages
        assert first == {"role": "system", "content": SYSTEM}
    else:
        assert request["system"] == SYSTEM
    return [(one["role"], blocks(one["content"])) for one in messages]


def blocks(content: Any) -> list[tuple[Any, ...]]:
    if isinstance(content, str):
        return [("text", content)]
    return [block(one) for one in content]


def block(one: dict[str, Any]) -> tuple[Any, ...]:
    match one["type"]:
        case "text":
            return ("text", one["text"])
        case "tool_use":
            return ("tool_use", one["id"], one["name"], one["input"])
        case kind:
            assert kind == "tool_result"
            return ("tool_result", one["tool_use_id"], "".join(text for _, text in blocks(one["content"])))
