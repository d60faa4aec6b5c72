"""The proposer `agent-sdk`: Claude Code through claude-agent-sdk, with the tools of the run in this process.

The client works in a copy of what the run shows, with a home of its own; both are gone after the session. Of the
environment it has PATH, the key, and what the configuration names: no settings, hooks, plugins, skills or CLAUDE.md of
the user. Its own tools only read. The tools of the run come over its stdin and stdout.

What this does not guard, where it runs unjailed: a client that does not keep its own rules could read whatever this
user can. Settings that the machine's administrator has made for Claude Code stay in force.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from metaharness.configuration import RunConfig
from metaharness.errors import ConfigurationError, UsageError
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers.anthropic import KEY
from metaharness.gateway.providers.remote import install_hint, read_key
from metaharness.messages import ModelSpec
from metaharness.pages import packaged, skill_page
from metaharness.proposers.claude_messages import Following
from metaharness.proposers.prompts import SKILL, filled, skill_text, task_text
from metaharness.proposers.purse import Purse
from metaharness.records import Proposal
from metaharness.run import Round, Run
from metaharness.run.sessions import ROLE, Session
from metaharness.tools import Desk, seat_tools, seated
from metaharness.tools.workspace import Workspace

if TYPE_CHECKING:
    from metaharness.proposers import Serve

PACKAGE = "claude_agent_sdk"
EXTRA = "agent-sdk"
SERVER = "metaharness"
READING = ("Read", "Grep", "Glob")
"""Tools of the client itself. They are not allowed beyond its working folder, as nobody is there to be asked."""
GRACE = 2.0
"""Seconds in which the client is to let go of a call in the air before it is ended all the same."""
LINE_BYTES = 32 << 20
"""The longest message of the client: a result of a tool travels in one."""
UNJAILED = "the rules of Claude Code alone: unjailed, with read-only tools in a folder of its own"
QUIET = {
    "LANG": "C.UTF-8",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_BUNDLED_SKILLS": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "ENABLE_TOOL_SEARCH": "false",  # the tools are few, and all of them are needed
}


def check_agent_sdk(config: RunConfig) -> None:
    """Make sure that the proposer can be had.

    Raises:
        UsageError: There is no model for it, its skill cannot be read, its limit in dollars could not be kept, or it
            would run without a jail.
        ConfigurationError: Its package or its key is not there.
    """
    spec = config.models.get(ROLE)
    if spec is None or spec.provider != "anthropic":
        raise UsageError(
            f"the proposer agent-sdk needs a model of the provider anthropic, not {spec.id if spec else 'none'}",
            hint="name one for the role `proposer`, such as anthropic:claude-opus-5; a base URL leads to another "
            "endpoint that speaks the Messages API",
        )
    prices = PriceTable(config.prices)
    if config.proposing.usd is not None and prices.price(spec) is None:
        raise UsageError(
            f"a session may cost {config.proposing.usd:g} dollars, and the price of {spec.id} is unknown",
            hint=f"leave that limit out, or {prices.advice(spec)}",
        )
    skill_text(config.proposing.skill, partial(skill_page, SKILL))
    find_client()
    read_key(KEY)
    if not config.proposing.unjailed:
        raise UsageError(
            "the proposer agent-sdk cannot be jailed here", hint="let it run with your own rights: unjailed"
        )


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
class Place:
    """The folders of one session, and what starts the client there."""

    workspace: Path
    home: Path
    start: Path
    sealed_by: str


class AgentSdkProposer:
    """Starts the client once a round."""

    def __init__(self, run: Run, serve: Serve) -> None:
        """Find what it needs.

        Args:
            run: Open for recording.
            serve: Makes the server that the client is connected to.

        Raises:
            UsageError: As `check_agent_sdk`.
            ConfigurationError: Likewise.
        """
        check_agent_sdk(run.config)
        self._run = run
        self._serve = serve
        self._spec: ModelSpec = run.config.models[ROLE]
        self._client = find_client()
        self._sdk: Any = import_module(PACKAGE)

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """What the client hands in.

        Raises:
            ModelFailure: Its model gives no answer, or nothing is left of the budget.
        """
        with (
            Workspace(self._run) as workspace,
            tempfile.TemporaryDirectory(prefix="metaharness-home-", ignore_cleanup_errors=True) as named,
        ):
            place = self._lay_out(workspace.folder, Path(named).resolve(), round_)  # noqa: ASYNC240 - a microsecond
            session = Session(self._run, round_, model=self._spec, sealed_by=place.sealed_by)
            await anyio.to_thread.run_sync(workspace.update, session.name)
            work = partial(self._work, place, round_)
            async with aclosing(seated(self._run, round_, session, place.workspace, work)) as proposals:
                async for proposal in proposals:
                    yield proposal

    def _lay_out(self, workspace: Path, home: Path, round_: Round) -> Place:
        """Put the skill and the start into the home, and the skill's pages where the skill says that they are."""
        place = Place(workspace, home, home / "start", UNJAILED)
        (home / "skill.md").write_text(filled(self._skill(), self._run.config.proposing, round_), encoding="utf-8")
        pages = packaged(f"skills/{SKILL}/references")
        if self._run.config.proposing.skill is None and pages is not None:
            shutil.copytree(pages, workspace / "references")
        place.start.write_text(start_script(self._client, keep=("PATH", *self._environment(place))), encoding="utf-8")
        place.start.chmod(0o700)
        return place

    def _skill(self) -> str:
        return skill_text(self._run.config.proposing.skill, partial(skill_page, SKILL))

    async def _work(self, place: Place, round_: Round, desk: Desk, session: Session) -> None:
        purse = Purse(self._run, self._spec)
        purse.require()
        following = Following(session, purse)
        with anyio.move_on_after(self._run.config.proposing.timeout) as clock:
            await self._converse(self._options(place, desk, session), task_text(self._run, round_), following)
        if clock.cancelled_caught:
            session.state = "timeout"

    async def _converse(self, options: Any, task: str, following: Following) -> None:
        """Give the client the task and follow it to its end; whatever happens, it is ended."""
        client = self._sdk.ClaudeSDKClient(options)
        try:
            await client.connect()
            await client.query(task)
            async with aclosing(client.receive_response()) as messages:
                async for message in messages:
                    following.take(message)
                    if following.over:
                        break
        finally:
            following.close()
            with anyio.CancelScope(shield=True):
                if not following.answered:  # else it waits for the answer to a call in the air before it ends
                    with anyio.move_on_after(GRACE), suppress(self._sdk.ClaudeSDKError):
                        await client.interrupt()
                await client.disconnect()

    def _options(self, place: Place, desk: Desk, session: Session) -> Any:
        proposing = self._run.config.proposing
        server = self._serve(desk, seat_tools())
        elsewhere = self._spec.base_url is not None  # the client would reckon with prices that do not hold there
        return self._sdk.ClaudeAgentOptions(
            model=self._spec.name,
            system_prompt={"type": "file", "path": str(place.home / "skill.md")},
            tools=list(READING),
            allowed_tools=[f"mcp__{SERVER}"],
            permission_mode="dontAsk",
            mcp_servers={SERVER: {"type": "sdk", "name": SERVER, "instance": server._lowlevel_server}},
            strict_mcp_config=True,
            setting_sources=[],
            skills=[],
            max_turns=proposing.max_turns,
            max_budget_usd=None if elsewhere else proposing.usd,
            cwd=place.workspace,
            cli_path=place.start,
            env=self._environment(place),
            stderr=partial(_said, session),
            include_partial_messages=True,
            verbatim_prompts=True,
            max_buffer_size=LINE_BYTES,
        )

    def _environment(self, place: Place) -> dict[str, str]:
        """All that the client is given of variables, beside PATH."""
        proposing = self._run.config.proposing
        named = {name: os.environ[name] for name in proposing.environment if name in os.environ}
        own = {
            "HOME": str(place.home),
            KEY: read_key(KEY),
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": self._spec.name,  # what it asks on the side, it asks the same model
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(proposing.max_tokens),
            "MCP_TOOL_TIMEOUT": str(int(proposing.timeout * 1000)),
        }
        endpoint = {} if self._spec.base_url is None else {"ANTHROPIC_BASE_URL": self._spec.base_url}
        return QUIET | named | own | endpoint


def _said(session: Session, line: str) -> None:
    session.say("stderr", text=line)


def start_script(client: Path, *, keep: tuple[str, ...]) -> str:
    """What starts the client without the variables of this process: the SDK adds its own to them and takes none away.

    Args:
        client: The program.
        keep: Names of the variables that it is to have.
    """
    dropped = [part for name in sorted(os.environ.keys() - set(keep)) for part in ("-u", name)]
    return f'#!/bin/sh\nexec {shlex.join(["/usr/bin/env", *dropped, str(client)])} "$@"\n'
