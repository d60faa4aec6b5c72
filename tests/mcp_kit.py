"""Real servers: `metaharness serve` as a process, and clients of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from run_kit import Toy

INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


def served(toy: Toy, root: Path, *more: object) -> list[str]:
    """The arguments of `metaharness serve` for a domain."""
    return ["serve", *toy.arguments("--root", root, *more)]


@asynccontextmanager
async def over_stdio(
    arguments: list[str], *, module: str = "metaharness", env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[Client]:
    """A client that has started a server, as a host does."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", module, *arguments], env=dict(env or {}) or None, cwd=cwd
    )
    async with Client(server) as client:
        yield client


async def record(client: Client, tool: str, **given: Any) -> dict[str, Any]:
    """The record that a tool answers with."""
    found = await client.call_tool(tool, given)
    assert not found.is_error, found
    assert found.structured_content is not None
    return found.structured_content


class Server:
    """A server whose lines this test writes and reads itself, so that it can end it as it likes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._number = 0
        self.ask("initialize", INITIALIZE)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool: str, **given: Any) -> dict[str, Any]:
        """The answer of a tool."""
        return self.ask("tools/call", {"name": tool, "arguments": given})

    def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        number = self.post(method, params)
        assert self.process.stdout is not None
        for line in iter(self.process.stdout.readline, ""):
            said = json.loads(line)
            if said.get("id") == number:
                assert "result" in said, said
                found: dict[str, Any] = said["result"]
                return found
        raise AssertionError("the server has ended")

    def post(self, method: str, params: Mapping[str, Any]) -> int:
        """Ask without waiting."""
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": dict(params)})
        return self._number

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()


@contextmanager
def serving(arguments: list[str]) -> Iterator[Server]:
    """A server over stdio; ended, whatever happens, when the block is left."""
    with subprocess.Popen(
        [sys.executable, "-m", "metaharness", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Server(process)
        finally:
            process.kill()
