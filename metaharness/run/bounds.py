"""Where each bound of a run stands: spent, unspent, kept for `finish`; and the warnings on the way there."""

from __future__ import annotations

from metaharness.gateway.budget import BOUND_NAMES, BOUNDS, Bound, Ledger
from metaharness.messages import Record
from metaharness.records import Role
from metaharness.run.recorder import Tell
from metaharness.store import RunStore

WARNED_AT = (0.5, 0.8)
"""Shares of a bound at which a warning is recorded, once each."""


class BoundState(Record):
    """One bound of the budget at one moment. Dollars for `usd`, else a count."""

    bound: Bound
    role: Role | None = None
    """Whose bound it is; None: that of the whole run."""
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
    """Every bound that has a limit: those of the run, then those of single roles."""
    return [
        _state(one, role, bound)
        for role, one in _ledgers(ledger)
        for bound in BOUNDS
        if getattr(one.limits, bound, None) is not None
    ]


def _ledgers(ledger: Ledger) -> list[tuple[Role | None, Ledger]]:
    return [(None, ledger), *ledger.roles.items()]


def _state(ledger: Ledger, role: Role | None, bound: Bound) -> BoundState:
    limit = getattr(ledger.limits, bound)
    spent, needs = ledger.used(bound), ledger.kept_back(bound)
    unspent = max(0, limit - spent)
    state = {"limit": limit, "spent": spent, "unspent": unspent, "finish_needs": needs}
    return BoundState(bound=bound, role=role, kept_for_finish=min(unspent, needs), **state)


def bound_name(bound: Bound, role: Role | None = None) -> str:
    """What a person calls it: `dollars`, or `dollars of the proposer`."""
    return BOUND_NAMES[bound] + ("" if role is None else f" of the {role}")


def state_line(state: BoundState) -> str:
    """A bound as a person reads it."""
    spent, limit, unspent = (amount(state.bound, value) for value in (state.spent, state.limit, state.unspent))
    kept, needs = (amount(state.bound, value) for value in (state.kept_for_finish, state.finish_needs))
    said = f", {kept} of it kept for finish" if state.finish_needs else ""
    if state.finish_needs > state.kept_for_finish:
        said = f"; finish needs {needs}"
    return f"budget of {bound_name(state.bound, state.role)}: {spent} of {limit} spent, {unspent} unspent{said}"


def amount(bound: Bound, value: float) -> str:
    """So much of a bound, without its name."""
    return f"${value:,.4f}" if bound == "usd" else f"{value:,.0f}"


def raising(bound: Bound, role: Role | None = None) -> tuple[str, str]:
    """The option that sets a bound, and a place for its value."""
    if role is not None:
        return "--role-budget", f"{role}:{bound}=N"
    return f"--budget-{'cases' if bound == 'case_evaluations' else bound}", "N"


class Warnings:
    """Records that half and four fifths of a bound are spent: once each for a limit, also over several sessions.

    What this does not guard: it is asked after a case, so a case that spends more than the rest is told afterwards.
    """

    def __init__(self, ledger: Ledger, store: RunStore, tell: Tell) -> None:
        self._ledger = ledger
        self._tell = tell
        self._told: set[tuple[str | None, str, float, float]] = set()
        for event in store.events("budget_warned"):
            fields = event.model_dump()
            self._told.add((fields.get("role"), fields["bound"], fields["share"], fields["limit"]))

    def check(self) -> None:
        """Tell what was reached since the last time. A bound of 0 has nothing to warn of."""
        for role, ledger in _ledgers(self._ledger):
            of_role = {} if role is None else {"role": role}
            for bound in BOUNDS:
                limit = getattr(ledger.limits, bound)
                spent = ledger.used(bound) if limit else 0
                for share in WARNED_AT:
                    key = (role, bound, share, limit)
                    if limit and spent >= share * limit and key not in self._told:
                        self._told.add(key)
                        self._tell("budget_warned", **of_role, bound=bound, share=share, spent=spent, limit=limit)
