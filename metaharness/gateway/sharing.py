"""How the calls of one gateway use the shared cache: who asks first asks for all that ask the same.

So whether two cases ask the same at once or one after the other, both get one answer, and it is paid for once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from metaharness.gateway.shared import SharedCache, Stored
from metaharness.records import Call

Ask = Callable[[], Awaitable[tuple[Call, bool]]]
"""Asks the model, and journals. True: the answer may be shared."""


class Flight:
    """Something in the air that others wait for."""

    __slots__ = ("_ended",)

    def __init__(self) -> None:
        self._ended: anyio.Event | None = None

    async def wait(self) -> None:
        """Wait until it has ended."""
        if self._ended is None:
            self._ended = anyio.Event()
        await self._ended.wait()

    def end(self) -> None:
        """Let those go on that wait."""
        if self._ended is not None:
            self._ended.set()


class _SharedFlight(Flight):
    """A question in the air. With neither an answer nor a failure at its end, who asked gave up."""

    __slots__ = ("failed", "stored")

    def __init__(self) -> None:
        super().__init__()
        self.stored: Stored | None = None
        self.failed = False


class Sharing:
    """The shared cache, and what is on its way into it."""

    def __init__(self, cache: SharedCache) -> None:
        self._cache = cache
        self._flights: dict[str, _SharedFlight] = {}

    async def obtain(self, key: str, ask: Ask) -> Call | Stored:
        """The answer of another call with this key, or the call that asked the model.

        Where the one in the air fails, each that waited for it asks by itself, as it would have done alone.
        """
        while True:
            stored = self._cache.lookup(key)
            if stored is not None:
                return stored
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(key, ask)
            await flight.wait()
            if flight.stored is not None:
                return flight.stored
            if flight.failed:
                return (await ask())[0]

    def close(self) -> None:
        """Write what is left."""
        self._cache.close()

    async def _lead(self, key: str, ask: Ask) -> Call:
        flight = self._flights[key] = _SharedFlight()
        try:
            call, shareable = await ask()
            if shareable and call.response is not None:
                flight.stored = Stored(call.response, call.latency_ms)
                self._cache.keep(key, flight.stored)
            else:
                flight.failed = True
            return call
        finally:
            del self._flights[key]
            flight.end()
