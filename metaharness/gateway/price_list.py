"""The list of prices of the package `genai-prices`: which model in it is meant, and what a call of it costs.

The package finds a model by the beginning of its name too, so that a later model may be taken for an earlier one. Here
a name counts only where the list has it: whole, or with a date or `latest` behind it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import import_module, metadata
from typing import Any

from metaharness.messages import Usage

PACKAGE = "genai-prices"
_DATED = re.compile(r"[-@](?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$")
_OTHER = ("audio", "video", "storage", "search", "hour")
"""Parts of the names of prices that no call through the gateway is charged with."""


def version() -> str | None:
    """The version of the installed list; None when there is none."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None


class Listed:
    """One model of the list."""

    def __init__(self, package: Any, provider: Any, model: Any) -> None:
        self._package = package
        self._provider = provider
        self._model = model

    def cost(self, usage: Usage) -> float | None:
        """Dollars for one call at today's price; None where the counts contradict each other or nothing is priced.

        Tokens read from the provider's cache, and written to it for five minutes or an hour, have prices of their own.
        """
        counts = self._package.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
        )
        try:
            dollars = float(self._model.calc_price(counts, self._provider).total_price)
        except ValueError:
            return None
        return dollars if math.isfinite(dollars) else None

    def dearest(self, input_tokens: int) -> tuple[float, float] | None:
        """Dollars per million input and output tokens at most, for a prompt of this length; None: not priced by token.

        Writing to the provider's cache counts as input, as it costs more than that.
        """
        found: dict[str, list[float]] = {"input": [], "output": []}
        for key, price in vars(self._model.get_prices(datetime.now(UTC))).items():
            if price is not None and key.endswith("_mtok") and not any(part in key for part in _OTHER):
                found["output" if "output" in key else "input"].append(_at(price, input_tokens))
        if not found["input"] or not found["output"]:
            return None
        return max(found["input"]), max(found["output"])


def find(provider: str, name: str, url: str | None) -> Listed | None:
    """The model that a call would reach; None where the list does not have it, or is not installed.

    Args:
        provider: `anthropic` or `openai`: whose wire format is spoken, and who answers where there is no address.
        name: The model as it is asked for.
        url: The address of another endpoint; the list knows the addresses of many providers. None: the provider's own.
    """
    package = _package()
    if package is None:
        return None
    snapshot = package.data_snapshot.get_snapshot()
    try:
        found, model = snapshot.find_provider_model(name, None, provider if url is None else None, url)
    except LookupError:
        return None
    wanted = {name.lower(), _DATED.sub("", name.lower())}
    if not wanted & {_DATED.sub("", one) for one in (model.id.lower(), *_names(model.match))} and not any(
        re.fullmatch(pattern, name.lower()) for pattern in _patterns(model.match)
    ):
        return None
    listed = Listed(package, found, model)
    return None if listed.dearest(0) is None else listed


@cache
def _package() -> Any:
    try:
        return import_module("genai_prices")
    except ModuleNotFoundError as error:
        if error.name != "genai_prices":
            raise
        return None


def _clauses(match: Any) -> Iterator[Any]:
    """The alternatives of a rule by which the list finds a model; what must hold together with more is no name."""
    alternatives = getattr(match, "or_", None)
    if alternatives is None:
        yield match
    else:
        for one in alternatives:
            yield from _clauses(one)


def _names(match: Any) -> Iterator[str]:
    for clause in _clauses(match):
        name = getattr(clause, "equals", None) or getattr(clause, "starts_with", None)
        if name is not None:
            yield name.lower()


def _patterns(match: Any) -> Iterator[str]:
    for clause in _clauses(match):
        if (pattern := getattr(clause, "regex", None)) is not None:
            yield pattern


def _at(price: Any, input_tokens: int) -> float:
    """A price per million tokens for a prompt of this length."""
    reached = [tier.price for tier in getattr(price, "tiers", ()) if input_tokens > tier.start]
    return float(reached[-1] if reached else getattr(price, "base", price))
