"""The shared cache of model answers: where it is, and whether it can be used. It is read, never changed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from metaharness.doctor.findings import Finding
from metaharness.errors import CacheError
from metaharness.gateway.shared import VARIABLE, default_path, look

AREA = "shared cache"


def shared_cache() -> Iterator[Finding]:
    """The one that commands use without `--no-cache`."""
    path = default_path()
    try:
        size = look(path)
    except CacheError as error:
        yield Finding(AREA, "answers", "warning", f"{error.message}; every call goes to the model", error.hint)
        return
    if size is not None and not os.access(path, os.W_OK):
        advice = f"check who owns it, or name another file in {VARIABLE}"
        yield Finding(AREA, "answers", "warning", f"{path} cannot be written: new answers are not kept", advice)
    elif size is None:
        yield Finding(AREA, "answers", "ok", f"none yet; they will be in {path}")
    else:
        held = f"{size.entries:,} answers, {size.bytes / (1 << 20):,.1f} of at most {size.limit / (1 << 20):,.0f} MiB"
        yield Finding(AREA, "answers", "ok", f"{held}, in {path}")
