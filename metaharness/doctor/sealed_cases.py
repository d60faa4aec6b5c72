"""Test cases that were sealed: whether others can read them, and whether they are still what they were."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from metaharness.doctor.findings import Finding
from metaharness.marks import content_hash
from metaharness.seals import CASES, sealed_root

AREA = "sealed cases"


def sealed_cases() -> Iterator[Finding]:
    """Those of this user. No case is looked at: hashes are compared."""
    root = sealed_root()
    files = sorted(root.glob(f"*/{CASES}"))
    if not files:
        yield Finding(AREA, "place", "ok", f"none yet; `metaharness seal` puts them into {root}")
        return
    open_to_others = [path for path in (root, *files) if _open_to_others(path)]
    if open_to_others:
        found = f"others can read {open_to_others[0]}"
        yield Finding(AREA, "place", "warning", found, f"take their rights away: chmod -R go= {root}")
    else:
        yield Finding(AREA, "place", "ok", f"of {len(files)} test splits, in {root}, readable by you alone")
    for path in files:
        if content_hash(path) != path.parent.name:
            advice = "restore it from a copy: metaharness seal DOMAIN --import FILE"
            yield Finding(AREA, path.parent.name[:12], "problem", f"{path} is not what was sealed", advice)


def _open_to_others(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
