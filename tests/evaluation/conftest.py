from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def children() -> set[int]:
    """Living or unawaited processes that this one has started."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(status.rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(folder.name))
    return found


@pytest.fixture(autouse=True)
def no_worker_outlives_its_evaluation() -> Iterator[None]:
    """Whatever a test does, no worker may be left when it ends."""
    before = children()
    yield
    assert children() - before == set()
