"""The local server streams what it also answers whole: later tests build on it."""

from __future__ import annotations

import anthropic
import openai
import pytest
from wire_server import Received, Reply, serve

CALL = {"id": "call_1", "name": "look", "input": {"q": "x"}}
REPLY = Reply(text="Let me see.", tool_calls=[CALL])


async def test_the_anthropic_sdk_reads_the_stream() -> None:
    with serve([REPLY]) as server:
        async with anthropic.AsyncAnthropic(api_key="k", base_url=server.url) as client:
            messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hi"}]
            async with client.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
                message = await stream.get_final_message()
    text, tool = message.content
    assert text.type == "text"
    assert text.text == "Let me see."
    assert tool.type == "tool_use"
    assert (tool.name, tool.input) == ("look", {"q": "x"})
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens == 3


async def test_the_openai_sdk_reads_the_stream() -> None:
    with serve([REPLY]) as server:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1") as client:
            stream = await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "hi"}],
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
    first, last, usage = chunks
    assert first.choices[0].delta.content == "Let me see."
    assert first.choices[0].delta.tool_calls is not None
    assert last.choices[0].finish_reason == "tool_calls"
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 3


async def test_a_function_may_choose_the_reply_and_requests_are_recorded() -> None:
    def echo(request: Received) -> Reply:
        return Reply(text=request.last_text[::-1])

    with serve(echo) as server:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1") as client:
            answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "abc"}])
    assert answer.choices[0].message.content == "cba"
    assert [request.path for request in server.requests] == ["/v1/chat/completions"]
    assert server.in_flight_peak == 1


async def test_an_unknown_path_is_not_found() -> None:
    with serve([Reply(text="x")]) as server:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v2") as client:
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "abc"}])
