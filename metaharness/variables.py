"""Environment variables as this process reads them: its own, and beneath them those of a `.env` in its folder.

What the file says is kept here and never put into the environment, so that no process that is started gets it: no
worker, no agent program, no git. What this does not guard: code that runs in this process, such as a domain's.
"""

from __future__ import annotations

import os
from pathlib import Path

from metaharness.errors import UsageError

FILE = ".env"
_of_file: dict[str, str] = {}


def read_file(folder: Path) -> None:
    """Read the `.env` of a folder in place of what was read before; without one there is nothing beneath.

    Raises:
        UsageError: There is one that cannot be read.
    """
    _of_file.clear()
    path = folder / FILE
    if not path.is_file():
        return
    from dotenv import dotenv_values  # noqa: PLC0415 - few have such a file, and every command begins here

    try:
        found = dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint="it holds lines such as NAME=VALUE, in UTF-8") from error
    _of_file.update({name: value for name, value in found.items() if value is not None})


def any_of_file() -> bool:
    """Whether the file says anything."""
    return bool(_of_file)


def get(name: str) -> str | None:
    """The value of a variable: that of the environment, also an empty one, else that of the file, else None."""
    return os.environ.get(name, _of_file.get(name))


def origin(name: str) -> str | None:
    """Where a variable is set: in `the environment` or in `.env`; None where it is not."""
    if name in os.environ:
        return "the environment"
    return FILE if name in _of_file else None
