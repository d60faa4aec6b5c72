"""The client of claude-agent-sdk: where it lies, which variables it gets, and what starts it, in a jail or without one.

The SDK adds its variables to those of this process and takes none away, so what it starts is a file of ours that lets
through only what is meant for the client.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from metaharness import variables
from metaharness.errors import ConfigurationError
from metaharness.gateway.providers import address
from metaharness.gateway.providers.anthropic import KEY
from metaharness.gateway.providers.remote import install_hint, key_variable, read_key
from metaharness.jail import Bounds, Cell, Jail, opened
from metaharness.proposers.jails import secrets_of
from metaharness.run import Run
from metaharness.run.sessions import ROLE

PACKAGE = "claude_agent_sdk"
EXTRA = "agent-sdk"
ENDPOINT = "https://api.anthropic.com"
"""Where the client sends to when no base URL is told."""
SPARE_SECONDS = 60.0
"""A jail stays open so much longer than a session may take: the session ends first."""
OF_THE_SDK = ("CLAUDE_CODE_ENTRYPOINT", "CLAUDE_AGENT_SDK_VERSION", "CLAUDE_CODE_SDK_READS_SESSION_STATE")
"""What the SDK tells its client by variables."""
QUIET = {
    "LANG": "C.UTF-8",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_BUNDLED_SKILLS": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "ENABLE_TOOL_SEARCH": "false",  # the tools are few, and all of them are needed
}
START = """\
import ctypes, os, sys
names, client, *arguments = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
os.setsid()
os.execve(client, [client, *arguments], {name: os.environ[name] for name in names.split() if name in os.environ})
"""
UNJAILED = "the rules of Claude Code alone: unjailed, with read-only tools in a folder of its own"


def find_client() -> Path:
    """The program that claude-agent-sdk brings.

    Raises:
        ConfigurationError: The package is not installed, or brings none for this machine.
    """
    found = find_spec(PACKAGE)
    install = install_hint(PACKAGE.replace("_", "-"), extra=EXTRA)
    if found is None or found.origin is None:
        raise ConfigurationError("the package 'claude-agent-sdk' is not installed", hint=install)
    client = Path(found.origin).parent / "_bundled" / "claude"
    if not client.is_file():
        raise ConfigurationError(
            f"claude-agent-sdk brings no client for this machine: there is no {client}",
            hint=f"install it from a wheel for this machine: {install}",
        )
    return client


@dataclass(frozen=True)
class Started:
    """What starts the client in its workspace."""

    workspace: Path
    file: Path
    environment: dict[str, str]
    """What the SDK is to add to it; the key is among it."""
    sealed_by: str
    """What keeps the test split from it."""
    cell: Cell | None = None
    """The jail; None without one."""


@asynccontextmanager
async def ready(run: Run, workspace: Path) -> AsyncIterator[Started]:
    """What starts the client as a run is configured, as long as the block lasts.

    Raises:
        UsageError: A file or a destination of the configuration is wrong.
        ConfigurationError: There is no client or no key.
        SandboxError: No jail can be made here.
    """
    client, open_, secret = find_client(), _open_variables(run), _secret_variables(run)
    if run.config.proposing.unjailed:
        with tempfile.TemporaryDirectory(prefix="metaharness-home-", ignore_cleanup_errors=True) as home:
            environment = open_ | secret | {"HOME": home}
            file = Path(home) / "start"
            file.write_text(start_script(client, keep=("PATH", *environment)), encoding="utf-8")
            file.chmod(0o700)
            yield Started(workspace, file, environment, UNJAILED)
        return
    async with opened(_jail(run, workspace, client, open_)) as cell:
        yield Started(workspace, cell.wrapper, secret, cell.sealed_by(), cell)


def _open_variables(run: Run) -> dict[str, str]:
    """What the client is told by variables, without secrets."""
    proposing, spec = run.config.proposing, run.config.models[ROLE]
    url = address(spec)
    own = {
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": spec.name,  # what it asks on the side, it asks the same model
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(proposing.max_tokens),
        "MCP_TOOL_TIMEOUT": str(int(proposing.timeout * 1000)),
    }
    return QUIET | own | ({} if url is None else {"ANTHROPIC_BASE_URL": url})


def _secret_variables(run: Run) -> dict[str, str]:
    """The key, and the variables that the configuration names."""
    names, spec = run.config.proposing.environment, run.config.models[ROLE]
    named = {name: value for name in names if (value := variables.get(name)) is not None}
    return named | {KEY: read_key(key_variable(KEY, address(spec)))}


def start_script(client: Path, *, keep: tuple[str, ...]) -> str:
    """What starts the client with the variables of those names alone, and those of the SDK.

    It does not hear the terminal's Ctrl+C, which is for this process. On Linux it is killed where this process is:
    else it would wait for the answer to a call in the air.
    """
    names = " ".join((*keep, *OF_THE_SDK))
    return f'#!/bin/sh\nexec {shlex.join([sys.executable, "-I", "-S", "-c", START, names, str(client)])} "$@"\n'


def _jail(run: Run, workspace: Path, client: Path, environment: dict[str, str]) -> Jail:
    proposing = run.config.proposing
    return Jail(
        program=(str(client),),
        workspace=workspace,
        writable=(),
        readable=tuple(Path(file).expanduser() for file in proposing.files),
        hidden=tuple(one for one in secrets_of(run) if not client.is_relative_to(one.resolve())),
        destinations=(address(run.config.models[ROLE]) or ENDPOINT, *proposing.destinations),
        passed=(KEY, *proposing.environment, *OF_THE_SDK),
        environment=environment,
        bounds=Bounds(seconds=proposing.timeout + SPARE_SECONDS),
    )
