"""The places in the air: so many calls at once, and whoever waits gets the next free one in turn."""

from __future__ import annotations

from collections import OrderedDict, deque

import anyio
import anyio.lowlevel


class Turns:
    """Hands out places, to the iterations in turn: one that asks for many at once does not keep the others waiting."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._lines: OrderedDict[int | None, deque[anyio.Event]] = OrderedDict()

    async def take(self, iteration: int | None) -> None:
        """Wait for a place. None: a call that belongs to no iteration."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._free > 0:
            self._free -= 1
            return
        given = anyio.Event()
        line = self._lines.setdefault(iteration, deque())
        line.append(given)
        try:
            await given.wait()
        except BaseException:
            if given.is_set():
                self.give_back()
            else:
                line.remove(given)
                if not line:
                    del self._lines[iteration]
            raise

    def give_back(self) -> None:
        """A place is free again: it is the next one's, if somebody waits."""
        if not self._lines:
            self._free += 1
            return
        iteration, line = self._lines.popitem(last=False)
        line.popleft().set()
        if line:
            self._lines[iteration] = line
