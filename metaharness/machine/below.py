"""Reading a file below a folder in which somebody else makes and moves links meanwhile.

A path that is looked at first and opened by its name later may lead elsewhere by then. Here it is opened part by part,
and no part may be a link.

Not guarded: a hard link, and what is mounted below the folder.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # to open a pipe would wait for whoever writes into it
MOST_BYTES = 16 << 20
"""Of one file."""


def read_below(folder: Path, part: Path, path: Path) -> bytes:
    """The content of a file; a link that stays in the part is followed.

    Args:
        folder: Whoever makes the links cannot replace it.
        part: What may be read of it, resolved: a file, or a folder with files.
        path: The file.

    Raises:
        OSError: There is none, it lies elsewhere, it is no file, or it has more than MOST_BYTES.
    """
    root, real = folder.resolve(), path.resolve()
    if not (real.is_relative_to(part) and real.is_relative_to(root)):
        raise PermissionError(errno.EPERM, f"it does not lie in {part}", str(path))
    *folders, name = real.relative_to(root).parts or (".",)
    at = os.open(root, _FOLDER)
    try:
        for inside in folders:
            inner = os.open(inside, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        descriptor = os.open(name, _FILE | os.O_NOFOLLOW, dir_fd=at)
    finally:
        os.close(at)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PermissionError(errno.EPERM, "it is no file", str(path))
        if found.st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES:,} bytes", str(path))
        return file.read(MOST_BYTES)
