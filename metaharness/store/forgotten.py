"""`.memory.json` in the folder of all runs: lessons that are not offered to later runs any more.

Lessons themselves are kept nowhere: they are read from the runs. One is known by its run and iteration, and by the hash
of the candidate, so that another run of the same name is not silenced with the one that was.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from filelock import FileLock

from metaharness.errors import CorruptRecordError
from metaharness.store.files import read_optional, store_errors, write_atomic

FORGOTTEN = ".memory.json"


def read_forgotten(root: Path) -> dict[str, str]:
    """What was forgotten: `RUN/NNN` to the hash of the candidate.

    Raises:
        CorruptRecordError: The file is damaged.
    """
    file = root / FORGOTTEN
    data = read_optional(file)
    if data is None:
        return {}
    try:
        found = json.loads(data)["forgotten"]
        return {str(key): str(value) for key, value in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        instead = "delete it: what it says to forget is offered again then"
        raise CorruptRecordError(file, None, f"not a list of lessons: {error!r}", instead=instead) from error


def change_forgotten(root: Path, *, add: Mapping[str, str] | None = None, remove: Collection[str] = ()) -> None:
    """Forget lessons, or know them again; one process at a time.

    Args:
        root: The folder of all runs.
        add: As `read_forgotten` gives them.
        remove: `RUN/NNN` of those that are known again.
    """
    with store_errors("lock the memory of", root):
        lock = FileLock(root / ".memory.lock", fallback_to_soft=False)
        lock.acquire()
    try:
        kept = {key: value for key, value in (read_forgotten(root) | dict(add or {})).items() if key not in remove}
        page = json.dumps({"forgotten": dict(sorted(kept.items()))}, indent=2)
        write_atomic(root / FORGOTTEN, f"{page}\n".encode())
    finally:
        lock.release()
