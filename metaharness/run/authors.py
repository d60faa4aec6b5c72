"""Who wrote the candidates of a run, and what kept the test split from them."""

from __future__ import annotations

from metaharness.history import History
from metaharness.scoring.scoreboard import Iteration

SCRIPT = "a script handed them in: it reads nothing of the run"
OUTSIDE = "handed in from outside: what their author could read beside the tools is not known"
UNKNOWN = "the session that wrote them says nothing"


def sealed_from_authors(history: History) -> tuple[str, ...]:
    """How the test split was kept from whoever wrote the candidates, each way once, in order; empty without any."""
    return tuple(dict.fromkeys(_sealed_by(history, one) for one in history if not one.is_baseline))


def _sealed_by(history: History, one: Iteration) -> str:
    if one.proposal.session:
        session = history.store.sessions.record(one.proposal.session)
        return UNKNOWN if session is None else session.sealed_by or UNKNOWN
    scripted = history.record.config.proposer == "scripted" and not one.proposal.by_hand
    return SCRIPT if scripted else OUTSIDE
