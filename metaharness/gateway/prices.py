"""What a call costs. A model that is not known here has an unknown cost, which is never taken for another's.

A price that a person told comes first, then the list of the package `genai-prices`, as it is installed: nothing is
fetched. Not guarded: a price that has changed since that list was made, and an agreement of one's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

from metaharness.errors import UsageError
from metaharness.gateway.price_list import PACKAGE, Listed, find, version
from metaharness.gateway.providers import IN_PROCESS, address
from metaharness.gateway.providers.remote import install_hint
from metaharness.messages import ModelSpec, Usage

FREE_PROVIDERS: frozenset[str] = frozenset(IN_PROCESS)
"""Answer inside this process and cost nothing."""


class PriceTable:
    """Prices in dollars per million tokens.

    A price that was told has two numbers, so tokens read from or written to the provider's cache cost what other input
    does: for a model with cheaper cache reads that is an upper bound. A listed price knows them apart.
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

    def price(self, spec: ModelSpec, input_tokens: int = 0) -> tuple[float, float] | None:
        """Dollars per million input and output tokens at most; None when unknown.

        Args:
            spec: The model.
            input_tokens: The length of the prompt: some models cost more beyond a length.
        """
        if (told := self._plain(spec)) is not None:
            return told
        listed = _listed(spec)
        return None if listed is None else listed.dearest(input_tokens)

    def cost(self, spec: ModelSpec, usage: Usage) -> float | None:
        """Dollars for one call; None when the price is unknown."""
        if (told := self._plain(spec)) is not None:
            return (usage.input_tokens * told[0] + usage.output_tokens * told[1]) / 1_000_000
        listed = _listed(spec)
        return None if listed is None else listed.cost(usage)

    def advice(self, spec: ModelSpec) -> str:
        """What to do where the price of a model is unknown."""
        told = f"tell it: --price {spec.id}=INPUT,OUTPUT in dollars per million tokens"
        if version() is not None:
            return told
        return f"{told}; or install the list of prices: {install_hint(PACKAGE, extra='prices')}"

    def _plain(self, spec: ModelSpec) -> tuple[float, float] | None:
        return (0.0, 0.0) if spec.provider in FREE_PROVIDERS else self._told.get(spec.id)


def _listed(spec: ModelSpec) -> Listed | None:
    """The model in the list of prices; None where it is not in it, or the list is not installed."""
    return _find(spec.provider, spec.name, address(spec))


@cache
def _find(provider: str, name: str, url: str | None) -> Listed | None:
    return find(provider, name, url)
