"""Where each bound of a run stands: spent, unspent, kept for `finish`; and the warnings on the way there."""

from __future__ import annotations

from metaharness.gateway.budget import BOUND_NAMES, BOUNDS, Bound, Ledger
from metaharness.messages import Record
from metaharness.run.recorder import Tell
from metaharness.store import RunStore

WARNED_AT = (0.5, 0.8)
"""Shares of a bound at which a warning is recorded, once each."""


class BoundState(Record):
    """One bound of the budget at one moment. Dollars for `usd`, else a count."""

    bound: Bound
    limit: float
    spent: float
    """May be above the limit: tokens and dollars exceed it by what calls in flight cost beyond their estimates."""
    unspent: float
    kept_for_finish: float
    """The part of `unspent` that a search does not use."""
    finish_needs: float
    """What `finish` will need; more than what is kept where there is not enough. An estimate but for case evaluations;
    0 while nothing is known, or where there is no test split."""


def bound_states(ledger: Ledger) -> list[BoundState]:
    """Every bound that has a limit."""
    found = []
    for bound in BOUNDS:
        limit = getattr(ledger.limits, bound)
        if limit is not None:
            spent = ledger.used(bound)
            unspent = max(0, limit - spent)
            needs = ledger.kept_back(bound)
            state = {"limit": limit, "spent": spent, "unspent": unspent, "finish_needs": needs}
            found.append(BoundState(bound=bound, kept_for_finish=min(unspent, needs), **state))
    return found


def state_line(state: BoundState) -> str:
    """A bound as a person reads it."""
    spent, limit, unspent = (amount(state.bound, value) for value in (state.spent, state.limit, state.unspent))
    kept, needs = (amount(state.bound, value) for value in (state.kept_for_finish, state.finish_needs))
    said = f", {kept} of it kept for finish" if state.finish_needs else ""
    if state.finish_needs > state.kept_for_finish:
        said = f"; finish needs {needs}"
    return f"budget of {BOUND_NAMES[state.bound]}: {spent} of {limit} spent, {unspent} unspent{said}"


def amount(bound: Bound, value: float) -> str:
    """So much of a bound, without its name."""
    return f"${value:,.4f}" if bound == "usd" else f"{value:,.0f}"


class Warnings:
    """Records that half and four fifths of a bound are spent: once each for a limit, also over several sessions.

    What this does not guard: it is asked after a case, so a case that spends more than the rest is told afterwards.
    """

    def __init__(self, ledger: Ledger, store: RunStore, tell: Tell) -> None:
        self._ledger = ledger
        self._tell = tell
        self._told: set[tuple[str, float, float]] = set()
        for event in store.events("budget_warned"):
            fields = event.model_dump()
            self._told.add((fields["bound"], fields["share"], fields["limit"]))

    def check(self) -> None:
        """Tell what was reached since the last time. A bound of 0 has nothing to warn of."""
        for bound in BOUNDS:
            limit = getattr(self._ledger.limits, bound)
            spent = self._ledger.used(bound) if limit else 0
            for share in WARNED_AT:
                key = (bound, share, limit)
                if limit and spent >= share * limit and key not in self._told:
                    self._told.add(key)
                    self._tell("budget_warned", bound=bound, share=share, spent=spent, limit=limit)
