"""What one session of a proposer may still spend, and room in the run's budget while its model answers.

For an agent program that makes its calls by itself: between two of them nothing is held, so that an evaluation that the
agent waits for is not kept waiting by the agent.

What this does not guard: a call that costs more than is left has been made when it is known, and the length of its
input is not known before.
"""

from __future__ import annotations

from metaharness.errors import ModelFailure
from metaharness.gateway.budget import Reservation
from metaharness.gateway.prices import PriceTable
from metaharness.messages import Message, ModelRequest, ModelSpec, Usage
from metaharness.run import Run
from metaharness.run.sessions import ROLE


class Purse:
    """The dollars of one session."""

    def __init__(self, run: Run, spec: ModelSpec) -> None:
        self._ledger = run.ledger
        self._spec = spec
        self._prices = PriceTable(run.config.prices)
        self._limit = run.config.proposing.usd
        self._answer = ModelRequest(
            messages=[Message(role="user", content="")], max_tokens=run.config.proposing.max_tokens
        )
        self._spent = 0.0
        self._held: Reservation | None = None

    @property
    def empty(self) -> bool:
        """Whether the session has reached its own limit."""
        return self._limit is not None and self._spent >= self._limit

    def cost(self, usage: Usage) -> float | None:
        """Dollars for a call; None where the price is unknown."""
        return self._prices.cost(self._spec, usage)

    def spend(self, usd: float | None) -> None:
        """Count what a call has cost, and hold nothing any more."""
        self.release()
        self._spent += usd or 0.0

    def require(self) -> None:
        """Hold room for one answer, unless calls in flight stand in the way.

        Raises:
            ModelFailure: The budget does not allow one; of kind `budget`.
        """
        self.release()
        self._held = self._ledger.try_reserve(self._answer, self._spec, role=ROLE)

    def allows(self) -> bool:
        """The same; False: the budget does not allow another answer."""
        try:
            self.require()
        except ModelFailure:
            return False
        return True

    def release(self) -> None:
        """Hold nothing."""
        if self._held is not None:
            self._ledger.release(self._held)
            self._held = None
