"""What several runs of one process have in common."""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from metaharness.gateway.budget import Ledger


@dataclass(frozen=True)
class Beside:
    """A limit on model calls in the air, and a budget, over several runs."""

    limiter: anyio.CapacityLimiter | None = None
    """Beside the concurrency of each; None: there is none. What a proposer's own client asks is not among them."""
    ledger: Ledger | None = None
    """Has to allow every model call, and counts it; None: there is none."""


ALONE = Beside()
