"""What a call costs. A model that is not known here has an unknown cost, which is never taken for another's."""

from __future__ import annotations

import math
from collections.abc import Mapping

from metaharness.errors import UsageError
from metaharness.messages import ModelSpec, Usage

FREE_PROVIDERS: frozenset[str] = frozenset({"embedded", "scripted"})
"""Answer inside this process and cost nothing."""


class PriceTable:
    """Prices in dollars per million tokens.

    A price has two numbers, so tokens read from or written to the provider's cache cost what other input does:
    for a model with cheaper cache reads the cost is an upper bound.
    """

    def __init__(self, told: Mapping[str, tuple[float, float]] | None = None) -> None:
        """Take the prices a person told.

        Args:
            told: Dollars per million input and output tokens, by `provider:name`.

        Raises:
            UsageError: A price is negative or not a number.
        """
        self._told = dict(told or {})
        for model, price in self._told.items():
            if not all(math.isfinite(dollars) and dollars >= 0 for dollars in price):
                raise UsageError(
                    f"the price of {model} is {price}, not two amounts of money",
                    hint="write dollars per million input and output tokens, such as 3.0 and 15.0",
                )

    def price(self, spec: ModelSpec) -> tuple[float, float] | None:
        """Dollars per million input and output tokens; None when unknown."""
        if spec.provider in FREE_PROVIDERS:
            return (0.0, 0.0)
        return self._told.get(spec.id)

    def cost(self, spec: ModelSpec, usage: Usage) -> float | None:
        """Dollars for one call; None when the price is unknown."""
        price = self.price(spec)
        if price is None:
            return None
        return (usage.input_tokens * price[0] + usage.output_tokens * price[1]) / 1_000_000
