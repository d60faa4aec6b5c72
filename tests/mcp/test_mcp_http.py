"""`metaharness serve --http`: on this machine alone, for whoever presents the token."""

from __future__ import annotations

import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_kit import record, served
from run_kit import Toy, assert_nothing_twice, count_lines, executed, harness, rules, started, wait_until, write_toy
from tools_kit import BETTER

pytestmark = pytest.mark.slow
CASES = 6
NEVER = {"contains": "[good] item 05", "text": "blue", "delay_ms": 100_000}
TOKEN = "a-token"


class Serving(NamedTuple):
    process: subprocess.Popen[str]
    url: str
    token: str


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return write_toy(tmp_path / "domain", cases=CASES)


@contextmanager
def serving(toy: Toy, root: Path, *more: str) -> Iterator[Serving]:
    """A server at a free port; where and for what token is read from what it says."""
    with started(*served(toy, root, "--http", 0, *more)) as process:
        assert process.stderr is not None
        token, url = TOKEN, ""
        while not url:
            line = process.stderr.readline()
            assert line, "the server has ended"
            if line.startswith("Authorization: Bearer "):
                token = line.split()[-1]
            elif line.startswith("http://"):
                url = line.strip()
        yield Serving(process, url, token)


@asynccontextmanager
async def client_of(server: Serving) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {server.token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(server.url, http_client=http)) as client,
    ):
        yield client


def status(url: str, **headers: str) -> int:
    request = urllib.request.Request(url, data=b"{}", headers={"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_only_who_presents_the_token_is_answered(toy: Toy, tmp_path: Path) -> None:
    with serving(toy, tmp_path / "runs", "--token", TOKEN) as server:
        assert server.url.startswith("http://127.0.0.1:")
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer "}):
            assert status(server.url, **wrong) == 401
            assert status(server.url.replace("/mcp", "/"), **wrong) == 401
        assert status(server.url, Authorization=f"Bearer {TOKEN}") not in (200, 401)
        elsewhere = {"Host": "evil.example", "Authorization": f"Bearer {TOKEN}"}
        assert status(server.url, **elsewhere) in (403, 421)

        async def work() -> None:
            async with client_of(server) as client:
                assert (await record(client, "start_run", name="first"))["state"] == "complete"

        anyio.run(work)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()


@pytest.mark.parametrize("given", [[], ["--token", ""]])
def test_a_token_is_made_up_where_none_is_given(given: list[str], toy: Toy, tmp_path: Path) -> None:
    with serving(toy, tmp_path / "runs", *given) as server:
        assert len(server.token) >= 24
        assert status(server.url, Authorization="Bearer ") == 401
        assert status(server.url, Authorization=f"Bearer {server.token}") != 401


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_in_the_middle_of_an_evaluation_ends_it_and_the_next_server_goes_on(
    number: signal.Signals, toy: Toy, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "first"
    trace = run / "iterations" / "002" / "eval_trace.jsonl"

    async def begin(server: Serving) -> None:
        async with client_of(server) as client:
            await record(client, "start_run", name="first")
            toy.write_script([NEVER, *rules(CASES)])

    async def wait(client: Client) -> None:
        with suppress(MCPError):  # the connection ends in the middle of the answer
            await client.call_tool("evaluate")

    async def evaluate(server: Serving) -> None:
        async with client_of(server) as client:
            await record(client, "write_harness", files={"harness.py": harness("good")}, **BETTER)
            async with anyio.create_task_group() as group:
                group.start_soon(wait, client)
                await anyio.to_thread.run_sync(wait_until, server.process, lambda: count_lines(trace) >= CASES - 1)
                server.process.send_signal(number)
                assert await anyio.to_thread.run_sync(server.process.wait, 60) == 0
                group.cancel_scope.cancel()

    async def go_on(server: Serving) -> None:
        async with client_of(server) as client:
            assert (await record(client, "evaluate"))["mean"] == 1

    with serving(toy, run.parent) as server:
        anyio.run(begin, server)
    with serving(toy, run.parent) as server:
        anyio.run(evaluate, server)
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()
    toy.write_script(rules(CASES))
    with serving(toy, run.parent) as server:
        anyio.run(go_on, server)
    assert_nothing_twice(run)


def test_a_port_that_is_taken_is_told(toy: Toy, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = executed(*served(toy, tmp_path / "runs", "--http", port))
    assert said.returncode == 2
    assert f"port {port} cannot be had" in said.stderr
    assert "hint: " in said.stderr
    assert "Traceback" not in said.stderr
