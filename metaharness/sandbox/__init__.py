"""Where candidate code runs: a worker process behind one framed pipe."""

from __future__ import annotations

from metaharness.errors import UsageError
from metaharness.sandbox.pool import WarmPool, warm_size
from metaharness.sandbox.process import ProcessSandbox
from metaharness.sandbox.protocol import Sandbox

__all__ = ["Sandbox", "WarmPool", "open_sandbox", "warm_size"]

SANDBOXES = {"process": ProcessSandbox}


def open_sandbox(name: str) -> Sandbox:
    """The sandbox of that name. Raises UsageError when there is none."""
    if name not in SANDBOXES:
        raise UsageError(f"no sandbox {name!r}", hint=f"valid: {', '.join(SANDBOXES)}")
    return SANDBOXES[name]()
