"""The real Claude Code client against a scripted model on this machine, with the plugin of this repository.

    done = claude.asked("One round, please.", [Use("scoreboard"), Use("evaluate", iteration=9)], project)
    done.results[0].text        # what the model was shown of the first call

Nothing leaves the machine: the key is a dummy, the address of the API is on loopback, and the environment holds nothing
of whoever runs the tests.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meta_kit import ROOT
from wire_server import Received, Reply, serve

from metaharness.sandbox.environments import find_uv

GET = ROOT / "scripts" / "get_claude"
SERVER = "plugin_metaharness_metaharness"
"""As Claude Code calls the plugin's server in the names of its tools."""
BUILT_IN = {"Read", "Write", "Edit", "Bash", "Skill", "Grep", "Glob"}
DONE = "That is all."
SECONDS = 120


def client() -> Path:
    """Where the client lies, or would lie."""
    said = subprocess.run([GET, "--where"], capture_output=True, text=True, check=True)
    return Path(said.stdout.strip())


@dataclass(frozen=True)
class Result:
    """A tool's result, as the model was sent it."""

    text: str
    failed: bool

    @property
    def record(self) -> Any:
        """The record that the text is."""
        return json.loads(self.text)


@dataclass(frozen=True)
class Use:
    """One turn of the scripted model: it calls a tool."""

    tool: str
    """A tool of Claude Code, or one of ours by its bare name."""
    given: Mapping[str, Any] | Callable[[Result], Mapping[str, Any]] = field(default_factory=dict)
    """The arguments, or what makes them of the newest result."""

    def call(self, number: int, newest: Result | None) -> dict[str, Any]:
        """As the Messages API spells it."""
        given = self.given
        if callable(given):
            assert newest is not None, f"{self.tool} wants the result of an earlier call"
            given = given(newest)
        name = self.tool if self.tool in BUILT_IN else f"mcp__{SERVER}__{self.tool}"
        return {"id": f"toolu_{number:04d}", "name": name, "input": dict(given)}


def results_in(request: Received) -> list[Result]:
    """Every result of a tool that a request carries, oldest first."""
    found = []
    for message in request.body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else []:
            if block.get("type") == "tool_result":
                found.append(Result(text_in(block.get("content")), bool(block.get("is_error"))))
    return found


def text_in(content: Any) -> str:
    """The text of blocks."""
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content or [] if block.get("type") == "text")


@dataclass(frozen=True)
class Session:
    """What came of one headless session."""

    requests: list[Received]
    """Those of the conversation; what the client asks on the side, such as for a title, is left out."""
    events: list[dict[str, Any]]
    """What the client printed."""

    @property
    def results(self) -> list[Result]:
        """Of every call, in order."""
        return results_in(self.requests[-1])

    @property
    def sent(self) -> str:
        """All text outside of results and descriptions of tools that the last request carries."""
        body = self.requests[-1].body
        return "\n".join([text_in(body.get("system")), *(text_in(one["content"]) for one in body["messages"])])

    @property
    def described(self) -> dict[str, dict[str, Any]]:
        """The tools whose descriptions the model had from the start, ours by their bare names."""
        tools = self.requests[0].body["tools"]
        return {one["name"].removeprefix(f"mcp__{SERVER}__"): one for one in tools}

    def event(self, kind: str, subtype: str) -> dict[str, Any]:
        """The one event of a kind."""
        (found,) = [one for one in self.events if one.get("type") == kind and one.get("subtype") == subtype]
        return found


class Claude:
    """The client with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.client = client()
        programs = home / "bin"
        programs.mkdir(parents=True)
        uv = find_uv()
        assert uv is not None
        (programs / "uv").symlink_to(uv)
        (programs / "python3").symlink_to(os.path.realpath(sys.executable))
        cache = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
        self.environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "ANTHROPIC_API_KEY": "dummy",
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "MCP_CONNECTION_NONBLOCKING": "0",  # the first request waits for the server: no model is as quick as ours
            "MCP_TIMEOUT": "60000",
            "UV_CACHE_DIR": cache,
            "UV_OFFLINE": "1",
            "UV_PYTHON": os.path.realpath(sys.executable),
            "UV_PYTHON_DOWNLOADS": "never",
        }

    def missing(self) -> str | None:
        """Why the server of the plugin cannot be installed without a network; None where it can be, and then it is."""
        entry = json.loads((ROOT / ".mcp.json").read_text(encoding="utf-8"))["mcpServers"]["metaharness"]
        words = [word.replace("${CLAUDE_PLUGIN_ROOT}", str(ROOT)) for word in entry["args"]]
        place = self.home / ".claude" / "plugins" / "data" / "metaharness-inline" / "environment"
        done = subprocess.run(
            [self.home / "bin" / entry["command"], *words[:-1], "--version"],
            env=self.environment | {"UV_PROJECT_ENVIRONMENT": str(place)},
            capture_output=True,
            text=True,
            check=False,
        )
        return None if done.returncode == 0 else done.stderr[-300:]

    def run(self, *arguments: object, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
        """A command of the client, in an environment of its own."""
        return subprocess.run(
            [self.client, *map(str, arguments)],
            cwd=cwd,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def asked(
        self, prompt: str, turns: Sequence[Use], project: Path, *, plugin: Path | None = ROOT, **more: str
    ) -> Session:
        """One headless session: the model makes the calls, one a turn, and is done.

        Args:
            prompt: What the person types.
            turns: What the model does.
            project: The folder that is open.
            plugin: Loaded for this session alone; None: what is installed in the home.
            more: Of the environment.

        Raises:
            AssertionError: The client failed, or did not let the model make every call.
        """
        left = iter(turns)
        numbers = itertools.count(1)
        conversation: list[Received] = []

        def answer(request: Received) -> Reply:
            if "count_tokens" in request.path or not request.body.get("tools"):
                return Reply(text="ok")
            conversation.append(request)
            use = next(left, None)
            if use is None:
                return Reply(text=DONE)
            return Reply(tool_calls=[use.call(next(numbers), next(reversed(results_in(request)), None))])

        source = ("--setting-sources", "user") if plugin is None else ("--setting-sources", "", "--plugin-dir", plugin)
        with serve(answer) as server:
            done = self.run(
                *("-p", prompt, *source, "--output-format", "stream-json", "--verbose"),
                *("--allowedTools", f"mcp__{SERVER},Skill,Read,Write,Edit,Bash"),
                cwd=project,
                **more,
                ANTHROPIC_BASE_URL=server.url,
            )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert next(left, None) is None, done.stdout[-2000:]
        return Session(conversation, [json.loads(line) for line in done.stdout.splitlines()])
