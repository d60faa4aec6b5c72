"""What writes candidates. `agent` writes none here: it is a second caller of `Run`, over MCP or the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from anyio.abc import ByteStream

from metaharness.configuration import AGENT, RunConfig
from metaharness.errors import UsageError
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import Proposal
from metaharness.run import Round, Run

if TYPE_CHECKING:
    from metaharness.tools import Desk, Tool

PROPOSERS = ("scripted", "chat", "tool-loop", "agent-sdk", "command", AGENT)

Serve = Callable[["Desk", "Sequence[Tool]"], Any]
"""Makes an MCP server that offers some tools of a desk: what an agent program is connected to."""


Converse = Callable[["Desk", "Sequence[Tool]", ByteStream], Awaitable[None]]
"""Serves some tools of a desk over one connection, until the client goes."""


class Proposer(Protocol):
    """Writes candidates for the open slots of a round, in their order."""

    def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """At most one proposal per open slot. Nothing at all is a failed round, not an error.

        It is asked for the next one once the one before was submitted: `round_.history` then has it. All of it runs in
        one task, which is cancelled when the run is stopped.
        """
        ...


def check_proposer(config: RunConfig) -> None:
    """Make sure that a run with this configuration gets a proposer, before there is a run.

    Raises:
        UsageError: There is none of that name, or something that it needs was not given.
        ConfigurationError: A package or a key is missing.
    """
    if config.proposer not in PROPOSERS:
        raise UsageError(f"no proposer {config.proposer!r}", hint=f"valid: {', '.join(PROPOSERS)}")
    if config.strategy == "best-of-n" and config.proposer == AGENT:
        raise UsageError("an agent from outside sees what it has handed in", hint="best-of-n needs another proposer")
    if config.strategy == "best-of-n" and config.candidates_per_round > 1:
        raise UsageError(
            "the candidates of one round are written together, and those of best-of-n independently",
            hint="leave out --candidates-per-round; n is --iterations",
        )
    if config.proposer == "chat":
        from metaharness.proposers.chat import check_chat  # noqa: PLC0415 - as below

        check_chat(config)
    if config.proposer == "tool-loop":
        from metaharness.proposers.tool_loop import check_tool_loop  # noqa: PLC0415 - loaded for this kind alone

        check_tool_loop(config)
    if config.proposer == "agent-sdk":
        from metaharness.proposers.agent_sdk import check_agent_sdk  # noqa: PLC0415 - as above

        check_agent_sdk(config)
    if config.proposer == "command":
        from metaharness.proposers.command import check_command  # noqa: PLC0415 - as above

        check_command(config)


def open_proposer(run: Run, *, serve: Serve | None = None, converse: Converse | None = None) -> Proposer:
    """The proposer that a run is configured with.

    Args:
        run: Open for recording.
        serve: For proposers whose agent speaks MCP within this process.
        converse: For those whose agent does in a process of its own.

    Raises:
        UsageError: As `check_proposer`.
    """
    check_proposer(run.config)
    if run.config.proposer == "chat":
        from metaharness.proposers.chat import ChatProposer  # noqa: PLC0415 - as below

        return ChatProposer(run)
    if run.config.proposer == "tool-loop":
        from metaharness.proposers.tool_loop import ToolLoopProposer  # noqa: PLC0415 - as above

        return ToolLoopProposer(run)
    if run.config.proposer == "agent-sdk":
        from metaharness.proposers.agent_sdk import AgentSdkProposer  # noqa: PLC0415 - jails are not needed elsewhere

        return AgentSdkProposer(run, serve)
    if run.config.proposer == "command":
        from metaharness.proposers.command import CommandProposer  # noqa: PLC0415 - jails are not needed elsewhere

        return CommandProposer(run, converse)
    if run.config.proposer == AGENT:
        return ScriptedProposer(())  # is never asked: a run that waits for an agent begins no round by itself
    return ScriptedProposer()
