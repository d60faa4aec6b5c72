"""The real Claude Code works in a jail: it reaches the scripted model, its tools over the bridge, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from anyio.abc import ByteStream
from claude_kit import GET, client, results_in
from meta_kit import ROOT
from wire_server import Received, Reply, serve

from metaharness.jail import Cell, Jail, run_jailed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
    pytest.mark.skipif(not client().is_file(), reason=f"Claude Code is not here: {GET.relative_to(ROOT)} fetches it"),
]

VARIABLES = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "MCP_CONNECTION_NONBLOCKING": "0",  # the first request waits for the server: no model is as quick as ours
}
TOOL = {"name": "add", "description": "Adds.", "inputSchema": {"type": "object", "properties": {}}}


async def adding(stream: ByteStream) -> None:
    """A server of one tool, by hand: what is tested is that its lines pass."""
    left = b""
    async for part in stream:
        *lines, left = (left + part).split(b"\n")
        for line in lines:
            asked = json.loads(line)
            if "id" in asked:
                answer = {"jsonrpc": "2.0", "id": asked["id"], "result": result(asked)}
                await stream.send(json.dumps(answer).encode() + b"\n")


def result(asked: dict[str, Any]) -> dict[str, Any]:
    match asked["method"]:
        case "initialize":
            version = asked["params"]["protocolVersion"]
            about = {"name": "sums", "version": "1"}
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            return {"content": [{"type": "text", "text": "the sum is 5"}]}
    return {}


async def test_it_answers_with_a_tool_from_outside_and_reads_no_file_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "notes.txt").write_text("a note")
    (tmp_path / "test.jsonl").write_text("the label is turnip")
    conversation: list[Received] = []
    uses = [
        ("mcp__sums__add", {}),
        ("Bash", {"command": f"cat notes.txt; cat {tmp_path}/test.jsonl; echo $HOME"}),
    ]

    def answer(request: Received) -> Reply:
        if "count_tokens" in request.path or not request.body.get("tools"):
            return Reply(text="ok")
        conversation.append(request)
        number = len(conversation)
        if number > len(uses):
            return Reply(text="That is all.")
        name, given = uses[number - 1]
        return Reply(tool_calls=[{"id": f"toolu_{number:04d}", "name": name, "input": given}])

    def arguments(cell: Cell) -> tuple[str, ...]:
        command, *rest = cell.bridge("mcp")
        servers = {"mcpServers": {"sums": {"type": "stdio", "command": command, "args": rest}}}
        (workspace / "mcp.json").write_text(json.dumps(servers))
        return ("--mcp-config", "mcp.json", "--allowedTools", "mcp__sums,Bash")

    monkeypatch.setenv("ANTHROPIC_API_KEY", "dummy")
    lines: list[str] = []
    with serve(answer) as server:
        jail = Jail(
            program=(str(client()), "-p", "Add.", "--output-format", "stream-json", "--verbose"),
            workspace=workspace,
            destinations=(server.url,),
            passed=("ANTHROPIC_API_KEY",),
            environment={**VARIABLES, "ANTHROPIC_BASE_URL": server.url},
        )
        ended = await run_jailed(jail, on_line=lines.append, arguments=arguments, serve={"mcp": adding})
    assert ended.exit_code == 0, f"{ended.stderr_tail}\n{lines[-3:]}"
    assert json.loads(lines[-1])["result"] == "That is all."
    added, shown = (one.text for one in results_in(conversation[-1]))
    assert added == "the sum is 5"
    assert "a note" in shown
    assert "/jail/home" in shown
    assert "No such file" in shown
    assert "turnip" not in shown
    (reached,) = [one for one in ended.attempts if one.allowed]
    assert f"http://{reached.host}:{reached.port}" == server.url
