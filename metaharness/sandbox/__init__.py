"""Where candidate code runs: a worker process behind one framed pipe."""

from __future__ import annotations

from metaharness.sandbox.choosing import open_sandbox
from metaharness.sandbox.pool import WarmPool, warm_size
from metaharness.sandbox.protocol import Sandbox

__all__ = ["Sandbox", "WarmPool", "open_sandbox", "warm_size"]
