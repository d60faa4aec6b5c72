"""`metaharness.connect`: the door to a model outside a run, against a local server that speaks both wire formats."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from wire_server import Received, Reply, WireServer, serve

import metaharness
from metaharness.errors import ConfigurationError, UsageError
from metaharness.gateway.providers.embedded import answer
from metaharness.harness import Completion, Model, ModelError
from metaharness.messages import Message, ModelRequest
from metaharness.production import ConnectedModel

BOTH = pytest.mark.parametrize("kind", ["anthropic", "openai"])
SOON = {"retry-after-ms": "1"}
PATIENCE = 30
"""Seconds after which a test that waits for something fails instead."""


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("ANTHROPIC", "OPENAI"):
        monkeypatch.setenv(f"{provider}_API_KEY", f"key-of-{provider.lower()}")
        monkeypatch.delenv(f"{provider}_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def address(kind: str, server: WireServer) -> str:
    return server.url if kind == "anthropic" else f"{server.url}/v1"


@contextmanager
def connected(kind: str, server: WireServer, **options: Any) -> Iterator[ConnectedModel]:
    with metaharness.connect(f"{kind}:some-model", base_url=address(kind, server), **options) as model:
        yield model


def all_at_once(count: int) -> Callable[[Received], Reply]:
    """Answers nobody before so many are there, each with what it was asked."""
    barrier = threading.Barrier(count)

    def reply(request: Received) -> Reply:
        barrier.wait(PATIENCE)
        return Reply(text=f"to {request.last_text}")

    return reply


class Held:
    """A server's answer that waits until it is released, and tells that it was asked for."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.released = threading.Event()

    def reply(self, request: Received) -> Reply:
        self.asked.set()
        assert self.released.wait(PATIENCE)
        return Reply(text="late")


# --- answers ------------------------------------------------------------------------------------------------------


@BOTH
def test_a_call_goes_straight_to_the_provider_with_what_the_harness_asks_for(kind: str) -> None:
    with serve([Reply(text="Paris")]) as server, connected(kind, server) as model:
        completion = model.complete("The capital of France?", system="Be brief.", max_tokens=7)
    assert isinstance(model, Model)
    assert isinstance(completion, Completion)
    assert (completion.text, completion.stop_reason, completion.model) == ("Paris", "end_turn", "some-model")
    assert completion.usage["output_tokens"] == 2
    body = server.requests[0].body
    assert (body["model"], body["max_tokens"]) == ("some-model", 7)
    assert server.requests[0].last_text == "The capital of France?"
    assert server.requests[0].headers["authorization"] == f"Bearer key-of-{kind}"


@BOTH
def test_the_same_question_is_asked_again(kind: str) -> None:
    with serve([Reply(text="one"), Reply(text="two")]) as server, connected(kind, server) as model:
        assert [model.complete("?", temperature=0.0).text for _ in range(2)] == ["one", "two"]


@BOTH
def test_many_prompts_are_in_the_air_at_once_and_come_back_in_their_order(kind: str) -> None:
    prompts = [f"prompt {number}" for number in range(12)]
    with serve(all_at_once(12)) as server, connected(kind, server) as model:
        answers = model.complete_many(prompts, max_tokens=5)
    assert [one.text for one in answers] == [f"to {prompt}" for prompt in prompts]


@BOTH
def test_many_threads_use_one_model_at_once(kind: str) -> None:
    prompts = [f"prompt {number}" for number in range(8)]
    with serve(all_at_once(8)) as server, connected(kind, server) as model, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(model.complete, prompts))
    assert [one.text for one in answers] == [f"to {prompt}" for prompt in prompts]


@BOTH
async def test_awaiting_an_answer_lets_the_callers_loop_go_on(kind: str) -> None:
    held = Held()
    with serve(held.reply) as server, connected(kind, server) as model:
        call = asyncio.create_task(model.acomplete("?"))
        assert await asyncio.to_thread(held.asked.wait, PATIENCE)
        assert not call.done()
        held.released.set()
        assert (await call).text == "late"


async def test_many_are_awaited_at_once() -> None:
    with serve(all_at_once(6)) as server, connected("openai", server) as model:
        answers = await asyncio.gather(*(model.acomplete(f"{number}") for number in range(6)))
    assert [one.text for one in answers] == [f"to {number}" for number in range(6)]


def test_one_model_serves_one_loop_after_the_other_and_none() -> None:
    with serve([Reply(text="yes")]) as server, connected("openai", server) as model:
        assert asyncio.run(model.acomplete("?")).text == "yes"
        assert model.complete("?").text == "yes"
        assert asyncio.run(model.acomplete("?")).text == "yes"


async def test_the_waiting_call_works_inside_a_running_loop() -> None:
    with serve([Reply(text="yes")]) as server, connected("anthropic", server) as model:
        assert model.complete("?").text == "yes"


async def test_who_stops_waiting_gives_up_that_call_alone() -> None:
    held = Held()
    with (
        serve(lambda request: held.reply(request) if request.last_text == "slow" else Reply(text="yes")) as server,
        connected("openai", server) as model,
    ):
        call = asyncio.create_task(model.acomplete("slow"))
        assert await asyncio.to_thread(held.asked.wait, PATIENCE)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await model.acomplete("quick")).text == "yes"
        held.released.set()


def test_what_the_harness_changes_after_asking_does_not_reach_the_request() -> None:
    block = {"type": "text", "text": "before"}
    with serve([Reply(text="yes")]) as server, connected("openai", server) as model:
        result = {"type": "tool_result", "tool_use_id": "1", "content": [block]}
        pending = model.acomplete([{"role": "user", "content": [result]}])

        async def later() -> str:
            call = asyncio.ensure_future(pending)
            await asyncio.sleep(0)
            block["text"] = "after"
            return (await call).text

        assert asyncio.run(later()) == "yes"
    assert server.requests[0].last_text == "before"


def test_the_embedded_model_answers_as_in_a_run() -> None:
    prompt = "Labels: good, bad\n\nText: fine\nLabel: good\n\nText: poor\nLabel: bad\n\nText: fine\nLabel:"
    expected = answer(ModelRequest(messages=[Message(role="user", content=prompt)]))
    with metaharness.connect("embedded:icl") as model:
        found = model.complete(prompt)
    assert (found.text, found.usage) == (expected.text, expected.usage.model_dump())


def test_randomness_follows_the_seed() -> None:
    def drawn(seed: int) -> float:
        return metaharness.connect("embedded:icl", seed=seed).random.random()

    assert drawn(5) == drawn(5) != drawn(6)


# --- failures -----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("reply", "kind_of_failure"),
    [
        (Reply(status=400, message="too long"), "refused"),
        (Reply(status=529, message="overloaded", headers=SOON), "infrastructure"),
        (Reply(fault="garble"), "infrastructure"),
        (Reply(body={"odd": 1}), "infrastructure"),
    ],
)
def test_a_failure_is_a_model_error_of_a_kind(kind: str, reply: Reply, kind_of_failure: str) -> None:
    with serve([reply]) as server, connected(kind, server) as model:
        with pytest.raises(ModelError) as caught:
            model.complete("?")
        with pytest.raises(ModelError) as awaited:
            asyncio.run(model.acomplete("?"))
    assert caught.value.kind == awaited.value.kind == kind_of_failure
    assert reply.status == 200 or reply.message in str(caught.value)


def test_an_endpoint_that_is_not_there_is_an_infrastructure_failure() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        metaharness.connect("openai:x", base_url=f"http://127.0.0.1:{port}/v1") as model,
        pytest.raises(ModelError, match="Connection") as caught,
    ):
        model.complete("?")
    assert caught.value.kind == "infrastructure"


def test_an_answer_later_than_the_deadline_is_an_infrastructure_failure() -> None:
    held = Held()
    with serve(held.reply) as server, connected("anthropic", server, deadline=0.05) as model:
        with pytest.raises(ModelError, match=r"no answer within 0\.05 seconds") as caught:
            model.complete("?")
        held.released.set()
    assert caught.value.kind == "infrastructure"


@BOTH
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_a_configuration_error_with_a_hint(kind: str, status: int) -> None:
    with serve([Reply(status=status, message="bad key")]) as server, connected(kind, server) as model:
        for ask in (
            lambda: model.complete("?"),
            lambda: model.complete_many(["?", "?"]),
            lambda: asyncio.run(model.acomplete("?")),
        ):
            with pytest.raises(ConfigurationError, match="bad key") as caught:
                ask()
            assert f"{kind.upper()}_API_KEY" in str(caught.value.hint)


@BOTH
def test_a_missing_key_is_told_when_connecting(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"{kind.upper()}_API_KEY"
    monkeypatch.delenv(variable)
    with pytest.raises(ConfigurationError, match=f"no key: {variable} is not set") as caught:
        metaharness.connect(f"{kind}:some-model")
    assert caught.value.hint == f"export {variable}=..."


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("gpt", {}, "does not say which provider"),
        ("cloud:x", {}, "no provider 'cloud'"),
        ("embedded:other", {}, "no embedded model 'other'"),
        ("scripted:nowhere.jsonl", {}, "cannot be read"),
        ("embedded:icl", {"base_url": "http://127.0.0.1"}, "a base URL does not fit embedded"),
        ("embedded:icl", {"deadline": 0}, "a deadline of 0 leaves no time"),
    ],
)
def test_a_model_that_cannot_be_is_wrong_usage(model: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        metaharness.connect(model, **options)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": object()}, "cannot be sent: Object of type object is not JSON"),
        ({"temperature": float("nan")}, "cannot be sent"),
        ({"max_tokens": 0}, "not a model request: max_tokens"),
        ({"stream": True}, "'stream' cannot be set by a harness"),
    ],
)
def test_a_request_that_is_none_is_refused_and_reaches_nobody(options: dict[str, Any], message: str) -> None:
    with (
        serve([Reply(text="yes")]) as server,
        connected("openai", server) as model,
        pytest.raises(ModelError, match=message) as caught,
    ):
        model.complete("?", **options)
    assert caught.value.kind == "refused"
    assert server.requests == []


def test_the_first_failure_of_many_is_raised_after_all_have_ended() -> None:
    def reply(request: Received) -> Reply:
        return Reply(status=400, message="no") if request.last_text == "b" else Reply(text="yes")

    with serve(reply) as server, connected("openai", server) as model, pytest.raises(ModelError, match="no"):
        model.complete_many(["a", "b", "c"])
    assert len(server.requests) == 3


def test_a_script_fails_as_it_says_and_counts_on(tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    rules = [{"error": {"kind": "budget", "message": "spent"}, "times": 1}, {"text": "yes"}]
    script.write_text("".join(json.dumps(rule) + "\n" for rule in rules))
    with metaharness.connect(f"scripted:{script}") as model:
        with pytest.raises(ModelError, match="spent") as caught:
            model.complete("?")
        assert caught.value.kind == "budget"
        assert model.complete("?").text == "yes"


# --- the end --------------------------------------------------------------------------------------------------------


def test_closing_ends_the_calls_in_the_air_and_every_later_one() -> None:
    held = Held()
    with serve(held.reply) as server, ThreadPoolExecutor(1) as threads:
        model = metaharness.connect("openai:x", base_url=address("openai", server))
        call = threads.submit(model.complete, "?")
        assert held.asked.wait(PATIENCE)
        model.close()
        model.close()
        with pytest.raises(ModelError, match="while this call was in the air") as caught:
            call.result(PATIENCE)
        held.released.set()
        assert caught.value.kind == "closed"
        for ask in (lambda: model.complete("?"), lambda: asyncio.run(model.acomplete("?"))):
            with pytest.raises(ModelError, match="connect again") as later:
                ask()
            assert later.value.kind == "closed"


def test_closing_leaves_no_thread_behind_and_before_the_first_call_there_is_none() -> None:
    before = set(threading.enumerate())
    with metaharness.connect("embedded:icl") as model:
        assert set(threading.enumerate()) == before
        model.complete("?")
        model.complete("?")
        assert [one.name for one in set(threading.enumerate()) - before].count("metaharness-model") == 1
    assert {one.name for one in set(threading.enumerate()) - before} <= {"AnyIO worker thread"}
    metaharness.connect("embedded:icl").close()


def test_a_process_that_forgets_to_close_ends_by_itself() -> None:
    program = (
        "import metaharness\nmodel = metaharness.connect('embedded:icl')\nprint(len(model.complete_many(['?'] * 5)))\n"
    )
    said = run_python(program)
    assert (said.returncode, said.stdout, said.stderr) == (0, "5\n", "")


def test_a_process_without_a_free_descriptor_is_told_so() -> None:
    program = (
        "import metaharness, os, resource\n"
        "from metaharness.harness import ModelError\n"
        "model = metaharness.connect('embedded:icl')\n"
        "lowest = os.dup(0)\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))\n"
        "try:\n"
        "    model.complete('?')\n"
        "except ModelError as error:\n"
        "    print(error.kind, error)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "print(model.complete('?').text)\n"
    )
    said = run_python(program, warnings="default")
    assert said.returncode == 0, said.stderr
    first, second = said.stdout.splitlines()
    assert first.startswith("infrastructure no event loop can be started")
    assert second == "unknown"


def run_python(program: str, warnings: str = "error") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", warnings, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
