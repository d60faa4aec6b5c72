"""The proposer `agent-sdk`: Claude Code through claude-agent-sdk, with the tools of the run in this process.

The client works in a copy of what the run shows, with a home of its own that is gone after the session. Of the
environment it has PATH, the key, and what the configuration names: no settings, hooks, plugins, skills or CLAUDE.md of
the user. Its own tools only read. The tools of the run come over its stdin and stdout.

What this does not guard, where it runs unjailed: a client that does not keep its own rules could read whatever this
user can. Settings that the machine's administrator has made for Claude Code stay in force.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from metaharness.configuration import RunConfig
from metaharness.errors import UsageError
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import address
from metaharness.gateway.providers.anthropic import KEY
from metaharness.gateway.providers.remote import key_variable, read_key
from metaharness.jail import Cell, make_sure
from metaharness.pages import packaged, skill_page
from metaharness.proposers.claude_client import PACKAGE, Started, find_client, ready
from metaharness.proposers.claude_messages import Following
from metaharness.proposers.jails import check_jailing
from metaharness.proposers.prompts import SKILL, filled, skill_text, task_text
from metaharness.proposers.purse import Purse
from metaharness.records import Proposal
from metaharness.run import Round, Run
from metaharness.run.sessions import ROLE, Session
from metaharness.tools import Desk, seat_tools, seated
from metaharness.tools.workspace import Workspace

if TYPE_CHECKING:
    from metaharness.proposers import Serve

SERVER = "metaharness"
READING = ("Read", "Grep", "Glob")
"""Tools of the client itself. They are not allowed beyond its working folder, as nobody is there to be asked."""
GRACE = 2.0
"""Seconds in which the client is to let go of a call in the air before it is ended all the same."""
LINE_BYTES = 32 << 20
"""The longest message of the client: a result of a tool travels in one."""
SKILL_FILE = "SKILL.md"
"""In the workspace, beside the pages that it refers to."""

WHERE = """\
Your folder holds a copy of what the run shows; its `README.md` says what lies where. You can read there and not write:
give a candidate's source to the tools as `files`.
"""


def check_agent_sdk(config: RunConfig) -> None:
    """Make sure that the proposer can be had.

    Raises:
        UsageError: There is no model for it, its skill cannot be read, its limit in dollars could not be kept, or
            something that is told of its jail is wrong.
        ConfigurationError: Its package or its key is not there.
        SandboxError: No jail can be made here; the hint says what to install, and how to do without.
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
    read_key(key_variable(KEY, address(spec)))
    if not config.proposing.unjailed:
        check_jailing(config.proposing)
        make_sure()


class AgentSdkProposer:
    """Starts the client once a round."""

    def __init__(self, run: Run, serve: Serve | None) -> None:
        """Take the run, open for recording, and what makes the server that the client is connected to."""
        if serve is None:
            raise UsageError("an agent program needs the tools over MCP", hint="start it with `metaharness run`")
        self._run = run
        self._serve = serve
        self._spec = run.config.models[ROLE]
        self._sdk: Any = import_module(PACKAGE)
        logging.getLogger(PACKAGE).setLevel(logging.CRITICAL)  # it raises what it logs, and a stop is no error
        self._workspace = Workspace(run)
        self._lay_out_pages()

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """What the client hands in.

        Raises:
            ModelFailure: Its model gives no answer, or nothing is left of the budget.
            SandboxError: No jail can be made here any more.
        """
        folder = self._workspace.folder
        async with ready(self._run, folder) as started:
            session = Session(self._run, round_, model=self._spec, sealed_by=started.sealed_by)
            await anyio.to_thread.run_sync(self._workspace.update, session.name)
            proposing = self._run.config.proposing
            skill = filled(skill_text(proposing.skill, partial(skill_page, SKILL)), proposing, round_)
            (folder / SKILL_FILE).write_text(skill, encoding="utf-8")
            work = partial(self._work, started, round_)
            async with aclosing(seated(self._run, round_, session, folder, work)) as proposals:
                async for proposal in proposals:
                    yield proposal

    def _lay_out_pages(self) -> None:
        """The pages of the shipped skill, where it says that they are."""
        pages = packaged(f"skills/{SKILL}/references")
        if self._run.config.proposing.skill is None and pages is not None:
            shutil.copytree(pages, self._workspace.folder / pages.name)

    async def _work(self, started: Started, round_: Round, desk: Desk, session: Session) -> None:
        purse = Purse(self._run, self._spec)
        purse.require()
        following = Following(session, purse)
        try:
            with anyio.move_on_after(self._run.config.proposing.timeout) as clock:
                task = f"{task_text(self._run, round_)}\n{WHERE}"
                await self._converse(self._options(started, desk, session), task, following)
            if clock.cancelled_caught:
                session.limited("timeout", f"it took longer than {self._run.config.proposing.timeout:g} s")
        finally:
            following.close()
            if started.cell is not None:
                _say_of_jail(started.cell, session)

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
            with anyio.CancelScope(shield=True):
                if not following.answered:  # it would wait for the answer to a call in the air before it ends
                    await _let_go(client)
                await client.disconnect()

    def _options(self, started: Started, desk: Desk, session: Session) -> Any:
        proposing = self._run.config.proposing
        server = self._serve(desk, seat_tools())
        elsewhere = address(self._spec) is not None  # the client would reckon with prices that do not hold there
        return self._sdk.ClaudeAgentOptions(
            model=self._spec.name,
            system_prompt={"type": "file", "path": str(started.workspace / SKILL_FILE)},
            tools=list(READING),
            allowed_tools=[f"mcp__{SERVER}"],
            permission_mode="dontAsk",
            mcp_servers={SERVER: {"type": "sdk", "name": SERVER, "instance": server._lowlevel_server}},
            strict_mcp_config=True,
            setting_sources=[],
            skills=[],
            max_turns=proposing.max_turns,
            max_budget_usd=None if elsewhere else proposing.usd,
            cwd=started.workspace,
            cli_path=started.file,
            env=started.environment,
            stderr=lambda line: session.say("stderr", text=line),
            include_partial_messages=True,
            verbatim_prompts=True,
            max_buffer_size=LINE_BYTES,
        )


def _say_of_jail(cell: Cell, session: Session) -> None:
    """Keep what the client tried to reach, and which bound of the jail ended it, if one did."""
    for attempt in cell.attempts():
        session.say("network", **vars(attempt))
    if cell.ended_because is not None:
        session.say("jail", text=cell.ended_because)


async def _let_go(client: Any) -> None:
    """Have the client drop what it is doing, if it still listens."""
    with anyio.move_on_after(GRACE):
        try:
            await client.interrupt()
        except Exception:  # noqa: BLE001 - the SDK raises bare ones; a client that does not listen is ended all the same
            return
