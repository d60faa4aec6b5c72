"""Which bound on calls keeps a run from going on: its own, that of a role, or that of several runs together."""

from __future__ import annotations

from metaharness.gateway.budget import BOUND_NAMES, CALL_BOUNDS, Bound, Ledger
from metaharness.history import History
from metaharness.records import Role

PROPOSER: Role = "proposer"


def spent_call_bound(ledger: Ledger, history: History) -> Bound | None:
    """A bound of a ledger that is used up, or whose rest is too small; None when all allow another candidate.

    A rest of tokens or dollars counts as too small once it has refused a call, and is no more than candidates have
    cost on average or has left two candidates in a row incomplete. A single request that is far too large so does
    not end the search for all others.
    """
    for bound in CALL_BOUNDS:
        if ledger.remaining(bound) == 0:
            return bound
    refused = ledger.exhausted
    if refused is None:
        return None
    states = [one.state for one in history if one.score is not None and not one.is_inherited]
    left = ledger.remaining(refused) or 0
    small = left * (states.count("complete") + 1) <= getattr(ledger.limits, refused)
    return refused if small or states[-2:] == ["incomplete"] * 2 else None


def spent_of_role(ledger: Ledger, history: History, *, evaluating: bool = False) -> tuple[Role, Bound] | None:
    """The role whose own bound keeps the search from going on, and that bound; None when none does.

    Args:
        ledger: Of the run.
        history: Of the run.
        evaluating: Whether only what evaluations ask counts, and not the proposer.
    """
    for role, own in ledger.roles.items():
        if role == PROPOSER:
            spent = next((bound for bound in CALL_BOUNDS if own.remaining(bound) == 0), own.exhausted)
            bound = None if evaluating else spent  # a session that was refused a call once is refused the next one too
        else:
            bound = spent_call_bound(own, history)
        if bound is not None:
            return role, bound
    return None


def why_spent_beside(ledger: Ledger, history: History, *, evaluating: bool = False) -> str | None:
    """Why a bound beside the run's own keeps the search from going on; None when none does.

    Args:
        ledger: Of the run.
        history: Of the run.
        evaluating: As in `spent_of_role`.
    """
    found = spent_of_role(ledger, history, evaluating=evaluating)
    if found is not None:
        return f"the budget of {BOUND_NAMES[found[1]]} of the {found[0]}{ledger.of} is spent"
    return None if ledger.within is None else why_spent_together(ledger.within, history, evaluating=evaluating)


def why_spent_together(together: Ledger, history: History, *, evaluating: bool = False) -> str | None:
    """Why what several runs may spend keeps the search of one of them from going on; None when it does not.

    Args:
        together: Over all of them.
        history: Of the one.
        evaluating: As in `spent_of_role`.
    """
    bound = spent_call_bound(together, history)
    if bound is not None:
        return f"the budget of {BOUND_NAMES[bound]}{together.of} is spent"
    return why_spent_beside(together, history, evaluating=evaluating)
