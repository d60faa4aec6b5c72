"""Removing a folder that a program of somebody else has written to."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def remove_whole(path: Path) -> None:
    """Remove a folder with all in it, also what its writer has taken the rights from; no link is followed.

    What cannot be removed is left, without an error: whoever needs the place empty makes it anew, which then fails.
    """
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
        return
    with suppress(OSError):
        path.chmod(0o700)
    for above, folders, _ in os.walk(path):
        for name in folders:
            inside = Path(above, name)
            if not inside.is_symlink():
                with suppress(OSError):
                    inside.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
