"""What a client is told when there is no answer, and what becomes of the case whatever the harness makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clients_kit import write_shop

ONE = [("apple", "pear")]
KINDS: dict[str, tuple[int, tuple[str, str], str]] = {
    "refused": (400, ("BadRequestError", "BadRequestError"), "ok"),
    "infrastructure": (503, ("InternalServerError", "ServiceUnavailableError"), "infrastructure"),
    "budget": (429, ("RateLimitError", "RateLimitError"), "budget"),
}
"""The status, the exceptions of the two clients, and the status of a case that goes on all the same."""
CATCHING = """
import anthropic
import openai


def caught(error):
    return [error.status_code, type(error).__name__, error.message]


class Harness:
    def predict(self, text, model):
        messages = [{'role': 'user', 'content': text}]
        found = []
        try:
            openai.OpenAI(max_retries=5).chat.completions.create(model='any', messages=messages)
        except openai.APIStatusError as error:
            found.append(caught(error))
        try:
            anthropic.Anthropic(max_retries=5).messages.create(model='any', max_tokens=9, messages=messages)
        except anthropic.APIStatusError as error:
            found.append(caught(error))
        return found
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_call_is_an_exception_of_the_client_at_once_and_missing_data_stays_missing(
    tmp_path: Path, kind: str
) -> None:
    """The clients do not retry: that is the gateway's. A harness that catches the failure does not hide it."""
    status, names, of_the_case = KINDS[kind]
    failing = [{"error": {"kind": kind, "message": "as the script says"}}]
    shop = write_shop(tmp_path / "shop", pairs=ONE, rules=failing)
    traces = shop.evaluate(CATCHING, "--sandbox", "process", "--no-ladder")[1]
    trace = traces["apple-pear"]
    assert trace["status"] == of_the_case
    assert [call["error"]["kind"] for call in trace["calls"]] == [kind, kind]
    if trace["output"] is not None:
        assert [found[:2] for found in trace["output"]] == [[status, name] for name in names]
        assert all("as the script says" in found[2] for found in trace["output"])


@pytest.mark.parametrize(
    "call",
    [
        "import openai\nopenai.OpenAI().responses.create(model='any', input=text)",
        "import anthropic\nmessages = [{'role': 'user', 'content': text}]\n"
        "anthropic.Anthropic().messages.create(model='any', max_tokens=9, messages=messages)",
    ],
)
def test_a_refused_request_that_is_not_caught_makes_the_case_refused(tmp_path: Path, call: str) -> None:
    """As it does with `model.complete`."""
    shop = write_shop(tmp_path / "shop", pairs=ONE, rules=[{"error": {"kind": "refused", "message": "too long"}}])
    trace = shop.evaluate(predicting(call), "--sandbox", "process", "--no-ladder")[1]["apple-pear"]
    assert trace["status"] == "refused", trace["error"]
    assert "too long" in trace["error"]


def test_a_case_that_has_made_all_its_calls_is_told_so_as_a_rate_limit(tmp_path: Path) -> None:
    body = """
import openai
client = openai.OpenAI()
try:
    while True:
        client.chat.completions.create(model='any', messages=[{'role': 'user', 'content': text}])
except openai.RateLimitError as error:
    return error.message
"""
    shop = write_shop(tmp_path / "shop", pairs=ONE, rules=[{"text": "yes"}])
    trace = shop.evaluate(predicting(body), "--sandbox", "process", "--no-ladder")[1]["apple-pear"]
    assert "this case has made 20 calls" in trace["output"]


UNSUPPORTED: dict[str, tuple[str, str, str]] = {
    "another endpoint of openai": (
        "openai.OpenAI().embeddings.create(model='any', input='x')",
        "NotFoundError",
        "POST /v1/embeddings is not supported in here. Supported: POST to .../chat/completions",
    ),
    "another endpoint of anthropic": (
        "anthropic.Anthropic().messages.count_tokens(model='any', messages=messages)",
        "NotFoundError",
        "model.complete(messages, tools=...)",
    ),
    "another method": ("openai.OpenAI().models.list()", "NotFoundError", "GET /v1/models is not supported in here"),
    "no client of a model": (
        "httpx2.get('https://example.com/page')",
        "ConnectError",
        "GET https://example.com/page: there is no network in here",
    ),
    "probabilities": (
        "openai.OpenAI().chat.completions.create(model='any', messages=messages, logprobs=True)",
        "BadRequestError",
        "the parameter 'logprobs' is not supported: the door gives texts",
    ),
    "sound": (
        "openai.OpenAI().chat.completions.create(model='any', messages=[{'role': 'user', 'content': ["
        "{'type': 'input_audio', 'input_audio': {'data': '', 'format': 'wav'}}]}])",
        "BadRequestError",
        "a content part of type 'input_audio' is not supported; valid: text, image_url",
    ),
    "what a server keeps": (
        "openai.OpenAI().responses.create(model='any', input='x', previous_response_id='resp_1')",
        "BadRequestError",
        "the parameter 'previous_response_id' is not supported: nothing is kept, so send the whole input",
    ),
    "a tool of the provider's": (
        "anthropic.Anthropic().messages.create(model='any', max_tokens=9, messages=messages, "
        "tools=[{'type': 'web_search_20250305', 'name': 'web_search'}])",
        "BadRequestError",
        "a tool of type 'web_search_20250305' is not supported; define name and input_schema",
    ),
    "no message": (
        "openai.OpenAI().post('/chat/completions', body={'messages': [{}]}, cast_to=object)",
        "BadRequestError",
        "this request cannot be passed on: KeyError: 'role'",
    ),
}


@pytest.mark.slow
def test_what_is_not_supported_fails_at_once_and_says_what_is(tmp_path: Path) -> None:
    """Nothing of it reaches the model, and no client tries again."""
    lines = ["import anthropic", "import httpx2", "import openai", "found = {}"]
    lines.append("messages = [{'role': 'user', 'content': text}]")
    for name, (call, _, _) in UNSUPPORTED.items():
        lines += ["try:", f"    {call}", "except Exception as error:"]
        lines.append(f"    found[{name!r}] = [type(error).__name__, str(error)]")
    lines.append("return found")
    shop = write_shop(tmp_path / "shop", pairs=ONE, rules=[{"text": "yes"}])
    trace = shop.evaluate(predicting("\n".join(lines)), "--sandbox", "process", "--no-ladder")[1]["apple-pear"]
    found: dict[str, Any] = trace["output"]
    assert found.keys() == UNSUPPORTED.keys(), trace["error"]
    for name, (_, kind, said) in UNSUPPORTED.items():
        assert found[name][0] == kind, found[name]
        assert said in found[name][1]
    assert trace["calls"] == []


def test_two_choices_are_two_calls_with_two_answers(tmp_path: Path) -> None:
    body = """
import openai
completion = openai.OpenAI().chat.completions.create(model='any', messages=[{'role': 'user', 'content': text}], n=2)
return [sorted(choice.message.content for choice in completion.choices), completion.usage.completion_tokens]
"""
    rules: list[dict[str, Any]] = [{"text": "heads", "times": 1}, {"text": "tails"}]
    shop = write_shop(tmp_path / "shop", pairs=ONE, rules=rules)
    trace = shop.evaluate(predicting(body), "--sandbox", "process", "--no-ladder")[1]["apple-pear"]
    assert trace["output"] == [["heads", "tails"], 4], trace["error"]
    assert [call["ordinal"] for call in trace["calls"]] == [0, 1]


def test_nothing_of_an_http_library_is_loaded_for_a_harness_that_imports_none(tmp_path: Path) -> None:
    """The finder that waits for one costs nothing else; the libraries themselves stay what they are."""
    body = """
import sys
before = sorted(set(sys.modules) & {'httpx2', 'openai', 'concurrent.futures', 'asyncio', 'ssl'})
import httpx2
answer = httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200, text='here'))).get('http://x')
return [before, answer.text, httpx2.__spec__.loader.__class__.__name__, httpx2.HTTPTransport.__name__]
"""
    shop = write_shop(tmp_path / "shop", pairs=ONE, rules=[{"text": "yes"}])
    trace = shop.evaluate(predicting(body), "--sandbox", "process", "--no-ladder")[1]["apple-pear"]
    assert trace["output"] == [[], "here", "SourceFileLoader", "HTTPTransport"], trace["error"]


def predicting(body: str) -> str:
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    return f"class Harness:\n    def predict(self, text, model):\n{lines}"
