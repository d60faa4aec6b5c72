"""Python's collector of cycles, held back while cases are open."""

from __future__ import annotations

import gc
import threading

CONTAINERS = 10_000
"""So many new ones come before the collector looks. Each open case is some dozens that stay, in no cycle: at Python's
own 700, looking through those of thousands of cases again and again was a fourth of what the engine computed."""


class RareCollections:
    """While at least one is entered, in whichever thread, the collector looks less often.

    It is left as it is where it is off, or looks still less often.
    """

    _guard = threading.Lock()
    _entered = 0
    _before: tuple[int, int, int] | None = None

    def __enter__(self) -> None:
        """Hold the collector back."""
        kind = RareCollections
        with kind._guard:
            kind._entered += 1
            before = gc.get_threshold()
            if kind._entered == 1 and 0 < before[0] < CONTAINERS:
                kind._before = before
                gc.set_threshold(CONTAINERS, *before[1:])

    def __exit__(self, *_: object) -> None:
        """Have it as it was before, with the last that is left."""
        kind = RareCollections
        with kind._guard:
            kind._entered -= 1
            if kind._entered == 0 and kind._before is not None:
                gc.set_threshold(*kind._before)
                kind._before = None
