"""Both remote providers, through the official SDKs, against a local server that speaks their wire formats."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from wire_server import Reply, WireServer, serve

from metaharness.errors import ConfigurationError, ModelFailure
from metaharness.gateway.providers import Provider, open_provider
from metaharness.gateway.providers.installing import install_command
from metaharness.gateway.providers.remote import CLOSED, install_hint, is_loopback, load_sdk, sdk_bounds
from metaharness.messages import Message, ModelRequest, ModelSpec, ToolCall, Usage

BOTH = pytest.mark.parametrize("kind", ["anthropic", "openai"])
SOON = {"retry-after-ms": "1"}
TOOL = {"name": "look", "description": "Look it up", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("ANTHROPIC", "OPENAI"):
        monkeypatch.setenv(f"{provider}_API_KEY", f"key-of-{provider.lower()}")
        monkeypatch.delenv(f"{provider}_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@asynccontextmanager
async def opened(kind: str, server: WireServer) -> AsyncIterator[Provider]:
    url = server.url if kind == "anthropic" else f"{server.url}/v1"
    provider = open_provider(ModelSpec(provider=kind, name="some-model", base_url=url))
    try:
        yield provider
    finally:
        await provider.aclose()


def ask(text: str = "hello", **fields: Any) -> ModelRequest:
    return ModelRequest(messages=[Message(role="user", content=text)], **fields)


def asked(*messages: tuple[str, Any], **fields: Any) -> ModelRequest:
    return ModelRequest.model_validate({"messages": [{"role": r, "content": c} for r, c in messages], **fields})


async def sent(kind: str, request: ModelRequest) -> dict[str, Any]:
    """The body that reaches the server for a request."""
    with serve([Reply(text="ok")]) as server:
        async with opened(kind, server) as provider:
            await provider.complete(request, deadline=30)
        return server.requests[0].body


async def failure(kind: str, reply: Reply, request: ModelRequest | None = None, deadline: float = 30) -> ModelFailure:
    with serve([reply]) as server:
        async with opened(kind, server) as provider:
            with pytest.raises(ModelFailure) as caught:
                await provider.complete(request or ask(), deadline=deadline)
    return caught.value


# --- answers ------------------------------------------------------------------------------------------------------


@BOTH
async def test_a_text_comes_back_with_its_usage_and_the_name_of_the_model(kind: str) -> None:
    with serve([Reply(text="Paris")]) as server:
        async with opened(kind, server) as provider:
            completion = await provider.complete(ask("The capital of France?"), deadline=30)
    assert (completion.text, completion.stop_reason, completion.model) == ("Paris", "end_turn", "some-model")
    assert completion.usage.input_tokens > 0
    assert completion.usage.output_tokens == 2
    assert server.requests[0].body["model"] == "some-model"


@BOTH
async def test_the_key_travels_as_a_bearer_token(kind: str) -> None:
    with serve([Reply(text="ok")]) as server:
        async with opened(kind, server) as provider:
            await provider.complete(ask(), deadline=30)
    assert server.requests[0].headers["authorization"] == f"Bearer key-of-{kind}"


@BOTH
async def test_tool_calls_come_back_with_their_input(kind: str) -> None:
    call = {"id": "call_7", "name": "look", "input": {"q": "Ä"}}
    with serve([Reply(text="I look.", tool_calls=[call])]) as server:
        async with opened(kind, server) as provider:
            completion = await provider.complete(ask(tools=[TOOL]), deadline=30)
    assert completion.text == "I look."
    assert completion.tool_calls == [ToolCall(id="call_7", name="look", input={"q": "Ä"})]
    assert completion.stop_reason == "tool_use"


async def test_arguments_that_are_not_json_stay_as_the_model_wrote_them() -> None:
    calls = [{"id": str(i), "name": "look", "input": raw} for i, raw in enumerate(['{"q": ', ""])]
    with serve([Reply(tool_calls=calls, stop_reason="stop")]) as server:
        async with opened("openai", server) as provider:
            completion = await provider.complete(ask(), deadline=30)
    assert [call.input for call in completion.tool_calls] == ['{"q": ', {}]
    assert completion.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("kind", "wire", "canonical"),
    [
        ("anthropic", "end_turn", "end_turn"),
        ("anthropic", "max_tokens", "max_tokens"),
        ("anthropic", "stop_sequence", "stop_sequence"),
        ("anthropic", "tool_use", "tool_use"),
        ("anthropic", "refusal", "refusal"),
        ("anthropic", "pause_turn", "end_turn"),
        ("anthropic", "model_context_window_exceeded", "max_tokens"),
        ("anthropic", "something new", "end_turn"),
        ("openai", "stop", "end_turn"),
        ("openai", "length", "max_tokens"),
        ("openai", "tool_calls", "tool_use"),
        ("openai", "function_call", "tool_use"),
        ("openai", "content_filter", "refusal"),
        ("openai", "something new", "end_turn"),
    ],
)
async def test_stop_reasons_are_translated(kind: str, wire: str, canonical: str) -> None:
    with serve([Reply(text="x", stop_reason=wire)]) as server:
        async with opened(kind, server) as provider:
            assert (await provider.complete(ask(), deadline=30)).stop_reason == canonical


@pytest.mark.parametrize(
    ("kind", "wire"),
    [
        (
            "anthropic",
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_input_tokens": 70,
                "cache_creation_input_tokens": 20,
            },
        ),
        (
            "openai",
            {
                "prompt_tokens": 100,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 70, "cache_write_tokens": 20},
            },
        ),
    ],
)
async def test_input_tokens_include_what_the_provider_cached(kind: str, wire: dict[str, Any]) -> None:
    with serve([Reply(text="x", usage=wire)]) as server:
        async with opened(kind, server) as provider:
            usage = (await provider.complete(ask(), deadline=30)).usage
    assert usage == Usage(input_tokens=100, output_tokens=5, cache_read_tokens=70, cache_write_tokens=20)


async def test_a_refusal_text_of_openai_is_a_refusal() -> None:
    message = {"role": "assistant", "content": None, "refusal": "I will not."}
    body = {"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
    with serve([Reply(body=body)]) as server:
        async with opened("openai", server) as provider:
            completion = await provider.complete(ask(), deadline=30)
    assert (completion.text, completion.stop_reason) == ("I will not.", "refusal")


async def test_an_answer_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "Par"}, {"type": "text", "text": "is"}]
    body = {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
    with serve([Reply(body=body)]) as server:
        async with opened("openai", server) as provider:
            assert (await provider.complete(ask(), deadline=30)).text == "Paris"


async def test_a_tool_result_may_stand_alone() -> None:
    body = await sent("openai", asked(("user", [{"type": "tool_result", "tool_use_id": "t", "content": "x"}])))
    assert body["messages"] == [{"role": "tool", "tool_call_id": "t", "content": "x"}]


async def test_thinking_of_anthropic_is_left_out() -> None:
    content = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "yes"}]
    body = {"model": "m", "content": content, "usage": {"input_tokens": 1, "output_tokens": 2}}
    with serve([Reply(body=body)]) as server:
        async with opened("anthropic", server) as provider:
            assert (await provider.complete(ask(), deadline=30)).text == "yes"


# --- requests -----------------------------------------------------------------------------------------------------

CONVERSATION: list[tuple[str, Any]] = [
    ("system", "Be brief."),
    ("user", "What is in the picture?"),
    (
        "assistant",
        [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "t1", "name": "look", "input": {"q": 1}}],
    ),
    (
        "user",
        [
            {
                "type": "tool_result",
                "tool_use_id": "t1",
                "content": [
                    {"type": "text", "text": "a cat"},
                    {"type": "image", "source": {"type": "url", "url": "https://example.org/cat.png"}},
                ],
            },
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            {"type": "text", "text": "And this?"},
        ],
    ),
]


async def test_anthropic_takes_the_conversation_as_it_is() -> None:
    body = await sent("anthropic", asked(*CONVERSATION, system="You see.", tools=[TOOL]))
    assert body == {
        "model": "some-model",
        "max_tokens": 4096,
        "system": "You see.\n\nBe brief.",
        "messages": [{"role": role, "content": content} for role, content in CONVERSATION[1:]],
        "tools": [TOOL],
    }


async def test_openai_takes_the_conversation_in_its_own_shape() -> None:
    body = await sent("openai", asked(*CONVERSATION, system="You see.", tools=[TOOL]))
    function = {"name": "look", "parameters": TOOL["input_schema"], "description": "Look it up"}
    assert body == {
        "model": "some-model",
        "messages": [
            {"role": "system", "content": "You see."},
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is in the picture?"},
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"q": 1}'}}],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "a cat"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                    {"type": "text", "text": "And this?"},
                ],
            },
        ],
        "tools": [{"type": "function", "function": function}],
    }


async def test_a_system_message_in_the_middle_keeps_its_place() -> None:
    request = asked(("user", "a"), ("system", "now French"), ("user", "b"))
    for kind in ("anthropic", "openai"):
        messages = (await sent(kind, request))["messages"]
        assert [(message["role"], message["content"]) for message in messages] == [
            ("user", "a"),
            ("system", "now French"),
            ("user", "b"),
        ]


async def test_system_blocks_stay_blocks_for_anthropic() -> None:
    marked = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    body = await sent("anthropic", asked(("system", [marked]), ("user", "hi"), system="short"))
    assert body["system"] == [{"type": "text", "text": "short"}, marked]


async def test_the_answers_length_goes_by_the_name_the_server_knows() -> None:
    from metaharness.gateway.providers.openai import request_parameters

    assert (await sent("anthropic", ask(max_tokens=7)))["max_tokens"] == 7
    assert (await sent("openai", ask(max_tokens=7)))["max_tokens"] == 7
    assert "max_tokens" not in await sent("openai", ask())
    official = request_parameters(ask(max_tokens=7), max_tokens="max_completion_tokens")
    assert official["max_completion_tokens"] == 7


async def test_a_temperature_is_sent_to_anthropic_under_the_api_version_that_takes_one() -> None:
    with serve([Reply(text="ok")]) as server:
        async with opened("anthropic", server) as provider:
            await provider.complete(ask(), deadline=30)
            await provider.complete(ask(temperature=0), deadline=30)
            await provider.complete(ask(extra={"top_k": 1}), deadline=30)
    plain, warm, top = server.requests
    assert plain.headers["anthropic-version"] != "2023-06-01"
    assert warm.headers["anthropic-version"] == top.headers["anthropic-version"] == "2023-06-01"
    assert "temperature" not in plain.body
    assert (warm.body["temperature"], top.body["top_k"]) == (0, 1)


async def test_a_temperature_is_sent_to_openai() -> None:
    assert (await sent("openai", ask(temperature=0.5)))["temperature"] == 0.5


@BOTH
async def test_extra_parameters_reach_the_body_whether_the_sdk_knows_them_or_not(kind: str) -> None:
    known = {"stop_sequences": ["X"]} if kind == "anthropic" else {"stop": ["X"]}
    body = await sent(kind, ask(extra={**known, "brand_new": {"a": [1]}}))
    assert {**known, "brand_new": {"a": [1]}}.items() <= body.items()


@BOTH
@pytest.mark.parametrize("name", sorted(CLOSED))
async def test_a_harness_cannot_choose_model_price_or_route(kind: str, name: str) -> None:
    with serve([Reply(text="ok")]) as server:
        async with opened(kind, server) as provider:
            with pytest.raises(ModelFailure, match=name) as caught:
                await provider.complete(ask(extra={name: "x"}), deadline=30)
    assert caught.value.kind == "refused"
    assert server.requests == []


@BOTH
@pytest.mark.parametrize(
    "request_",
    [
        ask(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
        ask(tools=[{"name": "look"}]),
        ask(extra={"x": float("nan")}),
        asked(("user", [{"type": "text", "text": "\ud800"}])),
        asked(("user", [{"type": "video"}])),
        asked(("user", [{"type": "image", "source": {"type": "file", "file_id": "f"}}])),
        asked(("user", [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "document"}]}])),
        ask(response_format={"type": "json_schema"}),
    ],
    ids=["server-tool", "no-schema", "nan", "surrogate", "block", "image-source", "inner-block", "format"],
)
async def test_a_request_that_cannot_be_sent_is_refused_before_it_is_sent(kind: str, request_: ModelRequest) -> None:
    with serve([Reply(text="ok")]) as server:
        async with opened(kind, server) as provider:
            with pytest.raises(ModelFailure) as caught:
                await provider.complete(request_, deadline=30)
    assert caught.value.kind == "refused"
    assert server.requests == []


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text"}],
        [{"type": "tool_use", "id": "t", "name": "n", "input": {}}],
        [{"type": "tool_result", "content": "x"}],
        [{"type": "image", "source": {"type": "base64", "data": "x"}}],
        [{"type": "image", "source": {"type": "url"}}],
    ],
)
async def test_a_malformed_block_is_refused_where_it_would_have_to_be_translated(content: Any) -> None:
    with serve([Reply(text="ok")]) as server:
        async with opened("openai", server) as provider:
            with pytest.raises(ModelFailure) as caught:
                await provider.complete(asked(("user", content)), deadline=30)
    assert caught.value.kind == "refused"


async def test_a_json_schema_is_understood_in_either_form() -> None:
    schema = {"type": "object", "properties": {}}
    flat = {"type": "json_schema", "schema": schema}
    nested = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    for given in (flat, nested):
        body = await sent("anthropic", ask(response_format=given, extra={"output_config": {"effort": "low"}}))
        assert body["output_config"] == {"effort": "low", "format": flat}
    assert (await sent("openai", ask(response_format=nested)))["response_format"] == nested
    assert (await sent("openai", ask(response_format=flat)))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema},
    }
    assert "output_config" not in await sent("anthropic", ask(response_format={"type": "text"}))


async def test_a_response_format_that_anthropic_has_not_is_refused() -> None:
    caught = await failure("anthropic", Reply(text="ok"), ask(response_format={"type": "json_object"}))
    assert caught.kind == "refused"
    assert (await sent("openai", ask(response_format={"type": "json_object"})))["response_format"] == {
        "type": "json_object"
    }


# --- failures -----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_request_at_fault_is_refused_and_not_repeated(kind: str, status: int) -> None:
    with serve([Reply(status=status, message="too long")]) as server:
        async with opened(kind, server) as provider:
            with pytest.raises(ModelFailure, match="too long") as caught:
                await provider.complete(ask(), deadline=30)
    assert (caught.value.kind, caught.value.status_code, len(server.requests)) == ("refused", status, 1)


@BOTH
async def test_a_model_that_is_not_there_is_a_matter_of_configuration(kind: str) -> None:
    """Else every case would be scored as if the harness had failed."""
    caught = await failure(kind, Reply(status=404))
    assert (caught.kind, caught.status_code) == ("configuration", 404)
    assert "check the model's name and the base URL" in str(caught.hint)


@BOTH
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_a_matter_of_configuration(kind: str, status: int) -> None:
    caught = await failure(kind, Reply(status=status))
    assert (caught.kind, caught.status_code) == ("configuration", status)
    assert f"{kind.upper()}_API_KEY" in str(caught.hint)


@BOTH
@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
async def test_a_server_that_cannot_answer_now_is_asked_three_times(kind: str, status: int) -> None:
    with serve([Reply(status=status, headers=SOON)]) as server:
        async with opened(kind, server) as provider:
            with pytest.raises(ModelFailure) as caught:
                await provider.complete(ask(), deadline=30)
    assert (caught.value.kind, caught.value.status_code, len(server.requests)) == ("infrastructure", status, 3)


@BOTH
@pytest.mark.parametrize("first", [Reply(status=429, headers=SOON), Reply(fault="drop"), Reply(text="x", fault="cut")])
async def test_a_passing_failure_is_not_noticed(kind: str, first: Reply) -> None:
    with serve([first, Reply(text="ok")]) as server:
        async with opened(kind, server) as provider:
            assert (await provider.complete(ask(), deadline=30)).text == "ok"
    assert len(server.requests) == 2


@BOTH
@pytest.mark.parametrize(
    "reply",
    [Reply(text="hello", fault="garble"), Reply(body={}), Reply(body={"content": 1, "choices": [], "usage": {}})],
    ids=["half", "empty", "shape"],
)
async def test_an_answer_that_cannot_be_read_is_nobodys_fault(kind: str, reply: Reply) -> None:
    assert (await failure(kind, reply)).kind == "infrastructure"


@pytest.mark.parametrize(
    ("code", "expected"),
    [(429, "infrastructure"), (400, "refused"), ("odd", "infrastructure"), (None, "infrastructure")],
)
async def test_an_error_inside_an_answer_is_judged_by_its_code(code: Any, expected: str) -> None:
    for body in ({"error": {"code": code}}, {"choices": [{"error": {"code": code}, "finish_reason": "error"}]}):
        assert (await failure("openai", Reply(body=body))).kind == expected


@BOTH
@pytest.mark.parametrize(
    "reply",
    [Reply(text="late", delay=30), Reply(text="slow", slow=30), Reply(status=500, headers={"retry-after": "30"})],
    ids=["delay", "slow body", "long wait between retries"],
)
async def test_the_deadline_holds_over_everything(kind: str, reply: Reply) -> None:
    assert (await failure(kind, reply, deadline=0.1)).kind == "infrastructure"


@BOTH
async def test_a_server_that_is_not_there_is_nobodys_fault(kind: str) -> None:
    provider = open_provider(ModelSpec(provider=kind, name="m", base_url="http://127.0.0.1:1/v1"))
    with pytest.raises(ModelFailure) as caught:
        await provider.complete(ask(), deadline=0.1)
    await provider.aclose()
    assert caught.value.kind == "infrastructure"


@BOTH
async def test_a_connection_that_never_lasts_is_told_with_its_cause(kind: str) -> None:
    caught = await failure(kind, Reply(fault="drop"))
    assert (caught.kind, caught.status_code) == ("infrastructure", None)
    assert "disconnected" in caught.message


# --- configuration ------------------------------------------------------------------------------------------------


@BOTH
async def test_the_address_may_come_from_the_environment(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve([Reply(text="ok")]) as server:
        path = "" if kind == "anthropic" else "/v1"
        monkeypatch.setenv(f"{kind.upper()}_BASE_URL", f"{server.url}{path}")
        provider = open_provider(ModelSpec(provider=kind, name="m"))
        assert (await provider.complete(ask(), deadline=30)).text == "ok"
        await provider.aclose()


@BOTH
@pytest.mark.parametrize("base_url", [None, "https://models.example.org/v1"])
def test_a_missing_key_is_named_before_any_call(
    kind: str, base_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"{kind.upper()}_API_KEY")
    with pytest.raises(ConfigurationError, match=f"{kind.upper()}_API_KEY"):
        open_provider(ModelSpec(provider=kind, name="m", base_url=base_url))


async def test_a_server_on_this_machine_needs_no_openai_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert (await sent("openai", ask()))["model"] == "some-model"


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:11434/v1", True),
        ("http://127.0.0.2/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://10.0.0.1/v1", False),
        ("https://localhost.example.org/v1", False),
        ("http://[::1", False),
        (None, False),
    ],
)
def test_loopback_is_told_from_the_address(url: str | None, local: bool) -> None:
    assert is_loopback(url) is local


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(ConfigurationError, match="'no_such_sdk' is not installed") as caught:
        load_sdk("no_such_sdk")
    assert caught.value.hint == install_hint("no_such_sdk")
    assert "no_such_sdk" in install_hint("no_such_sdk")


def test_a_package_that_lacks_one_of_its_own_is_not_said_to_be_missing_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_an_sdk.py").write_text("import no_such_part\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_part"):
        load_sdk("half_an_sdk")


def test_run_from_a_folder_that_is_not_installed_no_versions_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_installed(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", nothing_installed)
    assert sdk_bounds("openai") == ""
    assert install_hint("openai").endswith(" openai")


@pytest.mark.parametrize("package", ["anthropic", "openai"])
def test_a_package_is_asked_for_in_the_versions_that_the_project_states(package: str) -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    stated, _prices = project["project"]["optional-dependencies"][package]
    assert set(sdk_bounds(package).split(",")) == set(stated.removeprefix(package).split(","))
    assert "install metaharness" not in install_hint(package), "whoever owns that name on the index, it is not us"


def test_a_clone_is_told_to_sync_its_own_environment(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "metaharness"\n')
    told = install_command("openai<4,>=2", "openai", prefix=tmp_path / ".venv")
    assert told == f"uv sync --directory {tmp_path} --inexact --extra openai"


def test_a_uv_tool_is_told_to_install_its_folder_again_with_all_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "uv-receipt.toml").write_text(
        '[tool]\nrequirements = [{ name = "metaharness", extras = ["prices"], directory = "/a clone" }, '
        '{ name = "anthropic", specifier = ">=2" }, { name = "openai", specifier = ">=1" }]\n'
    )
    told = install_command("openai<4,>=2", "openai", prefix=tmp_path)
    assert told == "uv tool install '/a clone[prices]' --with 'anthropic>=2' --with 'openai<4,>=2'"


@pytest.mark.parametrize("receipt", ["", "not toml", '[tool]\nrequirements = [{ name = "metaharness" }]\n'])
def test_any_other_python_is_named_in_the_command(receipt: str, tmp_path: Path) -> None:
    (tmp_path / "uv-receipt.toml").write_text(receipt)
    told = install_command("openai<4,>=2", "openai", prefix=tmp_path, executable="/some where/python")
    assert "'/some where/python'" in told
    assert told.endswith(" 'openai<4,>=2'")
