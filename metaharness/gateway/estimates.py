"""What a call may cost, as far as it can be told before it is made; and waiting until others have told what they cost.

What this does not guard: an estimate is of the text alone, so a call may cost more than it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import anyio

from metaharness.errors import ConfigurationError
from metaharness.gateway.prices import FREE_PROVIDERS, PriceTable
from metaharness.gateway.text import count_chars, count_images
from metaharness.messages import ModelRequest, ModelSpec

CHARS_PER_TOKEN = 3
"""Low, so that an estimate of English text or code is rather too high than too low."""
TOKENS_PER_IMAGE = 1_600
DEFAULT_MAX_TOKENS = 4_096
"""The answer's length where the request sets none; what the Anthropic provider then asks for."""
LOCAL_OUTPUT_TOKENS = 64
"""The same for models that answer inside this process, in a line or two."""
NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one call may cost at most, as far as it can be told before."""

    tokens: int = 0
    """0 where neither tokens nor dollars are bounded: then nothing is estimated."""
    nano_usd: int = 0
    """Billionths of a dollar, rounded up: whole numbers, so that reservations add up to zero again."""


def estimate_tokens(request: ModelRequest, spec: ModelSpec) -> tuple[int, int]:
    """Tokens that a call may take: of its input, and of its output."""
    defined = [part for part in (request.tools, request.response_format, request.extra) if part]
    chars = count_chars(request) + sum(len(json.dumps(part)) for part in defined)
    default = LOCAL_OUTPUT_TOKENS if spec.provider in FREE_PROVIDERS else DEFAULT_MAX_TOKENS
    input_tokens = -(-chars // CHARS_PER_TOKEN) + TOKENS_PER_IMAGE * count_images(request)
    return input_tokens, request.max_tokens or default


def estimate_nano_usd(
    prices: PriceTable, spec: ModelSpec, input_tokens: int, output_tokens: int, *, limit: float
) -> int:
    """Billionths of a dollar that so many tokens may cost.

    Raises:
        ConfigurationError: The price of the model is unknown; `limit` is the bound that cannot be kept then.
    """
    price = prices.price(spec, input_tokens)
    if price is None:
        raise ConfigurationError(
            f"the budget is {limit:g} dollars and the price of {spec.id} is unknown",
            hint=f"bound tokens instead, or {prices.advice(spec)}",
        )
    return math.ceil((input_tokens * price[0] + output_tokens * price[1]) * 1_000)


class Waiting:
    """Calls that wait for others to be over."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    async def wait(self) -> None:
        """Until `tell` is called."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

    def tell(self) -> None:
        """Wake all that wait."""
        if self._event is not None:
            self._event.set()
            self._event = None
