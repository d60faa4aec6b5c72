"""Where candidate code runs: a worker process behind one framed pipe."""

from __future__ import annotations

from metaharness.errors import UsageError
from metaharness.sandbox.process import ProcessSandbox
from metaharness.sandbox.protocol import Sandbox

SANDBOXES = {"process": ProcessSandbox}


def open_sandbox(name: str) -> Sandbox:
    """The sandbox of that name. Raises UsageError when there is none."""
    if name not in SANDBOXES:
        raise UsageError(f"no sandbox {name!r}", hint=f"valid: {', '.join(SANDBOXES)}")
    return SANDBOXES[name]()
