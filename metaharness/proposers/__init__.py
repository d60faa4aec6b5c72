"""What writes candidates. `agent` writes none here: it is a second caller of `Run`, over MCP or the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from metaharness.configuration import AGENT
from metaharness.errors import UsageError
from metaharness.proposers.scripted import ScriptedProposer
from metaharness.records import Proposal
from metaharness.run import Round

PROPOSERS = ("scripted", AGENT)


class Proposer(Protocol):
    """Writes candidates for the open slots of a round, in their order."""

    def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """At most one proposal per open slot. Nothing at all is a failed round, not an error."""
        ...


def open_proposer(name: str) -> Proposer:
    """The proposer of that name. Raises UsageError when there is none."""
    if name == "scripted":
        return ScriptedProposer()
    if name == AGENT:
        return ScriptedProposer(())  # is never asked: a run that waits for an agent begins no round by itself
    raise UsageError(f"no proposer {name!r}", hint=f"valid: {', '.join(PROPOSERS)}")
