"""A domain of shopping questions, and small tool-calling apps as people write them for each SDK.

An app asks for the prices of two fruits, in parallel, and then for their sum. Whatever SDK it is written for, the same
three answers of the model lead to the same conversation; the script below has them for each question.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from run_kit import Said, say

from metaharness.sandbox.landlock import landlock_abi

SANDBOXES = (
    pytest.param(
        "bubblewrap", marks=pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
    ),
    pytest.param("landlock", marks=pytest.mark.skipif(landlock_abi() < 1, reason="this kernel has no Landlock")),
    "process",
)
PRICES = {"apple": 3, "pear": 4, "plum": 5, "melon": 9}
PAIRS = [(one, other) for place, one in enumerate(PRICES) for other in list(PRICES)[place + 1 :]]

DOMAIN = '''
"""What two fruits cost together."""
import json
import sys
from pathlib import Path

from metaharness.domain import Case, Domain, Limits, Objective


class Exact:
    def grade(self, context):
        return context.output == context.case.expected


class Shop(Domain):
    name = "shop"
    objectives = (Objective("accuracy", range=(0, 1)),)
    evaluator = Exact()
    python = sys.executable
    limits = Limits(calls_per_case=20)

    def cases(self, split):
        if split.value == "search":
            for row in json.loads((self.root / "cases.json").read_text()):
                yield Case(**row)


domain = Shop
'''

SYSTEM = "You are the assistant of a greengrocer. Use your tools; answer with the number alone."
TOOLS = f"""
PRICES = {PRICES}
SYSTEM = {SYSTEM!r}
"""
TOOLS += """\
PRICE = {'type': 'object', 'properties': {'fruit': {'type': 'string'}}, 'required': ['fruit']}
SUM = {'type': 'object', 'properties': {'expression': {'type': 'string'}}, 'required': ['expression']}


def look_up(fruit):
    return f'{fruit} costs {PRICES[fruit]}'


def calculate(expression):
    return f'{expression} = {sum(map(int, expression.split("+")))}'


FUNCTIONS = {'look_up': look_up, 'calculate': calculate}
"""

OPENAI_TOOLS = """
TOOLS = [
    {'type': 'function', 'function': {'name': 'look_up', 'description': 'The price of a fruit', 'parameters': PRICE}},
    {'type': 'function', 'function': {'name': 'calculate', 'description': 'Adds numbers', 'parameters': SUM}},
]
"""

OPENAI = f"""
import json

from openai import OpenAI
{TOOLS}{OPENAI_TOOLS}
client = OpenAI()


class Harness:
    def predict(self, text, model):
        messages = [{{'role': 'system', 'content': SYSTEM}}, {{'role': 'user', 'content': text}}]
        while True:
            completion = client.chat.completions.create(
                model='gpt-4o-mini', messages=messages, tools=TOOLS, tool_choice='auto', temperature=0
            )
            message = completion.choices[0].message
            messages.append(message)
            if not message.tool_calls:
                return message.content
            for call in message.tool_calls:
                result = FUNCTIONS[call.function.name](**json.loads(call.function.arguments))
                messages.append({{'role': 'tool', 'tool_call_id': call.id, 'content': result}})
"""

OPENAI_ASYNC = f"""
import asyncio
import json

from openai import AsyncOpenAI
{TOOLS}{OPENAI_TOOLS}

class Harness:
    async def predict(self, text, model):
        messages = [{{'role': 'system', 'content': SYSTEM}}, {{'role': 'user', 'content': text}}]
        async with AsyncOpenAI(base_url='http://localhost:11434/v1', max_retries=5) as client:
            while True:
                async with client.chat.completions.stream(
                    model='llama', messages=messages, tools=TOOLS, tool_choice='auto', temperature=0
                ) as stream:
                    completion = await stream.get_final_completion()
                message = completion.choices[0].message
                if not message.tool_calls:
                    return message.content
                calls = [call.model_dump(include={{'id', 'type', 'function'}}) for call in message.tool_calls]
                for call in calls:
                    call['function'].pop('parsed_arguments', None)
                messages.append({{'role': 'assistant', 'content': message.content, 'tool_calls': calls}})
                results = await asyncio.gather(*(self.use(call) for call in message.tool_calls))
                for call, result in zip(message.tool_calls, results):
                    messages.append({{'role': 'tool', 'tool_call_id': call.id, 'content': result}})

    async def use(self, call):
        return await asyncio.to_thread(FUNCTIONS[call.function.name], **json.loads(call.function.arguments))
"""

OPENAI_STREAM = f"""
import json

import openai
{TOOLS}{OPENAI_TOOLS}
client = openai.OpenAI(api_key='sk-some-key', timeout=20)


class Harness:
    def predict(self, text, model):
        messages = [{{'role': 'system', 'content': SYSTEM}}, {{'role': 'user', 'content': text}}]
        while True:
            words, calls = [], {{}}
            for chunk in client.chat.completions.create(
                model='gpt-4o', messages=messages, tools=TOOLS, tool_choice='auto', temperature=0, stream=True
            ):
                delta = chunk.choices[0].delta
                words.append(delta.content or '')
                for part in delta.tool_calls or []:
                    call = calls.setdefault(part.index, {{'id': part.id, 'name': '', 'arguments': ''}})
                    call['name'] += part.function.name or ''
                    call['arguments'] += part.function.arguments or ''
            if not calls:
                return ''.join(words)
            asked = [
                {{'id': c['id'], 'type': 'function', 'function': {{'name': c['name'], 'arguments': c['arguments']}}}}
                for c in calls.values()
            ]
            messages.append({{'role': 'assistant', 'content': ''.join(words) or None, 'tool_calls': asked}})
            for call in calls.values():
                result = FUNCTIONS[call['name']](**json.loads(call['arguments']))
                messages.append({{'role': 'tool', 'tool_call_id': call['id'], 'content': result}})
"""

RESPONSES = f"""
import json

from openai import OpenAI
{TOOLS}
TOOLS = [
    {{'type': 'function', 'name': 'look_up', 'description': 'The price of a fruit', 'parameters': PRICE}},
    {{'type': 'function', 'name': 'calculate', 'description': 'Adds numbers', 'parameters': SUM}},
]
client = OpenAI()


class Harness:
    def predict(self, text, model):
        items = [{{'role': 'user', 'content': text}}]
        while True:
            response = client.responses.create(
                model='gpt-5', instructions=SYSTEM, input=items, tools=TOOLS, tool_choice='auto', temperature=0
            )
            items += response.output
            calls = [item for item in response.output if item.type == 'function_call']
            if not calls:
                return response.output_text
            for call in calls:
                result = FUNCTIONS[call.name](**json.loads(call.arguments))
                items.append({{'type': 'function_call_output', 'call_id': call.call_id, 'output': result}})
"""

RESPONSES_STREAM = f"""
import asyncio
import json

from openai import AsyncOpenAI
{TOOLS}
TOOLS = [
    {{'type': 'function', 'name': 'look_up', 'description': 'The price of a fruit', 'parameters': PRICE}},
    {{'type': 'function', 'name': 'calculate', 'description': 'Adds numbers', 'parameters': SUM}},
]


class Harness:
    async def predict(self, text, model):
        client = AsyncOpenAI()
        items = [{{'role': 'user', 'content': text}}]
        while True:
            async with client.responses.stream(
                model='gpt-5', instructions=SYSTEM, input=items, tools=TOOLS, tool_choice='auto', temperature=0
            ) as stream:
                words = [event.delta async for event in stream if event.type == 'response.output_text.delta']
                response = await stream.get_final_response()
            calls = [item for item in response.output if item.type == 'function_call']
            if not calls:
                return ''.join(words)
            if words:
                items.append({{'role': 'assistant', 'content': [{{'type': 'output_text', 'text': ''.join(words)}}]}})
            for call in calls:
                kept = call.model_dump(include={{'type', 'call_id', 'name', 'arguments'}})
                items.append(kept)
            for call in calls:
                result = FUNCTIONS[call.name](**json.loads(call.arguments))
                items.append({{'type': 'function_call_output', 'call_id': call.call_id, 'output': result}})
"""

ANTHROPIC_TOOLS = """
TOOLS = [
    {'name': 'look_up', 'description': 'The price of a fruit', 'input_schema': PRICE},
    {'name': 'calculate', 'description': 'Adds numbers', 'input_schema': SUM},
]
"""

ANTHROPIC = f"""
import anthropic
{TOOLS}{ANTHROPIC_TOOLS}
client = anthropic.Anthropic()


class Harness:
    def predict(self, text, model):
        messages = [{{'role': 'user', 'content': text}}]
        while True:
            message = client.messages.create(
                model='claude-sonnet-4-5', max_tokens=200, system=SYSTEM, messages=messages, tools=TOOLS,
            )
            messages.append({{'role': 'assistant', 'content': message.content}})
            if message.stop_reason != 'tool_use':
                return ''.join(block.text for block in message.content if block.type == 'text')
            results = [
                {{'type': 'tool_result', 'tool_use_id': block.id, 'content': FUNCTIONS[block.name](**block.input)}}
                for block in message.content if block.type == 'tool_use'
            ]
            messages.append({{'role': 'user', 'content': results}})
"""

ANTHROPIC_ASYNC = f"""
from anthropic import AsyncAnthropic
{TOOLS}{ANTHROPIC_TOOLS}

class Harness:
    def __init__(self):
        self.client = AsyncAnthropic()

    async def predict(self, text, model):
        messages = [{{'role': 'user', 'content': [{{'type': 'text', 'text': text}}]}}]
        while True:
            async with self.client.messages.stream(
                model='claude-haiku-4-5', max_tokens=200, system=SYSTEM, messages=messages, tools=TOOLS
            ) as stream:
                words = [word async for word in stream.text_stream]
                message = await stream.get_final_message()
            messages.append({{'role': 'assistant', 'content': message.content}})
            if message.stop_reason != 'tool_use':
                return ''.join(words)
            messages.append({{'role': 'user', 'content': [
                {{
                    'type': 'tool_result',
                    'tool_use_id': block.id,
                    'content': [{{'type': 'text', 'text': FUNCTIONS[block.name](**block.input)}}],
                }}
                for block in message.content if block.type == 'tool_use'
            ]}})
"""

APPS: Mapping[str, str] = {
    "openai": OPENAI,
    "openai async": OPENAI_ASYNC,
    "openai stream": OPENAI_STREAM,
    "responses": RESPONSES,
    "responses stream": RESPONSES_STREAM,
    "anthropic": ANTHROPIC,
    "anthropic async": ANTHROPIC_ASYNC,
}


def question(one: str, other: str) -> str:
    return f"What do one {one} and one {other} cost together?"


def steps(one: str, other: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What the model answers, turn by turn."""
    a, b = PRICES[one], PRICES[other]
    looks = [{"id": f"look_{fruit}", "name": "look_up", "input": {"fruit": fruit}} for fruit in (one, other)]
    adds = [{"id": f"add_{a}_{b}", "name": "calculate", "input": {"expression": f"{a}+{b}"}}]
    return (
        {"contains": question(one, other), "text": "Let me look.", "tool_calls": looks},
        {"contains": f"{one} costs {a}\n{other} costs {b}", "tool_calls": adds},
        {"contains": f"{a}+{b} = {a + b}", "text": str(a + b)},
    )


@dataclass
class Shop:
    """The domain on disk, with a script for its model."""

    folder: Path

    def evaluate(self, source: str, *options: object, model: str | None = None) -> tuple[Said, dict[str, Any]]:
        """`metaharness evaluate` of a harness; what it said, and its traces by case."""
        harness, traces = self.folder / "app.py", self.folder / "traces.jsonl"
        harness.write_text(source)
        traces.unlink(missing_ok=True)
        target = model or f"scripted:{self.folder / 'model.jsonl'}"
        said = say("evaluate", harness, "-d", self.folder, "-m", target, "--trace-file", traces, "--json", *options)
        lines = [json.loads(line) for line in traces.read_text().splitlines()] if traces.exists() else []
        return said, {line["case_id"]: line for line in lines if line["case_id"] != "(learn)"}


def write_shop(
    folder: Path,
    *,
    pairs: Sequence[tuple[str, str]] = PAIRS,
    rules: Sequence[Mapping[str, Any]] | None = None,
    delay_ms: float = 0,
) -> Shop:
    """Write the domain, its cases and the script, which by default is that of the apps."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "domain.py").write_text(DOMAIN)
    rows = [
        {"id": f"{one}-{other}", "input": question(one, other), "expected": str(PRICES[one] + PRICES[other])}
        for one, other in pairs
    ]
    (folder / "cases.json").write_text(json.dumps(rows))
    script = [step for pair in pairs for step in steps(*pair)] if rules is None else rules
    lines = [json.dumps({**rule, "delay_ms": delay_ms}) + "\n" for rule in script]
    (folder / "model.jsonl").write_text("".join(lines))
    return Shop(folder)


def timeless(traces: Mapping[str, Any]) -> Any:
    """Traces without what differs from run to run."""
    text = json.dumps(traces, sort_keys=True)
    return json.loads(re.sub(r'"(duration_ms|latency_ms)": [\d.]+', r'"\1": 0', text))


def belong(trace: Mapping[str, Any]) -> bool:
    """Whether every call of a trace asks what its own case asks."""
    return all(trace["input"] in json.dumps(call["request"], ensure_ascii=False) for call in trace["calls"])
