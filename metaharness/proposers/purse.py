"""What one session of a proposer may still spend, and room in the run's budget while its model answers.

For an agent program that makes its calls by itself: between two of them nothing is held, so that an evaluation that the
agent waits for is not kept waiting by the agent.

What this does not guard: a call that costs more than is left has been made when it is known.
"""

from __future__ import annotations

from metaharness.errors import ModelFailure
from metaharness.gateway.budget import Bound, Reservation
from metaharness.gateway.prices import PriceTable
from metaharness.messages import Message, ModelRequest, ModelSpec, Usage
from metaharness.run import Run
from metaharness.run.sessions import ROLE

PER_MILLION = 1_000_000


class Purse:
    """The dollars of one session."""

    def __init__(self, run: Run, spec: ModelSpec) -> None:
        self._ledger = run.ledger
        self._spec = spec
        self._prices = PriceTable(run.config.prices)
        self._limit = run.config.proposing.usd
        self._answer = run.config.proposing.max_tokens
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

    def hold(self) -> bool:
        """Hold room for what the session may still cost, as far as there is any; False: the budget is used up."""
        self.release()
        try:
            self._held = self._ledger.try_reserve(self._worth(), self._spec, role=ROLE)
        except ModelFailure:
            return False
        return True

    def require(self) -> None:
        """Hold room for a session that begins.

        Raises:
            ModelFailure: Nothing is left of the run's budget; of kind `budget`.
        """
        self._held = self._ledger.try_reserve(self._worth(), self._spec, role=ROLE)

    def release(self) -> None:
        """Hold nothing."""
        if self._held is not None:
            self._ledger.release(self._held)
            self._held = None

    def _worth(self) -> ModelRequest:
        """A request whose answer is as dear as the session may still be: the ledger takes it for an estimate."""
        price = self._prices.price(self._spec)
        dollars = None if price is None or price[1] == 0 else PER_MILLION / price[1]
        tokens: float = self._answer
        if dollars is not None and self._limit is not None:
            tokens = (self._limit - self._spent) * dollars
        if dollars is not None and (usd := self._left("usd")) is not None:
            tokens = min(tokens, usd * dollars - 1)
        if (left := self._left("tokens")) is not None:
            tokens = min(tokens, left)
        return ModelRequest(messages=[Message(role="user", content="")], max_tokens=max(1, int(tokens)))

    def _left(self, bound: Bound) -> float | None:
        limit: float | None = getattr(self._ledger.limits, bound)
        return None if limit is None else limit - self._ledger.kept_back(bound) - self._ledger.used(bound)
