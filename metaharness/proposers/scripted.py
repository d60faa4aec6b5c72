"""Replays candidates from a folder, addressed by the proposer's round and slot: a resumed search gets the same ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from metaharness.domain import Domain, candidates_in
from metaharness.errors import UsageError
from metaharness.loading import read_candidate
from metaharness.records import Proposal
from metaharness.run import Round


class ScriptedProposer:
    """Hands in the candidates of the domain's `proposals/` one after another, or those given to it."""

    def __init__(self, proposals: Sequence[Proposal] | None = None) -> None:
        """Take the proposals to replay; None takes those of the domain."""
        self._given = proposals

    async def propose(self, round_: Round) -> AsyncIterator[Proposal]:
        """The proposals whose place is an open slot of this round; none once the script has ended."""
        proposals = self._given if self._given is not None else read_proposals(round_.domain)
        for place in (round_.place + slot for slot in round_.open_slots):
            if place < len(proposals):
                yield proposals[place]


def read_proposals(domain: Domain) -> list[Proposal]:
    """The scripted proposals of a domain, sorted by name.

    Raises:
        UsageError: There are none.
    """
    folder = domain.proposals()
    found = [read_candidate(path) for path in candidates_in(folder)]
    if not found:
        raise UsageError(
            f"{folder} holds no proposals for the scripted proposer",
            hint="put candidates there (NAME.py, or NAME/harness.py with proposal.json), or score the baselines alone "
            "with --iterations 0 and hand candidates in with `metaharness submit`",
        )
    return found
